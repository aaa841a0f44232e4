"""Commands in people's words."""

from __future__ import annotations

from typing import get_args

from koc_qt.link.messages import CancelOrder, Command
from koc_qt.link.wording import ERRANDS, errand


def test_every_command_can_be_said() -> None:
    names = {kind.__name__ for kind in get_args(Command)}
    assert len(names) > 20
    assert names - set(ERRANDS) == set()
    assert not [name for name, words in ERRANDS.items() if name in words]
    assert errand(CancelOrder("K1")) == "cancel the order"
