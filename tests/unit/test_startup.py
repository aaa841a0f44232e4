from __future__ import annotations

import msgspec
import pytest

from koc_qt.config import Config, StrategyConfig
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.orders import Order
from koc_qt.domain.state import StrategySpec
from koc_qt.paths import Paths
from koc_qt.ports.journal import JournalState, StrategyRecord
from koc_qt.wiring.startup import configured, is_same, with_venues_in_use
from tests.fakes.trading import BTC, NOW_NS, fill_of, limit_buy

EMPTY = JournalState((), (), (), None)
BINANCE = InstrumentId("binance", "BTC/USDT")
SPEC = StrategySpec("sma", "/f/sma.py", "binance-paper", (BINANCE,), "1m")


def open_order(instrument: InstrumentId) -> Order:
    return Order("koc1", "sma", "sim", limit_buy(instrument=instrument), created_ns=NOW_NS, updated_ns=NOW_NS)


def uses_binance(profile: Paths, remembered: JournalState, *strategies: StrategyConfig) -> bool:
    config = Config(strategies=strategies)
    return with_venues_in_use(config, profile, remembered).venues.binance.enabled


def test_a_configured_strategy_is_found_from_the_configurations_folder(profile: Paths) -> None:
    entry = StrategyConfig("../sma.py", ("BTC/USDT", "sim2:ETH/USDT"), parameters={"fast": 3})
    spec = configured(entry, Config(), profile)
    assert spec.path == str(profile.config / "../sma.py")
    assert (spec.strategy_id, spec.account_id) == ("sma", "sim")
    assert spec.instruments == (BTC, InstrumentId("sim2", "ETH/USDT"))
    with pytest.raises(ConfigError, match="no account 'nope'"):
        configured(msgspec.structs.replace(entry, account="nope"), Config(), profile)


def test_a_venue_is_enabled_by_what_needs_it(profile: Paths) -> None:
    assert not uses_binance(profile, EMPTY)
    order = open_order(BINANCE)
    assert uses_binance(profile, msgspec.structs.replace(EMPTY, orders=(order,)))
    assert uses_binance(profile, msgspec.structs.replace(EMPTY, fills=(fill_of(order),)))
    assert uses_binance(profile, msgspec.structs.replace(EMPTY, strategies=(StrategyRecord(SPEC, True, 1),)))
    planned = StrategyConfig("sma.py", ("BTC/USDT",), account="binance-paper")
    assert uses_binance(profile, EMPTY, msgspec.structs.replace(planned, autostart=True))
    assert uses_binance(profile, EMPTY, msgspec.structs.replace(planned, start="09:00", stop="10:00"))


def test_a_venue_that_nothing_needs_stays_off(profile: Paths) -> None:
    simulated = open_order(BTC)
    bought, sold = fill_of(open_order(BINANCE)), fill_of(open_order(BINANCE), fill_id="f2")
    sold = msgspec.structs.replace(sold, side=sold.side.opposite)
    remembered = JournalState((simulated,), (bought, sold), (StrategyRecord(SPEC, False, 1),), None)
    assert not uses_binance(profile, remembered, StrategyConfig("sma.py", ("BTC/USDT",), account="binance-paper"))


def test_the_same_strategy_by_id_or_by_what_it_runs_on() -> None:
    assert is_same(SPEC, msgspec.structs.replace(SPEC, path="/other.py"))
    assert is_same(SPEC, msgspec.structs.replace(SPEC, strategy_id=""))
    assert not is_same(SPEC, msgspec.structs.replace(SPEC, strategy_id="another")), "one file may run twice on a market"
    assert not is_same(SPEC, msgspec.structs.replace(SPEC, strategy_id="", path="/other.py"))
