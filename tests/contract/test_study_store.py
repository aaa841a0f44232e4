"""Where studies are kept: one suite for a SQLite file and for a PostgreSQL server, where one is installed."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from koc_qt.adapters import study_schema
from koc_qt.adapters.study_store import SqlStudyStore, open_study_store
from koc_qt.adapters.this_process import ProcessMark, this_machine
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import StorageError
from koc_qt.domain.optimisation import ParameterRange, StudySnapshot, StudySpec, Trial, TrialState
from koc_qt.domain.state import JobState
from koc_qt.ports.studies import KeptStudy, LeaseLost
from tests.conditions import PATIENCE
from tests.fakes.trading import BTC

SPEC = StudySpec(BacktestSpec("/x/sma.py", (BTC,), "1m", 0, 10), (ParameterRange("fast", 1, 9, 1),))
STUDY = StudySnapshot("study-1", SPEC, JobState.RUNNING, "", "trials", 9, {"done": 1}, None, [], 2, 1.5, 100, 200, "ab")
NOBODY = 65_534


def trial(number: int, **changes: object) -> Trial:
    made = Trial(number, {"fast": number, "mode": "ä"}, TrialState.DONE, {"sharpe": number / 3, "fees": None}, "", 0.5)
    return msgspec.structs.replace(made, **changes)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Run a PostgreSQL server of our own, on a socket in a folder that is gone afterwards."""
    if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
        pytest.skip("no PostgreSQL server is installed here (initdb, pg_ctl)")
    pytest.importorskip("psycopg", reason="the library for PostgreSQL is not installed here")
    folder = Path(tempfile.mkdtemp(prefix="koc-pg-"))
    data = str(folder / "data")

    def run(*command: str) -> None:
        subprocess.run(
            command,
            check=True,
            timeout=60 * PATIENCE,
            user=NOBODY if os.getuid() == 0 else None,  # the server does not run as root
            env={"PATH": os.environ["PATH"], "LC_ALL": "C", "HOME": str(folder)},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    try:
        if os.getuid() == 0:
            os.chown(folder, NOBODY, NOBODY)
        run("initdb", "-D", data, "-U", "koc", "-A", "trust", "-N", "-E", "UTF8")
        run("pg_ctl", "-D", data, "-w", "-o", f"-k {folder} -c listen_addresses= -c fsync=off", "start")
        try:
            yield f"postgresql://koc@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Store:
    """A store, and others that other processes would open on the same place."""

    def __init__(self, where: Path | str) -> None:
        self.where = where
        self.it = open_study_store(where, "one")

    def other(self) -> closing[SqlStudyStore]:
        return closing(open_study_store(self.where, "other"))

    def kept(self, study_id: str = "study-1") -> KeptStudy:
        return next(kept for kept in self.it.studies().changed if kept.study.study_id == study_id)

    def forget(self) -> None:
        for kept in self.it.studies().changed:
            self.it.delete(kept.study.study_id, self.it.take(kept))


@pytest.fixture(params=["sqlite", "postgresql"])
def stand(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Give an empty store."""
    if request.param == "sqlite":
        where: Path | str = tmp_path / "new" / "studies.sqlite"
    else:
        where = request.getfixturevalue("server")
    opened = Store(where)
    with closing(opened.it):
        opened.forget()
        yield opened


@pytest.fixture
def store(stand: Store) -> SqlStudyStore:
    return stand.it


def test_a_study_is_kept_as_it_was_last(store: SqlStudyStore) -> None:
    lease = store.begin(STUDY)
    done = msgspec.structs.replace(STUDY, state=JobState.DONE, best=trial(3), front=[3], time_ns=300)
    store.put(done, lease)
    older = msgspec.structs.replace(STUDY, study_id="study-0", started_ns=50)
    store.end(older, store.begin(older))
    kept = store.studies()
    assert [each.study for each in kept.changed] == [older, msgspec.structs.replace(done, owner=store.owner)]
    assert list(kept.revisions) == ["study-0", "study-1"]


def test_an_id_is_given_to_one_study_alone(store: SqlStudyStore) -> None:
    assert store.begin(STUDY)
    assert not store.begin(msgspec.structs.replace(STUDY, strategy="cd"))
    [kept] = store.studies().changed
    assert kept.study.strategy == STUDY.strategy


def test_only_what_changed_is_read_again(store: SqlStudyStore) -> None:
    lease = store.begin(STUDY)
    other = store.begin(msgspec.structs.replace(STUDY, study_id="study-2"))
    known = store.studies().revisions
    assert store.studies(known) == ([], known)
    store.add("study-2", other, [trial(1)])
    [kept] = store.studies(known).changed
    assert kept.study.study_id == "study-2"
    store.delete("study-1", lease)
    assert list(store.studies(known).revisions) == ["study-2"]


def test_trials_come_back_in_the_order_of_their_numbers(store: SqlStudyStore) -> None:
    trials = [trial(number) for number in range(25)]
    lease, other = store.begin(STUDY), store.begin(msgspec.structs.replace(STUDY, study_id="study-2"))
    store.add("study-1", lease, trials[10:])
    store.add("study-1", lease, trials[:10])
    store.add("study-2", other, [trial(3, state=TrialState.FAILED, reason="no")])
    store.add("study-1", lease, [])
    assert store.page("study-1", -1, 100) == trials
    assert store.page("study-1", 7, 5) == trials[8:13]
    assert store.page("study-1", 24, 5) == []
    assert store.page("study-2", -1, 5) == [trial(3, state=TrialState.FAILED, reason="no")]


def test_a_trial_that_is_made_again_takes_the_place_of_the_first(store: SqlStudyStore) -> None:
    lease = store.begin(STUDY)
    store.add("study-1", lease, [trial(1), trial(2)])
    store.add("study-1", lease, [trial(2, seconds=9.0), trial(3)])
    assert store.page("study-1", -1, 9) == [trial(1), trial(2, seconds=9.0), trial(3)]


def test_a_deleted_study_takes_its_trials_along(store: SqlStudyStore) -> None:
    other = msgspec.structs.replace(STUDY, study_id="study-2")
    lease, others = store.begin(STUDY), store.begin(other)
    store.add("study-1", lease, [trial(1)])
    store.add("study-2", others, [trial(1)])
    store.delete("study-1", lease)
    assert list(store.studies().revisions) == ["study-2"]
    assert store.page("study-1", -1, 9) == []
    assert store.page("study-2", -1, 9) == [trial(1)]
    with pytest.raises(LeaseLost, match="study-1 was deleted"):
        store.put(STUDY, lease)


def test_threads_may_write_at_the_same_time(store: SqlStudyStore) -> None:
    lease = store.begin(STUDY)

    def write(first: int) -> None:
        for number in range(first, first + 40, 4):
            store.add("study-1", lease, [trial(number + more) for more in range(4)])

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 40, 80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30 * PATIENCE)
    assert [each.number for each in store.page("study-1", -1, 1_000)] == list(range(120))


# ---- who runs a study


def test_a_study_is_run_by_whoever_holds_its_lease(stand: Store) -> None:
    first = stand.it.begin(STUDY)
    kept = stand.kept()
    assert kept.holder is not None
    assert (kept.study.owner, kept.holder.is_gone()) == (stand.it.owner, False)
    assert stand.it.owner.startswith("one, process ")
    with stand.other() as other:
        second = other.take(kept)
        assert second
        assert stand.it.take(kept) == ""  # it is not as it was seen any more
        for write in (
            lambda: stand.it.put(STUDY, first),
            lambda: stand.it.end(STUDY, first),
            lambda: stand.it.add("study-1", first, [trial(1)]),
            lambda: stand.it.delete("study-1", first),
            lambda: stand.it.put(STUDY, ""),
        ):
            with pytest.raises(LeaseLost, match=r"study-1 is run by other, process \d+ on .* now"):
                write()
        assert stand.it.page("study-1", -1, 9) == []
        other.add("study-1", second, [trial(1)])
        other.end(STUDY, second)
    free = stand.kept()
    assert (free.holder, free.lease, free.study) == (None, "", STUDY)
    with pytest.raises(LeaseLost, match="is run by nobody now"):
        stand.it.put(STUDY, first)


def test_of_several_who_take_a_study_over_one_gets_it(stand: Store) -> None:
    stand.it.begin(STUDY)
    kept = stand.kept()
    stores = [open_study_store(stand.where, f"number {number}") for number in range(4)]
    got: list[str] = []
    threads = [threading.Thread(target=lambda each: got.append(each.take(kept)), args=(each,)) for each in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30 * PATIENCE)
    for each in stores:
        each.close()
    assert sorted(map(bool, got)) == [False, False, False, True]


def test_every_sign_of_life_shows(stand: Store) -> None:
    lease = stand.it.begin(STUDY)
    revisions = [stand.kept().revision]
    stand.it.put(STUDY, lease)
    revisions.append(stand.kept().revision)
    stand.it.add("study-1", lease, [trial(1)])
    revisions.append(stand.kept().revision)
    assert revisions == sorted(set(revisions))


def test_a_process_that_ended_is_known_to_be_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began_s = psutil.Process(process.pid).create_time()
        mark = ProcessMark("x", this_machine(), process.pid, began_s + 1)
        assert not mark.is_gone()
        assert msgspec.structs.replace(mark, seen_s=began_s - 3_600).is_gone()  # its number was another's then
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert mark.is_gone()  # though nobody has waited for it yet
        process.wait(10 * PATIENCE)
        assert mark.is_gone()
        assert not msgspec.structs.replace(mark, machine="elsewhere").is_gone()  # who knows


# ---- what goes wrong


def test_a_file_is_private_and_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "studies.sqlite"
    with closing(open_study_store(file)) as first, closing(open_study_store(file)) as second:
        first.end(STUDY, first.begin(STUDY))
        assert [kept.study for kept in second.studies().changed] == [STUDY]
    assert file.stat().st_mode & 0o077 == 0


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "studies.sqlite"
    file.write_bytes(b"this is no database, and never was one" * 100)
    with pytest.raises(StorageError, match=r"studies in sqlite.*cannot be read or written: file is not a database"):
        open_study_store(file)


@pytest.mark.expected_warnings("the study 'study-1' in .* cannot be read and is left out")
def test_a_study_that_cannot_be_read_hides_no_other(tmp_path: Path) -> None:
    with closing(open_study_store(tmp_path / "s.sqlite")) as store:
        lease, other = store.begin(STUDY), store.begin(msgspec.structs.replace(STUDY, study_id="study-2"))
        store.add("study-2", other, [trial(1), trial(2)])
        for body in ("{}", "", "[1", '{"spec":{"base":{}}}', _spoilt(STUDY)):
            _execute(store, "UPDATE koc_studies SET body = ? WHERE study_id = 'study-1'", body)
            found = store.studies()
            assert [kept.study.study_id for kept in found.changed] == ["study-2"]
            assert list(found.revisions) == ["study-1", "study-2"]
        store.put(STUDY, lease)
        _execute(store, "UPDATE koc_studies SET holder = 'x' WHERE study_id = 'study-1'")
        assert store.studies().changed[0].study.owner == "a process that did not say which"
        _execute(store, "UPDATE koc_trials SET body = '{' WHERE number = 1")
        with pytest.raises(StorageError, match=r"trial 1 of study-2 in .* cannot be read: .*; delete that row"):
            store.page("study-2", -1, 9)
        assert store.page("study-2", 1, 9) == [trial(2)]


def _spoilt(study: StudySnapshot) -> str:
    """Give the body of a study that no rule of today allows."""
    return msgspec.json.encode(study).decode().replace('"cash":"10000"', '"cash":"-1"')


def _execute(store: SqlStudyStore, words: str, *values: str) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql(words, values)


@pytest.mark.parametrize(
    "spoil", [lambda study: {"reason": "\udcff"}, lambda study: {"started_ns": 1 << 70}], ids=["text", "number"]
)
def test_what_a_database_cannot_hold_is_said(tmp_path: Path, spoil: Any) -> None:
    with (
        closing(open_study_store(tmp_path / "s.sqlite")) as store,
        pytest.raises(StorageError, match="cannot be read or written"),
    ):
        store.begin(msgspec.structs.replace(STUDY, **spoil(STUDY)))


def test_names_in_any_script_come_back(store: SqlStudyStore) -> None:
    base = msgspec.structs.replace(SPEC.base, path="/стратегии/雪 ☃/über.py", parameters={"größe": "ʼ\x00'\"; --"})
    study = msgspec.structs.replace(STUDY, spec=msgspec.structs.replace(SPEC, base=base))
    store.end(study, store.begin(study))
    assert store.studies().changed[0].study == study


def test_a_file_that_may_not_be_written_says_so(tmp_path: Path) -> None:
    file = tmp_path / "s.sqlite"
    with closing(open_study_store(file)) as store:
        store.begin(STUDY)
    with closing(open_study_store(f"sqlite:///file:{file}?mode=ro&uri=true")) as store:
        [kept] = store.studies().changed
        with pytest.raises(StorageError, match="attempt to write a readonly database"):
            store.take(kept)


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    with closing(open_study_store(tmp_path / "s.sqlite")) as store:
        lease = store.begin(STUDY)
        store.add("study-1", lease, [trial(1)])
        _execute(store, "PRAGMA max_page_count = 8")
        with pytest.raises(StorageError, match="database or disk is full"):
            store.add("study-1", lease, [trial(number, reason="x" * 900) for number in range(2, 99)])
        assert store.page("study-1", -1, 9) == [trial(1)]
        _execute(store, "PRAGMA max_page_count = 9999")
        store.add("study-1", lease, [trial(number) for number in range(2, 9)])
        assert len(store.page("study-1", -1, 99)) == 8


def test_a_folder_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        open_study_store(tmp_path / "file" / "s.sqlite")


@pytest.mark.parametrize("url", ["nonsense", "mysql://host/x", "postgresql"])
def test_what_is_no_database_is_refused(url: str) -> None:
    with pytest.raises(StorageError, match="is no database: write sqlite"):
        open_study_store(url)


def test_a_server_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StorageError, match="cannot be read or written") as told:
        open_study_store(f"postgresql://koc:hunter2@/x?host={tmp_path}")
    assert "hunter2" not in str(told.value)


# ---- versions


def _first_version(store: Store) -> None:
    """Put a store back to what the first version of it was."""
    with store.it._engine.begin() as connection:
        for words in (
            "DROP TABLE koc_schema",
            *(f"ALTER TABLE koc_studies DROP COLUMN {name}" for name in ("revision", "lease", "holder")),
        ):
            connection.exec_driver_sql(words)


def test_the_first_version_is_brought_up_to_date(stand: Store) -> None:
    lease = stand.it.begin(STUDY)
    stand.it.add("study-1", lease, [trial(1), trial(2)])
    stand.it.end(STUDY, lease)
    _first_version(stand)
    opened: list[SqlStudyStore] = []
    threads = [threading.Thread(target=lambda: opened.append(open_study_store(stand.where))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30 * PATIENCE)
    for store in opened:
        [kept] = store.studies().changed
        assert (kept.study, kept.holder) == (STUDY, None)
        assert store.page("study-1", -1, 9) == [trial(1), trial(2)]
    lease = opened[0].take(stand.kept())
    opened[1].put(STUDY, lease)
    for store in opened:
        store.close()
    assert len(opened) == 3
    if isinstance(stand.where, Path):
        copies = [file.name for file in stand.where.parent.iterdir() if "version" in file.name]
        assert copies == ["studies.sqlite.version-1"]
        with closing(sqlite3.connect(stand.where.parent / copies[0])) as copy:
            assert copy.execute("SELECT count(*) FROM koc_trials").fetchone() == (2,)
            assert len(copy.execute("SELECT * FROM koc_studies").fetchone()) == 4


def test_without_a_copy_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "s.sqlite")
    with closing(store.it):
        store.it.begin(STUDY)
        _first_version(store)
    before = (tmp_path / "s.sqlite").read_bytes()
    (tmp_path / "s.sqlite.version-1.part").mkdir()  # where the copy would go
    with pytest.raises(StorageError, match=r"of an earlier version, and cannot be copied to .*s\.sqlite\.version-1"):
        open_study_store(tmp_path / "s.sqlite")
    assert (tmp_path / "s.sqlite").read_bytes() == before
    (tmp_path / "s.sqlite.version-1.part").rmdir()
    monkeypatch.setattr(study_schema.sa.schema, "CreateColumn", _fails)
    with pytest.raises(ZeroDivisionError):
        open_study_store(tmp_path / "s.sqlite")  # as when it is killed half-way
    monkeypatch.undo()
    with closing(open_study_store(tmp_path / "s.sqlite")) as again:
        assert list(again.studies().revisions) == ["study-1"]


def _fails(_column: object) -> None:
    raise ZeroDivisionError


def test_a_later_version_is_left_alone(stand: Store) -> None:
    for version, why in ((9, r"written by a later version \(9, and this one knows 2\)"), (1, "do not say of which")):
        with stand.it._engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE koc_schema SET version = {version}")
        with pytest.raises(StorageError, match=why):
            open_study_store(stand.where)
    with stand.it._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE koc_schema SET version = 2")
