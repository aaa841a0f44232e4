"""A factor-2 pyramid over bars: node j of level k sums up the bars [j * 2**k, (j + 1) * 2**k).

Only highest, lowest and volume are stored, 24 bytes a bar: a node's first and last prices are those of its first and
last bar, and are read from the series itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from koc_qt.ui.charts.series import BarSeries, Floats

_TOP = 64  # a level of so few nodes is never drawn reduced further
_HIGH, _LOW, _VOLUME = range(3)


@dataclass(frozen=True, eq=False, slots=True)
class Nodes:
    """Some nodes of one level, as columns; `start` is the number of the first."""

    start: int
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats

    def __len__(self) -> int:
        return len(self.high)


class Pyramid:
    """Levels of detail over a series that its owner changes: call `touch` or `refresh` after each change."""

    def __init__(self, series: BarSeries) -> None:
        self._series = series
        self._levels: list[Floats] = []  # of level 1 on; each has shape (3, capacity)

    @property
    def top(self) -> int:
        """The coarsest level there is; level 0 is the bars."""
        return len(self._levels)

    def count(self, level: int) -> int:
        """How many nodes a level has."""
        return -(-len(self._series) // (1 << level))

    def touch(self, index: int) -> None:
        """Take in that one bar changed or was appended: O(log n), and now and then a rebuild that amortises to O(1)."""
        if self._levels_wanted() != len(self._levels):
            self.refresh(0)
            return
        high, low, volume = self._series.high, self._series.low, self._series.volume
        children = len(self._series)
        for number in range(len(self._levels)):
            node = index >> (number + 1)
            stored = self._room(number, node + 1, keep=node)
            left, right = 2 * node, 2 * node + 1
            if right < children:
                stored[_HIGH, node] = max(high[left], high[right])
                stored[_LOW, node] = min(low[left], low[right])
                stored[_VOLUME, node] = volume[left] + volume[right]
            else:
                stored[:, node] = high[left], low[left], volume[left]
            high, low, volume = stored
            children = (children + 1) // 2

    def refresh(self, first: int) -> None:
        """Take in that bars from `first` on changed, came or went; 0 builds everything anew."""
        wanted = self._levels_wanted()
        if wanted > len(self._levels):
            first = 0
        del self._levels[wanted:]
        high, low, volume = self._series.high, self._series.low, self._series.volume
        children = len(self._series)
        for number in range(wanted):
            if number == len(self._levels):
                self._levels.append(np.empty((3, 0)))
            count, pairs, start = (children + 1) // 2, children // 2, first >> (number + 1)
            stored = self._room(number, count, keep=start)
            evens, odds = slice(2 * start, 2 * pairs, 2), slice(2 * start + 1, 2 * pairs, 2)
            np.maximum(high[evens], high[odds], out=stored[_HIGH, start:pairs])
            np.minimum(low[evens], low[odds], out=stored[_LOW, start:pairs])
            np.add(volume[evens], volume[odds], out=stored[_VOLUME, start:pairs])
            if count > pairs:
                stored[:, pairs] = high[children - 1], low[children - 1], volume[children - 1]
            high, low, volume = stored
            children = count

    def nodes(self, level: int, start: int, stop: int) -> Nodes:
        """Give the nodes [start, stop) of a level, cut to those there are."""
        bars = self._series
        start = max(start, 0)
        stop = max(min(stop, self.count(level)), start)
        if level == 0:
            part = slice(start, stop)
            return Nodes(start, bars.open[part], bars.high[part], bars.low[part], bars.close[part], bars.volume[part])
        last = np.minimum((np.arange(start + 1, stop + 1) << level) - 1, len(bars) - 1)
        first = slice(start << level, max((stop - 1) << level, 0) + 1 if stop > start else start << level, 1 << level)
        stored = self._levels[level - 1][:, start:stop]
        return Nodes(start, bars.open[first], stored[_HIGH], stored[_LOW], bars.close[last], stored[_VOLUME])

    def extremes(self) -> tuple[float, float]:
        """The lowest and the highest price of all; zeros while there are no bars."""
        if not len(self._series):
            return 0.0, 0.0
        nodes = self.nodes(self.top, 0, self.count(self.top))
        return float(nodes.low.min()), float(nodes.high.max())

    def level_for(self, spacing_px: float, node_px: float = 2.0) -> int:
        """The finest level whose nodes are at least `node_px` wide when bars are `spacing_px` wide, or the top."""
        level = 0
        while level < self.top and spacing_px * (1 << level) < node_px:
            level += 1
        return level

    def _levels_wanted(self) -> int:
        count, levels = len(self._series), 0
        while count > _TOP:
            count, levels = (count + 1) // 2, levels + 1
        return levels

    def _room(self, number: int, count: int, *, keep: int) -> Floats:
        """Give a level's storage with room for `count` nodes, the first `keep` kept."""
        stored = self._levels[number]
        if count > stored.shape[1]:
            stored = np.empty((3, count + count // 2))
            stored[:, :keep] = self._levels[number][:, :keep]
            self._levels[number] = stored
        return stored
