"""``koc accounts`` and ``koc unlock``, with an engine that is only as much of one as they need."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from koc_qt import scrub as scrubbing
from koc_qt.accounts_file import AccountsFile, ManagedAccount
from koc_qt.cli import accounts as accounts_module
from koc_qt.cli.main import main
from koc_qt.domain.accounts import AccountDetails, SecretsState
from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode, VenueState
from koc_qt.link.account_messages import ListAccounts, SecretsStatus, UnlockSecrets
from koc_qt.paths import Paths

MINE = AccountDetails(
    "mine", "My money", "kraken", TradingMode.LIVE, True, True, (TradingMode.LIVE,), (TradingMode.LIVE,),
    VenueState.DISCONNECTED, "keys refused", None,
)  # fmt: skip


class Engine:
    """Answers as an engine does."""

    def __init__(self, *, locked: bool = True, new: bool = False) -> None:
        self.state = SecretsState("encrypted file of keys", True, locked, new, "no keyring can be used")
        self.typed: list[str] = []

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def request(self, command: Any, *, timeout_s: float) -> Any:
        """Give what is asked for, as builtins."""
        import msgspec

        assert timeout_s > 30, "a keyring may ask its owner"
        match command:
            case ListAccounts():
                return msgspec.to_builtins([MINE])
            case SecretsStatus():
                return msgspec.to_builtins(self.state)
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
    assert main(["accounts", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
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
