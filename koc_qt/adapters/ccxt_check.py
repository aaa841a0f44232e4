"""Trying an account's keys: what they may do, the venue's clock against ours, how fast it answers, its fees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from statistics import median
from typing import Any, TypeVar

from koc_qt.adapters import ccxt_order_facts as facts
from koc_qt.adapters.ccxt_account import AccountClient
from koc_qt.adapters.ccxt_dialect import CcxtDialect, KeyRights
from koc_qt.domain.errors import VenueError
from koc_qt.domain.venues import ConnectionReport
from koc_qt.ports.clock import Clock

T = TypeVar("T")

_SIGNED_REQUESTS = 3
_MUCH_SKEW_MS = 1_000.0


async def check_account(dialect: CcxtDialect, account: AccountClient, clock: Clock) -> ConnectionReport:
    """Ask for what a key may do, three times for the balances, and for fees, on a connection that is open already."""
    warnings: list[str] = []
    skew_ms = (account.venue_clock.time_ns() - clock.time_ns()) / 1e6
    latencies_ms: list[float] = []
    raw: Mapping[str, Any] = {}
    try:
        for _ in range(_SIGNED_REQUESTS):
            began_ns = clock.monotonic_ns()
            raw = await account.read("balances", "the balances", dialect.fetch_balances, attempts=1)
            latencies_ms.append((clock.monotonic_ns() - began_ns) / 1e6)
    except VenueError as error:
        return ConnectionReport(problem=str(error), clock_skew_ms=skew_ms)
    rights = await _try(account, "key", "the key's permissions", dialect.fetch_rights, KeyRights(), warnings)
    unknown: tuple[Decimal | None, Decimal | None] = (None, None)
    maker, taker = await _try(account, "fees", "the fees", dialect.fetch_fees, unknown, warnings)
    problem = ""
    if rights.can_trade is False:
        problem = "The key may not trade: allow spot trading where keys are managed, or use it for reading alone."
    if rights.can_withdraw:
        warnings.append("This key may withdraw money: nothing here needs that; make one that may not.")
    if abs(skew_ms) > _MUCH_SKEW_MS:
        warnings.append(
            f"This machine's clock is {abs(skew_ms) / 1000:.1f} s {'behind' if skew_ms > 0 else 'ahead of'} the "
            "venue's; requests go by the venue's, but set it right."
        )
    return ConnectionReport(
        problem=problem,
        can_read=True,
        can_trade=rights.can_trade,
        can_withdraw=rights.can_withdraw,
        permissions=rights.names,
        clock_skew_ms=skew_ms,
        latency_ms=median(latencies_ms),
        maker_fee=maker,
        taker_fee=taker,
        balances=tuple(facts.balances(raw)),
        warnings=tuple(warnings),
    )


async def _try(
    account: AccountClient,
    kind: str,
    what: str,
    ask: Callable[[Any], Awaitable[T]],
    otherwise: T,
    warnings: list[str],
) -> T:
    """Ask what is good to know; without it the report says so."""
    try:
        return await account.read(kind, what, ask, attempts=1)
    except VenueError as error:
        warnings.append(str(error))
        return otherwise
