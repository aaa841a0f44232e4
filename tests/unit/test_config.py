"""Reading, refusing, saving and changing the configuration."""
# ruff: noqa: E501 - the table of refusals has one case a line

from __future__ import annotations

import os
import stat
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koc_qt.config import (
    MAX_BYTES,
    AccountConfig,
    Config,
    EngineConfig,
    StrategyConfig,
    load_config,
    resolve_path,
    save_config,
    switch_account,
)
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.state import TradingMode
from koc_qt.paths import Paths, profile_paths

FULL = """\
# mine
account: paper-1
log_level: DEBUG
engine:
  heartbeat_s: 0.5
  workers: {max_restarts: 3, backoff_s: 2, backoff_max_s: 8, memory_mb: 512}
  link:
    endpoint: tcp://127.0.0.1:5601
  telemetry: {enabled: false, endpoint: "tcp://127.0.0.1:*"}
simulator: {seed: 7, speed: 2.5}
venues:
  binance: {enabled: true, endpoint: localhost:8443, ca_file: ca.pem}
accounts:
  - id: paper-1
    venue: binance
    mode: paper
    balances: {USDT: 1234.56789012345678901234567890, BTC: "0.1"}
    allow_short: true
    latency_ms: 20
    fees: {maker: -0.0001, taker: 0.001}
strategies:
  - path: ../strategies/sma_cross.py
    id: cross
    symbols: [BTC/USDT, "binance:ETH/USDT"]
    timeframe: 5m
    parameters: {fast: 10, slow: 30, threshold: 0.5, verbose: true, mode: no}
    start: 09:30
    stop: 12:30
    autostart: true
scheduler: {data_refresh: 00:10}
risk: {max_order_notional: 1000.5, price_collar: 0.01, allow_short: false}
"""


def write(paths: Paths, text: str | bytes) -> Paths:
    paths.config_file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return paths


def refusal(paths: Paths, text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(write(paths, text))
    return str(caught.value)


def test_without_a_file_the_defaults_hold_and_nothing_is_written(profile: Paths) -> None:
    config = load_config(profile)
    assert config == Config()
    assert not profile.config_file.exists()
    accounts = {account.id: account for account in config.accounts}
    assert list(accounts) == ["sim", "sim2", "binance-paper"]
    assert all(account.balances == {"USDT": Decimal(100_000)} for account in config.accounts)
    assert accounts["sim"].mode is TradingMode.SIMULATED
    assert accounts["sim2"].venue == "sim2"
    assert accounts["sim"].allow_short
    assert accounts["sim2"].allow_short
    assert (accounts["binance-paper"].mode, accounts["binance-paper"].venue) == (TradingMode.PAPER, "binance")
    assert config.find_account() is accounts["sim"]


@pytest.mark.parametrize("text", ["", "\n# nothing yet\n", "---\n", "~\n", "engine:\nstrategies:\n", "\ufeff# a BOM\n"])
def test_an_empty_file_or_section_means_the_defaults(text: str, profile: Paths) -> None:
    assert load_config(write(profile, text)) == Config()


def test_everything_can_be_said(profile: Paths) -> None:
    config = load_config(write(profile, FULL))
    assert config.find_account().balances == {
        "USDT": Decimal("1234.56789012345678901234567890"),
        "BTC": Decimal("0.1"),
    }, "money is read from its digits"
    assert config.find_account().fees is not None
    assert config.find_account().fees.maker == Decimal("-0.0001")
    (strategy,) = config.strategies
    assert (strategy.start, strategy.stop) == ("09:30", "12:30"), "12:30 is no number in base 60"
    assert strategy.parameters == {"fast": 10, "slow": 30, "threshold": 0.5, "verbose": True, "mode": "no"}
    assert config.engine.workers.memory_mb == 512
    assert config.risk.max_order_notional == Decimal("1000.5")
    assert not config.risk.allow_short
    assert config.venues.binance.endpoint == "localhost:8443"
    assert resolve_path(profile, strategy.path) == (profile.config / "../strategies/sma_cross.py")
    assert resolve_path(profile, "/abs/x.py") == Path("/abs/x.py").absolute()


STRATEGY = "strategies:\n  - path: a.py\n    symbols: [BTC/USDT]\n"
ACCOUNT = "accounts:\n  - {id: sim, venue: sim, mode: simulated, balances: {USDT: 1}}\n"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("\n\nstrategies:\n  - path: a.py\n    sybmols: [X]\n", 5, "unknown key 'sybmols' under strategies[0]; did you mean 'symbols'?"),
        ("enigne: {}\n", 1, "unknown key 'enigne'; did you mean 'engine'?"),
        ("zzz: 1\n", 1, "unknown key 'zzz'"),
        ("engine:\n  heartbeat_s: fast\n", 2, "engine.heartbeat_s must be a number of seconds above 0 and up to 60, not 'fast'"),
        ("engine:\n  heartbeat_s: 0\n", 2, "above 0"),
        ("engine:\n  heartbeat_s: 1e999\n", 2, "engine.heartbeat_s must be"),
        ("engine:\n  heartbeat_s: [1]\n", 2, "not a list"),
        ("engine:\n  heartbeat_s: {a: 1}\n", 2, "not a section"),
        ("engine: 5\n", 1, "engine must be a section of 'key: value' lines"),
        ("engine:\n  workers: {memory_mb: 64}\n", 2, "engine.workers.memory_mb must be a whole number of megabytes, at least 256"),
        ("engine:\n  workers: {max_restarts: 1.5}\n", 2, "must be a whole number"),
        ("engine:\n  workers: {max_restarts: " + "9" * 6000 + "}\n", 2, "must be a whole number"),
        ("engine:\n  workers:\n    backoff_s: 90\n", 2, "backoff_max_s must not be below backoff_s"),
        ("engine:\n  link:\n    endpoint: ipc:///tmp/x\n", 3, "engine.link.endpoint must be tcp://ADDRESS:PORT"),
        ("engine:\n  link:\n    endpoint: tcp://127.0.0.1:99999\n", 3, "must have a port from 1 to 65535"),
        ("venues:\n  binance:\n    endpoint: localhost:0\n", 3, "must have a port"),
        ("venues:\n  binance:\n    enabled: yes\n", 3, "venues.binance.enabled must be true or false, not 'yes'"),
        ("log_level: INFOO\n", 1, "log_level must be one of TRACE, DEBUG, INFO, WARNING, ERROR, not 'INFOO'; did you mean 'INFO'?"),
        ("log_level: info\n", 1, "did you mean 'INFO'?"),
        ("account: simm\n", 1, "there is no account 'simm'; there are sim, sim2, binance-paper"),
        ("account: 5\n", 1, "put a number in quotes"),
        ("a: 1\nb: 2\n", 1, "unknown key 'a'"),
        ("engine:\n  heartbeat_s: 1\n\nengine:\n  heartbeat_s: 2\n", 4, "'engine' stands here twice, first in line 1"),
        (STRATEGY + "    parameters:\n      fast: 1\n      fast: 2\n", 6, "'fast' under strategies[0].parameters stands here twice"),
        (STRATEGY + "    parameters: {x: [1]}\n", 4, "strategies[0].parameters.x must be"),
        (STRATEGY + "    timeframe: 1x\n", 4, "strategies[0].timeframe is wrong"),
        (STRATEGY + "    start: 9:30\n    stop: '10:00'\n", 4, "a time of day (UTC) as HH:MM, such as 09:30, not '9:30'"),
        (STRATEGY + "    start: 09:30\n", 4, "stands alone"),
        (STRATEGY + "    stop: 09:30\n", 4, "stands alone"),
        (STRATEGY + "    start: 09:30\n    stop: 09:30\n", 4, "would never run"),
        (STRATEGY + "    account: nope\n", 4, "strategies[0].account is 'nope', but the accounts are"),
        ("strategies:\n  - path: a.py\n", 2, "strategies[0] lacks 'symbols'"),
        ("strategies:\n  - {path: a.py, symbols: []}\n", 2, "at least one symbol"),
        ("strategies:\n  - {path: a.py, symbols: BTC/USDT}\n", 2, "strategies[0].symbols must be a list, such as [A, B]"),
        ("strategies:\n  - {path: a.py, symbols: ['sim:']}\n", 2, "strategies[0].symbols[0] is wrong"),
        ("strategies:\n  - {path: a.py, symbols: [X], id: a}\n  - {path: b.py, symbols: [X], id: a}\n", 3, "as a strategy above it"),
        ("strategies:\n  path: a.py\n", 2, "strategies must be a list"),
        ("accounts: []\n", 1, "there is no account 'sim'; there are none"),
        (ACCOUNT + "  - {id: sim, venue: sim, mode: simulated, balances: {USDT: 1}}\n", 3, "as an account above it is"),
        (ACCOUNT.replace("venue: sim,", "venue: simm,"), 2, "but the venues are sim, sim2, binance"),
        (ACCOUNT.replace("simulated", "live"), 2, "accounts[0].mode is live, but an account on sim is simulated"),
        ("accounts:\n  - {id: a, venue: kraken, mode: simulated}\n", 2, "an account on kraken is paper, testnet, live or data"),
        ("accounts:\n  - {id: a, venue: kraken, mode: paper}\n", 2, "must name at least one currency"),
        ("accounts:\n  - {id: a, venue: kraken, mode: live, label: ' x'}\n", 2, "up to 64 letters on a line"),
        ("venues:\n  kraken: {endpoint: 'localhost:70000'}\n", 2, "venues.kraken.endpoint must have a port"),
        (ACCOUNT.replace("simulated", "real"), 2, "must be one of simulated, paper"),
        (ACCOUNT.replace("simulated", "paper"), 2, "an account on sim is simulated"),
        (ACCOUNT.replace("venue: sim", "venue: binance"), 2, "an account on binance is paper"),
        (ACCOUNT.replace("{USDT: 1}", "{}"), 2, "must name at least one currency"),
        (ACCOUNT.replace("USDT: 1", "USDT: -1"), 2, "accounts[0].balances.USDT is -1, but must not be below zero"),
        (ACCOUNT.replace("USDT: 1", "USDT: nan"), 2, "accounts[0].balances.USDT must be a number, not 'nan'"),
        (ACCOUNT.replace("USDT: 1", "USDT: true"), 2, "must be a number"),
        (ACCOUNT.replace("USDT: 1", "us dt: 1"), 2, "a key under accounts[0].balances must be a currency"),
        (ACCOUNT.replace("}}", "}, fees: {maker: 0, taker: 5}}"), 2, "accounts[0].fees.taker is 5, but must be between"),
        (ACCOUNT.replace("}}", "}, fees: {maker: 0}}"), 2, "accounts[0].fees lacks 'taker'"),
        ("log_level: INFO\nrisk:\n  max_order_notional: -5\n", 3, "risk: risk limit max_order_notional must be a number, zero or more"),
        ("risk: {max_open_orders: 1.5}\n", 1, "risk.max_open_orders must be a whole number, not '1.5'"),
        ("risk: {max_loss: 5}\n", 1, "unknown key 'max_loss' under risk; did you mean 'max_daily_loss'?"),
        ("- a\n- b\n", 1, "the file must be a mapping of 'key: value' lines"),
        ("just words\n", 1, "the file must be a mapping"),
        ("? [a, b]\n: 1\n", 1, "a key must be a plain word"),
        ("engine: {heartbeat_s: 1\nlog_level: INFO\n", 2, "this is not YAML"),
        ("engine:\n\theartbeat_s: 1\n", 2, "this is not YAML"),
        ("a: 1\n---\nb: 2\n", 2, "this is not YAML: expected a single document"),
        ("engine: &x {heartbeat_s: 1}\nsimulator: *x\n", 2, "aliases (*name) are not used here"),
        ("account: !!python/object/apply:os.system [id]\n", 1, "not a list"),
        ("account: !secret sim\n", 1, "account must be"),
        ("account: si\x00m\n", 1, "the character U+0000 is not allowed"),
        ("# one\naccount: si\x07m\n", 2, "the character U+0007 is not allowed"),
        ("a: " + "[" * 3000 + "\n", 1, "nested too deeply"),
        ("# fine\naccount: k\xf6ln\n".encode("latin-1"), 2, "this is not UTF-8"),
    ],
    ids=lambda value: ascii(value)[:60],
)  # fmt: skip
def test_a_wrong_file_is_refused_with_the_line(text: str | bytes, line: int, said: str, profile: Paths) -> None:
    message = refusal(profile, text)
    assert f"koc.yaml, line {line}: " in message
    assert said in message
    assert len(message) < 2000


@pytest.mark.parametrize(
    "key", ["api_key", "apiKey", "API-KEY", "secret", "secretKey", "binance_secret", "password", "passphrase", "token",
            "access_token", "private_key", "credentials"],
)  # fmt: skip
def test_a_secret_is_refused_and_not_repeated(key: str, profile: Paths) -> None:
    for text in (f"{key}: hunter2hunter2\n", STRATEGY + f"    parameters: {{{key}: hunter2hunter2}}\n"):
        message = refusal(profile, text)
        assert "give the account its keys in the window" in message
        assert "hunter2" not in message


def test_words_that_only_contain_such_a_word_are_no_secrets(profile: Paths) -> None:
    text = STRATEGY + "    parameters: {tokens_per_trade: 5, passes: 3, secretary: x, keys: 2, compass: 1}\n"
    assert len(load_config(write(profile, text)).strategies[0].parameters) == 5


def test_all_that_is_wrong_is_said_at_once_in_order(profile: Paths) -> None:
    message = refusal(profile, "enigne: 1\nlog_level: X\nsimulator: {seed: -1}\n")
    assert [f"line {n}" in part for n, part in enumerate(message.splitlines(), 1)] == [True, True, True]


def test_a_long_list_of_problems_is_cut(profile: Paths) -> None:
    assert refusal(profile, "".join(f"key{n}: 1\n" for n in range(50))).endswith("... and 40 more")


def test_a_huge_file_is_refused_at_once(profile: Paths) -> None:
    assert "larger than 256 kB" in refusal(profile, b"#" * (MAX_BYTES + 1))


def test_a_folder_in_its_place_is_refused(profile: Paths) -> None:
    profile.config_file.mkdir()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_config(profile)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root and Windows may read any file")
def test_a_file_without_permission_is_refused(profile: Paths) -> None:
    write(profile, "").config_file.chmod(0)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load_config(profile)


def test_a_refused_read_is_a_sentence(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ConfigError, match=r"koc.yaml cannot be read: Permission denied. Correct its permissions"):
        load_config(profile)


def test_what_is_saved_reads_back(profile: Paths) -> None:
    config = load_config(write(profile, FULL))
    save_config(config, profile)
    assert load_config(profile) == config
    if os.name == "posix":
        assert stat.S_IMODE(profile.config_file.stat().st_mode) == 0o600
    assert [file.name for file in profile.config.iterdir()] == ["koc.yaml"], "no temporary file is left"


def test_a_config_that_contradicts_itself_is_not_saved(profile: Paths) -> None:
    write(profile, FULL)
    with pytest.raises(ConfigError, match="no account 'nobody'"):
        save_config(Config(account="nobody"), profile)
    with pytest.raises(ConfigError, match="heartbeat_s"):
        save_config(Config(engine=EngineConfig(heartbeat_s=-1)), profile)
    assert profile.config_file.read_text() == FULL


def test_a_file_at_fault_is_not_overwritten(profile: Paths) -> None:
    write(profile, "enigne: {}\n")
    with pytest.raises(ConfigError, match="enigne"):
        save_config(Config(), profile)
    assert profile.config_file.read_text() == "enigne: {}\n"


def test_a_full_disk_leaves_the_old_file(profile: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    write(profile, FULL)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"cannot be written: No space left on device; it is as it was before"):
        switch_account(load_config(profile), "paper-1", profile)
    assert profile.config_file.read_text() == FULL
    assert [file.name for file in profile.config.iterdir()] == ["koc.yaml"]


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
def test_a_link_stays_a_link(profile: Paths, tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.yaml"
    real.write_text("log_level: DEBUG\n")
    profile.config_file.symlink_to(real)
    save_config(Config(log_level="ERROR"), profile)
    assert profile.config_file.is_symlink()
    assert "ERROR" in real.read_text()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "account: sim2\n"),
        ("# only a comment", "# only a comment\naccount: sim2\n"),
        ("# top\nlog_level: DEBUG  # why\n", "# top\naccount: sim2\nlog_level: DEBUG  # why\n"),
        ("account: sim # the one\nlog_level: DEBUG\n", "account: sim2 # the one\nlog_level: DEBUG\n"),
        ("account: 'sim'\r\nlog_level: DEBUG\r\n", "account: sim2\r\nlog_level: DEBUG\r\n"),
        ("account:\nlog_level: DEBUG\n", "account: sim2\nlog_level: DEBUG\n"),
        ("---\n  log_level: DEBUG\n", "---\n  account: sim2\n  log_level: DEBUG\n"),
        ("{log_level: DEBUG}", "{account: sim2, log_level: DEBUG}"),
    ],
)
def test_switching_the_account_keeps_all_else(before: str, after: str, profile: Paths) -> None:
    write(profile, before)
    config = switch_account(load_config(profile), "sim2", profile)
    assert config.account == "sim2"
    assert profile.config_file.read_bytes().decode() == after
    assert load_config(profile) == config


def test_switching_to_nobody_changes_nothing(profile: Paths) -> None:
    write(profile, "log_level: DEBUG\n")
    with pytest.raises(ConfigError, match="there is no account 'sim3'; did you mean 'sim"):
        switch_account(load_config(profile), "sim3", profile)
    assert profile.config_file.read_text() == "log_level: DEBUG\n"


def test_an_account_that_the_file_does_not_have_is_refused(profile: Paths) -> None:
    write(profile, ACCOUNT)
    with pytest.raises(ConfigError, match="there is no account 'sim2'"):
        switch_account(Config(), "sim2", profile)


def test_switching_finds_the_profile_by_itself(profile: Paths) -> None:
    switch_account(Config(), "sim2")
    assert load_config(profile_paths()).account == "sim2"


@pytest.mark.parametrize("name", ["null", "true", "123", "1e5", "0x10", "12", "1.5"])
def test_names_that_look_like_something_else(name: str, profile: Paths) -> None:
    account = AccountConfig(name, "sim", TradingMode.SIMULATED, {"USDT": Decimal(1)})
    config = Config(
        account=name, accounts=(account, AccountConfig("b", "sim", TradingMode.SIMULATED, {"USDT": Decimal(1)}))
    )
    save_config(config, profile)
    assert load_config(profile) == config
    switch_account(switch_account(config, "b", profile), name, profile)
    assert load_config(profile) == config


VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\ufffe\uffff"), max_size=20),
)


@given(parameters=st.dictionaries(st.sampled_from(["fast", "slow", "null", "12:30", "yes"]), VALUES))
def test_any_parameters_survive_the_file(
    parameters: dict[str, bool | int | float | str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    paths = profile_paths(tmp_path_factory.mktemp("p"))
    config = Config(strategies=(StrategyConfig("höhle x.py", ("BTC/USDT",), parameters=parameters),))
    save_config(config, paths)
    assert msgspec.to_builtins(load_config(paths)) == msgspec.to_builtins(config)


@given(text=st.text(max_size=200))
def test_any_text_is_read_or_refused_in_words(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    paths = profile_paths(tmp_path_factory.mktemp("p"))
    paths.ensure()
    paths.config_file.write_bytes(text.encode("utf-8", "surrogatepass"))
    said = ""
    try:
        load_config(paths)
    except ConfigError as error:
        said = str(error)
    assert not said or "koc.yaml, line " in said
