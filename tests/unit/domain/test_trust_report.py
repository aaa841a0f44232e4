"""What is asked of checks, and how their verdicts add up."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.deflated_sharpe import Moments
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.lookahead import DecisionCheck
from koc_qt.domain.trust import Check, TrustSpec, Verdict
from koc_qt.domain.trust_report import SharpeCheck, TrustReport, judge_sharpe, overall
from tests.unit.domain.examples import BTC, START_NS

BACKTEST = BacktestSpec("/a.py", (BTC,), "1m", START_NS, START_NS + 1)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"cuts": 0}, "cuts is from 1 to 200, not 0"),
        ({"draws": 10**9}, "draws is from 1 to 10,000, not 1000000000"),
        ({"jitter": float("nan")}, "jitter is from 0 to 1.0, not nan"),
        ({"ratio": 0.0}, "ratio is from 0.1 to 100, not 0.0"),
        ({"grid": {"a": [0] * 600, "b": [0] * 401}}, "a grid has at most 1,000 values, not 1,001"),
        ({"trial_variance": float("inf")}, "the variance of Sharpe ratios cannot be inf"),
        ({"budget_s": 0.5}, "checks may take 1 to 86,400 seconds, or as long as they do"),
        ({"budget_s": float("nan")}, "checks may take 1 to 86,400 seconds, or as long as they do"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrustSpec(BACKTEST, **changes)
    assert str(caught.value) == complaint
    assert TrustSpec(BACKTEST, trial_variance=0.5).checks == tuple(Check)


def test_the_worst_verdict_is_that_of_a_report() -> None:
    report = TrustReport(TrustSpec(BACKTEST))
    assert (report.verdicts, overall(report)) == ({}, Verdict.NONE)
    report = msgspec.structs.replace(
        report,
        lookahead=DecisionCheck(Verdict.GREEN, "fine"),
        sharpe=SharpeCheck(Verdict.AMBER, "perhaps"),
        failed={"parity": "no"},
    )
    assert report.verdicts == {"lookahead": Verdict.GREEN, "sharpe": Verdict.AMBER, "parity": Verdict.NONE}
    assert overall(report) is Verdict.AMBER
    assert msgspec.json.decode(msgspec.json.encode(report), type=TrustReport) == report


@pytest.mark.parametrize(
    ("fills", "found", "verdict"),
    [
        (0, Verdict.GREEN, Verdict.NONE),
        (0, Verdict.RED, Verdict.RED),
        (3, Verdict.GREEN, Verdict.GREEN),
        (None, Verdict.GREEN, Verdict.GREEN),
    ],
)
def test_a_run_without_a_fill_is_not_to_be_believed(fills: int | None, found: Verdict, verdict: Verdict) -> None:
    report = TrustReport(TrustSpec(BACKTEST), lookahead=DecisionCheck(found, "so"), fills=fills)
    assert overall(report) is verdict


def test_what_a_sharpe_ratio_tells() -> None:
    good = judge_sharpe(Moments(1_000, 0.1, 0.0, 3.0), 1, None)
    assert good.verdict is Verdict.GREEN
    assert good.sentence == "With 99.9 % probability its Sharpe ratio is better than zero."
    assert good.deflated == good.probabilistic
    many = judge_sharpe(Moments(1_000, 0.1, 0.0, 3.0), 1_000, None)
    assert many.verdict is Verdict.RED
    assert many.sentence == (
        "With 46.2 % probability its Sharpe ratio is better than that of the best of 1,000 trials without any edge."
    )
    assert judge_sharpe(Moments(1_000, 0.1, 0.0, 3.0), 1_000, 0.0002).verdict is Verdict.GREEN
    assert judge_sharpe(Moments(1_000, 0.1, 0.0, 3.0), 500, None).verdict is Verdict.AMBER
    assert judge_sharpe(None, 3, None).verdict is Verdict.NONE
    uneven = judge_sharpe(Moments(1_000, 1.0, 3.0, 1.0), 1, None)
    assert (uneven.verdict, uneven.deflated) == (Verdict.NONE, None)
