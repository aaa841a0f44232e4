"""Taking secrets out of text that is to be logged, shown or reported.

What is known is taken out exactly (`register_secret`); what only looks like a secret goes by its form: assignments to
names such as api_key, secret, token and password, bearer tokens, PEM blocks, and URLs with a user and password.
"""

from __future__ import annotations

import json
import re
import threading
from typing import Any
from urllib.parse import quote

MASK = "***"
LONGEST_TEXT = 65_536  # characters; patterns over more would cost the engine's loop too much
_SHORTEST_WITHIN = 6  # characters; a shorter secret is found as a word of its own alone, or it would be in every price
_SHORTEST_LINE = 16  # characters; of a secret with several lines, a shorter one tells nothing

_NAME = (
    r"(?:api[_-]?key|private[_-]?key|access[_-]?key|secret|token|pass(?:word|wd|phrase)|pwd"
    r"|authorization|signature|credential)"
)
_VALUE = (
    r"""(?:\\{1,3}["'].*?\\{1,3}["']|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|(?:(?:bearer|basic)\s+)?[^\s"',;&)}\]]+)"""
)
_PATTERNS = [
    (re.compile(r"-----BEGIN [A-Z0-9 ]{1,64}-----.*?(?:-----END [A-Z0-9 ]{1,64}-----|\Z)", re.DOTALL), MASK),
    (re.compile(r"\b([a-z][a-z0-9+.\-]{0,20}://)[^/\s@:]*:[^/\s@]+@", re.IGNORECASE), rf"\1{MASK}@"),
    (re.compile(rf"({_NAME}[\w-]{{0,40}}\\{{0,3}}[\"']?\s{{0,8}}[:=]\s{{0,8}}){_VALUE}", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"(\bkey\\?[\"']?\s{0,8}[:=]\s{0,8}\\?[\"']?)[\w+/=.\-]{16,}", re.IGNORECASE), rf"\1{MASK}"),
    (re.compile(r"\b(bearer|basic)\s{1,8}[\w+/=.~\-]{8,}", re.IGNORECASE), rf"\1 {MASK}"),
]
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)

_lock = threading.Lock()
_known: re.Pattern[str] | None = None
_known_forms: set[str] = set()


def register_secret(value: str) -> None:
    """Take `value` out of everything from now on: as it is, URL-quoted, escaped, without the blanks around it.

    So are the lines of one that has several, but for the frame of a PEM block, by which any other is known. One below 6
    characters is taken out where it stands as a word of its own.
    """
    global _known
    bare = value.strip()
    if not bare:
        return
    lines = (line.strip() for line in bare.splitlines())
    parts = {line for line in lines if len(line) >= _SHORTEST_LINE and not line.startswith("-----")}
    forms = {form for part in {value, bare, *parts} for form in _forms(part)}
    with _lock:
        if forms <= _known_forms:
            return
        _known_forms.update(forms)
        # The longest first, so that a secret within a secret does not leave the rest of it standing.
        _known = re.compile("|".join(_pattern(form) for form in sorted(_known_forms, key=len, reverse=True)))


def _forms(value: str) -> set[str]:
    return {value, quote(value, safe=""), json.dumps(value)[1:-1], repr(value)[1:-1]}


def _pattern(form: str) -> str:
    return re.escape(form) if len(form) >= _SHORTEST_WITHIN else rf"(?<!\w){re.escape(form)}(?!\w)"


def scrub(text: str) -> str:
    """Give `text` without secrets, and cut when it is longer than LONGEST_TEXT characters."""
    if _known is not None:
        text = _known.sub(MASK, text)
    if len(text) > LONGEST_TEXT:
        text = f"{text[:LONGEST_TEXT]}... ({len(text) - LONGEST_TEXT} characters more)"
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def scrub_value(value: Any, name: str = "") -> Any:
    """Give a value that JSON can hold, without secrets; all of it is hidden where `name` is a secret's."""
    if name and _SECRET_NAME.search(name):
        return MASK
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {scrub(str(key)): scrub_value(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [scrub_value(item) for item in value]
    return scrub(str(value))
