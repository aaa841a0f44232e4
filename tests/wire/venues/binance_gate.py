"""Who gets in at the simulated Binance: weights and order counts, bans, keys, times and signatures.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits and .../endpoint-security-type
"""

from __future__ import annotations

import hashlib
import hmac
import re

from koc_qt.domain.timeframes import SECOND_NS
from tests.wire.binance import RefusalError
from tests.wire.core.accounts import KeyProblem
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import Exchange
from tests.wire.venues.binance_asks import Ask, Endpoint, LimitedError
from tests.wire.venues.binance_rows import MS

_KEY = re.compile(r"[A-Za-z0-9]{64}")
_NO_KEY = "Invalid API-key, IP, or permissions for action."
ORDER_SPANS = (("10S", "SECOND", 10, 100, 10.0), ("1D", "DAY", 1, 200_000, 86_400.0))


class Gate:
    """Counts requests of each address and orders of each account, and lets signed requests in.

    `weights` and `order_counts` may be given other limits; `ban_after` requests past the limit, an address is banned.
    """

    def __init__(self, exchange: Exchange) -> None:
        self.weights = RateCounter(6_000, 60.0)
        self.order_counts = {name: RateCounter(most, span) for name, _, _, most, span in ORDER_SPANS}
        self.ban_after = 10
        self._banned_until_ns: dict[str, int] = {}
        self._exchange = exchange

    def count(self, ask: Ask, endpoint: Endpoint, *, sapi: bool = False) -> dict[str, str]:
        """Count the request's weight and give the headers that tell it. Raises LimitedError."""
        now_ns = self._exchange.time_ns()
        ban_s = (self._banned_until_ns.get(ask.ip, 0) - now_ns) / SECOND_NS
        if ban_s > 0:
            raise self.too_many(ask.ip, ban_s, banned=True)
        weight = endpoint.weigh(ask)
        wait_s = self.weights.take(ask.ip, weight, now_ns)
        used = self.weights.used(ask.ip, now_ns)
        if used > self.weights.limit + self.ban_after * weight:
            self._banned_until_ns[ask.ip] = now_ns + 120 * SECOND_NS
            raise self.too_many(ask.ip, 120.0, banned=True)
        if wait_s:
            raise self.too_many(ask.ip, wait_s)
        if sapi:
            return {"X-SAPI-USED-IP-WEIGHT-1M": f"{used:.0f}"}
        return {"X-MBX-USED-WEIGHT": f"{used:.0f}", "X-MBX-USED-WEIGHT-1M": f"{used:.0f}"}

    def too_many(self, ip: str, retry_after_s: float, *, banned: bool = False) -> LimitedError:
        """Make what somebody is told who asks too often."""
        until_ms = (self._exchange.time_ns() // MS) + round(retry_after_s * 1000)
        advice = "Please use WebSocket Streams for live updates to avoid bans."
        text = f"Way too much request weight used; IP({ip}) banned until {until_ms}. {advice}"
        if not banned:
            most = f"{self.weights.limit:.0f} REQUEST_WEIGHT per 1 MINUTE"
            text = f"Too much request weight used; current limit is {most}. {advice}"
        return LimitedError(-1003, text, retry_after_s, banned=banned)

    def order_limits(self) -> list[dict[str, object]]:
        """Tell the limits of orders, as exchangeInfo does."""
        return [
            {"rateLimitType": "ORDERS", "interval": each, "intervalNum": n, "limit": int(self.order_counts[name].limit)}
            for name, each, n, _, _ in ORDER_SPANS
        ]

    def count_order(self, ask: Ask) -> dict[str, str]:
        """Count an order and give the headers that tell it. Raises LimitedError."""
        now_ns, headers = self._exchange.time_ns(), {}
        for name, counter in self.order_counts.items():
            wait_s = counter.take(ask.owner.name, 1, now_ns)
            if wait_s:
                most = f"{counter.limit:.0f} orders per {name.replace('10S', 'TEN_SECONDS').replace('1D', 'DAY')}"
                raise LimitedError(-1015, f"Too many new orders; current limit is {most}.", wait_s)
            headers[f"X-MBX-ORDER-COUNT-{name}"] = f"{counter.used(ask.owner.name, now_ns):.0f}"
        return headers

    def let_in(self, ask: Ask, needs: str, key: str, signed: str) -> None:
        """Check key, time and signature of a request, in the venue's order. Raises RefusalError."""
        if not key or not _KEY.fullmatch(key):
            raise RefusalError(-2014, "API-key format invalid.")
        timestamp, window = ask.whole("timestamp"), ask.whole("recvWindow")
        if timestamp is None:
            ask.need("timestamp")
        if window is not None and window > 60_000:
            raise RefusalError(-1131, "recvWindow must be less than 60000.")
        now_ms = self._exchange.time_ns() // MS
        if (timestamp or 0) >= now_ms + 1000:
            raise RefusalError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if (timestamp or 0) < now_ms - (window or 5_000):
            raise RefusalError(-1021, "Timestamp for this request is outside of the recvWindow.")
        found = self._exchange.directory.check(key, ask.ip, self._exchange.time_ns(), needs)
        if isinstance(found, KeyProblem) or found[0].extra.get("test_network", False) is not ask.test_network:
            raise RefusalError(-2015, _NO_KEY)
        ask.user, ask.key = found
        right = hmac.new(ask.key.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(right, ask.need("signature")):
            raise RefusalError(-1022, "Signature for this request is not valid.")
