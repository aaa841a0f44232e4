"""History that clients have fetched into the store, in the background."""

from __future__ import annotations

import asyncio
import itertools
from functools import partial
from typing import Any

import msgspec
from loguru import logger

from koc_qt.domain.errors import InvalidOrder, KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import DownloadSnapshot, JobState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.engine.bus import Bus
from koc_qt.engine.history import HistoryService
from koc_qt.engine.market_data import MarketData
from koc_qt.engine.store import Store
from koc_qt.link.messages import DownloadChanged
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.ports.clock import Clock

AT_ONCE = 4  # more wait for their turn
UNDER_WAY_LIMIT = 32  # with those that wait; more are refused
FINISHED_KEPT = 50
BARS_LIMIT = 50_000_000  # of one download: a typing mistake in a year must not keep the venue busy for days
SHOWN_EVERY_S = 0.2
STOP_TIMEOUT_S = 10.0  # for what was fetched to be written
WAITING = "waits for other downloads to end"


class Downloads:
    """Sole owner of downloads; all methods run on the engine's loop."""

    def __init__(self, store: Store, bus: Bus, clock: Clock, market_data: MarketData, history: HistoryService) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._market_data = market_data
        self._history = history
        self._numbers = itertools.count(1)
        self._free = asyncio.Semaphore(AT_ONCE)
        self._snapshots: dict[str, DownloadSnapshot] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._pauses: dict[str, asyncio.TimerHandle] = {}  # until a download may be shown again
        self._unshown: set[str] = set()
        self._is_closed = False

    @property
    def all(self) -> tuple[DownloadSnapshot, ...]:
        """Those under way, and the newest that have ended; oldest first."""
        return tuple(self._snapshots.values())

    async def start(self, instrument: InstrumentId, timeframe: str, since_ns: int, until_ns: int) -> str:
        """Begin to fetch what the store lacks of since <= t < until, and give the download's id.

        Raises InvalidOrder on an unknown symbol, an empty or endless span, and when too many are under way;
        BadTimeframe, VenueUnavailable, VenueRejected.
        """
        series = BarSeries(instrument, timeframe)
        if since_ns >= until_ns:
            raise InvalidOrder("a download must end after it begins: choose another range")
        bars = (until_ns - since_ns) // duration_ns(timeframe)
        if bars > BARS_LIMIT:
            raise InvalidOrder(
                f"{bars:,} bars of {timeframe} are more than one download may have ({BARS_LIMIT:,}): "
                "choose a shorter range, or longer bars"
            )
        await self._market_data.wait_ready(instrument.venue)
        if self._store.instrument(instrument) is None:
            raise InvalidOrder(f"{instrument.venue} has no symbol {instrument.symbol!r}")
        self._history.source(series)  # raises where the venue cannot give such bars
        if self._is_closed:
            raise InvalidOrder("the engine is stopping")
        if len(self._tasks) >= UNDER_WAY_LIMIT:
            raise InvalidOrder(f"{UNDER_WAY_LIMIT} downloads are under way already: stop one, or wait for one to end")
        key = f"download-{next(self._numbers)}"
        self._snapshots[key] = DownloadSnapshot(
            download_id=key,
            instrument=instrument,
            timeframe=timeframe,
            since_ns=since_ns,
            until_ns=until_ns,
            state=JobState.RUNNING,
            reason="",
            progress=0.0,
            bars=0,
            time_ns=self._clock.time_ns(),
        )
        self._show(key)
        task = self._tasks[key] = asyncio.create_task(self._run(key, series, Span(since_ns, until_ns)), name=key)
        task.add_done_callback(partial(self._landed, key))
        return key

    async def stop(self, download_id: str) -> None:
        """Stop a download and wait until what it fetched is kept; one that has ended stays as it is.

        Raises InvalidOrder on an unknown one.
        """
        if download_id not in self._snapshots:
            raise InvalidOrder(f"there is no download {download_id!r}: it may have ended long ago")
        task = self._tasks.get(download_id)
        if task is not None:
            self._change(download_id, reason="is being stopped")
            task.cancel()
            await asyncio.wait({task}, timeout=STOP_TIMEOUT_S)

    async def close(self) -> None:
        """Stop all; what was fetched is kept."""
        self._is_closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()

    async def _run(self, key: str, series: BarSeries, span: Span) -> None:
        if self._free.locked():
            self._change(key, reason=WAITING)
        async with self._free:
            self._change(key, reason="")
            await self._history.fill(series, span, partial(self._progressed, key))

    def _progressed(self, key: str, progress: float, bars: int) -> None:
        self._change(key, progress=progress, bars=bars)

    def _landed(self, key: str, task: asyncio.Task[None]) -> None:
        """Show how it ended; also of one that was stopped before it began."""
        del self._tasks[key]
        state, reason = JobState.DONE, ""
        if task.cancelled():
            state = JobState.STOPPED
        elif (error := task.exception()) is not None:
            state, reason = JobState.FAILED, str(error)
            if not isinstance(error, KocError):
                logger.opt(exception=error).error("{} failed in a way nobody foresaw: {}", key, error)
                reason = f"an error in K.O.C. itself, the log says more: {type(error).__name__}"
        self._snapshots[key] = self._snapshots.pop(key)  # to the end, where the newest are
        if (pause := self._pauses.pop(key, None)) is not None:
            pause.cancel()
        self._change(key, state=state, reason=reason)
        ended = self._snapshots[key]
        outcome = reason or f"{state}, {ended.bars:,} bars fetched"
        logger.info("{} of {} {}: {}", key, ended.instrument, ended.timeframe, outcome)
        finished = [other for other, one in self._snapshots.items() if one.state is not JobState.RUNNING]
        for old in finished[:-FINISHED_KEPT]:
            del self._snapshots[old]

    def _change(self, key: str, **changes: Any) -> None:
        before = self._snapshots[key]
        changed = msgspec.structs.replace(before, **changes)
        if changed != before:
            self._snapshots[key] = msgspec.structs.replace(changed, time_ns=self._clock.time_ns())
            self._show(key)

    def _show(self, key: str) -> None:
        """Publish a download at once, or, where it was published just now, soon."""
        if key in self._pauses:
            self._unshown.add(key)
            return
        self._unshown.discard(key)
        snapshot = self._snapshots[key]
        if snapshot.state is JobState.RUNNING:  # nothing comes after an end
            self._pauses[key] = asyncio.get_running_loop().call_later(SHOWN_EVERY_S, self._may_show, key)
        self._bus.publish(DownloadChanged(snapshot))

    def _may_show(self, key: str) -> None:
        del self._pauses[key]
        if key in self._unshown:
            self._show(key)
