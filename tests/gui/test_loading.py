"""Panels are loaded a module at a time, so that no turn of the window's loop waits for many."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.bench.window_common import ROOT
from tests.conditions import PATIENCE

# As the window does it: what it needs for its first paint is there, and what charts need was loaded by a thread.
PROGRAM = """
import json, pkgutil, sys
import koc_qt.ui.panels, koc_qt.ui.window, koc_qt.wiring.keeper
from koc_qt.ui.loading import load_in_steps
from koc_qt.ui.panel_list import preload
preload()
found, before = [], {name for name in sys.modules if name.startswith("koc_qt.")}
for panel in (each.name for each in pkgutil.iter_modules(koc_qt.ui.panels.__path__)):
    for _ in load_in_steps("koc_qt.ui.panels." + panel):
        now = {name for name in sys.modules if name.startswith("koc_qt.")}
        found.append(sorted(now - before))
        before = now
print(json.dumps(found))
"""


def test_each_step_imports_one_module() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=60 * PATIENCE
    )
    assert done.stderr == ""
    steps = [[name for name in step if not _is_package(name)] for step in json.loads(done.stdout)]
    assert len(steps) > 40
    assert [step for step in steps if len(step) > 1 and not _is_sdk(step)] == []


def _is_sdk(step: list[str]) -> bool:
    """Whether it is what strategies import, which is one thing, and small."""
    return all(name.startswith("koc_qt.sdk.") for name in step)


def _is_package(name: str) -> bool:
    """Whether it is a folder, whose own module does nothing."""
    return (ROOT / name.replace(".", "/")).is_dir()
