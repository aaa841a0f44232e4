"""Commands about whether a strategy's results can be believed, and whether it does live what it does in back-tests."""

from __future__ import annotations

import msgspec

from koc_qt.domain.trust import DriftReport, TrustSnapshot, TrustSpec


class StartTrust(msgspec.Struct, frozen=True, tag=True):
    """Check a strategy, and the back-test of it, in sandboxed processes. Answered with the id of the checks."""

    spec: TrustSpec


class StopTrust(msgspec.Struct, frozen=True, tag=True):
    """Stop checks; what they found is kept."""

    trust_id: str


class FetchTrust(msgspec.Struct, frozen=True, tag=True):
    """Answered with the TrustReport of checks that are done, or as far as they are."""

    trust_id: str


class CheckDrift(msgspec.Struct, frozen=True, tag=True):
    """Back-test what a strategy has done live, now, and say where the gap comes from; it happens daily anyway.

    An empty `strategy_id` means every strategy that runs. Answered with their ids; what is found follows as facts.
    """

    strategy_id: str = ""


class TrustChanged(msgspec.Struct, frozen=True, tag=True):
    """How far checks are, and their verdicts so far."""

    trust: TrustSnapshot


class DriftMeasured(msgspec.Struct, frozen=True, tag=True):
    """How far a strategy is from a back-test over the time in which it ran."""

    drift: DriftReport


TrustCommand = StartTrust | StopTrust | FetchTrust | CheckDrift
TrustFact = TrustChanged | DriftMeasured
