"""Back-tests on a running engine, asked for over the link as a window does."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd
import pytest

from koc_qt.domain.backtests import ALL_NS, FILE_VENUE, BacktestResult, BacktestSnapshot, BacktestSpec
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, bar_open_ns
from koc_qt.domain.trips import round_trips
from koc_qt.link.backtest_messages import DeleteBacktest, ListBacktests, NoteBacktest
from koc_qt.link.client import LinkClient, local_engine
from koc_qt.link.keys import load_pair
from koc_qt.link.messages import BacktestChanged, Fact, FetchBacktest, StartBacktest, StopBacktest
from koc_qt.link.replica import Replica
from koc_qt.link.results import fetch_result
from tests.conditions import until
from tests.e2e.processes import SAMPLES, Profile, Status

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BTC, ETH = InstrumentId("sim", "BTC/USDT"), InstrumentId("sim", "ETH/USDT")
PATIENCE_S = 60.0


def _is_running(status: Status) -> bool:
    return bool(status["engine"]["state"] == "running")


class Window:
    """A client of the engine that keeps a replica, and every step of every back-test."""

    def __init__(self, profile: Profile) -> None:
        paths = profile.paths
        self.replica = Replica()
        self.steps: list[BacktestSnapshot] = []
        self.client = LinkClient(local_engine(paths.run), load_pair(paths.keys), name="window", on_fact=self._hear)

    def _hear(self, fact: Fact) -> None:
        self.replica.apply(fact)
        if isinstance(fact, BacktestChanged):
            self.steps.append(fact.backtest)

    async def start(self, spec: BacktestSpec) -> str:
        key = await self.client.request(StartBacktest(spec))
        assert isinstance(key, str)
        return key

    async def ended(self, key: str) -> BacktestSnapshot:
        def over() -> BacktestSnapshot | None:
            known = self.replica.backtests.get(key)
            return None if known is None or known.state is JobState.RUNNING else known

        found = await until(over, timeout_s=PATIENCE_S, what=f"the end of {key}")
        assert found is not None
        return found

    async def result(self, key: str) -> BacktestResult:
        snapshot = await self.ended(key)
        assert snapshot.state is JobState.DONE, snapshot.reason
        return await fetch_result(self.client, key, with_fills=True)


@asynccontextmanager
async def window(profile: Profile) -> AsyncIterator[Window]:
    shown = Window(profile)
    await shown.client.connect(30.0)
    try:
        yield shown
    finally:
        await shown.client.close()


def spec(path: Path | str, until_ns: int, length_ns: int, **changes: Any) -> BacktestSpec:
    fields: dict[str, Any] = {
        "path": str(path),
        "instruments": (BTC,),
        "timeframe": "1m",
        "since_ns": until_ns - length_ns,
        "until_ns": until_ns,
        "fee": Decimal("0.001"),
        "slippage": Decimal("0.0001"),
    }
    return BacktestSpec(**fields | changes)


def yesterday(shown: Window) -> int:
    """Give the end of the last whole day of the simulated market."""
    assert shown.replica.engine is not None
    return bar_open_ns(shown.replica.engine.time_ns, "1d")


def check_result(result: BacktestResult, asked: BacktestSpec) -> None:
    """Hold the figures against the fills that they were reckoned from."""
    figures = result.statistics
    assert list(figures) == list(STATISTICS)
    cash = float(asked.cash)
    net = figures["net_profit"]
    assert net is not None
    assert result.equity[0] == cash
    assert result.equity[-1] == figures["final_equity"] == pytest.approx(cash + net, rel=1e-12)
    assert figures["return"] == pytest.approx(net / cash, rel=1e-9)
    assert math.fsum(trade.pnl for trade in result.trades) == pytest.approx(net, rel=1e-9, abs=1e-9 * cash)
    assert figures["fees"] == pytest.approx(float(sum(fill.fee for fill in result.fills)), rel=1e-9)
    assert figures["fills"] == len(result.fills)
    closed = [trade for trade in result.trades if trade.exit_ns is not None]
    assert (figures["trades"], figures["open_trades"]) == (len(closed), len(result.trades) - len(closed))
    assert figures["win_rate"] == pytest.approx(sum(trade.pnl > 0 for trade in closed) / len(closed))
    bare = [msgspec.structs.replace(trade, mae=None, mfe=None) for trade in closed]
    assert round_trips(result.fills)[: len(closed)] == bare
    assert all(trade.mae is not None and trade.mae <= 0 for trade in closed)
    assert all(trade.mfe is not None and trade.mfe >= 0 for trade in closed)
    for fill in result.fills:
        assert asked.since_ns <= fill.time_ns < asked.until_ns
        assert fill.fee == fill.price * fill.quantity * Decimal("0.001")
    assert {fill.side for fill in result.fills} == set(Side)
    assert result.equity_ns == sorted(set(result.equity_ns))
    assert result.equity_ns[0] == asked.since_ns
    assert asked.until_ns - 60 * SECOND_NS <= result.equity_ns[-1] <= asked.until_ns
    assert len(result.equity) == len(result.equity_ns) <= 4_000


async def test_a_day_of_minutes_is_run_shown_and_run_again(home: Profile, tmp_path: Path) -> None:
    with home.engine() as engine:
        await asyncio.to_thread(engine.wait_for_status, _is_running, "a running engine")
        async with window(home) as shown:
            asked = spec(SAMPLES / "sma_cross.py", yesterday(shown), 14 * DAY_NS, parameters={"fast": 5, "slow": 20})
            key = await shown.start(asked)
            result = await shown.result(key)
            assert (result.name, result.timeframe, result.bars) == ("SMA cross", "1m", 14 * 1440)
            assert result.spec == asked
            check_result(result, asked)
            steps = [step for step in shown.steps if step.backtest_id == key]
            stages = list(dict.fromkeys(step.stage for step in steps))
            assert stages[:3] == ["", "history", "run"]
            assert any(0 < step.progress < 1 for step in steps)
            in_run = [step for step in steps if step.stage == "run" and step.position_ns is not None]
            assert in_run
            assert all(
                step.equity is not None and step.bars > 0 for step in in_run if step.position_ns != asked.since_ns
            )
            assert steps[-1].state is JobState.DONE
            assert steps[-1].progress == 1.0
            again = await shown.result(await shown.start(asked))
            assert again == result
            seconds = spec(SAMPLES / "sma_cross.py", yesterday(shown), 3_600 * SECOND_NS, timeframe="")
            finer = await shown.result(await shown.start(seconds))
            assert finer.timeframe == "1s"
            assert 3_000 < finer.bars <= 3_600  # a second in which nobody trades has no bar
            check_result(finer, seconds)
            await _check_file(shown, tmp_path)
            await shown.client.request(NoteBacktest(key, "two weeks of minutes"))
        assert engine.stop() == 0
    with home.engine() as engine:
        await asyncio.to_thread(engine.wait_for_status, _is_running, "the next engine")
        async with window(home) as shown:
            earlier = shown.replica.backtests
            assert [run.state for run in earlier.values()] == [JobState.DONE] * 4
            on_file = next(run.spec for run in earlier.values() if run.spec.files)
            assert on_file.files == (str(tmp_path / "days.parquet"),)
            assert (earlier[key].note, earlier[key].statistics) == ("two weeks of minutes", result.statistics)
            assert await shown.result(key) == result
            await shown.client.request(DeleteBacktest(key))
            await until(lambda: key not in shown.replica.backtests, what="the run to go")
            found = await shown.client.request(ListBacktests("SMA cross"))
            assert [each["backtest_id"] for each in found] == list(earlier)[::-1]
        assert engine.stop() == 0


async def _check_file(shown: Window, folder: Path) -> None:
    """Run on a file of bars, in the place of a venue's."""
    times = pd.date_range("2020-01-01", periods=300, freq="1D", tz="UTC", name="timestamp")
    closes = [100.0 + 20 * math.sin(number / 15) for number in range(300)]
    opens = [100.0, *closes[:-1]]
    highs, lows = map(max, opens, closes), map(min, opens, closes)
    columns = {"open": opens, "high": list(highs), "low": list(lows), "close": closes, "volume": [1e6] * 300}
    path = folder / "days.parquet"
    pd.DataFrame(columns, index=times).to_parquet(path)
    symbol = InstrumentId(FILE_VENUE, "days")
    asked = BacktestSpec(
        str(SAMPLES / "sma_cross.py"), (symbol,), "", *ALL_NS, {"fast": 5, "slow": 20}, files=(str(path),)
    )
    result = await shown.result(await shown.start(asked))
    since_ns = times[0].value
    assert (result.timeframe, result.bars) == ("1d", 300)
    assert (result.spec.since_ns, result.spec.until_ns) == (since_ns, since_ns + 300 * DAY_NS)
    assert len(result.trades) > 2
    assert {trade.instrument for trade in result.trades} == {symbol}
    with pytest.raises(KocError, match=r"absent\.parquet"):
        await shown.start(msgspec.structs.replace(asked, files=(str(folder / "absent.parquet"),)))


LOOPS = """
from koc_qt.sdk import Strategy

class Loops(Strategy):
    def on_bar(self, bar):
        while True:
            pass
"""
SLOW = """
import time
from koc_qt.sdk import Strategy

class Slow(Strategy):
    def on_bar(self, bar):
        time.sleep(0.01)
"""
BROKEN = """
from koc_qt.sdk import Strategy

class Broken(Strategy):
    def on_bar(self, bar):
        return self.nothing
"""
PEEKS = """
from koc_qt.sdk import Strategy

class Peeks(Strategy):
    def on_start(self):
        open("/etc/passwd").read()
    def on_bar(self, bar): ...
"""


async def test_what_can_go_wrong_is_said_and_everything_can_be_stopped(home: Profile, tmp_path: Path) -> None:
    def written(name: str, text: str) -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text(text, encoding="utf-8")
        return file

    with home.engine() as engine:
        await asyncio.to_thread(engine.wait_for_status, _is_running, "a running engine")
        async with window(home) as shown:
            until_ns = yesterday(shown)

            async def reason(name: str, text: str, **changes: Any) -> str:
                key = await shown.start(spec(written(name, text), until_ns, DAY_NS, **changes))
                ended = await shown.ended(key)
                assert ended.state is JobState.FAILED
                with pytest.raises(KocError, match="has no result"):
                    await shown.client.request(FetchBacktest(key))
                return ended.reason

            assert "line 3" in await reason("syntax", "from koc_qt.sdk import Strategy\n\nclass Broken(Strategy:\n")
            assert "has no attribute 'nothing' (line 6)" in await reason("broken", BROKEN)
            assert "PermissionError" in await reason("peeks", PEEKS)
            assert "wants 1 instrument" in await reason("two", SLOW, instruments=(BTC, ETH))
            future = spec(written("future", SLOW), until_ns + 90 * DAY_NS, DAY_NS)
            assert "no bar of 1m opens" in (await shown.ended(await shown.start(future))).reason
            with pytest.raises(KocError, match="cannot be read"):
                await shown.start(spec(tmp_path / "absent.py", until_ns, DAY_NS))
            with pytest.raises(KocError, match="no symbol 'NO/SUCH'"):
                await shown.start(
                    spec(written("slow", SLOW), until_ns, DAY_NS, instruments=(InstrumentId("sim", "NO/SUCH"),))
                )

            slow = await shown.start(spec(written("slow", SLOW), until_ns, DAY_NS))
            loops = await shown.start(spec(written("loops", LOOPS), until_ns, DAY_NS))
            waits = await shown.start(spec(written("slow", SLOW), until_ns, DAY_NS))
            await until(lambda: shown.replica.backtests[slow].bars > 20, timeout_s=PATIENCE_S, what="some bars")
            await until(lambda: shown.replica.backtests[loops].stage == "run", timeout_s=PATIENCE_S, what="the loop")
            assert "waits for its turn" in shown.replica.backtests[waits].reason
            for key in (slow, loops):
                await asyncio.wait_for(shown.client.request(StopBacktest(key)), 5.0)
                assert (await shown.ended(key)).state is JobState.STOPPED
            await until(lambda: shown.replica.backtests[waits].bars > 0, timeout_s=PATIENCE_S, what="its turn")
        assert engine.stop() == 0  # with one that still runs
