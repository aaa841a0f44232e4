"""Stops: what sets them off, and what they do then."""

from __future__ import annotations

from koc_qt.domain.orders import OrderStatus
from tests.unit.matching.desk import BTC, BUY, IOC, SELL, D, Desk, bar, book, order, quote, trade

LADDER = book([(99, 4), (98, 2), (96, 3)], [(100, 4), (101, 2), (103, 3)])


def test_a_sell_stop_goes_off_on_the_last_trade_at_or_below_it():
    desk = Desk()
    desk.feed(LADDER)
    desk.feed(trade(100, 1, BUY))
    assert desk.send(order("a", SELL, 5, stop="98.5")) == ["a accepted"]
    assert desk.feed(trade("98.51", 1)) == []
    assert desk.feed(quote("98.4", 1, "98.6", 1)) == []  # trades are known, so quotes do not trigger
    desk.feed(LADDER)
    assert desk.feed(trade("98.5", 1)) == ["a triggered", "a taker 2@98", "a taker 3@96"]  # 99 was traded through


def test_a_buy_stop_goes_off_at_or_above_it():
    desk = Desk()
    desk.feed(LADDER)
    desk.feed(trade(99, 1))
    desk.send(order("a", BUY, 1, stop=101))
    assert desk.feed(trade("100.99", 1, BUY)) == []
    assert desk.feed(trade(101, 1, BUY)) == ["a triggered", "a taker 1@101"]


def test_quotes_set_stops_off_while_no_trade_is_known():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", SELL, 1, stop=98))
    desk.send(order("b", BUY, 1, stop=102))
    assert desk.feed(quote("98.01", 5, "101.99", 5)) == []
    assert desk.feed(quote(98, 5, 99, 5)) == ["a triggered", "a taker 1@98"]
    assert desk.feed(quote(101, 5, 102, 5)) == ["b triggered", "b taker 1@102"]


def test_the_nearest_stop_goes_off_first():
    desk = Desk()
    desk.feed(LADDER)
    for key, stop in (("far", 97), ("near", 98), ("later", 98)):
        desk.send(order(key, SELL, 1, stop=stop))
    assert desk.feed(book([(96, 9)], [(97, 9)])) == [
        "near triggered",
        "near taker 1@96",
        "later triggered",
        "later taker 1@96",
        "far triggered",
        "far taker 1@96",
    ]


def test_a_stop_that_is_through_already_goes_off_at_once():
    desk = Desk()
    desk.feed(LADDER)
    assert desk.send(order("a", SELL, 1, stop=99)) == ["a accepted", "a triggered", "a taker 1@99"]
    assert desk.send(order("b", BUY, 1, stop=100)) == ["b accepted", "b triggered", "b taker 1@100"]
    desk = Desk()
    desk.feed(bar(100, 101, 99, 100))
    assert desk.send(order("a", SELL, 1, stop=100)) == ["a accepted", "a triggered"]
    assert desk.feed(bar(95, 96, 94, 95)) == ["a taker 1@95"]


def test_a_stop_limit_becomes_a_limit_order():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", SELL, 5, "97.5", stop=98))
    assert desk.feed(quote(98, 1, 99, 1)) == ["a triggered", "a taker 1@98"]
    assert [report.status for report in desk.engine.open_orders] == [OrderStatus.PARTIALLY_FILLED]
    assert desk.feed(quote("97.4", 1, 99, 1)) == []
    assert desk.feed(quote("97.5", 1, 99, 1)) == ["a maker 1@97.5"]
    assert desk.send(order("b", BUY, 1, 120, stop=110, tif=IOC)) == ["b accepted"]
    assert desk.feed(quote(111, 1, 121, 1)) == [
        "a maker 1@97.5",
        "a maker 2@97.5",
        "b triggered",
        "b expired: no liquidity left at a price it allows",
    ]


def test_a_stop_with_trades_alone_takes_from_the_next_print():
    desk = Desk()
    desk.feed(trade(100, 1))
    desk.send(order("a", SELL, 1, stop=99))
    assert desk.feed(trade(98, 5)) == ["a triggered"]
    assert desk.feed(trade(97, 5)) == ["a taker 1@97"]


def test_stops_keep_still_while_the_market_is_not_known():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", SELL, 1, stop=98))
    desk.engine.forget_market(BTC)
    assert desk.send(order("b", SELL, 1, stop=99)) == ["b rejected: no market yet: nothing was heard of BTC/USDT"]
    assert desk.feed(book([], [(97, 1)])) == []  # nobody bids: nothing to compare with
    assert desk.feed(quote(97, 1, 98, 1)) == ["a triggered", "a taker 1@97"]


def test_a_stop_locks_its_price_until_it_is_done():
    desk = Desk(usdt=200, btc=1)
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, stop=105))
    desk.send(order("b", SELL, 1, stop=95))
    assert desk.locked("USDT") == D("105.21")
    assert desk.locked("BTC") == 1
    assert desk.feed(book([(109, 1)], [(110, 1)])) == ["a triggered", "a taker 1@110"]  # a gap; the account has enough
    desk.cancel("b")
    assert desk.locked("USDT") == desk.locked("BTC") == 0


def test_a_gap_beyond_what_the_account_has_fills_what_it_can_pay():
    desk = Desk(usdt=106, btc=0)
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, stop=105))
    lines = desk.feed(book([(109, 1)], [(110, 1)]))
    assert lines == ["a triggered", "a taker 0.961@110", "a canceled: insufficient funds: 106 USDT free"]
    assert desk.total("USDT") == D(106) - D("0.961") * 110 * D("1.002") > 0
    assert desk.locked("USDT") == 0


def test_a_gap_beyond_everything_the_account_has_fills_nothing():
    desk = Desk(usdt=2, btc=0)
    desk.feed(LADDER)
    desk.send(order("a", BUY, "0.01", stop=105))
    assert desk.feed(book([(9999, 1)], [(10_000, 1)])) == [
        "a triggered",
        "a canceled: insufficient funds: 2 USDT free",
    ]
