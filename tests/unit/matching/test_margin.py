"""Accounts that may be short: one times the equity, whatever the order of orders and fills."""

from __future__ import annotations

from koc_qt.domain.instruments import InstrumentId
from tests.unit.matching.desk import BTC, BUY, ETH, SELL, D, Desk, bar, instrument, order, quote, trade

REFUSED = "rejected: insufficient margin: long and short together may be worth 1x the equity in USDT"
FREE = {"maker_fee": D(0), "taker_fee": D(0)}


def desk_with(usdt=1000, btc=0, **options):
    desk = Desk(usdt=usdt, btc=btc, allow_short=True, **{**FREE, **options})
    desk.feed(quote(100, 100, 100, 100))
    return desk


def test_a_short_may_be_worth_the_equity_and_no_more():
    desk = desk_with()
    assert desk.send(order("a", SELL, "10.001")) == [f"a {REFUSED}"]
    assert desk.send(order("b", SELL, 6))[1] == "b taker 6@100"
    assert desk.total("BTC") == -6
    assert desk.total("USDT") == 1600
    assert desk.send(order("c", SELL, "4.001", 105)) == [f"c {REFUSED}"]
    assert desk.send(order("d", SELL, 4))[1] == "d taker 4@100"
    assert desk.send(order("e", BUY, 10))[1] == "e taker 10@100"  # covering needs no margin
    assert desk.total("BTC") == 0
    assert desk.total("USDT") == 1000


def test_longs_and_shorts_share_the_equity():
    desk = desk_with()
    desk.feed(quote(10, 1000, 10, 1000, of=ETH))
    desk.send(order("a", SELL, 6))
    assert desk.send(order("b", BUY, 41, symbol=ETH)) == [f"b {REFUSED}"]
    assert desk.send(order("c", BUY, 40, symbol=ETH))[1] == "c taker 40@10"
    assert desk.send(order("d", SELL, "0.01")) == [f"d {REFUSED}"]


def test_open_orders_lock_what_they_would_add_and_not_what_they_reduce():
    desk = desk_with()
    desk.send(order("a", BUY, 5))
    desk.send(order("b", SELL, 4, 110))
    desk.send(order("c", SELL, 4, 110))
    assert desk.locked("BTC") == 5  # b covers 4 of the holding, c the last one
    assert desk.locked("USDT") == 3 * 110
    assert desk.send(order("d", BUY, 2, 100 - 1)) == [f"d {REFUSED}"]  # 500 less 330 are left
    desk.cancel("b")
    assert desk.locked("BTC") == 4
    assert desk.locked("USDT") == 0
    desk.send(order("m", SELL, 5))  # sells what c would have: c adds exposure now
    assert desk.locked("BTC") == 0
    assert desk.locked("USDT") == 440
    desk.cancel("c")
    assert desk.locked("USDT") == 0


def test_an_order_may_reduce_and_then_add():
    desk = desk_with(btc=-2, usdt=600)
    assert desk.send(order("a", BUY, 3, 99)) == ["a accepted"]
    assert desk.locked("USDT") == 99  # two of the three cover the short
    assert desk.feed(trade(98, 3)) == ["a maker 3@99"]
    assert desk.total("BTC") == 1
    assert desk.locked("USDT") == 0


def test_a_short_that_cannot_be_valued_allows_no_new_exposure_but_covering():
    desk = Desk(usdt=1000, btc=-1, allow_short=True)
    desk.feed(quote(10, 1000, 10, 1000, of=ETH))
    assert desk.send(order("a", BUY, 1, symbol=ETH)) == [f"a {REFUSED}"]
    desk.feed(trade(100, 1))
    assert desk.send(order("b", BUY, 1, symbol=ETH))[0] == "b accepted"
    desk.send(order("c", BUY, 1))
    assert desk.feed(trade(300, 1))[0].startswith("c taker 1@300")


def test_a_short_that_ran_away_stops_resting_orders_from_adding_to_it():
    desk = desk_with()
    desk.send(order("a", SELL, 5))
    assert desk.send(order("b", SELL, 4, 140)) == [f"b {REFUSED}"]
    desk.send(order("c", SELL, 3, 140))
    desk.feed(quote(139, 100, 139, 100))
    # cash is 1,500 and the short is worth 695: 110 may be added, which is 0.785 at 140
    assert desk.feed(trade(150, 100, BUY)) == ["c maker 0.785@140", REFUSED.replace("rejected", "c canceled")]
    assert desk.locked("USDT") == 0


def test_reduce_only_locks_nothing_and_needs_nothing():
    desk = desk_with(btc=3, usdt=0)
    desk.send(order("profit", SELL, 3, 110, reduce_only=True))
    desk.send(order("stop", SELL, 3, stop=90, reduce_only=True))
    assert desk.locked("BTC") == desk.locked("USDT") == 0
    desk.send(order("half", SELL, 1, 111))
    assert desk.locked("BTC") == 1
    assert desk.feed(quote(90, 9, 91, 9)) == ["stop triggered", "stop taker 3@90"]
    assert desk.feed(trade(120, 9, BUY)) == [
        "profit canceled: reduce-only: nothing is left to reduce",
        "half maker 1@111",
    ]


def test_only_shorts_that_trade_in_the_same_currency_tie_it_up():
    coin = InstrumentId("sim", "COIN/EUR")
    desk = Desk(usdt=1000, btc=-1, allow_short=True, instruments=[instrument(BTC), instrument(coin)], **FREE)
    desk.feed(quote(100, 100, 100, 100))
    assert desk.send(order("a", BUY, 1)) == ["a accepted", "a taker 1@100"]
    assert desk.send(order("b", SELL, 10)) == [f"b {REFUSED}"]  # 900 is left
    assert desk.send(order("c", SELL, 9))[1] == "c taker 9@100"


def test_bars_mark_shorts_by_the_last_close():
    desk = Desk(usdt=1000, btc=-4, allow_short=True, instruments=[instrument(BTC)], **FREE)
    desk.feed(bar(100, 100, 100, 100))
    assert desk.send(order("a", SELL, "2.001")) == [f"a {REFUSED}"]
    assert desk.send(order("b", SELL, 2)) == ["b accepted"]
    assert desk.feed(bar(100, 100, 100, 100)) == ["b taker 2@100"]
