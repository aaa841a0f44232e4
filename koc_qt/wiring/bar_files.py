"""Files of bars for the engine's back-tests: each is in memory once, however many runs are on it, and no longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from koc_qt.domain.errors import BadBars
from koc_qt.engine.backtest_files import FileBars, Reading
from koc_qt.ports.bars import BarSeries, Span

if TYPE_CHECKING:
    from koc_qt.adapters.loose_file import LooseBars

_Known = tuple[Path, int, int, str, bool]  # path, when written, size, timeframe if it tells none, without bad rows


class BarFiles:
    """Reads files, one after the other; `open` is an engine's OpenFiles."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[_Known, LooseBars] = WeakValueDictionary()
        self._turn = asyncio.Lock()

    async def open(self, reading: Reading) -> FileBars:
        """Give what the files hold, one of each symbol. Raises BadBars, BadTimeframe, InvalidOrder."""
        async with self._turn:
            return await asyncio.to_thread(self._open, reading)

    def _open(self, reading: Reading) -> FileBars:
        from koc_qt.adapters.loose_history import FileHistory, file_rules

        timeframe, pairs = reading.timeframe, zip(reading.instruments, reading.files, strict=True)
        read = {instrument: self._read(Path(file), timeframe, reading.skip_bad) for instrument, file in pairs}
        history = FileHistory(read)
        own, since_ns, until_ns = history.extent()
        span = Span(since_ns, until_ns)
        for instrument in read:  # longer bars are made here and not on the loop
            history.closed(BarSeries(instrument, timeframe or own), span)
        rules = tuple(file_rules(each, bars.columns, reading.tick, reading.lot) for each, bars in read.items())
        notes = tuple(f"{bars.path.name}: {note}" for bars in read.values() for note in bars.notes)
        return FileBars(history, rules, own, span, notes)

    def _read(self, path: Path, timeframe: str, skip_bad: bool) -> LooseBars:
        from koc_qt.adapters.loose_file import read_loose

        try:
            found = path.stat()
        except (OSError, ValueError):
            read_loose(path, timeframe, skip_bad=skip_bad)  # which says what is wrong with it
            raise BadBars(f"{path} was changed while it was read: try again") from None
        key = (path, found.st_mtime_ns, found.st_size, timeframe, skip_bad)
        bars = self._known.get(key)
        if bars is None:
            bars = self._known[key] = read_loose(path, timeframe, skip_bad=skip_bad)
        return bars
