from __future__ import annotations

import pytest

from koc_qt.domain.errors import StorageError
from koc_qt.engine.kill_switch import KillSwitch
from koc_qt.ports.journal import KillSwitchRecord
from tests.fakes.clock import FakeClock
from tests.fakes.journal import MemoryJournal


async def test_it_latches_survives_a_restart_and_is_released() -> None:
    journal, clock = MemoryJournal(), FakeClock()
    switch = KillSwitch(journal, clock)
    await switch.engage("")
    assert (switch.engaged, switch.reason) == (True, "no reason given")
    again = KillSwitch(journal, clock)
    again.restore(journal.load().kill_switch)
    assert again.engaged
    assert "no reason given" in again.refusal
    await again.release()
    fresh = KillSwitch(journal, clock)
    fresh.restore(journal.load().kill_switch)
    assert not fresh.engaged
    fresh.restore(None)
    assert not fresh.engaged


@pytest.mark.expected_warnings("would not survive a restart")
async def test_it_latches_even_when_the_journal_cannot_be_written() -> None:
    journal = MemoryJournal()
    journal.failing = "disk full"
    switch = KillSwitch(journal, FakeClock())
    await switch.engage("panic")
    assert switch.engaged


async def test_a_release_that_would_not_last_is_refused() -> None:
    journal = MemoryJournal()
    switch = KillSwitch(journal, FakeClock())
    switch.restore(KillSwitchRecord(True, "panic", 0))
    journal.failing = "disk full"
    with pytest.raises(StorageError, match="disk full"):
        await switch.release()
    assert switch.engaged
