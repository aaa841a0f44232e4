"""Icons from the SVGs of resources/icons: drawn on a grid of 24 with `currentColor`, painted in the theme's colours.

An icon reads its colour while it is painted, so it follows a change of theme by itself, and it is rendered for the very
pixels it covers, so it is crisp on every screen. Pixmaps are kept in Qt's own cache, which is bounded.
"""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtCore import QByteArray, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QIcon, QIconEngine, QPainter, QPixmap, QPixmapCache
from PySide6.QtSvg import QSvgRenderer

from koc_qt.domain.errors import ConfigError
from koc_qt.ui.resources import resource
from koc_qt.ui.theme import Theme

_APP_SIZES = (16, 24, 32, 48, 64, 128, 256)


def icon(name: str, source: Theme | str, role: str = "icon") -> QIcon:
    """Give an icon, such as `play`.

    `source` is the theme to follow, in its colour `role` (a field of Colors), or a colour of its own as `#rrggbb`.
    Checked buttons show an icon of the role `icon` in the accent colour. Raises ConfigError when there is no such icon.
    """
    return QIcon(_Engine(name, _drawing(name), source, role))


def icon_names() -> tuple[str, ...]:
    """List the icons that there are."""
    return tuple(sorted(path.stem for path in resource("icons").glob("*.svg")))


def pixmap(name: str, color: str, size: int, ratio: float = 1.0) -> QPixmap:
    """Render an icon once, `size` device independent pixels square, for a screen with `ratio` pixels to each."""
    pixels = round(size * ratio)
    result = QPixmap(_rendered(name, _drawing(name), color, QSize(pixels, pixels)))
    result.setDevicePixelRatio(ratio)
    return result


def app_icon() -> QIcon:
    """Give the program's own icon, in the sizes that desktops ask for. Raises ConfigError when it is missing."""
    renderer = QSvgRenderer(str(resource("koc.svg")))
    result = QIcon()
    for size in _APP_SIZES:
        picture = QPixmap(size, size)
        picture.fill(Qt.GlobalColor.transparent)
        painter = QPainter(picture)
        renderer.render(painter)
        painter.end()
        result.addPixmap(picture)
    return result


class _Engine(QIconEngine):
    """Renders one drawing on demand, in the colour that the theme has at that moment."""

    def __init__(self, name: str, drawing: str, source: Theme | str, role: str) -> None:
        super().__init__()
        self._name = name
        self._drawing = drawing
        self._source = source
        self._role = role

    def clone(self) -> QIconEngine:
        """Make another of the same."""
        return _Engine(self._name, self._drawing, self._source, self._role)

    def key(self) -> str:
        """Name this kind of engine."""
        return "koc"

    def paint(self, painter: QPainter, rect: QRect, mode: QIcon.Mode, state: QIcon.State) -> None:
        """Paint into a rectangle of any size."""
        ratio = painter.device().devicePixelRatioF()
        side = min(rect.width(), rect.height())
        pixels = QSize(round(side * ratio), round(side * ratio))
        target = QRect(0, 0, side, side)
        target.moveCenter(rect.center())
        painter.drawPixmap(target, _rendered(self._name, self._drawing, self._color(mode, state), pixels))

    def pixmap(self, size: QSize, mode: QIcon.Mode, state: QIcon.State) -> QPixmap:
        """Give a pixmap of so many device pixels."""
        return _rendered(self._name, self._drawing, self._color(mode, state), size)

    def _color(self, mode: QIcon.Mode, state: QIcon.State) -> str:
        if isinstance(self._source, str):
            return self._source
        colors = self._source.colors
        if mode is QIcon.Mode.Disabled:
            return colors.disabled
        if state is QIcon.State.On and self._role == "icon":
            return colors.accent
        color: str = getattr(colors, self._role)
        return color


@lru_cache(maxsize=256)
def _drawing(name: str) -> str:
    path = resource(f"icons/{name}.svg")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the icon {path} cannot be read: {error}. Install K.O.C. again") from error


def _rendered(name: str, drawing: str, color: str, pixels: QSize) -> QPixmap:
    key = f"koc-icon:{name}:{color}:{pixels.width()}x{pixels.height()}"
    result = QPixmap()
    if pixels.isEmpty() or QPixmapCache.find(key, result):  # there is no room while a layout makes some
        return result
    result = QPixmap(pixels)
    result.fill(Qt.GlobalColor.transparent)
    renderer = QSvgRenderer(QByteArray(drawing.replace("currentColor", color).encode()))
    side = min(pixels.width(), pixels.height())
    painter = QPainter(result)
    renderer.render(painter, QRectF((pixels.width() - side) / 2, (pixels.height() - side) / 2, side, side))
    painter.end()
    QPixmapCache.insert(key, result)
    return result
