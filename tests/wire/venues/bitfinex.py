"""Bitfinex's exchange wallets over the exchange: REST, public channels, and the account's channel 0.

https://docs.bitfinex.com/docs/introduction, rest-auth-submit-order, ws-auth-orders and the pages beside them. Prices
are cut to five significant digits; commissions are in quote currency. There is no test network.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_DOWN, Context, Decimal, InvalidOperation
from email.utils import format_datetime
from typing import Any, ClassVar

from aiohttp import web

from koc_qt.domain.market import Book, Quote, Side, Trade
from koc_qt.domain.orders import OrderStatus, OrderType, TimeInForce
from koc_qt.domain.timeframes import SECOND_NS, bar_open_ns
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import READ, TRADE, WITHDRAW, ApiKey, User
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.listings import Trading, listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, Why, WireFill, WireOrder
from tests.wire.exchange import Exchange
from tests.wire.venues import bitfinex_rows as rows
from tests.wire.venues.bitfinex_gate import Gate, RefusalError

MS = rows.MS
_FIVE_DIGITS = Context(prec=5, rounding=ROUND_DOWN)
_TYPES = {
    "EXCHANGE MARKET": (OrderType.MARKET, TimeInForce.IOC),
    "EXCHANGE LIMIT": (OrderType.LIMIT, TimeInForce.GTC),
    "EXCHANGE STOP": (OrderType.STOP, TimeInForce.GTC),
    "EXCHANGE STOP LIMIT": (OrderType.STOP_LIMIT, TimeInForce.GTC),
    "EXCHANGE IOC": (OrderType.LIMIT, TimeInForce.IOC),
    "EXCHANGE FOK": (OrderType.LIMIT, TimeInForce.FOK),
}
_TIMEFRAMES = {"1m", "5m", "15m", "30m", "1h", "3h", "6h", "12h", "1D"}
_MOST_CHANNELS = 25
_CHECKSUMS = 131_072


@dataclass
class Ask:
    """A signed request, and of whom it was found to be."""

    body: dict[str, Any]
    parts: tuple[str, ...]
    user: User
    key: ApiKey

    def whole(self, name: str, default: int) -> int:
        """Give a whole number."""
        value = self.body.get(name)
        return default if value is None else int(value)

    def amount(self, name: str) -> Decimal | None:
        """Give an amount, which is written as text. Raises RefusalError."""
        text = self.body.get(name)
        if text is None:
            return None
        try:
            return Decimal(text) if isinstance(text, str) else Decimal("NaN")
        except InvalidOperation:
            raise RefusalError(10001, f"Invalid order: {name} is invalid") from None


@dataclass(frozen=True)
class Endpoint:
    """Who answers, and what the key must be allowed."""

    answer: Callable[[Ask], Any]
    needs: str = READ


class BitfinexSite(Dialect):
    """Implements tests.wire.loopback.Site; `gate` has its limits."""

    venue: ClassVar[str] = "bitfinex"
    hosts: Sequence[str] = ("api-pub.bitfinex.com", "api.bitfinex.com")
    beat_ns = 15 * SECOND_NS  # between heartbeats of a channel

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.gate = Gate(exchange)
        self._books: dict[str, Book] = {}
        self._symbols = {f"t{rows.pair(symbol)}": symbol for symbol in exchange.markets}
        self._channel_number = 100
        self.hosts_asked: set[str] = set()
        symbol = r"(t[A-Z0-9:]+)"
        self._public: list[tuple[re.Pattern[str], Callable[..., Any]]] = [
            (re.compile(path), answer)
            for path, answer in (
                (r"/v2/platform/status", self._status),
                (r"/v2/conf/(.+)", self._conf),
                (r"/v2/tickers", self._tickers),
                (rf"/v2/ticker/{symbol}", self._ticker),
                (rf"/v2/book/{symbol}/(P0|R0)", self._book),
                (rf"/v2/trades/{symbol}/hist", self._tape),
                (rf"/v2/candles/trade:(\w+):{symbol}/hist", self._candles),
            )
        ]
        self._private = [
            (re.compile(path), endpoint)
            for path, endpoint in (
                (r"r/wallets", Endpoint(self._wallets)),
                (r"r/orders", Endpoint(self._open_orders)),
                (r"r/orders/hist", Endpoint(self._old_orders)),
                (rf"r/orders/{symbol}", Endpoint(self._open_orders)),
                (rf"r/orders/{symbol}/hist", Endpoint(self._old_orders)),
                (rf"r/order/{symbol}:(\d+)/trades", Endpoint(self._order_trades)),
                (r"r/trades/hist", Endpoint(self._trades)),
                (rf"r/trades/{symbol}/hist", Endpoint(self._trades)),
                (r"r/info/user", Endpoint(self._who)),
                (r"r/permissions", Endpoint(self._permissions)),
                (r"r/summary", Endpoint(self._summary)),
                (r"w/order/submit", Endpoint(self._submit, TRADE)),
                (r"w/order/cancel", Endpoint(self._cancel, TRADE)),
                (r"w/order/update", Endpoint(self._update, TRADE)),
            )
        ]

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        self.hosts_asked.add(call.host)
        try:
            if call.method == "GET":
                self.gate.count(call.ip, call.path, is_order=False)
                for path, answer in self._public:
                    found = path.fullmatch(call.path)
                    if found:
                        return self.json(answer(call, *found.groups()))
            elif call.host == "api.bitfinex.com" and call.path.startswith("/v2/auth/"):
                for path, endpoint in self._private:
                    found = path.fullmatch(call.path.removeprefix("/v2/auth/"))
                    if found:
                        user, key = self.gate.let_in(call, endpoint.needs)
                        self.gate.count(user.name, call.path, is_order=endpoint.needs == TRADE)
                        return self.json(endpoint.answer(Ask(call.json() or {}, found.groups(), user, key)))
        except RefusalError as refusal:
            return self.json(["error", refusal.code, str(refusal)], refusal.status)
        except RefusedError as refused:
            return self.json(["error", 10001 if refused.why is not Why.UNKNOWN_SYMBOL else 10020, _words(refused)], 500)
        return self.json(["error", 10020, "url: invalid"], 404)

    def json(self, data: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
        """Make an answer, dated by the venue's clock."""
        moment = datetime.fromtimestamp(self.exchange.time_ns() // SECOND_NS, UTC)
        return super().json(data, status, {"Date": format_datetime(moment, usegmt=True), **(headers or {})})

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate; the venue names no pause."""
        return self.json(["error", 11010, "ratelimit: error"], 429)

    def maintenance(self, call: Call) -> web.Response:
        """Answer while the venue is down for maintenance."""
        if call.path.endswith("/platform/status"):
            return self.json([0])
        return self.json(["error", 20060, "maintenance"], 503)

    # ---- the market -----------------------------------------------------------------------------------------------

    def _market(self, name: str) -> LiveMarket:
        return self.exchange.market(self._symbols.get(name, ""))

    def _status(self, _: Call) -> list[int]:
        return [1]

    def _conf(self, _: Call, labels: str) -> list[Any]:
        names = sorted({n for m in self.exchange.listed() for n in (m.listing.base, m.listing.quote)})
        known: dict[str, Any] = {
            "pub:info:pair": [rows.pair_row(market) for market in self.exchange.listed()],
            "pub:list:pair:exchange": [rows.pair(market.listing.symbol) for market in self.exchange.listed()],
            "pub:list:pair:margin": [rows.pair(market.listing.symbol) for market in self.exchange.listed()],
            "pub:list:currency": [rows.currency(name) for name in names],
            "pub:map:currency:sym": [["UST", "USDt"]],
        }
        return [known.get(label, []) for label in labels.split(",")]

    def _tickers(self, call: Call) -> list[Any]:
        wanted = call.query.get("symbols", "")
        chosen = list(self._symbols) if wanted == "ALL" else wanted.split(",")
        listed = [name for name in chosen if self._is_listed(name)]
        return [[name, *self._ticker(call, name)] for name in listed]

    def _is_listed(self, name: str) -> bool:
        symbol = self._symbols.get(name)
        return symbol is not None and self.exchange.markets[symbol].trading is not Trading.DELISTED

    def _ticker(self, _: Call, name: str) -> list[Any]:
        market = self._market(name)
        return rows.ticker_row(market, market.quote(self.exchange.time_ns()))

    def _book(self, call: Call, name: str, precision: str) -> list[Any]:
        listed = rows.book_rows(self._market(name).book(self.exchange.time_ns()), int(call.query.get("len", 25)))
        if precision == "P0":
            return listed
        return [[at + 1, price, amount] for at, (price, _, amount) in enumerate(listed)]

    def _tape(self, call: Call, name: str) -> list[Any]:
        tape = [rows.tape_row(trade) for trade in self._market(name).tape]
        return _cut(tape, call.query, 1, 120, 10_000)

    def _candles(self, call: Call, timeframe: str, name: str) -> list[Any]:
        if timeframe not in _TIMEFRAMES:
            raise RefusalError(10020, "time_interval: invalid")
        query, market = call.query, self._market(name)
        since_ns, now_ns = int(query.get("start", 0)) * MS, self.exchange.time_ns()
        until_ns = int(query["end"]) * MS + 1 if "end" in query else now_ns + 1
        limit, newest = min(int(query.get("limit", 100)), 10_000), query.get("sort", "-1") != "1"
        found = market.candles(timeframe.lower(), since_ns, until_ns, limit=limit, newest=newest)
        listed = [rows.candle_row(candle) for candle in found]
        return listed[::-1] if newest else listed

    # ---- orders ---------------------------------------------------------------------------------------------------

    def _notification(self, kind: str, data: Any, text: str) -> list[Any]:
        return [self.exchange.time_ns() // MS, f"{kind}-req", None, None, data, None, "SUCCESS", text]

    @staticmethod
    def _cut_price(value: Decimal | None) -> Decimal | None:
        return None if value is None else _FIVE_DIGITS.plus(value)

    def _submit(self, ask: Ask) -> list[Any]:
        symbol, cid = self._symbols.get(ask.body.get("symbol", "")), ask.body.get("cid")
        kind, amount = ask.body.get("type", ""), ask.amount("amount")
        if symbol is None or not self._is_listed(ask.body["symbol"]):
            raise RefusalError(10020, "symbol: invalid")
        if cid is not None and (isinstance(cid, bool) or not isinstance(cid, int) or not 0 <= cid < 1 << 45):
            raise RefusalError(10020, "cid: invalid")
        if kind not in _TYPES:
            raise RefusalError(10001, "Invalid order: not enough tradable balance")
        if amount is None or not amount.is_finite() or not amount:
            raise RefusalError(10001, "Invalid order: amount is invalid")
        type_, force = _TYPES[kind]
        first, second = (self._cut_price(ask.amount(name)) for name in ("price", "price_aux_limit"))
        is_stop = type_ in (OrderType.STOP, OrderType.STOP_LIMIT)
        order = self.exchange.place(
            ask.user,
            symbol,
            Side.BUY if amount > 0 else Side.SELL,
            type_,
            abs(amount),
            None if type_ is OrderType.MARKET else second if is_stop else first,
            first if is_stop else None,
            time_in_force=force,
            post_only=bool(int(ask.body.get("flags", 0)) & rows.POST_ONLY),
            client_id="" if cid is None else str(cid),
            reject_later=True,
            extra={"cid": cid},
        )
        if order.status is OrderStatus.REJECTED and not _is_post_only(order):
            order.extra["never"] = True
            words = f"for {abs(amount)} {symbol.replace('/', '')} at {order.price or order.symbol}"
            if not order.reason.startswith("insufficient"):
                raise RefusalError(10001, f"Invalid order: {order.reason}")
            raise RefusalError(10001, f"Invalid order: not enough exchange balance {words}")
        return self._notification("on", [rows.order_row(order)], "Submitting 1 orders.")

    def _named(self, ask: Ask) -> WireOrder:
        if "id" in ask.body:
            found = [o for o in self._orders(ask.user) if o.id == str(ask.body["id"])]
        else:
            cid, date = ask.body.get("cid"), ask.body.get("cid_date")
            found = [
                order
                for order in self._orders(ask.user, is_open=True)
                if order.extra.get("cid") == cid and _date(order.created_ns) == date
            ]
        if not found or not found[0].is_open:
            raise RefusalError(10001, "Order not found.")
        return found[0]

    def _cancel(self, ask: Ask) -> list[Any]:
        order = self._named(ask)
        row = rows.order_row(order)  # as it was: the end is told by the stream
        self.exchange.cancel(ask.user, order.id)
        return self._notification("oc", row, f"Submitted for cancellation; waiting for confirmation (ID: {order.id}).")

    def _update(self, ask: Ask) -> list[Any]:
        order, amount, delta = self._named(ask), ask.amount("amount"), ask.amount("delta")
        total = order.quantity
        if amount is not None:
            total = order.filled + abs(amount)  # it is what is to remain
        elif delta is not None:
            total = order.quantity + delta * order.side.sign
        price, limit = (self._cut_price(ask.amount(name)) for name in ("price", "price_aux_limit"))
        if order.stop_price is not None and order.status is OrderStatus.ACCEPTED:
            if price not in (None, order.stop_price):
                raise RefusedError(Why.BAD_AMEND, "another trigger is not simulated")
            price = limit
        self.exchange.amend(ask.user, order.id, total, price)
        return self._notification("ou", rows.order_row(order), "Submitting update to exchange limit order.")

    def _orders(self, user: User, *, is_open: bool | None = None) -> list[WireOrder]:
        """Give the orders that were taken, newest first."""
        return [
            order for order in reversed(self.exchange.orders(user, is_open=is_open)) if not order.extra.get("never")
        ]

    def _chosen(self, ask: Ask, *, is_open: bool) -> list[list[Any]]:
        ids = {str(name) for name in ask.body.get("id", [])}
        wanted = self._symbols.get(ask.parts[0], "") if ask.parts else None
        return [
            rows.order_row(order)
            for order in self._orders(ask.user, is_open=is_open)
            if (not ids or order.id in ids) and wanted in (None, order.symbol)
        ]

    def _open_orders(self, ask: Ask) -> list[Any]:
        return self._chosen(ask, is_open=True)

    def _old_orders(self, ask: Ask) -> list[Any]:
        return _cut(self._chosen(ask, is_open=False)[::-1], ask.body, 5, 25, 2500)

    def _order_trades(self, ask: Ask) -> list[Any]:
        fills = self.exchange.fills(ask.user, self._symbols.get(ask.parts[0], ""))
        return [rows.trade_row(order, fill) for order, fill in fills if order.id == ask.parts[1]]

    def _trades(self, ask: Ask) -> list[Any]:
        symbol = self._symbols.get(ask.parts[0], "") if ask.parts else None
        listed = [rows.trade_row(order, fill) for order, fill in self.exchange.fills(ask.user, symbol)]
        return _cut(listed, ask.body, 2, 25, 2500)

    # ---- the account ----------------------------------------------------------------------------------------------

    def _wallets(self, ask: Ask) -> list[Any]:
        return [rows.wallet_row(ask.user, name) for name in sorted(ask.user.balances())]

    def _who(self, ask: Ask) -> list[Any]:
        return [3_159_883, "trader@example.com", ask.user.name, 1_527_691_729_000, 1, 1]

    def _permissions(self, ask: Ask) -> list[Any]:
        may = {right: int(right in ask.key.permissions) for right in (READ, TRADE, WITHDRAW)}
        scopes = [["account", may[READ], 0], ["orders", may[READ], may[TRADE]], ["wallets", may[READ], 0]]
        return [*scopes, ["history", may[READ], 0], ["withdraw", may[WITHDRAW], may[WITHDRAW]]]

    def _summary(self, _: Ask) -> list[Any]:
        listing = next(iter(self.exchange.markets.values())).listing
        fees = [[*[rows.number(fee)] * 3, None, None, 0.0002] for fee in (listing.maker_fee, listing.taker_fee)]
        return [*[None] * 4, fees, [], [None, {}, 0], None, None, {"leo_lev": 0, "leo_amount_avg": "0"}]

    # ---- connections ----------------------------------------------------------------------------------------------

    async def opened(self, channel: Channel) -> None:
        """Greet."""
        channel.send(json.dumps({"event": "info", "version": 2, "serverId": "sim", "platform": {"status": 1}}))
        channel.state["channels"] = {}

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a request."""
        try:
            request = json.loads(text)
            event = request["event"]
        except (ValueError, KeyError, TypeError):
            self.reply(channel, {"event": "error", "msg": "json: invalid", "code": 10000})
            return
        if event == "ping":
            self.reply(channel, {"event": "pong", "ts": self.exchange.time_ns() // MS, "cid": request.get("cid")})
        elif event == "conf":
            channel.state["flags"] = request.get("flags", 0)
            self.reply(channel, {"event": "conf", "status": "OK", "flags": channel.state["flags"]})
        elif event == "auth" and channel.host == "api.bitfinex.com":
            self._authenticate(channel, request)
        elif event == "subscribe":
            self._subscribe(channel, request)
        elif event == "unsubscribe":
            topic = channel.state["channels"].pop(int(request.get("chanId", 0)), None)
            channel.topics.pop(topic, None)
            self.reply(channel, {"event": "unsubscribed", "status": "OK", "chanId": int(request.get("chanId", 0))})

    def _authenticate(self, channel: Channel, request: dict[str, Any]) -> None:
        failed = {"event": "auth", "status": "FAILED", "chanId": 0}
        if channel.user is not None:
            self.reply(channel, {"event": "error", "msg": "auth: dup", "code": 10101})
            return
        try:
            channel.user, key = self.gate.authenticate(request, channel.ip)
        except RefusalError as refusal:
            self.reply(channel, {**failed, "code": refusal.code, "msg": str(refusal)})
            return
        may = {"orders": {"read": 1, "write": int(TRADE in key.permissions)}}
        self.reply(channel, {"event": "auth", "status": "OK", "chanId": 0, "userId": 3_159_883, "caps": may})
        orders = self._orders(channel.user, is_open=True)
        self.send_private(channel, [0, "os", [rows.order_row(order) for order in orders]])
        self.send_private(
            channel, [0, "ws", [rows.wallet_row(channel.user, n) for n in sorted(channel.user.balances())]]
        )

    def _subscribe(self, channel: Channel, request: dict[str, Any]) -> None:
        kind, name = request.get("channel"), request.get("symbol", "")
        timeframe = ""
        if kind == "candles":
            _, timeframe, name = request.get("key", "::").split(":", 2)
        topic = f"{kind}:{timeframe}:{name}" if timeframe else f"{kind}:{name}"
        same = {
            field: request[field] for field in ("channel", "symbol", "key", "prec", "freq", "len") if field in request
        }
        wrong = (
            ("symbol: invalid", 10300)
            if not self._is_listed(name) or kind not in ("ticker", "trades", "book", "candles")
            else ("subscribe: dup", 10301)
            if topic in channel.topics
            else ("subscribe: limit", 10305)
            if len(channel.topics) >= _MOST_CHANNELS
            else None
        )
        if wrong is not None:
            self.reply(channel, {"event": "error", "msg": wrong[0], "code": wrong[1], **same})
            return
        self._channel_number += 1
        number, channel.topics[topic] = self._channel_number, self._channel_number
        channel.state["channels"][number] = topic
        self.reply(channel, {"event": "subscribed", "chanId": number, "pair": name[1:], **same})
        market, now_ns = self._market(name), self.exchange.time_ns()
        if kind == "trades":
            self.send(channel, [number, [rows.tape_row(trade) for trade in reversed(market.tape)][:30]])
        elif kind == "book":
            book = self._books.setdefault(market.listing.symbol, market.book(now_ns))
            self.send(channel, [number, rows.book_rows(book, 25)])
        elif kind == "ticker":
            self.send(channel, [number, rows.ticker_row(market, market.quote(now_ns))])
        else:
            candles = market.candles(timeframe.lower(), 0, now_ns + 1, limit=120, newest=True)
            self.send(channel, [number, [rows.candle_row(candle) for candle in reversed(candles)]])

    def token_expired(self, channel: Channel) -> None:
        """Ask a stream to connect again, as the venue does before it stops a server."""
        self.send_info(channel, 20051, "Stopping. Please try to reconnect")

    def send_info(self, channel: Channel, code: int, text: str) -> None:
        """Send an info event."""
        channel.send(json.dumps({"event": "info", "code": code, "msg": text}))

    def fault_wrong_book(self) -> int:
        """Say something of books that is not so, then their checksums, which show it; gives how many were told."""
        told = 0
        for symbol, book in self._books.items():
            topic, level = f"book:t{rows.pair(symbol)}", book.bids[-1]
            for channel in self.with_topic(topic):
                wrong = [rows.number(level.price), 1, rows.number(level.quantity * 3 + 1)]
                self.send(channel, [channel.topics[topic], wrong])
                self.send(channel, [channel.topics[topic], "cs", rows.checksum(book)])
                told += 1
        return told

    # ---- what streams say -----------------------------------------------------------------------------------------

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams."""
        order, what = update.order, update.what
        if what is Happened.REJECTED:
            if not _is_post_only(order):
                return  # the answer to the request says it
            kinds = ["on", "oc"]
        elif what is Happened.FILL:
            return  # the executions come first
        elif what is Happened.TRIGGERED:
            order.extra["triggered"] = True
            kinds = ["ou"]
        else:
            kinds = ["on" if what is Happened.NEW else "ou" if what is Happened.AMENDED else "oc"]
        for channel in self.of_user(order.user):
            for kind in kinds:
                row = rows.order_row(order)
                if kind == "on":
                    row[rows.STATUS] = "ACTIVE"
                self.send_private(channel, [0, kind, row])

    def on_fill(self, order: WireOrder, fill: WireFill) -> None:
        """Tell the user's streams: the execution, the order, and the execution with its fee."""
        for channel in self.of_user(order.user):
            self.send_private(channel, [0, "te", rows.trade_row(order, fill, with_fee=False)])
            self.send_private(channel, [0, "ou" if order.is_open else "oc", rows.order_row(order)])
            self.send_private(channel, [0, "tu", rows.trade_row(order, fill)])

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Tell the user's streams."""
        for channel in self.of_user(user):
            for name in sorted(currencies & user.balances().keys()):
                self.send_private(channel, [0, "wu", rows.wallet_row(user, name)])

    def on_market(self, event: MarketFact) -> None:
        """Tell who has subscribed."""
        symbol = event.instrument.symbol
        name, market = f"t{rows.pair(symbol)}", self.exchange.markets[symbol]
        self._beat()
        match event:
            case Trade():
                for channel in self.with_topic(f"trades:{name}"):
                    for kind in ("te", "tu"):
                        self.send(channel, [channel.topics[f"trades:{name}"], kind, rows.tape_row(event)])
                self._publish_candles(market, name)
            case Quote():
                for channel in self.with_topic(f"ticker:{name}"):
                    self.send(channel, [channel.topics[f"ticker:{name}"], rows.ticker_row(market, event)])
            case Book():
                before, self._books[symbol] = self._books.get(symbol, event), event
                for channel in self.with_topic(f"book:{name}"):
                    self._publish_book(channel, channel.topics[f"book:{name}"], before, event)

    def _publish_book(self, channel: Channel, number: int, before: Book, book: Book) -> None:
        for step in rows.book_steps(before, book, 25):
            self.send(channel, [number, step])
        if channel.state.get("flags", 0) & _CHECKSUMS:
            self.send(channel, [number, "cs", rows.checksum(book)])

    def _publish_candles(self, market: LiveMarket, name: str) -> None:
        now_ns = self.exchange.time_ns()
        for channel in self.channels:
            for topic, number in channel.topics.items():
                if topic.startswith("candles:") and topic.endswith(f":{name}"):
                    timeframe = topic.split(":")[1].lower()
                    for candle in market.candles(timeframe, bar_open_ns(now_ns, timeframe), now_ns + 1):
                        self.send(channel, [number, rows.candle_row(candle)])

    def _beat(self) -> None:
        now_ns = self.exchange.time_ns()
        for channel in self.channels:
            if now_ns - channel.state.setdefault("beat", now_ns) >= self.beat_ns:
                channel.state["beat"] = now_ns
                for number in ([0] if channel.user is not None else []) + list(channel.state.get("channels", {})):
                    self.send(channel, [number, "hb"])
                channel.state["beats"] = channel.state.get("beats", 0) + 1


def _is_post_only(order: WireOrder) -> bool:
    return order.reason.startswith("post-only")


def _date(time_ns: int) -> str:
    return f"{datetime.fromtimestamp(time_ns // SECOND_NS, UTC):%Y-%m-%d}"


def _cut(listed: list[Any], query: Any, at: int, default: int, most: int) -> list[Any]:
    """Give the rows between `start` and `end` by their time, which is at a place; the newest first unless asked."""
    start, end = (query.get(name) for name in ("start", "end"))
    first, last = int(start or 0), (1 << 62 if end is None else int(end))
    chosen = [row for row in listed if first <= row[at] <= last]
    limit = min(int(query.get("limit") or default), most)
    return chosen[:limit] if str(query.get("sort", "-1")) == "1" else chosen[::-1][:limit]


def _words(refused: RefusedError) -> str:
    said = {
        Why.UNKNOWN_SYMBOL: "symbol: invalid",
        Why.UNKNOWN_ORDER: "Order not found.",
        Why.NOT_OPEN: "Order not found.",
        Why.CLOSED: "Invalid order: market is not active",
        Why.TOO_SMALL: "Invalid order: minimum size is not reached",
        Why.NOTIONAL: "Invalid order: minimum size is not reached",
        Why.TOO_LARGE: "Invalid order: maximum size is exceeded",
        Why.FUNDS: "Invalid order: not enough exchange balance",
        Why.NO_MARKET: "Invalid order: no market",
    }
    return said.get(refused.why, f"Invalid order: {refused}")


def make_exchange(clock: Clock, seed: int = 1, **options: Any) -> Exchange:
    """Make the venue's exchange: its symbols, its fees; prices of five digits; `options` go to Exchange."""
    ticks = {"BTC": "1", "ETH": "0.1", "SOL": "0.01"}
    least = {"BTC": "0.00006", "ETH": "0.001", "SOL": "0.002"}
    chosen = (
        replace(
            each,
            maker_fee=Decimal("0.001"),
            taker_fee=Decimal("0.002"),
            lot=Decimal("0.00000001"),
            min_quantity=Decimal(least[each.base]),
            max_quantity=Decimal(2000),
            min_notional=Decimal(0),
            tick=Decimal("0.000001" if each.quote == "BTC" else ticks[each.base]),
        )
        for each in listings("BTC/USD", "ETH/USD", "SOL/USD", "BTC/USDT", "ETH/BTC")
    )
    return Exchange("bitfinex", chosen, clock, seed=seed, **{"buyers_pay_in_base": True, **options})


def make_site(exchange: Exchange) -> BitfinexSite:
    """Put the dialect over an exchange."""
    return BitfinexSite(exchange)


def add_person(
    exchange: Exchange, name: str = "trader", *, balances: dict[str, str] | None = None, **options: Any
) -> ApiKey:
    """Open an account and give its key: 43 letters and digits each."""
    rng = random.Random(f"bitfinex/{name}")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    key, secret = ("".join(rng.choices(letters, k=43)) for _ in range(2))
    owned = ApiKey(key, secret)
    funds = balances or {"USD": "100000", "BTC": "2", "ETH": "20", "SOL": "50", "USDT": "5000"}
    exchange.add_user(name, funds, owned, **options)
    return owned
