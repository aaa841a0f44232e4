"""Composition root of the window's process: Qt and asyncio on one loop, the link, the engine's keeper, the window."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from koc_qt.adapters.crash_reports import crashes_reported
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.link.connection import EngineAddress
from koc_qt.link.keys import load_or_create_keys
from koc_qt.link.servers import remember_server
from koc_qt.paths import Paths
from koc_qt.wiring.engine_process import Process, program, say_go
from koc_qt.wiring.window_options import WindowOptions

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication, QMainWindow

    from koc_qt.ui.desk import Desk
    from koc_qt.ui.theme import Theme
    from koc_qt.ui.window import MainWindow
    from koc_qt.wiring.window import Ending

Observer = Callable[["MainWindow"], None]
SILENCE_S = 3.0
_NOT_DONE = 1  # exit code, see cli/main.py


def show(options: WindowOptions, paths: Paths, spawned: Process | None, observe: Observer, ending: Ending) -> None:
    """Load Qt, and show the window until it is closed. Raises KocError."""
    from koc_qt.wiring.qt_imports import read_no_sources

    read_no_sources()
    heard = Heard()
    with crashes_reported(paths, "window", heard.tell):
        _run(options, paths, spawned, observe, ending, heard)


class Heard:
    """Passes on that a crash report was written, once there is somebody to tell. `tell` is for any thread."""

    def __init__(self) -> None:
        self.to: Callable[[], None] = lambda: None

    def tell(self) -> None:
        """Pass it on."""
        self.to()


def _run(
    options: WindowOptions, paths: Paths, spawned: Process | None, observe: Observer, ending: Ending, heard: Heard
) -> None:
    from PySide6.QtWidgets import QApplication

    from koc_qt.ui.theme import Theme
    from koc_qt.ui.turns import Patience
    from koc_qt.wiring.qt_loop import qt_loop

    app = QApplication.instance() or _application()
    assert isinstance(app, QApplication)  # noqa: S101 - made here, or by a test that shows windows
    app.setApplicationName("koc")
    app.setApplicationDisplayName("K.O.C.")
    app.setDesktopFileName("koc")
    app.setQuitOnLastWindowClosed(False)
    theme = Theme(parent=app)
    theme.apply(app)
    # Python's own threads: Qt's would call back into a loop that is gone
    with qt_loop(app, Patience(most_waits=2).waits) as loop, ThreadPoolExecutor(4, "window") as threads:
        loop.set_default_executor(threads)
        loop.run_until_complete(_show(options, paths, theme, spawned, observe, ending, heard))


def _application() -> QApplication:
    """Make the application. Where Qt finds no screen, which it has an abort for, end this process with a sentence."""
    from PySide6.QtCore import QMessageLogContext, QtMsgType, qInstallMessageHandler
    from PySide6.QtWidgets import QApplication

    said: list[str] = []

    def hear(kind: QtMsgType, _context: QMessageLogContext, text: str) -> None:
        said.append(text.strip())
        if kind is QtMsgType.QtFatalMsg:  # Qt aborts when this returns
            why = said[0].splitlines()[0].removesuffix(' in ""')
            sys.stderr.write(
                f"koc: the window cannot be shown, Qt says: {why}. No engine was started for it; 'koc doctor' says "
                "what this machine lacks.\n"
            )
            sys.stderr.flush()
            os._exit(_NOT_DONE)

    before = qInstallMessageHandler(hear)
    try:
        return QApplication([*sys.argv[:1]])
    finally:
        qInstallMessageHandler(before)
        sys.stderr.writelines(f"{text}\n" for text in said)


async def _show(
    options: WindowOptions,
    paths: Paths,
    theme: Theme,
    spawned: Process | None,
    observe: Observer,
    ending: Ending,
    heard: Heard,
) -> None:
    from koc_qt.adapters.crash_reports import CrashReports
    from koc_qt.link.client import LinkClient
    from koc_qt.ui.crashes import CrashWatch
    from koc_qt.ui.desk import Desk
    from koc_qt.ui.memory import MemoryFile
    from koc_qt.ui.panel_list import chart_maker, panel_kinds, preload
    from koc_qt.ui.releases import ReleaseWatch
    from koc_qt.ui.window import MainWindow
    from koc_qt.wiring.keeper import EngineKeeper
    from koc_qt.wiring.releases import LazyReleases

    desk = Desk()
    address = _address(options)
    keeper = EngineKeeper(paths, desk, address, spawned)
    pair = load_or_create_keys(paths.keys).client
    client = LinkClient(
        keeper.locate,
        pair,
        name="window",
        on_fact=desk.take,
        on_state=keeper.on_state,
        silence_s=SILENCE_S,
        longest_backoff_s=1.0,
    )
    keeper.announced.connect(client.hurry)
    desk.use(client, is_remote=address is not None)
    window = MainWindow(
        desk,
        theme,
        MemoryFile(paths.layout),
        lambda bench, monitor: panel_kinds(
            bench, monitor, paths.strategies, [*program(), "doctor", "--json"], _folders(paths)
        ),
        chart_maker,
        preload=preload,
        reset_layout=options.reset_layout,
    )
    desk.setParent(window)
    keeper.setParent(window)
    window.use_keeper(keeper)
    ReleaseWatch(window, LazyReleases(paths))
    heard.to = CrashWatch(window, CrashReports(paths)).came.emit
    closed = asyncio.Event()
    window.closed.connect(closed.set)
    desk.linked.connect(lambda: _remember(options, paths, desk))
    window.show()
    observe(window)
    keeping = asyncio.create_task(keeper.run(), name="keeper")
    client.start()
    try:
        loop = asyncio.get_running_loop()
        with ending.closing(lambda: loop.call_soon_threadsafe(window.close_now)):
            await _painted()
            if not closed.is_set():
                if spawned is not None:
                    say_go(spawned)
                window.start()
            if options.files:
                window.workspace.filled.connect(lambda: window.offer(list(options.files)))
            await closed.wait()
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await desk.close()
        await client.close()
        heard.to = lambda: None
        _delete(window)


def _address(options: WindowOptions) -> EngineAddress | None:
    if options.endpoint is None:
        return None
    if options.server_key is None:
        raise KocError(f"the public key of the engine at {options.endpoint} is needed: name its file with --server-key")
    return EngineAddress(options.endpoint, options.server_key)


def _remember(options: WindowOptions, paths: Paths, desk: Desk) -> None:
    """Keep the key of an engine on another machine once it has let us in: the next time needs no --server-key."""
    if desk.is_connected and options.endpoint is not None and options.server_key is not None:
        try:
            remember_server(paths.keys, options.endpoint, options.server_key)
        except LinkError as error:
            desk.notify(f"The engine's key could not be kept for the next time: {error}")


def _folders(paths: Paths) -> dict[str, Path]:
    return {"Configuration": paths.config, "Data": paths.data, "Strategies": paths.strategies, "Logs": paths.logs}


async def _painted() -> None:
    """Let Qt show the window before anything heavy is loaded."""
    for _ in range(3):
        await asyncio.sleep(0.001)  # a timer: what is merely due runs before Qt gets its turn


def _delete(window: QMainWindow) -> None:
    """End the window's Qt objects here and now, in their own thread, and not at the collector's whim."""
    import shiboken6

    shiboken6.delete(window)
