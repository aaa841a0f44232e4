"""Key files: private, whole, and refused when they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zmq.auth

from koc_qt.domain.errors import LinkError
from koc_qt.link.keys import (
    KeyPair,
    authorized_keys,
    export_public,
    import_authorized,
    load_or_create_keys,
    load_pair,
    read_public,
)
from koc_qt.link.private_files import read_private, write_private
from koc_qt.scrub import scrub

posix = pytest.mark.skipif(os.name != "posix", reason="file modes mean nothing on this platform")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "keys"


def test_made_once_and_read_again(folder: Path) -> None:
    made = load_or_create_keys(folder)
    again = load_or_create_keys(folder)
    assert (made.engine.public, made.engine.secret) == (again.engine.public, again.engine.secret)
    assert (made.client.public, made.client.secret) == (again.client.public, again.client.secret)
    assert made.engine.public != made.client.public
    assert authorized_keys(folder) == {made.client.public: "client"}
    assert load_pair(folder).secret == made.client.secret
    assert zmq.auth.load_certificate(folder / "client.key_secret") == (made.client.public, made.client.secret)


@posix
def test_only_the_owner_can_read_them(folder: Path) -> None:
    load_or_create_keys(folder)
    for path in [folder, *folder.rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_secret_is_never_shown(folder: Path) -> None:
    keys = load_or_create_keys(folder)
    for shown in (repr(keys.engine), str(keys.engine), repr(keys), f"{vars(keys)}"):
        assert keys.engine.secret.decode() not in shown
    assert keys.engine.secret.decode() not in (folder / "authorized" / "client.key").read_text()
    assert keys.engine.secret.decode() not in scrub(f"a bug prints {keys.engine.secret!r}")


@posix
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_loose_permissions_are_refused(folder: Path, mode: int) -> None:
    load_or_create_keys(folder)
    (folder / "engine.key_secret").chmod(mode)
    with pytest.raises(
        LinkError, match=rf"engine\.key_secret can be reached by other users .*{mode:o}.* run `chmod 600"
    ):
        load_or_create_keys(folder)
    (folder / "engine.key_secret").chmod(0o600)
    folder.chmod(0o755)
    with pytest.raises(LinkError, match="run `chmod 700"):
        load_or_create_keys(folder)


@posix
def test_an_authorised_key_that_others_can_write_is_refused(folder: Path) -> None:
    load_or_create_keys(folder)
    path = folder / "authorized" / "client.key"
    path.chmod(0o644)
    assert len(authorized_keys(folder)) == 1
    path.chmod(0o666)
    with pytest.raises(LinkError, match="can be reached by other users"):
        authorized_keys(folder)


@posix
@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_somebody_elses_key_is_refused(folder: Path) -> None:
    load_or_create_keys(folder)
    os.chown(folder / "client.key_secret", 12_345, 12_345)
    with pytest.raises(LinkError, match="belongs to user 12345"):
        load_pair(folder)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "no public key"),
        (b"\x00\xff\xfe", "not text"),
        (b'curve\n    public-key = "short"\n', "40 characters of Z85"),
        (b'curve\n    public-key = "' + b"~" * 40 + b'"\n', "40 characters of Z85"),
        (b'curve\n    public-key = "' + b"#" * 40 + b'"\n', "40 characters of Z85"),  # above 2**32
        (b"x" * 70_000, "longer than"),
    ],
)
def test_damage_is_named(folder: Path, text: bytes, why: str) -> None:
    load_or_create_keys(folder)
    (folder / "client.key_secret").write_bytes(text)
    with pytest.raises(LinkError, match=why):
        load_or_create_keys(folder)


def test_keys_that_do_not_belong_together(folder: Path) -> None:
    keys = load_or_create_keys(folder)
    path = folder / "engine.key_secret"
    path.write_bytes(path.read_bytes().replace(keys.engine.public, keys.client.public))
    with pytest.raises(LinkError, match="do not belong together"):
        load_or_create_keys(folder)
    path.write_bytes((folder / "authorized" / "client.key").read_bytes())
    with pytest.raises(LinkError, match="do not belong together"):
        load_pair(folder, "engine")


def test_absent_keys_are_named(tmp_path: Path) -> None:
    with pytest.raises(LinkError, match=r"there is no key file .*start the engine"):
        load_pair(tmp_path)
    with pytest.raises(LinkError, match="cannot be read"):
        read_public(tmp_path / "none.key")
    (tmp_path / "file").write_text("")
    with pytest.raises(LinkError, match="cannot be made"):
        load_or_create_keys(tmp_path / "file" / "keys")


@posix
def test_no_link_is_followed(folder: Path, tmp_path: Path) -> None:
    load_or_create_keys(folder)
    path = folder / "client.key_secret"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LinkError, match="cannot be read"):
        load_or_create_keys(folder)
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(LinkError, match="not a plain file"):
        read_private(tmp_path / "pipe")


def test_export_and_import(folder: Path, tmp_path: Path) -> None:
    load_or_create_keys(folder)
    other = KeyPair.generate()
    export_public(other, tmp_path / "laptop.key")
    import_authorized(folder, "laptop", tmp_path / "laptop.key")
    assert authorized_keys(folder)[other.public] == "laptop"
    with pytest.raises(LinkError, match="cannot name a key"):
        import_authorized(folder, "../engine", tmp_path / "laptop.key")
    with pytest.raises(LinkError, match="holds a secret key"):
        import_authorized(folder, "mistake", folder / "client.key_secret")
    (folder / "authorized" / "broken.key").write_text("nonsense")
    with pytest.raises(LinkError, match=r"broken\.key is damaged"):
        authorized_keys(folder)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LinkError, match="cannot be written: No space left on device"):
        write_private(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_too_many_authorised_keys(folder: Path) -> None:
    load_or_create_keys(folder)
    for number in range(256):
        (folder / "authorized" / f"k{number}.key").touch(0o600)
    with pytest.raises(LinkError, match="holds 257 keys"):
        authorized_keys(folder)
