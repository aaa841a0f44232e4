"""A store of keys in memory, which can be locked, broken, or read only."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret
from tests.conditions import PATIENCE


class MemoryStore:
    """Implements ports/secrets.py LockableStore; `reads` are the modes for which it was asked, by account."""

    title = "store in memory"

    def __init__(self, *, passphrase: str = "") -> None:
        self.passphrase = passphrase
        self.is_locked = bool(passphrase)
        self.is_writable = True
        self.is_new = False
        self.kept: dict[tuple[str, TradingMode], dict[str, str]] = {}
        self.reads: list[tuple[str, TradingMode]] = []
        self.broken = ""
        self.forgetful = False
        self.hold: threading.Event | None = None

    def unlock(self, passphrase: str) -> None:
        """Open it, with the right passphrase."""
        if passphrase != self.passphrase:
            raise SecretsUnavailable("this is not the passphrase")
        self.is_locked = False

    def get(self, account_id: str, mode: TradingMode) -> Credentials | None:
        """Give what is kept."""
        self._check()
        self.reads.append((account_id, mode))
        kept = self.kept.get((account_id, mode))
        return None if kept is None or self.forgetful else Credentials(kept)

    def put(self, account_id: str, mode: TradingMode, credentials: Mapping[str, str]) -> None:
        """Keep these."""
        self._check()
        for value in credentials.values():
            register_secret(value)
        self.kept[account_id, mode] = dict(credentials)

    def delete(self, account_id: str, mode: TradingMode | None = None) -> None:
        """Forget what is kept."""
        self._check()
        for key in [key for key in self.kept if key[0] == account_id and mode in (None, key[1])]:
            del self.kept[key]

    def _check(self) -> None:
        if self.hold is not None:
            self.hold.wait(10 * PATIENCE)
        if self.is_locked:
            raise SecretsUnavailable("the store is locked: type its passphrase")
        if self.broken:
            raise SecretsUnavailable(self.broken)
