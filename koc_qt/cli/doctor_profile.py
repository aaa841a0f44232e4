"""``koc doctor``: the profile's folders, the disk that they are on, the configuration and the engine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from koc_qt.cli.doctor_check import FAIL, OK, WARN, Check

if TYPE_CHECKING:
    from koc_qt.paths import Paths

LEAST_FREE_BYTES = 200_000_000
COMFORTABLE_FREE_BYTES = 2_000_000_000
LEAST_FREE_FILES = 1_000


def look_at_profile(paths: Paths) -> list[Check]:
    """Look at the profile's folders and the disk that they are on."""
    import shutil
    import tempfile

    from koc_qt.domain.errors import ConfigError

    try:
        paths.ensure()
        with tempfile.NamedTemporaryFile(dir=paths.data) as probe:
            probe.write(b"x" * 4096)
        free = shutil.disk_usage(paths.data).free
    except (ConfigError, OSError) as error:
        return [Check("profile", FAIL, str(error), "K.O.C. cannot keep orders and fills without it.")]
    folders = Check("profile", OK, f"data {paths.data.parent}, configuration {paths.config}")
    return [folders, look_at_disk(free, _free_files(paths.data))]


def look_at_disk(free_bytes: int, free_files: int | None) -> Check:
    """Judge what room there is."""
    text = f"{free_bytes / 1e9:.1f} GB free"
    if free_bytes < LEAST_FREE_BYTES:
        return Check("disk", FAIL, text, "Make room: no order is sent that the journal cannot take.")
    if free_files is not None and free_files < LEAST_FREE_FILES:
        return Check("disk", FAIL, f"{text}, but no room for more files", "Delete files: the disk is out of inodes.")
    if free_bytes < COMFORTABLE_FREE_BYTES:
        return Check("disk", WARN, text, "Make room before you fetch history.")
    return Check("disk", OK, text)


def _free_files(folder: Path) -> int | None:
    """Give how many files may still be made; None where the file system does not count them."""
    if sys.platform == "win32":
        return None
    found = os.statvfs(folder)
    return found.f_favail if found.f_files else None


def look_at_config(paths: Paths) -> Check:
    """Read the configuration."""
    from koc_qt.config import load_config
    from koc_qt.domain.errors import ConfigError

    try:
        config = load_config(paths)
    except ConfigError as error:
        return Check("config", FAIL, str(error), "Correct it; K.O.C. starts with no file as well.")
    source = "read" if paths.config_file.exists() else "none, so the defaults hold"
    return Check("config", OK, f"{source}: {paths.config_file} (account {config.account})")


def look_at_engine(paths: Paths) -> list[Check]:
    """Look for a running engine, and whether its ports can be had."""
    from koc_qt.config import Config, load_config
    from koc_qt.domain.errors import ConfigError, LinkError
    from koc_qt.link.rendezvous import NoEngineError, running_engine

    try:
        info = running_engine(paths.run)
    except NoEngineError:
        pass
    except LinkError as error:
        return [Check("engine", WARN, str(error))]
    else:
        return [Check("engine", OK, f"running, process {info.pid}, link {info.link}, telemetry {info.telemetry}")]
    try:
        engine = load_config(paths).engine
    except ConfigError:
        engine = Config().engine
    return [Check("engine", OK, "not running"), look_at_ports([engine.link.endpoint, engine.telemetry.endpoint])]


def look_at_ports(endpoints: Sequence[str]) -> Check:
    """Try to listen where the engine will."""
    import socket

    taken = []
    for endpoint in endpoints:
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        host = host.strip("[]")
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            with socket.socket(family, socket.SOCK_STREAM) as listener:
                if sys.platform != "win32":
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind((host, 0 if port == "*" else int(port)))
        except OSError as error:
            taken.append(f"{endpoint}: {error.strerror}")
    if taken:
        advice = "End what listens there, or choose other endpoints in koc.yaml (engine.link, engine.telemetry)."
        return Check("ports", FAIL, "; ".join(taken), advice)
    return Check("ports", OK, f"free for the engine: {', '.join(dict.fromkeys(endpoints))}")
