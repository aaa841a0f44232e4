"""Commands about back-tests, what they are answered with, and facts about them.

Every run that has begun is listed until it is deleted, or makes way for newer ones: those of earlier engines too, and
those of ``koc backtest``, which come to the list as they end (BacktestSnapshot.made_by tells them apart).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from koc_qt.domain.backtests import BacktestResult, BacktestSnapshot, BacktestSpec


class StartBacktest(msgspec.Struct, frozen=True, tag=True):
    """Back-test a strategy file in a sandboxed process of its own. Answered with the id of the run."""

    spec: BacktestSpec


class StopBacktest(msgspec.Struct, frozen=True, tag=True):
    """Stop a back-test."""

    backtest_id: str


class FetchBacktest(msgspec.Struct, frozen=True, tag=True):
    """Answered with the BacktestHead of a run that is done."""

    backtest_id: str


class FetchBacktestPage(msgspec.Struct, frozen=True, tag=True):
    """Answered with a page of a run's RoundTrips or Fills, oldest first; the first `page` is 0.

    How many pages there are is in the BacktestHead.
    """

    backtest_id: str
    records: Literal["trades", "fills"]
    page: int


class NoteBacktest(msgspec.Struct, frozen=True, tag=True):
    """Write a person's note to a run, in the place of the one that it has; an empty one takes it away."""

    backtest_id: str
    note: str


class DeleteBacktest(msgspec.Struct, frozen=True, tag=True):
    """Forget a run that is over, and its result, for good."""

    backtest_id: str


class ListBacktests(msgspec.Struct, frozen=True, tag=True):
    """Answered with the BacktestSnapshots of the runs that have every word of a text, the newest first.

    They are looked for, capitals aside, in the name, the file, the symbols, the timeframe, the engine, the parameters,
    the state and the note; without a text all runs are there.
    """

    text: str = ""
    limit: int = 100


class BacktestHead(msgspec.Struct, frozen=True):
    """A result without its trades and fills, and how many pages of these there are."""

    result: BacktestResult
    trade_pages: int
    fill_pages: int


class BacktestChanged(msgspec.Struct, frozen=True, tag=True):
    """How far a back-test is, what came of it in figures, or another note."""

    backtest: BacktestSnapshot


class BacktestDeleted(msgspec.Struct, frozen=True, tag=True):
    """A back-test is there no more: somebody deleted it, or newer ones took its place."""

    backtest_id: str


BacktestCommand = (
    StartBacktest | StopBacktest | FetchBacktest | FetchBacktestPage | NoteBacktest | DeleteBacktest | ListBacktests
)
BacktestFact = BacktestChanged | BacktestDeleted
