"""How an engine is found: a file in the profile that says where it listens, and a lock that makes it the only one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType

import msgspec
import psutil
from filelock import FileLock, Timeout

from koc_qt.domain.errors import LinkError, ProfileLocked, StorageError
from koc_qt.link.private_files import read_private, write_private

# A clock that was set, or a boot time that was estimated anew, may put a process's start this much after its own word.
_CLOCK_SLACK_S = 60.0


class EngineInfo(msgspec.Struct, frozen=True):
    """A running engine: endpoints of link and telemetry, its public key (Z85), `started_ns` in UTC nanoseconds."""

    pid: int
    version: str
    protocol: int
    link: str
    telemetry: str
    server_key: str
    started_ns: int


class NoEngineError(LinkError):
    """No engine runs on this profile."""


class DamagedInfoError(LinkError):
    """The file that says where the engine is cannot be understood; whether one runs, its lock alone tells."""

    def __init__(self, file: Path, error: Exception) -> None:
        super().__init__(f"{file} is damaged ({error}): delete it and start the engine again")
        self.file = file


def write_engine_info(run_folder: Path, info: EngineInfo) -> None:
    """Say that the engine can be reached. Raises LinkError."""
    write_private(_info_file(run_folder), msgspec.json.format(msgspec.json.encode(info), indent=2))


def remove_engine_info(run_folder: Path) -> None:
    """Say that the engine can be reached no more; nothing happens where there is no file. Raises LinkError."""
    try:
        _info_file(run_folder).unlink(missing_ok=True)
    except OSError as error:
        raise LinkError(f"{_info_file(run_folder)} cannot be removed: {error.strerror}") from error


def running_engine(run_folder: Path) -> EngineInfo:
    """Give the engine that runs on this profile.

    Raises NoEngineError when there is none (a file that a killed engine left behind counts for nothing),
    DamagedInfoError when the file is damaged, and another LinkError when it can be reached by other users.
    """
    path = _info_file(run_folder)
    try:
        info = msgspec.json.decode(read_private(path), type=EngineInfo)
    except FileNotFoundError as error:
        raise NoEngineError("no engine runs on this profile: start one with `koc engine`") from error
    except (msgspec.DecodeError, ValueError) as error:
        raise DamagedInfoError(path, error) from error
    if not _is_alive(info.pid, info.started_ns):
        raise NoEngineError(
            f"no engine runs on this profile: the last one (pid {info.pid}) ended without saying so; "
            "start one with `koc engine`"
        )
    return info


def process_runs(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not waited for does not."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _is_alive(pid: int, started_ns: int) -> bool:
    if not process_runs(pid):
        return False
    try:
        # A pid that was given to another process since: that one is younger than the engine said it was.
        return bool(psutil.Process(pid).create_time() <= started_ns / 1e9 + _CLOCK_SLACK_S)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def _info_file(run_folder: Path) -> Path:
    return run_folder / "engine.json"


class ProfileLock:
    """Makes this process the only engine of a profile, until it is released or the process ends, however that comes.

    `path` is the lock's file; beside it a `.pid` file says who holds it.
    """

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
        self._pid_file = path.with_suffix(".pid")

    def acquire(self) -> None:
        """Take the profile. Raises ProfileLocked, naming the process that has it, and StorageError on a bad folder."""
        try:
            self._lock.acquire()
        except Timeout as error:
            pid = self.holder()
            who = "another engine" if pid is None else f"another engine (pid {pid})"
            raise ProfileLocked(
                f"{who} already runs on the profile in {self._pid_file.parent}: "
                "stop it with `koc stop`, or choose another profile with KOC_HOME"
            ) from error
        except OSError as error:
            raise StorageError(f"the profile cannot be locked: {self._lock.lock_file}: {error.strerror}") from error
        try:
            write_private(self._pid_file, b"%d\n" % os.getpid())
        except BaseException:
            self._lock.release()
            raise

    def release(self) -> None:
        """Let go of the profile. Safe to call twice."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                self._pid_file.unlink(missing_ok=True)
            self._lock.release()

    def holder(self) -> int | None:
        """Give the process that has said last that it has the profile, None where it has ended or not said so."""
        try:
            pid = int(read_private(self._pid_file, limit=32))
        except (OSError, ValueError, LinkError):
            return None  # it has only just begun, or is about to end
        return pid if process_runs(pid) else None

    def __enter__(self) -> ProfileLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
