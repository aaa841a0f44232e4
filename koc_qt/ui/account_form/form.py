"""The dialog that adds an account: the venue, what to call it, the mode, and the money or the keys that it needs."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from PySide6.QtCore import Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QGridLayout, QLabel, QLineEdit, QPushButton, QWidget

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.state import TradingMode
from koc_qt.domain.venues import ConnectionReport, VenueAbilities
from koc_qt.link.account_messages import AddAccount, TestConnection
from koc_qt.ui.account_form.dialog import AccountDialog
from koc_qt.ui.account_form.key_files import KeyFilesBox
from koc_qt.ui.account_form.mode_choice import LiveConfirmation, ModeChoice
from koc_qt.ui.account_form.paper_fields import PaperFields
from koc_qt.ui.account_form.report import ReportView
from koc_qt.ui.account_form.secret_fields import CredentialFields
from koc_qt.ui.account_form.secrets_box import SecretsBox
from koc_qt.ui.account_form.venue_words import cash_of, first_choice, venue_choice, venue_words
from koc_qt.ui.bench import Bench
from koc_qt.ui.icons import icon
from koc_qt.ui.modes import account_name, modes_of, needs_keys
from koc_qt.ui.panels.ticket_fields import Choice
from koc_qt.ui.theme import style_as

LONGEST_LABEL = 64
KEY_NOTES = 2  # a venue's first notes are about its keys
TEST_TIMEOUT_S = 75.0  # the engine gives it 60
ADD_TIMEOUT_S = 90.0
_HARMLESS = (TradingMode.SIMULATED, TradingMode.PAPER)


class AccountForm(AccountDialog):
    """Adds an account. `added` brings its id. With `in_steps` it is empty until `parts` has made it."""

    added = Signal(str)
    WIDTH = 500

    def __init__(self, bench: Bench, parent: QWidget | None = None, *, in_steps: bool = False) -> None:
        super().__init__(bench, "Add an account", "Add the account", parent)
        self.setObjectName("account-form")
        self.is_made = False
        self._is_named = False  # by the person, and not by us
        self._keys_are_for: tuple[TradingMode | None, str] = (None, "")
        if not in_steps:
            list(self.parts())

    def parts(self) -> Iterator[None]:
        """Make what is in it, a part a step."""
        self._make_where()
        yield
        self._make_money()
        yield
        self._make_keys(self._bench)
        self.column.addStretch(1)
        yield
        self._connect()
        self._show_venues()
        self.secrets.ask()
        self.is_made = True
        self.label.setFocus()

    # ---- making ------------------------------------------------------------------------------------------------------

    def _make_where(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
        self.venue = Choice({}, self.body)
        self.venue.setAccessibleName("Venue")
        self.label = QLineEdit(self.body)
        self.label.setAccessibleName("What to call it")
        self.label.setMaxLength(LONGEST_LABEL)
        for row, (text, field) in enumerate((("Venue", self.venue), ("Name", self.label))):
            caption = QLabel(text, self.body)
            caption.setBuddy(field)
            grid.addWidget(caption, row, 0)
            grid.addWidget(field, row, 1)
        self.about = self.words("", "muted", "small")
        self.more = QPushButton("More about this venue", self.body)
        self.more.setCheckable(True)
        self.more.setAutoDefault(False)
        style_as(self.more, role="flat", face="line")
        self.more.hide()
        self.column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self.retry_button = QPushButton("Ask again", self.body)
        self.retry_button.setIcon(icon("refresh", self._bench.theme))
        self.retry_button.setAutoDefault(False)
        self.retry_button.hide()
        self.column.addWidget(self.retry_button)
        self.section("Mode")
        self.mode = ModeChoice(self.body)
        self.confirmation = LiveConfirmation(self.body)
        self.column.addWidget(self.mode)
        self.column.addWidget(self.confirmation)

    def _make_money(self) -> None:
        self.money_title = self.section("Money on paper")
        self.paper = PaperFields(self._bench.theme, self.body)
        self.column.addWidget(self.paper)

    def _make_keys(self, bench: Bench) -> None:
        self.keys_title = self.section("Keys")
        self.keys_words = self.words("", "muted", "small")
        self.keys_page = QPushButton("Open the page where keys are made", self.body)
        self.keys_page.setIcon(icon("link", bench.theme))
        self.keys_page.setAutoDefault(False)
        style_as(self.keys_page, role="flat", face="line")
        self.column.addWidget(self.keys_page, 0, Qt.AlignmentFlag.AlignLeft)
        self.secrets = SecretsBox(bench, self.body, takes_keys=True)
        self.column.addWidget(self.secrets)
        self.credentials = CredentialFields(bench.theme, self.body)
        self.column.addWidget(self.credentials)
        self.files = KeyFilesBox(bench, self.body)
        self.column.addWidget(self.files)
        self.report = ReportView(self.body)
        self.column.addWidget(self.report)
        self.test_button = QPushButton("Test connection", self)
        self.test_button.setAutoDefault(False)
        self.test_button.setToolTip("Try the keys. Nothing is kept, and nothing is changed at the venue")
        self.buttons.insertWidget(0, self.test_button)

    def _connect(self) -> None:
        self.venue.activated.connect(lambda _row: self._venue_chosen())
        self.label.textEdited.connect(self._named)
        self.mode.chosen.connect(lambda _mode: self._mode_chosen())
        self.paper.edited.connect(self.judge)
        self.credentials.edited.connect(self._keys_edited)
        self.secrets.changed.connect(self._mode_chosen)  # where keys are kept is known now
        self.files.changed.connect(self._files_looked_at)
        self.confirmation.edited.connect(self.judge)
        self.test_button.clicked.connect(self.test)
        self.keys_page.clicked.connect(self._open_page)
        self.retry_button.clicked.connect(self._desk.venues.retry)
        self.more.toggled.connect(lambda _on: self._show_about())
        self._desk.venues.changed.connect(self._show_venues)
        self._desk.linked.connect(self._show_venues)

    # ---- what is chosen ----------------------------------------------------------------------------------------------

    @property
    def abilities(self) -> VenueAbilities | None:
        """What the chosen venue can do; None while there is none to choose from."""
        return self._desk.venues.known.get(self.venue.value())

    @property
    def takes_keys(self) -> bool:
        """Whether the account needs keys as it is chosen."""
        abilities, mode = self.abilities, self.mode.mode
        return abilities is not None and mode is not None and needs_keys(abilities, mode)

    @property
    def reads_files(self) -> bool:
        """Whether its keys are files that somebody mounts."""
        return self.takes_keys and self.secrets.is_mounted

    def _show_venues(self) -> None:
        self._desk.venues.ask()
        wanted = venue_choice(self._desk.venues.known.values())
        shown = {self.venue.itemData(row): self.venue.itemText(row) for row in range(self.venue.count())}
        if list(shown.items()) != list(wanted.items()):
            chosen = self.venue.value()
            if chosen not in wanted:
                chosen = first_choice(self._desk.venues.known.values())
            self.venue.clear()
            for name, title in wanted.items():
                self.venue.addItem(title, name)
            self.venue.setCurrentIndex(max(0, self.venue.findData(chosen)))
        problem = self._desk.venues.problem
        self.retry_button.setVisible(bool(problem))
        if self.abilities is None:
            self.about.say(problem or "Asking the engine which venues there are…", "danger" if problem else "muted")
        self._venue_chosen()

    def _venue_chosen(self) -> None:
        abilities = self.abilities
        self.mode.setVisible(abilities is not None)
        if abilities is not None:
            self._show_about()
            modes = modes_of(abilities)
            self.mode.offer(modes, keyless=[mode for mode in modes if not needs_keys(abilities, mode)])
            self.paper.set_currency(cash_of(abilities.venue))
        self._mode_chosen()

    def _show_about(self) -> None:
        """Show what the venue can do; what is particular about it on request."""
        abilities, more = self.abilities, self.more.isChecked()
        self.more.setVisible(abilities is not None and len(abilities.notes) > KEY_NOTES)
        self.more.setText("Less about this venue" if more else "More about this venue")
        if abilities is not None:
            notes = abilities.notes if more else ()
            self.about.say("\n".join((venue_words(abilities), *notes)), "muted")
        self.refit()

    def _mode_chosen(self) -> None:
        """Show what the mode needs. Keys that were typed for another mode are not those of this one."""
        abilities, mode = self.abilities, self.mode.mode
        takes_keys, is_live = self.takes_keys, mode is TradingMode.LIVE
        types_keys = takes_keys and not self.secrets.is_mounted
        self.credentials.ask_for(abilities.credentials if types_keys and abilities is not None else ())
        self.files.setVisible(self.reads_files)
        if self.reads_files and mode is not None:
            self.files.ask_for(self.venue.value(), mode)
        if (mode, self.venue.value()) != self._keys_are_for:
            self.credentials.wipe()
            self.report.clear()
            self._keys_are_for = (mode, self.venue.value())
        self.money_title.setVisible(mode in _HARMLESS)
        self.paper.setVisible(mode in _HARMLESS)
        self.keys_title.setVisible(takes_keys)
        self.test_button.setVisible(takes_keys)
        notes = abilities.notes[:KEY_NOTES] if takes_keys and abilities is not None else ()
        self.keys_words.say("\n".join(notes), "muted")
        self.keys_page.setVisible(takes_keys and abilities is not None and abilities.keys_page.startswith("https://"))
        self.keys_page.setToolTip(abilities.keys_page if abilities is not None else "")
        self.secrets.setVisible(takes_keys and self.secrets.is_needed)
        self.confirmation.setVisible(is_live)
        style_as(self.yes_button, role="danger" if is_live else "primary")
        self._propose_name()
        self.judge()
        self.refit()

    def _propose_name(self) -> None:
        abilities, mode = self.abilities, self.mode.mode
        if not self._is_named and abilities is not None and mode is not None:
            taken = {account_name(each) for each in self._desk.replica.accounts.values()}
            stem = abilities.title if mode is TradingMode.SIMULATED else f"{abilities.title} {mode.value}"
            names = [stem[:LONGEST_LABEL], *(f"{stem[: LONGEST_LABEL - 4]} {number}" for number in range(2, 200))]
            self.label.setText(next((name for name in names if name not in taken), stem))
        self.confirmation.ask_for(self._name())

    def _name(self) -> str:
        return self.label.text().strip()

    def _named(self, text: str) -> None:
        self._is_named = bool(text.strip())
        self.confirmation.ask_for(self._name())
        self.judge()

    def _keys_edited(self) -> None:
        self.report.clear()
        self.judge()
        self.refit()

    def _files_looked_at(self) -> None:
        self.report.clear()
        self.judge()
        self.refit()

    def _open_page(self) -> None:
        if self.abilities is not None:
            QDesktopServices.openUrl(QUrl(self.abilities.keys_page))

    # ---- what is missing ---------------------------------------------------------------------------------------------

    def obstacle(self) -> str:
        """Say what is missing or wrong; empty where nothing is."""
        mode = self.mode.mode
        if self.abilities is None or mode is None:
            return "Choose a venue"
        if not self._name():
            return "Give the account a name"
        taken = (account_name(each) for each in self._desk.replica.accounts.values())
        if self._name() in taken:
            return f"There is an account {self._name()} already: choose another name"
        if mode in _HARMLESS and (problem := self.paper.problem()):
            return problem
        if self.takes_keys and (problem := self._keys_problem()):
            return problem
        return self.confirmation.problem() if mode is TradingMode.LIVE else ""

    def _keys_problem(self) -> str:
        return self.secrets.problem() or self._missing()

    def _missing(self) -> str:
        return self.files.problem() if self.reads_files else self.credentials.missing()

    def judge(self) -> None:
        """Show what is missing, and offer to go on where nothing is."""
        super().judge()
        if not self.is_busy:
            self.secrets.setVisible(self.takes_keys and self.secrets.is_needed)
            self.test_button.setEnabled(self._desk.is_connected and not self._missing())

    def side_buttons(self) -> list[QPushButton]:
        """Give the button that tests."""
        return [self.test_button]

    # ---- doing it ----------------------------------------------------------------------------------------------------

    def test(self) -> None:
        """Try the keys, which nobody keeps by it."""
        if self.takes_keys and not self._missing():
            self.report.clear()
            self.run(self._test, "Trying the keys…")

    async def _test(self) -> None:
        mode = self.mode.mode
        assert mode is not None  # noqa: S101 - takes_keys has seen it
        command = TestConnection(self.venue.value(), mode, self.credentials.values(), self._id())
        self.report.show_report(read_report(await self._desk.request(command, timeout_s=TEST_TIMEOUT_S)))
        self.refit()
        QTimer.singleShot(0, self.report, lambda: self.sheet.ensureWidgetVisible(self.report))

    def agree(self) -> None:
        """Add the account, unless something is missing."""
        if not self.is_busy and not self.obstacle() and self._desk.is_connected:
            self.run(self._add, "Adding the account…")

    async def _add(self) -> None:
        mode, name = self.mode.mode, self._name()
        assert mode is not None  # noqa: S101 - obstacle has seen it
        command = AddAccount(
            self.venue.value(),
            mode,
            self._id(),
            name,
            credentials=self.credentials.values() if self.takes_keys else {},
            paper=self.paper.options() if mode in _HARMLESS else None,
            confirmation=self.confirmation.text() if mode is TradingMode.LIVE else "",
        )
        account_id = str(await self._desk.request(command, timeout_s=ADD_TIMEOUT_S))
        self._desk.notify(f"{name} was added.")
        self.added.emit(account_id)
        self.accept()

    def _id(self) -> str:
        """Give the id that the files are called by; else the engine chooses one."""
        return self.files.account_id if self.reads_files else ""

    def stopped(self) -> None:
        """Say that nobody waits any more."""
        self.say("You do not wait any more. If the account is added after all, it appears in the panel.", "warning")

    def failed(self, error: KocError) -> None:
        """Say what went wrong; everything that was filled in stays."""
        self.say(str(error))

    def forget(self) -> None:
        """Wipe the keys."""
        if not self.is_made:
            return
        self.credentials.wipe()
        self.secrets.wipe()


def read_report(answer: object) -> ConnectionReport:
    """Read what a test found. Raises LinkError."""
    try:
        return msgspec.convert(answer, ConnectionReport)
    except msgspec.ValidationError as error:
        raise LinkError(f"the engine's report cannot be read: {error}") from error
