"""The dialog that puts other keys in the place of an account's."""

from __future__ import annotations

from PySide6.QtWidgets import QPushButton, QWidget

from koc_qt.domain.accounts import AccountDetails
from koc_qt.domain.errors import KocError
from koc_qt.domain.state import AccountSnapshot, TradingMode
from koc_qt.domain.venues import VenueAbilities
from koc_qt.link.account_messages import TestConnection, UpdateCredentials
from koc_qt.ui.account_form.details import fetch_one
from koc_qt.ui.account_form.dialog import AccountDialog
from koc_qt.ui.account_form.form import KEY_NOTES, TEST_TIMEOUT_S, read_report
from koc_qt.ui.account_form.key_files import KeyFilesBox
from koc_qt.ui.account_form.mode_choice import ModeChoice
from koc_qt.ui.account_form.report import ReportView
from koc_qt.ui.account_form.secret_fields import CredentialFields
from koc_qt.ui.account_form.secrets_box import SecretsBox
from koc_qt.ui.bench import Bench
from koc_qt.ui.modes import account_name, needs_keys
from koc_qt.ui.theme import style_as

KEEP_TIMEOUT_S = 90.0


class KeysDialog(AccountDialog):
    """Takes the keys of one mode at a time, tries them on request, and has the engine keep them."""

    def __init__(self, bench: Bench, account: AccountSnapshot, parent: QWidget | None = None) -> None:
        super().__init__(bench, f"{account_name(account)}: keys", "Keep these keys", parent)
        self.setObjectName("account-keys")
        self.account = account
        self.details: AccountDetails | None = None
        self._keys_are_for: TradingMode | None = None
        self.section("Keys for")
        self.mode = ModeChoice(self.body)
        self.column.addWidget(self.mode)
        self.kept = self.words("", "muted")
        self.notes = self.words("", "muted", "small")
        self.secrets = SecretsBox(bench, self.body, takes_keys=True)
        self.credentials = CredentialFields(bench.theme, self.body)
        self.files = KeyFilesBox(bench, self.body, account.account_id)
        self.report = ReportView(self.body)
        for widget in (self.secrets, self.credentials, self.files, self.report):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self.test_button = QPushButton("Test connection", self)
        self.test_button.setAutoDefault(False)
        self.test_button.setToolTip("Try what is typed here. Nothing is kept by it")
        self.buttons.insertWidget(0, self.test_button)
        self.mode.chosen.connect(lambda _mode: self._mode_chosen())
        self.credentials.edited.connect(self._edited)
        self.secrets.changed.connect(self._mode_chosen)  # where keys are kept is known now
        self.files.changed.connect(self._edited)
        self.test_button.clicked.connect(self.test)
        self._desk.venues.changed.connect(self._show_modes)
        self._desk.linked.connect(self._begin)
        self._show_modes()
        self._begin()

    def _begin(self) -> None:
        """Find out what the dialog has to know, again after a failure."""
        if self.details is None and self._desk.is_connected:
            self.secrets.ask()
            self.run(self._look, "Looking which keys are kept…")

    async def _look(self) -> None:
        self.details = await fetch_one(self._desk, self.account.account_id)
        self._show_modes()

    @property
    def _yes(self) -> str:
        return "Use these files" if self.secrets.is_mounted else "Keep these keys"

    @property
    def abilities(self) -> VenueAbilities | None:
        """What the account's venue can do; None while that is not known."""
        return self._desk.venues.of(self.account.venue)

    def _show_modes(self) -> None:
        abilities, details = self.abilities, self.details
        if abilities is not None and details is not None:
            wanted = [mode for mode in details.modes if needs_keys(abilities, mode)]
            self.mode.offer(wanted, self.account.mode)
        self._mode_chosen()

    def _mode_chosen(self) -> None:
        abilities, details, mode = self.abilities, self.details, self.mode.mode
        if mode is not self._keys_are_for:
            self.credentials.wipe()
            self.report.clear()
            self._keys_are_for = mode
        is_mounted = self.secrets.is_mounted
        can_be_typed = abilities is not None and mode is not None and not is_mounted
        self.credentials.ask_for(abilities.credentials if abilities is not None and can_be_typed else ())
        self.files.setVisible(is_mounted and mode is not None)
        if is_mounted and mode is not None:
            self.files.ask_for(self.account.venue, mode)
        if mode is None or details is None:
            kept = "No mode of this account needs keys." if details is not None and abilities is not None else ""
        elif is_mounted:
            kept = f"Keys for {mode} mode are files, which are read whenever the account is opened."
        elif mode in details.keys_for:
            kept = f"Keys for {mode} mode are kept. These take their place."
        else:
            kept = f"No keys for {mode} mode are kept yet."
        if mode is self.account.mode and self.account.enabled:
            kept += " The account is opened anew with them; what runs on it goes on."
        self.kept.say(kept, "muted")
        self.notes.say(
            "\n".join(abilities.notes[:KEY_NOTES]) if abilities is not None and mode is not None else "", "muted"
        )
        self.test_button.setVisible(mode is not None)
        self.yes_button.setText(self._yes)
        style_as(self.yes_button, role="danger" if mode is TradingMode.LIVE else "primary")
        self.judge()
        self.refit()

    def _edited(self) -> None:
        self.report.clear()
        self.judge()

    def obstacle(self) -> str:
        """Say what is missing or in the way; empty where nothing is."""
        if self.abilities is None or self.details is None:
            return self._desk.venues.problem or "It is not known yet which keys are kept"
        if self.mode.mode is None:
            return "This account needs no keys"
        return self.secrets.problem() or self._missing() or self._untimely()

    def _missing(self) -> str:
        return self.files.problem() if self.secrets.is_mounted else self.credentials.missing()

    def _untimely(self) -> str:
        """Say why files of this mode are not read now."""
        mode = self.mode.mode
        if not self.secrets.is_mounted or mode is self.account.mode:
            return ""
        return f"These files are read when the account is switched to {mode} mode"

    def judge(self) -> None:
        """Show what is missing, and offer to go on where nothing is."""
        super().judge()
        if not self.is_busy:
            has_mode = self.mode.mode is not None
            self.secrets.setVisible(has_mode and self.secrets.is_needed)
            self.test_button.setEnabled(self._desk.is_connected and has_mode and not self._missing())

    def side_buttons(self) -> list[QPushButton]:
        """Give the button that tests."""
        return [self.test_button]

    def test(self) -> None:
        """Try what is typed here."""
        if self.mode.mode is not None and not self._missing():
            self.report.clear()
            self.run(self._test, "Trying the keys…")

    async def _test(self) -> None:
        mode, account = self.mode.mode, self.account
        assert mode is not None  # noqa: S101 - test has seen it
        command = TestConnection(account.venue, mode, self.credentials.values(), account.account_id)
        self.report.show_report(read_report(await self._desk.request(command, timeout_s=TEST_TIMEOUT_S)))
        self.refit()

    def agree(self) -> None:
        """Have the engine keep the keys, unless something is missing; where it is not known what is, ask again."""
        self._begin()
        if not self.is_busy and not self.obstacle() and self._desk.is_connected:
            self.run(self._keep, "Keeping the keys…")

    def failed(self, error: KocError) -> None:
        """Say what went wrong."""
        self.say(str(error))
        self.yes_button.setText("Try again" if self.details is None else self._yes)
        self.yes_button.setEnabled(self.yes_button.isEnabled() or self.details is None)

    async def _keep(self) -> None:
        command = UpdateCredentials(self.account.account_id, self.credentials.values(), self.mode.mode)
        await self._desk.request(command, timeout_s=KEEP_TIMEOUT_S)
        done = "were read anew" if self.secrets.is_mounted else "are kept"
        self._desk.notify(f"The keys of {account_name(self.account)} {done}.")
        self.accept()

    def forget(self) -> None:
        """Wipe the keys."""
        self.credentials.wipe()
        self.secrets.wipe()
