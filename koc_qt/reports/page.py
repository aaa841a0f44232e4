"""A report as one HTML file: nothing in it is loaded from elsewhere, nothing runs, and it can be printed.

Names, paths, parameters and logs come from strangers: every text goes through `_e`, which escapes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from itertools import groupby

from koc_qt.domain.backtests import BacktestResult, RoundTrip
from koc_qt.domain.figures import FIGURES, GROUPS
from koc_qt.domain.parity import Certificate
from koc_qt.domain.trust import Verdict
from koc_qt.reports import words
from koc_qt.reports.charts import equity_chart, excursions_chart, has_own_scale, results_chart
from koc_qt.reports.report import Check, Report
from koc_qt.reports.style import CSS
from koc_qt.reports.svg import MONTHS
from koc_qt.reports.tables import share_of, side_of
from koc_qt.version import __version__

TRADES_SHOWN = 500
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_TILES = ("return", "cagr", "max_drawdown", "sharpe", "buy_and_hold", "win_rate", "profit_factor", "trades")
_VERDICTS = {Verdict.GREEN: "Passed", Verdict.AMBER: "Read this", Verdict.RED: "Failed", Verdict.NONE: "Not made"}
_PARITY = {
    Verdict.GREEN: "Engines agree",
    Verdict.AMBER: "Engines differ a little",
    Verdict.RED: "Engines differ",
    Verdict.NONE: "One engine alone",
}
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)  # bidi tricks too
_CONVENTIONS = (
    "All times are UTC. Orders placed at a bar's close meet the next bar. Returns are simple and counted from point to "
    "point of the equity curve; ratios are annualised by the number of points a year that the curve itself has, a year "
    "of 365.25 days, with a risk-free rate of 0. What is held at the end is valued at the last close. Buy and hold has "
    "no costs. Past results say little about those to come."
)
Rows = Iterable[Sequence[str]]


def to_html(report: Report) -> bytes:
    """Give a report as a UTF-8 encoded page."""
    result = report.results[0]
    title = _e(f"{result.name}: back-test")
    sections = (
        _header(report),
        _tiles(report),
        _equity(report),
        _months(result.months),
        _statistics(report),
        _trade_charts(result),
        _certificate(report.certificate),
        _checks(report.checks),
        _comparison(report),
        _settings(report),
        _trades(result, words.money_decimals(result.spec.cash)),
        _log(result.log),
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>{title}</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(filter(None, sections))
        + f"\n<footer><p>{_e(_CONVENTIONS)}</p><p>K.O.C. {_e(__version__)}</p></footer>\n</main></body></html>\n"
    )
    return page.encode("utf-8", "replace")


# ---- sections -------------------------------------------------------------------------------------------------------


def _header(report: Report) -> str:
    result = report.results[0]
    spec = result.spec
    symbols = ", ".join(map(str, spec.instruments))
    engines = ", ".join(words.ENGINES[each.spec.engine] for each in report.results)
    span = f"{words.day(spec.since_ns)} to {words.day(spec.until_ns)}"
    made = "" if report.made_ns is None else f"{words.moment(report.made_ns)} UTC"
    notes = "".join(f'<p class="warn">{_e(note)}</p>' for note in report.notes)
    verdict = None if report.certificate is None else report.certificate.verdict
    pill = "" if verdict is None else _pill(verdict, _PARITY[verdict])
    return (
        f'<header><div><div class="brand">K.O.C. back-test</div><h1>{_e(result.name)}</h1>'
        f'<div class="muted">{_e(symbols)} · {_e(result.timeframe)} · {_e(span)} · {result.bars:,} bars</div></div>'
        f'<div class="made">{_e(engines)}<br>{_e(made)}<br>{pill}</div></header>{notes}'
    )


def _tiles(report: Report) -> str:
    result = report.results[0]
    tiles = []
    for name in _TILES:
        text, tone = _figure(name, result, report.currency)
        tiles.append(f'<div class="tile"><span>{_e(FIGURES[name].text)}</span><b class="{tone}">{text}</b></div>')
    return f'<div class="tiles">{"".join(tiles)}</div>'


def _equity(report: Report) -> str:
    result = report.results[0]
    chart = equity_chart(result, words.money_decimals(result.spec.cash))
    if not chart:
        return ""
    currency = f" ({report.currency})" if report.currency else ""
    said = "Buy and hold" + (" (scale to the right)" if has_own_scale(result) else "")
    held = f'<span><i class="other"></i>{said}</span>' if result.benchmark else ""
    return (
        f'<h2>Equity{_e(currency)} and drawdown</h2><div class="key"><span><i></i>Equity</span>{held}'
        f'<span><i class="under"></i>Below the last peak</span></div>{chart}'
    )


def _months(months: Mapping[str, float]) -> str:
    """Give a row a year, each month tinted by its return, and what the months of the year compound to."""
    if not months:
        return ""
    strongest = max((abs(value) for value in months.values() if math.isfinite(value)), default=0.0)
    rows = []
    for year, names in groupby(sorted(months), key=lambda name: name.rpartition("-")[0]):
        of_year = {int(name.rpartition("-")[2]): months[name] for name in names}
        cells = "".join(_month_cell(of_year.get(number), strongest) for number in range(1, 13))
        whole = math.prod(1.0 + value for value in of_year.values()) - 1.0
        text = _e(words.percent(whole, signed=True))
        rows.append(f'<tr><td>{_e(year)}</td>{cells}<td class="{_tone(whole)}">{text}</td></tr>')
    head = "".join(f"<th>{name}</th>" for name in ("", *MONTHS, "Year"))
    return (
        '<h2>Return of each month</h2><div class="wide"><table class="months"><thead>'
        f"<tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
    )


def _month_cell(value: float | None, strongest: float) -> str:
    if value is None or not math.isfinite(value):
        return "<td></td>"
    share = abs(value) / strongest if strongest > 0 else 0.0
    color = "43, 154, 106" if value >= 0 else "212, 85, 93"
    shade = f"background: rgba({color}, {0.07 + 0.5 * share:.2f})"
    return f'<td style="{shade}">{_e(words.number(value * 100, signed=True))}</td>'


def _statistics(report: Report) -> str:
    result = report.results[0]
    sections = []
    for title, figures in GROUPS.items():
        rows = []
        for name, figure in figures.items():
            text, tone = _figure(name, result, report.currency)
            rows.append(
                f'<tr title="{_e(figure.meaning)}"><td>{_e(figure.text)}</td><td class="n {tone}">{text}</td></tr>'
            )
        sections.append(f"<section><h3>{_e(title)}</h3><table><tbody>{''.join(rows)}</tbody></table></section>")
    first, second, third, fourth = sections  # the last one is short and goes below the first
    return f'<h2>Statistics</h2><div class="groups"><div>{first}<br>{fourth}</div>{second}{third}</div>'


def _trade_charts(result: BacktestResult) -> str:
    results, excursions = results_chart(result.trades), excursions_chart(result.trades)
    if not results:
        return ""
    second = f"<div><h3>How far behind and ahead, of what was put in</h3>{excursions}</div>" if excursions else ""
    return f'<h2>Trades</h2><div class="pair"><div><h3>How many came out how</h3>{results}</div>{second}</div>'


def _comparison(report: Report) -> str:
    """Give the statistics in which several results differ side by side."""
    if len(report.results) == 1:
        return ""
    rows = [
        [_e(figure.text), *(_figure(name, result, "")[0] for result in report.results)]
        for name, figure in FIGURES.items()
    ]
    unlike = [row for row in rows if len(set(row[1:])) > 1]
    equal = f"{len(rows) - len(unlike)} of {len(rows)} statistics are the same, as far as they are shown."
    table = _table(["", *map(_e, report.labels)], unlike, numbers_from=1) if unlike else ""
    return f'<h2>Side by side</h2><p class="note">{equal}</p>{table}'


def _certificate(certificate: Certificate | None) -> str:
    if certificate is None:
        return ""
    rows = [
        [
            _e(f"{each.source} against {each.against}"),
            _pill(each.verdict),
            f"{each.fills_equal:,} of {max(each.fills, each.fills_expected):,}",
            f"{each.trades_equal:,} of {max(each.trades, each.trades_expected):,}",
            _e(f"{each.largest:.2g}"),
            _e(each.sentence),
        ]
        for each in certificate.comparisons
    ]
    heads = ["Engines", "", "Equal fills", "Equal trades", "Largest difference", ""]
    absent = "".join(f'<p class="note">{_e(each.source)}: {_e(each.reason)}</p>' for each in certificate.absent)
    table = _table(heads, rows, face="checks") if rows else ""
    return f"<h2>Parity certificate</h2><p>{_pill(certificate.verdict)} {_e(certificate.sentence)}</p>{table}{absent}"


def _checks(checks: Sequence[Check]) -> str:
    if not checks:
        return ""
    rows = [[_e(check.title), _pill(check.verdict), _e(check.sentence)] for check in checks]
    return "<h2>How far to trust it</h2>" + _table(["Check", "", ""], rows, face="checks")


def _settings(report: Report) -> str:
    result = report.results[0]
    rows = [[_e(name), _e(text)] for name, text in words.settings(result)]
    parts = ["<h2>Settings</h2>", _table([], rows, face="facts")]
    for label, each in zip(report.labels, report.results, strict=True):
        made = each.provenance
        if made is not None:
            hashes = [("Data", made.data), ("Strategy", made.strategy), ("Settings", made.settings)]
            lines = [[_e(name), f"<code>{_e(value)}</code>"] for name, value in (*hashes, ("Result", made.result))]
            lines.append(["Versions", _e(", ".join(f"{name} {text}" for name, text in sorted(made.versions.items())))])
            of = f" ({_e(label)})" if len(report.results) > 1 else ""
            parts += [f"<h2>Made from{of}: SHA-256 and versions</h2>", _table([], lines, face="facts")]
    if report.command:
        parts.append(f"<h2>Make it again</h2><pre>{_e(report.command)}</pre>")
        parts.append('<p class="note">The same data, file and settings give the same result, to the last digit.</p>')
    return "".join(parts)


def _trades(result: BacktestResult, decimals: int) -> str:
    if not result.trades:
        return '<h2>List of trades</h2><p class="muted">It traded nothing.</p>'
    has_path = any(trip.mae is not None for trip in result.trades[:TRADES_SHOWN])
    several = len(result.spec.instruments) > 1
    columns: dict[str, Callable[[RoundTrip], str]] = {
        "Side": lambda trip: side_of(trip).capitalize(),
        "Quantity": lambda trip: words.price(abs(trip.quantity)),
        "Entry": lambda trip: words.moment(trip.entry_ns),
        "At": lambda trip: words.price(trip.entry_price),
        "Exit": lambda trip: "Open" if trip.exit_ns is None else words.moment(trip.exit_ns),
        "At ": lambda trip: words.price(trip.exit_price),
        "Fees": lambda trip: words.number(trip.fees, decimals),
        "PnL": lambda trip: words.number(trip.pnl, decimals, signed=True),
        "Return": lambda trip: words.percent(share_of(trip, trip.pnl), signed=True),
    }
    if has_path:
        columns["Worst"] = lambda trip: words.percent(share_of(trip, trip.mae))
        columns["Best"] = lambda trip: words.percent(share_of(trip, trip.mfe))
    heads = ["#", *(["Symbol"] if several else []), *columns]
    rows = [
        [str(row), *([_e(str(trip.instrument))] if several else []), *(_e(show(trip)) for show in columns.values())]
        for row, trip in enumerate(result.trades[:TRADES_SHOWN], 1)
    ]
    tones = [_tone(trip.pnl) for trip in result.trades[:TRADES_SHOWN]]
    return f"<h2>List of trades</h2>{_cut(result)}" + _trade_table(heads, rows, tones)


def _cut(result: BacktestResult) -> str:
    """Say so where not all trades are listed."""
    counts = sum(result.statistics.get(name) or 0.0 for name in ("trades", "open_trades"))
    made = max(int(counts) if math.isfinite(counts) else 0, len(result.trades))
    shown = min(len(result.trades), TRADES_SHOWN)
    if shown == made:
        return ""
    return f'<p class="note">These are the first {shown:,} of {made:,} trades; the statistics count all of them.</p>'


def _trade_table(heads: Sequence[str], rows: Rows, tones: Sequence[str]) -> str:
    words_of = {"#", "Symbol", "Side", "Entry", "Exit"}
    faces = ["" if head in words_of else "n" for head in heads]
    head = "".join(f'<th class="{face}">{_e(name)}</th>' for name, face in zip(heads, faces, strict=True))
    body = []
    for row, tone in zip(rows, tones, strict=True):
        toned = [
            f"{face} {tone}" if name in ("PnL", "Return") else face for name, face in zip(heads, faces, strict=True)
        ]
        cells = "".join(f'<td class="{face}">{cell}</td>' for face, cell in zip(toned, row, strict=True))
        body.append(f"<tr>{cells}</tr>")
    return (
        f'<div class="wide"><table class="trades"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _log(log: Sequence[str]) -> str:
    if not log:
        return ""
    lines = "\n".join(_e(line) for line in log)
    return f"<h2>What the strategy wrote last</h2><pre>{lines}</pre>"


# ---- parts ----------------------------------------------------------------------------------------------------------


def _table(heads: Sequence[str], rows: Rows, *, face: str = "", numbers_from: int | None = None) -> str:
    """Give a table of cells that are escaped already; the columns from `numbers_from` on stand to the right."""

    def cells(tag: str, row: Sequence[str]) -> str:
        right = len(row) if numbers_from is None else numbers_from
        return "".join(f'<{tag} class="{"n" if at >= right else ""}">{cell}</{tag}>' for at, cell in enumerate(row))

    head = f"<thead><tr>{cells('th', heads)}</tr></thead>" if heads else ""
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<div class="wide"><table class="{face}">{head}<tbody>{body}</tbody></table></div>'


def _figure(name: str, result: BacktestResult, currency: str) -> tuple[str, str]:
    """Give a statistic, escaped, and its tone."""
    value = result.statistics.get(name)
    figure = FIGURES[name]
    text = words.figure(name, value, words.money_decimals(result.spec.cash))
    if currency and figure.unit == "amount" and text != words.DASH:
        text = f"{text} {currency}"
    return _e(text), _tone(value) if figure.is_signed else ""


def _tone(value: float | None) -> str:
    if value is None or not math.isfinite(value) or value == 0:
        return ""
    return "gain" if value > 0 else "lost"


def _pill(verdict: Verdict, text: str = "") -> str:
    return f'<span class="pill {verdict.value}">{_e(text or _VERDICTS[verdict])}</span>'


def _e(text: str) -> str:
    """Give a stranger's text as HTML that shows it: nothing in it is markup, turns the line around or is a control."""
    return escape(_UNPRINTABLE.sub("\ufffd", text))
