"""Keeps Qt for Python from reading the source of every module that is imported after it.

It looks there for its own name, so that `from __feature__ import ...`, which nothing here uses, can change the names of
Qt's methods for the modules that ask for it and for none else. That takes a tenth of what an import does, 60 ms of a
start, and keeps the text of 600 files in memory. A bundle without sources does without it as well.
"""

from __future__ import annotations

import sys

import PySide6.QtCore  # noqa: F401 - which brings the hook

_HOOK = "shibokensupport.feature"
_LOOKS = "_mod_uses_pyside"


def read_no_sources() -> None:
    """Answer for every module imported from now on that it changes no names. Again does nothing."""
    hook = sys.modules.get(_HOOK)
    if hook is not None and hasattr(hook, _LOOKS):
        setattr(hook, _LOOKS, lambda _module: False)
