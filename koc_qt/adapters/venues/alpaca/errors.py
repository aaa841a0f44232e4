"""Failures of Alpaca's client in our words; what each sentence says is that of all venues (ccxt_errors.py).

https://docs.alpaca.markets/docs/getting-started-with-trading-api and the errors that its reference lists. A status code
alone says little: 403 is a key, a lack of money or a rule, so the code and words in the body are looked at as well.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from koc_qt.adapters.ccxt_errors import Trouble, in_words, venue_words
from koc_qt.domain.errors import VenueError, VenueUnavailable

TITLE = "Alpaca"
_PAGE = re.compile(r"<!doctype|<html|<head", re.IGNORECASE)
# The words of a refusal, lower case; the first that fits counts.
_WORDS: tuple[tuple[str, Trouble], ...] = (
    ("client_order_id must be unique", Trouble.TWICE),
    ("order not found", Trouble.ABSENT),
    ('order is already in "', Trouble.ABSENT),
    ("order is not cancelable", Trouble.ABSENT),
    ("asset not found", Trouble.SYMBOL),
    ("invalid symbol", Trouble.SYMBOL),
    ("is not active", Trouble.SYMBOL),
    ("is not tradable", Trouble.SYMBOL),
    ("market is closed", Trouble.CLOSED),
    ("market hours", Trouble.CLOSED),
    ("rejected by user request", Trouble.PERMISSION),
    ("not authorized to trade", Trouble.PERMISSION),
    ("trading is blocked", Trouble.SUSPENDED),
    ("account is restricted", Trouble.SUSPENDED),
    ("account is blocked", Trouble.SUSPENDED),
    ("cost basis", Trouble.ORDER),
    ("insufficient", Trouble.FUNDS),
    ("maintenance", Trouble.MAINTENANCE),
    ("connection limit exceeded", Trouble.REFUSED),
    ("auth failed", Trouble.KEY),
    ("failed to authenticate", Trouble.KEY),
)
_CODES = {
    401: Trouble.KEY,
    404: Trouble.ABSENT,
    422: Trouble.ORDER,
    429: Trouble.RATE,
}


class PageError(Exception):
    """Something else than data came: a redirection, or an answer without any where some is due."""


class TooLateError(Exception):
    """The request's time was over before anything was sent."""


def diagnose(error: BaseException) -> Trouble:
    """Say what kind of trouble an error of the client, of requests or of the network is."""
    status = _status(error)
    if status is not None:
        return _of_answer(status, str(error))
    if isinstance(error, PageError):
        return Trouble.PAGE
    if isinstance(error, TooLateError):
        return Trouble.UNREACHABLE
    network = _of_network(error)
    if network is not None:
        return network
    text = str(error).lower()
    return next((trouble for words, trouble in _WORDS if words in text), Trouble.BROKEN)


def _status(error: BaseException) -> int | None:
    """Give an answer's status. Only `status_code` may be asked: code and message fail where the body is a page."""
    status = getattr(error, "status_code", None)
    return status if isinstance(status, int) else None


def _of_answer(status: int, body: str) -> Trouble:
    code, message = _code_and_message(body)
    text = (message or body).lower()
    if status == 429:
        return Trouble.RATE
    if status >= 500:
        return Trouble.MAINTENANCE if "maintenance" in text else Trouble.PAGE if _PAGE.search(body) else Trouble.BROKEN
    if _PAGE.search(body):
        return Trouble.PAGE
    for words, trouble in _WORDS:
        if words in text:
            return trouble
    if status == 403:
        return Trouble.REFUSED if code else Trouble.KEY_OR_ADDRESS
    return _CODES.get(status, Trouble.REFUSED)


def _of_network(error: BaseException) -> Trouble | None:
    if isinstance(error, asyncio.TimeoutError):
        return Trouble.SILENT
    import requests
    import urllib3.exceptions as wire

    reason = _reason(error)
    if isinstance(error, requests.exceptions.InvalidHeader | UnicodeEncodeError):
        return Trouble.KEY  # it cannot even be written into a request
    if isinstance(reason, wire.NameResolutionError):
        return Trouble.NAME
    if "CERTIFICATE_VERIFY_FAILED" in str(reason) or "doesn't match" in str(reason):
        return Trouble.TRUST
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return Trouble.UNREACHABLE
    if isinstance(reason, wire.NewConnectionError | wire.ConnectTimeoutError):
        return Trouble.UNREACHABLE
    if isinstance(error, requests.exceptions.Timeout):
        return Trouble.SILENT
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return Trouble.PAGE
    if isinstance(error, requests.exceptions.RequestException | OSError):
        return Trouble.BROKEN
    return None


def _reason(error: BaseException) -> Any:
    """Give what requests and urllib3 have wrapped: why a connection was not made."""
    wrapped = error.args[0] if error.args else None
    return getattr(wrapped, "reason", None) or wrapped


def _code_and_message(body: str) -> tuple[int, str]:
    try:
        told = json.loads(body)
    except ValueError:
        return 0, ""
    if not isinstance(told, dict):
        return 0, ""
    code = told.get("code")
    return code if isinstance(code, int) else 0, str(told.get("message") or "")


def words_of(error: BaseException) -> str:
    """Give Alpaca's own words, without secrets, in one line of bounded length."""
    if "connection limit exceeded" in str(error):
        return "another program is connected with these keys, and their plan allows one; end it, or use other keys"
    status = _status(error)
    if status is None:
        return venue_words(error)
    code, message = _code_and_message(str(error))
    if _PAGE.search(str(error)):
        message = "a web page"
    return f"{venue_words(Exception(message or str(error)))}, {code or status}"


def explain(what: str, error: BaseException, *, has_effect: bool = False, pause_s: float | None = None) -> VenueError:
    """Say a failure in our words; see ccxt_errors.explain."""
    if isinstance(error, VenueError):
        return error
    trouble = diagnose(error)
    if trouble is Trouble.PAGE and has_effect and (_status(error) or 0) >= 500:
        trouble = Trouble.BROKEN
    return in_words(TITLE, what, trouble, words_of(error), has_effect=has_effect, pause_s=pause_s)


def trouble_of(error: VenueError) -> Trouble:
    """Say what an error of ours was made of."""
    cause = error.__cause__
    if cause is None:
        return Trouble.UNREACHABLE if isinstance(error, VenueUnavailable) else Trouble.REFUSED
    return diagnose(cause)
