"""A small system of its own to install into: made once with debootstrap, copied for each proof.

What is mounted in it is mounted in a namespace of a process that holds it: whatever ends this build, even `kill -9`,
ends that process, and with it go the mounts and all that runs inside. Nothing of the machine can be deleted through it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from building import commands, tools
from building.stages import Build, Stage, need_space
from building.trouble import BuildError

SPACE = 3_000_000_000  # bytes: the system, a copy of it, an installed program
PERSON = "person"
PERSONS_HOME = "/home/Jürgen Groß"  # a home need not be plain ASCII, or without spaces
_DEBOOTSTRAP_S, _INSTALL_S = 1800.0, 1800.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# what is mounted by a program that is started so ends with it, and so does all that it has started
_APART = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
_HOLDER = """
import os, signal, stat, subprocess, sys

def mount(*words):
    subprocess.run(["mount", *words], check=True)

root, shared = sys.argv[1], sys.argv[2:]
mount("--bind", root, root)
mount("-t", "proc", "proc", root + "/proc")
mount("-t", "sysfs", "-o", "ro", "sysfs", root + "/sys")
mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", root + "/dev")
os.umask(0)
devices = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}
for name, (major, minor) in {**devices, "fuse": (10, 229)}.items():
    os.mknod(root + "/dev/" + name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
links = {"fd": "/proc/self/fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2", "ptmx": "pts/ptmx"}
for name, target in links.items():
    os.symlink(target, root + "/dev/" + name)
for name, kind, options in (("shm", "tmpfs", "mode=1777"), ("pts", "devpts", "newinstance,ptmxmode=0666")):
    os.mkdir(root + "/dev/" + name, 0o755)
    mount("-t", kind, "-o", options, kind, root + "/dev/" + name)
os.umask(0o022)
mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", root + "/tmp")
for each in shared:
    place, _, name = each.partition("|")
    os.makedirs(root + name, exist_ok=True)
    mount("--bind", place, root + name)

def reap(*_):
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass

signal.signal(signal.SIGCHLD, reap)
print("ready", flush=True)
while os.read(0, 1):  # until whoever started this has ended
    pass
"""


def needs() -> list[tools.Need]:
    """Give what this machine lacks for a system of its own."""
    wanted = tools.programs(("debootstrap", "unshare", "nsenter"), "makes a clean system to install into")
    return [*tools.linux("that can be done"), *tools.root("debootstrap and chroot need"), *wanted]


def codename() -> str:
    """Give the name of this machine's own release, such as bookworm. Raises BuildError."""
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise BuildError("this system does not say which release it is", "Use Debian 12, Ubuntu 22.04, or newer.")


def mirror(build: Build) -> str:
    """Give the address that this machine's apt takes its own release from. Raises BuildError."""
    form = ["--format", "$(REPO_URI) $(CODENAME) $(COMPONENT)", "Created-By: Packages"]
    own = codename()
    for line in build.run(["apt-get", "indextargets", *form]):
        address, name, component = [*line.split(), "", "", ""][:3]
        if (name, component) == (own, "main"):
            return address
    raise BuildError(f"apt knows no source of {own} main", "Add one to /etc/apt, run 'apt-get update', start again.")


class System:
    """A debootstrapped system: the clean one of a release, with packages that were wanted in it.

    `release` is this machine's own unless another one is named, which the same mirror must have.
    """

    def __init__(self, build: Build, release: str = "", packages: Sequence[str] = (), name: str = "clean") -> None:
        self.release = release or codename()
        self.packages = tuple(packages)
        self.folder = build.builds / "systems" / f"{self.release}-{name}"

    def stage(self, seconds: float = 90.0) -> Stage:
        """Give the stage that makes it, where it is not there."""
        return Stage(
            f"system-{self.folder.name}",
            f"Make a clean {self.release} system",
            self.make,
            seconds,
            inputs=lambda _build: [self.release, *self.packages],
            outputs=lambda _build: [self.folder],
            part="systems",
        )

    def make(self, build: Build) -> None:
        """Make it, whole or not at all. Raises BuildError, Cancelled."""
        partial = self.folder.with_name(f".{self.folder.name}.partial")
        for old in (partial, self.folder):
            removed(old)
        partial.parent.mkdir(parents=True, exist_ok=True)
        need_space(partial.parent, SPACE)
        options = ["--variant=minbase", f"--cache-dir={_made(build.builds / 'downloads' / 'deb')}"]
        done = 0

        def heard(line: str) -> None:
            nonlocal done
            done += 1
            if done % 20 == 0:
                build.step(min(0.8, done / 600))

        try:
            words: list[str | Path] = ["debootstrap", *options, self.release, partial, mirror(build)]
            build.run([*_APART, *words], timeout_s=_DEBOOTSTRAP_S, heard=heard, name="debootstrap")
            _share_network(partial)
            with inside(build, partial) as system:
                system.run(["apt-get", "-q", "update"], timeout_s=_INSTALL_S)
                if self.packages:
                    system.install(*self.packages)
                system.run(["useradd", "--create-home", "--home-dir", PERSONS_HOME, "--shell", "/bin/sh", PERSON])
            partial.replace(self.folder)
        finally:
            removed(partial)

    def copy(self, build: Build, to: Path) -> Path:
        """Give a copy of it to install into."""
        removed(to)
        to.parent.mkdir(parents=True, exist_ok=True)
        build.run(["cp", "--archive", "--reflink=auto", self.folder, to])
        return to


class Inside:
    """A system that is running, in the sense that programs can be run in it."""

    def __init__(self, build: Build, root: Path, holder: int) -> None:
        self.build = build
        self.root = root
        self._enter = ["nsenter", f"--target={holder}", "--mount", "--pid"]

    def words(self, command: Sequence[str], user: str = "root", env: Mapping[str, str] | None = None) -> list[str]:
        """Give the command of the machine that runs a command inside, with an environment of its own."""
        home = "/root" if user == "root" else PERSONS_HOME
        own = {"PATH": _PATH, "HOME": home, "USER": user, "LANG": "C.UTF-8", "TERM": "dumb", **(env or {})}
        if user == "root":
            own["DEBIAN_FRONTEND"] = "noninteractive"
        changed = ["chroot", f"--userspec={user}:{user}", "--groups=", str(self.root)]
        given = [f"{name}={value}" for name, value in own.items()]
        return [*self._enter, "--", *changed, "env", "-i", f"--chdir={home}", *given, *command]

    def run(
        self,
        command: Sequence[str],
        *,
        user: str = "root",
        env: Mapping[str, str] | None = None,
        timeout_s: float = 300.0,
        allowed: Sequence[int] = (0,),
        heard: Callable[[str], None] = lambda _line: None,
    ) -> list[str]:
        """Run a command inside; gives its last lines. Raises BuildError, Cancelled."""
        words = self.words(command, user, env)
        name = f"{shlex.join(command)[:200]} (as {user} in {self.root.name})"
        return self.build.run(words, timeout_s=timeout_s, allowed=allowed, heard=heard, name=name)

    @contextlib.contextmanager
    def started(
        self, command: Sequence[str], output: Path, user: str = PERSON, env: Mapping[str, str] | None = None
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Have a program running inside meanwhile, its output in a file of the machine."""
        with output.open("wb") as file:
            process = subprocess.Popen(
                self.words(command, user, env),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                yield process
            finally:
                commands.end_group(process)

    def install(self, *packages: str) -> None:
        """Install Debian packages, or files that are such by their paths inside."""
        words = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages]
        self.run(words, timeout_s=_INSTALL_S)

    def programs_of(self, path: str) -> dict[int, list[str]]:
        """Give the command lines of what runs inside from this file or below this folder, by their ids inside."""
        script = (
            'for p in /proc/[0-9]*; do e=$(readlink "$p/exe" 2>/dev/null) || continue; '
            'case "$e" in "$1"|"$1"/*|"$1 (deleted)") echo "${p#/proc/} $(tr "\\0" " " < "$p/cmdline")";; esac; done'
        )
        found = subprocess.run(
            self.words(["sh", "-c", script, "sh", path]), capture_output=True, text=True, timeout=60, check=True
        )
        lines = [line.split() for line in found.stdout.splitlines()]
        return {int(words[0]): words[1:] for words in lines if words}


@contextlib.contextmanager
def inside(build: Build, root: Path, shared: Mapping[Path, str] | None = None) -> Iterator[Inside]:
    """Have a system run: gives what runs programs in it. Whatever runs there at the end is ended.

    `shared` are folders of the machine and where they are inside. Raises BuildError where this may not be done.
    """
    binds = [f"{place}|{name}" for place, name in (shared or {}).items()]
    words = [*_APART, sys.executable, "-I", "-c", _HOLDER]
    holder = subprocess.Popen(
        [*words, str(root), *binds],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        said = holder.stdout.readline().decode(errors="replace").strip()
        if said != "ready":
            rest = holder.stdout.read().decode(errors="replace").strip()
            raise BuildError(
                f"nothing can be mounted here: {rest.splitlines()[-1] if rest else said}",
                "Run it as root of the machine itself: a container without the right to mount cannot do this.",
            )
        yield Inside(build, root, _child(holder.pid))
    finally:
        _end(holder)


def _child(pid: int) -> int:
    """Give the only child of a process, once there is one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if words := children.read_text().split():
            return int(words[0])
        time.sleep(0.02)
    raise BuildError("the holder of the system's mounts did not start")


def _end(holder: subprocess.Popen[bytes]) -> None:
    for stream in (holder.stdin, holder.stdout):
        if stream is not None:
            stream.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        holder.wait(timeout=10)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(holder.pid, signal.SIGKILL)
    holder.wait(timeout=10)


def removed(folder: Path) -> None:
    """Delete a system that does not run: what was mounted in it was never mounted on the machine."""
    if folder.exists():
        shutil.rmtree(folder)


def _share_network(root: Path) -> None:
    """Let apt inside reach what apt outside reaches: names, proxies, and how its sources may be."""
    shutil.copyfile("/etc/resolv.conf", root / "etc" / "resolv.conf")
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, timeout=30, check=True).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Check-")
    kept = [line for line in dump.splitlines() if line.startswith(wanted)]
    (root / "etc" / "apt" / "apt.conf.d" / "90machine").write_text("\n".join([*kept, ""]), encoding="utf-8")


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
