"""Checks of strategies: real workers but for their process, on a market that the test made up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError, KocError, StrategyError
from koc_qt.domain.lookahead import Variation
from koc_qt.domain.market import Bar
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.domain.trust import Check, TrustSnapshot, TrustSpec, Verdict
from koc_qt.domain.trust_report import TrustReport
from koc_qt.engine import trust as trust_module
from koc_qt.engine import trust_history
from koc_qt.engine.trust import TrustService
from koc_qt.link.trust_messages import FetchTrust, StartTrust, StopTrust, TrustChanged
from tests.conditions import until
from tests.fakes import threads
from tests.fakes.market import MINUTE_NS
from tests.fakes.threads import ThreadLauncher
from tests.fakes.trading import BTC, ETH
from tests.unit.engine.desk import EngineDesk

SMA = (Path(__file__).parents[3] / "strategies" / "sma_cross.py").read_text(encoding="utf-8")
QUICK: dict[str, Any] = {"cuts": 3, "draws": 50, "markets": 1, "neighbours": 2, "windows": 2}
CROSS = """
from koc_qt.sdk import Signals, Strategy, param
from koc_qt.sdk.indicators import SMA
import numpy as np

class Cross(Strategy):
    fast: int = param(3, low=1)

    def signals(self, bars):
        above = bars.column(SMA(self.fast)) > bars.column(SMA(9))
        before = np.concatenate(([False], above[:-1]))
        return Signals(above & ~before, ~above & before)
"""
AHEAD = """
from koc_qt.sdk import Signals, Strategy
import numpy as np

class Ahead(Strategy):
    def signals(self, bars):
        following = np.append(bars.close[1:], bars.close[-1])
        return Signals(following > bars.close * 1.004, following < bars.close)
"""
NORMALISES = """
from koc_qt.sdk import Signals, Strategy

class Normalises(Strategy):
    def signals(self, bars):
        score = (bars.close - bars.close.mean()) / bars.close.std()
        return Signals(score < -1, score > 0)
"""
PEEKS = """
import sys
from koc_qt.sdk import Strategy

KNOWN = {}  # what comes, taken from where it waits

def look():
    frame = sys._getframe()
    while frame is not None:
        for value in frame.f_locals.values():
            if hasattr(value, "open_time_ns") and hasattr(value, "close") and isinstance(value.close, list):
                KNOWN.update(zip(value.open_time_ns, value.close))
        frame = frame.f_back

class Peeks(Strategy):
    def on_bar(self, bar):
        look()
        following = KNOWN.get(bar.open_time_ns + 60_000_000_000, bar.close)
        if following > bar.close and not self.position().quantity:
            self.buy(1)
        elif following < bar.close:
            self.close_position()
"""
MOODY = """
import random
from koc_qt.sdk import Strategy

class Moody(Strategy):
    def on_bar(self, bar):
        if random.SystemRandom().random() < 0.5:
            self.buy(1)
"""
HASTY = """
from koc_qt.sdk import Strategy
from koc_qt.sdk.indicators import EMA

class Hasty(Strategy):
    warmup_bars = 20

    def on_start(self):
        self.average = EMA(60)

    def on_bar(self, bar):
        average = self.average.update(bar)
        if average is None or self.warming_up:
            return
        if bar.close > average and not self.position().quantity:
            self.buy(1)
        elif bar.close < average:
            self.close_position()
"""
FAILS = """
from koc_qt.sdk import Strategy

class Fails(Strategy):
    def on_bar(self, bar):
        raise ValueError("no")
"""
IDLE = """
from koc_qt.sdk import Strategy

class Idle(Strategy):
    def on_bar(self, bar): ...
"""


class Desk:
    """An engine whose back-tests run, and what it told of checks."""

    def __init__(self, engine: EngineDesk) -> None:
        self.engine = engine
        self.launcher = ThreadLauncher()
        services = engine.services.__class__(**{**vars(engine.services), "launcher": self.launcher})
        self.services = services
        self.trust = TrustService(services, engine.folder / "trust", engine.sessions, silence_limit_s=20.0)
        self.told: list[TrustSnapshot] = []
        engine.bus.subscribe(TrustChanged, lambda fact: self.told.append(fact.trust))
        self.until_ns = bar_open_ns(engine.clock.time_ns(), "1m") - 10 * MINUTE_NS
        engine.venue.history = self._market(400)

    def _market(self, count: int) -> list[Bar]:
        rng, price, found = Random(7), 100.0, []
        first_ns = self.until_ns - count * MINUTE_NS
        for number in range(count):
            close = round(price * rng.uniform(0.99, 1.0102), 2)
            high, low = round(max(price, close) + 0.05, 2), round(min(price, close) - 0.05, 2)
            found.append(Bar(BTC, "1m", first_ns + number * MINUTE_NS, price, high, low, close, 1_000.0))
            price = close
        return found

    def spec(self, text: str, *checks: Check, bars: int = 250, **changes: Any) -> TrustSpec:
        """Ask for checks of a file on the last `bars` minutes."""
        backtest = BacktestSpec(
            self.engine.file(text, "mine.py"), (BTC,), "1m", self.until_ns - bars * MINUTE_NS, self.until_ns,
            fee=Decimal("0.001"), parameters=changes.pop("parameters", {}),
        )  # fmt: skip
        return TrustSpec(backtest, checks or tuple(Check), **(QUICK | changes))

    def snapshot(self, key: str) -> TrustSnapshot:
        return next(each for each in self.trust.all if each.trust_id == key)

    async def ended(self, key: str) -> TrustSnapshot:
        await until(lambda: self.snapshot(key).state is not JobState.RUNNING, timeout_s=60.0, what=f"the end of {key}")
        await until(lambda: not self.trust._tasks, what="what was found to be kept")
        return self.snapshot(key)

    async def report(self, text: str, *checks: Check, **changes: Any) -> TrustReport:
        """Check a strategy, and give what was found."""
        key = await self.trust.start(self.spec(text, *checks, **changes))
        ended = await self.ended(key)
        assert ended.state is JobState.DONE, ended.reason
        assert ended.progress == 1.0
        return self.trust.report(key)

    async def close(self) -> None:
        await self.trust.close()
        await self.launcher.close()


@pytest.fixture
async def desk(engine: EngineDesk) -> AsyncIterator[Desk]:
    made = Desk(engine)
    yield made
    await made.close()


# ---- the future


@pytest.mark.parametrize(("text", "parameters"), [(SMA, {"fast": 3, "slow": 9}), (CROSS, {})])
async def test_honest_strategies_are_not_accused(desk: Desk, text: str, parameters: dict[str, Any]) -> None:
    report = await desk.report(text, Check.LOOKAHEAD, Check.WARMUP, parameters=parameters)
    assert report.lookahead is not None
    assert (report.lookahead.verdict, report.lookahead.change_count) == (Verdict.GREEN, 0), report.lookahead
    assert report.lookahead.runs == 7
    assert report.lookahead.decisions > 10
    assert report.warmup is not None
    assert report.warmup.verdict in (Verdict.GREEN, Verdict.NONE), report.warmup


@pytest.mark.parametrize(("text", "line"), [(AHEAD, 6), (NORMALISES, 5), (PEEKS, None)])
async def test_who_looks_ahead_is_found_and_the_decision_is_named(desk: Desk, text: str, line: int | None) -> None:
    report = await desk.report(text, Check.LOOKAHEAD)
    found = report.lookahead
    assert found is not None
    assert found.verdict is Verdict.RED
    assert found.sentence.startswith("It looks into the future. At 20")
    spec = report.spec.backtest
    for change in found.changes:
        assert change.variation in (Variation.TRUNCATED, Variation.PERTURBED)
        assert spec.since_ns < change.time_ns <= change.cut_ns < spec.until_ns
        assert text.splitlines()[(change.line or 0) - 1].lstrip().startswith(("def signals", "self.buy", "self.close"))
        assert line is None or change.line == line


async def test_one_that_is_not_repeatable_is_called_that(desk: Desk) -> None:
    report = await desk.report(MOODY, Check.LOOKAHEAD)
    assert report.lookahead is not None
    assert report.lookahead.verdict is Verdict.RED
    assert report.lookahead.sentence.startswith("The same run again decided otherwise")


async def test_too_short_a_warm_up_is_found(desk: Desk) -> None:
    report = await desk.report(HASTY, Check.WARMUP)
    assert report.warmup is not None
    assert report.warmup.verdict is Verdict.AMBER
    assert "Its warm-up is too short" in report.warmup.sentence
    short = await desk.report(HASTY, Check.WARMUP, bars=380)  # there are but twenty before
    assert short.warmup is not None
    assert {change.variation for change in short.warmup.changes} <= {Variation.LESS_WARMUP}
    none = await desk.report(IDLE, Check.WARMUP, Check.LOOKAHEAD)
    assert none.warmup is not None
    assert none.lookahead is not None
    assert (none.warmup.verdict, none.lookahead.verdict) == (Verdict.NONE, Verdict.NONE)


async def test_an_engine_that_breaks_off_leaves_no_certificate_green(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threads, "EngineLacks", StrategyError)
    report = await desk.report(SMA, Check.PARITY, parameters={"fast": 3, "slow": 9})
    assert report.certificate is not None
    assert {each.source: each.is_failure for each in report.certificate.absent} == {
        "vectorbt": True,
        "backtrader": True,
    }
    assert report.certificate.verdict is Verdict.AMBER
    assert "backtrader broke off: its libraries" in report.certificate.sentence


# ---- all of it


async def test_all_checks_of_one_strategy(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_module, "PUBLISH_S", 0.0)
    grid = {"fast": [2, 3, 20]}  # 20 is above the slow one, and refused
    parameters = {"fast": 3, "slow": 9}
    spec = desk.spec(SMA, parameters=parameters, grid=grid, trials=12, session="sma", backtest_id="bt-1")
    key = await desk.trust.execute(StartTrust(spec))
    assert key == "trust-1"
    ended = await desk.ended(key)
    assert ended.state is JobState.DONE, ended.reason
    answer = await desk.trust.execute(FetchTrust(key))
    report = msgspec.convert(answer, TrustReport)
    assert report == desk.trust.report(key)
    assert (report.name, len(report.strategy)) == ("SMA cross", 64)
    assert set(report.verdicts) == set(map(str, Check)) == set(ended.verdicts)
    assert report.failed == {}

    assert report.certificate is not None
    assert report.certificate.engines == ("replay",)
    assert not any(absent.is_failure for absent in report.certificate.absent)
    reasons = {absent.source: absent.reason for absent in report.certificate.absent}
    assert reasons == {
        "vectorbt": "its libraries are not installed here",
        "backtrader": "its libraries are not installed here",
        "paper": "sma has no session since the engine was started, and no fills then",
    }
    assert report.sharpe is not None
    assert (report.sharpe.trials, report.sharpe.periods) == (12, 250)
    assert report.sharpe.deflated is not None
    assert report.sharpe.probabilistic is not None
    assert report.sharpe.deflated < report.sharpe.probabilistic
    draws = report.monte_carlo
    assert draws is not None
    assert draws.shuffled is not None
    assert draws.bootstrapped is not None
    assert draws.candles is not None
    assert draws.jitter is not None
    assert (draws.shuffled.draws, draws.candles.count) == (50, 1)
    fan = draws.shuffled.fan
    assert fan is not None
    assert (fan.count, fan.times_ns[0]) == (50, spec.backtest.since_ns)
    assert fan.observed[-1] == pytest.approx(draws.shuffled.observed_final)
    assert draws.bootstrapped.fan is not None
    assert draws.candles_fan is None  # of one market there are no bands
    assert draws.jitter.count <= 2
    forward = report.walk_forward
    assert forward is not None
    assert [each.trials for each in forward.windows] == [2, 2]
    assert all(each.parameters["fast"] in (2, 3) for each in forward.windows)
    assert forward.windows[-1].window.until_ns == spec.backtest.until_ns

    assert any(told.reason.startswith("history: 100 %") for told in desk.told if told.stage == "first run")
    assert {told.reason for told in desk.told if told.stage not in ("", "first run")} == {""}
    stages = list(dict.fromkeys(told.stage for told in desk.told))
    assert [stage for stage in stages if stage] == ["first run", *map(str, Check)]
    assert [told.progress for told in desk.told] == sorted(told.progress for told in desk.told)
    assert desk.told[-1].state is JobState.DONE
    assert ended.runs == desk.launcher.launched + 2  # those whose libraries are not there are not launched


async def test_the_same_checks_again_find_the_same(desk: Desk) -> None:
    checks = (Check.LOOKAHEAD, Check.MONTE_CARLO, Check.WALK_FORWARD)
    first, again = [await desk.report(CROSS, *checks, seed=5) for _ in range(2)]
    assert msgspec.structs.replace(first) == again
    alone = await desk.report(CROSS, Check.MONTE_CARLO, seed=5)
    assert alone.monte_carlo == first.monte_carlo  # whichever others are made
    other = await desk.report(CROSS, Check.MONTE_CARLO, seed=6)
    assert other.monte_carlo != first.monte_carlo


@pytest.mark.expected_warnings(r"trust-7\.json cannot be read: Object missing required field")
async def test_what_was_found_survives_a_restart(desk: Desk) -> None:
    report = await desk.report(CROSS, Check.SHARPE)
    (desk.engine.folder / "trust" / "trust-7.json").write_text("{}")
    later = TrustService(desk.services, desk.engine.folder / "trust", desk.engine.sessions)
    assert [each.trust_id for each in later.all] == ["trust-1"]
    assert later.report("trust-1") == report
    assert later.all == desk.trust.all
    assert await later.start(desk.spec(CROSS, Check.SHARPE)) == "trust-8"  # what cannot be read is left alone
    await later.close()
    assert [each.state for each in later.all] == [JobState.DONE, JobState.STOPPED]
    with pytest.raises(StrategyError, match="stopping"):
        await later.start(desk.spec(CROSS))


# ---- what can go wrong


async def test_a_strategy_that_fails_and_checks_that_cannot_be_made(desk: Desk) -> None:
    key = await desk.trust.start(desk.spec(FAILS))
    ended = await desk.ended(key)
    assert (ended.state, ended.verdict) == (JobState.FAILED, Verdict.NONE)
    assert "ValueError: no (line 6)" in ended.reason
    impossible = await desk.report(CROSS, Check.WALK_FORWARD, Check.SHARPE, grid={"fast": list(range(1, 200))})
    assert "199 combinations, above the limit of 100" in impossible.failed["walk-forward"]
    assert impossible.sharpe is not None
    with pytest.raises(KocError, match="cannot be read"):
        await desk.trust.start(msgspec.structs.replace(
            desk.spec(CROSS), backtest=msgspec.structs.replace(desk.spec(CROSS).backtest, path="/nowhere.py")
        ))  # fmt: skip
    with pytest.raises(StrategyError, match="no checks 'trust-9'"):
        await desk.trust.stop("trust-9")
    with pytest.raises(ConfigError, match="cuts is from 1 to 200, not 0"):
        desk.spec(CROSS, cuts=0)
    with pytest.raises(ConfigError, match="variance"):
        desk.spec(CROSS, trial_variance=-1.0)


async def test_too_many_bars_are_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_history, "BARS_LIMIT", 100)
    ended = await desk.ended(await desk.trust.start(desk.spec(CROSS)))
    assert "more than 100 bars are too many" in ended.reason


async def test_checks_wait_for_their_turn_and_can_be_stopped(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_module, "WAITING_LIMIT", 1)
    running = await desk.trust.start(desk.spec(SMA, Check.SHARPE, Check.LOOKAHEAD, cuts=200))
    waiting = await desk.trust.start(desk.spec(CROSS, Check.SHARPE))
    assert "waits for its turn" in desk.snapshot(waiting).reason
    with pytest.raises(StrategyError, match="1 strategies wait"):
        await desk.trust.start(desk.spec(CROSS, Check.SHARPE))
    await until(lambda: desk.snapshot(running).runs > 3, timeout_s=30.0, what="some runs")
    await desk.trust.execute(StopTrust(running))
    stopped = desk.snapshot(running)
    assert (stopped.state, stopped.reason) == (JobState.STOPPED, "stopped by its owner")
    await desk.trust.stop(running)  # which changes nothing any more
    assert (await desk.ended(waiting)).state is JobState.DONE
    unborn = await desk.trust.start(desk.spec(CROSS, Check.SHARPE))
    await desk.trust.stop(unborn)
    assert desk.snapshot(unborn).state is JobState.STOPPED
    assert {told.trust_id: told.state for told in desk.told}[running] is JobState.STOPPED


async def test_another_symbol_has_a_market_of_its_own(desk: Desk) -> None:
    text = IDLE.replace("class Idle(Strategy):", "class Idle(Strategy):\n    instruments_wanted = 2")
    desk.engine.venue.history += [msgspec.structs.replace(bar, instrument=ETH) for bar in desk.engine.venue.history]
    spec = desk.spec(text, Check.LOOKAHEAD, Check.MONTE_CARLO)
    spec = msgspec.structs.replace(spec, backtest=msgspec.structs.replace(spec.backtest, instruments=(BTC, ETH)))
    ended = await desk.ended(await desk.trust.start(spec))
    assert ended.state is JobState.DONE, ended.reason
