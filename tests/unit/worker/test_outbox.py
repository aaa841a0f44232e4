"""What the worker says: frames that wait for a reader, lines that are limited."""

from __future__ import annotations

import io
import socket
import threading

import pytest

from koc_qt.sdk.channel import (
    LogLine,
    frame,
)
from koc_qt.worker.outbox import BUFFER_LIMIT, LOG_BURST, EngineGone, LogGate, Outbox, PrintStream
from tests.conditions import PATIENCE, wait_until


@pytest.fixture
def pair() -> object:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_writes_wait_for_a_reader_and_nothing_is_lost(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    outbox = Outbox(theirs)
    received = bytearray()

    def read() -> None:
        while data := ours.recv(1 << 16):
            received.extend(data)

    thread = threading.Thread(target=read)
    thread.start()
    sent = LogLine("INFO", "x" * 100_000)
    for _ in range(40):
        outbox.put(sent)
        outbox.flush()
        assert outbox.pending <= BUFFER_LIMIT
    assert outbox.drain(10)
    theirs.shutdown(socket.SHUT_WR)
    thread.join(10 * PATIENCE)
    assert bytes(received) == frame(sent) * 40


def test_an_engine_that_reads_nothing_is_given_up(pair: tuple[socket.socket, socket.socket]) -> None:
    _, theirs = pair
    outbox = Outbox(theirs, stall_limit_s=0.05)
    for _ in range(BUFFER_LIMIT // 10_000 * 2):
        outbox.put(LogLine("INFO", "x" * 10_000))
    with pytest.raises(EngineGone, match=r"the engine has read nothing for 0\.05 s"):
        outbox.flush()
    assert outbox.pending > BUFFER_LIMIT


def test_last_words_are_bounded(pair: tuple[socket.socket, socket.socket]) -> None:
    _, theirs = pair
    outbox = Outbox(theirs)
    for _ in range(100):
        outbox.put(LogLine("INFO", "x" * 10_000))
    assert not outbox.drain(0.05)


def test_a_closed_channel_is_the_end(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    outbox = Outbox(theirs)
    ours.close()
    outbox.put(LogLine("INFO", "x"))
    with pytest.raises(EngineGone, match="the channel is closed"):
        outbox.flush()


def test_a_channel_that_is_closed_on_our_side_is_the_end() -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    outbox = Outbox(theirs)
    with ours, theirs:
        for _ in range(100):
            outbox.put(LogLine("INFO", "x" * 10_000))
        assert not outbox.drain(0.0)
    with pytest.raises(EngineGone, match="the channel is closed"):
        outbox._wait_writable(1.0)


def test_dropped_lines_are_told_when_lines_may_pass_again() -> None:
    said: list[object] = []
    gate = LogGate(said.append)
    for number in range(LOG_BURST + 10):
        gate.write("INFO", str(number))
    dropped = LOG_BURST + 10 - len(said)
    assert 0 < dropped <= 10

    def told() -> bool:
        gate.settle()
        return len(said) > LOG_BURST + 10 - dropped

    wait_until(told, what="the count of dropped lines")
    assert said[-1] == LogLine("WARNING", f"{dropped} log lines were dropped: a strategy may write 50 a second")
    gate.settle(at_end=True)
    assert said[-1] == LogLine("WARNING", f"{dropped} log lines were dropped: a strategy may write 50 a second")


def test_the_print_stream_is_a_text_stream() -> None:
    written: list[tuple[str, str]] = []
    stream = PrintStream(lambda level, text: written.append((level, text)), "INFO")
    assert isinstance(stream, io.TextIOBase)
    assert stream.writable()
    assert stream.encoding == "utf-8"
    assert stream.write("a\nb") == 3
    stream.flush()
    assert written == [("INFO", "a")]
    stream.finish()
    stream.finish()
    assert written == [("INFO", "a"), ("INFO", "b")]
