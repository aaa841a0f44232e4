"""How an account begins that is filled here, in a simulated market or on paper: money, fees, latency, short selling."""

from __future__ import annotations

from decimal import Decimal

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QLineEdit, QPushButton, QVBoxLayout, QWidget

from koc_qt.domain.accounts import PaperOptions
from koc_qt.domain.state import Balance
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.ticket_fields import Message, NumberField
from koc_qt.ui.panels.ticket_numbers import BadNumber, read_amount
from koc_qt.ui.theme import Theme, style_as

MOST_BALANCES = 20
MOST_LATENCY_MS = 60_000
MOST_FEE_PERCENT = Decimal(10)
_LONGEST_CURRENCY = 12


class PaperFields(QWidget):
    """Asks for PaperOptions. `edited` says that `problem` and `options` may differ."""

    edited = Signal()

    def __init__(self, theme: Theme, parent: QWidget) -> None:
        super().__init__(parent)
        self._theme = theme
        self.rows: list[tuple[QWidget, NumberField, QLineEdit]] = []
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        caption = QLabel("Begins with", self)
        column.addWidget(caption)
        self._list = QVBoxLayout()
        self._list.setSpacing(4)
        column.addLayout(self._list)
        self.more = QPushButton("Another currency", self)
        self.more.setIcon(icon("plus", theme))
        self.more.setAutoDefault(False)
        style_as(self.more, role="flat", face="line")
        self.more.clicked.connect(lambda: self.add_row("", "").setFocus())
        column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        grid = QGridLayout()
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        column.addLayout(grid)
        self.latency = self._number(grid, 0, "Latency", "5", "ms", "How long an order is on its way to the market")
        self.maker = self._number(grid, 1, "Maker fee", "", "%", "Of orders that rest; negative for a rebate")
        self.taker = self._number(grid, 2, "Taker fee", "", "%", "Of orders that trade at once")
        for field in (self.maker, self.taker):
            field.setPlaceholderText("as the venue's own")
        self.short = QCheckBox("Allow short selling", self)
        self.short.setToolTip("Let it sell what it does not have")
        self.short.toggled.connect(lambda _on: self.edited.emit())
        column.addWidget(self.short)
        self.words = Message(self, "small")
        column.addWidget(self.words)
        self.add_row("100000", "USDT")

    def _number(self, grid: QGridLayout, row: int, name: str, text: str, unit: str, tip: str) -> NumberField:
        caption, label = QLabel(name, self), QLabel(unit, self)
        field = NumberField(name, self)
        field.setText(text)
        field.setToolTip(tip)
        style_as(label, tone="muted")
        caption.setBuddy(field)
        for place, widget in enumerate((caption, field, label)):
            grid.addWidget(widget, row, place)
        field.textChanged.connect(lambda _text: self.edited.emit())
        return field

    def add_row(self, amount: str, currency: str) -> NumberField:
        """Add a currency to begin with."""
        row = QWidget(self)
        line = QHBoxLayout(row)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(4)
        number, code = NumberField("Amount", row), QLineEdit(row)
        code.setAccessibleName("Currency")
        code.setPlaceholderText("USDT")
        code.setMaxLength(_LONGEST_CURRENCY)
        code.setFixedWidth(84)
        number.setText(amount)
        code.setText(currency)
        away = QPushButton(row)
        away.setIcon(icon("close", self._theme))
        away.setAccessibleName("Without this currency")
        away.setToolTip("Without this currency")
        away.setAutoDefault(False)
        style_as(away, role="flat")
        for widget, share in ((number, 1), (code, 0), (away, 0)):
            line.addWidget(widget, share)
        self._list.addWidget(row)
        self.rows.append((row, number, code))
        row.show()
        away.clicked.connect(lambda: self._drop(row))
        for field in (number, code):
            field.textChanged.connect(lambda _text: self.edited.emit())
        self._count()
        return number

    def _drop(self, row: QWidget) -> None:
        self.rows = [each for each in self.rows if each[0] is not row]
        row.hide()
        row.deleteLater()
        self._count()

    def _count(self) -> None:
        self.more.setEnabled(len(self.rows) < MOST_BALANCES)
        self.edited.emit()

    def set_currency(self, currency: str) -> None:
        """Begin with another currency, where the person has changed nothing about it."""
        if len(self.rows) == 1 and self.rows[0][1].text() == "100000" and not self.rows[0][2].isModified():
            self.rows[0][2].setText(currency)

    def options(self) -> PaperOptions:
        """Give what was filled in. Raises BadNumber with a sentence."""
        balances: dict[str, Decimal] = {}
        for _, number, code in self.rows:
            currency, text = code.text().strip().upper(), number.text().strip()
            if not currency and not text:
                continue
            if not currency:
                raise BadNumber("Name the currency that the account begins with, such as USDT")
            if currency in balances:
                raise BadNumber(f"{currency} is there twice")
            balances[currency] = _read(f"{currency} to begin with", text)
        maker, taker = _fee(self.maker), _fee(self.taker)
        if (maker is None) is not (taker is None):
            raise BadNumber("Give both fees, or leave both empty")
        latency = self.latency.text().strip()
        latency_ms = float(_read("Latency", latency)) if latency not in ("", "0") else 0.0
        if latency_ms > MOST_LATENCY_MS:
            raise BadNumber(f"Latency: at most {MOST_LATENCY_MS:,} ms")
        if not balances:
            raise BadNumber("An account has to begin with some money")
        return PaperOptions(
            tuple(Balance(currency, amount) for currency, amount in balances.items()),
            self.short.isChecked(),
            latency_ms,
            maker,
            taker,
        )

    def problem(self) -> str:
        """Say what is wrong; empty where nothing is."""
        try:
            self.options()
        except BadNumber as error:
            return str(error)
        return ""


def _read(name: str, text: str) -> Decimal:
    try:
        return read_amount(text)
    except BadNumber as error:
        raise BadNumber(f"{name}: {error}") from None


def _fee(field: NumberField) -> Decimal | None:
    """Give a fee as a fraction of the notional; None for the venue's own."""
    text = field.text().strip()
    if not text:
        return None
    name, bare = field.accessibleName(), text.removeprefix("-")
    value = Decimal(0) if not bare.strip("0.") and bare.strip(".") else _read(name, bare)
    if value > MOST_FEE_PERCENT:
        raise BadNumber(f"{name}: at most {MOST_FEE_PERCENT} %")
    return (-value if text.startswith("-") else value) / 100
