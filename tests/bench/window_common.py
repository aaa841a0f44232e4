"""What the benches of the window share: a display of their own, profiles, and the processes that they start and end."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from koc_qt.domain.errors import LinkError
from koc_qt.link.rendezvous import running_engine
from koc_qt.paths import profile_paths

ROOT = Path(__file__).parents[2]
SCREEN = "1920x1080x24"
START_TIMEOUT_S = 60.0
INSTRUMENTS = ("sim:BTC/USDT", "sim:ETH/USDT", "sim:SOL/USDT", "sim:XRP/USDT")


def add_display_options(parser: argparse.ArgumentParser) -> None:
    """Register where windows appear."""
    parser.add_argument("--offscreen", action="store_true", help="Qt's offscreen platform instead of an Xvfb")
    parser.add_argument("--display", type=int, default=88, help="number of the Xvfb that is started (default: 88)")


def traced_runs(about: str | None, runs: int) -> tuple[argparse.Namespace, list[str]]:
    """Read the options of a bench that watches turns; gives them, and what the watched window is told of them."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs)
    parser.add_argument("--trace", action="store_true", help="say what ran in the long turns")
    add_display_options(parser)
    args = parser.parse_args()
    return args, ["--trace"] if args.trace else []


@contextlib.contextmanager
def display(args: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Give the environment of processes whose windows appear on a screen of their own, and say which it is."""
    plain = {**os.environ, "PYTHONPATH": str(ROOT)}
    for name in ("WAYLAND_DISPLAY", "DISPLAY", "QT_QPA_PLATFORM", "KOC_HOME"):
        plain.pop(name, None)
    if args.offscreen or shutil.which("Xvfb") is None:
        print("windows: Qt's offscreen platform, 800x800")
        yield {**plain, "QT_QPA_PLATFORM": "offscreen"}
        return
    ready, told = os.pipe()
    server = subprocess.Popen(
        ["Xvfb", f":{args.display}", "-screen", "0", SCREEN, "-nolisten", "tcp", "-displayfd", str(told)],
        pass_fds=(told,),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(told)
    try:
        if not select.select([ready], [], [], START_TIMEOUT_S)[0] or not os.read(ready, 16):
            raise SystemExit(f"Xvfb does not start on :{args.display}: choose another --display, or --offscreen")
        print(f"windows: Xvfb :{args.display} {SCREEN}, no window manager")
        yield {**plain, "DISPLAY": f":{args.display}", "QT_QPA_PLATFORM": "xcb"}
    finally:
        os.close(ready)
        server.terminate()
        server.wait()


class Child:
    """A process that says on its standard output, a line of JSON each, how far it is. It is killed in the end."""

    def __init__(self, module: str, *arguments: str, environment: dict[str, str]) -> None:
        self.name = module
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `end`
        self.began_ns = time.monotonic_ns()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )

    def hear(self, *events: str, timeout_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """Wait until it says one of these. Raises SystemExit with what it wrote where it ends, or does not in time."""
        assert self.process.stdout is not None
        late = threading.Timer(timeout_s, self.process.kill)
        late.start()
        try:
            for line in self.process.stdout:
                with contextlib.suppress(ValueError):
                    said: dict[str, Any] = json.loads(line)
                    if said["event"] in events:
                        return said
        finally:
            late.cancel()
        self.process.wait()
        raise SystemExit(f"{self.name} ended or was late before {events}: {self.complaints()[-3000:]}")

    def complaints(self) -> str:
        """Give what it wrote to its standard error."""
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def end(self) -> None:
        """Have it end, or kill it."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def say(event: str, **facts: Any) -> None:
    """Tell the parent how far this process is."""
    os.write(1, json.dumps({"event": event, "at_ns": time.monotonic_ns(), **facts}).encode() + b"\n")


@contextlib.contextmanager
def profile() -> Iterator[Path]:
    """Give an empty profile; an engine that a window started there is stopped in the end."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            yield Path(folder)
        finally:
            stop_engine(Path(folder))


def stop_engine(home: Path) -> None:
    """Stop the engine of a profile of ours, where one runs."""
    run_folder = profile_paths(home).run
    with contextlib.suppress(LinkError, psutil.NoSuchProcess):
        engine = psutil.Process(running_engine(run_folder).pid)
        engine.terminate()
        try:
            engine.wait(15)
        except psutil.TimeoutExpired:
            engine.kill()


def wait_for_engine(home: Path) -> psutil.Process:
    """Give the engine's process once it has announced itself."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            return psutil.Process(running_engine(profile_paths(home).run).pid)
        except LinkError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def cpu_s(process: psutil.Process) -> float:
    """Give the processor seconds that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def percentile(values: Sequence[float], percent: float) -> float:
    """Give the nearest rank; 0 where there are no values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def load() -> str:
    """Say how busy the machine is with other things."""
    return f"machine: {os.cpu_count()} cores, load {os.getloadavg()[0]:.2f}"
