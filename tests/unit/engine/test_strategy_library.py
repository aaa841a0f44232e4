"""Strategy files that clients hand over: into one folder, under plain names, whole or not at all."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from pathlib import Path

import pytest

from koc_qt.domain.errors import KocError, LinkError, StrategyError
from koc_qt.engine import strategy_library as module
from koc_qt.engine.strategy_library import StrategyLibrary, checked_name

SOURCE = b"class S: ...\n"


@pytest.fixture
def library(tmp_path: Path) -> StrategyLibrary:
    return StrategyLibrary(tmp_path / "strategies")


async def test_a_file_is_kept_as_it_is(library: StrategyLibrary, tmp_path: Path) -> None:
    path = Path(await library.store("sma.py", SOURCE))
    assert path == tmp_path / "strategies" / "sma.py"
    assert path.read_bytes() == SOURCE
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_mtime_ns
    assert await library.store("sma.py", SOURCE) == str(path)  # the same again is no change
    assert path.stat().st_mtime_ns == before
    assert list(path.parent.iterdir()) == [path]


async def test_other_content_replaces_it_only_when_told_to(library: StrategyLibrary) -> None:
    path = Path(await library.store("sma.py", SOURCE))
    for other in (b"other", SOURCE + b"#", SOURCE[:-1]):
        with pytest.raises(StrategyError, match=r"the engine has another sma\.py already: replace it"):
            await library.store("sma.py", other)
    assert path.read_bytes() == SOURCE
    await library.store("sma.py", b"other", replace=True)
    assert path.read_bytes() == b"other"


async def test_two_at_once_do_not_both_win(library: StrategyLibrary) -> None:
    outcomes = await asyncio.gather(
        *(library.store("sma.py", bytes([65 + number])) for number in range(8)), return_exceptions=True
    )
    assert sum(isinstance(outcome, str) for outcome in outcomes) == 1
    assert sum(isinstance(outcome, StrategyError) for outcome in outcomes) == 7


@pytest.mark.parametrize(
    "name",
    [
        "../sma.py", "/etc/sma.py", "a/b.py", "..\\sma.py", "C:\\sma.py", "C:sma.py", "sma.py:stream.py", "..py",
        ".py", ".sma.py", "", "sma", "sma.txt", "sma.py/", "sma.py ", "sma.py.", " sma.py", "a*.py", "a?.py", 'a".py',
        "<a>.py", "a|b.py", "a\0.py", "a\n.py", "a\u202ey.py", "a\ud800.py", "con.py", "NUL.py", "com1.py",
        "Lpt9.tar.py", "COM¹.py", "aux .py", "é" * 100 + ".py", "x" * 198 + ".py", "x" * 100_000 + ".py",
    ],
)  # fmt: skip
async def test_names_that_lead_elsewhere_or_nowhere(library: StrategyLibrary, tmp_path: Path, name: str) -> None:
    with pytest.raises(StrategyError) as refused:
        await library.store(name, SOURCE)
    assert len(str(refused.value)) < 250
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize(
    "name", ["sma_cross.py", "SMA Cross (2).PY", "стратегия.py", "戦略.py", "é.py", "icon.py", "com.py"]
)
async def test_plain_names(library: StrategyLibrary, name: str) -> None:
    path = Path(await library.store(name, SOURCE))
    assert path.name == name
    assert path.read_bytes() == SOURCE


async def test_one_name_in_two_forms_of_unicode_is_one_file(library: StrategyLibrary) -> None:
    composed, apart = (unicodedata.normalize(form, "café.py") for form in ("NFC", "NFD"))
    assert await library.store(composed, SOURCE) == await library.store(apart, SOURCE)
    assert checked_name(apart) == composed


async def test_sources_that_cannot_be(library: StrategyLibrary, tmp_path: Path) -> None:
    for source, why in ((b"", "is empty"), (b" \n\t", "is empty"), (b"x" * (512 * 1024 + 1), "is too large")):
        with pytest.raises(StrategyError, match=rf"sma\.py {why}"):
            await library.store("sma.py", source)
    assert list(tmp_path.iterdir()) == []
    await library.store("largest.py", b"x" * (512 * 1024))


async def test_what_is_no_plain_file_is_left_alone(library: StrategyLibrary, tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    (folder / "folder.py").mkdir(mode=0o700, parents=True)
    folder.chmod(0o700)
    for replace in (False, True):
        with pytest.raises(StrategyError, match=r"folder\.py is a folder"):
            await library.store("folder.py", SOURCE, replace=replace)
    if os.name == "posix":
        (tmp_path / "elsewhere").write_bytes(SOURCE)
        (folder / "link.py").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StrategyError, match="another"):
            await library.store("link.py", SOURCE)
        await library.store("link.py", b"new", replace=True)
        assert (tmp_path / "elsewhere").read_bytes() == SOURCE  # the link was replaced, not what it points at
        assert not (folder / "link.py").is_symlink()


async def test_a_full_disk_leaves_what_was_there(library: StrategyLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path(await library.store("sma.py", SOURCE))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LinkError, match=r"sma\.py cannot be written: No space left on device"):
        await library.store("sma.py", b"new", replace=True)
    assert path.read_bytes() == SOURCE
    assert list(path.parent.iterdir()) == [path]


async def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "strategies").write_text("")
    with pytest.raises(KocError, match="cannot be made"):
        await StrategyLibrary(tmp_path / "strategies").store("sma.py", SOURCE)


async def test_the_folder_has_an_end(library: StrategyLibrary, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILES_LIMIT", 2)
    for name in ("one.py", "two.py"):
        await library.store(name, SOURCE)
    with pytest.raises(StrategyError, match="holds 2 files: remove some"):
        await library.store("three.py", SOURCE)
    await library.store("two.py", b"new", replace=True)
