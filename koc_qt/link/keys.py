"""CURVE keys of a profile: who the engine is, who its clients are, and whom the engine lets in.

    keys/engine.key_secret       the engine's pair, mode 0600
    keys/client.key_secret       the pair of this profile's own windows and commands, mode 0600
    keys/servers/HOST_PORT.key   public keys of engines on other machines that this profile connects to (servers.py)
    keys/authorized/NAME.key     public keys that the engine lets in; the profile's own client is `client.key`

The files are ZeroMQ certificates (ZPL, https://rfc.zeromq.org/spec/4/), as zmq.auth.load_certificate of pyzmq reads.
"""

from __future__ import annotations

import contextlib
import re
import struct
from pathlib import Path

import zmq
from filelock import FileLock, Timeout
from zmq.utils import z85

from koc_qt.domain.errors import LinkError
from koc_qt.link.private_files import WRITE_ACCESS, make_private_folder, read_private, write_private
from koc_qt.paths import is_device_name
from koc_qt.scrub import register_secret

ENGINE = "engine"
CLIENT = "client"
_LOCK_TIMEOUT_S = 10.0
_MAX_AUTHORIZED = 256
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LINE = re.compile(r'^\s*(public|secret)-key\s*=\s*"([^"]*)"\s*$', re.MULTILINE)


class KeyPair:
    """A CURVE key pair, each key 40 bytes of Z85. It never shows its secret, not even in a traceback."""

    __slots__ = ("public", "secret")

    def __init__(self, public: bytes, secret: bytes) -> None:
        self.public = public
        self.secret = secret

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public.decode()!r})"

    @classmethod
    def generate(cls) -> KeyPair:
        """Make a new pair."""
        return cls(*zmq.curve_keypair())


class ProfileKeys:
    """The keys in one folder."""

    def __init__(self, folder: Path, engine: KeyPair, client: KeyPair) -> None:
        self.folder = folder
        self.engine = engine
        self.client = client

    @property
    def authorized_folder(self) -> Path:
        """Where the public keys are that the engine lets in."""
        return self.folder / "authorized"


def load_or_create_keys(folder: Path) -> ProfileKeys:
    """Read a profile's keys, and make those that are missing. Raises LinkError on loose permissions or damage."""
    make_private_folder(folder)
    make_private_folder(folder / "authorized")
    try:
        with FileLock(folder / ".lock", timeout=_LOCK_TIMEOUT_S, mode=0o600):
            engine = _load_or_create(folder, ENGINE)
            client = _load_or_create(folder, CLIENT)
            own = folder / "authorized" / f"{CLIENT}.key"
            if not own.exists():
                write_private(own, _certificate(client.public))
    except Timeout as error:
        raise LinkError(f"another process has held {folder / '.lock'} for {_LOCK_TIMEOUT_S:g} s: end it") from error
    except OSError as error:
        raise LinkError(f"the keys in {folder} cannot be used: {error.strerror}") from error
    return ProfileKeys(folder, engine, client)


def load_pair(folder: Path, name: str = CLIENT) -> KeyPair:
    """Read the pair `name`. Raises LinkError when it is absent, damaged or readable by others."""
    path = folder / f"{name}.key_secret"
    try:
        text = read_private(path)
    except FileNotFoundError as error:
        raise LinkError(f"there is no key file {path}; start the engine of this profile once") from error
    keys = _parse(path, text)
    if "secret" not in keys or zmq.curve_public(keys["secret"]) != keys["public"]:
        raise _damaged(path, "its two keys do not belong together")
    register_secret(keys["secret"].decode())  # whatever goes wrong, it is in no log
    return KeyPair(keys["public"], keys["secret"])


def read_public(path: Path) -> bytes:
    """Read the public key of a certificate. Raises LinkError when it is absent or damaged, or holds a secret key."""
    try:
        with path.open("rb") as file:
            data = file.read(65_536)
    except OSError as error:
        raise LinkError(f"the key file {path} cannot be read: {error.strerror}") from error
    keys = _parse(path, data)
    if "secret" in keys:
        raise LinkError(f"{path} holds a secret key, which must not travel: export the public one and use that")
    return keys["public"]


def export_public(pair: KeyPair, path: Path) -> None:
    """Write the public half of `pair` to `path`, to be carried to another machine. Raises LinkError."""
    write_public(pair.public, path)


def write_public(public: bytes, path: Path) -> None:
    """Write a public key (Z85) to `path`. Raises LinkError."""
    write_private(path, _certificate(public))


def import_authorized(folder: Path, name: str, source: Path) -> None:
    """Let the owner of the public key in `source` into this profile's engine as `name`; works while it runs."""
    check_key_name(name)
    public = read_public(source)
    make_private_folder(folder / "authorized")
    write_public(public, folder / "authorized" / f"{name}.key")


def check_key_name(name: str) -> None:
    """Raise LinkError for a name that no key can have."""
    if not _NAME.fullmatch(name) or is_device_name(name):
        raise LinkError(f"{name!r} cannot name a key: use letters, digits, '-', '_' and '.', at most 64")


def authorized_keys(folder: Path) -> dict[bytes, str]:
    """Map each public key that may enter to its name.

    Raises LinkError when the folder or a file in it is damaged, too open, or when there are more than 256.
    """
    authorized = folder / "authorized"
    found: dict[bytes, str] = {}
    try:
        paths = sorted(authorized.glob("*.key"))
    except OSError as error:
        raise LinkError(f"{authorized} cannot be read: {error.strerror}") from error
    if len(paths) > _MAX_AUTHORIZED:
        raise LinkError(f"{authorized} holds {len(paths)} keys, more than {_MAX_AUTHORIZED}: remove those not in use")
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # removed since it was listed
            # Whoever may write here decides who commands the engine.
            found[_parse(path, read_private(path, forbidden=WRITE_ACCESS))["public"]] = path.stem
    return found


def _load_or_create(folder: Path, name: str) -> KeyPair:
    path = folder / f"{name}.key_secret"
    if not path.exists() and not path.is_symlink():
        pair = KeyPair.generate()
        write_private(path, _certificate(pair.public, pair.secret))
    return load_pair(folder, name)


def _certificate(public: bytes, secret: bytes | None = None) -> bytes:
    warning = b"# SECRET: whoever has this file commands the engine. Keep its mode at 0600.\n" if secret else b""
    lines = b'#   ZeroMQ CURVE certificate\n%smetadata\ncurve\n    public-key = "%s"\n' % (warning, public)
    return lines + b'    secret-key = "%s"\n' % secret if secret else lines


def _parse(path: Path, data: bytes) -> dict[str, bytes]:
    try:
        keys = {match[1]: match[2].encode("ascii") for match in _LINE.finditer(data.decode("ascii"))}
    except UnicodeDecodeError as error:
        raise _damaged(path, "it is not text") from error
    if "public" not in keys:
        raise _damaged(path, "it has no public key")
    for key in keys.values():
        if len(key) != 40 or not _is_z85(key):
            raise _damaged(path, "a key in it is not 40 characters of Z85")
    return keys


def _is_z85(key: bytes) -> bool:
    try:
        z85.decode(key)
    except (KeyError, struct.error):
        return False
    return True


def _damaged(path: Path, why: str) -> LinkError:
    return LinkError(f"the key file {path} is damaged: {why}. Restore it, or delete it to have new keys made")
