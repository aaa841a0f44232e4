"""Dialogs that come up over several turns of the loop."""

from __future__ import annotations

from collections.abc import Iterator

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QDialog
from pytestqt.qtbot import QtBot

from koc_qt.ui.opening import open_gently


def test_each_part_has_a_turn_of_its_own_and_the_dialog_is_painted_after_them(qtbot: QtBot) -> None:
    dialog = QDialog()
    qtbot.addWidget(dialog)
    seen: list[str] = []

    def parts() -> Iterator[None]:
        for name in ("first", "second"):
            seen.append(name)
            QTimer.singleShot(0, dialog, lambda: seen.append("another's turn"))
            yield

    open_gently(dialog, parts())
    assert not seen
    qtbot.waitUntil(dialog.isVisible)
    assert seen == ["first", "another's turn", "second", "another's turn"]
    qtbot.waitUntil(dialog.updatesEnabled)


def test_one_that_is_closed_before_does_not_come(qtbot: QtBot) -> None:
    dialog, other = QDialog(), QDialog()
    qtbot.addWidget(dialog)
    qtbot.addWidget(other)
    open_gently(dialog)
    dialog.reject()
    open_gently(other)
    qtbot.waitUntil(other.isVisible)
    assert not dialog.isVisible()
