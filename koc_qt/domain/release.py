"""What a signed note about a release may say, and whether it is to be believed and told.

The note is JSON: program ("koc"), version, serial (a number that grows with every note), date and expires (days, ISO
8601), notes (plain text) and page (an https address for people).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from urllib.parse import urlsplit

from koc_qt.domain.errors import KocError

MOST_NOTES = 4_000  # characters
MOST_PAGE = 500
_VERSION = re.compile(r"(\d{1,6}(?:\.\d{1,6}){0,3})(?:(a|b|rc)(\d{1,6}))?")
_STAGES = {"a": 0, "b": 1, "rc": 2, None: 3}
_PROGRAM = "koc"


class ReleaseUntrusted(KocError):
    """What says that there is a release is not to be believed: wrong signature, an old note again, expired."""


@dataclass(frozen=True)
class Release:
    """A release as its publisher describes it; all of it is text for people, never markup."""

    version: str
    serial: int
    released: date
    expires: date
    notes: str
    page: str


def version_key(text: str) -> tuple[tuple[int, ...], int, int]:
    """Give what versions such as 1.2, 1.2.1 and 1.3rc1 are ordered by. Raises KocError for any other text."""
    match = _VERSION.fullmatch(text)
    if match is None:
        raise KocError(f"{text[:40]!r} is no version such as 1.2.0")
    numbers = [int(number) for number in match[1].split(".")]
    return tuple(numbers + [0] * (4 - len(numbers))), _STAGES[match[2]], int(match[3] or 0)


def read_release(said: Mapping[str, object]) -> Release:
    """Give what a note says. Raises KocError for one that is not as it must be, naming the field."""
    if said.get("program") != _PROGRAM:
        raise KocError("the note about a release is one about another program")
    version, notes = _text(said, "version", 40), _text(said, "notes", MOST_NOTES)
    version_key(version)
    serial = said.get("serial")
    if not isinstance(serial, int) or isinstance(serial, bool) or not 0 < serial < 1 << 53:
        raise KocError("the note about a release has no serial number")
    page = _text(said, "page", MOST_PAGE)
    if not is_https(page):
        raise KocError("the note about a release names a page that is no https address")
    return Release(version, serial, _day(said, "date"), _day(said, "expires"), _plain(notes), page)


def judge(release: Release, *, newest_serial: int, today: date) -> None:
    """Raise ReleaseUntrusted for a note that is older than one seen before, or has expired."""
    if release.serial < newest_serial:
        raise ReleaseUntrusted(
            f"the note about a release is an old one again (serial {release.serial}, and {newest_serial} was seen "
            "before): whoever serves it may be holding back a newer release"
        )
    if today > release.expires:
        raise ReleaseUntrusted(
            f"the note about a release has expired on {release.expires}: whoever serves it may be holding back a newer "
            "one, or this machine's clock is wrong"
        )


def is_https(address: str) -> bool:
    """Whether an address is an https one, of a host, with no user or password in it and no blanks."""
    if re.search(r"[\s\x00-\x1f\x7f\\]", address):
        return False
    try:
        parts = urlsplit(address)
        return parts.scheme == "https" and bool(parts.hostname) and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        return False


def _text(said: Mapping[str, object], name: str, longest: int) -> str:
    value = said.get(name)
    if not isinstance(value, str) or len(value) > longest:
        raise KocError(f"the note about a release has no {name}, or one of more than {longest} letters")
    return value


def _day(said: Mapping[str, object], name: str) -> date:
    try:
        return date.fromisoformat(_text(said, name, 10))
    except ValueError:
        raise KocError(f"the note about a release has no {name} such as 2027-01-31") from None


def _plain(text: str) -> str:
    """Give text without letters that steer a terminal or turn the direction of writing."""
    return "".join(letter for letter in text if letter == "\n" or letter.isprintable()).strip()
