"""Every command that a client may send, with good and bad input, and the snapshot that it begins with."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import BadTimeframe, InvalidOrder, LinkError, RiskRefused, StrategyError, VenueUnavailable
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.domain.state import EngineState, JobState, StoredSeries, StrategyState
from koc_qt.domain.timeframes import bar_open_ns
from koc_qt.engine import commands as module
from koc_qt.link import messages
from koc_qt.link.account_messages import AccountCommand, SecretsStatus
from koc_qt.link.backtest_messages import DeleteBacktest, ListBacktests, NoteBacktest
from koc_qt.link.messages import (
    AmendOrder,
    CancelAllOrders,
    CancelOrder,
    DescribeStrategy,
    EngageKillSwitch,
    FetchBacktest,
    FetchBacktestPage,
    FetchBars,
    Hello,
    ListInstruments,
    ListSeries,
    ReadLog,
    ReleaseKillSwitch,
    RequestSnapshot,
    Shutdown,
    StartBacktest,
    StartDownload,
    StartStrategy,
    StopBacktest,
    StopDownload,
    StopStrategy,
    StoreStrategy,
    SubmitOrder,
    Subscribe,
    Unsubscribe,
)
from koc_qt.link.optimiser_messages import StudyCommand
from koc_qt.link.trust_messages import TrustCommand
from koc_qt.sdk.channel import Describe, Described, FillUpdate, LogLine, OrderUpdate, StopRun, Submit
from tests.conditions import until
from tests.fakes.market import MINUTE_NS, bars
from tests.fakes.trading import BTC, BTC_RULES, ETH, limit_buy, market_buy, quote
from tests.fakes.workers import DESCRIBED, FakeWorker
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_strategies import running, state

NOWHERE = InstrumentId("nowhere", "BTC/USDT")


def test_every_command_is_tried_here() -> None:
    # tried where they are carried out
    handed_on = {*get_args(AccountCommand), *get_args(TrustCommand), *get_args(StudyCommand)}
    commands = set(get_args(messages.Command)) - handed_on
    assert {value for value in globals().values() if value in get_args(messages.Command)} - handed_on == commands


async def test_commands_about_accounts_need_somebody_who_keeps_them(engine: EngineDesk) -> None:
    with pytest.raises(LinkError, match="this engine's accounts cannot be changed"):
        await engine.commands.execute(SecretsStatus(), "window-1")


async def priced(engine: EngineDesk) -> None:
    await engine.commands.execute(Subscribe(BTC), "window-1")
    engine.venue.publish(quote())


# ---- orders by hand


async def test_an_order_by_hand(engine: EngineDesk) -> None:
    await priced(engine)
    key = await engine.commands.execute(SubmitOrder("sim", limit_buy()), "window-1")
    order = engine.store.order(key)
    assert order is not None
    assert (order.strategy_id, order.account_id) == ("manual", "sim")
    assert await engine.commands.execute(CancelOrder(key), "window-1") is None
    await engine.orders.settle()
    assert engine.store.open_orders() == []
    with pytest.raises(InvalidOrder, match="no order 'nope'"):
        await engine.commands.execute(CancelOrder("nope"), "window-1")


async def test_an_order_is_changed_on_a_market_that_is_streamed_for_it(engine: EngineDesk) -> None:
    await priced(engine)
    key = await engine.commands.execute(SubmitOrder("sim", limit_buy()), "window-1")
    await engine.orders.settle()
    assert await engine.commands.execute(AmendOrder(key, Decimal("0.2"), Decimal(98)), "window-1") is None
    await engine.orders.settle()
    order = engine.store.order(key)
    assert order is not None
    assert (order.request.quantity, order.request.price) == (Decimal("0.2"), Decimal(98))
    with pytest.raises(InvalidOrder, match="no order 'nope'"):
        await engine.commands.execute(AmendOrder("nope", Decimal(1)), "window-1")


async def test_an_order_by_hand_on_a_market_that_nobody_streams(engine: EngineDesk) -> None:
    placing = asyncio.create_task(engine.commands.execute(SubmitOrder("sim", market_buy()), "window-1"))
    await until(lambda: engine.venue.subscribed, what="the stream")
    engine.venue.publish(quote())
    order = engine.store.order(await placing)
    assert order is not None
    await until(lambda: engine.market.held == {BTC: {"exposure"}}, what="the position alone to hold it")


async def test_orders_that_cannot_be(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once(_: InstrumentId) -> None:
        return

    engine.market.wait_priced = at_once  # type: ignore[method-assign, assignment]
    for command, error, match in (
        (SubmitOrder("nope", market_buy()), InvalidOrder, "no account 'nope'; there are: sim"),
        (SubmitOrder("sim", market_buy(instrument=NOWHERE)), InvalidOrder, "with 'sim', which is on sim"),
        (SubmitOrder("sim", market_buy(instrument=InstrumentId("sim", "X"))), InvalidOrder, "no symbol 'X'"),
        (SubmitOrder("sim", market_buy()), RiskRefused, "price"),
    ):
        with pytest.raises(error, match=match):
            await engine.commands.execute(command, "window-1")
    await until(lambda: engine.market.held == {}, what="no stream to be left")
    assert engine.trading.submitted == []


async def test_an_order_that_is_broken_off_leaves_no_stream(engine: EngineDesk) -> None:
    placing = asyncio.create_task(engine.commands.execute(SubmitOrder("sim", market_buy()), "window-1"))
    await until(lambda: engine.market._listeners, what="it to wait for a price")
    placing.cancel()
    await asyncio.gather(placing, return_exceptions=True)
    await until(lambda: engine.market.held == {}, what="the stream to end")


async def test_cancelling_all(engine: EngineDesk) -> None:
    await priced(engine)
    for _ in range(3):
        await engine.commands.execute(SubmitOrder("sim", limit_buy()), "window-1")
    assert await engine.commands.execute(CancelAllOrders(), "window-1") == 3
    await engine.orders.settle()
    assert await engine.commands.execute(CancelAllOrders(), "window-1") == 0


# ---- orders by hand for a strategy


async def holding(engine: EngineDesk) -> tuple[str, FakeWorker]:
    """Have a strategy that runs hold 0.3 of a market that has a price."""
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, market_buy("0.3")))
    await until(lambda: worker.got(FillUpdate), what="the fill")
    return key, worker


def closing(quantity: str, side: Side = Side.SELL, instrument: InstrumentId = BTC) -> OrderRequest:
    return OrderRequest(instrument, side, OrderType.MARKET, Decimal(quantity), reduce_only=True)


def held(engine: EngineDesk, strategy_id: str) -> Decimal:
    return engine.ledger.position(strategy_id, "sim", BTC).quantity


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_what_a_strategy_holds_is_closed_by_hand(engine: EngineDesk, is_stopped: bool) -> None:
    key, worker = await holding(engine)
    if is_stopped:
        await engine.commands.execute(StopStrategy(key), "window-1")
    for quantity in ("0.1", "0.2"):
        placed = await engine.commands.execute(SubmitOrder("sim", closing(quantity), key), "window-1")
        order = engine.store.order(placed)
        assert order is not None
        assert (order.strategy_id, order.account_id) == (key, "sim")
        await engine.orders.settle()
    assert held(engine, key) == 0
    assert "manual" not in {owner for owner, _, _ in engine.store.positions}
    if not is_stopped:  # it is told, as of orders of its own
        await until(lambda: len(worker.got(FillUpdate)) == 3, what="the word of it")
        assert [fill.position.quantity for fill in worker.got(FillUpdate)] == [
            Decimal("0.3"), Decimal("0.2"), Decimal(0),
        ]  # fmt: skip


async def test_an_order_by_hand_opens_grows_and_flips_nothing_for_a_strategy(engine: EngineDesk) -> None:
    key, worker = await holding(engine)
    sell = msgspec.structs.replace(closing("0.1"), reduce_only=False)
    resting = msgspec.structs.replace(closing("0.1"), type=OrderType.LIMIT, price=Decimal(101))
    await engine.commands.execute(Subscribe(ETH), "window-1")
    engine.venue.publish(quote(instrument=ETH))
    for request, strategy_id, error, match in (
        (closing("0.3001"), key, RiskRefused, "could do more than close the position of 0.3 BTC"),
        (closing("0.1", Side.BUY), key, RiskRefused, "could do more than close"),
        (sell, key, InvalidOrder, "may only close what it holds: send a reduce-only market order"),
        (market_buy(), key, InvalidOrder, "may only close what it holds"),
        (resting, key, InvalidOrder, "may only close what it holds"),
        (closing("0.1", instrument=ETH), key, InvalidOrder, f"{key} holds no {ETH} on sim: there is nothing to close"),
        (closing("0.1"), "nobody", InvalidOrder, "there is no strategy 'nobody'"),
        (closing("0.1"), "", InvalidOrder, "there is no strategy ''"),
        (closing("0.1"), "x" * 100_000, InvalidOrder, "there is no strategy 'x{20,100}"),
        (closing("0.1"), "manual", RiskRefused, "could do more than close the position of 0 BTC"),
    ):
        with pytest.raises(error, match=match) as refused:
            await engine.commands.execute(SubmitOrder("sim", request, strategy_id), "window-1")
        assert len(str(refused.value)) < 500
    assert len(engine.trading.submitted) == 1  # the strategy's own
    worker.say(Submit(2, msgspec.structs.replace(resting, quantity=Decimal("0.25"))))
    await until(engine.store.open_orders, what="the order that may close most of it")
    with pytest.raises(RiskRefused, match=r"with 0\.25 in open sell orders, at most 0\.05 is left to close"):
        await engine.commands.execute(SubmitOrder("sim", closing("0.1"), key), "window-1")


async def test_what_a_strategy_closes_meanwhile_is_not_closed_twice(engine: EngineDesk) -> None:
    key, worker = await holding(engine)
    engine.store.forget_market(BTC)
    placing = asyncio.create_task(engine.commands.execute(SubmitOrder("sim", closing("0.3"), key), "window-1"))
    await until(lambda: any(owner.startswith("order:") for owner in engine.market.held[BTC]), what="the wait")
    worker.say(Submit(2, msgspec.structs.replace(closing("0.3"), type=OrderType.LIMIT, price=Decimal(99))))
    await until(lambda: len(engine.trading.submitted) == 2, what="the order of the strategy")
    engine.venue.publish(quote())
    with pytest.raises(RiskRefused, match="could do more than close"):
        await placing
    assert len(engine.trading.submitted) == 2


# ---- strategies


async def test_strategies_are_described_started_and_stopped(engine: EngineDesk) -> None:
    asking = asyncio.create_task(engine.commands.execute(DescribeStrategy(engine.file()), "window-1"))
    await until(lambda: engine.launcher.workers and engine.launcher.workers[0].got(Describe), what="the question")
    engine.launcher.workers[0].say(DESCRIBED)
    answer = msgspec.msgpack.decode(msgspec.msgpack.encode(await asking))
    assert msgspec.convert(answer, Described) == DESCRIBED
    key = await engine.commands.execute(StartStrategy(engine.spec()), "window-1")
    assert key == "sma"
    assert await engine.commands.execute(StopStrategy(key), "window-1") is None
    assert engine.host.managed[key].state is StrategyState.STOPPED
    with pytest.raises(StrategyError, match="no strategy 'nope'"):
        await engine.commands.execute(StopStrategy("nope"), "window-1")
    with pytest.raises(StrategyError, match="cannot be read"):
        await engine.commands.execute(DescribeStrategy("nope.py"), "window-1")
    with pytest.raises(StrategyError, match="cannot be read"):
        await engine.commands.execute(StartStrategy(engine.spec(path="nope.py")), "window-1")


# ---- the kill switch


@pytest.mark.expected_warnings("kill switch: panic", "the kill switch was released")
async def test_the_kill_switch_stops_everything_until_it_is_released(engine: EngineDesk) -> None:
    key, worker = await running(engine)
    engine.venue.publish(quote())
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(), what="the order")
    await engine.commands.execute(EngageKillSwitch("panic " + "!" * 100_000), "window-1")
    assert engine.host.managed[key].state is StrategyState.STOPPED
    assert worker.ended
    await engine.orders.settle()
    assert engine.store.open_orders() == []
    snapshot = engine.commands.snapshot()
    assert (snapshot.engine.state, snapshot.engine.kill_switch) == (EngineState.HALTED, True)
    assert len(snapshot.engine.kill_reason) < 2_100
    await priced(engine)
    with pytest.raises(RiskRefused, match="panic"):
        await engine.commands.execute(SubmitOrder("sim", market_buy()), "window-1")
    with pytest.raises(StrategyError, match="panic"):
        await engine.commands.execute(StartStrategy(engine.spec()), "window-1")
    await engine.commands.execute(ReleaseKillSwitch(), "window-1")
    assert engine.commands.snapshot().engine.state is EngineState.RUNNING
    assert engine.host.managed[key].state is StrategyState.STOPPED  # nothing is started again by it
    await engine.commands.execute(SubmitOrder("sim", market_buy()), "window-1")


@pytest.mark.expected_warnings("kill switch: panic")
async def test_it_stops_what_runs_though_the_journal_does_not_answer(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    engine.journal.gate = asyncio.Event()
    killing = asyncio.create_task(engine.commands.kill("panic"))
    await until(lambda: worker.ended, what="the strategy to be stopped")
    assert not killing.done()
    assert engine.store.engine is not None
    assert engine.store.engine.state is EngineState.HALTED  # and it is shown at once
    engine.journal.gate.set()
    await killing


@pytest.mark.expected_warnings("kill switch: panic", "kill switch: a bug", "did not stop in order: a bug")
async def test_every_step_is_tried_whatever_the_others_do(engine: EngineDesk) -> None:
    _, worker = await running(engine)

    async def broken(*_: object) -> int:
        raise RuntimeError("a bug")

    cancel_all = engine.orders.cancel_all
    engine.orders.cancel_all = broken  # type: ignore[method-assign, assignment]
    await engine.commands.kill("panic")
    engine.orders.cancel_all = cancel_all  # type: ignore[method-assign]
    assert worker.ended
    assert engine.switch.engaged


@pytest.mark.expected_warnings("kill switch: panic")
async def test_orders_that_were_on_their_way_are_cancelled_too(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    engine.venue.publish(quote())
    engine.trading.hold = asyncio.Event()
    worker.say(Submit(1, limit_buy()))
    await until(lambda: engine.store.open_orders(), what="the intent")
    killing = asyncio.create_task(engine.commands.kill("panic"))
    await until(lambda: worker.got(StopRun), what="the stop")
    worker.say(Submit(2, limit_buy()))
    engine.trading.hold.set()
    await killing
    await engine.orders.settle()
    assert engine.store.open_orders() == []
    assert not [update for update in worker.got(OrderUpdate) if update.request_id == 2 and update.order]


# ---- streams


async def test_a_client_streams_what_it_subscribed_to_until_it_leaves(engine: EngineDesk) -> None:
    await engine.commands.execute(Subscribe(BTC, ("1m", "1s")), "window-1")
    await engine.commands.execute(Subscribe(ETH), "window-1")
    await engine.commands.execute(Subscribe(BTC), "window-2")
    assert engine.market.held == {BTC: {"client:window-1", "client:window-2"}, ETH: {"client:window-1"}}
    assert sorted(engine.market._streams[BTC].series) == ["1m", "1s"]
    await engine.commands.execute(Subscribe(BTC, ("1s", "1h")), "window-1")  # in the place of what it had
    assert sorted(engine.market._streams[BTC].series) == ["1h", "1s"]
    await engine.commands.execute(Unsubscribe(ETH), "window-1")
    await engine.commands.execute(Unsubscribe(ETH), "window-1")
    await engine.commands.execute(Unsubscribe(NOWHERE), "window-3")
    assert engine.market.held == {BTC: {"client:window-1", "client:window-2"}}
    engine.commands.disconnected("window-1")
    engine.commands.disconnected("window-1")
    await until(lambda: engine.market.held == {BTC: {"client:window-2"}}, what="its streams to end")
    assert engine.market._streams[BTC].series == {}


async def test_subscriptions_that_cannot_be_leave_nothing(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    for command, error, match in (
        (Subscribe(BTC, ("1m", "soon")), BadTimeframe, "soon"),
        (Subscribe(InstrumentId("sim", "X")), InvalidOrder, "no symbol 'X'"),
        (Subscribe(NOWHERE), VenueUnavailable, "no venue 'nowhere'"),
        (Subscribe(BTC, ("1m",) * 21), InvalidOrder, "20 timeframes an instrument are the most, not 21"),
    ):
        with pytest.raises(error, match=match):
            await engine.commands.execute(command, "window-1")
    assert engine.market.held == {}
    assert engine.commands._wanted["window-1"] == {}


async def test_a_client_that_leaves_while_its_stream_is_opened_leaves_nothing(engine: EngineDesk) -> None:
    engine.venue.subscribing = asyncio.Event()
    opening = asyncio.create_task(engine.commands.execute(Subscribe(BTC, ("1m",)), "window-1"))
    await until(lambda: engine.market.held, what="it to wait")
    engine.commands.disconnected("window-1")
    engine.venue.subscribing.set()
    await opening
    await until(lambda: engine.market.held == {}, what="the stream to end")
    with pytest.raises(LinkError, match="gone"):  # a command of its that came before
        await engine.commands.execute(Subscribe(BTC), "window-1")
    assert (engine.market.held, engine.commands._wanted) == ({}, {})


async def test_a_client_that_unsubscribes_while_its_stream_is_opened(engine: EngineDesk) -> None:
    engine.venue.subscribing = asyncio.Event()
    opening = asyncio.create_task(engine.commands.execute(Subscribe(BTC, ("1m",)), "window-1"))
    await until(lambda: engine.market.held, what="it to wait")
    leaving = asyncio.create_task(engine.commands.execute(Unsubscribe(BTC), "window-1"))
    await asyncio.sleep(0)
    engine.venue.subscribing.set()
    await asyncio.gather(opening, leaving)
    await until(lambda: engine.market.held == {}, what="the stream to end")


# ---- bars


async def test_bars_are_fetched(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 20 * MINUTE_NS, 20)
    newest = await engine.commands.execute(FetchBars(BTC, "1m", 3), "window-1")
    assert [row[0] for row in newest] == [now - n * MINUTE_NS for n in (3, 2, 1)]
    assert newest[0][1:] == (117.0, 118.0, 116.0, 117.5, 10.0)
    older = await engine.commands.execute(FetchBars(BTC, "1m", 2, now - 5 * MINUTE_NS + 7), "window-1")
    assert [row[0] for row in older] == [now - n * MINUTE_NS for n in (7, 6)]
    assert await engine.commands.execute(FetchBars(BTC, "1m", 2, -(10**30)), "window-1") == []
    assert len(await engine.commands.execute(FetchBars(BTC, "1m", 3, 10**30), "window-1")) == 0


@pytest.mark.parametrize(
    ("command", "error", "match"),
    [
        (FetchBars(BTC, "1m", 0), InvalidOrder, "ask for 1 to 20000 bars, not 0"),
        (FetchBars(BTC, "1m", 20_001), InvalidOrder, "not 20001"),
        (FetchBars(BTC, "soon", 5), BadTimeframe, "soon"),
        (FetchBars(InstrumentId("sim", "../../etc"), "1m", 5), InvalidOrder, "no symbol"),
        (FetchBars(NOWHERE, "1m", 5), VenueUnavailable, "no venue"),
    ],
)
async def test_bars_that_cannot_be(engine: EngineDesk, command: FetchBars, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        await engine.commands.execute(command, "window-1")


# ---- what a window asks for


async def test_instruments_travel_with_their_exact_rules(engine: EngineDesk) -> None:
    answer = await engine.commands.execute(ListInstruments("sim", "btc"), "window-1")
    over_the_link = msgspec.msgpack.decode(msgspec.msgpack.encode(answer))
    assert msgspec.convert(over_the_link, list[Instrument]) == [BTC_RULES]


async def test_a_strategy_file_of_another_machine(engine: EngineDesk) -> None:
    source = b"class S: ..."
    asking = asyncio.create_task(engine.commands.execute(DescribeStrategy("their/sma.py", source), "window-1"))
    await until(lambda: engine.launcher.workers and engine.launcher.workers[0].got(Describe), what="the question")
    (question,) = engine.launcher.workers[0].got(Describe)
    assert (question.source, question.filename) == (source, "sma.py")
    engine.launcher.workers[0].say(DESCRIBED)
    await asking
    path = await engine.commands.execute(StoreStrategy("sma.py", source), "window-1")
    assert Path(path).read_bytes() == source
    await engine.commands.execute(StartStrategy(engine.spec(path=path)), "window-1")
    for bad, why in ((b" ", "is empty"), (b"x" * 600_000, "is too large")):
        with pytest.raises(StrategyError, match=why):
            await engine.commands.execute(DescribeStrategy("sma.py", bad), "window-1")


async def test_history_is_downloaded_and_listed(engine: EngineDesk) -> None:
    now = bar_open_ns(engine.clock.time_ns(), "1m")
    engine.venue.history = bars(now - 20 * MINUTE_NS, 20)
    key = await engine.commands.execute(StartDownload(BTC, "1m", now - 20 * MINUTE_NS, now), "window-1")
    await until(lambda: engine.commands.snapshot().downloads[0].state is JobState.DONE, what="the download")
    answer = await engine.commands.execute(ListSeries(), "window-1")
    (series,) = msgspec.convert(msgspec.msgpack.decode(msgspec.msgpack.encode(answer)), list[StoredSeries])
    assert (series.instrument, series.timeframe) == (BTC, "1m")
    assert series.bars == engine.commands.snapshot().downloads[0].bars > 10
    assert await engine.commands.execute(StopDownload(key), "window-1") is None  # it has ended: nothing to do


async def test_the_log_can_be_read(engine: EngineDesk) -> None:
    _, worker = await running(engine)
    worker.say(LogLine("INFO", "my key: api_key=abcdef123456"))
    await until(lambda: engine.told, what="the line")
    assert await engine.commands.execute(ReadLog(5), "window-1") == [
        (engine.clock.time_ns(), "INFO", "sma", "my key: api_key=***")
    ]
    for count in (0, 2_001):
        with pytest.raises(InvalidOrder, match="lines of the log"):
            await engine.commands.execute(ReadLog(count), "window-1")


# ---- the rest


async def test_what_the_transport_answers_itself_and_the_shutdown(engine: EngineDesk) -> None:
    assert await engine.commands.execute(Hello(1, "0", "window"), "window-1") is None
    assert await engine.commands.execute(RequestSnapshot(), "window-1") is None
    await engine.commands.execute(Shutdown(), "window-1")
    assert engine.stops == ["a client asked for it"]
    with pytest.raises(AssertionError):
        await engine.commands.execute(object(), "window-1")  # type: ignore[arg-type]


async def test_a_snapshot_while_the_engine_starts(engine: EngineDesk) -> None:
    engine.telemetry.state = EngineState.STARTING
    snapshot = engine.commands.snapshot()
    assert snapshot.engine.state is EngineState.STARTING
    assert (snapshot.orders, snapshot.fills, snapshot.positions, snapshot.strategies) == ((), (), (), ())
    assert engine.commands.history() == ((), ())


async def test_a_snapshot_has_what_there_is_within_limits(engine: EngineDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SNAPSHOT_RECORDS", 2)
    monkeypatch.setattr(module, "HISTORY_RECORDS", 4)
    await running(engine)
    engine.venue.publish(quote())
    for _ in range(5):
        await engine.commands.execute(SubmitOrder("sim", market_buy()), "window-1")
    resting = await engine.commands.execute(SubmitOrder("sim", limit_buy()), "window-1")
    await engine.orders.settle()
    engine.telemetry.show(engine.host)
    snapshot = engine.commands.snapshot()
    assert [order.is_open for order in snapshot.orders] == [False, False, True]
    assert snapshot.orders[-1].client_order_id == resting
    assert len(snapshot.fills) == 2
    older_orders, older_fills = engine.commands.history()
    assert not any(order.is_open for order in older_orders)
    known = [order.client_order_id for order in (*older_orders, *snapshot.orders)]
    assert known == [order.client_order_id for order in engine.store.recent_orders(4)]
    assert [*older_fills, *snapshot.fills] == list(engine.store.fills)[-4:]
    assert len(known) == len(set(known)) == 5
    assert {i.id for i in snapshot.instruments} == {BTC, ETH}
    assert [p.quantity for p in snapshot.positions if p.strategy_id == "manual"] == [Decimal("0.5")]
    assert [s.spec.strategy_id for s in snapshot.strategies] == ["sma"]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(snapshot), type=messages.Snapshot) == snapshot
    await state(engine, "sma", StrategyState.RUNNING)


# ---- back-tests; what becomes of them: test_backtests.py


async def test_back_tests_by_command(engine: EngineDesk) -> None:
    spec = BacktestSpec(engine.file(), (BTC,), "1m", 0, MINUTE_NS)
    key = await engine.commands.execute(StartBacktest(spec), "window-1")
    [shown] = engine.commands.snapshot().backtests
    assert (shown.backtest_id, shown.spec, shown.state) == (key, spec, JobState.RUNNING)
    assert await engine.commands.execute(StopBacktest(key), "window-1") is None
    with pytest.raises(StrategyError, match=f"{key} has no result, it is stopped"):
        await engine.commands.execute(FetchBacktest(key), "window-1")
    with pytest.raises(StrategyError, match=f"{key} has no result, it is stopped"):
        await engine.commands.execute(FetchBacktestPage(key, "trades", 0), "window-1")
    await engine.commands.execute(NoteBacktest(key, "too short"), "window-1")
    [found] = await engine.commands.execute(ListBacktests("SHORT"), "window-1")
    assert (found["backtest_id"], found["note"]) == (key, "too short")
    await engine.commands.execute(DeleteBacktest(key), "window-1")
    assert engine.commands.snapshot().backtests == ()
