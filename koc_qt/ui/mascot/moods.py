"""How the mascot feels about what happens: pure decisions, on a clock that is handed in."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

_SAMPLE_S = 0.5  # profit is noted this often at most, which bounds what is kept


class Mood(StrEnum):
    """What the mascot shows."""

    IDLE = "idle"
    DANCE = "dance"
    SAD = "sad"
    ALARMED = "alarmed"
    ASLEEP = "asleep"
    CHEER = "cheer"
    WORKING = "working"


@dataclass(frozen=True)
class MoodInputs:
    """How things stand.

    `halted`: the kill switch is engaged. `lost`: an engine was connected and is no more. `running`: strategies that
    run. `pnl` and `equity` are totals in one currency, None where unknown; `backtests_done` and `work_done` count up.
    `work` is what the window itself is at work on, such as "Building for Ubuntu"; empty where it is not.
    """

    halted: bool = False
    lost: bool = False
    running: int = 0
    pnl: Decimal | None = None
    equity: Decimal | None = None
    backtests_done: int = 0
    work: str = ""
    work_done: int = 0


@dataclass(frozen=True)
class MoodSettings:
    """What moves the mascot.

    Profit counts when it changes, within `window_s`, by `share` of the equity, or by `amount` where that is unknown.
    A reaction lasts `reaction_s`; then the mascot stays calm for `rest_s`.
    """

    window_s: float = 60.0
    share: Decimal = Decimal("0.0005")
    amount: Decimal = Decimal(1)
    reaction_s: float = 8.0
    rest_s: float = 15.0


@dataclass(frozen=True)
class Shown:
    """A mood, and a short sentence that says why."""

    mood: Mood
    caption: str


ASLEEP = Shown(Mood.ASLEEP, "Asleep: nothing is running")


def choose_mood(inputs: MoodInputs, *, dancing: bool, reaction: Shown | None) -> Shown:
    """Choose among all that applies, the most serious first: an alarm is never danced over."""
    if inputs.halted:
        return Shown(Mood.ALARMED, "Alarmed: kill switch engaged")
    if inputs.lost:
        return Shown(Mood.ALARMED, "Alarmed: engine lost")
    if dancing:
        return Shown(Mood.DANCE, "Dancing: you asked for it")
    if reaction is not None:
        return reaction
    if inputs.work:
        return Shown(Mood.WORKING, f"Working: {inputs.work[:1].lower()}{inputs.work[1:]}")
    if inputs.running <= 0:
        return ASLEEP
    return Shown(Mood.IDLE, f"On guard: {inputs.running} {'strategy' if inputs.running == 1 else 'strategies'} running")


class MoodKeeper:
    """Remembers what `choose_mood` needs: profit of the last while, a reaction that lasts, a dance that was asked for.

    `clock` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, settings: MoodSettings | None = None) -> None:
        self._clock = clock
        self._settings = settings or MoodSettings()
        self._inputs = MoodInputs()
        self._profits: deque[tuple[float, Decimal]] = deque()
        self._reaction: Shown | None = None
        self._until_s = 0.0
        self._rest_until_s = 0.0
        self._dancing = False
        self._before: MoodInputs | None = None

    @property
    def is_dancing(self) -> bool:
        """Whether a dance was asked for and not yet stopped."""
        return self._dancing

    def observe(self, inputs: MoodInputs) -> Shown:
        """Take in how things stand, and give the mood that follows."""
        now_s = self._clock()
        self._inputs = inputs
        if inputs.halted or inputs.lost:
            self._reaction = None
        self._notice_profit(now_s, inputs)
        if self._before is not None and inputs.backtests_done > self._before.backtests_done:
            self._react(now_s, Shown(Mood.CHEER, "Cheering: a back-test is done"))
        if self._before is not None and inputs.work_done > self._before.work_done:
            self._react(now_s, Shown(Mood.CHEER, "Cheering: the work is done"))
        self._before = inputs
        return self.shown()

    def dance(self) -> Shown:
        """Dance until stopped."""
        self._dancing = True
        return self.shown()

    def stop(self) -> Shown:
        """End a dance, also one that profit began."""
        self._dancing = False
        self._reaction = None
        return self.shown()

    def shown(self) -> Shown:
        """Give the mood of this moment."""
        if self._reaction is not None and self._clock() >= self._until_s:
            self._reaction = None
        return choose_mood(self._inputs, dancing=self._dancing, reaction=self._reaction)

    def due_s(self) -> float | None:
        """Tell in how many seconds `shown` may change by itself; None when only `observe` can change it."""
        return None if self._reaction is None else max(0.0, self._until_s - self._clock())

    def _notice_profit(self, now_s: float, inputs: MoodInputs) -> None:
        pnl = inputs.pnl
        if pnl is None or not pnl.is_finite() or inputs.lost:
            self._profits.clear()  # what comes next is another engine's, or counted differently
            return
        if len(self._profits) > 1 and now_s - self._profits[-2][0] < _SAMPLE_S:
            self._profits.pop()
        self._profits.append((now_s, pnl))
        while now_s - self._profits[0][0] > self._settings.window_s:
            self._profits.popleft()
        change = pnl - self._profits[0][1]
        if abs(change) < self._threshold(inputs.equity) or now_s < self._rest_until_s or inputs.halted:
            return
        if change > 0:
            self._react(now_s, Shown(Mood.DANCE, f"Dancing: profit rose by {change:,.2f}"))
        else:
            self._react(now_s, Shown(Mood.SAD, f"Sad: profit fell by {-change:,.2f}"))
        self._profits = deque([(now_s, pnl)])
        self._rest_until_s = self._until_s + self._settings.rest_s

    def _threshold(self, equity: Decimal | None) -> Decimal:
        if equity is None or not equity.is_finite() or equity <= 0:
            return self._settings.amount
        return equity * self._settings.share

    def _react(self, now_s: float, shown: Shown) -> None:
        self._reaction = shown
        self._until_s = now_s + self._settings.reaction_s
