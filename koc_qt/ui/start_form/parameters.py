"""Parameters as fields and as JSON, the one always what the other is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from PySide6.QtCore import QSize, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QGridLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.parameters import Parameter
from koc_qt.ui.formats import cut
from koc_qt.ui.icons import icon
from koc_qt.ui.start_form.parts import Caption, Choice, NumberBox, Words
from koc_qt.ui.start_form.values import JsonProblem, clip, defaults_of, plain, range_of, read_json, to_json
from koc_qt.ui.theme import Theme, code_font, style_as

_SEEN_AT_ONCE = 5  # fields
_GAP_PX = 12
_NAME_PX = 128  # so that all controls begin in one line, those of the market above them too
_LONGEST_NAME = 18  # characters, which that has room for; a longer one stands above its control
_LONGEST_LINE = 60  # characters, for which the form is wide enough


class Field(QWidget):
    """One parameter: its control, what it is for, a way back to its default, and what is wrong with it."""

    edited = Signal()

    def __init__(self, rule: Parameter, theme: Theme) -> None:
        super().__init__()
        self.rule = rule
        self._control = self._make_control()
        self._control.setAccessibleName(rule.name)
        self.reset_button = QToolButton()
        self.reset_button.setIcon(icon("refresh", theme))
        self.reset_button.setIconSize(QSize(14, 14))
        self.reset_button.setToolTip("Back to the default")
        self.reset_button.setAccessibleName(f"{rule.name}: back to the default")
        self.reset_button.clicked.connect(self.reset)
        keep = self.reset_button.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self.reset_button.setSizePolicy(keep)
        self._help = Words(tone="muted", face="small")
        self._help.say(self._about())
        self._control.setAccessibleDescription(self._help.text())
        self._problem = Words(tone="danger", face="small")
        caption = Caption(cut(rule.name, _LONGEST_LINE))
        caption.setToolTip(rule.name if caption.text() != rule.name else "")
        caption.setMinimumWidth(1)  # however wide its letters are, the form is no wider for them
        caption.setBuddy(self._control)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(8)
        grid.setVerticalSpacing(2)
        grid.setColumnMinimumWidth(0, _NAME_PX)
        grid.setColumnStretch(1, 1)
        row = 1 if len(rule.name) > _LONGEST_NAME else 0
        grid.addWidget(caption, 0, 0, 1, 3 if row else 1)
        grid.addWidget(self._control, row, 1)
        grid.addWidget(self.reset_button, row, 2)
        grid.addWidget(self._problem, row + 1, 1, 1, 2)
        grid.addWidget(self._help, row + 2, 1, 1, 2)
        self._control.setToolTip("")
        self.set_value(rule.default)

    def _make_control(self) -> QWidget:
        rule = self.rule
        if rule.kind in ("int", "float"):
            number = NumberBox(rule)
            number.edited.connect(self._changed)
            return number
        if rule.kind == "bool":
            check = QCheckBox()
            check.toggled.connect(self._changed)
            return check
        if rule.kind == "choice":
            choice = Choice()
            choice.addItems(list(rule.choices))
            choice.currentTextChanged.connect(self._changed)
            return choice
        line = QLineEdit()
        line.textChanged.connect(self._changed)
        return line

    def _about(self) -> str:
        default = self.rule.default
        shown = ("on" if default else "off") if isinstance(default, bool) else f"{default}" or "empty"
        if isinstance(default, (int, float)) and not isinstance(default, bool):
            shown = plain(default)
        parts = [self.rule.help.strip(), range_of(self.rule), f"default {shown}"]
        return clip(" · ".join(part for part in parts if part))

    def value(self) -> Any:
        """Give the value. Raises StrategyError where there is none that may be used."""
        control = self._control
        if isinstance(control, NumberBox):
            return control.value()
        if isinstance(control, QCheckBox):
            return control.isChecked()
        text = control.currentText() if isinstance(control, Choice) else self._line.text()
        return self.rule.convert(text)

    def set_value(self, value: Any) -> None:
        """Show a value that the rules allow."""
        control = self._control
        if isinstance(control, NumberBox):
            control.set_value(value)
        elif isinstance(control, QCheckBox):
            control.setChecked(value)
        elif isinstance(control, Choice):
            control.setCurrentText(value)
        else:
            self._line.setText(value)
        self._judge()

    def reset(self) -> None:
        """Go back to the default."""
        self.set_value(self.rule.default)

    @property
    def problem(self) -> str:
        """What is wrong with it; empty where nothing is."""
        return self._problem.text()

    @property
    def _line(self) -> QLineEdit:
        assert isinstance(self._control, QLineEdit)  # noqa: S101 - the one kind that is left
        return self._control

    def _changed(self) -> None:
        self._judge()
        self.edited.emit()

    def _judge(self) -> None:
        try:
            value = self.value()
        except StrategyError as error:
            problem, is_default = clip(str(error)), False
        else:
            problem, is_default = "", value == self.rule.default
        self._problem.say(problem)
        style_as(self._control, invalid=True if problem else None)
        self.reset_button.setVisible(not is_default)


class ParameterForm(QWidget):
    """All parameters of a strategy, once `build` has run. `edited` says that `values` or `problem` may differ."""

    edited = Signal()

    def __init__(self, rules: Mapping[str, Parameter], theme: Theme) -> None:
        super().__init__()
        self.rules = rules
        self._theme = theme
        self._syncing = False
        self._json_problem = ""
        self._values = defaults_of(rules)  # the last that were all good
        self.fields: dict[str, Field] = {}
        self.reset_all = QPushButton("Reset all")
        style_as(self.reset_all, role="flat")
        self.reset_all.setAutoDefault(False)
        self.reset_all.setToolTip("Every parameter back to its default")
        self.reset_all.clicked.connect(lambda: self.set_values(defaults_of(self.rules)))
        self.json = QPlainTextEdit()
        self.json.setFont(code_font())
        self.json.setAccessibleName("Parameters as JSON")
        self.json.setTabChangesFocus(True)
        self.json.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.json.setMinimumHeight(120)
        self.json.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Ignored)  # what the fields leave
        self._json_words = Words(tone="danger", face="small")
        self.tabs = QTabWidget()
        self.tabs.setDocumentMode(True)
        self.tabs.addTab(self._fields_page(), "Form")
        self.tabs.addTab(self._json_page(), "JSON")
        self.tabs.setCornerWidget(self.reset_all)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self.tabs)
        self.json.textChanged.connect(self._json_edited)
        self._write_json()
        self._show_reset()

    def build(self) -> Iterator[None]:
        """Make the fields, one a step: each takes some two milliseconds, and a window has sixteen.

        To show them takes as long again, so only the first can be seen once the form is; `reveal` brings the others.
        """
        for name, rule in self.rules.items():
            field = self.fields[name] = Field(rule, self._theme)
            if len(self.fields) > _SEEN_AT_ONCE:
                field.hide()
            self._column.insertWidget(len(self.fields) - 1, field)
            for widget in (field, *field.findChildren(QWidget)):
                widget.ensurePolished()  # now, and not for all of them when the page is shown
            field.edited.connect(self._field_edited)
            yield

    def reveal(self) -> Iterator[None]:
        """Show the fields that are hidden still, one a step."""
        for field in self.fields.values():
            if field.isHidden():
                field.show()
                yield

    @property
    def hidden_px(self) -> int:
        """How much higher this will be about, in pixels, once every field is shown."""
        hidden = [field for field in self.fields.values() if field.isHidden()]
        return len(hidden) * (hidden[0].sizeHint().height() + _GAP_PX) if hidden else 0

    def _fields_page(self) -> QWidget:
        page = QWidget()
        column = self._column = QVBoxLayout(page)
        column.setContentsMargins(0, 12, 0, 8)
        column.setSpacing(_GAP_PX)
        if not self.rules:
            column.addWidget(Words("This strategy has no parameters.", tone="muted"))
        column.addStretch(1)
        return page

    def _json_page(self) -> QWidget:
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 12, 0, 8)
        column.addWidget(self._json_words)
        column.addWidget(self.json, 1)
        hint = Words("What is left out has its default.", tone="muted", face="small")
        hint.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        column.addWidget(hint)
        return page

    def values(self) -> dict[str, Any]:
        """Give the value of every parameter: the last ones that were all good."""
        return dict(self._values)

    def problem(self) -> str:
        """Say what is wrong; empty where nothing is."""
        if self._json_problem:
            return f"JSON: {self._json_problem}"
        return next((field.problem for field in self.fields.values() if field.problem), "")

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show these values, which the rules allow, as fields and as JSON."""
        self._show_in_fields(values)
        self._json_problem = ""
        self._values |= values
        self._write_json()
        self._show_reset()
        self.edited.emit()

    def take(self, remembered: object) -> None:
        """Take over values of an earlier time, as far as the parameters are still there and allow them."""
        if not isinstance(remembered, Mapping):
            return
        good: dict[str, Any] = {}
        for name, rule in self.rules.items():
            try:
                good[name] = rule.convert(remembered[name])
            except (KeyError, StrategyError):
                continue
        self.set_values(good)

    def _field_edited(self) -> None:
        if self._syncing:
            return
        if not any(field.problem for field in self.fields.values()):
            self._values = {name: field.value() for name, field in self.fields.items()}
            self._json_problem = ""
            self._write_json()
        self._show_reset()
        self.edited.emit()

    def _json_edited(self) -> None:
        if self._syncing:
            return
        try:
            self._values = read_json(self.json.toPlainText(), self.rules)
        except JsonProblem as problem:
            self._json_problem = str(problem)
        else:
            self._json_problem = ""
            self._show_in_fields(self._values)
        self._show_json_problem()
        self._show_reset()
        self.edited.emit()

    def _show_in_fields(self, values: Mapping[str, Any]) -> None:
        self._syncing = True
        for name, value in values.items():
            self.fields[name].set_value(value)
        self._syncing = False

    def _write_json(self) -> None:
        self._syncing = True
        text = to_json(self._values)
        if self.json.toPlainText() != text:
            self.json.setPlainText(text)
        self._syncing = False
        self._show_json_problem()

    def _show_json_problem(self) -> None:
        self._json_words.say(self._json_problem)
        style_as(self.json, invalid=True if self._json_problem else None)

    def _show_reset(self) -> None:
        self.reset_all.setEnabled(bool(self.problem()) or self._values != defaults_of(self.rules))
