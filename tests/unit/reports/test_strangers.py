"""Results whose every number a stranger's process has chosen: they are refused in a sentence, or written."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.errors import StorageError
from koc_qt.domain.figures import FIGURES
from koc_qt.reports.csv_tables import to_csv
from koc_qt.reports.documents import load_json, to_json
from koc_qt.reports.export import export
from koc_qt.reports.page import to_html
from koc_qt.reports.parquet_tables import to_parquet
from koc_qt.reports.report import Report, check_sound
from koc_qt.reports.tables import tables
from tests.unit.reports.examples import BTC, START_NS, result

numbers = st.floats() | st.sampled_from([0.0, -0.0, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf, 100.0])
times = st.integers(-(2**63), 2**63 - 1)
trips = st.builds(
    RoundTrip,
    st.just(BTC),
    numbers,
    times,
    numbers,
    st.none() | times,
    st.none() | numbers,
    numbers,
    numbers,
    st.none() | numbers,
    st.none() | numbers,
)


@st.composite
def results(draw: st.DrawFn) -> Any:
    moments = sorted(draw(st.lists(times, max_size=12)))
    count = len(moments)
    return result(
        6,
        equity_ns=moments,
        equity=draw(st.lists(numbers, min_size=count, max_size=count)),
        benchmark=draw(st.lists(numbers, min_size=count, max_size=count)) if draw(st.booleans()) else [],
        trades=draw(st.lists(trips, max_size=8)),
        statistics={name: draw(st.none() | numbers) for name in FIGURES},
        months=draw(st.dictionaries(st.sampled_from(["0000-01", "2024-02", "9999-12"]), numbers)),
        log=draw(st.lists(st.text(), max_size=3)),
        name=draw(st.text()),
    )


@settings(max_examples=30, deadline=None)
@given(results(), st.text())
def test_any_numbers_are_written(made: Any, command: str) -> None:
    check_sound(made)
    whole = Report((made, made), command)
    page = to_html(whole).decode()
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        places = re.findall(r'(?:x|y|x1|x2|y1|y2|cx|cy|width|height|d)="([^"]*)"', drawing)
        assert not any("nan" in place or "inf" in place for place in places)
    for table in tables(whole):
        to_csv(table)
    for table in tables(whole):
        to_parquet(table)
    again = load_json(to_json(whole))  # an endless quantity is read as none, which has no side
    assert to_json(load_json(to_json(again))) == to_json(again)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"equity": [1.0]}, "several lengths"),
        ({"benchmark": [1.0]}, "several lengths"),
        ({"equity_ns": [START_NS, START_NS + 2, START_NS + 1], "equity": [1.0] * 3, "benchmark": []}, "back in time"),
        ({"equity_ns": [2**63], "equity": [1.0], "benchmark": []}, "no calendar"),
        ({"trades": [RoundTrip(BTC, 1.0, -(2**63) - 1, 1.0, None, None, 0.0, 0.0)]}, "no calendar"),
        ({"trades": [RoundTrip(BTC, 1.0, 0, 1.0, 2**80, 1.0, 0.0, 0.0)]}, "no calendar"),
        ({"months": {"<b>": 1.0}}, "months that are none"),
        ({"months": {"2024-13": 1.0}}, "months that are none"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    made = Report((msgspec.structs.replace(result(6), **changes),))
    for ending in ("html", "json", "csv", "parquet"):
        with pytest.raises(StorageError, match=f"the result of replay makes no sense: .*{words}"):
            export(made, tmp_path / f"run.{ending}")
    assert not list(tmp_path.iterdir())
