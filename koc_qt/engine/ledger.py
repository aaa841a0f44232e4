"""What strategies hold and have earned: the only writer of positions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from decimal import Decimal

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.orders import Fill
from koc_qt.domain.positions import Position
from koc_qt.domain.state import PositionSnapshot
from koc_qt.engine.store import Store
from koc_qt.ports.clock import Clock

DAY_NS = 86_400_000_000_000
HOUR_NS = 3_600_000_000_000
SMALLEST = Decimal("1e-18")


class Ledger:
    """Applies fills to positions, and keeps each strategy's profit of the UTC day and its trades of the last hour."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._started_ns = clock.time_ns()
        self._day = self._started_ns // DAY_NS
        self._day_base: dict[str, Decimal] = {}
        self._trade_times: dict[str, deque[int]] = {}
        self._trades: dict[str, int] = {}
        self._seen: set[tuple[str, str]] = set()

    def restore(self, fills: tuple[Fill, ...]) -> None:
        """Build positions from the journal's fills; profit before today's first fill is the base of today's profit."""
        today_ns = self._day * DAY_NS
        for fill in fills:
            if fill.time_ns < today_ns:
                self.record(fill)
        self._day_base = {owner: self.realised_net(owner) for owner in {fill.strategy_id for fill in fills}}
        for fill in fills:
            if fill.time_ns >= today_ns:
                self.record(fill)
        self._trade_times.clear()  # when these were, a simulated market knows by its own clock alone

    def record(self, fill: Fill) -> bool:
        """Apply a fill once; False when it was there already."""
        key = (fill.account_id, fill.fill_id)
        if key in self._seen:
            return False
        self._seen.add(key)
        self._store.fills.append(fill)
        self.position(fill.strategy_id, fill.account_id, fill.instrument).apply(fill)
        self._trades[fill.strategy_id] = self._trades.get(fill.strategy_id, 0) + 1
        self._trade_times.setdefault(fill.strategy_id, deque(maxlen=100_000)).append(self._clock.time_ns())
        return True

    def replay_account(self, account_id: str, fills: Iterable[Fill]) -> list[PositionSnapshot]:
        """Have an account's positions be those of `fills` alone; gives what became of all that it had and has.

        Losses of today go on counting against the strategies that made them, profits do not.
        """
        fills = list(fills)
        before = [key for key in self._store.positions if key[1] == account_id]
        owners = {key[0] for key in before} | {fill.strategy_id for fill in fills}
        losses = {owner: min(self.daily_pnl(owner), Decimal(0)) for owner in owners}
        for key in before:
            del self._store.positions[key]
        for fill in fills:
            self.position(fill.strategy_id, account_id, fill.instrument).apply(fill)
        for key in before:
            self.position(*key)  # flat, where nothing is held any more
        for owner, loss in losses.items():
            self._day_base[owner] = self.total(owner) - loss
        return [self.snapshot(position) for key, position in self._store.positions.items() if key[1] == account_id]

    def position(self, strategy_id: str, account_id: str, instrument_id: InstrumentId) -> Position:
        """The position, made when it is not there yet; works before the venue has named its instruments."""
        instrument = self._store.instrument(instrument_id) or _plain(instrument_id)
        return self._store.position(strategy_id, account_id, instrument)

    def snapshot(self, position: Position) -> PositionSnapshot:
        """The position at the present mark."""
        return position.snapshot(self._store.mark(position.instrument.id), self._clock.time_ns())

    def realised_net(self, strategy_id: str) -> Decimal:
        """Realised profit less fees."""
        realised, _, fees = self._store.pnl(self._store.positions_of(strategy_id))
        return realised - fees

    def daily_pnl(self, strategy_id: str) -> Decimal:
        """Profit after fees since midnight UTC, open positions at their present mark included."""
        day = self._clock.time_ns() // DAY_NS
        if day != self._day:
            self._day = day
            self._day_base = {owner: self.total(owner) for owner in self._trades}
        return self.total(strategy_id) - self._day_base.get(strategy_id, Decimal(0))

    def total(self, strategy_id: str) -> Decimal:
        """Profit after fees since the first fill, open positions at their present mark included."""
        realised, unrealised, fees = self._store.pnl(self._store.positions_of(strategy_id))
        return realised + unrealised - fees

    def trades(self, strategy_id: str | None = None) -> int:
        """Number of fills of one strategy or all."""
        return self._trades.get(strategy_id, 0) if strategy_id is not None else sum(self._trades.values())

    def trades_per_hour(self, strategy_id: str | None = None) -> float:
        """Fills of the last hour; in the engine's first hour, at the rate since then (over a minute at least)."""
        now = self._clock.time_ns()
        count = 0
        for owner, times in self._trade_times.items():
            while times and times[0] < now - HOUR_NS:
                times.popleft()
            if strategy_id in (None, owner):
                count += len(times)
        hours = min(max(now - self._started_ns, HOUR_NS // 60), HOUR_NS) / HOUR_NS
        return count / hours


def _plain(instrument_id: InstrumentId) -> Instrument:
    """An instrument known by its unified symbol (BASE/QUOTE) alone, while its venue is out of reach."""
    base, _, quote = instrument_id.symbol.partition("/")
    return Instrument(instrument_id, base, quote or base, SMALLEST, SMALLEST)
