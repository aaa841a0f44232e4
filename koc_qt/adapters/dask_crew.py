"""A Dask cluster as a crew: combinations are evaluated beside its workers (koc_qt/adapters/dask_worker.py).

What every process needs (the strategy's source, the machine code, all bars) is shipped once a worker. A worker that is
lost is left out from then on; those that join later are not used by a study that runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import uuid
from collections import deque
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import msgspec
from distributed import Client

from koc_qt.adapters import dask_worker
from koc_qt.adapters.dask_worker import Answer, Setup
from koc_qt.domain.errors import StrategyError
from koc_qt.ports.studies import RunnerLost, Told, TrialRunner
from koc_qt.sdk.channel import StartSweep
from koc_qt.sdk.sweep_messages import EvaluateTrials, TrialAsked

CONNECT_TIMEOUT_S = 10.0
LOOK_S = 2.0  # how often a worker that has work is looked for
BATCH_S = 1.0
SHIP_TIMEOUT_S = 300.0


class DaskCrew:
    """Implements ports/studies.py Crew. Dask's client runs in threads of its own, whatever loop this one is on."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Client | None = None
        self._study = uuid.uuid4().hex
        self._places: deque[tuple[str, int]] = deque()  # that nobody uses: a worker, and one of its threads
        self._shipped: dict[str, Any] = {}  # the setup by worker, as Dask's future

    async def muster(self, start: StartSweep, bars: bytes) -> int:
        """Connect, ship what is needed, and give how many can be hired. Raises StrategyError."""
        try:
            await asyncio.to_thread(_knock, self._address)
            self._client = client = await asyncio.to_thread(
                Client, self._address, timeout=CONNECT_TIMEOUT_S, set_as_default=False
            )
        except (OSError, ValueError, TypeError) as error:
            raise StrategyError(f"no Dask scheduler answers at {self._address}: {error}") from error
        workers = await asyncio.to_thread(self._workers)
        if not workers:
            raise StrategyError(f"the Dask scheduler at {self._address} has no workers: start some, then resume")
        setup = msgspec.msgpack.encode(Setup(start, bars))
        for address, threads in workers.items():
            self._shipped[address] = await asyncio.to_thread(
                client.scatter, setup, workers=[address], hash=False, timeout=SHIP_TIMEOUT_S
            )
            self._places += [(address, slot) for slot in range(threads)]
        return len(self._places)

    async def hire(self) -> TrialRunner | None:
        """Give a free place on a worker that is still there; None without one."""
        workers = await asyncio.to_thread(self._workers)
        while self._places:
            address, slot = self._places.popleft()
            if address in workers:
                return _DaskRunner(self, address, slot)
        return None

    async def close(self) -> None:
        """End all processes of the study, and the connection."""
        client, self._client = self._client, None
        if client is None:
            return
        with contextlib.suppress(Exception):  # a cluster that is gone has ended its processes itself
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.to_thread(client.run, dask_worker.release, self._study, on_error="ignore")
        self._shipped.clear()
        await asyncio.to_thread(client.close, CONNECT_TIMEOUT_S)

    def leave(self, address: str, slot: int) -> None:
        """Let a place be free."""
        self._places.append((address, slot))

    async def evaluate(self, address: str, slot: int, batch: bytes) -> Answer:
        """Evaluate a batch at a place. Raises RunnerLost."""
        loop, client = asyncio.get_running_loop(), self._client
        if client is None:
            raise RunnerLost("the connection to the cluster is closed")
        done = asyncio.Event()
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
        future.add_done_callback(lambda _: _tell(loop, done))
        try:
            while not done.is_set():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await done.wait()
                if not done.is_set() and address not in await asyncio.to_thread(self._workers):
                    raise RunnerLost(f"Dask's worker {address} was lost")
            answer = await asyncio.to_thread(future.result, CONNECT_TIMEOUT_S)
        except RunnerLost:
            raise
        except Exception as error:  # whatever a cluster that falls apart comes up with
            raise RunnerLost(f"Dask's worker {address} was lost ({type(error).__name__}: {error})") from error
        finally:
            future.release()
        return msgspec.msgpack.decode(answer, type=Answer)

    def _workers(self) -> dict[str, int]:
        """Give the cluster's workers with their threads; none where the scheduler is gone."""
        if self._client is None:
            return {}
        try:
            known = self._client.scheduler_info(n_workers=-1)["workers"]
        except Exception:  # it says in many ways that it is gone
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
