"""The simulated Binance as a process of its own that keeps a record of what it was asked, and who starts and asks it.

Run as `python -m tests.e2e.exchange_process FOLDER PORT SEED RATE`; it listens once it was sent a line. `Venue` has put
the authority into the folder before, so that a profile can be configured while the venue is not there yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from koc_qt.adapters.clock import SystemClock
from koc_qt.domain.state import TradingMode
from tests.conditions import PATIENCE
from tests.e2e.processes import ROOT, environment
from tests.wire.authority import Authority, make_authority
from tests.wire.core.dialect import Call, Channel
from tests.wire.loopback import LoopbackServer
from tests.wire.venues.binance import BinanceExchangeSite, add_person, make_exchange

ANSWER_S = 10.0
END_S = 20.0


class RecordingSite(BinanceExchangeSite):
    """Binance, with a list of all that was asked with a key, and who asked."""

    def __init__(self, seed: int, rate: float) -> None:
        super().__init__(make_exchange(SystemClock(), seed=seed))
        for market in self.exchange.markets.values():
            market.rate = rate
        self.keys = {
            TradingMode.LIVE: add_person(self.exchange, "trader"),
            TradingMode.TESTNET: add_person(self.exchange, "trader", test_network=True),
        }
        self._asked: list[tuple[str, str, str]] = []  # what, with which key, about which client order id

    async def rest(self, call: Call) -> web.StreamResponse:
        """Answer a request, and note it."""
        if key := call.headers.get("X-MBX-APIKEY", ""):
            said = {**call.query, **call.form()}
            about = said.get("newClientOrderId") or said.get("origClientOrderId") or ""
            self._asked.append((f"{call.method} {call.path}", key, about))
        return await super().rest(call)

    async def heard(self, channel: Channel, text: str) -> None:
        """Take a frame, and note it."""
        frame = json.loads(text)
        if key := (frame.get("params") or {}).get("apiKey", "") if isinstance(frame.get("params"), dict) else "":
            self._asked.append((f"WS {frame.get('method')}", key, ""))
        await super().heard(channel, text)

    def fault_asked(self) -> list[tuple[str, str, str]]:
        """Give what was asked for with a key: what, the key, the client order id that it was about."""
        return self._asked

    def fault_books(self) -> list[dict[str, Any]]:
        """Give every order of everybody, with its fills."""
        return [
            {
                "key": user.keys[0].key,
                "id": order.id,
                "client_id": order.client_id,
                "status": order.status.value,
                "quantity": str(order.quantity),
                "fills": {f"{order.symbol}:{fill.id}": f"{fill.price:f} {fill.quantity:f}" for fill in order.fills},
            }
            for user in self.exchange.directory.users
            for order in self.exchange.orders(user)
        ]


class Asked(NamedTuple):
    """A request with a key."""

    what: str
    key: str
    client_order_id: str


class Venue:
    """Where a venue is, whether or not its process runs; `keys` are those of its one person, by mode."""

    def __init__(self, folder: Path, *, seed: int = 1, rate: float = 20.0) -> None:
        self.folder = folder
        self._seed, self._rate = seed, rate
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._context = ssl.create_default_context(
            cafile=str(make_authority(folder, BinanceExchangeSite.hosts).ca_file)
        )
        site = RecordingSite(seed, rate)  # the same keys as those of the process
        self.keys = {mode: {"key": key.key, "secret": key.secret} for mode, key in site.keys.items()}
        self._process: subprocess.Popen[str] | None = None
        self._is_there = False

    @property
    def settings(self) -> dict[str, str]:
        """What a profile's configuration says of the venue."""
        return {"endpoint": f"127.0.0.1:{self.port}", "ca_file": str(self.folder / "ca.pem")}

    def prepare(self) -> None:
        """Start its process, at which nobody listens before `start`."""
        command = [sys.executable, "-m", "tests.e2e.exchange_process"]
        options = [str(self.folder), str(self.port), str(self._seed), str(self._rate)]
        self._process = subprocess.Popen(
            [*command, *options],
            env=environment(),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self) -> None:
        """Let it be there. It begins empty."""
        if self._process is None:
            self.prepare()
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        self._is_there = True
        assert process.stdout.readline(), f"the venue ended with {process.wait()}"

    def stop(self) -> None:
        """Let it be gone. Raises AssertionError where it did not end in order."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            with process:
                process.stdin.close()
                if self._is_there:
                    process.terminate()
                assert process.wait(END_S * PATIENCE) == 0

    def ask(self, method: str, **arguments: Any) -> Any:
        """Have a fault, or a look at the books."""
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}/_wire/faults", json.dumps({"method": method, **arguments}).encode()
        )
        with urllib.request.urlopen(request, timeout=ANSWER_S, context=self._context) as answer:
            return json.loads(answer.read())

    def asked(self) -> list[Asked]:
        """Give every request with a key since it is there."""
        return [Asked(*each) for each in self.ask("asked")]

    def placed(self) -> Counter[str]:
        """Count the requests for a new order, by client order id, those that it refused included."""
        return Counter(each.client_order_id for each in self.asked() if each.what == "POST /api/v3/order")

    def books(self, *modes: TradingMode) -> dict[str, dict[str, Any]]:
        """Give the orders of its person by client order id, in all modes where none is named."""
        keys = {self.keys[mode]["key"] for mode in modes or self.keys}
        orders = [order for order in self.ask("books") if order["key"] in keys]
        found = {order["client_id"]: order for order in orders}
        assert len(found) == len(orders), "the venue has two orders of one client order id"
        return found


@contextlib.contextmanager
def venue(folder: Path, **options: Any) -> Iterator[Venue]:
    """Give a venue that is not there yet; it is gone at the end."""
    place = Venue(folder, **options)
    try:
        yield place
    finally:
        place.stop()


async def _serve(folder: Path, port: int, seed: int, rate: float) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem", folder / "server.key")
    server = LoopbackServer(RecordingSite(seed, rate), folder, port)
    server.authority = Authority(folder / "ca.pem", context)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    if not sys.stdin.readline():
        return  # never wanted
    async with server:
        print("ready", flush=True)
        await stopped.wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
