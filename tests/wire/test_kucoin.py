"""KuCoin: what goes wrong with orders, and what is odd about KuCoin and ccxt's way with it."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import pytest
import pytest_asyncio

from koc_qt.adapters.ccxt_exchange import make_session
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.kucoin import KucoinTrading, KucoinVenue
from koc_qt.domain.errors import VenueRejected, VenueTimeout
from koc_qt.domain.orders import Liquidity
from koc_qt.domain.timeframes import DAY_NS
from tests.conditions import until
from tests.wire.data_faults import CONNECTED as STREAMING
from tests.wire.data_faults import INTERRUPTED as BROKEN
from tests.wire.data_faults import DataBench, DataFaults, open_data
from tests.wire.loopback import LoopbackServer
from tests.wire.trading_bench import BUY, SELL, TradingBench, failure_of, open_bench
from tests.wire.trading_faults import ACCEPTED, CONNECTED, FILLED, INTERRUPTED, REJECTED, TradingFaults
from tests.wire.venues import kucoin


class QuickTrading(KucoinTrading):
    """Polls more often than the venue would bear for long."""

    POLL_S: ClassVar[float] = 0.3


class TestOrders(TradingFaults):
    ORDER = "/api/v1/hf/orders"
    RIGHTS = "General"

    @pytest_asyncio.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[TradingBench]:
        async with open_bench(QuickTrading, kucoin, tmp_path) as bench:
            yield bench

    # ---- what is KuCoin's own ---------------------------------------------------------------------------------------

    async def test_fills_have_the_fees_that_the_stream_does_not_tell(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.submit(BUY, "0.33333", 101)
        await bench.reaches(order, FILLED)
        (fill,) = bench.fills(order)
        assert (fill.fee, fill.fee_currency) == (Decimal("0.33333") * 101 * Decimal("0.001"), "USDT")
        assert (fill.quantity, fill.price, fill.liquidity) == (Decimal("0.33333"), Decimal(101), Liquidity.TAKER)
        assert fill.fill_id == bench.there[0].fills[0].id

    @pytest.mark.parametrize(
        ("code", "words", "is_sure"),
        [
            ("408000", "Network timeout, please try again later", False),
            ("500000", "Internal Server Error", False),
            ("230005", "System error", False),
            ("400370", "Max. price: 0.025", True),
            ("400500", "Your located country/region is currently not supported", True),
        ],
    )
    async def test_what_kucoin_says_is_a_no_or_leaves_it_open(
        self, bench: TradingBench, code: str, words: str, is_sure: bool
    ) -> None:
        await bench.connect()
        bench.site.fault_rest(self.ORDER, body=json.dumps({"code": code, "msg": words}), times=1)
        order = bench.new(BUY, "0.5", 90)
        if is_sure:
            await bench.venue.submit(order)
            assert words in (await bench.reaches(order, REJECTED)).reason
        else:
            assert isinstance(await failure_of(bench.venue.submit(order)), VenueTimeout)

    async def test_a_wrong_passphrase_is_refused_in_words(self, bench: TradingBench) -> None:
        venue = bench.make(passphrase="not this one")
        error = await failure_of(venue.connect(bench.sink))
        assert isinstance(error, VenueRejected)
        assert "does not accept the API key" in str(error)
        assert "not this one" not in str(error)

    async def test_a_unified_account_is_refused_in_words(self, bench: TradingBench) -> None:
        bench.user.extra["unified"] = True
        error = await failure_of(bench.venue.connect(bench.sink))
        assert isinstance(error, VenueRejected)
        assert "classic mode" in str(error)
        assert "unified" in (await bench.make().check()).problem

    async def test_what_is_in_the_funding_account_cannot_be_traded(self, bench: TradingBench) -> None:
        await bench.connect()
        balances = {balance.currency: balance.total for balance in await bench.venue.balances()}
        assert balances == {"USDT": Decimal(100_000), "BTC": Decimal(2), "ETH": Decimal(20)}

    async def test_each_connection_has_a_token_of_its_own(self, bench: TradingBench) -> None:
        await bench.connect()
        await bench.until_state(CONNECTED)
        assert bench.asked("bullet-private") == 1
        bench.site.fault_drop("private")
        reason = await bench.until_state(INTERRUPTED)
        assert "token" not in reason, "it is in the connection's address"
        await bench.until_state(CONNECTED)
        assert bench.asked("bullet-private") == 2

    async def test_a_stop_keeps_its_id_though_kucoin_gives_it_another(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.submit(SELL, "0.5", stop_price=Decimal(95))
        waiting = await bench.reaches(order, ACCEPTED)
        assert waiting.venue_order_id.startswith("vs")
        bench.show(94, 95)
        done = await bench.reaches(order, FILLED)
        assert done.venue_order_id == waiting.venue_order_id
        report = await bench.look_up(order)
        assert report is not None
        assert (report.venue_order_id, len(report.fills)) == (waiting.venue_order_id, 1)

    async def test_a_clock_that_is_wrong_later_is_set_anew(self, bench: TradingBench) -> None:
        await bench.connect()
        bench.site.fault_skew(60_000)
        rejected = await bench.reaches(await bench.submit(BUY, "0.5", 90), REJECTED)
        assert "try again" in rejected.reason
        await until(lambda: abs(bench.venue.time_ns() - bench.exchange.time_ns()) < 500_000_000, what="the clock")
        await bench.rests()

    async def test_headers_feed_the_budget(self, bench: TradingBench) -> None:
        await bench.connect()
        used = bench.venue.budget.used("spot")
        bench.site.gate.pools["spot"].take("trader", 500, bench.exchange.time_ns())  # another program of the same owner
        await bench.rests()
        assert bench.venue.budget.used("spot") >= 500 > used

    async def test_executions_are_asked_for_week_by_week(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.submit(BUY, "0.5", 101)
        await bench.reaches(order, FILLED)
        (trade,) = await bench.venue.trades(bench.venue.time_ns() - 20 * 86_400_000_000_000)
        assert trade.client_order_id == order.client_order_id

    async def test_it_cannot_change_orders_and_says_so(self, bench: TradingBench) -> None:
        await bench.connect()
        order = await bench.rests()
        with pytest.raises(VenueRejected, match="cancel it and send another"):
            await bench.venue.amend(order, Decimal(1), Decimal(91))


class TestData(DataFaults):
    @pytest_asyncio.fixture
    async def data(self, tmp_path: Path) -> AsyncIterator[DataBench]:
        async with open_data(KucoinVenue, kucoin, tmp_path, "BTC/USDT", "ETH/USDT") as data:
            yield data

    async def test_each_connection_has_a_token_of_its_own(self, data: DataBench) -> None:
        """ccxt would go on with the first until its end."""
        await data.connect()
        data.site.fault_expire_tokens()
        data.site.fault_drop("public")
        await data.reaches(BROKEN)
        await data.reaches(STREAMING)
        await data.goes_on()
        assert sum("bullet-public" in request for request in data.server.requests) == 2

    async def test_bars_from_long_before_a_listing_begin_with_it(self, data: DataBench) -> None:
        """An empty page is not the end: KuCoin has no bars where nobody traded, and looks at 1,500 at most."""
        market = data.exchange.market(data.symbol)
        now_ns = data.exchange.time_ns()
        listed_ns = now_ns - 2 * DAY_NS
        listed_ns -= listed_ns % 60_000_000_000
        market.listing = dataclasses.replace(market.listing, listed_ns=listed_ns)
        market._history._listing = market.listing
        await data.venue.connect(data.events.append)
        asked = len(data.server.requests)
        bars = await data.bars("1m", now_ns - 3000 * DAY_NS, now_ns)
        assert bars[0].open_time_ns == listed_ns
        steps = {later.open_time_ns - bar.open_time_ns for bar, later in itertools.pairwise(bars)}
        assert steps == {60_000_000_000}
        assert len(bars) > 2 * 1440 - 5
        assert len(data.server.requests) - asked < 12
        assert await data.bars("1m", now_ns - 3000 * DAY_NS, now_ns - 2000 * DAY_NS) == []

    async def test_pages_join_without_a_seam(self, data: DataBench) -> None:
        await data.venue.connect(data.events.append)
        until_ns = data.exchange.time_ns() - DAY_NS
        until_ns -= until_ns % 60_000_000_000
        bars = await data.bars("1m", until_ns - 3100 * 60_000_000_000, until_ns)
        assert [bar.open_time_ns for bar in bars] == list(
            range(until_ns - 3100 * 60_000_000_000, until_ns, 60_000_000_000)
        )


class TestCcxt:
    """What the unmodified ccxt makes of KuCoin, which is why some of it is done here."""

    @pytest_asyncio.fixture
    async def client(self, tmp_path: Path) -> AsyncIterator[Any]:
        import ccxt.pro

        exchange = kucoin.make_exchange(SystemClock(), rate=60.0)
        owned = kucoin.add_person(exchange)
        exchange.show("BTC/USDT", Decimal(100), Decimal(101), Decimal(10))
        async with LoopbackServer(kucoin.make_site(exchange), tmp_path) as server:
            tls = ssl.create_default_context(cafile=server.endpoint.ca_file)
            async with make_session(server.endpoint, tls) as session:
                keys = {"apiKey": owned.key, "secret": owned.secret, "password": owned.passphrase}
                more = {"session": session, "enableRateLimit": False, "timeout": 2000, "timeout_on_exit": 0}
                options = {"fetchMarkets": {"types": ["spot"], "fetchTickersFees": False}}
                client = ccxt.pro.kucoin({**keys, **more, "options": options})
                client.ssl_context = tls
                await client.load_markets(False, {"marginables": False})
                yield client
                await client.close()

    async def test_a_new_order_has_ids_alone(self, client: Any) -> None:
        order = await client.create_order("BTC/USDT", "limit", "buy", 0.5, 90, {"clientOid": "mine"})
        assert (order["clientOrderId"], order["status"], order["amount"]) == ("mine", None, None)

    async def test_an_order_that_is_not_there_is_an_empty_one(self, client: Any) -> None:
        order = await client.fetch_order(None, "BTC/USDT", {"clientOid": "nobodys"})
        assert (order["id"], order["status"]) == (None, None)

    async def test_open_orders_need_a_symbol(self, client: Any) -> None:
        import ccxt

        with pytest.raises(ccxt.ArgumentsRequired):
            await client.fetch_open_orders()

    async def test_the_stream_s_fills_have_no_fees(self, client: Any) -> None:
        watching = asyncio.ensure_future(client.watch_my_trades())

        async def bought() -> bool:
            await client.create_order("BTC/USDT", "market", "buy", 0.01)
            return bool(watching.done())

        filled: Awaitable[bool] = until(bought, what="a fill on the stream")
        await filled
        (trade, *_) = watching.result()
        assert trade["fee"]["cost"] is None

    async def test_the_address_of_a_connection_is_kept_though_its_token_has_ended(self, client: Any) -> None:
        first = await client.negotiate(False)
        await client.client(first).close()
        client.clients.pop(first, None)
        assert await client.negotiate(False) == first

    async def test_an_order_is_changed_by_another_in_its_place(self, client: Any) -> None:
        order = await client.create_order("BTC/USDT", "limit", "buy", 0.5, 90, {"clientOid": "mine"})
        changed = await client.edit_order(order["id"], "BTC/USDT", "limit", "buy", 0.4, 91)
        assert changed["id"] != order["id"]
        assert (await client.fetch_order(order["id"], "BTC/USDT"))["status"] == "canceled"
