"""What the benches of real venues share: processes that are asked by lines, a real engine with an account, figures."""

from __future__ import annotations

import argparse
import asyncio
import bisect
import contextlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from koc_qt.config import Config, VenueConfig
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import StrategySpec, StrategyState, TradingMode, VenueState
from koc_qt.link.account_messages import AddAccount, UnlockSecrets
from koc_qt.link.messages import LogRecorded, StartStrategy, StopStrategy
from koc_qt.logger import setup_logger
from koc_qt.paths import profile_paths
from koc_qt.wiring.engine import Engine, EngineOptions, main
from tests.bench.latency import wait_for
from tests.bench.window_common import ROOT, percentile

# Venues that trade, each with the symbol that is traded in the benches.
SYMBOLS = {
    "binance": "BTC/USDT",
    "kraken": "BTC/USD",
    "coinbase": "BTC/USD",
    "kucoin": "BTC/USDT",
    "bitfinex": "BTC/USD",
    "alpaca": "BTC/USD",
}
MORE = 100  # limits are so many times wider, at the exchange and here: a bench sends more than a venue bears
ACCOUNT = "bench"
NO_KEYRING = "keyring.backends.fail.Keyring"
ANSWER_TIMEOUT_S = 300.0


def venues_here() -> list[str]:
    """Name the venues whose adapter and simulator there are."""
    places = ("koc_qt.adapters.venues", "tests.wire.venues")
    return [name for name in SYMBOLS if all(importlib.util.find_spec(f"{place}.{name}") for place in places)]


class Peer:
    """A process that answers each line of JSON with one; its first says that it is ready."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.name = module
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with code {self.process.wait()}: what it wrote is above")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def ask_now(self, do: str, **options: Any) -> Any:
        """Ask, and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **options}) + "\n")
        self.process.stdin.flush()
        return self._hear()["value"]

    async def ask(self, do: str, **options: Any) -> Any:
        """Ask, and wait in a thread for the answer."""
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await asyncio.get_running_loop().run_in_executor(None, lambda: self.ask_now(do, **options))

    def end(self) -> None:
        """End its input, and it, or kill it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def make_room(venue: str) -> None:
    """Widen the limits that this process keeps for a venue."""
    module = importlib.import_module(f"koc_qt.adapters.venues.{venue}")
    if venue == "alpaca":
        vars(importlib.import_module("koc_qt.adapters.venues.alpaca.requests_of"))["PER_MINUTE"] *= MORE
        return
    for made in vars(module).values():
        if isinstance(made, type) and made.__module__ == module.__name__ and hasattr(made, "SPANS"):
            made.SPANS = tuple(msgspec.structs.replace(span, limit=span.limit * MORE) for span in made.SPANS)


class Bench:
    """A real engine with an account on a simulated exchange, and what its strategies have said."""

    def __init__(self, engine: Engine, venue: str, exchange: Peer) -> None:
        self.engine, self.venue, self.exchange = engine, venue, exchange
        self.instrument = InstrumentId(venue, SYMBOLS[venue])
        self._said: dict[str, list[list[Any]]] = {}
        engine.bus.subscribe(LogRecorded, self._hear)

    def _hear(self, line: LogRecorded) -> None:
        if line.text.startswith("["):
            self._said.setdefault(line.source, []).extend(json.loads(line.text))
        elif line.level in ("WARNING", "ERROR"):
            print(f"  {line.source}: {line.text}", file=sys.stderr)

    async def open_account(self) -> None:
        """Keep the keys, add the account, and wait until it can be used."""
        await self.engine.commands.execute(UnlockSecrets("a bench's passphrase"), "bench")
        keys = self.exchange.ready["keys"]
        await self.engine.commands.execute(
            AddAccount(self.venue, TradingMode.LIVE, ACCOUNT, credentials=keys, confirmation=ACCOUNT), "bench"
        )
        accounts = self.engine.store.accounts
        await wait_for(lambda: ACCOUNT in accounts and accounts[ACCOUNT].state is VenueState.CONNECTED)

    @property
    def trading(self) -> Any:
        """The account's adapter."""
        return self.engine._trading[ACCOUNT]

    async def run(self, strategy: str, name: str, seconds: float, **parameters: Any) -> list[list[Any]]:
        """Run a strategy file of this folder on the account for so long; gives the rows that it said."""
        file = str(Path(__file__).with_name(f"{strategy}.py"))
        spec = StrategySpec(name, file, ACCOUNT, (self.instrument,), "", parameters)
        await self.engine.commands.execute(StartStrategy(spec), "bench")
        await wait_for(lambda: self.engine.host.managed[name].state is StrategyState.RUNNING)
        await asyncio.sleep(seconds)
        await self.engine.commands.execute(StopStrategy(name), "bench")
        await asyncio.sleep(0.5)
        return self._said.pop(name, [])


def with_engine(venue: str, exchange: Peer, measure: Callable[[Bench], Coroutine[Any, Any, None]]) -> None:
    """Run an engine on a profile of its own whose requests to the venue go to the exchange, `measure` beside it."""
    os.environ["PYTHON_KEYRING_BACKEND"] = NO_KEYRING  # the person's own is left alone
    make_room(venue)
    place = exchange.ready
    settings = VenueConfig(endpoint=f"{place['host']}:{place['port']}", ca_file=place["ca_file"])
    config = Config()
    risk = msgspec.structs.replace(config.risk, max_orders_per_minute=1_000_000, price_collar=Decimal(1))
    venues = msgspec.structs.replace(config.venues, **{venue: settings})
    config = msgspec.structs.replace(config, risk=risk, venues=venues)
    failed: list[BaseException] = []

    async def observe(engine: Engine) -> None:
        try:
            bench = Bench(engine, venue, exchange)
            await bench.open_account()
            await measure(bench)
        except BaseException as error:
            failed.append(error)
        engine.ask_to_stop("measured")

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        paths = profile_paths(Path(home))
        paths.ensure()
        with contextlib.closing(setup_logger(None, level="ERROR")):
            main(paths, config, EngineOptions(), observe)
    if failed:
        raise failed[0]


@contextlib.contextmanager
def peers(venue: str) -> Iterator[tuple[Peer, Peer]]:
    """Start the exchange, and the bare client library on it."""
    with Peer("tests.bench.venue_exchange", "--venue", venue) as exchange:
        place = json.dumps(exchange.ready)
        with Peer("tests.bench.venue_bare", "--venue", venue, "--place", place) as bare:
            yield exchange, bare


def to_wire_ms(signals_ns: Sequence[int], arrivals_ns: Sequence[int]) -> list[float]:
    """Give how long after each signal the next order came to the exchange; one order is under way at a time."""
    found = []
    for at, signal_ns in enumerate(signals_ns):
        index = bisect.bisect_left(arrivals_ns, signal_ns)
        until_ns = signals_ns[at + 1] if at + 1 < len(signals_ns) else time.monotonic_ns()
        if index < len(arrivals_ns) and arrivals_ns[index] < until_ns:
            found.append((arrivals_ns[index] - signal_ns) / 1e6)
    return found


def p50_p99(values: Sequence[float]) -> tuple[float, float]:
    """Give the median and the 99th percentile."""
    return percentile(values, 50), percentile(values, 99)


def add_venue_option(parser: argparse.ArgumentParser) -> None:
    """Register which venue is measured."""
    parser.add_argument("--venue", choices=SYMBOLS, help="only this one (default: all, each in processes of its own)")


def each_venue(module: str, args: list[str], names: Sequence[str]) -> int:
    """Measure venues one after the other, each in a process of its own."""
    codes = [
        subprocess.run([sys.executable, "-m", module, "--venue", name, *args], check=False).returncode for name in names
    ]
    return max(codes, default=0)
