"""Runs a strategy on history: the class that trades live, on the matching engine that fills paper accounts.

The rules, the same as live wherever bars can tell:

- A bar is told when it has closed. An order placed then meets the next bar of its instrument: at the market it trades
  at that bar's open. What a bar did to orders is told at its close, before the bar itself; fills carry the time of its
  opening.
- Time goes from close to close: a timer that came due in between goes off at the next close, before that bar.
- Every venue has one account of its own, with an equal share of the cash. Its orders pass the instrument's rules, not
  the limits that a profile sets to its strategies. Profit and equity are in the one quote currency of all instruments.
- A strategy that trades by its signals alone is given all bars first: they are computed once, then it is played.
- What is held at the end stays open and is valued at the last close; orders that a strategy places in on_stop are not
  taken.

No clock, no input or output: the same bars and settings give the same run.
"""

from __future__ import annotations

import math
import operator
from array import array
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import groupby, islice, repeat
from typing import TYPE_CHECKING, ClassVar

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.orders import Fill, OrderEvent
from koc_qt.domain.timeframes import duration_ns
from koc_qt.domain.trips import TripBook
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.session import Session
from koc_qt.sdk.strategy import Strategy, overrides, subscriptions_of
from koc_qt.worker.ahead import BarsAhead
from koc_qt.worker.replay_context import ReplayContext
from koc_qt.worker.replay_desk import FILLS_KEPT, ORDERS_A_MOMENT, ReplayDesk, shares

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["FILLS_KEPT", "ORDERS_A_MOMENT", "Replay"]

Pause = Callable[[], int]
"""Called now and then between two closes; says after how many more at the latest it wants to be called again."""


class Replay:
    """One run, fed with `play`; money is in quote currency. Whatever the strategy raises comes out of the methods.

    `HEARD` is what a strategy may listen to, of which it needs one. `times_ns` and `equity` are the curve: the cash
    where the run begins, then what there was at each close. Within `play` it has been brought up to date whenever Pause
    is called.
    """

    HEARD: ClassVar[tuple[str, ...]] = ("bars",)

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        _check(strategy, start, self.HEARD)
        self.strategy = strategy
        self._times_ns, self._equity = array("q", [start.since_ns]), array("d", [float(start.cash)])
        self._start = start
        # The timeframe of the run is known once the session has set it.
        timeframe = start.timeframe or strategy.timeframe
        self._bar_ns = duration_ns(timeframe)
        self._context = ReplayContext(start.since_ns, self._bar_ns, write)
        first = start.instruments[0]
        self._session = Session(
            strategy,
            self._context,
            instruments=start.instruments,
            timeframe=timeframe,
            cash={first.quote: shares(start)[first.id.venue]},
            seed=start.seed,
        )
        self.timeframe = timeframe
        self._desk = ReplayDesk(start, self._session, self._context, self._note_before)
        self._is_script = overrides(type(strategy), "run")
        self._ahead = None if self._session.signal_trader is None else BarsAhead()
        self._began = False
        self._retired = False
        self._before: list[ReplayBars] = []  # from before the run, until that begins
        self._first_open: float | None = None
        self._rows: Iterator[Bar] = iter(())  # of the message that is being played, those to come
        self._closes: Floats | None = None  # its closing prices and closing times
        self._closing_ns = array("q")
        self._noted = 0  # of these, those that the curve has
        self._worths: list[tuple[int, float, float]] = []  # up to which row there was how much, and the money besides

    @property
    def times_ns(self) -> array[int]:
        """The times of the equity curve."""
        self._note(self._told)
        return self._times_ns

    @property
    def equity(self) -> array[float]:
        """What there was at each of these times."""
        self._note(self._told)
        return self._equity

    @property
    def bars(self) -> int:
        """How many closes the curve has: bars of one instrument, moments of several."""
        return len(self.equity) - 1

    @property
    def position_ns(self) -> int:
        """The close that was reached."""
        return self.times_ns[-1]

    @property
    def time_ns(self) -> int:
        """The time that the strategy lives in."""
        return self._context.time_ns

    @property
    def prices(self) -> tuple[float, float] | None:
        """The first open and the last close of the first instrument; None without a bar of it."""
        return None if self._first_open is None else (self._first_open, self._desk.closes[0])

    @property
    def marks(self) -> Mapping[InstrumentId, float]:
        """The last close of every instrument that had a bar."""
        ids = (rules.id for rules in self._start.instruments)
        return {key: close for key, close in zip(ids, self._desk.closes, strict=True) if not math.isnan(close)}

    @property
    def trips(self) -> TripBook:
        """The trades that the fills make."""
        return self._desk.trips

    @property
    def fills(self) -> list[Fill]:
        """The first FILLS_KEPT fills."""
        return self._desk.fills

    @property
    def fill_count(self) -> int:
        """How many fills there were."""
        return self._desk.fill_count

    @property
    def traded(self) -> float:
        """Price times quantity of all fills."""
        return self._desk.traded

    @property
    def versions(self) -> Mapping[str, str]:
        """The versions of libraries that another engine than ours is made of."""
        return {}

    # ---- what happens -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Call on_start, and run() up to its first wait. What it orders meets the first bar."""
        if unheard := [kind for kind in subscriptions_of(type(self.strategy)) if kind not in self.HEARD]:
            text = f"a back-test has {' and '.join(self.HEARD)} alone: the strategy hears no {' and no '.join(unheard)}"
            self._context.log("WARNING", text)
        self._session.start()

    def warm_up(self, bars: ReplayBars) -> None:
        """Take bars from before the run: the strategy sees those that it wants once the run begins."""
        if self.strategy.warmup_bars > 0 and self._ahead is not None:
            self._ahead.add(bars)
        self._before.append(bars)

    def _open_accounts(self, bars: ReplayBars) -> None:
        """Make the accounts as the run's first bars come, and tell of those before it: orders meet none of them.

        Not earlier: there may be one bar before the run alone, and whether it has volume says little of the market's.
        """
        before, self._before = self._before, []
        for message in before:
            self._desk.note_volume(message)
        self._desk.open_accounts(bars)
        for message in before:
            for row, bar in zip(message.row, self._bars_of(message), strict=True):
                self._desk.meet(row, bar)
                if self.strategy.warmup_bars > 0:
                    self._session.on_bar(bar, warmup=True)
                    self._desk.answer_all()

    def play(self, bars: ReplayBars, pause: Pause) -> None:
        """Run on the next bars, or keep them for `play_kept` where signals want all."""
        if not bars.row:
            return
        if self._ahead is not None:
            self._ahead.add(bars)
            return
        if not self._began:
            self._began = True
            self._open_accounts(bars)
            self._desk.answer_all()
        if self._first_open is None and 0 in bars.row:
            self._first_open = bars.open[bars.row.index(0)]
        if len(self._start.instruments) == 1:
            self._play_one(bars, pause)
        else:
            self._play_several(bars, pause)

    def play_kept(self, pause: Pause) -> None:
        """Run on the bars that `play` has kept, now that these were all."""
        ahead, self._ahead = self._ahead, None
        if ahead is not None and self._session.signal_trader is not None:
            for columns in ahead.columns(self._start.instruments, self.timeframe):
                self._session.signal_trader.know(columns)
            for bars in ahead.messages():
                self.play(bars, pause)

    def finish(self) -> None:
        """Call on_stop; what it orders is not taken."""
        self._session.stop()
        self._context.outbox.clear()

    # ---- one instrument

    def _play_one(self, message: ReplayBars, pause: Pause) -> None:
        desk, key = self._desk, self._start.instruments[0].id
        bars = list(self._bars_of(message))
        self._rows = rows = iter(bars)
        closes = self._begin_curve(message)
        tell, advances = self._session.teller(key), self._session.advances(key, bars, message.close, closes)
        count = 1
        while operator.length_hint(rows):
            stretch = islice(rows, count)
            hurries = desk.is_idle and self._session.timer_ns is None and not self._is_script
            try:
                while (self._hurry if hurries else self._walk)(stretch, advances, tell):
                    hurries = not hurries
            except BaseException:
                self._note(self._told - 1)
                self._closes = None
                raise
            count = pause()
        self._note(self._told)
        if bars:
            desk.closes[0] = bars[-1].close

    def _hurry(self, bars: Iterator[Bar], advances: Sequence[Iterator[object]], _: Callable[[Bar], None]) -> bool:
        """Tell of bars until the strategy asks for something. Gives False when the bars are over."""
        desk, context, key = self._desk, self._context, self._start.instruments[0].id
        context.bar, context.slot = None, self._session.slots[key]
        steps = zip(bars, *advances, strict=False)  # there may be more bars after these
        if not self._session.tell_on(key, steps, context.outbox):
            return False
        context.bar = bar = context.slot.bars[-1]
        desk.meet(0, bar)  # there was nothing that could
        desk.placed = 0
        desk.answer_all()
        return True

    def _walk(self, bars: Iterator[Bar], advances: Sequence[Iterator[object]], tell: Callable[[Bar], None]) -> bool:
        """Tell of bars while orders work, timers run or a script waits. Gives False when the bars are over."""
        desk, context, session, is_script = self._desk, self._context, self._session, self._is_script
        outbox = context.outbox
        for bar in bars:
            events = desk.meet(0, bar)
            context.bar = bar
            desk.placed = 0
            if events:
                desk.hear(events)
                if outbox:
                    desk.answer_all()
            if is_script or session.timer_ns is not None:
                self._tell_time()
            for advance in advances:
                next(advance)
            tell(bar)
            if outbox:
                desk.answer_all()
            if is_script:
                self._retire_if_finished()
            elif desk.is_idle and session.timer_ns is None:
                return True
        return False

    def _begin_curve(self, message: ReplayBars) -> Floats:
        """Have the curve follow a message's closes, from its first row on, and give these."""
        import numpy as np  # takes long to load: the strategy may have started by now

        self._closes = closes = np.array(message.close, np.float64)
        self._closing_ns = array("q", (np.array(message.open_time_ns, np.int64) + self._bar_ns).tobytes())
        self._noted = 0
        return closes

    @property
    def _told(self) -> int:
        """How many rows of the message were told."""
        return 0 if self._closes is None else len(self._closes) - operator.length_hint(self._rows)

    def _note_before(self) -> None:
        """Remember what there was up to the present close, which a fill is about to change."""
        if self._closes is not None:
            self._worths.append((self._told - 1, self._desk.quantities[0], self._desk.base))

    def _note(self, row: int) -> None:
        """Let the curve have the closes before a row of the message."""
        if self._closes is None or row <= self._noted:
            return
        import numpy as np

        begin, self._noted = self._noted, row
        self._worths.append((row, self._desk.quantities[0], self._desk.base))
        ends, quantities, bases = zip(*self._worths, strict=True)
        self._worths.clear()
        lengths = list(map(operator.sub, ends, (begin, *ends)))
        held = np.repeat(quantities, lengths)
        with np.errstate(all="ignore"):
            worth = np.repeat(bases, lengths) + np.where(held, held * self._closes[begin:row], 0.0)
        self._times_ns += self._closing_ns[begin:row]
        self._equity.frombytes(worth.tobytes())

    # ---- several instruments

    def _play_several(self, message: ReplayBars, pause: Pause) -> None:
        bars = list(self._bars_of(message))
        advances = self._advances_by_row(message, bars)
        tellers = [self._session.teller(rules.id) for rules in self._start.instruments]
        left = 1
        for _, moment in groupby(zip(message.row, bars, strict=True), lambda pair: pair[1].open_time_ns):
            self._pass(list(moment), advances, tellers)
            left -= 1
            if not left:
                left = pause()

    def _advances_by_row(self, message: ReplayBars, bars: Sequence[Bar]) -> list[list[Iterator[object]]]:
        found = []
        for row, rules in enumerate(self._start.instruments):
            own = [bar for number, bar in zip(message.row, bars, strict=True) if number == row]
            found.append(self._session.advances(rules.id, own, [bar.close for bar in own]))
        return found

    def _pass(
        self,
        moment: Sequence[tuple[int, Bar]],
        advances: Sequence[Sequence[Iterator[object]]],
        tellers: Sequence[Callable[[Bar], None]],
    ) -> None:
        """Let the bars of several instruments close together: first the orders meet them all, then they are told."""
        desk = self._desk
        self._meet(moment)
        self._tell_time()
        for row, bar in moment:
            for advance in advances[row]:
                next(advance)
            tellers[row](bar)
            desk.answer_all()
        self._retire_if_finished()
        self._times_ns.append(self._context.time_ns)
        held = (q * close for q, close in zip(desk.quantities, desk.closes, strict=True) if q)
        self._equity.append(desk.base + math.fsum(held))

    def _meet(self, moment: Sequence[tuple[int, Bar]]) -> None:
        """Let the orders meet bars that close together, and tell what these did to them."""
        desk = self._desk
        events: list[OrderEvent] = []
        for row, bar in moment:
            events += desk.meet(row, bar)
        self._context.bar = moment[0][1]
        desk.placed = 0
        desk.hear(events)
        desk.answer_all()

    # ---- both

    def _bars_of(self, message: ReplayBars) -> Iterator[Bar]:
        ids = [rules.id for rules in self._start.instruments]
        return map(
            Bar,
            repeat(ids[0]) if len(ids) == 1 else map(ids.__getitem__, message.row),
            repeat(self.timeframe),
            message.open_time_ns,
            message.open,
            message.high,
            message.low,
            message.close,
            message.volume,
        )

    def _tell_time(self) -> None:
        session = self._session
        deadline_ns = session.next_deadline_ns
        if deadline_ns is not None and self._context.time_ns >= deadline_ns:
            session.on_time(self._context.time_ns)
            self._desk.answer_all()

    def _retire_if_finished(self) -> None:
        """Once run() has returned nobody watches the orders: they are cancelled, as live."""
        if self._session.finished and not self._retired:
            self._retired = True
            self._desk.retire()


def _check(strategy: Strategy, start: StartReplay, heard: Collection[str]) -> None:
    """Refuse what a back-test on bars cannot do. Raises StrategyError."""
    wants = subscriptions_of(type(strategy))
    if not set(wants) & set(heard):
        name, what = type(strategy).__name__, " and ".join(wants) or "no market data"
        raise StrategyError(f"{name} listens to {what}: a back-test has {' and '.join(heard)} alone")
    quotes = dict.fromkeys(rules.quote for rules in start.instruments)
    if len(quotes) > 1:
        raise StrategyError(f"a back-test needs symbols of one quote currency, not of {' and '.join(quotes)}")
