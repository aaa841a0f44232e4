from __future__ import annotations

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, KocError
from koc_qt.domain.market import Quote, Side
from koc_qt.domain.orders import TERMINAL, OrderRequest, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import PositionSnapshot
from tests.unit.domain.examples import BTC, D, fill, order, request


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"type": OrderType.LIMIT}, "a limit order needs a price"),
        ({"type": OrderType.STOP_LIMIT, "stop_price": D(1)}, "a stop_limit order needs a price"),
        ({"type": OrderType.MARKET, "price": "1"}, "a market order takes no price"),
        ({"type": OrderType.STOP, "price": "1", "stop_price": D(1)}, "a stop order takes no price"),
        ({"type": OrderType.STOP}, "a stop order needs a stop price"),
        ({"type": OrderType.STOP_LIMIT, "price": "1"}, "a stop_limit order needs a stop price"),
        ({"price": "1", "stop_price": D(1)}, "a limit order takes no stop price"),
        ({"stop_price": D(1)}, "a market order takes no stop price"),
        ({"post_only": True}, "post-only needs a limit order"),
        ({"price": "1", "post_only": True, "time_in_force": TimeInForce.IOC}, "post-only needs a limit order"),
        ({"quantity": "0"}, "quantity must be a number above zero, not 0"),
        ({"quantity": "-1"}, "quantity must be a number above zero, not -1"),
        ({"quantity": "NaN"}, "quantity must be a number above zero, not NaN"),
        ({"quantity": "sNaN"}, "quantity must be a number above zero, not sNaN"),
        ({"quantity": "Infinity"}, "quantity must be a number above zero, not Infinity"),
        ({"price": "0"}, "price must be a number above zero, not 0"),
        ({"type": OrderType.STOP, "stop_price": D(-3)}, "stop_price must be a number above zero, not -3"),
        ({"quantity": "1e18"}, r"quantity must be below 1e18, not 1e\+18"),
        ({"quantity": "1e999999"}, r"quantity must be below 1e18, not 1e\+999999"),
        ({"price": "1e-51"}, "price must have at most 50 decimals, not 51"),
        ({"quantity": "-" + "7" * 10_000}, r"quantity must be a number above zero, not -7\.777777778e\+9999$"),
    ],
)
def test_a_request_that_contradicts_itself_is_refused(fields, text):
    with pytest.raises(InvalidOrder, match=text):
        request(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"price": "1", "post_only": True},
        {"type": OrderType.STOP, "stop_price": D(1)},
        {"type": OrderType.STOP_LIMIT, "stop_price": D(1), "price": "2", "time_in_force": TimeInForce.FOK},
        {"quantity": "999999999999999999"},
        {"quantity": str(D(1) / D(3))},
    ],
)
def test_a_sound_request_survives_the_wire(fields):
    asked = request(**fields)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(asked), type=OrderRequest) == asked


def test_decoding_a_bad_request_is_a_decoding_error_that_says_why():
    good = msgspec.to_builtins(request())
    with pytest.raises(msgspec.ValidationError, match="quantity must be a number above zero, not -1"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(good | {"quantity": "-1"}), type=OrderRequest)
    assert issubclass(InvalidOrder, KocError)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"fill_id": ""}, "a fill of order koc1 has no id"),
        ({"fill_id": "f", "quantity": "0"}, "a fill's quantity must be a number above zero, not 0"),
        ({"fill_id": "f", "price": "-1"}, "a fill's price must be a number above zero, not -1"),
        ({"fill_id": "f", "fee": D("NaN")}, "a fill's fee must be a number, not NaN"),
    ],
)
def test_an_impossible_fill_is_refused(fields, text):
    with pytest.raises(InvalidOrder, match=text):
        fill(**fields)


def test_a_rebate_is_a_negative_fee():
    assert fill("f", fee=D("-0.5")).fee == D("-0.5")


def test_an_order_is_open_until_its_status_is_terminal():
    assert {status for status in OrderStatus if status.is_terminal} == TERMINAL
    assert order().is_open
    assert not order(status=OrderStatus.EXPIRED).is_open
    assert order(filled_quantity=D("2.5")).remaining == D("7.5")


def test_what_may_still_be_filled_counts_a_change_that_is_on_its_way():
    assert order(filled_quantity=D("2.5")).most_remaining == D("7.5")
    assert order(filled_quantity=D("2.5"), amending=request(quantity="20", price="100")).most_remaining == D("17.5")
    assert order(filled_quantity=D("2.5"), amending=request(quantity="4", price="100")).most_remaining == D("7.5")


def test_sides_have_a_sign_and_an_opposite():
    assert (Side.BUY.sign, Side.SELL.sign) == (1, -1)
    assert (Side.BUY.opposite, Side.SELL.opposite) == (Side.SELL, Side.BUY)


def test_a_quote_has_a_middle_and_a_spread():
    quote = Quote(BTC, 0, D(99), D(1), D(102), D(1))
    assert (quote.mid, quote.spread) == (D("100.5"), D(3))


def test_a_position_s_profit_is_after_fees():
    assert PositionSnapshot("s", "a", BTC, D(1), D(100), D(5), D(-2), D("0.5"), 0).pnl == D("2.5")
