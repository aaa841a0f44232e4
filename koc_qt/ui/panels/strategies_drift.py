"""Whether strategies do live what they do in back-tests: asking for it, waiting for it, and the words for it."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QObject, QTimer, Signal

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.trust import DriftReport, Verdict
from koc_qt.link.trust_messages import CheckDrift
from koc_qt.ui.desk import Desk, Level

LIMIT_MS = 30 * 60_000  # without news, after which nothing is waited for any more
MOST_WAITING = 1_000  # strategies chosen at once; the others are left out
NEVER = "Not measured yet: running strategies are measured every day at 00:15 UTC, or now"
MEASURING = "It is being run once more as a back-test, on the bars that it saw"
LOOKS: dict[Verdict, tuple[str, str]] = {
    Verdict.GREEN: ("Green", "profit"),
    Verdict.AMBER: ("Amber", "warning"),
    Verdict.RED: ("Red", "danger"),
    Verdict.NONE: ("None", "neutral"),
}


class DriftKeeper(QObject):
    """Has the engine measure strategies, one request after the other, and knows which of them are being measured.

    `changed` brings the ids of those that are measured, or are no more. `trouble` says why the last request came to
    nothing. The reports are in the desk's replica.
    """

    changed = Signal(object)

    def __init__(self, desk: Desk, parent: QObject) -> None:
        super().__init__(parent)
        self._desk = desk
        self._asked_for: deque[str] = deque()
        self._before: dict[str, DriftReport | None] = {}  # of what is being measured, the report that there was
        self._found: list[DriftReport] = []
        self._is_asking = False
        self._task: asyncio.Task[Any] | None = None
        self.trouble = ""
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(LIMIT_MS)
        self._patience.timeout.connect(self._lose_patience)
        desk.linked.connect(self._on_link)

    @property
    def is_busy(self) -> bool:
        """Whether anything is being measured for this window."""
        return self._is_asking or bool(self._before) or bool(self._asked_for)

    def is_measured(self, strategy_id: str) -> bool:
        """Tell whether a strategy is being measured, or waits for it."""
        return strategy_id in self._before or strategy_id in self._asked_for

    def measure(self, strategy_ids: Sequence[str] = ()) -> None:
        """Have these measured, or all that run; nothing happens while others are."""
        if self.is_busy:
            return
        self.trouble = ""
        self._found = []
        self._asked_for.extend(list(strategy_ids)[:MOST_WAITING] or [""])
        self._ask_next()
        self.changed.emit(set(strategy_ids))

    def look(self) -> None:
        """See what came in; to be called for every frame."""
        reports = self._desk.replica.drift
        done = {key for key, before in self._before.items() if reports.get(key) is not before}
        if not done:
            return
        for key in done:
            del self._before[key]
            self._found.append(reports[key])
        self._patience.start()
        self._go_on()
        self.changed.emit(done)

    def retire(self) -> None:
        """Wait for nothing any more: the panel is about to be deleted."""
        self._patience.stop()
        if self._task is not None:
            self._task.cancel()

    # ---- inside

    def _ask_next(self) -> None:
        key = self._asked_for.popleft()
        self._is_asking = True
        before = dict(self._desk.replica.drift)
        if key:
            self._before[key] = before.get(key)
        self._patience.start()
        self._task = self._desk.start(self._ask(key, before), failed=lambda error: self._fail(key, error))

    async def _ask(self, key: str, before: dict[str, DriftReport]) -> None:
        wanted: list[str] = await self._desk.request(CheckDrift(key))
        if not self._is_asking:
            return  # the connection was lost meanwhile
        self._is_asking = False
        self._before |= {each: before.get(each) for each in wanted if each != key}
        if not key and not wanted:
            self._end("No strategy runs: there is nothing to measure")
            return
        self.changed.emit(set(wanted))
        self.look()  # a report may have come before the answer
        self._go_on()

    def _go_on(self) -> None:
        if self._is_asking or self._before:
            return
        if self._asked_for:
            self._ask_next()
        elif self._found:
            self._desk.notify(said_of(self._found))
            self._end()

    def _fail(self, key: str, error: KocError) -> None:
        whose = f"The drift of {key}" if key else "The drift"
        text = str(error) if isinstance(error, LinkError) else f"{whose} was not measured: {error}"
        self._end(text)
        self._desk.notify(text, Level.ERROR)

    def _lose_patience(self) -> None:
        self._end("The engine has not said for half an hour what the drift is: measure it again")

    def _on_link(self) -> None:
        if self._desk.is_connected:
            self.trouble = ""
        elif self.is_busy:
            self._end("The connection to the engine was lost: what it measures meanwhile is shown when it is back")

    def _end(self, trouble: str = "") -> None:
        """Wait for nothing any more."""
        concerned = {*self._before, *self._asked_for}
        self._patience.stop()
        self._is_asking = False
        self._before.clear()
        self._asked_for.clear()
        self._found = []
        self.trouble = trouble
        self.changed.emit(concerned)


def said_of(reports: Sequence[DriftReport]) -> str:
    """Say what was measured: a sentence for one strategy, how many of each verdict for several."""
    if len(reports) == 1:
        report = reports[0]
        return f"Drift of {report.strategy_id}: {LOOKS[report.verdict][0].lower()}. {report.sentence}"
    counts = Counter(report.verdict for report in reports)
    told = ", ".join(f"{counts[verdict]} {LOOKS[verdict][0].lower()}" for verdict in Verdict if counts[verdict])
    return f"The drift of {len(reports):,} strategies was measured: {told}"


def drift_text(report: DriftReport | None, is_measured: bool) -> str:
    """Give the pill's word; empty where a strategy was never measured."""
    return "Measuring" if is_measured else "" if report is None else LOOKS[report.verdict][0]


def drift_look(report: DriftReport | None, is_measured: bool) -> str | None:
    """Give the pill's look."""
    return "info" if is_measured else None if report is None else LOOKS[report.verdict][1]
