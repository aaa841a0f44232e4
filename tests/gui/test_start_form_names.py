"""What the form that starts a strategy does with names that are long, and with a message that takes room."""

from __future__ import annotations

from pathlib import Path

import msgspec
from PySide6.QtCore import QPoint
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.ui.start_form.form import StartForm
from koc_qt.ui.start_form.parts import Caption, NumberBox, Words
from tests.fakes.desk import FakeBench
from tests.fakes.link import BTC_RULES

NAME = "Mean reversion of several windows, adjusted for volatility"
ENTRY, EXIT = "entry_threshold_of_the_slow_window", "exits_threshold_of_the_slow_window"
DESCRIBED = Described(
    NAME,
    "Reverts.",
    (
        ParameterInfo("fast", "int", 5, 1, 500),
        ParameterInfo(ENTRY, "float", 2.0),
        ParameterInfo(EXIT, "float", 0.5),
        ParameterInfo("m" * 64, "bool", True),
        *(ParameterInfo(f"window_{each:02}", "int", each) for each in range(12)),
    ),
    "1s",
    ("bars",),
    1,
    0,
)


def show(fake: FakeBench, qtbot: QtBot, folder: Path, described: Described = DESCRIBED) -> StartForm:
    fake.engine.described, fake.engine.instruments = described, [BTC_RULES]
    fake.client.connect()
    fake.window.show()
    form = StartForm(fake.bench, str(folder / "mean.py"), fake.window)
    form.open()
    qtbot.waitUntil(form.sheet.isVisible)
    qtbot.waitUntil(lambda: form.parameters is not None and form.parameters.hidden_px == 0)
    content = form.sheet.widget()
    qtbot.waitUntil(lambda: content.height() >= form.sheet.height_for(content.width()))  # all have their places
    return form


def shown_whole(label: QLabel) -> bool:
    return label.isVisible() and label.width() >= label.fontMetrics().horizontalAdvance(label.text())


def test_names_that_begin_and_end_alike_are_told_apart(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    form = show(fake, qtbot, tmp_path)
    captions = {each.text(): each for each in form.findChildren(Caption)}
    assert {"fast", ENTRY, EXIT} <= set(captions)
    assert all(shown_whole(captions[name]) for name in ("fast", ENTRY, EXIT))
    assert form.parameters is not None
    controls = [form.parameters.fields[name]._control for name in ("fast", ENTRY, EXIT)]
    assert len({each.mapTo(form, QPoint(0, 0)).x() for each in controls}) == 1
    assert form.sheet.horizontalScrollBar().maximum() == 0


def test_a_strategys_name_is_said_whole(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    form = show(fake, qtbot, tmp_path)
    assert NAME in [each.text() for each in form.findChildren(Words)]
    form.close()
    form = show(fake, qtbot, tmp_path, msgspec.structs.replace(DESCRIBED, name="x" * 64))
    (name,) = [each for each in form.findChildren(Words) if each.text().startswith("xx")]
    assert len(name.text()) == 40  # of one that cannot be broken
    assert name.toolTip() == "x" * 64


def test_a_parameter_is_named_as_it_is_written(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    form = show(fake, qtbot, tmp_path)
    assert form.parameters is not None
    control = form.parameters.fields["fast"]._control
    assert isinstance(control, NumberBox)
    control.lineEdit().setText("abc")
    assert form.problem.text().startswith("fast must be")


def test_what_is_typed_stays_in_sight_when_a_message_takes_room(fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    form = show(fake, qtbot, tmp_path)
    assert form.parameters is not None
    area, bar = form.sheet.viewport(), form.sheet.verticalScrollBar()
    field = form.parameters.fields["window_06"]._control
    form.activateWindow()
    qtbot.waitUntil(form.isActiveWindow)
    field.setFocus()

    def end_px() -> int:
        return field.mapTo(area, QPoint(0, field.height())).y()

    bar.setValue(bar.value() + end_px() - area.height())
    assert end_px() == area.height()
    before = area.height()
    form.problem.say("Something is wrong with it")
    qtbot.waitUntil(lambda: area.height() < before and end_px() <= area.height())
    bar.setValue(0)  # the person has scrolled on: nothing is scrolled back
    form.problem.say("")
    qtbot.waitUntil(lambda: area.height() == before)
    assert bar.value() == 0
