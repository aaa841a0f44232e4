"""``koc fetch``: bring the past of a market into the store, before it is needed."""

from __future__ import annotations

import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc fetch``."""
    parser = subparsers.add_parser(
        "fetch",
        help="fetch the history of a market into the store",
        description="Fetch bars and keep them. Only what the store lacks is asked for; Ctrl-C stops it, what came is "
        "kept, and the same command goes on from there. All times are UTC.",
        epilog="example: koc fetch binance BTC/USDT --timeframe 5m --since 30d",
    )
    when = "a date (2026-01-01), a time (2026-01-01T12:00), an age (7d, 36h, 90m) or 'now'"
    parser.add_argument("venue", metavar="VENUE", help="such as sim, sim2 or binance")
    parser.add_argument("symbol", metavar="SYMBOL", help="such as BTC/USDT")
    parser.add_argument("--timeframe", metavar="TF", default="1m", help="length of the bars (default: 1m)")
    parser.add_argument("--since", metavar="WHEN", required=True, help=f"where to begin: {when}")
    parser.add_argument("--until", metavar="WHEN", default="now", help="where to end, likewise (default: now)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fetch, show progress, and give the exit code. Raises KocError with a sentence for the person."""
    from koc_qt.cli.fetching import run as fetch  # loaded when the command runs: ``koc --help`` shall not wait for it

    return fetch(args)
