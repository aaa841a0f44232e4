"""How long orders take, stage by stage: what is measured, and the histogram in which it is kept and shown."""

from __future__ import annotations

from enum import StrEnum

import msgspec

# Upper edges of the histogram's buckets in milliseconds; one more holds all that took longer.
EDGES_MS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0)
SLOW_MS = 500.0  # from signal to acknowledgement; above it somebody is told


class Stage(StrEnum):
    """A part of an order's way. TOTAL is from the signal to the venue's acknowledgement."""

    SIGNAL = "signal"  # from the strategy's decision to the engine
    RISK = "risk"  # the checks
    JOURNAL = "journal"  # until the intent is on disk
    SENT = "sent"  # until the request is written to the venue's connection
    ACKNOWLEDGED = "acknowledged"  # until the venue has answered
    FILLED = "filled"  # from there to the first fill
    TOTAL = "total"


class StageLatency(msgspec.Struct, frozen=True):
    """One stage's figures: counts since the engine started by bucket, percentiles of the newest thousand, in ms."""

    stage: Stage
    count: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    buckets: tuple[int, ...]  # one more than EDGES_MS


class LatencySnapshot(msgspec.Struct, frozen=True, tag="latency"):
    """All stages in which something was measured; `slow` counts orders that took longer than SLOW_MS."""

    stages: tuple[StageLatency, ...]
    slow: int
    time_ns: int


class OrderLatency(msgspec.Struct, frozen=True, tag="order_latency"):
    """One order's way until it was acknowledged, or first filled: milliseconds by stage, as far as it came."""

    client_order_id: str
    strategy_id: str
    account_id: str
    stages_ms: dict[Stage, float]
    time_ns: int
