from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from koc_qt.sdk import StrategyError, param
from koc_qt.sdk.parameters import Parameter, parameter_values, parameters_of, set_parameters


class Declared:
    fast: int = param(10, low=2, high=100, step=2, help="bars of the fast average")
    ratio: float = param(2, low=0.5)
    edge: float = param(Decimal("0.1"), step=0.1)
    shorts: bool = param(False)
    note: str = param("hello")
    side: str = param("long", choices=("long", "short"))


def test_defaults_are_read_from_class_declarations() -> None:
    declared = Declared()
    assert parameter_values(declared) == {
        "fast": 10, "ratio": 2.0, "edge": 0.1, "shorts": False, "note": "hello", "side": "long",
    }  # fmt: skip
    assert [type(value) for value in parameter_values(declared).values()] == [int, float, float, bool, str, str]


def test_what_is_declared_is_described() -> None:
    infos = [parameter.info() for parameter in parameters_of(Declared).values()]
    assert [(info.name, info.kind) for info in infos] == [
        ("fast", "int"), ("ratio", "float"), ("edge", "float"), ("shorts", "bool"), ("note", "str"), ("side", "choice"),
    ]  # fmt: skip
    assert (infos[0].low, infos[0].high, infos[0].step, infos[0].help) == (2, 100, 2, "bars of the fast average")
    assert infos[-1].choices == ("long", "short")
    assert isinstance(Declared.fast, Parameter)


@pytest.mark.parametrize(
    ("name", "given", "taken"),
    [
        ("fast", 20, 20),
        ("fast", "20", 20),
        ("fast", 20.0, 20),
        ("fast", Decimal(20), 20),
        ("ratio", 1, 1.0),
        ("ratio", "0.5", 0.5),
        ("ratio", Decimal("1.5"), 1.5),
        ("edge", 0.1 + 0.2, 0.1 + 0.2),
        ("edge", 12_345.6, 12_345.6),
        ("shorts", True, True),
        ("shorts", " Yes ", True),
        ("shorts", "off", False),
        ("note", "", ""),
        ("side", "short", "short"),
    ],
)
def test_good_values_are_taken(name: str, given: Any, taken: Any) -> None:
    declared, other = Declared(), Declared()
    set_parameters(declared, {name: given})
    assert getattr(declared, name) == taken
    assert type(getattr(declared, name)) is type(taken)
    assert getattr(other, name) == parameters_of(Declared)[name].default


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("fast", 1, "fast must be at least 2, not 1"),
        ("fast", 102, "fast must be at most 100, not 102"),
        ("fast", 5, "fast must be 2 and whole steps of 2, not 5"),
        ("fast", 2.5, "fast must be a whole number, not 2.5"),
        ("fast", True, "fast must be a whole number, not True"),
        ("fast", "ten", "fast must be a whole number, not 'ten'"),
        ("fast", None, "fast must be a whole number, not None"),
        ("fast", 10**400, "fast must be a whole number"),
        ("ratio", math.nan, "ratio must be a number, not nan"),
        ("ratio", "inf", "ratio must be a number, not 'inf'"),
        ("edge", 0.15, "edge must be 0 and whole steps of 0.1, not 0.15"),
        ("shorts", 1, "shorts must be true or false, not 1"),
        ("shorts", "maybe", "shorts must be true or false, not 'maybe'"),
        ("note", 1, "note must be a text, not 1"),
        ("side", "up", "side must be one of long, short, not 'up'"),
        ("fsat", 1, "no parameter 'fsat': its parameters are fast, ratio, edge, shorts, note, side"),
    ],
)
def test_bad_values_are_refused_with_a_sentence(name: str, given: Any, message: str) -> None:
    with pytest.raises(StrategyError) as caught:
        set_parameters(Declared(), {name: given})
    assert message in str(caught.value)


def test_a_strategy_without_parameters_says_so() -> None:
    with pytest.raises(StrategyError, match="no parameter 'x': it has none"):
        set_parameters(object(), {"x": 1})


@pytest.mark.parametrize(
    ("declaration", "message"),
    [
        ({"default": None}, "a parameter is an int, float, bool or str, not a NoneType"),
        ({"default": 1, "low": 2}, "must be at least 2"),
        ({"default": 1, "low": 3, "high": 2}, r"low \(3\) is above its high \(2\)"),
        ({"default": 1, "step": 0}, "step must be above zero"),
        ({"default": "a", "low": 1}, "low, high and step are for numbers"),
        ({"default": "a", "choices": ("b",)}, "must be one of b, not 'a'"),
        ({"default": math.inf}, "must be a number"),
    ],
)
def test_wrong_declarations_are_refused_where_they_stand(declaration: dict[str, Any], message: str) -> None:
    with pytest.raises(StrategyError, match=message):
        param(**declaration)


def test_derived_classes_add_replace_and_hide_parameters() -> None:
    class Base:
        first: int = param(1)
        second: int = param(2)
        third: int = param(3)

    class Derived(Base):
        second: int = param(20)
        third = 30
        fourth: int = param(4)

    assert parameter_values(Derived()) == {"first": 1, "second": 20, "fourth": 4}
