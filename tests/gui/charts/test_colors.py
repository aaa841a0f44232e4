"""The charts' colours: what is written can be read, and what is drawn can be told apart."""

from __future__ import annotations

import pytest

from koc_qt.ui.charts.colors import ChartColors, dark_colors, light_colors, text_on
from tests.gui.test_theme import contrast

BOTH = pytest.mark.parametrize("colors", [dark_colors(), light_colors()], ids=["dark", "light"])


@BOTH
def test_text_can_be_read(colors: ChartColors) -> None:
    pairs = [
        (colors.text, colors.background),
        (colors.muted, colors.background),
        (colors.tag_text, colors.tag),
        (colors.fault_text, colors.fault),
        *((text_on(color), color) for color in (colors.up, colors.down, colors.buy, colors.sell, colors.line)),
    ]
    assert min(contrast(text.name(), behind.name()) for text, behind in pairs) >= 4.5


@BOTH
def test_marks_can_be_told_from_the_background(colors: ChartColors) -> None:
    marks = (colors.up, colors.down, colors.crosshair, colors.buy, colors.sell, colors.line)
    assert min(contrast(mark.name(), colors.background.name()) for mark in marks) >= 3
