"""How long orders take, from the signal to the venue's first answer."""

from __future__ import annotations

import pytest

from koc_qt.domain.orders import Order, OrderAccepted, OrderEvent, OrderFilled, OrderRejected, OrderSubmitted
from koc_qt.engine import latency as module
from koc_qt.engine.latency import LatencyBook, Percentiles
from tests.fakes.clock import FakeClock
from tests.fakes.trading import NOW_NS, fill_of, limit_buy


def accepted(number: int) -> OrderAccepted:
    return OrderAccepted(f"o{number}", NOW_NS, f"v{number}")


def measure(book: LatencyBook, clock: FakeClock, number: int, latency_ms: float, owner: str = "sma") -> None:
    book.began(f"o{number}", owner, clock.monotonic_ns())
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
        measure(book, clock, number, number)
    found = book.percentiles()
    assert (found.p50_ms, found.p99_ms) == pytest.approx(expected)
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
        book.began("o1", "sma", clock.monotonic_ns())
        clock.advance(0.002)
        book.answered(OrderSubmitted("o1", NOW_NS))  # ours, no answer
        book.answered(answer)
        book.answered(answer)
    book.answered(accepted(7))  # of an order before this run of the engine
    assert list(book._all) == [2.0, 2.0, 2.0]
    assert book._began == {}


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT_LIMIT", 2)
    monkeypatch.setattr(module, "KEPT", 3)
    clock = FakeClock()
    book = LatencyBook(clock)
    for number in range(3):
        book.began(f"o{number}", "sma", clock.monotonic_ns())
    assert list(book._began) == ["o1", "o2"]
    book.answered(accepted(0))
    assert book.percentiles() == Percentiles(None, None)
    for number in range(5, 10):
        measure(book, clock, number, number)
    assert list(book._all) == list(book._by_strategy["sma"]) == pytest.approx([7, 8, 9])
