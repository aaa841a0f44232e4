"""Numbers and times as people read them. What is not known is a dash."""

from __future__ import annotations

import re
from datetime import UTC, datetime, tzinfo
from decimal import ROUND_DOWN, Decimal, localcontext

from koc_qt.domain.exact import EXACT
from koc_qt.domain.timeframes import SECOND_NS

DASH = "—"
_WORD = re.compile(r"[^\s/]+")
_UNITS = ("B", "KB", "MB", "GB", "TB")


def decimals_of(step: Decimal) -> int:
    """Give how many decimals a tick or lot size has."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def price(value: Decimal | None, tick_size: Decimal | None = None) -> str:
    """Give a price with the decimals of its tick, as it is where the tick is not known.

    An average, which lies between ticks, gets two decimals more.
    """
    if value is None or tick_size is None or not value.is_finite():
        return _number(value, None)
    decimals = decimals_of(tick_size)
    return _number(value, decimals if value == _rounded(value, decimals) else decimals + 2)


def quantity(value: Decimal | None) -> str:
    """Give a quantity without zeros at its end."""
    if value is None or not value.is_finite():
        return DASH
    text = f"{value + 0:,f}"  # a zero has no sign
    return text.rstrip("0").rstrip(".") if "." in text else text


def available(value: Decimal, step: Decimal, least: int = 0) -> str:
    """Give what is there to spend with the decimals of its step, `least` where that has fewer, and never too much."""
    with localcontext(EXACT):
        return quantity(value.quantize(Decimal(1).scaleb(-max(least, decimals_of(step))), ROUND_DOWN))


def money(value: Decimal | float | None, decimals: int = 2) -> str:
    """Give an amount with thousands separators."""
    return _number(value, decimals)


def signed_money(value: Decimal | float | None, decimals: int = 2) -> str:
    """Give a profit or loss: its sign is always there, but for zero."""
    text = _number(value, decimals)
    if text == DASH or not any(digit in "123456789" for digit in text):
        return text.removeprefix("-")
    return text if text.startswith("-") else f"+{text}"


def percent(fraction: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """Give a fraction (0.01) as a percentage (1.00 %)."""
    if fraction is None or fraction != fraction:
        return DASH
    return f"{fraction * 100:{'+' if signed else ''},.{decimals}f} %"


def size(count: int | None) -> str:
    """Give a number of bytes in units of 1,024, as file managers do."""
    if count is None:
        return DASH
    value, unit = float(count), 0
    while value >= 1023.95 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if unit else f"{count} B"


def duration(seconds: float | None) -> str:
    """Give a length of time in its two largest units, such as `2 m 5 s`; below ten seconds with a decimal."""
    if seconds is None or seconds != seconds:
        return DASH
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    days, hours, minutes, rest = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} m"
    return f"{minutes} m {rest} s" if minutes else f"{rest} s"


def clock(time_ns: int | None, zone: tzinfo | None = None) -> str:
    """Give a UTC time in nanoseconds as the person's local time of day, with the date where it is not today."""
    if time_ns is None:
        return DASH
    local, now = _local(time_ns, zone), datetime.now(UTC).astimezone(zone)
    return f"{local:%H:%M:%S}" if local.date() == now.date() else f"{local:%Y-%m-%d %H:%M:%S}"


def date(time_ns: int | None, zone: tzinfo | None = None) -> str:
    """Give a UTC time in nanoseconds as local date and minute."""
    return DASH if time_ns is None else f"{_local(time_ns, zone):%Y-%m-%d %H:%M}"


def utc(time_ns: int | None) -> str:
    """Give a UTC time in nanoseconds in full, for a tooltip."""
    return DASH if time_ns is None else f"{_local(time_ns, UTC):%Y-%m-%d %H:%M:%S.%f}"[:-3] + " UTC"


def cut(text: str, most: int) -> str:
    """Cut the middle out of a name that is too long for its place: the end tells as much as the beginning."""
    head = (most - 1) * 2 // 3
    return text if len(text) <= most else f"{text[:head]}…{text[head + 1 - most :]}"


def cut_words(text: str, most: int) -> str:
    """Cut so every word that is longer, such as a part of a path: a label is broken at blanks and slashes alone."""
    return _WORD.sub(lambda word: cut(word[0], most), text)


def _local(time_ns: int, zone: tzinfo | None) -> datetime:
    seconds, rest = divmod(time_ns, SECOND_NS)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1_000).astimezone(zone)


def _number(value: Decimal | float | None, decimals: int | None) -> str:
    if value is None:
        return DASH
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    if not exact.is_finite():
        return DASH
    if decimals is None:
        return f"{exact:,f}"
    return f"{_rounded(exact, decimals) + 0:,.{decimals}f}" if exact.adjusted() < 24 else f"{exact:.6e}"


def _rounded(value: Decimal, decimals: int) -> Decimal:
    """Round half to even, whatever the number of digits."""
    with localcontext(EXACT):
        return round(value, decimals)
