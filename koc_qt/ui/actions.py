"""Named commands: everything a person can do, once, for menus, shortcuts, buttons, the palette and tests alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QWidget

MENUS = ("&File", "&Engine", "&Trade", "&Chart", "&View", "&Help")


@dataclass(frozen=True)
class Command:
    """What is known of a command. `name` is like ``engine.kill``; `menu` the menu that shows it, empty for none.

    One that `leads` stands at the top of its menu, apart from the others, whenever it comes.
    """

    name: str
    text: str
    menu: str = ""
    icon: str = ""
    shortcut: str = ""
    tip: str = ""
    leads: bool = False


class Actions(QObject):
    """The window's commands by name; `added` brings a Command that came later."""

    added = Signal(object)

    def __init__(self, window: QWidget) -> None:
        super().__init__(window)
        self._window = window
        self._actions: dict[str, QAction] = {}
        self.commands: dict[str, Command] = {}

    def add(self, command: Command, run: Callable[[], object], *, checkable: bool = False) -> QAction:
        """Register a command; a checkable one calls `run` after each change by the person.

        Raises ValueError for a name or a shortcut that is taken.
        """
        if command.name in self._actions:
            raise ValueError(f"there is a command {command.name!r} already")
        taken = [
            other.name for other in self.commands.values() if command.shortcut and other.shortcut == command.shortcut
        ]
        if taken:
            raise ValueError(f"{command.shortcut} is the shortcut of {taken[0]} already")
        action = QAction(command.text, self._window)
        action.setObjectName(command.name)
        action.setCheckable(checkable)
        if command.shortcut:
            action.setShortcut(QKeySequence(command.shortcut))
            action.setShortcutContext(Qt.ShortcutContext.ApplicationShortcut)
        tip = command.tip or plain(command.text).rstrip("…")
        action.setToolTip(f"{tip} ({action.shortcut().toString()})" if command.shortcut else tip)
        action.setStatusTip(tip)
        action.triggered.connect(lambda _checked=False: run())
        self._window.addAction(action)
        self._actions[command.name] = action
        self.commands[command.name] = command
        self.added.emit(command)
        return action

    def remove(self, name: str) -> None:
        """Take a command away, such as one of a chart that was closed."""
        action = self._actions.pop(name, None)
        if action is not None:
            del self.commands[name]
            self._window.removeAction(action)
            action.deleteLater()

    def __getitem__(self, name: str) -> QAction:
        return self._actions[name]

    def __contains__(self, name: str) -> bool:
        return name in self._actions

    def run(self, name: str) -> None:
        """Do it, as a click would: nothing happens where it is disabled. Raises KeyError for an unknown name."""
        self._actions[name].trigger()


def plain(text: str) -> str:
    """Give the text of a command or a menu without the marks of underlined letters."""
    return text.replace("&&", "\0").replace("&", "").replace("\0", "&")
