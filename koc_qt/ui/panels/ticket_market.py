"""The market that a ticket trades: its rules, its newest quote while the ticket is seen, and why that stands still."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QObject, Signal

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote, StreamState
from koc_qt.link.messages import ListInstruments
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Desk, Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.streams import Holding

LOOKUP_TIMEOUT_S = 15.0  # a venue's list may have to be fetched first
_MATCHES = 50  # a symbol may be a part of others


async def fetch_rules(desk: Desk, instrument: InstrumentId) -> Instrument:
    """Ask the engine for the rules of one market. Raises KocError, also where there is no such market."""
    command = ListInstruments(instrument.venue, instrument.symbol, _MATCHES)
    answer = await desk.request(command, timeout_s=LOOKUP_TIMEOUT_S)
    try:
        found = {each.id: each for each in msgspec.convert(answer, list[Instrument])}
    except msgspec.ValidationError as error:
        raise KocError(f"the engine's list of instruments cannot be read: {error}") from error
    if instrument not in found:
        raise KocError(f"there is no {instrument}")
    return found[instrument]


class TicketMarket(QObject):
    """One market, or none. `changed` says that anything but the quote may differ."""

    changed = Signal()

    def __init__(self, bench: Bench, owner: QObject) -> None:
        super().__init__(owner)
        self._desk = bench.desk
        self._streams = bench.streams
        self._found: dict[InstrumentId, Instrument] = {}
        self._holding = Holding()
        self._lookup = Errand(bench.desk, self)
        self._is_watched = False
        self._old: Quote | None = None  # of before the stream began: not a price of now
        self.instrument: InstrumentId | None = None
        self.problem = ""  # with finding out its rules
        bench.streams.subscribed.connect(self._stream_changed)
        bench.streams.refused.connect(self._stream_changed)
        self._desk.framed.connect(self._on_frame)

    def use(self, instrument: InstrumentId | None) -> None:
        """Trade this one from now on."""
        if instrument != self.instrument:
            self.instrument, self.problem = instrument, ""
            self._lookup.cancel()
            self._hold()
            self.look_up()

    def watch(self, *, is_watched: bool) -> None:
        """Have quotes streamed, or not."""
        self._is_watched = is_watched
        self._hold()

    def retire(self) -> None:
        """Let go of everything."""
        self.watch(is_watched=False)
        self._lookup.cancel()

    def _hold(self) -> None:
        wanted = self.instrument if self._is_watched else None
        self._old = self.quote()
        self._holding.replace(self._streams.watch(wanted) if wanted is not None else None)

    # ---- its rules ---------------------------------------------------------------------------------------------------

    def rules(self) -> Instrument | None:
        """Give the venue's rules; None while they are not known."""
        if self.instrument is None:
            return None
        return self._desk.replica.instruments.get(self.instrument) or self._found.get(self.instrument)

    def look_up(self) -> None:
        """Ask the engine for rules that are not known yet."""
        if self.instrument is not None and self.rules() is None and self._desk.is_connected:
            self._lookup.start(self._fetch(self.instrument), self._failed)

    async def _fetch(self, instrument: InstrumentId) -> None:
        self._found = {instrument: await fetch_rules(self._desk, instrument)}
        self.problem = ""
        self.changed.emit()

    def _failed(self, error: KocError) -> None:
        self.problem = f"The rules of this market did not come: {error}"
        self.changed.emit()

    # ---- its prices --------------------------------------------------------------------------------------------------

    def quote(self) -> Quote | None:
        """Give the newest quote, however old it is."""
        return self._desk.replica.quotes.get(self.instrument) if self.instrument is not None else None

    def live_quote(self) -> Quote | None:
        """Give the newest quote of a market that streams now."""
        return self.quote() if self.is_live() else None

    def is_live(self) -> bool:
        """Whether quotes flow, and the newest came since they do."""
        instrument, quote = self.instrument, self.quote()
        if instrument is None or quote is None or not self._desk.is_connected or self.trouble():
            return False
        return quote is not self._old and self._streams.is_flowing(instrument)

    def trouble(self) -> str:
        """Say why the prices stand still; empty while they do not, or nothing is known of it."""
        if self.instrument is None:
            return ""
        stream = self._desk.replica.streams.get(self.instrument)
        if stream is not None and stream.state is not StreamState.CONNECTED:
            words = "This market has ended" if stream.state is StreamState.ENDED else "Prices are interrupted"
            return f"{words}: {stream.reason}" if stream.reason else words
        refused = self._streams.troubles.get(self.instrument, "")
        return f"No prices: {refused}" if refused else ""

    def _stream_changed(self, instrument: InstrumentId) -> None:
        if instrument == self.instrument:
            self.changed.emit()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            if self.instrument not in frame.quotes:  # the newest is of before the connection
                self._old = self.quote()
            self.look_up()
        elif self.problem and self.instrument is not None and self.instrument.venue in frame.venues:
            self.look_up()  # a venue that has joined has rules to tell
        if frame.snapshot or self.instrument in frame.streams or self.instrument in frame.instruments:
            self.changed.emit()
