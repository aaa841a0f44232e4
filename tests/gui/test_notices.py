"""Messages in place, under the header."""

from __future__ import annotations

import html

import pytest
from PySide6.QtWidgets import QLabel, QToolButton
from pytestqt.qtbot import QtBot

from koc_qt.ui import notices as module
from koc_qt.ui.desk import Level, Notice
from koc_qt.ui.notices import Notices, Strip
from tests.fakes.desk import FakeBench


@pytest.fixture
def notices(fake: FakeBench) -> Notices:
    fake.window.show()
    return Notices(fake.theme, fake.window)


def test_a_condition_stands_until_it_is_cleared(notices: Notices) -> None:
    assert notices.isHidden()
    notices.set_condition("engine", "no engine")
    notices.set_condition("engine", "no engine")
    notices.set_condition("halt", "halted", Level.ERROR)
    assert notices.texts == ["no engine", "halted"]
    notices.set_condition("engine", "starting")
    assert sorted(notices.texts) == ["halted", "starting"]
    notices.clear_condition("engine")
    notices.clear_condition("halt")
    notices.clear_condition("halt")
    assert notices.texts == []
    assert notices.isHidden()


def test_a_remedy_is_a_button(notices: Notices) -> None:
    done: list[bool] = []
    notices.set_condition("engine", "stopped", remedies=[("Start", lambda: done.append(True))])
    button = next(each for each in notices.findChildren(QToolButton) if each.text() == "Start")
    button.click()
    assert done == [True]


def test_information_passes_and_errors_stay(notices: Notices, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSING_MS", 10)
    notices.show_notice(Notice(Level.ERROR, "broken"))
    notices.show_notice(Notice(Level.INFO, "done"))
    assert notices.texts == ["broken", "done"]
    qtbot.waitUntil(lambda: notices.texts == ["broken"])


def test_many_notices_do_not_fill_the_window(notices: Notices) -> None:
    for number in range(50):
        notices.show_notice(Notice(Level.WARNING, f"warning {number}"))
        notices.show_notice(Notice(Level.WARNING, f"warning {number}"))
    assert notices.texts == ["warning 47", "warning 48", "warning 49"]


def test_a_notice_is_plain_text(notices: Notices) -> None:
    notices.show_notice(Notice(Level.ERROR, "<b>bold</b> <img src='file:///etc/passwd'>"))
    assert notices.texts == ["<b>bold</b> <img src='file:///etc/passwd'>"]


@pytest.mark.parametrize("kind", ["notice", "condition"])
def test_a_long_word_makes_the_window_no_wider_nor_a_long_text_all_of_it(notices: Notices, kind: str) -> None:
    text = f"/home/{'x' * 300}/bars.csv <b>cannot</b> be read: {'it went on and on; ' * 100}"
    if kind == "notice":
        notices.show_notice(Notice(Level.ERROR, text), (("Try again", lambda: None), ("Open folder", lambda: None)))
    else:
        notices.set_condition("long", text, Level.ERROR, (("Try again", lambda: None),))
    assert notices.texts == [text]
    assert notices.minimumSizeHint().width() < 400
    label = next(each for each in notices.findChildren(QLabel) if each.text().startswith("/home"))
    assert "/bars.csv <b>cannot</b> be read: it went on" in label.text()
    assert len(label.text()) <= module.MOST_CHARACTERS + 1
    assert label.toolTip() == f"<p>{html.escape(text)}</p>"


def test_strips_with_buttons_and_without_are_equally_high(notices: Notices) -> None:
    notices.set_condition("halt", "halted", Level.ERROR)
    notices.set_condition("engine", "stopped", remedies=[("Start", lambda: None)])
    notices.show_notice(Notice(Level.WARNING, "so it is"))
    heights = {max(each.sizeHint().height(), each.minimumHeight()) for each in notices.findChildren(Strip)}
    assert max(heights) - min(heights) <= 1, heights
