"""A screen that nobody sees, and pictures of it: a window that drew nothing has one colour, a good one hundreds."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from building import commands
from building.stages import Build
from building.trouble import BuildError

SIZE = "1600x1000x24"
SOCKETS = Path("/tmp/.X11-unix")
FEWEST_COLOURS = 150
PROGRAMS = ("Xvfb", "import", "identify")
_SERVER = ("Xvfb", "-nolisten", "tcp", "-ac", "-noreset")
_START_S = 30.0


@dataclass(frozen=True)
class Screen:
    """A screen: `display` is its name for X programs, such as :3."""

    build: Build
    display: str

    def picture(self, path: Path) -> int:
        """Write a picture of the screen; gives its number of colours. Raises BuildError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.build.run(["import", "-display", self.display, "-window", "root", path], timeout_s=60)
        return colours(self.build, path)

    def drawn(self, path: Path, timeout_s: float = 60.0) -> int:
        """Wait until something is drawn on the screen; gives the colours of the last picture, however few."""
        deadline = time.monotonic() + timeout_s
        while (found := self.picture(path)) < FEWEST_COLOURS and time.monotonic() < deadline:
            self.build.check()
            time.sleep(0.5)
        return found


def colours(build: Build, picture: Path) -> int:
    """Count the colours of a picture. Raises BuildError."""
    said = build.run(["identify", "-format", "%k\n", picture], timeout_s=60)
    if not said or not said[-1].strip().isdecimal():
        raise BuildError(f"{picture} is no picture: {' '.join(said) or 'nothing was said of it'}")
    return int(said[-1])


@contextlib.contextmanager
def screen(build: Build, size: str = SIZE) -> Iterator[Screen]:
    """Have a screen. Raises BuildError where its server does not start."""
    if sys.platform == "win32":
        raise BuildError("a screen that nobody sees is an X server, and Windows has none")
    reading, writing = os.pipe()
    try:
        with (build.work / "screen.log").open("wb") as log:
            server = subprocess.Popen(
                commands.bound([*_SERVER, "-displayfd", str(writing), "-screen", "0", size]),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
                start_new_session=True,
            )
    except OSError as error:
        raise BuildError(f"Xvfb cannot be started: {error.strerror}", "sudo apt-get install xvfb") from error
    finally:
        os.close(writing)
    try:
        yield Screen(build, f":{_number(reading)}")
    finally:
        os.close(reading)
        commands.end_group(server)


def _number(reading: int) -> int:
    """Read the number that a server gives its screen when it is ready. Raises BuildError."""
    said = b""
    deadline = time.monotonic() + _START_S
    while not said.endswith(b"\n"):
        ready = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready or not (part := os.read(reading, 16)):
            raise BuildError("Xvfb did not start (build/TARGET/screen.log has what it said)")
        said += part
    return int(said)
