"""What a locked worker still has, what it can still do, and what its badge says."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication

from koc_qt.adapters.sandbox import LockdownReport, SandboxSettings
from koc_qt.adapters.sandbox.probes import judge
from koc_qt.adapters.sandbox.syscalls import ABSENT, ALLOWED, CHECKED, LAST_KNOWN, MACHINES
from koc_qt.domain.state import Badge
from koc_qt.sdk.channel import Ready
from tests.conditions import PATIENCE
from tests.security.attacks import SECRET
from tests.security.harness import Watched, in_worker, unlocked

IS_ROOT = os.geteuid() == 0


def _ready(qapp: QCoreApplication, settings: SandboxSettings | None = None) -> Ready:
    async def use(worker: Watched) -> Ready:
        assert worker.ready
        return worker.ready

    return in_worker(qapp, use, settings=settings)


def test_every_probe_is_refused_and_root_is_no_more_than_partial(qapp: QCoreApplication) -> None:
    ready = _ready(qapp)
    assert len(ready.proofs) >= 10
    assert all(outcome.startswith("refused: ") for outcome in ready.proofs.values()), ready.proofs
    assert ready.badge == (Badge.PARTIAL if IS_ROOT else Badge.ISOLATED), ready.badge_reason
    assert ("root" in ready.badge_reason) == IS_ROOT


PROVED = {"read a file": "refused: no", "open a UDP socket": "refused: no", "start a process": "refused: no"}
REPORT = LockdownReport(enforced={}, missing={}, canary="/etc/passwd")


@pytest.mark.parametrize(
    ("report", "proofs", "is_root", "badge", "reason"),
    [
        (REPORT, PROVED, False, Badge.ISOLATED, "hold"),
        (REPORT, PROVED, True, Badge.PARTIAL, "root"),
        (REPORT, PROVED | {"signal the host": "open: may"}, False, Badge.PARTIAL, "not refused: signal the host"),
        (REPORT, PROVED | {"write a file": "unclear: no such"}, False, Badge.PARTIAL, "not refused: write a file"),
        (REPORT, dict.fromkeys(PROVED, "open: yes"), False, Badge.UNPROTECTED, "read a file, open a UDP"),
        (
            LockdownReport(enforced={}, missing={"landlock": "Function not implemented"}, canary="/etc/passwd"),
            PROVED | {"read a file": "open: 1 byte"},
            False,
            Badge.PARTIAL,
            "landlock is missing (Function not implemented)",
        ),
        (LockdownReport(enforced={}, missing={}), PROVED, False, Badge.PARTIAL, "no file was found"),
    ],
)
def test_the_badge_says_what_was_proved(
    report: LockdownReport, proofs: dict[str, str], is_root: bool, badge: Badge, reason: str
) -> None:
    given, why, kept = judge(report, proofs, is_root=is_root)
    assert (given, kept) == (badge, proofs)
    assert reason in why


def _locked_after(setup: str) -> tuple[str, str, dict[str, str]]:
    """Lock a process of its own down after some preparation, and give what its self-test said."""
    program = f"""
import json, os, socket, threading
import koc_qt.adapters.sandbox.linux as linux
from koc_qt.adapters.sandbox import SandboxSettings, landlock
{setup}
ours, theirs = socket.socketpair()
os.dup2(1, theirs.fileno())  # the report leaves by the one descriptor that is kept
report = linux.lock_down(theirs.fileno(), SandboxSettings(), {os.getpid()})
os.write(theirs.fileno(), json.dumps(linux.self_test(report)).encode())
os._exit(0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60 * PATIENCE, check=True)
    badge, reason, proofs = json.loads(done.stdout)
    return badge, reason, proofs


@pytest.mark.parametrize("abi", range(1, 8))
def test_older_kernels_lose_nothing_that_was_probed(abi: int) -> None:
    from koc_qt.adapters.sandbox import landlock

    if landlock.abi() < abi:
        pytest.skip(f"this kernel's Landlock is older than ABI {abi}")
    badge, reason, proofs = _locked_after(f"landlock.abi = lambda: {abi}")
    assert all(outcome.startswith("refused") for outcome in proofs.values()), proofs
    assert badge == (Badge.PARTIAL if IS_ROOT else Badge.ISOLATED), reason


def test_a_thread_that_landlock_would_not_bind_is_told() -> None:
    badge, reason, _proofs = _locked_after("threading.Thread(target=threading.Event().wait, daemon=True).start()")
    assert badge == Badge.PARTIAL
    assert "landlock is missing (this process has threads already" in reason


@pytest.mark.parametrize(
    ("broken", "missing", "open_doors"),
    [
        (["landlock"], "landlock is missing (Function not implemented)", {"read a file", "list a folder"}),
        (["seccomp"], "seccomp is missing (Function not implemented)", {"open a UDP socket", "start a process"}),
        (["landlock", "seccomp"], "seccomp is missing", {"read a file", "open a TCP socket", "signal the host"}),
    ],
    ids=["no Landlock", "no seccomp", "neither"],
)
def test_a_kernel_without_a_layer_is_told_apart(broken: list[str], missing: str, open_doors: set[str]) -> None:
    setup = f"""
import errno
def absent(*_): raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
for name in {broken!r}: setattr(linux, "_" + name, absent)
"""
    badge, reason, proofs = _locked_after(setup)
    assert badge == (Badge.UNPROTECTED if len(broken) == 2 else Badge.PARTIAL)
    assert missing in reason
    assert {name for name, outcome in proofs.items() if outcome.startswith("open")} >= open_doors


def test_a_worker_whose_host_is_gone_does_not_start() -> None:
    program = """
import sys
from koc_qt.adapters.sandbox import SandboxSettings, lock_down
try: lock_down(0, SandboxSettings(), 1 << 22)
except RuntimeError as error: sys.exit(str(error))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60 * PATIENCE, check=False
    )
    assert "the process that started this worker is gone" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["--channel"], ["--channel", "x", "--parent", "1"], ["--parent", "1"]])
def test_a_person_who_tries_it_by_hand_is_told(arguments: list[str]) -> None:
    program = "import sys; from koc_qt.wiring.worker import serve; sys.exit(serve(['worker', *sys.argv[1:]], None))"
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60 * PATIENCE, check=False)
    assert done.returncode == 64
    assert done.stderr.startswith("koc worker is started by the engine")


def test_it_holds_no_descriptor_but_the_channel(qapp: QCoreApplication, tmp_path: Path) -> None:
    leaked = os.open(tmp_path / "leak", os.O_RDWR | os.O_CREAT)
    os.set_inheritable(leaked, True)
    source = f"""
import os
def attack():
    held = []
    for fd in range(1024):
        try: held.append((fd, os.fstat(fd).st_mode >> 12))
        except OSError: pass
    return held + ([os.read({leaked}, 1)] if {leaked} in dict(held) and {leaked} != channel.fileno() else [])
"""
    inherit = [sys.executable, "-c", f"import os; os.fstat({leaked}); print('inherited')"]
    try:
        control = subprocess.run(
            inherit, capture_output=True, text=True, close_fds=False, timeout=60 * PATIENCE, check=True
        )
        outcome = in_worker(qapp, lambda worker: worker.attack(source))
    finally:
        os.close(leaked)
    assert control.stdout == "inherited\n"
    null, sock = 0o2, 0o14
    kinds = [kind for _fd, kind in eval(outcome.removeprefix("done: "))]
    assert kinds == [null, null, null, sock]


def test_its_environment_holds_no_secret(qapp: QCoreApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_BINANCE_SECRET", SECRET)
    source = "import os\ndef attack(): return sorted(os.environb.items())"
    assert SECRET in unlocked(source)
    outcome = in_worker(qapp, lambda worker: worker.attack(source))
    assert outcome.startswith("done: ")
    assert SECRET not in outcome
    assert "KOC_" not in outcome


def test_what_strategies_need_works_inside(qapp: QCoreApplication) -> None:
    source = """
import asyncio, datetime, sqlite3, threading, zoneinfo
def attack():
    import numpy, pandas
    assert numpy.linalg.inv(numpy.eye(200)).trace() == 200
    frame = pandas.DataFrame({'close': numpy.arange(1000.0)}, index=pandas.date_range('2024', periods=1000, tz='UTC'))
    assert frame.close.rolling(10).mean().iloc[-1] == 994.5
    frame.index.tz_convert('America/New_York')
    zoneinfo.ZoneInfo('Europe/Paris').utcoffset(datetime.datetime(2024, 7, 1))
    done = []
    threads = [threading.Thread(target=done.append, args=(n,)) for n in range(8)]
    [t.start() for t in threads]; [t.join() for t in threads]
    async def later(): await asyncio.sleep(0.001); return 5
    assert asyncio.run(later()) == 5
    assert sqlite3.connect(':memory:').execute('select 2').fetchone() == (2,)
    return len(done)
"""
    assert in_worker(qapp, lambda worker: worker.attack(source)) == "done: 8"
    warmed = SandboxSettings(preimport=("numpy", "pandas"))
    loaded = "import sys\ndef attack(): return 'pandas' in sys.modules"
    assert in_worker(qapp, lambda worker: worker.attack(loaded), settings=warmed) == "done: True"


_RAW = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def attack():
    outcomes = {}
    for number in NUMBERS:
        result = libc.syscall(*(ctypes.c_long(value) for value in (number, -1, -1, -1, -1, -1, -1)))
        outcomes[number] = errno.errorcode[ctypes.get_errno()] if result < 0 else "done"
    return outcomes
"""


@pytest.mark.skipif(platform.machine() not in MACHINES, reason="no table of system calls for this processor")
def test_every_other_system_call_is_refused_and_unknown_ones_do_not_exist(qapp: QCoreApplication) -> None:
    mine = MACHINES[platform.machine()].numbers
    listed = {mine[name] for name in (*ALLOWED, *CHECKED, *ABSENT) if name in mine}
    # Linux lets uretprobe and uprobe of x86-64 past every filter, and ends a process that makes them itself (SIGILL).
    by_the_kernel = {335, 336} if platform.machine() == "x86_64" else set()
    others = sorted(set(range(LAST_KNOWN + 1)) - listed - by_the_kernel)
    numbers = [*others, *(mine[name] for name in ABSENT), LAST_KNOWN + 1, 1000]
    outcome = in_worker(qapp, lambda worker: worker.attack(f"NUMBERS = {numbers}\n{_RAW}"))
    answers = eval(outcome.removeprefix("done: "))
    assert {number for number in others if answers[number] != "EPERM"} == set()
    assert {answers[number] for number in numbers[len(others) :]} == {"ENOSYS"}
    umask = 95 if platform.machine() == "x86_64" else 166
    assert answers[umask] == "EPERM"
    assert unlocked(f"NUMBERS = {[umask, 1000]}\n{_RAW}") == f"done: {{{umask}: 'done', 1000: 'ENOSYS'}}"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the calls of a 32-bit x86 exist on x86-64 alone")
def test_the_other_door_into_the_kernel_ends_the_worker(qapp: QCoreApplication) -> None:
    source = """
import ctypes, mmap
def attack():
    code = mmap.mmap(-1, 4096, prot=7)
    code.write(bytes([0x53, 0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0x5B, 0xC3]))  # push rbx; getpid by int 0x80; pop; ret
    return ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()
"""
    try:
        control = unlocked(source)
    except subprocess.CalledProcessError:
        pytest.skip("this kernel has no calls of a 32-bit x86, so there is no control")
    assert re.match(r"done: \d+", control)
    assert in_worker(qapp, lambda worker: worker.attack(source)).startswith("ended: was ended by SIGSYS")
    x32 = "import ctypes\ndef attack(): return ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 + 39))"
    assert in_worker(qapp, lambda worker: worker.attack(x32)).startswith("ended: was ended by SIGSYS")


@pytest.mark.parametrize(
    ("machine", "header"),
    [("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), ("aarch64", "/usr/include/asm-generic/unistd.h")],
)
def test_the_numbers_are_the_kernels(machine: str, header: str) -> None:
    if not Path(header).exists():
        pytest.skip("the kernel's headers (linux-libc-dev) are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    defined.setdefault("newfstatat", defined.get("fstatat", ""))
    numbers = MACHINES[machine].numbers
    assert len(numbers) > 100
    assert {name: number for name, number in numbers.items() if defined[name] != str(number)} == {}
    assert {name for name in (*ALLOWED, *CHECKED, *ABSENT) if name in defined and name not in numbers} == set()


@pytest.mark.skipif(not IS_ROOT, reason="only root can become another user; for others every test here is this one")
def test_an_ordinary_user_gets_the_full_badge() -> None:
    python = Path("/usr/bin/python3")
    as_nobody = {"user": 65534, "group": 65534, "extra_groups": []}
    packages = os.pathsep.join([str(Path(__file__).parents[2]), *(p for p in sys.path if p.endswith("site-packages"))])
    environment = {"PYTHONPATH": packages}
    probe = [str(python), "-B", "-c", "import msgspec, koc_qt.wiring.worker"]
    if not python.exists() or subprocess.run(probe, env=environment, capture_output=True, **as_nobody).returncode:
        pytest.skip("no interpreter that an ordinary user could run has our dependencies")
    program = f"""
import json, os, socket, sys
from koc_qt.adapters.sandbox import SandboxSettings, lock_down, self_test
import threading
ours, theirs = socket.socketpair()
os.dup2(1, theirs.fileno())
report = lock_down(theirs.fileno(), SandboxSettings(), {os.getpid()})
answer = self_test(report)
thread = threading.Thread(target=print); thread.start(); thread.join()
os.write(theirs.fileno(), json.dumps(answer).encode())
os._exit(0)
"""
    command = [str(python), "-B", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60 * PATIENCE, check=True, **as_nobody)
    badge, reason, _proofs = json.loads(done.stdout.strip())
    assert (badge, "every attempt" in reason) == (Badge.ISOLATED, True), reason
