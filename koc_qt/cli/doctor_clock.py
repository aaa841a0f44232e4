"""``koc doctor``: whether the clock is right. Nothing on the network is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from koc_qt.cli.doctor_check import FAIL, OK, WARN, Check

if TYPE_CHECKING:
    from koc_qt.paths import Paths

OLDEST_CLOCK_S = 1_735_689_600  # 2025-01-01: this program is younger, so an earlier clock is wrong
MOST_AHEAD_S = 1.0  # that a venue's time may be in our future
_ASK_TIMEOUT_S = 5.0


def look_at_clock(
    wall: Callable[[], float] | None = None, monotonic: Callable[[], float] | None = None, pause_s: float = 0.2
) -> Check:
    """Look whether the clock is plausible, runs evenly and is kept in time by NTP."""
    import time

    wall, monotonic = wall or time.time, monotonic or time.monotonic
    before_s = wall() - monotonic()
    time.sleep(pause_s)
    moved_s = wall() - monotonic() - before_s
    text = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime(wall()))} UTC, time zone {time.strftime('%Z')}"
    if wall() < OLDEST_CLOCK_S:
        return Check("clock", FAIL, text, "Set the clock: bars and orders would carry a wrong time.")
    if abs(moved_s) > 0.05:
        text += f", moved by {moved_s * 1000:+.0f} ms while it was looked at"
        return Check(
            "clock", WARN, text, "Something sets the clock in steps; let NTP slew it (chrony, systemd-timesyncd)."
        )
    synchronised = is_synchronised()
    if synchronised is False:
        return Check("clock", WARN, f"{text}, not synchronised", _ntp_advice(time_service()))
    return Check("clock", OK, text + (", synchronised" if synchronised else ""))


def look_at_venue_times(paths: Paths, wall: Callable[[], float] | None = None) -> list[Check]:
    """Hold the clock against the times that venues put on fills, where an engine runs that has any.

    They come later than they were made, so that only a clock that is behind can be told.
    """
    import time

    from koc_qt.domain.errors import KocError
    from koc_qt.domain.state import TradingMode
    from koc_qt.link.client import connect

    try:
        with connect(paths.run, paths.keys, name="koc doctor") as client:
            snapshot = client.snapshot
    except (KocError, OSError, TimeoutError):
        return []  # the look at the engine says how it stands with it
    real = {a.account_id for a in snapshot.accounts if a.mode in (TradingMode.TESTNET, TradingMode.LIVE)}
    times = [fill.time_ns for fill in snapshot.fills if fill.account_id in real]
    if not times:
        return []
    ahead_s = max(times) / 1e9 - (wall or time.time)()
    if ahead_s > MOST_AHEAD_S:
        text = f"this clock is at least {ahead_s:.1f} s behind a venue's: its newest fill is in the future"
        return [Check("venue clock", WARN, text, "Turn NTP on: venues refuse requests whose time is wrong.")]
    return [Check("venue clock", OK, "no venue's time is ahead of this clock")]


def time_service(run: Callable[[list[str]], str] | None = None) -> Mapping[str, str]:
    """Ask systemd how the clock is kept (``timedatectl show``); empty where it is not there."""
    try:
        lines = (run or _output)(["timedatectl", "show"]).splitlines()
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _output(command: list[str]) -> str:
    result = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_ASK_TIMEOUT_S, check=True
    )
    return result.stdout


def _ntp_advice(service: Mapping[str, str]) -> str:
    if service.get("CanNTP") == "no":
        return "Install a time service: sudo apt-get install systemd-timesyncd"
    if service.get("NTP") == "yes":
        return "NTP is on and has not set the clock yet: can its servers be reached? (timedatectl timesync-status)"
    return "Turn NTP on: sudo timedatectl set-ntp true"


def is_synchronised() -> bool | None:
    """Tell whether something keeps the clock in time; None: not known."""
    asked = _kernel_says()
    if asked is False:
        # A container often hides its host's state; systemd's mark shows through more often.
        return Path("/run/systemd/timesync/synchronized").exists() or time_service().get("NTPSynchronized") == "yes"
    return asked


def _kernel_says() -> bool | None:
    """Ask the kernel whether its clock is synchronised (adjtimex(2), which reads without changing); None: not known."""
    if sys.platform != "linux":
        return None
    import ctypes

    time_error, unsynchronised, size = 5, 0x40, 256  # TIME_ERROR, STA_UNSYNC, more than struct timex takes
    buffer = ctypes.create_string_buffer(size)
    state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    if state < 0:
        return None
    word = ctypes.sizeof(ctypes.c_long)
    # struct timex begins: unsigned modes; long offset, freq, maxerror, esterror; int status; each aligned to a word.
    status = int.from_bytes(buffer.raw[5 * word : 5 * word + 4], sys.byteorder)
    return not (state == time_error or status & unsynchronised)
