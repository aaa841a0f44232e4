"""koc backtest: real runs in real processes, what is said of them, and what is refused."""
# ruff: noqa: E501 - one refusal a line

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from koc_qt.cli import backtest_trust
from koc_qt.cli.backtest_asked import read_asked
from koc_qt.cli.backtest_progress import shown_progress, words
from koc_qt.cli.main import build_parser, main
from koc_qt.domain.backtests import BY_COMMAND, BacktestSnapshot, BacktestSpec
from koc_qt.domain.instruments import InstrumentId
from koc_qt.domain.performance import STATISTICS
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import Check, TrustSpec, Verdict
from koc_qt.domain.trust_report import TrustReport
from koc_qt.engine.backtest_archive import BacktestArchive
from koc_qt.engine.backtest_run import StoredResult
from koc_qt.paths import Paths
from koc_qt.wiring.backtest import read_result
from tests.conditions import PATIENCE
from tests.e2e.processes import ROOT, SAMPLES, environment

RECORDED = ROOT.parent / "shared" / "market_data"
SMA = str(SAMPLES / "sma_cross.py")
SETTINGS = ("--set", "fast=10", "--set", "slow=50", "--fee", "0.001")
BUYS = """
from koc_qt.sdk import Strategy

class Buys(Strategy):
    def on_bar(self, bar):
        if not self.position().quantity:
            self.buy({quantity})
"""

pytestmark = pytest.mark.usefixtures("qapp", "profile")


@pytest.fixture
def bars(tmp_path: Path) -> Path:
    """Write 400 hours of prices that go up and down."""
    price = 100 + 10 * np.sin(np.arange(400) / 15).round(2)
    frame = pd.DataFrame(
        {"open": price, "high": price + 1, "low": price - 1, "close": price + 0.25, "volume": 1e6},
        index=pd.date_range("2024-01-01", periods=400, freq="1h", tz="UTC", name="timestamp"),
    )
    path = tmp_path / "Bänke ☃.parquet"
    frame.to_parquet(path)
    return path


def strategy(folder: Path, text: str) -> str:
    path = folder / "mine.py"
    path.write_text(text, encoding="utf-8")
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run it here; gives the exit code and what it said on stdout and stderr."""
    try:
        code = main(["backtest", *map(str, arguments)])
    except SystemExit as end:
        code = int(end.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    code, out, err = told(capsys, *arguments, "--json", "-")
    assert code == 0, err
    found: dict[str, Any] = json.loads(out)
    return found


def kept(profile: Paths) -> list[BacktestSnapshot]:
    return BacktestArchive(profile.backtests).load()


# ---- what comes of a run


def test_a_file_of_bars_is_run_and_told(bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, SMA, "--data", str(bars), *SETTINGS)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0] == "SMA cross on file:Bänke ☃ 1h, 2024-01-01 00:00:00 UTC to 2024-01-17 16:00:00 UTC, 400 bars"
    figures = {line[:24].strip(): line[24:].strip() for line in lines if re.match("  [A-Z]", line)}
    assert re.fullmatch(r"-?[\d,]+\.\d\d USD", figures["Net profit"])
    assert re.fullmatch(r"-?[\d.]+ %", figures["Return"])
    assert int(figures["Closed trades"]) >= 3
    assert len(figures) == len(STATISTICS)
    assert sum("SHA-256 of " in line for line in lines) == 4
    assert lines[-1].startswith(f"Again: koc backtest {SMA} --symbol 'file:Bänke ☃' --timeframe 1h --from 2024-01-01 ")
    assert f"--data '{bars}'" in lines[-1]
    assert "mine" not in err
    shares = [int(found[1]) for line in err.splitlines() if (found := re.search(r"replay: (\d+) %, run, ", line))]
    assert shares == sorted(set(shares))
    assert shares[-1] == 100


def test_json_has_it_all_and_the_same_command_gives_the_same_bytes(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [SMA, "--data", str(bars), "--symbol", "ABC-USD", *SETTINGS, "--cash", "5000"]
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    for file in (first, second):
        code, out, _ = told(capsys, *command, "--json", str(file))
        assert code == 0
        assert "SHA-256" in out
    assert first.read_bytes() == second.read_bytes()
    found = json.loads(first.read_text(encoding="utf-8"))
    assert (found["currency"], found["certificate"], found["checks"]) == ("USD", None, [])
    run = found["engines"]["replay"]
    settings = run["settings"]
    assert (settings["instruments"], run["timeframe"]) == ([{"venue": "file", "symbol": "ABC-USD"}], "1h")
    assert (settings["cash"], settings["fee"]) == ("5000", "0.001")
    assert settings["parameters"] == {"fast": 10, "slow": 50}
    assert list(run["statistics"]) == list(STATISTICS)
    assert run["statistics"]["trades"] == sum(trade["exit_ns"] is not None for trade in run["trades"])
    for trade in run["trades"]:
        assert trade["side"] == "long"
        assert trade["quantity"] > 0
        assert trade["entry_time"] < (trade["exit_time"] or "9")
        cost = trade["quantity"] * (trade["entry_price"] + (trade["exit_price"] or 0)) * 0.001
        assert trade["fees"] == pytest.approx(cost)
    equity = run["equity"]
    assert len(equity["time"]) == len(equity["time_ns"]) == len(equity["value"]) == 401
    assert (equity["time"][0][:19], equity["value"][0]) == ("2024-01-01T00:00:00", 5000.0)
    assert equity["value"][-1] == run["statistics"]["final_equity"]
    assert set(run["provenance"]) == {"data", "strategy", "settings", "result", "versions"}
    again = found["command"].split(" ", 2)[2]
    assert f"--data '{bars}'" in again


def test_the_command_that_is_told_does_it_again(bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [SMA, "--data", str(bars), "--from", "10d", "--to", "2d", *SETTINGS, "--spread", "0.0002", "--seed", "7"]
    asked += ["--latency-ms", "250", "--slippage", "0.0001", "--volume-share", "none", "--no-short", "--lot", "0.5"]
    first = as_json(capsys, *asked)
    second = as_json(capsys, *shlex.split(first["command"])[2:])
    assert first == second
    assert first["engines"]["replay"]["equity"]["time"][0].startswith("2024-01-07T16:00:00")
    quantities = {trade["quantity"] % 0.5 for trade in first["engines"]["replay"]["trades"]}
    assert quantities == {0.0}


@pytest.mark.parametrize(
    ("asked", "share"),
    [([], "0.1"), (["--engine", "all"], None), (["--engine", "all", "--volume-share", "0.2"], "0.2")],
)
def test_engines_that_are_compared_fill_orders_whole(asked: list[str], share: str | None) -> None:
    parser, _ = build_parser("backtest")
    args = parser.parse_args(["backtest", SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", *asked])
    assert read_asked(args).rules["volume_fraction"] == (None if share is None else Decimal(share))


def test_a_simulated_market_is_fetched_run_and_told(capsys: pytest.CaptureFixture[str], profile: Paths) -> None:
    command = [SMA, "--symbol", "sim:BTC/USDT", "--from", "2024-01-01", "--to", "2024-01-11", "--timeframe", "1h"]
    first = as_json(capsys, *command, *SETTINGS)
    assert first["engines"]["replay"]["bars"] == 240
    assert list(profile.bars.rglob("*.parquet"))
    assert as_json(capsys, *command, *SETTINGS) == first


def test_several_files_are_several_symbols(bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "from koc_qt.sdk import Strategy\n\nclass Two(Strategy):\n    instruments_wanted = 2\n    def on_bar(self, bar):\n"
    text += (
        "        if not self.position(bar.instrument).quantity:\n            self.buy(1, instrument=bar.instrument)\n"
    )
    path = strategy(tmp_path, text)
    found = as_json(capsys, path, "--data", str(bars), "--data", str(bars), "--symbol", "A", "--symbol", "B")
    assert {trade["symbol"] for trade in found["engines"]["replay"]["trades"]} == {"file:A", "file:B"}


def test_longer_bars_than_the_files(bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(capsys, SMA, "--data", str(bars), "--timeframe", "4h", "--set", "fast=3", "--set", "slow=9")
    run = found["engines"]["replay"]
    assert (run["timeframe"], run["bars"]) == ("4h", 100)


def test_notes_on_the_data_and_lines_of_the_strategy_are_told(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.read_parquet(bars)
    frame.iloc[5, 0] = np.nan
    frame.iloc[7, :4] = np.nan
    frame.drop(columns="volume").to_csv(bars.with_suffix(".csv"))
    text = "from koc_qt.sdk import Strategy\n\nclass Says(Strategy):\n    def on_bar(self, bar):\n"
    path = strategy(tmp_path, text + "        print('\\x1b[2Jone more', bar.close)\n")
    refused = told(capsys, path, "--data", str(bars.with_suffix(".csv")))
    assert refused[0] == 1
    assert "row 6 (2024-01-01 05:00:00 UTC): open nan" in refused[2]
    code, out, _ = told(capsys, path, "--data", str(bars.with_suffix(".csv")), "--skip-bad")
    assert code == 0
    assert "Note: Bänke ☃.csv: 1 row without any price left out.\n" in out
    assert "Note: Bänke ☃.csv: 1 row that cannot be believed left out.\n" in out
    assert "Note: Bänke ☃.csv: it has no volume" in out
    assert "The strategy wrote 200 lines, the last 10:\n" in out
    assert out.count("one more") == 10
    assert "\x1b" not in out


def test_engines_are_compared_where_they_can_run_the_file(bars: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = told(capsys, SMA, "--data", str(bars), *SETTINGS, "--engine", "all")
    assert code == 0, err
    assert re.search(r"^ +replay +backtrader$", out, re.MULTILINE)
    assert re.search(r"^Parity green: backtrader and replay made the same \d+ fills\.$", out, re.MULTILINE)
    assert "Vectorbt took no part: it runs one symbol, and strategies that declare signals() alone\n" in out
    assert out.splitlines()[-1].endswith(f"--data '{bars}' --engine all")


def test_a_comparison_that_is_not_green_has_an_exit_code_of_its_own(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    idle = strategy(tmp_path, BUYS.format(quantity=1).replace("not self", "False and not self"))
    code, out, err = told(capsys, idle, "--data", str(bars), "--engine", "all", "--json", str(tmp_path / "all.json"))
    assert (code, json.loads((tmp_path / "all.json").read_text())["certificate"]["verdict"]) == (3, "none"), err
    assert "Parity none: " in out
    assert out.splitlines()[-1].startswith("Again: ")


def test_results_are_written_where_they_were_asked_for(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, folder = tmp_path / "a page.html", tmp_path / "tables"
    code, _, err = told(
        capsys,
        SMA,
        "--data",
        str(bars),
        *SETTINGS,
        "--report",
        str(page),
        "--csv",
        str(folder),
        "--parquet",
        str(folder),
    )
    assert code == 0, err
    assert "SMA cross" in page.read_text(encoding="utf-8")
    names = [f"sma_cross-{table}.{kind}" for kind in ("csv", "parquet") for table in ("trades", "fills", "equity")]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    assert [line for line in err.splitlines() if line.startswith("Written: ")] == [
        f"Written: {path}" for path in (page, *(folder / name for name in names))
    ]
    trades = pd.read_parquet(folder / "sma_cross-trades.parquet")
    assert len(trades) == len(pd.read_csv(folder / "sma_cross-trades.csv")) > 2


def test_a_result_is_checked(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def few(spec: BacktestSpec, checks: tuple[Check, ...]) -> TrustSpec:
        assert checks == tuple(Check)
        return TrustSpec(spec, checks=(Check.LOOKAHEAD, Check.SHARPE), cuts=1)

    monkeypatch.setattr(backtest_trust, "TrustSpec", few)
    page = tmp_path / "page.html"
    code, out, err = told(
        capsys, strategy(tmp_path, BUYS.format(quantity=1)), "--data", str(bars), "--trust", "--report", str(page)
    )
    assert code == 0, err
    assert re.search(r"^Lookahead green: With 2 other futures every decision .*$", out, re.MULTILINE)
    assert re.search(r"^Sharpe ratio (green|amber|red): With .*$", out, re.MULTILINE)
    assert "mine.py checks: " in err
    assert "With 2 other futures" in page.read_text(encoding="utf-8")
    assert out.splitlines()[-1].endswith(" --trust")


def test_a_check_that_could_not_be_made_says_why() -> None:
    report = TrustReport(TrustSpec(SNAPSHOT.spec), failed={str(Check.MONTE_CARLO): "there were no trades"})
    [found] = backtest_trust.checks_of(report)
    assert (found.title, found.verdict, found.sentence) == ("Monte Carlo", Verdict.NONE, "there were no trades")


# ---- what a strategy may do


@pytest.mark.parametrize(
    ("quantity", "fills"),
    [("0", 0), ("-1", 0), ("float('nan')", 0), ("10**30", 0), ("1000", 0), ("10", 1), ("1e-12", 0)],
)
def test_orders_of_every_size_end_in_a_result(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], quantity: str, fills: int
) -> None:
    code, out, err = told(
        capsys, strategy(tmp_path, BUYS.format(quantity=quantity)), "--data", str(bars), "--json", "-"
    )
    if code:
        assert re.search(r"mine\.py|quantity|line 7", err), err
    else:
        assert json.loads(out)["engines"]["replay"]["statistics"]["fills"] == fills


@pytest.mark.parametrize(
    ("body", "words_said"),
    [
        ("    def on_bar(self, bar):\n        raise ValueError('no\\nmore')", "more (line 5)"),
        ("    def on_bar(self, bar):\n        self.buy(1, instrument='sim:NO/SUCH')", "NO/SUCH"),
        ("    def on_bar(self, bar:", "line 4"),
        ("    pass", "would never do anything"),
        ("    instruments_wanted = 2\n    def on_bar(self, bar): ...", "Mine wants 2 instrument(s)"),
        ("    def on_bar(self, bar):\n        import os; os._exit(3)", "its process ended"),
        ("    def on_bar(self, bar):\n        open('/etc/passwd')", "PermissionError"),
    ],
)
def test_a_strategys_own_mistake_is_said_with_its_line(
    bars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], body: str, words_said: str
) -> None:
    text = f"from koc_qt.sdk import Strategy\n\nclass Mine(Strategy):\n{body}\n"
    code, out, err = told(capsys, strategy(tmp_path, text), "--data", str(bars))
    assert (code, out) == (1, "")
    assert words_said in err
    assert "\nkoc: " in f"\n{err}"
    assert "Traceback" not in err


# ---- what is refused before anything runs


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "the following arguments are required: FILE"),
        (["no.py", "--symbol", "sim:BTC/USDT", "--from", "1d"], 1, "there is no strategy file "),
        ([SMA], 1, "say what to run it on: --symbol VENUE:SYMBOL, or --data FILE"),
        ([SMA, "--symbol", "sim:BTC/USDT"], 1, "--from is needed"),
        ([SMA, "--symbol", "BTC/USDT", "--from", "1d"], 1, "is not an instrument: write VENUE:SYMBOL"),
        ([SMA, "--symbol", "nix:BTC/USDT", "--from", "1d"], 1, "there is no venue 'nix'; there are: sim, "),
        ([SMA, "--symbol", "sim:BTC/USD", "--from", "1d"], 1, "sim has no symbol 'BTC/USD'; it has, for example, BTC/USDT"),
        ([SMA, "--symbol", "sim:A", "--symbol", "sim:A", "--from", "1d"], 1, "sim:A is there twice"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "soon"], 1, "'soon' is not a time"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--to", "2d"], 1, "must be before --to"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "2090-01-01"], 1, "is in the future; at the venue it is"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--timeframe", "7x"], 1, "'7x' is not a timeframe"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--tick", "1"], 1, "--tick is for bars from a file"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--cash", "ten"], 2, "argument --cash: 'ten' is not a number"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--cash", "nan"], 2, "argument --cash: 'nan' is not a number"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--cash", "0"], 1, "begins with cash below 1E+15 and above zero"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--fee", "2"], 1, "it cannot be 2"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--volume-share", "0"], 1, "the share of a bar's volume"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--latency-ms", "-1"], 1, "a latency is from 0 to one day"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--seed", "-1"], 1, "--seed -1: it must be zero"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--set", "fast"], 1, "write NAME=VALUE"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--engine", "zipline"], 2, "invalid choice: 'zipline'"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--json", "no/such.json"], 1, "--json no/such.json: there is no folder"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--json", "a.txt"], 1, "--json a.txt: let its name end in .json"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--report", "a.pdf"], 1, "--report a.pdf: let its name end in .html"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--csv", "no/such/folder"], 1, "there is no folder"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--csv", SMA], 1, "that is a file; name a folder"),
        ([SMA, "--symbol", "sim:BTC/USDT", "--from", "1d", "--json", "."], 1, "that is a folder; name a file"),
        ([SMA, "--data", "no.parquet"], 1, "no.parquet cannot be read: No such file"),
        ([SMA, "--data", "a.csv", "--data", "b.csv", "--symbol", "A"], 1, "2 files and 1 symbol:"),
        ([SMA, "--data", "a.csv", "--data", "b/a.csv"], 1, "file:a is there twice"),
        ([SMA, "--data", "a.csv", "--lot", "0"], 1, "--lot must be above zero, not 0"),
        ([SMA, "--data", "a.csv", "--slippage-ticks", "2"], 1, "add --tick, such as 0.01"),
        ([SMA, "--sybol", "x"], 2, "there is no option '--sybol'; did you mean '--symbol'?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str
) -> None:
    found = told(capsys, *arguments)
    assert found[:2] == (code, "")
    assert said in found[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--from", "2025-01-01"], "the bars are from 2024-01-01 00:00:00 UTC to 2024-01-17 16:00:00 UTC: choose a range"),
        (["--to", "2023-01-01"], "choose a range within that"),
        (["--from", "2024-01-05", "--to", "2024-01-02"], "must be before --to"),
        (["--timeframe", "7m"], "holds bars of 1h: bars of 7m cannot be made of them"),
        (["--timeframe", "4w"], "no bar of 4w opens and closes within that range"),
        (["--set", "quick=1"], "the strategy has no parameter 'quick': its parameters are fast, slow"),
        (["--set", "fast=0"], "fast must be"),
        (["--set", "fast=30", "--set", "slow=20"], "fast (30) must be below slow (20)"),
    ],
)  # fmt: skip
def test_what_does_not_suit_a_file_is_said(
    bars: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    code, out, err = told(capsys, SMA, "--data", str(bars), *arguments)
    assert (code, out) == (1, "")
    assert said in err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no disk that is always full")
def test_a_full_disk_under_what_is_printed_is_said_and_files_are_written_all_the_same(
    bars: Path, tmp_path: Path, profile: Paths
) -> None:
    command = [sys.executable, "-m", "koc_qt", "backtest", SMA, "--data", str(bars), "--json", str(tmp_path / "a.json")]
    with Path("/dev/full").open("w") as full:
        home = environment(KOC_HOME=str(profile.data.parent))
        ran = subprocess.run(command, env=home, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60 * PATIENCE)
    assert (ran.returncode, ran.stderr.splitlines()[-1]) == (1, f"koc: nothing more can be written: {os.strerror(28)}")
    assert json.loads((tmp_path / "a.json").read_text())["engines"].keys() == {"replay"}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends Ctrl-C to whole process groups")
def test_ctrl_c_ends_it_and_its_worker(bars: Path, tmp_path: Path, profile: Paths) -> None:
    text = "from koc_qt.sdk import Strategy\nimport time\n\nclass Slow(Strategy):\n    def on_bar(self, bar):\n"
    path = strategy(tmp_path, text + "        time.sleep(0.05)\n")
    command = [sys.executable, "-m", "koc_qt", "backtest", path, "--data", str(bars)]
    started = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "start_new_session": True}
    home = environment(KOC_HOME=str(profile.data.parent))
    with subprocess.Popen(command, env=home, **started) as running:  # type: ignore[call-overload]
        assert running.stderr is not None
        line = running.stderr.readline()
        while ", run, " not in line:
            assert line, "it ended by itself"
            line = running.stderr.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=30 * PATIENCE)
    assert (running.returncode, out) == (130, "")
    assert err.splitlines()[-1] == "koc: stopped."
    assert [(run.state, run.reason) for run in kept(profile)] == [(JobState.STOPPED, "stopped by its owner")]
    assert "Traceback" not in err
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)


# ---- the history of runs


def test_runs_are_kept_for_the_window_unless_nobody_wants_that(
    bars: Path, tmp_path: Path, profile: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    command = (SMA, "--data", str(bars), *SETTINGS)
    code, out, err = told(capsys, *command, "--no-keep")
    assert (code, kept(profile)) == (0, [])
    assert "history of runs" not in out + err
    code, _, err = told(capsys, *command, "--tick", "0.01", "--lot", "0.001", "--skip-bad")
    assert code == 0
    assert err.splitlines()[-1] == "Kept in the history of runs: bt-1"
    assert told(capsys, strategy(tmp_path, "from koc_qt.sdk import Strategy\n1/0"), "--data", str(bars))[0] == 1
    done, failed = kept(profile)
    assert (done.backtest_id, done.state, done.made_by, done.name) == ("bt-1", JobState.DONE, BY_COMMAND, "SMA cross")
    assert (done.spec.files, done.spec.timeframe) == ((str(bars),), "1h")
    assert (done.spec.tick, done.spec.lot, done.spec.skip_bad) == (Decimal("0.01"), Decimal("0.001"), True)
    assert done.statistics["trades"]
    assert (failed.state, failed.backtest_id) == (JobState.FAILED, "bt-2")
    assert "division by zero" in failed.reason
    archive = BacktestArchive(profile.backtests)
    result = read_result(archive.result("bt-1") or StoredResult(b"", (), ()))
    assert (result.statistics, result.spec.files) == (done.statistics, done.spec.files)
    assert result.fills
    assert archive.result("bt-2") is None


def test_a_history_that_cannot_be_written_costs_no_result(
    bars: Path, profile: Paths, capsys: pytest.CaptureFixture[str]
) -> None:
    profile.backtests.write_text("a file where the folder should be")
    code, out, err = told(capsys, SMA, "--data", str(bars), *SETTINGS)
    assert code == 0
    assert "Net profit" in out
    assert "Not kept in the history of runs: back-tests cannot be read or written" in err


# ---- progress


SNAPSHOT = BacktestSnapshot(
    "bt-1",
    BacktestSpec("/a.py", (InstrumentId("sim", "A"),), "1m", 0, 1),
    JobState.RUNNING, "", "run", 0.5, 1_200, 1_704_067_200_000_000_000, 10_050.25, 75.0, 0, 0,
)  # fmt: skip


def test_progress_in_words() -> None:
    assert words(SNAPSHOT) == "run, 1,200 bars, 2024-01-01 00:00:00 UTC, equity 10,050.25, 0:01:15 left"


def test_progress_without_a_terminal_is_lines_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress("mine.py") as show, show("on replay") as tell:
        for number in range(101):
            tell(number / 100, f"history, {number} bars")
        tell(0.01, "run, 1 bars")
        tell(0.5, "run, 50 bars")
        tell(0.5, "no word from the strategy for 5 s")
        tell(0.5, "no word from the strategy for 5 s")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 12
    assert lines[0] == "mine.py on replay: 10 %, history, 10 bars"
    assert lines[-2:] == [
        "mine.py on replay: 50 %, run, 50 bars",
        "mine.py on replay: 50 %, no word from the strategy for 5 s",
    ]


def test_progress_on_a_terminal_is_a_bar_that_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "160")
    with shown_progress("mine.py") as show, show("on replay") as tell:
        tell(0.5, words(SNAPSHOT))
    said = capsys.readouterr()
    assert said.out == ""
    assert "mine.py on replay" in said.err


# ---- recorded markets


@pytest.mark.skipif(not RECORDED.is_dir(), reason="the recorded markets are not here")
@pytest.mark.parametrize(
    ("name", "symbol", "count"),
    [
        ("us_GOOG_1d_2004-2013", "GOOG", 2148),
        ("us_SPY_1m_2013-10", "SPY", 4128),
        ("fx_EUR-USD_1h_2017-2018", "EUR-USD", 5000),
        ("coinbase_BTC-USD_1m_2018-04", "BTC-USD", 3887),
    ],
)
def test_recorded_markets_trade(capsys: pytest.CaptureFixture[str], name: str, symbol: str, count: int) -> None:
    found = as_json(capsys, SMA, "--data", str(RECORDED / f"{name}.parquet"), "--symbol", symbol, *SETTINGS)
    run = found["engines"]["replay"]
    assert run["bars"] == count
    closed = [trade for trade in run["trades"] if trade["exit_ns"] is not None]
    assert len(closed) > 15
    assert (found["notes"], run["log"]) == ([], [])
    frame = pd.read_parquet(RECORDED / f"{name}.parquet")
    opens = dict(zip(frame.index.as_unit("ns").astype("int64").tolist(), frame["open"].tolist(), strict=True))
    if symbol == "GOOG":  # where a bar's volume is enough for all of an order, it is at the open to the last digit
        assert all(trade["entry_price"] == opens[trade["entry_ns"]] for trade in closed)
        assert all(trade["exit_price"] == opens[trade["exit_ns"]] for trade in closed)
