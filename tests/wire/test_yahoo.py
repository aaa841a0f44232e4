"""Yahoo Finance: yfinance as it is, and our venue with whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yfinance  # type: ignore[import-untyped]
from curl_cffi import requests
from yfinance import cache, data
from yfinance.pricing_pb2 import PricingData  # type: ignore[import-untyped]

from koc_qt.adapters import yahoo_facts as facts
from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.data_only import MalformedError, Tape
from koc_qt.adapters.venues.yahoo import ABILITIES, YahooVenue
from koc_qt.adapters.yahoo_client import keep_to_memory
from koc_qt.domain.errors import VenueError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.market import Bar, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.resilience import Breaker
from tests.conditions import stopwatch, until
from tests.wire.conftest import Heard
from tests.wire.exchange import Exchange
from tests.wire.hang_up import until_hung_up
from tests.wire.loopback import LoopbackServer
from tests.wire.proxy import ConnectProxy
from tests.wire.venues.yahoo import YahooSite, make_exchange, make_site

MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS
CRUMB, CHART = "/v1/test/getcrumb", "/v8/finance/chart"
QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=4.0, dial_s=4.0)


class Bench:
    """A loopback Yahoo, and venues connected to it."""

    def __init__(self, server: LoopbackServer, site: YahooSite, exchange: Exchange, stack: AsyncExitStack) -> None:
        self.server, self.site, self.exchange, self._stack = server, site, exchange, stack
        self.heard = Heard()

    async def venue(
        self, *, connect: bool = True, endpoint: LoopbackEndpoint | None = None, **options: Any
    ) -> YahooVenue:
        options.setdefault("timeouts", QUICK)
        venue = YahooVenue(SystemClock(), endpoint or self.server.endpoint, **options)
        self._stack.push_async_callback(venue.close)
        if connect:
            await venue.connect(self.heard)
        return venue

    def asked(self, path: str) -> list[str]:
        return [line for line in self.server.requests if f"GET {path}" in line]

    async def reason(self) -> str:
        """Wait for an interruption and give its reason."""
        states = await until(
            lambda: [s for s in self.heard.of(StreamStatus) if s.state is StreamState.INTERRUPTED], what="interruption"
        )
        return states[-1].reason

    async def until_state(self, state: StreamState, times: int = 1) -> None:
        await until(lambda: self.heard.states.count(state) >= times, what=f"{state} {times} times")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        exchange = make_exchange(SystemClock(), rate=50.0)
        site = make_site(exchange)
        server = await stack.enter_async_context(LoopbackServer(site, tmp_path))
        stack.push_async_callback(until_hung_up, server)
        stack.callback(site.fault_clear)
        yield Bench(server, site, exchange, stack)


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let yfinance be as it is for whoever imports it, but with its caches in memory and nothing remembered."""
    keep_to_memory()
    monkeypatch.setitem(yfinance.config.debug.data, "hide_exceptions", True)
    monkeypatch.setattr(data.SingletonMeta, "_instances", {})
    data.YfData.cache_get.cache_clear()
    yield
    monkeypatch.setitem(yfinance.config.network.data, "proxy", None)


async def led_by_proxy(bench: Bench, work: Callable[[Any], Any]) -> tuple[Any, list[str]]:
    """Do something with the unmodified library in a thread, through its proxy setting; gives hosts asked for too."""
    async with ConnectProxy(bench.server.endpoint) as proxy:

        def in_thread() -> Any:
            options: dict[str, Any] = {"impersonate": "chrome", "verify": bench.server.endpoint.ca_file}
            session: Any = requests.Session(**options)
            yfinance.config.network.proxy = proxy.url
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # pandas deprecates what yfinance does
                    return work(session)
            finally:
                yfinance.config.network.proxy = None
                session.close()

        return await asyncio.to_thread(in_thread), proxy.asked


async def bars_of(venue: YahooVenue, symbol: str, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
    return [bar async for page in venue.fetch_bars(symbol, timeframe, since_ns, until_ns) for bar in page]


async def refusal(asked: Awaitable[object], kind: type[VenueError] = VenueUnavailable) -> str:
    with pytest.raises(kind) as caught:
        await asked
    return str(caught.value)


# ---- yfinance as it is ----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("plain")
async def test_yfinance_itself_reads_history_search_and_quotes(bench: Bench) -> None:
    def work(session: Any) -> None:
        ticker = yfinance.Ticker("AAPL", session=session)
        days = ticker.history(start="2026-01-01", end="2026-06-01", interval="1d")
        assert len(days) > 90
        assert str(days.index.tz) == "America/New_York"
        assert days["Dividends"].sum() == 0.25
        minutes = ticker.history(period="5d", interval="1m")
        assert {stamp.second for stamp in minutes.index} <= set(range(60))
        assert all((9, 30) <= (stamp.hour, stamp.minute) < (16, 0) for stamp in minutes.index[:-1])
        assert [quote["symbol"] for quote in yfinance.Search("apple", session=session).quotes] == ["AAPL"]
        assert ticker.fast_info["lastPrice"] > 0

    _, hosts = await led_by_proxy(bench, work)
    assert {"fc.yahoo.com:443", "query1.finance.yahoo.com:443", "query2.finance.yahoo.com:443"} <= set(hosts)


@pytest.mark.usefixtures("plain")
async def test_yfinance_makes_an_empty_table_of_an_error(
    bench: Bench, expected_warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap: unless hide_exceptions is off, as ours is. And a page that came instead of the past is kept for good."""
    bench.site.fault_server_error(CHART)
    monkeypatch.setattr(yfinance.base, "_tz_info_fetch_ctr", 2)

    def hidden(session: Any) -> bool:
        return bool(yfinance.Ticker("AAPL", session=session).history(period="5d").empty)

    def told(session: Any) -> str:
        yfinance.config.debug.hide_exceptions = False
        with pytest.raises(Exception) as caught:
            yfinance.Ticker("AAPL", session=session).history(start="2020-01-01", end="2020-02-01", interval="1m")
        return str(caught.value)

    empty, _ = await led_by_proxy(bench, hidden)
    assert empty
    bench.site.fault_clear()
    still, _ = await led_by_proxy(bench, told)
    assert "expected a JSON value" in still, "all is well, and its cache still gives the page"
    data.YfData.cache_get.cache_clear()
    said, _ = await led_by_proxy(bench, told)
    assert "Only 8 days worth of 1m granularity data are allowed to be fetched per request" in said
    assert len(expected_warnings) <= 2


@pytest.mark.usefixtures("plain")
async def test_yfinance_sends_what_it_was_told_instead_of_a_crumb(bench: Bench) -> None:
    """Trap: after a 429 for the crumb, the refusal's text is its crumb from then on."""
    bench.site.fault_rest(CRUMB, status=429, body="Too Many Requests\r\n", times=1)

    def work(session: Any) -> list[str]:
        mine = data.YfData(session=session)
        for _ in range(2):
            mine.get(f"https://query1.finance.yahoo.com{CHART}/AAPL", {"range": "1d"})
        return []

    await led_by_proxy(bench, work)
    assert "crumb=" not in bench.asked(CHART)[0]
    assert "crumb=Too" in bench.asked(CHART)[1]


@pytest.mark.usefixtures("plain")
async def test_yfinances_stream_swallows_its_own_cancellation() -> None:
    """Trap: a cancelled listen() just returns, so that a time-out or a task group never hears of it."""

    class Silent:
        def __aiter__(self) -> Silent:
            return self

        async def __anext__(self) -> str:
            await asyncio.Event().wait()
            return ""

        async def close(self) -> None:
            return None

    stream = yfinance.AsyncWebSocket(verbose=False)
    stream._ws = Silent()
    listening = asyncio.create_task(stream.listen())
    await until(lambda: stream._heartbeat_task is not None, what="listening")
    listening.cancel()
    await asyncio.wait([listening])
    assert not listening.cancelled()
    assert listening.result() is None
    await asyncio.gather(stream._heartbeat_task, return_exceptions=True)


@pytest.mark.usefixtures("plain")
async def test_yfinances_stream_stops_the_loop_when_the_venue_closes_it() -> None:
    """Trap: it reads a connection that was closed in order again and again, and nothing else ever runs."""
    reads: list[int] = []
    others: list[int] = []

    class Closed:
        def __aiter__(self) -> Closed:
            reads.append(1)
            if len(reads) == 1_000:
                raise asyncio.CancelledError
            return self

        async def __anext__(self) -> str:
            raise StopAsyncIteration

        async def close(self) -> None:
            return None

    stream = yfinance.AsyncWebSocket(verbose=False)
    stream._ws = Closed()
    asyncio.get_running_loop().call_soon(others.append, 1)
    await stream.listen()
    assert (len(reads), others) == (1_000, [])
    await asyncio.gather(stream._heartbeat_task, return_exceptions=True)


# ---- bars -----------------------------------------------------------------------------------------------------------


async def test_minutes_come_by_the_week_and_reach_back_thirty_days(bench: Bench) -> None:
    venue = await bench.venue(timeouts=Timeouts(request_s=20.0))
    now_ns = bench.exchange.time_ns()
    bars = await bars_of(venue, "BTC-USD", "1m", now_ns - 90 * DAY_NS, now_ns)
    pages = [line for line in bench.asked(CHART) if "interval=1m" in line]
    assert len(pages) == 5, pages
    assert now_ns - 30 * DAY_NS < bars[0].open_time_ns < now_ns - 29 * DAY_NS
    assert bars[-1].open_time_ns > now_ns - 4 * MINUTE_NS
    assert all(bar.open_time_ns % MINUTE_NS == 0 for bar in bars), "the row that has just begun is none"
    expected = (bars[-1].open_time_ns - bars[0].open_time_ns) // MINUTE_NS + 1
    assert 0.97 * expected < len(bars) < expected, "rows of null are left out"


async def test_the_volume_of_coins_is_of_coins(bench: Bench) -> None:
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    bar = (await bars_of(venue, "BTC-USD", "1m", now_ns - 65 * MINUTE_NS, now_ns - 60 * MINUTE_NS))[0]
    [real] = bench.exchange.market("BTC-USD").candles("1m", bar.open_time_ns, bar.open_time_ns + 1)
    assert bar.volume == pytest.approx(float(real.volume), rel=1e-3)


async def test_days_have_their_exchanges_date(bench: Bench) -> None:
    venue = await bench.venue()
    since_ns = int(datetime(2026, 3, 2, tzinfo=UTC).timestamp()) * 1_000_000_000
    bars = await bars_of(venue, "AAPL", "1d", since_ns, since_ns + 12 * DAY_NS)
    days = [datetime.fromtimestamp(bar.open_time_ns / 1e9, UTC).day for bar in bars]
    assert set(days) <= {2, 3, 4, 5, 6, 9, 10, 11, 12, 13}
    assert len(days) >= 9
    assert all(bar.open_time_ns % DAY_NS == 0 for bar in bars)


def chart(zone: str, offset: int, times: list[int], kind: str = "EQUITY") -> dict[str, Any]:
    column = [1.0] * len(times)
    quote = dict.fromkeys(("open", "high", "low", "close", "volume"), column)
    meta = {"exchangeTimezoneName": zone, "gmtoffset": offset, "instrumentType": kind}
    return {"meta": meta, "timestamp": times, "indicators": {"quote": [quote]}}


@pytest.mark.parametrize(
    ("zone", "offset", "opens"),
    [
        ("Asia/Tokyo", 32_400, "2026-07-06T00:00"),
        ("Australia/Sydney", 36_000, "2026-01-04T23:00"),
        ("Europe/London", 0, "2026-07-05T23:00"),  # currencies: midnight there, in summer
        ("America/New_York", -18_000, "2026-07-06T13:30"),
        ("Asia/Kolkata", 19_800, "2026-07-06T03:45"),
        ("No/Such", 32_400, "2026-07-06T00:00"),  # then what Yahoo says of the offset has to do
    ],
)
def test_a_day_is_the_one_at_the_exchange(zone: str, offset: int, opens: str) -> None:
    time_s = int(datetime.fromisoformat(opens).replace(tzinfo=UTC).timestamp())
    [row] = facts.chart_rows(chart(zone, offset, [time_s]), by_day=True)
    day = date(2026, 1, 5) if "01-04" in opens else date(2026, 7, 6)
    assert datetime.fromtimestamp(row[0] / 1e9, UTC).isoformat() == f"{day}T00:00:00+00:00"


def test_a_day_that_comes_twice_counts_once_and_broken_charts_are_none() -> None:
    twice = chart("America/New_York", -14_400, [1_783_344_600, 1_783_366_200])
    assert len(facts.chart_rows(twice, by_day=True)) == 1
    twice["indicators"]["quote"][0]["low"] = [1.0]
    with pytest.raises(MalformedError, match="different lengths"):
        facts.chart_rows(twice, by_day=True)
    bodies: list[dict[str, Any]] = [
        {},
        {"chart": None},
        {"chart": {"result": []}},
        {"chart": {"result": [{"meta": None}]}},
    ]
    for body in bodies:
        with pytest.raises(MalformedError, match="without a result"):
            facts.chart_of(body)


async def test_any_symbol_that_yahoo_knows_is_found(bench: Bench) -> None:
    venue = await bench.venue()
    listed = {each.id.symbol for each in await venue.instruments()}
    assert {"AAPL", "SPY", "BTC-USD", "^GSPC", "EURUSD=X"} <= listed
    venue._instruments.pop("MSFT")
    found = await venue.find("MSFT")
    assert (found.quote, found.tick_size) == ("USD", Decimal("0.01"))
    assert found in await venue.instruments()
    assert "no symbol 'NOPE'" in await refusal(venue.find("NOPE"), VenueRejected)
    assert "no symbol 'a/b c'" in await refusal(venue.find("a/b c"), VenueRejected)


async def test_the_clock_is_the_venues_where_it_tells(bench: Bench) -> None:
    venue = await bench.venue()
    assert abs(venue.time_ns() - bench.exchange.time_ns()) < 2_000_000_000


# ---- cookies, crumbs and consent ------------------------------------------------------------------------------------


async def test_a_crumb_that_is_none_is_asked_for_again(bench: Bench) -> None:
    bench.site.fault_rest(CRUMB, status=429, body="Too Many Requests\r\n", times=1)
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    assert await bars_of(venue, "BTC-USD", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS)
    assert len(bench.asked(CRUMB)) == 2
    assert not [line for line in bench.asked(CHART) if "crumb=Too" in line]


async def test_cookies_that_have_become_worthless_are_replaced(bench: Bench) -> None:
    venue = await bench.venue()
    bench.site.fault_forget_crumbs()
    now_ns = bench.exchange.time_ns()
    assert await bars_of(venue, "BTC-USD", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS)


async def test_the_page_that_asks_for_consent_is_answered(bench: Bench) -> None:
    bench.site.fault_consent()
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    assert await bars_of(venue, "BTC-USD", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS)


async def test_nothing_is_written_to_the_users_folder(bench: Bench) -> None:
    venue = await bench.venue()
    await venue.find("MSFT")
    assert [manager._db for manager in (cache._TzDBManager, cache._CookieDBManager, cache._ISINDBManager)] == [None] * 3


async def test_a_clock_that_stood_still_while_the_machine_slept_is_set_by_the_next_answer(bench: Bench) -> None:
    venue = await bench.venue()
    venue._venue_clock._ahead_ns -= 8 * HOUR_NS
    now_ns = bench.exchange.time_ns()
    for _ in range(2):  # the first may be asked for by the clock that is wrong
        bars = await bars_of(venue, "BTC-USD", "1m", now_ns - 10 * HOUR_NS, now_ns)
    assert abs(venue.time_ns() - bench.exchange.time_ns()) < 3_000_000_000
    assert bars[-1].open_time_ns > now_ns - 5 * MINUTE_NS


# ---- requests that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda site: site.fault_html(CHART), "a web page came instead of data"),
        (lambda site: site.fault_html(), "a web page came instead of data"),
        (lambda site: site.fault_maintenance(), "in maintenance"),
        (lambda site: site.fault_server_error(CHART, status=502), "trouble of its own"),
        (lambda site: site.fault_rest(CHART, body='{"chart":{"result":[],"error":null}}'), "cannot be used"),
        (lambda site: site.fault_rest(CHART, status=403, body="<html>blocked</html>"), "refused"),
    ],
)
async def test_what_is_no_answer_is_said_and_nothing_is_empty(
    bench: Bench, fault: Callable[[YahooSite], None], says: str
) -> None:
    venue = await bench.venue()
    fault(bench.site)
    now_ns = bench.exchange.time_ns()
    assert says in await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))


async def test_a_span_that_is_refused_is_said_in_yahoos_words(bench: Bench) -> None:
    venue = await bench.venue()
    body = {"chart": {"result": None, "error": {"code": "Unprocessable Entity", "description": "within 30 days"}}}
    bench.site.fault_rest(CHART, status=422, body=json.dumps(body))
    now_ns = bench.exchange.time_ns()
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS), VenueRejected)
    assert said.endswith("refused the chart of AAPL: within 30 days")


async def test_a_span_without_trading_is_empty(bench: Bench) -> None:
    venue = await bench.venue()
    text = "Data doesn't exist for startDate = 1, endDate = 2"
    body = {"chart": {"result": None, "error": {"code": "Bad Request", "description": text}}}
    bench.site.fault_rest(CHART, status=400, body=json.dumps(body))
    now_ns = bench.exchange.time_ns()
    assert await bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS) == []


async def test_too_many_requests_are_heeded_at_once(bench: Bench) -> None:
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    asked = len(bench.server.requests)
    bench.site.fault_rate_limit(times=20, retry_after_s=120)
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert "slow down and wait 120 s" in said
    again = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert "asked to be left alone" in again
    assert len(bench.server.requests) == asked + 1, "yfinance alone would have asked several times more"


async def test_a_short_pause_is_kept_and_then_asked_again(bench: Bench) -> None:
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    bench.site.fault_rate_limit(times=1, retry_after_s=1)
    began = time.monotonic()
    assert await bars_of(venue, "BTC-USD", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS)
    assert time.monotonic() - began >= 0.95


async def test_silence_ends_in_a_time_out_and_its_threads_end_too(bench: Bench) -> None:
    venue = await bench.venue()
    venue.require_connected()._timeouts = Timeouts(request_s=0.3, first_backoff_s=0.01)
    assert venue._client is not None
    venue._client._session.limit_s = 0.3
    bench.site.fault_rest(CHART, hang=True)
    now_ns = bench.exchange.time_ns()
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS), VenueTimeout)
    assert "the chart of AAPL" in said


async def test_no_network_wrong_names_and_strangers_are_told_apart(bench: Bench, tmp_path: Path) -> None:
    ca_file = bench.server.endpoint.ca_file
    (tmp_path / "other").mkdir()
    async with LoopbackServer(make_site(make_exchange(SystemClock())), tmp_path / "other") as stranger:
        for endpoint, says in (
            (LoopbackEndpoint("127.0.0.1", 9, ca_file), "no connection could be made"),
            (LoopbackEndpoint("no-such-host.invalid", 443, ca_file), "its name could not be looked up"),
            (LoopbackEndpoint("127.0.0.1", stranger.endpoint.port, ca_file), "a bad certificate"),
        ):
            venue = await bench.venue(endpoint=endpoint, connect=False)
            assert says in await refusal(venue.connect(bench.heard))
        await until_hung_up(stranger)


async def test_the_breaker_opens_and_refuses(bench: Bench) -> None:
    breaker = Breaker("yahoo", SystemClock(), fail_max=3)
    venue = await bench.venue(breaker=breaker)
    bench.site.fault_server_error(CHART)
    now_ns = bench.exchange.time_ns()
    await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert venue.breaker_state == "open"
    asked = len(bench.server.requests)
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert "failed 3 times in a row" in said
    assert len(bench.server.requests) == asked


async def test_it_can_be_connected_again_after_a_failure_and_after_closing(bench: Bench) -> None:
    venue = await bench.venue(connect=False)
    bench.site.fault_maintenance()
    assert "maintenance" in await refusal(venue.connect(bench.heard))
    bench.site.fault_clear()
    for _ in range(2):
        await venue.connect(bench.heard)
        assert await venue.instruments()
        await venue.close()
    assert "not connected" in await refusal(venue.instruments())


# ---- streams --------------------------------------------------------------------------------------------------------


def price(time_ms: int, last: str, volume: str, **more: Any) -> facts.Price:
    said: dict[str, Any] = {name: Decimal(value) if isinstance(value, str) else value for name, value in more.items()}
    return facts.Price("AAPL", time_ms * 1_000_000, Decimal(last), Decimal(volume), **said)


def test_the_volume_that_came_is_a_trade() -> None:
    prices, tape = facts.Prices(facts.instrument("AAPL")), Tape()
    assert prices.facts(price(1, "10.004", "1000", last_size="7"), tape)[0].quantity == 7  # type: ignore[union-attr]
    assert prices.facts(price(2, "10", "1000"), tape) == [], "nothing was traded"
    [up] = prices.facts(price(3, "10.02", "1250"), tape)
    assert isinstance(up, Trade)
    assert (str(up.price), up.side, up.time_ns) == ("10.02", Side.BUY, 3_000_000)
    assert up.quantity == 250
    assert prices.facts(price(2, "9", "9999"), tape) == (), "it is older than what came before"
    [down] = prices.facts(price(4, "10.01", "1300"), tape)
    assert isinstance(down, Trade)
    assert down.side is Side.SELL
    assert prices.facts(price(5, "10.01", "40"), tape) == [], "a new day begins"
    [after] = prices.facts(price(6, "10.01", "60"), tape)
    assert isinstance(after, Trade)
    assert after.quantity == 20


def test_a_quote_has_both_sides_and_sizes() -> None:
    prices, tape = facts.Prices(facts.instrument("AAPL")), Tape()
    sides = {"bid": "10", "ask": "10.01", "bid_size": "3", "ask_size": "4"}
    [quote] = prices.facts(price(1, "10", "5", **sides), tape)
    assert isinstance(quote, Quote)
    assert [quote.bid, quote.bid_size, quote.ask, quote.ask_size] == [
        Decimal(each) for each in ("10", "3", "10.01", "4")
    ]
    for broken in ({"bid_size": "0"}, {"ask": "9.99"}, {"bid": "0"}):
        assert prices.facts(price(2, "10", "5", **{**sides, **broken}), tape) == []


def test_the_volume_of_coins_is_money() -> None:
    prices, tape = facts.Prices(facts.instrument("BTC-USD", is_coin=True)), Tape()
    assert prices.facts(price(1, "50000", "1000000", is_coin=True), tape) == []
    [trade] = prices.facts(price(2, "50000", "1025000", is_coin=True), tape)
    assert isinstance(trade, Trade)
    assert trade.quantity == Decimal("0.5")


def test_prices_of_32_bits_are_read_as_they_were_meant() -> None:
    import base64

    frame = PricingData(id="AAPL", price=194.24, time=1_795_000_000_000, bid=0.1, day_volume=5)
    said = facts.read_message(
        json.dumps({"type": "pricing", "message": base64.b64encode(frame.SerializeToString()).decode()}), PricingData
    )
    assert said is not None
    assert (str(said.price), str(said.bid), said.time_ns) == ("194.24", "0.1", 1_795_000_000_000_000_000)
    assert facts.read_message('{"type":"heartbeat","message":"x"}', PricingData) is None
    for text in ("", "[]", "{}", '{"message":"%"}', '{"message":"AAAA"}', '{"message":"CgRBQVBM"}', "{"):
        with pytest.raises(MalformedError):
            facts.read_message(text, PricingData)


async def test_quotes_and_trades_stream_on_one_connection(bench: Bench) -> None:
    venue = await bench.venue()
    for symbol in ("AAPL", "BTC-USD"):
        await venue.subscribe(symbol)
    await bench.until_state(StreamState.CONNECTED, 2)

    def coins() -> list[Trade]:
        return [trade for trade in bench.heard.of(Trade) if trade.instrument.symbol == "BTC-USD"]

    await until(lambda: len(coins()) > 5 and len(bench.heard.of(Quote)) > 10, what="a market")
    real = {trade.price for trade in bench.exchange.market("BTC-USD").tape}
    assert {trade.price for trade in coins()} <= real
    [channel] = bench.site.channels
    await venue.unsubscribe("BTC-USD")
    await until(lambda: set(channel.topics) == {"AAPL"}, what="one symbol")
    await venue.unsubscribe("AAPL")
    await until(lambda: not bench.site.channels, what="the connection's end")


@pytest.mark.parametrize("mid_frame", [True, False])
async def test_a_lost_connection_is_mended_and_what_was_missed_is_no_trade(bench: Bench, mid_frame: bool) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    await until(lambda: bench.heard.of(Trade), what="a trade")
    bench.site._volumes["AAPL"] += 5_000_000
    bench.site.fault_drop(mid_frame=mid_frame)
    assert "the stream ended" in await bench.reason()
    await bench.until_state(StreamState.CONNECTED, 2)
    seen = len(bench.heard.of(Trade))
    await until(lambda: len(bench.heard.of(Trade)) > seen, what="trades after it")
    assert max(trade.quantity for trade in bench.heard.of(Trade)) < 5_000_000


async def test_a_venue_that_closes_in_order_is_connected_to_again(bench: Bench) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    [channel] = bench.site.channels
    await channel.socket.close(code=1000, drain=False)
    assert "closed the stream" in await bench.reason()
    await bench.until_state(StreamState.CONNECTED, 2)


async def test_garbage_is_counted_and_goes_no_further(bench: Bench) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    for text in ('{"type":"pricing"', "[1]", '{"type":"pricing","message":"CgRBQVBM"}'):
        bench.site.fault_garbage(text)
    await until(lambda: venue.refused["message"] == 3, what="three refusals")
    await until(lambda: bench.heard.of(Trade), what="a trade")


@pytest.mark.parametrize("fault", ["refuse_streams", "hang_streams"])
async def test_where_no_stream_is_quotes_are_asked_for_until_one_is(bench: Bench, fault: str) -> None:
    quick = Timeouts(dial_s=0.3, request_s=4.0, first_backoff_s=0.02, max_backoff_s=0.05)
    venue = await bench.venue(timeouts=quick, poll_s=0.02, poll_for_s=0.3)
    getattr(bench.site, f"fault_{fault}")()
    await venue.subscribe("AAPL")
    assert "the stream ended" in await bench.reason()
    await bench.until_state(StreamState.CONNECTED)
    assert len(bench.asked("/v7/finance/quote")) >= 1
    assert not bench.site.channels
    await until(lambda: bench.heard.of(Quote), what="a quote")
    bench.site.fault_clear()
    await until(lambda: bench.site.channels, what="a stream again")


async def test_polling_that_fails_is_said(bench: Bench) -> None:
    quick = Timeouts(dial_s=0.3, request_s=4.0, first_backoff_s=0.02, max_backoff_s=0.05)
    venue = await bench.venue(timeouts=quick, poll_s=0.02)
    bench.site.fault_refuse_streams()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    bench.site.fault_server_error("/v7")
    reasons = await until(
        lambda: [s.reason for s in bench.heard.of(StreamStatus) if "quotes of 1 symbols" in s.reason], what="the reason"
    )
    assert "trouble of its own" in reasons[0]


async def test_subscriptions_end_when_they_are_cancelled(bench: Bench) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    async with stopwatch() as watch:
        await venue.close()
    assert watch.spent_s < 3.0
    assert bench.heard.states[-1] is StreamState.ENDED


def test_its_abilities_are_what_it_does() -> None:
    assert (ABILITIES.venue, ABILITIES.trading, ABILITIES.data_needs_key) == ("yahoo", False, False)
    assert ABILITIES.history_days == 30
    assert tuple(YahooVenue(SystemClock()).timeframes) == ABILITIES.timeframes


async def test_a_delayed_exchange_is_said_to_be(bench: Bench) -> None:
    bench.site.fault_delayed("AAPL")
    venue = await bench.venue()
    for symbol in ("AAPL", "MSFT"):
        await venue.subscribe(symbol)

    def reasons(symbol: str) -> list[str]:
        return [said.reason for said in bench.heard.of(StreamStatus) if said.instrument.symbol == symbol]

    await until(lambda: len(reasons("AAPL")) > 1, what="the delay to be found out")

    def trades(symbol: str) -> int:
        return sum(trade.instrument.symbol == symbol for trade in bench.heard.of(Trade))

    await until(lambda: trades("MSFT") > 5 and trades("AAPL") > 0, what="trades")
    assert reasons("AAPL") == ["", "delayed by 15 minutes"]
    assert reasons("MSFT") == [""]
    late_ns = [venue.time_ns() - trade.time_ns for trade in bench.heard.of(Trade) if trade.instrument.symbol == "AAPL"]
    assert min(late_ns) > 14 * MINUTE_NS, "what it tells is as old as it is"
    bench.site.fault_drop()
    await until(lambda: len(reasons("AAPL")) == 4, what="the stream to be there again")
    assert reasons("AAPL")[3] == "delayed by 15 minutes", "known from before"
    bench.site.fault_delayed("AAPL", 0)
    await until(lambda: reasons("AAPL")[-1] == "", what="it to come in time")


async def test_a_delay_that_quotes_tell_is_believed(bench: Bench) -> None:
    bench.site.fault_delayed("AAPL", 20)
    bench.site.fault_refuse_streams()
    venue = await bench.venue(poll_s=0.1)
    await venue.subscribe("AAPL")
    await until(
        lambda: any(said.reason == "delayed by 20 minutes" for said in bench.heard.of(StreamStatus)), what="the delay"
    )
