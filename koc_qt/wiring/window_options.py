"""What the command line asks of a window; by itself, so that the command line loads no Qt to say it."""

from __future__ import annotations

import msgspec


class WindowOptions(msgspec.Struct, frozen=True):
    """How a window opens.

    `endpoint` is the link of an engine on another machine, such as tcp://192.0.2.7:5555, and `server_key` that
    engine's public key (Z85); both are None for the engine of this profile, which is found or started. `files` are
    absolute paths of strategy files to offer for starting.
    """

    endpoint: str | None = None
    server_key: str | None = None
    files: tuple[str, ...] = ()
    reset_layout: bool = False
