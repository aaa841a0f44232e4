"""What a build of installers says: lines of JSON on its output, one event each, and all that may be wrong with them."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

LONGEST_LINE = 1 << 16  # bytes; of a longer one the beginning is shown
LONGEST_SHOWN = 2_000  # characters of a line in the log
LONGEST_SAID = 600  # characters of what is missing, or went wrong
MOST_ROWS = 200  # stages, needs and results that are kept of one build


class PlannedStage(msgspec.Struct, frozen=True):
    """A stage that will come; `seconds` is how long it took the last time, or is thought to."""

    name: str
    title: str = ""
    seconds: float = 0.0


class Plan(msgspec.Struct, frozen=True, tag_field="event", tag="plan"):
    """The stages of a target, in order."""

    target: str
    stages: tuple[PlannedStage, ...] = ()


class StageChanged(msgspec.Struct, frozen=True, tag_field="event", tag="stage"):
    """A stage began or ended: running, done, skipped or failed; `seconds` is how long it took."""

    name: str
    state: str
    target: str = ""
    seconds: float | None = None


class Progress(msgspec.Struct, frozen=True, tag_field="event", tag="progress"):
    """How far the whole target is, 0 to 1, and how long it takes from now on."""

    name: str = ""
    target: str = ""
    fraction: float | None = None
    stage_fraction: float | None = None
    remaining_s: float | None = None


class LogLine(msgspec.Struct, frozen=True, tag_field="event", tag="log"):
    """A line of whatever is at work."""

    text: str


class Need(msgspec.Struct, frozen=True, tag_field="event", tag="need"):
    """Something that this machine lacks; `advice` is the command that mends it."""

    text: str
    name: str = ""
    target: str = ""
    advice: str = ""
    can_fetch: bool = False


class Result(msgspec.Struct, frozen=True, tag_field="event", tag="result"):
    """A file that was made."""

    path: str
    target: str = ""
    bytes: int | None = None
    sha256: str = ""
    seconds: float | None = None


class Failed(msgspec.Struct, frozen=True, tag_field="event", tag="failed"):
    """Why a build came to nothing, and what to do."""

    text: str
    target: str = ""
    stage: str = ""
    advice: str = ""


class End(msgspec.Struct, frozen=True, tag_field="event", tag="end"):
    """The last word."""

    ok: bool


Event = Plan | StageChanged | Progress | LogLine | Need | Result | Failed | End
_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)


def event_of(line: bytes) -> Event:
    """Read a line; what is no event that we know is a line of the log, as it stands."""
    try:
        return _decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return LogLine(line.decode(errors="replace").rstrip())


def clipped(text: str) -> str:
    """Give what is said to a person, which is never pages long."""
    return text if len(text) <= LONGEST_SAID else f"{text[:LONGEST_SAID]} …"


def shown(text: str) -> str:
    """Give a line of the log as it is kept: on one row, without control characters, and not endless."""
    short = text[:LONGEST_SHOWN] if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]} …"
    return short if short.isprintable() else "".join(each if each.isprintable() else " " for each in short)


class Lines:
    """Cuts what comes in pieces into lines, however long they are: it never holds more than LONGEST_LINE of one."""

    def __init__(self) -> None:
        self._begun = b""
        self._is_cut = False  # the rest of this line is thrown away

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Give the lines that end in `data`; empty ones are left out."""
        *whole, rest = data.split(b"\n")
        for part in whole:
            line = self._joined(part)
            self._begun, self._is_cut = b"", False
            if line:
                yield line
        self._begun = self._joined(rest)

    def last(self) -> bytes:
        """Give what came after the last line break, when nothing more will come."""
        line, self._begun, self._is_cut = self._begun, b"", False
        return line

    def _joined(self, part: bytes) -> bytes:
        if self._is_cut:
            return self._begun
        line = self._begun + part
        if len(line) > LONGEST_LINE:
            self._is_cut = True
            return line[:LONGEST_SHOWN] + b" \xe2\x80\xa6"
        return line
