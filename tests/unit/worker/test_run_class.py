"""What runs a strategy on which engine."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import StrategyError
from koc_qt.domain.market import Quote
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.engines import run_class
from koc_qt.worker.quoted import QuotedReplay
from koc_qt.worker.replay import Replay
from koc_qt.worker.retold import RetoldReplay


class Listens(Strategy):
    def on_quote(self, quote: Quote) -> None: ...


def test_a_strategy_that_hears_quotes_is_run_by_what_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_class(Engine.REPLAY, Listens) is QuotedReplay
    assert run_class(Engine.REPLAY, Listens, is_told=True) is RetoldReplay
    module = SimpleNamespace(RUN=Replay)
    monkeypatch.setitem(sys.modules, "koc_qt.worker.engines.vectorbt", module)
    assert run_class(Engine.VECTORBT, Listens) is Replay  # which refuses it in words
    module.QUOTED_RUN = QuotedReplay
    assert run_class(Engine.VECTORBT, Listens) is QuotedReplay
    monkeypatch.delitem(sys.modules, "koc_qt.worker.engines.vectorbt")
    with pytest.raises(StrategyError, match="was not started to run vectorbt"):
        run_class(Engine.VECTORBT, Listens)
