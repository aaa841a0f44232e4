"""docs/backtests.md names every statistic and every field of the JSON."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from koc_qt.domain.backtests import Provenance
from koc_qt.domain.parity import Certificate
from koc_qt.domain.performance import STATISTICS
from koc_qt.reports.documents import CurveRecord, Document, EngineRecord, FillRecord, TradeRecord
from koc_qt.reports.export import KINDS
from koc_qt.reports.report import Check

TEXT = re.sub(
    r"```.*?```", "", (Path(__file__).parents[3] / "docs/backtests.md").read_text(encoding="utf-8"), flags=re.DOTALL
)
NAMED = set(re.findall(r"`([^`]+)`", TEXT))


@pytest.mark.parametrize(
    "record", [Document, EngineRecord, TradeRecord, FillRecord, CurveRecord, Check, Certificate, Provenance]
)
def test_every_field_is_described(record: type[msgspec.Struct]) -> None:
    assert set(record.__struct_fields__) <= NAMED


def test_every_statistic_and_kind_of_file_is_described() -> None:
    assert set(STATISTICS) <= NAMED
    assert set(KINDS) - {".htm"} <= NAMED
