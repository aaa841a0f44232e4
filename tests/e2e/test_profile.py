"""A profile in trouble: two engines, a bad configuration, a client of another version, a full disk."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from koc_qt.domain.errors import KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Side
from koc_qt.domain.orders import OrderRequest, OrderType
from koc_qt.link.client import connect
from koc_qt.link.messages import PROTOCOL, SubmitOrder
from tests.conditions import PATIENCE, wait_until
from tests.e2e.books import check_books, halt_and_count, open_orders
from tests.e2e.processes import STRATEGIES, Profile, runs, strategy, trades

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

BUSY = ("--strategy", str(STRATEGIES / "busy.py"), "--symbol", "BTC/USDT", "--speed", "10")
BUSIER = (*BUSY[:-1], "25")  # so that the room that the journal has made for itself is soon used up
DISK_BYTES = 32 << 20

OTHER_VERSION = """
import sys
from koc_qt.link import messages
messages.PROTOCOL += {step}
from koc_qt.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_two_engines_on_one_profile(home: Profile) -> None:
    with home.engine(*BUSY) as engine:
        status = engine.wait_for_status(trades("busy"), "a trade")
        second = home.koc("engine", *BUSY, "--no-live", "--duration", "1")
        assert second.returncode == 1
        assert f"another engine (pid {engine.pid}) already runs on the profile" in second.stderr
        assert "KOC_HOME" in second.stderr
        more = engine.wait_for_status(trades("busy", strategy(status, "busy")["trades"]), "more trades")
        assert strategy(more, "busy")["pid"] == strategy(status, "busy")["pid"]
        assert home.ask("status")["engine"]["pid"] == engine.pid, "the second one took nothing of the first one's away"
        assert engine.stop() == 0
    check_books(home)


@pytest.mark.parametrize("step", [-1, 1])
def test_a_client_of_another_version(home: Profile, step: int) -> None:
    with home.engine(*BUSY) as engine:
        engine.wait_for_status(trades("busy"), "a trade")
        for command in (["status"], ["stop"], ["kill"]):
            other = subprocess.run(
                [sys.executable, "-c", OTHER_VERSION.format(step=step), *command],
                env=home.environment,
                capture_output=True,
                text=True,
                timeout=60 * PATIENCE,
                check=False,
            )
            assert other.returncode == 1
            assert f"speaks link protocol {PROTOCOL}" in other.stderr
            assert "Traceback" not in other.stderr
        status = home.ask("status")
        assert (status["engine"]["state"], status["engine"]["kill_switch"]) == ("running", False)
        assert engine.stop() == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acount: sim\n", ["line 1", "acount", "account"]),
        ("account: [sim\nengine: {\n", ["line 2"]),
        ("account: nobody\n", ["line 1", "there is no account 'nobody'"]),
    ],
)
def test_a_configuration_that_is_wrong(home: Profile, text: str, said: list[str]) -> None:
    home.configure(text)
    result = home.koc("engine", "--no-live", "--duration", "1")
    assert result.returncode == 1
    assert str(home.paths.config_file) in result.stderr
    assert [word for word in said if word not in result.stderr] == []
    assert home.paths.config_file.read_text() == text
    assert not home.paths.journal.exists()


def test_what_cannot_be_read_or_made(home: Profile) -> None:
    home.paths.config_file.mkdir(parents=True)
    result = home.koc("engine", "--no-live", "--duration", "1")
    assert result.returncode == 1
    assert "cannot be read: Is a directory" in result.stderr
    blocked = Profile(home.home.with_name("a file"))
    blocked.home.write_text("not a folder")
    for command in ("engine", "status", "orders"):
        result = blocked.koc(command)
        assert result.returncode == 1
        assert "is a file, not a folder: point KOC_HOME at a folder" in result.stderr


def test_a_journal_that_is_none(home: Profile) -> None:
    home.paths.data.mkdir(parents=True)
    home.paths.journal.write_bytes(b"this is no database" * 1000)
    for command in (("engine", "--no-live", "--duration", "1"), ("orders",), ("fills", "--json")):
        result = home.koc(*command)
        assert result.returncode == 1
        assert str(home.paths.journal) in result.stderr
        assert "file is not a database" in result.stderr
    assert home.paths.journal.read_bytes().startswith(b"this is no database"), "what cannot be read is not overwritten"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Give a file system of a few megabytes."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root on Linux can mount the small file system that is to be filled")
    disk = tmp_path / "small disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "koc-test", str(disk)]
    result = subprocess.run(mount, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        pytest.skip(f"this machine does not let root mount: {result.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path) -> Path:
    """Leave not a byte on it."""
    filler = disk / "filler"
    with filler.open("ab", buffering=0) as stream:
        for block in (1 << 16, 1):
            try:
                while True:
                    stream.write(b"\0" * block)
            except OSError:
                continue
    return filler


def refusal_of_an_order(home: Profile) -> str:
    """Buy by hand; gives why that is refused, empty where it is not: there may be room for one more record."""
    request = OrderRequest(InstrumentId("sim", "BTC/USDT"), Side.BUY, OrderType.MARKET, Decimal("0.001"))
    with connect(home.paths.run, home.paths.keys, name="test") as client:
        try:
            client.request(SubmitOrder("sim", request), timeout_s=60.0)
        except KocError as error:
            return str(error)
    return ""


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    home = Profile(small_disk / "hôme")
    home.output_folder = tmp_path
    home.configure({"risk": {"max_orders_per_minute": 100_000}})
    with home.engine(*BUSIER) as engine:
        engine.wait_for_status(trades("busy", 2), "three trades")
        filler = fill(small_disk)
        engine.wait_for_status(lambda s: not s["engine"]["journal_ok"], "the journal to fail")
        # the strategy may have nothing to ask for: it waits to hear of fills that are not written yet
        refusal = wait_until(lambda: refusal_of_an_order(home), what="an order to be refused", timeout_s=30.0)
        assert "journal" in refusal
        full = home.journal()
        assert runs("busy")(engine.wait_for_status(lambda s: True, "the engine to answer"))
        filler.unlink()
        engine.wait_for_status(lambda s: s["engine"]["journal_ok"], "the journal to be written again")
        engine.wait_for_status(trades("busy", len(full.fills) + 3), "trades after the disk had room again")
        halt_and_count(home, engine, "sim")
        assert engine.stop() == 0
    assert "journal.sqlite cannot be written: database or disk is full. Free some disk space" in engine.output
    after = home.journal()
    assert after.fills[: len(full.fills)] == full.fills
    assert open_orders(home) == []
    check_books(home)


def test_kill_9_on_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    home = Profile(small_disk / "home")
    home.output_folder = tmp_path
    home.configure({"risk": {"max_orders_per_minute": 100_000}})
    with home.engine(*BUSIER) as engine:
        engine.wait_for_status(trades("busy", 2), "three trades")
        filler = fill(small_disk)
        engine.wait_for_status(lambda s: not s["engine"]["journal_ok"], "the journal to fail")
        engine.kill()
    full = home.journal()
    refused = home.koc("engine", "--no-live", "--duration", "1")
    assert refused.returncode == 1
    assert "cannot be written: No space left on device" in refused.stderr
    filler.unlink()
    with home.engine() as engine:
        engine.wait_for_status(trades("busy", len(full.fills)), "trades after the disk had room again")
        wait_until(lambda: home.journal().fills[: len(full.fills)] == full.fills, what="the fills from before")
        assert engine.stop() == 0
    check_books(home)
