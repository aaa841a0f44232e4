"""Numbers, times and settings as reports write them. Times are UTC; what is not known is a dash."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Engine
from koc_qt.domain.figures import FIGURES, Unit
from koc_qt.domain.timeframes import SECOND_NS

DASH = "—"
ENGINES = {Engine.REPLAY: "Replay", Engine.VECTORBT: "vectorbt", Engine.BACKTRADER: "backtrader"}
_EPOCH = datetime(1970, 1, 1)
_ENDLESS_S = 1e12


# ---- times ----------------------------------------------------------------------------------------------------------


def iso(time_ns: int) -> str:
    """Give a UTC time in nanoseconds as ISO 8601, whole seconds or all nine digits after them."""
    seconds, rest = divmod(time_ns, SECOND_NS)
    whole = (_EPOCH + timedelta(seconds=seconds)).isoformat()
    return f"{whole}.{rest:09}Z" if rest else f"{whole}Z"


def moment(time_ns: int | None) -> str:
    """Give a UTC time for people, to the minute, or to the second where that is not full."""
    if time_ns is None:
        return DASH
    when = _EPOCH + timedelta(seconds=time_ns // SECOND_NS)
    return f"{when:%Y-%m-%d %H:%M:%S}" if when.second else f"{when:%Y-%m-%d %H:%M}"


def day(time_ns: int) -> str:
    """Give a UTC date."""
    return f"{_EPOCH + timedelta(seconds=time_ns // SECOND_NS):%Y-%m-%d}"


def duration(seconds: float | None) -> str:
    """Give a length of time in its two largest units."""
    if seconds is None or not 0 <= seconds < _ENDLESS_S:
        return DASH
    whole = int(seconds)
    days, hours, minutes, rest = whole // 86_400, whole // 3_600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{days:,} d {hours} h" if hours else f"{days:,} d"
    if hours:
        return f"{hours} h {minutes} m" if minutes else f"{hours} h"
    return f"{minutes} m {rest} s" if minutes else f"{seconds:.3g} s"


# ---- numbers --------------------------------------------------------------------------------------------------------


def number(value: float | None, decimals: int = 2, *, signed: bool = False) -> str:
    """Give a number with thousands separators; with `signed` its sign is always there, but for zero."""
    if value is None or not math.isfinite(value):
        return DASH
    if abs(value) >= 1e15:
        return f"{value:{'+' if signed else ''}.4e}"
    text = f"{value:{'+' if signed else ''},.{decimals}f}"
    return text if any(digit in "123456789" for digit in text) else text.lstrip("+-")


def percent(fraction: float | None, *, signed: bool = False) -> str:
    """Give a fraction (0.01) as a percentage (1.00 %), small ones with four decimals."""
    if fraction is None or not math.isfinite(fraction):
        return DASH
    decimals = 2 if not fraction or abs(fraction) >= 0.001 else 4  # what a bar of a minute loses is small
    return f"{number(fraction * 100, decimals, signed=signed)} %"


def price(value: float | None) -> str:
    """Give a price or quantity with ten digits at most, and no zeros at its end."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{Decimal(f'{value:.10g}'):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def money_decimals(cash: Decimal) -> int:
    """Give how many decimals amounts need beside so much cash: 2 for 10,000 USDT, 5 for 1 BTC."""
    return min(8, max(2, 5 - cash.adjusted()))


def figure(name: str, value: float | None, decimals: int) -> str:
    """Give a statistic as people read it, amounts without their currency; see domain/figures.py."""
    what = FIGURES[name]
    match what.unit:
        case Unit.AMOUNT:
            return number(value, decimals, signed=what.is_signed)
        case Unit.FRACTION:
            return percent(value, signed=what.is_signed)
        case Unit.RATIO:
            return number(value)
        case Unit.COUNT:
            return number(value, 0)
        case Unit.SECONDS:
            return duration(value)


# ---- settings -------------------------------------------------------------------------------------------------------


def asked(result: BacktestResult) -> list[tuple[str, str]]:
    """Give what a run was asked to do, by its caption, its parameters aside."""
    spec = result.spec
    return [
        ("Strategy", result.name),
        ("File", spec.path),
        ("Engine", ENGINES[spec.engine]),
        ("Symbols", ", ".join(map(str, spec.instruments))),
        *_reading(spec),
        ("Timeframe", result.timeframe),
        ("Range", f"{moment(spec.since_ns)} to {moment(spec.until_ns)} UTC"),
        ("Bars", f"{result.bars:,}"),
        ("Cash", _plain(spec.cash)),
        *costs(spec),
        ("Short selling", "allowed" if spec.allow_short else "not allowed"),
        ("Seed", str(spec.seed)),
    ]


def _reading(spec: BacktestSpec) -> list[tuple[str, str]]:
    """Give which files were read, and how."""
    said = [("Bars from", ", ".join(spec.files))] if spec.files else []
    said += [(name, _plain(size)) for name, size in (("Tick", spec.tick), ("Lot", spec.lot)) if size is not None]
    return said + ([("Bad rows", "left out")] if spec.skip_bad else [])


def settings(result: BacktestResult) -> list[tuple[str, str]]:
    """Give all that a run was asked to do, by its caption."""
    return [*asked(result), *((f"Parameter {name}", str(value)) for name, value in result.spec.parameters.items())]


def costs(spec: BacktestSpec) -> list[tuple[str, str]]:
    """Give what is taken off a trade, by its caption."""
    most, usual = spec.volume_fraction, "none" if spec.files else "the venue's"
    ticks = f" and {spec.slippage_ticks:,} tick{'' if spec.slippage_ticks == 1 else 's'}" if spec.slippage_ticks else ""
    return [
        ("Fee", usual if spec.fee is None else share(spec.fee)),
        ("Spread", share(spec.spread)),
        ("Slippage", share(spec.slippage) + ticks),
        ("Latency", latency(spec.latency_ns)),
        ("Of a bar's volume", "as much as is asked" if most is None else f"at most {share(most)}"),
    ]


def share(fraction: Decimal) -> str:
    """Give a fraction as a percentage with the digits that it has."""
    return f"{_plain(fraction * 100)} %"


def latency(latency_ns: int) -> str:
    """Give a latency in the unit that people use for its size."""
    return f"{latency_ns / 1e6:,.10g} ms" if latency_ns < 10 * SECOND_NS else duration(latency_ns / SECOND_NS)


def _plain(value: Decimal) -> str:
    text = f"{value + 0:,f}"  # a zero has no sign
    return text.rstrip("0").rstrip(".") if "." in text else text
