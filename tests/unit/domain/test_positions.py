from __future__ import annotations

import pytest

from koc_qt.domain.market import Side
from koc_qt.domain.positions import Position
from koc_qt.domain.state import PositionSnapshot
from tests.unit.domain.examples import BTC, ETH, D, fill, instrument


def holding(*fills: tuple[str, str]) -> Position:
    """A position after (signed quantity, price) fills."""
    position = Position("sma", "paper", instrument())
    for quantity, price in fills:
        trade(position, quantity, price)
    return position


def trade(position: Position, quantity: str, price: str, **fields: object) -> bool:
    side = Side.SELL if quantity.startswith("-") else Side.BUY
    return position.apply(fill(f"f{position.fill_count}", quantity.lstrip("-"), price, side=side, **fields))


def test_a_new_position_is_flat():
    flat = holding()
    assert (flat.quantity, flat.average_price, flat.realised_pnl, flat.fees, flat.trades) == (0, None, 0, 0, 0)
    assert flat.unrealised_pnl(D(100)) == 0
    assert flat.other_fees == {}


@pytest.mark.parametrize(
    ("fills", "quantity", "average", "realised", "trades"),
    [
        ([("2", "100")], "2", "100", "0", 0),
        ([("2", "100"), ("2", "110")], "4", "105", "0", 0),
        ([("2", "100"), ("2", "110"), ("-1", "120")], "3", D(320) / 3, "20", 0),  # the oldest lot goes first
        ([("2", "100"), ("2", "110"), ("-3", "120")], "1", "110", "50", 0),
        ([("2", "100"), ("2", "110"), ("-4", "120")], "0", None, "60", 1),
        ([("2", "100"), ("2", "110"), ("-1", "120"), ("-2", "120")], "1", "110", "50", 0),
        ([("2", "100"), ("-5", "90")], "-3", "90", "-20", 1),  # through zero
        ([("-3", "90"), ("1", "80")], "-2", "90", "10", 0),
        ([("-3", "90"), ("5", "100")], "2", "100", "-30", 1),
        ([("-3", "90"), ("-1", "94"), ("4", "91")], "0", None, "0", 1),
        ([("1", "100"), ("-1", "101"), ("1", "101"), ("-2", "100"), ("1", "100")], "0", None, "0", 3),
        ([("0.3", "0.1"), ("-0.1", "0.3")], "0.2", "0.1", "0.02", 0),
    ],
)
def test_lots_are_closed_first_in_first_out(fills, quantity, average, realised, trades):
    position = holding(*fills)
    assert position.quantity == D(quantity)
    assert position.average_price == (average if average is None else D(average))
    assert position.realised_pnl == D(realised)
    assert position.trades == trades
    assert position.fill_count == len(fills)


def test_open_lots_are_valued_at_the_mark():
    assert holding(("2", "100"), ("1", "130")).unrealised_pnl(D(120)) == 30
    assert holding(("-2", "100")).unrealised_pnl(D(120)) == -40
    assert holding(("2", "100")).unrealised_pnl(None) == 0
    assert holding(("2", "100"), ("-2", "90")).unrealised_pnl(D(120)) == 0


def test_what_was_paid_and_the_worth_of_the_holding_make_the_profit():
    for position in (holding(("2", "100"), ("-1", "130")), holding(("-2", "100"), ("3", "90"))):
        mark = D("117.5")
        worth = position.quantity * mark
        assert position.paid_out + worth == position.realised_pnl + position.unrealised_pnl(mark) - position.fees


def test_a_fill_counts_once():
    position = holding()
    told = fill("f1", "2", fee=D("0.2"))
    assert position.apply(told)
    assert not position.apply(told)
    assert (position.quantity, position.fees, position.fill_count) == (2, D("0.2"), 1)


def test_fees_are_kept_in_the_quote_currency():
    position = holding()
    trade(position, "2", "100", fee=D("0.25"), fee_currency="USDT")
    trade(position, "-1", "120", fee=D("0.001"), fee_currency="BTC")
    trade(position, "-1", "120", fee=D("-0.05"), fee_currency="USDT")  # a rebate
    assert position.fees == D("0.25") + D("0.12") - D("0.05")
    assert position.realised_pnl == 40
    assert position.quantity == D("-0.001"), "what was taken for the fee was not there to be sold"
    assert position.other_fees == {}


def test_a_fee_in_the_base_currency_is_no_longer_held():
    position = holding()
    trade(position, "1", "100", fee=D("0.001"), fee_currency="BTC")
    assert (position.quantity, position.average_price, position.fees) == (D("0.999"), 100, D("0.1"))
    assert position.unrealised_pnl(D(110)) - position.fees == D("0.999") * 110 - 100, (
        "what it is worth less what it cost"
    )
    trade(position, "1", "120", fee=D("-0.002"), fee_currency="BTC")  # a rebate
    assert (position.quantity, position.fees) == (D("2.001"), D("0.1") - D("0.24"))
    assert (position.realised_pnl, position.trades) == (0, 0)
    trade(position, "-2.001", "120", fee=D("0.24"), fee_currency="USDT")
    assert (position.quantity, position.trades) == (0, 1)
    assert position.realised_pnl == D("0.999") * 20


def test_fees_in_other_currencies_are_kept_apart():
    position = holding()
    trade(position, "1", "100", fee=D("0.01"), fee_currency="BNB")
    trade(position, "1", "100", fee=D("0.02"), fee_currency="BNB")
    trade(position, "1", "100", fee=D("3"), fee_currency="KCS")
    trade(position, "1", "100", fee=D(0), fee_currency="OKB")
    assert position.fees == 0
    assert position.other_fees == {"BNB": D("0.03"), "KCS": D(3)}
    position.other_fees.clear()
    assert position.other_fees


@pytest.mark.parametrize("fields", [{"strategy_id": "x"}, {"account_id": "x"}, {"instrument": ETH}])
def test_a_fill_of_another_position_is_refused(fields):
    position = holding()
    with pytest.raises(ValueError, match=r"fill f0 is of .*, the position of sma on paper in sim:BTC/USDT"):
        trade(position, "1", "100", **fields)
    assert (position.quantity, position.fill_count) == (0, 0)


def test_a_snapshot_shows_it_all():
    position = holding(("2", "100"), ("-1", "110"))
    assert position.snapshot(D(120), 77) == PositionSnapshot(
        "sma", "paper", BTC, D(1), D(100), D(10), D(20), D(0), time_ns=77
    )
    assert position.snapshot(None, 78).unrealised_pnl == 0


def test_a_long_run_at_a_few_prices_keeps_few_lots():
    position = holding()
    for n in range(1000):
        trade(position, "1", "100" if n % 200 < 100 else "101")
    assert position.quantity == 1000
    assert len(position._lots) == 10
    trade(position, "-1000", "100")
    assert len(position._lots) == 0
