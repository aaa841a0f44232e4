"""Sessions of strategies run once more as back-tests, and the gap between both: real workers but for their process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.orders import Fill
from koc_qt.domain.parity import PAPER
from koc_qt.domain.state import Balance, StrategySpec, StrategyState
from koc_qt.domain.trust import Check, DriftReport, GapCause, Verdict
from koc_qt.engine import drift_sessions
from koc_qt.engine.drift import DriftMonitor
from koc_qt.engine.drift_replay import changed_bars, opening_of, quiet_end
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.link.messages import NoticeGiven
from koc_qt.link.trust_messages import CheckDrift, DriftMeasured
from koc_qt.ports.bars import BarSeries, columns_of
from tests.conditions import until
from tests.fakes.link import strategy_snapshot
from tests.fakes.market import MINUTE_NS, MemoryBarStore, bars
from tests.fakes.trading import BTC, BTC_RULES, ETH
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_trust import SMA, Desk

SINCE = 100  # bars before the end of the market, at which the session begins
PARAMETERS = {"fast": 3, "slow": 9}


class Monitor(Desk):
    """A strategy that has run live, as the test says."""

    def __init__(self, engine: EngineDesk) -> None:
        super().__init__(engine)
        self.drift = DriftMonitor(self.services, engine.folder / "trust", engine.sessions, silence_limit_s=20.0)
        self.measured: list[DriftReport] = []
        engine.bus.subscribe(DriftMeasured, lambda fact: self.measured.append(fact.drift))
        self.path = engine.file(SMA, "sma.py")
        spec = StrategySpec("sma-1", self.path, "sim", (BTC,), "1m", PARAMETERS)
        engine.store.strategies["sma-1"] = strategy_snapshot(spec=spec)
        self.market = [bar for bar in engine.venue.history if bar.instrument == BTC]
        self.first_ns = self.market[-SINCE].open_time_ns

    def see(self, owner: str = "run 1", since: int = SINCE) -> None:
        """Have the strategy sent the bars of its session."""
        for bar in self.market[-since - 20 :]:
            self.engine.sessions.saw("sma-1", owner, bar, bar.open_time_ns < self.market[-since].open_time_ns)

    def trade(self, fills: Sequence[Fill]) -> None:
        """Have the strategy made these executions live."""
        for fill in fills:
            self.engine.store.fills.append(fill)
            self.engine.store.position("sma-1", "sim", BTC_RULES).apply(fill)

    async def expected(self) -> list[Fill]:
        """Give what a replay of the session does, as a live session would have it, half a second later."""
        found = await self.trust._replays.replay("sma-1")
        return [
            msgspec.structs.replace(fill, strategy_id="sma-1", account_id="sim", time_ns=fill.time_ns + 500_000_000)
            for fill in found.outcome.result.fills
        ]

    async def measure(self) -> DriftReport:
        """Measure the strategy, and give what was found."""
        assert self.drift.ask("sma-1") == ["sma-1"]
        number = len(self.measured)
        await until(lambda: len(self.measured) > number, timeout_s=30.0, what="a report")
        return self.measured[-1]

    async def close(self) -> None:
        await self.drift.close()
        await super().close()


@pytest.fixture
async def desk(engine: EngineDesk) -> AsyncIterator[Monitor]:
    made = Monitor(engine)
    yield made
    await made.close()


async def test_a_session_that_did_what_its_back_test_does(desk: Monitor) -> None:
    desk.see()
    fills = await desk.expected()
    assert len(fills) > 6
    desk.trade(fills)
    report = await desk.measure()
    assert (report.verdict, report.strategy_id, report.account_id) == (Verdict.GREEN, "sma-1", "sim")
    assert (report.executions, report.executions_expected, report.matched) == (len(fills),) * 3
    assert (report.bars, report.bars_changed) == (SINCE, 0)
    assert report.since_ns == desk.first_ns
    assert report.gap == 0.0
    assert report.live_pnl == report.test_pnl != 0.0
    later = DriftMonitor(desk.services, desk.engine.folder / "trust", desk.engine.sessions)
    assert later.all == desk.drift.all == (report,)
    assert desk.engine.store.notices == []

    spec = desk.spec(SMA, Check.PARITY, session="sma-1", parameters=PARAMETERS)
    spec = msgspec.structs.replace(spec, backtest=msgspec.structs.replace(spec.backtest, path=desk.path))
    await desk.ended(await desk.trust.start(spec))
    certificate = desk.trust.report("trust-1").certificate
    assert certificate is not None
    assert (certificate.verdict, certificate.engines) == (Verdict.GREEN, ("replay", PAPER))
    other = desk.spec(SMA, Check.PARITY, session="sma-1", parameters=PARAMETERS)  # of another file
    await desk.ended(await desk.trust.start(other))
    certificate = desk.trust.report("trust-2").certificate
    assert certificate is not None
    assert "another file" in certificate.absent[-1].reason


async def test_a_session_from_before_the_engine_was_started_is_held_against_the_run(desk: Monitor) -> None:
    spec = desk.spec(SMA, Check.PARITY, session="sma-1", parameters=PARAMETERS, bars=SINCE)
    spec = msgspec.structs.replace(spec, backtest=msgspec.structs.replace(spec.backtest, fee=None))
    desk.see()
    desk.trade(await desk.expected())
    desk.engine.sessions._sessions.clear()  # as after a restart
    await desk.ended(await desk.trust.start(spec))
    certificate = desk.trust.report("trust-1").certificate
    assert certificate is not None
    assert certificate.engines == ("replay", PAPER)
    [found] = certificate.comparisons
    assert found.fills_equal >= found.fills - 1 > 5  # the last one was too near the end of the session


async def test_the_account_begins_with_what_it_had_then(desk: Monitor) -> None:
    desk.see()
    fills = await desk.expected()
    desk.trade(fills)
    account = desk.engine.store.accounts["sim"]
    desk.engine.store.accounts["sim"] = msgspec.structs.replace(account, balances=(Balance("USDT", Decimal(5_000)),))
    paid = sum(fill.side.sign * fill.price * fill.quantity + fill.fee for fill in fills)
    assert (await desk.trust._replays.replay("sma-1")).spec.cash == 5_000 + paid
    desk.engine.store.accounts["sim"] = msgspec.structs.replace(account, balances=())
    before = (await desk.trust._replays.replay("sma-1")).spec.cash
    assert before == (paid if paid > 0 else 1_000_000)
    del desk.engine.store.accounts["sim"]
    assert (await desk.trust._replays.replay("sma-1")).spec.cash == 1_000_000


async def test_what_was_paid_more_and_what_came_late_is_told_apart(desk: Monitor) -> None:
    desk.see()
    fills = await desk.expected()
    worse = Decimal("1.01")
    fills[0] = msgspec.structs.replace(fills[0], price=fills[0].price * worse, fee=fills[0].fee + 1)
    fills[1] = msgspec.structs.replace(fills[1], time_ns=fills[1].time_ns + MINUTE_NS)
    desk.trade(fills)
    report = await desk.measure()
    assert report.verdict is Verdict.AMBER
    assert report.matched == len(fills)
    assert report.parts[GapCause.FEES] == pytest.approx(-1.0)
    late = next(bar.open for bar in desk.market if bar.open_time_ns <= fills[1].time_ns < bar.open_time_ns + MINUTE_NS)
    moved = -fills[1].side.sign * float(fills[1].quantity) * (late - float(fills[1].price))
    assert report.parts[GapCause.LATENCY] == pytest.approx(moved)
    assert sum(report.parts.values()) == pytest.approx(report.gap)


@pytest.mark.expected_warnings("does not do live")
async def test_what_was_not_done_is_missed_and_noticed(desk: Monitor) -> None:
    told: list[str] = []
    desk.engine.bus.subscribe(NoticeGiven, lambda fact: told.append(fact.text))
    desk.see()
    fills = await desk.expected()
    desk.trade(fills[2:])
    report = await desk.measure()
    assert report.verdict is Verdict.RED
    assert (report.matched, report.executions_expected) == (len(fills) - 2, len(fills))
    assert report.parts[GapCause.MISSED] != 0
    assert told == [f"sma-1 does not do live what it does in a back-test. {report.sentence}"]


async def test_other_bars_in_history_are_what_the_data_account_for(desk: Monitor) -> None:
    desk.see()
    fills = await desk.expected()
    desk.trade(fills)
    when_ns = fills[0].time_ns - 500_000_000
    desk.engine.venue.history = [
        msgspec.structs.replace(bar, open=bar.open + 0.02, high=bar.high + 0.02) if bar.open_time_ns == when_ns else bar
        for bar in desk.engine.venue.history
    ]
    desk.engine.history._store = MemoryBarStore()  # what was read before is forgotten
    report = await desk.measure()
    assert (report.verdict, report.bars_changed) == (Verdict.AMBER, 1)
    assert report.parts[GapCause.DATA] == pytest.approx(report.gap)
    assert report.gap > 0


async def test_a_session_that_began_with_a_holding_is_measured_from_where_it_had_none(desk: Monitor) -> None:
    desk.see()
    fills = await desk.expected()
    held = msgspec.structs.replace(fills[0], fill_id="before", time_ns=desk.first_ns - MINUTE_NS, quantity=Decimal(1))
    sold = msgspec.structs.replace(
        fills[1], fill_id="sold", time_ns=desk.first_ns + 10 * MINUTE_NS + 7, quantity=Decimal(1)
    )
    desk.trade([held, sold])
    found = await desk.trust._replays.replay("sma-1")
    assert found.since_ns == desk.first_ns + 10 * MINUTE_NS
    desk.trade([msgspec.structs.replace(held, fill_id="again", time_ns=desk.first_ns + 20 * MINUTE_NS)])
    assert (await desk.trust._replays.replay("sma-1")).since_ns == desk.first_ns + 10 * MINUTE_NS
    desk.trade([msgspec.structs.replace(held, fill_id="more")])
    report = await desk.measure()
    assert (report.verdict, report.sentence[:36]) == (Verdict.NONE, "sma-1 has held something ever since:")


async def test_what_cannot_be_measured_is_said(desk: Monitor) -> None:
    report = await desk.measure()
    assert report.sentence == "sma-1 has seen no bar since the engine was started: there is no session"
    with pytest.raises(StrategyError, match="no strategy 'sma-9'; there are: sma-1"):
        desk.drift.ask("sma-9")
    desk.see()
    spec = desk.engine.store.strategies["sma-1"].spec
    both = msgspec.structs.replace(spec, instruments=(BTC, ETH))
    desk.engine.store.strategies["sma-1"] = strategy_snapshot(spec=both)
    assert (await desk.measure()).sentence == "sma-1 has seen no bar of sim:ETH/USDT yet"
    gone = msgspec.structs.replace(spec, path="/nowhere.py")
    desk.engine.store.strategies["sma-1"] = strategy_snapshot(spec=gone)
    assert "cannot be read" in (await desk.measure()).sentence


async def test_all_that_run_are_measured_daily_and_on_request(desk: Monitor) -> None:
    stopped = strategy_snapshot("other", state=StrategyState.STOPPED)
    desk.engine.store.strategies["other"] = stopped
    await desk.drift.measure_all()
    assert [each.strategy_id for each in desk.measured] == ["sma-1"]
    told: Any = await desk.engine.commands.execute(CheckDrift(), "window-1")
    assert told == ["sma-1"]
    with pytest.raises(StrategyError, match="being measured already"):
        await desk.engine.commands.execute(CheckDrift(), "window-1")
    await until(lambda: len(desk.measured) == 2, timeout_s=30.0, what="the second report")
    assert desk.engine.commands.snapshot().drift == (desk.measured[-1],)
    await desk.drift.close()
    with pytest.raises(StrategyError, match="the engine stops"):
        desk.drift.ask()


# ---- what is remembered


def test_bars_that_were_seen_are_kept_once_and_the_oldest_make_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift_sessions, "BARS_KEPT", 20)
    monkeypatch.setattr(drift_sessions, "SESSIONS_KEPT", 2)
    sessions, some = Sessions(), bars(0, 100)
    assert sessions.get("a") is None
    assert sessions.bars(BarSeries(BTC, "1m")) is None
    sessions.saw("a", "1", some[0], True)
    assert sessions.get("a") is None
    for bar in some[1:]:
        sessions.saw("a", "1", bar, False)
        sessions.saw("b", "2", bar, False)  # the same series
    found = sessions.bars(BarSeries(BTC, "1m"))
    assert found is not None
    assert 20 <= len(found.open_time_ns) < 22
    assert found.open_time_ns[-1] == some[-1].open_time_ns
    assert all(np.diff(found.open_time_ns) == MINUTE_NS)
    session = sessions.get("a")
    assert session is not None
    assert (session.owner, session.first_ns) == ("1", {BTC: some[1].open_time_ns})
    sessions.saw("a", "3", some[50], False)
    session = sessions.get("a")
    assert session is not None
    assert (session.owner, session.first_ns) == ("3", {BTC: some[50].open_time_ns})
    for name in ("c", "d"):
        sessions.saw(name, name, msgspec.structs.replace(some[50], instrument=ETH), False)
    assert sessions.get("a") is None
    assert sessions.bars(BarSeries(BTC, "1m")) is None
    assert sessions.bars(BarSeries(ETH, "1m")) is not None


def test_a_quiet_moment_near_the_end() -> None:
    assert quiet_end([], 0, 1_000, 20) == 980
    assert quiet_end([100, 970, 985], 0, 1_000, 20) == 950
    assert quiet_end([940, 985], 0, 1_000, 20) == 965
    assert quiet_end([950, 985], 0, 1_000, 20) == 930
    assert quiet_end(range(0, 1_000, 10), 0, 1_000, 20) == 980


def test_bars_that_changed_and_openings() -> None:
    seen = columns_of(bars(0, 10))
    assert changed_bars(seen, seen) == 0
    assert changed_bars(seen, columns_of(bars(0, 8))) == 2
    assert changed_bars(seen, columns_of([])) == 10
    assert changed_bars(seen, seen._replace(close=seen.close + (np.arange(10) == 3))) == 1
    assert opening_of([(BTC, seen)], BTC, 3 * MINUTE_NS + 5) == 103.0
    assert opening_of([(BTC, seen)], BTC, -1) is None
    assert opening_of([(BTC, seen)], ETH, 5) is None
