"""What a person sees of an engine that runs in their terminal: a live display, or a line for all that matters.

Everything is written by the console's own thread: a terminal that is paused or gone never holds up the engine's loop.
"""

from __future__ import annotations

import asyncio
import io
import shutil
import sys
from typing import TYPE_CHECKING

from koc_qt.cli.lines import fill_line, summary_line
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.link.messages import FillRecorded, Snapshot
from koc_qt.logger import Console, LogEntry

if TYPE_CHECKING:
    from koc_qt.wiring.engine import Engine

REFRESH_S = 0.5
SUMMARY_EVERY_S = 5.0
SHOWN = InstrumentId("sim", "BTC/USDT")  # what the market table has while no strategy asks for anything
OWNER = "terminal"
NOTED = ("WARNING", "ERROR", "CRITICAL")
ENTER, LEAVE, HOME, CLEAR_REST = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l", "\x1b[H", "\x1b[J"


class Terminal:
    """Observes an engine."""

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._console = Console(sys.stdout)
        self._last: Snapshot | None = None
        self._note = ""

    def hear(self, entry: LogEntry) -> None:
        """Keep the newest warning for the live display; the log's sink."""
        if entry.level in NOTED:
            self._note = f"{entry.level}: {entry.text}"

    async def observe(self, engine: Engine) -> None:
        """Show the engine until cancelled."""
        self._last = engine.commands.snapshot()
        if not engine.options.strategies:
            await self._show_a_market(engine)
        if self._live:
            await self._show_live(engine)
        else:
            await self._print_lines(engine)

    def close(self, ending: str) -> None:
        """Say how it ended, and what it came to."""
        self._say(ending)
        if self._last is not None:
            self._say(summary_line(self._last))
        self._console.close()

    async def _show_a_market(self, engine: Engine) -> None:
        try:
            await engine.market_data.hold(SHOWN, OWNER)
        except KocError as error:
            self._note = str(error)

    async def _show_live(self, engine: Engine) -> None:
        self._console.write(ENTER)
        try:
            while True:
                self._last = engine.commands.snapshot()
                self._console.write(HOME + self._frame(engine, self._last) + CLEAR_REST)
                await asyncio.sleep(REFRESH_S)
        finally:
            self._last = engine.commands.snapshot()
            self._console.write(LEAVE)

    def _frame(self, engine: Engine, snapshot: Snapshot) -> str:
        from rich.console import Console as RichConsole

        from koc_qt.cli.live import render

        size = shutil.get_terminal_size()
        text = io.StringIO()
        # one line less than there are: the console ends what it writes with a line break, which must not scroll
        view = render(snapshot, size.columns, size.lines - 1, engine.store.quotes.values(), self._note)
        RichConsole(file=text, force_terminal=True, width=size.columns, height=size.lines).print(view, end="")
        return text.getvalue().replace("\n", "\x1b[K\n")

    async def _print_lines(self, engine: Engine) -> None:
        end = engine.bus.subscribe(FillRecorded, lambda fact: self._say(fill_line(fact.fill)))
        try:
            while True:
                self._last = engine.commands.snapshot()
                self._say(summary_line(self._last))
                await asyncio.sleep(SUMMARY_EVERY_S)
        finally:
            end()
            self._last = engine.commands.snapshot()

    def _say(self, line: str) -> None:
        self._console.write(line)
