"""Whether results can be believed, on a running engine: real workers, every engine, and a strategy that trades."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.parity import PAPER, SERIOUS, Cause, Comparison
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.domain.trust import Check, TrustSnapshot, TrustSpec, Verdict
from koc_qt.domain.trust_report import TrustReport
from koc_qt.link.trust_messages import CheckDrift, FetchTrust, StartTrust
from tests.conditions import until
from tests.e2e.processes import SAMPLES, Profile, trades
from tests.e2e.test_backtest import PATIENCE_S, Window, spec, window, yesterday

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

DECISIONS = (Check.LOOKAHEAD, Check.WARMUP)
AHEAD = """
from koc_qt.sdk import Signals, Strategy
import numpy as np

class Ahead(Strategy):
    def signals(self, bars):
        following = np.append(bars.close[1:], bars.close[-1])
        return Signals(following > bars.close, following < bars.close)
"""


async def checked(
    shown: Window, backtest: BacktestSpec, *checks: Check, **changes: Any
) -> tuple[TrustSnapshot, TrustReport]:
    """Have a strategy checked, and give what came of it."""
    key = await shown.client.request(StartTrust(TrustSpec(backtest, checks, **({"cuts": 1} | changes))))

    def over() -> TrustSnapshot | None:
        known = shown.replica.trust.get(key)
        return None if known is None or known.state is JobState.RUNNING else known

    ended = await until(over, timeout_s=2 * PATIENCE_S, what=f"the end of {key}")
    assert ended is not None
    return ended, msgspec.convert(await shown.client.request(FetchTrust(key)), TrustReport)


def check_session(found: Comparison) -> None:
    """Hold that a session made the trades of its replay, or that the first difference is explained."""
    assert found.fills >= 4
    if found.verdict is not Verdict.RED:  # orders met the same market again: a race for it is lost now and then
        assert 2 * found.fills_equal >= found.fills, found.sentence
    if found.first is None:
        assert found.verdict is Verdict.GREEN
        return
    assert found.first.sentence in found.sentence
    if found.verdict is Verdict.AMBER:  # the same decisions in the same bars
        assert found.first.cause in (Cause.PRICE, Cause.FEE, Cause.SIZE)
        assert (found.fills, found.trades) == (found.fills_expected, found.trades_expected)
        assert found.largest < 0.01
    else:  # a busy machine brought an order a bar too late
        assert found.verdict is Verdict.RED
        assert found.first.cause in SERIOUS or "Their decisions differ first here: " in found.sentence


async def test_what_can_be_believed(home: Profile, tmp_path: Path) -> None:
    sma = SAMPLES / "sma_cross.py"
    with home.engine("--strategy", str(sma), "--symbol", "BTC/USDT", "--speed", "10") as engine:
        await asyncio.to_thread(engine.wait_for_status, trades("sma_cross"), "a trade")
        async with window(home) as shown:
            minutes = spec(sma, yesterday(shown), 6 * 3_600 * SECOND_NS)
            ended, report = await checked(shown, minutes, *DECISIONS, Check.SHARPE)
            assert ended.state is JobState.DONE, ended.reason
            assert report.failed == {}
            assert report.lookahead is not None
            assert report.warmup is not None
            assert report.lookahead.verdict is Verdict.GREEN, report.lookahead
            assert report.lookahead.decisions > 10
            assert report.warmup.verdict is Verdict.GREEN, report.warmup

            scalping = msgspec.structs.replace(minutes, path=str(SAMPLES / "scalping.py"))
            ended, report = await checked(shown, scalping, *DECISIONS)
            assert ended.state is JobState.DONE, ended.reason
            assert report.lookahead is not None
            assert report.lookahead.verdict is not Verdict.RED, report.lookahead

            ahead = tmp_path / "ahead.py"
            ahead.write_text(AHEAD, encoding="utf-8")
            ended, report = await checked(shown, msgspec.structs.replace(minutes, path=str(ahead)), Check.LOOKAHEAD)
            assert ended.verdict is Verdict.RED
            assert report.lookahead is not None
            assert {change.line for change in report.lookahead.changes} == {6}

            await asyncio.to_thread(engine.wait_for_status, trades("sma_cross", 5), "six trades")
            ended, report = await checked(shown, minutes, Check.PARITY, session="sma_cross")
            certificate = report.certificate
            assert certificate is not None
            by_source = {each.source: each for each in certificate.comparisons}
            assert {each.source for each in certificate.absent} == {"vectorbt"}  # it runs signals alone
            assert by_source["backtrader"].verdict is Verdict.GREEN, by_source["backtrader"].sentence
            assert by_source["backtrader"].fills_equal == by_source["backtrader"].fills > 10
            check_session(by_source[PAPER])

            assert await shown.client.request(CheckDrift()) == ["sma_cross"]
            drift = await until(lambda: shown.replica.drift.get("sma_cross"), timeout_s=PATIENCE_S, what="the drift")
            assert drift is not None
            assert drift.matched >= 4, drift
            assert drift.bars_changed == 0
            assert drift.gap == pytest.approx(math.fsum(drift.parts.values()), abs=1e-6)
            assert drift.gap == pytest.approx(drift.live_pnl - drift.test_pnl)
        assert engine.stop() == 0
