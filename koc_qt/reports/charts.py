"""The charts of a report: equity with its drawdown, how trades came out, and how far they were behind and ahead."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from statistics import quantiles

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.reports.svg import (
    Box,
    Scale,
    Tick,
    bottom_axis,
    circle,
    decimals_of,
    is_drawable,
    left_axis,
    line,
    path,
    rect,
    right_axis,
    round_ticks,
    spread,
    svg,
    text,
    time_ticks,
)
from koc_qt.reports.tables import benchmark_of, share_of
from koc_qt.reports.words import moment, number, percent

WIDTH, HEIGHT = 1000, 430
_HALF, _HALF_HEIGHT = 490, 300
_BINS_LEAST, _BINS_MOST = 10, 36
_ROOM = 3.0  # times the height of equity, which a benchmark may take above or below it
_DOTS = 1_500  # at most: of more trades every second, third ...
_FAR = 8.0  # times the middle half's width: results beyond are counted at the ends of the histogram


def equity_chart(result: BacktestResult, decimals: int) -> str:
    """Draw equity and benchmark, and below them how far equity is under its last peak.

    A benchmark that moves many times as far has its own scale, to the right: beside it, equity would be a flat line.
    """
    points, others = _curve(result.equity_ns, result.equity), _curve(result.equity_ns, benchmark_of(result))
    if len(points) < 2 or not points[-1][0] > points[0][0]:
        return ""
    times_ns, equity = [time_ns for time_ns, _ in points], [value for _, value in points]
    apart = has_own_scale(result)
    right = WIDTH - (78 if apart else 12)
    upper, lower = Box(78, 12, right, 290), Box(78, 312, right, HEIGHT - 30)
    x = Scale(times_ns[0], times_ns[-1], upper.left, upper.right)
    held = [value for _, value in others]
    low, high = spread(equity) if apart else spread([*equity, *held])
    y = Scale(low, high, upper.bottom, upper.top)
    theirs = Scale(*spread(held), upper.bottom, upper.top) if apart else y
    stamps = time_ticks(times_ns[0], times_ns[-1], 9)
    peaks = accumulate(equity, max)
    falls = [(value - peak) / peak if peak > 0 else 0.0 for value, peak in zip(equity, peaks, strict=True)]
    depths = _curve(times_ns, falls)
    deepest, _ = spread((value for _, value in depths), zero=True)
    under = Scale(deepest, 0.0, lower.bottom, lower.top)
    parts = [
        *left_axis(upper, y, _amounts(y, decimals)),
        *bottom_axis(upper, x, stamps, words=False),
        *left_axis(lower, under, _percents(deepest, 0.0, 4)),
        *bottom_axis(lower, x, stamps),
        *(right_axis(upper, theirs, _amounts(theirs, decimals)) if apart else []),
        path([(x(time_ns), theirs(value)) for time_ns, value in others], "held"),
        path([(x(time_ns), y(value)) for time_ns, value in points], "equity"),
        path([(x(time_ns), under(value)) for time_ns, value in depths], "depth", lower.top),
        line(lower.left, lower.top, lower.right, lower.top, "axis"),
    ]
    return svg(WIDTH, HEIGHT, "Equity and drawdown", parts)


def has_own_scale(result: BacktestResult) -> bool:
    """Tell whether the benchmark moves so much further than equity that it is drawn to a scale of its own."""
    equity = [value for value in result.equity if is_drawable(value)]
    held = [value for value in benchmark_of(result) if value is not None and is_drawable(value)]
    if not held or not equity:
        return False
    low, high = min(equity), max(equity)
    return max(max(held) - high, low - min(held)) > _ROOM * (high - low) > 0


def results_chart(trips: Sequence[RoundTrip]) -> str:
    """Draw how many closed trades came out how, as returns on what was put in."""
    returns = [share for trip in trips if trip.exit_ns is not None and (share := share_of(trip, trip.pnl)) is not None]
    returns = [value for value in returns if is_drawable(value)]
    if not returns:
        return ""
    low, high = _usual(returns)
    width = (high - low) / min(max(2 * math.isqrt(len(returns)), _BINS_LEAST), _BINS_MOST)
    first = math.floor(low / width)  # zero is between two bins, so that none holds winners and losers
    last = math.ceil(high / width) - 1
    counts = Counter(min(max(math.floor(value / width), first), last) for value in returns)
    box = Box(44, 12, _HALF - 12, _HALF_HEIGHT - 44)
    x = Scale(first * width, (last + 1) * width, box.left, box.right)
    most = max(counts.values())
    y = Scale(0.0, most * 1.06, box.bottom, box.top)
    parts = left_axis(box, y, [(value, f"{value:,.0f}") for value in round_ticks(0.0, most, 5) if value % 1 == 0])
    for bin_, count in sorted(counts.items()):
        begin, end = bin_ * width, (bin_ + 1) * width
        hint = f"{count:,} of {percent(begin, signed=True)} to {percent(end, signed=True)}"
        face = "profit" if bin_ >= 0 else "loss"
        parts.append(rect(Box(x(begin) + 0.5, y(count), x(end) - 0.5, box.bottom), face, hint))
    ticks = _percents(x.low, x.high, 6)
    parts += [text(x(value), box.bottom + 18, words, at="middle") for value, words in ticks]
    parts.append(line(box.left, box.bottom, box.right, box.bottom, "axis"))
    parts.append(line(x(0.0), box.top, x(0.0), box.bottom, "zero"))
    parts.append(text((box.left + box.right) / 2, _HALF_HEIGHT - 6, "Return of a trade, after fees", at="middle"))
    return svg(_HALF, _HALF_HEIGHT, "Results of trades", parts)


def excursions_chart(trips: Sequence[RoundTrip]) -> str:
    """Draw for each closed trade how far it was behind at its worst against how it came out, and ahead at its best."""
    dots = []
    for trip in trips[:: max(1, math.ceil(len(trips) / _DOTS))]:
        behind, ahead = share_of(trip, trip.mae), share_of(trip, trip.mfe)
        if trip.exit_ns is None or behind is None or ahead is None:
            continue
        if is_drawable(behind) and is_drawable(ahead):
            dots.append((max(-behind, 0.0), max(ahead, 0.0), trip))
    if not dots:
        return ""
    box = Box(58, 30, _HALF - 12, _HALF_HEIGHT - 44)
    _, right = spread((behind for behind, _, _ in dots), zero=True)
    _, top = spread((ahead for _, ahead, _ in dots), zero=True)
    x, y = Scale(0.0, right, box.left, box.right), Scale(0.0, top, box.bottom, box.top)
    parts = left_axis(box, y, _percents(0.0, top, 5)) + bottom_axis(box, x, _percents(0.0, right, 5))
    both = min(right, top)
    parts.append(line(x(0.0), y(0.0), x(both), y(both), "held"))
    for behind, ahead, trip in dots:
        hint = f"{moment(trip.entry_ns)}: {percent(-behind)} at worst, {percent(ahead)} at best"
        parts.append(circle(x(behind), y(ahead), 3.2, "profit dot" if trip.pnl > 0 else "loss dot", hint))
    parts.append(line(box.left, box.bottom, box.right, box.bottom, "axis"))
    parts.append(line(box.left, box.top, box.left, box.bottom, "axis"))
    parts.append(text((box.left + box.right) / 2, _HALF_HEIGHT - 6, "Behind at worst (MAE)", at="middle"))
    parts.append(text(box.left, 14, "Ahead at best (MFE)"))
    return svg(_HALF, _HALF_HEIGHT, "How far trades were behind and ahead", parts)


def _curve(times_ns: Sequence[int], values: Sequence[float | None]) -> list[tuple[int, float]]:
    """Give the points of a curve that can be drawn."""
    both = zip(times_ns, values, strict=True)
    return [(time_ns, value) for time_ns, value in both if value is not None and is_drawable(value)]


def _amounts(scale: Scale, decimals: int) -> list[Tick]:
    """Give round ticks of a scale, with as many decimals as they need and amounts may have."""
    ticks = round_ticks(scale.low, scale.high, 6)
    places = min(decimals, decimals_of(ticks))
    return [(value, number(value, places)) for value in ticks]


def _percents(low: float, high: float, most: int) -> list[Tick]:
    """Give round ticks between two fractions, as percentages."""
    ticks = round_ticks(low, high, most)
    places = decimals_of(ticks, 100.0)
    return [(value, f"{number(value * 100, places)} %") for value in ticks]


def _usual(returns: Sequence[float]) -> tuple[float, float]:
    """Give the range of a histogram: all results, or where a few are far off, the most of them; it holds zero."""
    low, high = min(*returns, 0.0), max(*returns, 0.0)
    if len(returns) > 3:
        first, _, third = quantiles(returns, n=4)
        reach = _FAR * (third - first)
        if reach > 0:
            low, high = max(low, min(first - reach, 0.0)), min(high, max(third + reach, 0.0))
    return (low, high) if high > low else (-0.01, 0.01)
