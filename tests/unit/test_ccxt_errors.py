"""Failures in words for people, and what is certain about them."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import aiohttp
import ccxt
import pytest

from koc_qt.adapters.ccxt_errors import Trouble, diagnose, explain, venue_words
from koc_qt.adapters.venues.binance import BinanceTrading
from koc_qt.domain.errors import VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.scrub import register_secret

KEY: Any = SimpleNamespace(host="api.binance.com", port=443, ssl=True)
REFUSED = OSError(111, "refused")


def wrapped(outer: Exception, inner: BaseException) -> Exception:
    """Give an error as ccxt raises it: `raise outer from inner`."""
    outer.__cause__ = inner
    return outer


@pytest.mark.parametrize(
    ("error", "trouble", "kind", "words"),
    [
        (ccxt.AuthenticationError("binance bad"), Trouble.KEY, VenueRejected, "check that key and secret"),
        (ccxt.PermissionDenied("x"), Trouble.PERMISSION, VenueRejected, "allow it"),
        (ccxt.AccountSuspended("x"), Trouble.SUSPENDED, VenueRejected, "support"),
        (ccxt.InvalidNonce("x"), Trouble.CLOCK, VenueRejected, "try again"),
        (ccxt.InsufficientFunds("x"), Trouble.FUNDS, VenueRejected, "lower the quantity or add funds"),
        (ccxt.InvalidOrder("x"), Trouble.ORDER, VenueRejected, "check price, quantity"),
        (ccxt.OrderImmediatelyFillable("x"), Trouble.ORDER, VenueRejected, "does not take"),
        (ccxt.OrderNotFound("x"), Trouble.ABSENT, VenueRejected, "no such order"),
        (ccxt.BadSymbol("x"), Trouble.SYMBOL, VenueRejected, "symbol"),
        (ccxt.MarketClosed("x"), Trouble.CLOSED, VenueRejected, "not open"),
        (ccxt.RestrictedLocation("x"), Trouble.REGION, VenueRejected, "country"),
        (ccxt.NotSupported("so it is"), Trouble.REFUSED, VenueRejected, "refused order k: so it is"),
        (ccxt.OnMaintenance("x"), Trouble.MAINTENANCE, VenueUnavailable, "in maintenance"),
        (ccxt.DDoSProtection("x"), Trouble.RATE, VenueUnavailable, "slow down and wait 7 s"),
        (ccxt.RateLimitExceeded("x"), Trouble.RATE, VenueUnavailable, "slow down"),
        (ccxt.DuplicateOrderId("x"), Trouble.TWICE, VenueTimeout, "is there already"),
        (ccxt.RequestTimeout("x"), Trouble.SILENT, VenueTimeout, "did not answer in time"),
        (ccxt.ExchangeNotAvailable("binance POST 503 oops"), Trouble.BROKEN, VenueTimeout, "not known yet"),
        (ccxt.ExchangeNotAvailable("502 <html>"), Trouble.PAGE, VenueTimeout, "web page"),
        (ccxt.NullResponse("x"), Trouble.BROKEN, VenueTimeout, "not known yet"),
        (ccxt.ExchangeClosedByUser("x"), Trouble.BROKEN, VenueTimeout, "not known yet"),
        (KeyError("orderId"), Trouble.BROKEN, VenueTimeout, "cannot be used"),
        (TimeoutError(), Trouble.SILENT, VenueTimeout, "did not answer in time"),
        (ConnectionResetError("reset"), Trouble.BROKEN, VenueTimeout, "broke off"),
    ],
)
def test_each_failure_of_an_order_says_what_to_do_and_what_is_certain(
    error: Exception, trouble: Trouble, kind: type[Exception], words: str
) -> None:
    assert diagnose(error) is trouble
    ours = explain("Binance", "order k", error, has_effect=True, pause_s=7)
    assert type(ours) is kind
    assert words in str(ours)
    assert "Binance" in str(ours)


@pytest.mark.parametrize(
    ("error", "trouble", "kind"),
    [
        (aiohttp.ClientConnectorDNSError(KEY, OSError("no such name")), Trouble.NAME, VenueUnavailable),
        (socket.gaierror("no such name"), Trouble.NAME, VenueUnavailable),
        (aiohttp.ClientConnectorError(KEY, REFUSED), Trouble.UNREACHABLE, VenueUnavailable),
        (aiohttp.ConnectionTimeoutError(), Trouble.UNREACHABLE, VenueUnavailable),
        (aiohttp.ClientConnectorCertificateError(KEY, ValueError("self-signed")), Trouble.TRUST, VenueUnavailable),
        (aiohttp.SocketTimeoutError(), Trouble.SILENT, VenueTimeout),
        (TimeoutError(), Trouble.SILENT, VenueTimeout),
        (aiohttp.ServerDisconnectedError(), Trouble.BROKEN, VenueTimeout),
        (aiohttp.ClientOSError(32, "broken pipe"), Trouble.BROKEN, VenueTimeout),
        (aiohttp.ClientPayloadError("broke off"), Trouble.BROKEN, VenueTimeout),
    ],
)
@pytest.mark.parametrize("outer", [ccxt.ExchangeNotAvailable, ccxt.ExchangeError, ccxt.RequestTimeout])
def test_what_ccxt_wraps_decides_whether_anything_was_sent(
    outer: type[Exception], error: Exception, trouble: Trouble, kind: type[Exception]
) -> None:
    """Also where ccxt calls it a refusal: a connection that broke off in mid-answer is none."""
    wrap = wrapped(outer("binance POST https://api.binance.com/api/v3/order"), error)
    assert diagnose(wrap) is trouble
    assert type(explain("Binance", "order k", wrap, has_effect=True)) is kind


def test_a_read_has_nothing_that_is_not_known() -> None:
    for error, kind in (
        (ccxt.ExchangeNotAvailable("x"), VenueUnavailable),
        (ccxt.RequestTimeout("x"), VenueTimeout),
        (ccxt.AuthenticationError("x"), VenueRejected),
    ):
        ours = explain("Binance", "the balances", error)
        assert type(ours) is kind
        assert "not known" not in str(ours)


def test_errors_of_ours_stay_as_they_are() -> None:
    error = VenueUnavailable("left alone")
    assert explain("Binance", "order k", error, has_effect=True) is error


@pytest.mark.parametrize(
    ("body", "trouble", "kind"),
    [
        ('{"code":-2015,"msg":"Invalid API-key, IP, or permissions for action."}', "key_or_address", VenueRejected),
        ('{"code":-1021,"msg":"Timestamp for this request is outside of the recvWindow."}', "clock", VenueRejected),
        ('{"code":-1007,"msg":"Timeout waiting for response from backend server."}', "broken", VenueTimeout),
        ('{"code":-1015,"msg":"Too many new orders."}', "rate", VenueUnavailable),
        ("Duplicate order sent.", "twice", VenueTimeout),
        ("Account has insufficient balance for requested action.", "funds", VenueRejected),
    ],
)
@pytest.mark.parametrize("raised", [ccxt.DDoSProtection, ccxt.ExchangeError, ccxt.InvalidOrder])
def test_a_venue_s_own_words_go_before_ccxt_s_class(
    body: str, trouble: str, kind: type[Exception], raised: type[Exception]
) -> None:
    error = raised(f"binance {body}")
    assert diagnose(error, BinanceTrading.HINTS) == trouble
    assert type(explain("Binance", "order k", error, BinanceTrading.HINTS, has_effect=True)) is kind


def test_no_secret_and_no_signature_is_repeated() -> None:
    register_secret("hush-hush-hush")
    error = ccxt.ExchangeError(
        "binance GET https://api.binance.com/api/v3/order?symbol=BTCUSDT&signature=0f0f0f hush-hush-hush\n" + "x" * 999
    )
    words = venue_words(error)
    assert "0f0f0f" not in words
    assert "hush" not in words
    assert "symbol=" not in words
    assert "\n" not in words
    assert len(words) <= 300
    assert venue_words(TimeoutError()) == "TimeoutError"
