"""Every check of the project, some at a time: `python3 installer/bootstrap.py test` runs them."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
Results = list[tuple[str, int, float]]  # names, exit codes, and how long they took in seconds

# every line and branch, by these tests alone
PERFECT = (
    "koc_qt/domain",
    "koc_qt/sdk",
    "koc_qt.engine.orders",
    "koc_qt.engine.order_intents",
    "koc_qt.engine.order_requests",
    "koc_qt.engine.risk_gate",
)
PERFECTING = tuple(f"tests/unit/{each}" for each in ("domain", "engine", "matching", "sdk"))  # measured, which slows
PROPERTIES = tuple(f"tests/unit/{each}/test_properties.py" for each in ("domain", "matching"))  # on many examples
PROCESSES = ("tests/e2e", "tests/security")
APART = ("tests/wire", "tests/contract", "tests/gui")
WAITING = 2  # so many more checks than there are cores run at once: most of what tests do is to wait
PATIENCE = (
    "3"  # how much longer than on a machine of its own a test waits for what must come; no test waits for nothing
)
STEP_S = 0.1
PULSE_S = 60.0  # after which whoever waits is told what still runs


class Check(NamedTuple):
    """A command, and how far it stands back (0 to 19) for the others."""

    name: str
    command: list[str]
    nice: int = 0


def checks(python: str, cores: int, qt: bool) -> list[Check]:
    """Give every check, the quickest first, then those that take longest.

    A module of tests is loaded by one process alone. Tests of real processes wait most of their time, so that as many
    run at once as there are cores; what needs nothing but the processor takes what the others leave.
    """
    pytest = [python, "-m", "pytest", "-q", "--durations", "8", *([] if qt else ["-p", "no:pytest-qt"])]
    coverage = [f"--cov={each}" for each in PERFECT]
    coverage += ["--cov-branch", "--cov-report=term-missing:skip-covered", "--cov-fail-under=100"]

    def ignored(paths: tuple[str, ...]) -> list[str]:
        return [f"--ignore={each}" for each in paths]

    return [
        Check("ruff check", [python, "-m", "ruff", "check", "."]),
        Check("ruff format", [python, "-m", "ruff", "format", "--check", "."]),
        Check("tests of processes", [*pytest, *PROCESSES, "-n", str(cores), "--dist", "loadgroup"]),
        Check("tests of the perfect files", [*pytest, *PERFECTING, *ignored(PROPERTIES), *coverage], 5),
        Check("all other tests", [*pytest, "tests", *ignored((*PROCESSES, *APART, *PERFECTING))], 5),
        *(Check(f"tests in {each}", [*pytest, each]) for each in APART),
        Check("tests of properties", [*pytest, *PROPERTIES], 5),
        Check("mypy", [python, "-m", "mypy"], 15),
        Check("import contracts", [python, "-c", "from importlinter.cli import lint_imports_command as main; main()"]),
    ]


class Running:
    """A check in a process of its own; what it says is printed when it has ended."""

    def __init__(self, check: Check, environment: dict[str, str], output: Path) -> None:
        self.name, self._output = check.name, output
        self._began_s = time.monotonic()
        polite = ["nice", "-n", str(check.nice)] if os.name == "posix" else []
        with output.open("wb") as file:
            self._process = subprocess.Popen(
                [*polite, *check.command],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def result(self) -> tuple[str, int, float] | None:
        """Give its name, exit code and seconds, once it has ended."""
        code = self._process.poll()
        if code is None:
            return None
        taken_s = time.monotonic() - self._began_s
        said = self._output.read_text(encoding="utf-8", errors="replace").rstrip()
        print(f"---- {self.name}", said, sep="\n", flush=True)
        return self.name, code, taken_s

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait()


def run_checks(planned: list[Check], at_once: int, environment: dict[str, str]) -> Results:
    """Run checks, `at_once` of them at a time; their results come in the order in which they end."""
    waiting, running, results = list(planned), list[Running](), Results()
    began_s = told_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        try:
            while waiting or running:
                while waiting and len(running) < at_once:
                    output = Path(folder) / str(len(waiting))
                    running.append(Running(waiting.pop(0), environment, output))
                time.sleep(STEP_S)
                if time.monotonic() - told_s > PULSE_S:
                    told_s = time.monotonic()
                    names = ", ".join(each.name for each in running)
                    print(f"after {told_s - began_s:.0f} s there run: {names}; {len(waiting)} wait", flush=True)
                for check in list(running):
                    if (result := check.result()) is not None:
                        running.remove(check)
                        results.append(result)
        finally:
            for check in running:
                check.stop()
    return results


def summary(results: Results, installed_s: float, total_s: float) -> list[str]:
    """Say how every check ended and how long it took, and how long everything did."""
    failed = [name for name, code, _ in results if code]
    lines = [f"{'FAILED' if code else 'passed':>6}  {name} ({taken_s:.0f} s)" for name, code, taken_s in results]
    verdict = f"{len(failed)} of {len(results)} checks failed" if failed else f"all {len(results)} checks passed"
    return [*lines, f"{verdict} ({total_s:.0f} s, {installed_s:.0f} s of them for the installation)"]
