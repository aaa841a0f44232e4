"""Polygon.io, which is now called Massive: bars, trades and quotes of US stocks and of crypto, by the vendor's client.

https://massive.com/docs/rest/quickstart and https://massive.com/docs/websocket/quickstart. What a key may see depends
on its plan, which nothing tells but refusals: how far back, how late, how often, and whether anything streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from operator import methodcaller
from typing import Any, ClassVar

from koc_qt.adapters.blocking_reader import Reader, slow_down, words
from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts, pause_s
from koc_qt.adapters.data_only import DAY_NS, S_NS, DataOnlyVenue, MalformedError, Row, SharedStream
from koc_qt.adapters.polygon_client import (
    KEYS_PAGE,
    RefusedError,
    close_rest_client,
    explain,
    is_refused,
    make_rest_client,
    make_stream_client,
    read_object,
    said,
    told_ns,
)
from koc_qt.adapters.polygon_facts import (
    MS_NS,
    above_zero,
    bar_row,
    instrument_of,
    is_the_market,
    read_quote,
    read_trade,
    ticker_of,
    topics_of,
)
from koc_qt.adapters.rate_budget import RateBudget, Span
from koc_qt.domain.errors import VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.resilience import Breaker
from koc_qt.scrub import register_secret

_SPANS = {
    "1m": (1, "minute"),
    "5m": (5, "minute"),
    "15m": (15, "minute"),
    "30m": (30, "minute"),
    "1h": (1, "hour"),
    "1d": (1, "day"),
}

ABILITIES = VenueAbilities(
    venue="polygon",
    title="Polygon.io (Massive)",
    paper=True,
    streams=(DataStream.TRADES, DataStream.QUOTES),
    timeframes=tuple(_SPANS),  # longer ones begin at New York's midnight, or on Sundays
    history_days=730,  # on the free plan
    data_needs_key=True,
    credentials=(CredentialField("key", "API key", "Of polygon.io or massive.com: they are the same"),),
    keys_page=KEYS_PAGE,
    notes=(
        "History reaches back 2 years on the free plan, 5, 10 or 20 on paid ones, and is adjusted for splits.",
        "The free plan takes 5 requests a minute, knows nothing of today and streams nothing; most others are 15 "
        "minutes late.",
        "Days are New York's. A trade's side is guessed from the quote for stocks: the venue does not tell it.",
    ),
)

_DELAY_NS = 15 * 60 * S_NS
_MOST_BARS = 50_000
_REACHES_YEARS = (10, 5, 2)  # of plans, longest first; the longest plan's reach is the venue's own
_LOOK_BACK_DAYS = 6  # for a day of trading: weekends and holidays
_FIRM = "massive.com"
_REAL_TIME, _DELAYED = "socket", "delayed"
_NO_STREAM_PAUSE_S = 300.0  # before a plan that streams nothing is asked again
_MOST_CONNECTIONS_PAUSE_S = 15.0
_MINUTE_S = 60.0
# Nine, as data may use no more than 60 % of a span: five.
_FREE_PLAN = Span("requests", 9, _MINUTE_S)
_MOST_A_MINUTE = 5
_MESSAGE_LIMIT = 16 * 2**20


class PolygonVenue(DataOnlyVenue):
    """Market data of one key. Symbols are stocks as ``AAPL`` and pairs of crypto as ``BTC/USD``.

    `instruments` are what was traded on the last day; any other that the venue lists is found when it is asked for.
    """

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES

    def __init__(
        self,
        clock: Clock,
        credentials: Credentials,
        endpoint: LoopbackEndpoint | None = None,
        breaker: Breaker | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        super().__init__(clock, endpoint, breaker, timeouts)
        self._key = credentials.get("key", "").strip()
        register_secret(self._key)
        self._rest: Any = None
        self._reach_years: int | None = None  # of the plan, once it has refused more
        self._is_free = False
        self._asked = 0  # requests, before it was known that there is a limit
        self._feed = _REAL_TIME

    # ---- the client -----------------------------------------------------------------------------------------------

    async def open(self, reader: Reader) -> Mapping[str, Instrument]:
        """Check the key, set the clock, and list what was traded on the last day."""
        if not self._key:
            raise VenueRejected("no API key is set; add one with this account")
        self._lag_ns, self._feed, self._asked, self._is_free = 0, _REAL_TIME, 0, False
        key, endpoint, limit_s = self._key, self._endpoint, self._timeouts.request_s
        self._rest = await reader.once("its client", lambda: make_rest_client(key, endpoint, limit_s))
        await self._set_clock(reader)
        return await self._listed(reader)

    async def _set_clock(self, reader: Reader) -> None:
        sent_ns = self._clock.monotonic_ns()
        status = await self._ask(reader, "its status", lambda rest: rest.get_market_status(raw=True))
        with contextlib.suppress(KeyError, TypeError, ValueError):  # then our own clock has to do
            told = datetime.fromisoformat(status["serverTime"])
            self.heard_time(round(told.timestamp()) * S_NS, sent_ns)

    def shut(self) -> None:
        """Close the connections."""
        rest, self._rest = self._rest, None
        if rest is not None:
            close_rest_client(rest)

    async def _ask(self, reader: Reader, what: str, call: Callable[[Any], Any]) -> Mapping[str, Any]:
        rest = self._rest
        self._asked += 1
        answer = await reader.read(what, lambda: read_object(said(call(rest).data)))
        self._venue_clock.saw(told_ns(rest))  # ours may have stood still, while the machine slept
        return answer

    def explain(self, what: str, error: Exception) -> VenueError:
        """Say a failure of the client in our words; heed a 429: one that names no pause is the free plan's."""
        if isinstance(error, RefusedError) and error.status == 429:
            names_pause = "retry-after" in error.headers
            if not names_pause:
                self._is_free_plan()
            wait_s = pause_s(error.headers) if names_pause else _MINUTE_S
            if self._reader is not None:
                self._reader.budget.hold(wait_s)
            return slow_down(self.name, what, wait_s)
        return explain(self.name, what, error)

    def _is_free_plan(self) -> None:
        if self._reader is not None and not self._is_free:
            self._is_free = True
            self._reader.budget = RateBudget(self.name, self._clock, (_FREE_PLAN,))
            self._reader.budget.told(_FREE_PLAN.name, min(self._asked, _MOST_A_MINUTE))

    # ---- instruments ----------------------------------------------------------------------------------------------

    async def _listed(self, reader: Reader) -> dict[str, Instrument]:
        """List what was traded on the last day: two requests, where the full catalogue would take dozens.

        Today's is asked for first: the free plan, which knows nothing of today, says so.
        """
        found: dict[str, Instrument] = {}
        refusal: VenueRejected | None = None
        today = datetime.fromtimestamp(self._venue_clock.time_ns() / S_NS - 5 * 3600, UTC).date()
        for market, days in (("stocks", _trading_days(today)), ("crypto", [today - timedelta(1)])):
            try:
                rows = await self._traded(reader, market, days)
            except VenueRejected as error:
                refusal = error  # a plan may be of stocks or of crypto alone
                continue
            found |= await reader.once("its instruments", partial(_instruments, rows))  # some ten thousand
        if not found:
            raise refusal or VenueUnavailable(f"{self.name} lists nothing that was traded; its answers are of no use")
        return found

    async def _traded(self, reader: Reader, market: str, days: Sequence[date]) -> Sequence[Mapping[str, Any]]:
        locale = "us" if market == "stocks" else "global"
        options = {"adjusted": True, "locale": locale, "market_type": market, "raw": True}
        for number, day in enumerate(days):
            call = methodcaller("get_grouped_daily_aggs", day, **options)
            try:
                answer = await self._ask(reader, f"what was traded of {market} on {day}", call)
            except VenueRejected as error:
                if number == 0 and len(days) > 1 and "before end of day" in str(error):
                    self._lag_ns = DAY_NS
                    self._is_free_plan()
                    continue
                raise
            if answer.get("results"):
                self._note_delay(answer)
                return list(answer["results"])
        return []

    async def look_up(self, symbol: str) -> Instrument | None:
        """Ask for one ticker of the reference catalogue."""
        ticker = ticker_of(symbol)
        if ticker is None:
            return None
        answer = await self._ask(
            self.require_connected(),
            f"the ticker {symbol}",
            lambda rest: rest.list_tickers(ticker=ticker, active=True, limit=1, raw=True),
        )
        rows = answer.get("results") or ()
        return instrument_of(ticker, None) if any(row.get("ticker") == ticker for row in rows) else None

    # ---- bars -----------------------------------------------------------------------------------------------------

    def earliest_ns(self, timeframe: str) -> int:
        """Give how far back the plan reaches, as far as that is known."""
        if self._reach_years is None:
            return 0
        return self._venue_clock.time_ns() - self._reach_years * 365 * DAY_NS + DAY_NS

    async def page(
        self, instrument: Instrument, timeframe: str, since_ns: int, end_ns: int
    ) -> tuple[Sequence[Row], int | None]:
        """Ask for up to 50,000 base bars; where the plan reaches less far back, for what it has."""
        while True:
            try:
                return await self._rows(instrument, timeframe, max(since_ns, self.earliest_ns(timeframe)), end_ns)
            except VenueRejected as error:
                if "timeframe" not in str(error) or not self._reach_less(since_ns):
                    raise
                if self.earliest_ns(timeframe) >= end_ns:
                    return [], None

    def _reach_less(self, since_ns: int) -> bool:
        """Believe in the next smaller plan; False where that would ask for the same again."""
        now_ns = self._venue_clock.time_ns()
        for years in _REACHES_YEARS:
            is_less = self._reach_years is None or years < self._reach_years
            if is_less and since_ns < now_ns - years * 365 * DAY_NS + DAY_NS:
                self._reach_years = years
                return True
        return False

    async def _rows(
        self, instrument: Instrument, timeframe: str, since_ns: int, end_ns: int
    ) -> tuple[Sequence[Row], int | None]:
        ticker, (count, span) = ticker_of(instrument.id.symbol), _SPANS[timeframe]
        first: Any = -(-since_ns // MS_NS)
        last: Any = (end_ns - 1) // MS_NS
        if span == "day":  # by their names: a day of New York begins in the early morning of UTC's
            first, last = (datetime.fromtimestamp(at_ms / 1000, UTC).date() for at_ms in (first, last))
        answer = await self._ask(
            self.require_connected(),
            f"{timeframe} bars of {instrument.id}",
            lambda rest: rest.list_aggs(
                ticker, count, span, first, last, adjusted=True, sort="asc", limit=_MOST_BARS, raw=True
            ),
        )
        self._note_delay(answer)
        rows = [bar_row(raw, by_day=span == "day") for raw in answer.get("results") or ()]
        if not answer.get("next_url") or not rows:
            return rows, None
        return rows, rows[-1][0] + duration_ns(timeframe)

    def _note_delay(self, answer: Mapping[str, Any]) -> None:
        if answer.get("status") == "DELAYED":
            self._lag_ns = max(self._lag_ns, _DELAY_NS)

    # ---- streams --------------------------------------------------------------------------------------------------

    def stream_of(self, instrument: Instrument) -> str:
        """Name the market: each has a connection of its own, and a key no more than one of them."""
        return "crypto" if "/" in instrument.id.symbol else "stocks"

    async def session(self, stream: SharedStream) -> str:
        """Keep one connection until it ends; a plan without real time is given the delayed feed."""
        market, feed = stream.name.split()[-1], self._feed
        if stream.was_interrupted:  # what keeps requests from being answered says why no stream can be had
            await self._set_clock(self.require_connected())
        try:
            return await self._stream(stream, market, f"{feed}.{_FIRM}")
        except Exception as error:
            if not is_refused(error):
                raise
            if feed == _REAL_TIME:
                self._feed = _DELAYED
                return f"{self.name} did not let us in to real time ({words(error)}); the delayed feed is tried"
            self._feed = _REAL_TIME
            raise self._streams_nothing(market, error) from error

    def _streams_nothing(self, market: str, reason: object) -> VenueUnavailable:
        refused = VenueUnavailable(
            f"{self.name} streams no trades of {market} to this key; choose a plan that does at "
            f"https://massive.com/pricing ({words(reason)})"
        )
        refused.retry_after_s = _NO_STREAM_PAUSE_S
        return refused

    async def _stream(self, stream: SharedStream, market: str, host: str) -> str:
        client, heard = make_stream_client(self._key, host, market, self._endpoint), _Heard()
        where: dict[str, Any] = {}
        if self._endpoint is not None:
            where = {"host": self._endpoint.host, "port": self._endpoint.port, "proxy": None}

        async def take(message: str | bytes) -> None:
            self._take(stream, heard, message)

        limits = {"open_timeout": self._timeouts.dial_s, "ping_interval": self._timeouts.ping_s}
        limits |= {"ping_timeout": self._timeouts.ping_s, "max_size": _MESSAGE_LIMIT}
        running = asyncio.create_task(client.connect(take, **limits, **where), name=f"{stream.name} client")
        try:
            async with asyncio.timeout(self._timeouts.dial_s) as dial:
                while not running.done():
                    self._choose(client, stream, heard)
                    await _either(running, stream.changed)
                    if heard.confirmed:
                        dial.reschedule(None)
        except TimeoutError:
            if not dial.expired():
                raise
            if heard.trouble:
                raise self._streams_nothing(market, heard.trouble) from None
            return f"{host} did not answer within {self._timeouts.dial_s:g} s"
        finally:
            await _end(running, client)
        return self._why_ended(running, client, heard)

    def _choose(self, client: Any, stream: SharedStream, heard: _Heard) -> None:
        """Ask for what is followed and not asked for yet, and end the rest; the client sends it within a second."""
        stream.changed.clear()
        wanted = {topic for symbol in stream.symbols for topic in topics_of(symbol)}
        if new := wanted - heard.asked:
            client.subscribe(*new)
        if old := heard.asked - wanted:
            client.unsubscribe(*old)
            heard.confirmed -= old
        heard.asked = wanted

    def _why_ended(self, running: asyncio.Task[None], client: Any, heard: _Heard) -> str:
        trouble = client.trouble or heard.trouble
        if "max_connections" in trouble:
            busy = VenueUnavailable(
                f"{self.name} allows one stream connection a key, and another program has it; end that one"
            )
            busy.retry_after_s = _MOST_CONNECTIONS_PAUSE_S
            raise busy
        error = running.exception()
        if error is not None and is_refused(error):
            raise error
        reason = trouble or (f"{type(error).__name__}: {error}" if error else "the venue closed it")
        return f"the stream ended: {words(reason)}"

    def _take(self, stream: SharedStream, heard: _Heard, message: str | bytes) -> None:
        """Read a frame, which is a list of messages."""
        try:
            items = json.loads(message, parse_float=Decimal)
        except ValueError as error:
            self.refuse("unreadable", error)
            return
        for item in items if isinstance(items, list) else [items]:
            try:
                if item["ev"] == "status":
                    self._told(stream, heard, item)
                else:
                    self._fact(item)
            except (MalformedError, KeyError, TypeError, InvalidOperation) as error:
                self.refuse("message", f"{type(error).__name__}: {error}")

    def _told(self, stream: SharedStream, heard: _Heard, item: Mapping[str, Any]) -> None:
        text = str(item.get("message", ""))
        if item.get("status") != "success":
            heard.trouble = f"{item.get('status')}: {text}"
            self.refuse("status", heard.trouble)
        elif text.startswith("subscribed to: "):
            topic = text.removeprefix("subscribed to: ").strip()
            heard.confirmed.add(topic)
            self._lag_ns = _DELAY_NS if self._feed == _DELAYED else self._lag_ns
            kind, _, name = topic.partition(".")
            if kind in ("T", "XT"):
                stream.up([name.replace("-", "/") if kind == "XT" else name])
            stream.changed.set()

    def _fact(self, item: Mapping[str, Any]) -> None:
        kind = item["ev"]
        symbol = str(item["pair"]).replace("-", "/") if kind.startswith("X") else str(item["sym"])
        tape = self.tape(symbol)
        if tape is None:
            return
        instrument = InstrumentId(self.name, symbol)
        if kind in ("Q", "XQ"):
            self.deliver(read_quote(instrument, item))
        elif kind in ("T", "XT") and is_the_market(item):
            self.deliver(read_trade(instrument, item, tape.side(above_zero(item, "p"))))


class _Heard:
    """What one connection was asked for, what it confirmed, and the last trouble that it told of."""

    def __init__(self) -> None:
        self.asked: set[str] = set()
        self.confirmed: set[str] = set()
        self.trouble = ""


async def _either(running: asyncio.Task[None], event: asyncio.Event) -> None:
    waiting = asyncio.create_task(event.wait())
    try:
        await asyncio.wait({running, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()


async def _end(running: asyncio.Task[None], client: Any) -> None:
    """End the client, which leaves its connection open when it is cancelled."""
    socket = client.websocket
    running.cancel()
    closing: list[Awaitable[Any]] = [socket.close()] if socket is not None else []
    await asyncio.gather(running, *closing, return_exceptions=True)


def _instruments(rows: Sequence[Mapping[str, Any]]) -> dict[str, Instrument]:
    made = (instrument_of(str(row.get("T", "")), row.get("c")) for row in rows)
    return {instrument.id.symbol: instrument for instrument in made if instrument is not None}


def _trading_days(today: date) -> list[date]:
    days = [today - timedelta(number) for number in range(1, 1 + _LOOK_BACK_DAYS)]
    return [today, *(day for day in days if day.weekday() < 5)]
