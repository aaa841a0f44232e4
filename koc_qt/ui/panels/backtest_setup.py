"""What a back-test shall do: strategy, symbols, timeframe, range, cash, costs and parameters, checked while typed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.backtests import BacktestSpec, Engine
from koc_qt.domain.errors import BadTimeframe, ConfigError, KocError, StrategyError
from koc_qt.domain.timeframes import SECOND_NS, duration_ns
from koc_qt.link.messages import DescribeStrategy, StoreStrategy
from koc_qt.sdk.channel import Described
from koc_qt.ui.backtests.costs import Costs, CostsForm
from koc_qt.ui.bench import Bench
from koc_qt.ui.desk import Frame
from koc_qt.ui.errands import Errand
from koc_qt.ui.icons import icon
from koc_qt.ui.panels.backtest_bars import BarFiles
from koc_qt.ui.panels.backtest_fields import Cells, Field, TimeframeField
from koc_qt.ui.panels.backtest_file import StrategyFile, read_file
from koc_qt.ui.panels.backtest_parameters import ParameterForm
from koc_qt.ui.panels.backtest_span import OWN, SpanPicker
from koc_qt.ui.panels.backtest_symbols import SymbolFields
from koc_qt.ui.theme import style_as

DESCRIBE_TIMEOUT_S = 30.0
_CELL_PX = 96
_FIELDS_A_STEP = 3


class BacktestSetup(QWidget):
    """The form. `run_wanted` says that Run was pressed; `settled` that nothing is being looked up any more.

    Its widgets are made by `parts`, which whoever has it goes through before anything else.
    """

    run_wanted = Signal()
    settled = Signal()

    def __init__(self, bench: Bench, clock_ns: Callable[[], int], parent: QWidget) -> None:
        super().__init__(parent)
        self._bench, self._desk = bench, bench.desk
        self._clock_ns = clock_ns
        self.described: Described | None = None
        self._described_path = ""
        self._typed: dict[str, dict[str, Any]] = {}  # parameters by file, for as long as the window is open
        self._has_own_timeframe = False
        self._asking = Errand(self._desk, self)
        self._soon = QTimer(self)  # until whatever has just been looked up counts as done
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self.settled)

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the widgets in the order in which they are seen, and connect them at the end."""
        whole = QVBoxLayout(self)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.setSpacing(0)
        self._scroll = scroll = QScrollArea(self)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        whole.addWidget(scroll, 1)
        form = QWidget(scroll.viewport())
        scroll.setWidget(form)
        self._column = column = QVBoxLayout(form)
        column.setContentsMargins(8, 6, 8, 8)
        column.setSpacing(6)
        yield
        self.file_field = Field("Strategy", form)
        column.addWidget(self.file_field)
        self.file = self.file_field.hold(StrategyFile(self._bench.theme, self.file_field))
        self.about = _small_text(form)
        self.about.hide()
        column.addWidget(self.about)
        yield
        self.symbols = SymbolFields(self._desk, form)
        column.addWidget(self.symbols)
        yield
        self.bars = BarFiles(self._desk, self._bench.theme, form)
        column.addWidget(self.bars)
        yield
        yield from self._make_money(form)
        self.parameters_caption = QLabel("Parameters", form)
        style_as(self.parameters_caption, tone="muted")
        self.parameters_caption.hide()
        column.addWidget(self.parameters_caption)
        self.parameters = ParameterForm(form)
        column.addWidget(self.parameters)
        column.addStretch(1)
        yield
        self._make_foot(whole)
        yield
        self._connect()
        self.symbols.propose()
        self.span.follow(self.timeframe_field.text)
        self.refresh()

    def _make_money(self, form: QWidget) -> Iterator[None]:
        money = Cells(_CELL_PX, form, most=6)
        self._column.addWidget(money)
        self.timeframe_field = TimeframeField(money)
        self.timeframe = self.timeframe_field.box
        money.add(self.timeframe_field)
        yield
        self.span_field = Field("Range", money)
        self.span = self.span_field.hold(SpanPicker(self.span_field))
        yield from self.span.parts()
        yield
        self.span.propose(self._clock_ns())
        money.add(self.span_field, 2)
        yield
        self.costs = CostsForm(form)
        self._column.addWidget(self.costs)
        yield from self.costs.parts()

    def _make_foot(self, whole: QVBoxLayout) -> None:
        line = QFrame(self)
        line.setFrameShape(QFrame.Shape.HLine)
        whole.addWidget(line)
        foot = QVBoxLayout()
        whole.addLayout(foot)
        foot.setContentsMargins(8, 6, 8, 6)
        foot.setSpacing(4)
        self.hint = _small_text(self)
        self.hint.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.run = QPushButton("Run", self)
        self.run.setIcon(icon("play", self._bench.theme, "on_fill"))
        style_as(self.run, role="primary")
        self.run.setAccessibleName("Run the back-test")
        foot.addWidget(self.hint)
        foot.addWidget(self.run)

    def _connect(self) -> None:
        self.file.chosen.connect(self.describe)
        self.file.reread.connect(self.describe)
        self.timeframe.editTextChanged.connect(self._timeframe_changed)
        self.timeframe.activated.connect(lambda _row: self._own_timeframe())
        line = self.timeframe.lineEdit()
        if line is not None:
            line.textEdited.connect(lambda _text: self._own_timeframe())
        self.costs.changed.connect(self._numbers_changed)
        self.symbols.changed.connect(self._symbols_changed)
        self.bars.turned.connect(self._turned)
        self.bars.changed.connect(self.refresh)
        self.span.changed.connect(self._span_changed)
        self.parameters.changed.connect(self._parameters_changed)
        self.run.clicked.connect(lambda _checked: self.run_wanted.emit())
        self._desk.framed.connect(self._on_frame)
        self._desk.linked.connect(self.refresh)

    # ---- for the panel ----------------------------------------------------------------------------------------------

    def offer(self, path: str) -> None:
        """Choose a strategy file."""
        self.file.choose(path)

    @property
    def is_settling(self) -> bool:
        """Whether the file or a symbol is being looked up."""
        return self._asking.is_running or (self.symbols.is_checking and not self.bars.is_on)

    def settle(self) -> None:
        """Have what was typed looked up, as leaving the field does."""
        if not self.bars.is_on:
            self.symbols.settle()

    def specs(self) -> list[BacktestSpec]:
        """Give what is to be run, a run for each engine; none, and marks at the fields, where something is wrong."""
        if not self.file.path:
            self.file_field.set_problem("Choose a strategy file first")
        symbols, bars = self.symbols, self.bars
        instruments = bars.check(len(symbols.fields)) if bars.is_on else symbols.check()
        reading = bars.reading.check() if bars.is_on else {}
        costs = self.costs.values()
        parameters = self.parameters.values()
        span_ns = self._check_span()
        if (
            self.file_field.problem
            or instruments is None
            or reading is None
            or self.timeframe_field.problem
            or span_ns is None
            or costs is None
            or parameters is None
        ):
            self._show_first_problem()
            return []
        what = {
            "path": self.file.path,
            "instruments": instruments,
            "timeframe": self.timeframe_field.text,
            "since_ns": span_ns[0],
            "until_ns": span_ns[1],
            "parameters": parameters,
            "files": bars.paths,
            **reading,
        }
        try:
            return [_spec(what, costs, engine) for engine in costs.engines]
        except ConfigError as error:
            self.say(str(error), is_problem=True)
            return []

    def take(self, spec: BacktestSpec) -> None:
        """Have the form hold what a run was made with."""
        self._typed[spec.path] = {name: _typed_text(value) for name, value in spec.parameters.items()}
        self.costs.take(spec)
        if spec.files:
            self.bars.choose(spec.files, spec.instruments)
            self.bars.reading.take(spec)
        else:
            self.bars.leave()
            self.symbols.restore([str(each) for each in spec.instruments])
        self._has_own_timeframe = True
        self.timeframe.setEditText(spec.timeframe)
        since_s, until_s = spec.since_ns // SECOND_NS, spec.until_ns // SECOND_NS
        self.span.restore({"quick": OWN, "since_s": since_s, "until_s": until_s})
        self.parameters.clear()
        self._described_path = ""
        self.file.choose(spec.path)
        self.refresh()

    async def placed(self, spec: BacktestSpec) -> BacktestSpec:
        """Bring the file to an engine on another machine, and give the spec with its path there. Raises KocError.

        It gets a name of its own, so that a file which strategies trade from is never touched.
        """
        source = await read_file(spec.path) if self._desk.is_remote else None
        if source is None:
            return spec
        name = f"{self.file.stem}_backtest.py"
        path = await self._desk.request(StoreStrategy(name, source, replace=True), timeout_s=DESCRIBE_TIMEOUT_S)
        return msgspec.structs.replace(spec, path=str(path))

    def say(self, text: str, *, is_problem: bool = False) -> None:
        """Say something above the button."""
        self.hint.setText(text)
        style_as(self.hint, tone="danger" if is_problem else "muted")
        self.hint.setVisible(bool(text))

    def refresh(self) -> None:
        """Say what a run would be, or why none can be started."""
        is_connected = self._desk.is_connected
        self.run.setEnabled(is_connected)
        self.run.setToolTip("Ctrl+Return" if is_connected else f"Not connected: {self._desk.link_reason}")
        count = self._bar_count()
        self.say("" if count is None else f"{count:,} bar{'' if count == 1 else 's'} to run on")

    def state(self) -> dict[str, Any]:
        """Give everything that was chosen and typed."""
        return {
            "path": self.file.path,
            "symbols": [str(each) for each in self.symbols.chosen()],
            "files": list(self.bars.paths),
            "reading": self.bars.reading.state(),
            "timeframe": self.timeframe.currentText() if self._has_own_timeframe else "",
            "span": self.span.state(),
            "parameters": self._typed.get(self.file.path, {}),
            **self.costs.state(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over, as far as it can be read."""
        self.costs.restore(state)
        self.bars.restore(state.get("files"))
        self.bars.reading.restore(state.get("reading"))
        if isinstance(timeframe := state.get("timeframe"), str) and timeframe:
            self._has_own_timeframe = True
            self.timeframe.setEditText(timeframe)
        if isinstance(span := state.get("span"), dict):
            self.span.restore(span)
        self.symbols.restore(state.get("symbols"))
        path, typed = state.get("path"), state.get("parameters")
        if isinstance(path, str) and path:
            if isinstance(typed, dict):
                self._typed[path] = {str(name): value for name, value in typed.items()}
            self.offer(path)
        self.refresh()

    # ---- the file ---------------------------------------------------------------------------------------------------

    def describe(self) -> None:
        """Have the engine read what the file declares."""
        path = self.file.path
        self.file_field.set_problem("")
        if path != self._described_path:
            self.described = None
            self.about.setText("")
            self.parameters.clear()  # of another file
            self.parameters_caption.hide()
        if not path or not self._desk.is_connected:
            return  # a connection asks again
        self._show_about("Reading the file…" if self.described is None else self.about.text())
        self._asking.start(self._ask(path), self._not_described)

    async def _ask(self, path: str) -> None:
        source = await read_file(path) if self._desk.is_remote else None
        answer = await self._desk.request(DescribeStrategy(path, source), timeout_s=DESCRIBE_TIMEOUT_S)
        try:
            described = msgspec.convert(answer, Described)
        except msgspec.ValidationError as error:
            raise StrategyError(f"what {path} declares cannot be read: {error}") from error
        for count, _ in enumerate(self.parameters.build(described.parameters, self._typed.get(path, {})), 1):
            if count % _FIELDS_A_STEP == 0:
                await asyncio.sleep(0)
        self.described, self._described_path = described, path
        self.costs.offer_engines(described.engines)
        self.parameters_caption.setVisible(bool(described.parameters))
        self.symbols.want(described.instruments_wanted)
        self.symbols.propose()
        if not self._has_own_timeframe and described.timeframe and not self.bars.is_on:
            self.timeframe.setEditText(described.timeframe)
        self._show_about(_about(described), is_warning=bool(_unheard(described)))
        self.about.setToolTip(described.doc)
        self.refresh()
        self._soon.start()

    def _not_described(self, error: KocError) -> None:
        self.described = None
        self._show_about("")
        self.file_field.set_problem(str(error))
        self._soon.start()

    def _show_about(self, text: str, *, is_warning: bool = False) -> None:
        self.about.setText(text)
        style_as(self.about, tone="warning" if is_warning else "muted")
        self.about.setVisible(bool(text))

    def _parameters_changed(self) -> None:
        self._typed[self.file.path] = self.parameters.typed()
        self.refresh()

    def _symbols_changed(self) -> None:
        self.refresh()
        self._soon.start()

    def _turned(self) -> None:
        """Show what belongs to files, which have a timeframe and a range of their own, or to symbols."""
        is_on = self.bars.is_on
        self.symbols.setVisible(not is_on)
        self.costs.turn_to(is_on_file=is_on)
        declared = self.described.timeframe if self.described is not None else ""
        self._has_own_timeframe = False
        self.timeframe_field.turn_to("" if is_on else declared or "1m", is_optional=is_on)
        self.span.turn_to(self.timeframe_field.text, is_on_file=is_on)
        self._timeframe_changed(self.timeframe_field.text)

    # ---- timeframe, range, numbers ----------------------------------------------------------------------------------

    def _own_timeframe(self) -> None:
        self._has_own_timeframe = bool(self.timeframe_field.text)

    def _timeframe_changed(self, text: str) -> None:
        problem = ""
        try:
            if text.strip() or not self.timeframe_field.is_optional:
                duration_ns(text.strip())
        except BadTimeframe as error:
            problem = str(error)
        self.timeframe_field.set_problem(problem)
        self.span.follow(text.strip())
        self._span_changed()

    def _span_changed(self) -> None:
        self._check_span()
        self.refresh()

    def _now_ns(self) -> int:
        """Give the market's time: that of a simulated one may run ahead of the clock."""
        quotes = self._desk.replica.quotes
        times = [quotes[each].time_ns for each in self.symbols.chosen() if each in quotes]
        return max([self._clock_ns(), *times])

    def _check_span(self) -> tuple[int, int] | None:
        try:
            since_ns, until_ns = self.span.span(self._now_ns(), self.timeframe_field.text)
        except BadTimeframe:
            return None  # which its own field says
        self.span_field.set_problem("" if since_ns < until_ns else "It must end after it begins")
        return (since_ns, until_ns) if since_ns < until_ns else None

    def _bar_count(self) -> int | None:
        span_ns = self._check_span()
        if span_ns is None or self.timeframe_field.problem or self.bars.is_on:
            return None
        bars = (span_ns[1] - span_ns[0]) // duration_ns(self.timeframe_field.text)
        return bars * len(self.symbols.pickers)

    def _numbers_changed(self) -> None:
        self.costs.values()
        self.refresh()

    def _show_first_problem(self) -> None:
        """Bring the first field that is wrong into sight, and the cursor into it."""
        self.costs.show_problems()
        fields = [
            self.file_field,
            *([self.bars.field, *self.bars.reading.fields.values()] if self.bars.is_on else self.symbols.fields),
            self.timeframe_field,
            self.span_field,
            *self.costs.fields.values(),
            *self.parameters.fields.values(),
        ]
        wrong = [field for field in fields if field.problem and field.isVisibleTo(self)]
        if wrong:
            name = wrong[0].editor.accessibleName()
            self.say(f"Nothing was started. {name}: {wrong[0].problem}", is_problem=True)
            wrong[0].editor.setFocus()
            # The words above the button take their room first.
            QTimer.singleShot(0, wrong[0], partial(self._scroll.ensureWidgetVisible, wrong[0]))

    def _on_frame(self, frame: Frame) -> None:
        if frame.snapshot or frame.instruments:
            self.symbols.propose()
            self.refresh()
        if frame.snapshot and self.described is None and not self._asking.is_running:
            self.describe()


def _spec(what: dict[str, Any], costs: Costs, engine: Engine) -> BacktestSpec:
    names = [name for name in Costs._fields if name != "engines"]
    return BacktestSpec(**what, **{name: getattr(costs, name) for name in names}, engine=engine)


def _small_text(parent: QWidget) -> QLabel:
    label = QLabel(parent)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    style_as(label, face="small", tone="muted")
    return label


def _typed_text(value: Any) -> Any:
    """Give a parameter's value as its field would hold it."""
    return value if isinstance(value, bool) else f"{value:.15g}" if isinstance(value, float) else str(value)


def _about(described: Described) -> str:
    """Say what a strategy is, and what of it a back-test cannot give."""
    first = described.doc.strip().split("\n", 1)[0]
    text = f"{described.name}: {first}" if first else described.name
    return "\n".join(part for part in (text, _unheard(described)) if part)


def _unheard(described: Described) -> str:
    """Say what of that which a strategy listens to a back-test does not have."""
    wants = described.subscriptions
    if not {"bars", "quotes"} & set(wants):
        kinds = " and ".join(wants)
        return f"It listens to {kinds} alone. A back-test has bars, and quotes made of these: it will not run."
    said = ["Of quotes it has the open and the close of each bar."] * ("quotes" in wants)
    said += ["A back-test has no trades of others: it hears none."] * ("trades" in wants)
    return " ".join(said)
