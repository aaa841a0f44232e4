"""Combinations of a strategy that declares signals, through the compiled kernel."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from koc_qt.domain.matching import FillModel
from koc_qt.domain.matching.market import exact_price
from koc_qt.domain.orders import Liquidity
from koc_qt.domain.timeframes import duration_ns
from koc_qt.sdk.channel import StartReplay
from koc_qt.sdk.session import Session
from koc_qt.sdk.signals import Signals, checked
from koc_qt.sdk.strategy import CALLBACKS, Strategy, overrides
from koc_qt.worker import sweep_kernel as kernel_places
from koc_qt.worker.sweep_bars import SweepBars, SweptBars
from koc_qt.worker.sweep_kernel import figures
from koc_qt.worker.sweep_machine import Kernel

Floats = npt.NDArray[np.float64]
Figures = dict[str, float | None]

# What `figures` gives; a sweep that wants more goes through the replay engine.
KNOWN = frozenset(figures([0.0, 1.0, 1.0] + [0.0] * 16, cash=1.0, periods=1, length_ns=0, prices=(1.0, 1.0)) or ())


def suits(strategy: type[Strategy], start: StartReplay, wanted: tuple[str, ...]) -> bool:
    """Whether the kernel can do what a class does: signals and on_start alone, on one instrument, at the next open."""
    own = [callback for callback in (*CALLBACKS, "run") if callback != "on_start" and overrides(strategy, callback)]
    return (
        overrides(strategy, "signals")
        and not own
        and len(start.instruments) == 1
        and start.latency_ns == 0
        and set(wanted) <= KNOWN
    )


class SignalSweep:
    """Evaluates combinations on the same bars; `evaluate` gives None for one that needs the replay engine."""

    def __init__(self, start: StartReplay, timeframe: str, bars: SweepBars, kernel: Kernel, memory_bytes: int) -> None:
        self._start = start
        self._kernel = kernel
        self._memory_bytes = memory_bytes
        self._received = bars
        self._timeframe = timeframe
        self._bar_ns = duration_ns(timeframe)
        self._markets: dict[bool, _Market] = {}  # with warm-up, and without
        self._size = np.zeros(1)
        self._found = np.zeros(kernel_places.FOUND)

    def start(self, strategy: Strategy) -> bool:
        """Call on_start, as a run does; whether it leaves all else to its signals. Raises whatever it raises."""
        start = self._start
        context = _Listener(start.since_ns)
        session = Session(
            strategy,
            context,
            instruments=start.instruments,
            timeframe=self._timeframe,
            cash={start.instruments[0].quote: start.cash},
            seed=start.seed,
        )
        session.start()
        return not context.was_asked and session.next_deadline_ns is None

    def evaluate(self, strategy: Strategy) -> Figures | None:
        """Give the statistics of one combination, started. Raises whatever the strategy does."""
        with_warmup = strategy.warmup_bars > 0
        market = self._markets.get(with_warmup)
        if market is None:
            market = self._markets[with_warmup] = self._market(with_warmup)
        return self._simulate(market, checked(strategy.signals(market.bars), market.bars))

    def _simulate(self, market: _Market, signals: Signals) -> Figures | None:
        if not signals.entries.flags.c_contiguous or not signals.exits.flags.c_contiguous:
            return None
        shorts = signals.short_entries
        has_shorts = bool(shorts[0] if shorts.strides == (0,) else shorts.any())  # the first where all are one
        short_entries = np.ascontiguousarray(signals.short_entries) if has_shorts else signals.entries
        short_exits = np.ascontiguousarray(signals.short_exits) if has_shorts else signals.exits
        if has_shorts and not self._start.allow_short:
            return None
        is_one_size = signals.sizes.strides == (0,)
        sizes = self._size if is_one_size else np.ascontiguousarray(signals.sizes)
        if is_one_size:
            sizes[0] = signals.sizes[0]
        found = self._found
        found.fill(0.0)
        self._kernel.simulate(
            len(market.bars),
            market.first,
            self._bar_ns,
            self._start.since_ns,
            *market.addresses,
            signals.entries.ctypes.data,
            signals.exits.ctypes.data,
            short_entries.ctypes.data,
            short_exits.ctypes.data,
            signals.entries.ctypes.data,
            signals.exits.ctypes.data,
            short_exits.ctypes.data,
            int(has_shorts),
            sizes.ctypes.data,
            0 if is_one_size else 1,
            market.terms.ctypes.data,
            found.ctypes.data,
        )
        return figures(
            found.tolist(),
            cash=float(self._start.cash),
            periods=market.periods,
            length_ns=market.length_ns,
            prices=market.prices,
        )

    def _market(self, with_warmup: bool) -> _Market:
        columns = self._received.columns(warmup=with_warmup)
        instrument = self._start.instruments[0].id
        bars = SweptBars(instrument, self._timeframe, columns, self._kernel, self._memory_bytes)
        return _Market(bars, len(bars) - len(self._received), self._start, self._received.has_volume, self._bar_ns)


class _Listener:
    """Implements sdk.context.Context for on_start: notes whether anything but signals was wanted."""

    def __init__(self, time_ns: int) -> None:
        self.time_ns = time_ns
        self.was_asked = False

    def _asked(self, *_: Any) -> None:
        self.was_asked = True

    submit = cancel = amend = request_history = _asked

    def log(self, level: str, text: str) -> None:
        """Lines are kept by nobody in a sweep."""

    def metric(self, name: str, value: float) -> None:
        """Metrics are for people who watch a strategy live."""


class _Market:
    """What the kernel is told of the market, the same for every combination."""

    def __init__(self, bars: SweptBars, first: int, start: StartReplay, has_volume: bool, bar_ns: int) -> None:
        self.bars, self.first = bars, first
        rules = start.instruments[0]
        model = FillModel(
            slippage_fraction=start.slippage + start.spread / 2,
            slippage_ticks=start.slippage_ticks,
            maker_fee=start.fee,
            taker_fee=start.fee,
        )
        buys = sells = bars.open
        if model.slippage_fraction or model.slippage_ticks:
            opens = [exact_price(price) for price in bars.open.tolist()]  # exactly, as they are rounded to the tick
            buys, sells = (
                np.array([float(model.taker_price(rules, is_buy, price, None)) for price in opens])
                for is_buy in (True, False)
            )
        share = start.volume_fraction if has_volume else None
        room = np.full(len(bars), np.inf) if share is None else bars.volume * float(share)
        self._kept = (bars.time_ns, buys, sells, bars.close, room)
        self.addresses = tuple(column.ctypes.data for column in self._kept)
        end_ns = int(bars.time_ns[-1]) + bar_ns
        self.periods = len(bars) - first
        self.length_ns = end_ns - start.since_ns
        self.prices = float(bars.open[first]), float(bars.close[-1])
        tick = float(rules.tick_size)
        self.terms = np.array(
            [
                float(model.fee_rate(rules, Liquidity.TAKER)),
                float(start.cash),
                float(rules.lot_size),
                float(rules.min_quantity),
                np.inf if rules.max_quantity is None else float(rules.max_quantity),
                float(rules.min_notional),
                float(model.slippage_fraction),
                (model.slippage_ticks + 1) * tick if model.slippage_fraction or model.slippage_ticks else 0.0,
                float(end_ns),
            ]
        )
