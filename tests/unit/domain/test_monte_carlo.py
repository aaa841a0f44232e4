"""Trades in another order, other trades like them, other candles, parameters near the chosen ones: seeded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain import monte_carlo
from koc_qt.domain.bars import validate_bars
from koc_qt.domain.market import Bar
from koc_qt.domain.monte_carlo import (
    Candles,
    Distribution,
    MonteCarlo,
    TradeDraws,
    bootstrap_candles,
    distribution,
    draw_trades,
    jittered,
    judge,
    other_future,
)
from koc_qt.domain.trust import Verdict
from tests.unit.domain.examples import BTC, MINUTE_NS, START_NS

PNLS = [10.0, -5.0, 20.0, -15.0, 7.0, 3.0, -8.0, 12.0, -4.0, 6.0]


def draw(pnls: Sequence[float] = PNLS, *, seed: int = 1, draws: int = 500, replace: bool = False) -> TradeDraws:
    found = draw_trades(pnls, 100.0, draws, Random(seed), replace=replace)
    assert found is not None
    return found


def test_a_distribution_has_interpolated_percentiles() -> None:
    assert distribution([]) is None
    assert distribution([4.0, 2.0, 3.0, 1.0, 5.0]) == Distribution(5, 3.0, 1.0, 5.0, (1.2, 2.0, 3.0, 4.0, 4.8))
    assert distribution([7.0]) == Distribution(1, 7.0, 7.0, 7.0, (7.0,) * 5)


def test_trades_in_another_order_end_where_they_did_by_another_way() -> None:
    found = draw()
    assert (found.draws, found.trades, found.observed_final) == (500, 10, 126.0)
    assert found.observed_drawdown == pytest.approx(15 / 125)
    assert found.final.lowest == pytest.approx(126.0)
    assert found.final.highest == pytest.approx(126.0)
    assert found.drawdown.lowest < found.observed_drawdown < found.drawdown.highest
    assert 0 < found.worse < 1
    assert (found.losing, found.ruined) == (0.0, 0.0)
    assert found == draw()
    assert found != draw(seed=2)
    assert PNLS[:2] == [10.0, -5.0]  # as they were


def test_other_trades_like_them_end_elsewhere() -> None:
    found = draw(replace=True, draws=2_000)
    assert found.final.lowest < 100 < found.final.highest
    assert found.final.mean == pytest.approx(126.0, abs=2.0)
    deviation = math.sqrt(10 * sum((each - 2.6) ** 2 for each in PNLS) / 10)
    spread = found.final.percentiles[-1] - found.final.percentiles[0]
    assert spread == pytest.approx(2 * 1.645 * deviation, rel=0.1)  # a sum of ten is nearly normal
    assert found.losing == pytest.approx(0.22, abs=0.05)


def test_ruin_and_loss_are_counted() -> None:
    found = draw([-30.0] * 10)
    assert (found.losing, found.ruined, found.worse) == (1.0, 1.0, 0.0)
    assert draw([-30.0, *[40.0] * 9]).ruined == 0.0


def test_limits_of_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monte_carlo, "DRAWS_LIMIT", 50)
    assert draw().draws == 5
    assert draw_trades(PNLS[:9], 100.0, 5, Random(1), replace=False) is None
    with pytest.raises(ValueError, match="0 draws"):
        draw_trades(PNLS, 100.0, 0, Random(1), replace=False)
    with pytest.raises(ValueError, match=r"with 0\.0"):
        draw_trades(PNLS, 0.0, 5, Random(1), replace=False)


def spread(median: float, low: float | None = None) -> Distribution:
    found = distribution([median if low is None else low, median, median + 0.1])
    assert found is not None
    return found


def test_what_draws_tell() -> None:
    steady = draw([5.0] * 15 + [-1.0] * 5, replace=True)
    good = judge(draw(), steady, spread(0.01), spread(0.05, 0.04))
    assert good.verdict is Verdict.GREEN
    assert good.sentence.startswith("Drawn again at random its trades lose in 0 % of 500 draws; one in twenty falls ")
    assert "of them fall deeper than the 12.0 % seen." in good.sentence
    assert "On 3 markets of shuffled candles it makes +1.00 % at the median." in good.sentence
    assert good.sentence.endswith("With 3 neighbouring sets of parameters it makes +5.00 % at the median.")
    assert msgspec.json.decode(msgspec.json.encode(good), type=MonteCarlo) == good
    assert judge(None, draw(replace=True)).verdict is Verdict.AMBER
    assert judge(None, draw([-3.0] * 12, replace=True)).verdict is Verdict.RED
    assert judge(None, steady, None, spread(-0.01)).verdict is Verdict.RED
    assert judge(None, steady, None, spread(0.05, -0.2)).verdict is Verdict.AMBER
    few = judge(None, None, spread(0.01))
    assert (few.verdict, few.sentence[:37]) == (Verdict.NONE, "There are too few trades to draw from")


# ---- candles


def market(count: int = 200, seed: int = 3) -> Candles:
    rng, price, rows = Random(seed), 100.0, []
    for number in range(count):
        opening = round(price * rng.uniform(0.999, 1.001), 2)
        close = round(opening * rng.uniform(0.98, 1.02), 2)
        high, low = max(opening, close) + rng.randrange(50) / 100, min(opening, close) - rng.randrange(50) / 100
        rows.append((START_NS + number * MINUTE_NS, opening, round(high, 2), round(low, 2), close, float(number)))
        price = close
    times, *columns = (list(column) for column in zip(*rows, strict=True))
    return Candles([int(each) for each in times], *columns)


def check_bars(candles: Candles) -> None:
    """Hold that they are valid bars on whole cents."""
    columns = zip(candles.time_ns, candles.open, candles.high, candles.low, candles.close, candles.volume, strict=True)
    validate_bars([Bar(BTC, "1m", *row) for row in columns], "1m")
    for column in (candles.open, candles.high, candles.low, candles.close):
        assert all(round(each, 2) == each for each in column)


def returns(candles: Candles) -> list[float]:
    return [candles.close[row] / candles.close[row - 1] for row in range(1, len(candles.close))]


def test_bootstrapped_candles_are_blocks_of_the_real_ones() -> None:
    real = market()
    other = bootstrap_candles(real, 20, 0.01, Random(5))
    check_bars(other)
    assert other.time_ns == real.time_ns
    assert list(other.close) != list(real.close)
    begin = int(other.volume[0])  # volumes tell which bar was taken
    assert [int(each) for each in other.volume[:20]] == [(begin + number) % 200 for number in range(20)]
    assert other.open[0] == pytest.approx(real.open[0], rel=0.03)
    for row in range(1, 20):
        source = (begin + row) % 200
        if source:
            assert returns(other)[row - 1] == pytest.approx(returns(real)[source - 1], rel=1e-3)
    assert bootstrap_candles(real, 20, 0.01, Random(5)) == other
    assert len(bootstrap_candles(real, 1_000, 0.01, Random(5)).close) == 200
    with pytest.raises(ValueError, match="0 bars"):
        bootstrap_candles(real, 0, 0.01, Random(5))
    nothing = Candles([], [], [], [], [], [])
    assert list(bootstrap_candles(nothing, 5, 0.01, Random(1)).close) == []


def test_another_future_begins_where_it_is_cut_and_goes_the_other_way() -> None:
    real = market()
    other = other_future(real, 150, 0.01, Random(5))
    check_bars(other)
    for name in ("open", "high", "low", "close", "volume"):
        assert list(getattr(other, name)[:150]) == list(getattr(real, name)[:150])
    assert all(other.close[row] != real.close[row] for row in range(150, 200))
    fall = other.close[-1] / other.close[149]
    assert fall == pytest.approx(real.close[149] / real.close[-1], rel=5e-3)
    assert list(other_future(real, 200, 0.01, Random(5)).close) == list(real.close)
    check_bars(other_future(real, 0, 0.01, Random(5)))


def test_prices_never_fall_below_a_tick() -> None:
    crash = Candles([0, 1, 2], [1.0, 0.01, 0.01], [1.0, 0.01, 0.01], [0.01] * 3, [0.01] * 3, [1.0] * 3)
    other = bootstrap_candles(crash, 1, 0.01, Random(1))
    assert min(other.low) >= 0.01


# ---- parameters


@given(st.integers(1, 1_000), st.integers(0, 100))
def test_whole_numbers_stay_whole_and_near(value: int, seed: int) -> None:
    moved = jittered(value, 0.2, Random(seed), low=1, high=500, step=None, whole=True)
    assert moved == int(moved)
    assert 1 <= moved <= 500
    assert abs(moved - min(value, 500)) <= max(0.2 * value, 1) + 0.5


def test_steps_and_bounds_of_numbers() -> None:
    moved = {jittered(1.0, 0.2, Random(seed), low=None, high=None, step=0.1, whole=False) for seed in range(50)}
    assert moved == {0.8, 0.9, 1.0, 1.1, 1.2}
    free = [jittered(1.0, 0.2, Random(seed), low=0.95, high=None, step=None, whole=False) for seed in range(50)]
    assert min(free) == 0.95
    assert max(free) < 1.2
    assert len(set(free)) > 20
