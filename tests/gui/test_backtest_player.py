"""A run bar by bar: what is shown at which moment, the speed, jumps, bars that come in pages, and faults."""

from __future__ import annotations

from decimal import Decimal

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from koc_qt.domain.backtests import BacktestResult, BacktestSpec, RoundTrip
from koc_qt.domain.errors import KocError
from koc_qt.domain.market import Bar, Side
from koc_qt.domain.orders import Fill, Liquidity
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.link.messages import Command, FetchBars
from koc_qt.ui.backtests.playback import SPEEDS, Playback
from koc_qt.ui.backtests.player import PAGE_BARS, PlayerPage
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC, START_NS
from tests.gui.backtest_stage import ETH, FILE, result

MINUTE_NS = 60 * SECOND_NS
COUNT = 5_000


class Clock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self) -> None:
        self.now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def at_ns(bar: int) -> int:
    return START_NS + bar * MINUTE_NS


def fill(bar: int, side: Side) -> Fill:
    key = f"{bar}-{side}"
    price, size, fee = Decimal(100), Decimal("0.5"), Decimal("0.1")
    return Fill(key, key, "sma", "paper", BTC, side, price, size, fee, "USDT", Liquidity.TAKER, at_ns(bar))


def made(count: int = COUNT) -> BacktestResult:
    spec = BacktestSpec(FILE, (BTC, ETH), "1m", START_NS, at_ns(count))
    trips = [
        RoundTrip(BTC, 0.5, at_ns(10), 100.0, at_ns(20), 101.0, 0.2, 0.3),
        RoundTrip(BTC, -0.5, at_ns(4_000), 100.0, None, None, 0.1, -1.0),
        RoundTrip(ETH, 1.0, at_ns(12), 10.0, at_ns(14), 11.0, 0.1, 1.0),
    ]
    fills = [fill(20, Side.SELL), fill(10, Side.BUY), fill(4_000, Side.SELL)]
    times = [at_ns(bar) for bar in range(0, count + 1, 10)]
    equity = [10_000.0 + number for number in range(len(times))]
    return result(spec, timeframe="1m", trades=trips, fills=fills, equity_ns=times, equity=equity, benchmark=[])


def bars(count: int = COUNT) -> list[Bar]:
    return [Bar(BTC, "1m", at_ns(n), 100.0, 102.0 + n % 3, 98.0, 100.0 + n % 5, 1.0) for n in range(-50, count + 50)]


@pytest.fixture
def clock() -> Clock:
    """Give a clock that tests move on."""
    return Clock()


@pytest.fixture
def page(fake: FakeBench, clock: Clock, qtbot: QtBot) -> PlayerPage:
    """Give a page with a run whose first bars are there."""
    fake.engine.bars = bars()
    page = PlayerPage(fake.bench, fake.window, clock_ns=clock)
    fake.window.resize(700, 400)
    page.resize(700, 400)
    fake.window.show()
    page.show_run(made())
    qtbot.waitUntil(lambda: page.playback is not None and len(page.playback.bars) >= PAGE_BARS)
    return page


def shown(page: PlayerPage) -> int:
    assert page.playback is not None
    assert page.chart.bar_count == page.playback.shown
    return page.playback.shown


# ---- without widgets ------------------------------------------------------------------------------------------------


def test_bars_outside_the_run_and_known_ones_are_left_out() -> None:
    playback = Playback(made(), BTC)
    rows = [(at_ns(bar), 1.0, 2.0, 0.5, 1.5, 1.0) for bar in range(-2, 3)]
    assert playback.add(rows) == 3
    assert playback.add(rows) == 0
    assert playback.add([(at_ns(COUNT), 1.0, 2.0, 0.5, 1.5, 1.0)]) == 0
    assert len(playback.bars) == 3


def test_fractions_of_bars_are_carried_on_and_there_are_no_more_than_there_are() -> None:
    playback = Playback(made(), BTC)
    playback.add([(at_ns(bar), 1.0, 2.0, 0.5, 1.5, 1.0) for bar in range(100)])
    playback.speed = 10
    assert [playback.due(SECOND_NS // 40) for _ in range(8)] == [0, 0, 0, 1, 0, 0, 0, 1]
    playback.speed = 500
    assert playback.due(SECOND_NS) == 100
    playback.shown = 100
    assert playback.is_at_end
    assert playback.due(SECOND_NS) == 0


@pytest.mark.parametrize(
    ("price", "decimals"), [(1.08432, 5), (43_210.12, 2), (53.32270908, 4), (0.00012345, 8), (2.5e-11, 8), (7.0, 2)]
)
def test_prices_of_a_file_have_the_digits_that_they_have(price: float, decimals: int) -> None:
    playback = Playback(made(), BTC)
    playback.add([(at_ns(bar), price, price, price, price, 1.0) for bar in range(3)])
    assert playback.decimals() == decimals


def test_what_is_open_is_worth_what_the_last_close_says() -> None:
    playback = Playback(made(), BTC)
    playback.add([(at_ns(bar), 100.0, 110.0, 90.0, 104.0, 1.0) for bar in range(40)])
    assert playback.trip_now() is None
    playback.shown = 10  # the entry is at the open of the bar after it
    assert playback.trip_now() is None
    assert playback.next_entry_ns() == at_ns(10)
    playback.shown = 12
    trip = playback.trip_now()
    assert trip is not None
    assert (trip.exit_ns, trip.pnl) == (None, 2.0)
    playback.shown = 25
    assert playback.trip_now() == made().trades[0]
    playback.shown = 40
    assert playback.trip_now() is None
    assert playback.next_entry_ns() == at_ns(4_000)


# ---- with widgets ---------------------------------------------------------------------------------------------------


def test_it_begins_with_the_first_bar_and_goes_on_by_itself(page: PlayerPage, clock: Clock) -> None:
    assert shown(page) == 1
    assert page.chart.first_time_ns == at_ns(0)
    page.toggle()
    assert page.is_playing
    clock.now_ns += SECOND_NS // 10
    page.tick()
    assert shown(page) == 2  # ten a second
    page.speed.setCurrentIndex(SPEEDS.index(500))
    clock.now_ns += 40_000_000
    page.tick()
    assert shown(page) == 22
    assert [marker.side for marker in page.chart.markers] == [Side.BUY, Side.SELL]
    clock.now_ns += 60 * SECOND_NS  # the window was held up
    page.tick()  # equity, in a turn of its own
    assert shown(page) == 22
    page.tick()
    assert shown(page) == 147
    page.equity.hide()  # where there is no room for it, it takes no turn
    clock.now_ns += SECOND_NS
    page.tick()
    assert shown(page) == 272
    page.equity.show()
    page.toggle()
    assert not page.is_playing


def test_equity_and_moment_are_those_of_the_bar(page: PlayerPage) -> None:
    page.seek(at_ns(99))
    assert shown(page) == 100
    assert page.worth.text() == "10,010.00  +0.10 %"
    assert page.worth.property("tone") == "profit"
    assert "bar 100" in page.moment.whole
    assert page.equity.panes[0].curves[0].times_ns[-1] == at_ns(100)
    page.step_on()
    assert shown(page) == 101
    page.seek(None)
    assert shown(page) == 1
    assert page.chart.markers == ()


def test_the_next_trade_is_gone_to_though_its_bars_are_not_there_yet(page: PlayerPage, qtbot: QtBot) -> None:
    page.to_next_trade()
    assert shown(page) == 11
    assert page.chart._scene.trips.chosen is not None
    page.to_next_trade()
    qtbot.waitUntil(lambda: shown(page) == 4_001)
    assert len(page.chart.markers) == 3
    assert not page.next_trade.isEnabled()
    page.seek(at_ns(COUNT + 5))
    qtbot.waitUntil(lambda: shown(page) == COUNT)
    assert not page.step.isEnabled()
    assert "of 5,000" in page.moment.whole
    page.toggle()  # at the end it begins anew
    assert shown(page) == 1
    page.pause()


def test_keys_do_what_buttons_do(page: PlayerPage, fake: FakeBench, qtbot: QtBot) -> None:
    fake.window.activateWindow()
    page.play.setFocus()
    qtbot.waitUntil(page.play.hasFocus)
    QTest.keyClick(page.play, Qt.Key.Key_S)
    assert shown(page) == 2
    QTest.keyClick(page.play, Qt.Key.Key_N)
    assert shown(page) == 11
    before = page.speed.currentIndex()
    QTest.keyClick(page.play, Qt.Key.Key_Plus)
    assert page.speed.currentIndex() == before + 1
    QTest.keyClick(page.play, Qt.Key.Key_Minus)
    assert page.speed.currentIndex() == before
    QTest.keyClick(page.play, Qt.Key.Key_Space)
    assert page.is_playing
    page.hide()
    assert not page.is_playing  # not behind anybody's back


def test_the_slider_goes_anywhere(page: PlayerPage, qtbot: QtBot) -> None:
    page.place.sliderMoved.emit(500)
    qtbot.waitUntil(lambda: shown(page) == 2_501)
    assert page.place.value() in (500, 501)


def test_another_symbol_of_the_run(page: PlayerPage, fake: FakeBench, qtbot: QtBot) -> None:
    assert page.symbols.isVisibleTo(page)
    page.symbols.setCurrentIndex(1)
    page.symbols.activated.emit(1)
    assert page.playback is not None
    assert page.playback.instrument == ETH
    qtbot.waitUntil(lambda: "no bars" in page.chart._empty_text)
    assert not page.play.isEnabled()
    assert page.chart.bar_count == 0


def test_stretches_without_bars_are_passed_over(fake: FakeBench, qtbot: QtBot) -> None:
    fake.engine.bars = [bar for bar in bars() if not at_ns(100) <= bar.open_time_ns < at_ns(4_500)]
    page = PlayerPage(fake.bench, fake.window)
    fake.window.show()
    page.show_run(made())
    qtbot.waitUntil(lambda: page._is_whole)
    assert page.playback is not None
    assert len(page.playback.bars) == 600
    page.stop()


def test_bars_that_do_not_come_are_said(fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = fake.engine.execute

    async def refuse(command: Command, client_id: str) -> object:
        if isinstance(command, FetchBars):
            raise KocError("the venue is out of reach")
        return await execute(command, client_id)

    monkeypatch.setattr(fake.engine, "execute", refuse)
    page = PlayerPage(fake.bench, fake.window)
    fake.window.show()
    page.show_run(made())
    qtbot.waitUntil(lambda: "out of reach" in page.chart._empty_text)
    page.toggle()
    assert not page.is_playing


def test_small_rooms_and_themes(page: PlayerPage, fake: FakeBench) -> None:
    for width, height in ((240, 150), (420, 260), (1200, 800)):
        fake.window.resize(width, height)
        page.resize(width, height)
        assert not page.grab().isNull()
        assert page.equity.isVisibleTo(page) is (height >= 230)
    fake.theme.set_choice(ThemeChoice.LIGHT)
    assert not page.grab().isNull()
