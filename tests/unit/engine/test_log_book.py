"""The log on its way to clients: whole, scrubbed, bounded, from any thread, and never in a circle."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from loguru import logger

from koc_qt.engine import log_book as module
from koc_qt.engine.bus import Bus
from koc_qt.engine.log_book import LINES_BURST, LINES_KEPT, LONGEST_TEXT, LogBook
from koc_qt.engine.strategy_words import LONGEST_LINE, StrategyLog
from koc_qt.link.messages import LogRecorded
from koc_qt.logger import LogEntry, setup_logger
from tests.conditions import until
from tests.fakes.clock import FakeClock

BURST = int(LINES_BURST)


class Desk:
    """A log book, and what clients were told."""

    def __init__(self) -> None:
        self.clock, self.bus = FakeClock(), Bus()
        self.told: list[LogRecorded] = []
        self.book = LogBook(self.clock, self.told.append)
        self.bus.subscribe(LogRecorded, self.book.record)
        self.strategy = StrategyLog("sma", self.bus, self.clock)

    @property
    def texts(self) -> list[str]:
        return [line.text for line in self.told]

    def say(self, text: str, level: str = "INFO") -> None:
        """Let a strategy past its own allowance say something."""
        self.book.record(LogRecorded(self.clock.time_ns(), level, "sma", text))


@pytest.fixture
async def desk() -> Iterator[Desk]:
    desk = Desk()
    log = setup_logger(None, level="DEBUG", console=False)
    desk.book.start()
    yield desk
    desk.book.close()
    desk.book.close()
    log.close()


async def test_the_engines_own_lines_from_info_up(desk: Desk, expected_warnings: list[str]) -> None:
    logger.debug("a detail")
    logger.info("a fact, token=abcdef123456")
    try:
        raise RuntimeError("boom, password=hunter22")
    except RuntimeError:
        logger.exception("it failed")
    await until(lambda: len(desk.told) == 2, what="both lines")
    assert [(line.level, line.source) for line in desk.told] == [("INFO", "engine"), ("ERROR", "engine")]
    assert desk.texts[0] == "a fact, token=***"
    assert desk.texts[1].startswith("it failed\nTraceback (most recent call last)")
    assert desk.texts[1].endswith("RuntimeError: boom, password=***")
    assert [row[3] for row in desk.book.newest(10)] == desk.texts
    assert desk.book.newest(1)[0] == (desk.told[1].time_ns, "ERROR", "engine", desk.texts[1])
    assert len(expected_warnings) == 1


async def test_a_strategys_line_is_told_once_at_any_level(desk: Desk) -> None:
    desk.strategy.write("DEBUG", "a detail, secret=abcdef123456")
    desk.strategy.write("INFO", "a fact")
    logger.info("after it")
    await until(lambda: len(desk.told) >= 3, what="the engine's line")
    assert [(line.source, line.text) for line in desk.told] == [
        ("sma", "a detail, secret=***"),
        ("sma", "a fact"),
        ("engine", "after it"),
    ]


async def test_lines_of_other_threads_are_handed_over(desk: Desk) -> None:
    where: list[int] = []
    desk.book._publish = lambda line: where.append(threading.get_ident())
    threads = [threading.Thread(target=logger.info, args=(f"line {number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    await until(lambda: len(where) == 20, what="all lines")
    assert set(where) == {threading.get_ident()}
    assert {row[3] for row in desk.book.newest(20)} == {f"line {number}" for number in range(20)}


async def test_a_flood_is_cut_short_and_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_AFTER_S", 0.01)
    for number in range(BURST + 300):
        desk.say(f"line {number}")
    assert len(desk.told) == BURST
    await until(lambda: len(desk.told) > BURST, what="it to be said")
    said = desk.told[-1]
    assert said.text == "300 lines of strategies were left out: they came too fast. The log file has what was logged"
    assert (said.level, said.source) == ("WARNING", "engine")
    desk.clock.advance(1)
    desk.say("again")
    assert desk.texts[-1] == "again"
    assert len(desk.told) == BURST + 2


async def test_what_was_left_out_is_said_before_what_comes_next(desk: Desk) -> None:
    for number in range(BURST + 1):
        desk.say(f"line {number}")
    desk.clock.advance(1)
    desk.say("next")
    assert desk.texts[-2].startswith("1 lines of strategies were left out")
    assert desk.texts[-1] == "next"


async def test_a_strategys_flood_keeps_no_line_of_the_engines_back(desk: Desk) -> None:
    for number in range(BURST * 2):
        desk.say(f"line {number}")
    logger.info("order K1 was filled")
    await until(lambda: desk.texts[-1] == "order K1 was filled", what="the engine's line")


async def test_a_flood_of_the_engines_own_is_bounded_too(desk: Desk) -> None:
    for number in range(module.WAITING_LIMIT + 100):
        desk.book.hear(LogEntry(number, "INFO", "koc_qt.x", f"line {number}"))
    await until(lambda: len(desk.told) == BURST, what="the burst")
    desk.clock.advance(1)
    logger.info("next")
    await until(lambda: desk.texts[-1] == "next", what="the next line")
    left_out = module.WAITING_LIMIT + 100 - BURST
    assert desk.texts[-2].startswith(f"{left_out} lines of the engine were left out")


async def test_a_line_that_telling_causes_is_kept_and_not_told(desk: Desk) -> None:
    def publish(line: LogRecorded) -> None:
        desk.told.append(line)
        logger.info("telling {!r} took its time", line.text)

    desk.book._publish = publish
    logger.info("one")
    await until(lambda: len(desk.book.newest(10)) == 2, what="the line that it caused")
    logger.info("two")
    await until(lambda: len(desk.book.newest(10)) == 4, what="the line that that caused")
    assert desk.texts == ["one", "two"]


async def test_lines_are_bounded_in_length_and_number(desk: Desk) -> None:
    desk.say("x" * (LONGEST_TEXT + 5))
    assert desk.texts[0].endswith("x... (5 more characters)")
    desk.strategy.write("INFO", "x" * (LONGEST_LINE + 7))
    assert desk.texts[1].endswith("x... (7 more characters)")
    for number in range(LINES_KEPT + 10):
        desk.clock.advance(1)
        desk.say(f"line {number}")
    kept = desk.book.newest(LINES_KEPT)
    assert len(kept) == LINES_KEPT
    assert kept[-1][3] == f"line {LINES_KEPT + 9}"
    for _ in range(300):
        desk.clock.advance(1)
        desk.say("x" * LONGEST_LINE)
    assert sum(len(row[3]) for row in desk.book.newest(LINES_KEPT)) <= module.CHARACTERS_KEPT


async def test_what_has_no_bytes_is_told_all_the_same(desk: Desk) -> None:
    desk.say("half a pair: \ud83d")
    assert desk.texts == ["half a pair: ?"]
    desk.texts[0].encode()


async def test_nothing_comes_after_the_end() -> None:
    desk = Desk()
    log = setup_logger(None, level="INFO", console=False)
    logger.info("before it began")
    desk.book.start()
    logger.info("on its way")
    desk.book.close()
    logger.info("after its end")
    log.close()
    desk.book.hear(LogEntry(1, "INFO", "x", "late"))
    assert desk.book.newest(10) == []
    assert desk.told == []
