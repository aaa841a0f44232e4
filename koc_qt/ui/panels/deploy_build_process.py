"""The process that builds: its output read without ever waiting for it, its end asked for or forced, with its children.

Nothing is read ahead: who does not read makes the build wait, so that no flood of lines fills the window's memory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_PIECE = 1 << 16  # bytes that are read at a time
_MOST_NICE = 19
_NICENESS = 10  # more than the window's: an engine that trades goes first; what the build starts inherits it
_STOP = b"cancel\n"
_ORDERLY_S = 3.0  # that the end of the window waits for the end of a build
_FORCED_S = 2.0


class BuildProcess:
    """Starts the command in a session of its own, with little priority. Raises OSError where it cannot be started."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("QT_", "QML"))}
        flags = 0
        if sys.platform == "win32":
            flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
            flags |= subprocess.BELOW_NORMAL_PRIORITY_CLASS
        self._process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
            cwd=folder,
            env={**kept, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
            start_new_session=True,
            creationflags=flags,
        )
        assert self._process.stdin is not None  # noqa: S101 - for the type: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._streams = (self._process.stdin, self._process.stdout)
        self._output = self._process.stdout.fileno()
        if sys.platform != "win32":
            os.set_blocking(self._output, False)
            with contextlib.suppress(OSError):  # it may have ended already
                niceness = min(_MOST_NICE, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)
                os.setpriority(os.PRIO_PROCESS, self._process.pid, niceness)

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def code(self) -> int | None:
        """Give its exit code, negative for the signal that ended it; None while it runs."""
        return self._process.poll()

    def read(self) -> bytes | None:
        """Give what it wrote, no bytes at its output's end, and None where there is nothing now. Never waits."""
        try:
            most = _readable(self._output)
            return os.read(self._output, min(most, _PIECE)) if most else None
        except BlockingIOError:
            return None
        except OSError:  # on Windows, the other end is gone
            return b""

    def interrupt(self) -> None:
        """Ask it to end in order: as Ctrl-C does, and by a word where a program without a console has no signals."""
        if self.code() is None:
            with contextlib.suppress(OSError, ValueError):
                self._streams[0].write(_STOP)
            if sys.platform != "win32":
                self._process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        """End it and all that it started, now."""
        if self.code() is not None:
            return
        if sys.platform == "win32":
            taskkill = ["taskkill", "/T", "/F", "/PID", str(self.pid)]
            with contextlib.suppress(OSError), subprocess.Popen(taskkill, creationflags=subprocess.CREATE_NO_WINDOW):
                pass
        else:
            for pid in (*_descendants(self.pid), self.pid):
                for end in (os.killpg, os.kill):  # a group is led by whoever has its number; others are not
                    with contextlib.suppress(OSError):
                        end(pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of its output, which nobody reads any more."""
        for stream in self._streams:
            with contextlib.suppress(OSError):
                stream.close()

    def end(self) -> None:
        """End it before this returns: in order if that is quick, else by force."""
        self.interrupt()
        self.close()
        for bound_s in (_ORDERLY_S, _FORCED_S):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(bound_s)
                return
            self.kill()


def _readable(descriptor: int) -> int:
    """Give how many bytes can be read without waiting: on Windows, where reading would wait, asked for first."""
    if sys.platform == "win32":
        import ctypes
        import msvcrt

        count = ctypes.c_ulong()
        handle = ctypes.c_void_p(msvcrt.get_osfhandle(descriptor))
        if not ctypes.windll.kernel32.PeekNamedPipe(handle, None, 0, None, ctypes.byref(count), None):
            raise OSError("the pipe has ended")
        return count.value
    return _PIECE


def _descendants(pid: int) -> list[int]:
    """List the processes that come from one, on Linux: some lead sessions of their own, which no group reaches."""
    found, waiting = [], [pid]
    while waiting:
        for task in _children_files(waiting.pop()):
            with contextlib.suppress(OSError, ValueError):
                children = [int(word) for word in task.read_bytes().split()]
                found += children
                waiting += children
    return found


def _children_files(pid: int) -> list[Path]:
    try:
        return [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
    except OSError:
        return []
