"""What tests of widgets start from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication

from tests.fakes.desk import FakeBench, running_bench


@pytest.fixture
def fake(qapp: QApplication) -> Iterator[FakeBench]:
    """Give a bench joined to a fake engine; give panels `fake.window` as their parent, and it ends them."""
    with running_bench(qapp) as bench:
        yield bench
