"""Keys in plain text among the accounts: moved, wiped and said, or left alone and said."""

from __future__ import annotations

from pathlib import Path

import pytest

from koc_qt import scrub as scrubbing
from koc_qt.domain.errors import ConfigError, SecretsUnavailable
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.link.account_messages import AddAccount, RenameAccount, UnlockSecrets
from koc_qt.link.messages import NoticeGiven
from tests.conditions import until
from tests.fakes.secrets import MemoryStore
from tests.unit.engine.account_desk import AccountDesk

LIVE, PAPER, TESTNET = TradingMode.LIVE, TradingMode.PAPER, TradingMode.TESTNET
CANARIES = ("canary-key-1", "canary-secret-1", "canary-key-2", "canary-secret-2", "canary-key-3", "canary-secret-3")
PLAIN = """\
accounts:
- {id: main, venue: kraken, mode: testnet, api_key: canary-key-1, api_secret: canary-secret-1}
- {id: play, venue: kraken, mode: paper, balances: {USD: 5}, apiKey: canary-key-2, secret: canary-secret-2}
- {id: stocks, venue: alpaca, mode: paper, balances: {USD: 5}, key: canary-key-3, secret: canary-secret-3}
- {id: clean, venue: kraken, mode: paper, balances: {USD: 5}}
"""


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


@pytest.mark.expected_warnings(
    r"Keys of main, play, stocks stood in plain text in .* They are in the store in memory now"
)
async def test_they_are_moved_wiped_and_the_person_is_told(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(PLAIN)
    (tmp_path / "accounts.yaml.bak").write_text(PLAIN)
    desk = AccountDesk(tmp_path)
    told: list[NoticeGiven] = []
    desk.bus.subscribe(NoticeGiven, told.append)
    await desk.start()
    assert desk.secrets.kept == {
        ("main", TESTNET): {"key": "canary-key-1", "secret": "canary-secret-1"},
        ("play", LIVE): {"key": "canary-key-2", "secret": "canary-secret-2"},  # on paper there it needs none
        ("stocks", PAPER): {"key": "canary-key-3", "secret": "canary-secret-3"},
    }
    assert {path.name for path in tmp_path.iterdir()} == {"accounts.yaml"}
    assert not [canary for canary in CANARIES if canary in desk.path.read_text()]
    assert [notice.text for notice in told] == desk.store.notices
    assert "wiped from the file. Make new keys at the venue if others could read that file" in desk.store.notices[0]
    states = {key: account.state for key, account in desk.store.accounts.items()}
    assert states == dict.fromkeys(("main", "play", "stocks", "clean"), VenueState.CONNECTED)
    assert [made for made in desk.factory.made if made[2]] == [
        ("main", TESTNET, {"key": "canary-key-1", "secret": "canary-secret-1"}),
        ("stocks", PAPER, {"key": "canary-key-3", "secret": "canary-secret-3"}),
    ]
    await desk.do(RenameAccount("main", "Main"))
    await desk.close()


@pytest.mark.expected_warnings("could not be moved: the store is locked", "They are in the store")
async def test_without_a_place_for_them_nothing_is_wiped_and_the_accounts_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "accounts.yaml").write_text(PLAIN)
    desk = AccountDesk(tmp_path, MemoryStore(passphrase="correct horse"))
    await desk.start()
    assert desk.path.read_text() == PLAIN
    assert {made[0] for made in desk.factory.made} == {"clean"}
    assert desk.store.accounts["main"].state is VenueState.DISCONNECTED
    assert "its keys stand in plain text in the accounts file" in desk.store.accounts["main"].reason
    assert "These accounts are not used until that is done" in desk.store.notices[0]
    with pytest.raises(SecretsUnavailable, match="its keys stand in plain text"):
        await desk.do(RenameAccount("main", "Main"))
    with pytest.raises(ConfigError, match="still has keys in plain text"):
        await desk.do(AddAccount("kraken", PAPER))
    assert desk.path.read_text() == PLAIN
    assert await desk.registry.data_credentials("alpaca") is None
    await desk.do(UnlockSecrets("correct horse"))
    await until(lambda: desk.store.accounts["main"].state is VenueState.CONNECTED, what="the account is used")
    assert not [canary for canary in CANARIES if canary in desk.path.read_text()]
    await desk.close()


@pytest.mark.expected_warnings(
    "could not be moved: the store is locked",
    "They are in the store in memory now",
    "added are not used: .*accounts.1.",
)
async def test_a_faulty_file_is_read_again_once_its_keys_are_gone_and_is_never_overwritten(tmp_path: Path) -> None:
    entry = "{id: main, venue: kraken, mode: testnet, credentials: {key: canary-key-1, secret: canary-secret-1}}"
    (tmp_path / "accounts.yaml").write_text(f"accounts:\n- {entry}\n- {{id: 5}}\n")
    desk = AccountDesk(tmp_path, MemoryStore(passphrase="correct horse"))
    await desk.start()
    assert desk.store.accounts == {}
    await desk.do(UnlockSecrets("correct horse"))
    assert desk.secrets.kept == {("main", TESTNET): {"key": "canary-key-1", "secret": "canary-secret-1"}}
    assert "accounts[1]" in desk.store.notices[-1]
    with pytest.raises(ConfigError, match="is at fault: correct it"):
        await desk.do(AddAccount("kraken", PAPER))
    assert "id: main" in desk.path.read_text()
    await desk.close()
    desk.path.write_text(desk.path.read_text().replace("- {id: 5}\n", ""))
    again = AccountDesk(tmp_path, desk.secrets)
    await again.start()
    assert again.store.accounts["main"].state is VenueState.CONNECTED
    await again.close()


@pytest.mark.expected_warnings("could not be wiped: Permission denied")
async def test_a_backup_that_stays_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "accounts.yaml").write_text(PLAIN)
    (tmp_path / "accounts.yaml.bak").write_text(PLAIN)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("koc_qt.accounts_file.shred", refuse)
    desk = AccountDesk(tmp_path)
    await desk.start()
    assert "delete them from that file and its backups" in desk.store.notices[0]
    assert desk.store.accounts["main"].state is VenueState.CONNECTED
    await desk.close()


@pytest.mark.expected_warnings("The accounts that were added are not used: .* belong to no account .line [12].: delete")
@pytest.mark.parametrize(
    "text",
    [
        "secret: canary-key-1\naccounts: [{id: a, venue: mtgox, mode: live}]\n",
        "# x\naccounts: {api_key: canary-key-1}\n",
    ],
)
async def test_a_file_at_fault_is_said_and_stays(tmp_path: Path, text: str) -> None:
    (tmp_path / "accounts.yaml").write_text(text)
    desk = AccountDesk(tmp_path)
    await desk.start()
    assert not [notice for notice in desk.store.notices if "canary" in notice]
    with pytest.raises(ConfigError):
        await desk.do(AddAccount("kraken", PAPER))
    assert desk.path.read_text() == text
    await desk.close()
