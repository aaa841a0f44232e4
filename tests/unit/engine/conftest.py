from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.engine.desk import EngineDesk


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineDesk]:
    """Give a running engine on fakes."""
    desk = EngineDesk(tmp_path)
    await desk.start()
    yield desk
    await desk.close()
