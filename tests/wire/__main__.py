"""Run a loopback venue by hand or from another process.

`python -m tests.wire --venue kraken` is the simulated exchange in that venue's dialect, with accounts whose keys are in
the first line of output; for binance say `--exchange`, for without it a recording of its public streams is played:
`python -m tests.wire --venue binance --speed 5 --synthetic`.

The first line is `{"host": ..., "port": ..., "ca_file": ..., ...}`, once it can be connected to. An exchange runs
until it is interrupted. A recording says `{"event": "ended"}` after its last frame, unless it plays in a --loop, and
ends with code 0 after --linger-s more seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import inspect
import json
import pkgutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from koc_qt.adapters.clock import SystemClock
from tests.wire import venues
from tests.wire.binance import BinanceSite
from tests.wire.core.accounts import ApiKey
from tests.wire.loopback import LoopbackServer
from tests.wire.recording import RECORDED, Recording, load
from tests.wire.replay import AtEnd
from tests.wire.synthetic import synthetic


def venue_names() -> list[str]:
    """Name the dialects that there are."""
    return [module.name for module in pkgutil.iter_modules(venues.__path__) if "_" not in module.name]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.wire", description=__doc__)
    parser.add_argument("--venue", choices=venue_names(), default="binance")
    parser.add_argument(
        "--exchange", action="store_true", help="accounts and a seeded market; all but binance are that"
    )
    parser.add_argument("--rate", type=float, default=4.0, help="an exchange's quotes a second and symbol")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than it was")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--frames", type=Path, help=f"a recording; by default {RECORDED.name} where it is present")
    source.add_argument("--synthetic", action="store_true", help="make one up instead")
    parser.add_argument("--seed", type=int, default=1, help="of the exchange, or of the synthetic recording")
    parser.add_argument("--seconds", type=float, default=0.0, help="play only so much of it; length of a synthetic one")
    parser.add_argument(
        "--start-at-s", type=float, default=0.0, help="begin so far into it; REST knows what was before"
    )
    parser.add_argument("--now", action="store_true", help="shift its times so that it begins at the present")
    parser.add_argument("--loop", action="store_true", help="begin again at the end, times and ids going on")
    parser.add_argument("--linger-s", type=float, default=0.0, help="serve so much longer after the last frame")
    return parser.parse_args()


def _recording(arguments: argparse.Namespace) -> Recording:
    if arguments.synthetic:
        return synthetic(arguments.seed, arguments.seconds or 300.0)
    recording = load(arguments.frames or RECORDED)
    return recording.until(arguments.seconds) if arguments.seconds else recording


def _say(**line: object) -> None:
    print(json.dumps(line), flush=True)


def _stop_on_signals() -> asyncio.Event:
    stopped = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows; there Ctrl-C interrupts asyncio.run
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


async def _serve(arguments: argparse.Namespace, folder: Path) -> None:
    if arguments.exchange or arguments.venue != "binance":
        await _serve_exchange(arguments, folder)
    else:
        await _serve_recording(arguments, folder)


async def _serve_exchange(arguments: argparse.Namespace, folder: Path) -> None:
    dialect = importlib.import_module(f"tests.wire.venues.{arguments.venue}")
    exchange = dialect.make_exchange(SystemClock(), seed=arguments.seed)
    for market in exchange.markets.values():
        market.rate = arguments.rate
    accounts = {"live": _account(dialect.add_person(exchange))}
    if "test_network" in inspect.signature(dialect.add_person).parameters:
        accounts["testnet"] = _account(dialect.add_person(exchange, test_network=True))
    stopped = _stop_on_signals()
    async with LoopbackServer(dialect.make_site(exchange), folder, arguments.port) as server:
        endpoint = server.endpoint
        place = {"host": endpoint.host, "port": endpoint.port, "ca_file": endpoint.ca_file}
        _say(**place, venue=arguments.venue, symbols=list(exchange.markets), accounts=accounts)
        await stopped.wait()


def _account(key: ApiKey) -> dict[str, object]:
    """Show an account's key as the venue's own page does."""
    shown = {"key": key.key, "secret": key.secret, "passphrase": key.passphrase}
    return {**{name: text for name, text in shown.items() if text}, "permissions": sorted(key.permissions)}


async def _serve_recording(arguments: argparse.Namespace, folder: Path) -> None:
    recording = _recording(arguments)
    begins_ns = recording.first_ns + recording.venue_ahead_ns + round(arguments.start_at_s * 1e9)
    site = BinanceSite(
        recording,
        speed=arguments.speed,
        at_end=AtEnd.LOOP if arguments.loop else AtEnd.HOLD,
        start_at_s=arguments.start_at_s,
        shift_ns=time.time_ns() - begins_ns if arguments.now else 0,
    )
    stopped = _stop_on_signals()
    async with LoopbackServer(site, folder, arguments.port) as server:
        endpoint = server.endpoint
        _say(
            host=endpoint.host,
            port=endpoint.port,
            ca_file=endpoint.ca_file,
            venue=arguments.venue,
            symbol=recording.symbol,
            frames=len(recording.frames),
        )
        waits = [asyncio.create_task(stopped.wait()), asyncio.create_task(site.replay.ended.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if site.replay.ended.is_set():
            _say(event="ended", sent=site.replay.sent)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stopped.wait(), arguments.linger_s)
        for wait in waits:
            wait.cancel()


def main() -> int:
    """Serve until interrupted or, without --loop, until the recording is over."""
    arguments = _arguments()
    try:
        with tempfile.TemporaryDirectory(prefix="koc-wire-") as folder, contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_serve(arguments, Path(folder)))
    except (OSError, ValueError) as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
