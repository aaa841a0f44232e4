"""Who gets in at the simulated Bitfinex: keys, signatures, numbers that only rise, and requests a minute.

https://docs.bitfinex.com/docs/rest-auth and https://docs.bitfinex.com/docs/requirements-and-limitations
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

from tests.wire.core.accounts import READ, ApiKey, KeyProblem, User
from tests.wire.core.dialect import Call
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange


class RefusalError(Exception):
    """A request is refused with a code and words; almost always under the status 500."""

    def __init__(self, code: int, text: str, status: int = 500) -> None:
        super().__init__(text)
        self.code, self.status = code, status


class Gate:
    """Counts requests (90 a minute and endpoint, orders 1,000 in five minutes), and lets signed requests in."""

    def __init__(self, exchange: Exchange) -> None:
        self.reads = RateCounter(90, 60.0)
        self.orders = RateCounter(1_000, 300.0)
        self._exchange = exchange

    def count(self, who: str, path: str, *, is_order: bool) -> None:
        """Count a request. Raises RefusalError."""
        counter = self.orders if is_order else self.reads
        if counter.take(who if is_order else f"{who} {path}", 1, self._exchange.time_ns()):
            raise RefusalError(11010, "ratelimit: error", 429)

    def let_in(self, call: Call, needs: str) -> tuple[User, ApiKey]:
        """Check a request's key, signature and number. Raises RefusalError."""
        nonce, key = call.headers.get("bfx-nonce", ""), call.headers.get("bfx-apikey", "")
        signed = f"/api{call.path}{nonce}{call.text}"
        return self.check(key, signed, call.headers.get("bfx-signature", ""), nonce, call.ip, needs)

    def authenticate(self, request: dict[str, Any], ip: str) -> tuple[User, ApiKey]:
        """Check what a stream is opened with. Raises RefusalError."""
        payload, nonce = str(request.get("authPayload", "")), str(request.get("authNonce", ""))
        if payload != f"AUTH{nonce}":
            raise RefusalError(10100, "apikey: payload invalid")
        return self.check(str(request.get("apiKey", "")), payload, str(request.get("authSig", "")), nonce, ip, READ)

    def check(self, key: str, signed: str, signature: str, nonce: str, ip: str, needs: str) -> tuple[User, ApiKey]:
        """Check a signature. Raises RefusalError."""
        found = self._exchange.directory.check(key, ip, self._exchange.time_ns(), needs)
        if found is KeyProblem.PERMISSION:
            raise RefusalError(10001, "api_key: permission invalid")
        if isinstance(found, KeyProblem):
            raise RefusalError(10100, "apikey: invalid")
        right = hmac.new(found[1].secret.encode(), signed.encode(), hashlib.sha384).hexdigest()
        if not hmac.compare_digest(right, signature):
            raise RefusalError(10100, "apikey: digest invalid")
        if not nonce.isdigit() or int(nonce) >= 1 << 53:
            raise RefusalError(10112, "nonce: invalid")
        if not found[1].accept_nonce(int(nonce)):
            raise RefusalError(10114, "nonce: small")
        return found
