"""The colours of the window, dark and light: one frozen set each, chosen so that text keeps a contrast of 4.5.

Every colour is `#rrggbb`. A colour for text or lines reads on `window`, `panel`, `raised`, `hover` and `field`; a
`_fill` is a surface that carries `on_fill`. tests/gui/test_theme.py computes the contrast of every pair in use (WCAG).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Colors:
    """What everything is painted with; names say the purpose, never the hue."""

    window: str  # behind and between panels
    panel: str  # what a dock's content lies on
    raised: str  # headers, title bars, buttons
    hover: str  # the same under the pointer
    field: str  # where something is typed
    stripe: str  # every other row of a table
    line: str  # hairlines between surfaces
    edge: str  # outlines of buttons and inputs
    text: str
    muted: str  # captions, units, headers
    hint: str  # what an empty input asks for: it reads, and is never taken for what was typed
    disabled: str
    icon: str
    accent: str  # links, focus ring, selected tab
    accent_fill: str  # the primary button
    selection: str  # selected rows and text; carries `text`
    on_fill: str
    profit: str
    loss: str
    warning: str
    danger: str
    info: str
    profit_fill: str  # the buy button
    loss_fill: str  # the sell button
    danger_fill: str  # the kill switch
    # Where orders go: the mode of an account
    simulated: str
    paper: str
    testnet: str
    live: str


DARK = Colors(
    window="#0d1015",
    panel="#14181f",
    raised="#1b2129",
    hover="#262e39",
    field="#0f1318",
    stripe="#171c24",
    line="#262d37",
    edge="#37414e",
    text="#e4e8ee",
    muted="#9aa6b5",
    hint="#788492",
    disabled="#66717f",
    icon="#b4beca",
    accent="#66a6ff",
    accent_fill="#2a68d8",
    selection="#1f3a61",
    on_fill="#ffffff",
    profit="#3fcf90",
    loss="#ff757b",
    warning="#f0b445",
    danger="#ff757b",
    info="#66a6ff",
    profit_fill="#14794f",
    loss_fill="#c2323c",
    danger_fill="#cc2936",
    simulated="#3cc5cf",
    paper="#b59bff",
    testnet="#f0b445",
    live="#ff757b",
)

LIGHT = Colors(
    window="#e9ecf1",
    panel="#ffffff",
    raised="#f3f5f8",
    hover="#e4e9f0",
    field="#ffffff",
    stripe="#f8f9fb",
    line="#dbe0e7",
    edge="#bcc5d0",
    text="#18212c",
    muted="#556170",
    hint="#687380",
    disabled="#8b96a3",
    icon="#465261",
    accent="#1a5ccb",
    accent_fill="#2163d2",
    selection="#cfe1fb",
    on_fill="#ffffff",
    profit="#08703f",
    loss="#bf2030",
    warning="#855300",
    danger="#bf2030",
    info="#1a5ccb",
    profit_fill="#117a4c",
    loss_fill="#c42c38",
    danger_fill="#c9202e",
    simulated="#0a6b74",
    paper="#6440c8",
    testnet="#855300",
    live="#bf2030",
)


def mix(color: str, other: str, share: float) -> str:
    """Blend two colours; `share` of the first, from 0 to 1."""
    pairs = zip(_channels(color), _channels(other), strict=True)
    return "#" + "".join(f"{round(one * share + two * (1 - share)):02x}" for one, two in pairs)


def _channels(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)
