"""Turns the bytes of a strategy file into its one Strategy class. Nothing is read from a path."""

from __future__ import annotations

import io
import sys
import tokenize
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

from koc_qt.domain.errors import StrategyError
from koc_qt.sdk.channel import frame
from koc_qt.sdk.strategy import Strategy, describe
from koc_qt.worker.failure import explain, source_lines

MODULE = "koc_strategy"  # the name that the file is imported under
MAX_SOURCE = 512 * 1024  # bytes; what a person writes is a hundredth of it
_OPEN_ROOMS = ("koc_qt.sdk", "koc_qt.domain")


class LoadError(StrategyError):
    """The file is no strategy; `line` counts from 1, None where there is none."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line


class StrategyImports:
    """A finder that says no to rooms of this program that are none of a strategy's business."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Raise ImportError for them, and leave everything else to the finders that follow."""
        if name.startswith("koc_qt.") and not name.startswith(_OPEN_ROOMS):
            raise ImportError(f"a strategy imports koc_qt.sdk and installed packages; {name} is not for it", name=name)
        return None


def decode_source(source: bytes, filename: str) -> str:
    """Give the text of a source file, honouring its coding cookie (PEP 263). Raises LoadError when it is no text."""
    if len(source) > MAX_SOURCE:
        raise LoadError(f"{filename} has {len(source):,} bytes: a strategy file has at most {MAX_SOURCE:,}")
    if not source.strip():
        raise LoadError(f"{filename} is empty")
    if b"\0" in source:
        raise LoadError(f"{filename} is not a text file (or is UTF-16): save it as UTF-8")
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding)
    except UnicodeDecodeError as error:
        line = source.count(b"\n", 0, error.start) + 1
        raise LoadError(f"{filename}, line {line} is not {error.encoding} text: save it as UTF-8", line) from None
    except SyntaxError as error:
        line = _line_to_blame(source)
        raise LoadError(f"{filename}, line {line}: {error.msg}: save it as UTF-8", line) from None


def _line_to_blame(source: bytes) -> int:
    try:
        source.decode()
    except UnicodeDecodeError as error:
        return source.count(b"\n", 0, error.start) + 1
    return 1 if b"coding" in source.split(b"\n", 1)[0] else 2  # an encoding that nobody knows, named by the cookie


def load_strategy(source: bytes, filename: str) -> type[Strategy]:
    """Run the file and give the one Strategy class that it defines, checked. Raises LoadError, with the line."""
    text = decode_source(source, filename)
    module = ModuleType(MODULE)
    module.__file__ = filename
    sys.modules[MODULE] = module  # dataclasses and pickle look classes up by their module
    try:
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102 (what a worker is for)
    except BaseException as error:  # SystemExit and KeyboardInterrupt as well: the file is no strategy
        failure = explain(error, filename, text)
        where = "" if failure.line is None or isinstance(error, SyntaxError) else f" (line {failure.line})"
        raise LoadError(f"{failure.reason}{where}", failure.line) from error
    strategy = _the_one_strategy(module, text, filename)
    try:
        frame(describe(strategy))
    except StrategyError as error:
        raise LoadError(str(error), _line_of_class(strategy.__name__, text)) from error
    except Exception as error:  # what is declared is of types that nobody expects, or does not fit a message
        reason = f"the declarations of {strategy.__name__} cannot be read: {explain(error, filename, text).reason}"
        raise LoadError(reason, _line_of_class(strategy.__name__, text)) from error
    return strategy


def _the_one_strategy(module: ModuleType, text: str, filename: str) -> type[Strategy]:
    classes = {
        value.__name__: value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Strategy) and value.__module__ == MODULE
    }
    found = [cls for name, cls in classes.items() if not name.startswith("_")]
    if not found:
        raise LoadError(f"{filename} defines no strategy: write a class that derives from koc_qt.sdk.Strategy")
    if len(found) > 1:
        lines = [_line_of_class(cls.__name__, text) for cls in found]
        names = " and ".join(
            cls.__name__ if line is None else f"{cls.__name__} (line {line})"
            for cls, line in zip(found, lines, strict=True)
        )
        raise LoadError(
            f"{filename} defines {len(found)} strategies, {names}: keep one; "
            "the name of a class that others only derive from starts with an underscore",
            lines[1],
        )
    return found[0]


def _line_of_class(name: str, text: str) -> int | None:
    for number, line in enumerate(source_lines(text), start=1):
        words = line.replace("(", " ").replace(":", " ").split()
        if words[:2] == ["class", name]:
            return number
    return None
