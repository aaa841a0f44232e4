"""All keys in one place: what Help shows of the commands that have a shortcut, and of what tables and charts hear."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QKeySequence
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from koc_qt.ui.actions import Actions
from koc_qt.ui.palette import KEYS_ROLE, KeysDelegate
from koc_qt.ui.theme import Theme

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

    def __init__(self, actions: Actions, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.setWindowTitle("Keyboard shortcuts")
        self.list = QListWidget()
        self.list.setSelectionMode(QListWidget.SelectionMode.NoSelection)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setVerticalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self.list.setUniformItemSizes(True)
        self.list.setItemDelegate(KeysDelegate(theme, self.list))
        self.list.setAccessibleName("Keyboard shortcuts")
        for title, keys in sections(actions).items():
            self._add(title).setForeground(QColor(theme.colors.accent))
            for shortcut, what in keys:
                text = QKeySequence(shortcut).toString(QKeySequence.SequenceFormat.NativeText)
                self._add(f"    {what}").setData(KEYS_ROLE, text)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(8)
        column.addWidget(self.list, 1)
        column.addWidget(buttons)
        room = parent.size()
        self.resize(min(_WIDTH, room.width()), min(_HEIGHT, room.height()))

    def _add(self, text: str) -> QListWidgetItem:
        item = QListWidgetItem(text)
        item.setFlags(Qt.ItemFlag.ItemIsEnabled)
        self.list.addItem(item)
        return item


def _plain(text: str) -> str:
    return text.replace("&", "").rstrip("…")
