"""What the product can do with Alpaca: US stocks and ETFs, and crypto. Static facts: no vendor library is imported."""

from __future__ import annotations

from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType, TimeInForce
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities

TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "1d")

ABILITIES = VenueAbilities(
    venue="alpaca",
    title="Alpaca",
    trading=True,
    testnet=True,
    order_types=tuple(OrderType),
    time_in_force=tuple(TimeInForce),
    client_ids=True,
    amend=True,
    private_streams=True,
    shorting=True,
    fractional=True,
    streams=(DataStream.TRADES, DataStream.QUOTES),
    timeframes=TIMEFRAMES,
    data_needs_key=True,
    credentials=(
        CredentialField("key", "API key ID", "Begins with PK for paper trading, with AK for live trading"),
        CredentialField("secret", "Secret key", "Shown once, when the key is made"),
    ),
    keys_page="https://app.alpaca.markets",
    notes=(
        "Testnet is Alpaca's own paper trading, which has keys of its own.",
        "Market data needs keys, of paper trading will do; stocks come from one exchange, IEX, and have no order book.",
        "Bars of stocks are as they were traded: prices before a split are not adjusted.",
        "Stocks trade in regular hours alone: an order that comes earlier waits for the open, and cannot be changed "
        "until then.",
        "Orders for parts of a share, and all market and stop orders of stocks for parts, end with the day.",
        "Crypto has no stop order without a limit, and no fill-or-kill; nothing here can be post-only.",
        "An order that is to close a position is checked against it before it is sent; Alpaca itself does not.",
        "Alpaca does not say whether a fill made or took liquidity: what traded at its own limit counts as made.",
        "Fees of crypto are those of the first tier; Alpaca books the real ones, and the small regulatory fees of "
        "stock sales, at the end of the day.",
    ),
)


def why_not(request: OrderRequest) -> str:
    """Say why Alpaca cannot take such an order whatever its market says; empty where it can."""
    if request.post_only:
        return "Alpaca has no post-only orders; send a plain limit order"
    if request.reduce_only and request.type is not OrderType.MARKET:
        return "Alpaca has no reduce-only orders that rest; close with a market order"
    if not is_crypto(request.instrument.symbol):
        return ""
    if request.type is OrderType.STOP:
        return "Alpaca takes no stop order for crypto without a limit; send a stop-limit order"
    if request.time_in_force is TimeInForce.FOK:
        return "Alpaca takes no fill-or-kill order for crypto; send immediate-or-cancel or good-till-cancelled"
    if request.reduce_only and request.side is Side.BUY:
        return "nothing can be sold short in crypto at Alpaca: there is no position that buying would reduce"
    return ""


def is_crypto(symbol: str) -> bool:
    """Tell pairs, such as BTC/USD, from stocks."""
    return "/" in symbol
