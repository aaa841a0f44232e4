"""Files of bars that somebody brings: what is read, what is mended and said, and what is refused, by its row."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from koc_qt.adapters import loose_file, loose_table
from koc_qt.adapters.loose_file import LooseBars, read_loose
from koc_qt.adapters.loose_history import FileHistory, file_rules, longer
from koc_qt.domain.bars import resample
from koc_qt.domain.errors import BadBars, BadTimeframe, InvalidOrder, VenueRejected
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.ports.bars import BarSeries, Columns, Span, columns_of
from tests.e2e.processes import ROOT

HOUR_NS = 3_600_000_000_000
DAY_NS = 24 * HOUR_NS
SYMBOL = InstrumentId("file", "ABC")
RECORDED = ROOT.parent / "shared" / "market_data"


def utc_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000_000


def made(count: int = 5, step: str = "1h", start: str = "2024-01-01") -> pd.DataFrame:
    """Give bars as pandas has them, with an index of times in UTC."""
    base = 100.0 + np.arange(count)
    index = pd.date_range(start, periods=count, freq=step, tz="UTC", name="timestamp")
    columns = {"open": base, "high": base + 1, "low": base - 1, "close": base + 0.5, "volume": np.full(count, 10.0)}
    return pd.DataFrame(columns, index=index)


def parquet(folder: Path, frame: pd.DataFrame, name: str = "bars.parquet") -> Path:
    path = folder / name
    frame.to_parquet(path)
    return path


def csv(folder: Path, *lines: str, header: str = "timestamp,open,high,low,close,volume") -> Path:
    path = folder / "bars.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def row(time: str, price: float = 100.0, volume: str = "1") -> str:
    return f"{time},{price},{price + 1},{price - 1},{price},{volume}"


def times(bars: LooseBars) -> list[int]:
    return [int(time_ns) for time_ns in bars.columns.open_time_ns]


# ---- what is read


def test_a_parquet_file_with_an_index_of_times(tmp_path: Path) -> None:
    bars = read_loose(parquet(tmp_path, made()))
    assert (bars.timeframe, bars.notes) == ("1h", ())
    assert times(bars) == [utc_ns("2024-01-01") + number * HOUR_NS for number in range(5)]
    assert bars.columns.open.tolist() == [100.0, 101.0, 102.0, 103.0, 104.0]
    assert bars.columns.volume.dtype == np.float64


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_any_unit_of_time_and_any_kind_of_number(tmp_path: Path, unit: str) -> None:
    frame = made().reset_index()
    frame["timestamp"] = frame["timestamp"].dt.as_unit(unit)
    frame["volume"] = frame["volume"].astype("int64")
    frame["open"] = frame["open"].astype("float32")
    frame["close"] = [Decimal(str(value)) for value in frame["close"]]
    bars = read_loose(parquet(tmp_path, frame))
    assert times(bars)[0] == utc_ns("2024-01-01")
    assert (bars.columns.close.tolist()[0], bars.notes) == (100.5, ())


@pytest.mark.parametrize("name", ["Timestamp", "datetime", " Date ", "TIME", "open_time", None])
def test_the_time_by_other_names_and_in_an_index_without_one(tmp_path: Path, name: str | None) -> None:
    frame = made().rename(columns=str.upper)
    frame.index.name = name
    assert times(read_loose(parquet(tmp_path, frame)))[0] == utc_ns("2024-01-01")


def test_unicode_names_of_folders_files_and_columns(tmp_path: Path) -> None:
    folder = tmp_path / "Kürse 上海"
    folder.mkdir()
    frame = made().assign(**{"заметка": "x", "open ": 1.0}).drop(columns=["open "])
    assert len(read_loose(parquet(folder, frame, "бары ☃.parquet")).columns.open) == 5


@pytest.mark.parametrize(
    "texts",
    [
        ("2024-01-01", "2024-01-02"),
        ("2024-01-01T00:00", "2024-01-02T00:00"),
        ("2024-01-01 00:00:00", "2024-01-02 00:00:00.000"),
        ("2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"),
        ("2024-01-01 00:00 UTC", "2024-01-02 00:00 UTC"),
        ("2024-01-01T02:00:00+02:00", "2024-01-01T19:00-05:00"),
        ("1704067200", "1704153600"),
        ("1704067200000", "1704153600000"),
        ("1704067200000000", "1704153600000000"),
        ("1704067200000000000", "1704153600000000000"),
    ],
)
def test_times_in_a_csv_file(tmp_path: Path, texts: tuple[str, str]) -> None:
    bars = read_loose(csv(tmp_path, *map(row, texts)))
    assert (times(bars), bars.timeframe) == ([utc_ns("2024-01-01"), utc_ns("2024-01-02")], "1d")
    has_zone = "Z" in texts[0] or "UTC" in texts[0] or "+" in texts[0]
    assert bars.notes == () if has_zone else any("UTC" in note for note in bars.notes)


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_a_mark_of_order_and_columns_that_nobody_needs(tmp_path: Path, separator: str) -> None:
    lines = [
        "id,timestamp,open,high,low,close,volume,name",
        "1,2024-01-01Z,1,2,0.5,1.5,7,a",
        "2,2024-01-02Z,1,2,1,1,,b",
    ]
    path = tmp_path / "BARS.CSV"
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).replace(",", separator).encode())
    bars = read_loose(path)
    assert bars.columns.volume.tolist() == [7.0, 0.0]
    assert bars.notes == ("1 row without a volume, which is taken as 0",)


def test_numbers_of_time_in_a_parquet_file_and_dates(tmp_path: Path) -> None:
    frame = made().reset_index()
    frame["timestamp"] = frame["timestamp"].dt.as_unit("ms").astype("int64")
    bars = read_loose(parquet(tmp_path, frame))
    assert times(bars)[0] == utc_ns("2024-01-01")
    assert "milliseconds since 1970" in bars.notes[0]
    daily = made(step="1D").reset_index()
    daily["timestamp"] = daily["timestamp"].dt.date
    assert read_loose(parquet(tmp_path, daily)).timeframe == "1d"


def test_times_without_a_zone_are_utc_and_that_is_said(tmp_path: Path) -> None:
    frame = made()
    frame.index = frame.index.tz_localize(None)
    bars = read_loose(parquet(tmp_path, frame))
    assert (times(bars)[0], bars.notes) == (utc_ns("2024-01-01"), ("its times name no zone: taken as UTC",))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Auckland", "Europe/Berlin"])
def test_days_of_another_place_are_those_that_the_file_writes(tmp_path: Path, zone: str) -> None:
    frame = made(count=300, step="1D", start="2023-12-25")
    frame.index = frame.index.tz_localize(None).tz_localize(zone)  # midnight there, over changes of the clock
    expected = [utc_ns("2023-12-25") + number * DAY_NS for number in range(300)]
    stored = read_loose(parquet(tmp_path, frame))
    assert (times(stored), stored.timeframe) == (expected, "1d")
    assert stored.notes == ("its days do not begin at midnight UTC: each bar is that of the day it is dated",)
    path = tmp_path / "bars.csv"
    frame.to_csv(path)
    assert times(read_loose(path)) == expected


def test_hours_of_another_place_stay_what_they_are(tmp_path: Path) -> None:
    frame = made()
    frame.index = frame.index.tz_convert("America/New_York")
    bars = read_loose(parquet(tmp_path, frame))
    assert (times(bars)[0], bars.notes) == (utc_ns("2024-01-01"), ())


# ---- what is mended, and said


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    bars = read_loose(parquet(tmp_path, made(10).drop(made(10).index[[3, 4, 7]])))
    assert (bars.timeframe, len(bars.columns.open), bars.notes) == ("1h", 7, ())


def test_rows_in_another_order_are_sorted(tmp_path: Path) -> None:
    bars = read_loose(parquet(tmp_path, made()[::-1]))
    ascending = read_loose(parquet(tmp_path, made())).columns
    assert all(np.array_equal(one, other) for one, other in zip(bars.columns, ascending, strict=True))
    assert bars.notes == ("its rows were not in the order of time: sorted",)


def test_a_row_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    bars = read_loose(parquet(tmp_path, pd.concat([made(), made().iloc[[1, 3]]])))
    assert times(bars) == times(read_loose(parquet(tmp_path, made())))
    assert bars.notes[1] == "2 rows that it has twice counted once"


def test_rows_without_any_price_are_gaps(tmp_path: Path) -> None:
    frame = made()
    frame.iloc[[1, 3], :4] = np.nan
    bars = read_loose(parquet(tmp_path, frame))
    assert len(bars.columns.open) == 3
    assert bars.notes == ("2 rows without any price left out",)


def test_a_file_without_volume(tmp_path: Path) -> None:
    bars = read_loose(parquet(tmp_path, made().drop(columns="volume")))
    assert bars.columns.volume.tolist() == [0.0] * 5
    assert bars.notes == ("it has no volume: orders are filled whatever their size",)


# ---- what is refused


def spoilt(column: str, value: Any, count: int = 5) -> pd.DataFrame:
    frame = made(count)
    frame.loc[frame.index[2], column] = value
    return frame


BAD_ROWS: dict[str, tuple[pd.DataFrame, str]] = {
    "nan": (spoilt("close", np.nan), r"row 3 \(2024-01-01 02:00:00 UTC\): open 102, .* close nan, .* not all numbers"),
    "infinite": (spoilt("high", np.inf), "row 3 .* not all numbers"),
    "endless volume": (spoilt("volume", np.inf), "row 3 .* not all numbers"),
    "zero": (spoilt("low", 0.0), "row 3 .*: its low 0 is not above zero"),
    "negative": (spoilt("low", -5.0), "row 3 .*: its low -5 is not above zero"),
    "negative volume": (spoilt("volume", -1.0), "row 3 .*: its volume -1 is below zero"),
    "high below low": (spoilt("high", 1.0), "row 3 .* open and close are not between low and high"),
    "open outside": (spoilt("open", 500.0), "row 3 .* open and close are not between low and high"),
    "two of a time": (
        pd.concat([made(), made().iloc[[1]] * 1.01]),
        r"row 6 \(2024-01-01 01:00:00 UTC\): row 2 opens at the same time with other prices",
    ),
    "off the grid": (
        made().set_index(made().index.where(made().index != made().index[2], made().index[2] + pd.Timedelta("7min"))),
        r"row 3 \(2024-01-01 02:07:00 UTC\): bars of 1h open at 2024-01-01 02:00:00 and so on",
    ),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_cannot_be_believed_is_named_or_left_out(tmp_path: Path, case: str) -> None:
    frame, words = BAD_ROWS[case]
    path = parquet(tmp_path, frame)
    with pytest.raises(BadBars, match=words) as refused:
        read_loose(path)
    assert str(refused.value).startswith(f"{path}, row ")
    assert "--skip-bad" in str(refused.value)
    bars = read_loose(path, skip_bad=True)
    assert bars.notes[-1] == "1 row that cannot be believed left out"
    assert len(bars.columns.open) == len(frame) - 1


def test_how_many_rows_are_bad_is_said(tmp_path: Path) -> None:
    with pytest.raises(BadBars, match=r"row 1 .*--skip-bad \(5 of 5\)"):
        read_loose(parquet(tmp_path, made().assign(volume=-1.0)))
    with pytest.raises(BadBars, match="holds no bars that can be believed"):
        read_loose(parquet(tmp_path, made().assign(volume=-1.0)), skip_bad=True)


def _bytes(name: str, data: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data)
        return folder / name

    return write


def _cut(folder: Path) -> Path:
    path = parquet(folder, made(2_000))
    path.write_bytes(path.read_bytes()[:-100])
    return path


def _flipped(folder: Path) -> Path:
    path = parquet(folder, made(2_000))
    data = bytearray(path.read_bytes())
    data[100:400] = os.urandom(300)
    path.write_bytes(data)
    return path


def _with(**columns: Any) -> Callable[[Path], Path]:
    return lambda folder: parquet(folder, made().reset_index().assign(**columns))


BAD_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "absent": (lambda folder: folder / "no.csv", r"no\.csv cannot be read: No such file"),
    "a folder": (lambda folder: folder, "is a folder: name a file with bars"),
    "a null byte": (lambda _: Path("a\0b.csv"), "cannot be read: "),
    "empty": (_bytes("e.csv", b""), "is empty"),
    "another kind": (_bytes("e.xlsx", b"PK"), r"bars are read from \.parquet and \.csv files, not from \.xlsx"),
    "no suffix": (_bytes("bars", b"PK"), "not from one without a suffix"),
    "no parquet": (_bytes("e.parquet", b"nonsense" * 9), "cannot be read: .*[Pp]arquet"),
    "cut": (_cut, "cannot be read: "),
    "damaged": (_flipped, "cannot be read: "),
    "no rows": (lambda folder: parquet(folder, made(0)), "holds no bars: it has no rows"),
    "a header alone": (lambda folder: csv(folder), "holds no bars: it has no rows"),
    "no header": (_bytes("e.csv", b"\n\n\n"), "has no column timestamp and no column open"),
    "no time": (
        lambda folder: parquet(folder, made().reset_index(drop=True)),
        "has no column timestamp; it has 'open', 'high', 'low', 'close', 'volume'",
    ),
    "no close": (lambda folder: parquet(folder, made().drop(columns="close")), "has no column close; it has 'open'"),
    "twice open": (_with(OPEN=1.0), "has several columns named 'open'"),
    "date and time": (
        lambda folder: csv(folder, "2024-01-01,09:30,1,1,1,1", header="Date,Time,Open,High,Low,Close"),
        "has its times in two columns, date and time",
    ),
    "words for numbers": (_with(open="x"), "its column 'open' holds .*string, not numbers"),
    "words in a csv": (
        lambda folder: csv(folder, "2024-01-01,1,x,1,1,1"),
        "cannot be read: .*Row #2: .* invalid value 'x'",
    ),
    "too few fields": (lambda folder: csv(folder, "2024-01-01,1,1"), "cannot be read: .*Expected 6 columns, got 3"),
    "true for times": (_with(timestamp=True), "its column 'timestamp' holds bool, not times"),
    "no times": (_with(timestamp=None), "row 1: it has no time in column 'timestamp'"),
    "a time missing": (
        lambda folder: csv(folder, row("2024-01-01"), row("")),
        r"row 2: '' is no time such as 2024-01-31 or 2024-01-31T12:00Z",
    ),
    "times of America": (
        lambda folder: csv(folder, row("2024-01-31"), row("01/31/2024")),
        "row 2: '01/31/2024' is no time",
    ),
    "parts of seconds": (_with(timestamp=np.arange(5) + 0.5), "cannot be read: .*truncated"),
    "no price at all": (_with(open=np.nan, high=np.nan, low=np.nan, close=np.nan), "no row has a price"),
    "no price of a kind": (_with(open=None), "row 1 .* not all numbers"),
    "one bar": (
        lambda folder: parquet(folder, made(1)),
        "has one bar, which does not tell how long it lasts: .*--timeframe",
    ),
    "fractions of a second": (lambda folder: parquet(folder, made(step="500ms")), r"most of its rows are 0\.5 s apart"),
    "months": (lambda folder: parquet(folder, made(12, step="MS")), "bars of 31d open at"),
    "Latin letters": (_bytes("e.csv", "Größe,open\n".encode("latin-1")), "no CSV file in UTF-8"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_used_is_said_in_a_sentence(tmp_path: Path, case: str) -> None:
    make, words = BAD_FILES[case]
    path = make(tmp_path)
    with pytest.raises(BadBars, match=words) as refused:
        read_loose(path)
    assert str(refused.value).startswith(str(path))
    assert "\n" not in str(refused.value)


def test_huge_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = parquet(tmp_path, made())
    monkeypatch.setattr(loose_table, "ROWS_LIMIT", 4)
    with pytest.raises(BadBars, match="has 5 rows; a back-test takes 4 bars"):
        read_loose(path)
    with pytest.raises(BadBars, match="has 5 rows"):
        read_loose(csv(tmp_path, *(row(f"2024-01-0{day}") for day in range(1, 6))))
    monkeypatch.setattr(loose_file, "SIZE_LIMIT", 100)
    with pytest.raises(BadBars, match=r"has 0\.0 GB; a file of bars may have 0\.0 GB"):
        read_loose(path)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(BadBars, match="is a device or a pipe"):
        read_loose(tmp_path / "pipe.csv")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = parquet(tmp_path, made())
    path.chmod(0)
    with pytest.raises(BadBars, match="cannot be read: "):
        read_loose(path)


def test_one_bar_whose_length_is_given(tmp_path: Path) -> None:
    assert read_loose(parquet(tmp_path, made(1)), "4h").timeframe == "4h"
    with pytest.raises(BadTimeframe, match="'7x' is not a timeframe"):
        read_loose(parquet(tmp_path, made(1)), "7x")


def test_pandas_is_not_imported(tmp_path: Path) -> None:
    paths = [parquet(tmp_path, made()), csv(tmp_path, row("2024-01-01T02:00+02:00"), row("2024-01-02"))]
    script = (
        "import sys\nfrom pathlib import Path\nfrom koc_qt.adapters.loose_file import read_loose\n"
        "for path in sys.argv[1:]: read_loose(Path(path))\nprint('pandas' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script, *map(str, paths)], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("False\n", "")


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded markets are not here")
@pytest.mark.parametrize(
    ("name", "timeframe", "count"),
    [
        ("us_GOOG_1d_2004-2013", "1d", 2148),
        ("us_SPY_1m_2013-10", "1m", 4128),
        ("fx_EUR-USD_1h_2017-2018", "1h", 5000),
        ("coinbase_BTC-USD_1m_2018-04", "1m", 3887),
        ("binance_ADA-BTC_5m_2018-01", "5m", 5720),
    ],
)
def test_recorded_markets_are_read_as_they_are(name: str, timeframe: str, count: int) -> None:
    bars = read_loose(RECORDED / f"{name}.parquet")
    frame = pd.read_parquet(RECORDED / f"{name}.parquet")
    assert (bars.timeframe, len(bars.columns.open), bars.notes) == (timeframe, count, ())
    for column in Columns._fields[1:]:
        assert getattr(bars.columns, column).tobytes() == frame[column].to_numpy().tobytes()
    assert times(bars) == frame.index.as_unit("ns").astype("int64").tolist()


# ---- files as a history, and the rules of what they hold


def loose(count: int = 10, start: str = "2024-01-01") -> LooseBars:
    """Give hours, with a gap of two after the third."""
    first_ns = utc_ns(start)
    opens = [first_ns + (number + (2 if number > 2 else 0)) * HOUR_NS for number in range(count)]
    bars = [
        Bar(SYMBOL, "1h", time_ns, 10.0 + n, 12.0 + n, 9.0 - n / 100, 11.0, 0.1 * n) for n, time_ns in enumerate(opens)
    ]
    return LooseBars(Path("a.csv"), "1h", columns_of(bars), ())


def bars_of(columns: Columns, timeframe: str) -> list[Bar]:
    return [Bar(SYMBOL, timeframe, *values) for values in zip(*(column.tolist() for column in columns), strict=True)]


@pytest.mark.parametrize("timeframe", ["2h", "4h", "1d"])
@pytest.mark.parametrize("start", ["2024-01-01", "2024-01-01T05:00"])
@pytest.mark.parametrize("count", [1, 2, 10, 47, 100])
def test_longer_bars_are_those_of_the_domain(timeframe: str, start: str, count: int) -> None:
    columns = loose(count, start).columns
    expected = resample(bars_of(columns, "1h"), timeframe)
    found = bars_of(longer(columns, "1h", timeframe), timeframe)
    assert [bar.open_time_ns for bar in found] == [bar.open_time_ns for bar in expected]
    for one, other in zip(found, expected, strict=True):
        assert (one.open, one.high, one.low, one.close) == (other.open, other.high, other.low, other.close)
        assert one.volume == pytest.approx(other.volume, rel=1e-12)


async def test_a_file_is_a_history() -> None:
    first_ns = utc_ns("2024-01-01")
    history = FileHistory({SYMBOL: loose()})
    series = BarSeries(SYMBOL, "1h")
    assert history.extent() == ("1h", first_ns, first_ns + 12 * HOUR_NS)
    everything = history.closed(series, Span(0, 1 << 62))
    assert everything == Span(first_ns, first_ns + 12 * HOUR_NS)
    assert history.closed(series, Span(first_ns + 1, first_ns + HOUR_NS + 1)) == Span(
        first_ns + HOUR_NS, first_ns + 2 * HOUR_NS
    )
    assert history.closed(series, Span(0, 5)).since_ns >= history.closed(series, Span(0, 5)).until_ns
    told: list[float] = []
    assert await history.fill(series, everything, lambda fraction, _: told.append(fraction)) == 0
    assert told == [1.0]
    page = await history.columns(series, Span(first_ns + HOUR_NS, first_ns + 6 * HOUR_NS))
    assert [int(time_ns - first_ns) // HOUR_NS for time_ns in page.open_time_ns] == [1, 2, 5]
    assert len((await history.columns(BarSeries(SYMBOL, "4h"), everything)).open) == 3
    with pytest.raises(BadTimeframe, match=r"a\.csv holds bars of 1h: bars of 30m cannot be made of them"):
        history.closed(BarSeries(SYMBOL, "30m"), everything)
    with pytest.raises(VenueRejected, match="no file of file:X"):
        history.closed(BarSeries(InstrumentId("file", "X"), "1h"), everything)


async def test_a_file_too_short_for_longer_bars_has_none() -> None:
    series = BarSeries(SYMBOL, "1d")
    span = FileHistory({SYMBOL: loose(3)}).closed(series, Span(0, 1 << 62))
    assert span.since_ns >= span.until_ns


def test_files_of_several_lengths_are_refused() -> None:
    minutes = LooseBars(Path("b.csv"), "1m", loose().columns, ())
    with pytest.raises(BadTimeframe, match=r"several lengths: a\.csv 1h, b\.csv 1m"):
        FileHistory({SYMBOL: loose(), InstrumentId("file", "X"): minutes}).extent()


@pytest.mark.parametrize(
    ("symbol", "base", "quote"),
    [
        ("EUR-USD", "EUR", "USD"),
        ("BTC/USDT", "BTC", "USDT"),
        ("GOOG", "GOOG", "USD"),
        ("us_GOOG_1d_2004-2013", "us_GOOG_1d_2004-2013", "USD"),
    ],
)
def test_symbols_name_base_and_quote(symbol: str, base: str, quote: str) -> None:
    rules = file_rules(InstrumentId("file", symbol), loose().columns)
    assert (rules.base, rules.quote) == (base, quote)


@pytest.mark.parametrize(("price", "tick"), [(500_000.0, "1e-8"), (100.0, "1e-8"), (1.0, "1e-8"), (5.3e-05, "1e-13")])
def test_ticks_are_so_fine_that_nothing_is_rounded_by_surprise(price: float, tick: str) -> None:
    columns = loose().columns._replace(low=np.full(10, price))
    rules = file_rules(SYMBOL, columns)
    assert rules.tick_size == Decimal(tick)
    assert rules.lot_size == Decimal("1e-8")
    coarse = file_rules(SYMBOL, columns, Decimal("0.00005"), Decimal(1))
    assert (coarse.tick_size, coarse.lot_size) == (Decimal("0.00005"), 1)
    with pytest.raises(InvalidOrder):
        file_rules(SYMBOL, columns, Decimal(-1))
    with pytest.raises(InvalidOrder, match=f"a tick of 1000000 is above its lowest price, which is {price:.12g}"):
        file_rules(SYMBOL, columns, Decimal(1_000_000))
