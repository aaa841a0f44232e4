"""What may be dropped, what is said of the rest, and that it works over every widget."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QEvent, QMimeData, QObject, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDragMoveEvent, QDropEvent, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDockWidget, QLineEdit, QMainWindow, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.drops import LARGEST, MOST_FILES, DropZone, judge_files, read_drop
from tests.fakes.desk import FakeBench


def of_files(*paths: Path | str) -> QMimeData:
    mime = QMimeData()
    mime.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    return mime


def strategy(folder: Path, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text("pass\n")
    return path


def test_strategy_files_are_taken(tmp_path: Path) -> None:
    one, two = strategy(tmp_path), strategy(tmp_path, "stratégie ☃.PY")
    assert read_drop(of_files(one, two, one)).files == (str(one), str(two))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder", "is a folder"),
        ("image.png", "is not a Python file"),
        ("empty.py", "is empty"),
        ("huge.py", "at most 512.0 KB"),
        ("gone.py", "No such file"),
        ("pipe.py", "not an ordinary file"),
    ],
)
def test_what_is_no_strategy_is_refused_with_a_reason(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "image.png").write_bytes(b"png")
    (tmp_path / "empty.py").touch()
    (tmp_path / "huge.py").write_bytes(b" " * (LARGEST + 1))
    os.mkfifo(tmp_path / "pipe.py")
    judged = read_drop(of_files(strategy(tmp_path), tmp_path / name))
    assert judged.files == ()
    assert name in judged.refusal
    assert said in judged.refusal


def test_a_hundred_files_are_too_many(tmp_path: Path) -> None:
    files = [str(strategy(tmp_path, f"s{number}.py")) for number in range(100)]
    assert judge_files(files).refusal == f"Those are 100 files. Drop at most {MOST_FILES} at once."
    assert len(judge_files(files[:MOST_FILES]).files) == MOST_FILES


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    assert "not a name" in judge_files([f"{tmp_path}/a\0b.py"]).refusal
    assert "no file in it" in judge_files([]).refusal


def test_files_of_bars_are_taken_but_not_with_strategies(tmp_path: Path) -> None:
    bars = [strategy(tmp_path, name) for name in ("goog.parquet", "été ☃.CSV", "spy.pq")]
    judged = read_drop(of_files(*bars, bars[0]))
    assert (judged.bars, judged.files) == (tuple(map(str, bars)), ())
    mixed = read_drop(of_files(strategy(tmp_path), *bars))
    assert "Drop the strategy files first" in mixed.refusal
    (tmp_path / "empty.csv").touch()
    (tmp_path / "folder.csv").mkdir()
    for name, said in (
        ("empty.csv", "there are no bars in it"),
        ("folder.csv", "is a folder"),
        ("gone.csv", "No such file"),
        ("notes.txt", "is not a Python file"),
    ):
        judged = read_drop(of_files(bars[0], tmp_path / name))
        assert (judged.bars, judged.files) == ((), ())
        assert said in judged.refusal
    assert "is not a Python file" in judge_files([str(bars[0])]).refusal  # where strategies alone are asked for


def test_what_is_no_file() -> None:
    text, image, address, nothing = QMimeData(), QMimeData(), QMimeData(), QMimeData()
    text.setText("class Mine(Strategy): ...")
    image.setImageData(QImage(2, 2, QImage.Format.Format_RGB32))
    address.setUrls([QUrl("https://example.com/sma_cross.py")])
    for mime, said in ((text, "is text"), (image, "an image"), (address, "an address"), (nothing, "nothing")):
        assert said in read_drop(mime).refusal
        assert "strategy files" in read_drop(mime).refusal


LEFT, NO_KEYS = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier


class Stage:
    """A window with a field, a dock that floats, and what came of drops."""

    def __init__(self, fake: FakeBench) -> None:
        self.window = QMainWindow()
        self.window.resize(500, 400)
        self.window.setCentralWidget(QWidget())
        self.field = QLineEdit(self.window.centralWidget())
        self.dock = QDockWidget("Dock", self.window)
        self.dock.setAcceptDrops(True)
        self.inside = QWidget(self.dock)
        self.dock.setWidget(self.inside)
        self.window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.zone = DropZone(self.window, fake.theme)
        self.window.show()
        self.dropped: list[list[str]] = []
        self.refused: list[str] = []
        self.bars: list[list[str]] = []
        self.zone.dropped.connect(self.dropped.append)
        self.zone.bars_dropped.connect(self.bars.append)
        self.zone.refused.connect(self.refused.append)

    def enter(self, target: QWidget, mime: QMimeData) -> bool:
        event = QDragEnterEvent(place(target), Qt.DropAction.CopyAction, mime, LEFT, NO_KEYS)
        event.ignore()
        tell(target, event)
        return event.isAccepted()

    def drop(self, target: QWidget, mime: QMimeData) -> None:
        tell(target, QDropEvent(QPointF(place(target)), Qt.DropAction.CopyAction, mime, LEFT, NO_KEYS))


def place(target: QWidget) -> QPoint:
    """Give where a widget alone lies, in its window."""
    return target.mapTo(target.window(), QPoint(target.width() // 2, target.height() - 8))


def tell(target: QWidget, event: QEvent) -> None:
    """Tell of a drag as the system does: the window, which passes it on to what lies there."""
    handle = target.window().windowHandle()
    assert handle is not None
    QApplication.sendEvent(handle, event)


@pytest.fixture
def stage(fake: FakeBench) -> Iterator[Stage]:
    stage = Stage(fake)
    yield stage
    shiboken6.delete(stage.window)


def test_files_of_bars_say_where_they_go(stage: Stage, tmp_path: Path) -> None:
    one, two = strategy(tmp_path, "goog.csv"), strategy(tmp_path, "spy.parquet")
    assert stage.enter(stage.inside, of_files(one))
    assert stage.zone.shown == "Drop to back-test on goog.csv"
    stage.drop(stage.inside, of_files(one))
    assert stage.enter(stage.window, of_files(one, two))
    assert stage.zone.shown == "Drop to back-test on 2 files"
    stage.drop(stage.window, of_files(one, two))
    assert stage.bars == [[str(one)], [str(one), str(two)]]
    assert (stage.dropped, stage.refused) == ([], [])


def test_a_file_is_taken_anywhere(stage: Stage, tmp_path: Path) -> None:
    path = strategy(tmp_path)
    stage.dock.setFloating(True)
    for target in (stage.window, stage.field, stage.inside, stage.dock):
        assert stage.enter(target, of_files(path))
        assert stage.zone.shown == "Drop to set up mine.py"
        assert not stage.window.grab().isNull()
        stage.drop(target, of_files(path))
        assert stage.zone.shown == ""
    assert stage.dropped == [[str(path)]] * 4
    assert stage.field.text() == ""


def test_what_is_refused_says_so_while_it_hovers_and_when_it_falls(stage: Stage, tmp_path: Path) -> None:
    stage.enter(stage.inside, of_files(tmp_path))
    assert "is a folder" in stage.zone.shown
    tell(stage.inside, QDragLeaveEvent())
    assert stage.zone.shown == ""
    stage.enter(stage.inside, of_files(tmp_path))
    stage.drop(stage.inside, of_files(tmp_path))
    assert len(stage.refused) == 1
    assert not stage.dropped


def test_a_drag_whose_program_died_leaves_nothing_over_the_window(stage: Stage, tmp_path: Path) -> None:
    stage.enter(stage.inside, of_files(strategy(tmp_path)))
    assert stage.zone.shown
    QTest.mousePress(stage.inside, Qt.MouseButton.LeftButton)
    assert stage.zone.shown == ""
    QTest.mouseRelease(stage.inside, Qt.MouseButton.LeftButton)
    assert not stage.dropped


def test_what_hovered_is_dropped_although_its_program_has_ended_since(stage: Stage, tmp_path: Path) -> None:
    """X11 asks that program for its files again at the drop; what kind of thing it is, is known."""
    path = strategy(tmp_path)
    gone = of_files()
    gone.setData("text/uri-list", b"")
    assert gone.hasUrls()
    stage.enter(stage.inside, gone)
    stage.drop(stage.inside, gone)
    assert "no file in it" in stage.refused[0]
    stage.enter(stage.inside, of_files(path))
    stage.drop(stage.inside, gone)
    assert stage.dropped == [[str(path)]]
    assert len(stage.refused) == 1


def test_a_field_keeps_its_text_drops(stage: Stage) -> None:
    mime = QMimeData()
    mime.setText("BTC/USDT")
    assert stage.enter(stage.field, mime)
    stage.drop(stage.field, mime)
    assert stage.field.text() == "BTC/USDT"
    assert not stage.refused
    assert stage.enter(stage.window, mime)
    stage.drop(stage.window, mime)
    assert "is text" in stage.refused[0]


def test_another_window_is_left_alone(stage: Stage, tmp_path: Path) -> None:
    other = QWidget()
    other.show()
    assert not stage.enter(other, of_files(strategy(tmp_path)))
    assert stage.zone.shown == ""
    shiboken6.delete(other)


def test_a_dock_that_comes_later_takes_files_floating_or_not(stage: Stage, tmp_path: Path, qtbot: QtBot) -> None:
    path = strategy(tmp_path)
    late = QDockWidget("Late", stage.window)
    late.setAcceptDrops(True)
    stage.window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, late)
    for floats in (True, False, True):
        late.setFloating(floats)
        qtbot.waitUntil(late.isVisible)
        assert stage.enter(late, of_files(path))
        assert stage.zone.shown == "Drop to set up mine.py"
        stage.drop(late, of_files(path))
    assert stage.dropped == [[str(path)]] * 3


def test_it_looks_at_no_event_while_nothing_hovers(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[QEvent.Type] = []
    look = DropZone.eventFilter

    def counted(zone: DropZone, watched: QObject, event: QEvent) -> bool:
        seen.append(event.type())
        return look(zone, watched, event)

    monkeypatch.setattr(DropZone, "eventFilter", counted)
    for is_dropped in (True, False, True):
        QTest.keyClicks(stage.field, "BTC")
        QTest.mouseClick(stage.inside, Qt.MouseButton.LeftButton)
        assert seen == []
        stage.enter(stage.inside, of_files(tmp_path))
        assert seen
        if is_dropped:
            stage.drop(stage.inside, of_files(tmp_path))
        else:
            tell(stage.inside, QDragLeaveEvent())
        seen.clear()


def test_a_hover_that_lost_the_zone_is_found_again_at_its_next_move(stage: Stage, tmp_path: Path) -> None:
    mime = of_files(strategy(tmp_path))
    stage.enter(stage.inside, mime)
    QTest.mouseMove(stage.inside)
    assert stage.zone.shown == ""
    tell(stage.inside, QDragMoveEvent(place(stage.inside), Qt.DropAction.CopyAction, mime, LEFT, NO_KEYS))
    assert stage.zone.shown == "Drop to set up mine.py"
