"""What a build tells while it runs: a line of JSON each for a program, or readable lines for a person.

The events, each a JSON object with "event" and:

    plan      target, stages: [{name, title, seconds}]           seconds: how long it took last time, or is expected to
    stage     target, name, state: running|done|skipped|failed, seconds
    progress  target, name, fraction, stage_fraction, remaining_s    fraction: 0..1 of the whole target
    log       text                                               a line, without its end
    need      target, name, text, advice, can_fetch
    result    target, path, bytes, sha256, seconds
    failed    target, stage, text, advice
    end       ok
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any, Protocol, TextIO

LINE_LIMIT = 2_000  # characters of a line of the log
_PROGRESS_S = 5.0  # a person is told no more often


class Events(Protocol):
    """Whoever is told of a build."""

    def emit(self, event: str, **facts: Any) -> None:
        """Tell one event. Raises OSError where nobody can hear it any more."""


class JsonEvents:
    """Writes each event as a line of JSON."""

    def __init__(self, stream: TextIO = sys.stdout) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def emit(self, event: str, **facts: Any) -> None:
        """Write one line, at once."""
        line = json.dumps({"event": event, **facts}, ensure_ascii=True)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


class TextEvents:
    """Writes what a person wants to know; lines of the log only where `verbose`."""

    def __init__(self, stream: TextIO = sys.stdout, verbose: bool = False) -> None:
        self._stream = stream
        self._verbose = verbose
        self._titles: dict[str, str] = {}
        self._told = 0.0

    def emit(self, event: str, **facts: Any) -> None:
        """Write a readable line, or none."""
        text = getattr(self, f"_{event}")(facts)
        if text:
            print(text, file=self._stream, flush=True)

    def _plan(self, facts: dict[str, Any]) -> str:
        self._titles = {stage["name"]: stage["title"] for stage in facts["stages"]}
        total = sum(stage["seconds"] for stage in facts["stages"])
        return f"{facts['target']}: {len(facts['stages'])} stages, about {duration(total)} if all must be run"

    def _stage(self, facts: dict[str, Any]) -> str:
        title = self._titles.get(facts["name"], facts["name"])
        self._told = time.monotonic()
        match facts["state"]:
            case "running":
                return f"[    ] {title} ..."
            case "skipped":
                return f"[skip] {title}: nothing has changed since it was done"
            case "done":
                return f"[done] {title} ({duration(facts['seconds'])})"
        return f"[FAIL] {title} ({duration(facts['seconds'])})"

    def _progress(self, facts: dict[str, Any]) -> str:
        if time.monotonic() - self._told < _PROGRESS_S:
            return ""
        self._told = time.monotonic()
        return f"[{facts['fraction']:4.0%}] about {duration(facts['remaining_s'])} to go"

    def _log(self, facts: dict[str, Any]) -> str:
        return f"       {facts['text']}" if self._verbose else ""

    def _need(self, facts: dict[str, Any]) -> str:
        fetch = " (--fetch does it)" if facts["can_fetch"] else ""
        return f"missing for {facts['target']}: {facts['text']}\n         {facts['advice']}{fetch}"

    def _result(self, facts: dict[str, Any]) -> str:
        return f"{facts['path']}  {facts['bytes'] / 1e6:.1f} MB\n  sha256 {facts['sha256']}"

    def _failed(self, facts: dict[str, Any]) -> str:
        return f"{facts['target']} failed at {facts['stage']}: {facts['text']}\n  {facts['advice']}"

    def _end(self, facts: dict[str, Any]) -> str:
        return "all is well" if facts["ok"] else "not done"


def duration(seconds: float) -> str:
    """Say how long: `8 s`, `3 min 20 s`, `1 h 5 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def shortened(line: str) -> str:
    """Give a line as the log keeps it: without control characters, and of a bounded length."""
    clean = "".join(letter if letter.isprintable() or letter == "\t" else "�" for letter in line.rstrip())
    return clean if len(clean) <= LINE_LIMIT else clean[: LINE_LIMIT - 1] + "…"
