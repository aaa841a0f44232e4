"""Processes that load other people's engines before they are locked down are as tight as any other worker."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication

from koc_qt.adapters.worker_process import QProcessWorkerLauncher
from koc_qt.domain.backtests import Engine
from koc_qt.engine.backtest_run import NEEDS
from koc_qt.ports.workers import WorkerNeeds
from koc_qt.sdk.channel import Ready, ReplayDone, ReplayEnd, ReplayFills, Running, WorkerMessage
from tests.conditions import until
from tests.qt_loop import run_on_qt
from tests.security.attacks import ATTACKS
from tests.security.harness import Watched, source_with, stand_in_launcher
from tests.security.test_attacks import REFUSED
from tests.unit.worker.replays import bars, start_replay, walk

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="the sandbox is Linux's"),
    pytest.mark.timeout(240),  # the libraries take seconds to load, on a busy machine many
]

BOTH = WorkerNeeds(tuple(module for needs in NEEDS.values() for module in needs.modules), 6 << 30)
SIGNALS = """
from koc_qt.sdk import Bars, Signals, Strategy
from koc_qt.sdk.indicators import SMA

class Cross(Strategy):
    def signals(self, bars):
        above = bars.column(SMA(3)) > bars.column(SMA(9))
        return Signals(above, ~above)
"""


async def _launch(launcher: QProcessWorkerLauncher, needs: WorkerNeeds | None) -> Watched:
    watched = Watched()
    watched.handle = await launcher.launch("test", watched.messages.append, watched.exits.append, needs)
    await until(lambda: watched.messages or watched.exits, timeout_s=60, what="a worker with its libraries")
    return watched


def test_every_attack_is_refused_there_too(qapp: QCoreApplication, tmp_path: Path) -> None:
    outcomes: dict[str, str] = {}
    readies: list[Ready | None] = []

    async def scenario() -> None:
        launcher = stand_in_launcher()
        try:
            plain, loaded = await _launch(launcher, None), await _launch(launcher, BOTH)
            readies.extend((plain.ready, loaded.ready))
            loaded_modules = "import sys\ndef attack(): return sorted({'vectorbt', 'backtrader'} & sys.modules.keys())"
            outcomes["libraries"] = await loaded.attack(loaded_modules)
            for number, attack in enumerate(ATTACKS):
                folder = tmp_path / str(number)
                folder.mkdir()
                with ExitStack() as stack:
                    source = source_with(attack.source, **attack.prepare(folder, stack))
                    outcomes[attack.name] = await loaded.attack(source)
                if loaded.exits:  # refused by the end of the process
                    loaded = await _launch(launcher, BOTH)
        finally:
            await launcher.close()

    run_on_qt(qapp, scenario(), 200)
    assert outcomes.pop("libraries") == "done: ['backtrader', 'vectorbt']"
    assert {name: text for name, text in outcomes.items() if not REFUSED.match(text)} == {}
    plain, loaded = readies
    assert plain is not None
    assert loaded is not None
    assert (loaded.badge, loaded.badge_reason) == (plain.badge, plain.badge_reason)
    assert loaded.proofs.keys() == plain.proofs.keys()
    assert all(outcome.startswith("refused") for outcome in loaded.proofs.values())


def test_back_tests_run_locked_down_on_every_engine(qapp: QCoreApplication) -> None:
    said: dict[Engine, list[WorkerMessage]] = {}

    async def scenario() -> None:
        launcher = QProcessWorkerLauncher(warm=0)
        try:
            for engine in Engine:
                worker = await _launch(launcher, NEEDS.get(engine))
                worker.handle.send(start_replay(SIGNALS, engine=engine, volume_fraction=None))
                await until(lambda worker=worker: worker.messages[1:], timeout_s=60, what=f"{engine} to load the file")
                worker.handle.send(bars(walk(400)))
                worker.handle.send(ReplayEnd())
                await until(lambda worker=worker: worker.exits, timeout_s=60, what=f"the end of {engine}")
                said[engine] = worker.messages
        finally:
            await launcher.close()

    run_on_qt(qapp, scenario(), 200)
    results = {}
    for engine, messages in said.items():
        assert isinstance(messages[1], Running), messages
        done = messages[-1]
        assert isinstance(done, ReplayDone), messages
        fills = [fill for message in messages if isinstance(message, ReplayFills) for fill in message.fills]
        assert done.provenance is not None
        assert done.provenance.versions["engine"] == engine.value
        results[engine] = [(fill.time_ns, fill.side, fill.price, fill.quantity, fill.fee) for fill in fills]
        assert done.equity == pytest.approx(said[Engine.REPLAY][-1].equity, rel=1e-12)  # type: ignore[union-attr]
    assert len(results[Engine.REPLAY]) > 30
    assert results[Engine.VECTORBT] == results[Engine.BACKTRADER] == results[Engine.REPLAY]
    assert results[Engine.VECTORBT]
