from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, RiskRefused, StorageError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.latency import OrderLatency, Stage
from koc_qt.domain.market import Side
from koc_qt.domain.orders import (
    CancelRejected,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderFilled,
    OrderReport,
    OrderStatus,
)
from koc_qt.domain.risk import RiskLimits
from koc_qt.engine import order_requests, risk_gate
from koc_qt.engine import orders as orders_module
from koc_qt.engine.bus import Bus
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.engine.latency import LatencyBook
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.order_lookups import LOOKUPS_BEFORE_ABSENT
from koc_qt.engine.orders import OrderService
from koc_qt.engine.store import Store
from koc_qt.link.messages import FillRecorded, OrderChanged, PositionChanged
from koc_qt.ports.journal import OrderRecord
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.journal import MemoryJournal
from tests.fakes.trading import BTC, BTC_RULES, NOW_NS, FakeTradingVenue, fill_of, limit_buy, market_buy, quote


class Desk:
    """An order service with fakes around it, and what it published."""

    def __init__(self, limits: RiskLimits | None = None, venue: FakeTradingVenue | None = None) -> None:
        self.store, self.bus, self.journal, self.clock = Store(), Bus(), MemoryJournal(), FakeClock()
        self.venue = venue or FakeTradingVenue()
        self.ledger = Ledger(self.store, self.clock)
        self.switch = KillSwitch(self.journal, self.clock)
        self.latencies = LatencyBook(self.clock)
        self.orders = OrderService(
            self.store,
            self.bus,
            self.journal,
            self.clock,
            self.ledger,
            {"sim": self.venue},
            self.switch,
            limits or RiskLimits(),
            self.latencies,
            random.Random(1),
            lookup_delays_s=(0.0, 0.001),
        )
        self.store.instruments[BTC] = BTC_RULES
        self.store.quotes[BTC] = quote()
        self.facts: list[object] = []
        for kind in (OrderChanged, FillRecorded, PositionChanged):
            self.bus.subscribe(kind, self.facts.append)

    def statuses(self) -> list[OrderStatus]:
        return [fact.order.status for fact in self.facts if isinstance(fact, OrderChanged)]

    def order(self, key: str) -> Order:
        order = self.store.order(key)
        assert order is not None
        return order

    async def ends(self, key: str) -> Order:
        await until(lambda: not self.order(key).is_open, what="the order to end")
        return self.order(key)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    yield desk
    desk.journal.failing = ""
    desk.journal.gate = None
    await desk.orders.close()


async def test_a_market_order_goes_from_intent_to_fill(desk: Desk) -> None:
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    order = await desk.ends(order.client_order_id)
    assert order.status is OrderStatus.FILLED
    assert order.average_price == 100
    assert desk.statuses() == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED, OrderStatus.FILLED]
    assert [type(fact) for fact in desk.facts][-3:] == [OrderChanged, FillRecorded, PositionChanged]
    assert desk.ledger.position("sma", "sim", BTC).quantity == Decimal("0.1")
    assert desk.ledger.trades("sma") == 1


async def test_each_stage_of_an_order_is_measured(desk: Desk) -> None:
    told: list[OrderLatency] = []
    desk.latencies.on_measured = told.append
    desk.venue.holds_at_door = True
    desk.journal.gate, desk.venue.hold = asyncio.Event(), asyncio.Event()
    desk.clock.advance(1.0)
    signal_ns = desk.clock.monotonic_ns() - 3_000_000
    sending = asyncio.create_task(desk.orders.submit(market_buy(), "sma", "sim", signal_ns=signal_ns))
    await asyncio.sleep(0)
    desk.clock.advance(0.005)
    desk.journal.gate.set()
    await until(lambda: bool(desk.facts), what="the intent to be durable")
    desk.clock.advance(0.007)  # the venue's rate limit is waited for
    desk.venue.hold.set()
    order = await sending
    assert (told[0].client_order_id, told[0].strategy_id, told[0].account_id) == (order.client_order_id, "sma", "sim")
    assert told[-1].stages_ms == pytest.approx(
        {
            Stage.SIGNAL: 3.0, Stage.RISK: 0.0, Stage.JOURNAL: 5.0, Stage.SENT: 7.0, Stage.ACKNOWLEDGED: 0.0,
            Stage.FILLED: 0.0, Stage.TOTAL: 15.0,
        }
    )  # fmt: skip


async def test_the_intent_is_durable_before_the_wire(desk: Desk) -> None:
    desk.journal.gate = asyncio.Event()
    task = asyncio.create_task(desk.orders.submit(market_buy(), "sma", "sim"))
    await until(lambda: desk.orders._unsent, what="an order on its way to the journal")
    assert desk.venue.submitted == []
    desk.journal.gate.set()
    order = await task
    intent = desk.journal.records[0]
    assert isinstance(intent, OrderRecord)
    assert intent.order.status is OrderStatus.NEW
    assert intent.order.client_order_id == order.client_order_id


@pytest.mark.parametrize("say", ["disk full", "no permission"])
async def test_without_a_journal_nothing_is_sent(desk: Desk, say: str) -> None:
    desk.journal.failing = say
    with pytest.raises(StorageError, match=say):
        await desk.orders.submit(market_buy(), "sma", "sim")
    assert desk.venue.submitted == []
    assert desk.store.open_orders() == []
    assert not desk.orders.journal_ok
    desk.journal.failing = ""
    await desk.orders.submit(market_buy(), "sma", "sim")
    assert desk.orders.journal_ok


@pytest.mark.expected_warnings("wait for the journal")
async def test_fills_wait_for_the_journal_and_are_not_lost(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "RETRY_JOURNAL_S", 0.001)
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    await until(lambda: desk.order(order.client_order_id).status is OrderStatus.ACCEPTED)
    desk.journal.failing = "disk full"
    desk.venue.say(OrderFilled(order.client_order_id, NOW_NS, fill_of(order)))
    await until(lambda: not desk.orders.journal_ok, what="the failure to be noticed")
    assert desk.ledger.trades() == 0
    desk.journal.failing = ""
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.FILLED
    assert desk.ledger.trades() == 1


async def test_ids_fit_every_venue_and_never_repeat(desk: Desk) -> None:
    named: list[str] = []
    orders = [await desk.orders.submit(limit_buy(), "sma", "sim", named.append) for _ in range(20)]
    assert named == [order.client_order_id for order in orders]
    assert len(set(named)) == 20
    assert all(key.isalnum() and len(key) <= 36 for key in named)


async def test_an_unknown_account_or_instrument_is_named(desk: Desk) -> None:
    with pytest.raises(InvalidOrder, match="account 'nope' is not connected; connected are: sim"):
        await desk.orders.submit(market_buy(), "sma", "nope")
    del desk.store.instruments[BTC]
    with pytest.raises(InvalidOrder, match="sim:BTC/USDT is not known"):
        await desk.orders.submit(market_buy(), "sma", "sim")


async def test_an_order_goes_to_no_account_of_another_venue(desk: Desk) -> None:
    elsewhere = msgspec.structs.replace(BTC, venue="binance")
    desk.store.instruments[elsewhere] = msgspec.structs.replace(BTC_RULES, id=elsewhere)
    with pytest.raises(InvalidOrder, match="account 'sim' trades on sim, not binance:BTC/USDT"):
        await desk.orders.submit(market_buy(instrument=elsewhere), "sma", "sim")


async def test_the_risk_gate_sees_orders_that_are_still_being_written() -> None:
    desk = Desk(RiskLimits(max_open_orders=1))
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    desk.journal.gate = asyncio.Event()
    first = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.orders._unsent, what="an order on its way to the journal")
    with pytest.raises(RiskRefused, match="orders are open"):
        await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.journal.gate.set()
    await first
    await desk.orders.close()


async def test_orders_a_minute_are_counted_over_a_minute() -> None:
    desk = Desk(RiskLimits(max_orders_per_minute=2))
    await desk.venue.connect(desk.orders.receive)
    desk.orders.start()
    for _ in range(2):
        await desk.orders.submit(limit_buy(), "sma", "sim")
    with pytest.raises(RiskRefused, match="minute"):
        await desk.orders.submit(limit_buy(), "sma", "sim")
    desk.clock.advance(61)
    await desk.orders.submit(limit_buy(), "sma", "sim")
    await desk.orders.close()


async def test_too_many_unwritten_events_stop_new_orders(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "EVENTS_LIMIT", 0)
    with pytest.raises(RiskRefused, match="wait for the journal"):
        await desk.orders.submit(market_buy(), "sma", "sim")


async def test_the_kill_switch_refuses_also_while_the_intent_is_written(desk: Desk) -> None:
    desk.journal.gate = asyncio.Event()
    task = asyncio.create_task(desk.orders.submit(market_buy(), "sma", "sim"))
    await until(lambda: desk.orders._unsent, what="an order on its way to the journal")
    engage = asyncio.create_task(desk.switch.engage("panic"))
    await until(lambda: desk.switch.engaged)
    desk.journal.gate.set()
    await engage
    order = await desk.ends((await task).client_order_id)
    assert order.status is OrderStatus.REJECTED
    assert "kill switch" in order.reason
    assert desk.venue.submitted == []
    with pytest.raises(RiskRefused, match="panic"):
        await desk.orders.submit(market_buy(), "sma", "sim")


@pytest.mark.parametrize("error", [VenueRejected("insufficient funds"), VenueUnavailable("breaker is open")])
async def test_a_refusal_is_a_rejection_with_its_reason(desk: Desk, error: Exception) -> None:
    desk.venue.refuse_submit = error
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    order = await desk.ends(order.client_order_id)
    assert (order.status, order.reason) == (OrderStatus.REJECTED, str(error))
    assert desk.venue.looked_up == []


async def test_a_lost_answer_is_looked_up_and_never_sent_again(desk: Desk) -> None:
    desk.venue.lose_answer = VenueTimeout("no answer")
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    order = await desk.ends(order.client_order_id)
    assert order.status is OrderStatus.FILLED
    assert len(desk.venue.submitted) == 1
    assert OrderStatus.UNKNOWN in desk.statuses()
    assert desk.ledger.trades() == 1


@pytest.mark.expected_warnings("in a way nobody foresaw")
async def test_an_unforeseen_error_while_sending_is_not_taken_for_a_refusal(desk: Desk) -> None:
    desk.venue.lose_answer = ZeroDivisionError("bug in an adapter")
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.FILLED


async def test_a_silent_venue_is_not_waited_for_for_ever(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order_requests, "SUBMIT_TIMEOUT_S", 0.01)
    desk.venue.hold = asyncio.Event()
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    order = await desk.ends(order.client_order_id)
    assert (order.status, order.reason) == (OrderStatus.REJECTED, "the venue never received this order")
    assert len(desk.venue.looked_up) == LOOKUPS_BEFORE_ABSENT


async def test_an_order_that_ended_is_asked_about_until_its_fills_are_told(desk: Desk) -> None:
    order = before_the_crash(desk, OrderStatus.ACCEPTED, venue_order_id="v1")
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.FILLED, (), NOW_NS)
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    await until(lambda: len(desk.venue.looked_up) > 1, what="a second lookup")
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.FILLED, (fill_of(order),), NOW_NS)
    await reconciling
    assert (await desk.ends("kocold")).status is OrderStatus.FILLED
    assert desk.ledger.trades() == 1


@pytest.mark.expected_warnings("what its venue reports cannot be")
async def test_a_report_that_cannot_be_is_logged_and_asked_for_again(desk: Desk) -> None:
    order = before_the_crash(desk, OrderStatus.ACCEPTED, venue_order_id="v1")
    foreign = msgspec.structs.replace(fill_of(order), client_order_id="stranger")
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.FILLED, (foreign,), NOW_NS)
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    await until(lambda: len(desk.venue.looked_up) > 1, what="a second lookup")
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.CANCELED, (), NOW_NS)
    await reconciling
    assert (await desk.ends("kocold")).status is OrderStatus.CANCELED


async def test_a_submit_that_is_cancelled_half_way_leaves_an_order_to_look_up(desk: Desk) -> None:
    desk.venue.hold = asyncio.Event()
    task = asyncio.create_task(desk.orders.submit(market_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be sent")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: OrderStatus.UNKNOWN in desk.statuses(), what="the order to be unknown")


@pytest.mark.expected_warnings("could not be looked up: not now", "could not be looked up: no answer")
async def test_a_lookup_that_fails_is_tried_again(desk: Desk) -> None:
    desk.venue.lose_answer = VenueTimeout("")
    desk.venue.refuse_lookup = [VenueUnavailable("not now"), TimeoutError()]
    order = await desk.orders.submit(market_buy(), "sma", "sim")
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.FILLED


async def test_an_order_that_the_stream_settles_is_looked_up_no_further(desk: Desk) -> None:
    desk.venue.lose_answer = VenueTimeout("no answer")
    desk.venue.refuse_lookup = []
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    key = order.client_order_id
    desk.venue.reports.pop(key)
    await until(lambda: desk.venue.looked_up, what="a lookup")
    desk.venue.say(OrderCanceled(key, NOW_NS))
    assert (await desk.ends(key)).status is OrderStatus.CANCELED
    await until(lambda: not desk.orders._lookups, what="the lookup to end")


async def test_cancel(desk: Desk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    await until(lambda: desk.order(order.client_order_id).status is OrderStatus.ACCEPTED)
    await asyncio.gather(*(desk.orders.cancel(order.client_order_id) for _ in range(2)))
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.CANCELED
    await desk.orders.cancel(order.client_order_id)
    assert desk.venue.canceled.count(order.client_order_id) == 1
    with pytest.raises(InvalidOrder, match="no order 'nope'"):
        await desk.orders.cancel("nope")


@pytest.mark.parametrize(
    ("error", "reason"), [(VenueUnavailable("gone"), "gone"), (TimeoutError(), "no answer within")]
)
async def test_a_cancel_that_fails_leaves_the_order_working_and_may_be_tried_again(
    desk: Desk, error: Exception, reason: str
) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    await until(lambda: desk.order(order.client_order_id).status is OrderStatus.ACCEPTED)
    desk.venue.refuse_cancel = error
    await desk.orders.cancel(order.client_order_id)
    await desk.orders.settle()
    after = desk.order(order.client_order_id)
    assert after.status is OrderStatus.ACCEPTED
    assert not after.cancel_requested
    events = [r.event for r in desk.journal.records if isinstance(r, OrderRecord)]
    assert any(isinstance(event, CancelRejected) and reason in event.reason for event in events)
    desk.venue.refuse_cancel = None
    await desk.orders.cancel(order.client_order_id)
    assert (await desk.ends(order.client_order_id)).status is OrderStatus.CANCELED


async def test_a_cancel_without_a_connection_says_so(desk: Desk) -> None:
    before_the_crash(desk, OrderStatus.ACCEPTED, account_id="elsewhere")
    await desk.orders.cancel("kocold")
    await desk.orders.settle()
    record = desk.journal.records[-1]
    assert isinstance(record, OrderRecord)
    assert isinstance(record.event, CancelRejected)
    assert record.event.reason == "account 'elsewhere' is not connected"


async def test_cancel_all_of_one_strategy_or_of_everybody(desk: Desk) -> None:
    mine = [await desk.orders.submit(limit_buy(), "mine", "sim") for _ in range(3)]
    other = await desk.orders.submit(limit_buy(), "other", "sim")
    await desk.orders.settle()
    assert await desk.orders.cancel_all("mine") == 3
    for order in mine:
        assert (await desk.ends(order.client_order_id)).status is OrderStatus.CANCELED
    assert desk.order(other.client_order_id).is_open
    assert await desk.orders.cancel_all() == 1


@pytest.mark.expected_warnings("could not be cancelled: gone missing")
async def test_cancel_all_goes_on_when_one_fails(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [await desk.orders.submit(limit_buy(), "sma", "sim") for _ in range(2)]
    await desk.orders.settle()
    cancel = desk.orders.cancel

    async def fail_first(key: str) -> None:
        if key == orders[0].client_order_id:
            raise InvalidOrder("gone missing")
        await cancel(key)

    monkeypatch.setattr(desk.orders, "cancel", fail_first)
    assert await desk.orders.cancel_all() == 2
    assert (await desk.ends(orders[1].client_order_id)).status is OrderStatus.CANCELED


async def test_cancel_all_hides_no_bug(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.orders.submit(limit_buy(), "sma", "sim")

    async def broken(key: str) -> None:
        raise ZeroDivisionError(key)

    monkeypatch.setattr(desk.orders, "cancel", broken)
    with pytest.raises(ZeroDivisionError):
        await desk.orders.cancel_all()


@pytest.mark.expected_warnings("not ours", "order koc")
async def test_what_makes_no_sense_is_logged_and_changes_nothing(desk: Desk) -> None:
    desk.venue.say(OrderAccepted("stranger", NOW_NS, "v1"))
    order = await desk.orders.submit(limit_buy("0.1"), "sma", "sim")
    desk.venue.say(OrderFilled(order.client_order_id, NOW_NS, fill_of(order, "5")))
    await desk.orders.settle()
    assert desk.order(order.client_order_id).filled_quantity == 0
    assert desk.ledger.trades() == 0


async def test_a_fill_that_comes_twice_counts_once(desk: Desk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    fill = fill_of(order, "0.04")
    for _ in range(3):
        desk.venue.say(OrderFilled(order.client_order_id, NOW_NS, fill))
    await desk.orders.settle()
    assert desk.order(order.client_order_id).filled_quantity == Decimal("0.04")
    assert desk.ledger.trades() == 1
    assert sum(isinstance(fact, FillRecorded) for fact in desk.facts) == 1


async def test_a_fill_after_the_cancel_is_still_counted(desk: Desk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    await desk.orders.cancel(order.client_order_id)
    await desk.ends(order.client_order_id)
    desk.venue.say(OrderFilled(order.client_order_id, NOW_NS, fill_of(order, "0.03")))
    await desk.orders.settle()
    assert desk.order(order.client_order_id).status is OrderStatus.CANCELED
    assert desk.ledger.position("sma", "sim", BTC).quantity == Decimal("0.03")


def before_the_crash(desk: Desk, status: OrderStatus, **changes: object) -> Order:
    order = Order("kocold", "sma", "sim", limit_buy(), created_ns=NOW_NS, updated_ns=NOW_NS, status=status)
    order = msgspec.structs.replace(order, **changes)
    desk.orders.restore([order])
    return order


async def test_after_a_crash_a_fill_that_nobody_heard_of_is_found(desk: Desk) -> None:
    order = before_the_crash(desk, OrderStatus.ACCEPTED, venue_order_id="v1")
    fill = fill_of(order)
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.FILLED, (fill,), NOW_NS)
    await desk.orders.reconcile("sim")
    assert (await desk.ends("kocold")).status is OrderStatus.FILLED
    assert desk.ledger.position("sma", "sim", BTC).quantity == Decimal("0.1")


@pytest.mark.parametrize(
    ("venue_order_id", "status", "reason"),
    [
        ("", OrderStatus.REJECTED, "the venue never received this order"),
        ("v1", OrderStatus.CANCELED, "the venue no longer knows this order"),
    ],
)
async def test_after_a_crash_an_order_that_the_venue_does_not_know_ends(
    desk: Desk, venue_order_id: str, status: OrderStatus, reason: str
) -> None:
    before_the_crash(desk, OrderStatus.SUBMITTED, venue_order_id=venue_order_id)
    await desk.orders.reconcile("sim")
    order = await desk.ends("kocold")
    assert (order.status, order.reason) == (status, reason)


async def test_after_a_crash_a_cancel_that_may_never_have_gone_out_is_sent_again(desk: Desk) -> None:
    before_the_crash(desk, OrderStatus.ACCEPTED, venue_order_id="v1", cancel_requested=True)
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.ACCEPTED, (), NOW_NS)
    await desk.orders.reconcile("sim")
    assert (await desk.ends("kocold")).status is OrderStatus.CANCELED


async def test_after_a_crash_an_order_that_still_works_is_left_to_work(desk: Desk) -> None:
    before_the_crash(desk, OrderStatus.ACCEPTED, venue_order_id="v1")
    desk.venue.reports["kocold"] = OrderReport("kocold", "v1", OrderStatus.ACCEPTED, (), NOW_NS)
    await desk.orders.reconcile("sim")
    assert desk.order("kocold").status is OrderStatus.ACCEPTED
    assert desk.venue.looked_up == ["kocold"]
    assert desk.venue.canceled == []


async def test_reconcile_leaves_other_accounts_alone(desk: Desk) -> None:
    before_the_crash(desk, OrderStatus.ACCEPTED, account_id="elsewhere")
    await desk.orders.reconcile("sim")
    await desk.orders.reconcile("elsewhere")
    assert desk.venue.looked_up == []
    assert desk.order("kocold").is_open


async def test_ended_orders_are_remembered_but_not_asked_about(desk: Desk) -> None:
    before_the_crash(desk, OrderStatus.CANCELED)
    await desk.orders.reconcile("sim")
    assert desk.venue.looked_up == []


async def test_the_latency_of_an_order_is_from_signal_to_answer(desk: Desk) -> None:
    desk.venue.hold = asyncio.Event()
    task = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be sent")
    desk.clock.advance(0.25)
    desk.venue.hold.set()
    await task
    assert desk.latencies.percentiles("sma").p50_ms == 250
    assert desk.latencies.percentiles().p99_ms == 250
    assert desk.latencies.percentiles("other").p50_ms is None


async def test_pending_orders_count_on_their_side_and_instrument(desk: Desk) -> None:
    await desk.orders.submit(limit_buy("0.5"), "sma", "sim")
    seen: list[tuple[Decimal, Decimal]] = []
    real = risk_gate.check

    def spy(request: object, context: object, limits: object) -> None:
        seen.append((context.open_buy_quantity, context.open_sell_quantity))  # type: ignore[attr-defined]
        real(request, context, limits)  # type: ignore[arg-type]

    risk_gate.check = spy  # type: ignore[assignment]
    try:
        await desk.orders.submit(limit_buy("0.1"), "sma", "sim")
        other = msgspec.structs.replace(BTC, symbol="ETH/USDT")
        desk.store.instruments[other] = msgspec.structs.replace(BTC_RULES, id=other)
        desk.store.quotes[other] = quote(instrument=other)
        await desk.orders.submit(limit_buy("0.1", instrument=other), "sma", "sim")
    finally:
        risk_gate.check = real
    assert seen == [(Decimal("0.5"), Decimal(0)), (Decimal(0), Decimal(0))]
    assert Side.BUY.sign == 1


@pytest.mark.expected_warnings("wait for the journal")
async def test_close_does_not_wait_for_a_disk_that_stays_full(desk: Desk) -> None:
    order = await desk.orders.submit(limit_buy(), "sma", "sim")
    await desk.orders.settle()
    desk.journal.failing = "disk full"
    desk.venue.say(OrderCanceled(order.client_order_id, NOW_NS))
    await until(lambda: not desk.orders.journal_ok, what="the failure to be noticed")
    await desk.orders.close()
    await desk.orders.close()


@pytest.mark.expected_warnings("could not be looked up")
async def test_close_stops_looking_orders_up(desk: Desk) -> None:
    before_the_crash(desk, OrderStatus.SUBMITTED)
    desk.orders._lookups.delays_s = (3600.0,)
    desk.venue.refuse_lookup = [VenueUnavailable("not now")]
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    await until(lambda: desk.venue.looked_up, what="a lookup")
    await desk.orders.close()
    await reconciling
    assert desk.order("kocold").is_open


async def test_an_order_that_ended_while_it_was_to_be_looked_up_is_not_asked_about(desk: Desk) -> None:
    order = before_the_crash(desk, OrderStatus.ACCEPTED)
    reconciling = asyncio.create_task(desk.orders.reconcile("sim"))
    desk.venue.say(OrderCanceled(order.client_order_id, NOW_NS))
    await reconciling
    assert desk.venue.looked_up == []
    assert (await desk.ends("kocold")).status is OrderStatus.CANCELED


async def test_an_order_is_on_its_way_before_the_bus_hears_of_it_and_nothing_else_of_it_is_told_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[OrderStatus] = []
    told_when_sent: list[list[OrderStatus]] = []
    send = desk.venue.submit

    async def submit(order: Order) -> None:
        told_when_sent.append(list(told))
        await send(order)

    monkeypatch.setattr(desk.venue, "submit", submit)
    desk.bus.subscribe(OrderChanged, lambda fact: told.append(fact.order.status))
    desk.venue.hold = asyncio.Event()
    sending = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: told == [OrderStatus.SUBMITTED], what="the bus to hear of an order that is not answered yet")
    desk.venue.hold.set()
    await sending
    await until(lambda: len(told) == 2, what="the answer to be told")
    await desk.orders.submit(limit_buy(), "sma", "sim")
    await until(lambda: len(told) == 4, what="the bus to hear of everything")
    assert told == [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED] * 2
    assert told_when_sent == [[], [OrderStatus.SUBMITTED, OrderStatus.ACCEPTED]]


async def test_what_is_known_at_the_end_is_told(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders_module, "TELL_AFTER_S", 60.0)
    told: list[OrderStatus] = []
    desk.bus.subscribe(OrderChanged, lambda fact: told.append(fact.order.status))
    desk.venue.hold = asyncio.Event()
    sending = asyncio.create_task(desk.orders.submit(limit_buy(), "sma", "sim"))
    await until(lambda: desk.store.open_orders(), what="the order to be known")
    await desk.orders.close()
    assert told == [OrderStatus.SUBMITTED]
    desk.venue.hold.set()
    await sending
