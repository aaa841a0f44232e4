"""The statistics of a run in words: what people call each, what it means, and why there may be none."""

from __future__ import annotations

from koc_qt.domain.backtests import BacktestResult, BacktestSpec
from koc_qt.domain.figures import FIGURES, GROUPS, Figure, Unit
from koc_qt.reports.words import latency, share
from koc_qt.ui import formats
from koc_qt.ui.tables.columns import tone_of_sign


def caption(name: str) -> Figure:
    """Give the words for a statistic."""
    return FIGURES[name]


def groups() -> dict[str, tuple[str, ...]]:
    """Give every statistic that there is, by the title of its group."""
    return {title: tuple(figures) for title, figures in GROUPS.items()}


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
    said = [usual if spec.fee is None else f"fee {share(spec.fee)}"]
    slippage = [share(spec.slippage)] if spec.slippage else []
    slippage += (
        [f"{spec.slippage_ticks:,} tick{'' if spec.slippage_ticks == 1 else 's'}"] if spec.slippage_ticks else []
    )
    said.append(f"slippage {' and '.join(slippage)}" if slippage else "no slippage")
    if spec.spread:
        said.append(f"spread {share(spec.spread)}")
    if spec.latency_ns:
        said.append(f"latency {latency(spec.latency_ns)}")
    return said


def assumptions(result: BacktestResult) -> tuple[str, str]:
    """Give in a line, and in full, what a run takes for granted; first of all that nothing came of it."""
    spec = result.spec
    taken = costs(spec)
    most = spec.volume_fraction
    volume = "any quantity is filled" if most is None else f"at most {share(most)} of a bar's volume"
    short = [] if spec.allow_short else ["no short selling"]
    missing = ["order book", *([] if spec.latency_ns else ["delays"]), "funding"]
    left_out = f"no {', '.join(missing[:-1])} or {missing[-1]}"
    idle = ["No order was filled: the log may say why"] if result.statistics.get("fills") == 0 else []
    line = " · ".join([*idle, "Filled at the next bar's open", *taken, *short, left_out])
    full = (
        "Orders placed when a bar closes meet the next bar: at the market they trade at its open, limit orders where "
        f"it trades through their price; {volume}. Taken off: {', '.join(taken)}, spread and slippage for market "
        f"orders. Not modelled: {', '.join(missing)}, your own effect on the price, and interest. What is held at the "
        "end is valued at the last close."
    )
    return line, full
