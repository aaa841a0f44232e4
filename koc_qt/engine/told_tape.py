"""Records what strategies that hear quotes or trades are told, and what their accounts hear: a session can be replayed.

While a market is heard that costs a reading of its clock and a place in a list. Every second what has come is put into
columns, compressed and appended to a file in a thread.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, Quote, Trade
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.engine.told_files import PieceHead, append, folder_of, forget_old, has_pieces, piece_of
from koc_qt.link.messages import BookChanged, QuoteChanged, TradePrinted
from koc_qt.sdk.channel import (
    BarClosed,
    FillUpdate,
    HistoryBars,
    HostMessage,
    OrderUpdate,
    QuoteUpdate,
    ReplayTold,
    TradeUpdate,
)

FLUSH_S = 1.0  # what a killed engine loses at most, where the disk keeps up
FRAME_ENTRIES = 2_000  # at most in a frame
FRAME_LEVELS = 8_000  # of books in a frame, as which other long entries count: some 200 kB
PIECE_ENTRIES = 100_000
CLOSE_TIMEOUT_S = 5.0
WAITING_LIMIT = 100_000  # entries that wait for the disk; a session with more is not recorded any further

Entry = tuple[str, int, object]
"""What it is, as ReplayTold.kinds has it, when it was heard, and that itself."""


class Work(NamedTuple):
    """What is to be written to a piece, which begins with a head."""

    file: Path
    head: PieceHead | None
    entries: list[Entry]
    rows: dict[InstrumentId, int]


class ToldTape:
    """Records one run. `head` gives how things stand when a piece begins, `time_ns` a venue's clock."""

    def __init__(
        self,
        tapes: ToldTapes,
        head: Callable[[int], PieceHead],
        kinds: Sequence[str],
        instruments: Sequence[InstrumentId],
    ) -> None:
        self._tapes = tapes
        self._head = head
        self._rows = {key: row for row, key in enumerate(instruments)}
        self._clock_of = instruments[0].venue
        self._time_ns = tapes.time_ns
        self._entries: list[Entry] = []
        self._fresh: PieceHead | None = None  # of the present piece, until it is written
        self._file = Path()  # that piece
        self._pieces = 0
        self._written = 0  # to the present piece
        self.is_broken = self.is_closed = False
        self._begin_piece()
        self._known(tapes.store)
        bus = tapes.bus
        self._ends = [bus.subscribe(BookChanged, lambda fact: self._hear("b", fact.book))]
        if "quotes" not in kinds:
            self._ends.append(bus.subscribe(QuoteChanged, lambda fact: self._hear("q", fact.quote)))
        if "trades" not in kinds:
            self._ends.append(bus.subscribe(TradePrinted, lambda fact: self._hear("t", fact.trade)))

    def told(self, message: HostMessage) -> None:
        """Note what the strategy is told, in order."""
        if type(message) is QuoteUpdate:
            quote = message.quote
            self._entries.append(("Q", self._time_ns(quote.instrument.venue), quote))
        elif type(message) is TradeUpdate:
            trade = message.trade
            self._entries.append(("T", self._time_ns(trade.instrument.venue), trade))
        elif isinstance(message, OrderUpdate | FillUpdate | BarClosed | HistoryBars):
            self._entries.append(("s", self._time_ns(self._clock_of), message))

    def close(self) -> None:
        """Record no more; what was is kept."""
        for end in self._ends:
            end()
        self._ends.clear()
        self.is_closed = True

    @property
    def waiting(self) -> int:
        """How many entries are in memory alone."""
        return len(self._entries)

    @property
    def folder(self) -> Path:
        """Where its pieces are."""
        return self._file.parent

    def take(self) -> Work | None:
        """Give what is to be written now; None where there is nothing."""
        if not self._entries or self.is_broken:
            return None
        entries, self._entries = self._entries, []
        work = Work(self._file, self._fresh, entries, self._rows)
        self._written += len(entries)
        if self._written >= PIECE_ENTRIES:
            self._begin_piece()
        else:
            self._fresh = None
        return work

    def _begin_piece(self) -> None:
        """Have what comes next begin another piece, with how things stand now."""
        self._fresh = head = self._head(self._pieces)
        self._file = piece_of(self._tapes.folder, head)
        self._pieces += 1
        self._written = 0

    def _hear(self, kind: str, event: Quote | Trade | Book) -> None:
        if event.instrument in self._rows:
            self._entries.append((kind, self._time_ns(event.instrument.venue), event))

    def _known(self, store: Store) -> None:
        """Begin with what the market had told before."""
        for key in self._rows:
            for kind, known in (
                ("t", store.trades.get(key)),
                ("b", store.books.get(key)),
                ("q", store.quotes.get(key)),
            ):
                if known is not None:
                    self._entries.append((kind, self._time_ns(key.venue), known))


class ToldTapes:
    """The tapes of all strategies, kept in `folder`; one is written at a time."""

    def __init__(self, folder: Path, store: Store, bus: Bus, time_ns: Callable[[str], int]) -> None:
        self.folder = folder
        self.store = store
        self.bus = bus
        self.time_ns = time_ns
        self._tapes: list[ToldTape] = []
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()

    def begin(
        self, head: Callable[[int], PieceHead], kinds: Sequence[str], instruments: Sequence[InstrumentId]
    ) -> ToldTape:
        """Record a run from now on."""
        tape = ToldTape(self, head, kinds, instruments)
        self._tapes.append(tape)
        self._arm()
        return tape

    def know(self, strategy_id: str) -> bool:
        """Tell whether anything of a strategy is recorded."""
        own = folder_of(self.folder, strategy_id)
        return any(tape.folder == own for tape in self._tapes) or has_pieces(self.folder, strategy_id)

    async def flush(self) -> None:
        """Have everything written that was heard so far."""
        async with self._writing:
            for tape in tuple(self._tapes):
                try:
                    work = tape.take()
                except KocError as error:  # its account was switched off meanwhile
                    self._break(tape, str(error))
                    continue
                if work is not None:
                    await self._write(tape, work)
                if tape.is_closed and not tape.waiting and tape in self._tapes:
                    self._tapes.remove(tape)

    async def close(self) -> None:
        """Write the rest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self.flush()
        except TimeoutError:
            logger.warning("the last moments of recorded sessions are lost: the disk does not answer")
        self._tapes.clear()

    def _arm(self) -> None:
        if self._timer is None and self._tapes:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._due)

    def _due(self) -> None:
        self._timer = None
        self._wake()
        self._arm()

    def _wake(self) -> None:
        """Write in the background; while that lasts, what comes waits."""
        for tape in self._tapes:
            if tape.waiting > WAITING_LIMIT:
                self._break(tape, f"{WAITING_LIMIT:,} entries wait for the disk")
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self.flush(), name="told-tapes")

    async def _write(self, tape: ToldTape, work: Work) -> None:
        try:
            await asyncio.to_thread(self._append, work)
        except (OSError, zlib.error) as error:
            self._break(tape, f"{work.file} cannot be written: {error}")

    def _append(self, work: Work) -> None:
        if work.head is not None:
            append(work.file, work.head)
            forget_old(self.folder, work.file)
        for frame in frames_of(work.entries, work.rows):
            append(work.file, frame)

    def _break(self, tape: ToldTape, why: str) -> None:
        if not tape.is_broken:
            tape.is_broken = True
            logger.warning("a strategy's session is not recorded any further: {}", why)
        if tape in self._tapes:
            self._tapes.remove(tape)
            tape.close()


def frames_of(entries: Sequence[Entry], rows: dict[InstrumentId, int]) -> list[ReplayTold]:
    """Put entries into columns, as many to a frame as fit one message to a worker."""
    frames: list[ReplayTold] = []
    begin = levels = 0
    for end, (_, _, content) in enumerate(entries, start=1):
        levels += _size(content)
        if end - begin == FRAME_ENTRIES or levels >= FRAME_LEVELS or end == len(entries):
            frames.append(_frame(entries[begin:end], rows))
            begin, levels = end, 0
    return frames


def _size(content: object) -> int:
    """Give how large an entry is besides its place, in levels of a book."""
    if isinstance(content, Book):
        return len(content.bids) + len(content.asks)
    if isinstance(content, HistoryBars):
        return 4 * len(content.bars)
    return 30 if isinstance(content, OrderUpdate | FillUpdate) else 0


def _frame(entries: Sequence[Entry], rows: dict[InstrumentId, int]) -> ReplayTold:
    quotes = [content for *_, content in entries if isinstance(content, Quote)]
    return ReplayTold(
        kinds="".join(kind for kind, *_ in entries),
        heard_ns=[heard_ns for _, heard_ns, _ in entries],
        row=[rows[each.instrument] for each in quotes],
        time_ns=[each.time_ns for each in quotes],
        bid=[each.bid for each in quotes],
        bid_size=[each.bid_size for each in quotes],
        ask=[each.ask for each in quotes],
        ask_size=[each.ask_size for each in quotes],
        trades=tuple(content for *_, content in entries if isinstance(content, Trade)),
        books=tuple(content for *_, content in entries if isinstance(content, Book)),
        said=tuple(
            content
            for *_, content in entries
            if isinstance(content, OrderUpdate | FillUpdate | BarClosed | HistoryBars)
        ),
    )
