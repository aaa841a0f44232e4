"""What can be done to an account: a menu for each, and the dialogs that it opens, one of a kind at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import shiboken6
from PySide6.QtCore import QObject, QPoint, Signal
from PySide6.QtWidgets import QMenu, QWidget

from koc_qt.domain.state import AccountSnapshot
from koc_qt.link.account_messages import RemoveAccount, SetAccountEnabled
from koc_qt.ui.account_form.details import ending_words, what_runs
from koc_qt.ui.account_form.dialog import AccountDialog
from koc_qt.ui.account_form.form import AccountForm
from koc_qt.ui.account_form.keys import KeysDialog
from koc_qt.ui.account_form.small import ConfirmDialog, RenameDialog, TestDialog
from koc_qt.ui.account_form.switch import SwitchDialog
from koc_qt.ui.bench import Bench
from koc_qt.ui.icons import icon
from koc_qt.ui.modes import account_name, modes_of, needs_keys
from koc_qt.ui.opening import open_gently

ENABLE_TIMEOUT_S = 120.0
DISABLE_TIMEOUT_S = 180.0


class AccountActions(QObject):
    """Opens dialogs over the window of `owner`; those of an account that is gone are closed.

    `added` brings the id of an account that was added here.
    """

    added = Signal(str)

    def __init__(self, bench: Bench, owner: QWidget) -> None:
        super().__init__(owner)
        self._bench = bench
        self._desk = bench.desk
        self._owner = owner
        self.dialogs: dict[tuple[str, str], AccountDialog] = {}
        self._by_name: dict[str, Callable[[AccountSnapshot], None]] = {
            "test": self.test,
            "switch": self.switch,
            "rename": self.rename,
            "keys": self.keys,
            "enable": partial(self.set_enabled, enabled=True),
            "disable": partial(self.set_enabled, enabled=False),
            "remove": self.remove,
        }

    def run(self, name: str, account_id: str) -> None:
        """Do something to an account, by the name of it; nothing where the account is gone."""
        account = self._desk.replica.accounts.get(account_id)
        if account is not None:
            self._by_name[name](account)

    def menu(self, account: AccountSnapshot) -> QMenu:
        """Make the menu of an account; it ends itself."""
        menu = QMenu(self._owner)
        menu.aboutToHide.connect(menu.deleteLater)
        abilities = self._desk.venues.of(account.venue)
        has_keys = abilities is None or any(needs_keys(abilities, mode) for mode in modes_of(abilities))
        entries = [
            ("test", "&Test connection", "link", True),
            ("switch", "&Switch mode…", "refresh", abilities is None or len(modes_of(abilities)) > 1),
            ("keys", "&Keys…", "shield", has_keys),
            ("rename", "&Rename…", "edit", True),
            ("disable" if account.enabled else "enable", "Switch &off" if account.enabled else "Switch &on", "", True),
            ("remove", "Re&move…", "trash", True),
        ]
        for name, text, picture, shown in entries:
            if not shown:
                continue
            action = menu.addAction(text)
            if picture:
                action.setIcon(icon(picture, self._bench.theme))
            action.setObjectName(name)
            action.setEnabled(self._desk.is_connected)
            action.triggered.connect(lambda _on=False, name=name: self.run(name, account.account_id))
        return menu

    def pop_up(self, account_id: str, at: QPoint) -> None:
        """Show the menu of an account."""
        account = self._desk.replica.accounts.get(account_id)
        if account is not None:
            self.menu(account).popup(at)

    # ---- each of them ------------------------------------------------------------------------------------------------

    def add(self) -> None:
        """Open the form that adds an account."""

        def make(window: QWidget) -> AccountForm:
            form = AccountForm(self._bench, window, in_steps=True)
            form.added.connect(self.added)
            return form

        self._open("add", "", make)

    def test(self, account: AccountSnapshot) -> None:
        """Try an account's keys."""
        self._open("test", account.account_id, lambda window: TestDialog(self._bench, account, window))

    def switch(self, account: AccountSnapshot) -> None:
        """Bring an account into another mode."""
        self._open("switch", account.account_id, lambda window: SwitchDialog(self._bench, account, window))

    def rename(self, account: AccountSnapshot) -> None:
        """Call an account something else."""
        self._open("rename", account.account_id, lambda window: RenameDialog(self._bench, account, window))

    def keys(self, account: AccountSnapshot) -> None:
        """Put other keys in the place of an account's."""
        self._open("keys", account.account_id, lambda window: KeysDialog(self._bench, account, window))

    def set_enabled(self, account: AccountSnapshot, *, enabled: bool) -> None:
        """Switch an account on, or off: where something runs on it, after a question."""
        name = account_name(account)
        ending = "" if enabled else ending_words(*what_runs(self._desk, account))
        command = SetAccountEnabled(account.account_id, enabled, stop=bool(ending))
        done = f"{name} is switched {'on' if enabled else 'off'}."
        if not ending:
            timeout_s = ENABLE_TIMEOUT_S if enabled else DISABLE_TIMEOUT_S
            self._desk.send(command, done, timeout_s=timeout_s)
            return
        text = f"{ending[:1].upper()}{ending[1:]}. What is held stays held, and nobody watches over it."
        title = f"Switch {name} off?"
        self._open("off", account.account_id, lambda window: self._question(title, text, "Switch off", command, window))

    def remove(self, account: AccountSnapshot) -> None:
        """Remove an account with its keys, after a question."""
        name = account_name(account)
        ending = ending_words(*what_runs(self._desk, account))
        first = f"{ending[:1].upper()}{ending[1:]}. " if ending else ""
        text = (
            f"{first}Keys that are kept here are deleted; at the venue they go on to work until you delete them there. "
            "What was traded stays in the journal, and what is held at the venue stays there."
        )
        command = RemoveAccount(account.account_id, stop=bool(ending))
        title = f"Remove {name}?"
        self._open("remove", account.account_id, lambda window: self._question(title, text, "Remove", command, window))

    def _question(
        self, title: str, text: str, yes: str, command: SetAccountEnabled | RemoveAccount, window: QWidget
    ) -> ConfirmDialog:
        return ConfirmDialog(self._bench, title, text, yes, command, window, timeout_s=DISABLE_TIMEOUT_S)

    # ---- dialogs -----------------------------------------------------------------------------------------------------

    def _open(self, kind: str, account_id: str, make: Callable[[QWidget], AccountDialog]) -> None:
        key = (kind, account_id)
        known = self.dialogs.get(key)
        if known is not None:
            known.raise_()
            known.activateWindow()
            return
        dialog = self.dialogs[key] = make(self._owner.window())
        dialog.finished.connect(lambda _result: self._closed(key))
        open_gently(dialog, dialog.parts())

    def _closed(self, key: tuple[str, str]) -> None:
        dialog = self.dialogs.pop(key, None)
        if dialog is not None:
            dialog.deleteLater()

    def forget_gone(self) -> None:
        """Close what is about accounts that are there no more."""
        for key, dialog in list(self.dialogs.items()):
            if key[1] and key[1] not in self._desk.replica.accounts and not dialog.is_busy:
                dialog.done(0)

    def retire(self) -> None:
        """Close everything."""
        for dialog in list(self.dialogs.values()):
            if shiboken6.isValid(dialog):
                dialog.done(0)
