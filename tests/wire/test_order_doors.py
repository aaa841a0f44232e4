"""An order's request waits at the door: a venue sees nothing of it before its intent is durable, and then it once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from koc_qt.domain.errors import StorageError
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.engine import order_intents
from koc_qt.engine.order_intents import Intent
from tests.conditions import until
from tests.wire.test_doubtful_orders import CASES, Case, EngineSide
from tests.wire.trading_bench import open_bench

ACCEPTED, CANCELED, REJECTED = OrderStatus.ACCEPTED, OrderStatus.CANCELED, OrderStatus.REJECTED
LONG_S = 5.0


class Doorway(EngineSide):
    """An engine whose journal can be held, at a venue that counts what it was asked."""

    case: Case
    came: int = 0  # to the door

    def hold(self) -> None:
        """Let the journal write nothing until `write`."""
        self.journal.gate = asyncio.Event()

    def write(self) -> None:
        """Let the journal write."""
        assert self.journal.gate is not None
        self.journal.gate.set()
        self.journal.gate = None

    async def send(self) -> asyncio.Task[Order]:
        """Send an order whose intent is held, and wait until its request is at the door."""
        self.hold()
        before = self.came
        sending = asyncio.create_task(self.submit())
        await until(lambda: self.came > before, what="a request at the door")
        return sending

    @property
    def is_given_up(self) -> bool:
        """Whether the request at the door waits no more."""
        return all(order.client_order_id not in self.orders._requests for order in self.orders._unsent.orders())

    @property
    def asked(self) -> int:
        """Count the requests for an order that the venue saw. Bitfinex refuses what another request has overtaken."""
        return [each.partition("?")[0] for each in self.bench.server.requests].count(f"POST {self.case.place}")

    @property
    def ids(self) -> list[str | None]:
        """Give our ids of the orders that the venue has, in its form."""
        return [each.client_id for each in self.bench.there]


@pytest_asyncio.fixture(params=CASES)
async def door(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Doorway]:
    case = CASES[request.param]
    leave = Intent.leave

    async def counted(intent: Intent) -> None:
        engine.came += 1
        await leave(intent)

    monkeypatch.setattr(Intent, "leave", counted)
    async with open_bench(case.trading, case.module, tmp_path, case.symbol) as bench:
        engine = Doorway(bench)
        engine.case = case
        await engine.start()
        yield engine
        if engine.journal.gate is not None:
            engine.write()
        await engine.close()


async def test_nothing_of_an_order_is_seen_before_its_intent_is_durable(
    door: Doorway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order_intents, "PATIENCE_S", LONG_S)
    sending = await door.send()
    assert (door.asked, door.ids) == (0, [])
    door.write()
    order = await sending
    await door.reaches(order, ACCEPTED)
    assert door.ids == [door.case.theirs(order)]
    asked = door.asked

    sending = await door.send()
    door.switch.engaged, door.switch.reason = True, "panic"
    door.write()
    assert "panic" in (await door.reaches(await sending, REJECTED)).reason
    door.switch.engaged = False

    sending = await door.send()
    door.journal.failing = "disk full"
    door.write()
    with pytest.raises(StorageError, match="disk full"):
        await sending
    door.journal.failing = ""

    sending = await door.send()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    door.write()
    assert (door.asked, door.bench.venue.breaker_states["orders"]) == (asked, "closed")

    await door.reaches(await door.submit(), ACCEPTED)
    assert len(door.ids) == 2


async def test_a_disk_that_hangs_holds_up_no_cancel_and_the_order_goes_once_when_it_goes_on(door: Doorway) -> None:
    resting = await door.submit()
    await door.reaches(resting, ACCEPTED)
    asked = door.asked
    sending = await door.send()
    await door.orders.cancel(resting.client_order_id)
    await until(lambda: not door.bench.there[0].is_open, what="the cancel to be done there")
    await until(lambda: door.is_given_up, what="the request to be given up")
    assert (door.asked, len(door.ids)) == (asked, 1)
    door.write()
    order = await sending
    await door.reaches(order, ACCEPTED)
    await door.reaches(resting, CANCELED)
    assert door.ids == [door.case.theirs(resting), door.case.theirs(order)]
