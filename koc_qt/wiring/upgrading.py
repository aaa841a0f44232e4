"""A profile that an older version wrote is brought up to date: copied first, then changed, and put back if that fails.

For the engine alone, which holds the profile's lock. In this order, each step durable before the next begins:

1. what the newer version may change is copied to data/backups/VERSION-TIME/;
2. data/upgrade.json says that changing begins, and which copy is the one to go back to;
3. each part is changed, by its own module;
4. data/profile.json says the new version, and upgrade.json goes.

A process that is killed before 2 has changed nothing; one that is killed before 4 leaves upgrade.json, and the next
engine puts back what was copied before it begins anew.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from loguru import logger

from koc_qt.adapters.sqlite_copy import copy_database
from koc_qt.adapters.sqlite_journal import bring_journal_up_to_date
from koc_qt.domain.errors import KocError, StorageError
from koc_qt.files import durable_stream, sync_folder, write_durably
from koc_qt.paths import Paths
from koc_qt.profile_version import PRESENT, ProfileVersion, read_version, refuse_newer, write_version

KEPT_BACKUPS = 3  # the oldest make way
SPARE_BYTES = 50_000_000  # that stay free when everything has been copied
_BUSY_S = 10.0
_LARGEST_TEXT = 64 << 20  # of a file that is no database; larger ones are not ours


@dataclass(frozen=True)
class Part:
    """A file of the profile. `change` brings it up to date, and is its module's own; none where no version differs.

    A shared one is changed in one transaction, beside other processes that use it: it is copied, and never put back.
    """

    name: str
    file: Callable[[Paths], Path]
    is_database: bool = False
    is_shared: bool = False
    change: Callable[[Path], None] | None = None


def _change_studies(file: Path) -> None:
    from koc_qt.adapters.study_store import SqlStudyStore  # SQLAlchemy takes long to load

    SqlStudyStore(f"sqlite:///{file}").close()


PARTS: tuple[Part, ...] = (
    Part("journal", lambda paths: paths.journal, is_database=True, change=bring_journal_up_to_date),
    Part("studies", lambda paths: paths.studies, is_database=True, is_shared=True, change=_change_studies),
    Part("layout", lambda paths: paths.layout),
    Part("accounts", lambda paths: paths.accounts_file),
    Part("configuration", lambda paths: paths.config_file),
)


def bring_up_to_date(paths: Paths, parts: Sequence[Part] = PARTS) -> Path | None:
    """Make the profile one of this version; gives the copy of what was changed, None where nothing was.

    Raises ConfigError for a profile of a later version, to which nothing is written, and StorageError where it cannot
    be done, and then everything is as it was before.
    """
    refuse_newer(paths.profile_file)
    _put_back_unfinished(paths, parts)
    found = read_version(paths.profile_file)
    there = [part for part in parts if part.file(paths).exists()]
    if found == PRESENT:
        return None
    if (found is not None and not found.is_older) or not any(part.change for part in there):
        _say_version(paths)
        return None
    return _upgrade(paths, found, there)


def _upgrade(paths: Paths, found: ProfileVersion | None, there: Sequence[Part]) -> Path:
    before = found.program if found is not None else "an earlier version"
    logger.info("bringing the profile from {} to {}", before, PRESENT.program)
    backup = _back_up(paths, found, there)
    changed = [part.name for part in there if part.change is not None and not part.is_shared]
    try:
        mark = {"backup": backup.name, "changed": changed, "to": dict(PRESENT.forms)}
        write_durably(paths.upgrade_file, json.dumps(mark).encode())
        for part in there:
            if part.change is not None:
                part.change(part.file(paths))
        _say_version(paths)
    except Exception as error:
        if not isinstance(error, (OSError, sqlite3.Error, KocError)):
            logger.exception("bringing the profile up to date failed in a way nobody foresaw")
        _put_back(paths, backup, [part for part in there if part.name in changed])
        raise StorageError(
            f"the profile could not be brought from {before} to {PRESENT.program}: {error}. Everything is as it was; a "
            f"copy is in {backup}. The version before goes on with it"
        ) from error
    _done(paths)
    for old in _backups(paths)[:-KEPT_BACKUPS]:
        shutil.rmtree(old, ignore_errors=True)
    logger.info("the profile is up to date; as it was before, it is in {}", backup)
    return backup


# ---- copying --------------------------------------------------------------------------------------------------------


def _back_up(paths: Paths, found: ProfileVersion | None, there: Sequence[Part]) -> Path:
    """Copy these parts; gives the folder, which is there whole or not at all. Raises StorageError."""
    _require_room(paths, there)
    version = found.program if found is not None else "unknown"
    safe = "".join(letter for letter in version if letter.isalnum() or letter in ".-+") or "unknown"
    target = paths.backups / f"{safe}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z"
    half = target.with_name(f".{target.name}")
    file = paths.data
    try:
        half.mkdir(mode=0o700, parents=True)
        for part in there:
            file = part.file(paths)
            _copy(part, file, half / file.name)
        sync_folder(half)
        half.rename(target)
        sync_folder(paths.backups)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(half, ignore_errors=True)
        raise StorageError(
            f"the profile is of an earlier version, and {file} cannot be copied to {paths.backups} before it is "
            f"brought up to date: {error}. Nothing was changed"
        ) from error
    for old in paths.backups.glob(".*"):  # of processes that were killed
        shutil.rmtree(old, ignore_errors=True)
    return target


def _copy(part: Part, source: Path, target: Path) -> None:
    if part.is_database:
        with contextlib.closing(sqlite3.connect(f"{source.absolute().as_uri()}?mode=rw", uri=True)) as connection:
            connection.execute(f"PRAGMA busy_timeout = {int(_BUSY_S * 1000)}")
            copy_database(connection, target)
        return
    with source.open("rb") as stream:
        data = stream.read(_LARGEST_TEXT + 1)
    if len(data) > _LARGEST_TEXT:
        raise OSError(27, "too large to be one of K.O.C.'s", str(source))
    write_durably(target, data)


def _require_room(paths: Paths, there: Sequence[Part]) -> None:
    needed = SPARE_BYTES
    for part in there:
        file = part.file(paths)
        needed += sum(each.stat().st_size for each in (file, _log_of(file)) if each.exists())
    free = shutil.disk_usage(paths.data).free
    if free < needed:
        raise StorageError(
            f"the profile is of an earlier version, and is copied before it is brought up to date: that takes "
            f"{needed / 1e6:,.0f} MB, and {paths.data} has {free / 1e6:,.0f} MB. Nothing was changed: make room"
        )


# ---- putting back ---------------------------------------------------------------------------------------------------


def _put_back_unfinished(paths: Paths, parts: Sequence[Part]) -> None:
    """Undo what a process has begun that was killed, perhaps of another version. Raises StorageError."""
    try:
        mark = json.loads(paths.upgrade_file.read_bytes())
        backup = paths.backups / Path(str(mark["backup"])).name
        changed, to = set(mark["changed"]), dict(mark["to"])
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{paths.upgrade_file} cannot be read ({error}), which says how far the profile was brought up to date. "
            f"Copies of it as it was are in {paths.backups}: put one back by hand, and delete that file"
        ) from error
    found = read_version(paths.profile_file)
    if found is not None and found.forms == to:
        _done(paths)  # it was killed right after the last change
        return
    logger.warning("bringing the profile up to date was cut short: it is put back as it was, and begun anew")
    _put_back(paths, backup, [part for part in parts if part.name in changed])


def _put_back(paths: Paths, backup: Path, parts: Sequence[Part]) -> None:
    """Make the parts what they were when they were copied. Raises StorageError, and then the next start tries again."""
    try:
        for part in parts:
            _restore(part.file(paths), backup / part.file(paths).name)
        _done(paths)
    except OSError as error:
        raise StorageError(
            f"the profile could not be put back as it was: {error}. The next start tries again; the copy is in {backup}"
        ) from error


def _restore(file: Path, copy: Path) -> None:
    with copy.open("rb") as source, durable_stream(file) as target:
        shutil.copyfileobj(source, target, 1 << 20)
        for beside in (_log_of(file), file.with_name(f"{file.name}-shm")):
            beside.unlink(missing_ok=True)  # of the file that is replaced now: they do not fit the other one


def _log_of(file: Path) -> Path:
    return file.with_name(f"{file.name}-wal")


def _say_version(paths: Paths) -> None:
    try:
        write_version(paths.profile_file)
    except OSError as error:
        raise StorageError(f"{paths.profile_file} cannot be written: {error.strerror}") from error


def _done(paths: Paths) -> None:
    paths.upgrade_file.unlink(missing_ok=True)
    sync_folder(paths.data)


def _backups(paths: Paths) -> list[Path]:
    """Give the copies that are there, the oldest first."""
    with contextlib.suppress(OSError):
        found = [path for path in paths.backups.iterdir() if path.is_dir() and not path.name.startswith(".")]
        return sorted(found, key=lambda path: path.name.rpartition("-")[2])
    return []
