"""Coinbase: what goes wrong with orders and data, and what is odd about Coinbase and ccxt's way with it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import ccxt
import ccxt.pro
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from koc_qt.adapters import coinbase_client
from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.ccxt_exchange import make_session
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.coinbase_key import private_key
from koc_qt.adapters.venues import coinbase as adapter
from koc_qt.adapters.venues.coinbase import CoinbaseTrading, CoinbaseVenue
from koc_qt.domain.errors import VenueRejected, VenueTimeout
from koc_qt.domain.market import Book, Quote, StreamState, StreamStatus, Trade
from koc_qt.domain.orders import AmendRejected, OrderAmended, OrderStatus
from koc_qt.domain.state import VenueState
from koc_qt.domain.timeframes import DAY_NS
from tests.conditions import stopwatch, until
from tests.wire.conftest import QUICK, Heard
from tests.wire.loopback import LoopbackServer
from tests.wire.trading_bench import BUY, SELL, TradingBench, failure_of, open_bench
from tests.wire.trading_faults import TradingFaults
from tests.wire.venues import coinbase
from tests.wire.venues.coinbase_gate import RefusalError

BTC = "BTC/USD"
FUNDS = {"USD": "100000", "BTC": "2", "ETH": "20"}
ORDERS = "/api/v3/brokerage/orders"
ACCEPTED, FILLED, CANCELED = OrderStatus.ACCEPTED, OrderStatus.FILLED, OrderStatus.CANCELED
REJECTED, TRIGGERED = OrderStatus.REJECTED, OrderStatus.TRIGGERED
CONNECTED, INTERRUPTED = VenueState.CONNECTED, VenueState.INTERRUPTED
Make = Callable[..., Awaitable[Any]]


class QuickTrading(CoinbaseTrading):
    """Polls more often than the venue would bear for long."""

    POLL_S: ClassVar[float] = 0.3


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TradingBench]:
    async with open_bench(QuickTrading, coinbase, tmp_path, BTC, balances=FUNDS) as bench:
        yield bench


class TestOrders(TradingFaults):
    ORDER: ClassVar[str] = ORDERS
    RIGHTS: ClassVar[str] = "can_trade"
    HELD_S: ClassVar[float] = 30.0

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        async with open_bench(QuickTrading, coinbase, tmp_path, BTC, balances=FUNDS) as bench:
            yield bench

    async def test_amounts_between_steps_are_refused_here(self, bench: TradingBench) -> None:
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90.001), REJECTED)
        assert "price 90.001" in rejected.reason
        assert bench.asked(f"POST {self.ORDER}") == 0

    async def test_a_stop_can_be_cancelled_before_and_after_it_went_off(self, bench: TradingBench) -> None:
        await bench.connect()
        waiting = await bench.submit(SELL, "0.5", 88, stop_price=Decimal(90))
        resting = await bench.submit(SELL, "0.5", 97, stop_price=Decimal(95))
        for order in (waiting, resting):
            await bench.reaches(order, ACCEPTED)
        assert {each.stop_price for each in await bench.venue.open_orders()} == {Decimal(90), Decimal(95)}
        bench.show(94, 95)
        await bench.reaches(resting, TRIGGERED)
        for order in (waiting, resting):
            await bench.venue.cancel(bench.now(order))
            await bench.reaches(order, CANCELED)

    async def test_a_stop_whose_answer_is_lost_is_found_after_it_went_off(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_silence()
        bench.site.fault_lose_answer("place", how="drop")
        order = bench.new(SELL, "0.5", 80, stop_price=Decimal(95))
        assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)
        assert await bench.look_up(order) is not None
        bench.show(94, 95)
        report = await bench.look_up(order)
        assert report is not None
        assert report.status is FILLED


# ---- ccxt as it is ---------------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def plain(bench: TradingBench) -> AsyncIterator[Make]:
    """Make unmodified clients with the trader's key."""
    bench.show(100, 101)
    tls = ssl.create_default_context(cafile=bench.server.endpoint.ca_file)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(make_session(bench.server.endpoint, tls))

        async def make(**config: Any) -> Any:
            keys = {"apiKey": bench.owned.key, "secret": bench.owned.secret, "session": http, "timeout": 2000}
            client = ccxt.pro.coinbase({**keys, "enableRateLimit": False, "timeout_on_exit": 0, **config})
            client.ssl_context = tls
            client.has["fetchCurrencies"] = False
            stack.push_async_callback(client.close)
            await client.load_markets()
            return client

        yield make


async def test_ccxt_drops_our_id_unless_it_is_given_as_a_parameter(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    await client.create_order(BTC, "limit", "buy", 1, 90, {"clientOrderId": "mine"})
    await client.create_order(BTC, "limit", "buy", 1, 90, {"client_order_id": "mine"})
    assert bench.there[0].client_id.startswith("ccxt-"), "it made one up, by which nobody can find the order again"
    assert bench.there[1].client_id == "mine"


async def test_ccxt_buys_at_the_market_for_a_sum_alone_though_the_venue_takes_a_quantity(
    plain: Make, bench: TradingBench
) -> None:
    client = await plain()
    with pytest.raises(ccxt.InvalidOrder, match="requires a price"):
        await client.create_order(BTC, "market", "buy", 0.5)
    await client.create_order(BTC, "market", "buy", None, None, {"cost": 50})
    assert bench.there[0].filled == Decimal("0.49504950"), "not the half that was meant"


async def test_ccxt_takes_a_refused_change_for_made(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    order = await client.create_order(BTC, "limit", "buy", 1, 90)
    bench.exchange.cancel(bench.user, order["id"])
    answer = await client.edit_order(order["id"], BTC, "limit", "buy", 2, 91)
    assert answer["info"]["success"] is False


async def test_ccxt_sets_a_stop_the_wrong_way_round(plain: Make) -> None:
    client = await plain()
    with pytest.raises(ccxt.BaseError, match="PREVIEW_STOP_PRICE_ABOVE_LAST"):
        await client.create_order(BTC, "limit", "buy", 1, 111, {"triggerPrice": 110})


async def test_ccxt_reads_what_orders_hold_only_when_it_is_told_to(plain: Make, bench: TradingBench) -> None:
    bench.site.accounts_a_page = 1
    client = await plain()
    await client.create_order(BTC, "limit", "buy", 1, 90)
    balance = await client.fetch_balance({"v3": True})
    assert balance["USD"]["used"] == pytest.approx(90 + 90 * 0.006, abs=1)
    assert balance["ETH"]["total"] == 20, "of the third page"
    with pytest.raises(ccxt.BaseError):
        await client.fetch_balance()  # an older interface that such keys do not open


async def test_ccxt_takes_the_resting_side_of_trades_for_the_taker_s(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    there = {trade.trade_id: trade.side.value for trade in bench.exchange.market(BTC).tape}
    assert all(trade["side"] != there[trade["id"]] for trade in await client.fetch_trades(BTC, limit=20))


@pytest.mark.parametrize("seconds", [-130, 130])
async def test_tokens_are_good_for_two_minutes(plain: Make, seconds: int) -> None:
    client = await plain()
    client.seconds = lambda: ccxt.Exchange.milliseconds() // 1000 + seconds
    with pytest.raises(ccxt.AuthenticationError, match="401"):
        await client.fetch_balance({"v3": True})


async def test_a_token_is_good_for_one_request_alone(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    token = client.create_auth_token(client.seconds(), "GET", "https://api.coinbase.com/api/v3/brokerage/accounts")
    assert bench.site.gate.let_in(token, "127.0.0.1", "GET api.coinbase.com/api/v3/brokerage/accounts", "read")
    with pytest.raises(RefusalError, match="Unauthorized"):
        bench.site.gate.let_in(token, "127.0.0.1", "POST api.coinbase.com/api/v3/brokerage/orders", "read")


async def test_candles_come_by_at_most_350(plain: Make) -> None:
    client = await plain()
    now_ms = client.milliseconds()
    rows = await client.fetch_ohlcv(BTC, "1m", now_ms - 10**7, 10)
    assert [row[0] for row in rows] == sorted(row[0] for row in rows)
    with pytest.raises(ccxt.BadRequest, match="less than 350"):
        await client.fetch_ohlcv(BTC, "1m", now_ms - 10**9, 10, {"until": now_ms})


# ---- our adapter: orders ---------------------------------------------------------------------------------------------


async def test_orders_carry_our_id_and_buy_the_exact_quantity(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.submit(BUY, "0.12345678")
    await bench.reaches(order, FILLED)
    [there] = bench.there
    assert (there.client_id, there.filled) == (order.client_order_id, Decimal("0.12345678"))


async def test_executions_are_asked_for_at_each_word_and_come_once(bench: TradingBench) -> None:
    await bench.connect()
    await bench.until_state(CONNECTED)
    bench.exchange.set_thin(BTC, Decimal("0.2"))
    order = await bench.submit(BUY, "1", 101)
    for _ in range(8):
        bench.show(100, 101)
        await asyncio.sleep(0)
    await bench.reaches(order, FILLED)
    fills = bench.fills(order)
    assert len(fills) == len({fill.fill_id for fill in fills}) == len(bench.there[0].fills)
    assert bench.asked("historical/fills") <= 10
    assert bench.asked("historical/batch") == 0, "nothing had to be looked for"


async def test_the_same_id_is_the_same_order(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests()
    await bench.venue.submit(order)
    assert [each.id for each in bench.there] == [order.venue_order_id]


async def test_a_broken_server_s_words_are_no_refusal(bench: TradingBench) -> None:
    """ccxt would call the order refused, though nobody knows."""
    await bench.connect()
    body = '{"error":"INTERNAL","error_details":"","message":"internal"}'
    bench.site.fault_rest(ORDERS, status=500, body=body, times=1)
    assert isinstance(await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90))), VenueTimeout)


async def test_a_stop_without_limit_is_refused_here(bench: TradingBench) -> None:
    await bench.connect()
    rejected = await bench.reaches(await bench.submit(SELL, "0.5", stop_price=Decimal(95)), REJECTED)
    assert "no stop orders without a limit" in rejected.reason
    assert bench.there == []


async def test_a_stop_to_buy_waits_for_a_rise(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.submit(BUY, "0.5", 106, stop_price=Decimal(105))
    await bench.reaches(order, ACCEPTED)
    bench.show(104, 106)
    await bench.reaches(order, FILLED)
    assert TRIGGERED in {type(event).__name__.removeprefix("Order").lower() for event in bench.events}


async def test_a_change_is_told_by_its_history_and_a_refused_one_is_refused(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests(90, "0.5")
    await bench.venue.amend(order, Decimal("0.7"), Decimal(91))
    await until(lambda: any(isinstance(event, OrderAmended) for event in bench.events), what="the change")
    report = await bench.venue.find_order(bench.now(order))
    assert (report.quantity, report.price) == (Decimal("0.7"), Decimal(91))
    bench.exchange.cancel(bench.user, bench.there[0].id)
    await bench.reaches(order, CANCELED)
    await bench.venue.amend(order, Decimal(1), Decimal(91))
    await until(lambda: any(isinstance(event, AmendRejected) for event in bench.events), what="the refusal")


async def test_orders_and_executions_come_in_pages(bench: TradingBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_ORDERS_A_PAGE", 2)
    monkeypatch.setattr(adapter, "_FILLS_A_PAGE", 2)
    await bench.connect()
    orders = [await bench.rests(80 + number) for number in range(5)]
    listed = {each.client_order_id for each in await bench.venue.open_orders()}
    assert listed == {order.client_order_id for order in orders}
    bench.show(79, 80)
    for order in orders:
        await bench.reaches(order, FILLED)
    assert len(await bench.venue.trades(0)) == sum(len(each.fills) for each in bench.there)


async def test_messages_lost_on_the_way_are_noticed_by_their_numbers(bench: TradingBench) -> None:
    await bench.connect()
    await bench.until_state(CONNECTED)
    order = await bench.rests(95)
    bench.site.fault_skip("private")
    bench.show(94, 95)
    assert "lost 1 messages" in await bench.until_state(INTERRUPTED)
    await bench.until_state(CONNECTED)
    await bench.reaches(order, FILLED)


async def test_the_stream_is_kept_open_by_heartbeats(bench: TradingBench) -> None:
    await bench.connect()
    await until(lambda: [c for c in bench.site.channels if {"user", "heartbeats"} <= c.topics.keys()], what="them")


# ---- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line_end", ["\\n", " ", "\r\n", "\n\n  "])
async def test_private_keys_work_however_their_lines_were_copied(bench: TradingBench, line_end: str) -> None:
    copied = '"' + bench.owned.secret.strip().replace("\n", line_end) + '"'
    bench.venue = bench.make(secret=copied)
    await bench.connect()
    await bench.rests()


def ed25519() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(), "A" * 86 + "=="


@pytest.mark.parametrize("secret", ed25519())
async def test_keys_of_another_kind_are_refused_with_what_to_do(bench: TradingBench, secret: str) -> None:
    error = await failure_of(bench.make(secret=secret).connect(bench.sink))
    assert isinstance(error, VenueRejected)
    assert "ECDSA" in str(error)
    report = await bench.make(secret=secret).check()
    assert "ECDSA" in report.problem
    assert bench.server.requests == []


@pytest.mark.parametrize(
    "secret", ["x", "abc" * 20, "-----BEGIN EC PRIVATE KEY-----\nabc\n-----END EC PRIVATE KEY-----"]
)
def test_what_is_no_private_key_is_said_to_be_none(secret: str) -> None:
    with pytest.raises(VenueRejected, match="cannot be read") as caught:
        private_key(secret)
    assert "abc" not in str(caught.value)


def test_the_newer_form_of_a_private_key_becomes_the_older_one() -> None:
    exchange = coinbase.make_exchange(SystemClock())
    old = coinbase.add_person(exchange).secret
    key = load_pem_private_key(old.encode(), None)
    assert private_key(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()) == old


# ---- market data -----------------------------------------------------------------------------------------------------


class DataBench:
    """A venue of market data on a quick exchange."""

    def __init__(self, server: LoopbackServer, exchange: Any) -> None:
        self.server, self.exchange = server, exchange
        self.site: Any = server.site
        self.venue = CoinbaseVenue(SystemClock(), server.endpoint, timeouts=QUICK)
        self.heard = Heard()

    async def stream(self, *symbols: str) -> None:
        await self.venue.connect(self.heard)
        for symbol in symbols:
            await self.venue.subscribe(symbol)
        await until(lambda: all(self.of(kind, s) for kind in (Trade, Quote, Book) for s in symbols), what="data")

    def of(self, kind: type[Any], symbol: str) -> list[Any]:
        return [event for event in self.heard.of(kind) if event.instrument.symbol == symbol]


@pytest_asyncio.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataBench]:
    exchange = coinbase.make_exchange(SystemClock(), rate=60)
    async with LoopbackServer(coinbase.make_site(exchange), tmp_path) as server:
        bench = DataBench(server, exchange)
        yield bench
        await bench.venue.close()


async def test_trades_are_told_by_who_took(data: DataBench) -> None:
    await data.stream(BTC)
    sides = {trade.trade_id: trade.side for trade in data.exchange.market(BTC).tape}
    assert all(sides[trade.trade_id] is trade.side for trade in data.of(Trade, BTC))


async def test_quotes_are_the_best_of_the_book(data: DataBench) -> None:
    await data.stream(BTC)
    data.exchange.show(BTC, Decimal(100), Decimal(101), Decimal(7))
    await until(lambda: data.of(Quote, BTC)[-1].bid == 100, what="what is shown")
    last = data.of(Quote, BTC)[-1]
    assert (last.bid_size, last.ask, last.ask_size) == (7, 101, 7)


async def test_usd_speaks_for_usdc_and_goes_on_without_it(data: DataBench) -> None:
    await data.stream(BTC, "BTC/USDC")
    both = {symbol: {trade.trade_id for trade in data.of(Trade, symbol)} for symbol in (BTC, "BTC/USDC")}
    assert both[BTC] & both["BTC/USDC"]
    await data.venue.unsubscribe("BTC/USDC")
    counts = [len(data.of(kind, BTC)) for kind in (Trade, Quote, Book)]
    await until(
        lambda: all(len(data.of(k, BTC)) > n + 3 for k, n in zip((Trade, Quote, Book), counts, strict=True)),
        what="more",
    )
    assert {status.state for status in data.of(StreamStatus, BTC)} == {StreamState.CONNECTED}


async def test_one_symbol_less_disturbs_no_other(data: DataBench) -> None:
    """ccxt would wait until nothing is subscribed any more."""
    await data.stream(BTC, "ETH/USD")
    await data.venue.unsubscribe("ETH/USD")
    count = len(data.of(Trade, BTC))
    await until(lambda: len(data.of(Trade, BTC)) > count + 5, what="more trades")
    [channel] = data.site.channels
    assert not any("ETH" in topic for topic in channel.topics)
    assert {status.state for status in data.of(StreamStatus, BTC)} == {StreamState.CONNECTED}


async def test_lost_messages_lead_to_a_fresh_book(data: DataBench) -> None:
    await data.stream(BTC)
    data.site.fault_skip()
    await until(lambda: StreamState.INTERRUPTED in data.heard.states, what="the interruption")
    await until(lambda: data.heard.states[-1] is StreamState.CONNECTED, what="the streams to come back")
    ids = [trade.trade_id for trade in data.of(Trade, BTC)]
    assert len(ids) == len(set(ids))


async def test_history_begins_where_there_is_some_without_asking_for_each_empty_page(data: DataBench) -> None:
    await data.venue.connect(data.heard)
    listed_ns = data.exchange.market(BTC).listing.listed_ns
    pages = data.venue.fetch_bars(BTC, "1m", 0, listed_ns + DAY_NS)
    first = await anext(pages)
    assert first[0].open_time_ns == listed_ns
    assert len([request for request in data.server.requests if "/candles" in request]) < 20
    await pages.aclose()  # type: ignore[attr-defined]


async def test_the_clock_is_told_in_milliseconds(data: DataBench) -> None:
    async with stopwatch() as watch:
        await data.venue.connect(data.heard)
    assert abs(data.venue.time_ns() - data.exchange.time_ns()) / 1e9 < 0.3 + watch.held_up_s


async def test_a_quiet_market_is_no_broken_stream(data: DataBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coinbase_client, "QUIET_BEATS", 1)
    data.venue = CoinbaseVenue(SystemClock(), data.server.endpoint, timeouts=Timeouts(silence_s=1.5))
    data.site.beat_ns = 100_000_000
    await data.stream(BTC)
    data.exchange.show(BTC, Decimal(100), Decimal(101), Decimal(7))
    [channel] = data.site.channels
    beats = channel.state.get("beats", 0)
    await until(lambda: channel.state.get("beats", 0) > beats + 20, what="heartbeats for longer than may be silent")
    assert data.heard.states == [StreamState.CONNECTED]
    quotes = [quote for quote in data.of(Quote, BTC) if quote.bid == 100]
    assert len(quotes) == 1, "told once, though the book was told again"


async def test_a_symbol_that_is_gone_disturbs_no_other(data: DataBench) -> None:
    await data.stream(BTC, "ETH/USD")
    data.site.fault_trading("SOL/USD")
    await data.venue.subscribe("SOL/USD")
    await until(lambda: [s.state for s in data.of(StreamStatus, "SOL/USD")][-1:] == [StreamState.ENDED], what="the end")
    count = len(data.of(Trade, BTC))
    await until(lambda: len(data.of(Trade, BTC)) > count + 5, what="more trades")
    assert {status.state for status in data.of(StreamStatus, BTC)} == {StreamState.CONNECTED}


async def test_many_subscriptions_are_sent_little_by_little(data: DataBench) -> None:
    symbols = ("BTC/USD", "ETH/USD", "SOL/USD", "BTC/USDT", "ETH/BTC")
    await data.stream(*symbols)
    assert {data.venue.breaker_state, *(s.state for s in data.heard.of(StreamStatus))} == {
        "closed",
        StreamState.CONNECTED,
    }
