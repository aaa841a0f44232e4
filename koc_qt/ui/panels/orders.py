"""Orders and positions: what works at the venues, what is held, what was traded, and what can be done about it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from functools import partial
from itertools import islice
from typing import Any

from PySide6.QtCore import QSize, Qt, QTimer
from PySide6.QtGui import QAction, QGuiApplication, QIcon, QKeySequence, QResizeEvent, QShortcut
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLineEdit,
    QMessageBox,
    QStackedWidget,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import Fill, Order, OrderStatus
from koc_qt.domain.state import PositionSnapshot
from koc_qt.link.messages import CancelAllOrders, CancelOrder
from koc_qt.ui.actions import Command
from koc_qt.ui.bench import Bench, Panel
from koc_qt.ui.desk import Frame
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.orders_change import Changer, why_no_change
from koc_qt.ui.panels.orders_closing import Closer, Closing
from koc_qt.ui.panels.orders_columns import UNKNOWN_TIP, fill_columns, order_columns, position_columns
from koc_qt.ui.panels.orders_footer import PnlFooter, totals
from koc_qt.ui.panels.orders_intake import Intake
from koc_qt.ui.panels.orders_records import Record, instrument_of, matcher, selected
from koc_qt.ui.tables.columns import Column
from koc_qt.ui.tables.model import RecordModel
from koc_qt.ui.tables.view import RecordTable
from koc_qt.ui.theme import style_as

OPEN, POSITIONS, FILLS, ALL = "open", "positions", "fills", "all"
REFRESH_MS = 100  # of counts, sums and buttons
TYPING_MS = 120
NARROW_PX = 900
MOST_ROWS = 30_000  # more than the replica ever has
SEARCH_PX = (72, 160)  # its least and most width
MOST_LINES = 8  # of a question
CANCEL_TIMEOUT_S = 30.0
_TABS = {OPEN: "Open orders", POSITIONS: "Positions", FILLS: "Fills", ALL: "All orders"}
_EMPTY = {OPEN: "No open orders", POSITIONS: "No open positions", FILLS: "No fills yet", ALL: "No orders yet"}
_NOT_CONNECTED = "Not connected to the engine"
_COMMANDS = (
    Command("orders.cancel_selected", "Cancel the selected &orders", "&Trade", "cancel"),
    Command("orders.cancel_all", "Cancel &all orders…", "&Trade", "trash", "Ctrl+Shift+X", "Cancel every open order"),
    Command("positions.close_selected", "Close the selected &positions…", "&Trade", "close"),
)
_CHANGE = Command("orders.change_selected", "Chan&ge the selected order…", "&Trade", "edit")


class OrdersPanel(Panel):
    """Four tables that one filter line applies to, and the sums of the positions."""

    NAME = "orders"
    TITLE = "Orders & positions"
    ICON = "orders"

    def __init__(self, bench: Bench, parent: QWidget | None = None) -> None:
        super().__init__(bench, parent)
        self._closer = Closer(self.desk)
        self.changer = Changer(bench, self)
        self._question: QMessageBox | None = None
        self._applied: dict[str, tuple[str, bool]] = {}
        self._buttons: list[QToolButton] = []
        self.tables: dict[str, RecordTable[Any]] = {}
        self.make()

    def parts(self) -> Iterator[None]:
        """Make a table at a time; whoever may ask something of the panel comes last."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        self.tabs = QTabWidget(self)
        self.tabs.setUsesScrollButtons(True)
        self.tabs.tabBar().setDrawBase(False)
        self.footer = PnlFooter(self.bench.theme, self)
        column.addWidget(self.tabs, 1)
        column.addWidget(self.footer)
        self._make_corner()
        yield
        self.open = yield from self._table(OPEN, order_columns(self._rules_of), "time")
        yield
        self.positions = yield from self._table(POSITIONS, position_columns(self._rules_of), "symbol", descending=False)
        yield
        self.fills = yield from self._table(FILLS, fill_columns(self._rules_of), "time")
        yield
        self.all = yield from self._table(ALL, order_columns(self._rules_of), "time")
        self._typing = self._timer(TYPING_MS, self._apply_filter)
        self._refreshing = self._timer(REFRESH_MS, self.refresh)
        self._fit_search()
        yield
        self._add_commands()
        for table in self.tables.values():
            table.picked.connect(self._show_actions)
            table.opened.connect(self._opened)
        self.search.textChanged.connect(lambda _text: self._typing.start())
        self.show_flat.toggled.connect(lambda _on: self._apply_filter())
        self.tabs.currentChanged.connect(lambda _place: self._tab_changed())
        self._intake = Intake(
            self.desk.replica, self.open.records, self.positions.records, self.fills.records, self.all.records, self
        )
        self._intake.changed.connect(self._changed)
        self.desk.framed.connect(self._on_frame)
        self.desk.linked.connect(self.refresh)
        self.desk.venues.changed.connect(self._show_actions)
        self._intake.take_all()
        self._tab_changed()

    # ---- making -----------------------------------------------------------------------------------------------------

    def _rules_of(self, instrument: InstrumentId) -> Instrument | None:
        return self.desk.replica.instruments.get(instrument)

    def _make_corner(self) -> None:
        """Make the filter, and the buttons of commands that are there later."""
        corner = QWidget(self.tabs)
        self.tabs.setCornerWidget(corner, Qt.Corner.TopRightCorner)
        self.show_flat = QToolButton(corner)
        self.show_flat.setText("Flat")
        self.show_flat.setIcon(icon("eye", self.bench.theme))
        self.show_flat.setCheckable(True)
        self.show_flat.setAccessibleName("Show flat positions")
        self.show_flat.setToolTip("Show also positions that are back at zero, with what they earned")
        self.search = QLineEdit(corner)
        style_as(self.search, face="small")  # as high as the tabs beside it
        self.search.setPlaceholderText("Strategy, symbol")
        self.search.setToolTip("Show only what has these words in its strategy, symbol or account")
        self.search.setAccessibleName("Filter orders, positions and fills")
        self.search.setClearButtonEnabled(True)
        self._buttons = [QToolButton(corner) for _ in _COMMANDS]
        row = QHBoxLayout(corner)
        row.setContentsMargins(4, 1, 6, 1)
        row.setSpacing(4)
        for widget in (self.show_flat, self.search, *self._buttons):
            row.addWidget(widget)

    def _table(
        self, name: str, columns: tuple[Column[Any], ...], sort_by: str, *, descending: bool = True
    ) -> Generator[None, None, RecordTable[Any]]:
        """Make the next tab. Its table is made where tabs are kept: one that is put there later is styled twice."""
        model: RecordModel[Any] = RecordModel(
            columns, self.bench.theme, self, sort_by=sort_by, descending=descending, limit=MOST_ROWS
        )
        model.pause(True)  # until its tab is shown
        yield
        pages = self.tabs.findChild(QStackedWidget) or self.tabs
        table: RecordTable[Any] = RecordTable(model, self.bench.theme, pages)
        table.setAccessibleName(_TABS[name])
        self.tabs.addTab(table, _TABS[name])
        if name == POSITIONS:
            self._menu_action(table, "ticket", "Order &ticket…", self._open_ticket)
        self._menu_action(table, "chart", "Show on the c&hart", partial(self._show_current, table))
        if name != POSITIONS:
            self._menu_action(table, "copy", "Copy the &id", partial(self._copy_ids, table))
        self.tables[name] = table
        return table

    def _add_commands(self) -> None:
        actions, runs = self.bench.actions, (self._cancel, self._ask_cancel_all, self._ask_close)
        self.cancel, self.cancel_all, self.close_positions = added = [
            actions.add(command, run) for command, run in zip(_COMMANDS, runs, strict=True)
        ]
        for action, short, button in zip(added, ("Cancel", "Cancel all", "Close"), self._buttons, strict=True):
            action.setIconText(short)
            action.setIcon(icon(actions.commands[action.objectName()].icon, self.bench.theme))
            button.setDefaultAction(action)
            button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.change = actions.add(_CHANGE, self._change)
        self.change.setIcon(icon(_CHANGE.icon, self.bench.theme))
        self._tips = {action: action.toolTip() for action in (*added, self.change)}
        self._tips[self.cancel] += " (Del)"
        self._tips[self.change] += " (Enter)"
        for table, action in (
            (self.open, self.change),
            (self.all, self.change),
            (self.open, self.cancel),
            (self.all, self.cancel),
            (self.positions, self.close_positions),
        ):
            table.insertAction(
                table.actions()[1], action
            )  # before what the panel has in menus; the table's own is first
        for table in (self.open, self.all):
            key = QShortcut(QKeySequence(Qt.Key.Key_Delete), table)
            key.setContext(Qt.ShortcutContext.WidgetShortcut)
            key.activated.connect(self.cancel.trigger)

    def _timer(self, interval_ms: int, run: Callable[[], None]) -> QTimer:
        timer = QTimer(self)
        timer.setSingleShot(True)
        timer.setInterval(interval_ms)
        timer.timeout.connect(run)
        return timer

    def _menu_action(self, table: RecordTable[Any], name: str, text: str, run: Callable[[], None]) -> None:
        action = QAction(icon(name, self.bench.theme), text, table)
        action.triggered.connect(lambda _checked=False: run())
        action.setEnabled(False)
        table.picked.connect(lambda: action.setEnabled(table.selectionModel().hasSelection()))
        table.addAction(action)

    # ---- what comes in ----------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot:
            self._intake.take_all()
            self.refresh()
        else:
            self._intake.take(frame)

    def _changed(self) -> None:
        if not self._refreshing.isActive():
            self._refreshing.start()

    def refresh(self) -> None:
        """Bring counts, sums and buttons up to what the replica says."""
        replica = self.desk.replica
        held = sum(position.quantity != 0 for position in replica.positions.values())
        counts = {
            OPEN: self.open.records.total, POSITIONS: held, FILLS: self.fills.records.total,
            ALL: self.all.records.total,
        }  # fmt: skip
        for place, (name, count) in enumerate(counts.items()):  # in the order of the tabs
            text = f"{_TABS[name]} ({count:,})" if count else _TABS[name]
            if self.tabs.tabText(place) != text:
                self.tabs.setTabText(place, text)
                self._fit_search()
        unknown = sum(order.status is OrderStatus.UNKNOWN for order in replica.open_orders.values())
        place = list(_TABS).index(OPEN)
        self.tabs.setTabIcon(place, icon("warning", self.bench.theme, "warning") if unknown else QIcon())
        self.tabs.setTabToolTip(place, f"Unknown: {unknown}. {UNKNOWN_TIP}" if unknown else "")
        accepts = matcher(self._words)
        self.footer.set_totals(totals(filter(accepts, replica.positions.values()), self._rules_of))
        self._show_actions()

    # ---- filter -----------------------------------------------------------------------------------------------------

    @property
    def tab(self) -> str:
        """The name of the tab that is shown."""
        return list(_TABS)[self.tabs.currentIndex()]

    @property
    def _words(self) -> str:
        return self.search.text().casefold().strip()

    def _apply_filter(self) -> None:
        """Filter the table that is shown; the others follow when they are."""
        name, wanted = self.tab, (self._words, self.show_flat.isChecked())
        if self._applied.get(name) != wanted:
            self._applied[name] = wanted
            accepts, with_flat = matcher(wanted[0]), wanted[1]
            table = self.tables[name]
            if name == POSITIONS and not with_flat:
                table.records.set_filter(lambda position: bool(position.quantity) and accepts(position))
            else:
                table.records.set_filter(accepts if wanted[0] else None)
            text = self.search.text().strip()
            table.set_empty_text(f"Nothing here has “{text}” in it" if text else _EMPTY[name])
        self.refresh()

    def _tab_changed(self) -> None:
        is_positions = self.tab == POSITIONS
        self.show_flat.setVisible(is_positions)
        for button, shown in zip(self._buttons, (not is_positions, not is_positions, is_positions), strict=True):
            button.setVisible(shown and self.tab != FILLS)
        self._fit_search()
        self._apply_filter()

    # ---- what can be done -------------------------------------------------------------------------------------------

    def _show_actions(self) -> None:
        """Offer what can be done now, and say of the rest why not."""
        offline = "" if self.desk.is_connected else _NOT_CONNECTED
        self._offer(self.cancel, offline or self._why_no_cancel())
        self._offer(self.change, offline or self._why_no_change())
        has_open = bool(self.open.records.total)
        self._offer(self.cancel_all, offline or ("" if has_open else "No order is open"))
        self._offer(self.close_positions, offline or self._why_no_close())

    def _offer(self, action: QAction, obstacle: str) -> None:
        action.setEnabled(not obstacle)
        action.setToolTip(f"{self._tips[action]}\n{obstacle}" if obstacle else self._tips[action])

    def _selected_orders(self) -> Iterator[Order]:
        """Give the open orders that are selected, as they are now."""
        if self.tab in (OPEN, ALL):
            known = self.desk.replica.orders
            for chosen in selected(self.tables[self.tab]):
                order = known.get(chosen.client_order_id)
                if order is not None and order.is_open:
                    yield order

    def _selected_positions(self) -> list[PositionSnapshot]:
        """Give the positions that are selected, as they are now."""
        if self.tab != POSITIONS:
            return []
        known = self.desk.replica.positions
        keys = [(each.strategy_id, each.account_id, each.instrument) for each in self.positions.selected()]
        return [known[key] for key in keys if key in known]

    def _why_no_cancel(self) -> str:
        obstacle = "Select an open order first"
        for order in self._selected_orders():
            if not order.cancel_requested:
                return ""
            obstacle = "It is being cancelled already"
        return obstacle

    def _why_no_close(self) -> str:
        positions = self._selected_positions()
        if not positions:
            return "Select a position first"
        obstacles = [self._closer.never(position) for position in positions]
        return obstacles[0] if all(obstacles) else ""

    def _why_no_change(self) -> str:
        orders = list(islice(self._selected_orders(), 2))
        if len(orders) != 1:
            return "Select one open order" if orders else "Select an open order first"
        return why_no_change(orders[0], self.desk)

    def _change(self) -> None:
        for order in islice(self._selected_orders(), 1):
            self.changer.open(order)

    def _opened(self, record: Record) -> None:
        """Change what can be changed, and show the rest on a chart."""
        if isinstance(record, Order) and self.change.isEnabled():
            self._change()
        else:
            self._show_on_chart(record)

    def _cancel(self) -> None:
        for order in list(self._selected_orders()):
            if not order.cancel_requested:
                self.desk.send(CancelOrder(order.client_order_id), timeout_s=CANCEL_TIMEOUT_S)

    def _ask_cancel_all(self) -> None:
        count = self.open.records.total
        if count <= 1:
            self._cancel_all()
            return
        text = "Also those of strategies, which go on and may place new ones, and those that a filter hides."
        self._ask(f"Cancel all {count:,} open orders?", text, "Cancel all orders", "Keep them", self._cancel_all)

    def _cancel_all(self) -> None:
        self.desk.send(CancelAllOrders(), timeout_s=CANCEL_TIMEOUT_S)

    def _ask_close(self) -> None:
        closings: list[Closing] = []
        for position in self._selected_positions():
            if obstacle := self._closer.obstacle(position):
                self.desk.notify(obstacle)
            else:
                closings.append(self._closer.closing(position))
        if not closings:
            return
        lines = [closing.words for closing in closings]
        if len(lines) > MOST_LINES:
            lines[MOST_LINES - 1 :] = [f"and {len(lines) - MOST_LINES + 1} more"]
        title = "Close this position?" if len(closings) == 1 else f"Close {len(closings)} positions?"
        yes = "Close it" if len(closings) == 1 else "Close them"
        if warning := self._closer.warning(closings):
            lines += ["", warning]
        self._ask(title, "\n".join(lines), yes, "Cancel", partial(self._close_each, closings))

    def _close_each(self, closings: list[Closing]) -> None:
        for closing in closings:
            self._closer.close(closing)

    def _ask(self, title: str, text: str, yes: str, no: str, act: Callable[[], None]) -> None:
        """Ask once, without stopping anything meanwhile; Enter and Escape both leave things as they are."""
        if self._question is not None:
            self._question.raise_()
            self._question.activateWindow()
            return
        box = self._question = QMessageBox(self)
        box.setIconPixmap(icon("help", self.bench.theme, "accent").pixmap(32, 32))
        box.setWindowTitle("K.O.C.")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText(title)
        box.setInformativeText(text)
        agree = box.addButton(yes, QMessageBox.ButtonRole.AcceptRole)
        refuse = box.addButton(no, QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(refuse)
        box.setEscapeButton(refuse)
        agree.clicked.connect(lambda _checked=False: act())
        box.finished.connect(self._answered)
        box.open()

    def _answered(self, _result: int) -> None:
        if self._question is not None:
            self._question.deleteLater()
            self._question = None

    def _show_current(self, table: RecordTable[Any]) -> None:
        record = table.current()
        if record is not None:
            self._show_on_chart(record)

    def _show_on_chart(self, record: Record) -> None:
        requests = self.bench.requests
        requests.open_chart(instrument_of(record))
        if isinstance(record, Fill):
            requests.time_wanted.emit(record.instrument, record.time_ns)

    def _open_ticket(self) -> None:
        position = self.positions.current()
        if position is not None:
            side = Side.SELL if position.quantity > 0 else Side.BUY if position.quantity else None
            self.bench.requests.open_ticket(position.instrument, side)

    def _copy_ids(self, table: RecordTable[Any]) -> None:
        ids = [record.fill_id if isinstance(record, Fill) else record.client_order_id for record in table.selected()]
        QGuiApplication.clipboard().setText("\n".join(ids))

    # ---- memory, size, end ------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give the tab, the columns of each table, and whether flat positions are shown."""
        columns = {name: table.column_state() for name, table in self.tables.items()}
        return {"tab": self.tab, "columns": columns, "show_flat": self.show_flat.isChecked()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take them over, as far as they can be read."""
        columns = state.get("columns")
        for name, table in self.tables.items():
            kept = columns.get(name) if isinstance(columns, dict) else None
            if isinstance(kept, dict):
                table.restore_columns(kept)
        self.show_flat.setChecked(state.get("show_flat") is True)
        names = list(_TABS)
        if state.get("tab") in names:
            self.tabs.setCurrentIndex(names.index(state["tab"]))

    def retire(self) -> None:
        """Take the commands away, which have nothing to act on any more. Safe to call twice."""
        if _COMMANDS[0].name not in self.bench.actions:
            return
        self.desk.framed.disconnect(self._on_frame)
        self.desk.linked.disconnect(self.refresh)
        self._typing.stop()
        self._refreshing.stop()
        self.changer.retire()
        for command in (*_COMMANDS, _CHANGE):
            self.bench.actions.remove(command.name)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Leave out the words of buttons where there is no room for them."""
        super().resizeEvent(event)
        is_narrow = self.width() < NARROW_PX
        style = Qt.ToolButtonStyle.ToolButtonIconOnly if is_narrow else Qt.ToolButtonStyle.ToolButtonTextBesideIcon
        for button in (self.show_flat, *self._buttons):
            button.setToolButtonStyle(style)
        self._fit_search()

    def _fit_search(self) -> None:
        """Give the filter what the tabs leave over."""
        shown = [button for button in (self.show_flat, *self._buttons) if not button.isHidden()]
        taken = self.tabs.tabBar().sizeHint().width() + sum(button.sizeHint().width() + 4 for button in shown)
        self.search.setFixedWidth(max(SEARCH_PX[0], min(SEARCH_PX[1], self.width() - taken - 16)))

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Ask for room for some rows."""
        return QSize(700, 220)
