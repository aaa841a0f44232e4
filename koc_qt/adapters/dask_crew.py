"""A Dask cluster as a crew: combinations are evaluated beside its workers (koc_qt/adapters/dask_worker.py).

What every process needs (the strategy's source, the machine code, all bars) is shipped once a worker, to those that are
there and to those that join later: a worker that its nanny started anew is one of these. A worker that is lost is left
out from then on, and so is one that has another version of this program, or none.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from distributed import Client
from loguru import logger

from koc_qt.adapters import dask_worker
from koc_qt.adapters.dask_worker import Answer, Setup
from koc_qt.domain.errors import KocError, StrategyError
from koc_qt.ports.studies import PlaceLost, RunnerLost, Told, TrialRunner
from koc_qt.sdk.channel import StartSweep
from koc_qt.sdk.sweep_messages import EvaluateTrials, TrialAsked
from koc_qt.version import __version__

CONNECT_TIMEOUT_S = 10.0
LOOK_S = 2.0  # how often it is looked which workers there are
BATCH_S = 1.0
SHIP_TIMEOUT_S = 300.0


class DaskCrew:
    """Implements ports/studies.py Crew. Dask's client runs in threads of its own, whatever loop this one is on."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Client | None = None
        self._study = uuid.uuid4().hex
        self._present: dict[str, int] = {}  # workers that are there, with their threads
        self._places: deque[tuple[str, int]] = deque()  # that nobody uses: a worker, and one of its threads
        self._shipped: dict[str, Any] = {}  # the setup by worker, as Dask's future
        self._useless: dict[str, str] = {}  # why, by worker
        self._suspected: set[str] = set()  # workers that failed since it was looked which there are
        self._asked: set[tuple[str, asyncio.Event]] = set()  # who waits for a worker's answer
        self._more = 0  # places that nobody was told of
        self._joined = asyncio.Event()
        self._looked = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def muster(self, start: StartSweep, bars: Callable[[], Awaitable[bytes]]) -> int:
        """Connect, ship what is needed, and give how many can be hired. Raises StrategyError."""
        try:
            await asyncio.to_thread(_knock, self._address)
            self._client = await asyncio.to_thread(
                Client, self._address, timeout=CONNECT_TIMEOUT_S, set_as_default=False
            )
        except (OSError, ValueError, TypeError) as error:
            raise StrategyError(f"no Dask scheduler answers at {self._address}: {error}") from error
        self._present = await asyncio.to_thread(self._look)
        if not self._present:
            raise StrategyError(f"the Dask scheduler at {self._address} has no workers: start some, then resume")
        count = await self._take_in(start, bars)
        if not count:
            why = "; ".join(f"{address} {reason}" for address, reason in self._useless.items())
            raise StrategyError(f"no worker of the Dask cluster at {self._address} can be used: {why}")
        self._tasks = [asyncio.create_task(self._watch()), asyncio.create_task(self._grow(start, bars))]
        return count

    async def joined(self) -> int:
        """Wait for workers that join the cluster, and give how many more can be hired."""
        await self._joined.wait()
        self._joined.clear()
        more, self._more = self._more, 0
        return more

    async def hire(self) -> TrialRunner | None:
        """Give a free place on a worker that is still there; None without one."""
        for _ in range(len(self._places)):
            address, slot = self._places.popleft()
            if address in self._present and address not in self._suspected:
                return _DaskRunner(self, address, slot)
            if address in self._present:
                self._places.append((address, slot))
        return None

    async def close(self) -> None:
        """End all processes of the study, and the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        client, self._client = self._client, None
        if client is None:
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.to_thread(client.run, dask_worker.release, self._study, on_error="ignore")
        except Exception as error:
            # Dask says in errors of many kinds that a cluster is gone, and one that is has ended its processes itself;
            # others end when nobody asks them anything. What was found is safe, and must not be lost to this.
            logger.debug("the Dask cluster at {} did not answer at the end: {!r}", self._address, error)
        self._shipped.clear()
        await asyncio.to_thread(client.close, CONNECT_TIMEOUT_S)

    def leave(self, address: str, slot: int) -> None:
        """Let a place be free."""
        self._places.append((address, slot))

    async def evaluate(self, address: str, slot: int, batch: bytes) -> Answer:
        """Evaluate a batch at a place. Raises RunnerLost, and PlaceLost where the whole worker is gone."""
        loop, client = asyncio.get_running_loop(), self._client
        if client is None or address not in self._present:
            raise PlaceLost(f"Dask's worker {address} was lost")
        told = asyncio.Event()  # that there is an answer, or that there will be none
        waiting = (address, told)
        future: Any = client.submit(
            dask_worker.evaluate,
            self._study,
            slot,
            self._shipped[address],
            batch,
            workers=[address],
            allow_other_workers=False,
            pure=False,
        )
        self._asked.add(waiting)
        future.add_done_callback(lambda _: _tell(loop, told))
        try:
            await told.wait()
            if not future.done():
                raise PlaceLost(f"Dask's worker {address} was lost")
            answer = await asyncio.to_thread(future.result, CONNECT_TIMEOUT_S)
        except PlaceLost:
            raise
        except Exception as error:  # whatever a cluster that falls apart comes up with
            self._suspected.add(address)
            is_there = address in await asyncio.to_thread(self._look)
            what = f"Dask's worker {address} {'failed' if is_there else 'was lost'} ({type(error).__name__}: {error})"
            raise RunnerLost(what) if is_there else PlaceLost(what) from error
        finally:
            self._asked.discard(waiting)
            future.release()
        return msgspec.msgpack.decode(answer, type=Answer)

    # ---- which workers there are

    async def _watch(self) -> None:
        """Notice which workers there are, and tell those who wait for one that is gone."""
        while True:
            await asyncio.sleep(LOOK_S)
            self._present = await asyncio.to_thread(self._look)
            for address, told in self._asked:
                if address not in self._present:
                    told.set()
            for gone in (self._shipped.keys() | self._useless.keys()) - self._present.keys():
                self._shipped.pop(gone, None)
                self._useless.pop(gone, None)
            cleared, self._suspected = self._suspected & self._present.keys(), set()
            self._tell_of(sum(address in cleared for address, _ in self._places))
            self._looked.set()

    def _tell_of(self, more: int) -> None:
        if more:
            self._more += more
            self._joined.set()

    async def _grow(self, start: StartSweep, bars: Callable[[], Awaitable[bytes]]) -> None:
        """Take in workers that join, beside the look-out: shipping takes as long as the network does."""
        while True:
            await self._looked.wait()
            self._looked.clear()
            try:
                self._tell_of(await self._take_in(start, bars))
            except KocError as error:
                logger.warning("workers that joined the Dask cluster cannot be used: {}", error)
                return

    async def _take_in(self, start: StartSweep, bars: Callable[[], Awaitable[bytes]]) -> int:
        """Ship what is needed to the workers that have not got it; gives how many more can be hired."""
        new = [each for each in self._present if each not in self._shipped and each not in self._useless]
        if not new:
            return 0
        setup = msgspec.msgpack.encode(Setup(start, await bars()))
        count = 0
        for address in new:
            threads = self._present.get(address, 0)
            why = await asyncio.to_thread(self._ship, address, setup)
            if why:
                logger.warning("Dask's worker {} is not used: it {}", address, why)
                self._useless[address] = why
                continue
            self._places += [(address, slot) for slot in range(threads)]
            count += threads
        return count

    def _ship(self, address: str, setup: bytes) -> str:
        """Ship the setup to a worker; gives why that is not possible, else nothing."""
        client = self._client
        if client is None:
            return "came too late"
        try:
            [version] = client.run(dask_worker.version, workers=[address], on_error="return").values()
            if version != __version__:
                return _why(version)
            shipped = client.scatter(  # type: ignore[no-untyped-call]
                setup, workers=[address], hash=False, timeout=SHIP_TIMEOUT_S
            )
            self._shipped[address] = shipped
        except Exception as error:  # as in evaluate: one that was lost meanwhile is no reason to stop
            return f"was lost ({type(error).__name__}: {error})"
        return ""

    def _look(self) -> dict[str, int]:
        """Give the cluster's workers with their threads; none where the scheduler is gone."""
        if self._client is None:
            return {}
        try:
            known = self._client.scheduler_info(n_workers=-1)["workers"]
        except Exception as error:  # it says in many ways that it is gone
            logger.debug("the Dask scheduler at {} does not answer: {!r}", self._address, error)
            return {}
        return {address: int(about["nthreads"]) for address, about in known.items()}


class _DaskRunner:
    """Implements ports/studies.py TrialRunner at one place of a cluster."""

    batch_s = BATCH_S

    def __init__(self, crew: DaskCrew, address: str, slot: int) -> None:
        self._crew, self._address, self._slot = crew, address, slot

    async def evaluate(self, trials: Sequence[TrialAsked], floors: Sequence[float], told: Told) -> None:
        """Evaluate combinations; what comes is told at the end."""
        batch = msgspec.msgpack.encode(EvaluateTrials(list(trials), list(floors)))
        answer = await self._crew.evaluate(self._address, self._slot, batch)
        if answer.refused:
            raise StrategyError(answer.refused)
        told(answer.trials)
        if answer.lost:
            raise RunnerLost(answer.lost)

    async def close(self) -> None:
        """Leave the place to the next."""
        self._crew.leave(self._address, self._slot)


def _why(version: object) -> str:
    """Say what is wrong with what a worker has; an error where it could not even be asked."""
    if isinstance(version, str):
        return f"has version {version} of this program, and this is {__version__}: install that there"
    return f"has not got this program ({type(version).__name__}: {version}): install version {__version__} there"


def _knock(address: str) -> None:
    """Raise OSError, ValueError at once for an address where nobody is; Dask's client would go on trying."""
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    if parts.scheme in ("tcp", "tls"):
        if not parts.hostname or not parts.port:
            raise ValueError("write it as tcp://HOST:PORT")
        socket.create_connection((parts.hostname, parts.port), CONNECT_TIMEOUT_S).close()


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is gone: nobody is left to be told
        loop.call_soon_threadsafe(done.set)
