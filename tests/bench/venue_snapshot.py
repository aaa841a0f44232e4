"""How long the snapshot of a deep book holds the loop up: python -m tests.bench.venue_snapshot [--levels 40000]

Coinbase's level-2 channel begins with every level there is. `ours` and `bare` (ccxt.pro alone) take the same frame, as
it comes from the socket, on one callback of the loop. Milliseconds, the longest of five.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

from koc_qt.adapters.ccxt_exchange import exchange_class
from koc_qt.adapters.clock import SystemClock
from koc_qt.adapters.venues.coinbase import CoinbaseVenue
from tests.bench.window_common import load

TURNS = 5


def snapshot(levels: int) -> str:
    """Write a frame with so many levels, half of them on each side."""
    head = {"event_time": "1970-01-01T00:00:00Z"}
    updates = [
        {**head, "side": side, "price_level": f"{price + way * at * 0.37:.2f}", "new_quantity": f"{at % 977 + 1}.0013"}
        for side, price, way in (("bid", 60_000, -1), ("offer", 60_001, 1))
        for at in range(levels // 2)
    ]
    event = {"type": "snapshot", "product_id": "BTC-USD", "updates": updates}
    frame = {"channel": "l2_data", "timestamp": "2023-02-09T20:32:50.714964855Z", "sequence_num": 0, "events": [event]}
    return json.dumps(frame, separators=(",", ":"))


async def longest_ms(additions: Callable[[Any], Any] | None, frame: str) -> float:
    """Give the longest of some turns."""
    exchange = exchange_class("coinbase", additions)({"timeout_on_exit": 0})
    exchange.heard = exchange.unreadable = lambda _: None
    market = {"id": "BTC-USD", "symbol": "BTC/USD", "base": "BTC", "quote": "USD", "type": "spot", "spot": True}
    exchange.set_markets([exchange.safe_market_structure({**market, "info": {}, "active": True})])
    client, taken_ms = exchange.client("wss://advanced-trade-ws.coinbase.com"), []
    for _ in range(TURNS):
        client.next_number = 0
        began_s = time.perf_counter()
        client.handle_text_or_binary_message(frame)
        taken_ms.append((time.perf_counter() - began_s) * 1e3)
    assert len(exchange.orderbooks["BTC/USD"]["bids"]) > 0
    await exchange.close()
    return max(taken_ms)


def run() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", type=int, default=40_000)
    args = parser.parse_args()
    frame = snapshot(args.levels)
    ours = asyncio.run(longest_ms(CoinbaseVenue(SystemClock())._mended, frame))
    bare = asyncio.run(longest_ms(None, frame))
    print(load())
    print(f"{args.levels:,} levels, {len(frame) / 1e6:.1f} MB: ours {ours:.1f} ms, bare {bare:.1f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(run())
