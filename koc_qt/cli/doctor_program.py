"""``koc doctor``: the program itself, the libraries that it came with, and those that it needs of the system."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from koc_qt.cli.doctor_check import FAIL, OK, WARN, Check, ask_elsewhere, is_bundle, packages_advice, renew

LOCK_FILE = Path(__file__).parents[2] / "installer" / "requirements.txt"
_SHOWN_LIBRARIES = 12


def look_at_python() -> Check:
    """Look at the interpreter and the program's version."""
    import platform

    from koc_qt.version import __version__

    built = "installed copy, " if is_bundle() else ""
    text = f"K.O.C. {__version__} ({built}Python {platform.python_version()}, {platform.platform(terse=True)})"
    return Check("program", OK, text)


def look_at_libraries(lock_file: Path) -> Check:
    """Hold what is installed against the lock file's pins; a bundle has none and needs none."""
    if is_bundle():
        return Check("libraries", OK, "as they came with this bundle")
    try:
        lines = lock_file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return Check("libraries", OK, "as they came with this bundle")
    except OSError as error:
        return Check("libraries", WARN, f"{lock_file} cannot be read: {error.strerror}", "Check out the project anew.")
    pins: dict[str, set[str]] = {}  # a name stands there twice when its version depends on Python's
    everywhere: set[str] = set()
    for line in lines:
        name, equals, rest = line.partition("==")
        if equals and not line.startswith((" ", "#")):
            pinned, _, marker = rest.rstrip(" \\").partition(";")
            pins.setdefault(name.strip(), set()).add(pinned.strip())
            everywhere |= set() if marker else {name.strip()}
    found = {name: _version(name) for name in pins}
    absent = [name for name in everywhere if not found[name]]
    different = [
        f"{name} {found[name]} instead of {' or '.join(sorted(pins[name]))}"
        for name in pins
        if found[name] and found[name] not in pins[name]
    ]
    if absent:
        return Check("libraries", FAIL, f"not installed: {', '.join(sorted(absent))}", renew())
    if different:
        return Check("libraries", WARN, f"other versions than tested: {', '.join(different)}", renew())
    return Check("libraries", OK, f"{sum(map(bool, found.values()))} packages, all as pinned")


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def look_at_qt() -> list[Check]:
    """Look at Qt, in a process of its own because a broken one may abort, and at the libraries that it needs."""
    from koc_qt.adapters.qt_libraries import ENGINE_LIBRARIES, WINDOW_LIBRARIES, missing_libraries

    core = missing_libraries(ENGINE_LIBRARIES)
    window = missing_libraries(WINDOW_LIBRARIES)
    code, text = ask_elsewhere("qt")
    if code:
        advice = packages_advice(core) if core else renew()
        return [Check("Qt", FAIL, f"QtCore, which the engine runs on, does not load: {text}", advice)]
    binding, _, qt = text.partition(" ")
    found = Check("Qt", OK, f"Qt {qt}, PySide6 {binding}")
    if sys.version_info < (3, 12) and tuple(int(part) for part in binding.split(".")[:2]) >= (6, 12):
        advice = "Use PySide6 6.11 or Python 3.12."
        found = Check("Qt", FAIL, f"PySide6 {binding} aborts on Python 3.11 after some thousand calls", advice)
    if window:
        words = f"missing: {', '.join(window)} (the engine needs none)"
        return [found, Check("Qt window", WARN, words, packages_advice(window))]
    return [found, Check("Qt window", OK, "all system libraries that a window needs are here")]


def look_at_system_libraries(folder: Path | None = None) -> list[Check]:
    """Hold what the bundle's own libraries ask for against what this system has; nothing to say of a checkout."""
    from koc_qt.adapters.elf_libraries import missing_of_folder
    from koc_qt.adapters.qt_libraries import PACKAGES

    inside: str | None = getattr(sys, "_MEIPASS", None)
    folder = folder or (Path(inside) if inside else None)
    if folder is None or sys.platform != "linux":
        return []
    missing = missing_of_folder(folder)
    if not missing:
        return [Check("system", OK, "every system library that this bundle asks for is here")]
    return [Check("system", WARN, f"missing: {_missing_words(missing)}", _missing_advice(missing, PACKAGES))]


def _missing_words(missing: Mapping[str, str]) -> str:
    shown = [f"{soname} (for {asker})" for soname, asker in sorted(missing.items())]
    more = len(shown) - _SHOWN_LIBRARIES
    return ", ".join(shown[:_SHOWN_LIBRARIES]) + (f" and {more} more" if more > 0 else "")


def _missing_advice(missing: Mapping[str, str], packages: Mapping[str, str]) -> str:
    known = {soname: packages[soname] for soname in missing if soname in packages}
    others = sorted(set(missing) - set(known))
    advice = [packages_advice(known)] if known else []
    if others:
        advice.append(f"Find the package that has {', '.join(others)} (apt-file search, or your system's way)")
    return ". ".join(advice)
