"""A back-test over the worker's channel: bars come in, progress and results go out; no file is touched."""

from __future__ import annotations

import gc
import select
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic_ns
from typing import TypeVar

import msgspec

from koc_qt.domain.errors import EngineLacks
from koc_qt.sdk.channel import (
    Failed,
    FrameReader,
    HostMessage,
    LoadFailed,
    ReplayBars,
    ReplayDone,
    ReplayEnd,
    ReplayFills,
    ReplayLog,
    ReplayPlacements,
    ReplayProgress,
    ReplayTold,
    ReplayTrades,
    Running,
    StartReplay,
    WorkerMessage,
    decode_host,
)
from koc_qt.sdk.parameters import parameter_values, set_parameters
from koc_qt.sdk.recorded import ReplayOrders
from koc_qt.sdk.strategy import describe
from koc_qt.worker.engines import run_class
from koc_qt.worker.failure import clean, explain
from koc_qt.worker.loader import LoadError, decode_source, load_strategy
from koc_qt.worker.outbox import EngineGone, Outbox, PrintStream
from koc_qt.worker.placements import Placements
from koc_qt.worker.record import Outcome, Record
from koc_qt.worker.replay import FILLS_KEPT, Replay
from koc_qt.worker.retold import RetoldReplay

TRADES_KEPT = FILLS_KEPT  # of a result, the first ones
LOG_KEPT = 200  # lines, the last ones
LONGEST_LINE = 1_000  # characters
PROGRESS_NS = 100_000_000
STRETCH = 64  # bars at most between two looks at the clock
_QUICK_NS = 5_000_000  # that a stretch may take if the next is to be longer
_READ_SIZE = 1 << 18
_LONGEST_WAIT_S = 60.0
_LAST_WORDS_S = 30.0  # for the engine to take the results
_CHUNK = 1_000  # fills or trades a message
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

T = TypeVar("T")


class ProtocolError(Exception):
    """The engine sent what a replay does not expect."""


def run_replay(start: StartReplay, channel: socket.socket, outbox: Outbox) -> bool:
    """Run a back-test to its end and say what came of it; whether it got there.

    Raises EngineGone when the engine closes the channel, ProtocolError on a message that does not belong here.
    """
    return _ReplayRun(start, channel, outbox).run()


class _ReplayRun:
    def __init__(self, start: StartReplay, channel: socket.socket, outbox: Outbox) -> None:
        self._start = start
        self._channel = channel
        self._outbox = outbox
        self._lines: deque[str] = deque(maxlen=LOG_KEPT)
        self._prints = [PrintStream(self._print, level) for level in ("INFO", "WARNING")]
        self._replay: Replay | None = None
        self._placements = Placements()
        self._source = ""
        self._chunks = 0
        self._next_progress_ns = 0
        self._ticked_ns = 0
        self._stretch = 1

    def run(self) -> bool:
        with self._own_prints():
            last_words = self._play()
        for stream in self._prints:
            stream.finish()
        if self._lines:
            self._say(ReplayLog(tuple(self._lines)))
        self._say(last_words)
        self._outbox.drain(_LAST_WORDS_S)
        return isinstance(last_words, ReplayDone)

    def _play(self) -> ReplayDone | LoadFailed | Failed:
        """Run, and give the last words; progress, fills and trades have been said by then."""
        try:
            replay = self._replay = self._load()
        except LoadError as error:
            return LoadFailed(error.reason, error.line, isinstance(error.__cause__, EngineLacks))
        try:
            replay.start()
            self._say(Running(describe(replay.strategy), parameter_values(replay.strategy)))
            # parameters as the strategy took them: the same run has the same hash, however they were written
            taken = msgspec.structs.replace(self._start, parameters=parameter_values(replay.strategy))
            record = Record(taken, replay.timeframe)
            import numpy as np  # noqa: F401 (for the results: it takes long to load, and the engine fetches bars now)

            # Modules live as long as the process: without them a full collection costs a run no time.
            gc.freeze()
            for message in self._messages():
                if isinstance(message, ReplayEnd):
                    break
                self._take(replay, record, message)
            replay.play_kept(self._tick)
            for placements in _chunks(self._placements.kept):  # what on_stop asks for is not taken
                self._say(ReplayPlacements(placements))
            replay.finish()
            return self._results(replay, record)
        except (EngineGone, ProtocolError):
            raise
        except BaseException as error:  # the strategy's own: whatever it raises ends the run
            failure = explain(error, self._start.filename, self._source)
            self._progress(replay)
            return Failed(failure.reason, failure.line, failure.traceback, isinstance(error, EngineLacks))

    def _load(self) -> Replay:
        """Raises LoadError for a file that is no strategy, and for parameters or symbols that do not suit it."""
        start = self._start
        self._source = decode_source(start.source, start.filename)
        strategy_class = load_strategy(start.source, start.filename)
        try:
            strategy = strategy_class()
            set_parameters(strategy, start.parameters)
            is_told = start.session is not None
            runs = run_class(start.engine, strategy_class, is_recorded=bool(start.recorded), is_told=is_told)
            replay = runs(strategy, start, self._write)
            if start.trace:
                self._placements.watch(strategy, start.filename, start.since_ns)
            return replay  # noqa: TRY300 (there is nothing to do otherwise)
        except BaseException as error:  # also the strategy's own __init__
            failure = explain(error, start.filename, self._source)
            raise LoadError(failure.reason, failure.line) from error

    def _take(self, replay: Replay, record: Record, message: HostMessage) -> None:
        if isinstance(replay, RetoldReplay) and isinstance(message, ReplayOrders | ReplayTold):
            replay.retell(message, self._tick)
            self._chunks += 1
            self._progress(replay)
            return
        if not isinstance(message, ReplayBars):
            raise ProtocolError(f"a {type(message).__name__} in a back-test")
        record.take(message)
        if message.warmup:
            replay.warm_up(message)
        else:
            replay.play(message, self._tick)
        self._chunks += 1
        self._progress(replay)

    def _tick(self) -> int:
        """Say how far it is, where a message takes long; gives after how many bars to be called again."""
        now_ns = monotonic_ns()
        if now_ns >= self._next_progress_ns and self._replay is not None:
            self._progress(self._replay)
        return self.stretch(now_ns)

    def stretch(self, now_ns: int) -> int:
        """Give for how many bars the clock need not be looked at again: few where they last.

        A strategy that gets slow all of a sudden is heard of after STRETCH bars.
        """
        elapsed_ns, self._ticked_ns = now_ns - self._ticked_ns, now_ns
        self._stretch = min(2 * self._stretch, STRETCH) if elapsed_ns <= _QUICK_NS else max(self._stretch // 8, 1)
        return self._stretch

    def _progress(self, replay: Replay) -> None:
        self._next_progress_ns = monotonic_ns() + PROGRESS_NS
        self._say(ReplayProgress(self._chunks, replay.bars, replay.position_ns, replay.equity[-1]))

    def _results(self, replay: Replay, record: Record) -> ReplayDone:
        outcome = Outcome(
            times_ns=replay.times_ns,
            equity=replay.equity,
            trips=replay.trips.trips(replay.marks),
            fills=replay.fills,
            fill_count=replay.fill_count,
            traded=replay.traded,
            prices=replay.prices,
        )
        done, trips = record.done(outcome, replay.versions)
        for what, count, kept in (("fills", replay.fill_count, FILLS_KEPT), ("trades", len(trips), TRADES_KEPT)):
            if count > kept:
                text = f"the result lists the first {kept:,} of {count:,} {what}; the statistics count them all"
                self._write(replay.position_ns, "WARNING", text)
        for fills in _chunks(replay.fills):
            self._say(ReplayFills(fills))
        for trades in _chunks(trips[:TRADES_KEPT]):
            self._say(ReplayTrades(trades))
        return done

    # ---- the channel

    def _say(self, message: WorkerMessage) -> None:
        self._outbox.put(message)
        self._outbox.flush()

    def _messages(self) -> Iterator[HostMessage]:
        reader = FrameReader()
        while True:
            self._outbox.flush()
            writers = [self._channel] if self._outbox.pending else []
            readable, _, _ = select.select([self._channel], writers, [], _LONGEST_WAIT_S)
            for body in reader.feed(self._read()) if readable else ():
                try:
                    yield decode_host(body)
                except (msgspec.DecodeError, ValueError) as error:
                    raise ProtocolError(str(error)) from error

    def _read(self) -> bytes:
        try:
            data = self._channel.recv(_READ_SIZE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise EngineGone(str(error)) from error
        if not data:
            raise EngineGone("the engine closed the channel")
        return data

    # ---- what the strategy writes

    @contextmanager
    def _own_prints(self) -> Iterator[None]:
        streams = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = self._prints
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams

    def _print(self, level: str, text: str) -> None:
        replay = self._replay
        self._write(self._start.since_ns if replay is None else replay.time_ns, level, text)

    def _write(self, time_ns: int, level: str, text: str) -> None:
        """Keep a line; the oldest makes way. By the time of the run, so that a run again writes the same."""
        self._lines.append(f"{_utc(time_ns)} {clean(level, 16)} {clean(text, LONGEST_LINE)}")


def _chunks(values: Sequence[T]) -> Iterator[tuple[T, ...]]:
    for begin in range(0, len(values), _CHUNK):
        yield tuple(values[begin : begin + _CHUNK])


def _utc(time_ns: int) -> str:
    return f"{_EPOCH + timedelta(seconds=time_ns // 1_000_000_000):%Y-%m-%d %H:%M:%S}"
