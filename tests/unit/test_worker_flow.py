"""The queue to a worker and the bucket that bounds what it may say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.adapters.worker_flow import OutgoingQueue, TokenBucket


def _drain(queue: OutgoingQueue) -> list[bytes]:
    frames = []
    while head := queue.head():
        frames.append(bytes(head))
        queue.written(len(head))
    return frames


def test_oldest_market_frames_make_way_and_all_else_stays_in_order() -> None:
    queue = OutgoingQueue(market_limit=2)
    for number, market in enumerate([True, False, True, True, False, True]):
        queue.put(b"%d" % number, market=market)
    assert queue.dropped == 2
    assert queue.waiting_bytes == 4
    assert _drain(queue) == [b"1", b"3", b"4", b"5"]
    assert queue.waiting_bytes == 0


def test_a_frame_written_in_part_is_never_dropped() -> None:
    queue = OutgoingQueue(market_limit=1)
    queue.put(b"first", market=True)
    queue.written(len(queue.head()[:2]))
    for frame in (b"second", b"third"):
        queue.put(frame, market=True)
    assert queue.dropped == 1
    assert _drain(queue) == [b"rst", b"third"]


def test_clear_forgets_everything() -> None:
    queue = OutgoingQueue(market_limit=5)
    queue.put(b"a", market=True)
    queue.put(b"b", market=False)
    queue.head()
    queue.clear()
    assert not queue.head()
    assert queue.waiting_bytes == 0


@given(
    st.integers(1, 4),
    st.lists(st.one_of(st.booleans(), st.integers(1, 3)), max_size=60),
)
def test_nothing_but_old_market_frames_is_ever_lost(limit: int, steps: list[bool | int]) -> None:
    """A bool puts a frame (market or not); a number takes so many bytes out."""
    queue = OutgoingQueue(limit)
    kept: list[bytes] = []
    market: list[bytes] = []
    out = b""
    for number, step in enumerate(steps):
        if isinstance(step, bool):
            frame = b"<%d%s>" % (number, b"m" if step else b"")
            (market if step else kept).append(frame)
            queue.put(frame, market=step)
        else:
            part = bytes(queue.head()[:step])
            out += part
            queue.written(len(part))
    waiting = queue.waiting_bytes
    rest = b"".join(_drain(queue))
    out += rest
    assert waiting == len(rest)
    frames = [b"<" + piece for piece in out.split(b"<")[1:]]
    assert all(frame.endswith(b">") for frame in frames)
    assert [frame for frame in frames if b"m" not in frame] == kept
    arrived = [frame for frame in frames if b"m" in frame]
    assert len(arrived) + queue.dropped == len(market)
    assert market[-1:] == arrived[-1:]
    numbers = [int(frame.strip(b"<>m")) for frame in frames]
    assert numbers == sorted(numbers)


def test_tokens_are_spent_and_grow_back() -> None:
    bucket = TokenBucket(rate_hz=100, burst=10, now_s=0.0)
    for _ in range(9):
        bucket.spend(0)
    assert bucket.wait_s(0.0) == 0
    bucket.spend(4096)
    assert 0.05 <= bucket.wait_s(0.0) <= 0.1
    assert bucket.wait_s(0.06) == 0
    assert bucket.wait_s(1000.0) == 0
    for _ in range(10):
        bucket.spend(0)
    assert bucket.wait_s(1000.0) > 0  # never more than the burst was saved


def test_flooding_lasts_until_a_reserve_has_come_together() -> None:
    bucket = TokenBucket(rate_hz=100, burst=100, now_s=0.0)
    assert bucket.flooding_s(5.0) == 0
    for tenth in range(30):  # three times what grows back
        now_s = tenth / 10
        for _ in range(30):
            bucket.spend(0)
        bucket.wait_s(now_s)
    assert bucket.flooding_s(2.9) == pytest.approx(2.9, abs=0.5)
    bucket.wait_s(20.0)
    assert bucket.flooding_s(20.0) == 0


def test_a_megabyte_costs_as_much_as_257_small_messages() -> None:
    bucket = TokenBucket(rate_hz=100, burst=257, now_s=0.0)
    bucket.spend(1 << 20)
    assert bucket.wait_s(0.0) > 0
