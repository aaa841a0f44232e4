"""Bars, trades, quotes and books a second through the matching engine, and orders a second.

    python -m tests.bench.matching [--events 100000] [--json]

Each kind of event is fed to an engine with no open order, and with 1, 10 and 100 limit orders that rest away from the
market. The ratio is to a bare loop in the same run that hands the same data to a method that does nothing: compare
ratios, because machines differ. `inside` has the orders rest within the levels that books display, where their place in
the queue is followed. `orders` are market orders of one level, accepted and filled.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Book, BookLevel, Quote, Side, Trade
from koc_qt.domain.matching import FillModel, MatchingEngine
from koc_qt.domain.orders import Order, OrderRequest, OrderType
from koc_qt.domain.state import Balance

BTC = InstrumentId("sim", "BTC/USDT")
CENT = Decimal("0.01")
LEVELS = 20
RESTING = (0, 1, 10, 100)
REPEATS = 3  # the fastest counts: what else the machine does only ever slows it down


class Idle:
    """Takes events and does nothing."""

    def on_event(self, event: object) -> object:
        """Take one event."""
        return event


def make_engine() -> MatchingEngine:
    """Make an engine with one instrument and money enough."""
    instrument = Instrument(BTC, "BTC", "USDT", CENT, Decimal("0.001"), taker_fee=Decimal("0.001"))
    balances = [Balance("USDT", Decimal(10) ** 15), Balance("BTC", Decimal(10) ** 9)]
    return MatchingEngine([instrument], balances, FillModel(), "bench", random.Random(1))


def walk(count: int) -> list[int]:
    """Give a random walk around 60,000.00, in cents."""
    rng = random.Random(1)
    cents = 6_000_000
    path = []
    for _ in range(count):
        cents += rng.choice((-3, -2, -1, 0, 1, 2, 3)) + (6_000_000 - cents) // 10_000
        path.append(cents)
    return path


def price(cents: int) -> Decimal:
    """Give cents as a price."""
    return Decimal(cents) * CENT


def make_events(kind: str, path: Sequence[int]) -> list[Any]:
    """Give one event for each step of the walk."""
    size = Decimal("1.5")
    if kind == "bars":
        return [
            Bar(BTC, "1m", at, c / 100, (c + 9) / 100, (c - 9) / 100, (c + 1) / 100, 12.5) for at, c in enumerate(path)
        ]
    if kind == "trades":
        return [Trade(BTC, at, price(c), size, Side.BUY if c % 2 else Side.SELL, "t") for at, c in enumerate(path)]
    if kind == "quotes":
        return [Quote(BTC, at, price(c - 1), size, price(c + 1), size) for at, c in enumerate(path)]

    def side(cents: int, sign: int) -> tuple[BookLevel, ...]:
        return tuple(BookLevel(price(cents + sign * step), size) for step in range(1, LEVELS + 1))

    return [Book(BTC, at, side(c, -1), side(c, +1)) for at, c in enumerate(path)]


def make_order(key: str, side: Side, limit: Decimal | None) -> Order:
    """Make an order of 0.5."""
    kind = OrderType.MARKET if limit is None else OrderType.LIMIT
    request = OrderRequest(BTC, side, kind, Decimal("0.5"), limit)
    return Order(key, "bench", "bench", request, created_ns=0, updated_ns=0)


def handler(engine: MatchingEngine, kind: str) -> Callable[[Any], object]:
    """Give the engine's method for a kind of event."""
    return {"bars": engine.on_bar, "trades": engine.on_trade, "quotes": engine.on_quote, "books": engine.on_book}[kind]


def rest(engine: MatchingEngine, count: int, distance: int) -> None:
    """Let orders rest on both sides, from `distance` cents off the market outwards."""
    for number in range(count):
        side = Side.SELL if number % 2 else Side.BUY
        limit = price(6_000_000 + (-side.sign) * (distance + number // 2))
        engine.submit(make_order(f"r{number}", side, limit), 0)


def fastest_ns(feed: Callable[[Any], object], events: Sequence[Any]) -> float:
    """Give nanoseconds an event, the fastest of a few rounds."""
    best = float("inf")
    for _ in range(REPEATS):
        began = time.perf_counter_ns()
        for event in events:
            feed(event)
        best = min(best, (time.perf_counter_ns() - began) / len(events))
    return best


def measure(count: int) -> dict[str, dict[str, float]]:
    """Measure everything; each row has events a second, nanoseconds an event and the ratio to the bare loop."""
    rows: dict[str, dict[str, float]] = {}
    path = walk(count)
    for kind in ("bars", "trades", "quotes", "books"):
        # books stand still but for a cent, so that orders within their levels are not crossed
        events = make_events(kind, path if kind != "books" else [6_000_000 + at % 2 for at in range(count // 10)])
        bare_ns = fastest_ns(Idle().on_event, events)
        cases = [(f"{kind}, {resting} resting", resting, 5_000_000) for resting in RESTING]
        if kind == "books":
            cases += [(f"{kind}, {resting} resting inside", resting, 3) for resting in (10, 100)]
        for name, resting, distance in cases:
            engine = make_engine()
            feed = handler(engine, kind)
            feed(events[0])
            rest(engine, resting, distance)
            taken_ns = fastest_ns(feed, events)
            if len(engine.open_orders) != resting:
                raise RuntimeError(f"{name}: {len(engine.open_orders)} orders rest")
            rows[name] = row(taken_ns, bare_ns)
    rows["orders"] = row(*order_ns(count // 10))
    return rows


def order_ns(count: int) -> tuple[float, float]:
    """Give nanoseconds a market order, accepted and filled, with a quote before each; then those of the bare loop."""
    orders = [make_order(f"o{number}", Side.BUY, None) for number in range(count)]
    quotes = make_events("quotes", [6_000_000 + 5 * (at % 2) for at in range(count)])  # each one brings new size
    engine, idle = make_engine(), Idle()
    began = time.perf_counter_ns()
    for quote, order in zip(quotes, orders, strict=True):
        engine.on_quote(quote)
        if len(engine.submit(order, quote.time_ns)) != 2:
            raise RuntimeError("an order was not accepted and filled at once")
    ended = time.perf_counter_ns()
    for quote, order in zip(quotes, orders, strict=True):
        idle.on_event(quote)
        idle.on_event(order)
    return (ended - began) / count, (time.perf_counter_ns() - ended) / count


def row(taken_ns: float, bare_ns: float) -> dict[str, float]:
    """Give the figures of one case."""
    return {"per_second": round(1e9 / taken_ns), "ns": round(taken_ns), "ratio": round(taken_ns / bare_ns, 1)}


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    gc.disable()
    rows = measure(options.events)
    if options.json:
        print(json.dumps(rows))
        return
    print(f"{'':32}{'a second':>12}{'ns each':>10}{'bare loop x':>13}")
    for name, figures in rows.items():
        print(f"{name:32}{figures['per_second']:>12,.0f}{figures['ns']:>10,.0f}{figures['ratio']:>13}")


if __name__ == "__main__":
    main(sys.argv[1:])
