"""The proof of the installer for Windows, under Wine: installed silently, used, upgraded while it trades, removed."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from building import chroot, screens, windows_wine
from building.chroot import PERSON
from building.screens import Screen
from building.smoke import CONFIG, FILLS_S, START_S, STOP_S, Proof, engine_answers, fills, need, smoke, until
from building.stages import Build, Stage
from building.windows_wine import Wine, on_c

OLDER = "0.0.1"
HOME = f"users/{PERSON}"  # from the root of drive C:
LOCAL = f"{HOME}/AppData/Local"
PROGRAM = f"{LOCAL}/Programs/KOC"
PROFILE = f"{LOCAL}/koc"
_INSTALL_S = 900.0
_MENU = f"{HOME}/AppData/Roaming/Microsoft/Windows/Start Menu/Programs/K.O.C..lnk"
_DESKTOP = f"{HOME}/Desktop/K.O.C..lnk"
_KEYS = (  # what an installation writes to the registry, below HKEY_CURRENT_USER
    r"Software\Microsoft\Windows\CurrentVersion\Uninstall\KOC",
    r"Software\Microsoft\Windows\CurrentVersion\App Paths\koc.exe",
    r"Software\Classes\KOC.Strategy",
    r"Software\Classes\Applications\koc.exe",
)
# Closes the window that it finds, as a click on X does, and answers the question that comes up in another window with
# Enter, which lets the engine run on. (Qt ends its session before it closes windows, so that at the end of one the
# window asks as well.)
_CLOSE = """
import ctypes, sys, time
from ctypes import c_void_p
user = ctypes.windll.user32
kind = ctypes.WINFUNCTYPE(ctypes.c_bool, c_void_p, c_void_p)
def in_sight():
    found = {}
    def look(handle, _):
        text, process = ctypes.create_unicode_buffer(200), ctypes.c_ulong()
        user.GetWindowTextW(c_void_p(handle), text, 200)
        user.GetWindowThreadProcessId(c_void_p(handle), ctypes.byref(process))
        if user.IsWindowVisible(c_void_p(handle)):
            found[handle] = process.value, text.value
        return True
    user.EnumWindows(kind(look), None)
    return found
before = in_sight()
ours = {handle: process for handle, (process, text) in before.items() if "K.O.C." in text}
for handle in ours:
    user.PostMessageW(c_void_p(handle), 0x10, 0, 0)
for _ in range(300):
    time.sleep(0.1)
    now = in_sight()
    questions = [handle for handle in now if handle not in before and now[handle][0] in ours.values()]
    if questions or not any(handle in now for handle in ours):
        break
time.sleep(1)
for handle in questions:
    for message in (0x100, 0x101):
        user.PostMessageW(c_void_p(handle), message, 13, 0)
print(f"{len(ours)} windows of ours, {len(questions)} questions: {[now[each][1] for each in questions]}")
sys.exit(0 if ours else 1)
"""


def stages() -> list[Stage]:
    """Give what proves an installer, in order."""
    return [
        Stage("older", "Pack an older version to upgrade", _older, 120, lambda _b: [OLDER], lambda b: [_older_file(b)]),
        Stage("install", "Install it into a clean Windows of Wine", _install, 90),
        Stage("use", "Use it there", _use, 240),
        Stage("upgrade", "Upgrade it while it trades", _upgrade, 240),
        Stage("remove", "Remove it while it trades", _remove, 90),
    ]


class WinePlace:
    """The installed program in a Windows of Wine, as an ordinary user has it; implements smoke.Place."""

    def __init__(self, build: Build, wine: Wine, screen: Screen | None = None) -> None:
        self.build = build
        self.samples = f"C:/{PROGRAM}/_internal/strategies"
        self._wine = wine
        self._screen = screen

    def koc(self, *words: str, timeout_s: float = 90.0, allowed: Sequence[int] = (0,)) -> str:
        """Run the installed program to its end; gives what it wrote. Raises BuildError, Cancelled."""
        said: list[str] = []
        program = on_c(f"{PROGRAM}/koc.exe")
        self._wine.run([program, *words], timeout_s=timeout_s, allowed=allowed, heard=said.append)
        return "\n".join(said)

    @contextlib.contextmanager
    def window(self) -> Iterator[subprocess.Popen[bytes]]:
        """Have the program's window open on the screen meanwhile."""
        with self.started() as process:
            yield process

    @contextlib.contextmanager
    def started(self, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Have the program running with these arguments meanwhile; what it says is kept beside the log."""
        output = self.build.work / f"said-{words[0] if words else 'window'}.txt"
        with self._wine.started([on_c(f"{PROGRAM}/koc.exe"), *words], output) as process:
            yield process

    def close_window(self) -> None:
        """Ask the window to close, and let the engine run on."""
        self._wine.run(["Z:\\python\\python.exe", "-I", "-c", _CLOSE])

    def configure(self, text: str) -> None:
        """Write koc.yaml of a fresh profile."""
        words = ["sh", "-c", 'mkdir -p "$(dirname "$1")" && printf %s "$2" >"$1"', "sh"]
        self._wine.inside.run([*words, f"{windows_wine.DRIVE}/{PROFILE}/config/koc.yaml", text], user=PERSON)

    def running(self) -> list[str]:
        """Give the command lines of what runs of the program."""
        script = (
            "for p in /proc/[0-9]*; do c=$(tr '\\0' ' ' <$p/cmdline 2>/dev/null) || continue; "
            'case "$c" in [A-Z]:*koc.exe*) echo "$c";; esac; done'
        )
        words = self._wine.inside.words(["sh", "-c", script])
        found = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        return found.stdout.splitlines()

    def picture(self, name: str, timeout_s: float) -> int:
        """Take a picture of the screen once something is drawn; gives its number of colours."""
        return 0 if self._screen is None else self._screen.drawn(self.build.work / name, timeout_s)


@contextlib.contextmanager
def _place(build: Build, screen: Screen | None = None) -> Iterator[tuple[Wine, WinePlace]]:
    from building import windows_python

    shared = {build.out: "/new", _older_file(build).parent: "/older", windows_python.folder(build): "/python"}
    if screen is not None:
        shared[screens.SOCKETS] = str(screens.SOCKETS)
    display = "" if screen is None else screen.display
    with windows_wine.windows(build, build.work / "installed", shared, PERSON, display) as wine:
        yield wine, WinePlace(build, wine, screen)


def _older_file(build: Build) -> Path:
    return build.work / "older" / f"koc-{OLDER}-setup.exe"


def _older(build: Build) -> None:
    """Pack the same files under an older version: what is proved of an upgrade is how it treats what runs."""
    from building import windows

    file = _older_file(build)
    file.parent.mkdir(parents=True, exist_ok=True)
    windows.pack(build, file, OLDER, is_quick=True)


def _install(build: Build) -> None:
    from building import windows

    proof = Proof(build)
    proof.begin()
    windows_wine.fresh(build, build.work / "installed", PERSON)
    with _place(build) as (wine, place):
        with proof.holds("it refuses a folder that holds something else"):
            foreign = f"{windows_wine.DRIVE}/{HOME}/Köche und Wände"
            wine.inside.run(["sh", "-c", 'mkdir -p "$1" && touch "$1/mine"', "sh", foreign], user=PERSON)
            # not quoted: the installer takes all that follows
            refused = [_setup(windows.name(build)), "/S", *("/D=" + on_c(f"{HOME}/Köche und Wände")).split(" ")]
            wine.run(refused, timeout_s=_INSTALL_S, allowed=(2,))
            wine.inside.run(["sh", "-c", 'test "$(ls "$1")" = mine', "sh", foreign])
        with proof.holds("it installs silently, for one user, without an administrator"):
            wine.run([_setup(windows.name(build)), "/S", "/DESKTOP=1"], timeout_s=_INSTALL_S)
            need(_there(build, f"{PROGRAM}/koc.exe"), "the program is not where it should be")
            need(not _there(build, f"{PROGRAM}/koc-new"), "half an installation was left")
        with proof.holds("Windows knows it: start menu, desktop, list of programs, 'Open with'"):
            need(_there(build, _MENU), "it is not in the start menu")
            need(_there(build, _DESKTOP), "there is no icon on the desktop")
            for key in _KEYS:
                wine.run(["reg", "query", f"HKCU\\{key}"])
        with proof.holds("what opens Python files by a double click stays as it was"):
            said = wine.run(["reg", "query", r"HKCU\Software\Classes\.py", "/ve"])
            need(any("not set" in line for line in said), "another program opens them now")
        need(not place.running(), "something runs after the installation")


def _setup(file: str) -> str:
    return windows_wine.on_z(f"/new/{file}")


def _there(build: Build, path: str) -> bool:
    return (build.work / "installed" / "drive_c" / path).exists()


def _use(build: Build) -> None:
    with screens.screen(build) as screen, _place(build, screen) as (_wine, place):
        smoke(place, Proof(build), badge="unprotected")


def _upgrade(build: Build) -> None:
    from building import windows

    proof = Proof(build)
    with _place(build) as (wine, place):
        wine.run([windows_wine.on_z(f"/older/{_older_file(build).name}"), "/S"], timeout_s=_INSTALL_S)
        place.configure(CONFIG.format(strategy=f"{place.samples}/sma_cross.py"))
        with place.started("engine", "--no-live") as engine:
            until(build, lambda: engine_answers(place), START_S, "no engine answered")
            until(build, lambda: fills(place), FILLS_S, "no fill")
            before = len(fills(place))
            with proof.holds("an upgrade asks the engine that trades to stop in order") as note:
                wine.run([_setup(windows.name(build)), "/S"], timeout_s=_INSTALL_S)
                until(build, lambda: engine.poll() is not None, STOP_S, "the engine still runs")
                need(engine.poll() == 0, f"the engine ended with code {engine.poll()}")
                note("its exit code was 0")
        with proof.holds("what was traded is there after the upgrade, and trading goes on") as note:
            kept = len(fills(place))
            need(kept >= before > 0, f"{kept} fills are left of {before}")
            with place.started("engine", "--no-live"):
                until(build, lambda: engine_answers(place), START_S, "no engine answered")
                until(build, lambda: len(fills(place)) > kept, FILLS_S, "no new fill")
                place.koc("stop", timeout_s=STOP_S)
            note(f"{kept} fills kept")


def _remove(build: Build) -> None:
    proof = Proof(build)
    with _place(build) as (wine, place):
        with place.started("engine", "--no-live") as engine:
            until(build, lambda: engine_answers(place), START_S, "no engine answered")
            with proof.holds("its removal asks the engine to stop in order"):
                wine.run([on_c(f"{PROGRAM}/uninstall.exe"), "/S"], timeout_s=_INSTALL_S)
                # it goes on from a copy of itself, since Windows deletes no program that runs
                until(build, lambda: not _there(build, PROGRAM), STOP_S, "the program's folder is still there")
                until(build, lambda: engine.poll() is not None, STOP_S, "the engine still runs")
                need(engine.poll() == 0, f"the engine ended with code {engine.poll()}")
        with proof.holds("nothing of it is left but the person's data"):
            for left in (_MENU, _DESKTOP):
                need(not _there(build, left), f"{left} is left")
            for key in _KEYS:
                wine.run(["reg", "query", f"HKCU\\{key}"], allowed=(1,))
            need(_there(build, f"{PROFILE}/data/journal.sqlite"), "the person's journal is gone")
            foreign = _foreign_files(build)
            need(not foreign, f"{len(foreign)} files are left: {', '.join(foreign[:10])}")
    chroot.removed(build.work / "installed")


def _foreign_files(build: Build) -> list[str]:
    """List what the program left beside its profile, in the person's folders."""
    root = build.work / "installed" / "drive_c"
    found = []
    for folder, _, files in os.walk(root / HOME):
        here = Path(folder).relative_to(root).as_posix()
        if not here.startswith((PROFILE, f"{LOCAL}/Temp", f"{HOME}/Temp")):
            found += [f"{here}/{file}" for file in files if "koc" in f"{here}/{file}".lower()]
    return found
