"""What the engine still has to say to one client, and in which order. No sockets here: the policy alone.

Facts, replies and snapshots wait in one bounded queue, in order; when a client reads so slowly that it is full, the
facts in it are dropped, replies stay, and Resync tells the client to ask for a snapshot. Of market data the newest of
each stream waits, and goes when the queue is empty. History is encoded a page at a time, once the queue is empty.
"""

from __future__ import annotations

from collections import deque
from enum import Enum

from koc_qt.domain.errors import LinkError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.link.codec import PING, encode_fact, number_fact
from koc_qt.link.history import History
from koc_qt.link.messages import BarChanged, BookChanged, Fact, QuoteChanged, Resync, Subscribe, TradePrinted

MAX_SUBSCRIPTIONS = 1_000

StreamKey = tuple[str, InstrumentId, str]


def stream_of(fact: Fact) -> StreamKey | None:
    """Give the market data stream that a fact belongs to: kind, instrument and timeframe; None for all else."""
    match fact:
        case QuoteChanged(quote):
            return "quote", quote.instrument, ""
        case BookChanged(book):
            return "book", book.instrument, ""
        case TradePrinted(trade):
            return "trade", trade.instrument, ""
        case BarChanged(bar, _):
            return "bar", bar.instrument, bar.timeframe
        case _:
            return None


class _Kind(Enum):
    FACT = 1
    SNAPSHOT = 2
    REPLY = 3
    CONTROL = 4  # Welcome and Resync

    @property
    def survives(self) -> bool:
        """Whether an overflow leaves it in the queue."""
        return self in (_Kind.REPLY, _Kind.CONTROL)


class Session:
    """One welcomed client."""

    def __init__(self, identity: bytes, client_id: str, limit: int, now_s: float) -> None:
        self.identity = identity
        self.client_id = client_id
        self.heard_s = now_s  # the loop's time when the client last spoke
        self.commands = 0  # under way, or whose reply has not left yet
        self.resyncs = 0
        self._limit = limit
        self._queue: deque[tuple[_Kind, bytes]] = deque()
        self._newest: dict[StreamKey, bytes] = {}
        self._subscriptions: dict[InstrumentId, frozenset[str]] = {}
        self._sequence = 0
        self._out_of_sync = True  # until the first snapshot
        self._snapshot_waits = False
        self._history = History()

    # ---- what goes in ------------------------------------------------------------------------------------------

    def subscribe(self, command: Subscribe) -> None:
        """Stream an instrument to this client, and bars of these timeframes. Raises LinkError above the limit."""
        wanted = {**self._subscriptions, command.instrument: frozenset(command.timeframes)}
        if sum(1 + len(timeframes) for timeframes in wanted.values()) > MAX_SUBSCRIPTIONS:
            raise LinkError(f"a client can follow {MAX_SUBSCRIPTIONS} streams: unsubscribe from some")
        self.unsubscribe(command.instrument)
        self._subscriptions = wanted

    def unsubscribe(self, instrument: InstrumentId) -> None:
        """Stream an instrument no more; what waits of it is dropped."""
        self._subscriptions.pop(instrument, None)
        self._newest = {key: body for key, body in self._newest.items() if key[1] != instrument}

    def wants(self, stream: StreamKey) -> bool:
        """Whether the client subscribed to the stream."""
        kind, instrument, timeframe = stream
        timeframes = self._subscriptions.get(instrument)
        return timeframes is not None and (kind != "bar" or timeframe in timeframes)

    def offer_newest(self, stream: StreamKey, encoded: bytes) -> None:
        """Queue market data in the place of what still waits of its stream."""
        self._newest[stream] = number_fact(0, encoded)

    def forget_newest(self, stream: StreamKey) -> None:
        """Drop what waits of a stream: something final was queued, which must not be followed by something older."""
        self._newest.pop(stream, None)

    def offer(self, encoded: bytes) -> None:
        """Queue a fact with its number; a client that is out of sync gets it with its next snapshot."""
        if self._out_of_sync:
            return
        self._sequence += 1
        self._queue.append((_Kind.FACT, number_fact(self._sequence, encoded)))

    def offer_snapshot(self, encoded: bytes, history: History) -> None:
        """Queue a snapshot; numbers start from 1 after it. Raises LinkError while another one waits.

        The history is told later, by `offer_page`, in the place of what is left of an earlier one.
        """
        if self._snapshot_waits:
            raise LinkError("a snapshot is already on its way")
        self._sequence = 0
        self._out_of_sync = False
        self._snapshot_waits = True
        self._history = history
        self._queue.append((_Kind.SNAPSHOT, number_fact(0, encoded)))

    @property
    def has_history(self) -> bool:
        """Whether there is history to be told."""
        return self._history.left > 0

    def offer_page(self) -> None:
        """Queue the next page of history, once nothing else waits there: it never keeps back what is new."""
        if self.has_history and not self._queue:
            self.offer(encode_fact(self._history.next_page()))

    def offer_reply(self, encoded: bytes) -> None:
        """Queue the Reply to a command; `commands` goes down when it has left."""
        self._queue.append((_Kind.REPLY, number_fact(0, encoded)))

    def offer_control(self, fact: Fact) -> None:
        """Queue what is said about the link itself."""
        self._queue.append((_Kind.CONTROL, number_fact(0, encode_fact(fact))))

    @property
    def is_full(self) -> bool:
        """Whether the queue is above its limit."""
        return len(self._queue) > self._limit

    def resync(self) -> None:
        """Drop the facts that wait, and tell the client."""
        lost = sum(not kind.survives for kind, _ in self._queue)
        self._queue = deque(item for item in self._queue if item[0].survives)
        self._out_of_sync = True
        self._snapshot_waits = False
        self._history = History()
        self.resyncs += 1
        self.offer_control(Resync(f"the client read too slowly: {lost} facts were dropped; ask for a snapshot"))

    # ---- what goes out -----------------------------------------------------------------------------------------

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._queue and not self._newest

    def next_body(self) -> bytes:
        """Give what goes next, to be taken off by `sent`; a ping when nothing waits."""
        if self._queue:
            return self._queue[0][1]
        return next(iter(self._newest.values()), PING)

    def sent(self) -> None:
        """Take off what `next_body` gave."""
        if self._queue:
            kind, _ = self._queue.popleft()
            if kind is _Kind.SNAPSHOT:
                self._snapshot_waits = False
            elif kind is _Kind.REPLY:
                self.commands -= 1
        elif self._newest:
            del self._newest[next(iter(self._newest))]
