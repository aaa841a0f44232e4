"""vectorbt, loaded before a process is locked down: its imports read and try to write many files.

It does all that is asked for here in its compiled extra (Rust). Its functions for numba are left uncompiled, for their
first compilation takes most of a minute and wants a folder to keep what comes of it; a strategy may use numba still.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from typing import Any

missing = ""
library: Any = None


def _load() -> Any:
    compiler: Any = importlib.import_module("numba")
    importlib.import_module("numba.typed")
    importlib.import_module("vectorbt_rust")  # its absence would be noticed only after a run without it
    folder = tempfile.tempdir
    tempfile.tempdir = folder or "/"  # a library of its asks for one and fails without; nothing is written there
    compiler.config.DISABLE_JIT = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loaded: Any = importlib.import_module("vectorbt")
    finally:
        compiler.config.DISABLE_JIT = False
        tempfile.tempdir = folder
    loaded.settings["numba"]["check_func_type"] = False
    loaded.settings["engine"] = "rust"
    return loaded


try:
    library = _load()
except ImportError as error:
    missing = f"vectorbt cannot be loaded ({error}): install it with pip install 'vectorbt[rust]'"
except Exception as error:  # whatever it needs and does not find: told to who wants a run, not here
    missing = f"vectorbt cannot be loaded ({type(error).__name__}: {error})"
