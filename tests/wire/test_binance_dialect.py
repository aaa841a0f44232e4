"""The simulated Binance, driven by the unmodified ccxt with its production addresses."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import ccxt
import ccxt.pro
import pytest

from koc_qt.adapters.ccxt_exchange import LoopbackEndpoint, make_session
from koc_qt.adapters.clock import SystemClock
from tests.conditions import PATIENCE, until
from tests.wire.core.accounts import TRADE, ApiKey
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.binance import BinanceExchangeSite, add_person, make_exchange, make_site

BTC = "BTC/USDT"
FUNDS = {"USDT": "100000", "BTC": "2"}
MakeClient = Callable[..., Awaitable[Any]]


@pytest.fixture
async def exchange() -> Exchange:
    return make_exchange(SystemClock())


@pytest.fixture
async def site(exchange: Exchange) -> BinanceExchangeSite:
    return make_site(exchange)


@pytest.fixture
def key(exchange: Exchange) -> ApiKey:
    return add_person(exchange, balances=FUNDS)


@pytest.fixture
async def endpoint(site: BinanceExchangeSite, tmp_path: Path) -> AsyncIterator[LoopbackEndpoint]:
    async with LoopbackServer(site, tmp_path) as server:
        yield server.endpoint


@pytest.fixture
async def http(endpoint: LoopbackEndpoint) -> AsyncIterator[aiohttp.ClientSession]:
    async with make_session(endpoint, ssl.create_default_context(cafile=endpoint.ca_file)) as session:
        yield session


@pytest.fixture
async def make_client(
    endpoint: LoopbackEndpoint, key: ApiKey, http: aiohttp.ClientSession
) -> AsyncIterator[MakeClient]:
    """Make ccxt clients; the default one has the trader's key."""
    async with AsyncExitStack() as stack:

        async def make(*, sandbox: bool = False, load: bool = True, **config: Any) -> Any:
            options = {"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot", **config.pop("options", {})}
            keys = {"apiKey": key.key, "secret": key.secret}
            client = ccxt.pro.binance(
                {
                    **keys,
                    "session": http,
                    "enableRateLimit": False,
                    "timeout": 2000,
                    "timeout_on_exit": 0,
                    "options": options,
                    **config,
                }
            )
            client.ssl_context = ssl.create_default_context(cafile=endpoint.ca_file)
            client.set_sandbox_mode(sandbox)
            stack.push_async_callback(client.close)
            if load:
                await client.load_markets()
            return client

        yield make


@pytest.fixture
async def client(make_client: MakeClient) -> Any:
    return await make_client()


def show(exchange: Exchange, bid: str = "100", ask: str = "101", size: str = "10") -> None:
    exchange.show(BTC, Decimal(bid), Decimal(ask), Decimal(size))


# ---- the market -----------------------------------------------------------------------------------------------------


async def test_markets_carry_the_filters(client: Any) -> None:
    market = client.market(BTC)
    assert market["active"]
    assert (market["precision"]["price"], market["precision"]["amount"]) == (0.01, 0.00001)
    assert market["limits"]["cost"]["min"] == 5
    assert client.currencies["BTC"]["active"]


async def test_candles_of_any_length_join_and_page(client: Any) -> None:
    now_ms = client.milliseconds()
    minutes = await client.fetch_ohlcv(BTC, "1m", now_ms - 3 * 3_600_000, 180)
    hours = await client.fetch_ohlcv(BTC, "1h", now_ms - 3 * 3_600_000, 2)
    [whole] = [hour for hour in hours if hour[0] == hours[0][0]]
    inside = [row for row in minutes if whole[0] <= row[0] < whole[0] + 3_600_000]
    assert len(inside) == 60
    assert max(row[2] for row in inside) == whole[2]
    assert min(row[3] for row in inside) == whole[3]
    assert (inside[0][1], inside[-1][4]) == (whole[1], whole[4])
    assert sum(row[5] for row in inside) == pytest.approx(whole[5])
    assert [row[0] for row in minutes] == [minutes[0][0] + 60_000 * at for at in range(len(minutes))]
    days = await client.fetch_ohlcv(BTC, "1d", limit=30)
    assert len(days) == 30


async def test_the_book_grows_from_snapshot_and_changes(client: Any, exchange: Exchange) -> None:
    for market in exchange.markets.values():
        market.rate = 50
    first = await client.watch_order_book(BTC)
    seen = first["nonce"]
    for _ in range(5):
        book = await client.watch_order_book(BTC)
    assert book["nonce"] > seen
    assert book["bids"][0][0] < book["asks"][0][0]
    assert 20 <= len(book["bids"]) <= 25, "no level that is gone stays"


async def test_a_shown_market_is_what_streams_and_rest_say(client: Any, exchange: Exchange) -> None:
    await client.watch_bids_asks([BTC])
    show(exchange)
    while (await asyncio.wait_for(client.watch_bids_asks([BTC]), 5 * PATIENCE))[BTC]["bid"] != 100:
        pass
    book = await client.fetch_order_book(BTC)
    assert (book["bids"], book["asks"]) == ([[100.0, 10.0]], [[101.0, 10.0]])


async def test_trades_and_candles_stream(client: Any, exchange: Exchange) -> None:
    for market in exchange.markets.values():
        market.rate = 50
    trades = await client.watch_trades(BTC)
    assert trades[-1]["price"] > 0
    [candle] = (await client.watch_ohlcv(BTC, "1m"))[-1:]
    assert candle[3] <= candle[4] <= candle[2]


# ---- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"apiKey": "tooshort"}, ccxt.AuthenticationError, "-2014"),
        ({"apiKey": "A" * 64}, ccxt.AuthenticationError, "-2015"),
        ({"secret": "B" * 64}, ccxt.AuthenticationError, "-1022"),
    ],
)
async def test_wrong_keys_are_refused(make_client: MakeClient, change: Any, error: Any, says: str) -> None:
    client = await make_client(load=False, **change)
    with pytest.raises(error, match=says):
        await client.fetch_balance()


@pytest.mark.parametrize("state", [{"revoked": True}, {"expires_ns": 1}, {"ips": ["10.1.1.1"]}, {"permissions": []}])
async def test_keys_that_may_not_are_refused(
    make_client: MakeClient, site: BinanceExchangeSite, key: ApiKey, state: dict[str, Any]
) -> None:
    client = await make_client(load=False)
    site.fault_key(key.key, **state)
    with pytest.raises(ccxt.AuthenticationError, match="-2015"):
        await client.fetch_balance()


async def test_a_reading_key_reads_and_does_not_trade(
    make_client: MakeClient, site: BinanceExchangeSite, key: ApiKey
) -> None:
    site.fault_key(key.key, permissions=["read"])
    client = await make_client()
    restrictions = await client.sapiGetAccountApiRestrictions()
    assert restrictions["enableReading"] is True
    assert restrictions["enableSpotAndMarginTrading"] is False
    assert (await client.privateGetAccount())["canTrade"] is False
    with pytest.raises(ccxt.BaseError, match="-2015"):
        await client.create_order(BTC, "limit", "buy", 1, 100)


async def test_a_live_key_does_not_open_the_test_network_nor_the_other_way(
    make_client: MakeClient, exchange: Exchange
) -> None:
    other = add_person(exchange, "tester", test_network=True)
    live_key_there = await make_client(sandbox=True)
    with pytest.raises(ccxt.AuthenticationError, match="-2015"):
        await live_key_there.fetch_balance()
    test_key_there = await make_client(sandbox=True, apiKey=other.key, secret=other.secret)
    assert (await test_key_there.fetch_balance())["USDT"]["total"] == 100_000
    test_key_here = await make_client(load=False, apiKey=other.key, secret=other.secret)
    with pytest.raises(ccxt.AuthenticationError, match="-2015"):
        await test_key_here.fetch_balance()


@pytest.mark.parametrize("skew_ms", [-3_000, 20_000])
async def test_a_skewed_clock_is_refused_until_the_difference_is_known(
    make_client: MakeClient, site: BinanceExchangeSite, skew_ms: int
) -> None:
    client = await make_client(load=False)
    site.fault_skew(skew_ms)
    with pytest.raises(ccxt.InvalidNonce, match="-1021"):
        await client.fetch_balance()
    difference = await client.load_time_difference()
    assert abs(difference + skew_ms) < 1_000
    client.options["adjustForTimeDifference"] = True
    assert (await client.fetch_balance())["BTC"]["free"] == 2


# ---- orders ---------------------------------------------------------------------------------------------------------


async def test_a_market_order_is_filled_and_paid(client: Any, exchange: Exchange) -> None:
    show(exchange)
    order = await client.create_order(BTC, "market", "buy", 0.5, params={"newClientOrderId": "koc-1"})
    assert (order["status"], order["filled"], order["average"]) == ("closed", 0.5, 101)
    assert order["clientOrderId"] == "koc-1"
    assert order["fee"] == {"currency": "BTC", "cost": 0.0005}, "of what was bought"
    balance = await client.fetch_balance()
    assert balance["BTC"]["total"] == 2.4995
    assert balance["USDT"]["total"] == 100_000 - 50.5
    [trade] = await client.fetch_my_trades(BTC)
    assert (trade["order"], trade["takerOrMaker"], trade["price"]) == (order["id"], "taker", 101)
    assert order["trades"][0]["id"] == trade["id"]


async def test_a_market_order_by_cost_buys_whole_lots(client: Any, exchange: Exchange) -> None:
    show(exchange)
    order = await client.create_order(BTC, "market", "buy", None, params={"cost": 50})
    assert order["filled"] == 0.49504
    assert order["cost"] <= 50


async def test_a_market_order_beyond_the_book_ends_in_part(client: Any, exchange: Exchange) -> None:
    show(exchange, size="0.2")
    order = await client.create_order(BTC, "market", "buy", 0.5)
    assert (order["status"], order["filled"]) == ("expired", 0.2)


async def test_a_limit_order_rests_is_found_by_either_id_and_cancelled(client: Any, exchange: Exchange) -> None:
    show(exchange)
    order = await client.create_order(BTC, "limit", "buy", 1, 90, {"newClientOrderId": "mine"})
    assert order["status"] == "open"
    [listed] = await client.fetch_open_orders(BTC)
    by_client = await client.fetch_order(None, BTC, {"origClientOrderId": "mine"})
    assert listed["id"] == by_client["id"] == order["id"]
    assert (await client.fetch_balance())["USDT"]["used"] == pytest.approx(90.09)
    cancelled = await client.cancel_order(order["id"], BTC)
    assert cancelled["status"] == "canceled"
    assert cancelled["clientOrderId"] != "mine", "ccxt gives the id of the cancel here, not of the order"
    assert cancelled["info"]["origClientOrderId"] == "mine"
    ended = await client.fetch_order(order["id"], BTC)
    assert (ended["status"], ended["clientOrderId"]) == ("canceled", "mine")
    with pytest.raises(ccxt.OrderNotFound, match="-2011"):
        await client.cancel_order(order["id"], BTC)
    with pytest.raises(ccxt.OrderNotFound, match="-2013"):
        await client.fetch_order(None, BTC, {"origClientOrderId": "never"})


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (("limit", "buy", "1", "90.001"), ccxt.BaseError, "PRICE_FILTER"),
        (("limit", "buy", "1", "90.0000000001"), ccxt.BaseError, "-1111"),
        (("limit", "buy", "1.0000001", "90"), ccxt.BaseError, "LOT_SIZE"),
        (("limit", "buy", "0.00000001", "90"), ccxt.BaseError, "LOT_SIZE"),
        (("limit", "buy", "9001", "9"), ccxt.BaseError, "LOT_SIZE"),
        (("limit", "buy", "0.01", "90"), ccxt.BaseError, "NOTIONAL"),
        (("limit", "buy", "2000", "90"), ccxt.InsufficientFunds, "insufficient balance"),
        (("limit", "sell", "3", "200"), ccxt.InsufficientFunds, "insufficient balance"),
        (("market", "sell", "3", None), ccxt.InsufficientFunds, "insufficient balance"),
        (("market", "buy", "121", None), ccxt.BaseError, "MARKET_LOT_SIZE"),
    ],
)
async def test_what_breaks_a_rule_is_refused_in_the_venues_words(
    client: Any, exchange: Exchange, arguments: Any, error: Any, says: str
) -> None:
    show(exchange, size="5000")
    client.amount_to_precision = client.price_to_precision = lambda _symbol, value: value  # a client that does not care
    kind, side, amount, price = arguments
    with pytest.raises(error, match=says):
        await client.create_order(BTC, kind, side, amount, price)
    assert await client.fetch_open_orders(BTC) == []
    assert (await client.fetch_balance())["USDT"]["used"] == 0


async def test_client_ids_have_a_form_and_are_used_once(client: Any, exchange: Exchange) -> None:
    show(exchange)
    for bad in ("a" * 37, "no spaces", "no:colons"):
        with pytest.raises(ccxt.BadRequest, match="-1100"):
            await client.create_order(BTC, "limit", "buy", 1, 90, {"newClientOrderId": bad})
    await client.create_order(BTC, "limit", "buy", 1, 90, {"newClientOrderId": "a" * 36})
    with pytest.raises(ccxt.InvalidOrder, match="Duplicate order sent"):
        await client.create_order(BTC, "limit", "buy", 1, 90, {"newClientOrderId": "a" * 36})
    assert len(await client.fetch_open_orders(BTC)) == 1


async def test_post_only_and_stops_that_would_act_at_once_are_refused(client: Any, exchange: Exchange) -> None:
    show(exchange)
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await client.create_order(BTC, "limit", "buy", 1, 101, {"postOnly": True})
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await client.create_order(BTC, "market", "sell", 1, None, {"stopLossPrice": 150})
    stop = await client.create_order(BTC, "market", "sell", 1, None, {"stopLossPrice": 95})
    assert (await client.fetch_order(stop["id"], BTC))["triggerPrice"] == 95
    show(exchange, "94", "95")
    sold = await client.fetch_order(stop["id"], BTC)
    assert (sold["status"], sold["average"]) == ("closed", 94)


async def test_ioc_and_fok(client: Any, exchange: Exchange) -> None:
    show(exchange, size="0.2")
    part = await client.create_order(BTC, "limit", "buy", 0.5, 101, {"timeInForce": "IOC"})
    assert (part["status"], part["filled"]) == ("expired", 0.2)
    show(exchange, size="0.2")
    none = await client.create_order(BTC, "limit", "buy", 0.5, 101, {"timeInForce": "FOK"})
    assert (none["status"], none["filled"]) == ("expired", 0)


async def test_an_order_is_replaced_or_made_smaller(client: Any, exchange: Exchange) -> None:
    show(exchange)
    order = await client.create_order(BTC, "limit", "buy", 1, 90)
    edited = await client.edit_order(order["id"], BTC, "limit", "buy", 2, 91)
    assert edited["id"] != order["id"]
    assert (edited["amount"], edited["price"]) == (2, 91)
    assert (await client.fetch_order(order["id"], BTC))["status"] == "canceled"
    change = {"symbol": "BTCUSDT", "orderId": edited["id"], "newQty": "1.5"}
    smaller = await client.request("order/amend/keepPriority", ["private"], "PUT", change)
    assert smaller["amendedOrder"]["qty"] == "1.50000000"
    assert (await client.fetch_order(edited["id"], BTC))["amount"] == 1.5
    with pytest.raises(ccxt.BaseError, match="-2038"):
        await client.request("order/amend/keepPriority", ["private"], "PUT", {**change, "newQty": "9"})
    with pytest.raises(ccxt.BaseError, match="-2021"):
        await client.edit_order(edited["id"], BTC, "limit", "buy", 9000, 91)
    assert await client.fetch_open_orders(BTC) == [], "it was cancelled before the new one was refused"


async def test_a_test_order_changes_nothing(client: Any, exchange: Exchange) -> None:
    show(exchange)
    await client.create_order(BTC, "limit", "buy", 1, 90, {"test": True})
    assert await client.fetch_open_orders(BTC) == []


async def test_a_delisted_and_a_closed_symbol(client: Any, site: BinanceExchangeSite, exchange: Exchange) -> None:
    show(exchange)
    order = await client.create_order(BTC, "limit", "buy", 1, 90)
    site.fault_trading(BTC, "closed")
    with pytest.raises(ccxt.MarketClosed):
        await client.create_order(BTC, "limit", "buy", 1, 90)
    assert (await client.fetch_order(order["id"], BTC))["status"] == "open"
    site.fault_trading(BTC, "delisted")
    with pytest.raises(ccxt.BadSymbol, match="-1121"):
        await client.create_order(BTC, "limit", "buy", 1, 90)
    client.options["fetchOpenOrders"]["warnWithoutSymbol"] = False
    assert await client.fetch_open_orders() == []
    await client.load_markets(reload=True)
    assert client.market(BTC)["active"] is False


# ---- the user data stream -------------------------------------------------------------------------------------------


async def orders_until(client: Any, status: str) -> list[Any]:
    """Wait for an order update of that status; ccxt gives the newest of several of one order that came at once."""
    updates: list[Any] = []
    while not updates or updates[-1]["status"] != status:
        updates += await asyncio.wait_for(client.watch_orders(), 5 * PATIENCE)
    return updates


async def subscribed(client: Any, site: BinanceExchangeSite) -> None:
    """Open the user data stream, as the first watch does."""
    await client.authenticate({"type": "spot"})
    await until(lambda: any(channel.user for channel in site.channels), what="the subscription")


async def test_the_user_stream_tells_orders_trades_and_balances(
    client: Any, site: BinanceExchangeSite, exchange: Exchange
) -> None:
    show(exchange)
    await subscribed(client, site)
    balance = asyncio.create_task(client.watch_balance())
    trades = asyncio.create_task(client.watch_my_trades())
    orders = asyncio.create_task(orders_until(client, "closed"))
    await asyncio.sleep(0)
    sent = await client.create_order(BTC, "market", "buy", 0.5, params={"newClientOrderId": "koc-7"})
    updates = await orders
    assert (updates[-1]["clientOrderId"], updates[-1]["filled"]) == ("koc-7", 0.5)
    [trade] = await trades
    assert (trade["order"], trade["price"], trade["fee"]) == (sent["id"], 101, {"currency": "BTC", "cost": 0.0005})
    assert (await balance)["USDT"]["total"] is not None


async def test_of_a_cancelled_order_the_stream_tells_its_own_client_id(
    client: Any, site: BinanceExchangeSite, exchange: Exchange
) -> None:
    show(exchange)
    order = await client.create_order(BTC, "limit", "buy", 1, 90, {"newClientOrderId": "to-go"})
    await subscribed(client, site)
    updates = asyncio.create_task(orders_until(client, "canceled"))
    await asyncio.sleep(0)
    await client.cancel_order(order["id"], BTC)
    assert (await updates)[-1]["clientOrderId"] == "to-go"


async def test_orders_over_the_websocket_api(client: Any, exchange: Exchange) -> None:
    show(exchange)
    order = await client.create_order_ws(BTC, "limit", "buy", 1, 90, {"newClientOrderId": "by-ws"})
    assert (order["status"], order["clientOrderId"]) == ("open", "by-ws")
    assert (await client.cancel_order_ws(order["id"], BTC))["status"] == "canceled"
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order_ws(BTC, "limit", "buy", 5000, 90)


async def test_who_watches_an_ended_user_stream_again_is_subscribed_again(
    client: Any, site: BinanceExchangeSite, exchange: Exchange
) -> None:
    show(exchange)
    await subscribed(client, site)
    assert site.fault_expire_tokens() == 1
    [connection] = [c for url, c in client.clients.items() if "ws-api" in url]
    await until(lambda: "spot" not in connection.subscriptions, what="ccxt to hear of the end")
    watching = asyncio.create_task(orders_until(client, "open"))
    await until(lambda: any(channel.user for channel in site.channels), what="the new subscription")
    await client.create_order(BTC, "limit", "buy", 1, 90)
    assert (await watching)[-1]["price"] == 90


async def test_private_frames_come_twice_late_and_not_at_all(
    http: aiohttp.ClientSession, client: Any, site: BinanceExchangeSite, exchange: Exchange
) -> None:
    show(exchange)
    async with http.ws_connect("wss://ws-api.binance.com/ws-api/v3") as socket:
        params = client.sign_params({})
        await socket.send_json({"id": "1", "method": "userDataStream.subscribe.signature", "params": params})
        assert (await socket.receive_json(timeout=5 * PATIENCE))["result"] == {"subscriptionId": 0}
        site.fault_duplicate(1)
        await client.create_order(BTC, "limit", "buy", 1, 90)
        frames = [await socket.receive_json(timeout=5 * PATIENCE) for _ in range(3)]
        assert [frame["event"]["e"] for frame in frames] == ["executionReport"] * 2 + ["outboundAccountPosition"]
        assert frames[0] == frames[1]
        site.fault_reorder(4)
        await client.create_order(BTC, "market", "buy", 1)
        late = [(await socket.receive_json(timeout=5 * PATIENCE))["event"] for _ in range(4)]
        assert [event.get("x") for event in late] == [None, "TRADE", None, "NEW"]
        site.fault_silence(public=False)
        await client.create_order(BTC, "limit", "buy", 1, 90)
        await socket.send_json({"id": "2", "method": "ping"})
        assert (await socket.receive_json(timeout=5 * PATIENCE))["id"] == "2", "answers are still given"
        site.fault_clear()
        assert site.fault_drop("private", mid_frame=True) == 1
        with pytest.raises((TypeError, aiohttp.WSMessageTypeError)):
            await socket.receive_json(timeout=5 * PATIENCE)


# ---- limits and faults ----------------------------------------------------------------------------------------------


async def test_headers_tell_what_is_used(client: Any, exchange: Exchange) -> None:
    show(exchange)
    await client.create_order(BTC, "limit", "buy", 1, 90)
    headers = {name.lower(): value for name, value in client.last_response_headers.items()}
    assert int(headers["x-mbx-used-weight-1m"]) > 20
    assert (headers["x-mbx-order-count-10s"], headers["x-mbx-order-count-1d"]) == ("1", "1")


async def test_what_is_heavier_weighs_more(client: Any, site: BinanceExchangeSite, exchange: Exchange) -> None:
    site.gate.weights = RateCounter(6_000, 864_000_000.0)  # no window ends meanwhile
    client.options["fetchOpenOrders"]["warnWithoutSymbol"] = False
    weights: list[float] = []
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: client.fetch_order_book(BTC, 100),
        lambda: client.fetch_order_book(BTC, 1000),
        lambda: client.fetch_open_orders(BTC),
        lambda: client.fetch_open_orders(),
    ]
    for call in calls:
        before = site.gate.weights.used("127.0.0.1", exchange.time_ns())
        await call()
        weights.append(site.gate.weights.used("127.0.0.1", exchange.time_ns()) - before)
    assert weights == [5, 50, 6, 80]


async def test_too_many_requests_are_429_and_going_on_is_a_ban(client: Any, site: BinanceExchangeSite) -> None:
    site.gate.weights = RateCounter(40, 86_400.0)
    site.gate.ban_after = 2
    await client.fetch_balance()
    await client.fetch_balance()
    for status in (429, 429, 418, 418):
        with pytest.raises(ccxt.DDoSProtection, match=str(status)):
            await client.fetch_balance()
        headers = {name.lower(): value for name, value in client.last_response_headers.items()}
        assert int(headers["retry-after"]) > 0
    assert int(headers["retry-after"]) <= 120


async def test_too_many_orders_are_refused(client: Any, site: BinanceExchangeSite, exchange: Exchange) -> None:
    show(exchange)
    site.gate.order_counts["10S"] = RateCounter(1, 86_400.0)
    await client.create_order(BTC, "limit", "buy", 1, 90)
    with pytest.raises(ccxt.DDoSProtection, match="-1015"):
        await client.create_order(BTC, "limit", "buy", 1, 90)
    assert len(await client.fetch_open_orders(BTC)) == 1


@pytest.mark.parametrize("how", ["hang", "drop"])
async def test_an_order_whose_answer_is_lost_is_there(
    make_client: MakeClient, site: BinanceExchangeSite, exchange: Exchange, how: str
) -> None:
    client = await make_client()
    client.timeout = 300
    show(exchange)
    site.fault_lose_answer("place", how=how)
    with pytest.raises(ccxt.NetworkError):
        await client.create_order(BTC, "limit", "buy", 1, 90, {"newClientOrderId": "lost"})
    found = await client.fetch_order(None, BTC, {"origClientOrderId": "lost"})
    assert found["status"] == "open"
    site.fault_lose_answer("cancel", how=how)
    # of a connection that breaks, aiohttp repeats what may be repeated: a DELETE, which finds nothing then
    with pytest.raises(ccxt.NetworkError if how == "hang" else ccxt.OrderNotFound):
        await client.cancel_order(found["id"], BTC)
    assert (await client.fetch_order(found["id"], BTC))["status"] == "canceled"


async def test_faults_before_anything_is_done(client: Any, site: BinanceExchangeSite, exchange: Exchange) -> None:
    show(exchange)
    faults: list[tuple[Callable[[], Any], type[Exception]]] = [
        (lambda: site.fault_rate_limit(1, 3), ccxt.DDoSProtection),
        (lambda: site.fault_rate_limit(1, 60, banned=True), ccxt.DDoSProtection),
        (lambda: site.fault_server_error("/api/v3/order", 502, 1), ccxt.ExchangeNotAvailable),
        (lambda: site.fault_maintenance(), ccxt.ExchangeNotAvailable),
    ]
    for fault, error in faults:
        fault()
        with pytest.raises(error):
            await client.create_order(BTC, "limit", "buy", 1, 90)
        site.fault_clear()
    assert await client.fetch_open_orders(BTC) == []


async def test_thin_markets_fill_in_part(client: Any, site: BinanceExchangeSite, exchange: Exchange) -> None:
    show(exchange)
    site.fault_partial(BTC, "0.3")
    order = await client.create_order(BTC, "limit", "buy", 1, 101)
    assert (order["status"], order["filled"]) == ("open", 0.3)
    site.fault_partial(BTC)
    assert (await client.fetch_order(order["id"], BTC))["status"] == "closed"


async def test_faults_from_another_process(
    http: aiohttp.ClientSession, client: Any, site: BinanceExchangeSite, key: ApiKey
) -> None:
    order = {"method": "key", "key": key.key, "permissions": [TRADE]}
    async with http.post("https://api.binance.com/_wire/faults", json=order) as answer:
        assert answer.status == 200
    with pytest.raises(ccxt.BaseError, match="-2015"):
        await client.fetch_balance()


def test_it_can_be_started_by_hand() -> None:
    command = [sys.executable, "-m", "tests.wire", "--venue", "binance", "--exchange"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10 * PATIENCE) == 0
    assert set(line) == {"host", "port", "ca_file", "venue", "symbols", "accounts"}
    assert line["accounts"]["live"]["permissions"] == ["read", "trade"]
    assert line["accounts"]["live"]["key"] != line["accounts"]["testnet"]["key"]
