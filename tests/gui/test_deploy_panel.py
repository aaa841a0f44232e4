"""The deploy panel: the check of this machine in a real child process, lines to copy, folders, what runs here."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import shiboken6
from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from koc_qt.cli import keys, window
from koc_qt.ui.panels.deploy import STEPS, DeployPanel
from koc_qt.ui.panels.deploy_doctor import Check
from koc_qt.ui.panels.deploy_parts import CheckRow, CodeLine
from koc_qt.ui.theme import ThemeChoice
from tests.fakes.desk import FakeBench

CHECKS = [
    {"name": "program", "status": "ok", "text": "K.O.C. 0.1.0", "advice": ""},
    {"name": "keyring", "status": "warn", "text": "none", "advice": "Install one."},
    {"name": "ports", "status": "fail", "text": "taken", "advice": "Choose others."},
]
REPORT = f"print({json.dumps(json.dumps({'ok': False, 'checks': CHECKS}))}); raise SystemExit(1)"
Maker = Callable[..., DeployPanel]


@pytest.fixture
def make(fake: FakeBench, tmp_path: Path) -> Maker:
    """Give a panel whose doctor is a line of Python; it is shown at once."""

    def made(code: str, **options: Any) -> DeployPanel:
        command = [sys.executable, "-S", "-c", code]
        panel = DeployPanel(fake.bench, command, {"Data": tmp_path, "Logs": tmp_path / "none"}, fake.window, **options)
        panel.resize(340, 500)
        fake.window.resize(340, 500)
        fake.window.show()
        return panel

    return made


def rows(panel: DeployPanel) -> list[CheckRow]:
    return [row for row in panel.findChildren(CheckRow) if not row.isHidden()]


def words_of(row: CheckRow) -> list[str]:
    return [label.text() for label in row.findChildren(QLabel) if label.text()]


def test_the_machine_is_looked_at_when_the_panel_is_seen(make: Maker, qtbot: QtBot) -> None:
    panel = make(REPORT)
    assert panel.refresh.text() == "Cancel"
    qtbot.waitUntil(lambda: panel.summary.text() == "1 fine, 1 to know, 1 failed")
    assert panel.refresh.text() == "Check again"
    # Qt shows what is added to a layout a moment later
    qtbot.waitUntil(lambda: [words_of(row)[0] for row in rows(panel)] == ["Ports", "Keyring", "Program"])
    assert words_of(rows(panel)[0]) == ["Ports", "taken", "Choose others."]
    mark = rows(panel)[0].findChildren(QLabel)[0]
    before = mark.pixmap().toImage()
    panel.bench.theme.set_choice(ThemeChoice.LIGHT)
    assert mark.pixmap().toImage() != before


def test_it_is_looked_at_once_until_one_asks(make: Maker, fake: FakeBench, qtbot: QtBot, tmp_path: Path) -> None:
    count = tmp_path / "count"
    panel = make(f"open({str(count)!r}, 'a').write('x'); {REPORT}")
    qtbot.waitUntil(lambda: len(panel.checks) == 3 and not panel.doctor.is_running)
    fake.window.hide()
    fake.window.show()
    assert not panel.doctor.is_running
    panel.refresh.click()
    qtbot.waitUntil(lambda: count.read_text() == "xx" and not panel.doctor.is_running)
    qtbot.waitUntil(lambda: len(rows(panel)) == 3)


def test_a_check_that_is_under_way_can_be_cancelled(make: Maker, qtbot: QtBot) -> None:
    panel = make("import time; time.sleep(600)")
    qtbot.waitUntil(lambda: panel.doctor._process.processId() > 0)
    panel.refresh.click()
    qtbot.waitUntil(lambda: not panel.doctor.is_running)
    assert panel.summary.text() == "The check was cancelled."
    assert panel.refresh.text() == "Check again"


def test_a_check_that_never_ends_is_ended(make: Maker, qtbot: QtBot) -> None:
    panel = make("import time; time.sleep(600)", timeout_s=0.2)
    qtbot.waitUntil(lambda: "did not end within 0.2 s" in panel.summary.text())
    assert not panel.doctor.is_running


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise SystemExit('no module named x')", "ended with code 1: no module named x"),
        ("print('hello')", "ended with code 0: it gave no report"),
        ("print('[1, 2]')", "it gave no report"),
        ("import os; os.abort()", "it gave no report"),
        ("import sys\nwhile True: sys.stdout.write('x' * 65536)", "more than 1 MB"),
    ],
)
def test_a_check_without_a_report_says_what_it_said(make: Maker, qtbot: QtBot, code: str, words: str) -> None:
    panel = make(code)
    qtbot.waitUntil(lambda: words in panel.summary.text())
    qtbot.waitUntil(lambda: not panel.doctor.is_running)
    assert panel.refresh.text() == "Check again"


def test_a_program_that_is_not_there_is_said(fake: FakeBench, qtbot: QtBot) -> None:
    panel = DeployPanel(fake.bench, ["/nowhere/koc", "doctor"], {}, fake.window)
    fake.window.show()
    qtbot.waitUntil(lambda: "/nowhere/koc could not be started" in panel.summary.text())
    assert panel.refresh.text() == "Check again"


def test_the_process_ends_with_the_panel(make: Maker, qtbot: QtBot) -> None:
    panel = make("import time; time.sleep(600)")
    qtbot.waitUntil(lambda: panel.doctor._process.processId() > 0)
    shiboken6.delete(panel)  # the rails look for the process


def test_the_steps_are_copied_as_they_are_typed(make: Maker, qtbot: QtBot) -> None:
    panel = make(REPORT)
    lines = panel.findChildren(CodeLine)
    assert [line.text for line in lines] == [line for _, code in STEPS for line in code]
    lines[0].button.click()
    assert QGuiApplication.clipboard().text() == "koc keys export laptop.key"
    QGuiApplication.clipboard().clear()
    qtbot.waitUntil(lambda: not panel.doctor.is_running)


def test_the_steps_are_commands_that_there_are() -> None:
    """The panel may not import the command line, so that they agree is checked here."""
    import argparse

    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    keys.add_parser(commands)
    window.add_parser(commands)
    typed = [line for _, code in STEPS for line in code if line.startswith("koc ") and line != "koc engine"]
    for line in typed:
        words = line.split()[1:]
        parser.parse_args(words if words[0] == "keys" else ["window", *words])
    assert len(typed) == 4


def test_folders_are_opened_or_said_to_be_missing(
    make: Maker, fake: FakeBench, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    panel = make(REPORT)
    opened: list[QUrl] = []
    answers = iter((True, False))
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: (opened.append(url), next(answers))[1])
    panel.open_folder(tmp_path)
    assert opened[0].toLocalFile() == str(tmp_path)
    assert fake.texts == []
    panel.open_folder(tmp_path)
    panel.open_folder(tmp_path / "none")
    assert "no program that opens" in fake.texts[0]
    assert "There is no folder" in fake.texts[1]
    qtbot.waitUntil(lambda: not panel.doctor.is_running)


def test_the_engine_is_named_with_how_long_it_runs(make: Maker, fake: FakeBench, qtbot: QtBot) -> None:
    now_s = [50.0]
    panel = make(REPORT, clock_s=lambda: now_s[0])
    fake.engine.pulse(uptime_s=3_600.0, pid=77)
    qtbot.waitUntil(lambda: "process 77, up 1 h 0 m" in panel.engine.text())
    now_s[0] += 600
    panel._show_engine()
    assert panel.engine.text().endswith("up 1 h 10 m")
    fake.client.lose("the engine was killed")
    assert panel.engine.text() == "not connected: the engine was killed"
    fake.desk.is_remote = True
    fake.client.connect()
    assert "on another machine" in panel.engine.text()
    qtbot.waitUntil(lambda: not panel.doctor.is_running)


def test_the_report_is_copied_for_whoever_helps(make: Maker, qtbot: QtBot) -> None:
    panel = make(REPORT)
    qtbot.waitUntil(lambda: len(panel.checks) == 3)
    panel.copy_report.click()
    text = QGuiApplication.clipboard().text()
    assert re.search(r"^Version: \d", text)
    assert "fail ports: taken Choose others." in text
    QGuiApplication.clipboard().clear()
    qtbot.waitUntil(lambda: not panel.doctor.is_running)


def test_a_status_nobody_knows_is_shown_as_it_is(fake: FakeBench) -> None:
    row = CheckRow(Check("odd", "maybe", "who knows"), fake.theme, fake.window)
    row.setParent(fake.window)
    assert words_of(row) == ["Odd", "who knows"]
