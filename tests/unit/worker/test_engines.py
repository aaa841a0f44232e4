"""vectorbt and backtrader held against the replay engine, trade by trade, and what they refuse."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import EngineLacks, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.sdk import Bar, Bars, OrderHandle, Signals, Strategy
from koc_qt.sdk.channel import ReplayBars
from koc_qt.sdk.indicators import SMA
from koc_qt.worker.engines import backtrader as _backtrader  # noqa: F401 (as its process does, before any strategy)
from koc_qt.worker.engines import backtrader_library, run_class, vectorbt_library
from koc_qt.worker.engines import vectorbt as _vectorbt  # noqa: F401
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.replay import Replay
from tests.conditions import PATIENCE
from tests.unit.sdk.desk import BTC, MINUTE_NS, OTHER
from tests.unit.worker.replays import SINCE_NS, bars, flat, start_replay, walk

OTHERS = (Engine.VECTORBT, Engine.BACKTRADER)
SAMPLES = Path(__file__).parents[3] / "strategies"
MARKETS = Path(__file__).parents[4] / "shared" / "market_data"

pytestmark = pytest.mark.timeout(240)  # the libraries take seconds to load, on a busy machine many


class Ran:
    """A run on one engine, from start to end."""

    def __init__(self, engine: Engine, strategy: Strategy, *messages: ReplayBars, **options: Any) -> None:
        self.lines: list[str] = []
        self.strategy = strategy
        self.pauses = 0
        start = start_replay(engine=engine, **{"volume_fraction": None, "cash": Decimal(10**6)} | options)
        self.run: Replay = run_class(engine, type(strategy))(
            strategy, start, lambda _, level, text: self.lines.append(text)
        )
        self.run.start()
        for message in messages:
            if message.warmup:
                self.run.warm_up(message)
            else:
                self.run.play(message, self._pause)
        self.run.play_kept(self._pause)
        self.run.finish()

    def _pause(self) -> int:
        self.pauses += 1
        return 100

    @property
    def fills(self) -> list[tuple[Any, ...]]:
        return [(fill.time_ns, fill.side, fill.price, fill.quantity, fill.fee) for fill in self.run.fills]

    @property
    def minutes(self) -> list[tuple[str, int]]:
        return [(str(fill.side), (fill.time_ns - SINCE_NS) // MINUTE_NS) for fill in self.run.fills]


def same(
    make: Callable[[], Strategy], *messages: ReplayBars, engines: Sequence[Engine] = OTHERS, **options: Any
) -> Ran:
    """Hold that engines give what ours gives: fills, trades and curve; give ours."""
    ours = Ran(Engine.REPLAY, make(), *messages, **options)
    trips = ours.run.trips.trips(ours.run.marks)
    for engine in engines:
        theirs = Ran(engine, make(), *messages, **options)
        assert theirs.fills == ours.fills, engine
        assert theirs.run.trips.trips(theirs.run.marks) == trips, engine
        assert theirs.run.times_ns == ours.run.times_ns
        assert np.allclose(theirs.run.equity, ours.run.equity, rtol=1e-12, atol=0.0)
        assert theirs.run.prices == ours.run.prices
        assert theirs.run.traded == pytest.approx(ours.run.traded, rel=1e-12)
        assert theirs.pauses
        assert set(theirs.run.versions) == {engine.value}
    return ours


class Cross(Strategy):
    """Cross two averages of closes; on a grid of cents they tie again and again."""

    size: Any = 1.5

    def signals(self, bars: Bars) -> Signals:
        fast, slow = bars.column(SMA(4)), bars.column(SMA(12))
        return Signals(fast > slow, fast < slow, self.size, fast < slow, fast > slow)


class Drawn(Strategy):
    """Signal at random, all four at once."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def signals(self, bars: Bars) -> Signals:
        rng, often = np.random.default_rng(self.seed), (0.5, 0.1, 0.9, 0.02)[self.seed % 4]
        columns = [rng.random(len(bars)) < often for _ in range(4)]
        return Signals(columns[0], columns[1], rng.random(len(bars)) * 3 + 1e-5, columns[2], columns[3])


class Asks(Strategy):
    """Does at each bar what a test says."""

    def __init__(self, *actions: Callable[[Strategy], object]) -> None:
        self.actions = list(actions)
        self.heard: list[tuple[str, str]] = []
        self.seen: list[tuple[Decimal, Decimal]] = []

    def on_bar(self, bar: Bar) -> None:
        self.seen.append((self.position().quantity, self.cash()))
        if self.actions:
            self.actions.pop(0)(self)

    def on_order(self, order: OrderHandle) -> None:
        self.heard.append((str(order.status), order.reason))


def idle(strategy: Strategy) -> None:
    """Do nothing at a bar."""


# ---- the same trades


def test_signals_trade_the_same_on_all_engines_with_ties_and_warm_up() -> None:
    candles = [(a, b + 1, c - 1, round(close * 2) / 2) for a, b, c, close in walk(1_500)]
    columns = Bars(BTC.id, "1m", range(1_500), *zip(*((*candle, 1.0) for candle in candles), strict=True))
    assert (columns.column(SMA(4)) == columns.column(SMA(12))).sum() > 20
    parts = [bars(candles[:500]), bars(candles[500:], first=500)]
    assert len(same(Cross, *parts).fills) > 200

    class Warm(Cross):
        warmup_bars = 12

    same(Warm, bars(candles[:12], first=-12, warmup=True), bars(candles[12:700]))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cash", [250, 10**6], ids=["scarce", "plenty"])
def test_signals_of_every_kind_at_once_trade_the_same(seed: int, cash: int) -> None:
    rng = random.Random(seed)
    gaps = [(round(a + rng.gauss(0, 0.3), 2), high + 2, low - 2, close) for a, high, low, close in walk(300, seed)]
    candles = walk(300, seed) if seed % 2 else gaps
    fee = Decimal(0) if seed == 3 else Decimal("0.001")
    same(lambda: Drawn(seed), bars(candles), cash=Decimal(cash), fee=fee)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_runs_of_hardly_any_bars(count: int) -> None:
    same(lambda: Drawn(2), bars(walk(count)))


def test_a_run_without_bars_ends_in_peace() -> None:
    for engine in OTHERS:
        ran = Ran(engine, Cross(), bars(flat(1.0), first=-1, warmup=True))
        assert not ran.fills
        assert list(ran.run.equity) == [1e6]
        assert ran.run.prices is None


def test_a_class_that_is_called_bar_by_bar_trades_the_same_on_backtrader() -> None:
    source = (SAMPLES / "sma_cross.py").read_bytes()
    try:
        made = load_strategy(source, "sma_cross.py")
        ours = same(made, bars(walk(1_500)), engines=[Engine.BACKTRADER])
        assert len(ours.fills) > 50
    finally:
        sys.modules.pop("koc_strategy", None)


def test_a_strategy_hears_the_same_from_backtrader() -> None:
    actions = (
        lambda s: (s.buy(2), s.sell(1), s.cancel(s.buy(5))),
        lambda s: s.sell(3),
        lambda s: (s.close_position(), s.close_position()),
        lambda s: s.buy("0.000001", reduce_only=True) if s.position().quantity < 0 else None,
        lambda s: s.sell(10**9),
    )
    runs = [
        Ran(engine, Asks(*actions), bars(walk(12)), fee=Decimal("0.001"))
        for engine in (Engine.REPLAY, Engine.BACKTRADER)
    ]
    ours, theirs = runs
    assert theirs.fills == ours.fills
    assert len(ours.fills) > 3
    assert theirs.strategy.seen == ours.strategy.seen  # type: ignore[attr-defined]
    heard, expected = ([status for status, _ in run.strategy.heard] for run in (theirs, ours))  # type: ignore[attr-defined]
    assert heard == expected


def test_a_cancel_that_comes_too_late_is_refused_by_backtrader_too() -> None:
    class Late(Asks):
        def on_order(self, order: OrderHandle) -> None:
            super().on_order(order)
            if str(order.status) == "filled":
                self.cancel_all()  # the other one is filled as well, and not told of yet

    buys = lambda s: (s.buy(1), s.buy(2))  # noqa: E731
    ours, theirs = (Ran(engine, Late(buys), bars(walk(6))) for engine in (Engine.REPLAY, Engine.BACKTRADER))
    assert theirs.fills == ours.fills
    assert theirs.strategy.heard == ours.strategy.heard  # type: ignore[attr-defined]


def test_a_coroutine_trades_the_same_on_backtrader() -> None:
    class Script(Strategy):
        async def run(self, api: Any, data: Any) -> None:
            for _ in range(30):
                bar = await data.bar()
                order = api.buy(1) if bar.close > bar.open else api.close_position()
                if order is not None and await api.filled(order, timeout=180):
                    await api.sleep(120)
            api.buy(5)

    ours = same(Script, bars(walk(200)), engines=[Engine.BACKTRADER])
    assert len(ours.fills) > 10


@pytest.mark.parametrize(("name", "timeframe"), [("us_GOOG_1d_2004-2013", "1d"), ("fx_EUR-USD_1h_2017-2018", "1h")])
def test_recorded_markets_trade_the_same(name: str, timeframe: str) -> None:
    path = MARKETS / f"{name}.parquet"
    if not path.exists():
        pytest.skip(f"the recorded market {name} is not on this machine")
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(path).to_pydict()
    times = [round(time.timestamp()) * 10**9 for time in columns["timestamp"]]
    prices = [columns[each] for each in ("open", "high", "low", "close", "volume")]
    message = ReplayBars(False, [0] * len(times), times, *prices)
    rules = Instrument(InstrumentId("file", name), "X", "USD", Decimal("0.00001"), Decimal(1))

    class Slow(Cross):
        def signals(self, bars: Bars) -> Signals:
            fast, slow = bars.column(SMA(10)), bars.column(SMA(50))
            return Signals(fast > slow, fast <= slow, 10.0)

    options = {"instruments": (rules,), "timeframe": timeframe, "since_ns": times[0], "fee": Decimal("0.001")}
    assert len(same(Slow, message, **options).fills) > 30


def test_slippage_is_paid_and_the_tick_is_not_kept() -> None:
    options = {"slippage": Decimal("0.001"), "spread": Decimal("0.002"), "fee": Decimal(0)}
    candles = [(100.0, 101.0, 99.0, close) for close in (90.0, 110.0) * 30]
    ours = Ran(Engine.REPLAY, Drawn(0), bars(candles), **options)
    for engine, lines in ((Engine.VECTORBT, 1), (Engine.BACKTRADER, 0)):
        theirs = Ran(engine, Drawn(0), bars(candles), **options)
        assert theirs.fills == ours.fills  # 100 and its share of 0.2 are on the tick
        assert ["rounds no price to the tick" in line for line in theirs.lines] == lines * [True]


# ---- what they cannot do


def test_what_vectorbt_cannot_do_is_refused() -> None:
    class Pair(Cross):
        instruments_wanted = 2

    with pytest.raises(EngineLacks, match="vectorbt runs one symbol here, not 2"):
        Ran(Engine.VECTORBT, Pair(), instruments=(BTC, OTHER))
    with pytest.raises(EngineLacks, match="vectorbt knows no latency, and 5 ms"):
        Ran(Engine.VECTORBT, Cross(), latency_ns=5_000_000)
    with pytest.raises(EngineLacks, match="vectorbt knows no slippage in ticks, and 2"):
        Ran(Engine.VECTORBT, Cross(), slippage_ticks=2)


def test_vectorbt_wants_signals_and_nothing_else() -> None:
    with pytest.raises(EngineLacks, match="vectorbt runs signals, and Asks declares none"):
        Ran(Engine.VECTORBT, Asks(idle))

    class Both(Cross):
        def on_bar(self, bar: Bar) -> None:
            raise AssertionError

    class Early(Cross):
        def on_start(self) -> None:
            self.buy(1)

    assert "on_bar is not called" in Ran(Engine.VECTORBT, Both(), bars(walk(50))).lines[0]
    with pytest.raises(EngineLacks, match="nothing can be ordered or asked for in on_start"):
        Ran(Engine.VECTORBT, Early())


def test_what_a_strategy_raises_comes_out_of_backtrader() -> None:
    class Broken(Strategy):
        def on_bar(self, bar: Bar) -> None:
            if bar.open_time_ns > SINCE_NS + 3 * MINUTE_NS:
                raise ZeroDivisionError("on purpose")

    with pytest.raises(ZeroDivisionError, match="on purpose"):
        Ran(Engine.BACKTRADER, Broken(), bars(walk(9)))


def test_shorts_that_are_not_allowed_and_sizes_against_the_rules_are_left_out() -> None:
    long_only = same(Cross, bars(walk(300)), allow_short=False)
    assert {str(side) for _, side, *_ in long_only.fills[::2]} == {"buy"}
    theirs = Ran(Engine.VECTORBT, Cross(), bars(walk(300)), allow_short=False)
    assert theirs.lines == ["entries short are left out: this run sells nothing short"]

    class Tiny(Cross):
        size = 0.01  # worth 1, of 5 at least

    assert not same(Tiny, bars(walk(300))).fills
    assert "their size breaks the rules of sim:BTC/USDT" in Ran(Engine.VECTORBT, Tiny(), bars(walk(300))).lines[0]

    class Nothing(Cross):
        size = 1e-9  # less than a lot

    assert not same(Nothing, bars(walk(300))).fills


def test_what_the_cash_does_not_suffice_for_is_told() -> None:
    class Rich(Cross):
        size = 1_000.0

    ours = same(Rich, bars(walk(300)), cash=Decimal(1_000))
    assert not ours.fills
    assert "the cash did not suffice" in Ran(Engine.VECTORBT, Rich(), bars(walk(300)), cash=Decimal(1_000)).lines[0]
    theirs = Ran(Engine.BACKTRADER, Rich(), bars(walk(300)), cash=Decimal(1_000))
    assert "insufficient margin" in theirs.lines[0]


def test_a_gap_that_makes_an_order_unpayable_is_told_by_backtrader() -> None:
    candles = [(100.0, 100.0, 100.0, 100.0), (150.0, 150.0, 150.0, 150.0), (150.0, 150.0, 150.0, 150.0)]
    ours, theirs = (
        Ran(engine, Asks(lambda s: s.buy(9)), bars(candles), cash=Decimal(1_000))
        for engine in (Engine.REPLAY, Engine.BACKTRADER)
    )
    assert [quantity for *_, quantity, _ in theirs.fills] == [Decimal("6.66")]
    assert theirs.fills == ours.fills
    assert theirs.strategy.heard == ours.strategy.heard  # type: ignore[attr-defined]
    assert theirs.strategy.heard[-1][0] == "canceled"  # type: ignore[attr-defined]
    assert "insufficient margin" in theirs.strategy.heard[-1][1]  # type: ignore[attr-defined]


def test_fills_beyond_our_share_of_the_volume_are_told_by_vectorbt() -> None:
    message = bars(walk(300), volume=10.0)
    told = Ran(Engine.VECTORBT, Cross(), message, volume_fraction=Decimal("0.1"))
    assert "fills were more than 10 % of their bar's volume" in told.lines[-1]
    without = Ran(Engine.VECTORBT, Cross(), bars(walk(300), volume=0.0), volume_fraction=Decimal("0.1"))
    assert not without.lines
    assert same(Cross, message, engines=[Engine.BACKTRADER], volume_fraction=Decimal("0.1")).fills


def test_a_library_that_is_missing_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for engine, library in ((Engine.VECTORBT, vectorbt_library), (Engine.BACKTRADER, backtrader_library)):
        monkeypatch.setattr(library, "missing", f"{engine} cannot be loaded (no): install it with pip install it")
        with pytest.raises(EngineLacks, match="install it with pip"):
            Ran(engine, Cross())
        monkeypatch.delitem(sys.modules, f"koc_qt.worker.engines.{engine}")
        with pytest.raises(StrategyError, match=f"was not started to run {engine}"):
            run_class(engine, Strategy)


def test_an_engine_that_charges_another_fee_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = Ran(Engine.VECTORBT, Cross(), bars(walk(100)))
    terms = ran.run._terms  # type: ignore[attr-defined]
    terms.fee = Decimal("0.5")
    with pytest.raises(StrategyError, match="cannot be trusted"):
        terms.fill(1, ran.run.fills[0].side, 100.0, 1.0, 0.1, SINCE_NS)


@pytest.mark.parametrize(("engine", "needs"), [("vectorbt", "numba"), ("backtrader", "backtrader")])
def test_a_library_that_cannot_be_loaded_keeps_no_process_from_starting(engine: str, needs: str) -> None:
    code = (
        f"import sys; sys.modules[{needs!r}] = None; import koc_qt.worker.engines.{engine};"
        f"from koc_qt.worker.engines import {engine}_library; print({engine}_library.missing)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60 * PATIENCE
    )
    assert done.stdout.startswith(f"{engine} cannot be loaded (import of {needs} halted")
    assert "install it with pip install" in done.stdout
