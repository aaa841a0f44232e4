"""How ``koc worker`` is started: its program and its environment, without the event loop that carries its channel."""

from __future__ import annotations

import os
import site
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path


def worker_command() -> list[str]:
    """Give the program that runs ``koc worker`` and its first arguments, in a bundle as from sources."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "worker"]
    return [_interpreter(), "-P", "-s", "-B", "-m", "koc_qt", "worker"]


def _interpreter() -> str:
    """Give the interpreter itself.

    In an environment on Windows ``python.exe`` only starts another process, whose id nobody would know; the packages
    come by PYTHONPATH, as everywhere.
    """
    if sys.platform == "win32":
        return str(getattr(sys, "_base_executable", sys.executable))
    return sys.executable


def worker_environment() -> dict[str, str]:
    """Give a worker's whole environment: nothing of ours but what its interpreter needs to start.

    Hashes are not randomised, so that a strategy that iterates over a set behaves the same in every run.
    """
    single = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL", "NUMEXPR")}
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "SYSTEMROOT") if name in os.environ}
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "LC_ALL": "C.UTF-8", "TZ": "UTC", "HOME": "/nonexistent"}
    return {**kept, **fixed, **single, "PYTHONPATH": os.pathsep.join(_import_roots())}


def _import_roots() -> list[str]:
    """List where this package and its dependencies are, as far as a new interpreter would not look there by itself."""
    if getattr(sys, "frozen", False):
        return []  # a bundle has it all inside
    found_anyway = set(site.getsitepackages())
    package_root = str(Path(__file__).resolve().parents[2])
    installed = [
        str(Path(path).absolute()) for path in sys.path if Path(path).name in ("site-packages", "dist-packages")
    ]
    return [path for path in dict.fromkeys([package_root, *installed]) if path not in found_anyway]


def start_worker(
    far: socket.socket, options: Sequence[str], command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a worker on this end of a socket pair, without Qt. Raises OSError.

    The end is closed here, but on Windows: there the worker opens a copy of it, and the caller closes it once the
    worker has spoken.
    """
    is_inherited = sys.platform != "win32"
    channel = str(far.fileno()) if is_inherited else "stdin"
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW
    process = subprocess.Popen(
        [*command, "--channel", channel, "--parent", str(os.getpid()), *options],
        pass_fds=[far.fileno()] if is_inherited else [],
        env=dict(environment),
        stdin=subprocess.DEVNULL if is_inherited else subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        creationflags=flags,
    )
    if sys.platform == "win32" and process.stdin is not None:
        try:
            with process.stdin:
                process.stdin.write(far.share(process.pid))
        except OSError:  # it has ended already
            process.kill()
            process.wait()
            raise
    else:
        far.close()
    return process
