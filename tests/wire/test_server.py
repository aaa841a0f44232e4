"""The loopback server itself: its protocol, its laps, its recordings, and it as a process of its own."""

from __future__ import annotations

import asyncio
import gzip
import json
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from koc_qt.adapters.ccxt_exchange import LoopbackEndpoint, make_session
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.binance import BinanceVenue
from koc_qt.domain.market import Book, StreamState, Trade
from tests.conditions import PATIENCE, until, wait_until
from tests.wire.binance import BinanceSite
from tests.wire.conftest import QUICK, Heard, MakeBench, twenty_seconds
from tests.wire.loopback import LoopbackServer
from tests.wire.market import Market
from tests.wire.recording import Frame, load, parse
from tests.wire.replay import AtEnd, Replay
from tests.wire.synthetic import lines, synthetic

API, STREAMS = "https://api.binance.com", "wss://stream.binance.com:9443"


@pytest.fixture
async def site() -> BinanceSite:
    return BinanceSite(twenty_seconds(), speed=10)


@pytest.fixture
async def http(site: BinanceSite, tmp_path: Path) -> AsyncIterator[aiohttp.ClientSession]:
    async with LoopbackServer(site, tmp_path) as server:
        tls = ssl.create_default_context(cafile=server.endpoint.ca_file)
        async with make_session(server.endpoint, tls) as session:
            yield session


async def next_json(socket: aiohttp.ClientWebSocketResponse) -> Any:
    return json.loads(await socket.receive_str(timeout=5 * PATIENCE))


async def test_combined_streams_are_wrapped_and_raw_ones_are_not(http: aiohttp.ClientSession) -> None:
    async with (
        http.ws_connect(f"{STREAMS}/stream?streams=btcusdt@aggTrade/btcusdt@trade") as combined,
        http.ws_connect(f"{STREAMS}/ws/btcusdt@trade") as raw,
    ):
        messages = [await next_json(combined) for _ in range(2)]
        by_stream = {message["stream"]: message["data"] for message in messages}
        trade, aggregate = by_stream["btcusdt@trade"], by_stream["btcusdt@aggTrade"]
        assert aggregate["e"] == "aggTrade"
        assert aggregate["a"] == aggregate["f"] == aggregate["l"] == trade["t"]
        assert (await next_json(raw))["e"] == "trade"


async def test_subscriptions_come_and_go(http: aiohttp.ClientSession) -> None:
    async with http.ws_connect(f"{STREAMS}/ws/0") as socket:
        for order, answer in [
            ({"method": "SUBSCRIBE", "params": ["no@stream"], "id": 1}, {"result": None, "id": 1}),
            ({"method": "LIST_SUBSCRIPTIONS", "id": 2}, {"result": ["no@stream"], "id": 2}),
            ({"method": "UNSUBSCRIBE", "params": ["no@stream"], "id": 3}, {"result": None, "id": 3}),
            ({"method": "LIST_SUBSCRIPTIONS", "id": 4}, {"result": [], "id": 4}),
        ]:
            await socket.send_json(order)
            assert await next_json(socket) == answer
        await socket.send_json({"method": "DANCE", "id": 5})
        assert (await next_json(socket))["error"]["code"] == 2
        await socket.send_str("nonsense")
        assert (await next_json(socket))["error"]["code"] == 3


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/api/v3/klines?symbol=BTCUSDT&interval=7m", -1120),
        ("/api/v3/klines?symbol=NOPE&interval=1m", -1121),
        ("/api/v3/klines?interval=1m", -1102),
        ("/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=few", -1100),
        ("/api/v3/depth?symbol=NOPE", -1121),
    ],
)
async def test_refusals_are_binances(http: aiohttp.ClientSession, path: str, code: int) -> None:
    async with http.get(API + path) as response:
        assert response.status == 400
        assert (await response.json())["code"] == code


async def test_rest_knows_the_present_moment_and_no_more(http: aiohttp.ClientSession, site: BinanceSite) -> None:
    site.replay.fast_forward(10)
    async with http.get(f"{API}/api/v3/trades?symbol=BTCUSDT&limit=5") as response:
        newest = (await response.json())[-1]
    async with http.get(f"{API}/api/v3/time") as response:
        now_ms = (await response.json())["serverTime"]
    assert now_ms - 1000 < newest["time"] <= now_ms
    async with http.get(f"{API}/api/v3/klines?symbol=BTCUSDT&interval=1s&limit=3") as response:
        candles = await response.json()
    assert [candle[6] + 1 for candle in candles[:-1]] == [candle[0] for candle in candles[1:]]
    assert candles[-1][0] <= now_ms <= candles[-1][6], "the last one is not closed"
    assert candles[-1][4] == newest["price"]
    async with http.get(f"{API}/api/v3/exchangeInfo") as response:
        statuses = {symbol["symbol"]: symbol["status"] for symbol in (await response.json())["symbols"]}
    assert statuses == {"BTCUSDT": "TRADING", "LUNAUSDT": "BREAK"}


async def test_hosts_and_paths_that_are_not_the_venues(http: aiohttp.ClientSession) -> None:
    async with http.get(f"{API}/api/v3/nothing") as response:
        assert response.status == 404
    async with http.get("https://localhost/api/v3/time") as response:
        assert response.status == 421


async def test_faults_can_be_ordered_from_another_process(http: aiohttp.ClientSession, site: BinanceSite) -> None:
    async with http.post(f"{API}/_wire/faults", json={"method": "rest", "path": "/api/v3/ping", "status": 503}) as done:
        assert done.status == 200
    async with http.get(f"{API}/api/v3/ping") as response:
        assert response.status == 503
    async with http.post(f"{API}/_wire/faults", json={"method": "nothing"}) as unknown:
        assert unknown.status == 404


async def test_laps_go_on_in_time_ids_and_book(make_bench: MakeBench) -> None:
    recording = synthetic(seed=4, seconds=4)
    bench = await make_bench(recording, speed=8, at_end=AtEnd.LOOP)
    await bench.venue.subscribe("BTC/USDT")
    count = len(recording.of_kind("trade"))
    await until(lambda: len(bench.heard.of(Trade)) > 3 * count, what="three laps", timeout_s=20)
    ids = [int(trade.trade_id) for trade in bench.heard.of(Trade)]
    assert ids == list(range(ids[0], ids[0] + len(ids)))
    for kind in (Trade, Book):
        times = [event.time_ns for event in bench.heard.of(kind)]  # type: ignore[attr-defined]
        assert times == sorted(times)
    assert bench.heard.states == [StreamState.CONNECTED], "the book never had to begin anew"
    assert not bench.venue.refused


async def test_a_lap_leads_the_book_back_to_its_beginning() -> None:
    recording, frames = synthetic(seed=4, seconds=2), list[Frame]()
    replay = Replay(recording, frames.append, speed=100, at_end=AtEnd.LOOP)
    replay.start()
    await until(lambda: len(frames) > 2 * len(recording.frames), what="two laps")
    await replay.stop()
    market = Market(recording.symbol, recording.snapshot)
    last = market.update_id
    for frame in frames:
        if frame.kind == "depth@100ms":
            assert frame.data["U"] == last + 1
            last = frame.data["u"]
            market.apply(frame)
            if len(frame.data["b"]) >= len(recording.snapshot["bids"]):
                depth = market.depth(1000)
                assert (depth["bids"], depth["asks"]) == (recording.snapshot["bids"], recording.snapshot["asks"])
    assert last > recording.frames[-1].data.get("u", 0)


def test_the_same_seed_makes_the_same_recording(tmp_path: Path) -> None:
    assert synthetic(seed=9, seconds=3) == synthetic(seed=9, seconds=3)
    assert synthetic(seed=9, seconds=3) != synthetic(seed=10, seconds=3)
    file = tmp_path / "frames.gz"
    with gzip.open(file, "wt", encoding="utf-8") as out:
        out.writelines(line + "\n" for line in lines(seed=9, seconds=3))
    assert load(file) == synthetic(seed=9, seconds=3)


def test_a_synthetic_market_is_consistent() -> None:
    recording = synthetic(seed=9, seconds=20)
    market = Market(recording.symbol, recording.snapshot)
    for frame in recording.frames:
        market.apply(frame)
        if frame.kind == "bookTicker":
            assert Decimal(frame.data["b"]) < Decimal(frame.data["a"])
        elif frame.kind == "trade":
            assert Decimal(frame.data["q"]) > 0
    top = market.depth(1)
    assert Decimal(top["bids"][0][0]) < Decimal(top["asks"][0][0])


@pytest.mark.parametrize("text", [[], ['1 {"stream":"a@trade","data":{"s":"A","E":1}}'], ['1 {"lastUpdateId":5}']])
def test_a_recording_without_frames_or_snapshot_is_refused(text: list[str]) -> None:
    with pytest.raises(ValueError, match="a recording needs"):
        parse(text)


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.wire", "--venue", "binance", *arguments],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_as_a_process_it_serves_the_unmodified_client_and_ends() -> None:
    with start("--synthetic", "--seconds", "6", "--speed", "6") as process:
        assert process.stdout is not None
        ready = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert (ready["venue"], ready["symbol"], ready["host"]) == ("binance", "BTCUSDT", "127.0.0.1")
        endpoint = LoopbackEndpoint.parse(f"{ready['host']}:{ready['port']}", ready["ca_file"])
        venue, heard = BinanceVenue(SystemClock(), endpoint, timeouts=QUICK), Heard()
        await venue.connect(heard)
        await venue.subscribe("BTC/USDT")
        await until(lambda: len(heard.of(Trade)) > 50, what="trades")
        ended = json.loads(await asyncio.to_thread(process.stdout.readline))
        assert ended == {"event": "ended", "sent": ready["frames"]}
        await until(lambda: process.poll() is not None, what="its end")
        await venue.close()
        assert process.returncode == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert not Path(ready["ca_file"]).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGTERM ends a process at once there")
def test_as_a_process_it_loops_until_it_is_told_to_end() -> None:
    with start("--synthetic", "--seconds", "1", "--loop", "--now") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.poll() is not None, what="its end")
        assert process.returncode == 0
        assert process.stderr.read() == ""


def test_as_a_process_it_says_what_it_cannot_read(tmp_path: Path) -> None:
    with start("--frames", str(tmp_path / "nothing.gz")) as process:
        _, error = process.communicate(timeout=30 * PATIENCE)
    assert process.returncode == 2
    assert "cannot serve" in error
    assert "nothing.gz" in error
