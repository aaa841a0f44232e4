"""Closing an account: what runs on it is stopped, its orders end, its venue is let go of."""

from __future__ import annotations

import asyncio

from loguru import logger

from koc_qt.domain.errors import ConfigError, VenueTimeout, VenueUnavailable
from koc_qt.domain.state import VenueState
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.orders import OrderService
from koc_qt.engine.store import Store
from koc_qt.engine.strategies import StrategyHost
from koc_qt.ports.venue import TradingVenue

QUIET_TIMEOUT_S = 30.0  # for strategies to stop and orders to end
QUIET_POLL_S = 0.1
CANCEL_AGAIN_S = 2.0  # a venue that refused a cancel is asked again after this long
_NAMED = 5  # strategies and orders in a sentence


class AccountCloser:
    """Closes accounts; `venues` are those that are open."""

    def __init__(
        self,
        store: Store,
        orders: OrderService,
        accounts: Accounts,
        host: StrategyHost,
        venues: dict[str, TradingVenue],
    ) -> None:
        self._store = store
        self._orders = orders
        self._accounts = accounts
        self._host = host
        self._venues = venues

    async def shut(self, account_id: str, reason: str, *, stop: bool) -> None:
        """Stop the strategies of an account, end its orders, and let go of its venue. Raises KocError.

        Without `stop` it is refused where there is something to stop.
        """
        running, pending = self._running(account_id), self._orders.pending(account_id)
        if not stop and (running or pending):
            what = [f"{', '.join(running[:_NAMED])} run on it"] if running else []
            what += [f"{len(pending)} orders are open"] if pending else []
            raise ConfigError(f"account {account_id!r} is in use: {' and '.join(what)}. Stop and cancel first")
        self._orders.hold(account_id, f"account {account_id!r} takes no orders: {reason}")
        try:
            if stop:
                await self._quieten(account_id, reason)
            await self.disconnect(account_id, reason)
        except BaseException as error:
            await self.disconnect(account_id, f"{reason}, but did not close in order: {str(error) or 'broken off'}")
            raise
        finally:
            self._orders.release(account_id)

    async def _quieten(self, account_id: str, reason: str) -> None:
        clock = asyncio.get_running_loop().time
        until_s, cancel_s = clock() + QUIET_TIMEOUT_S, 0.0
        while True:
            running, pending = self._running(account_id), self._orders.pending(account_id)
            if not running and not pending:
                return
            if clock() > until_s:
                left = [*running, *(f"order {order.client_order_id}" for order in pending)]
                raise VenueTimeout(f"{', '.join(left[:_NAMED])} did not end within {QUIET_TIMEOUT_S:g} s")
            if pending and account_id not in self._venues:
                raise VenueUnavailable(f"{len(pending)} orders are open, and it is not connected to cancel them")
            if running:
                names = ", ".join(running[:_NAMED])
                self._accounts.tell(account_id, VenueState.CONNECTING, f"{reason}: {names} is being stopped")
                await asyncio.gather(*(self._host.stop(key, f"account {account_id}: {reason}") for key in running))
            elif clock() >= cancel_s:
                cancel_s = clock() + CANCEL_AGAIN_S
                self._accounts.tell(account_id, VenueState.CONNECTING, f"{reason}: its orders are being cancelled")
                asked = [self._orders.cancel(order.client_order_id) for order in pending]
                for error in await asyncio.gather(*asked, return_exceptions=True):
                    if isinstance(error, BaseException):
                        logger.warning("an order of {} could not be cancelled: {}", account_id, error)
                await self._orders.reconcile(account_id)
            await asyncio.sleep(QUIET_POLL_S)

    def _running(self, account_id: str) -> list[str]:
        """Give the ids of the strategies that trade with an account, itself named or not."""

        def routes(spec_account: str, venues: set[str]) -> bool:
            here = self._store.accounts.get(account_id)
            named = self._store.accounts.get(spec_account)
            if spec_account == account_id or here is None or named is None:
                return spec_account == account_id
            return here.venue in venues and here.mode is named.mode and here.venue != named.venue

        return [
            key
            for key, managed in self._host.managed.items()
            if managed.is_active
            and routes(managed.spec.account_id, {instrument.venue for instrument in managed.spec.instruments})
        ]

    async def disconnect(self, account_id: str, reason: str) -> None:
        """Let go of an account's venue, whatever becomes of that; orders stay as they are."""
        await self._orders.let_go(account_id)
        try:
            await self._accounts.disconnect(account_id, reason)
        finally:
            self._venues.pop(account_id, None)
