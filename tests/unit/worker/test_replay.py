"""A back-test as the strategy lives it: when it hears what, and at which prices its orders trade."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.orders import Fill
from koc_qt.sdk import OrderHandle, OrderStatus, Strategy
from koc_qt.sdk.script import Api, Data
from koc_qt.worker import replay_desk
from koc_qt.worker.replay import ORDERS_A_MOMENT
from tests.unit.sdk.desk import BTC, MINUTE_NS, OTHER, instrument
from tests.unit.worker.replays import SINCE_NS, Run, bars, flat, together, walk

ETH = instrument(InstrumentId("sim", "ETH/USDT"))


class Once(Strategy):
    """Do something at the first bar, and keep what is heard."""

    def __init__(self, **order: Any) -> None:
        self.order = {"quantity": 1, **order}
        self.heard: list[str] = []
        self.handle: OrderHandle | None = None

    def on_bar(self, bar: Bar) -> None:
        self.heard.append(f"bar {bar.close:g}")
        if self.handle is None:
            self.handle = self.buy(**self.order)

    def on_order(self, order: OrderHandle) -> None:
        self.heard.append(f"{order.status} {float(self.position().quantity):g}")

    def on_fill(self, fill: Fill) -> None:
        self.heard.append(f"fill {float(fill.price):g} {float(self.position().quantity):g} {self.cash().normalize():f}")

    def on_stop(self) -> None:
        self.heard.append("stop")
        self.buy(1)


def test_a_market_order_trades_at_the_next_bars_open_and_is_told_at_its_close() -> None:
    strategy = Once()
    run = Run(strategy, fee=Decimal("0.001")).play(bars([(100, 101, 99, 100.5), (102, 110, 90, 105), *flat(106)]))
    assert strategy.heard == [
        "bar 100.5", "submitted 0", "accepted 0",
        "filled 0", "fill 102 1 9897.898", "bar 105",
        "bar 106", "stop",
    ]  # fmt: skip
    assert run.fills == [("buy", Decimal(102), Decimal(1), 1)]
    assert list(run.replay.equity) == [10_000.0, 10_000.0, 10_002.898, 10_003.898]
    assert list(run.replay.times_ns) == [SINCE_NS + minute * MINUTE_NS for minute in range(4)]
    assert (run.replay.bars, run.replay.prices, run.closes_seen) == (3, (100, 106), 3)
    run.check_money()


def test_slippage_and_the_instruments_own_fees() -> None:
    run = Run(Once(), slippage=Decimal("0.01")).play(bars(flat(100, 100, 100)))
    assert run.fills == [("buy", Decimal(101), Decimal(1), 1)]
    assert run.replay.fills[0].fee == Decimal("0.101")


def test_of_a_bars_volume_a_tenth_is_ours_and_series_without_volume_have_enough() -> None:
    run = Run(Once()).play(bars(flat(100, 100, 100), volume=4.0))
    assert [(quantity, minute) for _, _, quantity, minute in run.fills] == [(Decimal("0.4"), 1), (Decimal("0.4"), 2)]
    assert Run(Once()).play(bars(flat(100, 100, 100), volume=0.0)).fills == [("buy", Decimal(100), Decimal(1), 1)]


def test_a_limit_rests_and_a_stop_protects() -> None:
    candles = [*flat(100), (100, 100, 95, 99), *flat(99)]
    assert Run(Once(price=98)).play(bars(candles)).fills == [("buy", Decimal(98), Decimal(1), 1)]
    assert Run(Once(stop=101)).play(bars([*flat(100, 100), (100, 103, 99, 102), *flat(99)])).fills == [
        ("buy", Decimal(101), Decimal(1), 2)
    ]


def test_what_the_live_engine_refuses_is_refused_with_its_words() -> None:
    strategy = Once(quantity="0.00001")
    Run(strategy).play(bars(flat(100, 100)))
    assert strategy.handle is not None
    assert strategy.handle.status is OrderStatus.REJECTED
    assert "below the least" in strategy.handle.reason
    rich = Once(quantity=1_000_000)
    Run(rich).play(bars(flat(100, 100)))
    assert rich.handle is not None
    assert "insufficient margin" in rich.handle.reason


class Shorter(Strategy):
    def on_bar(self, bar: Bar) -> None:
        if not self.open_orders and not self.position().quantity:
            self.sell(1)
        elif self.position().quantity < 0:
            self.close_position()


def test_shorts_where_they_are_allowed() -> None:
    run = Run(Shorter()).play(bars(flat(100, 100, 90, 80)))
    assert [fill[:2] for fill in run.fills] == [("sell", 100), ("buy", 90), ("sell", 80)][: len(run.fills)]
    assert len(run.fills) >= 2
    run.check_money()
    assert Run(Shorter(), allow_short=False).play(bars(flat(100, 100, 90))).fills == []


class Canceller(Strategy):
    def on_start(self) -> None:
        self.states: list[str] = []

    def on_bar(self, bar: Bar) -> None:
        if not self.states:
            self.buy(1, price=50)
        else:
            self.cancel_all()

    def on_order(self, order: OrderHandle) -> None:
        self.states.append(str(order.status) + ("?" if order.cancel_requested else ""))


def test_a_cancel_is_asked_for_and_confirmed() -> None:
    strategy = Canceller()
    Run(strategy).play(bars(flat(100, 100, 100)))
    assert strategy.states == ["submitted", "accepted", "accepted?", "canceled"]


class Warm(Strategy):
    warmup_bars = 2

    def on_start(self) -> None:
        self.seen: list[tuple[float, bool, int]] = []
        self.early = self.buy(1)

    def on_bar(self, bar: Bar) -> None:
        self.seen.append((bar.close, self.warming_up, (self.time_ns - SINCE_NS) // MINUTE_NS))


def test_warm_up_is_seen_before_the_run_and_no_order_comes_of_it() -> None:
    strategy = Warm()
    run = Run(strategy).play(bars(flat(98, 99), first=-2, warmup=True), bars(flat(100, 101)))
    assert strategy.seen == [(98, True, 0), (99, True, 0), (100, False, 1), (101, False, 2)]
    assert strategy.early.status is OrderStatus.REJECTED
    assert (run.fills, run.replay.bars) == ([], 2)


class Eager(Strategy):
    def on_start(self) -> None:
        self.seen = 0
        self.buy(1)

    def on_bar(self, bar: Bar) -> None:
        self.seen += 1


def test_an_order_of_on_start_meets_the_first_bar_where_a_price_was_known_before() -> None:
    strategy = Eager()
    run = Run(strategy).play(bars(flat(99), first=-1, warmup=True), bars(flat(100, 101)))
    assert run.fills == [("buy", Decimal(100), Decimal(1), 0)]
    assert strategy.seen == 2  # it asked for no warm-up and saw none
    assert Run(Eager()).play(bars(flat(100, 101))).fills == []


class Timed(Strategy):
    def on_start(self) -> None:
        self.fired: list[int] = []
        self.set_timer(90)

    def on_bar(self, bar: Bar) -> None: ...

    def on_timer(self) -> None:
        self.fired.append((self.time_ns - SINCE_NS) // MINUTE_NS)


def test_timers_go_off_at_the_first_close_that_is_not_before_them() -> None:
    one, two = Timed(), Timed()
    Run(one).play(bars(flat(*[100] * 7)))
    assert one.fired == [2, 3, 5, 6]
    two.instruments_wanted = 2
    Run(two, instruments=(BTC, ETH)).play(together(bars(flat(*[1] * 7)), bars(flat(*[1] * 7), row=1)))
    assert two.fired == one.fired


class Scripted(Strategy):
    async def run(self, api: Api, data: Data) -> None:
        self.told: list[object] = []
        bar = await data.bar()
        order = api.buy(1)
        self.told.append(await api.filled(order))
        self.told.append([each.close for each in await api.history(2)])
        self.told.append([(each.open, each.close) for each in await api.history(1, "5m")])
        try:
            await api.history(1, "7s")
        except StrategyError as error:
            self.told.append(str(error))
        await api.sleep(120)
        self.told.append((api.time_ns - bar.open_time_ns) // MINUTE_NS)
        self.resting = api.buy(1, price=50)
        await data.bar()


def test_a_script_waits_asks_for_history_and_ends_with_its_orders_cancelled() -> None:
    strategy = Scripted()
    first = -(SINCE_NS // MINUTE_NS % 5)  # whole five minutes
    run = Run(strategy).play(bars(flat(*range(100, 120)), first=first))
    assert strategy.told[:3] == [True, [100], []]
    assert "none of 7s" in str(strategy.told[3])
    assert strategy.told[4] == 4
    assert strategy.resting.status is OrderStatus.CANCELED
    assert len(run.fills) == 1
    assert run.replay.bars == 20


class Historian(Strategy):
    async def run(self, api: Api, data: Data) -> None:
        self.told: list[list[float]] = []
        async for _ in data:
            self.told.append([each.open for each in await api.history(2, "5m")])


def test_longer_history_has_whole_bars_alone() -> None:
    strategy = Historian()
    first = 3 - SINCE_NS // MINUTE_NS % 5  # begins in the middle of one
    Run(strategy).play(bars(flat(*range(100, 114)), first=first))
    assert strategy.told == [[]] * 6 + [[102.0]] * 5 + [[102.0, 107.0]] * 3


class Loop(Strategy):
    def on_bar(self, bar: Bar) -> None:
        self.buy(1, price=1)

    def on_order(self, order: OrderHandle) -> None:
        if order.status is OrderStatus.REJECTED:
            self.buy(1, price=1)


def test_a_strategy_that_answers_itself_without_end_is_ended() -> None:
    with pytest.raises(StrategyError, match=f"more than {ORDERS_A_MOMENT:,} orders"):
        Run(Loop()).play(bars(flat(100)))


# ---- several instruments


class Pair(Strategy):
    instruments_wanted = 2

    def on_start(self) -> None:
        self.heard: list[str] = []

    def on_bar(self, bar: Bar) -> None:
        self.heard.append(f"{bar.instrument} {bar.close:g}")
        first, second = self.instruments
        if bar.instrument == second.id and not self.open_orders and not self.position(first).quantity:
            self.buy(1, instrument=first)
            self.sell(2, instrument=second)

    def on_fill(self, fill: Fill) -> None:
        self.heard.append(f"{fill.side} {fill.instrument} {float(fill.price):g}")


def test_bars_that_close_together_meet_the_orders_before_any_is_told() -> None:
    strategy = Pair()
    run = Run(strategy, instruments=(BTC, ETH), fee=Decimal(0)).play(
        together(bars(flat(100, 101, 103)), bars(flat(10, 11, 12), row=1))
    )
    assert strategy.heard == [
        "sim:BTC/USDT 100", "sim:ETH/USDT 10",
        "buy sim:BTC/USDT 101", "sell sim:ETH/USDT 11", "sim:BTC/USDT 101", "sim:ETH/USDT 11",
        "sim:BTC/USDT 103", "sim:ETH/USDT 12",
    ]  # fmt: skip
    assert list(run.replay.equity) == [10_000, 10_000, 10_000, 10_000]  # +2 and -2
    assert (run.replay.prices, run.replay.bars, run.closes_seen) == ((100, 103), 3, 3)
    run.check_money()


def test_each_venue_has_an_account_of_its_own_so_that_both_sides_can_be_closed() -> None:
    class Spread(Pair):
        def on_bar(self, bar: Bar) -> None:
            if self.open_orders or bar.instrument != self.instruments[1].id:
                return
            held = self.position(self.instruments[0]).quantity
            self.heard.append(f"{held:f} {self.cash():f}")
            if held:
                for each in self.instruments:
                    self.close_position(each)
            else:
                self.buy(1, instrument=self.instruments[0])
                self.sell(1, instrument=self.instruments[1])

    strategy = Spread()
    run = Run(strategy, instruments=(BTC, OTHER), fee=Decimal(0), cash=Decimal("1000.01")).play(
        together(bars(flat(100, 100, 110)), bars(flat(101, 101, 110), row=1))
    )
    assert [fill[:2] for fill in run.fills] == [("buy", 100), ("sell", 101), ("sell", 110), ("buy", 110)]
    assert strategy.heard[0] == "0 500.00500000"
    assert run.replay.equity[-1] == pytest.approx(1001.01)
    run.check_money()


def test_a_symbol_that_pauses_is_valued_at_its_last_close() -> None:
    class Holder(Strategy):
        instruments_wanted = 2

        def on_bar(self, bar: Bar) -> None:
            if not self.position(self.instruments[1]).quantity and not self.open_orders:
                self.buy(1, instrument=self.instruments[1])

    run = Run(Holder(), instruments=(BTC, ETH), fee=Decimal(0)).play(
        together(bars(flat(1, 1, 1, 1, 1)), bars(flat(10, 11, 15), row=1))
    )
    assert list(run.replay.equity)[-3:] == [10_004, 10_004, 10_004]
    late = Run(Holder(), instruments=(BTC, ETH)).play(bars(flat(10), row=1))
    assert late.replay.prices is None


# ---- what cannot be


def test_what_bars_cannot_do_is_said() -> None:
    class Quoted(Strategy):
        def on_quote(self, quote: Any) -> None: ...

    class Both(Once):
        subscriptions = ("trades",)

    with pytest.raises(StrategyError, match="Quoted listens to quotes: a back-test has bars alone"):
        Run(Quoted())
    run = Run(Both()).play(bars(flat(100)))
    assert [line[1:] for line in run.lines] == [("WARNING", "a back-test has bars alone: the strategy hears no trades")]
    euro = instrument(InstrumentId("sim", "BTC/EUR"))
    with pytest.raises(StrategyError, match="one quote currency, not of USDT and EUR"):
        Run(Pair(), instruments=(BTC, euro))
    with pytest.raises(StrategyError, match="wants 2 instrument"):
        Run(Pair())


class Flip(Strategy):
    def on_bar(self, bar: Bar) -> None:
        if self.open_orders:
            return
        if self.position().quantity > 0:
            self.sell(2)
        else:
            self.buy(1 - self.position().quantity)


def test_a_run_again_is_the_same_run_however_the_bars_were_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    candles = walk(400)
    whole = Run(Flip(), seed=3).play(bars(candles))
    parts = Run(Flip(), seed=3).play(*(bars(candles[k : k + 7], first=k) for k in range(0, 400, 7)))
    assert whole.replay.fills == parts.replay.fills
    assert whole.replay.equity == parts.replay.equity
    assert len(whole.fills) == whole.replay.fill_count > 300
    assert whole.replay.traded == pytest.approx(float(sum(f.price * f.quantity for f in whole.replay.fills)))
    whole.check_money()
    monkeypatch.setattr(replay_desk, "FILLS_KEPT", 10)
    short = Run(Flip(), seed=3).play(bars(candles))
    assert short.replay.fills == whole.replay.fills[:10]
    assert short.replay.fill_count == whole.replay.fill_count


def test_nothing_was_traded() -> None:
    run = Run(Timed()).play(bars(flat(100, 101)))
    assert run.replay.position_ns == run.replay.time_ns == SINCE_NS + 2 * MINUTE_NS
    assert (run.replay.trips.trips({}), run.replay.traded) == ([], 0.0)


def test_metrics_are_for_people_who_watch() -> None:
    class Measured(Strategy):
        def on_bar(self, bar: Bar) -> None:
            self.metric("close", bar.close)
            self.log.info(msgspec.json.encode(bar.close).decode())

    run = Run(Measured()).play(bars(flat(100, 101)))
    assert run.lines == [(SINCE_NS + MINUTE_NS, "INFO", "100"), (SINCE_NS + 2 * MINUTE_NS, "INFO", "101")]


class Changer(Strategy):
    """Keep one order, and change it as told bar by bar."""

    def __init__(self, *changes: dict[str, Any]) -> None:
        self.changes = list(changes)
        self.told: list[str] = []
        self.order: OrderHandle | None = None

    def on_bar(self, bar: Bar) -> None:
        if self.order is None:
            self.order = self.buy(2, price=50)
        elif self.changes:
            self.amend(self.order, **self.changes.pop(0))

    def on_order(self, order: OrderHandle) -> None:
        price = None if order.price is None else float(order.price)
        flag = "?" if order.amend_requested else ""
        self.told.append(f"{order.status}{flag} {float(order.quantity):g}@{price:g} {order.reason}".rstrip())


def test_an_order_is_changed_and_trades_as_what_it_became() -> None:
    strategy = Changer({"quantity": 3, "price": 95})
    run = Run(strategy).play(bars([*flat(100, 100), (100, 100, 94, 99), *flat(99)]))
    assert strategy.told == [
        "submitted 2@50", "accepted 2@50",
        "accepted? 2@50", "accepted 3@95",
        "filled 3@95",
    ]  # fmt: skip
    assert run.fills == [("buy", Decimal(95), Decimal(3), 2)]
    run.check_money()


def test_a_change_that_the_live_engine_would_refuse_is_refused_with_its_words() -> None:
    strategy = Changer({"quantity": "0.00001"}, {"quantity": 1_000_000})
    Run(strategy).play(bars(flat(100, 100, 100, 100)))
    assert "below the least" in strategy.told[2]
    assert "insufficient margin" in strategy.told[-1]
    assert strategy.order is not None
    assert (strategy.order.quantity, strategy.order.amend_requested) == (Decimal(2), False)


def test_no_less_than_what_is_filled() -> None:
    strategy = Changer({"price": 100}, {"quantity": "0.3"}, {"quantity": "0.5"})
    Run(strategy).play(bars(flat(100, 100, 100, 100, 100), volume=4.0))
    assert any("is filled already: cancel the rest" in line for line in strategy.told)


class Hasty(Changer):
    """Change and cancel an order in one breath."""

    def on_bar(self, bar: Bar) -> None:
        super().on_bar(bar)
        if self.order is not None and self.order.client_order_id and self.order.is_open:
            self.order.cancel_requested = False
            self.cancel(self.order)
            self.order.cancel_requested = self.order.amend_requested = False
            self.amend(self.order, 5)


def test_a_change_behind_a_cancel_comes_to_nothing() -> None:
    strategy = Hasty()
    Run(strategy).play(bars(flat(100, 100, 100)))
    assert strategy.told[-1].startswith("canceled 2")
