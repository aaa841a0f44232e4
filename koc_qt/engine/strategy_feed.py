"""The market as one strategy sees it: history to warm up with, then the live stream, without gap or double."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Quote, Trade
from koc_qt.domain.state import StrategySpec
from koc_qt.engine.services import Services
from koc_qt.ports.bars import BarSeries
from koc_qt.sdk.channel import BarClosed, Described, HostMessage, QuoteUpdate, TradeUpdate

WARMUP_LIMIT = 20_000  # bars in all: the worker's queue holds some 40,000
WARMUP_PAGE = 500  # bars sent before others get their turn


class StrategyFeed:
    """Sends a worker what its strategy subscribed to, of the instruments that it was started on."""

    def __init__(
        self,
        spec: StrategySpec,
        services: Services,
        owner: str,
        send: Callable[[HostMessage], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._strategy_id = spec.strategy_id
        self._instruments = spec.instruments
        self._timeframe = spec.timeframe
        self._services = services
        self._owner = owner
        self._send = send
        self._log = log
        self._ends: list[Callable[[], None]] = []
        self._is_closed = False
        self._last_bar_ns: dict[InstrumentId, int] = {}
        self._backlog: list[Bar] | None = []  # bars that closed before the warm-up was sent

    async def start(self, described: Described) -> None:
        """Warm the strategy up with history, then let the live market flow. Raises BadTimeframe, VenueError."""
        self._timeframe = self._timeframe or described.timeframe
        market, kinds = self._services.market_data, described.subscriptions
        if "bars" in kinds:
            for instrument in self._instruments:
                self._listen(market.listen(Bar, instrument, self._bar))
                await market.hold_bars(instrument, self._timeframe, self._owner)
            await self._warm_up(described.warmup_bars)
        for instrument in self._instruments:
            if "quotes" in kinds:
                self._listen(market.listen(Quote, instrument, self._quote))
            if "trades" in kinds:
                self._listen(market.listen(Trade, instrument, self._trade))

    def close(self) -> None:
        """Send nothing more."""
        self._is_closed = True
        for end in self._ends:
            end()
        self._ends.clear()

    def _listen(self, end: Callable[[], None]) -> None:
        self._ends.append(end)
        if self._is_closed:
            self.close()

    async def _warm_up(self, count: int) -> None:
        """Send history of all instruments in the order of time, then what closed live meanwhile."""
        limit = WARMUP_LIMIT // len(self._instruments)
        if count > limit:
            self._log("WARNING", f"it asks for {count} bars to warm up with, and gets {limit}")
        past = [bar for instrument in self._instruments for bar in await self._past(instrument, min(count, limit))]
        past.sort(key=lambda bar: bar.open_time_ns)
        for number, bar in enumerate(past, start=1):
            self._send_bar(bar, warmup=True)
            if number % WARMUP_PAGE == 0:
                await asyncio.sleep(0)
        backlog, self._backlog = self._backlog or (), None
        for bar in backlog:
            self._send_bar(bar, warmup=False)

    async def _past(self, instrument: InstrumentId, count: int) -> list[Bar]:
        """Give the newest closed bars, as many as there are."""
        if count < 1:
            return []
        # a series that others hold may have closed a bar just now that history does not have yet
        newest = self._services.store.bars.get((instrument, self._timeframe))
        try:
            past = list(await self._services.history.last(BarSeries(instrument, self._timeframe), count))
        except KocError as error:
            self._log("WARNING", f"no history of {instrument} {self._timeframe} to warm up with: {error}")
            return []
        if newest is not None and past and newest.open_time_ns > past[-1].open_time_ns:
            past.append(newest)
        return past

    def _quote(self, quote: Quote) -> None:
        self._send(QuoteUpdate(quote))

    def _trade(self, trade: Trade) -> None:
        self._send(TradeUpdate(trade))

    def _bar(self, bar: Bar) -> None:
        if bar.timeframe != self._timeframe:
            return
        if self._backlog is not None:
            self._backlog.append(bar)
        else:
            self._send_bar(bar, warmup=False)

    def _send_bar(self, bar: Bar, *, warmup: bool) -> None:
        if bar.open_time_ns > self._last_bar_ns.get(bar.instrument, -1):
            self._last_bar_ns[bar.instrument] = bar.open_time_ns
            self._services.saw_bar(self._strategy_id, self._owner, bar, warmup)
            self._send(BarClosed(bar, warmup))
