"""What a worker is held to, and what came of it."""

from __future__ import annotations

import msgspec


class SandboxSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Limits of a worker process.

    `address_space_bytes` bounds all its memory (numpy and pandas need 256 MiB, numba 384); `threads` is how many more
    threads than run now its user may have; `preimport` names modules to load before strategies may be read.
    """

    address_space_bytes: int = 1 << 30
    descriptors: int = 64
    threads: int = 512
    nice: int = 5
    preimport: tuple[str, ...] = ()


class LockdownReport(msgspec.Struct, frozen=True):
    """Which layers hold and which are missing, each with a phrase for people.

    `canary` is a file that could be read before and must not be readable now; empty when none was found.
    """

    enforced: dict[str, str]
    missing: dict[str, str]
    canary: str = ""
