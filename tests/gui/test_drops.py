"""What may be dropped, what is said of the rest, and that it works over every widget."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QDockWidget, QLineEdit, QMainWindow, QWidget

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
    assert judge_files(files).refusal == f"Those are 100 files. Drop at most {MOST_FILES} strategy files at once."
    assert len(judge_files(files[:MOST_FILES]).files) == MOST_FILES


def test_a_name_that_no_file_has(tmp_path: Path) -> None:
    assert "not a name" in judge_files([f"{tmp_path}/a\0b.py"]).refusal
    assert "no file in it" in judge_files([]).refusal


def test_what_is_no_file() -> None:
    text, image, address, nothing = QMimeData(), QMimeData(), QMimeData(), QMimeData()
    text.setText("class Mine(Strategy): ...")
    image.setImageData(QImage(2, 2, QImage.Format.Format_RGB32))
    address.setUrls([QUrl("https://example.com/sma_cross.py")])
    for mime, said in ((text, "is text"), (image, "an image"), (address, "an address"), (nothing, "nothing")):
        assert said in read_drop(mime).refusal
        assert "strategy files" in read_drop(mime).refusal


class Stage:
    """A window with a field, a dock that floats, and what came of drops."""

    def __init__(self, fake: FakeBench) -> None:
        self.window = QMainWindow()
        self.window.resize(500, 400)
        self.field = QLineEdit(self.window)
        self.dock = QDockWidget("Dock", self.window)
        self.dock.setAcceptDrops(True)
        self.inside = QWidget(self.dock)
        self.dock.setWidget(self.inside)
        self.window.addDockWidget(Qt.DockWidgetArea.RightDockWidgetArea, self.dock)
        self.zone = DropZone(self.window, fake.theme)
        self.window.show()
        self.dropped: list[list[str]] = []
        self.refused: list[str] = []
        self.zone.dropped.connect(self.dropped.append)
        self.zone.refused.connect(self.refused.append)

    def enter(self, target: QWidget, mime: QMimeData) -> bool:
        buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        event = QDragEnterEvent(QPoint(2, 2), Qt.DropAction.CopyAction, mime, buttons, keys)
        event.ignore()
        QApplication.sendEvent(target, event)
        return event.isAccepted()

    def drop(self, target: QWidget, mime: QMimeData) -> None:
        buttons, keys = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
        QApplication.sendEvent(target, QDropEvent(QPointF(2, 2), Qt.DropAction.CopyAction, mime, buttons, keys))


@pytest.fixture
def stage(fake: FakeBench) -> Iterator[Stage]:
    stage = Stage(fake)
    yield stage
    shiboken6.delete(stage.window)


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
    QApplication.sendEvent(stage.inside, QDragLeaveEvent())
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
    assert not stage.enter(other, of_files(strategy(tmp_path)))
    assert stage.zone.shown == ""
    shiboken6.delete(other)
