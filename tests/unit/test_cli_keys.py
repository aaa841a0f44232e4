"""``koc keys``: carried by file from one profile to another, and never over something by mistake."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from koc_qt.cli.main import main
from koc_qt.link.keys import KeyPair, authorized_keys, load_or_create_keys, read_public, write_public
from koc_qt.paths import Paths


def said(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Give the code and all that was said."""
    code = main(["keys", *words])
    output = capsys.readouterr()
    return code, output.out + output.err


def test_two_profiles_exchange_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, laptop = tmp_path / "desk", tmp_path / "laptop"
    monkeypatch.setenv("KOC_HOME", str(laptop))
    assert said(capsys, "export", str(tmp_path / "laptop.key"))[0] == 0
    monkeypatch.setenv("KOC_HOME", str(desk))
    code, text = said(capsys, "import", "laptop", str(tmp_path / "laptop.key"))
    assert (code, text) == (0, "laptop may enter this profile's engine from now on, also one that runs.\n")
    assert said(capsys, "server", str(tmp_path / "desk.key"))[0] == 0
    theirs, ours = load_or_create_keys(laptop / "keys"), load_or_create_keys(desk / "keys")
    assert authorized_keys(desk / "keys") == {ours.client.public: "client", theirs.client.public: "laptop"}
    assert read_public(tmp_path / "desk.key") == ours.engine.public
    for secret in (theirs.client.secret, ours.engine.secret):
        assert secret.decode() not in (tmp_path / "desk.key").read_text() + (tmp_path / "laptop.key").read_text()

    code, text = said(capsys, "import", "again", str(tmp_path / "laptop.key"))
    assert (code, text) == (0, "This key is let in already, as laptop.\n")
    code, text = said(capsys, "list")
    assert code == 0
    assert f"  client  {ours.client.public.decode()}  (this profile)\n" in text
    assert f"  laptop  {theirs.client.public.decode()}\n" in text
    shown = json.loads(said(capsys, "list", "--json")[1])
    assert shown["engine"] == ours.engine.public.decode()
    assert [one["name"] for one in shown["authorized"]] == ["client", "laptop"]

    assert said(capsys, "remove", "laptop")[0] == 0
    assert authorized_keys(desk / "keys") == {ours.client.public: "client"}
    code, text = said(capsys, "remove", "laptop")
    assert (code, "no key is called 'laptop'" in text) == (1, True)


def test_nothing_is_written_over_by_mistake(profile: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.key"
    file.write_text("precious")
    for action in ("export", "server"):
        code, text = said(capsys, action, str(file))
        assert (code, "is there already: name another file, or replace it with --force" in text) == (1, True)
        assert file.read_text() == "precious"
    assert said(capsys, "export", "--force", str(file))[0] == 0
    assert read_public(file) == load_or_create_keys(profile.keys).client.public

    one, two = KeyPair.generate(), KeyPair.generate()
    for name, pair in (("one", one), ("two", two)):
        write_public(pair.public, tmp_path / f"{name}.key")
    assert said(capsys, "import", "laptop", str(tmp_path / "one.key"))[0] == 0
    code, text = said(capsys, "import", "laptop", str(tmp_path / "two.key"))
    assert (code, "another key is called 'laptop' already" in text) == (1, True)
    assert authorized_keys(profile.keys)[one.public] == "laptop"
    assert said(capsys, "import", "laptop", str(tmp_path / "two.key"), "--force")[0] == 0
    assert one.public not in authorized_keys(profile.keys)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["export", "{tmp}"], "is a folder: name a file in it"),
        (["export", "{tmp}/none/x.key"], "there is no folder"),
        (["import", "laptop", "{tmp}/none.key"], "cannot be read: No such file"),
        (["import", "laptop", "{tmp}/nonsense.key"], "is damaged: it has no public key"),
        (["import", "../engine", "{tmp}/other.key"], "cannot name a key"),
        (["import", "con", "{tmp}/other.key"], "cannot name a key"),
        (["import", "Client", "{tmp}/other.key"], "is this profile's own key"),
        (["import", "laptop", "{tmp}/engine.key"], "is this engine's own key"),
        (["import", "laptop", "{keys}/client.key_secret"], "holds a secret key, which must not travel"),
        (["remove", "client"], "is this profile's own key"),
        (["remove", "../client"], "cannot name a key"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    words: list[str], why: str, profile: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = load_or_create_keys(profile.keys)
    (tmp_path / "nonsense.key").write_text("nonsense")
    write_public(KeyPair.generate().public, tmp_path / "other.key")
    write_public(keys.engine.public, tmp_path / "engine.key")
    before = authorized_keys(profile.keys)
    code, text = said(capsys, *(word.format(tmp=tmp_path, keys=profile.keys) for word in words))
    assert code == 1
    assert text.startswith("koc: ")
    assert why in text
    assert authorized_keys(profile.keys) == before


@pytest.mark.skipif(os.name != "posix", reason="links need a right of their own on Windows")
def test_a_link_is_not_written_through(profile: Paths, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.key").symlink_to(tmp_path / "elsewhere")
    assert said(capsys, "export", str(tmp_path / "link.key"))[0] == 1
    assert not (tmp_path / "elsewhere").exists()


def test_koc_keys_alone_lists(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = said(capsys)
    assert code == 0
    assert "The engine lets in:\n  client  " in text
