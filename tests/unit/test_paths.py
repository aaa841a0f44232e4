"""Where a profile is kept, and what happens where it cannot be."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from koc_qt.domain.errors import ConfigError
from koc_qt.paths import profile_paths


def test_koc_home_holds_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_HOME", str(tmp_path))
    paths = profile_paths()
    everything = [paths.config, paths.data, paths.logs, paths.run, paths.keys, paths.bars, paths.journal]
    everything += [paths.config_file, paths.log_file, paths.engine_lock, paths.strategies]
    assert all(path.is_relative_to(tmp_path) for path in everything)
    assert len(set(everything)) == len(everything)
    assert list(tmp_path.iterdir()) == [], "asking for the paths creates nothing"


def test_an_argument_comes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_HOME", str(tmp_path / "a"))
    assert profile_paths(tmp_path / "b").data == tmp_path / "b" / "data"


@pytest.mark.parametrize("value", ["", "   "])
def test_an_empty_koc_home_is_none(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOC_HOME", value)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "etc"))
    paths = profile_paths()
    folders = [paths.config, paths.data, paths.logs, paths.run, paths.keys]
    assert all(folder.is_absolute() for folder in folders)
    assert len(set(folders)) == 5
    if os.name == "posix" and Path("/proc").exists():
        assert paths.config == tmp_path / "etc" / "koc"
        assert paths.logs == tmp_path / "share" / "koc" / "logs"


@pytest.mark.parametrize("name", ["relative", "with two  blanks", "höhle-研究-🥊", "./a/../b"])
def test_odd_folder_names(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KOC_HOME", name)
    paths = profile_paths()
    assert paths.data.is_absolute()
    paths.ensure()
    paths.ensure()
    assert paths.bars.is_dir()
    monkeypatch.chdir("/")
    paths.journal.write_bytes(b"x")
    assert (tmp_path / name / "data" / "journal.sqlite").read_bytes() == b"x"


def test_home_shorthand_is_understood(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert profile_paths(Path("~/koc")).data == tmp_path / "koc" / "data"


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps permissions elsewhere")
def test_folders_are_private_whatever_the_umask(tmp_path: Path) -> None:
    paths = profile_paths(tmp_path / "new" / "home")
    old = os.umask(0)
    try:
        paths.ensure()
    finally:
        os.umask(old)
    for folder in (tmp_path / "new" / "home", paths.config, paths.data, paths.keys, paths.run, paths.logs, paths.bars):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700, folder


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps permissions elsewhere")
def test_an_existing_folder_that_others_can_read_is_closed(tmp_path: Path) -> None:
    paths = profile_paths(tmp_path)
    paths.keys.mkdir(mode=0o755)
    paths.keys.chmod(0o755)
    paths.ensure()
    assert stat.S_IMODE(paths.keys.stat().st_mode) == 0o700


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("not a folder")
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        profile_paths(tmp_path / "home")


def test_a_file_inside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("not a folder")
    with pytest.raises(ConfigError, match=r"logs cannot be made"):
        profile_paths(tmp_path).ensure()


@pytest.mark.parametrize("name", ["x" * 300, "~nobody-of-that-name/koc", "nul\0byte"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be"):
        profile_paths(Path(name)).ensure()


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a filesystem that refuses folders even to root")
def test_no_permission_is_a_sentence() -> None:
    with pytest.raises(ConfigError, match=r"cannot be made: .*KOC_HOME"):
        profile_paths(Path("/proc/koc")).ensure()
