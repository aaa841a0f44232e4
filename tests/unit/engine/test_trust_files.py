"""Reports on disk: written whole, limited in number, and none of another version taken for one of ours."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import StorageError
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import TrustSnapshot, TrustSpec, Verdict
from koc_qt.domain.trust_report import TrustReport
from koc_qt.engine import trust_files
from koc_qt.engine.trust_files import JsonFolder, StoredTrust
from tests.fakes.trading import BTC, NOW_NS


def stored(key: str) -> StoredTrust:
    spec = TrustSpec(BacktestSpec("/a.py", (BTC,), "1m", 0, 1))
    snapshot = TrustSnapshot(key, spec, JobState.DONE, "", "", 1.0, 3, Verdict.GREEN, {}, NOW_NS, NOW_NS)
    return StoredTrust(snapshot, TrustReport(spec, name="A"))


def opened(folder: Path, kept: int = 10) -> JsonFolder[StoredTrust]:
    return JsonFolder(folder / "trust", StoredTrust, r"trust-[0-9]+", kept)


def test_what_was_kept_is_there_again_and_the_oldest_make_way(tmp_path: Path) -> None:
    files = opened(tmp_path, kept=2)
    assert files.load() == {}
    for number in range(1, 4):
        gone = files.keep(f"trust-{number}", stored(f"trust-{number}"))
        os.utime(tmp_path / "trust" / f"trust-{number}.json", (number, number))
    assert gone == ["trust-1"]
    assert files.keep("trust-3", stored("trust-3")) == []  # again
    assert opened(tmp_path).load() == {key: stored(key) for key in ("trust-2", "trust-3")}
    (tmp_path / "trust" / ".koc-half.tmp").write_text("{")
    (tmp_path / "trust" / "mine.json").write_text("{}")
    assert opened(tmp_path).names() == ["trust-2", "trust-3"]
    assert sorted(file.name for file in (tmp_path / "trust").iterdir()) == ["mine.json", "trust-2.json", "trust-3.json"]


@pytest.mark.expected_warnings("trust-1.json cannot be read: it is too large", "trust-2.json .* it is of format 9")
def test_what_cannot_be_read_is_said_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened(tmp_path)
    files.keep("trust-1", stored("trust-1"))
    file = tmp_path / "trust" / "trust-2.json"
    file.write_bytes(msgspec.json.encode({"format": 9, "content": msgspec.to_builtins(stored("trust-2"))}))
    (tmp_path / "trust" / "trust-1.json").write_bytes(bytes(20_000))
    monkeypatch.setattr(trust_files, "_SIZE_LIMIT", 10_000)
    assert files.load() == {}
    assert file.exists()


@pytest.mark.expected_warnings("earlier reports in .* cannot be listed")
def test_a_folder_that_cannot_be_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trust").write_text("a file")
    with pytest.raises(StorageError, match=r"trust-1\.json cannot be written"):
        opened(tmp_path).keep("trust-1", stored("trust-1"))

    def fails(folder: Path) -> None:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "trust").unlink()
    (tmp_path / "trust").mkdir()
    monkeypatch.setattr(Path, "iterdir", fails)
    assert opened(tmp_path).load() == {}
    assert opened(tmp_path).names() == []
