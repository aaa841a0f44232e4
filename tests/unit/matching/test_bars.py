"""Bars alone: the open, the adverse extreme first, gaps, and the share of the volume."""

from __future__ import annotations

import random

import pytest

from koc_qt.domain.market import Bar
from koc_qt.domain.orders import OrderFilled
from tests.unit.matching.desk import BTC, BUY, ETH, FOK, IOC, SELL, D, Desk, bar, instrument, order, quote

CLOSE_100 = bar(100, 101, 99, 100)


def started(**options):
    desk = Desk(**options)
    desk.feed(CLOSE_100)
    return desk


def test_takers_fill_at_the_next_open_within_the_share_of_its_volume():
    desk = started()
    desk.send(order("m", BUY, 5))
    desk.send(order("l", SELL, 5, 100))
    desk.send(order("i", BUY, 5, 110, tif=IOC))
    desk.send(order("f", SELL, 1, tif=FOK))
    desk.send(order("x", SELL, 5, 110))
    assert desk.feed(bar(102, 105, 101, 104, volume=80)) == [
        "m taker 5@102",
        "l taker 3@102",  # better than its limit: it met the open as a taker
        "i expired: no liquidity left at a price it allows",
        "f expired: it could not be filled whole",
    ]
    assert desk.feed(bar(104, 105, 101, 104, volume=5)) == ["l maker 0.5@100"]
    assert desk.feed(bar(104, 105, 101, 104, volume=0)) == []
    assert desk.feed(bar(104, 105, 101, 104)) == ["l maker 1.5@100"]


def test_a_share_of_none_fills_all_even_without_volume():
    desk = started(bar_volume_fraction=None)
    desk.send(order("m", BUY, 500))
    assert desk.feed(bar(102, 105, 101, 104, volume=0)) == ["m taker 500@102"]


def test_slippage_is_added_to_the_open_but_not_to_makers():
    desk = started(slippage_ticks=2)
    desk.send(order("m", BUY, 1))
    desk.send(order("l", SELL, 1, 103))
    assert desk.feed(bar(102, 105, 101, 104)) == ["m taker 1@102.02", "l maker 1@103"]


def test_a_limit_at_the_extreme_is_not_reached_unless_it_stands_first():
    for model, lines in (({}, []), ({"queue": "touch"}, ["a maker 1@98", "b maker 1@102"])):
        desk = started(**model)
        desk.send(order("a", BUY, 1, 98))
        desk.send(order("b", SELL, 1, 102))
        desk.feed(bar(100, 101, 99, 100))
        assert desk.feed(bar(100, 102, 98, 100)) == lines
    assert desk.engine.open_orders == ()


@pytest.mark.parametrize(
    ("side", "stop", "opening", "filled_at"),
    [(SELL, 97, 98, 97), (SELL, 97, 95, 95), (BUY, 103, 102, 103), (BUY, 103, 105, 105)],
)
def test_a_stop_fills_at_its_price_or_at_the_open_beyond_it(side, stop, opening, filled_at):
    desk = started()
    desk.send(order("s", side, 1, stop=stop))
    assert desk.feed(bar(100, 101, 99, 100)) == []
    assert desk.feed(bar(opening, 106, 94, 100)) == ["s triggered", f"s taker 1@{filled_at}"]


def test_a_long_account_sees_the_low_first():
    desk = started(btc=1, usdt=0)
    desk.send(order("stop", SELL, 1, stop=97, reduce_only=True))
    desk.send(order("profit", SELL, 1, 103, reduce_only=True))
    # the second sell finds no free base in a cash account: one of the two must be chosen there
    assert desk.orders["profit"].reason == "insufficient funds: 0 BTC free"
    desk = started(btc=1, usdt=0, allow_short=True)
    desk.send(order("profit", SELL, 1, 103, reduce_only=True))
    desk.send(order("stop", SELL, 1, stop=97, reduce_only=True))
    assert desk.feed(bar(100, 104, 96, 103)) == [
        "stop triggered",
        "stop taker 1@97",
        "profit canceled: reduce-only: nothing is left to reduce",
    ]


def test_a_short_account_sees_the_high_first():
    desk = started(btc=-1, usdt=1000, allow_short=True)
    desk.send(order("profit", BUY, 1, 97, reduce_only=True))
    desk.send(order("stop", BUY, 1, stop=103, reduce_only=True))
    assert desk.feed(bar(100, 104, 96, 103)) == [
        "stop triggered",
        "stop taker 1@103",
        "profit canceled: reduce-only: nothing is left to reduce",
    ]


def test_orders_are_reached_in_the_order_of_the_path_and_share_its_volume():
    desk = started()
    desk.send(order("b97", BUY, 1, 97))
    desk.send(order("b98", BUY, 1, 98))
    desk.send(order("s98", SELL, 1, stop=98))
    desk.send(order("gone", BUY, 1, "100.50"))
    desk.send(order("up", SELL, 1, 102))
    desk.feed(bar(101, 101, 101, 101, volume=0))  # `gone` is no taker any more
    assert desk.feed(bar(100, 103, 96, 100, volume=35)) == [
        "gone maker 1@100.5",
        "s98 triggered",
        "s98 taker 1@98",
        "b98 maker 1@98",
        "b97 maker 0.5@97",
    ]
    assert desk.feed(bar(100, 103, 99, 100)) == ["up maker 1@102"]


def test_a_triggered_stop_limit_can_be_reached_later_on_the_path():
    desk = started()
    desk.send(order("a", SELL, 1, "98.50", stop=98))  # rests above its stop
    desk.send(order("b", BUY, 1, "101.50", stop=102))
    desk.send(order("c", SELL, 1, 95, stop=98))
    assert desk.feed(bar(100, 103, 97, 101)) == [
        "a triggered",
        "c triggered",
        "c taker 1@98",
        "a maker 1@98.5",
        "b triggered",
        "b maker 1@101.5",
    ]


def test_a_stop_without_volume_waits_for_the_next_bar():
    desk = started()
    desk.send(order("s", SELL, 1, stop=98))
    assert desk.feed(bar(100, 101, 97, 100, volume=0)) == ["s triggered"]
    assert desk.feed(bar(96, 99, 95, 98)) == ["s taker 1@96"]


def test_floats_beside_the_exact_price_are_judged_exactly():
    desk = Desk(instruments=[instrument(BTC, tick_size=D("0.1"), min_notional=D(0))])
    desk.feed(bar(0.4, 0.5, 0.3, 0.4))
    desk.send(order("a", BUY, 1, "0.3"))
    desk.send(order("s", BUY, 1, stop="0.7"))
    assert desk.feed(bar(0.4, 0.6, 0.3, 0.4)) == []
    assert desk.feed(bar(0.4, 0.6, 0.29999999999999993, 0.4)) == ["a maker 1@0.3"]
    assert desk.feed(bar(0.4, 0.7, 0.4, 0.4)) == ["s triggered", "s taker 1@0.7"]


def test_an_order_that_arrives_inside_a_bar_meets_the_next_one():
    desk = Desk(latency_ns=5)
    desk.feed(bar(100, 101, 99, 100, time_ns=0))
    desk.send(order("m", BUY, 1), now_ns=60)
    assert desk.feed(bar(102, 103, 101, 102, time_ns=60)) == []
    assert desk.feed(bar(103, 104, 102, 103, time_ns=120)) == ["m accepted", "m taker 1@103"]
    fill = next(event.fill for event in desk.events if isinstance(event, OrderFilled))
    assert fill.time_ns == 120


def test_an_engine_is_idle_while_no_order_works_or_is_on_its_way():
    desk = Desk(latency_ns=5, allow_short=True, btc=0)
    desk.feed(bar(100, 101, 99, 100, time_ns=0))
    assert desk.engine.is_idle
    desk.send(order("m", BUY, 1), now_ns=10)
    assert not desk.engine.is_idle
    desk.feed(bar(100, 101, 99, 100, volume=5.0, time_ns=60))  # half of it is filled
    assert not desk.engine.is_idle
    assert desk.engine.free["BTC"] == D("0.5")
    assert desk.engine.free["USDT"] == desk.total("USDT") - desk.locked("USDT") < desk.total("USDT")
    desk.cancel("m", now_ns=70)
    desk.feed(bar(100, 101, 99, 100, volume=0.0, time_ns=120))
    assert desk.engine.is_idle
    assert desk.engine.free == {"USDT": desk.total("USDT"), "BTC": D("0.5")}


def test_bars_are_ignored_once_something_finer_is_known():
    desk = started()
    desk.send(order("a", BUY, 1, 90))
    desk.feed(quote(99, 1, 100, 1))
    assert desk.feed(bar(80, 80, 80, 80)) == []


def test_market_orders_on_bars_are_the_arithmetic_of_next_open():
    """Fixed size at the next open with a fee: what vectorised back-tests compute, to the last digit."""
    rng = random.Random(3)
    opens = [D(10_000 + rng.randint(-500, 500)) / 100 for _ in range(200)]
    signals = [rng.choice((None, BUY, SELL)) for _ in opens]
    desk = Desk(usdt=100_000, btc=100)
    cash, coins = D(100_000), D(100)
    for at, opening in enumerate(opens):
        price = float(opening)
        desk.feed(bar(price, price + 1, price - 1, price + 0.5, time_ns=at * 60))
        decided = signals[at - 1] if at else None
        if decided is not None:
            cash -= decided.sign * opening + opening * D("0.002")
            coins += decided.sign
        assert (desk.total("USDT"), desk.total("BTC")) == (cash, coins)
        if signals[at] is not None:
            desk.send(order(f"o{at}", signals[at], 1), now_ns=at * 60 + 60)


def test_bars_of_strangers_are_ignored():
    desk = Desk(instruments=[instrument(BTC)])
    assert desk.feed(Bar(ETH, "1m", 0, 1, 1, 1, 1, 1)) == []
