from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from koc_qt.cli.engine import add_parser, settings
from koc_qt.config import Config
from koc_qt.domain.errors import BadTimeframe, ConfigError, InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.wiring.engine import EngineOptions


@pytest.fixture(autouse=True)
def _files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("sma.py", "a.py"):
        (tmp_path / name).touch()


def given(*words: str) -> tuple[Config, EngineOptions]:
    parser = argparse.ArgumentParser()
    add_parser(parser.add_subparsers())
    return settings(parser.parse_args(["engine", *words]), Config())


def test_without_options_the_configuration_is_as_it_was() -> None:
    config, options = given()
    assert config == Config()
    assert options == EngineOptions()


def test_a_strategy_runs_on_the_default_symbol_and_account() -> None:
    _, options = given("--strategy", "sma.py", "--set", "fast=3", "--set", "when=12:30", "--timeframe", "5s")
    (spec,) = options.strategies
    assert spec.path == str(Path("sma.py").absolute())
    assert spec.instruments == (InstrumentId("sim", "BTC/USDT"),)
    assert spec.account_id == "sim"
    assert spec.parameters == {"fast": "3", "when": "12:30"}
    assert spec.timeframe == "5s"


def test_symbols_of_several_venues() -> None:
    _, options = given("--strategy", "a.py", "--symbol", "ETH/USDT", "--symbol", "sim2:ETH/USDT")
    assert options.strategies[0].instruments == (InstrumentId("sim", "ETH/USDT"), InstrumentId("sim2", "ETH/USDT"))


def test_an_account_on_binance_enables_binance() -> None:
    config, options = given("--account", "binance-paper", "--strategy", "a.py")
    assert config.venues.binance.enabled
    assert options.strategies[0].instruments == (InstrumentId("binance", "BTC/USDT"),)
    assert not given()[0].venues.binance.enabled


def test_the_simulated_market_is_set() -> None:
    config, options = given("--speed", "60", "--seed", "7", "--duration", "1.5")
    assert (config.simulator.speed, config.simulator.seed, options.duration_s) == (60, 7, 1.5)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--speed", "0"], "--speed 0: it must be above 0 and at most 3600"),
        (["--speed", "nan"], "--speed nan: it must be above 0"),
        (["--seed", "-1"], "--seed -1: it must be zero or a whole number above"),
        (["--duration", "-2"], "--duration -2: it must be above 0 seconds"),
        (["--duration", "nan"], "--duration nan: it must be above 0 seconds"),
        (["--symbol", "BTC/USDT"], "need a strategy to apply to"),
        (["--strategy", "a.py", "--set", "fast"], "--set fast: write NAME=VALUE"),
        (["--account", "simm"], "did you mean 'sim'"),
        (["--strategy", "none.py"], "there is no strategy file .*none.py"),
        (["--strategy", "."], "there is no strategy file"),
        (
            ["--strategy", "a.py", "--symbol", "mars:BTC/USDT"],
            "there is no venue 'mars'; there are: sim, sim2, binance",
        ),
    ],
)
def test_what_makes_no_sense_is_said(words: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence.replace("?", r"\?")):
        given(*words)


def test_a_timeframe_that_is_none() -> None:
    with pytest.raises(BadTimeframe, match="'7q' is not a timeframe"):
        given("--strategy", "a.py", "--timeframe", "7q")


def test_a_symbol_that_is_none() -> None:
    with pytest.raises(InvalidOrder, match="write VENUE:SYMBOL"):
        given("--strategy", "a.py", "--symbol", "sim:")
