"""What the start form decides by itself: JSON, ranges, accounts, proposals, the lines of a broken file."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.state import AccountSnapshot, TradingMode, VenueState
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.start_form.rules import (
    LARGEST,
    excerpt,
    line_in,
    proposed_symbols,
    read_file,
    route_problem,
    twice,
    without_path,
)
from koc_qt.ui.start_form.values import JsonProblem, overrides_of, plain, range_of, read_json, rules_of, to_json

BTC, ETH = InstrumentId("sim", "BTC/USDT"), InstrumentId("sim", "ETH/USDT")
BTC_TOO = InstrumentId("sim-b", "BTC/USDT")


def described(*parameters: ParameterInfo) -> Described:
    return Described("Mine", "", parameters, "1m", ("bars",), 1, 0)


RULES = rules_of(
    described(
        ParameterInfo("fast", "int", 5, 1, 500, None, (), "bars"),
        ParameterInfo("ratio", "float", 0.5, None, 2.0, 0.25, (), ""),
        ParameterInfo("maker", "bool", True),
        ParameterInfo("side", "choice", "both", None, None, None, ("both", "long")),
        ParameterInfo("note", "str", ""),
    )
)


def test_values_survive_json() -> None:
    values = {"fast": 7, "ratio": 0.75, "maker": False, "side": "long", "note": 'a "☃" \\'}
    assert read_json(to_json(values), RULES) == values


@given(st.floats(allow_nan=False, allow_infinity=False), st.text())
def test_any_number_and_text_survives_json_exactly(number: float, text: str) -> None:
    rules = rules_of(described(ParameterInfo("x", "float", 0.0), ParameterInfo("t", "str", "")))
    assert read_json(to_json({"x": number, "t": text}), rules) == {"x": number, "t": text}


def test_what_is_left_out_has_its_default() -> None:
    assert read_json('{"fast": 9}', RULES) == {"fast": 9, "ratio": 0.5, "maker": True, "side": "both", "note": ""}
    assert overrides_of(RULES, read_json('{"fast": 9}', RULES)) == {"fast": 9}


@pytest.mark.parametrize(
    ("text", "line", "column", "said"),
    [
        ('{\n  "fast": }', 2, 11, "expecting value"),
        ('{\n  "fast": 1,\n  "slo": 3\n}', 3, 3, "no parameter 'slo': its parameters are fast, ratio"),
        ('{\n  "fast": 900\n}', 2, 3, "fast must be at most 500, not 900"),
        ('{"fast": 1.5}', 1, 2, "a whole number"),
        ('{"fast": true}', 1, 2, "a whole number"),
        ('{"ratio": 0.3}', 1, 2, "steps of 0.25"),
        ('{"ratio": NaN}', 1, 1, "NaN is not a number"),
        ('{"side": "up"}', 1, 2, "one of both, long"),
        ('{"side": [1, 2]}', 1, 2, "one of both, long"),
        ('{"note": {"a": 1}}', 1, 2, "must be a text, not an object"),
        ('{"fast": 1, "fast": 2}', 1, 13, "twice"),
        ("[1]", 1, 1, "write an object"),
        ("7", 1, 1, "write an object"),
        ("", 1, 1, "expecting value"),
        ("[" * 50_000, 1, 1, "brackets"),
        (f'{{"fast": {"9" * 5000}}}', 1, 1, "digits"),
        ('{"fast": 1' + "0" * 400 + "}", 1, 2, "a whole number"),
        (" " * 100_001, 1, 1, "100,000"),
    ],
)
def test_json_that_is_wrong_says_where(text: str, line: int, column: int, said: str) -> None:
    with pytest.raises(JsonProblem) as caught:
        read_json(text, RULES)
    assert said in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)
    assert len(str(caught.value)) < 400


def test_ranges_are_said() -> None:
    assert [range_of(rule) for rule in RULES.values()] == ["1 to 500", "at most 2, in steps of 0.25", "", "", ""]


def test_a_declaration_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(StrategyError, match="above its high"):
        rules_of(described(ParameterInfo("x", "int", 5, 9, 1)))
    with pytest.raises(StrategyError, match="201 parameters"):
        rules_of(described(*(ParameterInfo(f"p{n}", "int", 1) for n in range(201))))


def account(account_id: str, venue: str, mode: TradingMode = TradingMode.PAPER) -> AccountSnapshot:
    return AccountSnapshot(account_id, venue, mode, VenueState.CONNECTED, (), 0)


def accounts(*each: AccountSnapshot) -> dict[str, AccountSnapshot]:
    return {one.account_id: one for one in each}


def test_a_symbol_of_another_venue_needs_one_account_of_the_same_mode_there() -> None:
    one, other = account("a", "sim"), account("b", "sim-b")
    assert route_problem(accounts(one), "a", BTC) == ""
    assert "no account in paper mode at sim-b" in route_problem(accounts(one), "a", BTC_TOO)
    assert route_problem(accounts(one, other), "a", BTC_TOO) == ""
    live = account("c", "sim-b", TradingMode.LIVE)
    assert "no account in paper mode" in route_problem(accounts(one, live), "a", BTC_TOO)
    off = msgspec.structs.replace(other, enabled=False)
    assert "no account in paper mode" in route_problem(accounts(one, off), "a", BTC_TOO)
    assert "several accounts (b, d)" in route_problem(accounts(one, other, account("d", "sim-b")), "a", BTC_TOO)
    assert "no account x" in route_problem(accounts(one), "x", BTC)


def test_symbols_are_proposed() -> None:
    known = {each: Instrument(each, "B", "U", Decimal(1), Decimal(1)) for each in (ETH, BTC, BTC_TOO)}
    both = accounts(account("a", "sim"), account("b", "sim-b"))
    assert proposed_symbols(known, both, "a", 1) == [BTC]
    assert proposed_symbols(known, both, "a", 2) == [BTC, BTC_TOO]
    assert proposed_symbols(known, accounts(account("a", "sim")), "a", 2) == [BTC]
    assert proposed_symbols({}, both, "a", 1) == []
    assert proposed_symbols(known, both, "nobody", 1) == []


def test_repeated_symbols_are_found() -> None:
    assert twice([BTC, None, ETH, BTC, None, BTC]) == {3, 5}


def test_the_line_of_an_error_is_shown_with_a_mark() -> None:
    source = b"import os\n\nclass A(B)\n\tdef x(self):\n"
    said = "/x/mine.py, line 3: syntax error in mine.py, line 3: expected ':'"
    assert line_in(said) == 3
    assert without_path(said, "/x/mine.py") == "Syntax error in mine.py, line 3: expected ':'"
    assert without_path("/x/mine.py, line 3: boom", "/x/mine.py") == "Line 3: boom"
    assert without_path("something else", "/x/mine.py") == "something else"
    assert excerpt(source, 3) == "3 | class A(B)\n  | ^^^^^^^^^^"
    assert excerpt(source, 4) == "3 | class A(B)\n4 |     def x(self):\n  |     ^^^^^^^^^^^^"
    assert excerpt(source, 9) == ""
    assert excerpt(b"\xff\x00\x1b[31m", 1).startswith("1 | \ufffd??[31m")
    assert len(excerpt(b"x" * 100_000, 1)) < 500
    assert line_in("no line at all") is None


def test_files_are_read_within_bounds(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_bytes(b"x = 1\n")
    assert read_file(str(good)) == b"x = 1\n"
    (tmp_path / "empty.py").write_bytes(b" \n")
    (tmp_path / "huge.py").write_bytes(b"#" * (LARGEST + 1))
    for name, said in (
        ("empty.py", "is empty"),
        ("huge.py", "too large"),
        ("gone.py", "No such file"),
        ("", "not an ordinary"),
    ):
        with pytest.raises(StrategyError, match=said):
            read_file(str(tmp_path / name))
    with pytest.raises(StrategyError, match="null"):
        read_file("a\0b")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.py")
        with pytest.raises(StrategyError, match="not an ordinary"):
            read_file(str(tmp_path / "pipe.py"))


def test_no_value_of_a_remembered_kind_passes_unchecked() -> None:
    bad: list[Any] = [None, [], {}, "x", 900, -1, True]
    for value in bad:
        with pytest.raises(StrategyError):
            RULES["fast"].convert(value)


def test_numbers_are_written_out() -> None:
    assert [plain(each) for each in (1e-06, 1, 500.0, 0.25, 1e20, -10.0)] == [
        "0.000001",
        "1",
        "500",
        "0.25",
        "100000000000000000000",
        "-10",
    ]
