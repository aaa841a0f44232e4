"""What a traced back-test says of its decisions: when, which line of the file, and what."""

from __future__ import annotations

import pytest

from koc_qt.domain import trust
from koc_qt.domain.trust import Placement
from koc_qt.sdk.channel import Failed, ReplayDone, ReplayEnd, ReplayPlacements, Running
from koc_qt.worker import placements
from tests.unit.sdk.desk import MINUTE_NS
from tests.unit.worker.host import in_thread
from tests.unit.worker.replays import SINCE_NS, bars, flat, start_replay

MIXED = """
from koc_qt.sdk import Strategy

def enter(strategy):
    return strategy.buy(1, price=50)

class Mixed(Strategy):
    step = 0

    def on_bar(self, bar):
        self.step += 1
        if self.step == 1:
            self.resting = enter(self)
        elif self.step == 2:
            self.amend(self.resting, 2, price=51)
            print(2)
            self.metric("step", 2)
            self.log.info("two")
        elif self.step == 3:
            self.cancel(self.resting)
            self.buy(1, stop=120)
        elif self.step == 4:
            self.buy(1)
        elif self.step == 5:
            self.close_position()

    def on_stop(self):
        self.sell(1)
"""
SCRIPT = """
from koc_qt.sdk import Strategy

class Script(Strategy):
    async def run(self, api, data):
        await data.bar()
        api.buy(1)
        await data.bar()
"""

SIGNALS = """
import numpy as np
from koc_qt.sdk import Signals, Strategy

class Columns(Strategy):
    warmup_bars = 2

    def signals(self, bars):
        row = np.arange(len(bars))
        return Signals(row % 3 == 0, row == 4, 2.5, short_entries=row == 5)
"""
SHORT = """
from koc_qt.sdk import Strategy

class Short(Strategy):
    def signals(self, bars):
        return None
"""


def traced(source: str, *, trace: bool = True) -> list[Placement]:
    """Give what a run of six bars decided; minutes count from where it begins."""
    with in_thread() as host:
        host.send(start_replay(source, trace=trace))
        host.wait_for(Running)
        host.send(bars(flat(100.0, 100.0), first=-2, warmup=True))
        host.send(bars(flat(*[100.0] * 6)))
        host.send(ReplayEnd())
        host.wait_for(ReplayDone)
        host.finish()
        return [each for part in host.of(ReplayPlacements) for each in part.placements]


def test_every_order_change_and_cancel_is_told_with_its_line() -> None:
    found = [((each.time_ns - SINCE_NS) // MINUTE_NS, each.line, each.text) for each in traced(MIXED)]
    assert found == [
        (1, 5, "buy 1.00000 BTC/USDT at 50.00"),
        (2, 15, "change bt1 to 2.00000 at 51.00"),
        (3, 20, "cancel bt1"),
        (3, 21, "buy 1.00000 BTC/USDT from 120.00"),
        (4, 23, "buy 1.00000 BTC/USDT"),
        (5, 25, "sell 1.00000 BTC/USDT, to reduce"),
    ]


def test_a_script_is_traced_too_and_only_who_is_asked_to() -> None:
    assert [(each.line, each.text) for each in traced(SCRIPT)] == [(7, "buy 1.00000 BTC/USDT")]
    assert traced(MIXED, trace=False) == []


def test_what_comes_from_no_line_of_the_file_and_what_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placements, "DECISIONS_KEPT", 2)
    assert len(traced(MIXED)) == 2
    assert trust.DECISIONS_KEPT > 2
    kept = placements.Placements()
    kept.note(1, "buy", "somewhere else.py")
    assert kept.kept == [Placement(1, None, "buy")]


def test_of_signals_the_columns_are_told_whether_or_not_orders_come_of_them() -> None:
    found = [((each.time_ns - SINCE_NS) // MINUTE_NS, each.line, each.text) for each in traced(SIGNALS)]
    assert found == [  # rows from 0, of which two are warm-up
        (2, 8, "enter 2.5 BTC/USDT"),
        (3, 8, "leave BTC/USDT"),
        (4, 8, "enter short 2.5 BTC/USDT"),
        (5, 8, "enter 2.5 BTC/USDT"),
    ]


def test_what_are_no_signals_is_said_by_who_wanted_them() -> None:
    with in_thread() as host:
        host.send(start_replay(SHORT, trace=True))
        host.wait_for(Running)
        host.send(bars(flat(100.0)), ReplayEnd())
        assert "must give Signals" in host.wait_for(Failed).reason
        host.finish()
    assert placements._first_line(print, "mine.py") is None
