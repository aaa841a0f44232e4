"""The bare client library of a venue for comparison, on a connection that is warm, its own rate limiter off.

`python -m tests.bench.venue_bare --venue kraken --place JSON`; asked by lines of JSON as tests.bench.venue_exchange is.
ccxt.pro on a plain asyncio loop; alpaca-py as it is meant to be used: blocking requests in a thread, its stream in
another. Streams are those that our adapters subscribe to.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import json
import os
import ssl
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

from koc_qt.adapters.ccxt_client import LoopbackEndpoint, Timeouts
from koc_qt.adapters.ccxt_exchange import make_session
from tests.bench.venue_common import SYMBOLS

STREAMS = {
    "binance": ("watch_trades", "watch_bids_asks", "watch_order_book"),
    "kraken": ("watch_trades", "watch_bids_asks", "watch_order_book"),
    "coinbase": ("watch_trades", "watch_order_book"),
    "kucoin": ("watch_trades", "watch_bids_asks", "watch_order_book"),
    "bitfinex": ("watch_trades", "watch_ticker", "watch_order_book"),
}
QUANTITY = 0.001
PRICE = 30_000.0  # far below the market
SETTLE_S = 1.5

Rows = list[list[Any]]


class Ccxt:
    """ccxt.pro."""

    def __init__(self, venue: str, keys: dict[str, str], endpoint: LoopbackEndpoint) -> None:
        self._venue, self._symbol, self._endpoint = venue, SYMBOLS[venue], endpoint
        self._keys = {"apiKey": keys["key"], "secret": keys["secret"], "password": keys.get("passphrase", "")}
        self._tls = ssl.create_default_context(cafile=endpoint.ca_file)
        self._client: Any = None

    async def _open(self) -> Any:
        module = importlib.import_module(f"koc_qt.adapters.venues.{self._venue}")
        trading = next(
            made
            for name, made in vars(module).items()
            if name.endswith("Trading") and made.__module__ == module.__name__
        )
        ccxt = importlib.import_module("ccxt.pro")
        session = make_session(self._endpoint, self._tls)
        client = getattr(ccxt, self._venue)(
            {**self._keys, "session": session, "enableRateLimit": False, "options": dict(trading.OPTIONS)}
        )
        client.ssl_context = self._tls
        client.has["fetchCurrencies"] = False
        await client.load_markets(False, dict(trading.MARKET_PARAMETERS))
        return client

    async def open(self) -> None:
        """Connect for orders."""
        self._client = await self._open()

    @staticmethod
    async def _shut(client: Any) -> None:
        session = client.session
        await client.close()
        await session.close()

    async def close(self) -> None:
        """End connections."""
        await self._shut(self._client)

    @contextlib.asynccontextmanager
    async def _streams(self, heard: Callable[[str, Any], None]) -> Any:
        client = await self._open()
        tasks = [asyncio.create_task(self._watch(client, method, heard)) for method in STREAMS[self._venue]]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._shut(client)

    async def _watch(self, client: Any, method: str, heard: Callable[[str, Any], None]) -> None:
        watch: Callable[[Any], Awaitable[Any]] = getattr(client, method)
        wanted: Any = [self._symbol] if method == "watch_bids_asks" else self._symbol
        while True:
            try:
                told = await watch(wanted)
            except Exception as error:
                print(f"  bare {self._venue} {method}: {error!r:.300}", file=sys.stderr)
                await asyncio.sleep(1)
                continue
            heard(method, told)

    async def orders(self, seconds: float, rate: float, stream: bool) -> Rows:
        """Send orders far below the market and cancel them; gives when each was wanted and answered."""
        async with contextlib.AsyncExitStack() as stack:
            if stream:
                await stack.enter_async_context(self._streams(lambda *_: None))
                await asyncio.sleep(SETTLE_S)
            rows: Rows = []
            due, end = time.monotonic(), time.monotonic() + seconds
            while time.monotonic() < end:
                began_ns = time.monotonic_ns()
                order = await self._client.create_order(self._symbol, "limit", "buy", QUANTITY, PRICE)
                rows.append([began_ns, time.monotonic_ns()])
                await self._client.cancel_order(order["id"], self._symbol)
                due = max(due + 1 / rate, time.monotonic())
                await asyncio.sleep(due - time.monotonic())
            return rows

    async def stream(self, seconds: float, every: int) -> Rows:
        """Watch; gives the ids of trades and when they came."""
        rows: Rows = []
        count = 0

        def heard(method: str, told: Any) -> None:
            nonlocal count
            now_ns = time.monotonic_ns()
            if method != "watch_trades":
                return
            for trade in told:
                count += 1
                if count % every == 0:
                    rows.append([str(trade["id"]), now_ns])

        async with self._streams(heard):
            await asyncio.sleep(seconds)
        return [*rows, ["heard", count]]


class Alpaca:
    """alpaca-py, with requests led to the loopback server."""

    def __init__(self, venue: str, keys: dict[str, str], endpoint: LoopbackEndpoint) -> None:
        self._symbol, self._endpoint, self._keys = SYMBOLS[venue], endpoint, (keys["key"], keys["secret"])
        self._client: Any = None

    async def open(self) -> None:
        """Connect for orders."""
        from alpaca.trading.client import TradingClient

        from koc_qt.adapters.venues.alpaca.library import _Adapter

        self._client = TradingClient(*self._keys, paper=False)
        self._client._session.mount("https://", _Adapter(Timeouts(), self._endpoint, 1))
        self._client.get_account()

    async def close(self) -> None:
        """End connections."""
        self._client._session.close()

    @contextlib.contextmanager
    def _stream(self, trade: Callable[[Any], None], quote: Callable[[Any], None]) -> Any:
        from alpaca.data.live.crypto import CryptoDataStream

        trust = ssl.create_default_context(cafile=self._endpoint.ca_file)
        place = {"host": self._endpoint.host, "port": self._endpoint.port, "ssl": trust}
        stream = CryptoDataStream(*self._keys, websocket_params={**place, "max_queue": 1024})

        async def on_trade(told: Any) -> None:
            trade(told)

        async def on_quote(told: Any) -> None:
            quote(told)

        stream.subscribe_trades(on_trade, self._symbol)
        stream.subscribe_quotes(on_quote, self._symbol)
        thread = threading.Thread(target=stream.run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stream.stop()
            thread.join(10)

    async def orders(self, seconds: float, rate: float, stream: bool) -> Rows:
        """Send orders far below the market and cancel them; gives when each was wanted and answered."""
        return await asyncio.to_thread(self._orders, seconds, rate, stream)

    def _orders(self, seconds: float, rate: float, stream: bool) -> Rows:
        from alpaca.trading.enums import OrderSide, TimeInForce
        from alpaca.trading.requests import LimitOrderRequest

        with contextlib.ExitStack() as stack:
            if stream:
                stack.enter_context(self._stream(lambda _: None, lambda _: None))
                time.sleep(SETTLE_S)
            rows: Rows = []
            due, end = time.monotonic(), time.monotonic() + seconds
            while time.monotonic() < end:
                began_ns = time.monotonic_ns()
                request = LimitOrderRequest(
                    symbol=self._symbol,
                    qty=QUANTITY,
                    side=OrderSide.BUY,
                    time_in_force=TimeInForce.GTC,
                    limit_price=PRICE,
                )
                order = self._client.submit_order(request)
                rows.append([began_ns, time.monotonic_ns()])
                self._client.cancel_order_by_id(order.id)
                due = max(due + 1 / rate, time.monotonic())
                time.sleep(due - time.monotonic())
            return rows

    async def stream(self, seconds: float, every: int) -> Rows:
        """Listen; gives the ids of trades and when they came."""
        return await asyncio.to_thread(self._listen, seconds, every)

    def _listen(self, seconds: float, every: int) -> Rows:
        rows: Rows = []
        count = 0

        def trade(told: Any) -> None:
            nonlocal count
            now_ns = time.monotonic_ns()
            count += 1
            if count % every == 0:
                rows.append([str(told.id), now_ns])

        with self._stream(trade, lambda _: None):
            time.sleep(seconds)
        return [*rows, ["heard", count]]


async def serve(library: Ccxt | Alpaca) -> None:
    """Do what is asked until the input ends."""
    await library.open()
    _say({"event": "ready"})
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        _say({"event": "done", "value": await getattr(library, asked.pop("do"))(**asked)})
    await library.close()


def _say(line: dict[str, Any]) -> None:
    text = json.dumps(line).encode() + b"\n"
    while text:
        text = text[os.write(1, text) :]


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--venue", choices=SYMBOLS, required=True)
    parser.add_argument("--place", type=json.loads, required=True, help="what venue_exchange said first")
    args = parser.parse_args()
    place = args.place
    endpoint = LoopbackEndpoint(place["host"], place["port"], place["ca_file"])
    asyncio.run(serve((Alpaca if args.venue == "alpaca" else Ccxt)(args.venue, place["keys"], endpoint)))


if __name__ == "__main__":
    main()
