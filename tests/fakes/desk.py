"""A desk joined to a fake engine without a link: facts and answers arrive on the Qt loop, as they would from afar."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import msgspec
import shiboken6
from PySide6.QtWidgets import QApplication, QWidget

from koc_qt.domain.errors import NotSent
from koc_qt.link.client import LinkState
from koc_qt.link.codec import decode_command, decode_fact, encode_command, encode_fact, number_fact
from koc_qt.link.history import History
from koc_qt.link.messages import Command, Fact
from koc_qt.link.wording import errand
from koc_qt.ui.actions import Actions
from koc_qt.ui.bench import Bench, Requests
from koc_qt.ui.desk import Desk, Notice
from koc_qt.ui.streams import Streams
from koc_qt.ui.theme import Theme, ThemeChoice
from koc_qt.wiring.qt_loop import qt_loop
from tests.fakes.link import FakeEngine


class DirectClient:
    """Implements the desk's EngineClient on a fake engine; everything goes through the link's encoding."""

    def __init__(self, engine: FakeEngine, desk: Desk) -> None:
        self.engine = engine
        self._desk = desk
        self._is_connected = False
        engine.publish = self._publish

    def connect(self) -> None:
        """Bring a snapshot, as each new connection does, and the history after it."""
        self._is_connected = True
        self._desk.take_state(LinkState.CONNECTED, "connected")
        history = History(*self.engine.history())
        self._publish(msgspec.structs.replace(self.engine.snapshot(), older=history.left))
        while history.left:
            self._publish(history.next_page())

    def lose(self, reason: str = "the connection to the engine was lost") -> None:
        """Lose the engine."""
        self._is_connected = False
        self._desk.take_state(LinkState.LOST, reason)

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have the fake engine do it."""
        await asyncio.sleep(0)
        if not self._is_connected:
            raise NotSent(f"The engine was not asked to {errand(command)}: there is no connection to it")
        _, decoded = decode_command(encode_command(1, command))
        async with asyncio.timeout(timeout_s):
            answer = await self.engine.execute(decoded, "window")
        return msgspec.msgpack.decode(msgspec.msgpack.encode(answer))

    def _publish(self, fact: Fact) -> None:
        if self._is_connected:
            self._desk.take(decode_fact(number_fact(1, encode_fact(fact))).fact)


class FakeBench:
    """A Bench with what tests want to reach: `engine`, `client`, and the notices that were shown."""

    def __init__(self, engine: FakeEngine) -> None:
        self.window = QWidget()
        self.engine = engine
        self.desk = Desk(self.window)
        self.client = DirectClient(engine, self.desk)
        self.desk.use(self.client)
        self.notices: list[Notice] = []
        self.desk.noticed.connect(self.notices.append)
        self.theme = Theme(ThemeChoice.DARK, self.window)
        self.requests = Requests(self.window)
        self.bench = Bench(self.desk, Streams(self.desk), self.theme, Actions(self.window), self.requests)

    @property
    def texts(self) -> list[str]:
        """What was said to the person."""
        return [notice.text for notice in self.notices]

    def sent(self, kind: type[Any]) -> list[Any]:
        """Give the commands of a kind that the engine got."""
        return [command for command, _ in self.engine.commands if isinstance(command, kind)]


@contextmanager
def running_bench(app: QApplication, engine: FakeEngine | None = None) -> Iterator[FakeBench]:
    """Give a connected bench. asyncio runs whenever Qt's events are processed, as in qtbot.waitUntil."""
    # threads of Python's own: qasync's would be left behind as "Dummy" ones
    with qt_loop(app) as loop, ThreadPoolExecutor(2, "test") as threads:
        loop.set_default_executor(threads)
        asyncio._set_running_loop(loop)  # as within run_forever: the test itself is what runs
        fake = FakeBench(engine or FakeEngine())
        try:
            fake.client.connect()
            yield fake
        finally:
            asyncio._set_running_loop(None)
            loop.run_until_complete(fake.desk.close())
            shiboken6.delete(fake.window)
