"""Binance spot over the exchange: REST, market streams, and the WebSocket API with its user data stream.

https://developers.binance.com/docs/binance-spot-api-docs (rest-api, filters, errors, web-socket-streams,
web-socket-api, user-data-stream) and https://developers.binance.com/docs/wallet. Live and test network are one exchange
here, but keys are good for one of them alone. Commissions are in quote currency, as of a symbol that is quoted in the
asset one has chosen to pay them in.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

from aiohttp import web

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.timeframes import DAY_NS, bar_open_ns
from koc_qt.ports.clock import Clock
from tests.wire.binance import RefusalError
from tests.wire.core.accounts import READ, TRADE, WITHDRAW, ApiKey, User
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.listings import Trading, listings
from tests.wire.core.market import LiveMarket, MarketFact, book_changes
from tests.wire.core.orders import OrderUpdate, RefusedError, Why, WireOrder
from tests.wire.exchange import Exchange
from tests.wire.market import INTERVALS_MS
from tests.wire.venues.binance_asks import (
    Ask,
    DataError,
    Endpoint,
    LimitedError,
    answered,
    depth_weight,
    open_orders_weight,
)
from tests.wire.venues.binance_gate import Gate
from tests.wire.venues.binance_rows import (
    MOST_AT_MARKET,
    MOST_ORDERS,
    MS,
    ORDER_TYPES,
    PREVENTION,
    balance_row,
    candle_row,
    eight,
    fill_row,
    kline_event,
    levels,
    order_row,
    order_state,
    rates,
    report,
    restrictions_row,
    symbol_id,
    symbol_row,
    trade_row,
)

_LIVE = ("api.binance.com", *(f"api{n}.binance.com" for n in range(1, 5)), "data-api.binance.vision")
_LIVE_STREAMS = ("stream.binance.com", "data-stream.binance.vision", "ws-api.binance.com")
_TEST = ("testnet.binance.vision", "stream.testnet.binance.vision", "ws-api.testnet.binance.vision")
_DAY_MS = DAY_NS // MS
_CLIENT_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
_SIGNED = "signature="


class BinanceExchangeSite(Dialect):
    """Implements tests.wire.loopback.Site; `gate` has its limits."""

    venue: ClassVar[str] = "binance"
    hosts: Sequence[str] = (*_LIVE, *_LIVE_STREAMS, *_TEST)

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.gate = Gate(exchange)
        self._published: dict[str, tuple[int, Book]] = {}  # by symbol, the book that depth streams have come to
        self._candles: dict[tuple[str, str], int] = {}  # the open candle of each @kline stream
        self._symbols = {symbol_id(symbol): symbol for symbol in exchange.markets}
        self._subscription = 0
        self._rest, self._ws = self._endpoints()

    def _endpoints(self) -> tuple[dict[str, Endpoint], dict[str, Endpoint]]:
        ask = Endpoint
        rest = {
            "GET /api/v3/ping": ask(lambda _: {}, 1),
            "GET /api/v3/time": ask(lambda _: {"serverTime": self._now_ms()}, 1),
            "GET /api/v3/exchangeInfo": ask(self._exchange_info, 20),
            "GET /api/v3/klines": ask(self._klines, 2),
            "GET /api/v3/depth": ask(self._depth, depth_weight),
            "GET /api/v3/trades": ask(self._trades, 25),
            "GET /api/v3/ticker/24hr": ask(self._day, 2),
            "GET /api/v3/ticker/bookTicker": ask(self._best, 2),
            "POST /api/v3/order": ask(self._place, 1, TRADE, is_order=True),
            "POST /api/v3/order/test": ask(self._test, 1, TRADE),
            "GET /api/v3/order": ask(self._order, 4, READ),
            "DELETE /api/v3/order": ask(self._cancel, 1, TRADE),
            "POST /api/v3/order/cancelReplace": ask(self._cancel_replace, 1, TRADE, is_order=True),
            "PUT /api/v3/order/amend/keepPriority": ask(self._amend, 4, TRADE),
            "GET /api/v3/openOrders": ask(self._open_orders, open_orders_weight, READ),
            "DELETE /api/v3/openOrders": ask(self._cancel_all, 1, TRADE),
            "GET /api/v3/allOrders": ask(self._all_orders, 20, READ),
            "GET /api/v3/myTrades": ask(self._my_trades, 20, READ),
            "GET /api/v3/account": ask(self._account, 20, READ),
            "GET /api/v3/account/commission": ask(self._commission, 20, READ),
        }
        ws = {
            "ping": rest["GET /api/v3/ping"],
            "time": rest["GET /api/v3/time"],
            "exchangeInfo": rest["GET /api/v3/exchangeInfo"],
            "klines": rest["GET /api/v3/klines"],
            "depth": rest["GET /api/v3/depth"],
            "trades.recent": rest["GET /api/v3/trades"],
            "order.place": rest["POST /api/v3/order"],
            "order.test": rest["POST /api/v3/order/test"],
            "order.status": rest["GET /api/v3/order"],
            "order.cancel": rest["DELETE /api/v3/order"],
            "order.cancelReplace": rest["POST /api/v3/order/cancelReplace"],
            "order.amend.keepPriority": rest["PUT /api/v3/order/amend/keepPriority"],
            "openOrders.status": rest["GET /api/v3/openOrders"],
            "openOrders.cancelAll": rest["DELETE /api/v3/openOrders"],
            "allOrders": rest["GET /api/v3/allOrders"],
            "myTrades": rest["GET /api/v3/myTrades"],
            "account.status": rest["GET /api/v3/account"],
            "account.commission": rest["GET /api/v3/account/commission"],
        }
        rest |= {
            "GET /sapi/v1/capital/config/getall": ask(self._coins, 10, READ),
            "GET /sapi/v1/margin/allPairs": ask(lambda _: [], 1, READ),
            "GET /sapi/v1/margin/isolated/allPairs": ask(lambda _: [], 10, READ),
            "GET /sapi/v1/account/apiRestrictions": ask(lambda asked: restrictions_row(asked.key), 1, READ),
            "GET /sapi/v1/asset/tradeFee": ask(self._trade_fees, 1, READ),
            "GET /sapi/v1/system/status": ask(lambda _: {"status": 0, "msg": "normal"}, 1),
        }
        return rest, ws

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        endpoint = self._rest.get(f"{call.method} {call.path}")
        if endpoint is None or (call.path.startswith("/sapi") and call.host in _TEST):
            return web.Response(status=404, text="<html><body><h2>404 Not found</h2></body></html>")
        try:
            ask = Ask({**call.query, **call.form()}, call.ip, call.host in _TEST)
            headers = self.gate.count(ask, endpoint, sapi=call.path.startswith("/sapi"))
            if endpoint.needs:
                signed = "&".join(part for part in (call.query_string + call.text).split("&") if part[:10] != _SIGNED)
                self.gate.let_in(ask, endpoint.needs, call.headers.get("X-MBX-APIKEY", ""), signed)
            if endpoint.is_order:
                headers |= self.gate.count_order(ask)
            return self.json(answered(endpoint, ask), headers=headers)
        except LimitedError as limited:
            return self._turned_away(limited)
        except RefusalError as refusal:
            data = {"data": refusal.data} if isinstance(refusal, DataError) else {}
            status = 401 if refusal.code in (-2014, -2015) else 400
            return self.json({"code": refusal.code, "msg": str(refusal), **data}, status)

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate."""
        return self._turned_away(self.gate.too_many(call.ip, retry_after_s, banned=banned))

    def _turned_away(self, limited: LimitedError) -> web.Response:
        headers = {"Retry-After": f"{max(limited.retry_after_s, 1):.0f}"}
        return self.json({"code": limited.code, "msg": str(limited)}, 418 if limited.banned else 429, headers)

    # ---- the market -----------------------------------------------------------------------------------------------

    def _now_ms(self) -> int:
        return self.exchange.time_ns() // MS

    def _market(self, ask: Ask) -> LiveMarket:
        return self.exchange.market(self._symbols.get(ask.need("symbol"), ""))

    def _exchange_info(self, ask: Ask) -> dict[str, Any]:
        status = {Trading.OPEN: "TRADING", Trading.CLOSED: "HALT", Trading.DELISTED: "BREAK"}
        wanted = ask.params.get("symbolStatus")
        rows = [(market, status[market.trading]) for market in self.exchange.markets.values()]
        symbols = [symbol_row(market, state) for market, state in rows if wanted in (None, state)]
        one = ask.params.get("symbol")
        if one is not None:
            symbols = [symbol_row(self._market(ask), status[self._market(ask).trading])]
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1}
        limits = [{**weight, "limit": int(self.gate.weights.limit)}]
        limits += self.gate.order_limits()
        return {
            "timezone": "UTC",
            "serverTime": self._now_ms(),
            "rateLimits": limits,
            "exchangeFilters": [],
            "symbols": symbols,
        }

    def _klines(self, ask: Ask) -> list[list[Any]]:
        market, interval = self._market(ask), ask.params.get("interval", "")
        if interval not in INTERVALS_MS:
            raise RefusalError(-1120, "Invalid interval.")
        start, end = ask.whole("startTime"), ask.whole("endTime")
        until_ns = self.exchange.time_ns() + 1 if end is None else end * MS + 1
        limit, newest = ask.limit(500, 1000), start is None
        since_ns = (start or 0) * MS
        candles = market.candles(interval, since_ns, until_ns, limit=limit, newest=newest, fill=True)
        return [candle_row(candle, INTERVALS_MS[interval]) for candle in candles]

    def _depth(self, ask: Ask) -> dict[str, Any]:
        market, limit = self._market(ask), ask.limit(100, 5000)
        if market.listing.symbol not in self._published:
            self._published[market.listing.symbol] = market.sequence, market.book(self.exchange.time_ns())
        number, book = self._published[market.listing.symbol]
        return {"lastUpdateId": number, "bids": levels(book.bids[:limit]), "asks": levels(book.asks[:limit])}

    def _trades(self, ask: Ask) -> list[dict[str, Any]]:
        tape = list(self._market(ask).tape)[-ask.limit(500, 1000) :]
        return [
            {
                "id": int(trade.trade_id),
                "price": eight(trade.price),
                "qty": eight(trade.quantity),
                "quoteQty": eight(trade.price * trade.quantity),
                "time": trade.time_ns // MS,
                "isBuyerMaker": trade.side is Side.SELL,
                "isBestMatch": True,
            }
            for trade in tape
        ]

    def _best(self, ask: Ask) -> dict[str, Any]:
        quote = self._market(ask).quote(self.exchange.time_ns())
        best = {"bidPrice": quote.bid, "bidQty": quote.bid_size, "askPrice": quote.ask, "askQty": quote.ask_size}
        return {"symbol": ask.params["symbol"], **{name: eight(value) for name, value in best.items()}}

    def _day(self, ask: Ask) -> dict[str, Any]:
        market, now_ns = self._market(ask), self.exchange.time_ns()
        hours = market.candles("1h", now_ns - DAY_NS, now_ns + 1, fill=True)
        opened, last = hours[0].open, market.last
        volume = sum((hour.volume for hour in hours), Decimal(0))
        told = {
            "priceChange": last - opened,
            "weightedAvgPrice": last,
            "prevClosePrice": opened,
            "lastPrice": last,
            "openPrice": opened,
            "highPrice": max(hour.high for hour in hours),
            "lowPrice": min(hour.low for hour in hours),
            "volume": volume,
            "quoteVolume": volume * last,
        }
        times = {"openTime": (now_ns - DAY_NS) // MS, "closeTime": now_ns // MS}
        change = f"{(last - opened) / opened * 100:.3f}"
        return {**self._best(ask), **{k: eight(v) for k, v in told.items()}, "priceChangePercent": change, **times}

    # ---- orders ---------------------------------------------------------------------------------------------------

    def _request(self, ask: Ask) -> dict[str, Any]:
        """Read an order as Exchange.place takes it. Raises RefusalError."""
        market = self._market(ask)
        side, kind = ask.need("side"), ask.need("type")
        if side not in ("BUY", "SELL"):
            raise RefusalError(-1117, "Invalid side.")
        if kind not in ORDER_TYPES:
            raise RefusalError(-1116, "Invalid orderType.")
        if kind in ("LIMIT", "STOP_LOSS_LIMIT"):
            ask.need("timeInForce")
        force = ask.params.get("timeInForce")
        if force not in (None, "GTC", "IOC", "FOK"):
            raise RefusalError(-1115, "Invalid timeInForce.")
        client_id = ask.params.get("newClientOrderId") or f"web_{self.exchange.time_ns():x}"
        if not _CLIENT_ID.fullmatch(client_id):
            legal = "^[a-zA-Z0-9-_]{1,36}$"
            text = f"Illegal characters found in parameter 'newClientOrderId'; legal range is '{legal}'."
            raise RefusalError(-1100, text)
        if kind == "MARKET" and (ask.amount("quantity") or 0) > MOST_AT_MARKET:
            raise RefusalError(-1013, "Filter failure: MARKET_LOT_SIZE")
        if len(self.exchange.orders(ask.owner, market.listing.symbol, is_open=True)) >= MOST_ORDERS:
            raise RefusalError(-1013, "Filter failure: MAX_NUM_ORDERS")
        cost = ask.amount("quoteOrderQty")
        if cost is None or kind != "MARKET":
            ask.need("quantity")
        for name, kinds in (("price", ("LIMIT", "LIMIT_MAKER", "STOP_LOSS_LIMIT")), ("stopPrice", ("STOP_LOSS",))):
            if kind.startswith(kinds):
                ask.need(name)
            elif ask.params.get(name):
                raise RefusalError(-1106, f"Parameter '{name}' sent when not required.")
        stop = ask.amount("stopPrice")
        if stop is not None and (market.last >= stop if side == "BUY" else market.last <= stop):
            raise RefusalError(-2010, "Stop price would trigger immediately.")
        types = {"LIMIT_MAKER": OrderType.LIMIT, "STOP_LOSS": OrderType.STOP, "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT}
        at_once = TimeInForce.IOC if kind == "MARKET" else TimeInForce.GTC
        return {
            "symbol": market.listing.symbol,
            "side": Side.BUY if side == "BUY" else Side.SELL,
            "type": types.get(kind) or OrderType(kind.lower()),
            "quantity": ask.amount("quantity"),
            "price": ask.amount("price"),
            "stop_price": stop,
            "cost": cost,
            "time_in_force": TimeInForce(force.lower()) if force else at_once,
            "post_only": kind == "LIMIT_MAKER",
            "client_id": client_id,
            "extra": {"type": kind},
        }

    def _test(self, ask: Ask) -> dict[str, Any]:
        self.exchange.place(ask.owner, **self._request(ask), test_only=True)
        return {}

    def _place(self, ask: Ask) -> dict[str, Any]:
        order = self.exchange.place(ask.owner, **self._request(ask))
        form = ask.params.get("newOrderRespType", "FULL" if order.extra["type"] in ("LIMIT", "MARKET") else "ACK")
        return self._placed(order, form)

    def _placed(self, order: WireOrder, form: str) -> dict[str, Any]:
        answer: dict[str, Any] = {
            "symbol": symbol_id(order.symbol),
            "orderId": int(order.id),
            "orderListId": -1,
            "clientOrderId": order.client_id,
            "transactTime": order.updated_ns // MS,
        }
        if form == "ACK":
            return answer
        answer |= {
            **order_state(order),
            "workingTime": order.created_ns // MS,
            **PREVENTION,
        }
        if form == "FULL":
            answer["fills"] = [fill_row(fill) for fill in order.fills]
        return answer

    def _named(self, ask: Ask, number: str = "orderId", client: str = "origClientOrderId") -> WireOrder:
        """Give the order that is meant. Raises RefusedError, RefusalError."""
        market = self._market(ask)
        if ask.params.get(number):
            order = self.exchange.order(ask.owner, ask.params[number])
        elif ask.params.get(client):
            order = self.exchange.find(ask.owner, ask.params[client])
        else:
            raise RefusalError(-1102, f"Param '{client}' or '{number}' must be sent, but both were empty/null!")
        if order.symbol != market.listing.symbol:
            raise RefusedError(Why.UNKNOWN_ORDER)
        return order

    def _order(self, ask: Ask) -> dict[str, Any]:
        return order_row(self._named(ask))

    def _cancel(self, ask: Ask, number: str = "orderId", client: str = "origClientOrderId") -> dict[str, Any]:
        try:
            order = self._named(ask, number, client)
            given = "cancelNewClientOrderId" if number != "orderId" else "newClientOrderId"
            order.extra["cancel_id"] = ask.params.get(given) or f"cancel_{order.id}"
            return self._cancelled(self.exchange.cancel(ask.owner, order.id))
        except RefusedError as refused:
            if refused.why in (Why.UNKNOWN_ORDER, Why.NOT_OPEN):
                raise RefusalError(-2011, "Unknown order sent.") from refused
            raise

    def _cancelled(self, order: WireOrder) -> dict[str, Any]:
        return {
            "symbol": symbol_id(order.symbol),
            "origClientOrderId": order.client_id,
            "orderId": int(order.id),
            "orderListId": -1,
            "clientOrderId": order.extra["cancel_id"],
            "transactTime": order.updated_ns // MS,
            **order_state(order),
            **PREVENTION,
        }

    def _cancel_all(self, ask: Ask) -> list[dict[str, Any]]:
        orders = self.exchange.orders(ask.owner, self._market(ask).listing.symbol, is_open=True)
        if not orders:
            raise RefusalError(-2011, "Unknown order sent.")
        for order in orders:
            order.extra["cancel_id"] = f"cancel_{order.id}"
        return [self._cancelled(self.exchange.cancel(ask.owner, order.id)) for order in orders]

    def _cancel_replace(self, ask: Ask) -> dict[str, Any]:
        mode = ask.need("cancelReplaceMode")
        told: dict[str, Any] = {"cancelResult": "SUCCESS", "newOrderResult": "NOT_ATTEMPTED"}
        steps = (
            ("cancel", lambda _: self._cancel(ask, "cancelOrderId", "cancelOrigClientOrderId")),
            ("newOrder", self._place),
        )
        for name, step in steps:
            told[f"{name}Response"] = None
            if name == "newOrder" and told["cancelResult"] == "FAILURE" and mode == "STOP_ON_FAILURE":
                continue
            try:
                told[f"{name}Response"], told[f"{name}Result"] = answered(Endpoint(step, 0), ask), "SUCCESS"
            except RefusalError as refusal:
                failure = {"code": refusal.code, "msg": str(refusal)}
                told[f"{name}Response"], told[f"{name}Result"] = failure, "FAILURE"
        results = [told["cancelResult"], told["newOrderResult"]]
        if results == ["SUCCESS", "SUCCESS"]:
            return told
        if "SUCCESS" in results:
            raise DataError(-2021, "Order cancel-replace partially failed.", told)
        raise DataError(-2022, "Order cancel-replace failed.", told)

    def _amend(self, ask: Ask) -> dict[str, Any]:
        order, quantity = self._named(ask), ask.amount("newQty")
        ask.need("newQty")
        if quantity is None or quantity >= order.quantity:
            raise RefusedError(Why.BAD_AMEND)
        before = order.client_id
        self.exchange.amend(ask.owner, order.id, quantity)
        self.exchange.rename(order, ask.params.get("newClientOrderId", before))
        amended = order_row(order) | {"preventedQty": "0.00000000"}
        names = {"origClientOrderId": before, "orderId": int(order.id), "symbol": symbol_id(order.symbol)}
        when = self._now_ms()
        return {"transactTime": when, "executionId": when, "amendedOrder": amended | names | {"qty": eight(quantity)}}

    def _open_orders(self, ask: Ask) -> list[dict[str, Any]]:
        symbol = self._market(ask).listing.symbol if ask.params.get("symbol") else None
        return [order_row(order) for order in self.exchange.orders(ask.owner, symbol, is_open=True)]

    def _all_orders(self, ask: Ask) -> list[dict[str, Any]]:
        first, (start, end) = ask.whole("orderId"), self._span(ask)
        orders = self.exchange.orders(ask.owner, self._market(ask).listing.symbol)
        chosen = [o for o in orders if start <= o.created_ns // MS <= end and int(o.id) >= (first or 0)]
        limit = ask.limit(500, 1000)
        newest = first is None and ask.params.get("startTime") is None
        return [order_row(order) for order in (chosen[-limit:] if newest else chosen[:limit])]

    def _my_trades(self, ask: Ask) -> list[dict[str, Any]]:
        order_id, first, (start, end) = ask.params.get("orderId"), ask.whole("fromId"), self._span(ask)
        fills = self.exchange.fills(ask.owner, self._market(ask).listing.symbol)
        chosen = [
            (order, fill)
            for order, fill in fills
            if start <= fill.time_ns // MS <= end and order_id in (None, order.id) and int(fill.id) >= (first or 0)
        ]
        limit = ask.limit(500, 1000)
        newest = first is None and ask.params.get("startTime") is None
        return [trade_row(*each) for each in (chosen[-limit:] if newest else chosen[:limit])]

    @staticmethod
    def _span(ask: Ask) -> tuple[int, int]:
        start, end = ask.whole("startTime"), ask.whole("endTime")
        if start is not None and end is not None and end - start > _DAY_MS:
            raise RefusalError(-1127, "More than 24 hours between startTime and endTime.")
        if start is not None and end is None:
            end = start + _DAY_MS
        return start or 0, 1 << 62 if end is None else end

    # ---- the account ----------------------------------------------------------------------------------------------

    def _account(self, ask: Ask) -> dict[str, Any]:
        rights = ask.key.permissions if ask.key else set()
        balances = [balance_row(ask.owner, currency, "asset", "free", "locked") for currency in ask.owner.balances()]
        if ask.params.get("omitZeroBalances") == "true":
            balances = [row for row in balances if Decimal(row["free"]) or Decimal(row["locked"])]
        listing = next(iter(self.exchange.markets.values())).listing
        return {
            "makerCommission": int(listing.maker_fee * 10_000),
            "takerCommission": int(listing.taker_fee * 10_000),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": rates(listing.maker_fee, listing.taker_fee),
            "canTrade": TRADE in rights,
            "canWithdraw": WITHDRAW in rights,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": self._now_ms(),
            "accountType": "SPOT",
            "balances": balances,
            "permissions": ["SPOT"],
            "uid": 354_937_868,
        }

    def _commission(self, ask: Ask) -> dict[str, Any]:
        listing, none = self._market(ask).listing, Decimal(0)
        discount = {"enabledForAccount": False, "enabledForSymbol": False, "discountAsset": "BNB", "discount": "0.75"}
        return {
            "symbol": ask.params["symbol"],
            "standardCommission": rates(listing.maker_fee, listing.taker_fee),
            "specialCommission": rates(none, none),
            "taxCommission": rates(none, none),
            "discount": discount,
        }

    def _trade_fees(self, ask: Ask) -> list[dict[str, Any]]:
        chosen = [self._market(ask)] if ask.params.get("symbol") else list(self.exchange.listed())
        rows = [(symbol_id(m.listing.symbol), m.listing) for m in chosen]
        return [
            {"symbol": name, "makerCommission": f"{of.maker_fee:f}", "takerCommission": f"{of.taker_fee:f}"}
            for name, of in rows
        ]

    def _coins(self, ask: Ask) -> list[dict[str, Any]]:
        markets = self.exchange.markets.values()
        names = sorted({name for market in markets for name in (market.listing.base, market.listing.quote)})
        flags = {"trading": True, "depositAllEnable": True, "withdrawAllEnable": True, "isLegalMoney": False}
        return [
            {
                "coin": name,
                "name": name,
                **flags,
                **balance_row(ask.owner, name, "", "free", "locked"),
                "networkList": [],
            }
            for name in names
        ]

    # ---- connections ----------------------------------------------------------------------------------------------

    async def opened(self, channel: Channel) -> None:
        """Subscribe to the streams that are in the address."""
        channel.combined = channel.path.startswith("/stream")
        names = channel.query.get("streams", "") if channel.combined else channel.path.removeprefix("/ws").strip("/")
        channel.topics.update(dict.fromkeys((name for name in names.split("/") if "@" in name), True))

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a request of the WebSocket API, or an order to a stream connection."""
        try:
            request = json.loads(text)
            method, number = request["method"], request["id"]
        except (ValueError, KeyError, TypeError):
            self.reply(channel, {"error": {"code": 3, "msg": "Invalid JSON: expected an order"}})
            return
        if channel.host.startswith("ws-api"):
            self.reply(channel, {"id": number, **self._api(channel, method, request.get("params", {}))})
            return
        names = request.get("params", [])
        answer: dict[str, Any] = {"result": None, "id": number}
        if method == "SUBSCRIBE":
            channel.topics.update(dict.fromkeys(names, True))  # what does not exist is confirmed, and says nothing
        elif method == "UNSUBSCRIBE":
            for name in names:
                channel.topics.pop(name, None)
        elif method == "LIST_SUBSCRIPTIONS":
            answer["result"] = list(channel.topics)
        else:
            answer = {"error": {"code": 2, "msg": f"Invalid request: unknown method {method}"}, "id": number}
        self.reply(channel, answer)

    def _api(self, channel: Channel, method: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a request of the WebSocket API."""
        asked = {name: _text(value) for name, value in params.items()}
        ask = Ask(asked, channel.ip, channel.host in _TEST)
        subscribe = Endpoint(lambda _: self._subscribe(channel, ask), 2, READ)
        leave = Endpoint(lambda _: self._unsubscribe(channel), 2)
        users = {"userDataStream.subscribe.signature": subscribe, "userDataStream.unsubscribe": leave}
        endpoint = users.get(method) or self._ws.get(method)
        limits: list[Any] = []
        try:
            if endpoint is None:
                raise RefusalError(-1000, f"Unknown method '{method}'.")
            fault = self.faults.take_limited()
            if fault is not None:
                raise self.gate.too_many(channel.ip, fault.retry_after_s, banned=fault.banned)
            self.gate.count(ask, endpoint)
            if endpoint.needs:
                signed = "&".join(f"{name}={asked[name]}" for name in sorted(asked) if name != "signature")
                self.gate.let_in(ask, endpoint.needs, asked.get("apiKey", ""), signed)
            if endpoint.is_order:
                self.gate.count_order(ask)
            return {"status": 200, "result": answered(endpoint, ask), "rateLimits": limits}
        except LimitedError as limited:
            now_ms = self._now_ms()
            until = {"serverTime": now_ms, "retryAfter": now_ms + round(limited.retry_after_s * 1000)}
            error = {"code": limited.code, "msg": str(limited), "data": until}
            return {"status": 418 if limited.banned else 429, "error": error, "rateLimits": limits}
        except RefusalError as refusal:
            data = {"data": refusal.data} if isinstance(refusal, DataError) else {}
            status = 401 if refusal.code in (-2014, -2015) else 400
            return {
                "status": status,
                "error": {"code": refusal.code, "msg": str(refusal), **data},
                "rateLimits": limits,
            }

    def _subscribe(self, channel: Channel, ask: Ask) -> dict[str, Any]:
        channel.user = ask.owner
        channel.state["subscription"] = self._subscription
        self._subscription += 1
        return {"subscriptionId": channel.state["subscription"]}

    def _unsubscribe(self, channel: Channel) -> dict[str, Any]:
        channel.user = None
        return {}

    def token_expired(self, channel: Channel) -> None:
        """End a user data stream: the connection stays."""
        self._tell(channel, {"e": "eventStreamTerminated", "E": self._now_ms()})
        channel.user = None

    # ---- what streams say -----------------------------------------------------------------------------------------

    def _tell(self, channel: Channel, event: dict[str, Any]) -> None:
        self.send_private(channel, {"subscriptionId": channel.state["subscription"], "event": event})

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams."""
        for channel in self.of_user(update.order.user):
            self._tell(channel, report(update, self._now_ms()))

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Tell the user's streams."""
        rows = [balance_row(user, currency, "a", "f", "l") for currency in sorted(currencies)]
        now_ms = self._now_ms()
        for channel in self.of_user(user):
            self._tell(channel, {"e": "outboundAccountPosition", "E": now_ms, "u": now_ms, "B": rows})

    def on_market(self, event: MarketFact) -> None:
        """Tell who has subscribed."""
        name, time_ms = symbol_id(event.instrument.symbol), event.time_ns // MS
        market = self.exchange.markets[event.instrument.symbol]
        if not self.channels and not isinstance(event, Book):
            return
        match event:
            case Trade():
                prices = {"p": eight(event.price), "q": eight(event.quantity)}
                said = {"E": time_ms, "s": name, **prices, "T": time_ms, "m": event.side is Side.SELL, "M": True}
                number = int(event.trade_id)
                self._publish(name, "trade", {"e": "trade", "t": number, **said})
                self._publish(name, "aggTrade", {"e": "aggTrade", "a": number, "f": number, "l": number, **said})
                self._publish_candles(market, name, time_ms)
            case Quote():
                best = {"b": event.bid, "B": event.bid_size, "a": event.ask, "A": event.ask_size}
                prices = {key: eight(value) for key, value in best.items()}
                self._publish(name, "bookTicker", {"u": market.sequence, "s": name, **prices})
            case Book():
                self._publish_book(market, event, name, time_ms)

    def _publish_book(self, market: LiveMarket, book: Book, name: str, time_ms: int) -> None:
        number, before = self._published.get(market.listing.symbol, (market.sequence - 1, None))
        self._published[market.listing.symbol] = market.sequence, book
        bids, asks = ([[eight(p), eight(q)] for p, q in changes] for changes in book_changes(before, book))
        event = {"e": "depthUpdate", "E": time_ms, "s": name, "U": number + 1, "u": market.sequence}
        for stream in ("depth@100ms", "depth"):
            self._publish(name, stream, {**event, "b": bids, "a": asks})

    def _publish_candles(self, market: LiveMarket, name: str, time_ms: int) -> None:
        wanted = {topic for channel in self.channels for topic in channel.topics if "@kline_" in topic}
        for interval in sorted(topic.partition("@kline_")[2] for topic in wanted if topic.startswith(name.lower())):
            if interval in INTERVALS_MS:
                self._publish_candle(market, name, interval, time_ms)

    def _publish_candle(self, market: LiveMarket, name: str, interval: str, time_ms: int) -> None:
        open_ns = bar_open_ns(time_ms * MS, interval)
        since_ns = min(self._candles.get((name, interval), open_ns), open_ns)
        self._candles[name, interval] = open_ns
        for c in market.candles(interval, since_ns, open_ns + 1, fill=True):
            self._publish(
                name, f"kline_{interval}", kline_event(name, interval, c, time_ms, is_closed=c.open_ns < open_ns)
            )

    def _publish(self, name: str, kind: str, data: dict[str, Any]) -> None:
        stream = f"{name.lower()}@{kind}"
        for channel in self.with_topic(stream):
            self.send(channel, {"stream": stream, "data": data} if channel.combined else data)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def make_exchange(clock: Clock, seed: int = 1, **options: Any) -> Exchange:
    """Make the venue's exchange: its symbols, its fees; `options` go to Exchange."""
    chosen = listings("BTC/USDT", "ETH/USDT", "SOL/USDT", "ETH/BTC")
    bounded = [replace(each, max_quantity=Decimal(9000)) for each in chosen]
    return Exchange("binance", bounded, clock, seed=seed, **{"buyers_pay_in_base": True, **options})


def make_site(exchange: Exchange) -> BinanceExchangeSite:
    """Put the dialect over an exchange."""
    return BinanceExchangeSite(exchange)


def add_person(
    exchange: Exchange, name: str = "trader", *, test_network: bool = False, balances: dict[str, str] | None = None
) -> ApiKey:
    """Open an account on the live or test network and give its key."""
    rng = random.Random(f"binance/{name}/{test_network}")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    key, secret = ("".join(rng.choices(letters, k=64)) for _ in range(2))
    owned = ApiKey(key, secret)
    funds = balances or {"USDT": "100000", "BTC": "2", "ETH": "20"}
    exchange.add_user(name, funds, owned, test_network=test_network)
    return owned
