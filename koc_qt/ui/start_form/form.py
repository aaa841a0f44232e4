"""The dialog that starts a strategy: reads what its file declares, asks for the rest, and tells the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any

import msgspec
from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtGui import QCloseEvent, QKeyEvent, QKeySequence, QShortcut
from PySide6.QtWidgets import (
    QAbstractButton,
    QCheckBox,
    QDialog,
    QFrame,
    QHBoxLayout,
    QMessageBox,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.errors import KocError, LinkError, StrategyError
from koc_qt.domain.state import StrategySpec
from koc_qt.link.messages import DescribeStrategy, StartStrategy, StopStrategy, StoreStrategy
from koc_qt.sdk.channel import Described
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.formats import cut
from koc_qt.ui.icons import icon
from koc_qt.ui.opening import paint_later
from koc_qt.ui.slices import Slices
from koc_qt.ui.start_form.head import LONGEST_NAME, head, section
from koc_qt.ui.start_form.market import MarketForm
from koc_qt.ui.start_form.parameters import ParameterForm
from koc_qt.ui.start_form.parts import Scroll, Words
from koc_qt.ui.start_form.rules import excerpt, is_active, line_in, read_file, without_path
from koc_qt.ui.start_form.trouble import Reading, Trouble
from koc_qt.ui.start_form.values import overrides_of, rules_of
from koc_qt.ui.theme import style_as

DESCRIBE_TIMEOUT_S = 75.0  # the engine gives a file 30 s, and reads two at a time
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
MOST_SYMBOLS = 20
WIDTH = 520
_FIELDS_A_STEP = 3
_ROOM_PX = 28  # for a line above the buttons, which may come later


class _NotStored(KocError):
    """The engine has not kept the file: it has another one of that name."""


class StartForm(QDialog):
    """Asks for everything that a start needs; shown with `open`, it blocks nothing, the kill switch least of all.

    `path` is a file of this machine, or with `spec` the one that a known strategy runs, on the engine's machine.
    `remembered` is what `remember` gave for this file once. `started` brings the id of the strategy; the dialog closes
    by itself then, and also for a back-test. Nothing that was typed is lost by a failure.
    """

    started = Signal(str)

    def __init__(
        self,
        bench: Bench,
        path: str,
        parent: QWidget | None = None,
        *,
        spec: StrategySpec | None = None,
        remembered: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(parent)
        self.setObjectName("start-form")
        self._bench = bench
        self._desk = bench.desk
        self.path = spec.path if spec is not None else path
        self.spec = spec
        self._name = PurePath(self.path.replace("\\", "/")).name or self.path
        self._remembered = dict(remembered or {})
        self._source: bytes | None = None
        self._described: Described | None = None
        self._busy = False
        self._replaces = False
        self._lost = False  # what went wrong is that there was no engine
        self._work = Errand(bench.desk, self)
        self._revealing = Slices(self)
        self.market: MarketForm | None = None
        self.parameters: ParameterForm | None = None
        self.setWindowTitle(f"Start {self._name}" if spec is None else f"{spec.strategy_id}: parameters")
        self.reading = Reading(self._name)
        self.trouble = Trouble(bench.theme)
        self.trouble.again.connect(self.read)
        self._body = QWidget()
        self._body_column = QVBoxLayout(self._body)
        self._body_column.setContentsMargins(16, 14, 12, 12)
        self._body_column.setSpacing(8)
        self.sheet = Scroll(self._body)
        self._make_foot()
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        for widget in (self.reading, self.trouble):
            column.addWidget(widget)
        column.addWidget(self.sheet, 1)
        column.addWidget(self._foot)
        for keys in ("Ctrl+Return", "Ctrl+Enter"):
            QShortcut(QKeySequence(keys), self, self.start)
        QShortcut(QKeySequence("F5"), self, self.read)
        self._desk.framed.connect(self._on_frame)
        self._desk.linked.connect(self._judge)
        self._show_page(self.reading)
        self.read()

    def _make_foot(self) -> None:
        theme = self._bench.theme
        self.problem = Words(tone="warning")
        self.replace_button = QPushButton("Replace it")
        self.replace_button.setToolTip("Put this file in the place of the one on the engine's machine, and start")
        self.replace_button.hide()
        self.start_button = QPushButton("Start")
        self.start_button.setIcon(icon("play", theme, "on_fill"))
        self.start_button.setDefault(True)
        self.start_button.setToolTip("Start the strategy (Ctrl+Enter)")
        style_as(self.start_button, role="primary")
        self.backtest_button = QPushButton("Back-test…")
        self.backtest_button.setIcon(icon("backtest", theme))
        self.backtest_button.setToolTip("Try it on history first")
        self.cancel_button = QPushButton("Cancel")
        for button in (self.backtest_button, self.cancel_button, self.replace_button):
            button.setAutoDefault(False)
        self.start_button.clicked.connect(self.start)
        self.backtest_button.clicked.connect(self.backtest)
        self.cancel_button.clicked.connect(self.reject)
        self.replace_button.clicked.connect(self._replace)
        buttons = QHBoxLayout()
        buttons.setSpacing(8)
        buttons.addWidget(self.backtest_button)
        buttons.addStretch(1)
        buttons.addWidget(self.cancel_button)
        buttons.addWidget(self.start_button)
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        self._foot = QWidget()
        column = QVBoxLayout(self._foot)
        column.setContentsMargins(0, 0, 0, 12)
        column.setSpacing(8)
        column.addWidget(line)
        inner = QVBoxLayout()
        inner.setContentsMargins(16, 2, 16, 0)
        inner.setSpacing(8)
        inner.addWidget(self.problem)
        inner.addWidget(self.replace_button, 0, Qt.AlignmentFlag.AlignLeft)
        inner.addLayout(buttons)
        column.addLayout(inner)

    # ---- reading the file --------------------------------------------------------------------------------------------

    @property
    def _is_here(self) -> bool:
        """Whether the file is on this machine."""
        return self.spec is None or not self._desk.is_remote

    def read(self) -> None:
        """Read what the file declares, again where it has been read; what was filled in stays."""
        if self._busy:
            return
        if self._described is not None:
            self._remembered = self.remember()
        self._described = None
        self._revealing.cancel()
        self._show_page(self.reading)
        self._work.start(self._describe(), self._not_described)

    async def _describe(self) -> None:
        self._source = None
        command = DescribeStrategy(self.path)
        if self._is_here and self._desk.is_remote:
            self._source = await asyncio.to_thread(read_file, self.path)
            command = DescribeStrategy(self._name, self._source)
        try:
            answer = await self._desk.request(command, timeout_s=DESCRIBE_TIMEOUT_S)
        except KocError as error:
            if self._is_here and self._source is None and line_in(str(error)) is not None:
                with suppress(StrategyError):  # the engine's sentence says all there is to say without the line
                    self._source = await asyncio.to_thread(read_file, self.path)
            raise
        try:
            described = msgspec.convert(answer, Described)
        except msgspec.ValidationError as error:
            raise StrategyError(f"the engine's answer about {self._name} cannot be read: {error}") from error
        if described.instruments_wanted > MOST_SYMBOLS:
            raise StrategyError(
                f"{self._name} wants {described.instruments_wanted} symbols: the form takes at most {MOST_SYMBOLS}"
            )
        await self._show_form(described)

    def _not_described(self, error: KocError) -> None:
        self._lost = isinstance(error, LinkError)
        text = without_path(without_path(str(error), self.path), self._name)
        line = line_in(text)
        code = excerpt(self._source, line) if self._source is not None and line is not None else ""
        name = cut(self._name, LONGEST_NAME)
        title = f"{name} was not read" if self._lost else f"{name} cannot be started"
        self.trouble.say(title, text, code, hint=not self._lost)
        self._show_page(self.trouble)
        self.trouble.reload.setFocus()

    async def _show_form(self, described: Described) -> None:
        """Make the form, in steps between which the window goes on being painted."""
        rules = rules_of(described)
        while (item := self._body_column.takeAt(0)) is not None:
            if (old := item.widget()) is not None:
                old.hide()
                old.deleteLater()
        market = MarketForm(self._desk, described.instruments_wanted, described.timeframe)
        await asyncio.sleep(0)
        parameters = ParameterForm(rules, self._bench.theme)
        await asyncio.sleep(0)
        for widget in (*head(described, self.path), section("Runs on"), market, section("Parameters")):
            self._body_column.addWidget(widget)
        self._body_column.addWidget(parameters, 1)
        await asyncio.sleep(0)
        for count, _ in enumerate(parameters.build(), 1):
            if count % _FIELDS_A_STEP == 0:
                await asyncio.sleep(0)
        self.market, self.parameters, self._described = market, parameters, described
        if self.spec is not None:
            self.market.take(self.spec.account_id, [str(each) for each in self.spec.instruments], self.spec.timeframe)
            self.parameters.take(self.spec.parameters)
        self._take_remembered()
        self.market.edited.connect(self._judge)
        self.parameters.edited.connect(self._judge)
        self._judge()
        await asyncio.sleep(0)
        paint_later(self.sheet)
        self._show_page(self.sheet)
        self._revealing.start(parameters.reveal())
        self.start_button.setFocus()

    def _take_remembered(self) -> None:
        known, market, parameters = self._remembered, self.market, self.parameters
        if market is None or parameters is None or not known:
            return
        symbols = known.get("symbols")
        texts = [each for each in symbols if isinstance(each, str)] if isinstance(symbols, Sequence) else []
        account, timeframe = known.get("account"), known.get("timeframe")
        market.take(account if isinstance(account, str) else "", texts, timeframe if isinstance(timeframe, str) else "")
        parameters.take(known.get("parameters"))

    def remember(self) -> dict[str, Any]:
        """Give what is filled in, for the next time, of JSON's types."""
        if self.market is None or self.parameters is None or self._described is None:
            return dict(self._remembered)
        return {
            "account": self.market.account_id(),
            "symbols": [str(each) for each in self.market.instruments()],
            "timeframe": self.market.timeframe_text(),
            "parameters": self.parameters.values(),
        }

    # ---- starting it -------------------------------------------------------------------------------------------------

    def reason_not_to(self) -> str:
        """Say why it cannot be started as it is; empty where it can."""
        if self._described is None or self.market is None or self.parameters is None:
            return "The file is not read yet"
        if not self._desk.is_connected:
            return f"There is no engine: {self._desk.link_reason}"
        engine = self._desk.replica.engine
        if engine is not None and engine.kill_switch:
            return "The kill switch is engaged: release it, then start"
        return self.market.problem() or self.parameters.problem()

    def start(self) -> None:
        """Start the strategy, unless something is missing; where it would trade with real money, ask first."""
        if self._busy or self.reason_not_to() or self.market is None:
            return
        if self.market.is_live:
            self._confirm()
        else:
            self._begin()

    def _begin(self) -> None:
        self._set_busy(True)
        self._work.start(self._start(), self._not_started)

    def _replace(self) -> None:
        self._replaces = True
        self.start()

    def _confirm(self) -> None:
        """Ask whether real money is meant. The box is not modal: the kill switch stays in reach."""
        assert self.market is not None  # noqa: S101 - start has seen it
        symbols = ", ".join(each.symbol for each in self.market.instruments())
        box = QMessageBox(self)
        box.setObjectName("confirm-live")
        box.setIcon(QMessageBox.Icon.Warning)
        box.setWindowTitle("K.O.C.")
        box.setTextFormat(Qt.TextFormat.PlainText)
        box.setText("Trade with real money?")
        box.setInformativeText(f"{self._name} will place orders on {self.market.account_id()}, for {symbols}.")
        agree = box.addButton("Start with real money", QMessageBox.ButtonRole.AcceptRole)
        style_as(agree, role="danger")
        box.setDefaultButton(box.addButton(QMessageBox.StandardButton.Cancel))
        box.finished.connect(box.deleteLater)
        box.finished.connect(lambda _result: self._confirmed(agreed=box.clickedButton() is agree))
        self._set_busy(True, "Waits for your word")
        box.setModal(False)
        box.show()

    def _confirmed(self, *, agreed: bool) -> None:
        self._set_busy(False)
        self._judge()
        if agreed and not self.reason_not_to():
            self._begin()
        else:
            self._replaces = False

    async def _start(self) -> None:
        assert self.market is not None  # noqa: S101 - reason_not_to has seen it
        assert self.parameters is not None  # noqa: S101
        spec = StrategySpec(
            strategy_id=self.spec.strategy_id if self.spec is not None else "",
            path=await self._path_for_engine(),
            account_id=self.market.account_id(),
            instruments=self.market.instruments(),
            timeframe=self.market.timeframe_text(),
            parameters=overrides_of(self.parameters.rules, self.parameters.values()),
        )
        if self._runs_now():
            await self._desk.request(StopStrategy(spec.strategy_id), timeout_s=STOP_TIMEOUT_S)
        strategy_id = str(await self._desk.request(StartStrategy(spec), timeout_s=START_TIMEOUT_S))
        self._busy = False
        name = self._described.name if self._described is not None else self._name
        self._desk.notify(f"{name} runs as {strategy_id}")
        self.started.emit(strategy_id)
        self._bench.requests.panel_wanted.emit("telemetry")
        self._bench.requests.open_chart(spec.instruments[0], spec.timeframe)
        self.accept()

    async def _path_for_engine(self) -> str:
        """Give the file's path on the engine's machine, where it is brought if need be."""
        if not self._desk.is_remote or self.spec is not None or self._source is None:
            return self.path
        command = StoreStrategy(self._name, self._source, self._replaces)
        try:
            return str(await self._desk.request(command, timeout_s=START_TIMEOUT_S))
        except LinkError:
            raise
        except KocError as error:
            raise _NotStored(str(error)) from error

    def _not_started(self, error: KocError) -> None:
        self._set_busy(False)
        self.replace_button.setVisible(isinstance(error, _NotStored) and "replace" in str(error))
        self._replaces = False
        self._judge_button()
        self._say(without_path(str(error), self.path), "danger")

    def backtest(self) -> None:
        """Hand the file to the back-test panel."""
        self._bench.requests.panel_wanted.emit("backtest")  # first: it may have to be made
        self._bench.requests.backtest_offered.emit(self.path)
        self.accept()

    def _runs_now(self) -> bool:
        known = self._desk.replica.strategies.get(self.spec.strategy_id) if self.spec is not None else None
        return known is not None and is_active(known)

    # ---- what shows --------------------------------------------------------------------------------------------------

    def _show_page(self, page: QWidget) -> None:
        self.reading.set_moving(page is self.reading)
        for each in (self.reading, self.trouble, self.sheet):
            each.setVisible(each is page)
        on_form = page is self.sheet
        for widget in (self.start_button, self.backtest_button):
            widget.setVisible(on_form)
        if not on_form:
            self.problem.say("")
            self.replace_button.hide()
        self._fit()

    def _fit(self) -> None:
        """Be as large as the content, within the screen and the window behind."""
        if self.sheet.isVisibleTo(self):
            coming_px = self.parameters.hidden_px if self.parameters is not None else 0
            height = self.sheet.height_for(WIDTH - 12) + coming_px + self._foot.sizeHint().height() + _ROOM_PX
        else:
            page = self.trouble if self.trouble.isVisibleTo(self) else self.reading
            height = max(page.sizeHint().height(), page.heightForWidth(WIDTH)) + self._foot.sizeHint().height()
        area = self.screen().availableGeometry()
        room = area.size() * 0.94
        parent = self.parentWidget()
        if parent is not None:
            behind = parent.window().size()
            room = room.boundedTo(QSize(100_000, max(420, behind.height() - 24)))
        self.resize(QSize(WIDTH, height).boundedTo(room))
        below = self.frameGeometry().bottom() - area.bottom()
        if below > 0:  # it grows downwards as the file becomes known
            self.move(self.x(), max(area.top(), self.y() - below))

    def _judge(self) -> None:
        if self._busy or self._described is None:
            return
        reason = self.reason_not_to()
        note = ""
        if not reason and self._runs_now() and self.spec is not None:
            note = f"{self.spec.strategy_id} runs: it is stopped first, its open orders are cancelled, positions stay"
        self._say(reason or note, "warning" if reason else "muted")
        self.replace_button.hide()
        self._judge_button()

    def _judge_button(self) -> None:
        self.start_button.setEnabled(not self.reason_not_to())
        is_live = self.market is not None and self.market.is_live
        self.start_button.setText("Restart" if self._runs_now() else "Start")
        style_as(self.start_button, role="danger" if is_live else "primary")

    def _say(self, text: str, tone: str) -> None:
        style_as(self.problem, tone=tone)
        is_named = self.parameters is not None and text.split(" ", 1)[0] in self.parameters.rules  # as it is written
        self.problem.say(text if is_named else text[:1].upper() + text[1:])

    def _set_busy(self, busy: bool, words: str = "") -> None:
        self._busy = busy
        for widget in (self._body, self.start_button, self.backtest_button, self.cancel_button, self.replace_button):
            widget.setEnabled(not busy)
        if busy:
            self.replace_button.hide()
            self._say(words or f"Starting {self._name}…", "muted")

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot and self._lost and self.trouble.isVisibleTo(self):
            self.read()  # the engine is back
        elif frame.snapshot or frame.engine or (self.spec is not None and self.spec.strategy_id in frame.strategies):
            self._judge_quietly()

    def _judge_quietly(self) -> None:
        """Judge anew, but leave what the engine said of a failed start until the person changes something."""
        failed = self.problem.property("tone") == "danger"
        if not failed:
            self._judge()

    # ---- Qt's calls --------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Show it and come to the front. Qt's own `open` would block the window, and the kill switch with it."""
        self.show()
        self.raise_()
        self.activateWindow()

    def reject(self) -> None:
        """Close without a start, unless one is under way."""
        if not self._busy:
            super().reject()

    def done(self, result: int) -> None:
        """Let go of what is under way, for nobody will look at it."""
        self.reading.set_moving(False)
        super().done(result)
        if result == QDialog.DialogCode.Rejected:
            self._work.cancel()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """Stay while a start is under way."""
        if self._busy:
            event.ignore()
        else:
            super().closeEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Have Enter in a field settle that field and start nothing."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
            focus = self.focusWidget()
            if isinstance(focus, QAbstractButton) and focus.isEnabled() and not isinstance(focus, QCheckBox):
                focus.click()
            return
        super().keyPressEvent(event)
