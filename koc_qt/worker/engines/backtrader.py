"""Runs the strategy class itself on backtrader: its orders are executed by backtrader's broker, bar by bar.

backtrader has the data, the broker and the loop; a bridge strategy of its kind tells our session what happens, in the
words and at the moments of the replay engine, and hands on what is ordered. The equity is backtrader's own. For what it
is told more than it asks for, see backtrader_parts.py; what it cannot do as we do is refused with a sentence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from koc_qt.domain.errors import EngineLacks
from koc_qt.domain.market import Bar
from koc_qt.domain.matching import MatchingEngine
from koc_qt.sdk.channel import ReplayBars, StartReplay
from koc_qt.sdk.strategy import Strategy
from koc_qt.worker.ahead import BarsAhead
from koc_qt.worker.engines import backtrader_library
from koc_qt.worker.engines.backtrader_account import BacktraderVenue
from koc_qt.worker.engines.backtrader_parts import make_bridge, make_broker, make_feed
from koc_qt.worker.engines.terms import refuse_latency
from koc_qt.worker.quoted import HEARD, Moment, Quotes
from koc_qt.worker.replay import Pause, Replay
from koc_qt.worker.replay_desk import ReplayDesk


class BacktraderDesk(ReplayDesk):
    """A desk whose venues are accounts at backtrader."""

    takes_short_cuts = False

    def open_accounts(self, bars: ReplayBars) -> None:
        """Make the venues' accounts, with the cash and by the rules of ours."""
        if self._venues:
            return
        super().open_accounts(bars)
        for venue, ours in self._venues.items():
            assert isinstance(ours, MatchingEngine)  # noqa: S101 (for the type checker)
            own = [rules for rules in self._start.instruments if rules.id.venue == venue]
            self._venues[venue] = BacktraderVenue(ours, own, allow_short=self._start.allow_short)
        self._by_row = [self._venues[rules.id.venue] for rules in self._start.instruments]

    @property
    def accounts(self) -> list[BacktraderVenue]:
        """The accounts, one a row."""
        return [venue for venue in self._by_row if isinstance(venue, BacktraderVenue)]


class BacktraderRun(Replay):
    """One run."""

    def __init__(self, strategy: Strategy, start: StartReplay, write: Callable[[int, str, str], None]) -> None:
        refuse_latency("backtrader", start)
        self._library = _library()
        super().__init__(strategy, start, write)
        self._desk: BacktraderDesk = BacktraderDesk(start, self._session, self._context, self._note_before)
        self._ahead = self._kept = BarsAhead()

    @property
    def versions(self) -> Mapping[str, str]:
        """The version of backtrader."""
        return {"backtrader": self._library.__version__}

    def play_kept(self, pause: Pause) -> None:
        """Run on all bars, those of the warm-up aside, which the strategy has seen."""
        self._ahead = None
        bars: list[list[Bar]] = [[] for _ in self._start.instruments]
        for message in self._kept.messages():
            self._open_accounts(message)
            for row, bar in zip(message.row, self._bars_of(message), strict=True):
                bars[row].append(bar)
        if not any(bars):
            return
        if bars[0]:
            self._first_open = bars[0][0].open
        self._run(bars, pause)

    def _run(self, bars: Sequence[Sequence[Bar]], pause: Pause) -> None:
        library, accounts = self._library, self._desk.accounts
        cerebro = library.Cerebro(stdstats=False, runonce=True, preload=True, cheat_on_open=True)
        cerebro.broker = make_broker(library, accounts, float(self._start.cash))
        rows = {rules.id: row for row, rules in enumerate(self._start.instruments)}
        for columns in self._kept.columns(self._start.instruments, self.timeframe):
            row = rows[columns.instrument]
            if self._session.signal_trader is not None:
                self._session.signal_trader.know(columns)
            if bars[row]:
                cerebro.adddata(make_feed(library, row, columns, len(columns) - len(bars[row]), pause))
        cerebro.addstrategy(make_bridge(library, accounts, bars, self._open, self._closing(bars, pause)))
        cerebro.run()

    def _open(self, moment: Moment) -> None:
        """Begin with the bars that open now; before the first ones, with what on_start asked for."""
        if not self._began:
            self._began = True
            self._desk.answer_all()

    def _closing(self, bars: Sequence[Sequence[Bar]], pause: Pause) -> Callable[[Moment, float], None]:
        """Give what is called at each close, with the worth of the account then."""
        session, keys = self._session, [rules.id for rules in self._start.instruments]
        advances = [session.advances(key, own, [bar.close for bar in own]) for key, own in zip(keys, bars, strict=True)]
        tellers = [session.teller(key) for key in keys]
        left = 1

        def close(moment: Moment, worth: float) -> None:
            nonlocal left
            self._pass(moment, advances, tellers)
            self.equity[-1] = worth
            left -= 1
            if not left:
                left = pause()

        return close


class QuotedBacktraderRun(BacktraderRun):
    """One run whose strategy hears quotes as well as bars."""

    HEARD = HEARD

    def start(self) -> None:
        """Say what the quotes are, and begin."""
        self._quotes = Quotes(self._start, self._session, self._desk, self._context)
        super().start()

    def _open(self, moment: Moment) -> None:
        super()._open(moment)
        self._quotes.open(moment)

    def _meet(self, moment: Moment) -> None:
        super()._meet(moment)
        self._quotes.close(moment)


def _library() -> Any:
    """Give backtrader. Raises EngineLacks, with how to get it, where it is not there."""
    if backtrader_library.missing:
        raise EngineLacks(backtrader_library.missing)
    return backtrader_library.library


RUN, QUOTED_RUN = BacktraderRun, QuotedBacktraderRun
