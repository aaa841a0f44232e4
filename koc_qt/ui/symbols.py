"""A field for an instrument: type a part of its symbol, and choose among what the engine's venues have."""

from __future__ import annotations

import msgspec
from PySide6.QtCore import QEvent, QObject, QRect, QStringListModel, Qt, QTimer, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QAbstractItemView, QComboBox, QCompleter, QLineEdit, QWidget

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.link.messages import ListInstruments
from koc_qt.ui.desk import Desk, Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.theme import style_as

PAUSE_MS = 120  # of typing, before the engine is asked
SHOWN = 50  # matches
LOOKUP_TIMEOUT_S = 15.0  # a venue's list may have to be fetched first


class SymbolPicker(QComboBox):
    """An editable field that holds one instrument, or a text that is none yet.

    `chosen` brings an InstrumentId when the person has settled on another one; `changed` says that `instrument` or
    `problem` may differ, also while typing. What was typed is looked up at the engine on Enter and when the field is
    left; whatever is wrong with it is marked, and said in the tooltip.
    """

    chosen = Signal(object)
    changed = Signal()

    def __init__(self, desk: Desk, parent: QWidget | None = None, *, venue: str = "") -> None:
        super().__init__(parent)
        self._desk = desk
        self._venue = venue
        self._instrument: InstrumentId | None = None
        self._problem = ""
        self._known: dict[InstrumentId, Instrument] = {}
        self._found: list[InstrumentId] = []
        self._search = Errand(desk, self)
        self._check = Errand(desk, self)
        self.setEditable(True)
        self.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.setMinimumContentsLength(14)
        self.setAccessibleName("Symbol")
        self._field.setPlaceholderText("Symbol, such as BTC/USDT")
        self._model = QStringListModel(self)
        self._matches = QCompleter(self._model, self)
        self._matches.setCompletionMode(QCompleter.CompletionMode.UnfilteredPopupCompletion)
        self._matches.setMaxVisibleItems(12)
        self.setCompleter(None)  # type: ignore[arg-type]
        self._matches.setWidget(self._field)
        self._matches.activated.connect(self._take_row)
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(PAUSE_MS)
        self._pause.timeout.connect(lambda: self._look_for(self.currentText()))
        self._field.textEdited.connect(self._edited)
        self._field.returnPressed.connect(self._entered)
        self._field.editingFinished.connect(self.settle)
        self._field.installEventFilter(self)
        desk.framed.connect(self._on_frame)

    # ---- for whoever uses it ----------------------------------------------------------------------------------------

    def instrument(self) -> InstrumentId | None:
        """Give the instrument that the field holds; None while its text is none, or is not known to be one."""
        return self._instrument

    def rules(self) -> Instrument | None:
        """Give the venue's rules for it, where they are known."""
        return self._rules_of(self._instrument) if self._instrument is not None else None

    def problem(self) -> str:
        """Say what is wrong with the text; empty while nothing is, and while the engine is being asked."""
        return self._problem

    @property
    def is_checking(self) -> bool:
        """Whether the engine is being asked about what was typed."""
        return self._check.is_running

    def set_instrument(self, instrument: InstrumentId | None) -> None:
        """Show an instrument without a signal; one that was saved earlier is taken at its word."""
        self._stop()
        self._instrument = instrument
        self.setEditText(str(instrument) if instrument is not None else "")
        self._field.setCursorPosition(0)
        self._mark("")

    def set_text(self, text: str) -> None:
        """Show a text as if the person had typed and entered it."""
        self.setEditText(text)
        self._edited(text)
        self.settle()

    def set_venue(self, venue: str) -> None:
        """Look at one venue alone, which a text without a venue then means; empty looks at all."""
        if venue != self._venue:
            self._venue = venue
            self._found = []
            self._model.setStringList([])

    def set_problem(self, text: str) -> None:
        """Mark the field for a reason that only its user knows, such as one symbol twice; empty lifts it."""
        self._mark(text)

    def settle(self) -> None:
        """Find out which instrument the text is, as Enter does."""
        text = self.currentText().strip()
        if self._popup.isVisible() or (self._instrument is not None and text == str(self._instrument)):
            return
        self._pause.stop()
        self._search.cancel()
        if not text:
            self._take(None)
            return
        known = self._exact(text, [*self._found, *self._desk.replica.instruments])
        if len(known) == 1:
            self._take(known[0])
        elif not self._check.is_running:
            self._check.start(self._ask_whether(text), self._cannot_tell)

    # ---- typing -----------------------------------------------------------------------------------------------------

    @property
    def _field(self) -> QLineEdit:
        field = self.lineEdit()
        assert field is not None  # noqa: S101 - an editable box has one
        return field

    @property
    def _popup(self) -> QAbstractItemView:
        popup = self._matches.popup()
        assert popup is not None  # noqa: S101 - a completer makes one when asked
        return popup

    def _edited(self, text: str) -> None:
        self._check.cancel()
        self._instrument = None
        self._mark("")
        self._pause.start()
        self.changed.emit()

    def _entered(self) -> None:
        row = self._popup.currentIndex()
        if self._popup.isVisible() and row.isValid():
            return  # the list says which one, right after this
        self._popup.hide()
        self.settle()

    def _take_row(self, text: str) -> None:
        self._popup.hide()
        for each in self._found:
            if str(each) == text:
                self._take(each)
                self._field.selectAll()
                return

    def _take(self, instrument: InstrumentId | None) -> None:
        before = self._instrument
        self.set_instrument(instrument)
        self.changed.emit()
        if instrument is not None and instrument != before:
            self.chosen.emit(instrument)

    def _stop(self) -> None:
        self._pause.stop()
        self._search.cancel()
        self._check.cancel()

    def _mark(self, problem: str) -> None:
        self._problem = problem
        style_as(self, invalid=True if problem else None)
        self.setToolTip(problem)
        self.setAccessibleDescription(problem)

    # ---- what the engine knows ---------------------------------------------------------------------------------------

    def _split(self, text: str) -> tuple[str, str]:
        """Give venue and symbol; a symbol may itself have a colon, as BTC/USDT:USDT of a perpetual has."""
        venue, colon, symbol = text.strip().partition(":")
        replica = self._desk.replica
        venues = {self._venue, *replica.venues, *(account.venue for account in replica.accounts.values())}
        venues |= {known.venue for known in (*self._known, *replica.instruments)}
        for each in venues:
            if colon and each and each.lower() == venue.strip().lower():
                return each, symbol.strip()
        return self._venue, text.strip()

    def _exact(self, text: str, candidates: list[InstrumentId]) -> list[InstrumentId]:
        """Give those that the text names, in any case."""
        venue, symbol = self._split(text)
        named = [each for each in candidates if venue in ("", each.venue) and each.symbol.lower() == symbol.lower()]
        same_case = [each for each in named if each.symbol == symbol]
        return list(dict.fromkeys(same_case or named))

    async def _list(self, text: str) -> list[InstrumentId]:
        venue, symbol = self._split(text)
        answer = await self._desk.request(ListInstruments(venue, symbol, SHOWN), timeout_s=LOOKUP_TIMEOUT_S)
        try:
            instruments = msgspec.convert(answer, list[Instrument])
        except msgspec.ValidationError as error:
            raise KocError(f"the engine's list of instruments cannot be read: {error}") from error
        self._known |= {each.id: each for each in instruments}
        return [each.id for each in instruments]

    def _rules_of(self, instrument: InstrumentId) -> Instrument | None:
        return self._desk.replica.instruments.get(instrument) or self._known.get(instrument)

    def _look_for(self, text: str) -> None:
        self._search.start(self._show_matches(text), lambda _error: None)  # said when the text is settled

    async def _show_matches(self, text: str) -> None:
        self._found = await self._list(text)
        if not self._field.hasFocus():
            return
        self._model.setStringList([str(each) for each in self._found])
        if self._found:
            width = max(self.width(), self._popup.sizeHintForColumn(0) + 40)
            self._matches.complete(QRect(0, 0, width, self._field.height()))
        else:
            self._popup.hide()

    async def _ask_whether(self, text: str) -> None:
        found = await self._list(text)
        exact = self._exact(text, found)
        if len(exact) == 1:
            self._take(exact[0])
        elif exact:
            self._refuse(f"{text} is traded at {', '.join(each.venue for each in exact)}: choose one of them")
        elif found:
            self._refuse(f"There is no symbol {text}. Did you mean {found[0]}?")
        else:
            venue, _ = self._split(text)
            where = f" at {venue}" if venue and not text.lower().startswith(venue.lower()) else ""
            self._refuse(f"There is no symbol {text}{where}: choose one from the list")

    def _cannot_tell(self, error: KocError) -> None:
        self._refuse(f"{self.currentText().strip()} cannot be looked up: {error}")

    def _refuse(self, problem: str) -> None:
        self._mark(problem)
        self.changed.emit()

    def _on_frame(self, frame: Frame) -> None:
        may_be_there = frame.snapshot or frame.instruments or self._split(self.currentText())[0] in frame.venues
        if may_be_there and self._instrument is None and self._problem:
            self.settle()  # what could not be looked up may be there now

    # ---- Qt's calls -------------------------------------------------------------------------------------------------

    def showPopup(self) -> None:  # noqa: N802 - Qt's name
        """List what there is, whatever the field holds now."""
        self._field.setFocus()
        self._field.selectAll()
        self._look_for(f"{self._venue}:" if self._venue else "")

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Have the down key open the list."""
        if (
            isinstance(event, QKeyEvent)
            and event.type() == QEvent.Type.KeyPress
            and event.key() == Qt.Key.Key_Down
            and not self._popup.isVisible()
        ):
            self.showPopup()
            return True
        return super().eventFilter(watched, event)
