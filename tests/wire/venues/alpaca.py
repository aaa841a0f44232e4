"""Alpaca over the exchange: trading and market data by REST, both data streams, and the stream of trade updates.

https://docs.alpaca.markets/reference and /docs/websocket-streaming. Live and paper trading are one exchange here, but
keys are good for one of them alone; market data takes both kinds. A stock's market that is closed takes orders, which
wait for it to open.
"""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any, ClassVar

import msgpack  # type: ignore[import-untyped]
from aiohttp import web

from koc_qt.domain.market import Book, Quote, Trade
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import READ, TRADE, ApiKey, KeyProblem, User
from tests.wire.core.dialect import Call, Channel, compact
from tests.wire.core.listings import Trading, listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.orders import RefusedError, Why
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange
from tests.wire.venues.alpaca_orders import AlpacaOrders, RefusalError
from tests.wire.venues.alpaca_rows import (
    DATA,
    LIVE,
    PAPER,
    STREAM,
    activity_row,
    asset_class,
    asset_row,
    bar_row,
    packed,
    position_row,
    quote_row,
    read_ns,
    stamp,
    text,
    trade_row,
    uuid_of,
)

PER_MINUTE = 200
CHANNELS = 30  # symbols of trades and quotes that the free plan streams
_UNITS = {"Min": "m", "T": "m", "Hour": "h", "H": "h", "Day": "d", "D": "d"}
_DAY_OPENS_NS = 5 * 3_600 * SECOND_NS  # midnight in New York, in winter
_REFUSED = {
    Why.UNKNOWN_SYMBOL: (422, 42210000, "asset not found"),
    Why.TICK: (422, 42210000, "invalid limit_price. sub-penny increment does not fulfill minimum pricing criteria"),
    Why.LOT: (422, 42210000, "qty precision is invalid"),
    Why.TOO_SMALL: (403, 40310000, "cost basis must be >= minimal amount of order 1"),
    Why.TOO_LARGE: (422, 42210000, "qty is too large"),
    Why.NOTIONAL: (403, 40310000, "cost basis must be >= minimal amount of order 1"),
    Why.DUPLICATE: (422, 40010001, "client_order_id must be unique"),
    Why.CLOSED: (422, 42210000, "market is closed"),
    Why.BAD_AMEND: (422, 42210000, "order parameters are not changed"),
}


class AlpacaSite(AlpacaOrders):
    """Implements tests.wire.loopback.Site; `limits` counts requests of each account a minute."""

    venue: ClassVar[str] = "alpaca"
    hosts: Sequence[str] = (LIVE, PAPER, DATA, STREAM)

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.limits = RateCounter(PER_MINUTE, 60.0)
        self._routes: dict[str, Callable[[Call, User], Any]] = {
            "GET /v2/account": lambda _, user: self._account(user),
            "GET /v2/account/configurations": lambda _, user: {
                "dtbp_check": "entry",
                "fractional_trading": True,
                "max_margin_multiplier": "1",
                "no_shorting": not user.extra.get("allow_short"),
                "suspend_trade": False,
                "trade_confirm_email": "all",
                "ptp_no_exception_entry": False,
            },
            "GET /v2/account/activities": self._activities,
            "GET /v2/account/activities/FILL": self._activities,
            "GET /v2/assets": self._assets,
            "GET /v2/clock": lambda _, __: self._clock(),
            "GET /v2/calendar": lambda call, __: self._calendar(call),
            "GET /v2/positions": lambda _, user: self._positions(user),
            "GET /v2/orders": self._list,
            "POST /v2/orders": self._post,
            "GET /v2/orders:by_client_order_id": self._by_client_id,
            "GET /v2/stocks/bars": self._bars,
            "GET /v2/stocks/trades": self._trades,
            "GET /v2/stocks/quotes": self._quotes,
            "GET /v2/stocks/trades/latest": self._latest,
            "GET /v2/stocks/quotes/latest": self._latest,
            "GET /v2/stocks/bars/latest": self._latest,
            "GET /v1beta3/crypto/us/bars": self._bars,
            "GET /v1beta3/crypto/us/trades": self._trades,
            "GET /v1beta3/crypto/us/latest/bars": self._latest,
            "GET /v1beta3/crypto/us/latest/quotes": self._latest,
            "GET /v1beta3/crypto/us/latest/trades": self._latest,
        }

    # ---- REST ----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request."""
        headers: dict[str, str] = {}
        try:
            user = self._let_in(call, headers)
            answer = self._answer(call, user)
        except RefusalError as refusal:
            code = {"code": refusal.code} if refusal.code else {}
            return self.json({**code, "message": refusal.message}, refusal.status, headers)
        except RefusedError as refused:
            status, code_, message = self._words(refused)
            return self.json({"code": code_, "message": message}, status, headers)
        if answer is None:
            return web.Response(status=204, headers=headers)
        return self.json(answer, headers=headers)

    def _words(self, refused: RefusedError) -> tuple[int, int, str]:
        if refused.why is Why.FUNDS:
            return 403, 40310000, f"insufficient buying power ({refused})"
        if refused.why in (Why.UNKNOWN_ORDER, Why.NOT_OPEN):
            return 404, 40410000, "order not found"
        return _REFUSED.get(refused.why, (422, 42210000, str(refused)))

    def _let_in(self, call: Call, headers: dict[str, str]) -> User:
        key, secret = call.headers.get("APCA-API-KEY-ID", ""), call.headers.get("APCA-API-SECRET-KEY", "")
        is_data = call.host == DATA
        user = self._owner(key, secret, call.ip, call.host)
        if isinstance(user, KeyProblem):
            forbidden = user is KeyProblem.IP or is_data
            raise RefusalError(403 if forbidden else 401, 0, "forbidden." if forbidden else "unauthorized.")
        now_ns = self.exchange.time_ns()
        wait_s = self.limits.take(f"{user.name}/{is_data}", 1, now_ns)
        headers |= self._rate_headers(f"{user.name}/{is_data}")
        if wait_s:
            raise RefusalError(429, 42910000, "rate limit exceeded")
        return user

    def _owner(self, key: str, secret: str, ip: str, host: str) -> User | KeyProblem:
        found = self.exchange.directory.check(key, ip, self.exchange.time_ns(), READ)
        if isinstance(found, KeyProblem):
            return found
        user, owned = found
        wrong_side = host in (LIVE, PAPER) and user.extra.get("test_network", False) is not (host == PAPER)
        return KeyProblem.UNKNOWN if owned.secret != secret or wrong_side else user

    def _rate_headers(self, who: str, reset_s: float | None = None) -> dict[str, str]:
        now_ns = self.exchange.time_ns()
        end_s = now_ns / SECOND_NS + reset_s if reset_s is not None else (now_ns // (60 * SECOND_NS) + 1) * 60
        left = 0 if reset_s is not None else self.limits.left(who, now_ns)
        return {
            "X-RateLimit-Limit": f"{self.limits.limit:.0f}",
            "X-RateLimit-Remaining": f"{left:.0f}",
            "X-RateLimit-Reset": f"{end_s:.0f}",
        }

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn a request away for its rate."""
        headers = self._rate_headers("", max(retry_after_s, 1.0))
        return self.json({"code": 42910000, "message": "rate limit exceeded"}, 429, headers)

    def _answer(self, call: Call, user: User) -> Any:
        route = self._routes.get(f"{call.method} {call.path}")
        if route is not None:
            return route(call, user)
        head, _, name = call.path.rpartition("/")
        if head == "/v2/orders":
            return self._one(call, user, name)
        if call.path.startswith("/v2/assets/"):
            return self._asset(call.path.removeprefix("/v2/assets/"))
        raise RefusalError(404, 40410000, "endpoint not found")

    # ---- the account ---------------------------------------------------------------------------------------------

    def _account(self, user: User) -> dict[str, Any]:
        cash = user.balances().get("USD")
        total, locked = (cash.total, cash.locked) if cash else (Decimal(0), Decimal(0))
        worth = sum((each.total * self._worth(name) for name, each in user.balances().items()), Decimal(0))
        blocked = not any(TRADE in key.permissions for key in user.keys)
        return {
            "id": uuid_of("account", user.name),
            "account_number": "PA3XYZ" if user.extra.get("test_network") else "123456789",
            "status": "ACTIVE",
            "crypto_status": "ACTIVE",
            "currency": "USD",
            "buying_power": text(total - locked),
            "regt_buying_power": text(total - locked),
            "daytrading_buying_power": "0",
            "non_marginable_buying_power": text(total - locked),
            "cash": text(total),
            "equity": text(worth),
            "portfolio_value": text(worth),
            "pattern_day_trader": False,
            "trading_blocked": False,
            "transfers_blocked": False,
            "account_blocked": False,
            "trade_suspended_by_user": blocked,
            "shorting_enabled": bool(user.extra.get("allow_short")),
            "multiplier": "1",
            "daytrade_count": 0,
            "created_at": "2024-01-02T15:00:00Z",
        }

    def _worth(self, currency: str) -> Decimal:
        markets = self.exchange.markets.values()
        return next((m.last for m in markets if m.listing.base == currency), Decimal(1))

    def _positions(self, user: User) -> list[dict[str, Any]]:
        rows = []
        for market in self.exchange.markets.values():
            held = user.balances().get(market.listing.base)
            if held is not None and held.total:
                entry = self.exchange.position(user, market.listing.symbol)[1] or market.listing.price
                rows.append(position_row(market.listing, held.total, held.locked, entry, market.last))
        return rows

    def _activities(self, call: Call, user: User) -> list[dict[str, Any]]:
        query = call.query
        after, until = (read_ns(query[name]) if query.get(name) else None for name in ("after", "until"))
        rows = []
        for ticket in [each for each in self._tickets.values() if each.user is user]:
            total = Decimal(0)
            for fill in ticket.fills:
                total += fill.quantity
                if (after is None or fill.time_ns > after) and (until is None or fill.time_ns <= until):
                    row = activity_row(ticket, fill, total, self._market(ticket.symbol).listing)
                    rows.append((fill.time_ns, row))
        rows.sort(key=lambda each: each[0], reverse=query.get("direction", "desc") == "desc")
        listed = [row for _, row in rows]
        token = query.get("page_token")
        if token:
            places = [at for at, row in enumerate(listed) if row["id"] == token]
            listed = listed[places[0] + 1 :] if places else []
        return listed[: min(int(query.get("page_size", 100)), 100)]

    def _clock(self) -> dict[str, Any]:
        now_ns = self.exchange.time_ns()
        is_open = all(m.trading is Trading.OPEN for m in self.exchange.listed() if m.listing.stock)
        new_york = (stamp(now_ns - 5 * 3_600 * SECOND_NS) or "").replace("Z", "-05:00")
        soon = {"next_open": stamp(now_ns + DAY_NS // 2), "next_close": stamp(now_ns + DAY_NS // 4)}
        return {"timestamp": new_york, "is_open": is_open, **soon}

    def _calendar(self, call: Call) -> list[dict[str, Any]]:
        now_ns = self.exchange.time_ns()
        first, last = (read_ns(call.query[name]) if name in call.query else now_ns for name in ("start", "end"))
        days = range(first - first % DAY_NS, last + 1, DAY_NS)
        hours = {"open": "09:30", "close": "16:00", "session_open": "0400", "session_close": "2000"}
        weekdays = [day for day in days if (day // DAY_NS + 3) % 7 < 5]
        return [{"date": (stamp(day) or "")[:10], **hours} for day in weekdays]

    # ---- assets --------------------------------------------------------------------------------------------------

    def _assets(self, call: Call, user: User) -> list[dict[str, Any]]:
        rows = [self._asset_row(market) for market in self.exchange.markets.values()]
        wanted = {"class": call.query.get("asset_class", "us_equity"), "status": call.query.get("status")}
        return [row for row in rows if all(value in (None, row[name]) for name, value in wanted.items())]

    def _asset(self, symbol: str) -> dict[str, Any]:
        market = self.exchange.markets.get(symbol)
        if market is None:
            raise RefusalError(404, 40410000, f"asset not found for {symbol}")
        return self._asset_row(market)

    def _asset_row(self, market: LiveMarket) -> dict[str, Any]:
        return asset_row(market.listing, market.trading, market.listing.symbol not in self.whole_shares)

    # ---- market data ---------------------------------------------------------------------------------------------

    def _asked(self, call: Call) -> list[LiveMarket]:
        markets = []
        for symbol in call.query.get("symbols", "").split(","):
            market = self.exchange.markets.get(symbol)
            if not symbol or (market is not None and market.listing.stock is not call.path.startswith("/v2")):
                raise RefusalError(400, 0, f"invalid symbol: {symbol}")
            if market is not None:
                markets.append(market)
        if call.query.get("feed") == "sip":
            raise RefusalError(403, 0, "subscription does not permit querying recent SIP data")
        return markets

    def _span(self, call: Call) -> tuple[int, int, int]:
        now_ns = self.exchange.time_ns()
        start = read_ns(call.query["start"]) if "start" in call.query else now_ns - now_ns % DAY_NS
        end = read_ns(call.query["end"]) if "end" in call.query else now_ns
        token = call.query.get("page_token")
        if token:
            start = int(base64.urlsafe_b64decode(token))
        return start, min(end, now_ns) + 1, min(int(call.query.get("limit", 1000)), 10_000)

    def _paged(
        self, call: Call, what: str, found: dict[str, list[tuple[int, dict[str, Any]]]], limit: int
    ) -> dict[str, Any]:
        """Give one page of rows with their times; the token says where the next begins (of one symbol alone)."""
        token = None
        for symbol, rows in found.items():
            if len(rows) > limit:
                token = base64.urlsafe_b64encode(str(rows[limit][0]).encode()).decode()
                found[symbol] = rows[:limit]
        return {
            what: {symbol: [row for _, row in rows] for symbol, rows in found.items() if rows},
            "next_page_token": token,
        }

    def _bars(self, call: Call, _: User) -> dict[str, Any]:
        start, until, limit = self._span(call)
        name = call.query.get("timeframe", "")
        unit = next((u for u in _UNITS if name.endswith(u) and name.removesuffix(u).isdigit()), None)
        if unit is None:
            raise RefusalError(400, 0, f"invalid timeframe: {name}")
        timeframe = f"{name.removesuffix(unit)}{_UNITS[unit]}"
        shift_ns = _DAY_OPENS_NS if unit in ("Day", "D") else 0
        found = {}
        for market in self._asked(call):
            candles = market.candles(timeframe, start - shift_ns, until - shift_ns, limit=limit + 1)
            found[market.listing.symbol] = [
                (candle.open_ns + shift_ns, bar_row(candle, candle.open_ns + shift_ns)) for candle in candles
            ]
        return self._paged(call, "bars", found, limit)

    def _trades(self, call: Call, _: User) -> dict[str, Any]:
        start, until, limit = self._span(call)
        found = {
            market.listing.symbol: [
                (trade.time_ns, {"t": stamp(trade.time_ns), **trade_row(trade, stock=market.listing.stock)})
                for trade in market.tape
                if start <= trade.time_ns < until
            ]
            for market in self._asked(call)
        }
        return self._paged(call, "trades", found, limit)

    def _quotes(self, call: Call, _: User) -> dict[str, Any]:
        now_ns = self.exchange.time_ns()
        found = {
            market.listing.symbol: [
                (now_ns, {"t": stamp(now_ns), **quote_row(market.quote(now_ns), stock=market.listing.stock)})
            ]
            for market in self._asked(call)
        }
        return self._paged(call, "quotes", found, 1)

    def _latest(self, call: Call, _: User) -> dict[str, Any]:
        now_ns = self.exchange.time_ns()
        rows: dict[str, dict[str, Any]] = {"trades": {}, "quotes": {}, "bars": {}}
        for market in self._asked(call):
            symbol, stock = market.listing.symbol, market.listing.stock
            last, quote = market.tape[-1], market.quote(now_ns)
            rows["trades"][symbol] = {"t": stamp(last.time_ns), **trade_row(last, stock=stock)}
            rows["quotes"][symbol] = {"t": stamp(now_ns), **quote_row(quote, stock=stock)}
            candle = market.candles("1m", 0, now_ns, limit=1, newest=True)[-1]
            rows["bars"][symbol] = bar_row(candle, candle.open_ns)
        what = next(name for name in rows if name in call.path)
        return {what: rows[what]}

    # ---- connections ---------------------------------------------------------------------------------------------

    def decoded(self, data: bytes) -> str:
        """Give a binary frame as text; data streams speak MessagePack."""
        return compact(msgpack.unpackb(data))

    async def opened(self, channel: Channel) -> None:
        """Greet a client of a data stream."""
        if channel.host == STREAM:
            self._say(channel, {"T": "success", "msg": "connected"})

    def _say(self, channel: Channel, *messages: dict[str, Any]) -> None:
        self.reply(channel, packed(list(messages), _is_binary(channel)))

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a request on a stream."""
        try:
            request = json.loads(text)
            action = request["action"]
        except (ValueError, KeyError, TypeError):
            return self._say(channel, {"T": "error", "code": 400, "msg": "invalid syntax"})
        if channel.host != STREAM:
            return self._heard_trading(channel, action, request.get("data") or request)
        if action == "auth":
            return self._authenticate(channel, request)
        if channel.user is None and "streamer" not in channel.state:
            return self._say(channel, {"T": "error", "code": 401, "msg": "not authenticated"})
        wanted = {f"{kind}:{each}" for kind in ("trades", "quotes", "bars") for each in request.get(kind, ())}
        if action == "subscribe":
            both = {topic for topic in wanted | channel.topics.keys() if not topic.startswith("bars")}
            if len(both) > CHANNELS:
                return self._say(channel, {"T": "error", "code": 405, "msg": "symbol limit exceeded"})
            channel.topics.update(dict.fromkeys(sorted(wanted), True))
        elif action == "unsubscribe":
            for topic in wanted:
                channel.topics.pop(topic, None)
        kinds = ("trades", "quotes", "bars", "updatedBars", "dailyBars", "statuses", "lulds", "corrections")
        listed = {kind: [t.partition(":")[2] for t in channel.topics if t.startswith(f"{kind}:")] for kind in kinds}
        return self._say(channel, {"T": "subscription", **listed})

    def _authenticate(self, channel: Channel, request: Mapping[str, Any]) -> None:
        user = self._owner(request.get("key", ""), request.get("secret", ""), channel.ip, channel.host)
        if isinstance(user, KeyProblem):
            return self._say(channel, {"T": "error", "code": 402, "msg": "auth failed"})
        if channel.path.endswith("/sip"):
            return self._say(channel, {"T": "error", "code": 409, "msg": "insufficient subscription"})
        same = [c for c in self.channels if c.path == channel.path and c.state.get("streamer") is user]
        if same:
            return self._say(channel, {"T": "error", "code": 406, "msg": "connection limit exceeded"})
        channel.state["streamer"] = user  # not `user`: what it hears is public
        return self._say(channel, {"T": "success", "msg": "authenticated"})

    def _heard_trading(self, channel: Channel, action: str, data: Mapping[str, Any]) -> None:
        if action in ("authenticate", "auth"):
            key, secret = data.get("key_id") or data.get("key", ""), data.get("secret_key") or data.get("secret", "")
            user = self._owner(str(key), str(secret), channel.ip, channel.host)
            ok = not isinstance(user, KeyProblem)
            channel.user = user if isinstance(user, User) else None
            answer = {"status": "authorized" if ok else "unauthorized", "action": "authenticate"}
            return self._told(channel, {"stream": "authorization", "data": answer})
        if action == "listen" and channel.user is not None:
            names = [name for name in data.get("streams", ()) if name == "trade_updates"]
            channel.topics = dict.fromkeys(names, True)
            return self._told(channel, {"stream": "listening", "data": {"streams": names}})
        return self._told(channel, {"stream": "listening", "data": {"error": "your connection is not authenticated"}})

    def _told(self, channel: Channel, data: dict[str, Any]) -> None:
        self.reply(channel, compact(data).encode() if channel.host == PAPER else data)

    def on_market(self, event: MarketFact) -> None:
        """Tell who has subscribed."""
        if isinstance(event, Book):
            return
        symbol, kind = event.instrument.symbol, "trades" if isinstance(event, Trade) else "quotes"
        channels = list(self.with_topic(f"{kind}:{symbol}"))
        if not channels:
            return
        stock = self.exchange.markets[symbol].listing.stock
        row = trade_row(event, stock=stock) if isinstance(event, Trade) else quote_row(event, stock=stock)
        head = {"T": "q" if isinstance(event, Quote) else "t", "S": symbol, "t": stamp(event.time_ns)}
        for channel in channels:
            if (channel.path.startswith("/v2")) is stock:
                self.send(channel, packed([{**head, **row}], _is_binary(channel)))


def _is_binary(channel: Channel) -> bool:
    return channel.headers.get("Content-Type", "") == "application/msgpack"


def make_exchange(clock: Clock, seed: int = 1, **options: Any) -> Exchange:
    """Make the venue's exchange: its symbols, its fees; `options` go to Exchange."""
    maker, taker = Decimal("0.0015"), Decimal("0.0025")
    # Alpaca wants an order to be worth a dollar; less here, so that small ones of the common tests pass
    bitcoin = replace(listings("BTC/USD")[0], maker_fee=maker, taker_fee=taker, min_notional=Decimal("0.1"))
    chosen = (*listings("AAPL", "SPY"), bitcoin)
    ids = {"order_id": lambda number: uuid_of("core", number), "trade_id": lambda number: uuid_of("fill", number)}
    return Exchange("alpaca", chosen, clock, seed=seed, **{**ids, **options})


def make_site(exchange: Exchange) -> AlpacaSite:
    """Put the dialect over an exchange."""
    return AlpacaSite(exchange)


def add_person(
    exchange: Exchange,
    name: str = "trader",
    *,
    test_network: bool = False,
    balances: dict[str, str] | None = None,
    allow_short: bool = False,
) -> ApiKey:
    """Open an account for live trading, or for Alpaca's own paper trading, and give its key."""
    rng = random.Random(f"alpaca/{name}/{test_network}")
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    key = ("PK" if test_network else "AK") + "".join(rng.choices(letters, k=18))
    secret = "".join(rng.choices(letters + letters.lower(), k=40))
    owned = ApiKey(key, secret)
    funds = balances or {"USD": "100000", "AAPL": "200", "BTC": "2"}
    exchange.add_user(name, funds, owned, allow_short=allow_short, test_network=test_network)
    return owned


__all__ = ["DATA", "LIVE", "PAPER", "STREAM", "AlpacaSite", "add_person", "asset_class", "make_exchange", "make_site"]
