"""Where the files that come with the program are: pictures, and the sample strategies."""

from __future__ import annotations

import sys
from pathlib import Path

from koc_qt.domain.errors import ConfigError


def resource(name: str) -> Path:
    """Find a file or folder below resources/, such as `icons/play.svg`. Raises ConfigError when it is missing."""
    path = _root() / "resources" / name
    if not path.exists():
        raise ConfigError(f"a part of the program is missing: {path}. Install K.O.C. again, or restore this file")
    return path


def library_folder() -> Path | None:
    """Find the folder of sample strategies; None where the installation has none."""
    folder = _root() / "strategies"
    return folder if folder.is_dir() else None


def _root() -> Path:
    """Give the folder that holds resources/: that of the checkout, or of the unpacked bundle."""
    bundle: str | None = getattr(sys, "_MEIPASS", None)
    return Path(bundle) if bundle else Path(__file__).resolve().parents[2]
