"""Another program that files are dragged from, as a file manager is: `python -m tests.e2e.drag_source PATH ...`.

It shows a square for each path, from the top of the screen's left edge downwards, each SQUARE pixels wide and high, and
drags the file when a square is pressed and the mouse moved. What becomes of it is said on stdout, a word a line:
`ready`; `dragging`; `copy` and `ignore` as the window under the mouse offers to take it, or does so no longer; and at
the drop `taken` or `refused`. It ends with its stdin.
"""

from __future__ import annotations

import sys
import threading

from PySide6.QtCore import QMimeData, QPoint, Qt, QTimer, QUrl
from PySide6.QtGui import QDrag, QMouseEvent
from PySide6.QtWidgets import QApplication, QLabel, QWidget

from tests.e2e.display import SQUARE


class Square(QLabel):
    """Drags one file."""

    def __init__(self, path: str, parent: QWidget) -> None:
        super().__init__(path, parent)
        self._path = path
        self._pressed_at = QPoint()

    def mousePressEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Remember where it was taken hold of."""
        self._pressed_at = event.position().toPoint()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:  # noqa: N802 - Qt's name
        """Begin to drag, once the mouse has gone far enough to mean it."""
        way = event.position().toPoint() - self._pressed_at
        if way.manhattanLength() < QApplication.startDragDistance():
            return
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(self._path)])
        drag = QDrag(self)
        drag.setMimeData(data)
        drag.actionChanged.connect(lambda action: say("copy" if action == Qt.DropAction.CopyAction else "ignore"))
        say("dragging")
        action = drag.exec(Qt.DropAction.CopyAction)
        say("taken" if action == Qt.DropAction.CopyAction else "refused")


def say(word: str) -> None:
    """Tell the test."""
    print(word, flush=True)


def main(paths: list[str]) -> int:
    """Show the squares until stdin ends."""
    app = QApplication([])
    frame = QWidget(None, Qt.WindowType.FramelessWindowHint)
    for place, path in enumerate(paths):
        Square(path, frame).setGeometry(0, place * SQUARE, SQUARE, SQUARE)
    frame.setGeometry(0, 0, SQUARE, len(paths) * SQUARE)
    frame.show()
    reader = threading.Thread(target=sys.stdin.read, daemon=True)
    reader.start()
    watch = QTimer(frame)
    watch.timeout.connect(lambda: None if reader.is_alive() else app.quit())
    watch.start(20)
    QTimer.singleShot(0, lambda: say("ready"))
    return app.exec()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
