"""CPU and memory of processes, by psutil."""

from __future__ import annotations

import psutil

from koc_qt.ports.processes import ProcessUse


class PsutilMeter:
    """Implements ports/processes.py."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def sample(self, pid: int) -> ProcessUse | None:
        """Measure a process; None when it is gone or may not be read."""
        try:
            process = self._processes.get(pid)
            if process is None:
                process = self._processes[pid] = psutil.Process(pid)
            with process.oneshot():
                return ProcessUse(process.cpu_percent(None), process.memory_info().rss)
        except psutil.Error:
            self._processes.pop(pid, None)
            return None
