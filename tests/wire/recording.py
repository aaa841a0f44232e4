"""Recorded frames of one Binance connection: `<local receive time, ns> <JSON>` a line, gzipped.

Streams are `<symbol>@trade`, `@bookTicker` and `@depth@100ms`, wrapped as in a combined stream; one line is the answer
of GET /api/v3/depth, from which the depth events go on.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

RECORDED = (
    Path(__file__).parents[2] / "../shared/market_data/binance_BTCUSDT_ws_frames_2024-08-08.gz"
)  # beside the project


@dataclass(frozen=True)
class Frame:
    """One message: when it was received, its stream (such as ``btcusdt@trade``) and its payload."""

    received_ns: int
    stream: str
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        """The stream without its symbol, such as ``trade`` or ``depth@100ms``."""
        return self.stream.partition("@")[2]


@dataclass(frozen=True)
class Recording:
    """Frames in order of receipt, and the order book before the first of them.

    The depth events connect to the snapshot without gap or overlap, and all times are within the frames' span.
    """

    symbol: str
    snapshot: dict[str, Any]
    frames: tuple[Frame, ...]

    @property
    def first_ns(self) -> int:
        """Local time of the first frame."""
        return self.frames[0].received_ns

    @property
    def duration_ns(self) -> int:
        """From the first frame to the last."""
        return self.frames[-1].received_ns - self.first_ns

    @cached_property
    def venue_ahead_ns(self) -> int:
        """How far the venue's clock is ahead of the recorder's, so that no event comes before it happened."""
        return max(int(f.data["E"]) * 1_000_000 - f.received_ns for f in self.frames if "E" in f.data)

    @cached_property
    def _by_kind(self) -> dict[str, list[Frame]]:
        found: dict[str, list[Frame]] = {}
        for frame in self.frames:
            found.setdefault(frame.kind, []).append(frame)
        return found

    def of_kind(self, kind: str) -> list[Frame]:
        """Give the frames of one kind, such as ``trade``."""
        return list(self._by_kind.get(kind, ()))

    def until(self, seconds: float) -> Recording:
        """Give the first seconds of it."""
        end_ns = self.first_ns + round(seconds * 1e9)
        return Recording(self.symbol, self.snapshot, tuple(f for f in self.frames if f.received_ns < end_ns))


def parse(lines: Iterable[str]) -> Recording:
    """Read lines of `<ns> <JSON>`. Raises ValueError where there is no snapshot or nothing to replay."""
    frames: list[Frame] = []
    snapshot: dict[str, Any] | None = None
    for line in lines:
        received, _, text = line.partition(" ")
        message = json.loads(text)
        if "stream" in message:
            frames.append(Frame(int(received), message["stream"], message["data"]))
        elif snapshot is None:
            snapshot = message
    if snapshot is None or not frames:
        raise ValueError(
            "a recording needs frames and the answer of GET /api/v3/depth that its depth events go on from"
        )
    return Recording(frames[0].data["s"], snapshot, tuple(_joined(frames, snapshot["lastUpdateId"])))


def _joined(frames: Iterable[Frame], last_id: int) -> Iterator[Frame]:
    """Leave out the depth events that the snapshot has already; the first of the others begins right after it."""
    joined = False
    for frame in frames:
        if frame.kind != "depth@100ms" or joined:
            yield frame
        elif frame.data["u"] > last_id:
            joined = True
            yield Frame(frame.received_ns, frame.stream, {**frame.data, "U": last_id + 1})


def load(path: Path) -> Recording:
    """Read a gzipped recording. Raises OSError, ValueError."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return parse(lines)
