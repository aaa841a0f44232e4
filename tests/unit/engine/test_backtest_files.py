"""Back-tests and checks on files of bars, as the engine runs them: real files, and real workers but for their process.

A twin of them runs on recorded markets, where these are.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pandas as pd
import pytest

from koc_qt.domain.backtests import ALL_NS, FILE_VENUE, BacktestResult, BacktestSpec
from koc_qt.domain.errors import BadBars, BadTimeframe, ConfigError, KocError, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.optimisation import StudySpec
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.domain.trust import Check, TrustSpec, Verdict
from koc_qt.engine.backtest_files import Reading
from koc_qt.engine.backtests import Backtests, prepare
from koc_qt.engine.trust import TrustService
from koc_qt.link.results import fetch_result
from koc_qt.wiring.bar_files import BarFiles
from tests.conditions import until
from tests.e2e.processes import ROOT
from tests.fakes.threads import ThreadLauncher
from tests.fakes.trading import BTC
from tests.unit.engine.desk import EngineDesk

SMA = (ROOT / "strategies" / "sma_cross.py").read_text(encoding="utf-8")
RECORDED = ROOT.parent / "shared" / "market_data"
FAST: dict[str, Any] = {"fast": 3, "slow": 9}


def written(folder: Path, name: str = "walk.parquet", count: int = 300, step: str = "1h", **columns: Any) -> str:
    """Write a random walk that begins on 2 January 2020, and give its path."""
    rng, closes = Random(7), [100.0]
    for _ in range(count):
        closes.append(round(closes[-1] * rng.uniform(0.98, 1.0205), 2))
    opens, closes = closes[:-1], closes[1:]
    values = {
        "open": opens,
        "high": list(map(max, opens, closes)),
        "low": list(map(min, opens, closes)),
        "close": closes,
        "volume": [1e6] * count,
    }
    index = pd.date_range("2020-01-02", periods=count, freq=step, tz="UTC", name="timestamp")
    frame = pd.DataFrame(values | columns, index=index)
    path = folder / name
    if path.suffix == ".csv":
        frame.to_csv(path)
    else:
        frame.to_parquet(path)
    return str(path)


class Desk:
    """An engine whose back-tests run."""

    def __init__(self, engine: EngineDesk) -> None:
        self.engine = engine
        self.launcher = ThreadLauncher()
        self.services = engine.services.__class__(**{**vars(engine.services), "launcher": self.launcher})
        self.tests = Backtests(self.services, engine.folder / "runs", silence_limit_s=20.0)
        self.trust = TrustService(self.services, engine.folder / "checks", engine.sessions, silence_limit_s=20.0)

    def spec(self, *files: str, **changes: Any) -> BacktestSpec:
        names = tuple(InstrumentId(FILE_VENUE, Path(file).stem) for file in files)
        fields = {"path": self.engine.file(SMA, "mine.py"), "instruments": names, "timeframe": "", "parameters": FAST}
        since_ns, until_ns = ALL_NS
        return BacktestSpec(**(fields | {"since_ns": since_ns, "until_ns": until_ns, "files": files} | changes))  # type: ignore[arg-type]

    async def request(self, command: Any, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out, as a client does."""
        return msgspec.msgpack.decode(msgspec.msgpack.encode(await self.tests.execute(command)))

    async def result(self, spec: BacktestSpec) -> BacktestResult:
        key = await self.tests.start(spec)
        await until(lambda: not self.tests._tasks, timeout_s=60.0, what=f"the end of {key}")
        [run] = [each for each in self.tests.all if each.backtest_id == key]
        assert run.state is JobState.DONE, run.reason
        return await fetch_result(self, key, with_fills=True)

    async def refusal(self, spec: BacktestSpec) -> str:
        with pytest.raises(KocError) as refused:
            await self.tests.start(spec)
        return str(refused.value)


@pytest.fixture
async def desk(engine: EngineDesk) -> AsyncIterator[Desk]:
    made = Desk(engine)
    yield made
    await made.tests.close()
    await made.trust.close()
    await made.launcher.close()


# ---- runs


@pytest.mark.parametrize("name", ["walk.parquet", "a walk ☃.csv"])
async def test_a_run_has_the_files_timeframe_and_range_where_none_was_asked_for(
    desk: Desk, tmp_path: Path, name: str
) -> None:
    path = written(tmp_path, name)
    result = await desk.result(desk.spec(path))
    first_ns = pd.Timestamp("2020-01-02", tz="UTC").value
    assert (result.spec.timeframe, result.timeframe, result.bars) == ("1h", "1h", 300)
    assert (result.spec.since_ns, result.spec.until_ns) == (first_ns, first_ns + 300 * 3_600 * 10**9)
    assert result.spec.files == (path,)
    assert len(result.trades) > 5
    assert {fill.instrument for fill in result.fills} == {InstrumentId(FILE_VENUE, Path(path).stem)}
    assert desk.tests.find(f"{Path(path).name}")[0].spec == result.spec
    again = await desk.result(result.spec)  # as the panel does it again
    assert again == result


async def test_part_of_a_file_in_longer_bars_and_under_the_name_of_a_market(desk: Desk, tmp_path: Path) -> None:
    since_ns = pd.Timestamp("2020-01-05", tz="UTC").value
    spec = desk.spec(
        written(tmp_path), timeframe="4h", since_ns=since_ns, until_ns=since_ns + 400 * DAY_NS, instruments=(BTC,)
    )
    result = await desk.result(spec)
    assert (result.timeframe, result.spec.since_ns, result.bars) == ("4h", since_ns, (300 - 72) // 4)
    assert result.spec.instruments == (BTC,)


async def test_what_was_done_to_a_file_is_in_the_log(desk: Desk, tmp_path: Path) -> None:
    path = written(tmp_path, volume=[float("nan")] * 300)
    result = await desk.result(desk.spec(path))
    assert result.log[0] == "walk.parquet: 300 rows without a volume, which is taken as 0"


async def test_files_that_cannot_be_believed_are_refused_at_once_with_the_row(desk: Desk, tmp_path: Path) -> None:
    absent, folder = str(tmp_path / "absent.parquet"), str(tmp_path)
    assert "absent.parquet" in await desk.refusal(desk.spec(absent))
    assert folder in await desk.refusal(desk.spec(folder))
    assert "nul\0.csv" in await desk.refusal(desk.spec(str(tmp_path / "nul\0.csv")))
    low = written(tmp_path, "low.parquet", low=[50.0] * 10 + [1e6] + [50.0] * 289)
    assert "row 11" in await desk.refusal(desk.spec(low))
    walk = written(tmp_path)
    assert await desk.refusal(desk.spec(walk, timeframe="1m")) == (
        f"{walk} holds bars of 1h: bars of 1m cannot be made of them"
    )
    days = written(tmp_path, "days.parquet", step="1D")
    assert "bars of several lengths" in await desk.refusal(desk.spec(walk, days))
    assert await desk.refusal(desk.spec(walk, since_ns=0, until_ns=DAY_NS)) == (
        "the bars are from 2020-01-02 00:00:00 UTC to 2020-01-14 12:00:00 UTC: choose a range within that"
    )
    assert "how large a tick is" in await desk.refusal(desk.spec(walk, slippage_ticks=1))
    assert "given twice" in await desk.refusal(desk.spec(walk, walk))
    with pytest.raises(ConfigError, match="1 files for 2 symbols: bring one for each"):
        desk.spec(walk, instruments=(BTC, InstrumentId(FILE_VENUE, "x")))
    assert desk.tests.all == ()


async def test_a_tick_a_lot_and_rows_to_leave_out_are_part_of_a_run(desk: Desk, tmp_path: Path) -> None:
    bad = written(tmp_path, low=[50.0] * 10 + [1e6] + [50.0] * 289)
    grid = {"tick": Decimal("0.5"), "lot": Decimal("0.25"), "skip_bad": True, "slippage_ticks": 2}
    result = await desk.result(desk.spec(bad, **grid))
    assert result.bars == 299
    assert len(result.fills) > 5
    assert {fill.price % Decimal("0.5") for fill in result.fills} == {0}
    assert {fill.quantity % Decimal("0.25") for fill in result.fills} == {0}
    assert result.provenance is not None
    again = await desk.result(result.spec)  # as the panel does it again
    assert again == result
    assert "is above its lowest price" in await desk.refusal(desk.spec(bad, tick=Decimal(51), skip_bad=True))
    with pytest.raises(ConfigError, match="a lot is above zero and below"):
        desk.spec(bad, lot=Decimal(0))
    with pytest.raises(ConfigError, match="are for bars from files"):
        desk.spec(tick=Decimal(1), instruments=(BTC,))


async def test_a_full_queue_refuses_before_a_file_is_read(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("koc_qt.engine.backtests.AT_ONCE", 0)
    monkeypatch.setattr("koc_qt.engine.backtests.WAITING_LIMIT", 0)
    with pytest.raises(StrategyError, match="wait for their turn already"):
        await desk.tests.start(desk.spec(str(tmp_path / "absent.parquet")))


async def test_a_file_is_read_once_for_runs_at_one_time_and_again_when_it_has_changed(tmp_path: Path) -> None:
    path, name = written(tmp_path), (InstrumentId(FILE_VENUE, "walk"),)
    files = BarFiles()
    first, second = await asyncio.gather(*(files.open(Reading((path,), name)) for _ in range(2)))
    assert len(files._known) == 1
    written(tmp_path, count=200)
    os.utime(path, ns=(1, 1))
    third = await files.open(Reading((path,), name))
    assert (third.span.since_ns, third.span.until_ns < first.span.until_ns) == (first.span.since_ns, True)
    assert first.span == second.span
    del first, second, third
    await until(lambda: not files._known, what="what was read to be let go")


# ---- checks and searches


async def test_checks_are_made_on_the_file(desk: Desk, tmp_path: Path) -> None:
    spec = TrustSpec(desk.spec(written(tmp_path)), (Check.LOOKAHEAD, Check.WALK_FORWARD), cuts=2, windows=2)
    key = await desk.trust.start(spec)
    await until(lambda: not desk.trust._tasks, timeout_s=60.0, what="the end of the checks")
    report = desk.trust.report(key)
    assert report.failed == {}
    assert report.lookahead is not None
    assert (report.lookahead.verdict, report.lookahead.change_count) == (Verdict.GREEN, 0)
    assert report.lookahead.decisions > 10
    assert report.walk_forward is not None
    assert report.spec.backtest.timeframe == "1h"


async def test_checks_refuse_a_bad_file_and_a_search_prepares_on_a_good_one(desk: Desk, tmp_path: Path) -> None:
    with pytest.raises(BadBars, match=r"absent\.csv"):
        await desk.trust.start(TrustSpec(desk.spec(str(tmp_path / "absent.csv"))))
    with pytest.raises(BadTimeframe):
        await desk.trust.start(TrustSpec(desk.spec(written(tmp_path), timeframe="7m")))
    made = await prepare(StudySpec(desk.spec(written(tmp_path))).base, desk.services)
    assert made.services.history is not desk.services.history
    assert [rules.id for rules in made.instruments] == [InstrumentId(FILE_VENUE, "walk")]


# ---- the twin


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded markets are not here")
@pytest.mark.parametrize(
    ("name", "timeframe", "count"),
    [
        ("us_GOOG_1d_2004-2013", "1d", 2148),
        ("us_SPY_1m_2013-10", "1m", 4128),
        ("fx_EUR-USD_1h_2017-2018", "1h", 5000),
        ("coinbase_BTC-USD_1m_2018-04", "1m", 3887),
    ],
)
async def test_recorded_markets_are_run_as_they_are(desk: Desk, name: str, timeframe: str, count: int) -> None:
    result = await desk.result(desk.spec(str(RECORDED / f"{name}.parquet")))
    assert (result.timeframe, result.bars, result.spec.timeframe) == (timeframe, count, timeframe)
    assert len(result.trades) > 5
