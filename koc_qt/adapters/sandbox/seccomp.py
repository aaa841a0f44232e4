"""A system call filter: a small BPF assembler, and the program that lets a strategy compute and little else.

Source: https://docs.kernel.org/userspace-api/seccomp_filter.html and linux/{seccomp,filter,bpf_common,audit}.h.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable

from koc_qt.adapters.sandbox._libc import syscall
from koc_qt.adapters.sandbox.syscalls import ABSENT, ALLOWED, CHECKED, LAST_KNOWN, Machine

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, constant

_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06  # ld [k]; and #k; ret #k
_IF_EQUAL, _IF_GREATER, _IF_AT_LEAST = 0x15, 0x25, 0x35
_ALLOW, _ERRNO, _KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
_SET_MODE_FILTER, _TSYNC = 1, 1

_NUMBER_AT, _ARCHITECTURE_AT, _ARGUMENTS_AT = 0, 4, 16
_X32_BIT = 0x40000000  # x86-64 calls of the x32 ABI, which carry the same architecture

_DENY: Instruction = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
_UNKNOWN: Instruction = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)
_PERMIT: Instruction = (_RETURN, 0, 0, _ALLOW)
_KILL: Instruction = (_RETURN, 0, 0, _KILL_PROCESS)

_THREAD_FLAGS = 0x10900  # CLONE_VM, CLONE_SIGHAND, CLONE_THREAD: without all three it is a process
_PTHREAD_FLAGS = 0x7D0F00  # what glibc and musl ask for when they make a thread
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 1030)  # F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_DUPFD_CLOEXEC
_IOCTL_COMMANDS = (0x5421, 0x541B, 0x5451, 0x5450, 0x5401)  # FIONBIO, FIONREAD, FIOCLEX, FIONCLEX, TCGETS
_PRCTL_OPTIONS = (3, 15, 16, 0x53564D41)  # PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_SET_VMA (malloc's labels)
_ALL_BITS = 0xFFFFFFFF


def _load_argument(index: int, *, upper: bool = False) -> Instruction:
    return _LOAD, 0, 0, _ARGUMENTS_AT + 8 * index + (4 if upper else 0)  # both machines are little-endian


def _require(index: int, values: Iterable[int], mask: int = _ALL_BITS) -> list[Instruction]:
    """Deny unless the argument's lower half, masked, is one of `values`; for arguments that the kernel takes as int."""
    allowed = list(values)
    compare = [(_IF_EQUAL, len(allowed) - place, 0, value) for place, value in enumerate(allowed)]
    masking = [] if mask == _ALL_BITS else [(_AND, 0, 0, mask)]
    return [_load_argument(index), *masking, *compare, _DENY]


def _require_null(index: int) -> list[Instruction]:
    halves = (_load_argument(index), _load_argument(index, upper=True))
    return [part for half in halves for part in (half, (_IF_EQUAL, 1, 0, 0), _DENY)]


def _require_reading(machine: Machine, index: int) -> list[Instruction]:
    """Deny flags to write, create, truncate or append, and a path to be used later."""
    harmless = os.O_CLOEXEC | os.O_NONBLOCK | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NOCTTY | machine.o_largefile
    return _require(index, [os.O_RDONLY], mask=_ALL_BITS & ~harmless)


def _checks(machine: Machine, pid: int) -> dict[str, list[Instruction]]:
    """Give what the arguments of each checked call must be."""
    stream = _require(1, [socket.SOCK_STREAM], mask=_ALL_BITS & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
    return {
        "open": _require_reading(machine, 1),
        "openat": _require_reading(machine, 2),
        "clone": _require(0, [_THREAD_FLAGS], mask=_THREAD_FLAGS) + _require(0, [0], mask=_ALL_BITS & ~_PTHREAD_FLAGS),
        "socketpair": _require(0, [socket.AF_UNIX]) + stream,
        "sendto": _require_null(4),  # no address: it can only answer on a channel that it has
        "getsockopt": _require(1, [socket.SOL_SOCKET]),
        "kill": _require(0, [pid]),
        "tgkill": _require(0, [pid]),
        "prlimit64": _require(0, [0, pid]) + _require_null(2),  # asking, never setting
        "fcntl": _require(1, _FCNTL_COMMANDS),  # not the commands that send signals or take leases
        "ioctl": _require(1, _IOCTL_COMMANDS),
        "prctl": _require(0, _PRCTL_OPTIONS),  # above all not PR_SET_PDEATHSIG
    }


def program(machine: Machine, pid: int) -> list[Instruction]:
    """Assemble the filter for a process: allowed calls pass, other known ones get EPERM, unknown ones ENOSYS.

    Calls of another architecture end the process.
    """
    blocks: dict[str, list[Instruction]] = {name: [_PERMIT] for name in ALLOWED}
    blocks |= {name: [*checks, _PERMIT] for name, checks in _checks(machine, pid).items()}
    blocks |= {name: [_UNKNOWN] for name in ABSENT}
    code: list[Instruction] = [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_IF_EQUAL, 1, 0, machine.audit_architecture),
        _KILL,
        (_LOAD, 0, 0, _NUMBER_AT),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        _KILL,
    ]
    for name, block in blocks.items():
        if name in machine.numbers:
            code += [(_IF_EQUAL, 0, len(block), machine.numbers[name]), *block]
    return [*code, (_IF_GREATER, 0, 1, LAST_KNOWN), _UNKNOWN, _DENY]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(machine: Machine) -> str:
    """Filter every thread of this process from now on; raises OSError. Needs no_new_privs.

    Gives back what was done, for people.
    """
    code = program(machine, os.getpid())
    packed = b"".join(struct.pack("=HBBI", *instruction) for instruction in code)
    prog = _Program(len(code), packed)
    pointer = ctypes.cast(ctypes.byref(prog), ctypes.c_void_p)
    unwilling = syscall(machine.numbers["seccomp"], _SET_MODE_FILTER, _TSYNC, pointer)
    if unwilling:
        raise OSError(errno.EBUSY, f"thread {unwilling} could not be filtered")
    return f"{len(ALLOWED)} system calls allowed, {len(CHECKED)} with checked arguments"
