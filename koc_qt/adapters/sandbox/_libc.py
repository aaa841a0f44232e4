"""System calls that Python has no function for, through ctypes."""

from __future__ import annotations

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.syscall.argtypes = (ctypes.c_long,)


def syscall(number: int, *arguments: int | ctypes.c_void_p | None) -> int:
    """Make a raw system call, every argument as wide as a register; raises OSError."""
    # Variadic arguments travel as C ints unless they say otherwise, and would lose their upper half.
    wide = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    wide += [ctypes.c_long(0)] * (6 - len(wide))
    result: int = _libc.syscall(number, *wide)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def prctl(option: int, value: int = 0) -> int:
    """Set or ask a property of this process; raises OSError."""
    result: int = _libc.prctl(option, *(ctypes.c_ulong(number) for number in (value, 0, 0, 0)))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result
