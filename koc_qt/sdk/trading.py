"""What a strategy can do and ask: the same on `self` in callbacks and on `api` in run()."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING

import msgspec

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Quote, Side
from koc_qt.domain.orders import TimeInForce
from koc_qt.sdk.orders import Number, OrderHandle, smallest_quantity, to_decimal

if TYPE_CHECKING:
    from koc_qt.sdk.session import Session

_BUY, _SELL = Side.BUY, Side.SELL

AnyInstrument = Instrument | InstrumentId | str


class Position(msgspec.Struct, frozen=True):
    """A holding at one moment: signed `quantity` in base units, prices and PnL in quote currency.

    `unrealised_pnl` is marked to the newest quote's mid, trade or bar; 0 while none has been seen.
    """

    instrument: InstrumentId
    quantity: Decimal
    average_price: Decimal | None
    realised_pnl: Decimal
    unrealised_pnl: Decimal
    fees: Decimal

    @property
    def pnl(self) -> Decimal:
        """Realised and unrealised profit after fees."""
        return self.realised_pnl + self.unrealised_pnl - self.fees

    @property
    def is_flat(self) -> bool:
        """Whether nothing is held."""
        return not self.quantity


class Log:
    """Lines for the strategy's log, shown by the engine and the window."""

    def __init__(self, session: Session) -> None:
        self._write = session.context.log

    def debug(self, text: object) -> None:
        """Write detail that is of use while developing."""
        self._write("DEBUG", str(text))

    def info(self, text: object) -> None:
        """Write what happens in the ordinary course."""
        self._write("INFO", str(text))

    def warning(self, text: object) -> None:
        """Write what a person should look at."""
        self._write("WARNING", str(text))

    def error(self, text: object) -> None:
        """Write what went wrong."""
        self._write("ERROR", str(text))


class Trading:
    """Orders, positions, history, log and clock of the run. An instrument may be given as itself, its id or its text.

    Without one, the first instrument that the strategy was started on is meant.
    """

    _koc_session: Session | None = None

    @property
    def _session(self) -> Session:
        if self._koc_session is None:
            raise StrategyError("the strategy is not running yet: do this in on_start or later, not in __init__")
        return self._koc_session

    # ---- orders

    def buy(
        self,
        quantity: Number,
        *,
        instrument: AnyInstrument | None = None,
        price: Number | None = None,
        stop: Number | None = None,
        time_in_force: TimeInForce | str = TimeInForce.GTC,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> OrderHandle:
        """Buy `quantity` base units: at the market, at `price` or better, or once the market reaches `stop`.

        Quantity is rounded down to the lot, prices to the tick. Raises InvalidOrder when that leaves nothing.
        """
        session = self._koc_session or self._session
        return session.submit(_BUY, quantity, instrument, price, stop, time_in_force, post_only, reduce_only)

    def sell(
        self,
        quantity: Number,
        *,
        instrument: AnyInstrument | None = None,
        price: Number | None = None,
        stop: Number | None = None,
        time_in_force: TimeInForce | str = TimeInForce.GTC,
        post_only: bool = False,
        reduce_only: bool = False,
    ) -> OrderHandle:
        """Sell `quantity` base units, as buy() does."""
        session = self._koc_session or self._session
        return session.submit(_SELL, quantity, instrument, price, stop, time_in_force, post_only, reduce_only)

    def cancel(self, order: OrderHandle) -> None:
        """Ask for the rest of an order not to be filled. It is over when `order.is_open` turns false."""
        self._session.cancel(order)

    def amend(self, order: OrderHandle, quantity: Number | None = None, *, price: Number | None = None) -> bool:
        """Ask for another total quantity, filled part included, or another limit of a working order.

        It has them once `order.quantity` and `order.price` say so; a refusal is in `order.reason`. Less quantity at the
        same price keeps the order's place in the queue. Rounded as buy() does. Returns False, nothing asked, while the
        order is not known to the engine, another change or a cancel is on its way, or it is over. Raises InvalidOrder.
        """
        return self._session.amend(order, quantity, price)

    def cancel_all(self, instrument: AnyInstrument | None = None) -> None:
        """Cancel every open order of this strategy, or those of one instrument."""
        wanted = None if instrument is None else self._session.resolve(instrument).id
        for order in self.open_orders:
            if wanted is None or order.instrument == wanted:
                self.cancel(order)

    def close_position(self, instrument: AnyInstrument | None = None) -> OrderHandle | None:
        """Sell what is held, or buy back what is owed, at the market. None when there is not a whole lot to close."""
        session = self._koc_session or self._session
        rules = session.resolve(instrument)
        held = session.slots[rules.id].holding.quantity
        if held.copy_abs() < rules.lot_size:
            return None
        close = self.sell if held > 0 else self.buy
        return close(held.copy_abs(), instrument=rules, reduce_only=True)

    @property
    def open_orders(self) -> list[OrderHandle]:
        """The strategy's orders that may still be filled, oldest first; those of an earlier run among them."""
        return (self._koc_session or self._session).open_orders()

    # ---- what there is

    @property
    def instruments(self) -> tuple[Instrument, ...]:
        """What the strategy was started on, in the person's order."""
        return self._session.instruments

    @property
    def instrument(self) -> Instrument:
        """The first instrument."""
        return self._session.instruments[0]

    def position(self, instrument: AnyInstrument | None = None) -> Position:
        """What this strategy holds now."""
        return self._session.position(instrument)

    def holding(self, instrument: AnyInstrument | None = None) -> Decimal:
        """Give the signed quantity that this strategy holds now, in base units: position().quantity, but quicker."""
        session = self._koc_session or self._session
        return (session.first if instrument is None else session.slot(instrument)).holding.quantity

    def cash(self, currency: str | None = None) -> Decimal:
        """Give the account's free money in `currency`, by default the first instrument's quote currency; 0 if none."""
        return self._session.cash.get(currency or self.instrument.quote, Decimal(0))

    def last_quote(self, instrument: AnyInstrument | None = None) -> Quote | None:
        """Give the newest best bid and offer; None before the first (only when subscribed to quotes)."""
        return self._session.slot(instrument).quote

    def last_price(self, instrument: AnyInstrument | None = None) -> Decimal | None:
        """Give the newest quote's mid, trade's price or bar's close, whichever came last; None before the first."""
        session = self._session
        return session.mark(session.slot(instrument))

    def smallest_quantity(self, price: Number, *, instrument: AnyInstrument | None = None) -> Decimal:
        """Give the least quantity, in whole lots, that the venue's rules let trade at `price`.

        A holding below it cannot be sold alone: treat it as nothing.
        """
        return smallest_quantity(self._session.resolve(instrument), to_decimal(price, "price"))

    # ---- telling people

    @property
    def log(self) -> Log:
        """The strategy's log."""
        return self._session.log

    def metric(self, name: str, value: float) -> None:
        """Show a number beside the strategy; of one name only the newest counts."""
        (self._koc_session or self._session).context.metric(name, float(value))

    # ---- time and chance

    @property
    def time_ns(self) -> int:
        """The time of the run, UTC nanoseconds since 1970; a back-test has its own."""
        return self._session.context.time_ns

    def set_timer(self, seconds: float | None) -> None:
        """Have on_timer called every `seconds` from now on; None stops it. Missed calls are not made up for."""
        self._session.set_timer(seconds)

    @property
    def random(self) -> Random:
        """Random numbers that are the same again when the run is repeated."""
        return self._session.random

    @property
    def warming_up(self) -> bool:
        """Whether history is being replayed: indicators fill, and every order is rejected."""
        return (self._koc_session or self._session).warming_up
