"""Where the keyboard is: brought into sight, and framed where the style has no sign for it."""

from __future__ import annotations

from collections.abc import Sequence

import shiboken6
from PySide6.QtCore import QEvent, QObject, QPoint, Qt
from PySide6.QtGui import QColor, QGuiApplication, QPainter, QPaintEvent, QRegion
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QLineEdit,
    QMenu,
    QMenuBar,
    QPlainTextEdit,
    QScrollArea,
    QTabBar,
    QTextEdit,
    QWidget,
)

from koc_qt.ui.theme import Theme

RING_PX = 2
MARGIN_PX = 24  # kept around what is brought into sight
_SIGNED = (
    QAbstractButton,
    QAbstractSpinBox,
    QComboBox,
    QLineEdit,
    QMenu,
    QMenuBar,
    QPlainTextEdit,
    QTabBar,
    QTextEdit,
)  # the style sheet shows that they have the focus


class FocusGuide(QObject):
    """Looks after the focus of all windows of the application, where it does not come from the mouse.

    What is reached by Tab is framed where the style sheet shows nothing; what code gives the focus to is not.
    """

    def __init__(self, theme: Theme, parent: QObject) -> None:
        super().__init__(parent)
        self._theme = theme
        self._ring: _Ring | None = None
        app = QApplication.instance()
        if isinstance(app, QApplication):
            app.focusChanged.connect(self._show)

    def _show(self, _before: QWidget | None, now: QWidget | None) -> None:
        if self._ring is not None and shiboken6.isValid(self._ring):
            self._ring.leave()
        self._ring = None
        if now is None or QGuiApplication.mouseButtons() != Qt.MouseButton.NoButton:
            return  # what is clicked stays under the mouse
        _bring_into_sight(now)
        top = now.window()
        by_key = top.testAttribute(Qt.WidgetAttribute.WA_KeyboardFocusChange)
        if by_key and top.windowType() != Qt.WindowType.Popup and not isinstance(now, _SIGNED):
            self._ring = _Ring(self._theme, now)


class StaysInSight(QObject):
    """Keeps what has the focus in sight when its scroll area gets less room, as by a message beneath it."""

    def __init__(self, area: QScrollArea) -> None:
        super().__init__(area)
        self._area = area
        self._seen_px = area.viewport().height()
        area.verticalScrollBar().rangeChanged.connect(self._keep)

    def _keep(self) -> None:
        area, seen_px = self._area, self._seen_px
        self._seen_px = area.viewport().height()
        content, now = area.widget(), QApplication.focusWidget()
        if content is None or now is None or not content.isAncestorOf(now):
            return
        if 0 <= now.mapTo(area.viewport(), QPoint(0, 0)).y() < seen_px:  # else the person has scrolled on
            area.ensureWidgetVisible(now, MARGIN_PX, MARGIN_PX)


def go_on(top: QWidget, *, is_forward: bool, besides: Sequence[QWidget] = ()) -> bool:
    """Give the focus to the next control of a window, or the one before, but for what lies in `besides`.

    Qt's own way misses controls that stand before a focus proxy of what holds them.
    """
    reason = Qt.FocusReason.TabFocusReason if is_forward else Qt.FocusReason.BacktabFocusReason
    start: QWidget | None = top.focusWidget()
    start = widget = start if start is not None else top
    while True:
        following = widget.nextInFocusChain() if is_forward else widget.previousInFocusChain()
        if following is None or following is start:
            return False
        widget = following
        if _takes_tab(widget, top) and not any(each.isAncestorOf(widget) for each in besides):
            widget.setFocus(reason)
            return True


def _takes_tab(widget: QWidget, top: QWidget) -> bool:
    return (
        bool(widget.focusPolicy().value & Qt.FocusPolicy.TabFocus.value)
        and widget.focusProxy() is None
        and widget.isEnabled()
        and widget.isVisible()
        and widget.window() is top
    )


def _bring_into_sight(widget: QWidget) -> None:
    """Scroll to a widget: Qt does so only from one to the next within the same area."""
    place = widget.parentWidget()
    while place is not None and not widget.isWindow():
        if isinstance(place, QScrollArea):
            place.ensureWidgetVisible(widget, MARGIN_PX, MARGIN_PX)
        place = place.parentWidget()


class _Ring(QWidget):
    """A frame on top of a widget, for as long as that has the focus. It takes no events."""

    def __init__(self, theme: Theme, framed: QWidget) -> None:
        super().__init__(framed)
        self._theme = theme
        self._framed = framed
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        framed.installEventFilter(self)
        theme.changed.connect(self.update)
        self._fit()
        self.show()

    def leave(self) -> None:
        """End it."""
        self._framed.removeEventFilter(self)
        self.hide()
        self.deleteLater()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Keep to the edge."""
        if event.type() == QEvent.Type.Resize:
            self._fit()
        return False

    def _fit(self) -> None:
        whole = self._framed.rect()
        self.setGeometry(whole)
        self.setMask(QRegion(whole) - QRegion(whole.adjusted(RING_PX, RING_PX, -RING_PX, -RING_PX)))
        self.raise_()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Fill the frame."""
        painter = QPainter(self)
        painter.fillRect(self.rect(), QColor(self._theme.colors.accent))
        painter.end()
