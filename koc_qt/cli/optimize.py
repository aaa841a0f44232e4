"""``koc optimize``: search a strategy's parameters on history, in this terminal; no engine and no window is needed."""

from __future__ import annotations

import argparse

from koc_qt.cli.backtest import add_run_options


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc optimize``."""
    parser = subparsers.add_parser(
        "optimize",
        help="search a strategy's parameters",
        description="Run a strategy on history with many combinations of its parameters, on every core, and print the "
        "best. Every trial is kept as it ends: Ctrl-C stops the search, and --resume goes on with it. "
        "Signals are evaluated by a compiled kernel whose figures are those of a back-test.",
        epilog="example: koc optimize strategies/sma_cross.py --symbol binance:BTC/USDT --from 2024-01-01 "
        "--timeframe 1h --range fast=5:50:5 --range slow=20:200:10 --where 'fast < slow' --objective sharpe",
    )
    add_run_options(parser)
    search = parser.add_argument_group("search")
    search.add_argument(
        "--range",
        metavar="NAME=LOW:HIGH[:STEP]",
        action="append",
        default=[],
        dest="ranges",
        help="what a parameter may be, or NAME=A,B,C; repeat for more (default: all that the file declares bounds of)",
    )
    search.add_argument(
        "--where", metavar="CONDITION", action="append", default=[], help="what must hold, such as 'fast < slow'"
    )
    search.add_argument(
        "--objective",
        metavar="STATISTIC",
        action="append",
        default=[],
        help="what is to be best, such as sharpe, or min:fees; repeat for several (default: sharpe)",
    )
    search.add_argument("--method", choices=("grid", "random", "bayesian"), default="grid", help="(default: grid)")
    search.add_argument("--trials", type=int, metavar="N", help="at most so many combinations")
    search.add_argument("--search-seed", type=int, metavar="N", default=0, help="of the search (default: 0)")
    search.add_argument("--prune", action="store_true", help="give up runs that fall behind the median of the others")
    search.add_argument("--floor", type=float, metavar="F", help="give up runs whose equity falls below this share")
    search.add_argument("--resume", metavar="STUDY", help="go on with this study, such as study-3")
    where = parser.add_argument_group("where it runs")
    where.add_argument("--processes", type=int, metavar="N", default=0, help="at once (default: one a core)")
    where.add_argument(
        "--dask", metavar="ADDRESS", default="", help="a Dask cluster's scheduler, such as tcp://host:8786"
    )
    where.add_argument(
        "--store", metavar="URL", default="", help="keep trials there, such as postgresql://user@host/name"
    )
    outputs = parser.add_argument_group("results, besides what is printed")
    outputs.add_argument("--top", type=_count, metavar="N", default=10, help="how many are printed (default: 10)")
    outputs.add_argument("--json", metavar="FILE", help="the study and all its trials")
    outputs.add_argument("--csv", metavar="FILE", help="all trials as a table")
    parser.set_defaults(run=run)


def _count(text: str) -> int:
    """Read a whole number of one or more; for argparse, which names the option."""
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above zero")
    return count


def run(args: argparse.Namespace) -> int:
    """Search, show progress and results, and give the exit code. Raises KocError with a sentence for the person."""
    from koc_qt.cli.optimize_job import run as run_job  # loaded when the command runs: ``koc --help`` shall not wait

    return run_job(args)
