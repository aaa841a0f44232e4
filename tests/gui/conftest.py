"""What tests of widgets start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
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
