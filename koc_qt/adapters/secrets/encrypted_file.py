"""Keys in one encrypted file, behind a passphrase that the person chooses: where there is no keyring.

The key is made by scrypt (https://www.rfc-editor.org/rfc/rfc7914), the content is AES-256-GCM with a new nonce at every
write, and the header is authenticated with it. The file is JSON around Base64; a checksum tells damage from a wrong
passphrase. Nothing but the key made of the passphrase stays in memory, and that only while the engine runs.
"""

from __future__ import annotations

import base64
import hashlib
import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

import msgspec

from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.files import write_durably
from koc_qt.ports.secrets import Credentials
from koc_qt.scrub import register_secret

SHORTEST_PASSPHRASE = 8  # characters
LONGEST_PASSPHRASE = 1024
MAX_BYTES = 1 << 20
FORMAT = 1
# 64 MB and some 0.3 s a guess: OWASP's Password Storage Cheat Sheet lists it among what is to be used.
COST, BLOCK_SIZE, PARALLEL = 1 << 16, 8, 2
_MOST_MEMORY = 512 << 20  # what a file may ask of scrypt: 128 * cost * block size bytes
_KEY_BYTES, _SALT_BYTES, _NONCE_BYTES = 32, 16, 12

_Content = dict[str, dict[str, dict[str, str]]]  # account, mode, field


class _Header(msgspec.Struct, frozen=True):
    """How the content was encrypted; binary values are Base64."""

    format: int
    cost: int
    block_size: int
    parallel: int
    salt: str


class _File(msgspec.Struct, frozen=True):
    """The file: `nonce` and `content` are Base64, `checksum` is SHA-256 over all of the rest."""

    about: str
    header: _Header
    nonce: str
    content: str
    checksum: str = ""


_ABOUT = "Keys of trading accounts, encrypted by K.O.C. Without the passphrase nobody can read them."


class EncryptedFileStore:
    """Implements ports/secrets.py LockableStore. Locked until `unlock`; never plain text on the disk.

    A damaged file is never overwritten. Every method takes a moment, `unlock` most of a second.
    """

    title = "encrypted file of keys"
    is_writable = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: bytes | None = None
        self._header: _Header | None = None

    @property
    def is_locked(self) -> bool:
        """Whether `unlock` has to be called first."""
        return self._key is None

    @property
    def is_new(self) -> bool:
        """Whether nothing is kept yet, so that `unlock` takes whatever passphrase the person chooses."""
        return not self._path.exists()

    def unlock(self, passphrase: str) -> None:
        """Open the file, or make it where there is none. Raises SecretsUnavailable."""
        register_secret(passphrase)
        file = self._read()
        if file is None:
            _check_passphrase(passphrase)
            header = _Header(FORMAT, COST, BLOCK_SIZE, PARALLEL, _encode(os.urandom(_SALT_BYTES)))
            key = _derive(passphrase, header)
            self._write({}, key, header)
        else:
            header = file.header
            key = _derive(passphrase, header)
            self._decrypt(file, key)
        self._key, self._header = key, header

    def lock(self) -> None:
        """Forget the key made of the passphrase."""
        self._key = self._header = None

    def get(self, account_id: str, mode: TradingMode) -> Credentials | None:
        """Give what is kept for an account in a mode; None where there is nothing. Raises SecretsUnavailable."""
        values = self._load().get(account_id, {}).get(mode)
        if not values:
            return None
        for value in values.values():
            register_secret(value)
        return Credentials(values)

    def put(self, account_id: str, mode: TradingMode, credentials: Mapping[str, str]) -> None:
        """Keep these instead of what was there, whole or not at all. Raises SecretsUnavailable."""
        for value in credentials.values():
            register_secret(value)
        content = self._load()
        content.setdefault(account_id, {})[mode.value] = dict(credentials)
        self._save(content)

    def delete(self, account_id: str, mode: TradingMode | None = None) -> None:
        """Forget what is kept for a mode, or for all. Raises SecretsUnavailable."""
        content = self._load()
        modes = content.get(account_id, {})
        gone = [key for key in modes if mode is None or key == mode]
        if not gone:
            return
        for key in gone:
            del modes[key]
        if not modes:
            del content[account_id]
        self._save(content)

    def _load(self) -> _Content:
        key, header = self._unlocked()
        file = self._read()
        if file is None:
            return {}  # somebody has taken it away: the next `put` writes it again, behind the same passphrase
        if file.header != header:
            raise SecretsUnavailable(f"{self._path} was replaced while K.O.C. ran: start the engine again")
        return self._decrypt(file, key)

    def _save(self, content: _Content) -> None:
        self._write(content, *self._unlocked())

    def _unlocked(self) -> tuple[bytes, _Header]:
        if self._key is None or self._header is None:
            words = "choose a passphrase for it" if self.is_new else "type its passphrase"
            raise SecretsUnavailable(f"the encrypted file of keys is locked: {words} (in the window, or 'koc unlock')")
        return self._key, self._header

    def _read(self) -> _File | None:
        try:
            with self._path.open("rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SecretsUnavailable(
                f"{self._path} cannot be read: {error.strerror}. Correct its permissions"
            ) from None
        try:
            file = msgspec.json.decode(data, type=_File)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            raise self._damaged() from None
        if len(data) > MAX_BYTES or file.checksum != _checksum(file):
            raise self._damaged()
        header = file.header
        if header.format != FORMAT:
            raise SecretsUnavailable(f"{self._path} was written by another version of K.O.C.: update this one")
        if not (header.cost > 1 and header.block_size > 0 and 0 < header.parallel <= 16) or (
            128 * header.cost * header.block_size > _MOST_MEMORY
        ):
            raise self._damaged()
        return file

    def _decrypt(self, file: _File, key: bytes) -> _Content:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            nonce, content = base64.b64decode(file.nonce, validate=True), base64.b64decode(file.content, validate=True)
            plain = AESGCM(key).decrypt(nonce, content, msgspec.json.encode(file.header))
            return msgspec.json.decode(plain, type=_Content)
        except InvalidTag:
            raise SecretsUnavailable(
                f"this is not the passphrase of {self._path}. Without it nobody can read the keys: if it is lost, move "
                f"the file away, choose a new passphrase and type the keys in again"
            ) from None
        except (ValueError, msgspec.MsgspecError):
            raise self._damaged() from None

    def _write(self, content: _Content, key: bytes, header: _Header) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(_NONCE_BYTES)
        encrypted = AESGCM(key).encrypt(nonce, msgspec.json.encode(content), msgspec.json.encode(header))
        file = _File(_ABOUT, header, _encode(nonce), _encode(encrypted))
        data = msgspec.json.format(msgspec.json.encode(msgspec.structs.replace(file, checksum=_checksum(file))))
        if len(data) > MAX_BYTES:
            raise SecretsUnavailable(f"{self._path} would become too long: remove accounts that are not used")
        try:
            write_durably(self._path, data + b"\n")
        except OSError as error:
            raise SecretsUnavailable(
                f"{self._path} cannot be written: {error.strerror}; the keys in it are as they were before"
            ) from None

    def _damaged(self) -> SecretsUnavailable:
        return SecretsUnavailable(
            f"{self._path} is damaged: put a backup of it in its place, or move it away, choose a new passphrase and "
            f"type the keys in again"
        )


def _derive(passphrase: str, header: _Header) -> bytes:
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    # the same characters may be typed in several ways: all of them are one passphrase
    typed = unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")
    try:
        salt = base64.b64decode(header.salt, validate=True)
        kdf = Scrypt(salt=salt, length=_KEY_BYTES, n=header.cost, r=header.block_size, p=header.parallel)
        return kdf.derive(typed)
    except (ValueError, MemoryError) as error:
        raise SecretsUnavailable(f"the passphrase cannot be checked here ({type(error).__name__})") from None


def _check_passphrase(passphrase: str) -> None:
    if not SHORTEST_PASSPHRASE <= len(passphrase) <= LONGEST_PASSPHRASE or not passphrase.strip():
        raise SecretsUnavailable(f"choose a passphrase of {SHORTEST_PASSPHRASE} characters or more")


def _checksum(file: _File) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(file, checksum=""))).hexdigest()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()
