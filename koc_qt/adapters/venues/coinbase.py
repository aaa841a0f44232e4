"""Coinbase Advanced Trade over ccxt.pro: public streams and candles, and the trading of one account.

Streams are `market_trades` and `level2`, of which quotes are the best level, with `heartbeats` to keep them open:
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels
Orders go over REST (https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api/orders/create-order) as the
venue's own configurations: ccxt would drop our id, and buys at the market only for a sum of money. The `user` channel
says how much of an order is done; its executions are asked for at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from koc_qt.adapters.ccxt_book_quotes import CcxtBookQuotes
from koc_qt.adapters.ccxt_dialect import KeyRights, Raw
from koc_qt.adapters.ccxt_errors import Hints, Trouble
from koc_qt.adapters.ccxt_facts import MS_NS, exact
from koc_qt.adapters.ccxt_order_facts import amount
from koc_qt.adapters.ccxt_trading import CcxtTrading
from koc_qt.adapters.coinbase_client import mended
from koc_qt.adapters.coinbase_key import private_key
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.adapters.rate_budget import Span
from koc_qt.domain.errors import VenueError, VenueRejected
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Order, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret

_TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "2h", "6h", "1d")
_BARS = 300  # a request
_FIRST_NS = 1_420_070_400_000_000_000  # nothing was traded there before 2015
# Leaves out futures.
_MARKET_PARAMETERS: Mapping[str, Any] = {"product_type": "SPOT"}

ABILITIES = VenueAbilities(
    venue="coinbase",
    title="Coinbase",
    trading=True,
    order_types=(OrderType.MARKET, OrderType.LIMIT, OrderType.STOP_LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK),
    post_only=True,
    client_ids=True,
    amend=True,
    private_streams=True,
    streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
    timeframes=_TIMEFRAMES,
    credentials=(
        CredentialField("key", "API key name", "organizations/.../apiKeys/..."),
        CredentialField("secret", "Private key", "The whole block, BEGIN and END lines included", is_multiline=True),
    ),
    keys_page="https://portal.cdp.coinbase.com/projects/api-keys",
    notes=(
        "Make a secret API key with the signature algorithm ECDSA; allow viewing and trading, and leave transfers off.",
        "Coinbase has no testnet: use paper trading.",
        "What is traded in USDC shares its order book, and market data, with USD.",
    ),
)


class CoinbaseVenue(CcxtBookQuotes):
    """Coinbase's spot market; see CcxtMarketData for what it takes and does."""

    NAME: ClassVar[str] = "coinbase"
    EXCHANGE_ID: ClassVar[str] = "coinbase"
    TIMEFRAMES: ClassVar[tuple[str, ...]] = _TIMEFRAMES
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = _MARKET_PARAMETERS
    # 10 a second; ccxt's other way of keeping to that makes each request wait for the one before
    SETTINGS: ClassVar[Mapping[str, Any]] = {"rateLimiterAlgorithm": "rollingWindow", "rollingWindowSize": 1000.0}

    def _mended(self, original: Any) -> Any:
        return mended(original, lambda _: None)

    async def _candles(self, exchange: Any, symbol: str, timeframe: str, since_ms: int, last_ms: int) -> Any:
        since_ms = max(since_ms, _FIRST_NS // MS_NS)
        until_ms = min(last_ms, since_ms + (_BARS - 1) * duration_ns(timeframe) // MS_NS)
        if until_ms < since_ms:
            return []
        return await exchange.fetch_ohlcv(symbol, timeframe, since_ms, _BARS, {"until": until_ms})

    async def _after_gap(self, instrument: InstrumentId, timeframe: str, since_ns: int, end_ns: int) -> int:
        """Look for the next day on which something was traded, that no request is spent on each empty page."""
        next_ns = max(since_ns + _BARS * duration_ns(timeframe), _FIRST_NS)
        while next_ns < end_ns:
            days = await self._page(instrument, "1d", next_ns - next_ns % duration_ns("1d"), end_ns)
            if days:
                return max(next_ns, days[0].open_time_ns)
            next_ns += _BARS * duration_ns("1d")
        return end_ns

    async def _unwatch(self, exchange: Any, symbol: str) -> None:
        """Unsubscribe: ccxt would wait until nothing at all is subscribed any more."""
        client = exchange.client(exchange.urls["api"]["ws"])
        product = exchange.market(symbol)["id"]
        shared = {exchange.markets[symbol]["info"].get("alias") or product, product}
        for channel in ("market_trades", "level2"):
            client.subscriptions.pop(f"{channel}::{symbol}", None)
            left = [
                exchange.market(name.partition("::")[2]) for name in client.subscriptions if name.startswith(channel)
            ]
            if not any({market["id"], market["info"].get("alias")} & shared for market in left):
                exchange.orderbooks.pop(symbol, None)
                await exchange.turn()
                await client.send({"type": "unsubscribe", "product_ids": [product], "channel": channel})


_ENDINGS = {
    "FILLED": OrderStatus.FILLED,
    "CANCELLED": OrderStatus.CANCELED,
    "EXPIRED": OrderStatus.EXPIRED,
    "FAILED": OrderStatus.REJECTED,
}
_ORDERS_A_PAGE = 250
_FILLS_A_PAGE = 100
_MARGIN_MS = 60_000  # the venue may have noted an order's beginning so much before ours


class CoinbaseTrading(CcxtTrading):
    """One account's trading on Coinbase; see CcxtTrading for what it takes and does. Coinbase has no testnet."""

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES
    EXCHANGE_ID: ClassVar[str] = "coinbase"
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = _MARKET_PARAMETERS
    # https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/rest-api
    SPANS: ClassVar[tuple[Span, ...]] = (Span("requests", 30, 1.0),)
    WEIGHTS: ClassVar[Mapping[str, int]] = {"trades": 5, "open_orders": 2, "balances": 2, "markets": 3}
    HINTS: ClassVar[Hints] = (
        ("missing required scopes", Trouble.PERMISSION),
        ("unauthorized", Trouble.KEY_OR_ADDRESS),  # all that it says of a key, a token or an address
        ("authentication failure", Trouble.KEY_OR_ADDRESS),
        ("orderid was not found", Trouble.ABSENT),
        ("insufficient_fund", Trouble.FUNDS),
        ("invalid_product_id", Trouble.SYMBOL),
        ("order_entry_disabled", Trouble.CLOSED),
        ("preview_", Trouble.ORDER),
        ("too many requests", Trouble.RATE),
    )
    STREAMS: ClassVar[tuple[str, ...]] = ("orders",)

    def ccxt_keys(self, credentials: Credentials) -> dict[str, str]:
        """Give ccxt's credentials, the private key in the form it takes; one that it cannot use is told on opening."""
        self._asking: dict[str, bool] = {}  # by order, whether there was more word of it since its fills were asked for
        keys = super().ccxt_keys(credentials)
        self._key_problem: VenueRejected | None = None
        try:
            if "BEGIN" in keys["apiKey"]:
                raise VenueRejected("The key name and the private key of Coinbase are swapped: enter each in its field")
            keys["secret"] = private_key(keys["secret"])
        except VenueRejected as problem:
            self._key_problem = problem
        register_secret(keys["secret"])
        return keys

    def additions(self, original: Any) -> Any:
        """Mend ccxt's class. Raises VenueRejected where it could not use the key."""
        if self._key_problem is not None:
            raise self._key_problem
        return mended(original, self.take_orders)

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Take what is left of this second's requests; public ones have a limit of their own."""
        limit, left = headers.get("x-ratelimit-limit", ""), headers.get("x-ratelimit-remaining", "")
        if limit == "30" and left.isdigit():
            self.budget.told("requests", 30 - int(left))

    async def submit(self, order: Order) -> None:
        """Send a new order, as CcxtTrading does."""
        try:
            await super().submit(order)
        finally:
            self._ask_for_fills()

    def take_orders(self, listed: Iterable[Raw]) -> None:
        """Take what the stream says of orders, and ask at once for the executions that it counts."""
        super().take_orders(listed)
        self._ask_for_fills()

    def _ask_for_fills(self) -> None:
        for order in self._tracker.missing():
            key = order.client_order_id
            if key in self._asking:
                self._asking[key] = True
            elif self._tracker.venue_order_id(key):
                self._asking[key] = False
                self._start(self._fetch_fills(order), f"executions of {key}")

    async def _fetch_fills(self, order: Order) -> None:
        """Ask for an order's executions, again where there was more word of it meanwhile; look-ups mend a failure."""
        key, again = order.client_order_id, True
        what, raw = f"the executions of {key}", {"id": self._tracker.venue_order_id(key)}
        try:
            while again:
                self._asking[key] = False
                self.take_trades(await self._account.read("fills", what, lambda x: self.fetch_fills(x, order, raw)))
                again = self._asking[key]
        except VenueError as error:
            self._note("fills", error)
        finally:
            del self._asking[key]

    async def create_there(self, exchange: Any, order: Order) -> Raw:
        """Send a new order; the answer gives its id alone."""
        import ccxt

        market = exchange.market(order.request.instrument.symbol)
        told = await exchange.v3PrivatePostBrokerageOrders(
            {
                "client_order_id": self.client_id(order),
                "product_id": market["id"],
                "side": order.request.side.value.upper(),
                "order_configuration": _configuration(exchange, order),
            }
        )
        if told.get("success") is False:
            raise ccxt.InvalidOrder(f"{exchange.id} {told}")
        venue_order_id = (told.get("success_response") or {}).get("order_id")
        if not venue_order_id:
            raise ccxt.NetworkError(f"{exchange.id} answered an order with {told}")
        return {"id": venue_order_id}

    async def cancel_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw:
        """Ask for a cancel; how the order ended is told by the stream."""
        import ccxt

        venue_order_id = venue_order_id or await self._look_up_id(exchange, order)
        told = await exchange.v3PrivatePostBrokerageOrdersBatchCancel({"order_ids": [venue_order_id]})
        [result] = told.get("results") or [{}]
        why = str(result.get("failure_reason"))
        if result.get("success") is not True and why != "DUPLICATE_CANCEL_REQUEST":
            absent = why in ("UNKNOWN_CANCEL_ORDER", "INVALID_CANCEL_REQUEST")
            raise (ccxt.OrderNotFound if absent else ccxt.ExchangeError)(f"{exchange.id} {why}")
        return {}

    async def amend_there(
        self, exchange: Any, order: Order, venue_order_id: str, quantity: Decimal, price: Decimal | None
    ) -> Raw:
        """Ask for a change; the order keeps its id."""
        import ccxt

        venue_order_id = venue_order_id or await self._look_up_id(exchange, order)
        limit = {} if price is None else {"price": f"{price:f}"}
        told = await exchange.v3PrivatePostBrokerageOrdersEdit(
            {"order_id": venue_order_id, "size": f"{quantity:f}", **limit}
        )
        if told.get("success") is not True:
            why = str(told.get("errors") or told)
            absent = "ORDER_NOT_FOUND" in why or "ONLY_OPEN_ORDERS" in why
            raise (ccxt.OrderNotFound if absent else ccxt.InvalidOrder)(f"{exchange.id} {why}")
        return {"id": venue_order_id}

    async def _look_up_id(self, exchange: Any, order: Order) -> str:
        """Look through the orders since this one was made: the venue finds none by our id."""
        import ccxt

        query = {
            "product_ids": [exchange.market(order.request.instrument.symbol)["id"]],
            "start_date": exchange.iso8601(max(order.created_ns // MS_NS - _MARGIN_MS, 0)),
        }
        for told in await _pages(exchange.v3PrivateGetBrokerageOrdersHistoricalBatch, "orders", query, _ORDERS_A_PAGE):
            if told.get("client_order_id") == self.client_id(order):
                return str(told["order_id"])
        raise ccxt.OrderNotFound(f"{exchange.id} has no order {self.client_id(order)}")

    async def find_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw | None:
        """Look an order up by the venue's id, or in the list of orders since it was made."""
        try:
            venue_order_id = venue_order_id or await self._look_up_id(exchange, order)
            told = await exchange.v3PrivateGetBrokerageOrdersHistoricalOrderId({"order_id": venue_order_id})
        except Exception as error:
            if self.is_absent(error):
                return None
            raise
        return _structure(exchange, told["order"])

    def read_update(self, raw: Raw) -> OrderUpdate:
        """Read what the venue itself says of an order's state; ccxt makes cancels of what expired or failed."""
        told = raw["info"]
        filled = amount(told.get("cumulative_quantity") or told.get("filled_size"), "filled quantity") or Decimal(0)
        status = _ENDINGS.get(told.get("status", ""))
        if status is None:
            waiting = OrderStatus.TRIGGERED if told.get("trigger_status") == "STOP_TRIGGERED" else OrderStatus.ACCEPTED
            status = OrderStatus.PARTIALLY_FILLED if filled else waiting
        reasons = [
            str(told.get(f"{how}_{what}") or "") for how in ("reject", "cancel") for what in ("message", "reason")
        ]
        reason = next((why for why in reasons if why and not why.endswith("_UNSPECIFIED")), "")
        ours, theirs = str(told.get("client_order_id") or ""), str(told.get("order_id") or "")
        return OrderUpdate(status, self.time_ns(), ours, theirs, filled, reason)

    async def fetch_fills(self, exchange: Any, order: Order, raw: Raw) -> Sequence[Raw]:
        """Ask for the executions of one order."""
        return await _fills(exchange, {"order_ids": [raw["id"]]})

    async def fetch_open_orders(self, exchange: Any) -> Sequence[Raw]:
        """Ask for every open order: ccxt asks for the first page alone."""
        query = {"order_status": ["OPEN"]}
        listed = await _pages(exchange.v3PrivateGetBrokerageOrdersHistoricalBatch, "orders", query, _ORDERS_A_PAGE)
        return [_structure(exchange, each) for each in listed]

    async def fetch_trades(self, exchange: Any, since_ms: int) -> Sequence[Raw]:
        """Ask for the account's executions, of all products."""
        return await _fills(exchange, {"start_sequence_timestamp": exchange.iso8601(since_ms)})

    async def fetch_balances(self, exchange: Any) -> Raw:
        """Ask for the accounts as trading has them: the others do not tell what orders hold."""
        answer: Raw = await exchange.fetch_balance({"v3": True})
        return answer

    async def fetch_rights(self, exchange: Any) -> KeyRights:
        """Ask what the key may do."""
        told = await exchange.v3PrivateGetBrokerageKeyPermissions()
        may = [name for name in ("can_view", "can_trade", "can_transfer") if told.get(name) is True]
        return KeyRights("can_view" in may, "can_trade" in may, "can_transfer" in may, tuple(may))

    async def fetch_fees(self, exchange: Any) -> tuple[Decimal | None, Decimal | None]:
        """Ask for the account's tier."""
        tier = (await exchange.v3PrivateGetBrokerageTransactionSummary()).get("fee_tier") or {}
        return amount(tier.get("maker_fee_rate"), "maker fee"), amount(tier.get("taker_fee_rate"), "taker fee")


def _configuration(exchange: Any, order: Order) -> dict[str, Any]:
    """Write an order as Coinbase's configuration. A stop is reached from below to buy, and from above to sell."""
    request, symbol = order.request, order.request.instrument.symbol
    size = {"base_size": exchange.amount_to_precision(symbol, f"{request.quantity:f}")}
    if request.price is None:
        if request.stop_price is not None:
            raise VenueRejected("Coinbase has no stop orders without a limit; give the order a limit price")
        return {"market_market_ioc": size}
    limit = {**size, "limit_price": exchange.price_to_precision(symbol, f"{request.price:f}")}
    if request.stop_price is not None:
        direction = "STOP_DIRECTION_STOP_UP" if request.side.value == "buy" else "STOP_DIRECTION_STOP_DOWN"
        stop = exchange.price_to_precision(symbol, f"{request.stop_price:f}")
        return {"stop_limit_stop_limit_gtc": {**limit, "stop_price": stop, "stop_direction": direction}}
    if request.time_in_force is TimeInForce.GTC:
        return {"limit_limit_gtc": {**limit, "post_only": request.post_only}}
    return {"sor_limit_ioc" if request.time_in_force is TimeInForce.IOC else "limit_limit_fok": limit}


def _structure(exchange: Any, told: Raw) -> Raw:
    """Give ccxt's structure of an order, with the size and limit that it has now, also where ccxt reads none."""
    [configuration] = (told.get("order_configuration") or {"": {}}).values()
    edits = told.get("edit_history") or [{}]
    last = max(edits, key=lambda edit: str(edit.get("replace_accept_timestamp")))
    structure: dict[str, Any] = exchange.parse_order(told)
    size = exact(last.get("size") or configuration.get("base_size") or told.get("filled_size"), "size")
    price = last.get("price") or configuration.get("limit_price")
    kind = "market" if told.get("order_type") == "MARKET" else "limit"
    return {**structure, "amount": f"{size:f}", "price": price, "filled": told.get("filled_size"), "type": kind}


async def _fills(exchange: Any, query: Mapping[str, Any]) -> list[Raw]:
    listed = await _pages(exchange.v3PrivateGetBrokerageOrdersHistoricalFills, "fills", query, _FILLS_A_PAGE)
    return [exchange.parse_trade(each) for each in listed]


async def _pages(ask: Any, name: str, query: Mapping[str, Any], limit: int) -> list[Raw]:
    """Ask until there is no other page."""
    listed: list[Raw] = []
    cursor = ""
    while True:
        told = await ask({**query, "limit": limit, **({"cursor": cursor} if cursor else {})})
        page = told.get(name) or []
        listed += page
        before, cursor = cursor, str(told.get("cursor") or "")
        if not page or not cursor or cursor == before:
            return listed
