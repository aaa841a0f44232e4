"""The accounts that the engine keeps, and keys that stand among them in plain text."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from koc_qt import scrub as scrubbing
from koc_qt.accounts_file import AccountsFile, ManagedAccount, PastMode, in_fields, with_accounts
from koc_qt.config import Config, FeesConfig, load_config, switch_account
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.state import TradingMode
from koc_qt.paths import Paths
from koc_qt.scrub import scrub

LIVE, PAPER, TESTNET = TradingMode.LIVE, TradingMode.PAPER, TradingMode.TESTNET
KRAKEN = ManagedAccount("kraken-1", "kraken", LIVE, label="Main", past=(PastMode(PAPER, 1_700_000_000_000_000_000),))
PLAY = ManagedAccount(
    "play", "binance", PAPER, {"USDT": Decimal("0.10")}, True, 20.0, FeesConfig(Decimal("-0.0001"), Decimal("0.001"))
)
OLD = """\
# my accounts
accounts:
  - id: kraken-1
    venue: kraken
    mode: live
    api_key: canary-key-123
    apiSecret: "canary secret/456"
  - id: two
    venue: kucoin
    mode: paper
    balances: {USDT: 5}
    keys:
      live: {key: canary-live-key, secret: canary-live-secret, password: abc}
      testnet: {key: canary-test-key, secret: canary-test-secret, passphrase: xyz}
  - id: three
    venue: coinbase
    mode: live
    credentials:
      name: organizations/canary
      private_key: |
        -----BEGIN PEM-----
        canarycanarycanary
        -----END PEM-----
"""


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


@pytest.fixture
def file(profile: Paths) -> AccountsFile:
    return AccountsFile(profile.accounts_file)


def test_without_a_file_there_are_no_accounts_and_none_is_written(file: AccountsFile) -> None:
    assert file.read() == ((), (), "")
    assert not file.path.exists()


def test_what_is_written_reads_back_and_can_be_read_by_people(file: AccountsFile) -> None:
    file.read()
    file.write([KRAKEN, PLAY])
    text = file.path.read_text()
    assert text.startswith("# Accounts that were added in K.O.C.")
    assert "- id: kraken-1\n  label: Main\n  venue: kraken\n  mode: live\n  enabled: true\n  past:\n" in text
    assert "latency" not in text.partition("id: play")[0]
    assert AccountsFile(file.path).read().accounts == (KRAKEN, PLAY)
    file.write([PLAY])
    assert file.read().accounts == (PLAY,)
    if os.name == "posix":
        assert file.path.stat().st_mode & 0o777 == 0o600


def test_an_order_belongs_to_the_mode_in_which_it_was_made() -> None:
    account = ManagedAccount("a", "kraken", PAPER, past=(PastMode(PAPER, 10), PastMode(LIVE, 20)))
    assert [account.mode_at(time_ns) for time_ns in (1, 10, 11, 20, 21)] == [PAPER, PAPER, LIVE, LIVE, PAPER]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("accounts:\n  - {id: a, venue: kraken, mode: life}\n", "line 2: accounts[0].mode must be one of"),
        ("accounts:\n  - {id: a, venue: mtgox, mode: live}\n", "line 2: accounts[0].venue is 'mtgox'"),
        (
            "accounts:\n  - {id: a, venue: kraken, mode: live}\n  - {id: a, venue: kraken, mode: live}\n",
            "line 3: accou",
        ),
        ("accounts:\n  - {id: a, venue: kraken, mode: live, colour: red}\n", "unknown key 'colour'"),
        ("accounts: [\n", "this is not YAML"),
    ],
)
def test_a_file_at_fault_is_said_with_the_line_and_left_alone(file: AccountsFile, text: str, said: str) -> None:
    file.path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        file.read()
    assert said in str(caught.value)
    with pytest.raises(ConfigError, match=r"correct it, and start the engine again|once it can be"):
        file.write([KRAKEN])
    assert file.path.read_text() == text


def test_what_somebody_else_wrote_meanwhile_is_not_lost(file: AccountsFile) -> None:
    file.read()
    file.path.write_text("accounts: []\n")
    with pytest.raises(ConfigError, match="was changed by somebody else"):
        file.write([KRAKEN])
    assert file.path.read_text() == "accounts: []\n"
    file.read()
    file.write([KRAKEN])


def test_a_full_disk_leaves_the_old_file(file: AccountsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.read()
    file.write([KRAKEN])

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ConfigError, match="No space left on device; it is as it was before"):
            file.write([KRAKEN, PLAY])
    assert AccountsFile(file.path).read().accounts == (KRAKEN,)


def test_plain_keys_are_found_at_any_depth_with_their_account_and_mode(file: AccountsFile) -> None:
    file.path.write_text(OLD)
    contents = file.read()
    found = {(keys.account_id, keys.venue, keys.mode): dict(keys.fields) for keys in contents.plain}
    assert found == {
        ("kraken-1", "kraken", LIVE): {"api_key": "canary-key-123", "apiSecret": "canary secret/456"},
        ("two", "kucoin", LIVE): {"key": "canary-live-key", "secret": "canary-live-secret", "password": "abc"},
        ("two", "kucoin", TESTNET): {"key": "canary-test-key", "secret": "canary-test-secret", "passphrase": "xyz"},
        ("three", "coinbase", LIVE): {
            "name": "organizations/canary",
            "private_key": "-----BEGIN PEM-----\ncanarycanarycanary\n-----END PEM-----\n",
        },
    }
    assert contents.trouble == ""
    assert "canary" not in f"{contents!r} {contents}"
    assert scrub("a canary secret/456 and canarycanarycanary") == "a *** and ***"
    assert file.path.read_text() == OLD, "reading changes nothing"


def test_wiping_takes_them_out_of_the_file_and_of_its_copies(file: AccountsFile) -> None:
    file.path.write_text(OLD)
    folder = file.path.parent
    copies = ["accounts.yaml~", "accounts.yaml.bak", ".accounts.yaml.swp", "#accounts.yaml#", ".koc-x1.tmp"]
    for name in copies:
        (folder / name).write_text(OLD if name != ".accounts.yaml.swp" else "... canary-key-123 ...")
    (folder / "accounts.yaml.orig").write_text("accounts: []\n")
    (folder / "koc.yaml").write_text("# canary-key-123 is not ours to delete\n")
    file.read()
    file.wipe()
    assert sorted(path.name for path in folder.iterdir()) == ["accounts.yaml", "accounts.yaml.orig", "koc.yaml"]
    text = file.path.read_text()
    assert "canary" not in text
    assert "xyz" not in text
    contents = AccountsFile(file.path)
    with pytest.raises(ConfigError, match="unknown key 'keys'"):
        contents.read()


@pytest.mark.skipif(os.name != "posix", reason="a hard link shows what became of the old file")
def test_the_old_files_content_is_overwritten(file: AccountsFile, tmp_path: Path) -> None:
    file.path.write_text(OLD)
    os.link(file.path, tmp_path / "the-same-file")
    file.read()
    file.wipe()
    assert set((tmp_path / "the-same-file").read_bytes()) == {0}


def test_a_file_with_plain_keys_is_not_overwritten(file: AccountsFile) -> None:
    text = "accounts:\n- {id: kraken-1, venue: kraken, mode: live, api_key: canary-key-123}\n"
    file.path.write_text(text)
    contents = file.read()
    assert [account.id for account in contents.accounts] == ["kraken-1"]
    with pytest.raises(ConfigError, match="still has keys in plain text"):
        file.write([KRAKEN])
    assert file.path.read_text() == text
    file.wipe()
    file.write([KRAKEN, PLAY])


def test_keys_of_no_account_are_said_and_stay(file: AccountsFile) -> None:
    text = "secret: canary-123\naccounts:\n- {venue: kraken, mode: live, api_key: canary-456}\n"
    file.path.write_text(text)
    with pytest.raises(ConfigError, match="lacks 'id'") as caught:
        file.read()
    assert "canary" not in str(caught.value)
    file.path.write_text("secret: canary-123\naccounts: []\n")
    assert file.read().trouble.endswith("has keys in plain text that belong to no account (line 1): delete them")


def test_empty_keys_are_none(file: AccountsFile) -> None:
    file.path.write_text("accounts:\n- {id: a, venue: kraken, mode: live, api_key: '', secret: }\n")
    contents = file.read()
    assert contents.plain == ()
    assert [account.id for account in contents.accounts] == ["a"]


def test_a_backup_that_cannot_be_wiped_is_said(file: AccountsFile, monkeypatch: pytest.MonkeyPatch) -> None:
    file.path.write_text(OLD)
    (file.path.parent / "accounts.yaml.bak").write_text(OLD)
    file.read()

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("koc_qt.accounts_file.shred", refuse)
    with pytest.raises(ConfigError, match=r"could not be wiped: Permission denied\. They are kept elsewhere now"):
        file.wipe()


@pytest.mark.parametrize(
    ("found", "fields", "named"),
    [
        ({"api_key": "1", "api_secret": "2"}, ("key", "secret"), {"key": "1", "secret": "2"}),
        ({"apiKey": "1", "privateKey": "2"}, ("key", "secret"), {"key": "1", "secret": "2"}),
        ({"key": "1", "password": "3"}, ("key", "secret", "passphrase"), {"key": "1", "passphrase": "3"}),
        ({"name": "1", "pem": "2"}, ("key", "secret"), {"key": "1", "secret": "2"}),
        ({"secret": "1", "secret_key": "2"}, ("key", "secret"), {"secret": "1", "secret_key": "2"}),
        ({"token": "1"}, ("key",), {"key": "1"}),
    ],
)  # fmt: skip
def test_keys_get_the_names_that_the_venue_uses(
    found: dict[str, str], fields: tuple[str, ...], named: dict[str, str]
) -> None:
    assert in_fields(found, fields) == named


def test_the_accounts_stand_beside_those_of_the_configuration(file: AccountsFile, profile: Paths) -> None:
    same = ManagedAccount("sim", "kraken", LIVE)
    file.read()
    file.write([KRAKEN, same])
    merged = with_accounts(Config(), profile)
    assert [account.id for account in merged.accounts] == ["sim", "sim2", "binance-paper", "kraken-1"]
    assert merged.find_account("sim").venue == "sim", "koc.yaml comes first"
    profile.config_file.write_text("account: kraken-1\n")
    assert with_accounts(load_config(profile), profile).find_account() == KRAKEN
    profile.config_file.write_text("strategies:\n- {path: a.py, account: kraken-1, symbols: [BTC/USD]}\n")
    assert load_config(profile).strategies[0].account == "kraken-1"
    assert switch_account(merged, "kraken-1", profile).account == "kraken-1"
    assert profile.config_file.read_text().startswith("account: kraken-1\n")
    profile.config_file.unlink()
    file.path.write_text("accounts: [\n")
    assert with_accounts(Config(), profile) == Config()
