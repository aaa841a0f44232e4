"""A build of installers as the window runs it: real processes that speak, keep silent, flood, die and will not die."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest
import shiboken6
from PySide6.QtCore import QObject, QTimer
from pytestqt.qtbot import QtBot

from koc_qt.ui.panels import deploy_build_place, deploy_build_run
from koc_qt.ui.panels.deploy_build_book import Book
from koc_qt.ui.panels.deploy_build_events import LONGEST_LINE, Lines, LogLine, Plan, event_of, shown
from koc_qt.ui.panels.deploy_build_place import Place, build_place
from koc_qt.ui.panels.deploy_build_run import LINES_KEPT, BuildRun, Phase
from tests.conditions import wait_until
from tests.gui.build_script import BuildScript


@pytest.fixture
def script(tmp_path: Path) -> BuildScript:
    return BuildScript(tmp_path)


@pytest.fixture
def owner(qtbot: QtBot) -> Iterator[QObject]:
    parent = QObject()
    yield parent
    if shiboken6.isValid(parent):
        shiboken6.delete(parent)


def run_of(script: BuildScript, owner: QObject, *, stop_s: float = 30.0) -> tuple[BuildRun, list[str]]:
    run = BuildRun(owner, find=script.place, stop_s=stop_s)
    lines: list[str] = []
    run.logged.connect(lines.extend)
    return run, lines


def over(run: BuildRun, qtbot: QtBot, timeout_s: float = 20.0) -> Phase:
    qtbot.waitUntil(lambda: not run.is_running, timeout=round(timeout_s * 1000))
    return run.phase


def failure_of(run: BuildRun) -> str:
    assert run.phase is Phase.FAILED
    assert run.book.failure is not None
    return run.book.failure.text


# ---- what goes well -------------------------------------------------------------------------------------------------


def test_it_looks_for_what_is_missing_then_builds(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    run, lines = run_of(script, owner)
    run.start("ubuntu", with_test=True)
    run.start("windows")  # one at a time
    assert over(run, qtbot) is Phase.DONE
    assert script.calls == ["ubuntu --check --test --json", "ubuntu --test --json"]
    assert [(stage.title, stage.state, stage.took_s) for stage in run.book.stages] == [
        ("Stage 1", "skipped", 0.0),
        ("Stage 2", "done", 3.0),
    ]
    assert run.book.results[0].bytes == 123_456_789
    assert run.book.fraction() == 1.0
    assert lines == ["packing"]


def test_what_is_missing_is_said_and_fetched_in_the_same_go(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say("""
have = os.path.exists(os.path.join(folder, "fetched"))
if not have and not fetch:
    need("nsis", "makensis", "On Debian or Ubuntu: sudo apt-get install nsis", True)
    end(3)
if fetch:
    tell("log", text="fetching")
    open(os.path.join(folder, "fetched"), "w").close()
if not check:
    plan(1); stage(1, "running"); stage(1, "done"); result()
end()
""")
    run, lines = run_of(script, owner)
    run.fetch()  # nothing was asked for yet
    assert run.phase is Phase.IDLE
    run.start("windows")
    assert over(run, qtbot) is Phase.MISSING
    assert [need.name for need in run.book.fetchable()] == ["nsis"]
    phases = []
    run.changed.connect(lambda: phases.append(run.phase))
    run.fetch()
    assert over(run, qtbot) is Phase.DONE
    assert script.calls[1:] == ["windows --fetch --json"]
    assert phases[0] is Phase.FETCHING
    assert lines == ["fetching"]


def test_what_cannot_be_fetched_stays_missing(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say("for _ in range(2): need('root', 'the right of root', 'Run it as root')\nend(3)")
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    assert over(run, qtbot) is Phase.MISSING
    run.fetch()
    assert over(run, qtbot) is Phase.MISSING
    assert run.book.fetchable() == []
    assert [each.can_fetch for each in run.book.needs] == [False]  # said twice, shown once


# ---- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("if check: end()\nraise SystemExit(7)", "The build broke off with code 7 and said nothing"),
        ("raise OSError('no module named x')", "The check broke off with code 1. The last it said: OSError: no module"),
        ("if check: end()\nend(1)", "The build failed with code 1 and said nothing"),
        ("if check: end()\nprint('here'); os.kill(os.getpid(), 9)", "was killed from outside (signal 9)"),
        ("if check: end()\nend()", "names no file that it made"),
        ("if check: end()\nresult(); tell('end', ok=True); raise SystemExit(4)", "The build failed with code 4"),
        (
            "if check: end()\ntell('failed', stage='pack', text='The disk is full', advice='Free some'); end(1)",
            "The disk is full",
        ),
    ],
)
def test_a_build_that_comes_to_nothing_says_why(
    script: BuildScript, owner: QObject, qtbot: QtBot, body: str, words: str
) -> None:
    script.say(body)
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    over(run, qtbot)
    assert words in failure_of(run)


def test_a_stage_that_was_at_work_when_it_died_has_failed(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say("if check: end()\nplan(1, 1); stage(1, 'done', 1); stage(2, 'running'); os.kill(os.getpid(), 9)")
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    over(run, qtbot)
    assert [stage.state for stage in run.book.stages] == ["done", "failed"]


def test_a_script_that_is_not_there_is_said(owner: QObject, qtbot: QtBot, tmp_path: Path) -> None:
    run = BuildRun(owner, find=lambda: Place((), tmp_path, "There is no checkout."))
    run.start("ubuntu")
    assert failure_of(run) == "There is no checkout."
    run = BuildRun(owner, find=lambda: Place(("/nowhere/python", "x"), tmp_path))
    run.start("ubuntu")
    assert failure_of(run) == "/nowhere/python could not be started: No such file or directory"
    assert not run.is_running


def test_garbage_is_shown_as_it_is(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say(r"""
if check:
    end()
out = sys.stdout.buffer
out.write(b'\xff\xfe\x00garbage\r\n{"event": "never"}\n{"event": 1}\n[]\n{"event": "log"}\n\n\n')
out.write(b'{"event":"log","text":"a\\u001b[31mred\\tb\\nsecond"}\n')
out.write(b'{"event":"stage","name":"s1","state":"flying"}\n{"event":"progress","fraction":1e999,"remaining_s":-1}\n')
out.write(b'{"event":"result","path":"x","bytes":"many"}\n')
out.flush()
sys.stderr.write("a warning\n")
result()
tell("end", ok=True)
out.write(b"no line break")
""")
    run, lines = run_of(script, owner)
    run.start("ubuntu")
    assert over(run, qtbot) is Phase.DONE
    assert lines[0].endswith("garbage")
    assert lines[1:5] == ['{"event": "never"}', '{"event": 1}', "[]", '{"event": "log"}']
    assert lines[5:7] == ["a [31mred b", "second"]
    assert lines[-2:] == ["a warning", "no line break"]
    assert run.book.fraction() == 0.0
    assert run.book.remaining_s() is None


def test_a_line_without_end_is_cut_and_costs_no_memory() -> None:
    lines = Lines()
    assert list(lines.feed(b"x" * 10)) == []
    for _ in range(50):
        assert list(lines.feed(b"y" * LONGEST_LINE)) == []
        assert len(lines._begun) <= LONGEST_LINE
    assert [len(line) for line in lines.feed(b"z\nnext\nand")] == [2_004, 4]
    assert lines.last() == b"and"
    assert lines.last() == b""
    assert len(shown("q" * 100_000)) == 2_002


def test_an_event_over_several_pieces_is_one() -> None:
    lines = Lines()
    whole = b'{"event":"plan","target":"ubuntu","stages":[{"name":"a","title":"\xc3\xa4","seconds":2}]}\n'
    found = [line for at in range(len(whole)) for line in lines.feed(whole[at : at + 1])]
    event = event_of(found[0])
    assert isinstance(event, Plan)
    assert event.stages[0].title == "ä"
    assert event_of(b"\xff") == LogLine("\ufffd")


class Beat(QObject):
    """Notes the longest time between two turns of the loop."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.longest_s = 0.0
        self._last = perf_counter()
        self._timer = QTimer(self)
        self._timer.timeout.connect(self.note)
        self._timer.start(0)

    def note(self) -> None:
        now = perf_counter()
        self.longest_s, self._last = max(self.longest_s, now - self._last), now


@pytest.mark.parametrize("line", ['{"event":"log","text":"%d of many lines of a log"}', "%d", "{%d"])
def test_a_flood_of_lines_is_read_to_its_end_a_little_at_a_time(
    script: BuildScript, owner: QObject, qtbot: QtBot, line: str
) -> None:
    count = 40_000
    script.say(f"if check: end()\nfor n in range({count}): sys.stdout.write({line!r} % n + '\\n')\nresult(); end()")
    run, _ = run_of(script, owner)
    batches: list[int] = []
    run.logged.connect(lambda lines: batches.append(len(lines)))
    run.start("ubuntu")
    qtbot.waitUntil(lambda: run.phase is Phase.BUILDING)
    begun_s = time.process_time()
    assert over(run, qtbot) is Phase.DONE
    assert sum(batches) == count
    assert max(batches) <= LINES_KEPT
    assert len(batches) > 10
    assert time.process_time() - begun_s < 3.0


# ---- cancelling -----------------------------------------------------------------------------------------------------

WAITING = """
if check:
    end()
def stop(*_):
    tell("log", text="undoing")
    tell("failed", target=target, stage="s1", text="The build was stopped.", advice="Start it again")
    end(130)
signal.signal(signal.SIGINT, stop)
plan(10); stage(1, "running")
wait_for("never")
"""


def test_cancelling_lets_it_end_in_order(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say(WAITING)
    run, lines = run_of(script, owner)
    run.start("ubuntu")
    qtbot.waitUntil(lambda: run.book.running() is not None)
    run.cancel()
    run.cancel()
    assert run.is_stopping
    assert over(run, qtbot) is Phase.CANCELLED
    assert lines == ["undoing"]
    run.cancel()
    assert run.phase is Phase.CANCELLED


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_one_that_will_not_end_is_killed_with_all_its_children(
    script: BuildScript, owner: QObject, qtbot: QtBot
) -> None:
    script.say("""
if check:
    end()
import subprocess
signal.signal(signal.SIGINT, signal.SIG_IGN)
deaf = "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(600)"
children = [subprocess.Popen([sys.executable, "-S", "-c", deaf], start_new_session=apart) for apart in (False, True)]
tell("log", text=" ".join(str(child.pid) for child in children))
wait_for("never")
""")
    run, lines = run_of(script, owner, stop_s=0.05)
    run.start("ubuntu")
    qtbot.waitUntil(lambda: len(lines) == 1)
    run.cancel()
    assert over(run, qtbot) is Phase.CANCELLED
    for pid in map(int, lines[0].split()):
        wait_until(lambda pid=pid: not is_alive(pid), what=f"the end of {pid}")


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that nobody waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_check_can_be_cancelled_too(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say("wait_for('never')")
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    qtbot.waitUntil(lambda: script.calls != [])
    run.cancel()
    assert over(run, qtbot) is Phase.CANCELLED
    assert script.calls == ["ubuntu --check --json"]


def test_one_that_was_done_before_it_heard_is_done(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say(
        "if check: end()\nsignal.signal(signal.SIGINT, lambda *_: None)\nplan(1); wait_for('go'); result(); end()"
    )
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    qtbot.waitUntil(lambda: bool(run.book.stages))
    run.cancel()
    script.allow("go")
    assert over(run, qtbot) is Phase.DONE


def test_it_ends_with_its_owner(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say(WAITING)
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    qtbot.waitUntil(lambda: run.book.running() is not None)
    shiboken6.delete(owner)  # the rails look for the process


@pytest.mark.skipif(sys.platform == "win32", reason="priorities")
def test_it_lets_an_engine_go_first(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say("if check: end()\nwait_for('go'); tell('log', text=str(os.nice(0))); result(); end()")
    run, lines = run_of(script, owner)
    run.start("ubuntu")
    qtbot.waitUntil(lambda: run.phase is Phase.BUILDING)
    script.allow("go")
    assert over(run, qtbot) is Phase.DONE
    assert int(lines[0]) >= min(19, os.nice(0) + 10)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_one_left_behind_that_floods_is_not_read_for_ever(
    script: BuildScript, owner: QObject, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_build_run, "_LATE_OUTPUT_S", 0.1)
    script.say("""
if check:
    end()
result(); tell("end", ok=True)
if os.fork():
    os._exit(0)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
while True:
    os.write(1, b"still here\\n" * 100)
""")
    run, _ = run_of(script, owner)
    run.start("ubuntu")
    assert over(run, qtbot) is Phase.DONE


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_what_it_left_behind_does_not_keep_it_open(script: BuildScript, owner: QObject, qtbot: QtBot) -> None:
    script.say("""
if check:
    end()
plan(1); result(); tell("end", ok=True)
if os.fork():
    os._exit(0)
tell("log", text=str(os.getpid()))
wait_for("done")
""")
    run, lines = run_of(script, owner)
    clock_s = [0.0]
    run._clock_s = lambda: clock_s[0]
    run.start("ubuntu")
    qtbot.waitUntil(lambda: run._ended_s is not None)
    assert run.is_running
    clock_s[0] += 10
    assert over(run, qtbot) is Phase.DONE
    script.allow("done")
    wait_until(lambda: not lines or not is_alive(int(lines[0])), what="the end of the one left behind")


# ---- the book -------------------------------------------------------------------------------------------------------


def told(book: Book, *events: str) -> None:
    for event in events:
        book.take(event_of(event.encode()))


PLAN = '{"event":"plan","target":"u","stages":[{"name":"a","title":"A","seconds":30},{"name":"b","seconds":10}]}'


def test_without_a_word_on_progress_the_plan_says_how_far_it_is() -> None:
    now_s = [100.0]
    book = Book(lambda: now_s[0])
    told(book, PLAN, '{"event":"stage","name":"a","state":"running"}')
    assert book.fraction() == 0.0
    assert book.remaining_s() == 40.0
    now_s[0] += 15
    assert book.fraction() == pytest.approx(15 / 40)
    assert book.remaining_s() == pytest.approx(25)
    assert book.seconds_of(book.stages[0]) == 15.0
    now_s[0] += 600
    assert book.fraction() == pytest.approx(0.95 * 30 / 40)
    told(book, '{"event":"stage","name":"a","state":"done"}')
    assert book.stages[0].took_s == 615.0
    assert book.fraction() == pytest.approx(30 / 40)
    assert book.stages[1].title == "b"
    assert book.seconds_of(book.stages[1]) is None


def test_what_is_said_goes_before_and_never_goes_back() -> None:
    now_s = [0.0]
    book = Book(lambda: now_s[0])
    told(book, PLAN, '{"event":"stage","name":"a","state":"running"}')
    told(book, '{"event":"progress","name":"a","fraction":0.4,"stage_fraction":0.5,"remaining_s":60}')
    assert (book.fraction(), book.stages[0].fraction, book.remaining_s()) == (0.4, 0.5, 60.0)
    now_s[0] += 20
    assert book.remaining_s() == 40.0
    told(book, '{"event":"progress","name":"a","fraction":0.2}')
    assert book.fraction() == 0.4
    now_s[0] += 600
    assert book.remaining_s() == 0.0


def test_what_is_said_is_never_pages_long() -> None:
    book = Book(lambda: 0.0)
    long = "x" * 50_000
    told(book, f'{{"event":"need","text":"{long}","advice":"{long}"}}', f'{{"event":"failed","text":"{long}"}}')
    told(book, f'{{"event":"stage","name":"{long}","state":"running"}}')
    assert book.failure is not None
    said = (book.needs[0].text, book.needs[0].advice, book.failure.text, book.stages[0].title)
    assert [len(text) for text in said] == [602] * 4


def test_nothing_grows_without_end() -> None:
    book = Book(lambda: 0.0)
    for number in range(1_000):
        told(book, f'{{"event":"stage","name":"s{number}","state":"done"}}')
        told(book, f'{{"event":"need","text":"n{number}"}}', f'{{"event":"result","path":"r{number}"}}')
        told(book, f'{{"event":"plan","target":"u","stages":[{{"name":"p{number}"}}]}}')
    assert (len(book.stages), len(book.needs), len(book.results)) == (200, 200, 200)


# ---- where it is built ----------------------------------------------------------------------------------------------


def test_a_checkout_is_where_installers_are_built() -> None:
    place = build_place()
    assert place.problem == ""
    assert place.command == (sys.executable, str(place.folder / "installer" / "build.py"))
    assert (place.folder / "koc_qt").is_dir()


def test_an_installed_copy_says_what_it_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    place = build_place()
    assert "installed copy" in place.problem
    assert place.advice[0] == "python3 installer/build.py ubuntu --test"
    monkeypatch.delattr(sys, "frozen")
    module = tmp_path / "koc_qt" / "ui" / "panels" / "x.py"
    monkeypatch.setattr(deploy_build_place, "__file__", str(module))
    assert "installed copy" in build_place().problem  # in site-packages
    (tmp_path / "pyproject.toml").touch()
    assert f"{tmp_path / 'installer' / 'build.py'} is missing" in build_place().problem.replace(os.sep, "/")
