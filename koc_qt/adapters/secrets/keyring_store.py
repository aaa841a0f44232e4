"""Keys in the system's keyring: Secret Service, KWallet, Windows Credential Locker, macOS Keychain, over `keyring`.

What is kept for an account in a mode is one entry a field, and an index entry that says which fields there are. A new
set is written beside the old one before the index names it, so that a crash leaves the one or the other, whole.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret

_REFUSED = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")
_INDEX = "index"
_OTHER: dict[str, Literal["a", "b"]] = {"a": "b", "b": "a"}
_TITLES = {
    "SecretService": "Secret Service keyring",
    "libsecret": "Secret Service keyring",
    "kwallet": "KWallet",
    "Windows": "Windows Credential Locker",
    "macOS": "macOS Keychain",
}


class _Index(msgspec.Struct):
    """The fields that are kept, in which of two places, and those that are or were being written."""

    slot: Literal["a", "b"] = "a"
    fields: list[str] = []
    writing: list[str] = []


class KeyringStore:
    """Implements ports/secrets.py over a backend of `keyring`, that of the system unless one is given.

    Entries are told apart by profile, account, mode and field. Raises SecretsUnavailable where there is no keyring, it
    is locked, or it is one that protects nothing.
    """

    is_writable = True

    def __init__(self, profile: str, backend: Any = None) -> None:
        self._service = f"K.O.C. {profile}"
        self._backend = _checked(_system_backend() if backend is None else backend)
        self._call("read", self._backend.get_password, self._service, "probe")  # a locked one says so here

    @property
    def title(self) -> str:
        """What people call it."""
        module = type(self._backend).__module__
        return next((words for name, words in _TITLES.items() if f".{name}" in module), str(self._backend.name))

    def get(self, account_id: str, mode: TradingMode) -> Credentials | None:
        """Give what is kept for an account in a mode; None where there is nothing."""
        index = self._index(account_id, mode)
        if not index.fields:
            return None
        values = {}
        for field in index.fields:
            value = self._call("read", self._backend.get_password, self._service, _user(account_id, mode, field, index))
            if value is None:
                raise SecretsUnavailable(
                    f"the {self.title} has lost a part of the keys of {account_id} ({mode}): type them in again"
                )
            register_secret(value)
            values[field] = value
        return Credentials(values)

    def put(self, account_id: str, mode: TradingMode, credentials: Mapping[str, str]) -> None:
        """Keep these instead of what was there, whole or not at all."""
        for value in credentials.values():
            register_secret(value)
        old = self._index(account_id, mode)
        new = _Index(_OTHER[old.slot], list(credentials))
        writing = sorted({*old.writing, *credentials})  # what a crash may leave behind is known, and deleted some day
        self._put_index(account_id, mode, _Index(old.slot, old.fields, writing))
        for field, value in credentials.items():
            user = _user(account_id, mode, field, new)
            self._call("keep", self._backend.set_password, self._service, user, value)
        self._put_index(account_id, mode, _Index(new.slot, new.fields, sorted({*writing, *old.fields})))
        for field in old.fields:
            self._delete(_user(account_id, mode, field, old))
        for field in set(writing) - set(credentials):
            self._delete(_user(account_id, mode, field, new))
        self._put_index(account_id, mode, new)

    def delete(self, account_id: str, mode: TradingMode | None = None) -> None:
        """Forget what is kept for a mode, or for all; nothing happens where there is nothing."""
        for each in [mode] if mode is not None else list(TradingMode):
            index = self._index(account_id, each)
            fields = {*index.fields, *index.writing}
            if not fields:
                continue
            self._put_index(account_id, each, _Index(index.slot, [], sorted(fields)))  # from here on they are gone
            for field in fields:
                for slot in _OTHER.values():
                    self._delete(_user(account_id, each, field, _Index(slot)))
            self._delete(_user(account_id, each, _INDEX))

    def _index(self, account_id: str, mode: TradingMode) -> _Index:
        user = _user(account_id, mode, _INDEX)
        text = self._call("read", self._backend.get_password, self._service, user)
        if not text:
            return _Index()
        try:
            return msgspec.json.decode(text, type=_Index)
        except msgspec.MsgspecError:
            raise SecretsUnavailable(
                f"the entry {user!r} of {self._service!r} in the {self.title} is damaged: delete it there, and type "
                f"the keys in again"
            ) from None

    def _put_index(self, account_id: str, mode: TradingMode, index: _Index) -> None:
        user, text = _user(account_id, mode, _INDEX), msgspec.json.encode(index).decode()
        self._call("keep", self._backend.set_password, self._service, user, text)

    def _delete(self, user: str) -> None:
        if self._call("read", self._backend.get_password, self._service, user) is not None:
            self._call("delete", self._backend.delete_password, self._service, user)

    def _call(self, verb: str, function: Any, *arguments: str) -> Any:
        """Call the backend; whatever it raises becomes a sentence that holds none of the arguments."""
        from keyring.errors import InitError, KeyringLocked

        try:
            return function(*arguments)
        except (KeyringLocked, InitError):
            raise SecretsUnavailable(
                f"the {self.title} is locked: unlock it, which logging in to the desktop does, and try again"
            ) from None
        except Exception as error:
            raise SecretsUnavailable(
                f"the {self.title} cannot {verb} keys ({type(error).__name__}): see that it runs and is unlocked"
            ) from None


def _user(account_id: str, mode: TradingMode, field: str, index: _Index | None = None) -> str:
    return f"{account_id}/{mode}/{field}" + (f".{index.slot}" if index else "")


def _system_backend() -> Any:
    try:
        import keyring

        return keyring.get_keyring()
    except Exception as error:
        raise SecretsUnavailable(f"the system's keyring cannot be asked ({type(error).__name__})") from None


def _checked(backend: Any) -> Any:
    """Give the backend that is to be used: a real one, the best where there are several. Raises SecretsUnavailable."""
    if type(backend).__module__ == "keyring.backends.chainer":
        usable = [one for one in type(backend).backends if not _why_not(one)]
        if usable:
            return usable[0]
        raise SecretsUnavailable("this system has no keyring (gnome-keyring, KWallet)")
    if reason := _why_not(backend):
        raise SecretsUnavailable(reason)
    return backend


def _why_not(backend: Any) -> str:
    kind = type(backend)
    if kind.__module__.startswith(_REFUSED[:2]):
        return "this system has no keyring (gnome-keyring, KWallet)"
    if kind.__module__.startswith(_REFUSED[2]) or "plaintext" in kind.__name__.lower():
        return f"the keyring {kind.__name__} would keep keys as good as in plain text: it is not used"
    try:
        usable = float(kind.priority) > 0
    except Exception as error:  # what a backend raises where it does not suit the system is its own
        return f"the keyring {kind.__name__} does not work here ({type(error).__name__})"
    return "" if usable else f"the keyring {kind.__name__} does not work here"
