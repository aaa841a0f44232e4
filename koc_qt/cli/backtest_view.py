"""What ``koc backtest`` prints for people: figures for each engine, the verdict, hashes, and how to do it again."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from koc_qt.cli.lines import clean, counted, span
from koc_qt.domain.backtests import BacktestResult, Provenance
from koc_qt.domain.figures import FIGURES, GROUPS, Unit
from koc_qt.domain.parity import Absence
from koc_qt.domain.percentages import percentage
from koc_qt.domain.trust import Verdict, utc_text
from koc_qt.reports.report import Report

_WIDE = 240  # columns of output that is no terminal: nothing is cut for a program that reads it
_LINES_SHOWN = 10  # of a strategy's log, the last ones
_DASH = "-"
_COLOURS = {Verdict.GREEN: "green", Verdict.AMBER: "yellow", Verdict.RED: "bold red", Verdict.NONE: ""}


def print_report(report: Report) -> None:
    """Print all of it."""
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _WIDE, highlight=False)
    results = dict(zip(report.labels, report.results, strict=True))
    first = report.results[0]
    _say(console, _heading(first))
    for note in report.notes:
        _say(console, f"Note: {note}.")
    console.print(figures_table(results, report.currency))
    _say_log(console, first)
    certificate = report.certificate
    if certificate is not None:
        _say_verdict(console, "Parity", certificate.verdict, certificate.sentence)
        for absence in certificate.absent:
            _say(console, absence_line(absence))
    for check in report.checks:
        _say_verdict(console, check.title, check.verdict, check.sentence)
    for line in provenance_lines({name: result.provenance for name, result in results.items()}):
        _say(console, line)
    _say(console, f"Again: {report.command}")


def figures_table(results: Mapping[str, BacktestResult], currency: str) -> Table:
    """Give the statistics in groups, a column for each engine."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for name in results:
        table.add_column(name, justify="right", overflow="fold")
    for title, group in GROUPS.items():
        table.add_row(Text(title, style="bold"))
        for name, figure in group.items():
            cells = [figure_text(name, result, currency) for result in results.values()]
            table.add_row(Text(f"  {figure.text}"), *map(Text, cells))
    return table


def figure_text(name: str, result: BacktestResult, currency: str) -> str:
    """Give a statistic as people read it."""
    value = result.statistics.get(name)
    if value is None:
        return _DASH
    match FIGURES[name].unit:
        case Unit.AMOUNT:
            return f"{value:,.{_decimals(result.spec.cash)}f} {currency}"
        case Unit.FRACTION:
            return percentage(value, 2)
        case Unit.COUNT:
            return f"{value:,.0f}"
        case Unit.SECONDS:
            return span(value)
        case _:
            return f"{value:,.3f}"


def absence_line(absence: Absence) -> str:
    """Say why an engine took no part."""
    return absence.sentence[:1].upper() + absence.sentence[1:]


def provenance_lines(found: Mapping[str, Provenance | None]) -> Iterable[str]:
    """Give the hashes: what engines have in common once, what they do not for each."""
    known = {name: each for name, each in found.items() if each is not None}
    for field in ("data", "strategy", "settings", "result"):
        values = {name: getattr(each, field) for name, each in known.items()}
        if len(set(values.values())) == 1:
            yield f"SHA-256 of {field}: {next(iter(values.values()))}"
        else:
            yield from (f"SHA-256 of {field} ({name}): {value}" for name, value in values.items())
    versions = dict.fromkeys(f"{name} {version}" for each in known.values() for name, version in each.versions.items())
    if versions:
        yield f"Made with {', '.join(versions)}"


def _heading(result: BacktestResult) -> str:
    spec = result.spec
    symbols = ", ".join(str(instrument) for instrument in spec.instruments)
    return (
        f"{result.name} on {symbols} {result.timeframe}, {utc_text(spec.since_ns)} to {utc_text(spec.until_ns)}, "
        f"{counted(result.bars, 'bar')}"
    )


def _say_log(console: Console, result: BacktestResult) -> None:
    if result.log:
        more = f", the last {_LINES_SHOWN}" if len(result.log) > _LINES_SHOWN else ""
        _say(console, f"The strategy wrote {counted(len(result.log), 'line')}{more}:")
        for line in result.log[-_LINES_SHOWN:]:
            _say(console, f"  {line}")


def _say_verdict(console: Console, what: str, verdict: Verdict, sentence: str) -> None:
    console.print(Text(f"{what} {verdict}: ", style=_COLOURS[verdict]) + Text(clean(sentence)), soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(Text(clean(text)), soft_wrap=True)


def _decimals(cash: Decimal) -> int:
    """Give how many decimals amounts need beside so much cash: 2 for 10,000 USDT, 5 for 1 BTC."""
    return min(8, max(2, 5 - cash.adjusted()))
