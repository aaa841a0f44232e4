"""What a back-test is asked to do, how far it is and what came of it. Times are UTC nanoseconds."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import JobState
from koc_qt.domain.timeframes import DAY_NS

FILE_VENUE = "file"  # of symbols whose bars come from a file and whose venue is not named
BY_ENGINE, BY_COMMAND = "engine", "command line"  # who made a run
ALL_NS = (-(1 << 62), 1 << 62)  # a range that no file goes beyond: years 1823 to 2116


class Engine(StrEnum):
    """What runs a back-test. REPLAY is the matching engine of paper trading, and runs every strategy.

    VECTORBT runs strategies that declare signals, BACKTRADER those that are called bar by bar and trade at the market:
    they are other people's engines, to hold the first one against.
    """

    REPLAY = "replay"
    VECTORBT = "vectorbt"
    BACKTRADER = "backtrader"


class BacktestSpec(msgspec.Struct, frozen=True):
    """What to run: a strategy file on the bars that open in `since_ns` <= t < `until_ns`.

    An empty `timeframe` means the one that the strategy declares. `cash` is in the quote currency of the first
    instrument. Fees are fractions of the notional, None for the instruments' own. What takers pay on top is half the
    `spread` and the `slippage`, fractions of the price, and `slippage_ticks` ticks. `latency_ns` passes from an order
    to its effect. Of a bar's volume at most `volume_fraction` is ours, None for all that is asked.

    `files` are paths on the engine's machine, one a symbol, of the bars to run on in the place of the venue's. Then an
    empty `timeframe` means theirs, and a range beyond theirs what they have of it; `tick` and `lot` are their
    increments of price and quantity, None for such as round nothing that matters, and with `skip_bad` rows that cannot
    be believed are left out. Raises ConfigError on values that make no sense.
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
    engine: Engine = Engine.REPLAY
    spread: Decimal = Decimal(0)
    slippage_ticks: int = 0
    latency_ns: int = 0
    volume_fraction: Decimal | None = Decimal("0.1")
    files: tuple[str, ...] = ()
    tick: Decimal | None = None
    lot: Decimal | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if not self.instruments:
            raise ConfigError("a back-test needs at least one symbol to run on")
        if self.files and len(self.files) != len(self.instruments):
            raise ConfigError(f"{len(self.files)} files for {len(self.instruments)} symbols: bring one for each")
        if not self.files and (self.tick is not None or self.lot is not None or self.skip_bad):
            raise ConfigError("a tick, a lot and rows to leave out are for bars from files: a venue has its own rules")
        for name, size in (("tick", self.tick), ("lot", self.lot)):
            if size is not None and not (size.is_finite() and 0 < size < 10**15):
                raise ConfigError(f"a {name} is above zero and below 1E+15, not {size}")
        if self.since_ns >= self.until_ns:
            raise ConfigError("a back-test must end after it begins: choose another range")
        if not (self.cash.is_finite() and 0 < self.cash < 10**15):
            raise ConfigError(f"a back-test begins with cash below 1E+15 and above zero, not {self.cash}")
        if not (self.slippage.is_finite() and 0 <= self.slippage < 1):
            raise ConfigError(f"slippage is a fraction of the price, from 0 to below 1, not {self.slippage}")
        if self.fee is not None and not (self.fee.is_finite() and -1 < self.fee < 1):
            raise ConfigError(f"a fee is a fraction of the notional, it cannot be {self.fee}")
        if not (self.spread.is_finite() and 0 <= self.spread < 1):
            raise ConfigError(f"a spread is a fraction of the price, from 0 to below 1, not {self.spread}")
        if not 0 <= self.slippage_ticks <= 1_000_000:
            raise ConfigError(f"slippage in ticks is from 0 to 1,000,000, not {self.slippage_ticks}")
        if not 0 <= self.latency_ns <= DAY_NS:
            raise ConfigError(f"a latency is from 0 to one day, not {self.latency_ns / 1e9:g} s")
        share = self.volume_fraction
        if share is not None and not (share.is_finite() and 0 < share <= 1):
            raise ConfigError(f"the share of a bar's volume is above 0 and at most 1, or unlimited, not {share}")


class BacktestSnapshot(msgspec.Struct, frozen=True, tag="backtest"):
    """How far a run is: `progress` from 0 to 1 of the present `stage`; `equity` so far in the quote currency.

    `name` is the strategy's, empty until the file is loaded; `statistics` are those of the result, empty until there is
    one; `note` is what a person wrote about the run, and `made_by` is BY_ENGINE or BY_COMMAND.
    """

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
    name: str = ""
    statistics: dict[str, float | None] = {}
    note: str = ""
    made_by: str = BY_ENGINE


class RoundTrip(msgspec.Struct, frozen=True, gc=False):  # as orders and fills: see domain/orders.py
    """A trade as people count them: from flat, or from the other side, until flat or reversed; in quote currency.

    `quantity` is signed: above zero for a long. `exit_ns` and `exit_price` are None while it was open at the end; then
    `pnl` is marked to the last close. `pnl` is after `fees`. `mae` and `mfe` are the most that it was ever behind and
    ahead by the highs and lows of its bars, before fees: the first is 0 or below, the second 0 or above; None where
    nobody looked.
    """

    instrument: InstrumentId
    quantity: float
    entry_ns: int
    entry_price: float
    exit_ns: int | None
    exit_price: float | None
    fees: float
    pnl: float
    mae: float | None = None
    mfe: float | None = None


class Provenance(msgspec.Struct, frozen=True):
    """What a result was made from, so that it can be made again: SHA-256 in hexadecimal, and versions by name.

    `data` is over all bars that went in, warm-up included; `settings` over everything of the spec but the path;
    `result` over fills, equity curve and statistics as they came out.
    """

    data: str
    strategy: str
    settings: str
    result: str
    versions: dict[str, str]


class BacktestResult(msgspec.Struct, frozen=True):
    """What came of a run. `equity` has a value for each of `equity_ns`, thinned to some thousands of points.

    `statistics` maps names of domain/performance.py to values; None where there is too little to say. `log` holds the
    strategy's last lines. `benchmark` is what buying and holding the first instrument would have made of the cash, at
    the times of `equity`. `months` are returns by "YYYY-MM", in UTC.
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
    benchmark: list[float] = []
    months: dict[str, float] = {}
    provenance: Provenance | None = None
