"""What must hold whatever venues and strategies do."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.bars import BarBuilder, merge, resample, validate_bars
from koc_qt.domain.errors import BadBars, InvalidOrder, InvalidTransition, RiskRefused
from koc_qt.domain.market import Bar, Side, Trade
from koc_qt.domain.order_state import apply, events_from_report
from koc_qt.domain.orders import (
    CancelRejected,
    CancelRequested,
    Fill,
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderReport,
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderTriggered,
    OrderType,
    OrderUnknown,
)
from koc_qt.domain.positions import Position
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from tests.unit.domain.examples import BTC, MINUTE_NS, START_NS, D, bar, fill, filled, instrument, order, request, trade

prices = st.decimals("0.01", "1e6", places=4)
amounts = st.decimals("0.001", "1e6", places=6)

# ---- orders --------------------------------------------------------------------------------------------------------


@st.composite
def fills_of_an_order(draw: st.DrawFn, *, whole: bool | None = None) -> tuple[Order, list[Fill]]:
    """An order and distinct fills that do not exceed it; `whole` asks for those that do or do not complete it."""
    quantities = draw(st.lists(amounts, min_size=1, max_size=6))
    rest = draw(amounts) if whole is False or (whole is None and draw(st.booleans())) else D(0)
    asked = request(type=OrderType.STOP, quantity=str(sum(quantities, rest)), stop_price=D(1))
    fills = [fill(f"f{n}", str(quantity), str(draw(prices))) for n, quantity in enumerate(quantities)]
    return order(request=asked), fills


def other_events() -> st.SearchStrategy[OrderEvent]:
    times = st.integers(0, 100)
    return st.one_of(
        st.builds(OrderSubmitted, st.just("koc1"), times),
        st.builds(OrderUnknown, st.just("koc1"), times, st.just("no answer")),
        st.builds(OrderAccepted, st.just("koc1"), times, st.sampled_from(["", "v1", "v2"])),
        st.builds(OrderTriggered, st.just("koc1"), times),
        st.builds(OrderRejected, st.just("koc1"), times, st.just("no")),
        st.builds(OrderCanceled, st.just("koc1"), times),
        st.builds(OrderExpired, st.just("koc1"), times),
        st.builds(CancelRequested, st.just("koc1"), times),
        st.builds(CancelRejected, st.just("koc1"), times, st.just("no")),
    )


@given(data=st.data())
def test_no_fill_is_lost_or_counted_twice_whatever_else_a_venue_says(data):
    now, fills = data.draw(fills_of_an_order())
    told: list[OrderEvent] = [OrderFilled("koc1", n, made) for n, made in enumerate(fills)]
    told += data.draw(st.lists(st.sampled_from(told), max_size=6))
    told += data.draw(st.lists(other_events(), max_size=12))
    position = Position("sma", "paper", instrument())
    for event in data.draw(st.permutations(told)):
        before = now
        try:
            now = apply(now, event)
        except InvalidTransition:
            assert not isinstance(event, OrderFilled)  # a contradiction may be refused, a fill never
        if isinstance(event, OrderFilled):
            assert position.apply(event.fill) is (now is not before)
        assert before.status is now.status or not before.status.is_terminal or now.status is OrderStatus.FILLED
        assert before.filled_quantity <= now.filled_quantity <= now.request.quantity
        assert before.updated_ns <= now.updated_ns
        assert (now.status is OrderStatus.FILLED) == (now.remaining == 0)
        assert not (now.cancel_requested and now.status.is_terminal)
    assert sorted(now.fill_ids) == sorted(made.fill_id for made in fills)
    assert now.filled_quantity == sum(made.quantity for made in fills) == position.quantity
    assert now.filled_notional == sum(made.quantity * made.price for made in fills)
    exact = sum(Fraction(made.quantity) * Fraction(made.price) for made in fills) / Fraction(now.filled_quantity)
    assert now.average_price is not None
    assert abs(Fraction(now.average_price) / exact - 1) <= Fraction(1, 2 * 10**27)


@given(data=st.data())
def test_what_a_venue_really_sends_never_raises_in_any_order_and_ends_the_same(data):
    start, fills = data.draw(fills_of_an_order())
    told: list[OrderEvent] = [OrderFilled("koc1", 5, made) for made in fills]
    told += [OrderAccepted("koc1", 3, "v1"), OrderTriggered("koc1", 4), CancelRequested("koc1", 5)]
    told.append(data.draw(st.sampled_from([OrderCanceled("koc1", 9), OrderExpired("koc1", 9)])))
    told += data.draw(st.lists(st.sampled_from(told), max_size=6))
    now = apply(start, OrderSubmitted("koc1", 2))
    for event in data.draw(st.permutations(told)):
        now = apply(now, event)
    whole = sum(made.quantity for made in fills) == start.request.quantity
    assert now.status in ({OrderStatus.FILLED} if whole else {OrderStatus.CANCELED, OrderStatus.EXPIRED})
    assert now.venue_order_id == "v1"
    assert sorted(now.fill_ids) == sorted(made.fill_id for made in fills)
    for event in told:
        assert apply(now, event) is now


@given(data=st.data(), extra=amounts)
def test_more_than_was_ordered_is_never_counted(data, extra):
    now, fills = data.draw(fills_of_an_order(whole=True))
    for made in fills:
        now = apply(now, OrderFilled("koc1", 5, made))
    with pytest.raises(InvalidTransition, match="would fill"):
        apply(now, filled("one more", str(extra)))


@given(data=st.data())
def test_a_report_brings_an_order_to_the_same_end_as_its_events(data):
    start, fills = data.draw(fills_of_an_order())
    known = data.draw(st.lists(st.sampled_from(fills), unique=True))
    status = data.draw(st.sampled_from([OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.PARTIALLY_FILLED]))
    now = apply(apply(start, OrderSubmitted("koc1", 2)), OrderUnknown("koc1", 3, "no answer"))
    for made in known:
        now = apply(now, OrderFilled("koc1", 5, made))
    report = OrderReport("koc1", "v1", status, tuple(data.draw(st.permutations(fills))), 50)
    for event in events_from_report(now, report, 60):
        assert apply(now, event) is not now
        now = apply(now, event)
    assert now.filled_quantity == sum(made.quantity for made in fills)
    assert now.status is (OrderStatus.FILLED if now.remaining == 0 else status)
    assert now.venue_order_id == "v1"
    assert events_from_report(now, report, 61) == []


# ---- positions -----------------------------------------------------------------------------------------------------


@st.composite
def fill_series(draw: st.DrawFn) -> list[Fill]:
    """Fills of few prices and small quantities, so that positions often come back to zero."""
    kinds = draw(
        st.lists(
            st.tuples(
                st.sampled_from(list(Side)),
                st.integers(1, 8),
                st.integers(9_900, 10_100) | st.integers(1, 10**9),
                st.sampled_from(["USDT", "BTC", "BNB"]),
                st.integers(-50, 50),
            ),
            max_size=40,
        )
    )
    return [
        fill(
            f"f{n}",
            str(D(lots).scaleb(-1)),
            str(D(ticks).scaleb(-2)),
            side=side,
            fee=D(fee // 20).scaleb(-1) if currency == "BTC" else D(fee).scaleb(-3),
            fee_currency=currency,
        )
        for n, (side, lots, ticks, currency, fee) in enumerate(kinds)
    ]


def slow_fifo(fills: list[Fill]) -> tuple[list[tuple[int, Fraction]], Fraction, int]:
    """Match every single 0.1 with the oldest open one, the long way: open units (sign, price), profit, round trips."""
    units: list[tuple[int, Fraction]] = []
    profit, trips = Fraction(0), 0
    for made, moved in ((each, moved) for each in fills for moved in moves(each)):
        for _ in range(int(abs(moved) * 10)):
            if units and units[0][0] * moved < 0:
                sign, price = units.pop(0)
                profit += sign * (Fraction(made.price) - price) / 10
                trips += not units
            else:
                units.append((1 if moved > 0 else -1, Fraction(made.price)))
    return units, profit, trips


def moves(made: Fill) -> list[D]:
    """Give what is held more with a fill, and less for its fee."""
    return [made.quantity * made.side.sign, -made.fee if made.fee_currency == "BTC" else D(0)]


@given(fills=fill_series(), mark=prices, data=st.data())
def test_a_position_is_the_sum_of_its_fills_and_its_profit_is_the_cash_that_moved(fills, mark, data):
    position = Position("sma", "paper", instrument())
    again = data.draw(st.lists(st.sampled_from(fills), max_size=5)) if fills else []
    for made in fills:
        assert position.apply(made)
    for made in again:
        assert not position.apply(made)
    held = sum((moved for made in fills for moved in moves(made)), D(0))
    cash = -sum((sum(moves(made)) * made.price for made in fills), D(0))
    assert position.quantity == held
    assert position.realised_pnl + position.unrealised_pnl(mark) == cash + held * mark
    units, profit, trips = slow_fifo(fills)
    assert Fraction(position.realised_pnl) == profit
    assert position.trades == trips
    if units:
        exact = sum(price for _, price in units) / len(units)
        assert position.average_price is not None
        assert abs(Fraction(position.average_price) / exact - 1) <= Fraction(1, 2 * 10**27)
    else:
        assert position.average_price is None
        assert position.unrealised_pnl(mark) == 0
    worth = {"USDT": lambda made: made.fee, "BTC": lambda made: made.fee * made.price, "BNB": lambda made: D(0)}
    assert position.fees == sum((worth[made.fee_currency](made) for made in fills), D(0))
    assert position.other_fees.get("BNB", 0) == sum((made.fee for made in fills if made.fee_currency == "BNB"), D(0))
    assert len(position._lots) <= 2 * len(fills)


# ---- bars ----------------------------------------------------------------------------------------------------------


@st.composite
def trade_series(draw: st.DrawFn) -> list[Trade]:
    gaps = st.integers(0, MINUTE_NS // 3) | st.integers(0, 20 * MINUTE_NS)
    kinds = draw(st.lists(st.tuples(gaps, prices, amounts), min_size=1, max_size=60))
    time_ns, trades = START_NS, []
    for gap, price, amount in kinds:
        time_ns += gap
        trades.append(trade(time_ns, str(price), str(amount)))
    return trades


def bars_of(trades: list[Trade], timeframe: str) -> list[Bar]:
    builder = BarBuilder(BTC, timeframe)
    bars = [closed for made in trades for closed in builder.add(made)]
    return bars + list(builder.close_until(2**62))


@given(trades=trade_series(), timeframe=st.sampled_from(["1s", "1m", "5m", "1h"]))
def test_bars_hold_every_trade_once(trades, timeframe):
    bars = bars_of(trades, timeframe)
    validate_bars(bars, timeframe)
    duration = duration_ns(timeframe)
    for made in bars:
        inside = [t for t in trades if made.open_time_ns <= t.time_ns < made.open_time_ns + duration]
        assert made.open == float(inside[0].price)
        assert made.close == float(inside[-1].price)
        assert made.high == float(max(t.price for t in inside))
        assert made.low == float(min(t.price for t in inside))
        assert made.volume == float(sum(t.quantity for t in inside))
    assert {bar.open_time_ns for bar in bars} == {bar_open_ns(t.time_ns, timeframe) for t in trades}


@given(trades=trade_series(), data=st.data())
def test_however_the_stream_is_cut_and_whenever_the_clock_ticks_the_bars_are_the_same(trades, data):
    builder = BarBuilder(BTC, "1m")
    bars: list[Bar] = []
    for made in trades:
        parts = data.draw(st.integers(1, 3))
        part = made.quantity / 4
        for quantity in [part] * (parts - 1) + [made.quantity - part * (parts - 1)]:  # one trade told in parts
            if data.draw(st.booleans()):
                bars += builder.close_until(data.draw(st.integers(made.time_ns - 3 * MINUTE_NS, made.time_ns)))
            bars += builder.add(trade(made.time_ns, str(made.price), str(quantity)))
    bars += builder.close_until(2**62)
    assert bars == bars_of(trades, "1m")
    assert builder.late == 0


@given(trades=trade_series(), shuffle=st.randoms(use_true_random=False))
def test_trades_in_any_order_are_either_in_a_bar_or_counted_as_late(trades, shuffle):
    shuffle.shuffle(trades)
    builder = BarBuilder(BTC, "1m")
    kept = [(builder.late, builder.add(made), made) for made in trades]
    bars = [bar for _, closed, _ in kept for bar in closed] + list(builder.close_until(2**62))
    validate_bars(bars, "1m")
    late_before = [late for late, _, _ in kept[1:]] + [builder.late]
    volume = sum((made.quantity for (late, _, made), then in zip(kept, late_before, strict=True) if then == late), D(0))
    assert math.isclose(math.fsum(bar.volume for bar in bars), float(volume), rel_tol=1e-12)


@given(trades=trade_series(), until=st.integers(0, 3 * 3600))
def test_longer_bars_are_the_same_however_they_are_made(trades, until):
    until_ns = START_NS + until * 1_000_000_000
    minutes = bars_of(trades, "1m")
    for middle, longest in (("5m", "15m"), ("15m", "1h"), ("1h", "1w")):
        at_once = resample(minutes, longest, until_ns=until_ns)
        in_steps = resample(resample(minutes, middle, until_ns=until_ns), longest, until_ns=until_ns)
        assert [without_volume(bar) for bar in at_once] == [without_volume(bar) for bar in in_steps]
        for one, other in zip(at_once, in_steps, strict=True):
            assert math.isclose(one.volume, other.volume, rel_tol=1e-12)
        from_trades = [bar for bar in bars_of(trades, longest) if bar.open_time_ns + duration_ns(longest) <= until_ns]
        assert [without_volume(bar) for bar in at_once] == [without_volume(bar) for bar in from_trades]


def without_volume(bar: Bar) -> tuple[object, ...]:
    return bar.instrument, bar.timeframe, bar.open_time_ns, bar.open, bar.high, bar.low, bar.close


@given(trades=trade_series(), cut=st.integers(0, 60), overlap=st.integers(0, 5))
def test_history_and_live_put_together_are_the_whole(trades, cut, overlap):
    bars = bars_of(trades, "1m")
    assert merge(bars[: cut + overlap], bars[cut:]) == bars


@given(count=st.integers(2, 20), data=st.data())
def test_two_bars_that_changed_places_are_always_found(count, data):
    bars = [bar(START_NS + n * MINUTE_NS) for n in range(count)]
    one, other = data.draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=2, unique=True))
    bars[one], bars[other] = bars[other], bars[one]
    with pytest.raises(BadBars, match="the row before it opens later"):
        validate_bars(bars, "1m")


# ---- risk ----------------------------------------------------------------------------------------------------------

lots = st.integers(1, 120).map(lambda n: D(n).scaleb(-1))
ticks = st.integers(900, 1100).map(lambda n: D(n).scaleb(-1))
wild = st.decimals("1e-20", "1e17", places=20)
RULES = instrument(tick_size=D("0.1"), lot_size=D("0.1"), min_notional=D(10), max_quantity=D(50))
LIMITS = RiskLimits(max_order_notional=D(1000), max_position_notional=D(2000), allow_short=False)


@given(
    side=st.sampled_from(Side),
    kind=st.sampled_from(OrderType),
    amounts=st.tuples(lots, ticks, ticks),
    reference=st.decimals("97", "103", places=2),
    held=st.decimals("-30", "30", places=1),
    pending=st.tuples(st.decimals("0", "10", places=1), st.decimals("0", "10", places=1)),
    loss=st.sampled_from([D(0), D(-4999), D(-5000)]),
    reduce_only=st.booleans(),
)
def test_what_passes_the_gate_keeps_every_rule_and_what_does_not_is_told_why(
    side, kind, amounts, reference, held, pending, loss, reduce_only
):
    quantity, price, stop = amounts
    limit = price if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None
    trigger = stop if kind in (OrderType.STOP, OrderType.STOP_LIMIT) else None
    asked = OrderRequest(BTC, side, kind, quantity, limit, trigger, reduce_only=reduce_only)
    context = RiskContext(RULES, reference, held, *pending, open_orders=1, orders_last_minute=1, daily_pnl=loss)
    try:
        check(asked, context, LIMITS)
    except (InvalidOrder, RiskRefused) as refusal:
        why = str(refusal)
    else:
        why = ""
    if why:
        assert 40 < len(why) < 400
        return
    same_side = pending[0] if side is Side.BUY else pending[1]
    after = held + side.sign * (same_side + quantity)
    assert quantity % RULES.lot_size == 0
    assert quantity <= 50
    assert limit is None or limit % RULES.tick_size == 0
    assert trigger is None or trigger % RULES.tick_size == 0
    worth = quantity * (limit or trigger or reference)
    assert 10 <= worth <= 1000
    only_closes = abs(after) <= abs(held) and after * held >= 0
    assert only_closes or (loss > -LIMITS.max_daily_loss and not reduce_only)
    assert only_closes or abs(after) * (limit or trigger or reference) <= 2000
    assert only_closes or side is Side.BUY or after >= 0


@given(side=st.sampled_from(Side), amounts=st.tuples(wild, wild, wild), reference=st.none() | wild)
def test_wild_numbers_are_judged_like_any_other(side, amounts, reference):
    quantity, price, stop = amounts
    context = RiskContext(RULES, reference, *[D(0)] * 3, open_orders=0, orders_last_minute=0, daily_pnl=D(0))
    for kind, limit, trigger in (
        (OrderType.MARKET, None, None),
        (OrderType.LIMIT, price, None),
        (OrderType.STOP, None, stop),
        (OrderType.STOP_LIMIT, price, stop),
    ):
        asked = OrderRequest(BTC, side, kind, quantity, limit, trigger)
        on_grid = all(value % D("0.1") == 0 for value in (quantity, limit, trigger) if value is not None)
        if not on_grid or quantity > 50:
            with pytest.raises((InvalidOrder, RiskRefused)):
                check(asked, context, LIMITS)
