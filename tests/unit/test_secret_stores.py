"""What is particular about each store of keys, and which one is chosen."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import keyring
import pytest

from koc_qt import scrub as scrubbing
from koc_qt.adapters.secrets import (
    EncryptedFileStore,
    KeyringStore,
    MountedStore,
    choose_store,
    encrypted_file,
    keyring_store,
)
from koc_qt.adapters.secrets import (
    choice as choice_module,
)
from koc_qt.domain.accounts import KeyFile
from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.paths import Paths
from koc_qt.ports.secrets import LockableStore
from koc_qt.scrub import scrub
from tests.fakes.keyring import NO_KEYRING, NULL_KEYRING, MemoryKeyring, PlaintextKeyring, UselessKeyring

LIVE, TESTNET = TradingMode.LIVE, TradingMode.TESTNET
KEYS = {"key": "k-123456", "secret": "s-abcdef"}
OTHERS = {"key": "k-654321", "passphrase": "p-fedcba"}
PHRASE = "correct horse battery"
posix = pytest.mark.skipif(os.name != "posix", reason="modes of files are POSIX's")


@pytest.fixture(autouse=True)
def _quick_and_forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted_file, "COST", 1 << 10)
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


# ---- keyring


def test_entries_tell_profile_account_mode_and_field_apart() -> None:
    backend = MemoryKeyring()
    KeyringStore("/a", backend).put("main", LIVE, {"key": "k-123456"})
    assert sorted(backend.entries) == [("K.O.C. /a", "main/live/index"), ("K.O.C. /a", "main/live/key.b")]
    assert KeyringStore("/b", backend).get("main", LIVE) is None


@pytest.mark.parametrize("writes", range(10))
def test_a_crash_leaves_the_old_keys_or_the_new_ones_and_no_rest(writes: int) -> None:
    backend = MemoryKeyring()
    store = KeyringStore("/a", backend)
    store.put("main", LIVE, KEYS)
    backend.fail_after = writes
    if writes < 7:
        with pytest.raises(SecretsUnavailable, match="cannot"):
            store.put("main", LIVE, OTHERS)
    else:
        store.put("main", LIVE, OTHERS)
    backend.fail_after = None
    assert dict(store.get("main", LIVE) or {}) in (KEYS, OTHERS)
    store.put("main", LIVE, {"key": "k-000000"})
    assert len(backend.entries) == 2, "what the crash left behind is gone"
    store.delete("main")
    assert backend.entries == {}


@pytest.mark.parametrize("writes", range(5))
def test_keys_whose_deletion_broke_off_are_gone_all_the_same(writes: int) -> None:
    backend = MemoryKeyring()
    store = KeyringStore("/a", backend)
    store.put("main", LIVE, KEYS)
    backend.fail_after = writes
    if writes < 4:
        with pytest.raises(SecretsUnavailable):
            store.delete("main")
    backend.fail_after = None
    assert (store.get("main", LIVE) is None) is (0 < writes < 4)
    store.delete("main")
    assert backend.entries == {}


def test_a_locked_keyring_says_so() -> None:
    backend = MemoryKeyring()
    store = KeyringStore("/a", backend)
    backend.locked = True
    with pytest.raises(SecretsUnavailable, match="is locked: unlock it"):
        store.get("main", LIVE)
    with pytest.raises(SecretsUnavailable, match="is locked"):
        KeyringStore("/a", backend)


def test_what_a_keyring_raises_shows_no_key() -> None:
    backend = MemoryKeyring()
    store = KeyringStore("/a", backend)
    backend.broken = RuntimeError("could not store k-123456")
    with pytest.raises(SecretsUnavailable) as caught:
        store.put("main", LIVE, KEYS)
    assert "k-123456" not in f"{caught.value} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


def test_damaged_entries_are_said() -> None:
    backend = MemoryKeyring()
    store = KeyringStore("/a", backend)
    store.put("main", LIVE, KEYS)
    del backend.entries["K.O.C. /a", "main/live/key.b"]
    with pytest.raises(SecretsUnavailable, match=r"lost a part of the keys of main \(live\)"):
        store.get("main", LIVE)
    backend.entries["K.O.C. /a", "main/live/index"] = "{"
    with pytest.raises(SecretsUnavailable, match=r"'main/live/index' of 'K.O.C. /a'.* is damaged"):
        store.get("main", LIVE)


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        (NO_KEYRING, "no keyring"),
        (NULL_KEYRING, "no keyring"),
        (PlaintextKeyring(), "plain text"),
        (UselessKeyring(), "does not work here"),
    ],
)
def test_keyrings_that_protect_nothing_are_refused(backend: Any, said: str) -> None:
    with pytest.raises(SecretsUnavailable, match=said):
        KeyringStore("/a", backend)


def test_of_several_keyrings_the_best_usable_one_is_taken() -> None:
    chain = type("ChainerBackend", (), {"backends": [PlaintextKeyring(), good := MemoryKeyring()]})
    chain.__module__ = "keyring.backends.chainer"
    KeyringStore("/a", chain()).put("main", LIVE, KEYS)
    assert len(good.entries) == 3
    chain.backends = [PlaintextKeyring()]  # type: ignore[attr-defined]
    with pytest.raises(SecretsUnavailable, match="no keyring"):
        KeyringStore("/a", chain())


def test_the_systems_keyring_is_asked_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = MemoryKeyring()
    monkeypatch.setattr(keyring, "get_keyring", lambda: backend)
    assert KeyringStore("/a").title == backend.name

    def broken() -> Any:
        raise RuntimeError("no bus")

    monkeypatch.setattr(keyring, "get_keyring", broken)
    with pytest.raises(SecretsUnavailable, match=r"cannot be asked \(RuntimeError\)"):
        KeyringStore("/a")


def test_keyrings_have_names_that_people_know() -> None:
    for module, title in (
        ("keyring.backends.SecretService", "Secret Service keyring"),
        ("keyring.backends.kwallet", "KWallet"),
        ("keyring.backends.Windows", "Windows Credential Locker"),
    ):
        backend = type("Keyring", (MemoryKeyring,), {"__module__": module})()
        assert KeyringStore("/a", backend).title == title
    assert set(keyring_store._TITLES) >= {"SecretService", "kwallet", "Windows"}


# ---- mounted files


def mount(folder: Path, name: str, data: str | bytes, mode: int = 0o444) -> None:
    file = folder / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    file.chmod(mode)


def test_plain_names_are_for_accounts_whose_mode_is_fixed(tmp_path: Path) -> None:
    store = MountedStore(("key", "secret"), {"main": LIVE}, tmp_path)
    mount(tmp_path, "main_key", "k-123456\n")
    mount(tmp_path, "main_testnet_key", "t-123456\r\n")
    mount(tmp_path, "other_key", "o-123456\n")
    assert dict(store.get("main", LIVE) or {}) == {"key": "k-123456"}
    assert dict(store.get("main", TESTNET) or {}) == {"key": "t-123456"}, "a live key is never read for testnet"
    assert store.get("main", TradingMode.PAPER) is None
    assert store.get("other", LIVE) is None, "whose mode can be switched"


def test_a_name_that_fits_two_accounts_is_for_the_one_that_it_names_plainly(tmp_path: Path) -> None:
    store = MountedStore(("key",), {"main_live": TESTNET}, tmp_path)
    mount(tmp_path, "main_live_key", "k-123456\n")
    assert store.get("main", LIVE) is None
    assert dict(store.get("main_live", TESTNET) or {}) == {"key": "k-123456"}


@pytest.mark.parametrize(
    ("data", "said"),
    [("", "is empty"), (" \n", "is empty"), ("x" * 20_000, "longer than 16 kB"), (b"\xff\xfe\x00", "is no text")],
)
def test_what_is_no_key_is_refused(tmp_path: Path, data: str | bytes, said: str) -> None:
    mount(tmp_path, "main_live_key", data)
    with pytest.raises(SecretsUnavailable, match=said):
        MountedStore(("key",), {}, tmp_path).get("main", LIVE)


@posix
def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    mount(tmp_path, "main_live_key", "k-123456", 0o464)
    with pytest.raises(SecretsUnavailable, match=r"can be written by others \(mode 0464\)"):
        MountedStore(("key",), {}, tmp_path).get("main", LIVE)


@posix
def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "main_live_key").mkdir()
    with pytest.raises(SecretsUnavailable, match="cannot be read: Is a directory"):
        MountedStore(("key",), {}, tmp_path).get("main", LIVE)


def test_mounted_keys_cannot_be_changed(tmp_path: Path) -> None:
    store = MountedStore(("key",), {}, tmp_path)
    assert not store.is_writable
    with pytest.raises(SecretsUnavailable, match="mount main_live_key, main_live_secret in"):
        store.put("main", LIVE, KEYS)
    mount(tmp_path, "main_live_key", "k-123456")
    store.delete("main", TESTNET)
    with pytest.raises(SecretsUnavailable, match="cannot be deleted here"):
        store.delete("main")


def test_files_are_named_and_judged(tmp_path: Path) -> None:
    store = MountedStore(("key", "secret"), {"main": LIVE}, tmp_path)
    mount(tmp_path, "main_key", "k-123456\n")
    mount(tmp_path, "main_testnet_secret", "")
    assert store.folder == str(tmp_path)
    assert list(store.files("main", LIVE, ["key", "secret"])) == [
        KeyFile("key", "main_key"),
        KeyFile("secret", "main_live_secret", "it is not mounted"),
    ]
    problem = f"{tmp_path}/main_testnet_secret is empty: put the key in it"
    assert list(store.files("main", TESTNET, ["secret"])) == [KeyFile("secret", "main_testnet_secret", problem)]
    other = MountedStore(("key",), {"main_live": TESTNET}, tmp_path)
    assert list(other.files("main", LIVE, ["key"])) == [KeyFile("key", "main_live_key", "it is not mounted")]


def test_accounts_of_which_all_is_mounted_are_found(tmp_path: Path) -> None:
    store = MountedStore(("key", "secret"), {}, tmp_path)
    for name in (
        "b_live_key",
        "b_live_secret",
        "a_b_live_key",
        "a_b_live_secret",
        "c_live_key",
        "_live_key",
        "live_key",
    ):
        mount(tmp_path, name, "k-123456")
    assert list(store.complete(LIVE, ["key", "secret"])) == ["a_b", "b"]
    assert list(store.complete(LIVE, ["key"])) == ["a_b", "b", "c"]
    assert list(store.complete(TESTNET, ["key", "secret"])) == []
    gone = tmp_path / "gone"
    gone.mkdir()
    late = MountedStore((), {}, gone)
    gone.rmdir()
    with pytest.raises(SecretsUnavailable, match="cannot be read"):
        late.complete(LIVE, ["key"])


def test_without_the_folder_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(SecretsUnavailable, match="there is no folder"):
        MountedStore(("key",), {}, tmp_path / "nowhere")


# ---- encrypted file


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.keys"


def unlocked(file: Path) -> EncryptedFileStore:
    store = EncryptedFileStore(file)
    store.unlock(PHRASE)
    return store


def test_it_is_locked_until_the_passphrase_is_typed(file: Path) -> None:
    store = EncryptedFileStore(file)
    assert isinstance(store, LockableStore)
    assert (store.is_locked, store.is_new) == (True, True)
    with pytest.raises(SecretsUnavailable, match="is locked: choose a passphrase"):
        store.put("main", LIVE, KEYS)
    store.unlock(PHRASE)
    assert (store.is_locked, store.is_new) == (False, False)
    store.put("main", LIVE, KEYS)
    store.lock()
    with pytest.raises(SecretsUnavailable, match="is locked: type its passphrase"):
        store.get("main", LIVE)
    assert dict(unlocked(file).get("main", LIVE) or {}) == KEYS


def test_the_file_shows_nothing(file: Path) -> None:
    unlocked(file).put("my-account", LIVE, KEYS)
    text = file.read_text()
    assert not [word for word in (*KEYS.values(), *KEYS, "my-account", "live", PHRASE) if f'"{word}"' in text]
    assert not [word for word in (*KEYS.values(), "my-account", PHRASE) if word in text]
    if os.name == "posix":
        assert file.stat().st_mode & 0o777 == 0o600
    before = text
    unlocked(file).put("my-account", LIVE, KEYS)
    assert file.read_text() != before, "a nonce is used once"


def test_a_wrong_passphrase_is_said_and_is_in_no_log(file: Path) -> None:
    unlocked(file).put("main", LIVE, KEYS)
    store = EncryptedFileStore(file)
    with pytest.raises(SecretsUnavailable, match=r"this is not the passphrase of .*accounts\.keys"):
        store.unlock("correct horse batterie")
    assert store.is_locked
    assert scrub("typed correct horse batterie, meant correct horse battery") == "typed ***, meant ***"


def test_the_same_characters_are_the_same_passphrase(file: Path) -> None:
    EncryptedFileStore(file).unlock("caf\u00e9-m\u00fcnchen")
    EncryptedFileStore(file).unlock("cafe\u0301-mu\u0308nchen")


@pytest.mark.parametrize("phrase", ["", "short", " " * 12, "x" * 2000])
def test_a_passphrase_must_be_worth_its_name(file: Path, phrase: str) -> None:
    with pytest.raises(SecretsUnavailable, match="choose a passphrase of 8 characters or more"):
        EncryptedFileStore(file).unlock(phrase)
    assert not file.exists()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "garbage", "long", "hungry"])
def test_a_damaged_file_is_said_and_stays_as_it_is(file: Path, damage: str) -> None:
    unlocked(file).put("main", LIVE, KEYS)
    data = file.read_bytes()
    middle = data.index(b'"content"') + 20
    damaged = {
        "cut": data[:-40],
        "flip": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "empty": b"",
        "garbage": b"\x00\xff" * 50,
        "long": data + b" " * (1 << 20),
        "hungry": data.replace(b'"cost": 1024', b'"cost": 1073741824'),
    }[damage]
    assert damaged != data
    file.write_bytes(damaged)
    store = EncryptedFileStore(file)
    with pytest.raises(SecretsUnavailable, match="is damaged: put a backup"):
        store.unlock(PHRASE)
    assert file.read_bytes() == damaged


def test_a_file_that_is_damaged_later_is_not_overwritten(file: Path) -> None:
    store = unlocked(file)
    store.put("main", LIVE, KEYS)
    file.write_bytes(b"{}")
    with pytest.raises(SecretsUnavailable, match="is damaged"):
        store.put("other", LIVE, KEYS)
    assert file.read_bytes() == b"{}"


def test_a_file_that_was_replaced_is_not_mixed_up(file: Path, tmp_path: Path) -> None:
    store = unlocked(file)
    other = unlocked(tmp_path / "other.keys")
    other.put("main", LIVE, KEYS)
    (tmp_path / "other.keys").replace(file)
    with pytest.raises(SecretsUnavailable, match="was replaced while"):
        store.get("main", LIVE)


def test_a_file_of_another_version_is_said(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted_file, "FORMAT", 2)
    unlocked(file)
    monkeypatch.setattr(encrypted_file, "FORMAT", 1)
    with pytest.raises(SecretsUnavailable, match="another version"):
        EncryptedFileStore(file).unlock(PHRASE)


def test_a_full_disk_leaves_the_old_keys(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = unlocked(file)
    store.put("main", LIVE, KEYS)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SecretsUnavailable, match="cannot be written: No space left on device; the keys in it are"):
            store.put("main", LIVE, OTHERS)
    assert dict(unlocked(file).get("main", LIVE) or {}) == KEYS
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_a_file_taken_away_is_written_again(file: Path) -> None:
    store = unlocked(file)
    store.put("main", LIVE, KEYS)
    file.unlink()
    assert store.get("main", LIVE) is None
    store.put("main", LIVE, OTHERS)
    assert dict(unlocked(file).get("main", LIVE) or {}) == OTHERS


def test_the_real_cost_can_be_paid(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted_file, "COST", 1 << 16)
    unlocked(file).put("main", LIVE, KEYS)
    assert dict(unlocked(file).get("main", LIVE) or {}) == KEYS


# ---- the choice


def test_the_keyring_comes_first(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_DOCKER", "1")
    choice = choose_store(profile, ("key",), {}, mounted=profile.run, keyring_backend=MemoryKeyring())
    assert isinstance(choice.store, KeyringStore)
    assert choice.reason.startswith("this system has a")
    unlocked(profile.keys / "accounts.keys")
    choice = choose_store(profile, ("key",), {}, keyring_backend=MemoryKeyring())
    assert "is not read while there is one" in choice.reason


def test_in_a_container_keys_are_mounted(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_DOCKER", "1")
    none = NO_KEYRING
    choice = choose_store(profile, ("key",), {}, mounted=profile.run, keyring_backend=none)
    assert isinstance(choice.store, MountedStore)
    assert choice.reason == "KOC_DOCKER=1 says that keys are mounted here"
    with pytest.raises(SecretsUnavailable, match="mount the keys there"):
        choose_store(profile, ("key",), {}, mounted=profile.run / "nowhere", keyring_backend=none)
    monkeypatch.setenv("KOC_SECRETS_FOLDER", str(profile.logs))
    other = choose_store(profile, ("key",), {}, keyring_backend=none).store
    assert isinstance(other, MountedStore)
    assert other.folder == str(profile.logs)
    monkeypatch.setenv("KOC_SECRETS_FOLDER", "")
    monkeypatch.setattr(choice_module, "FOLDER", profile.run)
    assert choose_store(profile, ("key",), {}, keyring_backend=none).store.title == f"files in {profile.run}"


def test_with_neither_there_is_the_encrypted_file(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KOC_DOCKER", raising=False)
    choice = choose_store(profile, ("key",), {}, keyring_backend=NO_KEYRING)
    assert isinstance(choice.store, EncryptedFileStore)
    assert choice.store.is_locked
    assert choice.reason.startswith("no keyring can be used: this system has no keyring")
