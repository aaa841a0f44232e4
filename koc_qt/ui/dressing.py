"""Another style sheet for widgets that are there already, without holding up the window.

QApplication.setStyleSheet styles each widget anew once for each widget that it lies in, all in one turn: a second where
there are a thousand. So the application keeps the sheet that it began with. Another one goes to parts of the windows,
of some dozen widgets each and a turn of the loop for each, those in sight first. What parts lie in, such as docks,
splitters and pages, gets none, as it would pass it on to all within: the rules for it name colours of the palette
(ui/style_sheet.py), which everything knows at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter_ns

import shiboken6
from PySide6.QtCore import QChildEvent, QEvent, QObject, QPoint, QRect, Qt
from PySide6.QtGui import QPalette, QRegion
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QComboBox,
    QDialog,
    QDockWidget,
    QFrame,
    QGroupBox,
    QLineEdit,
    QMainWindow,
    QMenu,
    QMenuBar,
    QProgressBar,
    QScrollArea,
    QSplitter,
    QStackedWidget,
    QStatusBar,
    QTabBar,
    QTabWidget,
    QToolBar,
    QWidget,
)

from koc_qt.ui.slices import Slices

AT_ONCE_NS = 5_000_000  # of dressing in a turn, and what the last part of it takes
PART_MOST = 60  # widgets of a part: some 8 ms
STRIP_PX = 160  # of a dock, painted at once: some 5 ms where it is full
_FRAMES = (QMainWindow, QDockWidget, QSplitter, QStackedWidget, QTabWidget, QScrollArea)  # whose rules name the palette
_RULED = (  # the sheet has rules with colours of its own for these
    QAbstractButton,
    QAbstractSlider,
    QAbstractSpinBox,
    QComboBox,
    QDialog,
    QFrame,
    QGroupBox,
    QLineEdit,
    QMenu,
    QMenuBar,
    QProgressBar,
    QStatusBar,
    QTabBar,
    QToolBar,
)
_IS_PART, _IS_FRAME = "dressedAlone", "dressedWithin"


class Dressing(QObject):
    """Puts another style sheet on everything; an empty one is the application's own.

    Docks stand still until all of their parts are dressed, and are painted one by one, from top to bottom.
    """

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._sheet = ""
        self._slices = Slices(self)

    @property
    def is_busy(self) -> bool:
        """Whether there is anything left to dress."""
        return self._slices.is_busy

    def wear(self, colors: QPalette, sheet: str) -> None:
        """Begin to dress everything in these. What is made meanwhile, and later, is dressed as well."""
        self._slices.cancel()  # which lets its docks go: those that shall stand still now as well
        self._sheet = sheet
        tops = [widget for widget in QApplication.topLevelWidgets() if widget.parentWidget() is None]
        still = [dock for top in tops for dock in top.findChildren(QDockWidget) if _is_in_sight(dock)]
        for dock in still:
            dock.setUpdatesEnabled(False)
        with _unpainted(tops):
            QApplication.setPalette(colors)
        count = sum(1 + len(top.findChildren(QWidget)) for top in tops)
        self._slices.start(_several(self._dress(tops, still)), at_once=count <= PART_MOST)

    def _dress(self, tops: list[QWidget], still: list[QDockWidget]) -> Iterator[None]:
        """Dress what is in sight first; whatever happens, no dock stands still for ever."""
        roots, left = _roots(tops), list(still)
        try:
            self._polish([top for top in tops if top not in roots])
            for dock in still:
                yield from self._dress_tree(dock)
                yield from _bring_out(dock)
                left.remove(dock)
            others = [root for root in roots if shiboken6.isValid(root) and root not in still]
            for root in sorted(others, key=lambda root: not _is_in_sight(root)):
                yield from self._dress_tree(root)
        finally:
            for dock in left:
                if shiboken6.isValid(dock):
                    dock.setUpdatesEnabled(True)

    def _dress_tree(self, root: QWidget) -> Iterator[None]:
        if not shiboken6.isValid(root):
            return
        parts, frames = _split([root])
        self._polish(frames)
        yield
        for part in parts:
            if shiboken6.isValid(part):
                self._dress_part(part)
                yield

    def _polish(self, frames: Sequence[QWidget]) -> None:
        """Have frames look their colours up anew, and paint what is seen of them between their parts."""
        with _unpainted(frames):
            for frame in frames:
                frame.setProperty(_IS_FRAME, True)
                frame.installEventFilter(self)
                frame.style().unpolish(frame)
                frame.style().polish(frame)
        for frame in frames:
            if frame.updatesEnabled():
                frame.update(QRegion(frame.rect()).subtracted(frame.childrenRegion()))

    def _dress_part(self, part: QWidget) -> None:
        part.setProperty(_IS_PART, True)
        if part.styleSheet() != self._sheet:
            part.setStyleSheet(self._sheet)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Dress what has come into a frame."""
        if event.type() == QEvent.Type.ChildPolished and isinstance(event, QChildEvent):
            child = event.child()
            if isinstance(child, QWidget) and not child.property(_IS_FRAME) and child.styleSheet() != self._sheet:
                self._dress_part(child)
        return False


def _several(steps: Iterator[None]) -> Iterator[None]:
    """Take as many steps at once as go into a good part of a turn: the fewer turns, the sooner all look the same."""
    until_ns = perf_counter_ns() + AT_ONCE_NS
    for _ in steps:
        if perf_counter_ns() >= until_ns:
            yield
            until_ns = perf_counter_ns() + AT_ONCE_NS


def _bring_out(dock: QDockWidget) -> Iterator[None]:
    """Let a dock that stood still be painted, a strip a step: QWidget.setUpdatesEnabled paints all of it in a turn."""
    if not shiboken6.isValid(dock):
        return
    dock.setAttribute(Qt.WidgetAttribute.WA_ForceUpdatesDisabled, False)
    _let_go(dock)
    top = 0
    while shiboken6.isValid(dock) and top < dock.height():
        strip = QRect(0, top, dock.width(), STRIP_PX)
        for each in dock.findChildren(QWidget):  # Qt passes by what is opaque, unless it is told of it
            if each.isVisible() and dock.isAncestorOf(each):
                each.update(strip.translated(-each.mapTo(dock, QPoint())))
        dock.repaint(strip)  # now, so that the step has taken what it takes
        top += STRIP_PX
        yield


def _let_go(widget: QWidget) -> None:
    """Let a widget be painted again, and all in it but what is kept from it by somebody else."""
    widget.setAttribute(Qt.WidgetAttribute.WA_UpdatesDisabled, False)
    for child in widget.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
        if not child.isWindow() and not child.testAttribute(Qt.WidgetAttribute.WA_ForceUpdatesDisabled):
            _let_go(child)


def _roots(tops: Iterable[QWidget]) -> list[QWidget]:
    """Give what is dressed one after the other: what lies in the main windows, and other windows."""
    own = Qt.FindChildOption.FindDirectChildrenOnly
    return [
        root for top in tops for root in (top.findChildren(QWidget, options=own) if _is_main(top) else [top])
    ]  # fmt: skip


def _is_main(widget: QWidget) -> bool:
    return isinstance(widget, QMainWindow)


def _split(widgets: Iterable[QWidget]) -> tuple[list[QWidget], list[QWidget]]:
    """Give the parts to dress, and what they lie in, outermost first. What was a part once, or a frame, stays one."""
    parts: list[QWidget] = []
    frames: list[QWidget] = []
    for widget in widgets:
        is_frame = widget.property(_IS_FRAME) or (_may_be_frame(widget) and _is_large(widget))
        if widget.property(_IS_PART) or not is_frame:
            parts.append(widget)
            continue
        frames.append(widget)
        inner = _split(widget.findChildren(QWidget, options=Qt.FindChildOption.FindDirectChildrenOnly))
        parts += inner[0]
        frames += inner[1]
    return parts, frames


def _may_be_frame(widget: QWidget) -> bool:
    return isinstance(widget, _FRAMES) or not isinstance(widget, _RULED)


def _is_large(widget: QWidget) -> bool:
    return len(widget.findChildren(QWidget)) >= PART_MOST


def _is_in_sight(widget: QWidget) -> bool:
    return widget.isVisible() and not widget.visibleRegion().isEmpty()


@contextmanager
def _unpainted(widgets: Sequence[QWidget]) -> Iterator[None]:
    """Keep what is done to these from having them painted, with all that lies on them; what that is goes on as ever."""
    attribute = Qt.WidgetAttribute.WA_UpdatesDisabled  # QWidget.setUpdatesEnabled would say it to what is within
    painted = [widget for widget in widgets if not widget.testAttribute(attribute)]
    for widget in painted:
        widget.setAttribute(attribute, True)
    try:
        yield
    finally:
        for widget in painted:
            widget.setAttribute(attribute, False)
