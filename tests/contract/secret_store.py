"""What every store of keys does: subclass with a `store` fixture, which is empty and unlocked.

One that is read only says in `keep` how keys get there.
"""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import SecretStore
from koc_qt.scrub import scrub

PEM = "-----BEGIN EC " + "PRIVATE KEY-----\nMHcCAQEEIAbcdefghijklmnopqrstuvwxyz\n-----END EC PRIVATE KEY-----\n"
KEYS = {"key": "k-9f8e7d", "secret": 's/+=ü "quoted"', "passphrase": "abc"}
OTHERS = {"key": "another", "secret": "one entirely"}


class SecretStoreContract:
    """Runs over a store."""

    def keep(self, store: SecretStore, account_id: str, mode: TradingMode, keys: Mapping[str, str]) -> None:
        """Have the store keep keys."""
        store.put(account_id, mode, keys)

    def test_nothing_is_kept_at_first(self, store: SecretStore) -> None:
        assert store.title
        assert all(store.get("main", mode) is None for mode in TradingMode)

    def test_what_is_kept_comes_back(self, store: SecretStore) -> None:
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        kept = store.get("main", TradingMode.LIVE)
        assert kept is not None
        assert dict(kept) == KEYS

    def test_several_lines_come_back_as_they_were(self, store: SecretStore) -> None:
        self.keep(store, "main", TradingMode.LIVE, {"key": "organizations/1", "secret": PEM})
        kept = store.get("main", TradingMode.LIVE)
        assert kept is not None
        assert kept["secret"].rstrip() == PEM.rstrip()

    @pytest.mark.parametrize("mode", TradingMode)
    def test_keys_of_one_mode_are_read_for_no_other(self, store: SecretStore, mode: TradingMode) -> None:
        self.keep(store, "main", mode, KEYS)
        assert [other for other in TradingMode if store.get("main", other) is not None] == [mode]

    def test_accounts_are_kept_apart(self, store: SecretStore) -> None:
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        self.keep(store, "main.b", TradingMode.LIVE, OTHERS)
        assert dict(store.get("main", TradingMode.LIVE) or {}) == KEYS
        assert dict(store.get("main.b", TradingMode.LIVE) or {}) == OTHERS
        assert store.get("mai", TradingMode.LIVE) is None

    def test_new_keys_replace_all_of_the_old(self, store: SecretStore) -> None:
        if not store.is_writable:
            pytest.skip("this store is read only")
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        for keys in (OTHERS, KEYS, {"key": "alone"}):
            self.keep(store, "main", TradingMode.LIVE, keys)
            assert dict(store.get("main", TradingMode.LIVE) or {}) == keys

    def test_keys_of_a_mode_can_be_deleted(self, store: SecretStore) -> None:
        if not store.is_writable:
            pytest.skip("this store is read only")
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        self.keep(store, "main", TradingMode.TESTNET, OTHERS)
        store.delete("main", TradingMode.LIVE)
        assert store.get("main", TradingMode.LIVE) is None
        assert dict(store.get("main", TradingMode.TESTNET) or {}) == OTHERS

    def test_keys_of_all_modes_can_be_deleted(self, store: SecretStore) -> None:
        if not store.is_writable:
            pytest.skip("this store is read only")
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        self.keep(store, "main", TradingMode.TESTNET, OTHERS)
        self.keep(store, "other", TradingMode.LIVE, OTHERS)
        store.delete("main")
        store.delete("main")
        assert [mode for mode in TradingMode if store.get("main", mode) is not None] == []
        assert dict(store.get("other", TradingMode.LIVE) or {}) == OTHERS

    def test_deleting_nothing_is_no_error(self, store: SecretStore) -> None:
        store.delete("nobody")
        store.delete("nobody", TradingMode.LIVE)

    def test_what_passes_is_taken_out_of_the_log(self, store: SecretStore) -> None:
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        store.get("main", TradingMode.LIVE)
        for value in KEYS.values():
            assert value not in scrub(f"they said <{value}> and went")

    def test_no_text_shows_a_value(self, store: SecretStore) -> None:
        self.keep(store, "main", TradingMode.LIVE, KEYS)
        kept = store.get("main", TradingMode.LIVE)
        assert not [value for value in KEYS.values() if value in f"{kept!r} {kept} {store!r} {store}"]
