"""installer/release.py: keys are made outside the tree, and what is signed is what the program believes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "installer"))
import release  # noqa: E402


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KOC_RELEASE_PHRASE", "correct horse")
    (tmp_path / "notes.txt").write_text("Better.\n")
    return tmp_path


def signed(place: Path, *more: str) -> list[str]:
    files = [
        "--private",
        str(place / "key.pem"),
        "--notes",
        str(place / "notes.txt"),
        "--out",
        str(place / "note.json"),
    ]
    return ["sign", *files, "--serial", "1", "--version", "0.2.0", "--page", "https://koc.example/", *more]


def test_a_note_is_signed_and_verified(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    public = place / "release_key.txt"
    assert release.main(["keygen", "--private", str(place / "key.pem"), "--public", str(public)]) == 0
    assert (place / "key.pem").read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY")
    assert release.main(signed(place)) == 0
    assert release.main(["verify", str(place / "note.json"), "--public", str(public)]) == 0
    assert "signed: 0.2.0 of " in capsys.readouterr().out
    assert release.main(["keygen", "--private", str(place / "other.pem"), "--public", str(place / "other.txt")]) == 0
    assert release.main(["verify", str(place / "note.json"), "--public", str(place / "other.txt")]) == 1
    assert "NOT signed" in capsys.readouterr().err


def test_a_private_key_has_no_place_in_the_tree(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inside = ROOT / "installer" / "key.pem"
    assert release.main(["keygen", "--private", str(inside), "--public", str(place / "k.txt")]) == 1
    assert "has no place there" in capsys.readouterr().err
    assert not inside.exists()
    assert not (place / "k.txt").exists()
    (place / "key.pem").write_text("mine")
    assert release.main(["keygen", "--private", str(place / "key.pem"), "--public", str(place / "k.txt")]) == 1
    assert (place / "key.pem").read_text() == "mine"


def test_what_cannot_be_signed_is_said(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert release.main(["keygen", "--private", str(place / "key.pem"), "--public", str(place / "k.txt")]) == 0
    assert release.main(signed(place, "--page", "http://koc.example/")) == 1
    assert "no https address" in capsys.readouterr().err
    assert release.main(signed(place, "--version", "new")) == 1
    assert "is no version" in capsys.readouterr().err
    monkeypatch.setenv("KOC_RELEASE_PHRASE", "wrong")
    assert release.main(signed(place)) == 1
    assert "cannot be opened with that passphrase" in capsys.readouterr().err
    assert not (place / "note.json").exists()
