"""Who gets in at the simulated Coinbase: tokens signed with a key's private part, and requests a second.

https://docs.cdp.coinbase.com/coinbase-app/authentication-authorization/api-key-authentication and
https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/rest-api (rate limits)
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from koc_qt.domain.timeframes import SECOND_NS
from tests.wire.core.accounts import READ, ApiKey, KeyProblem, User
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange

_LEEWAY_S = 5
LONGEST_S = 120  # a token is good for at most so long


class RefusalError(Exception):
    """A request is refused: a status, and what is said; plain text for `Unauthorized`."""

    def __init__(self, status: int, code: str, text: str = "") -> None:
        super().__init__(text or code)
        self.status, self.code, self.text = status, code, text or code


def _part(text: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


class Gate:
    """Counts requests (30 a second and account, 10 and address for public ones, 8 stream messages), reads tokens."""

    def __init__(self, exchange: Exchange) -> None:
        self.private = RateCounter(30, 1.0)
        self.public = RateCounter(10, 1.0)
        self.messages = RateCounter(8, 1.0)
        self._exchange = exchange
        self._public_keys: dict[str, Any] = {}

    def count(self, counter: RateCounter, who: str) -> dict[str, str]:
        """Count a request and give the headers that tell it. Raises RefusalError."""
        now_ns = self._exchange.time_ns()
        wait_s = counter.take(who, 1, now_ns)
        if wait_s:
            raise RefusalError(429, "rate_limit_exceeded", "Too many requests")
        left = counter.left(who, now_ns)
        return {"x-ratelimit-limit": f"{counter.limit:.0f}", "x-ratelimit-remaining": f"{left:.0f}"}

    def let_in(self, token: str, ip: str, uri: str | None, needs: str) -> tuple[User, ApiKey]:
        """Read a token. Raises RefusalError, in the venue's one word for all that is wrong with it."""
        try:
            head, body, signature = token.split(".")
            header, claims = _part(head), _part(body)
            name = header["kid"]
            raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
        except (ValueError, KeyError, TypeError) as error:
            raise RefusalError(401, "Unauthorized") from error
        now_s = self._exchange.time_ns() / SECOND_NS
        is_right = (
            header.get("alg") == "ES256"
            and header.get("nonce")
            and claims.get("sub") == name
            and claims.get("iss") in ("cdp", "coinbase-cloud")
            and claims.get("nbf", 0) <= now_s + _LEEWAY_S
            and now_s < claims.get("exp", 0) <= claims.get("nbf", 0) + LONGEST_S
            and claims.get("uri") == uri
            and len(raw) == 64
        )
        if not is_right or not self._is_signed(name, f"{head}.{body}".encode(), raw):
            raise RefusalError(401, "Unauthorized")
        found = self._exchange.directory.check(name, ip, self._exchange.time_ns(), needs)
        if found is KeyProblem.PERMISSION and needs != READ:
            raise RefusalError(403, "PERMISSION_DENIED", "Missing required scopes")
        if isinstance(found, KeyProblem):
            raise RefusalError(401, "Unauthorized")
        return found

    def _is_signed(self, name: str, text: bytes, raw: bytes) -> bool:
        found = self._exchange.directory.find(name)
        if found is None:
            return False
        if name not in self._public_keys:
            private = load_pem_private_key(found[1].secret.encode(), None)
            assert isinstance(private, EllipticCurvePrivateKey)
            self._public_keys[name] = private.public_key()
        signature = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        try:
            self._public_keys[name].verify(signature, text, ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True
