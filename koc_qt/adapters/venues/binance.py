"""Binance spot over ccxt.pro: public streams and candles, and the trading of one account.

Streams are `<symbol>@trade`, `@bookTicker` (the best bid and offer with sizes, at every change) and `@depth@100ms` on
top of a snapshot of 1,000 levels: https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams
Orders go over REST, whose answers tell what is left of the limits, and come back on the user data stream of the
WebSocket API: https://developers.binance.com/docs/binance-spot-api-docs/rest-api/trading-endpoints and
https://developers.binance.com/docs/binance-spot-api-docs/user-data-stream
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from koc_qt.adapters.ccxt_dialect import KeyRights, Raw
from koc_qt.adapters.ccxt_errors import Hints, Trouble
from koc_qt.adapters.ccxt_exchange import NOT_AS_EXPECTED
from koc_qt.adapters.ccxt_facts import exact
from koc_qt.adapters.ccxt_market_data import CcxtMarketData
from koc_qt.adapters.ccxt_trading import CcxtTrading
from koc_qt.adapters.rate_budget import Priority, Span
from koc_qt.domain.orders import Order, OrderType, TimeInForce
from koc_qt.domain.state import TradingMode
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities

# 3d and 1M exist there too, but open on days of Binance's own choosing.
_TIMEFRAMES = ("1s", "1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "1w")
_OPTIONS: Mapping[str, Any] = {
    "defaultType": "spot",
    "fetchMarkets": {"types": ["spot"]},  # otherwise four more hosts of futures and options are asked
    "fetchCurrencies": False,
}
# Leaves out delisted symbols and the permission sets that make up most of the answer's megabytes.
_MARKET_PARAMETERS: Mapping[str, Any] = {"symbolStatus": "TRADING", "showPermissionSets": "false"}

ABILITIES = VenueAbilities(
    venue="binance",
    title="Binance",
    trading=True,
    testnet=True,
    order_types=(OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK),
    post_only=True,
    client_ids=True,
    amend=False,  # it can only lower a quantity; its cancel-and-replace gives up the order's identity
    private_streams=True,
    streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
    timeframes=_TIMEFRAMES,
    credentials=(
        CredentialField("key", "API key"),
        CredentialField("secret", "Secret key", "Shown once, when the key is made", is_multiline=True),
    ),
    keys_page="https://www.binance.com/en/my/settings/api-management",
    notes=(
        "Allow reading and spot trading; leave withdrawals off. Testnet keys come from testnet.binance.vision.",
        "Keys without a list of allowed addresses expire after a while when they may trade.",
    ),
)


def _mended(original: Any) -> Any:
    """Give ccxt's class with trades and quotes read by ourselves; see ccxt_exchange."""

    class Mended(original):  # type: ignore[misc]
        """ccxt's class, mended."""

        def handle_message(self, client: Any, message: Any) -> None:
            """Take trades and quotes; the rest is ccxt's."""
            try:
                taken = self.taken(client, message)
            except NOT_AS_EXPECTED:
                taken = False
            if not taken:
                super().handle_message(client, message)

        def taken(self, client: Any, message: Any) -> bool:
            """Take a message if it is one of them. Raises NOT_AS_EXPECTED."""
            kind = message.get("e")
            if kind == "trade":
                symbol, side = self.spot_symbol(message["s"]), "sell" if message["m"] else "buy"
                trade = (message["t"], int(message["T"]), side, message["p"], message["q"])
                self.take_trades(client, f"trade::{symbol}", symbol, [trade])
                return True
            if kind is None and "u" in message and "s" in message:
                symbol = self.spot_symbol(message["s"])
                best = {"bid": message["b"], "bidVolume": message["B"], "ask": message["a"], "askVolume": message["A"]}
                self.take_quote(client, f"bidask:bookTicker@{symbol}", self.bidsasks, symbol, best)
                return True
            return False

    return Mended


class BinanceVenue(CcxtMarketData):
    """Binance's spot market; see CcxtMarketData for what it takes and does."""

    NAME: ClassVar[str] = "binance"
    EXCHANGE_ID: ClassVar[str] = "binance"
    TIMEFRAMES: ClassVar[tuple[str, ...]] = _TIMEFRAMES
    OPTIONS: ClassVar[Mapping[str, Any]] = _OPTIONS
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = _MARKET_PARAMETERS

    def _mended(self, original: Any) -> Any:
        return _mended(original)


_DAY_MS = 86_400_000
_PAGE = 1_000  # executions
_MOST_SYMBOLS = 40  # that are asked for executions: each costs as much as a balance
_MAJOR = ("USDT", "USDC", "FDUSD", "BTC")
_USED = {  # https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits
    "x-mbx-used-weight-1m": "weight",
    "x-mbx-order-count-10s": "orders in 10 s",
    "x-mbx-order-count-1d": "orders in a day",
}


class BinanceTrading(CcxtTrading):
    """One account's trading on Binance spot; see CcxtTrading for what it takes and does."""

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES
    EXCHANGE_ID: ClassVar[str] = "binance"
    OPTIONS: ClassVar[Mapping[str, Any]] = {**_OPTIONS, "warnOnFetchOpenOrdersWithoutSymbol": False}
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = _MARKET_PARAMETERS
    SPANS: ClassVar[tuple[Span, ...]] = (
        Span("weight", 6_000, 60.0),
        Span("orders in 10 s", 100, 10.0, by_weight=False, kinds=(Priority.ORDER,)),
        Span("orders in a day", 200_000, 86_400.0, by_weight=False, kinds=(Priority.ORDER,)),
    )
    WEIGHTS: ClassVar[Mapping[str, int]] = {
        "find": 4,
        "fills": 5,
        "open_orders": 80,
        "trades": 20,
        "balances": 20,
        "fees": 20,
        "markets": 20,
    }
    # https://developers.binance.com/docs/binance-spot-api-docs/errors; ccxt leaves the code out of some texts
    HINTS: ClassVar[Hints] = (
        ('"code":-2015', Trouble.KEY_OR_ADDRESS),  # which ccxt calls a ban once a key has worked
        ('"code":-2014', Trouble.KEY),
        ('"code":-1022', Trouble.KEY),
        ('"code":-1021', Trouble.CLOCK),
        ('"code":-1003', Trouble.RATE),
        ('"code":-1008', Trouble.RATE),
        ('"code":-1015', Trouble.RATE),
        ('"code":-1016', Trouble.MAINTENANCE),
        ('"code":-1006', Trouble.BROKEN),  # "execution status unknown"
        ('"code":-1007', Trouble.BROKEN),
        ("filter failure", Trouble.ORDER),
        ("duplicate order sent", Trouble.TWICE),
        ("market is closed", Trouble.CLOSED),
        ("insufficient balance", Trouble.FUNDS),
        ("action is disabled on this account", Trouble.SUSPENDED),
    )
    STREAMS: ClassVar[tuple[str, ...]] = ("orders",)
    FILL_IDS_PER_SYMBOL: ClassVar[bool] = True

    def additions(self, original: Any) -> Any:
        """Take each execution report as it comes, and notice when the user data stream ends.

        ccxt keeps the newest state of an order alone, so that of two reports that come together one is lost; and it
        tells nobody of an end of the stream.
        """
        trading = self

        class Mended(original):  # type: ignore[misc]
            """ccxt's class with these two things mended."""

            def handle_order_update(self, client: Any, message: Any) -> None:
                """Hand over an execution report: its fill, then the order's state."""
                order = self.parse_ws_order(message)
                if message.get("x") == "TRADE":
                    fill = {**self.parse_ws_trade(message), "clientOrderId": order["clientOrderId"]}
                    trading.take_trades([fill])
                trading.take_orders([order])

            def handle_event_stream_terminated(self, client: Any, message: Any) -> None:
                """Let whoever waits on the connection know."""
                import ccxt

                client.subscriptions.pop("spot", None)
                client.reject(ccxt.NetworkError(f"{self.id} ended the user data stream"))

        return Mended

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Take what is used up of the limits."""
        for header, span in _USED.items():
            if headers.get(header, "").isdigit():
                self.budget.told(span, int(headers[header]))

    async def fetch_balances(self, exchange: Any) -> Raw:
        """Ask for what is not zero."""
        answer: Raw = await exchange.fetch_balance({"omitZeroBalances": "true"})
        return answer

    async def fetch_trades(self, exchange: Any, since_ms: int) -> Sequence[Raw]:
        """Ask symbol by symbol, as Binance wants it: those of our orders, of open ones, and of what the account holds.

        What was bought and sold again without a trace in the balances is found for our own orders alone.
        """
        listed: list[Raw] = []
        for symbol in await self._traded_symbols(exchange):
            newest = await exchange.fetch_my_trades(symbol, None, _PAGE)
            if len(newest) < _PAGE or newest[0]["timestamp"] <= since_ms:
                listed += newest
                continue
            start_ms = since_ms
            while start_ms <= newest[-1]["timestamp"]:
                page = await exchange.fetch_my_trades(symbol, start_ms, _PAGE, {"endTime": start_ms + _DAY_MS - 1})
                listed += page
                start_ms = page[-1]["timestamp"] if len(page) == _PAGE else start_ms + _DAY_MS
        return listed

    async def _traded_symbols(self, exchange: Any) -> list[str]:
        held = set((await self.fetch_balances(exchange)).get("total") or {})
        ours = dict.fromkeys(self.known_symbols())
        ours |= dict.fromkeys(raw["symbol"] for raw in await self.fetch_open_orders(exchange))
        for market in exchange.markets.values():
            if market.get("spot") and market["base"] in held and market["quote"] in {*held, *_MAJOR}:
                ours[market["symbol"]] = None
        return [symbol for symbol in ours if symbol in exchange.markets][:_MOST_SYMBOLS]

    async def fetch_rights(self, exchange: Any) -> KeyRights:
        """Ask for what the key may do; the testnet tells only what the account may."""
        if self.mode is TradingMode.TESTNET:
            account = await exchange.privateGetAccount({"omitZeroBalances": "true"})
            return KeyRights(True, bool(account.get("canTrade")), None, tuple(account.get("permissions") or ()))
        told = await exchange.sapiGetAccountApiRestrictions()
        names = tuple(sorted(name for name, value in told.items() if value is True))
        return KeyRights(
            can_read=told.get("enableReading") is True,
            can_trade=told.get("enableSpotAndMarginTrading") is True,
            can_withdraw=told.get("enableWithdrawals") is True,
            names=names,
        )

    async def fetch_fees(self, exchange: Any) -> tuple[Decimal | None, Decimal | None]:
        """Ask for the account's standard commissions."""
        rates = (await exchange.privateGetAccount({"omitZeroBalances": "true"})).get("commissionRates") or {}
        maker, taker = (exact(rates[side], side) if side in rates else None for side in ("maker", "taker"))
        return maker, taker

    async def fetch_fills(self, exchange: Any, order: Order, raw: Raw) -> Sequence[Raw]:
        """Ask for the executions of one order, a page at a time."""
        symbol, listed = order.request.instrument.symbol, list[Raw]()
        parameters: dict[str, Any] = {"orderId": raw["id"]}
        while True:
            page = await exchange.fetch_my_trades(symbol, None, _PAGE, parameters)
            listed += page
            if len(page) < _PAGE:
                return listed
            parameters["fromId"] = int(page[-1]["id"]) + 1
