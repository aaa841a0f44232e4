"""``koc`` alone, ``koc FILE.py`` and ``koc --connect``: the window."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from koc_qt.cli.display import find_display
from koc_qt.domain.errors import ConfigError

if TYPE_CHECKING:  # loaded when the command runs: ``koc --help`` shall not wait for them
    from koc_qt.wiring.window_options import WindowOptions

FILES_LIMIT = 20  # forms that a person may be shown one after the other


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register ``koc window``, which is also what ``koc`` alone means."""
    parser = subparsers.add_parser(
        "window",
        help="open the window (as koc alone does)",
        description="Open the window on this profile's engine, which is started where none runs, or on an engine of "
        "another machine. 'koc', 'koc FILE.py' and 'koc --connect ADDRESS' mean this command.",
    )
    parser.add_argument("files", metavar="FILE", nargs="*", help="a strategy file to offer for starting")
    parser.add_argument(
        "--connect", metavar="ADDRESS", help="show the engine at tcp://HOST:PORT instead ('koc keys --help' says how)"
    )
    parser.add_argument(
        "--server-key", metavar="FILE", help="that engine's public key, from 'koc keys server'; remembered afterwards"
    )
    parser.add_argument("--reset-layout", action="store_true", help="arrange the panels as at first")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Show the window until it is closed, or the engine in this terminal where there is no display. Raises KocError."""
    options = window_options(args)
    if not find_display():
        return _without_display(options)
    from koc_qt.wiring.window import main

    return main(options)


def window_options(args: argparse.Namespace) -> WindowOptions:
    """Give what the command line asks for. Raises ConfigError, LinkError."""
    from koc_qt.cli.named_files import strategy_file
    from koc_qt.wiring.window_options import WindowOptions

    if len(args.files) > FILES_LIMIT:
        raise ConfigError(f"{len(args.files)} strategy files are too many to ask about: name {FILES_LIMIT} at most")
    files = tuple(str(strategy_file(file)) for file in args.files)
    endpoint = server_key = None
    if args.connect is not None:
        endpoint, server_key = _remote(args.connect, args.server_key)
    elif args.server_key is not None:
        raise ConfigError("--server-key is the key of an engine on another machine: say which with --connect")
    return WindowOptions(endpoint, server_key, files, args.reset_layout)


def _remote(address: str, key_file: str | None) -> tuple[str, str]:
    from koc_qt.link.keys import read_public
    from koc_qt.link.servers import checked_endpoint, known_server
    from koc_qt.paths import profile_paths

    endpoint = checked_endpoint(address)
    if key_file is not None:
        return endpoint, read_public(Path(key_file)).decode()
    known = known_server(profile_paths().keys, endpoint)
    if known is None:
        raise ConfigError(
            f"the public key of the engine at {endpoint} is not known here: write it to a file there with "
            "'koc keys server FILE', carry that file here, and name it with --server-key FILE"
        )
    return endpoint, known


def _without_display(options: WindowOptions) -> int:
    if options.endpoint is not None:
        raise ConfigError(f"no display was found, so the engine at {options.endpoint} cannot be shown in a window")
    if options.files:
        raise ConfigError(
            f"no display was found, so there is no window; to run the strategy in this terminal: koc engine --strategy "
            f"{options.files[0]}"
        )
    from koc_qt.cli import engine

    print("No display was found: the engine runs in this terminal instead of a window. Ctrl-C stops it.", flush=True)
    parser = argparse.ArgumentParser()
    engine.add_options(parser)
    return engine.run(parser.parse_args([]))
