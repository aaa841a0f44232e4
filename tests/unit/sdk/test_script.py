from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator
from decimal import Decimal
from typing import Any

import pytest

from koc_qt.domain.orders import OrderStatus
from koc_qt.sdk import Api, Bar, Data, OrderHandle, Quote, Strategy, StrategyError, Trade
from koc_qt.sdk.script import BUFFERED_EVENTS
from tests.unit.sdk.desk import BTC_ID, START_NS, Desk, bar, quote, trade

Body = Callable[["Scripted", Api, Data], Coroutine[Any, Any, None]]


class Scripted(Strategy):
    """Run the body that a test brings."""

    subscriptions = ("bars", "quotes", "trades")

    def __init__(self, body: Body) -> None:
        self.body = body
        self.seen: list[Any] = []
        self.stopped = False

    async def run(self, api: Api, data: Data) -> None:
        await self.body(self, api, data)

    def on_timer(self) -> None:
        self.seen.append("timer")

    def on_stop(self) -> None:
        self.stopped = True


def scripted(body: Body) -> tuple[Scripted, Desk]:
    strategy = Scripted(body)
    desk = Desk(strategy)
    desk.session.start()
    return strategy, desk


def test_events_are_iterated_in_order() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        async for event in data:
            self.seen.append(event)

    strategy, desk = scripted(body)
    desk.session.on_bar(bar(1.0))
    desk.session.on_quote(quote(1, 2))
    desk.session.on_trade(trade("1"))
    assert strategy.seen == [bar(1.0), quote(1, 2), trade("1")]
    assert not desk.session.finished
    desk.session.stop()
    assert strategy.stopped


def test_one_kind_may_be_awaited() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        self.seen += [await data.bar(), await data.quote(), await data.trade()]

    strategy, desk = scripted(body)
    for tell in (
        lambda: desk.session.on_quote(quote(1, 2)),
        lambda: desk.session.on_bar(bar(1.0)),
        lambda: desk.session.on_bar(bar(2.0)),
        lambda: desk.session.on_quote(quote(3, 4)),
        lambda: desk.session.on_trade(trade("5")),
    ):
        assert not desk.session.finished
        tell()
    assert [type(each) for each in strategy.seen] == [Bar, Quote, Trade]
    assert strategy.seen[1] == quote(3, 4)
    assert desk.session.finished
    assert desk.session.next_deadline_ns is None
    desk.session.on_bar(bar(3.0))  # the engine may not know yet
    desk.session.stop()


def test_sleep_wakes_at_its_time_and_data_waits_meanwhile() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        await api.sleep(5)
        self.seen.append(api.time_ns)
        await api.sleep(0)
        self.seen.append((await data.next(), await data.next(), data.dropped))

    strategy, desk = scripted(body)
    assert desk.session.next_deadline_ns == START_NS + 5 * 10**9
    desk.session.on_bar(bar(1.0))
    desk.session.on_bar(bar(2.0))
    desk.advance(4.9)
    assert strategy.seen == []
    desk.advance(0.1)
    assert strategy.seen == [desk.now_ns]
    assert desk.session.next_deadline_ns == desk.now_ns + 1_000_000
    desk.advance(0.001)
    assert strategy.seen[1:] == [(bar(1.0), bar(2.0), 0)]


def test_what_is_buffered_is_bounded_and_the_oldest_make_way() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        await api.sleep(1)
        self.seen += [await data.next(), data.dropped]

    strategy, desk = scripted(body)
    for index in range(BUFFERED_EVENTS + 5):
        desk.session.on_quote(quote(1, 2, index))
    desk.advance(1)
    assert strategy.seen == [quote(1, 2, 5), 5]


def test_an_order_is_awaited_until_it_is_filled() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        order = api.buy(1)
        self.seen.append(await api.filled(order))
        self.seen.append((order.average_price, api.position().quantity))

    strategy, desk = scripted(body)
    desk.fill(1, Decimal(100), Decimal("0.5"))
    assert strategy.seen == []
    desk.fill(1, Decimal(100))
    assert strategy.seen == [True, (100, 1)]


def test_an_order_that_ends_unfilled_or_too_late_is_told_apart() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        self.seen.append(await api.filled(api.buy(1)))
        self.seen.append(await api.filled(api.buy(1), timeout=3))

    strategy, desk = scripted(body)
    desk.update(1, OrderStatus.REJECTED)
    assert strategy.seen == [False]
    desk.advance(2)
    assert strategy.seen == [False]
    desk.advance(1)
    assert strategy.seen == [False, False]
    assert desk.session.finished


def test_any_condition_may_be_awaited() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        self.seen.append(await api.until(lambda: api.last_price() == 2))
        self.seen.append(await api.until(lambda: api.last_price() == 3, timeout=1))

    strategy, desk = scripted(body)
    desk.session.on_trade(trade("1"))
    assert strategy.seen == []
    desk.session.on_trade(trade("2"))
    desk.advance(1)
    assert strategy.seen == [True, False]


def test_history_comes_from_the_engine() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        self.seen.append(await api.history(2, "1h"))
        self.seen.append(await api.history(1))

    strategy, desk = scripted(body)
    assert desk.questions == [(1, BTC_ID, "1h", 2)]
    desk.session.on_history(1, [bar(1.0), bar(2.0)])
    assert desk.questions[1:] == [(2, BTC_ID, "1m", 1)]
    desk.session.on_history(2, [])
    assert strategy.seen == [[bar(1.0), bar(2.0)], []]
    desk.session.on_history(2, [bar(3.0)])  # nobody waits any more


def test_no_history_is_an_error_that_says_why() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        for timeframe in ("1h", "2h"):
            try:
                await api.history(2, timeframe)
            except StrategyError as error:
                self.seen.append(str(error))
        await api.history(2, "two hours")

    strategy, desk = scripted(body)
    desk.session.on_history(1, [], "the venue has no 1h bars")
    with pytest.raises(StrategyError, match="'two hours' is not a timeframe"):
        desk.advance(30)
    assert strategy.seen == [
        "no history: the venue has no 1h bars",
        "no history: the engine did not answer in time",
    ]
    desk.session.on_history(2, [bar(1.0)])  # too late


def test_warm_up_is_that_of_the_event_in_hand() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        await api.sleep(1)
        for _ in range(2):
            event = await data.bar()
            self.seen.append((event.close, self.warming_up, api.buy(1).status))

    strategy, desk = scripted(body)
    desk.session.on_bar(bar(1.0), warmup=True)
    desk.session.on_bar(bar(2.0))
    desk.advance(1)
    assert strategy.seen == [(1.0, True, OrderStatus.REJECTED), (2.0, False, OrderStatus.NEW)]


def test_order_callbacks_and_timers_work_beside_run() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        self.set_timer(2)
        await data.bar()

    strategy, desk = scripted(body)
    desk.advance(2)
    assert strategy.seen == ["timer"]


def test_what_run_raises_comes_out_and_ends_it() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        await data.bar()
        raise RuntimeError("broken")

    _, desk = scripted(body)
    with pytest.raises(RuntimeError, match="broken"):
        desk.session.on_bar(bar(1.0))
    assert desk.session.finished


class Foreign:
    def __await__(self) -> Generator[object, None, None]:
        yield object()


def test_awaiting_anything_else_is_an_error() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        await asyncio.sleep(0)

    with pytest.raises(StrategyError, match="there is no asyncio in a strategy"):
        scripted(body)


def test_awaiting_something_else_may_be_caught() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        try:
            await Foreign()
        except StrategyError:
            self.seen.append("caught")
        await data.bar()

    strategy, desk = scripted(body)
    assert strategy.seen == ["caught"]
    desk.session.on_bar(bar(1.0))
    assert desk.session.finished


def test_who_goes_on_awaiting_something_else_is_ended() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        while True:
            try:
                await Foreign()
            except StrategyError:
                continue

    with pytest.raises(StrategyError, match="run\\(\\) goes on awaiting"):
        scripted(body)


def test_finally_blocks_run_when_the_strategy_is_stopped() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        try:
            await data.bar()
        finally:
            self.seen.append("finally")

    strategy, desk = scripted(body)
    desk.session.stop()
    assert strategy.seen == ["finally"]
    assert strategy.stopped


def test_a_finally_block_that_awaits_is_an_error_and_on_stop_still_runs() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        try:
            await data.bar()
        finally:
            await api.sleep(1)

    strategy, desk = scripted(body)
    with pytest.raises(StrategyError, match="a finally block must not await"):
        desk.session.stop()
    assert strategy.stopped


def test_the_same_events_make_the_same_run() -> None:
    async def body(self: Scripted, api: Api, data: Data) -> None:
        async for event in data:
            if api.random.random() < 0.5 and isinstance(event, Bar):
                order: OrderHandle = api.buy(api.random.uniform(0.1, 1))
                await api.filled(order, timeout=1)

    def play() -> list[Any]:
        _, desk = scripted(body)
        for index in range(40):
            desk.session.on_bar(bar(float(index), index))
            if index % 3:
                desk.advance(0.5)
            for request_id, _ in desk.waiting[:1]:
                desk.fill(request_id, Decimal(10))
        desk.session.stop()
        return desk.submitted

    assert play() == play()
    assert len(play()) > 5
