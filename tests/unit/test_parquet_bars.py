"""The parquet bar store: exact, atomic, shared between processes, and clear about what goes wrong."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.adapters import parquet_bars
from koc_qt.adapters.parquet_bars import ParquetBarStore
from koc_qt.domain.errors import BadBars, BadTimeframe, StorageError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS, duration_ns
from koc_qt.ports.bars import BarSeries, Span, columns_of
from tests.conditions import PATIENCE

MINUTE_NS = 60 * SECOND_NS
MARCH_NS = 1_709_251_200_000_000_000  # 2024-03-01T00:00Z
BTC = InstrumentId("binance", "BTC/USDT")
SERIES = BarSeries(BTC, "1m")
LONG = Span(MARCH_NS - 400 * DAY_NS, MARCH_NS + 400 * DAY_NS)


def make_bars(since_ns: int, count: int, series: BarSeries = SERIES, price: float = 100.0) -> list[Bar]:
    step_ns = duration_ns(series.timeframe)
    return [
        Bar(
            series.instrument,
            series.timeframe,
            since_ns + i * step_ns,
            price,
            price + 1.25,
            price - 0.5,
            price + i % 2,
            i / 8,
        )
        for i in range(count)
    ]


def span_of(bars: list[Bar]) -> Span:
    return Span(bars[0].open_time_ns, bars[-1].open_time_ns + duration_ns(bars[0].timeframe))


@pytest.fixture
def store(tmp_path: Path) -> ParquetBarStore:
    return ParquetBarStore(tmp_path / "bars")


def files(tmp_path: Path, pattern: str = "*.parquet") -> list[Path]:
    return sorted((tmp_path / "bars").rglob(pattern))


# ---- what is kept --------------------------------------------------------------------------------------------------


def test_bars_come_back_as_they_were_over_a_months_end(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS - 3 * MINUTE_NS, 6)
    store.write(SERIES, bars, span_of(bars))
    assert store.read(SERIES, LONG) == bars
    columns, expected = store.columns(SERIES, LONG), columns_of(bars)
    assert all(np.array_equal(one, other) for one, other in zip(columns, expected, strict=True))
    assert [column.dtype for column in columns] == [column.dtype for column in expected]
    assert [path.name for path in files(tmp_path)] == ["2024-02.parquet", "2024-03.parquet"]


def test_a_span_is_half_open(store: ParquetBarStore) -> None:
    bars = make_bars(MARCH_NS, 10)
    store.write(SERIES, bars, span_of(bars))
    assert store.read(SERIES, Span(bars[2].open_time_ns, bars[5].open_time_ns)) == bars[2:5]
    assert store.read(SERIES, Span(bars[2].open_time_ns, bars[2].open_time_ns)) == []


def test_the_newest_bars_of_a_large_month_are_found(store: ParquetBarStore) -> None:
    bars = make_bars(MARCH_NS, 30_000)
    store.write(SERIES, bars, span_of(bars))
    assert store.read(SERIES, Span(bars[-5000].open_time_ns, LONG.until_ns)) == bars[-5000:]
    assert store.read(SERIES, Span(bars[8190].open_time_ns, bars[8195].open_time_ns)) == bars[8190:8195]


def test_nothing_is_there_before_anything_was_written(store: ParquetBarStore) -> None:
    assert store.read(SERIES, LONG) == []
    assert [len(column) for column in store.columns(SERIES, LONG)] == [0] * 6
    assert store.covered(SERIES, LONG) == []


def test_a_span_without_trades_is_covered_all_the_same(store: ParquetBarStore) -> None:
    quiet = Span(MARCH_NS - DAY_NS, MARCH_NS + DAY_NS)
    store.write(SERIES, [], quiet)
    assert store.read(SERIES, LONG) == []
    assert store.covered(SERIES, LONG) == [quiet]


def test_an_empty_span_covers_nothing(store: ParquetBarStore, tmp_path: Path) -> None:
    store.write(SERIES, [], Span(MARCH_NS, MARCH_NS))
    assert files(tmp_path) == []


def test_covered_spans_are_merged_and_clipped(store: ParquetBarStore) -> None:
    def minutes(since: int, until: int) -> Span:
        return Span(MARCH_NS + since * MINUTE_NS, MARCH_NS + until * MINUTE_NS)

    for one in (minutes(10, 20), minutes(30, 40), minutes(20, 25), minutes(-5, 2), minutes(32, 34)):
        store.write(SERIES, [], one)
    assert store.covered(SERIES, LONG) == [minutes(-5, 2), minutes(10, 25), minutes(30, 40)]
    assert store.covered(SERIES, minutes(0, 32)) == [minutes(0, 2), minutes(10, 25), minutes(30, 32)]


def test_what_is_written_again_replaces_its_span_and_nothing_else(store: ParquetBarStore) -> None:
    old = make_bars(MARCH_NS, 10)
    new = make_bars(MARCH_NS + 3 * MINUTE_NS, 2, price=200.0)
    store.write(SERIES, old, span_of(old))
    store.write(SERIES, new, Span(new[0].open_time_ns, new[-1].open_time_ns + 2 * MINUTE_NS))
    assert store.read(SERIES, LONG) == old[:3] + new + old[6:]


def test_series_are_kept_apart(store: ParquetBarStore) -> None:
    others = [
        BarSeries(BTC, "5m"),
        BarSeries(InstrumentId("binance", "btc/usdt"), "1m"),
        BarSeries(InstrumentId("binance", "BTC-USDT"), "1m"),
        BarSeries(InstrumentId("sim", "BTC/USDT"), "1m"),
    ]
    for number, series in enumerate([SERIES, *others]):
        bars = make_bars(MARCH_NS, 3, series, price=100.0 + number)
        store.write(series, bars, span_of(bars))
    for number, series in enumerate([SERIES, *others]):
        assert store.read(series, LONG) == make_bars(MARCH_NS, 3, series, price=100.0 + number)


def test_editions_of_a_venue_are_kept_apart(tmp_path: Path) -> None:
    series = BarSeries(InstrumentId("sim", "BTC/USDT"), "1m")
    one, other = (ParquetBarStore(tmp_path / "bars", {"sim": edition}) for edition in ("seed1", "seed2"))
    bars = make_bars(MARCH_NS, 3, series)
    one.write(series, bars, span_of(bars))
    assert one.read(series, LONG) == bars
    assert other.covered(series, LONG) == []


@pytest.mark.parametrize("timeframe", ["1s", "4h", "1d", "1w"])
def test_every_timeframe_has_its_months(store: ParquetBarStore, timeframe: str) -> None:
    series = BarSeries(BTC, timeframe)
    monday_ns = MARCH_NS + 3 * DAY_NS
    bars = make_bars(monday_ns, 20, series)
    store.write(series, bars, span_of(bars))
    assert store.read(series, LONG) == bars
    assert store.covered(series, LONG) == [span_of(bars)]


prices = st.floats(1e-9, 1e12) | st.integers(1, 10**9).map(lambda ticks: ticks / 100)


@given(
    st.lists(st.tuples(prices, prices, st.floats(0, 1e15) | st.integers(0, 10**12).map(lambda n: n / 1e5)), min_size=1)
)
def test_no_bit_of_a_float_is_lost(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[float, float, float]]
) -> None:
    store = ParquetBarStore(tmp_path_factory.mktemp("bars"))
    bars = [
        Bar(BTC, "1m", MARCH_NS + i * MINUTE_NS, one, max(one, two), min(one, two), two, volume)
        for i, (one, two, volume) in enumerate(rows)
    ]
    store.write(SERIES, bars, span_of(bars))
    assert store.read(SERIES, LONG) == bars


def test_a_venues_decimals_are_packed(store: ParquetBarStore, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    close = np.round(60_000 + np.cumsum(rng.normal(0, 10, 20_000)), 2).tolist()
    bars = [
        Bar(
            BTC,
            "1m",
            MARCH_NS + i * MINUTE_NS,
            price,
            round(price + 3.5, 2),
            round(price - 3.5, 2),
            price,
            round(i % 97 / 8, 5),
        )
        for i, price in enumerate(close)
    ]
    store.write(SERIES, bars, span_of(bars))
    assert store.read(SERIES, LONG) == bars
    assert files(tmp_path)[0].stat().st_size < 20_000 * 14  # as floats, six columns take 48 bytes a bar


def test_a_file_can_be_read_by_others(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 4)
    store.write(SERIES, bars, span_of(bars))
    table = pq.read_table(files(tmp_path)[0])
    assert table.column_names == ["open_time_ns", "open", "high", "low", "close", "volume"]
    assert b"koc" in table.schema.metadata


def test_pandas_is_not_imported(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 4)
    store.write(SERIES, bars, span_of(bars))
    program = f"""
import sys
from pathlib import Path
from koc_qt.adapters.parquet_bars import ParquetBarStore
from koc_qt.domain.instruments import InstrumentId
from koc_qt.ports.bars import BarSeries, Span
store, series = ParquetBarStore(Path(sys.argv[1])), BarSeries(InstrumentId("binance", "BTC/USDT"), "1m")
span = Span({span_of(bars).since_ns}, {span_of(bars).until_ns})
bars = store.read(series, span)
store.write(series, bars, span)
print(len(bars), "pandas" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "bars")], capture_output=True, text=True, timeout=60 * PATIENCE
    )
    assert (done.stdout, done.stderr) == ("4 False\n", "")


# ---- what is refused -----------------------------------------------------------------------------------------------


def broken(row: int) -> list[Bar]:
    bars = make_bars(MARCH_NS, 5)
    bars[row] = Bar(BTC, "1m", bars[row].open_time_ns, 10.0, 9.0, 8.0, 9.0, 1.0)
    return bars


@pytest.mark.parametrize(
    ("bars", "span", "words"),
    [
        (broken(3), span_of(make_bars(MARCH_NS, 5)), "row 3"),
        (make_bars(MARCH_NS, 5), Span(MARCH_NS, MARCH_NS + 3 * MINUTE_NS), "row 4 .* outside"),
        (make_bars(MARCH_NS, 5), Span(MARCH_NS + MINUTE_NS, MARCH_NS + DAY_NS), "row 0 .* outside"),
        (make_bars(MARCH_NS, 1, BarSeries(InstrumentId("sim", "X"), "1m")), LONG, "row 0 is a bar of sim:X"),
    ],
)
def test_bad_bars_are_refused_and_nothing_changes(
    store: ParquetBarStore, tmp_path: Path, bars: list[Bar], span: Span, words: str
) -> None:
    good = make_bars(MARCH_NS, 2, price=50.0)
    store.write(SERIES, good, span_of(good))
    before = files(tmp_path)[0].read_bytes()
    with pytest.raises(BadBars, match=words):
        store.write(SERIES, bars, span)
    assert files(tmp_path)[0].read_bytes() == before


@pytest.mark.parametrize("timeframe", ["", "1x", "../../etc", "1m/.."])
def test_what_is_no_timeframe_becomes_no_folder(store: ParquetBarStore, tmp_path: Path, timeframe: str) -> None:
    series = BarSeries(BTC, timeframe)
    for call in (store.read, store.covered):
        with pytest.raises(BadTimeframe):
            call(series, LONG)
    with pytest.raises(BadTimeframe):
        store.write(series, [], LONG)
    assert not (tmp_path / "bars").exists()


# ---- names ---------------------------------------------------------------------------------------------------------


@given(st.text(min_size=1, max_size=30).filter(lambda text: text.isprintable()))
def test_names_are_safe_and_reversible(name: str) -> None:
    for letters in ("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz"):
        safe = parquet_bars._safe(name, letters)
        assert unquote(safe) == name
        assert set(safe) <= set(letters + "0123456789-_%ABCDEF")


@given(st.text("aAbB/.", min_size=1, max_size=6), st.text("aAbB/.", min_size=1, max_size=6))
def test_names_that_differ_differ_where_case_does_not_count(one: str, other: str) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    if one != other:
        assert parquet_bars._safe(one, letters).lower() != parquet_bars._safe(other, letters).lower()


@pytest.mark.parametrize("name", ["CON", "PRN", "NUL", "COM1", "LPT9"])
def test_device_names_of_windows_are_avoided(name: str) -> None:
    safe = parquet_bars._safe(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    assert safe != name
    assert unquote(safe) == name


@pytest.mark.parametrize("symbol", ["..", ".", "/etc/passwd", "../../x", "A\0B"])
def test_no_symbol_leads_out_of_the_store(store: ParquetBarStore, tmp_path: Path, symbol: str) -> None:
    series = BarSeries(InstrumentId("binance", symbol), "1m")
    bars = make_bars(MARCH_NS, 2, series)
    store.write(series, bars, span_of(bars))
    assert store.read(series, LONG) == bars
    assert len(files(tmp_path)) == 1


# ---- faults --------------------------------------------------------------------------------------------------------


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def garbage(data: bytes) -> bytes:
    return b"\x00" * len(data)


def flipped(data: bytes) -> bytes:
    """Flip a bit in the first column's data."""
    return data[:60] + bytes([data[60] ^ 0x10]) + data[61:]


def nothing(data: bytes) -> bytes:
    return b""


def gaps(data: bytes) -> bytes:
    """Take a price out of a file that is whole otherwise."""
    table = pq.read_table(io.BytesIO(data))
    lows = pa.array([None, *table["low"].to_pylist()[1:]], table.schema.field("low").type)
    file = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index("low"), "low", lows), file)
    return file.getvalue()


@pytest.mark.parametrize("damage", [cut, garbage, flipped, nothing, gaps])
def test_a_damaged_file_is_set_aside_and_said(
    store: ParquetBarStore, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    bars = make_bars(MARCH_NS, 500)
    store.write(SERIES, bars, span_of(bars))
    path = files(tmp_path)[0]
    for attempt in range(2):
        path.write_bytes(damaged := damage(path.read_bytes()))
        with pytest.raises(StorageError, match=r"damaged .* set aside as 2024-03.parquet(\.1)?\.corrupt"):
            store.read(SERIES, LONG)
        assert not path.exists()
        assert len(aside := files(tmp_path, "*.corrupt")) == attempt + 1
        assert damaged in [one.read_bytes() for one in aside]
        assert store.read(SERIES, LONG) == []
        assert store.covered(SERIES, LONG) == []
        store.write(SERIES, bars, span_of(bars))
        assert store.read(SERIES, LONG) == bars


def test_a_damaged_file_is_not_written_over(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 5)
    store.write(SERIES, bars, span_of(bars))
    files(tmp_path)[0].write_bytes(b"PAR1 nonsense")
    with pytest.raises(StorageError, match="set aside"):
        store.write(SERIES, bars, span_of(bars))
    assert files(tmp_path, "*.corrupt")[0].read_bytes() == b"PAR1 nonsense"


def test_a_file_of_another_series_is_not_believed(store: ParquetBarStore, tmp_path: Path) -> None:
    other = BarSeries(BTC, "5m")
    bars = make_bars(MARCH_NS, 5, other)
    store.write(other, bars, span_of(bars))
    store.write(SERIES, [], span_of(bars))
    wrong, right = (path for path in files(tmp_path) if path.name == "2024-03.parquet")
    wrong, right = (right, wrong) if right.parent.name == "1m" else (wrong, right)
    wrong.write_bytes(right.read_bytes())
    with pytest.raises(StorageError, match="it holds binance:BTC/USDT 5m"):
        store.read(SERIES, LONG)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EACCES, "no permission"), (errno.EIO, os.strerror(errno.EIO))],
)
def test_a_failing_disk_leaves_what_was_there(
    store: ParquetBarStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    bars = make_bars(MARCH_NS, 5)
    store.write(SERIES, bars, span_of(bars))
    before = files(tmp_path)[0].read_bytes()
    more = make_bars(MARCH_NS + DAY_NS, 5)

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(StorageError, match=words):
            store.write(SERIES, more, span_of(more))
    assert files(tmp_path)[0].read_bytes() == before
    assert files(tmp_path, ".*.tmp") == []
    store.write(SERIES, more, span_of(more))
    assert store.read(SERIES, LONG) == bars + more


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_write_that_the_system_cuts_short_leaves_what_was_there(tmp_path: Path) -> None:
    store = ParquetBarStore(tmp_path / "bars")
    bars = make_bars(MARCH_NS, 5)
    store.write(SERIES, bars, span_of(bars))
    script = f"""
import resource, signal
from tests.unit.test_parquet_bars import *
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
more = make_bars(MARCH_NS + DAY_NS, 20000)
try:
    ParquetBarStore(Path({str(tmp_path / "bars")!r})).write(SERIES, more, span_of(more))
except StorageError as error:
    print("said:", error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60 * PATIENCE, check=True
    )
    assert "said: bars cannot be read or written" in done.stdout
    assert store.read(SERIES, LONG) == bars
    assert files(tmp_path, ".*.tmp") == []


def test_a_store_whose_folder_is_a_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "bars").write_text("not a folder")
    store = ParquetBarStore(tmp_path / "bars")
    with pytest.raises(StorageError, match="cannot be read or written"):
        store.write(SERIES, [], LONG)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permissions do not bind this user")
def test_a_folder_without_permission_says_so(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 5)
    store.write(SERIES, bars, span_of(bars))
    folder = files(tmp_path)[0].parent
    folder.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="no permission"):
            store.write(SERIES, bars, span_of(bars))
    finally:
        folder.chmod(0o700)
    assert store.read(SERIES, LONG) == bars


def test_what_a_killed_writer_left_is_removed(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 5)
    store.write(SERIES, bars, span_of(bars))
    (files(tmp_path)[0].parent / ".2024-03-abc.tmp").write_bytes(b"half a file")
    assert store.read(SERIES, LONG) == bars
    store.write(SERIES, bars, span_of(bars))
    assert files(tmp_path, ".*.tmp") == []


def test_strange_files_in_the_folder_are_left_alone(store: ParquetBarStore, tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 5)
    store.write(SERIES, bars, span_of(bars))
    for name in ("notes.txt", "copy.parquet"):
        (files(tmp_path)[0].parent / name).write_text("mine")
    assert store.read(SERIES, LONG) == bars
    assert len(files(tmp_path, "copy.parquet")) == 1


# ---- several writers -----------------------------------------------------------------------------------------------


def test_a_writer_that_holds_the_lock_too_long_is_named(tmp_path: Path) -> None:
    store = ParquetBarStore(tmp_path / "bars", lock_timeout_s=0.05)
    store.write(SERIES, [], Span(MARCH_NS, MARCH_NS + DAY_NS))
    with (
        FileLock(files(tmp_path)[0].parent / ".lock"),
        pytest.raises(StorageError, match=r"another process has been writing the bars of binance:BTC/USDT 1m"),
    ):
        store.write(SERIES, [], LONG)


def test_threads_that_write_one_series_lose_nothing(tmp_path: Path) -> None:
    bars = make_bars(MARCH_NS, 240)

    def write_every_fourth(first: int) -> None:
        store = ParquetBarStore(tmp_path / "bars")
        for index in range(first, 60, 4):
            part = bars[4 * index : 4 * index + 4]
            store.write(SERIES, part, span_of(part))

    threads = [threading.Thread(target=write_every_fourth, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60 * PATIENCE)
    store = ParquetBarStore(tmp_path / "bars")
    assert store.read(SERIES, LONG) == bars
    assert store.covered(SERIES, LONG) == [span_of(bars)]


def test_two_processes_that_write_one_series_lose_nothing(tmp_path: Path) -> None:
    script = f"""
import sys
from tests.unit.test_parquet_bars import *
store, first = ParquetBarStore(Path({str(tmp_path / "bars")!r})), int(sys.argv[1])
bars = make_bars(MARCH_NS, 120)
for index in range(first, 30, 2):
    part = bars[4 * index:4 * index + 4]
    store.write(SERIES, part, span_of(part))
"""
    writers = [subprocess.Popen([sys.executable, "-c", script, str(first)]) for first in range(2)]
    assert [writer.wait(timeout=60 * PATIENCE) for writer in writers] == [0, 0]
    assert ParquetBarStore(tmp_path / "bars").read(SERIES, LONG) == make_bars(MARCH_NS, 120)


# ---- what is there -------------------------------------------------------------------------------------------------


def test_series_are_listed_with_what_was_asked_for(store: ParquetBarStore, tmp_path: Path) -> None:
    assert store.series(10) == []
    eth = BarSeries(InstrumentId("binance", "ETH/USDT"), "1h")
    hours = BarSeries(BTC, "1h")
    early, late = make_bars(MARCH_NS - 10 * MINUTE_NS, 5), make_bars(MARCH_NS + 40 * DAY_NS, 7)
    for bars in (early, late):
        store.write(SERIES, bars, span_of(bars))
    store.write(eth, [], Span(MARCH_NS, MARCH_NS + DAY_NS))
    store.write(hours, make_bars(MARCH_NS, 24, hours), Span(MARCH_NS, MARCH_NS + DAY_NS))
    found = store.series(10)
    assert [(one.instrument, one.timeframe, one.bars) for one in found] == [
        (BTC, "1m", 12),
        (BTC, "1h", 24),
        (eth.instrument, "1h", 0),
    ]
    assert (found[0].since_ns, found[0].until_ns) == (span_of(early).since_ns, span_of(late).until_ns)
    assert found[0].size_bytes == sum(path.stat().st_size for path in files(tmp_path) if path.parent.name == "1m")
    assert store.series(2) == found[:2]


def test_only_the_present_edition_is_listed(tmp_path: Path) -> None:
    series = BarSeries(InstrumentId("sim", "BTC/USDT"), "1m")
    bars = make_bars(MARCH_NS, 3, series)
    for edition in ({"sim": "1"}, {"sim": "2"}, {}):
        ParquetBarStore(tmp_path, edition).write(series, bars, span_of(bars))
    ParquetBarStore(tmp_path, {"sim": "2"}).write(
        series, make_bars(MARCH_NS, 9, series), Span(MARCH_NS, MARCH_NS + DAY_NS)
    )
    listed = {
        str(edition): [one.bars for one in ParquetBarStore(tmp_path, edition).series(9)]
        for edition in ({"sim": "1"}, {"sim": "2"}, {"sim": "3"}, {})
    }
    assert list(listed.values()) == [[3], [9], [], [3]]


def test_what_is_damaged_or_strange_is_not_listed(
    store: ParquetBarStore, tmp_path: Path, expected_warnings: list[str]
) -> None:
    months = make_bars(MARCH_NS - 5 * MINUTE_NS, 10)
    store.write(SERIES, months, span_of(months))
    february, march = files(tmp_path)
    march.write_bytes(b"PAR1 nonsense")
    folder = march.parent
    for name in ("notes.parquet", "2024-13.parquet", "readme.txt"):
        (folder / name).write_text("x")
    for strange in ("binance/BTC%2FUSDT/soon", "binance/btc%2fusdt/1m", "x", "binance@/BTC%2FUSDT/1m"):
        (tmp_path / "bars" / strange).mkdir(parents=True)
    for _ in range(2):
        (one,) = store.series(10)
        assert (one.bars, one.until_ns) == (5, MARCH_NS)
    assert len(expected_warnings) == 1
    february.unlink()
    assert store.series(10) == []
    march.write_bytes(b"")
    assert store.series(10) == []


def test_a_file_of_another_series_is_not_listed(
    store: ParquetBarStore, tmp_path: Path, expected_warnings: list[str]
) -> None:
    bars = make_bars(MARCH_NS, 3)
    store.write(SERIES, bars, span_of(bars))
    other = tmp_path / "bars" / "binance" / "ETH%2FUSDT" / "1m"
    other.mkdir(parents=True)
    (path,) = files(tmp_path)
    path.rename(other / path.name)
    assert store.series(10) == []
    assert "it holds binance:BTC/USDT 1m" in expected_warnings[0]


def test_a_root_that_cannot_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bars").mkdir()

    def failing(_: Path) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "iterdir", failing)
    with pytest.raises(StorageError, match="the list of bars cannot be read"):
        ParquetBarStore(tmp_path / "bars").series(10)
