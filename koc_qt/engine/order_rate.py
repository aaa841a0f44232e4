"""How many orders and changes each strategy has sent of late."""

from __future__ import annotations

from collections import deque

from koc_qt.ports.clock import Clock

_MINUTE_NS = 60_000_000_000


class OrderRate:
    """Counts over the last minute of the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._sent_ns: dict[str, deque[int]] = {}

    def count(self, strategy_id: str) -> None:
        """Take note of one more."""
        self._sent_ns.setdefault(strategy_id, deque()).append(self._clock.monotonic_ns())

    def last_minute(self, strategy_id: str) -> int:
        """Give how many there were in the last minute."""
        sent_ns = self._sent_ns.get(strategy_id, deque())
        since_ns = self._clock.monotonic_ns() - _MINUTE_NS
        while sent_ns and sent_ns[0] < since_ns:
            sent_ns.popleft()
        return len(sent_ns)
