"""Reads a Dockerfile, and does in a system that is not a container what each of its instructions says.

It knows the instructions that ours uses, and refuses any other: what is proved is what is shipped.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from building.chroot import Inside
from building.trouble import BuildError


@dataclass
class Image:
    """What a Dockerfile made: how its program is started."""

    env: dict[str, str] = field(default_factory=dict)
    user: str = "root"
    folder: str = "/"
    volumes: list[str] = field(default_factory=list)
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stop_signal: str = "SIGTERM"


def instructions(text: str) -> list[tuple[str, str]]:
    """Give the instructions of a Dockerfile with what follows each, continued lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0].upper(), line.split(None, 1)[1].strip()) for line in joined.splitlines()]


def follow(text: str, context: Path, system: Inside) -> Image:
    """Do what a Dockerfile says in a system that stands for its base. Raises BuildError."""
    image = Image()
    for word, rest in instructions(text):
        _do(word, rest, image, context, system)
    if not image.entrypoint:
        raise BuildError("the Dockerfile starts nothing")
    return image


def _do(word: str, rest: str, image: Image, context: Path, system: Inside) -> None:
    match word:
        case "ARG" | "FROM":
            pass  # the system that it is done in stands for the base
        case "RUN":
            system.run(["sh", "-ec", rest], user=image.user, env=image.env, timeout_s=1200)
        case "COPY":
            source, to = rest.split()
            place = system.root / to.lstrip("/")
            shutil.copytree(context / source, place, symlinks=True)
        case "ENV":
            image.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        case "USER":
            image.user = rest
        case "WORKDIR":
            image.folder = rest
        case "VOLUME":
            image.volumes.append(rest)
        case "STOPSIGNAL":
            image.stop_signal = rest
        case "HEALTHCHECK":
            image.health = ["sh", "-c", rest.partition(" CMD ")[2]]
        case "ENTRYPOINT":
            image.entrypoint = _words(rest)
        case "CMD":
            image.command = _words(rest)
        case _:
            raise BuildError(f"the proof does not know the instruction {word} of the Dockerfile")


def _words(text: str) -> list[str]:
    words = json.loads(text)
    if not (isinstance(words, list) and all(isinstance(word, str) for word in words)):
        raise BuildError(f"{text} is no list of words: a shell between would keep the stop signal from the program")
    return words
