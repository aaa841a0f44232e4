"""The theme: contrast of every pair in use, what follows the desktop, and a style sheet without a fault."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import (
    QApplication,
    QComboBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import ConfigError
from koc_qt.ui import resources
from koc_qt.ui.colors import DARK, LIGHT, Colors, mix
from koc_qt.ui.resources import library_folder, resource
from koc_qt.ui.style_sheet import PILLS, hovered, pill_colors, style_sheet
from koc_qt.ui.theme import Theme, ThemeChoice, code_font, number_font, palette, style_as, text_font

BOTH = pytest.mark.parametrize("colors", [DARK, LIGHT], ids=["dark", "light"])
SURFACES = ("window", "panel", "raised", "hover", "field", "stripe", "selection")
TEXTS = {
    "text": SURFACES,
    "muted": ("window", "panel", "raised", "field", "stripe"),
    "hint": ("panel", "field"),
    **dict.fromkeys(("profit", "loss", "warning", "danger", "info"), ("window", "panel", "raised", "field", "stripe")),
    **dict.fromkeys(("simulated", "paper", "testnet", "live", "accent"), ("window", "panel", "raised", "stripe")),
}
SIGNS = {
    "icon": SURFACES,
    "accent": SURFACES,
    "danger": SURFACES,
}


@pytest.fixture
def app(qapp: QApplication) -> Iterator[QApplication]:
    """Give the application, and undress it afterwards."""
    worn = (qapp.styleSheet(), qapp.palette(), qapp.font(), qapp.style().objectName())
    yield qapp
    qapp.setStyleSheet(worn[0])
    qapp.setStyle(worn[3])
    qapp.setPalette(worn[1])
    qapp.setFont(worn[2])


def luminance(color: str) -> float:
    """Relative luminance by WCAG 2.2."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_the_standard_says() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@BOTH
def test_every_colour_is_a_colour(colors: Colors) -> None:
    values = [getattr(colors, each.name) for each in fields(colors)]
    flat = [color for value in values for color in ((value,) if isinstance(value, str) else value)]
    assert [color for color in flat if not re.fullmatch(r"#[0-9a-f]{6}", color)] == []


@BOTH
def test_text_can_be_read(colors: Colors) -> None:
    pairs = [(text, surface) for text, surfaces in TEXTS.items() for surface in surfaces]
    poor = {pair: contrast(getattr(colors, pair[0]), getattr(colors, pair[1])) for pair in pairs}
    assert {pair: round(value, 2) for pair, value in poor.items() if value < 4.5} == {}


@BOTH
def test_signs_and_lines_can_be_told_apart(colors: Colors) -> None:
    pairs = [(sign, surface) for sign, surfaces in SIGNS.items() for surface in surfaces]
    poor = {pair: contrast(getattr(colors, pair[0]), getattr(colors, pair[1])) for pair in pairs}
    assert {pair: round(value, 2) for pair, value in poor.items() if value < 3} == {}


@BOTH
def test_text_on_fills_and_labels_can_be_read(colors: Colors) -> None:
    fills = (colors.accent_fill, colors.profit_fill, colors.loss_fill, colors.danger_fill)
    assert min(contrast(colors.on_fill, fill) for fill in fills) >= 4.5
    assert min(contrast(colors.on_fill, hovered(fill)) for fill in fills) >= 4.5
    assert contrast(colors.text, colors.line) >= 4.5  # a pressed button


@BOTH
@pytest.mark.parametrize("kind", PILLS)
def test_pills_can_be_read(colors: Colors, kind: str) -> None:
    text, background, _ = pill_colors(kind, colors)
    assert contrast(text, background) >= 4.5


@BOTH
def test_the_pictures_of_the_style_sheet_can_be_seen(colors: Colors) -> None:
    for path in resource("theme").glob("*.svg"):
        (color,) = set(re.findall(r"#[0-9a-f]{6}", path.read_text()))
        surfaces = [colors.accent_fill] if color == "#ffffff" else [colors.panel, colors.raised, colors.field]
        assert min(contrast(color, surface) for surface in surfaces) >= 3, path.name


def test_mixing_blends_channel_by_channel() -> None:
    assert mix("#ffffff", "#000000", 0.5) == "#808080"
    assert mix("#ff0000", "#0000ff", 1) == "#ff0000"
    assert mix("#ff0000", "#0000ff", 0) == "#0000ff"


@BOTH
def test_the_style_sheet_names_only_pictures_that_are_there(colors: Colors) -> None:
    sheet = style_sheet(colors)
    assert "$" not in sheet
    assert sheet.count("{") == sheet.count("}")
    pictures = re.findall(r'url\("([^"]+)"\)', sheet)
    assert len(pictures) > 10
    assert [name for name in pictures if not Path(name).is_file()] == []


def test_qt_reads_the_style_sheet_without_complaint(app: QApplication, qtbot: QtBot) -> None:
    theme = Theme(ThemeChoice.LIGHT)
    theme.apply(app)
    button = QPushButton("Kill switch")
    qtbot.addWidget(button)
    style_as(button, role="danger")
    with qtbot.waitExposed(button):
        button.show()
    drawn = button.grab().toImage().pixelColor(QPoint(button.width() // 2, 3))
    assert drawn == QColor(LIGHT.danger_fill)


def test_a_choice_is_worn_and_told_once(app: QApplication) -> None:
    theme = Theme(ThemeChoice.DARK)
    theme.apply(app)
    told: list[bool] = []
    theme.changed.connect(lambda: told.append(theme.is_dark))
    assert app.palette().color(QPalette.ColorRole.Window) == QColor(DARK.panel)
    theme.set_choice(ThemeChoice.LIGHT)
    theme.set_choice(ThemeChoice.LIGHT)
    assert theme.choice is ThemeChoice.LIGHT
    assert theme.colors is LIGHT
    assert app.palette().color(QPalette.ColorRole.Window) == QColor(LIGHT.panel)
    assert told == [False]


def test_the_desktops_choice_is_followed_unless_one_was_made(app: QApplication) -> None:
    theme = Theme()
    told: list[bool] = []
    theme.changed.connect(lambda: told.append(theme.is_dark))
    hints = app.styleHints()
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Light)
    assert theme.colors is LIGHT
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Dark)
    assert theme.colors is DARK
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Unknown)
    theme.set_choice(ThemeChoice.LIGHT)
    hints.colorSchemeChanged.emit(Qt.ColorScheme.Dark)
    assert theme.colors is LIGHT
    theme.set_choice(ThemeChoice.SYSTEM)
    assert theme.colors is DARK
    assert told == [False, True, False, True]


@BOTH
def test_disabled_text_looks_disabled(colors: Colors) -> None:
    made = palette(colors)
    assert made.color(QPalette.ColorGroup.Disabled, QPalette.ColorRole.Text) == QColor(colors.disabled)
    assert made.color(QPalette.ColorGroup.Active, QPalette.ColorRole.Text) == QColor(colors.text)


def test_fonts_are_of_the_size_of_a_desk(app: QApplication) -> None:
    assert text_font().pixelSize() in (12, 13)
    assert code_font().pixelSize() == 12
    app.setFont(text_font())
    assert number_font().pixelSize() == text_font().pixelSize()
    assert number_font(code_font()).family() == code_font().family()


def test_a_look_can_be_given_and_taken_away(app: QApplication, qtbot: QtBot) -> None:
    Theme(ThemeChoice.DARK).apply(app)
    label = QLabel("Loss")
    qtbot.addWidget(label)
    label.ensurePolished()
    plain = label.palette().color(QPalette.ColorRole.WindowText)
    style_as(label, tone="loss")
    assert label.palette().color(QPalette.ColorRole.WindowText) == QColor(DARK.loss)
    style_as(label, tone=None)
    assert label.palette().color(QPalette.ColorRole.WindowText) == plain


@pytest.mark.parametrize("choice", [ThemeChoice.DARK, ThemeChoice.LIGHT])
def test_what_an_empty_input_asks_for_is_not_taken_for_what_was_typed(
    app: QApplication, qtbot: QtBot, choice: ThemeChoice
) -> None:
    theme = Theme(choice)
    theme.apply(app)
    colors = theme.colors
    assert contrast(colors.text, colors.hint) >= 3
    combo = QComboBox()
    combo.setEditable(True)
    line, text = QLineEdit(), QPlainTextEdit()
    box = QWidget()
    qtbot.addWidget(box)
    for edit in (line, text, combo):
        edit.setParent(box)
    asking = [line, text, combo.lineEdit()]
    with qtbot.waitExposed(box):
        box.show()
    for field in asking:
        assert field is not None
        field.setPlaceholderText("Strategy, symbol")
        assert field.palette().color(QPalette.ColorRole.PlaceholderText) == QColor(colors.hint)
        assert field.palette().color(QPalette.ColorRole.Text) == QColor(colors.text)


@pytest.mark.parametrize("choice", [ThemeChoice.DARK, ThemeChoice.LIGHT])
def test_the_ways_through_folders_can_be_seen(app: QApplication, tmp_path: Path, choice: ThemeChoice) -> None:
    """Qt's own arrows are black; a desktop without a dialog of its own shows them."""
    theme = Theme(choice)
    theme.apply(app)
    dialog = QFileDialog(None, "Choose a strategy", str(tmp_path), options=QFileDialog.Option.DontUseNativeDialog)
    buttons = {each.objectName(): each for each in dialog.findChildren(QToolButton)}
    names = ("backButton", "forwardButton", "toParentButton")
    images = {name: buttons[name].icon().pixmap(16, 16).toImage() for name in names}
    shiboken6.delete(dialog)  # now: it watches the folder
    for name, image in images.items():
        inked = [image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height())]
        inked = [color for color in inked if color.alpha() == 255]
        assert inked, name
        assert all(contrast(color.name(), theme.colors.window) >= 3 for color in inked), name


def test_inputs_are_of_one_height_and_show_their_focus(app: QApplication, qtbot: QtBot) -> None:
    Theme(ThemeChoice.DARK).apply(app)
    edit, spin = QLineEdit(), QSpinBox()
    for each in (edit, spin):
        qtbot.addWidget(each)
        each.resize(120, 26)
    style_as(edit, invalid=True)
    with qtbot.waitExposed(edit):
        edit.show()
    assert edit.grab().toImage().pixelColor(60, 0) == QColor(DARK.danger)
    assert abs(edit.sizeHint().height() - spin.sizeHint().height()) <= 3


def test_resources_are_found_beside_the_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    library = library_folder()
    assert library is not None
    assert (library / "sma_cross.py").is_file()
    monkeypatch.setattr(resources.sys, "_MEIPASS", str(tmp_path), raising=False)
    assert library_folder() is None
    with pytest.raises(ConfigError, match="Install"):
        resource("icons/play.svg")
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / "sign.svg").write_text("x")
    assert resource("sign.svg") == tmp_path / "resources" / "sign.svg"
