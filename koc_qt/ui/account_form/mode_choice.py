"""The modes of an account to choose from, each with what it means; and the name to be typed before one goes live."""

from __future__ import annotations

from collections.abc import Iterable

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QButtonGroup, QFrame, QLineEdit, QRadioButton, QVBoxLayout, QWidget

from koc_qt.domain.state import TradingMode
from koc_qt.ui.modes import WHAT, mode_word
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import style_as


class ModeChoice(QWidget):
    """Radio buttons for some modes. `chosen` brings a TradingMode."""

    chosen = Signal(object)

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.buttons: dict[TradingMode, QRadioButton] = {}
        self._words: list[Message] = []
        self._group = QButtonGroup(self)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(2)

    def offer(
        self, modes: Iterable[TradingMode], wanted: TradingMode | None = None, keyless: Iterable[TradingMode] = ()
    ) -> None:
        """Have these to choose from; `wanted`, or what was chosen, stays so where it is among them.

        Of those that are `keyless` it is said that they need no keys.
        """
        modes, before = tuple(modes), wanted or self.mode
        if modes == tuple(self.buttons):
            return
        for old in (*self.buttons.values(), *self._words):
            self._column.removeWidget(old)
            old.hide()
            old.deleteLater()
        self.buttons, self._words, keyless = {}, [], set(keyless)
        for mode in modes:
            button = self.buttons[mode] = QRadioButton(mode_word(mode), self)
            words = Message(self, "small")
            words.setContentsMargins(20, 0, 0, 4)
            words.say(f"{WHAT[mode]}.{' It needs no keys.' if mode in keyless else ''}", "muted")
            self._words.append(words)
            self._group.addButton(button)
            for widget in (button, words):
                self._column.addWidget(widget)
            button.show()
            button.clicked.connect(lambda _on=False, mode=mode: self.chosen.emit(mode))
        if modes:
            self.choose(before if before in modes else modes[0])

    def choose(self, mode: TradingMode) -> None:
        """Choose a mode, as a click does."""
        self.buttons[mode].setChecked(True)
        self.chosen.emit(mode)

    @property
    def mode(self) -> TradingMode | None:
        """The mode that is chosen; None while there is none to choose from."""
        return next((mode for mode, button in self.buttons.items() if button.isChecked()), None)


class LiveConfirmation(QFrame):
    """Asks for an account's name, letter by letter, before it trades with real money. `edited` says it was typed in."""

    edited = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        style_as(self, strip="danger")
        self._name = ""
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(6)
        self.words = Message(self)
        self.field = QLineEdit(self)
        self.field.setAccessibleName("The account's name, to confirm that real money is meant")
        column.addWidget(self.words)
        column.addWidget(self.field)
        self.field.textChanged.connect(lambda _text: self.edited.emit())
        self.ask_for("")

    def ask_for(self, name: str) -> None:
        """Ask for this name."""
        self._name = name
        self.words.say(
            f"Live means real money: orders are sent to the venue, and losses are real. Type the account's name, "
            f"{name or '(it has none yet)'}, to confirm that this is meant.",
            "danger",
        )
        self.field.setPlaceholderText(name)

    def text(self) -> str:
        """Give what was typed."""
        return self.field.text().strip()

    def problem(self) -> str:
        """Say what is missing; empty where the name is there, letter by letter."""
        return "" if self._name and self.text() == self._name else f"Type the account's name to go live: {self._name}"
