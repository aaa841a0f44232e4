"""How a dialog with much in it comes up without holding up the window: a turn of the loop for each part of the work."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QDialog, QWidget


def paint_later(widget: QWidget) -> None:
    """Have it painted in another turn than the one that shows it or gives it its place."""
    widget.setUpdatesEnabled(False)
    QTimer.singleShot(0, widget, partial(widget.setUpdatesEnabled, True))


def open_gently(dialog: QDialog, parts: Iterable[None] = ()) -> None:
    """Call its `open` in another turn than the one that made it, and have it painted in a third.

    `parts` makes what is in it, a part a step; each step has a turn of its own.
    One that is closed before does not come.
    """
    left, is_over = iter(parts), False

    def end() -> None:
        nonlocal is_over
        is_over = True

    def step() -> None:
        if is_over:
            return
        for _ in left:
            QTimer.singleShot(0, dialog, step)
            return
        paint_later(dialog)
        dialog.open()

    dialog.finished.connect(end)
    QTimer.singleShot(0, dialog, step)
