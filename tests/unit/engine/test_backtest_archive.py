"""Back-tests that are over: kept on disk, noted, looked for, deleted, and there after a restart."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from filelock import FileLock

from koc_qt.domain.backtests import BY_COMMAND, BacktestSnapshot, BacktestSpec, RoundTrip
from koc_qt.domain.errors import StorageError, StrategyError
from koc_qt.domain.state import JobState
from koc_qt.engine import backtest_archive, backtests
from koc_qt.engine.backtest_archive import BacktestArchive, number_of
from koc_qt.engine.backtest_run import StoredResult
from koc_qt.engine.backtests import Backtests
from koc_qt.link.backtest_messages import (
    BacktestChanged,
    BacktestDeleted,
    DeleteBacktest,
    FetchBacktest,
    ListBacktests,
    NoteBacktest,
)
from koc_qt.link.replica import Replica
from koc_qt.link.results import fetch_result
from koc_qt.sdk.channel import LoadFailed, ReplayEnd, ReplayTrades
from tests.conditions import PATIENCE, until
from tests.fakes.trading import BTC, NOW_NS
from tests.unit.engine.desk import EngineDesk
from tests.unit.engine.test_backtests import Asking, Bench, done

SPEC = BacktestSpec("/somewhere/ünïcode.py", (BTC,), "1m", 0, 60, parameters={"fast": 3, "slow": 2.5, "kind": "x"})
RESULT = StoredResult(b"head", (b"one", b"two"), ())


def snapshot(number: int, **changes: Any) -> BacktestSnapshot:
    over = BacktestSnapshot(
        f"bt-{number}", SPEC, JobState.DONE, "", "", 1.0, 60, NOW_NS, 10_001.5, None, NOW_NS, NOW_NS + 1
    )
    return msgspec.structs.replace(over, **{"name": "SMA", "statistics": {"return": 0.1, "sharpe": None}, **changes})


@pytest.fixture
def archive(tmp_path: Path) -> BacktestArchive:
    return BacktestArchive(tmp_path / "runs")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def bench(engine: EngineDesk) -> Bench:
    return Bench(engine)


# ---- files


def test_what_is_kept_is_there_for_the_next_engine(archive: BacktestArchive, folder: Path) -> None:
    assert archive.load() == []
    for number in (10, 9, 2):
        assert archive.keep(snapshot(number), RESULT if number == 9 else None) == []
    later = BacktestArchive(folder)
    assert later.load() == [snapshot(2), snapshot(9), snapshot(10)]
    assert later.result("bt-9") == RESULT
    assert later.result("bt-2") is None
    later.change(snapshot(9, note="buy at noon"))
    assert later.result("bt-9") == RESULT
    later.delete("bt-2")
    later.delete("bt-2")
    assert BacktestArchive(folder).load() == [snapshot(9, note="buy at noon"), snapshot(10)]


def test_a_result_is_packed(archive: BacktestArchive, folder: Path) -> None:
    archive.keep(snapshot(1), StoredResult(b"a" * 1_000_000, (), ()))
    assert (folder / "bt-1.run").stat().st_size < 10_000
    result = archive.result("bt-1")
    assert result is not None
    assert result.head == b"a" * 1_000_000


def test_the_oldest_make_way_for_too_many_and_for_too_large_ones(
    archive: BacktestArchive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_archive, "RUNS_KEPT", 3)
    assert [archive.keep(snapshot(number), None) for number in range(1, 6)] == [[], [], [], ["bt-1"], ["bt-2"]]
    monkeypatch.setattr(backtest_archive, "BYTES_KEPT", 50_000)
    large = StoredResult(os.urandom(60_000), (), ())
    assert archive.keep(snapshot(6), large) == ["bt-3", "bt-4", "bt-5"]
    assert [each.backtest_id for each in BacktestArchive(folder).load()] == ["bt-6"]
    assert archive.result("bt-6") == large


def _flipped(data: bytes) -> bytes:
    return data[:-20] + bytes(byte ^ 255 for byte in data[-20:])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda data: b"", "no back-test of this version"),
        (lambda data: data[:8], "no back-test of this version"),
        (lambda data: data[:50], "no back-test of this version"),
        (lambda data: b"KOCBT\x02" + data[6:], "no back-test of this version"),
        (lambda data: data[:6] + b"\xff\xff\xff\xff" + data[10:], "no back-test of this version"),
        (lambda data: data[:10] + b"\xc1" + data[11:], "is damaged"),
    ],
)
@pytest.mark.expected_warnings(r"bt-1\.run (is no back-test of this version|is damaged)")
def test_a_damaged_file_is_left_alone_and_said(archive: BacktestArchive, folder: Path, spoil: Any, words: str) -> None:
    archive.keep(snapshot(1), RESULT)
    archive.keep(snapshot(2), RESULT)
    file = folder / "bt-1.run"
    file.write_bytes(spoil(file.read_bytes()))
    later = BacktestArchive(folder)
    assert [each.backtest_id for each in later.load()] == ["bt-2"]
    assert file.exists()
    with pytest.raises(StorageError, match=words):
        later.result("bt-1")


def test_a_damaged_result_is_said(archive: BacktestArchive, folder: Path) -> None:
    archive.keep(snapshot(1), StoredResult(os.urandom(5_000), (), ()))
    file = folder / "bt-1.run"
    whole = file.read_bytes()
    for spoilt in (whole[:-9], _flipped(whole), whole[:-5_000] + os.urandom(5_000)):
        file.write_bytes(spoilt)
        with pytest.raises(StorageError, match="damaged"):
            archive.result("bt-1")
    file.rename(folder / "bt-7.run")
    with pytest.raises(StorageError, match="it holds 'bt-1'"):
        archive.result("bt-7")
    with pytest.raises(StorageError, match="cannot be read"):
        archive.result("bt-1")


def test_other_files_are_nobodys_business_and_leftovers_go(archive: BacktestArchive, folder: Path) -> None:
    archive.keep(snapshot(1), None)
    for name in ("notes.txt", "bt-x.run", "bt-01.run", ".koc-left.tmp"):
        (folder / name).write_text("?")
    assert [each.backtest_id for each in BacktestArchive(folder).load()] == ["bt-1"]
    assert sorted(path.name for path in folder.iterdir() if path.name != ".lock") == [
        "bt-01.run",
        "bt-1.run",
        "bt-x.run",
        "notes.txt",
    ]


def test_numbers_of_ids() -> None:
    assert [number_of(key) for key in ("bt-12", "bt-012", "x", "bt-", "bt-1x")] == [12, 0, 0, 0, 0]


# ---- two processes


def test_what_another_process_does_is_seen(archive: BacktestArchive, folder: Path) -> None:
    other = BacktestArchive(folder)
    assert archive.look() == ([], [])
    other.keep(snapshot(2), RESULT)
    other.keep(snapshot(1), None)
    assert archive.look() == ([snapshot(1), snapshot(2)], [])
    assert archive.look() == ([], [])
    archive.change(snapshot(1, note="mine"))
    other.change(snapshot(2, note="theirs"))
    assert archive.look() == ([snapshot(2, note="theirs")], [])
    other.delete("bt-1")
    archive.delete("bt-2")
    assert archive.look() == ([], ["bt-1"])
    other.keep(snapshot(3), None)
    other.delete("bt-3")
    assert archive.look() == ([], [])


def test_a_number_is_given_once(archive: BacktestArchive, folder: Path) -> None:
    other = BacktestArchive(folder)
    assert [archive.claim(), other.claim(), archive.claim()] == ["bt-1", "bt-2", "bt-3"]
    other.keep(snapshot(3), None)
    with pytest.raises(StorageError, match="another process has kept a run as bt-3"):
        archive.keep(snapshot(3), None)
    other.delete("bt-3")
    assert archive.claim() == "bt-4"  # though nothing is there
    assert archive.claim(above=20) == "bt-21"
    (folder / ".last").write_bytes(b"\xff rubbish")
    other.keep(snapshot(30), None)
    assert archive.claim() == "bt-31"


def test_many_at_once_get_a_number_each(folder: Path) -> None:
    got: list[str] = []

    def work() -> None:
        archive = BacktestArchive(folder)
        for _ in range(5):
            key = archive.claim()
            got.append(key)
            archive.keep(msgspec.structs.replace(snapshot(1), backtest_id=key), None)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30 * PATIENCE)
    assert len(set(got)) == 20
    assert len(BacktestArchive(folder).load()) == 20


def test_runs_of_the_command_line_make_way_before_those_of_a_person(
    archive: BacktestArchive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backtest_archive, "RUNS_KEPT", 4)
    other = BacktestArchive(folder)
    for number, changes in enumerate(({"note": "keep"}, {}, {"made_by": BY_COMMAND, "note": "good"}), 1):
        archive.keep(snapshot(number, **changes), None)
    gone = [other.keep(snapshot(number, made_by=BY_COMMAND), None) for number in range(4, 8)]
    assert gone == [[], ["bt-4"], ["bt-5"], ["bt-6"]]
    assert archive.keep(snapshot(8), None) == ["bt-7"]
    assert archive.keep(snapshot(9), None) == ["bt-2"]
    assert archive.keep(snapshot(10, note="x"), None) == ["bt-8"]
    assert archive.keep(snapshot(11, note="x"), None) == ["bt-9"]
    assert archive.keep(snapshot(12), None) == ["bt-1"]
    assert [number_of(each.backtest_id) for each in BacktestArchive(folder).load()] == [3, 10, 11, 12]


def test_a_lock_that_is_held_for_long_is_said(
    archive: BacktestArchive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.keep(snapshot(1), RESULT)
    monkeypatch.setattr(backtest_archive, "LOCK_TIMEOUT_S", 0.05)
    with FileLock(folder / ".lock"):
        with pytest.raises(StorageError, match=r"another process has been writing to .* for 0\.05 s: try again"):
            archive.claim()
        (folder / ".koc-half.tmp").touch()
        later = BacktestArchive(folder)
        assert later.load() == [snapshot(1)]  # reading needs none
        assert later.result("bt-1") == RESULT
        assert (folder / ".koc-half.tmp").exists()  # it may be what the other one is writing


def test_a_path_whose_bytes_are_no_text_is_said(archive: BacktestArchive) -> None:
    spec = msgspec.structs.replace(SPEC, path="/x/\udcff.py")
    with pytest.raises(StorageError, match="cannot be read or written"):
        archive.keep(snapshot(1, spec=spec), None)
    assert archive.load() == []


@pytest.mark.expected_warnings(r"bt-1\.run is damaged: a back-test begins with cash")
def test_settings_that_no_rule_of_today_allows_hide_no_other_run(archive: BacktestArchive, folder: Path) -> None:
    archive.keep(snapshot(1), None)
    archive.keep(snapshot(2), None)
    file = folder / "bt-1.run"
    file.write_bytes(file.read_bytes().replace(b"\xa510000", b"\xa5-1000"))
    later = BacktestArchive(folder)
    assert later.load() == [snapshot(2)]
    assert later.look() == ([], [])  # it is said once
    assert later.claim() == "bt-3"


def test_a_write_that_is_cut_short_leaves_what_was_there(
    archive: BacktestArchive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.keep(snapshot(1), RESULT)

    def full(file: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(backtest_archive, "write_durably", full)
    for write in (
        lambda: archive.change(snapshot(1, note="x")),
        lambda: archive.keep(snapshot(2), None),
        lambda: archive.claim(),
    ):
        with pytest.raises(StorageError, match="No space left on device"):
            write()
    monkeypatch.undo()
    assert BacktestArchive(folder).load() == [snapshot(1)]
    assert archive.claim() == "bt-2"


# ---- the service


async def _ended(bench: Bench, count: int = 1) -> list[str]:
    """Run to their ends as many back-tests that do not load."""
    keys = []
    for _ in range(count):
        key, worker = await bench.loading()
        worker.say(LoadFailed("no", None))
        keys.append(key)
    await until(lambda: set(keys) <= set(bench.tests._over), what="all of them on disk")
    return keys


async def _done(bench: Bench) -> str:
    key, worker = await bench.running()
    await until(lambda: worker.got(ReplayEnd), what="all bars")
    worker.say(ReplayTrades((RoundTrip(BTC, 1.0, NOW_NS, 1.0, None, None, 0.0, 1.0),)))
    worker.say(done())
    assert await bench.reason(key, JobState.DONE) == ""
    await until(lambda: key in bench.tests._over, what="the file")
    return key


def _again(bench: Bench) -> Bench:
    """Give the back-tests of the next engine on the same folder."""
    later = Bench(bench.engine)
    later.tests = Backtests(bench.engine.services, bench.engine.folder / "backtests")
    return later


async def test_runs_and_results_are_there_after_a_restart(bench: Bench) -> None:
    key = await _done(bench)
    [failed] = await _ended(bench)
    before = await fetch_result(Asking(bench.engine), key)
    later = _again(bench)
    assert later.tests.all == bench.tests.all
    assert [(each.backtest_id, each.state) for each in later.tests.all] == [(key, "done"), (failed, "failed")]
    assert (later.tests.all[0].name, later.tests.all[0].statistics["return"]) == ("Test strategy", 0.0001)
    bench.engine.commands._backtests = later.tests
    assert await fetch_result(Asking(bench.engine), key) == before
    with pytest.raises(StrategyError, match="bt-2 has no result, it is failed: no"):
        await later.tests.result(failed)
    assert await later.tests.start(later.spec()) == "bt-3"
    await later.tests.close()


async def test_notes_are_kept_and_told(bench: Bench) -> None:
    key, worker = await bench.loading()
    await bench.tests.note(key, "while it runs")
    assert bench.told[-1].note == "while it runs"
    worker.say(LoadFailed("no", None))
    await until(lambda: key in bench.tests._over, what="its end")
    assert _again(bench).tests.all[0].note == "while it runs"
    await bench.engine.commands.execute(NoteBacktest(key, "afterwards"), "window-1")
    assert (bench.told[-1].note, bench.told[-1].state) == ("afterwards", JobState.FAILED)
    assert _again(bench).tests.all[0].note == "afterwards"
    with pytest.raises(StrategyError, match="at most 2,000 characters, not 2,001"):
        await bench.tests.note(key, "x" * 2_001)
    with pytest.raises(StrategyError, match="no back-test 'bt-9'"):
        await bench.tests.note("bt-9", "")


async def test_a_run_is_deleted_for_good(bench: Bench) -> None:
    gone: list[str] = []
    replica = Replica()
    bench.engine.bus.subscribe(BacktestChanged, replica.apply)
    bench.engine.bus.subscribe(BacktestDeleted, replica.apply)
    bench.engine.bus.subscribe(BacktestDeleted, lambda fact: gone.append(fact.backtest_id))
    first, second = await _ended(bench, 2)
    key, _ = await bench.loading()
    with pytest.raises(StrategyError, match="bt-3 is not over yet: stop it first"):
        await bench.tests.delete(key)
    await bench.engine.commands.execute(DeleteBacktest(first), "window-1")
    assert gone == [first]
    assert set(replica.backtests) == {second, key}
    assert [each.backtest_id for each in _again(bench).tests.all] == [second]
    with pytest.raises(StrategyError, match="no back-test 'bt-1'"):
        await bench.tests.delete(first)


async def test_runs_are_found_by_words(bench: Bench) -> None:
    for number, (name, note) in enumerate((("SMA", "Good in May"), ("RSI", ""), ("SMA", "bad"), ("Straße", "")), 1):
        bench.tests._over[f"bt-{number}"] = snapshot(number, name=name, note=note)
    found = {
        "": [4, 3, 2, 1],
        "sma": [3, 1],
        "SMA good": [1],
        "may sma GOOD": [1],
        "strasse": [4],
        "fast=3": [4, 3, 2, 1],
        "btc/usdt 1m replay done": [4, 3, 2, 1],
        "ünïcode.py": [4, 3, 2, 1],
        "bt-2": [2],
        "nothing": [],
    }
    for text, numbers in found.items():
        assert [number_of(each.backtest_id) for each in bench.tests.find(text)] == numbers, text
    told = await bench.engine.commands.execute(ListBacktests("sma", 1), "window-1")
    assert msgspec.convert(told, list[BacktestSnapshot]) == bench.tests.find("sma")[:1]
    assert await bench.engine.commands.execute(ListBacktests("", -1), "window-1") == []


async def test_results_leave_the_memory_and_are_read_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "IN_MEMORY", 1)
    first, second = await _done(bench), await _done(bench)
    assert list(bench.tests._results) == [second]
    assert len((await fetch_result(Asking(bench.engine), first)).trades) == 1
    assert list(bench.tests._results) == [first]


@pytest.mark.expected_warnings("is in memory alone, and gone when the engine ends")
async def test_a_disk_that_takes_nothing_loses_no_result(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "RUNS_KEPT", 2)
    (bench.engine.folder / "backtests").write_text("a file where the folder should be")
    key = await _done(bench)
    assert len((await fetch_result(Asking(bench.engine), key)).trades) == 1
    with pytest.raises(StorageError, match="cannot be read or written"):
        await bench.tests.note(key, "no")
    others = await _ended(bench, 2)
    assert [each.backtest_id for each in bench.tests.all] == others
    assert _again(bench).tests.all == ()


async def test_a_run_that_is_stopped_before_its_first_step_is_over(bench: Bench) -> None:
    key = await bench.tests.start(bench.spec())
    bench.tests._tasks[key].cancel()  # nothing has run since it was made
    bench.tests._runs[key].end(JobState.STOPPED, "at once")
    await bench.tests.stop(key)
    assert [each.backtest_id for each in bench.tests.all] == [key]
    assert key in bench.tests._over


async def test_a_result_whose_file_is_gone_is_said(bench: Bench) -> None:
    key = await _done(bench)
    bench.tests._results.clear()
    (bench.engine.folder / "backtests" / f"{key}.run").unlink()
    with pytest.raises(StorageError, match="cannot be read"):
        await bench.engine.commands.execute(FetchBacktest(key), "window-1")


async def test_what_the_command_line_keeps_is_listed_as_it_comes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backtests, "LOOK_S", 0.01)
    replica = Replica()
    bench.engine.bus.subscribe(BacktestChanged, replica.apply)
    bench.engine.bus.subscribe(BacktestDeleted, replica.apply)
    [first] = await _ended(bench)
    watched = asyncio.create_task(bench.tests.keep_watch())
    try:
        other = BacktestArchive(bench.engine.folder / "backtests")
        key = other.claim()
        assert key == "bt-2"
        other.keep(msgspec.structs.replace(snapshot(2), made_by=BY_COMMAND), RESULT)
        await until(lambda: key in replica.backtests, what="it to be listed")
        assert (replica.backtests[key].made_by, bench.tests.find("ünïcode")[0].backtest_id) == (BY_COMMAND, key)
        assert (await bench.tests.result(key)) == msgspec.Raw(RESULT.head)
        await bench.tests.note(key, "seen")
        assert other.look().changed[-1].note == "seen"
        other.delete(first)
        await until(lambda: first not in replica.backtests, what="what was deleted elsewhere to go")
        assert [each.backtest_id for each in bench.tests.all] == [key]
    finally:
        watched.cancel()
        await asyncio.gather(watched, return_exceptions=True)
    assert (await _ended(bench)) == ["bt-3"]
