"""A keyring in memory, and some that do not work."""

from __future__ import annotations

from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as _NoKeyring
from keyring.backends.null import Keyring as _NullKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError

NO_KEYRING: KeyringBackend = _NoKeyring()  # type: ignore[no-untyped-call]
NULL_KEYRING: KeyringBackend = _NullKeyring()  # type: ignore[no-untyped-call]


class MemoryKeyring(KeyringBackend):
    """Keeps entries in a dictionary; `locked` and `broken` make it raise, `fail_after` writes more."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False
        self.broken: Exception | None = None
        self.fail_after: int | None = None

    def get_password(self, service: str, username: str) -> str | None:
        """Give an entry."""
        self._check()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        """Keep an entry."""
        self._check()
        self._count()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        """Forget an entry; raises where there is none, as real ones do."""
        self._check()
        self._count()
        if (service, username) not in self.entries:
            raise PasswordDeleteError("no such password")
        del self.entries[service, username]

    def _check(self) -> None:
        if self.locked:
            raise KeyringLocked("the collection is locked")
        if self.broken is not None:
            raise self.broken

    def _count(self) -> None:
        if self.fail_after is not None:
            if self.fail_after == 0:
                raise RuntimeError("the machine lost its power")
            self.fail_after -= 1


class PlaintextKeyring(MemoryKeyring):
    """Bears the name of keyrings.alt's file in plain text."""


class UselessKeyring(MemoryKeyring):
    """Says that it does not suit this system."""

    priority = 0
