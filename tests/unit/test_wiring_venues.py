"""The venues that a configuration describes."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from koc_qt.adapters.venues.simulator import SimulatorVenue
from koc_qt.config import VENUES, AccountConfig, Config, SimulatorConfig, VenueConfig, VenuesConfig, with_venues
from koc_qt.domain.accounts import modes_of
from koc_qt.domain.errors import ConfigError, SecretsUnavailable
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.market import Bar
from koc_qt.domain.state import TradingMode
from koc_qt.paths import Paths
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.ports.secrets import Credentials
from koc_qt.ports.venue import MarketDataVenue
from koc_qt.wiring.venues import (
    DATA_VENUES,
    Abilities,
    make_bar_store,
    make_data_venue,
    make_data_venues,
    make_trading_venue,
)
from tests.fakes.clock import FakeClock

KEYS = Credentials({"key": "key-123456", "secret": "c2VjcmV0LTEyMzQ1Ng==", "passphrase": "abcdefg"})
BINANCE = Config(venues=VenuesConfig(binance=VenueConfig(enabled=True)))


def test_the_simulated_venues_are_always_there_and_others_when_enabled(profile: Paths) -> None:
    assert list(make_data_venues(Config(), profile, FakeClock())) == ["sim", "sim2"]
    assert list(make_data_venues(BINANCE, profile, FakeClock())) == ["sim", "sim2", "binance"]


def test_every_venue_of_the_configuration_can_be_used() -> None:
    assert set(DATA_VENUES) == set(VENUES)


@pytest.mark.parametrize("name", DATA_VENUES)
def test_every_venue_bears_its_name(profile: Paths, name: str) -> None:
    abilities = Abilities()[name]
    assert abilities.venue == name
    if abilities.data_needs_key:
        with pytest.raises(SecretsUnavailable, match=f"market data of {re.escape(abilities.title)} needs keys"):
            make_data_venue(name, Config(), profile, FakeClock())
    venue = make_data_venue(name, Config(), profile, FakeClock(), KEYS if abilities.data_needs_key else None)
    assert venue.name == name
    assert isinstance(venue, SimulatorVenue) is name.startswith("sim")
    assert list(venue.timeframes) == list(abilities.timeframes)


@pytest.mark.parametrize("name", [name for name in DATA_VENUES if not name.startswith("sim")])
def test_accounts_are_made_where_there_is_trading(profile: Paths, name: str) -> None:
    account = AccountConfig("mine", name, TradingMode.LIVE)
    if not Abilities()[name].trading:
        with pytest.raises(ConfigError, match="is a source of data"):
            make_trading_venue(account, KEYS, Config(), profile, FakeClock())
        return
    venue = make_trading_venue(account, KEYS, Config(), profile, FakeClock())
    assert (venue.account_id, venue.venue) == ("mine", name)
    assert KEYS["secret"] not in f"{venue!r}"


def test_abilities_are_a_mapping_of_all_venues() -> None:
    abilities = Abilities()
    assert list(abilities) == list(DATA_VENUES)
    assert len(abilities) == len(DATA_VENUES)
    assert "mtgox" not in abilities
    assert abilities.get("mtgox") is None
    assert modes_of(abilities["sim"]) == (TradingMode.SIMULATED,)
    assert modes_of(abilities["binance"]) == (TradingMode.PAPER, TradingMode.TESTNET, TradingMode.LIVE)


def test_a_venue_whose_data_needs_keys_comes_with_an_account(profile: Paths) -> None:
    config = with_venues(Config(), ["sim", "kraken", "alpaca"])
    assert list(make_data_venues(config, profile, FakeClock())) == ["sim", "sim2", "kraken"]


def test_an_unknown_venue_is_refused(profile: Paths) -> None:
    with pytest.raises(ConfigError, match="no venue 'mtgox'; there are: sim, sim2, binance, kraken"):
        make_data_venue("mtgox", Config(), profile, FakeClock())


def test_an_endpoint_of_ones_own_needs_its_ca_file(profile: Paths) -> None:
    def config(ca_file: str | None) -> Config:
        return Config(venues=VenuesConfig(binance=VenueConfig(endpoint="127.0.0.1:8443", ca_file=ca_file)))

    assert make_data_venue("binance", config("ca.pem"), profile, FakeClock()).name == "binance"
    with pytest.raises(ConfigError, match="needs the CA file"):
        make_data_venue("binance", config(None), profile, FakeClock())


async def test_speed_and_seed_reach_the_simulated_market(profile: Paths) -> None:
    clock = FakeClock()
    config = Config(simulator=SimulatorConfig(seed=5, speed=60.0))
    venue, other = (make_data_venue(name, config, profile, clock) for name in ("sim", "sim2"))
    before_ns = venue.time_ns()
    assert other.time_ns() == before_ns
    clock.advance(1)
    assert venue.time_ns() - before_ns == 60_000_000_000
    slow = make_data_venue("sim", Config(), profile, clock)
    until_ns = clock.time_ns() // 60_000_000_000 * 60_000_000_000
    since_ns = until_ns - 10 * 60_000_000_000
    ours, theirs = [await _bars(one, since_ns, until_ns) for one in (venue, slow)]
    assert len(ours) == len(theirs) == 10
    assert ours != theirs


async def _bars(venue: MarketDataVenue, since_ns: int, until_ns: int) -> list[Bar]:
    return [bar async for page in venue.fetch_bars("BTC/USDT", "1m", since_ns, until_ns) for bar in page]


def test_bars_of_different_seeds_are_kept_apart(profile: Paths) -> None:
    config = Config()
    other = msgspec.structs.replace(config, simulator=SimulatorConfig(seed=config.simulator.seed + 1))
    for venue, shared in (("sim", False), ("sim2", False), ("binance", True)):
        series = BarSeries(InstrumentId(venue, "BTC/USDT"), "1m")
        bar = Bar(series.instrument, "1m", 0, 1.0, 1.0, 1.0, 1.0, 1.0)
        make_bar_store(config, profile).write(series, [bar], Span(0, 60_000_000_000))
        assert bool(make_bar_store(other, profile).read(series, Span(0, 60_000_000_000))) is shared


def test_bars_are_kept_in_the_profile(profile: Paths, tmp_path: Path) -> None:
    series = BarSeries(InstrumentId("binance", "BTC/USDT"), "1m")
    make_bar_store(Config(), profile).write(series, [], Span(0, 60_000_000_000))
    assert [path.relative_to(profile.bars).parts[0] for path in tmp_path.rglob("*.parquet")] == ["binance"]
