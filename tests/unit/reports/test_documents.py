"""Reports as JSON: what is written is read back, and what is no report is refused with the reason."""

from __future__ import annotations

import json
import math

import msgspec
import pytest

from koc_qt.domain.errors import StorageError
from koc_qt.reports.documents import load_json, to_json
from koc_qt.reports.report import Report
from tests.unit.reports.examples import HOSTILE, report, result


def test_what_is_written_is_read_back() -> None:
    whole = report(made_ns=None)
    assert load_json(to_json(whole)) == whole


def test_a_result_of_nothing_is_read_back() -> None:
    nothing = Report((result(0, benchmark=[], months={}, log=[], provenance=None, statistics={}),))
    assert load_json(to_json(nothing)) == nothing


def test_the_same_report_is_the_same_bytes() -> None:
    assert to_json(report()) == to_json(report(made_ns=5))


def test_others_can_read_it() -> None:
    told = json.loads(to_json(report()))
    assert (told["format"], told["version"], told["currency"]) == ("koc-backtest", 1, "USDT")
    assert list(told["engines"]) == ["replay", "vectorbt"]
    engine = told["engines"]["replay"]
    assert engine["trades"][0] == {
        "symbol": "sim:BTC/USDT", "side": "short", "quantity": 1.5,
        "entry_time": "2024-01-01T00:00:00Z", "entry_ns": 1_704_067_200_000_000_000, "entry_price": 100.0,
        "exit_time": "2024-01-05T00:00:00.000000123Z", "exit_ns": 1_704_412_800_000_000_123, "exit_price": 101.0,
        "fees": 0.3, "pnl": -7.25, "mae": -9.0, "mfe": 14.5,
    }  # fmt: skip
    assert engine["trades"][-1]["exit_time"] is None
    assert engine["fills"][0]["fee"] == "0.00012345678901234567"
    assert engine["settings"]["cash"] == "10000"
    assert {len(engine["equity"][column]) for column in ("time", "time_ns", "value", "benchmark")} == {121}
    assert told["certificate"]["verdict"] == "green"
    assert [check["title"] for check in told["checks"]] == ["Lookahead", "Warm-up"]


def test_two_results_of_one_engine_have_names_of_their_own() -> None:
    twice = Report((result(12), result(18)))
    assert twice.labels == ("replay", "replay 2")
    assert load_json(to_json(twice)) == twice


def test_what_json_has_not_is_null() -> None:
    made = result(12, equity=[math.nan, math.inf, *result(12).equity[2:]], benchmark=[])
    text = to_json(Report((made,)))
    assert json.loads(text)["engines"]["replay"]["equity"]["value"][:2] == [None, None]
    [read] = load_json(text).results
    assert [math.isnan(value) for value in read.equity[:3]] == [True, True, False]


def test_any_text_is_kept() -> None:
    made = Report((result(6, name=HOSTILE, log=[HOSTILE]),), HOSTILE)
    assert load_json(to_json(made)) == made


FILL = json.loads(to_json(Report((result(12),))))["engines"]["replay"]["fills"][0]


def damaged(field: str, value: object) -> bytes:
    told = json.loads(to_json(Report((result(6),))))
    told["engines"]["replay"][field] = value
    return json.dumps(told).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no report of a back-test"),
        (b"\xff\xfe", "no report of a back-test"),
        (b"[]", "no report of a back-test"),
        (b'{"format": "other", "version": 1}', "other of version 1"),
        (b'{"format": "koc-backtest", "version": 2}', "another version"),
        (b'{"format": "koc-backtest", "version": 1}', "missing required field"),
        (b"[" * 100_000, "no report of a back-test"),
        (damaged("trades", [{}]), "missing required field"),
        (damaged("settings", {}), "missing required field"),
        (damaged("equity", {"time": [], "time_ns": [1], "value": [], "benchmark": []}), "several lengths"),
        (damaged("fills", [FILL | {"price": "-1"}]), "price"),
        (damaged("fills", [FILL | {"price": "1e"}]), "no report of a back-test"),
        (to_json(Report((result(6),)))[:-40], "no report of a back-test"),
    ],
    ids=range(13),  # names made of the data would be as long as that
)  # fmt: skip
def test_what_is_no_report_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(StorageError, match=words):
        load_json(data)


def test_a_report_is_about_something() -> None:
    with pytest.raises(ValueError, match="one result at least"):
        Report(())
    with pytest.raises(StorageError, match="one result at least"):
        load_json(msgspec.json.encode({**json.loads(to_json(report())), "engines": {}}))
