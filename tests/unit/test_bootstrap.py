"""The two commands of the README: what they install, repair, refuse, and run."""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.conditions import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="fakes system programs with shell scripts")


@pytest.fixture
def bootstrap() -> ModuleType:
    """Load installer/bootstrap.py, which is a script and no package, afresh."""
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "installer" / "bootstrap.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# ---- the lock files -------------------------------------------------------------------------------------------------


def locked(name: str) -> dict[str, str]:
    """Give the requirements of a lock file with their hashes."""
    entries = re.split(r"\n(?=\S)", (ROOT / "installer" / name).read_text(encoding="utf-8").strip())
    return {entry.split(" \\")[0].strip(): entry for entry in entries if not entry.startswith("#")}


def test_every_requirement_is_pinned_and_hashed_and_names_no_index() -> None:
    for name in ("requirements.txt", "requirements-test.txt"):
        entries = locked(name)
        assert len(entries) > 20
        for requirement, entry in entries.items():
            assert re.match(r"[a-z0-9._-]+==[^ ]+", requirement), requirement
            assert "--hash=sha256:" in entry, requirement
            assert "://" not in entry, requirement
            assert not requirement.startswith("-"), requirement


def test_the_test_lock_holds_the_run_lock() -> None:
    run, test = locked("requirements.txt"), locked("requirements-test.txt")
    assert {requirement: test.get(requirement) for requirement in run} == run


def test_the_locks_hold_what_the_project_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for name, wanted in (
        ("requirements.txt", project["dependencies"]),
        ("requirements-test.txt", project["dependencies"] + project["optional-dependencies"]["test"]),
    ):
        names = {re.split(r"[=<>;\[ ]", requirement)[0].replace("_", "-").lower() for requirement in locked(name)}
        missing = {re.split(r"[=<>;\[ ]", each)[0].replace("_", "-").lower() for each in wanted} - names
        assert missing == set(), f"{name} is older than pyproject.toml"


# ---- the command line -----------------------------------------------------------------------------------------------


def test_usage(bootstrap: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert bootstrap.main([]) == 2
    assert bootstrap.main(["install"]) == 2
    assert bootstrap.main(["--help"]) == 0
    assert capsys.readouterr().out.count("bootstrap.py test [arguments of pytest ...]") == 3


def test_an_old_python_is_told_what_is_needed(
    bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    assert bootstrap.main(["run"]) == 1
    assert "K.O.C. needs Python 3.11 or newer" in capsys.readouterr().out


def test_an_old_python_hands_over_to_a_newer_one(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Exception):
        pass

    def execv(program: str, arguments: list[str]) -> None:
        raise Gone(program, arguments)

    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    monkeypatch.setattr(sys, "argv", ["bootstrap.py", "run", "--x"])
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/bin/{name}" if name == "python3.12" else None)
    monkeypatch.setattr(bootstrap.os, "execv", execv)
    with pytest.raises(Gone) as gone:
        bootstrap.need_python()
    assert gone.value.args == ("/bin/python3.12", ["/bin/python3.12", "bootstrap.py", "run", "--x"])


def test_the_script_is_read_by_an_old_python(bootstrap: ModuleType) -> None:
    import ast

    source = (ROOT / "installer" / "bootstrap.py").read_text(encoding="utf-8")
    ast.parse(source, feature_version=(3, 7))


# ---- the system's packages ------------------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Replace PATH by programs that write down how they were called; gives what makes them, and the notes."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "env").symlink_to("/usr/bin/env")
    (folder / "cat").symlink_to("/bin/cat")
    monkeypatch.setenv("PATH", str(folder))
    notes = tmp_path / "notes"
    notes.touch()

    def make(name: str, body: str = "") -> Path:
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {notes}\n{body}\n')
        (folder / name).chmod(0o755)
        return notes

    return make


@needs_posix
def test_root_installs_packages_after_an_update(
    bootstrap: ModuleType, programs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    notes = programs("apt-get", 'case "$*" in *update) exit 100;; esac')
    assert bootstrap.apt_install(["liba", "libb"]) == ""
    options = "-qq -o DPkg::Lock::Timeout=120 -o Acquire::http::Timeout=20 -o Acquire::Retries=1"
    assert notes.read_text().splitlines() == [
        f"apt-get {options} update",
        f"apt-get {options} install -y --no-install-recommends liba libb",
    ]


@needs_posix
def test_others_use_sudo_where_it_asks_for_nothing(
    bootstrap: ModuleType, programs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    programs("apt-get")
    assert bootstrap.apt_install(["liba"]) == "that needs root or sudo"
    notes = programs("sudo", 'shift; exec "$@"')
    programs("true")
    assert bootstrap.apt_install(["liba"]) == ""
    assert "install -y --no-install-recommends liba" in notes.read_text()
    programs("sudo", "exit 1")
    assert bootstrap.apt_install(["liba"]) == "that needs root or sudo"


@needs_posix
@pytest.mark.parametrize(("password", "trouble"), [("right", ""), ("wrong", "that needs root or sudo")])
def test_sudo_asks_for_a_password_once_and_only_a_person(
    password: str,
    trouble: str,
    bootstrap: ModuleType,
    programs: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 1000)
    monkeypatch.delenv("CI", raising=False)
    programs("apt-get")
    ticket = f"{programs('true')}.ticket"
    notes = programs(
        "sudo",
        f'case "$1" in\n'
        f"-v) [ {password} = right ] && echo > {ticket} ;;\n"
        f'*) shift; [ -e {ticket} ] && exec "$@" || exit 1 ;;\n'
        "esac",
    )
    assert bootstrap.apt_install(["liba"]) == "that needs root or sudo", "nobody is there to type it"
    monkeypatch.setattr(bootstrap.sys.stdin, "isatty", lambda: True, raising=False)
    assert bootstrap.apt_install(["liba"]) == trouble
    assert notes.read_text().splitlines().count("sudo -v") == 1
    assert ("install -y --no-install-recommends liba" in notes.read_text()) == (not trouble)
    assert "sudo may ask" in capsys.readouterr().out


@needs_posix
def test_what_apt_says_is_passed_on(
    bootstrap: ModuleType, programs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    assert bootstrap.apt_install(["liba"]) == "this system has no apt-get"
    programs("apt-get", "echo noise; echo 'E: Unable to locate package liba' >&2; exit 100")
    assert bootstrap.apt_install(["liba"]) == "apt-get failed: E: Unable to locate package liba"


@needs_posix
def test_an_apt_that_hangs_is_given_up(
    bootstrap: ModuleType, programs: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.os, "geteuid", lambda: 0)
    monkeypatch.setattr(bootstrap, "APT_TIMEOUT_S", 0.2)
    programs("apt-get", "while :; do :; done")
    assert bootstrap.apt_install(["liba"]) == "apt-get update did not end within 0.2 s"


class System:
    """A machine that lacks libraries, and an apt-get that brings those packages that it has."""

    def __init__(self, missing: set[str], on_sale: set[str], answer: str = "") -> None:
        self.missing, self.on_sale, self.answer = missing, on_sale, answer
        self.asked: list[list[str]] = []

    def missing_libraries(self, libraries: dict[str, str]) -> dict[str, str]:
        return {name: package for name, package in libraries.items() if package in self.missing}

    def venv_package(self) -> str:
        return "python3.11-venv" if "python3.11-venv" in self.missing else ""

    def apt_install(self, packages: list[str]) -> str:
        self.asked.append(packages)
        if self.answer:
            return self.answer
        if not set(packages) <= self.on_sale:
            return "apt-get failed: E: Unable to locate package"
        self.missing -= set(packages)
        return ""


@pytest.fixture
def system(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., System]:
    """Replace what the bootstrap asks of the system."""
    from koc_qt.adapters import qt_libraries

    def make(missing: set[str], on_sale: set[str] = frozenset(), answer: str = "") -> System:
        system = System(set(missing), set(on_sale), answer)
        monkeypatch.setattr(qt_libraries, "missing_libraries", system.missing_libraries)
        monkeypatch.setattr(bootstrap, "venv_package", system.venv_package)
        monkeypatch.setattr(bootstrap, "apt_install", system.apt_install)
        return system

    return make


ALL_MISSING = {"python3.11-venv", "libglib2.0-0", "libegl1"}


def test_all_that_the_system_lacks_is_asked_for_at_once(
    bootstrap: ModuleType, system: Callable[..., System], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = system(ALL_MISSING, ALL_MISSING)
    bootstrap.need_system_packages(making=True)
    assert machine.asked == [["libegl1", "libglib2.0-0", "python3.11-venv"]]
    bootstrap.need_system_packages(making=True)
    bootstrap.need_system_packages(making=False)
    assert len(machine.asked) == 1
    assert capsys.readouterr().out == ""


def test_a_window_library_that_is_not_to_be_had_keeps_nothing_else_away(
    bootstrap: ModuleType, system: Callable[..., System], capsys: pytest.CaptureFixture[str]
) -> None:
    machine = system(ALL_MISSING, ALL_MISSING - {"libegl1"})
    bootstrap.need_system_packages(making=True)
    assert machine.asked == [["libegl1", "libglib2.0-0", "python3.11-venv"], ["libglib2.0-0", "python3.11-venv"]]
    assert capsys.readouterr().out.endswith("On Debian or Ubuntu: sudo apt-get install libegl1\n")


@pytest.mark.parametrize(
    ("making", "said"),
    [
        (
            True,
            "a window will need system libraries that are missing (that needs root or sudo); the engine needs none of "
            "them. On Debian or Ubuntu: sudo apt-get install libegl1\n",
        ),
        (False, "libraries that a window will need are missing (the engine needs none): "),
    ],
)
def test_missing_window_libraries_do_not_stop_the_engine(
    making: bool,
    said: str,
    bootstrap: ModuleType,
    system: Callable[..., System],
    capsys: pytest.CaptureFixture[str],
) -> None:
    machine = system({"libegl1"}, answer="that needs root or sudo")
    bootstrap.need_system_packages(making)
    assert capsys.readouterr().out.startswith("koc bootstrap: " + said)
    assert len(machine.asked) == making


@pytest.mark.parametrize(
    ("making", "lacks", "packages"),
    [
        (True, "Python's ensurepip, libglib-2.0.so.0, libgthread-2.0.so.0", "libglib2.0-0 python3.11-venv"),
        (False, "libglib-2.0.so.0, libgthread-2.0.so.0", "libglib2.0-0"),
    ],
)
def test_what_the_engine_cannot_do_without_is_named_with_the_command(
    making: bool, lacks: str, packages: str, bootstrap: ModuleType, system: Callable[..., System]
) -> None:
    machine = system(ALL_MISSING, answer="that needs root or sudo")
    with pytest.raises(bootstrap.Refused) as refused:
        bootstrap.need_system_packages(making)
    assert str(refused.value) == (
        f"K.O.C. cannot run without {lacks}, missing here (that needs root or sudo). On Debian or Ubuntu: "
        f"'sudo apt-get install {packages}', then start this again."
    )
    assert len(machine.asked) == 1


def test_a_python_without_ensurepip(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    assert bootstrap.venv_package() == ""
    monkeypatch.setattr(
        bootstrap.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else found(name)
    )
    assert bootstrap.venv_package() == f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"


# ---- the environment ------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a small checkout, with locks that need no package, in a folder with an awkward name."""
    root = tmp_path / "it's a höhle"
    (root / "koc_qt").mkdir(parents=True)
    (root / "koc_qt" / "__init__.py").write_text("")
    (root / "koc_qt" / "__main__.py").write_text("import sys\nprint('koc runs', sys.argv[1:], sys.prefix)\n")
    (root / "lock.txt").write_text("# nothing\n")
    monkeypatch.setattr(bootstrap, "ROOT", root)
    monkeypatch.setattr(bootstrap, "LOCKS", {"run": root / "lock.txt", "test": root / "lock.txt"})
    monkeypatch.setattr(bootstrap, "need_system_packages", lambda making: None)
    monkeypatch.delenv("KOC_VENV", raising=False)
    return root


def test_an_environment_is_made_used_again_renewed_and_repaired(
    bootstrap: ModuleType,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    real, commands, first = bootstrap.command, [], tmp_path / "as it was first"

    def command(arguments: list[str], *more: Any) -> None:
        commands.append("venv" if "venv" in arguments else "pip")
        if "venv" not in arguments:
            real(arguments, *more)
        elif first.exists():  # made once; the same again is a copy
            shutil.copytree(first, arguments[-1], symlinks=True, dirs_exist_ok=True)
        else:
            real(arguments, *more)
            shutil.copytree(arguments[-1], first, symlinks=True)

    monkeypatch.setattr(bootstrap, "command", command)
    venv = bootstrap.ready("test")
    assert venv == checkout / ".venv"
    assert commands == ["venv", "pip"]

    koc = subprocess.run(
        [bootstrap.launcher(venv), "a b"], cwd="/", capture_output=True, text=True, check=True, timeout=60 * PATIENCE
    )
    assert koc.stdout == f"koc runs ['a b'] {venv}\n"

    assert bootstrap.ready("test") == bootstrap.ready("run") == venv
    assert commands == ["venv", "pip"], "an environment for tests serves to run as well, and nothing is done twice"

    (checkout / "lock.txt").write_text("# something else\n")
    bootstrap.ready("run")
    assert commands == ["venv", "pip", "pip"], "another lock renews what is there"

    # An installation that is interrupted is not used, and made anew.
    (checkout / "lock.txt").write_text("no-such-package==1.0 --hash=sha256:" + "0" * 64 + "\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(bootstrap.Refused, match="the packages could not be installed"):
        bootstrap.ready("run")
    (venv / "half-written").mkdir()
    (checkout / "lock.txt").write_text("# mended\n")
    commands.clear()
    bootstrap.ready("run")
    assert commands == ["venv", "pip"]
    assert not (venv / "half-written").exists()

    # What was deleted is mended: the launcher, a package, Python itself.
    (project,) = venv.rglob("koc_qt.pth")
    deleted = (bootstrap.launcher(venv), project, bootstrap.in_environment(venv, "python"))
    for lost in deleted:
        lost.rename(tmp_path / lost.name)
        assert not bootstrap.installed(venv, "run")
        (tmp_path / lost.name).rename(lost)
        assert bootstrap.installed(venv, "run")
    for lost in deleted:
        lost.unlink()
    bootstrap.ready("run")
    assert all(lost.exists() for lost in deleted)
    capfd.readouterr()


def test_packages_are_compiled_but_for_what_cannot_be_and_what_is_seldom_wanted(
    bootstrap: ModuleType, tmp_path: Path
) -> None:
    for name, code in (("good", "x = 1\n"), ("bad", "x = = 1\n"), ("ccxt/venue", "x = 1\n"), ("deep/er", "x = 1\n")):
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
    more = tmp_path.with_name(f"{tmp_path.name}-more")
    more.mkdir()
    (more / "other.py").write_text("x = 1\n")
    bootstrap.compile_packages(Path(sys.executable), tmp_path, more)
    assert [path.name.split(".")[0] for path in more.rglob("*.pyc")] == ["other"]
    assert sorted(path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")) == ["er", "good"]
    bootstrap.compile_packages(tmp_path / "no-python", tmp_path)


def test_what_is_whole_is_compiled_while_the_rest_is_installed(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "packages_folder", lambda python: tmp_path)
    monkeypatch.setattr(bootstrap, "MEANWHILE_S", 0.01)
    files = {"whole": ("whole/__init__.py", "whole_too.py"), "half": ("half/__init__.py",)}
    for name, paths in files.items():
        for path in (*paths, f"{name}-1.dist-info/RECORD"):
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text("")
        lines = [*paths, f"{name}-1.dist-info/RECORD", "../../../bin/x", f"__pycache__/{name}.pyc"]
        (tmp_path / f"{name}-1.dist-info" / "RECORD").write_text("".join(f"{line},sha256=x,1\n" for line in lines))
    (tmp_path / "whole-1.dist-info" / "INSTALLER").write_text("pip\n")
    compiling, compiled = bootstrap.Compiling(Path(sys.executable)), tmp_path / "__pycache__"
    waits = f"import pathlib, time\nwhile not pathlib.Path({str(compiled)!r}).exists(): time.sleep(0.01)"
    bootstrap.command([sys.executable, "-c", waits], "it never came", compiling.go_on)
    assert {path.name.split(".")[0] for path in tmp_path.rglob("*.pyc")} == {"__init__", "whole_too"}
    assert not (tmp_path / "half" / "__pycache__").exists()
    (tmp_path / "half-1.dist-info" / "INSTALLER").write_text("pip\n")
    compiling.go_on()
    assert (tmp_path / "half" / "__pycache__").exists()


def test_two_at_once_do_not_get_in_each_others_way(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def install(venv: Path, kind: str, spared: Path) -> None:
        made.append(threading.current_thread().name)
        wait_until(lambda: "waiting for it" in "".join(said), what="the other one to wait")
        for program in (bootstrap.in_environment(venv, "python"), bootstrap.launcher(venv)):
            program.parent.mkdir(parents=True, exist_ok=True)
            program.touch()
        stamp = json.dumps({"run": bootstrap.fingerprint("run"), "folder": str(venv), "packages": []})
        bootstrap.write_whole(bootstrap.stamp_file(venv), stamp.encode())

    said: list[str] = []
    monkeypatch.setattr(bootstrap, "say", said.append)
    monkeypatch.setattr(bootstrap, "install", install)
    both = [threading.Thread(target=bootstrap.ready, args=["run"], name=name) for name in ("one", "two")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60 * PATIENCE)
    assert len(made) == 1, "the second one finds all done"
    assert said == [f"another process is making {checkout / '.venv'}: waiting for it"]


def test_one_that_never_ends_is_not_waited_for_without_end(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "INSTALL_TIMEOUT_S", 0.1)
    monkeypatch.setattr(bootstrap, "locked", lambda descriptor: False)
    assert bootstrap.main(["venv"]) == 1
    assert "another process has been making" in capsys.readouterr().out


@needs_posix
def test_a_locale_that_cannot_spell_the_folder_is_no_obstacle(checkout: Path) -> None:
    """Run the script itself, twice, in plain ASCII: once to make the environment, once to use it."""
    (checkout / "installer").mkdir()
    (checkout / "installer" / "bootstrap.py").write_bytes((ROOT / "installer" / "bootstrap.py").read_bytes())
    (checkout / "installer" / "requirements.txt").write_text("# nothing\n")
    (checkout / "koc_qt" / "adapters").mkdir()
    for name in ("__init__.py", "qt_libraries.py"):
        (checkout / "koc_qt" / "adapters" / name).write_bytes((ROOT / "koc_qt" / "adapters" / name).read_bytes())
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for command in ([sys.executable, "installer/bootstrap.py", "run", "x"], [".venv/bin/koc", "x"]):
        done = subprocess.run(
            command, cwd=checkout, env=os.environ | ascii_only, capture_output=True, timeout=120 * PATIENCE, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        assert done.stdout.endswith(f"koc runs ['x'] {checkout / '.venv'}\n".encode())


def test_a_folder_of_somebody_else_is_left_alone(
    bootstrap: ModuleType,
    checkout: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").write_text("")
    monkeypatch.setenv("KOC_VENV", str(theirs))
    assert bootstrap.main(["venv"]) == 1
    assert "holds something that K.O.C. did not make" in capsys.readouterr().out
    assert [path.name for path in theirs.iterdir()] == ["pyvenv.cfg"]


def test_a_place_that_cannot_be_written_is_a_sentence(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KOC_VENV", str(checkout / "lock.txt" / "x"))
    assert bootstrap.main(["venv"]) == 1
    assert "cannot be written" in capsys.readouterr().out


def test_ctrl_c(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(kind: str) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(bootstrap, "ready", interrupted)
    assert bootstrap.main(["venv"]) == 130
    assert capsys.readouterr().out == "koc bootstrap: stopped.\n"


# ---- the checks -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checks(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Load installer/checks.py as the bootstrap does."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "installer"), *sys.path])
    return importlib.import_module("checks")


def test_all_checks_are_run_and_summed_up(
    bootstrap: ModuleType, checks: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bootstrap, "ready", lambda kind: Path("unused"))
    for codes, verdict in (((0, 0), "all 2 checks passed"), ((3, 0), "1 of 2 checks failed")):
        planned = [
            checks.Check(f"check {n}", [sys.executable, "-c", f"print({n} * 'word'); raise SystemExit({code})"])
            for n, code in enumerate(codes)
        ]
        monkeypatch.setattr(checks, "checks", lambda python, cores, qt, planned=planned: planned)
        assert bootstrap.test([]) == (1 if any(codes) else 0)
        lines = capfd.readouterr().out.splitlines()
        assert lines[lines.index("---- check 1") + 1] == "word"
        assert sorted(re.sub(r"\(\d+ s\)", "", line) for line in lines[-3:-1]) == sorted(
            f"koc bootstrap: {'FAILED' if code else 'passed'}  check {n} " for n, code in enumerate(codes)
        )
        assert re.fullmatch(rf"koc bootstrap: {verdict} \(\d+ s, 0 s of them for the installation\)", lines[-1])


def test_checks_run_side_by_side_but_not_too_many(checks: ModuleType, tmp_path: Path) -> None:
    meet = "import pathlib, sys, time\nmine, theirs = map(pathlib.Path, sys.argv[1:])\nmine.touch()\n"
    meet += "while not theirs.exists(): time.sleep(0.01)"
    paths = [str(tmp_path / name) for name in ("one", "two")]
    after = f"import os; raise SystemExit(not all(map(os.path.exists, {paths})))"
    planned = [
        checks.Check("one", [sys.executable, "-c", meet, *paths]),
        checks.Check("two", [sys.executable, "-c", meet, *reversed(paths)], 0),
        checks.Check("three", [sys.executable, "-c", after]),
    ]
    results = checks.run_checks(planned, 2, dict(os.environ))
    assert {name: code for name, code, _ in results} == {"one": 0, "two": 0, "three": 0}


def test_checks_end_with_whoever_ran_them(
    checks: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    running: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def started(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        running.append(popen(*arguments, **options))
        return running[-1]

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(checks.subprocess, "Popen", started)
    monkeypatch.setattr(checks.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checks.run_checks(
            [checks.Check("endless", [sys.executable, "-c", "import time; time.sleep(600)"])] * 2, 2, dict(os.environ)
        )
    assert len(running) == 2
    assert all(process.poll() is not None for process in running)


def test_every_test_is_in_one_of_the_checks(checks: ModuleType) -> None:
    planned = {check.name: check.command for check in checks.checks("python", 2, qt=True)}
    assert {"ruff check", "ruff format", "mypy", "import contracts"} <= set(planned)
    perfect = planned["tests of the perfect files"]
    assert {"--cov-branch", "--cov-fail-under=100"} <= set(perfect)
    assert len([word for word in perfect if word.startswith("tests")]) == 4

    def takes(command: list[str], file: str) -> bool:
        words = [f"{word}/" for word in command if f"{word}/".startswith("tests/")]
        ignored = [f"{word.removeprefix('--ignore=')}/" for word in command if word.startswith("--ignore=")]
        return f"{file}/".startswith(tuple(words)) and not f"{file}/".startswith(tuple(ignored))

    files = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")]
    assert len(files) > 100
    takers = {file: [name for name, command in planned.items() if takes(command, file)] for file in files}
    assert {file: names for file, names in takers.items() if len(names) != 1} == {}


def test_ci_runs_what_the_readme_says() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "exec python3 installer/bootstrap.py test </dev/null\n" in script
    assert re.search(r"^\s*python3 installer/bootstrap\.py test$", readme, re.MULTILINE)
    assert re.search(r"^\s*python3 installer/bootstrap\.py run$", readme, re.MULTILINE)
    assert os.access(ROOT / ".ci" / "run", os.X_OK) or os.name == "nt"
