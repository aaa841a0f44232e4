"""How much of the present turn of the window's loop is used up, for work that may as well wait for the next.

In one turn Qt runs everything that is due: a paint, what the engine says, and every timer, those too that became due
while it painted. Who can wait looks here first. Where the loop does not say when a turn begins, nobody waits.
"""

from __future__ import annotations

from time import perf_counter_ns

USED_NS = 5_000_000  # of 16 ms: what waits takes some 3 ms, and a step of it may be longer
MOST_WAITS = 4  # in a row; a window that is always busy must not keep anybody waiting for ever

_began_ns: int | None = None


def turn_began(is_known: bool = True) -> None:
    """Note that a turn begins now, or that nobody says so any more. For ui/frame_monitor.py, which knows."""
    global _began_ns
    _began_ns = perf_counter_ns() if is_known else None


def is_known() -> bool:
    """Whether the loop says when its turns begin."""
    return _began_ns is not None


class Patience:
    """Tells one piece of work when to wait, for at most so many turns in a row."""

    def __init__(self, most_waits: int = MOST_WAITS) -> None:
        self._most_waits = most_waits
        self._waits = 0

    def waits(self) -> bool:
        """Whether it should come back in another turn, as this one is used up; each call counts as one occasion."""
        is_used_up = _began_ns is not None and perf_counter_ns() - _began_ns > USED_NS
        if not is_used_up or self._waits == self._most_waits:
            self._waits = 0
            return False
        self._waits += 1
        return True
