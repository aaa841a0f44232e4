"""The installer's scripts are no package of the program: its folder is looked at after all others."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
sys.path.append(str(ROOT / "installer"))

from building.stages import Build  # noqa: E402


class Heard:
    """Keeps the events of a build."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def emit(self, event: str, **facts: Any) -> None:
        self.events.append({"event": event, **facts})

    def named(self, event: str) -> list[dict[str, Any]]:
        return [facts for facts in self.events if facts["event"] == event]

    def states(self) -> list[str]:
        return [f"{facts['name']} {facts['state']}" for facts in self.named("stage")]


class Bench(Build):
    """A build whose events can be looked at, and which can be stopped."""

    heard: Heard
    stop: threading.Event


@pytest.fixture
def make_build(tmp_path: Path) -> Callable[..., Bench]:
    """Give what makes builds in a folder of their own, which has spaces and letters beyond ASCII."""

    def make(target: str = "ubuntu", out: str = "dist") -> Bench:
        heard, stop = Heard(), threading.Event()
        place = tmp_path / "Häuser und Wände"
        build = Bench(ROOT, target, heard, out=place / out, builds=place / "build", is_cancelled=stop.is_set)
        build.heard, build.stop = heard, stop
        return build

    return make


@pytest.fixture
def build(make_build: Callable[..., Bench]) -> Bench:
    """Give one build."""
    return make_build()
