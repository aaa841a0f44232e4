"""The mascot: its sheet, its frames in time, and that it rests when it should."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QDockWidget, QMainWindow, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.mascot.moods import Mood, MoodInputs
from koc_qt.ui.mascot.sprite import Sprite, load_sprite
from koc_qt.ui.mascot.widget import MascotWidget
from koc_qt.ui.panels.mascot import MascotPanel
from koc_qt.ui.resources import resource
from tests.fakes.desk import FakeBench
from tests.fakes.link import strategy_snapshot


@pytest.fixture(scope="module")
def sprite(qapp: QApplication) -> Sprite:
    return load_sprite()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a copy of the sheet, to be spoilt."""
    for name in ("sheet.json", "sheet.png"):
        shutil.copy(resource("mascot") / name, tmp_path / name)
    return tmp_path


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mascot(qtbot: QtBot, sprite: Sprite, clock: Clock) -> MascotWidget:
    widget = MascotWidget(sprite, clock=clock)
    qtbot.addWidget(widget)
    widget.resize(240, 280)
    with qtbot.waitExposed(widget):
        widget.show()
    return widget


def test_every_mood_has_frames_that_show_something(sprite: Sprite) -> None:
    assert sprite.problem == ""
    for mood in Mood:
        frames = sprite.frames(mood)
        assert 8 <= len({frame.cell for frame in frames}) <= 16, mood
        assert all(20 <= frame.duration_ms <= 1000 for frame in frames)
        still = sprite.still(mood)
        assert still is not None
        assert still.cell in {frame.cell for frame in frames}


def test_no_cell_is_cut_at_its_edges(sprite: Sprite) -> None:
    for mood in Mood:
        for cell in {frame.cell for frame in sprite.frames(mood)}:
            image = sprite.image(cell).convertToFormat(QImage.Format.Format_ARGB32)
            last = image.width() - 1
            assert image.pixelColor(image.width() // 2, int(image.height() * 0.8)).alpha() == 255
            sides = [image.pixelColor(x, y).alpha() for x in (0, last) for y in range(0, last, 2)]
            assert max(sides) < 200, (mood, cell)


def test_the_sheet_stays_small() -> None:
    assert (resource("mascot") / "sheet.png").stat().st_size < 500_000


def test_there_is_no_cell_beyond_the_last(sprite: Sprite) -> None:
    with pytest.raises(IndexError, match="999"):
        sprite.image(999)


def no_file(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def bytes_in(name: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / name).write_bytes(content) and None


def changed(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        plan = json.loads((folder / "sheet.json").read_text())
        (folder / "sheet.json").write_text(json.dumps(plan | values))

    return spoil


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (no_file("sheet.json"), "cannot be read"),
        (no_file("sheet.png"), "cannot be read"),
        (bytes_in("sheet.json", b"{"), "is wrong"),
        (bytes_in("sheet.json", b"\xff\xfe"), "is wrong"),
        (bytes_in("sheet.png", b"no picture"), "not a picture"),
        (bytes_in("sheet.png", b"x" * 4_000_001), "not a picture"),
        (changed(cell=900), "smaller than"),
        (changed(cells=3), "only 3"),
        (changed(cell=-1), "is wrong"),
        (changed(moods={}), "lacks the moods idle"),
    ],
)
def test_a_bad_sheet_is_named_and_replaced_by_a_sign(
    folder: Path, qtbot: QtBot, expected_warnings: list[str], spoil: Callable[[Path], None], told: str
) -> None:
    spoil(folder)
    broken = load_sprite(folder)
    assert told in broken.problem
    assert broken.image(0).isNull()
    widget = MascotWidget(broken)
    qtbot.addWidget(widget)
    with qtbot.waitExposed(widget):
        widget.show()
    widget.observe(MoodInputs(halted=True))
    assert widget.caption == "Alarmed: kill switch engaged"
    assert not widget.is_moving
    assert any("still sign" in line for line in expected_warnings)
    picture = widget.grab().toImage()
    colors = {picture.pixel(x, y) for x in range(0, picture.width(), 2) for y in range(0, 120, 2)}
    assert len(colors) > 1


def test_frames_follow_each_other_while_it_is_seen(mascot: MascotWidget, qtbot: QtBot) -> None:
    mascot.set_mood(Mood.DANCE)
    assert mascot.is_moving
    first = mascot.grab().toImage()
    qtbot.waitUntil(lambda: mascot.grab().toImage() != first)


def test_rests_while_hidden(mascot: MascotWidget, qtbot: QtBot) -> None:
    mascot.hide()
    assert not mascot.is_moving
    mascot.observe(MoodInputs(halted=True))
    assert not mascot.is_moving
    mascot.show()
    assert mascot.is_moving
    assert mascot.mood is Mood.ALARMED


def test_rests_behind_another_tab_and_while_minimised(sprite: Sprite, qtbot: QtBot) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    docks = []
    for title in ("Mascot", "Log"):
        dock = QDockWidget(title, window)
        window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, dock)
        docks.append(dock)
    mascot = MascotWidget(sprite, docks[0])
    docks[0].setWidget(mascot)
    docks[1].setWidget(QWidget(docks[1]))
    window.tabifyDockWidget(*docks)
    docks[0].raise_()
    with qtbot.waitExposed(window):
        window.show()
    qtbot.waitUntil(lambda: mascot.is_moving)
    docks[1].raise_()
    qtbot.waitUntil(lambda: not mascot.is_moving)
    docks[0].raise_()
    qtbot.waitUntil(lambda: mascot.is_moving)
    window.showMinimized()
    qtbot.waitUntil(lambda: not mascot.is_moving)
    window.showNormal()
    qtbot.waitUntil(lambda: mascot.is_moving)


def test_a_still_picture_stands_for_each_mood_without_motion(mascot: MascotWidget, qtbot: QtBot) -> None:
    with qtbot.waitSignal(mascot.motion_toggled) as told:
        mascot.motion_box.click()
    assert told.args == [False]
    assert not mascot.motion
    pictures = []
    for mood in Mood:
        mascot.set_mood(mood)
        assert not mascot.is_moving
        pictures.append(mascot.grab().toImage())
    assert all(one != other for at, one in enumerate(pictures) for other in pictures[:at])
    mascot.set_motion(True)
    assert mascot.is_moving


def test_the_button_dances_and_stops(mascot: MascotWidget) -> None:
    assert mascot.dance_button.text() == "Dance"
    mascot.dance_button.click()
    assert mascot.mood is Mood.DANCE
    assert mascot.dance_button.text() == "Stop"
    mascot.observe(MoodInputs(running=1))
    assert mascot.mood is Mood.DANCE
    mascot.dance_button.click()
    assert mascot.mood is Mood.IDLE
    assert mascot.dance_button.text() == "Dance"


def test_an_alarm_is_not_danced_over(mascot: MascotWidget) -> None:
    mascot.dance_button.click()
    mascot.observe(MoodInputs(lost=True))
    assert mascot.mood is Mood.ALARMED
    assert mascot.caption == "Alarmed: engine lost"
    assert mascot.dance_button.text() == "Stop"


def test_a_reaction_ends_by_itself(mascot: MascotWidget, clock: Clock, qtbot: QtBot) -> None:
    mascot.observe(MoodInputs(running=1, pnl=Decimal(0)))
    mascot.observe(MoodInputs(running=1, pnl=Decimal(-500)))
    assert mascot.mood is Mood.SAD
    assert mascot.caption == "Sad: profit fell by 500.00"
    mascot.hide()
    clock.now_s += 8.0
    mascot.show()
    assert mascot.mood is Mood.IDLE
    clock.now_s += 60.0
    mascot.observe(MoodInputs(running=1, pnl=Decimal(-500)))
    mascot.observe(MoodInputs(running=1, pnl=Decimal(500)))
    assert mascot.mood is Mood.DANCE
    clock.now_s += 7.95
    mascot.hide()
    mascot.show()
    assert mascot.mood is Mood.DANCE
    clock.now_s += 0.1
    qtbot.waitUntil(lambda: mascot.mood is Mood.IDLE)


def test_can_be_sent_away(mascot: MascotWidget, qtbot: QtBot) -> None:
    with qtbot.waitSignal(mascot.hide_wanted):
        mascot.hide_button.click()


@pytest.mark.parametrize(("width", "height"), [(90, 120), (1200, 200), (150, 900), (1600, 1000)])
def test_any_size_is_painted(mascot: MascotWidget, width: int, height: int) -> None:
    mascot.resize(width, height)
    assert not mascot.grab().isNull()


def test_it_is_painted_on_the_background_of_the_present_theme(mascot: MascotWidget, qapp: QApplication) -> None:
    mascot.set_motion(False)
    palette = mascot.palette()
    palette.setColor(palette.ColorRole.Window, Qt.GlobalColor.magenta)
    mascot.setPalette(palette)
    QApplication.sendPostedEvents(None, QEvent.Type.PaletteChange.value)
    picture = mascot.grab().toImage()
    assert picture.pixelColor(mascot.width() // 2, 12).name() == "#ff00ff"


def test_its_panel_tells_it_with_the_frame_that_brings_the_news(fake: FakeBench, qtbot: QtBot) -> None:
    panel = MascotPanel(fake.bench, fake.window)
    moods: list[Mood] = []
    fake.desk.framed.connect(lambda _frame: moods.append(panel.mascot.mood))
    news = [
        (lambda: fake.engine.show(strategy_snapshot(pid=None)), Mood.ASLEEP),
        (lambda: fake.engine.show(strategy_snapshot(pid=4711)), Mood.IDLE),
        (lambda: fake.engine.pulse(kill_switch=True), Mood.ALARMED),
        (lambda: fake.engine.pulse(kill_switch=False), Mood.IDLE),
    ]
    for tell, mood in news:
        moods.clear()
        tell()
        qtbot.waitUntil(lambda: len(moods) == 1)
        assert moods == [mood]
    fake.client.lose()
    assert panel.mascot.mood is Mood.ALARMED


def test_it_works_along_while_the_window_does(qtbot: QtBot, fake: FakeBench) -> None:
    panel = MascotPanel(fake.bench)
    qtbot.addWidget(panel)
    work = fake.bench.work
    work.begin("Building for Ubuntu", lambda: None)
    assert (panel.mascot.mood, panel.mascot.caption) == (Mood.WORKING, "Working: building for Ubuntu")
    work.end(is_good=False)
    assert panel.mascot.mood is Mood.ASLEEP
    work.begin("Building for Windows", lambda: None)
    work.end(is_good=True)
    assert (panel.mascot.mood, panel.mascot.caption) == (Mood.CHEER, "Cheering: the work is done")
