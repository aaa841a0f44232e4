"""Whether strategies do live what they do in back-tests: measured daily, and when somebody asks; kept on disk."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from pathlib import Path

from loguru import logger

from koc_qt.domain.drift import SLACK_BARS, attribute, judge, profit
from koc_qt.domain.errors import KocError, StorageError, StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.parity import Execution, executions
from koc_qt.domain.state import StrategyState
from koc_qt.domain.trust import DriftReport, GapCause, Verdict
from koc_qt.engine.backtest_run import SILENCE_LIMIT_S
from koc_qt.engine.drift_replay import SessionReplay, SessionReplays, marks_of, opening_of
from koc_qt.engine.drift_sessions import Sessions
from koc_qt.engine.notices import give_notice
from koc_qt.engine.services import Services
from koc_qt.engine.strategy_words import LONGEST_REASON, clip
from koc_qt.engine.trust_files import JsonFolder
from koc_qt.engine.trust_runs import Outcome
from koc_qt.link.trust_messages import DriftMeasured

_NAME = r"drift-[0-9a-f]{16}"


class DriftMonitor:
    """Sole owner of drift reports: the newest of each strategy. One strategy is measured at a time."""

    def __init__(
        self, services: Services, folder: Path, sessions: Sessions, *, silence_limit_s: float = SILENCE_LIMIT_S
    ) -> None:
        self._services = services
        self._replays = SessionReplays(services, sessions, silence_limit_s=silence_limit_s)
        self._files = JsonFolder(folder, DriftReport, _NAME)
        self._reports = {report.strategy_id: report for report in self._files.load().values()}
        self._turn = asyncio.Lock()
        self._asked: asyncio.Task[None] | None = None
        self._is_closed = False

    @property
    def all(self) -> tuple[DriftReport, ...]:
        """The newest report of every strategy that was ever measured."""
        return tuple(self._reports.values())

    def ask(self, strategy_id: str = "") -> list[str]:
        """Begin to measure a strategy, or all that run; gives their ids.

        Raises StrategyError for a strategy that there is not, and while others are measured that somebody asked for.
        """
        known = self._services.store.strategies
        if strategy_id and strategy_id not in known:
            raise StrategyError(f"there is no strategy {strategy_id!r}; there are: {', '.join(known) or 'none'}")
        if self._is_closed or (self._asked is not None and not self._asked.done()):
            raise StrategyError("strategies are being measured already, or the engine stops: ask again later")
        wanted = [strategy_id] if strategy_id else self._running()
        self._asked = asyncio.create_task(self._measure_each(wanted), name="drift")
        return wanted

    async def measure_all(self) -> None:
        """Measure every strategy that runs, one after the other."""
        await self._measure_each(self._running())

    async def close(self) -> None:
        """Measure nothing any more."""
        self._is_closed = True
        if self._asked is not None:
            self._asked.cancel()
            await asyncio.wait([self._asked])

    # ---- inside

    def _running(self) -> list[str]:
        strategies = self._services.store.strategies
        return [key for key, snapshot in strategies.items() if snapshot.state is StrategyState.RUNNING]

    async def _measure_each(self, strategy_ids: Sequence[str]) -> None:
        for strategy_id in strategy_ids:
            async with self._turn:
                if not self._is_closed:
                    await self._keep(await self._measure(strategy_id))

    async def _measure(self, strategy_id: str) -> DriftReport:
        """Measure one; what cannot be is said in the report."""
        try:
            replay = await self._replays.replay(strategy_id)
            history, changed = await self._replays.on_history(replay)
            return await asyncio.to_thread(report_of, replay, history, changed, self._services.clock.time_ns())
        except KocError as error:
            return self._nothing(strategy_id, str(error))
        except Exception as error:
            logger.exception("the drift of {} could not be measured, in a way nobody foresaw", strategy_id)
            return self._nothing(strategy_id, f"internal error of the engine ({type(error).__name__})")

    def _nothing(self, strategy_id: str, reason: str) -> DriftReport:
        now_ns = self._services.clock.time_ns()
        snapshot = self._services.store.strategies.get(strategy_id)
        account_id = "" if snapshot is None else snapshot.spec.account_id
        text = clip(reason, LONGEST_REASON)
        return DriftReport(strategy_id, account_id, Verdict.NONE, text, now_ns, now_ns, now_ns)

    async def _keep(self, report: DriftReport) -> None:
        self._reports[report.strategy_id] = report
        name = hashlib.sha256(report.strategy_id.encode()).hexdigest()[:16]
        try:
            await asyncio.to_thread(self._files.keep, f"drift-{name}", report)
        except StorageError as error:
            logger.warning("{}", error)
        logger.info("drift of {}: {}", report.strategy_id, report.sentence)
        self._services.bus.publish(DriftMeasured(report))
        if report.verdict is Verdict.RED:
            text = f"{report.strategy_id} does not do live what it does in a back-test. {report.sentence}"
            give_notice(self._services.store, self._services.bus, text)


def report_of(replay: SessionReplay, history: Outcome, changed: int, measured_ns: int) -> DriftReport:
    """Hold a session against its back-tests, on the bars that it saw and on those of history."""
    live, test = executions(replay.fills, merged=True), _executions(replay.outcome)
    marks = marks_of(replay.seen, replay.until_ns)
    columns = [(series.instrument, bars) for series, bars in replay.seen.items()]

    def opening(instrument: InstrumentId, time_ns: int) -> float | None:
        return opening_of(columns, instrument, time_ns)

    gap = attribute(live, test, marks, opening, SLACK_BARS * replay.bar_ns)
    test_pnl = profit(_executions(history), marks)
    parts = {**gap.parts, str(GapCause.DATA): gap.test_pnl - test_pnl}
    difference = gap.live_pnl - test_pnl
    traded = sum(each.price * each.quantity for each in (*live, *test))
    verdict, sentence = judge(difference, parts, gap.missed, gap.additional, traded)
    return DriftReport(
        strategy_id=replay.strategy.strategy_id,
        account_id=replay.strategy.account_id,
        verdict=verdict,
        sentence=sentence,
        since_ns=replay.since_ns,
        until_ns=replay.until_ns,
        measured_ns=measured_ns,
        live_pnl=gap.live_pnl,
        test_pnl=test_pnl,
        gap=difference,
        parts=parts,
        executions=len(live),
        executions_expected=len(test),
        matched=gap.matched,
        bars=sum(len(bars.open_time_ns) for bars in replay.seen.values()),
        bars_changed=changed,
    )


def _executions(outcome: Outcome) -> list[Execution]:
    return executions(outcome.result.fills, merged=True)
