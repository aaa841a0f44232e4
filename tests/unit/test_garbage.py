"""The collector while a window loads, afterwards, and in the end."""

from __future__ import annotations

import gc

import pytest

from koc_qt.wiring.garbage import MOST_COLLECTED, collector_at_rest


class Ring:
    """Only a collection ends it."""

    def __init__(self, ended: list[int]) -> None:
        self.ring, self.ended = self, ended

    def __del__(self) -> None:
        self.ended.append(1)


def grown_old() -> None:
    """Have everything that is there pass through the young generations."""
    gc.collect(0)
    gc.collect(1)


def test_what_is_loaded_is_frozen_and_what_comes_later_is_collected() -> None:
    ended: list[int] = []
    gc.unfreeze()  # what a test before may have left, as one that imports a module that freezes
    with collector_at_rest() as collector:
        assert not gc.isenabled()
        collector.look()  # too soon: nothing is collected while it loads
        assert not gc.isenabled()
        collector.loaded()
        assert gc.isenabled()
        frozen = gc.get_freeze_count()
        assert frozen > 1_000
        Ring(ended)
        collector.loaded()  # once is enough: what came since can become garbage
        assert gc.get_freeze_count() == frozen
        grown_old()
        assert gc.get_freeze_count() == frozen
        collector.look()
        assert ended == [1]
    assert gc.get_freeze_count() == 0


def test_nothing_old_is_looked_at_but_when_it_is_told_to() -> None:
    usual = gc.get_threshold()
    collections: list[int] = []
    watch = lambda phase, info: collections.append(info["generation"]) if phase == "stop" else None  # noqa: E731
    with collector_at_rest() as collector:
        collector.loaded()
        gc.callbacks.append(watch)
        kept = [[number] for number in range(200_000)]  # each is looked at while it is young
        gc.callbacks.remove(watch)
        assert len(kept) == 200_000
        assert 1 in collections
        assert 2 not in collections
    assert gc.get_threshold() == usual


def test_much_that_has_grown_old_is_there_to_stay() -> None:
    ended: list[int] = []
    with collector_at_rest() as collector:
        collector.loaded()
        frozen = gc.get_freeze_count()
        kept = [[number] for number in range(MOST_COLLECTED)]
        Ring(ended)
        grown_old()
        collector.look()
        assert gc.get_freeze_count() - frozen > MOST_COLLECTED == len(kept)
        assert ended == [1]  # by the youngest generations' own collections
    assert gc.get_freeze_count() == 0


def test_a_window_that_never_loads_leaves_the_collector_as_usual() -> None:
    with pytest.raises(RuntimeError), collector_at_rest() as collector:
        raise RuntimeError
    assert gc.isenabled()
    collector.loaded()
    assert gc.get_freeze_count() == 0
