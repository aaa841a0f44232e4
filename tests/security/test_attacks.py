"""Every attack succeeds outside the sandbox and is refused inside."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest
from PySide6.QtCore import QCoreApplication

from tests.security.attacks import ATTACKS, MAY_TRACE, TRACING_ATTACKS, Attack
from tests.security.harness import in_worker, source_with, unlocked

REFUSED = re.compile(r"failed: (PermissionError|OSError|ValueError): ")


def _refuse(attack: Attack, qapp: QCoreApplication, tmp_path: Path) -> None:
    outcomes: dict[str, str] = {}
    for side in ("outside", "inside"):
        folder = tmp_path / side
        folder.mkdir()
        with ExitStack() as stack:
            source = source_with(attack.source, **attack.prepare(folder, stack))
            is_control = side == "outside"
            outcomes[side] = unlocked(source) if is_control else in_worker(qapp, lambda worker: worker.attack(source))  # noqa: B023
    assert outcomes["outside"].startswith("done: "), "the control failed, so a refusal proves nothing"
    assert REFUSED.match(outcomes["inside"]), outcomes["inside"]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_refused(attack: Attack, qapp: QCoreApplication, tmp_path: Path) -> None:
    _refuse(attack, qapp, tmp_path)


@pytest.mark.skipif(not MAY_TRACE, reason="Yama forbids tracing to everybody, so there is no control")
@pytest.mark.parametrize("attack", TRACING_ATTACKS, ids=lambda attack: attack.name)
def test_tracing_is_refused(attack: Attack, qapp: QCoreApplication, tmp_path: Path) -> None:
    _refuse(attack, qapp, tmp_path)
