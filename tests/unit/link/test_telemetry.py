"""The telemetry bus, read as any ZeroMQ subscriber reads it."""

from __future__ import annotations

import contextlib
import json
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.auth

from koc_qt.domain.errors import LinkError
from koc_qt.domain.state import StrategySpec
from koc_qt.link.auth import secure_client
from koc_qt.link.keys import KeyPair
from koc_qt.link.telemetry import FORMAT, TelemetryPublisher
from koc_qt.sdk.channel import Heartbeat
from tests.conditions import until
from tests.fakes.link import BTC, LOOPBACK, START_NS, FakeLink, engine_snapshot, strategy_snapshot


@contextlib.contextmanager
def subscriber(
    link: FakeLink, topic: str = "", pair: KeyPair | None = None, endpoint: str = ""
) -> Iterator[zmq.Socket[Any]]:
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvhwm = 0
        secure_client(socket, pair or link.keys.client, link.keys.engine.public)
        socket.connect(endpoint or link.telemetry.endpoint)
        socket.subscribe(topic)
        yield socket


def read(socket: zmq.Socket[Any]) -> list[tuple[str, dict[str, Any]]]:
    """Read what is there."""
    found = []
    while socket.poll(0):
        topic, body = socket.recv_multipart()
        found.append((topic.decode(), json.loads(body)))
    return found


async def joined(publisher: TelemetryPublisher, socket: zmq.Socket[Any], topic: str = "hello") -> None:
    """Publish until the subscriber hears it: ZeroMQ does not say when a subscription has arrived."""

    def heard() -> bool:
        publisher.publish(topic, Heartbeat(0, 0, 0, 0.0))
        return bool(socket.poll(10))

    await until(heard, what="the subscription")
    await until(lambda: not read(socket))


async def test_a_subscriber_sees_everything_and_can_prove_it(link: FakeLink) -> None:
    with subscriber(link) as socket:
        await joined(link.telemetry, socket)
        topics = ["engine", "strategy.sma-1", "venue.sim", "heartbeat.sma-1", "anomaly.sma-1"]
        got: list[tuple[str, dict[str, Any]]] = []
        for number in range(5_000):
            link.telemetry.publish(topics[number % 5], Heartbeat(number, number, 5, 0.1))
            if number % 500 == 0:
                got += read(socket)
        await until(lambda: got.extend(read(socket)) or len(got) >= 5_000)
        counts: Counter[str] = Counter()
        for topic, message in got:
            counts[topic] += 1
            assert message["topic"] == topic
            assert message["sequence"] == counts[topic]
        assert counts == dict.fromkeys(topics, 1_000)
        assert len({message["epoch_ns"] for _, message in got}) == 1


async def test_the_format(link: FakeLink) -> None:
    publisher = TelemetryPublisher(link.context, LOOPBACK, link.keys, time_ns=lambda: START_NS)
    with contextlib.closing(publisher), subscriber(link, endpoint=publisher.endpoint) as socket:
        await joined(publisher, socket)
        publisher.publish("engine", engine_snapshot(loop_lag_ms=math.nan))
        publisher.publish("strategy.sma-1", strategy_snapshot())
        await until(lambda: socket.poll(10))
        (topic, engine), *rest = read(socket)
        await until(lambda: rest or rest.extend(read(socket)))
    assert topic == "engine"
    assert {key: engine[key] for key in ("format", "epoch_ns", "topic", "sequence", "time_ns")} == {
        "format": FORMAT,
        "epoch_ns": START_NS,
        "topic": "engine",
        "sequence": 1,
        "time_ns": START_NS,
    }
    assert engine["data"]["pnl"] == "-1.50"
    assert engine["data"]["loop_lag_ms"] is None
    assert engine["data"]["type"] == "engine"
    assert rest[0][1]["data"]["spec"]["instruments"] == [{"venue": "sim", "symbol": "BTC/USDT"}]


async def test_the_example_of_the_documentation(link: FakeLink) -> None:
    text = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text()
    example = text.split("```python\n")[1].split("```")[0]
    assert "zmq.auth.load_certificate" in example
    seen: list[Any] = []
    loop = "while True:\n"
    assert loop in example
    home = link.run_folder.parent
    setup, body = example.replace('"PROFILE"', repr(str(home))).split(loop)
    scope: dict[str, Any] = {"print": lambda *args: seen.append(args)}
    exec(setup, scope)
    with scope["context"], scope["bus"] as socket:
        await joined(link.telemetry, socket, "engine")
        link.telemetry.publish("engine", engine_snapshot())
        await until(lambda: socket.poll(10))
        exec("if True:\n" + body, scope)
    assert seen == [("engine", link.telemetry.published, "-1.50")]


@pytest.mark.expected_warnings("its key is not among those")
async def test_a_stranger_hears_nothing(link: FakeLink) -> None:
    with subscriber(link, pair=KeyPair.generate()) as stranger, subscriber(link) as friend:
        await joined(link.telemetry, friend)
        await until(lambda: link.gatekeeper.refused)
        assert not stranger.poll(50)


async def test_topics_are_prefixes(link: FakeLink) -> None:
    with subscriber(link, "strategy.") as socket:

        def heard() -> bool:
            link.telemetry.publish("engine", engine_snapshot())
            link.telemetry.publish("strategy.x", strategy_snapshot("x"))
            return bool(socket.poll(10))

        await until(heard)
        assert {topic for topic, _ in read(socket)} == {"strategy.x"}


async def test_nothing_stops_the_engine(link: FakeLink, expected_warnings: list[str]) -> None:
    before = link.telemetry.published
    odd = StrategySpec("odd", "/s.py", "paper", (BTC,), "1m", {"p": object()})
    link.telemetry.publish("strategy.odd", strategy_snapshot(spec=odd))
    assert any("telemetry on strategy.odd cannot be published" in line for line in expected_warnings)
    link.telemetry.publish("engine", engine_snapshot())
    assert link.telemetry.published == before + 1
    with pytest.raises(LinkError, match="cannot listen at"):
        TelemetryPublisher(link.context, link.telemetry.endpoint, link.keys)
    link.telemetry.close()
    link.telemetry.close()
    link.telemetry.publish("engine", engine_snapshot())
    assert link.telemetry.published == before + 1
