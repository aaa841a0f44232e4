"""One run, attacked: workers that say too much, too little or twice, and stops that come at every moment."""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.errors import InvalidOrder, StorageError, StrategyError, VenueRejected, VenueUnavailable
from koc_qt.domain.orders import Order, OrderCanceled, OrderFilled
from koc_qt.domain.state import Badge, Balance, StrategyState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import strategy_feed
from koc_qt.engine import strategy_run as module
from koc_qt.ports.workers import WorkerExit
from koc_qt.sdk.channel import (
    Amend,
    BarClosed,
    Cancel,
    Failed,
    FillUpdate,
    Heartbeat,
    HistoryBars,
    LoadFailed,
    MetricValue,
    OrderUpdate,
    QuoteUpdate,
    Ready,
    RequestHistory,
    Running,
    StartRun,
    Stopped,
    StopRun,
    Submit,
    TradeUpdate,
)
from tests.conditions import until
from tests.fakes.market import MINUTE_NS, bars, trade
from tests.fakes.trading import BTC, ETH, NOW_NS, fill_of, limit_buy, market_buy, quote
from tests.fakes.workers import DESCRIBED, FakeWorker
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_strategies import running, state

ALL = msgspec.structs.replace(DESCRIBED, subscriptions=("bars", "quotes", "trades"))


async def loading(engine: EngineDesk) -> FakeWorker:
    """Start a strategy whose worker has the file and does not run it yet."""
    await engine.host.start(engine.spec())
    return engine.launcher.workers[-1]


async def resting(engine: EngineDesk, worker: FakeWorker) -> Order:
    """Have the strategy place an order that rests."""
    engine.venue.publish(quote())
    worker.say(Submit(1, limit_buy()))
    await until(lambda: worker.got(OrderUpdate), what="the order to be told of")
    return engine.store.open_orders("sma")[0]


# ---- what a worker says


@pytest.mark.expected_warnings("said twice that it runs")
async def test_one_that_says_twice_that_it_runs_is_ended(engine: EngineDesk) -> None:
    engine.launcher.runs_at_once = ALL
    _, worker = await running(engine)
    worker.run(ALL)
    assert worker.killed == "sent garbage: it said twice that it runs"
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, "sma", StrategyState.RUNNING)
    engine.venue.publish(quote())
    again = engine.launcher.workers[1]
    assert (len(worker.got(QuoteUpdate)), len(again.got(QuoteUpdate))) == (0, 1)


async def test_no_order_is_taken_from_one_that_does_not_run(engine: EngineDesk) -> None:
    worker = await loading(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, market_buy()))
    worker.say(Heartbeat(1, 2, 3, 4.0))
    assert worker.got(OrderUpdate) == [OrderUpdate(1, None, "the strategy does not run yet")]
    assert engine.host.managed["sma"].pulse.beats == 0


async def test_no_order_is_taken_from_one_that_is_being_stopped(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.stops_in_order = False
    run = engine.host.managed[key].run
    assert run is not None
    stopping = asyncio.create_task(run.stop("enough"))
    worker.say(Submit(1, market_buy()))  # heard before the stop, and sent after it
    await until(lambda: worker.got(StopRun), what="the request to stop")
    worker.say(Submit(2, market_buy()))
    await until(lambda: len(worker.got(OrderUpdate)) == 2, what="the refusals")
    assert {update.reason for update in worker.got(OrderUpdate)} == {"the strategy is being stopped: enough"}
    worker.end(WorkerExit(False, 0, ""))
    worker.say(Submit(3, market_buy()))  # nobody listens any more
    await stopping
    assert engine.trading.submitted == []


async def test_one_that_says_that_it_ends_and_does_not(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.01)
    key, worker = await running(engine)
    worker.say(Stopped(""))
    reason = await state(engine, key, StrategyState.STOPPED)
    assert reason == "the strategy ended; said that it ends, and did not within 0.01 s"
    assert worker.ended


async def test_one_that_comes_to_its_end_leaves_no_orders_and_is_not_started_again(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    await resting(engine, worker)
    worker.say(Stopped("run() has returned"))
    worker.end(WorkerExit(False, 0, ""))
    assert await state(engine, key, StrategyState.STOPPED) == "run() has returned"
    await until(lambda: not engine.store.open_orders(key), what="its orders to be cancelled")
    await until(lambda: not engine.journal.load().strategies[0].wanted, what="it to be remembered")


async def test_reasons_are_kept_short_and_the_first_one_counts(
    engine: EngineDesk, expected_warnings: list[str]
) -> None:
    key, worker = await running(engine)
    worker.say(Failed("x" * 5_000, None, "y" * 500_000))
    worker.say(Failed("another", None, ""))
    worker.end(WorkerExit(True, 1, ""))
    reason = engine.host.managed[key].reason
    assert reason.startswith("xxx")
    assert len(reason) < 2_100
    await state(engine, key, StrategyState.RUNNING)
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    engine.launcher.workers[1].say(LoadFailed("z" * 5_000))
    assert len(await state(engine, key, StrategyState.FAILED)) < 2_100
    assert max(map(len, expected_warnings)) < module.LONGEST_REASON + 20_000


async def test_metrics_that_are_no_numbers_are_not_shown(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    worker.say(MetricValue("rsi\n" + "x" * 500, 50.0))
    worker.say(MetricValue("edge", 1.5))
    worker.say(MetricValue("spread", math.nan))
    assert engine.host.managed[key].pulse.metrics == {"rsi?" + "x" * 60: 50.0, "edge": 1.5}
    worker.say(MetricValue("edge", math.inf))
    worker.say(MetricValue("rsi\n" + "x" * 500, -math.inf))
    assert engine.host.managed[key].pulse.metrics == {}


async def test_a_name_fits_a_cell(engine: EngineDesk) -> None:
    key = await engine.host.start(engine.spec())
    engine.launcher.workers[0].say(Running(msgspec.structs.replace(DESCRIBED, name="A\x1b[2J\n" + "b" * 500), {}))
    await state(engine, key, StrategyState.RUNNING)
    engine.telemetry.show(engine.host)
    assert engine.store.strategies[key].name == "A?[2J?" + "b" * 58


@pytest.mark.expected_warnings("sma failed: killed")
async def test_one_that_dies_of_its_file(engine: EngineDesk) -> None:
    launch = engine.launcher.launch

    async def once(*args: object) -> FakeWorker:
        worker = await launch(*args)  # type: ignore[arg-type]
        if len(engine.launcher.workers) == 1:
            worker.send = lambda message: worker.end(WorkerExit(True, -9, "killed"))  # type: ignore[method-assign]
        return worker

    engine.launcher.launch = once  # type: ignore[method-assign, assignment]
    engine.launcher.runs_at_once = DESCRIBED
    await engine.host.start(engine.spec())
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, "sma", StrategyState.RUNNING)


async def test_what_a_run_does_not_ask_for_is_ignored(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOAD_TIMEOUT_S", 0.001)
    _, worker = await running(engine)
    worker.say(DESCRIBED)
    worker.say(Ready(worker.pid, Badge.PARTIAL, "", {}))
    run = engine.host.managed["sma"].run
    assert run is not None
    await until(lambda: not [task for task in run._tasks if "loading" in task.get_name()], what="the time to load")
    assert not worker.ended


# ---- orders


async def test_what_happens_to_its_orders_while_it_loads_is_told(engine: EngineDesk) -> None:
    await engine.market.hold(BTC, "test")
    engine.venue.publish(quote())
    order = await engine.orders.submit(limit_buy(), "sma", "sim")
    worker = await loading(engine)
    assert [o.client_order_id for o in worker.got(StartRun)[0].open_orders] == [order.client_order_id]
    engine.trading.say(OrderFilled(order.client_order_id, NOW_NS, fill_of(order, price="99")))
    await until(lambda: worker.got(FillUpdate), what="the fill")
    assert worker.got(OrderUpdate)[-1].request_id == worker.got(FillUpdate)[-1].request_id == 0
    assert worker.got(FillUpdate)[-1].position.quantity == order.request.quantity
    assert worker.got(StartRun)[0].positions[0].quantity == 0
    await engine.market.release(BTC, "test")


async def test_a_fill_comes_with_the_money_that_is_left_after_it(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    order = await resting(engine, worker)
    for number, left in ((1, 5_000), (2, 3_000)):
        engine.trading.money = [Balance("USDT", Decimal(left), Decimal(1_000))]
        engine.trading.say(OrderFilled(order.client_order_id, NOW_NS, fill_of(order, "0.01", fill_id=f"f{number}")))
        await until(lambda n=number: len(worker.got(FillUpdate)) == n, what="the fill")
    fills = worker.got(FillUpdate)
    assert [fill.cash["USDT"] for fill in fills] == [4_000, 2_000]
    assert [fill.position.quantity for fill in fills] == [Decimal("0.01"), Decimal("0.02")]
    assert {fill.request_id for fill in fills} == {1}


async def test_fills_are_told_in_their_order_while_the_money_is_read(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    order = await resting(engine, worker)
    reading, balances = asyncio.Event(), engine.trading.balances

    async def slow() -> object:
        await reading.wait()
        return await balances()

    engine.trading.balances = slow  # type: ignore[method-assign, assignment]
    for number in range(3):
        engine.trading.say(OrderFilled(order.client_order_id, NOW_NS, fill_of(order, "0.01", fill_id=f"f{number}")))
    await engine.orders.settle()
    assert worker.got(FillUpdate) == []
    reading.set()
    await until(lambda: len(worker.got(FillUpdate)) == 3, what="the fills")
    assert [update.fill.fill_id for update in worker.got(FillUpdate)] == ["f0", "f1", "f2"]


async def test_an_order_that_lands_after_the_stop_is_cancelled(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    engine.trading.hold = asyncio.Event()
    engine.trading.refuse_cancel = VenueRejected("no such order")
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(key), what="the intent")
    stopping = asyncio.create_task(engine.host.stop(key))
    await until(lambda: worker.ended, what="the worker to end")
    await until(lambda: not engine.store.open_orders(key)[0].cancel_requested, what="the first cancel to be refused")
    engine.trading.refuse_cancel = None
    engine.trading.hold.set()
    await stopping
    await until(lambda: not engine.store.open_orders(key), what="the order to be cancelled")
    assert len(engine.trading.submitted) == 1


@pytest.mark.expected_warnings("sma failed")
async def test_an_order_that_lands_after_a_crash_is_told_to_the_next_run(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    engine.trading.hold = asyncio.Event()
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(key), what="the intent")
    worker.end(WorkerExit(True, -11, "killed by SIGSEGV"))
    await state(engine, key, StrategyState.BACKING_OFF)
    engine.trading.hold.set()
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, key, StrategyState.RUNNING)
    again = engine.launcher.workers[1]
    assert len(again.got(StartRun)[0].open_orders) == 1


async def test_an_order_that_the_journal_refuses_leaves_nothing(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    engine.venue.publish(quote())
    engine.journal.failing = "disk full"
    worker.say(Submit(1, market_buy()))
    await until(lambda: worker.got(OrderUpdate), what="the refusal")
    assert "disk full" in worker.got(OrderUpdate)[0].reason
    assert engine.host.managed["sma"].run._requests == {}  # type: ignore[union-attr]
    engine.journal.failing = ""


async def test_the_engines_own_faults_are_told_and_logged(engine: EngineDesk, expected_warnings: list[str]) -> None:
    _, worker = await running(engine)

    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    engine.orders.submit = broken  # type: ignore[method-assign, assignment]
    engine.history.last = broken  # type: ignore[method-assign, assignment]
    worker.say(Submit(1, market_buy()))
    worker.say(RequestHistory(2, BTC, "1m", 3))
    await until(lambda: worker.got(OrderUpdate) and worker.got(HistoryBars), what="the answers")
    assert worker.got(OrderUpdate)[0].reason == worker.got(HistoryBars)[0].error
    assert "internal error" in worker.got(OrderUpdate)[0].reason
    for name in ("order-sma", "history-sma"):
        assert any(f"{name} of sma failed" in line for line in expected_warnings)


async def test_a_fault_after_the_order_has_its_name_is_left_to_the_order_service(
    engine: EngineDesk, expected_warnings: list[str]
) -> None:
    _, worker = await running(engine)

    async def broken(_: object, __: str, ___: str, on_named: object, ____: object) -> None:
        on_named("koc1")  # type: ignore[operator]
        raise RuntimeError("a bug")

    engine.orders.submit = broken  # type: ignore[method-assign, assignment]
    worker.say(Submit(1, market_buy()))
    await until(lambda: expected_warnings, what="the log")
    assert worker.got(OrderUpdate) == []


@pytest.mark.expected_warnings("could not be cancelled: disk full", "is not an order of this strategy")
async def test_cancels_that_cannot_be(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    order = await resting(engine, worker)

    async def full(_: str) -> None:
        raise StorageError("disk full")

    cancel = engine.orders.cancel
    engine.orders.cancel = full  # type: ignore[method-assign]
    worker.say(Cancel(order.client_order_id))
    worker.say(Cancel("x" * 100_000))
    run = engine.host.managed["sma"].run
    assert run is not None
    await run.landed()
    engine.orders.cancel = cancel  # type: ignore[method-assign]


async def test_an_order_is_changed_for_its_strategy(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    order = await resting(engine, worker)
    worker.say(Amend(order.client_order_id, Decimal("0.2"), Decimal(98)))
    await until(lambda: worker.got(OrderUpdate)[-1].order.request.quantity == Decimal("0.2"), what="the change")
    update = worker.got(OrderUpdate)[-1]
    assert (update.request_id, update.order.request.price) == (1, 98)


@pytest.mark.expected_warnings(
    "could not be changed: price", "asked to change 'x+.*', which is not an order of this strategy"
)
async def test_a_change_that_cannot_be_is_told_with_the_reason(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    order = await resting(engine, worker)
    worker.say(Amend(order.client_order_id, Decimal("0.2"), Decimal("98.001")))
    await until(lambda: worker.got(OrderUpdate)[-1].order.reason, what="the refusal")
    update = worker.got(OrderUpdate)[-1]
    assert "is not a multiple of the tick size" in update.order.reason
    assert (update.request_id, update.order.request) == (1, order.request)
    worker.say(Amend("x" * 100_000, Decimal(1), None))
    run = engine.host.managed["sma"].run
    assert run is not None
    await run.landed()


async def test_request_ids_of_ended_orders_are_forgotten(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUESTS_KEPT", 2)
    _, worker = await running(engine)
    order = await resting(engine, worker)
    for number in range(2, 5):
        worker.say(Submit(number, market_buy()))
        await until(lambda n=number: any(u.request_id == n for u in worker.got(FillUpdate)), what="the fill")
    run = engine.host.managed["sma"].run
    assert run is not None
    assert run._requests[order.client_order_id] == 1  # still open
    engine.trading.say(OrderCanceled(order.client_order_id, NOW_NS))
    await until(lambda: order.client_order_id not in run._requests, what="it to be forgotten")
    assert len(run._requests) == 3


# ---- history and bars


async def test_the_longest_history_fits_a_frame(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 6_000 * MINUTE_NS, 6_000)
    _, worker = await running(engine)
    worker.say(RequestHistory(1, BTC, "1m", 10**9))
    await until(lambda: worker.got(HistoryBars), what="the answer")
    assert len(worker.got(HistoryBars)[0].bars) == module.HISTORY_LIMIT
    worker.say(RequestHistory(2, BTC, "1m", -5))
    await until(lambda: len(worker.got(HistoryBars)) == 2, what="the answer")
    assert len(worker.got(HistoryBars)[1].bars) == 1


async def test_too_many_questions_at_once_are_refused(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    engine.venue.answer = asyncio.Event()
    for number in range(1, module.QUESTIONS_LIMIT + 3):
        worker.say(RequestHistory(number, BTC, "1m", 1))
    refused = [answer.request_id for answer in worker.got(HistoryBars)]
    assert refused == [module.QUESTIONS_LIMIT + 1, module.QUESTIONS_LIMIT + 2]
    engine.venue.answer.set()
    await until(lambda: len(worker.got(HistoryBars)) == module.QUESTIONS_LIMIT + 2, what="the others")
    worker.say(RequestHistory(99, BTC, "1m", 1))
    await until(lambda: worker.got(HistoryBars)[-1].request_id == 99, what="room again")


@pytest.mark.expected_warnings("asks for 1000000 bars to warm up with, and gets 3")
async def test_warm_up_is_bounded_and_in_the_order_of_time(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategy_feed, "WARMUP_LIMIT", 6)
    monkeypatch.setattr(strategy_feed, "WARMUP_PAGE", 2)
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 9 * MINUTE_NS, 9) + bars(now - 9 * MINUTE_NS, 9, instrument=ETH)
    engine.launcher.runs_at_once = msgspec.structs.replace(DESCRIBED, warmup_bars=1_000_000)
    _, worker = await running(engine, instruments=(BTC, ETH))
    sent = [(message.bar.open_time_ns, message.bar.instrument) for message in worker.got(BarClosed)]
    assert sent == [(now - n * MINUTE_NS, instrument) for n in (3, 2, 1) for instrument in (BTC, ETH)]


async def test_a_bar_that_closed_just_now_is_taken_from_the_series_of_others(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 5 * MINUTE_NS, 4)  # the newest has not been published there yet
    newest = bars(now - 5 * MINUTE_NS, 5)[-1]
    engine.store.bars[BTC, "1m"] = newest
    engine.launcher.runs_at_once = msgspec.structs.replace(DESCRIBED, warmup_bars=2)
    _, worker = await running(engine)
    assert [message.bar for message in worker.got(BarClosed)] == [
        engine.venue.history[-2],
        engine.venue.history[-1],
        newest,
    ]


async def test_bars_of_other_lengths_and_old_ones_are_not_sent(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    for bar in (*bars(NOW_NS, 1, "1s"), *bars(bar_open_ns(NOW_NS, "1m"), 1), *bars(bar_open_ns(NOW_NS, "1m"), 1)):
        engine.market._bar_closed(bar)
    assert len(worker.got(BarClosed)) == 1


async def test_bars_that_close_while_it_warms_up_follow_the_history(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 5 * MINUTE_NS, 5)
    engine.venue.answer = asyncio.Event()
    await engine.host.start(engine.spec())
    worker = engine.launcher.workers[0]
    worker.run(msgspec.structs.replace(DESCRIBED, warmup_bars=2))
    await until(lambda: engine.venue.fetched, what="the question")
    for bar in bars(now - MINUTE_NS, 2):  # the first of them is in the history too
        engine.market._bar_closed(bar)
    engine.venue.answer.set()
    await state(engine, "sma", StrategyState.RUNNING)
    sent = [(message.bar.open_time_ns, message.warmup) for message in worker.got(BarClosed)]
    assert sent == [(now - 2 * MINUTE_NS, True), (now - MINUTE_NS, True), (now, False)]


async def test_a_strategy_of_quotes_alone_builds_no_bars(engine: EngineDesk) -> None:
    engine.launcher.runs_at_once = msgspec.structs.replace(DESCRIBED, subscriptions=("quotes",))
    _, worker = await running(engine)
    engine.venue.publish(quote(), trade(NOW_NS))
    await engine.orders.submit(market_buy(), "other", "sim")  # and what others trade is none of its business
    await engine.orders.settle()
    assert (len(worker.got(QuoteUpdate)), worker.got(TradeUpdate)) == (1, [])
    assert worker.got(OrderUpdate) == worker.got(FillUpdate) == []
    assert engine.market._streams[BTC].series == {}


@pytest.mark.expected_warnings("failed: no route")
async def test_bars_of_a_venue_that_is_away_are_asked_for_again(engine: EngineDesk) -> None:
    hold_bars, away = engine.market.hold_bars, [VenueUnavailable("no route")]

    async def once(*args: object) -> None:
        if away:
            raise away.pop()
        await hold_bars(*args)  # type: ignore[arg-type]

    engine.market.hold_bars = once  # type: ignore[method-assign, assignment]
    key, _ = await running(engine)
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, key, StrategyState.RUNNING)


@pytest.mark.expected_warnings("'often' is not a timeframe")
async def test_a_timeframe_that_is_none_is_not_tried_again(engine: EngineDesk) -> None:
    engine.launcher.runs_at_once = msgspec.structs.replace(DESCRIBED, timeframe="often")
    key = await engine.host.start(engine.spec(timeframe=""))
    assert "'often' is not a timeframe" in await state(engine, key, StrategyState.FAILED)
    assert len(engine.launcher.workers) == 1


@pytest.mark.expected_warnings("no history of sim:BTC/USDT 1m to warm up with: no route")
async def test_without_history_it_runs_cold(engine: EngineDesk) -> None:
    engine.venue.refuse_fetch = VenueUnavailable("no route")
    engine.launcher.runs_at_once = msgspec.structs.replace(DESCRIBED, warmup_bars=5)
    _, worker = await running(engine)
    assert worker.got(BarClosed) == []


@pytest.mark.expected_warnings("sma failed: killed")
async def test_one_that_dies_while_it_warms_up_is_not_shown_running(
    engine: EngineDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end comes from inside a message to it, as when its queue is full."""
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 9 * MINUTE_NS, 9)
    described = msgspec.structs.replace(ALL, warmup_bars=5)
    await engine.host.start(engine.spec())
    worker = engine.launcher.workers[0]
    send = worker.send

    def die(message: object) -> None:
        send(message)  # type: ignore[arg-type]
        if isinstance(message, BarClosed):
            worker.end(WorkerExit(True, -9, "killed"))

    worker.send = die  # type: ignore[method-assign]
    seen: list[StrategyState] = []
    set_state = engine.host._set
    engine.host._set = lambda *args: (seen.append(args[1]), set_state(*args))[1]  # type: ignore[method-assign]
    worker.run(described)
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    assert StrategyState.RUNNING not in seen
    engine.venue.publish(quote(), trade(NOW_NS))
    assert worker.got(QuoteUpdate) == worker.got(TradeUpdate) == []
    assert engine.market._listeners == {}


@pytest.mark.expected_warnings("cannot be told what it has to know: a HistoryBars of")
async def test_what_does_not_fit_a_frame_ends_it(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    run = engine.host.managed["sma"].run
    assert run is not None
    run._send(HistoryBars(1, (), "x" * 2_000_000))
    assert "above the limit" in worker.killed
    await until(lambda: len(engine.launcher.workers) == 2, what="another worker")
    await state(engine, "sma", StrategyState.RUNNING)


# ---- stopped while it starts


async def nothing_left(engine: EngineDesk) -> None:
    """No process, no stream, no wish to run again."""
    await until(lambda: engine.market.held == {}, what="all streams to end")
    assert all(worker.ended for worker in engine.launcher.workers)
    await until(
        lambda: not any(record.wanted for record in engine.journal.load().strategies), what="it to be remembered"
    )


async def stopped_at(engine: EngineDesk, gate: asyncio.Event | None, reached: object) -> None:
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(reached, what="the start to get there")  # type: ignore[arg-type]
    stopping = asyncio.create_task(engine.host.stop("sma", "enough"))
    await until(lambda: engine.host.managed["sma"].state is not StrategyState.STARTING, what="the stop to begin")
    if gate is not None:
        gate.set()
    await stopping
    with pytest.raises(StrategyError, match="stopped"):
        await starting
    assert (engine.host.managed["sma"].state, engine.host.managed["sma"].reason) == (StrategyState.STOPPED, "enough")
    await nothing_left(engine)


async def test_a_stop_while_its_market_is_opened(engine: EngineDesk) -> None:
    engine.venue.subscribing = asyncio.Event()
    await stopped_at(engine, engine.venue.subscribing, lambda: engine.market.held)
    assert engine.launcher.workers == []


async def test_a_stop_while_its_process_is_launched(engine: EngineDesk) -> None:
    engine.launcher.launching = asyncio.Event()
    await stopped_at(engine, engine.launcher.launching, lambda: engine.venue.subscribed)
    assert engine.launcher.workers[0].killed == "could not be started"


async def test_a_stop_while_it_gets_ready(engine: EngineDesk) -> None:
    engine.launcher.ready = False
    await stopped_at(engine, None, lambda: engine.launcher.workers)
    assert engine.launcher.workers[0].got(StartRun) == []


async def test_a_stop_while_the_journal_is_written(engine: EngineDesk) -> None:
    engine.journal.gate = asyncio.Event()
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(lambda: engine.journal.waiting, what="the journal to be asked")
    stopping = asyncio.create_task(engine.host.stop("sma"))
    await until(lambda: not engine.host.managed["sma"].wanted, what="the stop")
    engine.journal.gate.set()
    await stopping
    with pytest.raises(StrategyError, match="stopped before it ran"):
        await starting
    await nothing_left(engine)
    assert engine.launcher.workers == []


async def test_a_start_that_is_broken_off(engine: EngineDesk) -> None:
    engine.launcher.ready = False
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(lambda: engine.launcher.workers, what="the process")
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    assert engine.host.managed["sma"].reason == "its start was broken off"
    await nothing_left(engine)


async def test_what_cannot_be_handed_over_is_said_and_leaves_nothing(engine: EngineDesk) -> None:
    with pytest.raises(StrategyError, match="cannot be handed to its worker: a StartRun of"):
        await engine.host.start(engine.spec(parameters={"names": "x" * 2_000_000}))
    with pytest.raises(StrategyError, match="cannot be handed to its worker"):
        await engine.host.start(engine.spec(parameters={"odd": object()}))
    await nothing_left(engine)
    assert engine.host.managed["sma"].state is StrategyState.FAILED


@pytest.mark.expected_warnings("sma failed: killed by SIGKILL")
async def test_one_that_dies_before_it_is_ready_is_started_again(engine: EngineDesk) -> None:
    engine.launcher.ready = False
    starting = asyncio.create_task(engine.host.start(engine.spec()))
    await until(lambda: engine.launcher.workers, what="the process")
    engine.launcher.ready = True
    engine.launcher.runs_at_once = DESCRIBED
    engine.launcher.workers[0].end(WorkerExit(True, -9, "killed by SIGKILL"))
    assert await starting == "sma"
    await state(engine, "sma", StrategyState.RUNNING)


@pytest.mark.expected_warnings("was killed, but does not end")
async def test_a_process_that_cannot_be_ended(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_GRACE_S", 0.001)
    key, worker = await running(engine)
    worker.stops_in_order = False
    kill, worker.kill = worker.kill, lambda reason: None  # type: ignore[method-assign]
    await engine.host.stop(key, "enough", 0.001)
    assert engine.host.managed[key].state is StrategyState.STOPPED
    kill("at last")


async def test_an_account_that_cannot_trade_it_is_said(engine: EngineDesk) -> None:
    _, worker = await running(engine)

    def none(*_: object) -> str:
        raise InvalidOrder("no account there")

    engine.accounts.route = none  # type: ignore[method-assign]
    worker.say(Submit(1, market_buy()))
    await until(lambda: worker.got(OrderUpdate), what="the refusal")
    assert worker.got(OrderUpdate)[0].reason == "no account there"
