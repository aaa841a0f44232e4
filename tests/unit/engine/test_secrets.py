"""The engine's way to where keys are kept: bounded, one after the other, and silent about what it carries."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from koc_qt import scrub as scrubbing
from koc_qt.domain.accounts import SecretsState
from koc_qt.domain.errors import SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.engine import secrets as secrets_module
from koc_qt.engine.secrets import SecretsDesk
from tests.conditions import until
from tests.fakes.secrets import MemoryStore

LIVE = TradingMode.LIVE


@pytest.fixture(autouse=True)
def _forget_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "_known", None)
    monkeypatch.setattr(scrubbing, "_known_forms", set())


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def desk(store: MemoryStore) -> Iterator[SecretsDesk]:
    desk = SecretsDesk(lambda: (store, "why not"))
    yield desk
    if store.hold is not None:
        store.hold.set()
    desk.close()


async def test_what_is_kept_can_be_read_and_deleted(desk: SecretsDesk, store: MemoryStore) -> None:
    await desk.put("main", LIVE, {"key": "k-123456"})
    found = await desk.get("main", LIVE)
    assert found is not None
    assert dict(found) == {"key": "k-123456"}
    await desk.delete("main")
    assert await desk.get("main", LIVE) is None
    assert await desk.state() == SecretsState("store in memory", True, False, False, "why not")


async def test_the_store_is_chosen_once_and_not_before_it_is_needed(store: MemoryStore) -> None:
    chosen: list[str] = []

    def choose() -> tuple[MemoryStore, str]:
        chosen.append(threading.current_thread().name)
        if len(chosen) == 1:
            raise SecretsUnavailable("not yet")
        return store, ""

    desk = SecretsDesk(choose)
    assert chosen == []
    with pytest.raises(SecretsUnavailable, match="not yet"):
        await desk.state()
    await desk.state()
    await desk.state()
    assert chosen == ["koc-secrets", "koc-secrets"]
    desk.close()
    desk.close()


async def test_unlocking_is_for_what_is_locked() -> None:
    store = MemoryStore(passphrase="correct horse")
    desk = SecretsDesk(lambda: (store, ""))
    assert (await desk.state()).is_locked
    with pytest.raises(SecretsUnavailable, match="not the passphrase"):
        await desk.unlock("wrong")
    await desk.unlock("correct horse")
    await desk.unlock("anything")
    assert not (await desk.state()).is_locked
    desk.close()


async def test_a_store_that_does_not_keep_is_noticed(desk: SecretsDesk, store: MemoryStore) -> None:
    store.forgetful = True
    with pytest.raises(SecretsUnavailable, match="did not keep the keys of main"):
        await desk.put("main", LIVE, {"key": "k-123456"})


async def test_a_keyring_that_asks_its_owner_holds_nobody_up_for_ever(desk: SecretsDesk, store: MemoryStore) -> None:
    store.hold = threading.Event()
    patience_s, desk._timeout_s = desk._timeout_s, 0.2
    with pytest.raises(SecretsUnavailable, match=r"did not answer within 0\.2 s: see whether the keyring asks"):
        await desk.get("main", LIVE)
    desk._timeout_s = patience_s
    store.hold.set()
    assert await desk.get("main", LIVE) is None


async def test_too_many_questions_are_refused(
    desk: SecretsDesk, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.hold = threading.Event()
    monkeypatch.setattr(secrets_module, "QUEUE_LIMIT", 1)
    small = SecretsDesk(lambda: (store, ""), timeout_s=0.2)
    outcomes = await asyncio.gather(*(small.get("main", LIVE) for _ in range(5)), return_exceptions=True)
    texts = [str(outcome) for outcome in outcomes]
    assert any("too much waits for the keyring" in text for text in texts)
    assert any("did not answer" in text for text in texts)
    store.hold.set()
    small.close()


async def test_the_end_is_heard_also_where_too_much_waits(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets_module, "QUEUE_LIMIT", 1)
    monkeypatch.setattr(secrets_module, "_CLOSE_S", 0.01)
    store.hold = threading.Event()
    desk = SecretsDesk(lambda: (store, ""))
    asked = [asyncio.create_task(desk.get("main", LIVE)) for _ in range(3)]
    await until(lambda: any(each.done() for each in asked), what="a refusal")
    thread = desk._thread
    assert thread is not None
    desk.close()
    store.hold.set()
    await until(lambda: not thread.is_alive(), what="the thread to end")
    await asyncio.gather(*asked, return_exceptions=True)


async def test_what_nobody_foresaw_shows_its_kind_alone(
    desk: SecretsDesk, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("could not write k-123456")

    monkeypatch.setattr(store, "put", broken)
    with pytest.raises(SecretsUnavailable) as caught:
        await desk.put("main", LIVE, {"key": "k-123456"})
    assert str(caught.value) == "keys cannot be reached (RuntimeError)"
