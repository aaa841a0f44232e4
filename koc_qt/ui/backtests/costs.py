"""How a back-test is run: on which engine, with what cash, and what trading costs; the rarer settings are folded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QToolButton, QVBoxLayout, QWidget

from koc_qt.domain.backtests import BacktestSpec, Engine
from koc_qt.domain.timeframes import DAY_NS
from koc_qt.reports.words import ENGINES
from koc_qt.ui.panels.backtest_fields import Cells, Field, WheelGuard, read_number
from koc_qt.ui.theme import style_as

ALL = "all"
_PERCENT = Decimal(100)
_MOST_TICKS = 1_000_000
_MS_NS = 1_000_000
_CELL_PX = 92
_WHY_NOT = {
    Engine.REPLAY: "The file cannot be replayed",
    Engine.VECTORBT: "vectorbt runs strategies that declare signals",
    Engine.BACKTRADER: "backtrader runs strategies that hear bars or quotes",
}
_FOLDED = {  # what is usual, what is said where there is something else, and where there is nothing
    "spread": ("0", "spread {} %", ""),
    "ticks": ("0", "{} ticks", ""),
    "latency": ("0", "latency {} ms", ""),
    "share": ("10", "volume {} %", "any volume"),
    "seed": ("0", "seed {}", ""),
}
NOT_WITH: dict[str, tuple[str, tuple[Engine, ...]]] = {  # what engines of others refuse, as they say it
    "ticks": ("slippage in ticks", (Engine.VECTORBT,)),
    "latency": ("latency", (Engine.VECTORBT, Engine.BACKTRADER)),
}
_FILL_WHOLE = (Engine.VECTORBT,)  # every order, whatever a bar's volume
_WHAT = {
    Engine.REPLAY: "Replay: the matching engine of paper trading. It runs every strategy and knows every setting.",
    Engine.VECTORBT: "vectorbt: another engine, to hold the results against. It rounds no price to the tick.",
    Engine.BACKTRADER: "backtrader: another engine, to hold the results against",
}


class Costs(NamedTuple):
    """What the form holds; fees, slippage, spread and share are fractions. No `share` is as much as is asked for."""

    engines: tuple[Engine, ...]
    cash: Decimal
    fee: Decimal | None
    slippage: Decimal
    allow_short: bool
    spread: Decimal
    slippage_ticks: int
    latency_ns: int
    volume_fraction: Decimal | None
    seed: int


class CostsForm(QWidget):
    """The fields. Their widgets are made by `parts`; `changed` says that one holds something else."""

    changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.fields: dict[str, Field] = {}
        self.edits: dict[str, QLineEdit] = {}
        self._supported: tuple[Engine, ...] = (Engine.REPLAY,)
        self._wanted = str(Engine.REPLAY)
        self._is_on_file = False

    # ---- making -----------------------------------------------------------------------------------------------------

    def parts(self) -> Iterator[None]:
        """Make the fields that are always seen."""
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        basic = Cells(_CELL_PX, self, most=6)
        column.addWidget(basic)
        engine = self._field("engine", "Engine", basic, "What runs the strategy")
        self.engine = engine.hold(QComboBox(engine))
        self.engine.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.engine.setMinimumContentsLength(6)
        WheelGuard(self).watch(self.engine)
        basic.add(engine, 2)
        yield
        self._number("cash", "Cash", basic, "10,000", "What the run begins with, in the quote currency")
        fee_tip = "Of the amount traded, for makers and takers alike; empty: what the venue takes, nothing for a file"
        self._number("fee", "Fee, %", basic, "", fee_tip, "Venue's")
        yield
        slippage_tip = "What market orders pay on top of the price, always against you"
        self._number("slippage", "Slippage, %", basic, "0", slippage_tip)
        short = self._field("short", " ", basic, "Whether more may be sold than is held")
        self.short = short.hold(QCheckBox("Allow short", short))
        self.short.setAccessibleName("Allow short")
        self.short.setChecked(True)
        basic.add(short)
        yield
        self.more = QToolButton(self)
        self.more.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more.setArrowType(Qt.ArrowType.RightArrow)
        style_as(self.more, tone="muted")
        column.addWidget(self.more)
        self.folded = Cells(_CELL_PX, self, most=6)
        column.addWidget(self.folded)
        self.folded.hide()
        yield
        yield from self._make_folded()
        self.more.clicked.connect(lambda _checked: self.unfold(not self.is_open))
        self.engine.activated.connect(self._engine_chosen)
        self.short.toggled.connect(lambda _on: self.changed.emit())
        for edit in self.edits.values():
            edit.textChanged.connect(lambda _text: self._edited())
        self._list_engines()
        self._name_more()

    def _make_folded(self) -> Iterator[None]:
        cells = self.folded
        self._number("spread", "Spread, %", cells, "0", "Between bid and ask, of the price: takers pay half of it")
        self._number("ticks", "Slippage, ticks", cells, "0", "What takers pay on top, in ticks of the market")
        yield
        self._number("latency", "Latency, ms", cells, "0", "What passes from an order to its effect")
        share_tip = "The most of a bar's volume that is filled for you; empty: as much as you ask for"
        self._number("share", "Of volume, %", cells, "10", share_tip, "Unlimited")
        yield
        self._number("seed", "Seed", cells, "0", "For strategies that use chance: the same seed gives the same run")
        yield

    def _field(self, name: str, text: str, cells: Cells, tip: str) -> Field:
        self.fields[name] = Field(text, cells, tip=tip)
        return self.fields[name]

    def _number(self, name: str, text: str, cells: Cells, value: str, tip: str, placeholder: str = "") -> None:
        field = self._field(name, text, cells, tip)
        edit = field.hold(QLineEdit(value, field))
        edit.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        edit.setPlaceholderText(placeholder)
        edit.setMaxLength(40)
        edit.setMinimumWidth(60)
        self.edits[name] = edit
        cells.add(field)

    # ---- engines ----------------------------------------------------------------------------------------------------

    def offer_engines(self, supported: tuple[Engine, ...]) -> None:
        """Offer the engines that can run the file; none stated is the first of all."""
        self._supported = supported or (Engine.REPLAY,)
        self._list_engines()

    def _list_engines(self) -> None:
        box = self.engine
        box.clear()
        for engine in Engine:
            is_supported = engine in self._supported
            box.addItem(ENGINES[engine], str(engine))
            row = box.count() - 1
            tip = _WHAT[engine] if is_supported else f"{_WHY_NOT[engine]}: this file does not"
            box.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
            if not is_supported:
                box.setItemData(row, 0, Qt.ItemDataRole.UserRole - 1)  # which is how a combo box has a row disabled
        if len(self._supported) > 1:
            box.addItem(f"All {len(self._supported)}", ALL)
            box.setItemData(box.count() - 1, "A run on each of them, to compare", Qt.ItemDataRole.ToolTipRole)
        names = {str(engine) for engine in self._supported} | ({ALL} if len(self._supported) > 1 else set())
        self._show_engine(self._wanted if self._wanted in names else str(self._supported[0]))

    def _show_engine(self, name: str) -> None:
        self.engine.setCurrentIndex(self.engine.findData(name))
        self.engine.setToolTip(str(self.engine.currentData(Qt.ItemDataRole.ToolTipRole)))

        self._note_engines()

    def _engine_chosen(self, row: int) -> None:
        self._wanted = str(self.engine.itemData(row))
        self._show_engine(self._wanted)
        self.changed.emit()

    def _note_engines(self) -> None:
        """Say beside each setting which of the chosen engines refuse it, or do not heed it."""
        is_refused = False
        for name, (what, _) in NOT_WITH.items():
            refusing, is_asked = self._refusing(name), self._is_asked(name)
            note, tone = f"Not with {_listed(refusing)}" if refusing else "", "muted"
            if is_asked and len(refusing) == len(self.engines):
                note = ""  # it is marked as wrong
            elif is_asked and refusing:
                note, tone = f"{_listed(refusing)} will refuse the run: no {what} there", "warning"
            self.fields[name].set_note(note, tone)
            is_refused = is_refused or (is_asked and bool(refusing))
        whole = [engine for engine in self.engines if engine in _FILL_WHOLE]
        self.fields["share"].set_note(f"{_listed(whole)} fills every order whole" if whole else "")
        if is_refused and not self.is_open:
            self.unfold()

    def _refusing(self, name: str) -> list[Engine]:
        return [engine for engine in self.engines if engine in NOT_WITH[name][1]]

    def _is_asked(self, name: str) -> bool:
        return bool(read_number(self._text(name) or "0"))

    @property
    def engines(self) -> tuple[Engine, ...]:
        """The engines that a run shall be made on."""
        chosen = self.engine.currentData()
        return self._supported if chosen == ALL else (Engine(chosen),)

    # ---- values -----------------------------------------------------------------------------------------------------

    def values(self) -> Costs | None:
        """Give what the fields hold; None, and marks, where something is wrong."""
        cash = self._checked("cash", "An amount above zero, such as 10,000", above=Decimal(0), below=Decimal(10**15))
        percentage = "A percentage such as 0.05"
        fee = self._share("fee", "A percentage such as 0.1, or nothing", low=Decimal(-1), can_be_empty=True)
        slippage = self._share("slippage", percentage)
        spread = self._share("spread", percentage)
        share = self._share("share", "A percentage up to 100, or nothing", can_be_empty=True, is_share=True)
        ticks = self._whole("ticks", "A whole number from 0 to 1,000,000", _MOST_TICKS)
        seed = self._whole("seed", "A whole number from 0", 2**63 - 1)
        latency_ns = self._latency()
        if any(field.problem for field in self.fields.values()) or None in (cash, slippage, spread, latency_ns):
            return None
        assert cash is not None  # noqa: S101 - as was looked at above
        return Costs(
            self.engines,
            cash,
            fee,
            slippage or Decimal(0),
            self.short.isChecked(),
            spread or Decimal(0),
            ticks or 0,
            latency_ns or 0,
            share,
            seed or 0,
        )

    def _text(self, name: str) -> str:
        return self.edits[name].text().strip()

    def _mark(self, name: str, problem: str) -> None:
        if not problem and name in NOT_WITH and self._is_asked(name):
            problem = self._refusal(name)
        if self.fields[name].problem != problem:
            self.fields[name].set_problem(problem)

    def _refusal(self, name: str) -> str:
        """Say why a run with this cannot be; where some of several engines can make it, it can."""
        if name == "ticks" and self._is_on_file:
            return "A file does not tell how large a tick is"
        if len(self._refusing(name)) < len(self.engines):
            return ""
        return f"{_listed(self.engines)} knows no {NOT_WITH[name][0]}: leave 0, or choose Replay"

    def _checked(self, name: str, problem: str, *, above: Decimal, below: Decimal) -> Decimal | None:
        number = read_number(self._text(name))
        is_right = number is not None and above < number < below
        self._mark(name, "" if is_right else problem)
        return number if is_right else None

    def _share(
        self, name: str, problem: str, *, low: Decimal = Decimal(0), can_be_empty: bool = False, is_share: bool = False
    ) -> Decimal | None:
        """Read a percentage as a fraction: from `low` to below 1, a share above 0 to 1; nothing is None or 0."""
        text = self._text(name)
        if not text:
            self._mark(name, "")
            return None if can_be_empty else Decimal(0)
        number = None if "," in text else read_number(text.replace("%", ""))
        fraction = None if number is None else number / _PERCENT
        is_right = fraction is not None and (0 < fraction <= 1 if is_share else low <= fraction < 1 and fraction > -1)
        self._mark(name, "" if is_right else problem)
        return fraction if is_right else None

    def _whole(self, name: str, problem: str, most: int) -> int | None:
        number = read_number(self._text(name) or "0")
        is_right = number is not None and number == number.to_integral_value() and 0 <= number <= most
        self._mark(name, "" if is_right else problem)
        return int(number) if is_right and number is not None else None

    def _latency(self) -> int | None:
        number = read_number(self._text("latency") or "0")
        is_right = number is not None and 0 <= number * _MS_NS <= DAY_NS
        self._mark("latency", "" if is_right else "Milliseconds, from 0 to a day")
        return round(number * _MS_NS) if is_right and number is not None else None

    # ---- folding ----------------------------------------------------------------------------------------------------

    def _edited(self) -> None:
        self._name_more()
        self._note_engines()
        self.changed.emit()

    @property
    def is_open(self) -> bool:
        """Whether the folded settings are seen."""
        return not self.folded.isHidden()

    def unfold(self, is_open: bool = True) -> None:
        """Show the folded settings, or fold them again."""
        self.more.setArrowType(Qt.ArrowType.DownArrow if is_open else Qt.ArrowType.RightArrow)
        self.folded.setVisible(is_open)
        self._name_more()

    def show_problems(self) -> None:
        """Unfold what is folded where something in it is wrong."""
        if any(field.problem for field in self.fields.values() if field.parent() is self.folded):
            self.unfold()

    def _name_more(self) -> None:
        """Say on the folded part what in it is not as usual."""
        said = [
            words.format(self._text(name)) if self._text(name) else without
            for name, (usual, words, without) in _FOLDED.items()
            if self._text(name) != usual and (self._text(name) or without)
        ]
        self.more.setText("More settings" if self.is_open or not said else f"More: {', '.join(said)}")
        self.more.setToolTip("Spread, ticks, latency, share of volume, seed")

    # ---- remembering ------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Give everything that was typed."""
        texts = {name: edit.text() for name, edit in self.edits.items()}
        return texts | {"short": self.short.isChecked(), "engine": self._wanted, "more": self.is_open}

    def turn_to(self, *, is_on_file: bool) -> None:
        """Say what is taken where no fee is given: a file names none."""
        self._is_on_file = is_on_file
        self._note_engines()
        self.edits["fee"].setPlaceholderText("None" if is_on_file else "Venue's")

    def restore(self, state: dict[str, Any]) -> None:
        """Take that over, as far as it can be read."""
        for name, edit in self.edits.items():
            if isinstance(text := state.get(name), str):
                edit.setText(text)
        if isinstance(short := state.get("short"), bool):
            self.short.setChecked(short)
        if isinstance(more := state.get("more"), bool):
            self.unfold(more)
        if (wanted := state.get("engine")) in (ALL, *Engine):
            self._wanted = str(wanted)
            self._list_engines()

    def take(self, spec: BacktestSpec) -> None:
        """Have the fields hold what a run was made with."""
        share = spec.volume_fraction
        texts = {
            "cash": f"{spec.cash:,f}",
            "fee": "" if spec.fee is None else _percentage(spec.fee),
            "slippage": _percentage(spec.slippage),
            "spread": _percentage(spec.spread),
            "ticks": str(spec.slippage_ticks),
            "latency": f"{spec.latency_ns / _MS_NS:.15g}",
            "share": "" if share is None else _percentage(share),
            "seed": str(spec.seed),
        }
        self.restore(texts | {"short": spec.allow_short, "engine": str(spec.engine)})


def _listed(engines: Sequence[Engine]) -> str:
    return " and ".join(ENGINES[engine] for engine in engines)


def _percentage(fraction: Decimal) -> str:
    return f"{(fraction * _PERCENT).normalize():f}"
