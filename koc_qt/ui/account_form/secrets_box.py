"""Where keys are kept, and the passphrase where that is locked: a strip in the panel, and in forms that take keys."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from koc_qt.domain.accounts import SecretsState
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.link.account_messages import SecretsStatus, UnlockSecrets
from koc_qt.ui.account_form.secret_fields import SecretLine
from koc_qt.ui.bench import Bench
from koc_qt.ui.errands import Errand
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import style_as

STATUS_TIMEOUT_S = 70.0  # a keyring may ask its owner
UNLOCK_TIMEOUT_S = 70.0
LOCKED = "The keys are locked. Type their passphrase: accounts that need keys are opened then."
NEW = (
    "No key is kept yet. Choose a passphrase, under which all keys are encrypted: it is asked for after each start of "
    "the engine, and nobody can read the keys without it, you neither."
)
NOWHERE = (
    "No key can be kept here: see to it that this system has a keyring, or mount the folder of keys. Simulated and "
    "paper accounts need none."
)


class SecretsBox(QFrame):
    """Asks the engine where keys are kept, and unlocks them. `changed` says that `problem` may differ.

    In a form (`takes_keys`) it also asks for a new passphrase, and says where no key can be kept.
    """

    changed = Signal()

    def __init__(self, bench: Bench, parent: QWidget, *, takes_keys: bool) -> None:
        super().__init__(parent)
        self._desk = bench.desk
        self._takes_keys = takes_keys
        self._asking = Errand(bench.desk, self)
        self._unlocking = Errand(bench.desk, self)
        self.state: SecretsState | None = None
        self._failure = ""
        column = QVBoxLayout(self)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(6)
        self.words = Message(self)
        self.words.MOST = 1_000
        self.why = Message(self, "small")
        self.passphrase = SecretLine("Passphrase", self)
        self.passphrase.setPlaceholderText("Passphrase")
        self.again = SecretLine("Passphrase again", self)
        self.again.setPlaceholderText("The same again")
        self.unlock_button = QPushButton("Unlock", self)
        self.unlock_button.setAutoDefault(False)
        style_as(self.unlock_button, role="primary")
        self.answer = Message(self, "small")
        line = QHBoxLayout()
        line.setSpacing(6)
        line.addWidget(self.passphrase, 1)
        line.addWidget(self.again, 1)
        line.addWidget(self.unlock_button, 0, Qt.AlignmentFlag.AlignTop)
        for widget in (self.words, self.why):
            column.addWidget(widget)
        column.addLayout(line)
        column.addWidget(self.answer)
        self.unlock_button.clicked.connect(self.unlock)
        for field in (self.passphrase, self.again):
            field.returnPressed.connect(self.unlock)
            field.textChanged.connect(lambda _text: self._judge())
        self.hide()

    def ask(self) -> None:
        """Ask the engine how it is now."""
        if self._desk.is_connected:
            self._asking.start(self._ask(), self._not_known)

    async def _ask(self) -> None:
        self._take(await self._desk.request(SecretsStatus(), timeout_s=STATUS_TIMEOUT_S))

    def _take(self, answer: object) -> None:
        try:
            self.state = msgspec.convert(answer, SecretsState)
        except msgspec.ValidationError as error:
            raise LinkError(f"what the engine says of keys cannot be read: {error}") from error
        self._failure = ""
        self._show()

    def _not_known(self, error: KocError) -> None:
        self.state, self._failure = None, str(error)
        self._show()

    def problem(self) -> str:
        """Say why no key can be kept now; empty where it can."""
        state = self.state
        if state is None:
            return (
                f"It is not known where keys are kept: {self._failure}" if self._failure else "Asking for the keyring…"
            )
        if state.is_locked:
            return "Choose a passphrase for the keys first" if state.is_new else "Unlock the keys first"
        return "" if state.is_writable or state.folder else f"No key can be kept here: {state.reason}"

    @property
    def is_mounted(self) -> bool:
        """Whether keys are files that somebody mounts: none can be typed then."""
        return self.state is not None and bool(self.state.folder)

    @property
    def is_needed(self) -> bool:
        """Whether a form that takes keys has to show it: the person can do something, or should know."""
        return bool(self.problem()) and (self.state is not None or bool(self._failure))

    def unlock(self) -> None:
        """Unlock with what was typed, once."""
        if self._unlocking.is_running or not self.unlock_button.isEnabled():
            return
        passphrase = self.passphrase.text()
        self.answer.say("Unlocking…", "muted")
        self._unlocking.start(self._unlock(passphrase), self._not_unlocked)
        self._judge()

    async def _unlock(self, passphrase: str) -> None:
        answer = await self._desk.request(UnlockSecrets(passphrase), timeout_s=UNLOCK_TIMEOUT_S)
        self.wipe()
        self.answer.say("")
        self._take(answer)

    def _not_unlocked(self, error: KocError) -> None:
        text = str(error)
        self.answer.say(text[:1].upper() + text[1:], "danger")
        self.wipe()  # a wrong one is of no use either
        self._judge()
        self.passphrase.setFocus()

    def wipe(self) -> None:
        """Forget what was typed."""
        for field in (self.passphrase, self.again):
            field.wipe()

    def _judge(self) -> None:
        is_new = self.state is not None and self.state.is_new
        differs = is_new and self.passphrase.text() != self.again.text()
        is_idle = not self._unlocking.is_running
        self.unlock_button.setEnabled(bool(self.passphrase.text()) and not differs and is_idle)
        if differs and self.again.text():
            self.answer.say("The two are not the same", "warning")
        elif self.passphrase.text() and is_idle:
            self.answer.say("")

    def _show(self) -> None:
        """Show what the person can do; nothing where nothing has to be done."""
        state = self.state
        locked = state is not None and state.is_locked
        is_new = state is not None and state.is_new
        nowhere = state is not None and not (locked or state.is_writable or state.folder)
        shown = self.is_needed if self._takes_keys else locked and not is_new
        self.words.say((NEW if is_new else LOCKED) if locked else NOWHERE if nowhere else self.problem(), None)
        reason = state.reason if state is not None else ""
        self.why.say(f"Kept in: {state.title}. {reason[:1].upper()}{reason[1:]}" if state is not None else "", "muted")
        for widget in (self.passphrase, self.unlock_button):
            widget.setVisible(locked)
        self.again.setVisible(locked and is_new)
        self.unlock_button.setText("Choose it" if is_new else "Unlock")
        style_as(self, strip="info" if is_new else "warning")
        self.setVisible(shown)
        self._judge()
        self.changed.emit()
