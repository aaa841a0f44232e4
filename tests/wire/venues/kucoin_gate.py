"""Who gets in at the simulated KuCoin: keys, passphrases, times and signatures, and its pools of weights.

https://www.kucoin.com/docs-new/authentication and https://www.kucoin.com/docs-new/rate-limit
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from koc_qt.domain.timeframes import SECOND_NS
from tests.wire.core.accounts import READ, ApiKey, KeyProblem, User
from tests.wire.core.dialect import Call
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange

_WINDOW_MS = 5_000
PUBLIC, SPOT, MANAGEMENT = "public", "spot", "management"


class TurnedAwayError(Exception):
    """An answer with this code and text."""

    def __init__(self, code: str, text: str, status: int = 200, headers: dict[str, str] | None = None) -> None:
        super().__init__(text)
        self.code, self.status, self.headers = code, status, headers


class Gate:
    """Counts weights by pool, as for VIP level 0, and lets signed requests in; `pools` may be given other limits."""

    def __init__(self, exchange: Exchange) -> None:
        self.pools = {PUBLIC: RateCounter(2000, 30), SPOT: RateCounter(4000, 30), MANAGEMENT: RateCounter(2000, 30)}
        self._exchange = exchange

    def count(self, pool: str, who: str, weight: float) -> dict[str, str]:
        """Count a request and give the headers that tell it. Raises TurnedAwayError."""
        counter, now_ns = self.pools[pool], self._exchange.time_ns()
        wait_s = counter.take(who, weight, now_ns)
        span_ns = int(counter.span_s * SECOND_NS)
        headers = {
            "gw-ratelimit-limit": f"{counter.limit:.0f}",
            "gw-ratelimit-remaining": f"{counter.left(who, now_ns):.0f}",
            "gw-ratelimit-reset": str((span_ns - now_ns % span_ns) // 1_000_000),
        }
        if wait_s:
            raise self.too_many(wait_s, headers)
        return headers

    @staticmethod
    def too_many(wait_s: float, headers: dict[str, str] | None = None) -> TurnedAwayError:
        """Make what somebody is told who asks too often."""
        told = headers or {"gw-ratelimit-limit": "4000", "gw-ratelimit-remaining": "0"}
        text = "Too many requests in a short period of time, please retry later"
        return TurnedAwayError("429000", text, 429, {**told, "gw-ratelimit-reset": f"{wait_s * 1000:.0f}"})

    def let_in(self, call: Call, needs: str) -> tuple[User, ApiKey]:
        """Check key, time, passphrase, signature and permission, in the venue's order. Raises TurnedAwayError."""
        names = ("KC-API-KEY", "KC-API-SIGN", "KC-API-TIMESTAMP", "KC-API-PASSPHRASE")
        key, signed, stamp, passphrase = (call.headers.get(name, "") for name in names)
        if not (key and signed and stamp and passphrase):
            raise TurnedAwayError("400001", f"Please check the header of your request for {', '.join(names)}", 401)
        now_ns = self._exchange.time_ns()
        if not stamp.isdigit() or abs(int(stamp) - now_ns // 1_000_000) > _WINDOW_MS:
            raise TurnedAwayError("400002", "KC-API-TIMESTAMP Invalid", 401)
        found = self._exchange.directory.check(key, call.ip, now_ns, needs or READ)
        if found in (KeyProblem.UNKNOWN, KeyProblem.REVOKED, KeyProblem.EXPIRED):
            raise TurnedAwayError("400003", "KC-API-KEY not exists", 401)
        owner = self._exchange.directory.find(key)
        assert owner is not None
        secret = owner[1].secret
        plain = owner[1].passphrase
        if call.headers.get("KC-API-KEY-VERSION", "1") in ("2", "3"):
            plain = _sign(secret, plain)
        if not hmac.compare_digest(plain.encode(), passphrase.encode()):
            raise TurnedAwayError("400004", "KC-API-PASSPHRASE error", 401)
        right = _sign(secret, f"{stamp}{call.method}{call.raw_path}{call.text}")
        if not hmac.compare_digest(right.encode(), signed.encode()):
            raise TurnedAwayError("400005", "Signature error", 401)
        if found is KeyProblem.IP:
            text = f"The requested ip address is not in the api whitelist,current ip is {call.ip}"
            raise TurnedAwayError("400006", text, 401)
        if found is KeyProblem.PERMISSION:
            raise TurnedAwayError("400007", "Access denied, require more permission", 403)
        return owner


def _sign(secret: str, said: str) -> str:
    return base64.b64encode(hmac.new(secret.encode(), said.encode(), hashlib.sha256).digest()).decode()
