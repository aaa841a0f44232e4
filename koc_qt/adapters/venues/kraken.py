"""Kraken spot over ccxt.pro: public streams and candles, and the trading of one account.

Streams are those of WebSocket v2: `trade`, `ticker` at every change of the best bid or offer, `book` of 25 levels, and
`executions` of an account: https://docs.kraken.com/exchange/api-reference/spot-websocket-v2/executions
Orders go over REST: https://docs.kraken.com/api-reference/trading/add-order
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from koc_qt.adapters.ccxt_account import Lane
from koc_qt.adapters.ccxt_dialect import KeyRights, Raw
from koc_qt.adapters.ccxt_errors import Hints, Trouble
from koc_qt.adapters.ccxt_exchange import NOT_AS_EXPECTED, iso_ms
from koc_qt.adapters.ccxt_facts import exact
from koc_qt.adapters.ccxt_market_data import CcxtMarketData
from koc_qt.adapters.ccxt_trading import CcxtTrading
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.adapters.rate_budget import Priority, Span
from koc_qt.domain.orders import Order, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities, VenueTrade

# 1w and 2w exist there too, but open on Thursdays.
_TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "4h", "1d")

ABILITIES = VenueAbilities(
    venue="kraken",
    title="Kraken",
    trading=True,
    order_types=(OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK),
    post_only=True,
    client_ids=True,
    amend=True,
    private_streams=True,
    streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
    timeframes=_TIMEFRAMES,
    history_bars=720,
    credentials=(
        CredentialField("key", "API key"),
        CredentialField("secret", "Private key", "Shown once, when the key is made", is_multiline=True),
    ),
    keys_page="https://pro.kraken.com/app/settings/api",
    notes=(
        "Allow querying funds, querying open and closed orders, creating, modifying and cancelling orders; leave "
        "withdrawals off.",
        "Make a key for this program alone: of two programs that share one, Kraken refuses the one that counts its "
        "requests lower.",
        "Kraken gives the newest 720 bars of each length and no older ones: one-minute bars of the last 12 hours.",
    ),
)

_BOOK_DEPTH = 25  # the least that has the levels we show
_NONCE_TRIES = 5
_APART_S = 0.02  # requests of a key are sent so far apart while the one before is not answered: few overtake it then
_TURN_S = 4.0
_URGENT = {"CancelOrder": Priority.CANCEL, "AddOrder": Priority.ORDER, "AmendOrder": Priority.ORDER}
_NEVER_SURE = ("/AddOrder", "/AmendOrder")
_last_nonce = 0  # of all connections of this process: a key may be tried while it trades


def _next_nonce(now_ms: int) -> int:
    global _last_nonce
    _last_nonce = max(now_ms, _last_nonce + 1)
    return _last_nonce


def _mended(original: Any, on_executions: Callable[[Any], None], before_token: Callable[[], Any] | None = None) -> Any:
    """Give ccxt's class with what it lacks at Kraken mended.

    Subscriptions that Kraken refuses fail instead of waiting for ever; an outdated token is thrown away; executions are
    handed over whole, of which ccxt takes the first for all; numbers of requests rise over all connections, requests
    are sent a moment apart, and one that was overtaken, of which Kraken did nothing, is sent again under a new number.
    """
    import ccxt

    lane = Lane()

    class Mended(original):  # type: ignore[misc]
        """ccxt's class, mended."""

        def incrementing_nonce(self) -> int:
            """Give the number of a request: milliseconds of this machine, above all before."""
            return _next_nonce(ccxt.Exchange.milliseconds())

        async def fetch2(self, path: str, api: Any = "public", *args: Any, **kwargs: Any) -> Any:
            """Send a request; one of a key in its turn, and again where it was overtaken all the same."""
            if "private" not in api:
                return await super().fetch2(path, api, *args, **kwargs)
            for _ in range(_NONCE_TRIES - 1):
                try:
                    return await self.sent_in_turn(super().fetch2, path, api, *args, **kwargs)
                except ccxt.InvalidNonce:
                    continue
            return await self.sent_in_turn(super().fetch2, path, api, *args, **kwargs)

        async def sent_in_turn(self, send: Any, path: str, *args: Any, **kwargs: Any) -> Any:
            """Send a request, and let the next one go when it is answered or a moment later."""
            async with lane.turn(_URGENT.get(path, Priority.QUERY), _TURN_S):
                sending = asyncio.ensure_future(send(path, *args, **kwargs))
                try:
                    await asyncio.wait((sending,), timeout=_APART_S)
                except asyncio.CancelledError:
                    sending.cancel()
                    raise
            return await sending

        def handle_errors(self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *a: Any) -> Any:
            """Call an outage maintenance where it is sure that nothing was done."""
            if "EService:Unavailable" in (body or "") and not url.endswith(_NEVER_SURE):
                raise ccxt.OnMaintenance(f"{self.id} {body}")
            return super().handle_errors(code, reason, url, method, headers, body, *a)

        async def watch_orders(self, *_: Any, **__: Any) -> list[Any]:
            """Wait for the next word about orders; what it says is handed over on arrival."""
            url = self.urls["api"]["ws"]["privateV2"]
            request = None
            if "executions" not in self.client(url).subscriptions:
                if before_token is not None and not self.has_token():
                    await before_token()
                token = await self.authenticate()
                params = {"channel": "executions", "token": token, "snap_orders": True, "snap_trades": True}
                request = {"method": "subscribe", "params": params, "req_id": self.request_id()}
            await self.watch(url, "executions", request, "executions")
            return []

        def has_token(self) -> bool:
            """Tell whether a token is at hand, as ccxt keeps it."""
            kept = self.client(self.urls["api"]["ws"]["private"]).subscriptions.get("authenticated") or {}
            return bool(kept) and kept["start"] > self.seconds() - int(kept["expires"])

        def handle_message(self, client: Any, message: Any) -> None:
            """Take executions and refusals; the rest is ccxt's."""
            if message.get("method") == "subscribe" and message.get("success") is False:
                self.refused(client, str(message.get("error")), message.get("symbol"))
            elif message.get("channel") == "executions":
                on_executions(message)
                client.resolve([], "executions")
            else:
                super().handle_message(client, message)

        def handle_trades(self, client: Any, message: Any) -> None:
            """Take trades; ccxt those that are not as they should be."""
            try:
                rows, symbol = message["data"], message["data"][0]["symbol"]
                trades = [(r["trade_id"], iso_ms(r["timestamp"]), r["side"], r["price"], r["qty"]) for r in rows]
            except NOT_AS_EXPECTED:
                super().handle_trades(client, message)
            else:
                self.take_trades(client, f"trade@{symbol}", symbol, trades)

        def handle_ticker(self, client: Any, message: Any) -> None:
            """Take a quote; ccxt one that is not as it should be."""
            try:
                [row] = message["data"]
                best = {"bid": row["bid"], "bidVolume": row["bid_qty"], "ask": row["ask"], "askVolume": row["ask_qty"]}
                self.take_quote(client, f"ticker@{row['symbol']}", self.tickers, row["symbol"], best)
            except NOT_AS_EXPECTED:
                super().handle_ticker(client, message)

        def refused(self, client: Any, why: str, symbol: str | None) -> None:
            """Fail what waits for a subscription."""
            if symbol is not None and "not supported" in why:
                for kind in ("trade", "ticker", "orderbook"):
                    client.subscriptions.pop(f"{kind}@{symbol}", None)
                    if f"{kind}@{symbol}" in client.futures:
                        client.reject(ccxt.BadSymbol(f"{self.id} {why}"), f"{kind}@{symbol}")
                return
            self.client(self.urls["api"]["ws"]["private"]).subscriptions.pop("authenticated", None)
            client.on_error(ccxt.NetworkError(f"{self.id} refused a subscription: {why}"))

    return Mended


class KrakenVenue(CcxtMarketData):
    """Kraken's spot market; see CcxtMarketData for what it takes and does.

    Its clock is told in whole seconds: `time_ns` is behind by less than one until the first trade.
    """

    NAME: ClassVar[str] = "kraken"
    EXCHANGE_ID: ClassVar[str] = "kraken"
    TIMEFRAMES: ClassVar[tuple[str, ...]] = _TIMEFRAMES
    # ccxt's other way of keeping to one request a second makes each wait for the one before
    SETTINGS: ClassVar[Mapping[str, Any]] = {"rateLimiterAlgorithm": "rollingWindow"}

    def _mended(self, original: Any) -> Any:
        return _mended(original, lambda _: None)

    async def _candles(self, exchange: Any, symbol: str, timeframe: str, since_ms: int, last_ms: int) -> Any:
        return await exchange.fetch_ohlcv(symbol, timeframe, since_ms)

    async def _watch_quote(self, exchange: Any, symbol: str) -> Any:
        await exchange.watch_bids_asks([symbol])
        return exchange.tickers[symbol]

    async def _watch_book(self, exchange: Any, symbol: str) -> Any:
        return await exchange.watch_order_book(symbol, _BOOK_DEPTH)

    async def _unwatch(self, exchange: Any, symbol: str) -> None:
        """Unsubscribe, for which ccxt has nothing."""
        client = exchange.client(exchange.urls["api"]["ws"]["publicV2"])
        more: dict[str, dict[str, Any]] = {
            "trade": {},
            "ticker": {"event_trigger": "bbo"},
            "book": {"depth": _BOOK_DEPTH},
        }
        for channel, name in (("trade", "trade"), ("ticker", "ticker"), ("book", "orderbook")):
            if client.subscriptions.pop(f"{name}@{symbol}", None) is not None:
                params = {"channel": channel, "symbol": [symbol], **more[channel]}
                await client.send({"method": "unsubscribe", "params": params, "req_id": exchange.request_id()})


# What Kraken takes as it is; all else is given to it as a UUID made of it.
_SHORT = re.compile(r"[A-Za-z0-9_-]{1,18}")
_REMEMBERED = 20_000  # ids
_PAGE = 50
_ENDINGS = {"filled": OrderStatus.FILLED, "canceled": OrderStatus.CANCELED, "expired": OrderStatus.EXPIRED}
_POST_ONLY = "post only"  # why an order is gone that was not to take, as Kraken says it


def kraken_id(client_order_id: str) -> str:
    """Give an order's id in a form that Kraken takes: 18 characters of text at most, or a UUID.

    https://docs.kraken.com/exchange/guides/general/clordid
    """
    if _SHORT.fullmatch(client_order_id):
        return client_order_id
    return str(uuid.UUID(bytes=hashlib.sha256(client_order_id.encode()).digest()[:16], version=4))


class KrakenTrading(CcxtTrading):
    """One account's trading on Kraken spot; see CcxtTrading for what it takes and does. Kraken has no testnet."""

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES
    EXCHANGE_ID: ClassVar[str] = "kraken"
    # https://docs.kraken.com/exchange/guides/rest/ratelimits: 20 calls, of which one is forgotten every two seconds;
    # orders are counted apart and per pair, cancels are never refused for it
    SPANS: ClassVar[tuple[Span, ...]] = (
        Span("calls", 20, 40.0, kinds=(Priority.QUERY, Priority.DATA)),
        Span("orders", 125, 55.0, by_weight=False, kinds=(Priority.ORDER,)),
    )
    WEIGHTS: ClassVar[Mapping[str, int]] = {"time": 0, "markets": 0, "trades": 2}
    POLL_S: ClassVar[float] = 3.0
    POLLED_EACH: ClassVar[int] = 0
    # https://docs.kraken.com/exchange/guides/general/errors
    HINTS: ClassVar[Hints] = (
        ("eapi:invalid key", Trouble.KEY_OR_ADDRESS),
        ("eapi:invalid signature", Trouble.KEY),
        ("incorrect padding", Trouble.KEY),  # the secret is not even base64
        ("eapi:invalid nonce", Trouble.CLOCK),
        ("egeneral:permission denied", Trouble.PERMISSION),
        ("eaccount:invalid permissions", Trouble.REGION),
        ("eapi:rate limit", Trouble.RATE),
        ("egeneral:too many requests", Trouble.RATE),
        ("egeneral:temporary lockout", Trouble.RATE),
        ("eorder:rate limit", Trouble.REFUSED),  # of one pair's orders: no reason to hold cancels back
        ("eservice:market in", Trouble.CLOSED),
        ("eservice:timeout", Trouble.BROKEN),  # ccxt takes these two for a no, which is not sure
        ("internal error", Trouble.BROKEN),
        ("unknown asset pair", Trouble.SYMBOL),
        ("eorder:unknown order", Trouble.ABSENT),
        ("eorder:insufficient funds", Trouble.FUNDS),
        ("eorder:insufficient margin", Trouble.FUNDS),
        ("eorder:invalid", Trouble.ORDER),
        ("minimum not met", Trouble.ORDER),
        ("egeneral:invalid arguments", Trouble.ORDER),
        ("user locked", Trouble.SUSPENDED),
        ("account temporary disabled", Trouble.SUSPENDED),
    )
    STREAMS: ClassVar[tuple[str, ...]] = ("orders",)

    _sequence = 0

    def additions(self, original: Any) -> Any:
        """Mend ccxt's class."""
        self._ours: OrderedDict[str, str] = OrderedDict()

        async def before_token() -> None:
            await self.budget.acquire(Priority.QUERY)

        return _mended(original, self._take_executions, before_token)

    # ---- ids ------------------------------------------------------------------------------------------------------

    def client_id(self, order: Order) -> str:
        """Give the id in Kraken's form, and remember whose it is."""
        theirs = kraken_id(order.client_order_id)
        self._ours[theirs] = order.client_order_id
        if len(self._ours) > _REMEMBERED:
            self._ours.popitem(last=False)
        return theirs

    def _named(self, raw: Raw) -> dict[str, Any]:
        """Give an order structure under our id."""
        theirs = str(raw.get("clientOrderId") or "")
        return {**raw, "clientOrderId": self._ours.get(theirs, theirs)}

    # ---- the stream -----------------------------------------------------------------------------------------------

    def _heard(self, url: str) -> None:
        """Leave the stream down until its snapshot has come: Kraken speaks on a connection before it is subscribed."""

    def _take_executions(self, message: Raw) -> None:
        """Take a frame of the executions channel. Raises ValueError where one was lost before it."""
        self.take_orders(())
        for row in message.get("data") or ():
            if row.get("exec_type") == "trade":
                self.take_trades([row])
            else:
                self.take_orders([row])
        sequence, before = message.get("sequence"), self._sequence
        if isinstance(sequence, int):
            is_first = message.get("type") == "snapshot"
            self._sequence = sequence if is_first else max(sequence, before)
            if not is_first and sequence > before + 1:
                raise ValueError(f"frame {sequence} of executions came after {before}")

    def read_update(self, raw: Raw) -> OrderUpdate:
        """Read a row of the stream, or an order that was asked for; one that was not to take was rejected."""
        if "exec_type" in raw:
            return self._streamed(raw)
        told = self._named(raw)
        update = super().read_update(told)
        info = raw.get("info") or {}
        reason = str(info.get("reason") or "")
        status = _status(update.status, reason, update.filled)
        if status is OrderStatus.ACCEPTED and "stopped" in str(info.get("misc") or ""):
            status = OrderStatus.TRIGGERED
        return msgspec.structs.replace(update, status=status, reason=reason)

    def _streamed(self, row: Raw) -> OrderUpdate:
        filled = None if row.get("cum_qty") is None else exact(row["cum_qty"], "cum_qty")
        reason = str(row.get("reason") or row.get("cancel_reason") or "")
        status = _ENDINGS.get(str(row["exec_type"]), OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED)
        if status is OrderStatus.ACCEPTED and (row.get("triggers") or {}).get("status") == "triggered":
            status = OrderStatus.TRIGGERED
        theirs = str(row.get("cl_ord_id") or "")
        return OrderUpdate(
            status=_status(status, reason, filled),
            time_ns=self._time_of(row),
            client_order_id=self._ours.get(theirs, theirs),
            venue_order_id=str(row["order_id"]),
            filled=filled,
            reason=reason,
        )

    def _time_of(self, row: Raw) -> int:
        time_ms = self._account.exchange.parse8601(row.get("timestamp"))
        return self.time_ns() if time_ms is None else int(time_ms) * 1_000_000

    def read_execution(self, raw: Raw) -> VenueTrade:
        """Read a row of the stream, or an execution that was asked for."""
        if "exec_type" in raw:
            told = self._account.exchange.parse_ws_trade(raw)
            return super().read_execution(self._named({**told, "clientOrderId": raw.get("cl_ord_id")}))
        return super().read_execution(raw)

    # ---- requests -------------------------------------------------------------------------------------------------

    def order_parameters(self, order: Order) -> dict[str, Any]:
        """Give ccxt's extra parameters; fees are to be in quote currency."""
        parameters = {**super().order_parameters(order), "oflags": "fciq"}
        if "triggerPrice" in parameters:
            parameters["stopLossPrice"] = parameters.pop("triggerPrice")
        return parameters

    async def amend_there(
        self, exchange: Any, order: Order, venue_order_id: str, quantity: Decimal, price: Decimal | None
    ) -> Raw:
        """Ask for a change, which the order keeps its id in: the answer's is that of the change."""
        await super().amend_there(exchange, order, venue_order_id, quantity, price)
        return {"id": venue_order_id}

    async def find_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw | None:
        """Look an order up by Kraken's id; by ours among the open ones, then among the closed ones."""
        theirs = self.client_id(order)
        if venue_order_id:
            try:
                return self._named(await exchange.fetch_order(venue_order_id, None, {"trades": "true"}))
            except Exception as error:
                if self.is_absent(error):
                    return None
                raise
        asked = {"clientOrderId": theirs, "trades": "true"}
        symbol = order.request.instrument.symbol
        listed = await exchange.fetch_open_orders(symbol, None, None, asked)
        if not listed:
            await self.budget.acquire(Priority.QUERY)
            listed = await exchange.fetch_closed_orders(symbol, None, None, asked)
        newest = [raw for raw in listed if raw.get("clientOrderId") == theirs][-1:]
        return self._named(newest[0]) if newest else None

    async def fetch_fills(self, exchange: Any, order: Order, raw: Raw) -> Sequence[Raw]:
        """Ask for the executions that the order lists."""
        if not raw.get("trades"):
            return ()
        listed: Sequence[Raw] = await exchange.fetch_order_trades(
            raw["id"], order.request.instrument.symbol, None, None, {"trades": [each["id"] for each in raw["trades"]]}
        )
        return listed

    async def fetch_open_orders(self, exchange: Any) -> Sequence[Raw]:
        """Give every open order of the account."""
        return [self._named(raw) for raw in await super().fetch_open_orders(exchange)]

    async def fetch_trades(self, exchange: Any, since_ms: int) -> Sequence[Raw]:
        """Give the account's executions since then, page by page, the newest first."""
        listed: list[Raw] = []
        while True:
            page = await exchange.fetch_my_trades(None, since_ms - 1000, None, {"ofs": len(listed)})
            listed += page
            if len(page) < _PAGE:
                return listed
            await self.budget.acquire(Priority.QUERY, 2)

    async def fetch_rights(self, exchange: Any) -> KeyRights:
        """Ask what the key may do."""
        told = (await exchange.privatePostGetApiKeyInfo())["result"]
        names = tuple(str(name) for name in told.get("permissions") or ())
        return KeyRights(
            can_read={"query-funds", "query-open-trades"} <= set(names),
            can_trade={"modify-trades", "close-trades"} <= set(names),
            can_withdraw="withdraw-funds" in names,
            names=names,
        )

    async def fetch_fees(self, exchange: Any) -> tuple[Decimal | None, Decimal | None]:
        """Ask for the account's fees on bitcoin, which are those of most pairs."""
        pair = exchange.market("BTC/USD")["id"]
        told = (await exchange.privatePostTradeVolume({"pair": pair}))["result"]
        maker, taker = (
            exact(told[side][pair]["fee"], side) / 100 if pair in (told.get(side) or {}) else None
            for side in ("fees_maker", "fees")
        )
        return maker, taker


def _status(status: OrderStatus, reason: str, filled: Decimal | None) -> OrderStatus:
    """Call rejected what is gone because it would have taken."""
    if status is OrderStatus.CANCELED and not filled and reason.lower().startswith(_POST_ONLY):
        return OrderStatus.REJECTED
    return status
