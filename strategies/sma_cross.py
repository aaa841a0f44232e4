"""Moving-average cross: long while the fast average is above the slow one, flat otherwise.

The idea: prices that have begun to move go on for a while. It earns in trends that last much longer than the slow
average, and loses in markets that go sideways: every false cross costs the spread and two fees. With the short
averages of these defaults it trades often, which shows the program at work and is no way to make money.
"""

from decimal import Decimal

from koc_qt.sdk import Bar, OrderHandle, OrderStatus, Strategy, StrategyError, param
from koc_qt.sdk.indicators import SMA

PAUSE_BARS = 10  # after a rejected order


class SmaCross(Strategy):
    """Long while the fast average of closes is above the slow one, flat otherwise."""

    name = "SMA cross"
    timeframe = "1s"

    fast: int = param(5, low=1, high=500, help="bars of the fast average")
    slow: int = param(20, low=2, high=2_000, help="bars of the slow average")
    notional: float = param(1_000.0, low=1.0, help="size of the position in quote currency")

    def on_start(self) -> None:
        """Make the averages, and ask for the history that fills them."""
        if self.fast >= self.slow:
            raise StrategyError(f"fast ({self.fast}) must be below slow ({self.slow})")
        self.warmup_bars = self.slow
        self._fast, self._slow = self.indicator(SMA(self.fast)), self.indicator(SMA(self.slow))
        self._pause = 0
        self._content: tuple[bool, Decimal] | None = None  # the cross and the holding that went together at last

    def on_bar(self, bar: Bar) -> None:
        """Compare the averages, and bring the position to where it should be.

        What to do follows from the position alone, not from the moment of the cross: after a restart it goes on.
        """
        fast, slow = self._fast.value, self._slow.value
        if fast is None or slow is None or self.warming_up:
            return
        self.metric("fast", fast)
        self.metric("slow", slow)
        self._pause -= 1
        is_up, holding = fast > slow, self.holding()
        if (is_up, holding) == self._content or self._pause > 0 or self.open_orders:
            return
        held = self._worth_selling(holding, bar)
        if is_up and not held:
            self.buy(self.notional / bar.close)
        elif held < 0 or (held > 0 and not is_up):
            self.close_position()
        else:
            self._content = is_up, holding

    def on_order(self, order: OrderHandle) -> None:
        """Say why an order was rejected, and do not ask again at once."""
        if order.status is OrderStatus.REJECTED:
            self.log.warning(f"rejected: {order.reason}")
            self._pause = PAUSE_BARS

    def _worth_selling(self, holding: Decimal, bar: Bar) -> Decimal:
        """Give what is held; a rest too small to be sold counts as nothing."""
        return holding if holding and abs(holding) >= self.smallest_quantity(bar.close) else Decimal(0)
