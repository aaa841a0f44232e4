"""Sweeps in a worker: what the compiled kernel says is what the replay engine says, and everything else is replayed."""

from __future__ import annotations

import math
import random
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from koc_qt.domain.instruments import Instrument
from koc_qt.sdk.channel import Failed, LoadFailed, ReplayBars, ReplayEnd, SweepLoaded
from koc_qt.sdk.indicators import EMA, MACD, SMA, WMA
from koc_qt.sdk.machine_code import MachineCode
from koc_qt.sdk.signals import Bars
from koc_qt.sdk.sweep_messages import EvaluateTrials, TrialFound
from koc_qt.worker import sweep_kernel
from koc_qt.worker.sweep_bars import SweepBars, SweptBars
from koc_qt.worker.sweep_machine import BadKernelError, Kernel
from koc_qt.worker.sweep_signals import KNOWN
from tests.unit.sdk.desk import BTC, OTHER
from tests.unit.worker.host import in_thread
from tests.unit.worker.replays import bars, together, walk
from tests.unit.worker.sweeps import CROSS, STEPWISE, kernel, start_sweep, sweeping

COUNT = 700
WARMUP = bars(walk(40, 5), first=-40, warmup=True)
CANDLES = walk(COUNT)
MARKET = [WARMUP, bars(CANDLES[:300]), bars(CANDLES[300:], first=300)]

COMBINATIONS: list[dict[str, Any]] = [
    {"fast": fast, "slow": slow, "kind": kind, "short": short, "varying": varying}
    for fast, slow in ((1, 2), (2, 5), (7, 30), (30, 31))
    for kind in ("sma", "ema")
    for short in (False, True)
    for varying in (False, True)
]


def both(messages: list[ReplayBars], *combinations: dict[str, Any], **changes: Any) -> list[TrialFound]:
    """Evaluate with the kernel and by replay, hold that they agree to 1e-9, and give the kernel's."""
    found = []
    for compiled in (True, False):
        with sweeping(start_sweep(CROSS, compiled=compiled, **changes), messages) as sweep:
            assert sweep.ready.is_compiled is compiled
            found.append(sweep.evaluate(*combinations))
    for quick, replayed in zip(*found, strict=True):
        assert (quick.number, quick.state, quick.reason) == (replayed.number, replayed.state, replayed.reason)
        for name, value in quick.statistics.items():
            expected = replayed.statistics[name]
            assert (value is None) is (expected is None), name
            if value is not None and expected is not None:
                assert math.isclose(value, expected, rel_tol=1e-9, abs_tol=1e-9), (quick.number, name)
    return found[0]


def was_compiled(trial: TrialFound) -> bool:
    return set(trial.statistics) == KNOWN


# ---- the kernel and the replay engine


def test_the_kernel_says_what_the_replay_engine_says() -> None:
    found = both(MARKET, *COMBINATIONS)
    assert all(map(was_compiled, found))
    assert len({trial.statistics["final_equity"] for trial in found}) > len(found) // 2
    assert all((trial.statistics["trades"] or 0) > 3 for trial in found)


@pytest.mark.parametrize(
    "rules",
    [
        {"fee": Decimal(0)},
        {"fee": Decimal("-0.0002")},
        {"fee": None},
        {"slippage": Decimal("0.0007"), "spread": Decimal("0.0002")},
        {"slippage_ticks": 3},
        {"since_ns": bars(walk(1)).open_time_ns[0] - 10**12},
    ],
)
def test_fees_and_slippage_are_those_of_the_replay_engine(rules: dict[str, Any]) -> None:
    found = both(MARKET, *COMBINATIONS[::5], **rules)
    assert all(map(was_compiled, found))


@pytest.mark.parametrize("seed", range(4))
def test_markets_that_tie_jump_and_stand_still(seed: int) -> None:
    rng = random.Random(seed)
    candles, price = [], 100.0
    for _ in range(COUNT):
        if rng.random() < 0.3:
            candles.append((price,) * 4)
            continue
        opening = round(price * rng.choice((1, 1, 1.02, 0.98)), 2)
        price = round(opening + rng.choice((-0.01, 0.0, 0.01, 0.5, -0.5)), 2)
        candles.append((opening, max(opening, price), min(opening, price), price))
    both([WARMUP, bars(candles)], *COMBINATIONS[::3])


@pytest.mark.parametrize(
    ("rules", "size", "volume"),
    [
        ({"cash": Decimal(90)}, 1.0, 1e6),  # cannot be paid
        ({"cash": Decimal(101)}, 1.0, 1e6),  # only just, or not any more
        ({}, 300.0, 1_000.0),  # more than the bar's volume allows: filled in parts
        ({"volume_fraction": None}, 300.0, 1_000.0),
        ({}, 1.0, 0.0),  # a series without volume
        ({"latency_ns": 1}, 1.0, 1e6),
        ({"allow_short": False}, 1.0, 1e6),
    ],
)
def test_what_the_kernel_cannot_do_is_replayed(rules: dict[str, Any], size: float, volume: float) -> None:
    messages = [bars(walk(40, 5), first=-40, warmup=True, volume=volume), bars(CANDLES[:200], volume=volume)]
    combinations = [{"fast": 2, "slow": 5, "size": size, "short": short} for short in (False, True)]
    if rules.get("latency_ns"):
        with sweeping(start_sweep(CROSS, **rules), messages) as sweep:
            assert not sweep.ready.is_compiled
        return
    both(messages, *combinations, **rules)


@pytest.mark.parametrize(
    ("source", "parameters", "count"),
    [
        (CROSS, {"fast": 2, "slow": 5, "size": 300.0}, 200),
        (STEPWISE, {"wait": 2, "size": 300.0}, 200),
        (STEPWISE, {"wait": 2, "size": 300.0}, 8),  # fewer bars than the tenths at which a run may be given up
    ],
)
def test_a_run_that_nothing_comes_before_has_the_volume_of_its_bars(
    source: str, parameters: dict[str, Any], count: int
) -> None:
    fills = []
    for share in (Decimal("0.1"), None):
        market = [bars(CANDLES[:count], volume=1_000.0)]
        with sweeping(start_sweep(source, wanted=("fills",), volume_fraction=share), market) as sweep:
            fills.append(sweep.evaluate(parameters)[0].statistics["fills"] or 0)
    limited, whole = fills
    assert limited > 1.5 * whole > 0


@pytest.mark.parametrize("source", [CROSS, STEPWISE])
def test_one_bar_without_volume_before_a_run_says_nothing_of_the_market(source: str) -> None:
    found = []
    for volume in (0.0, 1_000.0):
        before = bars(walk(1, 5), first=-1, warmup=True, volume=volume)
        with sweeping(start_sweep(source, wanted=("fills",)), [before, bars(CANDLES[:200], volume=1_000.0)]) as sweep:
            found.append(sweep.evaluate({"wait": 2, "size": 300.0} if source == STEPWISE else {"size": 300.0}))
    assert found[0][0].statistics["fills"] == found[1][0].statistics["fills"]


@pytest.mark.parametrize(
    "changes",
    [
        {"lot_size": Decimal("0.3")},
        {"lot_size": Decimal("0.000001"), "min_quantity": Decimal("0.5")},
        {"lot_size": Decimal(1), "max_quantity": Decimal(2)},
        {"min_notional": Decimal(100)},
        {"lot_size": Decimal(5)},
    ],
)
def test_lots_and_limits_of_the_instrument(changes: dict[str, Any]) -> None:
    rules: Instrument = msgspec.structs.replace(BTC, **changes)
    combinations = [{"fast": 2, "slow": 5, "size": size, "varying": True} for size in (0.1, 0.3, 1.0, 1.9999999)]
    both(MARKET, *combinations, instruments=(rules,))


def test_the_kernel_is_the_same_compiled_and_not() -> None:
    rng = np.random.default_rng(3)
    count = 400
    opens = np.round(100 + np.cumsum(rng.normal(0, 1, count)), 2)
    closes = np.round(opens + rng.normal(0, 1, count), 2)
    times = np.arange(count, dtype=np.int64) * 60_000_000_000
    room, sizes = np.full(count, np.inf), np.array([1.5])
    flags = [(rng.random(count) < 0.1).astype(np.uint8) for _ in range(4)]
    terms = np.array([0.001, 1e5, 0.1, 0.0, np.inf, 0.0, 0.0, 0.0, float(times[-1] + 60_000_000_000)])
    one, other = np.zeros(sweep_kernel.FOUND), np.zeros(sweep_kernel.FOUND)
    words = [flags[place].view(np.uint64) for place in (0, 1, 3)]
    columns: list[Any] = [times, opens, opens, closes, room, *flags, *words]
    interpreted: Any = sweep_kernel.simulate
    interpreted(count, 5, 60_000_000_000, 0, *columns, 1, sizes, 0, terms, one)
    addresses = [column.ctypes.data for column in columns]
    Kernel(kernel()).simulate(
        count, 5, 60_000_000_000, 0, *addresses, 1, sizes.ctypes.data, 0, terms.ctypes.data, other.ctypes.data
    )
    assert one[sweep_kernel.CLOSED] > 5
    assert np.allclose(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("period", [1, 2, 3, 7, 64, 200, 999])
def test_compiled_averages_are_those_of_the_sdk_bit_for_bit(period: int) -> None:
    received = SweepBars()
    received.add(bars(walk(300, 9)))
    received.settle()
    columns = received.columns(warmup=True)
    swept = SweptBars(BTC.id, "1m", columns, Kernel(kernel()), 10**6)
    for kind in (SMA, EMA):
        indicator = kind(period)
        expected = [indicator.update(close) for close in columns[4].tolist()]
        given = swept.column(kind(period)).tolist()
        assert [None if math.isnan(value) else value for value in given] == expected
        assert swept.column(kind(period=period)).tolist() == pytest.approx(given, nan_ok=True)


def test_columns_are_kept_up_to_a_number_of_bytes() -> None:
    received = SweepBars()
    received.add(bars(walk(100)))
    received.settle()
    swept = SweptBars(BTC.id, "1m", received.columns(warmup=True), Kernel(kernel()), 3 * 800)
    kept = [swept.column(SMA(period)) for period in (2, 3, 4)]
    assert swept.column(SMA(3)) is kept[1]
    swept.column(SMA(5))  # 2 was asked for longest ago
    assert swept.column(SMA(3)) is kept[1]
    assert swept.column(SMA(2)) is not kept[0]
    plain = Bars(BTC.id, "1m", *received.columns(warmup=True))
    for indicator, line in ((WMA(4), "value"), (MACD(3, 5, 2), "signal")):
        assert np.array_equal(swept.column(indicator, line), plain.column(indicator, line), equal_nan=True)


def test_machine_code_of_another_machine_is_refused() -> None:
    machine = msgspec.msgpack.decode(kernel(), type=MachineCode)
    for changes, why in (
        ({"processor": "z80"}, "compiled for z80"),
        ({"codes": {}}, "lacks 'simulate'"),
    ):
        with pytest.raises(BadKernelError, match=why):
            Kernel(msgspec.msgpack.encode(msgspec.structs.replace(machine, **changes)))
    with pytest.raises(BadKernelError, match="cannot be read"):
        Kernel(b"\x00nonsense")


# ---- what else goes on in a sweep


def test_refused_raising_and_hopeless_combinations_stop_no_other() -> None:
    with sweeping(start_sweep(STEPWISE), [WARMUP, bars(CANDLES[:300])]) as sweep:
        assert not sweep.ready.is_compiled
        assert sweep.ready.bars == 300
        ok, unlucky, raising, unknown, too_large = sweep.evaluate(
            {"wait": 5}, {"wait": 13}, {"trouble": "raise"}, {"nope": 1}, {"wait": 101}
        )
        assert (ok.state, ok.reason) == ("done", "")
        assert ok.statistics["trades"] == 29
        assert len(ok.equity) == 9
        assert (unlucky.state, unlucky.reason) == ("infeasible", "13 is unlucky (line 11)")
        assert (raising.state, raising.reason) == ("failed", "ValueError: in the middle (line 17)")
        assert unknown.state == too_large.state == "infeasible"
        assert raising.statistics == unlucky.statistics == {}
        [again] = sweep.evaluate({"wait": 5})
        assert msgspec.structs.replace(again, seconds=0.0) == msgspec.structs.replace(ok, seconds=0.0)


def test_signals_that_raise_fail_their_own_combination() -> None:
    source = CROSS.replace("make = SMA", "1 / (self.fast - 4)\n        make = SMA")
    with sweeping(start_sweep(source), MARKET) as sweep:
        good, bad = sweep.evaluate({"fast": 3}, {"fast": 4})
        assert was_compiled(good)
        assert (bad.state, bad.reason) == ("failed", "ZeroDivisionError: division by zero (line 19)")


def test_a_run_below_the_floor_is_given_up() -> None:
    falling = bars([(100 - n * 0.1,) * 4 for n in range(300)])
    with sweeping(start_sweep(STEPWISE, cash=Decimal(1_000)), [WARMUP, falling]) as sweep:
        trial, whole = sweep.evaluate({"wait": 1, "size": 9.0}, floors=[990.0] * 9), sweep.evaluate({"wait": 1})
        assert trial[0].state == "pruned"
        assert trial[0].equity[-1] < 990.0
        assert trial[0].statistics == {}
        assert whole[0].state == "done"


def test_several_instruments_are_replayed_with_bars_that_open_together_kept_together() -> None:
    source = STEPWISE.replace("wait: int", "instruments_wanted = 2\n    wait: int")
    market = together(bars(CANDLES[:95]), bars(walk(95, 8), row=1))
    with sweeping(start_sweep(source, instruments=(BTC, OTHER)), [market]) as sweep:
        [trial] = sweep.evaluate({"wait": 4})
        assert (trial.state, len(trial.equity)) == ("done", 9)


def test_corners_tell_how_much_warm_up_is_wanted() -> None:
    start = start_sweep(CROSS)
    start = msgspec.structs.replace(start, corners=[{"slow": 30}, {"slow": 12}, {"fast": 40, "slow": 41}, {"fast": 99}])
    with sweeping(start, MARKET) as sweep:
        assert sweep.loaded.warmup_bars == 41
        assert sweep.loaded.described.name == "Cross"


@pytest.mark.parametrize(("wanted", "compiled"), [(("return", "max_drawdown"), True), (("sqn",), False)])
def test_statistics_that_the_kernel_does_not_know_are_replayed(wanted: tuple[str, ...], compiled: bool) -> None:
    with sweeping(start_sweep(CROSS, wanted=wanted), MARKET) as sweep:
        assert sweep.ready.is_compiled is compiled
        assert sweep.evaluate({})[0].statistics[wanted[-1]] is not None


def test_a_strategy_that_does_more_than_signal_is_replayed() -> None:
    source = CROSS.replace("self.warmup_bars = self.slow", "self.set_timer(60)")
    with sweeping(start_sweep(source), MARKET) as sweep:
        assert sweep.ready.is_compiled
        assert not was_compiled(sweep.evaluate({})[0])
    with sweeping(start_sweep(CROSS + "    def on_fill(self, fill): ...\n"), MARKET) as sweep:
        assert not sweep.ready.is_compiled


def test_what_cannot_be_loaded_or_has_no_bars_says_so() -> None:
    with in_thread() as host:
        host.send(start_sweep("class Nothing: ...", compiled=False))
        assert "defines no strategy" in host.load_failure().reason
    with in_thread() as host:
        host.send(start_sweep(CROSS, compiled=False))
        host.wait_for(SweepLoaded)
        host.send(WARMUP, ReplayEnd())
        assert host.wait_for(LoadFailed).reason == "there are no bars to run on"
        assert host.finish() == 1


def test_messages_that_do_not_belong_here_end_the_worker() -> None:
    for messages in ((EvaluateTrials([]),), (WARMUP, bars(CANDLES[:20]), ReplayEnd(), ReplayEnd())):
        with in_thread() as host:
            host.send(start_sweep(CROSS, compiled=False))
            host.wait_for(SweepLoaded)
            host.send(*messages)
            assert "cannot understand" in host.wait_for(Failed).reason
            assert host.finish() == 3
