"""A strategy's session on paper, or live, once more as a back-test: on the bars that it saw, by its own settings."""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
from loguru import logger

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.orders import Fill, Order
from koc_qt.domain.state import StrategySpec
from koc_qt.domain.timeframes import SECOND_NS, bar_open_ns, duration_ns
from koc_qt.engine.backtest_run import SILENCE_LIMIT_S
from koc_qt.engine.backtests import prepare
from koc_qt.engine.drift_sessions import Session, Sessions
from koc_qt.engine.services import Services
from koc_qt.engine.told_files import sessions_of, with_fees
from koc_qt.engine.told_session import ReadSession, read_session
from koc_qt.engine.told_tape import ToldTapes
from koc_qt.engine.trust_history import SharedHistory, part
from koc_qt.engine.trust_runs import Outcome, TrustRuns
from koc_qt.engine.trust_tape import SessionTape
from koc_qt.ports.bars import BarSeries, Columns, Span
from koc_qt.sdk.recorded import RecordedOrder

QUIET_BARS = 2  # around the end of what is compared nothing is traded: an order may be on its way
_ORDERS = 20_000  # to be looked at, of all strategies
RECORDED_BYTES = 600_000  # of a session, which go to its replay in one message
TOLD_STEP_NS = 1_000_000  # times within it are the same, where all that was told is recorded
_QUIET_NS = 2 * SECOND_NS
_SOME_CASH = Decimal(1_000_000)  # where the account does not say what it had


class SessionReplay(msgspec.Struct, frozen=True):
    """A session and its back-test, both up to a moment around which nothing was traded.

    `fills` are what was done live on since_ns <= t < until_ns, `outcome` the back-test on the bars that the strategy
    saw, without the fills after that. `seen` are those bars, of all of the spec's time. `recorded` are the orders that
    met the market in the back-test as they did live, `instruments` have the account's fees. Of a strategy that hears
    quotes or trades `told` is all that was recorded, and `seen` are the middles of its quotes.
    """

    strategy: StrategySpec
    spec: BacktestSpec
    since_ns: int
    until_ns: int
    bar_ns: int
    fills: tuple[Fill, ...]
    outcome: Outcome
    seen: dict[BarSeries, Columns]
    instruments: tuple[Instrument, ...] = ()
    recorded: tuple[RecordedOrder, ...] = ()
    told: ReadSession | None = None


class SessionReplays:
    """Runs sessions once more. One at a time a caller: each run is a process.

    With a `tape` orders meet the market as they did live, without one they meet bars, as in any back-test. `tapes` have
    the sessions of strategies that hear quotes or trades.
    """

    def __init__(
        self,
        services: Services,
        sessions: Sessions,
        tape: SessionTape | None = None,
        tapes: ToldTapes | None = None,
        *,
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> None:
        self._services = services
        self._sessions = sessions
        self._tape = tape
        self._tapes = tapes
        self._silence_limit_s = silence_limit_s

    def has_seen(self, strategy_id: str) -> bool:
        """Tell whether there is anything that a strategy has seen."""
        is_told = self._tapes is not None and self._tapes.know(strategy_id)
        return is_told or self._sessions.get(strategy_id) is not None

    def recorded(self, strategy_id: str, spec: BacktestSpec) -> tuple[Fill, ...]:
        """Give what a strategy did in a spec's symbols and time, oldest first: the journal's fills, the newest."""
        fills = (
            fill
            for fill in self._services.store.fills
            if fill.strategy_id == strategy_id
            and fill.instrument in spec.instruments
            and spec.since_ns <= fill.time_ns < spec.until_ns
        )
        return tuple(sorted(fills, key=lambda fill: fill.time_ns))

    def orders(self, strategy_id: str) -> tuple[Order, ...]:
        """Give a strategy's orders, the newest that are remembered, in the order in which they were made."""
        orders = (order for order in self._services.store.recent_orders(_ORDERS) if order.strategy_id == strategy_id)
        return tuple(sorted(orders, key=lambda order: order.created_ns))

    async def replay(self, strategy_id: str) -> SessionReplay:
        """Run a strategy's session once more, on the bars that it saw.

        Raises StrategyError with a sentence where there is no session, or nothing to compare, and what a run raises.
        """
        if self._tapes is not None and self._tapes.know(strategy_id):
            return await self._replay_told(strategy_id, self._tapes)
        snapshot, session = self._services.store.strategies.get(strategy_id), self._sessions.get(strategy_id)
        if snapshot is None or session is None:
            raise StrategyError(f"{strategy_id} has seen no bar since the engine was started: there is no session")
        strategy, bar_ns = snapshot.spec, duration_ns(session.timeframe)
        columns = self._seen(strategy, session)
        until_ns = min(int(each.open_time_ns[-1]) for each in columns.values()) + bar_ns
        recorded, from_ns = self._recorded(strategy)
        after_ns = self._since(strategy, session, columns, from_ns)
        since_ns = bar_open_ns(after_ns, session.timeframe)  # what is decided at this bar's close is of both
        if since_ns >= until_ns:
            raise StrategyError(f"{strategy_id} has held something ever since: a back-test begins with nothing")
        spec, runs, instruments = await self._prepare(
            strategy, self._spec(strategy, session, since_ns, until_ns, after_ns)
        )
        span = Span(since_ns, until_ns)
        seen = {series: part(each, span) for series, each in columns.items()}
        before = {series: part(each, Span(0, since_ns)) for series, each in columns.items()}
        history = SharedHistory(self._services.history, span).changed(seen, before)
        outcome = await runs.run(spec, history, recorded=recorded)
        if unheard := [kind for kind in outcome.described.subscriptions if kind != "bars"]:
            raise StrategyError(f"{strategy_id} hears {' and '.join(unheard)} too, which a back-test has not")
        fills = [fill for fill in self._fills(strategy) if after_ns <= fill.time_ns < until_ns]
        times_ns = [fill.time_ns for fill in (*fills, *outcome.result.fills)]
        end_ns = quiet_end(times_ns, since_ns, until_ns, QUIET_BARS * bar_ns)
        if end_ns <= since_ns:
            raise StrategyError(f"{strategy_id} has not run for long enough: there is nothing to compare yet")
        return SessionReplay(
            strategy=strategy,
            spec=spec,
            since_ns=since_ns,
            until_ns=end_ns,
            bar_ns=bar_ns,
            fills=tuple(fill for fill in fills if fill.time_ns < end_ns),
            outcome=_until(outcome, end_ns),
            seen=seen,
            instruments=instruments,
            recorded=recorded,
        )

    async def _replay_told(self, strategy_id: str, tapes: ToldTapes) -> SessionReplay:
        """Run the newest session in which it traded once more, by all that it was told then."""
        await tapes.flush()
        read = await asyncio.to_thread(_newest_traded, tapes.folder, strategy_id)
        if read is None:
            raise StrategyError(f"nothing of the sessions of {strategy_id} that were recorded can be read")
        if read.settled_ns is None:
            raise StrategyError(f"{strategy_id} has held something ever since: a back-test begins with nothing")
        head = read.head
        first = head.instruments[0]
        cash = sum(
            (each.total for each in head.balances.get(first.id.venue, ()) if each.currency == first.quote), Decimal(0)
        )
        asked = BacktestSpec(
            path=head.spec.path,
            instruments=head.spec.instruments,
            timeframe=head.timeframe,
            since_ns=read.since_ns,
            until_ns=read.until_ns,
            parameters=head.spec.parameters,
            cash=cash or _SOME_CASH,
            volume_fraction=None,
            seed=head.seed,
        )
        made = await prepare(asked, self._services)
        if hashlib.sha256(made.source).hexdigest() != head.source:
            raise StrategyError(f"the file of {strategy_id} was changed since that session was recorded")
        runs = TrustRuns(made.source, head.instruments, self._services, lambda: None, self._silence_limit_s)
        outcome = await runs.run(made.spec, self._services.history, session=read.told())
        since_ns = read.since_ns if read.is_whole else read.settled_ns
        times_ns = [fill.time_ns for fill in (*read.fills, *outcome.result.fills)]
        end_ns = quiet_end(times_ns, since_ns, read.until_ns, _QUIET_NS)
        if end_ns <= since_ns:
            raise StrategyError(f"{strategy_id} has not run for long enough: there is nothing to compare yet")
        kept = [fill for fill in outcome.result.fills if since_ns <= fill.time_ns < end_ns]
        return SessionReplay(
            strategy=head.spec,
            spec=made.spec,
            since_ns=since_ns,
            until_ns=end_ns,
            bar_ns=TOLD_STEP_NS,
            fills=tuple(fill for fill in read.fills if since_ns <= fill.time_ns < end_ns),
            outcome=msgspec.structs.replace(outcome, result=msgspec.structs.replace(outcome.result, fills=kept)),
            seen=read.prices,
            instruments=head.instruments,
            told=read,
        )

    async def on_history(self, replay: SessionReplay) -> tuple[Outcome, int]:
        """Run it on the bars that history has by now; gives that, and how many bars are others or absent there."""
        _, runs, _ = await self._prepare(replay.strategy, replay.spec)
        history = SharedHistory(self._services.history, Span(replay.spec.since_ns, replay.spec.until_ns))
        outcome = await runs.run(replay.spec, history)
        changed = sum(changed_bars(seen, history.run[series]) for series, seen in replay.seen.items())
        return _until(outcome, replay.until_ns), changed

    # ---- inside

    async def _prepare(
        self, strategy: StrategySpec, spec: BacktestSpec
    ) -> tuple[BacktestSpec, TrustRuns, tuple[Instrument, ...]]:
        """Read the file and look the symbols up; gives the spec, and what runs it with the fees of the account."""
        made = await prepare(spec, self._services)
        account = self._services.store.accounts.get(strategy.account_id)
        instruments = tuple(with_fees(rules, account) for rules in made.instruments)
        runs = TrustRuns(made.source, instruments, self._services, lambda: None, self._silence_limit_s)
        return made.spec, runs, instruments

    def _seen(self, strategy: StrategySpec, session: Session) -> dict[BarSeries, Columns]:
        found = {}
        for instrument in strategy.instruments:
            series = BarSeries(instrument, session.timeframe)
            bars = self._sessions.bars(series)
            if instrument not in session.first_ns or bars is None:
                raise StrategyError(f"{strategy.strategy_id} has seen no bar of {instrument} yet")
            found[series] = bars
        return found

    def _recorded(self, strategy: StrategySpec) -> tuple[tuple[RecordedOrder, ...], int]:
        """Give the newest orders that are recorded, and since when these are all; 0 where none is forgotten."""
        if self._tape is None:
            return (), 0
        known = self._tape.orders(strategy.strategy_id)
        known = tuple(each for each in known if each.instrument in strategy.instruments)
        kept, size = list[RecordedOrder](), 0
        for each in reversed(known):
            size += len(msgspec.msgpack.encode(each))
            if size > RECORDED_BYTES:
                return tuple(reversed(kept)), each.time_ns + 1
            kept.append(each)
        return known, self._tape.known_since_ns(strategy.strategy_id)

    def _since(
        self, strategy: StrategySpec, session: Session, columns: Mapping[BarSeries, Columns], from_ns: int
    ) -> int:
        """Give the first moment of the session, from a time on, from which the strategy held nothing."""
        oldest = (int(each.open_time_ns[0]) for each in columns.values())
        since_ns = max(*session.first_ns.values(), *oldest, from_ns)
        fills = [fill for fill in self._fills(strategy) if fill.time_ns >= since_ns]
        held = self._held(strategy)
        for fill in fills:
            held[fill.instrument] -= self._moved(fill)
        if self._is_flat(held):
            return since_ns
        for fill in fills:
            held[fill.instrument] += self._moved(fill)
            if self._is_flat(held):
                return fill.time_ns + 1
        return max(int(each.open_time_ns[-1]) for each in columns.values()) + duration_ns(session.timeframe)

    def _held(self, strategy: StrategySpec) -> defaultdict[InstrumentId, Decimal]:
        held: defaultdict[InstrumentId, Decimal] = defaultdict(Decimal)
        for position in self._services.store.positions_of(strategy.strategy_id):
            if position.account_id == strategy.account_id:
                held[position.instrument.id] += position.quantity
        return held

    def _moved(self, fill: Fill) -> Decimal:
        """Give what a fill adds to the holding; a fee that is taken in the base currency is no longer held."""
        rules = self._services.store.instrument(fill.instrument)
        kept_back = fill.fee if rules is not None and fill.fee_currency == rules.base else Decimal(0)
        return fill.side.sign * fill.quantity - kept_back

    def _is_flat(self, held: Mapping[InstrumentId, Decimal]) -> bool:
        """Tell whether nothing is held but rests that cannot be sold."""
        rules = self._services.store.instruments
        return all(abs(quantity) < _lot(rules.get(instrument)) for instrument, quantity in held.items())

    def _fills(self, strategy: StrategySpec) -> list[Fill]:
        fills = (
            fill
            for fill in self._services.store.fills
            if (fill.strategy_id, fill.account_id) == (strategy.strategy_id, strategy.account_id)
        )
        return sorted(fills, key=lambda fill: fill.time_ns)

    def _spec(
        self, strategy: StrategySpec, session: Session, since_ns: int, until_ns: int, after_ns: int
    ) -> BacktestSpec:
        return BacktestSpec(
            path=strategy.path,
            instruments=strategy.instruments,
            timeframe=session.timeframe,
            since_ns=since_ns,
            until_ns=until_ns,
            parameters=strategy.parameters,
            cash=self._cash(strategy, after_ns),
            volume_fraction=None,
            seed=self._services.seed,
        )

    def _cash(self, strategy: StrategySpec, since_ns: int) -> Decimal:
        """Give what the account had then in the quote currency: what it has now, and what was paid since."""
        store = self._services.store
        account, rules = store.accounts.get(strategy.account_id), store.instrument(strategy.instruments[0])
        if account is None or rules is None:
            return _SOME_CASH
        cash = sum((each.total for each in account.balances if each.currency == rules.quote), Decimal(0))
        for fill in store.fills:
            traded = store.instrument(fill.instrument)
            if fill.account_id == strategy.account_id and fill.time_ns >= since_ns and traded is not None:
                if traded.quote == rules.quote:
                    cash += fill.side.sign * fill.price * fill.quantity
                if fill.fee_currency == rules.quote:
                    cash += fill.fee
        return cash if 0 < cash < 10**15 else _SOME_CASH


def _newest_traded(folder: Path, strategy_id: str) -> ReadSession | None:
    """Read the newest session that has fills; the newest of all where none has."""
    newest: ReadSession | None = None
    for head, files in sessions_of(folder, strategy_id):
        try:
            read = read_session(head, files)
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            logger.warning("a recorded session of {} cannot be read: {}", strategy_id, error)
            continue
        if read is not None and read.fills:
            return read
        newest = newest or read
    return newest


def quiet_end(times_ns: Iterable[int], since_ns: int, until_ns: int, quiet_ns: int) -> int:
    """Give the last moment that is at least `quiet_ns` away from `until_ns` and from every one of some times.

    One in the first half is too early: then `quiet_ns` before the end has to do.
    """
    end_ns = until_ns - quiet_ns
    for time_ns in sorted(times_ns, reverse=True):
        if time_ns <= end_ns - quiet_ns:
            break
        end_ns = min(end_ns, time_ns - quiet_ns)
    return end_ns if end_ns >= (since_ns + until_ns) // 2 else until_ns - quiet_ns


def changed_bars(seen: Columns, history: Columns) -> int:
    """Give how many bars that were seen are others in history, or absent there."""
    if not len(history.open_time_ns):
        return len(seen.open_time_ns)
    places = np.minimum(np.searchsorted(history.open_time_ns, seen.open_time_ns), len(history.open_time_ns) - 1)
    same = np.ones(len(seen.open_time_ns), np.bool_)
    for one, other in zip(seen, history, strict=True):
        same &= one == other[places]
    return int(len(same) - np.count_nonzero(same))


def _until(outcome: Outcome, end_ns: int) -> Outcome:
    kept = [fill for fill in outcome.result.fills if fill.time_ns < end_ns]
    return msgspec.structs.replace(outcome, result=msgspec.structs.replace(outcome.result, fills=kept))


def _lot(rules: Instrument | None) -> Decimal:
    return Decimal(0) if rules is None else rules.lot_size


def marks_of(columns: Mapping[BarSeries, Columns], until_ns: int) -> dict[InstrumentId, float]:
    """Give the last close of each instrument before a time."""
    found = {}
    for series, bars in columns.items():
        row = int(np.searchsorted(bars.open_time_ns, until_ns)) - 1
        found[series.instrument] = float(bars.close[max(row, 0)])
    return found


def opening_of(columns: Sequence[tuple[InstrumentId, Columns]], instrument: InstrumentId, time_ns: int) -> float | None:
    """Give the opening price of the bar that a time falls into, or the newest before it; None where there is none."""
    for key, bars in columns:
        if key == instrument:
            row = int(np.searchsorted(bars.open_time_ns, time_ns, side="right")) - 1
            return float(bars.open[row]) if row >= 0 else None
    return None
