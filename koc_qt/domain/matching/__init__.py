"""The matching engine: one fill model for the simulator's accounts, paper trading and back-tests."""

from koc_qt.domain.matching.engine import NO_EVENTS, MatchingEngine
from koc_qt.domain.matching.model import FillModel, QueueModel

__all__ = ["NO_EVENTS", "FillModel", "MatchingEngine", "QueueModel"]
