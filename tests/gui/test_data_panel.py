"""The data panel on a fake engine: what is stored, downloads from the form to their end, venues in trouble."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import StreamState, StreamStatus
from koc_qt.domain.state import DownloadSnapshot, JobState, StoredSeries, VenueSnapshot, VenueState
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.link.messages import ListSeries, StartDownload, StopDownload, VenueChanged
from koc_qt.ui.panels.data import LINES_SHOWN, DataPanel
from koc_qt.ui.panels.data_parts import VenueLine
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS

ETH = InstrumentId("sim", "ETH/USDT")
SERIES = [
    StoredSeries(ETH, "1m", START_NS, START_NS + 30 * DAY_NS, 43_200, 460_000),
    StoredSeries(BTC, "1h", START_NS, START_NS + 365 * DAY_NS, 8_760, 120_000),
]


@pytest.fixture
def panel(fake: FakeBench, qtbot: QtBot) -> DataPanel:
    fake.engine.series = list(SERIES)
    panel = DataPanel(fake.bench, fake.window, clock_ns=lambda: START_NS)
    panel.resize(340, 500)
    fake.window.resize(340, 500)
    fake.window.show()
    qtbot.waitUntil(lambda: panel.model.rowCount() == 2)
    return panel


def test_what_is_stored_is_listed_with_totals(panel: DataPanel, fake: FakeBench) -> None:
    assert panel.totals.text() == "2 series  ·  51,960 bars  ·  566.4 KB"
    rows = [[panel.model.index(row, column).data() for column in range(2)] for row in range(2)]
    assert rows == [["BTC/USDT", "1h"], ["ETH/USDT", "1m"]]


def test_an_empty_store_says_what_comes_into_it(fake: FakeBench, qtbot: QtBot) -> None:
    panel = DataPanel(fake.bench, fake.window)
    fake.window.show()
    qtbot.waitUntil(lambda: bool(fake.sent(ListSeries)) and not panel._listing.is_running)
    assert panel.totals.text() == "Stored history"
    assert "Nothing is stored yet" in panel.table._empty
    fake.client.lose()
    assert "when the engine is connected" in panel.table._empty


def test_a_double_click_shows_the_chart(panel: DataPanel, fake: FakeBench) -> None:
    wanted: list[Any] = []
    fake.requests.chart_wanted.connect(lambda *what: wanted.append(what))
    panel.table.opened.emit(SERIES[0])
    panel.table.selectRow(0)
    panel._chart.trigger()
    assert wanted == [(ETH, "1m"), (BTC, "1h")]
    panel._more.trigger()
    assert (panel.form.symbol.instrument(), panel.form.timeframe.currentText()) == (BTC, "1h")
    panel.table.clearSelection()
    assert not panel._chart.isEnabled()


def test_a_list_that_cannot_be_read_is_said_and_read_again(
    panel: DataPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute, answers = fake.engine.execute, list[Any]([KocError("the disk is gone"), [{"odd": 1}]])

    async def answer(command: Any, client_id: str) -> Any:
        if not isinstance(command, ListSeries) or not answers:
            return await execute(command, client_id)
        first = answers.pop(0)
        if isinstance(first, Exception):
            raise first
        return first

    monkeypatch.setattr(fake.engine, "execute", answer)
    for words in ("the disk is gone", "answer cannot be read"):
        panel.refresh.click()
        assert not panel.refresh.isEnabled()
        qtbot.waitUntil(lambda words=words: words in panel.totals.text())
        assert panel.refresh.isEnabled()
    asked = len(fake.sent(ListSeries))
    frames: list[object] = []
    fake.desk.framed.connect(frames.append)
    fake.engine.pulse(uptime_s=99.0)
    qtbot.waitUntil(lambda: bool(frames))
    assert len(fake.sent(ListSeries)) == asked, "what fails is not asked for again with every frame"
    panel.refresh.click()
    qtbot.waitUntil(lambda: panel.totals.text().startswith("2 series"))


def test_a_lost_engine_while_the_list_is_read_leaves_the_button_usable(
    panel: DataPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    fake.client.lose()
    panel.refresh.click()
    qtbot.waitUntil(panel.refresh.isEnabled)
    assert "cannot be read" in panel.totals.text()
    fake.client.connect()
    qtbot.waitUntil(lambda: panel.totals.text().startswith("2 series"))


def test_a_download_runs_from_the_form_to_the_store(panel: DataPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert panel.form.symbol.instrument() == BTC, "what there is first is proposed"
    panel.form.span.choose("7 days")
    assert panel.form.hint.text() == "Up to 10,080 bars; what is stored already is not fetched again."
    panel.form.start.click()
    qtbot.waitUntil(lambda: bool(panel._lines))
    minute_ns = START_NS // (60 * 10**9) * (60 * 10**9)
    assert fake.sent(StartDownload) == [StartDownload(BTC, "1m", minute_ns - 7 * DAY_NS, minute_ns)]
    line = panel._lines["download-1"]
    fake.engine.download("download-1", progress=0.43, bars=4_334)
    qtbot.waitUntil(lambda: line.figures.text() == "43 %  ·  4,334 bars")
    assert line.bar.value() == 430
    assert not line.bar.isHidden()
    before = len(fake.sent(ListSeries))
    fake.engine.series.append(StoredSeries(BTC, "1m", START_NS, START_NS + 1, 10_080, 1))
    fake.engine.download("download-1", state=JobState.DONE, progress=1.0, bars=10_080)
    qtbot.waitUntil(lambda: panel.model.rowCount() == 3)
    assert len(fake.sent(ListSeries)) == before + 1
    assert line.figures.text() == "Done  ·  10,080 bars"
    assert line.bar.isHidden()
    line.button.click()
    assert panel._lines == {}


def test_a_download_is_stopped_and_says_why_it_failed(panel: DataPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.form.start.click()
    qtbot.waitUntil(lambda: "download-1" in panel._lines)
    panel._lines["download-1"].button.click()
    qtbot.waitUntil(lambda: panel._lines["download-1"].figures.text() == "Stopped  ·  0 bars")
    assert fake.sent(StopDownload) == [StopDownload("download-1")]
    panel.form.start.click()
    qtbot.waitUntil(lambda: "download-2" in panel._lines)
    fake.engine.download("download-2", state=JobState.FAILED, reason="429 too many requests", bars=1)
    line = panel._lines["download-2"]
    qtbot.waitUntil(lambda: line.reason.text() == "429 too many requests")
    assert line.figures.text() == "Failed  ·  1 bar"
    assert not line.reason.isHidden()


def test_a_refusal_is_said_at_the_form_until_it_is_edited(
    panel: DataPanel, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = fake.engine.execute

    async def refuse(command: Any, client_id: str) -> Any:
        if isinstance(command, StartDownload):
            raise KocError("32 downloads are under way already")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    panel.form.start.click()
    qtbot.waitUntil(lambda: panel.form.hint.text() == "32 downloads are under way already")
    panel.form.timeframe.setEditText("5m")
    assert "Up to" in panel.form.hint.text()


def test_what_makes_no_sense_cannot_be_started(panel: DataPanel, fake: FakeBench) -> None:
    form = panel.form
    form.timeframe.setEditText("5x")
    assert "such as 5m" in form.timeframe_field.problem
    assert not form.start.isEnabled()
    form.timeframe.setEditText("1d")
    assert form.start.isEnabled()
    form.span.choose("From, to")
    form.span.since.setDateTime(form.span.until.dateTime())
    assert "must end after it begins" in form.span_field.problem
    assert not form.start.isEnabled()
    form.span.choose("30 days")
    assert form.span_field.problem == ""
    form.symbol.set_text("")
    assert form.hint.text() == "Choose a symbol."
    assert not form.start.isEnabled()
    fake.client.lose()
    assert form.hint.text() == "There is no connection to the engine."


def test_a_range_that_reaches_into_the_future_ends_now(panel: DataPanel) -> None:
    form = panel.form
    form.span.choose("From, to")
    form.span.until.setDateTime(form.span.until.maximumDateTime())
    command = form.command()
    assert command is not None
    assert command.until_ns == START_NS


def test_the_form_follows_what_is_looked_at(panel: DataPanel, fake: FakeBench) -> None:
    fake.requests.instrument_chosen.emit(ETH)
    assert panel.form.symbol.instrument() == ETH
    assert panel.form.start.isEnabled()


def test_only_so_many_downloads_are_listed_those_under_way_first(
    panel: DataPanel, fake: FakeBench, qtbot: QtBot
) -> None:
    for number in range(12):
        key = f"d{number}"
        state = JobState.RUNNING if number == 2 else JobState.DONE
        fake.engine.downloads[key] = DownloadSnapshot(key, BTC, "1m", 0, 1, state, "", 1.0, number, START_NS)
        fake.engine.download(key)
    qtbot.waitUntil(lambda: panel.more.text() == f"and {12 - LINES_SHOWN} more")
    widgets = [panel._downloads.itemAt(place).widget() for place in range(panel._downloads.count())]
    assert [line.download.download_id for line in widgets] == ["d2", "d11", "d10", "d9", "d8", "d7", "d6", "d5"]
    panel._lines["d11"].button.click()
    assert panel.more.text() == "and 3 more"
    assert "d4" in panel._lines


def test_what_happens_while_nobody_looks_is_caught_up(panel: DataPanel, fake: FakeBench, qtbot: QtBot) -> None:
    fake.window.hide()
    asked = len(fake.sent(ListSeries))
    fake.engine.downloads["d1"] = DownloadSnapshot("d1", BTC, "1m", 0, 1, JobState.DONE, "", 1.0, 5, START_NS)
    fake.engine.series.pop()
    frames: list[object] = []
    fake.desk.framed.connect(frames.append)
    fake.engine.download("d1")
    qtbot.waitUntil(lambda: bool(frames))
    assert panel._lines == {}
    assert len(fake.sent(ListSeries)) == asked
    fake.window.show()
    assert "d1" in panel._lines
    qtbot.waitUntil(lambda: panel.model.rowCount() == 1)


@pytest.mark.parametrize(
    ("venue", "streams", "pill", "words"),
    [
        (VenueSnapshot("sim", VenueState.CONNECTED, "", 1, "closed", 0), [], "Connected", ""),
        (
            VenueSnapshot("sim", VenueState.INTERRUPTED, "reset by peer", 2, "open", 0),
            [],
            "Interrupted",
            "reset by peer; left alone for a while after failures",
        ),
        (
            VenueSnapshot("sim", VenueState.CONNECTED, "", 2, "closed", 0),
            [
                StreamStatus(BTC, 0, StreamState.INTERRUPTED, "late"),
                StreamStatus(ETH, 0, StreamState.CONNECTED),
                *(StreamStatus(InstrumentId("sim", f"X{n}"), 0, StreamState.ENDED) for n in range(4)),
            ],
            "Connected",
            "BTC/USDT interrupted (late); X0 ended; X1 ended; 2 more",
        ),
        (
            VenueSnapshot("sim", VenueState.CONNECTED, "", 2, "closed", 0),
            [
                StreamStatus(BTC, 0, StreamState.CONNECTED),
                StreamStatus(ETH, 0, StreamState.CONNECTED, "delayed by 15 minutes"),
            ],
            "Connected",
            "ETH/USDT delayed by 15 minutes",
        ),
    ],
)
def test_a_venue_says_what_is_wrong(
    fake: FakeBench, venue: VenueSnapshot, streams: list[StreamStatus], pill: str, words: str
) -> None:
    line = VenueLine(fake.window)
    line.show_venue(venue, streams)
    assert line.pill.text() == pill
    assert line.words.text() == words
    assert line.words.isHidden() == (not words)


def test_venues_come_and_go(panel: DataPanel, fake: FakeBench, qtbot: QtBot) -> None:
    assert list(panel._venue_lines) == ["sim"]
    fake.desk.take(VenueChanged(VenueSnapshot("binance", VenueState.CONNECTING, "", 0, "closed", 0)))
    qtbot.waitUntil(lambda: list(panel._venue_lines) == ["sim", "binance"])
    fake.engine.stream(StreamState.INTERRUPTED, "no data for 30 s")
    qtbot.waitUntil(lambda: "no data for 30 s" in panel._venue_lines["sim"].words.text())
    fake.client.lose()
    fake.client.connect()
    qtbot.waitUntil(lambda: list(panel._venue_lines) == ["sim"])


def test_what_was_asked_for_is_remembered(panel: DataPanel, fake: FakeBench, qtbot: QtBot) -> None:
    panel.form.propose(ETH)
    panel.form.timeframe.setEditText("15m")
    panel.form.span.choose("90 days")
    other = DataPanel(fake.bench, fake.window, clock_ns=lambda: START_NS)
    other.restore(panel.state())
    assert other.form.command() == panel.form.command()
    for nonsense in ({"form": 3, "columns": []}, {"form": {"symbol": ":", "timeframe": 5, "span": "x"}}):
        other.restore(nonsense)
        assert other.form.command() == panel.form.command()


async def _never(_command: Any, _client_id: str) -> None:
    await asyncio.Event().wait()


def test_the_end_of_the_panel_ends_what_it_asked(
    fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake.engine, "execute", _never)
    panel = DataPanel(fake.bench, fake.window)
    fake.window.show()
    qtbot.waitUntil(lambda: panel._listing.is_running)
    panel.deleteLater()
    qtbot.waitUntil(lambda: not fake.desk._tasks)


def test_nothing_reaches_a_panel_that_is_half_made(fake: FakeBench, qtbot: QtBot) -> None:
    panel = DataPanel(replace(fake.bench, in_steps=True), fake.window, clock_ns=lambda: START_NS)
    fake.window.show()
    while panel.make_part():
        fake.requests.instrument_chosen.emit(ETH)
        fake.engine.stream(StreamState.INTERRUPTED, "no data for 30 s")
        with qtbot.waitSignal(fake.desk.framed):
            fake.client.lose()
            fake.client.connect()
    assert list(panel._venue_lines) == ["sim"]
    qtbot.waitUntil(lambda: not panel._listing.is_running)
    fake.requests.instrument_chosen.emit(ETH)
    assert panel.form.symbol.instrument() == ETH
    assert panel.form.command() is not None


def test_what_is_said_of_no_history_has_room_in_a_dock_as_it_is_at_first(panel: DataPanel, fake: FakeBench) -> None:
    panel.resize(500, 600)
    panel.show()
    panel.table.set_empty_text("Nothing is stored yet. What charts and back-tests fetch is kept here too.")
    panel.resize(358, 310)
    assert panel.table.viewport().height() >= 2 * panel.table.fontMetrics().lineSpacing()
