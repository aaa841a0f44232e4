"""Yahoo Finance: bars and prices of nearly everything, for nothing and without keys, through yfinance.

There is no document: https://ranaroussi.github.io/yfinance/ is what is known. The stream sends the last price and the
day's volume about once a second; where it cannot be had, quotes are asked for instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar
from urllib.parse import quote

from koc_qt.adapters.blocking_reader import Reader, Trouble, slow_down, unavailable, words
from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts, pause_s
from koc_qt.adapters.ccxt_exchange import make_tls
from koc_qt.adapters.data_only import DAY_NS, S_NS, DataOnlyVenue, MalformedError, Row, SharedStream
from koc_qt.adapters.yahoo_client import RefusedError, YahooClient, explain
from koc_qt.adapters.yahoo_facts import (
    Price,
    Prices,
    chart_of,
    chart_rows,
    described,
    read_message,
    read_quotes,
    well_known,
)
from koc_qt.domain.errors import VenueError, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.venues import DataStream, VenueAbilities
from koc_qt.ports.clock import Clock
from koc_qt.resilience import Breaker

# 30m and 1h begin with the session there, at 9:30 for instance, and so are made of 15m here.
_TIMEFRAMES = ("1m", "2m", "5m", "15m", "1d")

ABILITIES = VenueAbilities(
    venue="yahoo",
    title="Yahoo Finance",
    paper=True,
    streams=(DataStream.TRADES, DataStream.QUOTES),
    timeframes=_TIMEFRAMES,
    history_days=30,
    notes=(
        "Any symbol of finance.yahoo.com can be used, written as there: AAPL, BTC-USD, ^GSPC, EURUSD=X, SAP.DE.",
        "Minute bars reach back 30 days, 2 to 15 minutes 60 days, days to the beginning. They are adjusted for splits, "
        "and those of stocks are of the regular session.",
        "Live prices come about once a second, with the volume since the last one as one trade. Quotes are rare; "
        "indices and currencies have no volume, and so no live trades.",
        "Many exchanges outside the US come late, by 15 or 20 minutes: their streams are said to.",
        "Yahoo gives no warranty, and turns away who asks too often.",
    ),
)

_REACH_DAYS = {"1m": 30, "2m": 60, "5m": 60, "15m": 60}
_MINUTE_PAGE_NS = 7 * DAY_NS
_HOUR_NS = 3_600 * S_NS
_FIRST_DAY_NS = -60 * 366 * DAY_NS
_STREAM = "wss://streamer.finance.yahoo.com/?version=2"
_AGAIN_S = 15.0  # subscriptions are repeated so often, or Yahoo forgets them
_MESSAGE_LIMIT = 2**20
_FAILURES = 2  # of the stream, before quotes are asked for instead
_LONGEST_SYMBOL = 30


class YahooVenue(DataOnlyVenue):
    """Market data without keys. Symbols are Yahoo's own; `instruments` are the best known and what was found.

    `poll_s` is how often quotes are asked for while there is no stream, which is tried again after `poll_for_s`.
    """

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES
    SETTLED_NS: ClassVar[int] = 5 * S_NS
    THREADS: ClassVar[int] = 1  # politely, and libcurl's handles are not to be shared

    def __init__(
        self,
        clock: Clock,
        endpoint: LoopbackEndpoint | None = None,
        breaker: Breaker | None = None,
        timeouts: Timeouts | None = None,
        *,
        poll_s: float = 15.0,
        poll_for_s: float = 300.0,
    ) -> None:
        super().__init__(clock, endpoint, breaker, timeouts)
        self._client: YahooClient | None = None
        self._tls: Any = None
        self._pricing: Any = None
        self._poll_s, self._poll_for_s = poll_s, poll_for_s
        self._failures = 0
        self._prices: dict[str, Prices] = {}

    # ---- the client -----------------------------------------------------------------------------------------------

    async def open(self, reader: Reader) -> Mapping[str, Instrument]:
        """See whether Yahoo answers, and set the clock by it."""
        endpoint, limit_s = self._endpoint, self._timeouts.request_s
        self._tls = make_tls(endpoint)
        self._client = await reader.once("its client", lambda: YahooClient(endpoint, limit_s))
        self._pricing = await reader.once("its messages", _pricing)
        await self._chart(reader, "AAPL", {"range": "1d", "interval": "1d"})
        return well_known()

    def shut(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def explain(self, what: str, error: Exception) -> VenueError:
        """Say a failure in our words; heed a 429."""
        if isinstance(error, MalformedError):
            return unavailable(self.name, what, Trouble.BROKEN, error)
        if isinstance(error, RefusedError) and error.status == 429:
            wait_s = pause_s({name.lower(): value for name, value in error.headers.items()})
            if self._reader is not None:
                self._reader.budget.hold(wait_s)
            return slow_down(self.name, what, wait_s)
        return explain(self.name, what, error)

    async def _chart(self, reader: Reader, symbol: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        client = self._client
        if client is None:
            raise VenueUnavailable(f"{self.name} is not connected; connect first")
        path = f"/v8/finance/chart/{quote(symbol, safe='')}"
        options = {**parameters, "includePrePost": "false"}
        chart = await reader.read(f"the chart of {symbol}", lambda: chart_of(client.ask(path, options)))
        if client.told_s is not None:
            self.heard_time(round(client.told_s) * S_NS, client.sent_ns)
        return chart

    # ---- instruments and bars -------------------------------------------------------------------------------------

    async def look_up(self, symbol: str) -> Instrument | None:
        """Ask for its chart, which describes it."""
        if not symbol or len(symbol) > _LONGEST_SYMBOL or not symbol.isascii() or not symbol.isprintable():
            return None
        try:
            chart = await self._chart(self.require_connected(), symbol, {"range": "1d", "interval": "1d"})
        except VenueRejected:
            return None
        return described(symbol, chart["meta"])

    def earliest_ns(self, timeframe: str) -> int:
        """Give how far back Yahoo's bars reach, an hour less than it says."""
        days = _REACH_DAYS.get(timeframe)
        return _FIRST_DAY_NS if days is None else self.time_ns() - days * DAY_NS + _HOUR_NS

    async def page(
        self, instrument: Instrument, timeframe: str, since_ns: int, end_ns: int
    ) -> tuple[Sequence[Row], int | None]:
        """Ask for a week of minutes, or for all of what is longer."""
        by_day = timeframe == "1d"
        last_ns = min(end_ns, since_ns + _MINUTE_PAGE_NS) if timeframe == "1m" else end_ns
        margin_ns = DAY_NS if by_day else 0  # an exchange's day may begin on the day before or after, in UTC
        asked = {"period1": (since_ns - margin_ns) // S_NS, "period2": -(-(last_ns + margin_ns) // S_NS)}
        try:
            chart = await self._chart(
                self.require_connected(), instrument.id.symbol, {**asked, "interval": timeframe, "events": "div,splits"}
            )
            rows = chart_rows(chart, by_day=by_day)
        except MalformedError as error:
            raise unavailable(self.name, f"{timeframe} bars of {instrument.id}", Trouble.BROKEN, error) from error
        except VenueRejected as error:
            if "doesn't exist for startDate" not in str(error):
                raise
            rows = []  # nothing was traded in that span
        return rows, last_ns if last_ns < end_ns else None

    # ---- streams --------------------------------------------------------------------------------------------------

    def stream_of(self, instrument: Instrument) -> str:
        """Name the one stream."""
        return "stream"

    async def session(self, stream: SharedStream) -> str:
        """Keep the stream until it ends; where it cannot be had, ask for quotes a while."""
        self._prices.clear()  # what was traded meanwhile is not one trade
        if self._failures >= _FAILURES:
            self._failures = 0
            return await self._poll(stream)
        self._failures += 1
        return await self._listen(stream)

    async def _listen(self, stream: SharedStream) -> str:
        from websockets.asyncio.client import connect
        from websockets.exceptions import ConnectionClosed, InvalidHandshake

        where: dict[str, Any] = {}
        if self._endpoint is not None:
            where = {"host": self._endpoint.host, "port": self._endpoint.port, "proxy": None}
        dial_s, ping_s = self._timeouts.dial_s, self._timeouts.ping_s
        where |= {"open_timeout": dial_s, "ping_interval": ping_s, "ping_timeout": ping_s, "close_timeout": 1.0}
        try:
            async with connect(_STREAM, ssl=self._tls, max_size=_MESSAGE_LIMIT, **where) as socket:
                hearing = asyncio.create_task(self._hear(socket), name="yahoo messages")
                try:
                    await self._choose(stream, socket, hearing)
                finally:
                    hearing.cancel()
                    await asyncio.gather(hearing, return_exceptions=True)
                return "the venue closed the stream"
        except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake) as error:
            return f"the stream ended: {words(error)}"

    async def _choose(self, stream: SharedStream, socket: Any, hearing: asyncio.Task[None]) -> None:
        """Ask for what is followed, and again every while, until the stream ends."""
        asked: set[str] = set()
        while not hearing.done():
            stream.changed.clear()
            wanted = set(stream.symbols)
            if gone := asked - wanted:
                await socket.send(json.dumps({"unsubscribe": sorted(gone)}))
            await socket.send(json.dumps({"subscribe": sorted(wanted)}))
            asked = wanted
            self._failures = 0
            stream.up(wanted)
            changed = asyncio.create_task(stream.changed.wait())
            await asyncio.wait({changed, hearing}, timeout=_AGAIN_S, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
        hearing.result()

    async def _hear(self, socket: Any) -> None:
        async for message in socket:
            try:
                said = read_message(message, self._pricing)
            except MalformedError as error:
                self.refuse("message", error)
            else:
                if said is not None:
                    self._take(said)

    async def _poll(self, stream: SharedStream) -> str:
        """Ask for quotes until it is time to try the stream again."""
        until_ns = self._clock.monotonic_ns() + round(self._poll_for_s * S_NS)
        while self._clock.monotonic_ns() < until_ns:
            stream.changed.clear()
            symbols, client = list(stream.symbols), self._client
            if client is None:
                return "closed"
            call = partial(client.ask, "/v7/finance/quote", {"symbols": ",".join(symbols)})
            answer = await self.require_connected().read(f"quotes of {len(symbols)} symbols", call)
            for said in read_quotes(answer):
                self._take(said)
            stream.up(symbols)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await stream.changed.wait()
        return ""

    def _take(self, said: Price) -> None:
        rules, tape = self._instruments.get(said.symbol), self.tape(said.symbol)
        if rules is None or tape is None:
            return
        if said.symbol not in self._prices:
            self._prices[said.symbol] = Prices(rules)
        late_min = self._prices[said.symbol].late_min(said, self.time_ns())
        if late_min is not None:
            self.is_late(said.symbol, late_min)
        for fact in self._prices[said.symbol].facts(said, tape):
            self.deliver(fact)


def _pricing() -> Any:
    importlib.import_module("websockets.asyncio.client")
    return importlib.import_module("yfinance.pricing_pb2").PricingData
