"""Runs a target's stages in order, skips what need not be done again, and tells how far it is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from building import commands
from building.events import Events, shortened
from building.signing import SIGNATURES
from building.trouble import BuildError, Cancelled, Failure, advice_for, from_os_error

__all__ = ["Build", "BuildError", "Cancelled", "Failure", "Stage", "run_stages"]

_PROGRESS_S = 0.5
_LOG_LIMIT = 20_000_000  # bytes of one log; what comes after is told, not kept
Inputs = Iterable[Path | str]


@dataclass(frozen=True)
class Stage:
    """One thing that is done for a target.

    `seconds` is how long it takes on two cores, until it has been measured here. `inputs` names what its result is
    made of: files and folders (their content counts) and texts; it is skipped while these, its own code and the stages
    before it are as they were and `outputs` are there. Without `inputs` it is run every time. `part` is the folder
    below build/ that it works in where that is not the target's own: other targets share what it made, and it depends
    on stages of that part alone.
    """

    name: str
    title: str
    run: Callable[[Build], None]
    seconds: float
    inputs: Callable[[Build], Inputs] | None = None
    outputs: Callable[[Build], Iterable[Path]] = lambda _build: ()
    part: str = ""


@dataclass
class Build:
    """What a stage is given: where to work, how to run programs, how to say how far it is.

    `root` is the checkout, `work` the target's own folder (build/TARGET), `out` where artefacts go (dist/). `bundle`
    is the folder of the frozen program, one that the person named with --bundle, or else build/bundle/koc. With
    `is_quick` artefacts may be larger than they need be.
    """

    root: Path
    target: str
    events: Events
    out: Path
    builds: Path
    given_bundle: Path | None = None
    is_cancelled: Callable[[], bool] = lambda: False
    is_quick: bool = False
    _now: _Progress | None = None
    _results: list[dict[str, Any]] = field(default_factory=list)

    @property
    def work(self) -> Path:
        """The folder that this target works in."""
        return self.builds / self.target

    @property
    def log(self) -> Path:
        """What was done and what programs said."""
        return self.work / "build.log"

    @property
    def bundle(self) -> Path:
        """The folder of the frozen program."""
        return self.given_bundle or self.builds / "bundle" / "koc"

    @property
    def version(self) -> str:
        """The version of K.O.C. in this checkout. Raises BuildError."""
        text = (self.root / "koc_qt" / "version.py").read_text(encoding="utf-8")
        found = re.search(r'__version__ = "([^"]+)"', text)
        if not found:
            raise BuildError(f"{self.root / 'koc_qt' / 'version.py'} names no version", "Restore this file.")
        return found[1]

    def say(self, text: str) -> None:
        """Tell a line, and keep it in the log."""
        line = shortened(text)
        self.work.mkdir(parents=True, exist_ok=True)
        if not self.log.exists() or self.log.stat().st_size < _LOG_LIMIT:
            with self.log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        self.events.emit("log", text=line)

    def step(self, fraction: float) -> None:
        """Tell how much of this stage is done, 0..1. Raises Cancelled."""
        if self._now is not None:
            self._now.step(fraction)
        self.check()

    def check(self) -> None:
        """Go on, or end here because the person wants it. Raises Cancelled."""
        if self.is_cancelled():
            raise Cancelled
        if self._now is not None:
            self._now.tell()

    def run(
        self,
        command: Sequence[str | Path],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout_s: float = commands.TIMEOUT_S,
        heard: Callable[[str], None] = lambda _line: None,
        allowed: Sequence[int] = (0,),
        name: str = "",
    ) -> list[str]:
        """Run a program, its output to the log; gives its last lines. Raises BuildError, Cancelled."""

        def hear(line: str) -> None:
            self.say(line)
            heard(line)

        self.say("$ " + (name or " ".join(os.fspath(word) for word in command)))
        return commands.run(
            command,
            cwd=cwd or self.root,
            env=env,
            timeout_s=timeout_s,
            heard=hear,
            meanwhile=self.check,
            is_cancelled=self.is_cancelled,
            allowed=allowed,
            name=name,
        )

    @contextlib.contextmanager
    def artefact(self, name: str) -> Iterator[Path]:
        """Give a path to make an artefact at; it is in `out` under its name, with its sum, once it is whole."""
        self.out.mkdir(parents=True, exist_ok=True)
        started, partial, final = time.monotonic(), self.out / f".{name}.partial", self.out / name
        _remove(partial)
        try:
            yield partial
            digest = file_sha256(partial, self.check)
            sums = self.out / f".{name}.sha256.partial"
            sums.write_text(f"{digest}  {name}\n", encoding="ascii")
            for made in (partial, sums):
                _give_back(made)
            for ending in SIGNATURES:  # of what was there before
                _remove(self.out / f"{name}{ending}")
            partial.replace(final)
            sums.replace(self.out / f"{name}.sha256")
        finally:
            _remove(partial)
        self._result(
            path=str(final), bytes=final.stat().st_size, sha256=digest, seconds=round(time.monotonic() - started, 1)
        )

    def _result(self, **facts: Any) -> None:
        self._results.append(facts)
        self.events.emit("result", target=self.target, **facts)


def run_stages(build: Build, stages: Sequence[Stage], fresh: bool = False) -> Failure | None:
    """Do what must be done of these stages; gives what ended them, None where all is done."""
    progress = _Progress(build, stages)
    stage_name = stages[0].name if stages else build.target
    try:
        with _in_order(build, progress):
            build.events.emit("plan", target=build.target, stages=progress.plan())
            keys: dict[str, str] = {}
            ran: set[str] = set()
            for stage in stages:
                stage_name, part = stage.name, stage.part or build.target
                # what other targets share depends on nothing of this one
                before = [part] if stage.part else list(keys)
                keys[part] = _key([keys.get(each, "") for each in before], stage, build)
                if _run_stage(build, stage, keys[part], fresh or not ran.isdisjoint(before), progress):
                    ran.add(part)
    except Cancelled:
        return Failure(stage_name, "The build was stopped.", "Start it again: it goes on where it stopped.", True)
    except BuildError as error:
        return Failure(stage_name, error.text, error.advice)
    except OSError as error:
        trouble = from_os_error(error)
        return Failure(stage_name, trouble.text, trouble.advice)
    return None


@contextlib.contextmanager
def _in_order(build: Build, progress: _Progress) -> Iterator[None]:
    """Make the work folder, begin its log anew, and remember how long stages took, whatever ends them."""
    build.work.mkdir(parents=True, exist_ok=True)
    build.log.unlink(missing_ok=True)
    build._now = progress
    try:
        yield
    finally:
        build._now = None


def _stamp(build: Build, stage: Stage) -> Path:
    return build.builds / (stage.part or build.target) / "stamps" / f"{stage.name}.json"


def _run_stage(build: Build, stage: Stage, key: str, must_run: bool, progress: _Progress) -> bool:
    """Run a stage or skip it; gives whether it was run."""
    stamp = _stamp(build, stage)
    kept = None if must_run or stage.inputs is None else _usable(stamp, key, stage, build)
    if kept is not None:
        progress.skip(stage)
        for facts in kept:
            build._result(**facts)
        return False
    stamp.unlink(missing_ok=True)
    build._results = []
    progress.begin(stage)
    try:
        build.check()
        stage.run(build)
    except BaseException:
        progress.end(stage, "failed")
        raise
    seconds = progress.end(stage, "done")
    write_whole(stamp, json.dumps({"key": key, "seconds": seconds, "results": build._results}))
    return True


def made(build: Build, stages: Sequence[Stage]) -> list[dict[str, Any]]:
    """Give what these stages made when they were run last: path, bytes, sha256 and seconds of each."""
    found: list[dict[str, Any]] = []
    for stage in stages:
        found += read_json(_stamp(build, stage)).get("results", [])
    return found


def _usable(stamp: Path, key: str, stage: Stage, build: Build) -> list[dict[str, Any]] | None:
    """Give the artefacts of a stage that need not be run again, None where it must be."""
    noted = read_json(stamp)
    results: list[dict[str, Any]] = noted.get("results", [])
    there = [Path(facts["path"]) for facts in results]
    whole = all(
        path.is_file() and path.stat().st_size == facts["bytes"] for path, facts in zip(there, results, strict=True)
    )
    same_out = all(path.parent == build.out for path in there)
    if noted.get("key") != key or not whole or not same_out or not all(path.exists() for path in stage.outputs(build)):
        return None
    return results


def _key(before: Sequence[str], stage: Stage, build: Build) -> str:
    """Give what tells two runs of a stage apart: all that came before, its code and its inputs."""
    total = hashlib.sha256("\0".join([*before, stage.name, ""]).encode())
    code = getattr(stage.run, "__code__", None)
    if code is not None and Path(code.co_filename).is_file():
        total.update(Path(code.co_filename).read_bytes())
    for item in stage.inputs(build) if stage.inputs else ():
        total.update(folder_sha256(item, build.check).encode() if isinstance(item, Path) else item.encode())
        total.update(b"\0")
    return total.hexdigest()


class _Progress:
    """How far a target is: what stages took last time is how long they take."""

    def __init__(self, build: Build, stages: Sequence[Stage]) -> None:
        self._build = build
        self._expected = {stage.name: self._last(stage) for stage in stages}
        self._stages = list(stages)
        self._over: set[str] = set()
        self._stage: Stage | None = None
        self._started = self._told = 0.0
        self._fraction = 0.0

    def plan(self) -> list[dict[str, Any]]:
        return [{"name": s.name, "title": s.title, "seconds": round(self._expected[s.name], 1)} for s in self._stages]

    def begin(self, stage: Stage) -> None:
        self._stage, self._started, self._fraction = stage, time.monotonic(), 0.0
        self._emit(stage, "running", 0.0)
        self.tell(at_once=True)

    def step(self, fraction: float) -> None:
        self._fraction = min(1.0, max(self._fraction, fraction))

    def skip(self, stage: Stage) -> None:
        self._over.add(stage.name)
        self._emit(stage, "skipped", 0.0)

    def end(self, stage: Stage, state: str) -> float:
        seconds = time.monotonic() - self._started
        self._over.add(stage.name)
        self._stage = None
        self._emit(stage, state, seconds)
        if state == "done":
            times = self._build.builds / "times.json"
            write_whole(times, json.dumps({**read_json(times), self._id(stage): round(seconds, 1)}, indent=1))
        return seconds

    def tell(self, at_once: bool = False) -> None:
        """Tell how far it is, not too often."""
        now = time.monotonic()
        if self._stage is None or (now - self._told < _PROGRESS_S and not at_once):
            return
        self._told = now
        expected, spent = max(0.1, self._expected[self._stage.name]), now - self._started
        # what no step says is guessed from the time, and never guessed to be over
        part = max(self._fraction, min(0.95, spent / expected))
        left = (1 - part) * (max(expected, spent / part) if self._fraction and part > 0.05 else expected)
        total = sum(self._expected.values()) or 1.0
        over = sum(self._expected[name] for name in self._over)
        waiting = total - over - expected
        self._build.events.emit(
            "progress",
            target=self._build.target,
            name=self._stage.name,
            fraction=round(min(1.0, (over + part * expected) / total), 4),
            stage_fraction=round(part, 4),
            remaining_s=round(max(0.0, left + max(0.0, waiting)), 1),
        )

    def _last(self, stage: Stage) -> float:
        known = read_json(self._build.builds / "times.json").get(self._id(stage))
        return float(known) if isinstance(known, int | float) else stage.seconds

    def _id(self, stage: Stage) -> str:
        return f"{stage.part or self._build.target}/{stage.name}"

    def _emit(self, stage: Stage, state: str, seconds: float) -> None:
        self._build.events.emit(
            "stage", target=self._build.target, name=stage.name, state=state, seconds=round(seconds, 1)
        )


# ---- files ----------------------------------------------------------------------------------------------------------


def file_sha256(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """Give the SHA-256 of a file's content; `check` is called now and then."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(4_194_304):
            total.update(chunk)
            check()
    return total.hexdigest()


def folder_sha256(path: Path, check: Callable[[], None] = lambda: None) -> str:
    """Give a sum over the names, links and contents below a folder, or of a file; Python's caches do not count."""
    if not path.is_dir():
        return file_sha256(path, check) if path.exists() else "missing"
    total = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        for name in sorted([*files, *links]):
            file = Path(folder) / name
            content = f"-> {file.readlink()}" if file.is_symlink() else file_sha256(file, check)
            total.update(f"{file.relative_to(path).as_posix()}\0{content}\0".encode(errors="surrogateescape"))
    return total.hexdigest()


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """Give the object in a file, an empty one where there is none."""
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _give_back(path: Path) -> None:
    """Let a file that was made with sudo belong to whoever used sudo."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if hasattr(os, "chown") and user.isdecimal() and group.isdecimal():
        os.chown(path, int(user), int(group))


def need_space(folder: Path, needed: int) -> None:
    """Go on where that many bytes are free. Raises BuildError."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        text = f"no space left on device for {folder}: {free // 1_000_000} MB are free, {needed // 1_000_000} needed"
        raise BuildError(text, advice_for([text]))
