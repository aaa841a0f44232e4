"""What a venue can do, in a line or two for whoever chooses one."""

from __future__ import annotations

from collections.abc import Iterable

from koc_qt.domain.venues import VenueAbilities
from koc_qt.ui.modes import modes_of, needs_keys

_DOLLARS = ("kraken", "coinbase", "bitfinex", "alpaca", "polygon", "yahoo")


def venue_choice(venues: Iterable[VenueAbilities]) -> dict[str, str]:
    """Give the venues on which there can be accounts, as people call them: where orders go first, then data alone."""
    usable = {each.venue: each for each in venues if modes_of(each)}
    real = sorted((each for each in usable.values() if each.trading and each.credentials), key=_title)
    simulated = [usable[name] for name in sorted(usable) if _trades(usable[name]) and usable[name] not in real]
    data = sorted((each for each in usable.values() if not _trades(each)), key=_title)
    named = {each.venue: each.title for each in (*real, *simulated)}
    return named | {each.venue: f"{each.title}  ·  data alone" for each in data}


def first_choice(venues: Iterable[VenueAbilities]) -> str:
    """Give the venue to begin with: one that can be tried without keys; empty where there is none."""
    known = {each.venue: each for each in venues}
    names = list(venue_choice(known.values()))
    keyless = (name for name in names if not needs_keys(known[name], modes_of(known[name])[0]))
    return next(keyless, names[0] if names else "")


def venue_words(abilities: VenueAbilities) -> str:
    """Say what a venue can do."""
    if not _trades(abilities):
        source = "A source of market data alone: orders are filled on paper, at its prices."
        return f"{source} {_data(abilities)}"
    types = [each.value.replace("_", "-") for each in abilities.order_types]
    orders = f"{_listed(types)} orders" if types else "Orders"
    extras = [
        word
        for word, has in (
            ("post-only", abilities.post_only),
            ("reduce-only", abilities.reduce_only),
            ("changes of working orders", abilities.amend),
            ("short selling", abilities.shorting),
        )
        if has
    ]
    also = f", also {_listed(extras)}" if extras else ""
    return f"{orders[:1].upper()}{orders[1:]}{also}. {_data(abilities)}"


def cash_of(venue: str) -> str:
    """Give the currency in which people reckon on a venue."""
    return "USD" if venue in _DOLLARS else "USDT"


def _title(abilities: VenueAbilities) -> str:
    return abilities.title.casefold()


def _trades(abilities: VenueAbilities) -> bool:
    return abilities.trading or not (abilities.credentials or abilities.paper)


def _data(abilities: VenueAbilities) -> str:
    streams = f"Streams {_listed([each.value for each in abilities.streams])}. " if abilities.streams else ""
    days = abilities.history_days
    history = "all of it" if days is None else "less than a day" if days < 1 else f"{days:,} days"
    return f"{streams}History of 1-minute bars: {history}."


def _listed(words: list[str]) -> str:
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:])
