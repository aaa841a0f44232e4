"""Strategies written as one coroutine, stepped by hand: no event loop, and the same run again from the same events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Bar, Quote, Trade
from koc_qt.sdk.orders import OrderHandle
from koc_qt.sdk.trading import AnyInstrument, Trading

if TYPE_CHECKING:
    from koc_qt.sdk.session import Session

MarketData = Bar | Quote | Trade
M = TypeVar("M", Bar, Quote, Trade)

BUFFERED_EVENTS = 10_000  # kept for a run() that waits for something else; beyond it the oldest make way
_SHORTEST_SLEEP_S = 0.001  # so that a loop of sleep(0) lets messages in
_HISTORY_TIMEOUT_S = 30.0


class Wait:
    """What a script awaits: a condition, or a point in time, whichever comes first."""

    __slots__ = ("condition", "deadline_ns")

    def __init__(self, condition: Callable[[], bool], deadline_ns: int | None = None) -> None:
        self.condition = condition
        self.deadline_ns = deadline_ns

    def __await__(self) -> Generator[Wait, None, None]:
        yield self

    def is_over(self, now_ns: int) -> bool:
        """Whether the script may go on."""
        return self.condition() or (self.deadline_ns is not None and now_ns >= self.deadline_ns)


class Script:
    """Drives one coroutine from wait to wait."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._wait: Wait | None = Wait(lambda: True)

    @property
    def finished(self) -> bool:
        """Whether the coroutine has returned."""
        return self._wait is None

    @property
    def deadline_ns(self) -> int | None:
        """When it must be stepped at the latest, UTC nanoseconds."""
        return None if self._wait is None else self._wait.deadline_ns

    def step(self, now_ns: int) -> None:
        """Run the coroutine for as long as what it awaits has come. Raises whatever it raises."""
        while self._wait is not None and self._wait.is_over(now_ns):
            self._wait = self._resume()

    def _resume(self) -> Wait | None:
        try:
            awaited = self._coroutine.send(None)
            if not isinstance(awaited, Wait):
                awaited = self._coroutine.throw(
                    StrategyError("run() may await only what api and data give: there is no asyncio in a strategy")
                )
        except StopIteration:
            return None
        except BaseException:
            self._wait = None
            raise
        if isinstance(awaited, Wait):
            return awaited
        self._coroutine.close()
        raise StrategyError("run() goes on awaiting what neither api nor data gave")

    def close(self) -> None:
        """End the coroutine where it stands; its finally blocks run. Raises StrategyError where those await."""
        self._wait = None
        try:
            self._coroutine.close()
        except RuntimeError as error:
            raise StrategyError("run() awaits while it is being ended: a finally block must not await") from error


class Data:
    """Market data for run(), in order: ``async for event in data`` or ``await data.bar()``.

    What comes while the script awaits something else is kept, up to 10,000 events; `dropped` counts what made way.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: deque[tuple[MarketData, bool]] = deque(maxlen=BUFFERED_EVENTS)
        self.dropped = 0

    def push(self, event: MarketData, warmup: bool) -> None:
        """Keep an event for the script."""
        self.dropped += len(self._events) == BUFFERED_EVENTS
        self._events.append((event, warmup))

    def __aiter__(self) -> Data:
        return self

    async def __anext__(self) -> MarketData:
        return await self.next()

    async def next(self) -> MarketData:
        """Give the next bar, quote or trade."""
        if not self._events:
            await Wait(lambda: bool(self._events))
        event, warmup = self._events.popleft()
        self._session.set_warming_up(warmup)
        return event

    async def bar(self) -> Bar:
        """Give the next closed bar; quotes and trades before it are passed over."""
        return await self._next_of(Bar)

    async def quote(self) -> Quote:
        """Give the next quote; bars and trades before it are passed over."""
        return await self._next_of(Quote)

    async def trade(self) -> Trade:
        """Give the next trade; bars and quotes before it are passed over."""
        return await self._next_of(Trade)

    async def _next_of(self, kind: type[M]) -> M:
        while not isinstance(event := await self.next(), kind):
            pass
        return event


class Api(Trading):
    """All that a strategy can do, and what only a coroutine can: wait."""

    def __init__(self, session: Session) -> None:
        self._koc_session = session

    async def sleep(self, seconds: float) -> None:
        """Wait; at least a millisecond."""
        await Wait(lambda: False, self._deadline(max(seconds, _SHORTEST_SLEEP_S)))

    async def until(self, condition: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until `condition()` is true, asked after everything that happens; False after `timeout` seconds."""
        await Wait(condition, self._deadline(timeout))
        return condition()

    async def filled(self, order: OrderHandle, timeout: float | None = None) -> bool:
        """Wait until nothing more comes of an order; True when it was filled whole, False if not or after `timeout`."""
        await self.until(lambda: not order.is_open, timeout)
        return not order.is_open and not order.remaining

    async def history(
        self, count: int, timeframe: str | None = None, *, instrument: AnyInstrument | None = None
    ) -> list[Bar]:
        """Give the last `count` closed bars of any timeframe, at most 5,000, oldest first, asked of the engine.

        Raises StrategyError when there are none to be had, or no answer within 30 seconds.
        """
        answer = self._session.request_history(count, timeframe, self._session.resolve(instrument).id)
        await self.until(answer.is_there, _HISTORY_TIMEOUT_S)
        return self._session.take_history(answer)

    def _deadline(self, seconds: float | None) -> int | None:
        return None if seconds is None else self.time_ns + round(seconds * 1e9)
