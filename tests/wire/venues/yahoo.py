"""Yahoo Finance over the simulated exchange, as yfinance knows it: there is no document, and there are no keys.

Charts with the exchange's time zone, rows of null and a last row that has just begun; cookies and crumbs; search and
quotes; the consent page; and the stream of protobuf messages. Stocks have bars of weekdays from 9:30 to 16:00 in New
York, but trade on the stream all the time. Sizes of stocks are whole; volumes of crypto are in its quote currency.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

from aiohttp import web
from yfinance.pricing_pb2 import PricingData  # type: ignore[import-untyped]

from koc_qt.domain.market import Quote, Trade
from koc_qt.domain.timeframes import bar_open_ns, duration_ns
from koc_qt.ports.clock import Clock
from tests.wire.core.accounts import ApiKey
from tests.wire.core.dialect import Call, Channel, Dialect
from tests.wire.core.history import Candle
from tests.wire.core.listings import Listing, listings
from tests.wire.core.market import LiveMarket, MarketFact
from tests.wire.exchange import Exchange

S_NS = 1_000_000_000
DAY_S = 86_400
NEW_YORK = ZoneInfo("America/New_York")
_INTERVALS = {"1m": "1m", "2m": "2m", "5m": "5m", "15m": "15m", "30m": "30m", "60m": "1h", "1h": "1h", "1d": "1d"}
_RANGES = {"1d": 1, "5d": 7, "1mo": 31, "3mo": 92, "6mo": 183, "1y": 366, "2y": 731, "5y": 1827, "10y": 3653}
_REACH_DAYS = {"1m": 30, "2m": 60, "5m": 60, "15m": 60, "30m": 60, "60m": 730, "1h": 730}
_MOST_MINUTE_DAYS = 8
_NULL_EVERY = 61  # rows; Yahoo has rows of null where nothing was traded
_NAMES = {"AAPL": "Apple Inc.", "MSFT": "Microsoft Corporation", "SPY": "SPDR S&P 500 ETF Trust"}
_CONSENT = "/v2/collectConsent"
_CONSENT_PAGE = (
    '<!DOCTYPE html><html><body><form method="post" action="{action}">'
    '<input name="csrfToken" value="t0ken"/><input name="sessionId" value="{session}"/>'
    '<input name="originalDoneUrl" value="{done}"/><button name="agree" value="agree">Accept all</button>'
    "</form></body></html>"
)


class YahooSite(Dialect):
    """Yahoo's hosts."""

    venue: ClassVar[str] = "yahoo"
    hosts: Sequence[str] = tuple(
        f"{name}.yahoo.com"
        for name in ("query1.finance", "query2.finance", "fc", "guce", "consent", "finance", "streamer.finance")
    )

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.crumbs: dict[str, str] = {}  # by cookie
        self.asks_consent = False
        self._volumes: dict[str, Decimal] = {}
        self._late_min: dict[str, int] = {}

    # ---- faults of its own ------------------------------------------------------------------------------------------

    def fault_forget_crumbs(self) -> None:
        """Let every cookie and crumb be worth nothing."""
        self.crumbs.clear()

    def fault_delayed(self, symbol: str, minutes: int = 15) -> None:
        """Let a symbol be one of an exchange whose data come late."""
        self._late_min[symbol] = minutes

    def fault_consent(self, on: bool = True) -> None:
        """Send everybody without the consent's cookie to the page that asks for it."""
        self.asks_consent = on

    # ---- REST -----------------------------------------------------------------------------------------------------

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer by host and path."""
        host = call.host.removesuffix(".yahoo.com")
        if host == "fc":
            return self._give_cookie(404, "")
        if host in ("guce", "consent"):
            return self._consent(call)
        if host not in ("query1.finance", "query2.finance"):
            return web.Response(text="<html><body>Yahoo Finance</body></html>", content_type="text/html")
        if call.path == "/v1/test/getcrumb":
            return self._crumb(call)
        if self.asks_consent and "EuConsent" not in call.request.cookies:
            done = f"https://{call.host}{call.raw_path}"
            where = f"https://consent.yahoo.com{_CONSENT}?sessionId=s1&done={base64_of(done)}"
            return web.Response(status=302, headers={"Location": where})
        if "crumb" in call.query and not self._knows(call):
            return _trouble(self, 401, "finance", "Unauthorized", "Invalid Crumb")
        if call.path.startswith("/v8/finance/chart/"):
            return self._chart(call, call.path.removeprefix("/v8/finance/chart/"))
        if call.path == "/v1/finance/search":
            return self.json(self._search(call.query.get("q", ""), int(call.query.get("quotesCount", "8"))))
        if call.path == "/v7/finance/quote":
            if not self._knows(call):
                return _trouble(self, 401, "finance", "Unauthorized", "Invalid Crumb")
            wanted = call.query.get("symbols", "").split(",")
            rows = [self._quote(market) for market in self.exchange.listed() if market.listing.symbol in wanted]
            return self.json({"quoteResponse": {"result": rows, "error": None}})
        return _trouble(self, 404, "finance", "Not Found", "HTTP 404 Not Found")

    def limited(self, call: Call, retry_after_s: float, banned: bool) -> web.Response:
        """Say what Yahoo's edge says."""
        headers = {"Retry-After": f"{retry_after_s:.0f}"} if retry_after_s else None
        return web.Response(status=429, text="Too Many Requests\r\n", headers=headers)

    def maintenance(self, call: Call) -> web.Response:
        """Say what Yahoo shows while it is down."""
        page = "<html><body><h1>Will be right back...</h1>Thank you for your patience.</body></html>"
        return web.Response(status=503, text=page, content_type="text/html")

    def _give_cookie(self, status: int, page: str) -> web.Response:
        cookie = secrets.token_hex(8)
        self.crumbs[cookie] = secrets.token_urlsafe(8)
        answer = web.Response(status=status, text=page, content_type="text/html")
        answer.set_cookie("A3", cookie, domain=".yahoo.com", path="/", max_age=365 * DAY_S, secure=True)
        return answer

    def _crumb(self, call: Call) -> web.Response:
        crumb = self.crumbs.get(call.request.cookies.get("A3", ""))
        if crumb is None:
            return _trouble(self, 401, "finance", "Unauthorized", "Invalid Cookie")
        return web.Response(text=crumb)

    def _knows(self, call: Call) -> bool:
        crumb = self.crumbs.get(call.request.cookies.get("A3", ""))
        return crumb is not None and crumb == call.query.get("crumb")

    def _consent(self, call: Call) -> web.Response:
        if call.method == "POST":
            done = call.form().get("originalDoneUrl", "")
            where = done if done.startswith("https://query") else "https://finance.yahoo.com/"
            answer = web.Response(status=302, headers={"Location": where})
            answer.set_cookie("EuConsent", "given", domain=".yahoo.com", path="/", secure=True)
            return answer
        done = base64.urlsafe_b64decode(call.query.get("done", "")).decode()
        action = f"https://consent.yahoo.com{_CONSENT}?sessionId=s1"
        page = _CONSENT_PAGE.format(action=action, session="s1", done=done.replace("&", "&amp;"))
        return self._give_cookie(200, page) if call.host.startswith("guce") else _page(page)

    # ---- charts ---------------------------------------------------------------------------------------------------

    def _chart(self, call: Call, symbol: str) -> web.Response:
        market = next((each for each in self.exchange.listed() if each.listing.symbol == symbol), None)
        if market is None:
            return _trouble(self, 404, "chart", "Not Found", "No data found, symbol may be delisted")
        interval = call.query.get("interval", "1d")
        if interval not in _INTERVALS:
            text = f"Invalid input - interval={interval} is not supported. Valid intervals: [1m, 2m, 5m, 15m, 30m, 60m,"
            return _trouble(self, 400, "chart", "Bad Request", text + " 90m, 1h, 4h, 1d, 5d, 1wk, 1mo, 3mo]")
        now_s = self.exchange.time_ns() // S_NS
        since_s, until_s = _span(call, now_s)
        if since_s > until_s:
            text = "Invalid input - start date cannot be after end date. "
            return _trouble(self, 400, "chart", "Bad Request", f"{text}startDate = {since_s}, endDate = {until_s}")
        problem = _out_of_reach(interval, since_s, until_s, now_s)
        if problem:
            return _trouble(self, 422, "chart", "Unprocessable Entity", problem)
        meta = self._meta(market, interval, since_s, until_s, call.query.get("range", ""))
        candles = self._rows(market, interval, since_s * S_NS, until_s * S_NS)
        quote: dict[str, list[Any]] = {name: [] for name in ("open", "high", "low", "close", "volume")}
        for number, candle in enumerate(candles):
            is_null = (candle.open_ns // duration_ns(_INTERVALS[interval])) % _NULL_EVERY == 7
            values = (candle.open, candle.high, candle.low, candle.close, _volume(market.listing, candle))
            for name, value in zip(quote, values, strict=True):
                known = not is_null or number == len(candles) - 1
                quote[name].append(float(value) if known and name != "volume" else int(value) if known else None)
        result: dict[str, Any] = {"meta": meta, "indicators": {"quote": [quote if candles else {}]}}
        if interval == "1d":
            result["indicators"]["adjclose"] = [{"adjclose": quote["close"]} if candles else {}]
            result["events"] = self._events(market, candles)
        if candles:
            result["timestamp"] = [candle.open_ns // S_NS for candle in candles]
        return self.json({"chart": {"result": [result], "error": None}})

    def _rows(self, market: LiveMarket, interval: str, since_ns: int, until_ns: int) -> list[Candle]:
        """Give the rows of a chart; the last one, still open, begins when it was last heard of."""
        timeframe, stock = _INTERVALS[interval], market.listing.stock
        if timeframe == "1d" and stock:
            rows = list(self._days(market, since_ns, until_ns))
        else:
            first_ns = bar_open_ns(since_ns, timeframe)
            rows = [
                candle
                for candle in market.candles(timeframe, first_ns, until_ns)
                if candle.open_ns >= since_ns and (not stock or _in_session(candle.open_ns))
            ]
        now_ns = self.exchange.time_ns()
        if rows and timeframe != "1d" and rows[-1].open_ns + duration_ns(timeframe) > now_ns:
            rows[-1] = replace(rows[-1], open_ns=now_ns - now_ns % S_NS)
        return rows

    def _days(self, market: LiveMarket, since_ns: int, until_ns: int) -> Iterator[Candle]:
        day = datetime.fromtimestamp(since_ns / 1e9, NEW_YORK).date()
        while (open_ns := _at(day, 9, 30)) < min(until_ns, self.exchange.time_ns()):
            halves = market.candles("30m", open_ns, _at(day, 16, 0)) if open_ns >= since_ns else []
            if halves and day.weekday() < 5:
                high, low = max(each.high for each in halves), min(each.low for each in halves)
                volume = sum((each.volume for each in halves), Decimal(0))
                yield Candle(open_ns, halves[0].open, high, low, halves[-1].close, volume, 0)
            day += timedelta(1)

    def _events(self, market: LiveMarket, candles: Sequence[Candle]) -> dict[str, Any]:
        if not market.listing.stock or len(candles) < 20:
            return {}
        at_s = candles[10].open_ns // S_NS
        return {"dividends": {str(at_s): {"amount": 0.25, "date": at_s}}}

    def _meta(self, market: LiveMarket, interval: str, since_s: int, until_s: int, span: str) -> dict[str, Any]:
        listing, now_s = market.listing, self.exchange.time_ns() // S_NS
        zone = NEW_YORK if listing.stock else UTC
        now = datetime.fromtimestamp(now_s, zone)
        offset = now.utcoffset() or timedelta(0)
        periods = [_period(day, zone) for day in _days_between(since_s, until_s, zone)]
        meta: dict[str, Any] = {
            "currency": listing.quote,
            "symbol": listing.symbol,
            "exchangeName": "NMS" if listing.stock else "CCC",
            "fullExchangeName": "NasdaqGS" if listing.stock else "CCC",
            "instrumentType": _kind(listing),
            "firstTradeDate": listing.listed_ns // S_NS,
            "regularMarketTime": market.tape[-1].time_ns // S_NS,
            "hasPrePostMarketData": listing.stock,
            "gmtoffset": int(offset.total_seconds()),
            "timezone": now.tzname(),
            "exchangeTimezoneName": "America/New_York" if listing.stock else "UTC",
            "regularMarketPrice": float(market.last),
            "regularMarketVolume": int(self._volumes.get(listing.symbol, Decimal(0))),
            "longName": _NAMES.get(listing.symbol, listing.symbol),
            "priceHint": 2,
            "chartPreviousClose": float(market.last),
            "currentTradingPeriod": dict.fromkeys(("pre", "regular", "post"), _period(now.date(), zone)),
            "dataGranularity": interval,
            "range": span,
            "validRanges": [*_RANGES, "ytd", "max"],
        }
        if interval != "1d":
            meta["tradingPeriods"] = [[period] for period in periods]
        return meta

    # ---- search and quotes ------------------------------------------------------------------------------------------

    def _search(self, words: str, most: int) -> dict[str, Any]:
        found = []
        for market in self.exchange.listed():
            listing = market.listing
            name = _NAMES.get(listing.symbol, f"{listing.symbol} {listing.quote}")
            if words and (words.lower() in listing.symbol.lower() or words.lower() in name.lower()):
                kind = {"exchange": "NMS" if listing.stock else "CCC", "quoteType": _kind(listing), "index": "quotes"}
                found.append({**kind, "symbol": listing.symbol, "shortname": name, "isYahooFinance": True})
        return {"explains": [], "count": len(found[:most]), "quotes": found[:most], "news": [], "nav": [], "lists": []}

    def _quote(self, market: LiveMarket) -> dict[str, Any]:
        listing, quote = market.listing, market.quote(market.now_ns)
        return {
            "symbol": listing.symbol,
            "quoteType": _kind(listing),
            "currency": listing.quote,
            "regularMarketPrice": float(market.last),
            "regularMarketTime": market.tape[-1].time_ns // S_NS - 60 * self._late_min.get(listing.symbol, 0),
            "exchangeDataDelayedBy": self._late_min.get(listing.symbol, 0),
            "regularMarketVolume": int(self._volumes.get(listing.symbol, Decimal(0))),
            "bid": float(quote.bid),
            "bidSize": int(quote.bid_size),
            "ask": float(quote.ask),
            "askSize": int(quote.ask_size),
            "priceHint": 2,
            "marketState": "REGULAR",
            "exchangeTimezoneName": "America/New_York" if listing.stock else "UTC",
        }

    # ---- the stream -----------------------------------------------------------------------------------------------

    async def heard(self, channel: Channel, text: str) -> None:
        """Take lists of symbols; what is said is never confirmed."""
        asked = json.loads(text)
        for symbol in asked.get("subscribe", ()):
            channel.topics[symbol] = None
        for symbol in asked.get("unsubscribe", ()):
            channel.topics.pop(symbol, None)

    def on_market(self, event: MarketFact) -> None:
        """Send the price with every trade, and bid and ask with every quote."""
        if not isinstance(event, Trade | Quote):
            return
        symbol = event.instrument.symbol
        market = self.exchange.markets[symbol]
        if isinstance(event, Trade):
            worth = 1 if market.listing.stock else event.price
            self._volumes[symbol] = self._volumes.get(symbol, Decimal(10_000)) + event.quantity * worth
        listeners = list(self.with_topic(symbol))
        if listeners and market.tape:
            said = {"type": "pricing", "message": self._pricing(market, event)}
            for channel in listeners:
                self.send(channel, said)

    def _pricing(self, market: LiveMarket, event: Trade | Quote) -> str:
        listing, last = market.listing, market.tape[-1]
        message = PricingData(
            id=listing.symbol,
            price=float(last.price),
            time=event.time_ns // 1_000_000 - 60_000 * self._late_min.get(listing.symbol, 0),
            currency=listing.quote,
            exchange="NMS" if listing.stock else "CCC",
            quote_type=8 if listing.stock else 41,
            market_hours=1,
            change_percent=0.5,
            day_volume=int(self._volumes.get(listing.symbol, Decimal(0))),
            price_hint=2,
        )
        if isinstance(event, Quote):
            message.bid, message.ask = float(event.bid), float(event.ask)
            message.bid_size, message.ask_size = int(event.bid_size), int(event.ask_size)
        else:
            message.last_size = int(event.quantity)
        return base64.b64encode(message.SerializeToString()).decode()


def make_site(exchange: Exchange) -> YahooSite:
    """Make the dialect of an exchange."""
    return YahooSite(exchange)


def make_exchange(clock: Clock, seed: int = 1, rate: float = 4.0) -> Exchange:
    """Make the markets: three stocks, in whole shares, and two pairs of crypto."""
    one = Decimal(1)
    stocks = [replace(each, lot=one, min_quantity=one) for each in listings("AAPL", "MSFT", "SPY")]
    crypto = [replace(each, symbol=each.symbol.replace("/", "-")) for each in listings("BTC/USD", "ETH/USD")]
    return Exchange("yahoo", [*stocks, *crypto], clock, seed=seed, rate=rate)


def add_person(exchange: Exchange, name: str = "trader", **options: Any) -> ApiKey:
    """Give a key that is none: Yahoo wants none."""
    return ApiKey("", "")


def base64_of(text: str) -> str:
    """Write text so that it fits into a URL."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def _page(text: str) -> web.Response:
    return web.Response(text=text, content_type="text/html")


def _trouble(site: Dialect, status: int, root: str, code: str, text: str) -> web.Response:
    return site.json({root: {"result": None, "error": {"code": code, "description": text}}}, status)


def _kind(listing: Listing) -> str:
    return "CRYPTOCURRENCY" if not listing.stock else "ETF" if listing.symbol == "SPY" else "EQUITY"


def _volume(listing: Listing, candle: Candle) -> Decimal:
    return candle.volume if listing.stock else candle.volume * candle.close


def _span(call: Call, now_s: int) -> tuple[int, int]:
    if "period1" in call.query:
        return int(call.query["period1"]), min(int(call.query.get("period2", now_s)), now_s + 1)
    return now_s - _RANGES.get(call.query.get("range", "1mo"), 36_500) * DAY_S, now_s + 1


def _out_of_reach(interval: str, since_s: int, until_s: int, now_s: int) -> str:
    head = f"{interval} data not available for startTime={since_s} and endTime={until_s}. "
    if interval == "1m" and until_s - since_s > _MOST_MINUTE_DAYS * DAY_S:
        return head + "Only 8 days worth of 1m granularity data are allowed to be fetched per request."
    days = _REACH_DAYS.get(interval)
    if days is not None and since_s < now_s - days * DAY_S:
        return head + f"The requested range must be within the last {days} days."
    return ""


def _at(day: date, hour: int, minute: int) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=NEW_YORK).timestamp()) * S_NS


def _in_session(time_ns: int) -> bool:
    here = datetime.fromtimestamp(time_ns / 1e9, NEW_YORK)
    return here.weekday() < 5 and (9, 30) <= (here.hour, here.minute) < (16, 0)


def _days_between(since_s: int, until_s: int, zone: Any) -> list[date]:
    first, last = (datetime.fromtimestamp(at_s, zone).date() for at_s in (since_s, until_s))
    first = max(first, last - timedelta(70))
    days = [first + timedelta(number) for number in range((last - first).days + 1)]
    return [day for day in days if zone is UTC or day.weekday() < 5]


def _period(day: date, zone: Any) -> dict[str, Any]:
    opens, closes = ((9, 30), (16, 0)) if zone is NEW_YORK else ((0, 0), (23, 59))
    begin = datetime(day.year, day.month, day.day, *opens, tzinfo=zone)
    end = datetime(day.year, day.month, day.day, *closes, tzinfo=zone)
    offset = begin.utcoffset() or timedelta(0)
    times = {"start": int(begin.timestamp()), "end": int(end.timestamp())}
    return {"timezone": begin.tzname(), **times, "gmtoffset": int(offset.total_seconds())}
