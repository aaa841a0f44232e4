"""The red frame round the window while orders can trade with real money."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import QEvent, QObject, QRect, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QRegion
from PySide6.QtWidgets import QMainWindow, QWidget

from koc_qt.domain.state import AccountSnapshot, TradingMode
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Frame

WIDTH_PX = 3


def live_accounts(accounts: Iterable[AccountSnapshot]) -> list[AccountSnapshot]:
    """Give those that trade with real money."""
    return [each for each in accounts if each.mode is TradingMode.LIVE and each.enabled]


class LiveFrame(QWidget):
    """Lies round a window's content, which makes room for it, and takes no clicks.

    It stays while the connection is lost: the engine may go on trading.
    """

    def __init__(self, bench: Bench, window: QMainWindow) -> None:
        super().__init__(window)
        self._desk = bench.desk
        self._theme = bench.theme
        self._window = window
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setAccessibleName("Real money: a live account is switched on")
        self.hide()
        window.installEventFilter(self)
        self._theme.changed.connect(self.update)
        self._desk.framed.connect(self._on_frame)
        self.refresh()

    def refresh(self) -> None:
        """Show the frame, or take it away."""
        is_live = bool(live_accounts(self._desk.replica.accounts.values()))
        if is_live is not self.isHidden():
            return
        margin = WIDTH_PX if is_live else 0
        self._window.setContentsMargins(margin, margin, margin, margin)
        self.setVisible(is_live)
        self._fit()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.accounts:
            self.refresh()

    def _fit(self) -> None:
        """Cover the edges alone: what is painted beneath the middle does not have this one painted again."""
        area = self._window.rect()
        self.setGeometry(area)
        self.setMask(QRegion(area).subtracted(QRegion(_inner(area))))
        self.raise_()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Follow the window's size."""
        if event.type() == QEvent.Type.Resize and not self.isHidden():
            self._fit()
        return super().eventFilter(watched, event)

    def paintEvent(self, _event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the edges."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self._theme.colors.danger_fill))
        painter.end()


def _inner(area: QRect) -> QRect:
    return area.adjusted(WIDTH_PX, WIDTH_PX, -WIDTH_PX, -WIDTH_PX)
