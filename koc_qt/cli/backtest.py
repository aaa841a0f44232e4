"""``koc backtest``: a strategy on history, in this terminal; no engine and no window is needed."""

from __future__ import annotations

import argparse
from decimal import Decimal, InvalidOperation

ALL = "all"
ENGINES = ("replay", "vectorbt", "backtrader", ALL)
UNLIMITED = "none"
USUAL_SHARE = object()  # nothing was said of it
_WHEN = "a date (2024-01-01), a time (2024-01-01T12:00), an age (30d, 36h) or 'now'"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc backtest``."""
    parser = subparsers.add_parser(
        "backtest",
        help="run a strategy on history",
        description="Run a strategy on history, in a sandboxed process of its own, and print what came of it. History "
        "comes from the profile's store, and from the venue for what that lacks, or from a file of yours. "
        "All times are UTC. Ctrl-C stops it.",
        epilog="example: koc backtest strategies/sma_cross.py --symbol binance:BTC/USDT --from 2024-01-01 "
        "--to 2024-06-01 --timeframe 1h --set fast=10 --set slow=50 --fee 0.001",
    )
    add_run_options(parser)
    parser.add_argument(
        "--engine",
        choices=ENGINES,
        default="replay",
        help="what runs it; 'all' compares those that can (default: replay)",
    )
    parser.add_argument("--trust", action="store_true", help="check whether the result can be believed: takes long")
    outputs = parser.add_argument_group("results, besides what is printed")
    outputs.add_argument("--report", metavar="FILE.html", help="a page to read and to print")
    outputs.add_argument("--json", metavar="FILE.json", help="everything; '-' prints it in the place of tables")
    outputs.add_argument("--csv", metavar="FOLDER", help="trades, fills and equity as three tables")
    outputs.add_argument("--parquet", metavar="FOLDER", help="the same as parquet")
    outputs.add_argument(
        "--no-keep",
        action="store_false",
        dest="keep",
        help="leave it out of the profile's history of runs, which the window shows",
    )
    parser.set_defaults(run=run)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Register what a run is: the strategy, its market and its rules. `read_asked` reads them."""
    parser.add_argument("file", metavar="FILE", help="the strategy file (.py)")
    market = parser.add_argument_group("market")
    market.add_argument(
        "--symbol", metavar="VENUE:SYMBOL", action="append", default=[], help="such as sim:BTC/USDT; repeat for more"
    )
    market.add_argument("--from", metavar="WHEN", dest="since", help=f"where to begin: {_WHEN}")
    market.add_argument("--to", metavar="WHEN", dest="until", help="where to end, likewise (default: now)")
    market.add_argument("--timeframe", metavar="TF", default="", help="bars such as 1h (default: the strategy's own)")
    market.add_argument(
        "--data",
        metavar="FILE",
        action="append",
        default=[],
        help="take the bars from this .parquet or .csv file (timestamp, open, high, low, close, volume); one a symbol. "
        "Range and timeframe are then the file's, where none are given",
    )
    market.add_argument("--tick", type=amount, metavar="N", help="with --data: the price increment (default: fine)")
    market.add_argument("--lot", type=amount, metavar="N", help="with --data: the quantity increment (default: 1e-8)")
    market.add_argument("--skip-bad", action="store_true", help="with --data: leave out rows that cannot be believed")
    rules = parser.add_argument_group("rules")
    rules.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], dest="parameters", help="set a strategy parameter"
    )
    rules.add_argument(
        "--cash", type=amount, metavar="N", default=Decimal(10_000), help="to begin with (default: 10000)"
    )
    rules.add_argument(
        "--fee", type=amount, metavar="F", help="of the notional, such as 0.001 (default: the venue's, 0 for a file)"
    )
    rules.add_argument("--spread", type=amount, metavar="F", default=Decimal(0), help="of the price (default: 0)")
    rules.add_argument("--slippage", type=amount, metavar="F", default=Decimal(0), help="of the price (default: 0)")
    rules.add_argument("--slippage-ticks", type=int, metavar="N", default=0, help="in ticks (default: 0)")
    rules.add_argument("--latency-ms", type=amount, metavar="MS", default=Decimal(0), help="of orders (default: 0)")
    rules.add_argument(
        "--volume-share",
        type=share,
        metavar="F",
        default=USUAL_SHARE,
        help="of a bar's volume that is ours at most, or 'none' for all that is asked (default: 0.1, and none with "
        "--engine all: the others fill every order whole)",
    )
    rules.add_argument("--no-short", action="store_true", help="sell no more than is held")
    rules.add_argument("--seed", type=int, metavar="N", default=0, help="of the strategy's random numbers (default: 0)")


def amount(text: str) -> Decimal:
    """Read a number exactly; for argparse, which names the option."""
    try:
        value = Decimal(text.strip())
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return value


def share(text: str) -> Decimal | None:
    """Read a fraction or the word for no limit; for argparse."""
    return None if text.strip().lower() == UNLIMITED else amount(text)


def run(args: argparse.Namespace) -> int:
    """Run it, show progress and results, and give the exit code. Raises KocError with a sentence for the person."""
    from koc_qt.wiring.qt_imports import read_no_sources  # loaded when the command runs: ``koc --help`` shall not wait

    read_no_sources()
    from koc_qt.cli.backtest_job import run as run_job

    return run_job(args)
