from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import OrderStatus
from koc_qt.domain.state import StrategyState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import strategies as strategies_module
from koc_qt.engine import strategy_run as run_module
from koc_qt.link.messages import LogRecorded
from koc_qt.ports.journal import StrategyRecord
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import (
    BarClosed,
    Cancel,
    Describe,
    Described,
    Failed,
    FillUpdate,
    Heartbeat,
    HistoryBars,
    LoadFailed,
    LogLine,
    MetricValue,
    OrderUpdate,
    QuoteUpdate,
    RequestHistory,
    StartRun,
    StopRun,
    Submit,
    TradeUpdate,
    WorkerMessage,
)
from tests.conditions import until
from tests.fakes.market import MINUTE_NS, bars, trade
from tests.fakes.trading import BTC, limit_buy, market_buy, quote
from tests.fakes.workers import DESCRIBED
from tests.unit.engine.desk import EngineDesk, running, state

ALL = msgspec.structs.replace(DESCRIBED, subscriptions=("bars", "quotes", "trades"))


async def test_it_is_handed_its_source_its_market_and_its_money(engine: EngineDesk) -> None:
    key, worker = await running(engine, parameters={"fast": 3})
    start = worker.got(StartRun)[0]
    assert start.source == b"class S: ..."
    assert start.filename == "sma.py"
    assert start.parameters == {"fast": 3}
    assert [instrument.id for instrument in start.instruments] == [BTC]
    assert start.cash == {"USDT": Decimal(100_000)}
    assert key == "sma"
    assert engine.venue.subscribed == ["BTC/USDT"]


async def test_the_market_that_it_asked_for_flows_and_no_other(engine: EngineDesk) -> None:
    engine.launcher.runs_at_once = ALL
    _, worker = await running(engine)
    engine.venue.publish(quote(), trade(engine.clock.time_ns()))
    assert len(worker.got(QuoteUpdate)) == len(worker.got(TradeUpdate)) == 1
    other = InstrumentId("sim", "ETH/USDT")
    engine.venue.publish(quote(instrument=other))
    assert len(worker.got(QuoteUpdate)) == 1


async def test_warm_up_and_live_bars_meet_without_gap_or_double(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.clock.advance(ns=now + MINUTE_NS + 30 * 10**9 - engine.clock.time_ns())
    first = now - 9 * MINUTE_NS
    engine.venue.history = bars(first, 30)
    engine.launcher.runs_at_once = msgspec.structs.replace(DESCRIBED, warmup_bars=5)
    _, worker = await running(engine)
    warm = worker.got(BarClosed)
    assert [bar.warmup for bar in warm] == [True] * 5
    assert warm[-1].bar.open_time_ns == now
    # the stream began inside this minute: its bar has to come from history, the next is whole
    for minute in range(1, 4):
        engine.venue.publish(trade(now + minute * MINUTE_NS + 40 * 10**9))
        engine.clock.advance(60)
    await until(lambda: len(worker.got(BarClosed)) >= 8, what="three live bars")
    times = [message.bar.open_time_ns for message in worker.got(BarClosed)]
    assert times == [now + n * MINUTE_NS for n in range(-4, 4)]
    assert not worker.got(BarClosed)[-1].warmup
    assert worker.got(BarClosed)[5].bar.close == engine.venue.history[10].close


async def test_an_order_goes_out_and_its_story_comes_back(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, market_buy()))
    await until(lambda: worker.got(FillUpdate), what="the fill")
    assert {update.request_id for update in worker.got(OrderUpdate)} == {1}
    fill = worker.got(FillUpdate)[0]
    assert (fill.request_id, fill.position.quantity) == (1, Decimal("0.1"))
    assert [u.order.status for u in worker.got(OrderUpdate) if u.order][-1] is OrderStatus.FILLED


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (market_buy("0.00001"), "lot"),
        (limit_buy("1000", "99"), "notional|limit"),
        (market_buy(instrument=InstrumentId("sim", "ETH/USDT")), "not one of this strategy's instruments"),
    ],
)
async def test_a_refused_order_is_told_why(engine: EngineDesk, request_: object, reason: str) -> None:
    _, worker = await running(engine)
    engine.venue.publish(quote(bid="99990", ask="100010"))
    worker.say(Submit(4, request_))  # type: ignore[arg-type]
    await until(lambda: worker.got(OrderUpdate), what="the refusal")
    update = worker.got(OrderUpdate)[0]
    assert (update.request_id, update.order) == (4, None)
    assert update.reason
    assert engine.trading.submitted == []
    assert any(word in update.reason for word in reason.split("|"))


async def test_too_many_orders_at_once_are_refused(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "IN_FLIGHT_LIMIT", 2)
    _, worker = await running(engine)
    engine.venue.publish(quote())
    for number in range(1, 5):
        worker.say(Submit(number, limit_buy()))
    refused = [update for update in worker.got(OrderUpdate) if update.order is None]
    assert [update.request_id for update in refused] == [3, 4]
    await until(lambda: len(engine.store.open_orders()) == 2, what="the others to be placed")
    await until(lambda: not engine.host.managed["sma"].run._orders, what="them to land")  # type: ignore[union-attr]
    worker.say(Submit(5, limit_buy()))
    await until(lambda: len(engine.store.open_orders()) == 3, what="room again")


@pytest.mark.expected_warnings("not an order of this strategy")
async def test_it_cancels_its_own_orders_and_nobody_elses(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders("sma"), what="the order")
    theirs = await engine.orders.submit(limit_buy(), "other", "sim")
    worker.say(Cancel(theirs.client_order_id))
    worker.say(Cancel(engine.store.open_orders("sma")[0].client_order_id))
    await until(lambda: not engine.store.open_orders("sma"), what="the cancel")
    assert engine.store.open_orders("other")


async def test_history_on_request(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 20 * MINUTE_NS, 20)
    _, worker = await running(engine)
    worker.say(RequestHistory(1, BTC, "1m", 3))
    worker.say(RequestHistory(2, InstrumentId("sim", "ETH/USDT"), "1m", 3))
    worker.say(RequestHistory(3, BTC, "quarter of an hour", 3))
    await until(lambda: len(worker.got(HistoryBars)) == 3, what="three answers")
    answers = {answer.request_id: answer for answer in worker.got(HistoryBars)}
    assert len(answers[1].bars) == 3
    assert "not one of this strategy's instruments" in answers[2].error
    assert "quarter" in answers[3].error


@pytest.mark.expected_warnings("look out")
async def test_logs_metrics_and_heartbeats_are_shown(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "METRICS_LIMIT", 2)
    lines: list[LogRecorded] = []
    engine.bus.subscribe(LogRecorded, lines.append)
    key, worker = await running(engine)
    worker.say(LogLine("WARNING", "look out {}"))
    worker.say(LogLine("SHOUT", "odd level"))
    for number in range(3):
        worker.say(MetricValue(f"m{number}", float(number)))
    worker.say(Heartbeat(1, 42, 1500, 0.7))
    engine.clock.advance(7)
    worker.say(Heartbeat(2, 43, 1500, 0.7))
    engine.clock.advance(0.01)
    worker.say(Heartbeat(3, 44, 1500, 0.7))
    engine.clock.advance(0.5)
    worker.say(Heartbeat(4, 45, 1500, 0.7))
    engine.telemetry.show(engine.host)
    shown = engine.store.strategies[key]
    assert [(line.level, line.text) for line in lines] == [("WARNING", "look out {}"), ("INFO", "odd level")]
    assert shown.metrics == {"m0": 0.0, "m1": 1.0}
    assert (shown.ticks, shown.anomalies, shown.heartbeat_age_s) == (45, 2, 0.0)
    assert (shown.badge, shown.pid, shown.memory_bytes) == ("isolated", worker.pid, 50_000_000)


async def test_stop_in_order_cancels_its_orders_and_is_remembered(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(key), what="the order")
    await engine.host.stop(key, "enough")
    assert worker.got(StopRun)[0].reason == "enough"
    assert (engine.host.managed[key].state, engine.host.managed[key].reason) == (StrategyState.STOPPED, "enough")
    await until(lambda: not engine.store.open_orders(key), what="its orders to be cancelled")
    await until(lambda: engine.venue.unsubscribed == ["BTC/USDT"], what="its stream to end")
    assert not engine.journal.load().strategies[0].wanted
    with pytest.raises(StrategyError, match="no strategy 'nope'; there are: sma"):
        await engine.host.stop("nope")


async def test_one_that_does_not_stop_is_ended(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    key, worker = await running(engine)
    worker.stops_in_order = False
    await engine.host.stop(key, "enough", grace_s=0.01)
    assert worker.killed == "did not stop within 0.01 s"
    assert engine.host.managed[key].state is StrategyState.STOPPED
    assert "did not stop" in engine.host.managed[key].reason


@pytest.mark.expected_warnings("sma failed: killed by SIGSEGV")
async def test_a_crash_is_followed_by_a_restart_with_its_open_orders(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(key), what="the order")
    worker.end(WorkerExit(True, -11, "killed by SIGSEGV"))
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    again = engine.launcher.workers[1]
    await state(engine, key, StrategyState.RUNNING)
    assert [order.client_order_id for order in again.got(StartRun)[0].open_orders] == [
        order.client_order_id for order in engine.store.open_orders(key)
    ]
    assert engine.host.managed[key].restarts == 1
    assert engine.venue.unsubscribed == []  # an order rests: its market streams on
    again.say(Cancel(engine.store.open_orders(key)[0].client_order_id))
    await until(lambda: again.got(OrderUpdate), what="the cancel")
    assert again.got(OrderUpdate)[0].request_id == 0


@pytest.mark.expected_warnings("failed")
async def test_after_too_many_crashes_it_is_given_up_and_leaves_no_orders(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(key), what="the order")
    for number in range(3):
        await state(engine, key, StrategyState.RUNNING)
        engine.launcher.workers[number].end(WorkerExit(True, 1, "exit code 1"))
        await until(lambda n=number: len(engine.launcher.workers) > n + 1 or n == 2, what="the next worker")
    assert "given up after 2 restarts" in await state(engine, key, StrategyState.FAILED)
    await until(lambda: not engine.store.open_orders(key), what="its orders to be cancelled")
    await until(lambda: not engine.journal.load().strategies[0].wanted, what="it to be remembered")


@pytest.mark.expected_warnings("division by zero", "failed: division by zero")
async def test_an_exception_names_its_line_and_is_tried_again(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    worker.say(Failed("division by zero", 12, 'File "sma.py", line 12'))
    worker.end(WorkerExit(True, 1, "exit code 1"))
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, key, StrategyState.RUNNING)


@pytest.mark.expected_warnings("invalid syntax")
async def test_a_bad_file_is_not_tried_again(engine: EngineDesk) -> None:
    key = await engine.host.start(engine.spec())
    engine.launcher.workers[0].say(LoadFailed("invalid syntax", 3))
    assert await state(engine, key, StrategyState.FAILED) == "invalid syntax (line 3)"
    assert len(engine.launcher.workers) == 1
    await engine.host.start(engine.spec())


@pytest.mark.expected_warnings("the strategy ended by itself")
async def test_one_that_ends_by_itself_is_started_again(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    worker.end(WorkerExit(False, 0, ""))
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, key, StrategyState.RUNNING)


@pytest.mark.expected_warnings("hung: no heartbeat")
async def test_one_that_hangs_is_ended_and_started_again(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.host.check_heartbeats()
    assert not worker.killed
    engine.clock.advance(run_module.HUNG_AFTER_S + 1)
    engine.host.check_heartbeats()
    assert worker.killed.startswith("hung")
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, key, StrategyState.RUNNING)


@pytest.mark.expected_warnings("was not ready within", "was not running within")
async def test_one_that_never_gets_ready_or_never_runs_is_ended(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "READY_TIMEOUT_S", 0.01)
    monkeypatch.setattr(run_module, "LOAD_TIMEOUT_S", 0.01)
    engine.launcher.ready = False
    key = await engine.host.start(engine.spec())
    assert "not ready" in engine.launcher.workers[0].killed
    engine.launcher.ready = True
    await until(lambda: len(engine.launcher.workers) > 1 and engine.launcher.workers[1].killed, what="the second")
    assert "endless loop" in engine.launcher.workers[1].killed
    await state(engine, key, StrategyState.FAILED)


@pytest.mark.expected_warnings("sma failed")
async def test_a_stop_while_it_waits_to_start_again(tmp_path: Path) -> None:
    engine = EngineDesk(tmp_path, strategies_module.RestartPolicy(first_pause_s=3600, longest_pause_s=3600))
    await engine.start()
    key, worker = await running(engine)
    worker.end(WorkerExit(True, 1, "exit code 1"))
    assert "starts again in" in await state(engine, key, StrategyState.BACKING_OFF)
    await engine.host.stop(key)
    assert engine.host.managed[key].state is StrategyState.STOPPED
    await engine.close()


@pytest.mark.expected_warnings("sma failed")
async def test_a_file_that_vanished_meanwhile_ends_the_restarts(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    Path(engine.host.managed[key].spec.path).unlink()
    worker.end(WorkerExit(True, 1, "exit code 1"))
    assert "cannot be read" in await state(engine, key, StrategyState.FAILED)


async def test_what_cannot_be_started_is_said_and_leaves_nothing(engine: EngineDesk) -> None:
    start = engine.host.start
    with pytest.raises(StrategyError, match="at least one symbol"):
        await start(engine.spec(instruments=()))
    with pytest.raises(StrategyError, match="is empty"):
        await start(engine.spec(path=engine.file(" \n", "empty.py")))
    with pytest.raises(StrategyError, match="is a folder"):
        await start(engine.spec(path=str(engine.folder)))
    with pytest.raises(StrategyError, match="cannot be read: No such file"):
        await start(engine.spec(path=str(engine.folder / "none.py")))
    with pytest.raises(StrategyError, match="a strategy file may have"):
        await start(engine.spec(path=engine.file("#" * 600_000, "huge.py")))
    assert {managed.state for managed in engine.host.managed.values()} == {StrategyState.FAILED}  # none seems to start
    with pytest.raises(InvalidOrder, match="no account 'nope'"):
        await start(engine.spec(account_id="nope"))
    with pytest.raises(InvalidOrder, match="no symbol 'BTCUSDT'; it has, for example, BTC/USDT"):
        await start(engine.spec(instruments=(InstrumentId("sim", "BTCUSDT"),)))
    engine.launcher.refuse = "no more processes"
    with pytest.raises(StrategyError, match="no more processes"):
        await start(engine.spec())
    await until(lambda: engine.market.held == {}, what="all streams to end")
    await engine.switch.engage("panic")
    with pytest.raises(StrategyError, match="panic"):
        await start(engine.spec())


async def test_ids(engine: EngineDesk) -> None:
    engine.launcher.runs_at_once = DESCRIBED
    assert await engine.host.start(engine.spec()) == "sma"
    assert await engine.host.start(engine.spec()) == "sma-2"
    with pytest.raises(StrategyError, match="already"):
        await engine.host.start(engine.spec(strategy_id="sma"))
    await engine.host.stop("sma")
    assert await engine.host.start(engine.spec()) == "sma"


async def test_after_a_crash_of_the_engine_the_wanted_ones_are_known(engine: EngineDesk) -> None:
    one, two = engine.spec(strategy_id="one"), engine.spec(strategy_id="two")
    wanted = engine.host.restore([StrategyRecord(one, True, 1), StrategyRecord(two, False, 2)])
    assert wanted == [one]
    assert engine.host.managed["two"].state is StrategyState.STOPPED


async def described(engine: EngineDesk, answer: WorkerMessage | WorkerExit) -> Described:
    """Describe a file whose worker answers so."""
    launcher = engine.launcher
    count = len(launcher.workers)
    task = asyncio.create_task(engine.host.describe(engine.file()))
    await until(lambda: len(launcher.workers) > count and launcher.workers[-1].got(Describe), what="the question")
    worker = launcher.workers[-1]
    assert worker.got(Describe)[0] == Describe(b"class S: ...", "sma.py")
    worker.say(LogLine("INFO", "imported"))
    if isinstance(answer, WorkerExit):
        worker.end(answer)
    else:
        worker.say(answer)
    try:
        return await task
    finally:
        assert worker.ended


async def test_a_file_is_described_in_a_process_of_its_own(engine: EngineDesk) -> None:
    assert await described(engine, DESCRIBED) == DESCRIBED
    with pytest.raises(StrategyError, match="line 2: no Strategy"):
        await described(engine, LoadFailed("no Strategy", 2))
    with pytest.raises(StrategyError, match="could not be read: killed"):
        await described(engine, WorkerExit(True, -9, "killed"))


async def test_a_process_that_dies_before_it_can_describe(engine: EngineDesk) -> None:
    engine.launcher.ready = False
    task = asyncio.create_task(engine.host.describe(engine.file()))
    await until(lambda: engine.launcher.workers, what="a worker")
    engine.launcher.workers[0].end(WorkerExit(True, -9, "killed"))
    with pytest.raises(StrategyError, match="could not be read: killed"):
        await task


async def test_few_files_are_described_at_once(engine: EngineDesk) -> None:
    tasks = [asyncio.create_task(engine.host.describe(engine.file())) for _ in range(3)]
    await until(lambda: len(engine.launcher.workers) == 2, what="two workers")
    engine.launcher.workers[0].say(DESCRIBED)
    await until(lambda: len(engine.launcher.workers) == 3, what="the third")
    for worker in engine.launcher.workers[1:]:
        await until(lambda w=worker: w.got(Describe), what="the question")
        worker.say(DESCRIBED)
    assert await asyncio.gather(*tasks) == [DESCRIBED] * 3


async def test_a_description_that_takes_for_ever_is_given_up(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strategies_module, "LOAD_TIMEOUT_S", 0.01)
    engine.launcher.ready = False
    with pytest.raises(StrategyError, match="endless loop"):
        await engine.host.describe(engine.file())
    assert engine.launcher.workers[-1].ended


# ---- races of one strategy
