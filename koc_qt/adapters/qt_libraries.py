"""The system libraries that Qt loads on Linux and that its wheels do not bring, and the Debian packages they are in.

Read from the NEEDED entries of Qt 6.11: QtCore (the engine's part); QtGui, QtWidgets, their xcb and wayland plugins.
The standard library alone is used here, because installer/bootstrap.py asks too, before anything is installed.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping

ENGINE_LIBRARIES: Mapping[str, str] = {
    "libstdc++.so.6": "libstdc++6",
    "libz.so.1": "zlib1g",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
}
WINDOW_LIBRARIES: Mapping[str, str] = {
    "libEGL.so.1": "libegl1",
    "libGL.so.1": "libgl1",
    "libfontconfig.so.1": "libfontconfig1",
    "libfreetype.so.6": "libfreetype6",
    "libdbus-1.so.3": "libdbus-1-3",
    "libX11.so.6": "libx11-6",
    "libX11-xcb.so.1": "libx11-xcb1",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libxkbcommon-x11.so.0": "libxkbcommon-x11-0",
    "libxcb.so.1": "libxcb1",
    "libxcb-cursor.so.0": "libxcb-cursor0",
    "libxcb-icccm.so.4": "libxcb-icccm4",
    "libxcb-image.so.0": "libxcb-image0",
    "libxcb-keysyms.so.1": "libxcb-keysyms1",
    "libxcb-randr.so.0": "libxcb-randr0",
    "libxcb-render.so.0": "libxcb-render0",
    "libxcb-render-util.so.0": "libxcb-render-util0",
    "libxcb-shape.so.0": "libxcb-shape0",
    "libxcb-shm.so.0": "libxcb-shm0",
    "libxcb-sync.so.1": "libxcb-sync1",
    "libxcb-util.so.1": "libxcb-util1",
    "libxcb-xfixes.so.0": "libxcb-xfixes0",
    "libxcb-xkb.so.1": "libxcb-xkb1",
    "libwayland-client.so.0": "libwayland-client0",
    "libwayland-cursor.so.0": "libwayland-cursor0",
}
# What else an installed copy may ask the system for.
PACKAGES: Mapping[str, str] = {
    **ENGINE_LIBRARIES,
    **WINDOW_LIBRARIES,
    "libgcc_s.so.1": "libgcc-s1",
    "libexpat.so.1": "libexpat1",
    "libOpenGL.so.0": "libopengl0",
    "libGLX.so.0": "libglx0",
    "libwayland-egl.so.1": "libwayland-egl1",
    "libXext.so.6": "libxext6",
    "libuuid.so.1": "libuuid1",
    "libgomp.so.1": "libgomp1",
}


def missing_libraries(
    libraries: Mapping[str, str], load: Callable[[str], object] = ctypes.CDLL, platform: str = sys.platform
) -> dict[str, str]:
    """Give those of `libraries` that cannot be loaded, with their packages; none but on Linux."""
    if platform != "linux":
        return {}
    missing = {}
    for soname, package in libraries.items():
        try:
            load(soname)
        except OSError:
            missing[soname] = package
    return missing


def versions() -> str:
    """Load Qt's core; gives the versions of PySide6 and of Qt. Raises ImportError; a broken one may end the process."""
    import PySide6
    from PySide6.QtCore import qVersion

    return f"{PySide6.__version__} {qVersion()}"
