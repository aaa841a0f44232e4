from __future__ import annotations

import pytest

from koc_qt.engine import bus as bus_module
from koc_qt.engine.bus import Bus


class Ping:
    pass


class Pong:
    pass


def test_a_fact_reaches_the_handlers_of_its_class_in_order() -> None:
    bus, heard = Bus(), []
    bus.subscribe(Ping, lambda _: heard.append("first"))
    bus.subscribe(Ping, lambda _: heard.append("second"))
    bus.subscribe(Pong, lambda _: heard.append("other"))
    bus.publish(Ping())
    assert heard == ["first", "second"]


def test_an_ended_subscription_hears_nothing_and_the_others_stay() -> None:
    bus, heard = Bus(), []
    end = bus.subscribe(Ping, lambda _: heard.append("gone"))
    bus.subscribe(Ping, lambda _: heard.append("stays"))
    end()
    bus.publish(Ping())
    assert heard == ["stays"]


@pytest.mark.expected_warnings("a listener of Ping failed")
def test_a_handler_that_raises_stops_nobody() -> None:
    bus, heard = Bus(), []

    def fail(_: Ping) -> None:
        raise ValueError("broken listener")

    bus.subscribe(Ping, fail)
    bus.subscribe(Ping, lambda _: heard.append("fine"))
    bus.publish(Ping())
    assert heard == ["fine"]


def test_what_is_published_inside_a_handler_comes_after_the_present_fact() -> None:
    bus, heard = Bus(), []

    def answer(_: Ping) -> None:
        bus.publish(Pong())
        heard.append("ping 1")

    bus.subscribe(Ping, answer)
    bus.subscribe(Ping, lambda _: heard.append("ping 2"))
    bus.subscribe(Pong, lambda _: heard.append("pong"))
    bus.publish(Ping())
    assert heard == ["ping 1", "ping 2", "pong"]


@pytest.mark.expected_warnings("a listener of Ping failed")
def test_handlers_that_feed_each_other_without_end_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "QUEUE_LIMIT", 3)
    bus, heard = Bus(), []

    def multiply(_: Ping) -> None:
        for _ in range(10):
            bus.publish(Pong())

    bus.subscribe(Ping, multiply)
    bus.subscribe(Pong, heard.append)
    bus.publish(Ping())
    assert len(heard) == 3
