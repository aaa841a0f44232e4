"""Bars and runs for tests of back-tests."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from koc_qt.domain.instruments import Instrument
from koc_qt.domain.trips import round_trips
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.replay import Replay
from tests.unit.sdk.desk import BTC, MINUTE_NS, START_NS

Candle = tuple[float, float, float, float]  # open, high, low, close

SINCE_NS = START_NS - START_NS % MINUTE_NS


def flat(*closes: float) -> list[Candle]:
    """Give bars that stand still at a price each."""
    return [(close, close, close, close) for close in closes]


def walk(count: int, seed: int = 1) -> list[Candle]:
    """Give a random walk around 100, on a grid of cents; each bar opens at the last close."""
    rng, price, candles = random.Random(seed), 100.0, []
    for _ in range(count):
        close = round(max(1.0, price + rng.gauss(0, 0.5)), 2)
        high, low = max(price, close) + rng.randrange(30) / 100, min(price, close) - rng.randrange(30) / 100
        candles.append((price, round(high, 2), round(low, 2), close))
        price = close
    return candles


def bars(
    candles: Sequence[Candle], *, first: int = 0, row: int = 0, volume: float = 1e6, warmup: bool = False
) -> ReplayBars:
    """Put candles of one instrument into a message; `first` counts minutes from where the run begins."""
    columns = [list(column) for column in zip(*candles, strict=True)]
    times = [SINCE_NS + (first + number) * MINUTE_NS for number in range(len(candles))]
    return ReplayBars(warmup, [row] * len(candles), times, *columns, [volume] * len(candles))


def together(*parts: ReplayBars) -> ReplayBars:
    """Merge messages of several instruments by time."""
    rows = sorted(
        (
            row
            for part in parts
            for row in zip(
                part.open_time_ns, part.row, part.open, part.high, part.low, part.close, part.volume, strict=True
            )
        ),
        key=lambda row: row[:2],
    )
    times, numbers, *values = (list(column) for column in zip(*rows, strict=True))
    return ReplayBars(parts[0].warmup, numbers, times, *values)


def start_replay(source: str = "", *, instruments: tuple[Instrument, ...] = (BTC,), **changes: Any) -> StartReplay:
    fields: dict[str, Any] = {
        "source": source.encode(),
        "filename": "mine.py",
        "parameters": {},
        "instruments": instruments,
        "timeframe": "1m",
        "since_ns": SINCE_NS,
        "cash": Decimal(10_000),
        "fee": None,
        "slippage": Decimal(0),
        "seed": 1,
        "allow_short": True,
    }
    return StartReplay(**fields | changes)


class Run:
    """A replay and what its strategy wrote."""

    def __init__(self, strategy: Strategy, **options: Any) -> None:
        self.lines: list[tuple[int, str, str]] = []
        self.strategy = strategy
        self.replay = Replay(strategy, start_replay(**options), lambda *line: self.lines.append(line))
        self.closes_seen = 0

    def play(self, *messages: ReplayBars) -> Run:
        """Run from start to end."""
        self.replay.start()
        for message in messages:
            if message.warmup:
                self.replay.warm_up(message)
            else:
                self.replay.play(message, self._seen)
        self.replay.play_kept(self._seen)
        self.replay.finish()
        return self

    def _seen(self) -> int:
        self.closes_seen += 1
        return 1

    @property
    def fills(self) -> list[tuple[str, Decimal, Decimal, int]]:
        """Side, price, quantity and minute of each fill."""
        return [
            (str(fill.side), fill.price, fill.quantity, (fill.time_ns - SINCE_NS) // MINUTE_NS)
            for fill in self.replay.fills
        ]

    def check_money(self) -> None:
        """Hold that the trades earned what the equity shows."""
        trips = round_trips(self.replay.fills, self.replay.marks)
        assert trips == self.replay.trips.trips(self.replay.marks)
        earned = self.replay.equity[-1] - self.replay.equity[0]
        assert abs(sum(trip.pnl for trip in trips) - earned) <= 1e-9 * self.replay.equity[0]
