"""The accounts of a fake engine: what clients ask of them is done in memory, and keys are kept in a dictionary."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from koc_qt.domain.accounts import AccountDetails, KeyFile, KeyFiles, PaperOptions, SecretsState
from koc_qt.domain.errors import KocError
from koc_qt.domain.orders import OrderType, TimeInForce
from koc_qt.domain.state import AccountSnapshot, Balance, TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport, CredentialField, DataStream, VenueAbilities
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
from koc_qt.link.messages import AccountChanged, AccountRemoved, Fact

START_NS = 1_700_000_000_000_000_000
KEYRING = SecretsState("Secret Service keyring", is_writable=True, is_locked=False, is_new=False, reason="")
LOCKED = SecretsState(
    "encrypted file", is_writable=True, is_locked=True, is_new=False, reason="This system has no keyring."
)
MOUNTED = SecretsState(
    "files in /run/secrets", is_writable=False, is_locked=False, is_new=False,
    reason="KOC_DOCKER=1 says that keys are mounted here", folder="/run/secrets",
)  # fmt: skip
PASSPHRASE = "correct horse battery"
ALL_TYPES = tuple(OrderType)
ALL_TIMES = tuple(TimeInForce)
SIM = VenueAbilities(
    "sim", "Simulated market", trading=True, paper=False, order_types=ALL_TYPES, time_in_force=ALL_TIMES,
    post_only=True, reduce_only=True, client_ids=True, amend=True, shorting=True, streams=tuple(DataStream),
)  # fmt: skip
BINANCE = VenueAbilities(
    "binance", "Binance", trading=True, testnet=True, order_types=ALL_TYPES, time_in_force=ALL_TIMES, post_only=True,
    client_ids=True, private_streams=True, streams=(DataStream.TRADES, DataStream.QUOTES, DataStream.BOOK),
    timeframes=("1m", "5m", "1h", "1d"),
    credentials=(
        CredentialField("key", "API key"),
        CredentialField("secret", "Secret key", "Shown once, when the key is made", is_multiline=True),
    ),
    keys_page="https://www.binance.com/en/my/settings/api-management",
    notes=("Allow reading and spot trading; leave withdrawals off.",),
)  # fmt: skip
KUCOIN = VenueAbilities(
    "kucoin", "KuCoin", trading=True, order_types=(OrderType.MARKET, OrderType.LIMIT),
    time_in_force=(TimeInForce.GTC, TimeInForce.IOC), client_ids=True, streams=(DataStream.TRADES,),
    credentials=(
        CredentialField("key", "API key"), CredentialField("secret", "API secret"),
        CredentialField("passphrase", "API passphrase", "The one that you chose when you made the key"),
    ),
)  # fmt: skip
POLYGON = VenueAbilities(
    "polygon", "Polygon.io (Massive)", data_needs_key=True, streams=(DataStream.BARS,), history_days=730,
    credentials=(CredentialField("key", "API key"),),
)  # fmt: skip
YAHOO = VenueAbilities("yahoo", "Yahoo Finance", streams=(), history_days=7)
ABILITIES = (SIM, BINANCE, KUCOIN, POLYGON, YAHOO)
GOOD_REPORT = ConnectionReport(
    can_read=True, can_trade=True, can_withdraw=False, permissions=("read", "spot trading"), clock_skew_ms=12.5,
    latency_ms=48.0, maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"),
    balances=(Balance("USDT", Decimal("1234.5")), Balance("BTC", Decimal("0.25"))),
)  # fmt: skip


def paper_account() -> AccountSnapshot:
    """Give the account that every fake engine has."""
    balances = (Balance("USDT", Decimal(10_000)),)
    return AccountSnapshot("paper", "sim", TradingMode.PAPER, VenueState.CONNECTED, balances, START_NS)


@dataclass
class FakeAccounts:
    """Does what clients ask of accounts. `refusals` has the error for each kind of command that shall fail.

    While `hold` is set and not released, tests of connections, additions and switches do not end. `edited_elsewhere`
    are the ids of accounts that koc.yaml describes. `mounted` are the names of files of keys that are there, where
    `secrets` says that keys are mounted.
    """

    publish: Callable[[Fact], None]
    snapshots: dict[str, AccountSnapshot] = field(default_factory=lambda: {"paper": paper_account()})
    abilities: tuple[VenueAbilities, ...] = ABILITIES
    keys: dict[tuple[str, TradingMode], dict[str, str]] = field(default_factory=dict)
    secrets: SecretsState = KEYRING
    report: ConnectionReport = GOOD_REPORT
    refusals: dict[type[Any], str] = field(default_factory=dict)
    edited_elsewhere: set[str] = field(default_factory=set)
    mounted: set[str] = field(default_factory=set)
    hold: asyncio.Event | None = None

    def show(self, account: AccountSnapshot) -> None:
        """Add or change an account."""
        self.snapshots[account.account_id] = account
        self.publish(AccountChanged(account))

    def change(self, account_id: str, **changes: Any) -> None:
        """Change something about an account."""
        self.show(msgspec.structs.replace(self._known(account_id), **changes))

    def _known(self, account_id: str) -> AccountSnapshot:
        if account_id not in self.snapshots:
            raise KocError(f"there is no account {account_id!r}")
        return self.snapshots[account_id]

    async def execute(self, command: AccountCommand) -> Any:
        """Do what a client asks."""
        if type(command) in self.refusals:
            raise KocError(self.refusals[type(command)])
        match command:
            case ListVenues():
                return msgspec.to_builtins(self.abilities)
            case ListAccounts():
                return msgspec.to_builtins([self.details(each) for each in self.snapshots])
            case SecretsStatus():
                return msgspec.to_builtins(self.secrets)
            case UnlockSecrets(passphrase):
                return self._unlock(passphrase)
            case ListKeyFiles(venue, mode, account_id):
                return msgspec.to_builtins(self._files(venue, mode, account_id or f"{venue}-{mode}"))
            case RenameAccount(account_id, label):
                self.change(account_id, label=label)
            case SetAccountEnabled(account_id, enabled):
                state = VenueState.CONNECTED if enabled else VenueState.DISCONNECTED
                self.change(account_id, enabled=enabled, state=state)
            case UpdateCredentials(account_id, credentials, mode) if credentials:
                self.keys[account_id, mode or self._known(account_id).mode] = dict(credentials)
                self.change(account_id, has_keys=True)
            case RemoveAccount(account_id):
                self._known(account_id)
                del self.snapshots[account_id]
                self.publish(AccountRemoved(account_id))
            case AddAccount() | SwitchAccount() | TestConnection():
                if self.hold is not None:
                    await self.hold.wait()
                return self._long(command)
        return None

    def _long(self, command: AddAccount | SwitchAccount | TestConnection) -> Any:
        match command:
            case TestConnection():
                return msgspec.to_builtins(self.report)
            case SwitchAccount(account_id, mode, confirmation):
                account = self._known(account_id)
                if mode is TradingMode.LIVE and confirmation != (account.label or account_id):
                    raise KocError("the name does not match: nothing was changed")
                self.change(account_id, mode=mode, has_keys=(account_id, mode) in self.keys)
                return None
            case AddAccount(venue, mode, label=label):
                account_id = command.account_id or f"{venue}-{len(self.snapshots) + 1}"
                if mode is TradingMode.LIVE and command.confirmation != (label or account_id):
                    raise KocError("the name does not match: nothing was added")
                if command.credentials:
                    self.keys[account_id, mode] = dict(command.credentials)
                balances = command.paper.balances if command.paper is not None else ()
                self.show(
                    AccountSnapshot(
                        account_id, venue, mode, VenueState.CONNECTED, balances, START_NS, label,
                        has_keys=bool(command.credentials),
                    )
                )  # fmt: skip
                return account_id

    def _files(self, venue: str, mode: TradingMode, account_id: str) -> KeyFiles:
        fields = next(each.credentials for each in self.abilities if each.venue == venue)
        names = {each.name: f"{account_id}_{mode}_{each.name}" for each in fields}
        lacks = "it is not mounted"
        files = tuple(KeyFile(each, name, "" if name in self.mounted else lacks) for each, name in names.items())
        return KeyFiles(account_id, self.secrets.folder, files)

    def _unlock(self, passphrase: str) -> Any:
        if not self.secrets.is_new and passphrase != PASSPHRASE:
            raise KocError("this is not the passphrase of the encrypted file: try again")
        self.secrets = msgspec.structs.replace(self.secrets, is_locked=False, is_new=False)
        return msgspec.to_builtins(self.secrets)

    def details(self, account_id: str) -> AccountDetails:
        """Give all there is to know of an account but its keys."""
        account = self.snapshots[account_id]
        abilities = next((each for each in self.abilities if each.venue == account.venue), SIM)
        modes = [TradingMode.PAPER, TradingMode.TESTNET, TradingMode.LIVE]
        has = {TradingMode.TESTNET: abilities.testnet, TradingMode.LIVE: abilities.trading}
        return AccountDetails(
            account_id, account.label, account.venue, account.mode, account.enabled,
            is_editable=account_id not in self.edited_elsewhere,
            modes=tuple(mode for mode in modes if has.get(mode, True)),
            keys_for=tuple(mode for known, mode in self.keys if known == account_id),
            state=account.state, reason=account.reason,
            paper=PaperOptions() if account.mode is TradingMode.PAPER else None,
        )  # fmt: skip
