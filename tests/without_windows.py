"""What tests of the engine use of pytest-qt, which does not load where a window's system libraries are missing."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QCoreApplication


@pytest.fixture(scope="session")
def qapp() -> QCoreApplication:
    """Give the application of this process."""
    return QCoreApplication.instance() or QCoreApplication([])
