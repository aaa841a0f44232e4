"""The bar builder against bars that others hold: recorded ones, and a slow computation of our own."""

from __future__ import annotations

import random
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from koc_qt.domain.bars import BarBuilder, merge, resample, validate_bars
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Side, Trade
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from tests.unit.domain.examples import BTC, START_NS, D

RECORDED = Path(__file__).parents[3] / "../shared/market_data"
XRP = InstrumentId("binance", "XRP/ETH")


def built(trades: Iterable[Trade], instrument: InstrumentId, timeframe: str, *, ticking: bool = False) -> list[Bar]:
    """Build all bars; `ticking` also lets the market's clock close them, to the nanosecond of each trade."""
    builder = BarBuilder(instrument, timeframe)
    bars: list[Bar] = []
    last_ns = 0
    for trade in trades:
        if ticking:
            bars += builder.close_until(trade.time_ns)
        bars += builder.add(trade)
        last_ns = trade.time_ns
    bars += builder.close_until(last_ns + duration_ns(timeframe))
    assert builder.forming is None
    assert builder.late == 0
    return bars


def recorded(name: str) -> dict[str, list[float]]:
    path = RECORDED / name
    if not path.exists():
        pytest.skip(f"the recorded market data is not beside the project: no {path.name}")
    table = pyarrow.parquet.read_table(path)
    columns = {column: table.column(column).to_pylist() for column in table.column_names if column != "timestamp"}
    times = table.column("timestamp").cast(pyarrow.timestamp("ns", "UTC")).cast(pyarrow.int64())
    return columns | {"time_ns": times.to_pylist()}


def test_recorded_trades_make_the_candles_that_an_independent_project_holds():
    rows = recorded("binance_XRP-ETH_trades_2019-10.parquet")
    candles = recorded("binance_XRP-ETH_1m_2019-10.parquet")
    trades = [
        Trade(XRP, time_ns, D(repr(price)), D(repr(amount)), Side(side), str(trade_id))
        for time_ns, price, amount, side, trade_id in zip(
            rows["time_ns"], rows["price"], rows["amount"], rows["side"], rows["id"], strict=True
        )
    ]
    names = ("time_ns", "open", "high", "low", "close", "volume")
    expected = [
        Bar(XRP, "1m", *values)
        for values in zip(*(candles[name] for name in names), strict=True)
        if values[-1]  # minutes without trades are no bars
    ]
    assert len(trades) == 12_477
    bars = built(trades, XRP, "1m")
    assert bars == expected
    assert len(bars) == 2_469
    assert built(trades, XRP, "1m", ticking=True) == bars
    validate_bars(bars, "1m")
    assert merge(bars[:1500], bars[1400:]) == bars
    for timeframe in ("5m", "1h", "1d"):  # volumes here are whole numbers: sums of floats are exact
        assert resample(bars, timeframe, until_ns=2**62) == built(trades, XRP, timeframe)


def slow_bar(trades: list[Trade], open_time_ns: int, timeframe: str) -> Bar:
    """Make one bar from all of its trades, in fractions."""
    prices = [Fraction(trade.price) for trade in trades]
    volume = sum((Fraction(trade.quantity) for trade in trades), Fraction(0))
    values = map(float, (prices[0], max(prices), min(prices), prices[-1], volume))
    return Bar(trades[0].instrument, timeframe, open_time_ns, *values)


@pytest.mark.parametrize("timeframe", ["1s", "1m", "7m", "1h", "1w"])
def test_made_up_trades_make_the_bars_that_a_slow_computation_makes(timeframe):
    dice = random.Random(f"bars of {timeframe}")
    mean_gap_ns = duration_ns(timeframe) / 20
    time_ns, ticks, trades = START_NS + 123_456_789, 20_000, []
    for number in range(4_000):
        quiet = 60 if dice.random() < 0.01 else 1  # some bars have no trade
        time_ns += int(dice.expovariate(1 / mean_gap_ns)) * quiet
        ticks += dice.choice((-2, -1, 0, 0, 1, 2))
        quantity = D(dice.randrange(1, 10**9)).scaleb(-8)
        trades.append(Trade(BTC, time_ns, D(ticks).scaleb(-4), quantity, dice.choice(list(Side)), str(number)))
    groups: dict[int, list[Trade]] = {}
    for trade in trades:
        groups.setdefault(bar_open_ns(trade.time_ns, timeframe), []).append(trade)
    expected = [slow_bar(group, open_time_ns, timeframe) for open_time_ns, group in groups.items()]
    span = (expected[-1].open_time_ns - expected[0].open_time_ns) // duration_ns(timeframe) + 1
    assert 50 < len(expected) < span  # there are gaps
    assert built(trades, BTC, timeframe) == expected
    assert built(trades, BTC, timeframe, ticking=True) == expected
    validate_bars(expected, timeframe)
