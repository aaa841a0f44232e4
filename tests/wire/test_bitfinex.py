"""Bitfinex: what goes wrong with orders and data, and what is odd about Bitfinex and ccxt's way with it."""

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

from koc_qt.adapters.ccxt_client import Timeouts
from koc_qt.adapters.ccxt_exchange import make_session
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues import bitfinex as adapter
from koc_qt.adapters.venues.bitfinex import BitfinexTrading, BitfinexVenue, order_cid, tick_size
from koc_qt.domain.errors import VenueRejected, VenueTimeout
from koc_qt.domain.market import Book, Quote, StreamState, Trade
from koc_qt.domain.orders import Order, OrderAmended, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.state import VenueState
from tests.conditions import stopwatch, until
from tests.wire.conftest import QUICK, Heard
from tests.wire.core.accounts import TRADE
from tests.wire.loopback import LoopbackServer
from tests.wire.trading_bench import BUY, SELL, TradingBench, failure_of, open_bench
from tests.wire.trading_faults import TradingFaults
from tests.wire.venues import bitfinex

SOL = "SOL/USD"
FUNDS = {"USD": "100000", "SOL": "50"}
SUBMIT = "/v2/auth/w/order/submit"
ACCEPTED, FILLED, CANCELED = OrderStatus.ACCEPTED, OrderStatus.FILLED, OrderStatus.CANCELED
EXPIRED, REJECTED = OrderStatus.EXPIRED, OrderStatus.REJECTED
CONNECTED, INTERRUPTED = VenueState.CONNECTED, VenueState.INTERRUPTED
Make = Callable[..., Awaitable[Any]]


class QuickTrading(BitfinexTrading):
    """Polls more often than the venue would bear for long."""

    POLL_S: ClassVar[float] = 0.3


@pytest_asyncio.fixture
async def bench(tmp_path: Path) -> AsyncIterator[TradingBench]:
    async with open_bench(QuickTrading, bitfinex, tmp_path, SOL, balances=FUNDS) as bench:
        yield bench


class TestOrders(TradingFaults):
    ORDER: ClassVar[str] = SUBMIT
    RIGHTS: ClassVar[str] = "orders:write"
    HELD_S: ClassVar[float] = 60.0

    def theirs(self, order: Order) -> str:
        return str(order_cid(order.client_order_id))

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        funds = {**FUNDS, "BTC": "2", "ETH": "20"}
        async with open_bench(QuickTrading, bitfinex, tmp_path, SOL, balances=funds) as bench:
            yield bench

    async def test_amounts_between_steps_are_refused_here(self, bench: TradingBench) -> None:
        await bench.connect()
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 100.001), REJECTED)
        assert "price 100.001" in rejected.reason
        assert bench.asked(f"POST {self.ORDER}") == 0

    async def test_a_check_tells_fees_latency_and_balances(self, bench: TradingBench) -> None:
        report = await bench.venue.check()
        assert (report.problem, report.warnings) == ("", ())
        assert (report.maker_fee, report.taker_fee) == (Decimal("0.001"), Decimal("0.002"))
        assert report.latency_ms is not None
        assert self.RIGHTS in report.permissions
        assert {balance.currency for balance in report.balances} == {"USD", "SOL", "BTC", "ETH"}


# ---- ccxt as it is


@pytest_asyncio.fixture
async def plain(bench: TradingBench) -> AsyncIterator[Make]:
    """Make unmodified clients with the trader's key."""
    bench.show(100, 101)
    tls = ssl.create_default_context(cafile=bench.server.endpoint.ca_file)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(make_session(bench.server.endpoint, tls))

        async def make(**config: Any) -> Any:
            keys = {"apiKey": bench.owned.key, "secret": bench.owned.secret, "session": http, "timeout": 2000}
            client = ccxt.pro.bitfinex({**keys, "enableRateLimit": False, "timeout_on_exit": 0, **config})
            client.ssl_context = tls
            stack.push_async_callback(client.close)
            await client.load_markets()
            return client

        yield make


async def test_ids_are_whole_numbers(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    for wrong in ("mine", "12", 1 << 45, 1.5):
        with pytest.raises(ccxt.BadRequest, match="cid: invalid"):
            await client.create_order(SOL, "limit", "buy", 1, 90, {"clientOrderId": wrong})
    await client.create_order(SOL, "limit", "buy", 1, 90, {"clientOrderId": 12})
    assert [order.client_id for order in bench.there] == ["12"]


async def test_ccxt_finds_no_order_that_has_ended_and_says_nothing(plain: Make) -> None:
    client = await plain()
    order = await client.create_order(SOL, "market", "buy", 1)
    assert (await client.fetch_order(order["id"]))["id"] is None
    assert (await client.fetch_order("123"))["id"] is None


async def until_authenticated(bench: TradingBench) -> None:
    await until(lambda: any(channel.user is not None for channel in bench.site.channels), what="the private stream")


async def test_ccxt_tells_no_id_of_ours_on_the_stream(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    watching = asyncio.create_task(client.watch_orders())
    await until_authenticated(bench)
    await client.create_order(SOL, "limit", "buy", 1, 90, {"clientOrderId": 77})
    [told] = await watching
    assert (told["clientOrderId"], told["info"][2]) == (None, 77)


async def test_ccxt_takes_what_ioc_left_over_for_something_unknown(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    bench.show(100, 101, 1)
    order = await client.create_order(SOL, "limit", "buy", 2, 101, {"timeInForce": "IOC"})
    [ended] = [each for each in await client.fetch_closed_orders(SOL) if each["id"] == order["id"]]
    assert ended["status"] not in ("canceled", "expired", "closed")
    assert ended["info"][13].startswith("IOC CANCELED was: PARTIALLY FILLED")


async def test_ccxt_would_order_anew_what_is_filled_already(plain: Make, bench: TradingBench) -> None:
    """A changed amount is what is to remain."""
    client = await plain()
    order = await client.create_order(SOL, "limit", "buy", 2, 95)
    bench.show(94, 95, 1)
    bench.show(100, 101)
    await client.edit_order(order["id"], SOL, "limit", "buy", 2, 95)
    assert (bench.there[0].filled, bench.there[0].quantity) == (Decimal(1), Decimal(3))


async def test_ccxt_calls_every_refusal_a_lack_of_permission(plain: Make) -> None:
    client = await plain()
    with pytest.raises(ccxt.PermissionDenied, match="minimum size"):
        await client.create_order(SOL, "limit", "buy", 0.001, 90)


async def test_fees_have_another_sign_on_the_stream(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    watching = asyncio.create_task(client.watch_my_trades())
    await until_authenticated(bench)
    await client.create_order(SOL, "market", "buy", 1)
    [streamed] = await watching
    [listed] = [trade for trade in await client.fetch_my_trades(SOL) if trade["id"] == streamed["id"]]
    assert streamed["fee"] == {"cost": pytest.approx(-0.002), "currency": "SOL"}
    assert listed["fee"] == {"cost": pytest.approx(0.002), "currency": "SOL"}


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"apiKey": "A" * 43}, ccxt.AuthenticationError, "apikey: invalid"),
        ({"secret": "B" * 43}, ccxt.AuthenticationError, "digest invalid"),
    ],
)
async def test_wrong_keys_are_refused(plain: Make, change: Any, error: Any, says: str) -> None:
    client = await plain(**change)
    with pytest.raises(error, match=says):
        await client.fetch_balance()


async def test_numbers_of_requests_only_rise(plain: Make) -> None:
    client = await plain()
    await client.fetch_balance()
    client.incrementing_nonce = lambda: 5
    with pytest.raises(ccxt.InvalidNonce, match="nonce: small"):
        await client.fetch_balance()


async def test_too_many_requests_are_turned_away(plain: Make, bench: TradingBench) -> None:
    client = await plain()
    bench.site.gate.reads.limit = 1
    await client.fetch_balance()
    with pytest.raises(ccxt.RateLimitExceeded, match="11010"):
        await client.fetch_balance()


# ---- our adapter: orders


def test_numbers_of_a_day_s_orders_do_not_collide() -> None:
    numbers = {order_cid(f"koc-{account}-{at}") for account in ("live", "second") for at in range(100_000)}
    assert len(numbers) == 200_000
    assert 0 < min(numbers) < max(numbers) < 1 << 45


async def test_orders_that_the_venue_could_not_tell_apart_are_not_sent(
    bench: TradingBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "order_cid", lambda _: 7)
    await bench.connect()
    await bench.rests()
    rejected = await bench.reaches(await bench.submit(BUY, "0.5", 91), REJECTED)
    assert "send it anew" in rejected.reason
    assert len(bench.there) == 1


async def test_somebody_else_s_order_of_the_same_number_is_not_taken_for_ours(bench: TradingBench) -> None:
    await bench.connect()
    never = bench.new(BUY, "0.5", 90)
    cid = order_cid(never.client_order_id)
    bench.exchange.place(bench.user, SOL, SELL, OrderType.LIMIT, Decimal(1), Decimal(120), extra={"cid": cid})
    assert await bench.venue.find_order(never) is None


@pytest.mark.parametrize("ends", ["filled", "canceled"])
async def test_an_ended_order_of_an_earlier_session_is_found_by_its_number(bench: TradingBench, ends: str) -> None:
    await bench.connect()
    bench.site.fault_silence()
    bench.site.fault_lose_answer("place", how="drop")
    order = bench.new(BUY, "0.5", 95)
    assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)
    await bench.venue.close()
    if ends == "filled":
        bench.show(94, 95)
    else:
        bench.exchange.cancel(bench.user, bench.there[0].id)
    bench.venue = bench.make()
    await bench.venue.connect(bench.sink)
    assert await bench.look_up(order) is not None
    assert bench.now(order).status is (FILLED if ends == "filled" else CANCELED)


async def test_the_stream_tells_whose_order_it_is(bench: TradingBench) -> None:
    await bench.connect()
    await bench.until_state(CONNECTED)
    order = await bench.submit(BUY, "0.5")
    await bench.reaches(order, FILLED)
    assert bench.asked("/auth/r/order") == 0, "nothing had to be looked for"
    [fill] = bench.fills(order)
    assert (fill.fee, fill.fee_currency) == (Decimal("0.001"), "SOL")


async def test_what_is_changed_keeps_what_is_filled(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.rests(95, "2")
    bench.show(94, 95, 1)
    await bench.reaches(order, OrderStatus.PARTIALLY_FILLED)
    bench.show(100, 101)
    await bench.venue.amend(bench.now(order), Decimal("2.5"), Decimal(96))
    await until(lambda: any(isinstance(event, OrderAmended) for event in bench.events), what="the change")
    there = bench.there[0]
    assert (there.filled, there.quantity, there.price) == (Decimal(1), Decimal("2.5"), Decimal(96))


async def test_a_stop_s_limit_is_changed_and_not_its_trigger(bench: TradingBench) -> None:
    await bench.connect()
    order = await bench.reaches(await bench.submit(SELL, "0.5", 94, stop_price=Decimal(95)), ACCEPTED)
    await bench.venue.amend(order, Decimal("0.5"), Decimal(93))
    await until(lambda: any(isinstance(event, OrderAmended) for event in bench.events), what="the change")
    [there] = bench.there
    assert (there.price, there.stop_price) == (Decimal(93), Decimal(95))
    report = await bench.venue.find_order(bench.now(order))
    assert (report.quantity, report.price) == (Decimal("0.5"), Decimal(93))


async def test_the_connection_of_orders_is_the_one_that_is_kept_warm(bench: TradingBench) -> None:
    await bench.connect()
    assert bench.site.hosts_asked == {"api.bitfinex.com"}


@pytest.mark.parametrize(
    ("force", "size", "filled"), [(TimeInForce.IOC, 1, Decimal(1)), (TimeInForce.FOK, 1, Decimal(0))]
)
async def test_what_cannot_be_filled_at_once_has_expired(
    bench: TradingBench, force: TimeInForce, size: int, filled: Decimal
) -> None:
    await bench.connect()
    bench.show(100, 101, size)
    ended = await bench.reaches(await bench.submit(BUY, "2", 101, time_in_force=force), EXPIRED)
    assert ended.filled_quantity == filled
    assert "CANCELED" in ended.reason


@pytest.mark.parametrize("body", ['["error",10000,"unknown error"]', '{"error":"upstream"}', "oops"])
async def test_a_broken_server_s_words_are_no_refusal(bench: TradingBench, body: str) -> None:
    await bench.connect()
    bench.site.fault_rest(SUBMIT, status=500, body=body, times=1)
    assert isinstance(await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90))), VenueTimeout)


async def test_a_cancel_that_is_not_taken_is_no_cancel(bench: TradingBench) -> None:
    """ccxt does not look."""
    await bench.connect()
    order = await bench.rests()
    body = '[1,"oc-req",null,null,null,null,"ERROR","Order not found."]'
    bench.site.fault_rest("/v2/auth/w/order/cancel", body=body, times=1)
    await bench.venue.cancel(order)
    await until(lambda: bench.refusals(order), what="the refusal")
    assert bench.now(order).status is ACCEPTED


async def test_requests_that_overtake_each_other_are_sent_again(bench: TradingBench) -> None:
    await bench.connect()
    bench.owned.last_nonce += 3  # three requests are overtaken
    await bench.rests()
    assert len(bench.there) == 1


async def test_a_venue_that_restarts_is_connected_to_again(bench: TradingBench) -> None:
    await bench.connect()
    await bench.until_state(CONNECTED)
    [channel] = [channel for channel in bench.site.channels if channel.user is not None]
    bench.site.send_info(channel, 20051, "Stopping. Please try to reconnect")
    assert "reconnect" in await bench.until_state(INTERRUPTED)
    await bench.until_state(CONNECTED)


async def test_reading_keys_are_told_apart(bench: TradingBench) -> None:
    bench.site.fault_key(bench.owned.key, permissions=["read"])
    report = await bench.venue.check()
    assert (report.can_read, report.can_trade, report.can_withdraw) == (True, False, False)
    assert TRADE in report.problem


# ---- market data


class DataBench:
    """A venue of market data on a quick exchange."""

    def __init__(self, server: LoopbackServer, exchange: Any) -> None:
        self.server, self.exchange = server, exchange
        self.site: Any = server.site
        self.venue = BitfinexVenue(SystemClock(), server.endpoint, timeouts=QUICK)
        self.heard = Heard()

    async def stream(self, *symbols: str) -> None:
        await self.venue.connect(self.heard)
        for symbol in symbols:
            await self.venue.subscribe(symbol)
        await until(lambda: all(self.of(kind, s) for kind in (Trade, Quote, Book) for s in symbols), what="data")

    def of(self, kind: type[Any], symbol: str) -> list[Any]:
        return [event for event in self.heard.of(kind) if event.instrument.symbol == symbol]

    def dialed(self) -> int:
        """How often the stream was connected."""
        return sum(line.startswith("GET /ws/2") for line in self.server.requests)

    async def mended(self) -> None:
        await until(lambda: StreamState.INTERRUPTED in self.heard.states, what="the interruption")
        await until(lambda: self.heard.states[-1] is StreamState.CONNECTED, what="the streams to come back")


@pytest_asyncio.fixture
async def data(tmp_path: Path) -> AsyncIterator[DataBench]:
    exchange = bitfinex.make_exchange(SystemClock(), rate=60)
    async with LoopbackServer(bitfinex.make_site(exchange), tmp_path) as server:
        bench = DataBench(server, exchange)
        yield bench
        await bench.venue.close()


@pytest.mark.parametrize(
    ("price", "tick"),
    [("64123", "1"), ("100000", "10"), ("99999", "1"), ("100.01", "0.01"), ("0.05", "0.000001"), ("0.0001", "1E-8")],
)
def test_five_digits_of_a_price_count(price: str, tick: str) -> None:
    assert tick_size(Decimal(price)) == Decimal(tick)


async def test_steps_of_prices_follow_from_the_last_price(data: DataBench) -> None:
    await data.venue.connect(data.heard)
    ticks = {each.id.symbol: each.tick_size for each in await data.venue.instruments()}
    assert ticks == {symbol: market.listing.tick for symbol, market in data.exchange.markets.items()}


async def test_books_agree_with_their_checksums(data: DataBench) -> None:
    await data.stream(SOL)
    books = len(data.of(Book, SOL))
    await until(lambda: len(data.of(Book, SOL)) > books + 20, what="books")
    assert data.heard.states == [StreamState.CONNECTED]
    assert not data.venue.refused


async def test_a_wrong_book_is_noticed_and_taken_anew(data: DataBench) -> None:
    """ccxt would subscribe a second time, which the venue refuses."""
    await data.stream(SOL)
    dialed = data.dialed()
    assert data.site.fault_wrong_book() == 1
    await until(lambda: data.dialed() > dialed, what="another connection")  # told as interrupted, unless it was quick
    books = len(data.of(Book, SOL))
    await until(lambda: len(data.of(Book, SOL)) > books + 5, what="books")


async def test_a_new_connection_begins_a_new_book(data: DataBench) -> None:
    """ccxt would take the snapshot for a change of the old one."""
    await data.stream(SOL)
    data.exchange.show(SOL, Decimal(100), Decimal(101), Decimal(7))
    data.site.fault_drop()
    await data.mended()
    await until(lambda: data.of(Book, SOL)[-1].bids[0].price == data.of(Quote, SOL)[-1].bid == 100, what="the new book")
    assert len(data.of(Book, SOL)[-1].bids) == 1
    last = data.of(Quote, SOL)[-1]
    assert (last.bid, last.bid_size, last.ask_size) == (100, 7, 7), "not the sum over many levels that the ticker has"


async def test_one_symbol_less_disturbs_no_other(data: DataBench) -> None:
    await data.stream(SOL, "BTC/USD")
    await data.venue.unsubscribe("BTC/USD")
    count = len(data.of(Trade, SOL))
    await until(lambda: len(data.of(Trade, SOL)) > count + 5, what="more trades")
    [channel] = data.site.channels
    assert not any("BTC" in topic for topic in channel.topics)


async def test_more_symbols_than_a_connection_carries_are_refused(
    data: DataBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "_MOST_SYMBOLS", 1)
    await data.stream(SOL)
    with pytest.raises(VenueRejected, match="1 symbols at once"):
        await data.venue.subscribe("BTC/USD")


async def test_a_subscription_that_is_refused_says_so(data: DataBench) -> None:
    """ccxt would wait for ever."""
    await data.venue.connect(data.heard)
    data.site.fault_trading("ETH/USD")
    await data.venue.subscribe("ETH/USD")
    await until(lambda: data.heard.states[-1:] == [StreamState.ENDED], what="the end")


@pytest.mark.parametrize("skew_ms", [0, 5_000, -3_600_000])
async def test_the_clock_is_told_by_dates(data: DataBench, skew_ms: int) -> None:
    data.site.fault_skew(skew_ms)
    async with stopwatch() as watch:
        await data.venue.connect(data.heard)
    error_ms = abs(data.venue.time_ns() - data.exchange.time_ns()) / 1e6
    assert error_ms < (100 if skew_ms == 0 else 1_100) + watch.held_up_s * 1e3


async def test_a_quiet_market_is_no_broken_stream(data: DataBench) -> None:
    data.venue = BitfinexVenue(SystemClock(), data.server.endpoint, timeouts=Timeouts(silence_s=1.5))
    data.site.beat_ns = 100_000_000
    await data.stream(SOL)
    data.exchange.show(SOL, Decimal(100), Decimal(101), Decimal(7))
    [channel] = data.site.channels
    beats = channel.state.get("beats", 0)
    await until(lambda: channel.state.get("beats", 0) > beats + 20, what="heartbeats for longer than may be silent")
    assert data.heard.states == [StreamState.CONNECTED]
    quotes = [quote for quote in data.of(Quote, SOL) if quote.bid == 100]
    assert len(quotes) == 1, "told once, though the book was told again"
