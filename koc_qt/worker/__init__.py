"""The child process that runs one strategy file which nobody has to trust."""

from koc_qt.worker.loop import run

__all__ = ["run"]
