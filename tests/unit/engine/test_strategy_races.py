from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from koc_qt.domain.errors import StorageError, StrategyError, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import StrategyState
from koc_qt.engine import strategies as strategies_module
from koc_qt.engine.strategies import Managed
from koc_qt.engine.strategy_file import read_source
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import (
    StopRun,
    Submit,
)
from tests.conditions import PATIENCE, until
from tests.fakes.trading import BTC, limit_buy, quote
from tests.unit.engine.desk import POLICY, EngineDesk, running, state


async def test_two_starts_at_once_run_one(engine: EngineDesk) -> None:
    outcomes = await asyncio.gather(
        *(engine.host.start(engine.spec(strategy_id="one")) for _ in range(3)), return_exceptions=True
    )
    assert sorted(map(str, outcomes)) == ["one", "one is starting already", "one is starting already"]
    assert len(engine.launcher.workers) == 1


async def test_it_cannot_be_started_while_it_stops_nor_ended_twice(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    worker.stops_in_order = False
    first = asyncio.create_task(engine.host.stop(key, "first"))
    await until(lambda: worker.got(StopRun), what="the request to stop")
    with pytest.raises(StrategyError, match="is stopping already"):
        await engine.host.start(engine.spec(strategy_id=key))
    await engine.host.stop(key, "second", grace_s=0.01)
    await first
    assert "second" in engine.host.managed[key].reason
    await engine.host.stop(key, "third")
    assert engine.host.managed[key].state is StrategyState.STOPPED


@pytest.mark.expected_warnings("sma failed", "kill switch: panic")
async def test_the_kill_switch_during_a_pause_ends_it(tmp_path: Path) -> None:
    engine = EngineDesk(tmp_path, strategies_module.RestartPolicy(first_pause_s=3600, longest_pause_s=3600))
    await engine.start()
    key, worker = await running(engine)
    worker.end(WorkerExit(True, 1, "exit code 1"))
    await state(engine, key, StrategyState.BACKING_OFF)
    await engine.commands.kill("panic")
    assert (engine.host.managed[key].state, engine.host.managed[key].pause) == (StrategyState.STOPPED, None)
    assert not engine.journal.load().strategies[0].wanted
    await engine.close()


@pytest.mark.expected_warnings("sma failed: exit code 1")
async def test_a_strategy_that_waits_is_not_started_again_under_the_latch(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, worker = await running(engine)
    asked, gate = slow_file(monkeypatch)
    worker.end(WorkerExit(True, 1, "exit code 1"))
    await until(asked.is_set, what="the file to be asked for")
    await engine.switch.engage("panic")
    gate.set()
    assert "panic" in await state(engine, key, StrategyState.STOPPED)
    await until(lambda: not engine.journal.load().strategies[0].wanted, what="it to be remembered")
    assert len(engine.launcher.workers) == 1


@pytest.mark.expected_warnings("sma failed: exit code 1")
async def test_old_failures_do_not_count(engine: EngineDesk) -> None:
    key, _ = await running(engine)
    for number in range(5):
        await state(engine, key, StrategyState.RUNNING)
        engine.clock.advance(POLICY.window_s / 2 + 1)
        engine.launcher.workers[number].end(WorkerExit(True, 1, "exit code 1"))
        await until(lambda n=number: len(engine.launcher.workers) > n + 1, what="the next worker")
    await state(engine, key, StrategyState.RUNNING)
    assert len(engine.host.managed[key].failures) == 2


async def test_who_starts_it_again_keeps_its_orders(engine: EngineDesk) -> None:
    """A stop that still waits for a venue's answer cancels nothing of the next run."""
    key, worker = await running(engine)
    engine.venue.publish(quote())
    engine.trading.hold = asyncio.Event()
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(key), what="the intent")
    stopping = asyncio.create_task(engine.host.stop(key))
    await until(lambda: engine.host.managed[key].state is StrategyState.STOPPED, what="the stop")
    await engine.orders.settle()
    engine.journal.gate = asyncio.Event()
    again = asyncio.create_task(engine.host.start(engine.spec()))
    await until(lambda: engine.host.managed[key].state is StrategyState.STARTING, what="the next start")
    engine.trading.hold.set()
    engine.journal.gate.set()
    await asyncio.gather(stopping, again)
    before = len(engine.trading.canceled)
    engine.trading.hold = None
    await engine.host._forget(Managed(engine.spec(strategy_id=key)))  # of one that was replaced
    await state(engine, key, StrategyState.RUNNING)
    engine.launcher.workers[-1].say(Submit(1, limit_buy()))
    await until(lambda: len(engine.trading.submitted) == 2, what="the next run's order")
    await engine.orders.settle()
    assert len(engine.trading.canceled) == before
    assert engine.journal.load().strategies[0].wanted


def slow_file(monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, threading.Event]:
    """Have files read slowly: gives what is set when one is asked for, and what lets it be read."""
    asked, gate = threading.Event(), threading.Event()
    read = strategies_module.read_source

    def slowly(path: str) -> bytes:
        asked.set()
        assert gate.wait(10 * PATIENCE)
        return read(path)

    monkeypatch.setattr(strategies_module, "read_source", slowly)
    return asked, gate


@pytest.mark.expected_warnings("sma failed")
async def test_a_stop_while_its_file_is_read_again(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    key, worker = await running(engine)
    asked, gate = slow_file(monkeypatch)
    worker.end(WorkerExit(True, 1, "exit code 1"))
    await until(asked.is_set, what="the file to be asked for")
    await engine.host.stop(key)
    gate.set()
    assert engine.host.managed[key].state is StrategyState.STOPPED
    await until(lambda: not engine.host._restarting, what="the restart to end")
    assert len(engine.launcher.workers) == 1


async def test_a_stop_while_its_file_is_read_first(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, gate = slow_file(monkeypatch)
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(asked.is_set, what="the file to be asked for")
    await engine.host.stop("sma")
    again = asyncio.create_task(engine.host.start(engine.spec()))  # and started again before the first has noticed
    await until(lambda: engine.host.managed["sma"].state is StrategyState.STARTING, what="the second start")
    gate.set()
    with pytest.raises(StrategyError, match="stopped before it ran"):
        await starting
    assert await again == "sma"
    assert engine.journal.load().strategies[0].wanted
    assert len(engine.launcher.workers) == 1


async def test_a_stop_while_its_file_is_read_first_leaves_it_stopped(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, gate = slow_file(monkeypatch)
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(asked.is_set, what="the file to be asked for")
    await engine.host.stop("sma", "enough")
    gate.set()
    with pytest.raises(StrategyError, match="stopped before it ran"):
        await starting
    assert (engine.host.managed["sma"].state, engine.host.managed["sma"].reason) == (StrategyState.STOPPED, "enough")


async def test_the_kill_switch_while_its_file_is_read(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, gate = slow_file(monkeypatch)
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(asked.is_set, what="the file to be asked for")
    await engine.switch.engage("panic")
    gate.set()
    with pytest.raises(StrategyError, match="panic"):
        await starting
    assert engine.host.managed["sma"].state is StrategyState.STOPPED
    assert engine.launcher.workers == []
    await until(lambda: not engine.journal.load().strategies[0].wanted, what="it to be remembered")


async def test_a_start_that_fails_leaves_what_was_known(engine: EngineDesk) -> None:
    key, _ = await running(engine)
    await engine.host.stop(key, "enough")
    engine.journal.failing = "disk full"
    with pytest.raises(StorageError, match="disk full"):
        await engine.host.start(engine.spec())
    assert engine.host.managed[key].reason == "enough"
    engine.journal.failing = ""


@pytest.mark.expected_warnings("sma is over, but would start again after a crash of the engine: disk full")
async def test_a_stop_that_cannot_be_remembered_is_a_stop(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.journal.failing = "disk full"
    await engine.host.stop(key)
    assert worker.ended


@pytest.mark.expected_warnings("sma failed: exit code 1", "sma failed: no route")
async def test_an_outage_of_the_venue_counts_against_the_limit_and_is_waited_for(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    hold, away = engine.market.hold, [VenueUnavailable("no route")]

    async def once(instrument: InstrumentId, owner: str) -> object:
        if away:
            raise away.pop()
        return await hold(instrument, owner)

    engine.market.hold = once  # type: ignore[method-assign, assignment]
    worker.end(WorkerExit(True, 1, "exit code 1"))
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, key, StrategyState.RUNNING)
    assert engine.host.managed[key].restarts == 2


@pytest.mark.expected_warnings("nobody foresaw", "sma failed: exit code 1", "sma failed: RuntimeError: a bug")
async def test_a_fault_of_the_engine_ends_the_restarts(engine: EngineDesk) -> None:
    key, worker = await running(engine)

    async def broken(*_: object) -> object:
        raise RuntimeError("a bug")

    engine.market.hold = broken  # type: ignore[method-assign, assignment]
    worker.end(WorkerExit(True, 1, "exit code 1"))
    assert await state(engine, key, StrategyState.FAILED) == "RuntimeError: a bug"


@pytest.mark.expected_warnings("sma did not stop in order: a bug")
async def test_one_that_cannot_be_stopped_holds_up_no_other(engine: EngineDesk) -> None:
    await running(engine)
    _, other = await running(engine, strategy_id="other")

    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    run = engine.host.managed["sma"].run
    assert run is not None
    stop = run.stop
    run.stop = broken  # type: ignore[method-assign, assignment]
    await engine.host.stop_all("the end")
    assert other.ended
    run.stop = stop  # type: ignore[method-assign]


async def test_ids_that_cannot_be(engine: EngineDesk) -> None:
    for strategy_id in ("a\nb", " ", "x" * 65, "\x1b[2J"):
        with pytest.raises(StrategyError, match="cannot be a strategy's id"):
            await engine.host.start(engine.spec(strategy_id=strategy_id))
    with pytest.raises(StrategyError, match="orders placed by hand are"):
        await engine.host.start(engine.spec(strategy_id="manual"))
    with pytest.raises(StrategyError, match="the same symbol twice"):
        await engine.host.start(engine.spec(instruments=(BTC, BTC)))
    assert await engine.host.start(engine.spec(path=engine.file(name="manual.py"))) == "manual-strategy"
    assert await engine.host.start(engine.spec(path=engine.file(name="x" * 100 + ".py"))) == "x" * 58


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes and devices in the file system")
def test_files_that_are_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.py")
    for path in (str(tmp_path / "pipe.py"), "/dev/zero"):
        with pytest.raises(StrategyError, match="is a device or a pipe"):
            read_source(path)
    with pytest.raises(StrategyError, match="cannot be read: embedded null"):
        read_source("a\0b")
