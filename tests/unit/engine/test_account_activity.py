"""What accounts are doing, what their venues say of connections, and what is found without us having changed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, VenueRejected, VenueUnavailable
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Order, OrderStatus, OrderType
from koc_qt.domain.state import (
    AccountActivity,
    AccountSnapshot,
    Balance,
    EngineSnapshot,
    EngineState,
    TradingMode,
    VenueState,
)
from koc_qt.domain.venues import ConnectionReport, VenueOrder, VenuePosition
from koc_qt.engine import accounts as accounts_module
from koc_qt.engine.accounts import AccountInfo, Accounts
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.messages import AccountChanged, AccountRemoved, EngineChanged, OrderChanged, PositionChanged
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.trading import BTC, BTC_RULES, NOW_NS, FakeTradingVenue, fill_of, limit_buy

SIM = AccountInfo("sim", "sim", TradingMode.SIMULATED)
LIVE = AccountInfo("live", "sim", TradingMode.LIVE, label="Main", has_keys=True)


class Venue(FakeTradingVenue):
    """Fails to connect as often as told, and counts what is asked."""

    def __init__(self, account_id: str = "sim") -> None:
        super().__init__(account_id)
        self.refuse_connect: list[Exception] = []
        self.refuse_lists: list[Exception] = []
        self.connects = self.reads = self.inspections = self.looks = 0
        self.hold_s = 0.0
        self.hold_connect: asyncio.Event | None = None
        self.broken_check: Exception | None = None

    async def connect(self, sink: object, on_state: object = None) -> None:
        self.connects += 1
        if self.hold_connect is not None:
            await self.hold_connect.wait()
        if self.refuse_connect:
            raise self.refuse_connect.pop(0)
        await super().connect(sink, on_state)  # type: ignore[arg-type]

    async def balances(self) -> Sequence[Balance]:
        self.reads += 1
        return await super().balances()

    async def positions(self) -> Sequence[VenuePosition]:
        self.inspections += 1
        if self.refuse_lists:
            raise self.refuse_lists.pop(0)
        return await super().positions()

    async def check(self) -> ConnectionReport:
        if self.broken_check is not None:
            raise self.broken_check
        return await super().check()

    @property
    def held_s(self) -> float:
        self.looks += 1
        return self.hold_s

    @held_s.setter
    def held_s(self, seconds: float) -> None:
        self.hold_s = seconds

    async def looked_at(self, times: int = 5) -> None:
        """Wait until the accounts have looked at this venue so often."""
        looks = self.looks + times
        await until(lambda: self.looks >= looks, what="looks at the venue")

    def says(self, state: VenueState, reason: str = "") -> None:
        assert self.on_state is not None
        self.on_state(state, reason)


class Desk:
    """Accounts on one venue each, and what they published."""

    def __init__(self, *infos: AccountInfo) -> None:
        self.store, self.bus, self.clock = Store(), Bus(), FakeClock()
        self.venues = {info.account_id: Venue(info.account_id) for info in infos}
        self.reconciled: list[str] = []
        self.accounts = Accounts(
            self.store,
            self.bus,
            self.clock,
            {info.account_id: info for info in infos},
            self.venues,
            self.reconcile,
        )
        self.told: list[AccountSnapshot] = []
        self.removed: list[str] = []
        self.bus.subscribe(AccountChanged, lambda fact: self.told.append(fact.account))
        self.bus.subscribe(AccountRemoved, lambda fact: self.removed.append(fact.account_id))

    async def reconcile(self, account_id: str) -> None:
        self.reconciled.append(account_id)

    @property
    def venue(self) -> Venue:
        return self.venues["sim"]

    @property
    def sim(self) -> AccountSnapshot:
        return self.store.accounts["sim"]

    async def connect(self, account_id: str = "sim") -> None:
        await self.accounts.connect(account_id, lambda event: None)

    def put(self, key: str, status: OrderStatus, account_id: str = "sim", **fields: object) -> None:
        order = Order(key, "sma", account_id, limit_buy(), created_ns=NOW_NS, updated_ns=NOW_NS, status=status)
        order = msgspec.structs.replace(order, **fields)
        self.store.put_order(order)
        self.bus.publish(OrderChanged(order))

    def hold(self, quantity: str) -> None:
        position = self.store.position("sma", "sim", BTC_RULES)
        order = Order("k", "sma", "sim", limit_buy(quantity), created_ns=NOW_NS, updated_ns=NOW_NS)
        position.apply(fill_of(order, fill_id=f"f{quantity}"))
        self.bus.publish(PositionChanged(position.snapshot(None, NOW_NS)))

    def halt(self, engaged: bool) -> None:
        engine = EngineSnapshot(
            EngineState.RUNNING, "", "1", 1, 0, 0.0, engaged, "", Decimal(0), 0, 0.0, 0, 0, 0.0, 0, 0.0, None, None,
            True, 0,
        )  # fmt: skip
        self.bus.publish(EngineChanged(engine))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REFRESH_S", "WATCH_S", "RECONNECT_FIRST_S"):
        monkeypatch.setattr(accounts_module, name, 0.001)


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk(SIM)
    desk.accounts.start()
    yield desk
    await desk.accounts.close()


def listed(key: str = "", venue_order_id: str = "v9") -> VenueOrder:
    return VenueOrder(
        venue_order_id, key, "BTC/USDT", Side.BUY, OrderType.LIMIT, Decimal(1), Decimal(0), Decimal(99), None, NOW_NS
    )


async def test_what_the_configuration_says_is_shown() -> None:
    desk = Desk(LIVE, msgspec.structs.replace(SIM, enabled=False))
    desk.accounts.start()
    live = desk.store.accounts["live"]
    assert (live.label, live.has_keys, live.state, live.enabled) == ("Main", True, VenueState.CONNECTING, True)
    assert (desk.sim.state, desk.sim.enabled) == (VenueState.DISCONNECTED, False)
    with pytest.raises(InvalidOrder, match="account 'sim' is switched off"):
        desk.accounts.route("sim", BTC)
    await desk.accounts.close()


async def test_activity_follows_orders_and_positions(desk: Desk) -> None:
    await desk.connect()
    assert desk.sim.activity is AccountActivity.IDLE
    desk.put("k1", OrderStatus.ACCEPTED)
    desk.put("other", OrderStatus.ACCEPTED, account_id="elsewhere")
    await until(lambda: desk.sim.activity is AccountActivity.ORDER_SUBMITTED, what="the order to be seen")
    desk.hold("0.5")
    desk.put("k1", OrderStatus.FILLED)
    await until(lambda: desk.sim.activity is AccountActivity.IN_POSITION, what="the position to be seen")
    assert [each.activity for each in desk.told if each.state is VenueState.CONNECTED][
        -1
    ] is AccountActivity.IN_POSITION


async def test_keys_for_data_alone_have_no_positions_to_read(desk: Desk) -> None:
    desk.accounts.put(AccountInfo("data", "polygon", TradingMode.DATA, has_keys=True))
    desk.accounts.tell("data", VenueState.CONNECTED)
    await desk.connect()
    desk.clock.advance(accounts_module.INSPECT_S)
    read = desk.venue.inspections
    await until(lambda: desk.venue.inspections > read, what="the other account's to be read")
    await desk.venue.looked_at()
    assert desk.store.accounts["data"].state is VenueState.CONNECTED  # and the rails would tell of an error in the log


async def test_orders_from_before_the_start_count() -> None:
    desk = Desk(SIM)
    desk.put("k1", OrderStatus.ACCEPTED)
    desk.put("k2", OrderStatus.ACCEPTED, account_id="elsewhere")
    fresh = Accounts(desk.store, desk.bus, desk.clock, {"sim": SIM}, {})
    fresh.start()
    assert desk.sim.activity is AccountActivity.ORDER_SUBMITTED
    await fresh.close()


async def test_the_kill_switch_halts_every_account_at_once(desk: Desk) -> None:
    await desk.connect()
    desk.put("k1", OrderStatus.ACCEPTED)
    told = len(desk.told)
    for engaged in (True, True, False):
        desk.halt(engaged)
    seen = [each.activity for each in desk.told[told:]]
    assert seen == [AccountActivity.HALTED, AccountActivity.ORDER_SUBMITTED]


async def test_a_venue_that_wants_to_be_left_alone_is_shown_until_it_does_not(desk: Desk) -> None:
    await desk.connect()
    desk.venue.held_s = 30.0
    await until(lambda: desk.sim.activity is AccountActivity.RATE_LIMITED, what="the block to be seen")
    assert desk.sim.held_s == 30
    told = len(desk.told)
    desk.clock.advance(10)
    desk.venue.held_s = 20.0  # the same block
    await desk.venue.looked_at()
    assert len(desk.told) == told
    desk.venue.held_s = 50.0
    await until(lambda: desk.sim.held_s == 50, what="the longer block")
    desk.halt(True)
    desk.venue.held_s = 0.0
    desk.clock.advance(50)
    await until(lambda: desk.sim.held_s == 0, what="its end")
    desk.halt(False)
    assert desk.sim.activity is AccountActivity.IDLE


@pytest.mark.expected_warnings("account sim: the stream broke")
async def test_a_connection_that_is_back_has_open_orders_asked_about(desk: Desk) -> None:
    await desk.connect()
    desk.venue.says(VenueState.CONNECTED)  # nothing was lost
    assert desk.reconciled == []
    desk.venue.says(VenueState.INTERRUPTED, "the stream broke")
    assert (desk.sim.state, desk.sim.reason) == (VenueState.INTERRUPTED, "the stream broke")
    desk.venue.money = [Balance("USDT", Decimal(5))]
    desk.venue.says(VenueState.CONNECTED)
    assert (desk.sim.state, desk.sim.reason) == (VenueState.CONNECTED, "")
    await until(lambda: desk.reconciled == ["sim"], what="the question about orders")
    await until(lambda: desk.sim.balances[0].total == 5, what="the balances")


@pytest.mark.expected_warnings("account sim cannot be used: no route", "account sim cannot be used: asked to wait")
async def test_an_account_that_fails_is_tried_again_until_it_works(desk: Desk) -> None:
    waits = VenueUnavailable("asked to wait")
    waits.retry_after_s = 0.01
    desk.venue.refuse_connect = [VenueUnavailable("no route"), waits]
    await desk.connect()
    assert (desk.sim.state, desk.sim.reason) == (VenueState.DISCONNECTED, "no route")
    await until(lambda: desk.sim.state is VenueState.CONNECTED, what="the connection")
    assert (desk.venue.connects, desk.sim.reason) == (3, "")
    await until(lambda: desk.reconciled == ["sim"], what="the question about orders")


@pytest.mark.expected_warnings("no route", "the keys are not accepted")
async def test_keys_that_are_refused_are_not_tried_again(desk: Desk) -> None:
    desk.venue.refuse_connect = [VenueUnavailable("no route"), VenueRejected("the keys are not accepted")]
    await desk.connect()
    await until(lambda: desk.sim.reason == "the keys are not accepted", what="the refusal")
    await until(lambda: not desk.accounts._accounts["sim"].tasks, what="the end of trying")
    assert desk.venue.connects == 2
    desk.venue.refuse_connect = [VenueRejected("the keys are not accepted")]
    await desk.connect()
    assert not desk.accounts._accounts["sim"].tasks
    assert desk.reconciled == []


@pytest.mark.expected_warnings("failed in a way nobody foresaw", "account sim cannot be used: ZeroDivisionError")
async def test_a_bug_in_a_venue_is_tried_again_as_well(desk: Desk) -> None:
    desk.venue.refuse_connect = [ZeroDivisionError()]
    await desk.connect()
    await until(lambda: desk.sim.state is VenueState.CONNECTED, what="the connection")


@pytest.mark.expected_warnings("account sim: lost again", "no route")
async def test_what_the_venue_says_while_balances_are_read_counts(desk: Desk) -> None:
    reading = asyncio.Event()
    balances = desk.venue.balances

    async def lost_meanwhile() -> Sequence[Balance]:
        desk.venue.says(VenueState.INTERRUPTED, "lost again")
        reading.set()
        return await balances()

    desk.venue.refuse_connect = [VenueUnavailable("no route")]
    desk.venue.balances = lost_meanwhile  # type: ignore[method-assign]
    await desk.connect()
    await reading.wait()
    await until(lambda: desk.reconciled, what="the connection")
    assert desk.sim.state is VenueState.INTERRUPTED


async def test_an_account_can_be_let_go_and_what_it_says_then_is_old(desk: Desk) -> None:
    await desk.connect()
    await until(lambda: desk.venue.inspections, what="a look at it")
    says = desk.venue.on_state
    await desk.accounts.disconnect("sim", "switched to live")
    assert desk.venue.closed
    shown = (desk.sim.state, desk.sim.reason, desk.sim.balances)
    assert shown == (VenueState.DISCONNECTED, "switched to live", ())
    assert says is not None
    says(VenueState.CONNECTED, "")
    assert desk.sim.state is VenueState.DISCONNECTED
    desk.put("k1", OrderStatus.ACCEPTED)
    await until(lambda: desk.sim.activity is AccountActivity.ORDER_SUBMITTED, what="the order to be seen")
    reads = desk.venue.reads
    await until(lambda: not desk.accounts._changed)
    assert desk.venue.reads == reads


@pytest.mark.parametrize("how", ["let go", "given up"])
async def test_a_connection_that_is_being_made_can_be_stopped(desk: Desk, how: str) -> None:
    desk.venue.hold_connect = asyncio.Event()
    connecting = asyncio.create_task(desk.connect())
    await until(lambda: desk.venue.connects, what="the attempt")
    if how == "given up":
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
    await desk.accounts.disconnect("sim")
    if how == "let go":
        await connecting
    assert desk.sim.state is VenueState.DISCONNECTED
    assert not desk.accounts._accounts["sim"].tasks


async def test_accounts_come_and_go(desk: Desk) -> None:
    desk.accounts.put(LIVE)
    assert desk.store.accounts["live"].label == "Main"
    desk.venues["live"] = Venue("live")
    await desk.connect("live")
    desk.accounts.put(msgspec.structs.replace(LIVE, label="Other"))
    live = desk.store.accounts["live"]
    assert (live.label, live.state) == ("Other", VenueState.CONNECTED)
    says = desk.venues["live"].on_state
    await desk.accounts.remove("live")
    assert (desk.removed, "live" in desk.accounts, "live" in desk.store.accounts) == (["live"], False, False)
    assert says is not None
    says(VenueState.INTERRUPTED, "gone")
    desk.put("k1", OrderStatus.ACCEPTED, account_id="live")


async def test_fees_and_warnings_of_a_check_are_told(desk: Desk, expected_warnings: list[str]) -> None:
    desk.venue.found = ConnectionReport(
        maker_fee=Decimal("0.001"), taker_fee=Decimal("0.002"), warnings=("these keys may withdraw",)
    )
    await desk.connect()
    await until(lambda: desk.sim.taker_fee, what="the fees")
    assert (desk.sim.maker_fee, desk.sim.taker_fee) == (Decimal("0.001"), Decimal("0.002"))
    assert any("account sim: these keys may withdraw" in line for line in expected_warnings)


@pytest.mark.expected_warnings("the keys of account sim could not be looked at: OSError")
async def test_a_check_that_fails_changes_nothing(desk: Desk) -> None:
    desk.venue.broken_check = OSError("a bug")
    await desk.connect()
    await until(lambda: not desk.accounts._accounts["sim"].tasks, what="the check to end")
    assert (desk.sim.state, desk.sim.maker_fee) == (VenueState.CONNECTED, None)


async def test_positions_of_the_venue_and_orders_of_others_are_shown(desk: Desk) -> None:
    desk.venue.holdings = [
        VenuePosition("AAPL", Decimal(3), Decimal(100)),
        VenuePosition("MSFT", Decimal(0), None),
    ]
    desk.put("mine", OrderStatus.ACCEPTED, venue_order_id="v1")
    desk.put("done", OrderStatus.CANCELED, venue_order_id="v2")
    desk.venue.listed = [
        listed("mine", "v1"),
        listed("", "v1"),
        listed("done", "v2"),  # the venue's list is behind
        listed("theirs", "v3"),
        listed("renamed", "v1"),
        listed("", "v4"),
    ]
    await desk.connect()
    await until(lambda: desk.sim.foreign_orders, what="the orders of others")
    assert desk.sim.foreign_orders == 2
    assert desk.sim.positions == (VenuePosition("AAPL", Decimal(3), Decimal(100)),)
    desk.put("mine", OrderStatus.CANCELED)
    await until(lambda: desk.sim.activity is AccountActivity.IN_POSITION, what="the activity")


async def test_an_order_that_may_be_ours_is_not_called_somebody_else_s(desk: Desk) -> None:
    desk.put("mine", OrderStatus.UNKNOWN)
    desk.venue.listed = [listed("", "v1"), listed("theirs", "v2")]
    desk.venue.holdings = [VenuePosition("AAPL", Decimal(3), None)]
    await desk.connect()
    await until(lambda: desk.sim.positions, what="a look at it")
    assert desk.sim.foreign_orders == 0


@pytest.mark.expected_warnings(
    "positions and orders of sim cannot be read: no list", "positions and orders of sim cannot be read: no answer",
    "failed in a way nobody foresaw",
)  # fmt: skip
async def test_what_changes_without_us_is_read_again_now_and_then(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.venue.refuse_lists = [VenueUnavailable("no list"), TimeoutError(), ZeroDivisionError()]
    await desk.connect()

    def passes(is_so: bool) -> bool:
        """Let the time between two looks pass until it is so: when exactly one ends, nobody is told."""
        if not is_so:
            desk.clock.advance(accounts_module.INSPECT_S)
        return is_so

    await until(lambda: passes(desk.venue.inspections >= 3), what="three looks at it")
    desk.venue.holdings = [VenuePosition("AAPL", Decimal(3), None)]
    desk.venue.money = [Balance("USDT", Decimal(7))]
    await until(
        lambda: passes(bool(desk.sim.positions) and desk.sim.balances[0].total == 7), what="what changed without us"
    )


async def test_a_real_venue_is_asked_for_balances_less_often() -> None:
    desk = Desk(LIVE)
    desk.accounts.start()
    venue = desk.venues["live"]
    await desk.connect("live")
    assert venue.reads == 1
    desk.put("k1", OrderStatus.ACCEPTED, account_id="live")
    await until(lambda: desk.store.accounts["live"].activity is AccountActivity.ORDER_SUBMITTED)
    await venue.looked_at()
    assert venue.reads == 1
    desk.clock.advance(accounts_module.REFRESH_REMOTE_S)
    await until(lambda: venue.reads == 2, what="the reading")
    await desk.accounts.close()
