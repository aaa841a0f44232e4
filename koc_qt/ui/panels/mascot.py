"""The mascot's dock: it watches the desk, and shows how things stand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, ClassVar

from PySide6.QtWidgets import QVBoxLayout, QWidget

from koc_qt.domain.state import JobState
from koc_qt.link.client import LinkState
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.mascot.moods import MoodInputs
from koc_qt.ui.mascot.sprite import load_sprite
from koc_qt.ui.mascot.widget import MascotWidget


class MascotPanel(Panel):
    """Tells the mascot what it should know, as soon as the window knows it."""

    NAME: ClassVar[str] = "mascot"
    TITLE: ClassVar[str] = "Mascot"
    ICON: ClassVar[str] = "mascot"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self.mascot = MascotWidget(load_sprite(), self, theme=bench.theme)
        column = QVBoxLayout(self)
        column.setContentsMargins(4, 4, 4, 4)
        column.addWidget(self.mascot)
        self._was_connected = False
        self.desk.linked.connect(self.look)
        self.desk.framed.connect(self._on_frame)
        bench.work.changed.connect(self.look)
        self.mascot.hide_wanted.connect(lambda: bench.requests.panel_unwanted.emit(self.NAME))
        self.look()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.engine or frame.strategies or frame.backtests:
            self.look()

    def look(self) -> None:
        """Look at how things stand."""
        desk, replica = self.desk, self.desk.replica
        self._was_connected = self._was_connected or desk.is_connected
        engine = replica.engine
        self.mascot.observe(
            MoodInputs(
                halted=engine is not None and engine.kill_switch,
                lost=self._was_connected and desk.link_state in (LinkState.LOST, LinkState.REFUSED),
                running=sum(strategy.pid is not None for strategy in replica.strategies.values()),
                pnl=engine.pnl if engine is not None else None,
                equity=self._equity(),
                backtests_done=sum(run.state is JobState.DONE for run in replica.backtests.values()),
                work=self.bench.work.title,
                work_done=self.bench.work.done,
            )
        )

    def _equity(self) -> Decimal | None:
        """Give what the accounts hold in the currency that everything is quoted in; None where there are several."""
        replica = self.desk.replica
        quotes = {instrument.quote for instrument in replica.instruments.values()}
        totals = [
            balance.total
            for account in replica.accounts.values()
            for balance in account.balances
            if balance.currency in quotes
        ]
        return sum(totals, Decimal(0)) or None if len(quotes) == 1 else None

    def state(self) -> dict[str, Any]:
        """Give whether it moves."""
        return {"motion": self.mascot.motion}

    def restore(self, state: dict[str, Any]) -> None:
        """Move, or do not."""
        self.mascot.set_motion(bool(state.get("motion", True)))
