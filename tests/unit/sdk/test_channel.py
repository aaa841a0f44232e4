from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.sdk.channel import (
    MAX_FRAME,
    BarClosed,
    FrameReader,
    HistoryBars,
    LogLine,
    QuoteUpdate,
    decode_host,
    decode_worker,
    frame,
)
from koc_qt.sdk.session import HISTORY_LIMIT
from tests.unit.sdk.desk import bar, quote


def test_messages_survive_the_wire() -> None:
    for message in (BarClosed(bar(1.5), warmup=True), QuoteUpdate(quote("1.10", "1.20"))):
        [body] = FrameReader().feed(frame(message))
        assert decode_host(body) == message
    [body] = FrameReader().feed(frame(LogLine("INFO", "hello")))
    assert decode_worker(body) == LogLine("INFO", "hello")


@given(st.lists(st.text(max_size=20), max_size=8), st.integers(1, 9))
def test_frames_may_arrive_in_any_pieces(texts: list[str], piece: int) -> None:
    sent = [LogLine("INFO", text) for text in texts]
    stream = b"".join(map(frame, sent))
    reader = FrameReader()
    received = [
        decode_worker(body) for at in range(0, len(stream), piece) for body in reader.feed(stream[at : at + piece])
    ]
    assert received == sent


def test_frames_above_the_limit_are_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match=r"a LogLine of .* bytes is above the limit"):
        frame(LogLine("INFO", "x" * MAX_FRAME))
    with pytest.raises(ValueError, match="above the limit"):
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big"))


def test_garbage_is_refused() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_host(b"\xc1")


def test_the_longest_history_fits_one_frame() -> None:
    longest = bar(1.7976931348623157e308, key=type(bar(1.0).instrument)("a-long-venue", "1000SATS/USDT:USDT-251226"))
    assert len(frame(HistoryBars(2**62, (longest,) * HISTORY_LIMIT))) <= MAX_FRAME
    assert Decimal(HISTORY_LIMIT) == 5_000
