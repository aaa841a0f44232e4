"""Lock a worker process down on Linux, and prove it from inside.

What holds: the process dies with its host, has no descriptor but the channel, bounded memory, no capabilities, no
files but the interpreter's own (Landlock), and no system calls but those of computing (seccomp). Each layer that a
kernel lacks is left out and named; the proofs say what that costs.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import platform
import resource
import signal
import struct
import sys
from collections.abc import Callable
from pathlib import Path

from koc_qt.adapters.sandbox import landlock, probes, seccomp
from koc_qt.adapters.sandbox._libc import prctl, syscall
from koc_qt.adapters.sandbox.policy import LockdownReport, SandboxSettings
from koc_qt.adapters.sandbox.syscalls import MACHINES, Machine
from koc_qt.domain.state import Badge

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CAPABILITY_VERSION_3 = 0x20080522
_HIGHEST_DESCRIPTOR = 1 << 20  # the kernel's own limit (fs.nr_open), unless it was raised
_CANARIES = ("/etc/passwd", "/etc/hostname", "/etc/os-release", "/proc/version")

_SYSTEM_FILES = (
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/dev/null",
    "/dev/urandom",
    "/sys/devices/system/cpu",
)


def lock_down(channel_fd: int, settings: SandboxSettings, parent_pid: int) -> LockdownReport:
    """Give up, for good, all that a strategy does not need; only the calling thread may exist.

    Raises RuntimeError when the host that started this process is gone already.
    """
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise RuntimeError("the process that started this worker is gone")
    _leave_terminal()
    _close_descriptors(channel_fd)
    enforced: dict[str, str] = {"parent death": "ends with its host", "descriptors": "none but the channel"}
    missing: dict[str, str] = {}
    canary = next((path for path in _CANARIES if probes.readable(path)), "")

    def layer(name: str, enforce: Callable[[], str]) -> None:
        try:
            enforced[name] = enforce()
        except OSError as error:
            missing[name] = f"{error.strerror or error}"

    layer("limits", lambda: _limit(settings))
    layer("privileges", _drop_privileges)
    layer("landlock", lambda: _landlock(settings))
    for module in settings.preimport:
        importlib.import_module(module)
    layer("seccomp", _seccomp)
    return LockdownReport(enforced, missing, canary)


def self_test(report: LockdownReport) -> tuple[Badge, str, dict[str, str]]:
    """Try to break out in harmless ways; give the badge that was proved, the reason for it, each probe's outcome."""
    return probes.judge(report, probes.run(report.canary), is_root=os.geteuid() == 0)


def _leave_terminal() -> None:
    """Keep Ctrl-C for the host, which stops its workers in order."""
    if os.getsid(0) != os.getpid():
        os.setsid()
    os.chdir("/")


def _close_descriptors(channel_fd: int) -> None:
    os.closerange(3, channel_fd)
    os.closerange(channel_fd + 1, max(_HIGHEST_DESCRIPTOR, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


def _limit(settings: SandboxSettings) -> str:
    wanted = {
        resource.RLIMIT_AS: settings.address_space_bytes,
        resource.RLIMIT_NOFILE: settings.descriptors,
        resource.RLIMIT_NPROC: _threads_of_user() + settings.threads,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for which, value in wanted.items():
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
    os.nice(settings.nice)
    with contextlib.suppress(OSError):  # /proc may be read-only, as in some containers; then the kernel chooses alone
        # Should the machine run out of memory, a strategy goes before the engine does.
        Path("/proc/self/oom_score_adj").write_text("800")
    return f"{settings.address_space_bytes >> 20} MiB of memory, {settings.descriptors} descriptors"


def _threads_of_user() -> int:
    """Count the threads of this user, whom RLIMIT_NPROC counts together."""
    user, count = os.getuid(), 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                tasks = (entry / "task").stat()
            except OSError:
                continue  # it has just ended, or is hidden from us
            count += tasks.st_nlink - 2 if tasks.st_uid == user else 0
    return count


def _drop_privileges() -> str:
    prctl(_PR_SET_NO_NEW_PRIVS, 1)
    prctl(_PR_SET_DUMPABLE, 0)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(24)  # effective, permitted and inheritable, twice 32 bits each
    pointers = (ctypes.cast(buffer, ctypes.c_void_p) for buffer in (header, nothing))
    syscall(_machine().numbers["capset"], *pointers)
    return "no new ones, no capabilities, not dumpable"


def _landlock(settings: SandboxSettings) -> str:
    if len(list(Path("/proc/self/task").iterdir())) != 1:
        raise OSError(0, "this process has threads already, which it would not bind")
    # Some libraries open /dev/null for writing while they load; seccomp, which follows, lets nothing be written again.
    writable = ("/dev/null",) if settings.preimport else ()
    return landlock.restrict(landlock.abi(), _readable_paths(), writable)


def _readable_paths() -> list[str]:
    """List what an interpreter reads: the standard library, installed packages, this package, time zones."""
    package = Path(__file__).resolve().parents[2]
    standard_library = Path(os.__file__).parent
    installed = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages", "lib-dynload")]
    bundle = [str(sys._MEIPASS)] if hasattr(sys, "_MEIPASS") else []
    own = [str(package), str(standard_library), str(Path(sys.base_exec_prefix, "lib"))]
    # A relative path would be looked up from /, where this process stands.
    return [path for path in (*own, *installed, *bundle, *_SYSTEM_FILES) if Path(path).is_absolute()]


def _seccomp() -> str:
    return seccomp.install(_machine())


def _machine() -> Machine:
    name = platform.machine()
    if name not in MACHINES:
        raise OSError(0, f"no table of system calls for {name} processors")
    return MACHINES[name]
