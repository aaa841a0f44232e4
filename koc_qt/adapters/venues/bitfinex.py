"""Bitfinex's exchange wallets over ccxt.pro: public streams and candles, and the trading of one account.

Streams are `trades` and `book`, of which quotes are the best level, with checksums; orders go over REST and come back
on channel 0: https://docs.bitfinex.com/docs/ws-public and https://docs.bitfinex.com/docs/ws-auth
Numbers are JSON's; prices have five significant digits: https://docs.bitfinex.com/docs/introduction
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from koc_qt.adapters.ccxt_book_quotes import CcxtBookQuotes
from koc_qt.adapters.ccxt_dialect import KeyRights, Raw
from koc_qt.adapters.ccxt_errors import Hints, Trouble
from koc_qt.adapters.ccxt_exchange import NOT_AS_EXPECTED
from koc_qt.adapters.ccxt_facts import MS_NS, MalformedError, exact
from koc_qt.adapters.ccxt_order_facts import amount
from koc_qt.adapters.ccxt_trading import CcxtTrading
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.adapters.rate_budget import Priority, Span
from koc_qt.domain.errors import VenueRejected
from koc_qt.domain.exact import EXACT
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, Order, OrderStatus, OrderType, TimeInForce
from koc_qt.domain.venues import CredentialField, DataStream, VenueAbilities, VenueTrade
from koc_qt.ports.clock import Clock

# 1w and longer exist there too, but open on days of its own choosing.
_TIMEFRAMES = ("1m", "5m", "15m", "30m", "1h", "3h", "6h", "12h", "1d")
_MOST_SYMBOLS = 12  # a connection carries 25 channels, a symbol takes two
_DIGITS = 5
_NONCE_TRIES = 5

ABILITIES = VenueAbilities(
    venue="bitfinex",
    title="Bitfinex",
    trading=True,
    order_types=(OrderType.MARKET, OrderType.LIMIT, OrderType.STOP, OrderType.STOP_LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK),
    post_only=True,
    client_ids=True,
    amend=True,
    private_streams=True,
    streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
    timeframes=_TIMEFRAMES,
    credentials=(
        CredentialField("key", "API key"),
        CredentialField("secret", "API key secret", "Shown once, when the key is made", is_multiline=True),
    ),
    keys_page="https://setting.bitfinex.com/api",
    notes=(
        "Allow reading account info, history, orders and wallets, and creating and cancelling orders; leave "
        "withdrawals off.",
        "Make a key for this program alone: of two programs that share one, Bitfinex refuses the one that counts its "
        "requests lower.",
        "Bitfinex has no testnet: use paper trading here. Its own paper trading is a sub-account whose key is used as "
        "a live one, with the pairs TESTBTC/TESTUSD.",
        "Prices have five significant digits. At most 12 symbols can be streamed at once.",
    ),
)
_last_nonce = 0  # of all connections of this process: a key may be tried while it trades


def _next_nonce(now_ms: int) -> int:
    global _last_nonce
    _last_nonce = max(now_ms, _last_nonce + 1)
    return _last_nonce


def _mended(
    original: Any,
    clock: Clock,
    on_orders: Callable[[Iterable[Raw]], None] | None = None,
    on_trades: Callable[[Iterable[Raw]], None] | None = None,
    on_limit: Callable[[], None] | None = None,
) -> Any:
    """Give ccxt's class with what it lacks at Bitfinex mended.

    It has no clock, gives up when requests overtake each other, takes a new snapshot of a book for a change of the old
    one, subscribes a second time to a book whose checksum was wrong, does not hear refusals and restarts, loses all but
    the newest of several words about an order, reads amounts as floats, and calls an order refused of which a broken
    server knows nothing.
    """
    import ccxt

    class Mended(original):  # type: ignore[misc]
        """ccxt's class, mended."""

        date_ms: int | None = None  # the newest answer's

        def describe(self) -> Any:
            """Do without the lists of currencies, another long request; keep to the one connection that orders use."""
            hosts = {} if on_orders is None else {"urls": {"api": {"public": "https://api.bitfinex.com"}}}
            return self.deep_extend(super().describe(), {"has": {"fetchCurrencies": False}}, hosts)

        def incrementing_nonce(self) -> int:
            """Give the number of a request: milliseconds of this machine, above all before."""
            return _next_nonce(ccxt.Exchange.milliseconds())

        async def fetch2(self, path: str, *args: Any, **kwargs: Any) -> Any:
            """Send a request, again where it was overtaken: nothing was done of it."""
            for _ in range(_NONCE_TRIES - 1):
                try:
                    return await super().fetch2(path, *args, **kwargs)
                except ccxt.InvalidNonce:
                    continue
            return await super().fetch2(path, *args, **kwargs)

        def on_json_response(self, body: str) -> Any:
            """Read numbers digit for digit."""
            return json.loads(body, parse_float=str)

        def on_rest_response(self, code: int, reason: str, url: str, method: str, headers: Any, *args: Any) -> Any:
            """Note the answer's date."""
            date = headers.get("Date")
            self.date_ms = None if date is None else round(parsedate_to_datetime(date).timestamp() * 1000)
            return super().on_rest_response(code, reason, url, method, headers, *args)

        async def fetch_time(self, params: Any = None) -> int | None:
            """Tell the venue's time by an answer's date; where this machine's clock fits that whole second, by it."""
            sent_ns = clock.time_ns()
            [status] = await self.publicGetPlatformStatus()
            if str(status) != "1":
                raise ccxt.OnMaintenance(f"{self.id} is in maintenance")
            if self.date_ms is None:
                return None
            return min(max((sent_ns + clock.time_ns()) // 2 // MS_NS, self.date_ms), self.date_ms + 999)

        def handle_errors(
            self, code: int, reason: str, url: str, method: str, headers: Any, body: str, response: Any, *args: Any
        ) -> Any:
            """Call nothing a refusal that a broken server says, and maintenance what it calls so."""
            refusal = response if isinstance(response, list) and response[:1] == ["error"] else None
            if code == 429 and on_limit is not None:
                on_limit()
            if refusal is not None and str(refusal[1]) == "20060":
                raise ccxt.OnMaintenance(f"{self.id} {body}")
            if code >= 500 and (refusal is None or str(refusal[1]) == "10000"):
                raise ccxt.ExchangeNotAvailable(f"{self.id} {code} {body}")
            return super().handle_errors(code, reason, url, method, headers, body, response, *args)

        def handle_message(self, client: Any, message: Any) -> None:
            """Hear refusals, and that the venue wants to be connected to again; the rest is ccxt's."""
            event = message.get("event") if isinstance(message, dict) else None
            if event == "error":
                self.refused(client, message)
            elif event == "info" and message.get("code") in (20051, 20060, 20061):
                client.on_error(ccxt.NetworkError(f"{self.id} says: {message.get('msg')}"))
            elif isinstance(message, list) and message[1:2] == ["hb"]:
                self.tell_again(client, client.subscriptions.get(str(message[0])))
            elif not (isinstance(message, list) and len(message) == 3 and self.is_trade(client, message)):
                super().handle_message(client, message)

        def is_trade(self, client: Any, message: Any) -> bool:
            """Take an execution in the market, which is told twice; False for anything else, or an odd one."""
            try:
                number, kind, (trade_id, time_ms, amount, price) = message
                subscription = client.subscriptions[str(number)]
                if subscription["channel"] != "trades" or kind not in ("te", "tu"):
                    return False
                trade = (trade_id, int(time_ms), "buy" if amount > 0 else "sell", price, abs(amount))
                symbol, name = self.spot_symbol(subscription["symbol"]), f"trades:{subscription['symbol']}"
            except NOT_AS_EXPECTED:
                return False
            if kind == "te":
                self.take_trades(client, name, symbol, [trade])
            return True

        def tell_again(self, client: Any, subscription: Any) -> None:
            """Show a book once more that did not change: a quiet market is no broken stream."""
            symbol = subscription.get("symbol") if isinstance(subscription, dict) else None
            if symbol is not None and subscription.get("channel") == "book":
                client.resolve(self.orderbooks[self.safe_symbol(symbol)], f"book:{symbol}")

        def refused(self, client: Any, message: Any) -> None:
            """Fail what waits for a subscription."""
            text = f"{self.id} refused a subscription: {message.get('msg')} (#{message.get('code')})"
            channel = f"{message.get('channel')}:{message.get('symbol')}"
            if channel not in client.futures:
                client.on_error(ccxt.NetworkError(text))
                return
            client.subscriptions.pop(channel, None)
            client.reject((ccxt.BadSymbol if message.get("code") == 10300 else ccxt.ExchangeError)(text), channel)

        def handle_order_book(self, client: Any, message: Any, subscription: Any) -> None:
            """Begin anew with each snapshot."""
            rows = message[1]
            if not rows or isinstance(rows[0], list):
                self.orderbooks.pop(self.safe_symbol(subscription.get("symbol")), None)
            super().handle_order_book(client, message, subscription)

        def handle_checksum(self, client: Any, message: Any, subscription: Any) -> None:
            """Connect again where a book is not what it should be: a second subscription would be refused."""
            super().handle_checksum(client, message, subscription)
            if f"book:{subscription.get('symbol')}" not in client.subscriptions:
                client.on_error(ccxt.ChecksumError(f"{self.id} has another book of {subscription.get('symbol')}"))

        def handle_orders(self, client: Any, message: Any, subscription: Any) -> None:
            """Hand over what is said of orders."""
            if on_orders is not None:
                on_orders([{"info": row} for row in (message[2] if message[1] == "os" else [message[2]])])

        def handle_my_trade(self, client: Any, message: Any, subscription: Any = None) -> None:
            """Hand over an execution."""
            if on_trades is not None:
                on_trades([{"info": message[2]}])

    return Mended


def _with_ticks(original: Any) -> Any:
    """Give ccxt's class with steps of prices: they follow from the last price, of which five digits count."""

    class Ticked(original):  # type: ignore[misc]
        """ccxt's class, with steps of prices."""

        async def fetch_markets(self, params: Any = None) -> Any:
            """Ask for the markets, and for the last prices; one without a price has no steps, and is left out."""
            markets = await super().fetch_markets({})
            last = {row[0]: amount(row[7], "last price") for row in await self.publicGetTickers({"symbols": "ALL"})}
            for market in markets:
                price = last.get(market["id"])
                market["precision"] = {"amount": "0.00000001", "price": None if not price else f"{tick_size(price):f}"}
            return markets

    return Ticked


def tick_size(price: Decimal) -> Decimal:
    """Give the step of prices like this one: the fifth significant digit, or the eighth decimal where that is more."""
    return max(Decimal(1).scaleb(price.adjusted() - _DIGITS + 1), Decimal("0.00000001"))


class BitfinexVenue(CcxtBookQuotes):
    """Bitfinex's spot market; see CcxtMarketData for what it takes and does.

    `time_ns` goes by this machine's clock where that agrees with the venue's, which is told in whole seconds. Steps of
    prices are those of the last price on connecting.
    """

    NAME: ClassVar[str] = "bitfinex"
    EXCHANGE_ID: ClassVar[str] = "bitfinex"
    TIMEFRAMES: ClassVar[tuple[str, ...]] = _TIMEFRAMES
    # ccxt's other way of keeping to the rate makes each request wait for the one before
    SETTINGS: ClassVar[Mapping[str, Any]] = {"rateLimiterAlgorithm": "rollingWindow"}
    BARS_PER_PAGE: ClassVar[int] = 5_000

    def _mended(self, original: Any) -> Any:
        return _mended(_with_ticks(original), self._clock)

    async def subscribe(self, symbol: str) -> None:
        """Stream a symbol, as CcxtMarketData does. Raises VenueRejected where there are too many already."""
        if symbol not in self._subscriptions and len(self._subscriptions) >= _MOST_SYMBOLS:
            raise VenueRejected(f"Bitfinex streams {_MOST_SYMBOLS} symbols at once; end one before {symbol}")
        await super().subscribe(symbol)

    async def _unwatch(self, exchange: Any, symbol: str) -> None:
        await exchange.un_watch_trades(symbol)
        await exchange.un_watch_order_book(symbol)


_REMEMBERED = 20_000  # ids
_OLDEST_MS = 14 * 86_400_000  # what ended is listed for so long
_MARGIN_MS = 60_000  # the venue may have noted an order's beginning so much before ours
_LAG_S = 0.5  # an order that has just ended may be in neither list
_PAGE = 1_000
_BLOCK_S = 60.0  # for so long an address is turned away that asked too often
_ID, _CID, _SYMBOL, _CREATED, _UPDATED, _LEFT, _TOTAL, _BEFORE, _STATUS = 0, 2, 3, 4, 5, 6, 7, 9, 13


def order_cid(client_order_id: str) -> int:
    """Give the whole number below 2**45 that Bitfinex is to know an order by: it takes no other ids.

    It follows from our id alone, so that an order is found again after a restart. Two orders of one day have the same
    with a chance of one in a million among 8,000; whoever looks one up also compares symbol, side and time.
    https://docs.bitfinex.com/reference/rest-auth-submit-order
    """
    digest = hashlib.blake2b(client_order_id.encode(), digest_size=8).digest()
    return int.from_bytes(digest) % ((1 << 45) - 1) + 1


class BitfinexTrading(CcxtTrading):
    """One account's trading on Bitfinex; see CcxtTrading for what it takes and does. Bitfinex has no testnet."""

    ABILITIES: ClassVar[VenueAbilities] = ABILITIES
    EXCHANGE_ID: ClassVar[str] = "bitfinex"
    # https://docs.bitfinex.com/docs/requirements-and-limitations: reads are counted per path, which is more
    SPANS: ClassVar[tuple[Span, ...]] = (
        Span("orders", 1_000, 300.0, by_weight=False, kinds=(Priority.CANCEL, Priority.ORDER)),
        Span("reads", 90, 60.0, by_weight=False, kinds=(Priority.QUERY, Priority.DATA)),
    )
    # https://docs.bitfinex.com/docs/abbreviations-glossary; ccxt calls every refusal of an order a lack of permission
    HINTS: ClassVar[Hints] = (
        ("permission invalid", Trouble.PERMISSION),
        ("apikey: ", Trouble.KEY_OR_ADDRESS),
        ("nonce: ", Trouble.CLOCK),
        ("not enough", Trouble.FUNDS),
        ("balance is only", Trouble.FUNDS),
        ("symbol: invalid", Trouble.SYMBOL),
        ("order not found", Trouble.ABSENT),
        ("market is not active", Trouble.CLOSED),
        ("ratelimit", Trouble.RATE),
        ("err_rate_limit", Trouble.RATE),
        ("invalid order", Trouble.ORDER),
    )
    STREAMS: ClassVar[tuple[str, ...]] = ("orders",)
    POLLED_EACH: ClassVar[int] = 1  # reads are few

    def additions(self, original: Any) -> Any:
        """Mend ccxt's class."""
        self._ours: OrderedDict[int, str] = OrderedDict()  # our id by the number that the venue knows
        return _mended(original, self._clock, self.take_orders, self.take_trades, lambda: self.budget.hold(_BLOCK_S))

    def client_id(self, order: Order) -> str:
        """Give the number that the venue is to know the order by, as text. Raises VenueRejected for one in use."""
        cid = order_cid(order.client_order_id)
        known = self._ours.setdefault(cid, order.client_order_id)
        if known != order.client_order_id:
            raise VenueRejected(f"Bitfinex could not tell order {order.client_order_id} from {known}; send it anew")
        if len(self._ours) > _REMEMBERED:
            self._ours.popitem(last=False)
        return str(cid)

    def order_parameters(self, order: Order) -> dict[str, Any]:
        """Give ccxt's extra parameters of a new order."""
        return {**super().order_parameters(order), "clientOrderId": int(self.client_id(order))}

    async def cancel_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw:
        """Ask for a cancel; how the order ended is told by the stream. ccxt does not look whether it was taken."""
        number = await self._number(exchange, order, venue_order_id)
        _require_success(exchange, await exchange.privatePostAuthWOrderCancel({"id": number}))
        return {}

    async def amend_there(
        self, exchange: Any, order: Order, venue_order_id: str, quantity: Decimal, price: Decimal | None
    ) -> Raw:
        """Ask for a change by what it adds: a quantity would be taken for what is to remain, whatever is filled."""
        request = order.request
        change: dict[str, Any] = {}
        more = EXACT.subtract(quantity, request.quantity)
        if more:
            change["delta"] = f"{more * request.side.sign:f}"
        if price is not None and price != request.price:
            waits = request.stop_price is not None and order.status is OrderStatus.ACCEPTED
            change["price_aux_limit" if waits else "price"] = exchange.price_to_precision(
                request.instrument.symbol, f"{price:f}"
            )
        number = await self._number(exchange, order, venue_order_id)
        if change:
            _require_success(exchange, await exchange.privatePostAuthWOrderUpdate({"id": number, **change}))
        return {"id": str(number)}

    async def _number(self, exchange: Any, order: Order, venue_order_id: str) -> int:
        import ccxt

        if venue_order_id:
            return int(venue_order_id)
        row = await self._row_by_cid(exchange, order)
        if row is None:
            raise ccxt.OrderNotFound(f"{exchange.id} has no order {order.client_order_id}")
        return int(row[_ID])

    async def find_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw | None:
        """Look an order up among those that work, then among those that have ended."""
        for _ in range(2):
            if venue_order_id:
                wanted = {"id": [int(venue_order_id)]}
                rows = await exchange.privatePostAuthROrders(wanted) or await exchange.privatePostAuthROrdersHist(
                    wanted
                )
                row = next((row for row in rows if str(row[_ID]) == venue_order_id), None)
            else:
                row = await self._row_by_cid(exchange, order)
            if row is not None:
                return self._structure(exchange, row)
            await asyncio.sleep(_LAG_S)
        return None

    async def _row_by_cid(self, exchange: Any, order: Order) -> Any:
        """Give the row of an order that the venue knows by our number, and that is like ours."""
        cid, symbol = self.client_id(order), exchange.market(order.request.instrument.symbol)["id"]
        made_ms = order.created_ns // MS_NS - _MARGIN_MS

        def is_it(row: Any) -> bool:
            is_buy = exact(row[_TOTAL], "amount") > 0
            same = str(row[_CID]) == cid and row[_SYMBOL] == symbol and is_buy is (order.request.side is Side.BUY)
            return same and int(row[_CREATED]) >= made_ms

        found = next(filter(is_it, await exchange.privatePostAuthROrders()), None)
        end_ms, start_ms = self.time_ns() // MS_NS + _MARGIN_MS, max(made_ms, self.time_ns() // MS_NS - _OLDEST_MS)
        while found is None:
            query = {"start": start_ms, "end": end_ms, "limit": _PAGE}
            page = await exchange.privatePostAuthROrdersHist(query)
            found = next(filter(is_it, page), None)
            oldest_ms = min((int(row[_UPDATED]) for row in page), default=0)
            if len(page) < _PAGE or oldest_ms >= end_ms:
                return found
            end_ms = oldest_ms
        return found

    def _structure(self, exchange: Any, row: Any) -> Raw:
        told: dict[str, Any] = exchange.parse_order({"result": row})
        return {**told, "clientOrderId": self._our_id(row[_CID])}

    def _our_id(self, cid: Any) -> str:
        return self._ours.get(int(cid), "") if cid is not None else ""

    def read_update(self, raw: Raw) -> OrderUpdate:
        """Read an order's row; ccxt mistakes its group for our id, and what IOC left over for something open."""
        row = raw["info"]
        total, left = (abs(exact(row[at], "amount")) for at in (_TOTAL, _LEFT))
        filled, text = EXACT.subtract(total, left), str(row[_STATUS] or "")
        status = OrderStatus.PARTIALLY_FILLED if filled else OrderStatus.ACCEPTED
        if text.startswith("EXECUTED"):
            status = OrderStatus.FILLED
        elif "POSTONLY CANCELED" in text or text.startswith(("INSUFFICIENT", "RSN_")):
            status = OrderStatus.REJECTED
        elif "CANCELED" in text:
            status = OrderStatus.CANCELED
        elif not filled and row[_BEFORE] is not None and "STOP" in row[_BEFORE]:
            status = OrderStatus.TRIGGERED
        reason = text if status in (OrderStatus.REJECTED, OrderStatus.CANCELED) else ""
        time_ns = int(row[_UPDATED] or row[_CREATED]) * MS_NS
        return OrderUpdate(status, time_ns, self._our_id(row[_CID]), str(row[_ID]), filled, reason)

    def read_execution(self, raw: Raw) -> VenueTrade:
        """Read an execution's row, whose fee is below zero; a trade with oneself is two executions of one number."""
        row = raw["info"]
        if len(row) < 11:
            raise MalformedError(f"an execution of {len(row)} fields")
        exchange, quantity = self._account.exchange, exact(row[4], "amount")
        return VenueTrade(
            fill_id=f"{row[0]}:{row[3]}",
            venue_order_id=str(row[3]),
            client_order_id=self._our_id(row[11]) if len(row) > 11 else "",
            symbol=exchange.safe_symbol(row[1]),
            side=Side.BUY if quantity > 0 else Side.SELL,
            price=exact(row[5], "price"),
            quantity=abs(quantity),
            fee=-(amount(row[9], "fee") or Decimal(0)),
            fee_currency=exchange.safe_currency_code(row[10]) or "",
            liquidity=Liquidity.MAKER if str(row[8]) == "1" else Liquidity.TAKER,
            time_ns=int(row[2]) * MS_NS,
        )

    async def fetch_open_orders(self, exchange: Any) -> Sequence[Raw]:
        """Ask for every open order."""
        return [self._structure(exchange, row) for row in await exchange.privatePostAuthROrders()]

    async def fetch_trades(self, exchange: Any, since_ms: int) -> Sequence[Raw]:
        """Ask for the account's executions page by page, oldest first; ccxt would ask for the newest 25."""
        listed: dict[tuple[Any, Any], Raw] = {}
        while True:
            page = await exchange.privatePostAuthRTradesHist({"start": since_ms, "limit": _PAGE, "sort": 1})
            before = len(listed)
            listed |= {(row[0], row[3]): {"info": row} for row in page}
            if len(page) < _PAGE or len(listed) == before:
                return list(listed.values())
            since_ms = int(page[-1][2])

    async def fetch_rights(self, exchange: Any) -> KeyRights:
        """Ask what the key may do."""
        names = [
            f"{scope}:{what}"
            for scope, read, write in await exchange.privatePostAuthRPermissions()
            for what, may in (("read", read), ("write", write))
            if str(may) == "1"
        ]
        may_read = {"orders:read", "wallets:read"} <= set(names)
        return KeyRights(may_read, "orders:write" in names, "withdraw:write" in names, tuple(names))

    async def fetch_fees(self, exchange: Any) -> tuple[Decimal | None, Decimal | None]:
        """Ask for the account's commissions."""
        maker, taker = (await exchange.privatePostAuthRSummary())[4][:2]
        return amount(maker[0], "maker fee"), amount(taker[0], "taker fee")


def _require_success(exchange: Any, answer: Any) -> None:
    """Look whether a request was taken: a notification says so in its seventh place. Raises ccxt's errors."""
    import ccxt

    status, text = answer[6:8] if isinstance(answer, list) and len(answer) >= 8 else (None, answer)
    if status == "SUCCESS":
        return
    raise (ccxt.ExchangeError if status in ("ERROR", "FAILURE") else ccxt.NetworkError)(
        f"{exchange.id} {status}: {text}"
    )
