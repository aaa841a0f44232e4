"""The look of the window: Fusion style, palettes of our own, and one style sheet made from the colours.

Widgets ask for a look by properties that the style sheet knows, set with `style_as`:

    style_as(button, role="primary")        primary, danger, buy, sell, flat
    style_as(label, pill="live")            neutral, profit, loss, warning, danger, info, and the four trading modes
    style_as(label, tone="muted")           muted, profit, loss, warning, danger, info
    style_as(label, face="title")           title, value, small
    style_as(log, role="bare")              a text edit that fills its dock, without a frame
    style_as(edit, invalid=True)            an input whose content is refused
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal, Slot
from PySide6.QtGui import QColor, QFont, QFontDatabase, QFontInfo, QGuiApplication, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory, QWidget

from koc_qt.ui.colors import DARK, LIGHT, Colors
from koc_qt.ui.dressing import Dressing
from koc_qt.ui.style_sheet import style_sheet

# The first that is installed; each has digits of one width and reads well small.
_FAMILIES = ("Inter", "Segoe UI", "Noto Sans", "Ubuntu Sans", "Ubuntu", "Cantarell", "Roboto", "Open Sans")
_WIDE_FAMILIES = ("DejaVu Sans", "Verdana", "Bitstream Vera Sans")
_TEXT_PX = 13
_WIDE_TEXT_PX = 12  # wide faces look a size larger


class ThemeChoice(StrEnum):
    """What the person wants: as the desktop has it, or always the one."""

    SYSTEM = "system"
    DARK = "dark"
    LIGHT = "light"


class Theme(QObject):
    """The present colours; `changed` is emitted after the application wears new ones.

    A desktop that does not say what it prefers gets dark.
    """

    changed = Signal()

    def __init__(self, choice: ThemeChoice = ThemeChoice.SYSTEM, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._choice = choice
        self._app: QApplication | None = None
        self._first: Colors | None = None  # those that the application's own sheet has
        self._dressing: Dressing | None = None
        hints = QGuiApplication.styleHints()
        self._system = hints.colorScheme()
        self._colors = self._chosen()
        hints.colorSchemeChanged.connect(self._system_changed)

    @property
    def choice(self) -> ThemeChoice:
        """What the person wants."""
        return self._choice

    @property
    def colors(self) -> Colors:
        """What to paint with now."""
        return self._colors

    @property
    def is_dark(self) -> bool:
        """Whether the dark colours are worn."""
        return self._colors is DARK

    def set_choice(self, choice: ThemeChoice) -> None:
        """Wear another theme from now on."""
        self._choice = choice
        self._ask_for_frames()
        self._refresh()

    def apply(self, app: QApplication) -> None:
        """Dress the application, now and at each change. Call once, before the first window is shown."""
        self._app = app
        app.setStyle(QStyleFactory.create("Fusion"))
        app.setFont(text_font())
        self._ask_for_frames()
        self._dress(app)

    @Slot(Qt.ColorScheme)
    def _system_changed(self, scheme: Qt.ColorScheme) -> None:
        self._system = scheme
        self._refresh()

    def _chosen(self) -> Colors:
        if self._choice is ThemeChoice.SYSTEM:
            return LIGHT if self._system is Qt.ColorScheme.Light else DARK
        return DARK if self._choice is ThemeChoice.DARK else LIGHT

    def _refresh(self) -> None:
        colors = self._chosen()
        if colors is self._colors:
            return
        self._colors = colors
        if self._app is not None:
            self._dress(self._app)
        self.changed.emit()

    @property
    def is_changing(self) -> bool:
        """Whether widgets are still being dressed in the present colours."""
        return self._dressing is not None and self._dressing.is_busy

    def _dress(self, app: QApplication) -> None:
        """Dress the application; what is there already in steps, as that takes long."""
        colors = self._colors
        if self._dressing is None:
            self._first, self._dressing = colors, Dressing(self)
            app.setPalette(palette(colors))
            app.setStyleSheet(style_sheet(colors))
        else:
            self._dressing.wear(palette(colors), "" if colors is self._first else style_sheet(colors))

    def _ask_for_frames(self) -> None:
        """Have the desktop draw title bars, which are not ours, in the theme that was chosen."""
        schemes = {ThemeChoice.DARK: Qt.ColorScheme.Dark, ThemeChoice.LIGHT: Qt.ColorScheme.Light}
        hints = QGuiApplication.styleHints()
        hints.setColorScheme(schemes.get(self._choice, Qt.ColorScheme.Unknown))
        self._system = hints.colorScheme()  # while one was chosen, it was not the desktop's own


def palette(colors: Colors) -> QPalette:
    """Make the palette that Fusion and our own painting read."""
    result = QPalette()
    role = QPalette.ColorRole
    surfaces = {
        role.Window: colors.panel,
        role.WindowText: colors.text,
        role.Base: colors.panel,
        role.AlternateBase: colors.stripe,
        role.Text: colors.text,
        role.PlaceholderText: colors.muted,
        role.Button: colors.raised,
        role.ButtonText: colors.text,
        role.BrightText: colors.danger,
        role.ToolTipBase: colors.raised,
        role.ToolTipText: colors.text,
        role.Highlight: colors.selection,
        role.HighlightedText: colors.text,
        role.Accent: colors.accent,
        role.Link: colors.accent,
        role.LinkVisited: colors.accent,
        role.Light: colors.hover,
        role.Midlight: colors.raised,
        role.Mid: colors.edge,
        role.Dark: colors.line,
        role.Shadow: colors.window,
    }
    for each, color in surfaces.items():
        result.setColor(each, QColor(color))
    for each in (role.WindowText, role.Text, role.ButtonText, role.HighlightedText):
        result.setColor(QPalette.ColorGroup.Disabled, each, QColor(colors.disabled))
    return result


def text_font() -> QFont:
    """Choose the font of all text. Its size is in device independent pixels, which the screen's scaling multiplies."""
    general = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    installed = [family for family in _FAMILIES if QFontDatabase.hasFamily(family)]
    font = QFont(general)
    if installed:
        font.setFamilies([installed[0], general.family()])
    wide = not installed and _resolved_family(general) in _WIDE_FAMILIES
    font.setPixelSize(_WIDE_TEXT_PX if wide else _TEXT_PX)
    return font


def number_font(base: QFont | None = None) -> QFont:
    """Give the font with digits of one width, so that numbers stand still while they change.

    Where Qt is older than 6.7, the font's own digits are used; those of the fonts above are of one width anyhow.
    """
    font = QFont(base) if base is not None else QFont(QApplication.font())
    if hasattr(font, "setFeature"):
        font.setFeature(QFont.Tag("tnum"), 1)
    return font


def code_font() -> QFont:
    """Give a font with letters of one width, for logs and JSON, in the size of the text."""
    font = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    font.setPixelSize(_WIDE_TEXT_PX)
    return font


def style_as(widget: QWidget, **properties: Any) -> None:
    """Give a widget a look named in the style sheet, see above; None takes one away. Cheap when nothing changes."""
    changed = [(name, value) for name, value in properties.items() if widget.property(name) != value]
    for name, value in changed:
        widget.setProperty(name, value)
    if changed and widget.testAttribute(Qt.WidgetAttribute.WA_WState_Polished):  # else Qt does it before it is shown
        style = widget.style()
        style.unpolish(widget)
        style.polish(widget)
        QApplication.sendEvent(widget, QEvent(QEvent.Type.StyleChange))  # a label measures its frame anew
        widget.update()


def _resolved_family(font: QFont) -> str:
    return QFontInfo(font).family()
