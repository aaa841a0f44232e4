"""A client's end of the link: stays connected, notices gaps, and brings facts and answers. See docs/link.md."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any

import zmq
from loguru import logger

from koc_qt.domain.errors import KocError, LinkError, NotSent
from koc_qt.link.auth import Context
from koc_qt.link.codec import MAX_COMMAND, PING, UnreadableError, decode_fact, encode_command
from koc_qt.link.connection import Connection, EngineAddress, RefusedError
from koc_qt.link.keys import KeyPair, load_pair
from koc_qt.link.messages import (
    PROTOCOL,
    Command,
    EngineStopped,
    Fact,
    FactEnvelope,
    Hello,
    Refused,
    Reply,
    RequestSnapshot,
    Resync,
    Snapshot,
    Welcome,
)
from koc_qt.link.rendezvous import running_engine
from koc_qt.link.wording import errand
from koc_qt.version import __version__

_PING_S = 0.5
_OVERHEAD = 1_024  # bytes, more than what CURVE adds to a message
_FIRST_BACKOFF_S = 0.1


class LinkState(StrEnum):
    """How a client stands with the engine. LOST and REFUSED clients go on trying until they are closed."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    LOST = "lost"
    REFUSED = "refused"
    CLOSED = "closed"


class LinkClient:
    """Follows one engine from an asyncio loop (qasync's too), over any number of connections, one after the other.

    `on_fact` gets the Snapshot of each connection and then every fact, in order and without a gap; `on_state` gets
    each change of state and the reason, a sentence. Both are called on the loop and must not block; while they do, the
    engine keeps facts back, and of market data the newest alone. `locate` is asked before each attempt where the engine
    is; it raises LinkError where there is none.
    """

    def __init__(
        self,
        locate: Callable[[], EngineAddress],
        pair: KeyPair,
        *,
        name: str = "koc",
        on_fact: Callable[[Fact], None] | None = None,
        on_state: Callable[[LinkState, str], None] | None = None,
        silence_s: float = 2.0,
        snapshot_timeout_s: float = 5.0,
        longest_backoff_s: float = 2.0,
        rng: random.Random | None = None,
        context: Context | None = None,
        protocol: int = PROTOCOL,
        version: str = __version__,
    ) -> None:
        """Take what is needed; `connect` or `start` begins. `silence_s` without an answer means a dead engine."""
        self.state = LinkState.CONNECTING
        self.reason = "not connected yet"
        self.gaps = 0
        self.connections = 0
        self.garbage = 0
        self._locate = locate
        self._pair = pair
        self._hello = Hello(protocol, version, name)
        self._on_fact = on_fact
        self._on_state = on_state
        self._silence_s = silence_s
        self._snapshot_timeout_s = snapshot_timeout_s
        self._longest_backoff_s = longest_backoff_s
        self._rng = rng or random.Random()  # noqa: S311 - spreads reconnections, guards nothing
        self._own_context = context is None
        self._context = context
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task[None] | None = None
        self._first: asyncio.Future[Snapshot] | None = None
        self._hurried = asyncio.Event()
        self._number = 0
        self._pending: dict[int, asyncio.Future[Reply]] = {}
        # Of the present connection:
        self._connection: Connection | None = None
        self._over: asyncio.Future[LinkError]
        self._snapshots = 0
        self._expected = 0  # sequence of the next fact; 0 while a snapshot is awaited
        self._snapshot_due_s = 0.0
        self._unanswered_since_s: float | None = None
        self._last_words = ""

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Connect in the background, on the running loop, and go on trying."""
        if self._task is not None or self.state is LinkState.CLOSED:
            raise LinkError("this client was started before: make a new one")
        self._context = self._context or zmq.Context()
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run(), name=f"link of {self._hello.client}")

    async def connect(self, timeout_s: float = 5.0) -> Snapshot:
        """Connect, and give the first snapshot; afterwards lost connections are made again.

        Raises LinkError, and closes the client, when the first attempt fails: absent engine, other version, unknown
        key, no answer in time.
        """
        self._first = asyncio.get_running_loop().create_future()
        try:
            self.start()
            async with asyncio.timeout(timeout_s):
                return await self._first
        except TimeoutError as error:
            await self.close()
            raise LinkError(f"the engine did not answer within {timeout_s:g} s: it hangs or is very busy") from error
        except BaseException:
            await self.close()
            raise
        finally:
            self._first = None

    def hurry(self) -> None:
        """Make the next attempt now, where it is being waited for: the engine is known to be there."""
        self._hurried.set()

    async def close(self) -> None:
        """End the connection and the attempts. Safe to call twice."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._own_context and self._context is not None:
            self._context.term()
            self._context = None
        self._set_state(LinkState.CLOSED, "closed")

    async def __aenter__(self) -> LinkClient:
        await self.connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- commands ----------------------------------------------------------------------------------------------

    async def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out, and give the answer's value, of msgpack primitives.

        Raises KocError with the engine's own sentence when it says no, NotSent when there is no connection, and another
        LinkError when there is no answer in time: then it is not known whether it was done.
        """
        what = errand(command)
        if self._connection is None or self.state is not LinkState.CONNECTED:
            raise NotSent(f"The engine was not asked to {what}: there is no connection to it ({self.reason})")
        self._number += 1
        body = encode_command(self._number, command)
        if len(body) > MAX_COMMAND - _OVERHEAD:
            raise NotSent(f"The engine was not asked to {what}: that is longer ({len(body)} bytes) than it takes")
        if not self._connection.send(body):
            raise NotSent(f"The engine was not asked to {what}: it takes no commands now, or is gone; try again")
        number, answer = self._number, self._loop.create_future()
        self._pending[number] = answer
        try:
            async with asyncio.timeout(timeout_s):
                reply: Reply = await answer
        except TimeoutError as error:
            raise LinkError(
                f"The engine was asked to {what} and has not answered within {timeout_s:g} s; it may still do it"
            ) from error
        finally:
            self._pending.pop(number, None)
        if reply.error:
            raise KocError(reply.error)
        return reply.value

    # ---- connections -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                before = self.connections
                error = await self._one_connection()
                failures = 1 if self.connections > before else failures + 1
                state = LinkState.REFUSED if isinstance(error, RefusedError) else LinkState.LOST
                self._set_state(state, self._last_words or str(error))
                if self._first is not None and not self._first.done():
                    self._first.set_exception(error)
                self._hurried.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._backoff_s(failures)):
                        await self._hurried.wait()
        finally:
            self._fail_pending("the client was closed")

    def _backoff_s(self, failures: int) -> float:
        longest = self._longest_backoff_s
        if self.state is LinkState.LOST:
            longest = min(longest, _FIRST_BACKOFF_S * 2 ** min(failures - 1, 16))
        return longest * self._rng.uniform(0.5, 1.0)

    async def _one_connection(self) -> LinkError:
        """Connect and stay so as long as it lasts; give the reason why it ended."""
        assert self._context is not None  # noqa: S101 - set by start
        self._over = self._loop.create_future()
        self._snapshots = self._expected = 0
        self._unanswered_since_s = None
        self._last_words = ""
        self._snapshot_due_s = self._loop.time() + self._snapshot_timeout_s
        try:
            address = self._locate()
            self._connection = Connection(self._context, address, self._pair, self._heard, self._end)
        except LinkError as error:
            return error
        except zmq.ZMQError as error:
            return LinkError(f"the engine's endpoint {address.endpoint!r} is of no use: {error.strerror}")
        try:
            self._send(self._hello)
            while not self._over.done():
                await asyncio.wait({self._over}, timeout=_PING_S)
                self._beat()
            return self._over.result()
        finally:
            self._connection.close()
            self._connection = None
            self._fail_pending("the connection to the engine was lost before the answer; it may have been carried out")

    def _end(self, error: LinkError) -> None:
        if not self._over.done():
            self._over.set_result(error)

    def _beat(self) -> None:
        """Ping the engine, and give up on one that is silent."""
        assert self._connection is not None  # noqa: S101 - within _one_connection
        self._connection.drain()  # what waits there is a sign of life as well, also after this process hung
        now_s = self._loop.time()
        if self._unanswered_since_s is not None and now_s - self._unanswered_since_s > self._silence_s:
            self._end(LinkError(f"the engine has been silent for {self._silence_s:g} s"))
        elif self._expected == 0 and now_s > self._snapshot_due_s:
            self._end(LinkError(f"the engine sent no snapshot within {self._snapshot_timeout_s:g} s"))
        elif not self._over.done():
            if self._unanswered_since_s is None:
                self._unanswered_since_s = now_s
            self._connection.send(PING)

    def _send(self, command: Command) -> None:
        assert self._connection is not None  # noqa: S101 - within _one_connection
        self._number += 1
        # Where it cannot be sent, the connection's monitor knows why, or else the snapshot is overdue soon.
        self._connection.send(encode_command(self._number, command))

    def _fail_pending(self, reason: str) -> None:
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(LinkError(reason))

    # ---- hearing -----------------------------------------------------------------------------------------------

    def _heard(self, body: bytes) -> None:
        self._unanswered_since_s = None
        if body == PING:
            return
        try:
            envelope = decode_fact(body)
        except UnreadableError as error:
            self.garbage += 1  # if it was a fact, the next one shows the gap
            logger.debug("the engine sent what cannot be read: {}", error)
            return
        self._take(envelope)

    def _take(self, envelope: FactEnvelope) -> None:
        fact = envelope.fact
        match fact:
            case Welcome():
                pass  # the snapshot that follows is what counts
            case Refused():
                # Later it only means that the engine has forgotten this connection.
                self._end(LinkError(fact.reason) if self._snapshots else RefusedError(fact.reason))
            case Reply():
                answer = self._pending.get(fact.number)
                if answer is not None and not answer.done():
                    answer.set_result(fact)
            case Resync():
                self._ask_for_snapshot(fact.reason)
            case Snapshot():
                self._begin(fact)
            case _ if envelope.sequence == 0 or self._is_next(envelope.sequence):
                if isinstance(fact, EngineStopped):
                    self._last_words = f"the engine has stopped: {fact.reason}"
                    if self._connection is not None:
                        self._connection.send(PING)  # says that it was heard: the engine waits for that
                self._deliver(fact)

    def _is_next(self, sequence: int) -> bool:
        if self._expected == 0:
            return False  # the snapshot that was asked for contains it
        if sequence != self._expected:
            self.gaps += 1
            self._ask_for_snapshot(f"fact {self._expected} was expected and {sequence} came")
            return False
        self._expected += 1
        return True

    def _ask_for_snapshot(self, why: str) -> None:
        logger.debug("asking for a snapshot: {}", why)
        self._expected = 0
        self._snapshot_due_s = self._loop.time() + self._snapshot_timeout_s
        self._send(RequestSnapshot())

    def _begin(self, snapshot: Snapshot) -> None:
        self._expected = 1
        self._snapshots += 1
        if self._snapshots == 1:
            self.connections += 1
            self._set_state(LinkState.CONNECTED, "connected")
        self._deliver(snapshot)
        if self._first is not None and not self._first.done():
            self._first.set_result(snapshot)

    def _deliver(self, fact: Fact) -> None:
        if self._on_fact is not None:
            try:
                self._on_fact(fact)
            except Exception:
                logger.exception("the handler of facts failed on a {}", type(fact).__name__)

    def _set_state(self, state: LinkState, reason: str) -> None:
        if (state, reason) == (self.state, self.reason):
            return
        self.state, self.reason = state, reason
        if self._on_state is not None:
            try:
                self._on_state(state, reason)
            except Exception:
                logger.exception("the handler of the link's state failed on {}", state)


class BlockingClient:
    """A LinkClient for programs without a loop. Used from one thread; `snapshot` is from the moment of connection."""

    def __init__(self, client: LinkClient, timeout_s: float = 5.0) -> None:
        """Connect. Raises LinkError."""
        self._client = client
        self._runner = asyncio.Runner()
        try:
            self.snapshot = self._runner.run(client.connect(timeout_s))
        except BaseException:
            self._runner.close()
            raise

    def request(self, command: Command, *, timeout_s: float = 10.0) -> Any:
        """Have a command carried out; as LinkClient.request."""
        return self._runner.run(self._client.request(command, timeout_s=timeout_s))

    def close(self) -> None:
        """End the connection. Safe to call twice."""
        if self._client.state is not LinkState.CLOSED:
            self._runner.run(self._client.close())
        self._runner.close()

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def local_engine(run_folder: Path) -> Callable[[], EngineAddress]:
    """Give the `locate` of the engine that runs on this profile."""

    def locate() -> EngineAddress:
        info = running_engine(run_folder)
        return EngineAddress(info.link, info.server_key)

    return locate


def connect(run_folder: Path, key_folder: Path, *, name: str = "koc", timeout_s: float = 5.0) -> BlockingClient:
    """Connect to the engine of a profile.

    Raises NoEngineError when none runs, and LinkError for another version, a damaged or unknown key, or no answer.
    """
    locate = local_engine(run_folder)
    locate()  # first: a profile whose engine never ran has no keys either
    return BlockingClient(LinkClient(locate, load_pair(key_folder), name=name), timeout_s)
