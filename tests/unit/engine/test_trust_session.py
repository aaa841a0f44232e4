"""A paper session that was recorded, held against its replay: a moving market, orders under way, and what differs."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import Fill, Order, OrderEvent, OrderFilled, OrderRejected, OrderStatus
from koc_qt.domain.parity import PAPER, Certificate, Comparison
from koc_qt.domain.state import Balance, StrategySpec
from koc_qt.domain.trust import Check, GapCause, Verdict
from koc_qt.engine import drift_replay, trust_tape
from koc_qt.engine.trust_tape import SessionTape, state_at
from koc_qt.link.messages import BookChanged, OrderChanged, QuoteChanged, TradePrinted
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.parameters import set_parameters
from koc_qt.sdk.recorded import RecordedEvent
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.replay import Replay
from koc_qt.worker.replay_desk import ReplayDesk
from tests.fakes.link import strategy_snapshot
from tests.fakes.market import MINUTE_NS
from tests.fakes.trading import BTC, BTC_RULES
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_drift import PARAMETERS, SINCE, Monitor
from tests.unit.engine.test_trust import SMA

MS = 1_000_000
SIGNALS = (Path(__file__).parents[3] / "strategies" / "sma_signals.py").read_text(encoding="utf-8")
CASH = Decimal(10_000)
Event = Quote | Book | Trade


def market_of(bar: Bar) -> list[Event]:
    """Give what a market shows within a bar: a book, quotes that move its top, and trades that use it up."""
    rng = Random(bar.open_time_ns)
    found: list[Event] = []
    for number in range(12):
        time_ns = bar.open_time_ns + (20 + number * 40) * MS
        mid = Decimal(str(round(bar.open + rng.uniform(-0.2, 0.2), 2)))
        size = Decimal(rng.randrange(1, 6))
        bid, ask = mid - Decimal("0.03"), mid + Decimal("0.04")
        if number % 3 == 0:
            found.append(Book(BTC, time_ns, _ladder(bid, size, -1), _ladder(ask, size, 1)))
        elif number % 3 == 1:
            found.append(Quote(BTC, time_ns, bid, size, ask, size))
        else:
            side = rng.choice((Side.BUY, Side.SELL))
            found.append(Trade(BTC, time_ns, ask if side is Side.BUY else bid, Decimal("0.5"), side, str(time_ns)))
    return found


def _ladder(best: Decimal, size: Decimal, step: int) -> tuple[BookLevel, ...]:
    return tuple(BookLevel(best + step * level * Decimal("0.02"), size) for level in range(8))


class PaperAccount:
    """Implements replay_desk.Venue: the matching engine of a paper account, with latency, on a market that it watches.

    What happens is told to the engine that records the session, as its services would.
    """

    def __init__(self, desk: Sessions, latency_ns: int) -> None:
        self._desk = desk
        store = desk.engine.store
        self._engine = MatchingEngine(
            [BTC_RULES], [Balance("USDT", CASH)], FillModel(latency_ns=latency_ns), "backtest", Random(1),
            allow_short=True,
        )  # fmt: skip
        self._orders: dict[str, Order] = {}
        self._store = store

    @property
    def free(self) -> dict[str, Decimal]:
        return self._engine.free

    def submit(self, order: Order, now_ns: int) -> Sequence[OrderEvent]:
        sent_ns = now_ns + 7 * MS  # of strategy and engine
        self._orders[order.client_order_id] = order
        if refusal := self._desk.refuses(order):
            return self._told([OrderRejected(order.client_order_id, sent_ns, refusal)])
        return self._told(self._engine.submit(order, sent_ns))

    def cancel(self, client_order_id: str, now_ns: int) -> Sequence[OrderEvent]:
        return self._told(self._engine.cancel(client_order_id, now_ns))

    def amend(self, client_order_id: str, quantity: Decimal, price: Any, now_ns: int) -> Sequence[OrderEvent]:
        return self._told(self._engine.amend(client_order_id, quantity, price, now_ns))

    def on_bar(self, bar: Bar) -> Sequence[OrderEvent]:
        found: list[OrderEvent] = []
        bus = self._desk.engine.bus
        for event in market_of(bar):
            self._desk.now_ns = event.time_ns
            match event:
                case Quote():
                    bus.publish(QuoteChanged(event))
                    found += self._told(self._engine.on_quote(event))
                case Book():
                    bus.publish(BookChanged(event))
                    found += self._told(self._engine.on_book(event))
                case Trade():
                    bus.publish(TradePrinted(event))
                    found += self._told(self._engine.on_trade(event))
        return [*found, *self._told(self._engine.advance(bar.open_time_ns + MINUTE_NS - 1))]

    def _told(self, events: Sequence[OrderEvent]) -> Sequence[OrderEvent]:
        for event in events:
            order = self._orders[event.client_order_id] = apply(self._orders[event.client_order_id], event)
            order = msgspec.structs.replace(order, strategy_id="sma-1", account_id="sim")
            self._store.put_order(order)
            if isinstance(event, OrderFilled):
                fill = msgspec.structs.replace(event.fill, strategy_id="sma-1", account_id="sim")
                self._desk.trade([self._desk.filled(fill)])
            self._desk.engine.bus.publish(OrderChanged(order))
        return events


class PaperDesk(ReplayDesk):
    takes_short_cuts = False
    account: PaperAccount

    def open_accounts(self, bars: ReplayBars) -> None:
        if not self._venues:
            super().open_accounts(bars)
            self._venues, self._by_row = {"sim": self.account}, [self.account]


class Sessions(Monitor):
    """A strategy that runs on paper for a while; `refuses` and `filled` let a test meddle, `parameters` are its own."""

    def __init__(self, engine: EngineDesk) -> None:
        super().__init__(engine)
        self.refuses: Callable[[Order], str] = lambda _: ""
        self.filled: Callable[[Fill], Fill] = lambda fill: fill
        self.parameters = PARAMETERS
        self.now_ns = 0
        self.tape._time_ns = lambda _: self.now_ns
        account = engine.store.accounts["sim"]
        engine.store.accounts["sim"] = msgspec.structs.replace(
            account, maker_fee=BTC_RULES.maker_fee, taker_fee=BTC_RULES.taker_fee, balances=(Balance("USDT", CASH),)
        )

    @property
    def tape(self) -> SessionTape:
        assert self.trust._replays._tape is not None
        return self.trust._replays._tape

    def run(self, latency_ms: int = 80, text: str = SMA) -> None:
        """Have the strategy run on paper, on the bars of its session."""
        self.path = self.engine.file(text, "sma.py")
        spec = StrategySpec("sma-1", self.path, "sim", (BTC,), "1m", self.parameters)
        self.engine.store.strategies["sma-1"] = strategy_snapshot(spec=spec)
        self.see()
        strategy = load_strategy(text.encode(), "sma.py")()
        set_parameters(strategy, self.parameters)
        start = StartReplay(
            text.encode(), "sma.py", self.parameters, (BTC_RULES,), "1m", self.first_ns, CASH, None, Decimal(0), 7, True
        )
        run = Replay(strategy, start, lambda *_: None)
        desk = PaperDesk(start, run._session, run._context, run._note_before)
        desk.account = PaperAccount(self, latency_ms * MS)
        run._desk = desk
        run.start()
        before, live = self.market[-SINCE - 20 : -SINCE], self.market[-SINCE:]
        run.warm_up(_message(before, warmup=True))
        run.play(_message(live, warmup=False), lambda: 1_000)
        run.play_kept(lambda: 1_000)
        run.finish()
        sys.modules.pop("koc_strategy", None)
        spent = sum(
            fill.side.sign * fill.price * fill.quantity + fill.fee for fill in self.engine.store.fills
        )  # what the account has now
        account = self.engine.store.accounts["sim"]
        self.engine.store.accounts["sim"] = msgspec.structs.replace(account, balances=(Balance("USDT", CASH - spent),))

    async def certificate(self) -> Certificate:
        """Hold the session against its replay."""
        spec = self.spec(SMA, Check.PARITY, session="sma-1", parameters=self.parameters)
        spec = msgspec.structs.replace(spec, backtest=msgspec.structs.replace(spec.backtest, path=self.path))
        key = await self.trust.start(spec)
        await self.ended(key)
        found = self.trust.report(key).certificate
        assert found is not None, self.trust.report(key)
        return found

    async def session(self) -> Comparison:
        found = await self.certificate()
        return next(each for each in found.comparisons if each.source == PAPER)


def _message(bars: Sequence[Bar], *, warmup: bool) -> ReplayBars:
    names = ("open_time_ns", "open", "high", "low", "close", "volume")
    return ReplayBars(warmup, [0] * len(bars), *([getattr(bar, name) for bar in bars] for name in names))


@pytest.fixture
async def desk(engine: EngineDesk) -> AsyncIterator[Sessions]:
    made = Sessions(engine)
    yield made
    await made.close()


# an order that is under way for longer than a bar trades in a later one
@pytest.mark.parametrize("latency_ms", [0, 80, 61_000])
async def test_a_recorded_paper_session_is_green(desk: Sessions, latency_ms: int) -> None:
    desk.run(latency_ms)
    certificate = await desk.certificate()
    assert (certificate.verdict, certificate.engines) == (Verdict.GREEN, ("replay", PAPER)), certificate.sentence
    [found] = certificate.comparisons
    assert found.fills == found.fills_equal == found.fills_expected > 6
    assert found.trades == found.trades_equal > 3
    assert found.largest <= 1e-9
    opens = {bar.open_time_ns: bar.open for bar in desk.market}
    fills = list(desk.engine.store.fills)
    beside = [abs(float(fill.price) - opens[fill.time_ns // MINUTE_NS * MINUTE_NS]) > 0.005 for fill in fills]
    assert sum(beside) > 0.9 * len(beside)  # these are no openings: spread, depth and delay are in them
    prices: dict[str, set[Decimal]] = {}
    for fill in fills:
        prices.setdefault(fill.client_order_id, set()).add(fill.price)
    assert any(len(each) > 1 for each in prices.values())  # orders that took more than the best level

    drift = await desk.measure()  # which is held against a back-test on bars, as ever
    assert drift.verdict is Verdict.AMBER
    assert drift.parts[GapCause.SLIPPAGE] != 0


async def test_a_session_of_signals_is_green_too(desk: Sessions) -> None:
    desk.parameters = {**PARAMETERS, "quantity": 1.0}  # the sample's own is less than this market takes
    desk.run(text=SIGNALS)
    found = await desk.session()
    assert found.verdict is Verdict.GREEN, found.sentence
    assert found.fills > 6


async def test_a_market_that_was_not_recorded_is_amber_and_why(desk: Sessions) -> None:
    desk.run()
    desk.tape._orders.clear()  # as if the stream had been silent
    found = await desk.session()
    assert found.verdict is Verdict.AMBER
    assert "(other price). Cause: slippage. What the market showed when the order arrived was not" in found.sentence
    assert "trades at the opening of its bar (" in found.sentence
    assert "Live made -" in found.sentence
    assert "slippage -" in found.sentence


async def test_a_fill_at_another_price_than_was_shown_is_amber_and_why(desk: Sessions) -> None:
    desk.filled = lambda fill: msgspec.structs.replace(fill, price=fill.price + fill.side.sign)
    desk.run()
    found = await desk.session()
    assert found.verdict is Verdict.AMBER
    first = desk.engine.store.fills[0]
    assert "Cause: slippage. When the order arrived, at " in found.sentence
    assert f"the session was filled at {first.price.normalize():f}: the market moved" in found.sentence


async def test_other_fees_and_sizes_are_amber_and_why(desk: Sessions) -> None:
    desk.filled = lambda fill: msgspec.structs.replace(fill, fee=fill.fee * 2)
    desk.run()
    found = await desk.session()
    assert found.verdict is Verdict.AMBER
    assert (
        "Cause: fees. The replay reckons with the account's fees as they are now: BTC/USDT makers 0." in found.sentence
    )


async def test_a_refused_order_is_a_missed_signal(desk: Sessions) -> None:
    refused: list[str] = []

    def refuse_once(order: Order) -> str:
        if order.request.side is Side.BUY and not refused:
            refused.append(order.client_order_id)
            return "the order is worth more than this profile allows"
        return ""

    desk.refuses = refuse_once
    desk.run()
    found = await desk.session()
    assert found.verdict is Verdict.RED
    assert "Cause: missed signals. The order to buy" in found.sentence
    assert "was rejected: the order is worth more than this profile allows." in found.sentence


async def test_fills_that_are_not_there_and_fills_too_many_are_named(desk: Sessions) -> None:
    desk.run()
    fills = list(desk.engine.store.fills)
    ours = [fill for fill in fills if fill.client_order_id != "bt3"]
    await _replaced(desk, ours)
    found = await desk.session()
    assert found.verdict is Verdict.RED
    assert "Cause: missed signals. The session made no such order" in found.sentence
    [first, *_] = [fill for fill in fills if fill.client_order_id == "bt3"]
    bought = msgspec.structs.replace(first, client_order_id="mine", fill_id="mine-1")
    both = [bought, msgspec.structs.replace(bought, side=first.side.opposite, fill_id="mine-2")]
    await _replaced(desk, sorted([*fills, *both], key=lambda fill: fill.time_ns))
    found = await desk.session()
    assert found.verdict is Verdict.RED
    assert "Cause: additional trades. The session decided on something" in found.sentence


async def _replaced(desk: Sessions, fills: Sequence[Fill]) -> None:
    desk.engine.store.fills.clear()
    desk.engine.store.positions.clear()
    desk.trade(fills)


@pytest.mark.parametrize(("limit", "most"), [("RECORDED_BYTES", 6_000), ("ORDERS_KEPT", 6), ("EVENTS_OF_ORDERS", 40)])
async def test_a_session_with_more_orders_than_are_recorded_is_held_from_where_they_are(
    desk: Sessions, monkeypatch: pytest.MonkeyPatch, limit: str, most: int
) -> None:
    monkeypatch.setattr(drift_replay if limit == "RECORDED_BYTES" else trust_tape, limit, most)
    desk.run()
    found = await desk.session()
    assert found.verdict is Verdict.GREEN, found.sentence
    assert 0 < found.fills < len({fill.client_order_id for fill in desk.engine.store.fills})


# ---- what is recorded


def test_a_market_is_put_together_of_its_newest_news() -> None:
    book = Book(BTC, 2, _ladder(Decimal(99), Decimal(2), -1), _ladder(Decimal(101), Decimal(2), 1))
    early, quote, late = (Quote(BTC, at, Decimal(98), Decimal(1), Decimal(102), Decimal(1)) for at in (1, 3, 9))
    swept, before = (Trade(BTC, at, Decimal(102), Decimal("0.4"), Side.BUY, str(at)) for at in (4, 0))
    dated: list[Event] = [before, early, book, quote, swept, late]
    events = [RecordedEvent(event.time_ns, event) for event in dated]
    for time_ns, known in ((0, []), (2, [before, early]), (3, [before, book]), (9, [book, quote, swept])):
        assert [each.event for each in state_at(events, time_ns)] == known
    assert [each.event for each in state_at(events, 10)] == [book, swept, late]
    heard_late = [*events[:-1], RecordedEvent(12, late)]
    assert [each.event for each in state_at(heard_late, 10)] == [book, quote, swept]


async def test_only_what_strategies_follow_is_kept_and_no_more_than_is_needed(
    desk: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    tape = desk.tape
    bus = desk.engine.bus
    quote = Quote(BTC, 5, Decimal(99), Decimal(1), Decimal(101), Decimal(1))
    bus.publish(QuoteChanged(quote))
    assert not tape._events
    monkeypatch.setattr(trust_tape, "ORDERS_KEPT", 3)
    monkeypatch.setattr(trust_tape, "EVENTS_KEPT", 5_000)
    desk.engine.store.quotes[BTC] = quote  # from before the strategy began
    desk.run()
    kept = tape.orders("sma-1")
    assert len(kept) == 3
    heard = next(iter(tape._events[BTC]))
    assert heard.event == quote
    for each in kept:
        assert all(told.heard_ns < each.time_ns + MINUTE_NS for told in each.events)
        assert each.events[0].heard_ns < each.time_ns
        books = [told.event for told in each.events if isinstance(told.event, Book)]
        for book in books:
            taken, own = (book.asks, book.bids) if each.side is Side.BUY else (book.bids, book.asks)
            assert (len(taken), len(own)) == (8, 5)
    long = tuple(BookLevel(Decimal(100 + number), Decimal(1)) for number in range(60))
    assert [len(trust_tape._enough(long, Decimal(size))) for size in (1, 30, 99)] == [20, 30, 60]
    assert tape.orders("nobody") == ()
    bus.publish(StreamStatus(BTC, 6, StreamState.INTERRUPTED, "lost"))
    assert not tape._events
    order = next(desk.engine.store.recent_orders(1))
    bus.publish(OrderChanged(msgspec.structs.replace(order, client_order_id="late", status=OrderStatus.ACCEPTED)))
    assert tape.orders("sma-1") == kept  # nothing was known of the market
    bus.publish(QuoteChanged(quote))
    old = msgspec.structs.replace(order, client_order_id="old", created_ns=desk.first_ns)
    bus.publish(OrderChanged(old))
    assert tape.orders("sma-1") == kept  # it came before those that are kept, and was forgotten


async def test_what_rests_for_long_and_what_is_refused_keeps_little(
    desk: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_tape, "EVENTS_OF_ORDER", 10)
    desk.run()
    order, bus = next(desk.engine.store.recent_orders(1)), desk.engine.bus
    rests = msgspec.structs.replace(order, client_order_id="rests", status=OrderStatus.ACCEPTED, updated_ns=desk.now_ns)
    refused = msgspec.structs.replace(order, client_order_id="refused", status=OrderStatus.REJECTED)
    for each in (rests, refused):
        bus.publish(OrderChanged(each))
    for number in range(50):
        desk.now_ns += MS
        bus.publish(QuoteChanged(Quote(BTC, desk.now_ns, Decimal(99), Decimal(1), Decimal(101 + number), Decimal(1))))
    bus.publish(OrderChanged(msgspec.structs.replace(rests, status=OrderStatus.CANCELED, updated_ns=desk.now_ns)))
    long, nothing = desk.tape.orders("sma-1")[-2:]
    assert (len(long.events), nothing.events) == (11, ())
    assert desk.tape._event_count == sum(len(each.events) for each in desk.tape.orders("sma-1"))
    assert not desk.tape._open[BTC]
