"""Runs a strategy's signals on vectorbt: decided at a close, executed at the next open, by fixed sizes.

The rules of koc_qt.sdk.signals are vectorbt's own with these settings: signals and sizes are moved on by one bar and
executed at its open; an exit beats the entry of its side, a long entry the short one, and an entry against what is held
is none; orders that the cash does not suffice for are refused whole, with shorts backed by cash.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from koc_qt.domain.errors import EngineLacks, InvalidOrder
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.orders import smallest_quantity, to_decimal
from koc_qt.sdk.signals import Bars, Signals, checked
from koc_qt.sdk.strategy import Strategy, overrides
from koc_qt.worker.ahead import BarsAhead
from koc_qt.worker.engines import vectorbt_library
from koc_qt.worker.engines.terms import Terms
from koc_qt.worker.replay import Pause, Replay

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Booleans = NDArray[np.bool_]


_BOOKED_AT_ONCE = 1_000  # fills


class Orders(msgspec.Struct):
    """What is to be done at the open of each bar of a run."""

    entries: Booleans
    exits: Booleans
    short_entries: Booleans
    short_exits: Booleans
    sizes: Floats


class VectorbtRun(Replay):
    """One run; the strategy is asked for its signals alone."""

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        name = type(strategy).__name__
        if not overrides(type(strategy), "signals"):
            raise EngineLacks(f"vectorbt runs signals, and {name} declares none: use the replay engine or backtrader")
        self._terms = Terms("vectorbt", start)
        self._library = _library()
        super().__init__(strategy, start, write)
        self._ahead = self._kept = BarsAhead()

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of vectorbt."""
        return {"vectorbt": self._library.__version__}

    def start(self) -> None:
        """Call on_start. Raises EngineLacks where that orders anything."""
        super().start()
        if self._context.outbox:
            raise EngineLacks("vectorbt knows signals alone: nothing can be ordered or asked for in on_start")
        if overrides(type(self.strategy), "on_bar"):
            self._context.log("WARNING", "vectorbt trades by signals() alone: on_bar is not called")

    def warm_up(self, bars: ReplayBars) -> None:
        """Keep bars from before the run, where the strategy wants them."""
        if self.strategy.warmup_bars > 0:
            self._kept.add(bars)

    def play_kept(self, pause: Pause) -> None:
        """Run on all bars."""
        self._ahead = None
        columns = self._kept.columns(self._start.instruments, self.timeframe)
        if not columns:
            return
        bars, begin = columns[0], self._kept.warmup_count()
        signals = checked(self.strategy.signals(bars), bars)
        pause()
        if begin < len(bars):
            self._run(bars, begin, self._orders(bars, signals, begin), pause)

    def _run(self, bars: Bars, begin: int, orders: Orders, pause: Pause) -> None:
        terms = self._terms
        close, opening = bars.close[begin:], bars.open[begin:]
        portfolio = self._library.Portfolio.from_signals(
            close,
            entries=orders.entries,
            exits=orders.exits,
            short_entries=orders.short_entries,
            short_exits=orders.short_exits,
            size=orders.sizes,
            price=opening,
            fees=float(terms.fee),
            slippage=float(terms.slippage),
            init_cash=float(terms.cash),
            accumulate=False,
            allow_partial=False,
            lock_cash=True,
            upon_long_conflict="exit",
            upon_short_conflict="exit",
            upon_dir_conflict="long",
            upon_opposite_entry="ignore",
            engine="rust",
        )
        records = portfolio.order_records
        self._first_open = float(opening[0])
        self._desk.closes[0] = float(close[-1])
        times, volumes = bars.time_ns[begin:].tolist(), bars.volume[begin:]
        fields = (records[name].tolist() for name in ("idx", "side", "price", "size", "fees"))
        for number, (row, side, price, size, fee) in enumerate(zip(*fields, strict=True), start=1):
            if not number % _BOOKED_AT_ONCE:
                pause()
            terms.note_volume(size, float(volumes[row]))
            self._desk.book(terms.fill(number, Side.SELL if side else Side.BUY, price, size, fee, times[row]))
        self.times_ns.extend(time_ns + self._bar_ns for time_ns in times)
        self.equity.frombytes(portfolio.value(engine="rust").to_numpy().tobytes())
        self._tell(orders, records, has_volume=bool(volumes.any()))

    def _tell(self, orders: Orders, records: Any, *, has_volume: bool) -> None:
        """Write what was refused, and where the run was kinder than ours."""
        import numpy as np

        signed = np.zeros(len(orders.sizes))
        signed[records["idx"]] = np.where(records["side"] == 1, -records["size"], records["size"])
        held_before = np.concatenate(([0.0], np.cumsum(signed)[:-1]))
        wanted = (orders.entries | orders.short_entries) & (np.abs(held_before) < 1e-9 * orders.sizes) & (signed == 0)
        refused = int(wanted.sum())
        lines = [f"{refused:,} entries were refused: the cash did not suffice"] if refused else []
        for line in (*lines, *self._terms.reservations(has_volume=has_volume)):
            self._context.log("WARNING", line)

    def _orders(self, bars: Bars, signals: Signals, begin: int) -> Orders:
        """Give what the signals ask for, a bar later; entries that break the instrument's rules are left out."""
        import numpy as np

        def later(column: Any) -> Any:
            moved = np.zeros(len(bars) - begin, column.dtype)
            moved[1:] = column[begin:-1]
            return moved

        shorts = signals.short_entries
        if not self._start.allow_short and shorts.any():
            self._context.log("WARNING", "entries short are left out: this run sells nothing short")
            shorts = np.zeros_like(shorts)
        sizes, allowed = _lots(self._terms.instrument, signals.sizes, bars.close, signals.entries | shorts)
        if refused := int(((signals.entries | shorts) & ~allowed)[begin:].sum()):
            text = f"{refused:,} entries are left out: their size breaks the rules of {self._terms.instrument.id}"
            self._context.log("WARNING", text)
        return Orders(
            later(signals.entries & allowed),
            later(signals.exits),
            later(shorts & allowed),
            later(signals.short_exits),
            np.maximum(later(sizes), 0.0),
        )


def _lots(instrument: Instrument, sizes: Floats, closes: Floats, wanted: Booleans) -> tuple[Floats, Booleans]:
    """Give sizes in whole lots, and which of the wanted ones the instrument's rules allow at their close."""
    import numpy as np

    rows = np.flatnonzero(wanted)
    lots, allowed = np.zeros(len(sizes)), np.zeros(len(sizes), np.bool_)
    rounded: dict[float, Decimal] = {}
    for row, size, close in zip(rows.tolist(), sizes[rows].tolist(), closes[rows].tolist(), strict=True):
        quantity = rounded.get(size)
        if quantity is None:
            quantity = rounded[size] = instrument.round_quantity(to_decimal(size))
        lots[row] = quantity
        allowed[row] = _is_allowed(instrument, quantity, close)
    return lots, allowed


def _is_allowed(instrument: Instrument, quantity: Decimal, close: float) -> bool:
    most = instrument.max_quantity
    if not quantity or (most is not None and quantity > most):
        return False
    try:
        return quantity >= smallest_quantity(instrument, to_decimal(close))
    except InvalidOrder:  # no price that anything could be worth
        return False


def _library() -> Any:
    """Give vectorbt. Raises EngineLacks, with how to get it, where it is not there."""
    if vectorbt_library.missing:
        raise EngineLacks(vectorbt_library.missing)
    return vectorbt_library.library


RUN = VectorbtRun
