from __future__ import annotations

from typing import Any

import pytest

from koc_qt.domain.errors import ConfigError, InvalidOrder, RiskRefused
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.domain.risk import RiskContext, RiskLimits, check
from tests.unit.domain.examples import ETH, D, instrument, request

RULES = instrument(
    tick_size=D("0.05"), lot_size=D("0.002"), min_quantity=D("0.005"), max_quantity=D("101"), min_notional=D("10")
)
STOP, STOP_LIMIT = OrderType.STOP, OrderType.STOP_LIMIT


def decide(asked: OrderRequest, limits: dict[str, Any] | None = None, **situation: Any) -> None:
    values: dict[str, Any] = {
        "instrument": RULES,
        "reference_price": D(100),
        "position_quantity": D(0),
        "open_buy_quantity": D(0),
        "open_sell_quantity": D(0),
        "open_orders": 0,
        "orders_last_minute": 0,
        "daily_pnl": D(0),
    }
    check(asked, RiskContext(**(values | situation)), RiskLimits(**(limits or {})))


def buy(quantity: str = "1", price: str | None = None, **fields: Any) -> OrderRequest:
    return request(Side.BUY, quantity, price, **fields)


def sell(quantity: str = "1", price: str | None = None, **fields: Any) -> OrderRequest:
    return request(Side.SELL, quantity, price, **fields)


# ---- the instrument's rules ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (buy(price="99.97"), r"price 99\.97 is not a multiple of the tick size 0\.05 .*: the nearest is 99\.95"),
        (buy(price="0.02"), r"price 0\.02 is not a multiple .*: the nearest is 0\.05"),  # never zero
        (buy(type=STOP, stop_price=D("101.01")), r"stop price 101\.01 is not a multiple .*: the nearest is 101\.00"),
        (
            buy("1.0031"),
            r"quantity 1\.0031 is not a multiple of the lot size 0\.002 .*: "
            r"the nearest that is not more is 1\.002, the least allowed 0\.006",
        ),
        (buy("0.004"), r"quantity 0\.004 is below the least for sim:BTC/USDT, which is 0\.006"),
        (buy("101.002"), r"quantity 101\.002 is above the most for sim:BTC/USDT, which is 101\.000"),
        (buy("0.05"), r"0\.05 at 100 is worth 5\.00 USDT, below the least of 10 .*: the least quantity .* is 0\.100"),
        (buy("0.1", "99.95"), r"0\.1 at 99\.95 is worth 9\.995 USDT, .*: the least quantity at this price is 0\.102"),
        (sell("0.1", type=STOP, stop_price=D(90)), r"0\.1 at 90 is worth 9\.0 USDT, .* at this price is 0\.112"),
        (buy("0." + "3" * 28), r"quantity 0\.3333333333333333333333333333 is not a multiple .* not more is 0\.332"),
        (buy("999999999999999999.9"), "is above the most"),
    ],
)
def test_an_order_against_the_instrument_s_rules_is_invalid_and_the_text_names_the_nearest_legal_value(asked, text):
    with pytest.raises(InvalidOrder, match=text):
        decide(asked)


def test_values_at_the_edge_of_the_rules_pass():
    decide(buy("0.5"), instrument=instrument(min_quantity=D("0.5"), max_quantity=D("0.5"), min_notional=D(50)))
    decide(buy("0.1"))
    decide(buy("0.1", "100.05"))
    decide(buy("101", "100.05"))
    decide(sell("1", "100", type=STOP_LIMIT, stop_price=D("99.95")))
    decide(buy("0.001"), instrument=instrument())  # no least, no most


def test_the_rules_of_another_instrument_are_no_rules():
    with pytest.raises(InvalidOrder, match="the order is for sim:ETH/USDT, the rules given are those of sim:BTC/USDT"):
        decide(OrderRequest(ETH, Side.BUY, OrderType.MARKET, D(1)))


@pytest.mark.parametrize("price", [None, D(0)])
def test_a_market_order_needs_a_price_to_be_judged_by(price):
    with pytest.raises(RiskRefused, match="no price of sim:BTC/USDT is known yet, so the worth of a market order"):
        decide(buy(), reference_price=price)


@pytest.mark.parametrize(
    "asked",
    [
        buy(price="1000"),
        sell(price="50"),
        buy(type=STOP, stop_price=D(200)),
        sell("1", "200", type=STOP_LIMIT, stop_price=D(200)),
    ],
)
def test_other_orders_are_judged_by_their_own_price_while_there_is_none(asked):
    decide(asked, reference_price=None)


# ---- kill switch and pace ------------------------------------------------------------------------------------------


def test_the_kill_switch_lets_nothing_pass():
    with pytest.raises(RiskRefused, match=r"the kill switch is engaged \(lost the feed\): release it to trade again"):
        decide(buy("0.0001"), kill_switch=True, kill_reason="lost the feed")
    with pytest.raises(RiskRefused, match="the kill switch is engaged: release it"):
        decide(sell(reduce_only=True), position_quantity=D(5), kill_switch=True)


def test_open_orders_are_limited():
    decide(buy(), {"max_open_orders": 3}, open_orders=2)
    with pytest.raises(RiskRefused, match="3 orders are open, the limit is 3: cancel some first"):
        decide(buy(), {"max_open_orders": 3}, open_orders=3)


def test_the_rate_of_orders_is_limited():
    decide(buy(), {"max_orders_per_minute": 5}, orders_last_minute=4)
    with pytest.raises(RiskRefused, match="5 orders were placed in the last minute, the limit is 5: wait a little"):
        decide(buy(), {"max_orders_per_minute": 5}, orders_last_minute=5)


# ---- exposure ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "passes"),
    [
        (buy("10"), True),
        (buy("10.002"), False),
        (buy("10", "99"), True),
        (buy("10.1", "99"), True),  # a buy pays its limit at most
        (buy("10.002", "100"), False),
        (sell("10", "100"), True),
        (sell("10.1", "99"), False),  # a sell below the market trades at the market
        (sell("10", "110"), False),
        (buy("10", type=STOP, stop_price=D(101)), False),
        (buy("10", type=STOP, stop_price=D(90)), True),
        (sell("10.1", type=STOP, stop_price=D(90)), False),
    ],
)
def test_the_worth_of_an_order_is_limited(asked, passes):
    limits = {"max_order_notional": D(1000)}
    if passes:
        decide(asked, limits)
    else:
        text = r"is worth 1\d\d\d(\.\d+)? USDT, above the order limit of 1000: the most at this price is (10|9\.\d+)"
        with pytest.raises(RiskRefused, match=text):
            decide(asked, limits)


@pytest.mark.parametrize(
    ("asked", "situation", "passes"),
    [
        (buy("10"), {}, True),
        (buy("6"), {"position_quantity": D(4)}, True),
        (buy("6"), {"position_quantity": D(5)}, False),
        (buy("6"), {"position_quantity": D(2), "open_buy_quantity": D(2)}, True),
        (buy("6"), {"position_quantity": D(2), "open_buy_quantity": D(3)}, False),
        (buy("6"), {"position_quantity": D(2), "open_sell_quantity": D(3)}, True),
        (sell("6"), {"position_quantity": D(-4)}, True),
        (sell("6"), {"position_quantity": D(-5)}, False),
        (sell("6"), {"open_sell_quantity": D(5)}, False),
        (sell("16"), {"position_quantity": D(6)}, True),
        (sell("17"), {"position_quantity": D(6)}, False),
        (sell("17"), {"position_quantity": D(30)}, True),  # far above the limit: the way back is open
        (buy("17"), {"position_quantity": D(-30)}, True),
        (sell("17"), {"position_quantity": D(30), "open_sell_quantity": D(24)}, False),
    ],
)
def test_the_worth_of_a_position_with_its_open_orders_is_limited(asked, situation, passes):
    limits = {"max_position_notional": D(1000)}
    if passes:
        decide(asked, limits, **situation)
    else:
        with pytest.raises(
            RiskRefused, match=r"with its open orders filled the position would be -?1[1]\.?0* BTC, worth 1100"
        ):
            decide(asked, limits, **situation)


@pytest.mark.parametrize(
    ("asked", "situation", "left"),
    [
        (sell("5", reduce_only=True), {"position_quantity": D(5)}, None),
        (buy("5", reduce_only=True), {"position_quantity": D(-5)}, None),
        (sell("3", reduce_only=True), {"position_quantity": D(5), "open_sell_quantity": D(2)}, None),
        (sell("5.002", reduce_only=True), {"position_quantity": D(5)}, "5"),
        (sell("3.002", reduce_only=True), {"position_quantity": D(5), "open_sell_quantity": D(2)}, "3"),
        (sell("1", reduce_only=True), {"position_quantity": D(5), "open_sell_quantity": D(7)}, "0"),
        (buy("1", reduce_only=True), {"position_quantity": D(5)}, "0"),
        (sell("1", reduce_only=True), {}, "0"),
        (sell("1", reduce_only=True), {"position_quantity": D(-5)}, "0"),
    ],
)
def test_a_reduce_only_order_can_do_no_more_than_close(asked, situation, left):
    if left is None:
        decide(asked, **situation)
    else:
        with pytest.raises(RiskRefused, match=f"reduce-only .* at most {left} is left to close"):
            decide(asked, **situation)


def test_after_a_bad_day_only_orders_that_reduce_pass():
    limits = {"max_daily_loss": D(500)}
    decide(buy(), limits, daily_pnl=D("-499.99"))
    with pytest.raises(RiskRefused, match=r"today's loss of 500\.5 has reached the limit of 500: until midnight UTC"):
        decide(buy(), limits, daily_pnl=D("-500.5"))
    with pytest.raises(RiskRefused, match="today's loss of 500 has reached"):
        decide(sell("6"), limits, daily_pnl=D(-500), position_quantity=D(5))
    decide(sell("5"), limits, daily_pnl=D(-500), position_quantity=D(5))
    decide(buy("5"), limits, daily_pnl=D(-500), position_quantity=D(-5))


def test_short_positions_can_be_forbidden():
    no_shorts = {"allow_short": False}
    decide(sell("1"), {"allow_short": True})
    decide(sell("5"), no_shorts, position_quantity=D(5))
    decide(buy("5"), no_shorts, position_quantity=D(-9))
    with pytest.raises(RiskRefused, match=r"selling 6 would leave -3 BTC, and short .*: at most 3 can be sold"):
        decide(sell("6"), no_shorts, position_quantity=D(5), open_sell_quantity=D(2))
    with pytest.raises(RiskRefused, match="at most 0 can be sold"):
        decide(sell("6"), no_shorts)


# ---- fat fingers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "inside"),
    [
        (buy(price="105"), None),
        (buy(price="105.05"), r"105\.00"),
        (buy(price="1"), "10"),
        (sell(price="95"), None),
        (sell(price="94.95"), r"95\.00"),
        (sell(price="1000"), None),
        (buy(price="125", type=STOP_LIMIT, stop_price=D(120)), None),  # judged by its trigger
        (buy(price="130", type=STOP_LIMIT, stop_price=D(120)), r"126\.00"),
        (sell(price="80", type=STOP_LIMIT, stop_price=D(80)), None),
        (sell(price="70", type=STOP_LIMIT, stop_price=D(80)), r"76\.00"),
    ],
)
def test_a_limit_far_beyond_the_market_looks_like_a_slip(asked, inside):
    rules = {"price_collar": D("0.05")}
    if inside is None or asked.price == 1:
        decide(asked, rules, instrument=instrument(tick_size=D("0.05")))
    else:
        with pytest.raises(RiskRefused, match=f"is more than 5.00 % beyond the price of .* further than {inside}"):
            decide(asked, rules)


def test_the_price_that_the_collar_names_lies_inside_it():
    with pytest.raises(RiskRefused, match=r"go no further than 105\.00$"):  # 5 % above is 105.0315
        decide(buy(price="106"), reference_price=D("100.03"))
    with pytest.raises(RiskRefused, match=r"go no further than 95\.05$"):  # 5 % below is 95.0285
        decide(sell(price="94"), reference_price=D("100.03"))


def test_without_a_reference_price_a_limit_has_no_collar():
    decide(buy(price="105.05"), reference_price=None)


# ---- the limits themselves -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_order_notional": D(-1)}, "risk limit max_order_notional must be a number, zero or more, not -1"),
        ({"price_collar": D("NaN")}, "risk limit price_collar must be a number"),
        ({"max_daily_loss": D("Infinity")}, "risk limit max_daily_loss must be a number"),
        ({"max_open_orders": -1}, "risk limit max_open_orders must be a number, zero or more, not -1"),
    ],
)
def test_impossible_limits_are_refused(limits, text):
    with pytest.raises(ConfigError, match=text):
        RiskLimits(**limits)


# ---- changes of orders that work -----------------------------------------------------------------------------------


def test_of_a_changed_order_only_what_is_not_filled_adds_to_the_position():
    limits = {"max_position_notional": D(1000)}
    decide(buy("9.9", "100"), limits, position_quantity=D(5), filled_quantity=D(5))  # 5 held of it, 4.9 to come
    with pytest.raises(RiskRefused, match=r"the position would be 10\.1 BTC"):
        decide(buy("10.1", "100"), limits, position_quantity=D(5), filled_quantity=D("5"))
    decide(sell("8", "100", reduce_only=True), position_quantity=D(3), filled_quantity=D(5))
    with pytest.raises(RiskRefused, match="at most 2 is left to close"):
        decide(sell("8", "100", reduce_only=True), position_quantity=D(2), filled_quantity=D(5))


def test_the_order_limit_counts_all_of_a_changed_order():
    with pytest.raises(RiskRefused, match=r"6 at 100 is worth 600 USDT, above the order limit of 500"):
        decide(buy("6", "100"), {"max_order_notional": D(500)}, position_quantity=D(5), filled_quantity=D(5))
