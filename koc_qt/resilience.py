"""Patience with the outside world: retries with jitter, back-off between reconnects, circuit breakers.

Nothing here logs: a refused request's text may hold what no log should, so callers decide what they say. A submit is
never retried: an order whose answer did not come is looked up, not sent again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec, TypeVar

import msgspec
import pybreaker
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception_type,
    stop_after_attempt,
    stop_before_delay,
    wait_random_exponential,
)

from koc_qt.domain.errors import HeldBack, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.ports.clock import Clock

__all__ = [
    "OPEN",
    "SAFE_TO_REPEAT",
    "SAFE_TO_REREAD",
    "Backoff",
    "Breaker",
    "BreakerChange",
    "Breakers",
    "transient_retry",
]

P = ParamSpec("P")
T = TypeVar("T")

# The request certainly never reached the venue, so that sending it again cannot do anything twice.
SAFE_TO_REPEAT: tuple[type[Exception], ...] = (VenueUnavailable, ConnectionRefusedError, socket.gaierror)
# Reading twice changes nothing: what is not known to have arrived may be asked again.
SAFE_TO_REREAD: tuple[type[Exception], ...] = (*SAFE_TO_REPEAT, VenueTimeout, ConnectionError, TimeoutError)

CLOSED, OPEN, HALF_OPEN = pybreaker.STATE_CLOSED, pybreaker.STATE_OPEN, pybreaker.STATE_HALF_OPEN


class _WaitAtLeastAsAsked(wait_random_exponential):
    """Jitter, but never sooner than the other side asked (Retry-After, an open breaker)."""

    def __call__(self, retry_state: RetryCallState) -> float:
        wait_s = super().__call__(retry_state)
        error = retry_state.outcome.exception() if retry_state.outcome else None
        return max(wait_s, getattr(error, "retry_after_s", None) or 0.0)


def transient_retry(
    *,
    attempts: int = 4,
    total_s: float = 30.0,
    first_wait_s: float = 0.5,
    max_wait_s: float = 8.0,
    on: tuple[type[Exception], ...] = SAFE_TO_REPEAT,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Callable[[Callable[P, Awaitable[T]]], Callable[P, Awaitable[T]]]:
    """Make a coroutine function try again after errors that are safe to repeat; never put it round a submit.

    At most `attempts` times within `total_s` seconds, sleeping a random time below `first_wait_s`, 2x, 4x ... up to
    `max_wait_s` in between, or as long as the error's `retry_after_s` asks. Pass SAFE_TO_REREAD as `on` for reads.
    Raises the last error as it was, or VenueTimeout when an attempt still runs after `total_s`.
    """

    def decorate(function: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
        @wraps(function)
        async def retried(*args: P.args, **kwargs: P.kwargs) -> T:
            retrying = AsyncRetrying(
                sleep=sleep,
                stop=stop_after_attempt(attempts) | stop_before_delay(total_s),
                wait=_WaitAtLeastAsAsked(multiplier=first_wait_s, max=max_wait_s),
                retry=retry_if_exception_type(on),
                reraise=True,
            )
            try:
                async with asyncio.timeout(total_s) as bound:
                    return await retrying(function, *args, **kwargs)
            except TimeoutError as error:
                if not bound.expired():
                    raise
                name = getattr(function, "__name__", "the request")
                raise VenueTimeout(f"{name} did not finish within {total_s:g} s; try again later") from error

        return retried

    return decorate


class Backoff:
    """How long to wait before the next reconnect: random, below a ceiling that doubles with every failure in a row."""

    def __init__(self, first_s: float = 0.5, max_s: float = 30.0) -> None:
        self._wait = wait_random_exponential(multiplier=first_s, max=max_s)
        self._state = RetryCallState(AsyncRetrying(), None, (), {})
        self._state.attempt_number = 0

    def next_s(self) -> float:
        """Count a failure and give the seconds to wait after it."""
        self._state.attempt_number += 1
        return self._wait(self._state)

    def reset(self) -> None:
        """Begin anew: the connection worked."""
        self._state.attempt_number = 0


class BreakerChange(msgspec.Struct, frozen=True):
    """A venue's breaker changed state (closed, open, half-open) at `time_ns`, UTC."""

    venue: str
    old: str
    new: str
    time_ns: int


OnChange = Callable[[BreakerChange], None]


class Breaker:
    """A circuit breaker of pybreaker round coroutines.

    Timed by the monotonic clock, so that a wall clock that is set neither opens nor shuts anything. Half-open it lets
    one call through; the others are refused until that one has shown how the venue is. A cancelled call says nothing.
    """

    def __init__(
        self,
        venue: str,
        clock: Clock,
        on_change: OnChange | None = None,
        *,
        fail_max: int = 5,
        reset_timeout_s: float = 30.0,
    ) -> None:
        self.venue = venue
        self._clock = clock
        self._on_change = on_change
        self._reset_ns = round(reset_timeout_s * 1e9)
        self._opened_ns = 0
        self._last_failure = ""  # in words, so that whoever is refused hears what there is to do
        self._trial = False
        # It keeps counts and states; admission is ours, as pybreaker knows coroutines only through tornado.
        self._breaker = pybreaker.CircuitBreaker(
            fail_max=fail_max,
            reset_timeout=reset_timeout_s,
            name=venue,
            throw_new_error_on_trip=False,
            listeners=[_Listener(self._changed)],
        )

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return str(self._breaker.current_state)

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return int(self._breaker.fail_counter)

    async def call(self, function: Callable[[], Awaitable[T]], *, insist: bool = False) -> T:
        """Await `function()` and count how it went. Raises VenueUnavailable, without calling, while open.

        With `insist` it is called even then, and an answer closes the breaker: for what cannot wait because money hangs
        on it, by callers with a back-off of their own. VenueRejected counts as an answer; VenueUnavailable,
        VenueTimeout and errors of the network as failures; HeldBack, and any other error, are ours and count as
        neither.
        """
        was_open = insist and self.state == OPEN
        trial = not insist and self._admit()
        try:
            result = await function()
        except Exception as error:
            self._record(error, was_open=was_open)
            raise
        else:
            self._record(None, was_open=was_open)
            return result
        finally:
            if trial:
                self._trial = False

    def _admit(self) -> bool:
        """Say whether this call is the trial of a half-open breaker. Raises VenueUnavailable."""
        if self.state == OPEN:
            left_s = (self._opened_ns + self._reset_ns - self._clock.monotonic_ns()) / 1e9
            if left_s > 0:
                until = datetime.fromtimestamp(self._clock.time_ns() / 1e9 + left_s, UTC)
                why = f" ({self._last_failure})" if self._last_failure else ""
                raise self._unavailable(
                    f"{self.venue} failed {self._breaker.fail_max} times in a row; it is left alone until "
                    f"{until:%H:%M:%S} UTC and then tried again by itself{why}",
                    left_s,
                )
            self._breaker.half_open()
        if self.state != HALF_OPEN:
            return False
        if self._trial:
            raise self._unavailable(f"{self.venue} is being tried after failures; ask again in a moment", None)
        self._trial = True
        return True

    @staticmethod
    def _unavailable(text: str, retry_after_s: float | None) -> VenueUnavailable:
        error = VenueUnavailable(text)
        error.retry_after_s = retry_after_s
        return error

    def _record(self, error: Exception | None, *, was_open: bool) -> None:
        if isinstance(error, HeldBack):
            return
        answered = error is None or isinstance(error, VenueRejected)
        if self.state == OPEN:
            if answered and was_open:  # else it was opened by another call meanwhile: this one is old news
                self._breaker.close()
        elif answered:
            self._breaker.call(lambda: None)
        elif isinstance(error, (VenueUnavailable, VenueTimeout, ConnectionError, TimeoutError, socket.gaierror)):
            self._last_failure = str(error)
            try:
                self._breaker.call(_raise, error)
            except type(error):
                return  # pybreaker hands back what it counted; our caller raises it

    def _changed(self, old: str, new: str) -> None:
        if new == OPEN:
            self._opened_ns = self._clock.monotonic_ns()
        if self._on_change is not None:
            self._on_change(BreakerChange(self.venue, old, new, self._clock.time_ns()))


def _raise(error: Exception) -> None:
    raise error


class _Listener(pybreaker.CircuitBreakerListener):
    """Passes state changes on by name."""

    def __init__(self, changed: Callable[[str, str], None]) -> None:
        self._changed = changed

    def state_change(
        self,
        cb: pybreaker.CircuitBreaker,
        old_state: pybreaker.CircuitBreakerState | None,
        new_state: pybreaker.CircuitBreakerState,
    ) -> None:
        """Tell the owner."""
        self._changed(old_state.name if old_state else CLOSED, new_state.name)


class Breakers:
    """The engine's breakers, one a venue; `on_change` hears of every change of state, for telemetry."""

    def __init__(
        self, clock: Clock, on_change: OnChange | None = None, *, fail_max: int = 5, reset_timeout_s: float = 30.0
    ) -> None:
        self._clock = clock
        self._on_change = on_change
        self._fail_max = fail_max
        self._reset_timeout_s = reset_timeout_s
        self._by_venue: dict[str, Breaker] = {}

    def breaker(self, venue: str) -> Breaker:
        """Give the venue's breaker, always the same one."""
        if venue not in self._by_venue:
            self._by_venue[venue] = Breaker(
                venue, self._clock, self._on_change, fail_max=self._fail_max, reset_timeout_s=self._reset_timeout_s
            )
        return self._by_venue[venue]

    def states(self) -> dict[str, str]:
        """Give the state of every breaker by venue."""
        return {venue: breaker.state for venue, breaker in self._by_venue.items()}
