"""Accounts: which venue they trade on, in which mode, and what is in them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal

import msgspec
from loguru import logger

from koc_qt.domain.errors import InvalidOrder, KocError, VenueTimeout
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import AccountSnapshot, Balance, TradingMode, VenueState
from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.messages import AccountChanged, FillRecorded, OrderChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import OrderSink, TradingVenue

REFRESH_S = 0.2  # balances are read at most this often after a change
REFRESH_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 30.0
CASH_TIMEOUT_S = 0.25  # how long the news of a fill waits for the money that is left after it


class AccountInfo(msgspec.Struct, frozen=True):
    """What the configuration says of an account."""

    account_id: str
    venue: str
    mode: TradingMode


class Accounts:
    """Connects trading venues and keeps balances."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        infos: Mapping[str, AccountInfo],
        venues: Mapping[str, TradingVenue],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._infos = infos
        self._venues = venues
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        bus.subscribe(OrderChanged, lambda fact: self._mark(fact.order.account_id))
        bus.subscribe(FillRecorded, lambda fact: self._mark(fact.fill.account_id))

    def start(self) -> None:
        """Show every account as not connected yet, and begin to keep balances."""
        for account_id in self._infos:
            self._show(account_id, VenueState.CONNECTING, ())
        self._task = asyncio.create_task(self._refresh_forever(), name="accounts")

    async def connect(self, account_id: str, sink: OrderSink) -> None:
        """Connect an account's venue and read its balances; one that fails is shown as disconnected."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._venues[account_id].connect(sink)
            await self._refresh(account_id, REFRESH_TIMEOUT_S)
        except (KocError, TimeoutError) as error:
            reason = str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
            logger.error("account {} cannot be used: {}", account_id, reason)
            self._show(account_id, VenueState.DISCONNECTED, ())

    async def close(self) -> None:
        """Let go of the venues; orders stay as they are."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        venues = dict(self._venues)
        outcomes = await asyncio.gather(*(venue.close() for venue in venues.values()), return_exceptions=True)
        for account_id, outcome in zip(venues, outcomes, strict=True):
            if isinstance(outcome, Exception):
                logger.error("account {} did not close in order: {!r}", account_id, outcome)

    def __contains__(self, account_id: str) -> bool:
        return account_id in self._infos

    def route(self, account_id: str, instrument: InstrumentId) -> str:
        """Give the account that trades `instrument` for a strategy on `account_id`: itself, or, for an instrument of
        another venue, the one account there of the same mode. Raises InvalidOrder.
        """
        info = self._infos.get(account_id)
        if info is None:
            raise InvalidOrder(f"there is no account {account_id!r}; there are: {', '.join(sorted(self._infos))}")
        if info.venue == instrument.venue:
            return account_id
        there = [i.account_id for i in self._infos.values() if i.venue == instrument.venue and i.mode is info.mode]
        if len(there) != 1:
            found = "no account" if not there else f"several accounts ({', '.join(there)})"
            raise InvalidOrder(f"{instrument} cannot be traded with {account_id!r}: {found} in {info.mode} mode there")
        return there[0]

    def _mark(self, account_id: str) -> None:
        self._changed.add(account_id)
        self._wake.set()

    async def cash(self, account_id: str) -> dict[str, Decimal]:
        """Give the free money by currency, read now; what was read last where the venue does not answer at once."""
        if account_id in self._venues:
            await self._try_refresh(account_id, CASH_TIMEOUT_S, "DEBUG")
        account = self._store.accounts.get(account_id)
        return {balance.currency: balance.total - balance.locked for balance in account.balances} if account else {}

    async def _refresh_forever(self) -> None:
        while True:
            await self._wake.wait()
            await asyncio.sleep(REFRESH_S)
            self._wake.clear()
            changed, self._changed = self._changed, set()
            for account_id in changed & self._venues.keys():
                await self._try_refresh(account_id, REFRESH_TIMEOUT_S, "WARNING")

    async def _try_refresh(self, account_id: str, timeout_s: float, level: str) -> None:
        try:
            await self._refresh(account_id, timeout_s)
        except KocError as error:
            logger.log(level, "balances of {} cannot be read: {}", account_id, error)
        except Exception:
            logger.exception("reading the balances of {} failed in a way nobody foresaw", account_id)

    async def _refresh(self, account_id: str, timeout_s: float) -> None:
        try:
            async with asyncio.timeout(timeout_s):
                balances = tuple(await self._venues[account_id].balances())
        except TimeoutError:
            raise VenueTimeout(f"no answer within {timeout_s:g} s") from None
        shown = self._store.accounts.get(account_id)
        if shown is None or (shown.state, shown.balances) != (VenueState.CONNECTED, balances):
            self._show(account_id, VenueState.CONNECTED, balances)

    def _show(self, account_id: str, state: VenueState, balances: tuple[Balance, ...]) -> None:
        info = self._infos[account_id]
        snapshot = AccountSnapshot(account_id, info.venue, info.mode, state, balances, self._clock.time_ns())
        self._store.accounts[account_id] = snapshot
        self._bus.publish(AccountChanged(snapshot))
