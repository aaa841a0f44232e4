"""What engine and clients say to each other. Commands are imperative, facts past tense; encoded as msgpack.

A client says Hello and gets Welcome (or Refused), then a Snapshot, then facts as they happen, numbered without a gap,
and among them the older history in pages: a client that finds a gap, or is told Resync, asks for a snapshot again.
Orders, fills and states are never dropped for a connected client; of market data only the newest a stream is kept when
the client reads slowly.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.latency import LatencySnapshot
from koc_qt.domain.market import Bar, Book, Quote, StreamStatus, Trade
from koc_qt.domain.optimisation import StudySnapshot
from koc_qt.domain.orders import Fill, Order, OrderRequest
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import (
    AccountSnapshot,
    DownloadSnapshot,
    EngineSnapshot,
    PositionSnapshot,
    StrategySnapshot,
    StrategySpec,
    VenueSnapshot,
)
from koc_qt.domain.trust import DriftReport, TrustSnapshot
from koc_qt.link.account_messages import AccountCommand, AccountLimitsChanged
from koc_qt.link.backtest_messages import BacktestChanged as BacktestChanged
from koc_qt.link.backtest_messages import BacktestCommand, BacktestFact
from koc_qt.link.backtest_messages import BacktestHead as BacktestHead
from koc_qt.link.backtest_messages import FetchBacktest as FetchBacktest
from koc_qt.link.backtest_messages import FetchBacktestPage as FetchBacktestPage
from koc_qt.link.backtest_messages import StartBacktest as StartBacktest
from koc_qt.link.backtest_messages import StopBacktest as StopBacktest
from koc_qt.link.optimiser_messages import StudyCommand, StudyFact
from koc_qt.link.trust_messages import TrustCommand, TrustFact

PROTOCOL = 7  # raised with every change that an older peer could not read

MANUAL = "manual"  # the strategy id of orders that a person places; no strategy may have it

# ---- commands: client to engine; each is answered by one Reply with the same number ---------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first message of a client."""

    protocol: int
    version: str
    client: str


class RequestSnapshot(msgspec.Struct, frozen=True, tag=True):
    """Send everything again."""


class SubmitOrder(msgspec.Struct, frozen=True, tag=True):
    """Place an order by hand on an account.

    With another `strategy_id` it is booked to that strategy, running or not: a reduce-only market order alone, which
    closes what the strategy holds of the instrument on the account, or a part of it.
    """

    account_id: str
    request: OrderRequest
    strategy_id: str = MANUAL


class CancelOrder(msgspec.Struct, frozen=True, tag=True):
    """Cancel one order."""

    client_order_id: str


class AmendOrder(msgspec.Struct, frozen=True, tag=True):
    """Give a working order another total quantity or limit price; None leaves either as it is."""

    client_order_id: str
    quantity: Decimal | None = None
    price: Decimal | None = None


class CancelAllOrders(msgspec.Struct, frozen=True, tag=True):
    """Cancel every open order."""


class DescribeStrategy(msgspec.Struct, frozen=True, tag=True):
    """Read a strategy's declaration in a sandboxed process; answered with a Described value.

    With `source` that text is read and `path` only names it: the file may be on another machine than the engine.
    """

    path: str
    source: bytes | None = None


class StoreStrategy(msgspec.Struct, frozen=True, tag=True):
    """Keep a strategy file in the engine's own folder of strategies. Answered with its path on the engine's machine.

    A file of that name and other content is replaced only with `replace`.
    """

    filename: str
    source: bytes
    replace: bool = False


class StartStrategy(msgspec.Struct, frozen=True, tag=True):
    """Start a strategy; an empty `strategy_id` lets the engine choose one. Answered with the id."""

    spec: StrategySpec


class StopStrategy(msgspec.Struct, frozen=True, tag=True):
    """Stop a strategy in order; its open orders are cancelled."""

    strategy_id: str


class EngageKillSwitch(msgspec.Struct, frozen=True, tag=True):
    """Stop strategies, cancel orders, refuse new ones until released."""

    reason: str


class ReleaseKillSwitch(msgspec.Struct, frozen=True, tag=True):
    """Allow trading again; nothing is restarted by it."""


class Subscribe(msgspec.Struct, frozen=True, tag=True):
    """Stream an instrument to this client: quotes, trades, and bars of each timeframe given."""

    instrument: InstrumentId
    timeframes: tuple[str, ...] = ()


class Unsubscribe(msgspec.Struct, frozen=True, tag=True):
    """Stop streaming an instrument to this client."""

    instrument: InstrumentId


class FetchBars(msgspec.Struct, frozen=True, tag=True):
    """Answered with up to `count` closed bars before `until_ns` (now when None), oldest first.

    With `file` they are those of a file of bars on the engine's machine, which `written_before_ns` refuses once it was
    changed after that time (UTC); rows of it that cannot be believed are an error, or skipped.
    """

    instrument: InstrumentId
    timeframe: str
    count: int
    until_ns: int | None = None
    file: str = ""
    written_before_ns: int | None = None
    skips_bad_rows: bool = False


class ListInstruments(msgspec.Struct, frozen=True, tag=True):
    """Answered with up to `limit` Instruments of a venue whose symbol contains `text` in any case, the best first.

    An empty `venue` means all of them.
    """

    venue: str
    text: str = ""
    limit: int = 100


class ListSeries(msgspec.Struct, frozen=True, tag=True):
    """Answered with the StoredSeries on the engine's disk."""


class ReadLog(msgspec.Struct, frozen=True, tag=True):
    """Answered with up to `count` of the newest lines of the log, oldest first: (time_ns, level, source, text)."""

    count: int = 500


class StartDownload(msgspec.Struct, frozen=True, tag=True):
    """Fetch into the store what it lacks of a span of UTC nanoseconds. Answered with the id of the download."""

    instrument: InstrumentId
    timeframe: str
    since_ns: int
    until_ns: int


class StopDownload(msgspec.Struct, frozen=True, tag=True):
    """Stop a download; what was fetched is kept."""

    download_id: str


class Shutdown(msgspec.Struct, frozen=True, tag=True):
    """Stop strategies in order, then the engine."""


Command = (
    Hello
    | RequestSnapshot
    | SubmitOrder
    | CancelOrder
    | AmendOrder
    | CancelAllOrders
    | DescribeStrategy
    | StoreStrategy
    | StartStrategy
    | StopStrategy
    | EngageKillSwitch
    | ReleaseKillSwitch
    | Subscribe
    | Unsubscribe
    | FetchBars
    | ListInstruments
    | ListSeries
    | ReadLog
    | StartDownload
    | StopDownload
    | BacktestCommand
    | StudyCommand
    | TrustCommand
    | AccountCommand
    | Shutdown
)

# ---- facts: engine to client ------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The engine takes the client."""

    protocol: int
    version: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The engine does not take the client: the reason is a sentence for a person."""

    reason: str
    version: str


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    """The state of everything.

    `orders` are the newest closed ones and all open ones, `fills` the newest. `older` counts the orders and fills that
    follow as HistoryPages, as limited by the engine; those that are older still are read from the journal.
    `notices` are sentences that the person has to be told, such as that keys were moved out of a file. `risk` is what
    each strategy, and whoever trades by hand, may do on any account.
    """

    engine: EngineSnapshot
    venues: tuple[VenueSnapshot, ...]
    accounts: tuple[AccountSnapshot, ...]
    instruments: tuple[Instrument, ...]
    strategies: tuple[StrategySnapshot, ...]
    positions: tuple[PositionSnapshot, ...]
    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    downloads: tuple[DownloadSnapshot, ...] = ()
    backtests: tuple[BacktestSnapshot, ...] = ()
    streams: tuple[StreamStatus, ...] = ()
    older: int = 0
    notices: tuple[str, ...] = ()
    latency: LatencySnapshot | None = None
    limits: tuple[AccountLimits, ...] = ()
    risk: RiskLimits | None = None
    trust: tuple[TrustSnapshot, ...] = ()
    drift: tuple[DriftReport, ...] = ()
    studies: tuple[StudySnapshot, ...] = ()


class HistoryPage(msgspec.Struct, frozen=True, tag=True):
    """Closed orders and fills, each oldest first, all older than those of the snapshot and of the pages before.

    They are as they were at the time of the snapshot: what a client heard since is newer. `is_last` says that no other
    page follows.
    """

    orders: tuple[Order, ...]
    fills: tuple[Fill, ...]
    is_last: bool


class EngineChanged(msgspec.Struct, frozen=True, tag=True):
    """The engine's state or pulse."""

    engine: EngineSnapshot


class VenueChanged(msgspec.Struct, frozen=True, tag=True):
    """A venue's state."""

    venue: VenueSnapshot


class AccountChanged(msgspec.Struct, frozen=True, tag=True):
    """An account's state or balances."""

    account: AccountSnapshot


class AccountRemoved(msgspec.Struct, frozen=True, tag=True):
    """An account is there no more."""

    account_id: str


class NoticeGiven(msgspec.Struct, frozen=True, tag=True):
    """A sentence that the person has to be told; the snapshots from now on have it too."""

    text: str


class InstrumentsAdded(msgspec.Struct, frozen=True, tag=True):
    """Rules that clients have cause to know now; of many a page at a time."""

    instruments: tuple[Instrument, ...]


class StrategyChanged(msgspec.Struct, frozen=True, tag=True):
    """A strategy's state or pulse."""

    strategy: StrategySnapshot


class OrderChanged(msgspec.Struct, frozen=True, tag=True):
    """An order, after whatever happened to it."""

    order: Order


class FillRecorded(msgspec.Struct, frozen=True, tag=True):
    """A fill, once it is durable."""

    fill: Fill


class PositionChanged(msgspec.Struct, frozen=True, tag=True):
    """A strategy's holding."""

    position: PositionSnapshot


class QuoteChanged(msgspec.Struct, frozen=True, tag=True):
    """Market data: only the newest an instrument is kept for a slow client."""

    quote: Quote


class BookChanged(msgspec.Struct, frozen=True, tag=True):
    """Market data: only the newest an instrument is kept for a slow client."""

    book: Book


class TradePrinted(msgspec.Struct, frozen=True, tag=True):
    """Market data: only the newest an instrument is kept for a slow client."""

    trade: Trade


class BarChanged(msgspec.Struct, frozen=True, tag=True):
    """A bar, forming (newest kept) or closed (never dropped)."""

    bar: Bar
    closed: bool


class StreamChanged(msgspec.Struct, frozen=True, tag=True):
    """What a stream of the engine's does: connected, interrupted, or ended for good. Told to every client."""

    stream: StreamStatus


class LogRecorded(msgspec.Struct, frozen=True, tag=True):
    """A line of the engine's or a strategy's log."""

    time_ns: int
    level: str
    source: str
    text: str


class DownloadChanged(msgspec.Struct, frozen=True, tag=True):
    """How far a download is."""

    download: DownloadSnapshot


class LatencyChanged(msgspec.Struct, frozen=True, tag=True):
    """How long orders take, stage by stage; at most twice a second."""

    latency: LatencySnapshot


class Resync(msgspec.Struct, frozen=True, tag=True):
    """The client read too slowly and facts were lost to it; ask for a snapshot."""

    reason: str


class Reply(msgspec.Struct, frozen=True, tag=True):
    """The answer to a command. `error` is empty when it was done; `value` is built from msgpack primitives."""

    number: int
    error: str = ""
    value: Any = None


class EngineStopped(msgspec.Struct, frozen=True, tag=True):
    """The engine's last word before it ends in order."""

    reason: str


Fact = (
    Welcome
    | Refused
    | Snapshot
    | HistoryPage
    | EngineChanged
    | VenueChanged
    | AccountChanged
    | AccountLimitsChanged
    | AccountRemoved
    | NoticeGiven
    | InstrumentsAdded
    | StrategyChanged
    | OrderChanged
    | FillRecorded
    | PositionChanged
    | QuoteChanged
    | BookChanged
    | TradePrinted
    | BarChanged
    | StreamChanged
    | LogRecorded
    | DownloadChanged
    | BacktestFact
    | StudyFact
    | TrustFact
    | LatencyChanged
    | Resync
    | Reply
    | EngineStopped
)


class CommandEnvelope(msgspec.Struct, frozen=True, array_like=True):
    """A command and its number, which counts up a client from 1."""

    number: int
    command: Command


class FactEnvelope(msgspec.Struct, frozen=True, array_like=True):
    """A fact and its place in the client's stream, which counts up from 1 after each snapshot.

    Welcome, Refused, Snapshot, Resync, Reply and market data other than closed bars carry 0 and count for nothing.
    """

    sequence: int
    fact: Fact
