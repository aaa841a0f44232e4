"""What a back-test is asked to do, how far it is and what came of it. Times are UTC nanoseconds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import JobState


class BacktestSpec(msgspec.Struct, frozen=True):
    """What to run: a strategy file on the bars that open in `since_ns` <= t < `until_ns`.

    An empty `timeframe` means the one that the strategy declares. `cash` is in the quote currency of the first
    instrument. Fees are fractions of the notional, None for the instruments' own; `slippage` is a fraction of the price
    that takers pay on top. Raises ConfigError on values that make no sense.
    """

    path: str
    instruments: tuple[InstrumentId, ...]
    timeframe: str
    since_ns: int
    until_ns: int
    parameters: dict[str, Any] = {}
    cash: Decimal = Decimal(10_000)
    fee: Decimal | None = None
    slippage: Decimal = Decimal(0)
    seed: int = 0
    allow_short: bool = True

    def __post_init__(self) -> None:
        if not self.instruments:
            raise ConfigError("a back-test needs at least one symbol to run on")
        if self.since_ns >= self.until_ns:
            raise ConfigError("a back-test must end after it begins: choose another range")
        if not (self.cash.is_finite() and 0 < self.cash < 10**15):
            raise ConfigError(f"a back-test begins with an amount of cash above zero, not {self.cash}")
        if not (self.slippage.is_finite() and 0 <= self.slippage < 1):
            raise ConfigError(f"slippage is a fraction of the price, from 0 to below 1, not {self.slippage}")
        if self.fee is not None and not (self.fee.is_finite() and -1 < self.fee < 1):
            raise ConfigError(f"a fee is a fraction of the notional, it cannot be {self.fee}")


class BacktestSnapshot(msgspec.Struct, frozen=True, tag="backtest"):
    """How far a run is: `progress` from 0 to 1 of the present `stage`; `equity` so far in the quote currency."""

    backtest_id: str
    spec: BacktestSpec
    state: JobState
    reason: str
    stage: str  # "history", "run" or empty
    progress: float
    bars: int
    position_ns: int | None
    equity: float | None
    remaining_s: float | None
    started_ns: int
    time_ns: int


class RoundTrip(msgspec.Struct, frozen=True, gc=False):  # as orders and fills: see domain/orders.py
    """A trade as people count them: from flat, or from the other side, until flat or reversed; in quote currency.

    `quantity` is signed: above zero for a long. `exit_ns` and `exit_price` are None while it was open at the end; then
    `pnl` is marked to the last close. `pnl` is after `fees`.
    """

    instrument: InstrumentId
    quantity: float
    entry_ns: int
    entry_price: float
    exit_ns: int | None
    exit_price: float | None
    fees: float
    pnl: float


class BacktestResult(msgspec.Struct, frozen=True):
    """What came of a run. `equity` has a value for each of `equity_ns`, thinned to some thousands of points.

    `statistics` maps names of domain/performance.py to values; None where there is too little to say. `log` holds the
    strategy's last lines.
    """

    spec: BacktestSpec
    name: str
    timeframe: str
    bars: int
    equity_ns: list[int]
    equity: list[float]
    trades: list[RoundTrip]
    fills: list[Fill]
    statistics: dict[str, float | None]
    log: list[str] = []
