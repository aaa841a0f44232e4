"""A run written to a file: where to is asked, the writing is done in a thread, and what became of it is said."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import NamedTuple

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QFileDialog, QWidget

from koc_qt.domain.backtests import BacktestResult
from koc_qt.domain.errors import KocError
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.domain.trust import Check as Named
from koc_qt.domain.trust_report import TrustReport
from koc_qt.link.results import fetch_result
from koc_qt.reports.export import export
from koc_qt.reports.report import Check, Report, check_of
from koc_qt.ui.backtests.command import command_of, moment
from koc_qt.ui.backtests.findings import TITLES
from koc_qt.ui.desk import Desk, Level
from koc_qt.ui.errands import Errand
from koc_qt.ui.opening import open_gently

KINDS = {
    ".html": "Report to read or print (HTML)…",
    ".csv": "Tables for a spreadsheet (CSV)…",
    ".parquet": "Tables to compute with (Parquet)…",
    ".json": "All of it (JSON)…",
}
_FILTERS = {
    ".html": "Web pages (*.html)",
    ".csv": "CSV (*.csv)",
    ".parquet": "Parquet (*.parquet)",
    ".json": "JSON (*.json)",
}
_UNFIT = re.compile(r"[^\w.-]+")
PAGE_TIMEOUT_S = 30.0


class Shown(NamedTuple):
    """The run that is to be written: its id, what came of it, what amounts are in, and what its checks found."""

    run_id: str
    result: BacktestResult
    currency: str
    trust: TrustReport | None = None


class Exporter(QObject):
    """Writes one run at a time; a new one ends the one before."""

    def __init__(self, desk: Desk, parent: QWidget, *, clock_ns: Callable[[], int]) -> None:
        super().__init__(parent)
        self._desk, self._window = desk, parent
        self._clock_ns = clock_ns
        self._writing = Errand(desk, self)
        self.dialog: QFileDialog | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a file is being written."""
        return self._writing.is_running

    def ask(self, ending: str, shown: Shown) -> None:
        """Ask where to, then write."""
        if self.dialog is not None:
            return  # a second click, before the first has brought it up
        dialog = self.dialog = QFileDialog(self._window.window(), "Write the run to a file")
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(ending[1:])
        dialog.setNameFilters([_FILTERS[ending], "All files (*)"])
        dialog.selectFile(proposed_name(shown.result, ending))
        dialog.fileSelected.connect(lambda path: self.write(Path(path), shown))
        dialog.finished.connect(self._asked)
        open_gently(dialog)

    def _asked(self, _result: int) -> None:
        if self.dialog is not None:
            self.dialog.deleteLater()
            self.dialog = None

    def write(self, file: Path, shown: Shown) -> None:
        """Fetch the run's fills, and write all of it."""
        self._writing.start(self._write(file, shown), self._failed)

    async def _write(self, file: Path, shown: Shown) -> None:
        whole = await fetch_result(self._desk, shown.run_id, with_fills=True, timeout_s=PAGE_TIMEOUT_S)
        report = Report(
            (whole,),
            command=command_of(whole.spec),
            currency=shown.currency,
            certificate=shown.trust.certificate if shown.trust is not None else None,
            checks=checks_of(shown.trust),
            notes=(shown.trust.scope.sentence,) if shown.trust is not None and shown.trust.scope is not None else (),
            made_ns=self._clock_ns(),
        )
        files = await asyncio.to_thread(export, report, file)
        names = ", ".join(each.name for each in files)
        self._desk.notify(f"Wrote {names} to {file.parent}")

    def _failed(self, error: KocError) -> None:
        self._desk.notify(f"The run was not written: {error}", Level.ERROR)

    def stop(self) -> None:
        """End what is under way."""
        self._writing.cancel()
        if self.dialog is not None:
            self.dialog.close()


def checks_of(trust: TrustReport | None) -> tuple[Check, ...]:
    """Give what checks found as a report shows it, but for the certificate, which has a place of its own."""
    if trust is None:
        return ()
    found = (trust.lookahead, trust.warmup, trust.sharpe, trust.monte_carlo, trust.walk_forward)
    names = [title for name, title in TITLES.items() if name is not Named.PARITY]
    return tuple(check_of(title, each) for title, each in zip(names, found, strict=True) if each is not None)


def proposed_name(result: BacktestResult, ending: str) -> str:
    """Give a file name that says which run it is."""
    spec = result.spec
    stem = PurePath(spec.path.replace("\\", "/")).stem
    days = "_".join(
        moment(each // (86_400 * SECOND_NS) * 86_400 * SECOND_NS) for each in (spec.since_ns, spec.until_ns)
    )
    return _UNFIT.sub("-", f"{stem}_{spec.instruments[0].symbol}_{result.timeframe}_{days}") + ending
