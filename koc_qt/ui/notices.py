"""Messages in place, under the header: lasting conditions with what can be done about them, and notices that pass."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from koc_qt.ui.desk import Level, Notice
from koc_qt.ui.formats import cut_words
from koc_qt.ui.icons import icon
from koc_qt.ui.theme import Theme, style_as

PASSING_MS = 6_000
MOST_NOTICES = 3  # the oldest makes way; all are in the log
MOST_CHARACTERS = 400  # of one; its tooltip has the rest
_LONGEST_WORD = 60  # characters
_LEAST_PX = 28  # of height, with buttons or without
_TONES = {Level.INFO: "info", Level.WARNING: "warning", Level.ERROR: "danger"}
_ICONS = {Level.INFO: "info", Level.WARNING: "warning", Level.ERROR: "error"}

Remedy = tuple[str, Callable[[], object]]  # what a button says, and does


class Strip(QFrame):
    """One message: icon, text that wraps, buttons, and a cross where it can be put away."""

    def __init__(self, theme: Theme, level: Level, text: str, remedies: Sequence[Remedy], *, closable: bool) -> None:
        super().__init__()
        self.level, self.text = level, text
        style_as(self, strip=_TONES[level])
        row = QHBoxLayout(self)
        row.setContentsMargins(12, 3, 6, 3)
        self.setMinimumHeight(_LEAST_PX)
        row.setSpacing(8)
        self._icon = icon(_ICONS[level], theme, _TONES[level])
        self._picture = QLabel()
        self._show_icon()
        theme.changed.connect(self._show_icon)
        row.addWidget(self._picture)
        shown = cut_words(text, _LONGEST_WORD)
        shown = shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS].rstrip()}…"
        self.label = QLabel(shown)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setToolTip(f"<p>{html.escape(text)}</p>" if shown != text else "")  # which wraps
        self.label.setWordWrap(True)
        self.label.setMinimumWidth(1)  # a long word would make the window wider than the screen
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        row.addWidget(self.label, 1)
        for words, act in remedies:
            button = QToolButton()
            button.setText(words)
            button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextOnly)
            style_as(button, role="flat")
            button.clicked.connect(lambda _checked=False, act=act: act())
            row.addWidget(button)
        self.cross = QToolButton()
        self.cross.setIcon(icon("close", theme))
        self.cross.setToolTip("Dismiss")
        self.cross.setAutoRaise(True)
        self.cross.setAccessibleName("Dismiss")
        row.addWidget(self.cross)  # before it may be shown: alone it would be a window of its own
        self.cross.setVisible(closable)
        self.setAccessibleName(text)

    def _show_icon(self) -> None:
        self._picture.setPixmap(self._icon.pixmap(16, 16))


class Notices(QWidget):
    """The strips. A condition is named and stays until it is cleared; an information passes by itself."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._conditions: dict[str, Strip] = {}
        self._passing: list[Strip] = []
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(0)
        self.hide()

    @property
    def texts(self) -> list[str]:
        """What stands there, conditions first."""
        return [strip.text for strip in (*self._conditions.values(), *self._passing)]

    def set_condition(
        self, name: str, text: str, level: Level = Level.WARNING, remedies: Sequence[Remedy] = ()
    ) -> None:
        """Say how something is, in the place of what was said under that name."""
        known = self._conditions.get(name)
        if known is not None and (known.text, known.level) == (text, level):
            return
        self.clear_condition(name)
        strip = Strip(self._theme, level, text, remedies, closable=False)
        self._column.insertWidget(len(self._conditions), strip)
        self._conditions[name] = strip
        self.show()

    def clear_condition(self, name: str) -> None:
        """It is so no longer."""
        strip = self._conditions.pop(name, None)
        if strip is not None:
            self._take_away(strip)

    def show_notice(self, notice: Notice, remedies: Sequence[Remedy] = ()) -> None:
        """Show what happened; the same words are not shown twice at once. What offers buttons waits for the person."""
        if any((strip.text, strip.level) == (notice.text, notice.level) for strip in self._passing):
            return
        strip = Strip(self._theme, notice.level, notice.text, remedies, closable=True)
        strip.setToolTip(notice.detail)
        strip.cross.clicked.connect(lambda: self._dismiss(strip))
        self._column.addWidget(strip)
        self._passing.append(strip)
        while len(self._passing) > MOST_NOTICES:
            self._dismiss(self._passing[0])
        if notice.level is Level.INFO and not remedies:
            timer = QTimer(strip)
            timer.setSingleShot(True)
            timer.timeout.connect(lambda: self._dismiss(strip))
            timer.start(PASSING_MS)
        self.show()

    def _dismiss(self, strip: Strip) -> None:
        if strip in self._passing:
            self._passing.remove(strip)
            self._take_away(strip)

    def _take_away(self, strip: Strip) -> None:
        self._column.removeWidget(strip)
        strip.hide()
        strip.deleteLater()
        self.setVisible(bool(self._conditions or self._passing))
