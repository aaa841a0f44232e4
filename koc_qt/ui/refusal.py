"""Says in a window of its own why K.O.C. cannot start: whoever clicked on its icon sees no terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager

from PySide6.QtCore import Qt, QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from koc_qt.ui.header import icon_of_app
from koc_qt.ui.theme import Theme

SHOWN_MS = 600_000  # nobody may be there to read it
HEAR_MS = 100  # how often Python gets a turn, which hears signals in none of Qt's

# has a function called when this process is to end, for as long as the block lasts
Closing = Callable[[Callable[[], object]], AbstractContextManager[None]]


def refusal_box(text: str) -> QMessageBox:
    """Make the box; it goes away by itself after a while."""
    box = QMessageBox(QMessageBox.Icon.Warning, "K.O.C.", "K.O.C. cannot start")
    box.setWindowIcon(icon_of_app())
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setInformativeText(f"{text[:1].upper()}{text[1:]}")
    box.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    box.addButton(QMessageBox.StandardButton.Close)
    timer = QTimer(box)
    timer.setSingleShot(True)
    timer.timeout.connect(box.reject)
    timer.start(SHOWN_MS)
    return box


def show_refusal(text: str, closing: Closing) -> None:
    """Show it until it is closed, by the person or by what `closing` waits for."""
    app = QApplication.instance() or QApplication(sys.argv[:1])
    if not isinstance(app, QApplication):
        return
    Theme(parent=app).apply(app)
    box = refusal_box(text)
    hearing = QTimer(box)
    hearing.timeout.connect(lambda: None)
    hearing.start(HEAR_MS)
    with closing(box.reject):
        box.exec()
