"""yfinance's way to Yahoo: its cookies and crumbs, kept in memory, and Yahoo's failures in our words.

Left to itself, yfinance makes empty tables of errors, keeps databases open in the user's folder, goes on asking after
429, and sends as its crumb whatever text came instead of one. What it asks for by itself is also only bounded by half a
minute each. So its session is ours, which speaks up at once, and a crumb that is none is thrown away.
"""

from __future__ import annotations

import importlib
import json
import logging
import re
import time
from collections.abc import Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any

from koc_qt.adapters.blocking_reader import Trouble, unavailable, words
from koc_qt.adapters.ccxt_client import LoopbackEndpoint
from koc_qt.domain.errors import VenueError, VenueRejected, VenueTimeout, VenueUnavailable

_CRUMB_PATH = "/v1/test/getcrumb"
_DATA_HOST = re.compile(r"https://query[12]\.finance\.yahoo\.com/")
_CRUMB = re.compile(r"[\w./\-+=~]{3,40}", re.ASCII)
_COOKIE = "A3"
_LET_YFINANCE_TRY = (401, 403)  # another cookie may help, and it knows how to get one
_CURL_TROUBLES = {6: Trouble.NAME, 5: Trouble.NAME, 7: Trouble.UNREACHABLE, 35: Trouble.TRUST, 60: Trouble.TRUST}
_CURL_TIMEOUT = 28


class RefusedError(Exception):
    """Yahoo answered with another status than 200."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class NoDataError(Exception):
    """Yahoo answered 200 with something that is no JSON object: a page that asks for consent, or not its own."""


class YahooClient:
    """Asks Yahoo's data hosts as yfinance does; blocking, for one thread, in which it is made: the import is slow.

    `endpoint` leads every host there. `told_s` is the time that the last answer carried, in seconds since 1970, and
    `sent_ns` (monotonic) is when it was asked for.
    """

    def __init__(self, endpoint: LoopbackEndpoint | None, limit_s: float) -> None:
        keep_to_memory()
        self._limit_s = limit_s
        self._session = _session(endpoint, limit_s)
        kind = importlib.import_module("yfinance.data").YfData
        self._data: Any = object.__new__(kind)  # the class hands out one object a process, with everybody's crumbs
        self._data.__init__(session=self._session)
        self.told_s: float | None = None
        self.sent_ns = 0

    def ask(self, path: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give an answer's JSON object, its numbers exact. Raises what `explain` knows."""
        if self._data._crumb is not None and not _CRUMB.fullmatch(str(self._data._crumb)):
            self._data._crumb = None
        if any(cookie.name == _COOKIE for cookie in self._session.cookies.jar):
            self._data._cookie = True  # it looks into its database alone, and would ask for one every time
        sent_ns = time.monotonic_ns()
        url = f"https://query1.finance.yahoo.com{path}"
        answer = self._data.get(url=url, params=dict(parameters), timeout=self._limit_s)
        text = str(answer.text)
        if answer.status_code in _LET_YFINANCE_TRY:
            self.forget()
        if answer.status_code != 200:
            raise RefusedError(answer.status_code, dict(answer.headers), text)
        try:
            body = json.loads(text, parse_float=Decimal)
        except ValueError:
            raise NoDataError(text) from None
        if not isinstance(body, dict):
            raise NoDataError(text)
        self.sent_ns, self.told_s = sent_ns, _date_s(answer.headers)
        return body

    def forget(self) -> None:
        """Ask for a cookie and a crumb anew the next time."""
        self._data._crumb = self._data._cookie = None
        self._session.cookies.clear()

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


def keep_to_memory() -> None:
    """Let yfinance raise its errors, be quiet, and keep its caches off the disk."""
    config = importlib.import_module("yfinance.config").YfConfig
    config.debug.hide_exceptions = False
    cache = importlib.import_module("yfinance.cache")
    cache._CookieCacheManager._Cookie_cache = cache._CookieCacheDummy()
    cache._TzCacheManager._tz_cache = cache._TzCacheDummy()
    cache._ISINCacheManager._isin_cache = cache._ISINCacheDummy()
    logging.getLogger("yfinance").setLevel(logging.ERROR)


def _session(endpoint: LoopbackEndpoint | None, limit_s: float) -> Any:
    """Make a session that looks like a browser's, as Yahoo wants it, and that raises what yfinance would repeat."""
    curl = importlib.import_module("curl_cffi")
    base: Any = importlib.import_module("curl_cffi.requests").Session
    options: dict[str, Any] = {"impersonate": "chrome", "use_thread_local_curl": False}
    if endpoint is not None:
        wrapper = importlib.import_module("curl_cffi._wrapper")
        target = f"::{endpoint.host}:{endpoint.port}".encode()
        where = wrapper.ffi.gc(wrapper.lib.curl_slist_append(wrapper.ffi.NULL, target), wrapper.lib.curl_slist_free_all)
        options |= {"verify": endpoint.ca_file, "curl_options": {curl.CurlOpt.CONNECT_TO: where}}

    class Session(base):  # type: ignore[misc]
        """Bounds every request, and ends what was refused at once."""

        def request(self, method: str, url: str, **asked: Any) -> Any:
            asked["timeout"] = self.limit_s
            answer = super().request(method, url, **asked)
            if answer.status_code < 400 or answer.status_code in _LET_YFINANCE_TRY or not _DATA_HOST.match(url):
                return answer
            if _CRUMB_PATH in url:
                return answer  # prices may be had without one
            raise RefusedError(answer.status_code, dict(answer.headers), str(answer.text))

    session = Session(**options)
    session.limit_s = limit_s
    return session


def _date_s(headers: Mapping[str, str]) -> float | None:
    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def explain(venue: str, what: str, error: Exception) -> VenueError:
    """Say a failure in our words; `what` names the request. 429 is for the caller, who knows the pause."""
    if isinstance(error, NoDataError):
        return unavailable(venue, what, Trouble.PAGE)
    if not isinstance(error, RefusedError):
        return _network(venue, what, error)
    if error.status >= 500 or error.status == 408:
        return unavailable(venue, what, Trouble.DOWN, error.status)
    own = description(str(error))
    if error.status in _LET_YFINANCE_TRY:
        return VenueUnavailable(
            f"{venue} refused {what}: its cookie or crumb was not accepted; they are asked for anew, try again ({own})"
        )
    if "<html" in str(error).lower():
        return unavailable(venue, what, Trouble.PAGE, error.status)
    if error.status == 404:
        return VenueRejected(f"{venue} has nothing for {what}; check the symbol ({own})")
    return VenueRejected(f"{venue} refused {what}: {own}")


def _network(venue: str, what: str, error: Exception) -> VenueError:
    code = getattr(error, "code", None)
    if code == _CURL_TIMEOUT or isinstance(error, TimeoutError):
        return VenueTimeout(f"{venue} did not answer in time ({what})")
    trouble = _CURL_TROUBLES.get(code, Trouble.BROKEN) if isinstance(code, int) else Trouble.BROKEN
    return unavailable(venue, what, trouble, type(error).__name__ if trouble is Trouble.BROKEN else "")


def description(text: str) -> str:
    """Give Yahoo's own words of an error's body."""
    try:
        [body] = json.loads(text).values()
        return words(body["error"]["description"])
    except (ValueError, TypeError, KeyError, AttributeError):
        return words(text)
