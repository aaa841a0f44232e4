"""Keeps Python's garbage collector from stopping the window, which its full collections do for 40 ms."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def collector_at_rest() -> Iterator[Callable[[], None]]:
    """Collect nothing while a process loads; give what to call once all that stays is there (again does nothing).

    What is there by then is not looked at any more, so that collections take as long as what came later deserves. It is
    not collected either, which would take 40 ms for the 30 kB of garbage that loading a window leaves. In the end
    everything is as usual.
    """
    is_loading = True

    def loaded() -> None:
        nonlocal is_loading
        if is_loading:
            is_loading = False
            gc.freeze()
            gc.enable()

    gc.disable()
    try:
        yield loaded
    finally:
        is_loading = False
        gc.unfreeze()
        gc.enable()
