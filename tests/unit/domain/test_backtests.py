"""What a back-test may be asked to do."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError
from tests.unit.domain.examples import BTC


def spec(**changes: Any) -> BacktestSpec:
    fields: dict[str, Any] = {"path": "a.py", "instruments": (BTC,), "timeframe": "1m", "since_ns": 0, "until_ns": 1}
    return BacktestSpec(**{**fields, **changes})


def test_a_spec_has_sensible_defaults() -> None:
    plain = spec(fee=Decimal("-0.0001"))
    assert (plain.cash, plain.slippage, plain.seed, plain.allow_short) == (10_000, 0, 0, True)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"instruments": ()}, "at least one symbol"),
        ({"until_ns": 0}, "must end after it begins"),
        ({"cash": Decimal(0)}, "above zero, not 0"),
        ({"cash": Decimal("NaN")}, "above zero, not NaN"),
        ({"slippage": Decimal(1)}, "from 0 to below 1"),
        ({"fee": Decimal(1)}, "fraction of the notional"),
        ({"spread": Decimal(1)}, "a spread is a fraction"),
        ({"slippage_ticks": -1}, "slippage in ticks"),
        ({"latency_ns": 10**15}, "a latency is from 0 to one day, not 1e\\+06 s"),
        ({"volume_fraction": Decimal(0)}, "the share of a bar's volume"),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        spec(**changes)
