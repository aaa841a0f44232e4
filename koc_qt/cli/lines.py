"""What a terminal shows of an engine in single lines, and the words and numbers that the live screen has as well.

Loads no `rich`, which an engine without a terminal does not need. Names and reasons come from elsewhere: control
characters in them are shown as such, so that none can steer a terminal. Times of day are UTC.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from koc_qt.domain.orders import Fill
from koc_qt.domain.state import StrategyState
from koc_qt.link.messages import Snapshot

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | {10: " ", 13: " ", 9: " "}


def summary_line(snapshot: Snapshot) -> str:
    """Give one plain line on the whole engine, for output that is no terminal."""
    engine = snapshot.engine
    parts = [f"{clock(engine.time_ns)} engine {engine.state}, up {span(engine.uptime_s)}"]
    if engine.kill_switch:
        parts.append(f"KILL SWITCH ENGAGED: {clean(engine.kill_reason)}")
    parts.append(f"PnL {money(engine.pnl)}")
    parts.append(f"{counted(engine.trades, 'trade')}, {counted(engine.open_orders, 'open order')}")
    parts += [f"{clean(venue.venue)} {venue.state}" for venue in snapshot.venues if venue.streams]
    told = [each for each in snapshot.strategies if each.trades or each.state is not StrategyState.STOPPED]
    parts += [f"{clean(each.spec.strategy_id)} {each.state} {money(each.pnl)}" for each in told]
    return " | ".join(parts)


def fill_line(fill: Fill) -> str:
    """Give one plain line on a fill."""
    return (
        f"{clock(fill.time_ns)} fill: {fill.side} {number(fill.quantity)} {clean(str(fill.instrument))} "
        f"at {number(fill.price)} ({fill.liquidity}, fee {number(fill.fee)} {clean(fill.fee_currency)}) "
        f"for {clean(fill.strategy_id)}"
    )


def clean(text: str) -> str:
    """Show control characters as such."""
    return text.translate(_CONTROL)


def number(value: Decimal) -> str:
    """Write an amount with at most 8 decimals and no zeros at its end."""
    text = f"{value:,.8f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money(value: Decimal) -> str:
    """Write an amount with its sign and two decimals."""
    return f"{value:+,.2f}"


def counted(number: int, noun: str) -> str:
    """Say how many there are."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def clock(time_ns: int) -> str:
    """Give the time of day of UTC nanoseconds."""
    return f"{datetime.fromtimestamp(time_ns // 1_000_000_000, UTC):%H:%M:%S}Z"


def span(seconds: float) -> str:
    """Say how long something has lasted."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days} d {hour:02}:{minute:02}" if days else f"{hour}:{minute:02}:{second:02}"
