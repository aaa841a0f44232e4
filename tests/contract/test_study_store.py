"""Where studies are kept: one suite for a SQLite file and for a PostgreSQL server, where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from koc_qt.adapters.study_store import SqlStudyStore, open_study_store
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import StorageError
from koc_qt.domain.optimisation import ParameterRange, StudySnapshot, StudySpec, Trial, TrialState
from koc_qt.domain.state import JobState
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
            timeout=60,
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


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqlStudyStore]:
    """Give an empty store."""
    if request.param == "sqlite":
        where: Path | str = tmp_path / "new" / "studies.sqlite"
    else:
        where = request.getfixturevalue("server")
    with closing(open_study_store(where)) as opened:
        for study_id in ("study-0", "study-1", "study-2"):
            opened.delete(study_id)
        yield opened


def test_a_study_is_kept_as_it_was_last(store: SqlStudyStore) -> None:
    store.put(STUDY)
    done = msgspec.structs.replace(STUDY, state=JobState.DONE, best=trial(3), front=[3], time_ns=300)
    store.put(done)
    older = msgspec.structs.replace(STUDY, study_id="study-0", started_ns=50)
    store.put(older)
    assert store.studies() == [older, done]


def test_an_id_is_given_to_one_study_alone(store: SqlStudyStore) -> None:
    assert store.begin(STUDY)
    assert not store.begin(msgspec.structs.replace(STUDY, strategy="cd"))
    assert store.studies() == [STUDY]


def test_trials_come_back_in_the_order_of_their_numbers(store: SqlStudyStore) -> None:
    trials = [trial(number) for number in range(25)]
    store.add("study-1", trials[10:])
    store.add("study-1", trials[:10])
    store.add("study-2", [trial(3, state=TrialState.FAILED, reason="no")])
    store.add("study-1", [])
    assert store.page("study-1", -1, 100) == trials
    assert store.page("study-1", 7, 5) == trials[8:13]
    assert store.page("study-1", 24, 5) == []
    assert store.page("study-2", -1, 5) == [trial(3, state=TrialState.FAILED, reason="no")]


def test_a_trial_that_is_made_again_takes_the_place_of_the_first(store: SqlStudyStore) -> None:
    store.add("study-1", [trial(1), trial(2)])
    store.add("study-1", [trial(2, seconds=9.0), trial(3)])
    assert store.page("study-1", -1, 9) == [trial(1), trial(2, seconds=9.0), trial(3)]


def test_a_deleted_study_takes_its_trials_along(store: SqlStudyStore) -> None:
    other = msgspec.structs.replace(STUDY, study_id="study-2")
    store.put(STUDY)
    store.put(other)
    store.add("study-1", [trial(1)])
    store.add("study-2", [trial(1)])
    store.delete("study-1")
    assert store.studies() == [other]
    assert store.page("study-1", -1, 9) == []
    assert store.page("study-2", -1, 9) == [trial(1)]


def test_threads_may_write_at_the_same_time(store: SqlStudyStore) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 40, 4):
            store.add("study-1", [trial(number + more) for more in range(4)])

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 40, 80)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [each.number for each in store.page("study-1", -1, 1_000)] == list(range(120))


# ---- what goes wrong


def test_a_file_is_private_and_opened_again(tmp_path: Path) -> None:
    file = tmp_path / "studies.sqlite"
    with closing(open_study_store(file)) as first, closing(open_study_store(file)) as second:
        first.put(STUDY)
        assert second.studies() == [STUDY]
    assert file.stat().st_mode & 0o077 == 0


def test_a_damaged_file_says_so(tmp_path: Path) -> None:
    file = tmp_path / "studies.sqlite"
    file.write_bytes(b"this is no database, and never was one" * 100)
    with pytest.raises(StorageError, match=r"studies in sqlite.*cannot be read or written: file is not a database"):
        open_study_store(file)


def test_bodies_that_cannot_be_read_say_so(tmp_path: Path) -> None:
    with closing(open_study_store(tmp_path / "s.sqlite")) as store:
        store.put(STUDY)
        with store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE koc_studies SET body = '{}'")
        with pytest.raises(StorageError, match="missing required field"):
            store.studies()


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
