"""A market order alone takes a short cut: its outcome is that of the long way, digit for digit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koc_qt.domain.market import Bar, Side
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.orders import Fill, Order, OrderAccepted, OrderFilled
from koc_qt.domain.state import Balance
from tests.unit.matching.desk import ACCOUNT, BTC, BUY, ETH, IOC, SELL, D, bar, instrument, order, quote

MINUTE_NS = 60_000_000_000


def engine(
    *, usdt: object = 10_000, allow_short: bool = True, btc: object = 0, least: object = 1, **model: Any
) -> MatchingEngine:
    made = MatchingEngine(
        [instrument(BTC, min_notional=D(least)), instrument(ETH)],
        [Balance("USDT", D(usdt)), Balance("BTC", D(btc))],
        FillModel(**model),
        ACCOUNT,
        random.Random(1),
        allow_short=allow_short,
    )
    made.on_bar(bar(100, 100, 100, 100))
    return made


def at(minute: int, opening: float, volume: float = 1e6) -> Bar:
    return bar(opening, opening, opening, opening, volume, minute * MINUTE_NS)


def long_way(long: MatchingEngine, sent: Order, met: Bar) -> tuple[bool, list[Fill]]:
    """Give whether an order is accepted and waits, and its fills if it is filled whole by the bar."""
    accepted = [type(event) for event in long.submit(sent, sent.created_ns)] == [OrderAccepted]
    fills = [event.fill for event in long.on_bar(met) if isinstance(event, OrderFilled)]
    whole = sum((fill.quantity for fill in fills), D(0)) == sent.request.quantity
    return accepted, fills if whole else []


def short_cut(short: MatchingEngine, sent: Order, met: Bar) -> tuple[bool, list[Fill]]:
    if not short.waits_alone(sent.request, sent.created_ns):
        return False, []
    fill = short.fill_alone(sent, met)
    if fill is not None:
        return True, [fill]
    assert [type(event) for event in short.submit(sent, sent.created_ns)] == [OrderAccepted]
    short.on_bar(met)
    return True, []


amount = st.integers(1, 150_000).map(lambda thousandths: D(thousandths) / 1000)
price = st.integers(1_000, 40_000).map(lambda cents: cents / 100)


@settings(max_examples=250, deadline=None)
@given(
    orders=st.lists(st.tuples(st.sampled_from(Side), amount, st.booleans(), price, price), min_size=1, max_size=6),
    allow_short=st.booleans(),
    fraction=st.sampled_from([None, D("0.1"), D(1)]),
    volume=st.sampled_from([0.0, 1.0, 40.0, 1e6]),
    slippage=st.sampled_from([(D(0), 0), (D("0.003"), 2)]),
    least=st.sampled_from([0, 1]),
)
def test_the_short_cut_leads_where_the_long_way_does(
    orders: list[Any], allow_short: bool, fraction: Any, volume: float, slippage: Any, least: int
) -> None:
    model = {"bar_volume_fraction": fraction, "slippage_fraction": slippage[0], "slippage_ticks": slippage[1]}
    long, short = (engine(allow_short=allow_short, btc=3, least=least, **model) for _ in range(2))
    for number, (side, quantity, reduce_only, opening, close) in enumerate(orders, start=1):
        sent = order(f"o{number}", side, quantity, reduce_only=reduce_only, time_ns=number * MINUTE_NS)
        met = bar(opening, max(opening, close), min(opening, close), close, volume, number * MINUTE_NS)
        accepted, fills = long_way(long, sent, met)
        foreseen, found = short_cut(short, sent, met)
        assert not foreseen or accepted
        if not foreseen:  # the long way it is
            found = long_way(short, sent, met)[1]
        assert found == fills
        for each in (long, short):
            each.cancel(sent.client_order_id, number * MINUTE_NS)
        totals = [{balance.currency: balance.total for balance in each.balances} for each in (long, short)]
        assert totals[0] == totals[1]
        assert long.free == short.free


@pytest.mark.parametrize("least", [0, 1])
def test_plain_orders_take_it(least: int) -> None:
    short = engine(least=least)
    assert short_cut(short, order("a", BUY, 1, time_ns=MINUTE_NS), at(1, 100))[1][0].fill_id == "a-1"
    assert short_cut(short, order("b", SELL, 1, reduce_only=True, time_ns=2 * MINUTE_NS), at(2, 110))[1]
    assert short_cut(short, order("c", SELL, 50, time_ns=3 * MINUTE_NS), at(3, 110))[1]
    assert short_cut(short, order("d", BUY, 60, time_ns=4 * MINUTE_NS), at(4, 110))[1]
    cash = engine(allow_short=False, btc=2)
    assert short_cut(cash, order("a", SELL, 2, time_ns=MINUTE_NS), at(1, 100))[1]
    assert short_cut(cash, order("b", BUY, 3, time_ns=MINUTE_NS), at(1, 100))[1]


@pytest.mark.parametrize(
    ("request_changes", "made", "why"),
    [
        ({"limit": 99}, {}, "a limit order rests"),
        ({"tif": IOC}, {}, "an order that is immediate"),
        ({"quantity": "0.0005"}, {}, "half a lot"),
        ({"quantity": "0.001"}, {}, "less than the least notional"),
        ({"quantity": 1001}, {"usdt": 1_000_000}, "more than the venue takes"),
        ({"quantity": 101}, {}, "more than can be paid"),
        ({"reduce_only": True}, {}, "nothing to reduce"),
        ({"side": SELL}, {"allow_short": False}, "nothing to sell"),
        ({}, {"latency_ns": 1}, "an order that is late"),
        ({}, {"latency_jitter_ns": 1}, "an order that may be late"),
    ],
)
def test_others_do_not(request_changes: dict[str, Any], made: dict[str, Any], why: str) -> None:
    fields: dict[str, Any] = {"side": BUY, "quantity": 1, "limit": None} | request_changes
    sent = order("a", fields.pop("side"), fields.pop("quantity"), fields.pop("limit"), **fields)
    assert not engine(**made).waits_alone(sent.request, 0), why


def test_it_is_for_known_markets_without_ticks_and_for_accounts_without_orders() -> None:
    plain = order("a", BUY, 1).request
    assert not engine().waits_alone(order("a", BUY, 1, symbol=ETH).request, 0)
    stranger = order("a", BUY, 1, symbol=type(BTC)("sim", "XRP/USDT")).request
    assert not engine().waits_alone(stranger, 0)
    ticking = engine()
    ticking.on_quote(quote(99, 1, 100, 1))
    assert not ticking.waits_alone(plain, 0)
    working = engine()
    working.submit(order("b", BUY, 1, 50), 0)
    assert not working.waits_alone(plain, 0)


def test_a_bar_that_is_too_small_or_too_dear_leaves_it_to_the_long_way() -> None:
    short = engine()
    sent = order("a", BUY, 90, time_ns=MINUTE_NS)
    assert short.waits_alone(sent.request, MINUTE_NS)
    assert short.fill_alone(sent, at(1, 100, volume=899.0)) is None
    assert short.fill_alone(sent, at(1, 120)) is None
    assert short.fill_alone(sent, at(1, 110)) is not None
