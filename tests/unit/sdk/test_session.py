from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import Order, OrderFilled, OrderRequest, OrderStatus, OrderType
from koc_qt.sdk import Bar, Fill, InvalidOrder, Liquidity, OrderHandle, Quote, Side, Strategy, StrategyError, Trade
from koc_qt.sdk.channel import PositionState
from koc_qt.sdk.script import Api, Data
from koc_qt.sdk.session import CLOSED_ORDERS_KEPT, HISTORY_LIMIT
from tests.unit.sdk.desk import BTC, BTC_ID, OTHER, OTHER_ID, START_NS, Desk, bar, instrument, quote, trade


class Recorder(Strategy):
    """Write down every call."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def on_start(self) -> None:
        self.calls.append("start")

    def on_bar(self, bar: Bar) -> None:
        self.calls.append(bar)

    def on_quote(self, quote: Quote) -> None:
        self.calls.append(quote)

    def on_trade(self, trade: Trade) -> None:
        self.calls.append(trade)

    def on_order(self, order: OrderHandle) -> None:
        self.calls.append((order, order.status))

    def on_fill(self, fill: Fill) -> None:
        self.calls.append((fill.fill_id, self.position().quantity))

    def on_timer(self) -> None:
        self.calls.append("timer")

    def on_stop(self) -> None:
        self.calls.append("stop")


class Pair(Recorder):
    instruments_wanted = 2


def started(**options: Any) -> tuple[Recorder, Desk]:
    strategy = Recorder()
    desk = Desk(strategy, **options)
    desk.session.start()
    return strategy, desk


def pair() -> tuple[Recorder, Desk]:
    strategy = Pair()
    return strategy, Desk(strategy, instruments=(BTC, OTHER))


def open_order(client_order_id: str = "old-1", filled: str = "0", status: OrderStatus = OrderStatus.ACCEPTED) -> Order:
    request = OrderRequest(BTC_ID, Side.BUY, OrderType.LIMIT, Decimal(2), price=Decimal(100))
    done = Decimal(filled)
    return Order(
        client_order_id, "s", "a", request, 0, 0, status,
        filled_quantity=done, average_price=Decimal(100) if done else None, fill_ids=("old-fill",) if done else (),
    )  # fmt: skip


# ---- events


def test_events_reach_their_callbacks_in_order() -> None:
    strategy, desk = started()
    events = [bar(1.0), quote(1, 2), trade("1.5")]
    desk.session.on_bar(events[0])  # type: ignore[arg-type]
    desk.session.on_quote(events[1])  # type: ignore[arg-type]
    desk.session.on_trade(events[2])  # type: ignore[arg-type]
    desk.session.stop()
    assert strategy.calls == ["start", *events, "stop"]
    assert not desk.session.finished


def test_what_a_callback_raises_comes_out() -> None:
    class Broken(Strategy):
        def on_bar(self, bar: Bar) -> None:
            raise RuntimeError("broken")

    desk = Desk(Broken())
    with pytest.raises(RuntimeError, match="broken"):
        desk.session.on_bar(bar(1.0))


def test_the_run_decides_the_timeframe() -> None:
    strategy, _ = started(timeframe="5m")
    assert strategy.timeframe == "5m"
    assert Recorder.timeframe == "1m"


def test_another_number_of_instruments_is_refused() -> None:
    with pytest.raises(StrategyError, match=r"Pair wants 2 instrument\(s\) and was given sim:BTC/USDT"):
        Desk(Pair())
    with pytest.raises(StrategyError, match="was given none"):
        Desk(Recorder(), instruments=())


# ---- what there is


def test_instruments_are_found_by_everything_that_names_them() -> None:
    strategy, desk = pair()
    assert strategy.instruments == (BTC, OTHER)
    assert strategy.instrument is BTC
    for name in (OTHER, OTHER_ID, "sim2:BTC/USDT"):
        assert desk.session.resolve(name) is OTHER
    assert desk.session.resolve(None) is BTC
    with pytest.raises(StrategyError, match="BTC/USDT is traded on several venues here: write VENUE:BTC/USDT"):
        desk.session.resolve("BTC/USDT")
    assert Desk(Recorder()).session.resolve("BTC/USDT") is BTC


@pytest.mark.parametrize(
    "unknown", ["ETH/USDT", InstrumentId("sim", "ETH/USDT"), instrument(InstrumentId("sim", "ETH/USDT"))]
)
def test_an_instrument_that_was_not_given_is_refused(unknown: Any) -> None:
    strategy, _ = started()
    with pytest.raises(StrategyError, match=r"the strategy was started on sim:BTC/USDT, not on (sim:)?ETH/USDT"):
        strategy.buy(1, instrument=unknown)


def test_cash_is_in_the_quote_currency_unless_told_otherwise() -> None:
    strategy, _ = started()
    assert strategy.cash() == strategy.cash("USDT") == 100_000
    assert strategy.cash("EUR") == 0


def test_prices_are_the_newest_of_quote_trade_and_bar() -> None:
    strategy, desk = started()
    assert strategy.last_price() is None
    assert strategy.last_quote() is None
    desk.session.on_bar(bar(100.1))
    assert strategy.last_price() == Decimal("100.1")
    desk.session.on_quote(quote(101, 103))
    assert strategy.last_price() == 102
    desk.session.on_trade(trade("104"))
    assert strategy.last_price() == 104
    assert strategy.last_quote() == quote(101, 103)


def test_a_position_is_marked_to_the_market() -> None:
    held = PositionState(BTC_ID, Decimal(2), Decimal(100), Decimal(7), Decimal(1))
    strategy, desk = started(positions=[held])
    assert strategy.position().pnl == 6
    desk.session.on_trade(trade("110"))
    position = strategy.position("BTC/USDT")
    assert (position.quantity, position.average_price, position.unrealised_pnl) == (2, 100, 20)
    assert (position.pnl, position.is_flat) == (26, False)


def test_the_least_that_can_be_traded_follows_the_rules() -> None:
    strategy, _ = started()
    assert strategy.smallest_quantity(50_000.0) == Decimal("0.0001")


def test_a_flat_position_is_one() -> None:
    strategy, desk = started()
    desk.session.on_trade(trade("110"))
    position = strategy.position()
    assert (position.quantity, position.average_price, position.pnl, position.is_flat) == (0, None, 0, True)


def test_history_is_what_was_seen_and_is_bounded() -> None:
    strategy, desk = started()
    bars = [bar(float(index), index) for index in range(HISTORY_LIMIT + 3)]
    desk.session.on_bar(bars[0], warmup=True)
    assert strategy.history(5) == bars[:1]
    for each in bars[1:]:
        desk.session.on_bar(each)
    assert strategy.history(3) == bars[-3:]
    assert strategy.history(3, "1m", instrument=BTC) == bars[-3:]
    assert strategy.history(HISTORY_LIMIT) == bars[3:]


@pytest.mark.parametrize("count", [0, -1, HISTORY_LIMIT + 1])
def test_history_of_no_sensible_length_is_refused(count: int) -> None:
    strategy, _ = started()
    with pytest.raises(StrategyError, match="history has 1 to 5000 bars"):
        strategy.history(count)


def test_history_of_another_timeframe_is_refused_with_what_to_do() -> None:
    strategy, _ = started()
    with pytest.raises(StrategyError, match=r"none of 1h: use 'await api.history\(\)' in run\(\)"):
        strategy.history(1, "1h")


def test_random_numbers_follow_the_seed() -> None:
    first, second, other = (started(seed=seed)[0].random.random() for seed in (5, 5, 6))
    assert first == second != other


def test_logs_metrics_and_time_go_through_the_context() -> None:
    strategy, desk = started()
    strategy.log.debug("a")
    strategy.log.info(1)
    strategy.log.warning("c")
    strategy.log.error("d")
    strategy.metric("spread", Decimal("1.5"))  # type: ignore[arg-type]
    assert desk.lines == [("DEBUG", "a"), ("INFO", "1"), ("WARNING", "c"), ("ERROR", "d")]
    assert desk.metrics == {"spread": 1.5}
    assert strategy.time_ns == START_NS


# ---- orders


def test_an_order_handle_follows_its_order() -> None:
    strategy, desk = started()
    order = strategy.buy("0.5", price="100.009", post_only=True)
    assert order.is_open
    assert (order.status, order.filled, order.remaining, order.average_price) == (
        OrderStatus.NEW,
        0,
        Decimal("0.5"),
        None,
    )
    assert (order.instrument, order.side, order.type, order.price) == (
        BTC_ID,
        Side.BUY,
        OrderType.LIMIT,
        Decimal("100.00"),
    )
    assert strategy.open_orders == [order]
    desk.update(1, OrderStatus.ACCEPTED)
    assert (order.status, order.client_order_id) == (OrderStatus.ACCEPTED, "koc-1")
    desk.fill(1, Decimal(100), Decimal("0.2"))
    assert (order.status, order.filled, order.remaining) == (
        OrderStatus.PARTIALLY_FILLED,
        Decimal("0.2"),
        Decimal("0.3"),
    )
    desk.fill(1, Decimal(100))
    assert (order.status, order.is_open, order.average_price) == (OrderStatus.FILLED, False, 100)
    assert strategy.open_orders == []
    assert strategy.position().quantity == order.quantity
    assert strategy.cash() == 100_000 - 50 - Decimal("0.05")
    statuses = [call[1] for call in strategy.calls if isinstance(call[0], OrderHandle)]
    assert statuses == [OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED]
    assert ("f2", Decimal("0.5")) in strategy.calls
    assert repr(order) == "<buy 0.50000 sim:BTC/USDT at 100.00: filled, 0.50000 filled>"


def test_sells_carry_every_option() -> None:
    strategy, desk = started()
    strategy.sell(1, stop=90, price=89, time_in_force="ioc", reduce_only=True)
    [(_, request)] = desk.submitted
    assert (request.side, request.type, request.price, request.stop_price) == (Side.SELL, OrderType.STOP_LIMIT, 89, 90)
    assert request.reduce_only
    assert repr(strategy.sell(1)) == "<sell 1.00000 sim:BTC/USDT: new, 0 filled>"


def test_a_request_that_never_became_an_order_is_rejected_with_the_reason() -> None:
    strategy, desk = started()
    order = strategy.buy(1)
    desk.session.on_order_update(order.request_id, None, "the kill switch is engaged")
    assert (order.status, order.reason, order.is_open) == (OrderStatus.REJECTED, "the kill switch is engaged", False)
    assert strategy.calls[-1] == (order, OrderStatus.REJECTED)


def test_an_order_stays_open_until_its_fills_are_in_the_position() -> None:
    # The order's end may be told before its fill: who asks is_open must not buy a second time on the old position.
    strategy, desk = started()
    order = strategy.buy(1)
    closed = desk.update(1, OrderStatus.FILLED, filled_quantity=Decimal(1), average_price=Decimal(50))
    assert (order.status, order.filled, order.is_open, order.average_price) == (OrderStatus.FILLED, 1, True, 50)
    assert strategy.open_orders == [order]
    fill = Fill(
        "f1",
        "koc-1",
        "s",
        "a",
        BTC_ID,
        Side.BUY,
        Decimal(50),
        Decimal(1),
        Decimal(0),
        "USDT",
        Liquidity.TAKER,
        START_NS,
    )
    state = PositionState(BTC_ID, Decimal(1), Decimal(50), Decimal(0), Decimal(0))
    desk.session.on_fill(1, fill, state, {"USDT": Decimal(99_950)})
    assert not order.is_open
    assert strategy.position().quantity == closed.filled_quantity
    desk.session.on_fill(1, fill, state, {"USDT": Decimal(99_950)})
    assert [call[0] for call in strategy.calls].count("f1") == 1
    assert order.filled == 1


class Watching(Strategy):
    """Note how an order stands whenever something is told, in a script or in callbacks."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, what: str, order: OrderHandle) -> None:
        self.seen.append(f"{what} {order!r} {order.average_price} {order.is_open} {self.holding()} {self.cash()}")


class Called(Watching):
    def on_order(self, order: OrderHandle) -> None:
        self.note("order", order)

    def on_fill(self, fill: Fill) -> None:
        self.seen.append(f"fill {fill.fill_id} {self.holding()} {self.cash()} {self.open_orders}")


class Waiting(Watching):
    async def run(self, api: Api, data: Data) -> None:
        order = api.buy("0.3")
        while order.is_open:
            status = order.status
            await api.until(lambda known=status: order.status is not known or not order.is_open)
            self.note("woken", order)


@pytest.mark.parametrize("made", [Called, Waiting, Watching])
def test_a_whole_fill_in_one_is_what_the_order_and_the_fill_are_in_two(made: type[Watching]) -> None:
    seen = []
    for in_one in (True, False):
        strategy = made()
        desk = Desk(strategy)
        session = desk.session
        session.start()
        if made is not Waiting:
            strategy.buy("0.3")
        order = desk.update(1, OrderStatus.ACCEPTED)
        price, quantity = Decimal("100.07"), Decimal("0.3")
        fill = Fill(
            "f1", "koc-1", "s", "a", BTC_ID, Side.BUY, price, quantity, Decimal(1), "USDT", Liquidity.TAKER, START_NS
        )
        held, cash = PositionState(BTC_ID, quantity, price, Decimal(0), Decimal(1)), {"USDT": Decimal(99_969)}
        if in_one:
            session.on_whole_fill(1, fill, held, cash)
        else:
            session.on_order_update(1, apply(order, OrderFilled("koc-1", START_NS, fill)))
            session.on_fill(1, fill, held, cash)
        seen.append((strategy.seen, strategy.open_orders, strategy.cash(), strategy.position()))
    assert seen[0] == seen[1]
    assert seen[0][1] == []


def test_a_fill_told_before_its_order_counts_at_once() -> None:
    strategy, desk = started()
    order = strategy.buy(1)
    desk.update(1, OrderStatus.ACCEPTED)
    seen: list[Any] = []
    strategy.on_fill = lambda fill: seen.append((order.filled, order.average_price, order.is_open))  # type: ignore[method-assign]
    desk.fill(1, Decimal(60))
    assert seen == [(1, 60, True)]


def test_orders_of_an_earlier_worker_are_taken_over() -> None:
    strategy, desk = started(open_orders=[open_order("old-1"), open_order("old-2", filled="0.5")])
    fresh = strategy.buy(1)
    first, second, third = strategy.open_orders
    assert (first.client_order_id, second.client_order_id, third) == ("old-1", "old-2", fresh)
    assert (second.filled, second.average_price) == (Decimal("0.5"), 100)
    strategy.cancel_all()
    assert desk.cancels == ["old-1", "old-2"]
    desk.session.on_order_update(0, open_order("old-1", status=OrderStatus.CANCELED))
    assert strategy.open_orders == [second, fresh]
    assert strategy.calls[-1] == (first, OrderStatus.CANCELED)
    desk.session.on_order_update(0, open_order("never-heard-of"))
    assert strategy.calls[-1] == (first, OrderStatus.CANCELED)


def test_a_cancel_that_an_earlier_worker_asked_for_may_be_asked_again() -> None:
    order = msgspec.structs.replace(open_order(), cancel_requested=True)
    strategy, desk = started(open_orders=[order])
    strategy.cancel_all()
    strategy.cancel_all()
    assert desk.cancels == ["old-1"]


def test_a_fill_of_an_order_that_nobody_knows_still_changes_the_position() -> None:
    strategy, desk = started()
    fill = Fill(
        "f9", "older", "s", "a", BTC_ID, Side.BUY, Decimal(50), Decimal(1), Decimal(0), "USDT", Liquidity.TAKER, 0
    )
    state = PositionState(BTC_ID, Decimal(1), Decimal(50), Decimal(0), Decimal(0))
    desk.session.on_fill(0, fill, state, {"USDT": Decimal(5)})
    assert strategy.calls[-1] == ("f9", 1)
    assert strategy.cash() == 5


def test_a_cancel_waits_until_the_engine_has_named_the_order() -> None:
    strategy, desk = started()
    order = strategy.buy(1, price=10)
    strategy.cancel(order)
    strategy.cancel(order)
    assert desk.cancels == []
    assert order.cancel_requested
    desk.update(1, OrderStatus.ACCEPTED)
    assert desk.cancels == ["koc-1"]
    strategy.cancel(order)
    assert desk.cancels == ["koc-1"]
    desk.update(1, OrderStatus.ACCEPTED)  # the venue refused the cancel: it may be asked again
    strategy.cancel(order)
    assert desk.cancels == ["koc-1", "koc-1"]
    desk.update(1, OrderStatus.CANCELED, reason="by the strategy")
    strategy.cancel(order)
    assert len(desk.cancels) == 2
    assert order.reason == "by the strategy"


def test_a_cancel_of_an_order_that_is_refused_comes_to_nothing() -> None:
    strategy, desk = started()
    order = strategy.buy(1, price=10)
    strategy.cancel(order)
    desk.update(1, OrderStatus.REJECTED)
    assert desk.cancels == []


def test_cancel_all_may_be_of_one_instrument() -> None:
    strategy, desk = pair()
    for key in (BTC, OTHER):
        strategy.buy(1, price=10, instrument=key)
    desk.update(1, OrderStatus.ACCEPTED)
    desk.update(2, OrderStatus.ACCEPTED)
    strategy.cancel_all(OTHER)
    assert desk.cancels == ["koc-2"]


@pytest.mark.parametrize(("held", "side"), [("0.5", Side.SELL), ("-0.5", Side.BUY)])
def test_closing_a_position_reduces_it_and_nothing_else(held: str, side: Side) -> None:
    state = PositionState(BTC_ID, Decimal(held), Decimal(100), Decimal(0), Decimal(0))
    strategy, desk = started(positions=[state])
    assert strategy.close_position() is not None
    [(_, request)] = desk.submitted
    assert (request.side, request.quantity, request.reduce_only) == (side, Decimal("0.5"), True)
    assert request.type is OrderType.MARKET


@pytest.mark.parametrize("held", ["0", "0.000001"])
def test_closing_what_is_less_than_a_lot_does_nothing(held: str) -> None:
    state = PositionState(BTC_ID, Decimal(held), Decimal(100), Decimal(0), Decimal(0))
    strategy, desk = started(positions=[state])
    assert strategy.close_position() is None
    assert desk.submitted == []


def test_closed_orders_are_forgotten_in_the_end() -> None:
    strategy, desk = started()
    orders = [strategy.buy(1) for _ in range(CLOSED_ORDERS_KEPT + 1)]
    for order in orders:
        desk.session.on_order_update(order.request_id, None, "no")
    calls = len(strategy.calls)
    desk.session.on_order_update(orders[0].request_id, None, "no")
    assert len(strategy.calls) == calls
    desk.session.on_order_update(orders[1].request_id, None, "no")
    assert len(strategy.calls) == calls + 1


def test_an_order_that_cannot_be_is_raised_and_not_sent() -> None:
    strategy, desk = started()
    with pytest.raises(InvalidOrder, match="less than one lot"):
        strategy.buy(0.000001)
    assert desk.submitted == []


@given(st.lists(st.decimals("0.00001", "5", places=5), min_size=1, max_size=8))
def test_however_an_order_is_filled_its_handle_adds_up(parts: list[Decimal]) -> None:
    strategy, desk = started()
    order = strategy.buy(sum(parts))
    for part in parts:
        desk.fill(1, Decimal(100), part)
        assert order.filled + order.remaining == order.quantity
        assert strategy.position().quantity == order.filled
    assert not order.is_open
    assert order.average_price == 100


# ---- warm-up


def test_orders_are_rejected_while_history_is_replayed() -> None:
    strategy = Recorder()
    strategy.warmup_bars = 2
    desk = Desk(strategy)
    desk.session.start()
    assert strategy.warming_up
    desk.session.on_bar(bar(1.0, 0), warmup=True)
    order = strategy.buy(1)
    assert (order.status, order.is_open) == (OrderStatus.REJECTED, False)
    assert "warming up on history" in order.reason
    assert desk.submitted == []
    desk.session.on_bar(bar(1.0, 1))
    assert not strategy.warming_up
    assert strategy.buy(1).is_open
    assert strategy.history(9) == [bar(1.0, 0), bar(1.0, 1)]


@pytest.mark.parametrize("event", ["quote", "trade"])
def test_any_live_event_ends_the_warm_up(event: str) -> None:
    strategy, desk = started()
    assert not strategy.warming_up  # this one wants no history
    desk.session.on_bar(bar(1.0, 0), warmup=True)
    assert strategy.warming_up
    if event == "quote":
        desk.session.on_quote(quote(1, 2))
    else:
        desk.session.on_trade(trade("1"))
    assert not strategy.warming_up


# ---- timers


def test_the_timer_goes_off_and_does_not_make_up_for_missed_calls() -> None:
    strategy, desk = started()
    assert desk.session.next_deadline_ns is None
    strategy.set_timer(10)
    assert desk.session.next_deadline_ns == START_NS + 10 * 10**9
    desk.advance(9)
    assert strategy.calls == ["start"]
    desk.advance(2)
    assert strategy.calls == ["start", "timer"]
    assert desk.session.next_deadline_ns == START_NS + 20 * 10**9  # it does not drift
    desk.advance(100)
    assert strategy.calls == ["start", "timer", "timer"]
    assert desk.session.next_deadline_ns == desk.now_ns + 10 * 10**9
    strategy.set_timer(None)
    desk.advance(100)
    assert strategy.calls == ["start", "timer", "timer"]


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_timer_that_makes_no_sense_is_refused(seconds: float) -> None:
    strategy, _ = started()
    with pytest.raises(StrategyError, match="a timer's seconds must be above zero"):
        strategy.set_timer(seconds)


# ---- changes of orders


def test_a_change_is_asked_for_once_and_shown_when_it_is_made() -> None:
    strategy, desk = started()
    order = strategy.buy(1, price=10)
    assert not strategy.amend(order, 2)  # the engine has not named it yet
    desk.update(1, OrderStatus.ACCEPTED)
    assert strategy.amend(order, "2.000001", price="9.999")
    assert desk.amends == [("koc-1", Decimal("2.00000"), Decimal("9.99"))]
    assert (order.amend_requested, order.quantity, order.price) == (True, Decimal(1), Decimal(10))
    assert not strategy.amend(order, 3)
    request = msgspec.structs.replace(order.request, quantity=Decimal(2), price=Decimal("9.99"))
    desk.update(1, OrderStatus.ACCEPTED, amending=request)
    assert order.amend_requested
    desk.update(1, OrderStatus.ACCEPTED, amending=None, request=request)
    assert (order.amend_requested, order.quantity, order.price) == (False, Decimal(2), Decimal("9.99"))
    assert not strategy.amend(order, 2)  # it has that
    assert strategy.amend(order, price=9)
    desk.update(1, OrderStatus.ACCEPTED, reason="too late")
    assert (order.amend_requested, order.reason) == (False, "too late")
    strategy.cancel(order)
    assert not strategy.amend(order, 5)
    desk.update(1, OrderStatus.CANCELED)
    assert not strategy.amend(order, 5)
    assert len(desk.amends) == 2


def test_a_change_to_what_no_order_can_be_is_refused_at_once() -> None:
    strategy, desk = started()
    order = strategy.sell(1, price=10)
    desk.update(1, OrderStatus.ACCEPTED)
    with pytest.raises(InvalidOrder, match="less than one lot"):
        strategy.amend(order, "0.0000001")
    with pytest.raises(InvalidOrder, match="price must be a number"):
        strategy.amend(order, price="much")
    assert strategy.amend(order, price="10.001")
    assert desk.amends == [("koc-1", Decimal(1), Decimal("10.01"))]  # a sell asks for more, never for less
    market = strategy.buy(1)
    desk.update(2, OrderStatus.ACCEPTED)
    with pytest.raises(InvalidOrder, match="a market order takes no price"):
        strategy.amend(market, price=5)


def test_a_change_that_an_earlier_worker_asked_for_may_be_asked_again() -> None:
    old = open_order()
    strategy, desk = started(open_orders=[msgspec.structs.replace(old, amending=old.request)])
    assert strategy.amend(strategy.open_orders[0], 3)
    assert desk.amends == [("old-1", Decimal(3), Decimal(100))]
