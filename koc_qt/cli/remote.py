"""``koc status|drift|orders|fills|stop|kill``: look at an engine that runs or at what it left, and control it.

Exit codes: 0 done, 1 it could not be done, 3 no engine runs on this profile. `orders` and `fills` read the journal and
need no engine.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from koc_qt.domain.errors import LinkError, StrategyError
from koc_qt.paths import profile_paths

if TYPE_CHECKING:
    from koc_qt.link.client import BlockingClient
    from koc_qt.ports.journal import JournalState

NO_ENGINE = 3
_KILL_TIMEOUT_S = 60.0  # venues may take their time to cancel
_POLL_S = 0.05


def add_parsers(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the commands."""
    _add(
        subparsers,
        "status",
        run_status,
        "show what the engine is doing",
        "Show what the engine is doing. Exit code 3 when none runs on this profile.",
    ).add_argument("--json", action="store_true", help="print one JSON object")
    drift = _add(
        subparsers,
        "drift",
        run_drift,
        "show whether strategies do live what they do in back-tests",
        "Show how far strategies are from back-tests over the same time, and where the gap comes from. The engine "
        "measures those that run every day at 00:15 UTC. Exit code 3 when none runs on this profile.",
    )
    drift.add_argument("strategy", metavar="STRATEGY", nargs="?", default="", help="of this strategy alone")
    drift.add_argument("--now", action="store_true", help="measure it now: STRATEGY, or all that run")
    drift.add_argument(
        "--timeout", metavar="S", type=_seconds, default=900.0, help="with --now wait so long (default: 900)"
    )
    drift.add_argument("--json", action="store_true", help="print a JSON array")
    orders = _add(
        subparsers, "orders", run_orders, "list every order of the journal", "List every order, engine or no engine."
    )
    fills = _add(
        subparsers, "fills", run_fills, "list every fill of the journal", "List every fill, engine or no engine."
    )
    for parser in (orders, fills):
        parser.add_argument("--json", action="store_true", help="print a JSON array")
        parser.add_argument("--strategy", metavar="ID", help="of this strategy alone")
        parser.add_argument("--limit", metavar="N", type=_count, help="the newest N alone")
    stop = _add(
        subparsers,
        "stop",
        run_stop,
        "stop the engine in order",
        "Stop strategies, cancel their orders and end the engine, and wait until it has ended.",
    )
    stop.add_argument("--timeout", metavar="S", type=_seconds, default=60.0, help="wait so long (default: 60)")
    kill = _add(
        subparsers,
        "kill",
        run_kill,
        "engage the kill switch",
        "Stop all strategies, cancel all orders and refuse new ones until the switch is released. The engine runs on.",
    )
    kill.add_argument("--reason", metavar="TEXT", default="koc kill", help="why, for the journal and for who looks")
    kill.add_argument("--release", action="store_true", help="allow trading again; nothing is restarted by it")


def _add(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace], int],
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    parser = subparsers.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0 and up to a day")
    return seconds


# ---- the engine -----------------------------------------------------------------------------------------------------


def _connect() -> BlockingClient:
    from koc_qt.link.client import connect

    paths = profile_paths()
    return connect(paths.run, paths.keys, name="koc command")


def _no_engine(error: LinkError) -> int:
    print(f"koc: {error}", file=sys.stderr)
    return NO_ENGINE


def run_status(args: argparse.Namespace) -> int:
    """Print what the engine is doing. Raises LinkError when it cannot be asked."""
    from koc_qt.cli.remote_view import print_status, status_object, stopped_object
    from koc_qt.link.rendezvous import NoEngineError

    try:
        with _connect() as client:
            snapshot = client.snapshot
    except NoEngineError as error:
        if args.json:
            _print_json(stopped_object(str(error)))
        return _no_engine(error)
    if args.json:
        _print_json(status_object(snapshot))
    else:
        print_status(snapshot)
    return 0


def run_drift(args: argparse.Namespace) -> int:
    """Print how far strategies are from their back-tests. Raises KocError when the engine cannot tell."""
    import asyncio

    from koc_qt.cli.drift import reports
    from koc_qt.cli.remote_view import drift_object, print_drift
    from koc_qt.link.rendezvous import NoEngineError

    try:
        found, known = asyncio.run(reports(args.strategy, now=args.now, timeout_s=args.timeout))
    except NoEngineError as error:
        return _no_engine(error)
    if args.strategy and not found and args.strategy not in known:
        raise StrategyError(f"there is no strategy {args.strategy!r}; there are: {', '.join(known) or 'none'}")
    if args.json:
        _print_json([drift_object(report) for report in found])
    elif found:
        print_drift(found)
    elif args.now:
        print("No strategy runs: there is nothing to measure.")
    else:
        print("It was not measured yet: `koc drift --now` does it.")
    return 0


def run_stop(args: argparse.Namespace) -> int:
    """Stop the engine and wait for its end. Raises KocError."""
    from koc_qt.link.messages import Shutdown
    from koc_qt.link.rendezvous import NoEngineError, process_runs

    lost: LinkError | None = None
    try:
        with _connect() as client:
            pid = client.snapshot.engine.pid
            try:
                client.request(Shutdown(), timeout_s=args.timeout)
            except LinkError as error:  # it may have ended before it answered
                lost = error
    except NoEngineError as error:
        return _no_engine(error)
    deadline = time.monotonic() + args.timeout
    while process_runs(pid):
        if time.monotonic() > deadline:
            raise lost or LinkError(
                f"the engine (pid {pid}) was asked to stop and has not ended in {args.timeout:g} s: its log says why"
            )
        time.sleep(_POLL_S)
    print("The engine has stopped.")
    return 0


def run_kill(args: argparse.Namespace) -> int:
    """Engage or release the kill switch. Raises KocError."""
    from koc_qt.link.messages import EngageKillSwitch, ReleaseKillSwitch
    from koc_qt.link.rendezvous import NoEngineError

    command = ReleaseKillSwitch() if args.release else EngageKillSwitch(args.reason)
    try:
        with _connect() as client:
            client.request(command, timeout_s=_KILL_TIMEOUT_S)
    except NoEngineError as error:
        return _no_engine(error)
    if args.release:
        print(
            "The kill switch is released: orders are accepted again. Strategies stay stopped until the engine is "
            "started anew."
        )
    else:
        print("The kill switch is engaged: no order is accepted until `koc kill --release`.")
    return 0


# ---- the journal ----------------------------------------------------------------------------------------------------


def _journal() -> JournalState:
    from koc_qt.adapters.sqlite_journal import read_journal

    return read_journal(profile_paths().journal)


def run_orders(args: argparse.Namespace) -> int:
    """Print the journal's orders, oldest first. Raises StorageError."""
    from koc_qt.cli.remote_view import order_object, print_orders

    orders = [order for order in _journal().orders if args.strategy in (None, order.strategy_id)]
    chosen = orders[-args.limit :] if args.limit else orders
    if args.json:
        _print_json([order_object(order) for order in chosen])
    else:
        print_orders(chosen)
    return 0


def run_fills(args: argparse.Namespace) -> int:
    """Print the journal's fills, oldest first. Raises StorageError."""
    from koc_qt.cli.remote_view import plain, print_fills

    fills = [fill for fill in _journal().fills if args.strategy in (None, fill.strategy_id)]
    chosen = fills[-args.limit :] if args.limit else fills
    if args.json:
        _print_json([plain(fill) for fill in chosen])
    else:
        print_fills(chosen)
    return 0


def _print_json(value: Any) -> None:
    import json

    print(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))
