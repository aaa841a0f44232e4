"""A profile of an earlier version: copied before it is changed, put back when that fails, whole after every kill."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from koc_qt.adapters import sqlite_journal, study_schema
from koc_qt.domain.errors import ConfigError, ProfileLocked, StorageError
from koc_qt.link.rendezvous import ProfileLock
from koc_qt.paths import Paths, profile_paths
from koc_qt.profile_version import FORMS, PRESENT, read_version, write_version
from koc_qt.ui import memory
from koc_qt.version import __version__
from koc_qt.wiring import upgrading
from koc_qt.wiring.upgrading import KEPT_BACKUPS, PARTS, Part, bring_up_to_date

ROWS = [("one",), ("two",)]


def make_journal(file: Path) -> None:
    """Write a database as a killed engine leaves it: with rows that are in its log alone."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE orders (body TEXT)")
        connection.execute("INSERT INTO orders VALUES ('one')")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO orders VALUES ('two')")
        connection.commit()
        shutil.copy(file, file.with_suffix(".kept"))
        shutil.copy(f"{file}-wal", f"{file.with_suffix('.kept')}-wal")
    Path(f"{file}-wal").unlink(missing_ok=True)
    file.with_suffix(".kept").replace(file)
    Path(f"{file.with_suffix('.kept')}-wal").replace(f"{file}-wal")


def rows(file: Path) -> list[Any]:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return connection.execute("SELECT body FROM orders ORDER BY rowid").fetchall()


def columns(file: Path) -> int:
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return len(connection.execute("PRAGMA table_info(orders)").fetchall())


def add_column(file: Path) -> None:
    """Change a journal in more than one transaction, so that a kill leaves it half-way."""
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as connection:
        if columns(file) > 1:
            raise StorageError("half-way already")
        connection.execute("ALTER TABLE orders ADD COLUMN more TEXT")
        connection.execute("UPDATE orders SET more = 'x'")


def rewrite(file: Path) -> None:
    file.write_text(file.read_text().replace("old", "new"))


JOURNAL = Part("journal", lambda paths: paths.journal, is_database=True, change=add_column)
LAYOUT = Part("layout", lambda paths: paths.layout, change=rewrite)
TEXT = Part("configuration", lambda paths: paths.config_file)
PLAN = (LAYOUT, JOURNAL, TEXT)


@pytest.fixture
def old(profile: Paths) -> Paths:
    """Give a profile that an earlier version wrote, with all that a person would miss."""
    fill(profile)
    return profile


def fill(paths: Paths) -> None:
    make_journal(paths.journal)
    paths.layout.write_text('{"layout": "old"}')
    paths.config_file.write_text("account: sim\n")


def backups(paths: Paths) -> list[Path]:
    return sorted(paths.backups.iterdir()) if paths.backups.exists() else []


def is_whole_and_old(paths: Paths) -> bool:
    return (
        rows(paths.journal) == ROWS
        and columns(paths.journal) == 1
        and paths.layout.read_text() == '{"layout": "old"}'
        and paths.config_file.read_text() == "account: sim\n"
    )


def is_whole_and_new(paths: Paths) -> bool:
    return (
        rows(paths.journal) == ROWS
        and columns(paths.journal) == 2
        and paths.layout.read_text() == '{"layout": "new"}'
        and paths.config_file.read_text() == "account: sim\n"
        and read_version(paths.profile_file) == PRESENT
        and not paths.upgrade_file.exists()
    )


def test_the_numbers_are_those_of_the_parts_own_modules() -> None:
    assert FORMS["journal"] == sqlite_journal.SCHEMA
    assert FORMS["studies"] == study_schema.VERSION
    assert FORMS["layout"] == memory.VERSION
    assert {part.name for part in PARTS} >= set(FORMS) - {"profile"}


def test_a_new_profile_says_its_version_and_needs_no_copy(profile: Paths) -> None:
    profile.config_file.write_text("account: sim\n")
    assert bring_up_to_date(profile) is None
    assert read_version(profile.profile_file) == PRESENT
    assert backups(profile) == []
    assert bring_up_to_date(profile) is None


def test_an_old_profile_is_copied_before_it_is_changed(old: Paths) -> None:
    backup = bring_up_to_date(old, PLAN)
    assert is_whole_and_new(old)
    assert backup is not None
    assert backup.name.startswith("unknown-")
    assert sorted(path.name for path in backup.iterdir()) == ["journal.sqlite", "koc.yaml", "window.json"]
    assert rows(backup / "journal.sqlite") == ROWS, "what only the log had is in the copy too"
    assert columns(backup / "journal.sqlite") == 1
    assert (backup / "window.json").read_text() == '{"layout": "old"}'
    if os.name == "posix":
        assert backup.stat().st_mode & 0o777 == 0o700
        assert {path.stat().st_mode & 0o777 for path in backup.iterdir()} == {0o600}
    assert bring_up_to_date(old, PLAN) is None


def test_the_copy_is_named_after_the_version_that_wrote_it_and_few_are_kept(old: Paths) -> None:
    for number in range(KEPT_BACKUPS + 2):
        old.profile_file.write_text(json.dumps({"program": f"0.0.{number}", "forms": {"journal": 0}}))
        backup = bring_up_to_date(old, (LAYOUT, TEXT))
        assert backup is not None
        assert backup.name.startswith(f"0.0.{number}-")
    assert len(backups(old)) == KEPT_BACKUPS
    assert backup in backups(old)


def test_another_version_with_the_same_forms_changes_nothing(old: Paths) -> None:
    old.profile_file.write_text(json.dumps({"program": "0.0.9", "forms": dict(FORMS)}))
    assert bring_up_to_date(old, PLAN) is None
    assert is_whole_and_old(old)
    assert read_version(old.profile_file) == PRESENT


@pytest.mark.parametrize("said", ["", "{", "[]", '{"forms": 3, "program": "x"}', '{"forms": {"journal": "1"}}', "\xff"])
def test_a_damaged_version_is_as_good_as_none(said: str, old: Paths) -> None:
    old.profile_file.write_text(said, encoding="latin-1")
    assert bring_up_to_date(old, PLAN) is not None
    assert is_whole_and_new(old)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("forms", [{**FORMS, "journal": 9}, {**FORMS, "something": 1}])
def test_a_newer_profile_is_refused_and_never_written_to(forms: dict[str, int], old: Paths) -> None:
    old.profile_file.write_text(json.dumps({"program": "9.1.0", "forms": forms}))
    shutil.rmtree(old.bars)
    before = snapshot(old.data)
    with pytest.raises(ConfigError, match=r"written by K\.O\.C\. 9\.1\.0, in a form that this version"):
        bring_up_to_date(old, PLAN)
    with pytest.raises(ConfigError, match=r"Nothing was changed"):
        old.ensure()
    assert snapshot(old.data) == before
    assert not old.bars.exists()


@pytest.mark.parametrize("kind", [OSError, StorageError, sqlite3.OperationalError])
def test_what_fails_is_put_back_and_said(kind: type[Exception], old: Paths) -> None:
    def fail(file: Path) -> None:
        add_column(file)
        raise kind("no luck")

    with pytest.raises(StorageError, match=r"could not be brought from an earlier version.*no luck.*as it was"):
        bring_up_to_date(old, (LAYOUT, replace(JOURNAL, change=fail), TEXT))
    assert is_whole_and_old(old)
    assert not old.profile_file.exists()
    assert not old.upgrade_file.exists()
    assert bring_up_to_date(old, PLAN) is not None, "it can be tried again"
    assert is_whole_and_new(old)


@pytest.mark.expected_warnings("nobody foresaw")
def test_what_nobody_foresaw_is_put_back_too(old: Paths) -> None:
    def fail(file: Path) -> None:
        add_column(file)
        raise ZeroDivisionError

    with pytest.raises(StorageError):
        bring_up_to_date(old, (LAYOUT, replace(JOURNAL, change=fail), TEXT))
    assert is_whole_and_old(old)


def test_what_others_use_too_is_copied_and_not_put_back(old: Paths) -> None:
    def fail(file: Path) -> None:
        raise StorageError("no luck")

    shared = replace(JOURNAL, is_shared=True)
    with pytest.raises(StorageError):
        bring_up_to_date(old, (shared, replace(LAYOUT, change=fail)))
    assert columns(old.journal) == 2
    assert rows(old.journal) == ROWS


def test_without_room_nothing_is_begun(old: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9 - 1000, 1000))
    with pytest.raises(StorageError, match=r"that takes 50 MB, and .* has 0 MB\. Nothing was changed: make room"):
        bring_up_to_date(old, PLAN)
    assert is_whole_and_old(old)
    assert backups(old) == []


def test_a_journal_that_cannot_be_copied_is_left_alone(old: Paths) -> None:
    old.journal.write_bytes(b"no database" * 1000)
    Path(f"{old.journal}-wal").unlink()
    with pytest.raises(StorageError, match=r"cannot be copied to .* Nothing was changed"):
        bring_up_to_date(old, PLAN)
    assert old.journal.read_bytes() == b"no database" * 1000
    assert backups(old) == []


def test_an_unreadable_mark_is_for_the_person(old: Paths) -> None:
    old.upgrade_file.write_text("{")
    with pytest.raises(StorageError, match=r"put one back by hand, and delete that file"):
        bring_up_to_date(old, PLAN)
    assert is_whole_and_old(old)


def test_studies_of_the_first_version_are_brought_up_to_date(profile: Paths) -> None:
    with contextlib.closing(sqlite3.connect(profile.studies)) as connection:
        connection.execute(
            "CREATE TABLE koc_studies (study_id TEXT PRIMARY KEY, started_ns BIGINT, state TEXT, body TEXT)"
        )
        connection.execute("CREATE TABLE koc_trials (study_id TEXT, number BIGINT, state TEXT, body TEXT)")
        connection.execute("INSERT INTO koc_trials VALUES ('s', 1, 'done', '{}')")
        connection.commit()
    backup = bring_up_to_date(profile)
    assert backup is not None
    for file, version in ((profile.studies, 2), (backup / "studies.sqlite", None)):
        with contextlib.closing(sqlite3.connect(file)) as connection:
            assert connection.execute("SELECT count(*) FROM koc_trials").fetchone() == (1,)
            if version is not None:
                assert connection.execute("SELECT max(version) FROM koc_schema").fetchone() == (version,)


@pytest.mark.expected_warnings("cut short")
def test_what_another_version_left_half_way_is_put_back_by_its_own_list(old: Paths) -> None:
    """The person goes back to this version after a newer one was killed while it changed things."""
    write_version(old.profile_file)
    backup = old.backups / "0.1.0-20270101T000000000000Z"
    backup.mkdir(parents=True)
    (backup / "koc.yaml").write_text("account: sim\n")
    old.config_file.write_text("half: changed\n")
    mark = {"backup": backup.name, "changed": ["configuration"], "to": {**FORMS, "configuration": 5}}
    old.upgrade_file.write_text(json.dumps(mark))
    assert bring_up_to_date(old, PLAN) is None
    assert is_whole_and_old(old)
    assert not old.upgrade_file.exists()


# ---- kills ----------------------------------------------------------------------------------------------------------

_WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect", "shutil.rmtree", "tempfile.mkstemp")


def killed_at(number: int, work: Callable[[], object], within: Path) -> bool:
    """Do work in a process that is killed right before it touches the disk for this time; whether it was."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    left = number

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
        if (writes or event in _WRITES) and str(within) in str(arguments[0]):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(watch)
        work()
    finally:
        os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("expected_warnings")
def test_a_kill_at_any_moment_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # what a killed process has written stays without it
    memory = Path("/dev/shm")  # where nothing waits for a disk
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        kept = profile_paths(Path(folder) / "kept")
        for each in (kept.data, kept.config):
            each.mkdir(parents=True)
        fill(kept)
        home = Path(folder) / "home"
        paths = profile_paths(home)
        points = 0
        while True:
            shutil.copytree(kept.data.parent, home)
            if not killed_at(points, lambda: bring_up_to_date(paths, PLAN), home):
                break
            points += 1
            assert rows(paths.journal) == ROWS, f"no row is lost by kill {points}"
            # a second kill, while the first is mended
            if not points % 3 and killed_at(points % 7, lambda: bring_up_to_date(paths, PLAN), home):
                assert rows(paths.journal) == ROWS
            bring_up_to_date(paths, PLAN)
            assert is_whole_and_new(paths), f"after kill {points}"
            assert not [path for path in paths.backups.iterdir() if path.name.startswith(".")]
            shutil.rmtree(home)
        assert points > 10
        assert is_whole_and_new(paths)


# ---- the engine -----------------------------------------------------------------------------------------------------


def test_no_change_while_an_engine_has_the_profile(profile: Paths) -> None:
    """The engine takes the lock first; another start is refused before anything is looked at."""
    with ProfileLock(profile.engine_lock), pytest.raises(ProfileLocked), ProfileLock(profile.engine_lock):
        bring_up_to_date(profile_paths())
    assert not profile.profile_file.exists()


def test_the_version_is_written_whole(profile: Paths) -> None:
    write_version(profile.profile_file)
    assert json.loads(profile.profile_file.read_text()) == {"program": __version__, "forms": dict(FORMS)}
    assert upgrading.PARTS
