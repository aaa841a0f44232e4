"""A recording played again, in its own rhythm or faster, once or round and round."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from enum import StrEnum

from tests.wire.market import Market
from tests.wire.recording import Frame, Recording

_LAP_GAP_NS = 100_000_000
_IDS = {"trade": ("t",), "bookTicker": ("u",), "depth@100ms": ("U", "u")}


class AtEnd(StrEnum):
    """What happens after the last frame: silence, or the first again as if it came later."""

    HOLD = "hold"
    LOOP = "loop"


class Replay:
    """Plays a recording once `start` is called; `market` is what the venue knows at the present moment.

    `shift_ns` moves every time of the recording. While nothing was started the present stands still.
    """

    def __init__(
        self,
        recording: Recording,
        deliver: Callable[[Frame], None],
        *,
        speed: float = 1.0,
        at_end: AtEnd = AtEnd.HOLD,
        shift_ns: int = 0,
    ) -> None:
        if speed <= 0:
            raise ValueError(f"speed is a factor above zero, not {speed}")
        self.recording = recording
        self.market = Market(recording.symbol, recording.snapshot)
        self.sent = 0
        self.ended = asyncio.Event()
        self._deliver = deliver
        self._speed = speed
        self._at_end = at_end
        self._base_shift_ns = shift_ns
        self._ahead_ns = recording.venue_ahead_ns
        self._lap = 0
        self._position = 0  # of the next frame
        self._at_ns = recording.first_ns  # recorder's time of the present moment when it was anchored
        self._anchor_ns: int | None = None  # monotonic time of then; None while it stands still
        self._task: asyncio.Task[None] | None = None
        trades, depth = recording.of_kind("trade"), recording.of_kind("depth@100ms")
        self._trade_ids = trades[-1].data["t"] - trades[0].data["t"] + 1 if trades else 0
        first_update = recording.snapshot["lastUpdateId"]
        newest = [frame.data["u"] for frame in recording.frames if "u" in frame.data]
        self._update_ids = max([first_update, *newest]) - first_update + 1
        self._depth = depth

    @property
    def _shift_ns(self) -> int:
        return self._base_shift_ns + self._lap * (self.recording.duration_ns + _LAP_GAP_NS)

    @property
    def now_ns(self) -> int:
        """The venue's clock, UTC nanoseconds of the recording's time (shifted)."""
        played_ns = 0 if self._anchor_ns is None else round((time.monotonic_ns() - self._anchor_ns) * self._speed)
        at_ns = self._at_ns + played_ns
        if self.ended.is_set():
            at_ns = max(at_ns, self.recording.frames[-1].received_ns)
        return at_ns + self._shift_ns + self._ahead_ns

    @property
    def now_ms(self) -> int:
        """The venue's clock in milliseconds."""
        return self.now_ns // 1_000_000

    def fast_forward(self, seconds: float) -> None:
        """Begin so many seconds into the recording: nobody hears of what was before, but REST knows it."""
        frames, end_ns = self.recording.frames, self.recording.first_ns + round(seconds * 1e9)
        while self._position < len(frames) and frames[self._position].received_ns < end_ns:
            self.market.apply(self._shifted(frames[self._position]))
            self._position += 1
        self._at_ns = end_ns

    def start(self) -> None:
        """Let time run. Calling it again does nothing."""
        if self._task is None:
            self._anchor_ns = time.monotonic_ns()
            self._task = asyncio.create_task(self._run(), name="replay")

    async def stop(self) -> None:
        """End it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await self._play_on()
            if self._at_end is AtEnd.HOLD:
                self.ended.set()
                return
            self._turn()

    async def _play_on(self) -> None:
        frames = self.recording.frames
        while self._position < len(frames):
            due_ns = frames[self._position].received_ns + self._shift_ns + self._ahead_ns
            wait_s = (due_ns - self.now_ns) / 1e9 / self._speed
            await asyncio.sleep(max(wait_s, 0.0))
            # All that is due goes out at once: at high speed a sleep for each would be the limit.
            now_ns = self.now_ns - self._shift_ns - self._ahead_ns
            for _ in range(200):
                if self._position >= len(frames) or frames[self._position].received_ns > now_ns:
                    break
                self._send(self._shifted(frames[self._position]))
                self._position += 1

    def _turn(self) -> None:
        """Begin the next lap: times and ids go on, and one depth event leads the book back to where it began."""
        snapshot = self.recording.snapshot
        self._lap += 1
        self._position = 0
        self._at_ns, self._anchor_ns = self.recording.first_ns - _LAP_GAP_NS, time.monotonic_ns()
        beginning = {**snapshot, "lastUpdateId": snapshot["lastUpdateId"] + self._lap * self._update_ids}
        event = self.market.depth_event_to(beginning, self.now_ms)
        self._send(Frame(self.now_ns, f"{self.recording.symbol.lower()}@depth@100ms", event))

    def _shifted(self, frame: Frame) -> Frame:
        if not self._shift_ns:
            return frame
        data = dict(frame.data)
        for field in ("E", "T"):
            if field in data:
                data[field] += self._shift_ns // 1_000_000
        for field in _IDS.get(frame.kind, ()):
            data[field] += self._lap * (self._trade_ids if field == "t" else self._update_ids)
        return replace(frame, received_ns=frame.received_ns + self._shift_ns, data=data)

    def _send(self, frame: Frame) -> None:
        self.market.apply(frame)
        self.sent += 1
        self._deliver(frame)
