"""A simulated exchange in a venue's dialect for benches: `python -m tests.bench.venue_exchange --venue kraken`.

As `python -m tests.wire --exchange`, with limits a hundred times wider (a bench sends more than a venue bears), a
market that moves every millisecond instead of every ten, and notes of when requests came and trades happened. The
first line says where it is; after it every line of JSON that comes in, `{"do": name, ...}`, is answered by one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aiohttp import web

from koc_qt.adapters.clock import SystemClock
from koc_qt.domain.market import Trade
from tests.bench.venue_common import MORE, SYMBOLS
from tests.wire import exchange as exchange_module
from tests.wire.core.accounts import User
from tests.wire.core.market import MarketFact
from tests.wire.core.orders import OrderUpdate, WireFill, WireOrder
from tests.wire.core.rates import RateCounter
from tests.wire.exchange import DONE, Exchange
from tests.wire.loopback import LoopbackServer

PUMP_S = 0.001
QUIET_HZ = 4.0
STAMPS_LIMIT = 200_000  # of trades that nobody has asked for


class Stamped:
    """A site (tests.wire.loopback.Site) that notes when requests that placed an order were handed over.

    That is when the server has read a request's headers, so a little after its first byte.
    """

    def __init__(self, site: Any) -> None:
        self.site = site
        self.hosts: Sequence[str] = site.hosts
        self.arrivals: list[int] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request to any of the hosts."""
        came_ns = time.monotonic_ns()
        DONE.set(None)
        answer: web.StreamResponse = await self.site.handle(request)
        if "place" in (DONE.get() or ()):
            self.arrivals.append(came_ns)
        return answer

    async def stop(self) -> None:
        """End what runs."""
        await self.site.stop()


class Tape:
    """Notes when trades of a symbol were put into the streams (tests.wire.exchange.Listener, after the site)."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self.sent_ns: dict[str, int] = {}
        self.messages = 0
        self.since_ns = time.monotonic_ns()

    def on_market(self, event: MarketFact) -> None:
        """Note a trade."""
        if event.instrument.symbol == self._symbol:
            self.messages += 1
            if isinstance(event, Trade) and len(self.sent_ns) < STAMPS_LIMIT:
                self.sent_ns[event.trade_id] = time.monotonic_ns()

    def on_order(self, update: OrderUpdate) -> None:
        """Leave it to the site."""

    def on_fill(self, order: WireOrder, fill: WireFill) -> None:
        """Leave it to the site."""

    def on_balance(self, user: User, currencies: set[str]) -> None:
        """Leave it to the site."""


class Desk:
    """Carries out what the bench asks for."""

    def __init__(self, exchange: Exchange, site: Stamped, user: User, symbol: str) -> None:
        self._exchange, self._site, self._user, self._symbol = exchange, site, user, symbol
        self._tape = Tape(symbol)
        exchange.listeners.append(self._tape)

    def rate(self, hz: float = QUIET_HZ) -> None:
        """Let the symbol have so many quotes a second, and two trades for five of them."""
        self._exchange.markets[self._symbol].rate = hz

    def arrivals(self) -> list[int]:
        """Give when orders came, monotonic nanoseconds, and forget it."""
        given, self._site.arrivals = self._site.arrivals, []
        return given

    def trades(self) -> dict[str, Any]:
        """Give when trades went out by their ids, how many messages there were in which time, and forget it."""
        tape, now_ns = self._tape, time.monotonic_ns()
        told = {"sent_ns": tape.sent_ns, "messages": tape.messages, "seconds": (now_ns - tape.since_ns) / 1e9}
        tape.sent_ns, tape.messages, tape.since_ns = {}, 0, now_ns
        return told

    def fault(self, method: str, **options: Any) -> Any:
        """Let something go wrong: the site's `fault_<method>`."""
        return getattr(self._site.site, f"fault_{method}")(**options)

    def orders(self) -> list[dict[str, Any]]:
        """Give every order of the account."""
        return [
            {
                "id": order.id,
                "client_id": order.client_id,
                "status": order.status.value,
                "filled": str(order.filled),
                "fills": len(order.fills),
            }
            for order in self._exchange.orders(self._user)
        ]


def widen_limits() -> None:
    """Let every counter that is made from now on bear more."""
    plain = RateCounter.__init__

    def wide(self: RateCounter, limit: float, span_s: float, **options: Any) -> None:
        plain(self, limit * MORE, span_s, **options)

    RateCounter.__init__ = wide  # type: ignore[method-assign]


async def _lines() -> asyncio.StreamReader:
    reader = asyncio.StreamReader(limit=1 << 26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def serve(venue: str, folder: Path) -> None:
    """Serve until the input ends."""
    widen_limits()
    exchange_module._PUMP_S = PUMP_S
    dialect = importlib.import_module(f"tests.wire.venues.{venue}")
    exchange = dialect.make_exchange(SystemClock())
    for market in exchange.markets.values():
        market.rate = QUIET_HZ
    money = {name: "10000000" for symbol in exchange.markets for name in symbol.split("/")}
    owned = dialect.add_person(exchange, balances=money)
    user = exchange.directory.find(owned.key)[0]
    site = Stamped(dialect.make_site(exchange))
    desk = Desk(exchange, site, user, SYMBOLS[venue])
    async with LoopbackServer(site, folder) as server:
        place = {"host": server.endpoint.host, "port": server.endpoint.port, "ca_file": server.endpoint.ca_file}
        keys = {"key": owned.key, "secret": owned.secret, "passphrase": owned.passphrase}
        _say({"event": "ready", **place, "keys": {name: text for name, text in keys.items() if text}})
        reader = await _lines()
        while line := await reader.readline():
            asked = json.loads(line)
            _say({"event": "done", "value": getattr(desk, asked.pop("do"))(**asked)})


def _say(line: dict[str, Any]) -> None:
    text = json.dumps(line).encode() + b"\n"
    while text:
        text = text[os.write(1, text) :]


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venue", choices=SYMBOLS, required=True)
    args = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the bench says when it is over, by ending our input
    with tempfile.TemporaryDirectory(prefix="koc-bench-") as folder, contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(args.venue, Path(folder)))


if __name__ == "__main__":
    main()
