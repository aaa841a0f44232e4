"""Back-tests by other people's engines, to hold ours against: the same messages, the same results.

Each runs in processes of its own, which load its module and library before they are locked down; nothing else in this
program imports one. What cannot be the same as in ours is refused with a sentence.
"""

from __future__ import annotations

import sys

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.quoted import QuotedReplay, hears_quotes
from koc_qt.worker.recorded import RecordedReplay
from koc_qt.worker.replay import Replay
from koc_qt.worker.retold import RetoldReplay


def run_class(
    engine: Engine, strategy: type[Strategy], *, is_recorded: bool = False, is_told: bool = False
) -> type[Replay]:
    """Give what runs a strategy on an engine, or a session of it that was recorded: its orders, or all it was told.

    Raises StrategyError in a process that was not started for that engine.
    """
    if is_told:
        return RetoldReplay
    if is_recorded and engine is Engine.REPLAY and not hears_quotes(strategy):
        return RecordedReplay
    if engine is Engine.REPLAY:
        return QuotedReplay if hears_quotes(strategy) else Replay
    module = sys.modules.get(f"koc_qt.worker.engines.{engine.value}")
    if module is None:
        raise StrategyError(f"this process was not started to run {engine.value}")
    # an engine without quotes says itself what it lacks
    found: type[Replay] = getattr(module, "QUOTED_RUN", module.RUN) if hears_quotes(strategy) else module.RUN
    return found
