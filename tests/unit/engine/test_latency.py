"""How long orders take, from the signal to the venue's first answer."""

from __future__ import annotations

import pytest

from koc_qt.domain.latency import EDGES_MS, OrderLatency, Stage
from koc_qt.domain.orders import (
    Order,
    OrderAccepted,
    OrderCanceled,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderRejected,
    OrderSubmitted,
)
from koc_qt.engine import latency as module
from koc_qt.engine.latency import LatencyBook, Percentiles
from tests.fakes.clock import FakeClock
from tests.fakes.trading import NOW_NS, fill_of, limit_buy


def order_of(key: str = "o1", owner: str = "sma") -> Order:
    return Order(key, owner, "sim", limit_buy(), created_ns=NOW_NS, updated_ns=NOW_NS)


def accepted(number: int) -> OrderAccepted:
    return OrderAccepted(f"o{number}", NOW_NS, f"v{number}")


def measure(book: LatencyBook, clock: FakeClock, number: int, latency_ms: float, owner: str = "sma") -> None:
    book.began(order_of(f"o{number}", owner), clock.monotonic_ns(), clock.monotonic_ns())
    clock.advance(latency_ms / 1000)
    book.answered(accepted(number))


def test_nothing_was_measured_yet() -> None:
    book = LatencyBook(FakeClock())
    assert book.percentiles() == book.percentiles("sma") == Percentiles(None, None)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, (1, 1)), (2, (1, 2)), (3, (2, 3)), (100, (50, 99)), (101, (51, 100)), (1000, (500, 990))],
)
def test_percentiles_are_of_the_nearest_rank(count: int, expected: tuple[int, int]) -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    for number in range(count, 0, -1):
        measure(book, clock, number, number / 10)
    found = book.percentiles()
    assert (found.p50_ms, found.p99_ms) == pytest.approx((expected[0] / 10, expected[1] / 10))
    assert book.percentiles("sma") == found
    assert book.percentiles("other") == Percentiles(None, None)


def test_the_first_answer_counts_whatever_it_is() -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    order = Order("o1", "sma", "sim", limit_buy(), created_ns=NOW_NS, updated_ns=NOW_NS)
    answers: list[OrderEvent] = [
        accepted(1),
        OrderFilled("o1", NOW_NS, fill_of(order)),
        OrderRejected("o1", NOW_NS, "no"),
    ]
    for answer in answers:
        book.began(order_of(), clock.monotonic_ns(), clock.monotonic_ns())
        clock.advance(0.002)
        book.answered(OrderSubmitted("o1", NOW_NS))  # ours, no answer
        book.answered(answer)
        clock.advance(0.002)
        book.answered(answer)
    book.answered(accepted(7))  # of an order before this run of the engine
    assert list(book._all) == [2.0, 2.0, 2.0]
    assert book._ways == {}


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_LIMIT", 2)
    monkeypatch.setattr(module, "KEPT", 3)
    clock = FakeClock()
    book = LatencyBook(clock)
    for number in range(3):
        book.began(order_of(f"o{number}"), clock.monotonic_ns(), clock.monotonic_ns())
    assert list(book._ways) == ["o1", "o2"]
    book.answered(accepted(0))
    assert book.percentiles() == Percentiles(None, None)
    for number in range(5, 10):
        measure(book, clock, number, number)
    assert list(book._all) == list(book._by_strategy["sma"]) == pytest.approx([7, 8, 9])


def walk(book: LatencyBook, clock: FakeClock, *, wait_ms: float = 1.0, signal_ns: int | None = None) -> None:
    """Take an order from its signal to its acknowledgement, each stage some time after the one before."""
    received_ns = clock.monotonic_ns()
    clock.advance(wait_ms / 1000)
    checked_ns = clock.monotonic_ns()
    clock.advance(wait_ms * 2 / 1000)
    book.began(order_of(), received_ns, checked_ns, signal_ns)
    clock.advance(wait_ms * 3 / 1000)
    book.reached("o1", Stage.SENT)
    clock.advance(wait_ms * 4 / 1000)
    book.answered(accepted(1))


def test_each_stage_is_measured_from_the_one_before() -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    told: list[OrderLatency] = []
    book.on_measured = told.append
    clock.advance(0.010)
    walk(book, clock, signal_ns=clock.monotonic_ns() - 5_000_000)
    order = Order("o1", "sma", "sim", limit_buy(), created_ns=NOW_NS, updated_ns=NOW_NS)
    clock.advance(0.007)
    book.answered(OrderFilled("o1", NOW_NS, fill_of(order)))
    expected = {
        Stage.SIGNAL: 5.0, Stage.RISK: 1.0, Stage.JOURNAL: 2.0, Stage.SENT: 3.0, Stage.ACKNOWLEDGED: 4.0,
        Stage.TOTAL: 15.0,
    }  # fmt: skip
    assert told[0].stages_ms == pytest.approx(expected)
    assert told[1].stages_ms == pytest.approx({**expected, Stage.FILLED: 7.0})
    assert (told[1].client_order_id, told[1].strategy_id, told[1].account_id) == ("o1", "sma", "sim")
    assert book.percentiles().p50_ms == pytest.approx(10.0)  # the engine's part
    found = {stage.stage: stage for stage in book.snapshot().stages}
    assert {stage: figures.p50_ms for stage, figures in found.items()} == pytest.approx(told[1].stages_ms)
    assert found[Stage.JOURNAL].buckets[EDGES_MS.index(2.0)] == 1
    assert all(sum(figures.buckets) == figures.count == 1 for figures in found.values())


def test_news_come_once() -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    assert book.news() is None
    walk(book, clock)
    news = book.news()
    assert news is not None
    assert news == book.snapshot()
    assert book.news() is None


@pytest.mark.expected_warnings("order o1 of sma took 1000 ms .* 400 ms of it at the stage 'acknowledged'")
def test_a_slow_order_is_told_with_its_slowest_stage() -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    walk(book, clock, wait_ms=100.0)
    assert book.snapshot().slow == 1


@pytest.mark.parametrize("ahead_ns", [1, -61_000_000_000])
def test_a_stamp_of_a_strategy_that_cannot_be_is_not_believed(ahead_ns: int) -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    clock.advance(100.0)
    now_ns = clock.monotonic_ns()
    book.began(order_of(), now_ns, now_ns, now_ns + ahead_ns)
    clock.advance(0.001)
    book.answered(accepted(1))
    assert {stage.stage for stage in book.snapshot().stages} == set(Stage) - {Stage.SIGNAL, Stage.SENT, Stage.FILLED}


def test_what_is_repeated_or_of_nobody_counts_for_nothing() -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    book.reached("stranger", Stage.SENT)
    book.began(order_of(), 0, 0)
    book.reached("o1", Stage.SENT)
    clock.advance(1.0)
    book.reached("o1", Stage.SENT)
    counts = [(figures.stage, figures.count, figures.longest_ms) for figures in book.snapshot().stages]
    assert counts == [(Stage.RISK, 1, 0.0), (Stage.JOURNAL, 1, 0.0), (Stage.SENT, 1, 0.0)]


@pytest.mark.parametrize("end", [OrderCanceled("o1", NOW_NS), OrderExpired("o1", NOW_NS)])
def test_an_order_that_ends_without_a_fill_is_forgotten(end: OrderEvent) -> None:
    clock = FakeClock()
    book = LatencyBook(clock)
    walk(book, clock)
    book.answered(end)
    assert book._ways == {}
