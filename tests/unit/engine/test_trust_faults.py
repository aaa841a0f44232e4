"""Checks of strategies when something goes wrong: runs that fail, disks that are full, code that nobody foresaw."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import Check, Verdict
from koc_qt.engine import trust_checks
from koc_qt.engine.backtests import prepare
from koc_qt.engine.drift_replay import SessionReplays
from koc_qt.engine.trust import TrustJob, TrustService
from koc_qt.engine.trust_checks import TrustChecks
from koc_qt.sdk.channel import ParameterInfo
from tests.conditions import until
from tests.unit.engine.test_drift import Monitor
from tests.unit.engine.test_drift import desk as monitor
from tests.unit.engine.test_trust import CROSS, IDLE, SMA, Desk, desk

__all__ = ["desk", "monitor"]

NEEDY = CROSS.replace("        above =", "        bars.close[249]\n        above =")
FORWARD = {"fast": 3, "slow": 9}


async def test_a_run_that_fails_where_the_future_is_cut_off_is_no_good_sign(desk: Desk) -> None:
    report = await desk.report(NEEDY, Check.LOOKAHEAD)
    assert report.lookahead is not None
    assert report.lookahead.verdict is Verdict.AMBER
    assert "With the future cut off after 20" in report.lookahead.sentence
    assert "it failed: IndexError: index 249 is out of bounds for axis 0" in report.lookahead.sentence


async def test_windows_in_which_nothing_can_run_are_said(desk: Desk) -> None:
    refused = await desk.report(SMA, Check.WALK_FORWARD, parameters=FORWARD, grid={"fast": [20, 30]})
    assert refused.walk_forward is not None
    assert refused.walk_forward.verdict is Verdict.NONE
    assert refused.walk_forward.sentence.startswith("No window was run to its end. The window from 20")
    assert "fast (20) must be below slow (9)" in refused.walk_forward.sentence
    needy = await desk.report(NEEDY, Check.WALK_FORWARD, bars=252)  # which none of the windows has
    assert needy.walk_forward is not None
    assert needy.walk_forward.windows == ()
    idle = await desk.report(IDLE, Check.WALK_FORWARD, Check.MONTE_CARLO)  # it has nothing to choose
    assert idle.walk_forward is not None
    assert idle.monte_carlo is not None
    assert [each.trials for each in idle.walk_forward.windows] == [1, 1]
    assert (idle.walk_forward.verdict, idle.monte_carlo.verdict) == (Verdict.NONE, Verdict.NONE)
    assert idle.monte_carlo.jitter is None


async def test_what_fails_out_of_sample_is_said(desk: Desk) -> None:
    late = CROSS.replace(
        "        above =", "        if bars.time_ns[-1] >= LAST: raise ValueError('late')\n        above ="
    )
    text = late.replace("class Cross", f"LAST = {desk.until_ns - 60_000_000_000}\n\nclass Cross")
    text = text.replace("if bars", "if len(bars) < 100 and bars")
    report = await desk.report(text, Check.WALK_FORWARD)
    assert report.walk_forward is not None
    assert len(report.walk_forward.windows) == 1
    assert "failed: ValueError: late" in report.walk_forward.sentence


async def test_only_the_newest_bars_make_markets(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_checks, "MARKET_BARS", 60)
    seen: list[int] = []
    market = TrustChecks._market

    def counted(checks: TrustChecks, since_ns: int, seed: int) -> Any:
        seen.append((desk.until_ns - since_ns) // 60_000_000_000)
        return market(checks, since_ns, seed)

    monkeypatch.setattr(TrustChecks, "_market", counted)
    report = await desk.report(CROSS, Check.MONTE_CARLO)
    assert report.monte_carlo is not None
    assert seen == [60]


@pytest.mark.expected_warnings("failed in a way nobody foresaw")
async def test_what_nobody_foresaw_ends_the_checks_and_keeps_what_was_found(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(checks: TrustChecks) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(TrustChecks, "sharpe", broken)
    key = await desk.trust.start(desk.spec(CROSS, Check.LOOKAHEAD, Check.SHARPE))
    ended = await desk.ended(key)
    assert (ended.state, ended.reason) == (
        JobState.FAILED,
        "internal error of the engine (ZeroDivisionError), its log says more",
    )
    assert ended.verdicts == {"lookahead": Verdict.GREEN}


@pytest.mark.expected_warnings(r"trust-1\.json cannot be written")
async def test_a_disk_that_keeps_nothing(desk: Desk) -> None:
    (desk.engine.folder / "trust").write_text("in the way")
    report = await desk.report(CROSS, Check.SHARPE)
    assert desk.trust.report("trust-1") == report


async def test_the_oldest_make_way(desk: Desk) -> None:
    desk.trust._files._kept = 1
    for _ in range(2):
        await desk.report(CROSS, Check.SHARPE)
    assert [each.trust_id for each in desk.trust.all] == ["trust-2"]
    with pytest.raises(StrategyError, match="there are: trust-2"):
        desk.trust.report("trust-1")


async def test_checks_without_an_engine_know_no_sessions(desk: Desk) -> None:
    spec = desk.spec(CROSS, Check.PARITY, session="sma")
    backtest, source, instruments, *_ = await prepare(spec.backtest, desk.services)
    told: list[bool] = []
    job = TrustJob("t", spec, source, instruments, desk.services, lambda _, must: told.append(must))
    await job.play()
    assert job.report.certificate is not None
    assert job.report.certificate.absent[-1].reason == "sessions are known to the engine alone: ask it"
    assert set(told) == {True, False}
    assert backtest.instruments == spec.backtest.instruments


def test_values_of_a_grid_are_within_bounds_and_on_steps() -> None:
    info = ParameterInfo("x", "float", 1.0, low=0.5, high=1.2, step=0.25)
    assert trust_checks._around(info, 1.0) == [0.5, 1.0, 1.2]
    assert trust_checks._around(ParameterInfo("n", "int", 5), 5) == [2, 5, 10]


# ---- drift


@pytest.mark.expected_warnings(r"drift-.*\.json cannot be written")
async def test_drift_on_a_disk_that_keeps_nothing(monitor: Monitor) -> None:
    (monitor.engine.folder / "trust").write_text("in the way")
    assert (await monitor.measure()).verdict is Verdict.NONE
    assert len(monitor.drift.all) == 1


@pytest.mark.expected_warnings("in a way nobody foresaw")
async def test_drift_that_nobody_foresaw(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(replays: SessionReplays, strategy_id: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(SessionReplays, "replay", broken)
    report = await monitor.measure()
    assert report.sentence == "internal error of the engine (ZeroDivisionError)"


@pytest.mark.expected_warnings("in a way nobody foresaw")
async def test_a_gap_that_cannot_be_split_up(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    async def replay(replays: SessionReplays, strategy_id: str) -> None:
        return None

    async def on_history(replays: SessionReplays, replay: None) -> tuple[None, int]:
        return None, 0

    monkeypatch.setattr(SessionReplays, "replay", replay)
    monkeypatch.setattr(SessionReplays, "on_history", on_history)
    assert (await monitor.measure()).sentence == "internal error of the engine (AttributeError)"


async def test_measuring_ends_with_the_engine(monitor: Monitor) -> None:
    monitor.see()
    monitor.drift.ask()
    await until(lambda: monitor.launcher.launched == 1, what="the first run")
    await monitor.drift.close()
    assert monitor.measured == []
    await monitor.drift.measure_all()
    assert monitor.measured == []


@pytest.mark.parametrize("kind", ["quotes", "trades"])
async def test_what_hears_more_than_bars_cannot_be_run_again(monitor: Monitor, kind: str) -> None:
    monitor.see()
    text = SMA.replace('    timeframe = "1s"', f'    timeframe = "1s"\n    subscriptions = ("{kind}",)')
    monitor.engine.file(text, "sma.py")
    report = await monitor.measure()
    assert (report.verdict, report.sentence) == (
        Verdict.NONE,
        f"sma-1 hears {kind} too, which a back-test has not",
    )


async def test_a_session_of_two_bars_is_too_short(monitor: Monitor) -> None:
    monitor.see(since=2)
    report = await monitor.measure()
    assert report.verdict is Verdict.NONE
    assert report.sentence == "sma-1 has not run for long enough: there is nothing to compare yet"
    service = TrustService(monitor.services, monitor.engine.folder / "other", monitor.engine.sessions)
    spec = msgspec.structs.replace(monitor.spec(SMA, Check.PARITY), session="sma-1")
    await service.start(spec)
    await service.close()
    assert service.all[-1].state is JobState.STOPPED
