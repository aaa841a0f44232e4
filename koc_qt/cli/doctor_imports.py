"""``koc doctor --imports``: import all that is loaded by name, and name what an installed copy lacks."""

from __future__ import annotations

import importlib
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence

from koc_qt.cli.doctor_check import FAIL, OK, Check
from koc_qt.cli.loaded_by_name import modules

_ADVICE = "Install K.O.C. again; if this stays, report the line."
_LATER = ("koc_qt.worker.engines.vectorbt",)  # decides how numba compiles, so before any other that loads vectorbt


def look_at_imports(names: Sequence[str] = ()) -> Iterator[Check]:
    """Import each module, by default all of the list; give what failed, a line each, and how many did not."""
    wanted = list(names) or modules(sys.platform)
    wanted.sort(key=lambda name: name not in _LATER)
    failed = 0
    tempfile.tempdir = tempfile.tempdir or tempfile.gettempdir()
    for name in wanted:
        reason = _reason(name)
        if reason:
            failed += 1
            yield Check("imports", FAIL, f"{name}: {reason}", _ADVICE)
    count = len(wanted) - failed
    yield Check("imports", FAIL if failed else OK, f"{count} of {len(wanted)} modules that are loaded by name are here")


def _reason(name: str) -> str:
    """Import a module; say why it cannot be, or what it says is missing itself."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = importlib.import_module(name)
            if name.startswith("koc_qt.worker.engines."):  # these keep what failed for whoever asks for a run
                module = importlib.import_module(f"{name}_library")
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    missing = getattr(module, "missing", "")
    return missing if isinstance(missing, str) else ""
