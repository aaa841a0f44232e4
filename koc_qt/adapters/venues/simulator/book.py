"""The order book around a quote: ten levels a side, a pure function of place and time.

Quantities and gaps come from hashes, so that the book of any moment can be had without those before it: what rests at a
price stays there for some seconds, whatever the best prices do meanwhile.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

LEVELS = 10
_BUCKET_S = 5  # how long a level keeps its quantity
_DEPTH = 3.0  # mean quantity at a level, in mean trades

Ints = npt.NDArray[np.int64]
_Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Ladder:
    """Levels of n moments: each array is n x 10, best first; prices in ticks, quantities in lots, none below one."""

    bid_price: Ints
    bid_lots: Ints
    ask_price: Ints
    ask_lots: Ints


def book_key(seed: int, venue: str, symbol: str) -> int:
    """Give the key that makes one market's book different from another's."""
    return int(
        np.random.SeedSequence([seed, zlib.crc32(venue.encode()), zlib.crc32(symbol.encode())]).generate_state(1)[0]
    )


def ladder(key: int, second: Ints, bid: Ints, ask: Ints, mean_trade_lots: float) -> Ladder:
    """Give the books of n moments from their best prices; `second` counts from any fixed epoch."""
    bucket = second // _BUCKET_S
    gaps = _gaps(key, bucket, ask - bid)
    bid_price = np.maximum(bid[:, None] - gaps, 1)
    ask_price = ask[:, None] + gaps
    typical = _DEPTH * mean_trade_lots
    return Ladder(
        bid_price,
        _lots(key * 2, bucket, bid_price, typical),
        ask_price,
        _lots(key * 2 + 1, bucket, ask_price, typical),
    )


def _gaps(key: int, bucket: Ints, width: Ints) -> Ints:
    """Distance of each level from the best, in ticks; strictly growing, and wider where the spread is."""
    draw = _uniform(_hash(key, bucket[:, None], np.arange(LEVELS)[None, :]))
    steps = 1 + (draw * width[:, None]).astype(np.int64)
    steps[:, 0] = 0
    distances: Ints = np.cumsum(steps, axis=1)
    return distances


def _lots(key: int, bucket: Ints, price: Ints, typical: float) -> Ints:
    draw = _uniform(_hash(key, bucket[:, None], price))
    deeper = 1.0 + 0.25 * np.arange(LEVELS)
    lots: Ints = 1 + (-np.log1p(-draw) * typical * deeper).astype(np.int64)
    return lots


def _uniform(hashes: _Hashes) -> npt.NDArray[np.float64]:
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _hash(key: int, first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> _Hashes:
    """Mix by SplitMix64's finaliser (Steele, Lea and Flood 2014); the arithmetic wraps on purpose."""
    value = first.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + second.astype(np.uint64) * np.uint64(
        0xD1B54A32D192ED03
    )
    value += np.uint64(key)
    value ^= value >> np.uint64(30)
    value *= np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(27)
    value *= np.uint64(0x94D049BB133111EB)
    value ^= value >> np.uint64(31)
    return value
