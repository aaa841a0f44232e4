"""What the looks of ``koc doctor`` share: what one found, what mends an installation, and asking in another process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

OK, WARN, FAIL = "ok", "warn", "fail"
PROBE = "--probe"  # the hidden option of ``koc doctor``
PROBE_TIMEOUT_S = 30.0


class Check(NamedTuple):
    """What one look found; `advice` says what to do where the status is not ok."""

    name: str
    status: str
    text: str
    advice: str = ""


def is_bundle() -> bool:
    """Whether this is an installed copy, which has Python and all libraries inside."""
    return bool(getattr(sys, "frozen", False))


def renew() -> str:
    """Say how the program's own parts are put right."""
    if is_bundle():
        return "Install K.O.C. again from its installer; your data stays."
    return "Run 'python3 installer/bootstrap.py venv' again."


def packages_advice(missing: Mapping[str, str]) -> str:
    """Say how to install system libraries; `missing` are their names, with Debian's packages."""
    return "On Debian or Ubuntu: sudo apt-get install " + " ".join(sorted(set(missing.values())))


def ask_elsewhere(name: str) -> tuple[int, str]:
    """Have a process of its own look at something that may hang or abort; gives its exit code and last line."""
    environment = dict(os.environ)
    if not is_bundle():
        roots = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, roots))
    program = [sys.executable] if is_bundle() else [sys.executable, "-P", "-m", "koc_qt"]
    try:
        result = subprocess.run(
            [*program, "doctor", PROBE, name],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=PROBE_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"no answer within {PROBE_TIMEOUT_S:g} s"
    except OSError as error:
        return 1, str(error)
    lines = result.stdout.strip().splitlines() or [f"ended with code {result.returncode}"]
    return result.returncode, lines[-1]


def answer(name: str) -> int:
    """Look at one thing and print what there is, for `ask_elsewhere` in another process; gives the exit code."""
    try:
        print(_PROBES[name]())
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
        return 1
    return 0


def _qt() -> str:
    from koc_qt.adapters.qt_libraries import versions

    return versions()


def _keyring() -> str:
    import keyring

    found = keyring.get_keyring()
    return f"{type(found).__module__}|{float(found.priority)}|{found.name}"


_PROBES: dict[str, Callable[[], str]] = {"qt": _qt, "keyring": _keyring}
