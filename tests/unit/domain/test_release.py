"""Notes about releases: what they must say, how versions are ordered, and which are not to be believed."""

from __future__ import annotations

import contextlib
from datetime import date
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.domain.errors import KocError
from koc_qt.domain.release import MOST_NOTES, ReleaseUntrusted, is_https, judge, read_release, version_key

NOTE: dict[str, Any] = {
    "program": "koc",
    "version": "0.2.0",
    "serial": 7,
    "date": "2026-11-01",
    "expires": "2027-05-01",
    "notes": "Better.\n<b>Faster.</b>",
    "page": "https://koc.example/releases/0.2.0",
}


def test_a_note_is_read() -> None:
    release = read_release(NOTE)
    assert (release.version, release.serial, release.page) == ("0.2.0", 7, NOTE["page"])
    assert (release.released, release.expires) == (date(2026, 11, 1), date(2027, 5, 1))
    assert release.notes == "Better.\n<b>Faster.</b>"


def test_letters_that_steer_are_left_out_of_the_notes() -> None:
    assert read_release({**NOTE, "notes": "a\x1b[31mb\u202ec\x00d\ne"}).notes == "a[31mbcd\ne"


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("program", "other", "another program"),
        ("version", None, "no version"),
        ("version", "new", "is no version"),
        ("version", "1." * 30, "no version"),
        ("serial", "7", "no serial"),
        ("serial", True, "no serial"),
        ("serial", 0, "no serial"),
        ("serial", 1 << 60, "no serial"),
        ("date", "yesterday", "no date"),
        ("date", "2026-13-01", "no date"),
        ("expires", 5, "no expires"),
        ("notes", "x" * (MOST_NOTES + 1), "no notes"),
        ("page", "http://koc.example/", "no https address"),
        ("page", "javascript:alert(1)", "no https address"),
    ],
)
def test_what_is_not_as_it_must_be_is_named(field: str, value: object, words: str) -> None:
    with pytest.raises(KocError, match=words):
        read_release({**NOTE, field: value})


@pytest.mark.parametrize(
    ("address", "good"),
    [
        ("https://koc.example/x?y=1", True),
        ("https://koc.example:8443/", True),
        ("https://[::1]/", True),
        ("http://koc.example/", False),
        ("https://user:word@koc.example/", False),
        ("https:///x", False),
        ("https://koc.example/a b", False),
        ("https://koc.example\\@evil.example/", False),
        ("https://koc.example:99999/", False),
        ("https://[::1/", False),
        ("file:///etc/passwd", False),
        ("", False),
    ],
)
def test_addresses(address: str, good: bool) -> None:
    assert is_https(address) is good


def test_versions_are_ordered() -> None:
    ordered = ["0.1", "0.1.1", "0.2a1", "0.2a2", "0.2b1", "0.2rc1", "0.2rc10", "0.2", "0.10", "1.0.0", "1.0.0.1"]
    keys = [version_key(text) for text in ordered]
    assert all(earlier < later for earlier, later in pairwise(keys))
    assert version_key("1.2") == version_key("1.2.0.0")
    for wrong in ("", "1.", "v1", "1.2.3.4.5", "1.0-beta", "1.0rc", "٣.1x", " 1"):
        with pytest.raises(KocError, match="is no version"):
            version_key(wrong)


def test_an_old_note_again_and_an_expired_one_are_not_believed() -> None:
    release = read_release(NOTE)
    judge(release, newest_serial=7, today=date(2027, 5, 1))
    judge(release, newest_serial=0, today=date(2026, 11, 1))
    with pytest.raises(ReleaseUntrusted, match=r"an old one again \(serial 7, and 8 was seen before\)"):
        judge(release, newest_serial=8, today=date(2026, 11, 1))
    with pytest.raises(ReleaseUntrusted, match="expired on 2027-05-01"):
        judge(release, newest_serial=7, today=date(2027, 5, 2))


@given(st.dictionaries(st.sampled_from(sorted(NOTE)), st.none() | st.integers() | st.text() | st.booleans()))
def test_whatever_is_said_it_is_a_release_or_a_sentence(said: dict[str, object]) -> None:
    with contextlib.suppress(KocError):
        release = read_release({**NOTE, **said})
        assert is_https(release.page)
        assert version_key(release.version)
