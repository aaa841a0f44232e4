"""``koc optimize`` as a person runs it: killed and resumed, and on a Dask cluster that loses its workers half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from koc_qt.adapters.study_store import open_study_store
from tests.conditions import PATIENCE, wait_until
from tests.unit.worker.replays import walk
from tests.unit.worker.sweeps import CROSS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(sys.platform == "win32", reason="the Windows launcher was never run"),
]

COUNT = 2_500
SLOW_CROSS = CROSS.replace("make = SMA", "__import__('time').sleep(0.001)\n        make = SMA")  # to be killed in time
CLUSTER = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs=50) as cluster:
        print(cluster.scheduler_address, *(worker.pid for worker in cluster.workers.values()), flush=True)
        sys.stdin.read()
"""


class Bench:
    """A profile, a strategy file, a file of bars, and the command on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.strategy, self.bars = folder / "cross.py", folder / "walk.parquet"
        self.strategy.write_text(SLOW_CROSS)
        opens, highs, lows, closes = np.array(walk(COUNT)).T
        times = 1_700_000_040_000_000_000 + np.arange(COUNT) * 60_000_000_000
        columns = {"open": opens, "high": highs, "low": lows, "close": closes, "volume": np.full(COUNT, 1e6)}
        pq.write_table(pa.table({"timestamp": pa.array(times, pa.timestamp("ns")), **columns}), self.bars)

    def command(self, *more: str) -> list[str]:
        words = ["optimize", str(self.strategy), "--data", str(self.bars), "--cash", "100000", "--fee", "0.001"]
        ranges = ["--range", "fast=1:20", "--range", "slow=5:44", "--where", "fast < slow"]
        return [sys.executable, "-m", "koc_qt", *words, *ranges, *more]

    @contextmanager
    def running(self, *more: str) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, "KOC_HOME": str(self.folder / "home")}
        process = subprocess.Popen(
            self.command(*more), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def run(self, *more: str) -> tuple[int, str]:
        """Run to the end; gives the exit code and what was said."""
        with self.running(*more) as process:
            said, _ = process.communicate(timeout=110 * PATIENCE)
            return process.returncode, said

    def trials(self, name: str) -> list[Any]:
        document = json.loads((self.folder / name).read_text())
        return [
            (trial["number"], trial["parameters"], trial["state"], trial["statistics"]) for trial in document["trials"]
        ]

    def kept(self, study_id: str) -> int:
        """Count the trials that the store has of a study."""
        file = self.folder / "home" / "data" / "studies.sqlite"
        if not file.exists():
            return 0
        store = open_study_store(file)
        try:
            return len(store.page(study_id, -1, 100_000))
        finally:
            store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_killed_search_is_resumed_and_finds_the_same(bench: Bench) -> None:
    code, said = bench.run("--json", str(bench.folder / "calm.json"), "--csv", str(bench.folder / "calm.csv"))
    assert code == 0, said
    assert "study-1: the best of" in said
    calm = bench.trials("calm.json")
    assert len(calm) == sum(fast < slow for fast in range(1, 21) for slow in range(5, 45))
    assert len((bench.folder / "calm.csv").read_text().splitlines()) == len(calm) + 1
    with bench.running() as process:
        wait_until(lambda: bench.kept("study-2") >= 100, timeout_s=60, what="a hundred trials")
        children = psutil.Process(process.pid).children(recursive=True)
        for child in children:
            child.suspend()  # so that there is something left
        process.kill()
        process.wait(30 * PATIENCE)
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.resume()  # one that had only begun is not bound to its parent yet, and would stay as it is
    assert not psutil.wait_procs(children, 30)[1]
    half = bench.kept("study-2")
    assert 100 <= half < len(calm)
    code, said = bench.run("--resume", "study-2", "--json", str(bench.folder / "resumed.json"))
    assert code == 0, said
    assert bench.trials("resumed.json") == calm


def test_a_cluster_that_loses_its_workers_finds_what_one_machine_finds(bench: Bench) -> None:
    code, said = bench.run("--json", str(bench.folder / "local.json"))
    assert code == 0, said
    script = bench.folder / "cluster.py"
    script.write_text(CLUSTER)
    cluster = subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert cluster.stdout is not None
        address, *workers = cluster.stdout.readline().split()
        with bench.running("--dask", address, "--json", str(bench.folder / "dask.json")) as process:
            wait_until(lambda: bench.kept("study-2") >= 20, timeout_s=90, what="twenty trials")
            for worker in workers:  # their nannies start others, which join while the study runs
                os.kill(int(worker), signal.SIGKILL)
            said, _ = process.communicate(timeout=110 * PATIENCE)
            assert process.returncode == 0, said
        assert bench.trials("dask.json") == bench.trials("local.json")
    finally:
        cluster.communicate(timeout=60 * PATIENCE)


def test_a_scheduler_that_is_not_there_is_said(bench: Bench) -> None:
    code, said = bench.run("--dask", "tcp://127.0.0.1:9")
    assert code == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--method", "random"], "say how many trials"),
        (["--resume", "study-9", "--store", "sqlite:///{folder}/own.sqlite"], "there is no study 'study-9'"),
    ],
)
def test_what_is_wrong_is_said(bench: Bench, words: list[str], why: str) -> None:
    code, said = bench.run(*(word.format(folder=bench.folder) for word in words))
    assert (code, why in said) == (1, True), said
