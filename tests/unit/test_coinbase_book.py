"""Coinbase's books, kept by ourselves, are those that ccxt keeps; a snapshot never goes ccxt's slow way."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from ccxt.async_support.base.ws.order_book import OrderBook

from koc_qt.adapters import ccxt_facts as facts
from koc_qt.adapters.ccxt_exchange import exchange_class
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.coinbase_book import BookSide, Level2Book, event_of, snapshot_of
from koc_qt.adapters.venues.coinbase import CoinbaseVenue
from koc_qt.domain.instruments import InstrumentId

NAME = InstrumentId("coinbase", "BTC/USD")
LEVELS = 20_000


def level(side: str, price: float, size: float) -> dict[str, str]:
    return {
        "side": side,
        "event_time": "1970-01-01T00:00:00Z",
        "price_level": f"{price:.2f}",
        "new_quantity": f"{size:.8f}",
    }


def message(kind: str, updates: list[dict[str, str]], number: int = 0) -> dict[str, Any]:
    return {
        "channel": "l2_data",
        "client_id": "",
        "timestamp": "2023-02-09T20:32:50.714964855Z",
        "sequence_num": number,
        "events": [{"type": kind, "product_id": "BTC-USD", "updates": updates}],
    }


def text(told: dict[str, Any]) -> str:
    return json.dumps(told, separators=(",", ":"))


def whole(levels: int) -> dict[str, Any]:
    bids = [level("bid", 60_000 - number / 10, number % 7 + 1) for number in range(levels)]
    return message(
        "snapshot", bids + [level("offer", 60_001 + number / 10, number % 5 + 1) for number in range(levels)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_book_is_that_which_ccxt_keeps(seed: int) -> None:
    rng, ours, theirs = random.Random(seed), Level2Book("BTC/USD"), OrderBook()
    for turn in range(1, 400):
        kind = "snapshot" if turn % 150 == 1 else "update"
        updates = []
        for _ in range(300 if kind == "snapshot" else rng.randint(1, 4)):
            side, away = rng.choice(["bid", "offer"]), rng.randrange(1, 200)
            price = 1_000 - away if side == "bid" else 1_000 + away
            updates.append(level(side, price, rng.choice([0, rng.random()])))
        ours.take(event_of(message(kind, updates)["events"][0]), turn)
        if kind == "snapshot":
            theirs.reset({})
        for each in updates:
            side = theirs["bids" if each["side"] == "bid" else "asks"]
            side.store(float(each["price_level"]), float(each["new_quantity"]))
        for name in ("bids", "asks"):
            assert [list(row) for row in ours[name][:50]] == [list(row) for row in theirs[name][:50]]
            assert len(ours[name]) == len(theirs[name])
        assert facts.book(NAME, ours, 20, 5) == facts.book(NAME, {**theirs, "timestamp": turn}, 20, 5)
    assert ours.limit() is ours


def test_a_side_is_read_as_ccxt_s_is() -> None:
    side = BookSide(falling=True)
    assert not side
    assert side[:20] == []
    side.replace({2.0: 1.0, 1.0: 0.0, 3.0: 5.0})
    side.store(1.0, 0.0)
    assert (side[0], side[1], len(side)) == ((3.0, 5.0), (2.0, 1.0), 2)
    assert (side[:], side[:1]) == ([(3.0, 5.0), (2.0, 1.0)], [(3.0, 5.0)])
    with pytest.raises(IndexError):
        side[2]


@pytest.mark.parametrize(
    "other",
    [
        text(message("update", [level("bid", 1, 1)])),
        text({**message("snapshot", []), "channel": "user"}),
        text(message("snapshot", [level("bid", 1, 1) | {"price_level": "NaN"}])),
        text(message("snapshot", [level("bid", -1, 1)])),
        text(message("snapshot", [level("bid", 1, -1)])),
        text(message("snapshot", [level("neither", 1, 1)])),
        text(message("snapshot", []))[:-2],
        b"{}",
        "",
    ],
)
def test_what_is_no_snapshot_is_left_alone(other: object) -> None:
    assert snapshot_of(other) is None


def test_an_event_that_is_none_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError):
        event_of({"type": "update", "product_id": "BTC-USD", "updates": [{"side": "bid"}]})


@pytest.fixture
async def exchange() -> AsyncIterator[Any]:
    made = exchange_class("coinbase", CoinbaseVenue(SystemClock())._mended)({"timeout_on_exit": 0})
    made.complaints = []
    made.heard, made.unreadable = lambda _: None, made.complaints.append
    market = {"id": "BTC-USD", "symbol": "BTC/USD", "base": "BTC", "quote": "USD", "type": "spot", "spot": True}
    made.set_markets([made.safe_market_structure({**market, "info": {}, "active": True})])
    yield made
    await made.close()


async def test_a_snapshot_is_taken_before_ccxt_reads_it(exchange: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = exchange.client("wss://advanced-trade-ws.coinbase.com")
    client.next_number = 0
    told: list[str] = []
    client.resolve = lambda result, name: told.append(name)
    monkeypatch.setattr(exchange, "safe_dict", None)  # by which ccxt reads each of its levels
    client.handle_text_or_binary_message(text(whole(LEVELS)))
    assert exchange.complaints == []
    assert told == ["level2::BTC/USD", "level2::BTC/USDC"]
    monkeypatch.undo()
    client.handle_text_or_binary_message(text(message("update", [level("bid", 60_000.5, 3)], number=1)))
    client.handle_text_or_binary_message(text(message("update", [level("bid", 60_000.7, 3)], number=1)))  # said twice
    book = exchange.orderbooks["BTC/USD"]
    assert (len(book["bids"]), len(book["asks"])) == (LEVELS + 1, LEVELS)
    assert (book["bids"][0], book["asks"][0]) == ((60_000.5, 3.0), (60_001.0, 1.0))
    assert book["timestamp"] == 1675974770714
    client.handle_text_or_binary_message(text(message("update", [{"side": "bid"}], number=2)))
    assert len(exchange.complaints) == 1


async def test_what_comes_before_a_snapshot_is_of_no_use(exchange: Any) -> None:
    client = exchange.client("wss://advanced-trade-ws.coinbase.com")
    client.next_number = 0
    client.handle_text_or_binary_message(text(message("update", [level("bid", 1, 3)])))
    assert exchange.orderbooks == {}
    assert exchange.complaints == []
