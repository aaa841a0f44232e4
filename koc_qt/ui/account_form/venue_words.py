"""What a venue can do, in a line or two for whoever chooses one."""

from __future__ import annotations

from collections.abc import Iterable

from koc_qt.domain.venues import VenueAbilities
from koc_qt.ui.modes import modes_of, needs_keys

_YEAR_DAYS = 365
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
        return f"A source of market data alone: orders are filled on paper, at its prices. {_data(abilities)}"
    types = [each.value.replace("_", "-") for each in abilities.order_types]
    kinds = [word for word, has in (("post-only", abilities.post_only), ("reduce-only", abilities.reduce_only)) if has]
    orders = f"Takes {_listed(types)} orders" if types else "Takes orders"
    more = [f"{_listed(kinds)} too"] if kinds else []
    more += ["changes working ones"] if abilities.amend else []
    more += ["sells short"] if abilities.shorting else []
    return f"{', '.join([orders, *more])}. {_data(abilities)}"


def cash_of(venue: str) -> str:
    """Give the currency in which people reckon on a venue."""
    return "USD" if venue in _DOLLARS else "USDT"


def _title(abilities: VenueAbilities) -> str:
    return abilities.title.casefold()


def _trades(abilities: VenueAbilities) -> bool:
    return abilities.trading or not (abilities.credentials or abilities.paper)


def _data(abilities: VenueAbilities) -> str:
    streams = f"Streams {_listed([each.value for each in abilities.streams])}. " if abilities.streams else ""
    return f"{streams}{_history(abilities)}."


def _history(abilities: VenueAbilities) -> str:
    if abilities.history_bars is not None:
        return f"Of each timeframe it has the newest {abilities.history_bars:,} bars, and no older ones"
    days = abilities.history_days
    if days is None:
        return "Its 1-minute bars reach back to the beginning"
    years, rest = divmod(days, _YEAR_DAYS)
    return f"Its 1-minute bars reach back {f'{years} years' if years > 1 and not rest else f'{days:,} days'}"


def _listed(words: list[str]) -> str:
    return " and ".join(([", ".join(words[:-1])] if words[1:] else []) + words[-1:])
