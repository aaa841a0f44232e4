"""The configuration: config/koc.yaml of the profile, every key of which has a default.

A missing file means the defaults and is never written unasked. Everything wrong in a file is said at once, with the
line. Times of day are UTC. Secrets have no place here: see docs/accounts.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from koc_qt.domain.errors import BadTimeframe, ConfigError, InvalidOrder
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.risk import RiskLimits
from koc_qt.domain.state import TradingMode
from koc_qt.domain.timeframes import duration_ns
from koc_qt.files import write_durably
from koc_qt.paths import Paths, profile_paths
from koc_qt.yaml_reader import Where, YamlProblems, outline, read, spell, with_top_level, with_value, write

SIMULATED_VENUES = ("sim", "sim2")
REAL_VENUES = ("binance", "kraken", "coinbase", "kucoin", "bitfinex", "alpaca", "polygon", "yahoo")
VENUES = (*SIMULATED_VENUES, *REAL_VENUES)
MAX_BYTES = 256 * 1024
_SHOWN_PROBLEMS = 10


def _seconds(longest: float) -> Meta:
    return Meta(gt=0, le=longest, description=f"a number of seconds above 0 and up to {longest:g}")


Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="a name of letters, digits, '-', '_' and '.' (put a number in quotes)",
    ),
]
Label = Annotated[
    str,
    Meta(
        max_length=64,
        pattern=r"^(\S(.*\S)?)?$",
        description="up to 64 letters on a line, without blanks at either end",
    ),
]
Symbol = Annotated[str, Meta(min_length=1, max_length=64, description="a symbol such as BTC/USDT or sim:BTC/USDT")]
Currency = Annotated[str, Meta(pattern=r"^[A-Z0-9]{1,20}$", description="a currency such as USDT")]
TimeOfDay = Annotated[
    str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$", description="a time of day (UTC) as HH:MM, such as 09:30")
]
HostPort = Annotated[str, Meta(pattern=r"^[A-Za-z0-9.\-]+:\d{1,5}$", description="HOST:PORT, such as 127.0.0.1:8443")]
Endpoint = Annotated[
    str,
    Meta(
        pattern=r"^tcp://(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.\-]+):(\d{1,5}|\*)$",
        description="tcp://ADDRESS:PORT, such as tcp://127.0.0.1:5555, or with * for any free port",
    ),
]
Megabytes = Annotated[int, Meta(ge=256, le=1 << 20, description="a whole number of megabytes, at least 256")]
Count = Annotated[int, Meta(ge=0, le=1_000_000, description="a whole number from 0 to 1000000")]
Parameter = bool | int | float | str


class WorkersConfig(msgspec.Struct, frozen=True):
    """Limits of strategy processes. A crashed one starts again after `backoff_s`, which doubles up to the maximum."""

    max_restarts: Count = 5
    backoff_s: Annotated[float, _seconds(3600)] = 1.0
    backoff_max_s: Annotated[float, _seconds(86400)] = 60.0
    memory_mb: Megabytes = 1024


class LinkConfig(msgspec.Struct, frozen=True):
    """Where clients reach the engine; what `*` became is in the run folder."""

    endpoint: Endpoint = "tcp://127.0.0.1:*"


class TelemetryConfig(msgspec.Struct, frozen=True):
    """The bus of heartbeats and metrics."""

    enabled: bool = True
    endpoint: Endpoint = "tcp://127.0.0.1:*"


class EngineConfig(msgspec.Struct, frozen=True):
    """The engine. Strategies report every `heartbeat_s` seconds. `studies` is where optimisations are kept: the URL of
    a database such as postgresql://USER:PASSWORD@HOST/NAME; empty for a file of the profile's own. With `warm_up`, an
    installed copy prepares once, in the background, what the search of parameters needs of this machine.
    """

    heartbeat_s: Annotated[float, _seconds(60)] = 1.0
    workers: WorkersConfig = WorkersConfig()
    link: LinkConfig = LinkConfig()
    telemetry: TelemetryConfig = TelemetryConfig()
    studies: str = ""
    warm_up: bool = True


class SimulatorConfig(msgspec.Struct, frozen=True):
    """The simulated market: the same seed gives the same market; `speed` 2 runs twice as fast as the clock."""

    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1, description="a whole number from 0")] = 1
    speed: Annotated[float, Meta(gt=0, le=3600, description="a number above 0 and up to 3600")] = 1.0


class VenueConfig(msgspec.Struct, frozen=True):
    """A venue. `enabled` connects it from the start; else it is connected when an account or a strategy needs it.

    `endpoint` and `ca_file` send everything to another server, such as a test's, which has a certificate of that CA.
    """

    enabled: bool = False
    endpoint: HostPort | None = None
    ca_file: str | None = None


class VenuesConfig(msgspec.Struct, frozen=True):
    """Venues beyond the simulated ones, which are always there."""

    binance: VenueConfig = VenueConfig()
    kraken: VenueConfig = VenueConfig()
    coinbase: VenueConfig = VenueConfig()
    kucoin: VenueConfig = VenueConfig()
    bitfinex: VenueConfig = VenueConfig()
    alpaca: VenueConfig = VenueConfig()
    polygon: VenueConfig = VenueConfig()
    yahoo: VenueConfig = VenueConfig()

    def of(self, name: str) -> VenueConfig:
        """Give a venue's settings; those of a simulated one are the defaults."""
        venue: VenueConfig = getattr(self, name) if name in REAL_VENUES else VenueConfig()
        return venue


FeeRate = Annotated[Decimal, Meta(description="a fraction of the notional between -0.01 and 0.1, such as 0.001")]
Amount = Annotated[Decimal, Meta(description="a number")]


class FeesConfig(msgspec.Struct, frozen=True):
    """Fees instead of the venue's own, as fractions of the notional; negative is a rebate."""

    maker: FeeRate
    taker: FeeRate


class AccountConfig(msgspec.Struct, frozen=True):
    """An account. Simulated and on paper, its orders are filled by the matching engine, on its venue's market data:
    `balances` to `fees` say how. Keys of the others are kept elsewhere, see docs/accounts.md.

    `label` is what people call it; one that is not `enabled` is left alone.
    """

    id: Name
    venue: str
    mode: TradingMode
    balances: dict[Currency, Amount] = {}
    allow_short: bool = False
    latency_ms: Annotated[float, Meta(ge=0, le=60_000, description="a number of milliseconds from 0 to 60000")] = 5.0
    fees: FeesConfig | None = None
    label: Label = ""
    enabled: bool = True

    @property
    def name(self) -> str:
        """What people call it, and type to go live: the label, or the id where there is none."""
        return self.label or self.id

    @property
    def is_filled_here(self) -> bool:
        """Whether the matching engine fills its orders: no real venue hears of them."""
        return self.mode in (TradingMode.SIMULATED, TradingMode.PAPER)


class StrategyConfig(msgspec.Struct, frozen=True):
    """A strategy to run. `path` counts from the configuration's folder; an empty `account` is the default one.

    Between `start` and `stop` it runs every day; with `autostart` from the engine's start on.
    """

    path: Annotated[str, Meta(min_length=1, description="the path of a strategy file")]
    symbols: tuple[Symbol, ...]
    id: Name | None = None
    account: Name | None = None
    timeframe: str = "1m"
    parameters: dict[str, Parameter] = {}
    start: TimeOfDay | None = None
    stop: TimeOfDay | None = None
    autostart: bool = False


class SchedulerConfig(msgspec.Struct, frozen=True):
    """Daily work: at `data_refresh` the history of every symbol in use is brought up to date."""

    data_refresh: TimeOfDay | None = "00:05"


_HUNDRED_THOUSAND = {"USDT": Decimal(100_000)}
DEFAULT_ACCOUNTS = (
    AccountConfig("sim", "sim", TradingMode.SIMULATED, _HUNDRED_THOUSAND, allow_short=True),
    AccountConfig("sim2", "sim2", TradingMode.SIMULATED, _HUNDRED_THOUSAND, allow_short=True),
    AccountConfig("binance-paper", "binance", TradingMode.PAPER, _HUNDRED_THOUSAND),
)


class UpdatesConfig(msgspec.Struct, frozen=True):
    """Whether K.O.C. looks for new releases once a day, and at which address; see docs/updates.md.

    It asks for one signed note, and downloads nothing. An empty address is none.
    """

    check: bool = False
    address: Annotated[
        str,
        Meta(
            max_length=500,
            pattern=r"^(https://[^\s@\\]+)?$",
            description="an https address, such as https://koc.example/release.json",
        ),
    ] = ""


class Config(msgspec.Struct, frozen=True):
    """Everything that can be configured. `account` is used where none is named; `risk` limits each strategy."""

    account: Name = "sim"
    log_level: Literal["TRACE", "DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    engine: EngineConfig = EngineConfig()
    simulator: SimulatorConfig = SimulatorConfig()
    venues: VenuesConfig = VenuesConfig()
    accounts: tuple[AccountConfig, ...] = DEFAULT_ACCOUNTS
    risk: RiskLimits = RiskLimits()
    strategies: tuple[StrategyConfig, ...] = ()
    scheduler: SchedulerConfig = SchedulerConfig()
    updates: UpdatesConfig = UpdatesConfig()

    def find_account(self, account_id: str | None = None) -> AccountConfig:
        """Give an account, or the default one. Raises ConfigError for one that is not there."""
        wanted = account_id or self.account
        for account in self.accounts:
            if account.id == wanted:
                return account
        known = [account.id for account in self.accounts]
        close = get_close_matches(wanted, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(known) or 'none'}"
        raise ConfigError(f"there is no account {wanted!r}; {hint}")


def load_config(paths: Paths) -> Config:
    """Read the profile's configuration; without a file, the defaults. Raises ConfigError with every line at fault.

    It may name accounts that were added in K.O.C., which `with_accounts` (accounts_file.py) puts beside its own.
    """
    text = read_text(paths.config_file)
    return Config() if text is None else _parse(text, paths)


def save_config(config: Config, paths: Paths) -> None:
    """Replace the file as a whole, durably or not at all; comments in it are lost (switch_account keeps them).

    Raises ConfigError when `config` contradicts itself, when the present file is at fault (what it says would be lost)
    or when it cannot be written.
    """
    load_config(paths)
    text = write(config)
    if _parse(text, paths) != config:
        raise ConfigError("the configuration would not read back as it was meant; it was not saved")
    _write_text(paths.config_file, text)


def switch_account(config: Config, account_id: str, paths: Paths | None = None) -> Config:
    """Make an account the default one, in the file too, where comments and all else stay as they are.

    Raises ConfigError for an account that is not there or a file that is at fault or cannot be written.
    """
    config.find_account(account_id)
    paths = paths or profile_paths()
    text = read_text(paths.config_file) or ""
    stored = _parse(text, paths)
    if account_id not in _added_ids(paths):
        stored.find_account(account_id)
    try:
        changed = with_top_level(text, "account", account_id)
    except YamlProblems as error:
        raise where_at_fault(paths.config_file, error) from None
    if _parse(changed, paths) != msgspec.structs.replace(stored, account=account_id):
        raise ConfigError(f"{paths.config_file} is written in a way that cannot be changed here: set 'account' by hand")
    _write_text(paths.config_file, changed)
    return msgspec.structs.replace(config, account=account_id)


def switch_updates(paths: Paths, *, check: bool) -> None:
    """Set updates.check in the file, where comments and all else stay as they are.

    Raises ConfigError for a file that is at fault or cannot be written.
    """
    text = read_text(paths.config_file) or ""
    stored = _parse(text, paths)
    if stored.updates.check == check:
        return
    try:
        changed = with_value(text, ("updates", "check"), check)
    except YamlProblems as error:
        raise where_at_fault(paths.config_file, error) from None
    wanted = msgspec.structs.replace(stored, updates=msgspec.structs.replace(stored.updates, check=check))
    if _parse(changed, paths) != wanted:
        raise ConfigError(f"{paths.config_file} is written in a way that cannot be changed here: set 'updates' by hand")
    _write_text(paths.config_file, changed)


def with_venues(config: Config, names: Iterable[str]) -> Config:
    """Enable venues, in memory; simulated ones always are."""
    changed = {
        name: msgspec.structs.replace(config.venues.of(name), enabled=True) for name in names if name in REAL_VENUES
    }
    return msgspec.structs.replace(config, venues=msgspec.structs.replace(config.venues, **changed))


def resolve_path(paths: Paths, text: str) -> Path:
    """Give the absolute path of a file that the configuration names; relative ones count from its folder."""
    return (paths.config / Path(text).expanduser()).absolute()


def _parse(text: str, paths: Paths) -> Config:
    file = paths.config_file
    try:
        config, lines = read(text, Config)
    except YamlProblems as error:
        raise where_at_fault(file, error) from None
    problems = [f"{file}, line {_line(lines, where)}: {problem}" for where, problem in _contradictions(config, paths)]
    if problems:
        raise ConfigError("\n".join(problems))
    return config


def _line(lines: dict[Where, int], where: Where) -> int:
    """Find the line of a place, or of what it is in: a default has no line of its own."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 1)


def where_at_fault(file: Path, error: YamlProblems) -> ConfigError:
    """Say everything that is wrong with a file, with the lines."""
    lines = [f"{file}, line {problem.line}: {problem.text}" for problem in error.problems[:_SHOWN_PROBLEMS]]
    more = len(error.problems) - _SHOWN_PROBLEMS
    return ConfigError("\n".join([*lines, f"... and {more} more"] if more > 0 else lines))


def _added_ids(paths: Paths) -> list[str]:
    """Give the ids in the file of added accounts, whatever else may be wrong with it."""
    try:
        entries = outline(read_text(paths.accounts_file) or "")["accounts"]
        return [entry["id"] for entry in entries]
    except (ConfigError, YamlProblems, KeyError, TypeError):
        return []


def _contradictions(config: Config, paths: Paths) -> Iterator[tuple[Where, str]]:
    """Find what no single value shows."""
    ids = [account.id for account in config.accounts]
    own, ids = ids, [*ids, *(added for added in _added_ids(paths) if added not in ids)]
    if config.account not in ids:
        yield ("account",), f"there is no account {config.account!r}; there are {', '.join(ids) or 'none'}"
    if config.engine.workers.backoff_max_s < config.engine.workers.backoff_s:
        yield ("engine", "workers"), "engine.workers.backoff_max_s must not be below backoff_s"
    for index, account in enumerate(config.accounts):
        for where, problem in account_problems(account, own[:index]):
            yield ("accounts", index, *where), f"{spell(('accounts', index, *where))} {problem}"
    strategy_ids: list[str] = []
    for index, strategy in enumerate(config.strategies):
        for where, problem in _strategy_problems(strategy, ids, strategy_ids):
            yield ("strategies", index, *where), f"{spell(('strategies', index, *where))} {problem}"
        strategy_ids += [strategy.id] if strategy.id else []
    for name, endpoint in (("link", config.engine.link.endpoint), ("telemetry", config.engine.telemetry.endpoint)):
        if not endpoint.endswith("*") and not 0 < int(endpoint.rsplit(":", 1)[1]) < 65536:
            yield ("engine", name, "endpoint"), f"engine.{name}.endpoint must have a port from 1 to 65535, or *"
    for name in REAL_VENUES:
        remote = config.venues.of(name).endpoint
        if remote and not 0 < int(remote.rsplit(":", 1)[1]) < 65536:
            yield ("venues", name, "endpoint"), f"venues.{name}.endpoint must have a port from 1 to 65535"


def account_problems(account: AccountConfig, earlier: Sequence[str] = ()) -> Iterator[tuple[Where, str]]:
    """Find what is wrong with an account; `earlier` are the ids of others. What its venue can do is not asked here."""
    if account.id in earlier:
        yield ("id",), f"is {account.id!r}, as an account above it is"
    if account.venue not in VENUES:
        yield ("venue",), f"is {account.venue!r}, but the venues are {', '.join(VENUES)}"
    elif (account.mode is TradingMode.SIMULATED) != (account.venue in SIMULATED_VENUES):
        right = "simulated" if account.venue in SIMULATED_VENUES else "paper, testnet, live or data"
        yield ("mode",), f"is {account.mode}, but an account on {account.venue} is {right}"
    if account.is_filled_here and not account.balances:
        yield ("balances",), "must name at least one currency, such as USDT: 100000"
    for currency, amount in account.balances.items():
        if amount < 0:
            yield ("balances", currency), f"is {amount}, but must not be below zero"
    for name in ("maker", "taker"):
        if account.fees and not Decimal("-0.01") <= getattr(account.fees, name) <= Decimal("0.1"):
            yield (
                ("fees", name),
                f"is {getattr(account.fees, name)}, but must be between -0.01 and 0.1 (0.001 is 0.1 %)",
            )


def _strategy_problems(
    strategy: StrategyConfig, accounts: list[str], earlier: list[str]
) -> Iterator[tuple[Where, str]]:
    if strategy.id in earlier:
        yield ("id",), f"is {strategy.id!r}, as a strategy above it is"
    if strategy.account is not None and strategy.account not in accounts:
        yield ("account",), f"is {strategy.account!r}, but the accounts are {', '.join(accounts) or 'none'}"
    try:
        duration_ns(strategy.timeframe)
    except BadTimeframe as error:
        yield ("timeframe",), f"is wrong: {error}"
    if not strategy.symbols:
        yield ("symbols",), "must name at least one symbol"
    for index, symbol in enumerate(strategy.symbols):
        try:
            InstrumentId.parse(symbol, default_venue="sim")
        except InvalidOrder as error:
            yield ("symbols", index), f"is wrong: {error}"
    if (strategy.start is None) != (strategy.stop is None):
        yield ("start" if strategy.start else "stop",), "stands alone: give both start and stop, or neither"
    elif strategy.start is not None and strategy.start == strategy.stop:
        yield ("start",), "is the same as stop: such a strategy would never run"


def read_text(file: Path) -> str | None:
    """Give a configuration file's text, None where there is none. Raises ConfigError."""
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(
            f"{file} cannot be read: {error.strerror}. Correct its permissions or move it away"
        ) from error
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{file} is larger than {MAX_BYTES // 1024} kB and so is no configuration: move it away")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{file}, line {line}: this is not UTF-8: save the file in that encoding") from error


def _write_text(file: Path, text: str) -> None:
    """Write durably: the old file or the new one survives a crash, never a part."""
    try:
        write_durably(file, text.encode())
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}; it is as it was before") from error
