"""Of which version a profile is: data/profile.json says which program wrote it last, and in what forms its parts are.

A profile in a form that this program does not know yet is refused before anything is written to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from koc_qt.domain.errors import ConfigError
from koc_qt.files import write_durably
from koc_qt.version import __version__

# The forms that this program writes; a part's own module knows the number too, and a test holds them together.
FORMS: Mapping[str, int] = {"profile": 1, "journal": 1, "studies": 2, "layout": 1}
_LARGEST = 64 * 1024


@dataclass(frozen=True)
class ProfileVersion:
    """The program that wrote a profile last, and the number of each part's form."""

    program: str
    forms: Mapping[str, int]

    @property
    def is_newer(self) -> bool:
        """Whether any part is in a form that this program does not know."""
        return any(number > FORMS.get(name, 0) for name, number in self.forms.items())

    @property
    def is_older(self) -> bool:
        """Whether this program writes any part in a newer form."""
        return any(self.forms.get(name, 0) < number for name, number in FORMS.items())


PRESENT = ProfileVersion(__version__, FORMS)


def read_version(file: Path) -> ProfileVersion | None:
    """Give what `file` says; None where there is none, or it cannot be understood. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            found = json.loads(stream.read(_LARGEST))
        forms = found["forms"]
        if not all(isinstance(number, int) and not isinstance(number, bool) for number in forms.values()):
            return None
        return ProfileVersion(str(found["program"])[:40], dict(forms))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}. Correct its permissions") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def write_version(file: Path) -> None:
    """Say that the profile is of this program's version. Raises OSError."""
    body = {"program": PRESENT.program, "forms": dict(PRESENT.forms)}
    write_durably(file, json.dumps(body, indent=1).encode() + b"\n")


def refuse_newer(file: Path) -> None:
    """Raise ConfigError where the profile is in a form of a later version; nothing is written."""
    found = read_version(file)
    if found is not None and found.is_newer:
        raise ConfigError(
            f"the profile in {file.parent.parent} was written by K.O.C. {found.program}, in a form that this version "
            f"({__version__}) does not know. Nothing was changed: use that version again, or another profile "
            "(set KOC_HOME to another folder)"
        )
