"""ccxt's dicts become exact facts or are refused."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.adapters import ccxt_facts as facts
from koc_qt.adapters.ccxt_client import LoopbackEndpoint, VenueClock
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, Trade
from tests.conditions import PATIENCE
from tests.fakes.clock import FakeClock

BTC = InstrumentId("binance", "BTC/USDT")
TRADE = {"id": "7", "timestamp": 1_000, "price": 0.1, "amount": 1e-8, "side": "buy"}
TICKER = {"bid": 1.1, "bidVolume": 2.0, "ask": 1.2, "askVolume": 3.0, "timestamp": None}
MARKET: dict[str, Any] = {
    "symbol": "BTC/USDT",
    "base": "BTC",
    "quote": "USDT",
    "precision": {"price": 1e-05, "amount": 1e-08},
    "limits": {"amount": {"min": 1e-08, "max": None}, "cost": {"min": None}},
    "maker": -0.0001,
    "taker": None,
}


@given(st.decimals(min_value="0.00000001", max_value=9_999_999, places=8))
def test_floats_of_15_digits_give_the_digits_that_the_venue_wrote(number: Decimal) -> None:
    assert facts.exact(float(str(number)), "it") == number


@pytest.mark.parametrize("value", [None, True, "", "x", "NaN", float("nan"), float("inf"), [], "-Infinity"])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(MalformedError, match="price is"):
        facts.exact(value, "price")


def test_a_trade() -> None:
    assert facts.trade(BTC, TRADE) == Trade(BTC, 1_000_000_000, Decimal("0.1"), Decimal("0.00000001"), Side.BUY, "7")


@pytest.mark.parametrize(
    "change",
    [{"id": None}, {"id": ""}, {"side": None}, {"side": "long"}, {"price": 0}, {"price": -1.0}, {"amount": 0.0}]
    + [{"timestamp": value} for value in (None, 0, -1, 1.5, True, "1000")],
)
def test_trades_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        facts.trade(BTC, TRADE | change)


def test_a_quote_gets_the_time_of_receipt_where_the_venue_sends_none() -> None:
    expected = Quote(BTC, 5, Decimal("1.1"), Decimal("2.0"), Decimal("1.2"), Decimal("3.0"))
    assert facts.quote(BTC, TICKER, 5) == expected
    assert facts.quote(BTC, TICKER | {"timestamp": 9}, 5).time_ns == 9_000_000


@pytest.mark.parametrize("change", [{"bid": 1.2}, {"bid": 1.3}, {"bid": None}, {"askVolume": -1}, {"bidVolume": 0}])
def test_quotes_that_are_none(change: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        facts.quote(BTC, TICKER | change, 5)


def test_a_book_is_cut_to_its_depth() -> None:
    raw = {"bids": [[2.0, 1.0], [1.0, 1.0]], "asks": [[3.0, 1.5], [4.0, 1.0]], "timestamp": 9}
    expected = Book(BTC, 9_000_000, (BookLevel(Decimal(2), Decimal(1)),), (BookLevel(Decimal(3), Decimal("1.5")),))
    assert facts.book(BTC, raw, 1, 5) == expected
    assert facts.book(BTC, {"bids": [], "asks": []}, 1, 5) == Book(BTC, 5, (), ())


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        ([[2, 1]], [[2, 1]]),
        ([[3, 1]], [[2, 1]]),
        ([[1, 1], [2, 1]], []),
        ([], [[2, 1], [1, 1]]),
        ([], [[2, 1], [2, 1]]),
        ([[1, 0]], []),
        ([[-1, 1]], []),
        ([[1, None]], []),
    ],
)
def test_books_that_are_none(bids: list[Any], asks: list[Any]) -> None:
    with pytest.raises(MalformedError):
        facts.book(BTC, {"bids": bids, "asks": asks}, 20, 5)


def test_a_candle() -> None:
    assert facts.bar(BTC, "1m", [60_000, 1, 2.5, 0.5, 2, 10]) == Bar(BTC, "1m", 60_000_000_000, 1, 2.5, 0.5, 2, 10)


NO_CANDLES: list[Any] = [
    [],
    {},
    5,
    [1, 2, 3],
    [None, 1, 1, 1, 1, 1],
    [True, 1, 1, 1, 1, 1],
    [1, 1, None, 1, 1, 1],
    [1, 1, 1, 1, 1, "1e999"],
]


@pytest.mark.parametrize("row", NO_CANDLES)
def test_candles_that_are_none(row: object) -> None:
    with pytest.raises(MalformedError):
        facts.bar(BTC, "1m", row)


def test_a_market_has_exact_steps_and_zero_for_what_it_does_not_state() -> None:
    rules = facts.instrument("binance", MARKET)
    assert str(rules.tick_size) == "0.00001"
    assert rules.lot_size == rules.min_quantity == Decimal("0.00000001")
    assert rules.max_quantity is None
    assert (rules.min_notional, rules.maker_fee, rules.taker_fee) == (0, Decimal("-0.0001"), 0)


@pytest.mark.parametrize(
    "precision", [{"price": None, "amount": 1}, {"price": 0, "amount": 1}, {"price": 1, "amount": -1}]
)
def test_a_market_without_steps_is_none(precision: dict[str, Any]) -> None:
    with pytest.raises(MalformedError):
        facts.instrument("binance", MARKET | {"precision": precision})


def test_the_venue_clock_is_set_by_answers_and_moved_on_by_events() -> None:
    clock = FakeClock()
    venue_clock = VenueClock(clock)
    assert venue_clock.time_ns() == clock.time_ns()
    venue_clock.answered(5_000, sent_ns=clock.monotonic_ns() - 200, received_ns=clock.monotonic_ns())
    assert venue_clock.time_ns() == 5_100
    clock.set_wall(77)
    clock.advance(ns=10)
    assert venue_clock.time_ns() == 5_110, "setting this machine's clock does not move it"
    venue_clock.saw(4_000)
    assert venue_clock.time_ns() == 5_110
    venue_clock.saw(9_000)
    assert venue_clock.time_ns() == 9_000


def test_an_endpoint_is_read() -> None:
    assert LoopbackEndpoint.parse("127.0.0.1:8443", "ca.pem") == LoopbackEndpoint("127.0.0.1", 8443, "ca.pem")


@pytest.mark.parametrize("address", ["", "127.0.0.1", ":80", "host:", "host:0", "host:65536", "host:https", "host:²"])
def test_an_address_that_is_none_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="write HOST:PORT"):
        LoopbackEndpoint.parse(address, "ca.pem")


def test_an_endpoint_needs_its_ca_file() -> None:
    with pytest.raises(ConfigError, match="CA file"):
        LoopbackEndpoint.parse("127.0.0.1:8443", "")


def test_importing_the_venue_is_cheap() -> None:
    script = (
        "import sys, koc_qt.adapters.venues.binance;"
        "print([name for name in ('ccxt', 'aiohttp', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60 * PATIENCE, check=True
    )
    assert done.stdout.strip() == "[]"
