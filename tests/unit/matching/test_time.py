"""Latency, cancels on their way, and what the journal gives back after a crash."""

from __future__ import annotations

import random

import msgspec
import pytest

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import Fill, Liquidity, OrderAccepted, OrderFilled, OrderStatus, OrderSubmitted
from tests.unit.matching.desk import ACCOUNT, BUY, FOK, IOC, SELL, D, Desk, bar, book, instrument, order, quote, trade

MS = 1_000_000


def test_orders_and_cancels_take_effect_after_the_latency_in_their_order():
    desk = Desk(latency_ns=10)
    desk.feed(quote(99, 5, 100, 5, time_ns=0))
    assert desk.send(order("a", BUY, 1, 90), now_ns=5) == []
    assert desk.cancel("a", now_ns=6) == []
    assert desk.send(order("b", BUY, 1), now_ns=7) == []
    assert desk.engine.next_due_ns == 15
    assert desk.engine.open_orders == ()
    report = desk.engine.report("b")
    assert report is not None
    assert report.status is OrderStatus.SUBMITTED
    assert desk.engine.report("c") is None
    assert desk.note(desk.engine.advance(14)) == []
    assert desk.note(desk.engine.advance(16)) == ["a accepted", "a canceled: requested"]
    assert [event.time_ns for event in desk.events] == [15, 16]
    # what was on its way meets the market as it was, before the fact that is newer
    assert desk.feed(quote(109, 5, 110, 5, time_ns=17)) == ["b accepted", "b taker 1@100"]
    assert desk.engine.next_due_ns is None


@pytest.mark.parametrize(
    "event",
    [trade(100, 1, time_ns=20), book([(99, 1)], [(100, 1)], time_ns=20), bar(1, 1, 1, 1, time_ns=20)],
)
def test_every_kind_of_market_fact_moves_time(event):
    desk = Desk(latency_ns=10)
    desk.feed(quote(99, 5, 100, 5, time_ns=0))
    desk.send(order("a", BUY, 1, 90), now_ns=5)
    assert desk.feed(event) == ["a accepted"]


def test_time_never_runs_backwards_in_events():
    desk = Desk()
    desk.feed(quote(99, 5, 100, 5, time_ns=50))
    desk.send(order("a", BUY, 1, 99), now_ns=100)
    desk.feed(trade(98, 1, time_ns=60))
    assert [event.time_ns for event in desk.events] == [100, 100]


def test_jitter_keeps_the_order_and_repeats_with_the_seed():
    def dues(seed):
        desk = Desk(latency_ns=10, latency_jitter_ns=100, rng=random.Random(seed))
        desk.feed(quote(99, 5, 100, 5))
        for number in range(30):
            desk.send(order(f"o{number}", BUY, 1, 90), now_ns=number)
        desk.note(desk.engine.advance(1_000))
        assert [event.client_order_id for event in desk.events] == [f"o{number}" for number in range(30)]
        return [event.time_ns for event in desk.events]

    assert dues(1) == dues(1) == sorted(dues(1))
    assert dues(1) != dues(2)
    desk = Desk(latency_ns=10, latency_jitter_ns=100)
    desk.feed(quote(99, 5, 100, 5))
    for number in range(30):
        desk.send(order(f"o{number}", BUY, 1, 90), now_ns=0)
    for now_ns in range(112):  # nothing comes before its time, whatever was drawn for what was sent before it
        desk.note(desk.engine.advance(now_ns))
        assert desk.engine.next_due_ns is None or desk.engine.next_due_ns > now_ns
    assert len(desk.events) == 30
    assert all(number + 10 <= due <= number + 200 for number, due in enumerate(dues(1)))


# ---- restore ----------------------------------------------------------------------------------------------------


def journal(desk):
    """Give what the engine's journal would hold: all orders, and fills in their order."""
    fills = [event.fill for event in desk.events if isinstance(event, OrderFilled)]
    return list(desk.orders.values()), fills


def restarted(desk, **options):
    again = Desk(**options)
    orders, fills = journal(desk)
    again.orders = dict(desk.orders)
    lines = again.note(again.engine.restore(orders, fills))
    return again, lines


def test_open_orders_and_balances_survive_a_restart():
    desk = Desk(usdt=1000, btc=5)
    desk.feed(book([(99, 4), (98, 2)], [(100, 1), (101, 2)]))
    desk.send(order("market", BUY, "0.5"))
    desk.send(order("limit", BUY, 2, 100))
    desk.send(order("stop", SELL, 1, stop=95))
    desk.send(order("stop-limit", SELL, 1, 94, stop=95))
    desk.send(order("done", SELL, 1))
    desk.send(order("gone", BUY, 1, 90))
    desk.cancel("gone")
    assert desk.orders["limit"].filled_quantity == D("0.5")

    again, lines = restarted(desk, usdt=1000, btc=5)
    assert lines == []
    assert again.engine.balances == desk.engine.balances
    assert again.engine.open_orders == desk.engine.open_orders
    for key in desk.orders:
        assert again.engine.report(key) == desk.engine.report(key), key
    again.feed(book([(94, 9)], [("94.5", 1), (96, 2)]))
    assert said_of(again) == [
        "limit maker 1@100",
        "limit maker 0.5@100",
        "stop triggered",
        "stop taker 1@94",
        "stop-limit triggered",
        "stop-limit taker 1@94",
    ]
    assert [event.fill.fill_id for event in again.events if isinstance(event, OrderFilled)][:2] == [
        "limit-2",
        "limit-3",
    ]
    assert again.send(order("done", BUY, 1)) == ["done rejected: duplicate client order id done"]


def said_of(desk):
    from tests.unit.matching.desk import said

    return said(desk.events)


def test_what_was_to_trade_at_once_expires_and_stops_that_went_off_trade_on():
    desk = Desk()
    desk.feed(bar(100, 101, 99, 100))
    desk.send(order("market", BUY, 1))
    desk.send(order("ioc", BUY, 1, 100, tif=IOC))
    desk.send(order("fok", BUY, 1, tif=FOK))
    desk.send(order("stop", SELL, 1, stop=100))
    desk.send(order("stop-ioc", SELL, 1, stop=100, tif=IOC))
    desk.send(order("rests", SELL, 1, 150, stop=100))
    again, lines = restarted(desk)
    reason = "the venue restarted before it was executed in full"
    assert lines == [f"market expired: {reason}", f"ioc expired: {reason}", f"fok expired: {reason}"]
    assert again.locked("USDT") == 0
    assert again.feed(quote(99, 5, 100, 5)) == ["stop taker 1@99", "stop-ioc taker 1@99"]
    assert [report.client_order_id for report in again.engine.open_orders] == ["rests"]


def test_a_partly_filled_stop_is_not_armed_again():
    desk = Desk()
    desk.feed(book([(99, 1)], [(100, 1)]))
    desk.send(order("stop", SELL, 3, stop=99))
    assert desk.orders["stop"].status is OrderStatus.PARTIALLY_FILLED
    again, _ = restarted(desk)
    assert again.feed(book([(120, 9)], [(121, 1)])) == ["stop taker 2@120"]


def test_what_never_reached_the_venue_and_other_accounts_are_left_out():
    desk = Desk()
    sent = order("sent", BUY, 1, 90)
    desk.orders = {
        "new": order("new", BUY, 1, 90),
        "sent": apply(sent, OrderSubmitted("sent", 1)),
        "other": apply(order("other", BUY, 1, 90, account="other"), OrderAccepted("other", 1, "v")),
    }
    fill = Fill(
        "other-1", "other", "s", "other", instrument().id, Side.BUY, D(1), D(1), D(0), "USDT", Liquidity.MAKER, 1
    )
    lines = desk.note(desk.engine.restore(desk.orders.values(), [fill]))
    assert lines == []
    assert all(desk.engine.report(key) is None for key in desk.orders)
    assert desk.total("USDT") == 1_000_000
    assert desk.locked("USDT") == 0


def test_an_instrument_that_is_no_longer_listed():
    gone = InstrumentId("sim", "OLD/USDT")
    desk = Desk()
    accepted = apply(order("a", BUY, 2, 90, symbol=gone), OrderAccepted("a", 1, "v"))
    fill = Fill(
        "a-1", "a", accepted.strategy_id, ACCOUNT, gone, BUY, D(90), D(1), D("0.09"), "USDT", Liquidity.MAKER, 2
    )
    desk.orders["a"] = apply(accepted, OrderFilled("a", 2, fill))
    lines = desk.note(desk.engine.restore([desk.orders["a"]], [fill]))
    assert lines == ["a canceled: OLD/USDT is no longer listed"]
    assert desk.total("OLD") == 1
    assert desk.total("USDT") == 1_000_000 - 90 - D("0.09")
    report = desk.engine.report("a")
    assert report is not None
    assert (report.status, report.fills) == (OrderStatus.CANCELED, (fill,))


def test_a_sell_whose_holding_is_missing_locks_no_more_than_there_is():
    desk = Desk(btc=1)
    accepted = apply(order("a", SELL, 3, 90), OrderAccepted("a", 1, "v"))
    desk.engine.restore([accepted], [])
    assert desk.locked("BTC") == 1
    desk.orders["a"] = accepted
    assert desk.feed(trade(95, 9, BUY)) == ["a maker 1@90", "a canceled: insufficient funds: 1 BTC free"]
    assert desk.locked("BTC") == desk.total("BTC") == 0


def test_a_fresh_engine_restores_nothing_from_nothing():
    desk = Desk()
    assert desk.engine.restore([], []) == ()
    assert desk.engine.account_id == ACCOUNT
    assert desk.engine.model == msgspec.structs.replace(desk.engine.model)
