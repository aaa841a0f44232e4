"""What the unmodified ccxt client makes of a replay is what was recorded."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from itertools import groupby
from typing import Any

import pytest

from koc_qt.domain.errors import BadBars, VenueRejected, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, Quote, Side, StreamState, Trade
from tests.conditions import until
from tests.wire.conftest import Bench, MakeBench
from tests.wire.market import Market
from tests.wire.recording import Recording
from tests.wire.synthetic import synthetic

BTC = InstrumentId("binance", "BTC/USDT")
FOR_EVER = 2**62


async def play(bench: Bench) -> None:
    """Subscribe, which starts the replay, and wait for its end and its last trade."""
    await bench.venue.subscribe("BTC/USDT")
    await until(bench.site.replay.ended.is_set, timeout_s=60, what="the end of the recording")
    last = str(bench.site.replay.recording.of_kind("trade")[-1].data["t"])
    await until(lambda: bench.heard.of(Trade)[-1].trade_id == last, what="the last trade")


async def bars_of(bench: Bench, timeframe: str, since_ns: int = 0, until_ns: int = FOR_EVER) -> list[Bar]:
    pages = [page async for page in bench.venue.fetch_bars("BTC/USDT", timeframe, since_ns, until_ns)]
    assert all(pages), "an empty page says nothing"
    return [bar for page in pages for bar in page]


async def test_streams_are_what_was_recorded(make_bench: MakeBench, minute: Recording) -> None:
    bench = await make_bench(minute, speed=30, starts_by_itself=False)
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states == [StreamState.CONNECTED], what="all streams")
    bench.site.replay.start()
    await play(bench)

    trades = bench.heard.of(Trade)
    expected = [
        Trade(
            instrument=BTC,
            time_ns=frame.data["T"] * 1_000_000,
            price=Decimal(frame.data["p"]),
            quantity=Decimal(frame.data["q"]),
            side=Side.SELL if frame.data["m"] else Side.BUY,
            trade_id=str(frame.data["t"]),
        )
        for frame in minute.of_kind("trade")
    ]
    assert trades == expected, "every trade, once, in order, exact"

    def quotes() -> list[tuple[Decimal, ...]]:
        return [(q.bid, q.bid_size, q.ask, q.ask_size) for q in bench.heard.of(Quote)]

    def books() -> list[tuple[Any, Any]]:
        return [(levels(book.bids), levels(book.asks)) for book in bench.heard.of(Book)]

    recorded = [tuple(Decimal(frame.data[key]) for key in "bBaA") for frame in minute.of_kind("bookTicker")]
    await until(lambda: quotes()[-1] == recorded[-1], what="the newest quote, which is never the one that is lost")
    assert is_subsequence(quotes(), recorded), "quotes may be conflated, never invented or reordered"
    assert len(quotes()) > 10  # of those that come while a busy machine looks away the newest alone is told

    market = Market(minute.symbol, minute.snapshot)
    states = [top_of(market)]
    for frame in minute.of_kind("depth@100ms"):
        market.apply(frame)
        states.append(top_of(market))
    await until(lambda: books()[-1] == states[-1], what="the newest book")
    assert is_subsequence(books(), states)

    for kind in (Trade, Quote, Book):
        times = [event.time_ns for event in bench.heard.of(kind)]  # type: ignore[attr-defined]
        assert times == sorted(times)
    assert bench.venue.time_ns() >= times[-1], "no event comes from the venue's future"
    assert not bench.venue.refused
    assert bench.heard.states == [StreamState.CONNECTED]


def top_of(market: Market) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
    depth = market.depth(20)
    bids, asks = ([(Decimal(p), Decimal(q)) for p, q in depth[side]] for side in ("bids", "asks"))
    return bids, asks


def levels(side: tuple) -> list[tuple[Decimal, Decimal]]:  # type: ignore[type-arg]
    return [(level.price, level.quantity) for level in side]


def is_subsequence(part: list, whole: list) -> bool:  # type: ignore[type-arg]
    rest = iter(whole)
    return all(any(item == other for other in rest) for item in part)


@pytest.mark.parametrize(("timeframe", "length_ms"), [("1s", 1_000), ("1m", 60_000)])
async def test_bars_are_those_of_the_trades(
    make_bench: MakeBench, minute: Recording, timeframe: str, length_ms: int
) -> None:
    bench = await make_bench(minute, start_at_s=3600)  # all of it has happened
    bars = await bars_of(bench, timeframe)
    trades = [frame.data for frame in minute.of_kind("trade")]
    built: dict[int, Bar] = {}
    for open_ms, group in groupby(trades, key=lambda trade: trade["T"] - trade["T"] % length_ms):
        members = list(group)
        prices = [float(trade["p"]) for trade in members]
        volume = float(sum(Decimal(trade["q"]) for trade in members))
        built[open_ms] = Bar(
            BTC, timeframe, open_ms * 1_000_000, prices[0], max(prices), min(prices), prices[-1], volume
        )
    traded = [bar for bar in bars if bar.volume]
    assert traded == list(built.values())
    assert all(bar.open == bar.high == bar.low == bar.close for bar in bars if not bar.volume)
    opens = [bar.open_time_ns for bar in bars]
    assert opens == list(range(opens[0], opens[-1] + 1, length_ms * 1_000_000))


async def test_the_bar_that_is_not_closed_is_left_out(make_bench: MakeBench) -> None:
    bench = await make_bench(start_at_s=10.5, starts_by_itself=False)  # time stands still 0.5 s into a second
    bars = await bars_of(bench, "1s")
    assert bars[-1].open_time_ns + 1_000_000_000 <= bench.site.replay.now_ns
    assert bars[-1].open_time_ns + 2_000_000_000 > bench.site.replay.now_ns


async def test_bars_are_paged_and_bounded(make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = await make_bench(start_at_s=22)
    everything = await bars_of(bench, "1s")
    monkeypatch.setattr(type(bench.venue), "BARS_PER_PAGE", 7)
    pages = [page async for page in bench.venue.fetch_bars("BTC/USDT", "1s", 0, everything[-1].open_time_ns + 1)]
    assert [len(page) for page in pages[:-1]] == [7] * (len(pages) - 1)
    assert [bar for page in pages for bar in page] == everything
    second, fifth = everything[1].open_time_ns, everything[4].open_time_ns
    assert await bars_of(bench, "1s", second, fifth) == everything[1:4], "since is in, until is not"
    assert await bars_of(bench, "1s", second + 1, fifth + 1) == everything[2:5]
    assert await bars_of(bench, "1s", fifth, fifth) == []


async def test_bars_of_unknown_symbols_and_timeframes_are_refused(make_bench: MakeBench) -> None:
    bench = await make_bench()
    with pytest.raises(VenueRejected, match="does not trade 'BTC/USD'; did you mean BTC/USDT"):
        await anext(aiter(bench.venue.fetch_bars("BTC/USD", "1m", 0, FOR_EVER)))
    with pytest.raises(VenueRejected, match="no bars of '7m'"):
        await anext(aiter(bench.venue.fetch_bars("BTC/USDT", "7m", 0, FOR_EVER)))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ('[[1723161254000,"1","1","1","nonsense","1",1723161254999,"1",1,"1","1","0"]]', "not a number"),
        ('[[1723161255000,"1","1","1","1","1"],[1723161255000,"1","1","1","1","1"]]', "after a later one"),
    ],
)
async def test_candles_that_are_none_are_refused_by_row(make_bench: MakeBench, body: str, says: str) -> None:
    bench = await make_bench(start_at_s=3600)
    bench.site.fault_rest("/api/v3/klines", body=body, headers={"Content-Type": "application/json"})
    with pytest.raises(BadBars, match=says):
        await bars_of(bench, "1s")


async def test_instruments_have_exact_rules(make_bench: MakeBench) -> None:
    bench = await make_bench()
    assert await bench.venue.instruments() == [
        Instrument(
            id=BTC,
            base="BTC",
            quote="USDT",
            tick_size=Decimal("0.01"),
            lot_size=Decimal("0.00001"),
            min_quantity=Decimal("0.00001"),
            max_quantity=Decimal(9000),
            min_notional=Decimal(5),
            maker_fee=Decimal("0.001"),
            taker_fee=Decimal("0.001"),
        )
    ]


async def test_the_venue_clock_is_the_venues(make_bench: MakeBench) -> None:
    bench = await make_bench(starts_by_itself=False, start_at_s=5)
    assert abs(bench.venue.time_ns() - bench.site.replay.now_ns) < 2_000_000_000, "years from this machine's own"


async def test_unknown_and_delisted_symbols_are_refused(make_bench: MakeBench) -> None:
    bench = await make_bench()
    for symbol in ("LUNA/USDT", "BTCUSDT", "", "BTC/USDT:USDT"):
        with pytest.raises(VenueRejected, match="does not trade"):
            await bench.venue.subscribe(symbol)
    assert bench.heard.events == []


async def test_unsubscribe_ends_the_streams_and_their_connections(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await bench.venue.subscribe("BTC/USDT")
    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.of(Book), what="the book")
    await bench.venue.unsubscribe("BTC/USDT")
    assert bench.heard.states[-1] is StreamState.ENDED
    await until(lambda: not bench.site.streams, what="the connections to go")
    count = len(bench.heard.events)
    await bench.venue.unsubscribe("BTC/USDT")
    await bench.venue.unsubscribe("ETH/USDT")
    sent = bench.site.replay.sent
    await until(lambda: bench.site.replay.sent > sent + 10, what="the market to go on")
    assert len(bench.heard.events) == count

    await bench.venue.subscribe("BTC/USDT")
    await until(lambda: bench.heard.states[-1] is StreamState.CONNECTED, what="streaming again")
    before = len(bench.heard.of(Trade))
    await until(lambda: len(bench.heard.of(Trade)) > before, what="a trade")


async def test_a_market_that_moves_away_gets_a_fresh_snapshot(make_bench: MakeBench) -> None:
    recording = synthetic(seed=3, seconds=60, drift=0.95, thin=True)
    bench = await make_bench(recording, speed=30)
    await play(bench)
    snapshots = [request for request in bench.server.requests if "/api/v3/depth" in request]
    assert len(snapshots) > 1
    await until(
        lambda: (
            (levels(bench.heard.of(Book)[-1].bids), levels(bench.heard.of(Book)[-1].asks))
            == top_of(bench.site.replay.market)
        ),
        what="the book to be the venue's",
    )
    assert bench.heard.states == [StreamState.CONNECTED]
    assert not bench.venue.refused


async def test_before_and_after_a_connection_nothing_works(make_bench: MakeBench) -> None:
    bench = await make_bench(connect=False)
    for attempt in (
        bench.venue.instruments,
        lambda: bench.venue.subscribe("BTC/USDT"),
        lambda: bars_of(bench, "1m"),
    ):
        with pytest.raises(VenueUnavailable, match="not connected"):
            await attempt()
    await bench.venue.connect(bench.heard)
    with pytest.raises(VenueUnavailable, match="connected or connecting already"):
        await bench.venue.connect(bench.heard)
    await bench.venue.close()
    await bench.venue.close()
    with pytest.raises(VenueUnavailable, match="not connected"):
        await bench.venue.instruments()
    await bench.venue.connect(bench.heard)
    assert await bench.venue.instruments()


async def test_close_while_connecting(make_bench: MakeBench) -> None:
    bench = await make_bench(connect=False)
    bench.site.fault_rest("/api/v3/exchangeInfo", hang=True)
    connecting = asyncio.create_task(bench.venue.connect(bench.heard))
    await until(lambda: bench.server.requests, what="the first request")
    await bench.venue.close()
    with pytest.raises(VenueUnavailable, match="closed while it was connecting"):
        await connecting


async def test_close_while_dialing_streams(make_bench: MakeBench) -> None:
    bench = await make_bench()
    await bench.venue.subscribe("BTC/USDT")
    await asyncio.sleep(0)
    await bench.venue.close()
    assert bench.heard.states == [StreamState.ENDED]


async def test_connecting_can_be_cancelled(make_bench: MakeBench) -> None:
    bench = await make_bench(connect=False)
    bench.site.fault_rest("/api/v3/exchangeInfo", hang=True)
    connecting = asyncio.create_task(bench.venue.connect(bench.heard))
    await until(lambda: bench.server.requests, what="the first request")
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    bench.site.fault_clear()
    await bench.venue.connect(bench.heard)
    assert await bench.venue.instruments()
