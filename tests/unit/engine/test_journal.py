from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from koc_qt.adapters import sqlite_journal
from koc_qt.adapters.sqlite_journal import SqliteJournal, read_journal
from koc_qt.domain.errors import StorageError
from koc_qt.domain.order_state import apply
from koc_qt.domain.orders import (
    AmendRejected,
    AmendRequested,
    Order,
    OrderAccepted,
    OrderAmended,
    OrderFilled,
    OrderStatus,
    OrderSubmitted,
)
from koc_qt.domain.state import StrategySpec
from koc_qt.ports.journal import KillSwitchRecord, OrderRecord, StrategyRecord
from tests.conditions import until
from tests.fakes.trading import BTC, NOW_NS, fill_of, limit_buy


def order(number: int = 1) -> Order:
    return Order(f"koc{number}", "sma", "sim", limit_buy(), created_ns=NOW_NS + number, updated_ns=NOW_NS)


def life(number: int = 1) -> list[OrderRecord]:
    new = order(number)
    records, current = [OrderRecord(new)], new
    for event in (
        OrderSubmitted(new.client_order_id, NOW_NS),
        OrderAccepted(new.client_order_id, NOW_NS, f"v{number}"),
        OrderFilled(new.client_order_id, NOW_NS, fill_of(new, "0.04", fee="0.001")),
    ):
        current = apply(current, event)
        records.append(OrderRecord(current, event))
    return records


SPEC = StrategySpec("sma", "/files/sma_cross.py", "sim", (BTC,), "1s", {"fast": 5, "name": "Ω"})


async def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "deep" / "journal.sqlite")
    records = life()
    await journal.append(records)
    await journal.append([StrategyRecord(SPEC, True, 5), KillSwitchRecord(True, "too wild", 6)])
    await journal.close()
    state = read_journal(tmp_path / "deep" / "journal.sqlite")
    assert state.orders == (records[-1].order,)
    assert isinstance(records[-1].event, OrderFilled)
    assert state.fills == (records[-1].event.fill,)
    assert state.orders[0].average_price == Decimal(100)
    assert state.strategies == (StrategyRecord(SPEC, True, 5),)
    assert state.kill_switch == KillSwitchRecord(True, "too wild", 6)


async def test_a_change_that_was_on_its_way_comes_back(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    records = life()[:-1]
    for event in (
        AmendRequested("koc1", NOW_NS, Decimal("0.2"), Decimal(98)),
        AmendRejected("koc1", NOW_NS, "too late"),
        AmendRequested("koc1", NOW_NS, Decimal("0.3"), Decimal("97.5")),
        OrderAmended("koc1", NOW_NS, Decimal("0.25"), Decimal(97), "v2"),
        AmendRequested("koc1", NOW_NS, Decimal("0.4"), Decimal(97)),
    ):
        records.append(OrderRecord(apply(records[-1].order, event), event))
    await journal.append(records)
    await journal.close()
    (order,) = read_journal(tmp_path / "journal.sqlite").orders
    assert order == records[-1].order
    assert (order.request.quantity, order.request.price, order.venue_order_id) == (Decimal("0.25"), Decimal(97), "v2")
    assert order.amending is not None
    assert order.amending.quantity == Decimal("0.4")


async def test_an_order_of_a_journal_from_before_changes_were_known_is_read(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    await journal.append(life())
    await journal.close()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE orders SET body = json_remove(body, '$.amending')")
        connection.commit()
    assert read_journal(path).orders == (life()[-1].order,)


async def test_a_fill_that_is_written_twice_is_there_once(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    await journal.append(life())
    await journal.append(life()[-1:])
    assert len(journal.load().fills) == 1
    await journal.close()


async def test_an_absent_journal_is_empty(tmp_path: Path) -> None:
    state = read_journal(tmp_path / "none.sqlite")
    assert (state.orders, state.fills, state.strategies, state.kill_switch) == ((), (), (), None)


async def test_it_can_be_read_while_an_engine_writes_it(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    await asyncio.gather(*(journal.append(life(n)) for n in range(50)))
    assert len(read_journal(tmp_path / "journal.sqlite").orders) == 50
    await journal.close()


async def test_what_was_acknowledged_survives_without_a_close(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    await journal.append(life())
    assert len(read_journal(beside(path, "after-the-crash.sqlite")).fills) == 1
    await journal.close()


def beside(path: Path, name: str, *, with_log: bool = True) -> Path:
    """Copy a journal as a crash leaves it, or its database alone."""
    copy = path.with_name(name)
    copy.write_bytes(path.read_bytes())
    if with_log:
        Path(f"{copy}-wal").write_bytes(Path(f"{path}-wal").read_bytes())
    return copy


def log_size(path: Path) -> int:
    return Path(f"{path}-wal").stat().st_size


async def test_the_log_has_its_size_from_the_start_and_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_journal, "QUIET_RECORDS", 8)
    monkeypatch.setattr(sqlite_journal, "QUIET_S", 0.001)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    await journal.append(life(1))
    size = log_size(path)
    assert size >= sqlite_journal.ROOM_BYTES
    assert len(read_journal(beside(path, "begun.sqlite")).orders) == 1
    await journal.append(life(2))
    await until(lambda: journal._logged == 0, what="the log to be moved")
    await journal.append(life(3))
    assert log_size(path) == size
    assert len(read_journal(beside(path, "moved.sqlite", with_log=False)).orders) == 2
    assert len(read_journal(beside(path, "crashed.sqlite")).orders) == 3
    await journal.close()
    assert len(read_journal(path).orders) == 3


async def test_a_log_that_is_far_too_long_is_moved_in_the_midst_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_journal, "LOG_RECORDS", 8)
    monkeypatch.setattr(sqlite_journal, "QUIET_S", 60.0)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    for number in range(5):
        await journal.append(life(number))
    assert len(read_journal(beside(path, "moved.sqlite", with_log=False)).orders) == 4
    assert len(read_journal(path).orders) == 5
    await journal.close()


async def test_a_reader_that_stays_holds_up_nothing_that_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_journal, "LOG_RECORDS", 4)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    await journal.append(life(1))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM orders").fetchone() == (1,)
        for number in (2, 3):
            await journal.append(life(number))
        assert reader.execute("SELECT count(*) FROM orders").fetchone() == (1,)
        assert len(read_journal(path).orders) == 3
    await journal.append(life(4))
    await journal.append(life(5))
    assert len(read_journal(beside(path, "crashed.sqlite")).orders) == 5
    await journal.close()


async def test_a_disk_without_room_for_the_log_may_have_enough_for_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = sqlite_journal._open

    def small(path: Path) -> sqlite3.Connection:
        connection = opened(path)
        connection.execute("PRAGMA max_page_count=30")
        return connection

    monkeypatch.setattr(sqlite_journal, "_open", small)
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    await journal.append(life(1))
    assert log_size(path) < sqlite_journal.ROOM_BYTES
    assert len(read_journal(beside(path, "crashed.sqlite")).orders) == 1
    await journal.close()


async def test_what_is_begun_to_be_written_is_in_its_place_before_what_comes_after_it(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    begun = journal.write(life(1)[:1])
    await journal.append(life(1)[1:])
    assert begun.done()
    assert [order.status for order in journal.load().orders] == [OrderStatus.PARTIALLY_FILLED]
    await journal.close()
    with pytest.raises(StorageError, match="closed"):
        await journal.write(life(2))


async def test_an_idle_disk_is_at_work_before_the_caller_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_journal, "HAND_OVER_S", 10.0)
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    await until(lambda: journal._is_idle, what="the journal to be ready")
    done: list[str] = []
    journal._connection.set_trace_callback(done.append)
    begun = journal.write(life())
    assert sum(statement.startswith("INSERT") for statement in done) == 8
    await begun
    journal._connection.set_trace_callback(None)
    monkeypatch.setattr(sqlite_journal, "HAND_OVER_S", 0.001)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)) as blocker:
        blocker.execute("BEGIN IMMEDIATE")
        held = journal.write(life(2))
        assert not held.done()
        blocker.execute("ROLLBACK")
    await held
    await journal.close()


async def test_a_full_disk_is_said_and_nothing_half_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    journal = SqliteJournal(path)
    await journal.append(life(1))
    pages = journal._connection.execute("PRAGMA page_count").fetchone()[0]
    journal._connection.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(StorageError, match="Free some disk space"):
        await journal.append([record for n in range(2, 200) for record in life(n)])
    assert len(read_journal(path).orders) == 1
    journal._connection.execute("PRAGMA max_page_count=1000000")
    await journal.append(life(2))
    assert len(read_journal(path).orders) == 2
    await journal.close()


async def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(StorageError, match=r"newer K\.O\.C\."):
        SqliteJournal(path)


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_damaged_file_is_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="cannot be opened"):
        SqliteJournal(path)
    with pytest.raises(StorageError, match="cannot be read"):
        read_journal(path)


async def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be opened"):
        SqliteJournal(tmp_path)


async def test_a_closed_journal_refuses(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    await journal.close()
    await journal.close()
    with pytest.raises(StorageError, match="closed"):
        await journal.append(life())


async def test_a_disk_that_does_not_keep_up_refuses_instead_of_piling_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_journal, "QUEUE_LIMIT", 1)
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    blocker = sqlite3.connect(tmp_path / "journal.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    tasks = [asyncio.create_task(journal.append(life(n))) for n in range(5)]
    await until(lambda: any(task.done() for task in tasks), what="a refusal")
    blocker.execute("ROLLBACK")
    blocker.close()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    refused = [outcome for outcome in outcomes if outcome is not None]
    assert all(isinstance(outcome, StorageError) and "not keeping up" in str(outcome) for outcome in refused)
    assert 1 <= len(refused) <= 4
    assert len(journal.load().orders) == 5 - len(refused)
    await journal.close()


async def test_a_cancelled_caller_does_not_take_back_what_is_written(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    task = asyncio.create_task(journal.append(life()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await journal.close()
    assert len(read_journal(tmp_path / "journal.sqlite").orders) == 1


async def test_the_file_is_the_owners_alone(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "journal.sqlite")
    assert (tmp_path / "journal.sqlite").stat().st_mode & 0o077 == 0
    await journal.close()


async def test_a_journal_that_is_only_just_being_made_reads_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with sqlite3.connect(path) as begun:
        begun.execute("PRAGMA journal_mode=WAL")
        assert read_journal(path).orders == ()
    begun.close()
    journal = SqliteJournal(path)
    await journal.append(life())
    assert len(read_journal(path).orders) == 1
    await journal.close()
