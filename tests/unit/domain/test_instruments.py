from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.exact import EXACT, quotient
from koc_qt.domain.instruments import InstrumentId
from tests.unit.domain.examples import BTC, D, instrument

positive = st.decimals("1e-12", "1e12", allow_nan=False, allow_infinity=False)


def test_an_instrument_id_is_written_as_it_is_read():
    assert str(BTC) == "sim:BTC/USDT"
    assert InstrumentId.parse(" sim:BTC/USDT ") == BTC
    assert InstrumentId.parse("BTC/USDT", default_venue="sim") == BTC
    assert InstrumentId.parse("binance:BTC/USDT", default_venue="sim").venue == "binance"
    assert InstrumentId.parse("okx:BTC/USDT:USDT") == InstrumentId("okx", "BTC/USDT:USDT")


@pytest.mark.parametrize("text", ["", "BTC/USDT", ":BTC/USDT", "sim:", "sim: BTC/USDT", "sim :BTC/USDT", "  "])
def test_what_is_not_an_instrument_id_is_refused_with_an_example(text):
    with pytest.raises(InvalidOrder, match=r"is not an instrument: write VENUE:SYMBOL, such as sim:BTC/USDT"):
        InstrumentId.parse(text)


def test_an_empty_symbol_is_refused_even_with_a_default_venue():
    with pytest.raises(InvalidOrder, match="is not an instrument"):
        InstrumentId.parse("", default_venue="sim")


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ({"tick_size": D(0)}, "tick_size must be a number above zero, not 0"),
        ({"lot_size": D("-0.1")}, "lot_size must be a number above zero, not -0.1"),
        ({"tick_size": D("NaN")}, "tick_size must be a number above zero, not NaN"),
        ({"lot_size": D("Infinity")}, "lot_size must be a number above zero, not Infinity"),
        ({"min_quantity": D(-1)}, "min_quantity must be a number, zero or more, not -1"),
        ({"max_quantity": D("NaN")}, "max_quantity must be a number, zero or more, not NaN"),
        ({"min_notional": D("sNaN")}, "min_notional must be a number, zero or more, not sNaN"),
        ({"maker_fee": D("NaN")}, "fees must be numbers, not NaN and 0"),
        ({"taker_fee": D("Infinity")}, "fees must be numbers, not 0 and Infinity"),
    ],
)
def test_impossible_rules_are_refused(rules, text):
    with pytest.raises(InvalidOrder, match=f"sim:BTC/USDT: {text}"):
        instrument(**rules)


def test_prices_are_put_on_the_tick_grid():
    rules = instrument(tick_size=D("0.05"))
    assert rules.round_price(D("1.07")) == D("1.05")
    assert rules.round_price(D("1.075")) == D("1.10")  # half to even: 22 ticks
    assert rules.round_price(D("1.06"), ROUND_CEILING) == D("1.10")
    assert rules.round_price(D("1.09"), ROUND_FLOOR) == D("1.05")
    assert rules.floor_price(D("1.0999")) == D("1.05")
    assert rules.ceil_price(D("1.0501")) == D("1.10")
    assert rules.ceil_price(D("1.05")) == D("1.05")


def test_what_is_rounded_is_written_as_a_venue_wants_it():
    binance = instrument(tick_size=D("0.01000000"), lot_size=D("10.0"))
    assert str(binance.round_price(D("123.456"))) == "123.46"
    assert str(binance.round_quantity(D("59"))) == "50"
    assert str(instrument().round_quantity(D("50"))) == "50.000"
    assert str(instrument(lot_size=D("1E+2")).round_quantity(D("1234"))) == "1200"


def test_a_quantity_is_never_rounded_up_however_close_it_is():
    lots = instrument(lot_size=D("0.003"))
    assert lots.round_quantity(D("0.00299999999999999999999999999999999999")) == 0
    assert lots.round_quantity(D("0.003")) == D("0.003")


@given(value=positive, step=positive)
def test_rounding_stays_within_a_step_and_on_the_grid(value, step):
    rules = instrument(tick_size=step, lot_size=step)
    below, above, near = rules.floor_price(value), rules.ceil_price(value), rules.round_price(value)
    assert below <= value <= above
    assert EXACT.subtract(above, below) in (0, step)
    assert near in (below, above)
    assert abs(EXACT.subtract(value, near)) * 2 <= step
    assert rules.round_quantity(value) == below
    assert rules.ceil_quantity(value) == above
    assert EXACT.remainder(below, step) == 0


def test_a_quotient_is_rounded_once_whatever_the_thread_s_context():
    assert quotient(D(2), D(3)) == D("0.6666666666666666666666666667")
