"""How much may wait for a worker, and how much it may say: the queue out and the token bucket in."""

from __future__ import annotations

from collections import OrderedDict, deque

import msgspec


class WorkerLimits(msgspec.Struct, frozen=True):
    """What a worker may cost its host.

    A message costs one token and one more for every 4 KiB; tokens grow by `messages_per_s` up to `burst`. Without
    tokens the host stops reading, and a worker that keeps it so for `flood_s` is killed. Of market messages that wait
    for a slow worker the newest `market_messages` are kept; when `queue_bytes` wait in all, it is killed.
    """

    messages_per_s: float = 2_000.0
    burst: float = 5_000.0
    flood_s: float = 5.0
    market_messages: int = 1_000
    queue_bytes: int = 8 << 20
    start_timeout_s: float = 30.0
    exit_grace_s: float = 2.0


class TokenBucket:
    """Tokens that grow with time and are spent on messages; times are monotonic seconds.

    From running dry until a quarter of a second's worth has come together again, its owner floods.
    """

    def __init__(self, rate_hz: float, burst: float, now_s: float) -> None:
        self._rate_hz = rate_hz
        self._burst = burst
        self._tokens = burst
        self._filled_s = now_s
        self._dry_since_s: float | None = None

    def spend(self, frame_bytes: int) -> None:
        """Pay for one message; the bucket may go below zero, by one read at most."""
        self._tokens -= 1 + frame_bytes / 4096

    def wait_s(self, now_s: float) -> float:
        """Give how long to stop reading: 0 while there are tokens, else until 50 ms' worth of them is back."""
        self._tokens = min(self._burst, self._tokens + (now_s - self._filled_s) * self._rate_hz)
        self._filled_s = now_s
        if self._tokens >= min(self._burst / 2, self._rate_hz / 4):
            self._dry_since_s = None
        if self._tokens > 0:
            return 0.0
        if self._dry_since_s is None:
            self._dry_since_s = now_s
        return 0.05 - self._tokens / self._rate_hz

    def flooding_s(self, now_s: float) -> float:
        """Give for how long its owner has been flooding, as of the last call of `wait_s`."""
        return 0.0 if self._dry_since_s is None else now_s - self._dry_since_s


class OutgoingQueue:
    """Frames that wait to be written, in order; market frames make way for newer ones above a limit.

    A frame that is written in part is never dropped.
    """

    def __init__(self, market_limit: int) -> None:
        self._market_limit = market_limit
        self._frames: OrderedDict[int, bytes] = OrderedDict()
        self._market: deque[int] = deque()  # keys of market frames, oldest first; some are written already
        self._next_key = 0
        self._head = memoryview(b"")
        self.waiting_bytes = 0
        self.dropped = 0

    def put(self, frame: bytes, *, market: bool) -> None:
        """Add a frame; an old market frame may be dropped for it."""
        self._frames[self._next_key] = frame
        self.waiting_bytes += len(frame)
        if market:
            self._market.append(self._next_key)
            while len(self._market) > self._market_limit:
                old = self._frames.pop(self._market.popleft(), None)
                if old is not None:
                    self.waiting_bytes -= len(old)
                    self.dropped += 1
        self._next_key += 1

    def head(self) -> memoryview:
        """Give what is to be written next; empty when nothing waits."""
        if not self._head and self._frames:
            key, frame = self._frames.popitem(last=False)
            if self._market and self._market[0] == key:
                self._market.popleft()
            self._head = memoryview(frame)
        return self._head

    def written(self, count: int) -> None:
        """Take note that `count` bytes of the head were written."""
        self._head = self._head[count:]
        self.waiting_bytes -= count

    def clear(self) -> None:
        """Forget all that waits."""
        self._frames.clear()
        self._market.clear()
        self._head = memoryview(b"")
        self.waiting_bytes = 0
