"""What the engine knows, as immutable snapshots: kept by the store, published on the bus, mirrored by windows.

Times are UTC nanoseconds; money is in the instrument's quote currency unless a field says otherwise.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from koc_qt.domain.instruments import InstrumentId


class EngineState(StrEnum):
    """What the engine is doing; HALTED means the kill switch is latched."""

    STARTING = "starting"
    RUNNING = "running"
    HALTED = "halted"
    STOPPING = "stopping"


class VenueState(StrEnum):
    """Whether a venue can be used."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    INTERRUPTED = "interrupted"
    DISCONNECTED = "disconnected"


class StrategyState(StrEnum):
    """The life of a strategy. BACKING_OFF waits to be restarted; FAILED was given up."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    BACKING_OFF = "backing_off"
    FAILED = "failed"


class JobState(StrEnum):
    """The life of something long that the engine does on request."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


class TradingMode(StrEnum):
    """Where an account's orders go. DATA takes none: its keys are for market data alone."""

    SIMULATED = "simulated"
    PAPER = "paper"
    TESTNET = "testnet"
    LIVE = "live"
    DATA = "data"


class AccountActivity(StrEnum):
    """What an account is doing, the first that holds of: HALTED by the kill switch; RATE_LIMITED, its venue wants to be
    left alone for a while; ORDER_SUBMITTED, orders of ours are open; IN_POSITION, something is held; IDLE.
    """

    IDLE = "idle"
    ORDER_SUBMITTED = "order_submitted"
    IN_POSITION = "in_position"
    RATE_LIMITED = "rate_limited"
    HALTED = "halted"


class Badge(StrEnum):
    """What a worker's self-test proved about its sandbox, strongest first."""

    ISOLATED_PLUS = "isolated+"
    ISOLATED = "isolated"
    PARTIAL = "partial"
    UNPROTECTED = "unprotected"
    UNPROVEN = "unproven"


class PositionSnapshot(msgspec.Struct, frozen=True, tag="position"):
    """A strategy's holding of one instrument; `quantity` is signed, `fees` are costs already paid."""

    strategy_id: str
    account_id: str
    instrument: InstrumentId
    quantity: Decimal
    average_price: Decimal | None
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    fees: Decimal
    time_ns: int

    @property
    def pnl(self) -> Decimal:
        """Realised and unrealised profit after fees."""
        return self.realised_pnl + self.unrealised_pnl - self.fees


class Balance(msgspec.Struct, frozen=True):
    """How much of a currency an account has; `locked` is reserved by open orders and part of `total`."""

    currency: str
    total: Decimal
    locked: Decimal = Decimal(0)


class VenuePosition(msgspec.Struct, frozen=True):
    """What the venue says the account holds of an instrument; `quantity` is signed."""

    symbol: str
    quantity: Decimal
    average_price: Decimal | None


class AccountSnapshot(msgspec.Struct, frozen=True, tag="account"):
    """An account and what is in it.

    `label` is what people call it, empty for its id. `reason` says why it cannot be used, or what is being done to it;
    one that is not `enabled` is left alone. `held_s` is how long its venue is not to be asked anything, counted from
    `time_ns`. Fees are fractions of the notional, None where the venue does not say or they differ. `positions` are
    those that the venue calls so; `foreign_orders` counts open orders on the account that are not ours.
    """

    account_id: str
    venue: str
    mode: TradingMode
    state: VenueState
    balances: tuple[Balance, ...]
    time_ns: int
    label: str = ""
    enabled: bool = True
    reason: str = ""
    activity: AccountActivity = AccountActivity.IDLE
    held_s: float = 0.0
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    positions: tuple[VenuePosition, ...] = ()
    foreign_orders: int = 0
    has_keys: bool = False


class VenueSnapshot(msgspec.Struct, frozen=True, tag="venue"):
    """A market data source. `breaker` is its circuit breaker's state: closed, open or half-open."""

    venue: str
    state: VenueState
    reason: str
    streams: int
    breaker: str
    time_ns: int


class StrategySpec(msgspec.Struct, frozen=True):
    """What to run: the file, and what it runs on. `path` is absolute; `parameters` override the declared defaults."""

    strategy_id: str
    path: str
    account_id: str
    instruments: tuple[InstrumentId, ...]
    timeframe: str
    parameters: dict[str, Any] = {}


class StrategySnapshot(msgspec.Struct, frozen=True, tag="strategy"):
    """A strategy's pulse. `rate_hz` counts messages to it a second; `heartbeat_age_s` is None before the first one."""

    spec: StrategySpec
    name: str
    state: StrategyState
    reason: str
    pid: int | None
    badge: Badge
    badge_reason: str
    restarts: int
    started_ns: int | None
    heartbeat_age_s: float | None
    rate_hz: float
    ticks: int
    anomalies: int
    pnl: Decimal
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    fees: Decimal
    trades: int
    trades_per_hour: float
    orders: int
    open_orders: int
    cpu_percent: float
    memory_bytes: int
    order_latency_p50_ms: float | None
    order_latency_p99_ms: float | None
    metrics: dict[str, float]
    time_ns: int


class EngineSnapshot(msgspec.Struct, frozen=True, tag="engine"):
    """The engine's own pulse; `order_latency_*` is signal received to venue's acceptance."""

    state: EngineState
    reason: str
    version: str
    pid: int
    started_ns: int
    uptime_s: float
    kill_switch: bool
    kill_reason: str
    pnl: Decimal
    trades: int
    trades_per_hour: float
    orders: int
    open_orders: int
    cpu_percent: float
    memory_bytes: int
    loop_lag_ms: float
    order_latency_p50_ms: float | None
    order_latency_p99_ms: float | None
    journal_ok: bool
    time_ns: int


class StoredSeries(msgspec.Struct, frozen=True):
    """Bars on the engine's disk; `since_ns` and `until_ns` bound what was asked for, gaps or no gaps, UTC."""

    instrument: InstrumentId
    timeframe: str
    since_ns: int
    until_ns: int
    bars: int
    size_bytes: int


class DownloadSnapshot(msgspec.Struct, frozen=True, tag="download"):
    """How far a download of history is: `progress` from 0 to 1, `bars` fetched so far."""

    download_id: str
    instrument: InstrumentId
    timeframe: str
    since_ns: int
    until_ns: int
    state: JobState
    reason: str
    progress: float
    bars: int
    time_ns: int
