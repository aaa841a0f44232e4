"""What can go wrong with a build, and what a person can do about it."""

from __future__ import annotations

import errno
import re
from collections.abc import Sequence
from dataclasses import dataclass

AGAIN = "Start the build again: what is done is kept, and it goes on from there."

_KNOWN = (  # what programs write, and what to do about it; the first that fits
    (
        r"no space left on device|disk quota exceeded|not enough free (disk )?space|write error|errno 28",
        "The disk is full: free some space (the folder build/ can be deleted), then start the build again.",
    ),
    (
        r"could not resolve|temporary failure (in name )?resol|network is unreachable|connection (refused|reset|timed"
        r" out)|failed to establish a new connection|read ?timed? ?out|max retries|name or service not known|"
        r"proxyerror|remote end closed|couldn't download|failed (to fetch|getting release)|no matching distribution",
        "The network failed: check it, then start the build again. What is downloaded whole is kept.",
    ),
    (
        r"hash(es)? (mismatch|do not match)|do not match the hashes|checksum mismatch",
        "A download is not what was expected, and was not used. Start again; if it stays so, do not trust the source.",
    ),
    (
        r"read-only file system",
        "The folder cannot be written: choose another one with --out, or move the checkout to where you can write.",
    ),
    (
        r"permission denied|operation not permitted|are you root|must be root|only root|requires superuser",
        "Something here may not be done by this user: run it as root, or mend the rights of the folder named above.",
    ),
)


class BuildError(Exception):
    """A build cannot go on: `text` says what happened to what, `advice` what to do."""

    def __init__(self, text: str, advice: str = AGAIN) -> None:
        super().__init__(text)
        self.text = text
        self.advice = advice


class Cancelled(Exception):
    """The person has stopped the build."""


def advice_for(lines: Sequence[str]) -> str:
    """Give what to do about the last lines of a program's output."""
    said = "\n".join(lines[-40:])
    for pattern, advice in _KNOWN:
        if re.search(pattern, said, re.IGNORECASE):
            return advice
    return "The log has all of it. " + AGAIN


def from_os_error(error: OSError) -> BuildError:
    """Say what the system refused."""
    what = f"{error.filename}: {error.strerror or error}" if error.filename else error.strerror or str(error)
    names = {errno.ENOSPC: "no space left on device", errno.EDQUOT: "disk quota exceeded"}
    return BuildError(what, advice_for([names.get(error.errno or 0, ""), what]))


@dataclass(frozen=True)
class Failure:
    """What ended a target: where, what, and what to do; `is_cancelled` where the person ended it."""

    stage: str
    text: str
    advice: str
    is_cancelled: bool = False
