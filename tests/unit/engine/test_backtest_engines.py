"""Which process runs a back-test: other people's engines have their own, with their libraries and more memory."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.engine.backtest_run import NEEDS
from koc_qt.sdk.channel import LoadFailed, StartReplay
from tests.conditions import PATIENCE
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_backtests import Bench


@pytest.mark.parametrize("engine_name", list(Engine))
async def test_each_engine_has_its_process(engine: EngineDesk, engine_name: Engine) -> None:
    bench = Bench(engine)
    key, worker = await bench.loading(engine=engine_name)
    assert worker.needs == NEEDS.get(engine_name)
    assert worker.got(StartReplay)[0].engine is engine_name
    worker.say(LoadFailed(f"{engine_name} knows no latency"))
    assert await bench.reason(key) == f"{engine_name} knows no latency"
    await engine.backtests.close()


def test_what_they_load_is_there_and_loads_nothing_elsewhere() -> None:
    assert set(NEEDS) == set(Engine) - {Engine.REPLAY}
    for needs in NEEDS.values():
        assert all(importlib.util.find_spec(module) for module in needs.modules)
    heavy = "vectorbt", "backtrader", "numba", "optuna", "dask", "distributed", "pandas"
    code = (
        "import koc_qt.worker, koc_qt.worker.engines, koc_qt.engine.backtests, sys;"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60 * PATIENCE
    )
    assert done.stdout.strip() == "[]"
