"""Bars of files that somebody brought, handed out a page at a time: to be looked at, as in the replay of a run."""

from __future__ import annotations

import asyncio
from pathlib import Path

from koc_qt.domain.errors import BadBars
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.engine.backtest_files import FileBars, OpenFiles, Reading
from koc_qt.link.messages import FetchBars
from koc_qt.ports.bars import BarSeries, Span

HELD_BARS = 1_000_000  # some 48 MB; a larger file is read again for each page
Row = tuple[int, float, float, float, float, float]
_WHOLE = Span(-(1 << 62), 1 << 62)


class FileBarPages:
    """Reads a file when a page of it is asked for. The last one stays in memory until its client leaves."""

    def __init__(self, open_files: OpenFiles) -> None:
        self._open_files = open_files
        self._held: tuple[str, FileBars] | None = None  # a client, and what keeps its file from being read again

    async def page(self, command: FetchBars, client_id: str) -> list[Row]:
        """Give the bars of a page, oldest first.

        Raises BadBars for a file that cannot be believed or was written after `written_before_ns`, and BadTimeframe for
        bars that cannot be made of it.
        """
        series = BarSeries(command.instrument, command.timeframe)
        length_ns = duration_ns(command.timeframe)
        await asyncio.to_thread(_check_age, command)
        reading = Reading((command.file,), (command.instrument,), command.timeframe, skip_bad=command.skips_bad_rows)
        found = await self._open_files(reading)
        columns = await found.history.columns(series, _WHOLE)
        self._held = (client_id, found) if len(columns.open_time_ns) <= HELD_BARS else None
        until_ns = _WHOLE.until_ns if command.until_ns is None else _within(command.until_ns)
        until_ns = bar_open_ns(until_ns, command.timeframe)
        first, last = map(int, columns.open_time_ns.searchsorted((until_ns - command.count * length_ns, until_ns)))
        if command.until_ns is None:
            first = max(last - command.count, 0)
        return list(zip(*(column[first:last].tolist() for column in columns), strict=True))

    def leave(self, client_id: str) -> None:
        """Let go of what is held for a client."""
        if self._held is not None and self._held[0] == client_id:
            self._held = None


def _within(time_ns: int) -> int:
    return min(max(time_ns, _WHOLE.since_ns), _WHOLE.until_ns)


def _check_age(command: FetchBars) -> None:
    """Raise BadBars for a file that is another by now."""
    if command.written_before_ns is None:
        return
    path = Path(command.file)
    try:
        written_ns = path.stat().st_mtime_ns
    except (OSError, ValueError):
        return  # which reading it says in full
    if written_ns > command.written_before_ns:
        raise BadBars(f"{path.name} was written after the run, so that its bars may be others: run it again")
