"""A back-test of a strategy that listens to quotes: of each bar it hears two, at its open and at its close.

Nothing is made up between them. What is ordered at the open meets that same bar, from its open on and by the rules for
every bar (domain/matching/bars.py); what is ordered at the close meets the next one. So nobody hears of a low before
the high that follows it, and no order is filled by what its strategy had seen. Bid and offer are half the spread of the
run beside the price, and a tick apart at least; each shows our share of the bar before, as the bar's own volume is not
known at its open.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Bar, Quote
from koc_qt.domain.matching.market import exact_price
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.session import Session
from koc_qt.sdk.strategy import Strategy, subscriptions_of
from koc_qt.worker.replay import Pause, Replay
from koc_qt.worker.replay_context import ReplayContext
from koc_qt.worker.replay_desk import ReplayDesk

HEARD = ("bars", "quotes")
_ENDLESS = Decimal(10) ** 12  # base units at a quote of a series without volume
_FIRST_NS = 1  # after the bar has opened

Moment = Sequence[tuple[int, Bar]]
"""The bars that open, and close, together: each with the row of its instrument."""


class Quotes:
    """Tells a session of the quotes that bars are made into, and does what is ordered in answer to each."""

    def __init__(self, start: StartReplay, session: Session, desk: ReplayDesk, context: ReplayContext) -> None:
        self._start = start
        self._session = session
        self._desk = desk
        self._context = context
        self._sizes = [_ENDLESS] * len(start.instruments)
        context.log("INFO", "a back-test has bars alone: its quotes are the open and the close of each")

    def open(self, moment: Moment) -> None:
        """Tell of bars that open: before any order meets them."""
        self._context.moment_ns = moment[0][1].open_time_ns + _FIRST_NS
        self._tell([(row, bar.open) for row, bar in moment])
        self._context.moment_ns = None

    def close(self, moment: Moment) -> None:
        """Tell of bars that close: after all orders have met them, and before the bars themselves are told."""
        for row, bar in moment:
            self._sizes[row] = _size(self._start.instruments[row], bar, self._start.volume_fraction)
        self._tell([(row, bar.close) for row, bar in moment])

    def _tell(self, prices: Sequence[tuple[int, float]]) -> None:
        """Tell of a moment's quotes.

        All are known before the first is told: beside the old price of another symbol a new one would show a gap that
        never was.
        """
        now_ns, session = self._context.time_ns, self._session
        quotes = [quote_at(self._start, row, price, now_ns, self._sizes[row]) for row, price in prices]
        for (row, price), quote in zip(prices, quotes, strict=True):
            self._desk.closes[row] = price
            slot = session.slots[quote.instrument]
            slot.newest = slot.quote = quote
        for quote in quotes:
            session.on_quote(quote)
            self._desk.answer_all()


class QuotedReplay(Replay):
    """One run whose strategy hears quotes as well as bars."""

    HEARD = HEARD

    def start(self) -> None:
        """Say what the quotes are, and begin."""
        self._quotes = Quotes(self._start, self._session, self._desk, self._context)
        super().start()

    def _play_one(self, message: ReplayBars, pause: Pause) -> None:
        self._play_several(message, pause)

    def _meet(self, moment: Moment) -> None:
        """Let the quotes of the open come, then let orders meet the bars, then let the quotes of the close come."""
        self._quotes.open(moment)
        super()._meet(moment)
        self._quotes.close(moment)


def quote_at(start: StartReplay, row: int, price: float, time_ns: int, size: Decimal) -> Quote:
    """Give the quote of the run's instrument number `row` around a price."""
    rules, exact = start.instruments[row], exact_price(price)
    aside = EXACT.divide(EXACT.multiply(exact, start.spread), Decimal(2))
    bid = max(rules.floor_price(EXACT.subtract(exact, aside)), rules.tick_size)
    ask = max(rules.ceil_price(EXACT.add(exact, aside)), EXACT.add(bid, rules.tick_size))
    return Quote(rules.id, time_ns, bid, size, ask, size)


def hears_quotes(strategy: type[Strategy]) -> bool:
    """Whether a strategy class listens to quotes, so that its bars must become some."""
    return "quotes" in subscriptions_of(strategy)


def _size(rules: Instrument, bar: Bar, share: Decimal | None) -> Decimal:
    if share is None or not bar.volume:
        return _ENDLESS
    return max(rules.round_quantity(EXACT.multiply(exact_price(bar.volume), share)), rules.lot_size)
