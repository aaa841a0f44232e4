"""The HTML report: one file that loads and runs nothing, whatever a strategy is called or writes."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import msgspec
import pytest

from koc_qt.domain.backtests import RoundTrip
from koc_qt.domain.figures import FIGURES
from koc_qt.domain.trust import Verdict
from koc_qt.reports.charts import equity_chart, excursions_chart, has_own_scale, results_chart
from koc_qt.reports.page import TRADES_SHOWN, to_html
from koc_qt.reports.report import Check, Report, check_of
from tests.unit.reports.examples import BTC, HASH, HOSTILE, START_NS, certificate, report, result

VOID = {"meta", "br", "img", "hr", "input", "link"}


class Page(HTMLParser):
    """A page's tags with their attributes, and its words; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.rows: list[list[str]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(self.words)


def page(shown: Report) -> Page:
    return Page(to_html(shown).decode())


def test_it_shows_all_that_there_is() -> None:
    whole = report()
    shown = page(whole)
    for words in (
        "Cross", "sim:BTC/USDT", "2024-01-01 to 2024-04-30", "Engines agree", "3 bars are missing.", "It needs 50 bars",
        "backtrader: it is <not> installed", "koc backtest /s/cross.py", HASH, "Return of each month", "INFO started",
        "Parameter fast", "at most 10 %", "43 of 43 statistics are the same",
    ):  # fmt: skip
        assert words in shown.text, words
    captions = {row[0] for row in shown.rows}
    assert captions >= {figure.text for figure in FIGURES.values()}
    assert sum(tag == "svg" for tag, _ in shown.tags) == 3


def test_it_loads_and_runs_nothing() -> None:
    shown = page(report())
    assert not {tag for tag, _ in shown.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "a",
        "use",
    }
    for _, attributes in shown.tags:
        assert not any(name.startswith("on") or name in ("src", "href", "xlink:href") for name in attributes)
    html = to_html(report()).decode()
    assert "url(" not in html
    assert set(re.findall(r"https?://[^\"' ]*", html)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in html


def hostile() -> Report:
    made = result(60)
    evil = msgspec.structs.replace(BTC, symbol=HOSTILE)
    spec = msgspec.structs.replace(
        made.spec, path=HOSTILE, instruments=(evil, BTC), timeframe=HOSTILE, parameters={HOSTILE: HOSTILE}
    )
    assert made.provenance is not None
    provenance = msgspec.structs.replace(made.provenance, data=HOSTILE, versions={HOSTILE: HOSTILE})
    trades = [msgspec.structs.replace(trip, instrument=evil) for trip in made.trades]
    made = msgspec.structs.replace(
        made, spec=spec, name=HOSTILE, timeframe=HOSTILE, log=[HOSTILE], trades=trades, provenance=provenance,
        months={f"{HOSTILE}-01": 0.5},
    )  # fmt: skip
    proof = certificate(made)
    proof = msgspec.structs.replace(
        proof, sentence=HOSTILE, absent=(msgspec.structs.replace(proof.absent[0], reason=HOSTILE),)
    )
    return Report((made, made), HOSTILE, HOSTILE, proof, (Check(HOSTILE, Verdict.RED, HOSTILE),), (HOSTILE,), START_NS)


def test_a_strangers_words_stay_words() -> None:
    plain, evil = page(report()), page(hostile())
    assert {tag for tag, _ in evil.tags} <= {tag for tag, _ in plain.tags}
    known = {name for _, attributes in plain.tags for name in attributes}
    assert {name for _, attributes in evil.tags for name in attributes} <= known
    html = to_html(hostile()).decode()
    assert not re.search("[\x00\u202e]", html)
    shown = HOSTILE.replace("\x00", "\ufffd").replace("\u202e", "\ufffd")
    assert evil.text.count(shown) >= 15


def test_a_lone_surrogate_is_no_obstacle() -> None:
    assert b"Cr?ss" in to_html(Report((result(6, name="Cr\ud800ss"),)))


def test_a_run_of_nothing_is_a_page_too() -> None:
    nothing = result(0, benchmark=[], months={}, log=[], provenance=None, trades=[], fills=[], statistics={})
    shown = page(Report((nothing,)))
    assert "It traded nothing." in shown.text
    assert not any(tag == "svg" for tag, _ in shown.tags)


def test_only_the_first_trades_are_listed() -> None:
    made = result(12)
    trades = made.trades[:1] * (TRADES_SHOWN + 1)
    text = page(
        Report((result(12, trades=trades, statistics=made.statistics | {"trades": 12_345.0, "open_trades": 0.0}),))
    ).text
    assert "These are the first 500 of 12,345 trades" in text
    assert "These are the first 500 of 501 trades" in page(Report((result(12, trades=trades, statistics={}),))).text
    assert "These are the first" not in page(Report((made,))).text


def test_what_differs_is_side_by_side() -> None:
    first = result(60)
    other = msgspec.structs.replace(first, statistics=first.statistics | {"trades": 7.0})
    shown = page(Report((first, other)))
    assert ["Closed trades", "9", "7"] in shown.rows
    assert "42 of 43 statistics are the same" in shown.text


def test_months_compound_to_years() -> None:
    rows = page(
        Report((result(6, months={"2023-12": 0.1, "2024-01": 0.1, "2024-02": -0.5, "2024-03": math.nan}),))
    ).rows
    by_year = {row[0]: row for row in rows if row and row[0] in ("2023", "2024")}
    assert (by_year["2023"][12], by_year["2023"][13]) == ("+10.00", "+10.00 %")
    assert by_year["2024"][1:4] == ["+10.00", "-50.00", ""]


def test_a_check_of_the_domain_becomes_one_of_the_report() -> None:
    found = check_of("Parity", certificate(result(12)))
    assert (found.title, found.verdict) == ("Parity", Verdict.GREEN)
    assert {"engines", "comparisons"} <= set(found.details)
    assert not {"verdict", "sentence"} & set(found.details)


# ---- charts ---------------------------------------------------------------------------------------------------------


def numbers(chart: str) -> list[float]:
    """Give every coordinate of a drawing; fails on what is no XML or no number."""
    from xml.etree import ElementTree

    found: list[float] = []
    for element in ElementTree.fromstring(chart).iter():
        for name in ("x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"):
            found += [float(element.attrib[name])] if name in element.attrib else []
        found += [float(text) for text in re.findall(r"-?[\d.]+", element.attrib.get("d", ""))]
    assert all(math.isfinite(value) for value in found)
    return found


@pytest.mark.parametrize("days", [1, 2, 30, 400, 4_000])
def test_equity_lies_within_its_picture(days: int) -> None:
    made = result(days)
    chart = equity_chart(made, 2)
    assert min(numbers(chart)) >= 0
    assert max(numbers(chart)) <= 1_000
    labels = re.findall(r'<text[^>]* text-anchor="(?:end|middle)"[^>]*>([^<>]+)</text>', chart)
    assert len(labels) == len(set(labels)), "each tick has a label of its own"
    assert len(labels) >= 4


@pytest.mark.parametrize(
    ("step_ns", "label"),
    [
        (1_000_000_000, "00:0"), (60_000_000_000, "1 Jan 00:"), (3_600_000_000_000, "2 Jan"),
        (86_400_000_000_000, "Feb 2024"), (30 * 86_400_000_000_000, "2026"), (20 * 365 * 86_400_000_000_000, "2"),
    ],
)  # fmt: skip
def test_times_are_round(step_ns: int, label: str) -> None:
    made = result(99)
    count = 4 if step_ns > 10**17 else 100
    changed = msgspec.structs.replace(
        made, equity_ns=[START_NS + row * step_ns for row in range(count)], equity=made.equity[:count], benchmark=[]
    )
    assert label in equity_chart(changed, 2)


def test_a_curve_that_stands_still_or_is_ruined_is_drawn() -> None:
    for equity in (
        [10_000.0] * 7,
        [100.0, -50.0, -1e9, 3.0, 2.0, 1.0, 0.0],
        [1e-9] * 7,
        [1e12 + row for row in range(7)],
    ):
        assert numbers(equity_chart(result(6, equity=equity, benchmark=[]), 2))


def test_a_benchmark_that_moves_much_further_has_a_scale_of_its_own() -> None:
    quiet = result(60, equity=[10_000.0 + row / 100 for row in range(61)])
    assert has_own_scale(quiet)
    assert not has_own_scale(result(60))
    assert not has_own_scale(result(60, benchmark=[]))
    assert "Buy and hold (scale to the right)" in page(Report((quiet,))).text


def trip(pnl: float, mae: float | None = None, mfe: float | None = None) -> RoundTrip:
    return RoundTrip(BTC, 1.0, START_NS, 100.0, START_NS + 1, 100.0 + pnl, 0.0, pnl, mae, mfe)


def bars(chart: str) -> list[tuple[int, str]]:
    """Give how many trades each bar is of, and which."""
    hints = re.findall(r"<title>([^<]+) of ([^<]+)</title></rect>", chart)
    return [(int(count.replace(",", "")), which) for count, which in hints]


def test_results_are_counted_in_bins_that_part_winners_from_losers() -> None:
    chart = results_chart([trip(5.0), trip(5.0), trip(-5.0), trip(-0.001)])
    numbers(chart)
    assert sorted(count for count, _ in bars(chart)) == [1, 1, 2]
    assert not any("-" in which and "+" in which for _, which in bars(chart))


@pytest.mark.parametrize("pnls", [[0.0], [5.0], [-5.0] * 9, [math.nan, 1.0], [1e-12, -1e-12], [1.0] * 50 + [1e6, -1e6]])
def test_any_results_are_drawn(pnls: list[float]) -> None:
    chart = results_chart([trip(pnl) for pnl in pnls])
    assert numbers(chart)
    assert sum(count for count, _ in bars(chart)) == sum(math.isfinite(pnl) for pnl in pnls)


def test_there_may_be_nothing_to_draw() -> None:
    still_open: list[Any] = [RoundTrip(BTC, 1.0, START_NS, 100.0, None, None, 0.0, 1.0, -1.0, 2.0)]
    assert results_chart([]) == excursions_chart([]) == results_chart(still_open) == excursions_chart(still_open) == ""
    assert excursions_chart([trip(1.0)]) == ""


def test_excursions_are_dots() -> None:
    chart = excursions_chart([trip(5.0, -2.0, 8.0), trip(-5.0, -7.0, 0.0), trip(0.0, 0.0, 0.0)])
    assert chart.count("<circle") == 3
    assert min(numbers(chart)) >= 0
    assert "-2.00 % at worst, 8.00 % at best" in chart
