"""The lane of requests in order, and what accounts say in ccxt's structures."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from koc_qt.adapters import ccxt_order_facts as facts
from koc_qt.adapters.ccxt_account import Lane
from koc_qt.adapters.ccxt_client import pause_s
from koc_qt.adapters.ccxt_facts import MalformedError
from koc_qt.adapters.rate_budget import Priority
from koc_qt.domain.errors import VenueUnavailable
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Liquidity, OrderStatus, OrderType
from koc_qt.domain.state import Balance
from tests.conditions import until

CANCEL, ORDER, QUERY, DATA = Priority


class Requests:
    """Requests in a lane, each of which takes until it is let go."""

    def __init__(self) -> None:
        self.lane = Lane()
        self.began: list[str] = []
        self.ends: dict[str, asyncio.Event] = {}

    async def request(self, name: str, priority: Priority, within_s: float = 5.0) -> None:
        self.ends[name] = asyncio.Event()
        async with self.lane.turn(priority, within_s):
            self.began.append(name)
            await self.ends[name].wait()

    async def has_begun(self, name: str) -> None:
        await until(lambda: name in self.began, what=name)

    def start(self, name: str, priority: Priority, within_s: float = 5.0) -> asyncio.Task[None]:
        return asyncio.create_task(self.request(name, priority, within_s))


async def test_one_request_at_a_time_the_urgent_first() -> None:
    requests = Requests()
    tasks = [requests.start("first", DATA)]
    await until(lambda: requests.began, what="the first")
    for name, priority in (("data", DATA), ("query", QUERY), ("order", ORDER), ("cancel", CANCEL), ("order 2", ORDER)):
        tasks.append(requests.start(name, priority))
    await asyncio.sleep(0)
    order = ["first", "cancel", "order", "order 2", "query", "data"]
    for name in order:
        await requests.has_begun(name)
        requests.ends[name].set()
    await asyncio.gather(*tasks)
    assert requests.began == order


async def test_who_gives_up_waiting_holds_nobody_up() -> None:
    requests = Requests()
    first = requests.start("first", ORDER)
    await until(lambda: requests.began, what="the first")
    impatient = requests.start("impatient", CANCEL, within_s=0.01)
    with pytest.raises(VenueUnavailable, match="not sent"):
        await impatient
    gone, last = requests.start("gone", ORDER), requests.start("last", QUERY)
    await asyncio.sleep(0)
    gone.cancel()
    requests.ends["first"].set()
    await until(lambda: "last" in requests.began, what="the last")
    requests.ends["last"].set()
    await asyncio.gather(first, last)
    assert requests.began == ["first", "last"]


async def test_who_is_cancelled_when_its_turn_comes_hands_it_on() -> None:
    requests = Requests()
    first = requests.start("first", ORDER)
    await until(lambda: requests.began, what="the first")
    gone, last = requests.start("gone", ORDER), requests.start("last", ORDER)
    await asyncio.sleep(0)
    requests.ends["first"].set()
    await first  # the lane is handed to one that has not run yet
    gone.cancel()
    await until(lambda: "last" in requests.began, what="the last")
    requests.ends["last"].set()
    await last


async def test_a_request_that_fails_frees_the_lane() -> None:
    lane = Lane()
    with pytest.raises(ValueError, match="oops"):
        async with lane.turn(ORDER, 1.0):
            raise ValueError("oops")
    async with lane.turn(ORDER, 0.0):
        pass


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0"}, 1.0),
        ({"retry-after": "1e9"}, 86_400.0),
        ({"retry-after": "soon"}, 10.0),
        ({"retry-after": "nan"}, 10.0),
        ({}, 10.0),
    ],
)
def test_how_long_to_leave_a_venue_alone(headers: dict[str, str], expected: float) -> None:
    assert pause_s(headers) == expected


def test_statuses_of_orders() -> None:
    for raw, status, filled in (
        ({"id": "1", "status": "open"}, OrderStatus.ACCEPTED, None),
        ({"id": "1", "status": "open", "filled": "0.5"}, OrderStatus.PARTIALLY_FILLED, Decimal("0.5")),
        ({"clientOrderId": "a", "status": "closed", "filled": "1"}, OrderStatus.FILLED, Decimal(1)),
        ({"id": "1", "status": "canceled", "filled": "0"}, OrderStatus.CANCELED, Decimal(0)),
        ({"id": "1", "status": "expired"}, OrderStatus.EXPIRED, None),
        ({"id": "1", "status": "rejected"}, OrderStatus.REJECTED, None),
        ({"id": "1", "status": None}, OrderStatus.ACCEPTED, None),
    ):
        update = facts.order_update({"timestamp": 5, **raw}, now_ns=9)
        assert (update.status, update.filled, update.time_ns) == (status, filled, 5_000_000)
    assert facts.order_update({"id": "1", "lastUpdateTimestamp": True}, now_ns=9).time_ns == 9
    with pytest.raises(MalformedError, match="without an id"):
        facts.order_update({"status": "open"}, now_ns=9)
    with pytest.raises(MalformedError, match="filled"):
        facts.order_update({"id": "1", "filled": "much"}, now_ns=9)


TRADE: dict[str, Any] = {"id": "7", "order": "1", "symbol": "BTC/USDT", "side": "buy", "price": "100.10", "amount": "2"}


@pytest.mark.parametrize(
    ("fees", "expected"),
    [
        ({}, (Decimal(0), "")),
        ({"fee": {"cost": "0.1", "currency": "USDT"}}, (Decimal("0.1"), "USDT")),
        ({"fee": {"cost": "-0.1", "currency": "USDT"}}, (Decimal("-0.1"), "USDT")),
        ({"fee": {"cost": None, "currency": "BNB"}}, (Decimal(0), "BNB")),
        ({"fees": [{"cost": "0", "currency": "A"}, {"cost": "2", "currency": "B"}]}, (Decimal(2), "B")),
    ],
)
def test_executions_and_their_fees(fees: dict[str, Any], expected: tuple[Decimal, str]) -> None:
    trade = facts.execution({**TRADE, **fees, "takerOrMaker": "maker", "timestamp": 3}, now_ns=9)
    assert (trade.fee, trade.fee_currency) == expected
    assert (trade.fill_id, trade.venue_order_id, trade.side, trade.time_ns) == ("7", "1", Side.BUY, 3_000_000)
    assert str(trade.price) == "100.10"
    assert trade.liquidity is Liquidity.MAKER
    assert facts.execution(TRADE, now_ns=9, fill_id="x").fill_id == "x"


@pytest.mark.parametrize("lacks", ["side", "id", "price", "amount"])
def test_an_execution_that_lacks_something_is_none(lacks: str) -> None:
    with pytest.raises(MalformedError):
        facts.execution({**TRADE, lacks: None}, now_ns=9)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"type": "limit", "price": "90"}, OrderType.LIMIT),
        ({"type": "market", "price": "0"}, OrderType.MARKET),
        ({"type": "limit", "price": "90", "triggerPrice": "95"}, OrderType.STOP_LIMIT),
        ({"type": "market", "triggerPrice": "95"}, OrderType.STOP),
        ({"type": "stop_loss", "stopPrice": "95"}, OrderType.STOP),
        ({"type": "stop_loss_limit", "stopPrice": "95", "price": "94"}, OrderType.STOP_LIMIT),
    ],
)
def test_kinds_of_open_orders(raw: dict[str, Any], expected: OrderType) -> None:
    listed = facts.open_order({"id": "1", "symbol": "BTC/USDT", "side": "sell", "amount": "2", **raw}, now_ns=9)
    assert listed.type is expected
    assert (listed.quantity, listed.filled_quantity, listed.time_ns) == (Decimal(2), Decimal(0), 9)


def test_balances_leave_out_what_is_not_there() -> None:
    raw = {"total": {"USDT": "10.50", "BTC": None, "ETH": "0"}, "used": {"USDT": "3", "ETH": None}}
    assert facts.balances(raw) == [Balance("USDT", Decimal("10.50"), Decimal(3))]
    assert facts.balances({}) == []
