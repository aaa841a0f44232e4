"""What holds a worker where no sandbox exists yet: Windows has bounds, macOS nothing, and the badge says so.

Tried under Wine, which bounds neither memory nor programs, and never on Windows. An AppContainer around the worker is
what is to come: until then a strategy can read what its person can.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

from koc_qt.adapters.sandbox import windows_job
from koc_qt.adapters.sandbox.policy import LockdownReport, SandboxSettings
from koc_qt.domain.state import Badge

_WHY = f"K.O.C. has no sandbox for {sys.platform} yet: a strategy can read your files and use the network"
_PROBE_S = 10.0
_kept: list[windows_job.Job] = []  # open as long as this process


def lock_down(channel_fd: int, settings: SandboxSettings, parent_pid: int) -> LockdownReport:
    """Bound what can be bounded, try whether it is, and report that nothing else is."""
    for module in settings.preimport:
        importlib.import_module(module)
    enforced: dict[str, str] = {}
    if windows_job.is_held():
        enforced["parent death"] = "it ends with its host"
    memory = settings.address_space_bytes
    try:
        _kept.append(windows_job.Job(os.getpid(), windows_job.limits(memory_bytes=memory, alone=True)))
    except OSError as error:
        return LockdownReport(enforced, {"sandbox": _WHY, "job": error.strerror or str(error)})
    missing = {"sandbox": _WHY}
    if windows_job.can_have(memory):
        missing["memory"] = "more could be had than was allowed"
    else:
        enforced["memory"] = f"it has {memory >> 20} MiB of memory at most"
    if _starts_a_program():
        missing["programs"] = "it could start one"
    else:
        enforced["programs"] = "it starts no other programs"
    return LockdownReport(enforced, missing)


def self_test(report: LockdownReport) -> tuple[Badge, str, dict[str, str]]:
    """Give the lowest badge, and what was seen to hold all the same."""
    held = ", ".join(report.enforced.values())
    proofs = {**report.enforced, **{name: why for name, why in report.missing.items() if name != "sandbox"}}
    return Badge.UNPROTECTED, f"{_WHY}. What holds: {held}" if held else _WHY, proofs


def _starts_a_program() -> bool:
    """Try to start a small program of the system; what is not there proves nothing."""
    program = Path(os.environ.get("SYSTEMROOT", "C:\\Windows"), "System32", "hostname.exe")
    if not program.is_file():
        return True
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW
    nothing = subprocess.DEVNULL
    try:
        process = subprocess.Popen([program], stdin=nothing, stdout=nothing, stderr=nothing, creationflags=flags)
    except OSError:
        return False
    try:
        process.wait(_PROBE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    return True
