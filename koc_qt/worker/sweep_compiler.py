"""Compiles the sweep's kernel with numba: run once by somebody whom this machine trusts, loaded by every worker.

numba takes 60 MB and half a second to load and as long again to compile, and wants to write a cache; a worker may write
nothing, and each has its own memory. So a process of its own compiles, and workers get the machine code
(koc_qt/worker/sweep_machine.py), which they load in some milliseconds.
"""

from __future__ import annotations

from types import FunctionType
from typing import Any

import msgspec

from koc_qt.sdk.machine_code import Code, MachineCode, host
from koc_qt.worker import sweep_kernel

_FREELY = {"reassoc", "nnan", "nsz"}  # sums may be added up in any order: nothing is nan


def compile_kernel() -> bytes:
    """Compile for this machine's processor; gives a MachineCode as msgpack. Takes about a second."""
    import numba

    types: Any = numba.types
    cfunc: Any = numba.cfunc
    whole, number = types.int64, types.float64
    times, columns = types.CPointer(whole), types.CPointer(number)
    flags, words = types.CPointer(types.uint8), types.CPointer(types.uint64)
    simulate = types.void(
        whole,  # count
        whole,  # first
        whole,  # bar_ns
        whole,  # since_ns
        times,
        *[columns] * 4,  # buys, sells, closes, room
        *[flags] * 4,  # entries, exits, short_entries, short_exits
        *[words] * 3,  # of entries, exits, short_exits
        whole,  # has_shorts
        columns,  # sizes
        whole,  # size_step
        columns,  # terms
        columns,  # found
    )
    average = types.void(whole, whole, columns, columns, columns)
    smoothed = types.void(whole, whole, columns, columns)
    codes = {
        "simulate": _code(cfunc(simulate, error_model="numpy", fastmath=_FREELY)(_with_parts(numba.njit))),
        # bit for bit what Python does: no liberty is taken with the order of additions
        "average": _code(cfunc(average, error_model="numpy")(sweep_kernel.average)),
        "smoothed": _code(cfunc(smoothed, error_model="numpy")(sweep_kernel.smoothed)),
    }
    return msgspec.msgpack.encode(MachineCode(*host(), codes))


def _with_parts(njit: Any) -> Any:
    """Give `simulate` with what it calls compiled into it; the module's own stays as it is written."""
    own = sweep_kernel.simulate
    parts = dict(own.__globals__)
    for part in (sweep_kernel.next_set, sweep_kernel.extremes):
        parts[part.__name__] = njit(inline="always", error_model="numpy", fastmath=_FREELY)(part)
    return FunctionType(own.__code__, parts, own.__name__, own.__defaults__)


def _code(function: Any) -> Code:
    _, kind, parts = function._library.serialize_using_object_code()
    if kind != "object":
        raise RuntimeError(f"numba gave {kind} where machine code was expected")
    return Code(function.native_name, parts[0])
