"""``koc engine``: the engine in this terminal, with what it does before your eyes."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koc_qt.domain.errors import ConfigError

if TYPE_CHECKING:  # loaded when the command runs: ``koc --help`` shall not wait for them
    from koc_qt.config import Config
    from koc_qt.wiring.engine import EngineOptions

DEFAULT_SYMBOL = "BTC/USDT"
MAX_SPEED = 3600


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc engine``."""
    parser = subparsers.add_parser(
        "engine",
        help="run the engine in this terminal",
        description="Run the engine in this terminal, on the built-in simulated market unless told otherwise. "
        "Ctrl-C stops it in order; nothing is lost if it is killed.",
    )
    add_options(parser)
    parser.set_defaults(run=run)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Register the engine's options, also those of plain ``koc``."""
    parser.add_argument("--strategy", metavar="FILE", action="append", default=[], help="start this strategy file")
    parser.add_argument(
        "--symbol",
        metavar="SYMBOL",
        action="append",
        default=[],
        help=f"what it runs on, such as BTC/USDT or sim2:BTC/USDT; repeat for more (default: {DEFAULT_SYMBOL})",
    )
    parser.add_argument("--account", metavar="ID", help="the account that it trades with (default: the configured one)")
    parser.add_argument(
        "--timeframe", metavar="TF", default="", help="bars such as 1s, 1m, 1h (default: the strategy's)"
    )
    parser.add_argument(
        "--set", metavar="NAME=VALUE", action="append", default=[], dest="parameters", help="set a strategy parameter"
    )
    parser.add_argument("--speed", type=float, metavar="X", help="speed of the simulated market (default: 1)")
    parser.add_argument("--seed", type=int, metavar="N", help="which simulated market (default: 1)")
    parser.add_argument("--duration", type=float, metavar="S", help="stop in order after S seconds")
    parser.add_argument("--no-live", action="store_true", help="print plain lines instead of a live display")
    parser.add_argument("--held", action="store_true", help=argparse.SUPPRESS)  # see wiring/engine_process.py


def run(args: argparse.Namespace) -> int:
    """Run the engine until it is stopped; gives the exit code."""
    from koc_qt.wiring.qt_imports import read_no_sources

    read_no_sources()
    from koc_qt.accounts_file import with_accounts
    from koc_qt.adapters.crash_reports import crashes_reported
    from koc_qt.cli.terminal import Terminal
    from koc_qt.config import load_config
    from koc_qt.logger import setup_logger
    from koc_qt.paths import profile_paths
    from koc_qt.wiring.engine import main
    from koc_qt.wiring.engine_process import wait_for_go

    if args.held and not wait_for_go():
        print("The window that started this engine did not come up, so the engine did not start.")
        return 0
    paths = profile_paths()
    paths.ensure()
    config, options = settings(args, with_accounts(load_config(paths), paths))
    live = not args.no_live and sys.stdout.isatty()

    terminal = Terminal(live=live)
    log = setup_logger(paths, level=config.log_level, console=not live, sink=terminal.hear)
    with contextlib.closing(log), crashes_reported(paths, "engine"):
        ending = "The engine did not start."
        try:
            ending = f"Stopped: {main(paths, config, options, terminal.observe)}."
        finally:
            terminal.close(ending)
    return 0


def settings(args: argparse.Namespace, config: Config) -> tuple[Config, EngineOptions]:
    """Give the configuration as the command line changes it, and what it adds. Raises KocError."""
    import msgspec

    from koc_qt.cli.named_files import strategy_file
    from koc_qt.config import VENUES, with_venues
    from koc_qt.domain.instruments import InstrumentId
    from koc_qt.domain.state import StrategySpec
    from koc_qt.domain.timeframes import duration_ns
    from koc_qt.wiring.engine import EngineOptions

    account = config.find_account(args.account)
    instruments = tuple(
        InstrumentId.parse(symbol, default_venue=account.venue) for symbol in args.symbol or [DEFAULT_SYMBOL]
    )
    venues = {account.venue, *(instrument.venue for instrument in instruments)}
    if unknown := sorted(venues - set(VENUES)):
        raise ConfigError(f"there is no venue {unknown[0]!r}; there are: {', '.join(VENUES)}")
    if args.timeframe:
        duration_ns(args.timeframe)
    for file in args.strategy:
        strategy_file(file)
    config = with_venues(config, venues)
    changes: dict[str, Any] = {}
    if args.speed is not None:
        if not 0 < args.speed <= MAX_SPEED:
            raise ConfigError(f"--speed {args.speed:g}: it must be above 0 and at most {MAX_SPEED}")
        changes["speed"] = args.speed
    if args.seed is not None:
        if not 0 <= args.seed < 1 << 63:
            raise ConfigError(f"--seed {args.seed}: it must be zero or a whole number above")
        changes["seed"] = args.seed
    if args.duration is not None and not args.duration > 0:
        raise ConfigError(f"--duration {args.duration:g}: it must be above 0 seconds")
    if (args.symbol or args.parameters or args.timeframe) and not args.strategy:
        raise ConfigError("--symbol, --timeframe and --set need a strategy to apply to: add --strategy FILE")
    config = msgspec.structs.replace(config, simulator=msgspec.structs.replace(config.simulator, **changes))
    parameters = dict(_parameter(text) for text in args.parameters)
    specs = tuple(
        StrategySpec("", str(Path(file).absolute()), account.id, instruments, args.timeframe, parameters)
        for file in args.strategy
    )
    return config, EngineOptions(specs, args.duration)


def _parameter(text: str) -> tuple[str, str]:
    """Read NAME=VALUE; the strategy's declaration says what kind of value it is."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"--set {text}: write NAME=VALUE, such as --set fast=10")
    return name.strip(), value.strip()
