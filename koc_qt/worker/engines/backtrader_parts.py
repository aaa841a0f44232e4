"""What backtrader lets others put in place of its own: a feed, a broker, fees, and a strategy that stands for ours.

The broker keeps backtrader's cash, positions and orders and executes them by its own methods. In two things it is told
more than it asks for by itself. Its rules for limits are those of an order that arrives with the bar; one that rests
already is not filled by a price that only touches it, and where the bar opens beyond it, it is filled at its own price
and not at a better one, for it was there first. And it looks at orders in the order in which they came: here it is
shown them as the path through the bar comes to them, and only those of an instrument that has a new bar.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any

from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.worker.engines.backtrader_account import BacktraderVenue, Kind, Work

if TYPE_CHECKING:
    from koc_qt.sdk.signals import Bars

_DAY_S = 86_400
_EPOCH_DAYS = 719_163  # backtrader counts days from the year 1, as datetime's ordinals do
_LOADED_AT_ONCE = 10_000  # bars
_SPARE = 1e-6  # of the cash


def make_feed(library: Any, row: int, columns: Bars, begin: int, pause: Callable[[], object]) -> Any:
    """Give backtrader an instrument's columns from a row of them on, which it loads before it begins."""
    days = columns.time_ns[begin:] / 10**9 / _DAY_S + _EPOCH_DAYS
    prices = (columns.open, columns.high, columns.low, columns.close, columns.volume)
    parts = [days.data, *(column[begin:].data for column in prices)]

    class Feed(library.feed.DataBase):  # type: ignore[misc]
        """Bars as columns; `instrument_row` is the number of the instrument in the run."""

        instrument_row = row

        def start(self) -> None:
            super().start()
            self._rows = zip(*parts, strict=True)

        def _load(self) -> bool:
            values = next(self._rows, None)
            if values is None:
                return False
            if not len(self) % _LOADED_AT_ONCE:
                pause()
            lines = self.lines
            lines.datetime[0], lines.open[0], lines.high[0], lines.low[0], lines.close[0], lines.volume[0] = values
            lines.openinterest[0] = 0.0
            return True

    return Feed()


def make_broker(library: Any, venues: Sequence[BacktraderVenue], cash: float) -> Any:
    """Give a broker of backtrader's for the orders of these accounts, one a row; it has the cash of all."""

    class Fees(library.CommInfoBase):  # type: ignore[misc]
        """A fraction of the notional, which whoever makes and whoever takes may pay at different rates."""

        params = (("stocklike", True), ("commtype", library.CommInfoBase.COMM_PERC), ("percabs", True))
        rate = 0.0

        def _getcommission(self, size: float, price: float, pseudoexec: bool) -> float:
            return abs(size) * price * self.rate

    fees, spare = Fees(), cash * _SPARE

    def account(order: Any) -> BacktraderVenue:
        row: int = order.data.instrument_row
        return venues[row]

    class Broker(library.brokers.BackBroker):  # type: ignore[misc]
        """Executes orders as the path through a bar comes to them. `moment` is what has a new bar: set it first."""

        pending: deque[Any]
        _venue: BacktraderVenue
        _work: Work

        def __init__(self) -> None:
            super().__init__()
            self.moment: list[tuple[int, Bar]] = []

        def next(self) -> None:
            if not self.pending:
                super().next()
                return
            waiting = list(self.pending)
            for row, bar in self.moment:
                own = [order for order in waiting if order.data.instrument_row == row]
                self.pending = deque(venues[row].begin(bar, own))
                super().next()
                waiting = [order for order in waiting if order.data.instrument_row != row] + list(self.pending)
                venues[row].end(bar)
            self.pending = deque(waiting)

        def notify(self, order: Any) -> None:
            super().notify(order)
            account(order).hear(self.notifs[-1], library.Order)

        def fill(self, order: Any, price: float, ago: int) -> float:
            """Fill as much as there is for it; how backtrader asks, which then charges the fee."""
            venue = account(order)
            fees.rate = venue.rate(venue.work(order))
            return venue.grant(order, price)

        def _execute(self, order: Any, *args: Any, **changes: Any) -> Any:
            """Execute it with a little more cash: what the account just suffices for must not fail by a rounding."""
            self.cash += spare
            try:
                return super()._execute(order, *args, **changes)
            finally:
                self.cash -= spare

        def _try_exec(self, order: Any) -> None:
            venue = account(order)
            self._venue, self._work = venue, venue.work(order)
            super()._try_exec(order)
            if order.exectype == library.Order.Stop and self._work.takes:
                order.exectype = library.Order.Market  # it has gone off: what is left takes what comes
            if venue.settle(order) and order.alive():
                order.cancel()
                self.notify(order)

        def _try_exec_limit(self, order: Any, popen: float, phigh: float, plow: float, plimit: float) -> None:
            work, is_buy = self._work, order.isbuy()
            if work.takes:
                work.takes = False
                if plimit >= popen if is_buy else plimit <= popen:
                    super()._try_exec_limit(order, popen, phigh, plow, plimit)
                    return
                if work.order.is_immediate:
                    return
            work.is_maker = True
            if is_buy:
                super()._try_exec_limit(order, inf, phigh, plow if plow < plimit else inf, plimit)
            else:
                super()._try_exec_limit(order, -inf, phigh if phigh > plimit else -inf, plow, plimit)

        def _slip_up(self, pmax: float, price: float, doslip: bool = True, lim: bool = False) -> float:
            return self._venue.slipped(self._work, price)

        _slip_down = _slip_up

    broker = Broker()
    broker.setcash(cash)
    broker.set_checksubmit(False)  # the accounts have looked at each order
    broker.set_filler(broker.fill)
    broker.addcommissioninfo(fees)
    return broker


def make_bridge(
    library: Any,
    venues: Sequence[BacktraderVenue],
    bars: Sequence[Sequence[Bar]],
    opened: Callable[[list[tuple[int, Bar]]], None],
    closed: Callable[[list[tuple[int, Bar]], float], None],
) -> Any:
    """Give a strategy of backtrader's that stands for ours, told when `bars`, by row, open and close.

    `closed` is also told what backtrader's account is worth then.
    """

    class Bridge(library.Strategy):  # type: ignore[misc]
        """Tells of opens and closes, and hands on orders."""

        def start(self) -> None:
            self._seen = dict.fromkeys((data.instrument_row for data in self.datas), 0)
            self._moment: list[tuple[int, Bar]] = []
            self._feeds = {bars[data.instrument_row][0].instrument: data for data in self.datas}
            for venue in venues:
                venue.place, venue.withdraw = self._place, self.broker.cancel

        def next_open(self) -> None:
            self._moment = []
            for data in self.datas:
                row, count = data.instrument_row, len(data)
                if count > self._seen[row]:
                    self._seen[row] = count
                    self._moment.append((row, bars[row][count - 1]))
            self.broker.moment = self._moment
            opened(self._moment)

        def next(self) -> None:
            closed(self._moment, self.broker.getvalue())

        prenext_open = nextstart_open = next_open  # which backtrader calls until all feeds have begun
        prenext = nextstart = next

        def _place(self, key: InstrumentId, kind: Kind, is_buy: bool, size: float, price: float | None) -> Any:
            place = self.buy if is_buy else self.sell
            return place(data=self._feeds[key], size=size, price=price, exectype=getattr(library.Order, kind.value))

    return Bridge
