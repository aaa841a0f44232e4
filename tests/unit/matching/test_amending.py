"""Orders that are changed while they work: what they keep, what they lose, and what is refused."""

from __future__ import annotations

import pytest

from koc_qt.domain.matching import QueueModel
from koc_qt.domain.orders import Liquidity, OrderStatus
from koc_qt.domain.venues import VenueOrder
from tests.unit.matching.desk import BTC, BUY, ETH, FOK, SELL, D, Desk, bar, book, instrument, order, quote, trade


def resting(**desk: object) -> Desk:
    """Two buys at 99 behind two units of the market's, on a market of 100 and 101."""
    made = Desk(**desk)
    made.feed(book([(100, 5), (99, 2)], [(101, 5)]))
    made.send(order("a", BUY, 1, 99))
    made.send(order("b", BUY, 1, 99))
    return made


def test_less_quantity_keeps_the_place_in_the_queue():
    desk = resting()
    assert desk.amend("a", "0.5", 99) == ["a amended: 0.5@99"]
    assert desk.feed(trade(99, "2.75")) == ["a maker 0.5@99", "b maker 0.25@99"]


@pytest.mark.parametrize("quantity", ["1.5", "1"])
def test_more_quantity_or_another_price_loses_it(quantity):
    desk = resting(queue=QueueModel.TOUCH)
    desk.amend("a", quantity, "99" if quantity == "1.5" else "98")
    desk.amend("a", quantity, 99)
    assert desk.feed(trade(99, "1.25"))[0] == "b maker 1@99"


def test_what_lost_its_place_stands_behind_what_is_displayed():
    desk = resting()
    desk.feed(trade(99, 2))  # those of the market's that were ahead
    desk.amend("b", 2, 99)
    assert desk.feed(trade(99, 2)) == ["a maker 1@99"]
    assert desk.feed(trade(99, 2)) == ["b maker 1@99"]


def test_a_better_price_takes_what_it_reaches_and_rests_with_the_rest():
    desk = resting()
    assert desk.amend("a", 7, 101) == ["a amended: 7@101", "a taker 5@101"]
    assert desk.orders["a"].remaining == 2
    assert desk.locked("USDT") == D("99.198") + 2 * D("101.202")
    assert desk.feed(trade(101, 2)) == ["a maker 2@101"]


def test_a_worse_price_does_not_take():
    desk = Desk()
    desk.feed(quote(100, 5, 101, 5))
    desk.send(order("s", SELL, 1, 105))
    assert desk.amend("s", 1, 110) == ["s amended: 1@110"]
    assert desk.feed(quote(106, 5, 107, 5)) == []
    assert desk.amend("s", 1, 106) == ["s amended: 1@106", "s taker 1@106"]


def test_without_a_ladder_a_better_price_meets_the_next_print_and_more_quantity_rests_on():
    desk = Desk(bar_volume_fraction=None)
    desk.feed(bar(100, 100, 100, 100))
    desk.send(order("a", BUY, 1, 90))
    desk.feed(bar(100, 100, 100, 100))
    desk.amend("a", 2, 90)
    assert desk.feed(bar(89, 89, 89, 89)) == ["a maker 2@90"]
    desk.send(order("b", BUY, 1, 70))
    desk.feed(bar(89, 89, 89, 89))
    desk.amend("b", 1, 95)
    assert desk.feed(bar(88, 88, 88, 88)) == ["b taker 1@88"]


def test_locks_follow_the_order():
    desk = resting()
    desk.cancel("b")
    assert desk.locked("USDT") == D("99.198")
    desk.amend("a", 3, 98)
    assert desk.locked("USDT") == 3 * D("98.196")
    desk.amend("a", 2, 98)
    assert desk.locked("USDT") == 2 * D("98.196")
    desk.send(order("s", SELL, 4, 105))
    desk.amend("s", 6, 105)
    assert desk.locked("BTC") == 6
    desk.cancel("a")
    desk.cancel("s")
    assert desk.locked("USDT") == desk.locked("BTC") == 0


def test_in_a_margin_account_a_changed_order_still_reduces_the_holding_first():
    desk = Desk(usdt=300, btc=1, allow_short=True)
    desk.feed(quote(100, 5, 101, 5))
    desk.send(order("a", SELL, 1, 105))
    desk.send(order("b", SELL, 1, 105))
    assert desk.locked("USDT") == D("105.21")
    desk.amend("a", 1, 120)
    assert desk.locked("USDT") == D("105.21")
    assert desk.amend("b", 3, 105) == [
        "b no-amend: insufficient margin: long and short together may be worth 1x the equity in USDT"
    ]


def test_reaching_what_is_filled_ends_the_order_and_below_it_is_refused():
    desk = resting()
    desk.feed(trade(99, "2.5"))
    assert desk.amend("a", "0.4", 99) == ["a no-amend: 0.5 of it is filled already"]
    assert desk.orders["a"].remaining == D("0.5")
    assert desk.amend("a", "0.5", 99) == ["a amended: 0.5@99"]
    assert desk.orders["a"].status is OrderStatus.FILLED
    assert desk.engine.report("a") is not None
    assert [report.client_order_id for report in desk.engine.open_orders] == ["b"]
    assert desk.locked("USDT") == D("99.198")


def test_ending_at_another_price_takes_nothing():
    desk = resting()
    desk.feed(trade(99, "2.5"))
    assert desk.amend("a", "0.5", 101) == ["a amended: 0.5@101"]
    assert desk.orders["a"].status is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("quantity", "limit", "reason"),
    [
        ("0.0005", 99, "lot size: quantity 0.0005 is not a multiple of 0.001"),
        (2000, 99, "maximum quantity: 2000 is above 1000"),
        (1, "99.001", "tick size: price 99.001 is not a multiple of 0.01"),
        ("0.001", "0.01", "minimum notional: 0.00001 USDT is below 1"),
        (1, None, "a limit order needs a price"),
        (0, 99, "quantity must be a number above zero, not 0"),
        (11, 99, "insufficient funds: 900.802 USDT free"),
    ],
)
def test_what_no_new_order_could_be_is_refused(quantity, limit, reason):
    desk = resting(usdt=1000)
    before = desk.engine.open_orders
    assert desk.amend("a", quantity, limit) == [f"a no-amend: {reason}"]
    assert desk.engine.open_orders == before
    assert desk.feed(trade(99, 3)) == ["a maker 1@99"]  # it kept its place


def test_what_is_not_open_is_refused():
    desk = resting()
    desk.send(order("done", BUY, 1))
    desk.orders["never"] = order("never", BUY, 1)
    assert desk.amend("done", 2) == ["done no-amend: the order is already filled"]
    assert desk.amend("never", 2) == ["never no-amend: unknown order"]


def test_post_only_may_not_be_moved_to_where_it_would_take():
    desk = Desk()
    desk.feed(trade(100, 1))
    desk.send(order("p", BUY, 4, 99, post_only=True))
    assert desk.feed(trade(98, 1)) == ["p maker 1@99"]
    assert desk.amend("p", 4, 100) == ["p no-amend: post-only: at 100 it would take"]
    assert desk.amend("p", 5, 99) == ["p amended: 5@99"]  # it is there already
    assert desk.amend("p", 5, 97) == ["p amended: 5@97"]


def test_reduce_only_is_refused_where_nothing_is_left_to_reduce():
    desk = Desk(usdt=1000, btc=1, allow_short=True)
    desk.feed(quote(100, 5, 101, 5))
    desk.send(order("r", SELL, 1, 105, reduce_only=True))
    desk.send(order("m", SELL, 1))
    assert desk.amend("r", 1, 104) == ["r no-amend: reduce-only: there is nothing to reduce"]


def test_stops_stay_armed_and_keep_their_stop_price():
    desk = Desk()
    desk.feed(quote(100, 5, 101, 5))
    desk.send(order("s", SELL, 1, stop=95))
    desk.send(order("l", SELL, 1, 93, stop=95))
    assert desk.amend("s", 2) == ["s amended: 2"]
    assert desk.amend("l", 1, 94) == ["l amended: 1@94"]
    assert desk.feed(quote(94, 5, 95, 5)) == ["s triggered", "s taker 2@94", "l triggered", "l taker 1@94"]


def test_a_market_order_that_waits_for_more_can_be_changed():
    desk = Desk()
    desk.feed(quote(100, 5, 101, 1))
    desk.send(order("m", BUY, 2))
    assert desk.amend("m", 3) == ["m amended: 3"]
    assert desk.feed(quote(100, 5, 102, 5)) == ["m taker 2@102"]
    desk.send(order("f", BUY, 1, tif=FOK))
    assert desk.orders["f"].status is OrderStatus.FILLED


def test_a_change_takes_the_way_of_all_orders():
    desk = Desk(latency_ns=10)
    desk.feed(quote(100, 5, 101, 5))
    desk.send(order("a", BUY, 1, 99), 0)
    desk.amend("a", 2, 98, 5)
    desk.cancel("a", 6)
    report = desk.engine.report("a")
    assert report is not None
    assert (report.status, report.quantity, report.price) == (OrderStatus.SUBMITTED, 1, 99)
    assert desk.note(desk.engine.advance(15)) == ["a accepted", "a amended: 2@98"]
    assert [event.time_ns for event in desk.events] == [10, 15]
    assert desk.note(desk.engine.advance(16)) == ["a canceled: requested"]


def test_what_works_and_what_traded_can_be_listed_as_a_venue_does():
    desk = resting()
    desk.feed(trade(99, "2.5", time_ns=7))
    desk.amend("a", 3, 98)
    assert desk.engine.listings[0] == VenueOrder(
        "paper-a", "a", "BTC/USDT", BUY, desk.orders["a"].request.type, D(3), D("0.5"), D(98), None, 0
    )
    desk.feed(quote(100, 5, 101, 5, 8))
    desk.send(order("m", SELL, 1), 9)
    listed = [(traded.fill_id, traded.venue_order_id, traded.time_ns) for traded in desk.engine.trades(0)]
    assert listed == [("a-1", "paper-a", 7), ("m-1", "paper-m", 9)]
    assert [traded.fill_id for traded in desk.engine.trades(9)] == ["m-1"]


def test_the_fee_is_told_where_all_instruments_have_the_same():
    assert Desk().engine.common_fee(Liquidity.MAKER) == D("0.001")
    desk = Desk(instruments=[instrument(BTC), instrument(ETH, taker_fee=D("0.003"))])
    assert desk.engine.common_fee(Liquidity.TAKER) is None
    assert desk.engine.common_fee(Liquidity.MAKER) == D("0.001")
