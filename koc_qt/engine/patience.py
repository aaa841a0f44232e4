"""How long a strategy's process may take to begin; by itself, for those who need nothing else of the host."""

from __future__ import annotations

READY_TIMEOUT_S = 20.0  # until it is locked down and says so
LOAD_TIMEOUT_S = 30.0  # until the file is imported and on_start has returned
