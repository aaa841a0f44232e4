"""Accounts: which venue they trade on, in which mode, what is in them, and what they are doing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import msgspec
from loguru import logger

from koc_qt.domain.errors import InvalidOrder, KocError, VenueRejected, VenueTimeout, VenueUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Order, OrderStatus
from koc_qt.domain.state import AccountActivity, AccountSnapshot, Balance, TradingMode, VenuePosition, VenueState
from koc_qt.domain.venues import VenueOrder
from koc_qt.engine.account_limits import AccountChecked
from koc_qt.engine.bus import Bus
from koc_qt.engine.order_lookups import OrdersListed
from koc_qt.engine.store import Store
from koc_qt.link.messages import (
    AccountChanged,
    AccountRemoved,
    EngineChanged,
    FillRecorded,
    OrderChanged,
    PositionChanged,
)
from koc_qt.ports.clock import Clock
from koc_qt.ports.venue import OrderSink, TradingVenue
from koc_qt.resilience import Backoff

REFRESH_S = 0.2  # balances of our own venues are read at most this often after a change
REFRESH_REMOTE_S = 2.0  # those of real venues, which count requests
REFRESH_TIMEOUT_S = 10.0
CONNECT_TIMEOUT_S = 30.0
CASH_TIMEOUT_S = 0.25  # how long the news of a fill waits for the money that is left after it
WATCH_S = 0.5  # between two looks at whether a venue is to be left alone
INSPECT_S = 60.0  # between two readings of what changes without us: positions, orders of others, deposits
CHECK_TIMEOUT_S = 60.0
HOLD_NEWS_S = 1.0  # so much longer, or shorter, than was said
RECONNECT_FIRST_S, RECONNECT_MAX_S = 1.0, 60.0

T = TypeVar("T")

_LOCAL = frozenset({TradingMode.SIMULATED, TradingMode.PAPER})
_UNHEARD = frozenset({OrderStatus.NEW, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN})
_UNREAD = -(1 << 62)


class AccountInfo(msgspec.Struct, frozen=True):
    """What the configuration says of an account; an empty `label` means that people know it by its id."""

    account_id: str
    venue: str
    mode: TradingMode
    label: str = ""
    enabled: bool = True
    has_keys: bool = False


class _Account:
    """What is known of an account. Times are those of the monotonic clock, nanoseconds."""

    def __init__(self, info: AccountInfo) -> None:
        self.info = info
        self.state = VenueState.CONNECTING if info.enabled else VenueState.DISCONNECTED
        self.reason = ""
        self.is_connected = False  # its venue was, and has not been closed since
        self.open_orders: set[str] = set()
        self.held_until_ns = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        self.forget()

    def forget(self) -> None:
        """Forget what its venue said of it: the next one may be another."""
        self.balances: tuple[Balance, ...] = ()
        self.positions: tuple[VenuePosition, ...] = ()
        self.foreign_orders = 0
        self.maker_fee: Decimal | None = None
        self.taker_fee: Decimal | None = None
        self.read_ns = self.inspected_ns = _UNREAD


class Accounts:
    """Connects trading venues, keeps what is in the accounts, and says what each of them is doing.

    `venues` may grow and shrink; `reconcile` asks an account's venue what became of its open orders, and is called when
    a connection is there again.
    """

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        infos: Mapping[str, AccountInfo],
        venues: Mapping[str, TradingVenue],
        reconcile: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._accounts = {account_id: _Account(info) for account_id, info in infos.items()}
        self._venues = venues
        self._reconcile = reconcile
        self._changed: set[str] = set()
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_halted = False
        bus.subscribe(OrderChanged, lambda fact: self._on_order(fact.order))
        bus.subscribe(FillRecorded, lambda fact: self._mark(fact.fill.account_id))
        bus.subscribe(PositionChanged, lambda fact: self._mark(fact.position.account_id))
        bus.subscribe(EngineChanged, lambda fact: self._on_halt(fact.engine.kill_switch))

    def start(self) -> None:
        """Show every account as not connected yet, and begin to keep what is known of them."""
        for order in self._store.open_orders():
            if order.account_id in self._accounts:
                self._accounts[order.account_id].open_orders.add(order.client_order_id)
        for account_id in self._accounts:
            self._show(account_id)
        self._tasks = [
            asyncio.create_task(self._refresh_forever(), name="accounts-refresh"),
            asyncio.create_task(self._watch_forever(), name="accounts-watch"),
        ]

    # ---- which accounts there are -----------------------------------------------------------------------------------

    def __contains__(self, account_id: str) -> bool:
        return account_id in self._accounts

    def put(self, info: AccountInfo) -> None:
        """Take on an account, or what has changed of one."""
        known = self._accounts.get(info.account_id)
        if known is None:
            known = self._accounts[info.account_id] = _Account(info)
        known.info = info
        self._show(info.account_id)

    def tell(self, account_id: str, state: VenueState, reason: str = "") -> None:
        """Say how an account is that has no venue yet, or none at all."""
        self._set_state(account_id, state, reason)

    async def remove(self, account_id: str) -> None:
        """Let go of an account's venue and forget the account."""
        await self._let_go(account_id)
        del self._accounts[account_id]
        self._store.accounts.pop(account_id, None)
        self._bus.publish(AccountRemoved(account_id))

    def route(self, account_id: str, instrument: InstrumentId) -> str:
        """Give the account that trades `instrument` for a strategy on `account_id`: itself, or, for an instrument of
        another venue, the one account there of the same mode. Raises InvalidOrder.
        """
        infos = [account.info for account in self._accounts.values()]
        info = next((info for info in infos if info.account_id == account_id), None)
        if info is None:
            raise InvalidOrder(f"there is no account {account_id!r}; there are: {', '.join(sorted(self._accounts))}")
        if not info.enabled:
            raise InvalidOrder(f"account {account_id!r} is switched off: switch it on to trade with it")
        if info.venue == instrument.venue:
            return account_id
        there = [i.account_id for i in infos if i.venue == instrument.venue and i.mode is info.mode and i.enabled]
        if len(there) != 1:
            found = "no account" if not there else f"several accounts ({', '.join(there)})"
            raise InvalidOrder(f"{instrument} cannot be traded with {account_id!r}: {found} in {info.mode} mode there")
        return there[0]

    # ---- connections ------------------------------------------------------------------------------------------------

    async def connect(self, account_id: str, sink: OrderSink) -> None:
        """Connect an account's venue and read its balances.

        One that fails is shown as disconnected, with the reason, and tried again by itself, unless its venue does not
        accept the keys.
        """
        account = self._accounts[account_id]
        trying = self._keep(account, self._try_connect(account_id, sink), f"connect-{account_id}")
        try:
            await asyncio.wait({trying})
        except asyncio.CancelledError:
            trying.cancel()
            raise
        error = None if trying.cancelled() else trying.result()  # cancelled: let go meanwhile
        if error is not None and not isinstance(error, VenueRejected):
            self._keep(account, self._connect_until_there(account_id, sink, error), f"reconnect-{account_id}")

    async def disconnect(self, account_id: str, reason: str = "") -> None:
        """Let go of an account's venue; orders stay as they are."""
        account = self._accounts[account_id]
        await self._let_go(account_id)
        account.forget()
        self._set_state(account_id, VenueState.DISCONNECTED, reason)

    async def close(self) -> None:
        """Let go of all venues; orders stay as they are."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        await asyncio.gather(*(self._let_go(account_id) for account_id in [*self._accounts]))

    async def _try_connect(self, account_id: str, sink: OrderSink) -> KocError | None:
        """Try once; gives why it failed, None when it did not."""
        account, venue = self._accounts[account_id], self._venues[account_id]
        error: KocError | None = None
        self._set_state(account_id, VenueState.CONNECTING, account.reason)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await venue.connect(sink, partial(self._on_state, account_id))
            account.is_connected = True
            await self._read(account_id, REFRESH_TIMEOUT_S)
        except KocError as refused:
            error = refused
        except TimeoutError:
            error = VenueTimeout(f"no answer within {CONNECT_TIMEOUT_S:g} s")
        except Exception as fault:
            logger.exception("connecting account {} failed in a way nobody foresaw", account_id)
            error = VenueUnavailable(f"{type(fault).__name__} while connecting")
        if error is None:
            if account.state is VenueState.CONNECTING:  # else the venue has said how it is
                self._set_state(account_id, VenueState.CONNECTED, "")
            self._keep(account, self._check_fees(account_id), f"check-{account_id}")
            self._keep(account, self._inspect(account_id), f"inspect-{account_id}")
        else:
            logger.error("account {} cannot be used: {}", account_id, error)
            await self._close_venue(account_id)
            self._set_state(account_id, VenueState.DISCONNECTED, str(error))
        return error

    async def _connect_until_there(self, account_id: str, sink: OrderSink, error: KocError) -> None:
        backoff, refused = Backoff(RECONNECT_FIRST_S, RECONNECT_MAX_S), error
        while not isinstance(refused, VenueRejected):
            await asyncio.sleep(max(backoff.next_s(), getattr(refused, "retry_after_s", None) or 0.0))
            failed = await self._try_connect(account_id, sink)
            if failed is None:
                logger.info("account {} can be used now", account_id)
                await self._ask_about_orders(account_id)
                return
            refused = failed

    def _on_state(self, account_id: str, state: VenueState, reason: str) -> None:
        """Take what a venue says of its connection; what comes after it was let go is old news."""
        account = self._accounts.get(account_id)
        if account is None or not account.is_connected:
            return
        is_back = state is VenueState.CONNECTED and account.state is not VenueState.CONNECTED
        if reason:
            logger.warning("account {}: {}", account_id, reason)
        self._set_state(account_id, state, reason)
        if is_back:
            self._keep(account, self._ask_about_orders(account_id), f"reconcile-{account_id}")
            self._keep(account, self._inspect(account_id), f"inspect-{account_id}")

    async def _ask_about_orders(self, account_id: str) -> None:
        self._mark(account_id)
        if self._reconcile is not None:
            await self._reconcile(account_id)

    async def _let_go(self, account_id: str) -> None:
        tasks = [task for task in self._accounts[account_id].tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close_venue(account_id)

    async def _close_venue(self, account_id: str) -> None:
        self._accounts[account_id].is_connected = False
        venue = self._venues.get(account_id)
        if venue is not None:
            try:
                await venue.close()
            except Exception as error:
                logger.error("account {} did not close in order: {!r}", account_id, error)

    def _keep(self, account: _Account, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        account.tasks.add(task)
        task.add_done_callback(account.tasks.discard)
        return task

    # ---- what is in them --------------------------------------------------------------------------------------------

    async def cash(self, account_id: str) -> dict[str, Decimal]:
        """Give the free money by currency, read now; what was read last where the venue does not answer at once."""
        account = self._accounts.get(account_id)
        if account is None:
            return {}
        if account_id in self._venues:
            await self._try_read(account_id, CASH_TIMEOUT_S, "DEBUG")
        return {balance.currency: balance.total - balance.locked for balance in account.balances}

    async def _read(self, account_id: str, timeout_s: float) -> None:
        account = self._accounts[account_id]
        account.read_ns = self._clock.monotonic_ns()
        try:
            async with asyncio.timeout(timeout_s):
                account.balances = tuple(await self._venues[account_id].balances())
        except TimeoutError:
            raise VenueTimeout(f"no answer within {timeout_s:g} s") from None
        self._show(account_id)

    async def _try_read(self, account_id: str, timeout_s: float, level: str) -> None:
        try:
            await self._read(account_id, timeout_s)
        except KocError as error:
            logger.log(level, "balances of {} cannot be read: {}", account_id, error)
        except Exception:
            logger.exception("reading the balances of {} failed in a way nobody foresaw", account_id)

    async def _inspect(self, account_id: str) -> None:
        """Read what changes without us."""
        account, venue = self._accounts[account_id], self._venues[account_id]
        account.inspected_ns = self._clock.monotonic_ns()
        try:
            async with asyncio.timeout(REFRESH_TIMEOUT_S):
                account.positions = tuple(position for position in await venue.positions() if position.quantity)
                listed = await venue.open_orders()
                foreign = self._foreign(account, listed)
        except (KocError, TimeoutError) as error:
            logger.warning("positions and orders of {} cannot be read: {}", account_id, str(error) or "no answer")
        except Exception:
            logger.exception("reading positions and orders of {} failed in a way nobody foresaw", account_id)
        else:
            account.foreign_orders = account.foreign_orders if foreign is None else foreign
            self._bus.publish(OrdersListed(account_id, tuple(listed)))
        self._show(account_id)

    def _foreign(self, account: _Account, listed: Iterable[VenueOrder]) -> int | None:
        """Count the orders that are not ours; None while one could be ours whose venue's id is not known yet."""
        ours = [order for key in account.open_orders if (order := self._store.order(key)) is not None]
        ids = {order.venue_order_id for order in ours}
        nameless = [each for each in listed if not each.client_order_id and each.venue_order_id not in ids]
        if nameless and any(order.status in _UNHEARD for order in ours):
            return None
        named = [each for each in listed if each.client_order_id and self._store.order(each.client_order_id) is None]
        return len(nameless) + len([each for each in named if each.venue_order_id not in ids])

    async def _check_fees(self, account_id: str) -> None:
        account = self._accounts[account_id]
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                report = await self._venues[account_id].check()
        except Exception as error:
            logger.warning("the keys of account {} could not be looked at: {!r}", account_id, error)
            return
        for warning in report.warnings:
            logger.warning("account {}: {}", account_id, warning)
        account.maker_fee, account.taker_fee = report.maker_fee, report.taker_fee
        self._bus.publish(AccountChecked(account_id, report))
        self._show(account_id)

    # ---- what they are doing ----------------------------------------------------------------------------------------

    def _on_order(self, order: Order) -> None:
        account = self._accounts.get(order.account_id)
        if account is not None:
            if order.is_open:
                account.open_orders.add(order.client_order_id)
            else:
                account.open_orders.discard(order.client_order_id)
            self._mark(order.account_id)

    def _on_halt(self, is_halted: bool) -> None:
        if is_halted is not self._is_halted:
            self._is_halted = is_halted
            for account_id in self._accounts:
                self._show(account_id)

    def _mark(self, account_id: str) -> None:
        self._changed.add(account_id)
        self._wake.set()

    async def _refresh_forever(self) -> None:
        """After a change, say what the account is doing at once, and read its balances a little later."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            for account_id in self._changed & self._accounts.keys():
                self._show(account_id)
            await asyncio.sleep(REFRESH_S)
            changed, self._changed = self._changed, set()
            for account_id in changed & self._accounts.keys():
                account = self._accounts[account_id]
                if not account.is_connected:
                    continue
                if self._may_read(account):
                    await self._try_read(account_id, REFRESH_TIMEOUT_S, "WARNING")
                else:
                    self._mark(account_id)

    def _may_read(self, account: _Account) -> bool:
        interval_s = 0.0 if account.info.mode in _LOCAL else REFRESH_REMOTE_S
        return self._clock.monotonic_ns() - account.read_ns >= interval_s * 1e9

    async def _watch_forever(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            now_ns = self._clock.monotonic_ns()
            for account_id, account in self._accounts.items():
                self._show(account_id)
                is_there = account.is_connected and account.state is VenueState.CONNECTED  # data alone has no venue
                if is_there and now_ns - account.inspected_ns >= INSPECT_S * 1e9:
                    account.inspected_ns = now_ns
                    self._mark(account_id)
                    self._keep(account, self._inspect(account_id), f"inspect-{account_id}")

    def _activity(self, account: _Account, held_s: float) -> AccountActivity:
        if self._is_halted:
            return AccountActivity.HALTED
        if held_s:
            return AccountActivity.RATE_LIMITED
        if account.open_orders:
            return AccountActivity.ORDER_SUBMITTED
        account_id = account.info.account_id
        held = any(key[1] == account_id and position.quantity for key, position in self._store.positions.items())
        return AccountActivity.IN_POSITION if held or account.positions else AccountActivity.IDLE

    def _set_state(self, account_id: str, state: VenueState, reason: str) -> None:
        account = self._accounts[account_id]
        account.state, account.reason = state, reason
        self._show(account_id)

    def _show(self, account_id: str) -> None:
        """Publish how an account is, if that is news."""
        account = self._accounts[account_id]
        info, venue = account.info, self._venues.get(account_id)
        held_s = 0.0 if venue is None else venue.held_s
        held_until_ns = self._clock.monotonic_ns() + round(held_s * 1e9)
        snapshot = AccountSnapshot(
            account_id=account_id,
            venue=info.venue,
            mode=info.mode,
            state=account.state,
            balances=account.balances,
            time_ns=self._clock.time_ns(),
            label=info.label,
            enabled=info.enabled,
            reason=account.reason,
            activity=self._activity(account, held_s),
            held_s=held_s,
            maker_fee=account.maker_fee,
            taker_fee=account.taker_fee,
            positions=account.positions,
            foreign_orders=account.foreign_orders,
            has_keys=info.has_keys,
        )
        shown = self._store.accounts.get(account_id)
        if shown is not None and _timeless(shown) == _timeless(snapshot):
            as_long = not held_s or abs(held_until_ns - account.held_until_ns) < HOLD_NEWS_S * 1e9
            if as_long and bool(held_s) is bool(shown.held_s):
                return
        account.held_until_ns = held_until_ns
        self._store.accounts[account_id] = snapshot
        self._bus.publish(AccountChanged(snapshot))


def _timeless(snapshot: AccountSnapshot) -> AccountSnapshot:
    return msgspec.structs.replace(snapshot, time_ns=0, held_s=0.0)
