from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PySide6.QtCore import QCoreApplication

from koc_qt.config import AccountConfig, Config
from koc_qt.domain.errors import ConfigError
from koc_qt.paths import Paths
from koc_qt.wiring import accounts as accounts_module
from koc_qt.wiring.engine import Engine, EngineOptions, run
from tests.conditions import until
from tests.qt_loop import run_on_qt


@pytest.mark.expected_warnings("account sim2 cannot be used: sim2 cannot be opened")
def test_an_account_that_cannot_be_opened_is_said_and_stops_no_other(
    qapp: QCoreApplication, profile: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = accounts_module.make_paper_venue

    def refuse(account: AccountConfig, *rest: Any) -> Any:
        if account.id == "sim2":
            raise ConfigError("sim2 cannot be opened")
        return make(account, *rest)

    async def observe(engine: Engine) -> None:
        await until(lambda: engine.store.accounts["sim"].state == "connected", what="the other account")
        assert engine.store.accounts["sim2"].reason == "sim2 cannot be opened"
        engine.ask_to_stop("seen")

    async def scenario() -> str:
        with ThreadPoolExecutor(2) as pool:  # qasync's own threads are Qt's, which Python would list as left behind
            asyncio.get_running_loop().set_default_executor(pool)
            return await run(profile, Config(), EngineOptions(), observe)

    monkeypatch.setattr(accounts_module, "make_paper_venue", refuse)
    assert run_on_qt(qapp, scenario()) == "seen"
