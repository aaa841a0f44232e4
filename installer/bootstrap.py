#!/usr/bin/env python3
"""Make a private environment for K.O.C. from its hash-locked requirements, and run or test it there.

    python3 installer/bootstrap.py run [arguments of koc ...]      install what is needed, then start K.O.C.
    python3 installer/bootstrap.py test [arguments of pytest ...]  install what tests need, then run every check;
                                                                   with arguments, pytest alone with them
    python3 installer/bootstrap.py venv                            install only, and say where

The environment is .venv beside this folder, or KOC_VENV. Packages come from wherever your pip is configured to look.
Only the standard library is used here, and nothing that an old Python could not read far enough to say so.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
NEWER = ("python3.11", "python3.12", "python3.13", "python3.14")
LOCKS = {"run": ROOT / "installer" / "requirements.txt", "test": ROOT / "installer" / "requirements-test.txt"}
APT_TIMEOUT_S = 600
INSTALL_TIMEOUT_S = 1800
COMPILE_TIMEOUT_S = 600
MEANWHILE_S = 2.0
NOT_COMPILED = r"[/\\](ccxt|jedi|mypy|pip|tests?)[/\\]"  # when they are imported, if ever
NEEDED_BYTES = 2_000_000_000
SCHEME = "3"  # raised when what is written beside the packages changes


class Refused(Exception):
    """The bootstrap cannot go on; the text says why and what to do."""


def say(text: str) -> None:
    """Tell the person; flushed, so that it stands before what a child process prints."""
    print("koc bootstrap: " + text, flush=True)


# ---- Python ---------------------------------------------------------------------------------------------------------


def need_python() -> None:
    """Go on with a Python that is new enough, or say which is needed. Raises Refused."""
    if sys.version_info[:2] >= OLDEST:
        return
    for name in NEWER:
        found = shutil.which(name)
        if found:
            sys.stdout.flush()
            os.execv(found, [found, *sys.argv])
    raise Refused(
        "K.O.C. needs Python {}.{} or newer, and this is Python {} ({}). Install a newer one, on Debian or Ubuntu "
        "for instance with 'apt-get install python3.11 python3.11-venv', and run this with it.".format(
            *OLDEST, platform.python_version(), sys.executable
        )
    )


def environment_folder() -> Path:
    """Where the private environment is or will be."""
    chosen = os.environ.get("KOC_VENV", "").strip()
    return Path(chosen).expanduser().absolute() if chosen else ROOT / ".venv"


def in_environment(venv: Path, name: str) -> Path:
    """Where a program of the environment is."""
    return venv / "Scripts" / (name + ".exe") if os.name == "nt" else venv / "bin" / name


# ---- the system's packages ------------------------------------------------------------------------------------------


def as_root() -> list[str] | None:
    """Give what to put before a command to run it as root, or None where that is not possible."""
    if os.name != "posix":
        return None
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        return None
    if (
        subprocess.run(["sudo", "-n", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode
        == 0
    ):
        return ["sudo", "-n"]
    if sys.stdin and sys.stdin.isatty() and not os.environ.get("CI"):
        say("sudo may ask for your password now.")
        if subprocess.run(["sudo", "-v"], check=False).returncode == 0:
            return ["sudo", "-n"]
    return None


def apt_install(packages: list[str]) -> str:
    """Install Debian packages; give an empty text, or why that was not possible."""
    if not shutil.which("apt-get"):
        return "this system has no apt-get"
    prefix = as_root()
    if prefix is None:
        return "that needs root or sudo"
    say("installing system packages: " + " ".join(packages))
    bounds = ["-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::Retries=1"]
    quiet = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", *bounds]
    for arguments in (["update"], ["install", "-y", "--no-install-recommends", *packages]):
        try:
            result = subprocess.run(
                [*prefix, *quiet, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=APT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"apt-get {arguments[0]} did not end within {APT_TIMEOUT_S} s"
        # A package list that could not be renewed may still do; what cannot be installed says so itself.
        if result.returncode and arguments[0] == "install":
            lines = [line for line in result.stdout.splitlines() if line.startswith("E:")] or result.stdout.splitlines()
            return "apt-get failed: " + " ".join(lines[-3:])
    return ""


def venv_package() -> str:
    """Name the Debian package that lets this Python make environments; empty where it can."""
    importlib.invalidate_caches()
    if importlib.util.find_spec("ensurepip") and importlib.util.find_spec("venv"):
        return ""
    return "python{}.{}-venv".format(*sys.version_info[:2])


def need_system_packages(making: bool) -> None:
    """Install what the system lacks: to make the environment, for the engine, and for a window.

    The window's libraries are installed or named when an environment is made, and only mentioned from then on: the
    engine needs none of them. Raises Refused when what the engine needs is still missing.
    """
    sys.path.insert(0, str(ROOT))
    from koc_qt.adapters.qt_libraries import ENGINE_LIBRARIES, WINDOW_LIBRARIES, missing_libraries

    def needed() -> dict[str, str]:
        package = venv_package() if making else ""
        return {**missing_libraries(ENGINE_LIBRARIES), **({"Python's ensurepip": package} if package else {})}

    def packages(missing: dict[str, str]) -> list[str]:
        return sorted(set(missing.values()))

    missing, window, trouble = needed(), missing_libraries(WINDOW_LIBRARIES), ""
    if missing or (making and window):
        trouble = apt_install(packages({**missing, **window}))
        missing = needed()
        if missing and window and trouble.startswith("apt-get failed"):  # perhaps for want of a window's library alone
            trouble = apt_install(packages(missing))
            missing = needed()
        window = missing_libraries(WINDOW_LIBRARIES)
        trouble = trouble or "apt-get brought something else"
    if missing:
        raise Refused(
            "K.O.C. cannot run without {}, missing here ({}). On Debian or Ubuntu: 'sudo apt-get install {}', then "
            "start this again.".format(", ".join(sorted(missing)), trouble, " ".join(packages(missing)))
        )
    if window and making:
        say(
            "a window will need system libraries that are missing ({}); the engine needs none of them. On Debian or "
            "Ubuntu: sudo apt-get install {}".format(trouble, " ".join(packages(window)))
        )
    elif window:
        doctor = launcher(environment_folder())
        say(f"libraries that a window will need are missing (the engine needs none): '{doctor} doctor' names them.")


# ---- the environment ------------------------------------------------------------------------------------------------


def fingerprint(kind: str) -> str:
    """Give what an environment for `kind` must have been made from to be used as it is."""
    parts = [SCHEME, sys.version, str(ROOT)]
    return hashlib.sha256(os.fsencode("\0".join(parts)) + LOCKS[kind].read_bytes()).hexdigest()


def stamp_file(venv: Path) -> Path:
    """Where it is noted, last of all, what the environment was made from."""
    return venv / "koc-installed.json"


def read_stamp(venv: Path) -> dict[str, Any]:
    """Give what was noted of the environment; nothing when it is not whole, because something in it was deleted."""
    try:
        stamp = json.loads(stamp_file(venv).read_text(encoding="utf-8"))
        there = {path.name for path in Path(stamp["folder"]).iterdir()}
        lost = set(stamp["packages"]) - there
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    programs = [in_environment(venv, "python"), launcher(venv)]
    return stamp if not lost and all(path.exists() for path in programs) else {}


def installed(venv: Path, kind: str) -> bool:
    """Whether the environment is whole and up to date."""
    return bool(read_stamp(venv).get(kind) == fingerprint(kind))


def launcher(venv: Path) -> Path:
    """Where the environment's ``koc`` is."""
    return venv / "Scripts" / "koc.cmd" if os.name == "nt" else venv / "bin" / "koc"


def install_alone(venv: Path, kind: str) -> None:
    """Make or repair the environment, after whoever else is just doing so. Raises Refused."""
    lock = venv / "koc-lock"
    ours = lock.exists() or stamp_file(venv).exists() or venv == ROOT / ".venv"
    if not ours and venv.exists() and any(venv.iterdir()):
        raise Refused(f"{venv} holds something that K.O.C. did not make: point KOC_VENV at another folder.")
    venv.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file, held(file.fileno(), venv):
        if not installed(venv, kind):
            install(venv, kind, spared=lock)


@contextlib.contextmanager
def held(descriptor: int, venv: Path) -> Iterator[None]:
    """Hold the lock on a file, which ends with this process at the latest. Raises Refused when another keeps it."""
    deadline, told = time.monotonic() + INSTALL_TIMEOUT_S, False
    while not locked(descriptor):
        if time.monotonic() > deadline:
            raise Refused(f"another process has been making {venv} for {INSTALL_TIMEOUT_S} s: end it, and start again.")
        if not told:
            say(f"another process is making {venv}: waiting for it")
            told = True
        time.sleep(0.2)
    yield


def locked(descriptor: int) -> bool:
    """Lock an open file, and say whether it is ours; a file system that knows no locks has to do without."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
    return True


def install(venv: Path, kind: str, spared: Path) -> None:
    """Make the environment, or repair it: whatever was interrupted is made anew, but for one file. Raises Refused."""
    free = shutil.disk_usage(venv).free
    if free < NEEDED_BYTES:
        say(f"only {free // 1_000_000} MB are free at {venv}; about {NEEDED_BYTES // 1_000_000} MB are needed.")
    stamp = stamp_file(venv)
    usable = bool(read_stamp(venv)) and runs(in_environment(venv, "python"))
    place = f"the environment {venv} ({kind})"
    say(f"bringing {place} up to date" if usable else f"making {place}: this takes a few minutes")
    stamp.unlink(missing_ok=True)
    if not usable:
        empty(venv, spared)
        command([sys.executable, "-m", "venv", str(venv)], "the environment could not be made")
    pip = [str(in_environment(venv, "python")), "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    quiet = ["-q", "-q", "--progress-bar", "off"]  # errors alone: its warnings are about how this system configures it
    locked = ["install", *quiet, "--no-compile", "--require-hashes", "--only-binary", ":all:", "-r", str(LOCKS[kind])]
    compiling = Compiling(in_environment(venv, "python"))
    command([*pip, *locked], "the packages could not be installed (what pip said stands above)", compiling.go_on)
    folder = write_launcher(venv)
    compile_packages(in_environment(venv, "python"), folder, ROOT / "koc_qt")
    # The test lock holds the run lock's packages at the same versions (a test sees to that).
    kinds = ("run", "test") if kind == "test" else ("run",)
    packages = [path.name for path in folder.iterdir() if not path.name.startswith(("__pycache__", "pip-"))]
    made = {"folder": str(folder), "packages": packages, **{each: fingerprint(each) for each in kinds}}
    write_whole(stamp, json.dumps(made).encode())


class Compiling:
    """Compiles packages that are whole while pip unpacks the next ones, which takes it one core."""

    def __init__(self, python: Path) -> None:
        self._python = python
        self._folder: Path | None = None
        self._done: set[Path] = set()

    def go_on(self) -> None:
        """Compile what has been installed since the last time."""
        with contextlib.suppress(OSError):
            self._folder = self._folder or packages_folder(self._python)
            # pip writes this file when all others of a package are there
            new = set(self._folder.glob("*.dist-info/INSTALLER")) - self._done
            self._done |= new
            names = {line.partition(",")[0].partition("/")[0] for file in new for line in recorded(file.parent)}
            places = [self._folder / name for name in names if not name.endswith((".dist-info", "__pycache__", ".."))]
            if places:
                compile_packages(self._python, *places, processes=1)


def recorded(folder: Path) -> list[str]:
    """Give the lines of a package's own list of its files."""
    return (folder / "RECORD").read_text(encoding="utf-8").splitlines()


def compile_packages(python: Path, *folders: Path, processes: int = 0) -> None:
    """Write bytecode on every core or in so many processes: sandboxed workers cannot, and a first window waits for it.

    What cannot be compiled is left to whoever imports it, and so are the hundreds of venues in ccxt.
    """
    arguments = ["-I", "-m", "compileall", "-q", "-j", str(processes), "-x", NOT_COMPILED, *map(str, folders)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            [str(python), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=COMPILE_TIMEOUT_S,
            check=False,
        )


def empty(folder: Path, spared: Path) -> None:
    """Delete all that is in a folder but one file."""
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != spared:
            path.unlink()


def runs(python: Path) -> bool:
    """Whether the environment's Python starts, is the version that runs this, and has pip."""
    code = "import sys, pip; print(sys.version)"
    try:
        result = subprocess.run(
            [str(python), "-I", "-c", code], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return result.stdout.strip() == sys.version


def command(arguments: list[str], trouble: str, meanwhile: Callable[[], None] = lambda: None) -> None:
    """Run a command of the installation, and other things as long. Raises Refused with `trouble` when it fails."""
    environment = {**os.environ, "PIP_USER": "0", "PIP_NO_WARN_SCRIPT_LOCATION": "1"}
    for name in ("PYTHONHOME", "PYTHONPATH", "__PYVENV_LAUNCHER__"):
        environment.pop(name, None)
    try:
        with subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL) as process:
            try:
                while process.poll() is None:
                    meanwhile()
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(MEANWHILE_S)
            except BaseException:
                process.kill()
                raise
    except OSError as error:
        raise Refused(f"{trouble}: {error}") from error
    if process.returncode:
        raise Refused(f"{trouble}. Mend that and start this again; nothing half-made will be used.")


def write_launcher(venv: Path) -> Path:
    """Make the project importable in the environment, and give it its ``koc``; gives the folder of the packages."""
    python = in_environment(venv, "python")
    folder = packages_folder(python)
    # As code, because a bare path in such a file is read in the locale's encoding, which may lack its letters.
    code = f"import os, sys; sys.path.append(os.fsdecode({os.fsencode(ROOT)!r}))\n"
    write_whole(folder / "koc_qt.pth", code.encode("ascii"))
    target = launcher(venv)
    if os.name == "nt":
        target.write_text('@"%~dp0python.exe" -P -m koc_qt %*\r\n', encoding="ascii")
        return folder
    write_whole(target, os.fsencode(f'#!/bin/sh\nPYTHONUTF8=1 exec {shlex.quote(str(python))} -P -m koc_qt "$@"\n'))
    target.chmod(0o755)
    return folder


def packages_folder(python: Path) -> Path:
    """Ask an environment's Python where its packages are."""
    code = "import os, sys, sysconfig; sys.stdout.buffer.write(os.fsencode(sysconfig.get_path('purelib')))"
    return Path(os.fsdecode(subprocess.run([str(python), "-I", "-c", code], capture_output=True, check=True).stdout))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(content)
    temporary.replace(path)


def ready(kind: str) -> Path:
    """Give the environment, made or renewed where it has to be. Raises Refused."""
    venv = environment_folder()
    up_to_date = installed(venv, kind)
    need_system_packages(making=not up_to_date)
    if not up_to_date:
        try:
            install_alone(venv, kind)
        except OSError as error:
            raise Refused(
                f"the environment {venv} cannot be written: {error}. KOC_VENV chooses another place."
            ) from error
    return venv


# ---- what it is for -------------------------------------------------------------------------------------------------


def run(arguments: list[str]) -> int:
    """Start K.O.C. in the environment."""
    python = in_environment(ready("run"), "python")
    whole = [str(python), "-P", "-m", "koc_qt", *arguments]
    if os.name == "posix":
        sys.stdout.flush()
        os.execv(whole[0], whole)
    return subprocess.run(whole, check=False).returncode


def test(arguments: list[str]) -> int:
    """Run every check, or pytest with the given arguments, and sum up."""
    began_s = time.monotonic()
    python = str(in_environment(ready("test"), "python"))
    installed_s = time.monotonic() - began_s
    from koc_qt.adapters.qt_libraries import WINDOW_LIBRARIES, missing_libraries

    qt = not missing_libraries(WINDOW_LIBRARIES)
    environment = {**os.environ, "COVERAGE_FILE": str(environment_folder() / "coverage"), "PYTHONUNBUFFERED": "1"}
    # what pytest makes of a test is kept as well: processes that tests start need it again
    for name in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE"):
        environment.pop(name, None)
    if arguments:
        command = [python, "-m", "pytest", *([] if qt else ["-p", "no:pytest-qt"]), *arguments]
        return subprocess.run(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, check=False).returncode
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    import checks

    cores = min(4, os.cpu_count() or 1)
    planned = checks.checks(python, cores, qt)
    at_once = cores + checks.WAITING
    say(f"{len(planned)} checks, {at_once} at a time; what each one says is printed when it has ended")
    results = checks.run_checks(planned, at_once, {"KOC_TEST_PATIENCE": checks.PATIENCE, **environment})
    for line in checks.summary(results, installed_s, time.monotonic() - began_s):
        say(line)
    return 1 if any(code for _, code, _ in results) else 0


def main(arguments: list[str]) -> int:
    """Do what was asked; the exit code is that of what was run."""
    kind = arguments[0] if arguments else ""
    if kind not in ("run", "test", "venv"):
        print(__doc__)
        return 0 if kind in ("-h", "--help") else 2
    os.environ["PYTHONUTF8"] = "1"  # for what is started: a checkout may be in a folder that the locale cannot spell
    try:
        need_python()
        if kind == "run":
            return run(arguments[1:])
        if kind == "test":
            return test(arguments[1:])
        say(f"the environment is ready; K.O.C. is {launcher(ready('run'))}")
    except Refused as refusal:
        say(str(refusal))
        return 1
    except KeyboardInterrupt:
        say("stopped.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
