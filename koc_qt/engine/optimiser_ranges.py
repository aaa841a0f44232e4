"""The ranges of a study, held against what its strategy file declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from koc_qt.domain.constraints import Constraint
from koc_qt.domain.errors import ConfigError, StrategyError
from koc_qt.domain.optimisation import ParameterRange, StudySpec
from koc_qt.sdk.channel import Described, ParameterInfo


def resolved(spec: StudySpec, described: Described) -> StudySpec:
    """Give the study with the ranges that it will have: its own as far as it has any, else the declared ones.

    Raises ConfigError for one that the file does not allow, and where nothing is left to search.
    """
    declared = {info.name: info for info in described.parameters}
    ranges = tuple(_checked(each, declared) for each in spec.ranges) or _declared(described.parameters, spec)
    if not ranges:
        raise ConfigError(
            f"{described.name} declares no parameter with a lowest and a highest value: say what to search"
        )
    fixed = dict(spec.base.parameters)
    for name in {name for text in spec.constraints for name in Constraint(text).names} - {each.name for each in ranges}:
        if name not in declared:
            raise ConfigError(f"a constraint names {name!r}, which is no parameter; there are: {_names(declared)}")
        fixed[name] = _choice(fixed.get(name, declared[name].default), declared[name])
    base = msgspec.structs.replace(spec.base, parameters=fixed)
    whole = msgspec.structs.replace(spec, base=base, ranges=ranges)
    whole.check_size()
    return whole


def check_fixed(spec: StudySpec, described: Described) -> None:
    """Raise StrategyError for values of parameters that the file does not declare."""
    known = {info.name for info in described.parameters}
    if unknown := sorted(set(spec.base.parameters) - known):
        raise StrategyError(f"{described.name} has no parameter {', '.join(unknown)}; it has: {_names(known)}")


def _declared(parameters: Sequence[ParameterInfo], spec: StudySpec) -> tuple[ParameterRange, ...]:
    return tuple(
        found for info in parameters if info.name not in spec.base.parameters and (found := _range_of(info)) is not None
    )


def _range_of(info: ParameterInfo) -> ParameterRange | None:
    if info.kind == "bool":
        return ParameterRange(info.name, choices=(False, True))
    if info.kind == "choice":
        return ParameterRange(info.name, choices=info.choices)
    if info.low is None or info.high is None:
        return None
    return ParameterRange(info.name, info.low, info.high, info.step, whole=info.kind == "int")


def _checked(given: ParameterRange, declared: dict[str, ParameterInfo]) -> ParameterRange:
    info = declared.get(given.name)
    if info is None:
        raise ConfigError(f"there is no parameter {given.name!r} to search; there are: {_names(declared)}")
    if given.choices:
        return msgspec.structs.replace(given, choices=tuple(_choice(each, info) for each in given.choices))
    if info.kind not in ("int", "float"):
        raise ConfigError(f"{given.name} is {info.kind}, no number: list the values that it may have")
    low, high = given.low, given.high
    if (info.low is not None and low is not None and low < info.low) or (
        info.high is not None and high is not None and high > info.high
    ):
        raise ConfigError(f"{given.name} may be {_bounds(info)}: the range from {low:g} to {high:g} goes beyond that")
    step = info.step if given.step is None else given.step
    return ParameterRange(given.name, low, high, step, whole=info.kind == "int")


def _choice(value: Any, info: ParameterInfo) -> Any:
    """Give a listed value in the parameter's own type; what comes from a command line is text."""
    if info.kind == "choice" and value not in info.choices:
        raise ConfigError(f"{info.name} is one of {', '.join(info.choices)}, not {value!r}")
    try:
        number = value if isinstance(value, bool | int | float) else float(value)
    except ValueError:
        number = None
    if info.kind == "bool":
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        found = words.get(str(value).lower())
        if found is None:
            raise ConfigError(f"{info.name} is true or false, not {value!r}")
        return found
    if info.kind not in ("int", "float"):
        return value
    if number is None or (info.kind == "int" and number != int(number)):
        raise ConfigError(f"{info.name} is {'a whole number' if info.kind == 'int' else 'a number'}, not {value!r}")
    if (info.low is not None and number < info.low) or (info.high is not None and number > info.high):
        raise ConfigError(f"{info.name} may be {_bounds(info)}, not {number:g}")
    return int(number) if info.kind == "int" else float(number)


def _bounds(info: ParameterInfo) -> str:
    if info.low is None:
        return f"at most {info.high:g}"
    return f"at least {info.low:g}" if info.high is None else f"from {info.low:g} to {info.high:g}"


def _names(names: Any) -> str:
    return ", ".join(sorted(names)) or "none"
