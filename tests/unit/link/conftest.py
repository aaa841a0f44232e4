"""An engine behind a real link, on the test's loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.link import FakeLink, serve


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[FakeLink]:
    async with serve(tmp_path) as link:
        yield link
