"""The samples, loaded as the worker loads them and driven with made market data."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from koc_qt.domain.orders import OrderRequest, OrderStatus, OrderType, TimeInForce
from koc_qt.sdk import Quote, Side, Strategy, StrategyError
from koc_qt.sdk.channel import PositionState
from koc_qt.sdk.parameters import set_parameters
from koc_qt.sdk.strategy import describe
from koc_qt.worker.loader import MODULE, load_strategy
from tests.unit.sdk.desk import BTC, BTC_ID, OTHER, OTHER_ID, Desk, bar, quote

FOLDER = Path(__file__).parents[3] / "strategies"


@pytest.fixture(autouse=True)
def _forget_the_module() -> Iterator[None]:
    yield
    sys.modules.pop(MODULE, None)


def sample(name: str, **parameters: Any) -> Strategy:
    strategy = load_strategy((FOLDER / name).read_bytes(), name)()
    set_parameters(strategy, parameters)
    return strategy


def holding(quantity: str, key: Any = BTC_ID, price: str = "100") -> PositionState:
    return PositionState(key, Decimal(quantity), Decimal(price), Decimal(0), Decimal(0))


def fill_all(desk: Desk, quote: Quote) -> None:
    """Fill what can be filled at this quote; what is immediate and cannot is gone."""
    for request_id, request in desk.waiting:
        if request.instrument != quote.instrument:
            continue
        price = quote.ask if request.side is Side.BUY else quote.bid
        reached = request.price is None or (request.price - price) * request.side.sign >= 0
        if reached:
            desk.fill(request_id, price if request.price is None else request.price)
        elif request.time_in_force is TimeInForce.IOC:
            desk.update(request_id, OrderStatus.EXPIRED)


@pytest.mark.parametrize("name", [path.name for path in sorted(FOLDER.glob("*.py"))])
def test_every_sample_describes_itself(name: str) -> None:
    described = describe(sample(name))
    assert described.doc
    assert all(info.help for info in described.parameters)


# ---- sma_cross


def crossing(**options: Any) -> Desk:
    desk = Desk(sample("sma_cross.py", fast=2, slow=4), timeframe="1s", **options)
    desk.session.start()
    return desk


def play(desk: Desk, prices: list[float], *, warmup: bool = False, fill: bool = True) -> None:
    for price in prices:
        desk.session.on_bar(bar(price), warmup=warmup)
        if fill:
            fill_all(desk, quote(price, price))


def test_the_cross_is_long_in_a_rise_and_flat_in_a_fall() -> None:
    desk = crossing()
    assert desk.strategy.warmup_bars == 4
    play(desk, [100, 100, 100, 100], warmup=True)
    assert desk.submitted == []
    play(desk, [101])
    [(_, bought)] = desk.submitted
    assert (bought.side, bought.type, bought.quantity) == (Side.BUY, OrderType.MARKET, Decimal("9.90099"))
    play(desk, [102, 103])
    assert len(desk.submitted) == 1
    play(desk, [90])
    assert desk.submitted[1][1].side is Side.SELL
    assert desk.session.holding(BTC_ID).quantity == 0
    play(desk, [80, 70])
    assert len(desk.submitted) == 2
    assert desk.metrics["fast"] < desk.metrics["slow"]


def test_the_cross_holds_its_position_over_many_waves() -> None:
    desk = crossing()
    for step in range(600):
        play(desk, [100 + 5 * math.sin(step / 10)])
        assert desk.session.holding(BTC_ID).quantity * 95 <= 1_100
    sides = [request.side for _, request in desk.submitted]
    assert len(sides) > 10
    assert sides == [Side.BUY, Side.SELL] * (len(sides) // 2) + [Side.BUY] * (len(sides) % 2)


@pytest.mark.parametrize(
    ("held", "prices", "side"),
    [
        ("10", [100, 99, 98, 97, 96], Side.SELL),
        ("-1", [100, 101, 102, 103, 104], Side.BUY),
        ("10", [1, 2, 3, 4, 5], None),
    ],
)
def test_after_a_restart_the_cross_goes_on_from_its_position(held: str, prices: list[float], side: Side | None) -> None:
    desk = crossing(positions=[holding(held)])
    play(desk, prices[:4], warmup=True)
    play(desk, prices[4:])
    assert [request.side for _, request in desk.submitted] == ([] if side is None else [side])
    assert all(request.reduce_only for _, request in desk.submitted)


def test_a_rest_too_small_to_sell_is_no_position() -> None:
    desk = crossing(positions=[holding("0.00005")])
    play(desk, [100, 99, 98, 97, 96])
    assert desk.submitted == []
    play(desk, [200, 300])
    assert [request.side for _, request in desk.submitted] == [Side.BUY]


def test_the_cross_waits_for_open_orders_and_pauses_after_a_rejection() -> None:
    desk = crossing()
    play(desk, [100, 100, 100, 101, 102, 103], fill=False)
    assert len(desk.submitted) == 1
    desk.update(1, OrderStatus.REJECTED, reason="insufficient balance")
    assert desk.lines == [("WARNING", "rejected: insufficient balance")]
    play(desk, [104 + step for step in range(9)])
    assert len(desk.submitted) == 1
    play(desk, [120])
    assert len(desk.submitted) == 2


def test_a_fast_average_that_is_slow_is_refused() -> None:
    desk = Desk(sample("sma_cross.py", fast=20, slow=20))
    with pytest.raises(StrategyError, match=r"fast \(20\) must be below slow \(20\)"):
        desk.session.start()


# ---- sma_signals


def signalling(**options: Any) -> Desk:
    desk = Desk(sample("sma_signals.py", fast=2, slow=4, quantity=3.0), timeframe="1s", **options)
    desk.session.start()
    return desk


def test_the_signals_are_long_in_a_rise_and_flat_in_a_fall() -> None:
    desk = signalling()
    assert desk.strategy.warmup_bars == 4
    for index, price in enumerate((100, 100, 100, 100, 101, 102, 103, 99, 95, 95)):
        desk.session.on_bar(bar(price, index), warmup=index < 4)
        fill_all(desk, quote(price, price))
    assert [(str(request.side), request.quantity) for _, request in desk.submitted] == [("buy", 3), ("sell", 3)]


def test_the_signals_go_on_after_a_restart() -> None:
    desk = signalling(positions=[holding("3")])
    for index, price in enumerate((100, 100, 100, 100, 99)):
        desk.session.on_bar(bar(price, index), warmup=index < 4)
    assert [str(request.side) for _, request in desk.submitted] == ["sell"]


def test_signals_of_averages_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(StrategyError, match=r"fast \(9\) must be below slow \(4\)"):
        Desk(sample("sma_signals.py", fast=9, slow=4)).session.start()


# ---- scalping


class Scalped:
    """A scalper and its market: quotes four times a second."""

    def __init__(self, **parameters: Any) -> None:
        self.desk = Desk(sample("scalping.py", average_s=10, **parameters), timeframe="1s")
        self.desk.session.start()
        self.step = 0

    def quote(self, mid: float, *, times: int = 1, fill: bool = True) -> None:
        for _ in range(times):
            now = quote(round(mid - 0.01, 2), round(mid + 0.01, 2), 0)
            now = Quote(
                now.instrument, now.time_ns + self.step * 250_000_000, now.bid, now.bid_size, now.ask, now.ask_size
            )
            self.step += 1
            if fill:
                fill_all(self.desk, now)  # the venue meets resting orders before anybody hears of the quote
            self.desk.session.on_quote(now)
            for request_id, _ in self.desk.waiting:
                if not self.desk.orders.get(request_id):
                    self.desk.update(request_id, OrderStatus.ACCEPTED)
            for cancelled in self.desk.cancels:
                if self.desk.orders[request_id := int(cancelled[4:])].is_open:
                    self.desk.update(request_id, OrderStatus.CANCELED)
            if fill:
                fill_all(self.desk, now)

    @property
    def held(self) -> Decimal:
        return self.desk.session.holding(BTC_ID).quantity

    def working(self) -> list[OrderRequest]:
        return [request for _, request in self.desk.waiting]


def test_the_scalper_bids_below_fair_value_and_sells_back_at_it() -> None:
    market = Scalped()
    market.quote(1_000, times=40)
    assert market.desk.submitted == []  # the average is not one yet
    market.quote(1_000, times=4)
    [bid] = market.working()
    # Two maker fees of 10 basis points and a margin of 2 below 1,000, on the tick.
    assert (bid.side, bid.price, bid.post_only) == (Side.BUY, Decimal("997.80"), True)
    market.quote(997, times=1)
    assert market.held == bid.quantity
    market.quote(997, times=8)
    offers = [request for request in market.working() if request.side is Side.SELL]
    assert [(offer.quantity, offer.post_only, offer.reduce_only) for offer in offers] == [(market.held, True, True)]
    assert offers[0].price is not None
    assert offers[0].price > 997
    market.quote(1_000, times=8)
    assert market.held == 0
    assert market.desk.session.position(BTC_ID).realised_pnl > 0


def test_the_scalpers_inventory_is_limited() -> None:
    market = Scalped(max_orders_held=2, stop_bp=5_000)
    market.quote(1_000, times=44)
    for step in range(400):
        market.quote(1_000 - step / 2)
        assert market.held * 1_000 <= Decimal(2_600)  # two orders of 1,000, bought as low as 800
    buys = [request for _, request in market.desk.submitted if request.side is Side.BUY]
    assert len(buys) > 2


def test_the_scalper_sells_at_the_market_when_the_price_does_not_come_back() -> None:
    market = Scalped(stop_bp=60)
    market.quote(1_000, times=44)
    market.quote(997)
    assert market.held > 0
    market.quote(980, times=12)
    assert market.held == 0
    markets = [request for _, request in market.desk.submitted if request.type is OrderType.MARKET]
    assert [(request.side, request.reduce_only) for request in markets] == [(Side.SELL, True)]
    assert ("WARNING", "the price did not come back: selling at the market") in market.desk.lines


def test_the_scalper_keeps_its_pace_and_leaves_good_orders_alone() -> None:
    market = Scalped(pace_s=2)
    market.quote(1_000, times=44)
    market.quote(1_000.02, times=4)
    assert len(market.desk.submitted) == 1
    before = len(market.desk.submitted)
    for step in range(80):  # twenty seconds
        market.quote(1_000 + step, fill=False)
    assert 5 <= len(market.desk.submitted) - before <= 11
    assert len(market.working()) <= 2


def test_the_scalper_says_why_an_order_was_rejected_and_clears_old_orders() -> None:
    market = Scalped()
    market.quote(1_000, times=44)
    market.desk.update(1, OrderStatus.REJECTED, reason="would have traded")
    assert market.desk.lines == [("INFO", "buy rejected: would have traded")]
    assert market.desk.strategy.open_orders == []


# ---- arbitrage


class Arbitraged:
    """An arbitrageur between two venues whose quotes a test sets."""

    def __init__(self, positions: tuple[PositionState, ...] = (), **parameters: Any) -> None:
        self.desk = Desk(sample("arbitrage.py", **parameters), instruments=(BTC, OTHER), positions=positions)
        self.desk.session.start()
        self.now_s = 0
        self.quotes: dict[Any, Quote] = {}

    def see(self, here: float, there: float, *, seconds: int = 1, fill: bool = True) -> None:
        self.now_s += seconds
        for key, mid in ((BTC_ID, here), (OTHER_ID, there)):
            self.quotes[key] = quote(round(mid - 0.01, 2), round(mid + 0.01, 2), self.now_s, key)
            self.desk.session.on_quote(self.quotes[key])
        if fill:
            self.fill()

    def fill(self) -> None:
        for now in self.quotes.values():
            fill_all(self.desk, now)

    def held(self) -> tuple[Decimal, Decimal]:
        return self.desk.session.holding(BTC_ID).quantity, self.desk.session.holding(OTHER_ID).quantity

    def sent(self) -> list[tuple[str, Side, Decimal]]:
        return [(str(each.instrument), each.side, each.quantity) for _, each in self.desk.submitted]


@pytest.mark.parametrize(("here", "there", "bought"), [(1_000, 1_010, BTC_ID), (1_010, 1_000, OTHER_ID)])
def test_a_wide_gap_is_bought_cheap_and_sold_dear_and_unwound_when_it_closes(
    here: float, there: float, bought: Any
) -> None:
    market = Arbitraged()
    market.see(1_000, 1_004)  # four fees of 10 basis points: this gap pays none of it
    assert market.desk.submitted == []
    market.see(here, there)
    sides = {request.instrument: request.side for _, request in market.desk.submitted}
    assert sides[bought] is Side.BUY
    assert sorted(sides.values()) == [Side.BUY, Side.SELL]
    assert all(request.time_in_force is TimeInForce.IOC for _, request in market.desk.submitted)
    first, second = market.held()
    assert first == -second != 0
    market.see(here, there)
    assert len(market.desk.submitted) == 2
    market.see(1_005, 1_005)
    assert market.held() == (0, 0)
    assert len(market.desk.submitted) == 4
    profit = sum(market.desk.session.position(key).pnl for key in (BTC_ID, OTHER_ID))
    assert profit > 0


def test_a_leg_that_is_rejected_is_taken_back_and_the_strategy_rests() -> None:
    market = Arbitraged(rest_s=30)
    market.see(1_000, 1_010, fill=False)
    desk = market.desk
    desk.fill(1, Decimal("1000.01"))
    desk.update(2, OrderStatus.REJECTED, reason="short selling is not allowed")
    assert market.held()[0] > 0
    market.see(1_000, 1_010)
    assert market.sent()[2] == ("sim:BTC/USDT", Side.SELL, desk.submitted[0][1].quantity)
    assert desk.submitted[2][1].reduce_only
    assert market.held() == (0, 0)
    market.see(1_000, 1_010, seconds=20)
    assert len(desk.submitted) == 3
    market.see(1_000, 1_010, seconds=20)
    assert len(desk.submitted) == 5
    assert any("rejected: short selling is not allowed" in text for _, text in desk.lines)


def test_a_leg_that_is_filled_in_part_is_evened_out() -> None:
    market = Arbitraged()
    market.see(1_000, 1_010, fill=False)
    whole = market.desk.submitted[0][1].quantity
    market.desk.fill(1, Decimal("1000.01"))
    market.desk.fill(2, Decimal("1009.99"), whole - Decimal("0.4"))
    market.desk.update(2, OrderStatus.EXPIRED)
    market.see(1_000, 1_010)
    assert market.sent()[2] == ("sim:BTC/USDT", Side.SELL, Decimal("0.4"))
    first, second = market.held()
    assert first == -second == whole - Decimal("0.4")


def test_taking_back_is_tried_again_but_not_at_every_quote() -> None:
    market = Arbitraged(positions=(holding("-1", OTHER_ID, "1000"),))
    for _ in range(4):
        market.see(1_000, 1_000, fill=False)
        for request_id, _ in market.desk.waiting:
            market.desk.update(request_id, OrderStatus.REJECTED, reason="the venue is busy")
    assert market.sent() == [("sim2:BTC/USDT", Side.BUY, Decimal(1))]
    market.see(1_000, 1_000, seconds=5)
    assert len(market.desk.submitted) == 2
    assert market.held() == (0, 0)


def test_legs_on_the_same_side_are_taken_back_one_after_the_other() -> None:
    market = Arbitraged(positions=(holding("1", BTC_ID, "1000"), holding("0.5", OTHER_ID, "1000")))
    market.see(1_000, 1_000)
    assert market.sent() == [("sim:BTC/USDT", Side.SELL, Decimal(1))]
    market.see(1_000, 1_000, seconds=6)
    assert market.sent()[1:] == [("sim2:BTC/USDT", Side.SELL, Decimal("0.5"))]
    assert market.held() == (0, 0)


def test_a_pair_of_an_earlier_run_is_unwound_and_an_impatient_one_as_it_is() -> None:
    pair = (holding("1", BTC_ID, "1000"), holding("-1", OTHER_ID, "1010"))
    market = Arbitraged(positions=pair, patience_s=60)
    market.see(1_000, 1_010)
    market.see(1_000, 1_010, seconds=50)
    assert market.desk.submitted == []
    market.see(1_000, 1_010, seconds=20)
    assert market.held() == (0, 0)
    assert any("after a long wait" in text for _, text in market.desk.lines)


def test_old_quotes_are_not_traded_on() -> None:
    market = Arbitraged(max_age_s=2)
    market.desk.session.on_quote(quote(999.99, 1_000.01, 0, BTC_ID))
    market.desk.session.on_quote(quote(1_009.99, 1_010.01, 3, OTHER_ID))
    assert market.desk.submitted == []
    market.desk.session.on_quote(quote(999.99, 1_000.01, 3, BTC_ID))
    assert len(market.desk.submitted) == 2


def test_a_gap_that_is_shown_for_next_to_nothing_is_left_alone() -> None:
    market = Arbitraged()
    tiny = Decimal("0.001")
    here, there = quote(999.99, 1_000.01, 1, BTC_ID), quote(1_009.99, 1_010.01, 1, OTHER_ID)
    market.desk.session.on_quote(here)
    market.desk.session.on_quote(Quote(OTHER_ID, there.time_ns, there.bid, tiny, there.ask, tiny))
    assert market.desk.submitted == []


def test_two_different_symbols_are_refused() -> None:
    from koc_qt.domain.instruments import InstrumentId
    from tests.unit.sdk.desk import instrument

    desk = Desk(sample("arbitrage.py"), instruments=(BTC, instrument(InstrumentId("sim2", "ETH/USDT"))))
    with pytest.raises(StrategyError, match="are not one symbol on two venues"):
        desk.session.start()
