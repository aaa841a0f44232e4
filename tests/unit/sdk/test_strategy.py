from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

import koc_qt.sdk
from koc_qt.sdk import Bar, Strategy, StrategyError, param
from koc_qt.sdk.strategy import describe, overrides, subscriptions_of
from tests.conditions import PATIENCE


def make(**attributes: Any) -> type[Strategy]:
    return type("Made", (Strategy,), attributes)


def method(self: Strategy, *_: object) -> None:
    """Stand for a callback."""


async def coroutine(self: Strategy, *_: object) -> None:
    """Stand for run()."""


async def generator(self: Strategy, *_: object) -> Any:
    yield


def test_the_public_names_are_these() -> None:
    assert koc_qt.sdk.__all__ == [
        "Api", "Bar", "Bars", "Data", "Fill", "Instrument", "InstrumentId", "InvalidOrder", "Liquidity", "OrderHandle",
        "OrderStatus", "OrderType", "Position", "Quote", "Side", "Signals", "Strategy", "StrategyError", "TimeInForce",
        "Trade", "param",
    ]  # fmt: skip
    assert all(hasattr(koc_qt.sdk, name) for name in koc_qt.sdk.__all__)


def test_the_sdk_is_light() -> None:
    heavy = "numpy", "pandas", "asyncio", "PySide6", "zmq", "ccxt"
    code = (
        f"import koc_qt.sdk, koc_qt.sdk.indicators, koc_qt.worker, sys; print([m for m in {heavy} if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60 * PATIENCE
    )
    assert done.stdout.strip() == "[]"


def test_a_strategy_describes_itself() -> None:
    class Cross(Strategy):
        """Buy when it rises.

        Sell when it falls.
        """

        timeframe = "5m"
        warmup_bars = 20
        fast: int = param(10, low=2)

        def on_bar(self, bar: Bar) -> None: ...

    described = describe(Cross)
    assert described.name == "Cross"
    assert described.doc == "Buy when it rises.\n\nSell when it falls."
    assert [info.name for info in described.parameters] == ["fast"]
    assert (described.timeframe, described.subscriptions) == ("5m", ("bars",))
    assert (described.instruments_wanted, described.warmup_bars) == (1, 20)
    assert describe(make(name="Nice name", on_bar=method)).name == "Nice name"
    assert describe(make(on_bar=method)).doc == ""


def test_a_started_strategy_may_have_set_its_own_warmup() -> None:
    strategy = make(on_bar=method)()
    strategy.warmup_bars = 7
    assert describe(strategy).warmup_bars == 7


@pytest.mark.parametrize(
    ("attributes", "wanted"),
    [
        ({"on_bar": method}, ("bars",)),
        ({"on_trade": method, "on_quote": method}, ("quotes", "trades")),
        ({"on_bar": method, "subscriptions": ("quotes",)}, ("bars", "quotes")),
        ({"on_timer": method}, ()),
        ({"run": coroutine}, ("bars",)),
        ({"run": coroutine, "subscriptions": ["trades"]}, ("trades",)),
    ],
)
def test_subscriptions_follow_from_what_is_overridden(attributes: dict[str, Any], wanted: tuple[str, ...]) -> None:
    assert subscriptions_of(make(**attributes)) == wanted
    assert describe(make(**attributes)).subscriptions == wanted


def test_overriding_in_a_base_class_counts() -> None:
    base = make(on_bar=method)
    derived = type("Derived", (base,), {})
    assert overrides(derived, "on_bar")
    assert not overrides(derived, "on_quote")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "Made would never do anything: it has neither run nor signals nor any of on_start, on_bar"),
        ({"on_bar": coroutine}, "Made.on_bar is async and would never be run"),
        ({"on_quote": generator}, "Made.on_quote is async and would never be run"),
        ({"run": method}, "Made.run must be written 'async def run"),
        ({"run": generator}, "Made.run must be written 'async def run"),
        ({"run": coroutine, "on_bar": method, "on_trade": method}, "Made has both run and on_bar, on_trade"),
        ({"on_bar": method, "instruments_wanted": 0}, "Made.instruments_wanted must be 1 or more, not 0"),
        ({"on_bar": method, "instruments_wanted": "2"}, "Made.instruments_wanted must be of type int, not '2'"),
        ({"on_bar": method, "warmup_bars": -1}, "Made.warmup_bars must be 0 or more, not -1"),
        ({"on_bar": method, "warmup_bars": True}, "Made.warmup_bars must be of type int, not True"),
        ({"on_bar": method, "position": param(1)}, "Made.position cannot be a parameter, for Strategy has a position"),
        ({"on_bar": method, "name": 3}, "Made.name must be of type str, not 3"),
        ({"on_bar": method, "timeframe": "1 minute"}, "Made.timeframe: '1 minute' is not a timeframe"),
        ({"on_bar": method, "subscriptions": "bars"}, "Made.subscriptions must be a tuple of some of bars, quotes"),
        ({"on_bar": method, "subscriptions": ("book",)}, "Made.subscriptions must be a tuple of some of bars, quotes"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_do(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError) as caught:
        describe(make(**attributes))
    assert message in str(caught.value)


def test_nothing_can_be_asked_before_the_run() -> None:
    class Early(Strategy):
        def __init__(self) -> None:
            self.buy(1)

    with pytest.raises(StrategyError, match="not running yet: do this in on_start"):
        Early()


async def test_the_base_class_does_nothing_by_itself() -> None:
    strategy: Any = Strategy()
    for callback in ("on_start", "on_timer", "on_stop"):
        assert getattr(strategy, callback)() is None
    for callback in ("on_bar", "on_quote", "on_trade", "on_order", "on_fill"):
        assert getattr(strategy, callback)(None) is None
    assert await strategy.run(None, None) is None
