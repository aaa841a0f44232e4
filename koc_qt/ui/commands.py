"""The window's own commands; panels add theirs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QActionGroup
from PySide6.QtWidgets import QMessageBox

from koc_qt.domain.instruments import InstrumentId
from koc_qt.link.messages import ReleaseKillSwitch, Shutdown
from koc_qt.ui.actions import Command
from koc_qt.ui.icons import icon
from koc_qt.ui.shortcuts import ShortcutsDialog
from koc_qt.ui.theme import ThemeChoice
from koc_qt.version import __version__

if TYPE_CHECKING:
    from koc_qt.ui.window import MainWindow

_THEMES = {
    ThemeChoice.SYSTEM: "Colours as the &system has them",
    ThemeChoice.DARK: "&Dark colours",
    ThemeChoice.LIGHT: "&Light colours",
}
_ON_CLOSE = {
    "ask": "On closing, &ask about the engine",
    "keep": "On closing, &keep it running",
    "stop": "On closing, s&top it",
}
_STOP_TIMEOUT_S = 30.0


def register_commands(window: MainWindow) -> None:
    """Add everything that the window itself can do."""
    add = window.actions_.add
    for choice, text in _ON_CLOSE.items():
        action = add(
            Command(f"window.on_close.{choice}", text, "&File"),
            partial(_choose_on_close, window, choice),
            checkable=True,
        )
        action.setChecked(window.memory.on_close == choice)
    add(Command("window.close", "&Close the window", "&File", "close", "Ctrl+Q"), window.close)

    add(Command("engine.start", "&Start the engine", "&Engine", "play"), window.start_engine)
    add(Command("engine.stop", "S&top the engine…", "&Engine", "stop"), lambda: _ask_stop(window))
    add(
        Command(
            "engine.kill",
            "&Kill switch",
            "&Engine",
            "kill",
            "Ctrl+Shift+K",
            "Stop all strategies, cancel all orders, and refuse new ones until released",
        ),
        window.kill,
    )
    add(
        Command("engine.release", "&Release the kill switch…", "&Engine", "release", tip="Allow trading again"),
        lambda: _ask_release(window),
    )

    add(Command("chart.new", "&New chart", "&Chart", "plus", "Ctrl+T"), lambda: _new_chart(window))

    group = QActionGroup(window)
    for theme, text in _THEMES.items():
        action = add(
            Command(f"view.theme.{theme}", text, "&View"), partial(_choose_theme, window, theme), checkable=True
        )
        group.addAction(action)
        action.setChecked(window.memory.theme is theme)
    add(Command("view.reset", "&Reset the layout", "&View", "layout"), window.reset_layout)
    add(Command("view.fullscreen", "&Full screen", "&View", "expand", "F11"), lambda: _toggle_fullscreen(window))

    palette = Command("window.palette", "&Commands…", "&Help", "command", "Ctrl+K", "Find any command")
    add(palette, lambda: window.palette_.open_over(window))
    keys = Command("help.shortcuts", "&Keyboard shortcuts", "&Help", "keyboard", "F1", "All keys in one place")
    add(keys, lambda: ShortcutsDialog(window.actions_, window.bench.theme, window).open())
    add(Command("help.about", "&About K.O.C.", "&Help", "info"), lambda: _about(window))


def _choose_on_close(window: MainWindow, choice: str) -> None:
    window.memory.on_close = choice
    for each in _ON_CLOSE:
        window.actions_[f"window.on_close.{each}"].setChecked(each == choice)


def _choose_theme(window: MainWindow, choice: ThemeChoice) -> None:
    window.bench.theme.set_choice(choice)


def _toggle_fullscreen(window: MainWindow) -> None:
    window.setWindowState(window.windowState() ^ Qt.WindowState.WindowFullScreen)  # one that is maximised stays so


def _new_chart(window: MainWindow) -> None:
    """Open one more chart, of what the newest one shows."""
    states = [panel.state() for panel in window.workspace.chart_panels()]
    last = states[-1] if states else {}
    instrument = InstrumentId.parse(str(last.get("instrument", "sim:BTC/USDT")))
    if window.workspace.add_chart(instrument, str(last.get("timeframe", "1m"))) is None:
        window.bench.desk.notify("There are as many charts as there can be: close one first.")


def _ask_stop(window: MainWindow) -> None:
    _ask(
        window,
        "Stop the engine?",
        "Strategies end and their orders are cancelled; positions stay. The window stays open.",
        "Stop the engine",
        lambda: window.bench.desk.send(Shutdown(), "The engine stops.", timeout_s=_STOP_TIMEOUT_S),
    )


def _ask_release(window: MainWindow) -> None:
    _ask(
        window,
        "Release the kill switch?",
        "Orders are accepted again. Nothing is started by it: strategies stay stopped until you start them.",
        "Release",
        lambda: window.bench.desk.send(ReleaseKillSwitch(), "The kill switch is released."),
    )


def _ask(window: MainWindow, title: str, text: str, yes: str, act: object) -> None:
    box = QMessageBox(window)
    box.setIconPixmap(icon("help", window.bench.theme, "accent").pixmap(32, 32))
    box.setWindowTitle("K.O.C.")
    box.setText(title)
    box.setInformativeText(text)
    agree = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(cancel)
    agree.clicked.connect(act)
    box.finished.connect(box.deleteLater)
    box.open()


def _about(window: MainWindow) -> None:
    engine = window.bench.desk.replica.engine
    box = QMessageBox(window)
    box.setWindowTitle("About K.O.C.")
    box.setIconPixmap(window.windowIcon().pixmap(64, 64))
    box.setText(f"K.O.C., Killer Operations Core, {__version__}")
    box.setInformativeText(
        f"Engine {engine.version if engine else 'not connected'}. Free software under the GPL, version 3 or later, "
        "without any warranty."
    )
    box.finished.connect(box.deleteLater)
    box.open()
