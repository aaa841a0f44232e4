"""Loads the compiled kernel into a worker, by llvmlite alone; nothing is compiled here and no file is touched."""

from __future__ import annotations

import ctypes
from typing import Any

import msgspec

from koc_qt.sdk.machine_code import MachineCode, host

_POINTER, _WHOLE = ctypes.c_void_p, ctypes.c_int64


class BadKernelError(Exception):
    """The machine code cannot be used here; the text says why."""


class Kernel:
    """The loaded functions; each takes addresses of columns. See koc_qt/worker/sweep_kernel.py for what they do."""

    def __init__(self, code: bytes) -> None:
        """Load a MachineCode in msgpack. Raises BadKernelError for one that was made elsewhere, or is none."""
        import llvmlite.binding as llvm

        try:
            machine = msgspec.msgpack.decode(code, type=MachineCode)
        except msgspec.DecodeError as error:
            raise BadKernelError(f"the kernel cannot be read: {error}") from error
        if (machine.target, machine.processor) != host():
            raise BadKernelError(f"the kernel was compiled for {machine.processor}, this is {host()[1]}")
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple().create_target_machine(jit=True)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), target)
        for each in machine.codes.values():
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(each.object_file))
        self._engine.finalize_object()
        try:
            symbols = {name: machine.codes[name].symbol for name in ("simulate", "average", "smoothed")}
        except KeyError as error:
            raise BadKernelError(f"the kernel lacks {error}") from error
        self.simulate = self._function(
            symbols["simulate"], *[_WHOLE] * 4, *[_POINTER] * 12, _WHOLE, _POINTER, _WHOLE, _POINTER, _POINTER
        )
        self.average = self._function(symbols["average"], _WHOLE, _WHOLE, *[_POINTER] * 3)
        self.smoothed = self._function(symbols["smoothed"], _WHOLE, _WHOLE, *[_POINTER] * 2)

    def _function(self, symbol: str, *kinds: Any) -> Any:
        address = self._engine.get_function_address(symbol)
        if not address:
            raise BadKernelError(f"the kernel lacks {symbol}")
        function: Any = ctypes.CFUNCTYPE(None, *kinds)(address)
        function.engine = self._engine  # the code is gone with it
        return function
