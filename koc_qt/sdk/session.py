"""One run of one strategy: keeps what it may ask, calls it back, steps its script.

Whoever runs strategies (the worker, a back-test) makes a Session over a Context and tells it what happens, in order and
from one thread. Whatever the strategy raises comes out of the method that called it. The host calls on_time() once
`next_deadline_ns` has come, and stop() at the end, or leaves off without it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from decimal import Decimal
from itertools import islice, repeat
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

from koc_qt.domain.errors import BadTimeframe, StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Bar, Quote, Side, Trade
from koc_qt.domain.orders import Fill, Order, TimeInForce
from koc_qt.domain.timeframes import duration_ns
from koc_qt.sdk.channel import PositionState
from koc_qt.sdk.context import Context
from koc_qt.sdk.indicators import Indicator
from koc_qt.sdk.indicators._base import Stretch, lines_of
from koc_qt.sdk.orders import MarketRequests, Number, OrderHandle, amended, build_request, to_decimal
from koc_qt.sdk.script import Api, Data, MarketData, Script
from koc_qt.sdk.signal_trader import SignalTrader
from koc_qt.sdk.strategy import Strategy, overrides
from koc_qt.sdk.trading import AnyInstrument, Log, Position

if TYPE_CHECKING:
    from koc_qt.sdk.indicators._base import Floats

HISTORY_LIMIT = 5_000  # bars kept an instrument, and asked for at once: they fit one frame of the channel
_ZERO = Decimal(0)
_GTC = TimeInForce.GTC
CLOSED_ORDERS_KEPT = 1_000  # for updates and fills that come after an order was closed


def _refuse_update(*_: object) -> NoReturn:
    raise StrategyError("a declared indicator is told of each bar by itself: read its value, and do not call update()")


def _checked(count: int) -> int:
    if not 1 <= count <= HISTORY_LIMIT:
        raise StrategyError(f"history has 1 to {HISTORY_LIMIT} bars, not {count}")
    return count


class Slot:
    """What is known of one instrument."""

    __slots__ = ("bars", "holding", "indicators", "newest", "position", "quote")

    def __init__(self, instrument: InstrumentId) -> None:
        self.bars: deque[Bar] = deque(maxlen=HISTORY_LIMIT)
        self.newest: MarketData | None = None
        self.quote: Quote | None = None
        self.holding = PositionState(instrument, _ZERO, None, _ZERO, _ZERO)
        self.position: Position | None = None  # the holding at the newest price, once it was asked for
        self.indicators: list[Indicator] = []  # which are told of each bar before the strategy is


class _Slots(dict[InstrumentId, Slot]):
    def __missing__(self, instrument: InstrumentId) -> Slot:
        slot = self[instrument] = Slot(instrument)
        return slot


class HistoryAnswer:
    """A question for history, and its answer when it has come."""

    def __init__(self, request_id: int) -> None:
        self.request_id = request_id
        self.bars: list[Bar] | None = None
        self.error = ""

    def is_there(self) -> bool:
        """Whether it was answered."""
        return self.bars is not None or bool(self.error)


class Session:
    """The state of one run. Times are UTC nanoseconds; `cash` maps currencies to free amounts, and stays as it is."""

    def __init__(
        self,
        strategy: Strategy,
        context: Context,
        *,
        instruments: Sequence[Instrument],
        timeframe: str,
        cash: Mapping[str, Decimal],
        positions: Iterable[PositionState] = (),
        open_orders: Iterable[Order] = (),
        seed: int = 0,
    ) -> None:
        wanted = strategy.instruments_wanted
        if len(instruments) != wanted:
            given = ", ".join(str(instrument.id) for instrument in instruments) or "none"
            raise StrategyError(f"{type(strategy).__name__} wants {wanted} instrument(s) and was given {given}")
        self.context = context
        self.instruments = tuple(instruments)
        self.cash = cash
        self.random = Random(seed)  # noqa: S311 (repeatable on purpose)
        self.log = Log(self)
        self._strategy = strategy
        self._rules = {instrument.id: instrument for instrument in instruments}
        self._at_market = {instrument.id: MarketRequests(instrument) for instrument in instruments}
        self.slots = _Slots()
        self.first = self.slots[self.instruments[0].id]
        for position in positions:
            self.slots[position.instrument].holding = position
        self._open: dict[int, OrderHandle] = {}  # by request id; orders of an earlier worker below zero
        self._closed: dict[int, OrderHandle] = {}
        self._earlier: dict[str, int] = {}  # client order id to key
        self._answers: dict[int, HistoryAnswer] = {}
        self._last_request = 0
        self.timer_ns: int | None = None  # when on_timer is due
        self._timer_interval_ns = 0
        self._replaying: bool | None = None  # None: nothing was seen yet
        self._data = Data(self)
        self._script: Script | None = None
        for order in open_orders:
            self._earlier[order.client_order_id] = key = -1 - len(self._earlier)
            self._open[key] = OrderHandle.of_earlier_worker(order)
        has_signals = overrides(type(strategy), "signals") and not overrides(type(strategy), "on_bar")
        self.signal_trader = strategy._koc_trader = SignalTrader(strategy) if has_signals else None
        self.hears_orders = self.signal_trader is not None or overrides(type(strategy), "on_order")
        strategy.timeframe = timeframe
        strategy._koc_session = self

    # ---- what the host tells

    def start(self) -> None:
        """Call on_start, and run() up to its first wait."""
        self._strategy.on_start()
        self.hears_orders |= "on_order" in vars(self._strategy)
        if overrides(type(self._strategy), "run"):
            self._script = Script(self._strategy.run(Api(self), self._data))
            self._step()

    def on_bar(self, bar: Bar, *, warmup: bool = False) -> None:
        """Tell of a closed bar; `warmup` marks replayed history."""
        self._replaying = warmup
        slot = self.slots[bar.instrument]
        slot.newest = bar
        slot.bars.append(bar)
        for indicator in slot.indicators:
            type(indicator).update(indicator, bar)
        if self._script is None:
            self._strategy.on_bar(bar)
        else:
            self._feed_script(bar, warmup)

    def teller(self, instrument: InstrumentId) -> Callable[[Bar], None]:
        """Give what tells of bars after the warm-up, as on_bar does, once the caller has advanced the indicators."""
        if self._script is not None:
            return self.on_bar
        self._replaying = False
        slot, strategy = self.slots[instrument], self._strategy
        keep = slot.bars.append

        def tell(bar: Bar) -> None:
            slot.newest = bar
            keep(bar)
            strategy.on_bar(bar)

        return tell

    def tell_on(self, instrument: InstrumentId, steps: Iterable[tuple[Any, ...]], asked: Sized) -> bool:
        """Tell of bars, the first of each of `steps`, as `teller` does, until the strategy has `asked` or set a timer.

        Whether it did. For callbacks alone, and nothing in it that is not needed for every bar.
        """
        slot, strategy = self.slots[instrument], self._strategy
        keep = slot.bars.append
        self._replaying = False
        for step in steps:
            slot.newest = bar = step[0]
            keep(bar)
            strategy.on_bar(bar)
            if asked or self.timer_ns is not None:
                return True
        return False

    def advances(
        self, instrument: InstrumentId, bars: Sequence[Bar], close: Sequence[float], array: Floats | None = None
    ) -> list[Iterator[object]]:
        """Give what brings declared indicators from bar to bar: each needs one step before its bar is told.

        `array` holds the closes too, where somebody has made it.
        """
        indicators = self.slots[instrument].indicators
        if not indicators:
            return []
        stretch = Stretch(bars, close, array)
        if not stretch.is_finite:  # update() says so when it comes to that bar
            return [map(type(indicator).update, repeat(indicator), bars) for indicator in indicators]
        steps: list[Iterator[object]] = []
        for indicator in indicators:
            present = [getattr(indicator, name) for name in indicator.lines]
            lines = lines_of(indicator, stretch)
            for name, value, line in zip(indicator.lines, present, lines, strict=True):
                setattr(indicator, name, value)  # what is to come is not known before its bar
                steps.append(map(setattr, repeat(indicator), repeat(name), line))
        return steps

    def on_quote(self, quote: Quote) -> None:
        """Tell of a new best bid and offer."""
        self._replaying = False
        slot = self.slots[quote.instrument]
        slot.newest = slot.quote = quote
        if self._script is None:
            self._strategy.on_quote(quote)
        else:
            self._feed_script(quote)

    def on_trade(self, trade: Trade) -> None:
        """Tell of a trade on the venue."""
        self._replaying = False
        self.slots[trade.instrument].newest = trade
        if self._script is None:
            self._strategy.on_trade(trade)
        else:
            self._feed_script(trade)

    def on_order_update(self, request_id: int, order: Order | None, reason: str = "") -> None:
        """Tell how an order changed; without an order, that the request was refused, and why."""
        handle = self._open.get(request_id)
        if handle is None:
            handle = self._find(request_id, "" if order is None else order.client_order_id)
            if handle is None:
                return  # closed long ago
        if order is None:
            handle.reject(reason)
        else:
            wanted = handle.cancel_requested and not handle.client_order_id
            handle.update(order)
            if wanted and handle.is_open:
                self.cancel(handle)
        if handle.status.is_terminal and not handle.is_open:
            self._file(handle)
        if self.hears_orders:
            self._strategy.on_order(handle)
        if self._script is not None:
            self._step()

    def on_whole_fill(self, request_id: int, fill: Fill, position: PositionState, cash: Mapping[str, Decimal]) -> None:
        """Tell that a fill has executed all of a working order at once: on_order_update and on_fill in one."""
        handle = self._open[request_id]
        handle.execute(fill)
        if self.hears_orders:
            self._strategy.on_order(handle)
        if self._script is not None:
            self._step()
        self.on_fill(request_id, fill, position, cash)

    def on_fill(self, request_id: int, fill: Fill, position: PositionState, cash: Mapping[str, Decimal]) -> None:
        """Tell of a fill, with the holding and the cash after it. A fill that is told twice counts once."""
        handle = self._open.get(request_id) or self._find(request_id, fill.client_order_id)
        slot = self.slots[position.instrument]
        slot.holding, slot.position = position, None
        self.cash = cash
        if handle is not None:
            if not handle.add_fill(fill):
                return
            if not handle.is_open:
                self._file(handle)
        self._strategy.on_fill(fill)
        if self._script is not None:
            self._step()

    def on_history(self, request_id: int, bars: Sequence[Bar], error: str = "") -> None:
        """Answer request_history; what nobody waits for any more is ignored."""
        answer = self._answers.pop(request_id, None)
        if answer is not None:
            answer.bars, answer.error = list(bars), error
            self._step()

    def on_time(self, now_ns: int) -> None:
        """Tell that time has passed: calls on_timer and steps run() where they are due."""
        if self.timer_ns is not None and now_ns >= self.timer_ns:
            due_ns = self.timer_ns + self._timer_interval_ns
            self.timer_ns = due_ns if due_ns > now_ns else now_ns + self._timer_interval_ns
            self._strategy.on_timer()
        self._step(now_ns)

    def stop(self) -> None:
        """End run() where it stands, then call on_stop."""
        try:
            if self._script is not None:
                self._script.close()
        finally:
            self._strategy.on_stop()

    @property
    def finished(self) -> bool:
        """Whether run() has returned: nothing more will come of this strategy."""
        return self._script is not None and self._script.finished

    @property
    def next_deadline_ns(self) -> int | None:
        """When on_time() is wanted at the latest; None when only events matter."""
        timer_ns = self.timer_ns
        script_ns = None if self._script is None else self._script.deadline_ns
        if timer_ns is None or script_ns is None:
            return script_ns if timer_ns is None else timer_ns
        return min(timer_ns, script_ns)

    # ---- what the strategy asks

    def resolve(self, instrument: AnyInstrument | None) -> Instrument:
        """Give the rules of what the strategy means. Raises StrategyError for what it was not started on."""
        if instrument is None:
            return self.instruments[0]
        if isinstance(instrument, str):
            matches = [own for own in self.instruments if instrument in (str(own.id), own.id.symbol)]
            if len(matches) > 1:
                raise StrategyError(f"{instrument} is traded on several venues here: write VENUE:{instrument}")
            found = matches[0] if matches else None
        else:
            found = self._rules.get(instrument.id if isinstance(instrument, Instrument) else instrument)
        if found is None:
            has = ", ".join(str(own.id) for own in self.instruments)
            name = instrument.id if isinstance(instrument, Instrument) else instrument
            raise StrategyError(f"the strategy was started on {has}, not on {name}")
        return found

    def submit(
        self,
        side: Side,
        quantity: Number,
        instrument: AnyInstrument | None,
        price: Number | None,
        stop: Number | None,
        time_in_force: TimeInForce | str,
        post_only: bool,
        reduce_only: bool,
    ) -> OrderHandle:
        """Place an order. Raises InvalidOrder; during warm-up the handle is rejected and nothing is sent."""
        rules = self.instruments[0]
        if instrument is not None and instrument is not rules:
            rules = self.resolve(instrument)
        if price is None and stop is None and time_in_force is _GTC and not post_only:
            request = self._at_market[rules.id].build(side, quantity, reduce_only)
        else:
            request = build_request(rules, side, quantity, price, stop, time_in_force, post_only, reduce_only)
        if self._replaying is not False and self.warming_up:
            handle = OrderHandle(request, 0)
            handle.reject("the strategy is warming up on history: no order is sent before live data")
            return handle
        self._last_request += 1
        handle = self._open[self._last_request] = OrderHandle(request, self._last_request)
        self.context.submit(handle.request_id, request)
        return handle

    def cancel(self, handle: OrderHandle) -> None:
        """Ask for a cancel, as soon as the engine has given the order an id; once until it is refused."""
        if not handle.is_open or (handle.cancel_requested and not handle.client_order_id):
            return
        already = handle.cancel_requested
        handle.cancel_requested = True
        if handle.client_order_id and not already:
            self.context.cancel(handle.client_order_id)

    def amend(self, handle: OrderHandle, quantity: Number | None, price: Number | None) -> bool:
        """Ask for another total quantity or limit; False where that cannot be asked now. Raises InvalidOrder."""
        request = amended(self.resolve(handle.instrument), handle.request, quantity, price)
        is_busy = handle.cancel_requested or handle.amend_requested or not handle.client_order_id
        if is_busy or not handle.is_open or request == handle.request:
            return False
        handle.amend_requested = True
        self.context.amend(handle.client_order_id, request.quantity, request.price)
        return True

    def open_orders(self) -> list[OrderHandle]:
        """Give the orders that may still be filled, oldest first."""
        return list(self._open.values())

    def slot(self, instrument: AnyInstrument | None) -> Slot:
        """Give what is known of an instrument. Raises StrategyError for what the strategy was not started on."""
        return self.first if instrument is None else self.slots[self.resolve(instrument).id]

    def holding(self, instrument: InstrumentId) -> PositionState:
        """Give what is held, as the engine said it last."""
        return self.slots[instrument].holding

    def position(self, instrument: AnyInstrument | None) -> Position:
        """Give what is held, marked to the newest price."""
        slot = self.slot(instrument)
        held, known = slot.holding, slot.position
        if known is not None and not held.quantity:
            return known  # of nothing, the price makes no difference
        unrealised = _ZERO
        if held.average_price is not None and (mark := self.mark(slot)) is not None:
            unrealised = (mark - held.average_price) * held.quantity
        slot.position = position = Position(
            held.instrument, held.quantity, held.average_price, held.realised_pnl, unrealised, held.fees
        )
        return position

    def declare(self, indicator: Indicator, instrument: AnyInstrument | None) -> None:
        """Let an indicator be told of each bar before the strategy is. Raises StrategyError."""
        name = type(indicator).__name__
        if not isinstance(indicator, Indicator):
            raise StrategyError(
                f"indicator() takes one of koc_qt.sdk.indicators, or a class derived from Indicator, not {name}"
            )
        if overrides(type(self._strategy), "run"):
            raise StrategyError("indicator() is for on_bar: in run(), call its update(bar) with each bar that you get")
        if self._replaying is not None:
            raise StrategyError(f"declare {name} in on_start: bars have come already")
        if any(indicator is known for slot in self.slots.values() for known in slot.indicators):
            raise StrategyError(f"this {name} was declared already: make another")
        self.slot(instrument).indicators.append(indicator)
        setattr(indicator, "update", _refuse_update)  # noqa: B010 (it shadows a method)

    def mark(self, slot: Slot) -> Decimal | None:
        """Give the newest price that was seen."""
        newest = slot.newest
        if newest is None:
            return None
        if isinstance(newest, Quote):
            return newest.mid
        return newest.price if isinstance(newest, Trade) else to_decimal(newest.close)

    def seen_bars(self, count: int, timeframe: str | None, instrument: InstrumentId) -> list[Bar]:
        """Give up to `count` of the newest bars that were seen, oldest first."""
        if timeframe not in (None, self._strategy.timeframe):
            raise StrategyError(
                f"history() has the bars that the strategy sees ({self._strategy.timeframe}), none of {timeframe}: "
                f"use 'await api.history()' in run(), or start the strategy with timeframe {timeframe}"
            )
        newest_first = list(islice(reversed(self.slots[instrument].bars), _checked(count)))
        return newest_first[::-1]

    def request_history(self, count: int, timeframe: str | None, instrument: InstrumentId) -> HistoryAnswer:
        """Ask the engine for the last `count` closed bars."""
        count, timeframe = _checked(count), timeframe or self._strategy.timeframe
        try:
            duration_ns(timeframe)
        except BadTimeframe as error:
            raise StrategyError(str(error)) from None
        self._last_request += 1
        answer = self._answers[self._last_request] = HistoryAnswer(self._last_request)
        self.context.request_history(answer.request_id, instrument, timeframe, count)
        return answer

    def take_history(self, answer: HistoryAnswer) -> list[Bar]:
        """Give what was answered. Raises StrategyError when that is an error, or nothing yet."""
        self._answers.pop(answer.request_id, None)
        if answer.error or answer.bars is None:
            raise StrategyError(f"no history: {answer.error or 'the engine did not answer in time'}")
        return answer.bars

    def set_timer(self, seconds: float | None) -> None:
        """Start the timer anew, or stop it."""
        if seconds is None:
            self.timer_ns = None
            return
        if not seconds > 0:
            raise StrategyError(f"a timer's seconds must be above zero, not {seconds}; None stops it")
        self._timer_interval_ns = max(1, round(seconds * 1e9))
        self.timer_ns = self.context.time_ns + self._timer_interval_ns

    @property
    def warming_up(self) -> bool:
        """Whether history is being replayed, or is about to be."""
        return self._strategy.warmup_bars > 0 if self._replaying is None else self._replaying

    def set_warming_up(self, warmup: bool) -> None:
        """Note that the script handles an event which it took from its buffer."""
        self._replaying = warmup

    # ---- inside

    def _feed_script(self, event: MarketData, warmup: bool = False) -> None:
        self._data.push(event, warmup)
        self._step()

    def _step(self, now_ns: int | None = None) -> None:
        if self._script is not None:
            self._script.step(self.context.time_ns if now_ns is None else now_ns)

    def _find(self, request_id: int, client_order_id: str) -> OrderHandle | None:
        key = request_id or self._earlier.get(client_order_id, 0)
        return self._open.get(key) or self._closed.get(key)

    def _file(self, handle: OrderHandle) -> None:
        """Put an order that is over where it is in nobody's way."""
        key = handle.request_id or self._earlier[handle.client_order_id]
        if self._open.pop(key, None) is not None:
            self._closed[key] = handle
            if len(self._closed) > CLOSED_ORDERS_KEPT:
                del self._closed[next(iter(self._closed))]
