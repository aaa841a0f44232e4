"""What each kind of process loads, and the import contracts: kept, and proven to fail when they are broken."""
# ruff: noqa: E501 - one breach a line

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conditions import PATIENCE

ROOT = Path(__file__).parents[2]
HEAVY = {"PySide6", "qasync", "pandas", "numpy", "pyarrow", "ccxt", "aiohttp", "zmq", "keyring", "apscheduler", "rich"}


def loaded_by(*arguments: str) -> set[str]:
    """Run the program in a process of its own and give the top-level modules that it has loaded."""
    code = (
        "import json, os, sys\n"
        "sys.stdout = open(os.devnull, 'w')\n"
        "os._exit = sys.exit\n"  # how a worker ends
        "from koc_qt.__main__ import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "sys.__stdout__.write(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    result = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=True,
    )
    return set(json.loads(result.stdout))


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["engine", "--help"], ["egnine"]])
def test_the_command_line_loads_nothing_heavy(arguments: list[str]) -> None:
    assert loaded_by(*arguments) & (HEAVY | {"asyncio", "yaml", "loguru", "msgspec"}) == set()


def test_a_worker_loads_no_framework_network_or_secrets() -> None:
    modules = loaded_by("worker", "--channel", "none", "--parent", "1")
    assert (
        modules & (HEAVY | {"asyncio", "ssl", "loguru", "yaml", "platformdirs", "psutil", "sqlite3", "argparse"})
        == set()
    )
    assert "koc_qt" in modules


# ---- contracts ------------------------------------------------------------------------------------------------------


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])"
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120 * PATIENCE,
        check=False,
    )


def test_the_contracts_are_kept() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


INTO_PORTS = "Engine services and link are handed ports, never adapters"
WINDOW = "The window knows link, SDK and domain: never how the engine works"
OTHERS = "Other people's back-test engines and the optimiser's libraries stay in processes of their own"
BREACHES = [
    ("Rooms import downwards only", "koc_qt/domain/market.py", "import koc_qt.sdk.channel"),
    ("Rooms import downwards only", "koc_qt/sdk/channel.py", "import koc_qt.ports.venue"),
    ("Rooms import downwards only", "koc_qt/paths.py", "import koc_qt.config"),
    ("Rooms import downwards only", "koc_qt/link/messages.py", "import koc_qt.engine.store"),
    ("Rooms import downwards only", "koc_qt/engine/store.py", "import koc_qt.worker"),
    ("Rooms import downwards only", "koc_qt/wiring/engine.py", "import koc_qt.cli.main"),
    (INTO_PORTS, "koc_qt/engine/store.py", "import koc_qt.adapters.clock"),
    (INTO_PORTS, "koc_qt/link/messages.py", "import koc_qt.adapters.clock"),
    (WINDOW, "koc_qt/ui/desk.py", "import koc_qt.engine.store"),
    (WINDOW, "koc_qt/ui/desk.py", "import koc_qt.adapters.clock"),
    (WINDOW, "koc_qt/ui/desk.py", "import zmq"),
    ("A worker sees the SDK and the domain alone", "koc_qt/worker/__init__.py", "import koc_qt.config"),
    ("A worker sees the SDK and the domain alone", "koc_qt/worker/__init__.py", "import asyncio"),
    ("A worker sees the SDK and the domain alone", "koc_qt/sdk/channel.py", "import zmq"),
    ("The domain decides; it does no I/O and knows no framework", "koc_qt/domain/risk.py", "import sqlite3"),
    ("The domain decides; it does no I/O and knows no framework", "koc_qt/domain/risk.py", "import time"),
    ("Reports are made of the domain, and written to files", "koc_qt/reports/page.py", "import koc_qt.config"),
    ("Venue modules never import each other", "koc_qt/adapters/venues/paper.py", "import koc_qt.adapters.venues.binance"),
    ("Qt stays in the composition roots and the worker launcher", "koc_qt/engine/store.py", "import PySide6.QtCore"),
    ("Qt stays in the composition roots and the worker launcher", "koc_qt/cli/main.py", "import qasync"),
    (OTHERS, "koc_qt/worker/loop.py", "import vectorbt"),
    (OTHERS, "koc_qt/ui/desk.py", "import optuna"),
]  # fmt: skip


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Break all contracts in a copy of the package, in every way at once; give what is said of each contract."""
    folder = tmp_path_factory.mktemp("broken")
    shutil.copytree(ROOT / "koc_qt", folder / "koc_qt", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    for _, file, line in BREACHES:
        with (folder / file).open("a", encoding="utf-8") as module:
            module.write(f"\n{line}  # a breach\n")
    result = lint_imports(folder)
    assert result.returncode == 1, result.stdout + result.stderr
    verdicts, _, reasons = result.stdout.partition("Broken contracts\n")
    sections = re.split(r"\n\n(.+)\n-{4,}\n", "\n\n" + reasons)
    said = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert [name for name in said if f"{name} BROKEN" not in verdicts] == []
    return said | {"": str(folder)}


@pytest.mark.parametrize(("contract", "file", "line"), BREACHES, ids=[f"{file}: {line}" for _, file, line in BREACHES])
@pytest.mark.xdist_group("contracts")
def test_a_breach_is_found_and_named_by_its_contract(
    contract: str, file: str, line: str, broken: dict[str, str]
) -> None:
    importer = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    lines = (Path(broken[""]) / file).read_text(encoding="utf-8").splitlines()
    imported = line.removeprefix("import ")
    imported = imported if imported.startswith("koc_qt") else imported.partition(".")[0]  # of others the package alone
    assert f" {importer} -> {imported} (l.{lines.index(f'{line}  # a breach') + 1})" in broken[contract]


def test_every_contract_is_proven() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    assert {contract["name"] for contract in contracts} == {contract for contract, _, _ in BREACHES}
    assert not any(contract.get("ignore_imports") for contract in contracts), "nothing is exempt"
