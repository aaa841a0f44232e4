"""All keys in one place: what Help shows of the commands that have a shortcut, and of what tables and charts hear."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeySequence
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QFrame, QGridLayout, QLabel, QScrollArea, QVBoxLayout, QWidget

from koc_qt.ui.actions import Actions
from koc_qt.ui.theme import style_as

_WIDTH, _HEIGHT = 460, 560
_IN_CHARTS = (
    ("Left", "Go back in time; with Ctrl by larger steps"),
    ("Right", "Go on in time; with Ctrl by larger steps"),
    ("+", "Zoom in"),
    ("-", "Zoom out"),
    ("Home", "Go to the oldest bar"),
    ("End", "Go to the newest bar"),
)
_IN_TABLES = (
    ("Ctrl+C", "Copy the selected rows"),
    ("Return", "Open the row: its chart, or what belongs to it"),
    ("Del", "Cancel the selected orders"),
    ("Esc", "Let go of the selection"),
)


def sections(actions: Actions) -> dict[str, list[tuple[str, str]]]:
    """Give keys and what they do, by menu, in the order in which the commands came; charts and tables last."""
    found: dict[str, list[tuple[str, str]]] = {}
    for name, command in actions.commands.items():
        if command.shortcut:
            place = command.menu.replace("&", "") or "Anywhere"
            found.setdefault(place, []).append((command.shortcut, _plain(actions[name].text())))
    return {**found, "In charts": list(_IN_CHARTS), "In tables": list(_IN_TABLES)}


class ShortcutsDialog(QDialog):
    """Shows them. Goes when it is closed."""

    def __init__(self, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Keyboard shortcuts")
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidget(_listing(sections(actions)))
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        foot = QVBoxLayout()
        foot.setContentsMargins(12, 8, 12, 12)
        foot.addWidget(buttons)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(area, 1)
        column.addLayout(foot)
        room = parent.size()
        self.resize(min(_WIDTH, room.width()), min(_HEIGHT, room.height()))


def _listing(shown: dict[str, list[tuple[str, str]]]) -> QWidget:
    content = QWidget()
    grid = QGridLayout(content)
    grid.setContentsMargins(20, 8, 20, 16)
    grid.setHorizontalSpacing(24)
    grid.setVerticalSpacing(6)
    grid.setColumnStretch(0, 1)
    row = 0
    for title, keys in shown.items():
        head = QLabel(title)
        style_as(head, tone="muted")
        head.setContentsMargins(0, 10, 0, 0)
        grid.addWidget(head, row, 0, 1, 2)
        for offset, (shortcut, what) in enumerate(keys, start=1):
            text = QLabel(what)
            text.setTextFormat(Qt.TextFormat.PlainText)
            text.setWordWrap(True)
            key = QLabel(QKeySequence(shortcut).toString(QKeySequence.SequenceFormat.NativeText))
            key.setTextFormat(Qt.TextFormat.PlainText)
            style_as(key, pill="neutral")
            grid.addWidget(text, row + offset, 0)
            grid.addWidget(key, row + offset, 1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        row += len(keys) + 1
    grid.setRowStretch(row, 1)
    return content


def _plain(text: str) -> str:
    return text.replace("&", "").rstrip("…")
