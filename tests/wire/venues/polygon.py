"""Polygon.io (Massive) over the simulated exchange: REST and WebSocket of stocks and crypto, as its plans allow.

https://massive.com/docs/rest/quickstart and https://massive.com/docs/websocket/quickstart. A person's `plan` (see
PLANS) says how far back and how near to the present data reach, how often may be asked, and what streams. The market
never closes here, but stocks have no daily bars at weekends. Delayed streams carry the present with earlier times.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlencode
from zoneinfo import ZoneInfo

from aiohttp import web

from koc_qt.domain.market import Quote, Side, Trade
from koc_qt.domain.timeframes import DAY_NS, bar_open_ns, duration_ns
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import ApiKey, User
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.history import Candle
from tests.wire.core.listings import Listing, listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange

MS_NS = 1_000_000
MINUTE_NS = 60_000 * MS_NS
NEW_YORK = ZoneInfo("America/New_York")
_SITE = "https://api.massive.com"
_NO_STREAMS = "Your plan doesn't include websocket access. Visit https://massive.com/pricing to upgrade."
_NAMES = {"AAPL": "Apple Inc.", "MSFT": "Microsoft Corp", "SPY": "SPDR S&P 500 ETF Trust"}
_SPANS = {"second": "s", "minute": "m", "hour": "h", "day": "d", "week": "w"}
_PAGES = {"trades": (1_000, 50_000), "quotes": (1_000, 50_000), "tickers": (100, 1_000), "aggs": (5_000, 50_000)}


@dataclass(frozen=True)
class Plan:
    """What a subscription allows; `delay_ns` is how old the newest data are, `feeds` the kinds of stream hosts."""

    years: int
    delay_ns: int = 0
    calls_a_minute: int | None = None
    feeds: tuple[str, ...] = ()
    quotes: bool = False


PLANS = {
    "basic": Plan(2, DAY_NS, 5),
    "starter": Plan(5, 15 * MINUTE_NS, None, ("delayed",)),
    "developer": Plan(10, 15 * MINUTE_NS, None, ("delayed",)),
    "advanced": Plan(20, 0, None, ("socket", "delayed"), quotes=True),
}


class AnswerError(Exception):
    """An answer other than 200, in the venue's own words."""

    def __init__(self, status: int, kind: str, text: str) -> None:
        super().__init__(text)
        self.status, self.kind, self.text = status, kind, text


class PolygonSite(Dialect):
    """Polygon's hosts, under both of its names."""

    venue: ClassVar[str] = "polygon"
    ping_s: ClassVar[float | None] = None  # the vendor's client pings
    hosts: Sequence[str] = tuple(f"{name}.{firm}" for firm in ("massive.com", "polygon.io")
                                 for name in ("api", "socket", "delayed"))  # fmt: skip

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.calls = {name: RateCounter(plan.calls_a_minute or 0, 60.0) for name, plan in PLANS.items()}
        self.most_base_bars = _PAGES["aggs"][1]  # a test may lower it, so that short spans have pages
        self._minutes: dict[str, int] = {}
        self._sequence = 0

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer; errors have a status, a request id and a text."""
        try:
            user = self._person(call)
            body = self._answer(call, user)
        except AnswerError as error:
            said = {"status": error.kind, "request_id": _request_id()}
            said["message" if error.kind == "NOT_AUTHORIZED" else "error"] = error.text
            return self.json(said, error.status)
        return self.json(body)

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Turn away as the free plan does, and say for how long where a test wants that."""
        said = {"status": "ERROR", "request_id": _request_id(), "error": _TOO_MANY}
        return self.json(said, 429, {"Retry-After": f"{retry_after_s:.0f}"} if retry_after_s else None)

    def _person(self, call: Call) -> User:
        word, _, key = call.headers.get("Authorization", "").partition(" ")
        key = key if word == "Bearer" else call.query.get("apiKey", "")
        if not key:
            raise AnswerError(401, "ERROR", "API Key was not provided")
        found = self.exchange.directory.check(key, call.ip, self.exchange.time_ns())
        if not isinstance(found, tuple):
            raise AnswerError(401, "ERROR", "Unknown API Key")
        user = found[0]
        if self._plan(user).calls_a_minute is not None:
            now_ns = self.exchange.time_ns()
            if self.calls[user.extra["plan"]].take(user.name, 1, now_ns):
                raise AnswerError(429, "ERROR", _TOO_MANY)
        return user

    def _plan(self, user: User) -> Plan:
        return PLANS[user.extra["plan"]]

    def _answer(self, call: Call, user: User) -> Any:
        parts = call.path.strip("/").split("/")
        match parts:
            case ["v1", "marketstatus", "now"]:
                return self._status()
            case ["v3", "reference", "tickers"]:
                return self._tickers(call)
            case ["v3", "reference", "tickers", ticker]:
                return _ok({"results": self._ticker(self._market(ticker))})
            case ["v2", "aggs", "ticker", ticker, "range", count, span, since, until]:
                return self._aggs(call, user, ticker, (int(count), span), since, until)
            case ["v2", "aggs", "ticker", ticker, "prev"]:
                return self._previous(ticker)
            case ["v2", "aggs", "grouped", "locale", locale, "market", kind, day]:
                return self._grouped(user, locale, kind, day)
            case ["v2", "last", "trade", ticker]:
                return _ok({"results": self._last_trade(self._fresh(user, ticker))})
            case ["v2", "last", "nbbo", ticker]:
                return _ok({"results": self._last_quote(self._fresh(user, ticker))})
            case ["v3", "trades", ticker]:
                return self._trades(call, self._fresh(user, ticker))
            case ["v3", "quotes", ticker]:
                market = self._fresh(user, ticker)
                return _ok({"results": [_v3_quote(market.quote(market.now_ns))]})
        raise AnswerError(404, "NOT_FOUND", "page not found")

    def _status(self) -> dict[str, Any]:
        now = datetime.fromtimestamp(self.exchange.time_ns() // 1_000_000_000, NEW_YORK)
        return {
            "afterHours": False,
            "currencies": {"crypto": "open", "fx": "open"},
            "earlyHours": False,
            "exchanges": {"nasdaq": "open", "nyse": "open", "otc": "open"},
            "market": "open",
            "serverTime": now.isoformat(timespec="seconds"),
        }

    def _market(self, ticker: str) -> LiveMarket:
        for market in self.exchange.listed():
            if _ticker_of(market.listing) == ticker:
                return market
        raise AnswerError(404, "NOT_FOUND", "Ticker not found.")

    def _fresh(self, user: User, ticker: str) -> LiveMarket:
        """Give the market of one who may see each trade."""
        if self._plan(user).delay_ns:
            raise AnswerError(403, "NOT_AUTHORIZED", "You are not entitled to this data. Please upgrade your plan at "
                              "https://massive.com/pricing")  # fmt: skip
        return self._market(ticker)

    def _ticker(self, market: LiveMarket) -> dict[str, Any]:
        listing = market.listing
        common = {"ticker": _ticker_of(listing), "active": True, "last_updated_utc": "2026-01-02T00:00:00Z"}
        if not listing.stock:
            return {
                **common,
                "name": f"{listing.base} - {listing.quote}",
                "market": "crypto",
                "locale": "global",
                "currency_symbol": listing.quote,
                "currency_name": "United States Dollar",
                "base_currency_symbol": listing.base,
                "base_currency_name": listing.base,
            }
        kind = "ETF" if listing.symbol == "SPY" else "CS"
        name = _NAMES.get(listing.symbol, listing.symbol)
        place = {"market": "stocks", "locale": "us", "primary_exchange": "XNAS", "type": kind, "currency_name": "usd"}
        return {**common, "name": name, **place}

    def _tickers(self, call: Call) -> dict[str, Any]:
        asked = _asked(call)
        limit = _limit(asked, "tickers")
        rows = sorted((self._ticker(market) for market in self.exchange.listed()), key=lambda row: str(row["ticker"]))
        tests: dict[str, Callable[[str, str], bool]] = {
            "ticker": lambda mine, theirs: mine == theirs,
            "ticker.gt": lambda mine, theirs: mine > theirs,
            "ticker.gte": lambda mine, theirs: mine >= theirs,
            "ticker.lt": lambda mine, theirs: mine < theirs,
            "ticker.lte": lambda mine, theirs: mine <= theirs,
        }
        for name, test in tests.items():
            if name in asked:
                rows = [row for row in rows if test(row["ticker"], asked[name])]
        if "market" in asked:
            rows = [row for row in rows if row["market"] == asked["market"]]
        if "search" in asked:
            words = asked["search"].lower()
            rows = [row for row in rows if words in row["ticker"].lower() or words in row["name"].lower()]
        if asked.get("order") == "desc":
            rows.reverse()
        start = int(asked.get("at", "0"))
        page = rows[start : start + limit]
        body = _ok({"results": page, "count": len(page)})
        if start + limit < len(rows):
            body["next_url"] = _next_url("/v3/reference/tickers", {**asked, "at": str(start + limit)})
        return body

    # ---- bars -----------------------------------------------------------------------------------------------------

    def _aggs(
        self, call: Call, user: User, ticker: str, width: tuple[int, str], since: str, until: str
    ) -> dict[str, Any]:
        asked = _asked(call)
        count, span = width
        if span not in _SPANS or count < 1:
            raise AnswerError(400, "ERROR", f"Invalid timespan: {span}")
        zone = UTC if ticker.startswith("X:") else NEW_YORK
        since_ns, until_ns = _moment_ns(since, zone=zone), _moment_ns(until, end=True, zone=zone)
        if since_ns > until_ns:
            raise AnswerError(400, "ERROR", "The parameter 'to' cannot be a time that occurs before 'from'")
        plan, now_ns = self._plan(user), self.exchange.time_ns()
        if since_ns < now_ns - plan.years * 366 * DAY_NS:
            raise AnswerError(403, "NOT_AUTHORIZED", _NO_TIMEFRAME)
        said: dict[str, Any] = {"ticker": ticker, "adjusted": asked.get("adjusted", "true") == "true"}
        market = next((m for m in self.exchange.listed() if _ticker_of(m.listing) == ticker), None)
        rows: list[dict[str, Any]] = []
        next_ns: int | None = None
        if market is not None:
            last_ns = min(until_ns, now_ns - plan.delay_ns)
            rows, next_ns = self._bars(market, (count, span), since_ns, last_ns, _limit(asked, "aggs"))
        if asked.get("sort") == "desc":
            rows.reverse()
        said |= {"queryCount": len(rows), "resultsCount": len(rows), "count": len(rows)}
        said |= {"status": "DELAYED" if plan.delay_ns else "OK", "request_id": _request_id()}
        if rows:  # where there is nothing, the field is missing
            said["results"] = rows
        if next_ns is not None:
            path = f"/v2/aggs/ticker/{ticker}/range/{count}/{span}/{next_ns // MS_NS}/{until}"
            said["next_url"] = _next_url(path, asked)
        return said

    def _bars(
        self, market: LiveMarket, width: tuple[int, str], since_ns: int, until_ns: int, limit: int
    ) -> tuple[list[dict[str, Any]], int | None]:
        """Give bars that open from `since_ns` to `until_ns`, made of `limit` base bars, and where the next page begins.

        Base bars are minutes, or days for what is longer: https://massive.com/blog/aggs-api-updates
        """
        count, span = width
        timeframe = f"{count}{_SPANS[span]}"
        by_days = span in ("day", "week")
        base_ns = DAY_NS if by_days else MINUTE_NS
        limit = min(limit, self.most_base_bars)
        most = max(limit * base_ns // duration_ns(timeframe), 1)
        if by_days and market.listing.stock:
            candles = self._exchange_days(market, since_ns, until_ns)
        else:
            since_ns = bar_open_ns(since_ns, timeframe)
            candles = market.candles(timeframe, since_ns, until_ns + 1, limit=most + 1)
        rows = [_agg(candle) for candle in candles[:most]]
        return rows, candles[most].open_ns if len(candles) > most else None

    def _exchange_days(self, market: LiveMarket, since_ns: int, until_ns: int) -> list[Candle]:
        """Give the weekdays of New York, each from midnight to midnight there."""
        day = datetime.fromtimestamp(since_ns / 1e9, NEW_YORK).date()
        days: list[Candle] = []
        while (open_ns := _midnight_ns(day)) <= until_ns:
            if day.weekday() < 5 and open_ns + DAY_NS > since_ns:
                hours = market.candles("1h", open_ns, _midnight_ns(day + timedelta(1)))
                days += [_joined(open_ns, hours)] if hours else []
            day += timedelta(1)
        return days

    def _previous(self, ticker: str) -> dict[str, Any]:
        market = self._market(ticker)
        open_ns = bar_open_ns(self.exchange.time_ns(), "1d") - DAY_NS
        rows = [{"T": ticker, **_agg(candle)} for candle in market.candles("1d", open_ns, open_ns + 1)]
        return _ok({"ticker": ticker, "queryCount": 1, "resultsCount": len(rows), "adjusted": True, "results": rows})

    def _grouped(self, user: User, locale: str, kind: str, text: str) -> dict[str, Any]:
        if (locale, kind) not in (("us", "stocks"), ("global", "crypto")):
            raise AnswerError(400, "ERROR", f"Invalid market {kind} of {locale}")
        day, now_ns = date.fromisoformat(text), self.exchange.time_ns()
        if self._plan(user).delay_ns >= DAY_NS and day >= datetime.fromtimestamp(now_ns / 1e9, NEW_YORK).date():
            raise AnswerError(403, "NOT_AUTHORIZED", "Attempted to request today's data before end of day. Please "
                              "upgrade your plan at https://massive.com/pricing")  # fmt: skip
        rows: list[dict[str, Any]] = []
        for market in self.exchange.listed():
            if market.listing.stock is not (kind == "stocks"):
                continue
            if kind == "stocks":
                candles = self._exchange_days(market, _midnight_ns(day), _midnight_ns(day))
            else:
                open_ns = _moment_ns(text)
                candles = market.candles("1d", open_ns, open_ns + 1)
            rows += [{"T": _ticker_of(market.listing), **_agg(candle)} for candle in candles]
        body = _ok({"queryCount": len(rows), "resultsCount": len(rows), "count": len(rows), "adjusted": True})
        body["status"] = "DELAYED" if self._plan(user).delay_ns else "OK"
        return {**body, "results": rows} if rows else body

    # ---- trades and quotes ----------------------------------------------------------------------------------------

    def _last_trade(self, market: LiveMarket) -> dict[str, Any]:
        trade = market.tape[-1]
        said = {"T": _ticker_of(market.listing), "p": float(trade.price), "s": float(trade.quantity)}
        return {**said, "t": trade.time_ns, "y": trade.time_ns, "i": trade.trade_id, "x": 4, "q": 1, "z": 3, "c": []}

    def _last_quote(self, market: LiveMarket) -> dict[str, Any]:
        quote = market.quote(market.now_ns)
        sides = {"p": quote.bid, "s": quote.bid_size, "P": quote.ask, "S": quote.ask_size}
        said = {name: float(value) for name, value in sides.items()}
        return {"T": _ticker_of(market.listing), **said, "t": quote.time_ns, "y": quote.time_ns, "x": 4, "X": 7, "q": 1}

    def _trades(self, call: Call, market: LiveMarket) -> dict[str, Any]:
        asked = _asked(call)
        limit = _limit(asked, "trades")
        asked.setdefault("timestamp.lte", str(market.tape[-1].time_ns))  # so that pages join while it trades on
        trades = [trade for trade in market.tape if _within(trade.time_ns, asked)]
        if asked.get("order", "desc") == "desc":
            trades.reverse()
        start = int(asked.get("at", "0"))
        body = _ok({"results": [_v3_trade(trade) for trade in trades[start : start + limit]]})
        if start + limit < len(trades):
            body["next_url"] = _next_url(call.path, {**asked, "at": str(start + limit)})
        return body

    # ---- streams --------------------------------------------------------------------------------------------------

    async def opened(self, channel: Channel) -> None:
        """Greet."""
        channel.state["market"] = channel.path.strip("/")
        channel.state["feed"] = channel.host.partition(".")[0]
        self._say(channel, "connected", "Connected Successfully")

    async def heard(self, channel: Channel, text: str) -> None:
        """Take auth, subscribe and unsubscribe."""
        try:
            asked = json.loads(text)
            action, params = asked["action"], str(asked.get("params", ""))
        except (ValueError, KeyError, TypeError):
            self._say(channel, "error", "invalid message")
            return
        if action == "auth":
            await self._let_in(channel, params)
        elif channel.user is None:
            self._say(channel, "auth_failed", "not authorized")
        elif action in ("subscribe", "unsubscribe"):
            for topic in filter(None, (part.strip() for part in params.split(","))):
                self._subscribe(channel, topic, on=action == "subscribe")
        else:
            self._say(channel, "error", "invalid action")

    async def _let_in(self, channel: Channel, key: str) -> None:
        found = self.exchange.directory.check(key, channel.ip, self.exchange.time_ns())
        if not isinstance(found, tuple):
            await self._turn_away(channel, "auth_failed", "authentication failed")
            return
        user = found[0]
        plan = self._plan(user)
        if not plan.feeds:
            await self._turn_away(channel, "auth_failed", _NO_STREAMS)
        elif channel.state["feed"] not in plan.feeds:
            await self._turn_away(channel, "auth_failed", "authentication failed")
        elif any(each.path == channel.path and each.host == channel.host for each in self.of_user(user)):
            await self._turn_away(channel, "max_connections", _MOST_CONNECTIONS)
        else:
            channel.user = user
            self._say(channel, "auth_success", "authenticated")

    async def _turn_away(self, channel: Channel, status: str, text: str) -> None:
        await channel.socket.send_str(_frame(status, text))
        await channel.socket.close(code=1008 if status == "max_connections" else 1000, drain=False)

    def _subscribe(self, channel: Channel, topic: str, *, on: bool) -> None:
        kind, _, name = topic.partition(".")
        crypto = channel.state["market"] == "crypto"
        if kind not in (("XT", "XQ", "XA") if crypto else ("T", "Q", "A", "AM")) or not name:
            self._say(channel, "error", f"invalid subscription: {topic}")
        elif channel.user is not None and kind == "Q" and not self._plan(channel.user).quotes:
            self._say(channel, "error", f"You are not entitled to {topic}")
        elif on:
            channel.topics[topic] = None
            self._say(channel, "success", f"subscribed to: {topic}")
        else:
            channel.topics.pop(topic, None)
            self._say(channel, "success", f"unsubscribed to: {topic}")

    def _say(self, channel: Channel, status: str, text: str) -> None:
        self.reply(channel, _frame(status, text))

    def on_market(self, event: MarketFact) -> None:
        """Send trades, quotes and, when a minute is over, its bar."""
        if not isinstance(event, Trade | Quote) or not self.channels:
            return
        listing = self.exchange.markets[event.instrument.symbol].listing
        name = listing.symbol if listing.stock else listing.symbol.replace("/", "-")
        kind = ("T" if isinstance(event, Trade) else "Q") if listing.stock else "X" + type(event).__name__[0]
        self._sequence += 1
        self._send(kind, name, lambda ago_ms: _tick(kind, name, event, ago_ms, self._sequence))
        minute = event.time_ns // MINUTE_NS
        before = self._minutes.setdefault(listing.symbol, minute)
        if minute != before:
            self._minutes[listing.symbol] = minute
            self._send_minute(listing, name, before * MINUTE_NS)

    def _send_minute(self, listing: Listing, name: str, open_ns: int) -> None:
        kind, field = ("AM", "sym") if listing.stock else ("XA", "pair")
        for candle in self.exchange.market(listing.symbol).candles("1m", open_ns, open_ns + 1):
            bar = {key: value for key, value in _agg(candle).items() if key in "ohlcv"}
            for_minute = {"ev": kind, field: name, **bar, "s": open_ns // MS_NS, "e": open_ns // MS_NS + 60_000}
            self._send(kind, name, lambda _: for_minute)  # noqa: B023 - called at once

    def _send(self, kind: str, name: str, frame: Callable[[int], dict[str, Any]]) -> None:
        for channel in list(self.channels):
            if channel.user is not None and (f"{kind}.{name}" in channel.topics or f"{kind}.*" in channel.topics):
                ago_ms = 15 * 60_000 if channel.state["feed"] == "delayed" else 0
                self.send(channel, [frame(ago_ms)])


_TOO_MANY = (
    "You've exceeded the maximum requests per minute, please wait or upgrade your subscription to continue. "
    "https://massive.com/pricing"
)
_NO_TIMEFRAME = "Your plan doesn't include this data timeframe. Please upgrade your plan at https://massive.com/pricing"
_MOST_CONNECTIONS = "Maximum number of websocket connections exceeded."


def make_site(exchange: Exchange) -> PolygonSite:
    """Make the dialect of an exchange."""
    return PolygonSite(exchange)


def make_exchange(clock: Clock, seed: int = 1, rate: float = 4.0) -> Exchange:
    """Make the markets: three stocks and three pairs of crypto."""
    some = listings("AAPL", "MSFT", "SPY", "BTC/USD", "ETH/USD", "SOL/USD")
    return Exchange("polygon", some, clock, seed=seed, rate=rate)


def add_person(exchange: Exchange, name: str = "trader", plan: str = "advanced", **options: Any) -> ApiKey:
    """Subscribe somebody to a plan; gives the one key, which has no secret."""
    key = ApiKey(secrets.token_urlsafe(24), "")
    exchange.add_user(name, options.pop("balances", {"USD": "1"}), key, plan=plan, **options)
    return key


def _ticker_of(listing: Listing) -> str:
    return listing.symbol if listing.stock else f"X:{listing.base}{listing.quote}"


def _request_id() -> str:
    return secrets.token_hex(16)


def _ok(body: dict[str, Any]) -> dict[str, Any]:
    return {**body, "status": "OK", "request_id": _request_id()}


def _frame(status: str, text: str) -> str:
    return f'[{{"ev":"status","status":"{status}","message":"{text}"}}]'


def _asked(call: Call) -> dict[str, str]:
    """Give the parameters; those of a page's `next_url` are in its cursor."""
    given = {name: value for name, value in call.query.items() if name not in ("apiKey", "cursor")}
    cursor = call.query.get("cursor", "")
    try:
        hidden = parse_qs(base64.urlsafe_b64decode(cursor).decode()) if cursor else {}
    except ValueError as error:
        raise AnswerError(400, "ERROR", "Invalid cursor") from error
    return {**given, **{name: values[0] for name, values in hidden.items()}}


def _next_url(path: str, asked: dict[str, str]) -> str:
    return f"{_SITE}{path}?cursor={base64.urlsafe_b64encode(urlencode(asked).encode()).decode()}"


def _limit(asked: dict[str, str], what: str) -> int:
    usual, most = _PAGES[what]
    limit = int(asked.get("limit", usual))
    if not 1 <= limit <= most:
        raise AnswerError(400, "ERROR", f"limit must be between 1 and {most}")
    return limit


def _moment_ns(text: str, *, end: bool = False, zone: tzinfo = UTC) -> int:
    """Read a day of a time zone, its start or its end, or milliseconds."""
    if text.lstrip("-").isdigit():
        return int(text) * MS_NS
    try:
        day = datetime.fromisoformat(text).replace(tzinfo=zone)
    except ValueError as error:
        raise AnswerError(400, "ERROR", f"Could not parse the time parameter: '{text}'") from error
    return int(day.timestamp()) * 1_000_000_000 + (DAY_NS - 1 if end else 0)


def _midnight_ns(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).timestamp()) * 1_000_000_000


def _within(time_ns: int, asked: dict[str, str]) -> bool:
    bounds: Iterable[tuple[str, Callable[[int, int], bool]]] = (
        ("timestamp.gte", lambda mine, bound: mine >= bound),
        ("timestamp.gt", lambda mine, bound: mine > bound),
        ("timestamp.lte", lambda mine, bound: mine <= bound),
        ("timestamp.lt", lambda mine, bound: mine < bound),
    )
    return all(test(time_ns, int(asked[name])) for name, test in bounds if name in asked)


def _agg(candle: Candle) -> dict[str, Any]:
    prices = {"o": candle.open, "h": candle.high, "l": candle.low, "c": candle.close}
    middle = float((candle.high + candle.low) / 2)
    said = {"v": float(candle.volume), "vw": middle, **{name: float(price) for name, price in prices.items()}}
    return {**said, "t": candle.open_ns // MS_NS, "n": candle.trades}


def _joined(open_ns: int, parts: Sequence[Candle]) -> Candle:
    return Candle(
        open_ns,
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        sum((part.volume for part in parts), Decimal(0)),
        sum(part.trades for part in parts),
    )


def _v3_trade(trade: Trade) -> dict[str, Any]:
    said = {"id": trade.trade_id, "price": float(trade.price), "size": float(trade.quantity), "exchange": 4}
    times = {"participant_timestamp": trade.time_ns, "sip_timestamp": trade.time_ns, "sequence_number": 1, "tape": 3}
    return {**said, **times, "conditions": []}


def _v3_quote(quote: Quote) -> dict[str, Any]:
    bid = {"bid_price": float(quote.bid), "bid_size": float(quote.bid_size), "bid_exchange": 4}
    ask = {"ask_price": float(quote.ask), "ask_size": float(quote.ask_size), "ask_exchange": 7}
    return {**bid, **ask, "sip_timestamp": quote.time_ns, "participant_timestamp": quote.time_ns, "sequence_number": 1}


def _tick(kind: str, name: str, event: Trade | Quote, ago_ms: int, sequence: int) -> dict[str, Any]:
    """Write a trade or quote; shares that are not whole are in `ds`, which is text."""
    time_ms = event.time_ns // MS_NS - ago_ms
    crypto = kind.startswith("X")
    head: dict[str, Any] = {"ev": kind, "pair" if crypto else "sym": name}
    tail = {"x": 1, "t": time_ms, "r": time_ms} if crypto else {"t": time_ms, "q": sequence, "z": 3}
    if isinstance(event, Quote):
        prices = {"bp": float(event.bid), "bs": float(event.bid_size)}
        prices |= {"ap": float(event.ask), "as": float(event.ask_size)}
        return {**head, **prices, **tail} if crypto else {**head, "bx": 4, "ax": 7, **prices, "c": 1, "i": [], **tail}
    said = {**head, "i": event.trade_id, "p": float(event.price), "s": float(event.quantity)}
    if crypto:
        return {**said, "c": [2 if event.side is Side.BUY else 1], **tail}
    return {**said, "s": int(event.quantity), "ds": f"{event.quantity:f}", "x": 4, "c": [37], **tail}
