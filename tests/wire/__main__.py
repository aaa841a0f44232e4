"""Run a loopback venue by hand or from another process: `python -m tests.wire --venue binance --speed 5 --synthetic`.

The first line of output is `{"host": ..., "port": ..., "ca_file": ..., ...}`, once it can be connected to. Without
--loop it says `{"event": "ended"}` after the last frame and, after --linger-s more seconds, ends with code 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.wire.binance import BinanceSite
from tests.wire.loopback import LoopbackServer
from tests.wire.recording import RECORDED, Recording, load
from tests.wire.replay import AtEnd
from tests.wire.synthetic import synthetic


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.wire", description=__doc__)
    parser.add_argument("--venue", choices=["binance"], default="binance")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--speed", type=float, default=1.0, help="how many times faster than it was")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--frames", type=Path, help=f"a recording; by default {RECORDED.name} where it is present")
    source.add_argument("--synthetic", action="store_true", help="make one up instead")
    parser.add_argument("--seed", type=int, default=1, help="of the synthetic one")
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


async def _serve(arguments: argparse.Namespace, folder: Path) -> None:
    recording = _recording(arguments)
    begins_ns = recording.first_ns + recording.venue_ahead_ns + round(arguments.start_at_s * 1e9)
    site = BinanceSite(
        recording,
        speed=arguments.speed,
        at_end=AtEnd.LOOP if arguments.loop else AtEnd.HOLD,
        start_at_s=arguments.start_at_s,
        shift_ns=time.time_ns() - begins_ns if arguments.now else 0,
    )
    stopped = asyncio.Event()
    with contextlib.suppress(NotImplementedError):  # Windows; there Ctrl-C interrupts asyncio.run
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
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
