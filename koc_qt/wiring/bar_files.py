"""Files of bars for the engine's back-tests: each is in memory once, however many runs are on it, and no longer."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from koc_qt.domain.errors import BadBars
from koc_qt.domain.instruments import InstrumentId
from koc_qt.engine.backtest_files import FileBars
from koc_qt.ports.bars import BarSeries, Span

if TYPE_CHECKING:
    from koc_qt.adapters.loose_file import LooseBars

_Known = tuple[Path, int, int, str]  # path, when it was written, size, timeframe where the file does not tell


class BarFiles:
    """Reads files, one after the other; `open` is an engine's OpenFiles."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[_Known, LooseBars] = WeakValueDictionary()
        self._turn = asyncio.Lock()

    async def open(self, files: tuple[str, ...], instruments: tuple[InstrumentId, ...], timeframe: str) -> FileBars:
        """Give what the files hold, one of each symbol. Raises BadBars, BadTimeframe."""
        async with self._turn:
            return await asyncio.to_thread(self._open, files, instruments, timeframe)

    def _open(self, files: tuple[str, ...], instruments: tuple[InstrumentId, ...], timeframe: str) -> FileBars:
        from koc_qt.adapters.loose_history import FileHistory, file_rules

        read = {
            instrument: self._read(Path(file), timeframe) for instrument, file in zip(instruments, files, strict=True)
        }
        history = FileHistory(read)
        own, since_ns, until_ns = history.extent()
        span = Span(since_ns, until_ns)
        for instrument in instruments:  # longer bars are made here and not on the loop
            history.closed(BarSeries(instrument, timeframe or own), span)
        rules = tuple(file_rules(instrument, bars.columns) for instrument, bars in read.items())
        notes = tuple(f"{bars.path.name}: {note}" for bars in read.values() for note in bars.notes)
        return FileBars(history, rules, own, span, notes)

    def _read(self, path: Path, timeframe: str) -> LooseBars:
        from koc_qt.adapters.loose_file import read_loose

        try:
            found = path.stat()
        except (OSError, ValueError):
            read_loose(path, timeframe)  # which says what is wrong with it
            raise BadBars(f"{path} was changed while it was read: try again") from None
        key = (path, found.st_mtime_ns, found.st_size, timeframe)
        bars = self._known.get(key)
        if bars is None:
            bars = self._known[key] = read_loose(path, timeframe)
        return bars
