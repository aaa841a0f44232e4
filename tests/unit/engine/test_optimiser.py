"""Studies as the engine keeps them, with worker processes that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError, StrategyError
from koc_qt.domain.optimisation import (
    Method,
    Objective,
    ParameterRange,
    StudySnapshot,
    StudySpec,
    Trial,
    TrialState,
)
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import optimiser as module
from koc_qt.engine import optimiser_study
from koc_qt.engine.optimiser_ranges import check_fixed, resolved
from koc_qt.engine.optimiser_samplers import ListedSampler
from koc_qt.link.optimiser_messages import (
    DeleteStudy,
    FetchTrials,
    ResumeStudy,
    StartStudy,
    StopStudy,
    StudyChanged,
    StudyDeleted,
    TrialsPage,
)
from koc_qt.link.replica import Replica
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import (
    Describe,
    Failed,
    HostMessage,
    LoadFailed,
    ParameterInfo,
    ReplayBars,
    ReplayEnd,
    ReplayProgress,
    StartSweep,
    SweepLoaded,
)
from koc_qt.sdk.sweep_messages import EvaluateTrials, SweepReady, TrialAsked, TrialFound, TrialsEvaluated
from tests.conditions import until
from tests.fakes.market import MINUTE_NS, bars
from tests.fakes.trading import BTC
from tests.fakes.workers import DESCRIBED, FakeWorker
from tests.unit.engine.desk import EngineDesk

PARAMETERS = (
    ParameterInfo("fast", "int", 5, 1, 50),
    ParameterInfo("slow", "int", 20, 2, None),
    ParameterInfo("size", "float", 1.0, 0.5, 2.0, 0.5),
    ParameterInfo("mode", "choice", "a", choices=("a", "b")),
    ParameterInfo("on", "bool", True),
    ParameterInfo("note", "str", ""),
)
SWEPT = msgspec.structs.replace(DESCRIBED, parameters=PARAMETERS)
GRID = (ParameterRange("fast", 1, 4, 1), ParameterRange("slow", 10, 30, 10))

Answer = Callable[[FakeWorker, HostMessage], bool]


def found(trial: TrialAsked, **changes: Any) -> TrialFound:
    """Say that a combination earned what its parameters add up to."""
    total = float(sum(value for value in trial.parameters.values() if isinstance(value, int | float)))
    fields: dict[str, Any] = {
        "state": "done",
        "statistics": {"sharpe": total, "max_drawdown": 1 / (1 + total)},
        "reason": "",
        "seconds": 0.01,
        "equity": [],
    }
    return TrialFound(trial.number, **fields | changes)


class Stand:
    """The engine's studies, with processes that answer at once unless `odd` takes a message first."""

    def __init__(self, engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = engine
        self.tests = engine.optimiser
        self.told: list[StudySnapshot] = []
        self.replica = Replica()
        self.odd: Answer = lambda worker, message: False
        self.evaluated: list[int] = []
        engine.bus.subscribe(StudyChanged, self._hear)
        engine.bus.subscribe(StudyDeleted, self.replica.apply)
        launch = engine.launcher.launch

        async def launched(*arguments: Any, **more: Any) -> FakeWorker:
            worker = await launch(*arguments, **more)
            send = worker.send

            def answering(message: HostMessage) -> None:
                send(message)
                asyncio.get_running_loop().call_soon(self._answer, worker, message)

            worker.send = answering  # type: ignore[method-assign]
            return worker

        monkeypatch.setattr(engine.launcher, "launch", launched)

    def _hear(self, fact: StudyChanged) -> None:
        self.told.append(fact.study)
        self.replica.apply(fact)

    def _answer(self, worker: FakeWorker, message: HostMessage) -> None:
        if worker.ended or self.odd(worker, message):
            return
        match message:
            case Describe():
                worker.say(SWEPT)
            case StartSweep():
                worker.say(SweepLoaded(SWEPT, 3))
            case ReplayBars():
                worker.say(ReplayProgress(len(worker.got(ReplayBars)), 0, 0, 0.0))
            case ReplayEnd():
                worker.say(SweepReady(20, False))
            case EvaluateTrials(trials):
                self.evaluated += [trial.number for trial in trials]
                worker.say(TrialsEvaluated([found(trial) for trial in trials]))
            case _:
                raise AssertionError(message)

    def spec(self, **changes: Any) -> StudySpec:
        """Ask for a grid of 12 on the last 20 minutes."""
        until_ns = bar_open_ns(self.engine.clock.time_ns(), "1m") - 10 * MINUTE_NS
        self.engine.venue.history += bars(until_ns - 30 * MINUTE_NS, 30, instrument=BTC)
        base = BacktestSpec(self.engine.file(), (BTC,), "1m", until_ns - 20 * MINUTE_NS, until_ns)
        return StudySpec(**{"base": base, "ranges": GRID, **changes})

    async def run(self, **changes: Any) -> StudySnapshot:
        """Start a study and wait until it is over."""
        return await self.over(await self.engine.commands.execute(StartStudy(self.spec(**changes)), "w"))

    async def over(self, key: str) -> StudySnapshot:
        """Wait until a study is over."""
        await until(lambda: self.replica.studies[key].state is not JobState.RUNNING, what=f"the end of {key}")
        return self.replica.studies[key]

    async def trials(self, key: str, **fields: Any) -> list[Trial]:
        """Fetch trials as a client does."""
        answer = await self.engine.commands.execute(FetchTrials(key, **fields), "w")
        return msgspec.msgpack.decode(msgspec.msgpack.encode(answer), type=TrialsPage).trials

    def workers(self) -> list[FakeWorker]:
        return self.engine.launcher.workers


@pytest.fixture
def stand(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> Stand:
    return Stand(engine, monkeypatch)


# ---- a study that goes well


async def test_a_grid_from_start_to_end(stand: Stand) -> None:
    study = await stand.run(objectives=(Objective("sharpe"), Objective("max_drawdown", False)))
    assert (study.study_id, study.state, study.reason, study.total) == ("study-1", JobState.DONE, "", 12)
    assert study.counts == {"done": 12}
    assert study.best is not None
    assert study.best.parameters == {"fast": 4, "slow": 30}
    assert study.front == [study.best.number]
    trials = await stand.trials("study-1")
    assert [trial.number for trial in trials] == list(range(12))
    assert len({tuple(trial.parameters.values()) for trial in trials}) == 12
    assert {type(value) for trial in trials for value in trial.parameters.values()} == {int}
    [start] = stand.workers()[0].got(StartSweep)
    assert start.corners == [{"fast": f, "slow": s} for f in (1, 4) for s in (10, 30)]
    assert start.wanted == ("sharpe", "max_drawdown")
    sent = stand.workers()[0].got(ReplayBars)
    assert [len(message.row) for message in sent if message.warmup] == [3]
    assert sum(len(message.row) for message in sent if not message.warmup) == 20
    assert stand.told[0].state is JobState.RUNNING
    assert [worker.ended for worker in stand.workers()] == [True] * len(stand.workers())


async def test_trials_come_in_pages_with_the_statistics_asked_for(stand: Stand) -> None:
    await stand.run()
    page = await stand.trials("study-1", after=3, limit=5, statistics=("sharpe", "fees"))
    assert [trial.number for trial in page] == [4, 5, 6, 7, 8]
    assert all(set(trial.statistics) == {"sharpe", "fees"} for trial in page)
    for fields, why in (({"limit": 0}, "1 to 1,000"), ({"limit": 5_000}, "1 to 1,000")):
        with pytest.raises(StrategyError, match=why):
            await stand.trials("study-1", **fields)
    with pytest.raises(StrategyError, match="no study 'nope'; there are: study-1"):
        await stand.trials("nope")


async def test_ranges_come_from_the_file_where_none_are_given(stand: Stand) -> None:
    spec = stand.spec(ranges=(), method=Method.RANDOM, trials=7)
    base = msgspec.structs.replace(spec.base, parameters={"mode": "b"})
    key = await stand.tests.start(msgspec.structs.replace(spec, base=base))
    study = await stand.over(key)
    assert [each.name for each in study.spec.ranges] == ["fast", "size", "on"]
    assert study.counts == {"done": 7}
    sizes = {trial.parameters["size"] for trial in await stand.trials(key)}
    assert sizes <= {0.5, 1.0, 1.5, 2.0}


async def test_constraints_leave_combinations_out(stand: Stand) -> None:
    study = await stand.run(constraints=("fast * 10 >= slow",))
    assert study.total == study.counts["done"] == 9
    study = await stand.run(constraints=("fast > slow",))
    assert (study.state, study.reason) == (
        JobState.FAILED,
        "no combination fulfils the constraints: there is nothing to try",
    )


async def test_some_combinations_fail_and_others_do_not(stand: Stand) -> None:
    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if not isinstance(message, EvaluateTrials):
            return False
        states = {1: "failed", 2: "infeasible", 3: "pruned"}
        worker.say(
            TrialsEvaluated(
                [
                    found(trial, state=states[trial.number], statistics={}, reason="no", equity=[5.0])
                    if trial.number in states
                    else found(trial)
                    for trial in message.trials
                ]
            )
        )
        return True

    stand.odd = odd
    study = await stand.run()
    assert study.state is JobState.DONE
    assert study.counts == {"done": 9, "failed": 1, "infeasible": 1, "pruned": 1}
    assert [trial.state for trial in await stand.trials("study-1", after=0, limit=3)] == [
        TrialState.FAILED,
        TrialState.INFEASIBLE,
        TrialState.PRUNED,
    ]


# ---- what is wrong with a study


@pytest.mark.parametrize(
    ("ranges", "why"),
    [
        ((ParameterRange("gone", 1, 2),), "no parameter 'gone' to search; there are: fast, mode"),
        ((ParameterRange("fast", 0, 9),), "fast may be from 1 to 50: the range from 0 to 9 goes beyond"),
        ((ParameterRange("slow", 1, 9),), "slow may be at least 2"),
        ((ParameterRange("fast", 1, 9.5),), "whole ends"),
        ((ParameterRange("mode", 1, 9),), "mode is choice, no number"),
        ((ParameterRange("mode", choices=("a", "z")),), "mode is one of a, b, not 'z'"),
        ((ParameterRange("on", choices=("maybe",)),), "on is true or false"),
        ((ParameterRange("fast", choices=("2", "x")),), "fast is a whole number, not 'x'"),
        ((ParameterRange("fast", choices=(99,)),), "fast may be from 1 to 50, not 99"),
    ],
)
def test_ranges_that_the_file_does_not_allow(ranges: tuple[ParameterRange, ...], why: str) -> None:
    spec = StudySpec(BacktestSpec("x.py", (BTC,), "1m", 0, 1), ranges)
    with pytest.raises(ConfigError, match=why):
        resolved(spec, SWEPT)


def test_listed_values_become_the_parameters_own() -> None:
    base = BacktestSpec("x.py", (BTC,), "1m", 0, 1, parameters={"what": 1})
    ranges = (
        ParameterRange("fast", choices=("2", 3)),
        ParameterRange("size", choices=("1", 1.5)),
        ParameterRange("on", choices=("yes", False)),
        ParameterRange("mode", choices=("b",)),
        ParameterRange("note", choices=("x", "1")),
    )
    found = resolved(StudySpec(base, ranges), SWEPT).ranges
    assert [each.choices for each in found] == [(2, 3), (1.0, 1.5), (True, False), ("b",), ("x", "1")]
    with pytest.raises(ConfigError, match="declares no parameter"):
        resolved(StudySpec(base), DESCRIBED)
    with pytest.raises(StrategyError, match="has no parameter what; it has: fast"):
        check_fixed(StudySpec(base), SWEPT)
    described = msgspec.structs.replace(DESCRIBED, parameters=(ParameterInfo("fast", "int", 5, None, 5),))
    with pytest.raises(ConfigError, match="fast may be at most 5"):
        resolved(StudySpec(base, (ParameterRange("fast", 1, 9),)), described)


def test_constraints_may_name_parameters_that_stay_as_they_are() -> None:
    base = BacktestSpec("x.py", (BTC,), "1m", 0, 1, parameters={"size": "1.5"})
    spec = StudySpec(base, (ParameterRange("fast", 1, 9),), ("fast < slow", "size > 1"))
    assert resolved(spec, SWEPT).base.parameters == {"size": 1.5, "slow": 20}
    with pytest.raises(ConfigError, match="names 'gone', which is no parameter"):
        resolved(msgspec.structs.replace(spec, constraints=("gone > 1",)), SWEPT)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (LoadFailed("no strategy", 3), "no strategy (line 3)"),
        (Failed("bad, line 3", 3, ""), "bad, line 3"),
        (WorkerExit(True, -9, "was ended by SIGKILL"), "its process was ended by SIGKILL"),
    ],
)
async def test_a_file_that_cannot_be_used(stand: Stand, answer: Any, why: str) -> None:
    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if isinstance(message, StartSweep):
            worker.end(answer) if isinstance(answer, WorkerExit) else worker.say(answer)
        return isinstance(message, StartSweep)

    stand.odd = odd
    study = await stand.run()
    assert study.state is JobState.FAILED
    assert study.reason == why


async def test_studies_wait_for_their_turn_and_too_many_are_refused(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_LIMIT", 1)
    stand.odd = lambda worker, message: isinstance(message, StartSweep)
    first, second = await stand.tests.start(stand.spec()), await stand.tests.start(stand.spec())
    await until(lambda: "waits for its turn" in stand.replica.studies[second].reason, what="the second to wait")
    with pytest.raises(StrategyError, match="wait for their turn already"):
        await stand.tests.start(stand.spec())
    with pytest.raises(StrategyError, match="is running: stop it first"):
        await stand.tests.resume(first)
    with pytest.raises(StrategyError, match="is running"):
        await stand.tests.delete(first)
    for key in (second, first):
        await stand.engine.commands.execute(StopStudy(key), "w")
        assert stand.replica.studies[key].state is JobState.STOPPED
        assert stand.replica.studies[key].reason == "stopped by its owner"


# ---- processes that are lost


@pytest.mark.expected_warnings("trials are made again")
async def test_a_process_that_dies_half_way_changes_nothing(stand: Stand) -> None:
    calm = await stand.run()
    victims: set[int] = set()

    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if not isinstance(message, EvaluateTrials) or len(victims) == 3 or message.trials[0].number in victims:
            return False
        victims.add(message.trials[0].number)
        done = [found(trial) for trial in message.trials[: len(message.trials) // 2]]
        if done:
            worker.say(TrialsEvaluated(done))
        worker.end(WorkerExit(True, -9, "was ended by SIGKILL"))
        return True

    stand.odd = odd
    disturbed = await stand.run()
    assert len(victims) == 3
    assert (disturbed.state, disturbed.counts, disturbed.front) == (JobState.DONE, calm.counts, calm.front)
    one, other = await stand.trials("study-1"), await stand.trials("study-2")
    assert [(t.number, t.parameters, t.statistics) for t in one] == [
        (t.number, t.parameters, t.statistics) for t in other
    ]


@pytest.mark.expected_warnings("trials are made again")
async def test_a_combination_that_kills_its_process_twice_has_failed(stand: Stand) -> None:
    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if isinstance(message, EvaluateTrials) and any(trial.number == 5 for trial in message.trials):
            worker.end(WorkerExit(True, -11, "was ended by SIGSEGV"))
            return True
        return False

    stand.odd = odd
    study = await stand.run()
    assert study.state is JobState.DONE
    assert study.counts == {"done": 11, "failed": 1}
    [bad] = await stand.trials("study-1", after=4, limit=1)
    assert (bad.state, bad.reason) == (TrialState.FAILED, "its process was ended by SIGSEGV, 2 times")


@pytest.mark.expected_warnings("trials are made again")
async def test_a_process_that_says_what_it_was_not_asked_is_ended(stand: Stand) -> None:
    lies = [
        lambda trial: found(trial, state="wonderful"),
        lambda trial: found(trial, statistics={"sharpest": 1.0}),
        lambda trial: found(trial, reason="x" * 2_000),
        lambda trial: found(trial, equity=[1.0] * 10),
        lambda trial: found(replace_number(trial)),
    ]

    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if not isinstance(message, EvaluateTrials) or not lies:
            return False
        worker.say(TrialsEvaluated([lies.pop(0)(trial) for trial in message.trials[:1]]))
        return True

    stand.odd = odd
    study = await stand.run()
    assert not lies
    assert study.counts.get("done", 0) >= 10
    reasons = {worker.killed for worker in stand.workers()}
    assert "says what it was not asked" in reasons


def replace_number(trial: TrialAsked) -> TrialAsked:
    return TrialAsked(trial.number + 100, trial.parameters)


@pytest.mark.expected_warnings("trials are made again")
async def test_processes_that_are_lost_again_and_again_end_the_study(stand: Stand) -> None:
    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if isinstance(message, StartSweep) and len(stand.workers()) > 1:
            worker.end(WorkerExit(True, 1, "ended with exit code 1"))
            return True
        if isinstance(message, EvaluateTrials):
            worker.end(WorkerExit(True, -9, "was ended by SIGKILL"))
            return True
        return False

    stand.odd = odd
    study = await stand.run()
    assert study.state is JobState.FAILED
    assert study.reason == "no process can be started any more: its process ended with exit code 1"


@pytest.mark.expected_warnings("trials are made again")
async def test_deaths_without_a_result_end_the_study(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimiser_study, "DEATHS_IN_A_ROW", 1)

    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if isinstance(message, EvaluateTrials):
            worker.end(WorkerExit(True, -9, "was ended by SIGKILL"))
        return isinstance(message, EvaluateTrials)

    stand.odd = odd
    study = await stand.run()
    assert study.reason == "processes are lost one after the other: its process was ended by SIGKILL"


# ---- stopping and resuming


async def half_done(stand: Stand) -> str:
    """Start a study that stands still once five trials are told, and wait for that."""
    told = 0

    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        nonlocal told
        if isinstance(message, EvaluateTrials) and told >= 5:
            return True
        if isinstance(message, EvaluateTrials):
            told += len(message.trials)
        return False

    stand.odd = odd
    key = await stand.tests.start(stand.spec())
    await until(lambda: told >= 5, what="five trials")
    return key


async def test_a_stopped_study_is_resumed_where_it_was(stand: Stand) -> None:
    key = await half_done(stand)
    await stand.engine.commands.execute(StopStudy(key), "w")
    stopped = stand.replica.studies[key]
    known = await stand.trials(key)
    assert stopped.state is JobState.STOPPED
    assert 5 <= len(known) < 12
    stand.odd = lambda worker, message: False
    stand.evaluated.clear()
    await stand.engine.commands.execute(ResumeStudy(key), "w")
    study = await stand.over(key)
    assert (study.state, study.counts, study.total) == (JobState.DONE, {"done": 12}, 12)
    assert sorted(stand.evaluated) == sorted(set(range(12)) - {trial.number for trial in known})
    assert study.started_ns == stopped.started_ns
    assert study.best is not None
    assert study.best.parameters == {"fast": 4, "slow": 30}
    with pytest.raises(StrategyError, match="is done"):
        await stand.tests.resume(key)


async def test_a_file_that_changed_meanwhile_is_another_study(stand: Stand) -> None:
    key = await half_done(stand)
    await stand.tests.stop(key)
    stand.engine.file("class Other: ...")
    with pytest.raises(StrategyError, match="study-1 cannot go on: the strategy's file changed since it began"):
        await stand.tests.resume(key)


async def test_a_study_is_deleted_with_its_trials(stand: Stand) -> None:
    await stand.run()
    await stand.engine.commands.execute(DeleteStudy("study-1"), "w")
    assert stand.replica.studies == {}
    assert stand.tests.all == ()
    store = await stand.tests._opened()
    assert (store.studies().changed, store.page("study-1", -1, 10)) == ([], [])


async def test_an_id_that_another_process_took_meanwhile_is_left_to_it(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await stand.tests._opened()
    other = msgspec.structs.replace(await stand.run(), study_id="study-2", strategy="another")
    prepare = stand.tests._prepare

    async def slowly(spec: BacktestSpec) -> Any:
        store.begin(other)  # the first time, after which it is there
        return await prepare(spec)

    monkeypatch.setattr(stand.tests, "_prepare", slowly)
    assert await stand.tests.start(stand.spec()) == "study-3"
    assert (await stand.over("study-3")).state is JobState.DONE
    kept = next(each.study for each in store.studies().changed if each.study.study_id == "study-2")
    assert msgspec.structs.replace(kept, owner="") == other


async def test_a_closed_optimiser_starts_nothing(stand: Stand) -> None:
    await stand.tests.close()
    with pytest.raises(StrategyError, match="the engine is stopping"):
        await stand.tests.start(stand.spec())


# ---- floors


async def test_trials_are_told_what_the_others_had(stand: Stand) -> None:
    stand.odd = lambda worker, message: _with_equity(worker, message)
    spec = stand.spec(prune=True, floor=0.5, processes=1)
    await stand.over(await stand.tests.start(spec))
    floors = [message.floors[0] for worker in stand.workers() for message in worker.got(EvaluateTrials)]
    assert floors[0] == 5_000.0
    assert floors[-1] == 9_000.0


def _with_equity(worker: FakeWorker, message: HostMessage) -> bool:
    if isinstance(message, EvaluateTrials):
        worker.say(TrialsEvaluated([found(trial, equity=[9_000.0]) for trial in message.trials]))
    return isinstance(message, EvaluateTrials)


# ---- samplers


def test_random_combinations_are_the_same_again_and_none_twice() -> None:
    spec = StudySpec(
        BacktestSpec("x.py", (BTC,), "1m", 0, 1),
        (ParameterRange("fast", 1, 3, whole=True), ParameterRange("slow", 1, 3, whole=True)),
        constraints=("fast < slow",),
        method=Method.RANDOM,
        trials=50,
    )
    sampler = ListedSampler(spec)
    asked = sampler.ask(100)
    assert {(t.parameters["fast"], t.parameters["slow"]) for t in asked} == {(1, 2), (1, 3), (2, 3)}
    assert len(asked) == 3
    again = ListedSampler(spec)
    again.tell([Trial(1, asked[1].parameters, TrialState.DONE)])
    assert again.ask(100) == [asked[0], asked[2]]
    assert sampler.total() == 9


def test_a_limit_cuts_a_grid() -> None:
    spec = StudySpec(BacktestSpec("x.py", (BTC,), "1m", 0, 1), GRID, trials=5)
    assert ListedSampler(spec).total() == len(ListedSampler(spec).ask(100)) == 5
