"""backtrader, loaded before a process is locked down."""

from __future__ import annotations

import importlib
from typing import Any

missing = ""
library: Any = None

try:
    library = importlib.import_module("backtrader")
except ImportError as error:
    missing = f"backtrader cannot be loaded ({error}): install it with pip install backtrader"
except Exception as error:  # whatever it needs and does not find: told to who wants a run, not here
    missing = f"backtrader cannot be loaded ({type(error).__name__}: {error})"
