"""Opening an account: with the keys of its mode, on its venue, and again where that is out of reach."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec
from loguru import logger

from koc_qt.accounts_file import ManagedAccount
from koc_qt.config import AccountConfig
from koc_qt.domain.accounts import modes_of, needs_keys
from koc_qt.domain.errors import ConfigError, KocError, SecretsUnavailable, VenueTimeout, VenueUnavailable
from koc_qt.domain.orders import Fill
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport, VenueAbilities
from koc_qt.engine.account_closing import AccountCloser
from koc_qt.engine.accounts import AccountInfo, Accounts
from koc_qt.engine.orders import OrderService
from koc_qt.engine.secrets import SecretsDesk
from koc_qt.engine.store import Store
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import TradingVenue

CLOCK_TIMEOUT_S = 10.0  # for a mode's clock to pass the time at which the mode before it ended
CLOCK_POLL_S = 0.05
RETRY_S = 5.0  # between two tries at an account whose market is out of reach


class TradingFactory(Protocol):
    """Makes what an account needs of the outside world."""

    @property
    def abilities(self) -> Mapping[str, VenueAbilities]:
        """What each venue can do, by its name; there is no other venue."""
        ...

    async def use_venue(self, venue: str) -> None:
        """See that the venue's market data is there, or will be once it can be reached. Raises KocError."""
        ...

    async def make_trading(self, account: AccountConfig, credentials: Credentials | None) -> TradingVenue:
        """Make the venue of an account, not yet connected. Raises KocError."""
        ...

    async def check(self, account: AccountConfig, credentials: Credentials | None) -> ConnectionReport:
        """Try an account's keys, whether or not it is open. Raises KocError."""
        ...


class Guards(msgspec.Struct, frozen=True):
    """What the registry asks of whoever composes it.

    `live_keys` is called before a live key is read; `fills` reads what the journal has of an account in its present
    mode, in order, and may block; `opened` is awaited whenever an account is open: it asks what became of its orders.
    """

    live_keys: Callable[[], None]
    fills: Callable[[ManagedAccount], Sequence[Fill]]
    opened: Callable[[str], Awaitable[None]]


def ended_ns(account: AccountConfig) -> int:
    """Give when the mode ended in which an account was before, by its venue's clock; 0 where there was none."""
    return account.past[-1].until_ns if isinstance(account, ManagedAccount) and account.past else 0


class Entry:
    """An account that the registry knows."""

    def __init__(self, config: AccountConfig) -> None:
        self.config = config
        self.changing = asyncio.Lock()
        self.is_new = False  # not in the file yet
        self.has_keys = False  # it was opened with some
        self.opening: asyncio.Task[None] | None = None  # tries until it is open, or that is of no use
        self.is_settling = False  # connected, and its orders of before are being asked about
        self.waiting: asyncio.Task[None] | None = None  # until its clock has passed the end of the mode before
        self.resume = False  # with that, once it has been changed
        self.plain_keys = False  # they stand in the file still

    @property
    def managed(self) -> ManagedAccount:
        """The account, if it can be changed here. Raises ConfigError."""
        if not isinstance(self.config, ManagedAccount):
            raise ConfigError(f"account {self.config.id!r} is described in koc.yaml: change it there")
        return self.config


class AccountOpener:
    """Opens accounts into `venues`; `orders` hears what these say, and takes none that could be of an earlier mode."""

    def __init__(
        self,
        store: Store,
        accounts: Accounts,
        closer: AccountCloser,
        venues: dict[str, TradingVenue],
        orders: OrderService,
        secrets: SecretsDesk,
        factory: TradingFactory,
        guards: Guards,
    ) -> None:
        self._store = store
        self._accounts = accounts
        self._closer = closer
        self._venues = venues
        self._orders = orders
        self._secrets = secrets
        self._factory = factory
        self._guards = guards

    def modes(self, venue: str) -> tuple[TradingMode, ...]:
        """The modes that accounts on a venue can be in, the harmless first; none for a venue that is none."""
        abilities = self._factory.abilities.get(venue)
        return modes_of(abilities) if abilities is not None else ()

    def needs_keys(self, venue: str, mode: TradingMode) -> bool:
        """Whether an account on a venue needs keys in a mode; on paper, for market data alone."""
        return needs_keys(self._factory.abilities[venue], mode)

    async def read_keys(self, account: AccountConfig) -> Credentials | None:
        """Give what is kept for an account in its mode. Raises SecretsUnavailable."""
        if account.mode is TradingMode.LIVE:
            self._guards.live_keys()
        return await self._secrets.get(account.id, account.mode)

    def open_soon(self, entry: Entry) -> asyncio.Task[None]:
        """Open an account in the background, and try again while it is out of reach; the task ends with that."""
        if entry.opening is not None:
            entry.opening.cancel()
        entry.opening = asyncio.create_task(self._open_until_there(entry), name=f"open-{entry.config.id}")
        return entry.opening

    async def _open_until_there(self, entry: Entry) -> None:
        account_id, said = entry.config.id, ""
        while entry.config.enabled and not entry.plain_keys and account_id not in self._venues:
            try:
                await self.open(entry)
            except (VenueUnavailable, VenueTimeout) as error:
                if str(error) != said:
                    said = str(error)
                    logger.error("account {} cannot be used yet: {}", account_id, said)
                await asyncio.sleep(RETRY_S)
            except KocError as error:
                logger.error("account {} cannot be used: {}", account_id, error)
                return
            except Exception:
                logger.exception("opening account {} failed in a way nobody foresaw", account_id)
                return
            else:
                return  # a venue that is out of reach is tried again by the accounts

    async def open_anew(self, entry: Entry) -> None:
        """Open an account, closed first where it is open. Raises KocError; what is out of reach is tried again."""
        if entry.config.id in self._venues:
            await self._closer.disconnect(entry.config.id, "it is opened anew")
        try:
            await self.open(entry)
        except (VenueUnavailable, VenueTimeout):
            self.open_soon(entry)
            raise

    async def open(self, entry: Entry, occasion: str = "", *, retry: bool = True) -> None:
        """Open an account. Raises KocError; with `retry` one that is out of reach is tried again by itself.

        It takes no orders that could be of a mode in which it was before; then `occasion` is what a refusal says.
        """
        account = entry.config
        self._accounts.put(self.info(entry))
        self._accounts.tell(account.id, VenueState.CONNECTING, "it is being opened")
        try:
            credentials = await self.keys(account)
            entry.has_keys = credentials is not None
            self._accounts.put(self.info(entry))
            await self._factory.use_venue(account.venue)
            if account.mode is TradingMode.DATA:
                self._accounts.tell(account.id, VenueState.CONNECTED)
                return
            venue = await self._factory.make_trading(account, credentials)
        except Exception as error:
            reason = str(error) if isinstance(error, KocError) else f"{type(error).__name__} while opening"
            self._accounts.tell(account.id, VenueState.DISCONNECTED, reason)
            raise
        self._hold(entry, occasion)
        self._venues[account.id] = venue
        try:
            await self._accounts.connect(account.id, self._orders.receive)
            await self._release(entry, venue)
            shown = self._store.accounts[account.id]
            if shown.state is not VenueState.DISCONNECTED:
                entry.is_settling = True
                await self._guards.opened(account.id)
        except asyncio.CancelledError:
            await self._closer.disconnect(account.id, "its opening was broken off")
            self._orders.release(account.id)
            raise
        finally:
            entry.is_settling = False
        if shown.state is VenueState.DISCONNECTED and not retry:
            raise VenueUnavailable(shown.reason)

    async def keys(self, account: AccountConfig) -> Credentials | None:
        """Give the keys that an account needs in its mode. Raises SecretsUnavailable where they are not there."""
        if account.venue not in self._factory.abilities:
            raise ConfigError(f"there is no venue {account.venue!r}; there are: {', '.join(self._factory.abilities)}")
        if account.mode not in self.modes(account.venue):
            raise ConfigError(f"accounts on {account.venue} cannot be in {account.mode} mode")
        if not self.needs_keys(account.venue, account.mode):
            return None
        found = await self.read_keys(account)
        wanted = [field.name for field in self._factory.abilities[account.venue].credentials]
        missing = [name for name in wanted if found is None or not found.get(name, "").strip()]
        if found is None or missing:
            what = f"its {' and '.join(missing)} for {account.mode} mode" if found else f"keys for {account.mode} mode"
            state = await self._secrets.state()
            files = await self._secrets.files(account.id, account.mode, missing)
            names = " and ".join(file.name for file in files)
            how = f"mount {names} in {state.folder}" if state.folder else "type them in"
            raise SecretsUnavailable(f"{what} are not kept ({state.title}): {how}")
        return found

    # ---- clocks, by which orders of modes are told apart ------------------------------------------------------------

    def _hold(self, entry: Entry, occasion: str) -> None:
        """Take no orders of an account that was in other modes, until the clock says that they are of this one."""
        if ended_ns(entry.config):
            reason = occasion or f"the clock of {entry.config.venue} has not passed the end of its earlier mode yet"
            self._orders.hold(entry.config.id, f"account {entry.config.id!r} takes no orders: {reason}")

    async def _release(self, entry: Entry, venue: TradingVenue) -> None:
        """Take orders from then on: now, or once it is connected and its clock has gone so far."""
        if entry.waiting is not None:
            entry.waiting.cancel()
            await asyncio.gather(entry.waiting, return_exceptions=True)
        if not ended_ns(entry.config) or self._is_later(entry, venue):
            self._orders.release(entry.config.id)
        else:
            entry.waiting = asyncio.create_task(self._until_later(entry, venue), name=f"clock-{entry.config.id}")

    async def _until_later(self, entry: Entry, venue: TradingVenue) -> None:
        while self._venues.get(entry.config.id) is venue:
            if self._is_later(entry, venue):
                self._orders.release(entry.config.id)
                return
            await asyncio.sleep(CLOCK_POLL_S)

    def _is_later(self, entry: Entry, venue: TradingVenue) -> bool:
        """Whether the clock is known, and has passed the end of the mode before."""
        is_known = self._store.accounts[entry.config.id].state in (VenueState.CONNECTED, VenueState.INTERRUPTED)
        return is_known and venue.time_ns() > ended_ns(entry.config)

    async def wait_for_clock(self, entry: Entry) -> None:
        """Wait until orders are taken. Raises VenueUnavailable where the clock is far behind."""
        if entry.waiting is None:
            return
        _, waiting = await asyncio.wait({entry.waiting}, timeout=CLOCK_TIMEOUT_S)
        if waiting:
            raise VenueUnavailable(f"the clock of {entry.config.venue} is far behind: set this machine's clock")

    def info(self, entry: Entry) -> AccountInfo:
        """Give what others know of an account."""
        account = entry.config
        return AccountInfo(account.id, account.venue, account.mode, account.label, account.enabled, entry.has_keys)
