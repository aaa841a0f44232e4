"""A container's engine: its keys are files that somebody mounts, and no terminal or window types any."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from koc_qt.domain.orders import OrderStatus
from koc_qt.domain.state import TradingMode
from koc_qt.link.client import connect
from tests.conditions import wait_until
from tests.e2e.account_desk import ACCOUNT, LABEL, AccountDesk, shown
from tests.e2e.exchange_process import Venue, venue
from tests.e2e.processes import Profile

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

LIVE, TESTNET = TradingMode.LIVE, TradingMode.TESTNET


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Venue]:
    with venue(tmp_path / "venue") as place:
        yield place


@pytest.fixture
def secrets(home: Profile, tmp_path: Path) -> Path:
    """Give the folder where keys are mounted, beside the profile."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    home.environment |= {"KOC_DOCKER": "1", "KOC_SECRETS_FOLDER": str(folder)}
    return folder


def mount(folder: Path, stem: str, keys: dict[str, str]) -> None:
    """Put keys where a container finds them, as Docker does."""
    for field, value in keys.items():
        file = folder / f"{stem}_{field}"
        file.write_text(f"{value}\n")
        file.chmod(0o444)


def knows_limits(home: Profile) -> bool:
    """Whether the engine knows what the venue lets the account do."""
    with connect(home.paths.run, home.paths.keys, name="test") as client:
        return ACCOUNT in {limits.account_id for limits in client.snapshot.limits}


def test_a_container_trades_with_keys_that_are_mounted(home: Profile, place: Venue, secrets: Path) -> None:
    desk = AccountDesk(home, place)
    described = {"id": "plain", "venue": "binance", "mode": "testnet"}  # in koc.yaml: plain names of files will do
    home.configure({"venues": {"binance": place.settings}, "accounts": [described], "account": "plain"})
    mount(secrets, "plain", place.keys[TESTNET])
    place.start()
    add = ("accounts", "add", "binance", "live", "--id", ACCOUNT, "--label", LABEL, "--confirm", LABEL)
    with home.engine() as engine:
        engine.wait_for_status(lambda status: shown(status, "plain")["state"] == "connected", "the described account")
        refused = home.koc(*add)
        assert refused.returncode == 1
        assert "mine_live_key     it is not mounted" in refused.stdout
        assert "mount mine_live_key and mine_live_secret in" in refused.stderr
        mount(secrets, "mine_live", place.keys[LIVE])
        added = home.koc(*add)
        assert (added.returncode, added.stderr) == (0, "")
        assert "Account mine was added: live on Binance." in added.stdout
        desk.wait_connected(engine)
        assert desk.buy().status is OrderStatus.FILLED
        wait_until(lambda: knows_limits(home), what="how much of its limits is used up")
        listed = home.koc("accounts")
        assert f"Keys are kept in: files in {secrets} (KOC_DOCKER=1 says that keys are mounted here)." in listed.stdout
        assert "  mine: Orders: " in listed.stdout
        assert engine.stop() == 0
    with home.engine() as engine:  # nobody unlocks anything: it is there again by itself
        desk.wait_connected(engine)
        assert desk.buy().status is OrderStatus.FILLED
        ours, _ = desk.check_books()
        assert len(ours) == 2
        engine.kill()
    assert not list(home.paths.keys.glob("accounts.keys"))
    values = [value for keys in place.keys.values() for value in keys.values()]
    said = "".join(run.stdout + run.stderr for run in (refused, added, listed))
    outputs = [*home.home.rglob("*"), *home.output_folder.glob("engine *.txt")]
    written = {file: file.read_bytes() for file in outputs if file.is_file()}
    assert {"koc.json", "accounts.yaml", "journal.sqlite", "engine 1.txt"} <= {file.name for file in written}
    assert [value for value in values if value in said] == []
    assert [file for file, data in written.items() if any(value.encode() in data for value in values)] == []
