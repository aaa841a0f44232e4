"""The worker's one thread: reads the engine's messages, calls the strategy, sends heartbeats between the calls."""

from __future__ import annotations

import gc
import select
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic_ns
from typing import NoReturn

import msgspec

from koc_qt.domain.timeframes import duration_ns
from koc_qt.sdk.channel import (
    BarClosed,
    Describe,
    Failed,
    FillUpdate,
    FrameReader,
    Heartbeat,
    HistoryBars,
    HostMessage,
    LoadFailed,
    OrderUpdate,
    QuoteUpdate,
    Ready,
    Running,
    StartReplay,
    StartRun,
    StartSweep,
    Stopped,
    StopRun,
    TradeUpdate,
    decode_host,
)
from koc_qt.sdk.parameters import parameter_values, set_parameters
from koc_qt.sdk.session import Session
from koc_qt.sdk.strategy import Strategy, describe
from koc_qt.worker.context import WorkerContext
from koc_qt.worker.failure import explain
from koc_qt.worker.loader import MODULE, LoadError, StrategyImports, decode_source, load_strategy
from koc_qt.worker.outbox import EngineGone, LogGate, Outbox, PrintStream
from koc_qt.worker.replay_channel import ProtocolError, run_replay

EXIT_DONE = 0
EXIT_FAILED = 1  # the strategy cannot be loaded or has raised; Failed or LoadFailed has said why
EXIT_ENGINE_GONE = 2  # while a strategy was running
EXIT_PROTOCOL = 3  # the engine said what cannot be understood here

_READ_SIZE = 1 << 16
_LONGEST_WAIT_S = 60.0
_LAST_WORDS_S = 2.0  # for the engine to take Failed or LoadFailed
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere the monotonic clock counts sleep or nothing does
_SHORTEST_HEARTBEAT_NS = 10_000_000


def _elapsed_ns() -> int:
    """Never runs backwards, and goes on while the machine sleeps, where the platform can say so."""
    return time.monotonic_ns() if _BOOT_CLOCK is None else time.clock_gettime_ns(_BOOT_CLOCK)


class _Ended(BaseException):
    """Leaves the loop with an exit code; raised by no strategy."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def run(channel: socket.socket, ready: Ready) -> int:
    """Send `ready`, then obey the engine until the strategy ends, or the channel is closed; gives the exit code.

    One thread and no further descriptor. The caller closes `channel`.
    """
    channel.setblocking(False)
    worker = _Worker(channel)
    with worker.strategy_world():
        try:
            return worker.serve(ready)
        except _Ended as end:
            return end.code
        except EngineGone:
            return EXIT_ENGINE_GONE if worker.is_running else EXIT_DONE


class _Pulse:
    """What the next heartbeat will say."""

    def __init__(self) -> None:
        self.ticks = 0
        self.sequence = 0
        self.callback_ns = 0
        self.lag_ns = 0

    def beat(self) -> Heartbeat:
        self.sequence += 1
        message = Heartbeat(self.sequence, self.ticks, self.callback_ns // 1_000, self.lag_ns / 1e6)
        self.callback_ns = 0
        return message


def _venue_clock(start: StartRun) -> Callable[[], int]:
    """Give the venue's time from now on; a simulated market may run faster than the world."""
    began_ns, speed = _elapsed_ns(), start.clock_speed
    if speed == 1.0:
        offset_ns = start.time_ns - began_ns
        return lambda: _elapsed_ns() + offset_ns
    return lambda: start.time_ns + round((_elapsed_ns() - began_ns) * speed)


class _Run:
    """The strategy that was started."""

    def __init__(self, start: StartRun, strategy: Strategy, session: Session, context: WorkerContext) -> None:
        self.strategy, self.session, self.context = strategy, session, context
        self.bar_ns = duration_ns(strategy.timeframe)
        self.clock_speed = start.clock_speed
        self.heartbeat_ns = max(round(start.heartbeat_s * 1e9), _SHORTEST_HEARTBEAT_NS)
        self.next_heartbeat_ns = monotonic_ns() + self.heartbeat_ns
        self.pulse = _Pulse()


class _Worker:
    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._reader = FrameReader()
        self._outbox = Outbox(channel)
        self._logs = LogGate(self._outbox.put)
        self._prints = [PrintStream(self._logs.write, level) for level in ("INFO", "WARNING")]
        self._run: _Run | None = None
        self._filename = ""
        self._source = ""

    @property
    def is_running(self) -> bool:
        return self._run is not None

    @contextmanager
    def strategy_world(self) -> Iterator[None]:
        """Give the strategy its own stdout and stderr, no stdin, and no imports from the rest of this program."""
        finder = StrategyImports()
        streams, path = (sys.stdin, sys.stdout, sys.stderr), sys.path[:]
        sys.stdin, sys.stdout, sys.stderr = None, *self._prints
        sys.path[:] = [entry for entry in path if entry not in ("", ".")]
        sys.meta_path.insert(0, finder)
        try:
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = streams
            sys.path[:] = path
            sys.meta_path.remove(finder)
            sys.modules.pop(MODULE, None)
            gc.unfreeze()

    # ---- the loop

    def serve(self, ready: Ready) -> int:
        self._outbox.put(ready)
        while True:
            self._outbox.flush()
            writers = [self._channel] if self._outbox.pending else []
            readable, _, _ = select.select([self._channel], writers, [], self._timeout_s())
            if readable:
                self._read()
            self._between_calls()

    def _read(self) -> None:
        try:
            data = self._channel.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            raise EngineGone(str(error)) from error
        if not data:
            raise EngineGone("the engine closed the channel")
        try:
            frames = self._reader.feed(data)
        except ValueError as error:
            self._refuse(error)
        for body in frames:
            try:
                message = decode_host(body)
            except (msgspec.DecodeError, ValueError) as error:  # ValueError: a value that its type does not take
                self._refuse(error)
            self._obey(message)
            self._between_calls()

    def _refuse(self, reason: object) -> NoReturn:
        self._end(Failed(f"the engine sent what this worker cannot understand: {reason}", None, ""), EXIT_PROTOCOL)

    def _timeout_s(self) -> float:
        run = self._run
        if run is None:
            return _LONGEST_WAIT_S
        now_ns = monotonic_ns()
        waits_ns = [run.next_heartbeat_ns - now_ns]
        if (deadline_ns := run.session.next_deadline_ns) is not None:
            waits_ns.append(round((deadline_ns - run.context.time_ns) / run.clock_speed))
        if (metrics_ns := run.context.metrics_due_ns) is not None:
            waits_ns.append(metrics_ns - now_ns)
        return min(max(min(waits_ns) / 1e9, 0.0), _LONGEST_WAIT_S)

    def _between_calls(self) -> None:
        run = self._run
        if run is not None:
            deadline_ns = run.session.next_deadline_ns
            if deadline_ns is not None and (now_ns := run.context.time_ns) >= deadline_ns:
                self._call(run, lambda: run.session.on_time(now_ns))
            if run.session.finished:
                self._stop(run, "run() has returned", _LAST_WORDS_S)
            now_ns = monotonic_ns()
            run.context.send_metrics(now_ns)
            if now_ns >= run.next_heartbeat_ns:
                run.next_heartbeat_ns = now_ns + run.heartbeat_ns
                self._logs.settle()
                self._outbox.put(run.pulse.beat())
        self._outbox.flush()

    # ---- the engine's messages

    def _obey(self, message: HostMessage) -> None:
        run = self._run
        if run is None:
            self._obey_idle(message)
            return
        session, now_ns = run.session, run.context.time_ns
        match message:
            case QuoteUpdate(quote):
                self._tick(run, now_ns - quote.time_ns)
                self._call(run, lambda: session.on_quote(quote))
            case TradeUpdate(trade):
                self._tick(run, now_ns - trade.time_ns)
                self._call(run, lambda: session.on_trade(trade))
            case BarClosed(bar, warmup):
                self._tick(run, None if warmup else now_ns - bar.open_time_ns - run.bar_ns)
                self._call(run, lambda: session.on_bar(bar, warmup=warmup))
            case OrderUpdate(request_id, order, reason):
                self._call(run, lambda: session.on_order_update(request_id, order, reason))
            case FillUpdate(request_id, fill, position, cash):
                self._call(run, lambda: session.on_fill(request_id, fill, position, cash))
            case HistoryBars(request_id, bars, error):
                self._call(run, lambda: session.on_history(request_id, bars, error))
            case StopRun(reason, grace_s):
                self._stop(run, reason, grace_s)
            case _:
                self._refuse(f"a {type(message).__name__} while a strategy is running")

    def _obey_idle(self, message: HostMessage) -> None:
        match message:
            case Describe(source, filename):
                try:
                    self._outbox.put(describe(load_strategy(source, filename)))
                except LoadError as error:
                    self._outbox.put(LoadFailed(error.reason, error.line))
            case StartRun():
                self._start(message)
            case StartReplay() | StartSweep():
                self._replay(message)
            case StopRun(reason):
                self._end(Stopped(reason), EXIT_DONE)
            case _:
                self._refuse(f"a {type(message).__name__} before any strategy was started")

    def _replay(self, start: StartReplay | StartSweep) -> NoReturn:
        """Run a back-test, or many, to its end: from here on it has the channel to itself."""
        try:
            if isinstance(start, StartSweep):
                from koc_qt.worker.sweep import run_sweep  # with numpy, which others do not wait for

                raise _Ended(EXIT_DONE if run_sweep(start, self._channel, self._outbox) else EXIT_FAILED)
            raise _Ended(EXIT_DONE if run_replay(start, self._channel, self._outbox) else EXIT_FAILED)
        except ProtocolError as error:
            self._refuse(error)

    def _start(self, start: StartRun) -> None:
        context = WorkerContext(self._outbox, self._logs, _venue_clock(start))
        try:
            self._filename, self._source = start.filename, decode_source(start.source, start.filename)
            strategy_class = load_strategy(start.source, start.filename)
            run = self._make_run(start, strategy_class, context)
        except LoadError as error:
            self._end(LoadFailed(error.reason, error.line), EXIT_FAILED)
        self._run = run
        self._call(run, run.session.start)
        # Modules live as long as the process: without them a full collection costs a tick no milliseconds.
        gc.freeze()
        self._call(run, lambda: self._say_running(run))
        context.let_orders_go()

    def _make_run(self, start: StartRun, strategy_class: type[Strategy], context: WorkerContext) -> _Run:
        try:
            strategy = strategy_class()
            set_parameters(strategy, start.parameters)
            session = Session(
                strategy,
                context,
                instruments=start.instruments,
                timeframe=start.timeframe or strategy.timeframe,
                cash=start.cash,
                positions=start.positions,
                open_orders=start.open_orders,
                seed=start.seed,
            )
            return _Run(start, strategy, session, context)
        except BaseException as error:  # parameters or instruments that do not fit, or the strategy's own __init__
            failure = explain(error, self._filename, self._source)
            raise LoadError(failure.reason, failure.line) from error

    def _say_running(self, run: _Run) -> None:
        self._outbox.put(Running(describe(run.strategy), parameter_values(run.strategy)))

    # ---- the strategy's code

    def _tick(self, run: _Run, lag_ns: int | None) -> None:
        run.pulse.ticks += 1
        if lag_ns is not None:
            run.pulse.lag_ns = lag_ns

    def _call(self, run: _Run, function: Callable[[], None]) -> None:
        """Call into the strategy; what it raises ends the worker, with the reason."""
        begun_ns = monotonic_ns()
        try:
            function()
        except (EngineGone, _Ended):
            raise
        except BaseException as error:
            failure = explain(error, self._filename, self._source)
            self._end(Failed(failure.reason, failure.line, failure.traceback), EXIT_FAILED)
        run.pulse.callback_ns = max(run.pulse.callback_ns, monotonic_ns() - begun_ns)

    def _stop(self, run: _Run, reason: str, grace_s: float) -> None:
        self._call(run, run.session.stop)
        self._end(Stopped(reason), EXIT_DONE, max(grace_s, _LAST_WORDS_S))

    def _end(self, last_word: Failed | LoadFailed | Stopped, code: int, patience_s: float = _LAST_WORDS_S) -> NoReturn:
        for stream in self._prints:
            stream.finish()
        self._logs.settle(at_end=True)
        if self._run is not None:
            self._run.context.send_metrics(monotonic_ns(), at_end=True)
        self._outbox.put(last_word)
        self._outbox.drain(patience_s)
        raise _Ended(code)
