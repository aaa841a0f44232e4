"""What a hostile strategy would try. Each source defines `attack`: it gives a text on success and raises on refusal."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECRET = "canary-7d1f"

Prepare = Callable[[Path, ExitStack], dict[str, Any]]


@dataclass(frozen=True)
class Attack:
    """A source, and what makes its target in a folder; values become the source's constants."""

    name: str
    source: str
    prepare: Prepare


def _key_file(folder: Path, _stack: ExitStack) -> dict[str, Any]:
    key = folder / "keys.json"
    key.write_text(SECRET)
    return {"PATH": str(key), "FOLDER": str(folder)}


def _link_to_key(folder: Path, stack: ExitStack) -> dict[str, Any]:
    values = _key_file(folder, stack)
    link = folder / "innocent.txt"
    link.symlink_to(values["PATH"])
    return {"PATH": str(link)}


def _climbing_path(folder: Path, stack: ExitStack) -> dict[str, Any]:
    values = _key_file(folder, stack)
    up = "/".join([".."] * 20)
    return {"PATH": f"{Path(os.__file__).parent}/{up}{values['PATH']}"}


@contextmanager
def decoy() -> Iterator[subprocess.Popen[bytes]]:
    """Run a process of our own user that does nothing, holds a secret in its environment and is killed at the end."""
    program = [sys.executable, "-c", "import sys; print(flush=True); sys.stdin.read()"]
    environment = {**os.environ, "SECRET": SECRET}
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def _decoy(_folder: Path, stack: ExitStack) -> dict[str, Any]:
    return {"PID": stack.enter_context(decoy()).pid}


def _nothing(_folder: Path, _stack: ExitStack) -> dict[str, Any]:
    return {}


def _tcp_server(_folder: Path, stack: ExitStack) -> dict[str, Any]:
    server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return {"PORT": server.getsockname()[1]}


def _udp_server(_folder: Path, stack: ExitStack) -> dict[str, Any]:
    server = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    server.bind(("127.0.0.1", 0))
    return {"PORT": server.getsockname()[1]}


def _unix_server(folder: Path, stack: ExitStack) -> dict[str, Any]:
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind(str(folder / "agent"))
    server.listen()
    return {"ADDRESS": str(folder / "agent")}


def _abstract_server(_folder: Path, stack: ExitStack) -> dict[str, Any]:
    server = stack.enter_context(socket.socket(socket.AF_UNIX))
    server.bind("")  # the kernel chooses a name
    server.listen()
    return {"ADDRESS": "\0" + server.getsockname()[1:].decode()}


_CTYPES = f"""
import ctypes, os
X86 = {platform.machine() == "x86_64"}
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = libc.syscall(ctypes.c_long(number), *(ctypes.c_long(value) for value in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""


def _body(*lines: str) -> str:
    return "def attack():\n" + "".join(f"    {line}\n" for line in lines)


_FILES = [
    Attack("read a key file", _body("return open(PATH).read()"), _key_file),
    Attack("read a key file by a symlink", _body("return open(PATH).read()"), _link_to_key),
    Attack("climb out of the standard library", _body("return open(PATH).read()"), _climbing_path),
    Attack("list the profile", _body("import os", "return os.listdir(FOLDER)"), _key_file),
    Attack(
        "hold a path for later",
        _body("import os", "fd = os.open(FOLDER, os.O_PATH)", "return open(f'/proc/self/fd/{fd}/keys.json').read()"),
        _key_file,
    ),
    Attack("create a file", _body("open(FOLDER + '/new', 'w').write('x')", "return 'written'"), _key_file),
    Attack("append to a file", _body("open(PATH, 'a').write('x')", "return 'written'"), _key_file),
    Attack("truncate a file", _body("import os", "os.truncate(PATH, 0)", "return 'truncated'"), _key_file),
    Attack("delete a file", _body("import os", "os.unlink(PATH)", "return 'deleted'"), _key_file),
    Attack("rename a file", _body("import os", "os.rename(PATH, PATH + '2')", "return 'renamed'"), _key_file),
    Attack("link a file", _body("import os", "os.link(PATH, PATH + '2')", "return 'linked'"), _key_file),
    Attack("make a folder", _body("import os", "os.mkdir(FOLDER + '/d')", "return 'made'"), _key_file),
    Attack("change a file's mode", _body("import os", "os.chmod(PATH, 0o777)", "return 'changed'"), _key_file),
    Attack("change a file's times", _body("import os", "os.utime(PATH, (0, 0))", "return 'changed'"), _key_file),
    Attack(
        "write to shared memory",
        _body("import os", "p = f'/dev/shm/koc-attack-{os.getpid()}'", "open(p, 'w').close()", "os.unlink(p)"),
        _nothing,
    ),
    Attack(
        "write to the installed packages",
        _body(
            "import os, msgspec",
            "p = os.path.join(os.path.dirname(msgspec.__file__), f'koc_attack_{os.getpid()}')",
            "open(p, 'w').close()",
            "os.unlink(p)",
        ),
        _nothing,
    ),
]

_HOST = [
    Attack("read the host's environment", _body("return open(f'/proc/{PID}/environ').read(64)"), _decoy),
    Attack("read the host's memory map", _body("return open(f'/proc/{PID}/maps').read(64)"), _decoy),
    Attack("list the host's descriptors", _body("import os", "return os.listdir(f'/proc/{PID}/fd')"), _decoy),
    Attack("see the host's program", _body("import os", "return os.readlink(f'/proc/{PID}/exe')"), _decoy),
    Attack("kill the host", _body("import os", "os.kill(PID, 9)", "return 'killed'"), _decoy),
    Attack("freeze the host", _body("import os", "os.kill(PID, 19)", "return 'stopped'"), _decoy),
    Attack("slow the host down", _body("import os", "os.setpriority(0, PID, 19)", "return 'slowed'"), _decoy),
    Attack(
        "pin the host",
        _body("import os", "os.sched_setaffinity(PID, {min(os.sched_getaffinity(0))})", "return 'pinned'"),
        _decoy,
    ),
    Attack("limit the host", _body("import resource", "resource.prlimit(PID, 7, (9, 9))", "return 'limited'"), _decoy),
    Attack(
        "have the kernel signal the host",
        _body(
            "import fcntl, os",
            "r, w = os.pipe()",
            "fcntl.fcntl(r, fcntl.F_SETOWN, PID)",
            "return 'owner set'",
        ),
        _decoy,
    ),
    Attack("open the host's pid as a file", _body("import os", "return os.pidfd_open(PID)"), _decoy),
]


def _with_address(values: dict[str, Any]) -> dict[str, Any]:
    first = Path(f"/proc/{values['PID']}/maps").read_text().split("-", 1)[0]
    return {**values, "ADDRESS": int(first, 16)}


# Yama, where it is on, forbids these to everybody but a parent or root: then there is no control to compare with.
_YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")
MAY_TRACE = os.geteuid() == 0 or not _YAMA.exists() or _YAMA.read_text().strip() == "0"
_TRACING = [
    Attack("trace the host", _CTYPES + _body("return call(101 if X86 else 117, 0x4206, PID, 0, 0)"), _decoy),
    Attack(
        "read the host's memory",
        _CTYPES
        + _body(
            "mine = ctypes.create_string_buffer(8)",
            "local = (ctypes.c_size_t * 2)(ctypes.addressof(mine), 8)",
            "remote = (ctypes.c_size_t * 2)(ADDRESS, 8)",
            "return call(310 if X86 else 270, PID, ctypes.addressof(local), 1, ctypes.addressof(remote), 1, 0)",
        ),
        lambda folder, stack: _with_address(_decoy(folder, stack)),
    ),
]

_NETWORK = [
    Attack(
        "connect by TCP",
        _body("import socket", "socket.create_connection(('127.0.0.1', PORT)).close()", "return 'connected'"),
        _tcp_server,
    ),
    Attack(
        "send by UDP",
        _body(
            "import socket",
            "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:",
            "    return s.sendto(b'secret', ('127.0.0.1', PORT))",
        ),
        _udp_server,
    ),
    Attack(
        "listen",
        _body("import socket", "socket.create_server(('127.0.0.1', 0)).close()", "return 'listening'"),
        _nothing,
    ),
    Attack(
        "connect to an agent's unix socket",
        _body("import socket", "with socket.socket(socket.AF_UNIX) as s: s.connect(ADDRESS)", "return 'connected'"),
        _unix_server,
    ),
    Attack(
        "connect to an abstract unix socket",
        _body("import socket", "with socket.socket(socket.AF_UNIX) as s: s.connect(ADDRESS)", "return 'connected'"),
        _abstract_server,
    ),
    Attack(
        "ask the kernel for its routes",
        _body("import socket", "with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0): return 'opened'"),
        _nothing,
    ),
    Attack(
        "re-aim a datagram pair",
        _body("import socket", "a, b = socket.socketpair(type=socket.SOCK_DGRAM)", "a.close(); b.close(); return 1"),
        _nothing,
    ),
    Attack(
        "send a descriptor over a socket",
        _body(
            "import socket",
            "a, b = socket.socketpair()",
            "with a, b: return socket.send_fds(a, [b'x'], [0])",
        ),
        _nothing,
    ),
]

_PROCESSES = [
    Attack("fork", _body("import os", "p = os.fork()", "p or os._exit(0)", "return os.waitpid(p, 0)"), _nothing),
    Attack("run a program", _body("import subprocess", "return subprocess.check_output(['/bin/true'])"), _nothing),
    Attack("run a shell", _body("import os", "s = os.system('true')", "if s: raise OSError(s)"), _nothing),
    Attack(
        "spawn a program",
        _body("import os", "return os.waitpid(os.posix_spawn('/bin/true', ['true'], {}), 0)"),
        _nothing,
    ),
    Attack("become another program", _body("import os", "os.execv('/bin/echo', ['echo', 'done: echo'])"), _nothing),
    Attack(
        "clone by hand",
        _CTYPES + _body("p = call(56 if X86 else 220, 17, 0, 0, 0, 0)", "p or os._exit(0)", "return os.waitpid(p, 0)"),
        _nothing,
    ),
    Attack("outlive the host", _CTYPES + _body("return call(157 if X86 else 167, 1, 0, 0, 0, 0)"), _nothing),
    Attack("allow itself to be traced", _CTYPES + _body("return call(157 if X86 else 167, 4, 1, 0, 0, 0)"), _nothing),
    Attack(
        "raise its own limits",
        _body("import resource", "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))", "return 'set'"),
        _nothing,
    ),
    Attack("make a file in memory", _body("import os", "os.close(os.memfd_create('x'))", "return 'made'"), _nothing),
]

ATTACKS = [*_FILES, *_HOST, *_NETWORK, *_PROCESSES]
TRACING_ATTACKS = _TRACING
