"""Numbers as people type them into the order ticket: taken exactly, or refused with what to write instead."""

from __future__ import annotations

import re
from decimal import Decimal

MOST_CHARACTERS = 48
_MOST_DIGITS = 18  # before the point, as orders allow
_SPACES = str.maketrans(dict.fromkeys("\u00a0\u2007\u2009\u202f", " "))  # what languages group digits with
_MINUS = ("-", "\u2212", "\u2013")
_PLAIN = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_SPACED = re.compile(r"[0-9]{1,3}(?: [0-9]{3})+(?:\.[0-9]*)?")
# One comma may be a decimal one, so that it takes a second one or a point to know.
_GROUPED = re.compile(r"[0-9]{1,3}(?:(?:,[0-9]{3})+\.[0-9]*|(?:,[0-9]{3}){2,})")
_ONE_COMMA = re.compile(r"([0-9]*),([0-9]+)")


class BadNumber(ValueError):
    """A text that is no amount; says what to write instead."""


def read_amount(text: str) -> Decimal:
    """Read an amount above zero, such as `0.5`, `1,234.50` or `10 000`. Raises BadNumber.

    A lone comma is refused, for 1,234 is a thousand times as much in one country as in another.
    """
    text = text.strip().translate(_SPACES)
    if len(text) > MOST_CHARACTERS:
        raise BadNumber("This is too long for a number")
    if text.startswith(_MINUS):
        raise BadNumber("Must be above zero; the side is chosen above")
    if comma := _ONE_COMMA.fullmatch(text):
        whole, rest = comma.group(1) or "0", comma.group(2)
        if len(rest) == 3 and 0 < int(whole) < 1000:
            raise BadNumber(f"Write {whole}{rest} or {whole}.{rest}: {text} can be read as either")
        raise BadNumber(f"Write a point for decimals: {whole}.{rest}")
    if not (_PLAIN.fullmatch(text) or _SPACED.fullmatch(text) or _GROUPED.fullmatch(text)):
        raise BadNumber("Not a number: write digits and a point, such as 1234.5")
    value = Decimal(text.replace(" ", "").replace(",", ""))
    if value <= 0:
        raise BadNumber("Must be above zero")
    if value.adjusted() >= _MOST_DIGITS:
        raise BadNumber(f"Too large: at most {_MOST_DIGITS} digits before the point")
    return value
