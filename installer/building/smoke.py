"""What every target's proof does with the installed program: start it, trade with it, look at it, stop it in order.

Each thing that must hold has a name, can fail, and is noted in build/TARGET/proof.json for the report.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from building.screens import FEWEST_COLOURS
from building.stages import Build, read_json, write_whole
from building.trouble import BuildError

CONFIG = """\
simulator: {{seed: 1, speed: 20.0}}
strategies:
  - path: "{strategy}"
    id: proof
    symbols: [BTC/USDT]
    timeframe: 1s
    autostart: true
"""
BACKTEST = ["--symbol", "sim:BTC/USDT", "--from", "2024-01-01", "--to", "2024-01-15", "--timeframe", "1h"]
Found = TypeVar("Found")
ENGINES = {"replay", "vectorbt", "backtrader"}
START_S, FILLS_S, BACKTEST_S, STOP_S, GONE_S = 90.0, 180.0, 600.0, 90.0, 20.0


class Running(Protocol):
    """A program that was started and runs meanwhile; what subprocess.Popen gives fulfils it."""

    def poll(self) -> int | None:
        """Give its exit code, None while it runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; gives its exit code."""


class Place(Protocol):
    """Where the program is installed, and how it is used there by an ordinary user.

    `samples` is the folder of the sample strategies, as the program sees it.
    """

    build: Build
    samples: str

    def koc(self, *words: str, timeout_s: float = 60.0, allowed: Sequence[int] = (0,)) -> str:
        """Run the installed program to its end; gives what it wrote. Raises BuildError, Cancelled."""

    def window(self) -> contextlib.AbstractContextManager[Running]:
        """Have the program's window open meanwhile."""

    def close_window(self) -> None:
        """Ask the window to close, as a session that ends does."""

    def configure(self, text: str) -> None:
        """Write koc.yaml of a fresh profile."""

    def running(self) -> list[str]:
        """Give the command lines of what runs of the program."""

    def picture(self, name: str, timeout_s: float) -> int:
        """Take a picture of the screen once something is drawn; gives its number of colours."""


@dataclass
class Proof:
    """The things that must hold for a target, noted as they come."""

    build: Build
    conditions: list[dict[str, Any]] = field(default_factory=list)

    @property
    def file(self) -> Path:
        """Where they are noted."""
        return self.build.work / "proof.json"

    def begin(self) -> None:
        """Forget what an earlier proof has noted."""
        self.file.unlink(missing_ok=True)

    @contextlib.contextmanager
    def holds(self, name: str) -> Iterator[Callable[[str], None]]:
        """Note whether what is done here holds; gives what notes a figure. Raises BuildError naming it where not."""
        started, said = time.monotonic(), [""]

        def note(text: str) -> None:
            said[0] = text

        try:
            yield note
        except BuildError as error:
            self._keep(name, False, error.text, started)
            raise BuildError(f"the proof fails: {name}: {error.text}", error.advice) from error
        self._keep(name, True, said[0], started)

    def _keep(self, name: str, ok: bool, text: str, started: float) -> None:
        facts = {"name": name, "ok": ok, "text": text, "seconds": round(time.monotonic() - started, 1)}
        self.build.say(f"{'holds' if ok else 'FAILS'}: {name}" + (f" ({text})" if text else ""))
        kept = read_json(self.file).get("conditions", [])
        write_whole(self.file, json.dumps({"conditions": [*kept, facts]}, indent=1))


def need(condition: object, text: str) -> None:
    """Go on where something holds. Raises BuildError."""
    if not condition:
        raise BuildError(text, "The log and the pictures in build/TARGET show what happened.")


def until(build: Build, look: Callable[[], Found], timeout_s: float, what: str) -> Found:
    """Wait until a look gives something true, and give that. Raises BuildError, Cancelled."""
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        build.check()
        need(time.monotonic() < deadline, f"{what}: not within {timeout_s:.0f} s")
        time.sleep(0.3)
    return found


def smoke(place: Place, proof: Proof, badge: str = "isolated") -> None:
    """Prove a program with a window, and its command line; `badge` is what its workers have on this system.

    Raises BuildError naming what does not hold.
    """
    check_program(place, proof)
    place.configure(CONFIG.format(strategy=f"{place.samples}/sma_cross.py"))
    with place.window() as window:
        _trade(place, proof, window, badge)
        _look(place, proof)
        with proof.holds("the window closes when asked, and the engine goes on"):
            place.close_window()
            until(place.build, lambda: window.poll() is not None, STOP_S, "the window did not close")
            need(window.poll() == 0, f"the window ended with code {window.poll()}")
            status(place)
    stop(place, proof)
    backtests(place, proof)


def check_program(place: Place, proof: Proof) -> None:
    """Prove that the program is whole: it says its version, every module loads, and doctor finds nothing wrong."""
    with proof.holds("the program says its version") as note:
        said = place.koc("--version").strip()
        need(said == f"koc {place.build.version}", f"it says {said!r}")
        note(said)
    with proof.holds("every module that is loaded by name is there"):
        place.koc("doctor", "--imports", timeout_s=300)
    with proof.holds("koc doctor finds nothing wrong with it") as note:
        checks = parsed(place.koc("doctor", "--json", timeout_s=120, allowed=(0, 1)))["checks"]
        failed = [f"{check['name']}: {check['text']}" for check in checks if check["status"] == "fail"]
        need(not failed, "; ".join(failed))
        note(f"{len(checks)} checks")


def _trade(place: Place, proof: Proof, window: Running, badge: str) -> None:
    def alive() -> bool:
        need(window.poll() is None, f"the window ended with code {window.poll()}")
        return True

    with proof.holds("the window starts its engine"):
        until(place.build, lambda: alive() and engine_answers(place), START_S, "no engine answered")
    with proof.holds("a strategy trades on the simulator") as note:
        found = until(place.build, lambda: alive() and fills(place), FILLS_S, "no fill")
        note(f"fills: {len(found or [])}")
    with proof.holds("its worker is locked up as far as this system can, and its badge says how far") as note:
        said = status(place)["strategies"][0].get("badge")
        note(str(said))
        need(str(said).startswith(badge), f"the badge says {said!r}, and should say {badge!r}")


def _look(place: Place, proof: Proof) -> None:
    with proof.holds("the window is painted") as note:
        found = place.picture("window.png", START_S)
        note(f"{found} colours")
        need(found >= FEWEST_COLOURS, f"the picture has {found} colours, a painted window at least {FEWEST_COLOURS}")


def status(place: Place) -> dict[str, Any]:
    """Ask the engine what it does. Raises BuildError where none runs."""
    found: dict[str, Any] = parsed(place.koc("status", "--json"))
    return found


def engine_answers(place: Place) -> dict[str, Any] | None:
    """Give what an engine says of itself, None where none can be asked. Raises Cancelled."""
    with contextlib.suppress(BuildError):
        found = parsed(place.koc("status", "--json", allowed=(0, 1, 3)))
        if found["engine"].get("pid"):
            return dict(found["engine"])
    return None


def fills(place: Place) -> list[Any]:
    """List what was traded. Raises BuildError."""
    found = parsed(place.koc("fills", "--json"))
    return list(found)


def stop(place: Place, proof: Proof) -> None:
    """Prove that the engine stops in order, and that nothing of the program runs on."""
    with proof.holds("the engine stops in order"):
        place.koc("stop", timeout_s=STOP_S)
        need(place.koc("status", allowed=(3,)) is not None, "an engine still answers")
    with proof.holds("nothing of it runs on"):
        with contextlib.suppress(BuildError):
            until(place.build, lambda: not place.running(), GONE_S, "something runs on")
        left = place.running()
        need(not left, f"still there: {'; '.join(left)}")


def backtests(place: Place, proof: Proof) -> None:
    """Prove that a back-test runs on every engine, and that all make the same trades."""
    with proof.holds("a back-test runs on all engines, which make the same trades") as note:
        words = ["backtest", f"{place.samples}/sma_signals.py", *BACKTEST, "--engine", "all", "--no-keep"]
        said = place.koc(*words, timeout_s=BACKTEST_S).splitlines()
        verdict = next((line for line in said if line.startswith("Parity")), "nothing was compared")
        missing = sorted(engine for engine in ENGINES if engine not in verdict)
        need(verdict.startswith("Parity green") and not missing, verdict)
        note(verdict.removeprefix("Parity green: "))


def parsed(said: str) -> Any:
    """Read the JSON in what a command wrote, warnings before it left out. Raises BuildError."""
    starts = [index for index in (said.find("{"), said.find("[")) if index >= 0]
    try:
        return json.JSONDecoder().raw_decode(said[min(starts) :])[0] if starts else json.loads(said)
    except ValueError as error:
        raise BuildError(f"this is no JSON: {said.strip()[:300] or 'nothing was said'}") from error
