"""What a run was made from: its settings, the hashes that prove it, and the command that makes it again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestResult
from koc_qt.reports.words import asked
from koc_qt.ui.backtests.command import command_of
from koc_qt.ui.backtests.small import Elided, heading
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, code_font, number_font, style_as

_OLDER = "This run says nothing about what it was made from. Run it again to have it."
Line = tuple[str, str]


class ProvenancePage(QScrollArea):
    """Settings, hashes, versions and the command, each in a group."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAccessibleName("Settings of the run")
        self.texts: dict[str, str] = {}  # what is shown, by its caption
        self._inside = inside = QWidget(self.viewport())
        self.setWidget(inside)
        column = QVBoxLayout(inside)
        column.setContentsMargins(10, 8, 10, 10)
        column.setSpacing(6)
        column.addWidget(heading("Make it again", inside))
        self.command = QLabel(inside)
        self.command.setFont(code_font())
        self.command.setTextFormat(Qt.TextFormat.PlainText)
        self.command.setWordWrap(True)
        self.command.setTextInteractionFlags(
            Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
        )
        self.command.setAccessibleName("Command that makes this run again")
        column.addWidget(self.command)
        row = QHBoxLayout()
        row.setSpacing(6)
        self.copy_command = QPushButton("Copy the command", inside)
        self.copy_all = QPushButton("Copy all of this", inside)
        for button in (self.copy_command, self.copy_all):
            button.setIcon(icon("copy", theme))
            row.addWidget(button)
        row.addStretch(1)
        column.addLayout(row)
        self._grid, self._row = QGridLayout(), 0  # the row of what comes next: a grid's own count never falls
        self._grid.setContentsMargins(0, 6, 0, 0)
        self._grid.setHorizontalSpacing(14)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnStretch(1, 1)
        column.addLayout(self._grid)
        column.addStretch(1)
        self.copy_command.clicked.connect(lambda _checked: QGuiApplication.clipboard().setText(self.command.text()))
        self.copy_all.clicked.connect(lambda _checked: QGuiApplication.clipboard().setText(self.whole))

    @property
    def whole(self) -> str:
        """Everything, a line each."""
        return "\n".join([self.command.text(), *(f"{name}: {text}" for name, text in self.texts.items())]) + "\n"

    def show_result(self, result: BacktestResult) -> Iterator[None]:
        """Show what this run was made from, a group a step."""
        self.command.setText(command_of(result.spec))
        self.texts, self._row = {}, 0
        while (item := self._grid.takeAt(0)) is not None:
            widget = item.widget()
            if widget is not None:
                widget.hide()
                widget.deleteLater()
        yield
        self._add("Settings", asked(result))
        yield
        if result.spec.parameters:
            self._add("Parameters that differ", [(name, str(each)) for name, each in result.spec.parameters.items()])
        made = result.provenance
        if made is None:
            self._grid.addWidget(heading("Made from", self._inside), self._row, 0, 1, 2)
            note = QLabel(_OLDER, self._inside)
            note.setWordWrap(True)
            style_as(note, tone="muted")
            self._grid.addWidget(note, self._row + 1, 0, 1, 2)
            return
        hashes = [("Data", made.data), ("Strategy file", made.strategy), ("Settings hash", made.settings)]
        self._add("Made from (SHA-256)", [*hashes, ("Result", made.result)], is_code=True)
        yield
        self._add("Versions", sorted(made.versions.items()))

    def _add(self, title: str, lines: Sequence[Line], *, is_code: bool = False) -> None:
        inside = self._inside
        first, self._row = self._row, self._row + 1 + len(lines)
        above = heading(title, inside)
        above.setContentsMargins(0, 8, 0, 2)
        self._grid.addWidget(above, first, 0, 1, 2)
        for row, (name, text) in enumerate(lines, first + 1):
            caption, value = QLabel(name, inside), Elided(text, inside, mode=Qt.TextElideMode.ElideMiddle)
            caption.setTextFormat(Qt.TextFormat.PlainText)
            style_as(caption, tone="muted")
            value.setFont(code_font() if is_code else number_font())
            value.setAccessibleName(name)
            self._grid.addWidget(caption, row, 0)
            self._grid.addWidget(value, row, 1)
            self.texts[name] = text

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little: it scrolls."""
        return QSize(120, 40)
