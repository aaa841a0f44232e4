"""Puts together what looks for new releases: the profile's settings, and the keys that came with the program."""

from __future__ import annotations

from typing import TYPE_CHECKING

from koc_qt.domain.errors import ConfigError
from koc_qt.domain.release import Release
from koc_qt.paths import Paths
from koc_qt.ui.resources import resource

if TYPE_CHECKING:  # loaded with the first question: no window waits for TLS
    from koc_qt.adapters.releases import ReleaseFeed

KEYS = "release_key.txt"  # below resources/; made by installer/release.py


class LazyReleases:
    """Implements ports/releases.py; reads nothing before it is asked, which is never in the window's loop."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths

    def is_on(self) -> bool:
        """Whether the person wants it done once a day."""
        return self._feed().is_on()

    def turn(self, *, on: bool) -> None:
        """Have it done once a day, or not."""
        self._feed().turn(on=on)

    def is_due(self) -> bool:
        """Whether it was not looked for within a day."""
        return self._feed().is_due()

    def look(self) -> Release | None:
        """Ask once."""
        return self._feed().look()

    def _feed(self) -> ReleaseFeed:
        from koc_qt.adapters.releases import ReleaseFeed, read_keys

        try:
            keys = read_keys(resource(KEYS))
        except ConfigError:
            keys = []  # a build without a key: the feed says so
        return ReleaseFeed(self._paths, keys)
