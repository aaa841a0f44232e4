"""Sees a window from outside, on the memory of an Xvfb: how soon an installed program has painted one.

Nothing of the program needs to take part, so that the same is measured of a bundle and of the sources.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil

from koc_qt.ui.charts.colors import dark_colors
from tests.bench.window_common import START_TIMEOUT_S, profile, stop_engine, wait_for_engine

WIDTH, HEIGHT = 1920, 1080
LOOK_S = 0.002
PAINTED = 0.5  # the part of the screen that is no longer black: the window takes two thirds
CANDLES = 400  # pixels in the colours of candles


class Screen:
    """An Xvfb whose pixels are looked at without asking it."""

    def __init__(self, number: int) -> None:
        self.environment = {**os.environ, "DISPLAY": f":{number}", "QT_QPA_PLATFORM": "xcb"}
        for name in ("WAYLAND_DISPLAY", "KOC_HOME"):
            self.environment.pop(name, None)
        colours = dark_colors()
        self._candles = [each.rgb() & 0xFFFFFF for each in (colours.up, colours.down)]
        self._folder = Path(tempfile.mkdtemp())
        ready, told = os.pipe()
        words = ["Xvfb", f":{number}", "-screen", "0", f"{WIDTH}x{HEIGHT}x24", "-fbdir", str(self._folder)]
        self._server = subprocess.Popen(
            [*words, "-nolisten", "tcp", "-displayfd", str(told)],
            pass_fds=(told,),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(told)
        self._told = os.fdopen(ready, "rb")  # the server ends where nobody reads all it says
        if not select.select([ready], [], [], START_TIMEOUT_S)[0] or not self._told.readline():
            raise SystemExit(f"Xvfb does not start on :{number}: choose another --display")
        with (self._folder / "Xvfb_screen0").open("rb") as file:
            self._memory = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)

    def pixels(self) -> np.ndarray:
        """Give the colours on the screen, rows of numbers."""
        size = WIDTH * HEIGHT * 4
        found = np.frombuffer(self._memory, np.uint32, WIDTH * HEIGHT, len(self._memory) - size)
        return found.reshape(HEIGHT, WIDTH) & 0xFFFFFF

    def is_painted(self) -> bool:
        """Tell whether there is a window."""
        some = self.pixels()[::20, ::20]
        return bool(np.count_nonzero(some) > PAINTED * some.size)

    def has_candles(self) -> bool:
        """Tell whether there is a chart with bars."""
        return bool(np.isin(self.pixels(), self._candles).sum() > CANDLES)

    def close(self) -> None:
        """End it."""
        self._server.terminate()
        self._server.wait()
        self._told.close()
        shutil.rmtree(self._folder)


@contextlib.contextmanager
def screen(number: int) -> Iterator[Screen]:
    """Give a screen."""
    made = Screen(number)
    try:
        yield made
    finally:
        made.close()


def measure(program: list[str], home: Path, seen: Screen) -> dict[str, float]:
    """Start a window on a profile; give the milliseconds until it was painted, and until a chart had bars.

    Its own processor time until then is told too, which a busy machine changes less.
    """
    environment = {**seen.environment, "KOC_HOME": str(home)}
    began = time.perf_counter()
    process = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
    found: dict[str, float] = {}
    looks = [("window", seen.is_painted), ("candle", seen.has_candles)]
    try:
        for name, look in looks:
            while not look():
                time.sleep(LOOK_S)
                if time.perf_counter() - began > START_TIMEOUT_S or process.poll() is not None:
                    raise SystemExit(f"{program[0]}: no {name} within {time.perf_counter() - began:.1f} s")
            found[name] = (time.perf_counter() - began) * 1e3
            with contextlib.suppress(psutil.NoSuchProcess):
                spent = psutil.Process(process.pid).cpu_times()
                found[f"{name}'s processor"] = (spent.user + spent.system) * 1e3
        return found
    finally:
        process.terminate()
        process.wait(30)


def evict(folder: Path) -> None:
    """Drop a program's files from the page cache, but for those that other processes have mapped."""
    os.sync()
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def installed(program: list[str], display: int, runs: int, folder: Path | None) -> None:
    """Measure an installed program and print what was found; with `folder`, also with nothing of it in memory."""
    found: dict[str, list[dict[str, float]]] = {}
    with profile() as home:
        for case in ("first", "warm", *(("evicted",) if folder else ())):
            for _ in range(1 if case == "first" else runs):
                if case == "evicted" and folder is not None:
                    stop_engine(home)  # it has the same files open
                    evict(folder)
                with screen(display) as seen:
                    found.setdefault(case, []).append(measure(program, home, seen))
                wait_for_engine(home)
    words = {"first": "an empty profile, starts its engine", "warm": "engine running", "evicted": "nothing in memory"}
    for case, measured in found.items():
        for name in measured[0]:
            values = [each[name] for each in measured]
            line = f"{statistics.median(values):6.0f} ms [{min(values):.0f}-{max(values):.0f}]"
            print(f"{case:8}{name:20}{line}  ({words[case]})")
