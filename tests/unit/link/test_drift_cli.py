"""koc drift, and the drift in koc status, against an engine in its own process."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

import pytest

from koc_qt.cli.drift import _Watch
from koc_qt.cli.remote import add_parsers
from koc_qt.domain.errors import KocError, LinkError, StrategyError
from koc_qt.domain.trust import DriftReport, Verdict
from koc_qt.link.client import LinkState
from koc_qt.link.trust_messages import DriftMeasured
from koc_qt.paths import Paths
from tests.conditions import until
from tests.fakes.link import START_NS, FakeEngine, engine_process


def koc(*words: str) -> int:
    """Run a command, as the koc program does."""
    parser = argparse.ArgumentParser()
    add_parsers(parser.add_subparsers())
    args = parser.parse_args(words)
    code: int = args.run(args)
    return code


def home(profile: Paths) -> Path:
    return profile.run.parent


def report(key: str, measured_ns: int) -> DriftReport:
    return DriftReport(key, "paper", Verdict.GREEN, "It does.", START_NS, START_NS, measured_ns)


def test_what_was_measured_and_what_is_measured_now(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    with engine_process(home(profile), "--drift"):
        assert koc("drift") == 0
        text = capsys.readouterr().out
        assert koc("drift", "sma-1", "--json") == 0
        (before,) = json.loads(capsys.readouterr().out)
        assert koc("drift", "--now", "--json") == 0
        (now,) = json.loads(capsys.readouterr().out)
        assert koc("status") == 0
        status = capsys.readouterr().out
        assert koc("status", "--json") == 0
        strategy = json.loads(capsys.readouterr().out)["strategies"][0]
        with pytest.raises(StrategyError, match="there is no strategy 'other'; there are: sma-1"):
            koc("drift", "other")
    lines = [line.split() for line in text.splitlines()]
    assert lines[0] == ["sma-1:", "amber.", "Two", "worse."]
    assert ["sma-1", "slippage", "-3.00", "75", "%"] in lines
    assert ["sma-1", "fees", "+1.00", "25", "%"] in lines
    assert before["shares"] == {"slippage": 0.75, "fees": 0.25, "data": 0.0}
    assert (before["verdict"], before["gap"]) == ("amber", -2)
    assert before["measured"] == "2023-11-14T22:13:20.000000Z"
    assert (before["measured_ns"], now["measured_ns"]) == (START_NS, START_NS + 1)
    assert strategy["drift"] == now
    assert "amber" in status


def test_an_engine_that_measured_nothing_yet_and_one_that_takes_too_long(
    profile: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    with engine_process(home(profile)):
        assert koc("drift", "sma-1") == 0
        assert capsys.readouterr().out == "It was not measured yet: `koc drift --now` does it.\n"
        assert koc("drift", "--json") == 0
        assert json.loads(capsys.readouterr().out) == []
        with pytest.raises(KocError, match=r"has not measured it in .* s: it goes on"):
            koc("drift", "sma-1", "--now", "--timeout", "0.01")


def test_without_an_engine(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert koc("drift") == 3
    assert "no engine runs on this profile" in capsys.readouterr().err


async def test_reports_are_waited_for_until_the_engine_is_lost() -> None:
    watch, engine = _Watch(), FakeEngine()
    engine.research.drift["a"] = report("a", 1)
    waiting = asyncio.create_task(watch.until_newer(["b", "a"], {"a": 1}))
    watch.hear(engine.snapshot())
    watch.hear(DriftMeasured(report("b", 2)))
    engine.research.drift = {"a": report("a", 3), "b": report("b", 2)}  # the fact of it was missed
    watch.hear(engine.snapshot())
    assert [each.strategy_id for each in await waiting] == ["a", "b"]
    lost = asyncio.create_task(watch.until_newer(["a"], {"a": 3}))
    await asyncio.sleep(0)
    watch.stand(LinkState.LOST, "the engine has gone")
    await until(lost.done)
    with pytest.raises(LinkError, match="the engine has gone; `koc drift` shows later"):
        await lost
