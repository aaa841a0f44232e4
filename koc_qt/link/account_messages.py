"""Commands about accounts and their keys, and a fact about them. Those with keys in them show them in no text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from koc_qt.domain.accounts import AccountLimits, PaperOptions
from koc_qt.domain.state import TradingMode
from koc_qt.scrub import register_secret


class WithSecrets(msgspec.Struct, frozen=True):
    """A command with secrets in it: no text made of it, also none that another message is part of, shows them.

    Whoever makes or reads one has its secrets taken out of logs and errors from then on.
    """

    def __post_init__(self) -> None:
        for value in self.secrets():
            register_secret(value)

    def secrets(self) -> Iterable[str]:
        """Give every secret in it."""
        return ()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class ListVenues(msgspec.Struct, frozen=True, tag=True):
    """Answered with the VenueAbilities of every venue that there is an account for, or can be."""


class ListAccounts(msgspec.Struct, frozen=True, tag=True):
    """Answered with the AccountDetails of every account, usable or not."""


class AddAccount(WithSecrets, frozen=True, tag=True):
    """Add an account and open it. Answered with its id, which the engine chooses where `account_id` is empty.

    `credentials` are the fields that the venue's abilities name, none where they are mounted; `paper` is for simulated
    and paper accounts. `confirmation` must be the account's name (its label, or its id where there is none) for a
    live one.
    """

    venue: str
    mode: TradingMode
    account_id: str = ""
    label: str = ""
    credentials: dict[str, str] = {}
    paper: PaperOptions | None = None
    confirmation: str = ""

    def secrets(self) -> Iterable[str]:
        """Give the values of the credentials."""
        return self.credentials.values()


class UpdateCredentials(WithSecrets, frozen=True, tag=True):
    """Keep these keys instead of those of a mode (the present one when None); an open account is opened anew.

    Without `credentials` it is opened with what is mounted.
    """

    account_id: str
    credentials: dict[str, str]
    mode: TradingMode | None = None

    def secrets(self) -> Iterable[str]:
        """Give the values of the credentials."""
        return self.credentials.values()


class RenameAccount(msgspec.Struct, frozen=True, tag=True):
    """Call an account something else; its id stays."""

    account_id: str
    label: str


class SetAccountEnabled(msgspec.Struct, frozen=True, tag=True):
    """Open an account, or close it and leave it alone.

    Closing is refused while a strategy runs on it or orders are open, unless `stop` says to stop and cancel them.
    """

    account_id: str
    enabled: bool
    stop: bool = False


class RemoveAccount(msgspec.Struct, frozen=True, tag=True):
    """Remove an account and delete its keys; what it traded stays in the journal. `stop` as in SetAccountEnabled."""

    account_id: str
    stop: bool = False


class SwitchAccount(msgspec.Struct, frozen=True, tag=True):
    """Stop what runs on an account, cancel its orders, and open it in another mode with the keys of that mode.

    Going live needs the account's name (its label, or its id where there is none) as `confirmation`.
    """

    account_id: str
    mode: TradingMode
    confirmation: str = ""


class TestConnection(WithSecrets, frozen=True, tag=True):
    """Try an account's keys, or, without an `account_id`, keys that are not kept anywhere. Changes nothing.

    Answered with a ConnectionReport. `credentials` are tried in the place of those that are kept where there are any.
    Where keys are mounted, `account_id` may be that of an account to be added.
    """

    __test__ = False  # no test case, whatever pytest may think of the name

    venue: str
    mode: TradingMode
    credentials: dict[str, str] = {}
    account_id: str = ""

    def secrets(self) -> Iterable[str]:
        """Give the values of the credentials."""
        return self.credentials.values()


class UnlockSecrets(WithSecrets, frozen=True, tag=True):
    """Unlock the encrypted file of keys, or choose its passphrase where it is new. Answered with a SecretsState."""

    passphrase: str

    def secrets(self) -> Iterable[str]:
        """Give the passphrase."""
        return (self.passphrase,)


class SecretsStatus(msgspec.Struct, frozen=True, tag=True):
    """Answered with a SecretsState: where keys are kept."""


class AccountLimitsChanged(msgspec.Struct, frozen=True, tag=True):
    """How much of what its venue lets an account do is used up, or what that is; at most once a second an account."""

    limits: AccountLimits


class ListKeyFiles(msgspec.Struct, frozen=True, tag=True):
    """Answered with the KeyFiles that an account on a venue needs in a mode, where keys are mounted.

    `account_id` is that of an account, or of one to be added; where it is empty the engine proposes one.
    """

    venue: str
    mode: TradingMode
    account_id: str = ""


AccountCommand = (
    ListVenues
    | ListAccounts
    | AddAccount
    | UpdateCredentials
    | RenameAccount
    | SetAccountEnabled
    | RemoveAccount
    | SwitchAccount
    | TestConnection
    | UnlockSecrets
    | SecretsStatus
    | ListKeyFiles
)
