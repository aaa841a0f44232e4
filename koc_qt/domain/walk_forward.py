"""Walk-forward analysis: parameters are chosen on one stretch of time and tested on the next one, again and again.

The stretches that are tested lie side by side and end where the whole range does. What parameters are chosen on lies
before each: of the same length each time (rolling), or from the beginning of the range on (anchored).

Source: R. Pardo, "The Evaluation and Optimization of Trading Strategies" (2008), chapter 11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import msgspec

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.percentages import percentage
from koc_qt.domain.trust import WINDOWS_LIMIT, Verdict

WORTH = 0.5  # efficiency from which on what was found in sample is taken to last (Pardo's rule of thumb)
NEXT_TO_NOTHING = 1e-4  # earned in sample by all windows together: a multiple of less says nothing
HIGHEST = 10.0  # efficiency: what was earned in sample is next to nothing beside more


class Window(msgspec.Struct, frozen=True):
    """Parameters are chosen on since_ns <= t < test_ns and tested on test_ns <= t < until_ns, UTC nanoseconds."""

    since_ns: int
    test_ns: int
    until_ns: int


class WindowResult(msgspec.Struct, frozen=True):
    """What came of one window: the parameters that were best, their return in sample and that out of sample.

    Returns are fractions of the cash that each run begins with; `trials` combinations were tried.
    """

    window: Window
    parameters: dict[str, Any]
    return_in: float
    return_out: float
    trades_out: int
    trials: int


class WalkForward(msgspec.Struct, frozen=True):
    """What came of all windows. `efficiency` is the return a time out of sample over that in sample; see `judge`.

    It is None where the two cannot be compared.
    """

    verdict: Verdict
    sentence: str
    anchored: bool
    windows: tuple[WindowResult, ...] = ()
    efficiency: float | None = None
    return_out: float = 0.0
    winners: int = 0


def windows(since_ns: int, until_ns: int, bar_ns: int, *, count: int, ratio: float, anchored: bool) -> list[Window]:
    """Cut a range into `count` windows; the first is chosen on `ratio` times what it is tested on.

    All bounds are whole bars from the end of the range. Raises ConfigError where that leaves a stretch without a bar.
    """
    if not 1 <= count <= WINDOWS_LIMIT:
        raise ConfigError(f"a walk-forward analysis has 1 to {WINDOWS_LIMIT} windows, not {count}")
    if not (math.isfinite(ratio) and 0.1 <= ratio <= 100):
        raise ConfigError(
            f"what parameters are chosen on is 0.1 to 100 times as long as what they are tested on, not {ratio}"
        )
    bars = (until_ns - since_ns) // bar_ns
    tested = int(bars / (count + ratio))
    chosen = int(tested * ratio)
    if tested < 1 or chosen < 1:
        raise ConfigError(
            f"{max(bars, 0)} bars are too few for {count} windows: choose a longer range or fewer windows"
        )
    found = []
    for number in range(count):
        test_ns = until_ns - (count - number) * tested * bar_ns
        found.append(Window(since_ns if anchored else test_ns - chosen * bar_ns, test_ns, test_ns + tested * bar_ns))
    return found


def combinations(grid: Mapping[str, Sequence[Any]], limit: int) -> list[dict[str, Any]]:
    """Give every combination of the grid's values, in its order. Raises ConfigError for none and for above `limit`."""
    count = math.prod(len(values) for values in grid.values())
    if not grid or not count:
        raise ConfigError("a grid needs parameters with values to choose from")
    if count > limit:
        raise ConfigError(f"the grid has {count:,} combinations, above the limit of {limit:,}: choose fewer values")
    return [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]


def judge(results: Sequence[WindowResult], *, anchored: bool) -> WalkForward:
    """Say what windows tell: GREEN from an efficiency of WORTH on, RED where nothing was earned out of sample."""
    if not results:
        return WalkForward(Verdict.NONE, "No window was run to its end.", anchored)
    out = math.fsum(each.return_out for each in results)
    winners = sum(each.return_out > 0 for each in results)
    efficiency = _efficiency(results)
    made = percentage(out, 2, signed=True)
    told = f"Out of sample it made {made} in {len(results)} windows, {winners} of them above zero"
    if not any(each.trades_out for each in results):
        verdict, told = Verdict.NONE, "Out of sample it made no trade"
    elif out <= 0:
        verdict = Verdict.RED
    elif efficiency is None:
        inside = percentage(math.fsum(each.return_in for each in results), 2, signed=True)
        verdict, told = Verdict.AMBER, f"{told}: not comparable with the {inside} in sample, so that may be luck"
    else:
        verdict = Verdict.GREEN if efficiency >= WORTH else Verdict.AMBER
        told = f"{told}: {percentage(efficiency)} of what it earned in sample in the same time"
    return WalkForward(verdict, f"{told}.", anchored, tuple(results), efficiency, out, winners)


def _efficiency(results: Sequence[WindowResult]) -> float | None:
    """Give the return a time out of sample over that in sample; None where next to nothing was earned in sample."""
    inside = math.fsum(each.return_in for each in results)
    if inside < NEXT_TO_NOTHING:
        return None
    inside_ns = sum(each.window.test_ns - each.window.since_ns for each in results)
    outside_ns = sum(each.window.until_ns - each.window.test_ns for each in results)
    efficiency = math.fsum(each.return_out for each in results) / outside_ns / (inside / inside_ns)
    return efficiency if efficiency <= HIGHEST else None
