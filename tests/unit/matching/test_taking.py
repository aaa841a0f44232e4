"""Orders that take: how they walk what the market shows, and what is left of them."""

from __future__ import annotations

import pytest

from koc_qt.domain.orders import Liquidity, OrderFilled, OrderStatus
from tests.unit.matching.desk import BUY, ETH, FOK, IOC, SELL, D, Desk, bar, book, order, quote, trade

LADDER = book([(99, 1), (98, 2), (97, 3)], [(100, 1), (101, 2), (102, 3)])
LEFT = "no liquidity left at a price it allows"


def test_a_market_order_walks_three_levels_and_pays_the_fee_of_each():
    desk = Desk(usdt=1000, btc=0)
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, "3.5")) == ["a accepted", "a taker 1@100", "a taker 2@101", "a taker 0.5@102"]
    # by hand: 100 + 202 + 51 = 353 of notional; 0.2 % of each: 0.2 + 0.404 + 0.102 = 0.706 of fees
    fills = [event.fill for event in desk.events if isinstance(event, OrderFilled)]
    assert [fill.fee for fill in fills] == [D("0.2"), D("0.404"), D("0.102")]
    assert {fill.fee_currency for fill in fills} == {"USDT"}
    assert [fill.fill_id for fill in fills] == ["a-1", "a-2", "a-3"]
    assert desk.total("USDT") == D(1000) - D(353) - D("0.706") == D("646.294")
    assert desk.total("BTC") == D("3.5")
    assert desk.locked("USDT") == 0
    assert desk.orders["a"].status is OrderStatus.FILLED
    assert desk.orders["a"].average_price == D(353) / D("3.5")


def test_a_sell_walks_down():
    desk = Desk(usdt=0, btc=4)
    desk.feed(LADDER)
    assert desk.send(order("a", SELL, 4)) == ["a accepted", "a taker 1@99", "a taker 2@98", "a taker 1@97"]
    assert desk.total("USDT") == (D(99) + 2 * D(98) + D(97)) * D("0.998")
    assert desk.total("BTC") == 0


def test_a_limit_order_takes_up_to_its_price_and_rests_with_the_remainder():
    desk = Desk()
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 5, 101)) == ["a accepted", "a taker 1@100", "a taker 2@101"]
    assert [report.status for report in desk.engine.open_orders] == [OrderStatus.PARTIALLY_FILLED]
    assert desk.locked("USDT") == 2 * 101 * D("1.002")


def test_ioc_takes_what_is_there_and_expires():
    desk = Desk()
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 5, 101, tif=IOC))[1:] == ["a taker 1@100", "a taker 2@101", f"a expired: {LEFT}"]
    assert desk.send(order("b", BUY, 1, 101, tif=IOC))[1:] == [f"b expired: {LEFT}"]
    assert desk.send(order("c", SELL, 9, tif=IOC))[1:] == [
        "c taker 1@99",
        "c taker 2@98",
        "c taker 3@97",
        f"c expired: {LEFT}",
    ]
    assert desk.engine.open_orders == ()
    assert desk.locked("USDT") == desk.locked("BTC") == 0


def test_fok_is_all_or_nothing():
    desk = Desk()
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, "3.001", 101, tif=FOK))[1:] == ["a expired: it could not be filled whole"]
    assert desk.send(order("b", BUY, 3, 101, tif=FOK))[1:] == ["b taker 1@100", "b taker 2@101"]
    assert desk.send(order("c", BUY, 4, tif=FOK))[1:] == ["c expired: it could not be filled whole"]


def test_a_market_order_goes_on_with_the_next_size_shown():
    desk = Desk()
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 8))[-1] == "a taker 3@102"
    assert desk.feed(trade(101, 5, BUY)) == []
    assert desk.feed(LADDER) == []  # the same size again is the size that was taken
    assert desk.feed(book([(99, 1)], [(103, 1)])) == ["a taker 1@103"]
    assert desk.feed(book([(99, 1)], [(103, "1.5")])) == ["a taker 0.5@103"]
    assert desk.feed(book([(99, 1)], [(104, 9)])) == ["a taker 0.5@104"]


def test_consumed_size_comes_back_only_as_the_market_shows_more_of_it():
    desk = Desk()
    desk.feed(quote(99, 5, 100, 5))
    assert desk.send(order("a", BUY, 5, 100, tif=IOC))[1:] == ["a taker 5@100"]
    desk.feed(quote(99, 5, 100, 5))
    assert desk.send(order("b", BUY, 1, 100, tif=IOC))[1:] == [f"b expired: {LEFT}"]
    desk.feed(quote(99, 5, 100, 7))
    assert desk.send(order("c", BUY, 9, 100, tif=IOC))[1] == "c taker 2@100"
    desk.feed(quote(99, 5, 100, 3))  # of what shrank no more can be used up than is left
    desk.feed(quote(99, 5, 100, 4))
    assert desk.send(order("d", BUY, 9, 100, tif=IOC))[1] == "d taker 1@100"
    desk.feed(quote(99, 5, 101, 1))
    desk.feed(quote(99, 5, 100, 2))  # the level went and came back
    assert desk.send(order("e", BUY, 9, 100, tif=IOC))[1] == "e taker 2@100"
    assert desk.send(order("f", SELL, 9, tif=IOC))[1] == "f taker 5@99"


def test_a_newer_quote_is_the_top_of_an_older_book():
    desk = Desk()
    desk.feed(LADDER)
    desk.feed(quote("97.5", 1, 101, "0.5"))
    assert desk.send(order("a", BUY, 4, tif=IOC))[1:3] == ["a taker 0.5@101", "a taker 3@102"]
    assert desk.send(order("b", SELL, 4, tif=IOC))[1:3] == ["b taker 1@97.5", "b taker 3@97"]
    desk.feed(LADDER)  # and a newer book replaces the quote
    assert desk.send(order("c", BUY, 1))[1] == "c taker 1@100"


def test_sizes_of_zero_and_an_empty_side_offer_nothing():
    desk = Desk()
    desk.feed(book([(99, 0), (98, 1)], [(100, 1)]))
    desk.feed(quote(99, 0, 0, 0))
    assert desk.send(order("a", SELL, 1))[1] == "a taker 1@98"
    assert desk.send(order("b", BUY, 1, 100)) == ["b accepted"]
    assert desk.send(order("c", BUY, 1)) == ["c rejected: no market: nobody offers BTC/USDT on this side"]


def test_a_trade_that_is_newer_than_the_ladder_has_used_up_what_it_went_through():
    desk = Desk()
    desk.feed(LADDER)
    desk.feed(trade(98, "0.5", SELL, time_ns=1))
    assert desk.send(order("a", SELL, 2))[1:] == ["a taker 1.5@98", "a taker 0.5@97"]
    assert desk.send(order("b", BUY, 1))[1:] == ["b taker 1@100"]
    desk.feed(trade(101, 1, BUY, time_ns=1))
    assert desk.send(order("c", BUY, 1))[1:] == ["c taker 1@101"]
    desk.feed(book([(99, 1)], [(100, 9)], time_ns=5))
    desk.feed(trade(101, 1, BUY, time_ns=4))  # late: the book knows more
    assert desk.send(order("d", BUY, 1))[1:] == ["d taker 1@100"]


def test_sizes_are_cut_to_whole_lots():
    desk = Desk()
    desk.feed(book([(99, 1)], [(100, "0.0009"), (101, "1.0019"), (102, 5)]))
    assert desk.send(order("a", BUY, 2))[1:] == ["a taker 1.001@101", "a taker 0.999@102"]


@pytest.mark.parametrize(
    ("model", "buy", "sell"),
    [
        ({"slippage_ticks": 3}, "100.03", "98.97"),
        ({"slippage_fraction": D("0.01")}, "101", "98.01"),
        ({"slippage_fraction": D("0.00005"), "slippage_ticks": 1}, "100.02", "98.98"),  # rounded against the taker
        ({}, "100", "99"),
    ],
)
def test_slippage_is_against_the_taker_on_the_tick(model, buy, sell):
    desk = Desk(**model)
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 1))[1] == f"a taker 1@{buy}"
    assert desk.send(order("b", SELL, 1))[1] == f"b taker 1@{sell}"


def test_slippage_stops_at_the_limit_and_above_zero():
    desk = Desk(slippage_ticks=500)
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 1, "100.50", tif=IOC))[1] == "a taker 1@100.5"
    assert desk.send(order("b", SELL, 1, "98.50", tif=IOC))[1] == "b taker 1@98.5"
    desk.feed(book([("0.02", 900)], [(1, 1)]))
    assert desk.send(order("c", SELL, 100, tif=IOC))[1] == "c taker 100@0.01"


def test_fee_rates_of_the_model_come_before_the_instruments():
    desk = Desk(maker_fee=D("-0.0001"), taker_fee=D("0.01"))
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1))
    desk.send(order("b", BUY, 1, 99))
    desk.feed(trade("98.5", 9))
    fills = [event.fill for event in desk.events if isinstance(event, OrderFilled)]
    assert [(fill.liquidity, fill.fee) for fill in fills] == [
        (Liquidity.TAKER, D(1)),
        (Liquidity.MAKER, D("-0.0099")),
    ]
    assert desk.locked("USDT") == 0


def test_takers_wait_for_the_next_print_where_no_ladder_is_known():
    desk = Desk()
    desk.feed(trade(100, 1))
    assert desk.send(order("m", BUY, 3)) == ["m accepted"]
    assert desk.send(order("l", BUY, 1, 105)) == ["l accepted"]
    assert desk.send(order("i", BUY, 1, 95, tif=IOC)) == ["i accepted"]
    assert desk.send(order("f", SELL, 1, tif=FOK)) == ["f accepted"]
    assert desk.feed(trade(101, 2, time_ns=1)) == [
        "m taker 2@101",  # what is left of the market order waits on
        f"i expired: {LEFT}",
        "f expired: it could not be filled whole",
    ]
    assert desk.feed(trade(102, 1, time_ns=2)) == ["m taker 1@102"]
    assert desk.feed(trade(102, 5, time_ns=3)) == ["l maker 1@105"]


def test_waiting_takers_meet_the_first_ladder():
    desk = Desk()
    desk.feed(bar(100, 101, 99, 100))
    desk.send(order("m", BUY, 1))
    desk.send(order("p", BUY, 1, 99, post_only=True))
    assert desk.feed(quote(99, 1, "100.5", 5)) == ["m taker 1@100.5"]
    assert desk.feed(bar(1, 1, 1, 1)) == []  # what is finer than bars is known now


def test_other_instruments_do_not_matter():
    desk = Desk()
    desk.feed(LADDER)
    desk.feed(quote(10, 5, 11, 5, of=ETH))
    desk.send(order("a", BUY, 1, 90))
    assert desk.feed(trade(5, 100, of=ETH)) == []
    assert desk.send(order("b", BUY, 1, symbol=ETH))[1] == "b taker 1@11"
