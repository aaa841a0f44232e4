"""Locking a worker process down, one module an operating system."""

from __future__ import annotations

import sys

from koc_qt.adapters.sandbox.policy import LockdownReport, SandboxSettings

if sys.platform == "linux":
    from koc_qt.adapters.sandbox.linux import lock_down, self_test
else:
    from koc_qt.adapters.sandbox.windows import lock_down, self_test

__all__ = ["LockdownReport", "SandboxSettings", "lock_down", "self_test"]
