"""Where the gap between live and back-test comes from: each part by hand, and the sum whatever happens."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.drift import Gap, attribute, judge, profit, shares
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.parity import Execution
from koc_qt.domain.trust import DriftReport, GapCause, Verdict
from tests.unit.domain.examples import BTC, MINUTE_NS, START_NS

MARKS = {BTC: 110.0}


def done(minute: float, side: str = "buy", price: float = 100.0, quantity: float = 1.0, fee: float = 0.1) -> Execution:
    return Execution(BTC, START_NS + int(minute * MINUTE_NS), Side(side), price, quantity, fee)


def opening(instrument: InstrumentId, time_ns: int) -> float | None:
    """A market that rises by one a minute from 100."""
    return 100.0 + (time_ns - START_NS) // MINUTE_NS


def split(live: list[Execution], test: list[Execution]) -> Gap:
    return attribute(live, test, MARKS, opening, 3 * MINUTE_NS)


def parts(gap: Gap) -> dict[str, Any]:
    return {name: pytest.approx(value) for name, value in gap.parts.items() if value}


def test_profits_are_marked_to_the_last_price() -> None:
    assert profit([done(0), done(2, "sell", 105.0, 0.5)], MARKS) == pytest.approx(10 - 0.1 - 2.5 - 0.1)
    with pytest.raises(KeyError):
        profit([done(0)], {})


def test_the_same_is_no_gap() -> None:
    gap = split([done(0.5)], [done(0)])
    assert (gap.matched, gap.missed, gap.additional, parts(gap)) == (1, 0, 0, {})
    assert judge(0.0, gap.parts, 0, 0, 200.0) == (
        Verdict.GREEN,
        "Live made what the back-test makes, trade by trade.",
    )


def test_each_part_has_its_name() -> None:
    assert parts(split([done(0.5, price=100.5)], [done(0)])) == {"slippage": -0.5}
    assert parts(split([done(2.5, price=102.0)], [done(0)])) == {"latency": -2.0}
    assert parts(split([done(2.5, price=102.5)], [done(0)])) == {"latency": -2.0, "slippage": -0.5}
    assert parts(split([done(2.5, "sell", 102.5)], [done(0, "sell")])) == {"latency": 2.0, "slippage": 0.5}
    assert parts(split([done(0.5, quantity=0.5)], [done(0)])) == {"size": -5.0}
    assert parts(split([done(0.5, fee=0.3)], [done(0)])) == {"fees": -0.2}
    assert parts(split([], [done(0)])) == {"missed signals": -9.9}
    assert parts(split([done(0)], [])) == {"additional trades": 9.9}
    far = split([done(5)], [done(0)])
    assert (far.matched, far.missed, far.additional) == (0, 1, 1)
    nowhere = attribute([done(2.5, price=102.0)], [done(0)], MARKS, lambda *_: None, 3 * MINUTE_NS)
    assert parts(nowhere) == {"slippage": -2.0}


moments = st.tuples(
    st.floats(0, 30), st.sampled_from(["buy", "sell"]), st.floats(50, 200), st.floats(0.01, 10), st.floats(-1, 1)
)


@given(st.lists(moments, max_size=8), st.lists(moments, max_size=8))
def test_the_parts_add_up_to_the_gap(
    live: list[tuple[float, str, float, float, float]], test: list[tuple[float, str, float, float, float]]
) -> None:
    one, two = ([done(*each) for each in sorted(some)] for some in (live, test))
    gap = split(one, two)
    assert math.fsum(gap.parts.values()) == pytest.approx(gap.live_pnl - gap.test_pnl, abs=1e-6)
    assert gap.matched + gap.missed == len(two)
    assert gap.matched + gap.additional == len(one)


def test_what_a_gap_tells() -> None:
    found = {str(cause): 0.0 for cause in GapCause} | {"slippage": -12.5, "fees": 1.0, "data": 0.001}
    assert judge(-11.5, found, 0, 0, 1e4) == (
        Verdict.AMBER,
        "Live made -11.50 compared to the back-test (slippage -12.50, fees +1.00).",
    )
    assert judge(-11.5, found, 2, 1, 1e4) == (
        Verdict.RED,
        "Live made -11.50 compared to the back-test (slippage -12.50, fees +1.00): 2 of its orders were not made live "
        "and 1 are not in the back-test.",
    )
    assert judge(0.0, {}, 0, 0, 0.0)[0] is Verdict.NONE
    assert judge(0.004, {"fees": 0.004}, 0, 0, 100.0) == (
        Verdict.AMBER,
        "Live made +0.00 compared to the back-test.",
    )
    report = DriftReport("sma", "sim", Verdict.AMBER, "x", 0, 1, 2, parts=found)
    assert msgspec.json.decode(msgspec.json.encode(report), type=DriftReport) == report


def test_shares_are_of_all_that_moved_the_profit() -> None:
    assert shares({"data": -6.0, "fees": 2.0, "size": 0.0}) == {"data": 0.75, "fees": 0.25, "size": 0.0}
    assert shares({"data": 0.0}) == {"data": 0.0}
    assert shares({}) == {}
