"""KuCoin spot over the exchange: REST with high-frequency orders, public and private topics of its WebSocket.

https://www.kucoin.com/docs-new. A stop order that goes off becomes an order with an id of its own and the same
clientOid; a change is a cancel and a new order; a post-only order that would take is taken, then cancelled.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from aiohttp import web

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import OrderStatus, OrderType, TimeInForce
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import READ, TRADE, WITHDRAW, ApiKey, User
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.listings import listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, Why, WireOrder
from tests.wire.exchange import Exchange
from tests.wire.venues import kucoin_rows as rows
from tests.wire.venues.kucoin_gate import MANAGEMENT, PUBLIC, SPOT, Gate, TurnedAwayError

MS = rows.MS
_S = 1_000_000_000
_TOKEN_NS = 24 * 3600 * _S
_CANDLES = 1500
_WEEK_MS = 7 * 86_400_000
_PING_MS = 18_000
_TYPES = {
    "1min": "1m",
    "3min": "3m",
    "5min": "5m",
    "15min": "15m",
    "30min": "30m",
    "1hour": "1h",
    "2hour": "2h",
    "4hour": "4h",
    "6hour": "6h",
    "8hour": "8h",
    "12hour": "12h",
    "1day": "1d",
}
_CLIENT_ID = re.compile(r"[A-Za-z0-9_-]{1,40}")
_ABSENT = ("400100", "The order does not exist.")
_REFUSED = {
    Why.UNKNOWN_SYMBOL: ("900001", "symbol not exists"),
    Why.CLOSED: ("200000000", "Trading is suspended for this symbol"),
    Why.TICK: ("400100", "Price increment invalid."),
    Why.LOT: ("600100", "Order size increment invalid."),
    Why.TOO_SMALL: ("400100", "Order size below the minimum requirement."),
    Why.TOO_LARGE: ("400100", "Order size exceeds the maximum requirement."),
    Why.NOTIONAL: ("400100", "The order funds should more then 0.1 USDT."),
    Why.FUNDS: ("200004", "Balance insufficient!"),
    Why.DUPLICATE: ("126044", "clientOid duplicate"),
    Why.UNKNOWN_ORDER: _ABSENT,
    Why.NOT_OPEN: _ABSENT,
}
_RIGHTS = {READ: "General", TRADE: "Spot", WITHDRAW: "Withdrawal"}
_PUBLIC_TOPICS = ("/market/match", "/market/ticker", "/market/level2", "/spotMarket/level1", "/market/candles")
_DEPTHS = (5, 50)
_PRIVATE_TOPICS = ("/spotMarket/tradeOrders", "/spotMarket/tradeOrdersV2", "/spotMarket/advancedOrders")


@dataclass
class _Ask:
    """A request, and of whom it was found to be; `named` is what its path ends with."""

    params: dict[str, Any]
    named: str = ""
    user: User | None = None
    key: ApiKey | None = None

    @property
    def owner(self) -> User:
        """Whose signed request this is."""
        assert self.user is not None
        return self.user

    def need(self, name: str) -> str:
        """Give a parameter that must be there. Raises TurnedAwayError."""
        if self.params.get(name) in (None, ""):
            raise TurnedAwayError("400100", f"{name} is required")
        return str(self.params[name])

    def whole(self, name: str, otherwise: int = 0) -> int:
        """Give a whole number. Raises TurnedAwayError."""
        value = str(self.params.get(name, otherwise))
        if not value.isdigit():
            raise TurnedAwayError("400100", f"{name} is not a number")
        return int(value)

    def amount(self, name: str) -> Decimal | None:
        """Give a decimal. Raises TurnedAwayError."""
        value = self.params.get(name)
        if value is None:
            return None
        try:
            return Decimal(str(value))
        except InvalidOperation:
            raise TurnedAwayError("400100", f"{name} is not a number") from None


@dataclass(frozen=True)
class _Endpoint:
    answer: Callable[[_Ask], Any]
    pool: str
    weight: float
    needs: str = READ


class KucoinSite(Dialect):
    """Implements tests.wire.loopback.Site; `gate` has its limits. `unified` accounts trade by another API."""

    venue: ClassVar[str] = "kucoin"
    hosts: Sequence[str] = ("api.kucoin.com", "ws-api-spot.kucoin.com")
    ping_s: ClassVar[float | None] = None

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.gate = Gate(exchange)
        self._symbols = {rows.symbol_id(symbol): symbol for symbol in exchange.markets}
        self._tokens = random.Random("kucoin tokens")
        self._public_tokens: set[str] = set()
        self._published: dict[str, tuple[int, Book]] = {}
        self._candles: dict[tuple[str, str], int] = {}
        self._numbers = 0
        self._endpoints = self._make_endpoints()

    def _make_endpoints(self) -> dict[str, _Endpoint]:
        """Give the endpoints by method and path; one that ends with / goes on with what is asked for."""
        ask = _Endpoint
        now = ask(lambda _: self.exchange.time_ns() // MS, PUBLIC, 3, "")
        return {
            "GET /api/v1/timestamp": now,
            "GET /api/v1/status": ask(lambda _: {"status": "open", "msg": ""}, PUBLIC, 3, ""),
            "GET /api/v3/currencies": ask(self._currencies, PUBLIC, 3, ""),
            "GET /api/v2/symbols": ask(self._list, PUBLIC, 4, ""),
            "GET /api/v1/market/allTickers": ask(self._tickers, PUBLIC, 15, ""),
            "GET /api/v1/market/candles": ask(self._klines, PUBLIC, 3, ""),
            "GET /api/v1/market/histories": ask(self._histories, PUBLIC, 3, ""),
            "GET /api/v1/market/orderbook/level2_20": ask(lambda a: self._book(a, 20), PUBLIC, 2, ""),
            "GET /api/v1/market/orderbook/level2_100": ask(lambda a: self._book(a, 100), PUBLIC, 4, ""),
            "POST /api/v1/bullet-public": ask(self._bullet_public, PUBLIC, 10, ""),
            "POST /api/v1/bullet-private": ask(self._bullet_private, SPOT, 10),
            "GET /api/v3/market/orderbook/level2": ask(lambda a: self._book(a, 1000), SPOT, 3),
            "GET /api/ua/v1/account/mode": ask(self._mode, MANAGEMENT, 5),
            "GET /api/v1/user/api-key": ask(self._key_info, MANAGEMENT, 20),
            "GET /api/v1/accounts": ask(self._accounts, MANAGEMENT, 5),
            "GET /api/v1/hf/accounts/opened": ask(lambda _: True, SPOT, 2),
            "GET /api/v1/base-fee": ask(self._base_fee, SPOT, 3),
            "GET /api/v1/trade-fees": ask(self._trade_fees, SPOT, 3),
            "POST /api/v1/hf/orders": ask(self._add, SPOT, 1, TRADE),
            "POST /api/v1/hf/orders/sync": ask(self._add_sync, SPOT, 1, TRADE),
            "POST /api/v1/hf/orders/alter": ask(self._alter, SPOT, 1, TRADE),
            "DELETE /api/v1/hf/orders/client-order/": ask(self._cancel_named, SPOT, 1, TRADE),
            "DELETE /api/v1/hf/orders/": ask(self._cancel, SPOT, 1, TRADE),
            "DELETE /api/v1/hf/orders": ask(self._cancel_all, SPOT, 2, TRADE),
            "GET /api/v1/hf/orders/active/symbols": ask(self._active_symbols, SPOT, 2),
            "GET /api/v1/hf/orders/active": ask(self._active, SPOT, 2),
            "GET /api/v1/hf/orders/done": ask(self._done, SPOT, 2),
            "GET /api/v1/hf/orders/client-order/": ask(self._order_named, SPOT, 2),
            "GET /api/v1/hf/orders/": ask(self._order, SPOT, 2),
            "GET /api/v1/hf/fills": ask(self._fills, SPOT, 2),
            "POST /api/v1/stop-order": ask(self._add_stop, SPOT, 2, TRADE),
            "DELETE /api/v1/stop-order/cancelOrderByClientOid": ask(self._cancel_stop_named, SPOT, 5, TRADE),
            "DELETE /api/v1/stop-order/": ask(self._cancel_stop, SPOT, 3, TRADE),
            "GET /api/v1/stop-order/queryOrderByClientOid": ask(self._stop_named, SPOT, 3),
            "GET /api/v1/stop-order/": ask(self._stop, SPOT, 3),
            "GET /api/v1/stop-order": ask(self._stops, SPOT, 8),
        }

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        endpoint, named = self._endpoints.get(f"{call.method} {call.path}"), ""
        if endpoint is None:
            head, _, named = call.path.rpartition("/")
            endpoint = self._endpoints.get(f"{call.method} {head}/")
        if endpoint is None:
            return self.json({"code": "404", "msg": "Not Found"}, 404)
        headers: dict[str, str] | None = None
        try:
            ask = _Ask({**call.query, **(call.json() or {})}, named)
            if endpoint.needs:
                ask.user, ask.key = self.gate.let_in(call, endpoint.needs)
            who = call.ip if endpoint.pool == PUBLIC else ask.owner.name
            headers = self.gate.count(endpoint.pool, who, endpoint.weight)
            return self.json({"code": "200000", "data": endpoint.answer(ask)}, headers=headers)
        except TurnedAwayError as turned_away:
            body = {"code": turned_away.code, "msg": str(turned_away)}
            return self.json(body, turned_away.status, turned_away.headers or headers)
        except RefusedError as refused:
            code, msg = _REFUSED.get(refused.why, ("400100", str(refused)))
            return self.json({"code": code, "msg": msg}, headers=headers)

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate."""
        turned_away = self.gate.too_many(retry_after_s)
        code = "403" if banned else turned_away.code
        return self.json({"code": code, "msg": str(turned_away)}, 403 if banned else 429, turned_away.headers)

    def maintenance(self, call: Call) -> web.Response:
        """Answer while the venue is down for maintenance."""
        return self.json({"code": "503", "msg": "Service is under maintenance, please try again later"}, 503)

    # ---- the market -----------------------------------------------------------------------------------------------

    def _market(self, name: str) -> LiveMarket:
        return self.exchange.market(self._symbols.get(name, ""))

    def _currencies(self, _: _Ask) -> list[dict[str, Any]]:
        markets = self.exchange.markets.values()
        return [rows.currency_row(n) for n in sorted({n for m in markets for n in (m.listing.base, m.listing.quote)})]

    def _list(self, _: _Ask) -> list[dict[str, Any]]:
        return [rows.symbol_row(market) for market in self.exchange.listed()]

    def _tickers(self, _: _Ask) -> dict[str, Any]:
        now_ns = self.exchange.time_ns()
        return {"time": now_ns // MS, "ticker": [rows.ticker_row(market, now_ns) for market in self.exchange.listed()]}

    def _klines(self, ask: _Ask) -> list[list[str]]:
        """Give at most 1,500 candles, the newest first; intervals without a trade have none."""
        market, timeframe = self._market(ask.need("symbol")), _TYPES.get(ask.need("type"))
        if timeframe is None:
            raise TurnedAwayError("400100", "Incorrect candlestick type.")
        start, end = ask.whole("startAt") * _S, ask.whole("endAt") * _S or self.exchange.time_ns()
        candles = market.candles(timeframe, start, end, limit=_CANDLES, newest=True)
        return [rows.candle_row(candle) for candle in reversed(candles)]

    def _histories(self, ask: _Ask) -> list[dict[str, Any]]:
        return [rows.history_row(trade) for trade in reversed(list(self._market(ask.need("symbol")).tape)[-100:])]

    def _book(self, ask: _Ask, depth: int) -> dict[str, Any]:
        market = self._market(ask.need("symbol"))
        symbol = market.listing.symbol
        if symbol not in self._published:
            self._published[symbol] = market.sequence, market.book(self.exchange.time_ns())
        sequence, book = self._published[symbol]
        sides = {"bids": rows.levels(book.bids[:depth]), "asks": rows.levels(book.asks[:depth])}
        return {"time": self.exchange.time_ns() // MS, "sequence": str(sequence), **sides}

    def _server(self, token: str) -> dict[str, Any]:
        server = {
            "endpoint": "wss://ws-api-spot.kucoin.com/",
            "encrypt": True,
            "protocol": "websocket",
            "pingInterval": _PING_MS,
            "pingTimeout": 10_000,
        }
        return {"token": token, "instanceServers": [server]}

    def _bullet_public(self, _: _Ask) -> dict[str, Any]:
        token = f"2neAiuYvAU{self._tokens.getrandbits(128):x}"
        self._public_tokens.add(token)
        return self._server(token)

    def _bullet_private(self, ask: _Ask) -> dict[str, Any]:
        token = f"2neAiuYvAP{self._tokens.getrandbits(128):x}"
        self.exchange.directory.issue_token(token, ask.owner, self.exchange.time_ns() + _TOKEN_NS)
        return self._server(token)

    def fault_expire_tokens(self) -> int:
        """Let tokens expire, public ones too."""
        self._public_tokens.clear()
        return super().fault_expire_tokens()

    # ---- orders ---------------------------------------------------------------------------------------------------

    def _request(self, ask: _Ask) -> dict[str, Any]:
        """Read an order as Exchange.place takes it. Raises TurnedAwayError."""
        market, client_id = self._market(ask.need("symbol")), ask.need("clientOid")
        side, kind = ask.need("side"), ask.params.get("type", "limit")
        if not _CLIENT_ID.fullmatch(client_id):
            raise TurnedAwayError("400100", "clientOid has invalid characters or more than 40 of them")
        if side not in ("buy", "sell") or kind not in ("limit", "market"):
            raise TurnedAwayError("400100", "side or type is not valid")
        force, post_only = ask.params.get("timeInForce", "GTC"), ask.params.get("postOnly", False)
        if force not in ("GTC", "IOC", "FOK") or (post_only and force != "GTC"):
            raise TurnedAwayError("400100", "timeInForce is not valid")
        if kind == "limit":
            ask.need("price")
        return {
            "symbol": market.listing.symbol,
            "side": Side(side),
            "type": OrderType(kind),
            "quantity": ask.amount("size"),
            "price": ask.amount("price") if kind == "limit" else None,
            "cost": ask.amount("funds") if kind == "market" else None,
            "time_in_force": TimeInForce.IOC if kind == "market" else TimeInForce(force.lower()),
            "post_only": bool(post_only),
            "client_id": client_id,
        }

    def _place(self, ask: _Ask) -> WireOrder:
        order = self.exchange.place(ask.owner, **self._request(ask), reject_later=True)
        if order.status is OrderStatus.REJECTED and not _is_post_only(order.reason):
            order.extra["never"] = True
            if order.reason.startswith("insufficient"):
                raise RefusedError(Why.FUNDS)
            raise TurnedAwayError("400100", order.reason)
        return order

    def _add(self, ask: _Ask) -> dict[str, Any]:
        order = self._place(ask)
        return {"orderId": order.id, "clientOid": order.client_id}

    def _add_sync(self, ask: _Ask) -> dict[str, Any]:
        order = self._place(ask)
        return {
            "orderId": order.id,
            "clientOid": order.client_id,
            "orderTime": order.created_ns // MS,
            "originSize": rows.text(order.quantity),
            "dealSize": rows.text(order.filled),
            "remainSize": rows.text(order.remaining),
            "canceledSize": "0",
            "status": "open" if order.is_open else "done",
            "matchTime": order.updated_ns // MS,
        }

    def _add_stop(self, ask: _Ask) -> dict[str, Any]:
        if ask.need("stop") not in ("loss", "entry"):
            raise TurnedAwayError("400100", "Stop order type invalid.")
        request = self._request(ask)
        ask.need("stopPrice")
        kind = OrderType.STOP if request["type"] is OrderType.MARKET else OrderType.STOP_LIMIT
        self._numbers += 1
        more = {"stop_id": f"vs{self.exchange.time_ns() // MS:x}{self._numbers:011d}"}
        gtc = {"time_in_force": TimeInForce.GTC} if kind is OrderType.STOP else {}
        request |= {"type": kind, "stop_price": ask.amount("stopPrice"), "extra": more, **gtc}
        order = self.exchange.place(ask.owner, **request)
        return {"orderId": order.extra["stop_id"], "clientOid": order.client_id}

    def _alter(self, ask: _Ask) -> dict[str, Any]:
        """Cancel and place anew under the same clientOid; nothing is placed where no more is left."""
        order = self._find(ask, str(ask.params.get("orderId", "")), str(ask.params.get("clientOid", "")))
        size, price = ask.amount("newSize") or order.quantity, ask.amount("newPrice") or order.price
        self.exchange.cancel(ask.owner, order.id)
        told = {"newOrderId": order.id, "clientOid": order.client_id}
        if size > order.filled:
            anew = self.exchange.place(
                ask.owner,
                order.symbol,
                order.side,
                order.type,
                size - order.filled,
                price,
                client_id=order.client_id,
                post_only=order.post_only,
            )
            told["newOrderId"] = anew.id
        return told

    def _orders(self, user: User, *, stops: bool = False) -> list[WireOrder]:
        """Give the orders that were taken, newest first; those among the stop orders still, or the others."""
        taken = [order for order in reversed(self.exchange.orders(user)) if not order.extra.get("never")]
        return [order for order in taken if rows.is_stop(order) is stops]

    def _find(self, ask: _Ask, number: str, client_id: str = "", *, stops: bool = False) -> WireOrder:
        for order in self._orders(ask.owner, stops=stops):
            if (client_id and order.client_id == client_id) or (number and rows.current_id(order) == number):
                return order
        raise RefusedError(Why.UNKNOWN_ORDER)

    def _cancel(self, ask: _Ask) -> dict[str, Any]:
        ask.need("symbol")
        order = self._find(ask, ask.named)
        return {"orderId": rows.current_id(self.exchange.cancel(ask.owner, order.id))}

    def _cancel_named(self, ask: _Ask) -> dict[str, Any]:
        ask.need("symbol")
        order = self._find(ask, "", ask.named)
        return {"clientOid": self.exchange.cancel(ask.owner, order.id).client_id}

    def _cancel_all(self, ask: _Ask) -> str:
        symbol = self._market(ask.need("symbol")).listing.symbol
        for order in self._orders(ask.owner):
            if order.symbol == symbol and order.is_open:
                self.exchange.cancel(ask.owner, order.id)
        return "success"

    def _cancel_stop(self, ask: _Ask) -> dict[str, Any]:
        order = self._find(ask, ask.named, stops=True)
        return {"cancelledOrderIds": [self.exchange.cancel(ask.owner, order.id).extra["stop_id"]]}

    def _cancel_stop_named(self, ask: _Ask) -> dict[str, Any]:
        order = self._find(ask, "", ask.need("clientOid"), stops=True)
        stop_id = self.exchange.cancel(ask.owner, order.id).extra["stop_id"]
        return {"cancelledOrderId": stop_id, "clientOid": order.client_id}

    def _fees_in(self, order: WireOrder) -> str:
        return self.exchange.markets[order.symbol].listing.quote

    def _order(self, ask: _Ask) -> dict[str, Any]:
        ask.need("symbol")
        order = self._find(ask, ask.named)
        return rows.order_row(order, self._fees_in(order))

    def _order_named(self, ask: _Ask) -> dict[str, Any] | None:
        """Give an order by clientOid; what does not exist is nothing, and no error."""
        ask.need("symbol")
        try:
            order = self._find(ask, "", ask.named)
        except RefusedError:
            return None
        return rows.order_row(order, self._fees_in(order))

    def _active_symbols(self, ask: _Ask) -> dict[str, Any]:
        named = {rows.symbol_id(order.symbol) for order in self._orders(ask.owner) if order.is_open}
        return {"symbols": sorted(named)}

    def _active(self, ask: _Ask) -> list[dict[str, Any]]:
        symbol = self._market(ask.need("symbol")).listing.symbol
        orders = [order for order in self._orders(ask.owner) if order.is_open and order.symbol == symbol]
        return [rows.order_row(order, self._fees_in(order)) for order in orders]

    def _done(self, ask: _Ask) -> dict[str, Any]:
        symbol = self._market(ask.need("symbol")).listing.symbol
        orders = [order for order in self._orders(ask.owner) if not order.is_open and order.symbol == symbol]
        page = [rows.order_row(order, self._fees_in(order)) for order in orders[: ask.whole("limit", 20)]]
        return {"lastId": 0, "items": page}

    def _stops(self, ask: _Ask) -> dict[str, Any]:
        symbol = self._market(ask.params["symbol"]).listing.symbol if ask.params.get("symbol") else None
        orders = [o for o in self._orders(ask.owner, stops=True) if o.is_open and symbol in (None, o.symbol)]
        size, page = ask.whole("pageSize", 50), ask.whole("currentPage", 1)
        chosen = orders[(page - 1) * size : page * size]
        items = [rows.stop_row(order, self._fees_in(order)) for order in chosen]
        pages = -(-len(orders) // size)
        return {"currentPage": page, "pageSize": size, "totalNum": len(orders), "totalPage": pages, "items": items}

    def _stop(self, ask: _Ask) -> dict[str, Any]:
        for order in self.exchange.orders(ask.owner):
            if ask.named and order.extra.get("stop_id") == ask.named:
                return rows.stop_row(order, self._fees_in(order))
        raise RefusedError(Why.UNKNOWN_ORDER)

    def _stop_named(self, ask: _Ask) -> list[dict[str, Any]]:
        client_id = ask.need("clientOid")
        found = [o for o in self.exchange.orders(ask.owner) if o.client_id == client_id and "stop_id" in o.extra]
        return [rows.stop_row(order, self._fees_in(order)) for order in found]

    def _fills(self, ask: _Ask) -> dict[str, Any]:
        """Give executions of one symbol, the newest first, of at most a week."""
        symbol, start, end = self._market(ask.need("symbol")).listing.symbol, ask.whole("startAt"), ask.whole("endAt")
        if start and end and end - start > _WEEK_MS:
            raise TurnedAwayError("400100", "The time range cannot exceed 7 days")
        end = end or (start + _WEEK_MS if start else 1 << 62)
        order_id, last = ask.params.get("orderId"), ask.whole("lastId")
        found = [
            (order, fill)
            for order, fill in reversed(self.exchange.fills(ask.owner, symbol))
            if start <= fill.time_ns // MS <= end
            and order_id in (None, rows.current_id(order))
            and (not last or int(fill.id) < last)
        ]
        page = [rows.fill_row(*each) for each in found[: min(ask.whole("limit", 20), 100)]]
        return {"items": page, "lastId": page[-1]["id"] if page else 0}

    # ---- the account ----------------------------------------------------------------------------------------------

    def _mode(self, ask: _Ask) -> dict[str, Any]:
        return {"selfAccountMode": "UNIFIED" if ask.owner.extra.get("unified") else "CLASSIC"}

    def _key_info(self, ask: _Ask) -> dict[str, Any]:
        assert ask.key is not None
        return {
            "uid": 165_111_215,
            "subName": "",
            "remark": "koc",
            "apiKey": ask.key.key,
            "apiVersion": 3,
            "permission": ",".join(name for right, name in _RIGHTS.items() if right in ask.key.permissions),
            "ipWhitelist": ",".join(sorted(ask.key.ips)),
            "isMaster": True,
            "createdAt": 1_728_443_843_000,
        }

    def _accounts(self, ask: _Ask) -> list[dict[str, Any]]:
        """Give the accounts: what is for trading, and an empty one for funding."""
        told = []
        for number, (currency, held) in enumerate(sorted(ask.owner.balances().items())):
            amounts = {"balance": held.total, "available": held.total - held.locked, "holds": held.locked}
            row = {"id": str(548_674_591_753 + number), "currency": currency, "type": "trade"}
            told.append({**row, **{name: rows.text(amount) for name, amount in amounts.items()}})
            told.append({**row, "type": "main", "balance": "1", "available": "1", "holds": "0"})
        wanted = ask.params.get("type")
        return [row for row in told if wanted in (None, row["type"])]

    def _base_fee(self, _: _Ask) -> dict[str, Any]:
        listing = next(iter(self.exchange.markets.values())).listing
        return {"takerFeeRate": rows.text(listing.taker_fee), "makerFeeRate": rows.text(listing.maker_fee)}

    def _trade_fees(self, ask: _Ask) -> list[dict[str, Any]]:
        chosen = [self._market(name).listing for name in ask.need("symbols").split(",")[:10]]
        return [
            {
                "symbol": rows.symbol_id(listing.symbol),
                "takerFeeRate": rows.text(listing.taker_fee),
                "makerFeeRate": rows.text(listing.maker_fee),
            }
            for listing in chosen
        ]

    # ---- connections ----------------------------------------------------------------------------------------------

    async def opened(self, channel: Channel) -> None:
        """Welcome who has a token; who has none is told and left."""
        token, number = channel.query.get("token", ""), channel.query.get("connectId", "")
        user = self.exchange.directory.token_user(token, self.exchange.time_ns())
        if user is None and token not in self._public_tokens:
            said = {"id": number, "type": "error", "code": 401, "data": "token is expired"}
            await channel.socket.send_str(json.dumps(said))
            await channel.socket.close()
            return
        channel.user = user
        self.reply(channel, {"id": number, "type": "welcome", "pingInterval": _PING_MS, "pingTimeout": 10_000})

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a request."""
        try:
            request = json.loads(text)
            number, kind = request["id"], request["type"]
        except (ValueError, KeyError, TypeError):
            self.reply(channel, {"type": "error", "code": 400, "data": "bad request"})
            return
        if kind == "ping":
            self.reply(channel, {"id": number, "type": "pong", "timestamp": self.exchange.time_ns() // 1000})
            return
        if kind not in ("subscribe", "unsubscribe"):
            self.reply(channel, {"id": number, "type": "error", "code": 415, "data": "type is not supported"})
            return
        prefix, _, names = str(request.get("topic", "")).partition(":")
        wrong = self._wrong(channel, prefix, names)
        if wrong:
            self.reply(channel, {"id": number, "type": "error", "code": 404, "data": wrong})
            return
        topics = [f"{prefix}:{name}" for name in names.split(",")] if names else [prefix]
        for topic in topics:
            if kind == "subscribe":
                channel.topics[topic] = True
            else:
                channel.topics.pop(topic, None)
        if request.get("response"):
            self.reply(channel, {"id": number, "type": "ack"})
        if kind == "subscribe" and prefix.startswith("/spotMarket/level2Depth"):
            depth = int(prefix.removeprefix("/spotMarket/level2Depth"))
            for name in names.split(","):
                self.send(channel, rows.depth_frame(self._market(name).book(self.exchange.time_ns()), depth))

    def _wrong(self, channel: Channel, prefix: str, names: str) -> str:
        if prefix in (*_PRIVATE_TOPICS, "/account/balance"):
            return "" if channel.user is not None else "login is required"
        known = (*_PUBLIC_TOPICS, *(f"/spotMarket/level2Depth{depth}" for depth in _DEPTHS))
        listed = {rows.symbol_id(market.listing.symbol) for market in self.exchange.listed()}
        unknown = [name for name in names.split(",") if name.partition("_")[0] not in listed]
        return f"topic {prefix}:{names} is not found" if prefix not in known or unknown else ""

    # ---- what streams say -----------------------------------------------------------------------------------------

    def _tell(self, user: User, topic: str, subject: str, data: dict[str, Any]) -> None:
        for channel in self.of_user(user, topic):
            self.send_private(channel, rows.frame(topic, subject, data, "633559791e1cbc0001f319bc"))

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams."""
        order = update.order
        if update.what is Happened.REJECTED and not _is_post_only(update.reason):
            return  # the answer to the request says it
        if "stop_id" in order.extra and not order.extra.get("triggered"):
            kind = {Happened.NEW: "open", Happened.TRIGGERED: "triggered"}.get(update.what, "cancel")
            self._tell(
                order.user, "/spotMarket/advancedOrders", "stopOrder", rows.stop_told(order, kind, update.time_ns)
            )
            if update.what is not Happened.TRIGGERED:
                return
            order.extra |= {"triggered": order.id, "triggered_ms": update.time_ns // MS}
        for data in rows.told(update):
            self._tell(order.user, "/spotMarket/tradeOrdersV2", "orderChange", data)
            if data["type"] != "received":
                self._tell(order.user, "/spotMarket/tradeOrders", "orderChange", data)

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Tell the user's streams."""
        for currency in sorted(currencies & user.balances().keys()):
            held = user.balances()[currency]
            amounts = {"total": held.total, "available": held.total - held.locked, "hold": held.locked}
            data = {
                "accountId": "548674591753",
                "currency": currency,
                **{name: rows.text(amount) for name, amount in amounts.items()},
                "availableChange": "0",
                "holdChange": "0",
                "relationContext": {"symbol": None, "orderId": None},
                "relationEvent": "trade.setted",
                "relationEventId": "354689988084000",
                "time": str(self.exchange.time_ns() // MS),
            }
            self._tell(user, "/account/balance", "account.balance", data)

    def on_market(self, event: MarketFact) -> None:
        """Tell who has subscribed."""
        market = self.exchange.markets[event.instrument.symbol]
        match event:
            case Trade():
                self._publish(rows.match_frame(event))
                self._publish_candles(market)
            case Quote():
                self._publish(rows.level1_frame(event))
                self._publish(rows.ticker_frame(event, market.last, market.sequence))
            case Book():
                for depth in _DEPTHS:
                    self._publish(rows.depth_frame(event, depth))
                self._publish_changes(market, event)

    def _publish(self, frame: dict[str, Any]) -> None:
        for channel in self.with_topic(frame["topic"]):
            self.send(channel, frame)

    def _publish_changes(self, market: LiveMarket, book: Book) -> None:
        symbol = market.listing.symbol
        first, before = self._published.get(symbol, (market.sequence - 1, book))
        self._published[symbol] = market.sequence, book
        if market.sequence > first:
            self._publish(rows.change_frame(before, book, first + 1, market.sequence))

    def _publish_candles(self, market: LiveMarket) -> None:
        name, now_ns = rows.symbol_id(market.listing.symbol), self.exchange.time_ns()
        for kind, timeframe in _TYPES.items():
            topic = f"/market/candles:{name}_{kind}"
            if any(True for _ in self.with_topic(topic)):
                for candle in market.candles(timeframe, bar_open_ns(now_ns, timeframe), now_ns + 1):
                    data = {"symbol": name, "candles": rows.candle_row(candle), "time": now_ns}
                    self._publish(rows.frame(topic, "trade.candles.update", data))


def _is_post_only(reason: str) -> bool:
    return reason.startswith("post-only")


def make_exchange(clock: Clock, seed: int = 1, **options: Any) -> Exchange:
    """Make the venue's exchange: its symbols, its fees, its kinds of ids; `options` go to Exchange."""
    chosen = (
        replace(each, tick=Decimal("0.1") if each.symbol == "BTC/USDT" else each.tick, min_notional=Decimal(least))
        for each, least in zip(
            listings("BTC/USDT", "ETH/USDT", "SOL/USDT", "ETH/BTC"), ("0.1", "0.1", "0.1", "0.000001"), strict=True
        )
    )
    return Exchange("kucoin", chosen, clock, seed=seed, order_id=lambda n: f"{n:024x}", **options)


def make_site(exchange: Exchange) -> KucoinSite:
    """Put the dialect over an exchange."""
    return KucoinSite(exchange)


def add_person(
    exchange: Exchange, name: str = "trader", *, balances: dict[str, str] | None = None, unified: bool = False
) -> ApiKey:
    """Open an account and give its key, with a passphrase."""
    rng = random.Random(f"kucoin/{name}")
    secret = "-".join(f"{rng.getrandbits(4 * size):0{size}x}" for size in (8, 4, 4, 4, 12))
    owned = ApiKey(f"{rng.getrandbits(96):024x}", secret, passphrase=f"pass{rng.getrandbits(32):x}")
    exchange.add_user(name, balances or {"USDT": "100000", "BTC": "2", "ETH": "20"}, owned, unified=unified)
    return owned
