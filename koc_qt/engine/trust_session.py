"""A recorded session held against its replay: whether they did the same, and where not, why, in a trader's words."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from koc_qt.domain.backtests import Engine
from koc_qt.domain.drift import SLACK_BARS, attribute, judge
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, Quote, Side
from koc_qt.domain.orders import Fill, Order, OrderStatus
from koc_qt.domain.parity import PAPER, Cause, Comparison, Difference, EngineRun, compare, executions
from koc_qt.domain.trust import GapCause, utc_text
from koc_qt.engine.drift_replay import SessionReplay, marks_of, opening_of
from koc_qt.sdk.recorded import RecordedOrder

_REFUSED = (OrderStatus.REJECTED, OrderStatus.CANCELED, OrderStatus.EXPIRED)
_NOT_MADE = (
    "The session made no such order: the strategy or its account was stopped, or it was told of the bar too late."
)
_ADDITIONAL = (
    "The session decided on something that its bars do not lead to: what the strategy remembered from before, chance, "
    "its clock, or orders that met another market than the bars."
)
_LATE = (
    "The order reached its account in another bar than in the replay, which knows the delay of an order only where it "
    "was recorded."
)
_SIZE = (
    "The account had other money or another holding than the replay, which knows of this strategy alone, or the market "
    "showed too little of what was asked for."
)
_PARTED = (
    "All that the session was told is recorded, and the replay was told the same in the same order. What is left: "
    "chance, the strategy's own clock, a timer that went off in the moment of a quote, quotes that made way because "
    "its worker was slow, or what it remembered from before the record begins."
)
_OTHER_MARKET = (
    "The replay met the quotes, books and trades that were recorded, when the session's order came: the account saw "
    "another market in that moment, took what others were queueing for, or assumes other things about fills; or the "
    "order was decided on at another moment."
)


def compare_session(session: SessionReplay, orders: Sequence[Order]) -> Comparison:
    """Hold what a session did against its replay. `orders` are those that the strategy made, oldest first.

    Where they differ the sentence says what the first difference comes from, and what all of them cost.
    """
    expected = EngineRun(str(Engine.REPLAY), tuple(session.outcome.result.fills), ())
    found = compare(expected, EngineRun(PAPER, session.fills, ()), bar_ns=session.bar_ns)
    notes = _notes(session)
    if found.first is None:
        words = [found.sentence, *notes]
    else:
        words = [found.sentence, _Explanation(session, orders).of(found.first), _gap(session), *notes]
    return msgspec.structs.replace(found, sentence=" ".join(word for word in words if word))


def _notes(session: SessionReplay) -> list[str]:
    """Say what is particular about the record of a session."""
    told, found = session.told, list[str]()
    if told is not None and not told.is_whole:
        found.append(f"The record begins later than the session: it is compared from {utc_text(session.since_ns)} on.")
    if told is not None and told.refusals:
        what = "order was" if told.refusals == 1 else "orders were"
        found.append(f"{told.refusals:,} {what} refused by the engine, and in the replay as well.")
    return found


def _gap(session: SessionReplay) -> str:
    """Say what the whole gap between both is made of, in money."""
    live = executions(session.fills, merged=True)
    test = executions(session.outcome.result.fills, merged=True)
    columns = [(series.instrument, bars) for series, bars in session.seen.items()]

    def opening(instrument: InstrumentId, time_ns: int) -> float | None:
        return opening_of(columns, instrument, time_ns)

    gap = attribute(live, test, marks_of(session.seen, session.until_ns), opening, SLACK_BARS * session.bar_ns)
    difference = gap.live_pnl - gap.test_pnl
    traded = sum(each.price * each.quantity for each in (*live, *test))
    return judge(difference, gap.parts, gap.missed, gap.additional, traded)[1]


class _Explanation:
    """Says what a difference comes from, as far as what was recorded tells."""

    def __init__(self, session: SessionReplay, orders: Sequence[Order]) -> None:
        self._session = session
        self._orders = orders

    def of(self, first: Difference) -> str:
        """Name the cause of the first difference, and say more."""
        if self._session.told is not None:
            return self._of_told(first)
        refused = self._refused(first)
        match first.cause:
            case Cause.MISSING | Cause.BAR | Cause.SIDE if refused:
                cause, words = GapCause.MISSED, refused
            case Cause.MISSING:
                cause, words = GapCause.MISSED, _NOT_MADE
            case Cause.EXTRA:
                cause, words = GapCause.ADDITIONAL, _ADDITIONAL
            case Cause.BAR | Cause.SIDE:
                cause, words = GapCause.LATENCY, _LATE
            case Cause.PRICE:
                cause, words = GapCause.SLIPPAGE, self._price(first)
            case Cause.SIZE:
                cause, words = GapCause.SIZE, _SIZE
            case Cause.FEE:
                cause, words = GapCause.FEES, self._fees()
        return f"Cause: {cause}. {words}"

    def _of_told(self, first: Difference) -> str:
        match first.cause:
            case Cause.MISSING:
                cause, words = GapCause.MISSED, _PARTED
            case Cause.EXTRA:
                cause, words = GapCause.ADDITIONAL, _PARTED
            case Cause.BAR | Cause.SIDE:
                cause, words = GapCause.LATENCY, _PARTED
            case Cause.PRICE:
                cause, words = GapCause.SLIPPAGE, _OTHER_MARKET
            case Cause.SIZE:
                cause, words = GapCause.SIZE, _OTHER_MARKET
            case Cause.FEE:
                cause, words = GapCause.FEES, self._fees()
        return f"Cause: {cause}. {words}"

    def _refused(self, first: Difference) -> str:
        """Say what became of an order that the session should have filled; empty where there was none."""
        slack_ns = SLACK_BARS * self._session.bar_ns
        for order in self._orders:
            if order.status in _REFUSED and abs(order.created_ns - first.time_ns) <= slack_ns:
                request = order.request
                what = f"{request.side} {request.quantity.normalize():f} {request.instrument.symbol}"
                reason = f": {order.reason}" if order.reason else ""
                return f"The order to {what} at {utc_text(order.created_ns)} was {order.status}{reason}."
        return ""

    def _price(self, first: Difference) -> str:
        """Say what the market showed when the order came, or that nobody knows."""
        fill = self._fill(first)
        came = None if fill is None else self._came(fill)
        if fill is None or came is None:
            opened = None if fill is None else self._opening(fill)
            at = "" if opened is None else f" ({opened:g})"
            return (
                f"What the market showed when the order arrived was not recorded, so the replay trades at the opening "
                f"of its bar{at}; the session paid the spread, the depth and what the price had moved by then."
            )
        return (
            f"When the order arrived, at {utc_text(came.time_ns)}, {_shown(came)}, and the replay took that; the "
            f"session was filled at {fill.price.normalize():f}: the market moved in that moment, or others took what "
            "was shown."
        )

    def _fees(self) -> str:
        rates = ", ".join(
            f"{rules.id.symbol} makers {rules.maker_fee.normalize():f}, takers {rules.taker_fee.normalize():f}"
            for rules in self._session.instruments
        )
        return f"The replay reckons with the account's fees as they are now: {rates}."

    def _fill(self, first: Difference) -> Fill | None:
        """Give the session's fill in the bar that a difference is in."""
        step_ns = self._session.bar_ns
        same = (fill for fill in self._session.fills if fill.time_ns // step_ns == first.time_ns // step_ns)
        return next(same, None)

    def _came(self, fill: Fill) -> RecordedOrder | None:
        same = (each for each in self._session.recorded if (each.instrument, each.side) == (fill.instrument, fill.side))
        return next((each for each in same if 0 <= fill.time_ns - each.time_ns <= self._session.bar_ns), None)

    def _opening(self, fill: Fill) -> float | None:
        columns = [(series.instrument, bars) for series, bars in self._session.seen.items()]
        return opening_of(columns, fill.instrument, fill.time_ns)


def _shown(came: RecordedOrder) -> str:
    """Say what the market showed to an order that arrived."""
    is_buy, price = came.side is Side.BUY, None
    for heard in came.events:
        event = heard.event
        if heard.heard_ns >= came.time_ns:
            break
        if isinstance(event, Quote):
            price = event.ask if is_buy else event.bid
        elif isinstance(event, Book) and (levels := event.asks if is_buy else event.bids):
            price = levels[0].price
    side = "ask" if is_buy else "bid"
    return f"there was no {side}" if price is None else f"the {side} was {price.normalize():f}"
