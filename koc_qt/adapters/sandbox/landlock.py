"""Landlock: a process gives up its access to files, TCP and other processes, for good.

Source: https://docs.kernel.org/userspace-api/landlock.html. Call numbers are the same on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable

from koc_qt.adapters.sandbox._libc import syscall

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
# What each ABI adds to the rights that can be taken away. A right that an ABI lacks is left to seccomp.
_FILE_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # all but refer, refer, truncate, ioctl
_TCP_ABI, _TCP_RIGHTS = 4, 0b11  # bind, connect
_SCOPES_ABI, _SCOPES = 6, 0b11  # abstract unix sockets, signals


class _RulesetAttr(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("tcp", ctypes.c_uint64), ("scopes", ctypes.c_uint64))


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32))


def abi() -> int:
    """Give the kernel's Landlock version; raises OSError where it has none (ENOSYS) or it is off (EOPNOTSUPP)."""
    return syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)


def restrict(version: int, readable: Iterable[str], writable: Iterable[str] = ()) -> str:
    """Leave this thread nothing but reading `readable` (files, or folders with all below); raises OSError.

    Files of `writable` may be written to as well. Needs no_new_privs. Executing files is given to nobody: mapping a
    library needs no more than reading it.
    Gives back what was taken away, for people.
    """
    ruleset = _create(version)
    try:
        for path in readable:
            _allow(ruleset, path, _READ_FILE)
        for path in writable:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
        syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    taken = ["files"] + ["TCP"] * (version >= _TCP_ABI) + ["signals"] * (version >= _SCOPES_ABI)
    return f"ABI {version}: {', '.join(taken)}"


def _create(version: int) -> int:
    files = sum(rights for since, rights in _FILE_RIGHTS_BY_ABI.items() if version >= since)
    tcp = _TCP_RIGHTS if version >= _TCP_ABI else 0
    scopes = _SCOPES if version >= _SCOPES_ABI else 0
    attr = _RulesetAttr(files, tcp, scopes)
    known_fields = 1 + (version >= _TCP_ABI) + (version >= _SCOPES_ABI)
    return syscall(_CREATE_RULESET, ctypes.cast(ctypes.byref(attr), ctypes.c_void_p), 8 * known_fields, 0)


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return  # this machine does not have it, or we may not use it anyway
    try:
        is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        attr = _PathBeneathAttr(rights | (_READ_DIR if is_folder else 0), descriptor)
        syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.cast(ctypes.byref(attr), ctypes.c_void_p), 0)
    finally:
        os.close(descriptor)
