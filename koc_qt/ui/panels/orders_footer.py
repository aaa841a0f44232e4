"""What all positions together have earned, for each quote currency by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from html import escape

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QSizePolicy, QWidget

from koc_qt.domain.state import PositionSnapshot
from koc_qt.ui.panels.orders_columns import RulesOf, amount
from koc_qt.ui.tables.columns import tone_of_sign
from koc_qt.ui.theme import Theme, number_font, style_as

MOST_LINES = 3


@dataclass
class Total:
    """Sums in one currency."""

    realised: Decimal = Decimal(0)
    unrealised: Decimal = Decimal(0)
    fees: Decimal = Decimal(0)

    @property
    def pnl(self) -> Decimal:
        """What is left after fees."""
        return self.realised + self.unrealised - self.fees


def totals(positions: Iterable[PositionSnapshot], rules_of: RulesOf) -> dict[str, Total]:
    """Sum by quote currency; an instrument whose currency is not known is summed with no other."""
    sums: dict[str, Total] = {}
    for position in positions:
        rules = rules_of(position.instrument)
        total = sums.setdefault(rules.quote if rules is not None else str(position.instrument), Total())
        total.realised += position.realised_pnl
        total.unrealised += position.unrealised_pnl
        total.fees += position.fees
    return sums


class PnlFooter(QLabel):
    """One line for each currency, of which the tooltip has all."""

    def __init__(self, theme: Theme, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._theme = theme
        self._totals: dict[str, Total] = {}
        self.setFont(number_font())
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setContentsMargins(8, 4, 8, 4)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Profit and loss")
        style_as(self, tone="muted", face="small")
        theme.changed.connect(self._show)
        self.hide()

    @property
    def words(self) -> list[str]:
        """What it says, a line for each currency."""
        return [_words(currency, total) for currency, total in sorted(self._totals.items())]

    def set_totals(self, sums: dict[str, Total]) -> None:
        """Show these sums; nothing where there are none."""
        if sums != self._totals:
            self._totals = sums
            self._show()

    def _show(self) -> None:
        lines = [self._line(currency, total) for currency, total in sorted(self._totals.items())]
        if len(lines) > MOST_LINES:
            lines[MOST_LINES - 1 :] = [f"and {len(lines) - MOST_LINES + 1} more currencies"]
        self.setText("<br>".join(lines))
        self.setToolTip("\n".join(self.words))
        self.setVisible(bool(lines))

    def _line(self, currency: str, total: Total) -> str:
        parts = [
            f"Realised {self._toned(total.realised, currency)}",
            f"Unrealised {self._toned(total.unrealised, currency)}",
            f"Fees {amount(total.fees, currency)}",
            f"<b>PnL {self._toned(total.pnl, currency)}</b>",
        ]
        return f"<b>{escape(currency)}</b>&nbsp;&nbsp; " + " &nbsp;·&nbsp; ".join(parts)

    def _toned(self, value: Decimal, currency: str) -> str:
        tone = tone_of_sign(value) or "text"
        return f'<span style="color:{getattr(self._theme.colors, tone)}">{amount(value, currency, signed=True)}</span>'


def _words(currency: str, total: Total) -> str:
    return (
        f"{currency}: realised {amount(total.realised, currency, signed=True)}, "
        f"unrealised {amount(total.unrealised, currency, signed=True)}, fees {amount(total.fees, currency)}, "
        f"PnL after fees {amount(total.pnl, currency, signed=True)}"
    )
