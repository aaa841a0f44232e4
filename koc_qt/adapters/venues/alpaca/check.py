"""Trying an account's keys: what they may do, the market's clock against ours, how fast Alpaca answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from statistics import median

from koc_qt.adapters.venues.alpaca.errors import TITLE
from koc_qt.adapters.venues.alpaca.facts import Row
from koc_qt.adapters.venues.alpaca.requests_of import AlpacaRequests, get_row
from koc_qt.domain.errors import VenueError
from koc_qt.domain.state import Balance
from koc_qt.domain.venues import ConnectionReport
from koc_qt.ports.clock import Clock

_REQUESTS = 3
_MUCH_SKEW_MS = 1_000.0
_BLOCKS = {
    "account_blocked": "the account is blocked; ask Alpaca's support",
    "trading_blocked": "the account may not trade; look at its page at Alpaca, or ask the support",
    "trade_suspended_by_user": "trading is suspended in the account's settings at Alpaca; allow it there",
}


async def check_account(
    requests: AlpacaRequests, clock: Clock, balances: Callable[[], Awaitable[Sequence[Balance]]]
) -> ConnectionReport:
    """Ask for the account three times, the clock, and what it holds, on a connection that is open already."""
    latencies_ms: list[float] = []
    account: Row = {}
    try:
        told = await requests.ask_time(attempts=1)
        skew_ms = (requests.venue_clock.time_ns() - clock.time_ns()) / 1e6
        for _ in range(_REQUESTS):
            began_ns = clock.monotonic_ns()
            account = await requests.read("the account", get_row("/account"), attempts=1)
            latencies_ms.append((clock.monotonic_ns() - began_ns) / 1e6)
        found = tuple(await balances())
    except VenueError as error:
        return ConnectionReport(problem=str(error))
    problem = next((f"{TITLE}: {text}." for field, text in _BLOCKS.items() if account.get(field)), "")
    warnings = []
    if str(account.get("status")) != "ACTIVE":
        warnings.append(f"{TITLE} says that the account is {account.get('status')}.")
    if account.get("pattern_day_trader"):
        warnings.append("Alpaca has marked the account as a pattern day trader's, with the limits that come with that.")
    if told.get("is_open") is False:
        warnings.append(f"The US stock market is closed until {told.get('next_open')}; orders for stocks wait for it.")
    if abs(skew_ms) > _MUCH_SKEW_MS:
        away = f"{abs(skew_ms) / 1000:.1f} s {'behind' if skew_ms > 0 else 'ahead of'}"
        warnings.append(f"This machine's clock is {away} {TITLE}'s; set it right.")
    names = [name for name in ("shorting_enabled",) if account.get(name)]
    if str(account.get("crypto_status")) == "ACTIVE":
        names.append("crypto")
    return ConnectionReport(
        problem=problem,
        can_read=True,
        can_trade=not problem,
        can_withdraw=False,  # nothing in the trading interface could
        permissions=tuple(names),
        clock_skew_ms=skew_ms,
        latency_ms=median(latencies_ms),
        balances=found,
        warnings=tuple(warnings),
        limits=_limits(account),
    )


def _limits(account: Row) -> tuple[str, ...]:
    """Say what else Alpaca limits: how far money may be borrowed, and day trades of accounts below 25,000 USD.

    https://docs.alpaca.markets/docs/user-protection
    """
    times = str(account.get("multiplier") or "")
    limits = [f"buys up to {times} times its equity"] if times.isdigit() and int(times) > 1 else []
    if account.get("pattern_day_trader"):
        limits.append("marked as a pattern day trader")
    return tuple(limits)
