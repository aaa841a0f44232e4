"""What a person sees of an engine that runs in their terminal: a live display, or a line for all that matters."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.live import Live

from koc_qt.cli.live import fill_line, render, summary_line
from koc_qt.link.messages import FillRecorded

if TYPE_CHECKING:
    from koc_qt.wiring.engine import Engine

REFRESH_S = 0.5
SUMMARY_EVERY_S = 5.0
SHOWN_FILLS = 12


class Terminal:
    """Observes an engine."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._console = Console(file=sys.stdout)
        self._engine: Engine | None = None

    async def observe(self, engine: Engine) -> None:
        """Show the engine until cancelled."""
        self._engine = engine
        if self._live:
            await self._show_live(engine)
        else:
            await self._print_lines(engine)

    def close(self, reason: str) -> None:
        """Say how it ended, and what it came to."""
        self._say(f"Stopped: {reason}.")
        if self._engine is not None:
            self._say(summary_line(self._engine.commands.snapshot()))

    async def _show_live(self, engine: Engine) -> None:
        with Live(console=self._console, auto_refresh=False, screen=True) as live:
            while True:
                snapshot = engine.commands.snapshot()
                view = render(snapshot, self._console.width, self._console.height, engine.store.quotes.values())
                live.update(view, refresh=True)
                await asyncio.sleep(REFRESH_S)

    async def _print_lines(self, engine: Engine) -> None:
        end = engine.bus.subscribe(FillRecorded, lambda fact: self._say(fill_line(fact.fill)))
        try:
            while True:
                self._say(summary_line(engine.commands.snapshot()))
                await asyncio.sleep(SUMMARY_EVERY_S)
        finally:
            end()

    def _say(self, line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
