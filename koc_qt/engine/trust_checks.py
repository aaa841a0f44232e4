"""The checks of one strategy: which back-tests each needs, and what they tell. The judgements are the domain's."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import numpy as np

from koc_qt.domain import monte_carlo, walk_forward
from koc_qt.domain.backtests import BacktestSpec, Engine
from koc_qt.domain.deflated_sharpe import even_returns, moments
from koc_qt.domain.errors import ConfigError, EngineLacks, KocError, StrategyError
from koc_qt.domain.fan import Equity, fan_of_runs
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.lookahead import DecisionCheck, Repeat, Variation, check_lookahead, check_warmup, cuts
from koc_qt.domain.monte_carlo import MonteCarlo, bootstrap_candles, distribution, draw_trades, jittered, other_future
from koc_qt.domain.parity import PAPER, Absence, Certificate, Comparison, EngineRun, certify, compare, engine_run
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trust import GRID_LIMIT, TrustSpec, Verdict, utc_text
from koc_qt.domain.trust_report import SharpeCheck, judge_sharpe
from koc_qt.domain.walk_forward import WalkForward, Window, WindowResult, combinations
from koc_qt.engine.drift_replay import SessionReplays
from koc_qt.engine.trust_history import SharedHistory, as_candles, as_columns, joined, part, rows
from koc_qt.engine.trust_runs import MakeHistory, Outcome, TrustRuns, on_engine
from koc_qt.engine.trust_session import compare_session
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.sdk.channel import ParameterInfo

FUTURE_BARS = 2_000  # of another future that a strategy is shown: who looks further ahead is found with less too
MARKET_BARS = 100_000  # of a market of shuffled candles, the newest
PERIODS = 500  # into which a run is cut for its Sharpe ratio
_GRID_PARAMETERS = 2  # chosen by a walk-forward analysis that is given no grid
_GRID_FACTORS = (0.5, 1.0, 2.0)

_Job = tuple[Variation, int, BacktestSpec, SharedHistory | MakeHistory]


class TrustChecks:
    """The checks of a strategy whose first run, traced, came to `first`. Each may be made once, in any order.

    All raise what a run raises where nothing can be said without that run.
    """

    def __init__(
        self,
        spec: TrustSpec,
        first: Outcome,
        runs: TrustRuns,
        history: SharedHistory,
        instruments: Sequence[Instrument],
        replays: SessionReplays | None,
    ) -> None:
        self._spec = spec
        self._first = first
        self._runs = runs
        self._history = history
        self._instruments = instruments
        self._replays = replays
        self._backtest = msgspec.structs.replace(spec.backtest, engine=Engine.REPLAY)
        self._bar_ns = duration_ns(first.result.timeframe)
        self._series = [BarSeries(rules.id, first.result.timeframe) for rules in instruments]

    # ---- decisions

    async def lookahead(self) -> DecisionCheck:
        """Repeat the run unchanged, with the future cut off, and with another future."""
        rng = self._random("lookahead")
        moments_ns = await asyncio.to_thread(self._cuts, rng)
        jobs: list[_Job] = [(Variation.NOTHING, self._backtest.until_ns, self._backtest, self._history)]
        for cut_ns in moments_ns:
            short = msgspec.structs.replace(self._backtest, until_ns=cut_ns)
            jobs.append((Variation.TRUNCATED, cut_ns, short, self._history))
        for cut_ns in moments_ns:
            longer = msgspec.structs.replace(
                self._backtest, until_ns=min(cut_ns + FUTURE_BARS * self._bar_ns, self._backtest.until_ns)
            )
            other = partial(self._other_future, cut_ns, longer.until_ns, rng.getrandbits(64))
            jobs.append((Variation.PERTURBED, cut_ns, longer, other))
        repeats, failures = await self._repeat(jobs)
        judged = await asyncio.to_thread(check_lookahead, self._first.placements, repeats)
        return _with_failures(judged, failures)

    async def warmup(self) -> DecisionCheck:
        """Repeat the run with twice the warm-up, and with half of it."""
        asked, until_ns = self._first.described.warmup_bars, self._backtest.until_ns
        if asked < 1:
            text = "It asks for no warm-up history, so that there is none to vary."
            return DecisionCheck(Verdict.NONE, text, decisions=len(self._first.placements))
        had = min(self._history.bars_before(series) for series in self._series)
        more = await self._runs.try_all([(self._backtest, self._history)], trace=True, warmup_bars=2 * asked)
        less = await self._runs.try_all([(self._backtest, self._history)], trace=True, warmup_bars=asked // 2)
        found = [(Variation.MORE_WARMUP, more[0]), (Variation.LESS_WARMUP, less[0])]
        if min(self._history.bars_before(series) for series in self._series) <= min(had, asked):
            del found[0]  # there is no more history than it had
        repeats = [
            Repeat(variation, until_ns, each.placements) for variation, each in found if isinstance(each, Outcome)
        ]
        failures = [f"With {variation} it failed: {each}" for variation, each in found if isinstance(each, str)]
        judged = await asyncio.to_thread(check_warmup, self._first.placements, repeats)
        return _with_failures(judged, failures)

    def _cuts(self, rng: Random) -> list[int]:
        opens = np.unique(np.concatenate([self._history.run[each].open_time_ns for each in self._series]))
        return cuts(self._first.placements, (opens + self._bar_ns).tolist(), self._spec.cuts, rng)

    async def _repeat(self, jobs: Sequence[_Job]) -> tuple[list[Repeat], list[str]]:
        outcomes = await self._runs.try_all([(spec, history) for *_, spec, history in jobs], trace=True)
        repeats, failures = [], []
        for (variation, cut_ns, *_), outcome in zip(jobs, outcomes, strict=True):
            if isinstance(outcome, Outcome):
                repeats.append(Repeat(variation, cut_ns, outcome.placements))
            else:
                failures.append(f"With {variation} after {utc_text(cut_ns)} it failed: {outcome}")
        return repeats, failures

    def _other_future(self, cut_ns: int, until_ns: int, seed: int) -> SharedHistory:
        rng = Random(seed)  # noqa: S311 (repeatable on purpose)
        changed = {}
        for series, tick in self._ticks():
            columns = self._history.run[series]
            kept = part(columns, Span(self._backtest.since_ns, cut_ns))
            future = part(columns, Span(cut_ns, until_ns))
            last = rows(kept, slice(-1, None))  # what comes next begins at its close
            known = len(last.open_time_ns)
            other = as_columns(other_future(as_candles(joined(last, future)), known, tick, rng))
            changed[series] = joined(kept, rows(other, slice(known, None)))
        return self._history.changed(changed)

    # ---- engines

    async def parity(self) -> Certificate:
        """Run every engine, and look up the recorded session.

        They run without slippage, spread, latency and limited volume, which are models of ours: fees are the same.
        """
        nothing = Decimal(0)
        plain = msgspec.structs.replace(
            self._backtest, volume_fraction=None, latency_ns=0, slippage=nothing, spread=nothing, slippage_ticks=0
        )

        async def attempt(engine: Engine) -> EngineRun | Absence:
            try:
                outcome = await self._runs.run(on_engine(plain, engine), self._history)
            except EngineLacks as error:
                return Absence(str(engine), str(error))
            except KocError as error:
                return Absence(str(engine), str(error), is_failure=True)
            return engine_run(str(engine), outcome.result)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(attempt(engine)) for engine in Engine]
        found = [task.result() for task in tasks]
        runs = [each for each in found if isinstance(each, EngineRun)]
        absent = [each for each in found if isinstance(each, Absence)]
        session: Comparison | None = None
        if self._spec.session:
            try:
                session = await self._session(next((run for run in runs if run.source == Engine.REPLAY), None))
            except KocError as error:
                absent.append(Absence(PAPER, str(error)))
        return await asyncio.to_thread(certify, runs, absent, bar_ns=self._bar_ns, spec=plain, session=session)

    async def _session(self, replay: EngineRun | None) -> Comparison:
        """Hold what a session did against a replay of it, over its own time and on the bars that it saw.

        Of one that the engine saw nothing of, as it was before the engine was started, the fills within the time of the
        run are held against the run itself.
        """
        strategy_id = self._spec.session
        if self._replays is None:
            raise StrategyError("sessions are known to the engine alone: ask it")
        if not self._replays.has_seen(strategy_id):
            recorded = self._replays.recorded(strategy_id, self._backtest)
            if not recorded or replay is None:
                raise StrategyError(f"{strategy_id} has no session since the engine was started, and no fills then")
            return compare(replay, EngineRun(PAPER, recorded, ()), bar_ns=self._bar_ns)
        session = await self._replays.replay(strategy_id)
        if Path(session.strategy.path) != Path(self._backtest.path):
            raise StrategyError(f"{strategy_id} runs {session.strategy.path}, another file")
        return compare_session(session, self._replays.orders(strategy_id))

    # ---- luck

    async def sharpe(self) -> SharpeCheck:
        """Say how likely the Sharpe ratio is more than luck."""
        result = self._first.result
        returns = await asyncio.to_thread(even_returns, result.equity_ns, result.equity, PERIODS)
        return judge_sharpe(moments(returns), self._spec.trials, self._spec.trial_variance)

    async def monte_carlo(self) -> MonteCarlo:
        """Draw trades, and run on other candles and with neighbouring parameters."""
        spec, rng = self._spec, self._random("monte carlo")
        trades = [trade for trade in self._first.result.trades if math.isfinite(trade.pnl)]
        closed = [(trade.pnl, trade.exit_ns) for trade in trades if trade.exit_ns is not None]
        pnls, closed_ns = [pnl for pnl, _ in closed], [exit_ns for _, exit_ns in closed]
        cash, since_ns = float(spec.backtest.cash), self._backtest.since_ns
        draw = partial(draw_trades, pnls, cash, spec.draws, rng, closed_ns=closed_ns, since_ns=since_ns)
        shuffled = await asyncio.to_thread(draw, replace=False)
        drawn = await asyncio.to_thread(draw, replace=True)
        newest = self._newest()
        jobs = [(newest, partial(self._market, newest.since_ns, rng.getrandbits(64))) for _ in range(spec.markets)]
        candles = await self._runs.try_all(jobs)
        neighbours = [(self._neighbour(rng), self._history) for _ in range(spec.neighbours)] if self._numbers() else []
        jitter = await self._runs.try_all(neighbours)
        seen = _equity_of(self._first)
        return monte_carlo.judge(
            shuffled,
            drawn,
            distribution(_returns(candles)),
            distribution(_returns(jitter)),
            candles_fan=await asyncio.to_thread(fan_of_runs, _equities(candles), seen),
            jitter_fan=await asyncio.to_thread(fan_of_runs, _equities(jitter), seen),
        )

    def _newest(self) -> BacktestSpec:
        """Give the spec of the last part of the run, as long as a market of shuffled candles may be."""
        count = MARKET_BARS // len(self._series)
        since_ns = self._backtest.since_ns
        for series in self._series:
            times = self._history.run[series].open_time_ns
            if len(times) > count:
                since_ns = max(since_ns, int(times[-count]))
        return msgspec.structs.replace(self._backtest, since_ns=since_ns)

    def _market(self, since_ns: int, seed: int) -> SharedHistory:
        changed = {}
        for series, tick in self._ticks():
            columns = self._history.run[series]
            before = part(columns, Span(0, since_ns))
            real = part(columns, Span(since_ns, self._backtest.until_ns))
            rng = Random(seed)  # noqa: S311 (the same blocks for every series: what moved together still does)
            other = bootstrap_candles(as_candles(real), self._spec.block, tick, rng)
            changed[series] = joined(before, as_columns(other))
        return self._history.changed(changed)

    def _neighbour(self, rng: Random) -> BacktestSpec:
        moved = {
            info.name: _typed(
                info,
                jittered(
                    value, self._spec.jitter, rng,
                    low=info.low, high=info.high, step=info.step, whole=info.kind == "int",
                ),
            )
            for info, value in self._numbers()
        }  # fmt: skip
        return self._with(moved)

    # ---- walk-forward

    def grid(self) -> list[dict[str, Any]]:
        """Give the combinations that a walk-forward analysis chooses among. Raises ConfigError for too many."""
        if self._spec.grid:
            return combinations(self._spec.grid, GRID_LIMIT)
        values = {info.name: _around(info, value) for info, value in self._numbers()[:_GRID_PARAMETERS]}
        return combinations(values, GRID_LIMIT) if values else [{}]

    @property
    def grid_size(self) -> int:
        """How many combinations there are; 0 for a grid that cannot be."""
        try:
            return len(self.grid())
        except ConfigError:
            return 0

    async def walk_forward(self) -> WalkForward:
        """Choose parameters on each window by their return, and test them on what follows."""
        spec, grid = self._spec, self.grid()
        until_ns = min(self._history.closed(each, self._span()).until_ns for each in self._series)
        windows = walk_forward.windows(
            self._backtest.since_ns, until_ns, self._bar_ns,
            count=spec.windows, ratio=spec.ratio, anchored=spec.anchored,
        )  # fmt: skip
        found = [await self._window(window, grid) for window in windows]
        results = [each for each in found if isinstance(each, WindowResult)]
        judged = walk_forward.judge(results, anchored=spec.anchored)
        failures = [each for each in found if isinstance(each, str)]
        if not failures:
            return judged
        return msgspec.structs.replace(judged, sentence=f"{judged.sentence} {failures[0]}")

    async def _window(self, window: Window, grid: Sequence[Mapping[str, Any]]) -> WindowResult | str:
        inside = [self._with(values, since_ns=window.since_ns, until_ns=window.test_ns) for values in grid]
        outcomes = await self._runs.try_all([(each, self._history) for each in inside])
        ranked = [
            (_return_of(outcome), -number) for number, outcome in enumerate(outcomes) if isinstance(outcome, Outcome)
        ]
        if not ranked:
            return f"The window from {utc_text(window.since_ns)} failed: {outcomes[0]}"
        best, place = max(ranked)
        parameters = dict(grid[-place])
        outside = self._with(parameters, since_ns=window.test_ns, until_ns=window.until_ns)
        try:
            tested = await self._runs.run(outside, self._history, records=False)
        except KocError as error:
            return f"The window from {utc_text(window.test_ns)} failed: {error}"
        figures = tested.result.statistics
        trades = int((figures.get("trades") or 0) + (figures.get("open_trades") or 0))
        return WindowResult(window, parameters, best, _return_of(tested), trades, len(ranked))

    # ---- inside

    def _random(self, check: str) -> Random:
        """Give each check its own numbers, so that it comes out the same whichever others are made."""
        return Random(f"{self._spec.seed} {check}")  # noqa: S311 (repeatable on purpose)

    def _span(self) -> Span:
        return Span(self._backtest.since_ns, self._backtest.until_ns)

    def _ticks(self) -> Iterable[tuple[BarSeries, float]]:
        for series, rules in zip(self._series, self._instruments, strict=True):
            yield series, float(rules.tick_size)

    def _with(self, parameters: Mapping[str, Any], **changes: Any) -> BacktestSpec:
        merged = {**self._backtest.parameters, **parameters}
        return msgspec.structs.replace(self._backtest, parameters=merged, **changes)

    def _numbers(self) -> list[tuple[ParameterInfo, float]]:
        """Give the parameters that are numbers, with the present values."""
        given = self._backtest.parameters
        return [
            (info, given.get(info.name, info.default))
            for info in self._first.described.parameters
            if info.kind in ("int", "float")
        ]


def _around(info: ParameterInfo, value: float) -> list[Any]:
    """Give values around one, within its bounds and on its steps."""
    return sorted({_allowed(info, value * factor) for factor in _GRID_FACTORS})


def _allowed(info: ParameterInfo, value: float) -> float | int:
    if info.step:
        origin = info.low or 0.0
        value = round(origin + round((value - origin) / info.step) * info.step, 12)
    value = max(value, -math.inf if info.low is None else info.low)
    return _typed(info, min(value, math.inf if info.high is None else info.high))


def _typed(info: ParameterInfo, value: float) -> float | int:
    return round(value) if info.kind == "int" else value


def _returns(outcomes: Iterable[Outcome | str]) -> list[float]:
    return [_return_of(outcome) for outcome in outcomes if isinstance(outcome, Outcome)]


def _equities(outcomes: Iterable[Outcome | str]) -> list[Equity]:
    return [_equity_of(outcome) for outcome in outcomes if isinstance(outcome, Outcome)]


def _equity_of(outcome: Outcome) -> Equity:
    return outcome.result.equity_ns, outcome.result.equity


def _return_of(outcome: Outcome) -> float:
    found = outcome.result.statistics.get("return")
    return found if found is not None and math.isfinite(found) else 0.0


def _with_failures(check: DecisionCheck, failures: Sequence[str]) -> DecisionCheck:
    """Say that runs failed which had no reason to: an honest strategy does not know that the future was cut off."""
    if not failures:
        return check
    verdict = check.verdict if check.verdict is Verdict.RED else Verdict.AMBER
    return msgspec.structs.replace(check, verdict=verdict, sentence=f"{check.sentence} {failures[0]}")
