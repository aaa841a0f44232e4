"""The hash of the bars that a run is given: the same bars have the same one, whichever engine or study reads them."""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections.abc import Mapping, Sequence

import msgspec

COLUMNS = {"row": "q", "open_time_ns": "q", "open": "d", "high": "d", "low": "d", "close": "d", "volume": "d"}
"""The columns of a message of bars, with the kind of array that each is."""


class DataHash:
    """SHA-256 over all bars of a run, in the order in which they are given."""

    def __init__(self, instruments: Sequence[str], timeframe: str) -> None:
        self._instruments, self._timeframe = list(instruments), timeframe
        self._hashes = {name: hashlib.sha256() for name in COLUMNS}
        self._warmup_bars = 0

    def take(self, columns: Mapping[str, array[int] | array[float]], *, warmup: bool) -> None:
        """Count bars in: COLUMNS by name, all of one length; `warmup` says that they are from before the run."""
        for name, running in self._hashes.items():
            running.update(little_endian(columns[name]))
        if warmup:
            self._warmup_bars += len(columns["row"])

    def hexdigest(self) -> str:
        """Give it, over what was taken so far."""
        parts = {
            "instruments": self._instruments,
            "timeframe": self._timeframe,
            "warmup_bars": self._warmup_bars,
            **{name: running.hexdigest() for name, running in self._hashes.items()},
        }
        return hash_of(parts)


def hash_of(value: object) -> str:
    """Give the SHA-256 of anything that can be written as JSON, in hexadecimal."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def little_endian(column: array[int] | array[float]) -> bytes:
    """Give the bytes of a column, the same on every machine."""
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return column.tobytes()
