"""The certificate of every strategy in strategies/: each engine that can run it makes the same trades, many of them."""

from __future__ import annotations

import importlib
import random
import sys
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.parity import Certificate, EngineRun, certify
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trust import Verdict
from koc_qt.sdk.channel import ReplayBars
from koc_qt.sdk.parameters import set_parameters
from koc_qt.sdk.strategy import engines_of
from koc_qt.worker.engines import run_class
from koc_qt.worker.loader import load_strategy
from tests.unit.worker.replays import start_replay

SAMPLES = Path(__file__).parents[3] / "strategies"
MARKETS = Path(__file__).parents[4] / "shared" / "market_data"
COSTS: dict[str, dict[str, Any]] = {
    "plain": {"volume_fraction": None},
    "costly": {"spread": Decimal("0.0001"), "slippage_ticks": 1},
}
START_NS = 1_700_006_400_000_000_000
Row = tuple[int, float, float, float, float, float]  # opening time, open, high, low, close, volume

# what each is run with, so that it trades on bars of any length; and which engines can run it
PARAMETERS: dict[str, dict[str, Any]] = {
    "sma_cross": {"notional": 20_000.0},
    "sma_signals": {"fast": 5, "slow": 20, "quantity": 7.5},
    "scalping": {"average_s": 600.0, "margin_bp": 0.5, "stop_bp": 30.0, "notional": 20_000.0},
    "arbitrage": {"patience_s": 3_600.0, "notional": 20_000.0, "margin_bp": 0.5},
}
ALL = (Engine.REPLAY, Engine.VECTORBT, Engine.BACKTRADER)
CALLED = (Engine.REPLAY, Engine.BACKTRADER)
SUPPORTED = {"sma_cross": CALLED, "sma_signals": ALL, "scalping": CALLED, "arbitrage": CALLED}

pytestmark = pytest.mark.timeout(120)  # the libraries take seconds to load, on a busy machine many


@pytest.fixture(autouse=True)
def no_strategy_left() -> Iterator[None]:
    yield
    sys.modules.pop("koc_strategy", None)


def certificate(name: str, rows: Sequence[Row], timeframe: str, costs: str) -> tuple[Certificate, dict[str, int]]:
    """Run a sample on all engines that can; gives the certificate, and how many of the fills were whose."""
    strategy = load_strategy((SAMPLES / f"{name}.py").read_bytes(), f"{name}.py")
    assert engines_of(strategy) == SUPPORTED[name]
    venues = ("one", "other")[: strategy.instruments_wanted]
    tick, fee = Decimal("0.00001"), Decimal("0.00001")
    instruments = tuple(
        Instrument(InstrumentId(venue, "X/USD"), "X", "USD", tick, tick, maker_fee=fee, taker_fee=fee)
        for venue in venues
    )
    message = _message(rows, len(venues))
    # vectorbt has no ticks, and is kinder with volume: it is held against the others where there are no such costs
    engines = [each for each in engines_of(strategy) if costs == "plain" or each is not Engine.VECTORBT]
    runs, makers = [], 0
    for engine in engines:
        if engine is not Engine.REPLAY:
            importlib.import_module(f"koc_qt.worker.engines.{engine}")
        made = strategy()
        set_parameters(made, PARAMETERS[name])
        start = start_replay(
            engine=engine, instruments=instruments, timeframe=timeframe, since_ns=rows[0][0], cash=Decimal(10**6),
            **COSTS[costs],
        )  # fmt: skip
        run = run_class(engine, strategy)(made, start, lambda *_: None)
        run.start()
        run.play(message, lambda: 1_000)
        run.play_kept(lambda: 1_000)
        run.finish()
        trades = tuple(run.trips.trips(run.marks))
        runs.append(EngineRun(str(engine), tuple(run.fills), trades, None, run.fill_count))
        makers = sum(fill.liquidity == "maker" for fill in run.fills)
    found = certify(runs, bar_ns=duration_ns(timeframe))
    assert found.engines == tuple(map(str, engines))
    return found, {"fills": runs[0].fill_count or 0, "makers": makers}


def _message(rows: Sequence[Row], venues: int) -> ReplayBars:
    """Put a market into a message; a second venue hears of everything a bar later."""
    columns = list(zip(*rows, strict=True))
    if venues == 1:
        times, *values = (list(column) for column in columns)
        return ReplayBars(False, [0] * len(rows), times, *values)
    both = [(0, rows[number]) for number in range(1, len(rows))]
    both += [(1, (rows[number][0], *rows[number - 1][1:])) for number in range(1, len(rows))]
    both.sort(key=lambda pair: (pair[1][0], pair[0]))
    times, *values = (list(column) for column in zip(*(row for _, row in both), strict=True))
    return ReplayBars(False, [row for row, _ in both], times, *values)


def made_market(count: int = 400) -> list[Row]:
    """Give minutes that swing, gap and stand still, with volume that is sometimes scarce."""
    rng, price, fair, found = random.Random(11), 100.0, 100.0, []
    for number in range(count):
        fair += rng.gauss(0, 0.08)
        close = round(price + (fair - price) * 0.3 + rng.gauss(0, 0.25), 2)
        opening = price if rng.random() < 0.8 else round(price + rng.gauss(0, 0.1), 2)
        high = round(max(opening, close) + rng.randrange(20) / 100, 2)
        low = round(min(opening, close) - rng.randrange(20) / 100, 2)
        volume = rng.choice((500.0, 5_000.0, 50_000.0))
        found.append((START_NS + number * 60 * 10**9, opening, high, low, close, volume))
        price = close
    return found


@pytest.mark.parametrize("costs", COSTS)
@pytest.mark.parametrize("name", PARAMETERS)
def test_the_certificate_of_every_strategy_is_green(name: str, costs: str) -> None:
    found, counts = certificate(name, made_market(), "1m", costs)
    assert found.verdict is Verdict.GREEN, found.sentence
    assert counts["fills"] >= 30
    assert all(each.fills == each.fills_equal == each.fills_expected for each in found.comparisons)
    assert all(each.trades == each.trades_equal >= 15 for each in found.comparisons)
    if name == "scalping":
        assert counts["makers"] >= 15  # it rests, and is filled at its own prices


RECORDED = {
    "us_GOOG_1d_2004-2013": "1d", "us_SPY_1m_2013-10": "1m", "fx_EUR-USD_1h_2017-2018": "1h",
    "coinbase_BTC-USD_1m_2018-04": "1m",
}  # fmt: skip


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("market", RECORDED)
def test_the_certificate_is_green_on_recorded_markets(name: str, market: str) -> None:
    path = MARKETS / f"{market}.parquet"
    if not path.exists():
        pytest.skip(f"the recorded market {market} is not on this machine")
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(path).slice(0, 300).to_pydict()
    times = [round(time.timestamp()) * 10**9 for time in columns["timestamp"]]
    prices = [columns[each] for each in ("open", "high", "low", "close", "volume")]
    found, counts = certificate(name, list(zip(times, *prices, strict=True)), RECORDED[market], "plain")
    assert found.verdict is Verdict.GREEN, found.sentence
    assert counts["fills"] >= 6


def test_a_certificate_over_no_trade_is_not_green() -> None:
    flat = [(START_NS + number * 60 * 10**9, 100.0, 100.0, 100.0, 100.0, 9.0) for number in range(50)]
    for name in PARAMETERS:
        found, counts = certificate(name, flat, "1m", "plain")
        assert (counts["fills"], found.verdict) == (0, Verdict.NONE), name
        assert "nothing to compare" in found.sentence
