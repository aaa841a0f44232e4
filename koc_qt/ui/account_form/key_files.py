"""Keys that are mounted as files: what the files of an account are called, and which of them are missing."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton, QWidget

from koc_qt.domain.accounts import KeyFiles
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.state import TradingMode
from koc_qt.link.account_messages import ListKeyFiles
from koc_qt.ui.account_form.secret_fields import listed
from koc_qt.ui.bench import Bench
from koc_qt.ui.errands import Errand
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import code_font, style_as

ANSWER_S = 70.0
TYPING_MS = 300
LONGEST_ID = 64
THERE = "it is there"


class KeyFilesBox(QFrame):
    """Asks the engine for the files of one account, and shows them. `changed` says that `problem` may differ.

    Without an `account_id` the account is to be added: its id, which the files are called by, can be typed, and one
    whose files are all there is proposed.
    """

    changed = Signal()

    def __init__(self, bench: Bench, parent: QWidget, account_id: str = "") -> None:
        super().__init__(parent)
        self._desk = bench.desk
        self._asking = Errand(bench.desk, self)
        self._wanted: tuple[str, TradingMode] | None = None  # venue and mode
        self._is_typed = bool(account_id)
        self._failure = ""
        self.found: KeyFiles | None = None
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(4)
        self._grid.setColumnStretch(1, 1)
        self.words = Message(self)
        self._grid.addWidget(self.words, 0, 0, 1, 2)
        self.caption = QLabel("Id of the account", self)
        self.id = QLineEdit(account_id, self)
        self.id.setAccessibleName("Id of the account")
        self.id.setMaxLength(LONGEST_ID)
        self.id.setToolTip("The files are called by it, and orders are kept under it for ever")
        self.caption.setBuddy(self.id)
        self._grid.addWidget(self.caption, 1, 0)
        self._grid.addWidget(self.id, 1, 1)
        self.caption.setVisible(not account_id)
        self.id.setVisible(not account_id)
        self.rows: list[tuple[QLabel, Message]] = []
        self.again_button = QPushButton("Look again", self)
        self.again_button.setIcon(icon("refresh", bench.theme))
        self.again_button.setAutoDefault(False)
        self._foot = QHBoxLayout()
        self._foot.addWidget(self.again_button)
        self._foot.addStretch(1)
        self._typing = QTimer(self)
        self._typing.setSingleShot(True)
        self._typing.setInterval(TYPING_MS)
        self._typing.timeout.connect(self.ask)
        self.id.textEdited.connect(self._edited)
        self.again_button.clicked.connect(self.ask)
        self._desk.linked.connect(self.ask)
        self.hide()

    @property
    def account_id(self) -> str:
        """The id whose files are shown."""
        return self.id.text().strip()

    def ask_for(self, venue: str, mode: TradingMode) -> None:
        """Show the files of an account there."""
        if (venue, mode) != self._wanted:
            self._wanted = venue, mode
            if not self._is_typed:
                self.id.clear()
            self._show(None)
            self.ask()

    def ask(self) -> None:
        """Ask the engine what is there now."""
        if self._wanted is not None and self._desk.is_connected:
            self._typing.stop()
            self._asking.start(self._ask(*self._wanted), self._not_known)

    async def _ask(self, venue: str, mode: TradingMode) -> None:
        answer = await self._desk.request(ListKeyFiles(venue, mode, self.account_id), timeout_s=ANSWER_S)
        try:
            found = msgspec.convert(answer, KeyFiles)
        except msgspec.ValidationError as error:
            raise LinkError(f"what the engine says of files cannot be read: {error}") from error
        if not self.account_id:
            self.id.setText(found.account_id)
        self._show(found)

    def _not_known(self, error: KocError) -> None:
        self._show(None, str(error))

    def _edited(self, text: str) -> None:
        self._is_typed = bool(text.strip())
        self._asking.cancel()
        self._typing.start()
        self._show(None)

    def problem(self) -> str:
        """Say what is missing; empty where every file is there."""
        if self.found is None:
            return self._failure or "Looking which files of keys are there…"
        missing = [file.name for file in self.found.files if file.problem]
        return f"Mount {listed(missing)} in {self.found.folder}, and look again" if missing else ""

    def _show(self, found: KeyFiles | None, failure: str = "") -> None:
        self.found, self._failure = found, failure
        files = found.files if found is not None else ()
        folder = found.folder if found is not None else ""
        self.words.say(f"Keys are read from files in {folder}. None is typed here." if folder else failure, None)
        self._make_rows(len(files))
        for (name, state), file in zip(self.rows, files, strict=False):
            name.setText(file.name)
            state.say(file.problem or THERE, "warning" if file.problem else "profit")
        for name, state in self.rows[len(files) :]:
            name.hide()
            state.hide()
        for name, _ in self.rows[: len(files)]:
            name.show()
        self.changed.emit()

    def _make_rows(self, count: int) -> None:
        """Have as many rows as there are files, and the button below them."""
        while len(self.rows) < count:
            name, state = QLabel(self), Message(self, "small")
            name.setFont(code_font())
            style_as(name, face="small")
            self.rows.append((name, state))
            place = len(self.rows) + 1
            self._grid.addWidget(name, place, 0)
            self._grid.addWidget(state, place, 1)
        self._grid.removeItem(self._foot)
        self._grid.addLayout(self._foot, len(self.rows) + 2, 0, 1, 2)
