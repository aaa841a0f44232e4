"""How ``koc worker`` is started: its program and its environment, without the event loop that carries its channel."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path


def worker_command() -> list[str]:
    """Give the program that runs ``koc worker`` and its first arguments, in a bundle as from sources."""
    if getattr(sys, "frozen", False):
        return [sys.executable, "worker"]
    return [sys.executable, "-P", "-s", "-B", "-m", "koc_qt", "worker"]


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
