"""A session that was recorded, once more: its bars tell the strategy what they told it then, and decide nothing else.

What the strategy orders again reaches its account when it did then, and takes what the market offered at that moment.
So the replay has the delays, the spread and the depth of the session, and comes to the same fills where strategy and
account do what they did. An order that the session did not make meets the bars, as in any back-test; so does what is
left of one whose record ends before it does.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

import msgspec

from koc_qt.domain.drift import SLACK_BARS
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Book, Quote, Side, Trade
from koc_qt.domain.matching import MatchingEngine
from koc_qt.domain.orders import Order, OrderCanceled, OrderEvent, OrderRequest
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.recorded import RecordedEvent, RecordedOrder
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.replay import Replay
from koc_qt.worker.replay_desk import ReplayDesk

_LATE_NS = 20 * SECOND_NS  # or SLACK_BARS, if these are longer: a strategy that has just begun catches up with its bars


class _Held(msgspec.Struct, frozen=True):
    """An order on its way, and how it came then."""

    order: Order
    came: RecordedOrder


class RecordedVenue:
    """Implements replay_desk.Venue: the matching engine, which orders reach when they did in the session."""

    def __init__(self, engine: MatchingEngine, recorded: Iterable[RecordedOrder], bar_ns: int) -> None:
        self._engine = engine
        self._bar_ns = bar_ns
        self._recorded: defaultdict[tuple[InstrumentId, Side], deque[RecordedOrder]] = defaultdict(deque)
        for each in sorted(recorded, key=lambda each: each.time_ns):
            self._recorded[each.instrument, each.side].append(each)
        self._held: list[_Held] = []
        self._told_after_ns: dict[str, int] = {}  # by order
        self._untold: defaultdict[InstrumentId, list[OrderEvent]] = defaultdict(list)
        self._market: defaultdict[InstrumentId, list[RecordedEvent]] = defaultdict(list)  # that is still to be told

    @property
    def free(self) -> dict[str, Decimal]:
        """What of the account's balances no order reserves, by currency."""
        return self._engine.free

    def submit(self, order: Order, now_ns: int) -> Sequence[OrderEvent]:
        """Send an order; it arrives when that of the session did."""
        came = self._counterpart(order.request, now_ns)
        if came is None:
            return self._engine.submit(order, now_ns)
        self._held.append(_Held(order, came))
        return ()

    def cancel(self, client_order_id: str, now_ns: int) -> Sequence[OrderEvent]:
        """Ask for a cancel; an order on its way does not arrive then."""
        for each in self._held:
            if each.order.client_order_id == client_order_id:
                self._held.remove(each)
                return (OrderCanceled(client_order_id, now_ns, "requested"),)
        return self._engine.cancel(client_order_id, now_ns)

    def amend(
        self, client_order_id: str, quantity: Decimal, price: Decimal | None, now_ns: int
    ) -> Sequence[OrderEvent]:
        """Ask for another total quantity and limit; an order on its way arrives first."""
        events: list[OrderEvent] = []
        for each in self._held:
            if each.order.client_order_id == client_order_id:
                self._held.remove(each)
                events += self._engine.submit(each.order, now_ns)
                break
        return (*events, *self._engine.amend(client_order_id, quantity, price, now_ns))

    def on_bar(self, bar: Bar) -> Sequence[OrderEvent]:
        """Let orders arrive that came while the bar lasted, in the session's market; what is left meets the bar.

        Of an order that the strategy heard of later, or had heard of before it was sent this bar, that is so again.
        """
        key, closes_ns = bar.instrument, bar.open_time_ns + self._bar_ns
        due = [each for each in self._held if each.came.instrument == key and _is_due(each.came, bar, closes_ns)]
        until_ns = max(closes_ns, *(each.came.time_ns + 1 for each in due)) if due else closes_ns
        market = self._market[key]
        for each in due:
            self._held.remove(each)
            if each.came.told_after_ns:
                self._told_after_ns[each.order.client_order_id] = each.came.told_after_ns
            market += (event for event in each.came.events if event not in market)
        events: list[OrderEvent] = []
        if due or market:
            steps: list[_Held | RecordedEvent] = [*(event for event in market if event.heard_ns < until_ns), *due]
            for step in sorted(steps, key=_time_of):
                events += (
                    self._engine.submit(step.order, step.came.time_ns)
                    if isinstance(step, _Held)
                    else self._hear(step.event)
                )
            self._market[key] = market = [event for event in market if event.heard_ns >= until_ns]
            if not market:  # nothing more is known of the session's market for now
                self._engine.forget_market(key)
        events += self._engine.on_bar(bar)
        return self._told(bar, events)

    def _told(self, bar: Bar, events: Sequence[OrderEvent]) -> Sequence[OrderEvent]:
        """Give what the strategy hears before it is told of a bar; the rest waits."""
        if not self._told_after_ns:
            return events
        waiting, self._untold[bar.instrument] = [*self._untold[bar.instrument], *events], []
        for event in waiting:
            if self._told_after_ns.get(event.client_order_id, 0) >= bar.open_time_ns:
                self._untold[bar.instrument].append(event)
        late = {event.client_order_id for event in self._untold[bar.instrument]}
        return [event for event in waiting if event.client_order_id not in late]

    def _hear(self, event: Quote | Book | Trade) -> Sequence[OrderEvent]:
        match event:
            case Quote():
                return self._engine.on_quote(event)
            case Book():
                return self._engine.on_book(event)
            case Trade():
                return self._engine.on_trade(event)

    def _counterpart(self, request: OrderRequest, now_ns: int) -> RecordedOrder | None:
        """Give the session's order that this one is, None where it was refused; those before were not made again."""
        waiting = self._recorded[request.instrument, request.side]
        while waiting and waiting[0].time_ns < now_ns:
            waiting.popleft()
        if not waiting or waiting[0].time_ns >= now_ns + max(SLACK_BARS * self._bar_ns, _LATE_NS):
            return None
        came = waiting.popleft()
        return came if came.events else None


def _is_due(came: RecordedOrder, bar: Bar, closes_ns: int) -> bool:
    return came.time_ns < closes_ns or 0 < came.told_after_ns < bar.open_time_ns


def _time_of(step: _Held | RecordedEvent) -> tuple[int, bool]:
    """Give when something happened: an order arrives before what is heard of the market in the same moment."""
    return (step.came.time_ns, False) if isinstance(step, _Held) else (step.heard_ns, True)


class RecordedDesk(ReplayDesk):
    """A desk whose venues know when the session's orders came."""

    takes_short_cuts = False
    bar_ns = 0

    def open_accounts(self, bars: ReplayBars) -> None:
        """Make the venues' accounts."""
        if self._venues:
            return
        super().open_accounts(bars)
        for venue, engine in self._venues.items():
            assert isinstance(engine, MatchingEngine)  # noqa: S101 (for the type checker)
            own = [each for each in self._start.recorded if each.instrument.venue == venue]
            self._venues[venue] = RecordedVenue(engine, own, self.bar_ns)
        self._by_row = [self._venues[rules.id.venue] for rules in self._start.instruments]


class RecordedReplay(Replay):
    """One run of a recorded session."""

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        super().__init__(strategy, start, write)
        desk = self._desk = RecordedDesk(start, self._session, self._context, self._note_before)
        desk.bar_ns = self._bar_ns
