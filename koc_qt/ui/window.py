"""The main window: header, notices, docks and status line, joined to the desk and to each other."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from loguru import logger
from PySide6.QtCore import QByteArray, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QGuiApplication
from PySide6.QtWidgets import QMainWindow, QMenu, QMenuBar, QVBoxLayout, QWidget

from koc_qt.domain.instruments import InstrumentId
from koc_qt.link.messages import EngageKillSwitch
from koc_qt.ui.actions import MENUS, Actions, Command
from koc_qt.ui.bench import Bench, Panel, Requests
from koc_qt.ui.closing import CloseDialog
from koc_qt.ui.closing_work import WorkGuard
from koc_qt.ui.commands import register_commands
from koc_qt.ui.desk import Desk, Frame, Level, Notice
from koc_qt.ui.drops import DropZone
from koc_qt.ui.enclosure import Enclosure
from koc_qt.ui.focus import FocusGuide, go_on
from koc_qt.ui.frame_monitor import FrameMonitor
from koc_qt.ui.header import Header, icon_of_app
from koc_qt.ui.icons import icon
from koc_qt.ui.live_frame import LiveFrame
from koc_qt.ui.memory import Memory, MemoryFile
from koc_qt.ui.notices import Notices, Remedy
from koc_qt.ui.palette import CommandPalette
from koc_qt.ui.status import StatusLine
from koc_qt.ui.streams import Streams
from koc_qt.ui.theme import Theme
from koc_qt.ui.workspace import PanelKind, Workspace

DEFAULT_SIZE = QSize(1480, 900)
FRAME_ROOM = QSize(16, 48)  # for the desktop's frame and title bar, which nobody knows before the window is shown
SMALLEST = QSize(930, 500)  # what the default docks need
WRITE_AFTER_MS = 2_000
KILL_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Condition:
    """How it stands with the engine while there is no connection, and what the person can do."""

    text: str
    level: Level
    remedies: tuple[Remedy, ...] = ()


class EngineKeeper(Protocol):
    """Whoever finds or starts the engine."""

    def condition(self) -> Condition | None:
        """Say what is wrong now; None while all is well."""
        ...

    def start_engine(self) -> None:
        """Start the engine because the person wants it; does nothing where one runs."""
        ...

    def may_run(self) -> bool:
        """Whether an engine of this profile runs or starts, although it may not answer."""
        ...

    def on_change(self, call: Callable[[], None]) -> None:
        """Have this called when `condition` may say something else."""
        ...


class MainWindow(QMainWindow):
    """Everything on one screen. `closed` is emitted once, when the window has closed for good."""

    closed = Signal()

    def __init__(
        self,
        desk: Desk,
        theme: Theme,
        file: MemoryFile,
        kinds: Callable[[Bench, FrameMonitor], tuple[PanelKind, ...]],
        make_chart: Callable[[Bench, QWidget], Panel],
        *,
        preload: Callable[[], None] = lambda: None,
        reset_layout: bool = False,
    ) -> None:
        super().__init__()
        self._preload = preload
        self._file = file
        self.memory, complaint = file.read()
        if reset_layout:
            self.memory = Memory(theme=self.memory.theme, on_close=self.memory.on_close)
        self.setWindowTitle("K.O.C.")
        self.setWindowIcon(icon_of_app())
        room = self.screen().availableSize() - FRAME_ROOM
        self.setMinimumSize(SMALLEST.boundedTo(room))  # or its right and its lowest line would be out of reach
        theme.set_choice(self.memory.theme)
        self.monitor = FrameMonitor(self)
        self.monitor.count_paints(self)
        self.bench = Bench(desk, Streams(desk), theme, Actions(self), Requests(self), in_steps=True)
        self.actions_ = self.bench.actions
        self._may_close = False
        self._kill_missed = False  # it was wanted while nobody heard
        self._time_wanted: tuple[InstrumentId, int] | None = None
        self._keeper: EngineKeeper | None = None
        self._closing: CloseDialog | None = None

        self._menus: dict[str, QMenu] = {}
        self._make_menus()
        register_commands(self)
        self.notices = Notices(theme)
        self.header = Header(self.bench)
        self._make_top()
        self.status = StatusLine(self.bench, self.monitor)
        self.setStatusBar(self.status)
        self.palette_ = CommandPalette(self.actions_, theme, self)
        self.drops = DropZone(self, theme)
        self._focus_guide = FocusGuide(theme, self)
        self.live_frame = LiveFrame(self.bench, self)
        self.work_guard = WorkGuard(self, self.bench.work)

        self.workspace = Workspace(self, kinds(self.bench, self.monitor), partial(make_chart, self.bench))
        self._restore_geometry()
        self.workspace.open(self.memory)
        self._fill_view_menu()
        self._connect()
        if complaint:
            self.notices.show_notice(Notice(Level.WARNING, complaint))
        self.setFocus()  # Qt would give it to the first button, which looks as if it were chosen

    # ---- making -----------------------------------------------------------------------------------------------------

    def _make_menus(self) -> None:
        self._bar = QMenuBar()
        for title in MENUS:
            self._menus[title] = self._bar.addMenu(title)
        self.actions_.added.connect(self._put_in_menu)

    def _put_in_menu(self, command: Command) -> None:
        action = self.actions_[command.name]
        if command.icon:
            action.setIcon(icon(command.icon, self.bench.theme))
        if command.menu:
            menu, last = self._menus[command.menu], "help.about"
            if command.leads and menu.actions():
                menu.insertAction(menu.insertSeparator(menu.actions()[0]), action)
            elif command.menu == "&Help" and last in self.actions_:
                menu.insertAction(self.actions_[last], action)
            else:
                menu.addAction(action)

    def _make_top(self) -> None:
        top = Enclosure(self, is_as_high_as_wanted=True)
        inside = QWidget(top)
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for widget in (self._bar, self.header, self.notices):
            column.addWidget(widget)
        top.hold(inside)
        self.setMenuWidget(top)

    def _fill_view_menu(self) -> None:
        menu = self._menus["&View"]
        menu.addSeparator()
        for name, dock in self.workspace.docks.items():
            action = dock.toggleViewAction()
            action.setObjectName(f"view.{name}")
            menu.addAction(action)
        for name, kind in self.workspace.kinds.items():  # the menu has them above: these are for whoever types
            show = Command(f"panel.{name}", f"Show {kind.title.replace('&', '&&')}", icon=kind.icon)
            self.actions_.add(show, partial(self._go_to_panel, name))

    def _go_to_panel(self, name: str) -> None:
        """Show a panel, and have Tab go on from there."""
        self.workspace.show_panel(name)
        panel = self.workspace.panel(name)
        if panel is not None:
            panel.setFocus()

    def _connect(self) -> None:
        desk, requests = self.bench.desk, self.bench.requests
        desk.noticed.connect(self.notices.show_notice)
        desk.linked.connect(self._show_condition)
        desk.framed.connect(self._on_frame)
        requests.chart_wanted.connect(self.open_chart)
        requests.time_wanted.connect(self._note_time)
        self.workspace.chart_made.connect(self._pass_time_on)
        requests.panel_wanted.connect(self.workspace.show_panel)
        requests.panel_unwanted.connect(lambda name: self.workspace.docks[name].close())
        self.drops.dropped.connect(self.offer)
        self.drops.bars_dropped.connect(self.offer_bars)
        self.drops.refused.connect(lambda text: desk.notify(text, Level.WARNING))
        self._write_timer = QTimer(self)
        self._write_timer.setSingleShot(True)
        self._write_timer.setInterval(WRITE_AFTER_MS)
        self._write_timer.timeout.connect(self.remember)
        self.workspace.charts_changed.connect(self._write_timer.start)
        self.workspace.filled.connect(self._introduce)
        self._show_condition()
        self._show_halt()

    def start(self) -> None:
        """Make the panels, now that the window has been painted; what charts need is loaded beside the loop first."""
        self.monitor.start()
        self.bench.desk.start(self._fill())

    async def _fill(self) -> None:
        loop = asyncio.get_running_loop()
        with _turns_often():
            await loop.run_in_executor(None, self._preload)
        self.workspace.start_filling()

    def _introduce(self) -> None:
        """Let panels that were made after the charts know what the person looks at."""
        for panel in self.workspace.chart_panels():
            state = panel.state()
            self.bench.requests.instrument_chosen.emit(InstrumentId.parse(str(state["instrument"])))
            return

    # ---- the engine -------------------------------------------------------------------------------------------------

    def use_keeper(self, keeper: EngineKeeper) -> None:
        """Ask this one how it stands with the engine."""
        self._keeper = keeper
        keeper.on_change(self._show_condition)
        self._show_condition()

    def start_engine(self) -> None:
        """Start the engine where none runs."""
        if self._keeper is not None:
            self._keeper.start_engine()

    def kill(self) -> None:
        """Engage the kill switch."""
        connected = self.bench.desk.is_connected
        self._kill_missed = not connected
        self._show_missed_kill()
        if connected:
            self.bench.desk.send(EngageKillSwitch("engaged in the window"), timeout_s=KILL_TIMEOUT_S)
        else:
            logger.info("the kill switch was wanted, and there is no connection to the engine")

    def _show_missed_kill(self) -> None:
        """Say that a wish for the kill switch came to nothing, for as long as nobody has decided anew."""
        if not self._kill_missed:
            self.notices.clear_condition("kill")
        elif self.bench.desk.is_connected:
            self.notices.set_condition(
                "kill",
                "The engine answers again. The kill switch is still not engaged.",
                Level.WARNING,
                (("Engage it", self.kill), ("Leave it", self._forget_missed_kill)),
            )
        else:
            self.notices.set_condition(
                "kill",
                "The kill switch was NOT engaged: there is no connection to the engine. On the engine's machine, "
                "`koc kill` does it.",
                Level.ERROR,
            )

    def _forget_missed_kill(self) -> None:
        self._kill_missed = False
        self._show_missed_kill()

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.engine:
            self._show_halt()
            engine = self.bench.desk.replica.engine
            self._kill_missed = self._kill_missed and not (engine is not None and engine.kill_switch)
            self._show_missed_kill()

    def _show_halt(self) -> None:
        engine = self.bench.desk.replica.engine
        connected = self.bench.desk.is_connected
        halted = connected and engine is not None and engine.kill_switch
        self.actions_["engine.release"].setEnabled(halted)
        self.actions_["engine.kill"].setEnabled(not halted)
        self.actions_["engine.stop"].setEnabled(connected)
        if halted and engine is not None:
            why = f" ({engine.kill_reason})" if engine.kill_reason else ""
            self.notices.set_condition(
                "halt",
                f"The kill switch is engaged{why}: strategies are stopped, orders cancelled, and new ones refused "
                "until it is released.",
                Level.ERROR,
            )
        else:
            self.notices.clear_condition("halt")
        if connected and engine is not None and not engine.journal_ok:
            self.notices.set_condition(
                "journal",
                "The engine cannot write its journal, so it takes no orders: see whether its disk is full.",
                Level.ERROR,
            )
        else:
            self.notices.clear_condition("journal")

    def _show_condition(self) -> None:
        """Say how it stands with the engine, in place, while there is no connection."""
        desk = self.bench.desk
        self._show_halt()
        if desk.is_connected:
            self.notices.clear_condition("engine")
            return
        self._show_missed_kill()
        condition = self._keeper.condition() if self._keeper is not None else None
        if condition is None:
            self.notices.clear_condition("engine")
        else:
            self.notices.set_condition("engine", condition.text, condition.level, condition.remedies)

    # ---- what panels and commands ask -------------------------------------------------------------------------------

    def open_chart(self, instrument: InstrumentId, timeframe: str = "") -> None:
        """Show a chart: the one that is there already, or a new one."""
        for name, dock in self.workspace.charts.items():
            state = dock.panel.state() if dock.panel is not None else {}
            if state.get("instrument") == str(instrument) and timeframe in ("", state.get("timeframe")):
                self.workspace.show_panel(name)
                return
        if self.workspace.add_chart(instrument, timeframe or "1m") is None:
            self.bench.desk.notify("There are as many charts as there can be: close one first.", Level.WARNING)

    def _note_time(self, instrument: InstrumentId, time_ns: int) -> None:
        """Keep a time for the chart that was opened for it and is only being made; those that are there hear it."""
        waiting = any(dock.panel is None for dock in self.workspace.charts.values())
        self._time_wanted = (instrument, time_ns) if waiting else None

    def _pass_time_on(self, panel: Panel) -> None:
        wanted = self._time_wanted
        if wanted is not None and panel.state().get("instrument") == str(wanted[0]):
            self.bench.requests.time_wanted.emit(*wanted)
            self._time_wanted = None

    def offer(self, paths: list[str]) -> None:
        """Show the form that starts a strategy, for each of these files."""
        self.workspace.show_panel("strategies")
        for path in paths:
            self._when_made("strategies", partial(self.bench.requests.strategy_offered.emit, path))

    def offer_bars(self, paths: list[str]) -> None:
        """Put files of bars into the back-test panel."""
        self.workspace.show_panel("backtest")
        self._when_made("backtest", partial(self.bench.requests.bars_offered.emit, paths))

    def _when_made(self, name: str, call: Callable[[], None]) -> None:
        """Call at once, or where the panel is still being made, as soon as all are there."""
        if self.workspace.panel(name) is not None:
            call()
        else:
            self.workspace.filled.connect(call, Qt.ConnectionType.SingleShotConnection)

    def reset_layout(self) -> None:
        """Put every dock where it is at first."""
        self.workspace.reset()
        self._write_timer.start()

    # ---- keys --------------------------------------------------------------------------------------------------------

    def focusNextPrevChild(self, is_forward: bool) -> bool:  # noqa: N802 - Qt's name
        """Go to the next control that can be seen: Qt would go through docks that lie behind others, too."""
        docks = (*self.workspace.docks.values(), *self.workspace.charts.values())
        behind = [dock for dock in docks if dock.visibleRegion().isEmpty()]
        return go_on(self, is_forward=is_forward, besides=behind)

    # ---- remembering and closing ------------------------------------------------------------------------------------

    def _restore_geometry(self) -> None:
        area = self.screen().availableGeometry()
        self.resize(DEFAULT_SIZE.boundedTo(area.size() - FRAME_ROOM))
        try:
            data = QByteArray(base64.b64decode(self.memory.geometry, validate=True))
        except (binascii.Error, ValueError):
            data = QByteArray()
        if not data.isEmpty():
            self.restoreGeometry(data)  # Qt keeps it on a screen that is there

    def remember(self) -> None:
        """Write down how everything lies; a failure is said once, and costs nothing else."""
        self._write_timer.stop()
        self.memory.geometry = base64.b64encode(self.saveGeometry().data()).decode()
        self.memory.theme = self.bench.theme.choice
        self.workspace.remember(self.memory)
        try:
            self._file.write(self.memory)
        except OSError as error:
            self.notices.show_notice(
                Notice(Level.WARNING, f"The layout cannot be kept in {self._file.path}: {error.strerror}.")
            )

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Ask what becomes of a build and of the engine, unless there is none, or the answer is known."""
        ending = QGuiApplication.instance() is not None and _session_ends()
        if not ending and self.work_guard.holds(may_ask=not self._may_close):
            event.ignore()
            return
        knows = self._may_close or self.memory.on_close == "keep"
        if not knows and not ending and self._concerns_an_engine():
            event.ignore()
            self._ask()
            return
        self.remember()
        self.monitor.stop()
        event.accept()
        self.closed.emit()

    def _concerns_an_engine(self) -> bool:
        return self.bench.desk.is_connected or (self._keeper is not None and self._keeper.may_run())

    def close_now(self) -> None:
        """Close without a question; the engine goes on."""
        self._may_close = True
        self.close()

    def _ask(self) -> None:
        if self._closing is not None:
            self._closing.raise_()
            return
        self._closing = CloseDialog(self.bench, self)
        self._closing.decided.connect(lambda _choice: self.close_now())
        self._closing.remembered.connect(self._remember_choice)
        self._closing.finished.connect(self._forget_dialog)
        self._closing.open()
        if self.memory.on_close == "stop" and not self.bench.desk.is_remote:  # others may trade with that one
            self._closing.begin_stop()

    def _remember_choice(self, choice: str) -> None:
        self.memory.on_close = choice

    def _forget_dialog(self) -> None:
        if self._closing is not None:
            self._closing.deleteLater()
            self._closing = None


@contextlib.contextmanager
def _turns_often() -> Iterator[None]:
    """Have threads take turns ten times as often: else the loop waits 5 ms for one that loads, again and again.

    Each call into Qt lets go of Python and has to get it back.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(before / 10)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def _session_ends() -> bool:
    app = QGuiApplication.instance()
    return isinstance(app, QGuiApplication) and app.isSavingSession()
