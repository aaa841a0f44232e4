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

from koc_qt.adapters.worker_command import worker_command, worker_environment

COMPILE_TIMEOUT_S = 120.0
WORD = "--sweep-kernel"  # what `koc worker` is told to compile and end
_SOURCES = ("sweep_kernel.py", "sweep_compiler.py", "sweep_machine.py", "../sdk/machine_code.py")


class KernelFile:
    """Gives the machine code for this machine; `folder` is where it is kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._making = asyncio.Lock()

    async def code(self) -> bytes:
        """Give the code; empty where it cannot be made, which the log tells: sweeps are slow then, and as right."""
        async with self._making:
            file = self._folder / f"sweep-{await asyncio.to_thread(_key)}.bin"
            try:
                return await asyncio.to_thread(file.read_bytes)
            except OSError:
                return await self._make(file)

    async def _make(self, file: Path) -> bytes:
        process = _compiling()
        try:
            code = await asyncio.to_thread(_compiled, process)
        finally:
            if process.poll() is None:
                process.kill()
                await asyncio.to_thread(process.communicate)
        if code:
            await asyncio.to_thread(_keep, file, code)
        return code


def compile_here() -> bytes:
    """Compile and wait for it; empty where it cannot be done."""
    process = _compiling()
    try:
        return _compiled(process)
    finally:
        process.kill()
        process.wait()


def _compiling() -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*worker_command(), WORD],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=worker_environment(),
    )


def _compiled(process: subprocess.Popen[bytes]) -> bytes:
    try:
        code, errors = process.communicate(timeout=COMPILE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        logger.warning("the optimiser's kernel was not compiled within {:g} s", COMPILE_TIMEOUT_S)
        return b""
    if process.returncode or not code:
        logger.warning("the optimiser's kernel cannot be compiled here: {}", errors.decode(errors="replace")[-2000:])
        return b""
    return code


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
