"""The line above a result: which run is looked at, how it stands, and what can be done with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QIcon, QResizeEvent
from PySide6.QtWidgets import QButtonGroup, QComboBox, QHBoxLayout, QLabel, QMenu, QToolButton, QWidget

from koc_qt.domain.backtests import BacktestSnapshot
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import Check, TrustSnapshot, Verdict
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_fields import WheelGuard
from koc_qt.ui.panels.backtest_runs import PILLS, run_text
from koc_qt.ui.theme import Theme, style_as

TRUST_PILLS = {
    Verdict.GREEN: "profit",
    Verdict.AMBER: "warning",
    Verdict.RED: "danger",
    Verdict.NONE: "neutral",
}
_PARITY = {
    Verdict.GREEN: "Parity certificate: all engines made the same trades",
    Verdict.AMBER: "The engines made almost the same trades: see the Trust tab",
    Verdict.RED: "The engines made other trades: see the Trust tab",
    Verdict.NONE: "",
}
LISTED = 100  # runs in the list, the newest; the history has all
_PILL_PX = 340  # from which there is room for pills
_NO_RUN = "No runs yet"


@dataclass(frozen=True)
class View:
    """A view beside the one of a run, with a button of its own."""

    name: str
    icon: str
    text: str
    tip: str


VIEWS = (
    View("history", "clock", "Runs", "All runs: search, notes, and several side by side"),
    View("optimise", "telemetry", "Optimise", "Look for better parameters"),
)


class RunBar(QWidget):
    """`run_chosen` brings a run's id, `view_chosen` a view's name or "" for the run itself.

    `replay_wanted` asks for the run bar by bar, `export_wanted` brings the ending of the file to write.
    """

    run_chosen = Signal(str)
    view_chosen = Signal(str)
    replay_wanted = Signal()
    export_wanted = Signal(str)

    def __init__(self, theme: Theme, parent: QWidget, *, kinds: Mapping[str, str]) -> None:
        super().__init__(parent)
        self._has_run = self._has_parity = False
        self._listed: dict[str, BacktestSnapshot | None] = {}  # as they are written in the list, in its order
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 6, 6, 4)
        row.setSpacing(4)
        self.runs = QComboBox(self)
        self.runs.setAccessibleName("Run")
        self.runs.setPlaceholderText(_NO_RUN)
        self.runs.setToolTip("The back-tests of this engine, the newest first")
        self.runs.setMinimumContentsLength(8)
        self.runs.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        WheelGuard(self).watch(self.runs)
        self.pill = QLabel(self)
        style_as(self.pill, pill="neutral")  # before it is shown first: later only the colours change, not the room
        row.addWidget(self.runs, 1)
        row.addWidget(self.pill)
        self.parity = QLabel("parity", self)
        style_as(self.parity, pill="neutral")
        self.parity.hide()
        row.addWidget(self.parity)
        self.replay = self._button(icon("play", theme), "Replay", "Play this run bar by bar")
        self.export = self._button(icon("export", theme), "Export", "Write this run to a file")
        menu = QMenu(self.export)
        for ending, text in kinds.items():
            menu.addAction(text, partial(self.export_wanted.emit, ending))
        self.export.setMenu(menu)
        self.export.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        row.addWidget(self.replay)
        row.addWidget(self.export)
        self._group = QButtonGroup(self)
        self._group.setExclusive(False)
        self.views: dict[str, QToolButton] = {}
        for view in VIEWS:
            button = self._button(icon(view.icon, theme), view.text, view.tip)
            button.setCheckable(True)
            button.clicked.connect(lambda checked, name=view.name: self.view_chosen.emit(name if checked else ""))
            self._group.addButton(button)
            self.views[view.name] = button
            row.addWidget(button)
        self.runs.activated.connect(lambda place: self.run_chosen.emit(str(self.runs.itemData(place))))
        self.replay.clicked.connect(lambda _checked: self.replay_wanted.emit())

    def _button(self, look: QIcon, text: str, tip: str) -> QToolButton:
        button = QToolButton(self)
        button.setIcon(look)
        button.setText(text)
        button.setToolTip(tip)
        button.setAccessibleName(text)
        return button

    def show_view(self, name: str) -> None:
        """Have the button of a view pressed, and no other; "" is the run itself."""
        for each, button in self.views.items():
            button.setChecked(each == name)

    def show_runs(self, runs: Mapping[str, BacktestSnapshot], chosen: str) -> None:
        """List these, the newest first, and how the chosen one stands."""
        keys = list(runs)[: -LISTED - 1 : -1]
        if chosen and chosen not in keys:
            keys.append(chosen)
        box = self.runs
        if keys != list(self._listed):
            box.clear()
            self._listed = dict.fromkeys(keys)
            for key in keys:
                box.addItem("", key)
        for place, key in enumerate(keys):
            if self._listed[key] is not runs[key]:
                self._listed[key] = runs[key]
                text = run_text(runs[key])
                box.setItemText(place, text)
                box.setItemData(place, text, Qt.ItemDataRole.ToolTipRole)
        box.setCurrentIndex(box.findData(chosen) if chosen else -1)
        box.setEnabled(bool(keys))
        self.show_state(runs.get(chosen))

    def show_state(self, run: BacktestSnapshot | None) -> None:
        """Show how the chosen run stands, and what can be done with it."""
        self._has_run = run is not None
        self._fit()
        is_done = run is not None and run.state is JobState.DONE
        self.replay.setEnabled(is_done)
        self.export.setEnabled(is_done)
        if run is not None:
            self.pill.setText(run.state.value)
            style_as(self.pill, pill=PILLS[run.state])

    def show_parity(self, trust: TrustSnapshot | None) -> None:
        """Show whether the engines agreed about the chosen run, where that was looked at."""
        verdict = trust.verdicts.get(str(Check.PARITY), Verdict.NONE) if trust is not None else Verdict.NONE
        self._has_parity = verdict is not Verdict.NONE
        self._fit()
        style_as(self.parity, pill=TRUST_PILLS[verdict])
        self.parity.setToolTip(_PARITY[verdict])
        self.parity.setAccessibleName(_PARITY[verdict])

    def _fit(self) -> None:
        """Leave the pills out where the list of runs would have no room: it says the same."""
        self.pill.setVisible(self._has_run and self.width() >= _PILL_PX)
        self.parity.setVisible(self._has_parity and self.width() >= _PILL_PX)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Find what there is room for."""
        super().resizeEvent(event)
        self._fit()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Let the list of runs be short."""
        return QSize(180, super().minimumSizeHint().height())
