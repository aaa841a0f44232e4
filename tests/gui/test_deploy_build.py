"""The installers in the deploy panel: what each state shows, what a person can do in it, and that nothing is lost."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, Qt, QUrl
from PySide6.QtGui import QColor, QDesktopServices, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPushButton, QWidget
from pytestqt.qtbot import QtBot

from koc_qt.ui.panels.deploy import DeployPanel
from koc_qt.ui.panels.deploy_build import TARGETS, BuildSection
from koc_qt.ui.panels.deploy_build_events import End, Lines, Need, event_of
from koc_qt.ui.panels.deploy_build_log import BuildLog, BuildLogView
from koc_qt.ui.panels.deploy_build_parts import NeedRow, ResultCard, split_advice
from koc_qt.ui.panels.deploy_build_place import Place, build_place
from koc_qt.ui.panels.deploy_build_process import BuildProcess
from koc_qt.ui.panels.deploy_build_run import LINES_KEPT, Phase
from koc_qt.ui.panels.deploy_parts import CodeLine
from tests.conditions import PATIENCE, wait_until
from tests.fakes.desk import FakeBench
from tests.gui.build_script import BuildScript

REPORT = f"print({json.dumps(json.dumps({'ok': True, 'checks': []}))})"
AT_40 = """
if check:
    end()
signal.signal(signal.SIGINT, lambda *_: end(130))
plan(60, 90)
stage(1, "done", 61.0)
stage(2, "running")
tell("progress", target=target, name="s2", fraction=0.4, stage_fraction=0.1, remaining_s=90.9)
for n in range(40):
    tell("log", text=f"line {n}")
wait_for("go")
stage(2, "done", 3.0)
result()
end()
"""


@pytest.fixture
def script(tmp_path: Path) -> BuildScript:
    return BuildScript(tmp_path)


@pytest.fixture
def section(fake: FakeBench, script: BuildScript, qtbot: QtBot) -> BuildSection:
    return made(fake, script.place)


def made(fake: FakeBench, find: Callable[[], Place], width: int = 340) -> BuildSection:
    command = [sys.executable, "-S", "-c", REPORT]
    panel = DeployPanel(fake.bench, command, {}, fake.window, find_place=find)
    for widget in (panel, fake.window):
        widget.resize(width, 700)
    fake.window.show()
    return panel.installers


def ended(section: BuildSection, qtbot: QtBot, phase: Phase) -> None:
    qtbot.waitUntil(lambda: not section.run.is_running, timeout=round(10_000 * PATIENCE))
    assert section.run.phase is phase
    qtbot.waitUntil(lambda: not section._making.is_busy)


def at_40(section: BuildSection, script: BuildScript, qtbot: QtBot) -> None:
    script.say(AT_40)
    section.buttons["ubuntu"].click()
    qtbot.waitUntil(lambda: section.log.total == 40)
    qtbot.waitUntil(lambda: section.run.book.fraction() == 0.4)


def texts(section: QWidget) -> list[str]:
    return [label.text() for label in section.findChildren(QLabel) if label.isVisible() and label.text()]


def commands(section: BuildSection) -> list[str]:
    return [line.text for line in section.findChildren(CodeLine) if not line.isHidden()]


def cards(section: BuildSection) -> list[ResultCard]:
    return [card for card in section.findChildren(ResultCard) if not card.isHidden()]


def test_four_installers_are_offered(section: BuildSection) -> None:
    assert [button.text() for button in section.buttons.values()] == ["Windows", "Ubuntu", "AppImage", "Docker"]
    assert all(button.isEnabled() and button.toolTip() for button in section.buttons.values())
    assert section.buttons["docker"].accessibleName() == "Build for Docker"
    assert section.hint.text().startswith("Pick one")
    hidden = (
        section.cancel,
        section.bar,
        section.stages,
        section.lines,
        section.log_toggle,
        section.fetch,
        section.again,
    )
    assert not any(widget.isVisible() for widget in hidden)


def test_what_a_stage_will_take_is_said_as_a_guess_is(section: BuildSection, script: BuildScript, qtbot: QtBot) -> None:
    script.say(AT_40.replace("plan(60, 90)", "plan(60, 90, 120, 800, 20)"))
    section.buttons["ubuntu"].click()
    qtbot.waitUntil(lambda: section.log.total == 40)
    assert [section.stages.words(row)[1] for row in (2, 3, 4)] == ["about 2 m", "about 13 m 20 s", "about 20 s"]
    section.run.cancel()
    ended(section, qtbot, Phase.CANCELLED)


def test_a_build_shows_how_far_it_is(section: BuildSection, script: BuildScript, qtbot: QtBot, fake: FakeBench) -> None:
    section.with_test.setChecked(True)
    at_40(section, script, qtbot)
    assert section.headline.text() == "Building for Ubuntu"
    assert (section.bar.value(), section.bar.maximum()) == (400, 1000)
    assert section.figures.text().startswith("40 %  ·  about 1 m 30 s left  ·  ")
    assert section.stages.words(0) == ("Stage 1", "1 m 1 s")
    assert section.stages.words(1) == ("Stage 2", "0 s")
    assert section.stages.accessibleDescription() == "Stage 2 is running, 1 of 2 are done"
    assert section.log_count.text() == "40 lines"
    assert section.lines.isVisible()
    assert not any(button.isEnabled() for button in section.buttons.values())
    assert not section.with_test.isEnabled()
    assert fake.bench.work.title == "Building for Ubuntu"
    section.start("windows")
    script.allow("go")
    ended(section, qtbot, Phase.DONE)
    assert script.calls == ["ubuntu --check --test --json", "ubuntu --test --json"]
    assert section.headline.text().startswith("Ubuntu: built and tested in ")
    assert (fake.bench.work.title, fake.bench.work.done) == ("", 1)
    assert not section.cancel.isVisible()
    assert not section.bar.isVisible()
    assert all(button.isEnabled() for button in section.buttons.values())


def test_what_was_made_can_be_taken(
    section: BuildSection, script: BuildScript, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    section.buttons["ubuntu"].click()
    ended(section, qtbot, Phase.DONE)
    qtbot.waitUntil(lambda: bool(cards(section)))
    card = cards(section)[0]
    qtbot.waitUntil(lambda: "koc_0.1.0_amd64.deb" in texts(card))
    assert card.size_label.text() == "117.7 MB"
    card.copy_button.click()
    assert QGuiApplication.clipboard().text() == "ab" * 32
    QGuiApplication.clipboard().clear()
    opened: list[QUrl] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url) or True)
    card.open_button.click()
    assert opened[0].toLocalFile() == str(script.folder)
    section.buttons["docker"].click()  # the next build clears it away
    qtbot.waitUntil(lambda: section.run.target == "docker" and not cards(section))
    ended(section, qtbot, Phase.DONE)


def test_what_is_missing_is_shown_with_what_mends_it(section: BuildSection, script: BuildScript, qtbot: QtBot) -> None:
    script.say("""
if fetch:
    plan(1); stage(1, "running"); stage(1, "done"); result(); end()
need("nsis", "makensis, which packs", "On Debian or Ubuntu: sudo apt-get install nsis", True)
need("root", "the right of root", "Run it as root: sudo python3 installer/build.py windows --check --json")
need("space", "4 GB of disk space", "Free some space.")
end(3)
""")
    section.buttons["windows"].click()
    ended(section, qtbot, Phase.MISSING)
    assert section.headline.text() == "Windows: 3 things are missing"
    assert commands(section) == ["sudo apt-get install nsis", "sudo python3 installer/build.py windows"]
    section.findChildren(CodeLine)[0].button.click()
    assert QGuiApplication.clipboard().text() == "sudo apt-get install nsis"
    QGuiApplication.clipboard().clear()
    assert section.again.text() == "Check again"
    assert section.again.isVisible()
    section.again.click()
    ended(section, qtbot, Phase.MISSING)
    qtbot.waitUntil(lambda: len([row for row in section.findChildren(NeedRow) if not row.isHidden()]) == 3)
    section.fetch.click()
    ended(section, qtbot, Phase.DONE)
    assert script.calls == ["windows --check --json"] * 2 + ["windows --fetch --json"]
    assert not section.fetch.isVisible()


def test_many_packages_are_one_command(section: BuildSection, script: BuildScript, qtbot: QtBot) -> None:
    script.say("""
for name in ("nsis", "xvfb"):
    need(name, name, f"On Debian or Ubuntu: sudo apt-get install {name}")
end(3)
""")
    section.with_test.setChecked(True)
    section.buttons["windows"].click()
    ended(section, qtbot, Phase.MISSING)
    assert "without it, less may be missing" in section.words.text()
    qtbot.waitUntil(lambda: commands(section)[-1:] == ["sudo apt-get install nsis xvfb"])
    assert "All packages in one go:" in texts(section)
    assert len(commands(section)) == 3
    section.with_test.setChecked(False)
    section.again.click()
    ended(section, qtbot, Phase.MISSING)
    assert section.words.text() == ""
    assert script.calls == ["windows --check --test --json", "windows --check --json"]


def test_where_nothing_can_be_fetched_nothing_is_offered(
    section: BuildSection, script: BuildScript, qtbot: QtBot
) -> None:
    script.say("need('linux', 'Linux on x86-64', 'Build it there.'); end(3)")
    section.buttons["docker"].click()
    ended(section, qtbot, Phase.MISSING)
    assert section.headline.text() == "Docker: 1 thing is missing"
    assert not section.fetch.isVisible()
    assert commands(section) == []


def danger_in(section: BuildSection, fake: FakeBench) -> bool:
    """Whether the stages have something in the colour of what went wrong."""
    danger, picture = QColor(fake.theme.colors.danger).rgb(), section.stages.grab().toImage()
    return any(picture.pixel(x, y) == danger for x in range(picture.width()) for y in range(picture.height()))


def test_a_full_disk_is_said_where_it_happened(
    section: BuildSection, script: BuildScript, qtbot: QtBot, fake: FakeBench
) -> None:
    script.say("""
if check:
    end()
plan(1, 1); stage(1, "running"); stage(1, "failed", 2.0)
tell("log", text="zstd: write error")
tell("failed", target=target, stage="s1", text="build/x: no space left on device", advice="Free some space.")
end(1)
""")
    section.buttons["ubuntu"].click()
    ended(section, qtbot, Phase.FAILED)
    assert section.headline.text().startswith("Ubuntu: failed at “Stage 1” after ")
    assert section.words.text() == "build/x: no space left on device"
    qtbot.waitUntil(lambda: "Free some space." in texts(section))
    assert section.stages.words(0) == ("Stage 1", "2.0 s")
    assert section.log.lines == ["zstd: write error"]  # still there to be read
    assert danger_in(section, fake)
    assert section.lines.isVisible()
    assert section.again.text() == "Build again"
    script.say("wait_for('never')")
    section.again.click()
    assert section.log.lines == []
    section.cancel.click()
    ended(section, qtbot, Phase.CANCELLED)


def test_cancelling_says_that_it_takes_a_moment(
    section: BuildSection, script: BuildScript, qtbot: QtBot, fake: FakeBench
) -> None:
    at_40(section, script, qtbot)
    section.cancel.click()
    assert section.headline.text() == "Ubuntu: stopping…"
    assert not section.cancel.isEnabled()
    assert "left" not in section.figures.text()
    ended(section, qtbot, Phase.CANCELLED)
    assert section.headline.text() == "Ubuntu: cancelled"
    assert "goes on from there" in section.words.text()
    assert section.run.book.is_cancelled
    assert not danger_in(section, fake)  # that it was stopped is no fault of the stage
    assert (fake.bench.work.title, fake.bench.work.done) == ("", 0)


def test_it_goes_on_while_the_panel_is_closed(
    section: BuildSection, script: BuildScript, qtbot: QtBot, fake: FakeBench
) -> None:
    at_40(section, script, qtbot)
    fake.window.hide()
    assert not section._beat.isActive()
    script.say("never read")
    script.allow("go")
    ended(section, qtbot, Phase.DONE)
    assert fake.texts == ["The installer for Ubuntu is built."]
    fake.window.show()
    assert section.headline.text().startswith("Ubuntu: built in ")
    qtbot.waitUntil(lambda: len(cards(section)) == 1)
    assert section.log_count.text() == "40 lines"


def test_what_comes_to_nothing_behind_a_closed_panel_is_told(
    section: BuildSection, script: BuildScript, qtbot: QtBot, fake: FakeBench
) -> None:
    script.say("wait_for('go'); raise SystemExit(9)")
    section.buttons["docker"].click()
    fake.window.hide()
    script.allow("go")
    ended(section, qtbot, Phase.FAILED)
    assert fake.texts == ["The installer for Docker could not be built: the Deploy panel says why."]


def test_whether_one_tests_is_remembered(section: BuildSection, fake: FakeBench, script: BuildScript) -> None:
    panel = fake.window.findChild(DeployPanel)
    assert isinstance(panel, DeployPanel)
    assert panel.state() == {"test": False}
    panel.restore({"test": True})
    assert section.with_test.isChecked()
    panel.restore({"test": None, "other": 3})
    assert panel.state() == {"test": False}


def test_an_installed_copy_says_what_it_takes(fake: FakeBench, tmp_path: Path, qtbot: QtBot) -> None:
    place = Place((), tmp_path, "This is an installed copy.", ("python3 installer/build.py ubuntu --test",))
    section = made(fake, lambda: place)
    assert section.hint.text() == "This is an installed copy."
    qtbot.waitUntil(lambda: commands(section) == ["python3 installer/build.py ubuntu --test"])
    assert not any(button.isEnabled() for button in section.buttons.values())
    assert not section.with_test.isVisible()


def test_a_script_that_went_away_is_said_in_place(fake: FakeBench, script: BuildScript, qtbot: QtBot) -> None:
    places = [script.place(), Place((), script.folder, "build.py is missing.", ("git checkout -- installer",))]
    section = made(fake, lambda: places[0])
    del places[0]
    section.buttons["ubuntu"].click()
    ended(section, qtbot, Phase.FAILED)
    assert section.words.text() == "build.py is missing."
    qtbot.waitUntil(lambda: commands(section) == ["git checkout -- installer"])


def test_keys_begin_a_build_and_none_ends_it_by_accident(
    section: BuildSection, script: BuildScript, qtbot: QtBot, fake: FakeBench
) -> None:
    script.say(AT_40)
    fake.window.activateWindow()
    section.buttons["ubuntu"].setFocus()
    QTest.keyClick(section.buttons["ubuntu"], Qt.Key.Key_Return)
    assert section.run.is_running
    for _ in range(3):  # pressed again, and Esc as well
        focus = QApplication.focusWidget() or fake.window
        assert focus is not section.cancel
        QTest.keyClick(focus, Qt.Key.Key_Return)
        QTest.keyClick(QApplication.focusWidget() or fake.window, Qt.Key.Key_Escape)
    assert not section.run.is_stopping
    qtbot.waitUntil(lambda: section.log.total == 40)
    section.cancel.setFocus()
    QTest.keyClick(section.cancel, Qt.Key.Key_Escape)
    assert not section.run.is_stopping
    QTest.keyClick(section.cancel, Qt.Key.Key_Return)
    assert section.run.is_stopping
    ended(section, qtbot, Phase.CANCELLED)


def test_tab_goes_from_the_top_down(section: BuildSection, script: BuildScript, qtbot: QtBot) -> None:
    at_40(section, script, qtbot)
    stops: list[QWidget] = []
    widget = section.nextInFocusChain()
    while widget is not section and section.isAncestorOf(widget):
        if widget.isVisible() and widget.isEnabled() and widget.focusPolicy() & Qt.FocusPolicy.TabFocus:
            stops.append(widget)
        widget = widget.nextInFocusChain()
    assert stops == [section.cancel, section.log_toggle, section.follow, section.copy_log, section.lines]
    assert all(stop.accessibleName() or isinstance(stop, QPushButton) or stop is section.log_toggle for stop in stops)
    section.cancel.click()
    ended(section, qtbot, Phase.CANCELLED)


@pytest.mark.parametrize(("width", "rows"), [(320, 2), (760, 1)])
def test_it_fits_narrow_and_wide_docks(
    fake: FakeBench, script: BuildScript, qtbot: QtBot, width: int, rows: int
) -> None:
    section = made(fake, script.place, width)
    at_40(section, script, qtbot)
    section.cancel.click()
    ended(section, qtbot, Phase.CANCELLED)
    qtbot.waitUntil(lambda: len({button.y() for button in section.buttons.values()}) == rows)
    assert len(TARGETS) == 4
    right = max(
        each.mapTo(section, QPoint(each.width(), 0)).x() for each in section.findChildren(QWidget) if each.isVisible()
    )
    assert right <= section.width() <= width


@pytest.mark.parametrize(
    ("advice", "words", "command"),
    [
        ("On Debian or Ubuntu: sudo apt-get install nsis", "On Debian or Ubuntu:", "sudo apt-get install nsis"),
        ("sudo apt-get install nsis", "", "sudo apt-get install nsis"),
        (
            "Run it as root: sudo /a b/python x.py ubuntu --check --json",
            "Run it as root:",
            "sudo /a b/python x.py ubuntu",
        ),
        (
            "Free some space, or choose another folder with --out.",
            "Free some space, or choose another folder with --out.",
            "",
        ),
        ("", "", ""),
    ],
)
def test_a_command_in_advice_is_found(advice: str, words: str, command: str) -> None:
    assert split_advice(advice) == (words, command)


# ---- the log --------------------------------------------------------------------------------------------------------


@pytest.fixture
def view(fake: FakeBench) -> BuildLogView:
    log = BuildLog(fake.window, limit=50)
    shown = BuildLogView(log, fake.theme, fake.window)
    shown.resize(300, 200)
    fake.window.show()
    return shown


def test_the_log_keeps_the_newest_lines_and_follows_them(view: BuildLogView, qtbot: QtBot) -> None:
    log = view._log
    log.add([str(n) for n in range(40)])
    log.add([str(n) for n in range(40, 70)])
    assert (len(log.lines), log.lines[0], log.lines[-1], log.total) == (50, "20", "69", 70)
    bar = view.verticalScrollBar()
    qtbot.waitUntil(lambda: bar.value() == bar.maximum() > 0)  # laid out a moment later
    bar.setValue(5)
    assert not view.follows
    log.add(["a", "b"])
    assert bar.value() == 3  # what is read stays in its place
    QTest.keyClick(view, Qt.Key.Key_End)
    assert view.follows
    qtbot.waitUntil(lambda: bar.value() == bar.maximum() > 0)
    log.add([str(n) for n in range(200)])
    assert (log.lines[0], log.rowCount(), log.total) == ("150", 50, 272)
    log.clear()
    assert (log.rowCount(), log.total) == (0, 0)


def test_the_log_is_copied_whole_or_as_chosen(view: BuildLogView) -> None:
    view._log.add(["one", "two", "three"])
    view.copy()
    assert QGuiApplication.clipboard().text() == "one\ntwo\nthree\n"
    view.selectRow(1)
    QTest.keyClick(view, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    assert QGuiApplication.clipboard().text() == "two\n"
    QTest.keyClick(view, Qt.Key.Key_Escape)
    assert view.text() == "one\ntwo\nthree\n"
    QGuiApplication.clipboard().clear()


def test_the_log_says_what_it_left_out(section: BuildSection) -> None:
    section._take_lines([str(n) for n in range(LINES_KEPT + 3)])
    assert section.log_count.text() == "5,003 lines, the newest 5,000 here"
    section.log.clear()


def test_the_log_can_be_put_away(section: BuildSection, script: BuildScript, qtbot: QtBot) -> None:
    at_40(section, script, qtbot)
    section.log_toggle.click()
    assert not section.lines.isVisible()
    assert section.log_toggle.isVisible()
    section.follow.click()
    assert not section.lines.follows
    section.log_toggle.click()
    assert section.lines.isVisible()
    section.cancel.click()
    ended(section, qtbot, Phase.CANCELLED)


# ---- the real one ---------------------------------------------------------------------------------------------------


def test_the_build_of_this_checkout_says_what_it_needs_in_words_that_are_understood() -> None:
    place = build_place()
    process = BuildProcess([*place.command, "ubuntu", "--check", "--json"], place.folder)
    lines, found = Lines(), []
    try:
        while (data := wait_until(lambda: (piece := process.read()) is not None and [piece])[0]) != b"":
            found += [event_of(line) for line in lines.feed(data)]
        wait_until(lambda: process.code() is not None, what="its end")
    finally:
        process.end()
    needs = [event for event in found if isinstance(event, Need)]
    assert found[-1] == End(not needs)
    assert found[:-1] == needs  # nothing that was taken for a line of the log
    assert process.code() == (3 if needs else 0)
    assert all(need.target == "ubuntu" and need.text and need.advice for need in needs)
