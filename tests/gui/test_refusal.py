"""Why K.O.C. cannot start, said in a window of its own where nobody sees a terminal."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import nullcontext

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication, QMessageBox

from koc_qt.domain.errors import ConfigError
from koc_qt.paths import Paths
from koc_qt.profile_version import FORMS
from koc_qt.ui import refusal
from koc_qt.wiring import window
from koc_qt.wiring.window_options import WindowOptions

OPTIONS = WindowOptions(None, None, (), False)


def test_the_sentence_is_shown_as_text_until_it_is_closed(qapp: QApplication) -> None:
    shown: list[str] = []

    def close() -> None:
        (box,) = [each for each in qapp.topLevelWidgets() if isinstance(each, QMessageBox) and each.isVisible()]
        shown.append(box.informativeText())
        box.reject()

    QTimer.singleShot(50, close)
    refusal.show_refusal("the folder <b>x</b> cannot be made", lambda _: nullcontext())
    assert shown == ["The folder <b>x</b> cannot be made"]


def test_nobody_waits_for_ever(qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusal, "SHOWN_MS", 20)
    refusal.show_refusal("no", lambda _: nullcontext())
    assert not [each for each in qapp.topLevelWidgets() if isinstance(each, QMessageBox) and each.isVisible()]


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX's")
def test_a_signal_ends_it(qapp: QApplication) -> None:
    with window._signals() as ending:
        QTimer.singleShot(20, lambda: os.kill(os.getpid(), signal.SIGTERM))
        refusal.show_refusal("no", ending.closing)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_only_where_nobody_sees_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QT_QPA_PLATFORM", "xcb")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert not window.is_alone(), "a checkout is started in a terminal"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert window.is_alone()
    monkeypatch.setattr(sys, "stderr", None)
    assert window.is_alone(), "as on Windows"
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert not window.is_alone()


def test_a_window_refuses_a_newer_profile_and_writes_nothing(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(window, "is_alone", lambda: True)
    monkeypatch.setattr(refusal, "show_refusal", lambda text, _: said.append(text))
    profile.profile_file.write_text(f'{{"program": "9.9", "forms": {{"journal": {FORMS["journal"] + 1}}}}}')
    before = sorted(profile.data.parent.rglob("*"))
    with pytest.raises(ConfigError, match=r"written by K\.O\.C\. 9\.9"):
        window.main(OPTIONS, profile)
    assert len(said) == 1
    assert "Nothing was changed" in said[0]
    assert sorted(profile.data.parent.rglob("*")) == before
