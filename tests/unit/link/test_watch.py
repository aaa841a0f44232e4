"""The link on a loop without add_reader, as Windows' proactor loops are."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import zmq

from koc_qt.domain.errors import LinkError
from koc_qt.link.client import LinkState
from koc_qt.link.messages import OrderChanged, SubmitOrder
from koc_qt.link.watch import SocketWatch
from tests.conditions import until, wait_until
from tests.fakes.link import market_buy, serve


class ProactorLike(asyncio.SelectorEventLoop):
    """Has no readers for us; its own waking pipe goes by the private methods."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        raise NotImplementedError

    def remove_reader(self, fd: Any) -> bool:
        raise NotImplementedError


async def _scenario(folder: Path) -> None:
    facts: list[Any] = []
    async with serve(folder) as link:
        client = link.client(on_fact=facts.append)
        await client.connect()
        for _ in range(50):
            await client.request(SubmitOrder("paper", market_buy()))
        for _ in range(5_000):
            link.engine.place()
        await until(lambda: len([fact for fact in facts if isinstance(fact, OrderChanged)]) == 5_050)
    await until(lambda: client.state is LinkState.LOST)
    await client.close()
    with pytest.raises(LinkError, match="no engine runs"):
        await link.client().connect()


def test_everything_works_through_the_thread(tmp_path: Path) -> None:
    with asyncio.Runner(loop_factory=ProactorLike) as runner:
        runner.run(_scenario(tmp_path))


def test_a_loop_that_is_closed_first() -> None:
    loop = ProactorLike()
    got: list[bytes] = []

    def drain() -> None:
        while reader.poll(0):
            got.append(reader.recv())

    with zmq.Context() as context, context.socket(zmq.PAIR) as reader, context.socket(zmq.PAIR) as writer:
        reader.bind("inproc://watched")
        writer.connect("inproc://watched")
        watch = SocketWatch(loop, reader, drain)
        writer.send(b"1")
        loop.run_until_complete(until(lambda: got == [b"1"]))
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        writer.send(b"2")  # the thread finds nobody to tell, and ends
        assert watch._selector is not None
        thread = watch._selector._thread
        wait_until(lambda: not thread.is_alive())
        watch.close()
        watch.close()


async def test_a_signal_that_was_swallowed_is_not_lost() -> None:
    got: list[bytes] = []
    with zmq.Context() as context, context.socket(zmq.PAIR) as reader, context.socket(zmq.PAIR) as writer:
        reader.bind("inproc://watched")
        writer.connect("inproc://watched")
        watch = SocketWatch(asyncio.get_running_loop(), reader, lambda: got.append(reader.recv()))
        writer.send(b"1")
        writer.send(b"2")
        # The callback reads one alone, which leaves the descriptor silent about the other.
        await until(lambda: got == [b"1"])
        watch.recheck()
        watch.recheck()
        await until(lambda: got == [b"1", b"2"])
        watch.call_soon()
        watch.close()  # what was scheduled is not called any more
