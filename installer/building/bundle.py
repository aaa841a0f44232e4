"""Freezes the program into build/bundle/koc: one folder with one executable, the same each time from the same inputs.

python3 installer/building/bundle.py compare A B      list what differs between two bundles
python3 installer/building/bundle.py sizes DIR        list what takes how much
python3 installer/building/bundle.py finish DIR --packages SITE_PACKAGES --python PYTHON [--licence FILE]
                                                      finish what PyInstaller made elsewhere, as under Wine
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from building import bytecode, licences, sbom, shared_libraries
from building.events import TextEvents
from building.stages import Build, BuildError, Stage, file_sha256, read_json, run_stages, write_whole
from building.tools import Need, programs, space

EPOCH = 1_735_689_600  # 2025-01-01: the time that every file of a bundle says it was made
NEWEST_GLIBC = (2, 35)  # Ubuntu 22.04's
SPACE = 6_000_000_000
_LOCKS = ("requirements.txt", "requirements-build.txt")
_OURS = ("koc_qt", "resources", "strategies", "koc.spec", "LICENSE", "installer/licences")
_PIP_TIMEOUT_S, _FREEZE_TIMEOUT_S, _PROVE_TIMEOUT_S = 3600.0, 7200.0, 600.0
Say = Callable[[str], None]


def needs(build: Build) -> list[Need]:
    """Give what this machine lacks to make one."""
    needed = programs(("strip",), "makes the program's libraries smaller") if sys.platform == "linux" else []
    library = sysconfig.get_config_var("INSTSONAME")  # of a Python without one, none can be frozen
    folder = Path(sysconfig.get_config_var("LIBDIR") or sys.base_prefix)
    if sys.platform == "linux" and not (".so" in (library or "") and _is_there(folder, str(library))):
        package = f"libpython{sys.version_info[0]}.{sys.version_info[1]}"
        text = f"the shared library of the Python that freezes, {sys.executable}"
        advice = f"On Debian or Ubuntu: sudo apt-get install {package}. Elsewhere: a Python built with --enable-shared."
        needed.append(Need("libpython", text, advice, [package]))
    return [*needed, *space(build.builds, SPACE)]


def _is_there(folder: Path, library: str) -> bool:
    multiarch = folder / str(sysconfig.get_config_var("MULTIARCH") or "")
    return (folder / library).exists() or (multiarch / library).exists()


def stages(build: Build) -> list[Stage]:
    """Give what is done for one, in order."""
    here = Path(__file__).parent
    helpers = [
        here / f"{name}.py"
        for name in ("bytecode", "licences", "sbom", "shared_libraries", "pruning", "rehearsal", "bundle_entry")
    ]
    return [
        Stage(
            "environment",
            "Install what is frozen, as locked",
            _install,
            180,
            lambda b: [*(b.root / "installer" / lock for lock in _LOCKS), sys.version],
            lambda b: [python_of(b)],
            part="bundle",
        ),
        Stage(
            "rehearsal",
            "Import all of it without what is left out",
            _rehearse,
            30,
            lambda b: [b.root / "koc_qt", *helpers],
            part="bundle",
        ),
        Stage(
            "freeze",
            "Freeze the program",
            _freeze,
            400,
            lambda b: [*(b.root / name for name in _OURS), *helpers],
            lambda b: [b.bundle],
            part="bundle",
        ),
        Stage("imports", "Import all of it in the bundle", _prove, 20, lambda b: [b.bundle], part="bundle"),
    ]


def python_of(build: Build) -> Path:
    """Give the Python that freezes: of an environment of its own, with nothing but what is locked."""
    folder = build.builds / "bundle" / "env"
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _install(build: Build) -> None:
    python, folder = python_of(build), build.builds / "bundle" / "env"
    shutil.rmtree(folder, ignore_errors=True)
    build.run([sys.executable, "-m", "venv", folder], timeout_s=_PIP_TIMEOUT_S)
    pip = ["-I", "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
    quiet = ["-q", "--no-compile", "--progress-bar", "off"]
    for number, lock in enumerate(_LOCKS):
        locked: list[str | Path] = ["--require-hashes", "--only-binary", ":all:", "-r", build.root / "installer" / lock]
        build.run([python, *pip, *quiet, *locked], timeout_s=_PIP_TIMEOUT_S)
        build.step((number + 1) / len(_LOCKS))


def _rehearse(build: Build) -> None:
    program = Path(__file__).with_name("rehearsal.py")
    build.run(
        [python_of(build), "-P", program], env={**os.environ, **freezing_environment()}, timeout_s=_PROVE_TIMEOUT_S
    )


def _prove(build: Build) -> None:
    """Have the frozen program import all that it loads by name, as somebody who has nothing but the bundle."""
    with tempfile.TemporaryDirectory() as home:
        kept = {name: os.environ[name] for name in ("SYSTEMROOT", "TEMP", "TMP") if name in os.environ}
        program = build.bundle / ("koc.exe" if sys.platform == "win32" else "koc")
        build.run(
            [program, "doctor", "--imports"], cwd=Path(home), env={**kept, "KOC_HOME": home}, timeout_s=_PROVE_TIMEOUT_S
        )


def _freeze(build: Build) -> None:
    """Freeze, finish, and put the new bundle in the old one's place once it is whole."""
    work = build.builds / "bundle"
    fresh, made = work / "fresh", work / "fresh" / "koc"
    shutil.rmtree(fresh, ignore_errors=True)
    heard = FreezeProgress(build)
    words: list[str | Path] = [
        "-m",
        "PyInstaller",
        "--noconfirm",
        "--clean",
        "--distpath",
        fresh,
        "--workpath",
        work / "work",
    ]
    build.run(
        [python_of(build), *words, build.root / "koc.spec"],
        env={**os.environ, **freezing_environment()},
        timeout_s=_FREEZE_TIMEOUT_S,
        heard=heard,
    )
    build.step(0.8)
    python = python_of(build)
    finish(Finish(build.root, made, packages_of(python), python), build.say, build.check)
    shutil.rmtree(build.bundle, ignore_errors=True)
    build.bundle.parent.mkdir(parents=True, exist_ok=True)
    made.rename(build.bundle)
    write_whole(build.bundle.with_name("koc.sha256"), "".join(sums(build.bundle, build.check)))


class FreezeProgress:
    """Tells from what PyInstaller says how far it is."""

    def __init__(self, build: Build) -> None:
        self._build = build
        self._hooks = 0

    def __call__(self, line: str) -> None:
        """Take a line of what it says."""
        self._hooks += "hook" in line
        if "Building COLLECT" in line:
            self._build.step(0.75)
        elif "Looking for dynamic libraries" in line:
            self._build.step(0.65)
        else:
            self._build.step(min(0.6, self._hooks / 400))


def freezing_environment() -> dict[str, str]:
    """Give the variables that make PyInstaller write the same bytes each time."""
    return {"SOURCE_DATE_EPOCH": str(EPOCH), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C"}


def packages_of(python: Path) -> Path:
    """Give the folder in which an environment has its packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return Path(done.stdout.strip())


@dataclass(frozen=True)
class Finish:
    """What is finished: `folder` of the checkout `root`, frozen of `packages`.

    `python` is any Python of this machine that has cyclonedx-py; `licence` that of the Python in the bundle, where it
    is another one.
    """

    root: Path
    folder: Path
    packages: Path
    python: Path
    licence: Path | None = None


def finish(what: Finish, say: Say, check: Callable[[], None]) -> None:
    """Make of what PyInstaller made a bundle: smaller, with its bill of materials and licences, the same each time.

    Raises BuildError where a library would not load on the oldest system that is promised.
    """
    folder, internal = what.folder, what.folder / "_internal"
    if (folder / "koc").exists() and sys.platform == "linux":
        _finish_libraries(folder, say, check)
    if others := bytecode.make_alike(internal):
        say(f"{others} files of another Python's bytecode are left as they were compiled")
    found = licences.bundled(what.packages, internal)
    licences.write_metadata(found, internal)
    texts = what.root / "installer" / "licences"
    licences.write_licences(found, folder / "licences", texts, what.licence or _python_licence(what.python))
    if sys.platform == "linux":
        licences.write_system_licences(_system_libraries(folder), folder / "licences")
    check()
    _write_sbom(folder, what.python, what.packages, [each.key for each in found], _version(what.root))
    files = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    for path in [*files, *(path for path in [folder, *folder.rglob("*")] if path.is_dir() and not path.is_symlink())]:
        runs = path.is_dir() or path == folder / "koc"
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (EPOCH, EPOCH))
    say(f"{len(files)} files, {total(folder) / 1e6:.0f} MB, {len(found)} packages")


def _version(root: Path) -> str:
    found = re.search(r'__version__ = "([^"]+)"', (root / "koc_qt" / "version.py").read_text(encoding="utf-8"))
    return found[1] if found else ""


def _finish_libraries(folder: Path, say: Say, check: Callable[[], None]) -> None:
    shared_libraries.remove_orphans(folder, say)
    shared_libraries.strip_all(folder, say, check)
    try:
        shared_libraries.forget_build_machine(folder)
    except ValueError as error:
        raise BuildError(str(error), "Leave it out (installer/building/pruning.py), or mend its RUNPATH.") from error
    newest, where = shared_libraries.newest_glibc(folder)
    if newest > NEWEST_GLIBC:
        raise BuildError(
            f"{where} needs glibc {'.'.join(map(str, newest))}: the bundle would not run on Ubuntu 22.04",
            "Build on an older system, or leave that library out (installer/building/pruning.py).",
        )


def _write_sbom(folder: Path, python: Path, packages: Path, keys: Iterable[str], version: str) -> None:
    everything, final = folder.with_name("environment.cdx.json"), folder / "sbom.cdx.json"
    environment = {**os.environ, **freezing_environment(), "PYTHONPATH": str(packages)}
    _run(sbom.environment_command(python, everything), environment)
    sbom.write(sbom.cut(read_json(everything), keys, version, _system_libraries(folder), folder), final)
    everything.unlink()
    _run(sbom.validate_command(python, final), environment)


def _system_libraries(folder: Path) -> list[Path]:
    return [path for path in sorted((folder / "_internal").glob("*.so*")) if not path.is_symlink()]


def _run(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise BuildError(f"the bill of materials cannot be written: {done.stderr.strip()[-500:]}")


def _python_licence(python: Path) -> Path | None:
    code = "import os, sys; print(os.path.dirname(os.__file__), sys.base_prefix, sep=chr(10))"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    places = [Path(line, "LICENSE.txt") for line in done.stdout.splitlines()]
    return next((place for place in places if place.is_file()), None)


# ---- looking at bundles ---------------------------------------------------------------------------------------------


def sums(folder: Path, check: Callable[[], None] = lambda: None) -> list[str]:
    """Give a line for each file of a bundle, as `sha256sum --check` reads them."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    return [f"{file_sha256(path, check)}  {path.relative_to(folder.parent).as_posix()}\n" for path in files]


def differences(first: Path, second: Path) -> list[str]:
    """List what differs between two bundles: files that one has alone, and those that are not the same."""
    one, other = _contents(first), _contents(second)
    lines = [f"only in {first}: {name}" for name in sorted(one.keys() - other.keys())]
    lines += [f"only in {second}: {name}" for name in sorted(other.keys() - one.keys())]
    return lines + [f"differs: {name}" for name in sorted(one.keys() & other.keys()) if one[name] != other[name]]


def _contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink().as_posix()}"
        elif path.is_file():
            found[name] = f"{file_sha256(path)} {path.stat().st_mode & 0o777:o}"
    return found


def total(folder: Path) -> int:
    """Give the bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def components(folder: Path) -> list[tuple[str, int]]:
    """Give what takes how many bytes, the largest first: packages with the libraries that belong to them."""
    sizes: dict[str, int] = {}
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            name = _component(path.relative_to(folder).parts)
            sizes[name] = sizes.get(name, 0) + path.stat().st_size
    return sorted(sizes.items(), key=lambda each: (-each[1], each[0]))


def _component(parts: tuple[str, ...]) -> str:
    """Name what a file belongs to, by its path."""
    if parts[0] != "_internal":
        return parts[0]
    if len(parts) == 2:
        return "libraries of the system" if ".so" in parts[1] or parts[1].endswith(".dll") else "others"
    return "metadata" if parts[1].endswith(".dist-info") else parts[1].removesuffix(".libs")


def _make(build: Build) -> int:
    failure = run_stages(build, stages(build))
    if failure is not None:
        build.events.emit("failed", target=build.target, stage=failure.stage, text=failure.text, advice=failure.advice)
    return 0 if failure is None else 1


def main(arguments: list[str]) -> int:
    """Do what the command line says; gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("first", type=Path)
    comparing.add_argument("second", type=Path)
    commands.add_parser("sizes").add_argument("folder", type=Path)
    finishing = commands.add_parser("finish")
    finishing.add_argument("folder", type=Path)
    finishing.add_argument("--packages", type=Path, required=True)
    finishing.add_argument("--python", type=Path, required=True)
    finishing.add_argument("--licence", type=Path, help="that of the Python in it")
    commands.add_parser("make")
    args = parser.parse_args(arguments)
    root = Path(__file__).resolve().parents[2]
    if args.command == "make":
        return _make(Build(root, "bundle", TextEvents(verbose=True), root / "dist", root / "build"))
    if args.command == "compare":
        lines = differences(args.first, args.second)
        print("\n".join(lines) or "no difference")
        return 1 if lines else 0
    if args.command == "sizes":
        for name, size in components(args.folder):
            print(f"{size / 1e6:8.1f} MB  {name}")
        print(f"{total(args.folder) / 1e6:8.1f} MB  in all")
        return 0
    finish(Finish(root, args.folder, args.packages, args.python, args.licence), print, lambda: None)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
