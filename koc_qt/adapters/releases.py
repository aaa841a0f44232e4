"""Whether there is a newer release: one HTTPS request for a signed note. Nothing is downloaded, and nothing is sent.

The answer is JSON, ``{"signed": TEXT, "signature": BASE64}``. The signature is Ed25519's (RFC 8032) over PREFIX and the
UTF-8 of TEXT, by a key whose public half came with the program; TEXT is JSON too, see domain/release.py.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from koc_qt.config import load_config, switch_updates
from koc_qt.domain.errors import KocError
from koc_qt.domain.release import Release, ReleaseUntrusted, is_https, judge, read_release, version_key
from koc_qt.files import write_durably
from koc_qt.paths import Paths
from koc_qt.version import __version__

PREFIX = b"koc release 1\n"  # no other thing that is signed begins with it
MOST_BYTES = 64 * 1024  # of an answer
ANSWER_S = 5.0  # for each step of the connection
ALL_S = 15.0  # for all of it
DAY_S = 86_400
_LARGEST_STATE = 4_096


class ReleaseFeed:
    """Implements ports/releases.py for a profile. `keys` are public ones, 32 bytes each; any of them may sign.

    `context` is for tests; by default the system's certificates count, and those that came with the program.
    """

    def __init__(
        self,
        paths: Paths,
        keys: Sequence[bytes],
        *,
        wall: Callable[[], float] = time.time,
        context: Callable[[], ssl.SSLContext] | None = None,
        present: str = __version__,
    ) -> None:
        self._paths = paths
        self._keys = keys
        self._wall = wall
        self._context = context or _context
        self._present = present

    def is_on(self) -> bool:
        """Whether the configuration wants it done once a day."""
        return load_config(self._paths).updates.check

    def turn(self, *, on: bool) -> None:
        """Write it to the configuration."""
        if on:
            self._address()
        switch_updates(self._paths, check=on)

    def is_due(self) -> bool:
        """Whether it was not looked for within a day; a clock that was set back counts as a day."""
        _, checked_s = self._state()
        return not 0 <= self._wall() - checked_s < DAY_S

    def look(self) -> Release | None:
        """Ask once."""
        address = self._address()
        serial, _ = self._state()
        self._keep(serial)  # an attempt counts as well: no server is asked more than once a day unasked
        release = read_note(fetch(address, self._context()), self._keys)
        judge(release, newest_serial=serial, today=datetime.fromtimestamp(self._wall(), UTC).date())
        self._keep(release.serial)
        return release if version_key(release.version) > version_key(self._present) else None

    def _address(self) -> str:
        if not self._keys:
            raise KocError(
                "This build cannot verify releases, so it looks for none: it has no key of whoever publishes them"
            )
        address = load_config(self._paths).updates.address
        if not address:
            raise KocError(
                f"No address to look for releases at is configured: set updates.address in {self._paths.config_file}"
            )
        return address

    def _state(self) -> tuple[int, float]:
        """Give the newest serial number that was seen, and when it was looked last (seconds since the epoch)."""
        try:
            with self._paths.release_file.open("rb") as file:
                said = json.loads(file.read(_LARGEST_STATE))
            return int(said["serial"]), float(said["checked_s"])
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return 0, 0.0

    def _keep(self, serial: int) -> None:
        body = json.dumps({"serial": serial, "checked_s": self._wall()}).encode()
        try:
            write_durably(self._paths.release_file, body)
        except OSError as error:
            raise KocError(f"{self._paths.release_file} cannot be written: {error.strerror}") from error


def read_keys(file: Path) -> list[bytes]:
    """Give the public keys of a file, one a line in Base64, '#' begins a remark; none without a file.

    Raises KocError for a damaged one.
    """
    try:
        lines = file.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise KocError(f"{file} cannot be read, so releases cannot be verified: {error}") from error
    words = [line.partition("#")[0].strip() for line in lines]
    try:
        keys = [base64.b64decode(word, validate=True) for word in words if word]
    except binascii.Error as error:
        raise KocError(f"{file} is damaged, so releases cannot be verified: {error}") from error
    if any(len(key) != 32 for key in keys):
        raise KocError(f"{file} is damaged, so releases cannot be verified: a key of Ed25519 has 32 bytes")
    return keys


def read_note(answer: bytes, keys: Sequence[bytes]) -> Release:
    """Give what a signed answer says. Raises ReleaseUntrusted for a wrong signature, KocError for what is no note."""
    try:
        envelope = json.loads(answer)
        signed, signature = envelope["signed"].encode(), base64.b64decode(envelope["signature"], validate=True)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise KocError("What answered has no signed note about a release: is updates.address the right one?") from None
    if not any(_is_signed(signed, signature, key) for key in keys):
        raise ReleaseUntrusted(
            "The note about a release is NOT signed by K.O.C.'s publisher: it was made by somebody else, or changed on "
            "its way. Do not install what it names"
        )
    try:
        said = json.loads(signed)
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise KocError("The note about a release cannot be read; this version may be too old for it")
    return read_release(said)


def _is_signed(data: bytes, signature: bytes, key: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, PREFIX + data)
    except InvalidSignature:
        return False
    return True


# ---- the request ----------------------------------------------------------------------------------------------------


def fetch(address: str, context: ssl.SSLContext, *, most_bytes: int = MOST_BYTES, all_s: float = ALL_S) -> bytes:
    """Get an address once, within bounds of size and time; redirections are not followed. Raises KocError."""
    if not is_https(address):
        raise KocError(f"{address[:200]!r} is no https address: correct updates.address")
    parts = urlsplit(address)
    host = parts.hostname or ""
    connection = http.client.HTTPSConnection(host, parts.port, timeout=ANSWER_S, context=context)
    too_late = threading.Event()
    watch = threading.Timer(all_s, _cut, (connection, too_late))
    watch.daemon = True
    watch.start()
    try:
        # here and not by the connection, so that a slow handshake can be cut too
        connection.sock = plain = socket.create_connection((host, connection.port), ANSWER_S)
        connection.sock = secure = context.wrap_socket(plain, server_hostname=host, do_handshake_on_connect=False)
        secure.do_handshake()
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"User-Agent": "koc", "Accept": "application/json", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        if 300 <= response.status < 400:
            raise KocError(f"{host} answers that it is elsewhere, which is not followed: correct updates.address")
        if response.status != 200:
            raise KocError(f"{host} answers {response.status} {response.reason[:60]}: there is no note there")
        data = response.read(most_bytes + 1)
    except (OSError, http.client.HTTPException, ValueError) as error:
        why = f"no answer within {all_s:g} s" if too_late.is_set() else _words(error)
        raise KocError(f"{host} could not be asked for a newer release: {why}") from error
    finally:
        watch.cancel()
        watch.join()
        connection.close()
    if too_late.is_set():
        raise KocError(f"{host} could not be asked for a newer release: no answer within {all_s:g} s")
    if len(data) > most_bytes:
        raise KocError(f"{host} answers with more than {most_bytes // 1024} kB, which is no note about a release")
    return data


def _cut(connection: http.client.HTTPSConnection, too_late: threading.Event) -> None:
    """End a connection whose time is over, however slowly it brings its bytes."""
    too_late.set()
    open_socket = connection.sock
    if open_socket is not None:
        with contextlib.suppress(OSError):
            open_socket.shutdown(socket.SHUT_RDWR)


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return f"no answer within {ANSWER_S:g} s"
    return (error.strerror or str(error)) if isinstance(error, OSError) else type(error).__name__


def _context() -> ssl.SSLContext:
    """Trust what the system trusts, and the certificates that came with the program: a bundle may find no others."""
    import certifi

    context = ssl.create_default_context()
    context.load_verify_locations(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
