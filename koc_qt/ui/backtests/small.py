"""Small pieces of the back-test panel's pages."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QFontMetrics, QResizeEvent
from PySide6.QtWidgets import QLabel, QMessageBox, QSizePolicy, QWidget

_LEAST_PX = 40


class Elided(QLabel):
    """A line that ends in an ellipsis where there is no room; then its tooltip is the whole of it."""

    def __init__(
        self, text: str, parent: QWidget, *, mode: Qt.TextElideMode = Qt.TextElideMode.ElideRight, tip: str = ""
    ) -> None:
        super().__init__(parent)
        self.whole = text
        self._mode = mode
        self._tip = tip
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)
        self._fit()

    def show_text(self, text: str, tip: str = "") -> None:
        """Show another text; `tip` is its tooltip, also where it fits."""
        self.whole, self._tip = text, tip
        self._fit()
        self.updateGeometry()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Fit the text."""
        super().resizeEvent(event)
        self._fit()

    def _fit(self) -> None:
        room = max(self.contentsRect().width(), _LEAST_PX)
        fitted = QFontMetrics(self.font()).elidedText(self.whole, self._mode, room)
        self.setText(fitted)
        parts = [self.whole] if fitted != self.whole else []
        self.setToolTip("\n".join([*parts, *([self._tip] if self._tip else [])]))

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the whole text's room."""
        metrics, margins = QFontMetrics(self.font()), self.contentsMargins()
        wanted = metrics.horizontalAdvance(self.whole) + 2 + margins.left() + margins.right()
        return QSize(wanted, super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be content with little."""
        return QSize(min(_LEAST_PX, self.sizeHint().width()), super().minimumSizeHint().height())


def heading(text: str, parent: QWidget) -> QLabel:
    """Give the bold title of a group."""
    label = QLabel(text, parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


class Question:
    """One question at a time, whose answer cannot be taken back: `box` is there while it is asked."""

    def __init__(self, parent: QWidget) -> None:
        self._parent = parent
        self.box: QMessageBox | None = None

    def ask(self, text: str, detail: str, agree: str, call: Callable[[], None]) -> None:
        """Ask, and do it once the person has agreed; Enter and Escape do not."""
        if self.box is not None:
            return
        box = self.box = QMessageBox(self._parent)
        box.setIcon(QMessageBox.Icon.Question)
        box.setText(text)
        box.setInformativeText(detail)
        yes = box.addButton(agree, QMessageBox.ButtonRole.DestructiveRole)
        box.setDefaultButton(box.addButton("Keep", QMessageBox.ButtonRole.RejectRole))
        box.finished.connect(lambda _result: self._answered(call, is_agreed=box.clickedButton() is yes))
        box.open()

    def _answered(self, call: Callable[[], None], *, is_agreed: bool) -> None:
        if self.box is not None:
            self.box.deleteLater()
            self.box = None
        if is_agreed:
            call()
