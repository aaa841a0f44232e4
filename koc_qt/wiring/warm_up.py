"""What an installed copy prepares once for each machine and version: the machine code that searches of parameters use.

Other back-test engines have nothing to prepare: ours needs no compilation, vectorbt runs in its compiled extra, and
backtrader is plain Python. An engine's process does this, of which a profile has one, so that it is never done twice at
once; who searches meanwhile compiles for himself. It is done when nothing else is, by a process of the lowest priority,
which is ended as soon as a strategy runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable

from loguru import logger

from koc_qt.adapters.sweep_kernel_file import KernelFile
from koc_qt.config import Config
from koc_qt.engine.store import Store
from koc_qt.paths import Paths

CALM_S = 60.0  # after the start, and after the last strategy: windows and markets load in that time
LOOK_S = 5.0
MOST_TRIES = 3


async def prepare_installed_copy(paths: Paths, config: Config, store: Store) -> None:
    """Do it where this is an installed copy and it is not turned off."""
    if config.engine.warm_up and getattr(sys, "frozen", False):
        await warm_up(KernelFile(paths.kernels), lambda: all(each.pid is None for each in store.strategies.values()))


async def warm_up(
    kernel: KernelFile,
    is_calm: Callable[[], bool],
    *,
    calm_s: float = CALM_S,
    look_s: float = LOOK_S,
    monotonic: Callable[[], float] = time.monotonic,
) -> None:
    """Compile what is not there, once it has been calm for a while; until cancelled, or it failed a few times."""
    for _ in range(MOST_TRIES):
        await _calm(is_calm, calm_s, look_s, monotonic)
        if await kernel.is_there():
            return
        logger.info(
            "preparing the search of parameters for this machine, in the background and at the lowest priority; "
            "engine.warm_up: false in koc.yaml turns that off"
        )
        began_s = monotonic()
        if await _compile(kernel, is_calm, look_s):
            logger.info("the search of parameters is prepared: that took {:.1f} s", monotonic() - began_s)
            return


async def _calm(is_calm: Callable[[], bool], calm_s: float, look_s: float, monotonic: Callable[[], float]) -> None:
    """Wait until it has been calm for so long without a break."""
    since_s = monotonic()
    while monotonic() - since_s < calm_s:
        await asyncio.sleep(min(look_s, calm_s))
        if not is_calm():
            since_s = monotonic()


async def _compile(kernel: KernelFile, is_calm: Callable[[], bool], look_s: float) -> bool:
    """Compile, unless something else begins; whether it was done."""
    compiling = asyncio.create_task(kernel.code(is_idle=True), name="warm-up")
    try:
        while not (await asyncio.wait([compiling], timeout=look_s))[0]:
            if not is_calm():
                logger.info("a strategy runs: the search of parameters is prepared another time")
                return False
        return bool(compiling.result())
    finally:
        compiling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await compiling
