"""New releases in the window: what is told when, what is loud, and what is never asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import shiboken6
from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QToolButton
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import ConfigError, KocError
from koc_qt.domain.release import Release, ReleaseUntrusted
from koc_qt.paths import Paths
from koc_qt.ui.desk import Level
from koc_qt.ui.memory import MemoryFile
from koc_qt.ui.panel_list import chart_maker
from koc_qt.ui.releases import ReleaseDialog, ReleaseWatch
from koc_qt.ui.window import MainWindow
from koc_qt.wiring.releases import LazyReleases
from tests.fakes.desk import FakeBench

NEW = Release("0.9.0", 3, date(2026, 11, 1), date(2027, 5, 1), "<b>Faster</b> charts.", "https://koc.example/0.9.0")


class Checker:
    """Answers what it is told to, and counts."""

    def __init__(self) -> None:
        self.on = self.due = False
        self.answer: Release | KocError | None = None
        self.refusal: KocError | None = None
        self.looks = self.questions = 0
        self.threads: set[str] = set()

    def is_on(self) -> bool:
        self.questions += 1
        return self.on

    def turn(self, *, on: bool) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.on = on

    def is_due(self) -> bool:
        return self.due

    def look(self) -> Release | None:
        self.looks += 1
        self.due = False
        self.threads.add(threading.current_thread().name)
        if isinstance(self.answer, KocError):
            raise self.answer
        return self.answer


@pytest.fixture
def window(fake: FakeBench, tmp_path: Path) -> Iterator[MainWindow]:
    """Give a window without panels."""
    window = MainWindow(
        fake.desk, fake.theme, MemoryFile(tmp_path / "window.json"), lambda bench, monitor: (), chart_maker
    )
    fake.desk.noticed.connect(window.notices.show_notice)
    window.show()
    yield window
    window.close_now()
    shiboken6.delete(window)


def press(window: MainWindow, text: str) -> None:
    next(each for each in window.notices.findChildren(QToolButton) if each.text() == text).click()


def idle(watch: ReleaseWatch, checker: Checker, qtbot: QtBot) -> None:
    """Wait until a look that may come has come."""
    asked = checker.questions
    watch.look_if_due()
    qtbot.waitUntil(lambda: checker.questions > asked and not watch._is_looking)


def test_nothing_is_asked_unless_the_person_wants_it(window: MainWindow, qtbot: QtBot) -> None:
    checker = Checker()
    checker.due = True
    watch = ReleaseWatch(window, checker)
    watch.start()
    qtbot.waitUntil(lambda: checker.questions == 1 and not watch._is_looking)
    idle(watch, checker, qtbot)
    assert checker.looks == 0
    assert not watch.daily.isChecked()


def test_once_a_day_where_it_is_on_and_told_once(window: MainWindow, qtbot: QtBot) -> None:
    checker = Checker()
    checker.on = checker.due = True
    checker.answer = NEW
    watch = ReleaseWatch(window, checker)
    watch.start()
    qtbot.waitUntil(lambda: bool(window.notices.texts))
    assert watch.daily.isChecked()
    assert window.notices.texts[0].startswith("K.O.C. 0.9.0 of 2026-11-01 is out; this is ")
    assert checker.threads == {"koc-release"}
    idle(watch, checker, qtbot)
    assert checker.looks == 1
    checker.due = True
    idle(watch, checker, qtbot)
    assert checker.looks == 2
    assert len(window.notices.texts) == 1


def test_notes_are_text_and_the_page_is_opened_only_when_told(
    window: MainWindow, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_url(url: QUrl) -> bool:
        opened.append(url.toString())
        return True

    monkeypatch.setattr(QDesktopServices, "openUrl", open_url)
    checker = Checker()
    checker.answer = NEW
    ReleaseWatch(window, checker)
    window.actions_.run("help.release")
    qtbot.waitUntil(lambda: bool(window.notices.texts))
    press(window, "What is new")
    dialog = window.findChild(ReleaseDialog)
    assert isinstance(dialog, ReleaseDialog)
    assert dialog.notes.toPlainText() == "<b>Faster</b> charts."
    assert opened == []
    dialog.open_.click()
    press(window, "Open its page")
    assert opened == [NEW.page, NEW.page]


def test_asked_for_it_says_what_came(window: MainWindow, qtbot: QtBot) -> None:
    checker = Checker()
    watch = ReleaseWatch(window, checker)
    watch.look()
    watch.look()
    qtbot.waitUntil(lambda: bool(window.notices.texts))
    assert window.notices.texts[0].startswith("This is the newest release: ")
    assert checker.looks == 1
    checker.answer = KocError("koc.example could not be asked")
    watch.look()
    qtbot.waitUntil(lambda: "koc.example could not be asked" in window.notices.texts)


@pytest.mark.expected_warnings("NOT signed")
@pytest.mark.parametrize("is_asked", [True, False])
def test_what_is_not_to_be_believed_is_loud(is_asked: bool, window: MainWindow, qtbot: QtBot) -> None:
    checker = Checker()
    checker.on = checker.due = True
    checker.answer = ReleaseUntrusted("the note is NOT signed")
    watch = ReleaseWatch(window, checker)
    watch.look() if is_asked else watch.look_if_due()
    qtbot.waitUntil(lambda: window.notices.texts == ["The note is NOT signed."])
    assert window.notices._passing[0].level is Level.ERROR


def test_a_network_that_is_not_there_is_no_news(window: MainWindow, qtbot: QtBot) -> None:
    checker = Checker()
    checker.on = checker.due = True
    checker.answer = KocError("no network")
    watch = ReleaseWatch(window, checker)
    idle(watch, checker, qtbot)
    assert checker.looks == 1
    assert window.notices.texts == []


def test_turned_on_and_off_in_the_menu(window: MainWindow, qtbot: QtBot) -> None:
    checker = Checker()
    watch = ReleaseWatch(window, checker)
    watch.daily.trigger()
    qtbot.waitUntil(lambda: checker.on and checker.questions == 1 and not watch._is_looking)
    watch.daily.trigger()
    qtbot.waitUntil(lambda: not checker.on)
    checker.refusal = ConfigError("koc.yaml cannot be written")
    watch.daily.trigger()
    qtbot.waitUntil(lambda: "koc.yaml cannot be written" in window.notices.texts)
    assert not watch.daily.isChecked()


def test_this_build_says_what_it_lacks(profile: Paths) -> None:
    lazy = LazyReleases(profile)
    assert not lazy.is_on()
    assert lazy.is_due()
    for act in (lazy.look, lambda: lazy.turn(on=True)):
        with pytest.raises(KocError, match=r"cannot verify releases|No address"):
            act()
