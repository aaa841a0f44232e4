"""Back-tests by other people's engines, to hold ours against: the same messages, the same results.

Each runs in processes of its own, which load its library before they are locked down (vectorbt_library,
backtrader_library); nothing else in this program imports one. What cannot be the same is refused with a sentence.
"""

from __future__ import annotations

from koc_qt.domain.backtests import Engine
from koc_qt.worker.replay import Replay


def run_class(engine: Engine) -> type[Replay]:
    """Give what runs a strategy on an engine."""
    if engine is Engine.VECTORBT:
        from koc_qt.worker.engines.vectorbt import VectorbtRun

        return VectorbtRun
    if engine is Engine.BACKTRADER:
        from koc_qt.worker.engines.backtrader import BacktraderRun

        return BacktraderRun
    return Replay
