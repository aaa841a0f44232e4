"""Orders that come at the worst moment of an account's life."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, VenueUnavailable
from koc_qt.domain.orders import Order
from koc_qt.domain.state import TradingMode
from koc_qt.engine import account_opening, accounts
from koc_qt.link.account_messages import AddAccount, SwitchAccount, UpdateCredentials
from tests.conditions import until
from tests.fakes.trading import limit_buy, quote
from tests.unit.engine.account_desk import KEYS, KRAKEN_BTC, OTHERS, AccountDesk

LIVE, TESTNET = TradingMode.LIVE, TradingMode.TESTNET
BEHIND_NS = 5_000_000_000


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[AccountDesk]:
    monkeypatch.setattr(account_opening, "CLOCK_POLL_S", 0.001)
    desk = AccountDesk(tmp_path)
    await desk.start()
    desk.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    yield desk
    await desk.close()


@pytest.mark.expected_warnings("account main is live now")
async def test_no_order_is_taken_before_the_new_mode_s_clock_has_passed_the_old_mode_s_end(desk: AccountDesk) -> None:
    await desk.do(AddAccount("kraken", TESTNET, "main", "Main", KEYS))
    await until(lambda: "main" in desk.venues, what="the account to be open")
    await desk.do(UpdateCredentials("main", OTHERS, LIVE))
    desk.factory.behind_ns = BEHIND_NS
    request = msgspec.structs.replace(limit_buy(), instrument=KRAKEN_BTC.id)
    switching = asyncio.create_task(desk.do(SwitchAccount("main", LIVE, "Main")))
    await until(lambda: len(desk.factory.venues) == 2 and "main" in desk.venues, what="the venue of the new mode")
    with pytest.raises(InvalidOrder, match="takes no orders: it is being switched to live"):
        await desk.orders.submit(request, "manual", "main")
    desk.factory.venues[1].behind_ns = 0
    await switching
    order = await desk.orders.submit(request, "manual", "main")
    assert desk.registry.belongs("main", order.created_ns), "it would be taken for one of the test network"


@pytest.mark.parametrize("is_reached", [True, False])
@pytest.mark.usefixtures("expected_warnings")
async def test_killed_while_it_waits_for_the_clock_the_next_engine_waits_too(
    desk: AccountDesk, tmp_path: Path, is_reached: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an order would be taken for one of the mode before: at the start after that its fills would be nobody's."""
    await desk.do(AddAccount("kraken", TESTNET, "main", "Main", KEYS))
    await until(lambda: "main" in desk.venues, what="the account to be open")
    await desk.do(UpdateCredentials("main", OTHERS, LIVE))
    desk.factory.behind_ns = BEHIND_NS
    switching = asyncio.create_task(desk.do(SwitchAccount("main", LIVE, "Main")))
    await until(lambda: len(desk.factory.venues) == 2 and "main" in desk.venues, what="it to wait for the clock")

    monkeypatch.setattr(accounts, "RECONNECT_FIRST_S", 0.01)
    # what is on the disk and in the store of keys now is all that a killed engine leaves behind
    after = AccountDesk(tmp_path, desk.secrets, journal=desk.journal)
    after.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    after.clock.advance(60)
    after.factory.behind_ns = 3_600_000_000_000
    after.factory.refuse_connect = None if is_reached else VenueUnavailable("no network")
    await after.start()
    request = msgspec.structs.replace(limit_buy(), instrument=KRAKEN_BTC.id)
    with pytest.raises(InvalidOrder, match="'main' takes no orders: the clock of kraken has not passed the end of its"):
        await after.orders.submit(request, "manual", "main")
    after.venue("main").behind_ns = 0
    after.venue("main").refuse_connect = None

    async def taken() -> Any:
        with contextlib.suppress(InvalidOrder):
            return await after.orders.submit(request, "manual", "main")
        return None

    order: Order = await until(taken, what="orders to be taken")
    assert after.registry.belongs("main", order.created_ns)
    assert [sent.client_order_id for sent in after.venue("main").submitted] == [order.client_order_id]
    await after.close()
    switching.cancel()
    await asyncio.gather(switching, return_exceptions=True)


async def test_an_account_whose_clock_is_right_takes_orders_as_soon_as_it_is_open(
    desk: AccountDesk, tmp_path: Path
) -> None:
    await desk.do(AddAccount("kraken", TESTNET, "main", "Main", KEYS))
    await until(lambda: "main" in desk.venues, what="the account to be open")
    await desk.do(SwitchAccount("main", TradingMode.PAPER))
    after = AccountDesk(tmp_path, desk.secrets, journal=desk.journal)
    after.store.quotes[KRAKEN_BTC.id] = quote(instrument=KRAKEN_BTC.id)
    after.clock.advance(60)
    await after.start()
    request = msgspec.structs.replace(limit_buy(), instrument=KRAKEN_BTC.id)
    assert (await after.orders.submit(request, "manual", "main")).is_open
    await after.close()
