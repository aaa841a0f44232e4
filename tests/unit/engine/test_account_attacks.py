"""Orders that come at the worst moment of an account's life."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder
from koc_qt.domain.state import TradingMode
from koc_qt.engine import account_opening
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
