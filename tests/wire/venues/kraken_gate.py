"""Who gets in at the simulated Kraken: keys, nonces, signatures, and its two kinds of counters.

https://docs.kraken.com/exchange/guides/rest/authentication and .../guides/rest/ratelimits
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from tests.wire.core.accounts import READ, ApiKey, KeyProblem, User
from tests.wire.core.dialect import Call
from tests.wire.core.orders import WireOrder
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange

_AGES_S = ((5, 8), (10, 6), (15, 5), (45, 4), (90, 2), (300, 1))  # a cancel of an order younger than this costs so much
_LOCKED_AFTER = 20  # wrong keys in a row


class TurnedAwayError(Exception):
    """An answer whose `error` list has this text."""


class Gate:
    """Counts calls as an account of the intermediate tier has them, and lets signed requests in.

    `calls` and `trading` may be given other limits.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.calls = RateCounter(20, 40.0, decays=True)
        self.public = RateCounter(20, 20.0, decays=True)
        self.trading = RateCounter(125, 125 / 2.34, decays=True)
        self._wrong: dict[str, int] = {}
        self._exchange = exchange

    def count_public(self, call: Call) -> None:
        """Count a public request of an address. Raises TurnedAwayError."""
        if self.public.take(call.ip, 1, self._exchange.time_ns()):
            raise TurnedAwayError("EGeneral:Too many requests")

    def let_in(self, call: Call, form: dict[str, str], needs: str, weight: float) -> tuple[User, ApiKey]:
        """Check key, signature and nonce, count the call, then look what the key may do. Raises TurnedAwayError."""
        now_ns, key = self._exchange.time_ns(), call.headers.get("API-Key", "")
        if self._wrong.get(call.ip, 0) >= _LOCKED_AFTER:
            raise TurnedAwayError("EGeneral:Temporary lockout")
        found = self._exchange.directory.check(key, call.ip, now_ns, needs or READ)
        if isinstance(found, KeyProblem) and found is not KeyProblem.PERMISSION:
            self._wrong[call.ip] = self._wrong.get(call.ip, 0) + 1
            raise TurnedAwayError("EAPI:Invalid key")
        self._wrong.pop(call.ip, None)
        owner = self._exchange.directory.find(key)
        assert owner is not None
        nonce = form.get("nonce", "")
        if not hmac.compare_digest(signature(owner[1].secret, call.path, nonce, call.body), _sent(call)):
            raise TurnedAwayError("EAPI:Invalid signature")
        if not nonce.isdigit() or not owner[1].accept_nonce(int(nonce)):
            raise TurnedAwayError("EAPI:Invalid nonce")
        if weight and self.calls.take(key, weight, now_ns):
            raise TurnedAwayError("EAPI:Rate limit exceeded")
        if needs and isinstance(found, KeyProblem):
            raise TurnedAwayError("EGeneral:Permission denied")
        return owner

    def count_order(self, user: User, symbol: str, weight: float = 1.0) -> None:
        """Count a new or amended order of a pair. Raises TurnedAwayError."""
        if self.trading.take(f"{user.name} {symbol}", weight, self._exchange.time_ns()):
            raise TurnedAwayError("EOrder:Rate limit exceeded")

    def count_cancel(self, order: WireOrder) -> None:
        """Count a cancel, the dearer the younger its order is; never refused for it."""
        now_ns = self._exchange.time_ns()
        age_s = (now_ns - order.created_ns) / 1e9
        weight = next((cost for limit_s, cost in _AGES_S if age_s < limit_s), 0)
        self.trading.take(f"{order.user.name} {order.symbol}", weight, now_ns)


def _sent(call: Call) -> str:
    return call.headers.get("API-Sign", "")


def signature(secret: str, path: str, nonce: str, body: bytes) -> str:
    """Sign a request as the venue documents it."""
    digest = hashlib.sha256(nonce.encode() + body).digest()
    return base64.b64encode(
        hmac.new(base64.b64decode(secret), path.encode() + digest, hashlib.sha512).digest()
    ).decode()
