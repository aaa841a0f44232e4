"""Back-tests as the engine keeps them, with worker processes that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec, RoundTrip
from koc_qt.domain.errors import BadTimeframe, InvalidOrder, KocError, StrategyError, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.domain.trust import Placement
from koc_qt.engine import backtest_archive, backtest_feed, backtest_run, backtests
from koc_qt.link.messages import BacktestChanged, Command, StartBacktest, StopBacktest
from koc_qt.link.results import fetch_result
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import (
    Failed,
    Heartbeat,
    LoadFailed,
    ReplayBars,
    ReplayDone,
    ReplayEnd,
    ReplayFills,
    ReplayLog,
    ReplayPlacements,
    ReplayProgress,
    ReplayTrades,
    Running,
    StartReplay,
)
from tests.conditions import until
from tests.fakes.clock import leap
from tests.fakes.market import MINUTE_NS, bars
from tests.fakes.trading import BTC, ETH, NOW_NS
from tests.fakes.workers import DESCRIBED, FakeWorker
from tests.unit.engine.desk import EngineDesk

DESCRIBED_TWO = msgspec.structs.replace(DESCRIBED, instruments_wanted=2)


class Asking:
    """Asks the engine's commands as a client does, through the link's encoding."""

    def __init__(self, engine: EngineDesk) -> None:
        self._engine = engine

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(await self._engine.commands.execute(command, "window-1")))


class Bench:
    """The engine's back-tests, and everything that they published."""

    def __init__(self, engine: EngineDesk) -> None:
        self.engine = engine
        self.tests = engine.backtests
        self.told: list[BacktestSnapshot] = []
        engine.bus.subscribe(BacktestChanged, lambda fact: self.told.append(fact.backtest))
        self.until_ns = bar_open_ns(engine.clock.time_ns(), "1m") - 10 * MINUTE_NS

    def spec(self, count: int = 20, **changes: Any) -> BacktestSpec:
        """Ask for a run on the last `count` minutes, which the venue then has, with ten more before them."""
        first_ns = self.until_ns - (count + 10) * MINUTE_NS
        for instrument in (BTC, ETH):
            self.engine.venue.history += bars(first_ns, count + 10, instrument=instrument)
        fields: dict[str, Any] = {
            "path": self.engine.file(),
            "instruments": (BTC,),
            "timeframe": "1m",
            "since_ns": self.until_ns - count * MINUTE_NS,
            "until_ns": self.until_ns,
        }
        return BacktestSpec(**fields | changes)

    async def loading(self, **changes: Any) -> tuple[str, FakeWorker]:
        """Start a run whose worker has the file and has not loaded it yet."""
        key = await self.tests.start(self.spec(**changes))
        number = len(self.engine.launcher.workers)
        await until(lambda: len(self.engine.launcher.workers) > number or self._last_started(), what="a worker")
        return key, self.engine.launcher.workers[-1]

    def _last_started(self) -> bool:
        workers = self.engine.launcher.workers
        return bool(workers) and bool(workers[-1].got(StartReplay)) and not workers[-1].ended

    async def running(self, described: Any = DESCRIBED, **changes: Any) -> tuple[str, FakeWorker]:
        """Start a run whose worker waits for bars."""
        key, worker = await self.loading(**changes)
        worker.say(Running(described, {}))
        return key, worker

    def state(self, key: str) -> JobState:
        return self.snapshot(key).state

    def snapshot(self, key: str) -> BacktestSnapshot:
        return next(each for each in self.tests.all if each.backtest_id == key)

    async def reason(self, key: str, state: JobState = JobState.FAILED) -> str:
        """Wait for the end of a run, and give why it ended."""
        await until(lambda: self.state(key) is not JobState.RUNNING, what=f"the end of {key}")
        assert self.state(key) is state
        assert self.snapshot(key).stage == ""
        return self.snapshot(key).reason


@pytest.fixture
def bench(engine: EngineDesk) -> Bench:
    return Bench(engine)


def chunks(worker: FakeWorker, *, warmup: bool = False) -> list[ReplayBars]:
    return [message for message in worker.got(ReplayBars) if message.warmup is warmup]


def progress(worker: FakeWorker, since_ns: int, bars_done: int, equity: float = 10_000.0) -> None:
    """Say that all messages that came are done."""
    position_ns = since_ns + bars_done * MINUTE_NS
    worker.say(ReplayProgress(len(worker.got(ReplayBars)), bars_done, position_ns, equity))


def done(count: int = 20) -> ReplayDone:
    return ReplayDone(count, [1, 2], [10_000.0, 10_001.0], {"return": 0.0001, "made_up": 1.0})


# ---- a run that goes well


async def test_a_run_from_start_to_result(bench: Bench) -> None:
    described = msgspec.structs.replace(DESCRIBED, warmup_bars=5)
    one = Decimal(1)
    fill = Fill("bt1-1", "bt1", "backtest", "backtest", BTC, Side.BUY, one, one, one, "USDT", Liquidity.TAKER, NOW_NS)
    key, worker = await bench.running(described, fee=Decimal("0.001"), parameters={"fast": 3}, seed=9)
    assert key == "bt-1"
    [start] = worker.got(StartReplay)
    spec = bench.snapshot(key).spec
    assert (start.filename, start.source, start.parameters, start.seed) == ("sma.py", b"class S: ...", {"fast": 3}, 9)
    assert [rules.id for rules in start.instruments] == [BTC]
    assert (start.since_ns, start.cash, start.fee) == (spec.since_ns, 10_000, Decimal("0.001"))
    await until(lambda: worker.got(ReplayEnd), what="all bars")
    [warm], [run] = chunks(worker, warmup=True), chunks(worker)
    assert warm.open_time_ns == [spec.since_ns - number * MINUTE_NS for number in range(5, 0, -1)]
    assert run.open_time_ns == [spec.since_ns + number * MINUTE_NS for number in range(20)]
    assert run.row == [0] * 20
    assert (run.open[0], run.high[0], run.low[0], run.close[0], run.volume[0]) == (110, 111, 109, 110.5, 10)
    bench.engine.clock.advance(10)
    progress(worker, spec.since_ns, 10, 10_050.0)
    shown = bench.snapshot(key)
    assert (shown.stage, shown.progress, shown.bars, shown.equity) == ("run", 0.5, 10, 10_050.0)
    assert shown.position_ns == spec.since_ns + 10 * MINUTE_NS
    assert shown.remaining_s == pytest.approx(10.0)
    assert bench.engine.commands.snapshot().backtests == (shown,)
    worker.say(ReplayFills((fill,)))
    worker.say(ReplayLog(("a line",)))
    worker.say(done())
    assert await bench.reason(key, JobState.DONE) == ""
    assert worker.killed == "the back-test is over"
    await bench.tests.stop(key)  # which changes nothing any more
    result = await fetch_result(Asking(bench.engine), key, with_fills=True)
    assert (result.name, result.timeframe, result.bars, result.log) == ("Test strategy", "1m", 20, ["a line"])
    assert (result.fills, result.trades, result.spec) == ([fill], [], spec)
    assert (await fetch_result(Asking(bench.engine), key)).fills == []
    with pytest.raises(StrategyError, match="bt-1 has 1 pages of fills, counted from 0: no page 1"):
        await bench.tests.page(key, "fills", 1)
    assert list(result.statistics) == list(STATISTICS)
    assert result.statistics["return"] == 0.0001
    assert [each.stage for each in bench.told][:2] == ["", ""]
    assert (bench.told[-1].state, bench.told[-1].progress) == (JobState.DONE, 1.0)
    with pytest.raises(StrategyError, match="no back-test 'bt-9'"):
        await bench.tests.result("bt-9")


async def test_a_long_result_comes_in_pages(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_run, "PAGE", 2)
    key, worker = await bench.running()
    trips = [RoundTrip(BTC, 1.0, NOW_NS + number, 1.0, None, None, 0.0, 1.0) for number in range(5)]
    await until(lambda: worker.got(ReplayEnd), what="all bars")
    worker.say(ReplayTrades(tuple(trips)))
    worker.say(done())
    assert await bench.reason(key, JobState.DONE) == ""
    assert (await fetch_result(Asking(bench.engine), key)).trades == trips
    assert len(msgspec.msgpack.decode(await bench.tests.page(key, "trades", 2))) == 1


async def test_bars_flow_as_the_worker_keeps_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_feed, "CHUNK_BARS", 3)
    monkeypatch.setattr(backtest_feed, "_PAGE_BARS", 7)
    key, worker = await bench.running()
    since_ns = bench.snapshot(key).spec.since_ns
    for number in range(1, 20):
        await until(lambda: len(worker.got(ReplayBars)) >= backtest_run.IN_FLIGHT, what="some bars")
        assert len(worker.got(ReplayBars)) - number + 1 <= backtest_run.IN_FLIGHT
        worker.say(ReplayProgress(number, 1, since_ns, 10_000.0))
        if worker.got(ReplayEnd):
            break
    await until(lambda: worker.got(ReplayEnd), what="the end")
    assert [time for part in chunks(worker) for time in part.open_time_ns] == [
        since_ns + number * MINUTE_NS for number in range(20)
    ]
    assert [len(part.row) for part in chunks(worker)] == [3, 3, 1, 3, 3, 1, 3, 3]


async def test_bars_of_one_moment_stay_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_feed, "CHUNK_BARS", 3)
    monkeypatch.setattr(backtest_run, "IN_FLIGHT", 100)
    _, worker = await bench.running(DESCRIBED_TWO, instruments=(ETH, BTC))
    await until(lambda: worker.got(ReplayEnd), what="the end")
    parts = chunks(worker)
    assert [len(part.row) for part in parts] == [4] * 10
    assert parts[0].row == [0, 1, 0, 1]
    assert [len(set(part.open_time_ns)) for part in parts] == [2] * 10


async def test_one_bar_before_the_run_tells_the_price_and_more_is_looked_for(bench: Bench) -> None:
    bench.spec(30)
    del bench.engine.venue.history[25:]  # until a pause of fifteen minutes
    first_ns = bench.engine.venue.history[0].open_time_ns
    since_ns = first_ns + 40 * MINUTE_NS
    bench.engine.venue.history += bars(since_ns, 5)
    changes = {"since_ns": since_ns, "until_ns": since_ns + 5 * MINUTE_NS}
    bench.until_ns -= 10_000 * MINUTE_NS  # so that nothing is added there
    _, worker = await bench.running(msgspec.structs.replace(DESCRIBED, warmup_bars=4), **changes)
    await until(lambda: worker.got(ReplayEnd), what="the end")
    assert chunks(worker, warmup=True)[0].open_time_ns == [first_ns + number * MINUTE_NS for number in range(21, 25)]
    assert len(chunks(worker)[0].row) == 5


async def test_progress_is_told_ten_times_a_second_at_most(bench: Bench) -> None:
    key, worker = await bench.running()
    await until(lambda: worker.got(ReplayEnd), what="the end")
    spec, before = bench.snapshot(key).spec, len(bench.told)
    for number in range(10):
        progress(worker, spec.since_ns, number)
        bench.engine.clock.advance(0.03)
    assert len(bench.told) - before == 2


async def test_the_stage_of_history_has_progress(bench: Bench) -> None:
    bench.engine.venue.answer = asyncio.Event()
    key, _ = await bench.running()
    await until(lambda: bench.snapshot(key).stage == "history", what="the stage")
    assert bench.snapshot(key).remaining_s is None
    bench.engine.clock.advance(1)
    bench.engine.venue.answer.set()
    await until(lambda: bench.snapshot(key).stage == "run", what="the next stage")
    assert any(each.stage == "history" and each.progress == 1.0 for each in bench.told)


async def test_commands_start_and_stop_runs(bench: Bench) -> None:
    key = await bench.engine.commands.execute(StartBacktest(bench.spec()), "window-1")
    assert await bench.engine.commands.execute(StopBacktest(key), "window-1") is None
    assert bench.state(key) is JobState.STOPPED


# ---- turns


async def test_two_run_at_once_eight_wait_and_more_are_refused(bench: Bench) -> None:
    keys = [await bench.tests.start(bench.spec()) for _ in range(10)]
    with pytest.raises(StrategyError, match="8 back-tests wait for their turn already"):
        await bench.tests.start(bench.spec())
    workers = bench.engine.launcher.workers
    await until(lambda: len(workers) == 2, what="two workers")
    assert ["waits for its turn" in bench.snapshot(key).reason for key in keys] == [False] * 2 + [True] * 8
    await bench.tests.stop(keys[5])
    assert await bench.reason(keys[5], JobState.STOPPED) == "stopped by its owner"
    await bench.tests.stop(keys[0])
    await until(lambda: len(workers) == 3, what="the third")
    assert bench.snapshot(keys[2]).reason == ""
    await bench.tests.close()
    assert {bench.state(key) for key in keys} == {JobState.STOPPED}
    assert all(worker.ended for worker in workers)
    with pytest.raises(StrategyError, match="the engine is stopping"):
        await bench.tests.start(bench.spec())


async def test_the_newest_runs_are_kept(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_archive, "RUNS_KEPT", 3)
    keys = []
    for _ in range(5):
        key, worker = await bench.loading()
        keys.append(key)
        worker.say(LoadFailed("no", None))
        await bench.reason(key)
    await until(lambda: [each.backtest_id for each in bench.tests.all] == keys[2:], what="the older ones to go")


# ---- stops and ends at every moment


async def _launching(bench: Bench) -> str:
    bench.engine.launcher.launching = asyncio.Event()
    return await bench.tests.start(bench.spec())


async def _not_ready(bench: Bench) -> str:
    bench.engine.launcher.ready = False
    key = await bench.tests.start(bench.spec())
    await until(lambda: bench.engine.launcher.workers, what="a worker")
    return key


async def _loading(bench: Bench) -> str:
    return (await bench.loading())[0]


async def _in_history(bench: Bench) -> str:
    bench.engine.venue.answer = asyncio.Event()
    key, _ = await bench.running()
    await until(lambda: bench.engine.venue.fetched, what="a request for bars")
    return key


async def _in_run(bench: Bench) -> str:
    key, worker = await bench.running()
    await until(lambda: worker.got(ReplayEnd), what="the end")
    return key


MOMENTS = (_launching, _not_ready, _loading, _in_history, _in_run)


@pytest.mark.parametrize("moment", MOMENTS)
async def test_a_run_is_stopped_at_any_moment(bench: Bench, moment: Callable[[Bench], Any]) -> None:
    key = await moment(bench)
    await bench.tests.stop(key, "enough")
    assert await bench.reason(key, JobState.STOPPED) == "enough"
    assert all(worker.ended for worker in bench.engine.launcher.workers)
    count = len(bench.told)
    await bench.tests.stop(key, "again")
    assert bench.snapshot(key).reason == "enough"
    assert len(bench.told) == count
    with pytest.raises(StrategyError, match="has no result, it is stopped: enough"):
        await bench.tests.result(key)
    with pytest.raises(StrategyError, match="no back-test 'x'"):
        await bench.tests.stop("x")


@pytest.mark.parametrize("moment", MOMENTS[1:3] + MOMENTS[4:])
async def test_a_worker_that_dies_is_a_failure_at_any_moment(bench: Bench, moment: Callable[[Bench], Any]) -> None:
    key = await moment(bench)
    bench.engine.launcher.workers[-1].end(WorkerExit(True, -9, "was ended by SIGKILL"))
    assert await bench.reason(key) == "its process was ended by SIGKILL"


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (LoadFailed("syntax error in sma.py, line 3: no", 3), "syntax error in sma.py, line 3: no"),
        (Failed("KeyError: 'x'", 12, "..."), "KeyError: 'x' (line 12)"),
        (Failed("out of memory", None, ""), "out of memory"),
    ],
)
async def test_the_strategys_own_failure_is_told_with_its_line(
    bench: Bench, message: Failed | LoadFailed, sentence: str
) -> None:
    key, worker = await bench.loading()
    worker.say(message)
    worker.end(WorkerExit(True, 1, "ended with exit code 1"))
    assert await bench.reason(key) == sentence


async def test_silence_is_shown_then_ended(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_run, "SILENCE_SAID_S", 0.05)
    key, worker = await bench.running()
    await until(lambda: worker.got(ReplayEnd), what="the end")
    await until(lambda: any("no word from the strategy" in each.reason for each in bench.told), what="the warning")
    worker.say(Heartbeat(1, 1, 1, 1.0))  # what a replay never says is no news
    leap(monkeypatch, bench.tests._silence_limit_s)
    assert "is there an endless loop in a callback?" in await bench.reason(key)
    assert worker.ended
    assert any("it is ended after 20 s" in each.reason for each in bench.told)


async def test_a_word_ends_the_warning(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_run, "SILENCE_SAID_S", 0.02)
    key, worker = await bench.running()
    await until(lambda: bench.snapshot(key).reason, what="the warning")
    monkeypatch.setattr(backtest_run, "SILENCE_SAID_S", 60.0)  # or the next warning comes before its end is seen
    progress(worker, bench.snapshot(key).spec.since_ns, 1)
    await until(lambda: not bench.snapshot(key).reason, what="its end")
    await bench.tests.stop(key)


@pytest.mark.parametrize(
    ("moment", "limit", "sentence"),
    [(_not_ready, "READY_TIMEOUT_S", "was not ready"), (_loading, "LOAD_TIMEOUT_S", "endless loop at the top")],
)
async def test_a_worker_that_never_begins(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, moment: Callable[[Bench], Any], limit: str, sentence: str
) -> None:
    monkeypatch.setattr(backtest_run, limit, 0.05)
    assert sentence in await bench.reason(await moment(bench))


async def test_a_worker_that_hands_out_too_much(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtest_run, "_LINES_AT_MOST", 10)
    key, worker = await bench.running()
    worker.say(ReplayLog(("line",) * 11))
    assert "hands out more than a back-test may" in await bench.reason(key)
    key, worker = await bench.running()
    worker.say(ReplayPlacements((Placement(1, None, "x" * 10_000),)))
    assert "hands out decisions of more words than there are" in await bench.reason(key)
    worker._on_message(done())  # the last words of a process that was given up
    assert bench.state(key) is JobState.FAILED


async def test_what_cannot_be_handed_over(bench: Bench) -> None:
    key = await bench.tests.start(bench.spec(parameters={"text": "x" * (1 << 20)}))
    assert "cannot be handed to its process" in await bench.reason(key)


async def test_a_process_that_cannot_be_started(bench: Bench) -> None:
    bench.engine.launcher.refuse = "no process today"
    assert await bench.reason(await bench.tests.start(bench.spec())) == "no process today"


async def test_history_that_cannot_be_had(bench: Bench) -> None:
    bench.engine.venue.refuse_fetch = VenueRejected("sim has no bars today")
    key, worker = await bench.running()
    assert await bench.reason(key) == "sim has no bars today"
    assert worker.ended


async def test_a_mistake_of_ours_is_logged_and_said(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fetch(*_: Any) -> None:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(backtest_feed.BacktestFeed, "fetch", fetch)
    monkeypatch.setattr(backtests.logger, "exception", lambda *_: None)
    key, _ = await bench.running()
    assert await bench.reason(key) == "internal error of the engine (RuntimeError), its log says more"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"since_ns": NOW_NS * 2, "until_ns": NOW_NS * 2 + MINUTE_NS}, "no bar of 1m opens and closes"),
        ({"since_ns": 0, "until_ns": NOW_NS}, "more than a back-test takes"),
        ({"since_ns": 600 * MINUTE_NS, "until_ns": 700 * MINUTE_NS}, "there are no bars of sim:BTC/USDT in that range"),
    ],
)
async def test_a_range_that_makes_no_run(bench: Bench, changes: dict[str, Any], sentence: str) -> None:
    key, _ = await bench.running(**changes)
    assert sentence in await bench.reason(key)


# ---- refused at once


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"instruments": (BTC, BTC)}, StrategyError, "same symbol is given twice"),
        ({"instruments": tuple(InstrumentId("sim", str(n)) for n in range(51))}, StrategyError, "takes 50 symbols"),
        ({"instruments": (InstrumentId("sim", "NO/SUCH"),)}, InvalidOrder, "no symbol 'NO/SUCH'"),
        ({"instruments": (InstrumentId("mars", "A/B"),)}, VenueUnavailable, "no venue 'mars'"),
        ({"timeframe": "7x"}, BadTimeframe, "7x"),
        ({"path": "/nowhere/at/all.py"}, StrategyError, "cannot be read"),
    ],
)
async def test_what_is_refused_at_once(
    bench: Bench, changes: dict[str, Any], error: type[KocError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        await bench.tests.start(bench.spec(**changes))
    assert bench.tests.all == ()
