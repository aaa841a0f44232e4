"""Sentences that the person has to be told, in the log and in every window."""

from __future__ import annotations

from loguru import logger

from koc_qt.engine.bus import Bus
from koc_qt.engine.store import Store
from koc_qt.link.messages import NoticeGiven

NOTICES_KEPT = 100  # for who comes later; the oldest makes way, and is in the log


def give_notice(store: Store, bus: Bus, text: str) -> None:
    """Tell the person something, also those who look later; the same sentence once."""
    if text in store.notices:
        return
    logger.warning("{}", text)
    store.notices.append(text)
    del store.notices[:-NOTICES_KEPT]
    bus.publish(NoticeGiven(text))
