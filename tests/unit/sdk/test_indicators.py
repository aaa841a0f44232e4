"""Every indicator against TA-Lib (VWAP against numpy), on random walks, on recorded bars, for a million updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import talib
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Side, Trade
from koc_qt.sdk import StrategyError
from koc_qt.sdk.indicators import (
    ADX,
    ATR,
    EMA,
    MACD,
    OBV,
    ROC,
    RSI,
    SMA,
    VWAP,
    WMA,
    Bollinger,
    Donchian,
    Highest,
    Indicator,
    Lowest,
    StdDev,
    Stochastic,
)
from koc_qt.sdk.indicators._base import CompensatedSum, SlidingFold

RECORDED = Path(__file__).parents[3] / "../shared/market_data"
BTC = InstrumentId("sim", "BTC/USDT")
MINUTE_NS = 60_000_000_000
START_NS = 1_700_000_000_000_000_000
TOLERANCE = 1e-9

Floats = np.ndarray[Any, np.dtype[np.float64]]


def random_bars(seed: int, count: int = 1_500, price: float = 30_000.0) -> list[Bar]:
    rng = np.random.default_rng(seed)
    close = price * np.exp(np.cumsum(rng.normal(0, 0.002, count)))
    open_ = np.concatenate([[price], close[:-1]])
    high = np.maximum(open_, close) * (1 + np.abs(rng.normal(0, 0.001, count)))
    low = np.minimum(open_, close) * (1 - np.abs(rng.normal(0, 0.001, count)))
    volume = rng.gamma(2.0, 5.0, count)
    return to_bars(open_, high, low, close, volume)


def to_bars(open_: Floats, high: Floats, low: Floats, close: Floats, volume: Floats) -> list[Bar]:
    columns = zip(*(column.tolist() for column in (open_, high, low, close, volume)), strict=True)
    return [Bar(BTC, "1m", START_NS + index * MINUTE_NS, *row) for index, row in enumerate(columns)]


def recorded_bars(name: str, scale: float) -> list[Bar]:
    path = RECORDED / name
    if not path.exists():
        pytest.skip(f"the recorded market data is not beside the project: {path.name}")
    import pyarrow.parquet as parquet

    table = parquet.read_table(path).slice(0, 2_500)
    # TA-Lib takes variances and sums below 1e-14 for zero: prices of 0.0015 are scaled out of its reach.
    prices = [table[name].to_numpy() * scale for name in ("open", "high", "low", "close")]
    return to_bars(*prices, table["volume"].to_numpy())


RANDOM = [pytest.param(lambda seed=seed: random_bars(seed), id=f"random {seed}") for seed in (1, 2, 3)]
FROM_DISK = [
    pytest.param(lambda name=name, scale=scale: recorded_bars(name, scale), id=name)
    for name, scale in [
        ("binance_XRP-ETH_1m_2019-10.parquet", 1e6),
        ("binance_ETH-BTC_5m_2018-01.parquet", 1e4),
        ("us_SPY_1m_2013-10.parquet", 1.0),
        ("us_GOOG_1d_2004-2013.parquet", 1.0),
    ]
]
every_series = pytest.mark.parametrize("make_bars", RANDOM + FROM_DISK)


def column(bars: Sequence[Bar], name: str) -> Floats:
    return np.array([getattr(bar, name) for bar in bars])


def run(indicator: Any, values: Sequence[Any], *lines: str) -> list[Floats]:
    """Feed all values and give each line, NaN where the indicator had no value."""
    rows = []
    for value in values:
        given_back = indicator.update(value)
        assert given_back == indicator.value
        assert indicator.ready is (given_back is not None)
        rows.append([np.nan if (seen := getattr(indicator, line)) is None else seen for line in ("value", *lines)])
    return list(np.array(rows).T)


def assert_agrees(ours: Floats, theirs: Floats, scale: float = 0.0) -> None:
    """Hold to 1e-9 relative to the value, or to `scale` where the value is a difference of larger ones."""
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE * scale)


BarMaker = Callable[[], list[Bar]]


@every_series
@pytest.mark.parametrize("period", [1, 2, 5, 20, 200])
def test_averages(make_bars: BarMaker, period: int) -> None:
    bars = make_bars()
    close = column(bars, "close")
    assert_agrees(run(SMA(period), bars)[0], talib.SMA(close, period) if period > 1 else close)
    assert_agrees(run(WMA(period), bars)[0], talib.WMA(close, period) if period > 1 else close)
    assert_agrees(run(EMA(period), bars)[0], talib.EMA(close, period) if period > 1 else close)


@every_series
@pytest.mark.parametrize(("fast", "slow", "signal"), [(12, 26, 9), (3, 10, 4), (5, 35, 5), (2, 3, 2)])
def test_macd(make_bars: BarMaker, fast: int, slow: int, signal: int) -> None:
    bars = make_bars()
    close = column(bars, "close")
    ours = run(MACD(fast, slow, signal), bars, "signal", "histogram")
    for mine, theirs in zip(ours, talib.MACD(close, fast, slow, signal), strict=True):
        assert_agrees(mine, theirs, scale=1e-3 * float(close.max()))


def test_macd_begins_with_its_signal() -> None:
    macd = MACD(3, 6, 4)
    ready = [macd.update(float(price)) is not None for price in range(1, 20)]
    assert ready.index(True) == 6 + 4 - 2
    assert macd.signal is not None


@every_series
@pytest.mark.parametrize("period", [2, 5, 14])
def test_momentum(make_bars: BarMaker, period: int) -> None:
    bars = make_bars()
    close, high, low = (column(bars, name) for name in ("close", "high", "low"))
    assert_agrees(run(RSI(period), bars)[0], talib.RSI(close, period), scale=1)
    assert_agrees(run(ROC(period), bars)[0], talib.ROC(close, period), scale=1)
    adx, plus_di, minus_di = run(ADX(period), bars, "plus_di", "minus_di")
    assert_agrees(adx, talib.ADX(high, low, close, period), scale=1)
    known = ~np.isnan(adx)
    assert_agrees(plus_di[known], talib.PLUS_DI(high, low, close, period)[known], scale=1)
    assert_agrees(minus_di[known], talib.MINUS_DI(high, low, close, period)[known], scale=1)


@every_series
@pytest.mark.parametrize(("period", "smooth", "signal"), [(14, 3, 3), (5, 1, 1), (8, 5, 3)])
def test_stochastic(make_bars: BarMaker, period: int, smooth: int, signal: int) -> None:
    bars = make_bars()
    ours = run(Stochastic(period, smooth, signal), bars, "d")
    theirs = talib.STOCH(
        *(column(bars, name) for name in ("high", "low", "close")),
        fastk_period=period, slowk_period=smooth, slowk_matype=0, slowd_period=signal, slowd_matype=0,
    )  # fmt: skip
    for mine, reference in zip(ours, theirs, strict=True):
        assert_agrees(mine, reference, scale=1)


@every_series
@pytest.mark.parametrize("period", [1, 2, 14, 60])
def test_ranges(make_bars: BarMaker, period: int) -> None:
    bars = make_bars()
    close, high, low = (column(bars, name) for name in ("close", "high", "low"))
    assert_agrees(run(ATR(period), bars)[0], talib.ATR(high, low, close, period))
    if period == 1:
        return  # TA-Lib has no extreme of one value
    assert_agrees(run(Highest(period), bars)[0], talib.MAX(close, period))
    assert_agrees(run(Lowest(period), bars)[0], talib.MIN(close, period))
    middle, upper, lower = run(Donchian(period), bars, "upper", "lower")
    assert_agrees(upper, talib.MAX(high, period))
    assert_agrees(lower, talib.MIN(low, period))
    assert_agrees(middle, (upper + lower) / 2)


@every_series
@pytest.mark.parametrize("period", [2, 20, 100])
def test_deviations(make_bars: BarMaker, period: int) -> None:
    bars = make_bars()
    close = column(bars, "close")
    exact = np.full(len(close), np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(close, period)
    exact[period - 1 :] = windows.std(axis=1)
    scale = float(close.max())  # deviations are differences of prices, which have 16 digits
    ours = run(StdDev(period), bars)[0]
    assert_agrees(ours, exact, scale=scale * 1e-6)
    middle, upper, lower = run(Bollinger(period, 2.5), bars, "upper", "lower")
    their_upper, their_middle, their_lower = talib.BBANDS(close, period, 2.5, 2.5)
    # TA-Lib's variance is a difference of running squares: it is what limits the agreement, so it is held to prices.
    assert_agrees(middle, their_middle)
    assert_agrees(upper, their_upper, scale=scale)
    assert_agrees(lower, their_lower, scale=scale)
    assert_agrees(ours, talib.STDDEV(close, period), scale=scale)


@every_series
def test_on_balance_volume(make_bars: BarMaker) -> None:
    bars = make_bars()
    volume = column(bars, "volume")
    assert_agrees(run(OBV(), bars)[0], talib.OBV(column(bars, "close"), volume), scale=float(volume.sum()))


@every_series
@pytest.mark.parametrize("period", [1, 10, 300])
def test_rolling_vwap(make_bars: BarMaker, period: int) -> None:
    bars = make_bars()
    typical = (column(bars, "high") + column(bars, "low") + column(bars, "close")) / 3
    volume = column(bars, "volume")
    expected = np.full(len(bars), np.nan)
    for end in range(period, len(bars) + 1):
        window = slice(end - period, end)
        if volume[window].sum():
            expected[end - 1] = (typical[window] * volume[window]).sum() / volume[window].sum()
    assert_agrees(run(VWAP(period), bars)[0], expected)


@every_series
def test_daily_vwap(make_bars: BarMaker) -> None:
    bars = make_bars()
    typical = (column(bars, "high") + column(bars, "low") + column(bars, "close")) / 3
    volume = column(bars, "volume")
    days = column(bars, "open_time_ns").astype(np.int64) // 86_400_000_000_000
    expected = np.full(len(bars), np.nan)
    for day in np.unique(days):
        of_day = days == day
        with np.errstate(invalid="ignore"):
            expected[of_day] = np.cumsum(typical[of_day] * volume[of_day]) / np.cumsum(volume[of_day])
    assert len(np.unique(days)) > 1
    assert_agrees(run(VWAP(), bars)[0], expected)


def test_vwap_of_trades_weighs_prices_by_quantity() -> None:
    def trade(price: str, quantity: str) -> Trade:
        return Trade(BTC, START_NS, Decimal(price), Decimal(quantity), Side.BUY, "1")

    vwap = VWAP()
    assert vwap.update(trade("100", "0")) is None
    assert vwap.update(trade("100", "1")) == 100
    assert vwap.update(trade("200", "3")) == 175


def test_a_long_run_does_not_drift() -> None:
    # A price that was once a million times larger leaves no trace; a subtracting sum would be off by 1e-4 for good.
    rng = np.random.default_rng(7)
    prices = 50.0 + rng.normal(0, 0.01, 100_000)
    prices[1_000] = 5e13
    period = 50
    sma, wma, deviation = SMA(period), WMA(period), StdDev(period)
    for price in prices.tolist():
        sma.update(price)
        wma.update(price)
        deviation.update(price)
    window = prices[-period:]
    assert sma.value == pytest.approx(math.fsum(window) / period, rel=1e-14)
    assert wma.value == pytest.approx(np.average(window, weights=np.arange(1, period + 1)), rel=1e-14)
    assert deviation.value == pytest.approx(window.std(), rel=1e-11)
    assert deviation.mean == pytest.approx(window.mean(), rel=1e-14)


def test_a_long_sum_keeps_what_addition_rounds_away() -> None:
    total = CompensatedSum()
    for value in (1e16, 1.0, 1.0, -1e16):
        result = total.add(value)
    assert result == 2.0


@given(st.lists(st.text(max_size=2), max_size=60), st.integers(1, 9))
def test_a_sliding_fold_combines_the_window_in_order(items: list[str], period: int) -> None:
    # Joining texts is associative and does not commute: any mistake in order or extent shows.
    fold: SlidingFold[str] = SlidingFold(period, lambda older, newer: older + newer)
    for count, item in enumerate(items, start=1):
        expected = "".join(items[count - period : count]) if count >= period else None
        assert fold.update(item) == expected


@given(st.lists(st.integers(-5, 5).map(float), max_size=60), st.integers(1, 9))
def test_extremes_are_those_of_the_window(prices: list[float], period: int) -> None:
    highest, lowest = Highest(period), Lowest(period)
    for count, price in enumerate(prices, start=1):
        window = prices[count - period : count] if count >= period else []
        assert highest.update(price) == max(window, default=None)
        assert lowest.update(price) == min(window, default=None)


def test_a_dead_market_gives_what_ta_lib_gives() -> None:
    flat = [Bar(BTC, "1m", START_NS, 5.0, 5.0, 5.0, 5.0, 1.0)] * 40
    prices = np.full(40, 5.0)
    assert run(RSI(5), flat)[0][-1] == talib.RSI(prices, 5)[-1] == 0
    assert run(Stochastic(5), flat)[0][-1] == talib.STOCH(prices, prices, prices)[0][-1] == 0
    assert run(ADX(5), flat)[0][-1] == talib.ADX(prices, prices, prices, 5)[-1] == 0
    assert run(StdDev(5), flat)[0][-1] == 0


def test_a_market_that_dies_leaves_adx_as_it_was() -> None:
    inside = Bar(BTC, "1m", START_NS, 5.0, 6.0, 4.0, 5.0, 1.0)
    adx = ADX(2)
    assert run(adx, [inside] * 4)[0][-1] == 0  # ranges, but never a move
    bars = [Bar(BTC, "1m", START_NS, p, p + 1, p - 1, p, 1.0) for p in (5.0, 6.0, 7.0, 8.0)]
    adx = ADX(2)
    before = run(adx, bars)[0][-1]
    assert before == 100
    assert adx.update(Bar(BTC, "1m", START_NS, 8.0, 9.0, 7.0, 8.0, 1.0)) == before


def test_roc_of_a_price_of_zero() -> None:
    assert run(ROC(1), [0.0, 1.0, 2.0])[0][1:].tolist() == [0.0, 100.0]


def test_numbers_of_every_kind_are_taken() -> None:
    sma = SMA(3)
    sma.update(Decimal("1.5"))
    sma.update(2)
    assert sma.update(np.float64(2.5)) == 2.0
    assert repr(sma) == "<SMA 2.0>"
    assert isinstance(sma, Indicator)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, Decimal("NaN")])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(StrategyError, match="an indicator cannot take"):
        EMA(3).update(bad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: SMA(0),
        lambda: EMA(0),
        lambda: WMA(0),
        lambda: RSI(1),
        lambda: ADX(1),
        lambda: MACD(10, 10),
        lambda: ATR(0),
    ],
)
def test_periods_that_make_no_sense_are_refused(make: Callable[[], Indicator]) -> None:
    with pytest.raises(StrategyError, match="period must be"):
        make()
