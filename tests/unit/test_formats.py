"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from koc_qt.ui import formats

NOON_NS = 1_700_049_600_000_000_000  # 2023-11-15 12:00:00 UTC
EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (formats.price(Decimal("1234.5"), Decimal("0.01")), "1,234.50"),
        (formats.price(Decimal("1234.5678")), "1,234.5678"),
        (formats.price(Decimal("0.00001234"), Decimal("0.00000001")), "0.00001234"),
        (formats.price(Decimal(64000), Decimal("10")), "64,000"),
        (formats.price(None), "—"),
        (formats.price(Decimal("123456789012345678"), Decimal("1e-12")), "123,456,789,012,345,678.000000000000"),
        (formats.price(Decimal("100.12345"), Decimal("0.01")), "100.1234"),
        (formats.price(Decimal("NaN"), Decimal("0.01")), "—"),
        (formats.money(Decimal("-0.004")), "0.00"),
        (formats.quantity(Decimal("-0.0")), "0"),
        (formats.quantity(Decimal("0.10000")), "0.1"),
        (formats.quantity(Decimal("1E+3")), "1,000"),
        (formats.quantity(Decimal("-2.50")), "-2.5"),
        (formats.quantity(Decimal("NaN")), "—"),
        (formats.available(Decimal("99987.1299999999"), Decimal("0.01")), "99,987.12"),
        (formats.available(Decimal("99987.5999999999"), Decimal(1), 2), "99,987.59"),
        (formats.available(Decimal("0.12345678"), Decimal("0.00001")), "0.12345"),
        (formats.available(Decimal("-0.000001"), Decimal("0.001")), "0"),
        (formats.available(Decimal("1e30"), Decimal("1e-12")), "1" + ",000" * 10),
        (formats.available(Decimal("NaN"), Decimal("0.01")), "—"),
        (formats.money(Decimal("1234567.891")), "1,234,567.89"),
        (formats.money(float("inf")), "—"),
        (formats.money(Decimal("1e30")), "1.000000e+30"),
        (formats.signed_money(Decimal("1.005")), "+1.00"),
        (formats.signed_money(Decimal("-3")), "-3.00"),
        (formats.signed_money(Decimal("-0.001")), "0.00"),
        (formats.signed_money(None), "—"),
        (formats.percent(0.0123), "1.23 %"),
        (formats.percent(0.5, 0, signed=True), "+50 %"),
        (formats.percent(None), "—"),
        (formats.size(0), "0 B"),
        (formats.size(1536), "1.5 KB"),
        (formats.size(1_048_575), "1.0 MB"),
        (formats.size(None), "—"),
        (formats.duration(0.25), "0.2 s"),
        (formats.duration(59), "59 s"),
        (formats.duration(125), "2 m 5 s"),
        (formats.duration(7_200), "2 h 0 m"),
        (formats.duration(90_000), "1 d 1 h"),
        (formats.duration(None), "—"),
        (formats.clock(NOON_NS, EAST), "2023-11-15 14:00:00"),
        (formats.clock(None), "—"),
        (formats.date(NOON_NS, EAST), "2023-11-15 14:00"),
        (formats.utc(NOON_NS + 5_000_000), "2023-11-15 12:00:00.005 UTC"),
    ],
)
def test_formats(text: str, wanted: str) -> None:
    assert text == wanted


def test_today_needs_no_date() -> None:
    now = datetime.now(UTC)
    assert formats.clock(int(now.timestamp()) * 1_000_000_000, UTC) == f"{now:%H:%M:%S}"


def test_a_long_name_loses_its_middle() -> None:
    assert formats.cut("sma_cross.py", 12) == "sma_cross.py"
    assert formats.cut("a_name_that_is_long.py", 12) == "a_name_…g.py"
    assert all(len(formats.cut("x" * 50, most)) == most for most in range(3, 50))
