"""Values of a strategy's parameters: checked by the rules the worker itself keeps, written and read as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, NoReturn

from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.channel import Described, ParameterInfo
from koc_qt.sdk.parameters import Parameter

LONGEST_JSON = 100_000  # characters
LONGEST_PROBLEM = 300
MOST_PARAMETERS = 200
Rules = Mapping[str, Parameter]


class JsonProblem(StrategyError):
    """A JSON text gives no parameters; `line` and `column` count from 1."""

    def __init__(self, reason: str, line: int = 1, column: int = 1) -> None:
        super().__init__(f"Line {line}, column {column}: {clip(reason)}")
        self.line, self.column = line, column


def clip(text: str) -> str:
    """Shorten what a strategy or a value may have made endless."""
    return text if len(text) <= LONGEST_PROBLEM else f"{text[:LONGEST_PROBLEM]}…"


def rules_of(described: Described) -> dict[str, Parameter]:
    """Give the rules of each declared parameter. Raises StrategyError for a declaration that contradicts itself."""
    if len(described.parameters) > MOST_PARAMETERS:
        raise StrategyError(
            f"the strategy declares {len(described.parameters)} parameters: the form shows at most {MOST_PARAMETERS}"
        )
    return {info.name: rule_of(info) for info in described.parameters}


def rule_of(info: ParameterInfo) -> Parameter:
    """Give the rule of one declared parameter. Raises StrategyError for a declaration that contradicts itself."""
    rule = Parameter(info.default, info.low, info.high, info.step, info.choices, info.help)
    rule.name, rule.kind = info.name, info.kind
    rule.default = rule.convert(info.default)
    return rule


def defaults_of(rules: Rules) -> dict[str, Any]:
    """Give the values that the strategy declares."""
    return {name: rule.default for name, rule in rules.items()}


def overrides_of(rules: Rules, values: Mapping[str, Any]) -> dict[str, Any]:
    """Give the values that differ from what is declared."""
    return {name: value for name, value in values.items() if value != rules[name].default}


def range_of(rule: Parameter) -> str:
    """Say what a parameter may be; empty where anything of its kind may."""
    low, high, step = (None if each is None else plain(each) for each in (rule.low, rule.high, rule.step))
    if low is not None and high is not None:
        text = f"{low} to {high}"
    elif low is not None:
        text = f"at least {low}"
    elif high is not None:
        text = f"at most {high}"
    else:
        text = ""
    if step is not None:
        text = f"{text}, in steps of {step}" if text else f"in steps of {step}"
    return text


def plain(value: float) -> str:
    """Write a number of a parameter without an exponent, as short as it is exact."""
    text = f"{Decimal(repr(value)):f}"
    return text.rstrip("0").removesuffix(".") if "." in text else text


def to_json(values: Mapping[str, Any]) -> str:
    """Write values for a person to edit."""
    return json.dumps(dict(values), indent=2, ensure_ascii=False)


def read_json(text: str, rules: Rules) -> dict[str, Any]:
    """Read the values of all parameters; one that is not named has its default. Raises JsonProblem."""
    if len(text) > LONGEST_JSON:
        raise JsonProblem(f"the text has more than {LONGEST_JSON:,} characters")
    try:
        found = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise JsonProblem(error.msg[:1].lower() + error.msg[1:], error.lineno, error.colno) from None
    except RecursionError:
        raise JsonProblem("too many brackets within brackets") from None
    except ValueError as error:
        raise JsonProblem(str(error)) from None
    if not isinstance(found, _Pairs):
        raise JsonProblem('write an object with the names of parameters, such as {"fast": 5}')
    values = defaults_of(rules)
    seen: set[str] = set()
    for name, value in found.pairs:
        if name not in rules:
            known = f"its parameters are {', '.join(rules)}" if rules else "it has none"
            raise JsonProblem(f"the strategy has no parameter {name!r}: {known}", *_place(text, name))
        if name in seen:
            raise JsonProblem(f"{name} is there twice", *_place(text, name, last=True))
        seen.add(name)
        try:
            values[name] = rules[name].convert(_plain(value))
        except StrategyError as error:
            raise JsonProblem(str(error), *_place(text, name)) from None
    return values


class _Pairs:
    """An object of JSON as it was written, names that come twice included."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        self.pairs = pairs

    def __repr__(self) -> str:
        return "an object"


def _plain(value: Any) -> Any:
    """Give a value whose repr is short, for a sentence."""
    return "a list" if isinstance(value, list) else value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that can be used")


def _place(text: str, name: str, *, last: bool = False) -> tuple[int, int]:
    """Find the line and column at which a name is given its value."""
    written = re.escape(json.dumps(name, ensure_ascii=False))
    found = list(re.finditer(rf"{written}\s*:", text)) or list(re.finditer(re.escape(json.dumps(name)), text))
    if not found:
        return 1, 1
    at = found[-1 if last else 0].start()
    return text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at)
