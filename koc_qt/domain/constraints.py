"""Conditions on parameters that people write, such as ``fast < slow and size * 2 <= 10``: read, never executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from koc_qt.domain.errors import ConfigError

_LONGEST = 500  # characters
_MOST_PARTS = 200

_Value = Callable[[Mapping[str, Any]], Any]

_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_REACHED: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


class Constraint:
    """A condition on parameters: names, numbers, texts, + - * / // %, comparisons, and, or, not. Raises ConfigError."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.names: set[str] = set()
        if len(text) > _LONGEST:
            raise ConfigError(f"a constraint has at most {_LONGEST} characters, not {len(text):,}")
        try:
            tree = ast.parse(text.strip(), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ConfigError(f"the constraint {text!r} cannot be read: write it as fast < slow") from error
        if sum(1 for _ in ast.walk(tree)) > _MOST_PARTS:
            raise ConfigError(f"the constraint {text!r} has too many parts")
        self._value = self._read(tree.body)

    def holds(self, values: Mapping[str, Any]) -> bool:
        """Whether it is true of these values. Raises ConfigError where that cannot be said."""
        try:
            return bool(self._value(values))
        except (TypeError, ArithmeticError, KeyError) as error:
            given = ", ".join(f"{name}={values[name]!r}" for name in sorted(self.names & values.keys()))
            raise ConfigError(f"the constraint {self.text!r} cannot be worked out for {given}: {error}") from error

    def _read(self, node: ast.expr) -> _Value:
        match node:
            case ast.Name(id=name):
                self.names.add(name)
                return lambda values: values[name]
            case ast.Constant(value=bool() | int() | float() | str() as constant):
                return lambda _: constant
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._read(operand)
                return lambda values: not inner(values)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                inner = self._read(operand)
                return lambda values: -inner(values)
            case ast.BoolOp(op=op, values=parts):
                inners = [self._read(part) for part in parts]
                decide = all if isinstance(op, ast.And) else any
                return lambda values: decide(inner(values) for inner in inners)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _REACHED:
                return self._reached(_REACHED[type(op)], self._read(left), self._read(right))
            case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARED for op in ops):
                sides = [self._read(side) for side in (left, *comparators)]
                return self._compared([_COMPARED[type(op)] for op in ops], sides)
            case _:
                raise ConfigError(
                    f"the constraint {self.text!r} may have names, numbers, + - * / // %, comparisons, and, or, not"
                )

    @staticmethod
    def _reached(reach: Callable[[Any, Any], Any], left: _Value, right: _Value) -> _Value:
        def value(values: Mapping[str, Any]) -> Any:
            one, other = left(values), right(values)
            if isinstance(one, str) or isinstance(other, str):
                raise TypeError("a text is no number")
            return reach(one, other)

        return value

    @staticmethod
    def _compared(compares: list[Callable[[Any, Any], bool]], sides: list[_Value]) -> _Value:
        def value(values: Mapping[str, Any]) -> bool:
            found = [side(values) for side in sides]
            return all(compare(*pair) for compare, pair in zip(compares, pairwise(found), strict=True))

        return value
