"""Moving-average cross, declared as signals: the same idea as sma_cross.py, said for all bars at once.

A file like this runs live and on the replay engine as any other does, and besides on vectorbt and in sweeps of
thousands of combinations, which want nothing but the columns. It earns in trends that last much longer than the slow
average, and loses in markets that go sideways: every false cross costs the spread and two fees. Nobody has shown that
it makes money.
"""

from koc_qt.sdk import Bars, Signals, Strategy, StrategyError, param
from koc_qt.sdk.indicators import SMA


class SmaSignals(Strategy):
    """Long while the fast average of closes is above the slow one, flat otherwise."""

    name = "SMA signals"
    timeframe = "1m"

    fast: int = param(10, low=1, high=500, help="bars of the fast average")
    slow: int = param(50, low=2, high=2_000, help="bars of the slow average")
    quantity: float = param(0.05, low=0.000001, help="size of the position in base units")

    def on_start(self) -> None:
        """Ask for the history that fills the averages."""
        if self.fast >= self.slow:
            raise StrategyError(f"fast ({self.fast}) must be below slow ({self.slow})")
        self.warmup_bars = self.slow

    def signals(self, bars: Bars) -> Signals:
        """Compare the averages; until both are there (nan) nothing is above anything.

        What to do follows from where the averages are, not from the moment of the cross: after a restart it goes on.
        """
        fast, slow = bars.column(SMA(self.fast)), bars.column(SMA(self.slow))
        return Signals(entries=fast > slow, exits=fast <= slow, sizes=self.quantity)
