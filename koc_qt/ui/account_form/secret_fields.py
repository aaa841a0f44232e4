"""Fields for keys: shown as dots, never copied from, cleaned of what slips in with a paste, and wiped after use."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QMimeData, QPointF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.venues import CredentialField
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import Theme, code_font

LONGEST = 16_384  # characters, as the engine takes them
_BLANKS = " \t\r\n\v\f\u00a0\u2028\u2029\u200b\ufeff"  # all that a paste may bring along
_LINES = 4
_MOST_DOTS = 48


def cleaned(text: str, *, is_multiline: bool = False) -> tuple[str, str]:
    """Give a key as it is meant, and a sentence where that is not what was typed."""
    value = text.strip(_BLANKS)
    notes = ["Blanks around it are left out."] if value != text and value else []
    if is_multiline and value.startswith("-----BEGIN") and "\\n" in value:
        value = value.replace("\\r", "").replace("\\n", "\n").strip(_BLANKS)
        notes.append("Its \\n are taken as ends of lines.")
    return value, " ".join(notes)


class SecretLine(QLineEdit):
    """A line shown as dots. Qt lets nobody copy from such a field, nor undo in it."""

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setEchoMode(QLineEdit.EchoMode.Password)
        self.setMaxLength(LONGEST)
        self.setAccessibleName(name)
        self.setMinimumWidth(60)

    def wipe(self) -> None:
        """Forget what was typed; `clear` would keep it for an undo."""
        self.setText("")


class SecretText(QPlainTextEdit):
    """Some lines, such as a PEM block, painted as dots until they are revealed; nothing can be copied out of it."""

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._is_revealed = False
        self.setAccessibleName(name)
        self.setUndoRedoEnabled(False)
        self.setTabChangesFocus(True)
        self.setFont(code_font())
        self.setInputMethodHints(Qt.InputMethodHint.ImhSensitiveData | Qt.InputMethodHint.ImhNoPredictiveText)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.NoContextMenu)
        self.setPlaceholderText("Paste it here, whole")
        self.setFixedHeight(_LINES * self.fontMetrics().lineSpacing() + 14)

    def text(self) -> str:
        """Give what was typed."""
        return self.toPlainText()

    def setText(self, text: str) -> None:  # noqa: N802 - as a line's
        """Put a text in the place of what was typed."""
        self.setPlainText(text)

    def wipe(self) -> None:
        """Forget what was typed."""
        self.setText("")

    def reveal(self, *, is_revealed: bool) -> None:
        """Show what was typed, or dots."""
        self._is_revealed = is_revealed
        self.viewport().update()

    def createMimeDataFromSelection(self) -> QMimeData:  # noqa: N802 - Qt's name
        """Give nothing away: neither to the clipboard nor to where it is dragged."""
        return QMimeData()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint dots in the place of letters."""
        if self._is_revealed or self.document().isEmpty():
            super().paintEvent(event)
            return
        painter = QPainter(self.viewport())
        painter.setPen(self.palette().text().color())
        block, offset, ascent = self.firstVisibleBlock(), self.contentOffset(), self.fontMetrics().ascent()
        while block.isValid():
            room = self.blockBoundingGeometry(block).translated(offset)
            if room.top() > self.viewport().height():
                break
            at = QPointF(room.left() + self.document().documentMargin(), room.top() + ascent)
            painter.drawText(at, "•" * min(len(block.text()), _MOST_DOTS))
            block = block.next()
        painter.end()


class SecretField(QWidget):
    """One of the fields that let us in: its title, the field with a button that reveals it, and words about it."""

    edited = Signal()

    def __init__(self, field: CredentialField, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.field = field
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(2)
        caption = QLabel(field.title, self)
        caption.setTextFormat(Qt.TextFormat.PlainText)
        column.addWidget(caption)
        line = QHBoxLayout()
        line.setSpacing(4)
        column.addLayout(line)
        kind = SecretText if field.is_multiline else SecretLine
        self.editor: SecretText | SecretLine = kind(field.title, self)
        caption.setBuddy(self.editor)
        self.eye = QToolButton(self)
        self.eye.setIcon(icon("eye", theme))
        self.eye.setCheckable(True)
        self.eye.setToolTip("Show what was typed, as long as this is pressed in")
        self.eye.setAccessibleName(f"Show {field.title}")
        line.addWidget(self.editor, 1)
        line.addWidget(self.eye, 0, Qt.AlignmentFlag.AlignTop)
        self.plain = QLabel(self)  # of a line: nothing can be selected here, so nothing copied
        self.plain.setTextFormat(Qt.TextFormat.PlainText)
        self.plain.setFont(code_font())
        self.plain.setWordWrap(True)
        self.plain.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.plain.hide()
        column.addWidget(self.plain)
        self.words = Message(self, "small")
        column.addWidget(self.words)
        self.editor.textChanged.connect(self._changed)
        self.eye.toggled.connect(lambda _on: self._show())
        self._say()

    def value(self) -> str:
        """Give the key as it is meant."""
        return cleaned(self.editor.text(), is_multiline=self.field.is_multiline)[0]

    def wipe(self) -> None:
        """Forget what was typed."""
        self.eye.setChecked(False)
        self.editor.wipe()
        self.plain.clear()

    def _changed(self, _text: str = "") -> None:
        self._show()
        self._say()
        self.edited.emit()

    def _show(self) -> None:
        is_revealed = self.eye.isChecked()
        if isinstance(self.editor, SecretText):
            self.editor.reveal(is_revealed=is_revealed)
        else:
            self.plain.setText(self.editor.text() if is_revealed else "")
            self.plain.setVisible(is_revealed and bool(self.editor.text()))

    def _say(self) -> None:
        _, note = cleaned(self.editor.text(), is_multiline=self.field.is_multiline)
        self.words.say(note or self.field.help, "info" if note else "muted")


class CredentialFields(QWidget):
    """All fields that a venue asks for. `edited` says that `values` or `missing` may differ."""

    edited = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self.fields: dict[str, SecretField] = {}
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(8)

    def ask_for(self, fields: Iterable[CredentialField]) -> None:
        """Ask for these; what was typed into others is forgotten."""
        wanted = {field.name: field for field in fields}
        if {name: each.field for name, each in self.fields.items()} == wanted:
            return
        for name in list(self.fields):
            old = self.fields.pop(name)
            old.wipe()
            self._column.removeWidget(old)
            old.hide()
            old.deleteLater()
        for name, field in wanted.items():
            made = self.fields[name] = SecretField(field, self._theme, self)
            self._column.addWidget(made)
            made.show()
            made.edited.connect(self.edited)
        self.edited.emit()

    def values(self) -> dict[str, str]:
        """Give what was typed, by name, without what is empty."""
        return {name: value for name, each in self.fields.items() if (value := each.value())}

    def missing(self) -> str:
        """Say what has to be typed still; empty where nothing has."""
        titles = [each.field.title for each in self.fields.values() if not each.value()]
        return f"Type in the {listed([_lower(title) for title in titles])}" if titles else ""

    def wipe(self) -> None:
        """Forget everything that was typed."""
        for each in self.fields.values():
            each.wipe()

    def focus_first(self) -> None:
        """Put the cursor into the first field that is empty."""
        each = next((each for each in self.fields.values() if not each.value()), None)
        if each is not None:
            each.editor.setFocus()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for nothing where nothing is asked for."""
        return super().sizeHint() if self.fields else QSize(0, 0)


def listed(words: list[str]) -> str:
    """Write words as people list them; there is one at least."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _lower(title: str) -> str:
    """Begin small, unless it begins with an abbreviation."""
    return title if title[:2].isupper() else title[:1].lower() + title[1:]
