"""Who runs the studies of a store that several processes share, and which of them have fallen silent.

Whoever runs a study writes to it every second, and each write raises its revision. No clock of another machine is
asked: a holder is silent when the revision that was seen has stood still for SILENT_S of this process's own clock. One
of this machine that has ended is known to be gone at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from koc_qt.ports.clock import Clock
from koc_qt.ports.studies import KeptStudy, StudyStore

SILENT_S = 15.0  # many signs of life: a disk may hold one up for ten seconds


class StudyWatch:
    """What is known of the store's studies; `look` asks for what changed. Raises StorageError."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looking = asyncio.Lock()
        self._revisions: dict[str, int] = {}
        self._kept: dict[str, KeptStudy] = {}
        self._heard_ns: dict[str, int] = {}  # monotonic, when a revision was seen first

    @property
    def ids(self) -> Collection[str]:
        """All studies that there are, those that cannot be read too."""
        return self._revisions

    async def look(self, store: StudyStore) -> list[KeptStudy]:
        """Give the studies that changed since, oldest first."""
        async with self._looking:
            found = await asyncio.to_thread(store.studies, self._revisions)
            now_ns = self._clock.monotonic_ns()
            for key, revision in found.revisions.items():
                if self._revisions.get(key) != revision:
                    self._heard_ns[key] = now_ns
            self._revisions = found.revisions
            self._kept |= {each.study.study_id: each for each in found.changed}
            for key in self._kept.keys() - found.revisions.keys():
                del self._kept[key]
            return found.changed

    def kept(self, study_id: str) -> KeptStudy | None:
        """Give a study as it was seen last."""
        return self._kept.get(study_id)

    def all(self) -> list[KeptStudy]:
        """Give all as they were seen last."""
        return list(self._kept.values())

    def forget(self, study_id: str) -> None:
        """Have a study read again, whatever is known of it."""
        self._revisions.pop(study_id, None)

    def silent_s(self, study_id: str) -> float:
        """Give for how long nobody has written to a study, as far as was looked."""
        return (self._clock.monotonic_ns() - self._heard_ns.get(study_id, self._clock.monotonic_ns())) / 1e9

    def is_free(self, kept: KeptStudy) -> bool:
        """Whether nobody runs it any more."""
        return kept.holder is None or kept.holder.is_gone() or self.silent_s(kept.study.study_id) >= SILENT_S
