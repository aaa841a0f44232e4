"""The contract of stores of keys, over all of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from koc_qt.adapters.secrets import EncryptedFileStore, KeyringStore, MountedStore, encrypted_file
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import SecretStore
from tests.contract.secret_store import SecretStoreContract
from tests.fakes.keyring import MemoryKeyring


class TestKeyringStore(SecretStoreContract):
    @pytest.fixture
    def store(self) -> SecretStore:
        return KeyringStore("/profile/of/somebody", MemoryKeyring())


class TestEncryptedFileStore(SecretStoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SecretStore:
        monkeypatch.setattr(encrypted_file, "COST", 1 << 10)
        store = EncryptedFileStore(tmp_path / "accounts.keys")
        store.unlock("correct horse battery")
        return store


class TestMountedStore(SecretStoreContract):
    folder: Path

    @pytest.fixture
    def store(self, tmp_path: Path) -> SecretStore:
        self.folder = tmp_path
        return MountedStore(("key", "secret", "passphrase"), {}, tmp_path)

    def keep(self, store: SecretStore, account_id: str, mode: TradingMode, keys: Mapping[str, str]) -> None:
        for field, value in keys.items():
            file = self.folder / f"{account_id}_{mode}_{field}"
            file.write_text(value + "\n")
            file.chmod(0o400)
