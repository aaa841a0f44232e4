"""Bars of one instrument and timeframe, as they close, in order, without gap or double.

They are built from the live trades, and mended from history where the stream was not whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from loguru import logger

from koc_qt.domain.bars import BarBuilder, merge
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Trade
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.engine.history import HistoryService
from koc_qt.ports.bars import BarSeries, Span

MEND_TIMEOUT_S = 20.0  # then the bars that the stream has are handed on, and the log says what is missing
MEND_TRIES = 5  # a venue may need a moment to publish a bar that has just closed
MEND_PAUSE_S = 0.5
SILENCE_NS = 120_000_000_000  # a stream that is found down may have been so since its last trade, this long at most
WAITING_LIMIT = 10_000  # closed bars kept while history is asked; beyond it the oldest are handed on as they are

BarListener = Callable[[Bar], None]


class LiveBars:
    """Builds the bars of one series. All methods run on the engine's loop.

    A bar is whole when the stream ran from its opening to its close. Those that are not are fetched from history once
    they have closed and the stream runs again; the bars after them wait for it. It begins with the stream down.
    """

    def __init__(
        self, instrument: InstrumentId, timeframe: str, history: HistoryService, on_closed: BarListener, time_ns: int
    ) -> None:
        """Begin at `time_ns` of the venue's clock: the bar of that time is the first that is handed on."""
        self.series = BarSeries(instrument, timeframe)
        self._history = history
        self._on_closed = on_closed
        self._duration_ns = duration_ns(timeframe)
        self._builder = BarBuilder(instrument, timeframe)
        self._whole_from_ns: int | None = None  # bars that open here or later are whole; None while the stream is down
        self._next_open_ns = bar_open_ns(time_ns, timeframe)  # earlier bars were handed on, or are none of ours
        self._broken_from_ns: int | None = self._next_open_ns  # the first bar that has to be asked for
        self._waiting: deque[Bar] = deque()
        self._mending: asyncio.Task[None] | None = None
        self._over_from_ns: int | None = None  # the first bar after the stream's end
        self._traded_ns = time_ns

    @property
    def forming(self) -> Bar | None:
        """The bar that has not closed yet."""
        return self._builder.forming

    def connected(self, time_ns: int) -> None:
        """The stream runs from now on. Said twice, something may be missing between."""
        opening_ns = max(self._opening_ns(time_ns), self._next_open_ns)
        self._break_from(opening_ns if self._over_from_ns is None else self._over_from_ns)
        self._whole_from_ns, self._over_from_ns = opening_ns + self._duration_ns, None

    def interrupted(self, time_ns: int) -> None:
        """The stream is down, since its last trade perhaps: what was forming then, and what follows, is not whole."""
        if self._whole_from_ns is not None:
            since_ns = min(time_ns, max(self._traded_ns, time_ns - SILENCE_NS))
            self._break_from(max(self._opening_ns(since_ns), self._next_open_ns))
            self._whole_from_ns = None

    def ended(self, time_ns: int) -> None:
        """No trade will come, unless it is connected again: the bars up to the end come from history."""
        self.interrupted(time_ns)
        self.connected(time_ns)
        self._over_from_ns = self._whole_from_ns

    def trade(self, trade: Trade) -> None:
        """Take a live trade."""
        self._traded_ns = trade.time_ns
        for bar in self._builder.add(trade):
            self._closed(bar)

    def passed(self, time_ns: int) -> None:
        """The venue's clock has reached this time, with or without trades."""
        for bar in self._builder.close_until(time_ns):
            self._closed(bar)
        broken_ns, whole_ns = self._broken_from_ns, self._whole_from_ns
        if broken_ns is not None and whole_ns is not None and time_ns >= whole_ns and self._mending is None:
            self._broken_from_ns = None
            self._mending = asyncio.create_task(
                self._mend(Span(broken_ns, whole_ns)), name=f"mend {self.series.instrument} {self.series.timeframe}"
            )

    def close(self) -> None:
        """Stop mending; nothing is handed on any more."""
        if self._mending is not None:
            self._mending.cancel()
        self._waiting.clear()

    def _opening_ns(self, time_ns: int) -> int:
        return bar_open_ns(time_ns, self.series.timeframe)

    def _break_from(self, opening_ns: int) -> None:
        """Have the bars from here on come from history."""
        self._broken_from_ns = opening_ns if self._broken_from_ns is None else min(self._broken_from_ns, opening_ns)

    def _closed(self, bar: Bar) -> None:
        if self._mending is None and (self._broken_from_ns is None or bar.open_time_ns < self._broken_from_ns):
            self._hand_on(bar)
            return
        self._waiting.append(bar)
        if len(self._waiting) > WAITING_LIMIT:
            oldest = self._waiting.popleft()
            logger.warning("{} bars of {} wait for history: the oldest is as the stream saw it", WAITING_LIMIT, self)
            self._hand_on(oldest)

    def _hand_on(self, bar: Bar) -> None:
        if bar.open_time_ns >= self._next_open_ns:
            self._next_open_ns = bar.open_time_ns + self._duration_ns
            self._on_closed(bar)

    async def _mend(self, span: Span) -> None:
        """Hand on the bars of the span, from history where it answers, then those that waited for them."""
        bars: Sequence[Bar] = ()
        reason = ""
        try:
            async with asyncio.timeout(MEND_TIMEOUT_S):
                bars = await self._fetch(span)
        except KocError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"history did not answer within {MEND_TIMEOUT_S:g} s"
        except Exception as error:
            logger.exception("history of {} failed in a way nobody foresaw", self)
            reason = type(error).__name__
        waiting, self._waiting = self._waiting, deque()
        self._mending = None
        heard = [bar for bar in waiting if bar.open_time_ns < span.until_ns]
        if lacking := len({bar.open_time_ns for bar in heard} - {bar.open_time_ns for bar in bars}):
            reason = reason or f"it lacks {lacking} of them"
        if reason:
            logger.warning(
                "{}: bars from {} to {} could not be completed from history ({}); they are as the live stream saw them",
                self, span.since_ns, span.until_ns, reason,
            )  # fmt: skip
        for bar in merge(heard, bars):
            self._hand_on(bar)
        for bar in waiting:
            if bar.open_time_ns >= span.until_ns:
                self._closed(bar)

    async def _fetch(self, span: Span) -> Sequence[Bar]:
        for _ in range(MEND_TRIES - 1):
            bars = await self._history.bars(self.series, span)
            heard = {bar.open_time_ns for bar in self._waiting if bar.open_time_ns < span.until_ns}
            if heard <= {bar.open_time_ns for bar in bars}:
                return bars
            await asyncio.sleep(MEND_PAUSE_S)
        return await self._history.bars(self.series, span)

    def __str__(self) -> str:
        return f"{self.series.instrument} {self.series.timeframe}"
