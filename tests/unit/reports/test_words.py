"""Numbers and times as reports write them."""

from __future__ import annotations

import math
from decimal import Decimal

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.figures import FIGURES
from koc_qt.reports import words
from tests.unit.reports.examples import BTC, START_NS, result


def test_times() -> None:
    assert words.iso(START_NS) == "2024-01-01T00:00:00Z"
    assert words.iso(START_NS + 5) == "2024-01-01T00:00:00.000000005Z"
    assert words.iso(-1) == "1969-12-31T23:59:59.999999999Z"
    assert words.moment(START_NS + 90_000_000_000) == "2024-01-01 00:01:30"
    assert words.moment(START_NS + 60_000_000_000) == "2024-01-01 00:01"
    assert words.moment(None) == "—"
    assert words.day(START_NS) == "2024-01-01"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "—"), (math.nan, "—"), (math.inf, "—"), (0.0, "0 s"), (0.25, "0.25 s"), (59.0, "59 s"),
        (61.0, "1 m 1 s"), (3_600.0, "1 h"), (3_660.0, "1 h 1 m"), (86_400.0, "1 d"), (90_000.0, "1 d 1 h"),
        (1e9, "11,574 d 1 h"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert words.duration(seconds) == text


def test_numbers() -> None:
    assert words.number(1_234.567) == "1,234.57"
    assert words.number(0.001, signed=True) == "0.00"
    assert words.number(-0.001) == "0.00"
    assert words.number(5.0, signed=True) == "+5.00"
    assert words.number(1e20) == "1.0000e+20"
    assert words.number(-1e20, signed=True) == "-1.0000e+20"
    assert words.number(math.nan) == words.number(None) == words.price(math.inf) == words.percent(None) == "—"
    assert words.percent(0.01, signed=True) == "+1.00 %"
    assert words.percent(0.000_123) == "0.0123 %"
    assert words.percent(0.0) == "0.00 %"
    assert words.price(12_345.678_900) == "12,345.6789"
    assert words.price(0.000_012_345) == "0.000012345"
    assert words.price(100.0) == "100"
    assert words.price(1 / 3) == "0.3333333333"
    assert [words.money_decimals(Decimal(cash)) for cash in ("10000", "1", "0.0001", "1000000")] == [2, 5, 8, 2]


def test_every_statistic_has_a_text() -> None:
    for name in FIGURES:
        assert words.figure(name, 1.5, 2) != words.figure(name, None, 2) == words.figure(name, math.nan, 2) == "—"


def test_settings_say_what_was_taken_off() -> None:
    plain = dict(words.settings(result(6)))
    assert (plain["Fee"], plain["Spread"], plain["Slippage"], plain["Latency"]) == ("the venue's", "0 %", "0 %", "0 ms")
    spec = BacktestSpec(
        "/s.py", (BTC,), "1m", 0, 1, cash=Decimal("1e3"), fee=Decimal("-0.00025"), slippage=Decimal("0.001"),
        slippage_ticks=2, latency_ns=250_000_000, volume_fraction=None, allow_short=False, spread=Decimal("0.0010"),
    )  # fmt: skip
    costly = dict(words.settings(msgspec.structs.replace(result(6), spec=spec)))
    assert costly["Fee"] == "-0.025 %"
    assert (costly["Spread"], costly["Slippage"], costly["Latency"]) == ("0.1 %", "0.1 % and 2 ticks", "250 ms")
    assert (costly["Of a bar's volume"], costly["Cash"]) == ("as much as is asked", "1,000")
    assert costly["Short selling"] == "not allowed"
