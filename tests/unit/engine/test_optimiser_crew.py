"""Studies on a cluster whose workers come and go, played by the test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest

from koc_qt.domain.optimisation import TrialState
from koc_qt.domain.state import JobState
from koc_qt.engine import optimiser_study
from koc_qt.ports.studies import PlaceLost, RunnerLost, Told, TrialRunner
from koc_qt.sdk.channel import StartSweep
from koc_qt.sdk.sweep_messages import TrialAsked
from tests.conditions import until
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_optimiser import Stand, found


class Cluster:
    """Implements ports/studies.py Crew: places that the test opens and takes away.

    Once `limit` combinations were evaluated its places stand still, until they are lost or `go` is set.
    """

    def __init__(self, places: int) -> None:
        self.free, self.shipped, self.is_closed = places, 0, False
        self.running: list[Place] = []
        self.evaluated: list[int] = []
        self.limit = 1_000
        self.go = asyncio.Event()
        self.fault: Callable[[Sequence[TrialAsked]], RunnerLost | None] = lambda trials: None
        self._more, self._news = 0, asyncio.Event()

    async def muster(self, start: StartSweep, bars: Callable[[], Awaitable[bytes]]) -> int:
        self.shipped = len(await bars())
        return self.free

    async def joined(self) -> int:
        await self._news.wait()
        self._news.clear()
        more, self._more = self._more, 0
        return more

    def join(self, places: int) -> None:
        """Let so many more be there."""
        self.free += places
        self._more += places
        self._news.set()

    async def hire(self) -> TrialRunner | None:
        if not self.free:
            return None
        self.free -= 1
        self.running.append(Place(self))
        return self.running[-1]

    async def close(self) -> None:
        self.is_closed = True

    def lose_all(self) -> None:
        """Let every place be gone with what it does."""
        self.free = 0
        for place in self.running:
            place.lost.set()


class Place:
    """Implements ports/studies.py TrialRunner."""

    batch_s = 0.001

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.is_still = False
        self.lost = asyncio.Event()

    async def evaluate(self, trials: Sequence[TrialAsked], floors: Sequence[float], told: Told) -> None:
        if (fault := self._cluster.fault(trials)) is not None:
            raise fault
        if len(self._cluster.evaluated) >= self._cluster.limit:
            self.is_still = True
            ends = [asyncio.ensure_future(event.wait()) for event in (self.lost, self._cluster.go)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for end in ends:
                end.cancel()
        if self.lost.is_set():
            raise PlaceLost("the worker was lost")
        self._cluster.evaluated += [trial.number for trial in trials]
        told([found(trial) for trial in trials])

    async def close(self) -> None:
        self._cluster.running.remove(self)
        self._cluster.free += not self.lost.is_set()


@pytest.fixture
def cluster() -> Cluster:
    return Cluster(2)


@pytest.fixture
def stand(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch, cluster: Cluster) -> Stand:
    made = Stand(engine, monkeypatch)
    monkeypatch.setattr(made.tests, "_make_crew", lambda address: cluster)
    return made


async def still(cluster: Cluster, count: int) -> None:
    """Wait until so many places stand still, and nothing else goes on."""
    await until(lambda: [place.is_still for place in cluster.running] == [True] * count, what=f"{count} to stand still")


async def test_workers_that_join_are_used(stand: Stand, cluster: Cluster) -> None:
    cluster.limit = 0
    key = await stand.tests.start(stand.spec(cluster="tcp://x:1"))
    await still(cluster, 2)
    cluster.join(3)
    await still(cluster, 5)
    cluster.go.set()
    study = await stand.over(key)
    assert (study.state, study.counts) == (JobState.DONE, {"done": 12})
    assert cluster.shipped > 100
    assert cluster.is_closed
    assert not cluster.running


@pytest.mark.expected_warnings("trials are made again")
async def test_a_cluster_that_is_lost_half_way_goes_on_with_what_joins(stand: Stand, cluster: Cluster) -> None:
    cluster.limit = 4
    key = await stand.tests.start(stand.spec(cluster="tcp://x:1"))
    await still(cluster, 2)
    cluster.lose_all()
    await until(lambda: "waits for others" in stand.replica.studies[key].reason, what="that to be said")
    cluster.limit = 1_000
    cluster.join(1)
    study = await stand.over(key)
    assert (study.state, study.reason, study.counts) == (JobState.DONE, "", {"done": 12})
    assert sorted(cluster.evaluated) == list(range(12))  # none was made twice


@pytest.mark.expected_warnings("trials are made again")
async def test_a_cluster_that_is_lost_for_good_leaves_what_was_found(
    stand: Stand, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimiser_study, "CREW_PATIENCE_S", 0.05)
    cluster.limit = 4
    key = await stand.tests.start(stand.spec(cluster="tcp://x:1"))
    await still(cluster, 2)
    cluster.lose_all()
    study = await stand.over(key)
    assert study.state is JobState.FAILED
    assert study.reason == "all workers of the cluster were lost: resume the study when there are others"
    kept = [trial.number for trial in await stand.trials(key)]
    assert len(kept) >= 4
    assert (sorted(cluster.evaluated), study.finished) == (kept, len(kept))
    cluster.limit, cluster.free = 1_000, 1
    await stand.tests.resume(key)
    assert (await stand.over(key)).counts == {"done": 12}
    assert sorted(cluster.evaluated) == list(range(12))


@pytest.mark.expected_warnings("trials are made again")
async def test_machines_that_go_are_not_held_against_what_ran_there(
    stand: Stand, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimiser_study, "DEATHS_IN_A_ROW", 0)
    faults = [PlaceLost("the worker was lost")] * 4
    cluster.fault = lambda trials: faults.pop() if faults else None
    study = await stand.run(cluster="tcp://x:1")
    assert (study.state, study.counts) == (JobState.DONE, {"done": 12})


@pytest.mark.expected_warnings("trials are made again")
async def test_a_combination_that_is_there_whenever_a_machine_goes_has_failed(stand: Stand, cluster: Cluster) -> None:
    cluster.fault = lambda trials: PlaceLost("it went") if any(trial.number == 5 for trial in trials) else None
    study = await stand.run(cluster="tcp://x:1")
    assert (study.state, study.counts) == (JobState.DONE, {"done": 11, "failed": 1})
    [bad] = await stand.trials("study-1", after=4, limit=1)
    assert (bad.state, bad.reason) == (TrialState.FAILED, "it went, 5 times")
