"""The palette: type a few letters of any command and press Enter."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QModelIndex, QObject, QPersistentModelIndex, QPoint, QSize, Qt
from PySide6.QtGui import QColor, QIcon, QKeyEvent, QPainter, QPixmap
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from koc_qt.ui.actions import Actions, plain
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, style_as

WIDTH, ROWS, ROW_PX = 520, 12, 28
ICON_PX = 16
_NAME, KEYS_ROLE = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1


def rank(query: str, text: str) -> int | None:
    """Say how well a command's text fits what was typed: lower is better, None not at all.

    Every word must begin a word of the text, or be within it; failing that, the letters must come in order.
    """
    query, text = query.casefold().strip(), text.casefold()
    if not query:
        return 0
    words = text.replace(":", " ").split()
    if text.startswith(query):
        return 0
    if all(any(word.startswith(part) for word in words) for part in query.split()):
        return 1
    if all(part in text for part in query.split()):
        return 2
    letters = iter(text)
    return 3 if all(letter in letters for letter in query.replace(" ", "")) else None


class KeysDelegate(QStyledItemDelegate):
    """Paints a command, and its keys at the right."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        """Paint a row."""
        super().paint(painter, option, index)
        painter.setPen(QColor(self._theme.colors.muted))
        room = option.rect.adjusted(0, 0, -8, 0)
        painter.drawText(
            room, int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter), index.data(KEYS_ROLE) or ""
        )

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:  # noqa: N802
        """Make all rows equally high."""
        return QSize(super().sizeHint(option, index).width(), ROW_PX)


class CommandPalette(QFrame):
    """A list over the window that takes the keyboard until a command is chosen or Escape is pressed."""

    def __init__(self, actions: Actions, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent, Qt.WindowType.Popup | Qt.WindowType.FramelessWindowHint)
        self._actions = actions
        self._theme = theme
        style_as(self, popup="palette")
        self.setFrameShape(QFrame.Shape.StyledPanel)
        self.query = QLineEdit()
        self.query.setPlaceholderText("Type a command")
        self.query.setClearButtonEnabled(True)
        self.query.installEventFilter(self)
        self.query.textChanged.connect(self._fill)
        self.query.returnPressed.connect(self._run)
        self.list = QListWidget()
        self.list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.itemClicked.connect(lambda _item: self._run())
        self.list.setUniformItemSizes(True)
        self.list.setIconSize(QSize(ICON_PX, ICON_PX))
        self.list.setItemDelegate(KeysDelegate(theme, self.list))
        self._blank = QPixmap(ICON_PX, ICON_PX)  # before words without a picture, which begin where the others do
        self._blank.fill(Qt.GlobalColor.transparent)
        self.empty = QLabel("No command fits")
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        style_as(self.empty, tone="muted")
        column = QVBoxLayout(self)
        column.setContentsMargins(8, 8, 8, 8)
        for widget in (self.query, self.list, self.empty):
            column.addWidget(widget)

    def open_over(self, window: QWidget) -> None:
        """Show it at the top of a window."""
        self.query.clear()
        self._fill("")
        width = min(WIDTH, max(window.width() - 40, 200))
        height = min(ROWS * ROW_PX + 52, max(window.height() - 80, 120))
        self.setFixedSize(width, height)
        self.move(window.mapToGlobal(QPoint((window.width() - width) // 2, 60)))
        self.show()
        self.query.setFocus()

    def _fill(self, query: str) -> None:
        self.list.clear()
        found = []
        for name, command in self._actions.commands.items():
            action = self._actions[name]
            where = plain(command.menu)
            text = f"{where}: {plain(action.text())}" if where else plain(action.text())
            place = min(
                (r for r in (rank(query, plain(action.text())), rank(query, text)) if r is not None), default=None
            )
            if place is not None and action.isEnabled() and action.isVisible() and name != "window.palette":
                found.append((place, text, name, action.shortcut().toString(), command.icon))
        for _, text, name, shortcut, picture in sorted(found):
            item = QListWidgetItem(icon(picture, self._theme) if picture else QIcon(self._blank), text)
            item.setData(_NAME, name)
            item.setData(KEYS_ROLE, shortcut)
            self.list.addItem(item)
        self.list.setCurrentRow(0)
        self.list.setVisible(bool(found))
        self.empty.setVisible(not found)

    def _run(self) -> None:
        item = self.list.currentItem()
        self.hide()
        if item is not None:
            self._actions.run(item.data(_NAME))

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Let the arrows move through the list while the person types."""
        if event.type() is QEvent.Type.KeyPress and isinstance(event, QKeyEvent):
            step = {Qt.Key.Key_Down: 1, Qt.Key.Key_Up: -1, Qt.Key.Key_PageDown: ROWS, Qt.Key.Key_PageUp: -ROWS}
            if (move := step.get(Qt.Key(event.key()))) is not None and self.list.count():
                row = min(max(self.list.currentRow() + move, 0), self.list.count() - 1)
                self.list.setCurrentRow(row)
                return True
        return super().eventFilter(watched, event)
