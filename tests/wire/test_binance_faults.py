"""What goes wrong at a venue is said in the right words, mended where it can be, and never doubles or invents data."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.binance import BinanceVenue
from koc_qt.domain.errors import ConfigError, KocError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.market import Bar, Book, Quote, StreamState, StreamStatus, Trade
from koc_qt.resilience import Breaker, BreakerChange
from tests.conditions import until
from tests.wire.authority import make_authority
from tests.wire.binance import BinanceSite
from tests.wire.conftest import QUICK, Bench, Heard, MakeBench
from tests.wire.loopback import LoopbackServer
from tests.wire.recording import Recording
from tests.wire.synthetic import synthetic

CONNECTED, INTERRUPTED, ENDED = StreamState.CONNECTED, StreamState.INTERRUPTED, StreamState.ENDED
KLINES = "/api/v3/klines"


@cache
def long_recording() -> Recording:
    return synthetic(seed=5, seconds=180)


async def streaming(bench: Bench) -> Bench:
    """Subscribe and wait until all streams deliver."""
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states[-1:] == [CONNECTED], what="all streams")
    await until(lambda: bench.heard.of(Trade) and bench.heard.of(Quote) and bench.heard.of(Book), what="data")
    return bench


async def mended(bench: Bench, times: int = 1) -> None:
    """Wait until the streams were interrupted and have come back, and data flows."""
    heard = bench.heard
    await until(lambda: heard.states.count(INTERRUPTED) >= times, what="the interruption")
    await until(lambda: heard.states[-1] is CONNECTED, what="the streams to come back")
    trades = len(heard.of(Trade))
    await until(lambda: len(heard.of(Trade)) > trades + 5, what="more trades")


def assert_each_trade_once_and_as_recorded(bench: Bench) -> None:
    ids = [int(trade.trade_id) for trade in bench.heard.of(Trade)]
    assert all(one < other for one, other in pairwise(ids)), "no trade twice, none out of order"
    recorded = {frame.data["t"]: frame.data["p"] for frame in bench.site.replay.recording.of_kind("trade")}
    assert all(float(recorded[int(t.trade_id)]) == float(t.price) for t in bench.heard.of(Trade))


async def bars(venue: BinanceVenue) -> Sequence[Bar]:
    return [bar async for page in venue.fetch_bars("BTC/USDT", "1s", 0, 2**62) for bar in page]


@pytest.mark.parametrize("kind", ["trade", "bookTicker", "depth@100ms", ""])
async def test_a_broken_connection_is_mended_without_a_double(make_bench: MakeBench, kind: str) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    assert bench.site.fault_drop(kind) == (1 if kind else 3)
    await mended(bench)
    assert_each_trade_once_and_as_recorded(bench)
    assert bench.heard.states == [CONNECTED, INTERRUPTED, CONNECTED]
    [interruption] = [s for s in bench.heard.of(StreamStatus) if s.state is INTERRUPTED]
    assert interruption.reason.startswith("binance")
    last = bench.heard.of(Book)[-1]
    assert last.bids[0].price < last.asks[0].price
    assert not bench.venue.refused
    assert bench.venue.breaker_state == "closed"


async def test_trades_that_come_again_after_a_reconnect_are_not_repeated(make_bench: MakeBench) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    bench.site.fault_drop("trade")
    await mended(bench)
    seen = {trade.trade_id for trade in bench.heard.of(Trade)}
    again = [f for f in bench.site.replay.recording.of_kind("trade") if str(f.data["t"]) in seen]
    for frame in again[-50:]:
        bench.site.publish(frame.stream, frame.data)
    trades = len(bench.heard.of(Trade))
    await until(lambda: len(bench.heard.of(Trade)) > trades + 5, what="new trades")
    assert_each_trade_once_and_as_recorded(bench)


async def test_a_server_that_restarts_is_found_again(tmp_path: Path) -> None:
    recording = long_recording()
    site = BinanceSite(recording, speed=4)
    heard = Heard()
    async with LoopbackServer(site, tmp_path) as server:
        endpoint = server.endpoint
        venue = BinanceVenue(SystemClock(), endpoint, timeouts=QUICK)
        await venue.connect(heard)
        await venue.subscribe("BTC/USDT")
        await until(lambda: heard.states == [CONNECTED] and heard.of(Trade), what="all streams, and a trade")
    await until(lambda: heard.states[-1] is INTERRUPTED, what="the interruption")
    second = LoopbackServer(BinanceSite(recording, speed=4, start_at_s=60), tmp_path, endpoint.port)
    second.authority = server.authority
    async with second:
        await until(lambda: heard.states[-1] is CONNECTED, what="the streams to come back", timeout_s=60)
        await venue.close()
    assert heard.states == [CONNECTED, INTERRUPTED, CONNECTED, ENDED]


@pytest.mark.parametrize(
    "garbage", ['{"e":"trade","s":', "hello", "[1, 2]", "[]", "null", "{}", '{"e":5}', "<html>", ""]
)
async def test_garbage_harms_nothing(make_bench: MakeBench, garbage: str) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    bench.site.fault_garbage(garbage)
    for kind in (Trade, Quote, Book):
        count = len(bench.heard.of(kind))
        await until(lambda kind=kind, count=count: len(bench.heard.of(kind)) > count + 5, what=f"more of {kind}")  # type: ignore[misc]
    assert bench.heard.states == [CONNECTED]
    assert_each_trade_once_and_as_recorded(bench)
    if garbage == '{"e":"trade","s":':
        assert bench.venue.refused["unreadable"] == 3
        assert "unreadable" in bench.venue.last_refusal


TRADE: dict[str, Any] = {
    "e": "trade", "E": 1723161255343, "s": "BTCUSDT", "t": 1, "p": "61837.63", "q": "0.02", "T": 1723161255342,
    "m": True, "M": True,
}  # fmt: skip
QUOTE: dict[str, Any] = {"u": 1, "s": "BTCUSDT", "b": "61837.63", "B": "3.7", "a": "61837.64", "A": "1.5"}


@pytest.mark.parametrize(
    ("kind", "stream", "data"),
    [
        ("trades", "btcusdt@trade", TRADE | {"q": "-0.02"}),
        ("trades", "btcusdt@trade", TRADE | {"q": "0"}),
        ("trades", "btcusdt@trade", TRADE | {"p": "0.00000000"}),
        ("trades", "btcusdt@trade", TRADE | {"p": "NaN"}),
        ("trades", "btcusdt@trade", TRADE | {"p": "Infinity"}),
        ("trades", "btcusdt@trade", TRADE | {"p": None}),
        ("trades", "btcusdt@trade", TRADE | {"t": None}),
        ("trades", "btcusdt@trade", TRADE | {"T": None}),
        ("trades", "btcusdt@trade", TRADE | {"T": -5}),
        ("trades", "btcusdt@trade", TRADE | {"T": 4102444800000}),
        ("quotes", "btcusdt@bookTicker", QUOTE | {"b": "61837.65"}),
        ("quotes", "btcusdt@bookTicker", QUOTE | {"b": "61837.64"}),
        ("quotes", "btcusdt@bookTicker", QUOTE | {"B": "-3.7"}),
        ("quotes", "btcusdt@bookTicker", QUOTE | {"b": "0.00000000", "B": "0.00000000"}),
        ("quotes", "btcusdt@bookTicker", QUOTE | {"a": "cheap"}),
    ],
)
async def test_messages_that_are_no_fact_are_refused_and_counted(
    make_bench: MakeBench, kind: str, stream: str, data: dict[str, Any]
) -> None:
    bench = await make_bench(starts_by_itself=False)
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states == [CONNECTED], what="all streams")
    bench.site.publish(stream, data)
    await until(lambda: sum(bench.venue.refused.values()), what="the refusal")
    assert bench.venue.refused[kind] + bench.venue.refused["unreadable"] == 1
    assert not bench.heard.of(Trade)
    assert not bench.heard.of(Quote)
    assert bench.venue.time_ns() < 1723161255_000_000_000 + 60_000_000_000, "a bad time does not move the clock"
    bench.site.publish("btcusdt@trade", TRADE)
    bench.site.publish("btcusdt@bookTicker", QUOTE)
    await until(lambda: bench.heard.of(Trade) and bench.heard.of(Quote), what="good ones after the bad one")
    assert bench.heard.states == [CONNECTED]


async def test_a_gap_in_the_book_leads_to_a_fresh_snapshot(make_bench: MakeBench) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    now = bench.site.replay.market.update_id
    event = {"e": "depthUpdate", "E": bench.site.replay.now_ms, "s": "BTCUSDT", "U": now + 50, "u": now + 60}
    bench.site.publish("btcusdt@depth@100ms", {**event, "b": [["99999.00000000", "1.00000000"]], "a": []})
    await mended(bench)
    books = len(bench.heard.of(Book))
    await until(lambda: len(bench.heard.of(Book)) > books, what="a book")
    assert all(book.bids[0].price < 99_999 for book in bench.heard.of(Book)), "the event after the gap was not applied"


async def test_silence_is_noticed_and_mended(make_bench: MakeBench) -> None:
    timeouts = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, silence_s=0.4, trade_silence_s=0.8)
    bench = await streaming(await make_bench(long_recording(), speed=10, timeouts=timeouts))
    bench.site.fault_silence()
    await until(lambda: INTERRUPTED in bench.heard.states, what="the interruption")
    assert any("silent for 0.4 s" in status.reason for status in bench.heard.of(StreamStatus))
    bench.site.fault_clear()
    await mended(bench)
    assert_each_trade_once_and_as_recorded(bench)


async def test_streams_that_are_refused_are_tried_again(make_bench: MakeBench) -> None:
    bench = await make_bench(long_recording(), speed=10)
    bench.site.fault_refuse_streams()
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states == [INTERRUPTED], what="the interruption")
    assert bench.venue.breaker_state == "closed", "its REST answers"
    bench.site.fault_clear()
    await mended(bench)


async def test_stream_connections_that_hang_are_given_up(make_bench: MakeBench) -> None:
    timeouts = Timeouts(first_backoff_s=0.02, max_backoff_s=0.1, dial_s=1)
    bench = await make_bench(long_recording(), speed=10, timeouts=timeouts)
    bench.site.fault_hang_streams()
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states == [INTERRUPTED], what="the interruption")
    assert "did not answer in time" in bench.heard.of(StreamStatus)[0].reason
    bench.site.fault_clear()
    await mended(bench)


@pytest.mark.parametrize("fault", ["dial", "snapshot", "time"])
async def test_close_leaves_nothing_behind_whatever_hangs(make_bench: MakeBench, fault: str) -> None:
    bench = await make_bench(long_recording(), speed=10)
    if fault == "dial":
        bench.site.fault_hang_streams()
    elif fault == "snapshot":
        bench.site.fault_rest("/api/v3/depth", hang=True)
    path = {"dial": "/ws/", "snapshot": "/depth", "time": "/time"}[fault]
    asked = sum(path in request for request in bench.server.requests)
    await bench.venue.subscribe("BTC/USDT")
    if fault == "time":
        await until(lambda: bench.heard.states, what="all streams")
        bench.site.fault_rest("/api/v3/time", hang=True)
        bench.site.fault_drop()
    await until(lambda: sum(path in request for request in bench.server.requests) > asked, what="the request")
    await bench.venue.close()
    assert bench.heard.states[-1] is ENDED


async def test_a_connection_that_ccxt_gives_up_is_mended(make_bench: MakeBench) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    connections = bench.venue._client.exchange.clients
    bench.site.fault_silence()
    await until(
        lambda: all(any(not each.done() for each in one.futures.values()) for one in connections.values()),
        what="all streams to wait for more",
    )
    for url, connection in list(connections.items()):
        del connections[url]
        await connection.close()  # as ccxt does when a snapshot fails; it cancels what is awaited
    bench.site.fault_clear()
    await mended(bench)
    assert_each_trade_once_and_as_recorded(bench)


async def test_a_burst_loses_no_trade(make_bench: MakeBench) -> None:
    bench = await make_bench(long_recording(), speed=1000, starts_by_itself=False)
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states == [CONNECTED], what="all streams")
    bench.site.replay.start()
    count = len(long_recording().of_kind("trade"))
    await until(lambda: len(bench.heard.of(Trade)) >= count, what="every trade", timeout_s=30)
    assert_each_trade_once_and_as_recorded(bench)
    assert len(bench.heard.of(Trade)) == count
    assert bench.heard.states == [CONNECTED]


async def test_more_trades_than_can_be_kept_are_said_to_be_lost(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BinanceVenue, "UNREAD_TRADES", 5)
    bench = await streaming(await make_bench(long_recording(), speed=1))
    for number in range(20):
        bench.site.publish("btcusdt@trade", TRADE | {"t": number + 1})
    await until(lambda: INTERRUPTED in bench.heard.states, what="the interruption")
    [interruption] = [s for s in bench.heard.of(StreamStatus) if s.state is INTERRUPTED]
    assert interruption.reason == "trades: 5 came at once; older ones are lost"
    await until(lambda: bench.heard.states[-1] is CONNECTED, what="the streams to come back")


async def test_a_symbol_that_is_delisted_while_streaming_ends(make_bench: MakeBench) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    bench.site.fault_hide_symbol("BTCUSDT")
    bench.site.fault_drop()
    await until(lambda: bench.heard.states[-1] is ENDED, what="the end")
    assert "no longer has it" in bench.heard.of(StreamStatus)[-1].reason
    count = len(bench.heard.events)
    await bench.venue.unsubscribe("BTC/USDT")
    sent = bench.site.replay.sent
    await until(lambda: bench.site.replay.sent > sent + 20, what="the market to go on")
    assert len(bench.heard.events) == count, "the end is final"


@pytest.mark.parametrize("status", [429, 418])
async def test_a_venue_that_asks_to_slow_down_is_left_alone(make_bench: MakeBench, status: int) -> None:
    bench = await make_bench(start_at_s=22)
    body = '{"code":-1003,"msg":"Too many requests; please use the websocket for live updates."}'
    bench.site.fault_rest(KLINES, status=status, body=body, headers={"Retry-After": "70"}, times=1)
    with pytest.raises(VenueUnavailable, match="slow down and wait 70 s") as caught:
        await bars(bench.venue)
    assert caught.value.retry_after_s is not None
    asked = len(bench.server.requests)
    with pytest.raises(VenueUnavailable, match=r"asked us to wait; (70|6\d) s are left"):
        await bars(bench.venue)
    assert len(bench.server.requests) == asked, "not even one request"


@pytest.mark.parametrize(
    ("fault", "error", "says"),
    [
        ({"status": 500, "body": "oops"}, VenueUnavailable, "cannot be reached"),
        ({"status": 502, "body": "<html><h1>502 Bad Gateway</h1></html>"}, VenueUnavailable, "cannot be reached"),
        ({"status": 504, "body": "{}"}, VenueTimeout, "did not answer in time"),
        ({"status": 200, "body": "<!DOCTYPE html><html>hello</html>"}, VenueUnavailable, "instead of data"),
        ({"status": 200, "body": "nonsense"}, VenueUnavailable, "instead of data"),
        ({"status": 200, "body": ""}, VenueUnavailable, "instead of data"),
        ({"status": 200, "body": '[{"a": 1}]'}, KocError, "binance"),
        ({"status": 200, "body": '{"a": 1}'}, KocError, "binance"),
        ({"status": 200, "body": '[["1", "2"'}, KocError, "binance"),
        ({"status": 400, "body": '{"code":-1121,"msg":"Invalid symbol."}'}, VenueRejected, "Invalid symbol"),
        ({"status": 400, "body": '{"code":-1120,"msg":"Invalid interval."}'}, VenueRejected, "Invalid interval"),
    ],
)
async def test_answers_that_are_none(
    make_bench: MakeBench, fault: dict[str, Any], error: type[Exception], says: str
) -> None:
    bench = await make_bench(start_at_s=22)
    bench.site.fault_rest(KLINES, headers={"Content-Type": "application/json"}, **fault)
    with pytest.raises(error, match=says):
        await bars(bench.venue)


async def test_passing_failures_are_not_noticed(make_bench: MakeBench) -> None:
    bench = await make_bench(start_at_s=22)
    bench.site.fault_rest(KLINES, status=503, body="busy", times=2)
    assert len(await bars(bench.venue)) > 10


async def test_a_request_that_hangs_is_cut_off(make_bench: MakeBench) -> None:
    bench = await make_bench(start_at_s=22)
    bench.venue._client._timeouts = Timeouts(request_s=0.2, first_backoff_s=0.01)  # it would not suffice to connect
    bench.site.fault_rest(KLINES, hang=True)
    with pytest.raises(VenueTimeout):
        await bars(bench.venue)


async def test_five_failures_open_the_breaker(make_bench: MakeBench) -> None:
    changes: list[tuple[str, int]] = []

    def changed(change: BreakerChange) -> None:
        changes.append((change.new, sum(KLINES in request for request in bench.server.requests)))

    breaker = Breaker("binance", SystemClock(), changed, reset_timeout_s=0.3)
    bench = await make_bench(start_at_s=22, breaker=breaker)
    bench.site.fault_rest(KLINES, status=500, body="oops")
    for _ in range(2):
        with pytest.raises(VenueUnavailable):
            await bars(bench.venue)
    assert changes[0] == ("open", 5)
    assert bench.venue.breaker_state == "open"
    bench.site.fault_clear()
    assert await until(lambda: _bars_or_nothing(bench), what="the trial after the pause")
    assert bench.venue.breaker_state == "closed"


async def _bars_or_nothing(bench: Bench) -> Sequence[Bar]:
    try:
        return await bars(bench.venue)
    except VenueUnavailable:
        return []


async def test_symbols_the_venue_does_not_list_are_unknown(make_bench: MakeBench) -> None:
    bench = await make_bench(connect=False)
    bench.site.fault_rest("/api/v3/exchangeInfo", body='{"symbols": []}', headers={"Content-Type": "application/json"})
    with pytest.raises(VenueUnavailable, match="lists no instrument"):
        await bench.venue.connect(bench.heard)
    bench.site.fault_clear()
    bench.site.fault_hide_symbol("BTCUSDT")
    with pytest.raises(VenueUnavailable, match="lists no instrument"):
        await bench.venue.connect(bench.heard)


@pytest.mark.parametrize("body", ["<html>maintenance</html>", "nonsense", "[]"])
async def test_connecting_to_something_that_is_no_venue(make_bench: MakeBench, body: str) -> None:
    bench = await make_bench(connect=False)
    bench.site.fault_rest("/api/v3/", body=body)
    with pytest.raises(VenueUnavailable):
        await bench.venue.connect(bench.heard)
    with pytest.raises(VenueUnavailable, match="not connected"):
        await bench.venue.subscribe("BTC/USDT")


async def test_connecting_is_bounded(make_bench: MakeBench) -> None:
    bench = await make_bench(connect=False, timeouts=Timeouts(connect_s=0.5))
    bench.site.fault_rest("/api/v3/exchangeInfo", hang=True)
    with pytest.raises(VenueUnavailable, match=r"nothing came within 0\.5 s"):
        await bench.venue.connect(bench.heard)


async def test_nobody_listens(tmp_path: Path) -> None:
    authority = make_authority(tmp_path, ["api.binance.com"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        endpoint = LoopbackEndpoint("127.0.0.1", probe.getsockname()[1], str(authority.ca_file))
    venue = BinanceVenue(SystemClock(), endpoint, timeouts=QUICK)
    with pytest.raises(VenueUnavailable, match="cannot be reached"):
        await venue.connect(Heard())


async def test_a_server_that_nobody_vouches_for_is_not_trusted(make_bench: MakeBench, tmp_path: Path) -> None:
    bench = await make_bench(connect=False)
    other = make_authority(tmp_path / "other", ["api.binance.com"])
    endpoint = LoopbackEndpoint(bench.server.endpoint.host, bench.server.endpoint.port, str(other.ca_file))
    venue = BinanceVenue(SystemClock(), endpoint, timeouts=QUICK)
    with pytest.raises(VenueUnavailable, match="cannot be reached"):
        await venue.connect(Heard())
    assert bench.server.requests == []


@pytest.mark.parametrize("content", [None, "no certificate"])
async def test_a_ca_file_that_is_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    venue = BinanceVenue(SystemClock(), LoopbackEndpoint("127.0.0.1", 1, str(file)))
    with pytest.raises(ConfigError, match="cannot be read as a file of CA certificates"):
        await venue.connect(Heard())


async def test_streams_wait_out_an_outage_of_everything(make_bench: MakeBench) -> None:
    bench = await streaming(await make_bench(long_recording(), speed=10))
    bench.site.fault_rest("/api/v3/", status=503, body="down", times=3)
    bench.site.fault_drop()
    await mended(bench)
    asked = [request for request in bench.server.requests if "/time" in request]
    assert len(asked) < 20, "one asks for all three streams"
    assert_each_trade_once_and_as_recorded(bench)
