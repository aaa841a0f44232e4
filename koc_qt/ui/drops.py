"""Files dropped on the window: which are taken, what is said of the others, and what shows while they hover."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import QChildEvent, QEvent, QMimeData, QObject, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QDragEnterEvent, QDragMoveEvent, QDropEvent, QPainter, QPaintEvent, QPen, QWindow
from PySide6.QtWidgets import QApplication, QDialog, QDockWidget, QMainWindow, QWidget

from koc_qt.ui.formats import size
from koc_qt.ui.theme import Theme

MOST_FILES = 10
LARGEST = 512 << 10  # bytes; the engine takes no larger strategy
# While a drag hovers, the mouse is the other program's; where it is ours again, that program has died: X11 says no more
_OVER = frozenset((QEvent.Type.MouseMove, QEvent.Type.MouseButtonPress))
_DRAGS = frozenset((QEvent.Type.DragEnter, QEvent.Type.DragMove))
_STRATEGY = ".py"
_BARS = frozenset((".parquet", ".pq", ".csv"))
_WHAT = "K.O.C. takes strategy files, Python files with one strategy class (.py), and files of bars (.parquet, .csv)"
_NO_FILE = f"There is no file in it. {_WHAT}."


@dataclass(frozen=True)
class Dropped:
    """What was dropped: the absolute paths of strategy files, or of files of `bars`, or why it is refused."""

    files: tuple[str, ...] = ()
    refusal: str = ""
    bars: tuple[str, ...] = ()


def read_drop(mime: QMimeData) -> Dropped:
    """Judge what is dragged. Looks at names, kinds and sizes of files, never into them."""
    if not mime.hasUrls():
        if mime.hasImage():
            return Dropped(refusal=f"That is an image. {_WHAT}.")
        if mime.hasText():
            return Dropped(refusal=f"That is text, not a file. {_WHAT}: save it as one, and drop that.")
        return Dropped(refusal=f"That is nothing that can be dropped here. {_WHAT}.")
    urls = mime.urls()
    if any(not url.isLocalFile() for url in urls):
        return Dropped(
            refusal=f"That is an address, not a file of this machine. {_WHAT}: save it first, and drop that."
        )
    paths = [url.toLocalFile() for url in urls]
    kinds = {Path(path).suffix.lower() in _BARS for path in paths}
    if kinds == {True, False} and all(Path(path).suffix.lower() in {_STRATEGY, *_BARS} for path in paths):
        return Dropped(refusal="Those are strategies and bars. Drop the strategy files first, then the files of bars.")
    return judge_bars(paths) if kinds == {True} else judge_files(paths)


def judge_bars(paths: Sequence[str]) -> Dropped:
    """Judge files of bars as `judge_files` does; what is in them the engine looks at."""
    return Dropped(bars=judged.files) if not (judged := _judge(paths, _refusal_of_bars)).refusal else judged


def judge_files(paths: Sequence[str]) -> Dropped:
    """Judge strategy files: all are taken, or none, and then the first that is wrong says why."""
    return _judge(paths, _refusal)


def _judge(paths: Sequence[str], refuse: Callable[[Path, os.stat_result], str]) -> Dropped:
    unique = list(dict.fromkeys(os.path.abspath(path) for path in paths))  # noqa: PTH100 - follows no link
    if not unique:
        return Dropped(refusal=_NO_FILE)
    if len(unique) > MOST_FILES:
        return Dropped(refusal=f"Those are {len(unique)} files. Drop at most {MOST_FILES} at once.")
    for path in unique:
        refusal = _look_at(Path(path), refuse)
        if refusal:
            return Dropped(refusal=refusal)
    return Dropped(tuple(unique))


def _look_at(path: Path, refuse: Callable[[Path, os.stat_result], str]) -> str:
    """Say what is wrong with a file; empty where nothing is."""
    name = path.name or str(path)
    try:
        found = path.stat()
    except OSError as error:
        return f"{name} cannot be read: {error.strerror}."
    except ValueError:
        return f"{name!r} is not a name that a file can have."
    if stat.S_ISDIR(found.st_mode):
        return f"{name} is a folder. Drop the file itself (.py, .parquet or .csv)."
    if not stat.S_ISREG(found.st_mode):
        return f"{name} is not an ordinary file. {_WHAT}."
    if refusal := refuse(path, found):
        return refusal
    if not os.access(path, os.R_OK):
        return f"{name} cannot be read: you have no permission."
    return ""


def _refusal(path: Path, found: os.stat_result) -> str:
    if path.suffix.lower() != _STRATEGY:
        return f"{path.name} is not a Python file. {_WHAT}."
    if found.st_size == 0:
        return f"{path.name} is empty: there is no strategy in it."
    if found.st_size > LARGEST:
        return f"{path.name} has {size(found.st_size)}: a strategy file has at most {size(LARGEST)}."
    return ""


def _refusal_of_bars(path: Path, found: os.stat_result) -> str:
    return f"{path.name} is empty: there are no bars in it." if found.st_size == 0 else ""


class DropZone(QObject):
    """Makes the whole of a window take files, whichever widget they are dropped on, floating docks as well.

    While something hovers it looks at the application's events before the widgets do: fields would take the name of a
    file as text. What is dragged within the window, such as text, is left to the widgets. Qt offers drags to widgets
    alone that take some: the window does from now on, and docks, which may float, must. `dropped` brings paths of
    strategies, `bars_dropped` those of files of bars, `refused` a sentence.
    """

    dropped = Signal(list)
    bars_dropped = Signal(list)
    refused = Signal(str)

    def __init__(self, window: QMainWindow, theme: Theme) -> None:
        super().__init__(window)
        self._window = window
        self._veil = _Veil(theme, window)
        self._judged = Dropped(refusal=_NO_FILE)  # what the veil spoke of last
        window.setAcceptDrops(True)
        self._sentry = _Sentry(self._begin, self)
        self._sentry.watch(window)

    @property
    def shown(self) -> str:
        """What the veil says now; empty while nothing hovers."""
        return self._veil.text if self._veil.isVisible() else ""

    def _begin(self) -> None:
        app = QApplication.instance()
        if app is not None:
            app.installEventFilter(self)  # once, however often

    def _end(self) -> None:
        self._veil.hide()
        app = QApplication.instance()
        if app is not None:
            app.removeEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Take what concerns us."""
        kind = event.type()
        if kind == QEvent.Type.DragEnter and isinstance(event, QDragEnterEvent):
            return self._hover(watched, event)
        if kind == QEvent.Type.DragMove and isinstance(event, QDragMoveEvent):
            return self._hover(watched, event)
        if kind == QEvent.Type.DragLeave:
            self._veil.hide()  # from one widget to the next, too
            if isinstance(watched, QWindow):
                self._end()
        elif kind in _OVER:
            self._end()
        elif kind == QEvent.Type.Drop and isinstance(event, QDropEvent) and isinstance(watched, QWidget):
            self._end()
            return self._drop(watched, event)
        return False

    def _concerns(self, watched: QObject, event: QDropEvent) -> bool:
        if event.source() is not None or not isinstance(watched, QWidget):
            return False  # dragged from one of our own widgets
        top = watched.window()
        ours = top is self._window or (top.parent() is self._window and not isinstance(top, QDialog))
        bare = watched is self._window or isinstance(watched, QDockWidget)  # others that take drops take text
        return ours and (bare or event.mimeData().hasUrls())

    def _hover(self, watched: QObject, event: QDropEvent) -> bool:
        if not self._concerns(watched, event):
            return False
        if not self._veil.isVisible():
            judged = self._judged = read_drop(event.mimeData())
            self._veil.say(judged.refusal or _invitation(judged), refused=bool(judged.refusal))
        event.setDropAction(Qt.DropAction.CopyAction)
        event.accept()  # a refusal too, so that the drop brings its reason
        return True

    def _drop(self, watched: QObject, event: QDropEvent) -> bool:
        if not self._concerns(watched, event):
            return False
        judged = read_drop(event.mimeData())
        if judged.refusal == _NO_FILE:  # the program that it came from has ended since, and X11 asks that one
            judged = self._judged
        event.setDropAction(Qt.DropAction.CopyAction)
        event.accept()
        if judged.refusal:
            self.refused.emit(judged.refusal)
        elif judged.bars:
            self.bars_dropped.emit(list(judged.bars))
        else:
            self.dropped.emit(list(judged.files))
        return True


def _invitation(judged: Dropped) -> str:
    files = judged.files or judged.bars
    what = Path(files[0]).name if len(files) == 1 else f"{len(files)} {'strategies' if judged.files else 'files'}"
    return f"Drop to set up {what}" if judged.files else f"Drop to back-test on {what}"


class _Sentry(QObject):
    """Says when something is dragged over a window or what floats beside it: docks, and groups of them.

    What the system drags comes to the QWindow first. Those of docks come and go, so it looks at what the window and the
    docks themselves are told as well, and at nothing that lies within them.
    """

    def __init__(self, begin: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._begin = begin

    def watch(self, widget: QWidget) -> None:
        """Look at what this top-level widget, or dock that may become one, is told."""
        widget.installEventFilter(self)
        for dock in widget.findChildren(QDockWidget, options=Qt.FindChildOption.FindDirectChildrenOnly):
            dock.installEventFilter(self)
        self._watch_handle(widget)

    def _watch_handle(self, widget: QWidget) -> None:
        handle = widget.windowHandle()
        if handle is not None:
            handle.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Notice drags, docks that are new, and windows of theirs."""
        kind = event.type()
        if kind in _DRAGS:
            self._begin()
        elif kind == QEvent.Type.Show and isinstance(watched, QWidget):
            self._watch_handle(watched)
        elif kind == QEvent.Type.ChildPolished and isinstance(event, QChildEvent):
            child = event.child()
            if isinstance(child, QDockWidget) or child.inherits("QDockWidgetGroupWindow"):
                child.installEventFilter(self)
        return False


class _Veil(QWidget):
    """Lies over the window while something hovers, and says what will come of it. It takes no events."""

    def __init__(self, theme: Theme, window: QMainWindow) -> None:
        super().__init__(window)
        self._window = window
        self._theme = theme
        self.text = ""
        self._refused = False
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.hide()

    def say(self, text: str, *, refused: bool) -> None:
        """Show a sentence over everything."""
        self.text, self._refused = text, refused
        self.setGeometry(self._window.rect())
        self.raise_()
        self.show()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:  # noqa: N802 - Qt's name
        """Dim the window and frame the sentence."""
        colors = self._theme.colors
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        veil = QColor(colors.window)
        veil.setAlphaF(0.82)
        painter.fillRect(self.rect(), veil)
        edge = QColor(colors.danger if self._refused else colors.accent)
        painter.setPen(QPen(edge, 2, Qt.PenStyle.DashLine))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(12, 12, -12, -12), 10, 10)
        font = painter.font()
        font.setPixelSize(20)
        font.setBold(True)
        painter.setFont(font)
        painter.setPen(edge if self._refused else QColor(colors.text))
        room = self.rect().adjusted(40, 40, -40, -40)
        painter.drawText(room, int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), self.text)
        painter.end()
