"""Keeps runs of ``koc backtest`` in the history of runs that the window shows."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from koc_qt.domain.backtests import BY_COMMAND, BacktestSnapshot
from koc_qt.domain.errors import StorageError
from koc_qt.engine.backtest_archive import BacktestArchive
from koc_qt.engine.backtest_run import BacktestRun, StoredResult
from koc_qt.link.messages import BacktestHead


@dataclass
class Kept:
    """Runs that are over, in the order in which they ended; `reading` has their spec's fields on files, if any."""

    reading: dict[str, Any] = field(default_factory=dict)
    runs: list[tuple[BacktestSnapshot, StoredResult | None]] = field(default_factory=list)

    def take(self, run: BacktestRun) -> None:
        """Remember a run that is over."""
        self.runs.append((run.snapshot(), run.result))

    def write(self, folder: Path) -> None:
        """Write all of them down, and say as what; where that fails it is said, and nothing else suffers."""
        archive, names = BacktestArchive(folder), []
        try:
            for snapshot, result in self.runs:
                name = archive.claim()
                spec = msgspec.structs.replace(snapshot.spec, **self.reading)
                noted = msgspec.structs.replace(snapshot, backtest_id=name, spec=spec, made_by=BY_COMMAND)
                archive.keep(noted, None if result is None else self._on_files(result))
                names.append(name)
        except StorageError as error:
            print(f"Not kept in the history of runs: {error}", file=sys.stderr)
        if names:
            print(f"Kept in the history of runs: {', '.join(names)}", file=sys.stderr)

    def _on_files(self, result: StoredResult) -> StoredResult:
        if not self.reading:
            return result
        head = msgspec.msgpack.decode(result.head, type=BacktestHead)
        spec = msgspec.structs.replace(head.result.spec, **self.reading)
        made = msgspec.structs.replace(head, result=msgspec.structs.replace(head.result, spec=spec))
        return msgspec.structs.replace(result, head=msgspec.msgpack.encode(made))
