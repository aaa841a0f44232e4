"""Harmless attempts to break out of the sandbox, made by the worker itself before it says that it is ready."""

from __future__ import annotations

import errno
import mmap
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path

from koc_qt.adapters.sandbox.policy import LockdownReport
from koc_qt.domain.state import Badge

REFUSED = "refused"
OPEN = "open"
UNCLEAR = "unclear"


# Landlock refuses the first, seccomp the others: where none is refused there is no sandbox.
_TELLING = {"read a file", "open a UDP socket", "start a process"}


def readable(path: str) -> bool:
    """Whether `path` can be opened and read from."""
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError:
        return False
    return True


def run(canary: str) -> dict[str, str]:
    """Try everything; each outcome begins with ``refused``, ``open`` or ``unclear``, and says how."""
    attempts: dict[str, Callable[[], str]] = {
        "read a file": lambda: _read(canary),
        "list a folder": lambda: f"{len(list(Path('/').iterdir()))} entries of /",
        "read the host's environment": lambda: _read(f"/proc/{os.getppid()}/environ"),
        "write a file": _write,
        "open a TCP socket": lambda: _socket(socket.AF_INET, socket.SOCK_STREAM),
        "open a UDP socket": lambda: _socket(socket.AF_INET, socket.SOCK_DGRAM),
        "open a unix socket": lambda: _socket(socket.AF_UNIX, socket.SOCK_STREAM),
        "start a process": _fork,
        "signal the host": _signal_host,
        "use more memory than allowed": _exceed_memory,
    }
    return {name: _outcome(attempt) for name, attempt in attempts.items()}


def judge(report: LockdownReport, proofs: dict[str, str], *, is_root: bool) -> tuple[Badge, str, dict[str, str]]:
    """Turn what was proved into a badge and the reason why it is no better one."""
    breaches = [name for name, outcome in proofs.items() if not outcome.startswith(REFUSED)]
    reasons = [f"{name} is missing ({why})" for name, why in report.missing.items()]
    if breaches:
        reasons.append("not refused: " + ", ".join(breaches))
    if is_root:
        reasons.append("it runs as root, whom the limit on processes does not bind")
    if not report.canary:
        reasons.append("no file was found to prove that reading is refused")
    if set(breaches) >= _TELLING:
        return Badge.UNPROTECTED, "; ".join(reasons), proofs
    if reasons:
        return Badge.PARTIAL, "; ".join(reasons), proofs
    return Badge.ISOLATED, "Landlock and seccomp hold, and every attempt to break out was refused", proofs


def _outcome(attempt: Callable[[], str]) -> str:
    try:
        return f"{OPEN}: {attempt()}"
    except OSError as error:
        # Only a refusal proves something: a file that is not there says nothing about a lock.
        word = REFUSED if error.errno in (errno.EPERM, errno.EACCES, errno.ENOMEM) else UNCLEAR
        return f"{word}: {error.strerror}"


def _read(path: str) -> str:
    with Path(path).open("rb") as file:
        return f"{len(file.read(4096))} bytes of {path}"


def _write() -> str:
    path = Path(f"/tmp/koc-probe-{os.getpid()}")  # noqa: S108 - nothing is written; anybody may create a file there
    path.touch(exist_ok=False)
    path.unlink()
    return f"created {path}"


def _socket(family: socket.AddressFamily, kind: socket.SocketKind) -> str:
    with socket.socket(family, kind):
        return "made one"


def _fork() -> str:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return "made a child"


def _signal_host() -> str:
    os.kill(os.getppid(), 0)
    return f"may signal process {os.getppid()}"


def _exceed_memory() -> str:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit == resource.RLIM_INFINITY:
        return "no limit"
    mmap.mmap(-1, limit).close()
    return f"mapped {limit >> 20} MiB"
