from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    Fill,
    Liquidity,
    Order,
    OrderFilled,
    OrderRequest,
    OrderStatus,
    OrderType,
    TimeInForce,
)
from koc_qt.sdk import InvalidOrder
from koc_qt.sdk.orders import REQUESTS_KEPT, MarketRequests, OrderHandle, build_request, smallest_quantity, to_decimal
from tests.unit.sdk.desk import BTC


def build(side: Side = Side.BUY, quantity: Any = 1, price: Any = None, stop: Any = None, **others: Any) -> OrderRequest:
    options = {"time_in_force": "gtc", "post_only": False, "reduce_only": False} | others
    return build_request(BTC, side, quantity, price, stop, **options)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (3, "3"),
        (0.1, "0.1"),
        (0.1 + 0.2, "0.3"),
        (2.4 / 3, "0.8"),
        ("1.50", "1.50"),
        (" 2 ", "2"),
        (Decimal("0.123456789012345678"), "0.123456789012345678"),
        (np.float64(0.1), "0.1"),
        (np.int64(2**60), str(2**60)),
        (np.float32(0.5), "0.5"),
    ],
)
def test_numbers_become_exact(given: Any, read: str) -> None:
    assert to_decimal(given) == Decimal(read)


@pytest.mark.parametrize("bad", [None, True, "", "many", float("nan"), float("inf"), "1e99", 10**60, [1], object()])
def test_what_is_no_number_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidOrder, match="quantity must be a number, not"):
        build(quantity=bad)


@given(st.floats(min_value=1e-3, max_value=1e9))
def test_a_float_is_read_to_fifteen_digits(value: float) -> None:
    assert abs(to_decimal(value) - Decimal(value)) <= Decimal(value) * Decimal("5e-15")


def test_quantity_is_rounded_down_to_the_lot() -> None:
    assert build(quantity="0.123456789").quantity == Decimal("0.12345")
    assert build(quantity=0.00003 / 3).quantity == Decimal("0.00001")


def test_prices_are_rounded_to_the_passive_tick_and_stops_to_the_later_one() -> None:
    assert build(Side.BUY, price=100.019).price == Decimal("100.01")
    assert build(Side.SELL, price=100.011).price == Decimal("100.02")
    assert build(Side.BUY, stop=100.011).stop_price == Decimal("100.02")
    assert build(Side.SELL, stop=100.019).stop_price == Decimal("100.01")
    assert build(Side.SELL, price=100.01).price == Decimal("100.01")


def test_the_type_follows_from_the_prices() -> None:
    assert build().type is OrderType.MARKET
    assert build(price=1).type is OrderType.LIMIT
    assert build(stop=1).type is OrderType.STOP
    assert build(price=1, stop=1).type is OrderType.STOP_LIMIT


def test_time_in_force_may_be_written_as_text() -> None:
    assert build(time_in_force="IOC").time_in_force is TimeInForce.IOC
    assert build(time_in_force=TimeInForce.FOK).time_in_force is TimeInForce.FOK
    with pytest.raises(InvalidOrder, match="time_in_force must be gtc, ioc or fok, not 'day'"):
        build(time_in_force="day")


@given(st.decimals("0.01", "1000000", places=2))
def test_the_smallest_quantity_is_just_enough(price: Decimal) -> None:
    smallest = smallest_quantity(BTC, price)
    assert smallest == BTC.round_quantity(smallest) >= BTC.lot_size
    assert smallest * price >= BTC.min_notional
    less = smallest - BTC.lot_size
    assert not less or less * price < BTC.min_notional


def test_there_is_no_smallest_quantity_at_no_price() -> None:
    with pytest.raises(InvalidOrder, match="price must be above zero, not 0"):
        smallest_quantity(BTC, Decimal(0))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"quantity": "0.000001"}, "less than one lot of sim:BTC/USDT"),
        ({"quantity": 0}, "quantity must be a number above zero"),
        ({"quantity": -1}, "quantity must be a number above zero"),
        ({"price": 0.001}, "a price of 0.001 is less than one tick of sim:BTC/USDT"),
        ({"price": 0}, "price must be a number above zero"),
        ({"stop": -5}, "stop_price must be a number above zero"),
        ({"post_only": True}, "post-only needs a limit order"),
    ],
)
def test_orders_that_cannot_be_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOrder, match=message):
        build(**fields)


quantities = st.one_of(
    st.sampled_from(
        [
            "0.01",
            " 0.01 ",
            0.1,
            Decimal.from_float(0.1),
            0.3,
            Decimal.from_float(0.3),
            1,
            1.0,
            Decimal("1.00"),
            True,
            np.float64(1),
        ]
    ),
    st.sampled_from([0, -1, "many", None, float("nan"), Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity"), [1]]),
    st.floats(0, 10),
)


def outcome(build: Callable[[], OrderRequest]) -> str:
    """Give the request, or why there is none."""
    try:
        return repr(build())
    except InvalidOrder as error:
        return str(error)


@given(st.lists(st.tuples(st.sampled_from(Side), quantities, st.booleans()), max_size=12))
def test_requests_that_are_kept_are_those_that_would_be_built(asked: list[tuple[Side, Any, bool]]) -> None:
    requests, gtc = MarketRequests(BTC), TimeInForce.GTC
    for side, quantity, only in (*asked, *asked):
        built = outcome(lambda: build(side, quantity, time_in_force=gtc, reduce_only=only))  # noqa: B023
        assert outcome(lambda: requests.build(side, quantity, only)) == built  # noqa: B023


def test_only_so_many_requests_are_kept() -> None:
    requests = MarketRequests(BTC)
    first = requests.build(Side.BUY, 1, False)
    assert requests.build(Side.BUY, 1, False) is first
    for quantity in range(2, REQUESTS_KEPT + 2):
        requests.build(Side.BUY, quantity, False)
    assert requests.build(Side.BUY, 1, False) is not first


def seen(handle: OrderHandle) -> tuple[Any, ...]:
    """Give all that a strategy can see of a handle, written out."""
    names = ("status", "filled", "remaining", "average_price", "is_open", "reason", "client_order_id", "request")
    return (*(repr(getattr(handle, name)) for name in names), handle.cancel_requested, handle.amend_requested)


@given(
    st.sampled_from(Side),
    st.decimals("0.00001", "100000", places=5),
    st.decimals("0.0000001", "100000000", places=30),
    st.booleans(),
)
def test_an_order_that_is_executed_whole_is_what_its_state_machine_makes_of_it(
    side: Side, quantity: Decimal, price: Decimal, asks_for_cancel: bool
) -> None:
    request = build(side, quantity)
    order = Order("o1", "s", "a", request, 1, 1, OrderStatus.ACCEPTED, "v1")
    fill = Fill("o1-1", "o1", "s", "a", BTC.id, side, price, quantity, Decimal(0), "USDT", Liquidity.TAKER, 2)
    short, long = OrderHandle(request, 1), OrderHandle(request, 1)
    for handle in (short, long):
        handle.update(order)
        handle.cancel_requested = asks_for_cancel
    short.execute(fill)
    long.update(apply(order, OrderFilled("o1", 2, fill)))
    assert seen(short) == seen(long)
    assert short.is_open, "the position does not hold it yet"
    assert [handle.add_fill(fill) for handle in (short, long)] == [True, True]
    assert seen(short) == seen(long)
    assert not short.is_open
