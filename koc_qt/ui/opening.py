"""How a dialog with much in it comes up without holding up the window: a turn of the loop for each part of the work."""

from __future__ import annotations

from functools import partial

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QDialog


def open_gently(dialog: QDialog) -> None:
    """Call its `open` in another turn than the one that made it, and have it painted in a third."""

    def show() -> None:
        dialog.setUpdatesEnabled(False)
        dialog.open()
        QTimer.singleShot(0, dialog, partial(dialog.setUpdatesEnabled, True))

    QTimer.singleShot(0, dialog, show)
