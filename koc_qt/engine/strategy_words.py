"""What a strategy says in words: kept short, kept on its own lines, and kept from flooding."""

from __future__ import annotations

from loguru import logger

from koc_qt.engine.bus import Bus
from koc_qt.link.messages import LogRecorded
from koc_qt.ports.clock import Clock

SOURCE = "strategy"  # of their lines in the log: on the bus they have the strategy's id
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
LINES_PER_S = 100.0  # the worker itself lets 50 through; a file that gets round it meets this
LINES_BURST = 400.0
LONGEST_LINE = 20_000  # characters; a traceback has 16,000 at most
LONGEST_REASON = 2_000
LONGEST_NAME = 64


def clip(text: str, longest: int) -> str:
    """Give the text, or its beginning and how much more there was."""
    more = len(text) - longest
    return text if more <= 0 else f"{text[:longest]}... ({more} more characters)"


def name_of(text: str) -> str:
    """Give a name that fits one cell of a table: one line of printable characters."""
    return "".join(character if character.isprintable() else "?" for character in text[:LONGEST_NAME]).strip()


class Allowance:
    """Lets `rate_hz` things a second pass, `burst` at once."""

    def __init__(self, rate_hz: float, burst: float, clock: Clock) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._filled_ns = clock.monotonic_ns()

    def take(self) -> bool:
        """Tell whether one more may pass now."""
        now_ns = self._clock.monotonic_ns()
        self._left = min(self._burst, self._left + (now_ns - self._filled_ns) / 1e9 * self._rate_hz)
        self._filled_ns = now_ns
        if self._left < 1:
            return False
        self._left -= 1
        return True


class StrategyLog:
    """The log of one strategy, in the engine's log and on the bus. What is beyond the allowance is counted."""

    def __init__(self, strategy_id: str, bus: Bus, clock: Clock) -> None:
        self._strategy_id = strategy_id
        self._bus = bus
        self._clock = clock
        self._allowance = Allowance(LINES_PER_S, LINES_BURST, clock)
        self._dropped = 0

    def write(self, level: str, text: str) -> None:
        """Write a line; an unknown level counts as INFO."""
        if not self._allowance.take():
            self._dropped += 1
            return
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self._write("WARNING", f"{dropped} log lines were dropped: a strategy may write {LINES_PER_S:g} a second")
        self._write(level if level in LEVELS else "INFO", clip(text, LONGEST_LINE))

    def _write(self, level: str, text: str) -> None:
        # further lines are indented, so that none can pass for a line of somebody else's
        shown = text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", "\n    ")
        logger.bind(source=SOURCE, strategy=self._strategy_id).log(level, "[{}] {}", self._strategy_id, shown)
        self._bus.publish(LogRecorded(self._clock.time_ns(), level, self._strategy_id, text))
