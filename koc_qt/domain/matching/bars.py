"""Meets orders with a bar, where nothing finer is known: careful about what happened inside it.

The path through a bar is its open, then the extreme that hurts what the account holds (the low unless it is short),
then the other extreme, then the close. Takers that waited take at the open. A stop goes off at its price, or at the
open where the bar opens beyond it; at one price stops come before limits. Resting limits fill at their price when the
path goes through it. All of them share the bar's volume, as the fill model limits it, in the order of the path. A bar
does not tell when: fills carry its opening time.
"""

from __future__ import annotations

from decimal import Decimal
from operator import itemgetter

from koc_qt.domain.exact import EXACT
from koc_qt.domain.market import Bar
from koc_qt.domain.matching.market import Market, exact_price
from koc_qt.domain.matching.matcher import Matcher
from koc_qt.domain.matching.working import WorkingOrder

_ENDLESS = Decimal(10) ** 30  # beyond any order's quantity


def meet_bar(
    matcher: Matcher, market: Market, bar: Bar, *, volume_fraction: Decimal | None, is_short: bool, time_ns: int
) -> None:
    """Walk the bar's path and execute what it reaches."""
    opening = exact_price(bar.open)
    left = _ENDLESS if volume_fraction is None else EXACT.multiply(exact_price(bar.volume), volume_fraction)
    left = matcher.meet_print(market, opening, left, time_ns)
    if not market.orders.has_priced:
        return
    for falling in (True, False):  # what the bar opens beyond is reached at the open, whatever its own price
        left = _leg(matcher, market, opening, left, time_ns, falling=falling, gap=True)
    low, high = exact_price(bar.low), exact_price(bar.high)
    path = (high, low) if is_short else (low, high)
    falling = not is_short
    for end in (*path, exact_price(bar.close)):
        left = _leg(matcher, market, end, left, time_ns, falling=falling)
        falling = not falling


def _leg(
    matcher: Matcher,
    market: Market,
    end: Decimal,
    left: Decimal,
    time_ns: int,
    *,
    falling: bool,
    gap: bool = False,
) -> Decimal:
    """Move the price to `end`, executing what lies on the way in that order; give the volume that is left."""
    for _, is_limit, _, price, work in _reached(matcher, market, end, falling=falling):
        if is_limit:
            left = EXACT.subtract(left, matcher.make(work, price, left, time_ns))
        else:
            matcher.trigger(work, time_ns)
            for _, quantity in matcher.take(work, [(end if gap else price, left)], time_ns):
                left = EXACT.subtract(left, quantity)
            if work.is_open:
                matcher.settle(work, time_ns)
    return left


def _reached(
    matcher: Matcher, market: Market, end: Decimal, *, falling: bool
) -> list[tuple[Decimal, bool, int, Decimal, WorkingOrder]]:
    """Give the orders that a move to `end` reaches, in the order in which it does, each with its own price."""
    orders = market.orders
    stops, limits = (orders.stop_sells, orders.buys) if falling else (orders.stop_buys, orders.sells)
    reached: list[tuple[Decimal, bool, int, Decimal, WorkingOrder]] = []
    if not stops and not limits:
        return reached
    for is_limit, queue in ((False, stops), (True, limits)):
        for work in queue:
            price = work.limit if is_limit else work.stop
            if price is None or (price < end if falling else price > end):
                break
            if is_limit and price == end and not matcher.fills_at_touch:
                break
            reached.append((work.key[0], is_limit, work.sequence, price, work))
    reached.sort(key=itemgetter(0, 1, 2))
    return reached
