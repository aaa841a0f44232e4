"""Asking through a client library that blocks: in threads, bounded, again where that can help, errors in our words."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from enum import StrEnum
from typing import Any, TypeVar

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.rate_budget import Priority, RateBudget
from koc_qt.domain.errors import VenueError, VenueTimeout, VenueUnavailable
from koc_qt.ports.clock import Clock
from koc_qt.resilience import SAFE_TO_REREAD, Breaker, transient_retry
from koc_qt.scrub import scrub

T = TypeVar("T")

LONGEST_WORDS = 300  # characters of a venue's own words that an error repeats
_RUNNING_LIMIT = 100  # requests in threads, or waiting for one
_CLOSE_S = 1.0
_WITHIN_S = 30.0  # for a request's turn where a plan allows few


class Trouble(StrEnum):
    """Why a venue cannot be asked; the text is what a person reads."""

    NAME = "its name could not be looked up; check the network and its DNS"
    UNREACHABLE = "no connection could be made; check the network"
    TRUST = (
        "whoever answers is not the venue (a bad certificate); a log-in page of this network or a proxy may stand "
        "between"
    )
    PAGE = (
        "a web page came instead of data; the venue may be down, or a log-in page of this network may stand between: "
        "open a browser to see"
    )
    DOWN = "it has trouble of its own or is in maintenance; try again later"
    BROKEN = "the connection broke off, or the answer cannot be used; try again later"


def words(error: object) -> str:
    """Give a text without secrets, in one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return scrub(text)[:LONGEST_WORDS]


def unavailable(venue: str, what: str, trouble: Trouble, error: object = "") -> VenueUnavailable:
    """Make the error for a request, named by `what`, that certainly had no answer of use."""
    said = f" ({words(error)})" if error else ""
    return VenueUnavailable(f"{venue} cannot be reached ({what}): {trouble.value}{said}")


def slow_down(venue: str, what: str, pause_s: float) -> VenueUnavailable:
    """Make the error for a request that was one too many."""
    error = VenueUnavailable(f"{venue} asks us to slow down and wait {math.ceil(pause_s)} s ({what})")
    error.retry_after_s = pause_s
    return error


async def still_running(futures: Collection[asyncio.Future[Any]], within_s: float) -> set[asyncio.Future[Any]]:
    """Wait a moment for what nobody asks for any more; gives what has not ended."""
    if not futures:
        return set()
    ended, running = await asyncio.wait(futures, timeout=within_s)
    for each in ended:
        each.cancelled() or each.exception()  # or asyncio says that nobody has asked
    return running


class Reader:
    """Asks a blocking client library: in few threads, bounded, again where that can help, counted by the breaker.

    `explain` turns what the library raises into one of our errors; the library's own time-outs end its threads.
    """

    def __init__(
        self,
        venue: str,
        clock: Clock,
        breaker: Breaker,
        timeouts: Timeouts,
        explain: Callable[[str, Exception], VenueError],
        *,
        threads: int = 4,
    ) -> None:
        self.venue = venue
        self.breaker = breaker
        self.budget = RateBudget(venue, clock, ())
        self._timeouts = timeouts
        self._explain = explain
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=venue)
        self._running: set[Future[Any]] = set()

    async def read(self, what: str, call: Callable[[], T], *, attempts: int = 3, within_s: float = _WITHIN_S) -> T:
        """Ask something that changes nothing there; waits up to `within_s` for its turn. Raises VenueError."""
        has_turn = True

        async def attempt() -> T:
            nonlocal has_turn
            if not has_turn:
                await self.budget.acquire(Priority.DATA, within_s=self._bound_s)
            has_turn = False
            return await self.breaker.call(lambda: self.once(what, call))

        attempt.__name__ = what  # for the error when time is up
        again = transient_retry(
            attempts=attempts,
            total_s=2.5 * self._timeouts.request_s,  # less than an open breaker would have us wait
            first_wait_s=self._timeouts.first_backoff_s,
            on=SAFE_TO_REREAD,
        )
        await self.budget.acquire(Priority.DATA, within_s=within_s)
        return await again(attempt)()

    @property
    def _bound_s(self) -> float:
        return 2 * self._timeouts.request_s  # a request may need a cookie first, or have to wait for a thread

    async def once(self, what: str, call: Callable[[], T]) -> T:
        """Run it in a thread, not counted by anybody. Raises VenueError."""
        if len(self._running) >= _RUNNING_LIMIT:
            raise VenueUnavailable(f"{_RUNNING_LIMIT} requests to {self.venue} are on their way already")
        future = self._pool.submit(call)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        try:
            async with asyncio.timeout(self._bound_s) as bound:
                return await asyncio.wrap_future(future)
        except Exception as error:
            if isinstance(error, TimeoutError) and bound.expired():
                raise VenueTimeout(f"{self.venue} did not answer in time ({what})") from error
            raise error if isinstance(error, VenueError) else self._explain(what, error) from error

    async def close(self, last: Callable[[], None]) -> None:
        """Take nothing more, and call `last` in a thread when what is under way there has ended.

        Both are waited for a moment: what hangs ends with its own time-out, and nobody needs it any more.
        """
        self.budget.close()
        for future in list(self._running):
            future.cancel()
        for each in await still_running([asyncio.wrap_future(future) for future in list(self._running)], _CLOSE_S):
            each.cancel()
        ending = self._pool.submit(last)
        self._pool.shutdown(wait=False)
        done, _ = await asyncio.wait([asyncio.wrap_future(ending)], timeout=_CLOSE_S)
        for each in done:
            each.result()
