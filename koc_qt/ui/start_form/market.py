"""What a strategy runs on: account, symbols, timeframe."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QGridLayout, QLabel, QVBoxLayout, QWidget

from koc_qt.domain.errors import BadTimeframe, InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.state import AccountSnapshot, TradingMode, VenueState
from koc_qt.domain.timeframes import duration_ns
from koc_qt.ui.desk import Desk, Frame
from koc_qt.ui.modes import account_name, mode_pill, mode_word, names_of, takes_orders
from koc_qt.ui.start_form.parts import Caption, Choice, Words
from koc_qt.ui.start_form.rules import proposed_symbols, route_problem, twice
from koc_qt.ui.symbols import SymbolPicker
from koc_qt.ui.theme import style_as
from koc_qt.ui.timeframe_choices import TIMEFRAMES

_ORDER = (TradingMode.SIMULATED, TradingMode.PAPER, TradingMode.TESTNET, TradingMode.LIVE)  # the harmless first


class MarketForm(QWidget):
    """Account, as many symbols as are wanted, timeframe. `edited` says that a value or `problem` may differ."""

    edited = Signal()

    def __init__(self, desk: Desk, wanted: int, timeframe: str) -> None:
        super().__init__()
        self._desk = desk
        self._declared = timeframe
        self.account = Choice()
        self.account.setAccessibleName("Account")
        self.mode = QLabel()
        self.pickers = [SymbolPicker(desk) for _ in range(wanted)]
        self.symbol_problems = [Words(tone="danger", face="small") for _ in self.pickers]
        self.timeframe = Choice()
        self.timeframe.setAccessibleName("Timeframe")
        self.timeframe.setEditable(True)
        self.timeframe.addItems(list(dict.fromkeys((*TIMEFRAMES, timeframe))))
        self.timeframe.setCurrentText(timeframe)
        self.timeframe.setInsertPolicy(Choice.InsertPolicy.NoInsert)
        self.account_words = Words(tone="warning", face="small")
        self.timeframe_words = Words(face="small")
        self._lay_out()
        self._fill_accounts()
        self.account.currentIndexChanged.connect(lambda _row: self._account_chosen())
        for number, picker in enumerate(self.pickers):
            picker.setAccessibleName("Symbol" if wanted == 1 else f"Symbol {number + 1}")
            picker.changed.connect(self._judge)
        self.timeframe.editTextChanged.connect(lambda _text: self._judge())
        desk.framed.connect(self._on_frame)
        desk.venues.changed.connect(self._judge)
        self._account_chosen()
        self._propose()

    def _lay_out(self) -> None:
        grid = QGridLayout()
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        grid.setColumnMinimumWidth(0, 128)
        grid.setColumnStretch(1, 1)
        rows: list[tuple[str, QWidget, Words, QWidget | None]] = [
            ("Account", self.account, self.account_words, self.mode)
        ]
        for number, picker in enumerate(self.pickers):
            caption = "Symbol" if len(self.pickers) == 1 else f"Symbol {number + 1}"
            rows.append((caption, picker, self.symbol_problems[number], None))
        rows.append(("Timeframe", self.timeframe, self.timeframe_words, None))
        for number, (text, control, words, beside) in enumerate(rows):
            caption_label = Caption(text)
            caption_label.setBuddy(control)
            grid.addWidget(caption_label, 3 * number, 0)
            grid.addWidget(control, 3 * number, 1, 1, 1 if beside is not None else 2)
            if beside is not None:
                grid.addWidget(beside, 3 * number, 2)
            grid.addWidget(words, 3 * number + 1, 1, 1, 2)
            grid.setRowMinimumHeight(3 * number + 2, 6)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(grid)

    # ---- values ------------------------------------------------------------------------------------------------------

    def account_id(self) -> str:
        """Give the account; empty for none."""
        return str(self.account.currentData() or "")

    def instruments(self) -> tuple[InstrumentId, ...]:
        """Give the symbols that are there."""
        return tuple(each for picker in self.pickers if (each := picker.instrument()) is not None)

    def timeframe_text(self) -> str:
        """Give the timeframe as it was typed."""
        return self.timeframe.currentText().strip()

    def problem(self) -> str:
        """Say what is wrong or missing; empty where nothing is."""
        if not self.account_id():
            return "There is no account to trade on: add one in the accounts panel"
        said = next((words.text() for words in self.symbol_problems if words.text()), "")
        if said:
            return said
        if len(self.instruments()) < len(self.pickers):
            return "Choose a symbol" if len(self.pickers) == 1 else f"Choose {len(self.pickers)} symbols"
        if self._timeframe_problem():
            return self._timeframe_problem()
        return ""

    @property
    def is_live(self) -> bool:
        """Whether orders would be of real money."""
        account = self._account()
        return account is not None and account.mode is TradingMode.LIVE

    def take(self, account_id: str, symbols: Sequence[str], timeframe: str) -> None:
        """Show what was used earlier, as far as it is there."""
        row = self.account.findData(account_id)
        if row >= 0:
            self.account.setCurrentIndex(row)
        for picker, symbol in zip(self.pickers, symbols, strict=False):
            try:
                picker.set_instrument(InstrumentId.parse(symbol))
            except InvalidOrder:
                continue
        if timeframe:
            self.timeframe.setCurrentText(timeframe)
        self._judge()

    # ---- what changes ------------------------------------------------------------------------------------------------

    def _account(self) -> AccountSnapshot | None:
        return self._desk.replica.accounts.get(self.account_id())

    def _fill_accounts(self) -> None:
        usable = filter(takes_orders, self._desk.replica.accounts.values())
        accounts = sorted(usable, key=lambda account: (_ORDER.index(account.mode), account.account_id))
        names = names_of(accounts)
        wanted = [(f"{names[each.account_id]}  ·  {each.venue}", each.account_id) for each in accounts]
        shown = [(self.account.itemText(row), self.account.itemData(row)) for row in range(self.account.count())]
        if wanted == shown:
            return
        chosen = self.account_id()
        self.account.blockSignals(True)
        self.account.clear()
        for text, account_id in wanted:
            self.account.addItem(text, account_id)
        self.account.setCurrentIndex(max(0, self.account.findData(chosen)) if wanted else -1)
        self.account.blockSignals(False)
        if self.account_id() != chosen:
            self._account_chosen()
            if not self.instruments():
                self._propose()

    def _propose(self) -> None:
        replica = self._desk.replica
        found = proposed_symbols(replica.instruments, replica.accounts, self.account_id(), len(self.pickers))
        for picker, instrument in zip(self.pickers, found, strict=False):
            picker.set_instrument(instrument)
        self._judge()

    def _account_chosen(self) -> None:
        account = self._account()
        self.mode.setVisible(account is not None)
        if account is not None:
            self.mode.setText(mode_word(account.mode))
            style_as(self.mode, pill=mode_pill(account.mode))
            venue = account.venue if len(self.pickers) == 1 else ""
            for picker in self.pickers:
                picker.set_venue(venue)
        self._judge()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.accounts:
            self._fill_accounts()
            self._judge()
        if frame.instruments and not any(picker.currentText() for picker in self.pickers):
            self._propose()

    def _judge(self) -> None:
        account = self._account()
        is_away = account is not None and account.state is not VenueState.CONNECTED
        name = account_name(account) if account is not None else ""
        self.account_words.say(f"{name} is {account.state} now: orders may fail" if account and is_away else "")
        again = twice([picker.instrument() for picker in self.pickers])
        for number, picker in enumerate(self.pickers):
            instrument = picker.instrument()
            if instrument is None:
                problem = picker.problem()
            elif number in again:
                problem = f"{instrument} is chosen already"
            else:
                problem = route_problem(self._desk.replica.accounts, self.account_id(), instrument)
            if instrument is not None:
                picker.set_problem(problem)
            self.symbol_problems[number].say(problem)
        self._show_timeframe()
        self.edited.emit()

    def _timeframe_problem(self) -> str:
        try:
            duration_ns(self.timeframe_text())
        except BadTimeframe as error:
            return str(error)
        return ""

    def _show_timeframe(self) -> None:
        problem = self._timeframe_problem()
        other = self.timeframe_text() != self._declared
        lacking = "" if problem else self._lacking()
        style_as(self.timeframe, invalid=True if problem else None)
        style_as(self.timeframe_words, tone="danger" if problem else "warning" if lacking else "muted")
        self.timeframe_words.say(problem or lacking or (f"The strategy declares {self._declared}" if other else ""))

    def _lacking(self) -> str:
        """Say which venue of the chosen symbols has no history of the timeframe."""
        venues, timeframe = self._desk.venues, self.timeframe_text()
        missing = [each.venue for each in self.instruments() if not venues.has_bars(each.venue, timeframe)]
        if not missing:
            return ""
        return f"{venues.title(missing[0])} has no history that {timeframe} bars can be made of: only live bars come"
