"""Signals to statistics without order records: what the replay engine would say, thousands of times as fast.

`simulate` is written for numba and compiled by koc_qt/worker/sweep_compiler.py. It does what the replay engine does
with market orders of one instrument that are filled whole at the next bar's open; as soon as anything else would
happen (an order is refused, cannot be paid, is more than the bar's volume allows or too small a rest to be sold) it
says so and stops: that combination is left to the replay engine. Prices and money are float64 in quote currency,
times int64 UTC nanoseconds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, YEAR_NS

# Places in `terms`
FEE, CASH, LOT, LEAST, MOST, LEAST_NOTIONAL, SLIP, SLIP_AMOUNT, END = range(9)
TERMS = 9
# Places in `found`
(
    OTHERWISE,  # not 0: it is for the replay engine
    FINAL,
    EQUITY_SUM,
    EQUITY_LEAST,
    RETURNS,
    SQUARES,
    DOWNSIDE,
    DEPTH,
    LONGEST_NS,
    CLOSED,
    WINS,
    GAINS,
    LOSSES,
    PROFITS,
    OPEN,
    HELD_NS,
    TRADED,
    FEES,
    FILLS,
) = range(19)
FOUND = 19

_WORDS = 8  # flags that are looked at together
_SURE = 1.0 - 1e-12  # what is this near to a limit is left to exact arithmetic
_NOTHING = 1e-12  # of a trade's worth: a profit below it is what rounding leaves of none


def next_set(flags: Any, words: Any, row: int, count: int) -> int:
    """Give the first row from `row` on whose flag is set, `count` without one; `words` are the flags, eight in each."""
    while row < count and row % _WORDS != 0 and flags[row] == 0:
        row += 1
    if row % _WORDS == 0:
        while row + _WORDS <= count and words[row // _WORDS] == 0:
            row += _WORDS
        while row < count and flags[row] == 0:
            row += 1
    return row


def extremes(values: Any, first: int, last: int) -> tuple[float, float]:
    """Give the lowest and the highest of some rows; four at a time, which do not wait for each other."""
    low_0 = low_1 = low_2 = low_3 = high_0 = high_1 = high_2 = high_3 = values[first]
    row = first
    while row + 4 <= last + 1:
        value_0, value_1, value_2, value_3 = values[row], values[row + 1], values[row + 2], values[row + 3]
        low_0, high_0 = min(low_0, value_0), max(high_0, value_0)
        low_1, high_1 = min(low_1, value_1), max(high_1, value_1)
        low_2, high_2 = min(low_2, value_2), max(high_2, value_2)
        low_3, high_3 = min(low_3, value_3), max(high_3, value_3)
        row += 4
    while row <= last:
        low_0, high_0 = min(low_0, values[row]), max(high_0, values[row])
        row += 1
    return min(min(low_0, low_1), min(low_2, low_3)), max(max(high_0, high_1), max(high_2, high_3))


def simulate(
    count: int,
    first: int,
    bar_ns: int,
    since_ns: int,
    opens_ns: Any,
    buys: Any,
    sells: Any,
    closes: Any,
    room: Any,
    entries: Any,
    exits: Any,
    short_entries: Any,
    short_exits: Any,
    entry_words: Any,
    exit_words: Any,
    short_exit_words: Any,
    has_shorts: int,
    sizes: Any,
    size_step: int,
    terms: Any,
    found: Any,
) -> None:
    """Fill `found` for one combination. All columns have `count` rows, and the run begins at row `first`.

    `buys` and `sells` are what a taker pays and gets at each open, `room` how much it may trade there. `sizes` are read
    with `size_step` 0 (one for all) or 1. `found` must be all zero before.
    """
    fee, cash, lot = terms[0], terms[1], terms[2]
    peak, peak_ns, trough, below = cash, since_ns, cash, False
    last = least = cash
    equity_sum = returns = squares = downside = 0.0
    depth, longest = 0.0, 0
    row = first
    while row < count:
        # nothing is held: look for an entry
        begin = row
        if has_shorts == 0:
            row = next_set(entries, entry_words, row, count)
        while row < count and entries[row] == 0 and (has_shorts == 0 or short_entries[row] == 0):
            row += 1
        end = min(row, count - 1)  # the close at which it is decided on, or the last
        change = cash / last - 1.0
        returns += change
        squares += change * change
        if change < 0.0:
            downside += change * change
        equity_sum += cash * (end - begin + 1)
        if cash < peak:
            below = True
            trough = min(trough, cash)
        else:
            if below:
                longest = max(longest, opens_ns[begin] + bar_ns - peak_ns)
                depth = max(depth, (peak - trough) / peak)
            peak, peak_ns, trough, below = cash, opens_ns[end] + bar_ns, cash, False
        last = cash
        least = min(least, cash)
        if row >= count - 1:
            break
        # enter at the next open
        is_long = entries[row] != 0
        lots = sizes[row * size_step] / lot
        whole = math.floor(lots + 0.5)
        off = abs(lots - whole)
        if off > 1e-14 * lots:
            whole = math.floor(lots)
        elif off > 1e-15 * lots:
            found[0] = 1.0
            return
        quantity = whole * lot
        fill = row + 1
        price = buys[fill] if is_long else sells[fill]
        notional = quantity * price
        dearest = max(price, closes[row] * (1.0 + terms[6]) + terms[7]) * quantity
        if (
            whole < 1.0
            or quantity < terms[3] * _SURE
            or quantity > terms[4]
            or quantity * closes[row] * _SURE < terms[5]
            or quantity > room[fill] * _SURE
            or dearest * (1.0 + abs(fee)) > cash * _SURE
            or not notional > 0.0
        ):
            found[0] = 1.0
            return
        paid = notional * fee
        held = quantity if is_long else -quantity
        base = cash - held * price - paid
        # hold until an exit
        row = fill
        if is_long:
            row = next_set(exits, exit_words, row, count)
        else:
            row = next_set(short_exits, short_exit_words, row, count)
        end = min(row, count - 1)
        lowest, highest = extremes(closes, fill, end)
        change = (base + held * closes[fill]) / last - 1.0
        returns += change
        squares += change * change
        downside += min(change, 0.0) ** 2
        equity_sum += base + held * closes[fill]
        for bar in range(fill + 1, end + 1):  # nothing in here keeps the processor from doing several bars at once
            value = base + held * closes[bar]
            change = value / (base + held * closes[bar - 1]) - 1.0
            loss = change if change < 0.0 else 0.0
            returns += change
            squares += change * change
            downside += loss * loss
            equity_sum += value
        last = base + held * closes[end]
        worst = base + held * (lowest if is_long else highest)
        best = base + held * (highest if is_long else lowest)
        least = min(least, worst)
        if least <= 0.0 or quantity * lowest * _SURE < terms[5]:
            found[0] = 1.0
            return
        if best < peak:
            below = True
            trough = min(trough, worst)
        else:
            for bar in range(fill, end + 1):
                value = base + held * closes[bar]
                if value < peak:
                    below = True
                    trough = min(trough, value)
                else:
                    now_ns = opens_ns[bar] + bar_ns
                    if below:
                        longest = max(longest, now_ns - peak_ns)
                        depth = max(depth, (peak - trough) / peak)
                    peak, peak_ns, trough, below = value, now_ns, value, False
        found[16] += notional
        found[17] += paid
        found[18] += 1.0
        if row >= count - 1:  # an exit at the last close has no open to trade at
            found[14] = 1.0
            found[15] += terms[8] - opens_ns[fill]
            break
        # leave at the next open
        entered, row = fill, row + 1
        if quantity > room[row] * _SURE:
            found[0] = 1.0
            return
        out = sells[row] if is_long else buys[row]
        paid_out = quantity * out * fee
        cash = base + held * out - paid_out
        profit = held * (out - price) - paid - paid_out
        noise = _NOTHING * notional
        found[9] += 1.0
        found[13] += profit
        if profit > noise:
            found[10] += 1.0
            found[11] += profit
        elif profit < -noise:
            found[12] -= profit
        found[15] += opens_ns[row] - opens_ns[entered]
        found[16] += quantity * out
        found[17] += paid_out
        found[18] += 1.0
        if cash <= 0.0:
            found[0] = 1.0
            return
    if below:
        longest = max(longest, opens_ns[count - 1] + bar_ns - peak_ns)
        depth = max(depth, (peak - trough) / peak)
    found[1], found[2], found[3] = last, equity_sum, least
    found[4], found[5], found[6] = returns, squares, downside
    found[7], found[8] = depth, longest


def average(count: int, period: int, values: Any, scratch: Any, means: Any) -> None:
    """Fill `means` from row period - 1 on with the mean of the last `period` values, bit for bit as sdk's SMA has it.

    That adds a window up in two parts, which meet at every multiple of the period; `scratch` has room for one period.
    """
    front = 0  # how many of the oldest values are in sums of their own, scratch[0] being that of all of them
    back = 0.0
    filled = 0
    for row in range(count):
        if filled == period:
            if front == 0:
                begin = row - period
                total = values[row - 1]
                scratch[period - 1] = total
                for place in range(period - 2, -1, -1):
                    total = values[begin + place] + total
                    scratch[place] = total
                front = period
                back = 0.0
            front -= 1
            filled -= 1
        back = values[row] if filled == front else back + values[row]  # equal: nothing is in this part yet
        filled += 1
        if filled == period:
            means[row] = (scratch[period - front] + back) / period if front else back / period


def smoothed(count: int, period: int, values: Any, means: Any) -> None:
    """Fill `means` from row period - 1 on with the exponential average, bit for bit as sdk's EMA has it."""
    total = 0.0
    weight = 2.0 / (period + 1)
    mean = 0.0
    for row in range(count):
        if row < period:
            total += values[row]
            if row == period - 1:
                mean = total / period
                means[row] = mean
        else:
            mean += (values[row] - mean) * weight
            means[row] = mean


def figures(
    found: Sequence[float], *, cash: float, periods: int, length_ns: int, prices: tuple[float, float]
) -> dict[str, float | None] | None:
    """Give the statistics of domain/performance.py from what `simulate` found; None for what needs exact arithmetic.

    `periods` are the steps of the equity curve, which is `length_ns` long; `prices` the first open and the last close.
    """
    final, depth = found[FINAL], found[DEPTH]
    mean = found[RETURNS] / periods
    spread = found[SQUARES] - found[RETURNS] * mean
    variance = max(spread, 0.0) / (periods - 1) if periods > 1 else 0.0
    if found[OTHERWISE] or (variance and variance < 1e-9 * mean * mean):
        return None
    cagr = volatility = sharpe = sortino = None
    if length_ns >= DAY_NS:
        cagr = _power(final / cash, YEAR_NS / length_ns)
        if periods > 1:
            root = math.sqrt(periods * YEAR_NS / length_ns)
            deviation, down = math.sqrt(variance), math.sqrt(found[DOWNSIDE] / periods)
            volatility = deviation * root
            sharpe = mean / deviation * root if deviation > 0 else None
            sortino = mean / down * root if down > 0 else None
    closed = found[CLOSED]
    return {
        "final_equity": final,
        "net_profit": final - cash,
        "return": (final - cash) / cash,
        "buy_and_hold": (prices[1] - prices[0]) / prices[0],
        "cagr": cagr,
        "volatility": volatility,
        "sharpe": sharpe,
        "sortino": sortino,
        "calmar": None if cagr is None or depth <= 0 else cagr / depth,
        "max_drawdown": depth,
        "max_drawdown_s": found[LONGEST_NS] / SECOND_NS,
        "trades": closed,
        "open_trades": found[OPEN],
        "win_rate": found[WINS] / closed if closed else None,
        "profit_factor": found[GAINS] / found[LOSSES] if found[LOSSES] > 0 else None,
        "expectancy": found[PROFITS] / closed if closed else None,
        "exposure": found[HELD_NS] / length_ns if length_ns else None,
        "turnover": found[TRADED] / ((cash + found[EQUITY_SUM]) / (periods + 1)),
        "fees": found[FEES],
        "fills": found[FILLS],
    }


def _power(ratio: float, years: float) -> float | None:
    try:
        return math.pow(ratio, years) - 1.0
    except OverflowError:
        return None
