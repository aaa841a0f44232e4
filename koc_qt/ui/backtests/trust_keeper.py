"""Brings the Trust tab together with the engine: starts checks, follows them, fetches what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import msgspec
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QWidget

from koc_qt.domain.backtests import BacktestSnapshot, BacktestSpec
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.optimisation import StudySnapshot
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import AUTOMATIC_BUDGET_S, TRIALS_LIMIT, TrustSnapshot, TrustSpec
from koc_qt.domain.trust_report import TrustReport
from koc_qt.link.trust_messages import FetchTrust, StartTrust, StopTrust
from koc_qt.ui.backtests.source import SourceDialog
from koc_qt.ui.backtests.trust import TrustPage
from koc_qt.ui.desk import Desk
from koc_qt.ui.errands import Errand
from koc_qt.ui.panels.backtest_file import read_file
from koc_qt.ui.theme import Theme

TIMEOUT_S = 30.0


class TrustKeeper(QObject):
    """Keeps one page for the run that is looked at. A run that begins in this window is checked when it is done."""

    def __init__(self, desk: Desk, theme: Theme, page: TrustPage, parent: QWidget) -> None:
        super().__init__(parent)
        self._desk, self._theme, self._page, self._window = desk, theme, page, parent
        self._run: BacktestSnapshot | None = None
        self._due: set[str] = set()  # ids of runs of this window that are not done yet
        self._shown: tuple[str, int] = ("", 0)  # the checks whose findings are shown, and how many there were
        self._automatic: set[str] = set()  # ids of checks that began by themselves
        self._is_starting = False
        self._refused = ""  # id of the run whose checks could not be started
        self.dialog: SourceDialog | None = None
        self._starting = Errand(desk, self)
        self._fetching = Errand(desk, self)
        self._reading = Errand(desk, self)
        page.check_wanted.connect(lambda: self.start())
        page.stop_wanted.connect(self._stop)
        page.line_wanted.connect(self._open_line)

    def expect(self, run_id: str) -> None:
        """Check this run by itself once it is done, where the person wants that.

        Checks that began by themselves for runs before it make way: the person has gone on.
        """
        self._due.add(run_id)
        for trust_id in self._automatic:
            trust = self._desk.replica.trust.get(trust_id)
            if trust is not None and trust.state is JobState.RUNNING:
                self._desk.send(StopTrust(trust_id))
        self._automatic.clear()

    def look_at(self, run: BacktestSnapshot | None) -> None:
        """Show what is known of this run; start the checks where they are due."""
        if run is None or self._run is None or run.backtest_id != self._run.backtest_id:
            self._shown = "", 0
            self._fetching.cancel()
        self._run = run
        self._begin_due()
        trust = self.trust
        self._page.set_enabled(run is not None and run.state is JobState.DONE and not self._is_starting)
        if trust is None:
            if run is None or self._refused != run.backtest_id:
                self._page.show_none("Checking begins…" if self._is_starting else "")
            return
        self._page.show_state(trust)
        wanted = (trust.trust_id, len(trust.verdicts) + (trust.state is not JobState.RUNNING))
        if wanted != self._shown and trust.verdicts:
            self._shown = wanted
            self._fetching.start(self._fetch(trust.trust_id), self._not_fetched)

    @property
    def trust(self) -> TrustSnapshot | None:
        """How the newest checks of the run stand; None where there are none."""
        if self._run is None:
            return None
        found = [each for each in self._desk.replica.trust.values() if each.spec.backtest_id == self._run.backtest_id]
        return max(found, key=lambda each: each.started_ns, default=None)

    @property
    def report(self) -> TrustReport | None:
        """What the checks of the run found, as far as it is shown."""
        return self._page.report

    def _begin_due(self) -> None:
        """Start the checks of a run of this window that has just been done."""
        run = self._run
        if run is not None and run.state is JobState.DONE and run.backtest_id in self._due:
            self._due.discard(run.backtest_id)
            if self._page.every.isChecked() and self.trust is None:
                self.start(is_automatic=True)

    def start(self, *, is_automatic: bool = False) -> None:
        """Have the engine check the run that is looked at."""
        run = self._run
        if run is not None and self._desk.is_connected and not self._is_starting:
            self._refused, self._is_starting = "", True
            self._starting.start(self._start(run, is_automatic=is_automatic), self._not_started)

    async def _start(self, run: BacktestSnapshot, *, is_automatic: bool) -> None:
        replica = self._desk.replica
        trials = trials_made(run.spec, replica.backtests.values(), replica.studies.values())
        budget_s = AUTOMATIC_BUDGET_S if is_automatic else None
        spec = TrustSpec(run.spec, backtest_id=run.backtest_id, trials=trials, budget_s=budget_s)
        trust_id = str(await self._desk.request(StartTrust(spec), timeout_s=TIMEOUT_S))
        if is_automatic:
            self._automatic.add(trust_id)
        self._is_starting = False
        self.look_at(self._run)

    def _not_started(self, error: KocError) -> None:
        self._is_starting = False
        self._refused = self._run.backtest_id if self._run is not None else ""
        self._page.show_none(f"It was not checked: {error}")
        self._page.set_enabled(True)

    def _stop(self) -> None:
        trust = self.trust
        if trust is not None:
            self._desk.send(StopTrust(trust.trust_id))

    async def _fetch(self, trust_id: str) -> None:
        answer = await self._desk.request(FetchTrust(trust_id), timeout_s=TIMEOUT_S)
        try:
            report = msgspec.convert(answer, TrustReport)
        except msgspec.ValidationError as error:
            raise LinkError(f"what the checks found cannot be read: {error}") from error
        for _ in self._page.show_report(report):
            await asyncio.sleep(0)

    def _not_fetched(self, error: KocError) -> None:
        self._page.show_none(f"What the checks found did not come: {error}")

    # ---- lines of the file ------------------------------------------------------------------------------------------

    def _open_line(self, line: int, why: str) -> None:
        if self._run is not None:
            self._reading.start(self._show_line(self._run.spec.path, line, why))

    async def _show_line(self, path: str, line: int, why: str) -> None:
        source = await read_file(path)
        if source is None:
            self._desk.notify(f"{path} is not on this machine. It is about line {line}: {why}")
            return
        text = source.decode("utf-8", "replace")
        self.dialog = SourceDialog(self._theme, self._window.window(), path, text, line, why)
        self.dialog.destroyed.connect(self._closed)
        self.dialog.open()

    def _closed(self) -> None:
        self.dialog = None

    def close(self) -> None:
        """Take no answer that is still on its way."""
        for errand in (self._starting, self._fetching, self._reading):
            errand.cancel()
        if self.dialog is not None:
            self.dialog.close()


def trials_made(spec: BacktestSpec, runs: Iterable[BacktestSnapshot], studies: Iterable[StudySnapshot]) -> int:
    """Count the sets of parameters of this strategy that were tried on these symbols: in runs, and in searches."""
    what = _subject(spec)
    tried = {repr(sorted(spec.parameters.items()))}
    tried |= {repr(sorted(r.spec.parameters.items())) for r in runs if _subject(r.spec) == what}
    searched = sum(each.finished for each in studies if _subject(each.spec.base) == what)
    return min(len(tried) + searched, TRIALS_LIMIT)


def _subject(spec: BacktestSpec) -> tuple[object, ...]:
    """Give what is tried, and on what."""
    return spec.path, spec.instruments, spec.files
