"""The optimiser's machine code: compiled once a machine and version by a process of its own, kept in a file."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from pathlib import Path

from loguru import logger

from koc_qt.adapters.process_priority import make_idle
from koc_qt.adapters.worker_command import worker_command, worker_environment

COMPILE_TIMEOUT_S = 120.0
WORD = "--sweep-kernel"  # what `koc worker` is told to compile and end
_SOURCES = ("sweep_kernel.py", "sweep_compiler.py", "sweep_machine.py", "../sdk/machine_code.py")


class KernelFile:
    """Gives the machine code for this machine; `folder` is where it is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making = asyncio.Lock()

    async def code(self, *, is_idle: bool = False) -> bytes:
        """Give the code; empty where it cannot be made, which the log tells: sweeps are slow then, and as right.

        With `is_idle` it is compiled in whatever time the machine has left over.
        """
        async with self._making:
            file = await self._file()
            try:
                return await asyncio.to_thread(file.read_bytes)
            except OSError:
                return await self._make(file, is_idle=is_idle)

    async def is_there(self) -> bool:
        """Whether it has been compiled for this machine and version."""
        return (await self._file()).exists()

    async def _file(self) -> Path:
        return self._folder / f"sweep-{await asyncio.to_thread(_key)}.bin"

    async def _make(self, file: Path, *, is_idle: bool) -> bytes:
        process = _compiling()
        if is_idle:
            make_idle(process.pid)
        compiling = asyncio.ensure_future(asyncio.to_thread(_compiled, process))
        try:
            code, complaint = await asyncio.shield(compiling)
        finally:
            if not compiling.done():  # whoever wanted it does not any more: the thread hears of its end, and ends too
                process.kill()
                await asyncio.wait([compiling])
        if complaint:
            logger.warning("{}", complaint)
        if code:
            await asyncio.to_thread(_keep, file, code)
        return code


def compile_here() -> bytes:
    """Compile and wait for it; empty where it cannot be done."""
    code, complaint = _compiled(_compiling())
    if complaint:
        logger.warning("{}", complaint)
    return code


def _compiling() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*worker_command(), WORD],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=worker_environment(),
    )


def _compiled(process: subprocess.Popen[bytes]) -> tuple[bytes, str]:
    """Wait for a process; gives the code, and why there is none. The process has ended then, however this is left."""
    try:
        code, errors = process.communicate(timeout=COMPILE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return b"", f"the optimiser's kernel was not compiled within {COMPILE_TIMEOUT_S:g} s"
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    if process.returncode or not code:
        return b"", f"the optimiser's kernel cannot be compiled here: {errors.decode(errors='replace')[-2000:]}"
    return code, ""


def _keep(file: Path, code: bytes) -> None:
    """Write the file whole or not at all; without it the next one compiles again."""
    temporary = file.with_suffix(f".{os.getpid()}")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_bytes(code)
        temporary.replace(file)
    except OSError as error:
        logger.warning("{} cannot be written: {}", file, error.strerror or error)


def _key() -> str:
    """Tell apart what makes other machine code: processor, libraries and the kernel itself."""
    from koc_qt.version import __version__

    parts = [__version__, sys.version, platform.machine(), _processor()]
    parts += [importlib.metadata.version(name) for name in ("numba", "llvmlite")]
    digest = hashlib.sha256("\n".join(parts).encode())
    for name in _SOURCES:
        source = Path(__file__).resolve().parents[1] / "worker" / name
        digest.update(source.read_bytes() if source.exists() else b"")  # a bundle has no sources, and its version
    return digest.hexdigest()[:32]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features"))))
