"""Canary keys go through everything that keys go through; then everything that is left of it is searched for them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import psutil
import pytest
import zmq

from koc_qt.adapters.secrets.encrypted_file import EncryptedFileStore
from koc_qt.domain.accounts import AccountDetails, SecretsState
from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.domain.state import StrategySpec, TradingMode
from koc_qt.domain.venues import ConnectionReport
from koc_qt.link.account_messages import (
    AddAccount,
    ListAccounts,
    SecretsStatus,
    SwitchAccount,
    TestConnection,
    UnlockSecrets,
    UpdateCredentials,
)
from koc_qt.link.auth import secure_client
from koc_qt.link.client import LinkClient, local_engine
from koc_qt.link.codec import encode_fact
from koc_qt.link.keys import load_pair
from koc_qt.link.messages import Command, Fact, ReadLog, StartStrategy, SubmitOrder, Subscribe
from koc_qt.link.rendezvous import running_engine
from tests.conditions import PATIENCE, until
from tests.e2e.conftest import _wire
from tests.e2e.processes import STRATEGIES, EngineProcess, Profile, environment, wait_ended

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

LIVE, TESTNET = TradingMode.LIVE, TradingMode.TESTNET
PHRASE = "canary horse battery staple"
WRONG = {"key": "canarykey0wrong0", "secret": base64.b64encode(b"canary secret that is wrong").decode()}
PLAIN = {"api_key": "canarykey0plain0", "api_secret": base64.b64encode(b"canary secret in plain text").decode()}
BTC = InstrumentId("binance", "BTC/USDT")
ANSWER_S = 60.0 * PATIENCE


class Recorder:
    """Everything that clients of an engine are told: facts and answers over the link, and the telemetry bus."""

    def __init__(self, home: Profile) -> None:
        self.heard: list[bytes] = []
        self._home = home
        self._replies: list[Any] = []

    @contextlib.asynccontextmanager
    async def client(self) -> Any:
        """Connect to the engine of the profile, and to its telemetry."""
        paths = self._home.paths
        info = running_engine(paths.run)
        context: zmq.Context[Any] = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.linger = 0
        secure_client(socket, load_pair(paths.keys), info.server_key.encode())
        socket.connect(info.telemetry)
        socket.subscribe("")
        client = LinkClient(local_engine(paths.run), load_pair(paths.keys), name="canary", on_fact=self._hear)
        await client.connect()
        try:
            yield client
            await until(lambda: bool(socket.poll(0)), what="telemetry")
            while socket.poll(0):
                self.heard += socket.recv_multipart()
        finally:
            await client.close()
            socket.close()
            context.term()

    def _hear(self, fact: Fact) -> None:
        self.heard.append(encode_fact(fact))

    async def ask(self, client: LinkClient, command: Command) -> Any:
        """Have a command carried out; what is answered, errors too, is searched later."""
        try:
            answer = await client.request(command, timeout_s=ANSWER_S)
        except KocError as error:
            self.heard.append(str(error).encode())
            return error
        self.heard.append(msgspec.json.encode(answer))
        return answer


@pytest.fixture
def binance() -> Iterator[dict[str, Any]]:
    with _wire("--venue", "binance", "--exchange") as place:
        yield place


def forms(secret: str) -> list[bytes]:
    """Give a secret as it might be found: as it is, quoted, as Base64, as hexadecimal digits, as UTF-16."""
    raw = secret.encode()
    shown = [secret, quote(secret, safe=""), base64.b64encode(raw).decode().rstrip("="), raw.hex()]
    return [*(each.encode() for each in shown), secret.encode("utf-16-le")]


def found_in(data: bytes, canaries: list[str]) -> list[str]:
    return [canary[:12] for canary in canaries if any(form in data for form in forms(canary))]


def configure(home: Profile, place: dict[str, Any]) -> None:
    home.environment |= {"PYTHON_KEYRING_BACKEND": "keyring.backends.fail.Keyring"}  # none of the machine's own
    server = {"endpoint": f"{place['host']}:{place['port']}", "ca_file": place["ca_file"]}
    home.configure({"log_level": "TRACE", "venues": {"binance": server}, "engine": {"heartbeat_s": 0.2}})
    entry = f"id: old, venue: binance, mode: live, api_key: {PLAIN['api_key']}, secret: {PLAIN['api_secret']}"
    old = f"accounts:\n- {{{entry}}}\n"
    home.paths.accounts_file.write_text(old)
    home.paths.accounts_file.with_name("accounts.yaml.bak").write_text(old)


def run(home: Profile, *arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=home.environment,
        cwd=home.home.parent,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60 * PATIENCE,
        check=False,
    )


async def live(home: Profile, engine: EngineProcess, keys: dict[str, str], recorder: Recorder) -> list[psutil.Process]:
    """Do everything that keys are used for, and what goes wrong with them; gives the workers that ran."""
    async with recorder.client() as client:

        async def ask(command: Command) -> Any:
            return await recorder.ask(client, command)

        state = msgspec.convert(await ask(SecretsStatus()), SecretsState)
        assert (state.is_locked, state.is_new) == (True, True)
        assert isinstance(await ask(UnlockSecrets("short")), KocError)
        assert not msgspec.convert(await ask(UnlockSecrets(PHRASE)), SecretsState).is_locked
        assert isinstance(await ask(UnlockSecrets("canary wrong passphrase")), dict), "it is open already"
        await until(lambda: "api_key" not in home.paths.accounts_file.read_text(), timeout_s=30, what="the move")
        for wrong in (WRONG, {**keys, "secret": WRONG["secret"]}, {"key": keys["secret"], "secret": keys["key"]}):
            report = msgspec.convert(await ask(TestConnection("binance", LIVE, wrong)), ConnectionReport)
            assert report.problem
        assert await ask(AddAccount("binance", LIVE, "mine", "Mine", keys, confirmation="Mine")) == "mine"
        assert msgspec.convert(
            await ask(TestConnection("binance", LIVE, account_id="mine")), ConnectionReport
        ).can_trade

        async def is_open() -> bool:
            told = msgspec.convert(await ask(ListAccounts()), list[AccountDetails])
            return {account.account_id: account.state for account in told}["mine"] == "connected"

        async with asyncio.timeout(ANSWER_S):
            while not await is_open():  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(0.05)
        await ask(Subscribe(BTC))
        request = OrderRequest(BTC, Side.BUY, OrderType.MARKET, Decimal("0.001"))
        assert isinstance(await ask(SubmitOrder("mine", request)), str), "it was placed"
        spec = StrategySpec("busy", str(STRATEGIES / "busy.py"), "mine", (BTC,), "1m")
        assert await ask(StartStrategy(spec)) == "busy"
        workers = engine.children()
        assert workers
        search_processes(engine, workers, [*keys.values(), *WRONG.values(), *PLAIN.values(), PHRASE])
        await ask(UpdateCredentials("mine", WRONG))
        await ask(UpdateCredentials("mine", keys))
        await ask(SwitchAccount("mine", TradingMode.PAPER))
        await ask(ReadLog(500))
        return workers


def search_processes(engine: EngineProcess, workers: list[psutil.Process], canaries: list[str]) -> None:
    """Hold that neither environment nor command line of a process has a key, and that none writes a core file."""
    for process in (psutil.Process(engine.pid), *workers):
        # a warm worker may have ended; of a process that guards its memory nobody but root may read the environment
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied, FileNotFoundError):
            limits = Path(f"/proc/{process.pid}/limits").read_text()
            assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
            words = "\0".join([*process.cmdline(), *(f"{name}={text}" for name, text in process.environ().items())])
            assert found_in(words.encode(), canaries) == []


def abort(engine: EngineProcess) -> None:
    """End an engine as a library does that gives up, with live keys in its memory."""
    children = engine.children()
    engine.process.send_signal(signal.SIGABRT)
    assert engine.wait() == -signal.SIGABRT
    wait_ended(children, "the engine was aborted")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_keys_are_found_nowhere_but_where_they_are_kept(tmp_path: Path, binance: dict[str, Any]) -> None:
    home = Profile(tmp_path / "profile")
    home.paths.ensure()
    configure(home, binance)
    shown = binance["accounts"]["live"]
    keys = {name: shown[name] for name in ("key", "secret")}
    assert found_in(f"x{quote(keys['secret'], safe='')}x".encode(), [keys["secret"]]), "the search itself works"
    canaries = [*keys.values(), *WRONG.values(), *PLAIN.values(), PHRASE, "canary wrong passphrase"]
    recorder = Recorder(home)
    home.environment["PYTHONFAULTHANDLER"] = "1"  # says on SIGABRT where every thread was
    with home.engine() as engine:
        engine.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine runs")
        asyncio.run(live(home, engine, keys, recorder))
        abort(engine)
    assert "Fatal Python error: Aborted" in engine.output
    assert 'File "' in engine.output
    assert [path for path in tmp_path.rglob("*core*") if path.is_file()] == []
    with home.engine() as again:  # the accounts are there again, and locked
        again.wait_for_status(lambda status: status["engine"]["state"] == "running", "the engine runs again")
        listed = home.koc("accounts")
        unlocked = run(home, "-m", "koc_qt", "unlock", typed=PHRASE + "\n")
        assert unlocked.returncode == 0, unlocked.stderr
        recorder.heard += [text.encode() for text in (listed.stdout, listed.stderr, unlocked.stdout, unlocked.stderr)]
        assert "encrypted file of keys" in listed.stdout
        again.stop()
    assert len(recorder.heard) > 100
    assert [found for told in recorder.heard if (found := found_in(told, canaries))] == []
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"koc.json", "accounts.yaml", "accounts.keys", "journal.sqlite"} <= {path.name for path in files}
    assert {str(path): found for path in files if (found := found_in(path.read_bytes(), canaries))} == {}
    assert "accounts.yaml.bak" not in {path.name for path in files}
    store = EncryptedFileStore(home.paths.keys / "accounts.keys")
    store.unlock(PHRASE)
    assert dict(store.get("mine", LIVE) or {}) == keys
    assert dict(store.get("old", LIVE) or {}) == {"key": PLAIN["api_key"], "secret": PLAIN["api_secret"]}


_CRASH = """
import sys
from koc_qt.cli.main import main
from koc_qt.cli import accounts
from koc_qt.link.account_messages import AddAccount
from koc_qt.domain.state import TradingMode

def crash(args):
    command = AddAccount("binance", TradingMode.LIVE, "mine", "", {"key": sys.argv[1], "secret": sys.argv[2]})
    raise RuntimeError(f"{command} {sys.argv[1]} {command.credentials}")

accounts.run_accounts = crash
sys.exit(main(["accounts"]))
"""


def test_a_crash_report_has_no_keys(tmp_path: Path) -> None:
    home = Profile(tmp_path / "profile")
    home.paths.ensure()
    result = run(home, "-c", _CRASH, WRONG["key"], "abc")
    assert result.returncode == 70, result.stderr
    (report,) = home.paths.crashes.glob("crash-*.txt")
    text = report.read_text()
    assert "RuntimeError: AddAccount(...) *** {'key': '***', 'secret': ***}" in text
    assert WRONG["key"] not in text + result.stdout + result.stderr


_GUARD = """
import ctypes, resource
from koc_qt.adapters.process_guard import forbid_core_dumps
forbid_core_dumps()
print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_DUMPABLE is Linux's")
def test_no_core_file_and_no_debugger_sees_a_process_that_holds_keys() -> None:
    command = [sys.executable, "-c", _GUARD]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[0] == "(0, 0) 0"
