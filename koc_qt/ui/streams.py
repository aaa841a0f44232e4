"""Which markets the window streams: what its views watch, told to the engine, again after each lost connection."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.link.messages import Subscribe, Unsubscribe
from koc_qt.ui.desk import Desk

QUOTES_ALONE = ""  # in the place of a timeframe


class Watch:
    """A view's interest in a market, until it is closed."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def close(self) -> None:
        """Lose interest. Safe to call twice."""
        if self._release is not None:
            release, self._release = self._release, None
            release()


class Holding:
    """What one view watches: one market at a time. A view that goes closes it."""

    def __init__(self) -> None:
        self._watch: Watch | None = None

    def replace(self, watch: Watch | None) -> None:
        """Watch this instead; the old one is let go after the new one began, so that what both watch flows on."""
        old, self._watch = self._watch, watch
        if old is not None:
            old.close()

    def close(self) -> None:
        """Watch nothing any more. Safe to call twice."""
        self.replace(None)


class Streams(QObject):
    """Subscribes to what is watched, once however many views watch it.

    `subscribed` brings an InstrumentId: from now on its stream flows, anew after a lost connection, so that a view
    fetches what it missed. `refused` brings one whose subscription failed; `troubles` then says why.
    """

    subscribed = Signal(object)
    refused = Signal(object)

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._desk = desk
        self._wanted: dict[InstrumentId, Counter[str]] = {}
        self._told: dict[InstrumentId, frozenset[str]] = {}
        self._busy: set[InstrumentId] = set()
        self._connections = 0
        self.troubles: dict[InstrumentId, str] = {}
        self._was_connected = desk.is_connected
        desk.linked.connect(self._on_linked)

    def watch(self, instrument: InstrumentId, timeframe: str = QUOTES_ALONE) -> Watch:
        """Have quotes and trades of an instrument streamed, and its bars of a timeframe where one is given."""
        self._wanted.setdefault(instrument, Counter())[timeframe] += 1
        self._sync(instrument)
        return Watch(lambda: self._release(instrument, timeframe))

    def is_flowing(self, instrument: InstrumentId, timeframe: str = QUOTES_ALONE) -> bool:
        """Whether the engine has said yes."""
        return timeframe in self._told.get(instrument, ())

    def retry(self, instrument: InstrumentId) -> None:
        """Ask again for what was refused."""
        self.troubles.pop(instrument, None)
        self._sync(instrument)

    def _release(self, instrument: InstrumentId, timeframe: str) -> None:
        counts = self._wanted[instrument]
        counts[timeframe] -= 1
        if not counts[timeframe]:
            del counts[timeframe]
        if not counts:
            del self._wanted[instrument]
            self.troubles.pop(instrument, None)
        self._sync(instrument)

    def _on_linked(self) -> None:
        was_connected, self._was_connected = self._was_connected, self._desk.is_connected
        if self._desk.is_connected and not was_connected:  # a new connection, which streams nothing yet
            self._connections += 1
            self._told.clear()
            self.troubles.clear()
            for instrument in list(self._wanted):
                self._sync(instrument)

    def _sync(self, instrument: InstrumentId) -> None:
        if self._desk.is_connected and instrument not in self._busy:
            self._busy.add(instrument)
            self._desk.start(self._tell(instrument))

    async def _tell(self, instrument: InstrumentId) -> None:
        """Bring the engine up to what is wanted, which may change meanwhile."""
        connection = self._connections
        try:
            while self._desk.is_connected:
                connection = self._connections
                wanted = frozenset(self._wanted.get(instrument, ()))
                if wanted == self._told.get(instrument, frozenset()):
                    return
                if not wanted:
                    self._told.pop(instrument, None)
                    await self._desk.request(Unsubscribe(instrument))
                    continue
                if instrument in self.troubles:
                    return
                timeframes = tuple(sorted(wanted - {QUOTES_ALONE}))
                await self._desk.request(Subscribe(instrument, timeframes), timeout_s=30.0)
                if connection == self._connections:  # an answer of an earlier connection counts for nothing
                    self._told[instrument] = wanted
                    self.subscribed.emit(instrument)
        except KocError as error:
            if self._desk.is_connected and connection == self._connections:
                self.troubles[instrument] = str(error)
                self.refused.emit(instrument)
        finally:
            self._busy.discard(instrument)
            if connection != self._connections:  # made anew while this was under way
                self._sync(instrument)
