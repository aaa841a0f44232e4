"""What is told when a strategy fails, or cannot be started."""

from __future__ import annotations

import pytest

from koc_qt.sdk.channel import (
    BarClosed,
    Stopped,
    StopRun,
    Submit,
)
from koc_qt.worker.loop import EXIT_ENGINE_GONE
from tests.conditions import wait_until
from tests.unit.sdk.desk import BTC, OTHER, bar
from tests.unit.worker.host import QUIET, in_thread, on_bar


def test_an_exception_is_told_with_line_and_the_strategys_own_frames() -> None:
    source = on_bar("self.helper(0)", more="    def helper(self, x):\n        return 1 / x\n")
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        failed = host.failure()
    assert failed.reason == "ZeroDivisionError: division by zero"
    assert failed.line == 7
    assert failed.traceback == (
        '  File "mine.py", line 5, in on_bar\n    self.helper(0)\n'
        '  File "mine.py", line 7, in helper\n    return 1 / x\n'
        "ZeroDivisionError: division by zero"
    )


def test_an_error_of_the_sdk_is_a_sentence_and_names_the_strategys_line() -> None:
    with in_thread() as host:
        host.start(on_bar("self.buy(0.0000001)"))
        host.send(BarClosed(bar(1.0)))
        failed = host.failure()
    assert failed.reason.startswith("1E-7 BTC is less than one lot of sim:BTC/USDT")
    assert failed.line == 5
    assert "koc_qt" not in failed.traceback.replace("koc_qt.sdk", "")


def test_what_led_to_an_error_is_told_as_well() -> None:
    source = on_bar("try: {}['x']", "except KeyError as error: raise ValueError('no x') from error")
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        failed = host.failure()
    assert failed.traceback.startswith('  File "mine.py", line 5, in on_bar')
    assert "KeyError: 'x'\n\nwhich led to:\n\n" in failed.traceback
    assert failed.traceback.endswith("ValueError: no x")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("import sys; sys.exit(3)", "the strategy called sys.exit(3)"),
        ("raise KeyboardInterrupt", "the strategy raised KeyboardInterrupt"),
        ("self.on_bar(bar)", "the strategy calls itself without end: maximum recursion depth exceeded"),
        ("raise MemoryError", "the strategy ran out of memory: more was asked for than a worker may have"),
        ("raise ValueError", "ValueError"),
        ("input()", "RuntimeError: input(): lost sys.stdin"),
        (
            "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
            "the strategy failed with an exception that",
        ),
        ("raise ValueError('x' * 10_000_000)", "ValueError: xxx"),
        # of no module that this process has: a worker has none of them, and its finder is asked
        ("import koc_qt.engine.x", "ImportError: a strategy imports koc_qt.sdk and installed packages; koc_qt.engine"),
        ("compile('x y', 'other.py', 'exec')", "SyntaxError: invalid syntax (other.py, line 1)"),
    ],
)
def test_every_way_to_fail_is_told(line: str, reason: str) -> None:
    with in_thread() as host:
        host.start(on_bar(line))
        host.send(BarClosed(bar(1.0)))
        failed = host.failure()
    assert failed.reason.startswith(reason)
    assert len(failed.reason) < 2_100
    assert len(failed.traceback) < 16_100
    assert failed.line in (5, None)


@pytest.mark.parametrize("callback", ["on_start", "on_stop"])
def test_failing_at_the_ends_is_told(callback: str) -> None:
    with in_thread() as host:
        host.start(on_bar("pass", more=f"    def {callback}(self): raise ValueError('no')\n"), wait=False)
        host.send(StopRun("done", 1.0))
        assert host.failure().reason == "ValueError: no"
        assert host.of(Stopped) == []


@pytest.mark.parametrize(
    ("source", "options", "reason", "line"),
    [
        ("x = (\n", {}, "syntax error in mine.py, line 1: '(' was never closed", 1),
        (QUIET, {"parameters": {"size": 0}}, "size must be at least 0.5, not 0", None),
        (QUIET, {"parameters": {"nope": 0}}, "the strategy has no parameter 'nope': its parameters are size", None),
        (QUIET, {"instruments": (BTC, OTHER)}, "Mine wants 1 instrument(s) and was given sim:BTC/USDT, sim2:", None),
        (QUIET, {"timeframe": "1 day"}, "'1 day' is not a timeframe", None),
        (on_bar("pass", more="    def __init__(self): 1 / 0\n"), {}, "ZeroDivisionError: division by zero", 6),
        (on_bar("pass", more="    def __init__(self): self.buy(1)\n"), {}, "the strategy is not running yet", 6),
    ],
)  # fmt: skip
def test_what_cannot_be_started_is_refused(
    source: str, options: dict[str, object], reason: str, line: int | None
) -> None:
    with in_thread() as host:
        host.start(source, wait=False, **options)
        refused = host.load_failure()
    assert refused.reason.startswith(reason)
    assert refused.line == line


def test_a_warmup_that_makes_no_sense_is_told() -> None:
    with in_thread() as host:
        host.start(on_bar("pass", more="    def on_start(self): self.warmup_bars = 2.5\n"), wait=False)
        assert host.failure().reason == "Mine.warmup_bars must be of type int, not 2.5"


def test_a_strategy_cannot_catch_the_end_of_the_engine() -> None:
    source = on_bar("while True:", "    try: self.buy(1)", "    except Exception: pass")
    with in_thread() as host:
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        host.wait_for(Submit)
        host.channel.close()
        assert wait_until(lambda: host.code is not None, what="the end")
        assert host.code == EXIT_ENGINE_GONE
