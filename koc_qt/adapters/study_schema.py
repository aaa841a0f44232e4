"""The tables of studies, and how those of an earlier version are brought up to date.

A file is copied before it is changed. Everything is changed in one transaction, so that a process that is killed
meanwhile leaves the tables as they were, and that two that open them at once do it once.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa
from loguru import logger

from koc_qt.adapters.sqlite_copy import copy_database
from koc_qt.domain.errors import StorageError

VERSION = 2
_LOCK = 4_931_567  # of PostgreSQL's advisory locks, one that is ours

_tables = sa.MetaData()
STUDIES = sa.Table(
    "koc_studies",
    _tables,
    sa.Column("study_id", sa.String(64), primary_key=True),
    sa.Column("started_ns", sa.BigInteger, nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    # since version 2:
    sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("lease", sa.String(32), nullable=False, server_default=""),
    sa.Column("holder", sa.Text, nullable=False, server_default=""),
)
TRIALS = sa.Table(
    "koc_trials",
    _tables,
    sa.Column("study_id", sa.String(64), primary_key=True),
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
)
_SCHEMA = sa.Table("koc_schema", _tables, sa.Column("version", sa.Integer, primary_key=True, autoincrement=False))


def bring_up_to_date(engine: sa.Engine, where: str) -> None:
    """Make the tables, or change those of an earlier version. Raises StorageError for those of a later one."""
    with engine.connect() as connection:
        before = _version(connection, where)
    if before == VERSION:
        return
    with _alone(engine) as connection:
        found = _version(connection, where)  # another process may have been quicker
        if found == 1:
            _copy(engine, found, where)
            for column in STUDIES.columns:
                if column.server_default is not None:
                    words = sa.schema.CreateColumn(column).compile(dialect=engine.dialect)
                    connection.exec_driver_sql(f"ALTER TABLE {STUDIES.name} ADD COLUMN {words}")
        if found < VERSION:
            _tables.create_all(connection)
            connection.execute(sa.insert(_SCHEMA).values(version=VERSION))
    if before:
        logger.info("the studies in {} were brought from version {} to {}", where, before, VERSION)


def _version(connection: sa.Connection, where: str) -> int:
    """Give the version of the tables; 0 where there are none. Raises StorageError for a later one."""
    names = set(sa.inspect(connection).get_table_names())
    if _SCHEMA.name not in names:
        return 1 if STUDIES.name in names else 0
    found = connection.execute(sa.select(sa.func.max(_SCHEMA.c.version))).scalar()
    if found is None or found < VERSION:
        raise StorageError(f"the studies in {where} do not say of which version they are: restore a copy of them")
    if found > VERSION:
        raise StorageError(
            f"the studies in {where} were written by a later version ({found}, and this one knows {VERSION}): "
            "update this program, or keep studies elsewhere (engine.studies, --store)"
        )
    return int(found)


@contextlib.contextmanager
def _alone(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Give a transaction that no other process changes tables beside."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        yield connection


def _copy(engine: sa.Engine, version: int, where: str) -> None:
    """Copy a file as it is beside itself, once; a server's tables have copies of their own."""
    if engine.dialect.name != "sqlite":
        return
    with engine.connect() as connection:
        file = next((row[2] for row in connection.exec_driver_sql("PRAGMA database_list") if row[1] == "main"), "")
        kept = Path(f"{file}.version-{version}")
        if not file or kept.exists():
            return
        half = Path(f"{kept}.part")
        try:
            half.unlink(missing_ok=True)  # of a process that was killed
            source = connection.connection.driver_connection
            assert source is not None  # noqa: S101 (for the type checker)
            copy_database(source, half)
            half.replace(kept)
        except (OSError, sqlite3.Error) as error:
            with contextlib.suppress(OSError):
                half.unlink(missing_ok=True)
            raise StorageError(
                f"the studies in {where} are of an earlier version, and cannot be copied to {kept} before they are "
                f"brought up to date: {error}. Make room or let the folder be written, or keep studies elsewhere "
                "(engine.studies, --store)"
            ) from error
