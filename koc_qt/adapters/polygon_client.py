"""The vendor's client of Polygon.io (Massive), kept from what it does by itself, and its failures in our words.

It would try again after 429 and sleep for as long as the venue names, take a web page for an empty answer, drop an
answer's headers, and write to the console.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

from koc_qt.adapters.blocking_reader import Trouble, unavailable, words
from koc_qt.adapters.ccxt_client import LoopbackEndpoint
from koc_qt.adapters.data_only import S_NS
from koc_qt.domain.errors import VenueError, VenueRejected, VenueTimeout

KEYS_PAGE = "https://massive.com/dashboard/keys"
_API = "api.massive.com"


class RefusedError(Exception):
    """The venue answered with another status than 200."""

    def __init__(self, status: int, headers: Mapping[str, str], text: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers


class NoDataError(Exception):
    """The venue answered 200 with something that is no JSON object."""


class _Answers:
    """The client's pool of connections, which keeps what the client drops: status and headers of a refusal.

    `told_ns` is the newest time that an answer carried, in UTC nanoseconds.
    """

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self.told_ns = 0

    def request(self, method: str, url: str, **options: Any) -> Any:
        """Ask; gives the client its answer when that is 200. Raises RefusedError."""
        answer = self._pool.request(method, url, **options)
        if answer.status != 200:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            raise RefusedError(answer.status, headers, said(answer.data))
        with contextlib.suppress(TypeError, ValueError):  # then another one will tell
            self.told_ns = max(self.told_ns, round(parsedate_to_datetime(answer.headers["date"]).timestamp()) * S_NS)
        return answer

    def close(self) -> None:
        """Close the idle connections, which the pools themselves would only do when nobody remembers them."""
        for key in self._pool.pools.keys():  # noqa: SIM118 - it is no mapping that can be gone through
            self._pool.pools[key].close()
        self._pool.clear()


def make_rest_client(key: str, endpoint: LoopbackEndpoint | None, limit_s: float) -> Any:
    """Import it, which takes a second, and make one that raises RefusedError and whose requests end in `limit_s`."""
    massive = importlib.import_module("massive")
    urllib3 = importlib.import_module("urllib3")
    for logger in ("RESTClient", "WebSocketClient"):
        logging.getLogger(logger).handlers.clear()
    options: dict[str, Any] = {"retries": urllib3.Retry(0, raise_on_status=False, respect_retry_after_header=False)}
    where = {"base": f"https://{_API}"}
    if endpoint is not None:
        where = {"base": f"https://{endpoint.host}:{endpoint.port}", "ca_certs": endpoint.ca_file}
        options |= {"assert_hostname": _API, "server_hostname": _API}
    client = massive.RESTClient(key, connect_timeout=limit_s, read_timeout=limit_s, connection_pool_kw=options, **where)
    client.headers["Host"] = _API
    client.client = _Answers(client.client)
    return client


def close_rest_client(client: Any) -> None:
    """Close its connections."""
    client.client.close()


def make_stream_client(key: str, host: str, market: str, endpoint: LoopbackEndpoint | None) -> Any:
    """Make a client of one connection, which ends when that ends; `trouble` is what it was told of last."""
    base: Any = importlib.import_module("massive").WebSocketClient

    class Watched(base):  # type: ignore[misc]
        """The vendor's client, which keeps what it is told instead of writing it to the console."""

        trouble = ""

        def _log_server_statuses(self, messages: Sequence[Mapping[str, Any]]) -> None:
            for message in messages:
                if message.get("status") not in ("connected", "auth_success", "success"):
                    self.trouble = f"{message.get('status')}: {message.get('message')}"

    ca_certs = endpoint.ca_file if endpoint is not None else None
    return Watched(key, feed=host, market=market, raw=True, max_reconnects=0, ca_certs=ca_certs)


def told_ns(client: Any) -> int:
    """Give the newest time that an answer of a REST client carried, UTC nanoseconds; 0 before the first."""
    return int(client.client.told_ns)


def is_refused(error: BaseException) -> bool:
    """Tell whether the stream did not let the key in."""
    return isinstance(error, importlib.import_module("massive.exceptions").AuthError)


def said(data: bytes) -> str:
    """Give an answer's text."""
    return data.decode("utf-8", "replace")


def read_object(text: str) -> Mapping[str, Any]:
    """Read an answer. Raises NoDataError for what is no JSON object, such as a web page."""
    try:
        body = json.loads(text)
    except ValueError:
        raise NoDataError(text) from None
    if not isinstance(body, dict):
        raise NoDataError(text)
    return body


def explain(venue: str, what: str, error: Exception) -> VenueError:
    """Say a failure of the client in our words; `what` names the request."""
    if isinstance(error, NoDataError):
        return unavailable(venue, what, Trouble.PAGE)
    if not isinstance(error, RefusedError):
        return _network(venue, what, error)
    if error.status >= 500 or error.status == 408:
        return unavailable(venue, what, Trouble.DOWN, error.status)
    text = str(error)
    if "<html" in text.lower():
        return unavailable(venue, what, Trouble.PAGE, error.status)
    own = words(_message(text))
    if error.status == 401:
        return VenueRejected(
            f"{venue} refused {what}: it does not accept the API key; check that it is whole and has not been revoked, "
            f"at {KEYS_PAGE} ({own})"
        )
    if error.status == 403:
        return VenueRejected(
            f"{venue} refused {what}: the key's plan does not include it; ask for less, or choose another plan at "
            f"https://massive.com/pricing ({own})"
        )
    return VenueRejected(f"{venue} refused {what}: {own}")


def _network(venue: str, what: str, error: Exception) -> VenueError:
    from urllib3 import exceptions

    reason = getattr(error, "reason", None) or error
    if isinstance(reason, exceptions.NameResolutionError):
        return unavailable(venue, what, Trouble.NAME)
    if isinstance(reason, exceptions.SSLError):
        return unavailable(venue, what, Trouble.TRUST)
    if isinstance(reason, exceptions.ReadTimeoutError):
        return VenueTimeout(f"{venue} did not answer in time ({what})")
    if isinstance(reason, exceptions.NewConnectionError | exceptions.ConnectTimeoutError):
        return unavailable(venue, what, Trouble.UNREACHABLE)
    return unavailable(venue, what, Trouble.BROKEN, type(reason).__name__)


def _message(text: str) -> str:
    """Give the venue's own words of an error's body."""
    try:
        body = json.loads(text)
        return str(body.get("error") or body.get("message") or text)
    except (ValueError, AttributeError):
        return text
