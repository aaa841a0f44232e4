"""The accounts that were added in K.O.C.: config/accounts.yaml of the profile. The engine alone writes it.

It never holds a key. Keys that somebody, or something older, wrote into it are found by their names at any depth, so
that they can be moved to where keys are kept (`Contents.plain`, then `wipe`).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from koc_qt.config import MAX_BYTES, AccountConfig, Config, account_problems, read_text, where_at_fault
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.state import TradingMode
from koc_qt.files import TEMPORARY, overwrite, shred, write_durably
from koc_qt.paths import Paths
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret
from koc_qt.yaml_reader import TakenOut, YamlProblems, looks_secret, outline, read, spell, take_out, write

_HEAD = """\
# Accounts that were added in K.O.C., which writes this file: change them there. Keys are kept elsewhere, never here.
"""
_ALSO_SECRET = re.compile(r"(api_?)?key(_id)?|pem|seed|mnemonic|token")
_MODES = {mode.value: mode for mode in TradingMode}


class PastMode(msgspec.Struct, frozen=True):
    """A mode that an account was in, and until when by its venue's clock: UTC nanoseconds."""

    mode: TradingMode
    until_ns: int


class ManagedAccount(AccountConfig, frozen=True):
    """An account of the file. `past` are the modes before the present one, oldest first."""

    past: tuple[PastMode, ...] = ()

    def mode_at(self, time_ns: int) -> TradingMode:
        """Give the mode in which it was at a time; an order belongs to the mode in which it was made."""
        return next((past.mode for past in self.past if time_ns <= past.until_ns), self.mode)


class PlainKeys(NamedTuple):
    """Keys that stand in the file in plain text, by the names that they have there."""

    account_id: str
    venue: str
    mode: TradingMode
    fields: Credentials


class Contents(NamedTuple):
    """What a file says. `plain` has to be moved first; `trouble` is a sentence about keys that cannot be."""

    accounts: tuple[ManagedAccount, ...] = ()
    plain: tuple[PlainKeys, ...] = ()
    trouble: str = ""


class _Document(msgspec.Struct, frozen=True):
    accounts: tuple[ManagedAccount, ...] = ()


class AccountsFile:
    """Reads and writes the file. Every method blocks for as long as the disk does; all raise ConfigError."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: str | None = None  # the text that was read or written last
        self._fault = ""  # of that text: what cannot be read must not be lost

    def read(self) -> Contents:
        """Give the accounts; of a file that is at fault, plain keys are found all the same where that is possible."""
        self._fault = f"{self.path} could not be read: start the engine again once it can be"
        text = self._known = read_text(self.path)
        if text is None:
            self._fault = ""
            return Contents()
        clean, taken = self._take_out(text)
        plain, trouble = _by_account(clean, taken, self.path)
        try:
            document = _parse(clean, self.path)
            self._fault = ""
        except ConfigError as error:
            self._fault = f"{self.path} is at fault: correct it, and start the engine again"
            if not plain:
                if not taken:
                    raise
                # without the keys its lines are others
                raise ConfigError(f"{trouble}. {re.sub(', line [0-9]+', '', str(error))}") from None
            document = _Document()  # its keys go first: then it is read again, and its faults are said
        return Contents(document.accounts, plain, trouble)

    def write(self, accounts: Sequence[ManagedAccount]) -> None:
        """Replace the file as a whole, durably or not at all. Refuses to lose what it does not know."""
        if self._fault:
            raise ConfigError(self._fault)
        present = read_text(self.path)
        if present != self._known:
            raise ConfigError(f"{self.path} was changed by somebody else: start the engine again to take that up")
        if present is not None and self._take_out(present)[1]:
            raise ConfigError(f"{self.path} still has keys in plain text: unlock where keys are kept, or take them out")
        entries = [_entry(account) for account in accounts]
        text = _HEAD + write({"accounts": entries})
        if _parse(text, self.path).accounts != tuple(accounts):
            raise ConfigError(f"the accounts would not read back as they were meant; {self.path} is as it was before")
        self._write(text)

    def wipe(self) -> None:
        """Take the plain keys out of the file, and out of backups and half-written copies beside it."""
        text = read_text(self.path)
        if text is None:
            return
        clean, taken = self._take_out(text)
        if not taken:
            return
        try:
            if os.name == "posix":
                with self.path.open("r+b") as old:  # the content of the file that is replaced goes as well
                    self._write(_HEAD + clean)
                    overwrite(old.fileno())
            else:
                self._write(_HEAD + clean)  # a file that is open cannot be replaced there
            values = [each.value.strip().encode() for each in taken]
            for beside in self.path.resolve().parent.iterdir():
                if self._is_copy(beside) and _holds(beside, values):
                    shred(beside)
        except OSError as error:
            raise ConfigError(
                f"the keys in {self.path} could not be wiped: {error.strerror}. They are kept elsewhere now: delete "
                f"them from that file and its backups"
            ) from error

    def _take_out(self, text: str) -> tuple[str, tuple[TakenOut, ...]]:
        try:
            return take_out(text, _is_secret)
        except YamlProblems as error:
            raise where_at_fault(self.path, error) from None

    def _write(self, text: str) -> None:
        try:
            write_durably(self.path, text.encode())
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}; it is as it was before") from error
        self._known = text

    def _is_copy(self, file: Path) -> bool:
        name = self.path.name
        return file.name != name and file.name.lstrip(".#").startswith((name, TEMPORARY.lstrip(".")))


def with_accounts(config: Config, paths: Paths) -> Config:
    """Give `config` with the accounts of the profile's accounts file beside its own; without those of a faulty file."""
    try:
        added = AccountsFile(paths.accounts_file).read().accounts
    except ConfigError:
        return config  # the engine says what is wrong with it
    ids = {account.id for account in config.accounts}
    return msgspec.structs.replace(config, accounts=(*config.accounts, *(a for a in added if a.id not in ids)))


def in_fields(found: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """Give credentials by the names that a venue asks for (`fields`), from the names that people give them.

    What fits none, or a second time, keeps its name: nothing is lost.
    """
    named: dict[str, str] = {}
    for name, value in found.items():
        field = _field(name, fields)
        named[name if field in named else field] = value
    return named


def _field(name: str, fields: Sequence[str]) -> str:
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")
    if plain in fields:
        return plain
    for hint, candidates in (
        ("pass", ("passphrase", "password")),
        ("priv", ("private_key", "secret")),
        ("pem", ("private_key", "secret")),
        ("secret", ("secret", "private_key")),
        ("key", ("key", "api_key")),
        ("token", ("key", "token")),
        ("name", ("key",)),  # of Coinbase's keys
    ):
        if hint in plain:
            return next((one for one in candidates if one in fields), candidates[0])
    return plain


def _is_secret(name: str) -> bool:
    plain = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")
    return looks_secret(name) or bool(_ALSO_SECRET.fullmatch(plain))


def _by_account(clean: str, taken: Sequence[TakenOut], path: Path) -> tuple[tuple[PlainKeys, ...], str]:
    """Tell which account and mode keys are for; a sentence about those that belong to none."""
    entries = _entries(clean)
    found: dict[tuple[str, str, TradingMode], dict[str, str]] = {}
    stray: list[int] = []
    for each in taken:
        register_secret(each.value)
        entry = entries.get(each.where[1]) if len(each.where) > 2 and each.where[0] == "accounts" else None
        if entry is None:
            stray.append(each.line)
            continue
        mode = next((_MODES[step] for step in each.where[2:] if isinstance(step, str) and step in _MODES), entry.mode)
        found.setdefault((entry.account_id, entry.venue, mode), {})[each.name] = each.value
    plain = tuple(PlainKeys(*key, Credentials(fields)) for key, fields in found.items())
    lines = ", ".join(map(str, sorted(set(stray))))
    trouble = f"{path} has keys in plain text that belong to no account (line {lines}): delete them" if stray else ""
    return plain, trouble


class _Entry(NamedTuple):
    account_id: str
    venue: str
    mode: TradingMode


def _entries(clean: str) -> dict[str | int, _Entry]:
    """Give whose keys an entry has, by its place in the list; none for one without an id that can be used."""
    document = outline(clean)
    listed = document.get("accounts") if isinstance(document, dict) else None
    pairs: list[tuple[str | int, object]] = []
    if isinstance(listed, list):
        pairs = list(enumerate(listed))
    elif isinstance(listed, dict):
        pairs = [(str(key), {"id": key, **value} if isinstance(value, dict) else None) for key, value in listed.items()]
    entries = {}
    for key, value in pairs:
        if not isinstance(value, dict):
            continue
        account_id = str(value.get("id", ""))
        if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", account_id):
            mode = _MODES.get(str(value.get("mode")), TradingMode.LIVE)
            entries[key] = _Entry(account_id, str(value.get("venue", "")), mode)
    return entries


def _parse(text: str, path: Path) -> _Document:
    try:
        document, lines = read(text, _Document)
    except YamlProblems as error:
        raise where_at_fault(path, error) from None
    ids = [account.id for account in document.accounts]
    problems = []
    for index, account in enumerate(document.accounts):
        for where, problem in account_problems(account, ids[:index]):
            place = ("accounts", index, *where)
            line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), 1)
            problems.append(f"{path}, line {line}: {spell(place)} {problem}")
    if problems:
        raise ConfigError("\n".join(problems))
    return document


def _entry(account: ManagedAccount) -> dict[str, object]:
    """Give what is worth writing: what is not as it would be anyway."""
    plain: dict[str, object] = msgspec.to_builtins(account)
    usual = msgspec.to_builtins(ManagedAccount(account.id, account.venue, account.mode))
    told = ("id", "label", "venue", "mode", "enabled")
    kept = [name for name in plain if name in told or plain[name] != usual[name]]
    return {name: plain[name] for name in sorted(kept, key=lambda name: told.index(name) if name in told else 99)}


def _holds(file: Path, values: Sequence[bytes]) -> bool:
    with contextlib.suppress(OSError):
        if file.is_file() and os.access(file, os.R_OK):
            with file.open("rb") as stream:
                data = stream.read(4 * MAX_BYTES)
            return any(value in data for value in values if value)
    return False
