"""``koc accounts`` and ``koc unlock``, with an engine that is only as much of one as they need."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from koc_qt import scrub as scrubbing
from koc_qt.accounts_file import AccountsFile, ManagedAccount
from koc_qt.cli import accounts as accounts_module
from koc_qt.cli.main import main
from koc_qt.domain.accounts import AccountDetails, AccountLimits, KeyFile, KeyFiles, PaperOptions, SecretsState
from koc_qt.domain.errors import ConfigError, SecretsUnavailable
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import Balance, TradingMode, VenueState
from koc_qt.domain.venues import CredentialField, Quota, VenueAbilities
from koc_qt.link.account_messages import (
    AddAccount,
    ListAccounts,
    ListKeyFiles,
    ListVenues,
    SecretsStatus,
    UnlockSecrets,
)
from koc_qt.paths import Paths
from tests.fakes.link import FakeEngine

MINE = AccountDetails(
    "mine", "My money", "kraken", TradingMode.LIVE, True, True, (TradingMode.LIVE,), (TradingMode.LIVE,),
    VenueState.DISCONNECTED, "keys refused", None,
)  # fmt: skip


KRAKEN = VenueAbilities(
    "kraken", "Kraken", trading=True,
    credentials=(
        CredentialField("key", "API key"),
        CredentialField("secret", "Private key", "Shown once", is_multiline=True),
    ),
)  # fmt: skip


class Engine:
    """Answers as an engine does."""

    def __init__(self, *, locked: bool = True, new: bool = False) -> None:
        self.state = SecretsState("encrypted file of keys", True, locked, new, "no keyring can be used")
        self.typed: list[str] = []
        quotas = (Quota("orders", 12, 100, 10.0), Quota("requests", 340, 6_000, 60.0))
        limits = (AccountLimits("mine", quotas, can_withdraw=False), AccountLimits("other"))
        self.snapshot = msgspec.structs.replace(FakeEngine().snapshot(), limits=limits, risk=RiskLimits())
        self.files = KeyFiles("kraken-live")
        self.added: list[AddAccount] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def request(self, command: Any, *, timeout_s: float) -> Any:
        """Give what is asked for, as builtins."""
        assert timeout_s > 30, "a keyring may ask its owner"
        match command:
            case ListAccounts():
                return msgspec.to_builtins([MINE])
            case SecretsStatus():
                return msgspec.to_builtins(self.state)
            case ListVenues():
                return msgspec.to_builtins([KRAKEN])
            case ListKeyFiles(venue, _, account_id):
                if venue != "kraken":
                    raise ConfigError(f"there is no venue {venue!r}; there are: kraken")
                return msgspec.to_builtins(
                    msgspec.structs.replace(self.files, account_id=account_id or self.files.account_id)
                )
            case AddAccount(account_id=account_id):
                self.added.append(command)
                return account_id
            case UnlockSecrets(passphrase):
                self.typed.append(passphrase)
                if passphrase != "correct horse":
                    raise SecretsUnavailable("this is not the passphrase")
                return None
        raise AssertionError(command)


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


def reach(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> Engine:
    monkeypatch.setattr(accounts_module, "_connect", lambda: engine)
    return engine


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Type lines at a terminal."""
    left = list(lines)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda prompt: left.pop(0))


@pytest.mark.usefixtures("profile")
def test_accounts_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reach(monkeypatch, Engine())
    assert main(["accounts"]) == 0
    out = capsys.readouterr().out
    assert "mine     My money  kraken  live  disconnected  live      keys refused" in out
    assert "Keys are kept in: encrypted file of keys (no keyring can be used)." in out
    assert "It is locked: 'koc unlock' opens it." in out
    limits = "Orders: 12 of 100 in 10 s · Requests: 340 of 6,000 a minute · the key cannot withdraw"
    risk = "50,000 an order · 100,000 a position · loss of 5,000 a day"
    assert f"\nLimits:\n  mine: {limits}\n  each strategy: {risk}" in out
    assert main(["accounts", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["limits"]["mine"]["quotas"][0] == {"what": "orders", "used": 12, "allowed": 100, "seconds": 10.0}
    assert told["risk"]["max_order_notional"] == "50000"
    assert (told["engine"], told["keys"]["is_locked"], told["accounts"][0]["account_id"]) == (True, True, "mine")


def test_without_an_engine_the_files_are_listed(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    file = AccountsFile(profile.accounts_file)
    file.read()
    file.write([ManagedAccount("mine", "kraken", TradingMode.LIVE, enabled=False)])
    assert main(["accounts"]) == 0
    out = capsys.readouterr().out
    assert "mine           -      kraken   live       off" in out
    assert "sim2" in out
    assert "No engine runs on this profile" in out
    assert main(["accounts", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["engine"] is False
    profile.accounts_file.write_text("accounts: [\n")
    assert main(["accounts"]) == 1
    assert "accounts.yaml, line" in capsys.readouterr().err


@pytest.mark.usefixtures("profile")
def test_the_passphrase_is_typed_and_shown_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = reach(monkeypatch, Engine())
    type_in(monkeypatch, "correct horse")
    assert main(["unlock"]) == 0
    assert engine.typed == ["correct horse"]
    assert capsys.readouterr().out == "Keys are unlocked until the engine ends.\n"
    type_in(monkeypatch, "wrong horse")
    assert main(["unlock"]) == 1
    shown = capsys.readouterr()
    assert "koc: this is not the passphrase" in shown.err
    assert "horse" not in shown.out + shown.err


@pytest.mark.usefixtures("profile")
def test_a_new_passphrase_is_typed_twice(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = reach(monkeypatch, Engine(new=True))
    type_in(monkeypatch, "correct horse", "correct house")
    assert main(["unlock"]) == 1
    assert "two different passphrases" in capsys.readouterr().err
    assert engine.typed == []
    type_in(monkeypatch, "correct horse", "correct horse")
    assert main(["unlock"]) == 0
    assert engine.typed == ["correct horse"]


@pytest.mark.usefixtures("profile")
def test_it_can_come_from_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = reach(monkeypatch, Engine())
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\r\nand more\n"))
    assert main(["unlock"]) == 0
    assert engine.typed == ["correct horse"]


@pytest.mark.usefixtures("profile")
def test_nothing_need_be_unlocked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    reach(monkeypatch, Engine(locked=False))
    assert main(["unlock"]) == 0
    assert "Nothing is locked" in capsys.readouterr().out


@pytest.mark.usefixtures("profile")
def test_unlocking_needs_an_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unlock"]) == accounts_module.NO_ENGINE
    assert "koc: " in capsys.readouterr().err


# ---- adding


@pytest.mark.usefixtures("profile")
def test_keys_are_typed_and_shown_nowhere(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine, asked = reach(monkeypatch, Engine(locked=False)), list[str]()
    left = ["canary-key-1234", " canary\\nsecret ", "Mine"]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return left.pop(0)

    monkeypatch.setattr("getpass.getpass", answer)
    monkeypatch.setattr("builtins.input", answer)
    assert main(["accounts", "add", "kraken", "live", "--label", "Mine"]) == 0
    keys = {"key": "canary-key-1234", "secret": "canary\nsecret"}
    live = TradingMode.LIVE
    assert engine.added == [AddAccount("kraken", live, "kraken-live", "Mine", keys, None, "Mine")]
    assert asked == [
        "API key: ",
        "Private key (Shown once); write \\n for the end of a line: ",
        "This trades with real money. Type the account's name, 'Mine', to confirm it: ",
    ]
    shown = capsys.readouterr()
    assert shown.out == "Account kraken-live was added: live on Kraken. 'koc accounts' says whether it can be used.\n"
    assert "canary" not in shown.out + shown.err


@pytest.mark.usefixtures("profile")
def test_keys_come_from_a_pipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine, keys = reach(monkeypatch, Engine(locked=False)), {"key": "canary-key-1234", "secret": "canary-secret"}
    words = ["accounts", "add", "kraken", "live", "--id", "main"]
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(keys)))
    assert main([*words, "--confirm", "main"]) == 0
    assert engine.added[-1] == AddAccount("kraken", TradingMode.LIVE, "main", "", keys, None, "main")
    for wrong in ("canary-key-1234", '{"key": 5}', '["canary-secret"]', ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(wrong))
        assert main(words) == 1
        said = capsys.readouterr().err
        assert "koc: no keys came in: without a terminal they are one JSON object with the fields key and" in said
        assert "canary" not in said
    assert len(engine.added) == 1


@pytest.mark.usefixtures("profile")
def test_a_paper_account_needs_money_and_no_keys(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = reach(monkeypatch, Engine(locked=False))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main(["accounts", "add", "kraken", "paper", "--id", "play"]) == 0
    assert engine.added[-1].paper == PaperOptions()
    assert main(["accounts", "add", "kraken", "paper", "--balance", "USD=500.5", "--balance", "BTC=1"]) == 0
    assert engine.added[-1].paper == PaperOptions((Balance("USD", Decimal("500.5")), Balance("BTC", Decimal(1))))
    for wrong in ("500", "USD=", "=5", "USD=-1", "USD=NaN", "USD=lots"):
        with pytest.raises(SystemExit):
            main(["accounts", "add", "kraken", "paper", "--balance", wrong])
        assert f"{wrong!r} is no money: write it like USDT=10000" in capsys.readouterr().err
    assert main(["accounts", "add", "mtgox", "paper"]) == 1
    assert "koc: there is no venue 'mtgox'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["accounts", "add", "kraken", "real"])


@pytest.mark.usefixtures("profile")
def test_mounted_keys_are_named_and_never_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = reach(monkeypatch, Engine(locked=False))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    there, missing = KeyFile("key", "main_testnet_key"), KeyFile("secret", "main_testnet_secret", "it is not mounted")
    engine.files = KeyFiles("main", "/run/secrets", (there, missing))
    words = ["accounts", "add", "kraken", "testnet"]
    assert main(words) == 1
    shown = capsys.readouterr()
    assert shown.out == (
        "Keys of account main are read from files in /run/secrets:\n"
        "  main_testnet_key     it is there\n"
        "  main_testnet_secret  it is not mounted\n"
    )
    assert "koc: mount main_testnet_secret in /run/secrets, and try again: nothing was added" in shown.err
    assert engine.added == []
    engine.files = KeyFiles("main", "/run/secrets", (there, KeyFile("secret", "main_testnet_secret")))
    assert main(words) == 0
    assert engine.added == [AddAccount("kraken", TradingMode.TESTNET, "main")]


@pytest.mark.usefixtures("profile")
def test_without_an_engine_nothing_is_added(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["accounts", "add", "kraken", "paper"]) == 3
    assert "koc: no engine" in capsys.readouterr().err


@pytest.mark.usefixtures("profile")
def test_nobody_types_a_key_for_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    engine = reach(monkeypatch, Engine())
    monkeypatch.setattr("sys.stdin", io.StringIO('{"key": "canary-key-1234", "secret": "canary-secret"}'))
    assert main(["accounts", "add", "kraken", "testnet"]) == 1
    assert "koc: the encrypted file of keys is locked: 'koc unlock' opens it." in capsys.readouterr().err
    engine.state = SecretsState("nowhere", False, False, False, "there is no folder /run/secrets: mount the keys there")
    assert main(["accounts", "add", "kraken", "testnet"]) == 1
    assert "koc: no key can be kept here: there is no folder /run/secrets" in capsys.readouterr().err
    assert engine.added == []
