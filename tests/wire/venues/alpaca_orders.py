"""Orders at the simulated Alpaca: placed, listed, replaced by others, cancelled, expired, and what is told of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderType
from tests.wire.core.accounts import TRADE, User
from tests.wire.core.dialect import Call, Dialect, compact
from tests.wire.core.listings import Trading
from tests.wire.core.market import LiveMarket
from tests.wire.core.orders import Happened, OrderUpdate, RefusedError, WireFill, WireOrder
from tests.wire.exchange import DONE, Exchange
from tests.wire.venues.alpaca_rows import PAPER, Ticket, amount, core_tif, order_row, read_ns, stamp, text, uuid_of


class RefusalError(Exception):
    """What Alpaca answers instead of doing it; without a code where it has none."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class AlpacaOrders(Dialect):
    """The part of the dialect that has to do with orders.

    `whole_shares` names stocks that are sold in whole shares alone. While `hold_replaces` is set, a replacement is
    answered and made by `release_replaces` alone, or refused by it.
    """

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.whole_shares: set[str] = set()
        self.hold_replaces = False
        self._held: list[Callable[[bool], None]] = []
        self._tickets: dict[str, Ticket] = {}
        self._of_core: dict[str, Ticket] = {}  # the newest ticket of the exchange's orders
        self._placing: Ticket | None = None
        self._replacing: Ticket | None = None
        self._last = exchange.time_ns()

    def _market(self, symbol: str) -> LiveMarket:
        return self.exchange.market(symbol)

    # ---- orders --------------------------------------------------------------------------------------------------

    def _row(self, ticket: Ticket, status: str = "") -> dict[str, Any]:
        return order_row(ticket, self.exchange.markets[ticket.symbol].listing, status)

    def _may_trade(self, user: User) -> None:
        if not any(TRADE in key.permissions for key in user.keys):
            raise RefusalError(403, 40310000, "new orders are rejected by user request")

    def _new_id(self) -> str:
        self._last += 1
        return uuid_of("order", self._last)

    def _post(self, call: Call, user: User) -> dict[str, Any]:
        self._may_trade(user)
        ticket = self._read_order(call, user)
        market = self._market(ticket.symbol)
        self._note("place")
        if market.trading is Trading.CLOSED and market.listing.stock:
            self._tickets[ticket.id] = ticket  # it waits for the open
            return self._row(ticket)
        self._place(ticket)
        return self._row(ticket, "pending_new")

    def _place(self, ticket: Ticket) -> None:
        self._placing = ticket
        self._tickets[ticket.id] = ticket
        try:
            self.exchange.place(
                ticket.user,
                ticket.symbol,
                ticket.side,
                ticket.type,
                ticket.quantity,
                ticket.limit,
                ticket.stop,
                cost=ticket.notional,
                time_in_force=core_tif(ticket.tif),
                client_id=ticket.client_id,
            )
        except RefusedError:
            del self._tickets[ticket.id]
            raise
        finally:
            self._placing = None

    def _read_order(self, call: Call, user: User) -> Ticket:
        try:
            fields: Mapping[str, Any] = call.json() or {}
            quantity, notional = amount(fields, "qty"), amount(fields, "notional")
            limit, stop = amount(fields, "limit_price"), amount(fields, "stop_price")
            side, kind = Side(fields.get("side", "")), OrderType(fields.get("type", ""))
        except ValueError as error:
            raise RefusalError(422, 40010001, f"invalid request: {error}") from error
        client_id = fields.get("client_order_id") or uuid_of("client", self._last)
        if len(client_id) > 128:
            raise RefusalError(422, 40010001, "client_order_id must be no more than 128 characters")
        if any(each.user is user and each.client_id == client_id for each in self._tickets.values()):
            raise RefusalError(422, 40010001, "client_order_id must be unique")
        if (quantity is None) is (notional is None):
            raise RefusalError(422, 40010001, "qty or notional is required, not both")
        symbol, tif = str(fields.get("symbol", "")), str(fields.get("time_in_force", ""))
        market = self.exchange.markets.get(symbol)
        if market is None:
            raise RefusalError(422, 42210000, f'asset "{symbol}" not found')
        if market.trading is Trading.DELISTED:
            raise RefusalError(422, 42210000, f'asset "{symbol}" is not active')
        self._check_kind(market, kind, tif, quantity, fields)
        return Ticket(
            id=self._new_id(),
            client_id=client_id,
            user=user,
            symbol=symbol,
            side=side,
            type=kind,
            quantity=quantity,
            notional=notional,
            limit=limit,
            stop=stop,
            tif=tif,
            extended=bool(fields.get("extended_hours")),
            created_ns=self.exchange.time_ns(),
        )

    def _check_kind(
        self, market: LiveMarket, kind: OrderType, tif: str, quantity: Decimal | None, fields: Mapping[str, Any]
    ) -> None:
        if not market.listing.stock:
            if tif not in ("gtc", "ioc"):
                raise RefusalError(422, 42210000, "invalid crypto time_in_force")
            if kind is OrderType.STOP:
                raise RefusalError(422, 42210000, "invalid order type for crypto order")
            return
        if tif not in ("day", "gtc", "ioc", "fok", "opg", "cls"):
            raise RefusalError(422, 40010001, "invalid time_in_force")
        is_part = quantity is None or quantity % 1 != 0
        if is_part and market.listing.symbol in self.whole_shares:
            raise RefusalError(403, 40310000, f'asset "{market.listing.symbol}" is not fractionable')
        if is_part and tif != "day":
            raise RefusalError(422, 42210000, "fractional orders must be DAY orders")
        if fields.get("extended_hours") and (kind is not OrderType.LIMIT or tif not in ("day", "gtc")):
            raise RefusalError(422, 42210000, "extended hours order must be DAY or GTC limit orders")

    def _list(self, call: Call, user: User) -> list[dict[str, Any]]:
        query, status = call.query, call.query.get("status", "open")
        chosen = [each for each in self._tickets.values() if each.user is user]
        if status in ("open", "closed"):
            chosen = [each for each in chosen if each.is_open is (status == "open")]
        if query.get("after"):
            chosen = [each for each in chosen if each.created_ns > read_ns(query["after"])]
        if query.get("until"):
            chosen = [each for each in chosen if each.created_ns < read_ns(query["until"])]
        if query.get("symbols"):
            chosen = [each for each in chosen if each.symbol in query["symbols"].split(",")]
        chosen.sort(key=lambda each: each.created_ns, reverse=query.get("direction", "desc") == "desc")
        return [self._row(each) for each in chosen[: min(int(query.get("limit", 50)), 500)]]

    def _by_client_id(self, call: Call, user: User) -> dict[str, Any]:
        wanted = call.query.get("client_order_id", "")
        for ticket in self._tickets.values():
            if ticket.user is user and ticket.client_id == wanted:
                return self._row(ticket)
        raise RefusalError(404, 40410000, f"order not found for {wanted}")

    def _one(self, call: Call, user: User, order_id: str) -> dict[str, Any] | None:
        ticket = self._tickets.get(order_id)
        if ticket is None or ticket.user is not user:
            raise RefusalError(404, 40410000, f"order not found for {order_id}")
        if call.method == "GET":
            return self._row(ticket)
        if call.method == "PATCH":
            self._may_trade(user)
            return self._replace(call, ticket)
        if not ticket.is_open:
            raise RefusalError(422, 42210000, f'order is already in "{ticket.status}" state')
        self._note("cancel")
        if ticket.core is None:
            self._end(ticket, "canceled")
        else:
            self.exchange.cancel(user, ticket.core.id)
        return None

    def _replace(self, call: Call, old: Ticket) -> dict[str, Any]:
        """Put another order in an order's place. Its quantity is its own: what was executed of the old one is none."""
        if not old.is_open or old.core is None:
            raise RefusalError(422, 42210000, f"cannot replace order in {old.status} status")
        if old.notional is not None:
            raise RefusalError(422, 42210000, "notional orders cannot be replaced")
        try:
            fields: Mapping[str, Any] = call.json() or {}
            quantity, limit = amount(fields, "qty"), amount(fields, "limit_price")
        except ValueError as error:
            raise RefusalError(422, 40010001, f"invalid request: {error}") from error
        if quantity is not None and self._market(old.symbol).listing.stock and (quantity % 1 or old.core.quantity % 1):
            raise RefusalError(422, 42210000, "qty of fractional orders cannot be replaced")
        client_id = fields.get("client_order_id") or uuid_of("client", self._last)
        if any(each.user is old.user and each.client_id == client_id for each in self._tickets.values()):
            raise RefusalError(422, 40010001, "client_order_id must be unique")
        assert old.quantity is not None
        new = replace(
            old,
            id=self._new_id(),
            client_id=client_id,
            quantity=quantity or old.quantity,
            limit=limit or old.limit,
            created_ns=self.exchange.time_ns(),
            replaces=old.id,
            times={},
        )
        if self.hold_replaces:
            self._tickets[new.id] = new
            new.fixed, old.fixed = "accepted", "pending_replace"
            self._held.append(lambda really: self._settle(old, new, really))
            return self._row(new)
        self._make_replacement(old, new)
        return self._row(new, "accepted")

    def _settle(self, old: Ticket, new: Ticket, really: bool) -> None:
        old.fixed = new.fixed = ""
        if really:
            with contextlib.suppress(RefusedError):
                self._make_replacement(old, new)
                return
        new.core, new.fixed = None, "rejected"
        new.times["rejected"] = self.exchange.time_ns()
        self._tell("order_replace_rejected", new)

    def release_replaces(self, really: bool = True) -> None:
        """Make the replacements that were held back, or refuse them."""
        self.hold_replaces = False
        held, self._held = self._held, []
        for settle in held:
            settle(really)

    def _make_replacement(self, old: Ticket, new: Ticket) -> None:
        assert old.core is not None
        assert new.quantity is not None
        self._replacing = new
        try:
            self.exchange.amend(old.user, old.core.id, old.core.filled + new.quantity, new.limit)
        finally:
            self._replacing = None

    # ---- what happens to orders ----------------------------------------------------------------------------------

    def _note(self, what: str) -> None:
        done = DONE.get()
        if done is not None:
            done.add(what)

    def _end(self, ticket: Ticket, status: str) -> None:
        ticket.fixed = status
        ticket.times[status] = self.exchange.time_ns()
        self._tell(status, ticket)

    def expire_day(self) -> None:
        """End the session: day orders of stocks that still work expire."""
        for ticket in list(self._tickets.values()):
            if ticket.is_open and ticket.tif == "day":
                self._end(ticket, "expired")
                if ticket.core is not None:
                    self.exchange.cancel(ticket.user, ticket.core.id)

    def fault_trading(self, symbol: str, state: str = "delisted") -> None:
        """Let a symbol be `open`, `closed` or `delisted`; with the open come the orders that waited for it."""
        super().fault_trading(symbol, state)
        waiting = [each for each in self._tickets.values() if each.symbol == symbol and each.status == "accepted"]
        for ticket in waiting if state == "open" else []:
            try:
                self._place(ticket)
            except RefusedError:
                self._tickets[ticket.id] = ticket
                self._end(ticket, "rejected")

    def on_order(self, update: OrderUpdate) -> None:
        """Tell the user's streams."""
        core = update.order
        if self._placing is not None:
            self._placing.core = core
            self._of_core[core.id], self._placing = self._placing, None
        ticket = self._of_core.get(core.id) or self._by_hand(core)
        if update.what is Happened.AMENDED and self._replacing is not None:
            ticket = self._swap(ticket, self._replacing)
        elif ticket.fixed in ("expired", "rejected"):
            return  # the day has ended it
        if update.what in (Happened.NEW, Happened.AMENDED):
            self._tell("new", ticket)
        elif update.what is Happened.FILL and update.fill is not None:
            self._executed(ticket, update.fill)
        elif update.what in (Happened.CANCELED, Happened.EXPIRED, Happened.REJECTED):
            ticket.times[ticket.status] = update.time_ns
            self._tell(ticket.status, ticket)

    def _by_hand(self, core: WireOrder) -> Ticket:
        """Give an order an id that was made in another way than by this interface."""
        ticket = Ticket(
            id=self._new_id(),
            client_id=core.client_id or uuid_of("client", self._last),
            user=core.user,
            symbol=core.symbol,
            side=core.side,
            type=core.type,
            quantity=core.quantity,
            notional=None,
            limit=core.price,
            stop=core.stop_price,
            tif=core.time_in_force.value,
            extended=False,
            created_ns=core.created_ns,
            core=core,
        )
        self._tickets[ticket.id] = self._of_core[core.id] = ticket
        return ticket

    def _swap(self, old: Ticket, new: Ticket) -> Ticket:
        core = old.core
        assert core is not None
        new.core, new.first = core, len(core.fills)
        old.last, old.fixed, old.replaced_by = len(core.fills), "replaced", new.id
        old.times["replaced"] = self.exchange.time_ns()
        self._tickets[new.id] = self._of_core[core.id] = new
        self._tell("replaced", old)
        return new

    def _executed(self, ticket: Ticket, fill: WireFill) -> None:
        is_whole = ticket.status == "filled"
        if is_whole:
            ticket.times["filled"] = fill.time_ns
        held = ticket.user.balances().get(self.exchange.markets[ticket.symbol].listing.base)
        said = {
            "price": text(fill.price),
            "qty": text(fill.quantity),
            "position_qty": text(held.total if held else None),
        }
        self._tell("fill" if is_whole else "partial_fill", ticket, execution_id=fill.id, time_ns=fill.time_ns, **said)

    def _tell(self, event: str, ticket: Ticket, *, time_ns: int | None = None, **more: Any) -> None:
        when = stamp(time_ns or self.exchange.time_ns())
        data = {"event": event, "order": self._row(ticket), "timestamp": when, **more}
        for channel in self.of_user(ticket.user, "trade_updates"):
            said = compact({"stream": "trade_updates", "data": data})
            self.send_private(channel, said.encode() if channel.host == PAPER else said)
