"""A profile for every test, and the venue that replays Binance's frames."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from loguru import logger

from tests.conditions import PATIENCE
from tests.e2e.processes import ROOT, Profile, environment

WIRE_TIMEOUT_S = 30.0


@pytest.fixture(autouse=True)
def _quiet_link() -> Iterator[None]:
    """Keep the link's debugging out of a failure's report: a status is asked for every few milliseconds."""
    logger.disable("koc_qt.link")
    yield
    logger.enable("koc_qt.link")


@pytest.fixture
def home(tmp_path: Path) -> Profile:
    """Give a fresh profile, in a folder whose name has blanks and is not ASCII."""
    return Profile(tmp_path / "köc ☃ home")


@pytest.fixture
def wire() -> Iterator[Callable[..., dict[str, Any]]]:
    """Give a function that starts `python -m tests.wire` with more arguments and gives its ready line."""
    with contextlib.ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(_wire(*arguments))


@contextlib.contextmanager
def _wire(*arguments: str) -> Iterator[dict[str, Any]]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.wire", *arguments],
        env=environment(),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        try:
            line = server.stdout.readline()  # ends with the process at the latest; pytest-timeout bounds it
            assert line, f"the venue's server ended with {server.wait()}"
            yield json.loads(line)
        finally:
            server.terminate()
            server.wait(WIRE_TIMEOUT_S * PATIENCE)
