"""Finds the engine of a profile or starts it, starts it anew after a crash, and says what is wrong meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable

from loguru import logger
from PySide6.QtCore import QObject, Signal

from koc_qt.domain.errors import KocError, LinkError, ProfileLocked
from koc_qt.link.client import LinkState
from koc_qt.link.connection import EngineAddress
from koc_qt.link.rendezvous import DamagedInfoError, EngineInfo, ProfileLock, running_engine
from koc_qt.paths import Paths
from koc_qt.ui.desk import Desk, Level
from koc_qt.ui.window import Condition
from koc_qt.wiring.engine_process import (
    Process,
    clear_damaged,
    engine_that_runs,
    last_words,
    let_go,
    spawn_engine,
)

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
LOOK_S = 0.1
LOOK_SOON_S = 0.02  # while one that was started here is on its way
QUIET_S = 1.0  # a connection that is lost for less is not worth a word
STARTS, STARTS_WINDOW_S = 4, 120.0  # more crashes than this in this time, and the person is asked


class EngineKeeper(QObject):
    """Keeps the engine of this profile there for the desk. `address` is that of one on another machine, never started.

    `locate` and `on_state` are for the LinkClient; `run` is the task that does the work.
    """

    changed = Signal()
    announced = Signal()  # an engine is there that was not before

    def __init__(
        self,
        paths: Paths,
        desk: Desk,
        address: EngineAddress | None = None,
        spawned: Process | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._paths = paths
        self._desk = desk
        self._address = address
        self._process = spawned
        self._started_s = time.monotonic() if spawned is not None else 0.0
        self._starts: deque[float] = deque(maxlen=STARTS)
        self._wake = asyncio.Event()
        self._wanted = True  # to be started where it is not there
        self._trouble = ""
        self._unreachable: int | None = None  # process id of an engine that runs, and nothing says where it listens
        self._ends_by_s = 0.0  # until when one that was told to stop may take
        self._was_connected = False
        self._lost_s = time.monotonic()
        self._pid: int | None = None
        self._announced: int | None = None  # process id
        self._announced_s = 0.0
        self._is_there = False  # it runs, whether it answers or not
        desk.linked.connect(self._wake.set)

    # ---- for the link's client --------------------------------------------------------------------------------------

    def locate(self) -> EngineAddress:
        """Say where the engine is. Raises LinkError."""
        if self._address is not None:
            return self._address
        info = running_engine(self._paths.run)
        self._pid = info.pid
        return EngineAddress(info.link, info.server_key)

    def on_state(self, state: LinkState, reason: str) -> None:
        """Take how the connection stands, and pass it on."""
        if state is LinkState.CONNECTED:
            self._was_connected, self._wanted, self._trouble = True, True, ""
            self._unreachable, self._ends_by_s = None, 0.0
        elif self._desk.is_connected:
            self._lost_s = time.monotonic()
            if self._desk.last_words:
                self._wanted = False  # it was stopped in order: whoever did that wants it stopped
        self._desk.take_state(state, reason)

    def on_change(self, call: Callable[[], None]) -> None:
        """Have this called when `condition` may say something else."""
        self.changed.connect(call)

    # ---- for the window ---------------------------------------------------------------------------------------------

    def start_engine(self) -> None:
        """Start the engine because the person wants it; does nothing where one runs."""
        self._wanted, self._trouble, self._unreachable = True, "", None
        self._starts.clear()
        self._wake.set()
        self.changed.emit()

    def condition(self) -> Condition | None:
        """Say what is wrong now; None while all is well."""
        desk, again = self._desk, ("Start the engine", self.start_engine)
        if desk.is_connected:
            return None
        if desk.link_state is LinkState.REFUSED:
            replace = (("Stop it and start this version", self._replace),) if self._can_replace() else ()
            return Condition(f"The engine refuses this window: {desk.link_reason}", Level.ERROR, replace)
        if self._address is not None:
            return Condition(
                f"No connection to the engine at {self._address.endpoint}: {desk.link_reason}. Trying again; what you "
                "see is as it was.",
                Level.ERROR,
            )
        if self._trouble:
            anew = ("Stop it and start the engine anew", self._start_anew)
            return Condition(self._trouble, Level.ERROR, (anew if self._can_signal() else again,))
        if not self._wanted:
            why = f": {desk.last_words}" if desk.last_words else ""
            return Condition(f"The engine has stopped{why}. What you see is as it was.", Level.WARNING, (again,))
        if time.monotonic() < self._ends_by_s:
            return Condition("The engine is being stopped, and started anew after that.", Level.WARNING)
        if self._starting():
            text = "The engine is starting…"
            if self._was_connected and not self._desk.last_words:
                text = "The engine has ended without a word; it is being started again. Its journal has every order."
            return Condition(text, Level.WARNING) if self._was_connected or self._slow() else None
        if time.monotonic() - self._lost_s < QUIET_S:
            return None
        return Condition(
            f"The engine does not answer: {desk.link_reason}. What you see is as it was; trying again.", Level.WARNING
        )

    def may_run(self) -> bool:
        """Whether an engine of this profile runs or starts, although it may not answer."""
        if self._address is not None:
            return False
        if self._unreachable is not None:
            return True
        return self._engine() is not None or (self._process is not None and self._process.poll() is None)

    # ---- the work ---------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after the engine until cancelled; what was started goes on."""
        try:
            await self._keep()
        finally:
            if self._process is not None:
                let_go(self._process)

    async def _keep(self) -> None:
        while True:
            self._wake.clear()
            if self._address is None and not self._desk.is_connected and self._wanted and not self._trouble:
                try:
                    self._look()
                except DamagedInfoError as error:
                    await self._begin_without(error)
                except (KocError, LinkError) as error:
                    self._give_up(str(error))
            self.changed.emit()
            try:
                async with asyncio.timeout(self._pause_s()):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _pause_s(self) -> float | None:
        if self._desk.is_connected:
            return None
        return LOOK_SOON_S if self._process is not None and not self._is_there else LOOK_S

    def _look(self) -> None:
        """Start an engine where none runs and none is starting."""
        found = engine_that_runs(self._paths)
        self._is_there = found is not None
        if found is not None and found.pid != self._announced:
            self._announced, self._announced_s = found.pid, time.monotonic()
            self.announced.emit()
        if self._process is not None:
            code = self._process.poll()
            if code is None:
                if time.monotonic() - self._started_s > START_TIMEOUT_S and engine_that_runs(self._paths) is None:
                    self._give_up(
                        f"The engine was started and has not been ready for {START_TIMEOUT_S:g} s: its log says why."
                    )
                return
            self._process = None
            if engine_that_runs(self._paths) is not None:
                return  # somebody else's was first
            if not self._was_ready(code):
                self._give_up(f"The engine did not start: {last_words(self._paths) or f'it ended with code {code}'}")
                return
        if engine_that_runs(self._paths) is None and not self._ends():
            self._start()

    async def _begin_without(self, damage: DamagedInfoError) -> None:
        """Do without a damaged file where no engine stands behind it; where one does, leave it to the person."""
        try:
            await asyncio.get_running_loop().run_in_executor(None, clear_damaged, self._paths)
        except ProfileLocked:
            if time.monotonic() < self._ends_by_s:
                return
            pid = self._unreachable = ProfileLock(self._paths.engine_lock).holder()
            who = f"An engine runs (process {pid})" if pid is not None else "An engine runs"
            advice = "End it, then start the engine."
            if self._can_signal():
                advice = "Stopped, it ends strategies and cancels their orders; positions stay."
            self._give_up(f"{who}, and cannot be reached: {damage.file} is damaged, which says where. {advice}")
        except KocError as error:
            self._give_up(f"{damage}. That could not be done for you: {error}")
        else:
            logger.info("{}: it was removed, as no engine runs", damage)

    def _was_ready(self, code: int) -> bool:
        """Whether the engine that ended had been in use: then it crashed, and did not fail to start."""
        return self._was_connected and (code < 0 or self._lost_s > self._started_s)

    def _start(self) -> None:
        now_s = time.monotonic()
        if len(self._starts) == STARTS and now_s - self._starts[0] < STARTS_WINDOW_S:
            self._give_up(
                f"The engine has ended {STARTS} times within {STARTS_WINDOW_S:g} s and is not started again by itself: "
                "its log says why. Every order is in its journal."
            )
            return
        self._starts.append(now_s)
        self._started_s, self._ends_by_s = now_s, 0.0
        logger.info("starting the engine")
        self._process = spawn_engine(self._paths)

    def _give_up(self, trouble: str) -> None:
        logger.warning("{}", trouble)
        self._trouble = trouble
        self.changed.emit()

    def _starting(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return False
        return not self._is_there or time.monotonic() - self._announced_s < QUIET_S  # then it hangs

    def _slow(self) -> bool:
        return time.monotonic() - self._started_s > QUIET_S * 2

    # ---- an engine of another version, or out of reach ---------------------------------------------------------------

    def _can_signal(self) -> bool:
        return sys.platform != "win32" and self._unreachable is not None

    def _start_anew(self) -> None:
        """Stop an engine that nobody can reach in order; ours is started once it has given the profile back."""
        try:
            clear_damaged(self._paths)  # it may have ended since, and its process id belong to another
        except ProfileLocked:
            pid = ProfileLock(self._paths.engine_lock).holder()
            if pid is not None and not self._tell_to_stop(pid):
                return
        except KocError as error:
            self._give_up(str(error))
            return
        self.start_engine()

    def _can_replace(self) -> bool:
        return self._address is None and sys.platform != "win32" and self._engine() is not None

    def _engine(self) -> EngineInfo | None:
        try:
            return engine_that_runs(self._paths)
        except LinkError:
            return None

    def _replace(self) -> None:
        """Stop an engine of another version in order, as Ctrl-C does; then ours is started."""
        info = self._engine()
        if info is None or self._tell_to_stop(info.pid):
            self.start_engine()

    def _tell_to_stop(self, pid: int) -> bool:
        """Stop a process as Ctrl-C does; False, and said, where that cannot be."""
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError as error:
            self._give_up(f"The engine (process {pid}) cannot be stopped: {error.strerror}")
            return False
        self._ends_by_s = time.monotonic() + STOP_TIMEOUT_S
        return True

    def _ends(self) -> bool:
        """Whether one that was told to stop still has the profile."""
        if time.monotonic() > self._ends_by_s:
            return False
        return ProfileLock(self._paths.engine_lock).holder() is not None
