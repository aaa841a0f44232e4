"""koc fetch: what it keeps, what it says, and how it stops."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from koc_qt.cli.fetching import parse_time
from koc_qt.cli.main import main
from koc_qt.config import load_config
from koc_qt.domain.errors import ConfigError
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.timeframes import DAY_NS, SECOND_NS
from koc_qt.paths import Paths
from koc_qt.ports.bars import BarSeries, Span
from koc_qt.wiring.venues import make_bar_store
from tests.conditions import PATIENCE

NOW_NS = 1_709_294_400_000_000_000  # 2024-03-01T12:00Z
BTC = InstrumentId("sim", "BTC/USDT")


def utc_ns(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_NS),
        ("2026-01-01", utc_ns("2026-01-01")),
        ("2026-01-01T12:30", utc_ns("2026-01-01T12:30")),
        ("2026-01-01 12:30:15Z", utc_ns("2026-01-01T12:30:15")),
        ("2026-01-01T12:30+02:00", utc_ns("2026-01-01T10:30")),
        ("7d", NOW_NS - 7 * DAY_NS),
        ("36h", NOW_NS - DAY_NS * 3 // 2),
        ("90m", NOW_NS - 5400 * SECOND_NS),
        ("2w", NOW_NS - 14 * DAY_NS),
        ("1969-12-31T23:59:59", -SECOND_NS),
    ],
)
def test_times_are_read(text: str, expected: int) -> None:
    assert parse_time(text, NOW_NS) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "7x", "0d", "d", "-7d", "2026-13-01", "2026-02-30", "1e3d", "٧d"])
def test_what_is_no_time_is_said(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a time: write a date such as"):
        parse_time(text, NOW_NS)


def test_history_is_kept_and_not_fetched_twice(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fetch", "sim", "BTC/USDT", "--timeframe", "5m", "--since", "2024-03-01", "--until", "2024-03-03"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "Fetched 576 bars." in said
    assert "sim:BTC/USDT 5m, 2024-03-01 00:00:00 to 2024-03-03 00:00:00 UTC" in said
    assert main(command) == 0
    assert "Fetched 0 bars." in capsys.readouterr().out
    store = make_bar_store(load_config(profile), profile)
    span = Span(utc_ns("2024-03-01"), utc_ns("2024-03-03"))
    assert len(store.read(BarSeries(BTC, "5m"), span)) == 576


def test_progress_is_plain_lines_without_a_terminal(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fetch", "sim2", "SOL/USDT", "--since", "2023-01-01", "--until", "2023-01-15"]) == 0
    lines = capsys.readouterr().out.splitlines()
    shares = [int(found[1]) for line in lines if (found := re.match(r"sim2 SOL/USDT 1m: (\d+) %, [\d,]+ bars$", line))]
    assert shares == sorted(set(shares))
    assert shares[-1] == 100
    assert 2 <= len(shares) <= 10
    assert lines[-1].startswith("Fetched 20,160 bars. Kept: sim2:SOL/USDT 1m, 2023-01-01")


def test_another_seed_has_a_history_of_its_own(profile: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["fetch", "sim", "BTC/USDT", "--timeframe", "1h", "--since", "2024-03-01", "--until", "2024-03-02"]
    assert main(command) == 0
    profile.config_file.write_text("simulator:\n  seed: 77\n", encoding="utf-8")
    assert main(command) == 0
    assert capsys.readouterr().out.count("Fetched 24 bars.") == 2


def test_a_timeframe_that_the_venue_lacks_is_kept_as_what_it_is_made_of(
    profile: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["fetch", "sim", "BTC/USDT", "--timeframe", "2h", "--since", "2024-03-01", "--until", "2024-03-02"]) == 0
    )
    assert "Fetched 24 bars. Kept: sim:BTC/USDT 1h" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["simm", "BTC/USDT", "--since", "2d"], "no venue 'simm'; there are: sim, sim2, binance"),
        (["sim", "BTC/USD", "--since", "2d"], "sim has no symbol 'BTC/USD'; it has, for example, BTC/USDT"),
        (["sim", "btc/usdt", "--since", "2d"], "for example, BTC/USDT"),
        (["sim", "BTC/USDT", "--since", "2d", "--timeframe", "7x"], "'7x' is not a timeframe"),
        (["sim", "BTC/USDT", "--since", "1d", "--until", "2d"], r"--since \(.*\) must be before --until"),
        (["sim", "BTC/USDT", "--since", "2099-01-01", "--until", "2100-01-01"], "is in the future"),
        (["sim", "BTC/USDT", "--since", "whenever"], "'whenever' is not a time"),
        (["sim", "BTC/USDT", "--since", "2d", "--until", "later"], "'later' is not a time"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(
    profile: Paths, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert main(["fetch", *arguments]) == 1
    said = capsys.readouterr()
    assert re.search(words, said.err)
    assert said.out == ""
    assert list(profile.bars.rglob("*.parquet")) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole process groups")
def test_ctrl_c_keeps_what_came_and_the_same_command_goes_on(profile: Paths) -> None:
    command = [sys.executable, "-m", "koc_qt", "fetch", "sim", "BTC/USDT", "--timeframe", "1s"]
    long = [*command, "--since", "2023-01-01", "--until", "2024-01-01"]
    environment = {**os.environ, "KOC_HOME": str(profile.data.parent), "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(long, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment) as running:
        while not list(profile.bars.rglob("*.parquet")):
            assert running.poll() is None, running.communicate()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60 * PATIENCE)
    assert running.returncode == 130, err
    assert err == ""
    kept = re.search(r"Stopped\. Kept: sim:BTC/USDT 1s, 2023-01-01 00:00:00 to (\S+ \S+) UTC\.", out)
    assert kept, out
    store = make_bar_store(load_config(profile), profile)
    year = Span(utc_ns("2023-01-01"), utc_ns("2024-01-01"))
    assert store.covered(BarSeries(BTC, "1s"), year) == [Span(year.since_ns, utc_ns(kept[1]))]
    assert not list(profile.bars.rglob(".*.tmp"))


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_killed_fetch_leaves_a_store_that_can_be_read_and_gone_on_with(profile: Paths) -> None:
    command = [sys.executable, "-m", "koc_qt", "fetch", "sim", "BTC/USDT", "--timeframe", "1s"]
    span = ["--since", "2023-01-31T22:00", "--until", "2023-02-01T02:00"]
    environment = {**os.environ, "KOC_HOME": str(profile.data.parent)}
    with subprocess.Popen([*command, *span], stdout=subprocess.DEVNULL, env=environment) as running:
        while not list(profile.bars.rglob("*.parquet")) and running.poll() is None:
            pass
        running.kill()
    assert main(["fetch", "sim", "BTC/USDT", "--timeframe", "1s", *span]) == 0
    store = make_bar_store(load_config(profile), profile)
    whole = Span(utc_ns("2023-01-31T22:00"), utc_ns("2023-02-01T02:00"))
    assert store.covered(BarSeries(BTC, "1s"), whole) == [whole]
    assert len(store.read(BarSeries(BTC, "1s"), whole)) > 10_000
