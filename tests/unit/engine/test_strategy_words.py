from __future__ import annotations

from loguru import logger

from koc_qt.engine.bus import Bus
from koc_qt.engine.strategy_words import LINES_BURST, LONGEST_LINE, Allowance, StrategyLog, clip, name_of
from koc_qt.link.messages import LogRecorded
from tests.fakes.clock import FakeClock


def test_clip_and_names() -> None:
    assert clip("abc", 3) == "abc"
    assert clip("abcde", 3) == "abc... (2 more characters)"
    assert name_of(" sma\tcross \x1b[0m") == "sma?cross ?[0m"
    assert name_of("x" * 500) == "x" * 64


def test_an_allowance_grows_with_time_up_to_its_burst() -> None:
    clock = FakeClock()
    allowance = Allowance(10.0, 3.0, clock)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    clock.advance(0.1)
    assert [allowance.take() for _ in range(2)] == [True, False]
    clock.advance(3600)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]


def test_lines_are_kept_on_their_own_lines_and_never_read_as_formats(expected_warnings: list[str]) -> None:
    clock, bus = FakeClock(), Bus()
    told: list[LogRecorded] = []
    bus.subscribe(LogRecorded, told.append)
    shown: list[str] = []
    sink = logger.add(lambda message: shown.append(str(message)), format="{message}", level="DEBUG")
    log = StrategyLog("sma", bus, clock)
    log.write("ERROR", "{} {0} {x} <red>\r\n2026-01-01 | CRITICAL | koc: the engine\rwas sold")
    log.write("CRITICAL", "y" * (LONGEST_LINE + 1))
    logger.remove(sink)
    assert shown[0] == "[sma] {} {0} {x} <red>\n    2026-01-01 | CRITICAL | koc: the engine\n    was sold\n"
    assert (told[0].level, told[1].level, told[1].source) == ("ERROR", "INFO", "sma")
    assert told[1].text.endswith("y... (1 more characters)")
    assert len(expected_warnings) == 1


def test_a_flood_is_counted(expected_warnings: list[str]) -> None:
    clock, bus = FakeClock(), Bus()
    told: list[LogRecorded] = []
    bus.subscribe(LogRecorded, told.append)
    log = StrategyLog("sma", bus, clock)
    for number in range(int(LINES_BURST) + 50):
        log.write("INFO", f"line {number}")
    assert len(told) == LINES_BURST
    clock.advance(1)
    log.write("INFO", "again")
    assert [line.text for line in told[-2:]] == [
        "50 log lines were dropped: a strategy may write 100 a second",
        "again",
    ]
    assert len(expected_warnings) == 1
