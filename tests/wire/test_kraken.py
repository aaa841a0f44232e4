"""Kraken: what goes wrong with orders, and what is odd about Kraken and ccxt's way with it."""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import uuid
import zlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest
import pytest_asyncio

from koc_qt.adapters.ccxt_exchange import make_session
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.kraken import KrakenTrading, KrakenVenue, kraken_id
from koc_qt.domain.errors import VenueTimeout
from koc_qt.domain.orders import Liquidity, Order
from tests.conditions import PATIENCE, stopwatch, until
from tests.wire.core.dialect import Call
from tests.wire.core.rates import RateCounter
from tests.wire.data_faults import CONNECTED, INTERRUPTED, DataBench, DataFaults, open_data
from tests.wire.loopback import LoopbackServer
from tests.wire.trading_bench import BUY, TradingBench, failure_of, open_bench
from tests.wire.trading_faults import ACCEPTED, CANCELED, FILLED, REJECTED, TradingFaults
from tests.wire.venues import kraken

MINUTE_NS = 60_000_000_000


class QuickTrading(KrakenTrading):
    """Polls more often than the venue would bear for long."""

    POLL_S: ClassVar[float] = 0.3


class TestOrders(TradingFaults):
    ORDER = "/0/private/AddOrder"
    RIGHTS = "query-funds"

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        async with open_bench(QuickTrading, kraken, tmp_path, "BTC/USD") as bench:
            yield bench

    def theirs(self, order: Order) -> str:
        return kraken_id(order.client_order_id)

    # ---- what is Kraken's own ---------------------------------------------------------------------------------------

    def test_ids_that_kraken_would_not_take_become_uuids(self) -> None:
        assert kraken_id("koc-1") == "koc-1"
        long = kraken_id("koc19ab23cd45eabcdef1f")
        assert uuid.UUID(long).version == 4
        assert kraken_id("koc19ab23cd45eabcdef1f") == long != kraken_id("koc19ab23cd45eabcdef20")

    async def test_an_id_of_the_engine_s_length_is_found_and_told_as_ours(self, bench: TradingBench) -> None:
        await bench.connect()
        order = bench.new(BUY, "0.5", 90)
        key = "koc19ab23cd45eabcdef1f"
        bench.orders[key] = order = msgspec.structs.replace(order, client_order_id=key)
        await bench.venue.submit(order)
        await bench.reaches(order, ACCEPTED)
        assert bench.there[0].client_id == kraken_id(key)
        assert [each.client_order_id for each in await bench.venue.open_orders()] == [key]
        await bench.venue.close()
        bench.venue = bench.make()
        await bench.connect()
        fresh = msgspec.structs.replace(order, venue_order_id="")
        report = await bench.venue.find_order(fresh)
        assert report is not None
        assert report.venue_order_id == bench.there[0].id

    async def test_a_request_that_was_overtaken_is_sent_again(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.owned.last_nonce += 3  # as if three others had come before it
        order = await bench.submit(BUY, "0.5", 90)
        await bench.reaches(order, ACCEPTED)
        assert len(bench.there) == 1

    async def test_requests_that_the_network_shuffles_all_arrive(
        self, bench: TradingBench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rng, answer = random.Random(3), bench.site.rest

        async def late(call: Call) -> Any:
            await asyncio.sleep(rng.uniform(0, 0.015))
            return await answer(call)

        await bench.connect()
        monkeypatch.setattr(bench.site, "rest", late)
        orders = [bench.new(BUY, "0.01", 70 + number) for number in range(20)]
        await asyncio.gather(*(bench.venue.submit(order) for order in orders), bench.venue.balances())
        for order in orders:
            await bench.reaches(order, ACCEPTED)
        assert bench.asked("AddOrder") < 30

    async def test_an_order_does_not_wait_for_a_query_that_hangs(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_rest("/0/private/BalanceEx", hang=True)
        asking = asyncio.ensure_future(bench.venue.balances())
        await until(lambda: bench.asked("BalanceEx") > 1, what="the query to be on its way")
        async with stopwatch() as watch:
            await bench.submit(BUY, "0.5", 90)
        assert watch.spent_s < 0.5
        assert isinstance(await failure_of(asking), VenueTimeout)

    async def test_a_key_that_another_program_counts_higher_is_refused_in_words(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.owned.last_nonce *= 1000
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "time or number was not accepted" in rejected.reason
        assert bench.there == []

    async def test_numbers_rise_over_all_connections_of_a_key(self, bench: TradingBench) -> None:
        await bench.connect()
        trial = bench.make()
        reports = await asyncio.gather(trial.check(), bench.venue.check(), bench.make().check())
        assert [report.problem for report in reports] == ["", "", ""]
        await bench.rests()

    @pytest.mark.parametrize(
        ("said", "is_sure"),
        [
            ("EService:Timeout", False),
            ("EService:Busy", False),
            ("EGeneral:Internal error:42", False),
            ("EGeneral:Invalid arguments", True),
            ("EAccount:Invalid permissions:USDT trading restricted for XX", True),
            ("EOrder:Orders limit exceeded", True),
        ],
    )
    async def test_what_kraken_says_is_a_no_or_leaves_it_open(
        self, bench: TradingBench, said: str, is_sure: bool
    ) -> None:
        await bench.connect()
        bench.site.fault_rest(self.ORDER, body=json.dumps({"error": [said]}), times=1)
        order = bench.new(BUY, "0.5", 90)
        if is_sure:
            await bench.venue.submit(order)
            assert said in (await bench.reaches(order, REJECTED)).reason
        else:
            assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)

    async def test_an_outage_leaves_an_order_s_fate_open(self, bench: TradingBench) -> None:
        """Kraken may have taken an order that it answers with EService:Unavailable."""
        await bench.connect()
        bench.site.fault_maintenance()
        error = await failure_of(bench.venue.submit(bench.new(BUY, "0.5", 90)))
        assert isinstance(error, VenueTimeout)

    async def test_too_many_orders_of_a_pair_leave_cancels_alone(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests()
        bench.site.gate.trading = RateCounter(0.5, 1000, decays=True)
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "EOrder:Rate limit exceeded" in rejected.reason
        await bench.venue.cancel(order)
        await bench.reaches(order, CANCELED)

    async def test_a_frame_that_is_missing_is_noticed_by_its_number(self, bench: TradingBench) -> None:
        await bench.connect()
        first, second = await bench.rests(95), await bench.rests(94)
        bench.site.fault_silence()
        bench.exchange.cancel(bench.user, bench.exchange.find(bench.user, kraken_id(first.client_order_id)).id)
        bench.site.fault_silence(public=False, private=False)
        bench.exchange.cancel(bench.user, bench.exchange.find(bench.user, kraken_id(second.client_order_id)).id)
        await bench.reaches(second, CANCELED)
        await bench.reaches(first, CANCELED)
        assert "came after" in bench.venue.last_refusal

    async def test_a_change_keeps_the_order_s_id_though_ccxt_gives_the_change_s(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests()
        await bench.venue.amend(order, Decimal("0.4"), Decimal(89))
        await until(lambda: bench.now(order).request.price == 89, what="the change")
        assert bench.now(order).venue_order_id == order.venue_order_id
        bench.show(88, 89)
        assert (await bench.reaches(order, FILLED)).filled_quantity == Decimal("0.4")

    async def test_a_change_whose_answer_is_lost_is_found(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests()
        bench.site.fault_lose_answer("amend", how="drop")
        error = await failure_of(bench.venue.amend(order, Decimal("0.6"), Decimal(91)))
        assert isinstance(error, VenueTimeout)
        assert await bench.look_up(order) is not None
        assert (bench.now(order).request.quantity, bench.now(order).request.price) == (Decimal("0.6"), Decimal(91))

    async def test_fees_are_in_quote_currency_and_exact(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.submit(BUY, "0.33333333", 101)
        await bench.reaches(order, FILLED)
        (fill,) = bench.fills(order)
        assert (fill.fee, fill.fee_currency) == (Decimal("0.33333333") * 101 * Decimal("0.004"), "USD")
        assert (fill.quantity, fill.price, fill.liquidity) == (Decimal("0.33333333"), Decimal(101), Liquidity.TAKER)


class TestData(DataFaults):
    @pytest_asyncio.fixture
    async def data(self, tmp_path: Path) -> AsyncIterator[DataBench]:
        async with open_data(KrakenVenue, kraken, tmp_path, "BTC/USD", "ETH/USD") as data:
            yield data

    async def test_bars_reach_back_720_of_each_length_and_no_further(self, data: DataBench) -> None:
        await data.venue.connect(data.events.append)
        now_ns = data.exchange.time_ns()
        bars = await data.bars("1m", now_ns - 1440 * MINUTE_NS, now_ns)
        assert 718 <= len(bars) <= 720
        assert bars[0].open_time_ns > now_ns - 721 * MINUTE_NS
        assert await data.bars("1m", now_ns - 2000 * MINUTE_NS, now_ns - 1000 * MINUTE_NS) == []
        days = await data.bars("1d", now_ns - 100 * 1440 * MINUTE_NS, now_ns)
        assert len(days) == 99

    async def test_its_clock_is_never_ahead_and_less_than_a_second_behind(self, data: DataBench) -> None:
        data.exchange.market(data.symbol).held = True
        async with stopwatch() as watch:
            await data.venue.connect(data.events.append)
        behind_ns = data.exchange.time_ns() - data.venue.time_ns()
        assert -50_000_000 < behind_ns < 1_200_000_000 + watch.held_up_s * 1e9
        data.exchange.market(data.symbol).held = False
        await data.venue.subscribe(data.symbol)
        await until(lambda: data.exchange.time_ns() - data.venue.time_ns() < 200_000_000, what="trades to move it on")

    async def test_a_book_that_stays_wrong_is_taken_anew(self, data: DataBench) -> None:
        """Of a level that should have gone no later frame speaks."""
        data.venue = data.make(silence_s=0.8)
        await data.connect()
        await data.goes_on()
        book = data.venue._client.exchange.orderbooks[data.symbol]
        book["bids"].store(book["asks"][0][0] * 2, 1.0)
        why = (await data.reaches(INTERRUPTED)).reason
        assert "crossed book" in why or "silent" in why, why  # quotes are made of it: who notices first is chance
        await data.reaches(CONNECTED)
        await data.goes_on()

    async def test_a_book_is_the_one_that_the_checksums_are_of(self, data: DataBench) -> None:
        """ccxt leaves them unchecked."""
        tls = ssl.create_default_context(cafile=data.server.endpoint.ca_file)
        params = {"channel": "book", "symbol": [data.symbol], "depth": 10}
        sides: dict[str, dict[Decimal, Decimal]] = {"bids": {}, "asks": {}}
        async with (
            make_session(data.server.endpoint, tls) as session,
            session.ws_connect("wss://ws.kraken.com/v2") as socket,
        ):
            await socket.send_json({"method": "subscribe", "params": params})
            for _ in range(20):
                message = json.loads(
                    await socket.receive_str(timeout=5 * PATIENCE), parse_float=Decimal, parse_int=Decimal
                )
                if message.get("channel") == "book":
                    assert data_checksum(message["data"][0], sides) == message["data"][0]["checksum"]
        assert len(sides["bids"]) == len(sides["asks"]) == 10


def data_checksum(told: dict[str, Any], sides: dict[str, dict[Decimal, Decimal]]) -> int:
    """Apply a frame as the venue documents it, and give the checksum of what it makes.

    https://docs.kraken.com/exchange/guides/websockets/book-checksum-v2
    """
    text = ""
    for name, falling in (("asks", False), ("bids", True)):
        for row in told[name]:
            sides[name][row["price"]] = row["qty"]
        ordered = sorted((each for each in sides[name].items() if each[1]), reverse=falling)[:10]
        sides[name] = dict(ordered)
        for price, size in ordered:
            text += f"{price:.1f}".replace(".", "").lstrip("0") + f"{size:.8f}".replace(".", "").lstrip("0")
    return zlib.crc32(text.encode())


class TestCcxt:
    """What the unmodified ccxt makes of Kraken, which is why some of it is done here."""

    @pytest_asyncio.fixture
    async def client(self, tmp_path: Path) -> AsyncIterator[Any]:
        import ccxt.pro

        exchange = kraken.make_exchange(SystemClock(), rate=60.0)
        owned = kraken.add_person(exchange)
        exchange.show("BTC/USD", Decimal(100), Decimal(101), Decimal(10))
        async with LoopbackServer(kraken.make_site(exchange), tmp_path) as server:
            tls = ssl.create_default_context(cafile=server.endpoint.ca_file)
            async with make_session(server.endpoint, tls) as session:
                keys = {"apiKey": owned.key, "secret": owned.secret}
                more = {"session": session, "enableRateLimit": False, "timeout": 2000, "timeout_on_exit": 0}
                client = ccxt.pro.kraken({**keys, **more})
                client.ssl_context = tls
                await client.load_markets()
                yield client
                await client.close()

    async def test_candles_of_a_second_length_are_those_of_the_first(self, client: Any) -> None:
        """So candles are made of trades, as everywhere here."""
        minute = await asyncio.wait_for(client.watch_ohlcv("ETH/USD", "1m"), 5 * PATIENCE)
        again = await asyncio.wait_for(client.watch_ohlcv("ETH/USD", "1d"), 5 * PATIENCE)
        assert again[-1][0] % 86_400_000 != 0 or again[-1][0] == minute[-1][0]
        assert client.ohlcvs["ETH/USD"].keys() == {"1m"}

    async def test_a_word_about_an_order_has_no_id_of_ours(self, client: Any) -> None:
        watching = asyncio.ensure_future(client.watch_orders())
        await asyncio.wait_for(
            client.create_order("BTC/USD", "limit", "buy", 0.5, 90, {"clientOrderId": "mine"}), 5 * PATIENCE
        )
        (order,) = await asyncio.wait_for(watching, 5 * PATIENCE)
        assert order["info"]["cl_ord_id"] == "mine"
        assert order["clientOrderId"] == "0"

    async def test_the_id_of_a_changed_order_is_the_change_s(self, client: Any) -> None:
        order = await client.create_order("BTC/USD", "limit", "buy", 0.5, 90)
        changed = await client.edit_order(order["id"], "BTC/USD", "limit", "buy", 0.4, 91)
        assert changed["id"].startswith("T")
        assert (await client.fetch_order(order["id"]))["price"] == 91

    async def test_a_subscription_that_is_refused_waits_for_ever(self, client: Any) -> None:
        client.markets["NO/SUCH"] = {**client.markets["BTC/USD"], "symbol": "NO/SUCH"}
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.watch_trades("NO/SUCH"), 0.3)
