"""The record of a back-test: what it is made from, in hashes, and what is refused before a strategy sees it."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import Provenance
from koc_qt.domain.errors import BadBars
from koc_qt.sdk.channel import ReplayBars, ReplayDone, StartReplay
from koc_qt.worker.loader import load_strategy
from koc_qt.worker.record import Outcome, Record
from koc_qt.worker.replay import Replay
from tests.unit.sdk.desk import BTC, MINUTE_NS, OTHER
from tests.unit.worker.replays import SINCE_NS, bars, flat, start_replay, together, walk

TURNS = """
from koc_qt.sdk import Strategy, param

class Turns(Strategy):
    size: float = param(1.0)

    def on_bar(self, bar):
        if self.open_orders or self.warming_up:
            return
        if self.holding(): self.close_position()
        elif bar.close > bar.open: self.buy(self.size)
"""


def run(*messages: ReplayBars, source: str = TURNS, **changes: Any) -> tuple[ReplayDone, list[Any]]:
    start: StartReplay = start_replay(source, **changes)
    strategy = load_strategy(start.source, start.filename)()
    replay = Replay(strategy, start, lambda *_: None)
    record = Record(start, replay.timeframe)
    replay.start()
    for message in messages:
        record.take(message)
        if message.warmup:
            replay.warm_up(message)
        else:
            replay.play(message, lambda: 64)
    replay.finish()
    found = (replay.times_ns, replay.equity, replay.trips.trips(replay.marks), replay.fills, replay.fill_count)
    return record.done(Outcome(*found, replay.traded, replay.prices), {})


def made_of(*messages: ReplayBars, **changes: Any) -> Provenance:
    provenance = run(*messages, **changes)[0].provenance
    assert provenance is not None
    return provenance


def differences(one: Provenance, other: Provenance) -> set[str]:
    return {name for name in Provenance.__struct_fields__ if getattr(one, name) != getattr(other, name)}


def test_the_same_inputs_give_the_same_hashes_however_the_bars_were_cut() -> None:
    candles = walk(300)
    one = made_of(bars(candles[:10], first=-10, warmup=True), bars(candles))
    parts = [bars(candles[k : k + 41], first=k) for k in range(0, 300, 41)]
    again = made_of(bars(candles[:4], first=-10, warmup=True), bars(candles[4:10], first=-6, warmup=True), *parts)
    assert one == again
    assert all(len(getattr(one, name)) == 64 for name in ("data", "strategy", "settings", "result"))
    assert set(one.versions) == {"koc", "python", "numpy", "engine"}
    assert one.versions["engine"] == "replay"


def test_each_hash_is_of_what_it_says() -> None:
    candles = walk(50)
    one = made_of(bars(candles))
    opening, high, low, close = candles[-1]
    assert differences(one, made_of(bars([*candles[:-1], (opening, high + 1, low, close)]))) == {"data"}
    assert differences(one, made_of(bars(candles), source=TURNS + "# more\n")) == {"strategy"}
    assert differences(one, made_of(bars(candles), seed=2)) == {"settings"}
    assert differences(one, made_of(bars(candles), parameters={"size": 1.0})) == {"settings"}
    assert differences(one, made_of(bars(candles), fee=Decimal("0.01"))) == {"settings", "result"}
    assert differences(one, made_of(bars(candles, volume=2e6))) == {"data"}
    assert differences(one, made_of(bars(candles), filename="renamed.py", trace=True)) == set()
    assert differences(one, made_of(bars(candles[:3], first=-3, warmup=True), bars(candles))) == {"data"}


def test_a_changed_bar_that_matters_changes_the_result_too() -> None:
    candles = walk(50)
    bought = next(row for row, (opening, _, _, close) in enumerate(candles) if close > opening) + 1
    opening, high, low, close = candles[bought]
    changed = [*candles[:bought], (opening + 0.01, high + 0.01, low, close), *candles[bought + 1 :]]
    assert differences(made_of(bars(candles)), made_of(bars(changed))) == {"data", "result"}


def test_months_benchmark_and_excursions_are_filled_in() -> None:
    days = 40 * 24 * 60
    candles = walk(120)
    messages = [bars(candles[:60]), bars(candles[60:], first=days)]
    done, trips = run(*messages)
    assert len(done.months) == 2
    assert len(done.benchmark) == len(done.equity) == 121
    assert done.benchmark[0] == 10_000
    assert done.benchmark[-1] == pytest.approx(10_000 * candles[-1][3] / candles[0][0])
    assert trips
    assert all(trip.mae is not None and trip.mae <= 0 <= (trip.mfe or 0.0) for trip in trips)
    assert done.statistics["average_mae"] is not None


def test_several_instruments_have_a_path_each() -> None:
    source = TURNS.replace("size: float", "instruments_wanted = 2\n    size: float").replace(
        "self.holding()", "self.holding(bar.instrument)"
    ).replace("self.close_position()", "self.close_position(bar.instrument)").replace(
        "self.buy(self.size)", "self.buy(self.size, instrument=bar.instrument)"
    )  # fmt: skip
    parts = together(bars(walk(60, seed=1)), bars(walk(60, seed=2), row=1))
    done, trips = run(parts, source=source, instruments=(BTC, OTHER))
    assert {trip.instrument for trip in trips} == {BTC.id, OTHER.id}
    assert all(trip.mae is not None for trip in trips)
    assert done.bars == 60


@pytest.mark.parametrize("messages", [(), (bars(flat(100)),), (bars(flat(100), first=-1, warmup=True),)])
def test_a_run_of_one_bar_or_none_has_results(messages: tuple[ReplayBars, ...]) -> None:
    done, trips = run(*messages)
    assert (done.bars, len(done.equity), len(done.benchmark)) == (sum(not m.warmup for m in messages),) + (
        1 + sum(not m.warmup for m in messages),
    ) * 2
    assert trips == []
    assert done.statistics["sharpe"] is None
    assert msgspec.json.encode(done)


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("candle", "words"),
    [
        ((100, 100, 100, NAN), "open 100, high 100, low 100, close nan, volume 1e+06 are not all numbers"),
        ((NAN, 100, 100, 100), "open nan"),
        ((100, INF, 100, 100), "high inf"),
        ((100, 100, 0, 100), "its low 0 is not above zero"),
        ((100, 101, 99, 102), "open 100 and close 102 are not between low 99 and high 101"),
        ((100, 99, 99, 99), "open 100 and close 99 are not between low 99 and high 99"),
    ],
)
@pytest.mark.parametrize("warmup", [False, True])
def test_a_bar_with_a_hole_in_it_is_named(candle: tuple[float, ...], words: str, warmup: bool) -> None:
    message = bars([*flat(100, 100), candle, *flat(100)], warmup=warmup)  # type: ignore[list-item]
    with pytest.raises(BadBars) as caught:
        Record(start_replay(), "1m").take(message)
    assert str(caught.value).startswith("the bar of sim:BTC/USDT 1m that opens at 2023-11-14 22:15:00 cannot be played")
    assert words in str(caught.value)


def test_volumes_and_times_are_looked_at_too() -> None:
    with pytest.raises(BadBars, match="its volume -1 is below zero"):
        Record(start_replay(), "1m").take(bars(flat(100), volume=-1.0))
    record = Record(start_replay(), "1m")
    record.take(bars(flat(100, 101)))
    with pytest.raises(BadBars, match="opens at 2023-11-14 22:14:00 cannot be played: a bar that opens at 2023-11-14"):
        record.take(bars(flat(100), first=1))
    double = bars(flat(100, 101, 102))
    double.open_time_ns[2] = double.open_time_ns[1]
    with pytest.raises(BadBars, match="a bar that opens at 2023-11-14 22:14:00 came before it"):
        Record(start_replay(), "1m").take(double)
    pair = together(bars(flat(1, 2)), bars(flat(1, 2), row=1))
    both = Record(start_replay(instruments=(BTC, OTHER)), "1m")
    both.take(pair)
    with pytest.raises(BadBars, match="the bar of sim2:BTC/USDT"):
        both.take(together(bars(flat(3), first=2), bars(flat(3), first=0, row=1)))


def test_times_are_those_of_the_run() -> None:
    done, _ = run(bars(flat(100, 101, 102)))
    assert done.equity_ns == [SINCE_NS + minute * MINUTE_NS for minute in range(4)]
