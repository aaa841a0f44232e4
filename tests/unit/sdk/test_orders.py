from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType, TimeInForce
from koc_qt.sdk import InvalidOrder
from koc_qt.sdk.orders import build_request, smallest_quantity, to_decimal
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
