"""Real money can be seen at a glance: a red frame round the window, and a pill in its header."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest
import shiboken6
from PySide6.QtCore import QPoint
from PySide6.QtGui import QColor
from PySide6.QtWidgets import QApplication, QLabel, QMainWindow
from pytestqt.qtbot import QtBot

from koc_qt.domain.state import TradingMode
from koc_qt.ui.header import Header
from koc_qt.ui.live_frame import WIDTH_PX, LiveFrame
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench


class Shown:
    """A window with a header and a frame."""

    def __init__(self, fake: FakeBench) -> None:
        self.window = QMainWindow()
        self.middle = QLabel("middle", self.window)
        self.window.setCentralWidget(self.middle)
        self.header = Header(fake.bench, self.window)
        self.window.setMenuWidget(self.header)
        self.frame = LiveFrame(fake.bench, self.window)
        self.window.resize(960, 300)
        self.window.show()

    def edge_colors(self) -> set[str]:
        """Give the colours in the middle of the four edges."""
        picture = self.window.grab().toImage()
        width, height = self.window.width(), self.window.height()
        points = ((width // 2, 1), (width // 2, height - 2), (1, height // 2), (width - 2, height // 2))
        return {picture.pixelColor(QPoint(*point) * picture.devicePixelRatio()).name() for point in points}


@pytest.fixture
def shown(fake: FakeBench, qapp: QApplication) -> Iterator[Shown]:
    found = Shown(fake)
    yield found
    qapp.processEvents()
    shiboken6.delete(found.window)


def go_live(fake: FakeBench, *, enabled: bool = True) -> None:
    fake.engine.accounts.change("paper", mode=TradingMode.LIVE, label="Binance main", enabled=enabled)


@pytest.mark.parametrize("theme", [ThemeChoice.DARK, ThemeChoice.LIGHT])
def test_a_live_account_turns_the_frame_red(shown: Shown, fake: FakeBench, qtbot: QtBot, theme: ThemeChoice) -> None:
    fake.theme.set_choice(theme)
    red = QColor(fake.theme.colors.danger_fill).name()
    assert red not in shown.edge_colors()
    assert not shown.header.live.isVisible()
    go_live(fake)
    qtbot.waitUntil(shown.frame.isVisible)
    assert shown.edge_colors() == {red}
    assert (shown.header.live.text(), shown.header.live.isVisible()) == ("LIVE", True)
    assert shown.header.live.toolTip() == "Orders trade with real money: Binance main"
    assert not shown.header.mode.isVisible()


def test_nothing_is_covered_and_the_frame_follows_the_size(shown: Shown, fake: FakeBench, qtbot: QtBot) -> None:
    go_live(fake)
    qtbot.waitUntil(shown.frame.isVisible)
    for width, height in ((960, 300), (1300, 500)):
        shown.window.resize(width, height)
        qtbot.waitUntil(lambda width=width: shown.frame.width() == width)
        qtbot.waitUntil(lambda: shown.middle.geometry().left() == WIDTH_PX)
        assert shown.header.geometry().top() == WIDTH_PX
        assert shown.middle.geometry().bottom() == height - 1 - WIDTH_PX
        assert shown.middle.geometry().right() == width - 1 - WIDTH_PX


def test_it_goes_when_no_enabled_account_is_live(shown: Shown, fake: FakeBench, qtbot: QtBot) -> None:
    go_live(fake)
    qtbot.waitUntil(shown.frame.isVisible)
    fake.client.lose()
    qtbot.waitUntil(lambda: shown.header.state.text() == "No engine")
    assert shown.frame.isVisible()  # the engine may go on trading
    fake.client.connect()
    go_live(fake, enabled=False)
    qtbot.waitUntil(lambda: not shown.frame.isVisible())
    assert not shown.header.live.isVisible()
    assert shown.header.mode.text() == "—"
    qtbot.waitUntil(lambda: shown.middle.geometry().left() == 0)


def test_live_stands_beside_the_other_modes(shown: Shown, fake: FakeBench, qtbot: QtBot) -> None:
    paper = fake.engine.accounts.snapshots["paper"]
    fake.engine.accounts.show(msgspec.structs.replace(paper, account_id="kraken", mode=TradingMode.LIVE))
    qtbot.waitUntil(shown.header.live.isVisible)
    assert (shown.header.mode.text(), shown.header.mode.isVisible()) == ("Paper", True)
    fake.engine.accounts.change("kraken", mode=TradingMode.DATA)
    qtbot.waitUntil(lambda: not shown.header.live.isVisible())
    assert shown.header.mode.text() == "Paper"


def test_many_modes_leave_room_for_the_figures(shown: Shown, fake: FakeBench, qtbot: QtBot) -> None:
    paper = fake.engine.accounts.snapshots["paper"]
    for mode in (TradingMode.LIVE, TradingMode.TESTNET, TradingMode.SIMULATED):
        fake.engine.accounts.show(msgspec.structs.replace(paper, account_id=mode.value, mode=mode))
    fake.engine.pulse(pnl=Decimal("-123456.78"))
    qtbot.waitUntil(lambda: shown.header.mode.text() == "Testnet +2")
    assert shown.header.mode.toolTip() == "Where orders go: Testnet + Paper + Simulated"
    shown.window.resize(930, 300)
    value = shown.header.pnl.value
    qtbot.waitUntil(lambda: value.text().startswith("-123,456.78") and value.width() >= value.sizeHint().width())
