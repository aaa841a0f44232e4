"""Writes docs/installers.md: what was built and proved at last, with sizes and times, a section a target."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from building import bundle
from building.events import duration
from building.stages import Build, Stage, made, read_json, write_whole

TITLES = {
    "bundle": "The frozen program",
    "ubuntu": "Ubuntu and Debian (.deb)",
    "appimage": "AppImage",
    "docker": "Docker",
    "windows": "Windows",
}
_COMPONENTS = 12


def write(build: Build, stages: Sequence[Stage], now: Callable[[], float] = time.time) -> Path:
    """Put what came of a target into the document, in the place of what was there of it. Gives the document."""
    file = build.root / "docs" / "installers.md"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    intro = (build.root / "installer" / "installers.md.in").read_text(encoding="utf-8")
    kept = {name: _kept(text, name) for name in TITLES}
    kept[build.target] = _target(build, stages, now())
    if build.bundle.is_dir():
        kept["bundle"] = _bundle(build)
    sections = [
        f"<!-- {name} -->\n## {title}\n{kept[name].strip()}\n<!-- end of {name} -->"
        for name, title in TITLES.items()
        if kept[name]
    ]
    write_whole(file, "\n\n".join([intro.strip(), *sections]) + "\n")
    return file


def _kept(text: str, name: str) -> str:
    """Give what the document says of a target, without its title."""
    found = re.search(rf"<!-- {name} -->\n## [^\n]*\n(.*?)<!-- end of {name} -->", text, re.DOTALL)
    return found[1] if found else ""


def _target(build: Build, stages: Sequence[Stage], now: float) -> str:
    times = read_json(build.builds / "times.json")
    took = [(stage.title, times.get(f"{stage.part or build.target}/{stage.name}")) for stage in stages]
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    tightly = " Packed with --quick: larger than it need be." if build.is_quick else ""
    parts = [f"Version {build.version}, {day}, on {machine()}.{tightly}", _artefacts(build, stages)]
    conditions = read_json(build.work / "proof.json").get("conditions", [])
    if conditions:
        parts.append(_proof(conditions))
    rows = "\n".join(f"| {title} | {duration(seconds)} |" for title, seconds in took if seconds is not None)
    parts.append(f"| stage | took |\n| --- | --- |\n{rows}")
    return "\n\n".join(part for part in parts if part)


def machine() -> str:
    """Say what this machine is: its system, and how many cores it has."""
    system = platform.system()
    if Path("/etc/os-release").exists():
        system = platform.freedesktop_os_release().get("PRETTY_NAME", system)
    return f"{system} with {os.cpu_count()} cores"


def _artefacts(build: Build, stages: Sequence[Stage]) -> str:
    files = made(build, stages)
    if not files:
        return ""
    rows = "\n".join(
        f"| `{Path(each['path']).name}` | {each['bytes'] / 1e6:.1f} MB | `{each['sha256']}` |" for each in files
    )
    return f"| file | size | SHA-256 |\n| --- | --- | --- |\n{rows}"


def _proof(conditions: Sequence[dict[str, Any]]) -> str:
    """List what was proved; text of programs is kept from meaning something in a table."""
    rows = []
    for each in conditions:
        name, text = (str(each[key]).replace("|", "/").replace("\n", " ") for key in ("name", "text"))
        rows.append(f"| {name} | {'yes' if each['ok'] else '**no**'} | {text} | {duration(each['seconds'])} |")
    return "| what must hold | holds | figure | took |\n| --- | --- | --- | --- |\n" + "\n".join(rows)


def _bundle(build: Build) -> str:
    whole = bundle.components(build.bundle)
    shown, rest = whole[:_COMPONENTS], whole[_COMPONENTS:]
    rows = [f"| {name} | {size / 1e6:.1f} |" for name, size in shown]
    rows.append(f"| {len(rest)} others | {sum(size for _, size in rest) / 1e6:.1f} |")
    rows.append(f"| all | {sum(size for _, size in whole) / 1e6:.1f} |")
    return "What Linux installers pack.\n\n| part | MB |\n| --- | --- |\n" + "\n".join(rows)
