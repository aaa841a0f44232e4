"""The events of one symbol in the order of their times, read from its tape."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from decimal import Decimal

import numpy as np

from koc_qt.adapters.venues.simulator.book import Ladder, ladder
from koc_qt.adapters.venues.simulator.regimes import DAY_S, EPOCH_NS
from koc_qt.adapters.venues.simulator.tape import SLOT_NS, SLOTS_A_SECOND, Tape
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Book, BookLevel, Quote, Side, Trade
from koc_qt.domain.timeframes import SECOND_NS

_BOOK_EVERY = 2  # slots: two books a second
_TRADE_IDS_A_DAY = 10_000_000

TapeEvent = Trade | Quote | Book


class SymbolStream:
    """Gives a symbol's quotes and books from `start_ns` on, and the trades after it, each exactly once.

    The first event is the quote standing at `start_ns`, dated at the beginning of its quarter second. `tape` gives a
    day's tape; it is called when the stream enters the day, and computes for about 20 ms unless it remembers.
    """

    def __init__(
        self,
        instrument: Instrument,
        tape: Callable[[int], Tape],
        book_key: int,
        mean_trade_lots: float,
        start_ns: int,
    ) -> None:
        self._instrument = instrument
        self._price_digits = -int(instrument.tick_size.as_tuple().exponent)
        self._lot_digits = -int(instrument.lot_size.as_tuple().exponent)
        self._tape = tape
        self._book_key = book_key
        self._mean_trade_lots = mean_trade_lots
        self._day = -1
        self._today: Tape | None = None
        self._events: deque[TapeEvent] = deque()
        self.seek(start_ns)

    def seek(self, time_ns: int) -> None:
        """Go on from the quote standing at `time_ns`; what lies between is left out."""
        self._start_ns = max(time_ns, EPOCH_NS)
        self._quote_start_ns = self._start_ns // SLOT_NS * SLOT_NS
        self._second = (self._start_ns - EPOCH_NS) // SECOND_NS
        self._events.clear()

    @property
    def next_ns(self) -> int:
        """When the next event is due. Never later than it is: at most the beginning of its second."""
        if self._events:
            return self._events[0].time_ns
        return max(EPOCH_NS + self._second * SECOND_NS, self._quote_start_ns)

    def pop(self, until_ns: int) -> TapeEvent | None:
        """Give the next event, or None when it is later than `until_ns`."""
        while not self._events:
            if self.next_ns > until_ns:
                return None
            self._events.extend(filter(self._begun, self._next_second()))
        return self._events.popleft() if self._events[0].time_ns <= until_ns else None

    def _begun(self, event: TapeEvent) -> bool:
        # A trade before the start may have been told by an earlier subscription already.
        return event.time_ns > self._start_ns if isinstance(event, Trade) else event.time_ns >= self._quote_start_ns

    def _next_second(self) -> list[TapeEvent]:
        day, second = divmod(self._second, DAY_S)
        if day != self._day or self._today is None:
            self._day, self._today = day, self._tape(day)
        events = self._quotes_and_books(self._today, second) + self._trades(self._today, day, second)
        events.sort(key=_time)  # stable: at equal times the quote comes before the trade that hits it
        self._second += 1
        return events

    def _quotes_and_books(self, tape: Tape, second: int) -> list[TapeEvent]:
        slots = slice(second * SLOTS_A_SECOND, (second + 1) * SLOTS_A_SECOND)
        bid = tape.bid[slots].astype(np.int64)
        moment = np.full(SLOTS_A_SECOND, self._second, dtype=np.int64)
        levels = ladder(self._book_key, moment, bid, bid + int(tape.width[second]), self._mean_trade_lots)
        start_ns = EPOCH_NS + self._second * SECOND_NS
        events: list[TapeEvent] = []
        for slot in range(SLOTS_A_SECOND):
            time_ns = start_ns + slot * SLOT_NS
            events.append(self._quote(levels, slot, time_ns))
            if slot % _BOOK_EVERY == 0:
                events.append(self._book(levels, slot, time_ns))
        return events

    def _quote(self, levels: Ladder, row: int, time_ns: int) -> Quote:
        return Quote(
            self._instrument.id,
            time_ns,
            self._price(int(levels.bid_price[row, 0])),
            self._quantity(int(levels.bid_lots[row, 0])),
            self._price(int(levels.ask_price[row, 0])),
            self._quantity(int(levels.ask_lots[row, 0])),
        )

    def _book(self, levels: Ladder, row: int, time_ns: int) -> Book:
        def side(prices: list[int], lots: list[int]) -> tuple[BookLevel, ...]:
            return tuple(
                BookLevel(self._price(price), self._quantity(lot)) for price, lot in zip(prices, lots, strict=True)
            )

        return Book(
            self._instrument.id,
            time_ns,
            side(levels.bid_price[row].tolist(), levels.bid_lots[row].tolist()),
            side(levels.ask_price[row].tolist(), levels.ask_lots[row].tolist()),
        )

    def _trades(self, tape: Tape, day: int, second: int) -> list[TapeEvent]:
        midnight_ns = EPOCH_NS + day * DAY_S * SECOND_NS
        return [
            Trade(
                self._instrument.id,
                midnight_ns + int(tape.offset_ns[index]),
                self._price(int(tape.price[index])),
                self._quantity(int(tape.lots[index])),
                Side.BUY if tape.bought[index] else Side.SELL,
                str(day * _TRADE_IDS_A_DAY + index),
            )
            for index in range(int(tape.first[second]), int(tape.first[second + 1]))
        ]

    def _price(self, ticks: int) -> Decimal:
        return Decimal(ticks).scaleb(-self._price_digits)

    def _quantity(self, lots: int) -> Decimal:
        return Decimal(lots).scaleb(-self._lot_digits)


def _time(event: TapeEvent) -> int:
    return event.time_ns
