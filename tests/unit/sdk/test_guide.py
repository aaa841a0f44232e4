"""The guide's own examples are strategies."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from koc_qt.sdk import indicators
from koc_qt.sdk.session import HISTORY_LIMIT
from koc_qt.sdk.strategy import describe
from koc_qt.worker.context import METRICS_LIMIT
from koc_qt.worker.loader import MAX_SOURCE, MODULE, load_strategy
from koc_qt.worker.outbox import LOG_BURST, LOG_LINES_PER_S, LONGEST_LINE
from tests.unit.sdk.desk import Desk, bar

GUIDE = (Path(__file__).parents[3] / "docs/strategies.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


def test_the_first_example_trades() -> None:
    strategy = load_strategy(EXAMPLES[0].encode(), "dip.py")
    del sys.modules[MODULE]
    desk = Desk(strategy())
    desk.session.start()
    for step in range(120):
        desk.session.on_bar(bar(1_000.0 - step, step), warmup=step < 100)
    assert len(desk.submitted) == 1


def test_the_coroutine_of_the_guide_is_a_strategy() -> None:
    source = "from koc_qt.sdk import Strategy\n" + EXAMPLES[-1]
    assert describe(load_strategy(source.encode(), "pair.py")).subscriptions == ("quotes",)
    del sys.modules[MODULE]


def test_the_guide_names_every_indicator_and_the_true_limits() -> None:
    section = GUIDE.split("`koc_qt.sdk.indicators`:")[1].split("Each has")[0]
    named = set(re.findall(r"[A-Z]\w+", section))
    assert named == set(indicators.__all__) - {"Indicator"}
    for limit in (HISTORY_LIMIT, LOG_LINES_PER_S, LOG_BURST, LONGEST_LINE, METRICS_LIMIT, MAX_SOURCE // 1024):
        assert f"{limit:,}" in GUIDE
