"""A window process for end-to-end tests: started, asked, waited for, killed."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

from tests.conditions import PATIENCE, wait_until
from tests.e2e.processes import ROOT, Profile

ANSWER_TIMEOUT_S = 30.0


class WindowProcess:
    """A running window; `ask` evaluates an expression of tests/window_driver.py in it."""

    def __init__(self, profile: Profile, arguments: tuple[str, ...], more: dict[str, str]) -> None:
        self.profile = profile
        self.errors_file = profile.output_folder / "window.txt"
        with self.errors_file.open("a") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.window_driver", *arguments],
                env={**profile.environment, "QT_QPA_PLATFORM": "offscreen", **more},
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,
            )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, expression: str) -> Any:
        """Give an expression's value, as JSON has it. Raises AssertionError with the window's own error."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression.replace("\n", " ") + "\n")
        self.process.stdin.flush()
        line = self._answers.get(timeout=ANSWER_TIMEOUT_S * PATIENCE)
        assert line, f"the window has ended: {self.errors()}"
        answer = json.loads(line)
        assert "error" not in answer, f"{expression}: {answer['error']}"
        return answer["value"]

    def until(self, expression: str, *, timeout_s: float = 30.0) -> Any:
        """Wait until an expression is true, which may fail before."""

        def look() -> Any:
            try:
                return self.ask(expression)
            except AssertionError as error:
                if "has ended" in str(error):
                    raise
                last.append(str(error))
                return None

        last: list[str] = []
        try:
            return wait_until(look, timeout_s=timeout_s, what=expression)
        except AssertionError as error:
            raise AssertionError(f"{error}; {last[-1:]} {self.errors()}") from None

    def errors(self) -> str:
        """Give what it wrote to stderr."""
        return self.errors_file.read_text()[-3_000:]

    def kill(self) -> None:
        """Kill it, as the system does."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self._close()

    def close(self, *, timeout_s: float = 30.0) -> int:
        """Close the window without a question; the engine goes on."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        code = self.process.wait(timeout_s * PATIENCE)
        self._close()
        return code

    def wait(self, *, timeout_s: float = 30.0) -> int:
        """Wait until it has ended by itself."""
        code = self.process.wait(timeout_s * PATIENCE)
        self._close()
        return code

    def _close(self) -> None:
        self.process.wait(ANSWER_TIMEOUT_S)
        self._reader.join(ANSWER_TIMEOUT_S)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@contextlib.contextmanager
def window(profile: Profile, *arguments: str, **more: str) -> Iterator[WindowProcess]:
    """Show a window for the length of a block. Whatever is left is killed, the engine that it started as well."""
    shown = WindowProcess(profile, arguments, more)
    try:
        yield shown
    finally:
        shown.kill()
        stop_engine(profile)


def stop_engine(profile: Profile) -> None:
    """Kill the profile's engine, wherever it came from."""
    status = profile.look()
    if status is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(status["engine"]["pid"], signal.SIGKILL)
