"""An engine on another machine: two profiles, keys carried by file, and what a window asks of the engine from afar."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from koc_qt.cli.main import parse
from koc_qt.cli.window import window_options
from koc_qt.domain.errors import KocError, LinkError
from koc_qt.domain.instruments import Instrument, InstrumentId
from koc_qt.domain.market import StreamState
from koc_qt.domain.state import JobState, StoredSeries, StrategySpec, StrategyState
from koc_qt.domain.timeframes import DAY_NS, bar_open_ns
from koc_qt.link.client import BlockingClient, LinkClient
from koc_qt.link.keys import KeyPair, load_pair
from koc_qt.link.messages import (
    DescribeStrategy,
    Fact,
    ListInstruments,
    ListSeries,
    LogRecorded,
    ReadLog,
    StartDownload,
    StartStrategy,
    StopStrategy,
    StoreStrategy,
    Subscribe,
)
from koc_qt.link.rendezvous import running_engine
from koc_qt.link.replica import Replica
from koc_qt.link.servers import known_server, remember_server, remote_engine
from koc_qt.sdk.channel import Described
from tests.conditions import until
from tests.e2e.processes import SAMPLES, EngineProcess, Profile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BTC = InstrumentId("sim", "BTC/USDT")


@pytest.fixture
def laptop(tmp_path: Path) -> Profile:
    """Give the profile of a window on another machine, on which no engine ever ran."""
    return Profile(tmp_path / "laptop")


def endpoint_of(home: Profile, engine: EngineProcess) -> str:
    engine.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine to run")
    return running_engine(home.paths.run).link


def visit(endpoint: str, server_key: str, laptop: Profile) -> None:
    """Connect as a window of the laptop does."""
    BlockingClient(LinkClient(remote_engine(endpoint, server_key), load_pair(laptop.paths.keys))).close()


def refusal(endpoint: str, server_key: str, laptop: Profile) -> str:
    with pytest.raises(LinkError) as refused:
        visit(endpoint, server_key, laptop)
    return str(refused.value)


def test_keys_are_carried_by_file(
    home: Profile, laptop: Profile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.configure({"engine": {"link": {"endpoint": "tcp://0.0.0.0:*"}}})
    monkeypatch.setenv("KOC_HOME", str(laptop.home))
    ours, theirs = tmp_path / "laptop.key", tmp_path / "engine.key"
    with home.engine() as engine:
        endpoint = endpoint_of(home, engine)
        assert endpoint.startswith("tcp://127.0.0.1:")
        assert laptop.koc("keys", "export", str(ours)).returncode == 0
        assert home.koc("keys", "server", str(theirs)).returncode == 0
        options = window_options(parse(["--connect", endpoint, "--server-key", str(theirs)]))
        assert options.endpoint is not None
        assert options.server_key is not None

        said = refusal(options.endpoint, options.server_key, laptop)
        assert said.startswith(f"the engine at {endpoint} does not let this key in: carry it there (`koc keys export")
        assert home.koc("keys", "import", "laptop", str(ours)).returncode == 0
        visit(options.endpoint, options.server_key, laptop)
        remember_server(laptop.paths.keys, options.endpoint, options.server_key)
        assert window_options(parse(["--connect", endpoint])) == options
        assert known_server(laptop.paths.keys, endpoint) == options.server_key

        stranger = KeyPair.generate().public.decode()
        assert "is not the engine whose key we have" in refusal(endpoint, stranger, laptop)
        assert home.koc("keys", "remove", "laptop").returncode == 0
        assert "does not let this key in" in refusal(endpoint, options.server_key, laptop)
        assert engine.stop() == 0
    assert "nothing listens at" in refusal(endpoint, options.server_key, laptop)


def test_a_window_from_afar_finds_all_it_needs(home: Profile) -> None:
    with home.engine() as engine:
        endpoint = endpoint_of(home, engine)
        server_key = running_engine(home.paths.run).server_key
        asyncio.run(ask_for_everything(home, endpoint, server_key))
        assert engine.stop() == 0


async def ask_for_everything(home: Profile, endpoint: str, server_key: str) -> None:
    replica, lines = Replica(), list[LogRecorded]()

    def take(fact: Fact) -> None:
        replica.apply(fact)
        if isinstance(fact, LogRecorded):
            lines.append(fact)

    async with LinkClient(remote_engine(endpoint, server_key), load_pair(home.paths.keys), on_fact=take) as client:
        found = msgspec.convert(await client.request(ListInstruments("", "btcusdt")), list[Instrument])
        assert BTC in [one.id for one in found]
        with pytest.raises(KocError, match="there is no venue 'mars'; there are: "):
            await client.request(ListInstruments("mars"))
        await a_strategy_file_of_this_machine(client, replica, home)
        await history_is_fetched(client, replica)
        await until(lambda: any(line.source == "engine" for line in lines), what="a line of the engine's log")
        kept = [text for _, _, _, text in await client.request(ReadLog(500))]
        assert any("download-1" in text for text in kept)


async def a_strategy_file_of_this_machine(client: LinkClient, replica: Replica, home: Profile) -> None:
    source = (SAMPLES / "sma_cross.py").read_bytes()
    described = msgspec.convert(await client.request(DescribeStrategy("C:\\mine\\sma.py", source)), Described)
    assert described.parameters
    with pytest.raises(KocError, match="line 2"):
        await client.request(DescribeStrategy("bad.py", b"import koc\ndef :\n"))
    path = await client.request(StoreStrategy("mine.py", source))
    assert Path(path).read_bytes() == source
    assert Path(path).is_relative_to(home.paths.strategies)
    with pytest.raises(KocError, match=r"the engine has another mine\.py already"):
        await client.request(StoreStrategy("mine.py", source + b"\n"))
    with pytest.raises(KocError, match="cannot name a strategy file"):
        await client.request(StoreStrategy("../mine.py", source))
    account = next(one.account_id for one in replica.accounts.values() if one.venue == "sim")
    key = await client.request(StartStrategy(StrategySpec("", path, account, (BTC,), "1s")))
    await until(lambda: replica.strategies[key].state is StrategyState.RUNNING, what="it to run", timeout_s=30)
    await client.request(Subscribe(BTC))
    await until(lambda: BTC in replica.streams and BTC in replica.quotes, what="the stream")
    assert replica.streams[BTC].state is StreamState.CONNECTED
    await client.request(StopStrategy(key))


async def history_is_fetched(client: LinkClient, replica: Replica) -> None:
    until_ns = bar_open_ns(replica.quotes[BTC].time_ns, "1m")
    key = await client.request(StartDownload(BTC, "1m", until_ns - 2 * DAY_NS, until_ns))
    await until(lambda: replica.downloads[key].state is JobState.DONE, what="the download", timeout_s=30)
    assert replica.downloads[key].bars > 2_000
    stored = msgspec.convert(await client.request(ListSeries()), list[StoredSeries])
    minutes = next(one for one in stored if (one.instrument, one.timeframe) == (BTC, "1m"))
    assert minutes.bars > 2_000
    assert minutes.size_bytes > 0
