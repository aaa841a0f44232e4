"""Rate limits: how much a key or an address has used, and how long it must wait."""

from __future__ import annotations

from dataclasses import dataclass

from koc_qt.domain.timeframes import SECOND_NS


@dataclass
class _Used:
    amount: float = 0.0
    since_ns: int = 0


class RateCounter:
    """Counts weights of each `who` against `limit`.

    In windows of `span_s` that begin on multiples of it, as Binance's minutes do; with `decays` as a bucket that leaks
    limit / span_s a second, as Kraken's counters do.
    """

    def __init__(self, limit: float, span_s: float, *, decays: bool = False) -> None:
        self.limit = limit
        self.span_s = span_s
        self._decays = decays
        self._used: dict[str, _Used] = {}

    def take(self, who: str, weight: float, now_ns: int) -> float:
        """Count it and give 0.0, or, when the limit is passed, how many seconds to wait."""
        used = self._now(who, now_ns)
        used.amount += weight
        over = used.amount - self.limit
        if over <= 0:
            return 0.0
        if self._decays:
            used.amount -= weight
            return over * self.span_s / self.limit
        span_ns = int(self.span_s * SECOND_NS)
        return (span_ns - now_ns % span_ns) / SECOND_NS

    def used(self, who: str, now_ns: int) -> float:
        """Give what is used now."""
        return self._now(who, now_ns).amount

    def left(self, who: str, now_ns: int) -> float:
        """Give what can still be used."""
        return max(self.limit - self.used(who, now_ns), 0.0)

    def _now(self, who: str, now_ns: int) -> _Used:
        used = self._used.setdefault(who, _Used(0.0, now_ns))
        span_ns = int(self.span_s * SECOND_NS)
        if self._decays:
            leaked = (now_ns - used.since_ns) / span_ns * self.limit
            used.amount = max(used.amount - leaked, 0.0)
        elif now_ns // span_ns != used.since_ns // span_ns:
            used.amount = 0.0
        used.since_ns = now_ns
        return used
