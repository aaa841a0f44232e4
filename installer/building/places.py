"""The installed program as an ordinary user has it: inside a clean system, on a screen, with a fresh profile."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from building.chroot import PERSON, PERSONS_HOME, Inside
from building.screens import Screen
from building.stages import Build

PROFILE = f"{PERSONS_HOME}/Mein Profil"


def send(system: Inside, signal: str, *numbers: int) -> None:
    """Send a signal such as TERM to processes inside, by their ids there; one that has just ended is as good."""
    if numbers:  # kill is a word of the shell: a small system has no such program
        system.run(["sh", "-c", f"kill -{signal} {' '.join(map(str, numbers))} 2>/dev/null; true"])


class SystemPlace:
    """A program inside a system that is running. `words` start it, `path` is the file or folder that it runs from."""

    def __init__(self, system: Inside, screen: Screen | None, words: Sequence[str], path: str, samples: str) -> None:
        self.build: Build = system.build
        self.samples = samples
        self._system = system
        self._screen = screen
        self._words = list(words)
        self._path = path
        self.environment: dict[str, str] = {"KOC_HOME": PROFILE}

    @property
    def profile(self) -> Path:
        """The profile's folder, as the machine sees it."""
        return self._system.root / PROFILE.lstrip("/")

    def koc(self, *words: str, timeout_s: float = 60.0, allowed: Sequence[int] = (0,)) -> str:
        """Run the installed program to its end; gives what it wrote. Raises BuildError, Cancelled."""
        said: list[str] = []
        self._system.run(
            [*self._words, *words],
            user=PERSON,
            env=self.environment,
            timeout_s=timeout_s,
            allowed=allowed,
            heard=said.append,
        )
        return "\n".join(said)

    @contextlib.contextmanager
    def window(self) -> Iterator[subprocess.Popen[bytes]]:
        """Have the program's window open on the screen meanwhile."""
        with self.started([], self._display()) as process:
            yield process

    @contextlib.contextmanager
    def started(self, words: Sequence[str], env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
        """Have the program running with these arguments meanwhile; what it says is kept beside the log."""
        output = self.build.work / f"said-{words[0] if words else 'window'}.txt"
        given = {**self.environment, **(env or {})}
        with self._system.started([*self._words, *words], output, env=given) as process:
            yield process

    def close_window(self) -> None:
        """Ask the window to close, as a session that ends does."""
        for number, line in self._system.programs_of(self._path).items():
            if line[1:2] not in (["engine"], ["worker"]):
                send(self._system, "TERM", number)

    def configure(self, text: str) -> None:
        """Write koc.yaml of a fresh profile."""
        user = self.owner()
        for folder in (self.profile, self.profile / "config"):
            folder.mkdir(mode=0o700, exist_ok=True)
            os.chown(folder, *user)
        file = self.profile / "config" / "koc.yaml"
        file.write_text(text, encoding="utf-8")
        os.chown(file, *user)

    def owner(self) -> tuple[int, int]:
        """Give the ids of the ordinary user inside."""
        for line in (self._system.root / "etc" / "passwd").read_text(encoding="utf-8").splitlines():
            name, _, user, group, *_ = line.split(":")
            if name == PERSON:
                return int(user), int(group)
        return pwd.getpwnam("nobody")[2:4]

    def running(self) -> list[str]:
        """Give the command lines of what runs of the program."""
        return [" ".join(line) for line in self._system.programs_of(self._path).values()]

    def picture(self, name: str, timeout_s: float) -> int:
        """Take a picture of the screen once something is drawn; gives its number of colours."""
        return 0 if self._screen is None else self._screen.drawn(self.build.work / name, timeout_s)

    def _display(self) -> dict[str, str]:
        return {} if self._screen is None else {"DISPLAY": self._screen.display, "QT_QPA_PLATFORM": "xcb"}
