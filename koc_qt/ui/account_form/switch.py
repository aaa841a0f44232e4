"""The dialog that brings an account into another mode: says what happens, and asks for a name before it goes live."""

from __future__ import annotations

from PySide6.QtWidgets import QWidget

from koc_qt.domain.accounts import AccountDetails
from koc_qt.domain.errors import KocError
from koc_qt.domain.state import AccountSnapshot, TradingMode
from koc_qt.link.account_messages import SwitchAccount, UpdateCredentials
from koc_qt.ui.account_form.details import ending_words, fetch_one, what_runs
from koc_qt.ui.account_form.dialog import AccountDialog
from koc_qt.ui.account_form.form import KEY_NOTES
from koc_qt.ui.account_form.key_files import KeyFilesBox
from koc_qt.ui.account_form.mode_choice import LiveConfirmation, ModeChoice
from koc_qt.ui.account_form.secret_fields import CredentialFields
from koc_qt.ui.account_form.secrets_box import SecretsBox
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Frame
from koc_qt.ui.modes import account_name, mode_word, needs_keys
from koc_qt.ui.theme import style_as

KEYS_TIMEOUT_S = 90.0
SWITCH_TIMEOUT_S = 180.0  # strategies end, orders are cancelled and looked up, the venue is connected


class SwitchDialog(AccountDialog):
    """Switches one account. What the engine does meanwhile is said step by step."""

    WIDTH = 480

    def __init__(
        self,
        bench: Bench,
        account: AccountSnapshot,
        parent: QWidget | None = None,
        *,
        wanted: TradingMode | None = None,
    ) -> None:
        super().__init__(bench, f"{account_name(account)}: switch mode", "Switch", parent)
        self.setObjectName("switch-mode")
        self.account = account
        self.details: AccountDetails | None = None
        self._keys_are_for: TradingMode | None = None
        self.now = self.words(f"{account_name(account)} is in {account.mode} mode now.")
        self.mode = ModeChoice(self.body)
        self.column.addWidget(self.mode)
        self.confirmation = LiveConfirmation(self.body)
        self.column.addWidget(self.confirmation)
        self.section("What happens")
        self.what = self.words()
        self.keys_title = self.section("Keys")
        self.keys_words = self.words("", "muted", "small")
        self.secrets = SecretsBox(bench, self.body, takes_keys=True)
        self.credentials = CredentialFields(bench.theme, self.body)
        self.files = KeyFilesBox(bench, self.body, account.account_id)
        for widget in (self.secrets, self.credentials, self.files):
            self.column.addWidget(widget)
        self.column.addStretch(1)
        self.confirmation.ask_for(account_name(account))
        self.mode.chosen.connect(lambda _mode: self._mode_chosen())
        self.credentials.edited.connect(self.judge)
        self.secrets.changed.connect(self._mode_chosen)  # where keys are kept is known now
        self.files.changed.connect(self._files_looked_at)
        self.confirmation.edited.connect(self.judge)
        self._desk.framed.connect(self._on_frame)
        self._desk.venues.changed.connect(self._mode_chosen)
        self._desk.linked.connect(self._begin)
        self._mode_chosen()
        self._begin()

    def _begin(self) -> None:
        """Find out what the dialog has to know, again after a failure."""
        if self.details is None and self._desk.is_connected:
            self.secrets.ask()
            self.run(self._look, "Looking what the account can do…")

    async def _look(self) -> None:
        self._take(await fetch_one(self._desk, self.account.account_id))

    def _take(self, details: AccountDetails) -> None:
        self.details = details
        modes = [mode for mode in details.modes if mode is not self.account.mode]
        self.mode.offer(modes if details.is_editable else ())
        self._mode_chosen()

    # ---- what is chosen ----------------------------------------------------------------------------------------------

    @property
    def lacks_keys(self) -> bool:
        """Whether the chosen mode needs keys that are not kept."""
        mode, details = self.mode.mode, self.details
        abilities = self._desk.venues.of(self.account.venue)
        if mode is None or details is None or abilities is None:
            return False
        return needs_keys(abilities, mode) and mode not in details.keys_for

    def _mode_chosen(self) -> None:
        mode, abilities = self.mode.mode, self._desk.venues.of(self.account.venue)
        lacks, is_live = self.lacks_keys, mode is TradingMode.LIVE
        if mode is not self._keys_are_for:
            self.credentials.wipe()
            self._keys_are_for = mode
        is_mounted = self.secrets.is_mounted
        types_keys = lacks and not is_mounted
        self.credentials.ask_for(abilities.credentials if types_keys and abilities is not None else ())
        self.files.setVisible(lacks and is_mounted)
        if lacks and is_mounted and mode is not None:
            self.files.ask_for(self.account.venue, mode)
        self.keys_title.setVisible(lacks)
        first = "No keys are mounted" if is_mounted else "No keys are kept"
        notes = [f"{first} for this mode yet. Those of another mode are never used in it."]
        notes += abilities.notes[:KEY_NOTES] if abilities is not None else ()
        self.keys_words.say("\n".join(notes) if lacks else "", "muted")
        self.confirmation.setVisible(is_live)
        self.yes_button.setText(f"Switch to {mode}" if mode is not None else "Switch")
        style_as(self.yes_button, role="danger" if is_live else "primary")
        self.what.say(self._consequences(), None)
        self.judge()
        self.refit()

    def _consequences(self) -> str:
        mode = self.mode.mode
        if mode is None:
            return ""
        running, orders = what_runs(self._desk, self.account)
        ending = ending_words(running, orders) or "Nothing runs on it now"
        return (
            f"1. {ending}.\n2. It is closed in {self.account.mode} mode; what is held there stays there.\n"
            f"3. It is opened in {mode} mode, with the keys of that mode alone. Nothing is started by it."
        )

    def obstacle(self) -> str:
        """Say what is missing or in the way; empty where nothing is."""
        details, mode = self.details, self.mode.mode
        if details is None:
            return "It is not known yet what the account can do"
        if not details.is_editable:
            return "This account is described in koc.yaml: change its mode there, and start the engine anew"
        if mode is None:
            return f"{mode_word(self.account.mode)} is the only mode that {self.account.venue} has"
        if self.lacks_keys and (problem := self.secrets.problem() or self._missing()):
            return problem
        return self.confirmation.problem() if mode is TradingMode.LIVE else ""

    def _missing(self) -> str:
        return self.files.problem() if self.secrets.is_mounted else self.credentials.missing()

    def _files_looked_at(self) -> None:
        self.judge()
        self.refit()

    def judge(self) -> None:
        """Show what is missing, and offer to go on where nothing is."""
        super().judge()
        if not self.is_busy:
            self.secrets.setVisible(self.lacks_keys and self.secrets.is_needed)

    # ---- doing it ----------------------------------------------------------------------------------------------------

    def agree(self) -> None:
        """Switch, unless something is missing; where it is not known what is possible, ask again."""
        self._begin()
        if not self.is_busy and not self.obstacle() and self._desk.is_connected:
            self.run(self._switch, f"Switching to {self.mode.mode}…")

    async def _switch(self) -> None:
        mode, account = self.mode.mode, self.account
        assert mode is not None  # noqa: S101 - obstacle has seen it
        if self.lacks_keys and not self.secrets.is_mounted:
            keys = UpdateCredentials(account.account_id, self.credentials.values(), mode)
            await self._desk.request(keys, timeout_s=KEYS_TIMEOUT_S)
            self._take(await fetch_one(self._desk, account.account_id))  # they are kept now, and asked for no more
        said = self.confirmation.text() if mode is TradingMode.LIVE else ""
        await self._desk.request(SwitchAccount(account.account_id, mode, said), timeout_s=SWITCH_TIMEOUT_S)
        self._desk.notify(f"{account_name(account)} is in {mode} mode now.")
        self.accept()

    def failed(self, error: KocError) -> None:
        """Say what went wrong, and how the account stands now."""
        self._refresh_account()
        self.say(str(error))
        if self.details is None:
            self.yes_button.setText("Try again")
            self.yes_button.setEnabled(True)

    def _refresh_account(self) -> None:
        known = self._desk.replica.accounts.get(self.account.account_id)
        if known is None:
            return
        if known.mode is not self.account.mode:  # it was written down, and then could not be opened
            self.account = known
            self.now.say(f"{account_name(known)} is in {known.mode} mode now.", None)
            if self.details is not None:
                self._take(self.details)
        self.account = known

    def _on_frame(self, frame: Frame) -> None:
        if not (frame.snapshot or frame.accounts or frame.orders or frame.strategies):
            return
        known = self._desk.replica.accounts.get(self.account.account_id)
        if self.is_busy:
            if known is not None and known.reason and self.details is not None:
                self.progress(known.reason)
        elif known is not None:
            self.what.say(self._consequences(), None)

    def forget(self) -> None:
        """Wipe the keys."""
        self.credentials.wipe()
        self.secrets.wipe()
