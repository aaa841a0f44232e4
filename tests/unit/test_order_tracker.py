"""What a venue says of orders, in pieces, repeated and out of order, comes out as one consistent story."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.adapters.order_tracker import HELD_BACK, REMEMBERED, OrderTracker, OrderUpdate, ending_of, fill_of
from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    Liquidity,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderTriggered,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.venues import VenueTrade

BTC = InstrumentId("binance", "BTC/USDT")
ACCEPTED, PARTIAL, FILLED = OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED
CANCELED, EXPIRED, REJECTED = OrderStatus.CANCELED, OrderStatus.EXPIRED, OrderStatus.REJECTED


def order(key: str = "a", quantity: int = 3, **options: Any) -> Order:
    kind = options.pop("type", OrderType.LIMIT)
    price = Decimal(100) if kind in (OrderType.LIMIT, OrderType.STOP_LIMIT) else None
    request = OrderRequest(BTC, Side.BUY, kind, Decimal(quantity), price, **options)
    return Order(key, "strategy", "account", request, created_ns=1, updated_ns=1, status=OrderStatus.SUBMITTED)


def trade(number: int, quantity: int = 1, *, key: str = "a", venue_id: str = "v-a") -> VenueTrade:
    return VenueTrade(
        fill_id=f"{venue_id}-{number}",
        venue_order_id=venue_id,
        client_order_id=key,
        symbol=BTC.symbol,
        side=Side.BUY,
        price=Decimal(100),
        quantity=Decimal(quantity),
        fee=Decimal("0.1"),
        fee_currency="USDT",
        liquidity=Liquidity.TAKER,
        time_ns=10 + number,
    )


def says(
    status: OrderStatus, filled: int | None = 0, *, key: str = "a", venue_id: str = "v-a", reason: str = ""
) -> OrderUpdate:
    return OrderUpdate(status, 50, key, venue_id, None if filled is None else Decimal(filled), reason)


def kinds(events: list[OrderEvent]) -> list[type[OrderEvent]]:
    return [type(event) for event in events]


@pytest.fixture
def tracker() -> OrderTracker:
    tracker = OrderTracker()
    tracker.know(order())
    return tracker


def test_an_order_is_accepted_once_and_first(tracker: OrderTracker) -> None:
    assert tracker.answered("a", "v-a", 5) == [OrderAccepted("a", 5, "v-a")]
    assert tracker.answered("a", "v-a", 6) == []
    assert tracker.update(says(ACCEPTED)) == []
    assert tracker.venue_order_id("a") == "v-a"
    assert tracker.client_order_id("v-a") == "a"
    assert tracker.is_accepted("a")


def test_the_venue_s_id_is_told_when_it_becomes_known(tracker: OrderTracker) -> None:
    assert tracker.update(says(ACCEPTED, venue_id="")) == [OrderAccepted("a", 50, "")]
    assert tracker.update(says(ACCEPTED, venue_id="")) == []
    assert tracker.update(says(ACCEPTED)) == [OrderAccepted("a", 50, "v-a")]
    assert tracker.update(says(ACCEPTED)) == []


def test_a_fill_proves_acceptance_and_counts_once(tracker: OrderTracker) -> None:
    first = tracker.trade(trade(1))
    assert kinds(first) == [OrderAccepted, OrderFilled]
    assert tracker.trade(trade(1)) == []
    assert kinds(tracker.trade(trade(2))) == [OrderFilled]
    assert tracker.update(says(PARTIAL, 2)) == []


def test_an_end_waits_for_every_fill_that_it_counts(tracker: OrderTracker) -> None:
    assert kinds(tracker.update(says(CANCELED, 2))) == [OrderAccepted]
    assert [each.client_order_id for each in tracker.missing()] == ["a"]
    assert kinds(tracker.trade(trade(1))) == [OrderFilled]
    assert kinds(tracker.trade(trade(2))) == [OrderFilled, OrderCanceled]
    assert tracker.missing() == []
    assert tracker.open() == []
    assert tracker.update(says(CANCELED, 2)) == []


def test_filled_is_told_by_fills_alone(tracker: OrderTracker) -> None:
    assert kinds(tracker.update(says(FILLED, None))) == [OrderAccepted]
    assert len(tracker.missing()) == 1
    assert kinds([*tracker.trade(trade(1, 2)), *tracker.trade(trade(2))]) == [OrderFilled, OrderFilled]
    assert tracker.open() == []


def test_what_the_venue_regards_as_done_short_of_the_quantity_has_expired(tracker: OrderTracker) -> None:
    tracker.trade(trade(1, 2))
    (expired,) = tracker.update(says(FILLED, 2))
    assert isinstance(expired, OrderExpired)
    assert "2 of 3" in expired.reason


@pytest.mark.parametrize(
    ("options", "ask_cancel", "expected"),
    [
        ({}, False, OrderCanceled),
        ({"time_in_force": TimeInForce.IOC}, False, OrderExpired),
        ({"time_in_force": TimeInForce.FOK}, False, OrderExpired),
        ({"type": OrderType.MARKET}, False, OrderExpired),
        ({"time_in_force": TimeInForce.IOC}, True, OrderCanceled),
    ],
)
def test_what_is_left_at_once_has_expired_unless_a_cancel_was_asked(
    options: dict[str, Any], ask_cancel: bool, expected: type[OrderEvent]
) -> None:
    tracker, ours = OrderTracker(), order(**options)
    tracker.know(ours)
    if ask_cancel:
        tracker.cancelling(ours)
    assert tracker.is_cancel_asked("a") is ask_cancel
    assert kinds(tracker.update(says(CANCELED))) == [OrderAccepted, expected]


def test_a_rejection_is_no_acceptance_and_one_with_fills_is_a_cancel() -> None:
    tracker = OrderTracker()
    tracker.know(order())
    assert tracker.update(says(REJECTED, reason="no")) == [OrderRejected("a", 50, "no")]
    tracker.know(order("b"))
    tracker.trade(trade(1, key="b", venue_id="v-b"))
    assert kinds(tracker.update(says(REJECTED, 1, key="b", venue_id="v-b"))) == [OrderCanceled]


def test_a_refused_submit_is_rejected_unless_the_venue_has_it() -> None:
    tracker = OrderTracker()
    tracker.sending(order())
    assert tracker.refused("a", "too small", 7) == []
    assert tracker.released("a") == [OrderRejected("a", 7, "too small")]
    tracker.sending(order("b"))
    tracker.update(says(ACCEPTED, key="b", venue_id="v-b"))
    assert tracker.refused("b", "too late", 7) == []
    assert kinds(tracker.released("b")) == [OrderAccepted]
    assert tracker.refused("nobody", "?", 7) == []


def test_a_stop_is_triggered_once_and_nothing_else_ever() -> None:
    tracker = OrderTracker()
    tracker.know(order(type=OrderType.STOP, stop_price=Decimal(90)))
    assert kinds(tracker.update(says(OrderStatus.TRIGGERED))) == [OrderAccepted, OrderTriggered]
    assert tracker.update(says(OrderStatus.TRIGGERED)) == []
    tracker.know(order("b"))
    assert kinds(tracker.update(says(OrderStatus.TRIGGERED, key="b", venue_id="v-b"))) == [OrderAccepted]


def test_nothing_is_told_of_an_order_in_flight_but_its_first_word_is_heard() -> None:
    heard: list[str] = []
    tracker = OrderTracker(heard.append)
    tracker.sending(order())
    assert tracker.open() == tracker.missing() == []
    assert tracker.update(says(ACCEPTED)) == []
    assert heard == ["a"]
    assert tracker.trade(trade(1)) == []
    assert tracker.answered("a", "v-a", 99) == []
    assert kinds(tracker.released("a")) == [OrderAccepted, OrderFilled]
    assert tracker.released("a") == []
    assert tracker.released("nobody") == []


def test_words_by_the_venue_s_id_alone_wait_for_the_answer() -> None:
    tracker = OrderTracker()
    tracker.sending(order())
    assert tracker.trade(trade(1, key="", venue_id="v-a")) == []
    assert tracker.update(says(CANCELED, 2, key="", venue_id="v-a")) == []
    assert tracker.trade(trade(1, key="", venue_id="stranger")) == []
    tracker.answered("a", "v-a", 5)
    assert kinds(tracker.released("a")) == [OrderAccepted, OrderFilled]
    assert kinds(tracker.trade(trade(2, key="", venue_id="v-a"))) == [OrderFilled, OrderCanceled]


def test_an_id_in_the_venue_s_own_form_is_none(tracker: OrderTracker) -> None:
    assert tracker.trade(trade(1, key="123456789", venue_id="v-a")) == []
    assert kinds(tracker.answered("a", "v-a", 5)) == [OrderAccepted, OrderFilled]
    assert kinds(tracker.trade(trade(2, key="123456789", venue_id="v-a"))) == [OrderFilled]


def test_strangers_words_are_not_kept_while_all_of_ours_are_named(tracker: OrderTracker) -> None:
    tracker.answered("a", "v-a", 5)
    tracker.update(says(ACCEPTED, key="", venue_id="v-b"))
    tracker.sending(order("b"))
    tracker.answered("b", "v-b", 6)
    assert tracker.update(says(ACCEPTED, key="theirs", venue_id="v-c")) == []
    (accepted,) = tracker.released("b")
    assert accepted.time_ns == 6


def test_a_flood_of_strangers_words_costs_a_look_and_no_memory() -> None:
    tracker = OrderTracker()
    tracker.sending(order())
    tracker.trade(trade(1, key="", venue_id="v-a"))
    for number in range(HELD_BACK):
        tracker.update(says(ACCEPTED, key="", venue_id=f"theirs-{number}"))
    tracker.answered("a", "v-a", 5)
    assert kinds(tracker.released("a")) == [OrderAccepted]
    assert [each.client_order_id for each in tracker.missing()] == ["a"], "its fill was among what went"
    tracker.caught_up("a")
    assert tracker.missing() == []
    tracker.caught_up("nobody")


def test_what_the_engine_knows_of_earlier_sessions_counts_as_told() -> None:
    ours = order()
    for event in (OrderAccepted("a", 1, "v-a"), OrderFilled("a", 11, fill_of(ours, trade(1)))):
        ours = apply(ours, event)
    tracker = OrderTracker()
    tracker.know(ours)
    tracker.know(ours)
    assert tracker.trade(trade(1, key="")) == []
    assert tracker.update(says(PARTIAL, 1, key="")) == []
    assert kinds(tracker.trade(trade(2, key=""))) == [OrderFilled]
    assert kinds(tracker.update(says(CANCELED, 2, key=""))) == [OrderCanceled]


def test_a_late_fill_after_the_end_still_counts(tracker: OrderTracker) -> None:
    assert kinds(tracker.update(says(CANCELED, 0))) == [OrderAccepted, OrderCanceled]
    assert kinds(tracker.trade(trade(1))) == [OrderFilled]


def test_what_the_venue_counts_after_the_end_is_asked_for(tracker: OrderTracker) -> None:
    tracker.update(says(CANCELED, 0))
    tracker.update(says(CANCELED, 1))
    assert [each.client_order_id for each in tracker.missing()] == ["a"]
    assert kinds(tracker.trade(trade(1))) == [OrderFilled]
    assert tracker.missing() == []


def test_an_execution_that_is_no_fill_is_refused_and_changes_nothing(tracker: OrderTracker) -> None:
    with pytest.raises(InvalidOrder):
        tracker.trade(trade(1, 0))
    assert kinds(tracker.trade(trade(1))) == [OrderAccepted, OrderFilled]


def test_an_amendment_holds_the_end_back_that_belongs_to_the_replaced_order(tracker: OrderTracker) -> None:
    tracker.answered("a", "v-a", 5)
    tracker.amending("a")
    assert tracker.update(says(CANCELED, 0)) == []
    event = OrderAmended("a", 60, Decimal(5), Decimal(101), "v-a2")
    assert tracker.amended(event) == [event]
    assert tracker.venue_order_id("a") == "v-a2"
    assert tracker.update(says(CANCELED, 0, key="")) == [], "told again, of the one that was replaced"
    assert kinds(tracker.trade(trade(1, key=""))) == [OrderFilled], "a fill of before the change"
    assert kinds(tracker.trade(trade(2, 4, key="", venue_id="v-a2"))) == [OrderFilled]
    assert tracker.open() == [], "five were bought"


def test_an_order_that_was_whole_is_open_again_with_more(tracker: OrderTracker) -> None:
    tracker.amending("a")
    tracker.trade(trade(1, 3))
    tracker.amended(OrderAmended("a", 60, Decimal(5), Decimal(100)))
    assert [each.client_order_id for each in tracker.open()] == ["a"]
    tracker.trade(trade(2, 2))
    assert tracker.open() == []


def test_a_refused_amendment_lets_the_end_out(tracker: OrderTracker) -> None:
    tracker.answered("a", "v-a", 5)
    tracker.amending("a")
    assert tracker.update(says(CANCELED, 0)) == []
    assert kinds(tracker.amend_over("a")) == [OrderCanceled]
    tracker.amending("nobody")
    assert tracker.amend_over("nobody") == []
    stranger = OrderAmended("nobody", 1, Decimal(1), None)
    assert tracker.amended(stranger) == [stranger]


def test_ended_orders_are_forgotten_in_the_end() -> None:
    tracker = OrderTracker()
    for number in range(REMEMBERED + 10):
        key = f"k{number}"
        tracker.sending(order(key))
        tracker.answered(key, f"v-{key}", 5)
        tracker.released(key)
        tracker.update(says(CANCELED, key=key, venue_id=f"v-{key}"))
    assert not tracker.is_known("k9")
    assert tracker.is_known("k10")
    assert tracker.client_order_id("v-k9") == ""
    assert tracker.open() == []
    assert tracker.symbols() == ["BTC/USDT"]
    assert tracker.order("k9") is None
    assert tracker.order("k10") is not None
    assert tracker.venue_order_id("k9") == ""
    assert not tracker.is_accepted("k9")
    assert not tracker.is_cancel_asked("k9")


@pytest.mark.parametrize("is_refused", [True, False])
def test_what_was_never_there_is_expected_no_more_and_is_told_if_it_turns_up(is_refused: bool) -> None:
    tracker = OrderTracker()
    tracker.sending(order())
    if is_refused:
        tracker.refused("a", "no funds", 5)
        assert kinds(tracker.released("a")) == [OrderRejected]
    else:
        tracker.absent("a")
        assert tracker.released("a") == []
    tracker.absent("nobody")
    assert tracker.open() == tracker.missing() == []
    assert kinds(tracker.update(says(ACCEPTED))) == [OrderAccepted]
    assert tracker.client_order_id("v-a") == "a"
    assert kinds(tracker.trade(trade(1, key=""))) == [OrderFilled]
    assert tracker.update(says(CANCELED, 1)) == [], "it was called over: the engine asks what became of it"

    reinstated = msgspec.structs.replace(order(), status=ACCEPTED, venue_order_id="v-a")
    tracker.cancelling(reinstated)
    assert tracker.open() == [reinstated]
    assert kinds(tracker.update(says(CANCELED, 1))) == [OrderCanceled]
    assert tracker.open() == []


def test_an_order_that_is_sent_after_all_is_known_by_the_venue_s_id_alone_again() -> None:
    tracker = OrderTracker()
    tracker.sending(order())
    tracker.absent("a")  # it was held back
    assert tracker.released("a") == []
    tracker.sending(order())
    assert tracker.trade(trade(1, key="", venue_id="v-a")) == []
    tracker.answered("a", "v-a", 5)
    assert kinds(tracker.released("a")) == [OrderAccepted, OrderFilled]
    assert [each.client_order_id for each in tracker.open()] == ["a"]


def test_an_order_that_ended_twice_is_remembered_as_long_as_it_works() -> None:
    tracker = OrderTracker()
    working = msgspec.structs.replace(order("open", 1), status=ACCEPTED, venue_order_id="v-open")
    tracker.know(working)
    tracker.absent("open")
    tracker.know(working)
    for number in range(REMEMBERED + 1):
        tracker.know(order(f"k{number}"))
        tracker.absent(f"k{number}")
    assert tracker.is_known("open")
    assert not tracker.is_known("k0")


def test_the_status_of_a_report_goes_by_its_fills() -> None:
    request = order().request
    cases = [
        (says(ACCEPTED), 0, ACCEPTED),
        (says(ACCEPTED), 1, PARTIAL),
        (says(ACCEPTED), 3, FILLED),
        (says(CANCELED), 1, CANCELED),
        (says(REJECTED), 0, REJECTED),
        (says(REJECTED), 1, CANCELED),
        (says(EXPIRED), 0, EXPIRED),
        (says(FILLED), 2, EXPIRED),
    ]
    for update, filled, expected in cases:
        assert ending_of(request, update, Decimal(filled), cancel_asked=False)[0] is expected


# ---- any order of anything ----------------------------------------------------------------------------------------

ENDINGS = st.sampled_from([None, FILLED, CANCELED, EXPIRED])


@st.composite
def lives(draw: st.DrawFn) -> tuple[Order, list[VenueTrade], list[OrderUpdate], OrderStatus | None]:
    """Make an order's true life, and what its venue says of it: every word at least once, in no order at all."""
    sizes = draw(st.lists(st.integers(1, 3), max_size=5))
    ending = draw(ENDINGS)
    left = draw(st.integers(1, 3)) if ending is not FILLED or not sizes else 0
    ours = order(quantity=sum(sizes) + left)
    if not left:
        ending = FILLED
    elif ending is FILLED:
        ending = None
    trades = [trade(number, size) for number, size in enumerate(sizes)]
    filled, updates = 0, [says(ACCEPTED)]
    for size in sizes:
        filled += size
        updates.append(says(PARTIAL, filled))
    if ending is not None:
        updates.append(says(ending, filled))
    return ours, trades, updates, ending


def without_an_id(word: Any, rng: random.Random) -> Any:
    """Give the word as a venue might: with both ids, or one of them."""
    which = rng.choice(["both", "client", "venue"])
    hidden: dict[str, str] = {"client": {"venue_order_id": ""}, "venue": {"client_order_id": ""}}.get(which, {})
    return msgspec.structs.replace(word, **hidden)


@given(lives(), st.randoms(use_true_random=False), st.booleans())
def test_any_order_of_words_tells_the_same_story(
    life: tuple[Order, list[VenueTrade], list[OrderUpdate], OrderStatus | None], rng: random.Random, withhold: bool
) -> None:
    ours, trades, updates, ending = life
    withheld = trades[-1:] if withhold else []
    words: list[Any] = [word for word in [*trades, *updates] if word not in withheld]
    words += [*rng.choices(words, k=rng.randrange(6)), "answer"]
    rng.shuffle(words)
    released_after = rng.randrange(len(words) + 1)

    tracker, state = OrderTracker(), ours
    tracker.sending(ours)
    told: list[OrderEvent] = []

    def take(events: list[OrderEvent]) -> None:
        nonlocal state
        for event in events:
            assert state.is_open or isinstance(event, OrderFilled), f"{event} after the end"
            after = apply(state, event)
            assert after is not state, f"{event} adds nothing to {state}"
            state = after
            told.append(event)

    for number, word in enumerate(words):
        if number == released_after:
            take(tracker.released("a"))
        if number < released_after:
            assert not told
        if word == "answer":
            take(tracker.answered("a", "v-a", 5))
        elif isinstance(word, OrderUpdate):
            take(tracker.update(without_an_id(word, rng)))
        else:
            take(tracker.trade(without_an_id(word, rng)))
    if released_after == len(words):
        take(tracker.released("a"))

    accepted = [event.venue_order_id for event in told if isinstance(event, OrderAccepted)]
    assert accepted in (["v-a"], ["", "v-a"])
    assert kinds(told)[0] is OrderAccepted
    filled = [event.fill.fill_id for event in told if isinstance(event, OrderFilled)]
    assert sorted(filled) == sorted(each.fill_id for each in trades if each not in withheld)
    if withheld:
        assert state.is_open, "no end before its last fill"
        assert [each.client_order_id for each in tracker.missing()] == ["a"]
        take(tracker.trade(withheld[0]))
    assert tracker.missing() == []
    expected = ending or (PARTIAL if trades else ACCEPTED)
    assert state.status is expected
    assert state.venue_order_id == "v-a"
    assert [each.client_order_id for each in tracker.open()] == ([] if ending else ["a"])
    assert apply(ours, OrderSubmitted("a", 1)) is ours
