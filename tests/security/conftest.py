"""Where no sandbox can be built there is nothing to attack: skip, and say why."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def _why_not() -> str:
    if sys.platform != "linux":
        return f"K.O.C. has no sandbox for {sys.platform} yet"
    from koc_qt.adapters.sandbox import landlock

    try:
        landlock.abi()
    except OSError as error:
        return f"this kernel has no Landlock ({error.strerror})"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests of this folder with the reason."""
    why = _why_not()
    here = Path(__file__).parent
    if why:
        for item in items:
            if here in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=why))
