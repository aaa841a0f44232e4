"""Where a profile keeps its files.

With KOC_HOME set, everything is under that one folder; without it, under the folders that the platform means for
configuration and data (on Linux ~/.config/koc and ~/.local/share/koc).
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from koc_qt.domain.errors import ConfigError
from koc_qt.profile_version import refuse_newer

HOME_VARIABLE = "KOC_HOME"
_APP = "koc"
_PRIVATE = 0o700
_DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{digit}" for port in ("COM", "LPT") for digit in "0123456789¹²³")}


@dataclass(frozen=True)
class Paths:
    """The folders of one profile, absolute; `ensure` makes them.

    `config` and `data` are what a person may want to back up; `run` holds locks and endpoints of a running engine and
    `keys` the link's CURVE keys.
    """

    config: Path
    data: Path
    logs: Path
    run: Path
    keys: Path

    @property
    def config_file(self) -> Path:
        """The configuration, which need not exist."""
        return self.config / "koc.yaml"

    @property
    def accounts_file(self) -> Path:
        """The accounts that were added in the window, written by the engine; need not exist."""
        return self.config / "accounts.yaml"

    @property
    def bars(self) -> Path:
        """The folder of cached bars."""
        return self.data / "bars"

    @property
    def backtests(self) -> Path:
        """The folder of back-tests that are over, made when needed."""
        return self.data / "backtests"

    @property
    def studies(self) -> Path:
        """The SQLite file of optimisations and their trials, made when needed."""
        return self.data / "studies.sqlite"

    @property
    def kernels(self) -> Path:
        """The folder of machine code that was compiled here, made when needed."""
        return self.data / "kernels"

    @property
    def journal(self) -> Path:
        """The SQLite file of orders and fills."""
        return self.data / "journal.sqlite"

    @property
    def trust(self) -> Path:
        """The folder of certificates and other reports on how far strategies can be believed, made when needed."""
        return self.data / "trust"

    @property
    def profile_file(self) -> Path:
        """What says of which version the profile is."""
        return self.data / "profile.json"

    @property
    def upgrade_file(self) -> Path:
        """There while the profile is being brought up to date."""
        return self.data / "upgrade.json"

    @property
    def release_file(self) -> Path:
        """What was seen last of newer releases."""
        return self.data / "release.json"

    @property
    def backups(self) -> Path:
        """The folder of copies from before the profile was brought up to date, made when needed."""
        return self.data / "backups"

    @property
    def layout(self) -> Path:
        """What the window remembers."""
        return self.data / "window.json"

    @property
    def crashes(self) -> Path:
        """The folder of crash reports, made when needed."""
        return self.data / "crashes"

    @property
    def strategies(self) -> Path:
        """A folder for a person's own strategy files."""
        return self.data / "strategies"

    @property
    def log_file(self) -> Path:
        """The log, JSON lines."""
        return self.logs / "koc.json"

    @property
    def engine_lock(self) -> Path:
        """The lock that the engine of this profile holds."""
        return self.run / "engine.lock"

    def ensure(self) -> None:
        """Make the folders, readable by their owner alone. Raises ConfigError where that is not possible.

        So it does for a profile of a later version, in which nothing is made.
        """
        refuse_newer(self.profile_file)
        for folder in (self.config, self.data, self.logs, self.run, self.keys, self.bars, self.strategies):
            _make_private(folder)


def profile_paths(home: Path | None = None) -> Paths:
    """Give the paths of the profile in `home`, or in KOC_HOME, or of this user; nothing is created.

    A relative folder counts from the present working directory; an empty KOC_HOME is as good as none.
    Raises ConfigError when the folder is something else than a folder.
    """
    variable = os.environ.get(HOME_VARIABLE, "")
    if home is None and variable.strip():
        home = Path(variable)
    if home is not None:
        root = _absolute(home)
        return Paths(root / "config", root / "data", root / "logs", root / "run", root / "keys")
    root = platformdirs.user_data_path(_APP, appauthor=False)
    config = platformdirs.user_config_path(_APP, appauthor=False)
    # Windows means the same folder for both.
    config = config / "config" if config == root else config
    return Paths(config, root / "data", root / "logs", root / "run", root / "keys")


def is_device_name(name: str) -> bool:
    """Tell whether Windows takes a file name for a device, which it has in every folder, whatever the suffix."""
    return name.partition(".")[0].rstrip(" ").upper() in _DEVICES


def _absolute(home: Path) -> Path:
    try:
        root = home.expanduser().absolute()
        if root.exists() and not root.is_dir():
            raise ConfigError(f"{root} is a file, not a folder: point {HOME_VARIABLE} at a folder")
    except (OSError, RuntimeError, ValueError) as error:
        raise ConfigError(f"{home} cannot be used as the folder of K.O.C.'s profile: {_why(error)}") from error
    return root


def _make_private(folder: Path) -> None:
    try:
        if not folder.parent.exists():
            folder.parent.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        if os.name == "posix" and stat.S_IMODE(folder.stat().st_mode) & 0o077 and folder.stat().st_uid == os.getuid():
            folder.chmod(_PRIVATE)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the folder {folder} cannot be made: {_why(error)}. "
            f"Give yourself the right to write there, or set {HOME_VARIABLE} to a folder of your own"
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            f"the folder {folder} cannot be written by this user. "
            f"Correct its owner or permissions, or set {HOME_VARIABLE} to a folder of your own"
        )


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
