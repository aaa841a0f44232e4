"""What a venue that ccxt speaks to says of itself to trade there: constants, and hooks with defaults.

A venue's module subclasses CcxtTrading (ccxt_trading.py) and overrides what is particular to it here. Hooks that take
`exchange` talk to the venue with ccxt's object and raise what ccxt raises; who calls them waits for the budget, bounds
the time and says errors in our words. Amounts are text on the way out, and text on the way in (`number = str`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

import msgspec

from koc_qt.adapters import ccxt_order_facts as facts
from koc_qt.adapters.ccxt_errors import Hints, Trouble, diagnose
from koc_qt.adapters.order_tracker import OrderUpdate
from koc_qt.adapters.rate_budget import Span
from koc_qt.domain.errors import VenueRejected
from koc_qt.domain.orders import Order, OrderType, TimeInForce
from koc_qt.domain.venues import VenueAbilities, VenueTrade
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret

Raw = Mapping[str, Any]


class KeyRights(msgspec.Struct, frozen=True):
    """What a key may do; None where the venue does not say. `names` are the venue's own words for it."""

    can_read: bool | None = None
    can_trade: bool | None = None
    can_withdraw: bool | None = None
    names: tuple[str, ...] = ()


class CcxtDialect:
    """Constants and hooks of one venue."""

    ABILITIES: ClassVar[VenueAbilities]
    EXCHANGE_ID: ClassVar[str]
    OPTIONS: ClassVar[Mapping[str, Any]] = {}
    MARKET_PARAMETERS: ClassVar[Mapping[str, Any]] = {}
    # our credential fields, and what ccxt calls them
    KEYS: ClassVar[Mapping[str, str]] = {"key": "apiKey", "secret": "secret"}
    SPANS: ClassVar[tuple[Span, ...]] = ()
    # what a request of a kind weighs at the venue, 1 unless said: order, cancel, amend, find, fills (of one order),
    # open_orders, trades, balances, positions, fees, key (its permissions), time, markets
    WEIGHTS: ClassVar[Mapping[str, int]] = {}
    HINTS: ClassVar[Hints] = ()
    # private streams: orders, trades or both; none polls alone
    STREAMS: ClassVar[tuple[str, ...]] = ("orders", "trades")
    # nonces must come in order: one request at a time, the urgent first (costs an order the request before it)
    REQUESTS_IN_ORDER: ClassVar[bool] = False
    FILL_IDS_PER_SYMBOL: ClassVar[bool] = False  # trade ids are counted per symbol, not per account
    # how long executions may still be on their way when a status counts them; 0 where the stream brings none
    GRACE_S: ClassVar[float] = 0.2
    POLL_S: ClassVar[float] = 1.0  # open orders are asked for this often while streams are down
    POLLED_EACH: ClassVar[int] = 5  # up to so many open orders are polled one by one, more by their list

    def time_ns(self) -> int:
        """UTC nanoseconds at the venue."""
        raise NotImplementedError

    def ccxt_keys(self, credentials: Credentials) -> dict[str, str]:
        """Give ccxt's credentials; blanks around values come from copying, and are none of the venue's."""
        keys = {theirs: credentials.get(ours, "").strip() for ours, theirs in self.KEYS.items()}
        for value in keys.values():
            register_secret(value)
        return keys

    def additions(self, original: Any) -> Any:
        """Give a subclass of ccxt's class with what has to be mended in it."""
        return original

    def on_headers(self, headers: Mapping[str, str]) -> None:
        """Feed the budget from an answer's headers, whose names are in lower case."""

    async def fetch_time_ms(self, exchange: Any) -> int | None:
        """Ask for something small that keeps the order connection open; gives the venue's time where it tells it."""
        time_ms = await exchange.fetch_time()
        return int(time_ms) if time_ms is not None else None

    def require_on_grid(self, exchange: Any, order: Order) -> None:
        """Refuse amounts that ccxt would round without a word. Raises VenueRejected."""
        request, symbol = order.request, order.request.instrument.symbol
        if symbol not in (exchange.markets or {}):
            raise VenueRejected(f"{self.ABILITIES.title} does not trade {symbol}, or no longer; nothing was sent")
        rules = (
            ("quantity", request.quantity, exchange.amount_to_precision),
            ("price", request.price, exchange.price_to_precision),
            ("stop price", request.stop_price, exchange.price_to_precision),
        )
        for name, value, on_grid in rules:
            if value is None:
                continue
            try:
                near = Decimal(on_grid(symbol, f"{value:f}"))
            except Exception as error:  # ccxt's InvalidOrder: it would be rounded to nothing
                raise VenueRejected(f"{name} {value:f} is too small for {symbol} at {self.ABILITIES.title}") from error
            if near != value:
                raise VenueRejected(
                    f"{self.ABILITIES.title} takes {symbol} in other steps: {name} {value:f} is between two, "
                    f"{near:f} would be one; nothing was sent"
                )

    def client_id(self, order: Order) -> str:
        """Give the id that the venue is to know the order by."""
        return order.client_order_id

    def order_parameters(self, order: Order) -> dict[str, Any]:
        """Give ccxt's extra parameters of a new order."""
        request = order.request
        parameters: dict[str, Any] = {"clientOrderId": self.client_id(order)}
        if request.time_in_force is not TimeInForce.GTC:
            parameters["timeInForce"] = request.time_in_force.value.upper()
        if request.post_only:
            parameters["postOnly"] = True
        if request.stop_price is not None:
            parameters["triggerPrice"] = f"{request.stop_price:f}"
        return parameters

    async def create_there(self, exchange: Any, order: Order) -> Raw:
        """Send a new order; gives ccxt's order structure. Amounts are text: ccxt puts them on the grid."""
        request = order.request
        kind = "limit" if request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT) else "market"
        price = None if request.price is None else f"{request.price:f}"
        answer: Raw = await exchange.create_order(
            request.instrument.symbol,
            kind,
            request.side.value,
            f"{request.quantity:f}",
            price,
            self.order_parameters(order),
        )
        return answer

    async def cancel_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw:
        """Ask for a cancel; gives ccxt's order structure, whose status is used where there is one."""
        parameters = {} if venue_order_id else {"clientOrderId": self.client_id(order)}
        answer: Raw = await exchange.cancel_order(venue_order_id or None, order.request.instrument.symbol, parameters)
        return answer

    async def amend_there(
        self, exchange: Any, order: Order, venue_order_id: str, quantity: Decimal, price: Decimal | None
    ) -> Raw:
        """Ask for a change; gives ccxt's order structure."""
        request = order.request
        limit = None if price is None else f"{price:f}"
        kind = "market" if price is None else "limit"
        answer: Raw = await exchange.edit_order(
            venue_order_id, request.instrument.symbol, kind, request.side.value, f"{quantity:f}", limit
        )
        return answer

    async def find_there(self, exchange: Any, order: Order, venue_order_id: str) -> Raw | None:
        """Look an order up, open or not; gives ccxt's order structure, None where the venue has never seen it."""
        parameters = {} if venue_order_id else {"clientOrderId": self.client_id(order)}
        try:
            answer: Raw = await exchange.fetch_order(
                venue_order_id or None, order.request.instrument.symbol, parameters
            )
        except Exception as error:
            if self.is_absent(error):
                return None
            raise
        return answer

    def is_absent(self, error: Exception) -> bool:
        """Tell whether an error says that there is no such order."""
        return diagnose(error, self.HINTS) is Trouble.ABSENT

    async def fetch_fills(self, exchange: Any, order: Order, raw: Raw) -> Sequence[Raw]:
        """Give all executions of one order that was found."""
        listed: Sequence[Raw] = await exchange.fetch_order_trades(raw["id"], order.request.instrument.symbol)
        return listed

    async def fetch_open_orders(self, exchange: Any) -> Sequence[Raw]:
        """Give every open order of the account."""
        listed: Sequence[Raw] = await exchange.fetch_open_orders()
        return listed

    async def fetch_trades(self, exchange: Any, since_ms: int) -> Sequence[Raw]:
        """Give the account's executions since then."""
        listed: Sequence[Raw] = await exchange.fetch_my_trades(None, since_ms)
        return listed

    async def fetch_balances(self, exchange: Any) -> Raw:
        """Give ccxt's balance structure."""
        answer: Raw = await exchange.fetch_balance()
        return answer

    def read_update(self, raw: Raw) -> OrderUpdate:
        """Read what an order structure says of the order's state. Raises MalformedError."""
        return facts.order_update(raw, self.time_ns())

    def read_execution(self, raw: Raw) -> VenueTrade:
        """Read an execution. Raises MalformedError."""
        fill_id = f"{raw.get('symbol')}:{raw['id']}" if self.FILL_IDS_PER_SYMBOL and raw.get("id") else ""
        return facts.execution(raw, self.time_ns(), fill_id)

    async def fetch_rights(self, exchange: Any) -> KeyRights:
        """Ask what the key may do."""
        return KeyRights()

    async def fetch_fees(self, exchange: Any) -> tuple[Decimal | None, Decimal | None]:
        """Ask for the account's maker and taker fee, as fractions."""
        return None, None
