"""Small dialogs about an account: another name, a test of its connection, a question before it is put away."""

from __future__ import annotations

from PySide6.QtWidgets import QLineEdit, QWidget

from koc_qt.domain.state import AccountSnapshot
from koc_qt.link.account_messages import RenameAccount, TestConnection
from koc_qt.link.messages import Command
from koc_qt.ui.account_form.dialog import AccountDialog
from koc_qt.ui.account_form.form import LONGEST_LABEL, TEST_TIMEOUT_S, read_report
from koc_qt.ui.account_form.report import ReportView
from koc_qt.ui.bench import Bench
from koc_qt.ui.modes import account_name

RENAME_TIMEOUT_S = 30.0


class RenameDialog(AccountDialog):
    """Calls an account something else."""

    WIDTH = 380

    def __init__(self, bench: Bench, account: AccountSnapshot, parent: QWidget | None = None) -> None:
        super().__init__(bench, f"Rename {account_name(account)}", "Rename", parent)
        self.setObjectName("rename-account")
        self.account = account
        self.label = QLineEdit(self.body)
        self.label.setAccessibleName("Name")
        self.label.setMaxLength(LONGEST_LABEL)
        self.label.setText(account_name(account))
        self.label.selectAll()
        self.column.addWidget(self.label)
        self.words(f"Its id stays {account.account_id}: orders and the journal know it by that.", "muted", "small")
        self.column.addStretch(1)
        self.label.textChanged.connect(lambda _text: self.judge())
        self.judge()
        self.label.setFocus()

    def obstacle(self) -> str:
        """Say why it cannot be called so; empty where it can."""
        name = self.label.text().strip()
        if not name:
            return "Give the account a name"
        others = (each for each in self._desk.replica.accounts.values() if each.account_id != self.account.account_id)
        if any(name in (each.label, each.account_id) for each in others):
            return f"Another account is called {name}: choose another name"
        return ""

    def agree(self) -> None:
        """Rename it."""
        if not self.is_busy and not self.obstacle() and self._desk.is_connected:
            self.run(self._rename, "Renaming…")

    async def _rename(self) -> None:
        command = RenameAccount(self.account.account_id, self.label.text().strip())
        await self._desk.request(command, timeout_s=RENAME_TIMEOUT_S)
        self.accept()


class TestDialog(AccountDialog):
    """Tries an account's own keys, at once and as often as asked."""

    __test__ = False  # no test case, whatever pytest may think of the name
    WIDTH = 480
    LEAVE = "Close"

    def __init__(self, bench: Bench, account: AccountSnapshot, parent: QWidget | None = None) -> None:
        super().__init__(bench, f"{account_name(account)}: connection", "Test again", parent)
        self.setObjectName("test-connection")
        self.account = account
        self.words("Nothing is changed at the venue by it.", "muted", "small")
        self.report = ReportView(self.body)
        self.column.addWidget(self.report)
        self.column.addStretch(1)
        self.judge()
        self.agree()

    def agree(self) -> None:
        """Try the keys."""
        if self._desk.is_connected:
            self.report.clear()
            self.run(self._test, f"Trying the keys of {account_name(self.account)}…")

    async def _test(self) -> None:
        account = self._desk.replica.accounts.get(self.account.account_id, self.account)
        command = TestConnection(account.venue, account.mode, account_id=account.account_id)
        self.report.show_report(read_report(await self._desk.request(command, timeout_s=TEST_TIMEOUT_S)))
        self.refit()

    def stopped(self) -> None:
        """Say that nobody waits any more."""
        self.say("The test was stopped.", "warning")


class ConfirmDialog(AccountDialog):
    """Asks before something is done to an account, does it, and says in place where that fails."""

    def __init__(
        self,
        bench: Bench,
        title: str,
        text: str,
        yes: str,
        command: Command,
        parent: QWidget | None = None,
        *,
        done: str = "",
        timeout_s: float = 120.0,
    ) -> None:
        super().__init__(bench, title, yes, parent, role="danger")
        self.setObjectName("confirm-account")
        self._command, self._done, self._timeout_s = command, done, timeout_s
        self.words(title, None, "title")
        self.words(text, None)
        self.column.addStretch(1)
        self.yes_button.setDefault(False)
        self.yes_button.setAutoDefault(False)
        self.cancel_button.setDefault(True)
        self.cancel_button.setFocus()
        self.judge()

    def agree(self) -> None:
        """Do it."""
        if not self.is_busy and self._desk.is_connected:
            self.run(self._do, "The engine is at it…")

    async def _do(self) -> None:
        await self._desk.request(self._command, timeout_s=self._timeout_s)
        if self._done:
            self._desk.notify(self._done)
        self.accept()
