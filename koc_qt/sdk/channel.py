"""Messages between the engine and a strategy's worker process: msgpack, each after a 4-byte big-endian length.

A frame is at most MAX_FRAME bytes. This is the protocol's one definition; strategy authors do not need it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.backtests import Engine, Provenance, RoundTrip
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, Quote, Trade
from koc_qt.domain.orders import Fill, Order, OrderRequest
from koc_qt.domain.state import Badge, Balance
from koc_qt.domain.trust import Placement
from koc_qt.sdk.recorded import RecordedOrder, ReplayOrders
from koc_qt.sdk.sweep_messages import EvaluateTrials, SweepReady, TrialsEvaluated

MAX_FRAME = 1 << 20  # bytes

# ---- engine to worker --------------------------------------------------------------------------------------------


class Describe(msgspec.Struct, frozen=True, tag=True):
    """Import the source and say what it declares; the worker answers Described or LoadFailed."""

    source: bytes
    filename: str


class PositionState(msgspec.Struct, frozen=True):
    """A holding as the strategy sees it: signed quantity in base units, average entry price, PnL in quote currency."""

    instrument: InstrumentId
    quantity: Decimal
    average_price: Decimal | None
    realised_pnl: Decimal
    fees: Decimal


class StartRun(msgspec.Struct, frozen=True, tag=True):
    """Import the source and run it. `history` follows in HistoryBars messages, answered requests, not here.

    `time_ns` is the venue's time, of which `clock_speed` seconds pass in one of the world's. An empty `timeframe` means
    the one that the strategy declares. `open_orders` are those of this strategy that
    survived an earlier worker.
    """

    strategy_id: str
    source: bytes
    filename: str
    parameters: dict[str, Any]
    instruments: tuple[Instrument, ...]
    timeframe: str
    cash: dict[str, Decimal]
    positions: tuple[PositionState, ...]
    open_orders: tuple[Order, ...]
    time_ns: int
    seed: int
    heartbeat_s: float
    clock_speed: float = 1.0


class BarClosed(msgspec.Struct, frozen=True, tag=True):
    """A bar closed. `warmup` marks history that is replayed before live data: no orders come of it."""

    bar: Bar
    warmup: bool = False


class QuoteUpdate(msgspec.Struct, frozen=True, tag=True):
    """A new best bid and offer."""

    quote: Quote


class TradeUpdate(msgspec.Struct, frozen=True, tag=True):
    """A trade on the venue."""

    trade: Trade


class OrderUpdate(msgspec.Struct, frozen=True, tag=True):
    """An order of this strategy changed. `request_id` is the worker's own; 0 for orders of an earlier worker.

    A request that was refused before it became an order has `order` None and the reason.
    """

    request_id: int
    order: Order | None
    reason: str = ""


class FillUpdate(msgspec.Struct, frozen=True, tag=True):
    """An order of this strategy was filled; with the holding and cash after it."""

    request_id: int
    fill: Fill
    position: PositionState
    cash: dict[str, Decimal]


class HistoryBars(msgspec.Struct, frozen=True, tag=True):
    """The answer to RequestHistory, oldest first; `error` when there is none."""

    request_id: int
    bars: tuple[Bar, ...]
    error: str = ""


class StopRun(msgspec.Struct, frozen=True, tag=True):
    """Call on_stop and end within `grace_s` seconds."""

    reason: str
    grace_s: float


class SessionStart(msgspec.Struct, frozen=True):
    """How a recorded session, or what is left of one, began; `balances` are by venue. It is `whole` from its start."""

    balances: dict[str, tuple[Balance, ...]]
    positions: tuple[PositionState, ...] = ()
    open_orders: tuple[Order, ...] = ()
    whole: bool = True


class StartReplay(msgspec.Struct, frozen=True, tag=True):
    """Import the source and run it on history. The worker answers Running or LoadFailed, then takes ReplayBars.

    `timeframe`, `cash` and the fields after it are those of a BacktestSpec; `since_ns` is where the run begins. With
    `trace` the worker says which line of the file placed which order (ReplayPlacements). Orders that a session made too
    meet the market that is `recorded` of it, when they did there. With `session` there are no bars: what a session was
    told comes as ReplayOrders and ReplayTold. A worker that has begun with this takes nothing but ReplayBars or those,
    and ReplayEnd; to stop it, end it.
    """

    source: bytes
    filename: str
    parameters: dict[str, Any]
    instruments: tuple[Instrument, ...]
    timeframe: str
    since_ns: int
    cash: Decimal
    fee: Decimal | None
    slippage: Decimal
    seed: int
    allow_short: bool
    engine: Engine = Engine.REPLAY
    spread: Decimal = Decimal(0)
    slippage_ticks: int = 0
    latency_ns: int = 0
    volume_fraction: Decimal | None = Decimal("0.1")
    trace: bool = False
    recorded: tuple[RecordedOrder, ...] = ()
    session: SessionStart | None = None


class ReplayBars(msgspec.Struct, frozen=True, tag=True):
    """Bars in the order of time, as columns; `row` counts StartReplay's instruments from 0.

    Bars that open at the same time are in one message. With `warmup` they are from before the run begins.
    """

    warmup: bool
    row: list[int]
    open_time_ns: list[int]
    open: list[float]
    high: list[float]
    low: list[float]
    close: list[float]
    volume: list[float]


class ReplayTold(msgspec.Struct, frozen=True, tag=True):
    """A stretch of a recorded session, as the engine lived through it: what it told the strategy, and the market.

    `kinds` has a letter for each entry, and `heard_ns` when it came, by the clock of its venue: Q and T are quotes and
    trades that the strategy was told, q and t those that it was not, b books, and s what else it was told. Each kind's
    contents are in its own columns; `row` counts StartReplay's instruments from 0.
    """

    kinds: str
    heard_ns: list[int]
    row: list[int]  # these six of quotes
    time_ns: list[int]
    bid: list[Decimal]
    bid_size: list[Decimal]
    ask: list[Decimal]
    ask_size: list[Decimal]
    trades: tuple[Trade, ...]
    books: tuple[Book, ...]
    said: tuple[OrderUpdate | FillUpdate | BarClosed | HistoryBars, ...]


class ReplayEnd(msgspec.Struct, frozen=True, tag=True):
    """That were all bars; the worker answers with the results and ends."""


class StartSweep(msgspec.Struct, frozen=True, tag=True):
    """Import the source and evaluate many combinations of its parameters on the same bars.

    `replay` has the parameters that stay as they are. The worker answers SweepLoaded or LoadFailed, takes ReplayBars
    and, after ReplayEnd, combinations. `corners` are the outermost combinations, which tell how many bars of warm-up
    are wanted. Signals go through `kernel` (koc_qt/worker/sweep_compiler.py) where there is one and it finds all of
    `wanted`, statistics by name; `memory_bytes` is for indicators that are kept.
    """

    replay: StartReplay
    corners: list[dict[str, Any]]
    wanted: tuple[str, ...]
    kernel: bytes = b""
    memory_bytes: int = 20 << 20


HostMessage = (
    Describe
    | StartRun
    | BarClosed
    | QuoteUpdate
    | TradeUpdate
    | OrderUpdate
    | FillUpdate
    | HistoryBars
    | StopRun
    | StartReplay
    | ReplayBars
    | ReplayOrders
    | ReplayTold
    | ReplayEnd
    | StartSweep
    | EvaluateTrials
)

# ---- worker to engine --------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process is locked down and has tested itself. `proofs` maps each probe to what came of it."""

    pid: int
    badge: Badge
    badge_reason: str
    proofs: dict[str, str]


class ParameterInfo(msgspec.Struct, frozen=True):
    """A declared parameter; `kind` is one of int, float, bool, str, choice."""

    name: str
    kind: str
    default: Any
    low: float | None = None
    high: float | None = None
    step: float | None = None
    choices: tuple[str, ...] = ()
    help: str = ""


class Described(msgspec.Struct, frozen=True, tag=True):
    """What a strategy file declares. `subscriptions` are of bars, quotes, trades; `instruments_wanted` counts them.

    `engines` are those that can back-test it, as far as can be told before it runs.
    """

    name: str
    doc: str
    parameters: tuple[ParameterInfo, ...]
    timeframe: str
    subscriptions: tuple[str, ...]
    instruments_wanted: int
    warmup_bars: int
    engines: tuple[Engine, ...] = ()


class LoadFailed(msgspec.Struct, frozen=True, tag=True):
    """The file cannot be used; `line` counts from 1, None where there is none. `lacks`: this engine cannot run it."""

    reason: str
    line: int | None = None
    lacks: bool = False


class Running(msgspec.Struct, frozen=True, tag=True):
    """on_start has returned; market data may flow."""

    described: Described
    parameters: dict[str, Any]


class Submit(msgspec.Struct, frozen=True, tag=True):
    """Place an order. `request_id` counts up from 1 within this worker.

    `signal_ns` is when it was decided on, by the monotonic clock that a machine's processes share; None in replays.
    """

    request_id: int
    request: OrderRequest
    signal_ns: int | None = None


class Cancel(msgspec.Struct, frozen=True, tag=True):
    """Cancel an order of this strategy, by the engine's id."""

    client_order_id: str


class Amend(msgspec.Struct, frozen=True, tag=True):
    """Give an order of this strategy this total quantity and limit; None for one without a limit."""

    client_order_id: str
    quantity: Decimal
    price: Decimal | None


class RequestHistory(msgspec.Struct, frozen=True, tag=True):
    """Ask for the last `count` closed bars."""

    request_id: int
    instrument: InstrumentId
    timeframe: str
    count: int


class LogLine(msgspec.Struct, frozen=True, tag=True):
    """A line for the log; `level` is one of DEBUG, INFO, WARNING, ERROR."""

    level: str
    text: str


class MetricValue(msgspec.Struct, frozen=True, tag=True):
    """A number that the strategy wants shown."""

    name: str
    value: float


class Heartbeat(msgspec.Struct, frozen=True, tag=True):
    """Still alive. `ticks` counts market messages handled since the start, `callback_us` the longest callback since
    the last heartbeat, `lag_ms` the age of the newest market message when its callback began.
    """

    sequence: int
    ticks: int
    callback_us: int
    lag_ms: float


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The strategy raised; the worker ends after this. `line` is the line in its file, `lacks` as in LoadFailed."""

    reason: str
    line: int | None
    traceback: str
    lacks: bool = False


class Stopped(msgspec.Struct, frozen=True, tag=True):
    """on_stop has returned; the worker ends after this."""

    reason: str


class ReplayProgress(msgspec.Struct, frozen=True, tag=True):
    """How far a replay is, some ten times a second and after each ReplayBars message; `chunks` counts those done.

    `bars` counts those of the run, without warm-up; `position_ns` is the close of the newest, `equity` that at it.
    """

    chunks: int
    bars: int
    position_ns: int
    equity: float


class ReplayFills(msgspec.Struct, frozen=True, tag=True):
    """Some of the fills of a replay that has ended, in order."""

    fills: tuple[Fill, ...]


class ReplayTrades(msgspec.Struct, frozen=True, tag=True):
    """Some of the trades of a replay that has ended, in order."""

    trades: tuple[RoundTrip, ...]


class ReplayPlacements(msgspec.Struct, frozen=True, tag=True):
    """Some of what a traced strategy decided, in order."""

    placements: tuple[Placement, ...]


class ReplayLog(msgspec.Struct, frozen=True, tag=True):
    """The last lines that a replayed strategy wrote, each with its time and level."""

    lines: tuple[str, ...]


class ReplayDone(msgspec.Struct, frozen=True, tag=True):
    """The last of a replay's results. `statistics` has the names of domain/performance.py; the curve is thinned."""

    bars: int
    equity_ns: list[int]
    equity: list[float]
    statistics: dict[str, float | None]
    benchmark: list[float] = []
    months: dict[str, float] = {}
    provenance: Provenance | None = None


class SweepLoaded(msgspec.Struct, frozen=True, tag=True):
    """A sweep's file is loaded; every combination is to have `warmup_bars` bars before the run."""

    described: Described
    warmup_bars: int


WorkerMessage = (
    Ready
    | Described
    | LoadFailed
    | Running
    | Submit
    | Cancel
    | Amend
    | RequestHistory
    | LogLine
    | MetricValue
    | Heartbeat
    | Failed
    | Stopped
    | ReplayProgress
    | ReplayFills
    | ReplayTrades
    | ReplayPlacements
    | ReplayLog
    | ReplayDone
    | SweepLoaded
    | SweepReady
    | TrialsEvaluated
)


class FrameReader:
    """Cuts a byte stream into frames; raises ValueError on one above MAX_FRAME."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take more bytes and give the frames that are complete."""
        self._buffer += data
        frames: list[bytes] = []
        start = 0
        while len(self._buffer) - start >= 4:
            size = int.from_bytes(self._buffer[start : start + 4], "big")
            if size > MAX_FRAME:
                raise ValueError(f"a frame of {size} bytes is above the limit of {MAX_FRAME}")
            if len(self._buffer) - start - 4 < size:
                break
            frames.append(bytes(self._buffer[start + 4 : start + 4 + size]))
            start += 4 + size
        if start:
            del self._buffer[:start]
        return frames


_encoder = msgspec.msgpack.Encoder()
_host_decoder: msgspec.msgpack.Decoder[HostMessage] = msgspec.msgpack.Decoder(HostMessage)
_worker_decoder: msgspec.msgpack.Decoder[WorkerMessage] = msgspec.msgpack.Decoder(WorkerMessage)


def frame(message: HostMessage | WorkerMessage) -> bytes:
    """Encode a message with its length; raises ValueError above MAX_FRAME."""
    body = _encoder.encode(message)
    if len(body) > MAX_FRAME:
        raise ValueError(f"a {type(message).__name__} of {len(body)} bytes is above the limit of {MAX_FRAME}")
    return len(body).to_bytes(4, "big") + body


def decode_host(body: bytes) -> HostMessage:
    """Decode a message from the engine; raises msgspec.DecodeError."""
    return _host_decoder.decode(body)


def decode_worker(body: bytes) -> WorkerMessage:
    """Decode a message from a worker; raises msgspec.DecodeError."""
    return _worker_decoder.decode(body)
