"""Signals of the operating system that ask a process to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_signals(loop: asyncio.AbstractEventLoop, ask_to_stop: Callable[[str], None]) -> Iterator[None]:
    """Turn Ctrl-C, SIGTERM and a closed terminal into a stop in order; a second one is no different.

    `kill -9` loses nothing either. Started with nohup, the engine goes on without a terminal.
    """

    def received(number: int, _: object) -> None:
        loop.call_soon_threadsafe(ask_to_stop, f"{signal.Signals(number).name} received")

    with handled(received):
        yield


@contextlib.contextmanager
def handled(received: Callable[[int, object], None]) -> Iterator[None]:
    """Have a function called for each signal that asks to stop, and not for a closed terminal that is to be ignored."""
    numbers = [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    if sys.platform == "win32":
        numbers.append(signal.SIGBREAK)  # Ctrl-Break, and a console that is closed
    before = {number: signal.signal(number, received) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
