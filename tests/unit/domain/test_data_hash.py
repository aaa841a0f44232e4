"""The hash of bars: the same in whatever pieces they come, another for each thing that is another."""

from __future__ import annotations

from array import array
from typing import Any

import pytest

from koc_qt.domain import data_hash
from koc_qt.domain.data_hash import COLUMNS, DataHash, little_endian


def columns(count: int, first: int = 0) -> dict[str, Any]:
    return {name: array(kind, (number + 1 for number in range(first, first + count))) for name, kind in COLUMNS.items()}


def hashed(*pieces: tuple[dict[str, Any], bool], symbols: tuple[str, ...] = ("a:b",), timeframe: str = "1m") -> str:
    made = DataHash(symbols, timeframe)
    for piece, is_warmup in pieces:
        made.take(piece, warmup=is_warmup)
    return made.hexdigest()


def test_it_is_the_same_in_whatever_pieces_bars_come() -> None:
    whole = hashed((columns(10), False))
    assert whole == hashed((columns(4), False), (columns(6, 4), False))
    assert len(whole) == 64


def test_whatever_is_another_makes_it_another() -> None:
    changed = columns(10)
    changed["close"][9] += 1e-9
    found = {
        hashed((columns(10), False)),
        hashed((columns(9), False)),
        hashed((changed, False)),
        hashed((columns(10), True)),
        hashed((columns(4), True), (columns(6, 4), False)),
        hashed((columns(10), False), symbols=("a:c",)),
        hashed((columns(10), False), timeframe="5m"),
    }
    assert len(found) == 7


def test_on_a_machine_that_writes_numbers_the_other_way_round_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = little_endian(array("q", [1, 256]))
    monkeypatch.setattr(data_hash.sys, "byteorder", "big")
    swapped = array("q", [1, 256])
    swapped.byteswap()
    assert little_endian(swapped) == plain
    assert swapped[0] != 1  # its own numbers were left as they are
