"""What the checks of a strategy found. Times are UTC nanoseconds."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from koc_qt.domain.deflated_sharpe import Moments, deflated_sharpe, probabilistic_sharpe
from koc_qt.domain.lookahead import DecisionCheck
from koc_qt.domain.monte_carlo import MonteCarlo
from koc_qt.domain.parity import Certificate
from koc_qt.domain.percentages import percentage
from koc_qt.domain.trust import Check, TrustSpec, Verdict, worst
from koc_qt.domain.walk_forward import WalkForward

_SURE, _LIKELY = 0.95, 0.5  # probabilities that a Sharpe ratio is more than luck


class SharpeCheck(msgspec.Struct, frozen=True):
    """How likely the Sharpe ratio is more than luck.

    `sharpe` is that of one of `periods` equal stretches of the run; `probabilistic` the probability that the true one
    is above zero, `deflated` that it is above what the best of `trials` would have by luck (domain/deflated_sharpe.py).
    """

    verdict: Verdict
    sentence: str
    trials: int = 1
    periods: int = 0
    sharpe: float | None = None
    skewness: float | None = None
    kurtosis: float | None = None
    probabilistic: float | None = None
    deflated: float | None = None


class Scope(msgspec.Struct, frozen=True):
    """What was checked, where time did not allow for all: the newest `bars` of about `bars_in_all`, from `since_ns` on.

    `needed_s` is about how long all would have taken. `sentence` says it to a person.
    """

    bars: int
    bars_in_all: int
    since_ns: int
    needed_s: float
    sentence: str


class TrustReport(msgspec.Struct, frozen=True):
    """What the checks found; None for those that were not made, or not yet. `failed` says why one could not be.

    `strategy` is the SHA-256 of the file, in hexadecimal. `scope` is None where all bars of the run were checked, and
    `fills` while it is not known how many the run made.
    """

    spec: TrustSpec
    name: str = ""
    strategy: str = ""
    certificate: Certificate | None = None
    lookahead: DecisionCheck | None = None
    warmup: DecisionCheck | None = None
    sharpe: SharpeCheck | None = None
    monte_carlo: MonteCarlo | None = None
    walk_forward: WalkForward | None = None
    failed: dict[str, str] = {}
    scope: Scope | None = None
    fills: int | None = None

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What came of each check that was made, by its name."""
        found = zip(Check, self._results(), strict=True)
        made = {str(check): result.verdict for check, result in found if result is not None}
        return made | dict.fromkeys(self.failed, Verdict.NONE)

    def _results(
        self,
    ) -> Iterable[DecisionCheck | Certificate | SharpeCheck | MonteCarlo | WalkForward | None]:
        return self.lookahead, self.warmup, self.certificate, self.sharpe, self.monte_carlo, self.walk_forward


def overall(report: TrustReport) -> Verdict:
    """Give the worst verdict of a report; NONE for a run without a fill, as long as nothing worse was found."""
    found = worst(list(report.verdicts.values()))
    return Verdict.NONE if found is Verdict.GREEN and report.fills == 0 else found


def judge_sharpe(found: Moments | None, trials: int, variance: float | None) -> SharpeCheck:
    """Say how likely a Sharpe ratio is more than luck.

    Where the variance of the trials' ratios is not known, that of the ratio of one without any edge is taken:
    1 / (periods - 1).
    """
    if found is None:
        return SharpeCheck(Verdict.NONE, "The equity never moved: it has no Sharpe ratio.", trials)
    if variance is None:
        variance = 1.0 / (found.count - 1)
    probabilistic, deflated = probabilistic_sharpe(found), deflated_sharpe(found, trials, variance)
    values = (trials, found.count, found.sharpe, found.skewness, found.kurtosis, probabilistic, deflated)
    if deflated is None:
        return SharpeCheck(Verdict.NONE, "Its returns are too uneven for the formula.", *values)
    verdict = Verdict.GREEN if deflated >= _SURE else Verdict.AMBER if deflated >= _LIKELY else Verdict.RED
    many = "" if trials == 1 else f" than that of the best of {trials:,} trials without any edge"
    text = f"With {percentage(deflated, 1)} probability its Sharpe ratio is better{many or ' than zero'}."
    return SharpeCheck(verdict, text, *values)
