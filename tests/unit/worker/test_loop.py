"""The worker over a real socketpair with real frames, in a thread of the test."""

from __future__ import annotations

import sys
from decimal import Decimal

import pytest

from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Liquidity, Order, OrderRequest, OrderStatus, OrderType
from koc_qt.sdk.channel import (
    Amend,
    BarClosed,
    Cancel,
    Describe,
    Described,
    Failed,
    FillUpdate,
    Heartbeat,
    HistoryBars,
    LoadFailed,
    LogLine,
    MetricValue,
    OrderUpdate,
    PositionState,
    QuoteUpdate,
    Ready,
    RequestHistory,
    Running,
    Stopped,
    StopRun,
    Submit,
    TradeUpdate,
    frame,
)
from koc_qt.worker.context import METRICS_LIMIT
from koc_qt.worker.loop import EXIT_DONE, EXIT_ENGINE_GONE, EXIT_PROTOCOL
from koc_qt.worker.outbox import LOG_BURST, LONGEST_LINE
from tests.conditions import wait_until
from tests.unit.sdk.desk import BTC_ID, START_NS, bar, quote, trade
from tests.unit.worker.host import QUIET, READY, Host, in_thread, on_bar

ECHO = """
from koc_qt.sdk import Strategy

class Echo(Strategy):
    def on_start(self): self.log.info(f"start {self.timeframe} {self.cash()} {self.position().quantity}")
    def on_bar(self, bar): self.log.info(f"bar {bar.close} {self.warming_up}")
    def on_quote(self, quote): self.log.info(f"quote {quote.bid}")
    def on_trade(self, trade): self.log.info(f"trade {trade.price}")
    def on_order(self, order): self.log.info(f"order {order.status} {order.reason}")
    def on_fill(self, fill): self.log.info(f"fill {fill.price} {self.position().quantity} {self.cash()}")
    def on_stop(self): self.log.info("stop")
"""


# ---- a life in order


def test_it_says_ready_first_and_describes_a_file() -> None:
    with in_thread() as host:
        assert host.wait_for(Ready) == READY
        host.send(Describe(QUIET.encode(), "mine.py"))
        described = host.wait_for(Described)
        assert (described.name, described.doc, described.subscriptions) == ("Mine", "Do nothing.", ("bars",))
        assert [info.name for info in described.parameters] == ["size"]
        host.send(Describe(b"x = (", "mine.py"))
        assert host.wait_for(LoadFailed).line == 1
        host.start(QUIET)  # a described worker may still be used
        host.send(StopRun("by the test", 1.0))
        assert host.finish() == EXIT_DONE


def test_a_run_from_start_to_stop() -> None:
    held = PositionState(BTC_ID, Decimal(2), Decimal(100), Decimal(0), Decimal(0))
    fill = Fill(
        "f1", "old", "s", "a", BTC_ID, Side.BUY, Decimal(99), Decimal(1), Decimal(0), "USDT", Liquidity.TAKER, START_NS
    )
    after = PositionState(BTC_ID, Decimal(3), Decimal(100), Decimal(0), Decimal(0))
    with in_thread() as host:
        host.start(ECHO, timeframe="5m", positions=(held,))
        host.send(
            BarClosed(bar(1.0, timeframe="5m"), warmup=True),
            BarClosed(bar(2.0, timeframe="5m")),
            QuoteUpdate(quote(3, 4)),
            TradeUpdate(trade("5")),
            FillUpdate(0, fill, after, {"USDT": Decimal(7)}),
            HistoryBars(9, (), "nobody asked"),
            StopRun("by the test", 1.0),
        )
        assert host.finish() == EXIT_DONE
        assert host.said[-1] == Stopped("by the test")
        assert [text for _, text in host.lines()] == [
            "start 5m 100000 2", "bar 1.0 True", "bar 2.0 False", "quote 3", "trade 5", "fill 99 3 7", "stop",
        ]  # fmt: skip


def test_running_says_what_the_run_uses() -> None:
    source = QUIET + "    def on_start(self): self.warmup_bars = 33\n"
    with in_thread() as host:
        host.start(source, parameters={"size": 2}, timeframe="5m")
        running = host.of(Running)[0]
        assert running.parameters == {"size": 2.0}
        assert (running.described.warmup_bars, running.described.timeframe) == (33, "5m")


def test_without_a_timeframe_the_strategys_own_is_used() -> None:
    with in_thread() as host:
        host.start(QUIET + "    timeframe = '15m'\n", timeframe="")
        assert host.of(Running)[0].described.timeframe == "15m"


def test_orders_of_on_start_follow_running_and_later_ones_go_at_once() -> None:
    source = on_bar("self.sell(2, price=5)", more="    def on_start(self): self.buy(1)\n")
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        host.wait_for(Submit, lambda submit: submit.request_id == 2)
        kinds = [type(message) for message in host.said if not isinstance(message, Heartbeat)]
        assert kinds == [Ready, Running, Submit, Submit]
        first, second = host.of(Submit)
        assert (first.request.side, first.request.type, first.request.quantity) == (Side.BUY, OrderType.MARKET, 1)
        assert (second.request.side, second.request.price) == (Side.SELL, 5)


def test_an_order_leaves_before_its_callback_ends() -> None:
    source = on_bar(
        "self.buy(1)", "import time", "self.until.wait(20)", more="    import threading; until = threading.Event()\n"
    )
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        host.wait_for(Submit)
        sys.modules["koc_strategy"].Mine.until.set()


def test_orders_are_changed() -> None:
    request = OrderRequest(BTC_ID, Side.BUY, OrderType.LIMIT, Decimal(1), price=Decimal(5))
    old = Order("old-1", "s", "a", request, 0, 0, OrderStatus.ACCEPTED)
    source = ECHO + "    def on_timer(self): self.amend(self.open_orders[0], 2, price=4), self.set_timer(None)\n"
    source = source.replace('self.log.info(f"start', 'self.set_timer(0.01), self.log.info(f"start')
    with in_thread() as host:
        host.start(source, open_orders=(old,))
        assert host.wait_for(Amend) == Amend("old-1", Decimal(2), Decimal(4))


def test_orders_are_followed_and_cancelled() -> None:
    request = OrderRequest(BTC_ID, Side.BUY, OrderType.LIMIT, Decimal(1), price=Decimal(5))
    old = Order("old-1", "s", "a", request, 0, 0, OrderStatus.ACCEPTED)
    source = ECHO + "    def on_timer(self): self.cancel_all(); self.set_timer(None)\n"
    source = source.replace(
        'self.log.info(f"start', 'self.buy(1, price=9), self.set_timer(0.01), self.log.info(f"start'
    )
    with in_thread() as host:
        host.start(source, open_orders=(old,))
        submit = host.wait_for(Submit)
        host.send(OrderUpdate(submit.request_id, Order("new-1", "s", "a", submit.request, 0, 0, OrderStatus.ACCEPTED)))
        host.wait_for(Cancel, lambda cancel: cancel.client_order_id == "old-1")
        host.wait_for(Cancel, lambda cancel: cancel.client_order_id == "new-1")
        host.send(OrderUpdate(submit.request_id, None, "refused after all"))
        host.wait_for(LogLine, lambda line: line.text == "order rejected refused after all")


def test_a_script_runs_sleeps_asks_for_history_and_ends_the_worker_when_it_returns() -> None:
    source = """
    from koc_qt.sdk import Strategy

    class Mine(Strategy):
        async def run(self, api, data):
            bars = await api.history(3, "1h")
            api.log.info(f"{len(bars)} bars")
            await api.sleep(0.02)
            order = api.buy(1)
            api.log.info(f"filled {await api.filled(order)}")

        def on_stop(self):
            self.log.info("stopped")
    """
    with in_thread() as host:
        host.start(source)
        question = host.wait_for(RequestHistory)
        assert (question.instrument, question.timeframe, question.count) == (BTC_ID, "1h", 3)
        host.send(HistoryBars(question.request_id, (bar(1.0), bar(2.0))))
        submit = host.wait_for(Submit)
        host.send(OrderUpdate(submit.request_id, None, "no"))
        assert host.finish() == EXIT_DONE
        assert [text for _, text in host.lines()] == ["2 bars", "filled False", "stopped"]
        assert host.said[-1] == Stopped("run() has returned")


def test_stopping_before_anything_was_started_is_in_order() -> None:
    with in_thread() as host:
        host.send(StopRun("never mind", 1.0))
        assert host.finish() == EXIT_DONE
        assert host.said[-1] == Stopped("never mind")


# ---- time


def test_heartbeats_come_between_callbacks_and_carry_figures() -> None:
    with in_thread() as host:
        host.start(on_bar("import time", "time.sleep(0.02)"), heartbeat_s=0.05)
        host.send(BarClosed(bar(1.0)), BarClosed(bar(2.0)))
        beat = host.wait_for(Heartbeat, lambda beat: beat.ticks == 2)
        assert beat.callback_us >= 20_000
        assert beat.lag_ms == pytest.approx(-60_000, abs=5_000)  # the bar of START_NS closes a minute later
        later = host.wait_for(Heartbeat, lambda later: later.sequence > beat.sequence + 1)
        assert later.callback_us < 20_000
        assert [each.sequence for each in host.heartbeats] == list(range(1, len(host.heartbeats) + 1))


def test_a_hung_callback_is_seen_as_missing_heartbeats() -> None:
    source = on_bar("self.until.wait(20)", more="    import threading; until = threading.Event()\n")
    with in_thread() as host:
        host.start(source, heartbeat_s=0.02)
        host.wait_for(Heartbeat)
        host.send(BarClosed(bar(1.0)))
        wait_until(lambda: _is_silent(host), what="silence")
        sys.modules["koc_strategy"].Mine.until.set()
        host.wait_for(Heartbeat, lambda beat: beat.ticks == 1)


def _is_silent(host: Host) -> bool:
    before = len(host.said)
    host.read(0.3)  # fifteen heartbeats long
    return len(host.said) == before


def test_timers_go_off_without_any_message() -> None:
    source = """
    from koc_qt.sdk import Strategy

    class Mine(Strategy):
        def on_start(self):
            self.began_ns = self.time_ns
            self.set_timer(0.02)
        def on_timer(self):
            self.log.info(f"{self.time_ns - self.began_ns}")
    """
    with in_thread() as host:
        host.start(source, heartbeat_s=60)
        wait_until(lambda: host.read() and len(host.of(LogLine)) >= 3, what="three timers")
        elapsed = [int(text) for _, text in host.lines()]
        assert elapsed[0] >= 20_000_000
        assert elapsed[2] >= 60_000_000


def test_time_is_the_engines() -> None:
    source = on_bar("self.log.info(self.time_ns)")
    with in_thread() as host:
        host.start(source, time_ns=5 * 10**18)
        host.send(BarClosed(bar(1.0)))
        assert 0 < int(host.wait_for(LogLine).text) - 5 * 10**18 < 60 * 10**9


# ---- what a strategy writes


def test_prints_become_log_lines() -> None:
    source = on_bar(
        "import sys",
        "print('one\\ntwo')",
        "print('three', end='')",
        "print(file=sys.stderr)",
        "print('bad', file=sys.stderr)",
        "print('\\ud800')",
        "print('never ended', end='', flush=True)",
    )
    before = sys.stdout, sys.stderr, sys.stdin
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)), StopRun("done", 1.0))
        assert host.finish() == EXIT_DONE
        assert host.lines() == [
            ("INFO", "one"),
            ("INFO", "two"),
            ("WARNING", ""),
            ("WARNING", "bad"),
            ("INFO", "three?"),
            ("INFO", "never ended"),
        ]
    assert (sys.stdout, sys.stderr, sys.stdin) == before


def test_a_flood_of_prints_is_limited_and_what_was_dropped_is_counted() -> None:
    with in_thread() as host:
        host.start(on_bar("for number in range(20_000): print(number)"))
        host.send(BarClosed(bar(1.0)), StopRun("done", 1.0))
        assert host.finish() == EXIT_DONE
        lines = host.lines()
        passed = [text for level, text in lines if level == "INFO"]
        dropped = [int(text.split()[0]) for level, text in lines if level == "WARNING" and "were dropped" in text]
        assert LOG_BURST <= len(passed) < LOG_BURST + 500
        assert len(passed) + sum(dropped) == 20_000


def test_long_lines_are_cut() -> None:
    with in_thread() as host:
        host.start(on_bar("self.log.info('x' * 5_000)", "print('y' * 3_000_000, end='')"))
        host.send(BarClosed(bar(1.0)), StopRun("done", 1.0))
        assert host.finish() == EXIT_DONE
        texts = [text for _, text in host.lines()]
        assert texts[0] == "x" * LONGEST_LINE + "... (1000 more characters)"
        assert texts[1] == "y" * LONGEST_LINE + f"... ({3_000_000 - LONGEST_LINE} more characters)"


def test_threads_may_print_and_not_trade() -> None:
    source = """
    import threading
    from koc_qt.sdk import Strategy

    class Mine(Strategy):
        def on_bar(self, bar):
            thread = threading.Thread(target=self.other)
            thread.start()
            thread.join()

        def other(self):
            print('from a thread')
            try:
                self.buy(1)
            except Exception as error:
                print(error)
    """
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)), StopRun("done", 1.0))
        assert host.finish() == EXIT_DONE
        assert host.lines()[0] == ("INFO", "from a thread")
        assert "not from threads of its own" in host.lines()[1][1]
        assert host.of(Submit) == []


def test_of_a_metric_only_the_newest_value_is_sent() -> None:
    with in_thread() as host:
        host.start(on_bar("for number in range(1_000): self.metric('n', number)", "self.metric('m\\ud800', 1.5)"))
        host.send(BarClosed(bar(1.0)))
        host.wait_for(MetricValue, lambda metric: metric == MetricValue("n", 999.0))
        host.wait_for(MetricValue, lambda metric: metric == MetricValue("m?", 1.5))
        host.send(BarClosed(bar(1.0)), BarClosed(bar(1.0)), StopRun("done", 1.0))
        host.finish()
        assert len(host.of(MetricValue)) <= 8
        assert host.of(MetricValue)[-2:] == [MetricValue("n", 999.0), MetricValue("m?", 1.5)]


def test_too_many_metrics_are_refused() -> None:
    with in_thread() as host:
        host.start(on_bar(f"for number in range({METRICS_LIMIT + 1}): self.metric(f'n{{number}}', 1)"))
        host.send(BarClosed(bar(1.0)))
        assert host.failure().reason == "a strategy shows at most 100 metrics; 'n100' is one too many"


# ---- what goes wrong on the channel


def test_an_engine_that_goes_ends_the_worker_without_on_stop() -> None:
    calls: list[str] = []
    sys.modules["koc_test_calls"] = type(sys)("koc_test_calls")
    sys.modules["koc_test_calls"].calls = calls  # type: ignore[attr-defined]
    source = on_bar(
        "pass", more="    def on_stop(self):\n        import koc_test_calls\n        koc_test_calls.calls.append(1)\n"
    )
    try:
        with in_thread() as host:
            host.start(source)
            host.channel.close()
            wait_until(lambda: host.code is not None, what="the end")
            assert host.code == EXIT_ENGINE_GONE
    finally:
        del sys.modules["koc_test_calls"]
    assert calls == []


def test_a_channel_that_closes_before_a_run_is_in_order() -> None:
    with in_thread() as host:
        host.wait_for(Ready)
        host.channel.close()
        wait_until(lambda: host.code is not None, what="the end")
        assert host.code == EXIT_DONE


def test_an_engine_that_dies_with_unread_messages_is_gone() -> None:
    # A peer that closes with data unread resets the connection: an error of the channel, not its end.
    with in_thread() as host:
        host.start(QUIET, heartbeat_s=0.01)
        host.send(BarClosed(bar(1.0)))
        host.channel.close()
        wait_until(lambda: host.code is not None, what="the end")
        assert host.code == EXIT_ENGINE_GONE


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\xff\xff\xff\xff", "a frame of 4294967295 bytes is above the limit"),
        (b"\0\0\0\1\xc1", "MessagePack data is malformed"),
        (b"\0\0\0\1\xc0", "Expected `object`"),
        (frame(BarClosed(bar(1.0))), "a BarClosed before any strategy was started"),
    ],
)
def test_what_cannot_be_understood_ends_the_worker_with_a_reason(garbage: bytes, reason: str) -> None:
    with in_thread() as host:
        host.channel.sendall(garbage)
        assert host.finish() == EXIT_PROTOCOL
        failed = host.of(Failed)[0]
        assert failed.reason.startswith(f"the engine sent what this worker cannot understand: {reason}")


def test_a_second_start_is_refused() -> None:
    with in_thread() as host:
        host.start(QUIET)
        host.start(QUIET, wait=False)
        assert host.finish() == EXIT_PROTOCOL
        assert host.of(Failed)[0].reason.endswith("a StartRun while a strategy is running")


def test_messages_may_come_a_byte_at_a_time() -> None:
    with in_thread() as host:
        for byte in frame(Describe(QUIET.encode(), "mine.py")):
            host.channel.sendall(bytes([byte]))
        assert host.wait_for(Described).name == "Mine"


def test_it_leaves_the_process_as_it_was() -> None:
    path, finders = sys.path[:], sys.meta_path[:]
    with in_thread() as host:
        host.start(
            on_bar(
                "import sys",
                "sys.path.append('nowhere')",
                "self.log.info(repr([p for p in sys.path if p in ('', '.')]))",
            )
        )
        host.send(BarClosed(bar(1.0)))
        assert host.wait_for(LogLine).text == "[]"
    assert (sys.path, sys.meta_path) == (path, finders)
    assert "koc_strategy" not in sys.modules
