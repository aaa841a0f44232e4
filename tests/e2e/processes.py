"""The real processes, driven as a person would: start, ask, interrupt, kill."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from koc_qt.adapters.sqlite_journal import read_journal
from koc_qt.cli.remote_view import status_object
from koc_qt.domain.errors import LinkError
from koc_qt.link.client import LinkClient, connect, local_engine
from koc_qt.link.keys import load_pair
from koc_qt.link.messages import Fact
from koc_qt.link.rendezvous import process_runs
from koc_qt.paths import profile_paths
from koc_qt.ports.journal import JournalState
from tests.conditions import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "strategies"
STRATEGIES = Path(__file__).parent / "strategies"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 40.0
COMMAND_TIMEOUT_S = 60.0

Status = dict[str, Any]
Condition = Callable[[Status], object]


def environment(**more: str) -> dict[str, str]:
    """Give a child's environment: ours, with this tree importable and warnings being errors."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "NO_COLOR": "1", **more}


class Profile:
    """A profile of its own, and the koc commands on it. What its engines print is kept in `output_folder`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.paths = profile_paths(home)
        self.environment = environment(KOC_HOME=str(home))
        self.output_folder = home.parent
        self._engines = 0

    def configure(self, settings: Mapping[str, Any] | str) -> None:
        """Write config/koc.yaml; a text is written as it is."""
        self.paths.config.mkdir(parents=True, exist_ok=True)
        text = settings if isinstance(settings, str) else yaml.safe_dump(dict(settings), allow_unicode=True)
        self.paths.config_file.write_text(text, encoding="utf-8")

    def koc(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; no command may show a person a traceback."""
        result = subprocess.run(
            [sys.executable, "-m", "koc_qt", *arguments],
            env=self.environment,
            cwd=self.home.parent,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_TIMEOUT_S * PATIENCE,
            check=False,
        )
        assert "Traceback" not in result.stdout + result.stderr, result.stdout + result.stderr
        return result

    def ask(self, command: str) -> Any:
        """Run `koc COMMAND --json`, which must succeed without a word on stderr, and give what it says."""
        result = self.koc(command, "--json")
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        return json.loads(result.stdout)

    def look(self) -> Status | None:
        """Give what `koc status --json` says, without a process for it; None while no engine answers."""
        try:
            with connect(self.paths.run, self.paths.keys, name="test") as client:
                return status_object(client.snapshot)
        except LinkError:
            return None

    def journal(self) -> JournalState:
        """Read orders and fills as they are on the disk now."""
        return read_journal(self.paths.journal)

    @contextlib.contextmanager
    def listening(self) -> Iterator[list[Fact]]:
        """Give a list that everything goes into which the engine tells a window, from now on; waits for an engine."""
        wait_until(lambda: (self.paths.run / "engine.json").exists(), timeout_s=START_TIMEOUT_S, what="an engine")
        facts: list[Fact] = []
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="listener")
        client = LinkClient(local_engine(self.paths.run), load_pair(self.paths.keys), on_fact=facts.append)

        def do(work: Coroutine[Any, Any, Any]) -> None:
            asyncio.run_coroutine_threadsafe(work, loop).result(START_TIMEOUT_S * PATIENCE)

        thread.start()
        try:
            do(client.connect())
            yield facts
        finally:
            do(client.close())
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    @contextlib.contextmanager
    def engine(self, *arguments: str, nohup: bool = False) -> Iterator[EngineProcess]:
        """Run an engine for the length of a block; it is killed at its end unless it has ended."""
        self._engines += 1
        output = self.output_folder / f"engine {self._engines}.txt"
        engine = EngineProcess(self, arguments, output, nohup=nohup)
        try:
            yield engine
        finally:
            engine.kill()


class EngineProcess:
    """A running `koc engine`, in a session of its own as in a terminal of its own."""

    def __init__(self, profile: Profile, arguments: tuple[str, ...], output_file: Path, *, nohup: bool) -> None:
        self.profile = profile
        self.output_file = output_file
        output_file.parent.mkdir(parents=True, exist_ok=True)
        with output_file.open("w") as output:
            self.process = subprocess.Popen(
                [*(["nohup"] if nohup else []), sys.executable, "-m", "koc_qt", "engine", "--no-live", *arguments],
                env=profile.environment,
                cwd=output_file.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """What it printed so far."""
        return self.output_file.read_text(encoding="utf-8", errors="replace")

    def wait_for_status(self, condition: Condition, what: str, timeout_s: float = START_TIMEOUT_S) -> Status:
        """Ask for the status until `condition` holds of it; the engine must not end meanwhile."""
        last: Status | None = None

        def look() -> Status | None:
            nonlocal last
            assert self.process.poll() is None, f"the engine ended with {self.process.returncode}:\n{self.output}"
            status = self.profile.look()
            last = status or last
            return status if status is not None and condition(status) else None

        try:
            found = wait_until(look, timeout_s=timeout_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}\nlast status: {json.dumps(last, indent=1)}\n{self.output}") from None
        assert found is not None
        return found

    def wait_for_output(self, text: str, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until it has printed `text`."""

        def look() -> bool:
            if text in self.output:
                return True
            assert self.process.poll() is None, f"the engine ended with {self.process.returncode}:\n{self.output}"
            return False

        try:
            wait_until(look, timeout_s=timeout_s, what=f"{text!r} in the engine's output")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def children(self) -> list[psutil.Process]:
        """Its worker processes, the warm one among them."""
        return psutil.Process(self.pid).children(recursive=True)

    def stop(self, how: signal.Signals = signal.SIGINT) -> int:
        """Send it a signal, SIGINT as Ctrl-C does, and wait for its end; gives the exit code.

        Neither a worker nor a traceback may be left of it.
        """
        children = self.children()
        self.process.send_signal(how)
        code = self.wait()
        self.check_gone(children)
        return code

    def wait(self) -> int:
        """Wait for its end; gives the exit code."""
        try:
            return self.process.wait(STOP_TIMEOUT_S * PATIENCE)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{error}\n{self.output}") from None

    def check_gone(self, children: list[psutil.Process]) -> None:
        """Hold that a stop in order has left nothing behind: no worker, no engine.json, no lock, no traceback."""
        wait_ended(children, f"the engine's end; it said:\n{self.output}")
        assert not (self.profile.paths.run / "engine.json").exists()
        assert not (self.profile.paths.run / "engine.pid").exists()
        assert "Traceback" not in self.output, self.output

    def kill(self) -> None:
        """End it at once, as a crash does, and wait until its workers are gone too."""
        if self.process.poll() is not None:
            return
        children = self.children()
        self.process.kill()
        self.wait()
        wait_ended(children, "a crash of the engine")


def wait_ended(processes: Iterable[psutil.Process], what: str) -> None:
    """Wait until none of some processes, workers of an engine, runs any more.

    Whoever inherits them may let them lie for seconds before he waits for them; they run no more all the same.
    """

    def left() -> list[psutil.Process]:
        return [process for process in processes if process_runs(process.pid)]

    wait_until(lambda: not left(), what=f"workers to end after {what}")


def strategy(status: Status, strategy_id: str) -> dict[str, Any]:
    """Give one strategy of a status; an empty one while it is not there."""
    found: list[dict[str, Any]] = [each for each in status["strategies"] if each["id"] == strategy_id]
    return found[0] if found else {"state": "", "reason": "", "trades": 0, "ticks": 0, "restarts": 0, "pid": None}


def runs(strategy_id: str) -> Condition:
    """Make the condition that a strategy runs."""
    return lambda status: strategy(status, strategy_id)["state"] == "running"


def trades(strategy_id: str, more_than: int = 0) -> Condition:
    """Make the condition that a strategy has traded more than so often."""
    return lambda status: strategy(status, strategy_id)["trades"] > more_than
