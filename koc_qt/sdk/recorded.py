"""What an engine has recorded of sessions, for workers that run them once more; part of the protocol of channel.py."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Book, Quote, Side, Trade


class RecordedEvent(msgspec.Struct, frozen=True):
    """News of a market, and when they were heard by the market's clock: that may be later than they are dated."""

    heard_ns: int
    event: Quote | Book | Trade


class RecordedOrder(msgspec.Struct, frozen=True):
    """When an order of a recorded session reached its account, and what the market told from then to its end.

    The first of the `events`, heard before `time_ns`, are what was known when it came. One that was refused has none.
    The strategy was told of its end after the bar that opened at `told_after_ns`, and before the next one; 0 where that
    is not known.
    """

    instrument: InstrumentId
    side: Side
    time_ns: int
    events: tuple[RecordedEvent, ...]
    told_after_ns: int = 0


class SessionOrder(msgspec.Struct, frozen=True):
    """What a recorded session tells of an order: when its account did what, by the account's clock.

    `request_id` is that of the session's worker, which heard of it first at `told_ns`. `changes` are of quantity and
    limit. Of one that was refused before it became an order nothing but these two is known, and it has no id.
    """

    request_id: int
    told_ns: int
    client_order_id: str = ""
    instrument: InstrumentId | None = None
    side: Side | None = None
    arrived_ns: int | None = None
    canceled_ns: int | None = None
    changes: tuple[tuple[Decimal, Decimal | None, int], ...] = ()
    fills: int = 0


class ReplayOrders(msgspec.Struct, frozen=True, tag=True):
    """Some of the orders of a recorded session, in order; all come before its first ReplayTold."""

    orders: tuple[SessionOrder, ...]
