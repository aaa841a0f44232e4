"""A day of broken connections in minutes: python -m tests.bench.venue_reconnects [--venue kraken] [--hours 24]

The real engine with an account on the simulated exchange and a strategy that keeps orders going (some fill at once,
some wait and are cancelled). Each simulated hour, of which every `--hour-s` seconds are one, the private stream is cut
once (in the middle of a frame every other time), so are the public ones, and an answer to an order is lost with its
connection. In the end every order of the engine is compared with the exchange's: none may be lost, doubled or differ in
what was filled. Memory, file descriptors, tasks and threads of the engine's process are counted after a warm-up of two
hours and at the end, with nothing running. The exit code is 1 where an order is lost, doubled or different.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import sys
import time
from collections import Counter
from decimal import Decimal
from typing import Any

import psutil

from koc_qt.domain.state import VenueState
from tests.bench.latency import wait_for
from tests.bench.venue_common import ACCOUNT, Bench, Peer, add_venue_option, each_venue, venues_here, with_engine
from tests.bench.window_common import load

WARM_UP_HOURS = 2
SETTLE_S = 4.0
Counts = dict[str, float]


def counts() -> Counts:
    """Count what this process holds."""
    gc.collect()
    process = psutil.Process()
    return {
        "memory MiB": process.memory_info().rss / (1 << 20),
        "descriptors": process.num_fds() if hasattr(process, "num_fds") else 0,
        "tasks": len(asyncio.all_tasks()),
        "threads": process.num_threads(),
    }


async def hour(bench: Bench, number: int, seconds: float) -> int:
    """Cut and lose what is cut and lost in an hour; gives how many connections that were."""
    fault = functools.partial(bench.exchange.ask, "fault")
    cuts: int = await fault(method="drop", kind="private", mid_frame=bool(number % 2))
    await asyncio.sleep(seconds / 3)
    await fault(method="lose_answer", what="place", times=1, how="drop")
    await asyncio.sleep(seconds / 3)
    cuts += await fault(method="drop", kind="public", mid_frame=bool(number % 2))
    await asyncio.sleep(seconds / 3)
    return cuts + 1


async def trade(bench: Bench, name: str, hours: int, hour_s: float) -> int:
    """Run the strategy through some hours, and wait until nothing is open; gives how many connections were cut."""

    async def break_things() -> int:
        return sum([await hour(bench, number, hour_s) for number in range(hours)])

    breaking = asyncio.create_task(break_things())
    await bench.run("venue_trader", name, hours * hour_s + 1.0)
    cuts = await breaking
    await wait_for(lambda: bench.engine.store.accounts[ACCOUNT].state is VenueState.CONNECTED)
    await wait_for(lambda: not bench.engine.store.open_orders())
    await bench.engine.orders.settle()
    await asyncio.sleep(SETTLE_S)
    return cuts


def differences(bench: Bench, there: list[dict[str, Any]]) -> list[str]:
    """Compare our orders with the exchange's."""
    ours = {order.client_order_id: order for order in bench.engine.store.recent_orders(1_000_000)}
    ours = {key: order for key, order in ours.items() if order.account_id == ACCOUNT}
    by_venue_id = {order.venue_order_id: order for order in ours.values() if order.venue_order_id}
    found, seen = [], Counter[str]()
    for row in there:
        order = ours.get(row["client_id"]) or by_venue_id.get(row["id"])
        if order is None:
            found.append(f"lost: the exchange's order {row['id']} ({row['client_id']}, {row['status']}) is not ours")
            continue
        seen[order.client_order_id] += 1
        if order.filled_quantity != Decimal(row["filled"]):
            found.append(f"different: {order.client_order_id} filled {order.filled_quantity}, there {row['filled']}")
        if order.is_open or order.status.value != row["status"]:
            found.append(f"different: {order.client_order_id} is {order.status.value}, there {row['status']}")
    for key, times in seen.items():
        if times > 1:
            found.append(f"doubled: {key} is {times} orders at the exchange")
    for key, order in ours.items():
        if key not in seen and order.status.value not in ("rejected",):
            found.append(f"lost: our order {key} ({order.status.value}) is not at the exchange")
    return found


async def measure(bench: Bench, args: argparse.Namespace, verdict: list[int]) -> None:
    """Warm up, count, go through the day, count again."""
    await trade(bench, "warm-up", WARM_UP_HOURS, args.hour_s)
    before = counts()
    began_s = time.monotonic()
    cuts = await trade(bench, "day", args.hours, args.hour_s)
    after = counts()
    there = await bench.exchange.ask("orders")
    found = differences(bench, there)
    for line in found[:20]:
        print(f"  {line}")
    kinds = Counter(line.partition(":")[0] for line in found)
    wrong = ", ".join(f"{name} {kinds[name]}" for name in ("lost", "doubled", "different"))
    held = "   ".join(f"{name} {before[name]:.0f} -> {after[name]:.0f}" for name in before)
    what = f"{len(there)} orders, {sum(row['fills'] for row in there)} fills, {cuts} connections cut"
    took_s = time.monotonic() - began_s
    print(f"{bench.venue:9} {args.hours} h in {took_s:.0f} s: {what}; {wrong}; {held}", flush=True)
    verdict.append(1 if found else 0)


def run() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_venue_option(parser)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--hour-s", type=float, default=6.0, help="how many seconds an hour takes")
    args = parser.parse_args()
    if args.venue is None:
        same = ["--hours", str(args.hours), "--hour-s", str(args.hour_s)]
        return each_venue("tests.bench.venue_reconnects", same, venues_here())
    print(load())
    verdict: list[int] = []
    with Peer("tests.bench.venue_exchange", "--venue", args.venue) as exchange:
        with_engine(args.venue, exchange, functools.partial(measure, args=args, verdict=verdict))
    return verdict[0]


if __name__ == "__main__":
    sys.exit(run())
