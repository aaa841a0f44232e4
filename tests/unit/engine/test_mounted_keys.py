"""Accounts whose keys are mounted as files: they are added with what is there, and nobody is asked to type any."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from koc_qt.adapters.secrets.mounted_store import MountedStore
from koc_qt.domain.accounts import AccountDetails, KeyFile, KeyFiles, SecretsState
from koc_qt.domain.errors import ConfigError, SecretsUnavailable
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.domain.venues import ConnectionReport
from koc_qt.link.account_messages import (
    AddAccount,
    ListAccounts,
    ListKeyFiles,
    RemoveAccount,
    SecretsStatus,
    SwitchAccount,
    TestConnection,
    UpdateCredentials,
)
from tests.conditions import until
from tests.unit.engine.account_desk import KEYS, OTHERS, AccountDesk

LIVE, TESTNET, PAPER = TradingMode.LIVE, TradingMode.TESTNET, TradingMode.PAPER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir()
    return folder


@pytest.fixture
async def desk(tmp_path: Path, folder: Path) -> AsyncIterator[AccountDesk]:
    desk = AccountDesk(tmp_path, mounted=MountedStore(("key", "secret"), {}, folder))
    await desk.start()
    yield desk
    await desk.close()


def mount(folder: Path, account_id: str, mode: TradingMode, keys: dict[str, str] = KEYS) -> None:
    for field, value in keys.items():
        file = folder / f"{account_id}_{mode}_{field}"
        file.write_text(f"{value}\n")
        file.chmod(0o444 if keys is not OTHERS else 0o644)


async def files(desk: AccountDesk, mode: TradingMode = LIVE, account_id: str = "", venue: str = "kraken") -> KeyFiles:
    return msgspec.convert(await desk.do(ListKeyFiles(venue, mode, account_id)), KeyFiles)


async def test_what_has_to_be_mounted_is_said(desk: AccountDesk, folder: Path) -> None:
    state = msgspec.convert(await desk.do(SecretsStatus()), SecretsState)
    assert state == SecretsState(f"files in {folder}", False, False, False, "a test wants it", str(folder))
    lacks = "it is not mounted"
    names = ("mine_live_key", "mine_live_secret")
    expected = tuple(KeyFile(name.rpartition("_")[2], name, lacks) for name in names)
    assert await files(desk, account_id="mine") == KeyFiles("mine", str(folder), expected)
    mount(folder, "mine", LIVE, {"key": "k-123456"})
    (folder / "mine_live_secret").touch(0o444)
    found = (await files(desk, account_id="mine")).files
    assert [each.problem for each in found] == ["", f"{folder}/mine_live_secret is empty: put the key in it"]
    assert (await files(desk, PAPER)) == KeyFiles("kraken-paper"), "which needs no keys"
    with pytest.raises(ConfigError, match="cannot be"):
        await files(desk, account_id="../../etc/passwd")
    with pytest.raises(ConfigError, match="there is no venue"):
        await files(desk, venue="mtgox")


async def test_an_id_whose_files_are_there_is_proposed(desk: AccountDesk, folder: Path) -> None:
    assert (await files(desk)).account_id == "kraken"
    mount(folder, "half", LIVE, {"key": "k-123456"})
    mount(folder, "no id!", LIVE)
    mount(folder, "other", TESTNET)
    assert (await files(desk)).account_id == "kraken"
    mount(folder, "mine", LIVE)
    assert [each.problem for each in (await files(desk)).files] == ["", ""]
    await desk.do(AddAccount("kraken", LIVE, "mine", confirmation="mine"))
    mount(folder, "yours", LIVE)
    assert (await files(desk)).account_id == "yours", "of those that are not taken"
    await desk.do(AddAccount("kraken", LIVE, "yours", confirmation="yours"))
    assert (await files(desk)).account_id == "kraken"


async def test_an_account_is_added_with_what_is_mounted(desk: AccountDesk, folder: Path) -> None:
    with pytest.raises(SecretsUnavailable, match=f"mount mine_live_key and mine_live_secret in {folder}"):
        await desk.do(AddAccount("kraken", LIVE, "mine", confirmation="mine"))
    mount(folder, "mine", LIVE, {"key": "k-123456"})
    with pytest.raises(SecretsUnavailable, match=f"its secret for live mode .*: mount mine_live_secret in {folder}"):
        await desk.do(AddAccount("kraken", LIVE, "mine", confirmation="mine"))
    mount(folder, "mine", LIVE)
    with pytest.raises(SecretsUnavailable, match="keys are mounted here, and cannot be written: mount mine_live_key"):
        await desk.do(AddAccount("kraken", LIVE, "mine", credentials=OTHERS, confirmation="mine"))
    with pytest.raises(ConfigError, match="type the account's name"):
        await desk.do(AddAccount("kraken", LIVE, "mine"))
    assert desk.registry.all == []
    assert await desk.do(AddAccount("kraken", LIVE, "mine", confirmation="mine")) == "mine"
    await until(lambda: desk.store.accounts["mine"].state is VenueState.CONNECTED)
    assert desk.factory.made == [("mine", LIVE, KEYS)]
    assert desk.store.accounts["mine"].has_keys
    assert not [value for value in KEYS.values() if value in desk.path.read_text()]


async def test_what_is_mounted_is_tried_before_there_is_an_account(desk: AccountDesk, folder: Path) -> None:
    async def report(account_id: str) -> ConnectionReport:
        return msgspec.convert(await desk.do(TestConnection("kraken", LIVE, account_id=account_id)), ConnectionReport)

    assert "mount mine_live_key" in (await report("mine")).problem
    assert "cannot be" in (await report("../mine")).problem
    mount(folder, "mine", LIVE)
    assert (await report("mine")).can_trade
    assert desk.factory.tested == [("mine", LIVE, KEYS)]
    assert desk.registry.all == []


@pytest.mark.expected_warnings("account mine is live now")
async def test_files_come_and_go_without_us(desk: AccountDesk, folder: Path) -> None:
    async def kept() -> tuple[TradingMode, ...]:
        [told] = msgspec.convert(await desk.do(ListAccounts()), list[AccountDetails])
        return told.keys_for

    mount(folder, "mine", TESTNET)
    await desk.do(AddAccount("kraken", TESTNET, "mine"))
    await until(lambda: desk.store.accounts["mine"].state is VenueState.CONNECTED)
    assert await kept() == (TESTNET,)
    with pytest.raises(SecretsUnavailable, match=r"keys for live mode are not kept .*: mount mine_live_key"):
        await desk.do(SwitchAccount("mine", LIVE, "mine"))
    mount(folder, "mine", LIVE, OTHERS)
    assert await kept() == (TESTNET, LIVE)
    await desk.do(SwitchAccount("mine", LIVE, "mine"))
    assert desk.factory.made[-1] == ("mine", LIVE, OTHERS)

    mount(folder, "mine", LIVE, {name: f"new-{value}" for name, value in OTHERS.items()})
    await desk.do(UpdateCredentials("mine", {}))
    assert desk.factory.made[-1][2] == {name: f"new-{value}" for name, value in OTHERS.items()}
    (folder / "mine_live_key").unlink()
    with pytest.raises(SecretsUnavailable, match="mount mine_live_key"):
        await desk.do(UpdateCredentials("mine", {}))
    assert desk.store.accounts["mine"].state is VenueState.CONNECTED, "nothing was disturbed"
    with pytest.raises(SecretsUnavailable, match="cannot be written"):
        await desk.do(UpdateCredentials("mine", KEYS))


@pytest.mark.expected_warnings("account 'mine' was removed, but the keys of mine are mounted")
async def test_who_removes_an_account_is_told_that_its_files_are_left(desk: AccountDesk, folder: Path) -> None:
    mount(folder, "mine", LIVE)
    await desk.do(AddAccount("kraken", LIVE, "mine", confirmation="mine"))
    await until(lambda: desk.store.accounts["mine"].state is VenueState.CONNECTED)
    await desk.do(RemoveAccount("mine"))
    assert desk.registry.all == []
    [notice] = desk.store.notices
    assert notice.startswith(f"account 'mine' was removed, but the keys of mine are mounted in {folder}")
    mount(folder, "kraken-paper", PAPER, {})
    await desk.do(AddAccount("kraken", PAPER))
    await desk.do(RemoveAccount("kraken-paper"))
    assert desk.store.notices == [notice]
