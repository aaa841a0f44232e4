"""What every TradingVenue must do, whatever is behind it.

A test module joins by a subclass that defines the `desk` fixture:

    class TestMyVenue(TradingVenueContract):
        @pytest_asyncio.fixture
        async def desk(self): ...  yield TradingDesk(venue=..., ...)

What the desk's `abilities` say that the venue lacks is skipped, nothing else.

Every event that a venue sends is played through the engine's own state machine: one that contradicts another fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.market import Side
from koc_qt.domain.order_state import apply, events_from_report
from koc_qt.domain.orders import (
    AmendRejected,
    CancelRejected,
    Fill,
    Liquidity,
    Order,
    OrderEvent,
    OrderFilled,
    OrderRequest,
    OrderStatus,
    OrderSubmitted,
    OrderType,
    TimeInForce,
)
from koc_qt.domain.state import Balance, VenueState
from koc_qt.domain.venues import VenueAbilities, VenueOrder
from koc_qt.ports.venue import TradingVenue
from tests.conditions import until

BUY, SELL = Side.BUY, Side.SELL
EVERYTHING = VenueAbilities(
    "any",
    "this venue",
    trading=True,
    order_types=tuple(OrderType),
    time_in_force=tuple(TimeInForce),
    post_only=True,
    reduce_only=True,
    client_ids=True,
    amend=True,
)


@dataclass
class TradingDesk:
    """A venue under test, not yet connected, on a market that the test makes.

    `show(bid, ask, size)` makes that the market, `size` on either side; it holds once awaited. The account has enough
    of both currencies for `lot` at 100.
    """

    venue: TradingVenue
    instrument: Instrument
    lot: Decimal
    show: Callable[[Decimal, Decimal, Decimal], Awaitable[None]]
    abilities: VenueAbilities = EVERYTHING
    orders: dict[str, Order] = field(default_factory=dict)
    events: list[OrderEvent] = field(default_factory=list)
    states: list[VenueState] = field(default_factory=list)
    _count: int = 0

    def sink(self, event: OrderEvent) -> None:
        """Take what the venue says."""
        self.events.append(event)
        self.orders[event.client_order_id] = apply(self.orders[event.client_order_id], event)

    def on_state(self, state: VenueState, reason: str) -> None:
        """Take what becomes of the venue's connection."""
        assert state is VenueState.CONNECTED or reason, "whoever loses a connection says why"
        self.states.append(state)

    def heard_since(self, count: int, key: str) -> list[OrderEvent]:
        """Give what was said of an order after the first `count` events; of others a venue may speak at any time."""
        return [event for event in self.events[count:] if event.client_order_id == key]

    def needs(self, ability: bool, what: str) -> None:
        """Skip the test where the venue lacks what it is about."""
        if not ability:
            pytest.skip(f"{self.abilities.title} has no {what}")

    async def open(self) -> None:
        """Connect, and let the market stand at 100 and 101, with ten lots on either side."""
        await self.venue.connect(self.sink, self.on_state)
        await self.show(Decimal(100), Decimal(101), 10 * self.lot)

    async def send(self, side: Side, lots: int, price: int | None = None, **options: Any) -> str:
        """Submit an order and give its id."""
        self._count += 1
        key = f"contract-{self._count}"
        kind = OrderType.MARKET if price is None else OrderType.LIMIT
        if "stop_price" in options:
            kind = OrderType.STOP
        limit = None if price is None else Decimal(price)
        request = OrderRequest(self.instrument.id, side, kind, lots * self.lot, limit, **options)
        new = Order(key, "contract", self.venue.account_id, request, created_ns=1, updated_ns=1)
        self.needs(request.type in self.abilities.order_types, f"{request.type} orders")
        self.needs(request.time_in_force in self.abilities.time_in_force, f"{request.time_in_force} orders")
        self.needs(self.abilities.post_only or not request.post_only, "post-only orders")
        self.orders[key] = apply(new, OrderSubmitted(key, 1))
        heard = len(self.events)
        await self.venue.submit(self.orders[key])
        assert not self.heard_since(heard, key), "a sink must not be called from inside submit"
        return key

    async def amend(self, key: str, lots: int, price: int) -> Order:
        """Ask for another quantity and limit, and wait until the venue has made or refused the change."""
        self.needs(self.abilities.amend, "way to change orders")
        before, heard = self.orders[key], len(self.events)
        await self.venue.amend(before, lots * self.lot, Decimal(price))
        assert not self.heard_since(heard, key), "a sink must not be called from inside amend"
        await until(
            lambda: self.orders[key].request != before.request or self.refusals(key), what=f"the change of order {key}"
        )
        return self.orders[key]

    def refusals(self, key: str) -> list[str]:
        """Give why changes of an order were refused so far."""
        return [
            event.reason for event in self.events if isinstance(event, AmendRejected) and event.client_order_id == key
        ]

    async def listed(self, order: Order) -> VenueOrder | None:
        """Give an order as the venue's list of open orders has it."""
        listed = {each.venue_order_id: each for each in await self.venue.open_orders()}
        return listed.get(order.venue_order_id)

    async def reaches(self, key: str, status: OrderStatus) -> Order:
        """Wait until an order has a status."""
        await until(lambda: self.orders[key].status is status, what=f"order {key} to be {status}")
        return self.orders[key]

    def fills(self, key: str) -> list[Fill]:
        """Give an order's fills so far."""
        return [event.fill for event in self.events if isinstance(event, OrderFilled) and event.client_order_id == key]

    async def total(self, currency: str) -> Decimal:
        """Give the balance of a currency."""
        return (await self._balance(currency)).total

    async def locked(self, currency: str) -> Decimal:
        """Give what open orders reserve of a currency."""
        return (await self._balance(currency)).locked

    async def _balance(self, currency: str) -> Balance:
        balances = {balance.currency: balance for balance in await self.venue.balances()}
        return balances.get(currency, Balance(currency, Decimal(0)))


class TradingVenueContract:
    """Tests of what a subclass's `desk` fixture yields."""

    async def test_a_market_order_is_accepted_then_filled_and_paid(self, desk: TradingDesk) -> None:
        await desk.open()
        base, quote = desk.instrument.base, desk.instrument.quote
        before = await desk.total(base), await desk.total(quote)
        key = await desk.send(BUY, 1)
        bought = await desk.reaches(key, OrderStatus.FILLED)
        assert bought.venue_order_id
        assert bought.filled_quantity == desk.lot
        fills = desk.fills(key)
        assert {fill.price for fill in fills} == {Decimal(101)}
        assert {fill.liquidity for fill in fills} == {Liquidity.TAKER}
        paid = sum((fill.price * fill.quantity for fill in fills), Decimal(0))
        fees = {name: sum((f.fee for f in fills if f.fee_currency == name), Decimal(0)) for name in (base, quote)}
        assert await desk.total(quote) == before[1] - paid - fees[quote]
        assert await desk.total(base) == before[0] + desk.lot - fees[base]

    async def test_a_resting_order_locks_is_found_and_can_be_cancelled(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 90)
        resting = await desk.reaches(key, OrderStatus.ACCEPTED)
        assert await desk.locked(desk.instrument.quote) >= 90 * desk.lot
        report = await desk.venue.find_order(resting)
        assert report is not None
        assert report.status is OrderStatus.ACCEPTED
        assert report.venue_order_id == resting.venue_order_id
        await desk.venue.cancel(resting)
        await desk.reaches(key, OrderStatus.CANCELED)
        assert await desk.locked(desk.instrument.quote) == 0
        await desk.show(Decimal(80), Decimal(81), 10 * desk.lot)
        assert desk.fills(key) == []

    async def test_a_resting_order_is_filled_at_its_price_when_the_market_comes(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 95)
        await desk.reaches(key, OrderStatus.ACCEPTED)
        await desk.show(Decimal(90), Decimal(91), 10 * desk.lot)
        await desk.reaches(key, OrderStatus.FILLED)
        assert {fill.price for fill in desk.fills(key)} == {Decimal(95)}
        assert {fill.liquidity for fill in desk.fills(key)} == {Liquidity.MAKER}

    async def test_fills_are_no_more_than_what_is_shown(self, desk: TradingDesk) -> None:
        await desk.open()
        await desk.show(Decimal(100), Decimal(101), 2 * desk.lot)
        key = await desk.send(BUY, 3, 101, time_in_force=TimeInForce.IOC)
        ended = await desk.reaches(key, OrderStatus.EXPIRED)
        assert ended.filled_quantity == 2 * desk.lot

    async def test_fok_that_cannot_be_whole_ends_without_a_fill(self, desk: TradingDesk) -> None:
        await desk.open()
        await desk.show(Decimal(100), Decimal(101), 2 * desk.lot)
        key = await desk.send(BUY, 3, 101, time_in_force=TimeInForce.FOK)
        await until(lambda: not desk.orders[key].is_open, what="the order to end")
        assert desk.fills(key) == []

    async def test_post_only_that_would_take_is_rejected_with_a_reason(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 101, post_only=True)
        rejected = await desk.reaches(key, OrderStatus.REJECTED)
        assert rejected.reason
        assert await desk.locked(desk.instrument.quote) == 0

    async def test_a_stop_waits_for_its_price_and_then_takes(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(SELL, 1, stop_price=Decimal(95))
        await desk.reaches(key, OrderStatus.ACCEPTED)
        await desk.show(Decimal(94), Decimal(95), 10 * desk.lot)
        await desk.reaches(key, OrderStatus.FILLED)
        assert {fill.price for fill in desk.fills(key)} == {Decimal(94)}

    async def test_more_than_the_account_has_is_rejected_with_a_reason(self, desk: TradingDesk) -> None:
        await desk.open()
        lots = int(await desk.total(desk.instrument.quote) / 90 / desk.lot) + 1
        key = await desk.send(BUY, lots, 90)
        rejected = await desk.reaches(key, OrderStatus.REJECTED)
        assert rejected.reason

    async def test_an_ended_order_cannot_be_cancelled(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1)
        ended = await desk.reaches(key, OrderStatus.FILLED)
        await desk.venue.cancel(ended)
        await until(
            lambda: any(isinstance(each, CancelRejected) for each in desk.events), what="the refusal of the cancel"
        )
        assert desk.orders[key] is ended

    async def test_an_order_can_be_changed_and_is_then_what_was_asked_for(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 90)
        await desk.reaches(key, OrderStatus.ACCEPTED)
        changed = await desk.amend(key, 2, 95)
        assert (changed.request.quantity, changed.request.price) == (2 * desk.lot, Decimal(95))
        assert (changed.status, desk.refusals(key)) == (OrderStatus.ACCEPTED, [])
        assert await desk.locked(desk.instrument.quote) >= 95 * 2 * desk.lot
        report = await desk.venue.find_order(changed)
        assert report is not None
        assert events_from_report(changed, report, time_ns=2) == []
        await desk.show(Decimal(90), Decimal(91), 10 * desk.lot)
        filled = await desk.reaches(key, OrderStatus.FILLED)
        assert filled.filled_quantity == 2 * desk.lot
        assert {fill.price for fill in desk.fills(key)} == {Decimal(95)}

    async def test_a_changed_order_that_was_not_heard_of_is_told_by_a_report(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 2, 90)
        unchanged = await desk.reaches(key, OrderStatus.ACCEPTED)
        changed = await desk.amend(key, 1, 91)
        report = await desk.venue.find_order(unchanged)
        assert report is not None
        for event in events_from_report(unchanged, report, time_ns=2):
            unchanged = apply(unchanged, event)
        assert (unchanged.request, unchanged.venue_order_id) == (changed.request, changed.venue_order_id)

    async def test_a_changed_order_can_be_changed_again_and_cancelled(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(SELL, 2, 120)
        await desk.reaches(key, OrderStatus.ACCEPTED)
        await desk.amend(key, 2, 115)
        again = await desk.amend(key, 1, 115)
        assert again.request.quantity == desk.lot
        await desk.venue.cancel(again)
        await desk.reaches(key, OrderStatus.CANCELED)
        assert await desk.locked(desk.instrument.base) == 0
        assert desk.fills(key) == []

    async def test_an_order_that_is_moved_to_the_market_takes(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 90)
        await desk.reaches(key, OrderStatus.ACCEPTED)
        await desk.amend(key, 1, 101)
        await desk.reaches(key, OrderStatus.FILLED)
        assert {fill.price for fill in desk.fills(key)} == {Decimal(101)}

    async def test_a_change_that_the_account_cannot_pay_is_refused_and_the_order_works_on(
        self, desk: TradingDesk
    ) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 90)
        before = await desk.reaches(key, OrderStatus.ACCEPTED)
        lots = int(await desk.total(desk.instrument.quote) / 90 / desk.lot) + 2
        after = await desk.amend(key, lots, 90)
        assert all(desk.refusals(key))
        assert (after.request, after.status) == (before.request, OrderStatus.ACCEPTED)
        await desk.show(Decimal(80), Decimal(81), 10 * desk.lot)
        assert (await desk.reaches(key, OrderStatus.FILLED)).filled_quantity == desk.lot

    async def test_an_ended_order_cannot_be_changed(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1, 101)
        ended = await desk.reaches(key, OrderStatus.FILLED)
        assert await desk.amend(key, 2, 101) is ended
        assert all(desk.refusals(key))

    async def test_open_orders_are_listed_until_they_end(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 2, 90)
        resting = await desk.reaches(key, OrderStatus.ACCEPTED)
        listed = await desk.listed(resting)
        assert listed is not None
        assert (listed.symbol, listed.side, listed.type) == (desk.instrument.id.symbol, BUY, OrderType.LIMIT)
        assert (listed.quantity, listed.filled_quantity) == (2 * desk.lot, Decimal(0))
        assert listed.price == 90
        assert listed.client_order_id in ((key,) if desk.abilities.client_ids else (key, ""))
        await desk.venue.cancel(resting)
        await desk.reaches(key, OrderStatus.CANCELED)
        assert await desk.listed(resting) is None

    async def test_executions_are_listed_as_they_were_told(self, desk: TradingDesk) -> None:
        await desk.open()
        key = await desk.send(BUY, 1)
        bought = await desk.reaches(key, OrderStatus.FILLED)
        (fill,) = desk.fills(key)
        listed = {trade.fill_id: trade for trade in await desk.venue.trades(fill.time_ns)}
        trade = listed[fill.fill_id]
        assert (trade.symbol, trade.side, trade.venue_order_id) == (
            desk.instrument.id.symbol,
            BUY,
            bought.venue_order_id,
        )
        assert (trade.price, trade.quantity) == (fill.price, fill.quantity)
        assert (trade.fee, trade.fee_currency) == (fill.fee, fill.fee_currency)
        assert list(await desk.venue.trades(fill.time_ns + 86_400_000_000_000)) == []

    async def test_a_check_finds_nothing_wrong_before_and_after_connecting(self, desk: TradingDesk) -> None:
        for _ in range(2):
            report = await desk.venue.check()
            assert report.problem == ""
            assert report.can_read is not False
            assert report.can_trade is not False
            assert desk.instrument.quote in {balance.currency for balance in report.balances}
            await desk.open()
        assert desk.venue.held_s == 0
        assert VenueState.INTERRUPTED not in desk.states

    async def test_how_much_of_its_limits_is_used_up_is_told(self, desk: TradingDesk) -> None:
        await desk.open()
        for quota in desk.venue.quotas:
            assert quota.what in ("orders", "requests")
            assert 0 <= quota.used <= quota.allowed
            assert quota.seconds > 0

    async def test_a_report_alone_brings_an_order_up_to_date(self, desk: TradingDesk) -> None:
        await desk.open()
        await desk.show(Decimal(100), Decimal(101), desk.lot)
        key = await desk.send(BUY, 2, 101, time_in_force=TimeInForce.IOC)
        told = await desk.reaches(key, OrderStatus.EXPIRED)
        report = await desk.venue.find_order(told)
        assert report is not None
        unheard = Order(key, "contract", told.account_id, told.request, created_ns=1, updated_ns=1)
        for event in events_from_report(unheard, report, time_ns=2):
            unheard = apply(unheard, event)
        assert (unheard.status, unheard.fill_ids) == (told.status, told.fill_ids)
        assert unheard.filled_notional == told.filled_notional

    async def test_an_order_that_was_never_sent_is_not_found(self, desk: TradingDesk) -> None:
        await desk.open()
        request = OrderRequest(desk.instrument.id, BUY, OrderType.MARKET, desk.lot)
        never = Order("never-sent", "contract", desk.venue.account_id, request, created_ns=1, updated_ns=1)
        assert await desk.venue.find_order(never) is None

    async def test_ids_of_fills_and_orders_are_never_used_twice(self, desk: TradingDesk) -> None:
        await desk.open()
        keys = [await desk.send(side, 1) for side in (BUY, SELL, BUY)]
        for key in keys:
            await desk.reaches(key, OrderStatus.FILLED)
        fill_ids = [fill.fill_id for key in keys for fill in desk.fills(key)]
        assert len(set(fill_ids)) == len(fill_ids)
        assert len({desk.orders[key].venue_order_id for key in keys}) == len(keys)

    async def test_close_is_safe_twice_and_nothing_is_sent_after_it(self, desk: TradingDesk) -> None:
        await desk.open()
        await desk.venue.close()
        await desk.venue.close()
        with pytest.raises(VenueUnavailable):
            await desk.send(BUY, 1)
        with pytest.raises(VenueUnavailable):
            await desk.venue.cancel(next(iter(desk.orders.values())))
        desk.needs(desk.abilities.amend, "way to change orders")
        with pytest.raises(VenueUnavailable):
            await desk.venue.amend(next(iter(desk.orders.values())), 2 * desk.lot, Decimal(90))
