"""Failures of ccxt in our words: what happened, to what, and what a person must do; and whether anything was done.

What counts for an order is certainty. A refusal that the venue spoke is certain, and so is a connection that was never
made. Everything else is not known: ccxt also calls "refused" what broke off in the middle of an answer, and
"unavailable" what a venue may well have carried out (5xx).
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Sequence
from enum import StrEnum

from koc_qt.domain.errors import VenueError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.scrub import scrub

LONGEST_TEXT = 300  # characters of a venue's own words that an error repeats


class Trouble(StrEnum):
    """What went wrong, as far as it matters for what is to be done."""

    KEY = "key"  # wrong, expired, revoked, of another venue or mode
    PERMISSION = "permission"  # the key may not do this
    ADDRESS = "address"  # the key may not be used from here
    KEY_OR_ADDRESS = "key_or_address"  # the venue does not say which of the three
    CLOCK = "clock"  # timestamp or nonce
    FUNDS = "funds"
    ORDER = "order"  # its price, quantity or kind is not taken
    SYMBOL = "symbol"
    CLOSED = "closed"  # the market does not trade now
    ABSENT = "absent"  # no such order (any more)
    TWICE = "twice"  # an order with this id is there already
    SUSPENDED = "suspended"
    REGION = "region"
    REFUSED = "refused"  # for a reason of its own
    RATE = "rate"
    MAINTENANCE = "maintenance"
    UNREACHABLE = "unreachable"  # no connection was made: nothing was sent
    NAME = "name"  # no address for the host's name: nothing was sent
    TRUST = "trust"  # the other side is not who it should be: nothing was sent
    SILENT = "silent"  # no answer in time
    PAGE = "page"  # a web page where data should be
    BROKEN = "broken"  # the connection broke, or the answer cannot be used


Hints = Sequence[tuple[str, Trouble]]  # words of a venue, lower case, and what they mean

# The venue answered, and did nothing.
_CERTAIN_NO = frozenset(
    {
        Trouble.KEY,
        Trouble.PERMISSION,
        Trouble.ADDRESS,
        Trouble.KEY_OR_ADDRESS,
        Trouble.CLOCK,
        Trouble.FUNDS,
        Trouble.ORDER,
        Trouble.SYMBOL,
        Trouble.CLOSED,
        Trouble.ABSENT,
        Trouble.SUSPENDED,
        Trouble.REGION,
        Trouble.REFUSED,
    }
)
# Nothing was done, and asking again later may help.
_CERTAINLY_NOT_DONE = frozenset({Trouble.RATE, Trouble.MAINTENANCE, Trouble.UNREACHABLE, Trouble.NAME, Trouble.TRUST})

_SENTENCES = {
    Trouble.KEY: "it does not accept the API key; check that key and secret are whole, belong together, are of this "
    "venue and mode, and have not expired",
    Trouble.PERMISSION: "the API key may not do this; allow it (reading, and spot trading) where keys are managed",
    Trouble.ADDRESS: "the API key may not be used from this network address; add the address to the key's list",
    Trouble.KEY_OR_ADDRESS: "it does not accept the API key here; check key and secret, the key's permissions, and "
    "its list of allowed network addresses",
    Trouble.CLOCK: "the request's time or number was not accepted; the venue's clock is asked for anew, try again",
    Trouble.FUNDS: "there is not enough in the account; lower the quantity or add funds",
    Trouble.ORDER: "it does not take an order like this; check price, quantity and kind",
    Trouble.SYMBOL: "it does not trade this symbol",
    Trouble.CLOSED: "this market is not open now",
    Trouble.ABSENT: "it has no such order, or it has ended",
    Trouble.TWICE: "an order with this id is there already",
    Trouble.SUSPENDED: "the account is suspended; ask the venue's support",
    Trouble.REGION: "it does not serve this country or network",
    Trouble.REFUSED: "",
    Trouble.RATE: "",
    Trouble.MAINTENANCE: "it is in maintenance; orders already there stay as they are, try again later",
    Trouble.UNREACHABLE: "no connection could be made; check the network",
    Trouble.NAME: "its name could not be looked up; check the network and its DNS",
    Trouble.TRUST: "whoever answers is not the venue (a bad certificate); a log-in page of this network or a proxy may "
    "this network may stand between",
    Trouble.SILENT: "",
    Trouble.PAGE: "a web page came instead of data; the venue may be down or in maintenance, or a log-in page of "
    "this network may stand between",
    Trouble.BROKEN: "the connection broke off, or the answer cannot be used",
}

_QUERY = re.compile(r"\?[^\s'\"]+")  # a URL's parameters: signatures, and nothing that helps anyone
_PAGE = re.compile(r"<!doctype|<html|<head|instead of data", re.IGNORECASE)


def diagnose(error: BaseException, hints: Hints = ()) -> Trouble:
    """Say what kind of trouble an error of ccxt, aiohttp or the network is; `hints` are the venue's own words."""
    network = _network_trouble(error)
    if network is not None:
        return network
    text = str(error).lower()
    for words, trouble in hints:
        if words in text:
            return trouble
    import ccxt

    by_class: tuple[tuple[type[Exception], Trouble], ...] = (
        (ccxt.AccountSuspended, Trouble.SUSPENDED),
        (ccxt.PermissionDenied, Trouble.PERMISSION),
        (ccxt.AuthenticationError, Trouble.KEY),
        (ccxt.InvalidNonce, Trouble.CLOCK),
        (ccxt.DDoSProtection, Trouble.RATE),
        (ccxt.RateLimitExceeded, Trouble.RATE),
        (ccxt.OnMaintenance, Trouble.MAINTENANCE),
        (ccxt.RequestTimeout, Trouble.SILENT),
        (ccxt.InsufficientFunds, Trouble.FUNDS),
        (ccxt.OrderNotFound, Trouble.ABSENT),
        (ccxt.DuplicateOrderId, Trouble.TWICE),
        (ccxt.InvalidOrder, Trouble.ORDER),
        (ccxt.BadSymbol, Trouble.SYMBOL),
        (ccxt.MarketClosed, Trouble.CLOSED),
        (ccxt.RestrictedLocation, Trouble.REGION),
        (ccxt.ExchangeClosedByUser, Trouble.BROKEN),
    )
    for kind, trouble in by_class:
        if isinstance(error, kind):
            return trouble
    if isinstance(error, ccxt.ExchangeError):
        return Trouble.REFUSED
    return Trouble.PAGE if _PAGE.search(text) else Trouble.BROKEN


def _network_trouble(error: BaseException) -> Trouble | None:
    """Look at what ccxt wrapped: it gives one class to what was never sent and to what broke off in mid-answer."""
    import aiohttp

    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    for each in chain:
        if isinstance(each, aiohttp.ClientConnectorDNSError | socket.gaierror):
            return Trouble.NAME
        if isinstance(each, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
            return Trouble.TRUST
        if isinstance(each, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | ConnectionRefusedError):
            return Trouble.UNREACHABLE
    for each in chain:
        if isinstance(each, asyncio.TimeoutError):
            return Trouble.SILENT
        if isinstance(each, aiohttp.ClientError | OSError):
            return Trouble.BROKEN
    return None


def explain(
    venue: str,
    what: str,
    error: BaseException,
    hints: Hints = (),
    *,
    has_effect: bool = False,
    pause_s: float | None = None,
) -> VenueError:
    """Say a failure in our words; `what` names the request and `has_effect` says that it changes something there.

    `pause_s` is how long the venue wants to be left alone, where it is the rate that it complains of. With an effect:
    VenueRejected is a certain no, VenueUnavailable certainly not done, VenueTimeout not known.
    """
    if isinstance(error, VenueError):
        return error
    return in_words(venue, what, diagnose(error, hints), venue_words(error), has_effect=has_effect, pause_s=pause_s)


def in_words(
    venue: str, what: str, trouble: Trouble, words: str, *, has_effect: bool = False, pause_s: float | None = None
) -> VenueError:
    """Say a trouble that is known already, with the venue's own words; see `explain`."""
    text = _sentence(venue, what, trouble, words)
    if trouble is Trouble.RATE:
        wait = f" and wait {pause_s:g} s" if pause_s else ""
        slow = VenueUnavailable(f"{venue} asks us to slow down{wait} ({what}): {words}")
        slow.retry_after_s = pause_s
        return slow
    if trouble in _CERTAIN_NO:
        return VenueRejected(text)
    if trouble in _CERTAINLY_NOT_DONE:
        return VenueUnavailable(text)
    if has_effect:
        return VenueTimeout(f"{text}; whether {venue} has acted on it is not known yet")
    return VenueTimeout(text) if trouble is Trouble.SILENT else VenueUnavailable(text)


def _sentence(venue: str, what: str, trouble: Trouble, words: str) -> str:
    meaning = _SENTENCES[trouble]
    if trouble in _CERTAIN_NO or trouble is Trouble.TWICE:
        return f"{venue} refused {what}: {meaning} ({words})" if meaning else f"{venue} refused {what}: {words}"
    if trouble is Trouble.SILENT:
        return f"{venue} did not answer in time ({what})"
    if trouble is Trouble.PAGE:
        return f"{venue} cannot be reached ({what}): {meaning}"
    if trouble is Trouble.MAINTENANCE:
        return f"{venue} did not do it ({what}): {meaning} ({words})"
    return f"{venue} cannot be reached ({what}): {meaning} ({words})"


def venue_words(error: BaseException) -> str:
    """Give an error's own text, without secrets and parameters of URLs, in one line of bounded length."""
    text = _QUERY.sub("", " ".join(str(error).split())) or type(error).__name__
    return scrub(text)[:LONGEST_TEXT]
