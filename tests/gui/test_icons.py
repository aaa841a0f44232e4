"""The icons: each is drawn by the rules, shows something, and wears the theme's colours."""

from __future__ import annotations

import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
from PySide6.QtCore import QRect, QSize
from PySide6.QtGui import QColor, QIcon, QImage, QPainter
from PySide6.QtWidgets import QApplication

from koc_qt.domain.errors import ConfigError
from koc_qt.ui.colors import DARK, LIGHT
from koc_qt.ui.icons import app_icon, icon, icon_names, pixmap
from koc_qt.ui.resources import resource
from koc_qt.ui.theme import Theme, ThemeChoice
from tests.conditions import PATIENCE

SVG = "{http://www.w3.org/2000/svg}"
PROMISED = tuple(
    """
    play stop pause play-all stop-all kill release chart plus close search settings folder file strategy account orders
    positions ticket telemetry backtest data log deploy mascot refresh download upload copy export filter pin float link
    unlink warning error info check moon sun keyboard command clock up down left right cancel trash layout dance eye
    eye-off panes package program container
    """.split()  # noqa: SIM905 -- a list of quoted words would hide them
)


def colors_in(image: QImage) -> set[str]:
    """Give the colours of the pixels that are fully painted."""
    picture = image.convertToFormat(QImage.Format.Format_ARGB32)
    points = [(x, y) for x in range(picture.width()) for y in range(picture.height())]
    return {picture.pixelColor(*at).name() for at in points if picture.pixelColor(*at).alpha() == 255}


def covered(image: QImage) -> float:
    """Give the share of the pixels that show something."""
    picture = image.convertToFormat(QImage.Format.Format_Alpha8)
    points = [(x, y) for x in range(picture.width()) for y in range(picture.height())]
    return sum(picture.pixelColor(*at).alpha() > 60 for at in points) / len(points)


def test_every_icon_that_was_promised_is_there() -> None:
    assert set(PROMISED) - set(icon_names()) == set()


@pytest.mark.parametrize("name", icon_names())
def test_icon_is_drawn_by_the_rules(name: str, qapp: QApplication) -> None:
    text = resource(f"icons/{name}.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    assert root.attrib["viewBox"] == "0 0 24 24"
    assert root.attrib["stroke"] == "currentColor"
    assert root.attrib["stroke-width"] == "1.75"
    assert {each.tag for each in root.iter()} <= {SVG + tag for tag in ("svg", "path", "rect", "circle", "ellipse")}
    assert re.findall(r"#[0-9a-fA-F]{3,8}\b|href|url\(|http(?!://www\.w3\.org/2000/svg)", text) == []
    for size in (16, 20, 24, 32):
        assert covered(pixmap(name, "#ffffff", size).toImage()) > 0.015
    edge = pixmap(name, "#ffffff", 24).toImage()
    assert not any(edge.pixelColor(x, 0).alpha() or edge.pixelColor(0, x).alpha() for x in range(24)), (
        "touches the edge"
    )


def test_icons_follow_the_theme_by_themselves(qapp: QApplication) -> None:
    theme = Theme(ThemeChoice.DARK)
    made = icon("stop", theme)
    assert colors_in(made.pixmap(32).toImage()) == {DARK.icon}
    theme.set_choice(ThemeChoice.LIGHT)
    assert colors_in(made.pixmap(32).toImage()) == {LIGHT.icon}
    assert colors_in(QIcon(made).pixmap(32).toImage()) == {LIGHT.icon}


def test_colour_shows_role_and_state(qapp: QApplication) -> None:
    theme = Theme(ThemeChoice.DARK)
    size = QSize(32, 32)
    assert colors_in(icon("kill", theme, "danger").pixmap(size).toImage()) == {DARK.danger}
    assert colors_in(icon("stop", "#123456").pixmap(size).toImage()) == {"#123456"}
    disabled = icon("stop", theme).pixmap(size, QIcon.Mode.Disabled, QIcon.State.Off)
    checked = icon("stop", theme).pixmap(size, QIcon.Mode.Normal, QIcon.State.On)
    assert colors_in(disabled.toImage()) == {DARK.disabled}
    assert colors_in(checked.toImage()) == {DARK.accent}


@pytest.mark.parametrize("ratio", [1.0, 1.5, 2.0])
def test_icons_are_rendered_for_the_screen(qapp: QApplication, ratio: float) -> None:
    made = icon("stop", "#ffffff").pixmap(QSize(20, 20), ratio)
    assert made.size() == QSize(round(20 * ratio), round(20 * ratio))
    assert made.devicePixelRatio() == ratio
    canvas = QImage(made.size(), QImage.Format.Format_ARGB32_Premultiplied)
    canvas.setDevicePixelRatio(ratio)
    canvas.fill(QColor("black"))
    painter = QPainter(canvas)
    icon("stop", "#ffffff").paint(painter, QRect(0, 0, 20, 20))
    painter.end()
    drawn = pixmap("stop", "#ffffff", 20, ratio).toImage()
    middle = canvas.width() // 2
    assert canvas.pixelColor(middle, middle) == QColor("white")
    assert [canvas.pixelColor(x, middle).red() for x in range(canvas.width())] == pytest.approx(
        [drawn.pixelColor(x, middle).alpha() for x in range(canvas.width())], abs=2
    )


def test_an_icon_that_is_not_there_is_named(qapp: QApplication) -> None:
    with pytest.raises(ConfigError, match=r"no-such\.svg"):
        icon("no-such", "#ffffff")


def test_the_programs_own_icon_comes_in_the_sizes_of_desktops(qapp: QApplication) -> None:
    made = app_icon()
    assert {size.width() for size in made.availableSizes()} == {16, 24, 32, 48, 64, 128, 256}
    for size in (16, 256):
        assert len(colors_in(made.pixmap(QSize(size, size)).toImage())) > 3


def test_the_programs_icon_is_rendered_for_packages(tmp_path: object) -> None:
    subprocess.run([sys.executable, str(resource("render_icon.py")), str(tmp_path)], check=True, timeout=60 * PATIENCE)
    assert QImage(f"{tmp_path}/koc-512.png").size() == QSize(512, 512)
    assert not QImage(f"{tmp_path}/koc-16.png").isNull()


def test_no_room_gives_no_picture_and_no_complaint(qapp: QApplication) -> None:
    assert icon("copy", "#ffffff").pixmap(QSize(16, 0)).isNull()
