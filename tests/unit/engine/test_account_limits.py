"""What venues let accounts do: told when it changes, and forgotten with the venue that said it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.state import TradingMode
from koc_qt.domain.venues import ConnectionReport, Quota
from koc_qt.engine import account_limits as module
from koc_qt.engine.account_limits import AccountChecked, AccountLimitsWatch
from koc_qt.engine.accounts import AccountInfo, Accounts
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.account_messages import AccountLimitsChanged
from koc_qt.link.messages import AccountRemoved
from koc_qt.ports.venue import TradingVenue
from tests.conditions import until
from tests.fakes.clock import FakeClock
from tests.fakes.trading import FakeTradingVenue
from tests.unit.engine.desk import EngineDesk

REQUESTS = Quota("requests", 340, 6_000, 60.0)


class Limits:
    """A watch on one account, and what it told."""

    def __init__(self) -> None:
        self.venue = FakeTradingVenue()
        self.venues: dict[str, TradingVenue] = {"sim": self.venue}
        self.store, self.bus = Store(), Bus()
        self.told: list[AccountLimits] = []
        self.bus.subscribe(AccountLimitsChanged, lambda fact: self.told.append(fact.limits))
        self.watch = AccountLimitsWatch(self.store, self.bus, self.venues)


@pytest.fixture
async def limits() -> AsyncIterator[Limits]:
    limits = Limits()
    yield limits
    await limits.watch.close()
    await limits.watch.close()


async def test_what_is_used_up_is_told_when_it_changes(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.001)
    limits.watch.start()
    limits.venue.quotas = (REQUESTS,)
    await until(lambda: limits.told == [AccountLimits("sim", (REQUESTS,))])
    more = msgspec.structs.replace(REQUESTS, used=341)
    limits.venue.quotas = (more,)
    await until(lambda: len(limits.told) == 2)
    assert limits.store.limits == {"sim": AccountLimits("sim", (more,))}


async def test_an_account_without_limits_is_never_told(limits: Limits) -> None:
    limits.watch.look()
    limits.venue.quotas = (REQUESTS,)
    for _ in range(3):
        limits.watch.look()
    assert len(limits.told) == 1


async def test_what_a_look_found_is_of_the_venue_that_was_looked_at(limits: Limits) -> None:
    found = ConnectionReport(can_read=True, can_withdraw=True, limits=("buys up to 2 times its equity",))
    limits.bus.publish(AccountChecked("sim", found))
    limits.bus.publish(AccountChecked("gone", found))
    limits.watch.look()
    assert limits.told == [AccountLimits("sim", (), True, ("buys up to 2 times its equity",))]
    limits.venues["sim"] = FakeTradingVenue()  # in another mode, with another key
    limits.watch.look()
    assert limits.told[-1] == AccountLimits("sim")
    limits.bus.publish(AccountChecked("sim", found))
    limits.watch.look()
    del limits.venues["sim"]  # closed
    limits.watch.look()
    assert [each.can_withdraw for each in limits.told] == [True, None, True, None]
    limits.bus.publish(AccountRemoved("sim"))
    limits.watch.look()
    assert (limits.store.limits, len(limits.told)) == ({}, 4)


class Confused(FakeTradingVenue):
    """A venue whose limits cannot be told."""

    asked = 0

    @property
    def quotas(self) -> tuple[Quota, ...]:
        self.asked += 1
        raise RuntimeError("a bug")

    @quotas.setter
    def quotas(self, _: object) -> None:
        pass


@pytest.mark.expected_warnings("the limits of accounts cannot be looked at")
async def test_a_bug_ends_nothing(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PERIOD_S", 0.001)
    limits.venues["sim"] = confused = Confused()
    limits.watch.start()
    await until(lambda: confused.asked > 1)
    limits.venue.quotas = (REQUESTS,)
    limits.venues["sim"] = limits.venue
    await until(lambda: len(limits.told) == 1)


async def test_a_connected_account_is_looked_at_once(limits: Limits) -> None:
    limits.venue.found = ConnectionReport(can_read=True, can_withdraw=False)
    infos = {"sim": AccountInfo("sim", "sim", TradingMode.SIMULATED)}
    accounts = Accounts(limits.store, limits.bus, FakeClock(), infos, limits.venues)
    accounts.start()
    await accounts.connect("sim", lambda event: None)

    def is_known() -> bool:
        limits.watch.look()
        return [each.can_withdraw for each in limits.told] == [False]

    await until(is_known)
    await accounts.close()


async def test_a_snapshot_has_the_limits(engine: EngineDesk) -> None:
    engine.store.limits["sim"] = AccountLimits("sim", (REQUESTS,))
    snapshot = engine.commands.snapshot()
    assert snapshot.limits == (AccountLimits("sim", (REQUESTS,)),)
    assert snapshot.risk == engine.services.risk
