"""What the trials of a study are made from: noted when it begins, and held against what is there when it goes on."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable, Sequence
from hashlib import sha256
from importlib import metadata

import msgspec

from koc_qt.domain.data_hash import COLUMNS, DataHash, hash_of
from koc_qt.domain.errors import StrategyError
from koc_qt.domain.instruments import Instrument
from koc_qt.domain.optimisation import Method, StudyOrigin, StudySnapshot, StudySpec
from koc_qt.sdk.channel import ReplayBars
from koc_qt.version import __version__

_NOT_SEARCH = frozenset({"base", "processes", "cluster"})  # rules by itself; where it runs
_NOT_RULES = frozenset({"path", "files"})  # where things lie: what is in them is hashed


def origin_of(spec: StudySpec, source: bytes, instruments: Sequence[Instrument], data: str) -> StudyOrigin:
    """Give what a study whose ranges are settled is made from; it reads files, so call it in a thread."""
    spec = msgspec.json.decode(msgspec.json.encode(spec), type=StudySpec)  # as it comes from the store: 1 is 1.0 there
    search, rules = msgspec.structs.asdict(spec), msgspec.structs.asdict(spec.base)
    return StudyOrigin(
        data=data,
        strategy=sha256(source).hexdigest(),
        search=hash_of({name: value for name, value in search.items() if name not in _NOT_SEARCH}),
        rules=hash_of({name: value for name, value in rules.items() if name not in _NOT_RULES}),
        instruments=hash_of(list(instruments)),
        versions=_versions(spec.method),
    )


def check_origin(known: StudySnapshot, now: StudyOrigin | None) -> None:
    """Refuse to go on with a study of which something is another today; None where that is not known yet.

    Raises StrategyError, which names what it is: trials made of different things must not be in one list.
    """
    if known.origin is None:
        if known.finished:
            raise StrategyError(
                f"{known.study_id} was begun by a version that did not keep what its trials were made from, so that "
                f"nobody can tell whether others would belong to them. {_INSTEAD}"
            )
        return
    if now is not None and (found := known.origin.differences(now)):
        *most, last = found
        named = f"{', '.join(most)} and {last}" if most else last
        raise StrategyError(
            f"{known.study_id} cannot go on: {named} changed since it began. {_INSTEAD}, or bring back what was there"
        )


_INSTEAD = "Its trials stay as they are; start another study, which gets a name of its own"


def data_of(hashing: DataHash, messages: Iterable[ReplayBars]) -> None:
    """Count messages of bars in."""
    for message in messages:
        columns = {name: array(kind, getattr(message, name)) for name, kind in COLUMNS.items()}
        hashing.take(columns, warmup=message.warmup)


def _versions(method: Method) -> dict[str, str]:
    """Give the versions of what works trials out, and of what proposes them where that learns."""
    libraries = ["numpy", "numba", *(["optuna"] if method is Method.BAYESIAN else [])]
    found = {"koc": __version__, "python": ".".join(map(str, sys.version_info[:3]))}
    for name in libraries:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "none"
    return found
