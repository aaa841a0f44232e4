"""Behaves for a few quotes, and then as badly as it is told to."""

import os

from koc_qt.sdk import Quote, Strategy, param
from koc_qt.sdk.channel import Cancel, frame

CHANNEL_FD = 3
GOOD_QUOTES = 3


class Misbehave(Strategy):
    """What a strategy must not do."""

    how: str = param("raise", choices=("raise", "exit", "hang", "orders", "flood", "garbage", "hoard", "deaf", "calm"))

    def on_start(self) -> None:
        """Count from zero."""
        self._quotes = 0

    def on_quote(self, quote: Quote) -> None:
        """Be good for a while."""
        self._quotes += 1
        if self._quotes == GOOD_QUOTES:
            getattr(self, f"_{self.how}")()

    def on_stop(self) -> None:
        """Do not listen."""
        if self.how == "deaf":
            self._hang()

    def _raise(self) -> None:
        raise ZeroDivisionError("a price was divided by nothing")

    def _exit(self) -> None:
        os._exit(7)

    def _hang(self) -> None:
        while True:
            pass

    def _deaf(self) -> None:
        pass

    def _calm(self) -> None:
        pass

    def _orders(self) -> None:
        while True:
            self.buy("0.01")

    def _flood(self) -> None:
        message = frame(Cancel("no such order"))
        os.set_blocking(CHANNEL_FD, True)
        while True:
            os.write(CHANNEL_FD, message)

    def _garbage(self) -> None:
        os.write(CHANNEL_FD, b"\xff" * 64)
        self._hang()

    def _hoard(self) -> None:
        kept = []
        while True:
            kept.append(bytearray(1 << 24))
