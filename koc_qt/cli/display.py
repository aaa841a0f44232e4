"""Whether there is a screen to draw on."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping


def find_display(environment: Mapping[str, str] = os.environ, platform: str = sys.platform) -> str:
    """Name the display that a window would appear on; empty where there is none."""
    if plugin := environment.get("QT_QPA_PLATFORM"):
        return f"Qt's {plugin}"  # whoever sets it wants windows there
    if platform in ("win32", "darwin"):
        return "the desktop"
    if wayland := environment.get("WAYLAND_DISPLAY"):
        return f"Wayland {wayland}"
    if x11 := environment.get("DISPLAY"):
        return f"X11 {x11}"
    return ""
