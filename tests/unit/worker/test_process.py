"""The worker as a process of its own: what only shows there."""

from __future__ import annotations

import sys

import pytest

from koc_qt.sdk.channel import BarClosed, Failed, LoadFailed, LogLine, MetricValue, Ready, Running, StopRun
from koc_qt.worker.loop import EXIT_DONE, EXIT_ENGINE_GONE, EXIT_FAILED
from tests.conditions import PATIENCE
from tests.unit.sdk.desk import bar
from tests.unit.worker.host import QUIET, in_process, on_bar

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="descriptors are not inherited by number on Windows")


def test_a_process_ends_with_code_0_when_it_is_stopped() -> None:
    with in_process() as (host, process):
        host.start(QUIET)
        host.send(StopRun("done", 1.0))
        assert process.wait(10 * PATIENCE) == EXIT_DONE


def test_a_process_ends_when_the_engine_is_gone() -> None:
    with in_process() as (host, process):
        host.start(QUIET)
        host.channel.close()
        assert process.wait(10 * PATIENCE) == EXIT_ENGINE_GONE


def test_a_process_that_runs_out_of_memory_can_still_tell() -> None:
    source = on_bar("self.hoard = []", "while True: self.hoard.append([0] * 10_000)")
    with in_process(address_space_mb=400) as (host, process):
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        failed = host.wait_for(Failed)
        assert failed.reason.startswith("the strategy ran out of memory")
        assert failed.line == 6
        assert process.wait(10 * PATIENCE) == EXIT_FAILED


def test_a_process_that_runs_out_of_memory_at_import_can_still_tell() -> None:
    with in_process(address_space_mb=400) as (host, process):
        host.start("hoard = []\nwhile True: hoard.append([0] * 10_000)\n", wait=False)
        assert host.wait_for(LoadFailed).reason.startswith("the strategy ran out of memory")
        assert process.wait(10 * PATIENCE) == EXIT_FAILED


def test_a_process_that_dies_closes_the_channel() -> None:
    with in_process() as (host, process):
        host.start(on_bar("import os", "os._exit(9)"))
        host.send(BarClosed(bar(1.0)))
        while host.read():
            pass
        assert process.wait(10 * PATIENCE) == 9


def test_what_is_written_past_python_goes_nowhere_near_the_channel() -> None:
    with in_process() as (host, _):
        host.start(on_bar("import os", "os.write(1, b'garbage')", "os.system('echo more')", "print('kept')"))
        host.send(BarClosed(bar(1.0)))
        assert host.wait_for(LogLine).text == "kept"


def test_numpy_and_pandas_are_there_for_strategies() -> None:
    source = on_bar("self.metric('sum', np.arange(4).sum())", "self.buy(np.float64(0.5), price=np.float32(2))").replace(
        "class Mine", "import numpy as np\n\nclass Mine"
    )
    with in_process() as (host, _):
        host.start(source)
        host.send(BarClosed(bar(1.0)))
        assert host.wait_for(MetricValue) == MetricValue("sum", 6.0)


def test_the_first_word_is_ready_and_names_no_folder() -> None:
    with in_process() as (host, _):
        host.wait_for(Ready)
        host.start(on_bar("import sys", "self.log.info(__file__)"))
        assert [type(message) for message in host.said] == [Ready, Running]
        host.send(BarClosed(bar(1.0)))
        assert host.wait_for(LogLine).text == "mine.py"
