"""The journal in one SQLite file: write-ahead log, every commit on the disk before it is acknowledged.

One thread owns the connection. Appends that arrive while it writes are committed together, each still all or nothing
from its caller's view: a batch that cannot be written fails every append in it, and none of it is kept.
Bodies are JSON, so that a person with the sqlite3 tool can read their own orders.

SQLite would move the log into the database inside the commit of whoever makes it too long, an order for instance, which
takes as long as two files take to reach the disk. Here that is done once nothing has been written for a moment; and the
log has its size from the start, for a commit to a file that grows takes longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path

import msgspec

from koc_qt.domain.errors import StorageError
from koc_qt.domain.orders import Fill, Order, OrderFilled
from koc_qt.domain.state import StrategySpec
from koc_qt.ports.journal import JournalRecord, JournalState, KillSwitchRecord, OrderRecord, StrategyRecord

SCHEMA = 1
QUEUE_LIMIT = 10_000  # appends; a full queue refuses (StorageError), so that no order waits behind a dead disk
BUSY_TIMEOUT_S = 5.0
QUIET_S = 0.25  # the log is moved after so long a silence: what a bar's close sets off is over, the next one not there
QUIET_RECORDS = 200  # a log of fewer records stays as it is; some 4 MB
LOG_RECORDS = 4_000  # a log of more is moved whatever goes on; some 80 MB
ROOM_BYTES = 4 << 20  # size of the log from the start
HAND_OVER_S = 0.001  # the loop waits at most so long until the disk is at work; some 0.1 ms on an idle machine

_TABLES = """
CREATE TABLE IF NOT EXISTS orders (
    client_order_id TEXT PRIMARY KEY, strategy_id TEXT NOT NULL, account_id TEXT NOT NULL, status TEXT NOT NULL,
    created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS order_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, client_order_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS fills (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT, account_id TEXT NOT NULL, fill_id TEXT NOT NULL,
    client_order_id TEXT NOT NULL, time_ns INTEGER NOT NULL, body TEXT NOT NULL, UNIQUE (account_id, fill_id));
CREATE TABLE IF NOT EXISTS strategies (
    strategy_id TEXT PRIMARY KEY, wanted INTEGER NOT NULL, time_ns INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS kill_switch (
    id INTEGER PRIMARY KEY CHECK (id = 1), engaged INTEGER NOT NULL, reason TEXT NOT NULL, time_ns INTEGER NOT NULL);
"""

_encode = msgspec.json.Encoder().encode
_order = msgspec.json.Decoder(Order)
_fill = msgspec.json.Decoder(Fill)
_spec = msgspec.json.Decoder(StrategySpec)


class _Append:
    __slots__ = ("done", "handed_over", "records")

    def __init__(
        self, records: Sequence[JournalRecord], done: asyncio.Future[None], handed_over: threading.Lock | None
    ) -> None:
        self.records = records
        self.done = done
        self.handed_over = handed_over  # let go once the disk is at work


class SqliteJournal:
    """Implements ports/journal.py. Make it on the loop that will await its appends; raises StorageError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _open(path)
        self._queue: queue.SimpleQueue[_Append | None] = queue.SimpleQueue()  # it wakes the thread soonest
        self._thread = threading.Thread(target=self._write_forever, name="koc-journal", daemon=True)
        self._closed = False
        self._is_idle = False
        self._logged = 0  # records since the log was moved
        self._thread.start()

    def load(self) -> JournalState:
        """Read everything; call it before the first append. Raises StorageError."""
        return read_journal(self._path)

    def write(self, records: Sequence[JournalRecord]) -> asyncio.Future[None]:
        """Begin to write all or nothing; done once it is on the disk, and fails with StorageError.

        An idle disk is at work when this returns. Python runs one thread at a time: had the caller's gone on at once,
        the journal's would have come to the disk only when that had nothing left to do.
        """
        if not self._is_idle:
            return self._put(records)
        handed_over = threading.Lock()
        handed_over.acquire()
        done = self._put(records, handed_over)
        if not done.done():
            handed_over.acquire(timeout=HAND_OVER_S)
        return done

    def _put(self, records: Sequence[JournalRecord], handed_over: threading.Lock | None = None) -> asyncio.Future[None]:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._closed:
            done.set_exception(StorageError(f"{self._path} is closed"))
        elif self._queue.qsize() >= QUEUE_LIMIT:
            done.set_exception(StorageError(f"{self._path} is not keeping up: {QUEUE_LIMIT} writes wait for the disk"))
        else:
            self._queue.put(_Append(records, done, handed_over))
        return done

    async def append(self, records: Sequence[JournalRecord]) -> None:
        """Write all or nothing, on the disk when it returns. Raises StorageError."""
        # shielded: a caller that is cancelled does not take back what is about to be written
        await asyncio.shield(self._put(records))

    async def close(self) -> None:
        """Write what is queued and let go of the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _write_forever(self) -> None:
        _make_room(self._connection)
        ending = False
        while not ending:
            batch: list[_Append] = []
            item = self._next()
            self._is_idle = False
            while True:
                if item is None:
                    ending = True
                else:
                    batch.append(item)
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._write(batch)
            if self._logged >= LOG_RECORDS:
                self._move_log()
        with contextlib.suppress(sqlite3.Error):  # a last checkpoint is a courtesy: the log is complete without it
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()

    def _next(self) -> _Append | None:
        """Wait for what is to be written; use a silence to move the log."""
        self._is_idle = True
        if self._logged >= QUIET_RECORDS:
            try:
                return self._queue.get(timeout=QUIET_S)
            except queue.Empty:
                self._is_idle = False
                self._move_log()
                self._is_idle = True
        return self._queue.get()

    def _move_log(self) -> None:
        """Put what the log holds into the database, after which the log begins anew in the same file."""
        self._logged = 0
        with contextlib.suppress(sqlite3.Error):  # nothing is lost: the log goes on, and it is tried again later
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def _write(self, batch: list[_Append]) -> None:
        error: StorageError | None = None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for append in batch:
                for record in _without_overtaken(append.records):
                    _insert(self._connection, record)
            for append in batch:
                if append.handed_over is not None:
                    append.handed_over.release()
            self._connection.execute("COMMIT")
            self._logged += sum(len(append.records) for append in batch)
        except (sqlite3.Error, msgspec.MsgspecError) as problem:
            error = StorageError(
                f"{self._path} cannot be written: {problem}. Free some disk space or check its permissions"
            )
            with contextlib.suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
        for append in batch:
            with contextlib.suppress(RuntimeError):  # the loop is gone: nobody is left to be told
                append.done.get_loop().call_soon_threadsafe(_settle, append.done, error)


def _without_overtaken(records: Sequence[JournalRecord]) -> Sequence[JournalRecord]:
    """Leave out an order as it was made, where it is written down as sent in one go with that: only the last stays."""
    if len(records) == 2:
        made, sent = records
        if isinstance(made, OrderRecord) and isinstance(sent, OrderRecord) and made.event is None:
            return (sent,) if made.order.client_order_id == sent.order.client_order_id else records
    return records


def _settle(done: asyncio.Future[None], error: StorageError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


def _insert(connection: sqlite3.Connection, record: JournalRecord) -> None:
    if isinstance(record, OrderRecord):
        order = record.order
        connection.execute(
            "INSERT OR REPLACE INTO orders VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                order.client_order_id,
                order.strategy_id,
                order.account_id,
                order.status.value,
                order.created_ns,
                order.updated_ns,
                _encode(order).decode(),
            ),
        )
        if record.event is not None:
            connection.execute(
                "INSERT INTO order_events (client_order_id, body) VALUES (?, ?)",
                (order.client_order_id, _encode(record.event).decode()),
            )
        if isinstance(record.event, OrderFilled):
            fill = record.event.fill
            connection.execute(
                "INSERT OR IGNORE INTO fills (account_id, fill_id, client_order_id, time_ns, body)"
                " VALUES (?, ?, ?, ?, ?)",
                (fill.account_id, fill.fill_id, fill.client_order_id, fill.time_ns, _encode(fill).decode()),
            )
    elif isinstance(record, StrategyRecord):
        connection.execute(
            "INSERT OR REPLACE INTO strategies VALUES (?, ?, ?, ?)",
            (record.spec.strategy_id, record.wanted, record.time_ns, _encode(record.spec).decode()),
        )
    else:
        connection.execute(
            "INSERT OR REPLACE INTO kill_switch VALUES (1, ?, ?, ?)", (record.engaged, record.reason, record.time_ns)
        )


def bring_journal_up_to_date(path: Path) -> None:
    """Change a journal of an earlier version, all at once. Raises StorageError, also for one of a later version."""
    _open(path).close()


def _open(path: Path) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        path.chmod(0o600)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise StorageError(f"{path} was written by a newer K.O.C. (schema {version}, this one knows {SCHEMA})")
        # all at once: whoever reads meanwhile finds an empty journal or a whole one
        connection.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version={SCHEMA}; COMMIT;")
    except (sqlite3.Error, OSError) as problem:
        if connection is not None:
            connection.close()
        raise StorageError(f"the journal {path} cannot be opened: {problem}") from problem
    except StorageError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _make_room(connection: sqlite3.Connection) -> None:
    """Let the log grow to its size: a transaction that is too large for the cache goes to it, also one that is undone.

    What is left of it there is no record: nothing commits it, and the next ones are written over it.
    """
    with contextlib.suppress(sqlite3.Error):  # a disk without room for that may have enough for orders
        connection.execute("PRAGMA cache_size=10")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE room (body BLOB)")
        connection.executemany("INSERT INTO room VALUES (zeroblob(65536))", [()] * (ROOM_BYTES // 65536))
    with contextlib.suppress(sqlite3.Error):  # a full disk has undone it by itself
        connection.execute("ROLLBACK")
    with contextlib.suppress(sqlite3.Error):
        connection.execute("PRAGMA cache_size=-2000")  # as SQLite has it
        connection.execute(f"PRAGMA user_version={SCHEMA}")  # what was written goes to the disk now, with no order


def read_journal(path: Path) -> JournalState:
    """Read a journal without writing, whether or not an engine has it open.

    An absent file is an empty journal. Raises StorageError.
    """
    if not path.exists():
        return JournalState((), (), (), None)
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        ) as connection:
            connection.execute("BEGIN")
            if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
                return JournalState((), (), (), None)  # an engine is only just making it
            orders = connection.execute("SELECT body FROM orders ORDER BY created_ns, client_order_id").fetchall()
            fills = connection.execute("SELECT body FROM fills ORDER BY sequence").fetchall()
            strategies = connection.execute("SELECT body, wanted, time_ns FROM strategies ORDER BY time_ns").fetchall()
            switch = connection.execute("SELECT engaged, reason, time_ns FROM kill_switch").fetchone()
        return JournalState(
            orders=tuple(_order.decode(body) for (body,) in orders),
            fills=tuple(_fill.decode(body) for (body,) in fills),
            strategies=tuple(
                StrategyRecord(_spec.decode(body), bool(wanted), time_ns) for body, wanted, time_ns in strategies
            ),
            kill_switch=KillSwitchRecord(bool(switch[0]), switch[1], switch[2]) if switch else None,
        )
    except (sqlite3.Error, OSError, msgspec.MsgspecError) as problem:
        raise StorageError(f"the journal {path} cannot be read: {problem}") from problem
