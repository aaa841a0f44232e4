"""Alpaca's market data: what goes wrong with streams and bars, and what the client library makes of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import pytest_asyncio

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.alpaca import AlpacaVenue, bars, facts
from koc_qt.domain.errors import VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, MarketEvent, Quote, Side, StreamState, StreamStatus, Trade
from koc_qt.domain.timeframes import DAY_NS, bar_open_ns
from koc_qt.ports.secrets import Credentials
from tests.conditions import PATIENCE, until
from tests.wire.core.listings import listings
from tests.wire.exchange import Exchange
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.alpaca import AlpacaSite, add_person, make_exchange, make_site

E = TypeVar("E")
QUICK = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, request_s=1.5, dial_s=2.0, connect_s=30 * PATIENCE)
CONNECTED, INTERRUPTED, ENDED = StreamState.CONNECTED, StreamState.INTERRUPTED, StreamState.ENDED
STOCK, COIN = "AAPL", "BTC/USD"


class DataBench:
    """A loopback Alpaca that moves fast, and the adapter under test with all that it says."""

    def __init__(self, server: LoopbackServer, site: AlpacaSite, make: Callable[..., AlpacaVenue]) -> None:
        self.server = server
        self.site = site
        self.exchange: Exchange = site.exchange
        self.make = make
        self.venue = make()
        self.events: list[MarketEvent] = []

    async def connect(self, *symbols: str) -> None:
        await self.venue.connect(self.events.append)
        for symbol in symbols:
            await self.venue.subscribe(symbol)
        for symbol in symbols:
            await self.reaches(CONNECTED, symbol)

    def of(self, kind: type[E], symbol: str) -> list[E]:
        return [event for event in self.events if isinstance(event, kind) and event.instrument.symbol == symbol]

    def states(self, symbol: str) -> list[StreamState]:
        return [status.state for status in self.of(StreamStatus, symbol)]

    async def reaches(self, state: StreamState, symbol: str) -> StreamStatus:
        await until(
            lambda: self.states(symbol) and self.states(symbol)[-1] is state, what=f"the stream of {symbol} {state}"
        )
        return self.of(StreamStatus, symbol)[-1]

    async def goes_on(self, *symbols: str) -> None:
        wanted = [(kind, symbol) for symbol in symbols for kind in (Trade, Quote)]
        before = [len(self.of(kind, symbol)) for kind, symbol in wanted]
        await until(
            lambda: all(len(self.of(*each)) > count for each, count in zip(wanted, before, strict=True)),
            what=f"more of {symbols}",
        )

    async def bars(self, symbol: str, timeframe: str, since_ns: int, until_ns: int) -> list[Bar]:
        return [b async for page in self.venue.fetch_bars(symbol, timeframe, since_ns, until_ns) for b in page]


@pytest_asyncio.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataBench]:
    clock = SystemClock()
    exchange = make_exchange(clock, rate=60.0)
    owned = add_person(exchange, test_network=True)
    site = make_site(exchange)
    made: list[AlpacaVenue] = []
    async with LoopbackServer(site, tmp_path) as server:

        def make(key: str = owned.key, secret: str = owned.secret, **changed: Any) -> AlpacaVenue:
            keys = Credentials({"key": key, "secret": secret})
            timeouts = msgspec.structs.replace(QUICK, **changed)
            made.append(AlpacaVenue(clock, keys, server.endpoint, timeouts=timeouts))
            return made[-1]

        yield DataBench(server, site, make)
        for each in made:
            await each.close()


async def test_trades_and_quotes_are_those_of_the_market(data: DataBench) -> None:
    await data.connect(STOCK, COIN)
    await data.goes_on(STOCK, COIN)
    for symbol in (STOCK, COIN):
        sent = {trade.trade_id: trade for trade in data.exchange.market(symbol).tape}
        quoted = data.events.index(data.of(Quote, symbol)[0])  # who took before it can only be guessed
        for trade in (each for each in data.of(Trade, symbol) if data.events.index(each) > quoted):
            there = sent[trade.trade_id.removeprefix("V")]
            told = (trade.price, trade.quantity, trade.side, trade.time_ns)
            assert told == (there.price, there.quantity, there.side, there.time_ns)
    assert not data.venue.refused


async def test_without_keys_it_says_where_to_get_them(data: DataBench) -> None:
    for keys in (None, Credentials({}), Credentials({"key": " ", "secret": "x"})):
        venue = AlpacaVenue(SystemClock(), keys, data.server.endpoint)
        with pytest.raises(VenueUnavailable, match=r"cost nothing.*app\.alpaca\.markets"):
            await venue.connect(data.events.append)
        await venue.close()
    assert data.server.requests == []


@pytest.mark.parametrize("wrong", ["secret", "live", "line"])
async def test_wrong_keys_are_refused_in_words(data: DataBench, wrong: str) -> None:
    owned = data.exchange.directory.users[0].keys[0]
    changed = {
        "secret": {"secret": owned.secret[::-1]},
        "live": {"key": "AK" + owned.key[2:]},
        "line": {"secret": f"{owned.secret[:20]}\n{owned.secret[20:]}"},
    }
    venue = data.make(**changed[wrong])
    with pytest.raises(VenueUnavailable, match="does not accept the API key") as caught:
        await venue.connect(data.events.append)
    assert owned.secret not in str(caught.value)
    assert owned.secret[20:] not in str(caught.value)


@pytest.mark.parametrize("mid_frame", [True, False])
async def test_a_broken_connection_is_made_again_with_all_symbols(data: DataBench, mid_frame: bool) -> None:
    await data.connect(STOCK, "SPY", COIN)
    data.site.fault_drop("public", mid_frame=mid_frame)
    for symbol in (STOCK, "SPY", COIN):
        assert "broke off" in (await data.reaches(INTERRUPTED, symbol)).reason
    for symbol in (STOCK, "SPY", COIN):
        await data.reaches(CONNECTED, symbol)
    await data.goes_on(STOCK, "SPY", COIN)


async def test_symbols_are_added_while_it_connects_and_while_it_runs(data: DataBench) -> None:
    """The library's own way to subscribe would wait for ever, or lose what comes while it connects."""
    await data.venue.connect(data.events.append)
    await asyncio.gather(data.venue.subscribe(STOCK), data.venue.subscribe("SPY"))
    await data.reaches(CONNECTED, STOCK)
    await data.reaches(CONNECTED, "SPY")
    await data.venue.unsubscribe("SPY")
    assert len(data.site.channels) == 1
    count = len(data.of(Quote, "SPY"))
    await data.goes_on(STOCK)
    assert len(data.of(Quote, "SPY")) == count
    await data.venue.subscribe("SPY")
    await data.goes_on("SPY")
    assert data.states(STOCK) == [CONNECTED]


async def test_the_last_symbol_takes_the_connection_with_it(data: DataBench) -> None:
    await data.connect(STOCK, COIN)
    await data.venue.unsubscribe(STOCK)
    await until(lambda: len(data.site.channels) == 1, what="the connection for stocks to be closed")
    await data.venue.subscribe(STOCK)
    await data.goes_on(STOCK, COIN)


async def test_a_crypto_stream_that_falls_mute_is_made_again_and_a_stock_s_may_be_quiet(data: DataBench) -> None:
    data.venue = data.make(trade_silence_s=0.3)
    await data.connect(STOCK, COIN)
    data.site.fault_silence()
    assert "did not answer in time" in (await data.reaches(INTERRUPTED, COIN)).reason
    assert data.states(STOCK) == [CONNECTED]
    data.site.fault_silence(public=False, private=False)
    await data.goes_on(STOCK, COIN)


async def test_garbage_ends_nothing(data: DataBench) -> None:
    await data.connect(STOCK)
    data.site.fault_garbage()
    await data.goes_on(STOCK)
    assert data.states(STOCK) == [CONNECTED]
    assert data.venue.refused["unreadable"] == 1


async def test_a_server_that_never_speaks_is_given_up(data: DataBench) -> None:
    """The library waits for a greeting without end."""
    data.venue = data.make(dial_s=0.3)
    await data.venue.connect(data.events.append)
    data.site.fault_hang_streams()
    await data.venue.subscribe(STOCK)
    await data.reaches(INTERRUPTED, STOCK)
    data.site.fault_hang_streams(False)
    await data.reaches(CONNECTED, STOCK)


async def test_a_second_program_with_the_same_keys_is_said_to_be_there(data: DataBench) -> None:
    await data.connect(STOCK)
    other = data.make()
    heard: list[MarketEvent] = []
    await other.connect(heard.append)
    await other.subscribe(STOCK)
    await until(lambda: heard, what="the refusal")
    assert isinstance(heard[0], StreamStatus)
    assert "another program is connected with these keys" in heard[0].reason
    await data.venue.close()
    await until(lambda: any(isinstance(event, Quote) for event in heard), what="its turn")


async def test_more_symbols_than_the_plan_has_end_and_leave_the_others(
    data: DataBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.wire.venues.alpaca.CHANNELS", 2)
    await data.connect(STOCK)
    await data.venue.subscribe("SPY")
    assert "plan" in (await data.reaches(ENDED, "SPY")).reason
    await data.goes_on(STOCK)
    data.site.fault_drop("public")
    await data.reaches(INTERRUPTED, STOCK)
    await data.reaches(CONNECTED, STOCK)


async def test_pages_of_bars_follow_each_other(data: DataBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bars, "BARS_PER_PAGE", 25)
    await data.connect()
    for symbol in (STOCK, COIN):
        until_ns = bar_open_ns(data.exchange.time_ns(), "1h")
        since_ns = until_ns - 7_200_000_000_000
        told = await data.bars(symbol, "1m", since_ns, until_ns)
        there = data.exchange.market(symbol).candles("1m", since_ns, until_ns)
        assert [(b.open_time_ns, b.open, b.close) for b in told] == [
            (c.open_ns, float(c.open), float(c.close)) for c in there
        ]
    assert sum("page_token=" in request for request in data.server.requests) == 8
    assert all("limit=25" in request for request in data.server.requests if "bars" in request)


async def test_days_open_at_midnight_utc_whatever_they_do_there(data: DataBench) -> None:
    """A stock's day there begins in New York, one of crypto in Chicago, which hours are made into days for."""
    await data.connect()
    today_ns = bar_open_ns(data.exchange.time_ns(), "1d")
    for symbol in (STOCK, COIN):
        days = await data.bars(symbol, "1d", today_ns - 5 * DAY_NS, today_ns + DAY_NS)
        there = data.exchange.market(symbol).candles("1d", today_ns - 5 * DAY_NS, today_ns)
        assert [(d.open_time_ns, d.high, d.low, d.close) for d in days] == [
            (c.open_ns, float(c.high), float(c.low), float(c.close)) for c in there
        ]
        assert [d.volume for d in days] == pytest.approx([float(c.volume) for c in there])


async def test_whole_answers_only(data: DataBench) -> None:
    until_ns = data.exchange.time_ns()
    for body in ("<html>Sign in</html>", "[]", "null", '{"bars": {"AAPL": [{"t": "now"}]}}'):
        data.venue = data.make()
        await data.connect()
        data.site.fault_rest("/v2/stocks/bars", body=body, times=10)
        with pytest.raises(Exception, match=r"web page|no time") as caught:
            await data.bars(STOCK, "1m", until_ns - 7_200_000_000_000, until_ns - 3_600_000_000_000)
        assert "Sign in" not in str(caught.value)
        data.site.fault_clear()


@pytest.mark.parametrize("fault", ["html", "server_error", "maintenance", "rate_limit"])
async def test_a_venue_that_cannot_be_used_says_why(data: DataBench, fault: str) -> None:
    words = {"html": "web page", "server_error": "web page", "maintenance": "maintenance", "rate_limit": "slow down"}
    data.venue = data.make(request_s=5.0)
    faults = {"rate_limit": {"times": 1000, "retry_after_s": 30}}
    getattr(data.site, f"fault_{fault}")(**faults.get(fault, {}))
    with pytest.raises(VenueUnavailable, match=words[fault]):
        await data.venue.connect(data.events.append)
    data.site.fault_clear()
    data.venue = data.make()
    await data.connect(STOCK)


async def test_assets_that_do_not_trade_are_no_instruments(data: DataBench) -> None:
    data.site.whole_shares.add("SPY")
    data.site.fault_trading(STOCK)
    await data.connect()
    found = {each.id.symbol: each for each in await data.venue.instruments()}
    assert set(found) == {"SPY", COIN}
    assert (found["SPY"].lot_size, found["SPY"].min_quantity) == (Decimal(1), Decimal(1))
    listing = listings(COIN)[0]
    assert (found[COIN].tick_size, found[COIN].lot_size) == (listing.tick, listing.lot)
    with pytest.raises(VenueRejected, match="did you mean BTC/USD"):
        await data.venue.subscribe("BTCUSD")


def test_who_took_is_guessed_from_the_quote_and_the_last_price() -> None:
    name = InstrumentId("alpaca", STOCK)
    quote = Quote(name, 1, Decimal(100), Decimal(1), Decimal(101), Decimal(1))

    def side(price: str, before: str | None = None) -> Side:
        row = {"p": float(price), "s": 1, "i": 7, "x": "V", "t": "2024-01-05T15:00:00.000000001Z"}
        return facts.trade(name, row, quote, None if before is None else Decimal(before)).side

    assert [side("101"), side("102"), side("100"), side("99")] == [Side.BUY, Side.BUY, Side.SELL, Side.SELL]
    assert [side("100.5", "100.6"), side("100.5", "100.4"), side("100.5")] == [Side.SELL, Side.BUY, Side.BUY]


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2024-01-05T10:00:00-05:00", 1_704_466_800_000_000_000),
        ("2024-01-05T15:00:00.5Z", 1_704_466_800_500_000_000),
        ("2024-01-05T15:00:00.123456789Z", 1_704_466_800_123_456_789),
        ("2024-01-05T15:00:00.1234567891-00:00", 1_704_466_800_123_456_789),
    ],
)
def test_times_are_read_to_the_nanosecond(text: str, time_ns: int) -> None:
    assert facts.time_ns(text) == time_ns


@pytest.mark.parametrize("text", ["", "now", "2024-13-05T10:00:00Z", "2024-01-05", None, 5])
def test_what_is_no_time_is_refused(text: object) -> None:
    with pytest.raises(MalformedError):
        facts.time_ns(text)


async def test_of_quotes_that_come_at_once_those_count_that_a_trade_met_and_the_newest(data: DataBench) -> None:
    await data.connect(STOCK)
    feed, later_ns = data.venue._feeds[False], data.venue.time_ns() + 1_000_000_000
    feed.caught_up()
    data.events.clear()  # nothing else comes: the test does not let go of the loop

    def quote(bid: int) -> None:
        prices = {"bp": bid, "bs": 1, "ap": bid + 1, "as": 1}
        data.venue.heard(feed, {"T": "q", "S": STOCK, "t": facts.rfc3339(later_ns + bid), **prices})

    def trade(price: int) -> None:
        told = {"T": "t", "S": STOCK, "i": price, "p": price, "s": 1}
        data.venue.heard(feed, {**told, "t": facts.rfc3339(later_ns + price)})

    for bid in (100, 101):
        quote(bid)
    trade(102)
    for bid in (103, 104):
        quote(bid)
    trade(104)
    for bid in (105, 106):
        quote(bid)
    feed.caught_up()
    feed.caught_up()
    assert [quote.bid for quote in data.of(Quote, STOCK)] == [101, 104, 106]
    assert [type(event) for event in data.events] == [Quote, Trade, Quote, Trade, Quote]
    assert [trade.side for trade in data.of(Trade, STOCK)] == [Side.BUY, Side.SELL], "as the quotes before them say"
    quote(107)
    await data.venue.unsubscribe(STOCK)
    feed.caught_up()
    assert data.states(STOCK) == [ENDED]
    assert data.of(Quote, STOCK)[-1].bid != 107
