"""Orders that rest: who is filled by trades, quotes and books, and in which order."""

from __future__ import annotations

import pytest

from koc_qt.domain.matching import QueueModel
from tests.unit.matching.desk import BUY, SELL, D, Desk, bar, book, order, quote, trade

LADDER = book([(99, 4), (98, 2), (96, 3)], [(100, 4), (101, 2), (103, 3)])


def test_a_trade_through_the_price_fills_at_the_price_up_to_its_quantity():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 3, 99))
    assert desk.feed(trade("98.99", 2)) == ["a maker 2@99"]
    assert desk.feed(trade("98.99", 2, BUY)) == ["a maker 1@99"]
    assert desk.total("USDT") == 1_000_000 - 297 * D("1.001")
    assert desk.locked("USDT") == 0


def test_better_prices_and_older_orders_come_first_and_share_one_trade():
    desk = Desk()
    desk.feed(LADDER)
    for key, price in (("a", 98), ("b", 99), ("c", 99)):
        desk.send(order(key, BUY, 1, price))
    desk.send(order("d", SELL, 1, 104))
    assert desk.feed(trade(97, "2.5")) == ["b maker 1@99", "c maker 1@99", "a maker 0.5@98"]
    for key, price in (("e", 102), ("f", 101)):
        desk.send(order(key, SELL, 1, price))
    assert desk.feed(trade(103, "1.5", BUY)) == ["f maker 1@101", "e maker 0.5@102"]


def test_a_book_without_anything_on_the_other_side_fills_nothing():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, 99))
    assert desk.feed(book([(98, 2)], [])) == []
    assert desk.feed(book([(98, 2)], [(99, 4)])) == ["a maker 1@99"]


def test_position_waits_for_what_is_displayed_ahead():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 2, 99))  # behind 4
    desk.send(order("b", BUY, 2, 99))  # behind the same 4, and a
    assert desk.feed(trade(99, 3)) == []  # 1 is left ahead
    assert desk.feed(trade(99, 9, BUY)) == []  # somebody bought at our price: nothing that rests here was hit
    assert desk.feed(trade(99, 2)) == ["a maker 1@99"]
    assert desk.feed(trade(99, 4)) == ["a maker 1@99", "b maker 2@99"]


def test_position_moves_up_when_less_is_displayed_and_never_back():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 2, 99))
    desk.feed(book([(99, 1), (98, 2)], [(100, 4)]))
    desk.feed(book([(99, 50), (98, 2)], [(100, 4)]))  # they queue behind us
    assert desk.feed(trade(99, 2)) == ["a maker 1@99"]


def test_position_moves_up_below_the_top_of_the_book_as_well():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, 98))
    desk.send(order("b", SELL, 1, 103))
    desk.feed(book([(99, 4), (98, "0.5"), (96, 3)], [(100, 4), (101, 2), (103, 1)]))
    assert desk.feed(trade(98, 1)) == ["a maker 0.5@98"]
    assert desk.feed(trade(103, 2, BUY)) == ["b maker 1@103"]


def test_position_is_first_where_nobody_is_displayed_and_last_where_nothing_is_known():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("gap", BUY, 1, 97))
    desk.send(order("deep", BUY, 1, 95))
    desk.send(order("top", SELL, 1, "99.50"))
    assert desk.feed(trade("99.5", 1, BUY)) == ["top maker 1@99.5"]
    assert desk.feed(trade(95, 1)) == ["gap maker 1@97"]
    assert desk.feed(trade(95, 1)) == []  # how much is ahead of `deep` is not known
    desk.feed(book([(95, 3)], [(100, 1)]))
    assert desk.feed(trade(95, 4)) == ["deep maker 1@95"]


def test_position_with_quotes_alone():
    desk = Desk()
    desk.feed(quote(99, 2, 100, 2))
    desk.send(order("a", BUY, 1, 99))
    desk.send(order("b", BUY, 1, 98))
    desk.send(order("c", SELL, 1, 100))
    desk.feed(quote("98.5", 2, "100.5", 1))  # nobody else is left at 99 and 100
    assert desk.feed(trade(99, 1)) == ["a maker 1@99"]
    assert desk.feed(trade(100, 1, BUY)) == ["c maker 1@100"]
    assert desk.feed(trade(98, 9)) == []
    desk.feed(quote(0, 0, 101, 1))
    assert desk.feed(trade(98, 9)) == []
    desk.feed(quote(98, 5, 101, 1))
    assert desk.feed(trade(98, 6)) == ["b maker 1@98"]


@pytest.mark.parametrize(
    ("queue", "at", "through"), [("through", [], ["a maker 1@99"]), ("touch", ["a maker 1@99"], [])]
)
def test_the_other_queue_models(queue, at, through):
    desk = Desk(queue=QueueModel(queue))
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, 99))
    desk.feed(book([(98, 2)], [(100, 4)]))
    assert desk.feed(trade(99, 50)) == at
    assert desk.feed(trade("98.5", 1)) == through


def test_the_other_side_coming_to_the_price_fills_up_to_its_size_once():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 3, 99))
    desk.send(order("b", BUY, 3, "98.5"))
    assert desk.feed(quote(97, 1, "98.5", "3.5")) == ["a maker 3@99", "b maker 0.5@98.5"]
    assert desk.feed(quote(97, 1, "98.5", "3.5")) == []
    assert desk.feed(quote(97, 1, "98.2", 1)) == ["b maker 1@98.5"]
    desk.send(order("c", SELL, 2, 105))
    assert desk.feed(book([(106, 1), (105, "0.5"), (104, 9)], [(107, 1)])) == ["c maker 1@105", "c maker 0.5@105"]


def test_less_than_a_lot_fills_nobody():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, 99))
    assert desk.feed(quote(97, 1, 99, "0.0005")) == []
    assert desk.feed(trade(98, "0.0005")) == []
    assert desk.feed(trade(98, "0.0015")) == ["a maker 0.001@99"]


def test_post_only_is_refused_when_it_would_take_and_makes_otherwise():
    desk = Desk()
    desk.feed(LADDER)
    assert desk.send(order("a", BUY, 1, 100, post_only=True)) == ["a rejected: post-only: at 100 it would take"]
    assert desk.send(order("b", SELL, 1, 99, post_only=True)) == ["b rejected: post-only: at 99 it would take"]
    assert desk.send(order("c", BUY, 1, "99.99", post_only=True)) == ["c accepted"]
    assert desk.feed(trade("99.99", 1)) == ["c maker 1@99.99"]


def test_post_only_without_a_ladder_is_judged_by_the_last_price():
    desk = Desk()
    desk.feed(bar(100, 101, 99, 100))
    assert desk.send(order("a", BUY, 1, "100.01", post_only=True)) == ["a rejected: post-only: at 100.01 it would take"]
    assert desk.send(order("b", SELL, 1, "99.99", post_only=True)) == ["b rejected: post-only: at 99.99 it would take"]
    assert desk.send(order("c", BUY, 1, 100, post_only=True)) == ["c accepted"]
    assert desk.feed(bar(90, 90, 90, 90)) == ["c maker 1@100"]


def test_cancel_frees_what_was_locked_and_is_final():
    desk = Desk()
    desk.feed(LADDER)
    desk.send(order("a", BUY, 1, 99))
    desk.send(order("b", SELL, 1, 105))
    assert desk.locked("USDT") == 99 * D("1.002")
    assert desk.locked("BTC") == 1
    assert desk.cancel("a") == ["a canceled: requested"]
    assert desk.cancel("b") == ["b canceled: requested"]
    assert desk.locked("USDT") == desk.locked("BTC") == 0
    assert desk.feed(trade(1, 99)) == []
    assert desk.cancel("a") == ["a no-cancel: the order is already canceled"]


def test_own_orders_never_trade_with_each_other():
    desk = Desk()
    desk.feed(book([(90, 1)], [(110, 1)]))
    desk.send(order("a", SELL, 1, 100))
    assert desk.send(order("b", BUY, 1, 101)) == ["b accepted"]
