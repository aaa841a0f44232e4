"""Parameters that a strategy declares: ``fast: int = param(10, low=2, high=100, help="bars of the fast average")``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, overload

from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.channel import ParameterInfo

_STEP_TOLERANCE = 1e-9  # of a step: 0.1 + 0.2 is on a grid of 0.1
_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_ARTICLES = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a text"}


class Parameter:
    """A declared parameter, read as an attribute of the strategy. Use `param` to make one."""

    def __init__(
        self,
        default: Any,
        low: float | None,
        high: float | None,
        step: float | None,
        choices: tuple[str, ...],
        help_text: str,
    ) -> None:
        self.name = "parameter"
        self.kind = _kind_of(default, choices)
        self.low, self.high, self.step = low, high, step
        self.choices = choices
        self.help = help_text
        self._check_declaration()
        self.default = self.convert(default)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        if owner.__annotations__.get(name) in (float, "float") and self.kind == "int":
            self.kind, self.default = "float", float(self.default)  # ratio: float = param(2)

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        return instance.__dict__.get(self.name, self.default)

    def __set__(self, instance: object, value: Any) -> None:
        instance.__dict__[self.name] = self.convert(value)

    def info(self) -> ParameterInfo:
        """Describe it for a form."""
        return ParameterInfo(
            name=self.name,
            kind=self.kind,
            default=self.default,
            low=self.low,
            high=self.high,
            step=self.step,
            choices=self.choices,
            help=self.help,
        )

    def convert(self, value: Any) -> Any:
        """Give `value` in the parameter's own type. Raises StrategyError where it is of another or out of range."""
        if self.kind == "choice":
            if value not in self.choices:
                raise StrategyError(f"{self.name} must be one of {', '.join(self.choices)}, not {value!r}")
            return value
        converted = _CONVERTERS[self.kind](value)
        if converted is None:
            raise StrategyError(f"{self.name} must be {_ARTICLES[self.kind]}, not {value!r}")
        if self.kind in ("int", "float"):
            self._check_range(converted)
        return converted

    def _check_range(self, value: float) -> None:
        if self.low is not None and value < self.low:
            raise StrategyError(f"{self.name} must be at least {self.low:g}, not {value:g}")
        if self.high is not None and value > self.high:
            raise StrategyError(f"{self.name} must be at most {self.high:g}, not {value:g}")
        if self.step is not None:
            start = self.low if self.low is not None else 0.0
            steps = (value - start) / self.step
            if abs(steps - round(steps)) > _STEP_TOLERANCE * max(1.0, abs(steps)):
                raise StrategyError(f"{self.name} must be {start:g} and whole steps of {self.step:g}, not {value:g}")

    def _check_declaration(self) -> None:
        numeric = self.kind in ("int", "float")
        if not numeric and (self.low, self.high, self.step) != (None, None, None):
            raise StrategyError(f"low, high and step are for numbers, not for a parameter of kind {self.kind}")
        if self.step is not None and not self.step > 0:
            raise StrategyError(f"a parameter's step must be above zero, not {self.step:g}")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise StrategyError(f"a parameter's low ({self.low:g}) is above its high ({self.high:g})")


def _kind_of(default: Any, choices: tuple[str, ...]) -> str:
    if choices:
        return "choice"
    for kind, types in (("bool", (bool,)), ("int", (int,)), ("float", (float, Decimal)), ("str", (str,))):
        if isinstance(default, types):
            return kind
    raise StrategyError(f"a parameter is an int, float, bool or str, not a {type(default).__name__} ({default!r})")


def _to_int(value: Any) -> int | None:
    number = _to_float(value)
    if number is None or not number.is_integer():
        return None
    return value if type(value) is int else int(number)


def _to_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal, str)):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _to_bool(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    return _WORDS.get(value.strip().lower()) if isinstance(value, str) else None


def _to_str(value: Any) -> str | None:
    return value if isinstance(value, str) else None


_CONVERTERS: dict[str, Callable[[Any], Any]] = {"int": _to_int, "float": _to_float, "bool": _to_bool, "str": _to_str}


@overload
def param(default: bool, *, help: str = "") -> bool: ...
@overload
def param(
    default: int, *, low: float | None = None, high: float | None = None, step: float | None = None, help: str = ""
) -> int: ...
@overload
def param(
    default: float | Decimal,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    help: str = "",
) -> float: ...
@overload
def param(default: str, *, choices: Sequence[str] = (), help: str = "") -> str: ...
def param(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    step: float | None = None,
    choices: Sequence[str] = (),
    help: str = "",
) -> Any:
    """Declare a parameter of a strategy; its type is that of `default` (a Decimal counts as a float).

    `low` and `high` are inclusive; with `step` only `low` (or 0) and whole steps from it are allowed.
    Values that arrive as text, as from a command line, are read. Raises StrategyError when the declaration is wrong.
    """
    return Parameter(default, low, high, step, tuple(choices), help)


def parameters_of(strategy: type) -> dict[str, Parameter]:
    """Give the parameters of a strategy class by name, in the order of their declaration, base classes first."""
    found: dict[str, Parameter] = {}
    for cls in reversed(strategy.__mro__):
        for name, value in vars(cls).items():
            if isinstance(value, Parameter):
                found[name] = value
            else:
                found.pop(name, None)  # a plain attribute of a derived class hides the parameter
    return found


def set_parameters(strategy: object, values: Mapping[str, Any]) -> None:
    """Give `values` to the strategy's parameters. Raises StrategyError for an unknown name or a value out of range."""
    known = parameters_of(type(strategy))
    for name, value in values.items():
        if name not in known:
            has = f"its parameters are {', '.join(known)}" if known else "it has none"
            raise StrategyError(f"the strategy has no parameter {name!r}: {has}")
        setattr(strategy, name, value)


def parameter_values(strategy: object) -> dict[str, Any]:
    """Give the strategy's parameters with their present values."""
    return {name: getattr(strategy, name) for name in parameters_of(type(strategy))}
