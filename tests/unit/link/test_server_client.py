"""Engine and client over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import zmq

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.orders import OrderStatus
from koc_qt.domain.state import EngineState, StrategySpec
from koc_qt.link.auth import Gatekeeper, secure_client
from koc_qt.link.client import LinkClient, LinkState, local_engine
from koc_qt.link.codec import decode_fact, encode_command
from koc_qt.link.connection import EngineAddress
from koc_qt.link.keys import KeyPair, export_public, import_authorized
from koc_qt.link.messages import (
    PROTOCOL,
    BarChanged,
    CancelOrder,
    Command,
    DescribeStrategy,
    EngageKillSwitch,
    EngineStopped,
    Fact,
    FetchBars,
    FillRecorded,
    Hello,
    OrderChanged,
    QuoteChanged,
    Refused,
    Reply,
    RequestSnapshot,
    Resync,
    Snapshot,
    StartStrategy,
    StopStrategy,
    SubmitOrder,
    Subscribe,
    Unsubscribe,
    Welcome,
)
from koc_qt.link.replica import Replica
from koc_qt.link.server import MAX_CLIENTS, MAX_COMMANDS
from tests.conditions import until
from tests.fakes.link import BTC, START_NS, FakeEngine, FakeLink, market_buy, serve, strategy_snapshot

FETCH = FetchBars(BTC, "1m", 10)


@pytest.fixture
async def link(tmp_path: Path) -> AsyncIterator[FakeLink]:
    async with serve(tmp_path) as link:
        yield link


class Seen(list[Fact]):
    """Facts as they came, and a replica of them."""

    def __init__(self) -> None:
        super().__init__()
        self.replica = Replica()

    def __call__(self, fact: Fact) -> None:
        self.append(fact)
        self.replica.apply(fact)

    def of(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in self if isinstance(fact, kind)]


class RawClient:
    """A client that sends and reads frames one at a time, and only when told to."""

    def __init__(self, link: FakeLink) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvhwm = 10
        self.socket.setsockopt(zmq.RCVBUF, 16_384)
        secure_client(self.socket, link.keys.client, link.keys.engine.public)
        self.socket.connect(link.server.endpoint)
        self.number = 0

    def send(self, command: Command) -> int:
        self.number += 1
        self.socket.send(encode_command(self.number, command))
        return self.number

    async def body(self) -> bytes:
        async def arrived() -> list[bytes]:
            try:
                return self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return []

        return (await until(arrived, what="a frame"))[0]

    async def fact(self) -> tuple[int, Fact]:
        while True:
            body = await self.body()
            if body:
                envelope = decode_fact(body)
                return envelope.sequence, envelope.fact

    async def hello(self, name: str = "raw") -> None:
        self.send(Hello(PROTOCOL, "0", name))
        assert isinstance((await self.fact())[1], Welcome)
        assert isinstance((await self.fact())[1], Snapshot)

    def close(self) -> None:
        self.socket.close()
        self._context.term()


@contextlib.contextmanager
def raw(link: FakeLink) -> Any:
    client = RawClient(link)
    try:
        yield client
    finally:
        client.close()


# ---- the common case -------------------------------------------------------------------------------------------


async def test_snapshot_then_facts_then_answers(link: FakeLink) -> None:
    link.engine.place()
    seen, states = Seen(), []
    client = link.client(on_fact=seen, on_state=lambda state, reason: states.append(state))
    snapshot = await client.connect()
    assert [order.client_order_id for order in snapshot.orders] == ["K00001"]
    assert client.state is LinkState.CONNECTED

    assert await client.request(SubmitOrder("paper", market_buy())) == "K00002"
    # the fact was queued before the answer, and so is here
    assert seen.replica.orders["K00002"].status is OrderStatus.ACCEPTED
    link.engine.fill("K00002")
    await until(lambda: seen.of(FillRecorded))
    assert seen.replica.orders == link.engine.orders
    assert list(seen.replica.fills.values()) == list(link.engine.fills.values())
    await client.close()
    await client.close()
    assert states == [LinkState.CONNECTED, LinkState.CLOSED]


async def test_errors_of_commands_are_sentences(link: FakeLink, expected_warnings: list[str]) -> None:
    async with link.client() as client:
        with pytest.raises(KocError, match="there is no open order 'nope'"):
            await client.request(CancelOrder("nope"))
        with pytest.raises(KocError, match="internal error of the engine in DescribeStrategy"):
            await client.request(DescribeStrategy("x.py"))
        assert any("the fake engine has no DescribeStrategy" in line for line in expected_warnings)
        with pytest.raises(KocError, match="said hello already"):
            await client.request(Hello(PROTOCOL, "1", "again"))
        with pytest.raises(LinkError, match="longer"):
            await client.request(DescribeStrategy("x" * (1 << 20)))


async def test_an_answer_that_cannot_be_encoded(link: FakeLink, expected_warnings: list[str]) -> None:
    class Odd(FakeEngine):
        async def execute(self, command: Command, client_id: str) -> Any:
            return object() if isinstance(command, FetchBars) else "x" * (65 << 20)

    link.server._handler = Odd()
    async with link.client() as client:
        with pytest.raises(KocError, match="the answer cannot be sent"):
            await client.request(FETCH)
        with pytest.raises(KocError, match="too long"):
            await client.request(CancelOrder("K1"))
    assert any("the answer to command" in line for line in expected_warnings)


async def test_a_slow_command_blocks_no_other_and_times_out(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    async with link.client() as client:
        slow = asyncio.create_task(client.request(FETCH))
        await until(lambda: link.engine.commands)
        assert await client.request(SubmitOrder("paper", market_buy())) == "K00001"
        assert not slow.done()
        with pytest.raises(LinkError, match=r"no answer to FetchBars within 0\.05 s; it may still be carried out"):
            await client.request(FETCH, timeout_s=0.05)
        link.engine.hold.set()
        assert await slow == []


async def test_commands_start_in_order(link: FakeLink) -> None:
    async with link.client() as client:
        specs = [StrategySpec(f"s{i}", "/s.py", "paper", (BTC,), "1m") for i in range(40)]
        answers = await asyncio.gather(*(client.request(StartStrategy(spec)) for spec in specs))
    assert answers == [spec.strategy_id for spec in specs]
    assert [command.spec for command, _ in link.engine.commands if isinstance(command, StartStrategy)] == specs


async def test_commands_of_one_client_are_bounded(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    async with link.client() as client:
        held = [asyncio.create_task(client.request(FETCH)) for _ in range(MAX_COMMANDS)]
        await until(lambda: len(link.engine.commands) == MAX_COMMANDS)
        with pytest.raises(KocError, match="64 commands are under way"):
            await client.request(FETCH)
        link.engine.hold.set()
        assert await asyncio.gather(*held) == [[]] * MAX_COMMANDS
        assert await client.request(FETCH) == []


@pytest.mark.expected_warnings("sends commands without reading the answers")
async def test_who_never_reads_answers_is_dropped(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    with raw(link) as client:
        await client.hello()
        for _ in range(3 * MAX_COMMANDS):
            client.send(FETCH)
        # Held commands and refusals fill the allowance; the refusals are read off the queue by ZeroMQ at first.
        for _ in range(400):
            client.send(StopStrategy("x" * 100_000))
            await asyncio.sleep(0)
            if not link.server.clients:
                break
        await until(lambda: not link.server.clients, what="the client to be dropped")
        assert link.engine.gone == ["raw-1"]
    link.engine.hold.set()


async def test_a_command_runs_to_its_end_without_its_client(link: FakeLink) -> None:
    link.engine.hold = asyncio.Event()
    client = link.client()
    await client.connect()
    request = asyncio.create_task(client.request(FETCH))
    await until(lambda: link.engine.commands)
    await client.close()
    with pytest.raises(LinkError, match="may have been carried out"):
        await request
    await until(lambda: link.engine.gone == ["koc-1"], what="the engine to notice")
    assert len(link.server._tasks) == 1
    link.engine.hold.set()
    await until(lambda: not link.server._tasks)


async def test_two_clients_hear_the_same(link: FakeLink) -> None:
    first, second = Seen(), Seen()
    async with link.client(on_fact=first, name="window") as one, link.client(on_fact=second) as two:
        assert link.server.clients == ["window-1", "koc-2"]
        await asyncio.gather(
            *(client.request(SubmitOrder("paper", market_buy())) for client in (one, two) for _ in range(20))
        )
        await until(lambda: first.replica.orders == second.replica.orders == link.engine.orders)
        assert len(first.of(OrderChanged)) == len(second.of(OrderChanged)) == 40
    await until(lambda: sorted(link.engine.gone) == ["koc-2", "window-1"])


# ---- market data -----------------------------------------------------------------------------------------------


async def test_market_data_goes_to_subscribers_alone(link: FakeLink) -> None:
    first, second = Seen(), Seen()
    async with link.client(on_fact=first) as one, link.client(on_fact=second) as two:
        await one.request(Subscribe(BTC, ("1m",)))
        link.engine.quote(1)
        link.engine.quote(2, InstrumentId("sim", "ETH/USDT"))
        link.engine.publish(bar(timeframe="5m"))
        link.engine.publish(bar())
        await until(lambda: first.of(BarChanged))
        assert [fact.quote.bid for fact in first.of(QuoteChanged)] == [1]
        assert [fact.bar.timeframe for fact in first.of(BarChanged)] == ["1m"]
        await one.request(Unsubscribe(BTC))
        link.engine.quote(3)
        link.engine.place()
        await until(lambda: first.of(OrderChanged) and second.of(OrderChanged))
        assert len(first.of(QuoteChanged)) == 1
        assert not second.of(QuoteChanged)
        assert not second.of(BarChanged)
        assert two.gaps == one.gaps == 0


async def test_a_refused_subscription_streams_nothing(link: FakeLink) -> None:
    seen, other = Seen(), InstrumentId("sim", "NO/PE")
    async with link.client(on_fact=seen) as client:
        with pytest.raises(KocError, match="there is no instrument sim:NO/PE"):
            await client.request(Subscribe(other))
        with pytest.raises(KocError, match="1000 streams"):
            await client.request(Subscribe(BTC, tuple(f"{i}m" for i in range(1_000))))
        link.engine.quote(1, other)
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
        assert not seen.of(QuoteChanged)


async def test_of_market_data_the_newest_is_kept_and_a_closed_bar_never_lost(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen) as client:
        await client.request(Subscribe(BTC, ("1m",)))
        for number in range(1, 1_001):  # without a turn of the loop: nothing can be sent meanwhile
            link.engine.quote(number)
            link.engine.publish(bar(close=number, closed=number % 100 == 0))
        await until(lambda: seen.of(QuoteChanged))
        assert [fact.quote.bid for fact in seen.of(QuoteChanged)] == [1_000]
        assert [fact.bar.close for fact in seen.of(BarChanged)] == list(range(100, 1_001, 100))
        assert client.gaps == 0


def bar(timeframe: str = "1m", close: float = 1.0, *, closed: bool = False) -> BarChanged:
    return BarChanged(Bar(BTC, timeframe, START_NS, 1.0, 1.0, 1.0, close, 1.0), closed)


# ---- slow readers ----------------------------------------------------------------------------------------------


async def test_orders_are_never_dropped_for_a_slow_reader_within_the_limit(link: FakeLink) -> None:
    with raw(link) as client:
        await client.hello()
        for _ in range(9_000):
            link.engine.place()
        await until(lambda: link.server._retry_timer is not None, what="the client's pipe to be full")
        got = [await client.fact() for _ in range(9_000)]
    assert [sequence for sequence, _ in got] == list(range(1, 9_001))
    assert [fact.order.client_order_id for _, fact in got if isinstance(fact, OrderChanged)] == list(link.engine.orders)
    assert link.server.resyncs == 0


async def test_a_reader_that_is_slower_still_is_told_to_resync(tmp_path: Path) -> None:
    async with serve(tmp_path, queue_limit=1_000) as link:
        with raw(link) as client:
            await client.hello()
            waiting = client.send(StopStrategy("nope"))  # its answer survives
            await until(lambda: link.engine.commands)
            for _ in range(10_000):
                link.engine.place()
            assert link.server.resyncs == 1
            replica, sequence = Replica(), 0
            replies = []
            while True:
                number, fact = await client.fact()
                if isinstance(fact, Resync):
                    break
                if isinstance(fact, Reply):
                    replies.append(fact.number)
                else:
                    assert number == sequence + 1
                    sequence = number
            assert replies == [waiting]
            assert sequence < 9_000
            client.send(RequestSnapshot())
            number, snapshot = await client.fact()
            assert number == 0
            replica.apply(snapshot)
            assert replica.orders == link.engine.orders
            assert isinstance((await client.fact())[1], Reply)
            link.engine.place()
            number, fact = await client.fact()
            assert (number, type(fact)) == (1, OrderChanged)


async def test_a_client_mends_itself_after_a_burst(tmp_path: Path) -> None:
    seen = Seen()
    async with serve(tmp_path, queue_limit=100) as link, link.client(on_fact=seen) as client:
        for _ in range(10_000):
            link.engine.place()
        await until(lambda: seen.replica.orders == link.engine.orders)
        assert link.server.resyncs >= 1
        assert client.state is LinkState.CONNECTED
        assert client.connections == 1
        link.engine.fill("K00001")
        await until(lambda: seen.replica.orders == link.engine.orders and seen.replica.fills)


async def test_a_gap_is_noticed_and_mended(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen) as client:
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
        (session,) = link.server._sessions.values()
        session._sequence += 1  # one fact is lost on the way
        link.engine.place()
        link.engine.place()
        await until(lambda: len(seen.of(Snapshot)) == 2)
        assert client.gaps == 1
        assert len(seen.of(OrderChanged)) == 1  # what follows a gap is not shown before the snapshot
        link.engine.place()
        await until(lambda: len(seen.of(OrderChanged)) == 2)
        assert seen.replica.orders == link.engine.orders
        assert client.gaps == 1


async def test_one_snapshot_at_a_time(link: FakeLink) -> None:
    async with link.client() as client:
        outcomes = await asyncio.gather(*(client.request(RequestSnapshot()) for _ in range(3)), return_exceptions=True)
    assert outcomes[0] is None
    assert all("already on its way" in str(outcome) for outcome in outcomes if outcome is not None)


# ---- who may enter ---------------------------------------------------------------------------------------------


@pytest.mark.expected_warnings("its key is not among those")
async def test_an_unknown_key_is_refused_until_it_is_imported(link: FakeLink, tmp_path: Path) -> None:
    stranger = KeyPair.generate()
    with pytest.raises(LinkError, match="does not let this key in: import it there into keys/authorized"):
        await LinkClient(local_engine(link.run_folder), stranger).connect()
    assert link.gatekeeper.refused == 1
    assert not link.server.clients
    export_public(stranger, tmp_path / "mine.key")
    import_authorized(link.keys.folder, "laptop", tmp_path / "mine.key")
    async with LinkClient(local_engine(link.run_folder), stranger) as client:
        assert client.state is LinkState.CONNECTED


async def test_a_wrong_engine_key_is_noticed(link: FakeLink) -> None:
    address = EngineAddress(link.server.endpoint, KeyPair.generate().public.decode())
    with pytest.raises(LinkError, match="is not the engine whose key we have"):
        await LinkClient(lambda: address, link.keys.client).connect()


async def test_one_gatekeeper_a_context(link: FakeLink) -> None:
    with pytest.raises(LinkError, match="cannot listen at inproc"):
        Gatekeeper(link.context, link.keys).start()


async def test_keys_that_go_bad_while_the_engine_runs(link: FakeLink, expected_warnings: list[str]) -> None:
    (link.keys.authorized_folder / "broken.key").write_text("nonsense")
    async with link.client() as client:
        assert client.state is LinkState.CONNECTED
    assert any("those known before still count" in line for line in expected_warnings)
    with pytest.raises(LinkError, match=r"broken\.key"):
        Gatekeeper(link.context, link.keys).start()


async def test_without_a_gatekeeper_nobody_enters(link: FakeLink) -> None:
    link.gatekeeper.close()
    with pytest.raises(LinkError):
        await link.client().connect(timeout_s=2)
    assert not link.server.clients


@pytest.mark.parametrize(("protocol", "older"), [(PROTOCOL + 1, "engine"), (PROTOCOL - 1, "client")])
async def test_another_version_is_refused(link: FakeLink, protocol: int, older: str) -> None:
    with pytest.raises(LinkError) as caught:
        await link.client(protocol=protocol, version="9.9.9").connect()
    text = str(caught.value)
    assert f"speaks link protocol {PROTOCOL}" in text
    assert f"K.O.C. 9.9.9 and speaks {protocol}" in text
    assert text.endswith(f"update the {older}")
    assert not link.server.clients


async def test_a_refused_client_goes_on_trying_slowly(link: FakeLink) -> None:
    states: list[tuple[LinkState, str]] = []
    client = link.client(
        protocol=99, on_state=lambda *state: states.append(state), longest_backoff_s=0.01, rng=random.Random(1)
    )
    client.start()
    await until(lambda: states)
    assert states[0][0] is LinkState.REFUSED
    with pytest.raises(LinkError, match="no connection to the engine: the engine is K"):
        await client.request(FETCH)
    with pytest.raises(LinkError, match="started before"):
        client.start()
    await client.close()


async def test_clients_are_bounded(link: FakeLink) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MAX_CLIENTS):
            await stack.enter_async_context(link.client(context=link.context))
        with pytest.raises(LinkError, match="already has 32 clients"):
            await link.client().connect()


async def test_an_engine_that_cannot_describe_itself(link: FakeLink, expected_warnings: list[str]) -> None:
    link.engine.snapshot = lambda: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    with pytest.raises(LinkError, match="cannot describe its state"):
        await link.client().connect()
    assert any("snapshot cannot be made" in line for line in expected_warnings)


# ---- bad frames ------------------------------------------------------------------------------------------------


async def test_garbage_is_ignored_and_counted(link: FakeLink) -> None:
    frames = [b"\xc1", b"hello", b"\x93\x01\x02\x03", b"\x92\x01\x80", b"\x91" * 5_000, b"\x92\x01" + b"\x91" * 100_000]
    with raw(link) as client:
        for frame in frames:
            client.socket.send(frame)
        client.socket.send_multipart([b"a", b"b"])
        await until(lambda: link.server.garbage == len(frames) + 1)
        await client.hello()
        for frame in frames:
            client.socket.send(frame)
        await until(lambda: link.server.garbage == 2 * len(frames) + 1)
        # Commands whose number could be read are answered.
        error = (await client.fact())[1]
        assert isinstance(error, Reply)
        assert error.number == 1
        assert "cannot read this command" in error.error
        assert link.server.clients == ["raw-1"]


async def test_an_order_that_makes_no_sense_is_answered(link: FakeLink) -> None:
    body = encode_command(7, SubmitOrder("paper", market_buy("0.25"))).replace(b"0.25", b"-0.5")
    with raw(link) as client:
        await client.hello()
        client.socket.send(body)
        reply = (await client.fact())[1]
    assert isinstance(reply, Reply)
    assert reply.number == 7
    assert "quantity must be a number above zero" in reply.error
    assert not link.engine.commands


async def test_a_huge_frame_ends_the_connection_and_nothing_else(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen):
        with raw(link) as client:
            await client.hello()
            client.socket.send(bytes(2 << 20))
            await until(lambda: link.engine.gone == ["raw-2"], what="the engine to drop it")
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))


async def test_who_never_said_hello_is_told_so(link: FakeLink) -> None:
    with raw(link) as client:
        client.send(FETCH)
        first = (await client.fact())[1]
        client.socket.send(b"")
        second = (await client.fact())[1]
    assert isinstance(first, Refused)
    assert "say hello first" in first.reason
    assert isinstance(second, Refused)
    assert not link.engine.commands


async def test_the_client_counts_garbage_and_goes_on(link: FakeLink) -> None:
    seen = Seen()
    async with link.client(on_fact=seen) as client:
        (session,) = link.server._sessions.values()
        link.server._send_to(session.identity, b"\xc1")
        link.server._socket.send_multipart([session.identity, b"a", b"b"])  # type: ignore[union-attr]
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
        assert client.garbage == 2


async def test_handlers_that_raise_are_isolated(link: FakeLink, expected_warnings: list[str]) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("a bug in a window")

    async with link.client(on_fact=fail, on_state=fail) as client:
        assert await client.request(SubmitOrder("paper", market_buy())) == "K00001"
        link.engine.disconnected = fail  # type: ignore[method-assign]
    await until(lambda: not link.server.clients)
    assert len([line for line in expected_warnings if "failed on" in line or "could not take leave" in line]) >= 3


async def test_a_fact_that_cannot_be_encoded_is_logged(link: FakeLink, expected_warnings: list[str]) -> None:
    seen = Seen()
    async with link.client(on_fact=seen):
        spec = StrategySpec("odd", "/s.py", "paper", (BTC,), "1m", {"p": object()})
        link.engine.show(strategy_snapshot(spec=spec))
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
    assert any("StrategyChanged cannot be sent" in line for line in expected_warnings)


# ---- losing each other -----------------------------------------------------------------------------------------


async def test_reconnects_to_a_restarted_engine_with_a_fresh_snapshot(tmp_path: Path) -> None:
    seen, states = Seen(), []
    async with serve(tmp_path) as link:
        client = link.client(on_fact=seen, on_state=lambda *state: states.append(state))
        await client.connect()
        link.engine.place()
        await until(lambda: seen.of(OrderChanged))
    await until(lambda: client.state is LinkState.LOST)
    assert [fact.reason for fact in seen.of(EngineStopped)] == ["the fake engine was stopped"]
    assert states[1] == (LinkState.LOST, "the engine has stopped: the fake engine was stopped")
    with pytest.raises(LinkError, match="was not sent, there is no connection to the engine"):
        await client.request(EngageKillSwitch("now"))
    await until(lambda: "no engine runs on this profile" in client.reason)
    engine = FakeEngine()
    engine.place()
    engine.place()
    async with serve(tmp_path, engine):
        await until(lambda: client.state is LinkState.CONNECTED)
        assert client.connections == 2
        assert list(seen.replica.orders) == ["K00001", "K00002"]
        await client.request(EngageKillSwitch("now"))
        assert seen.replica.engine is not None
        assert seen.replica.engine.state is EngineState.HALTED
        await client.close()


async def test_a_silent_engine_is_noticed(link: FakeLink) -> None:
    client = link.client(silence_s=0.3)
    await client.connect()
    link.server._watch.close()  # the engine hangs: its sockets are open, but nobody reads
    link.server._tick_timer.cancel()  # type: ignore[union-attr]
    await until(lambda: client.state is LinkState.LOST)
    assert client.reason == "the engine has been silent for 0.3 s"
    await client.close()


async def test_an_engine_that_never_answers_hello(link: FakeLink) -> None:
    link.server._watch.close()
    with pytest.raises(LinkError, match=r"did not answer within 0\.2 s"):
        await link.client().connect(timeout_s=0.2)


async def test_an_engine_that_sends_no_snapshot(link: FakeLink) -> None:
    link.server._watch.close()
    client = link.client(snapshot_timeout_s=0.1, silence_s=60)
    with pytest.raises(LinkError, match=r"sent no snapshot within 0\.1 s"):
        await client.connect()


async def test_nobody_there(tmp_path: Path) -> None:
    async with serve(tmp_path) as link:
        address = EngineAddress(link.server.endpoint, link.keys.engine.public.decode())
        keys = link.keys
    with pytest.raises(LinkError, match="nothing listens at"):
        await LinkClient(lambda: address, keys.client).connect()
    with pytest.raises(LinkError, match="no engine runs on this profile"):
        await LinkClient(local_engine(tmp_path / "run"), keys.client).connect()
    with pytest.raises(LinkError, match="'nonsense' is of no use"):
        await LinkClient(lambda: EngineAddress("nonsense", address.server_key), keys.client).connect()
    with pytest.raises(LinkError, match="is of no use"):
        await LinkClient(lambda: EngineAddress(address.endpoint, "short"), keys.client).connect()


async def test_a_silent_client_expires(tmp_path: Path) -> None:
    async with serve(tmp_path, expiry_s=0.2) as link:
        with raw(link) as client:
            await client.hello()
            await until(lambda: link.engine.gone == ["raw-1"])
            assert not link.server.clients
            client.socket.send(b"")
            while not isinstance(fact := (await client.fact())[1], Refused):
                pass
            assert "does not know this connection any more" in fact.reason


async def test_a_client_that_expired_comes_back_by_itself(tmp_path: Path) -> None:
    async with serve(tmp_path) as link, link.client() as client:
        (session,) = link.server._sessions.values()
        link.server._drop(session)
        await until(lambda: client.connections == 2 and client.state is LinkState.CONNECTED)
        assert link.server.clients == ["koc-2"]


async def test_closing_waits_for_commands_and_gives_up_on_slow_ones(tmp_path: Path) -> None:
    engine = FakeEngine(hold=asyncio.Event())
    async with serve(tmp_path, engine) as link:
        client = link.client()
        await client.connect()
        request = asyncio.create_task(client.request(FETCH))
        await until(lambda: engine.commands)
        await link.server.close(grace_s=0.05)
        await link.server.close()
        with pytest.raises(KocError, match="the engine stopped before this was done"):
            await request
        await client.close()


async def test_the_port_is_taken(link: FakeLink, tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"cannot listen at tcp://127\.0\.0\.1:\d+: .*choose another endpoint"):
        async with serve(tmp_path / "other", endpoint=link.server.endpoint):
            pass
