"""Keeps Python's garbage collector from stopping the window, which its full collections do for 10 to 40 ms."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

MOST_COLLECTED = 30_000  # objects; to look at so many takes some 3 ms
_NEVER = 2**31 - 1


class Collector:
    """Collects when it is told to, and never what is there to stay; the young are collected as ever."""

    def __init__(self) -> None:
        self._is_loading = True
        self._usual = gc.get_threshold()
        gc.disable()

    def loaded(self) -> None:
        """Note that all that stays is there; again does nothing.

        It is not looked at any more, so that collections take as long as what came later deserves. It is not collected
        either, which would take 40 ms for the 30 kB of garbage that loading a window leaves.
        """
        if self._is_loading:
            self._is_loading = False
            gc.freeze()
            gc.set_threshold(*self._usual[:2], _NEVER)
            gc.enable()

    def look(self) -> None:
        """Collect what has become old; call it every few seconds, when there is time for it.

        Where much has become old, as after an engine came back with thousands of orders, it is there to stay as well.
        """
        if self._is_loading:
            return
        if len(gc.get_objects(generation=2)) > MOST_COLLECTED:
            gc.freeze()
        else:
            gc.collect()

    def end(self) -> None:
        """Have everything as usual."""
        self._is_loading = False
        gc.unfreeze()
        gc.set_threshold(*self._usual)
        gc.enable()


@contextlib.contextmanager
def collector_at_rest() -> Iterator[Collector]:
    """Collect nothing while a process loads, then as the collector it gives is told to; in the end as usual."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.end()
