"""Windows' job objects: what bounds a worker there, and ends it with its host.

A job is no sandbox: who is in one reads files and uses the network as before.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

_KILL_ON_CLOSE, _ACTIVE_PROCESSES, _PROCESS_MEMORY, _DIE_SILENTLY = 0x2000, 0x8, 0x100, 0x400
_EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
_RESERVE_AND_COMMIT, _READ_AND_WRITE, _RELEASE = 0x3000, 0x04, 0x8000
_MAY_ASSIGN = 0x0101  # PROCESS_SET_QUOTA, PROCESS_TERMINATE


class _Basic(ctypes.Structure):
    _fields_ = (
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("smallest_working_set", ctypes.c_size_t),
        ("largest_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority", ctypes.c_uint32),
        ("scheduling", ctypes.c_uint32),
    )


class Limits(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = (
        ("basic", _Basic),
        ("counters", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    )


def limits(*, kill_on_close: bool = False, memory_bytes: int = 0, alone: bool = False) -> Limits:
    """Give the limits of a job: ended with its last handle, so much memory a process, no process but one."""
    found = Limits()
    flags = _DIE_SILENTLY
    if kill_on_close:
        flags |= _KILL_ON_CLOSE
    if memory_bytes:
        flags |= _PROCESS_MEMORY
        found.process_memory = memory_bytes
    if alone:
        flags |= _ACTIVE_PROCESSES
        found.basic.active_processes = 1
    found.basic.flags = flags
    return found


class Job:
    """A job with one process in it. Raises OSError; closing it ends the process where that is one of its limits."""

    def __init__(self, pid: int, wanted: Limits) -> None:
        self._handle = _checked(_kernel().CreateJobObjectW(None, None))
        try:
            size = ctypes.sizeof(wanted)
            _checked(_kernel().SetInformationJobObject(self._handle, _EXTENDED_LIMITS, ctypes.byref(wanted), size))
            process = _checked(_kernel().OpenProcess(_MAY_ASSIGN, False, pid))
            try:
                _checked(_kernel().AssignProcessToJobObject(self._handle, process))
            finally:
                _kernel().CloseHandle(process)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close it. Safe to call twice."""
        handle, self._handle = self._handle, 0
        if handle:
            _kernel().CloseHandle(handle)


def hold(pid: int) -> Job | None:
    """Give a job that ends this process when this one ends; None where that is not possible, which its badge tells."""
    try:
        return Job(pid, limits(kill_on_close=True))
    except OSError:
        return None


def is_held() -> bool:
    """Whether this process is in a job that ends it with its host."""
    if sys.platform == "win32":
        found = Limits()
        size = ctypes.sizeof(found)
        asked = _kernel().QueryInformationJobObject(None, _EXTENDED_LIMITS, ctypes.byref(found), size, None)
        return bool(asked) and bool(found.basic.flags & _KILL_ON_CLOSE)
    return False


def can_have(size: int) -> bool:
    """Whether this process can have so many bytes more, which it gives back untouched."""
    if sys.platform == "win32":
        kernel = _kernel()
        address = kernel.VirtualAlloc(None, size, _RESERVE_AND_COMMIT, _READ_AND_WRITE)
        if address:
            kernel.VirtualFree(address, 0, _RELEASE)
        return bool(address)
    return True


def _kernel() -> Any:
    if sys.platform == "win32":
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        for name in ("CreateJobObjectW", "OpenProcess"):
            getattr(kernel, name).restype = ctypes.c_void_p
        kernel.SetInformationJobObject.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32)
        kernel.AssignProcessToJobObject.argtypes = (ctypes.c_void_p, ctypes.c_void_p)
        kernel.CloseHandle.argtypes = (ctypes.c_void_p,)
        kernel.VirtualAlloc.restype = ctypes.c_void_p
        kernel.VirtualAlloc.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32, ctypes.c_uint32)
        kernel.VirtualFree.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint32)
        return kernel
    raise OSError("only Windows has job objects")


def _checked(result: Any) -> int:
    if not result and sys.platform == "win32":
        raise ctypes.WinError(ctypes.get_last_error())
    return int(result or 0)
