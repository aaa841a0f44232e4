"""What a column shows of a record."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

R = TypeVar("R")


@dataclass(frozen=True)
class Column(Generic[R]):
    """A column of a table of records.

    `key` sorts (the text where there is none; None comes first), `right` aligns numbers, `tone` names a colour of the
    theme (profit, loss, warning, danger, info, muted) or None, `tip` is the tooltip, `icon` the name of an icon;
    `width` is in characters.
    """

    name: str
    title: str
    text: Callable[[R], str]
    key: Callable[[R], Any] | None = None
    right: bool = False
    tone: Callable[[R], str | None] | None = None
    tip: Callable[[R], str] | None = None
    icon: Callable[[R], str | None] | None = None
    pill: Callable[[R], str | None] | None = None  # a pill's look, as of ui/style_sheet.py, behind the text
    width: int = 10
    hidden: bool = False
    title_tip: str = ""

    def sort_key(self, record: R) -> tuple[bool, Any]:
        """Give what a record is sorted by. A number that is none (NaN) has no place of its own: it is as None."""
        value = self.text(record).casefold() if self.key is None else self.key(record)
        return (False, None) if value is None or value != value else (True, value)


def tone_of_sign(value: Any) -> str | None:
    """Give the tone of a profit or loss."""
    return None if not value else "profit" if value > 0 else "loss"
