"""Measures the window's loop from inside: turns, their causes, paints, memory. Used by window_runner."""

from __future__ import annotations

import argparse
import asyncio
import gc
import resource
import sys
import threading
import time
import traceback
import tracemalloc
from array import array
from collections import Counter
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil
from PySide6.QtCore import QObject, QTimer

from koc_qt.ui.frame_monitor import LIMIT_MS, GlibProbe
from tests.bench.window_common import percentile, say

if TYPE_CHECKING:
    from koc_qt.ui.window import MainWindow

SAMPLE_EVERY_S = 0.001
KEPT_STALLS = 2_000
FRAMES_SHOWN = 14


class Turns:
    """Every turn of the loop: how long it took, and how much of that this thread had the processor.

    Those that take longer than `kept_ms` of either are kept one by one, with what ran where that is sampled, and how
    much of it was the system's, such as pages of memory that it had to give. Not for Windows.
    """

    def __init__(self, kept_ms: float = LIMIT_MS) -> None:
        self._kept_ns = kept_ms * 1e6
        self.busy_ns, self.cpu_ns = array("q"), array("q")
        self.number = 0
        self.stalls: list[dict[str, Any]] = []
        self.collections: list[tuple[int, int, float]] = []  # turn, generation, milliseconds
        self.stacks: dict[int, list[str]] = {}
        self._last_cpu_ns = time.thread_time_ns()
        self._last_usage = resource.getrusage(resource.RUSAGE_THREAD)
        self._since_ns = time.monotonic_ns()
        self._collecting_ns = 0
        self._stopping = threading.Event()
        self._main = threading.get_ident()
        self._probe = GlibProbe(self._turned, time.perf_counter_ns)
        self._sampler = threading.Thread(target=self._sample, name="stack sampler")

    def start(self, trace: bool) -> None:
        """Begin."""
        self._last_cpu_ns, self._since_ns = time.thread_time_ns(), time.monotonic_ns()
        gc.callbacks.append(self._collected)
        self._probe.start()
        if trace:
            self._sampler.start()

    def stop(self) -> None:
        """End."""
        self._probe.stop()
        gc.callbacks.remove(self._collected)
        self._stopping.set()
        if self._sampler.ident is not None:
            self._sampler.join()

    def reset(self) -> None:
        """Forget what was measured, and the turn that is under way as far as it has come."""
        del self.busy_ns[:], self.cpu_ns[:], self.stalls[:], self.collections[:]
        self._last_cpu_ns = time.thread_time_ns()

    def _turned(self, _now_ns: int, busy_ns: int) -> None:
        cpu_ns = time.thread_time_ns()
        used_ns, self._last_cpu_ns = cpu_ns - self._last_cpu_ns, cpu_ns
        usage, before = resource.getrusage(resource.RUSAGE_THREAD), self._last_usage
        self._last_usage = usage
        self.busy_ns.append(busy_ns)
        self.cpu_ns.append(used_ns)
        if busy_ns > self._kept_ns and len(self.stalls) < KEPT_STALLS:
            self.stalls.append(
                {
                    "at_ns": time.monotonic_ns(),
                    "at_s": round((time.monotonic_ns() - self._since_ns) / 1e9, 2),
                    "ms": round(busy_ns / 1e6, 1),
                    "cpu_ms": round(used_ns / 1e6, 1),
                    "system_ms": round((usage.ru_stime - before.ru_stime) * 1e3, 1),
                    "faults": usage.ru_minflt - before.ru_minflt,
                    "gc": [[gen, round(ms, 1)] for turn, gen, ms in self.collections if turn == self.number],
                    "stacks": self.stacks.get(self.number, []),
                }
            )
        self.stacks.clear()
        self.number += 1

    def _collected(self, phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting_ns = time.perf_counter_ns()
        else:
            self.collections.append(
                (self.number, info["generation"], (time.perf_counter_ns() - self._collecting_ns) / 1e6)
            )

    def _sample(self) -> None:
        """Note where the main thread is, whenever it has been in one turn since the last look."""
        seen = -1
        while not self._stopping.wait(SAMPLE_EVERY_S):
            frame = sys._current_frames().get(self._main)
            number = self.number
            if frame is None or (
                frame.f_code.co_name == "poll" and frame.f_code.co_filename.endswith("frame_monitor.py")
            ):
                seen = -1
                continue
            if number == seen:
                text = where(frame)
                self.stacks.setdefault(number, []).append(text)
            seen = number

    def figures(self) -> dict[str, Any]:
        """Sum it up; milliseconds."""
        busy = [ns / 1e6 for ns in self.busy_ns]
        by_generation: dict[int, list[float]] = {}
        for _, generation, ms in self.collections:
            by_generation.setdefault(generation, []).append(ms)
        return {
            "turns": len(busy),
            "longest_ms": max(busy, default=0.0),
            "p99_ms": percentile(busy, 99),
            "p50_ms": percentile(busy, 50),
            "stalls": sum(ms > LIMIT_MS for ms in busy),
            "cpu_stalls": sum(ns > LIMIT_MS * 1e6 for ns in self.cpu_ns),
            "longest_cpu_ms": max(self.cpu_ns, default=0) / 1e6,
            "stall_list": sorted(self.stalls, key=lambda each: (-each["cpu_ms"], -each["ms"]))[:40],
            "gc": {gen: [len(ms), max(ms), sum(ms)] for gen, ms in sorted(by_generation.items())},
        }


def where(frame: FrameType) -> str:
    """Give the inner frames, from what the loop called on."""
    stack = traceback.extract_stack(frame)
    outer = [number for number, part in enumerate(stack) if part.name == "run_forever"]
    inner = stack[outer[-1] + 1 if outer else 0 :][-FRAMES_SHOWN:]
    return " > ".join(f"{part.filename.rpartition('/')[2]}:{part.lineno} {part.name}" for part in inner) or "Qt itself"


async def measure(window: MainWindow, options: argparse.Namespace) -> None:
    """Measure for the seconds that were asked for, and say what was found."""
    facts, frames = 0, 0
    replica, process = window.bench.desk.replica, psutil.Process()
    apply = replica.apply

    def counting(fact: Any) -> None:
        nonlocal facts
        facts += 1
        apply(fact)

    def framed(_frame: Any) -> None:
        nonlocal frames
        frames += 1

    replica.apply = counting  # type: ignore[method-assign]
    window.bench.desk.framed.connect(framed)
    samples: list[tuple[float, int, int, float]] = []
    turns = Turns()
    types = count_types() if options.types else None
    if options.tracemalloc:
        tracemalloc.start(8)
        before = tracemalloc.take_snapshot()
    sampler, began_s = QTimer(window), time.perf_counter()
    sampler.timeout.connect(
        lambda: samples.append(
            (time.perf_counter() - began_s, process.memory_info().rss, facts, window.monitor.stats().paints_per_s)
        )
    )
    sampler.start(1_000)
    exact = GlibProbe.suits()
    say("measuring", exact=exact)
    cpu, began_ns = time.process_time(), time.perf_counter_ns()
    if exact:
        turns.start(options.trace)
    window.monitor.reset()
    await asyncio.sleep(options.seconds)
    took_s = (time.perf_counter_ns() - began_ns) / 1e9
    used = time.process_time() - cpu
    stats = window.monitor.stats()
    if exact:
        turns.stop()
    sampler.stop()
    found: dict[str, Any] = {
        "seconds": took_s,
        "cpu_percent": used / took_s * 100,
        "facts": facts,
        "frames": frames,
        "paints_per_s": sum(each[3] for each in samples) / max(1, len(samples)),
        "samples": samples,
        "gaps": getattr(window.bench.desk._client, "gaps", None),
        "connections": getattr(window.bench.desk._client, "connections", None),
        "monitor": {"longest_ms": stats.longest_ms, "p99_ms": stats.p99_ms, "stalls": stats.stalls},
        "log_lines": len(window.bench.desk.logs),
        "panels": {name: dock.panel is not None for name, dock in window.workspace.docks.items()},
        "charts": [(panel.windowTitle(), panel.chart.bar_count) for panel in window.workspace.chart_panels()],  # type: ignore[attr-defined]
    }
    if exact:
        found |= turns.figures()
    if types is not None:
        found["grown"] = (count_types() - types).most_common(15)
        found["qobjects"] = len(window.findChildren(QObject))
    if options.tracemalloc:
        after = tracemalloc.take_snapshot().compare_to(before, "lineno")[:15]
        found["allocated"] = [str(each) for each in after]
        tracemalloc.stop()
    say("measured", **found)


def count_types() -> Counter[str]:
    """Count the objects that Python's collector knows, by type."""
    gc.collect()
    return Counter(type(each).__qualname__ for each in gc.get_objects())
