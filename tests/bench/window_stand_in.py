"""An engine's stand-in behind the real link, in a process of its own, that streams as fast as it is told.

    python -m tests.bench.window_stand_in FOLDER [--rate 20] [--speed 1] [--past 0]

At `--rate` a second and instrument: a quote, a trade and the forming bar of each timeframe that a window asked for;
the pulse of five strategies and of the engine twice a second; a line of log every two seconds; an order that is placed
and filled every five. `--speed` makes an hour of all that pass in less: the clock of the market runs as much faster.
`--past` is how many orders were placed and filled before it began, a second apart.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, Trade
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.domain.state import StrategySpec
from koc_qt.domain.timeframes import SECOND_NS, bar_open_ns, duration_ns
from koc_qt.engine.commands import SNAPSHOT_RECORDS
from koc_qt.link.messages import BarChanged, Command, FetchBars, QuoteChanged, Subscribe, TradePrinted
from koc_qt.link.rendezvous import ProfileLock
from tests.bench.window_common import INSTRUMENTS, say
from tests.fakes.link import FakeEngine, engine_snapshot, serve, strategy_snapshot

HISTORY = 5_000
STRATEGIES = 5
TURN_S = 0.004


class Market:
    """A seeded walk of one instrument, and its bars of whatever timeframes are wanted."""

    def __init__(self, instrument: Instrument, price: float) -> None:
        self.instrument = instrument
        self.price = price
        self.rows: dict[str, list[tuple[int, float, float, float, float, float]]] = {}
        self.forming: dict[str, list[Any]] = {}
        self.trades = 0
        self._chance = random.Random(str(instrument.id))

    def want(self, timeframe: str, now_ns: int) -> None:
        """Begin to make bars, with a past of HISTORY of them."""
        if timeframe in self.rows:
            return
        length_ns, open_ns, price = duration_ns(timeframe), bar_open_ns(now_ns, timeframe), self.price
        rows = []
        for number in range(1, HISTORY + 1):
            before = price * (1 + self._chance.gauss(0, 4e-4))
            high, low = max(price, before) * 1.0002, min(price, before) * 0.9998
            rows.append((open_ns - number * length_ns, before, high, low, price, self._chance.random() * 10))
            price = before
        self.rows[timeframe] = rows[::-1]

    def step(self, now_ns: int, publish: Callable[[Any], None]) -> None:
        """Move, and say so."""
        self.price *= 1 + self._chance.gauss(0, 5e-5)
        self.trades += 1
        tick, quantity = self.instrument.tick_size, Decimal(self._chance.randint(1, 9999)) / 10_000
        key, price = self.instrument.id, Decimal(repr(self.price)).quantize(tick)
        publish(QuoteChanged(Quote(key, now_ns, price, quantity, price + tick, quantity)))
        side = Side.BUY if self._chance.random() < 0.5 else Side.SELL
        publish(TradePrinted(Trade(key, now_ns, price, quantity, side, f"{self.trades}")))
        for timeframe, rows in self.rows.items():
            self._step_bar(timeframe, rows, now_ns, float(quantity), publish)

    def _step_bar(
        self, timeframe: str, rows: list[Any], now_ns: int, volume: float, publish: Callable[[Any], None]
    ) -> None:
        open_ns, price = bar_open_ns(now_ns, timeframe), self.price
        bar = self.forming.get(timeframe)
        if bar is not None and bar[0] != open_ns:
            publish(BarChanged(Bar(self.instrument.id, timeframe, *bar), True))
            rows.append(tuple(bar))
            del rows[: max(0, len(rows) - 2 * HISTORY)]
            bar = None
        if bar is None:
            bar = self.forming[timeframe] = [open_ns, price, price, price, price, 0.0]
        bar[2], bar[3], bar[4], bar[5] = max(bar[2], price), min(bar[3], price), price, bar[5] + volume
        publish(BarChanged(Bar(self.instrument.id, timeframe, *bar), False))


class LiveEngine(FakeEngine):
    """A fake engine whose markets move."""

    def __init__(self, speed: float) -> None:
        super().__init__()
        self._began_ns, self._speed = time.time_ns(), speed
        prices = (64_000.0, 3_200.0, 150.0, 60.0)
        self.markets: dict[InstrumentId, Market] = {}
        for text, price in zip(INSTRUMENTS, prices, strict=True):
            key = InstrumentId.parse(text)
            rules = Instrument(key, key.symbol.partition("/")[0], "USDT", Decimal("0.01"), Decimal("0.0001"))
            self.markets[key] = Market(rules, price)
        self.instruments = [market.instrument for market in self.markets.values()]
        self.specs = [
            StrategySpec(f"sma-{number}", "/strategies/sma_cross.py", "paper", (one.id,), "1m", {"fast": 10})
            for number, one in zip(range(1, STRATEGIES + 1), [*self.instruments, *self.instruments], strict=False)
        ]
        self.pulses = 0
        self.pulse_all()

    def now_ns(self) -> int:
        """The market's time."""
        return self._began_ns + round((time.time_ns() - self._began_ns) * self._speed)

    async def execute(self, command: Command, client_id: str) -> Any:
        """Answer with bars of the walk; the rest is the fake engine's."""
        del self.commands[:-100]
        if isinstance(command, Subscribe) and command.instrument in self.markets:
            for timeframe in command.timeframes:
                self.markets[command.instrument].want(timeframe, self.now_ns())
        if isinstance(command, FetchBars) and command.instrument in self.markets:
            market = self.markets[command.instrument]
            market.want(command.timeframe, self.now_ns())
            until_ns = command.until_ns
            rows = [row for row in market.rows[command.timeframe] if until_ns is None or row[0] < until_ns]
            return rows[-command.count :]
        return await super().execute(command, client_id)

    def pulse_all(self) -> None:
        """Tell how the strategies and the engine are."""
        self.pulses += 1
        now_ns = self.now_ns()
        for number, spec in enumerate(self.specs):
            self.show(
                strategy_snapshot(
                    spec.strategy_id,
                    spec=spec,
                    pnl=Decimal(self.pulses % 1000 - 500) / 10 + number,
                    ticks=self.pulses * 40,
                    rate_hz=40.0,
                    trades=self.pulses // 10,
                    cpu_percent=0.5 + number / 10,
                    heartbeat_age_s=0.1,
                    metrics={"signal": float(self.pulses % 7)},
                    time_ns=now_ns,
                )
            )
        self.engine = engine_snapshot(
            uptime_s=self.pulses / 2,
            pnl=Decimal(self.pulses % 1000 - 500) / 2,
            time_ns=now_ns,
            started_ns=self._began_ns,
        )
        self.pulse()

    def remember(self, count: int) -> None:
        """Have traded before."""
        self.recent = SNAPSHOT_RECORDS
        for number in range(count):
            self.trade(self._began_ns - (count - number) * SECOND_NS)

    def trade(self, now_ns: int | None = None) -> None:
        """Have a strategy buy or sell something."""
        number = len(self.orders)
        spec = self.specs[number % len(self.specs)]
        market = self.markets[spec.instruments[0]]
        side = Side.BUY if number % 2 else Side.SELL
        order = self.place(OrderRequest(spec.instruments[0], side, OrderType.MARKET, Decimal("0.1")))
        now_ns = self.now_ns() if now_ns is None else now_ns
        self.orders[order.client_order_id] = msgspec.structs.replace(
            order, strategy_id=spec.strategy_id, created_ns=now_ns, updated_ns=now_ns
        )
        self.fill(order.client_order_id, f"{market.price:.2f}")


async def stream(engine: LiveEngine, rate_hz: float, speed: float, stop: asyncio.Event) -> None:
    """Publish what is due, until told to stop. What a busy machine delayed is caught up with."""
    markets = list(engine.markets.values())
    steps_hz = rate_hz * speed * len(markets)
    began, steps, half_seconds = time.monotonic(), 0, 0
    while not stop.is_set():
        elapsed_s = time.monotonic() - began
        now_ns = engine.now_ns()
        while steps < elapsed_s * steps_hz:
            markets[steps % len(markets)].step(now_ns, engine.publish)
            steps += 1
        while half_seconds < elapsed_s * speed * 2:
            half_seconds += 1
            engine.pulse_all()
            if half_seconds % 4 == 0:
                engine.log(f"line {half_seconds // 4} of what an engine has to say about its day")
            if half_seconds % 10 == 0:
                engine.trade()
        await asyncio.sleep(TURN_S)
    say("sent", steps=steps)


async def run(folder: Path, rate_hz: float, speed: float, past: int) -> None:
    """Serve until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    (folder / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = LiveEngine(speed)
    engine.remember(past)
    with ProfileLock(folder / "run" / "engine.lock"):
        async with serve(folder, engine):
            say("ready")
            await stream(engine, rate_hz, speed, stop)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=float, default=20.0)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--past", type=int, default=0)
    args = parser.parse_args()
    asyncio.run(run(args.folder, args.rate, args.speed, args.past))


if __name__ == "__main__":
    main()
