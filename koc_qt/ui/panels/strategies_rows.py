"""The columns of the table of known strategies."""

from __future__ import annotations

from koc_qt.domain.state import StrategySnapshot, StrategyState
from koc_qt.ui.formats import DASH, signed_money
from koc_qt.ui.tables.columns import Column, tone_of_sign

STATES: dict[StrategyState, tuple[str, str]] = {
    StrategyState.STARTING: ("Starting", "warning"),
    StrategyState.RUNNING: ("Running", "profit"),
    StrategyState.STOPPING: ("Stopping", "warning"),
    StrategyState.STOPPED: ("Stopped", "neutral"),
    StrategyState.BACKING_OFF: ("Waiting", "warning"),
    StrategyState.FAILED: ("Failed", "danger"),
}


def symbols_of(strategy: StrategySnapshot) -> str:
    """Give its symbols; with their venues where they are of several."""
    instruments = strategy.spec.instruments
    if len({each.venue for each in instruments}) > 1:
        return ", ".join(map(str, instruments))
    return ", ".join(each.symbol for each in instruments)


def in_words(strategy: StrategySnapshot) -> str:
    """Say why a strategy is as it is, for the line below the table; empty where there is no more to say."""
    return f"{strategy.spec.strategy_id}: {strategy.reason}" if strategy.reason else ""


def _identity(strategy: StrategySnapshot) -> str:
    spec = strategy.spec
    values = ", ".join(f"{name} {value}" for name, value in spec.parameters.items())
    lines = [strategy.name, spec.path, f"Account {spec.account_id}", values and f"Set: {values}"]
    return "\n".join(line for line in lines if line)


STRATEGY_COLUMNS: tuple[Column[StrategySnapshot], ...] = (
    Column("strategy", "Strategy", lambda each: each.spec.strategy_id, tip=_identity, width=13),
    Column(
        "state",
        "State",
        lambda each: STATES[each.state][0],
        tip=lambda each: each.reason or STATES[each.state][0],
        pill=lambda each: STATES[each.state][1],
        width=11,
    ),
    Column(
        "pnl",
        "PnL",
        lambda each: signed_money(each.pnl),
        key=lambda each: each.pnl,
        right=True,
        tone=lambda each: tone_of_sign(each.pnl),
        title_tip="Profit after fees, in the quote currency",
        width=11,
    ),
    Column("trades", "Trades", lambda each: f"{each.trades:,}", key=lambda each: each.trades, right=True, width=6),
    Column("symbols", "Symbols", symbols_of, width=12),
    Column("timeframe", "Timeframe", lambda each: each.spec.timeframe or DASH, width=6),
)
