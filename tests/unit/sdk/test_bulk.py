"""Many bars at once are what one bar after the other is, bit for bit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Bar
from koc_qt.sdk import indicators
from koc_qt.sdk.indicators import EMA, SMA, Indicator
from koc_qt.sdk.indicators._base import Line, Stretch, lines_of
from tests.unit.sdk.desk import BTC_ID, MINUTE_NS, START_NS

PERIOD = st.integers(1, 12)
MAKERS: dict[str, Callable[[int], Indicator]] = {
    "ADX": lambda period: indicators.ADX(period + 1),
    "ATR": indicators.ATR,
    "Bollinger": indicators.Bollinger,
    "Donchian": indicators.Donchian,
    "EMA": EMA,
    "Highest": indicators.Highest,
    "Lowest": indicators.Lowest,
    "MACD": lambda period: indicators.MACD(period, period + 5, 4),
    "OBV": lambda _: indicators.OBV(),
    "ROC": indicators.ROC,
    "RSI": lambda period: indicators.RSI(period + 1),
    "SMA": SMA,
    "StdDev": indicators.StdDev,
    "Stochastic": lambda period: indicators.Stochastic(period, 3, 2),
    "VWAP": indicators.VWAP,
    "WMA": indicators.WMA,
}

price = st.floats(1e-3, 1e9) | st.integers(1, 20_000).map(lambda cents: cents / 100)


def made(closes: list[float]) -> list[Bar]:
    return [
        Bar(BTC_ID, "1m", START_NS + row * MINUTE_NS, close, close * (1 + row % 3 / 50), close * 0.97, close, row % 5)
        for row, close in enumerate(closes)
    ]


def told(indicator: Indicator, bars: list[Bar]) -> list[Line]:
    """Give each line as updates one by one leave it."""
    columns: list[Line] = [[] for _ in indicator.lines]
    for bar in bars:
        indicator.update(bar)
        for name, column in zip(indicator.lines, columns, strict=True):
            column.append(getattr(indicator, name))
    return columns


def bits(line: Line) -> list[bytes | None]:
    return [None if value is None else struct.pack("<d", value) for value in line]


def stretch(bars: list[Bar]) -> Stretch:
    return Stretch(bars, [bar.close for bar in bars])


def test_every_indicator_is_held_against_its_updates() -> None:
    assert set(MAKERS) == set(indicators.__all__) - {"Indicator"}


@pytest.mark.parametrize("name", MAKERS)
@settings(max_examples=60, deadline=None)
@given(
    period=PERIOD, closes=st.lists(price, max_size=70), cuts=st.lists(st.integers(0, 70), max_size=4), data=st.data()
)
def test_bulk_is_update_bit_for_bit(name: str, period: int, closes: list[float], cuts: list[int], data: Any) -> None:
    slow, quick = MAKERS[name](period), MAKERS[name](period)
    bars = made(closes)
    edges = sorted({0, len(bars), *(cut for cut in cuts if cut < len(bars))})
    for begin, end in pairwise(edges):
        part = bars[begin:end]
        expected = told(slow, part)
        single = data.draw(st.booleans(), label="one by one")
        found = told(quick, part) if single else quick.bulk(stretch(part))
        assert [bits(line) for line in found] == [bits(line) for line in expected]
        assert [type(value) for line in found for value in line if value is not None].count(float) == sum(
            value is not None for line in found for value in line
        )
        for line in quick.lines:
            assert getattr(quick, line) == getattr(slow, line)


def test_long_periods_over_short_stretches_and_the_other_way_round() -> None:
    bars = made([100 + (row * 7919 % 1000) / 7 for row in range(700)])
    for period, step in ((300, 7), (3, 350), (50, 50), (51, 50), (1, 100)):
        for kind in (SMA, EMA):
            slow, quick = kind(period), kind(period)
            for begin in range(0, len(bars), step):
                part = bars[begin : begin + step]
                assert [bits(line) for line in quick.bulk(stretch(part))] == [bits(line) for line in told(slow, part)]


def test_averages_of_one_stretch_share_its_column() -> None:
    part = stretch(made([1.0, 2.0, 4.0]))
    assert (SMA(1).bulk(part), SMA(2).bulk(part)) == (([1.0, 2.0, 4.0],), ([None, 1.5, 3.0],))
    assert part.array is part.array


def test_no_bars_are_no_news() -> None:
    for make in MAKERS.values():
        indicator = make(3)
        assert all(list(line) == [] for line in indicator.bulk(stretch([])))
        assert indicator.value is None


class Doubled(SMA):
    def update(self, value: Any) -> float | None:
        mean = super().update(value)
        self.value = None if mean is None else 2 * mean
        return self.value


class Halved(Doubled):
    def bulk(self, bars: Stretch) -> list[Line]:
        return [[0.5] * len(bars.bars)]


def test_a_class_that_changes_update_alone_does_not_inherit_bulk() -> None:
    bars = made([1.0, 2.0, 3.0, 4.0])
    assert lines_of(SMA(2), stretch(bars)) == ([None, 1.5, 2.5, 3.5],)
    assert lines_of(Doubled(2), stretch(bars)) == ([None, 3.0, 5.0, 7.0],)
    assert lines_of(Halved(2), stretch(bars)) == [[0.5] * 4]


def test_an_indicator_has_an_update() -> None:
    with pytest.raises(StrategyError, match=r"Indicator has no update\(\)"):
        Indicator().update(1.0)
