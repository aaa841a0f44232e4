"""Which program a window starts as its engine."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from koc_qt.wiring.engine_process import engine_program, program


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have this process be a frozen program in a folder; gives the folder."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "opt" / "koc" / "koc"))
    monkeypatch.delenv("APPIMAGE", raising=False)
    monkeypatch.delenv("APPDIR", raising=False)
    return tmp_path


def test_a_frozen_program_is_its_own_engine(bundle: Path) -> None:
    assert engine_program() == program() == [str(bundle / "opt" / "koc" / "koc")]


def test_an_engine_of_an_appimage_mounts_it_for_itself(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPIMAGE", "/apps/K.O.C.AppImage")
    monkeypatch.setenv("APPDIR", str(bundle))
    assert engine_program() == ["/apps/K.O.C.AppImage"]
    assert program() == [sys.executable]


def test_a_program_that_another_appimage_has_started_is_not_in_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("APPIMAGE", "/apps/Terminal.AppImage")
    monkeypatch.setenv("APPDIR", str(bundle / "elsewhere"))
    assert engine_program() == [sys.executable]


def test_a_checkout_runs_its_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sys, "frozen", raising=False)
    assert engine_program() == program() == [sys.executable, "-P", "-m", "koc_qt"]
