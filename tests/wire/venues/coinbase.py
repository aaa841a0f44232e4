"""Coinbase Advanced Trade over the exchange: REST, and the WebSocket with its user channel.

https://docs.cdp.coinbase.com/api-reference/advanced-trade-api/rest-api and
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels. Keys are PEMs whose public
part checks the tokens. There is no test network. BTC-USDC is an order book shared with BTC-USD: public channels say all
of it under the other name.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import READ, TRADE, WITHDRAW, ApiKey, User
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.listings import Trading, listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, Why, WireOrder
from tests.wire.exchange import Exchange
from tests.wire.venues import coinbase_rows as rows
from tests.wire.venues.coinbase_gate import Gate, RefusalError

_MS = 1_000_000
_V3 = "/api/v3/brokerage"
_GRANULARITIES = {
    "ONE_MINUTE": "1m",
    "FIVE_MINUTE": "5m",
    "FIFTEEN_MINUTE": "15m",
    "THIRTY_MINUTE": "30m",
    "ONE_HOUR": "1h",
    "TWO_HOUR": "2h",
    "SIX_HOUR": "6h",
    "ONE_DAY": "1d",
}
_MOST_CANDLES = 350
_ALIASES = {"BTC-USDC": "BTC-USD"}
_KINDS = {
    "market_market_ioc": (OrderType.MARKET, TimeInForce.IOC),
    "limit_limit_gtc": (OrderType.LIMIT, TimeInForce.GTC),
    "sor_limit_ioc": (OrderType.LIMIT, TimeInForce.IOC),
    "limit_limit_fok": (OrderType.LIMIT, TimeInForce.FOK),
    "stop_limit_stop_limit_gtc": (OrderType.STOP_LIMIT, TimeInForce.GTC),
}
# what is said of an order: the reason, the preview's reason, and words
_REFUSED = {
    Why.UNKNOWN_SYMBOL: ("INVALID_PRODUCT_ID", "PREVIEW_INVALID_PRODUCT_ID", "Invalid product_id"),
    Why.CLOSED: ("ORDER_ENTRY_DISABLED", "PREVIEW_ORDER_ENTRY_DISABLED", "Orders are disabled for this product"),
    Why.TICK: ("INVALID_PRICE_PRECISION", "PREVIEW_INVALID_PRICE_PRECISION", "Too many decimals in order price"),
    Why.LOT: ("INVALID_SIZE_PRECISION", "PREVIEW_INVALID_SIZE_PRECISION", "Too many decimals in order amount"),
    Why.TOO_SMALL: ("UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_BASE_SIZE_TOO_SMALL", ""),
    Why.TOO_LARGE: ("UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_BASE_SIZE_TOO_LARGE", ""),
    Why.NOTIONAL: ("UNKNOWN_FAILURE_REASON", "PREVIEW_INVALID_QUOTE_SIZE_TOO_SMALL", ""),
    Why.FUNDS: ("INSUFFICIENT_FUND", "PREVIEW_INSUFFICIENT_FUND", "Insufficient balance in source account"),
    Why.WOULD_TAKE: ("INVALID_LIMIT_PRICE_POST_ONLY", "PREVIEW_INVALID_LIMIT_PRICE_POST_ONLY", "Would take"),
    Why.NO_MARKET: ("INVALID_NO_LIQUIDITY", "PREVIEW_INVALID_NO_LIQUIDITY", "No liquidity"),
}
_UNKNOWN_ORDER = "order with this orderID was not found"
_CHANNELS = ("market_trades", "ticker", "ticker_batch", "level2", "heartbeats", "user", "status", "candles")


@dataclass
class Ask:
    """A request, and of whom it was found to be."""

    call: Call
    body: dict[str, Any]
    parts: tuple[str, ...]
    user: User | None = None
    key: ApiKey | None = None

    @property
    def owner(self) -> User:
        """Whose request it is."""
        assert self.user is not None
        return self.user

    def given(self, *names: str) -> list[str]:
        """Give a parameter's values, under any of its names."""
        return [value for name in names for value in self.call.query.getall(name, [])]

    def limit(self, default: int, most: int) -> int:
        """Give how many rows are asked for."""
        return min(int(self.call.query.get("limit", default)), most)


@dataclass(frozen=True)
class Endpoint:
    """Who answers, and what the key must be allowed; nothing for what anybody may ask."""

    answer: Callable[[Ask], Any]
    needs: str = READ


class CoinbaseSite(Dialect):
    """Implements tests.wire.loopback.Site; `gate` has its limits."""

    venue: ClassVar[str] = "coinbase"
    hosts: Sequence[str] = ("api.coinbase.com", "advanced-trade-ws.coinbase.com")

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.gate = Gate(exchange)
        self._books: dict[str, Book] = {}
        self._symbols = {rows.product_id(symbol): symbol for symbol in exchange.markets}
        public, find = "", r"([^/]+)"
        self._endpoints: list[tuple[str, re.Pattern[str], Endpoint]] = [
            (method, re.compile(path), endpoint)
            for method, path, endpoint in (
                ("GET", "/v2/time", Endpoint(self._old_time, public)),
                ("GET", f"{_V3}/time", Endpoint(self._time, public)),
                ("GET", f"{_V3}/market/products", Endpoint(self._products, public)),
                ("GET", f"{_V3}/products", Endpoint(self._products)),
                ("GET", f"{_V3}/market/product_book", Endpoint(self._book, public)),
                ("GET", f"{_V3}/product_book", Endpoint(self._book)),
                ("GET", f"{_V3}/best_bid_ask", Endpoint(self._best)),
                ("GET", f"{_V3}/market/products/{find}", Endpoint(self._product, public)),
                ("GET", f"{_V3}/market/products/{find}/candles", Endpoint(self._candles, public)),
                ("GET", f"{_V3}/market/products/{find}/ticker", Endpoint(self._tape, public)),
                ("GET", f"{_V3}/accounts", Endpoint(self._accounts)),
                ("POST", f"{_V3}/orders", Endpoint(self._place, TRADE)),
                ("POST", f"{_V3}/orders/batch_cancel", Endpoint(self._cancel, TRADE)),
                ("POST", f"{_V3}/orders/edit", Endpoint(self._edit, TRADE)),
                ("GET", f"{_V3}/orders/historical/batch", Endpoint(self._orders)),
                ("GET", f"{_V3}/orders/historical/fills", Endpoint(self._fills)),
                ("GET", f"{_V3}/orders/historical/{find}", Endpoint(self._order)),
                ("GET", f"{_V3}/transaction_summary", Endpoint(self._summary)),
                ("GET", f"{_V3}/key_permissions", Endpoint(self._permissions)),
            )
        ]

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        try:
            endpoint, parts = self._find(call)
            ask = Ask(call, call.json() or {}, parts)
            if endpoint.needs:
                token = call.headers.get("Authorization", "").removeprefix("Bearer ")
                ask.user, ask.key = self.gate.let_in(
                    token, call.ip, f"{call.method} {call.host}{call.path}", endpoint.needs
                )
                headers = self.gate.count(self.gate.private, ask.owner.name)
            else:
                headers = self.gate.count(self.gate.public, call.ip)
            return self.json(endpoint.answer(ask), headers=headers)
        except RefusalError as refusal:
            return self._refused(refusal)
        except RefusedError as refused:
            unknown = refused.why is Why.UNKNOWN_ORDER
            return self._refused(RefusalError(404, "NOT_FOUND", _UNKNOWN_ORDER if unknown else str(refused)))

    def _find(self, call: Call) -> tuple[Endpoint, tuple[str, ...]]:
        for method, path, endpoint in self._endpoints:
            found = path.fullmatch(call.path)
            if found and method == call.method:
                return endpoint, found.groups()
        raise RefusalError(404, "NOT_FOUND", "route not found")

    def _refused(self, refusal: RefusalError) -> web.Response:
        if refusal.status == 401:
            return web.Response(status=401, text="Unauthorized\n")
        said = {"error": refusal.code, "error_details": refusal.text, "message": refusal.text}
        return self.json(said, refusal.status)

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate."""
        said = {"error": "rate_limit_exceeded", "error_details": "", "message": "Too many requests"}
        return self.json(said, 429, {"Retry-After": f"{max(retry_after_s, 1):.0f}"})

    # ---- the market -----------------------------------------------------------------------------------------------

    def _market(self, product: str) -> LiveMarket:
        return self.exchange.market(self._symbols.get(product, ""))

    def _shown(self, product: str) -> LiveMarket:
        return self._market(_ALIASES.get(product, product))

    def _old_time(self, _: Ask) -> dict[str, Any]:
        now_ns = self.exchange.time_ns()
        return {"data": {"iso": rows.stamp(now_ns), "epoch": now_ns // SECOND_NS}}

    def _time(self, _: Ask) -> dict[str, str]:
        now_ns = self.exchange.time_ns()
        seconds, millis = str(now_ns // SECOND_NS), str(now_ns // _MS)
        return {"iso": rows.stamp(now_ns), "epochSeconds": seconds, "epochMillis": millis}

    def _products(self, ask: Ask) -> dict[str, Any]:
        spot = ask.call.query.get("product_type", "SPOT") == "SPOT"
        listed = [rows.product_row(market, _ALIASES) for market in self.exchange.listed()] if spot else []
        return {"products": listed, "num_products": len(listed)}

    def _product(self, ask: Ask) -> dict[str, Any]:
        return rows.product_row(self._market(ask.parts[0]), _ALIASES)

    def _book(self, ask: Ask) -> dict[str, Any]:
        name = ask.call.query.get("product_id", "")
        book = self._shown(name).book(self.exchange.time_ns())
        return {"pricebook": rows.pricebook(name, book, ask.limit(1000, 1000)), "last": "", "mid_market": ""}

    def _best(self, ask: Ask) -> dict[str, Any]:
        now_ns = self.exchange.time_ns()
        names = ask.given("product_ids") or list(self._symbols)
        return {"pricebooks": [rows.pricebook(name, self._shown(name).book(now_ns), 1) for name in names]}

    def _candles(self, ask: Ask) -> dict[str, Any]:
        timeframe = _GRANULARITIES.get(ask.call.query.get("granularity", ""))
        start, end = (int(ask.call.query.get(name, 0)) * SECOND_NS for name in ("start", "end"))
        if timeframe is None or not start or not end:
            raise RefusalError(400, "INVALID_ARGUMENT", "start, end and granularity are required")
        if (end - start) // duration_ns(timeframe) > _MOST_CANDLES:
            raise RefusalError(400, "INVALID_ARGUMENT", "number of candles requested should be less than 350")
        candles = self._shown(ask.parts[0]).candles(timeframe, start, end + 1)
        return {"candles": [rows.candle_row(candle) for candle in reversed(candles)]}

    def _tape(self, ask: Ask) -> dict[str, Any]:
        market = self._shown(ask.parts[0])
        quote = market.quote(self.exchange.time_ns())
        tape = [rows.trade_row(trade, ask.parts[0]) for trade in reversed(market.tape)][: ask.limit(100, 1000)]
        return {"trades": tape, "best_bid": rows.plain(quote.bid), "best_ask": rows.plain(quote.ask)}

    # ---- orders ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _amount(configuration: dict[str, Any], name: str) -> Decimal | None:
        text = configuration.get(name)
        if text is None:
            return None
        try:
            value = Decimal(str(text))
        except InvalidOperation:
            value = Decimal(-1)
        if not isinstance(text, str) or not value.is_finite() or value <= 0:
            raise RefusalError(400, "INVALID_ARGUMENT", f"invalid {name}")
        return value

    def _request(self, ask: Ask) -> dict[str, Any]:
        """Read an order as Exchange.place takes it. Raises RefusalError, RefusedError."""
        market = self._market(ask.body.get("product_id", ""))
        client_id, side = ask.body.get("client_order_id"), ask.body.get("side")
        if not isinstance(client_id, str) or not client_id or len(client_id) > 128:
            raise RefusalError(400, "INVALID_ARGUMENT", "client_order_id is required")
        if side not in ("BUY", "SELL"):
            raise RefusalError(400, "INVALID_ARGUMENT", "side is required")
        [(kind, configuration)] = ask.body.get("order_configuration", {}).items() or [("", {})]
        if kind not in _KINDS:
            raise RefusalError(400, "INVALID_ARGUMENT", "unsupported order_configuration")
        type_, force = _KINDS[kind]
        stop = self._amount(configuration, "stop_price")
        if type_ is OrderType.STOP_LIMIT:
            self._check_stop(market, configuration.get("stop_direction"), stop)
        quantity, cost = self._amount(configuration, "base_size"), self._amount(configuration, "quote_size")
        if (quantity is None) is (cost is None):
            raise RefusalError(400, "INVALID_ARGUMENT", "one of base_size and quote_size is required")
        return {
            "symbol": market.listing.symbol,
            "side": Side.BUY if side == "BUY" else Side.SELL,
            "type": type_,
            "quantity": quantity,
            "cost": cost,
            "price": self._amount(configuration, "limit_price"),
            "stop_price": stop,
            "time_in_force": force,
            "post_only": configuration.get("post_only") is True,
            "client_id": client_id,
            "extra": {"kind": kind, "configuration": dict(configuration)},
        }

    @staticmethod
    def _check_stop(market: LiveMarket, direction: Any, stop: Decimal | None) -> None:
        """Refuse a stop that would go off at once, as one in the wrong direction does."""
        if direction not in ("STOP_DIRECTION_STOP_UP", "STOP_DIRECTION_STOP_DOWN") or stop is None:
            raise RefusalError(400, "INVALID_ARGUMENT", "stop_direction and stop_price are required")
        if direction.endswith("_DOWN") and stop >= market.last:
            raise RefusalError(200, "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE")
        if direction.endswith("_UP") and stop <= market.last:
            raise RefusalError(200, "PREVIEW_STOP_PRICE_BELOW_LAST_TRADE_PRICE")

    def _place(self, ask: Ask) -> dict[str, Any]:
        configuration = ask.body.get("order_configuration", {})
        try:
            request = self._request(ask)
            try:
                order = self.exchange.find(ask.owner, request["client_id"])  # the same id is the same order
            except RefusedError:
                order = self.exchange.place(ask.owner, **request)
        except RefusedError as refused:
            code, preview, text = _REFUSED.get(refused.why, ("INVALID_REQUEST", "", str(refused)))
            return self._not_placed(configuration, code, preview, text)
        except RefusalError as refusal:
            if refusal.status != 200:
                raise
            return self._not_placed(configuration, "UNKNOWN_FAILURE_REASON", refusal.code, "")
        said = {
            "order_id": order.id,
            "product_id": rows.product_id(order.symbol),
            "side": order.side.value.upper(),
            "client_order_id": order.client_id,
            "attached_order_id": "",
        }
        return {"success": True, "success_response": said, "order_configuration": configuration}

    @staticmethod
    def _not_placed(configuration: Any, code: str, preview: str, text: str) -> dict[str, Any]:
        said = {"error": code, "message": text, "error_details": "", "preview_failure_reason": preview}
        return {
            "success": False,
            "failure_reason": "UNKNOWN_FAILURE_REASON",
            "order_id": "",
            "error_response": said,
            "order_configuration": configuration,
        }

    def _cancel(self, ask: Ask) -> dict[str, Any]:
        results = []
        for order_id in ask.body.get("order_ids", []):
            why = "UNKNOWN_CANCEL_FAILURE_REASON"
            try:
                self.exchange.cancel(ask.owner, order_id)
                results.append({"success": True, "failure_reason": why, "order_id": order_id})
            except RefusedError as refused:
                unknown = refused.why is Why.UNKNOWN_ORDER
                why = "UNKNOWN_CANCEL_ORDER" if unknown else "INVALID_CANCEL_REQUEST"
                results.append({"success": False, "failure_reason": why, "order_id": order_id})
        return {"results": results}

    def _edit(self, ask: Ask) -> dict[str, Any]:
        try:
            order = self.exchange.order(ask.owner, ask.body.get("order_id", ""))
            if rows.kind_of(order) != "limit_limit_gtc":
                return self._not_edited("ONLY_LIMIT_ORDER_EDITS_SUPPORTED")
            size, price = self._amount(ask.body, "size"), self._amount(ask.body, "price")
            self.exchange.amend(ask.owner, order.id, size, price)
        except RefusedError as refused:
            reasons = {
                Why.UNKNOWN_ORDER: "ORDER_NOT_FOUND",
                Why.NOT_OPEN: "ONLY_OPEN_ORDERS_CAN_BE_EDITED",
                Why.BAD_AMEND: "CANNOT_EDIT_TO_BELOW_FILLED_SIZE",
            }
            preview = _REFUSED[refused.why][1] if refused.why in _REFUSED else ""
            return self._not_edited(reasons.get(refused.why, "UNKNOWN_EDIT_ORDER_FAILURE_REASON"), preview)
        return {"success": True, "success_response": {"order_id": order.id}, "errors": []}

    @staticmethod
    def _not_edited(reason: str, preview: str = "") -> dict[str, Any]:
        return {"success": False, "errors": [{"edit_failure_reason": reason, "preview_failure_reason": preview}]}

    def _order(self, ask: Ask) -> dict[str, Any]:
        return {"order": rows.order_row(self.exchange.order(ask.owner, ask.parts[0]))}

    def _orders(self, ask: Ask) -> dict[str, Any]:
        query, products = ask.call.query, ask.given("product_ids", "product_id")
        statuses = ask.given("order_status")
        if "OPEN" in statuses and len(statuses) > 1:
            raise RefusalError(400, "INVALID_ARGUMENT", "open orders cannot be queried with other statuses")
        since_ns = rows.time_of(query.get("start_date"), 0)
        until_ns = rows.time_of(query.get("end_date"), 1 << 62)
        ids = ask.given("order_ids")
        listed = [
            rows.order_row(order)
            for order in reversed(self.exchange.orders(ask.owner))
            if _within(order, since_ns, until_ns)
        ]
        chosen = [
            row
            for row in listed
            if (not products or row["product_id"] in products)
            and (not statuses or row["status"] in statuses)
            and (not ids or row["order_id"] in ids)
        ]
        page, cursor = rows.page(chosen, query.get("cursor"), ask.limit(1000, 1000))
        return {"orders": page, "has_next": bool(cursor), "sequence": "0", "cursor": cursor}

    def _fills(self, ask: Ask) -> dict[str, Any]:
        query = ask.call.query
        products, ids = ask.given("product_ids", "product_id"), ask.given("order_ids", "order_id")
        since_ns = rows.time_of(query.get("start_sequence_timestamp"), 0)
        until_ns = rows.time_of(query.get("end_sequence_timestamp"), 1 << 62)
        chosen = [
            rows.fill_row(order, fill)
            for order, fill in reversed(self.exchange.fills(ask.owner))
            if (not products or rows.product_id(order.symbol) in products)
            and (not ids or order.id in ids)
            and since_ns <= fill.time_ns < until_ns
        ]
        page, cursor = rows.page(chosen, query.get("cursor"), ask.limit(100, 100))
        return {"fills": page, "cursor": cursor}

    # ---- the account ----------------------------------------------------------------------------------------------

    def _accounts(self, ask: Ask) -> dict[str, Any]:
        listed = [rows.account_row(ask.owner, name, at) for at, name in enumerate(sorted(ask.owner.balances()))]
        page, cursor = rows.page(listed, ask.call.query.get("cursor"), min(ask.limit(49, 250), self.accounts_a_page))
        return {"accounts": page, "has_next": bool(cursor), "cursor": cursor, "size": len(page)}

    accounts_a_page = 250  # lower it to see pages
    beat_ns = SECOND_NS  # between heartbeats

    def _summary(self, _: Ask) -> dict[str, Any]:
        listing = next(iter(self.exchange.markets.values())).listing
        tier = {"pricing_tier": "Intro 1", "usd_from": "0", "usd_to": "10000", "aop_from": "", "aop_to": ""}
        fees = {"taker_fee_rate": rows.plain(listing.taker_fee), "maker_fee_rate": rows.plain(listing.maker_fee)}
        return {
            "total_volume": 0,
            "total_fees": 0,
            "fee_tier": {**tier, **fees},
            "margin_rate": None,
            "goods_and_services_tax": None,
            "advanced_trade_only_volume": 0,
            "advanced_trade_only_fees": 0,
            "total_balance": "",
        }

    def _permissions(self, ask: Ask) -> dict[str, Any]:
        assert ask.key is not None
        rights = ask.key.permissions
        can = {"can_view": READ in rights, "can_trade": TRADE in rights, "can_transfer": WITHDRAW in rights}
        return {**can, "portfolio_uuid": rows.ACCOUNT_NAMESPACE, "portfolio_type": "DEFAULT"}

    # ---- connections ----------------------------------------------------------------------------------------------

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a subscription."""
        if self.gate.messages.take(channel.ip, 1, self.exchange.time_ns()):
            self.reply(channel, {"type": "error", "message": "rate limit exceeded"})
            channel.cut()
            return
        try:
            request = json.loads(text)
            kind, name, products = request["type"], request["channel"], request.get("product_ids", [])
        except (ValueError, KeyError, TypeError):
            self.reply(channel, {"type": "error", "message": "failed to unmarshal request"})
            return
        if kind not in ("subscribe", "unsubscribe") or name not in _CHANNELS:
            self.reply(channel, {"type": "error", "message": f"channel {name} does not exist"})
            return
        if name == "user" and not self._is_let_in(channel, request):
            return
        if kind == "subscribe" and not all(map(self._is_listed, products)):
            self.reply(channel, {"type": "error", "message": f"invalid product: {products}"})
            return
        topics = (
            [f"{name}:{_ALIASES.get(each, each)}" for each in products]
            if name not in ("user", "heartbeats")
            else [name]
        )
        fresh = [topic for topic in topics if topic not in channel.topics]
        for topic in topics:
            if kind == "subscribe":
                channel.topics[topic] = True
            else:
                channel.topics.pop(topic, None)
        if kind == "subscribe":
            for topic in fresh:
                self._greet(channel, name, topic.partition(":")[2])
        told: dict[str, list[str]] = {}
        for topic in channel.topics:
            part, _, product = topic.partition(":")
            told.setdefault(part, []).append(product or part)
        self._frame(channel, "subscriptions", [{"subscriptions": told}])

    def _is_listed(self, product: str) -> bool:
        symbol = self._symbols.get(product)
        return symbol is not None and self.exchange.markets[symbol].trading is not Trading.DELISTED

    def _is_let_in(self, channel: Channel, request: dict[str, Any]) -> bool:
        try:
            channel.user, _ = self.gate.let_in(str(request.get("jwt", "")), channel.ip, None, READ)
        except RefusalError:
            self.reply(channel, {"type": "error", "message": "authentication failure"})
            return False
        return True

    def _greet(self, channel: Channel, name: str, product: str) -> None:
        if name == "user":
            assert channel.user is not None
            orders = [rows.order_event(order) for order in self.exchange.orders(channel.user, is_open=True)]
            none: dict[str, list[Any]] = {"perpetual_futures_positions": [], "expiring_futures_positions": []}
            for at in range(0, max(len(orders), 1), 50):
                self._frame(channel, "user", [{"type": "snapshot", "orders": orders[at : at + 50], "positions": none}])
        elif name == "market_trades":
            tape = [rows.trade_row(trade, product) for trade in reversed(self._market(product).tape)][:50]
            self._frame(channel, name, [{"type": "snapshot", "trades": tape}])
        elif name == "level2":
            book = self._books.setdefault(product, self._market(product).book(self.exchange.time_ns()))
            self._level2(channel, product, "snapshot", rows.updates(None, book))
        elif name == "ticker":
            self._ticker(channel, product, "snapshot")

    # ---- what streams say -----------------------------------------------------------------------------------------

    def _frame(self, channel: Channel, name: str, events: list[Any], *, private: bool = False) -> None:
        number = channel.state.get("sequence", 0)
        channel.state["sequence"] = number + 1
        frame = {
            "channel": name,
            "client_id": "",
            "timestamp": rows.stamp(self.exchange.time_ns()),
            "sequence_num": number,
            "events": events,
        }
        (self.send_private if private else self.send)(channel, frame)

    def fault_skip(self, kind: str = "") -> int:
        """Lose a frame on the way on each connection of a kind: its number is never seen."""
        chosen = [channel for channel in self.channels if channel.is_of(kind)]
        for channel in chosen:
            channel.state["sequence"] = channel.state.get("sequence", 0) + 1
        return len(chosen)

    def _level2(self, channel: Channel, product: str, kind: str, updates: list[dict[str, str]]) -> None:
        self._frame(channel, "l2_data", [{"type": kind, "product_id": product, "updates": updates}])

    def _ticker(self, channel: Channel, product: str, kind: str) -> None:
        market = self._market(product)
        row = rows.ticker(product, market, market.quote(self.exchange.time_ns()))
        self._frame(channel, "ticker", [{"type": kind, "tickers": [row]}])

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams; where and when it was filled is for REST to say."""
        if update.what is Happened.TRIGGERED:
            update.order.extra["triggered"] = True
        elif update.what is Happened.CANCELED:
            update.order.reason = "User requested cancel"
        elif update.what is Happened.AMENDED:
            price, size = update.order.price or Decimal(0), update.order.quantity
            edit = {"price": rows.plain(price), "size": rows.plain(size)}
            edit["replace_accept_timestamp"] = rows.stamp(update.time_ns)
            update.order.extra.setdefault("edits", []).append(edit)
        for channel in self.of_user(update.order.user, "user"):
            event = {"type": "update", "orders": [rows.order_event(update.order)]}
            self._frame(channel, "user", [event], private=True)

    def on_market(self, event: MarketFact) -> None:
        """Tell who has subscribed."""
        product = rows.product_id(event.instrument.symbol)
        self._heartbeat()
        if product in _ALIASES:
            return
        match event:
            case Trade():
                for channel in self.with_topic(f"market_trades:{product}"):
                    told = {"type": "update", "trades": [rows.trade_row(event, product)]}
                    self._frame(channel, "market_trades", [told])
                for channel in self.with_topic(f"ticker:{product}"):
                    self._ticker(channel, product, "update")
            case Quote():
                pass
            case Book():
                before = self._books.get(product)
                self._books[product] = event
                for channel in self.with_topic(f"level2:{product}"):
                    self._level2(channel, product, "update", rows.updates(before, event))

    def _heartbeat(self) -> None:
        now_ns = self.exchange.time_ns()
        for channel in self.with_topic("heartbeats"):
            if now_ns - channel.state.get("beat", 0) >= self.beat_ns:
                channel.state["beat"] = now_ns
                channel.state["beats"] = channel.state.get("beats", 0) + 1
                told = {"current_time": rows.stamp(now_ns), "heartbeat_counter": channel.state["beats"]}
                self._frame(channel, "heartbeats", [told])


def _within(order: WireOrder, since_ns: int, until_ns: int) -> bool:
    return since_ns <= order.created_ns < until_ns


def _uuid(kind: str, number: int) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{kind}/{number}"))


def make_exchange(clock: Clock, seed: int = 1, **options: Any) -> Exchange:
    """Make the venue's exchange: its symbols, its fees, its kinds of ids; `options` go to Exchange."""
    chosen = [
        replace(
            each,
            maker_fee=Decimal("0.006"),
            taker_fee=Decimal("0.012"),
            lot=Decimal("0.00000001"),
            min_quantity=Decimal("0.00000001"),
            max_quantity=Decimal(3400),
            min_notional=Decimal("0.000016" if each.quote == "BTC" else "0.5"),
        )
        for each in listings("BTC/USD", "ETH/USD", "SOL/USD", "BTC/USDT", "ETH/BTC")
    ]
    chosen.append(replace(chosen[0], symbol="BTC/USDC"))
    return Exchange(
        "coinbase",
        chosen,
        clock,
        seed=seed,
        order_id=lambda number: _uuid("order", number),
        trade_id=lambda number: _uuid("trade", number),
        **options,
    )


def make_site(exchange: Exchange) -> CoinbaseSite:
    """Put the dialect over an exchange."""
    return CoinbaseSite(exchange)


def add_person(
    exchange: Exchange, name: str = "trader", *, balances: dict[str, str] | None = None, **options: Any
) -> ApiKey:
    """Open an account and give its key: its name, and the PEM of an elliptic curve's private key."""
    rng = random.Random(f"coinbase/{name}")
    private = ec.derive_private_key(rng.getrandbits(255), ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    ids = [uuid.UUID(int=rng.getrandbits(128), version=4) for _ in range(2)]
    owned = ApiKey(f"organizations/{ids[0]}/apiKeys/{ids[1]}", pem)
    funds = balances or {"USD": "100000", "BTC": "2", "ETH": "20", "USDT": "5000", "USDC": "5000"}
    exchange.add_user(name, funds, owned, **options)
    return owned
