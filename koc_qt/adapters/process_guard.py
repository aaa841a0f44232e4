"""Keeps what is in this process's memory out of core files and debuggers, where it holds keys."""

from __future__ import annotations

import sys

from loguru import logger

_PR_SET_DUMPABLE = 4


def forbid_core_dumps() -> None:
    """Have this process, and those that it starts, write no core file; on Linux no other process may read its memory.

    Windows writes none unless its owner has asked for it: there nothing is done. What cannot be set is logged.
    """
    if sys.platform == "win32":
        return
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if sys.platform == "linux":
            from koc_qt.adapters.sandbox._libc import prctl

            prctl(_PR_SET_DUMPABLE, 0)
    except (OSError, ValueError) as error:
        logger.warning("this process holds keys, but core files cannot be forbidden: {}", error)
