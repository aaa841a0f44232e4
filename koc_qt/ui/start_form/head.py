"""What stands at the top of the form: the strategy's name, what it says of itself, what it listens to."""

from __future__ import annotations

from PySide6.QtWidgets import QHBoxLayout, QLabel, QPushButton, QWidget

from koc_qt.sdk.channel import Described
from koc_qt.ui.formats import cut_words
from koc_qt.ui.start_form.parts import Words
from koc_qt.ui.theme import style_as

_SHORT_DOC = 280  # characters shown at first
LONGEST_NAME = 40  # of what cannot be broken: the form as wide as it is at first
_LONGEST_PART = 60  # of a path, which may be broken between its parts alone


def head(described: Described, path: str) -> list[QWidget]:
    """Make the widgets, from the top down."""
    listens = ", ".join(described.subscriptions) or "nothing: it runs by itself"
    count = described.instruments_wanted
    facts = [f"Listens to {listens}", "1 symbol" if count == 1 else f"{count} symbols"]
    if described.warmup_bars:
        facts.append(f"{described.warmup_bars} bars of history first")
    about = _doc(described.doc, Words(" · ".join(facts), "muted", "small"))
    name = Words(cut_words(described.name, LONGEST_NAME), face="title")
    name.setToolTip(described.name if name.text() != described.name else "")
    where = Words(cut_words(path, _LONGEST_PART), "muted", "small")
    where.setToolTip(path)
    return [name, where, *about]


def section(text: str) -> QLabel:
    """Give the title of a part of the form."""
    label = QLabel(text)
    label.setContentsMargins(0, 8, 0, 0)
    font = label.font()
    font.setBold(True)
    label.setFont(font)
    return label


def _doc(text: str, facts: Words) -> list[QWidget]:
    """Show what the strategy says of itself: the first paragraph, the rest behind a button."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    whole = "\n\n".join(paragraphs)
    first = paragraphs[0] if paragraphs else ""
    if len(first) > _SHORT_DOC:
        first = f"{first[:_SHORT_DOC].rstrip()}…"
    words = Words(first)
    if first == whole:
        return [words, facts] if whole else [facts]
    more = QPushButton("More")
    style_as(more, role="flat")
    more.setAutoDefault(False)
    more.setCheckable(True)

    def turn(open_: bool) -> None:
        words.say(whole if open_ else first)
        more.setText("Less" if open_ else "More")

    more.toggled.connect(turn)
    row = QWidget()
    line = QHBoxLayout(row)
    line.setContentsMargins(0, 0, 0, 0)
    line.addWidget(facts, 1)
    line.addWidget(more)
    return [words, row]
