"""What tests of widgets start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from tests.conditions import PATIENCE
from tests.fakes.desk import FakeBench, running_bench

for wait in (QtBot.waitUntil, QtBot.waitSignal, QtBot.waitSignals):
    wait.__kwdefaults__["timeout"] = round(5_000 * PATIENCE)  # ms, as all other bounds of tests are stretched


@pytest.fixture
def fake(qapp: QApplication) -> Iterator[FakeBench]:
    """Give a bench joined to a fake engine; give panels `fake.window` as their parent, and it ends them."""
    with running_bench(qapp) as bench:
        # Qt keeps the modifiers of the last key that any test pressed, and tables select by them.
        QTest.keyRelease(bench.window, Qt.Key.Key_F35)
        assert qapp.keyboardModifiers() == Qt.KeyboardModifier.NoModifier
        yield bench


class _Strays(QObject):
    """Watches everything for widgets that came into sight as windows, and only then were put into one."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self._alone: set[QObject] = set()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        if isinstance(watched, QWidget):
            if event.type() is QEvent.Type.Show and watched.isWindow() and watched.parentWidget() is None:
                self._alone.add(watched)
            elif event.type() is QEvent.Type.ParentAboutToChange and watched in self._alone:
                self.names.append(f"{type(watched).__name__} {watched.objectName()}")
        return False


@pytest.fixture
def strays(qapp: QApplication) -> Iterator[list[str]]:
    """Note widgets that were windows of their own for a moment, as one is that is shown before it has a parent."""
    watch = _Strays()
    qapp.installEventFilter(watch)
    yield watch.names
    qapp.removeEventFilter(watch)
