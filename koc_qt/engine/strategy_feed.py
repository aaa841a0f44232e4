"""The market as one strategy sees it: history to warm up with, then the live stream, without gap or double."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Quote, Trade
from koc_qt.domain.positions import Position
from koc_qt.domain.state import StrategySpec
from koc_qt.engine.services import Services
from koc_qt.engine.told_files import PieceHead, with_fees
from koc_qt.engine.told_tape import ToldTape
from koc_qt.ports.bars import BarSeries
from koc_qt.sdk.channel import BarClosed, Described, HostMessage, PositionState, QuoteUpdate, TradeUpdate

WARMUP_LIMIT = 20_000  # bars in all: the worker's queue holds some 40,000
WARMUP_PAGE = 500  # bars sent before others get their turn


class StrategyFeed:
    """Sends a worker what its strategy subscribed to, of the instruments that it was started on.

    What one that hears quotes or trades is told is recorded. `route` gives the account that trades an instrument.
    """

    def __init__(
        self,
        spec: StrategySpec,
        source: bytes,
        services: Services,
        owner: str,
        send: Callable[[HostMessage], None],
        log: Callable[[str, str], None],
        route: Callable[[InstrumentId], str],
    ) -> None:
        self._spec = spec
        self._source = source
        self._route = route
        self._began_ns = 0
        self._tape: ToldTape | None = None
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
        if not self._is_closed and {"quotes", "trades"} & set(kinds):
            self._began_ns = self._services.clock.time_ns()
            self._tape = self._services.begin_tape(self._head, kinds, self._instruments)
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
        if self._tape is not None:
            self._tape.close()
            self._tape = None

    def note(self, message: HostMessage) -> None:
        """Record what the worker is sent, where that is recorded."""
        if self._tape is not None:
            self._tape.told(message)

    def _head(self, number: int) -> PieceHead:
        """Say how things stand now, where a piece of the record begins."""
        key, services, timeframe = self._strategy_id, self._services, self._timeframe
        accounts = services.store.accounts
        routes = {instrument: self._route(instrument) for instrument in self._instruments}
        rules = [services.store.instruments[instrument] for instrument in self._instruments]
        return PieceHead(
            spec=self._spec,
            began_ns=self._began_ns,
            time_ns=services.market_data.time_ns(self._instruments[0].venue),
            number=number,
            source=hashlib.sha256(self._source).hexdigest(),
            timeframe=timeframe,
            seed=services.seed,
            instruments=tuple(with_fees(each, accounts.get(routes[each.id])) for each in rules),
            positions=tuple(position_state(services.ledger.position(key, routes[each.id], each.id)) for each in rules),
            balances={
                each.venue: known.balances
                for each, route in routes.items()
                if (known := accounts.get(route)) is not None
            },
            open_orders=tuple(services.store.open_orders(key)),
        )

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


def position_state(position: Position) -> PositionState:
    """Give a holding as strategies see it."""
    return PositionState(
        position.instrument.id, position.quantity, position.average_price, position.realised_pnl, position.fees
    )
