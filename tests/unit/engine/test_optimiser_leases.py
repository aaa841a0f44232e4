"""Studies that several processes share: who runs one, who takes it over, and what must be the same when it goes on."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import msgspec
import pytest
from loguru import logger

from koc_qt.adapters.study_store import open_study_store
from koc_qt.adapters.this_process import ProcessMark
from koc_qt.domain.errors import StorageError, StrategyError
from koc_qt.domain.optimisation import Objective, StudyOrigin, StudySnapshot, Trial
from koc_qt.domain.state import JobState
from koc_qt.engine import optimiser as module
from koc_qt.engine import optimiser_origin, optimiser_study
from koc_qt.engine.optimiser_leases import SILENT_S
from koc_qt.engine.optimiser_samplers import ListedSampler
from koc_qt.link.optimiser_messages import StudyChanged
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import HostMessage, StartSweep
from koc_qt.sdk.sweep_messages import EvaluateTrials
from tests.conditions import until
from tests.fakes.trading import BTC
from tests.fakes.workers import FakeWorker
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_optimiser import Stand, half_done


@pytest.fixture
def stand(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> Stand:
    for name, value_s in (("KEPT_S", 0.05), ("LOOK_S", 0.02), ("LOAD_AFTER_S", 0.0), ("WATCH_S", 0.02)):
        monkeypatch.setattr(module, name, value_s)
    return Stand(engine, monkeypatch)


def another(stand: Stand, **changes: Any) -> module.Optimiser:
    """Give what another process on the same store would be."""
    fields: dict[str, Any] = {
        "services": stand.engine.services,
        "prepare": stand.tests._prepare,
        "open_store": lambda: open_study_store(stand.engine.folder / "studies.sqlite", "another process"),
        "make_sampler": ListedSampler,
        "kernel": stand.tests._kernel,
        "publish": stand.engine.bus.publish,
        "processes": 2,
    }
    return module.Optimiser(**fields | changes)


@contextlib.asynccontextmanager
async def beside(stand: Stand, **changes: Any) -> AsyncIterator[tuple[module.Optimiser, list[StudySnapshot]]]:
    """Give another process's optimiser, and what it tells."""
    told: list[StudySnapshot] = []
    other = another(stand, publish=lambda fact: told.append(fact.study) if isinstance(fact, StudyChanged) else None)
    try:
        yield other, told
    finally:
        await other.close()


async def killed_half_way(stand: Stand) -> str:
    """Leave a study in the store as a kill does: it says that it runs, and that this process runs it."""
    key = await half_done(stand)
    store = await stand.tests._opened()
    await until(lambda: len(store.page(key, -1, 100)) >= 5, what="the trials to be kept")
    end = store.end
    store.end = lambda study, lease: None  # type: ignore[method-assign]
    await stand.tests.stop(key)
    store.end = end  # type: ignore[method-assign]
    stand.odd = lambda worker, message: False
    stand.evaluated.clear()
    return key


async def test_a_killed_engine_resumes_with_what_was_kept(stand: Stand) -> None:
    key = await killed_half_way(stand)
    async with beside(stand) as (fresh, told):
        await fresh.load()
        assert fresh.all[-1].state is JobState.RUNNING  # somebody else may run it
        assert fresh.all[-1].owner.startswith("K.O.C., process ")
        stand.engine.clock.advance(SILENT_S - 1.0)
        await fresh.load()
        assert fresh.all[-1].state is JobState.RUNNING
        stand.engine.clock.advance(2.0)
        await fresh.load()
        assert (fresh.all[-1].state, fresh.all[-1].reason) == (JobState.STOPPED, module.OWNER_ENDED)
        assert fresh.all[-1].owner == ""
        await fresh.resume(key)
        await until(lambda: told[-1].state is not JobState.RUNNING, what="the end")
        assert (told[-1].state, told[-1].counts) == (JobState.DONE, {"done": 12})
        assert len(stand.evaluated) <= 7
        assert len(await fresh.trials(key, -1, 100)) == 12


async def test_one_whose_process_has_ended_is_taken_over_at_once(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await killed_half_way(stand)
    monkeypatch.setattr(ProcessMark, "is_gone", lambda mark: True)
    async with beside(stand) as (fresh, _):
        await fresh.load()
        assert fresh.all[-1].state is JobState.STOPPED
        await fresh.delete(key)
        assert fresh.all == ()


async def test_a_study_that_another_process_runs_is_left_to_it(stand: Stand) -> None:
    key = await half_done(stand)
    async with beside(stand) as (other, told):
        await other.load()
        for act in (other.resume, other.stop, other.delete):
            with pytest.raises(StrategyError, match=r"study-1 is run by K\.O\.C\., process \d+ on .*: stop it there"):
                await act(key)
        watched = asyncio.create_task(other.keep_watch(lambda: True))
        await until(lambda: told[-1].counts != {}, what="its progress to be seen elsewhere")
        await stand.tests.stop(key)
        await until(lambda: told[-1].state is JobState.STOPPED, what="its end to be seen elsewhere")
        await stand.tests.delete(key)
        await until(lambda: not other.all, what="its end altogether")
        watched.cancel()
        await asyncio.gather(watched, return_exceptions=True)


@pytest.mark.expected_warnings("study-1 is run by another process")
async def test_one_that_was_thought_to_be_gone_stops_when_it_comes_back(stand: Stand) -> None:
    key = await half_done(stand)
    async with beside(stand) as (other, _):
        await other.load()
        stand.engine.clock.advance(SILENT_S)
        store = await other._opened()

        async def take() -> str:
            await other._watch.look(store)  # again: the first may say a word between a look and what follows from it
            kept = other._watch.kept(key)
            assert kept is not None
            return store.take(kept)

        lease = await until(take, what="the study to be taken")
        await until(lambda: key not in stand.tests._tasks, what="the first to stop", timeout_s=10)
        stopped = stand.replica.studies[key]
        assert (stopped.state, stopped.reason[:29]) == (JobState.STOPPED, "study-1 is run by another pro")
        assert store.studies().changed[0].lease == lease
        await stand.tests.load()
        with pytest.raises(StrategyError, match="is run by another process"):
            await stand.tests.stop(key)


async def test_of_two_that_resume_at_once_one_does(stand: Stand) -> None:
    key = await half_done(stand)
    await stand.tests.stop(key)
    stand.odd = lambda worker, message: isinstance(message, StartSweep)
    async with beside(stand) as (other, _), beside(stand) as (third, _):
        found = await asyncio.gather(other.resume(key), third.resume(key), return_exceptions=True)
        [refused] = [each for each in found if each is not None]
        assert re.search("another process was quicker to go on with study-1|study-1 is run by", str(refused))


@pytest.mark.expected_warnings("cannot be read or written")
async def test_an_end_that_could_not_be_written_leaves_a_study_that_can_be_resumed(stand: Stand) -> None:
    key = await half_done(stand)
    store = await stand.tests._opened()
    end = store.end

    def full(study: StudySnapshot, lease: str) -> None:
        raise StorageError("the studies in x cannot be read or written: database or disk is full")

    store.end = full  # type: ignore[method-assign]
    await stand.tests.stop(key)
    store.end = end  # type: ignore[method-assign]
    stand.odd = lambda worker, message: False
    await stand.tests.resume(key)
    assert (await stand.over(key)).counts == {"done": 12}


async def test_a_disk_that_is_full_for_a_while_costs_no_trial(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimiser_study, "KEPT_EVERY_S", 0.01)
    store = await stand.tests._opened()
    add, is_full = store.add, [True]

    def adding(study_id: str, lease: str, trials: Any) -> None:
        if is_full:
            raise StorageError("the studies in x cannot be read or written: database or disk is full")
        add(study_id, lease, trials)

    store.add = adding  # type: ignore[method-assign]
    key = await half_done(stand)
    await until(lambda: "disk is full" in stand.replica.studies[key].reason, what="that to be said")
    is_full.clear()
    await until(lambda: stand.replica.studies[key].reason == "", what="the disk to have room again")
    assert len(store.page(key, -1, 99)) >= 5
    await stand.tests.stop(key)


@pytest.mark.expected_warnings("cannot be read or written: gone")
async def test_a_store_that_cannot_be_read_is_said_once_and_tried_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_AGAIN_S", 0.01)
    await stand.run()
    async with beside(stand) as (other, told):
        store = await other._opened()
        studies, failures = store.studies, [1, 2, 3]

        def reading(known: Any = None) -> Any:
            if failures:
                raise StorageError(f"the studies in x cannot be read or written: gone {failures.pop()}")
            return studies(known)

        store.studies = reading  # type: ignore[method-assign]
        said: list[str] = []
        sink = logger.add(lambda line: said.append(str(line)), level="WARNING")
        watched = asyncio.create_task(other.keep_watch(lambda: True))
        await until(lambda: bool(told), what="the store to be read")
        watched.cancel()
        await asyncio.gather(watched, return_exceptions=True)
        logger.remove(sink)
        assert [line.count("gone 3") for line in said] == [1]


# ---- what a study is made from


async def test_a_study_notes_what_its_trials_are_made_from(stand: Stand) -> None:
    study = await stand.run()
    origin = study.origin
    assert origin is not None
    assert origin.strategy == study.strategy
    assert {"koc", "python", "numpy", "numba"} == set(origin.versions)
    assert (await stand.run()).origin == origin  # the same again
    other = await stand.run(objectives=(Objective("fees"),))
    assert other.origin is not None
    assert origin.differences(other.origin) == ["what is searched (ranges, conditions, objectives, method)"]


async def test_no_trial_is_in_the_store_before_what_it_is_made_from(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KEPT_S", 600.0)  # what is written beside comes too late for a process that is killed
    store = await stand.tests._opened()
    add, known = store.add, list[StudyOrigin | None]()

    def adding(study_id: str, lease: str, trials: Iterable[Trial]) -> None:
        known.extend(kept.study.origin for kept in store.studies().changed)
        add(study_id, lease, trials)

    store.add = adding  # type: ignore[method-assign]
    study = await stand.run()
    assert known[0] is not None
    assert known[0] == study.origin


async def test_other_bars_under_a_study_are_noticed(stand: Stand) -> None:
    key = await half_done(stand)
    await stand.tests.stop(key)
    known = await stand.trials(key)
    before = stand.replica.studies[key]
    stand.odd = lambda worker, message: False
    history, columns = stand.engine.history, stand.engine.history.columns
    is_changed = True

    async def changed(series: Any, span: Any) -> Any:
        found = await columns(series, span)
        return found._replace(close=found.close + 1e-9) if is_changed else found

    stand.engine.services.history.columns = changed  # type: ignore[method-assign]
    assert history is stand.engine.services.history
    await stand.tests.resume(key)
    study = await stand.over(key)
    assert study.state is JobState.FAILED
    assert study.reason == (
        "study-1 cannot go on: the bars changed since it began. Its trials stay as they are; start another study, "
        "which gets a name of its own, or bring back what was there"
    )
    assert await stand.trials(key) == known
    assert (study.counts, study.best, study.origin) == (before.counts, before.best, before.origin)
    is_changed = False
    await stand.tests.resume(key)
    assert (await stand.over(key)).counts == {"done": 12}


@pytest.mark.expected_warnings("trials are made again")
async def test_bars_that_change_while_a_study_runs_end_it(stand: Stand) -> None:
    columns = stand.engine.history.columns
    is_changed: list[bool] = []

    async def changing(series: Any, span: Any) -> Any:
        found = await columns(series, span)
        return found._replace(close=found.close + 1e-9) if is_changed else found

    stand.engine.services.history.columns = changing  # type: ignore[method-assign]

    def odd(worker: FakeWorker, message: HostMessage) -> bool:
        if isinstance(message, EvaluateTrials) and not is_changed:
            is_changed.append(True)
            worker.end(WorkerExit(True, -9, "was ended by SIGKILL"))
            return True
        return False

    stand.odd = odd
    study = await stand.run()
    assert (study.state, study.reason) == (
        JobState.FAILED,
        "the bars changed while the study ran: something else writes to them",
    )


async def test_rules_of_a_symbol_and_versions_that_changed_are_named(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await half_done(stand)
    await stand.tests.stop(key)
    before = stand.replica.studies[key]
    monkeypatch.setattr(optimiser_origin, "__version__", "99.0")
    rules = stand.engine.store.instrument(BTC)
    assert rules is not None
    changed = msgspec.structs.replace(rules, taker_fee=rules.taker_fee + 1)
    monkeypatch.setattr(stand.engine.store, "instrument", lambda key: changed)
    why = r"what the venue says of the symbols .* and the version of koc \(.* then, 99\.0 now\) changed since it began"
    with pytest.raises(StrategyError, match=why):
        await stand.tests.resume(key)
    assert stand.replica.studies[key] == before


async def test_trials_of_a_version_that_did_not_say_what_they_are_made_from_are_not_added_to(stand: Stand) -> None:
    key = await half_done(stand)
    await stand.tests.stop(key)
    store = await stand.tests._opened()
    [kept] = store.studies().changed
    store.end(msgspec.structs.replace(kept.study, origin=None), store.take(kept))
    with pytest.raises(StrategyError, match="study-1 was begun by a version that did not keep"):
        await stand.tests.resume(key)
