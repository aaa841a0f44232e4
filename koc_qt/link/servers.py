"""Engines on other machines that a profile knows: their public keys, in keys/servers/HOST_PORT.key."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from koc_qt.domain.errors import LinkError
from koc_qt.link.connection import EngineAddress
from koc_qt.link.keys import read_public, write_public
from koc_qt.link.private_files import make_private_folder

_ENDPOINT = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.\-]*[A-Za-z0-9])?):([0-9]{1,5})")
_LISTENING = ("0.0.0.0", "[::]")  # noqa: S104 - refused, not bound


def checked_endpoint(text: str) -> str:
    """Give an endpoint to connect to, in small letters. Raises LinkError on anything else than tcp://HOST:PORT."""
    match = _ENDPOINT.fullmatch(text.strip())
    if match is None:
        raise LinkError(f"{text!r} is no address of an engine: write tcp://HOST:PORT, such as tcp://192.0.2.7:5555")
    if not 0 < int(match[3]) < 65_536:
        raise LinkError(f"{text!r} is no address of an engine: a port is a number from 1 to 65535")
    if match[1] in _LISTENING:
        raise LinkError(f"{text!r} is where an engine listens, not its address: name the machine that it runs on")
    return text.strip().lower()


def known_server(key_folder: Path, endpoint: str) -> str | None:
    """Give the public key (Z85) that the engine at an endpoint had before; None where it is not known.

    Raises LinkError when the file that holds it is damaged.
    """
    path = server_file(key_folder, endpoint)
    return read_public(path).decode() if path.exists() else None


def remember_server(key_folder: Path, endpoint: str, server_key: str) -> None:
    """Keep the public key (Z85) of the engine at an endpoint, once a connection has proved it. Raises LinkError."""
    path = server_file(key_folder, endpoint)
    make_private_folder(path.parent)
    write_public(server_key.encode(), path)


def remote_engine(endpoint: str, server_key: str) -> Callable[[], EngineAddress]:
    """Give the `locate` of a LinkClient for the engine at an endpoint."""
    address = EngineAddress(endpoint, server_key)
    return lambda: address


def server_file(key_folder: Path, endpoint: str) -> Path:
    """Give the file that holds an engine's public key."""
    host, _, port = checked_endpoint(endpoint).removeprefix("tcp://").rpartition(":")
    return key_folder / "servers" / f"{host.strip('[]').replace(':', '-')}_{port}.key"
