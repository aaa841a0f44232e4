from __future__ import annotations

import sys
from collections.abc import Iterator
from textwrap import dedent

import pytest

from koc_qt.sdk import Strategy
from koc_qt.worker.loader import MAX_SOURCE, MODULE, LoadError, load_strategy

GOOD = """
from koc_qt.sdk import Bar, Strategy

class Mine(Strategy):
    def on_bar(self, bar: Bar) -> None:
        pass
"""


@pytest.fixture(autouse=True)
def _forget_the_module() -> Iterator[None]:
    yield
    sys.modules.pop(MODULE, None)


def load(source: str | bytes) -> type[Strategy]:
    return load_strategy(source if isinstance(source, bytes) else dedent(source).encode(), "mine.py")


def refusal(source: str | bytes) -> LoadError:
    with pytest.raises(LoadError) as caught:
        load(source)
    return caught.value


def test_the_one_strategy_of_a_file_is_found() -> None:
    strategy = load(GOOD)
    assert strategy.__name__ == "Mine"
    assert issubclass(strategy, Strategy)
    assert strategy.__module__ == MODULE


def test_a_base_class_with_an_underscore_an_alias_and_imported_strategies_do_not_count() -> None:
    source = """
    from koc_qt.sdk import Strategy

    class _Base(Strategy):
        def on_bar(self, bar): ...

    class Mine(_Base):
        pass

    Alias = Mine
    """
    assert load(source).__name__ == "Mine"


def test_dataclasses_find_their_module() -> None:
    source = """
    from __future__ import annotations
    from dataclasses import dataclass
    from koc_qt.sdk import Strategy

    @dataclass
    class Signal:
        strength: float = 0.0

    class Mine(Strategy):
        def on_bar(self, bar): Signal(1.0)
    """
    assert load(source).__name__ == "Mine"


@pytest.mark.parametrize(
    "source",
    [
        "# -*- coding: latin-1 -*-\n# caf\xe9\n".encode("latin-1") + GOOD.encode(),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\r\n").encode(),
        ("# €\n" + GOOD).encode(),
    ],
    ids=["coding cookie", "byte order mark", "CRLF", "UTF-8"],
)
def test_every_way_to_write_python_is_read(source: bytes) -> None:
    assert load(source).__name__ == "Mine"


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        (b"", "mine.py is empty", None),
        (b" \n\t\n", "mine.py is empty", None),
        (b"\x7fELF\0\0\1", "mine.py is not a text file", None),
        (GOOD.encode("utf-16"), "mine.py is not a text file (or is UTF-16): save it as UTF-8", None),
        (b"\n\n\nx = '\xe9'\n", "mine.py, line 4 is not utf-8 text: save it as UTF-8", 4),
        (b"x = '\xe9'\n", "mine.py, line 1: invalid or missing encoding declaration", 1),
        (b"# coding: klingon\n", "mine.py, line 1: unknown encoding: klingon", 1),
        (b"\n# coding: klingon\n", "mine.py, line 2: unknown encoding: klingon", 2),
        (b"#" * (MAX_SOURCE + 1), "mine.py has 524,289 bytes: a strategy file has at most 524,288", None),
    ],
)
def test_what_is_no_text_is_refused(source: bytes, reason: str, line: int | None) -> None:
    refused = refusal(source)
    assert refused.reason.startswith(reason)
    assert refused.line == line


@pytest.mark.parametrize(
    ("source", "reason", "line"),
    [
        ("x = 1\ndef f(:\n", "syntax error in mine.py, line 2: invalid syntax", 2),
        ("x = 1\n  y = 2\n", "syntax error in mine.py, line 2: unexpected indent", 2),
        ("x = 1\n\n1 / 0\n", "ZeroDivisionError: division by zero (line 3)", 3),
        ("def f():\n    raise ValueError('no')\n\nf()\n", "ValueError: no (line 2)", 2),
        ("import no_such_module_anywhere\n", "ModuleNotFoundError: No module named 'no_such_module_anywhere'", 1),
        ("import sys\nsys.exit('bye')\n", "the strategy called sys.exit(bye) (line 2)", 2),
        ("raise KeyboardInterrupt\n", "the strategy raised KeyboardInterrupt (line 1)", 1),
        ("f = lambda: f()\nf()\n", "the strategy calls itself without end: maximum recursion depth", 1),
        ("x = 1\n", "mine.py defines no strategy: write a class that derives from koc_qt.sdk.Strategy", None),
        ("from koc_qt.sdk import Strategy\n", "mine.py defines no strategy", None),
        ("from koc_qt.sdk import Strategy\nclass _Mine(Strategy): ...\n", "mine.py defines no strategy", None),
        (
            GOOD + "\n\nclass Second(Mine): ...\n",
            "mine.py defines 2 strategies, Mine (line 4) and Second (line 9): keep one",
            9,
        ),
        (
            "from koc_qt.sdk import Strategy\nclass Mine(Strategy):\n    async def on_bar(self, bar): ...\n",
            "Mine.on_bar is async and would never be run",
            2,
        ),
        (
            "from koc_qt.sdk import Strategy, param\nclass Mine(Strategy):\n    fast = param(1, low=2)\n",
            "parameter must be at least 2, not 1 (line 3)",
            3,
        ),
        (GOOD.replace("def", "subscriptions = 5\n    def"), "the declarations of Mine cannot be read: TypeError", 4),
        (GOOD.replace("def", "name = '\\ud800'\n    def"), "the declarations of Mine cannot be read: Unicode", 4),
        (
            GOOD.replace("def", "name = 'x' * 2_000_000\n    def"),
            "the declarations of Mine cannot be read: ValueErr",
            4,
        ),
        ("x = '\\ud800'\nraise ValueError(x)\n", "ValueError: ? (line 2)", 2),
        (
            "Made = type('Mine', (__import__('koc_qt.sdk').sdk.Strategy,), {})",
            "Mine would never do anything",
            None,
        ),
    ],
)
def test_what_is_no_strategy_is_refused_with_the_line(source: str, reason: str, line: int | None) -> None:
    refused = refusal(source)
    assert refused.reason.startswith(reason)
    assert refused.line == line
    assert refused.reason == str(refused)


def test_a_program_that_nests_beyond_sense_is_refused() -> None:
    assert refusal("x = " + "-" * 200_000 + "1").reason
    assert refusal("x = " + "(" * 5_000 + ")" * 5_000).line == 1
