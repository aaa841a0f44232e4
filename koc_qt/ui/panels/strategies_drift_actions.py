"""The commands about drift in the strategies panel, and the dialog that one of them opens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from PySide6.QtWidgets import QWidget

from koc_qt.domain.state import StrategySnapshot, StrategyState
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.strategies_drift import DriftKeeper
from koc_qt.ui.slices import Slices

if TYPE_CHECKING:
    from koc_qt.ui.panels.strategies_drift_view import DriftDialog

MEASURE_DRIFT, SHOW_DRIFT = "strategies.measure_drift", "strategies.show_drift"
_COMMANDS = (
    Command(
        MEASURE_DRIFT,
        "&Measure drift now",
        "&Trade",
        "refresh",
        tip="Run the chosen strategies, or all that run, once more as back-tests, and compare",
    ),
    Command(
        SHOW_DRIFT,
        "Show &drift",
        "&Trade",
        "telemetry",
        tip="Whether the chosen strategy does live what it does in a back-test",
    ),
)


class DriftActions:
    """Measures the strategies that `chosen` gives, and shows the drift of the first. `panel` owns the dialog."""

    def __init__(
        self, bench: Bench, keeper: DriftKeeper, chosen: Callable[[], Sequence[StrategySnapshot]], panel: QWidget
    ) -> None:
        self._bench, self._keeper, self._chosen, self._panel = bench, keeper, chosen, panel
        self.dialog: DriftDialog | None = None
        self._making = Slices(panel)
        self.measure, self.show = (
            bench.actions.add(command, run) for command, run in zip(_COMMANDS, (self._measure, self._show), strict=True)
        )
        for action, command in zip((self.measure, self.show), _COMMANDS, strict=True):
            action.setIcon(icon(command.icon, bench.theme))

    def judge(self, known: Sequence[StrategySnapshot]) -> None:
        """Enable what can be done, and bring the dialog up to date."""
        is_connected = self._bench.desk.is_connected
        can_measure = bool(self._chosen()) or any(each.state is StrategyState.RUNNING for each in known)
        self.measure.setEnabled(is_connected and not self._keeper.is_busy and can_measure)
        if self.dialog is not None:
            self.dialog.allow(is_connected)

    def renew(self) -> None:
        """Show what is known by now, where the dialog is open."""
        if self.dialog is not None:
            self.dialog.renew()
            self.dialog.allow(self._bench.desk.is_connected)

    def retire(self) -> None:
        """Leave the menus and close the dialog."""
        for command in _COMMANDS:
            self._bench.actions.remove(command.name)
        self._making.cancel()
        if self.dialog is not None:
            self.dialog.close()

    # ---- inside

    def _measure(self) -> None:
        self._keeper.measure([each.spec.strategy_id for each in self._chosen()])

    def _show(self) -> None:
        if self.dialog is None:
            if not self._making.is_busy:
                self._making.start(self._make())
            return
        chosen = self._chosen()
        self.dialog.show_strategy(chosen[0].spec.strategy_id if chosen else "")
        self._bring_up(self.dialog)

    def _make(self) -> Iterator[None]:
        """Make the dialog, a few milliseconds a turn, and show it."""
        from koc_qt.ui.panels.strategies_drift_view import DriftDialog  # few look at it: the window begins sooner

        yield
        desk = self._bench.desk
        dialog = DriftDialog(desk.replica, self._keeper, self._bench.theme, self.measure, self._panel)
        yield from dialog.parts()
        dialog.again_wanted.connect(lambda key: self._keeper.measure([key]))
        dialog.chosen.connect(lambda: dialog.allow(desk.is_connected))
        dialog.finished.connect(self._closed)
        chosen = self._chosen()
        dialog.show_strategy(chosen[0].spec.strategy_id if chosen else "")
        yield
        dialog.adjust()
        yield
        self.dialog = dialog
        self._bring_up(dialog)

    def _bring_up(self, dialog: DriftDialog) -> None:
        dialog.allow(self._bench.desk.is_connected)
        dialog.show()
        dialog.raise_()
        dialog.activateWindow()

    def _closed(self, _result: int) -> None:
        self.dialog = None
