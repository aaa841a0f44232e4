"""Kraken spot over the exchange: REST, public streams and private ones of WebSocket v2.

https://docs.kraken.com/api-reference and https://docs.kraken.com/exchange/api-reference/spot-websocket-v2. As there,
every answer has status 200 and says in `error` what is wrong, and a post-only order that would take is taken, then
cancelled. Fees are in quote currency (fciq).
"""

from __future__ import annotations

import base64
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from email.utils import formatdate
from typing import Any, ClassVar

from aiohttp import web

from koc_qt.domain.market import Book, Quote, Trade
from koc_qt.domain.orders import OrderStatus, OrderType, TimeInForce
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import READ, TRADE, WITHDRAW, ApiKey, User
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.listings import Trading, listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, Why, WireOrder
from tests.wire.exchange import Exchange
from tests.wire.venues import kraken_rows as rows
from tests.wire.venues.kraken_gate import Gate, TurnedAwayError

_S = 1_000_000_000
_TOKEN_NS = 900 * _S
_CANDLES = 720  # the newest, whatever is asked for
_PAGE = 50
_INTERVALS = {1: "1m", 5: "5m", 15: "15m", 30: "30m", 60: "1h", 240: "4h", 1440: "1d"}
_DEPTHS = (10, 25, 100, 500, 1000)
_ORDER_ID = re.compile(r"O[A-Z2-7]{5}-[A-Z2-7]{5}-[A-Z2-7]{6}")
# a UUID, long or short, or free text of at most 18 characters: https://docs.kraken.com/exchange/guides/general/clordid
_CLIENT_ID = re.compile(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}|[0-9a-f]{32}|[ -~]{1,18}", re.IGNORECASE)
_REFUSED = {
    Why.UNKNOWN_SYMBOL: "EQuery:Unknown asset pair",
    Why.CLOSED: "EService:Market in cancel_only mode",
    Why.LOT: "EGeneral:Invalid arguments:volume",
    Why.TOO_SMALL: "EGeneral:Invalid arguments:volume minimum not met",
    Why.TOO_LARGE: "EGeneral:Invalid arguments:volume",
    Why.NOTIONAL: "EOrder:Cost minimum not met",
    Why.FUNDS: "EOrder:Insufficient funds",
    Why.DUPLICATE: "EGeneral:Invalid arguments:cl_ord_id",
    Why.UNKNOWN_ORDER: "EOrder:Unknown order",
    Why.NOT_OPEN: "EOrder:Unknown order",
    Why.BAD_AMEND: "EOrder:Invalid order",
}
_RIGHTS = {
    READ: ("query-funds", "query-open-trades", "query-closed-trades"),
    TRADE: ("modify-trades", "close-trades"),
    WITHDRAW: ("withdraw-funds",),
}


@dataclass
class _Ask:
    """A private request, and of whom it was found to be."""

    params: dict[str, str]
    user: User
    key: ApiKey


@dataclass(frozen=True)
class _Endpoint:
    answer: Callable[[_Ask], Any]
    needs: str = READ
    weight: float = 1.0


class KrakenSite(Dialect):
    """Implements tests.wire.loopback.Site; `gate` has its limits."""

    venue: ClassVar[str] = "kraken"
    hosts: Sequence[str] = ("api.kraken.com", "ws.kraken.com", "ws-auth.kraken.com")
    ping_s: ClassVar[float | None] = None

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.gate = Gate(exchange)
        self._pairs = {name: symbol for symbol in exchange.markets for name in rows.pair(symbol)}
        self._books: dict[tuple[str, int], Book] = {}  # by symbol and depth, what was published last
        self._tokens = random.Random("kraken tokens")
        self._public: dict[str, Callable[[Call], Any]] = {
            "Time": self._time,
            "SystemStatus": self._status,
            "Assets": self._assets,
            "AssetPairs": self._asset_pairs,
            "OHLC": self._ohlc,
            "Ticker": self._ticker,
            "Depth": self._depth,
            "Trades": self._trades,
        }
        self._private = {
            "AddOrder": _Endpoint(self._add_order, TRADE, 0),
            "AmendOrder": _Endpoint(self._amend_order, TRADE, 0),
            "CancelOrder": _Endpoint(self._cancel_order, TRADE, 0),
            "CancelAll": _Endpoint(self._cancel_all, TRADE),
            "QueryOrders": _Endpoint(self._query_orders),
            "OpenOrders": _Endpoint(self._open_orders),
            "ClosedOrders": _Endpoint(self._closed_orders),
            "TradesHistory": _Endpoint(self._trades_history, weight=2),
            "QueryTrades": _Endpoint(self._query_trades),
            "Balance": _Endpoint(self._balance),
            "BalanceEx": _Endpoint(self._balance_ex),
            "TradeVolume": _Endpoint(self._trade_volume),
            "GetWebSocketsToken": _Endpoint(self._token),
            "GetApiKeyInfo": _Endpoint(self._key_info, ""),
        }

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        kind, _, name = call.path.removeprefix("/0/").partition("/")
        try:
            if call.method == "GET" and kind == "public" and name in self._public:
                self.gate.count_public(call)
                return self._answer(self._public[name](call))
            if call.method == "POST" and kind == "private" and name in self._private:
                endpoint, form = self._private[name], self._form(call)
                ask = _Ask(form, *self.gate.let_in(call, form, endpoint.needs, endpoint.weight))
                return self._answer(endpoint.answer(ask))
        except TurnedAwayError as turned_away:
            return self.json({"error": [str(turned_away)]})
        except RefusedError as refused:
            return self.json({"error": [_REFUSED.get(refused.why, "EGeneral:Invalid arguments")]})
        return self.json({"error": ["EGeneral:Unknown method"]})

    @staticmethod
    def _form(call: Call) -> dict[str, str]:
        if call.headers.get("Content-Type", "").startswith("application/json"):
            return {name: str(value) for name, value in (call.json() or {}).items()}
        return call.form()

    def _answer(self, result: Any) -> web.Response:
        return self.json({"error": [], "result": result})

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate; the venue names no pause."""
        return self.json({"error": ["EGeneral:Temporary lockout" if banned else "EAPI:Rate limit exceeded"]})

    def maintenance(self, call: Call) -> web.Response:
        """Answer while the venue is down for maintenance."""
        return self.json({"error": ["EService:Unavailable"]})

    # ---- the market -----------------------------------------------------------------------------------------------

    def _market(self, name: str | None) -> LiveMarket:
        return self.exchange.market(self._pairs.get(name or "", ""))

    def _time(self, _: Call) -> dict[str, Any]:
        now_s = self.exchange.time_ns() // _S
        return {"unixtime": now_s, "rfc1123": formatdate(now_s)}

    def _status(self, _: Call) -> dict[str, Any]:
        return {"status": "online", "timestamp": rows.stamp(self.exchange.time_ns())}

    def _assets(self, _: Call) -> dict[str, Any]:
        markets = self.exchange.markets.values()
        names = sorted({name for m in markets for name in (m.listing.base, m.listing.quote)})
        return {rows.asset(name)[0]: rows.asset_row(name) for name in names}

    def _asset_pairs(self, call: Call) -> dict[str, Any]:
        wanted = call.query.get("pair")
        chosen = [self._market(name) for name in wanted.split(",")] if wanted else self.exchange.listed()
        return {rows.pair(market.listing.symbol)[0]: rows.pair_row(market) for market in chosen}

    def _ohlc(self, call: Call) -> dict[str, Any]:
        market = self._market(call.query.get("pair"))
        timeframe = _INTERVALS.get(int(call.query.get("interval", "1")))
        if timeframe is None:
            raise TurnedAwayError("EGeneral:Invalid arguments:interval")
        now_ns = self.exchange.time_ns()
        candles = market.candles(timeframe, 0, now_ns + 1, limit=_CANDLES, newest=True, fill=True)
        since_ns = int(float(call.query.get("since", "0"))) * _S
        places = rows.decimals(market.listing)
        told = [rows.candle_row(candle, places) for candle in candles if candle.open_ns > since_ns]
        last = candles[-2].open_ns // _S if len(candles) > 1 else 0
        return {rows.pair(market.listing.symbol)[0]: told, "last": last}

    def _ticker(self, call: Call) -> dict[str, Any]:
        wanted = call.query.get("pair")
        chosen = [self._market(name) for name in wanted.split(",")] if wanted else self.exchange.listed()
        told = {}
        for market in chosen:
            quote, places = market.quote(self.exchange.time_ns()), rows.decimals(market.listing)
            last, volume = f"{market.last:.{places}f}", "1.00000000"
            told[rows.pair(market.listing.symbol)[0]] = {
                "a": [f"{quote.ask:.{places}f}", "1", f"{quote.ask_size:.3f}"],
                "b": [f"{quote.bid:.{places}f}", "1", f"{quote.bid_size:.3f}"],
                "c": [last, volume],
                **{name: [volume, volume] for name in "v"},
                **{name: [last, last] for name in "plh"},
                "t": [1, 1],
                "o": last,
            }
        return told

    def _depth(self, call: Call) -> dict[str, Any]:
        market = self._market(call.query.get("pair"))
        book = rows.top(market.book(self.exchange.time_ns()), int(call.query.get("count", "100")))
        places, now_s = rows.decimals(market.listing), self.exchange.time_ns() // _S
        sides = {
            name: [[f"{x.price:.{places}f}", f"{x.quantity:.3f}", now_s] for x in getattr(book, name)]
            for name in ("asks", "bids")
        }
        return {rows.pair(market.listing.symbol)[0]: sides}

    def _trades(self, call: Call) -> dict[str, Any]:
        market = self._market(call.query.get("pair"))
        since = Decimal(call.query.get("since", "0"))
        since_ns = int(since if since > 10**12 else since * _S)
        tape = [trade for trade in market.tape if trade.time_ns > since_ns][: int(call.query.get("count", "1000"))]
        places = rows.decimals(market.listing)
        told = [
            [
                f"{trade.price:.{places}f}",
                f"{trade.quantity:.8f}",
                rows.seconds(trade.time_ns),
                trade.side.value[0],
                "m",
                "",
                int(trade.trade_id),
            ]
            for trade in tape
        ]
        return {rows.pair(market.listing.symbol)[0]: told, "last": str(tape[-1].time_ns if tape else since_ns)}

    # ---- orders ---------------------------------------------------------------------------------------------------

    @staticmethod
    def _amount(ask: _Ask, name: str) -> Decimal | None:
        text = ask.params.get(name)
        if text is None:
            return None
        try:
            return Decimal(text)
        except InvalidOperation:
            raise TurnedAwayError(f"EGeneral:Invalid arguments:{name}") from None

    def _add_order(self, ask: _Ask) -> dict[str, Any]:
        market = self._market(ask.params.get("pair"))
        listing, places = market.listing, rows.decimals(market.listing)
        side, kind = rows.side_of(ask.params.get("type")), rows.ORDER_TYPES.get(ask.params.get("ordertype", ""))
        client_id, flags = ask.params.get("cl_ord_id", ""), ask.params.get("oflags", "").split(",")
        if side is None or kind is None:
            raise TurnedAwayError(f"EGeneral:Invalid arguments:{'type' if side is None else 'ordertype'}")
        if client_id and not _CLIENT_ID.fullmatch(client_id):
            raise TurnedAwayError("EGeneral:Invalid arguments:cl_ord_id")
        force = ask.params.get("timeinforce", "GTC")
        if force not in ("GTC", "IOC", "FOK"):
            raise TurnedAwayError("EGeneral:Invalid arguments:timeinforce")
        is_stop = kind in (OrderType.STOP, OrderType.STOP_LIMIT)
        first = None if kind is OrderType.MARKET else self._amount(ask, "price")
        stop = first if is_stop else None
        price = self._amount(ask, "price2") if kind is OrderType.STOP_LIMIT else None if is_stop else first
        self.gate.count_order(ask.user, listing.symbol)
        try:
            order = self.exchange.place(
                ask.user,
                listing.symbol,
                side,
                kind,
                self._amount(ask, "volume"),
                price,
                stop,
                time_in_force=TimeInForce.IOC if kind is OrderType.MARKET else TimeInForce(force.lower()),
                post_only="post" in flags,
                client_id=client_id,
                reject_later=True,
            )
        except RefusedError as refused:
            if refused.why is Why.TICK:
                text = f"{rows.pair(listing.symbol)[1]} price can only be specified up to {places} decimals."
                raise TurnedAwayError(f"EOrder:Invalid price:{text}") from refused
            raise
        if order.status is OrderStatus.REJECTED and not _is_post_only(order.reason):
            order.extra["never"] = True
            raise TurnedAwayError(_said(order.reason))
        return {"descr": {"order": rows.describe(order, places)}, "txid": [order.id]}

    def _named(self, ask: _Ask, number: str = "txid") -> WireOrder:
        if ask.params.get("cl_ord_id"):
            return self.exchange.find(ask.user, ask.params["cl_ord_id"])
        return self.exchange.order(ask.user, ask.params.get(number, ""))

    def _amend_order(self, ask: _Ask) -> dict[str, Any]:
        order = self._named(ask)
        self.gate.count_order(ask.user, order.symbol)
        quantity, price = self._amount(ask, "order_qty"), self._amount(ask, "limit_price")
        if quantity is not None and order.is_open and quantity <= order.filled:
            self.exchange.cancel(ask.user, order.id)  # what is left is cancelled
        else:
            self.exchange.amend(ask.user, order.id, quantity, price)
        return {"amend_id": rows.txid("T", self.exchange.time_ns() // 1000)}

    def _cancel_order(self, ask: _Ask) -> dict[str, Any]:
        order = self._named(ask)
        self.gate.count_cancel(order)
        self.exchange.cancel(ask.user, order.id)
        return {"count": 1}

    def _cancel_all(self, ask: _Ask) -> dict[str, Any]:
        orders = self.exchange.orders(ask.user, is_open=True)
        for order in orders:
            self.exchange.cancel(ask.user, order.id)
        return {"count": len(orders)}

    def _orders(self, user: User, *, is_open: bool | None = None) -> list[WireOrder]:
        """Give the orders that were taken, newest first."""
        return [
            order for order in reversed(self.exchange.orders(user, is_open=is_open)) if not order.extra.get("never")
        ]

    def _places(self, order: WireOrder) -> int:
        return rows.decimals(self.exchange.markets[order.symbol].listing)

    def _rows_of(self, ask: _Ask, orders: list[WireOrder]) -> dict[str, Any]:
        trades = ask.params.get("trades", "").lower() == "true"
        return {order.id: rows.order_row(order, self._places(order), trades=trades) for order in orders}

    def _query_orders(self, ask: _Ask) -> dict[str, Any]:
        names = ask.params.get("txid", "").split(",")
        if not all(_ORDER_ID.fullmatch(name) for name in names) or len(names) > _PAGE:
            raise TurnedAwayError("EOrder:Invalid order")
        mine = {order.id: order for order in self._orders(ask.user)}
        return self._rows_of(ask, [mine[name] for name in names if name in mine])

    def _open_orders(self, ask: _Ask) -> dict[str, Any]:
        client_id = ask.params.get("cl_ord_id")
        orders = self._orders(ask.user, is_open=True)
        return {"open": self._rows_of(ask, [order for order in orders if client_id in (None, order.client_id)])}

    def _closed_orders(self, ask: _Ask) -> dict[str, Any]:
        client_id, (start_ns, end_ns), offset = ask.params.get("cl_ord_id"), self._span(ask), self._offset(ask)
        orders = [
            order
            for order in self._orders(ask.user, is_open=False)
            if client_id in (None, order.client_id) and start_ns < order.updated_ns <= end_ns
        ]
        return {"closed": self._rows_of(ask, orders[offset : offset + _PAGE]), "count": len(orders)}

    def _trades_history(self, ask: _Ask) -> dict[str, Any]:
        (start_ns, end_ns), offset = self._span(ask), self._offset(ask)
        fills = [each for each in self.exchange.fills(ask.user) if start_ns < each[1].time_ns <= end_ns]
        page = fills[::-1][offset : offset + _PAGE]
        return {"trades": {f.id: rows.trade_row(o, f, self._places(o)) for o, f in page}, "count": len(fills)}

    def _query_trades(self, ask: _Ask) -> dict[str, Any]:
        names = ask.params.get("txid", "").split(",")
        if len(names) > 20:
            raise TurnedAwayError("EGeneral:Invalid arguments")
        mine = {fill.id: (order, fill) for order, fill in self.exchange.fills(ask.user)}
        return {n: rows.trade_row(*mine[n], self._places(mine[n][0])) for n in names if n in mine}

    @staticmethod
    def _span(ask: _Ask) -> tuple[int, int]:
        start, end = (ask.params.get(name) for name in ("start", "end"))
        return int(float(start or 0) * _S), int(float(end) * _S) if end else 1 << 63

    @staticmethod
    def _offset(ask: _Ask) -> int:
        return int(ask.params.get("ofs", "0"))

    # ---- the account ----------------------------------------------------------------------------------------------

    def _balance(self, ask: _Ask) -> dict[str, Any]:
        return {rows.asset(name)[0]: f"{held.total:.10f}" for name, held in ask.user.balances().items()}

    def _balance_ex(self, ask: _Ask) -> dict[str, Any]:
        return {
            rows.asset(name)[0]: {"balance": f"{held.total:.10f}", "hold_trade": f"{held.locked:.10f}"}
            for name, held in ask.user.balances().items()
        }

    def _trade_volume(self, ask: _Ask) -> dict[str, Any]:
        wanted = ask.params.get("pair")
        told: dict[str, Any] = {"currency": "ZUSD", "volume": "0.0000", "fees": {}, "fees_maker": {}}
        for name in wanted.split(",") if wanted else ():
            listing = self._market(name).listing
            for side, fee in (("fees", listing.taker_fee), ("fees_maker", listing.maker_fee)):
                row = {"fee": f"{fee * 100:.4f}", "minfee": "0.1000", "maxfee": "0.4000", "nextfee": None}
                told[side][rows.pair(listing.symbol)[0]] = row
        return told

    def _token(self, ask: _Ask) -> dict[str, Any]:
        token = base64.b64encode(self._tokens.randbytes(32)).decode()
        self.exchange.directory.issue_token(token, ask.user, self.exchange.time_ns() + _TOKEN_NS)
        return {"token": token, "expires": 900}

    def _key_info(self, ask: _Ask) -> dict[str, Any]:
        ends = "0" if ask.key.expires_ns is None else str(ask.key.expires_ns // _S)
        return {
            "apiKeyName": ask.user.name,
            "apiKey": ask.key.key,
            "nonce": str(ask.key.last_nonce),
            "nonceWindow": 0,
            "permissions": [name for right, names in _RIGHTS.items() if right in ask.key.permissions for name in names],
            "validUntil": ends,
            "queryFrom": "0",
            "queryTo": "0",
            "createdTime": "1700000000",
            "modifiedTime": "1700000000",
            "ipAllowlist": sorted(ask.key.ips),
            "lastUsed": str(self.exchange.time_ns() // _S),
        }

    # ---- connections ----------------------------------------------------------------------------------------------

    async def opened(self, channel: Channel) -> None:
        """Greet."""
        state = {"version": "2.0.10", "system": "online", "api_version": "v2", "connection_id": id(channel)}
        self._frame(channel, {"channel": "status", "type": "update", "data": [state]})

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a request."""
        time_in = rows.stamp(self.exchange.time_ns())
        try:
            request = json.loads(text)
            method, params = request["method"], request.get("params", {})
        except (ValueError, KeyError, TypeError):
            self.reply(channel, {"error": "Malformed request", "success": False, "time_in": time_in})
            return
        answer = {"method": method, "time_in": time_in, "time_out": time_in}
        if "req_id" in request:
            answer["req_id"] = request["req_id"]
        if method == "ping":
            self.reply(channel, {**answer, "method": "pong"})
        elif method in ("subscribe", "unsubscribe"):
            if params.get("channel") in ("executions", "balances"):
                self._private_topic(channel, method, params, answer)
            else:
                for symbol in params.get("symbol", []):
                    self._public_topic(channel, method, symbol, params, answer)
        else:
            self.reply(channel, {**answer, "error": "Unsupported method", "success": False})

    def _public_topic(
        self, channel: Channel, method: str, symbol: str, params: dict[str, Any], answer: dict[str, Any]
    ) -> None:
        kind, market = params.get("channel"), self.exchange.markets.get(symbol)
        depth = params.get("depth", 10) if kind == "book" else None
        interval = params.get("interval", 1) if kind == "ohlc" else None
        wrong = ""
        if kind not in ("trade", "ticker", "book", "ohlc"):
            wrong = f"Unsupported channel {kind}"
        elif market is None or market.trading is Trading.DELISTED:
            wrong = f"Currency pair not supported {symbol}"
        elif (depth and depth not in _DEPTHS) or (interval and interval not in _INTERVALS):
            wrong = "Subscription depth not supported" if depth else "Subscription ohlc interval not supported"
        topic = ":".join(str(part) for part in (kind, symbol, depth or interval) if part)
        if not wrong and method == "subscribe" and topic in channel.topics:
            wrong = "Already subscribed"
        if wrong or market is None:
            self.reply(channel, {**answer, "error": wrong, "success": False, "symbol": symbol})
            return
        result = {name: params[name] for name in ("channel", "depth", "interval", "event_trigger") if name in params}
        self.reply(channel, {**answer, "success": True, "result": {**result, "symbol": symbol}})
        if method == "unsubscribe":
            channel.topics.pop(topic, None)
            return
        channel.topics[topic] = params
        self._greet(channel, str(kind), market, depth or interval or 0, is_wanted=params.get("snapshot"))

    def _greet(self, channel: Channel, kind: str, market: LiveMarket, size: int, is_wanted: bool | None) -> None:
        """Send what a topic begins with; trades alone have none unless asked for."""
        now_ns, places = self.exchange.time_ns(), rows.decimals(market.listing)
        if is_wanted is False or (kind == "trade" and not is_wanted):
            return
        if kind == "trade":
            tape = [self._trade_of(trade) for trade in list(market.tape)[-50:]]
            self._frame(channel, {"channel": "trade", "type": "snapshot", "data": tape})
        elif kind == "ticker":
            self._frame(channel, rows.ticker_frame(market, now_ns, "snapshot"))
        elif kind == "ohlc":
            timeframe = _INTERVALS[size]
            for candle in market.candles(timeframe, 0, now_ns + 1, limit=2, newest=True, fill=True):
                self._frame(channel, rows.ohlc_frame(market.listing.symbol, size, candle, now_ns, "snapshot"))
        else:
            key = (market.listing.symbol, size)
            if key not in self._books or not any(True for _ in self.with_topic(f"book:{key[0]}:{size}")):
                self._books[key] = rows.top(market.book(now_ns), size)
            self._frame(channel, rows.book_frame(None, self._books[key], places))

    def _private_topic(self, channel: Channel, method: str, params: dict[str, Any], answer: dict[str, Any]) -> None:
        name = params["channel"]
        user = self.exchange.directory.token_user(str(params.get("token", "")), self.exchange.time_ns())
        if channel.host != "ws-auth.kraken.com" or user is None:
            self.reply(channel, {**answer, "error": "ESession:Invalid session", "success": False})
            return
        if method == "subscribe" and name in channel.topics:
            self.reply(channel, {**answer, "error": "Already subscribed", "success": False})
            return
        self.reply(channel, {**answer, "success": True, "result": {"channel": name, "snapshot": True}})
        if method == "unsubscribe":
            channel.topics.pop(name, None)
            return
        channel.user = user
        channel.topics[name] = params
        channel.state[name] = 0
        if name == "balances":
            self._tell(channel, name, [self._balance_of(user, each) for each in sorted(user.balances())], "snapshot")
            return
        told: list[dict[str, Any]] = []
        if params.get("snap_orders", True):
            told += [rows.snapshot_order(order) for order in self.exchange.orders(user, is_open=True)]
        if params.get("snap_trades", False):
            told += [rows.execution(order, fill) for order, fill in self.exchange.fills(user)[-50:]]
        self._tell(channel, name, told, "snapshot")

    @staticmethod
    def _balance_of(user: User, currency: str) -> dict[str, Any]:
        held = user.balances()[currency].total
        return {
            "asset": currency,
            "asset_class": "currency",
            "balance": held,
            "wallets": [{"type": "spot", "id": "main", "balance": held}],
        }

    # ---- what streams say -----------------------------------------------------------------------------------------

    def _frame(self, channel: Channel, frame: dict[str, Any] | None) -> None:
        if frame is not None:
            self.send(channel, rows.encode(frame).decode())

    def _tell(self, channel: Channel, name: str, data: list[dict[str, Any]], kind: str = "update") -> None:
        channel.state[name] += 1
        frame = {"channel": name, "type": kind, "data": data, "sequence": channel.state[name]}
        self.send_private(channel, rows.encode(frame).decode())

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams."""
        if update.what is Happened.REJECTED:
            if not _is_post_only(update.reason):
                return  # the answer to the request says it
            update = replace(update, reason="Post only order")
            update.order.reason = "Post only order"
        elif update.what is Happened.CANCELED:
            update.order.reason = "User requested"
        elif update.what is Happened.EXPIRED:
            update.order.reason = "Insufficient liquidity"
        elif update.what is Happened.TRIGGERED:
            update.order.extra["triggered"] = True
        for channel in self.of_user(update.order.user, "executions"):
            for row in rows.told(update):
                self._tell(channel, "executions", [row])

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Tell the user's streams."""
        for channel in self.of_user(user, "balances"):
            for currency in sorted(currencies & user.balances().keys()):
                entry = {"type": "trade", "category": "trade", "wallet_type": "spot", "wallet_id": "main"}
                when = {"timestamp": rows.stamp(self.exchange.time_ns())}
                self._tell(channel, "balances", [{**entry, **when, **self._balance_of(user, currency)}])

    @staticmethod
    def _trade_of(trade: Trade) -> dict[str, Any]:
        return {
            "symbol": trade.instrument.symbol,
            "side": trade.side.value,
            "price": trade.price,
            "qty": trade.quantity,
            "ord_type": "market",
            "trade_id": int(trade.trade_id),
            "timestamp": rows.stamp(trade.time_ns),
        }

    def on_market(self, event: MarketFact) -> None:
        """Tell who has subscribed."""
        symbol = event.instrument.symbol
        market, now_ns = self.exchange.markets[symbol], self.exchange.time_ns()
        self._heartbeat(now_ns)
        match event:
            case Trade():
                for channel in self.with_topic(f"trade:{symbol}"):
                    self._frame(channel, {"channel": "trade", "type": "update", "data": [self._trade_of(event)]})
                self._publish_candles(market, now_ns)
                self._publish_ticker(market, now_ns, "trades")
            case Quote():
                self._publish_ticker(market, now_ns, "bbo")
            case Book():
                self._publish_books(market, event)

    def _heartbeat(self, now_ns: int) -> None:
        for channel in list(self.channels):
            if channel.topics and now_ns - channel.state.get("beat", 0) >= _S:
                channel.state["beat"] = now_ns
                self._frame(channel, {"channel": "heartbeat"})

    def _publish_ticker(self, market: LiveMarket, now_ns: int, trigger: str) -> None:
        topic = f"ticker:{market.listing.symbol}"
        for channel in self.with_topic(topic):
            if channel.topics[topic].get("event_trigger", "trades") == trigger:
                self._frame(channel, rows.ticker_frame(market, now_ns, "update"))

    def _publish_books(self, market: LiveMarket, book: Book) -> None:
        symbol = market.listing.symbol
        for depth in _DEPTHS:
            listeners = list(self.with_topic(f"book:{symbol}:{depth}"))
            if listeners:
                after, before = rows.top(book, depth), self._books.get((symbol, depth))
                self._books[symbol, depth] = after
                frame = rows.book_frame(before, after, rows.decimals(market.listing))
                for channel in listeners:
                    self._frame(channel, frame)

    def _publish_candles(self, market: LiveMarket, now_ns: int) -> None:
        symbol = market.listing.symbol
        for minutes, timeframe in _INTERVALS.items():
            listeners = list(self.with_topic(f"ohlc:{symbol}:{minutes}"))
            if listeners:
                open_ns = bar_open_ns(now_ns, timeframe)
                for candle in market.candles(timeframe, open_ns, now_ns + 1):
                    for channel in listeners:
                        self._frame(channel, rows.ohlc_frame(symbol, minutes, candle, now_ns, "update"))


def _is_post_only(reason: str) -> bool:
    return reason.lower().startswith(("post-only", "post only"))


def _said(reason: str) -> str:
    if reason.startswith("insufficient"):
        return _REFUSED[Why.FUNDS]
    return "EService:Market in cancel_only mode" if reason.startswith("no market") else "EGeneral:Invalid arguments"


def make_exchange(clock: Clock, seed: int = 1, **options: Any) -> Exchange:
    """Make the venue's exchange: its symbols, its fees, its kinds of ids; `options` go to Exchange."""
    least = {"BTC": "0.00005", "ETH": "0.002", "SOL": "0.02"}
    ticks = {"BTC/USD": "0.1", "BTC/USDT": "0.1", "ETH/BTC": "0.00001"}
    chosen = (
        replace(
            each,
            maker_fee=Decimal("0.0025"),
            taker_fee=Decimal("0.004"),
            lot=Decimal("0.00000001"),
            min_quantity=Decimal(least[each.base]),
            min_notional=Decimal("0.00002" if each.quote == "BTC" else "0.5"),
            tick=Decimal(ticks.get(each.symbol, "0.01")),
        )
        for each in listings("BTC/USD", "ETH/USD", "SOL/USD", "BTC/USDT", "ETH/BTC")
    )
    return Exchange(
        "kraken",
        chosen,
        clock,
        seed=seed,
        order_id=lambda number: rows.txid("O", number),
        trade_id=lambda number: rows.txid("T", number),
        **options,
    )


def make_site(exchange: Exchange) -> KrakenSite:
    """Put the dialect over an exchange."""
    return KrakenSite(exchange)


def add_person(exchange: Exchange, name: str = "trader", *, balances: dict[str, str] | None = None) -> ApiKey:
    """Open an account and give its key: 56 characters, and 64 bytes as base64 for a secret."""
    rng = random.Random(f"kraken/{name}")
    key = base64.b64encode(rng.randbytes(42)).decode()
    owned = ApiKey(key, base64.b64encode(rng.randbytes(64)).decode())
    exchange.add_user(name, balances or {"USD": "100000", "BTC": "2", "ETH": "20"}, owned)
    return owned
