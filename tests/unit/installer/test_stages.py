"""A target's stages: their order, what is skipped, what is kept, and what is said when one ends them."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from building import commands
from building.events import JsonEvents
from building.stages import Build, BuildError, Stage, folder_sha256, need_space, run_stages
from building.trouble import Cancelled, advice_for

from tests.conditions import wait_until
from tests.unit.installer.conftest import ROOT, Bench

needs_posix = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="starts shells")


def made(name: str) -> Callable[[Build], None]:
    """Give a stage's work: one more letter in a file of its name."""

    def run(build: Build) -> None:
        with (build.work / name).open("a") as file:
            file.write("x")

    return run


def stages_of(build: Build, *names: str) -> list[Stage]:
    source = build.work / "source"
    return [
        Stage(name, name.title(), made(name), 1.0, lambda _b: [source], lambda b, n=name: [b.work / n])  # type: ignore[misc]
        for name in names
    ]


def test_stages_are_skipped_while_their_inputs_are_as_they_were(build: Bench) -> None:
    build.work.mkdir(parents=True)
    (build.work / "source").write_text("one")
    stages = stages_of(build, "first", "second")
    assert run_stages(build, stages) is None
    assert run_stages(build, stages) is None
    assert build.heard.states()[-2:] == ["first skipped", "second skipped"]
    (build.work / "source").write_text("two")
    assert run_stages(build, stages) is None
    assert (build.work / "first").read_text() == (build.work / "second").read_text() == "xx"


def test_a_stage_runs_again_without_its_output_and_so_do_those_after_it(build: Bench) -> None:
    stages = stages_of(build, "first", "second", "third")
    assert run_stages(build, stages) is None
    (build.work / "second").unlink()
    assert run_stages(build, stages) is None
    assert build.heard.states()[-5:] == [
        "first skipped", "second running", "second done", "third running", "third done",
    ]  # fmt: skip


def test_fresh_does_everything_again_and_a_stage_without_inputs_is_always_done(build: Bench) -> None:
    proof = Stage("proof", "Proof", made("proof"), 1.0)
    stages = [*stages_of(build, "first"), proof]
    for fresh in (False, False, True):
        assert run_stages(build, stages, fresh) is None
    assert (build.work / "first").read_text() == "xx"
    assert (build.work / "proof").read_text() == "xxx"


def test_targets_share_the_stages_of_a_part(make_build: Callable[..., Bench]) -> None:
    runs: list[str] = []
    shared = Stage("freeze", "Freeze", lambda build: runs.append(build.target), 1.0, lambda _b: ["same"], part="bundle")
    for target in ("ubuntu", "appimage"):
        assert run_stages(make_build(target), [shared]) is None
    assert runs == ["ubuntu"]


def test_what_is_shared_is_not_made_again_because_something_of_the_target_was(build: Bench) -> None:
    shared = Stage("system", "System", made("system"), 1.0, lambda _b: ["same"], part="systems")
    stages = [*stages_of(build, "first"), shared, *stages_of(build, "last")]
    assert run_stages(build, stages) is None
    (build.work / "first").unlink()
    assert run_stages(build, stages) is None
    assert build.heard.states()[-5:] == [
        "first running", "first done", "system skipped", "last running", "last done",
    ]  # fmt: skip


def test_a_stage_that_fails_is_not_remembered_as_done(build: Bench) -> None:
    def fail(_build: Build) -> None:
        raise BuildError("the tool is broken", "Mend it.")

    first, second = stages_of(build, "first", "second")
    broken = Stage("second", "Second", fail, 1.0, lambda _b: [])
    failure = run_stages(build, [first, broken])
    assert failure is not None
    assert (failure.stage, failure.text, failure.advice) == ("second", "the tool is broken", "Mend it.")
    assert build.heard.states() == ["first running", "first done", "second running", "second failed"]
    assert run_stages(build, [first, second]) is None
    assert build.heard.states()[4:] == ["first skipped", "second running", "second done"]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EROFS, "choose another one with --out")]
)
def test_what_the_system_refuses_is_said_with_what_to_do(build: Bench, number: int, said: str) -> None:
    def fail(_build: Build) -> None:
        raise OSError(number, os.strerror(number), "/somewhere/koc.deb")

    failure = run_stages(build, [Stage("pack", "Pack", fail, 1.0)])
    assert failure is not None
    assert "/somewhere/koc.deb" in failure.text
    assert said in failure.advice


def test_a_cancelled_build_ends_between_stages_and_goes_on_where_it_stopped(build: Bench) -> None:
    def stop(build: Build) -> None:
        assert isinstance(build, Bench)
        build.stop.set()

    first, last = stages_of(build, "first", "last")
    failure = run_stages(build, [first, Stage("stop", "Stop", stop, 1.0), last])
    assert failure is not None
    assert failure.is_cancelled
    assert not (build.work / "last").exists()
    build.stop.clear()
    assert run_stages(build, [first, last]) is None
    assert (build.work / "first").read_text() == "x"


def test_progress_goes_up_to_the_end_and_remembers_how_long_stages_took(build: Bench) -> None:
    def steps(build: Build) -> None:
        for tenth in range(11):
            build._now._told = 0.0  # type: ignore[union-attr]
            build.step(tenth / 10)

    stages = [Stage(name, name, steps, 50.0) for name in ("one", "two")]
    assert run_stages(build, stages) is None
    told = [facts["fraction"] for facts in build.heard.named("progress")]
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert all(facts["remaining_s"] >= 0 for facts in build.heard.named("progress"))
    assert run_stages(build, stages) is None
    first, second = build.heard.named("plan")
    assert [stage["seconds"] for stage in first["stages"]] == [50.0, 50.0]
    assert all(stage["seconds"] < 1 for stage in second["stages"])


def test_an_artefact_appears_whole_with_its_sum_and_is_told_again_when_skipped(build: Bench) -> None:
    def pack(build: Build) -> None:
        with build.artefact("koc.deb") as path:
            path.write_bytes(b"all of it")
            assert not (build.out / "koc.deb").exists()

    stages = [Stage("pack", "Pack", pack, 1.0, lambda _b: ["same"])]
    for _ in range(2):
        assert run_stages(build, stages) is None
    first, second = build.heard.named("result")
    assert first == second
    assert sorted(path.name for path in build.out.iterdir()) == ["koc.deb", "koc.deb.sha256"]
    assert (build.out / "koc.deb.sha256").read_text() == f"{first['sha256']}  koc.deb\n"


def test_nothing_half_made_is_left_of_an_artefact_and_the_old_one_stays(build: Bench) -> None:
    build.out.mkdir(parents=True)
    (build.out / "koc.deb").write_text("the last one")

    def pack(build: Build) -> None:
        with build.artefact("koc.deb") as path:
            path.write_text("half")
            raise BuildError("the power went")

    assert run_stages(build, [Stage("pack", "Pack", pack, 1.0)]) is not None
    assert [path.name for path in build.out.iterdir()] == ["koc.deb"]
    assert (build.out / "koc.deb").read_text() == "the last one"


def test_a_damaged_stamp_counts_for_nothing(build: Bench) -> None:
    stages = stages_of(build, "first")
    assert run_stages(build, stages) is None
    (build.work / "stamps" / "first.json").write_text("{")
    assert run_stages(build, stages) is None
    assert (build.work / "first").read_text() == "xx"


def test_a_folder_sum_counts_names_contents_and_links_but_no_caches(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "__pycache__").mkdir(parents=True)
        (tmp_path / name / "file").write_text("same")
    (tmp_path / "a" / "__pycache__" / "x.pyc").write_text("cache")
    same = folder_sha256(tmp_path / "a")
    assert same == folder_sha256(tmp_path / "b")
    (tmp_path / "b" / "file").rename(tmp_path / "b" / "other")
    assert folder_sha256(tmp_path / "b") != same


def test_too_little_space_is_said_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no space left on device") as trouble:
        need_space(tmp_path, 10**18)
    assert "free some space" in trouble.value.advice


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("dpkg-deb: error: failed to write: No space left on device", "disk is full"),
        ("E: Could not resolve 'somewhere'", "network failed"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", "do not trust the source"),
        ("mount: only root can do that", "run it as root"),
        ("Segmentation fault", "The log has all of it"),
    ],
)
def test_what_programs_say_leads_to_advice(line: str, advice: str) -> None:
    assert advice in advice_for(["before", line, "after"])


# ---- programs -------------------------------------------------------------------------------------------------------


@needs_posix
def test_a_program_is_heard_line_by_line_and_logged(build: Bench) -> None:
    heard: list[str] = []
    kept = build.run(["sh", "-c", "printf 'one\\ntwo\\rthree'; echo four >&2"], heard=heard.append)
    assert heard == kept == ["one", "two", "threefour"]
    assert build.log.read_text().splitlines()[1:] == heard


@needs_posix
def test_a_program_that_fails_is_named_with_what_it_said(build: Bench) -> None:
    with pytest.raises(BuildError, match="failed with code 3: it broke"):
        build.run(["sh", "-c", "echo it broke; exit 3"])
    assert build.run(["sh", "-c", "exit 3"], allowed=(0, 3)) == []


def test_a_program_or_folder_that_is_not_there_is_named(build: Bench, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="no-such-program cannot be started"):
        build.run(["no-such-program"])
    with pytest.raises(BuildError, match="nowhere is not there"):
        build.run(["true"], cwd=tmp_path / "nowhere")


@needs_posix
def test_a_cancelled_program_ends_with_all_that_it_started(build: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "_GRACE_S", 0.1)
    script = "trap '' TERM; (trap '' TERM; echo child $(exec sh -c 'echo $PPID'); sleep 60; sleep 60) & wait"
    children: list[int] = []

    def hear(line: str) -> None:
        children.append(int(line.split()[1]))
        build.stop.set()

    with pytest.raises(Cancelled):
        build.run(["sh", "-c", script], heard=hear)
    wait_until(lambda: not psutil.pid_exists(children[0]) or psutil.Process(children[0]).status() == "zombie")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs what Linux has")
def test_a_killed_build_leaves_no_program_running() -> None:
    code = (
        f"import sys; sys.path.append({str(ROOT / 'installer')!r}); from building import commands; "
        "commands.run(['sh', '-c', 'echo $$; exec sleep 60'], heard=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True) as builder:
        assert builder.stdout is not None
        child = int(builder.stdout.readline())
        builder.kill()
    wait_until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == "zombie")


@needs_posix
def test_a_program_that_takes_too_long_is_ended(build: Bench) -> None:
    with pytest.raises(BuildError, match="did not end within 0 s"):
        build.run(["sleep", "60"], timeout_s=0.05)


@needs_posix
def test_an_endless_line_is_cut_and_logged(build: Bench) -> None:
    kept = build.run(["sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; echo; echo end"])
    assert kept[-1] == "end"
    assert all(len(line) <= 2_000 for line in kept)


@needs_posix
def test_a_child_that_keeps_the_output_open_does_not_hold_the_build(
    build: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "_REST_S", 0.0)
    started = time.monotonic()
    build.run(["sh", "-c", "setsid sleep 30 & echo started"])
    assert time.monotonic() - started < 25


def test_events_are_one_line_of_json_each_whatever_is_in_them() -> None:
    stream = io.StringIO()
    JsonEvents(stream).emit("log", text="two\nlines, ü and \u2028")
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line) == {"event": "log", "text": "two\nlines, ü and \u2028"}
