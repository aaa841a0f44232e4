"""Keys in files that a container is given, as Docker and Kubernetes mount secrets: one a field, read only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from koc_qt.domain.accounts import KeyFile
from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret

FOLDER = Path("/run/secrets")
MAX_BYTES = 16_384
_WRITE_BY_OTHERS = 0o022


class MountedStore:
    """Implements ports/secrets.py MountedSecrets over files ``{account}_{mode}_{field}``, such as ``kraken_live_key``.

    For an account in `modes` (those of koc.yaml, whose mode only its owner changes) plain ``{account}_{field}`` is
    read as well, for that mode alone. `fields` are the names that venues ask for. Raises SecretsUnavailable where the
    folder is not there.
    """

    is_writable = False

    def __init__(self, fields: Iterable[str], modes: Mapping[str, TradingMode], folder: Path = FOLDER) -> None:
        self._fields = tuple(fields)
        self._modes = dict(modes)
        self._folder = folder
        self._plain = {f"{account_id}_{field}" for account_id in modes for field in self._fields}
        if not folder.is_dir():
            raise SecretsUnavailable(f"there is no folder {folder}: mount the keys there")

    @property
    def title(self) -> str:
        """What people call it."""
        return f"files in {self._folder}"

    def get(self, account_id: str, mode: TradingMode) -> Credentials | None:
        """Give what is mounted for an account in a mode; None where there is nothing."""
        values = {}
        for field in self._fields:
            _, value = self._find(account_id, mode, field)
            if value is not None:
                register_secret(value)
                values[field] = value
        return Credentials(values) if values else None

    @property
    def folder(self) -> str:
        """Where the files are."""
        return str(self._folder)

    def files(self, account_id: str, mode: TradingMode, fields: Iterable[str]) -> Sequence[KeyFile]:
        """Give the file of each field, and what is wrong with it."""
        found = []
        for field in fields:
            try:
                name, value = self._find(account_id, mode, field)
            except SecretsUnavailable as error:
                found.append(KeyFile(field, f"{account_id}_{mode}_{field}", str(error)))
            else:
                found.append(KeyFile(field, name, "" if value is not None else "it is not mounted"))
        return found

    def complete(self, mode: TradingMode, fields: Iterable[str]) -> Sequence[str]:
        """Give what stands before the mode in names of files, where each field has one. Raises SecretsUnavailable."""
        try:
            names = {path.name for path in self._folder.iterdir()}
        except OSError as error:
            raise SecretsUnavailable(f"{self._folder} cannot be read: {error.strerror}") from error
        ends = [f"_{mode}_{field}" for field in fields]
        begun = sorted(name.removesuffix(ends[0]) for name in names if name.endswith(ends[0]))
        return [each for each in begun if each and names >= {f"{each}{end}" for end in ends}]

    def _names(self, account_id: str, mode: TradingMode, field: str) -> list[str]:
        """Give what the file of a field may be called, the best first."""
        named, plain = f"{account_id}_{mode}_{field}", f"{account_id}_{field}"
        names = [named] if named not in self._plain else []  # else it is the plain file of another account
        return [*names, plain] if self._modes.get(account_id) is mode else names

    def _find(self, account_id: str, mode: TradingMode, field: str) -> tuple[str, str | None]:
        """Give the file of a field and what is in it; None where there is no such file."""
        names = self._names(account_id, mode, field)
        for name in names:
            if (text := _read(self._folder / name)) is not None:
                return name, text
        return names[0] if names else f"{account_id}_{mode}_{field}", None

    def put(self, account_id: str, mode: TradingMode, credentials: Mapping[str, str]) -> None:
        """Refuse: mounted files are read only."""
        names = ", ".join(f"{account_id}_{mode}_{field}" for field in credentials) or f"{account_id}_{mode}_key"
        raise SecretsUnavailable(f"keys are mounted here, and cannot be written: mount {names} in {self._folder}")

    def delete(self, account_id: str, mode: TradingMode | None = None) -> None:
        """Forget nothing: who mounts the files takes them away. Raises where there are some."""
        if any(self.get(account_id, each) for each in ([mode] if mode is not None else TradingMode)):
            raise SecretsUnavailable(
                f"the keys of {account_id} are mounted in {self._folder}: they cannot be deleted here"
            )


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SecretsUnavailable(f"{path} is no plain file: mount a file with the key in it")
            if os.name == "posix" and status.st_mode & _WRITE_BY_OTHERS:
                raise SecretsUnavailable(
                    f"{path} can be written by others (mode {stat.S_IMODE(status.st_mode):04o}), and so is not "
                    f"trusted: mount it with mode 0400"
                )
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SecretsUnavailable(f"{path} cannot be read: {error.strerror}. Mount it for the user of K.O.C.") from error
    if len(data) > MAX_BYTES:
        raise SecretsUnavailable(f"{path} is longer than {MAX_BYTES // 1024} kB, and so no key")
    try:
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise SecretsUnavailable(f"{path} is no text, and so no key") from None
    if not text.strip():
        raise SecretsUnavailable(f"{path} is empty: put the key in it")
    return text
