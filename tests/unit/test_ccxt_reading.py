"""Trades and quotes that we read ourselves are those that ccxt reads; what is odd is left to ccxt."""

from __future__ import annotations

import decimal
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import pytest
from ccxt.base import decimal_to_precision as rounding

from koc_qt.adapters import ccxt_facts as facts
from koc_qt.adapters.ccxt_exchange import exchange_class, iso_ms, plain
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.binance import BinanceVenue
from koc_qt.adapters.venues.bitfinex import BitfinexVenue
from koc_qt.adapters.venues.coinbase import CoinbaseVenue
from koc_qt.adapters.venues.kraken import KrakenVenue
from koc_qt.adapters.venues.kucoin import KucoinVenue
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Quote, Side, Trade

Frame = dict[str, Any] | list[Any]


class Case(NamedTuple):
    """A venue's frames; `odd` are such that we leave to ccxt."""

    venue: Any
    symbol: str
    market_id: str
    trades: list[Frame]
    quotes: list[Frame]
    odd: list[Frame]
    quote_of: Callable[[Any, str], Any] = lambda exchange, symbol: exchange.bidsasks[symbol]
    subscription: dict[str, Any] | None = None
    takers_side: bool = True  # as ccxt tells it; else it calls the resting order's the taker's


def kucoin(topic: str, subject: str, data: dict[str, Any]) -> Frame:
    return {"type": "message", "topic": topic, "subject": subject, "data": data}


def kraken(channel: str, *rows: dict[str, Any]) -> Frame:
    return {"channel": channel, "type": "update", "data": list(rows)}


BINANCE_TRADE = {
    "e": "trade",
    "E": 1672515782136,
    "s": "BTCUSDT",
    "t": 12345,
    "p": "28621.74000000",
    "q": "0.00100000",
    "T": 1672515782136,
    "m": True,
    "M": True,
}
BINANCE_QUOTE = {
    "u": 400900217,
    "s": "BTCUSDT",
    "b": "25.35190000",
    "B": "31.21000000",
    "a": "25.36520000",
    "A": "40.66000000",
}
KUCOIN_TRADE = {
    "sequence": "1568787654360",
    "symbol": "BTC-USDT",
    "side": "buy",
    "size": "0.00536577",
    "price": "9345.10",
    "takerOrderId": "5e356c4a9f1a790008f8d921",
    "time": "1580559434436443257",
    "type": "match",
    "makerOrderId": "5e356bffedf0010008fa5d7f",
    "tradeId": "5e356c4aeefabd62c62a1ece",
}
KUCOIN_QUOTE = {"asks": ["3347.42", "2.0778387"], "bids": ["3347.41", "6.0411690"], "timestamp": 1712231142085}
KRAKEN_TRADES = [
    {
        "symbol": "MATIC/USD",
        "side": "sell",
        "price": 0.5117,
        "qty": 40.0,
        "ord_type": "market",
        "trade_id": 4665906,
        "timestamp": "2023-09-25T07:49:37.708706Z",
    },
    {
        "symbol": "MATIC/USD",
        "side": "buy",
        "price": 0.5118,
        "qty": 1e-05,
        "ord_type": "limit",
        "trade_id": 4665907,
        "timestamp": "2023-09-25T07:49:37.999999Z",
    },
]
KRAKEN_QUOTE = {
    "symbol": "MATIC/USD",
    "bid": 0.5116,
    "bid_qty": 23.5,
    "ask": 0.5117,
    "ask_qty": 17.17988863,
    "last": 0.5117,
    "volume": 2158.32346723,
    "vwap": 0.5,
    "low": 0.4,
    "high": 0.6,
    "change": -0.1,
    "change_pct": -2.41,
}
COINBASE_TRADE = {
    "trade_id": "000000000",
    "product_id": "ETH-USD",
    "price": "1260.010",
    "size": "0.3",
    "side": "BUY",
    "time": "2019-08-14T20:42:27.265Z",
}


def coinbase(*trades: dict[str, Any]) -> Frame:
    return {
        "channel": "market_trades",
        "client_id": "",
        "timestamp": "2023-02-09T20:19:35.396257Z",
        "sequence_num": 0,
        "events": [{"type": "update", "trades": list(trades)}],
    }


CASES = {
    "binance": Case(
        BinanceVenue,
        "BTC/USDT",
        "BTCUSDT",
        [BINANCE_TRADE, {**BINANCE_TRADE, "t": 12346, "m": False, "p": "100"}],
        [BINANCE_QUOTE],
        [{**BINANCE_TRADE, "T": None}, {k: v for k, v in BINANCE_QUOTE.items() if k != "B"}],
    ),
    "kucoin": Case(
        KucoinVenue,
        "BTC/USDT",
        "BTC-USDT",
        [kucoin("/market/match:BTC-USDT", "trade.l3match", KUCOIN_TRADE)],
        [kucoin("/spotMarket/level1:BTC-USDT", "level1", KUCOIN_QUOTE)],
        [
            kucoin("/market/match:BTC-USDT", "trade.l3match", {**KUCOIN_TRADE, "time": None}),
            kucoin("/spotMarket/level1:BTC-USDT", "level1", {**KUCOIN_QUOTE, "asks": None}),
        ],
    ),
    "kraken": Case(
        KrakenVenue,
        "MATIC/USD",
        "MATICUSD",
        [kraken("trade", *KRAKEN_TRADES), kraken("trade", {**KRAKEN_TRADES[0], "trade_id": 5})],
        [kraken("ticker", KRAKEN_QUOTE)],
        [
            kraken("trade", {**KRAKEN_TRADES[0], "timestamp": None}),
            kraken("ticker", {k: v for k, v in KRAKEN_QUOTE.items() if k != "bid_qty"}),
        ],
        lambda exchange, symbol: exchange.tickers[symbol],
    ),
    "bitfinex": Case(
        BitfinexVenue,
        "ETH/USD",
        "tETHUSD",
        [
            [360141, "te", [1128060969, 1654702500098, 0.00325131, 1818.5]],
            [360141, "tu", [1128060969, 1654702500098, 0.00325131, 1818.5]],
            [360141, "te", [1128060970, 1654702500099, -1e-05, 1818]],
        ],
        [],
        [[360141, "te", [1128060969, None, 0.00325131, 1818.5]]],
        subscription={"chanId": 360141, "channel": "trades", "symbol": "tETHUSD"},
    ),
    "coinbase": Case(
        CoinbaseVenue,
        "ETH/USD",
        "ETH-USD",
        [coinbase(COINBASE_TRADE, {**COINBASE_TRADE, "trade_id": "1", "side": "SELL"})],
        [],
        [],
        takers_side=False,
    ),
}


def opened(case: Case, additions: Callable[[Any], Any] | None) -> Any:
    """Make ccxt's object with one market."""
    settings = {"options": {"tradesLimit": 100}, "timeout_on_exit": 0}
    exchange = exchange_class(case.venue.EXCHANGE_ID, additions)(settings)
    exchange.heard = exchange.unreadable = lambda _: None
    base, quote = case.symbol.split("/")
    market = {"id": case.market_id, "symbol": case.symbol, "base": base, "quote": quote, "type": "spot", "spot": True}
    exchange.set_markets([exchange.safe_market_structure({**market, "info": {}, "active": True})])
    return exchange


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Any]]:
    """Make ccxt's objects, and close them in the end."""
    made: list[Any] = []

    def opened_and_kept(case: Case, additions: Callable[[Any], Any] | None) -> Any:
        made.append(opened(case, additions))
        return made[-1]

    yield opened_and_kept
    for exchange in made:
        await exchange.close()


def take(exchange: Any, case: Case, frames: list[Frame]) -> dict[str, Any]:
    """Let it take frames; gives what those who wait were told, by what they wait for."""
    client = exchange.client("wss://stream.binance.com/ws/0")
    client.asyncio_loop = exchange.asyncio_loop
    if case.subscription is not None:
        client.subscriptions[str(case.subscription["chanId"])] = case.subscription
    client.next_number = 0  # Coinbase counts its messages
    told: dict[str, Any] = {}
    client.resolve = lambda result, name: told.update({name: result})
    for frame in frames:
        client.next_number = 0
        exchange.handle_message(client, frame)
    return told


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def facts_of(exchange: Any, case: Case) -> tuple[list[Trade], list[Quote]]:
    instrument = InstrumentId("any", case.symbol)
    trades = [facts.trade(instrument, raw) for raw in exchange.trades.get(case.symbol, ())]
    quotes = [facts.quote(instrument, case.quote_of(exchange, case.symbol), 7)] if case.quotes else []
    return trades, quotes


async def test_they_are_those_that_ccxt_reads(
    case: Case, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = make(case, case.venue(SystemClock())._mended), make(case, None)
    frames = [*case.trades, *case.quotes]
    names = set(take(theirs, case, frames))
    for method in ("parse_trade", "parse_ws_trade", "parse_trades", "safe_ticker"):
        monkeypatch.setattr(ours, method, None, raising=False)  # not by ccxt's way
    assert set(take(ours, case, frames)) <= names
    trades, quotes = facts_of(ours, case)
    expected_trades, expected_quotes = facts_of(theirs, case)
    if not case.takers_side:
        assert [trade.side for trade in trades] == [Side.SELL, Side.BUY] or [trade.side for trade in trades] == [
            Side.BUY,
            Side.SELL,
        ]
        trades = [turned(trade) for trade in trades]
    assert sorted(trades, key=str) == sorted(expected_trades, key=str)
    assert [str(trade.price) for trade in trades] == [f"{trade.price.normalize():f}" for trade in trades]
    assert quotes == expected_quotes
    assert bool(quotes) is bool(case.quotes)
    assert trades


def turned(trade: Trade) -> Trade:
    """Give a trade from the other side."""
    side = Side.SELL if trade.side is Side.BUY else Side.BUY
    return Trade(trade.instrument, trade.time_ns, trade.price, trade.quantity, side, trade.trade_id)


async def test_what_is_odd_goes_ccxt_s_way(case: Case, make: Callable[..., Any]) -> None:
    for frame in case.odd:
        ours, theirs = make(case, case.venue(SystemClock())._mended), make(case, None)
        told, expected = take(ours, case, [frame]), take(theirs, case, [frame])
        assert told.keys() == expected.keys()
        assert str(list(told.values())) == str(list(expected.values()))


@pytest.mark.parametrize(
    ("number", "expected"),
    [("28621.74000000", "28621.74"), ("100", "100"), ("100.000", "100"), ("0.1", "0.1"), (0.5, 0.5), (None, None)],
)
def test_zeros_at_the_end_go(number: object, expected: object) -> None:
    assert plain(number) == expected


def test_times_are_cut_to_milliseconds() -> None:
    assert iso_ms("1970-01-01T00:00:01.999999999Z") == 1999
    assert iso_ms("2023-09-25T07:49:37.708706Z") == 1695628177708
    with pytest.raises(ValueError, match="soon"):
        iso_ms("soon")
    with pytest.raises(TypeError):
        iso_ms("2023-09-25T07:49:37")


def test_rounding_by_ccxt_leaves_this_threads_decimals_as_they_were() -> None:
    before = decimal.getcontext().copy()
    exchange = exchange_class("kraken")({})
    assert exchange.decimal_to_precision("1.25", rounding.ROUND, "0.1", rounding.TICK_SIZE) == "1.3"
    after = decimal.getcontext()
    assert (after.rounding, after.traps, after.prec) == (before.rounding, before.traps, before.prec)
