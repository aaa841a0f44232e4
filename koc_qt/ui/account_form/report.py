"""What a test of an account's keys found, for a person to read."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QGridLayout, QLabel, QVBoxLayout, QWidget

from koc_qt.domain.state import Balance
from koc_qt.domain.venues import ConnectionReport
from koc_qt.ui.formats import quantity
from koc_qt.ui.panels.orders_columns import amount
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import style_as

MOST_SKEW_MS = 1_000
_MOST_BALANCES = 6
WITHDRAW = (
    "These keys may withdraw money. K.O.C. never needs that, and whoever steals them could empty the account: make new "
    "keys without that permission."
)


class ReportView(QFrame):
    """Shows one ConnectionReport at a time; nothing before the first."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(6)
        self.title = Message(self)
        self.withdraw = QFrame(self)
        style_as(self.withdraw, strip="danger")
        inside = QVBoxLayout(self.withdraw)
        inside.setContentsMargins(10, 6, 10, 6)
        self.withdraw_words = Message(self.withdraw)
        inside.addWidget(self.withdraw_words)
        self.warnings = Message(self)
        self.warnings.MOST = 2_000
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        for widget in (self.title, self.withdraw):
            column.addWidget(widget)
        column.addLayout(self._grid)
        column.addWidget(self.warnings)
        self.rows: dict[str, Message] = {}
        for row, name in enumerate(("Permissions", "Clock", "Round trip", "Fees", "Balances")):
            caption = QLabel(name, self)
            style_as(caption, tone="muted")
            self.rows[name] = Message(self)
            self._grid.addWidget(caption, row, 0, Qt.AlignmentFlag.AlignTop)
            self._grid.addWidget(self.rows[name], row, 1)
        self.hide()

    def clear(self) -> None:
        """Show nothing: it was about other keys."""
        self.hide()

    def show_report(self, report: ConnectionReport) -> None:
        """Show what was found."""
        if report.problem:
            self.title.say(report.problem[:1].upper() + report.problem[1:], "danger")
        else:
            self.title.say("The connection works.", "profit")
        self.withdraw_words.say(WITHDRAW if report.can_withdraw else "", "danger")
        self.withdraw.setVisible(bool(report.can_withdraw))
        found = dict(facts(report))
        for row, (name, value) in enumerate(self.rows.items()):
            value.say(found.get(name, ""), None)
            caption = self._grid.itemAtPosition(row, 0)
            if caption is not None and (label := caption.widget()) is not None:
                label.setVisible(name in found)
        self.warnings.say("\n".join(warnings(report)), "warning")
        self.show()


def facts(report: ConnectionReport) -> Iterator[tuple[str, str]]:
    """Give what is known, as captions and words."""
    yes = {True: "yes", False: "no"}
    may = (("reading", report.can_read), ("trading", report.can_trade), ("withdrawing", report.can_withdraw))
    said = [f"{what} {yes[value]}" for what, value in may if value is not None]
    if said or report.permissions:
        named = f" ({', '.join(report.permissions)})" if report.permissions else ""
        words = (", ".join(said) or "as the venue names them") + named
        yield "Permissions", words[:1].upper() + words[1:]
    if report.clock_skew_ms is not None:
        ahead = "ahead of" if report.clock_skew_ms >= 0 else "behind"
        yield "Clock", f"The venue's is {abs(report.clock_skew_ms):,.0f} ms {ahead} ours"
    if report.latency_ms is not None:
        yield "Round trip", f"{report.latency_ms:,.0f} ms"
    if (fees := fee_words(report.maker_fee, report.taker_fee)) != "":
        yield "Fees", fees
    if not report.problem:
        yield "Balances", balance_words(report.balances)


def warnings(report: ConnectionReport) -> list[str]:
    """Give what the person should know besides."""
    found = list(report.warnings)
    if report.can_trade is False and not report.problem:
        found.append("These keys may not trade: allow it at the venue, or use the account for looking alone.")
    if report.clock_skew_ms is not None and abs(report.clock_skew_ms) > MOST_SKEW_MS:
        found.append("The clocks differ by more than a second: set this machine's clock, or orders may be refused.")
    return [text[:1].upper() + text[1:] for text in found]


def fee_words(maker: Decimal | None, taker: Decimal | None) -> str:
    """Write fees, which are fractions, as percentages; empty where neither is known."""
    known = (("maker", maker), ("taker", taker))
    return ", ".join(f"{name} {quantity(fee * 100)} %" for name, fee in known if fee is not None)


def balance_words(balances: tuple[Balance, ...]) -> str:
    """Name what is there, the first few."""
    held = [each for each in balances if each.total]
    if not held:
        return "Nothing in it"
    words = [f"{amount(each.total, each.currency)} {each.currency}" for each in held[:_MOST_BALANCES]]
    more = len(held) - len(words)
    return ", ".join(words) + (f" and {more} more" if more else "")
