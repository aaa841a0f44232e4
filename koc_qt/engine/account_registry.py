"""Which accounts there are, and everything that is done to one as a whole: open, close, switch, add, remove.

An account is in one mode, opened with the keys of that mode and no others. Whatever changes it stops what runs on it
first, and writes the accounts file at one point: a process that is killed before finds the account as it was, one that
is killed later as it was meant to be, and never anything between.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from decimal import Decimal

import msgspec
from loguru import logger

from koc_qt.accounts_file import AccountsFile, ManagedAccount, PastMode
from koc_qt.config import AccountConfig
from koc_qt.domain.errors import ConfigError, SecretsUnavailable
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport
from koc_qt.engine.account_closing import AccountCloser
from koc_qt.engine.account_opening import AccountOpener, Entry, Guards, TradingFactory
from koc_qt.engine.accounts import Accounts
from koc_qt.engine.bus import Bus
from koc_qt.engine.ledger import Ledger
from koc_qt.engine.notices import give_notice
from koc_qt.engine.orders import OrderService
from koc_qt.engine.secrets import SecretsDesk
from koc_qt.engine.store import Store
from koc_qt.engine.strategies import StrategyHost
from koc_qt.link.messages import PositionChanged
from koc_qt.ports.clock import Clock
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import TradingVenue

SETTLE_TIMEOUT_S = 15.0  # for an account that has just been connected to ask about its orders
_DOLLARS = ("kraken", "coinbase", "bitfinex", "alpaca")


class AccountRegistry:
    """Sole owner of the accounts file, and of which venue an account trades with (`venues`)."""

    def __init__(
        self,
        store: Store,
        bus: Bus,
        clock: Clock,
        ledger: Ledger,
        orders: OrderService,
        accounts: Accounts,
        host: StrategyHost,
        venues: dict[str, TradingVenue],
        secrets: SecretsDesk,
        factory: TradingFactory,
        file: AccountsFile,
        guards: Guards,
        configured: Sequence[AccountConfig],
    ) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock
        self._ledger = ledger
        self._orders = orders
        self._accounts = accounts
        self._venues = venues
        self._closer = AccountCloser(store, orders, accounts, host, venues)
        self.opener = AccountOpener(store, accounts, self._closer, venues, orders, secrets, factory, guards)
        self.secrets = secrets
        self.factory = factory
        self.file = file
        self._guards = guards
        self._entries = {account.id: Entry(account) for account in configured}
        self._used: set[str] = set()  # ids that others had: what they traded is in the journal
        self._writing = asyncio.Lock()

    # ---- what there is ----------------------------------------------------------------------------------------------

    @property
    def all(self) -> list[AccountConfig]:
        """Every account, in the order in which they came."""
        return [entry.config for entry in self._entries.values()]

    def config(self, account_id: str) -> AccountConfig:
        """Give an account. Raises ConfigError for one that is not there."""
        return self._entry(account_id).config

    def is_editable(self, account_id: str) -> bool:
        """Whether it can be changed here, and is not described in koc.yaml."""
        return isinstance(self._entry(account_id).config, ManagedAccount)

    def is_taken(self, account_id: str) -> bool:
        """Whether an account has this id, or had it."""
        return account_id in self._entries or account_id in self._used

    async def data_credentials(self, venue: str) -> Credentials | None:
        """Give keys with which a venue's market data can be asked for: those of an account there, in its own mode."""
        order = (TradingMode.DATA, TradingMode.PAPER, TradingMode.TESTNET, TradingMode.LIVE)
        there = [account for account in self.all if account.venue == venue and account.enabled]
        for account in sorted((a for a in there if a.mode in order), key=lambda account: order.index(account.mode)):
            if not self._entries[account.id].plain_keys and (found := await self.opener.read_keys(account)) is not None:
                return found
        return None

    # ---- beginning and end ------------------------------------------------------------------------------------------

    def take(self, accounts: Sequence[ManagedAccount], used: set[str]) -> None:
        """Take on the accounts of the file; `used` are ids of accounts that the journal knows."""
        self._used |= used
        for account in accounts:
            if account.id in self._entries:
                self.notice(
                    f"account {account.id!r} is in koc.yaml and in {self.file.path}: the one in koc.yaml is used"
                )
                continue
            self._entries[account.id] = Entry(account)
            self._used.add(account.id)
        for entry in self._entries.values():
            self._accounts.put(self.opener.info(entry))
            if not entry.config.enabled:
                self._accounts.tell(entry.config.id, VenueState.DISCONNECTED, "it is switched off")

    def mark_plain(self, account_ids: set[str], reason: str) -> None:
        """Leave accounts alone whose keys stand in plain text, and say why; those that were so and are not are free."""
        for account_id, entry in self._entries.items():
            entry.plain_keys = account_id in account_ids
            if entry.plain_keys:
                self._accounts.tell(account_id, VenueState.DISCONNECTED, reason)

    def belongs(self, account_id: str, created_ns: int) -> bool:
        """Whether an order that was made then was made in the mode in which the account is now."""
        config = self._entries[account_id].config if account_id in self._entries else None
        return not isinstance(config, ManagedAccount) or config.mode_at(created_ns) is config.mode

    def open_all(self) -> list[asyncio.Task[None]]:
        """Open what is not open: those that are out of reach are tried until they are there, in the background.

        What is in the way is shown, and logged. The tasks end when there is nothing more to try.
        """
        closed = [e for e in self._entries.values() if e.config.enabled and e.config.id not in self._venues]
        return [self.opener.open_soon(entry) for entry in closed if not entry.changing.locked()]

    async def close(self) -> None:
        """Try to open nothing any more. What is open stays so."""
        tasks = [task for e in self._entries.values() for task in (e.opening, e.waiting) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- changes ----------------------------------------------------------------------------------------------------

    async def add(self, account: ManagedAccount, credentials: Mapping[str, str]) -> None:
        """Keep an account and its keys. Raises ConfigError, SecretsUnavailable; then nothing has changed."""
        if self.is_taken(account.id):
            raise ConfigError(
                f"an account {account.id!r} is or was there, and what it traded is in the journal: choose another name"
            )
        entry = self._entries[account.id] = Entry(account)  # nobody else can take the id from here on
        entry.is_new = True
        try:
            async with entry.changing:
                if account.mode is TradingMode.LIVE:
                    self._guards.live_keys()
                if credentials:
                    await self.secrets.put(account.id, account.mode, credentials)
                try:
                    entry.is_new = False
                    await self._save()
                except BaseException:
                    entry.is_new = True
                    if credentials:
                        with contextlib.suppress(SecretsUnavailable):
                            await self.secrets.delete(account.id, account.mode)
                    raise
                self._used.add(account.id)
                self._accounts.put(self.opener.info(entry))
        except BaseException:
            if account.id not in self._used:
                del self._entries[account.id]
            raise
        logger.info("account {} was added: {} on {}", account.id, account.mode, account.venue)
        self.opener.open_soon(entry)

    async def rename(self, account_id: str, label: str) -> None:
        """Call an account something else. Raises ConfigError."""
        entry = self._entry(account_id)
        async with self._change(entry):
            await self._put(entry, msgspec.structs.replace(entry.managed, label=label))

    async def set_enabled(self, account_id: str, enabled: bool, *, stop: bool) -> None:
        """Open an account, or close it and leave it alone. Raises KocError."""
        entry = self._entry(account_id)
        async with self._change(entry):
            account = entry.managed
            entry.resume = False
            if not enabled:
                await self._closer.shut(account_id, "it is switched off", stop=stop)
            await self._put(entry, msgspec.structs.replace(account, enabled=enabled))
            if enabled:
                await self.opener.open_anew(entry)
            else:
                self._accounts.tell(account_id, VenueState.DISCONNECTED, "it is switched off")

    async def remove(self, account_id: str, *, stop: bool) -> None:
        """Remove an account and its keys. Raises KocError."""
        entry = self._entry(account_id)
        async with self._change(entry):
            entry.managed  # noqa: B018 - refuses one of koc.yaml
            entry.resume = False
            await self._closer.shut(account_id, "it is being removed", stop=stop)
            try:
                left = await self._delete_keys(account_id)
                del self._entries[account_id]
                try:
                    await self._save()
                except BaseException:
                    self._entries[account_id] = entry
                    raise
            except BaseException as error:
                self._accounts.tell(account_id, VenueState.DISCONNECTED, f"it could not be removed: {error}")
                raise
            await self._accounts.remove(account_id)
        if left:
            self.notice(f"account {account_id!r} was removed, but {left}")
        logger.info("account {} was removed, with the keys that are kept here", account_id)

    async def _delete_keys(self, account_id: str) -> str:
        """Delete an account's keys; gives why some are left, where they are mounted. Raises SecretsUnavailable."""
        try:
            await self.secrets.delete(account_id)
        except SecretsUnavailable as error:
            if not (await self.secrets.state()).folder:
                raise
            return str(error)
        return ""

    async def update_keys(self, account_id: str, mode: TradingMode | None, credentials: Mapping[str, str]) -> None:
        """Keep other keys for a mode, and open the account anew where that is its mode. Raises KocError.

        Without any, those that are mounted are others now.
        """
        entry = self._entry(account_id)
        async with self._change(entry):
            mode = mode or entry.config.mode
            if mode is TradingMode.LIVE:
                self._guards.live_keys()
            if credentials:
                await self.secrets.put(account_id, mode, credentials)
            logger.info("account {} has new keys for {}", account_id, mode)
            self._accounts.put(self.opener.info(entry))
            if mode is entry.config.mode and entry.config.enabled:
                entry.resume = False
                await self.opener.open_anew(entry)

    async def switch_account(self, account_id: str, mode: TradingMode) -> None:
        """Stop what runs on an account, end its orders, and open it in another mode with the keys of that mode.

        Every step is shown. Raises KocError when a step fails: the account is closed then, in the mode of before where
        the new one was not written down yet, else in the new one. Whoever is to ask for a confirmation has done so.
        """
        entry = self._entry(account_id)
        async with self._change(entry):
            before = entry.managed
            if mode is before.mode:
                raise ConfigError(f"account {before.name!r} is in {mode} mode already")
            if mode not in self.opener.modes(before.venue):
                raise ConfigError(f"accounts on {before.venue} cannot be in {mode} mode")
            after = msgspec.structs.replace(before, mode=mode, balances=before.balances or _first_money(before, mode))
            await self.opener.keys(after)  # where there are none nothing is disturbed
            entry.resume = False
            try:
                await self._closer.shut(account_id, f"it is being switched to {mode}", stop=True)
                past = (*before.past, PastMode(before.mode, self._last_ns(account_id)))
                await self._put(entry, msgspec.structs.replace(after, past=past))
            except BaseException as error:
                why = str(error) or "the switch was broken off"
                said = f"it was not switched to {mode}, and is closed, still in {before.mode} mode: {why}"
                await self._closer.disconnect(account_id, said)
                raise
            logger.log("WARNING" if mode is TradingMode.LIVE else "INFO", "account {} is {} now", account_id, mode)
            await self._replay(entry)
            try:
                await self.opener.open(entry, f"it is being switched to {mode}", retry=False)
                await self.opener.wait_for_clock(entry)
            except BaseException as error:
                why = str(error) or "the switch was broken off"
                await self._closer.disconnect(account_id, f"it was switched to {mode}, but could not be opened: {why}")
                self._orders.release(account_id)
                raise

    async def check(self, account: AccountConfig, credentials: Mapping[str, str] | None) -> ConnectionReport:
        """Try keys: those given, else those that are kept for the account. Raises KocError."""
        if account.mode is TradingMode.LIVE:
            self._guards.live_keys()
        keys = Credentials(credentials) if credentials else await self.opener.keys(account)
        return await self.factory.check(account, keys)

    def notice(self, text: str) -> None:
        """Tell the person something, in the log and in every window."""
        give_notice(self._store, self._bus, text)

    # ---- steps ------------------------------------------------------------------------------------------------------

    def _entry(self, account_id: str) -> Entry:
        entry = self._entries.get(account_id)
        if entry is None:
            raise ConfigError(f"there is no account {account_id!r}; there are: {', '.join(self._entries) or 'none'}")
        return entry

    @contextlib.asynccontextmanager
    async def _change(self, entry: Entry) -> AsyncIterator[None]:
        """Have an account to oneself; refused while somebody else changes it. It is opened by nobody meanwhile."""
        if entry.changing.locked():
            raise ConfigError(f"account {entry.config.name!r} is being changed already: wait for the end of that")
        async with entry.changing:
            if self._entries.get(entry.config.id) is not entry:
                raise ConfigError(f"there is no account {entry.config.id!r} any more")
            if entry.plain_keys:
                raise SecretsUnavailable(self._store.accounts[entry.config.id].reason)
            opening, entry.opening = entry.opening, None
            # one that is connected is let settle: else it would be closed with its orders working
            is_there = self._store.accounts[entry.config.id].state in (VenueState.CONNECTED, VenueState.INTERRUPTED)
            if opening is not None and (entry.is_settling or is_there):
                await asyncio.wait({opening}, timeout=SETTLE_TIMEOUT_S)
            entry.resume = opening is not None and not opening.done()
            if opening is not None:
                opening.cancel()
                await asyncio.gather(opening, return_exceptions=True)
            try:
                yield
            finally:
                if entry.resume:
                    self.opener.open_soon(entry)

    def _last_ns(self, account_id: str) -> int:
        """Give a time, by the clock of an account's orders, that none of them is after."""
        times = [order.created_ns for order in self._store.recent_orders(1_000_000) if order.account_id == account_id]
        return max([self._clock.time_ns(), *times])

    async def _replay(self, entry: Entry) -> None:
        """Have what is held be what was traded in the present mode."""
        fills = await asyncio.to_thread(self._guards.fills, entry.managed)
        for position in self._ledger.replay_account(entry.config.id, fills):
            self._bus.publish(PositionChanged(position))

    async def _put(self, entry: Entry, config: AccountConfig) -> None:
        """Have an account be another, in the file first. Raises ConfigError; then it is as it was."""
        before, entry.config = entry.config, config
        try:
            await self._save()
        except BaseException:
            entry.config = before
            raise
        self._accounts.put(self.opener.info(entry))

    async def _save(self) -> None:
        async with self._writing:
            entries = [entry for entry in self._entries.values() if not entry.is_new]
            managed = [entry.config for entry in entries if isinstance(entry.config, ManagedAccount)]
            await asyncio.shield(asyncio.to_thread(self.file.write, managed))


def _first_money(account: AccountConfig, mode: TradingMode) -> dict[str, Decimal]:
    """Give what an account that was never on paper begins with there."""
    if mode is not TradingMode.PAPER:
        return {}
    return {"USD" if account.venue in _DOLLARS else "USDT": Decimal(100_000)}
