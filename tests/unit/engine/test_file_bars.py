"""Bars of files, a page at a time: which ones, from a file that is still the one that a run was made on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from koc_qt.domain.backtests import FILE_VENUE
from koc_qt.domain.errors import BadBars, BadTimeframe, KocError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.timeframes import SECOND_NS
from koc_qt.engine import file_bars
from koc_qt.link.messages import FetchBars
from tests.unit.engine.desk import EngineDesk

WALK = InstrumentId(FILE_VENUE, "walk")
HOUR_NS = 3_600 * SECOND_NS
FIRST_NS = 438_288 * HOUR_NS  # the beginning of 2020
GAP = 10  # a bar that is not there


@pytest.fixture
def file(tmp_path: Path) -> str:
    """Give a file of 40 hours, one of them missing."""
    path = tmp_path / "walk.csv"
    rows = [
        f"{(FIRST_NS + n * HOUR_NS) // SECOND_NS},{n + 1},{n + 3},{n + 0.5},{n + 2},7" for n in range(40) if n != GAP
    ]
    path.write_text("\n".join(["timestamp,open,high,low,close,volume", *rows]))
    return str(path)


def page(file: str, count: int, until_ns: int | None = None, timeframe: str = "1h", **more: int) -> FetchBars:
    return FetchBars(WALK, timeframe, count, until_ns, file, **more)


async def hours(engine: EngineDesk, command: FetchBars) -> list[int]:
    return [(row[0] - FIRST_NS) // HOUR_NS for row in await engine.commands.execute(command, "window-1")]


async def test_pages_are_as_those_of_a_market(engine: EngineDesk, file: str) -> None:
    rows = await engine.commands.execute(page(file, 2), "window-1")
    assert rows == [(FIRST_NS + n * HOUR_NS, n + 1.0, n + 3.0, n + 0.5, n + 2.0, 7.0) for n in (38, 39)]
    assert await hours(engine, page(file, 4, FIRST_NS + 12 * HOUR_NS + 7)) == [8, 9, 11]  # a gap is a gap
    assert await hours(engine, page(file, 5, FIRST_NS + 2 * HOUR_NS)) == [0, 1]
    for nowhere_ns in (FIRST_NS, 10**30, -(10**30)):
        assert await hours(engine, page(file, 5, nowhere_ns)) == []
    longer = await engine.commands.execute(page(file, 2, FIRST_NS + 16 * HOUR_NS, "8h"), "window-1")
    assert [row[1:] for row in longer] == [(1.0, 10.0, 0.5, 9.0, 56.0), (9.0, 18.0, 8.5, 17.0, 49.0)]


async def test_what_cannot_be_had_is_refused(engine: EngineDesk, file: str, tmp_path: Path) -> None:
    for command, error, said in (
        (page(file, 5, timeframe="45m"), BadTimeframe, "cannot be made of them"),
        (page(file, 5, timeframe="soon"), BadTimeframe, "soon"),
        (page(file, 0), KocError, "ask for 1 to"),
        (page(str(tmp_path / "gone.csv"), 5, written_before_ns=1), BadBars, "No such file"),
    ):
        with pytest.raises(error, match=said):
            await engine.commands.execute(command, "window-1")


async def test_a_file_that_was_changed_after_the_run_is_refused(engine: EngineDesk, file: str) -> None:
    os.utime(file, ns=(FIRST_NS, FIRST_NS))
    assert len(await hours(engine, page(file, 5, written_before_ns=FIRST_NS))) == 5
    with pytest.raises(BadBars, match="was written after the run"):
        await engine.commands.execute(page(file, 5, written_before_ns=FIRST_NS - 1), "window-1")


async def test_the_last_file_is_held_for_its_client(
    engine: EngineDesk, file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def is_held() -> bool:
        return engine.commands._file_bars._held is not None

    await hours(engine, page(file, 5))
    engine.commands.disconnected("window-2")
    assert is_held()
    engine.commands.disconnected("window-1")
    assert not is_held()
    await hours(engine, page(file, 5))  # which has left meanwhile
    assert not is_held()
    monkeypatch.setattr(file_bars, "HELD_BARS", 38)
    await engine.commands.execute(page(file, 5), "window-3")
    assert not is_held()
