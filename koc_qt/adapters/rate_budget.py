"""One budget of requests an account, shared by everything that asks its venue: cancels first, data last.

A venue counts weights over spans of time and bans whoever exceeds them. The budget keeps the sum of every rolling span
below its limit, so that a venue's fixed spans are kept too, and leaves the last part of it to what is urgent: while
data has used up its share, an order goes out at once.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Sequence
from enum import IntEnum

import msgspec

from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.venues import Quota
from koc_qt.ports.clock import Clock

_S = 1_000_000_000
WAITING_LIMIT = 1_000  # requests; one more is refused: it would be out of date when its turn came


class Priority(IntEnum):
    """Whose turn it is when not all can be sent."""

    CANCEL = 0
    ORDER = 1
    QUERY = 2
    DATA = 3


# How much of each limit a priority may use up; the rest is kept free for those before it.
SHARES = {Priority.CANCEL: 1.0, Priority.ORDER: 0.95, Priority.QUERY: 0.8, Priority.DATA: 0.6}


class Span(msgspec.Struct, frozen=True):
    """At most `limit` within `seconds`, of weight or else of requests; `kinds` are those that it counts.

    `name` is for `used` and `told`.
    """

    name: str
    limit: int
    seconds: float
    by_weight: bool = True
    kinds: tuple[Priority, ...] = tuple(Priority)

    @property
    def what(self) -> str:
        """What it counts, for people: orders, where it counts no questions, else requests."""
        return "requests" if Priority.QUERY in self.kinds else "orders"


class _Window:
    def __init__(self, span: Span) -> None:
        self.span = span
        self._span_ns = round(span.seconds * _S)
        self._spent: deque[tuple[int, int]] = deque()  # when, how much
        self.used = 0

    def forget(self, now_ns: int) -> None:
        horizon = now_ns - self._span_ns
        while self._spent and self._spent[0][0] <= horizon:
            self.used -= self._spent.popleft()[1]

    def spend(self, now_ns: int, weight: int) -> None:
        if weight:
            self._spent.append((now_ns, weight))
            self.used += weight

    def cost(self, priority: Priority, weight: int) -> int:
        """Give how much a request counts here."""
        return 0 if priority not in self.span.kinds else weight if self.span.by_weight else 1

    def wait_ns(self, now_ns: int, priority: Priority, weight: int) -> int:
        """Give how long until a request fits; 0 when it does now. More than the whole share waits for an empty span."""
        cost = self.cost(priority, weight)
        if not cost:
            return 0
        self.forget(now_ns)
        most = max(self.span.limit * SHARES[priority] - cost, 0.0)
        over = self.used
        for when, spent in self._spent:
            if over <= most:
                break
            over -= spent
            freed_ns = when + self._span_ns
        return 0 if self.used <= most else max(freed_ns - now_ns, 1)


class RateBudget:
    """Lets requests through by priority, then by age, as the venue's limits allow. For the loop's thread alone."""

    def __init__(self, venue: str, clock: Clock, spans: Sequence[Span]) -> None:
        self.venue = venue
        self._clock = clock
        self._windows = {span.name: _Window(span) for span in spans}
        self._waiting: list[tuple[Priority, int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._held_until_ns = 0
        self._timer: asyncio.TimerHandle | None = None
        self.on_change: Callable[[], None] | None = None  # it is held, or no longer

    @property
    def held_s(self) -> float:
        """Seconds for which the venue has asked to be left alone; 0 when it has not."""
        return max(self._held_until_ns - self._clock.monotonic_ns(), 0) / _S

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """Give how much of each span is used up now."""
        return tuple(
            Quota(window.span.what, self.used(name), window.span.limit, window.span.seconds)
            for name, window in self._windows.items()
        )

    def used(self, name: str) -> int:
        """Give how much of a span is used up now."""
        window = self._windows[name]
        window.forget(self._clock.monotonic_ns())
        return window.used

    async def acquire(self, priority: Priority, weight: int = 1, *, within_s: float = 10.0) -> None:
        """Wait for the turn of a request, and count it as sent.

        Raises VenueUnavailable, nothing counted, where its turn cannot come in time: at once while the venue is to be
        left alone for longer.
        """
        if self.held_s > within_s:
            raise self._refusal(f"{self.venue} asked to be left alone; it is asked again in {self.held_s:.0f} s")
        if self._is_first(priority) and self._wait_ns(priority, weight) == 0:
            self._spend(priority, weight)
            return
        if len(self._waiting) >= WAITING_LIMIT:
            raise self._refusal(f"{WAITING_LIMIT} requests wait for the rate limit of {self.venue} already")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._waiting, (priority, self._count, weight, turn))
        self._let_through()
        try:
            async with asyncio.timeout(within_s):
                await turn
        except TimeoutError as error:
            raise self._refusal(f"the rate limit of {self.venue} left no room within {within_s:g} s") from error
        finally:
            self._waiting = [each for each in self._waiting if each[3] is not turn]
            heapq.heapify(self._waiting)
            self._let_through()

    def told(self, name: str, used: int) -> None:
        """Take what the venue says is used of a span: others may share its limit with us. Less than we know is old."""
        window = self._windows.get(name)
        if window is not None:
            now_ns = self._clock.monotonic_ns()
            window.forget(now_ns)
            window.spend(now_ns, max(used - window.used, 0))

    def hold(self, seconds: float) -> None:
        """Send nothing for so long: the venue asked for it (429, 418, Retry-After)."""
        until_ns = self._clock.monotonic_ns() + round(seconds * _S)
        if until_ns > self._held_until_ns:
            self._held_until_ns = until_ns
            self._let_through()
            if self.on_change is not None:
                self.on_change()

    def close(self) -> None:
        """Refuse whatever waits. Safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for *_, turn in self._waiting:
            if not turn.done():
                turn.set_exception(self._refusal(f"the connection to {self.venue} was closed"))

    def _is_first(self, priority: Priority) -> bool:
        """Whether nobody waits who comes before, or as urgent came earlier; who is behind looks again by itself."""
        return not self._waiting or self._waiting[0][0] > priority

    def _wait_ns(self, priority: Priority, weight: int) -> int:
        now_ns = self._clock.monotonic_ns()
        waits = [window.wait_ns(now_ns, priority, weight) for window in self._windows.values()]
        return max(self._held_until_ns - now_ns, 0, *waits)

    def _spend(self, priority: Priority, weight: int) -> None:
        now_ns = self._clock.monotonic_ns()
        for window in self._windows.values():
            window.spend(now_ns, window.cost(priority, weight))

    def _let_through(self) -> None:
        """Wake whose turn it is; who comes later waits behind it unless more urgent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._waiting:
            priority, _, weight, turn = self._waiting[0]
            if not turn.done():
                wait_ns = self._wait_ns(priority, weight)
                if wait_ns:
                    self._timer = asyncio.get_running_loop().call_later(wait_ns / _S, self._let_through)
                    return
                self._spend(priority, weight)
                turn.set_result(None)
            heapq.heappop(self._waiting)

    def _refusal(self, text: str) -> VenueUnavailable:
        error = VenueUnavailable(text)
        error.retry_after_s = self.held_s or None
        return error


class Budgeted:
    """What an account that has a budget says of it."""

    @property
    def budget(self) -> RateBudget:
        """What the account may still ask of its venue; `on_change` hears when the venue asks to be left alone."""
        raise NotImplementedError

    @property
    def held_s(self) -> float:
        """Seconds for which the venue has asked to be left alone; 0 when it has not."""
        return self.budget.held_s

    @property
    def quotas(self) -> tuple[Quota, ...]:
        """How much of the venue's limits is used up now, also by others, where it says so."""
        return self.budget.quotas
