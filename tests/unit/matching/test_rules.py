"""What is refused, in a venue's words, and what an account can pay."""

from __future__ import annotations

from decimal import Decimal

import pytest

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.exact import EXACT
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.matching import NO_EVENTS, FillModel
from koc_qt.domain.matching.ledger import Capacity
from tests.unit.matching.desk import BTC, BUY, ETH, FOK, IOC, SELL, D, Desk, bar, book, instrument, order, quote, trade

LADDER = book([(99, 4), (98, 2), (96, 3)], [(100, 4), (101, 2), (103, 3)])


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (order("a", BUY, "0.0015", 99), "lot size: quantity 0.0015 is not a multiple of 0.001"),
        (order("a", BUY, "0.002", 99), "minimum quantity: 0.002 is below 0.005"),
        (order("a", BUY, 51, 99), "maximum quantity: 51 is above 50"),
        (order("a", BUY, 1, "99.005"), "tick size: price 99.005 is not a multiple of 0.01"),
        (order("a", BUY, 1, stop="99.005"), "tick size: stop price 99.005 is not a multiple of 0.01"),
        (order("a", BUY, "0.05", 99), "minimum notional: 4.95 USDT is below 10"),
        (order("a", BUY, "0.05"), "minimum notional: 5 USDT is below 10"),
        (order("a", SELL, "0.05"), "minimum notional: 4.95 USDT is below 10"),
        (order("a", BUY, 1, 99, symbol=InstrumentId("sim", "X/USDT")), "unknown symbol X/USDT"),
        (order("a", BUY, 1, 99, symbol=ETH), "no market yet: nothing was heard of ETH/USDT"),
        (order("a", BUY, 1, 99, account="other"), "account other does not trade here; this is paper-1"),
    ],
)
def test_refusals(sent, reason):
    rules = {"min_quantity": D("0.005"), "max_quantity": D(50), "min_notional": D(10)}
    desk = Desk(instruments=[instrument(BTC, **rules), instrument(ETH)])
    desk.feed(LADDER)
    assert desk.send(sent) == [f"a rejected: {reason}"]
    assert desk.engine.open_orders == ()
    assert desk.locked("USDT") == desk.locked("BTC") == 0


def test_an_instrument_without_a_maximum_takes_any_quantity():
    desk = Desk(instruments=[instrument(BTC, max_quantity=None)], usdt=10**9)
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 10**6, 99)) == ["a accepted"]


def test_a_known_id_is_refused_whether_open_or_ended():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, 99))
    assert desk.send(order("a", BUY, 1, 98)) == ["a rejected: duplicate client order id a"]
    desk.cancel("a")
    assert desk.send(order("a", BUY, 1, 98)) == ["a rejected: duplicate client order id a"]
    report = desk.engine.report("a")
    assert report is not None
    assert report.status == "canceled"
    assert desk.engine.report("b") is None


def test_buys_need_quote_currency_for_price_and_fee():
    desk = Desk(usdt=200, btc=0)
    desk.feed(LADDER)
    short = "rejected: insufficient funds: 200 USDT free"
    assert desk.send(order("a", BUY, 2)) == [f"a {short}"]  # 200 and a fee of 0.4
    assert desk.send(order("b", BUY, 2, 100)) == [f"b {short}"]
    assert desk.send(order("c", BUY, 2, stop=100)) == [f"c {short}"]
    assert desk.send(order("d", BUY, 2, "99.80")) == ["d accepted"]
    assert desk.locked("USDT") == D("199.9992")
    assert desk.send(order("e", BUY, "0.01", 100)) == ["e rejected: insufficient funds: 0.0008 USDT free"]


def test_a_market_buy_must_be_able_to_pay_all_of_its_levels():
    desk = Desk(usdt=607, btc=0)
    desk.feed(LADDER)
    # 400 + 202 and 0.2 % are 603.204; the last 0.01 is reckoned at 103 and fits, but 0.1 at 103 does not
    assert desk.send(order("a", BUY, "6.1")) == ["a rejected: insufficient funds: 607 USDT free"]
    assert desk.send(order("b", BUY, "6.01"))[-1] == "b taker 0.01@103"
    desk = Desk(usdt=1000, btc=0)
    desk.feed(quote(99, 1, 100, 1))
    assert desk.send(order("a", BUY, 10)) == ["a rejected: insufficient funds: 1000 USDT free"]
    assert desk.send(order("b", BUY, 10, tif=IOC))[1] == "b taker 1@100"  # no more than that is ever paid
    assert desk.locked("USDT") == 0
    assert desk.send(order("c", BUY, 1))[0] == "c accepted"  # nothing is left on offer: it waits
    assert desk.feed(quote(99, 1, 100, 2)) == ["c taker 1@100"]


def test_sells_need_base_currency():
    desk = Desk(usdt=0, btc=1)
    desk.feed(LADDER)
    assert desk.send(order("a", SELL, "1.001")) == ["a rejected: insufficient funds: 1 BTC free"]
    assert desk.send(order("b", SELL, 1, 105)) == ["b accepted"]
    assert desk.send(order("c", SELL, "0.1", stop=90)) == ["c rejected: insufficient funds: 0 BTC free"]


def test_reduce_only_executes_at_most_the_holding():
    desk = Desk(usdt=1000, btc=1)
    desk.feed(LADDER)
    nothing = "reduce-only: there is nothing to reduce"
    assert desk.send(order("a", BUY, 1, reduce_only=True)) == [f"a rejected: {nothing}"]
    reduced = "reduce-only: nothing is left to reduce"
    assert desk.send(order("f", SELL, 3, tif=FOK, reduce_only=True)) == ["f accepted", f"f expired: {reduced}"]
    assert desk.send(order("r", SELL, 3, 105, reduce_only=True)) == ["r accepted"]
    assert desk.locked("BTC") == 1
    assert desk.feed(trade(106, "0.4", BUY)) == ["r maker 0.4@105"]
    assert desk.feed(trade(106, 4, BUY)) == ["r maker 0.6@105", f"r canceled: {reduced}"]
    assert desk.send(order("z", SELL, 1, reduce_only=True)) == [f"z rejected: {nothing}"]
    assert desk.total("BTC") == desk.locked("BTC") == 0


def test_a_reduce_only_market_order_stops_at_the_holding():
    desk = Desk(usdt=0, btc=1)
    desk.feed(LADDER)
    assert desk.send(order("a", SELL, 3, reduce_only=True)) == [
        "a accepted",
        "a taker 1@99",
        "a canceled: reduce-only: nothing is left to reduce",
    ]


def test_an_order_to_cancel_that_nobody_knows():
    desk = Desk()
    desk.orders["x"] = order("x", BUY, 1)
    assert desk.cancel("x") == ["x no-cancel: unknown order"]


def test_ended_orders_are_forgotten_beyond_the_limit(monkeypatch):
    monkeypatch.setattr("koc_qt.domain.matching.blotter.REMEMBERED", 2)
    desk = Desk()
    for key in "abc":
        desk.send(order(key, BUY, 1, 1))
    assert desk.engine.report("a") is None
    assert desk.engine.report("b") is not None


def test_fast_path_gives_the_same_empty_events():
    desk = Desk()
    assert desk.engine.on_quote(quote(99, 1, 100, 1)) is NO_EVENTS
    assert desk.engine.on_book(LADDER) is NO_EVENTS
    assert desk.engine.on_trade(trade(100, 1)) is NO_EVENTS
    assert desk.engine.on_bar(bar(1, 1, 1, 1)) is NO_EVENTS
    stranger = InstrumentId("sim", "X/USDT")
    assert desk.engine.on_quote(quote(99, 1, 100, 1, of=stranger)) is NO_EVENTS
    assert desk.engine.on_trade(trade(99, 1, of=stranger)) is NO_EVENTS
    assert Desk(instruments=[instrument(ETH)]).engine.on_book(LADDER) is NO_EVENTS


@pytest.mark.parametrize(
    "wrong",
    [
        {"latency_ns": -1},
        {"latency_jitter_ns": -1},
        {"slippage_ticks": -1},
        {"slippage_fraction": D("-0.1")},
        {"slippage_fraction": D(1)},
        {"bar_volume_fraction": D(0)},
        {"bar_volume_fraction": D("1.1")},
        {"maker_fee": D(-1)},
        {"taker_fee": D(1)},
    ],
)
def test_a_fill_model_that_makes_no_sense_names_the_setting(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        FillModel(**wrong)


def test_a_grant_never_costs_more_than_there_is_even_by_rounding():
    power = EXACT.subtract(D(21), Decimal("1e-40"))  # a rounded quotient says seven whole lots
    capacity = Capacity(D(0), power)
    assert capacity.grant(instrument(BTC, lot_size=D(1)), D(3), D(9), D(0)) == 6
    assert capacity.power == EXACT.subtract(power, D(18))
    assert Capacity(D("0.5"), D(0)).grant(instrument(BTC, lot_size=D(1)), D(3), D(9), D(0)) == 0
