"""What venues let accounts do: how much of their quotas is used up, and what else a look at an account found."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from loguru import logger

from koc_qt.domain.accounts import AccountLimits
from koc_qt.domain.venues import ConnectionReport
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.account_messages import AccountLimitsChanged
from koc_qt.link.messages import AccountRemoved
from koc_qt.ports.venue import TradingVenue

PERIOD_S = 1.0


@dataclass(frozen=True)
class AccountChecked:
    """A look at an account that was connected found this."""

    account_id: str
    report: ConnectionReport


class AccountLimitsWatch:
    """Looks once a second at the venues of the open accounts, and publishes what has changed."""

    def __init__(self, store: Store, bus: Bus, venues: Mapping[str, TradingVenue]) -> None:
        self._store = store
        self._bus = bus
        self._venues = venues
        self._reports: dict[str, tuple[TradingVenue, ConnectionReport]] = {}
        self._task: asyncio.Task[None] | None = None
        bus.subscribe(AccountChecked, self._on_report)
        bus.subscribe(AccountRemoved, lambda fact: self._forget(fact.account_id))

    def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._look_forever(), name="account-limits")

    async def close(self) -> None:
        """Look no more. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def look(self) -> None:
        """Publish what has changed since the last look."""
        for account_id in {*self._venues, *self._store.limits}:
            limits = self._limits_of(account_id)
            if limits != self._store.limits.get(account_id, AccountLimits(account_id)):
                self._store.limits[account_id] = limits
                self._bus.publish(AccountLimitsChanged(limits))

    def _limits_of(self, account_id: str) -> AccountLimits:
        venue = self._venues.get(account_id)
        if venue is None:
            self._reports.pop(account_id, None)
            return AccountLimits(account_id)
        asked, report = self._reports.get(account_id, (venue, ConnectionReport()))
        if asked is not venue:  # of before: perhaps with another key
            report = ConnectionReport()
        return AccountLimits(account_id, tuple(venue.quotas), report.can_withdraw, report.limits)

    def _on_report(self, checked: AccountChecked) -> None:
        venue = self._venues.get(checked.account_id)
        if venue is not None:
            self._reports[checked.account_id] = venue, checked.report

    def _forget(self, account_id: str) -> None:
        self._reports.pop(account_id, None)
        self._store.limits.pop(account_id, None)

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                self.look()
            except Exception:
                logger.exception("the limits of accounts cannot be looked at")
