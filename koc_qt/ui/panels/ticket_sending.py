"""Sending an order by hand: once, after a confirmation where money is real, and an honest word of what came of it."""

from __future__ import annotations

import shiboken6
from PySide6.QtCore import QObject, Qt, QTimer, Signal
from PySide6.QtWidgets import QApplication, QMessageBox, QWidget

from koc_qt.domain.errors import KocError, LinkError, NotSent
from koc_qt.domain.instruments import Instrument
from koc_qt.link.messages import SubmitOrder
from koc_qt.ui.desk import Desk, Frame, Level
from koc_qt.ui.panels.ticket_draft import Draft, describe, money, progress
from koc_qt.ui.panels.ticket_fields import Message
from koc_qt.ui.theme import style_as

SEND_TIMEOUT_S = 30.0  # the engine waits for a price and for the venue, ten seconds each
REST_MS = 500  # after a click, at least: the second one of a double click sends nothing
NOT_KNOWN = "It is not known whether the order was placed: look in Orders before sending again"


class Sending(QObject):
    """Sends one order at a time, and says in `answer` how it fares; nothing is ever sent again by itself.

    `changed` says that `is_busy` may differ, `accepted` that the engine took an order.
    """

    changed = Signal()
    accepted = Signal()

    def __init__(self, desk: Desk, answer: Message, owner: QWidget) -> None:
        super().__init__(owner)
        self._desk = desk
        self._answer = answer
        self._owner = owner
        self._is_retired = False
        self._followed = ""  # client order id of the newest order
        self.is_sending = False
        self.is_asking = False
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(max(REST_MS, QApplication.doubleClickInterval()))
        self._rest.timeout.connect(self.changed)
        desk.framed.connect(self._on_frame)

    @property
    def is_busy(self) -> bool:
        """Whether an order is under way or being confirmed, or was sent a moment ago."""
        return self.is_sending or self.is_asking or self._rest.isActive()

    def trouble(self) -> tuple[str, str]:
        """Say why nothing can be sent, and in which tone; empty while it can."""
        engine = self._desk.replica.engine
        if not self._desk.is_connected or engine is None:
            return f"Not connected: {self._desk.link_reason}", "warning"
        if engine.kill_switch:
            reason = f" ({engine.kill_reason})" if engine.kill_reason else ""
            return f"The kill switch is engaged{reason}: release it to trade", "danger"
        return "", ""

    def retire(self) -> None:
        """Tell of an order under way by a notice from now on: its ticket is about to go."""
        self._is_retired = True

    def confirm(self, order: SubmitOrder, rules: Instrument, draft: Draft) -> None:
        """Send an order once the person has said that real money is meant."""
        if self.is_busy:
            return
        estimate = ""
        if draft.notional is not None:
            worth, fee = money(draft.notional, rules), money(draft.fee, rules, 2)
            estimate = f"Worth about {worth} {rules.quote}, fee about {fee} {rules.quote}.\n"
        box = QMessageBox(self._owner)
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("K.O.C.")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText("Send this order with real money?")
        box.setInformativeText(
            f"{describe(order.request, rules)}.\n{estimate}\n"
            f"{order.request.instrument} on the live account {order.account_id}."
        )
        agree = box.addButton(f"{order.request.side.capitalize()} now", QMessageBox.ButtonRole.AcceptRole)
        style_as(agree, role=order.request.side.value)
        cancel = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(cancel)
        box.setEscapeButton(cancel)
        box.finished.connect(lambda _code: self._asked(order, has_agreed=box.clickedButton() is agree))
        box.finished.connect(box.deleteLater)
        self.is_asking = True
        self.changed.emit()
        box.open()

    def _asked(self, order: SubmitOrder, *, has_agreed: bool) -> None:
        self.is_asking = False
        trouble, _ = self.trouble()
        if not has_agreed:
            self.changed.emit()
        elif trouble:
            self._conclude(f"The order was not sent. {trouble}", "danger")
        else:
            self.submit(order)

    def submit(self, order: SubmitOrder) -> None:
        """Send an order, unless one is under way."""
        if self.is_busy:
            return
        self.is_sending = True
        self._followed = ""
        self._rest.start()
        self._answer.say("Sending…", "muted")
        self.changed.emit()
        self._desk.start(self._deliver(order))

    async def _deliver(self, order: SubmitOrder) -> None:
        try:
            key = await self._desk.request(order, timeout_s=SEND_TIMEOUT_S)
        except NotSent as error:
            self._conclude(str(error), "danger")
        except LinkError as error:
            self._conclude(NOT_KNOWN, "danger", str(error))
        except KocError as error:
            self._conclude(f"The order was refused: {error}", "danger")
        except Exception as error:
            self._conclude(NOT_KNOWN, "danger", f"{type(error).__name__}: {error}")
            raise  # the desk logs it
        else:
            self._conclude(f"Order {key} is on its way", "info", key=str(key))

    def _conclude(self, text: str, tone: str, detail: str = "", key: str = "") -> None:
        """Say how it ended in place, and to the person at large where the ticket cannot be seen, or all is unclear."""
        self.is_sending = False
        is_here = not self._is_retired and shiboken6.isValid(self)
        if text == NOT_KNOWN or not is_here or not self._owner.isVisible():
            self._desk.notify(text, Level.ERROR if tone == "danger" else Level.INFO, detail)
        if not is_here:
            return
        self._answer.say(f"{text}\n{detail[:1].upper()}{detail[1:]}" if detail else text, tone)
        if key:
            self._followed = key
            self._show_progress()
            self.accepted.emit()
        self.changed.emit()

    def _on_frame(self, frame: Frame) -> None:
        if self._followed and (frame.snapshot or self._followed in frame.orders):
            self._show_progress()

    def _show_progress(self) -> None:
        order = self._desk.replica.orders.get(self._followed)
        if order is not None:
            self._answer.say(*progress(order, self._desk.replica.instruments.get(order.request.instrument)))
