"""A back-test over a real socketpair, and beside the worker that trades live."""

from __future__ import annotations

import random
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from koc_qt.domain.errors import EngineLacks
from koc_qt.domain.market import Bar
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import Fill, Order, OrderFilled, OrderRequest, OrderStatus
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.positions import Position
from koc_qt.domain.state import Balance
from koc_qt.sdk.channel import (
    BarClosed,
    Failed,
    FillUpdate,
    Heartbeat,
    OrderUpdate,
    PositionState,
    ReplayDone,
    ReplayEnd,
    ReplayFills,
    ReplayLog,
    ReplayProgress,
    ReplayTrades,
    Running,
    StopRun,
    Submit,
)
from koc_qt.worker import record, replay_channel, replay_desk
from koc_qt.worker.loop import EXIT_DONE, EXIT_PROTOCOL
from koc_qt.worker.replay import Replay
from tests.unit.sdk.desk import BTC, MINUTE_NS, OTHER
from tests.unit.worker.host import Host, in_thread, on_bar, start_run
from tests.unit.worker.replays import SINCE_NS, bars, flat, start_replay, walk

SMA = (Path(__file__).parents[3] / "strategies" / "sma_cross.py").read_text(encoding="utf-8")

TALKER = """
from koc_qt.sdk import Strategy, param

print("loaded")

class Talker(Strategy):
    '''Buy and sell in turn.'''
    size: int = param(1, low=1)

    def on_start(self):
        self.warmup_bars = 3
        self.log.info("on start")

    def on_bar(self, bar):
        if self.warming_up or self.open_orders: return
        print(f"{bar.close:g}", end="\\n")
        if self.position().quantity: self.close_position()
        else: self.buy(self.size)

    def on_stop(self):
        print("begun", end="")
"""


def finish(host: Host) -> ReplayDone:
    host.send(ReplayEnd())
    done = host.wait_for(ReplayDone)
    assert host.finish() == EXIT_DONE
    return done


def test_a_back_test_from_start_to_results() -> None:
    with in_thread() as host:
        host.send(start_replay(TALKER, parameters={"size": 2}))
        running = host.wait_for(Running)
        assert (running.described.name, running.described.warmup_bars, running.parameters) == ("Talker", 3, {"size": 2})
        host.send(bars(flat(98, 99), first=-2, warmup=True))
        host.send(bars(flat(100, 101)), bars(flat(102, 103, 104), first=2))
        done = finish(host)
        last = host.of(ReplayProgress)[-1]
        assert (last.chunks, last.bars, last.position_ns) == (3, 5, SINCE_NS + 5 * MINUTE_NS)
        assert done.bars == 5
        assert done.equity_ns == [SINCE_NS + minute * MINUTE_NS for minute in range(6)]
        assert done.equity[-1] == done.statistics["final_equity"] == last.equity
        assert list(done.statistics) == list(STATISTICS)
        fills = [fill for message in host.of(ReplayFills) for fill in message.fills]
        trades = [trade for message in host.of(ReplayTrades) for trade in message.trades]
        assert [(str(fill.side), fill.quantity, fill.price) for fill in fills] == [
            ("buy", 2, 101), ("sell", 2, 102), ("buy", 2, 103), ("sell", 2, 104),
        ]  # fmt: skip
        assert sum(trade.pnl for trade in trades) == pytest.approx(done.equity[-1] - 10_000, abs=1e-9)
        [log] = host.of(ReplayLog)
        assert log.lines == (
            "2023-11-14 22:13:00 INFO loaded",
            "2023-11-14 22:13:00 INFO on start",
            *(f"2023-11-14 22:{14 + number}:00 INFO {100 + number}" for number in range(5)),
            "2023-11-14 22:18:00 INFO begun",
        )


@pytest.mark.parametrize(
    ("source", "changes", "reason", "line"),
    [
        ("x = (", {}, "syntax error in mine.py, line 1", 1),
        (TALKER, {"parameters": {"size": 0}}, "size must be at least 1", None),
        (TALKER, {"instruments": (BTC, OTHER)}, "Talker wants 1 instrument", None),
        ("from koc_qt.sdk import Strategy\nclass S(Strategy):\n  def on_trade(self, t): 0", {}, "bars alone", None),
        (on_bar("0", more="    def __init__(self): 1 / 0"), {}, "ZeroDivisionError", 6),
    ],
)
def test_what_cannot_be_run_is_said_with_its_line(
    source: str, changes: dict[str, Any], reason: str, line: int | None
) -> None:
    with in_thread() as host:
        host.send(start_replay(source, **changes))
        failure = host.load_failure()
        assert reason in failure.reason
        assert failure.line == line


def test_what_an_engine_lacks_is_told_from_what_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Replay):
        def warm_up(self, bars: Any) -> None:
            raise EngineLacks("it has no warm-up")

    monkeypatch.setattr(replay_channel, "run_class", lambda *_, **__: Other)
    with in_thread() as host:
        host.send(start_replay(TALKER))
        host.wait_for(Running)
        host.send(bars(flat(100), warmup=True))
        failure = host.failure()
        assert (failure.reason, failure.lacks) == ("it has no warm-up", True)

    def refuse(*_: Any, **__: Any) -> Any:
        raise EngineLacks("it has no such thing")

    monkeypatch.setattr(replay_channel, "run_class", refuse)
    with in_thread() as host:
        host.send(start_replay(TALKER))
        refused = host.load_failure()
        assert (refused.reason, refused.lacks) == ("it has no such thing", True)


def test_what_a_strategy_raises_ends_the_run_with_its_line() -> None:
    with in_thread() as host:
        host.send(start_replay(on_bar("print(bar.close)", "if bar.close > 101: raise KeyError('no')")))
        host.wait_for(Running)
        host.send(bars(flat(100, 101, 102, 103)))
        failure = host.failure()
        assert (failure.reason, failure.line, failure.lacks) == ("KeyError: 'no'", 6, False)
        assert "raise KeyError" in failure.traceback
        last = host.of(ReplayProgress)[-1]
        assert (last.bars, last.position_ns) == (2, SINCE_NS + 2 * MINUTE_NS)
        assert host.said.index(last) < host.said.index(failure)
        assert [len(log.lines) for log in host.of(ReplayLog)] == [3]


def test_the_engine_may_go_and_must_not_talk_nonsense() -> None:
    with in_thread() as host:
        host.send(start_replay(TALKER))
        host.wait_for(Running)
    with in_thread() as host:
        host.send(start_replay(TALKER))
        host.wait_for(Running)
        host.send(StopRun("no", 1.0))
        failed = host.wait_for(Failed)
        assert "a StopRun in a back-test" in failed.reason
        assert host.finish() == EXIT_PROTOCOL
    with in_thread() as host:
        host.send(start_replay(TALKER))
        host.wait_for(Running)
        host.channel.sendall(b"\0\0\0\1\xc1")
        assert "cannot understand" in host.wait_for(Failed).reason
        assert host.finish() == EXIT_PROTOCOL


def test_long_results_are_cut_and_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_desk, "FILLS_KEPT", 30)
    monkeypatch.setattr(replay_channel, "FILLS_KEPT", 30)
    monkeypatch.setattr(replay_channel, "TRADES_KEPT", 20)
    monkeypatch.setattr(record, "CURVE_POINTS", 50)
    monkeypatch.setattr(replay_channel, "_CHUNK", 7)
    with in_thread() as host:
        host.send(start_replay(TALKER))
        host.wait_for(Running)
        host.send(bars(walk(300)))
        done = finish(host)
        assert sum(len(message.fills) for message in host.of(ReplayFills)) == 30
        assert sum(len(message.trades) for message in host.of(ReplayTrades)) == 20
        assert done.statistics["fills"] == 299
        assert (done.bars, len(done.equity), len(done.equity_ns)) == (300, 50, 50)
        lines = host.of(ReplayLog)[0].lines
        assert len(lines) == replay_channel.LOG_KEPT
        assert "the first 30 of 299 fills" in lines[-3]
        assert "the first 20 of 150 trades" in lines[-2]


def test_progress_is_told_within_a_long_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay_channel, "PROGRESS_NS", 0)
    with in_thread() as host:
        host.send(start_replay(TALKER))
        host.wait_for(Running)
        host.send(bars(flat(100, 101, 102)))
        finish(host)
        told = [(progress.chunks, progress.bars) for progress in host.of(ReplayProgress)]
        assert told == [(0, 1), (0, 2), (0, 3), (1, 3)]


def test_the_clock_is_looked_at_seldom_where_bars_are_quick_and_often_where_they_last() -> None:
    run = replay_channel._ReplayRun(start_replay(TALKER), None, None)  # type: ignore[arg-type]
    now_ns = 0

    def after(elapsed_ns: int) -> int:
        nonlocal now_ns
        now_ns += elapsed_ns
        return run.stretch(now_ns)

    assert [after(1_000) for _ in range(8)] == [2, 4, 8, 16, 32, 64, 64, 64]
    assert [after(300_000_000) for _ in range(3)] == [8, 1, 1]
    assert after(1_000) == 2


# ---- parity with the worker that trades live


class LiveDesk:
    """An engine's side of a live run, on bars: the orders of a worker meet a matching engine, as paper accounts do."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.requests: list[OrderRequest] = []
        self.fills: list[Fill] = []
        self._market = MatchingEngine(
            (BTC,), (Balance("USDT", Decimal(10_000)),), FillModel(), "a", random.Random(1), allow_short=True
        )
        self._position = Position("s", "a", BTC)
        self._orders: dict[str, Order] = {}
        self._numbers: dict[str, int] = {}
        self._taken = 0

    def step(self, bar: Bar, count: int) -> None:
        """Let a bar close: its fills first, then the bar, then what the strategy orders."""
        self._hear(self._market.on_bar(bar))
        self.host.send(BarClosed(bar))
        self.host.wait_for(Heartbeat, lambda beat: beat.ticks >= count)
        submits = self.host.of(Submit)
        for submit in submits[self._taken :]:
            key = f"o{submit.request_id}"
            now_ns = bar.open_time_ns + MINUTE_NS
            self.requests.append(submit.request)
            order = Order(key, "s", "a", submit.request, now_ns, now_ns, OrderStatus.SUBMITTED)
            self._orders[key], self._numbers[key] = order, submit.request_id
            self.host.send(OrderUpdate(submit.request_id, order))
            self._hear(self._market.submit(order, now_ns))
        self._taken = len(submits)

    def _hear(self, events: Any) -> None:
        for event in events:
            key = event.client_order_id
            order = self._orders[key] = apply(self._orders[key], event)
            self.host.send(OrderUpdate(self._numbers[key], order))
            if isinstance(event, OrderFilled):
                self.fills.append(event.fill)
                held = self._position
                held.apply(event.fill)
                state = PositionState(BTC.id, held.quantity, held.average_price, held.realised_pnl, held.fees)
                cash = {each.currency: each.total - each.locked for each in self._market.balances}
                self.host.send(FillUpdate(self._numbers[key], event.fill, state, cash))


def test_the_same_bars_give_the_same_orders_and_fills_as_live() -> None:
    candles, parameters = walk(120, seed=4), {"fast": 2, "slow": 5}
    with in_thread() as host:
        host.send(
            start_run(SMA, parameters=parameters, time_ns=SINCE_NS, heartbeat_s=0.01, cash={"USDT": Decimal(10_000)})
        )
        host.wait_for(Running)
        live = LiveDesk(host)
        message = bars(candles)
        columns = zip(message.open_time_ns, message.open, message.high, message.low, message.close, strict=True)
        for count, (time_ns, *prices) in enumerate(columns, start=1):
            live.step(Bar(BTC.id, "1m", time_ns, *prices, 1e6), count)
        host.send(StopRun("by the test", 1.0))
        assert host.finish() == EXIT_DONE
    with in_thread() as host:
        host.send(start_replay(SMA, parameters=parameters))
        host.wait_for(Running)
        host.send(message)
        finish(host)
        replayed = [fill for each in host.of(ReplayFills) for fill in each.fills]

    def seen(fill: Fill) -> tuple[Any, ...]:
        return fill.side, fill.price, fill.quantity, fill.fee, fill.time_ns

    assert list(map(seen, replayed)) == list(map(seen, live.fills))
    assert len(replayed) > 10
    assert all(one.side is not other.side for one, other in pairwise(replayed))
    assert len(live.requests) - len(replayed) in (0, 1)  # the last one may still wait for a bar
