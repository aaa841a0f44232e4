"""How the palette ranks commands."""

from __future__ import annotations

import pytest

from koc_qt.ui.palette import rank


@pytest.mark.parametrize(
    ("query", "text", "place"),
    [
        ("", "Kill switch", 0),
        ("kill", "Kill switch", 0),
        ("sw ki", "Kill switch", 1),
        ("witch", "Kill switch", 2),
        ("ksw", "Kill switch", 3),
        ("KILL", "kill switch", 0),
        ("kx", "Kill switch", None),
        ("engine kill", "Engine: Kill switch", 1),
    ],
)
def test_rank(query: str, text: str, place: int | None) -> None:
    assert rank(query, text) == place
