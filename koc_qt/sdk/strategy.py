"""The class that a strategy file derives from, and how it is described to people before it runs."""

from __future__ import annotations

import inspect
from collections.abc import Collection
from typing import TYPE_CHECKING, TypeVar

from koc_qt.domain.backtests import Engine
from koc_qt.domain.errors import BadTimeframe, StrategyError
from koc_qt.domain.market import Bar, Quote, Trade
from koc_qt.domain.orders import Fill
from koc_qt.domain.timeframes import duration_ns
from koc_qt.sdk.channel import Described
from koc_qt.sdk.indicators import Indicator
from koc_qt.sdk.orders import OrderHandle
from koc_qt.sdk.parameters import parameters_of
from koc_qt.sdk.trading import AnyInstrument, Trading

if TYPE_CHECKING:
    from koc_qt.sdk.script import Api, Data
    from koc_qt.sdk.signal_trader import SignalTrader
    from koc_qt.sdk.signals import Bars, Signals

SUBSCRIPTIONS = {"bars": "on_bar", "quotes": "on_quote", "trades": "on_trade"}
CALLBACKS = ("on_start", "on_bar", "on_quote", "on_trade", "on_order", "on_fill", "on_timer", "on_stop")
_LONGEST_DOC = 4_000  # characters

I = TypeVar("I", bound=Indicator)  # noqa: E741 (the indicator that is given, whatever its class)


class Strategy(Trading):
    """Derive one class from this in a file of its own, and override the callbacks you need, or run(), or signals().

    What it is given follows from what it overrides: on_bar brings closed bars, on_quote best bids and offers, on_trade
    the venue's trades. `subscriptions` adds to that, for last_quote() in on_bar or for run(), which gets bars if it
    says nothing. `timeframe` is what the person may override; self.timeframe is what the run uses.
    """

    name: str = ""
    timeframe: str = "1m"
    instruments_wanted: int = 1
    warmup_bars: int = 0  # closed bars of history before the first live one; may be set in on_start, from parameters
    subscriptions: tuple[str, ...] = ()  # of "bars", "quotes", "trades"
    _koc_trader: SignalTrader | None = None

    def on_start(self) -> None:
        """Prepare: make indicators, set a timer. Market data has not begun."""

    def on_bar(self, bar: Bar) -> None:
        """Handle a closed bar. Where a class has signals() and no on_bar, this does what they say."""
        if self._koc_trader is not None:
            self._koc_trader.on_bar(bar)

    def on_quote(self, quote: Quote) -> None:
        """Handle a new best bid and offer."""

    def on_trade(self, trade: Trade) -> None:
        """Handle a trade of the venue, whosever it was."""

    def on_order(self, order: OrderHandle) -> None:
        """Handle a change of one of the strategy's orders. With signals(), this writes why one was rejected."""
        if self._koc_trader is not None:
            self._koc_trader.on_order(order)

    def on_fill(self, fill: Fill) -> None:
        """Handle a fill of one of the strategy's orders; position() and cash() hold it already."""

    def on_timer(self) -> None:
        """Handle the timer that set_timer() started."""

    def on_stop(self) -> None:
        """Finish. Orders are no longer taken; the engine cancels those that work, and holdings stay as they are."""

    async def run(self, api: Api, data: Data) -> None:
        """Be the whole strategy as one coroutine, instead of on_bar, on_quote and on_trade.

        It may await what `api` and `data` give, and nothing else. The strategy ends when it returns.
        """

    def signals(self, bars: Bars) -> Signals:
        """Say for all bars at once when to enter and leave, from nothing but the bars up to each.

        A class that has this needs no on_bar: what is signalled at a bar's close is ordered then, live and in
        back-tests. See koc_qt.sdk.signals for the rules.
        """
        raise StrategyError(f"{type(self).__name__} declares no signals")

    def indicator(self, indicator: I, *, instrument: AnyInstrument | None = None) -> I:
        """Declare an indicator in on_start: each bar of the instrument reaches it before on_bar, and it is given back.

        Back-tests work declared indicators out for many bars at once: ``self.fast = self.indicator(SMA(10))``, then
        ``self.fast.value``. Raises StrategyError where it is too late, or the class has run().
        """
        self._session.declare(indicator, instrument)
        return indicator

    def history(
        self, count: int, timeframe: str | None = None, *, instrument: AnyInstrument | None = None
    ) -> list[Bar]:
        """Give up to `count` closed bars of those that the strategy has seen, oldest first; the newest 5,000 are kept.

        Raises StrategyError for a timeframe other than the strategy's own: ``await api.history()`` asks the engine.
        """
        return self._session.seen_bars(count, timeframe, self._session.resolve(instrument).id)


def overrides(strategy: type[Strategy], method: str) -> bool:
    """Whether the class has a `method` of its own."""
    return getattr(strategy, method) is not getattr(Strategy, method)


def subscriptions_of(strategy: type[Strategy]) -> tuple[str, ...]:
    """Give what the class wants to be sent, of bars, quotes and trades."""
    wanted = {name for name, callback in SUBSCRIPTIONS.items() if overrides(strategy, callback)}
    wanted.update(strategy.subscriptions)
    if overrides(strategy, "signals") or (not wanted and overrides(strategy, "run")):
        wanted.add("bars")
    return tuple(name for name in SUBSCRIPTIONS if name in wanted)


def engines_of(strategy: type[Strategy]) -> tuple[Engine, ...]:
    """Give the engines that can back-test the class: none where it hears neither bars nor quotes.

    VECTORBT runs signals alone, on one instrument; whether BACKTRADER can do what the strategy orders is seen only when
    it does.
    """
    wants = subscriptions_of(strategy)
    if not {"bars", "quotes"} & set(wants):
        return ()
    suits_all = overrides(strategy, "signals") and strategy.instruments_wanted == 1 and "quotes" not in wants
    return tuple(engine for engine in Engine if suits_all or engine is not Engine.VECTORBT)


def describe(strategy: type[Strategy] | Strategy) -> Described:
    """Say what a strategy declares; a started one may have set its own warmup_bars. Raises StrategyError.

    The error says what to change where the class cannot work as it is written.
    """
    cls = strategy if isinstance(strategy, type) else type(strategy)
    _check_methods(cls)
    _check_parameters(cls)
    _check_declarations(strategy, cls.__name__)
    return Described(
        name=strategy.name or cls.__name__,
        doc=inspect.cleandoc(cls.__doc__ or "")[:_LONGEST_DOC],
        parameters=tuple(parameter.info() for parameter in parameters_of(cls).values()),
        timeframe=strategy.timeframe,
        subscriptions=subscriptions_of(cls),
        instruments_wanted=strategy.instruments_wanted,
        warmup_bars=strategy.warmup_bars,
        engines=engines_of(cls),
    )


def _check_methods(cls: type[Strategy]) -> None:
    name = cls.__name__
    for callback in (*CALLBACKS, "signals"):
        method = getattr(cls, callback)
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise StrategyError(f"{name}.{callback} is async and would never be run: only run() may be async")
    if overrides(cls, "run"):
        if not inspect.iscoroutinefunction(cls.run):
            raise StrategyError(f"{name}.run must be written 'async def run(self, api, data)', without yield")
        if both := [callback for callback in (*SUBSCRIPTIONS.values(), "signals") if overrides(cls, callback)]:
            raise StrategyError(
                f"{name} has both run and {', '.join(both)}: data brings run() the same events, keep one"
            )
    elif not any(overrides(cls, callback) for callback in (*CALLBACKS, "signals")):
        has_none = f"it has neither run nor signals nor any of {', '.join(CALLBACKS)}"
        raise StrategyError(f"{name} would never do anything: {has_none}")


def _check_parameters(cls: type[Strategy]) -> None:
    for parameter in parameters_of(cls):
        if hasattr(Strategy, parameter):
            raise StrategyError(
                f"{cls.__name__}.{parameter} cannot be a parameter, for Strategy has a {parameter} itself"
            )


def _check_declarations(strategy: type[Strategy] | Strategy, name: str) -> None:
    for attribute, kind in (("name", str), ("timeframe", str), ("instruments_wanted", int), ("warmup_bars", int)):
        value = getattr(strategy, attribute)
        if type(value) is not kind:
            raise StrategyError(f"{name}.{attribute} must be of type {kind.__name__}, not {value!r}")
    if strategy.instruments_wanted < 1:
        raise StrategyError(f"{name}.instruments_wanted must be 1 or more, not {strategy.instruments_wanted}")
    if strategy.warmup_bars < 0:
        raise StrategyError(f"{name}.warmup_bars must be 0 or more, not {strategy.warmup_bars}")
    try:
        duration_ns(strategy.timeframe)
    except BadTimeframe as error:
        raise StrategyError(f"{name}.timeframe: {error}") from None
    wanted: Collection[str] = strategy.subscriptions  # an author may have written a str or a list
    if isinstance(wanted, str) or not set(wanted) <= set(SUBSCRIPTIONS):
        raise StrategyError(
            f"{name}.subscriptions must be a tuple of some of {', '.join(SUBSCRIPTIONS)}, not {wanted!r}"
        )
