"""The same cross of averages on backtesting.py and backtrader, for tests/bench/replay.py and a Python that has them.

    python replay_rivals.py COUNT

Prints JSON: by name the version, processor seconds of the fastest run, and fills; `missing` lists those that are not
installed. Imports nothing of K.O.C., for the Python that runs it may know nothing of it.
"""

from __future__ import annotations

import importlib
import json
import random
import sys
import time
from datetime import UTC, datetime
from typing import Any

FAST, SLOW, SIZE, FEE, CASH = 10, 50, 0.01, 0.001, 1_000_000.0
REPEATS = 2


def make_rows(count: int) -> list[tuple[float, float, float, float]]:
    """Give open, high, low and close of a random walk around 60,000."""
    rng, price, rows = random.Random(1), 60_000.0, []
    for _ in range(count):
        close = round(price * (1 + rng.gauss(0, 0.0005)), 2)
        rows.append((price, max(price, close) + 1.0, min(price, close) - 1.0, close))
        price = close
    return rows


def frame(rows: list[tuple[float, float, float, float]]) -> Any:
    """Put the bars into what both take."""
    import pandas as pd

    index = pd.date_range(datetime(2020, 1, 1, tzinfo=UTC).replace(tzinfo=None), periods=len(rows), freq="min")
    data = pd.DataFrame(rows, columns=["Open", "High", "Low", "Close"], index=index)
    return data.assign(Volume=1_000.0)


def of_backtesting(data: Any) -> tuple[float, int]:
    """Run backtesting.py; its sizes are whole units, so that the price is a hundredth."""
    from backtesting import Backtest, Strategy  # type: ignore[import-not-found]

    class Cross(Strategy):  # type: ignore[misc]
        def init(self) -> None:
            close = self.data.Close.s
            self.fast = self.I(lambda: close.rolling(FAST).mean(), name="fast")
            self.slow = self.I(lambda: close.rolling(SLOW).mean(), name="slow")

        def next(self) -> None:
            if self.fast[-1] > self.slow[-1]:
                if not self.position:
                    self.buy(size=1)
            elif self.position:
                self.position.close()

    prices = ["Open", "High", "Low", "Close"]
    cheap = data.assign(**{name: data[name] * SIZE for name in prices})
    test = Backtest(cheap, Cross, cash=CASH, commission=FEE)
    began = time.process_time()
    result = test.run()
    seconds = time.process_time() - began
    return seconds, 2 * int(result["# Trades"])


def of_backtrader(data: Any) -> tuple[float, int]:
    """Run backtrader, with everything preloaded and computed at once, which is its fastest way."""
    import backtrader as bt

    filled = []

    class Cross(bt.Strategy):  # type: ignore[misc]
        def __init__(self) -> None:
            self.fast, self.slow = bt.ind.SMA(period=FAST), bt.ind.SMA(period=SLOW)

        def next(self) -> None:
            if self.fast[0] > self.slow[0]:
                if not self.position:
                    self.buy(size=SIZE)
            elif self.position:
                self.close()

        def notify_order(self, order: Any) -> None:
            if order.status == order.Completed:
                filled.append(order.ref)

    cerebro = bt.Cerebro(stdstats=False, runonce=True, preload=True)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    cerebro.adddata(bt.feeds.PandasData(dataname=data))
    cerebro.addstrategy(Cross)
    began = time.process_time()
    cerebro.run()
    return time.process_time() - began, len(filled)


def main() -> None:
    """Measure what is there, and print."""
    data: Any = None
    found: dict[str, Any] = {"missing": []}
    for name, run in (("backtesting", of_backtesting), ("backtrader", of_backtrader)):
        try:
            version = importlib.import_module(name).__version__
        except ImportError:
            found["missing"].append(name)
            continue
        data = frame(make_rows(int(sys.argv[1]))) if data is None else data
        runs = [run(data) for _ in range(REPEATS)]
        found[name] = {"version": version, "seconds": min(runs)[0], "fills": runs[0][1]}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
