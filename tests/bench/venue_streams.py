"""How long the market takes to a strategy: python -m tests.bench.venue_streams [--venue kraken] [--seconds 8]

The simulated exchange, in a process of its own, puts 100, 1,000 and 5,000 messages a second into its public streams:
trades, quotes, the book. `ours` is from there to on_trade of a strategy in its worker, through the adapter, the engine
and the pipe; `bare` to where ccxt.pro's watch_trades returns (alpaca-py: the handler), watching the same streams in a
process with nothing else in it. Milliseconds p50 / p99 of the trades among them. Then what was sent in all, how many
trades of it were sent and heard a second (ours, bare; about the same where none are lost), and the engine's processor.
"""

from __future__ import annotations

import argparse
import functools
import sys
from typing import Any

from tests.bench.venue_common import Bench, Peer, add_venue_option, each_venue, p50_p99, peers, venues_here, with_engine
from tests.bench.window_common import cpu_s, load

RATES = (100, 1_000, 5_000)
TRADES_PER_QUOTE = 0.4
BOOKS_HZ = 10.0
WARM_UP_S = 1.5
SAYS_HZ = 300.0  # trades of which a strategy says when they came
Row = dict[str, float]


def every(rate: int) -> int:
    """Give which part of the trades is told: a strategy may not write more."""
    return max(1, round(rate * TRADES_PER_QUOTE / (1 + TRADES_PER_QUOTE) / SAYS_HZ))


async def one(bench: Bench, library: Peer, who: str, rate: int, seconds: float) -> Row:
    """Measure one of them at a rate."""
    quotes_hz = (rate - BOOKS_HZ) / (1 + TRADES_PER_QUOTE)
    await bench.exchange.ask("rate", hz=quotes_hz)
    await bench.exchange.ask("trades")
    if who == "ours":
        began_s = cpu_of_engine()
        rows = await bench.run("venue_listener", f"listener-{rate}", seconds, every=every(rate))
        used_s = cpu_of_engine() - began_s
    else:
        used_s = 0.0
        rows = await library.ask("stream", seconds=seconds, every=every(rate))
    told: dict[str, Any] = await bench.exchange.ask("trades")
    await bench.exchange.ask("rate")
    return figures(rows, told, seconds, used_s)


def cpu_of_engine() -> float:
    """Give the processor seconds that this process, the engine, has used."""
    import psutil

    return cpu_s(psutil.Process())


def figures(rows: list[list[Any]], told: dict[str, Any], seconds: float, used_s: float) -> Row:
    """Put what was sent and what was heard together."""
    sent_ns: dict[str, int] = told["sent_ns"]
    heard = sum(row[1] for row in rows if row[0] == "heard")
    stamps = [(came_ns, came_ns - sent_ns[trade_id]) for trade_id, came_ns in rows if trade_id in sent_ns]
    first_ns = min((came_ns for came_ns, _ in stamps), default=0)
    counted = [taken_ns / 1e6 for came_ns, taken_ns in stamps if came_ns > first_ns + WARM_UP_S * 1e9]
    last_ns = max((came_ns for came_ns, _ in stamps), default=0)
    listened_s = max((last_ns - first_ns) / 1e9, 1e-9)
    sent = sum(first_ns <= each <= last_ns for each in sent_ns.values())
    p50, p99 = p50_p99(counted)
    return {
        "p50": p50,
        "p99": p99,
        "count": len(counted),
        "heard": heard / listened_s,
        "sent": sent / listened_s,
        "messages": told["messages"] / told["seconds"],
        "cpu": used_s / seconds,
    }


async def measure(bench: Bench, library: Peer, args: argparse.Namespace) -> None:
    """Take turns between ours and bare, and print as it goes."""
    for rate in args.rates:
        own = await one(bench, library, "ours", rate, args.seconds)
        floor = await one(bench, library, "bare", rate, args.seconds)
        ratios = [f"{own[name] / floor[name]:6.2f}" if floor[name] else "     -" for name in ("p50", "p99")]
        times = " ".join(f"{each['p50']:7.2f} /{each['p99']:8.2f}" for each in (own, floor))
        counts = " ".join(
            f"{value:7.0f}" for value in (own["messages"], own["sent"], own["heard"], floor["sent"], floor["heard"])
        )
        print(
            f"{bench.venue:9} {rate:6}   {times} {ratios[0]} /{ratios[1]}   {counts} "
            f"{own['count']:7.0f} {own['cpu']:6.0%}",
            flush=True,
        )


def head() -> None:
    """Print what the columns are."""
    print(load())
    print(f"{'venue':9} {'rate':>6}   {'ours p50/p99':>17} {'bare p50/p99':>17} {'ratios':>14}", end="   ")
    print(f"{'all/s':>7} {'sent':>7} {'heard':>7} {'sent':>7} {'heard':>7} {'stamps':>7} {'engine':>6}", flush=True)


def run() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_venue_option(parser)
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--rates", type=int, nargs="+", default=RATES, help="messages a second")
    args = parser.parse_args()
    if args.venue is None:
        same = ["--seconds", str(args.seconds), "--rates", *map(str, args.rates)]
        return each_venue("tests.bench.venue_streams", same, venues_here())
    head()
    with peers(args.venue) as (exchange, library):
        with_engine(args.venue, exchange, functools.partial(measure, library=library, args=args))
    return 0


if __name__ == "__main__":
    sys.exit(run())
