"""A sweep over the worker's channel: bars come in once, then combinations, and what came of each goes out.

A strategy that declares signals goes through the compiled kernel (koc_qt/worker/sweep_signals.py) as far as that can
say what the replay engine would; every other one, and every combination in which something else happens, is replayed.
All combinations are given the same bars of warm-up, the most that any of the outermost ones asks for. What strategies
print in a sweep is kept by nobody.
"""

from __future__ import annotations

import gc
import io
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import monotonic_ns
from typing import Any

import msgspec

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import KocError
from koc_qt.domain.optimisation import TrialState
from koc_qt.domain.performance import statistics
from koc_qt.sdk.channel import (
    HostMessage,
    LoadFailed,
    ReplayBars,
    ReplayEnd,
    ReplayProgress,
    StartSweep,
    SweepLoaded,
    WorkerMessage,
)
from koc_qt.sdk.parameters import set_parameters
from koc_qt.sdk.strategy import Strategy, describe, overrides
from koc_qt.sdk.sweep_messages import EvaluateTrials, SweepReady, TrialAsked, TrialFound, TrialsEvaluated
from koc_qt.worker.engines import run_class
from koc_qt.worker.failure import clean, explain
from koc_qt.worker.inbox import messages
from koc_qt.worker.loader import LoadError, decode_source, load_strategy
from koc_qt.worker.outbox import EngineGone, Outbox
from koc_qt.worker.replay import Replay
from koc_qt.worker.replay_channel import ProtocolError
from koc_qt.worker.sweep_bars import SweepBars
from koc_qt.worker.sweep_signals import Figures, SignalSweep, suits

SAY_NS = 50_000_000  # what is found is told this often
ALIVE_NS = 1_000_000_000  # and this often that a long trial is under way
LOOK_BARS = 2_000  # between two looks at the clock
TOLD_AT_ONCE = 500  # trials in a message
LONGEST_REASON = 500  # characters; there may be a million of them


def run_sweep(start: StartSweep, channel: socket.socket, outbox: Outbox) -> bool:
    """Evaluate combinations until the engine closes the channel; False where the file cannot be used.

    Raises EngineGone when the engine closes the channel, ProtocolError on a message that does not belong here.
    """
    return _Sweep(start, channel, outbox).run()


class _Silence(io.TextIOBase):
    """Takes whatever is printed."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return len(text)


class _Sweep:
    def __init__(self, start: StartSweep, channel: socket.socket, outbox: Outbox) -> None:
        self._start = start
        self._messages = messages(channel, outbox)
        self._outbox = outbox
        self._source = ""
        self._bars = SweepBars()
        self._signals: SignalSweep | None = None
        self._found: list[TrialFound] = []
        self._told_ns = 0
        self._timeframe = ""
        self._has_begun = False  # the present trial: until then it may refuse its parameters

    def run(self) -> bool:
        with _silent():
            try:
                strategy = self._load()
                self._receive()
                self._prepare(strategy)
            except (LoadError, KocError) as error:
                line = error.line if isinstance(error, LoadError) else None
                self._say(LoadFailed(str(error), line))
                self._outbox.drain(10.0)
                return False
            for message in self._messages:
                if not isinstance(message, EvaluateTrials):
                    raise ProtocolError(f"a {type(message).__name__} in a sweep")
                self._evaluate(strategy, message)
        return True

    def _load(self) -> type[Strategy]:
        """Load the file and find out how much warm-up is wanted. Raises LoadError."""
        replay = self._start.replay
        self._source = decode_source(replay.source, replay.filename)
        strategy = load_strategy(replay.source, replay.filename)
        warmup_bars, described, refusal = 0, describe(strategy), ""
        for corner in self._start.corners:
            try:
                first = self._made(strategy, corner)
                run_class(Engine.REPLAY, strategy)(first, replay, _unheard).start()
                warmup_bars = max(warmup_bars, describe(first).warmup_bars)
                described = msgspec.structs.replace(described, timeframe=first.timeframe)
            except (EngineGone, ProtocolError):
                raise
            except BaseException as error:  # a corner that it refuses says nothing of those between
                refusal = refusal or explain(error, replay.filename, self._source).reason
        if replay.timeframe:
            described = msgspec.structs.replace(described, timeframe=replay.timeframe)
        self._timeframe = described.timeframe
        self._say(SweepLoaded(described, max(warmup_bars, described.warmup_bars)))
        return strategy

    def _made(self, strategy: type[Strategy], searched: dict[str, Any]) -> Strategy:
        made = strategy()
        set_parameters(made, {**self._start.replay.parameters, **searched})
        return made

    def _receive(self) -> None:
        for chunks, message in enumerate(self._messages, start=1):
            if isinstance(message, ReplayEnd):
                return
            self._take(message)
            self._say(ReplayProgress(chunks, 0, 0, 0.0))

    def _take(self, message: HostMessage) -> None:
        if not isinstance(message, ReplayBars):
            raise ProtocolError(f"a {type(message).__name__} in a sweep that waits for bars")
        self._bars.add(message)

    def _prepare(self, strategy: type[Strategy]) -> None:
        self._bars.settle()
        start = self._start
        if start.kernel and suits(strategy, start.replay, start.wanted):
            from koc_qt.worker.sweep_machine import Kernel

            kernel = Kernel(start.kernel)
            self._signals = SignalSweep(start.replay, self._timeframe, self._bars, kernel, start.memory_bytes)
        # Modules and bars live as long as the process: without them a full collection costs a trial no time.
        gc.freeze()
        self._say(SweepReady(len(self._bars), self._signals is not None))

    # ---- trials

    def _evaluate(self, strategy: type[Strategy], asked: EvaluateTrials) -> None:
        self._told_ns = monotonic_ns()
        for trial in asked.trials:
            self._found.append(self._trial(strategy, trial, asked.floors))
            if monotonic_ns() - self._told_ns >= SAY_NS or len(self._found) >= TOLD_AT_ONCE:
                self._tell()
        self._tell()

    def _trial(self, strategy: type[Strategy], trial: TrialAsked, floors: Sequence[float]) -> TrialFound:
        began_ns = monotonic_ns()
        equity: list[float] = []
        self._has_begun = False
        try:
            state, figures, reason = *self._outcome(strategy, trial, equity, floors), ""
        except (EngineGone, ProtocolError):
            raise
        except BaseException as error:  # the strategy's own: whatever it raises ends this trial alone
            where = explain(error, self._start.replay.filename, self._source)
            is_refusal = isinstance(error, KocError) and not self._has_begun
            state, figures = TrialState.INFEASIBLE if is_refusal else TrialState.FAILED, {}
            line = "" if where.line is None else f" (line {where.line})"
            reason = clean(f"{where.reason}{line}", LONGEST_REASON)
        return TrialFound(trial.number, state, figures, reason, (monotonic_ns() - began_ns) / 1e9, equity)

    def _outcome(
        self, strategy: type[Strategy], trial: TrialAsked, equity: list[float], floors: Sequence[float]
    ) -> tuple[TrialState, Figures]:
        signals = self._signals
        if signals is not None:
            made = self._made(strategy, trial.parameters)
            only_signals = signals.start(made)
            self._has_begun = True
            if only_signals and (figures := signals.evaluate(made)) is not None:
                return TrialState.DONE, figures
        self._has_begun = False
        made = self._made(strategy, trial.parameters)
        replay = run_class(Engine.REPLAY, strategy)(made, self._start.replay, _unheard)
        replay.start()
        self._has_begun = True
        state = self._replay(replay, equity, floors)
        return state, _figures(replay) if state is TrialState.DONE else {}

    def _replay(self, replay: Replay, equity: list[float], floors: Sequence[float]) -> TrialState:
        """Play the whole run, or up to the tenth where its equity is below the floor."""
        replay.warm_up(self._bars.warmup())
        *segments, last = self._bars.segments()
        is_stepwise = not overrides(type(replay.strategy), "signals")
        for place, segment in enumerate(segments):
            replay.play(segment, self._alive)
            if is_stepwise:
                equity.append(replay.equity[-1])
                if floors and equity[-1] < floors[place]:
                    return TrialState.PRUNED
        replay.play(last, self._alive)
        replay.play_kept(self._alive)
        replay.finish()
        return TrialState.DONE

    def _alive(self) -> int:
        if monotonic_ns() - self._told_ns >= ALIVE_NS:
            self._tell()
        return LOOK_BARS

    def _tell(self) -> None:
        self._told_ns = monotonic_ns()
        self._say(TrialsEvaluated(self._found))
        self._found = []

    def _say(self, message: WorkerMessage) -> None:
        self._outbox.put(message)
        self._outbox.flush()


def _figures(replay: Replay) -> Figures:
    return statistics(
        replay.times_ns,
        replay.equity,
        replay.trips.trips(replay.marks),
        fills=replay.fill_count,
        traded=replay.traded,
        prices=replay.prices,
    )


def _unheard(_time_ns: int, _level: str, _text: str) -> None:
    """Take a line that the strategy writes."""


@contextmanager
def _silent() -> Iterator[None]:
    streams = sys.stdout, sys.stderr
    sys.stdout = sys.stderr = _Silence()
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
