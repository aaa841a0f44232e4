"""What clients may ask of accounts and keys: checks what people typed, and says how things are."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, assert_never

import msgspec

from koc_qt.accounts_file import ManagedAccount
from koc_qt.config import AccountConfig, FeesConfig, account_problems
from koc_qt.domain.accounts import AccountDetails, KeyFiles, PaperOptions, SecretsState
from koc_qt.domain.errors import ConfigError, KocError, SecretsUnavailable
from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport
from koc_qt.engine.account_registry import AccountRegistry
from koc_qt.engine.plain_keys import PlainKeyMover
from koc_qt.engine.store import Store
from koc_qt.link.account_messages import (
    AccountCommand,
    AddAccount,
    ListAccounts,
    ListKeyFiles,
    ListVenues,
    RemoveAccount,
    RenameAccount,
    SecretsStatus,
    SetAccountEnabled,
    SwitchAccount,
    TestConnection,
    UnlockSecrets,
    UpdateCredentials,
)

CHECK_TIMEOUT_S = 60.0
MOST_ACCOUNTS = 100
LONGEST_KEY = 16_384  # characters
LONGEST_LABEL = 64


class AccountCommands:
    """Carries out the link's commands about accounts."""

    def __init__(
        self,
        store: Store,
        registry: AccountRegistry,
        mover: PlainKeyMover,
    ) -> None:
        self._store = store
        self._registry = registry
        self._mover = mover
        self._kept: dict[str, set[TradingMode]] = {}  # for which modes there are keys, as far as was looked

    async def execute(self, command: AccountCommand) -> Any:
        """Do what a client asks; gives the reply's value. Raises KocError with a sentence that holds no key."""
        registry = self._registry
        match command:
            case ListVenues():
                # real venues' adapters are imported for it
                return msgspec.to_builtins(await asyncio.to_thread(lambda: [*registry.factory.abilities.values()]))
            case ListAccounts():
                return msgspec.to_builtins([await self._details(account) for account in registry.all])
            case AddAccount():
                return await self._add(command)
            case UpdateCredentials(account_id, credentials, mode):
                account = registry.config(account_id)
                mode = mode or account.mode
                keys = await self._keys_of(msgspec.structs.replace(account, mode=mode), credentials)
                self._kept.pop(account_id, None)
                return await registry.update_keys(account_id, mode, keys)
            case RenameAccount(account_id, label):
                return await registry.rename(account_id, self._label(label, account_id))
            case SetAccountEnabled(account_id, enabled, stop):
                return await registry.set_enabled(account_id, enabled, stop=stop)
            case RemoveAccount(account_id, stop):
                self._kept.pop(account_id, None)
                return await registry.remove(account_id, stop=stop)
            case SwitchAccount(account_id, mode, confirmation):
                if mode is TradingMode.LIVE:
                    _confirm(registry.config(account_id).name, confirmation)
                return await registry.switch_account(account_id, mode)
            case TestConnection():
                return msgspec.to_builtins(await self._test(command))
            case UnlockSecrets(passphrase):
                await registry.secrets.unlock(passphrase)
                self._kept.clear()
                await self._mover.move()
                registry.open_all()
                return msgspec.to_builtins(await self._secrets())
            case SecretsStatus():
                return msgspec.to_builtins(await self._secrets())
            case ListKeyFiles(venue, mode, account_id):
                return msgspec.to_builtins(await self._key_files(venue, mode, account_id))
            case _:
                assert_never(command)

    async def _secrets(self) -> SecretsState:
        """Say where keys are kept, also where that is nowhere."""
        try:
            return await self._registry.secrets.state()
        except SecretsUnavailable as error:
            return SecretsState("nowhere", is_writable=False, is_locked=False, is_new=False, reason=str(error))

    async def _details(self, account: AccountConfig) -> AccountDetails:
        shown = self._store.accounts.get(account.id)
        fees = account.fees
        paper = PaperOptions(
            tuple(Balance(currency, amount) for currency, amount in account.balances.items()),
            account.allow_short,
            account.latency_ms,
            fees.maker if fees else None,
            fees.taker if fees else None,
        )
        return AccountDetails(
            account_id=account.id,
            label=account.label,
            venue=account.venue,
            mode=account.mode,
            enabled=account.enabled,
            is_editable=self._registry.is_editable(account.id),
            modes=self._registry.opener.modes(account.venue),
            keys_for=await self._kept_modes(account),
            state=shown.state if shown else VenueState.DISCONNECTED,
            reason=shown.reason if shown else "",
            paper=paper if account.is_filled_here else None,
        )

    async def _kept_modes(self, account: AccountConfig) -> tuple[TradingMode, ...]:
        """Give the modes for which there are keys; none where they cannot be looked for."""
        registry = self._registry
        if account.id not in self._kept:
            wanted = [
                mode for mode in registry.opener.modes(account.venue) if registry.opener.needs_keys(account.venue, mode)
            ]
            found = set()
            try:
                for mode in wanted:
                    if await registry.opener.read_keys(msgspec.structs.replace(account, mode=mode)) is not None:
                        found.add(mode)
            except SecretsUnavailable:
                return ()
            if (await self._secrets()).folder:  # whose files come and go without us
                return tuple(mode for mode in wanted if mode in found)
            self._kept[account.id] = found
        return tuple(mode for mode in registry.opener.modes(account.venue) if mode in self._kept[account.id])

    async def _add(self, command: AddAccount) -> str:
        registry, venue, mode = self._registry, command.venue, command.mode
        if len(registry.all) >= MOST_ACCOUNTS:
            raise ConfigError(f"{MOST_ACCOUNTS} accounts are the most: remove one that is not used")
        self._check_mode(venue, mode)
        account_id = command.account_id or self._choose_id(f"{venue}-{mode}")
        label = self._label(command.label, account_id)
        if command.credentials:
            self._checked(venue, mode, command.credentials)
        paper = command.paper or PaperOptions()
        account = ManagedAccount(account_id, venue, mode, label=label)
        if account.is_filled_here:
            fees = None
            if paper.maker_fee is not None and paper.taker_fee is not None:
                fees = FeesConfig(paper.maker_fee, paper.taker_fee)
            elif paper.maker_fee is not paper.taker_fee:
                raise ConfigError("give both fees, or neither")
            account = ManagedAccount(
                account_id,
                venue,
                mode,
                {balance.currency: balance.total for balance in paper.balances},
                paper.allow_short,
                paper.latency_ms,
                fees,
                label,
            )
        if mode is TradingMode.LIVE:
            _confirm(account.name, command.confirmation)
        _check(account)
        await registry.add(account, await self._keys_of(account, command.credentials))
        return account_id

    async def _keys_of(self, account: AccountConfig, credentials: Mapping[str, str]) -> dict[str, str]:
        """Give the keys to be kept for an account; none where they are mounted. Raises where some are missing."""
        if credentials or not self._registry.opener.needs_keys(account.venue, account.mode):
            return self._checked(account.venue, account.mode, credentials)
        if (await self._secrets()).is_writable:
            return self._checked(account.venue, account.mode, {})
        await self._registry.opener.keys(account)
        return {}

    async def _key_files(self, venue: str, mode: TradingMode, account_id: str) -> KeyFiles:
        """Say which files an account needs, and what is wrong with them."""
        self._check_mode(venue, mode)
        registry = self._registry
        folder = (await self._secrets()).folder
        if not folder or not registry.opener.needs_keys(venue, mode):
            return KeyFiles(account_id or self._choose_id(f"{venue}-{mode}"))
        fields = [field.name for field in registry.factory.abilities[venue].credentials]
        if not account_id:
            complete = await registry.secrets.complete(mode, fields)
            free = (each for each in complete if not registry.is_taken(each) and _can_be(each, venue, mode))
            account_id = next(free, "") or self._choose_id(venue)
        _check(ManagedAccount(account_id, venue, mode))
        return KeyFiles(account_id, folder, tuple(await registry.secrets.files(account_id, mode, fields)))

    async def _test(self, command: TestConnection) -> ConnectionReport:
        registry, venue, mode = self._registry, command.venue, command.mode
        is_known = command.account_id in {account.id for account in registry.all}
        if command.account_id and (is_known or not (await self._secrets()).folder):
            account = msgspec.structs.replace(registry.config(command.account_id), mode=mode)
            venue = account.venue
        else:
            account = ManagedAccount(command.account_id or "test", venue, mode)
        try:
            self._check_mode(venue, mode)
            keys: Mapping[str, str] | None = None
            if command.credentials or not command.account_id:
                keys = self._checked(venue, mode, command.credentials)
            elif not is_known:
                _check(account)
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await registry.check(account, keys)
        except TimeoutError:
            return ConnectionReport(f"{venue} did not answer within {CHECK_TIMEOUT_S:g} s: try again later")
        except KocError as error:
            return ConnectionReport(str(error))

    # ---- what people type -------------------------------------------------------------------------------------------

    def _check_mode(self, venue: str, mode: TradingMode) -> None:
        known = self._registry.factory.abilities
        if venue not in known:
            raise ConfigError(f"there is no venue {venue!r}; there are: {', '.join(known)}")
        modes = self._registry.opener.modes(venue)
        if mode not in modes:
            raise ConfigError(f"accounts on {known[venue].title} can be {', '.join(modes) or 'in no mode'}, not {mode}")

    def _checked(self, venue: str, mode: TradingMode, credentials: Mapping[str, str]) -> dict[str, str]:
        """Give keys without the blanks around them. Raises ConfigError where some are missing, or not asked for."""
        self._check_mode(venue, mode)
        abilities = self._registry.factory.abilities[venue]
        wanted = {field.name: field.title for field in abilities.credentials}
        if not self._registry.opener.needs_keys(venue, mode):
            if credentials:
                raise ConfigError(f"a {mode} account on {abilities.title} needs no keys: give none")
            return {}
        if unknown := len(set(credentials) - set(wanted)):
            raise ConfigError(f"{abilities.title} has no such {unknown} fields of keys; it has {', '.join(wanted)}")
        keys = {name: credentials[name].strip() for name in wanted if name in credentials}
        if missing := [title for name, title in wanted.items() if not keys.get(name)]:
            raise ConfigError(f"type in {' and '.join(missing)}: {abilities.title} lets nobody in without")
        if any(len(value) > LONGEST_KEY for value in keys.values()):
            raise ConfigError(f"a key of more than {LONGEST_KEY} characters is none: copy it again")
        return keys

    def _label(self, label: str, account_id: str) -> str:
        """Give a label that can be one, and that no other account is called. Raises ConfigError."""
        label = label.strip()
        if len(label) > LONGEST_LABEL or not label.isprintable():
            raise ConfigError(f"a label has up to {LONGEST_LABEL} letters on a line")
        for other in self._registry.all:
            if label and other.id != account_id and label in (other.id, other.label):
                raise ConfigError(f"another account is called {label!r}: choose another label")
        return label

    def _choose_id(self, stem: str) -> str:
        number = 1
        while self._registry.is_taken(candidate := stem if number == 1 else f"{stem}-{number}"):
            number += 1
        return candidate


def _confirm(name: str, confirmation: str) -> None:
    if confirmation.strip() != name:
        raise ConfigError(f"going live trades with real money: type the account's name, {name!r}, to confirm it")


def _can_be(account_id: str, venue: str, mode: TradingMode) -> bool:
    """Whether an account can have this id."""
    try:
        _check(ManagedAccount(account_id, venue, mode))
    except ConfigError:
        return False
    return True


def _check(account: AccountConfig) -> None:
    """Raise ConfigError for an account that its own file would not take."""
    try:
        msgspec.convert(msgspec.to_builtins(account), type(account))
    except msgspec.ValidationError as error:
        raise ConfigError(f"this account cannot be: {error}") from None
    for where, problem in account_problems(account):
        raise ConfigError(f"the account's {'.'.join(map(str, where))} {problem}")
