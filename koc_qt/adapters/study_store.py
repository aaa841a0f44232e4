"""Studies and trials in a database: a SQLite file of the profile's, or a PostgreSQL server by its URL.

Bodies are JSON, so that a person can read them with the database's own tools. Several engines and commands may share
it: an id belongs to whoever was the first to begin a study with it, and a study to whoever holds its lease. A lease is
a word in the study's row; everything that is written of the study names it, in the same transaction. No clock is asked:
whoever wants to take a study over watches whether its revision still grows (engine/optimiser_leases.py).
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from loguru import logger
from sqlalchemy.dialects import postgresql, sqlite

from koc_qt.adapters.study_schema import STUDIES, TRIALS, bring_up_to_date
from koc_qt.adapters.this_process import ProcessMark, this_process
from koc_qt.domain.errors import KocError, StorageError
from koc_qt.domain.optimisation import StudySnapshot, Trial
from koc_qt.ports.studies import KeptStudies, KeptStudy, LeaseLost
from koc_qt.scrub import scrub

BUSY_TIMEOUT_S = 10.0
_AT_ONCE = 500  # ids in one query

_encode = msgspec.json.Encoder().encode
_study = msgspec.json.Decoder(StudySnapshot)
_trial = msgspec.json.Decoder(Trial)
_mark = msgspec.json.Decoder(ProcessMark)
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
_BAD = (msgspec.MsgspecError, UnicodeError, TypeError, KocError)  # what a body that was tampered with leads to

T = TypeVar("T")


def _row(study: StudySnapshot) -> dict[str, Any]:
    """Give the columns of a study that are written anew each time."""
    body = _encode(msgspec.structs.replace(study, owner="")).decode()
    return {"started_ns": study.started_ns, "state": study.state.value, "body": body}


class SqlStudyStore:
    """Implements ports/studies.py StudyStore. Open it in a thread too; raises StorageError.

    `role` is what this process is called in the leases that it takes.
    """

    def __init__(self, url: str, role: str = "K.O.C.") -> None:
        """Open a database: ``sqlite:///FILE`` or ``postgresql://USER:PASSWORD@HOST/NAME``."""
        self._engine = _engine(url)
        self._where = scrub(self._engine.url.render_as_string(hide_password=True))
        self._me = this_process(role)
        with contextlib.ExitStack() as undoing:
            undoing.callback(self._engine.dispose)
            with self._explained():
                bring_up_to_date(self._engine, self._where)
            undoing.pop_all()

    @property
    def owner(self) -> str:
        """This process, in words."""
        return self._me.name

    def begin(self, study: StudySnapshot) -> str:
        """Keep a new study, unless there is one of that id."""
        lease = uuid.uuid4().hex

        def insert(connection: sa.Connection) -> bool:
            row = {"study_id": study.study_id, **_row(study), **self._holding(lease), "revision": 1}
            new = self._insert(STUDIES).values(row).on_conflict_do_nothing()
            return connection.execute(new.returning(STUDIES.c.study_id)).first() is not None

        return lease if self._do(insert) else ""

    def take(self, kept: KeptStudy) -> str:
        """Take a study over as it was seen."""
        lease = uuid.uuid4().hex
        change = (
            sa.update(STUDIES)
            .where(
                STUDIES.c.study_id == kept.study.study_id,
                STUDIES.c.lease == kept.lease,
                STUDIES.c.revision == kept.revision,
            )
            .values(revision=STUDIES.c.revision + 1, **self._holding(lease))
        )
        return lease if self._do(lambda connection: connection.execute(change).rowcount == 1) else ""

    def put(self, study: StudySnapshot, lease: str) -> None:
        """Keep a study."""
        self._do(lambda connection: self._change(connection, study.study_id, lease, _row(study)))

    def end(self, study: StudySnapshot, lease: str) -> None:
        """Keep a study, and let it go."""
        free = {"lease": "", "holder": ""}
        self._do(lambda connection: self._change(connection, study.study_id, lease, {**_row(study), **free}))

    def studies(self, known: Mapping[str, int] | None = None) -> KeptStudies:
        """Give the studies that changed. What cannot be read is left where it is, and said in the log."""

        def read(connection: sa.Connection) -> tuple[dict[str, int], list[Any]]:
            by_age = (STUDIES.c.started_ns, STUDIES.c.study_id)
            listing = connection.execute(sa.select(STUDIES.c.study_id, STUDIES.c.revision).order_by(*by_age))
            revisions: dict[str, int] = {row.study_id: row.revision for row in listing}
            wanted = [key for key, revision in revisions.items() if revision != (known or {}).get(key)]
            rows: list[Any] = []
            for begin in range(0, len(wanted), _AT_ONCE):
                some = wanted[begin : begin + _AT_ONCE]
                rows += connection.execute(sa.select(STUDIES).where(STUDIES.c.study_id.in_(some))).all()
            return revisions, rows

        revisions, rows = self._do(read)
        place = {key: number for number, key in enumerate(revisions)}
        found = [kept for row in rows if (kept := self._kept(row)) is not None]
        return KeptStudies(sorted(found, key=lambda kept: place.get(kept.study.study_id, len(place))), revisions)

    def add(self, study_id: str, lease: str, trials: Iterable[Trial]) -> None:
        """Keep trials."""

        def write(connection: sa.Connection) -> None:
            self._change(connection, study_id, lease, {})
            self._write(
                connection,
                [
                    {
                        "study_id": study_id,
                        "number": trial.number,
                        "state": trial.state.value,
                        "body": _encode(trial).decode(),
                    }
                    for trial in trials
                ],
            )

        if trials := list(trials):
            self._do(write)

    def page(self, study_id: str, after: int, limit: int) -> list[Trial]:
        """Give trials in the order of their numbers."""
        query = (
            sa.select(TRIALS.c.number, TRIALS.c.body)
            .where(TRIALS.c.study_id == study_id, TRIALS.c.number > after)
            .order_by(TRIALS.c.number)
            .limit(limit)
        )
        return [
            self._trial(study_id, number, body) for number, body in self._do(lambda found: found.execute(query).all())
        ]

    def delete(self, study_id: str, lease: str) -> None:
        """Forget a study and its trials."""

        def both(connection: sa.Connection) -> None:
            self._change(connection, study_id, lease, {})
            for table in (TRIALS, STUDIES):
                connection.execute(sa.delete(table).where(table.c.study_id == study_id))

        self._do(both)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # ---- inside

    def _holding(self, lease: str) -> dict[str, str]:
        return {"lease": lease, "holder": _encode(self._me).decode()}

    def _change(self, connection: sa.Connection, study_id: str, lease: str, row: Mapping[str, Any]) -> None:
        """Write to a study whose lease is ours; the row is locked from here to the end of the transaction."""
        change = (
            sa.update(STUDIES)
            .where(STUDIES.c.study_id == study_id, STUDIES.c.lease == lease)
            .values(revision=STUDIES.c.revision + 1, **row)
        )
        if not lease or connection.execute(change).rowcount != 1:
            held = connection.execute(sa.select(STUDIES.c.holder).where(STUDIES.c.study_id == study_id)).first()
            if held is None:
                raise LeaseLost(f"{study_id} was deleted")
            holder = self._holder(held[0])
            raise LeaseLost(f"{study_id} is run by {holder.name if holder else 'nobody'} now: it is left to that")

    def _write(self, connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
        insert = self._insert(TRIALS)
        changed = {name: insert.excluded[name] for name in ("state", "body")}
        connection.execute(
            insert.on_conflict_do_update(index_elements=["study_id", "number"], set_=changed),
            rows,
        )

    def _insert(self, table: sa.Table) -> Any:
        """Give the database's own way to insert, which knows what to do about a row that is there."""
        return (postgresql if self._engine.dialect.name == "postgresql" else sqlite).insert(table)

    def _kept(self, row: Any) -> KeptStudy | None:
        try:
            study = _study.decode(row.body)
        except _BAD as error:
            logger.warning("the study {!r} in {} cannot be read and is left out: {}", row.study_id, self._where, error)
            return None
        holder = self._holder(row.holder) if row.lease else None
        owner = "" if holder is None else holder.name
        study = msgspec.structs.replace(study, study_id=row.study_id, owner=owner)
        return KeptStudy(study, row.revision, row.lease, holder)

    def _holder(self, text: str) -> ProcessMark | None:
        try:
            return _mark.decode(text) if text else None
        except _BAD:
            return ProcessMark("a process that did not say which", "", 0, 0.0)

    def _trial(self, study_id: str, number: int, body: str) -> Trial:
        try:
            return _trial.decode(body)
        except _BAD as error:
            raise StorageError(
                f"trial {number} of {study_id} in {self._where} cannot be read: {error}; "
                "delete that row, and it is made again when the study is resumed"
            ) from error

    def _do(self, work: Callable[[sa.Connection], T]) -> T:
        """Do something all or not at all. Raises StorageError."""
        with self._explained(), self._engine.begin() as connection:
            return work(connection)

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, msgspec.MsgspecError, UnicodeError, OverflowError, OSError) as error:
            why = scrub(str(getattr(error, "orig", None) or error))
            raise StorageError(f"the studies in {self._where} cannot be read or written: {why}") from error


def open_study_store(where: str | Path, role: str = "K.O.C.") -> SqlStudyStore:
    """Open the studies of a profile (the file of its own), or those behind a database's URL. Raises StorageError."""
    if isinstance(where, Path):
        try:
            where.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            where.touch(mode=0o600)
        except OSError as error:
            raise StorageError(f"{where} cannot be written: {error.strerror or error}") from error
        return SqlStudyStore(f"sqlite:///{where.absolute().as_posix()}", role)
    return SqlStudyStore(where, role)


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
