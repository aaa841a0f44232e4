"""Binance spot's public REST and streams, as ccxt and others use them, fed by a replay.

https://developers.binance.com/docs/binance-spot-api-docs/rest-api and .../web-socket-streams
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import WSMsgType, web

from tests.wire.loopback import Faults, RestFault, Socket, Stream, close_politely
from tests.wire.market import INTERVALS_MS
from tests.wire.recording import Frame, Recording
from tests.wire.replay import AtEnd, Replay

_STREAM_HOSTS = ("stream.binance.com", "data-stream.binance.vision")
_API_HOSTS = ("api.binance.com", *(f"api{n}.binance.com" for n in range(1, 5)), "data-api.binance.vision")
_PING_S = 20.0
_QUOTES = ("USDT", "USDC", "FDUSD", "BTC", "ETH", "BNB")
_FILTERS = (
    {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00000000", "tickSize": "0.01000000"},
    {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
    {"filterType": "ICEBERG_PARTS", "limit": 10},
    {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "114.45137441", "stepSize": "0.00000000"},
    {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9000000.00000000", "avgPriceMins": 5},
    {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
)


class RefusalError(Exception):
    """An error as Binance writes it."""

    def __init__(self, code: int, msg: str) -> None:
        super().__init__(msg)
        self.code = code


class BinanceSite:
    """Implements tests.wire.loopback.Site. The replay starts with the first subscription, unless told to before.

    `delisted` are symbols that exist no longer: listed with status BREAK, without data.
    """

    hosts: Sequence[str] = (*_API_HOSTS, *_STREAM_HOSTS)

    def __init__(
        self,
        recording: Recording,
        *,
        speed: float = 1.0,
        at_end: AtEnd = AtEnd.HOLD,
        start_at_s: float = 0.0,
        shift_ns: int = 0,
        starts_by_itself: bool = True,
        delisted: Sequence[str] = ("LUNAUSDT",),
    ) -> None:
        self.replay = Replay(recording, self._deliver, speed=speed, at_end=at_end, shift_ns=shift_ns)
        self.replay.fast_forward(start_at_s)
        self.faults = Faults()
        self.streams: set[Stream] = set()
        self._starts_by_itself = starts_by_itself
        self._delisted = delisted
        self._stopping = asyncio.Event()
        self._paths: dict[str, Callable[[web.Request], Awaitable[Any]]] = {
            "/api/v3/ping": self._ping,
            "/api/v3/time": self._time,
            "/api/v3/exchangeInfo": self._exchange_info,
            "/api/v3/klines": self._klines,
            "/api/v3/depth": self._depth,
            "/api/v3/trades": self._trades,
        }

    async def stop(self) -> None:
        """End the replay and every stream."""
        self._stopping.set()
        await self.replay.stop()
        for stream in list(self.streams):
            await stream.close()
            await close_politely(stream.socket)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer REST, or become a stream."""
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._stream(request)
        fault = self.faults.take(request.path)
        if fault is not None:
            if fault.hang:
                await self._stopping.wait()  # the client will have hung up before
            return web.Response(status=fault.status, text=fault.body, headers=fault.headers)
        answer = self._paths.get(request.path)
        if answer is None:
            return web.Response(status=404, text="<html><body><h2>404 Not found</h2></body></html>")
        try:
            return web.json_response(await answer(request), headers={"x-mbx-used-weight-1m": "1"})
        except RefusalError as refusal:
            return web.json_response({"code": refusal.code, "msg": str(refusal)}, status=400)

    # REST

    async def _ping(self, _: web.Request) -> dict[str, Any]:
        return {}

    async def _time(self, _: web.Request) -> dict[str, Any]:
        return {"serverTime": self.replay.now_ms}

    async def _exchange_info(self, request: web.Request) -> dict[str, Any]:
        symbols = [
            _symbol(self.replay.recording.symbol, "TRADING"),
            *(_symbol(name, "BREAK") for name in self._delisted),
        ]
        wanted = request.query.get("symbolStatus")
        return {
            "timezone": "UTC",
            "serverTime": self.replay.now_ms,
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                {"rateLimitType": "RAW_REQUESTS", "interval": "MINUTE", "intervalNum": 5, "limit": 61000},
            ],
            "exchangeFilters": [],
            "symbols": [
                symbol
                for symbol in symbols
                if wanted in (None, symbol["status"]) and symbol["symbol"] not in self.faults.hidden_symbols
            ],
        }

    async def _klines(self, request: web.Request) -> list[list[Any]]:
        self._symbol_of(request)
        interval = request.query.get("interval", "")
        if interval not in INTERVALS_MS:
            raise RefusalError(-1120, "Invalid interval.")
        start, end = (_whole(request, name) for name in ("startTime", "endTime"))
        limit = _limit(request, 500, 1000)
        return self.replay.market.klines(interval, start, end, limit, self.replay.now_ms)

    async def _depth(self, request: web.Request) -> dict[str, Any]:
        self._symbol_of(request)
        return self.replay.market.depth(_limit(request, 100, 5000))

    async def _trades(self, request: web.Request) -> list[dict[str, Any]]:
        self._symbol_of(request)
        return self.replay.market.trades(_limit(request, 500, 1000))

    def _symbol_of(self, request: web.Request) -> str:
        symbol = request.query.get("symbol")
        if symbol is None:
            raise RefusalError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        if symbol != self.replay.recording.symbol or symbol in self.faults.hidden_symbols:
            raise RefusalError(-1121, "Invalid symbol.")
        return symbol

    # Streams

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.faults.refuse_streams:
            return web.Response(status=503, text="<html><body><h1>503 Service Unavailable</h1></body></html>")
        if self.faults.hang_streams:
            await self._stopping.wait()
        socket = Socket(heartbeat=_PING_S, compress=False)
        try:
            await socket.prepare(request)
        except ConnectionError:  # the client hung up meanwhile
            return web.Response(status=400)
        combined = request.path.startswith("/stream")
        stream = Stream(request, socket, combined=combined)
        self.streams.add(stream)
        names = request.query.get("streams", "") if combined else request.path.removeprefix("/ws").strip("/")
        try:
            self._subscribe(stream, [name for name in names.split("/") if "@" in name])
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    self._obey(stream, message.data)
        finally:
            self.streams.discard(stream)
            await stream.close()
        return socket

    def _obey(self, stream: Stream, text: str) -> None:
        try:
            order = json.loads(text)
            method, names, number = order["method"], order.get("params", []), order["id"]
        except (ValueError, KeyError, TypeError):
            stream.send(json.dumps({"error": {"code": 3, "msg": "Invalid JSON: expected an order"}}))
            return
        answer: dict[str, Any] = {"result": None, "id": number}
        if method == "UNSUBSCRIBE":
            for name in names:
                stream.subscribed.pop(name, None)
        elif method == "LIST_SUBSCRIPTIONS":
            answer["result"] = list(stream.subscribed)
        elif method != "SUBSCRIBE":
            answer = {"error": {"code": 2, "msg": f"Invalid request: unknown method {method}"}, "id": number}
        stream.send(json.dumps(answer, separators=(",", ":")))
        if method == "SUBSCRIBE":
            self._subscribe(stream, names)

    def _subscribe(self, stream: Stream, names: Sequence[str]) -> None:
        """As at Binance, a stream that does not exist is confirmed like any other, and says nothing."""
        stream.subscribed.update(dict.fromkeys(names))
        if names and self._starts_by_itself:
            self.replay.start()

    def _deliver(self, frame: Frame) -> None:
        if self.faults.silent:
            return
        self.publish(frame.stream, frame.data)
        if frame.kind == "trade":
            data = frame.data
            ids = {"a": data["t"], "f": data["t"], "l": data["t"]}
            self.publish(frame.stream.replace("@trade", "@aggTrade"), {**data, "e": "aggTrade", **ids})

    def publish(self, name: str, data: Any) -> None:
        """Send a message to everyone who subscribed to the stream."""
        raw = wrapped = ""
        for stream in self.streams:
            if name in stream.subscribed:
                raw = raw or json.dumps(data, separators=(",", ":"))
                if stream.combined:
                    wrapped = wrapped or f'{{"stream":"{name}","data":{raw}}}'
                stream.send(wrapped if stream.combined else raw)

    # Faults, also for other processes

    def fault_drop(self, kind: str = "", mid_frame: bool = True) -> int:
        """Break the connections that carry this kind of stream (all by default); gives how many."""
        chosen = [s for s in self.streams if not kind or any(name.endswith("@" + kind) for name in s.subscribed)]
        for stream in chosen:
            stream.cut(mid_frame=mid_frame)
        return len(chosen)

    def fault_garbage(self, text: str = '{"e":"trade","s":') -> int:
        """Send text that is no message on every connection; gives how many."""
        for stream in self.streams:
            stream.send(text)
        return len(self.streams)

    def fault_silence(self, silent: bool = True) -> None:
        """Say nothing more on streams, though the connections stay up and pings are answered."""
        self.faults.silent = silent

    def fault_refuse_streams(self, refuse: bool = True) -> None:
        """Answer new stream connections with 503."""
        self.faults.refuse_streams = refuse

    def fault_hang_streams(self, hang: bool = True) -> None:
        """Never answer new stream connections."""
        self.faults.hang_streams = hang

    def fault_rest(self, path: str, **answer: Any) -> None:
        """Answer a path otherwise; see RestFault."""
        self.faults.rest.append(RestFault(path, **answer))

    def fault_hide_symbol(self, symbol: str) -> None:
        """Take a symbol from the list."""
        self.faults.hidden_symbols.add(symbol)

    def fault_clear(self) -> None:
        """All is well again."""
        self.faults.clear()


def _whole(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise RefusalError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'.")
    return int(text)


def _limit(request: web.Request, default: int, most: int) -> int:
    limit = _whole(request, "limit")
    return default if limit is None else max(1, min(limit, most))


def _symbol(name: str, status: str) -> dict[str, Any]:
    quote = next((quote for quote in _QUOTES if name.endswith(quote)), name[-3:])
    return {
        "symbol": name,
        "status": status,
        "baseAsset": name.removesuffix(quote),
        "baseAssetPrecision": 8,
        "quoteAsset": quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS_LIMIT", "TAKE_PROFIT_LIMIT"],
        "icebergAllowed": True,
        "ocoAllowed": True,
        "isSpotTradingAllowed": status == "TRADING",
        "isMarginTradingAllowed": True,
        "filters": _FILTERS,
        "permissions": [],
        "permissionSets": [["SPOT", "MARGIN"]],
    }
