"""The honest fallback where no lock exists yet: Windows and macOS. Nothing is enforced, and the badge says so.

Written for Windows, never run on it. A job object and an AppContainer around the worker are what is to come.
"""

from __future__ import annotations

import importlib
import sys

from koc_qt.adapters.sandbox.policy import LockdownReport, SandboxSettings
from koc_qt.domain.state import Badge

_WHY = f"K.O.C. has no sandbox for {sys.platform} yet: a strategy can do whatever you can"


def lock_down(channel_fd: int, settings: SandboxSettings, parent_pid: int) -> LockdownReport:
    """Enforce nothing, and report that."""
    for module in settings.preimport:
        importlib.import_module(module)
    return LockdownReport(enforced={}, missing={"sandbox": _WHY})


def self_test(report: LockdownReport) -> tuple[Badge, str, dict[str, str]]:
    """Give the lowest badge: there is nothing to prove."""
    return Badge.UNPROTECTED, _WHY, {}
