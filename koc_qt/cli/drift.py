"""What ``koc drift`` asks the engine: the newest reports, or that strategies are measured now."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from koc_qt.cli.lines import clean
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.trust import DriftReport
from koc_qt.link.client import LinkClient, LinkState, local_engine
from koc_qt.link.keys import load_pair
from koc_qt.link.messages import Fact, Snapshot
from koc_qt.link.trust_messages import CheckDrift, DriftMeasured
from koc_qt.paths import profile_paths


class Found(NamedTuple):
    """Reports, in the order of their strategies' ids, and the ids that the engine knows."""

    reports: Sequence[DriftReport]
    known: Sequence[str]


class _Watch:
    """Hears of reports. A snapshot brings those that were missed; a lost connection ends the wait."""

    def __init__(self) -> None:
        self.reports: dict[str, DriftReport] = {}
        self.lost = ""
        self._news = asyncio.Event()

    def hear(self, fact: Fact) -> None:
        if isinstance(fact, Snapshot):
            self.reports = {each.strategy_id: each for each in fact.drift}
        elif isinstance(fact, DriftMeasured):
            self.reports[fact.drift.strategy_id] = fact.drift
        else:
            return
        self._news.set()

    def stand(self, state: LinkState, reason: str) -> None:
        if state is LinkState.LOST:
            self.lost = reason
            self._news.set()

    async def until_newer(self, wanted: Iterable[str], before_ns: dict[str, int]) -> list[DriftReport]:
        """Wait for reports that were made at other times than these. Raises LinkError for a lost engine."""
        while not all(key in self.reports and self.reports[key].measured_ns != before_ns.get(key) for key in wanted):
            if self.lost:
                raise LinkError(f"{self.lost}; `koc drift` shows later what was measured")
            self._news.clear()
            await self._news.wait()
        return [self.reports[key] for key in sorted(wanted)]


async def reports(strategy_id: str = "", *, now: bool = False, timeout_s: float = 900.0) -> Found:
    """Give the newest reports of one strategy or of all; with `now` have them measured first.

    Raises KocError where the engine cannot be asked, refuses, or takes longer than `timeout_s`.
    """
    paths, watch = profile_paths(), _Watch()
    locate = local_engine(paths.run)
    locate()  # first: a profile whose engine never ran has no keys either
    client = LinkClient(locate, load_pair(paths.keys), name="koc command", on_fact=watch.hear, on_state=watch.stand)
    try:
        snapshot = await client.connect()
        known = [each.spec.strategy_id for each in snapshot.strategies]
        if not now:
            found = [watch.reports[key] for key in sorted(watch.reports) if strategy_id in ("", key)]
            return Found(found, known)
        before_ns = {key: report.measured_ns for key, report in watch.reports.items()}
        wanted: list[str] = await client.request(CheckDrift(strategy_id))
        if wanted and sys.stderr.isatty():
            print(f"Measuring {clean(', '.join(wanted))}…", file=sys.stderr)
        try:
            async with asyncio.timeout(timeout_s):
                return Found(await watch.until_newer(wanted, before_ns), known)
        except TimeoutError as error:
            text = f"the engine has not measured it in {timeout_s:g} s: it goes on, and `koc drift` shows it later"
            raise KocError(text) from error
    finally:
        await client.close()
