"""Binance spot: public streams and candles over ccxt.pro.

Streams are `<symbol>@trade`, `@bookTicker` (the best bid and offer with sizes, at every change) and `@depth@100ms` on
top of a snapshot of 1,000 levels: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from koc_qt.adapters.ccxt_market_data import CcxtMarketData


class BinanceVenue(CcxtMarketData):
    """Binance's spot market; see CcxtMarketData for what it takes and does."""

    NAME: ClassVar[str] = "binance"
    EXCHANGE_ID: ClassVar[str] = "binance"
    # 3d and 1M exist there too, but open on days of Binance's own choosing.
    TIMEFRAMES: ClassVar[tuple[str, ...]] = (
        "1s",
        "1m",
        "3m",
        "5m",
        "15m",
        "30m",
        "1h",
        "2h",
        "4h",
        "6h",
        "8h",
        "12h",
        "1d",
        "1w",
    )
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "defaultType": "spot",
        "fetchMarkets": {"types": ["spot"]},  # otherwise four more hosts of futures and options are asked
        "fetchCurrencies": False,
    }
    # Leaves out delisted symbols and the permission sets that make up most of the answer's megabytes.
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = {"symbolStatus": "TRADING", "showPermissionSets": "false"}
