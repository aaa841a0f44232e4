"""The mascot in its dock: the picture, a sentence under it, and what it can be told."""

from __future__ import annotations

import time
from collections.abc import Callable

from loguru import logger
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal, Slot
from PySide6.QtGui import QHideEvent, QImage, QPainter, QPaintEvent, QPixmap, QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.ui.icons import icon, pixmap
from koc_qt.ui.mascot.moods import Mood, MoodInputs, MoodKeeper, Shown
from koc_qt.ui.mascot.sprite import Frame, Sprite
from koc_qt.ui.theme import Theme, style_as

_LARGEST_PX = 256  # device independent; more would only be blurred, and cost more than one percent of a core
_NARROW_PX = 184  # below, the box says with its tooltip alone what it does
_BOX_PX = 20
_FALLBACK_PX = 48
_PREMULTIPLIED = QImage.Format.Format_ARGB32_Premultiplied


class MascotWidget(QWidget):
    """Shows how things stand. Moves only while it is seen and motion is on, and repaints nothing but its picture.

    `motion_toggled` brings whether motion is on, after the person changed it; `hide_wanted` that it shall go away.
    """

    motion_toggled = Signal(bool)
    hide_wanted = Signal()

    def __init__(
        self,
        sprite: Sprite,
        parent: QWidget | None = None,
        *,
        theme: Theme | None = None,
        motion: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(parent)
        self._keeper = MoodKeeper(clock)
        self._set: Shown | None = None  # by set_mood
        self._caption = QLabel(self)
        self._caption.setAlignment(Qt.AlignmentFlag.AlignHCenter)
        self._caption.setWordWrap(True)
        style_as(self._caption, tone="muted")
        self._picture = _Picture(sprite, theme, self)
        self.dance_button = QPushButton("Dance", self)
        self.dance_button.setToolTip("Have the mascot dance, or stop")
        self.dance_button.clicked.connect(self._dance_or_stop)
        self.motion_box = QCheckBox("Motion", self)
        self.motion_box.setAccessibleName("Motion")
        self.motion_box.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.motion_box.setMinimumWidth(_BOX_PX)
        self.motion_box.setChecked(motion)
        self.motion_box.setToolTip("Turn off to have a still picture for each mood")
        self.motion_box.toggled.connect(self._toggle_motion)
        self.hide_button = QToolButton(self)
        self.hide_button.setToolTip("Hide the mascot; the View menu brings it back")
        self.hide_button.setAccessibleName("Hide the mascot")
        self.hide_button.clicked.connect(self.hide_wanted)
        self._lay_out(theme)
        self._due = QTimer(self)
        self._due.setSingleShot(True)
        self._due.timeout.connect(self._refresh)
        self._picture.set_motion(motion)
        if sprite.problem:
            logger.warning("The mascot is shown as a still sign: {}", sprite.problem)
            self._picture.setToolTip(sprite.problem)
            self.motion_box.setEnabled(False)
        self._wear(self._keeper.shown())

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Leave out a word where there is no room for it."""
        super().resizeEvent(event)
        self.motion_box.setText("Motion" if self.width() >= _NARROW_PX else "")

    def observe(self, inputs: MoodInputs) -> None:
        """Take in how things stand; cheap, so call it whenever something may have changed."""
        self._set = None
        self._keeper.observe(inputs)
        self._refresh()

    def set_mood(self, mood: Mood, caption: str = "") -> None:
        """Show a mood at once, until the next `observe`."""
        self._set = Shown(mood, caption)
        self._refresh()

    @property
    def mood(self) -> Mood:
        """What is shown."""
        return self._picture.mood

    @property
    def caption(self) -> str:
        """The sentence under the picture."""
        return self._caption.text()

    @property
    def is_moving(self) -> bool:
        """Whether frames follow each other now."""
        return self._picture.is_moving

    @property
    def motion(self) -> bool:
        """Whether the mascot may move."""
        return self.motion_box.isChecked()

    def set_motion(self, on: bool) -> None:
        """Let the mascot move, or show a still picture for each mood."""
        self.motion_box.setChecked(on)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Catch up with what was missed."""
        super().showEvent(event)
        self._refresh()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Rest while nobody looks."""
        super().hideEvent(event)
        self._due.stop()

    def _lay_out(self, theme: Theme | None) -> None:
        if theme is not None:
            self.hide_button.setIcon(icon("eye-off", theme))
        else:
            self.hide_button.setText("Hide")
        row = QHBoxLayout()
        row.setSpacing(6)
        row.addStretch(1)
        for each in (self.dance_button, self.motion_box, self.hide_button):
            row.addWidget(each)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 6)
        column.setSpacing(4)
        column.addWidget(self._picture, 1)
        column.addWidget(self._caption)
        column.addLayout(row)

    @Slot()
    def _refresh(self) -> None:
        self._wear(self._set or self._keeper.shown())
        due_s = self._keeper.due_s()
        if due_s is None or not self.isVisible():
            self._due.stop()
        elif not self._due.isActive():
            self._due.start(int(due_s * 1000) + 1)

    def _wear(self, shown: Shown) -> None:
        if shown.caption != self._caption.text():
            self._caption.setText(shown.caption)
            self._picture.setAccessibleDescription(shown.caption)
        if shown.mood is not self._picture.mood:
            self._picture.set_mood(shown.mood)
        dances = shown.mood is Mood.DANCE or self._keeper.is_dancing
        if self.dance_button.text() != (wanted := "Stop" if dances else "Dance"):
            self.dance_button.setText(wanted)

    @Slot()
    def _dance_or_stop(self) -> None:
        self._set = None
        if self.dance_button.text() == "Stop":
            self._keeper.stop()
        else:
            self._keeper.dance()
        self._refresh()

    @Slot(bool)
    def _toggle_motion(self, on: bool) -> None:
        self._picture.set_motion(on)
        self.motion_toggled.emit(on)


class _Picture(QWidget):
    """Plays a mood's frames, each for its own time, scaled to the room there is and sharp on the screen it is on."""

    def __init__(self, sprite: Sprite, theme: Theme | None, parent: QWidget) -> None:
        super().__init__(parent)
        self._sprite = sprite
        self._theme = theme
        self._mood = Mood.ASLEEP
        self._frames: tuple[Frame, ...] = ()
        self._place = 0
        self._motion = True
        self._seen = False
        self._scaled: dict[int, QPixmap] = {}  # cells of this mood on the background, `_scaled_px` device pixels wide
        self._scaled_px = 0
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._advance)
        self.setAccessibleName("Mascot")
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)  # or everything under it would be painted with it
        self.setMinimumSize(64, 64)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.set_mood(Mood.ASLEEP)

    @property
    def mood(self) -> Mood:
        return self._mood

    @property
    def is_moving(self) -> bool:
        return self._timer.isActive()

    def sizeHint(self) -> QSize:  # noqa: N802
        return QSize(180, 180)

    def set_mood(self, mood: Mood) -> None:
        self._mood = mood
        self._scaled.clear()
        self._choose_frames()

    def set_motion(self, on: bool) -> None:
        self._motion = on
        self._choose_frames()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        super().showEvent(event)
        self._seen = True
        self._schedule()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        # Also comes when the window is minimised, when the widget still counts as visible.
        super().hideEvent(event)
        self._seen = False
        self._timer.stop()
        self._scaled.clear()

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange):
            self._scaled.clear()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802
        """Paint the present cell, and go on playing where that was left off because nobody could see it."""
        if not self._timer.isActive():
            self._schedule()
        painter = QPainter(self)
        area = self._area()
        if not self._frames or not area.contains(QRectF(event.rect())):
            painter.fillRect(event.rect(), self.palette().window())
        if self._frames:
            side_px = round(area.width() * self.devicePixelRatioF())
            painter.drawPixmap(area.topLeft(), self._at(self._frames[self._place].cell, side_px))
        else:
            self._paint_sign(painter)
        painter.end()

    def _area(self) -> QRectF:
        """Give where the picture is: in the middle, a little low; on whole device pixels, or it would be blurred."""
        side = min(self.width(), self.height(), _LARGEST_PX)
        ratio = self.devicePixelRatioF()
        left = round((self.width() - side) / 2 * ratio) / ratio
        top = round((self.height() - side) * 0.6 * ratio) / ratio
        return QRectF(left, top, side, side)

    def _paint_sign(self, painter: QPainter) -> None:
        color = self._theme.colors.muted if self._theme is not None else self.palette().text().color().name()
        sign = pixmap("mascot", color, _FALLBACK_PX, self.devicePixelRatioF())
        painter.drawPixmap(QPointF((self.width() - _FALLBACK_PX) / 2, (self.height() - _FALLBACK_PX) / 2), sign)

    def _at(self, cell: int, side_px: int) -> QPixmap:
        if side_px != self._scaled_px:
            self._scaled.clear()
            self._scaled_px = side_px
        if cell not in self._scaled:
            image = self._sprite.image(cell).convertToFormat(_PREMULTIPLIED)
            smooth = Qt.TransformationMode.SmoothTransformation
            scaled = image.scaled(side_px, side_px, Qt.AspectRatioMode.KeepAspectRatio, smooth)
            flat = QImage(scaled.size(), QImage.Format.Format_RGB32)
            flat.fill(self.palette().window().color())
            painter = QPainter(flat)
            painter.drawImage(0, 0, scaled)
            painter.end()
            flat.setDevicePixelRatio(self.devicePixelRatioF())
            self._scaled[cell] = QPixmap.fromImage(flat)
        return self._scaled[cell]

    def _choose_frames(self) -> None:
        still = self._sprite.still(self._mood)
        self._frames = self._sprite.frames(self._mood) if self._motion else (() if still is None else (still,))
        self._place = 0
        self._timer.stop()
        self._schedule()
        self.update()

    def _schedule(self) -> None:
        if self._seen and self._motion and len(self._frames) > 1:
            self._timer.start(self._frames[self._place].duration_ms)

    @Slot()
    def _advance(self) -> None:
        if self.visibleRegion().isEmpty():
            return  # in a tab behind another, which Qt moves away without hiding it; paintEvent goes on
        before = self._frames[self._place].cell
        self._place = (self._place + 1) % len(self._frames)
        if self._frames[self._place].cell != before:
            self.update(self._area().toAlignedRect())
        self._schedule()
