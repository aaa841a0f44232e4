"""KuCoin spot over ccxt.pro: public streams and candles, and the trading of one account.

Topics are `/market/match`, `/spotMarket/level1` (the best bid and offer) and `/spotMarket/level2Depth50` (whole each
time); of an account `/spotMarket/tradeOrdersV2` and `/spotMarket/advancedOrders` (stop orders):
https://www.kucoin.com/docs-new/3470074w0. Which host they come from, and a token for it, is asked for anew for each
connection: https://www.kucoin.com/docs-new/websocket-api/base-info/introduction
Orders are high-frequency ones: https://www.kucoin.com/docs-new/rest/spot-trading/orders/add-order
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from koc_qt.adapters.ccxt_dialect import KeyRights, Raw
from koc_qt.adapters.ccxt_errors import Hints, Trouble
from koc_qt.adapters.ccxt_exchange import NOT_AS_EXPECTED
from koc_qt.adapters.ccxt_facts import MS_NS, MalformedError, exact
from koc_qt.adapters.ccxt_market_data import CcxtMarketData
from koc_qt.adapters.ccxt_trading import CcxtTrading
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.adapters.rate_budget import Priority, Span
from koc_qt.domain.errors import VenueRejected
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Order, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.timeframes import DAY_NS, bar_open_ns, duration_ns
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities, VenueTrade

# 1w and 1M exist there too, but open on days of KuCoin's own choosing.
_TIMEFRAMES = ("1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d")

ABILITIES = VenueAbilities(
    venue="kucoin",
    title="KuCoin",
    trading=True,
    order_types=(OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK),
    post_only=True,
    client_ids=True,
    amend=False,  # it cancels and sends a new order, and where its answer is lost nobody can tell which works
    private_streams=True,
    streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
    timeframes=_TIMEFRAMES,
    credentials=(
        CredentialField("key", "API key"),
        CredentialField("secret", "Secret", "Shown once, when the key is made", is_multiline=True),
        CredentialField("passphrase", "Passphrase", "The one chosen for this key, not the trading password"),
    ),
    keys_page="https://www.kucoin.com/account/api",
    notes=(
        "Allow General and Spot; leave withdrawals off. Keys without a list of allowed addresses expire unless used.",
        "Only what is in the trading account can be used: move funds there first. Unified accounts are not supported.",
    ),
)

_OPTIONS: Mapping[str, Any] = {"fetchMarkets": {"types": ["spot"], "fetchTickersFees": True}}
_BOOK_DEPTH = 50
_ACCOUNT_TOPICS = ("/spotMarket/tradeOrdersV2", "/spotMarket/advancedOrders")


def _mended(
    original: Any,
    on_account: Callable[[Sequence[Raw]], None] | None = None,
    before_token: Callable[[], Any] | None = None,
) -> Any:
    """Give ccxt's class with what it lacks at KuCoin mended.

    Each connection has a token of its own, where ccxt would go on with one that has expired; a refused subscription
    ends the connection instead of leaving its stream silent; words of the account are handed over as they come, of
    which ccxt keeps the newest alone.
    """
    import ccxt

    class Mended(original):  # type: ignore[misc]
        """ccxt's class, mended."""

        awaited: frozenset[str] = frozenset()  # confirmations of the account's topics

        async def negotiate(self, is_private: bool, *args: Any, **kwargs: Any) -> str:
            """Give the address of a connection: the one that is there, or a new one."""
            kind = "private" if is_private else "public"
            urls = self.options.setdefault("urls", {})
            known = urls.get(kind)
            if known is not None and known.done() and (known.exception() or known.result() not in self.clients):
                del urls[kind]
            if kind not in urls and before_token is not None:
                await before_token()
            url = await super().negotiate(is_private, *args, **kwargs)
            if url is None:
                raise ccxt.ExchangeNotAvailable(f"{self.id} gave no address for its streams")
            return str(url)

        def handle_error_message(self, client: Any, message: Any) -> bool:
            """End a connection on which something was refused; a symbol that is gone ends its streams alone."""
            why = str(message.get("data") or message)
            gone = why.removeprefix("topic ").partition(" ")[0].rpartition(":")[2]
            if "is not found" in why and gone in self.markets_by_id:
                symbol = self.safe_symbol(gone)
                for name in (f"trades:{symbol}", f"bidask@{symbol}", f"orderbook:{symbol}"):
                    if name in client.futures:
                        client.reject(ccxt.BadSymbol(f"{self.id} {why}"), name)
                return False
            client.on_error(ccxt.NetworkError(f"{self.id} ended a stream: {why}"))
            return False

        async def watch_orders(self, *_: Any, **__: Any) -> list[Any]:
            """Wait for the next word about orders; what it says is handed over on arrival."""
            url = await self.negotiate(True)
            numbers = [str(self.request_id()) for _ in _ACCOUNT_TOPICS]
            if _ACCOUNT_TOPICS[0] not in self.client(url).subscriptions:
                self.awaited = frozenset(numbers)
            for topic, number in zip(_ACCOUNT_TOPICS, numbers, strict=True):
                asked = {"type": "subscribe", "topic": topic, "response": True, "privateChannel": True}
                word = self.watch(url, "account", {"id": number, **asked}, topic)
            await word
            return []

        def handle_subscription_status(self, client: Any, message: Any) -> None:
            """Take a confirmation; with the last of the account's its stream has begun."""
            super().handle_subscription_status(client, message)
            if on_account is not None and message.get("id") in self.awaited:
                self.awaited -= {message["id"]}
                if not self.awaited:
                    on_account(())

        def handle_subject(self, client: Any, message: Any) -> None:
            """Take words of the account, trades and quotes; the rest is ccxt's."""
            if on_account is not None and message.get("topic") in _ACCOUNT_TOPICS:
                on_account([message["data"]])
                client.resolve([], "account")
                return
            try:
                taken = self.taken(client, message)
            except NOT_AS_EXPECTED:
                taken = False
            if not taken:
                super().handle_subject(client, message)

        def taken(self, client: Any, message: Any) -> bool:
            """Take a trade or a quote, if a message is one. Raises NOT_AS_EXPECTED."""
            (topic, _, market_id), data = message["topic"].partition(":"), message["data"]
            if topic == "/market/match":
                symbol, time_ms = self.spot_symbol(market_id), int(data["time"]) // MS_NS
                trade = (data["tradeId"], time_ms, data["side"], data["price"], data["size"])
                self.take_trades(client, f"trades:{symbol}", symbol, [trade])
                return True
            if topic == "/spotMarket/level1":
                symbol, (bid, bid_size), (ask, ask_size) = self.spot_symbol(market_id), data["bids"], data["asks"]
                best = {"bid": bid, "bidVolume": bid_size, "ask": ask, "askVolume": ask_size}
                self.take_quote(
                    client, f"bidask@{symbol}", self.bidsasks, symbol, best | {"timestamp": data["timestamp"]}
                )
                return True
            return False

    return Mended


class KucoinVenue(CcxtMarketData):
    """KuCoin's spot market; see CcxtMarketData for what it takes and does."""

    NAME: ClassVar[str] = "kucoin"
    EXCHANGE_ID: ClassVar[str] = "kucoin"
    TIMEFRAMES: ClassVar[tuple[str, ...]] = _TIMEFRAMES
    OPTIONS: ClassVar[Mapping[str, Any]] = _OPTIONS
    # ccxt's other way of keeping to the limits makes each request wait for the one before
    SETTINGS: ClassVar[Mapping[str, Any]] = {"rateLimiterAlgorithm": "rollingWindow"}
    BARS_PER_PAGE: ClassVar[int] = 1499  # of 1,500, so that whether the last one is in or out does not matter

    def _mended(self, original: Any) -> Any:
        return _mended(original)

    async def _candles(self, exchange: Any, symbol: str, timeframe: str, since_ms: int, last_ms: int) -> Any:
        return await exchange.fetch_ohlcv(symbol, timeframe, since_ms, self.BARS_PER_PAGE)

    async def _after_gap(self, instrument: InstrumentId, timeframe: str, since_ns: int, end_ns: int) -> int:
        """Go on behind an empty page: KuCoin has no bars where nobody traded, and gives none from beyond the page.

        Looks for the next day with trades, and begins a day before it: the first one may be told when it is whole.
        """
        next_ns = since_ns + self.BARS_PER_PAGE * duration_ns(timeframe)
        day_ns = bar_open_ns(next_ns, "1d")
        while day_ns < end_ns:
            days = await self._page(instrument, "1d", day_ns, end_ns)
            if days:
                return max(next_ns, days[0].open_time_ns - DAY_NS)
            day_ns += self.BARS_PER_PAGE * DAY_NS
        return end_ns

    async def _watch_book(self, exchange: Any, symbol: str) -> Any:
        return await exchange.watch_order_book(symbol, _BOOK_DEPTH)

    async def _unwatch(self, exchange: Any, symbol: str) -> None:
        """Unsubscribe, for which ccxt has only a part."""
        client = exchange.client(await exchange.negotiate(False))
        name = exchange.market(symbol)["id"]
        depth = f"/spotMarket/level2Depth{_BOOK_DEPTH}:{name}"
        for topic, key in (
            (f"/market/match:{name}", f"/market/match:{name}"),
            (f"/spotMarket/level1:{name}", f"bidask@{symbol}"),
            (depth, depth),
        ):
            if client.subscriptions.pop(key, None) is not None:
                number = str(exchange.request_id())
                await client.send({"id": number, "type": "unsubscribe", "topic": topic, "response": True})


_WEEK_MS = 7 * 86_400_000
_PAGE = 100  # executions
_MOST_SYMBOLS = 40  # that are asked for executions
_MAJOR = ("USDT", "USDC", "BTC", "ETH", "KCS")
_STOPS = (OrderType.STOP, OrderType.STOP_LIMIT)
_STATES = {
    "open": OrderStatus.ACCEPTED,
    "received": OrderStatus.ACCEPTED,
    "match": OrderStatus.PARTIALLY_FILLED,
    "filled": OrderStatus.FILLED,
    "canceled": OrderStatus.CANCELED,
    "triggered": OrderStatus.TRIGGERED,
    "cancel": OrderStatus.CANCELED,
}
_AT_ONCE_MS = 2_000  # a post-only order that is gone so soon would have taken


class KucoinTrading(CcxtTrading):
    """One account's trading on KuCoin spot; see CcxtTrading for what it takes and does. KuCoin has no testnet.

    Executions come without fees on the stream: each is asked for once the stream has counted it.
    """

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES
    EXCHANGE_ID: ClassVar[str] = "kucoin"
    OPTIONS: ClassVar[Mapping[str, Any]] = {
        "hf": True,  # every account's orders are, since 2024
        "uta": False,  # ccxt would ask, and then do everything by an API that nothing here is made for
        "fetchMarkets": {"types": ["spot"], "fetchTickersFees": False},
    }
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = {"marginables": False}
    KEYS: ClassVar[Mapping[str, str]] = {"key": "apiKey", "secret": "secret", "passphrase": "password"}
    # https://www.kucoin.com/docs-new/rate-limit: 4,000 in 30 s for what concerns orders at the lowest level, and 2,000
    # for the account, which are counted in the same span here
    SPANS: ClassVar[tuple[Span, ...]] = (Span("spot", 4_000, 30.0),)
    WEIGHTS: ClassVar[Mapping[str, int]] = {
        "time": 0,
        "markets": 10,
        "cancel": 5,
        "find": 8,
        "fills": 2,
        "open_orders": 20,
        "trades": 40,
        "balances": 5,
        "key": 20,
        "fees": 3,
    }
    # https://www.kucoin.com/docs-new/error-code
    HINTS: ClassVar[Hints] = (
        ('"400006"', Trouble.ADDRESS),
        ('"400007"', Trouble.PERMISSION),
        ('"400003"', Trouble.KEY),
        ('"400004"', Trouble.KEY),
        ('"400005"', Trouble.KEY),
        ('"400002"', Trouble.CLOCK),
        ('"429000"', Trouble.RATE),
        ('"200004"', Trouble.FUNDS),
        ('"900001"', Trouble.SYMBOL),
        ('"200000000"', Trouble.CLOSED),
        ('"126044"', Trouble.TWICE),
        ('"411100"', Trouble.SUSPENDED),
        ('"408000"', Trouble.BROKEN),  # a time-out inside KuCoin, and others that ccxt takes for a no
        ('"230005"', Trouble.BROKEN),
        ('"126038"', Trouble.BROKEN),
        ('"126039"', Trouble.BROKEN),
        ('"400303"', Trouble.SUSPENDED),  # identity is to be verified first
        ('"400500"', Trouble.REGION),
        ("under maintenance", Trouble.MAINTENANCE),
        ("order does not exist", Trouble.ABSENT),
        ("not_exist", Trouble.ABSENT),
        ("order size", Trouble.ORDER),
        ("increment invalid", Trouble.ORDER),
        ("order funds", Trouble.ORDER),
    )
    STREAMS: ClassVar[tuple[str, ...]] = ("orders",)

    _is_classic = False

    def additions(self, original: Any) -> Any:
        """Mend ccxt's class."""

        async def before_token() -> None:
            await self.budget.acquire(Priority.QUERY, 10)

        return _mended(original, self.take_orders, before_token)

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Take what is used up of the pool of orders; other pools are smaller."""
        limit, left = (headers.get(f"gw-ratelimit-{name}", "") for name in ("limit", "remaining"))
        if limit.isdigit() and left.isdigit() and int(limit) >= self.SPANS[0].limit:
            self.budget.told("spot", int(limit) - int(left))

    # ---- the stream, and what is asked for --------------------------------------------------------------------------

    def _heard(self, url: str) -> None:
        """Leave the stream down until its topics are confirmed: KuCoin speaks on a connection before that."""

    def read_update(self, raw: Raw) -> OrderUpdate:
        """Read a word of the stream, or an order that was asked for; one that was not to take was rejected."""
        update = self._streamed(raw) if "info" not in raw else super().read_update(raw)
        if raw.get("status") == "triggered" and not update.filled:
            return msgspec.structs.replace(update, status=OrderStatus.TRIGGERED)
        info = raw.get("info") or raw
        began_ms = info.get("orderTime") or info.get("createdAt")
        if update.status is OrderStatus.CANCELED and not update.filled and isinstance(began_ms, int):
            order = self._tracker.order(update.client_order_id)
            soon = update.time_ns // MS_NS - began_ms < _AT_ONCE_MS
            if order is not None and order.request.post_only and soon and not order.cancel_requested:
                reason = "as post-only it would have taken: KuCoin took it back"
                return msgspec.structs.replace(update, status=OrderStatus.REJECTED, reason=reason)
        return update

    def _streamed(self, data: Raw) -> OrderUpdate:
        status, said_ns = _STATES.get(str(data.get("type"))), str(data.get("ts") or "")
        if status is None:
            raise MalformedError(f"an order's word of type {data.get('type')!r}")
        if status is OrderStatus.TRIGGERED and data.get("triggerSuccess") is False:
            status = OrderStatus.REJECTED
        return OrderUpdate(
            status=status,
            time_ns=int(said_ns) if said_ns.isdigit() else self.time_ns(),
            client_order_id=str(data.get("clientOid") or ""),
            venue_order_id=str(data["orderId"]),
            filled=exact(data["filledSize"], "filledSize") if data.get("filledSize") else None,
            reason=str(data.get("error") or ""),
        )

    def read_execution(self, raw: Raw) -> VenueTrade:
        """Read an execution by its number in the account: trade ids are counted per symbol."""
        number = (raw.get("info") or {}).get("id")
        return super().read_execution({**raw, "id": str(number or raw["id"])})

    # ---- requests ---------------------------------------------------------------------------------------------------

    def order_parameters(self, order: Order) -> dict[str, Any]:
        """Give ccxt's extra parameters: which way a stop's price is to be passed follows from its side."""
        parameters = super().order_parameters(order)
        if "triggerPrice" in parameters:
            parameters["stopLossPrice"] = parameters.pop("triggerPrice")
        return parameters

    async def cancel_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw:
        """Ask for a cancel by our id; a stop order is first looked for among those that have not gone off."""
        symbol, ours = order.request.instrument.symbol, {"clientOid": self.client_id(order)}
        if order.request.type in _STOPS:
            try:
                await exchange.cancel_order(None, symbol, {**ours, "stop": True})
            except Exception as error:
                if not self.is_absent(error):
                    raise
            else:
                return {}
        await exchange.cancel_order(None, symbol, ours)
        return {}

    async def find_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw | None:
        """Look an order up by our id. Of what it does not have KuCoin says nothing, and ccxt makes an empty order."""
        symbol, ours = order.request.instrument.symbol, {"clientOid": self.client_id(order)}
        found = await self._found(exchange, symbol, ours)
        if order.request.type in _STOPS:
            if found is None:
                found = await self._found(exchange, symbol, {**ours, "stop": True})
                return found and {**found, "filled": "0"}
            # it has gone off, and has another id since; it stays the order that it was
            state = "triggered" if found.get("status") == "open" else found.get("status")
            return {**found, "id": venue_order_id or found["id"], "status": state}
        return found

    async def _found(self, exchange: Any, symbol: str, parameters: Mapping[str, Any]) -> Raw | None:
        try:
            raw: Raw = await exchange.fetch_order(None, symbol, dict(parameters))
        except Exception as error:
            if self.is_absent(error):
                return None
            raise
        return raw if raw.get("id") else None

    async def fetch_fills(self, exchange: Any, order: Order, raw: Raw) -> Sequence[Raw]:
        """Ask for the executions of one order."""
        number = (raw.get("info") or {}).get("id") or raw["id"]
        listed: Sequence[Raw] = await exchange.fetch_my_trades(
            order.request.instrument.symbol, None, _PAGE, {"orderId": number}
        )
        return listed

    async def fetch_open_orders(self, exchange: Any) -> Sequence[Raw]:
        """Give every open order: symbol by symbol, and the stop orders that wait."""
        told = (await exchange.privateGetHfOrdersActiveSymbols({"tradeType": "TRADE"})).get("data") or {}
        listed: list[Raw] = []
        for name in told.get("symbols") or ():
            listed += await exchange.fetch_open_orders(exchange.safe_symbol(name))
        page = 1
        while True:
            stops = await exchange.fetch_open_orders(
                None, None, _PAGE, {"stop": True, "hf": False, "currentPage": page}
            )
            listed += stops
            if len(stops) < _PAGE:
                return listed
            page += 1

    async def fetch_trades(self, exchange: Any, since_ms: int) -> Sequence[Raw]:
        """Ask symbol by symbol and week by week, as KuCoin wants it: of our orders, open ones, and what is held.

        What was bought and sold again without a trace in the balances is found for our own orders alone.
        """
        now_ms = self.time_ns() // MS_NS
        listed: list[Raw] = []
        for symbol in await self._traded_symbols(exchange):
            for start_ms in range(since_ms, now_ms + 1, _WEEK_MS):
                listed += await self._week(exchange, symbol, start_ms, min(start_ms + _WEEK_MS - 1, now_ms + 60_000))
        return listed

    async def _week(self, exchange: Any, symbol: str, start_ms: int, end_ms: int) -> list[Raw]:
        listed: list[Raw] = []
        asked: dict[str, Any] = {"endAt": end_ms}
        while True:
            page = await exchange.fetch_my_trades(symbol, start_ms, _PAGE, asked)
            listed += page
            if len(page) < _PAGE:
                return listed
            asked["lastId"] = min(int(trade["info"]["id"]) for trade in page)

    async def _traded_symbols(self, exchange: Any) -> list[str]:
        held = set((await self.fetch_balances(exchange))["total"])
        ours = dict.fromkeys(self.known_symbols())
        ours |= dict.fromkeys(str(raw["symbol"]) for raw in await self.fetch_open_orders(exchange))
        for market in exchange.markets.values():
            if market["base"] in held and market["quote"] in {*held, *_MAJOR}:
                ours[market["symbol"]] = None
        return [symbol for symbol in ours if symbol in exchange.markets][:_MOST_SYMBOLS]

    async def fetch_balances(self, exchange: Any) -> Raw:
        """Give what is in the trading account. Raises VenueRejected for a unified account, which trades otherwise."""
        if not self._is_classic:
            mode = (await exchange.utaPrivateGetAccountMode())["data"].get("selfAccountMode")
            if mode == "UNIFIED":
                raise VenueRejected(
                    "KuCoin has this account in unified mode, which is not supported; switch it to classic mode, or "
                    "use a key of a sub-account that is in it"
                )
            self._is_classic = True
        total: dict[str, Decimal] = {}
        used: dict[str, Decimal] = {}
        for row in (await exchange.privateGetAccounts({}))["data"]:
            if row["type"] in ("trade", "trade_hf"):
                code = exchange.safe_currency_code(row["currency"])
                total[code] = total.get(code, Decimal(0)) + exact(row["balance"], "balance")
                used[code] = used.get(code, Decimal(0)) + exact(row["holds"], "holds")
        return {"total": total, "used": used}

    async def fetch_rights(self, exchange: Any) -> KeyRights:
        """Ask what the key may do; an older word for withdrawing is Transfer."""
        told = (await exchange.privateGetUserApiKey())["data"]
        names = tuple(name.strip() for name in str(told.get("permission") or "").split(",") if name.strip())
        return KeyRights(
            can_read="General" in names,
            can_trade="Spot" in names or "Trade" in names,
            can_withdraw="Withdrawal" in names or "Transfer" in names,
            names=names,
        )

    async def fetch_fees(self, exchange: Any) -> tuple[Decimal | None, Decimal | None]:
        """Ask for the account's fees on bitcoin, which are those of most symbols."""
        told = (await exchange.privateGetTradeFees({"symbols": exchange.market("BTC/USDT")["id"]}))["data"]
        row = told[0] if told else {}
        maker, taker = (exact(row[side], side) if side in row else None for side in ("makerFeeRate", "takerFeeRate"))
        return maker, taker
