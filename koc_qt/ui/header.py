"""What is always visible: connection, engine, mode, total PnL, trades an hour, start and stop all, the kill switch."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import QAction, QIcon, QResizeEvent
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QToolButton, QWidget

from koc_qt.domain.state import EngineState, TradingMode
from koc_qt.link.client import LinkState
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Frame
from koc_qt.ui.formats import signed_money
from koc_qt.ui.icons import icon
from koc_qt.ui.live_frame import live_accounts
from koc_qt.ui.modes import MODES, account_name, mode_word, takes_orders
from koc_qt.ui.resources import resource
from koc_qt.ui.theme import number_font, style_as

ROOM_STEP_PX = 24  # by which a figure's room grows
NARROW_PX = 1040  # below, buttons do without their words, but for the kill switch
MOST_MODES = 2  # that are named; the tooltip has all
_LINK_WORDS = {
    LinkState.CONNECTING: ("Connecting", "warning"),
    LinkState.LOST: ("No engine", "danger"),
    LinkState.REFUSED: ("Refused", "danger"),
    LinkState.CLOSED: ("Closed", "neutral"),
}
_ENGINE_WORDS = {
    EngineState.STARTING: ("Starting", "warning"),
    EngineState.RUNNING: ("Running", "profit"),
    EngineState.HALTED: ("Halted", "danger"),
    EngineState.STOPPING: ("Stopping", "warning"),
}


class Figure(QWidget):
    """A caption and its value.

    It places them itself: a layout would tell of every change of a value's width, and the whole window be laid out
    anew, docks and all. Its own width only grows, and by steps.
    """

    def __init__(self, caption: str, tip: str) -> None:
        super().__init__()
        self.caption = QLabel(caption, self)
        style_as(self.caption, tone="muted", face="small")
        self.value = QLabel("—", self)
        style_as(self.value, face="value")
        self.value.setFont(number_font())
        self._room = QSize(0, 0)
        self.setToolTip(tip)

    def show_value(self, text: str, tone: str | None = None) -> None:
        """Show a value."""
        if self.value.text() != text:
            self.value.setText(text)
        style_as(self.value, tone=tone)

    def event(self, event: QEvent) -> bool:
        """Make room for a value, or letters, that have become larger."""
        if event.type() == QEvent.Type.LayoutRequest and self.sizeHint() != self._room:
            self._room = self.sizeHint()
            self.updateGeometry()
            self._place()
        return super().event(event)

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for the widest that there was."""
        caption, value = self.caption.sizeHint(), self.value.sizeHint()
        wanted = -(-max(caption.width(), value.width()) // ROOM_STEP_PX) * ROOM_STEP_PX
        return QSize(max(wanted, self._room.width()), caption.height() + value.height())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for no less."""
        return self.sizeHint()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Place both."""
        super().resizeEvent(event)
        self._place()

    def _place(self) -> None:
        high = self.caption.sizeHint().height()
        top = max(0, (self.height() - self.sizeHint().height()) // 2)
        self.caption.setGeometry(0, top, self.width(), high)
        self.value.setGeometry(0, top + high, self.width(), self.value.sizeHint().height())


class Header(QFrame):
    """The bar under the menus."""

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._bench = bench
        self._desk = bench.desk
        self._later: dict[str, tuple[QToolButton, str]] = {}
        style_as(self, bar="header")
        self.state = self._pill("What the engine is doing")
        self.live = self._pill("")
        style_as(self.live, pill="real-money")
        self.live.setText("LIVE")
        self.mode = self._pill("Where orders go")
        self.pnl = Figure("Total PnL", "Realised and unrealised profit of everything, after fees")
        self.rate = Figure("Trades / h", "Trades an hour, all strategies")
        self.strategies = Figure("Strategies", "Strategies that run")
        logo = QLabel()
        logo.setPixmap(icon_of_app().pixmap(QSize(24, 24)))
        logo.setToolTip("K.O.C., Killer Operations Core")

        row = QHBoxLayout(self)
        row.setContentsMargins(12, 6, 10, 6)
        row.setSpacing(8)
        for widget in (logo, self.state, self.live, self.mode):
            row.addWidget(widget)
        for figure in (self.pnl, self.rate, self.strategies):
            row.addSpacing(6)
            row.addWidget(figure)
        row.addStretch(1)
        self.start_all = self._button("strategies.start_all", "Start all")
        self.stop_all = self._button("strategies.stop_all", "Stop all")
        self.palette_button = self._button("window.palette", "Ctrl+K")
        style_as(self.palette_button, tone="muted")
        self.kill = self._button("engine.kill", "Kill switch", role="danger")
        self.release = self._button("engine.release", "Release…", role="danger")
        for button in (self.start_all, self.stop_all, self.palette_button, self.kill, self.release):
            row.addWidget(button)
        self.kill.setAccessibleName("Kill switch")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        bench.actions.added.connect(self._command_added)
        self._desk.framed.connect(self._on_frame)
        self._desk.linked.connect(self.refresh)
        self.refresh()

    def _pill(self, tip: str) -> QLabel:
        pill = QLabel()
        pill.setToolTip(tip)
        style_as(pill, pill="neutral")
        return pill

    def _button(self, name: str, text: str, *, role: str | None = None) -> QToolButton:
        """Make a button of a command, which may come later, with the panel that it belongs to."""
        button = QToolButton()
        button.setText(text)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        button.setIconSize(QSize(20, 16))  # icons are square: some room between one and its word
        style_as(button, role=role)
        if name in self._bench.actions:
            self._join(button, name, text)
        else:
            button.setEnabled(False)
            self._later[name] = (button, text)
        return button

    def _join(self, button: QToolButton, name: str, text: str) -> None:
        action: QAction = self._bench.actions[name]
        picture = self._bench.actions.commands[name].icon

        def dress() -> None:  # the menu's words are longer, and its icons are not on red
            button.setText(text)
            button.setAccessibleName(action.text().replace("&", ""))
            if button.property("role") == "danger" and action.isEnabled():
                button.setIcon(icon(picture, self._bench.theme, "on_fill"))

        button.setEnabled(True)
        button.setDefaultAction(action)
        dress()
        action.changed.connect(dress)

    def _command_added(self, command: Command) -> None:
        if command.name in self._later:
            button, text = self._later.pop(command.name)
            self._join(button, command.name, text)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave out words where there is no room for them."""
        super().resizeEvent(event)
        style = Qt.ToolButtonStyle
        wanted = style.ToolButtonIconOnly if self.width() < NARROW_PX else style.ToolButtonTextBesideIcon
        for button in (self.start_all, self.stop_all, self.palette_button):
            button.setToolButtonStyle(wanted)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for no more width than the window has at its smallest."""
        return QSize(0, super().minimumSizeHint().height())

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.engine or frame.accounts or frame.strategies:
            self.refresh()

    def refresh(self) -> None:
        """Show what is so now."""
        desk, replica = self._desk, self._desk.replica
        engine = replica.engine if desk.is_connected else None
        words, pill = _LINK_WORDS.get(desk.link_state, ("Connecting", "warning"))
        if engine is not None:
            words, pill = _ENGINE_WORDS[engine.state]
        self._show_pill(self.state, words + (" · remote" if desk.is_remote and engine else ""), pill)
        self.state.setToolTip(desk.link_reason if engine is None else _about(engine.version, engine.pid, engine.reason))
        self._show_modes()
        halted = engine is not None and engine.kill_switch
        self.kill.setVisible(not halted)
        self.release.setVisible(halted)
        if engine is None:
            for figure in (self.pnl, self.rate, self.strategies):
                style_as(figure.value, tone="muted")  # as it was when the engine was last heard
            return
        tone = "profit" if engine.pnl > 0 else "loss" if engine.pnl < 0 else None
        self.pnl.show_value(f"{signed_money(engine.pnl)} {self._currency()}".strip(), tone)
        self.rate.show_value(f"{engine.trades_per_hour:,.0f}")
        running = sum(strategy.pid is not None for strategy in replica.strategies.values())
        self.strategies.show_value(f"{running} / {len(replica.strategies)}")

    def _show_modes(self) -> None:
        """Show where orders go: that some go to a venue with real money stands apart, and is never left out."""
        accounts = self._desk.replica.accounts
        live = live_accounts(accounts.values())
        self.live.setVisible(bool(live))
        self.live.setToolTip(f"Orders trade with real money: {', '.join(account_name(each) for each in live)}")
        self.live.setAccessibleName(self.live.toolTip())
        used = {each.mode for each in accounts.values() if takes_orders(each)}
        modes = [mode for mode in MODES if mode in used and mode is not TradingMode.LIVE]
        words = " + ".join(map(mode_word, modes)) or "—"
        self.mode.setToolTip(f"Where orders go: {words}")
        short = f"{mode_word(modes[0])} +{len(modes) - 1}" if len(modes) > MOST_MODES else words
        self._show_pill(self.mode, short, modes[0] if modes else None)
        self.mode.setVisible(bool(modes) or not live)

    def _currency(self) -> str:
        """Name the currency of the total where there is only one."""
        replica = self._desk.replica
        quotes = {
            instrument.quote
            for position in replica.positions.values()
            if (instrument := replica.instruments.get(position.instrument)) is not None
        }
        return quotes.pop() if len(quotes) == 1 else ""

    def _show_pill(self, pill: QLabel, text: str, look: str | None) -> None:
        if pill.text() != text:
            pill.setText(text)
        style_as(pill, pill=str(look or "neutral"))


def _about(version: str, pid: int, reason: str) -> str:
    return f"Engine {version}, process {pid}" + (f": {reason}" if reason else "")


def icon_of_app() -> QIcon:
    """Give the program's own icon."""
    return QIcon(str(resource("koc.svg")))
