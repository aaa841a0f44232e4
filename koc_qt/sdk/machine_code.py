"""Machine code on its way to the workers that run it; strategy authors do not need it."""

from __future__ import annotations

import msgspec


class Code(msgspec.Struct, frozen=True):
    """A function in an object file, by its name in there."""

    symbol: str
    object_file: bytes


class MachineCode(msgspec.Struct, frozen=True):
    """Functions for one kind of processor: `target` is LLVM's triple, `processor` its name of the model."""

    target: str
    processor: str
    codes: dict[str, Code]


def is_for_this_machine(code: bytes) -> bool:
    """Whether a MachineCode, in msgpack, was compiled for this kind of processor."""
    try:
        machine = msgspec.msgpack.decode(code, type=MachineCode)
    except msgspec.DecodeError:
        return False
    return (machine.target, machine.processor) == host()


def host() -> tuple[str, str]:
    """Give what this machine is: LLVM's triple, and the name of its processor."""
    import llvmlite.binding as llvm  # where code is run or compiled it is loaded anyway

    return llvm.get_default_triple(), llvm.get_host_cpu_name()
