"""Parts of what shows a build: its stages, what it lacks, what it made."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QEvent, QRect, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QGuiApplication, QHelpEvent, QPainter, QPaintEvent, QPalette, QPen
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolTip,
    QVBoxLayout,
    QWidget,
)

from koc_qt.ui.formats import DASH, duration, size
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.deploy_build_book import DONE, FAILED, RUNNING, SKIPPED, Book, Stage
from koc_qt.ui.panels.deploy_build_events import Need, Result
from koc_qt.ui.panels.deploy_parts import CodeLine, sentence, tool_button
from koc_qt.ui.theme import Theme, code_font, number_font, style_as

_ROW_PX = 22
_MARK_PX = 16
_GAP_PX = 8
_MARKS = {
    DONE: ("check", "profit"),
    SKIPPED: ("check", "muted"),
    FAILED: ("error", "danger"),
    RUNNING: ("play", "accent"),
}
_COMMAND = re.compile(
    r"^(?P<words>.*?:\s+)?(?P<command>(?:sudo|python3?|py|pip|uv|apt|apt-get|git|brew|winget|docker|mount)\s\S.*)$"
)
_INSTALL = "sudo apt-get install "
_OWN_OPTIONS = re.compile(r" --(?:check|json|fetch)\b")  # of this panel's own run, which a person does not type


def split_advice(advice: str) -> tuple[str, str]:
    """Give the words of a piece of advice, and the command in it that can be typed as it is; either may be empty."""
    found = _COMMAND.match(advice.strip())
    if found is None:
        return advice.strip(), ""
    return (found["words"] or "").strip(), _OWN_OPTIONS.sub("", found["command"])


def all_packages(needs: Sequence[Need]) -> str:
    """Give one command for all the packages that are missing; empty where one line would do anyhow."""
    commands = [split_advice(need.advice)[1] for need in needs]
    packages = [each.removeprefix(_INSTALL) for each in commands if each.startswith(_INSTALL)]
    return _INSTALL + " ".join(packages) if len(packages) > 1 else ""


class StageList(QWidget):
    """The stages of a build, a row each, painted in one go: it is looked at again every second."""

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self._book: Book | None = None
        self._numbers = number_font(self.font())
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Stages of the build")
        theme.changed.connect(self.update)

    def show_book(self, book: Book) -> None:
        """Show how it stands now."""
        rows = len(self._stages())
        self._book = book
        if len(book.stages) != rows:
            self.updateGeometry()
        running = book.running()
        over = sum(stage.state in (DONE, SKIPPED) for stage in book.stages)
        now = f"{running.title} is running, " if running is not None else ""
        self.setAccessibleDescription(f"{now}{over} of {len(book.stages)} are done")
        self.update()

    def words(self, row: int) -> tuple[str, str]:
        """Give what a row says: its title, and its time."""
        stage = self._stages()[row]
        return stage.title, self._time(stage)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as high as the rows are."""
        return QSize(120, _ROW_PX * len(self._stages()))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as narrow as need be."""
        return QSize(60, _ROW_PX * len(self._stages()))

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Paint the rows that can be seen."""
        painter = QPainter(self)
        first, last = event.rect().top() // _ROW_PX, event.rect().bottom() // _ROW_PX
        for row, stage in enumerate(self._stages()[first : last + 1], first):
            self._paint(painter, QRect(0, row * _ROW_PX, self.width(), _ROW_PX), stage)
        painter.end()

    def event(self, event: QEvent) -> bool:
        """Say the whole of a title that does not fit."""
        if isinstance(event, QHelpEvent):
            row = event.pos().y() // _ROW_PX
            if 0 <= row < len(self._stages()):
                QToolTip.showText(event.globalPos(), ": ".join(self.words(row)), self)
            return True
        return super().event(event)

    def _stages(self) -> Sequence[Stage]:
        return self._book.stages if self._book is not None else ()

    def _time(self, stage: Stage) -> str:
        if self._book is None or stage.state == SKIPPED:
            return "as before"
        if stage.state == RUNNING:
            return rough(self._book.seconds_of(stage) or 0.0)
        if stage.state in (DONE, FAILED):
            return duration(stage.took_s)
        return f"about {rough(stage.planned_s).removesuffix(' 0 s')}" if stage.planned_s else ""

    def _paint(self, painter: QPainter, area: QRect, stage: Stage) -> None:
        colors = self._theme.colors
        mark = QRect(area.left(), area.top() + (_ROW_PX - _MARK_PX) // 2, _MARK_PX, _MARK_PX)
        is_stopped = stage.state == FAILED and self._book is not None and self._book.is_cancelled
        if stage.state in _MARKS:
            name, role = ("cancel", "muted") if is_stopped else _MARKS[stage.state]
            icon(name, self._theme, role).paint(painter, mark)
        else:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(colors.edge), 1.5))
            painter.drawEllipse(QRectF(mark).center(), 3, 3)
        time = self._time(stage)
        painter.setFont(self._numbers)
        time_px = QFontMetrics(self._numbers).horizontalAdvance(time)
        painter.setPen(QColor(colors.text if stage.state == RUNNING else colors.muted))
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter.value | Qt.AlignmentFlag.AlignRight.value, time)
        inside = area.adjusted(_MARK_PX + _GAP_PX, 0, -time_px - _GAP_PX, 0)
        tones = {RUNNING: colors.text, DONE: colors.text, FAILED: colors.danger}
        painter.setFont(self.font())
        painter.setPen(QColor(colors.muted if is_stopped else tones.get(stage.state, colors.muted)))
        title = self.fontMetrics().elidedText(stage.title, Qt.TextElideMode.ElideRight, inside.width())
        painter.drawText(inside, Qt.AlignmentFlag.AlignVCenter.value, title)


class NeedRow(QWidget):
    """Something that is missing, and the command that mends it."""

    def __init__(self, need: Need, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        mark = self._mark = QLabel(self)
        mark.setAccessibleName("Missing")
        mark.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)
        theme.changed.connect(self._show_mark)
        self._show_mark()
        words, self.command = split_advice(need.advice)
        column = QVBoxLayout()
        column.setSpacing(2)
        column.addWidget(sentence(need.text[:1].upper() + need.text[1:], self))
        if words:
            column.addWidget(sentence(words, self, "muted"))
        if self.command:
            column.addWidget(CodeLine(self.command, theme, self))
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 2, 0, 2)
        row.setSpacing(_GAP_PX)
        row.addWidget(mark, 0, Qt.AlignmentFlag.AlignTop)
        row.addLayout(column, 1)

    def _show_mark(self) -> None:
        self._mark.setPixmap(icon("warning", self._theme, "warning").pixmap(QSize(16, 16), self.devicePixelRatioF()))


class Elided(QLabel):
    """A line that shortens itself in the middle rather than widen the panel."""

    def __init__(self, text: str, parent: QWidget) -> None:
        super().__init__(parent)
        self._whole = text
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setAccessibleName(text)
        self.setToolTip(text)

    def resizeEvent(self, event: object) -> None:  # noqa: N802 - Qt's name
        """Fit the text."""
        self.setText(self.fontMetrics().elidedText(self._whole, Qt.TextElideMode.ElideMiddle, self.width()))

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Be as narrow as need be."""
        return QSize(40, super().minimumSizeHint().height())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for little."""
        return QSize(100, self.fontMetrics().height())


class ResultCard(QFrame):
    """A file that was made; `folder_wanted` brings the folder it is in."""

    folder_wanted = Signal(object)

    def __init__(self, result: Result, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self.result = result
        path = Path(result.path)
        self.setAutoFillBackground(True)
        self.setBackgroundRole(QPalette.ColorRole.AlternateBase)
        name = Elided(path.name, self)
        name.setToolTip(result.path)
        font = name.font()
        font.setWeight(font.Weight.DemiBold)
        name.setFont(font)
        self.size_label = QLabel(size(result.bytes) if result.bytes is None or result.bytes >= 0 else DASH, self)
        self.size_label.setFont(number_font(self.font()))
        self.open_button = QPushButton("Open folder", self)
        self.open_button.setIcon(icon("folder", theme))
        self.open_button.setAutoDefault(True)  # Enter presses it
        self.open_button.setAccessibleName(f"Open the folder of {path.name}")
        self.open_button.clicked.connect(lambda: self.folder_wanted.emit(path.parent))
        grid = QGridLayout(self)
        grid.setContentsMargins(10, 8, 6, 8)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        grid.addWidget(name, 0, 0, 1, 2)
        grid.addWidget(self.size_label, 0, 2, 1, 2, Qt.AlignmentFlag.AlignRight)
        if result.sha256:
            self._add_sum(grid, theme)
        grid.addWidget(self.open_button, 2, 0, 1, 4, Qt.AlignmentFlag.AlignLeft)

    def _add_sum(self, grid: QGridLayout, theme: Theme) -> None:
        caption = QLabel("SHA-256", self)
        style_as(caption, tone="muted")
        digest = Elided(self.result.sha256, self)
        digest.setFont(code_font())
        self.copy_button = tool_button("copy", "Copy the SHA-256", theme, self)
        self.copy_button.clicked.connect(lambda: QGuiApplication.clipboard().setText(self.result.sha256))
        grid.addWidget(caption, 1, 0)
        grid.addWidget(digest, 1, 1, 1, 2)
        grid.addWidget(self.copy_button, 1, 3)


def rough(seconds: float) -> str:
    """Give a time that changes every second, or is guessed: without decimals."""
    return duration(seconds) if seconds >= 10 else f"{int(max(0.0, seconds))} s"
