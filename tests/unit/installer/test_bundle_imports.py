"""What a bundle holds: each module that is loaded by name is on the one list, and none that is needed is left out."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NamedTuple

import pytest
from building.pruning import EXCLUDED_MODULES, source_modules, standard_library

from koc_qt.cli.loaded_by_name import EXCHANGES, FOR_STRATEGIES, LIBRARIES, OURS, modules

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "koc_qt"
SELF = PACKAGE / "cli" / "loaded_by_name.py"
# Calls whose argument is no word in the same line: where the words are that they are given.
INDIRECT = {
    "ui/loading.py": "of our own modules, whatever they are: named by panel_list",
    "ui/panel_list.py": "tables in the same file",
    "wiring/venues.py": "a table in the same file",
    "adapters/sandbox/linux.py": "SandboxSettings.preimport, from tables of WorkerNeeds",
    "adapters/sandbox/windows.py": "SandboxSettings.preimport, from tables of WorkerNeeds",
    "adapters/venues/alpaca/requests_of.py": "a word in the line above",
    "cli/doctor_imports.py": "this list",
}
# What takes seconds: the build's own rehearsal imports these too.
HEAVY = ("koc_qt.worker.engines.vectorbt", "vectorbt", *(name for name in FOR_STRATEGIES if name.startswith("scipy")))


class Facts(NamedTuple):
    """What a file of ours says: its texts, what it imports, what it hands to import_module, its exchanges of ccxt."""

    words: set[str]
    imports: set[str]
    arguments: list[ast.expr]
    exchanges: set[str]


@cache
def facts() -> dict[str, Facts]:
    files = [file for file in sorted(PACKAGE.rglob("*.py")) if file != SELF]
    return {file.relative_to(PACKAGE).as_posix(): read(file.read_text(encoding="utf-8")) for file in files}


def read(source: str) -> Facts:
    found = Facts(set(), set(), [], set())
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.words.add(node.value)
        elif isinstance(node, ast.Import):
            found.imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.imports.update((node.module, *(f"{node.module}.{alias.name}" for alias in node.names)))
        elif isinstance(node, ast.Call):
            found.arguments.extend(import_arguments(node))
        elif isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "EXCHANGE_ID" and node.value:
            found.exchanges.add(ast.literal_eval(node.value))
    return found


def import_arguments(call: ast.Call) -> Iterator[ast.expr]:
    """Give what import_module and its like are called with, by themselves or in a thread."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in ("import_module", "__import__", "load_in_steps") and call.args:
        yield call.args[0]
    elif any(getattr(each, "attr", "") == "import_module" for each in call.args):
        yield call.args[-1]


@cache
def ours() -> frozenset[str]:
    return frozenset(source_modules(ROOT, "koc_qt"))


def where(name: str) -> str:
    """Find a module without importing anything; gives its file, or its folder."""
    path: list[str] | None = None
    parts = name.split(".")
    for number in range(len(parts)):
        spec = PathFinder.find_spec(".".join(parts[: number + 1]), path)
        if spec is None:
            return ""
        path = list(spec.submodule_search_locations or ())
    return spec.origin or "a folder" if spec else ""


def test_each_module_on_the_list_is_there() -> None:
    built_in = set(sys.builtin_module_names)
    assert [name for name in modules(sys.platform) if name not in built_in and not where(name)] == []


def test_what_is_imported_by_a_word_is_on_the_list() -> None:
    known = set(modules("linux")) | set(modules("win32"))
    missing, unknown = [], []
    for file, said in facts().items():
        for argument in said.arguments:
            if isinstance(argument, ast.Constant):
                missing += [f"{file}: {argument.value}"] if argument.value not in known else []
            elif isinstance(argument, ast.JoinedStr) and isinstance(argument.values[0], ast.Constant):
                start = str(argument.values[0].value)
                missing += [f"{file}: {start}*"] if not any(name.startswith(start) for name in known) else []
            elif file not in INDIRECT:
                unknown.append(f"{file}:{argument.lineno}")
    assert missing == [], "add these to koc_qt/cli/loaded_by_name.py"
    assert unknown == [], "say in INDIRECT where the names come from, and see that they are on the list"


def test_each_name_of_a_module_of_ours_in_a_table_is_on_the_list() -> None:
    spoken = {word for said in facts().values() for word in said.words if word in ours() and word != "koc_qt"}
    started = {"koc_qt.__main__"}
    assert sorted(spoken - started - set(OURS) - set(FOR_STRATEGIES)) == []


def test_each_panel_is_on_the_list() -> None:
    makers = [word.partition(":")[0] for word in facts()["ui/panel_list.py"].words if word.endswith("Panel")]
    assert len(makers) > 5
    assert sorted({f"koc_qt.ui.panels.{name}" for name in makers} - set(OURS)) == []


def test_each_exchange_of_ccxt_that_an_adapter_names_is_kept() -> None:
    """What pruning.trim_ccxt keeps is what adapters ask ccxt for."""
    named = {name for said in facts().values() for name in said.exchanges}
    assert named
    assert named <= set(EXCHANGES)
    assert {f"ccxt.pro.{name}" for name in EXCHANGES} <= set(LIBRARIES)


def test_nothing_that_is_left_out_is_imported_by_this_program() -> None:
    found = [f"{file}: {name}" for file, said in facts().items() for name in said.imports if is_left_out(name)]
    found += [name for name in modules(sys.platform) if is_left_out(name)]
    assert found == []


def is_left_out(name: str) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in EXCLUDED_MODULES)


def test_the_standard_library_is_whole_for_strategies() -> None:
    found = set(standard_library())
    wanted = {"statistics", "fractions", "csv", "zoneinfo", "collections.abc", "json.decoder", "unittest.mock", "cmath"}
    assert wanted - found == set()
    assert not any(is_left_out(name) for name in found)


@pytest.mark.timeout(300)
def test_everything_loads_with_what_is_left_out_out_of_reach() -> None:
    names = [name for name in modules(sys.platform) if name not in HEAVY]
    program = [sys.executable, "-P", str(ROOT / "installer" / "building" / "rehearsal.py"), *names]
    done = subprocess.run(program, capture_output=True, text=True, timeout=240, check=False, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
