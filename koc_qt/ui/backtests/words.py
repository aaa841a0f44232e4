"""The statistics of a run in words: what people call each, what it means, and why there may be none."""

from __future__ import annotations

from decimal import Decimal

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, Engine
from koc_qt.domain.figures import FIGURES, GROUPS, Figure, Unit
from koc_qt.ui import formats
from koc_qt.ui.tables.columns import tone_of_sign

ENGINE_NAMES = {Engine.REPLAY: "Replay", Engine.VECTORBT: "vectorbt", Engine.BACKTRADER: "backtrader"}


def caption(name: str) -> Figure:
    """Give the words for a statistic."""
    return FIGURES[name]


def groups() -> dict[str, tuple[str, ...]]:
    """Give every statistic that there is, by the title of its group."""
    return {title: tuple(figures) for title, figures in GROUPS.items()}


def money_decimals(cash: Decimal) -> int:
    """Give how many decimals amounts need beside so much cash: 2 for 10,000 USDT, 5 for 1 BTC."""
    return min(8, max(2, 5 - cash.adjusted()))


def statistic_text(name: str, value: float | None, currency: str, decimals: int) -> str:
    """Give a statistic as people read it; a dash where there is none."""
    if value is None or value != value:
        return formats.DASH
    figure = FIGURES[name]
    match figure.unit:
        case Unit.AMOUNT:
            show = formats.signed_money if figure.is_signed else formats.money
            return f"{show(value, decimals)} {currency}".rstrip()
        case Unit.FRACTION:
            return formats.percent(value, signed=figure.is_signed and value != 0)
        case Unit.RATIO:
            return formats.money(value)
        case Unit.COUNT:
            return formats.money(value, 0)
        case Unit.SECONDS:
            return formats.duration(value)


def statistic_tone(name: str, value: float | None) -> str | None:
    """Give the tone of a profit or loss."""
    return tone_of_sign(value) if FIGURES[name].is_signed else None


def statistic_tip(name: str, value: float | None) -> str:
    """Say what it is, and why there is none."""
    words = caption(name)
    return f"{words.meaning}.\n{words.why_none}." if value is None else f"{words.meaning}."


def costs(spec: BacktestSpec) -> list[str]:
    """Say what is taken off, each in a few words."""
    usual = "no fees" if spec.files else "the venue's fees"
    said = [usual if spec.fee is None else f"fee {percent_text(spec.fee)}"]
    slippage = [percent_text(spec.slippage)] if spec.slippage else []
    slippage += (
        [f"{spec.slippage_ticks:,} tick{'' if spec.slippage_ticks == 1 else 's'}"] if spec.slippage_ticks else []
    )
    said.append(f"slippage {' and '.join(slippage)}" if slippage else "no slippage")
    if spec.spread:
        said.append(f"spread {percent_text(spec.spread)}")
    if spec.latency_ns:
        said.append(f"latency {latency_text(spec.latency_ns)}")
    return said


def assumptions(result: BacktestResult) -> tuple[str, str]:
    """Give in a line, and in full, what a run takes for granted."""
    spec = result.spec
    taken = costs(spec)
    share = spec.volume_fraction
    volume = "any quantity is filled" if share is None else f"at most {percent_text(share)} of a bar's volume"
    short = [] if spec.allow_short else ["no short selling"]
    missing = ["order book", *([] if spec.latency_ns else ["delays"]), "funding"]
    left_out = f"no {', '.join(missing[:-1])} or {missing[-1]}"
    line = " · ".join(["Filled at the next bar's open", *taken, *short, left_out])
    full = (
        "Orders placed when a bar closes meet the next bar: at the market they trade at its open, limit orders where "
        f"it trades through their price; {volume}. Taken off: {', '.join(taken)}, spread and slippage for market "
        f"orders. Not modelled: {', '.join(missing)}, your own effect on the price, and interest. What is held at the "
        "end is valued at the last close."
    )
    return line, full


def percent_text(fraction: Decimal) -> str:
    """Give a fraction as a percentage with the digits that it has."""
    return f"{formats.quantity(fraction * 100)} %"


def latency_text(latency_ns: int) -> str:
    """Give a latency in the unit that people use for its size."""
    return f"{latency_ns / 1e6:,.10g} ms" if latency_ns < 10_000_000_000 else formats.duration(latency_ns / 1e9)
