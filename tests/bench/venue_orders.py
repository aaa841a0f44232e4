"""How long orders take to a venue: python -m tests.bench.venue_orders [--venue kraken] [--seconds 10] [--rounds 2]

The real engine (its profile, journal, link, an account added over its commands) with a strategy in its sandboxed
worker, against the simulated exchange in a process of its own, speaking the venue's protocol over TLS. The strategy
stamps its signal, the exchange when the request came, the strategy when it knew the order accepted; one order at a
time, each cancelled. Beside it, in turns, the bare client library's create_order on a warm connection, in a process of
its own with nothing else in it. In each round
    quiet     four quotes a second
    stream    1,000 market messages a second, to the strategy (ours) or to watch loops in the same process (bare)
    waiting   requests of the account wait for its rate limit (bare: quiet, since there nobody waits)
Milliseconds p50 / p99 over all rounds, and ours divided by bare. Limits are a hundred times wider than the venue's.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

from koc_qt.adapters.rate_budget import Priority
from koc_qt.domain.errors import VenueError
from koc_qt.link.messages import LatencyChanged
from tests.bench.venue_common import (
    Bench,
    Peer,
    add_venue_option,
    each_venue,
    p50_p99,
    peers,
    to_wire_ms,
    venues_here,
    with_engine,
)
from tests.bench.window_common import load

QUIET_HZ = 4.0
STREAM_HZ = 700.0  # quotes; with two trades for five of them and the book 1,000 messages
SETTLE_S = 1.5
WAITED_S = 0.1  # what waits so long has waited for its rate limit
WARM_UP = 10  # orders of each phase that do not count
PHASES = ("quiet", "stream", "waiting")
COMPARED = {"waiting": "quiet"}
Found = dict[str, dict[str, list[float]]]  # by "ours quiet" and so on: "wire" and "ack" in ms


class Hog:
    """Uses up an account's room for data, and asks for balances that wait for it."""

    def __init__(self, trading: Any) -> None:
        self._trading = trading
        self.waited = 0

    def _use_up(self) -> None:
        for window in self._trading.budget._windows.values():
            if Priority.DATA in window.span.kinds:
                self._trading.budget.told(window.span.name, round(window.span.limit * 0.7))

    async def _keep_full(self) -> None:
        while True:
            self._use_up()
            await asyncio.sleep(0.2)

    async def _ask(self) -> None:
        while True:
            began_s = time.monotonic()
            with contextlib.suppress(VenueError):
                await self._trading.budget.acquire(Priority.DATA, within_s=2.0)
            self.waited += time.monotonic() - began_s > WAITED_S
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        """Keep requests waiting."""
        tasks = [asyncio.create_task(self._keep_full()), *(asyncio.create_task(self._ask()) for _ in range(3))]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def ours(bench: Bench, phase: str, number: int, args: argparse.Namespace) -> dict[str, list[float]]:
    """Measure the engine."""
    await bench.exchange.ask("rate", hz=STREAM_HZ if phase == "stream" else QUIET_HZ)
    async with contextlib.AsyncExitStack() as stack:
        if phase == "waiting":
            hog = Hog(bench.trading)
            await stack.enter_async_context(hog.at_work())
        rows = await bench.run("venue_probe", f"{phase}-{number}", args.seconds + SETTLE_S, rate=args.rate)
    if phase == "waiting" and not hog.waited:
        print("  no request waited", file=sys.stderr)
    return await figures(bench.exchange, rows)


async def bare(bench: Bench, library: Peer, phase: str, args: argparse.Namespace) -> dict[str, list[float]]:
    """Measure the bare library."""
    await bench.exchange.ask("rate", hz=STREAM_HZ if phase == "stream" else QUIET_HZ)
    rows = await library.ask("orders", seconds=args.seconds, rate=args.rate, stream=phase == "stream")
    return await figures(bench.exchange, rows)


async def figures(exchange: Peer, rows: list[list[int]]) -> dict[str, list[float]]:
    """Put signals and arrivals together."""
    rows = sorted(rows)[WARM_UP:]
    arrivals = await exchange.ask("arrivals")
    return {
        "wire": to_wire_ms([signal_ns for signal_ns, _ in rows], arrivals),
        "ack": [(known_ns - signal_ns) / 1e6 for signal_ns, known_ns in rows],
    }


async def measure(bench: Bench, library: Peer, args: argparse.Namespace, found: Found, stages: dict[str, Any]) -> None:
    """Take turns between ours and bare, so that what else the machine does hits both."""
    bench.engine.bus.subscribe(LatencyChanged, lambda fact: stages.update(latest=fact.latency))
    for number in range(args.rounds):
        for phase in PHASES:
            add(found, f"ours {phase}", await ours(bench, phase, number, args))
            if phase not in COMPARED:
                add(found, f"bare {phase}", await bare(bench, library, phase, args))


def add(found: Found, name: str, figures: dict[str, list[float]]) -> None:
    """Put a round to those before."""
    for what, values in figures.items():
        found.setdefault(name, {}).setdefault(what, []).extend(values)


def report(venue: str, found: Found, stages: dict[str, Any]) -> None:
    """Print a venue's rows."""
    for phase in PHASES:
        cells = []
        for what in ("wire", "ack"):
            own = p50_p99(found[f"ours {phase}"][what])
            floor = p50_p99(found[f"bare {COMPARED.get(phase, phase)}"][what])
            ratio = [f"{mine / theirs:5.2f}" if theirs else "    -" for mine, theirs in zip(own, floor, strict=True)]
            cells.append(f"{own[0]:6.2f} /{own[1]:7.2f} {floor[0]:6.2f} /{floor[1]:7.2f} {ratio[0]} /{ratio[1]}")
        count = len(found[f"ours {phase}"]["wire"])
        print(
            f"{venue:9} {phase:8} {cells[0]}   {cells[1]}   {count:5} {len(found[f'ours {phase}']['ack']):5}",
            flush=True,
        )
    if "latest" in stages:
        parts = [f"{each.stage} {each.p50_ms:.2f}/{each.p99_ms:.2f}" for each in stages["latest"].stages]
        print(f"{venue:9} stages (newest 1,000 orders, ms): {', '.join(parts)}", flush=True)


def head() -> None:
    """Print what the columns are."""
    print(load())
    print(f"{'':18} {'signal -> exchange':^47}   {'signal -> acknowledged':^47}   orders")
    columns = f"{'ours p50/p99':>15} {'bare p50/p99':>15} {'ratios':>12}"
    print(f"{'':18} {columns:47}   {columns:47}   wire   ack", flush=True)


def run() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_venue_option(parser)
    parser.add_argument("--rate", type=float, default=23.7, help="orders a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each phase and round")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    if args.venue is None:
        same = ["--rate", str(args.rate), "--seconds", str(args.seconds), "--rounds", str(args.rounds)]
        return each_venue("tests.bench.venue_orders", same, venues_here())
    head()
    found: Found = {}
    stages: dict[str, Any] = {}
    with peers(args.venue) as (exchange, library):
        with_engine(
            args.venue, exchange, functools.partial(measure, library=library, args=args, found=found, stages=stages)
        )
    report(args.venue, found, stages)
    return 0


if __name__ == "__main__":
    sys.exit(run())
