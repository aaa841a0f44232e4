"""Modules of ours, imported one at a time: one that brings all it needs would hold up the window for 50 ms.

On the loop, and not in a thread: what is done meanwhile would wait for that one again and again.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from types import CodeType

_OURS = "koc_qt."


def load_in_steps(module: str) -> Iterator[None]:
    """Import a module and whatever of ours it needs, deepest first: each step finds out, or imports, about one."""
    yield from _load(module, set())


def _load(module: str, seen: set[str]) -> Iterator[None]:
    """Import what is not there yet, each after all that it asks for; a circle is left to the import itself."""
    if module in seen or module in sys.modules:
        return
    seen.add(module)
    spec = find_spec(module)  # imports the packages that it is in
    get_code = getattr(spec.loader, "get_code", None) if spec is not None else None
    code: CodeType | None = get_code(module) if get_code is not None else None
    yield
    for name in code.co_names if code is not None else ():  # that of an import is the module's, and has its dots
        if name.startswith(_OURS):
            yield from _load(name, seen)
    import_module(module)
    yield
