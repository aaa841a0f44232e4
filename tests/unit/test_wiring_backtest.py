"""What runs back-tests without an engine: rules of symbols, stored bars, and what becomes of a run that is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication

from koc_qt.config import load_config
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import BadBars, BadTimeframe, StrategyError, VenueRejected
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.paths import Paths
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.wiring.backtest import DataFile, file_bench, find_rules, on_qt, run, venue_bench
from tests.e2e.processes import SAMPLES
from tests.fakes.clock import FakeClock
from tests.fakes.market import FakeDataVenue
from tests.fakes.trading import BTC, BTC_RULES, ETH_RULES

pytestmark = pytest.mark.usefixtures("qapp")
SIM = InstrumentId("sim", "BTC/USDT")
BEGIN_NS = 1_704_067_200_000_000_000  # 2024-01-01


class OpenVenue(FakeDataVenue):
    """Has more symbols than it lists, as OpenCatalogue says."""

    async def find(self, symbol: str) -> Instrument:
        """Make rules up."""
        return msgspec.structs.replace(BTC_RULES, id=InstrumentId(self.name, symbol))


async def test_rules_are_listed_found_or_refused_with_what_is_like_them() -> None:
    venue = FakeDataVenue(FakeClock(), instruments=(BTC_RULES, ETH_RULES))
    assert await find_rules(venue, BTC.symbol) == BTC_RULES
    with pytest.raises(VenueRejected, match="sim has no symbol 'BTC/USD'; it has, for example, BTC/USDT"):
        await find_rules(venue, "BTC/USD")
    found = await find_rules(OpenVenue(FakeClock()), "NEW/USDT")
    assert found.id == InstrumentId("sim", "NEW/USDT")


def test_a_bench_on_a_venue_has_its_bars_and_its_clock(profile: Paths) -> None:
    async def work() -> tuple[int, int]:
        async with venue_bench(load_config(profile), profile, [SIM, InstrumentId("sim2", "ETH/USDT")]) as bench:
            assert [str(rules.id) for rules in bench.instruments] == ["sim:BTC/USDT", "sim2:ETH/USDT"]
            assert abs(bench.now_ns - bench.clock.time_ns()) < 60 * 10**9
            columns = await bench.history.columns(BarSeries(SIM, "1h"), Span(BEGIN_NS, BEGIN_NS + DAY_NS))
            longer = await bench.history.columns(BarSeries(SIM, "2h"), Span(BEGIN_NS, BEGIN_NS + DAY_NS))
            assert np.array_equal(longer.open, columns.open[::2])
            return len(columns.open), len(longer.open)

    assert on_qt(work) == (24, 12)


def test_a_run_on_a_venue(profile: Paths) -> None:
    spec = BacktestSpec(str(SAMPLES / "sma_cross.py"), (SIM,), "1h", BEGIN_NS, BEGIN_NS + 10 * DAY_NS, fee=Decimal(0))

    async def work() -> int:
        async with venue_bench(load_config(profile), profile, [SIM]) as bench:
            outcome = await run(bench, spec)
            with pytest.raises(StrategyError, match="no bar of 1h opens and closes within that range"):
                await run(bench, msgspec.structs.replace(spec, since_ns=1 << 62, until_ns=(1 << 62) + 1))
        assert outcome.described.name == outcome.result.name == "SMA cross"
        assert len(outcome.result.fills) == outcome.result.statistics["fills"]
        return outcome.result.bars

    assert on_qt(work) == 240


def _bars(path: Path, step_s: int) -> Path:
    lines = [f"{1_704_067_200 + number * step_s},1,2,0.5,1,1" for number in range(5)]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *lines]), encoding="utf-8")
    return path


def test_files_of_one_bench_have_bars_of_one_length(profile: Paths, tmp_path: Path) -> None:
    hours = DataFile(_bars(tmp_path / "a.csv", 3_600), InstrumentId("file", "A"))
    minutes = DataFile(_bars(tmp_path / "b.csv", 60), InstrumentId("file", "B"))

    async def work(*files: DataFile) -> tuple[str, int | None, int]:
        async with file_bench(load_config(profile), files) as bench:
            return bench.timeframe, bench.since_ns, bench.now_ns

    assert on_qt(lambda: work(hours)) == ("1h", BEGIN_NS, BEGIN_NS + 5 * 3_600 * 10**9)
    with pytest.raises(BadTimeframe, match="bars of several lengths"):
        on_qt(lambda: work(hours, minutes))
    with pytest.raises(BadBars, match="cannot be read"):
        on_qt(lambda: work(DataFile(tmp_path / "c.csv", InstrumentId("file", "C"))))


def test_a_signal_cancels_the_work_once_and_lets_it_clean_up() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            os.kill(os.getpid(), signal.SIGINT)  # a second one ends no cleaning up
            await asyncio.sleep(0.3)
            seen.append("cleaned up")
            raise

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        on_qt(work)
    assert seen == ["cleaned up"]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_the_work_raises_comes_out() -> None:
    async def work() -> None:
        raise StrategyError("no")

    with pytest.raises(StrategyError, match="no"):
        on_qt(work)
    assert QCoreApplication.instance() is not None
