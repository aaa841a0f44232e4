"""Where keys of accounts are kept. Values are held by the engine's live sessions and a store; they are never logged."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from koc_qt.domain.accounts import KeyFile
from koc_qt.domain.state import TradingMode


class Credentials(Mapping[str, str]):
    """The fields that let us in, by name (see CredentialField). Shows none of its values in any text made of it."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        self._fields = dict(fields)

    def __getitem__(self, name: str) -> str:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __repr__(self) -> str:
        return f"Credentials({', '.join(f'{name}=***' for name in self._fields)})"

    __str__ = __repr__

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("credentials are not to be copied into messages or files")


class SecretStore(Protocol):
    """Keeps credentials by account and mode: a live key can never be read for paper or testnet.

    Every method may block for long (a keyring may ask its owner): call it in a thread. Raises SecretsUnavailable, whose
    text says what to do; texts never hold values.
    """

    @property
    def title(self) -> str:
        """What people call it, such as ``Secret Service keyring``."""
        ...

    @property
    def is_writable(self) -> bool:
        """Whether `put` and `delete` work here; mounted files are read only."""
        ...

    def get(self, account_id: str, mode: TradingMode) -> Credentials | None:
        """Give what is kept for an account in a mode; None where there is nothing."""
        ...

    def put(self, account_id: str, mode: TradingMode, credentials: Mapping[str, str]) -> None:
        """Keep these instead of what was there, whole or not at all."""
        ...

    def delete(self, account_id: str, mode: TradingMode | None = None) -> None:
        """Forget what is kept for a mode, or for all; nothing happens where there is nothing."""
        ...


@runtime_checkable
class LockableStore(SecretStore, Protocol):
    """A store behind a passphrase that a person types; locked, it raises SecretsUnavailable."""

    @property
    def is_locked(self) -> bool:
        """Whether `unlock` has to be called first."""
        ...

    @property
    def is_new(self) -> bool:
        """Whether nothing is kept yet, so that `unlock` takes whatever passphrase the person chooses."""
        ...

    def unlock(self, passphrase: str) -> None:
        """Open the store. Raises SecretsUnavailable for a wrong passphrase, or one that is too short to choose."""
        ...


@runtime_checkable
class MountedSecrets(SecretStore, Protocol):
    """A store that reads files which somebody else mounts."""

    @property
    def folder(self) -> str:
        """Where they are mounted."""
        ...

    def files(self, account_id: str, mode: TradingMode, fields: Iterable[str]) -> Sequence[KeyFile]:
        """Give the file of each field, and what is wrong with it."""
        ...

    def complete(self, mode: TradingMode, fields: Iterable[str]) -> Sequence[str]:
        """Give what could be ids of accounts: those of which every field is mounted for a mode."""
        ...
