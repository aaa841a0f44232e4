"""The engine's end of the link: says what happens to every client, and carries out what they ask. See docs/link.md."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import zmq
from loguru import logger

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.orders import Fill, Order
from koc_qt.link.auth import Context, bind, secure_server
from koc_qt.link.codec import MAX_COMMAND, MAX_FACT, PING, UnreadableError, decode_command, encode_fact, number_fact
from koc_qt.link.history import History
from koc_qt.link.keys import ProfileKeys
from koc_qt.link.messages import (
    PROTOCOL,
    BarChanged,
    Command,
    EngineStopped,
    Fact,
    Hello,
    Refused,
    Reply,
    RequestSnapshot,
    Snapshot,
    Subscribe,
    Unsubscribe,
    Welcome,
)
from koc_qt.link.session import Session, StreamKey, stream_of
from koc_qt.link.watch import Socket, SocketWatch
from koc_qt.link.wording import errand
from koc_qt.version import __version__

MAX_CLIENTS = 32
MAX_COMMANDS = 64  # of one client, under way or with an unread reply
_DELUGE = 2 * MAX_COMMANDS
_HIGH_WATER = 128  # messages in ZeroMQ's own queue: small, because the policy is ours
_SEND_BUFFER = 256 << 10  # bytes, for the same reason
_PER_TURN = 500  # messages read, or sent to one client, before other tasks get their turn
_TICK_S = 0.5
_RETRY_S = 0.02
_PAGE_S = 0.02  # between two pages of history, whoever they are for
_LINGER_MS = 500
_OVERHEAD = 1_024  # bytes, more than what CURVE and the numbering add to a message


class LinkHandler(Protocol):
    """What the engine does for its clients. Every method is called on the engine's loop."""

    def snapshot(self) -> Snapshot:
        """Give the state of everything, and the newest of orders and fills; facts published later follow it."""
        ...

    def history(self) -> tuple[Sequence[Order], Sequence[Fill]]:
        """Give the closed orders and the fills that clients are told after the snapshot, each oldest first.

        Called with `snapshot`, without a turn of the loop between them; nobody may change the sequences later.
        """
        ...

    async def execute(self, command: Command, client_id: str) -> Any:
        """Carry a command out and give the Reply's value. A KocError's text is told to the client as it is.

        Hello and RequestSnapshot never come here. Shutdown must return when the shutdown has begun, not ended.
        """
        ...

    def disconnected(self, client_id: str) -> None:
        """Hear that a client is gone; its subscriptions are of no more use."""
        ...


class LinkServer:
    """Talks to the clients of one engine, on one loop and its thread.

    Commands of one client start in the order in which they came and run side by side, at most MAX_COMMANDS of them;
    they run to their end even where the client is gone.
    """

    def __init__(
        self,
        context: Context,
        endpoint: str,
        keys: ProfileKeys,
        handler: LinkHandler,
        *,
        queue_limit: int = 10_000,
        expiry_s: float = 30.0,
        version: str = __version__,
    ) -> None:
        """Take what is needed; `start` opens the door. `queue_limit` counts facts that wait for one client."""
        self.endpoint = endpoint
        self.garbage = 0  # frames that were no message, or came from nobody
        self.resyncs = 0
        self._context = context
        self._keys = keys
        self._handler = handler
        self._queue_limit = queue_limit
        self._expiry_s = expiry_s
        self._version = version
        self._sessions: dict[bytes, Session] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._clients_ever = 0
        self._loop: asyncio.AbstractEventLoop
        self._socket: Socket | None = None
        self._watch: SocketWatch
        self._tick_timer: asyncio.TimerHandle | None = None
        self._retry_timer: asyncio.TimerHandle | None = None
        self._page_timer: asyncio.TimerHandle | None = None
        self._readers: deque[Session] = deque()  # of history, in turn

    # ---- life --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Listen, on the running loop; `endpoint` then has its real port. Raises LinkError."""
        socket = self._context.socket(zmq.ROUTER)
        socket.linger = _LINGER_MS
        socket.sndhwm = socket.rcvhwm = _HIGH_WATER
        socket.setsockopt(zmq.SNDBUF, _SEND_BUFFER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_COMMAND)
        secure_server(socket, self._keys.engine)
        try:
            self.endpoint = bind(socket, self.endpoint)
        except LinkError:
            socket.close(linger=0)
            raise
        self._socket = socket
        self._loop = asyncio.get_running_loop()
        self._watch = SocketWatch(self._loop, socket, self._work)
        self._tick()

    async def close(self, reason: str = "the engine was stopped", *, grace_s: float = 1.0) -> None:
        """Let commands end, say EngineStopped, see that it was heard, and go; at most `grace_s` for each of the two.

        A client's socket drops what it has not read when ours is gone: so we wait for its sign of life. Safe to call
        twice.
        """
        if self._socket is None:
            return
        tasks = {task for task in self._tasks if task is not asyncio.current_task()}
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        said_s = self._loop.time()
        self.publish(EngineStopped(reason))
        while self._loop.time() < said_s + grace_s and (self._has_more() or self._has_unheard(said_s)):  # noqa: ASYNC110
            await asyncio.sleep(_RETRY_S / 2)
        for session in list(self._sessions.values()):
            self._drop(session)
        for timer in (self._tick_timer, self._retry_timer, self._page_timer):
            if timer is not None:
                timer.cancel()
        self._watch.close()
        self._socket.close()
        self._socket = None

    def _has_unheard(self, since_s: float) -> bool:
        """Whether a client has not spoken since; each answers the last word at once."""
        return any(session.heard_s <= since_s for session in self._sessions.values())

    @property
    def clients(self) -> list[str]:
        """The ids of the clients that are connected."""
        return [session.client_id for session in self._sessions.values()]

    # ---- telling -----------------------------------------------------------------------------------------------

    def publish(self, fact: Fact) -> None:
        """Queue a fact for every client that it concerns; cheap, never blocks, never raises. On the loop's thread."""
        if not self._sessions:
            return
        stream = stream_of(fact)
        sessions = [session for session in self._sessions.values() if stream is None or session.wants(stream)]
        if not sessions:
            return
        try:
            encoded = encode_fact(fact)
        except (TypeError, ValueError, OverflowError):
            logger.exception("a {} cannot be sent to clients", type(fact).__name__)
            return
        final = isinstance(fact, BarChanged) and fact.closed
        for session in sessions:
            self._offer(session, encoded, stream, final=final)
        self._watch.call_soon()

    def _offer(self, session: Session, encoded: bytes, stream: StreamKey | None, *, final: bool) -> None:
        if stream is not None and not final:
            session.offer_newest(stream, encoded)
            return
        if stream is not None:
            session.forget_newest(stream)
        session.offer(encoded)
        if session.is_full:
            self._flush(session)
        if session.is_full:
            session.resync()
            self.resyncs += 1
            logger.info("client {} reads too slowly; it was told to ask for a snapshot", session.client_id)

    def _work(self) -> None:
        """Read what came and send what waits; called whenever the socket may be ready."""
        self._drain()
        for session in list(self._sessions.values()):
            self._flush(session)
        self._watch.recheck()
        if self._retry_timer is None and self._has_more():
            # A client's pipe may have become free during another's send, which swallows the signal.
            self._retry_timer = self._loop.call_later(_RETRY_S, self._retry)

    def _has_more(self) -> bool:
        return any(not session.is_idle for session in self._sessions.values())

    def _retry(self) -> None:
        self._retry_timer = None
        self._work()

    def _flush(self, session: Session) -> None:
        for _ in range(_PER_TURN):
            if session.is_idle or not self._send(session, session.next_body()):
                return
            session.sent()
        self._watch.call_soon()

    def _send(self, session: Session, body: bytes) -> bool:
        """Send without waiting; False when the client's pipe is full or the client is gone."""
        try:
            self._send_to(session.identity, body)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:
            logger.debug("client {} is gone: {}", session.client_id, error)
            self._drop(session)
            return False
        return True

    def _send_to(self, identity: bytes, body: bytes) -> None:
        if self._socket is None:
            raise zmq.ZMQError(zmq.ENOTSOCK)
        self._socket.send_multipart([identity, body], zmq.NOBLOCK)

    def _refuse(self, identity: bytes, reason: str) -> None:
        try:
            self._send_to(identity, number_fact(0, encode_fact(Refused(reason, self._version))))
        except zmq.ZMQError as error:
            logger.debug("a refused client is gone already: {}", error)

    # ---- hearing -----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        for _ in range(_PER_TURN):
            if self._socket is None:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._receive(frames)
        self._watch.call_soon()

    def _receive(self, frames: list[bytes]) -> None:
        session = self._sessions.get(frames[0])
        if session is not None:
            session.heard_s = self._loop.time()
        if len(frames) != 2:
            self.garbage += 1
        elif frames[1] == PING:
            self._pinged(frames[0], session)
        else:
            self._read(frames[0], session, frames[1])

    def _pinged(self, identity: bytes, session: Session | None) -> None:
        if session is None:
            self._refuse(identity, "the engine does not know this connection any more: connect again")
        elif session.is_idle:  # else it hears from us anyway
            self._send(session, PING)

    def _read(self, identity: bytes, session: Session | None, body: bytes) -> None:
        try:
            number, command = decode_command(body)
        except UnreadableError as error:
            self.garbage += 1
            if session is not None and error.number is not None:
                self._answer(session, error.number, f"the engine cannot read this command: {error}", None)
            return
        if session is not None:
            self._take(session, number, command)
        elif isinstance(command, Hello):
            self._greet(identity, command)
        else:
            self.garbage += 1
            self._refuse(identity, "the engine does not know this connection: say hello first")

    def _greet(self, identity: bytes, hello: Hello) -> None:
        if hello.protocol != PROTOCOL:
            older = "the client" if hello.protocol < PROTOCOL else "the engine"
            self._refuse(
                identity,
                f"the engine is K.O.C. {self._version} and speaks link protocol {PROTOCOL}, the client is K.O.C. "
                f"{_printable(hello.version)} and speaks {hello.protocol}: update {older}",
            )
            return
        if len(self._sessions) >= MAX_CLIENTS:
            self._refuse(identity, f"the engine already has {MAX_CLIENTS} clients: close one")
            return
        self._clients_ever += 1
        client_id = f"{_printable(hello.client) or 'client'}-{self._clients_ever}"
        session = Session(identity, client_id, self._queue_limit, self._loop.time())
        session.offer_control(Welcome(PROTOCOL, self._version))
        try:
            self._offer_snapshot(session)
        except KocError as error:
            self._refuse(identity, str(error))
            return
        self._sessions[identity] = session
        logger.debug("client {} connected", client_id)
        self._flush(session)

    def _offer_snapshot(self, session: Session) -> None:
        """Queue a snapshot. Raises LinkError where one waits already or the engine cannot make one."""
        try:
            history = History(*self._handler.history())
            encoded = encode_fact(msgspec.structs.replace(self._handler.snapshot(), older=history.left))
        except Exception as error:
            logger.exception("the engine's snapshot cannot be made")
            raise LinkError("the engine cannot describe its state, its log says why") from error
        session.offer_snapshot(encoded, history)
        if session.has_history and session not in self._readers:
            self._readers.append(session)
            self._plan_page()

    def _plan_page(self) -> None:
        if self._page_timer is None and self._readers:
            self._page_timer = self._loop.call_later(_PAGE_S, self._tell_page)

    def _tell_page(self) -> None:
        """Tell one client a page of history; others have their turn later, and the engine its own in between."""
        self._page_timer = None
        session = self._readers.popleft()
        if self._sessions.get(session.identity) is session:
            session.offer_page()
            self._flush(session)
            if session.has_history:
                self._readers.append(session)
        self._plan_page()

    # ---- commands ----------------------------------------------------------------------------------------------

    def _take(self, session: Session, number: int, command: Command) -> None:
        if session.commands >= _DELUGE:
            logger.warning("client {} sends commands without reading the answers: dropped", session.client_id)
            self._drop(session)
            self._refuse(session.identity, "too many commands without reading the answers")
        elif session.commands >= MAX_COMMANDS:
            self._answer(
                session, number, f"{MAX_COMMANDS} commands are under way already: wait for their answers", None
            )
        else:
            self._dispatch(session, number, command)

    def _dispatch(self, session: Session, number: int, command: Command) -> None:
        try:
            if isinstance(command, Hello):
                raise LinkError("this connection has said hello already")
            if isinstance(command, RequestSnapshot):
                self._offer_snapshot(session)
                self._answer(session, number, "", None)
                return
            # Before the engine acts: nothing that it says at once is missed, and the client's order of commands counts.
            if isinstance(command, Subscribe):
                session.subscribe(command)
            elif isinstance(command, Unsubscribe):
                session.unsubscribe(command.instrument)
        except LinkError as error:
            self._answer(session, number, str(error), None)
            return
        session.commands += 1
        task = self._loop.create_task(self._execute(session, number, command), name=f"{session.client_id} {number}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _execute(self, session: Session, number: int, command: Command) -> None:
        error, value = "", None
        try:
            value = await self._handler.execute(command, session.client_id)
        except KocError as failure:
            error = str(failure) or type(failure).__name__
        except asyncio.CancelledError:
            error = "the engine stopped before this was done"
            raise
        except Exception:
            logger.exception("{} of client {} failed", type(command).__name__, session.client_id)
            error = (
                f"the engine was asked to {errand(command)}, and an internal error kept it from that: its log says more"
            )
        finally:
            if error and isinstance(command, Subscribe):
                session.unsubscribe(command.instrument)
            session.commands -= 1
            self._answer(session, number, error, value)

    def _answer(self, session: Session, number: int, error: str, value: Any) -> None:
        if self._socket is None or self._sessions.get(session.identity) is not session:
            return  # the client is gone
        try:
            encoded = encode_fact(Reply(number, error, value))
        except (TypeError, ValueError, OverflowError):
            logger.exception("the answer to command {} of client {} cannot be sent", number, session.client_id)
            encoded = encode_fact(Reply(number, "internal error of the engine: the answer cannot be sent"))
        if len(encoded) > MAX_FACT - _OVERHEAD:
            encoded = encode_fact(Reply(number, f"the answer is too long ({len(encoded)} bytes): ask for less"))
        session.commands += 1  # until it has left
        session.offer_reply(encoded)
        self._watch.call_soon()

    # ---- time --------------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        self._tick_timer = self._loop.call_later(_TICK_S, self._tick)
        now_s = self._loop.time()
        for session in list(self._sessions.values()):
            if now_s - session.heard_s > self._expiry_s:
                logger.info("client {} has been silent for {:.0f} s: dropped", session.client_id, self._expiry_s)
                self._drop(session)
            elif session.is_idle:
                self._send(session, PING)  # finds out whether the connection is still there
        if self._sessions:
            self._work()

    def _drop(self, session: Session) -> None:
        if self._sessions.pop(session.identity, None) is None:
            return
        logger.debug("client {} disconnected", session.client_id)
        try:
            self._handler.disconnected(session.client_id)
        except Exception:
            logger.exception("the engine could not take leave of client {}", session.client_id)


def _printable(text: str) -> str:
    return re.sub(r"[^\w. +-]", "?", text)[:64]
