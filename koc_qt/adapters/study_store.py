"""Studies and trials in a database: a SQLite file of the profile's, or a PostgreSQL server by its URL.

Bodies are JSON, so that a person can read them with the database's own tools. Several engines and commands may share
it: an id belongs to whoever was the first to begin a study with it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from koc_qt.domain.errors import StorageError
from koc_qt.domain.optimisation import StudySnapshot, Trial
from koc_qt.scrub import scrub

BUSY_TIMEOUT_S = 10.0
_ATTEMPTS = 3  # to make the tables, which two engines may do at the same time
_PAUSE_S = 0.1

_tables = sa.MetaData()
_studies = sa.Table(
    "koc_studies",
    _tables,
    sa.Column("study_id", sa.String(64), primary_key=True),
    sa.Column("started_ns", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
_trials = sa.Table(
    "koc_trials",
    _tables,
    sa.Column("study_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)

_encode = msgspec.json.Encoder().encode
_study = msgspec.json.Decoder(StudySnapshot)
_trial = msgspec.json.Decoder(Trial)
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}

T = TypeVar("T")


def _study_row(study: StudySnapshot) -> dict[str, Any]:
    body = _encode(study).decode()
    return {"study_id": study.study_id, "started_ns": study.started_ns, "state": study.state.value, "body": body}


class SqlStudyStore:
    """Implements ports/studies.py StudyStore. Open it in a thread too; raises StorageError."""

    def __init__(self, url: str) -> None:
        """Open a database: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``."""
        self._engine = _engine(url)
        self._where = scrub(self._engine.url.render_as_string(hide_password=True))
        try:
            self._make_tables()
        except BaseException:
            self._engine.dispose()
            raise

    def begin(self, study: StudySnapshot) -> bool:
        """Keep a new study, unless there is one of that id."""
        insert = self._insert(_studies).values(_study_row(study)).on_conflict_do_nothing()
        return self._do(
            lambda connection: connection.execute(insert.returning(_studies.c.study_id)).first() is not None
        )

    def put(self, study: StudySnapshot) -> None:
        """Keep a study."""
        self._do(lambda connection: self._write(connection, _studies, [_study_row(study)]))

    def studies(self) -> list[StudySnapshot]:
        """Give all studies, oldest first."""
        query = sa.select(_studies.c.body).order_by(_studies.c.started_ns, _studies.c.study_id)
        return self._do(lambda connection: [_study.decode(body) for (body,) in connection.execute(query)])

    def add(self, study_id: str, trials: Iterable[Trial]) -> None:
        """Keep trials."""
        rows = [
            {
                "study_id": study_id,
                "number": trial.number,
                "state": trial.state.value,
                "body": _encode(trial).decode(),
            }
            for trial in trials
        ]
        if rows:
            self._do(lambda connection: self._write(connection, _trials, rows))

    def page(self, study_id: str, after: int, limit: int) -> list[Trial]:
        """Give trials in the order of their numbers."""
        query = (
            sa.select(_trials.c.body)
            .where(_trials.c.study_id == study_id, _trials.c.number > after)
            .order_by(_trials.c.number)
            .limit(limit)
        )
        return self._do(lambda connection: [_trial.decode(body) for (body,) in connection.execute(query)])

    def delete(self, study_id: str) -> None:
        """Forget a study and its trials."""

        def both(connection: sa.Connection) -> None:
            for table in (_trials, _studies):
                connection.execute(sa.delete(table).where(table.c.study_id == study_id))

        self._do(both)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    def _write(self, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        insert = self._insert(table)
        keys = [column.name for column in table.primary_key]
        changed = {name: insert.excluded[name] for name in table.columns.keys() if name not in keys}  # noqa: SIM118
        connection.execute(insert.on_conflict_do_update(index_elements=keys, set_=changed), rows)

    def _insert(self, table: sa.Table) -> Any:
        """Give the database's own way to insert, which knows what to do about a row that is there."""
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    def _make_tables(self) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                return self._do(_tables.create_all)
            except StorageError:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(_PAUSE_S)
        return None

    def _do(self, work: Callable[[sa.Connection], T]) -> T:
        """Do something all or not at all. Raises StorageError."""
        with self._explained(), self._engine.begin() as connection:
            return work(connection)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, msgspec.MsgspecError) as error:
            why = scrub(str(getattr(error, "orig", None) or error))
            raise StorageError(f"the studies in {self._where} cannot be read or written: {why}") from error


def open_study_store(where: str | Path) -> SqlStudyStore:
    """Open the studies of a profile (the file of its own), or those behind a database's URL. Raises StorageError."""
    if isinstance(where, Path):
        try:
            where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            where.touch(mode=0o600)
        except OSError as error:
            raise StorageError(f"{where} cannot be written: {error.strerror or error}") from error
        return SqlStudyStore(f"sqlite:///{where.absolute().as_posix()}")
    return SqlStudyStore(where)


def _engine(url: str) -> sa.Engine:
    try:
        given = sa.make_url(url)
        driver = _DRIVERS[given.drivername.partition("+")[0]]
    except (sa.exc.ArgumentError, KeyError) as error:
        raise StorageError(
            f"{scrub(url)!r} is no database: write sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    try:
        if driver == "sqlite":
            engine = sa.create_engine(given, connect_args={"timeout": BUSY_TIMEOUT_S})
            sa.event.listen(engine, "connect", _write_ahead)
            return engine
        return sa.create_engine(
            given.set(drivername=driver),
            pool_pre_ping=True,
            pool_size=2,
            connect_args={"connect_timeout": int(BUSY_TIMEOUT_S)},
        )
    except ImportError as error:
        raise StorageError(
            "PostgreSQL needs a library that is not installed here: pip install 'psycopg[binary]'"
        ) from error


def _write_ahead(connection: Any, _record: object) -> None:
    """Let readers and the writer of a file go on at the same time; trials that a power cut loses are made again."""
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
