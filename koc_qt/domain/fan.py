"""How equity went in many draws of trades, or many runs: bands of percentiles over time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Places = npt.NDArray[np.int64]

PERCENTILES = (5, 25, 50, 75, 95)
POINTS = 160  # of a fan: more are not told apart on a screen
Equity = tuple[Sequence[int], Sequence[float]]  # UTC nanoseconds that rise, and what there was by then


class Fan(msgspec.Struct, frozen=True):
    """Equity in quote currency at each of `times_ns`, UTC nanoseconds that rise.

    `bands` are the PERCENTILES of `count` draws or runs there, interpolated between neighbours; `observed` is what was,
    empty where that is not known.
    """

    count: int
    times_ns: tuple[int, ...]
    bands: tuple[tuple[float, ...], ...]
    observed: tuple[float, ...] = ()


def spread(rows: Floats, times_ns: Sequence[int], observed: Sequence[float] = ()) -> Fan:
    """Make a fan of equities, a row for each draw and a column for each time."""
    import numpy as np  # takes long to load, and who reads reports shall not wait for it

    bands = np.percentile(rows, PERCENTILES, axis=0).tolist()
    return Fan(len(rows), tuple(times_ns), tuple(map(tuple, bands)), tuple(observed))


def places_of(closed_ns: Sequence[int], since_ns: int) -> tuple[list[int], Places]:
    """Choose at most POINTS moments of trades that were closed at these times, which do not fall.

    Gives the times, the first of which is the beginning, and after how many trades each is; of trades closed at one
    time the last one counts.
    """
    import numpy as np

    times = np.array([min(since_ns, closed_ns[0]), *closed_ns], np.int64)
    places = np.flatnonzero(np.diff(times, append=times[-1] + 1))
    if len(places) > POINTS:
        places = places[np.linspace(0, len(places) - 1, POINTS).round().astype(np.int64)]
    return times[places].tolist(), places


def fan_of_runs(runs: Sequence[Equity], observed: Equity | None = None) -> Fan | None:
    """Make a fan of the equity curves of runs over one stretch, which may have been thinned.

    Curves with values that are no numbers are left out; None where there are fewer than two others, or no length. What
    was `observed` may have begun earlier: it is moved up or down to begin where the median does.
    """
    import numpy as np

    sound = [run for run in runs if run[0] and all(map(math.isfinite, run[1]))]
    if len(sound) < 2:
        return None
    since_ns, until_ns = max(times[0] for times, _ in sound), max(times[-1] for times, _ in sound)
    count = min(POINTS, until_ns - since_ns + 1)
    if count < 2:
        return None
    times_ns = [since_ns + (until_ns - since_ns) * number // (count - 1) for number in range(count)]
    rows = np.array([_at(run, times_ns) for run in sound])
    seen = np.empty(0)
    if observed is not None and observed[0] and observed[0][0] <= since_ns and all(map(math.isfinite, observed[1])):
        seen = _at(observed, times_ns)
        seen = seen + (np.median(rows[:, 0]) - seen[0])
    return spread(rows, times_ns, seen.tolist())


def _at(run: Equity, times_ns: Sequence[int]) -> Floats:
    """Give the newest value by each of these times."""
    import numpy as np

    rows = np.searchsorted(np.array(run[0], np.int64), np.array(times_ns, np.int64), side="right") - 1
    return np.array(run[1], np.float64)[rows]
