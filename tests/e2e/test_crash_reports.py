"""Real processes that crash: what is kept of it on this machine, and that the person is told."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.e2e.processes import Profile
from tests.e2e.window import window

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform == "win32", reason="processes are killed as POSIX does it"),
]


def told(words: str) -> str:
    return f"any({words!r} in text for text in window.notices.texts)"


def test_an_engine_that_crashes_and_an_error_in_the_window_are_kept_and_told(home: Profile) -> None:
    with window(home) as shown:
        shown.until("desk.is_connected and window.workspace.chart_panels()")
        pid = int(shown.ask("replica.engine.pid"))
        os.kill(pid, signal.SIGABRT)
        shown.until(f"desk.is_connected and replica.engine.pid != {pid}", timeout_s=60)
        shown.until(told("K.O.C. ended unexpectedly (the engine"), timeout_s=60)
        shown.ask("str(desk.start(__import__('asyncio').to_thread(int, 'token=abcdef123456')))")
        shown.until(told("An error in K.O.C. itself (the window"))
        shown.ask("run('help.crashes')")
        shown.until("type(dialog()).__name__ == 'CrashDialog' and dialog().list.count() == 2")
    (ended,) = home.paths.crashes.glob("crash-*-engine-ended-*.txt")
    text = ended.read_text()
    assert f"engine, process {pid}" in text
    assert "Fatal Python error: Aborted" in text
    assert "Last lines of the log" in text
    (error,) = home.paths.crashes.glob("crash-*-window-error-*.txt")
    assert "abcdef123456" not in error.read_text()
    assert "ValueError: invalid literal for int() with base 10: 'token=***" in error.read_text()
