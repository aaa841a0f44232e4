"""What the window remembers: written whole, read back, and set aside where it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from koc_qt.ui.memory import ChartMemory, Memory, MemoryFile
from koc_qt.ui.theme import ThemeChoice


def test_what_is_written_is_read(tmp_path: Path) -> None:
    file = MemoryFile(tmp_path / "folder" / "window.json")
    memory = Memory(
        geometry="AAAA",
        charts=[ChartMemory("chart-1", {"instrument": "sim:BTC/USDT", "timeframe": "1s"})],
        panels={"log": {"level": "INFO"}},
        theme=ThemeChoice.LIGHT,
        on_close="keep",
    )
    file.write(memory)
    assert file.read() == (memory, "")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["window.json"]


def test_nothing_remembered_is_no_complaint(tmp_path: Path) -> None:
    assert MemoryFile(tmp_path / "window.json").read() == (Memory(), "")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff",
        b"{",
        b"[]",
        b'{"charts": 7}',
        b'{"theme": "purple"}',
        b'{"version": 99}',
        b'{"panels": ' + b"[" * 20_000,
        b" " * (5 << 20),
    ],
    ids=["empty", "binary", "cut", "list", "type", "choice", "newer", "deep", "huge"],
)
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "window.json"
    path.write_bytes(content)
    memory, complaint = MemoryFile(path).read()
    assert memory == Memory()
    assert "window.damaged.json" in complaint
    assert not path.exists()
    assert (tmp_path / "window.damaged.json").read_bytes() == content


def test_a_folder_in_its_place_is_said(tmp_path: Path) -> None:
    path = tmp_path / "window.json"
    path.mkdir()
    memory, complaint = MemoryFile(path).read()
    assert memory == Memory()
    assert "cannot be read" in complaint


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MemoryFile(tmp_path / "window.json")
    file.write(Memory(geometry="old"))

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        file.write(Memory(geometry="new"))
    monkeypatch.undo()
    assert file.read()[0].geometry == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["window.json"]
