"""Commands about whether a strategy's results can be believed, and facts about that."""

from __future__ import annotations

import msgspec

from koc_qt.domain.trust import TrustSnapshot, TrustSpec


class StartTrust(msgspec.Struct, frozen=True, tag=True):
    """Check a strategy, and the back-test of it, in sandboxed processes. Answered with the id of the checks."""

    spec: TrustSpec


class StopTrust(msgspec.Struct, frozen=True, tag=True):
    """Stop checks; what they found is kept."""

    trust_id: str


class FetchTrust(msgspec.Struct, frozen=True, tag=True):
    """Answered with the TrustReport of checks that are done, or as far as they are."""

    trust_id: str


class TrustChanged(msgspec.Struct, frozen=True, tag=True):
    """How far checks are, and their verdicts so far."""

    trust: TrustSnapshot


TrustCommand = StartTrust | StopTrust | FetchTrust
TrustFact = TrustChanged
