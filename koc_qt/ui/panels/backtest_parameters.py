"""Fields for the parameters that a strategy declares, in the back-test panel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QVBoxLayout, QWidget

from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.channel import ParameterInfo
from koc_qt.sdk.parameters import Parameter
from koc_qt.ui.panels.backtest_fields import Cells, Field, WheelGuard
from koc_qt.ui.start_form.values import rule_of

_CELL_PX = 104
_LONGEST = 1_000  # characters of a value

Editor = QCheckBox | QComboBox | QLineEdit


class ParameterForm(QWidget):
    """A field for each parameter. An empty one means the declared default, which it then shows."""

    changed = Signal()

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._declared: tuple[ParameterInfo, ...] = ()
        self._parameters: dict[str, Parameter] = {}
        self._coming: dict[str, Any] = {}  # what was typed into fields that are still to be made
        self.fields: dict[str, Field] = {}
        self._guard = WheelGuard(self)
        self._cells = Cells(_CELL_PX, self, most=6)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._cells)

    def clear(self) -> None:
        """Have no fields."""
        self._cells.clear()
        self._declared, self._parameters, self.fields, self._coming = (), {}, {}, {}

    def build(self, declared: Sequence[ParameterInfo], typed: Mapping[str, Any]) -> Iterator[None]:
        """Have fields for these, a field a step, with what was typed into those of the same name earlier.

        Those that are there stay where the same is declared. Raises StrategyError for a declaration that makes no
        sense; then nothing has changed.
        """
        rules = {info.name: rule_of(info) for info in declared}
        if tuple(declared) == self._declared:
            return
        self.clear()
        self._coming = dict(typed)
        for info in declared:
            self._parameters[info.name] = rules[info.name]
            self.fields[info.name] = field = self._field(info, self._coming.pop(info.name, None))
            for widget in (field, *field.findChildren(QWidget)):
                widget.ensurePolished()  # now, and not for all of them when the panel is shown
            self._cells.add(field)
            yield
        self._declared = tuple(declared)
        self._coming.clear()

    def typed(self) -> dict[str, Any]:
        """Give what differs from the defaults, as it was typed, right or wrong."""
        values = {name: _content(field.editor) for name, field in self.fields.items()}
        return self._coming | {name: value for name, value in values.items() if value != _plain(self._parameters[name])}

    def values(self) -> dict[str, Any] | None:
        """Give what differs from the defaults, in its own type; None, and marks, where something is wrong."""
        values: dict[str, Any] = {}
        for name, parameter in self._parameters.items():
            problem = self._check(name)
            if not problem and (content := _content(self.fields[name].editor)) != "":
                value = parameter.convert(content)
                if value != parameter.default:
                    values[name] = value
        return None if any(field.problem for field in self.fields.values()) else values

    def _check(self, name: str) -> str:
        """Mark a field as right or wrong."""
        field, problem = self.fields[name], ""
        content = _content(field.editor)
        if content != "" or self._parameters[name].kind == "str":
            try:
                self._parameters[name].convert(content)
            except StrategyError as error:
                problem = str(error)
        if problem != field.problem:
            field.set_problem(problem)
        return problem

    def _field(self, info: ParameterInfo, typed: Any) -> Field:
        parameter = self._parameters[info.name]
        content = typed if isinstance(typed, type(_plain(parameter))) else _plain(parameter)
        field = Field(" " if info.kind == "bool" else info.name, self._cells, tip=_tip(info))
        editor: Editor
        if info.kind == "bool":
            editor = QCheckBox(info.name, field)
            editor.setChecked(bool(content))
            editor.setAccessibleName(info.name)
            editor.toggled.connect(lambda _on: self._edited(info.name))
        elif info.kind == "choice":
            editor = QComboBox(field)
            editor.addItems(list(info.choices))
            editor.setCurrentText(str(content))
            editor.setMinimumContentsLength(6)
            editor.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            self._guard.watch(editor)
            editor.currentTextChanged.connect(lambda _text: self._edited(info.name))
        else:
            editor = QLineEdit(str(content), field)
            editor.setMaxLength(_LONGEST)
            editor.setPlaceholderText(str(_plain(parameter)))
            editor.setCursorPosition(0)
            editor.textChanged.connect(lambda _text: self._edited(info.name))
        field.hold(editor)
        return field

    def _edited(self, name: str) -> None:
        self._check(name)
        self.changed.emit()


def _content(editor: QWidget) -> str | bool:
    if isinstance(editor, QCheckBox):
        return editor.isChecked()
    if isinstance(editor, QComboBox):
        return editor.currentText()
    assert isinstance(editor, QLineEdit)  # noqa: S101 - there are no others
    return editor.text()


def _plain(parameter: Parameter) -> str | bool:
    """Give the default as a field shows it."""
    default = parameter.default
    if isinstance(default, bool):
        return default
    return f"{default:.15g}" if isinstance(default, float) else str(default)


def _tip(info: ParameterInfo) -> str:
    """Say what it is for, and what it may be."""
    bounds = [f"from {info.low:g}"] if info.low is not None else []
    bounds += [f"to {info.high:g}"] if info.high is not None else []
    bounds += [f"in steps of {info.step:g}"] if info.step is not None else []
    kind = {"int": "whole number", "float": "number"}.get(info.kind, "")
    limits = " ".join([kind, *bounds]).strip()
    return "\n".join(text for text in (info.help, limits.capitalize()) if text)
