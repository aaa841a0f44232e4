"""Runs whose every word is known: what strategies hear, fills, equity and trades, digit for digit, as hashes.

A hash that changes is a back-test that changes. Where that is meant, say in the commit what changed and why.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.orders import Fill
from koc_qt.domain.performance import statistics
from koc_qt.sdk import OrderHandle, Strategy
from koc_qt.sdk.channel import ReplayBars
from koc_qt.sdk.parameters import set_parameters
from koc_qt.sdk.script import Api, Data
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.replay_desk import ReplayDesk
from tests.unit.worker.replays import MINUTE_NS, SINCE_NS, Run, bars, together, walk

STRATEGIES = Path(__file__).parents[3] / "strategies"
FIGURES = ("final_equity", "net_profit", "max_drawdown", "trades", "open_trades", "win_rate", "turnover", "fees")

BTC = Instrument(
    InstrumentId("sim", "BTC/USDT"), "BTC", "USDT", Decimal("0.01"), Decimal("0.001"),
    min_quantity=Decimal("0.001"), min_notional=Decimal(5), maker_fee=Decimal("0.0005"), taker_fee=Decimal("0.001"),
)  # fmt: skip
ETH = Instrument(
    InstrumentId("sim", "ETH/USDT"), "ETH", "USDT", Decimal("0.05"), Decimal("0.01"), taker_fee=Decimal("0.002")
)
STOCK = Instrument(InstrumentId("nyse", "ACME"), "ACME", "USDT", Decimal("0.01"), Decimal(1), max_quantity=Decimal(50))


class Dice(Strategy):
    """Do at each bar what a seeded die says, with every kind of order, and note all that can be asked."""

    busy = 0.5

    def on_start(self) -> None:
        self.notes: list[str] = []
        self.set_timer(420.0)
        self.note("start")

    def note(self, what: str) -> None:
        held = [self.position(rules) for rules in self.instruments]
        figures = [(str(p.quantity), str(p.average_price), str(p.unrealised_pnl), str(p.pnl)) for p in held]
        last = [str(self.last_price(rules)) for rules in self.instruments]
        working = [repr(order) for order in self.open_orders]
        self.notes.append(
            f"{self.time_ns} {what} {figures} {last} {self.cash().normalize()} {working} {self.warming_up}"
        )

    def on_bar(self, bar: Bar) -> None:
        self.note(f"bar {bar!r} {len(self.history(50, instrument=bar.instrument))}")
        dice = self.random
        if dice.random() < self.busy:
            self.place(bar, dice)
        for order in self.open_orders:
            try:
                self.change(order, dice)
            except InvalidOrder as error:
                self.note(f"invalid {error}")
        if dice.random() < 0.05:
            self.close_position(bar.instrument)

    def place(self, bar: Bar, dice: random.Random) -> None:
        kind = dice.choice(("market", "market", "limit", "limit", "stop", "stop-limit"))
        near, size = bar.close * dice.uniform(0.99, 1.01), dice.choice((0.3, 1, 2.5, 7, 30, 400))
        options: dict[str, Any] = {"time_in_force": dice.choice(("gtc", "gtc", "gtc", "ioc", "fok"))}
        if "limit" in kind:
            options["price"] = near
        if "stop" in kind:
            options["stop"] = bar.close * dice.uniform(0.99, 1.01)
        if kind == "limit" and options["time_in_force"] == "gtc":
            options["post_only"] = dice.random() < 0.3
        options["reduce_only"] = dice.random() < 0.2
        try:
            dice.choice((self.buy, self.sell))(size, instrument=bar.instrument, **options)
        except InvalidOrder as error:
            self.note(f"invalid {error}")

    def change(self, order: OrderHandle, dice: random.Random) -> None:
        chance = dice.random()
        if chance < 0.08:
            self.cancel(order)
        elif chance < 0.2 and order.price is not None:
            self.amend(order, price=float(order.price) * dice.uniform(0.99, 1.01))
        elif chance < 0.3:
            self.amend(order, order.quantity * Decimal(dice.choice(("0.5", "2"))))

    def on_order(self, order: OrderHandle) -> None:
        self.note(f"order {order!r} {order.reason} {order.filled} {order.average_price} {order.cancel_requested}")

    def on_fill(self, fill: Fill) -> None:
        self.note(f"fill {fill!r}")

    def on_timer(self) -> None:
        self.note("timer")
        if self.random.random() < 0.5:
            self.cancel_all()

    def on_stop(self) -> None:
        self.note("stop")


class Seldom(Dice):
    busy = 0.04


class Warm(Dice):
    warmup_bars = 5


class Pair(Dice):
    instruments_wanted = 2


class Three(Dice):
    instruments_wanted = 3


class Market(Dice):
    """Trade at the market for the most part, any instrument at the close of any other."""

    instruments_wanted = 2
    busy = 0.4

    def place(self, bar: Bar, dice: random.Random) -> None:
        target, size = dice.choice(self.instruments), dice.choice((0.3, 1, 7, 30, 60, 95, 140))
        if dice.random() < 0.9:
            dice.choice((self.buy, self.sell))(size, instrument=target, reduce_only=dice.random() < 0.2)
        else:
            self.close_position(target)

    def change(self, order: OrderHandle, dice: random.Random) -> None:
        if dice.random() < 0.15:
            self.cancel(order)


class Script(Strategy):
    """Trade as a coroutine that waits for all there is to wait for."""

    async def run(self, api: Api, data: Data) -> None:
        self.notes: list[str] = []
        for number in range(200):
            bar = await data.bar()
            long = await api.history(4, "5m")
            self.notes.append(f"{api.time_ns} {bar!r} {long!r} {api.position().pnl} {data.dropped}")
            order = api.buy(1 + number % 3, price=bar.close * 0.999) if number % 2 else api.sell(2)
            if not await api.filled(order, timeout=180.0):
                api.cancel(order)
            self.notes.append(f"{order!r} {order.average_price} {api.cash().normalize()}")
            await api.sleep(30.0 * (number % 7))


def one(count: int = 400, seed: int = 1, volume: float = 1e6) -> list[ReplayBars]:
    """Give bars of one instrument in messages of odd lengths, with a gap."""
    candles = walk(count, seed)
    cuts = [0, 1, 97, 200, 333, count]
    gap = [0, 0, 0, 25, 25]
    return [
        bars(candles[begin:end], first=begin + late, volume=volume)
        for begin, end, late in zip(cuts, cuts[1:], gap, strict=False)
    ]


def several(rows: int, count: int = 150, volume: float = 1e6) -> list[ReplayBars]:
    """Give bars of several instruments, some of which are missing now and then."""
    messages = []
    for begin in range(0, count, 50):
        parts = []
        for row in range(rows):
            part = bars(walk(50, seed=7 * row + begin), first=begin, row=row, volume=volume)
            kept = [number for number in range(50) if (number * 7 + row) % 11 or not row]
            columns = [[column[number] for number in kept] for column in part_columns(part)]
            parts.append(ReplayBars(False, *columns))
        messages.append(together(*parts))
    return messages


def part_columns(part: ReplayBars) -> list[list[Any]]:
    return [part.row, part.open_time_ns, part.open, part.high, part.low, part.close, part.volume]


def sample(name: str, **parameters: Any) -> Callable[[], Strategy]:
    """Give a file of strategies/, with parameters."""

    def make() -> Strategy:
        strategy = load_strategy((STRATEGIES / f"{name}.py").read_bytes(), f"{name}.py")()
        set_parameters(strategy, parameters)
        strategy.warmup_bars = 0
        return strategy

    return make


def digest(run: Run) -> str:
    """Give the hash of all that came of a run."""
    replay = run.replay
    trips = [
        (t.instrument, t.quantity, t.entry_ns, t.entry_price, t.exit_ns, t.exit_price, t.fees, t.pnl)
        for t in replay.trips.trips(replay.marks)
    ]
    figures = statistics(
        replay.times_ns, replay.equity, replay.trips.trips(replay.marks), fills=0, traded=replay.traded
    )
    parts = [
        list(getattr(run.strategy, "notes", ())),
        run.lines,
        [repr(fill) for fill in replay.fills],
        list(replay.times_ns),
        list(replay.equity),
        repr(trips),
        [figures[name] for name in FIGURES],
        (replay.fill_count, replay.traded, replay.bars, replay.prices, run.closes_seen),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


WARMUP = bars(walk(5, seed=9), first=-5, warmup=True)
LATE = {"latency_ns": 90_000_000_000}
COSTLY = {"slippage": Decimal("0.0007"), "spread": Decimal("0.001"), "slippage_ticks": 3, "fee": Decimal("0.0015")}

RUNS: dict[str, tuple[Callable[[], Strategy], list[ReplayBars], dict[str, Any]]] = {
    "dice": (Dice, one(), {}),
    "dice, little volume": (Dice, one(seed=2, volume=40.0), {}),
    "dice, all of the volume": (Dice, one(seed=3, volume=40.0), {"volume_fraction": Decimal(1)}),
    "dice, no limit of volume": (Dice, one(seed=4, volume=1.0), {"volume_fraction": None}),
    "dice, without volume": (Dice, one(seed=5, volume=0.0), {}),
    "dice, no shorts": (Dice, one(seed=6), {"allow_short": False}),
    "dice, costs": (Dice, one(seed=7), COSTLY),
    "dice, late": (Dice, one(seed=8), LATE),
    "dice, late and little volume, no shorts": (Dice, one(seed=9, volume=60.0), LATE | {"allow_short": False}),
    "seldom": (Seldom, one(seed=10), {"seed": 4}),
    "warm": (Warm, [WARMUP, *one(seed=11)], {}),
    "cold after history": (Dice, [WARMUP, *one(seed=12)], {}),
    "two": (Pair, several(2), {"instruments": (BTC, ETH)}),
    "two, late and costly": (Pair, several(2, volume=80.0), {"instruments": (BTC, ETH), **LATE, **COSTLY}),
    "three on two venues": (Three, several(3), {"instruments": (STOCK, BTC, ETH), "seed": 3}),
    "three, no shorts": (Three, several(3, volume=90.0), {"instruments": (STOCK, BTC, ETH), "allow_short": False}),
    "script": (Script, one(seed=13), {}),
    "script, late": (Script, one(seed=14, volume=20.0), LATE),
    "sma": (sample("sma_cross", fast=3, slow=9), one(seed=15), {}),
    "sma, fees": (sample("sma_cross", fast=5, slow=20), one(seed=16), {"fee": Decimal("0.001")}),
}

HASHES = {
    "dice": "43a1607fc45f96ba",
    "dice, little volume": "2a904784be3f83e7",
    "dice, all of the volume": "858d43a32b3f71a1",
    "dice, no limit of volume": "0d421468b92b1c8d",
    "dice, without volume": "9848c175702afb02",
    "dice, no shorts": "8a09b59ba4a63eda",
    "dice, costs": "1c910e53694a4496",
    "dice, late": "21b228e095ed9857",
    "dice, late and little volume, no shorts": "a770b4ba49425ddc",
    "seldom": "0d92986982a4dab9",
    "warm": "049a17ce144000bd",
    "cold after history": "a62c9f498a2d68f3",
    "two": "a64249a8279d1bff",
    "two, late and costly": "084dd4f6f5a68987",
    "three on two venues": "e0ecc13cb1b0c58b",
    "three, no shorts": "56f701248ee42908",
    "script": "a3bb85b7073cb16c",
    "script, late": "43b95faf51b6a43b",
    "sma": "59e348d547959f70",
    "sma, fees": "f6e3b5e3263312c0",
}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_is_what_it_was(name: str) -> None:
    make, messages, options = RUNS[name]
    options = {"instruments": (BTC,), **options}
    run = Run(make(), **options).play(*messages)
    assert run.replay.fill_count, "a run without a fill shows little"
    assert digest(run) == HASHES[name]


@pytest.mark.parametrize("name", ["dice, little volume", "dice, no shorts", "two, late and costly", "sma, fees"])
def test_a_run_is_that_without_short_cuts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplayDesk, "takes_short_cuts", False)
    test_a_run_is_what_it_was(name)


@pytest.mark.parametrize("seed", range(6))
def test_short_cuts_make_no_difference(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"instruments": ((BTC, ETH), (ETH, BTC))[seed % 2], "seed": seed} | (COSTLY, {})[
        seed // 3
    ]
    messages = several(2, 100, volume=(1e6, 200.0, 40.0)[seed % 3])
    digests = []
    for short_cuts in (True, False):
        monkeypatch.setattr(ReplayDesk, "takes_short_cuts", short_cuts)
        digests.append(digest(Run(Market(), **options).play(*messages)))
    assert digests[0] == digests[1]


@pytest.mark.parametrize("look", [1, 7, 64, 5_000])
def test_the_curve_is_the_same_however_often_somebody_looks_at_it(look: int) -> None:
    run = Run(Dice(), instruments=(BTC,))
    curves: list[list[float]] = []

    def pause() -> int:
        curves.append(list(run.replay.equity))
        assert len(run.replay.times_ns) == len(curves[-1]) == run.replay.bars + 1
        return look

    run.replay.start()
    for message in one():
        run.replay.play(message, pause)
    run.replay.finish()
    assert curves
    assert all(curve == list(run.replay.equity)[: len(curve)] for curve in curves)
    assert list(run.replay.equity) == list(Run(Dice(), instruments=(BTC,)).play(*one()).replay.equity)


def test_a_script_and_its_class_saw_the_market() -> None:
    run = Run(Script(), instruments=(BTC,)).play(*one(seed=13))
    assert run.replay.times_ns[0] == SINCE_NS
    assert (run.replay.times_ns[-1] - SINCE_NS) // MINUTE_NS == 425
