"""The engine's way to where keys are kept: one thread, since a keyring may ask its owner, and answer when it likes."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar

from koc_qt.domain.accounts import KeyFile, SecretsState
from koc_qt.domain.errors import KocError, SecretsUnavailable
from koc_qt.domain.state import TradingMode
from koc_qt.ports.secrets import Credentials, LockableStore, MountedSecrets, SecretStore

TIMEOUT_S = 60.0  # for a person to answer a keyring that asks
QUEUE_LIMIT = 100
_CLOSE_S = 1.0

T = TypeVar("T")


class SecretsDesk:
    """Awaitable access to a store, which `choose` gives with the reason, in the thread, when it is first needed.

    Every method raises SecretsUnavailable, also where no answer comes in time.
    """

    def __init__(self, choose: Callable[[], tuple[SecretStore, str]], timeout_s: float = TIMEOUT_S) -> None:
        self._choose = choose
        self._timeout_s = timeout_s
        self._chosen: tuple[SecretStore, str] | None = None
        self._work: queue.Queue[Callable[[], None] | None] = queue.Queue(QUEUE_LIMIT + 1)  # one more: the end
        self._thread: threading.Thread | None = None

    async def state(self) -> SecretsState:
        """Say where keys are kept."""

        def look(store: SecretStore, reason: str) -> SecretsState:
            lockable = store if isinstance(store, LockableStore) else None
            is_locked = lockable is not None and lockable.is_locked
            is_new = lockable is not None and lockable.is_new
            folder = store.folder if isinstance(store, MountedSecrets) else ""
            return SecretsState(store.title, store.is_writable, is_locked, is_new, reason, folder)

        return await self._call(look)

    async def get(self, account_id: str, mode: TradingMode) -> Credentials | None:
        """Give what is kept for an account in a mode; None where there is nothing."""
        return await self._call(lambda store, _: store.get(account_id, mode))

    async def put(self, account_id: str, mode: TradingMode, credentials: Mapping[str, str]) -> None:
        """Keep these instead of what was there, and see that they are."""

        def keep(store: SecretStore, _: str) -> None:
            store.put(account_id, mode, credentials)
            if dict(store.get(account_id, mode) or {}) != dict(credentials):
                raise SecretsUnavailable(f"the {store.title} did not keep the keys of {account_id}: try again")

        await self._call(keep)

    async def delete(self, account_id: str, mode: TradingMode | None = None) -> None:
        """Forget what is kept for a mode, or for all."""
        await self._call(lambda store, _: store.delete(account_id, mode))

    async def files(self, account_id: str, mode: TradingMode, fields: Sequence[str]) -> Sequence[KeyFile]:
        """Give the file of each field, and what is wrong with it; none where keys are not mounted."""
        return await self._call(
            lambda store, _: store.files(account_id, mode, fields) if isinstance(store, MountedSecrets) else ()
        )

    async def complete(self, mode: TradingMode, fields: Sequence[str]) -> Sequence[str]:
        """Give what could be ids of accounts of which every field is mounted for a mode."""
        return await self._call(
            lambda store, _: store.complete(mode, fields) if isinstance(store, MountedSecrets) else ()
        )

    async def unlock(self, passphrase: str) -> None:
        """Open a store behind a passphrase; nothing happens where there is none to type."""

        def open_it(store: SecretStore, _: str) -> None:
            if isinstance(store, LockableStore) and store.is_locked:
                store.unlock(passphrase)

        await self._call(open_it)

    def close(self) -> None:
        """End the thread; one that a keyring holds up is left behind, and ends with the process."""
        if self._thread is not None:
            self._work.put_nowait(None)
            self._thread.join(_CLOSE_S)
            self._thread = None

    async def _call(self, function: Callable[[SecretStore, str], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def settle(tell: Callable[[], None]) -> None:
            if not answer.done():  # else nobody waits any more
                tell()

        def work() -> None:
            tell: Callable[[], None]
            try:
                tell = partial(answer.set_result, function(*self._store()))
            except KocError as error:
                tell = partial(answer.set_exception, error)
            except Exception as error:  # its text might hold a key: only its kind is told
                tell = partial(
                    answer.set_exception, SecretsUnavailable(f"keys cannot be reached ({type(error).__name__})")
                )
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits
                loop.call_soon_threadsafe(settle, tell)

        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="koc-secrets", daemon=True)
            self._thread.start()
        if self._work.qsize() >= QUEUE_LIMIT:
            raise SecretsUnavailable("too much waits for the keyring: see whether it asks for its password")
        self._work.put_nowait(work)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await answer
        except TimeoutError:
            raise SecretsUnavailable(
                f"where keys are kept did not answer within {self._timeout_s:g} s: see whether the keyring asks for "
                f"its password, and try again"
            ) from None

    def _store(self) -> tuple[SecretStore, str]:
        if self._chosen is None:
            self._chosen = self._choose()
        return self._chosen

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
