"""The real window, driven from outside: `python -m tests.window_driver [FILES]` reads a Python expression a line and
answers each with a line of JSON, {"value": ...} or {"error": ...}.

Names to use: `window` (koc_qt.ui.window.MainWindow), `desk`, `replica`, `panel(name)`, `charts`, `run(command)`,
`drop(paths)`, `grab(file)` and others of Driver.names. `--connect ENDPOINT KEY` shows an engine on another machine.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from typing import Any

from PySide6.QtCore import QMimeData, QPointF, Qt, QTimer, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QScreen
from PySide6.QtWidgets import QApplication, QDialog, QPushButton, QWidget

from koc_qt.domain.instruments import InstrumentId
from koc_qt.ui.turns import turn_began
from koc_qt.ui.window import MainWindow
from koc_qt.wiring.window import main
from koc_qt.wiring.window_options import WindowOptions


class Driver:
    """Evaluates what it is told, on the window's own loop."""

    def __init__(self, window: MainWindow) -> None:
        self.window = window
        self.desk = window.bench.desk
        self.lines: list[str] = []
        self._closed = False
        self._timer = QTimer(window)
        self._timer.setInterval(5)
        self._timer.timeout.connect(self.work)
        self._timer.start()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        """Read expressions until the other side is gone; then close the window."""
        for line in sys.stdin:
            self.lines.append(line)
        self._closed = True

    def work(self) -> None:
        """Answer what has come."""
        while self.lines:
            expression = self.lines.pop(0)
            try:
                answer = {"value": eval(expression, self.names())}
                text = json.dumps(answer, default=str)
            except Exception as error:
                text = json.dumps({"error": f"{type(error).__name__}: {error}"})
            os.write(1, text.encode() + b"\n")
        if self._closed:
            self._closed = False
            self.window.close_now()

    def names(self) -> dict[str, Any]:
        """Give what expressions may use."""
        return {
            "app": QApplication.instance(),
            "InstrumentId": InstrumentId,
            "QPushButton": QPushButton,
            "window": self.window,
            "desk": self.desk,
            "replica": self.desk.replica,
            "panel": self.window.workspace.panel,
            "charts": list(self.window.workspace.chart_panels()),
            "run": self.window.actions_.run,
            "drop": self.drop,
            "grab": self.grab,
            "dialog": self.dialog,
            "click": self.click,
        }

    def drop(self, *paths: str, target: QWidget | None = None) -> bool:
        """Drop files as the system would, on the widget in the middle of the window; gives whether it was taken."""
        return self.drop_data([QUrl.fromLocalFile(path) for path in paths], target=target)

    def drop_data(self, urls: list[QUrl], text: str = "", target: QWidget | None = None) -> bool:
        """Drop anything."""
        data = QMimeData()
        if urls:
            data.setUrls(urls)
        if text:
            data.setText(text)
        widget = target or self.window
        top, none = widget.window(), Qt.KeyboardModifier.NoModifier
        handle, at = top.windowHandle(), widget.mapTo(top, widget.rect().center())
        enter = QDragEnterEvent(at, Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, none)
        QApplication.sendEvent(handle, enter)
        event = QDropEvent(QPointF(at), Qt.DropAction.CopyAction, data, Qt.MouseButton.LeftButton, none)
        QApplication.sendEvent(handle, event)
        return event.isAccepted()

    def grab(self, file: str, what: QWidget | QScreen | None = None) -> bool:
        """Save a picture of the window, of one of its widgets, or of all that is on the screen."""
        if isinstance(what, QScreen):
            return what.grabWindow(0).save(file)
        turn_began(is_known=False)  # or what may be painted later is missing
        return (what or self.window).grab().save(file)

    def dialog(self) -> QDialog | None:
        """Give the dialog that is open."""
        found = [each for each in QApplication.topLevelWidgets() if isinstance(each, QDialog) and each.isVisible()]
        return found[-1] if found else None

    def click(self, text: str, within: QWidget | None = None) -> str:
        """Press the button with this text, of the dialog that is open or of any widget."""
        place = within or self.dialog() or self.window
        buttons = [each for each in place.findChildren(QPushButton) if each.text().replace("&", "") == text]
        ready = [each for each in buttons if each.isEnabled() and each.isVisible()]
        if not ready:
            raise LookupError(f"no button {text!r} can be pressed; there are {[each.text() for each in buttons]}")
        ready[0].click()
        return text


def _main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*")
    parser.add_argument("--connect", nargs=2, default=(None, None))
    parser.add_argument("--reset-layout", action="store_true")
    args = parser.parse_args()
    endpoint, key = args.connect
    kept: list[Driver] = []
    options = WindowOptions(endpoint, key, tuple(args.files), args.reset_layout)
    return main(options, observe=lambda window: kept.append(Driver(window)))


if __name__ == "__main__":
    sys.exit(_main())
