"""Polygon.io (Massive): the vendor's client as it is, and our venue with whatever goes wrong on the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import massive  # type: ignore[import-untyped]
import pytest
import urllib3

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.polygon_client import close_rest_client, make_rest_client
from koc_qt.adapters.venues.polygon import ABILITIES, PolygonVenue
from koc_qt.domain.errors import VenueError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import DAY_NS, bar_open_ns
from koc_qt.ports.secrets import Credentials
from koc_qt.resilience import Breaker
from koc_qt.scrub import scrub
from tests.conditions import PATIENCE, until
from tests.wire.conftest import Heard
from tests.wire.core.accounts import ApiKey
from tests.wire.exchange import Exchange
from tests.wire.hang_up import until_hung_up
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.polygon import PolygonSite, add_person, make_exchange, make_site

MINUTE_NS = 60_000_000_000
HOUR_NS = 60 * MINUTE_NS
API = "api.massive.com"
QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=4.0, dial_s=4.0)


class Bench:
    """A loopback Polygon, and venues connected to it."""

    def __init__(self, server: LoopbackServer, site: PolygonSite, exchange: Exchange, stack: AsyncExitStack) -> None:
        self.server, self.site, self.exchange, self._stack = server, site, exchange, stack
        self.heard = Heard()

    def person(self, plan: str = "advanced") -> ApiKey:
        return add_person(self.exchange, plan, plan)

    async def venue(
        self,
        key: str | None = None,
        *,
        plan: str = "advanced",
        connect: bool = True,
        endpoint: LoopbackEndpoint | None = None,
        **options: Any,
    ) -> PolygonVenue:
        text = self.person(plan).key if key is None else key
        options.setdefault("timeouts", QUICK)
        venue = PolygonVenue(SystemClock(), Credentials({"key": text}), endpoint or self.server.endpoint, **options)
        self._stack.push_async_callback(venue.close)
        if connect:
            await venue.connect(self.heard)
        return venue

    def rest(self, key: str, **options: Any) -> massive.RESTClient:
        """The vendor's client as it is, led here."""
        endpoint = self.server.endpoint
        names = {"assert_hostname": API, "server_hostname": API, **options.pop("pool", {})}
        client = massive.RESTClient(
            key,
            base=f"https://{endpoint.host}:{endpoint.port}",
            ca_certs=endpoint.ca_file,
            connection_pool_kw=names,
            **options,
        )
        client.headers["Host"] = API

        def close() -> None:
            for key in client.client.pools.keys():  # noqa: SIM118 - it is no mapping
                client.client.pools[key].close()

        self._stack.callback(close)
        return client

    def stream(self, key: str, **options: Any) -> tuple[massive.WebSocketClient, dict[str, Any]]:
        endpoint = self.server.endpoint
        client = massive.WebSocketClient(key, ca_certs=endpoint.ca_file, **options)
        return client, {"host": endpoint.host, "port": endpoint.port, "proxy": None}

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


async def bars_of(venue: PolygonVenue, symbol: str, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
    return [bar async for page in venue.fetch_bars(symbol, timeframe, since_ns, until_ns) for bar in page]


async def refusal(asked: Awaitable[object], kind: type[VenueError] = VenueUnavailable) -> str:
    with pytest.raises(kind) as caught:
        await asked
    return str(caught.value)


# ---- the dialect, by the vendor's client as it is -------------------------------------------------------------------


async def test_the_vendors_client_pages_through_tickers_and_bars(bench: Bench) -> None:
    rest = bench.rest(bench.person().key)
    bench.site.most_base_bars = 700
    day = date.today() - timedelta(10)

    def ask() -> None:
        assert [each.ticker for each in rest.list_tickers(limit=2)][-2:] == ["X:ETHUSD", "X:SOLUSD"]
        assert [each.ticker for each in rest.list_tickers(search="apple")] == ["AAPL"]
        bars = list(rest.list_aggs("X:BTCUSD", 1, "minute", day, day, limit=50_000))
        assert [bar.timestamp for bar in bars] == [bars[0].timestamp + 60_000 * at for at in range(1_440)]
        hours = list(rest.list_aggs("X:BTCUSD", 1, "hour", day, day, limit=50_000))
        assert max(hour.high for hour in hours) == max(bar.high for bar in bars)
        trades = list(rest.list_trades("AAPL", limit=7))
        assert len(trades) == len({trade.id for trade in trades}) > 7
        assert rest.get_last_trade("AAPL").price > 0
        quote = rest.get_last_quote("AAPL")
        assert quote.bid_price < quote.ask_price
        assert rest.get_market_status().market == "open"
        assert rest.get_aggs("NOPE", 1, "minute", day, day) == [], "unknown tickers have no bars, and no error"

    await asyncio.to_thread(ask)
    pages = [line for line in bench.server.requests if "/range/1/minute/" in line and "BTC" in line]
    assert len(pages) == 3


async def test_days_are_new_yorks(bench: Bench) -> None:
    rest = bench.rest(bench.person().key)
    rows = await asyncio.to_thread(
        lambda: list(rest.list_aggs("AAPL", 1, "day", "2026-03-02", "2026-03-13", limit=50_000))
    )
    begins = [datetime.fromtimestamp(row.timestamp / 1000, UTC) for row in rows]
    assert [begin.day for begin in begins] == [2, 3, 4, 5, 6, 9, 10, 11, 12, 13]
    assert [begin.hour for begin in begins] == [5] * 5 + [4] * 5, "summer time began on the eighth"


@pytest.mark.parametrize(("plan", "status"), [("advanced", "OK"), ("starter", "DELAYED")])
async def test_what_plans_see(bench: Bench, plan: str, status: str) -> None:
    rest = bench.rest(bench.person(plan).key)
    now_ms = bench.exchange.time_ns() // 1_000_000
    answer = await asyncio.to_thread(
        lambda: rest.list_aggs("X:BTCUSD", 1, "minute", now_ms - 3_600_000, now_ms, raw=True).json()
    )
    newest_ms = answer["results"][-1]["t"]
    assert answer["status"] == status
    assert (now_ms - newest_ms > 14 * 60_000) is (plan == "starter")


async def test_the_vendors_client_sleeps_and_repeats_after_429(bench: Bench) -> None:
    """Trap: it would sleep for as long as the venue names, in whoever's thread that is; ours does not."""
    rest = bench.rest(bench.person().key)
    bench.site.fault_rate_limit(times=10, retry_after_s=1)
    began = time.monotonic()
    with pytest.raises(urllib3.exceptions.MaxRetryError):
        await asyncio.to_thread(rest.get_market_status)
    assert time.monotonic() - began > 2.5
    assert len(bench.server.requests) == 4


async def test_the_vendors_client_takes_a_web_page_for_nothing(
    bench: Bench, caplog: pytest.LogCaptureFixture, expected_warnings: list[str]
) -> None:
    """Trap: a captive portal's page is an empty list of bars."""
    rest = bench.rest(bench.person().key)
    bench.site.fault_html()
    assert await asyncio.to_thread(lambda: list(rest.list_aggs("AAPL", 1, "minute", "2026-03-02", "2026-03-03"))) == []
    assert any("json" in line for line in expected_warnings)


async def test_the_vendors_stream_never_says_that_it_cannot_connect(bench: Bench) -> None:
    """Trap: it goes on in silence for ever; ours has a bound."""
    bench.site.fault_refuse_streams()
    client, where = bench.stream(bench.person().key, raw=True, max_reconnects=0)

    async def take(_: object) -> None:
        raise AssertionError("nothing can come")

    running = asyncio.create_task(client.connect(take, **where))
    await until(lambda: bench.server.requests.count("GET /stocks") > 1, what="another try")
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_vendors_stream_ends_without_a_word(bench: Bench) -> None:
    """Trap: when the venue closes in order, connect() just returns."""
    client, where = bench.stream(bench.person().key, raw=True, subscriptions=["T.AAPL"])
    got: list[object] = []

    async def take(message: object) -> None:
        got.append(message)

    running = asyncio.create_task(client.connect(take, **where))
    await until(lambda: got, what="a message")
    [channel] = bench.site.channels
    await channel.socket.close(code=1000)
    assert await asyncio.wait_for(running, 5 * PATIENCE) is None
    await client.close()


# ---- keys and plans -------------------------------------------------------------------------------------------------


async def test_a_wrong_key_is_said_and_never_shown(bench: Bench) -> None:
    venue = await bench.venue("wrongkey-0123456789", connect=False)
    said = await refusal(venue.connect(bench.heard))
    assert "does not accept the API key" in said
    assert "Unknown API Key" in said
    assert "wrongkey" not in said
    assert "wrongkey-0123456789" not in scrub("sent wrongkey-0123456789")


async def test_no_key_at_all_is_said(bench: Bench) -> None:
    venue = await bench.venue("  ", connect=False)
    assert "no API key is set" in await refusal(venue.connect(bench.heard))
    assert bench.server.requests == []


async def test_a_revoked_key_refuses_what_comes_after(bench: Bench) -> None:
    key = bench.person()
    venue = await bench.venue(key.key)
    bench.site.fault_key(key.key, revoked=True)
    now_ns = bench.exchange.time_ns()
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS), VenueRejected)
    assert "has not been revoked" in said
    assert venue.breaker_state == "closed", "a refusal is an answer"


async def test_the_free_plan_connects_within_its_five_requests_and_is_a_day_late(bench: Bench) -> None:
    venue = await bench.venue(plan="basic")
    assert len(bench.server.requests) <= 5
    symbols = {each.id.symbol for each in await venue.instruments()}
    assert {"AAPL", "MSFT", "SPY", "BTC/USD", "ETH/USD"} <= symbols
    assert DAY_NS - HOUR_NS < bench.exchange.time_ns() - venue.time_ns() < DAY_NS + HOUR_NS


async def test_a_plan_that_is_late_gives_what_it_has_and_its_clock_says_so(bench: Bench) -> None:
    venue = await bench.venue(plan="starter")
    now_ns = bench.exchange.time_ns()
    bars = await bars_of(venue, "BTC/USD", "1m", now_ns - 2 * HOUR_NS, now_ns)
    late_ns = now_ns - venue.time_ns()
    assert 14 * MINUTE_NS < late_ns < 16 * MINUTE_NS
    assert bars[-1].open_time_ns + MINUTE_NS == bar_open_ns(venue.time_ns(), "1m")


async def test_a_plan_that_reaches_less_far_gives_what_it_has(bench: Bench) -> None:
    venue = await bench.venue(plan="starter", timeouts=Timeouts(request_s=20.0))
    now_ns = bench.exchange.time_ns()
    bars = await bars_of(venue, "BTC/USD", "1d", now_ns - 8 * 365 * DAY_NS, now_ns - DAY_NS)
    assert 4.9 * 365 < len(bars) < 5.01 * 365
    asked = len(bench.server.requests)
    assert await bars_of(venue, "BTC/USD", "1d", now_ns - 8 * 365 * DAY_NS, now_ns - 7 * 365 * DAY_NS) == []
    assert len(bench.server.requests) == asked, "what is out of reach is known now"


async def test_too_many_requests_are_heeded(bench: Bench) -> None:
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    bench.site.fault_rate_limit(times=1, retry_after_s=120)
    asked = len(bench.server.requests)
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert "slow down and wait 120 s" in said
    again = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert "asked to be left alone" in again
    assert len(bench.server.requests) == asked + 1


async def test_a_limit_without_a_pause_is_the_free_plans(bench: Bench) -> None:
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    bench.site.fault_rate_limit(times=1, retry_after_s=0)
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))
    assert "wait 60 s" in said
    budget = venue.require_connected().budget
    assert budget.used("requests") == min(len(bench.server.requests), 5), (
        "how many days it had to look at hangs on the hour"
    )
    assert 55 < budget.held_s <= 60


async def test_a_short_pause_is_kept_and_then_asked_again(bench: Bench) -> None:
    venue = await bench.venue()
    now_ns = bench.exchange.time_ns()
    bench.site.fault_rate_limit(times=1, retry_after_s=1)
    began = time.monotonic()
    assert await bars_of(venue, "BTC/USD", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS)
    assert time.monotonic() - began >= 0.95


# ---- bars -----------------------------------------------------------------------------------------------------------


async def test_pages_join_without_gap_or_repeat(bench: Bench) -> None:
    bench.site.most_base_bars = 500
    venue = await bench.venue()
    start_ns = bar_open_ns(bench.exchange.time_ns(), "1d") - 3 * DAY_NS
    pages = [page async for page in venue.fetch_bars("BTC/USD", "1m", start_ns, start_ns + DAY_NS)]
    bars = [bar for page in pages for bar in page]
    assert [len(page) for page in pages] == [500, 500, 440]
    assert [bar.open_time_ns for bar in bars] == [start_ns + at * MINUTE_NS for at in range(1_440)]
    hours = await bars_of(venue, "BTC/USD", "1h", start_ns, start_ns + DAY_NS)
    assert [hour.open for hour in hours] == [bar.open for bar in bars[::60]]


async def test_days_of_stocks_open_at_their_date(bench: Bench) -> None:
    venue = await bench.venue()
    since = datetime(2026, 3, 2, tzinfo=UTC)
    since_ns = int(since.timestamp()) * 1_000_000_000
    bars = await bars_of(venue, "AAPL", "1d", since_ns, since_ns + 10 * DAY_NS)
    days = [datetime.fromtimestamp(bar.open_time_ns / 1e9, UTC) for bar in bars]
    assert [(day.day, day.hour) for day in days] == [(day, 0) for day in (2, 3, 4, 5, 6, 9, 10, 11)]


async def test_a_symbol_that_was_not_traded_is_found_when_asked_for(bench: Bench) -> None:
    venue = await bench.venue()
    venue._instruments.pop("MSFT")
    found = await venue.find("MSFT")
    assert found in await venue.instruments()
    assert (found.quote, found.tick_size) == ("USD", Decimal("0.01"))
    assert "no symbol 'AAPLX'; did you mean AAPL?" in await refusal(venue.find("AAPLX"), VenueRejected)


async def test_the_clock_is_the_venues(bench: Bench) -> None:
    bench.site.fault_skew(90_000)
    venue = await bench.venue()
    assert abs(venue.time_ns() - bench.exchange.time_ns()) < 3_000_000_000


async def test_a_clock_that_stood_still_while_the_machine_slept_is_set_by_the_next_answer(bench: Bench) -> None:
    venue = await bench.venue()
    venue._venue_clock._ahead_ns -= 8 * HOUR_NS
    now_ns = bench.exchange.time_ns()
    for _ in range(2):  # the first may be asked for by the clock that is wrong
        bars = await bars_of(venue, "BTC/USD", "1m", now_ns - 10 * HOUR_NS, now_ns)
    assert abs(venue.time_ns() - bench.exchange.time_ns()) < 3_000_000_000
    assert bars[-1].open_time_ns > now_ns - 5 * MINUTE_NS


# ---- requests that fail ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (lambda site: site.fault_html(), "a web page came instead of data"),
        (lambda site: site.fault_maintenance(), "in maintenance"),
        (lambda site: site.fault_server_error(status=502), "trouble of its own"),
        (lambda site: site.fault_rest(body="[]"), "a web page came instead"),
        (lambda site: site.fault_rest("/v2", status=403, body="<html>blocked</html>"), "a web page came instead"),
    ],
)
async def test_what_is_no_answer_is_said_and_nothing_is_empty(
    bench: Bench, fault: Callable[[PolygonSite], None], says: str
) -> None:
    venue = await bench.venue()
    fault(bench.site)
    now_ns = bench.exchange.time_ns()
    assert says in await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS))


async def test_a_passing_error_is_asked_again(bench: Bench) -> None:
    venue = await bench.venue()
    bench.site.fault_server_error(times=1)
    now_ns = bench.exchange.time_ns()
    assert await bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS)


async def test_silence_ends_in_a_time_out_and_its_threads_end_too(bench: Bench) -> None:
    person = bench.person()
    venue = await bench.venue(person.key)
    venue.require_connected()._timeouts = Timeouts(request_s=0.2, first_backoff_s=0.01)  # not enough to connect
    close_rest_client(venue._rest)
    venue._rest = make_rest_client(person.key, bench.server.endpoint, 0.2)
    bench.site.fault_rest("/v2/aggs", hang=True)
    now_ns = bench.exchange.time_ns()
    said = await refusal(bars_of(venue, "AAPL", "1m", now_ns - HOUR_NS, now_ns - 10 * MINUTE_NS), VenueTimeout)
    assert "1m bars of polygon:AAPL" in said


async def test_no_network_wrong_names_and_strangers_are_told_apart(bench: Bench, tmp_path: Path) -> None:
    ca_file = bench.server.endpoint.ca_file
    (tmp_path / "other").mkdir()
    async with LoopbackServer(make_site(make_exchange(SystemClock())), tmp_path / "other") as stranger:
        for endpoint, says in (
            (LoopbackEndpoint("127.0.0.1", 9, ca_file), "no connection could be made"),
            (LoopbackEndpoint("no-such-host.invalid", 443, ca_file), "its name could not be looked up"),
            (LoopbackEndpoint("127.0.0.1", stranger.endpoint.port, ca_file), "a bad certificate"),
        ):
            venue = await bench.venue("some-key-0123456789", endpoint=endpoint, connect=False)
            assert says in await refusal(venue.connect(bench.heard))


async def test_the_breaker_opens_and_refuses(bench: Bench) -> None:
    breaker = Breaker("polygon", SystemClock(), fail_max=3)
    venue = await bench.venue(breaker=breaker)
    bench.site.fault_server_error()
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


async def test_trades_and_quotes_are_exact_and_have_sides(bench: Bench) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await venue.subscribe("BTC/USD")
    await bench.until_state(StreamState.CONNECTED, 2)
    told = bench.exchange.market("BTC/USD")
    await until(lambda: len(bench.heard.of(Trade)) > 30 and len(bench.heard.of(Quote)) > 30, what="a market")
    trades = [trade for trade in bench.heard.of(Trade) if trade.instrument.symbol == "BTC/USD"]
    known = {f"1:{trade.trade_id}": trade for trade in told.tape}
    assert trades
    for trade in trades:
        real = known[trade.trade_id]
        assert (trade.price, trade.quantity, trade.side) == (real.price, real.quantity, real.side)
    stocks = [trade for trade in bench.heard.of(Trade) if trade.instrument.symbol == "AAPL"]
    real_stocks = {f"4:{trade.trade_id}": trade for trade in bench.exchange.market("AAPL").tape}
    assert all(trade.quantity == real_stocks[trade.trade_id].quantity for trade in stocks), "parts of shares"
    assert len({channel.path for channel in bench.site.channels}) == len(bench.site.channels) == 2


async def test_one_connection_carries_a_market_and_ends_with_the_last_symbol(bench: Bench) -> None:
    venue = await bench.venue()
    for symbol in ("AAPL", "MSFT"):
        await venue.subscribe(symbol)
    await bench.until_state(StreamState.CONNECTED, 2)
    [channel] = bench.site.channels
    await venue.unsubscribe("MSFT")
    await until(lambda: set(channel.topics) == {"T.AAPL", "Q.AAPL"}, what="the topics of one symbol")
    await venue.unsubscribe("AAPL")
    await until(lambda: not bench.site.channels, what="the connection's end")
    await venue.subscribe("SPY")
    await bench.until_state(StreamState.CONNECTED, 3)
    assert len(bench.site.channels) == 1


@pytest.mark.parametrize("mid_frame", [True, False])
async def test_a_lost_connection_is_mended_and_said(bench: Bench, mid_frame: bool) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    bench.site.fault_drop(mid_frame=mid_frame)
    assert "the stream ended" in await bench.reason()
    await bench.until_state(StreamState.CONNECTED, 2)
    seen = len(bench.heard.of(Trade))
    await until(lambda: len(bench.heard.of(Trade)) > seen, what="trades after it")


async def test_garbage_is_counted_and_goes_no_further(bench: Bench) -> None:
    venue = await bench.venue()
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    for text in ('[{"ev":"T"', "[1]", '[{"ev":"Q","sym":"AAPL","bp":2,"ap":1,"bs":1,"as":1,"t":1}]', '{"ev":"status"}'):
        bench.site.fault_garbage(text)
    bench.site.fault_garbage('[{"ev":"T","sym":"AAPL","i":"f","p":1.5,"s":1,"t":99999999999999}]')
    await until(lambda: sum(venue.refused.values()) >= 5, what="five refusals")
    assert "crossed" in str(venue.refused) or venue.refused["message"] >= 2
    await until(lambda: bench.heard.of(Trade), what="a trade")
    assert all(trade.price > 100 for trade in bench.heard.of(Trade))


async def test_trades_that_make_no_bar_are_left_out_and_repeats_too(bench: Bench) -> None:
    venue = await bench.venue()
    bench.exchange.show("AAPL", Decimal(100), Decimal(101), Decimal(5))
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    now_ms = bench.exchange.time_ns() // 1_000_000
    frame = '[{{"ev":"T","sym":"AAPL","x":4,"i":"{}","p":{},"s":3,"c":[{}],"t":{}}}]'
    before = len(bench.heard.of(Trade))
    for number, price, condition in (("a", "90.5", 2), ("b", "101", 37), ("b", "101", 37), ("c", "100.01", 37)):
        bench.site.fault_garbage(frame.format(number, price, condition, now_ms))
    trades = await until(lambda: bench.heard.of(Trade)[before:][1:] and bench.heard.of(Trade)[before:], what="two")
    assert [(trade.trade_id, trade.side) for trade in trades] == [("4:b", Side.BUY), ("4:c", Side.SELL)]
    assert str(trades[1].price) == "100.01"


async def test_a_plan_without_real_time_is_given_the_delayed_feed(bench: Bench) -> None:
    venue = await bench.venue(plan="developer")
    await venue.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    assert "the delayed feed is tried" in await bench.reason()
    assert bench.heard.of(StreamStatus)[-1].reason == "delayed by 15 minutes"
    trades = await until(lambda: bench.heard.of(Trade), what="a trade")
    assert 14 * MINUTE_NS < bench.exchange.time_ns() - trades[0].time_ns < 16 * MINUTE_NS
    assert abs(venue.time_ns() - trades[-1].time_ns) < 10_000_000_000
    assert bench.heard.of(Quote) == [], "this plan has none"


async def test_a_plan_without_streams_is_said_and_left_alone(bench: Bench) -> None:
    venue = await bench.venue(plan="basic")
    await venue.subscribe("AAPL")
    await until(
        lambda: any("doesn't include websocket access" in s.reason for s in bench.heard.of(StreamStatus)) or None,
        what="the refusal",
    )

    def dials() -> list[str]:
        return [each for each in bench.server.requests if each.startswith("GET /stocks")]

    assert len(dials()) == 1
    await venue.subscribe("MSFT")
    await venue.instruments()  # some requests later
    assert len(dials()) == 1


async def test_a_key_that_streams_elsewhere_is_said(bench: Bench) -> None:
    key = bench.person()
    other, venue = await bench.venue(key.key), await bench.venue(key.key)
    await other.subscribe("AAPL")
    await bench.until_state(StreamState.CONNECTED)
    await venue.subscribe("MSFT")
    assert "another program has it" in await bench.reason()


@pytest.mark.parametrize("fault", ["refuse_streams", "hang_streams"])
async def test_a_stream_that_cannot_be_opened_is_said_in_time_and_tried_again(bench: Bench, fault: str) -> None:
    venue = await bench.venue(timeouts=Timeouts(dial_s=0.5, request_s=1.0, first_backoff_s=0.02, max_backoff_s=0.1))
    getattr(bench.site, f"fault_{fault}")()
    await venue.subscribe("AAPL")
    assert "socket.massive.com did not answer within 0.5 s" in await bench.reason()
    bench.site.fault_clear()
    await bench.until_state(StreamState.CONNECTED)


async def test_closing_while_it_connects_leaves_nothing(bench: Bench) -> None:
    venue = await bench.venue(connect=False)
    bench.site.fault_rest("/v1", hang=True)
    connecting = asyncio.create_task(venue.connect(bench.heard))
    await until(lambda: bench.server.requests, what="the first request")
    await venue.close()
    assert "was closed while it was connecting" in await refusal(connecting)


def test_its_abilities_are_what_it_does() -> None:
    assert (ABILITIES.venue, ABILITIES.trading, ABILITIES.data_needs_key) == ("polygon", False, True)
    assert [field.name for field in ABILITIES.credentials] == ["key"]
    venue = PolygonVenue(SystemClock(), Credentials({}))
    assert tuple(venue.timeframes) == ABILITIES.timeframes
    assert str(InstrumentId(venue.name, "AAPL")) == "polygon:AAPL"


def test_the_vendors_loggers_write_nothing_to_the_console() -> None:
    make_rest_client("some-key-0123456789", None, 1.0)
    assert not any(logging.getLogger(name).handlers for name in ("RESTClient", "WebSocketClient"))
