"""What Qt for Python does to imports is not done in our processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.bench.window_common import ROOT
from tests.conditions import PATIENCE

PROGRAM = """
import linecache, sys
from koc_qt.wiring import qt_imports
assert hasattr(sys.modules[qt_imports._HOOK], qt_imports._LOOKS), "Qt for Python has changed: is it still needed?"
{before}
import koc_qt.ui.theme
from PySide6.QtCore import QObject
assert QObject().objectName() == ""
print(any(name.endswith("style_sheet.py") for name in linecache.cache))
"""


@pytest.mark.parametrize(("before", "read"), [("qt_imports.read_no_sources()", "False"), ("", "True")])
def test_the_source_of_what_is_imported_is_not_read(before: str, read: str) -> None:
    program = [sys.executable, "-c", PROGRAM.format(before=before)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, timeout=60 * PATIENCE)
    assert (done.stdout.strip(), done.stderr) == (read, "")
