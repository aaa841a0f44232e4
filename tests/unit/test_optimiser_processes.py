"""Studies in real sandboxed processes, which are killed half-way."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import pytest
from PySide6.QtCore import QCoreApplication

from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.optuna_sampler import OptunaSampler
from koc_qt.adapters.study_store import open_study_store
from koc_qt.adapters.sweep_kernel_file import KernelFile
from koc_qt.adapters.worker_process import QProcessWorkerLauncher
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.optimisation import Method, Objective, ParameterRange, StudySnapshot, StudySpec, Trial, TrialState
from koc_qt.domain.state import JobState
from koc_qt.engine.backtest_feed import Prepared
from koc_qt.engine.optimiser import Optimiser
from koc_qt.engine.optimiser_samplers import ListedSampler
from koc_qt.engine.strategy_file import read_source
from koc_qt.link.optimiser_messages import StudyChanged, StudyFact
from koc_qt.ports.bars import BarSeries, Columns, Span
from koc_qt.ports.studies import Sampler
from tests.conditions import until
from tests.qt_loop import run_on_qt
from tests.unit.sdk.desk import BTC, MINUTE_NS
from tests.unit.worker.replays import SINCE_NS, walk
from tests.unit.worker.sweeps import CROSS, kernel

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the Windows launcher was never run")

COUNT = 2_000
BTC_ID = BTC.id


class Remembered:
    """Implements engine/backtest_feed.py BarHistory on a random walk."""

    def __init__(self) -> None:
        rows = np.array(walk(COUNT))
        times = SINCE_NS + np.arange(COUNT, dtype=np.int64) * MINUTE_NS
        opens, highs, lows, closes = (np.ascontiguousarray(column) for column in rows.T)
        self._columns = Columns(times, opens, highs, lows, closes, np.full(COUNT, 1e6))

    def closed(self, series: BarSeries, span: Span) -> Span:
        return span

    async def fill(self, series: BarSeries, span: Span, progress: Callable[[float, int], None] | None = None) -> int:
        return 0

    async def columns(self, series: BarSeries, span: Span) -> Columns:
        first, last = np.searchsorted(self._columns.open_time_ns, [span.since_ns, span.until_ns])
        times, *values = [cast("Any", column[first:last]) for column in self._columns]
        return Columns(times, *values)


@dataclass
class Stand:
    """What an optimiser needs, with real processes."""

    folder: Path
    clock: SystemClock = field(default_factory=SystemClock)
    launcher: QProcessWorkerLauncher = field(default_factory=lambda: QProcessWorkerLauncher(warm=0))
    history: Remembered = field(default_factory=Remembered)
    seen: Callable[[StudySnapshot], None] = lambda study: None

    def spec(self, source: str = CROSS, **changes: Any) -> StudySpec:
        file = self.folder / "cross.py"
        file.write_text(source)
        until_ns = SINCE_NS + COUNT * MINUTE_NS
        base = BacktestSpec(
            str(file),
            (BTC_ID,),
            "1m",
            SINCE_NS + 100 * MINUTE_NS,
            until_ns,
            cash=Decimal(100_000),
            fee=Decimal("0.001"),
        )
        ranges = (ParameterRange("fast", 1, 24), ParameterRange("slow", 5, 64))
        return StudySpec(**{"base": base, "ranges": ranges, **changes})

    async def run(
        self, spec: StudySpec, make: Callable[[StudySpec], Sampler] = ListedSampler
    ) -> tuple[Any, list[Trial]]:
        """Run a study to its end; gives its last snapshot and its trials."""
        known: dict[str, StudySnapshot] = {}

        def publish(fact: StudyFact) -> None:
            assert isinstance(fact, StudyChanged)
            known[fact.study.study_id] = fact.study
            self.seen(fact.study)

        async def prepare(base: BacktestSpec) -> Prepared:
            return Prepared(base, read_source(base.path), (BTC,), self)

        async def code() -> bytes:
            return kernel()

        optimiser = Optimiser(
            self, prepare, lambda: open_study_store(self.folder / "s.sqlite"), make, code, publish, processes=2
        )
        try:
            key = await optimiser.start(spec)
            await until(lambda: known[key].state is not JobState.RUNNING, timeout_s=100, what=f"the end of {key}")
            trials: list[Trial] = []
            while page := await optimiser.trials(key, trials[-1].number if trials else -1, 1_000):
                trials += page
            return known[key], trials
        finally:
            await optimiser.close()


def workers() -> list[int]:
    """List the processes of strategies that this process has started."""
    return [child.pid for child in psutil.Process().children() if "worker" in child.cmdline()]


def outcomes(trials: list[Trial]) -> list[Any]:
    return [(trial.number, trial.parameters, trial.state, trial.statistics, trial.reason) for trial in trials]


def on_qt(application: QCoreApplication, folder: Path, work: Callable[[Stand], Any]) -> Any:
    async def worked() -> Any:
        stand = Stand(folder)
        try:
            return await work(stand)
        finally:
            await stand.launcher.close()

    return run_on_qt(application, worked(), 110.0)


@pytest.mark.expected_warnings("its process was ended by SIGKILL")
def test_a_worker_killed_half_way_leaves_a_study_that_is_whole(qapp: QCoreApplication, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill(study: StudySnapshot) -> None:
        done = study.counts.get("done", 0)
        if study.state is JobState.RUNNING and done >= 60 * (1 + len(killed)) and len(killed) < 2 and workers():
            killed.append(workers()[0])
            os.kill(killed[-1], signal.SIGKILL)

    async def work(stand: Stand) -> Any:
        slowly = CROSS.replace("make = SMA", "__import__('time').sleep(0.001)\n        make = SMA")
        ranges = (ParameterRange("fast", 1, 16), ParameterRange("slow", 5, 44))
        calm = await stand.run(stand.spec(slowly, ranges=ranges))
        stand.seen = kill
        return calm, await stand.run(stand.spec(slowly, ranges=ranges))

    (calm, undisturbed), (study, disturbed) = on_qt(qapp, tmp_path, work)
    assert len(killed) >= 1
    assert calm.state is study.state is JobState.DONE
    assert calm.total == study.total == len(disturbed) == 16 * 40
    assert study.counts == calm.counts
    assert study.counts["infeasible"] == sum(fast >= slow for fast in range(1, 17) for slow in range(5, 45))
    assert outcomes(disturbed) == outcomes(undisturbed)
    assert study.best == calm.best or outcomes([study.best]) == outcomes([calm.best])


@pytest.mark.expected_warnings("was ended by SIGABRT")
def test_combinations_that_crash_their_process_fail_alone(qapp: QCoreApplication, tmp_path: Path) -> None:
    source = CROSS.replace(
        "self.warmup_bars = self.slow", "import os\n        if self.fast == 3 and self.slow == 9: os.abort()"
    )
    ranges = (ParameterRange("fast", 2, 5), ParameterRange("slow", 8, 11))
    study, trials = on_qt(qapp, tmp_path, lambda stand: stand.run(stand.spec(source, ranges=ranges)))
    assert study.counts == {"done": 15, "failed": 1}
    [bad] = [trial for trial in trials if trial.state is TrialState.FAILED]
    assert bad.parameters == {"fast": 3, "slow": 9}
    assert "SIGABRT" in bad.reason


def test_bayesian_searches_find_what_a_grid_finds(qapp: QCoreApplication, tmp_path: Path) -> None:
    async def work(stand: Stand) -> Any:
        several = (Objective("sharpe"), Objective("max_drawdown", False))
        constraints = ("fast < slow",)
        _, grid = await stand.run(stand.spec(constraints=constraints))
        one = await stand.run(
            stand.spec(method=Method.BAYESIAN, trials=60, seed=4, constraints=constraints, processes=1), OptunaSampler
        )
        two = await stand.run(
            stand.spec(method=Method.BAYESIAN, trials=30, seed=4, constraints=constraints, objectives=several),
            OptunaSampler,
        )
        return grid, one, two

    grid, (study, trials), (several, more) = on_qt(qapp, tmp_path, work)
    assert study.counts == {"done": 60}
    assert len(trials) == study.total == 60
    assert all(trial.parameters["fast"] < trial.parameters["slow"] for trial in trials + more)
    sharpe = Objective("sharpe")
    all_there_are = sorted(value for trial in grid if (value := trial.value(sharpe)) is not None)
    assert study.best is not None
    # one in ten of all combinations is that good: sixty at random would miss them once in 500 times
    assert (study.best.value(sharpe) or -1e9) >= all_there_are[int(len(all_there_are) * 0.9)]
    assert several.counts == {"done": 30}
    assert several.front


def test_the_kernel_is_compiled_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        file = KernelFile(tmp_path / "kernels")
        code = await file.code()
        assert len(code) > 1_000
        [kept] = list((tmp_path / "kernels").iterdir())
        assert kept.read_bytes() == code
        monkeypatch.setattr("koc_qt.adapters.sweep_kernel_file.worker_command", lambda: ["/nonexistent"])
        assert await KernelFile(tmp_path / "kernels").code() == code

    asyncio.run(work())


@pytest.mark.expected_warnings("cannot be compiled here")
async def test_without_a_kernel_nothing_else_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("koc_qt.adapters.sweep_kernel_file.worker_command", lambda: [sys.executable, "-c", "1/0", "x"])
    assert await KernelFile(tmp_path).code() == b""
    assert list(tmp_path.iterdir()) == []
