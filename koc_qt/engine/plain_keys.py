"""Moves keys that stand in the accounts file in plain text to where keys are kept, and wipes them from the file."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from koc_qt.accounts_file import Contents, PlainKeys, in_fields
from koc_qt.domain.errors import ConfigError, KocError
from koc_qt.domain.state import TradingMode
from koc_qt.engine.account_registry import AccountRegistry


class PlainKeyMover:
    """Reads the accounts file at the start, and moves what must not be in it as soon as there is a place for it."""

    def __init__(self, registry: AccountRegistry) -> None:
        self._registry = registry
        self._moving = asyncio.Lock()
        self._is_waiting = False

    async def read(self, used: set[str]) -> None:
        """Take on the accounts of the file, without its plain keys; a file at fault is said, and left alone."""
        contents = await self._read()
        if contents.plain:
            contents = await self._move(contents)
        self._registry.take(contents.accounts, used)
        self._mark(contents)

    async def move(self) -> None:
        """Try again to move what could not be moved."""
        async with self._moving:
            if not self._is_waiting:
                return
            contents = await self._read()
            if contents.plain:
                contents = await self._move(contents)
            known = {account.id for account in self._registry.all}
            self._registry.take([account for account in contents.accounts if account.id not in known], set())
            self._mark(contents)

    async def _read(self) -> Contents:
        try:
            contents = await asyncio.to_thread(self._registry.file.read)
        except ConfigError as error:
            self._registry.notice(f"The accounts that were added are not used: {error}")
            return Contents()
        if contents.trouble:
            self._registry.notice(contents.trouble)
        return contents

    async def _move(self, contents: Contents) -> Contents:
        """Move the keys, all or none; gives what the file says then."""
        registry = self._registry
        names = ", ".join(sorted({keys.account_id for keys in contents.plain}))
        try:
            for keys in contents.plain:
                fields = self._fields(keys)
                await registry.secrets.put(keys.account_id, self._mode(keys), in_fields(keys.fields, fields))
        except KocError as error:
            registry.notice(
                f"Keys of {names} stand in plain text in {registry.file.path} and could not be moved: {error}. "
                f"These accounts are not used until that is done"
            )
            return contents
        try:
            await asyncio.to_thread(registry.file.wipe)
        except ConfigError as error:
            registry.notice(str(error))
            return await self._read()
        title = (await registry.secrets.state()).title
        registry.notice(
            f"Keys of {names} stood in plain text in {registry.file.path}. They are in the {title} now, and wiped from "
            f"the file. Make new keys at the venue if others could read that file or a backup of it"
        )
        return await self._read()

    def _mark(self, contents: Contents) -> None:
        waiting = {keys.account_id for keys in contents.plain}
        self._is_waiting = bool(waiting)
        reason = (
            "its keys stand in plain text in the accounts file, and could not be moved yet: unlock where keys are kept"
        )
        self._registry.mark_plain(waiting, reason)

    def _fields(self, keys: PlainKeys) -> Sequence[str]:
        abilities = self._registry.factory.abilities.get(keys.venue)
        return [field.name for field in abilities.credentials] if abilities else []

    def _mode(self, keys: PlainKeys) -> TradingMode:
        """Give the mode that keys are kept for: live, where they stand with an account that needs none in its mode."""
        needs = keys.venue in self._registry.factory.abilities and self._registry.opener.needs_keys(
            keys.venue, keys.mode
        )
        return keys.mode if needs else TradingMode.LIVE
