"""ccxt's class of Coinbase with what it lacks mended: what streams, subscriptions and requests need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from koc_qt.adapters.ccxt_dialect import Raw
from koc_qt.adapters.ccxt_exchange import NOT_AS_EXPECTED, iso_ms
from koc_qt.adapters.coinbase_book import Level2Book, event_of, snapshot_of

QUIET_BEATS = 10  # a quiet market's books are shown again after so many heartbeats, which come every second
TURN_S = 0.15


def mended(original: Any, on_orders: Callable[[Iterable[Raw]], None]) -> Any:
    """Give ccxt's class with what it lacks at Coinbase mended.

    It lets subscriptions go after a minute without heartbeats, does not look whether messages were lost, tells nobody
    of refused subscriptions, sends tokens that are about to expire, calls the resting side of a trade its taker, mixes
    up trades of several products, tells the time in whole seconds, and calls an order refused of which a broken server
    knows nothing.
    """
    import ccxt

    class Mended(original):  # type: ignore[misc]
        """ccxt's class, mended."""

        next_turn_s = 0.0  # the loop's time

        def describe(self) -> Any:
            """Do without the lists of currencies: three more requests."""
            return self.deep_extend(super().describe(), {"has": {"fetchCurrencies": False}})

        async def fetch_time(self, params: Any = None) -> int | None:
            """Ask for the time in milliseconds."""
            told = await self.v3PublicGetBrokerageTime()
            return int(told["epochMillis"]) if str(told.get("epochMillis")).isdigit() else None

        def handle_errors(self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *a: Any) -> Any:
            """Call nothing a refusal that a broken server says."""
            if code >= 500:
                raise ccxt.ExchangeNotAvailable(f"{self.id} {code} {body}")
            return super().handle_errors(code, reason, url, method, headers, body, *a)

        def create_ws_auth(self, name: str, products: Any) -> Any:
            """Sign a token for this subscription."""
            self.options.pop("wsToken", None)
            return super().create_ws_auth(name, products)

        def handle_message(self, client: Any, message: Any) -> None:
            """See that no message is missing; the rest is ccxt's."""
            if message.get("type") == "error":
                self.refused(client, str(message.get("message")))
                return
            if message.get("channel") == "subscriptions":
                client.confirmed = message["events"][0].get("subscriptions") or {}
            number, due = message.get("sequence_num"), getattr(client, "next_number", None)
            if isinstance(number, int):
                if due is None:
                    self.asyncio_loop.create_task(self.keep_open(client))
                elif number < due:
                    return
                elif number > due:
                    client.on_error(ccxt.NetworkError(f"{self.id} lost {number - due} messages on the way"))
                    return
                client.next_number = number + 1
            super().handle_message(client, message)

        def refused(self, client: Any, why: str) -> None:
            """Fail what waits for a subscription; the venue does not say which it means, but which it has."""
            text = f"{self.id} refused a subscription: {why}"
            if "authentication" in why:
                client.on_error(ccxt.AuthenticationError(text))
                return
            confirmed = getattr(client, "confirmed", {})
            for name in [name for name in client.subscriptions if "::" in name]:
                channel, _, symbol = name.partition("::")
                market = self.market(symbol)
                if not {market["id"], market["info"].get("alias")} & set(confirmed.get(channel, ())):
                    del client.subscriptions[name]
                    client.reject((ccxt.BadSymbol if market["id"] in why else ccxt.NetworkError)(text), name)

        async def subscribe(self, name: str, private: bool, symbol: Any = None, params: Any = None) -> Any:
            """Subscribe, not too often a second; what is subscribed already is waited for at once."""
            client = self.clients.get(self.urls["api"]["ws"])
            if client is None or (name if symbol is None else f"{name}::{symbol}") not in client.subscriptions:
                await self.turn()
            return await super().subscribe(name, private, symbol, params or {})

        async def turn(self) -> None:
            """Wait until one more message may be sent: 8 a second are taken."""
            now_s = self.asyncio_loop.time()
            self.next_turn_s = max(self.next_turn_s, now_s) + TURN_S
            await asyncio.sleep(self.next_turn_s - TURN_S - now_s)

        async def keep_open(self, client: Any) -> None:
            """Subscribe to heartbeats: channels on which nothing is said are closed after a minute."""
            try:
                await self.turn()
                await client.send({"type": "subscribe", "channel": "heartbeats"})
            except (ConnectionError, RuntimeError):
                return  # the connection is gone, and whoever watches it is told so

        def handle_heartbeats(self, client: Any, message: Any) -> None:
            """Show books once more now and then, though they did not change: a quiet market is no broken stream."""
            if int(message["events"][0]["heartbeat_counter"]) % QUIET_BEATS == 0:
                for symbol, book in self.orderbooks.items():
                    client.resolve(book, f"level2::{symbol}")
                    self.try_resolve_usdc(client, f"level2::{symbol}", book)

        def take_text(self, client: Any, text: Any) -> bool:
            """Take the snapshot of a book before ccxt reads it; see coinbase_book."""
            message = snapshot_of(text)
            if message is not None:
                self.handle_message(client, message)
            return message is not None

        def handle_order_book(self, client: Any, message: Any) -> None:
            """Keep books ourselves; what comes before a snapshot, or after nobody wants it any more, is of no use."""
            for event in map(event_of, message["events"]):
                symbol = self.safe_symbol(event.product_id)
                if event.type == "snapshot":
                    self.orderbooks[symbol] = Level2Book(symbol)
                if (book := self.orderbooks.get(symbol)) is not None:
                    book.take(event, self.parse8601(message.get("timestamp")))
                    client.resolve(book, f"level2::{symbol}")
                    self.try_resolve_usdc(client, f"level2::{symbol}", book)

        def names_of(self, product: str) -> list[str]:
            """Give the symbols that a product's market data is of: USD speaks for USDC as well."""
            market = self.safe_market(product)
            known = [self.markets_by_id.get(alias) for alias in market["info"].get("alias_to") or ()]
            return [market["symbol"], *(listed[0]["symbol"] for listed in known if listed)]

        def handle_trade(self, client: Any, message: Any) -> None:
            """Take trades, whose side is that of the order that rested."""
            for event in message.get("events") or ():
                for item in reversed(event.get("trades") or ()):
                    side = {"BUY": "sell", "SELL": "buy"}.get(item.get("side"))
                    try:
                        time_ms = iso_ms(item["time"])
                    except NOT_AS_EXPECTED:
                        time_ms = None  # it will be refused
                    trade = (item.get("trade_id"), time_ms, side, item.get("price"), item.get("size"))
                    for symbol in self.names_of(item["product_id"]):
                        self.take_trades(client, f"market_trades::{symbol}", symbol, [trade])

        def handle_order(self, client: Any, message: Any) -> None:
            """Hand over what is said of orders."""
            for event in message.get("events") or ():
                on_orders([{"info": order} for order in event.get("orders") or ()])

    return Mended
