"""YAML text into msgspec structs, with the line of everything that is wrong, and back.

Scalars are read as YAML 1.2 means them: 12:30 and no are text, not 750 and false. Anchors, tags and further documents
are refused, and so are keys that look like secrets.
"""

from __future__ import annotations

import enum
import math
import re
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
import yaml

from koc_qt.domain.errors import ConfigError

S = TypeVar("S", bound=msgspec.Struct)
Where = tuple[str | int, ...]

_SECRET = re.compile(
    r"(^|[_\-.])(api_?-?key|secret(_?key)?|pass(word|wd|phrase)|(access_|auth_|api_)?token|private_?key|credentials?)($|[_\-.])"
)
_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+",
        list("-+.0123456789"),
    ),
}


class Problem(NamedTuple):
    """Something wrong, in words; `line` counts from 1."""

    line: int
    text: str


class TakenOut(NamedTuple):
    """A value that was taken out of a text: where it was, its name, and its line, which counts from 1."""

    where: Where
    name: str
    value: str
    line: int

    def __repr__(self) -> str:
        return f"TakenOut({spell(self.where)}, line {self.line})"


class YamlProblems(Exception):
    """Everything wrong with a text, in the order of the lines."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__(problems)
        self.problems = sorted(problems)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's own way

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(
                None, None, "aliases (*name) are not used here: write the value out", mark
            )
        return super().compose_node(parent, index)


class _Dumper(yaml.SafeDumper):
    """Quotes what either YAML version would take for something else than text."""


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"^(?:{_pattern})$"), _first)


def read(text: str, struct: type[S]) -> tuple[S, dict[Where, int]]:
    """Read a mapping into `struct`; also give the line of every key. Raises YamlProblems."""
    builder = _Builder()
    root = _compose(text)
    value = struct() if root is None or _is_null(root) else builder.value(root, struct, ())
    if builder.problems:
        raise YamlProblems(builder.problems)
    return value, builder.lines


def write(struct: msgspec.Struct | Mapping[str, Any]) -> str:
    """Give the YAML that reads back as `struct`, keys in their declared order."""
    plain = msgspec.to_builtins(struct)
    return yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)


def with_top_level(text: str, key: str, value: str) -> str:
    """Give `text` with one top-level key set, and all else, comments too, as it was. Raises YamlProblems."""
    return with_value(text, (key,), value)


def with_value(text: str, where: tuple[str, ...], value: str | bool) -> str:
    """Give `text` with one key set, within mappings that need not be there, and all else, comments too, as it was.

    Raises YamlProblems.
    """
    root = _compose(text)
    if root is None or not isinstance(root, yaml.MappingNode):
        return text + ("\n" if text and not text.endswith("\n") else "") + f"{where[0]}: {_flow(where[1:], value)}\n"
    return _with_value(text, root, where, value)


def _with_value(text: str, node: yaml.MappingNode, where: tuple[str, ...], value: str | bool) -> str:
    key, rest = where[0], where[1:]
    for key_node, value_node in node.value:
        if key_node.value == key:
            if rest and isinstance(value_node, yaml.MappingNode):
                return _with_value(text, value_node, rest, value)
            start, end = value_node.start_mark.index, value_node.end_mark.index
            return text[:start] + (" " if text[start - 1] == ":" else "") + _flow(rest, value) + text[end:]
    at = node.start_mark.index
    if node.flow_style:
        return text[: at + 1] + f"{key}: {_flow(rest, value)}, " + text[at + 1 :]
    return text[:at] + f"{key}: {_flow(rest, value)}\n" + " " * node.start_mark.column + text[at:]


def _flow(where: tuple[str, ...], value: str | bool) -> str:
    """Write a value, within mappings of these names, on one line."""
    scalar = yaml.dump(value, Dumper=_Dumper, explicit_end=False).removesuffix("...\n").strip()
    for key in reversed(where):
        scalar = f"{{{key}: {scalar}}}"
    return scalar


def take_out(text: str, is_secret: Callable[[str], bool]) -> tuple[str, tuple[TakenOut, ...]]:
    """Give `text` without whatever has a secret's name, and what that was; comments are lost where there was any.

    All that is below such a name is taken out, by its own name where it has one. Raises YamlProblems.
    """
    root = _compose(text)
    taken: list[TakenOut] = []
    if root is None:
        return text, ()
    _take_out(root, (), "", is_secret, taken)
    if not taken:
        return text, ()
    clean = yaml.serialize(root, Dumper=_Dumper, allow_unicode=True, width=120)
    return clean, tuple(each for each in taken if each.value.strip())


def _take_out(
    node: yaml.Node, where: Where, name: str, is_secret: Callable[[str], bool], taken: list[TakenOut]
) -> None:
    """Take secrets out below a node; with a `name`, that is all there is."""
    if isinstance(node, yaml.ScalarNode):
        if name:
            taken.append(TakenOut(where, name, "" if _is_null(node) else str(node.value), node.start_mark.line + 1))
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _take_out(item, (*where, index), name, is_secret, taken)
    else:
        kept = []
        for key_node, value_node in node.value:
            key = str(key_node.value)
            inside = key if name or is_secret(key) else ""
            _take_out(value_node, (*where, key), inside, is_secret, taken)
            if not inside:
                kept.append((key_node, value_node))
        node.value[:] = kept


def outline(text: str) -> Any:
    """Give a text as dictionaries and lists of plain text, whatever it means. Raises YamlProblems."""

    def plain(node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {str(key.value): plain(value) for key, value in node.value}
        return [plain(item) for item in node.value] if isinstance(node, yaml.SequenceNode) else str(node.value)

    root = _compose(text)
    return None if root is None else plain(root)


def spell(where: Where) -> str:
    """Write a place as people do: strategies[0].symbols."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where).removeprefix(".")


def _compose(text: str) -> yaml.Node | None:
    try:
        node: yaml.Node | None = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = ", ".join(part for part in (error.context, error.problem) if part)
        raise YamlProblems([Problem(mark.line + 1 if mark else 1, f"this is not YAML: {hint}")]) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlProblems([Problem(line, f"the character U+{ord(text[error.position]):04X} is not allowed")]) from None
    except RecursionError:
        raise YamlProblems([Problem(1, "this is nested too deeply")]) from None
    return node


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "null"


class _Builder:
    """Walks nodes and types side by side, and goes on after a problem so that all are found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.lines: dict[Where, int] = {}

    def value(self, node: yaml.Node, expected: Any, where: Where) -> Any:
        """Give the value of a node, or None where a problem was noted."""
        self.lines.setdefault(where, node.start_mark.line + 1)
        inner = get_args(expected)[0] if get_origin(expected) is Annotated else expected
        if get_origin(inner) in (Union, types.UnionType) and types.NoneType in get_args(inner):
            if _is_null(node):
                return None
            return self.value(node, Union[tuple(one for one in get_args(inner) if one is not types.NoneType)], where)  # noqa: UP007
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return self._struct(node, inner, where)
        if get_origin(inner) is tuple:
            return self._tuple(node, get_args(inner)[0], where)
        if get_origin(inner) is dict:
            return self._dict(node, get_args(inner), where)
        return self._scalar(node, expected, where)

    def _note(self, node: yaml.Node, text: str) -> None:
        self.problems.append(Problem(node.start_mark.line + 1, text))

    def _entries(self, node: yaml.Node, where: Where) -> Iterator[tuple[str, yaml.Node, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            what = f"{spell(where)} must be a section" if where else "the file must be a mapping"
            self._note(node, f"{what} of 'key: value' lines")
            return
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._note(key_node, f"a key{_under(where)} must be a plain word")
                continue
            key, line = str(key_node.value), key_node.start_mark.line + 1
            if key in seen:
                self._note(key_node, f"{key!r}{_under(where)} stands here twice, first in line {seen[key]}")
                continue
            seen[key] = line
            if looks_secret(key):
                self._note(
                    key_node,
                    f"{key!r}{_under(where)} looks like a secret, which this file must not hold: give the account its "
                    f"keys in the window, and take this line out",
                )
                continue
            self.lines[(*where, key)] = line
            yield key, key_node, value_node

    def _struct(self, node: yaml.Node, struct: type[msgspec.Struct], where: Where) -> Any:
        fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
        values: dict[str, Any] = {}
        before = len(self.problems)
        for key, key_node, value_node in self._entries(node, where):
            field = fields.get(key)
            if field is None:
                self._note(key_node, f"unknown key {key!r}{_under(where)}{_did_you_mean(key, fields)}")
            elif not (_is_null(value_node) and not field.required):  # an empty section or key means its default
                values[field.name] = self.value(value_node, field.type, (*where, key))
        if len(self.problems) > before:
            return None
        for key, field in fields.items():
            if field.required and field.name not in values:
                self._note(node, f"{spell(where)} lacks {key!r}")
        try:
            return struct(**values) if len(self.problems) == before else None
        except ConfigError as error:  # the struct itself knows better
            self._note(node, f"{spell(where)}: {error}")
            return None

    def _tuple(self, node: yaml.Node, expected: Any, where: Where) -> tuple[Any, ...]:
        if not isinstance(node, yaml.SequenceNode):
            self._note(node, f"{spell(where)} must be a list, such as [A, B]")
            return ()
        return tuple(self.value(item, expected, (*where, index)) for index, item in enumerate(node.value))

    def _dict(self, node: yaml.Node, expected: tuple[Any, Any], where: Where) -> dict[str, Any]:
        values = {}
        for key, key_node, value_node in self._entries(node, where):
            try:
                msgspec.convert(key, expected[0])
            except msgspec.ValidationError:
                self._note(key_node, f"a key under {spell(where)} must be {describe(expected[0])}, not {key!r}")
            values[key] = self.value(value_node, expected[1], (*where, key))
        return values

    def _scalar(self, node: yaml.Node, expected: Any, where: Where) -> Any:
        if not isinstance(node, yaml.ScalarNode):
            kind = "list" if isinstance(node, yaml.SequenceNode) else "section"
            self._note(node, f"{spell(where)} must be {describe(expected)}, not a {kind}")
            return None
        try:
            return _convert(node, expected)
        except (msgspec.ValidationError, ValueError, ArithmeticError):
            shown = "empty" if _is_null(node) else f"{node.value[:60]!r}"
            choices = _choices(expected)
            self._note(
                node,
                f"{spell(where)} must be {describe(expected)}, not {shown}{_did_you_mean(str(node.value), choices)}",
            )
            return None


def looks_secret(key: str) -> bool:
    """Whether a key's name says that its value is a secret: api_key, secretKey, PASSWORD..."""
    return bool(_SECRET.search(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()))


def _convert(node: yaml.ScalarNode, expected: Any) -> Any:
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    inner = get_args(expected)[0] if get_origin(expected) is Annotated else expected
    if kind not in (*_SCALARS, "str"):
        raise ValueError(f"the tag {node.tag} is not used here")
    plain: Any = text
    if kind == "null":
        plain = None
    elif kind == "bool":
        plain = text.lower() == "true"
    elif kind in ("int", "float") and inner is not Decimal:  # a Decimal is read from its digits, exactly
        plain = int(text) if kind == "int" else float(text)
    value = msgspec.convert(plain, expected)
    if (isinstance(value, Decimal) and not value.is_finite()) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError("not a finite number")
    return value


def _choices(expected: Any) -> list[str]:
    if get_origin(expected) is Literal:
        return [str(choice) for choice in get_args(expected)]
    if isinstance(expected, type) and issubclass(expected, enum.Enum):
        return [str(choice.value) for choice in expected]
    return []


def describe(expected: Any) -> str:
    """Say in words what a value must be; Meta(description=...) wins."""
    if get_origin(expected) is Annotated:
        inner, *extras = get_args(expected)
        words = [extra.description for extra in extras if isinstance(extra, msgspec.Meta) and extra.description]
        return words[0] if words else describe(inner)
    if get_origin(expected) in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(describe(one) for one in get_args(expected)))
    if choices := _choices(expected):
        return "one of " + ", ".join(choices)
    return {bool: "true or false", int: "a whole number", float: "a number", Decimal: "a number"}.get(expected, "text")


def _under(where: Where) -> str:
    return f" under {spell(where)}" if where else ""


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    folded = {one.lower(): one for one in known}
    close = get_close_matches(word.lower(), folded, n=1)
    return f"; did you mean {folded[close[0]]!r}?" if close else ""
