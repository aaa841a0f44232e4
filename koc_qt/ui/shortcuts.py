"""All keys in one place: what Help shows of the commands that have a shortcut, and of what tables and charts hear."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QKeySequence
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QListWidget, QListWidgetItem, QVBoxLayout, QWidget

from koc_qt.ui.actions import MENUS, Actions, plain
from koc_qt.ui.palette import KEYS_ROLE, KeysDelegate
from koc_qt.ui.theme import Theme

_WIDTH, _HEIGHT = 460, 560
_Keys = tuple[tuple[str, str], ...]
_IN_CHARTS: _Keys = (
    ("Left", "Go back in time; with Ctrl by larger steps"),
    ("Right", "Go on in time; with Ctrl by larger steps"),
    ("+", "Zoom in"),
    ("-", "Zoom out"),
    ("Home", "Go to the oldest bar"),
    ("End", "Go to the newest bar"),
)
_IN_TABLES: _Keys = (
    ("Ctrl+C", "Copy the selected rows"),
    ("Return", "Open the row: its chart, or what belongs to it"),
    ("Del", "Cancel the selected orders"),
    ("Esc", "Let go of the selection"),
)
_IN_LOGS: _Keys = (
    ("Ctrl+F", "Search"),
    ("Ctrl+C", "Copy the selected lines"),
    ("End", "Follow the newest lines"),
    ("Esc", "Let go of the selection, or leave the search"),
)
_IN_REPLAYS: _Keys = (
    ("Space", "Play, or pause"),
    ("S", "Go on by a bar"),
    ("N", "Go to the next trade"),
    ("+", "Play faster"),
    ("-", "Play slower"),
)
_IN_FORMS: _Keys = (
    ("Ctrl+Return", "Send the order, start the strategy, run the back-test"),
    ("F5", "Read the strategy's file again"),
)
_ELSEWHERE = {
    "In charts": _IN_CHARTS,
    "In tables": _IN_TABLES,
    "In forms": _IN_FORMS,
    "In logs": _IN_LOGS,
    "In the replay of a back-test": _IN_REPLAYS,
}


def sections(actions: Actions) -> dict[str, list[tuple[str, str]]]:
    """Give keys and what they do, by menu, as menus follow each other; charts, tables and such last."""
    found: dict[str, list[tuple[str, str]]] = {_plain(menu): [] for menu in MENUS}
    for name, command in actions.commands.items():
        if command.shortcut:
            place = _plain(command.menu) or "Anywhere"
            found.setdefault(place, []).append((command.shortcut, _plain(actions[name].text())))
    return {place: list(keys) for place, keys in {**found, **_ELSEWHERE}.items() if keys}


class ShortcutsDialog(QDialog):
    """Shows them. Goes when it is closed."""

    def __init__(self, actions: Actions, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._titles: list[QListWidgetItem] = []
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
            self._titles.append(self._add(title))
            for shortcut, what in keys:
                text = QKeySequence(shortcut).toString(QKeySequence.SequenceFormat.NativeText)
                self._add(f"    {what}").setData(KEYS_ROLE, text)
        self._color()
        theme.changed.connect(self._color)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        column = QVBoxLayout(self)
        column.setContentsMargins(12, 12, 12, 12)
        column.setSpacing(8)
        column.addWidget(self.list, 1)
        column.addWidget(buttons)
        room = parent.size()
        self.resize(min(_WIDTH, room.width()), min(_HEIGHT, room.height()))

    def _color(self) -> None:
        for title in self._titles:
            title.setForeground(QColor(self._theme.colors.accent))

    def _add(self, text: str) -> QListWidgetItem:
        item = QListWidgetItem(text)
        item.setFlags(Qt.ItemFlag.ItemIsEnabled)
        self.list.addItem(item)
        return item


def _plain(text: str) -> str:
    return plain(text).rstrip("…")
