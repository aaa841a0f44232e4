"""Bars of one instrument and timeframe, as they close, in order, without gap or double.

They are built from the live trades, and mended from history where the stream was not whole.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from loguru import logger

from koc_qt.domain.bars import BarBuilder
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Trade
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.engine.history import HistoryService
from koc_qt.ports.bars import BarSeries, Span

MEND_TIMEOUT_S = 20.0  # then the bars that the stream has are handed on, and the log says what is missing
MEND_TRIES = 5  # a venue may need a moment to publish a bar that has just closed
MEND_PAUSE_S = 0.5
WAITING_LIMIT = 10_000  # closed bars kept while history is asked; beyond it the wait is given up

BarListener = Callable[[Bar], None]


class LiveBars:
    """Builds the bars of one series. All methods run on the engine's loop.

    A bar is whole when the stream ran from its opening to its close. One that is not is fetched from history once it
    has closed; the bars after it wait for it.
    """

    def __init__(
        self, instrument: InstrumentId, timeframe: str, history: HistoryService, on_closed: BarListener
    ) -> None:
        self.series = BarSeries(instrument, timeframe)
        self._history = history
        self._on_closed = on_closed
        self._duration_ns = duration_ns(timeframe)
        self._builder = BarBuilder(instrument, timeframe)
        self._whole_from_ns: int | None = None  # bars that open here or later are whole; None while the stream is down
        self._broken_from_ns: int | None = None  # the first bar that has to come from history
        self._waiting: deque[Bar] = deque()
        self._mending: asyncio.Task[None] | None = None
        self._last_open_ns = -1

    @property
    def forming(self) -> Bar | None:
        """The bar that has not closed yet."""
        return self._builder.forming

    def connected(self, time_ns: int) -> None:
        """The stream runs from now on."""
        opening = bar_open_ns(time_ns, self.series.timeframe)
        if self._broken_from_ns is None:
            self._broken_from_ns = opening
        self._whole_from_ns = opening + self._duration_ns

    def interrupted(self, time_ns: int) -> None:
        """The stream is down: what is forming will not be whole."""
        if self._whole_from_ns is not None:
            opening = bar_open_ns(time_ns, self.series.timeframe)
            self._broken_from_ns = opening if self._broken_from_ns is None else min(self._broken_from_ns, opening)
            self._whole_from_ns = None

    def trade(self, trade: Trade) -> None:
        """Take a live trade."""
        for bar in self._builder.add(trade):
            self._closed(bar)

    def passed(self, time_ns: int) -> None:
        """The venue's clock has reached this time, with or without trades."""
        for bar in self._builder.close_until(time_ns):
            self._closed(bar)
        whole = self._whole_from_ns
        if self._broken_from_ns is not None and whole is not None and time_ns >= whole and self._mending is None:
            span = Span(self._broken_from_ns, whole)
            self._mending = asyncio.create_task(self._mend(span), name=f"mend-{self.series.instrument}")

    def close(self) -> None:
        """Stop mending; nothing is handed on any more."""
        if self._mending is not None:
            self._mending.cancel()
        self._waiting.clear()

    def _closed(self, bar: Bar) -> None:
        if self._broken_from_ns is not None and bar.open_time_ns >= self._broken_from_ns:
            if len(self._waiting) < WAITING_LIMIT:
                self._waiting.append(bar)
                return
            self._give_up("too many bars are waiting")
        self._hand_on(bar)

    def _hand_on(self, bar: Bar) -> None:
        if bar.open_time_ns > self._last_open_ns:
            self._last_open_ns = bar.open_time_ns
            self._on_closed(bar)

    async def _mend(self, span: Span) -> None:
        error: BaseException | None = None
        try:
            async with asyncio.timeout(MEND_TIMEOUT_S):
                bars = await self._fetch(span)
        except (KocError, TimeoutError) as problem:
            error = problem
        finally:
            self._mending = None
        if error is not None:
            self._give_up(str(error) or "history did not answer in time")
            return
        self._broken_from_ns = None if self._whole_from_ns == span.until_ns else self._broken_from_ns
        waiting, self._waiting = list(self._waiting), deque()
        for bar in bars:
            self._hand_on(bar)
        for bar in waiting:
            if bar.open_time_ns >= span.until_ns:
                self._closed(bar)

    async def _fetch(self, span: Span) -> list[Bar]:
        heard = {bar.open_time_ns for bar in self._waiting if bar.open_time_ns < span.until_ns}
        bars: list[Bar] = []
        for _ in range(MEND_TRIES):
            bars = list(await self._history.bars(self.series, span))
            if heard <= {bar.open_time_ns for bar in bars}:
                break
            await asyncio.sleep(MEND_PAUSE_S)
        return bars

    def _give_up(self, reason: str) -> None:
        logger.warning(
            "{} {}: bars since {} could not be completed from history ({}); they are as the live stream saw them",
            self.series.instrument, self.series.timeframe, self._broken_from_ns, reason,
        )  # fmt: skip
        self._broken_from_ns = None
        waiting, self._waiting = list(self._waiting), deque()
        for bar in waiting:
            self._hand_on(bar)
