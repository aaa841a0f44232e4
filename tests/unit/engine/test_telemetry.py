"""The pulse of everything: as a ZeroMQ subscriber reads it, and as it is worked out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq

from koc_qt.domain.state import EngineState, StrategyState
from koc_qt.engine import strategy_run as run_module
from koc_qt.engine import telemetry as module
from koc_qt.engine.strategy_run import Pulse
from koc_qt.link.auth import Gatekeeper, secure_client
from koc_qt.link.keys import load_or_create_keys
from koc_qt.link.messages import PositionChanged, StrategyChanged
from koc_qt.ports.processes import ProcessUse
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import Heartbeat, MetricValue
from tests.conditions import until
from tests.fakes.trading import market_buy, quote
from tests.fakes.workers import DESCRIBED
from tests.unit.engine.desk import POLICY, EngineDesk
from tests.unit.engine.test_strategies import ALL, running, state


class Subscriber:
    """Reads the bus as any program with a key of the profile does."""

    def __init__(self, engine: EngineDesk, socket: zmq.Socket[Any]) -> None:
        self._engine = engine
        self._socket = socket
        self.got: list[tuple[str, dict[str, Any]]] = []

    def read(self, topic: str) -> list[dict[str, Any]]:
        while self._socket.poll(0):
            head, body = self._socket.recv_multipart()
            message = json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
            assert message["topic"] == head.decode()
            self.got.append((head.decode(), message))
        return [message for name, message in self.got if name == topic]

    async def heard(self, topic: str, count: int = 1) -> list[dict[str, Any]]:
        await until(lambda: len(self.read(topic)) >= count, what=f"{count} of {topic}")
        messages = self.read(topic)
        numbers = [message["sequence"] for message in messages]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        return [message["data"] for message in messages]


@pytest.fixture
async def bus(engine: EngineDesk) -> AsyncIterator[Subscriber]:
    keys = load_or_create_keys(engine.folder / "keys")
    gatekeeper = Gatekeeper(engine.context, keys)
    gatekeeper.start()
    with contextlib.closing(gatekeeper), zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        socket.rcvhwm = 0
        secure_client(socket, keys.client, keys.engine.public)
        socket.connect(engine.publisher.endpoint)
        socket.subscribe("")
        subscriber = Subscriber(engine, socket)

        def joined() -> bool:
            engine.publisher.publish("hello", Heartbeat(0, 0, 0, 0.0))
            return bool(subscriber.read("hello"))

        await until(joined, what="the subscription")
        yield subscriber


async def test_a_subscriber_reads_everything(engine: EngineDesk, bus: Subscriber) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(MetricValue("edge", 1.5))
    await engine.orders.submit(market_buy(), key, "sim")
    await engine.orders.settle()
    engine.clock.advance(0.5)
    worker.say(Heartbeat(1, 42, 1500, 0.7))
    engine.clock.advance(6)
    worker.say(Heartbeat(2, 50, 1500, 0.7))
    engine.telemetry.start(engine.host)
    first, second = (await bus.heard("heartbeat.sma", 2))[:2]
    assert first["interval_s"] == 0.5
    assert (second["beat"], second["interval_s"], second["ticks"], second["lag_ms"]) == (2, 6.0, 50, 0.7)
    assert (await bus.heard("anomaly.sma"))[0]["reason"] == "heartbeats 6000 ms apart: too far apart"
    shown = (await bus.heard("strategy.sma"))[-1]
    assert (shown["state"], shown["pid"], shown["badge"]) == ("running", worker.pid, "isolated")
    assert (shown["metrics"], shown["trades"], shown["anomalies"]) == ({"edge": 1.5}, 1, 1)
    assert float(shown["pnl"]) == 0
    assert shown["order_latency_p50_ms"] is not None
    stages = {stage["stage"]: stage["count"] for stage in (await bus.heard("latency"))[-1]["stages"]}
    assert stages["acknowledged"] == stages["total"] == 1
    order = (await bus.heard("order_latency.sma"))[-1]
    assert order["stages_ms"].keys() >= {"acknowledged", "total"}
    pulse = (await bus.heard("engine"))[-1]
    assert (pulse["state"], pulse["uptime_s"], pulse["trades"], pulse["journal_ok"]) == ("running", 6.5, 1, True)
    engine.venue.breaker_state = "open"
    await until(lambda: any(m["data"]["breaker"] == "open" for m in bus.read("venue.sim")), what="the open breaker")


async def test_numbers_that_json_does_not_have(engine: EngineDesk, bus: Subscriber) -> None:
    _, worker = await running(engine)
    worker.say(MetricValue("edge", math.nan))
    worker.say(Heartbeat(2**63, 2**63, -5, math.inf))
    engine.telemetry.show(engine.host)
    beat = (await bus.heard("heartbeat.sma"))[0]
    assert (beat["lag_ms"], beat["ticks"]) == (None, 2**63)
    assert (await bus.heard("strategy.sma"))[-1]["metrics"] == {}


# ---- heartbeats


async def beating(engine: EngineDesk) -> tuple[Any, Pulse]:
    _, worker = await running(engine)
    worker.say(Heartbeat(1, 0, 0, 0.0))
    return worker, engine.host.managed["sma"].pulse


@pytest.mark.parametrize(("interval_s", "anomalies"), [(0.049, 1), (0.05, 0), (0.5, 0), (5.0, 0), (5.001, 1), (0.0, 1)])
async def test_the_bounds_of_an_anomaly(engine: EngineDesk, interval_s: float, anomalies: int) -> None:
    worker, pulse = await beating(engine)
    engine.clock.advance(interval_s)
    worker.say(Heartbeat(2, 0, 0, 0.0))
    assert pulse.anomalies == anomalies


async def test_the_first_heartbeat_is_none_whatever_its_number(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    pulse = engine.host.managed["sma"].pulse
    worker.say(Heartbeat(7, 0, 0, 0.0))  # at once after Running
    assert pulse.anomalies == 0
    worker.say(Heartbeat(0, 0, 0, 0.0))  # a number that says it is the first again
    assert pulse.anomalies == 1


async def test_a_heartbeat_that_stays_away_is_said_while_it_does_and_counts_once(
    engine: EngineDesk, bus: Subscriber
) -> None:
    worker, pulse = await beating(engine)
    engine.clock.advance(5.5)
    engine.telemetry._check(engine.host)
    engine.telemetry._check(engine.host)
    assert (await bus.heard("anomaly.sma"))[0]["reason"] == "no heartbeat for 5.5 s"
    assert pulse.anomalies == 1
    engine.clock.advance(1)
    worker.say(Heartbeat(2, 0, 0, 0.0))
    assert pulse.anomalies == 1
    engine.clock.advance(6)
    worker.say(Heartbeat(3, 0, 0, 0.0))
    assert pulse.anomalies == 2


async def test_a_flood_of_heartbeats_is_counted_and_not_published(engine: EngineDesk, bus: Subscriber) -> None:
    worker, pulse = await beating(engine)
    for number in range(1_000):
        worker.say(Heartbeat(number, 0, 0, 0.0))
    engine.publisher.publish("end", Heartbeat(0, 0, 0, 0.0))
    await bus.heard("end")
    assert pulse.anomalies == 1_000
    assert len(bus.read("heartbeat.sma")) == module.BEATS_BURST
    assert len(bus.read("anomaly.sma")) == module.BEATS_BURST - 1


@pytest.mark.expected_warnings("hung: no heartbeat for 10 s")
async def test_the_pulse_looks_for_those_that_hang(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.001)
    worker, _ = await beating(engine)
    engine.telemetry.start(engine.host)
    engine.clock.advance(run_module.HUNG_AFTER_S + 1)
    await until(lambda: worker.killed.startswith("hung"), what="its end")
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, "sma", StrategyState.RUNNING)


async def test_an_engine_that_stood_still_itself_blames_nobody(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.001)
    monkeypatch.setattr(module, "STALLED_S", 0.0)  # every look counts as late
    worker, pulse = await beating(engine)
    engine.clock.advance(run_module.HUNG_AFTER_S + 1)
    engine.host.changed.clear()
    engine.telemetry.start(engine.host)
    await until(lambda: engine.telemetry._lag_ms > 0 and engine.store.engine, what="a few looks")
    assert (worker.killed, pulse.anomalies) == ("", 0)
    worker.say(Heartbeat(2, 0, 0, 0.0))


# ---- what is worked out


async def test_the_rate_of_messages(engine: EngineDesk) -> None:
    engine.launcher.runs_at_once = ALL
    key, worker = await running(engine)
    managed = engine.host.managed[key]
    assert engine.telemetry.strategy(managed).rate_hz == 0.0
    for _ in range(10):
        engine.venue.publish(quote())
    engine.clock.advance(0.5)
    assert engine.telemetry.strategy(managed).rate_hz == 20.0
    engine.clock.advance(0.1)
    assert engine.telemetry.strategy(managed).rate_hz == 20.0  # too soon to say
    engine.clock.advance(1)
    assert engine.telemetry.strategy(managed).rate_hz == 0.0
    assert worker.pid == engine.telemetry.strategy(managed).pid


@pytest.mark.expected_warnings("sma failed: exit code 1")
async def test_a_strategy_that_does_not_run_has_no_process(tmp_path: Path) -> None:
    engine = EngineDesk(tmp_path, msgspec.structs.replace(POLICY, first_pause_s=3600, longest_pause_s=3600))
    await engine.start()
    key, worker = await running(engine)
    worker.say(Heartbeat(1, 5, 0, 0.0))
    worker.end(WorkerExit(True, 1, "exit code 1"))
    await state(engine, key, StrategyState.BACKING_OFF)
    engine.telemetry.show(engine.host)
    shown = engine.store.strategies[key]
    assert (shown.pid, shown.heartbeat_age_s, shown.memory_bytes, shown.ticks) == (None, None, 0, 5)
    assert shown.name == DESCRIBED.name
    await engine.close()


class Gone:
    """Implements ports/processes.py for processes that have ended."""

    def sample(self, pid: int) -> ProcessUse | None:
        return None


async def test_processes_that_are_gone_use_nothing(engine: EngineDesk) -> None:
    key, _ = await running(engine)
    engine.telemetry._meter = Gone()
    engine.telemetry.show(engine.host)
    assert engine.store.strategies[key].memory_bytes == 0
    assert engine.store.engine is not None
    assert engine.store.engine.memory_bytes == 0


async def test_profit_counts_fees_and_the_market(engine: EngineDesk) -> None:
    key, _ = await running(engine)
    engine.venue.publish(quote())
    await engine.orders.submit(market_buy("0.1"), key, "sim")
    await engine.orders.settle()
    told: list[PositionChanged] = []
    engine.bus.subscribe(PositionChanged, told.append)
    engine.venue.publish(quote("109.99", "110.01"))
    engine.telemetry.show(engine.host)
    shown, pulse = engine.store.strategies[key], engine.store.engine
    assert (shown.unrealised_pnl, shown.realised_pnl, shown.pnl) == (1, 0, 1)
    assert pulse is not None
    assert pulse.pnl == 1
    assert [fact.position.unrealised_pnl for fact in told] == [1]


async def test_strategies_that_did_not_change_are_not_told_again(engine: EngineDesk) -> None:
    key, _ = await running(engine)
    await engine.host.stop(key)
    told: list[StrategyChanged] = []
    engine.bus.subscribe(StrategyChanged, told.append)
    for _ in range(3):
        engine.clock.advance(0.5)
        engine.telemetry.show(engine.host)
    assert len(told) == 1
    assert engine.store.strategies[key].time_ns == engine.clock.time_ns()


async def test_the_engines_states(engine: EngineDesk) -> None:
    engine.telemetry.state = EngineState.STARTING
    assert engine.telemetry.engine().state is EngineState.STARTING
    engine.telemetry.state = EngineState.RUNNING
    await engine.switch.engage("panic")
    assert (engine.telemetry.engine().state, engine.telemetry.engine().reason) == (EngineState.HALTED, "panic")
    engine.telemetry.state, engine.telemetry.reason = EngineState.STOPPING, "asked to"
    assert (engine.telemetry.engine().state, engine.telemetry.engine().reason) == (EngineState.STOPPING, "asked to")
    engine.clock.advance(7)
    engine.clock.set_wall(0)  # somebody set the clock
    assert engine.telemetry.engine().uptime_s == 7


async def test_a_state_is_shown_at_once(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 3600.0)
    engine.telemetry.start(engine.host)
    key = await engine.host.start(engine.spec())
    await until(lambda: key in engine.store.strategies, what="it to be shown")


async def test_a_fault_does_not_end_the_pulse(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch, expected_warnings: list[str]
) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.001)
    faults = [RuntimeError("a bug"), RuntimeError("a bug")]
    show = engine.telemetry.show

    def sometimes(host: Any) -> None:
        if faults:
            raise faults.pop()
        show(host)

    engine.telemetry.show = sometimes  # type: ignore[method-assign]
    engine.telemetry.start(engine.host)
    await until(lambda: engine.store.engine, what="the pulse")
    assert len([line for line in expected_warnings if "the engine's pulse cannot be shown" in line]) == 2
    await engine.telemetry.close()
    await engine.telemetry.close()
    await asyncio.sleep(0)
