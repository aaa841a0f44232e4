"""Checks whose time is limited: on how many bars they are made, and what is said of the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from koc_qt.domain.errors import KocError
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import Check, TrustSpec, Verdict
from koc_qt.engine import trust_scope
from koc_qt.engine.trust_runs import TrustRuns
from koc_qt.engine.trust_scope import bounded
from tests.fakes.market import MINUTE_NS
from tests.fakes.workers import DESCRIBED
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_trust import AHEAD, CROSS, FAILS, Desk


@pytest.fixture
def slow(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Make the probe take so many seconds by the engine's clock."""
    run = TrustRuns.run

    def make(seconds: float) -> None:
        left = [seconds]

        async def slowly(runs: TrustRuns, *arguments: Any, **more: Any) -> Any:
            found = await run(runs, *arguments, **more)
            if left:
                engine.clock.advance(left.pop())
            return found

        monkeypatch.setattr(TrustRuns, "run", slowly)

    return make


@pytest.fixture
async def desk(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(trust_scope, "PROBE_BARS", 50)
    monkeypatch.setattr(trust_scope, "LEAST_BARS", 20)
    made = Desk(engine)
    yield made
    await made.close()


async def test_checks_that_would_take_too_long_are_made_on_the_newest_bars(
    desk: Desk, slow: Callable[[float], None]
) -> None:
    slow(2.0)  # 50 bars: 0.04 s each, in 5 runs of which 2 are at once
    report = await desk.report(AHEAD, Check.LOOKAHEAD, bars=250, budget_s=10.0)
    scope = report.scope
    assert scope is not None
    assert (scope.bars, scope.bars_in_all, round(scope.needed_s, 6)) == (100, 250, 25.0)
    assert scope.since_ns == desk.until_ns - 100 * MINUTE_NS
    assert scope.sentence.startswith("Checked on about the newest 100 of 250 bars, from 2")
    assert scope.sentence.endswith("all of them would take about 25 seconds, and 10 seconds were given.")
    assert report.spec.backtest.since_ns == desk.until_ns - 250 * MINUTE_NS  # what is shown it belongs to
    found = report.lookahead
    assert found is not None
    assert (found.verdict, found.runs) == (Verdict.RED, 7)
    assert all(scope.since_ns < change.time_ns for change in found.changes)


@pytest.mark.parametrize("changes", [{"budget_s": 26.0}, {"budget_s": None}, {"budget_s": 1.0, "bars": 50}])
async def test_what_there_is_time_for_is_checked_on_all_bars(
    desk: Desk, slow: Callable[[float], None], changes: dict[str, Any]
) -> None:
    slow(2.0)
    report = await desk.report(CROSS, Check.LOOKAHEAD, **changes)
    assert report.scope is None
    assert report.lookahead is not None
    assert report.lookahead.verdict is not Verdict.RED


async def test_there_is_a_least_number_of_bars_and_the_files_own_length_of_them(
    desk: Desk, slow: Callable[[float], None]
) -> None:
    slow(2_000.0)
    spec = desk.spec(CROSS, Check.LOOKAHEAD, budget_s=1.0)
    backtest = msgspec.structs.replace(spec.backtest, timeframe="", parameters={})
    file = desk.engine.file(
        CROSS.replace("class Cross(Strategy):", 'class Cross(Strategy):\n    timeframe = "1m"'), "a.py"
    )
    key = await desk.trust.start(msgspec.structs.replace(spec, backtest=msgspec.structs.replace(backtest, path=file)))
    ended = await desk.ended(key)
    assert ended.state is JobState.DONE, ended.reason
    scope = desk.trust.report(key).scope
    assert scope is not None
    assert (scope.bars, scope.bars_in_all) == (20, 250)
    assert "all of them would take about " in scope.sentence


async def test_a_strategy_that_fails_says_so_as_ever(desk: Desk) -> None:
    ended = await desk.ended(await desk.trust.start(desk.spec(FAILS, budget_s=5.0)))
    assert ended.state is JobState.FAILED
    assert "ValueError: no" in ended.reason


def test_other_engines_and_windows_count_for_what_they_cost(desk: Desk) -> None:
    spec = desk.spec(CROSS, windows=4, ratio=3.0, markets=4, neighbours=6, cuts=6)

    def bars(check: Check, spec: TrustSpec = spec, engines: tuple[str, ...] = ("replay",)) -> float:
        return trust_scope._bar_s(check, spec, msgspec.structs.replace(DESCRIBED, engines=engines), 1e-6) / 1e-6

    assert bars(Check.LOOKAHEAD) == pytest.approx(8)
    assert [bars(check) for check in (Check.WARMUP, Check.SHARPE, Check.MONTE_CARLO)] == pytest.approx([2, 0, 10])
    assert bars(Check.PARITY) == pytest.approx(1)
    assert bars(Check.PARITY, engines=("replay", "vectorbt", "backtrader")) == pytest.approx(83)
    assert bars(Check.WALK_FORWARD) == pytest.approx(16)
    assert bars(Check.WALK_FORWARD, msgspec.structs.replace(spec, grid={"fast": [1, 2]})) == pytest.approx(4)


async def test_a_check_that_takes_far_longer_than_was_reckoned_is_ended(desk: Desk) -> None:
    spec = desk.spec(CROSS, budget_s=1.0)
    with pytest.raises(KocError, match=r"the checks have taken longer than 3 seconds\. Check again without a limit"):
        async with bounded(spec, 2.99):
            await asyncio.Event().wait()
    with pytest.raises(KocError, match="It was ended"):
        async with bounded(spec, 5.0):
            await asyncio.Event().wait()
    async with bounded(desk.spec(CROSS), 1e9):
        await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        async with bounded(spec, 0.0):
            raise ZeroDivisionError


def test_times_in_words() -> None:
    assert [trust_scope._time(seconds) for seconds in (59.6, 600.0, 9_000.0)] == ["60 seconds", "10 minutes", "2 hours"]
