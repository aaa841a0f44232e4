"""What a venue can do, what it needs to be used, and what a look at an account found. Static facts: no I/O."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, OrderType, TimeInForce
from koc_qt.domain.state import Balance, VenuePosition

__all__ = [
    "ConnectionReport",
    "CredentialField",
    "DataStream",
    "Quota",
    "VenueAbilities",
    "VenueOrder",
    "VenuePosition",
    "VenueTrade",
]


class CredentialField(msgspec.Struct, frozen=True):
    """One thing that a person types to let us in: its `name` is stable (``key``, ``secret``, ``passphrase``)."""

    name: str
    title: str
    help: str = ""
    is_multiline: bool = False  # a PEM block


class DataStream(StrEnum):
    """What a venue streams of a market."""

    TRADES = "trades"
    QUOTES = "quotes"
    BOOK = "book"
    BARS = "bars"


class VenueAbilities(msgspec.Struct, frozen=True):
    """What the product can do with a venue, all of it proven over its wire protocol; the window offers nothing else.

    `venue` is the name in instrument ids, `title` what people read. Without `trading` it is a source of data alone.
    `client_ids` says that an order can be found by the id that we gave it. `history_days` is how far back one-minute
    bars reach, None for the whole history; `history_bars` is how many bars of a length there are at most, the newest,
    None without such a limit. `fractional` allows parts of a unit; `keys_page` is where keys are made.
    """

    venue: str
    title: str
    trading: bool = False
    paper: bool = True
    testnet: bool = False
    order_types: tuple[OrderType, ...] = ()
    time_in_force: tuple[TimeInForce, ...] = ()
    post_only: bool = False
    reduce_only: bool = False
    client_ids: bool = False
    amend: bool = False
    private_streams: bool = False
    shorting: bool = False
    fractional: bool = True
    streams: tuple[DataStream, ...] = ()
    timeframes: tuple[str, ...] = ()
    history_days: int | None = None
    history_bars: int | None = None
    data_needs_key: bool = False
    credentials: tuple[CredentialField, ...] = ()
    keys_page: str = ""
    notes: tuple[str, ...] = ()


class Quota(msgspec.Struct, frozen=True):
    """How much of what a venue takes within some seconds is used up now: `used` of `allowed`.

    `what` is ``orders`` or ``requests``, of which some may count for more than one.
    """

    what: str
    used: int
    allowed: int
    seconds: float


class ConnectionReport(msgspec.Struct, frozen=True):
    """What a test of an account's keys found. `problem` is empty when all is well, else a sentence with what to do.

    None means that the venue does not say. Fees are fractions of the notional; `clock_skew_ms` is how far the venue's
    clock is ahead of ours; `latency_ms` is the median round trip of a small signed request. `limits` are the account's
    other limits, as phrases.
    """

    problem: str = ""
    can_read: bool | None = None
    can_trade: bool | None = None
    can_withdraw: bool | None = None
    permissions: tuple[str, ...] = ()
    clock_skew_ms: float | None = None
    latency_ms: float | None = None
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    balances: tuple[Balance, ...] = ()
    warnings: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()


class VenueOrder(msgspec.Struct, frozen=True):
    """An order that works at the venue, ours or not; `client_order_id` is empty where the venue tells none."""

    venue_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    quantity: Decimal
    filled_quantity: Decimal
    price: Decimal | None
    stop_price: Decimal | None
    time_ns: int


class VenueTrade(msgspec.Struct, frozen=True):
    """An execution on the account, ours or not, as the venue lists it; `fee` is a cost when positive."""

    fill_id: str
    venue_order_id: str
    client_order_id: str
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_currency: str
    liquidity: Liquidity
    time_ns: int
