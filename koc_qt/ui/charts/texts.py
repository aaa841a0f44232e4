"""Texts that are laid out once and drawn often."""

from __future__ import annotations

from PySide6.QtCore import QPointF, QSizeF, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QStaticText

_LIMIT = 512


def axis_font(font: QFont) -> QFont:
    """The window's font, a point smaller but not below 8."""
    smaller = QFont(font)
    if smaller.pointSizeF() > 0:
        smaller.setPointSizeF(max(smaller.pointSizeF() - 1, 8.0))
    return smaller


class TextCache:
    """Static texts in one font and its bold twin. When full it starts afresh: labels of one view are few."""

    def __init__(self, font: QFont) -> None:
        self._texts: dict[tuple[str, bool], tuple[QStaticText, QSizeF]] = {}
        self.set_font(font)

    def set_font(self, font: QFont) -> None:
        """Lay everything out anew in another font."""
        self.font = QFont(font)
        self.bold = QFont(font)
        self.bold.setBold(True)
        self.height = QFontMetricsF(self.font).height()
        self._texts.clear()

    def size(self, text: str, *, bold: bool = False) -> QSizeF:
        """How large a text is in logical pixels."""
        return self._get(text, bold)[1]

    def draw(self, painter: QPainter, x: float, y: float, text: str, *, bold: bool = False) -> None:
        """Draw a text with its top left corner at (x, y), in the painter's pen."""
        painter.setFont(self.bold if bold else self.font)
        painter.drawStaticText(QPointF(x, y), self._get(text, bold)[0])

    def prepared(self, text: str) -> tuple[QStaticText, QSizeF]:
        """Give a text laid out in `font`, and its size, for whoever draws many and sets pen and font once."""
        return self._get(text, False)

    def _get(self, text: str, bold: bool) -> tuple[QStaticText, QSizeF]:
        found = self._texts.get((text, bold))
        if found is None:
            if len(self._texts) >= _LIMIT:
                self._texts.clear()
            static = QStaticText(text)
            static.setTextFormat(Qt.TextFormat.PlainText)
            static.prepare(font=self.bold if bold else self.font)
            found = self._texts[text, bold] = static, static.size()
        return found
