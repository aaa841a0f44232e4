"""The real processes, driven as a person would: start, ask, kill."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.conditions import wait_until

ROOT = Path(__file__).parents[2]
STRATEGIES = ROOT / "strategies"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0


class Profile:
    """A profile of its own, and the koc commands on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.environment = {**os.environ, "KOC_HOME": str(home), "PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
        self.environment["PYTHONWARNINGS"] = "error"

    def configure(self, text: str) -> None:
        """Write config/koc.yaml."""
        folder = self.home / "config"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "koc.yaml").write_text(text)

    def koc(self, *arguments: str, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "koc_qt", *arguments],
            env=self.environment,
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def ask(self, *arguments: str) -> Any:
        """Run a command with --json and give what it says; None while there is no engine to ask."""
        result = self.koc(*arguments, "--json")
        assert "Traceback" not in result.stderr, result.stderr
        return json.loads(result.stdout) if result.returncode == 0 else None

    def status(self) -> Any:
        """Give `koc status --json` of a running engine, else None."""
        return self.ask("status")

    @contextlib.contextmanager
    def engine(self, *arguments: str) -> Iterator[EngineProcess]:
        """Run an engine for the length of a block; it is killed at its end unless it has ended."""
        engine = EngineProcess(self, arguments)
        try:
            yield engine
        finally:
            engine.kill()


class EngineProcess:
    """A running `koc engine`."""

    def __init__(self, profile: Profile, arguments: tuple[str, ...]) -> None:
        self.profile = profile
        profile.home.mkdir(parents=True, exist_ok=True)
        self.output_file = profile.home / f"engine-output-{len(list(profile.home.glob('engine-output-*')))}.txt"
        with self.output_file.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "koc_qt", "engine", *arguments],
                env=profile.environment,
                cwd=profile.home.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.output_file.read_text()

    def wait_for_status(self, condition: Any = lambda status: True, what: str = "", timeout_s: float = START_TIMEOUT_S) -> Any:
        """Ask for the status until `condition` holds of it."""

        def look() -> Any:
            assert self.process.poll() is None, f"the engine ended with {self.process.returncode}:\n{self.output}"
            status = self.profile.status()
            return status if status is not None and condition(status) else None

        try:
            return wait_until(look, timeout_s=timeout_s, what=what or "the engine's status")
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast status: {self.profile.status()}\n{self.output}") from None

    def children(self) -> list[psutil.Process]:
        """Its worker processes."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def interrupt(self) -> int:
        """Press Ctrl-C and wait for the end; gives the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_TIMEOUT_S)

    def kill(self) -> None:
        """End it at once, as a crash does, and wait until its workers are gone too."""
        if self.process.poll() is not None:
            return
        children = self.children()
        self.process.kill()
        self.process.wait(STOP_TIMEOUT_S)
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive, f"workers outlived their engine: {alive}"
