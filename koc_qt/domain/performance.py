"""How good a run was: statistics of an equity curve and of its trades, and the trades made of fills.

Conventions, the same for all: money is in quote currency, times are UTC nanoseconds, a year has 365.25 days and the
risk-free rate is 0. A period is the step from one point of the equity curve to the next; the number of periods a year
is that of the curve itself (its steps over its length in years), so that markets which close at night are annualised
by the bars that they have. A value is None where there is too little to say.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from enum import StrEnum
from itertools import pairwise

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.exact import EXACT, quotient
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS

YEAR_NS = 365.25 * DAY_NS
_SHORTEST_YEARLY_NS = DAY_NS  # what happened within a day says nothing about a year
_NOISE = 1e-9  # a deviation below this share of the mean is what rounding leaves of none at all
_ZERO = Decimal(0)


class Unit(StrEnum):
    """How a statistic is to be shown."""

    AMOUNT = "amount"  # in quote currency
    FRACTION = "fraction"  # 0.05 is 5 %
    RATIO = "ratio"  # a plain number
    COUNT = "count"
    SECONDS = "seconds"


STATISTICS: Mapping[str, Unit] = {
    "final_equity": Unit.AMOUNT,
    "net_profit": Unit.AMOUNT,
    "return": Unit.FRACTION,
    "buy_and_hold": Unit.FRACTION,
    "cagr": Unit.FRACTION,
    "volatility": Unit.FRACTION,
    "sharpe": Unit.RATIO,
    "sortino": Unit.RATIO,
    "calmar": Unit.RATIO,
    "max_drawdown": Unit.FRACTION,
    "max_drawdown_s": Unit.SECONDS,
    "trades": Unit.COUNT,
    "open_trades": Unit.COUNT,
    "win_rate": Unit.FRACTION,
    "profit_factor": Unit.RATIO,
    "expectancy": Unit.AMOUNT,
    "exposure": Unit.FRACTION,
    "turnover": Unit.RATIO,
    "fees": Unit.AMOUNT,
    "fills": Unit.COUNT,
}
"""Every statistic by name, in the order in which they are shown, with its unit.

final_equity    cash and holdings at the last point, holdings at their last close
net_profit      final_equity less the equity at the beginning
return          net_profit over the equity at the beginning
buy_and_hold    return of the first instrument's price over the run, from the first open to the last close, no costs
cagr            (final / first) ** (1 / years) - 1; None for less than a day
volatility      sample standard deviation of the periods' returns, times the root of the periods a year; this and the
                two ratios that follow are None for less than a day, as cagr is
sharpe          mean of the periods' returns over their sample standard deviation, annualised by that root
sortino         the same over the downside deviation: the root of the mean of min(return, 0) squared, all periods
calmar          cagr over max_drawdown
max_drawdown    deepest fall below an earlier peak, as a fraction of that peak; 0 and above
max_drawdown_s  longest time from a peak until it was reached again, or until the end
trades          round trips that were closed, and open_trades those that were open at the end
win_rate        share of the closed ones with a pnl above zero
profit_factor   gains of the closed winners over losses of the closed losers; None without losses
expectancy      mean pnl of the closed ones
exposure        share of the time during which anything was held
turnover        all that was bought and sold, at its price, over the mean equity
fees            what was paid for all fills; negative where rebates were more
fills           executions
"""


def statistics(
    times_ns: Sequence[int],
    equity: Sequence[float],
    trips: Sequence[RoundTrip],
    *,
    fills: int,
    traded: float,
    prices: tuple[float, float] | None = None,
) -> dict[str, float | None]:
    """Give every statistic of STATISTICS, by its name.

    `equity` has a value for each of `times_ns`, which ascend; the first is before anything was traded. `traded` is the
    sum of price times quantity of all fills; `prices` are the first open and the last close of the first instrument.
    Raises ValueError where the curve is empty, of two lengths or does not begin above zero.
    """
    if not equity or len(equity) != len(times_ns):
        raise ValueError(f"an equity curve of {len(times_ns)} times and {len(equity)} values")
    if not equity[0] > 0:
        raise ValueError(f"an equity curve begins above zero, not at {equity[0]}")
    first, final, length_ns = equity[0], equity[-1], times_ns[-1] - times_ns[0]
    depth, drawdown_ns = _drawdown(times_ns, equity)
    cagr = _cagr(first, final, length_ns)
    closed = [trip.pnl for trip in trips if trip.exit_ns is not None]
    values: dict[str, float | None] = {
        "final_equity": final,
        "net_profit": final - first,
        "return": _over(final - first, first),
        "buy_and_hold": None if prices is None else _over(prices[1] - prices[0], prices[0]),
        "cagr": cagr,
        **_risk(equity, length_ns),
        "calmar": None if cagr is None else _over(cagr, depth),
        "max_drawdown": depth,
        "max_drawdown_s": drawdown_ns / SECOND_NS,
        "trades": float(len(closed)),
        "open_trades": float(len(trips) - len(closed)),
        **_odds(closed),
        "exposure": _over(_held_ns(trips, times_ns[-1]), length_ns),
        "turnover": _over(traded, math.fsum(equity) / len(equity)),
        "fees": math.fsum(trip.fees for trip in trips),
        "fills": float(fills),
    }
    return {name: values[name] for name in STATISTICS}


def round_trips(fills: Iterable[Fill], marks: Mapping[InstrumentId, float] | None = None) -> list[RoundTrip]:
    """Give the trades that fills make, in the order in which they ended; those still open last.

    A trade lasts from flat until flat; a fill that reverses a holding ends one and begins another, and its fee is
    shared by quantity. Sums are exact and rounded once, to float. Fees are taken to be in quote currency. What is open
    is valued at its instrument's price in `marks`, or at its entry where there is none.
    """
    book = TripBook()
    for fill in fills:
        book.add(fill)
    return book.trips(marks or {})


class TripBook:
    """Makes trades of fills as they come; see `round_trips`."""

    def __init__(self) -> None:
        self._closed: list[RoundTrip] = []
        self._open: dict[InstrumentId, _Trip] = {}

    def add(self, fill: Fill) -> None:
        """Take the next fill."""
        trip = self._open.get(fill.instrument)
        left, fee = fill.quantity, fill.fee
        if trip is not None and trip.is_long is not (fill.side.sign > 0):
            closing = min(left, abs(trip.held))
            share = fee if closing == left else quotient(EXACT.multiply(fee, closing), left)
            trip.exit(fill, closing, share)
            left, fee = EXACT.subtract(left, closing), EXACT.subtract(fee, share)
            if not trip.held:
                self._closed.append(trip.closed(fill.time_ns))
                del self._open[fill.instrument]
                trip = None
        if left:
            if trip is None:
                trip = self._open[fill.instrument] = _Trip(fill)
            trip.enter(fill, left, fee)

    def trips(self, marks: Mapping[InstrumentId, float]) -> list[RoundTrip]:
        """Give the closed trades, then the open ones, valued at `marks`."""
        return [*self._closed, *(trip.marked(marks.get(key)) for key, trip in self._open.items())]


class _Trip:
    """A trade that is open. Amounts are exact."""

    def __init__(self, fill: Fill) -> None:
        self.is_long = fill.side.sign > 0
        self.held = _ZERO  # signed
        self._instrument = fill.instrument
        self._entry_ns = fill.time_ns
        self._entered = self._paid = self._exited = self._received = self._fees = _ZERO

    def enter(self, fill: Fill, quantity: Decimal, fee: Decimal) -> None:
        self._entered = EXACT.add(self._entered, quantity)
        self._paid = EXACT.add(self._paid, EXACT.multiply(fill.price, quantity))
        self._move(quantity, fee, fill.side.sign)

    def exit(self, fill: Fill, quantity: Decimal, fee: Decimal) -> None:
        self._exited = EXACT.add(self._exited, quantity)
        self._received = EXACT.add(self._received, EXACT.multiply(fill.price, quantity))
        self._move(quantity, fee, fill.side.sign)

    def _move(self, quantity: Decimal, fee: Decimal, sign: int) -> None:
        self.held = EXACT.add(self.held, quantity if sign > 0 else quantity.copy_negate())
        self._fees = EXACT.add(self._fees, fee)

    def closed(self, time_ns: int) -> RoundTrip:
        return self._trip(time_ns, float(quotient(self._received, self._exited)), _ZERO)

    def marked(self, mark: float | None) -> RoundTrip:
        price = quotient(self._paid, self._entered) if mark is None else Decimal(repr(mark))
        return self._trip(None, None, EXACT.multiply(price, abs(self.held)))

    def _trip(self, exit_ns: int | None, exit_price: float | None, worth: Decimal) -> RoundTrip:
        gain = EXACT.subtract(EXACT.add(self._received, worth), self._paid)
        if not self.is_long:
            gain = gain.copy_negate()
        return RoundTrip(
            self._instrument,
            float(self._entered) if self.is_long else -float(self._entered),
            self._entry_ns,
            float(quotient(self._paid, self._entered)),
            exit_ns,
            exit_price,
            float(self._fees),
            float(EXACT.subtract(gain, self._fees)),
        )


def thin(times_ns: Sequence[int], values: Sequence[float], limit: int) -> tuple[list[int], list[float]]:
    """Give at most `limit` points of a curve, its first and last and the extremes of every stretch among them.

    Raises ValueError for a limit below 4.
    """
    if limit < 4:
        raise ValueError(f"a curve cannot be shown in {limit} points")
    count = len(values)
    if count <= limit:
        return list(times_ns), list(values)
    kept = {0, count - 1}
    stretches = (limit - 2) // 2
    bounds = [1 + (count - 2) * number // stretches for number in range(stretches + 1)]
    for begin, end in pairwise(bounds):
        stretch = range(begin, end)
        kept.add(min(stretch, key=values.__getitem__))
        kept.add(max(stretch, key=values.__getitem__))
    rows = sorted(kept)
    return [times_ns[row] for row in rows], [values[row] for row in rows]


# ---- inside ---------------------------------------------------------------------------------------------------------


def _over(value: float, base: float) -> float | None:
    return value / base if base > 0 else None


def _cagr(first: float, final: float, length_ns: int) -> float | None:
    if length_ns < _SHORTEST_YEARLY_NS or final <= 0:
        return None
    try:
        return math.pow(final / first, YEAR_NS / length_ns) - 1.0
    except OverflowError:
        return None


def _risk(equity: Sequence[float], length_ns: int) -> dict[str, float | None]:
    """Give volatility, Sharpe and Sortino ratio; None for all within a day, or where equity was ever zero or less."""
    values: dict[str, float | None] = dict.fromkeys(("volatility", "sharpe", "sortino"))
    count = len(equity) - 1
    if count < 2 or length_ns < _SHORTEST_YEARLY_NS or min(equity) <= 0:
        return values
    returns = [later / earlier - 1.0 for earlier, later in pairwise(equity)]
    mean = math.fsum(returns) / count
    deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in returns) / (count - 1))
    downside = math.sqrt(math.fsum(each * each for each in returns if each < 0) / count)
    root = math.sqrt(count * YEAR_NS / length_ns)
    values["volatility"] = deviation * root
    if deviation > _NOISE * abs(mean):
        values["sharpe"] = mean / deviation * root
    if downside > 0:
        values["sortino"] = mean / downside * root
    return values


def _drawdown(times_ns: Sequence[int], equity: Sequence[float]) -> tuple[float, int]:
    """Give the deepest fall as a fraction of its peak, and the longest time below one in nanoseconds.

    A peak is above zero: the first point is the cash that a run begins with.
    """
    peak, peak_ns, depth, longest_ns, is_below = equity[0], times_ns[0], 0.0, 0, False
    for time_ns, value in zip(times_ns, equity, strict=True):
        if value < peak:
            is_below = True
            depth = max(depth, (peak - value) / peak)
            continue
        if is_below:
            longest_ns = max(longest_ns, time_ns - peak_ns)
        peak, peak_ns, is_below = value, time_ns, False
    if is_below:
        longest_ns = max(longest_ns, times_ns[-1] - peak_ns)
    return depth, longest_ns


def _odds(closed: Sequence[float]) -> dict[str, float | None]:
    """Give what the pnl of closed trades says."""
    values: dict[str, float | None] = dict.fromkeys(("win_rate", "profit_factor", "expectancy"))
    if closed:
        gains = math.fsum(pnl for pnl in closed if pnl > 0)
        losses = math.fsum(-pnl for pnl in closed if pnl < 0)
        values["win_rate"] = sum(pnl > 0 for pnl in closed) / len(closed)
        values["profit_factor"] = _over(gains, losses)
        values["expectancy"] = math.fsum(closed) / len(closed)
    return values


def _held_ns(trips: Sequence[RoundTrip], end_ns: int) -> int:
    """Give how long anything was held; trades that overlap count once."""
    held_ns, until_ns = 0, None
    for since_ns, exit_ns in sorted(
        (trip.entry_ns, end_ns if trip.exit_ns is None else trip.exit_ns) for trip in trips
    ):
        begin_ns = since_ns if until_ns is None else max(since_ns, until_ns)
        if exit_ns > begin_ns:
            held_ns += exit_ns - begin_ns
            until_ns = exit_ns
    return held_ns
