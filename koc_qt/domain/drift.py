"""Where the gap between a strategy that runs and a back-test over the same time comes from.

Every execution is worth, at the last price of the time, its side times quantity times (that price less its own) less
its fee; profits are sums of that. Executions of both are put together by instrument, side and time; the gap of each
pair is split up without a rest:

- latency: the price had moved by the opening of the bar in which it traded live,
- slippage: it traded at another price than that opening,
- size: it was of another quantity,
- fees: it cost another fee;
- missed and additional are executions without a partner.

What the back-test earns on the bars that the strategy saw, less what it earns on those that history has now, is what
the data account for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.parity import Execution, pair
from koc_qt.domain.trust import GapCause, Verdict

SLACK_BARS = 5  # how much later than in a back-test an execution, or an order, can be and still be the same
_ROUNDING = 1e-9  # of what was traded


class Gap(msgspec.Struct, frozen=True):
    """The profits of two lists of executions, what their difference is made of, and how many have a partner."""

    live_pnl: float
    test_pnl: float
    parts: dict[str, float]
    matched: int
    missed: int
    additional: int


def profit(executions: Sequence[Execution], marks: Mapping[InstrumentId, float]) -> float:
    """Give what executions are worth at the last prices, fees paid. Raises KeyError for an instrument without one."""
    return math.fsum(_worth(each, marks) for each in executions)


def attribute(
    live: Sequence[Execution],
    test: Sequence[Execution],
    marks: Mapping[InstrumentId, float],
    opening: Callable[[InstrumentId, int], float | None],
    slack_ns: int,
) -> Gap:
    """Split the gap up. `opening` gives the opening price of the bar that a time falls into, None where there is none.

    Executions at most `slack_ns` apart can be the same. Both lists are in the order of time. Raises KeyError for an
    instrument without a last price.
    """
    parts = dict.fromkeys((str(cause) for cause in GapCause), 0.0)
    matched = missed = additional = 0
    for expected, found in pair(test, live, slack_ns):
        if found is None:
            assert expected is not None  # noqa: S101 (for the type checker)
            missed += 1
            parts[GapCause.MISSED] -= _worth(expected, marks)
        elif expected is None:
            additional += 1
            parts[GapCause.ADDITIONAL] += _worth(found, marks)
        else:
            matched += 1
            sign, mark = found.side.sign, marks[found.instrument]
            opened = opening(found.instrument, found.time_ns)
            moved = expected.price if opened is None or _is_same(opening, expected, found) else opened
            parts[GapCause.LATENCY] -= sign * found.quantity * (moved - expected.price)
            parts[GapCause.SLIPPAGE] -= sign * found.quantity * (found.price - moved)
            parts[GapCause.SIZE] += sign * (found.quantity - expected.quantity) * (mark - expected.price)
            parts[GapCause.FEES] -= found.fee - expected.fee
    return Gap(profit(live, marks), profit(test, marks), parts, matched, missed, additional)


def shares(parts: Mapping[str, float]) -> dict[str, float]:
    """Give what share of all that moved the profit each part is, signs aside; they add up to 1, or are all 0."""
    whole = math.fsum(map(abs, parts.values()))
    return {name: abs(value) / whole if whole else 0.0 for name, value in parts.items()}


def judge(gap: float, parts: Mapping[str, float], missed: int, additional: int, traded: float) -> tuple[Verdict, str]:
    """Say what a gap is made of: RED where decisions are missing or too many, AMBER where it is more than rounding."""
    ranked = sorted(parts.items(), key=lambda part: -abs(part[1]))
    told = ", ".join(f"{name} {value:+,.2f}" for name, value in ranked if abs(value) >= 0.005)
    made_of = f" ({told})" if told else ""
    if missed or additional:
        lost = f"{missed} of its orders were not made live and {additional} are not in the back-test"
        return Verdict.RED, f"Live made {gap:+,.2f} compared to the back-test{made_of}: {lost}."
    if not traded:
        return Verdict.NONE, "Neither live nor in the back-test anything was traded."
    if abs(gap) <= _ROUNDING * traded and not told:
        return Verdict.GREEN, "Live made what the back-test makes, trade by trade."
    return Verdict.AMBER, f"Live made {gap:+,.2f} compared to the back-test{made_of}."


def _worth(execution: Execution, marks: Mapping[InstrumentId, float]) -> float:
    price = marks[execution.instrument] - execution.price
    return execution.side.sign * execution.quantity * price - execution.fee


def _is_same(opening: Callable[[InstrumentId, int], float | None], expected: Execution, found: Execution) -> bool:
    """Tell whether both traded in bars that opened alike: then nothing is a matter of time."""
    return opening(expected.instrument, expected.time_ns) == opening(found.instrument, found.time_ns)
