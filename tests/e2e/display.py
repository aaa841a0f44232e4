"""An X display of a test's own, and the hand of a person on its mouse."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from koc_qt.adapters.qt_libraries import WINDOW_LIBRARIES, missing_libraries
from tests.conditions import PATIENCE

TOOL_TIMEOUT_S = 10.0
_TOOLS = {"Xvfb": "xvfb", "xdotool": "xdotool"}  # and the Debian packages that they are in

SQUARE = 80  # pixels; the side of what tests/e2e/drag_source.py shows to take hold of

Point = tuple[int, int]


def lacking() -> str:
    """Say what a window on a display of its own and a real mouse need and is not here; empty where all is."""
    if sys.platform != "linux":
        return "X displays are started on Linux alone"
    absent = {tool: package for tool, package in _TOOLS.items() if shutil.which(tool) is None}
    absent |= missing_libraries(WINDOW_LIBRARIES)
    if not absent:
        return ""
    return f"{', '.join(sorted(absent))} missing: apt-get install {' '.join(sorted(set(absent.values())))}"


@contextmanager
def screen(size: str = "1600x1000x24") -> Iterator[str]:
    """Give the name of a new X display of this size (pixels, depth), for as long as the block lasts."""
    read, write = os.pipe()
    with (
        os.fdopen(read) as said,
        subprocess.Popen(
            ["Xvfb", "-displayfd", str(write), "-screen", "0", size, "-nolisten", "tcp", "-noreset"],
            pass_fds=[write],
            stderr=subprocess.DEVNULL,
        ) as server,
    ):
        os.close(write)
        try:
            number = said.readline().strip()  # ends with the server at the latest
            assert number, f"Xvfb has ended with {server.wait(TOOL_TIMEOUT_S)}"
            yield f":{number}"
        finally:
            server.terminate()


class Mouse:
    """The display's one mouse. Places are pixels of the screen, from its top left corner."""

    def __init__(self, display: str) -> None:
        self._environment = {**os.environ, "DISPLAY": display}
        self._at: Point = (0, 0)

    def jump(self, to: Point) -> None:
        """Be at a place at once."""
        self._do("mousemove", *map(str, to))
        self._at = to

    def glide(self, to: Point, steps: int = 12) -> None:
        """Go to a place in a straight line of so many steps."""
        (from_x, from_y), (to_x, to_y) = self._at, to
        for step in range(1, steps + 1):
            self.jump((from_x + (to_x - from_x) * step // steps, from_y + (to_y - from_y) * step // steps))

    def press(self) -> None:
        """Hold the left button down."""
        self._do("mousedown", "1")

    def release(self) -> None:
        """Let the left button go."""
        self._do("mouseup", "1")

    def click(self, at: Point) -> None:
        """Press a button there as a person does."""
        self.jump(at)
        self.press()
        self.release()

    def _do(self, *words: str) -> None:
        subprocess.run(["xdotool", *words], env=self._environment, check=True, timeout=TOOL_TIMEOUT_S * PATIENCE)
