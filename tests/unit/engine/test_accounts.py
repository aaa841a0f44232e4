from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from koc_qt.domain.errors import InvalidOrder, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Order
from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.engine import accounts as accounts_module
from koc_qt.engine.accounts import AccountInfo, Accounts
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.messages import AccountChanged, FillRecorded, OrderChanged
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.trading import BTC, NOW_NS, FakeTradingVenue, fill_of, limit_buy

INFOS = {
    "sim": AccountInfo("sim", "sim", TradingMode.SIMULATED),
    "sim2": AccountInfo("sim2", "sim2", TradingMode.SIMULATED),
    "paper": AccountInfo("paper", "binance", TradingMode.PAPER),
    "paper-b": AccountInfo("paper-b", "kraken", TradingMode.PAPER),
    "paper-c": AccountInfo("paper-c", "kraken", TradingMode.PAPER),
}


def order() -> Order:
    return Order("koc1", "sma", "sim", limit_buy(), created_ns=NOW_NS, updated_ns=NOW_NS)


def make(venue: FakeTradingVenue) -> tuple[Store, Bus, Accounts]:
    store, bus = Store(), Bus()
    return store, bus, Accounts(store, bus, FakeClock(), INFOS, {"sim": venue})


async def test_balances_are_read_at_the_start_and_after_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "REFRESH_S", 0.0)
    venue = FakeTradingVenue()
    store, bus, accounts = make(venue)
    shown: list[AccountChanged] = []
    bus.subscribe(AccountChanged, shown.append)
    accounts.start()
    await accounts.connect("sim", lambda event: None)
    assert store.accounts["sim"].balances == (Balance("USDT", Decimal(100_000)),)
    venue.money = [Balance("USDT", Decimal(90_000), Decimal(10))]
    bus.publish(OrderChanged(order()))
    bus.publish(FillRecorded(fill_of(order())))
    await until(lambda: store.accounts["sim"].balances[0].total == 90_000, what="the new balance")
    assert shown[-1].account.state is VenueState.CONNECTED
    await accounts.close()
    assert venue.closed


class Broken(FakeTradingVenue):
    hold_balances: asyncio.Event | None = None

    async def balances(self) -> list[Balance]:
        if self.hold_balances is not None:
            await self.hold_balances.wait()
        if self.refuse_lookup:
            raise self.refuse_lookup.pop(0)
        return list(await super().balances())


@pytest.mark.expected_warnings("account sim cannot be used: no route")
async def test_an_account_that_cannot_be_used_is_shown_so() -> None:
    venue = Broken()
    venue.refuse_lookup = [VenueUnavailable("no route")]
    store, _, accounts = make(venue)
    accounts.start()
    await accounts.connect("sim", lambda event: None)
    assert store.accounts["sim"].state is VenueState.DISCONNECTED
    await accounts.close()


@pytest.mark.expected_warnings("balances of sim cannot be read: gone", "cannot be read: no answer within 10 s")
async def test_balances_that_cannot_be_read_stay_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "REFRESH_S", 0.0)
    venue = Broken()
    store, bus, accounts = make(venue)
    accounts.start()
    await accounts.connect("sim", lambda event: None)
    venue.refuse_lookup = [VenueUnavailable("gone")]
    bus.publish(OrderChanged(order()))
    await until(lambda: not venue.refuse_lookup)
    venue.refuse_lookup = [TimeoutError()]
    bus.publish(OrderChanged(order()))
    await until(lambda: not venue.refuse_lookup)
    assert store.accounts["sim"].balances[0].total == 100_000
    await asyncio.sleep(0)
    await accounts.close()


async def test_an_instrument_of_another_venue_goes_to_the_account_of_the_same_mode_there() -> None:
    _, _, accounts = make(FakeTradingVenue())
    assert "sim" in accounts
    assert "nope" not in accounts
    assert accounts.route("sim", BTC) == "sim"
    assert accounts.route("sim", InstrumentId("sim2", "BTC/USDT")) == "sim2"
    with pytest.raises(InvalidOrder, match="no account in simulated mode there"):
        accounts.route("sim", InstrumentId("binance", "BTC/USDT"))
    with pytest.raises(InvalidOrder, match=r"several accounts \(paper-b, paper-c\)"):
        accounts.route("paper", InstrumentId("kraken", "BTC/USDT"))
    with pytest.raises(InvalidOrder, match="there is no account 'nope'"):
        accounts.route("nope", BTC)


async def test_money_is_read_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "CASH_TIMEOUT_S", 0.001)
    venue = Broken()
    _, bus, accounts = make(venue)
    accounts.start()
    shown: list[AccountChanged] = []
    bus.subscribe(AccountChanged, shown.append)
    venue.money = [Balance("USDT", Decimal(90_000), Decimal(10)), Balance("BTC", Decimal(1))]
    assert await accounts.cash("sim") == {"USDT": Decimal(89_990), "BTC": Decimal(1)}
    assert await accounts.cash("sim") == {"USDT": Decimal(89_990), "BTC": Decimal(1)}
    assert len(shown) == 1  # told when it changed
    venue.money = []
    venue.refuse_lookup = [VenueUnavailable("gone")]
    assert (await accounts.cash("sim"))["BTC"] == 1
    venue.hold_balances = asyncio.Event()
    assert (await accounts.cash("sim"))["BTC"] == 1  # what was known, when the venue is slow
    assert await accounts.cash("paper") == {}  # not connected
    assert await accounts.cash("nope") == {}
    await accounts.close()


@pytest.mark.expected_warnings("account sim cannot be used: no answer within 0.001 s")
async def test_an_account_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "CONNECT_TIMEOUT_S", 0.001)
    venue = Broken()

    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    venue.connect = never  # type: ignore[method-assign, assignment]
    store, _, accounts = make(venue)
    accounts.start()
    await accounts.connect("sim", lambda event: None)
    assert store.accounts["sim"].state is VenueState.DISCONNECTED
    await accounts.close()


@pytest.mark.expected_warnings("nobody foresaw", "account sim did not close in order: OSError")
async def test_faults_of_a_venue_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts_module, "REFRESH_S", 0.0)
    venue = Broken()
    store, bus, accounts = make(venue)
    accounts.start()
    await accounts.connect("sim", lambda event: None)
    venue.refuse_lookup = [RuntimeError("a bug")]
    bus.publish(OrderChanged(order()))
    await until(lambda: not venue.refuse_lookup)
    venue.money = [Balance("USDT", Decimal(1))]
    bus.publish(OrderChanged(order()))
    await until(lambda: store.accounts["sim"].balances[0].total == 1, what="the next reading")

    async def broken() -> None:
        raise OSError("will not")

    venue.close = broken  # type: ignore[method-assign]
    await accounts.close()


async def test_accounts_that_were_never_started_are_closed() -> None:
    venue = FakeTradingVenue()
    _, _, accounts = make(venue)
    await accounts.close()
    assert venue.closed


async def test_a_connection_that_is_back_is_shown_where_nobody_asks_about_orders() -> None:
    venue = FakeTradingVenue()
    store, _, accounts = make(venue)
    accounts.start()
    await accounts.connect("sim", lambda event: None)
    assert venue.on_state is not None
    for state in (VenueState.INTERRUPTED, VenueState.CONNECTED):
        venue.on_state(state, "")
        assert store.accounts["sim"].state is state
    await until(lambda: not accounts._accounts["sim"].tasks, what="the end of what that began")
    await accounts.close()
