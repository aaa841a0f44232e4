"""How the window looks for new releases; adapters/releases.py does."""

from __future__ import annotations

from typing import Protocol

from koc_qt.domain.release import Release


class ReleaseChecker(Protocol):
    """Looks where the configuration says. Every method reads files or the network, for any thread but the loop's."""

    def is_on(self) -> bool:
        """Whether the person wants it done once a day. Raises ConfigError."""
        ...

    def turn(self, *, on: bool) -> None:
        """Have it done once a day, or not. Raises KocError where that cannot be kept, or nothing could be looked at."""
        ...

    def is_due(self) -> bool:
        """Whether it was not looked for within a day."""
        ...

    def look(self) -> Release | None:
        """Ask once whether there is a newer release; None where there is none.

        Raises ReleaseUntrusted for an answer that is not to be believed, and another KocError where there is none.
        """
        ...
