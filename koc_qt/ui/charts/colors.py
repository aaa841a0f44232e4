"""The colours of a chart. The window's theme hands a set in; two sets of our own are here."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtGui import QColor


@dataclass(frozen=True, slots=True)
class ChartColors:
    """Opaque colours: blending costs time, so volumes have colours of their own instead of see-through ones."""

    background: QColor
    grid: QColor
    grid_major: QColor  # where a day, month or year begins
    border: QColor  # between plot and axes
    text: QColor
    muted: QColor  # axis labels, empty state
    up: QColor
    down: QColor
    volume_up: QColor
    volume_down: QColor
    crosshair: QColor
    tag: QColor  # behind the crosshair's values
    tag_text: QColor
    buy: QColor
    sell: QColor
    outline: QColor  # around markers, so that they stand out from candles of the same colour
    line: QColor  # position average, equity
    fault: QColor  # behind the text of a fault
    fault_text: QColor


def dark_colors() -> ChartColors:
    """Light candles on near black; every text has a contrast of at least 4.5 to what is behind it."""
    return ChartColors(
        background=QColor("#0f1319"),
        grid=QColor("#1a2029"),
        grid_major=QColor("#2a3341"),
        border=QColor("#2b3442"),
        text=QColor("#d7dde6"),
        muted=QColor("#8f9bab"),
        up=QColor("#2bb39a"),
        down=QColor("#f0645f"),
        volume_up=QColor("#174640"),
        volume_down=QColor("#552c30"),
        crosshair=QColor("#7d8898"),
        tag=QColor("#3b4758"),
        tag_text=QColor("#ffffff"),
        buy=QColor("#4aa8ff"),
        sell=QColor("#ffb13d"),
        outline=QColor("#0f1319"),
        line=QColor("#b79cff"),
        fault=QColor("#4a2b12"),
        fault_text=QColor("#ffd9b0"),
    )


def light_colors() -> ChartColors:
    """Dark candles on white; every text has a contrast of at least 4.5 to what is behind it."""
    return ChartColors(
        background=QColor("#ffffff"),
        grid=QColor("#eef1f5"),
        grid_major=QColor("#d5dbe4"),
        border=QColor("#cbd3de"),
        text=QColor("#1b2430"),
        muted=QColor("#5b6675"),
        up=QColor("#08806a"),
        down=QColor("#d23a3a"),
        volume_up=QColor("#b9e0d8"),
        volume_down=QColor("#f6cccb"),
        crosshair=QColor("#77828f"),
        tag=QColor("#3f4a59"),
        tag_text=QColor("#ffffff"),
        buy=QColor("#1565d8"),
        sell=QColor("#b85c00"),
        outline=QColor("#ffffff"),
        line=QColor("#6a41c9"),
        fault=QColor("#fff0dd"),
        fault_text=QColor("#7a3b00"),
    )


def text_on(color: QColor) -> QColor:
    """Black or white, whichever reads better on a colour (relative luminance of WCAG 2.1)."""

    def linear(part: float) -> float:
        return part / 12.92 if part <= 0.03928 else float(((part + 0.055) / 1.055) ** 2.4)

    luminance = 0.2126 * linear(color.redF()) + 0.7152 * linear(color.greenF()) + 0.0722 * linear(color.blueF())
    return QColor("#000000") if luminance > 0.179 else QColor("#ffffff")
