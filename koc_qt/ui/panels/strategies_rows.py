"""The columns of the table of known strategies."""

from __future__ import annotations

from dataclasses import dataclass

from koc_qt.domain.state import StrategySnapshot, StrategySpec, StrategyState
from koc_qt.domain.trust import DriftReport, Verdict
from koc_qt.ui.formats import DASH, date, signed_money
from koc_qt.ui.panels.strategies_drift import MEASURING, NEVER, drift_look, drift_text
from koc_qt.ui.tables.columns import Column, tone_of_sign

STATES: dict[StrategyState, tuple[str, str]] = {
    StrategyState.STARTING: ("Starting", "warning"),
    StrategyState.RUNNING: ("Running", "profit"),
    StrategyState.STOPPING: ("Stopping", "warning"),
    StrategyState.STOPPED: ("Stopped", "neutral"),
    StrategyState.BACKING_OFF: ("Waiting", "warning"),
    StrategyState.FAILED: ("Failed", "danger"),
}


_RANK = {Verdict.RED: 3, Verdict.AMBER: 2, Verdict.GREEN: 1, Verdict.NONE: 0}


@dataclass(frozen=True)
class Known:
    """A strategy, the newest report about its drift, and whether it is being measured."""

    now: StrategySnapshot
    drift: DriftReport | None = None
    is_measured: bool = False

    @property
    def spec(self) -> StrategySpec:
        """What it was started with."""
        return self.now.spec


def symbols_of(strategy: StrategySnapshot) -> str:
    """Give its symbols; with their venues where they are of several."""
    instruments = strategy.spec.instruments
    if len({each.venue for each in instruments}) > 1:
        return ", ".join(map(str, instruments))
    return ", ".join(each.symbol for each in instruments)


def in_words(strategy: StrategySnapshot) -> str:
    """Say why a strategy is as it is, for the line below the table; empty where there is no more to say."""
    return f"{strategy.spec.strategy_id}: {strategy.reason}" if strategy.reason else ""


def _identity(known: Known) -> str:
    spec = known.spec
    values = ", ".join(f"{name} {value}" for name, value in spec.parameters.items())
    lines = [known.now.name, spec.path, f"Account {spec.account_id}", values and f"Set: {values}"]
    return "\n".join(line for line in lines if line)


def _drift_tip(known: Known) -> str:
    if known.is_measured:
        return MEASURING
    return NEVER if known.drift is None else f"{known.drift.sentence}\nMeasured {date(known.drift.measured_ns)}"


STRATEGY_COLUMNS: tuple[Column[Known], ...] = (
    Column("strategy", "Strategy", lambda each: each.spec.strategy_id, tip=_identity, width=13),
    Column(
        "state",
        "State",
        lambda each: STATES[each.now.state][0],
        tip=lambda each: each.now.reason or STATES[each.now.state][0],
        pill=lambda each: STATES[each.now.state][1],
        width=11,
    ),
    Column(
        "pnl",
        "PnL",
        lambda each: signed_money(each.now.pnl),
        key=lambda each: each.now.pnl,
        right=True,
        tone=lambda each: tone_of_sign(each.now.pnl),
        title_tip="Profit after fees, in the quote currency",
        width=11,
    ),
    Column(
        "trades",
        "Trades",
        lambda each: f"{each.now.trades:,}",
        key=lambda each: each.now.trades,
        right=True,
        width=6,
    ),
    Column(
        "drift",
        "Drift",
        lambda each: drift_text(each.drift, each.is_measured) or DASH,
        key=lambda each: None if each.drift is None else _RANK[each.drift.verdict],
        tone=lambda each: None if each.drift or each.is_measured else "muted",
        tip=_drift_tip,
        pill=lambda each: drift_look(each.drift, each.is_measured),
        title_tip="Whether it does live what it does in a back-test",
        width=13,
    ),
    Column("symbols", "Symbols", lambda each: symbols_of(each.now), width=12),
    Column("timeframe", "Timeframe", lambda each: each.spec.timeframe or DASH, width=6),
)

# Orders that layouts of earlier versions hold where nobody has moved a column: before there was Drift and opened since,
# which put it last, and when it came before the profit.
_BEFORE_DRIFT = ("strategy", "state", "pnl", "trades", "symbols", "timeframe")
FORMER_ORDERS: tuple[tuple[str, ...], ...] = (
    _BEFORE_DRIFT,
    (*_BEFORE_DRIFT, "drift"),
    (*_BEFORE_DRIFT[:2], "drift", *_BEFORE_DRIFT[2:]),
)
