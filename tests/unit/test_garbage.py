"""The collector while a window loads, afterwards, and in the end."""

from __future__ import annotations

import gc

import pytest

from koc_qt.wiring.garbage import collector_at_rest


class Ring:
    """Only a collection ends it."""

    def __init__(self, ended: list[int]) -> None:
        self.ring, self.ended = self, ended

    def __del__(self) -> None:
        self.ended.append(1)


def test_what_is_loaded_is_frozen_and_what_comes_later_is_collected() -> None:
    ended: list[int] = []
    with collector_at_rest() as loaded:
        assert not gc.isenabled()
        loaded()
        assert gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > 1_000
        Ring(ended)
        loaded()  # once is enough: what came since can become garbage
        assert gc.get_freeze_count() == frozen
        gc.collect()
        assert ended == [1]
    assert gc.get_freeze_count() == 0


def test_a_window_that_never_loads_leaves_the_collector_as_usual() -> None:
    with pytest.raises(RuntimeError), collector_at_rest() as loaded:
        raise RuntimeError
    assert gc.isenabled()
    loaded()
    assert gc.get_freeze_count() == 0
