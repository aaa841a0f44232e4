"""A build that tests make up: it speaks as installer/build.py does, and does what a scenario says."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from koc_qt.ui.panels.deploy_build_place import Place

_HEAD = """
import json, os, signal, sys, time

target, options = sys.argv[1], sys.argv[2:]
check, fetch = "--check" in options, "--fetch" in options
folder = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(folder, "calls"), "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")


def tell(event, **facts):
    sys.stdout.write(json.dumps({"event": event, **facts}) + "\\n")
    sys.stdout.flush()


def end(code=0):
    tell("end", ok=code == 0)
    raise SystemExit(code)


def wait_for(name):
    while not os.path.exists(os.path.join(folder, name)):
        time.sleep(0.002)


def plan(*seconds):
    tell("plan", target=target, stages=[{"name": f"s{n}", "title": f"Stage {n}", "seconds": s}
                                        for n, s in enumerate(seconds, 1)])


def stage(number, state, seconds=0.0):
    tell("stage", target=target, name=f"s{number}", state=state, seconds=seconds)


def result(name="koc_0.1.0_amd64.deb"):
    tell("result", target=target, path=os.path.join(folder, name), bytes=123456789, sha256="ab" * 32, seconds=3.0)


def need(name, text, advice="", can_fetch=False):
    tell("need", target=target, name=name, text=text, advice=advice, can_fetch=can_fetch)


"""
GOOD = """
if check:
    end()
plan(2, 3)
stage(1, "skipped")
stage(2, "running")
tell("log", text="packing")
stage(2, "done", 3.0)
result()
end()
"""


@dataclass
class BuildScript:
    """A script in a folder of its own; `body` is Python after the words that _HEAD defines."""

    folder: Path
    body: str = GOOD
    path: Path = field(init=False)

    def __post_init__(self) -> None:
        self.path = self.folder / "build.py"
        self.say(self.body)

    def say(self, body: str) -> None:
        """Have it do something else from now on."""
        self.path.write_text(_HEAD + body, encoding="utf-8")

    def place(self) -> Place:
        """Give it as the panel finds it."""
        return Place((sys.executable, "-S", "-E", str(self.path)), self.folder)

    def allow(self, name: str) -> None:
        """Let a `wait_for` of this name go on."""
        (self.folder / name).touch()

    @property
    def calls(self) -> list[str]:
        """The command lines it was given."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []
