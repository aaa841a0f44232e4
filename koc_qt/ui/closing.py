"""What happens to the engine when the window closes: asked, and seen through."""

from __future__ import annotations

import asyncio

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QDialog, QHBoxLayout, QLabel, QProgressBar, QPushButton, QVBoxLayout, QWidget

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.link.messages import Shutdown
from koc_qt.ui.bench import Bench
from koc_qt.ui.errands import Errand
from koc_qt.ui.theme import style_as

STOP_TIMEOUT_S = 30.0


class CloseDialog(QDialog):
    """Asks whether the engine goes on. `decided` says that the window may close now."""

    decided = Signal(str)  # "keep" or "stop": what was chosen, when it is done
    remembered = Signal(str)

    def __init__(self, bench: Bench, parent: QWidget) -> None:
        super().__init__(parent)
        self._desk = bench.desk
        self._stopping = Errand(bench.desk, self)
        self.setWindowTitle("Close K.O.C.")
        self.setModal(True)
        self.question = QLabel("Shall the engine go on trading?")
        style_as(self.question, face="title")
        self.what = QLabel(self._what_runs())
        self.what.setWordWrap(True)
        self.what.setMinimumWidth(380)
        style_as(self.what, tone="muted")
        self.remember = QCheckBox("Do the same from now on")
        self.remember.setToolTip("The File menu has the choice again")
        self.progress = QProgressBar()
        self.progress.setRange(0, 0)
        self.progress.setTextVisible(False)
        self.progress.hide()
        self.keep = QPushButton("Keep it running")
        self.keep.setDefault(True)
        style_as(self.keep, role="primary")
        self.stop = QPushButton("Stop the engine")
        self.cancel = QPushButton("Cancel")
        row = QHBoxLayout()
        row.addWidget(self.cancel)
        row.addStretch(1)
        row.addWidget(self.stop)
        row.addWidget(self.keep)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 16)
        column.setSpacing(12)
        for widget in (self.question, self.what, self.progress, self.remember):
            column.addWidget(widget)
        column.addLayout(row)
        self.keep.clicked.connect(lambda: self._choose("keep"))
        self.stop.clicked.connect(lambda: self._choose("stop"))
        self.cancel.clicked.connect(self.reject)
        self.rejected.connect(self._stopping.cancel)
        self.keep.setFocus()  # not the box, which comes first

    def _what_runs(self) -> str:
        if not self._desk.is_connected:
            return (
                "The engine does not answer now, so what it does is not known. Kept running, it goes on by itself; to "
                "be stopped, it has to answer first."
            )
        replica = self._desk.replica
        strategies = sum(strategy.pid is not None for strategy in replica.strategies.values())
        orders = sum(order.is_open for order in replica.orders.values())
        positions = sum(position.quantity != 0 for position in replica.positions.values())
        place = "The engine, on another machine," if self._desk.is_remote else "The engine"
        return (
            f"{place} runs {_count(strategies, 'strategy', 'strategies')}, with {_count(orders, 'open order')} and "
            f"{_count(positions, 'open position')}. It needs no window: kept running, it goes on as it is, and the "
            "next window shows everything. Stopped, it ends strategies and cancels their orders; positions stay."
        )

    def _choose(self, choice: str) -> None:
        if self.remember.isChecked():
            self.remembered.emit(choice)
        if choice == "keep":
            self._finish("keep")
            return
        self.begin_stop()

    def begin_stop(self) -> None:
        """Stop the engine, and close when it has stopped."""
        for widget in (self.keep, self.stop, self.remember):
            widget.setEnabled(False)
        self.question.setText("Stopping the engine…")
        self.what.setText(
            "Strategies end, and their orders are cancelled."
            if self._desk.is_connected
            else "The engine does not answer now: it is stopped as soon as it does."
        )
        self.progress.show()
        self._stopping.start(self._stop(), failed=self._failed)

    async def _stop(self) -> None:
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while not self._desk.last_words:  # one that crashes meanwhile is started again, and trades again
                    await self._link(connected=True)
                    try:
                        await self._desk.request(Shutdown(), timeout_s=STOP_TIMEOUT_S)
                    except LinkError:
                        if self._desk.is_connected:
                            raise
                    await self._link(connected=False)
        except TimeoutError:
            words = "It goes on stopping; its log says why it takes so long."
            if not self._desk.is_connected:
                words = "It does not answer, and may go on trading."
            raise LinkError(f"The engine has not stopped within {STOP_TIMEOUT_S:g} s. {words}") from None
        self._finish("stop")

    async def _link(self, *, connected: bool) -> None:
        """Wait until there is a connection, or none, or the engine has stopped in order."""
        changed = asyncio.Event()
        connection = self._desk.linked.connect(changed.set)
        try:
            while self._desk.is_connected != connected and not (connected and self._desk.last_words):
                changed.clear()
                await changed.wait()
        finally:
            self._desk.linked.disconnect(connection)

    def _failed(self, error: KocError) -> None:
        self.progress.hide()
        self.question.setText("The engine did not stop")
        self.what.setText(str(error))
        for widget in (self.keep, self.stop):
            widget.setEnabled(True)
        self.keep.setText("Close anyway")
        self.stop.setText("Try again")

    def _finish(self, choice: str) -> None:
        self.accept()
        self.decided.emit(choice)


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number or 'no'} {one if number == 1 else many or one + 's'}"
