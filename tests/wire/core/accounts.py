"""Who may use an exchange: people, their API keys, and the tokens that streams are opened with."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from koc_qt.domain.matching import MatchingEngine
from koc_qt.domain.state import Balance

READ, TRADE, WITHDRAW = "read", "trade", "withdraw"


class KeyProblem(StrEnum):
    """Why a key does not open."""

    UNKNOWN = "unknown"
    REVOKED = "revoked"
    EXPIRED = "expired"
    IP = "ip"
    PERMISSION = "permission"


@dataclass
class ApiKey:
    """What a person made at the venue; `ips` is empty where any address may use it. Times are UTC nanoseconds.

    `secret` is what the person has: a random text, or a PEM of a private key whose public part the dialect keeps.
    """

    key: str
    secret: str
    passphrase: str = ""
    permissions: set[str] = field(default_factory=lambda: {READ, TRADE})
    ips: set[str] = field(default_factory=set)
    expires_ns: int | None = None
    revoked: bool = False
    last_nonce: int = 0

    def accept_nonce(self, nonce: int) -> bool:
        """Take a nonce, unless it is not above the one before."""
        if nonce <= self.last_nonce:
            return False
        self.last_nonce = nonce
        return True


@dataclass(eq=False)
class User:
    """A person with an account and keys; `extra` is for the dialect (an account's number, for instance)."""

    name: str
    engine: MatchingEngine
    keys: list[ApiKey] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def balances(self) -> dict[str, Balance]:
        """Give what is in the account; `locked` is part of `total`."""
        return {balance.currency: balance for balance in self.engine.balances}


class Directory:
    """The users, found by key or by token."""

    def __init__(self) -> None:
        self.users: list[User] = []
        self._tokens: dict[str, tuple[User, int]] = {}

    def find(self, key: str) -> tuple[User, ApiKey] | None:
        """Give whose key that is, whatever its state."""
        for user in self.users:
            for owned in user.keys:
                if owned.key == key:
                    return user, owned
        return None

    def check(self, key: str, ip: str, now_ns: int, needs: str = READ) -> KeyProblem | tuple[User, ApiKey]:
        """Let a key in, or say why not; the signature is the dialect's affair."""
        found = self.find(key)
        if found is None:
            return KeyProblem.UNKNOWN
        owned = found[1]
        if owned.revoked:
            return KeyProblem.REVOKED
        if owned.expires_ns is not None and owned.expires_ns <= now_ns:
            return KeyProblem.EXPIRED
        if owned.ips and ip not in owned.ips:
            return KeyProblem.IP
        return found if needs in owned.permissions else KeyProblem.PERMISSION

    def issue_token(self, token: str, user: User, expires_ns: int) -> str:
        """Note a listen key, a WebSocket token or the like."""
        self._tokens[token] = user, expires_ns
        return token

    def token_user(self, token: str, now_ns: int) -> User | None:
        """Give whose token it is; None when there is none or it has expired."""
        user, expires_ns = self._tokens.get(token, (None, 0))
        return user if expires_ns > now_ns else None

    def end_tokens(self, tokens: Iterable[str] | None = None) -> None:
        """Let tokens expire, all by default."""
        for token in list(self._tokens) if tokens is None else tokens:
            self._tokens.pop(token, None)
