"""``koc optimize`` before anything is started: ranges, objectives, and what is wrong with them."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from koc_qt.cli.backtest_asked import read_asked
from koc_qt.cli.main import build_parser, main
from koc_qt.cli.optimize_job import progress_words, read_range
from koc_qt.cli.optimize_report import OptimizeReport
from koc_qt.cli.optimize_resume import resume
from koc_qt.domain.backtests import BacktestSpec
from koc_qt.domain.errors import ConfigError, StorageError
from koc_qt.domain.optimisation import (
    Method,
    Objective,
    ParameterRange,
    StudySnapshot,
    StudySpec,
    Trial,
    TrialState,
)
from koc_qt.domain.state import JobState
from tests.fakes.trading import BTC

SPEC = StudySpec(
    BacktestSpec("/x/sma.py", (BTC,), "1m", 0, 10),
    (ParameterRange("fast", 1, 9, 1),),
    objectives=(Objective("sharpe"), Objective("max_drawdown", False)),
)


def trial(number: int, sharpe: float | None, state: TrialState = TrialState.DONE, reason: str = "") -> Trial:
    found: dict[str, float | None] = (
        {} if sharpe is None else {"sharpe": sharpe, "max_drawdown": 0.1, "return": 0.5, "trades": 3.0}
    )
    return Trial(number, {"fast": number}, state, found, reason)


def snapshot(**changes: object) -> StudySnapshot:
    fields: dict[str, object] = {
        "study_id": "study-7",
        "spec": SPEC,
        "state": JobState.RUNNING,
        "reason": "",
        "stage": "trials",
        "total": 9,
        "counts": {"done": 2},
        "best": trial(3, 1.25),
        "front": [3, 4],
        "processes": 2,
        "remaining_s": 61.0,
        "started_ns": 0,
        "time_ns": 1,
    }
    return StudySnapshot(**fields | changes)  # type: ignore[arg-type]


def test_a_range_is_read() -> None:
    assert read_range("fast=5:50:5") == ParameterRange("fast", 5, 50, 5)
    assert read_range(" fast = 0.5:2 ") == ParameterRange("fast", 0.5, 2.0)
    assert read_range("mode=a, b") == ParameterRange("mode", choices=("a", "b"))
    for text, why in (
        ("fast", "write NAME=LOW:HIGH:STEP"),
        ("=1:2", "write NAME=LOW:HIGH:STEP"),
        ("fast=", "write NAME=LOW:HIGH:STEP"),
        ("fast=a:b", "write numbers"),
        ("fast=1:2:3:4", "write numbers"),
        ("fast=3:2", "nothing lies there"),
    ):
        with pytest.raises(ConfigError, match=why):
            read_range(text)


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--range", "fast"], 1, "write NAME=LOW:HIGH:STEP"),
        (["--objective", "sharp"], 1, "there is no statistic 'sharp'"),
        (["--csv", "/nowhere/x.csv"], 1, "there is no folder /nowhere"),
        (["--csv", "/"], 1, "--csv /: that is a folder; name a file"),
        (["--json", "-"], 1, "--json -: that is no file; name a file"),
        (["--top", "0"], 2, "'0' is no whole number above zero"),
        (["--top", "few"], 2, "'few' is no whole number above zero"),
        (["--range", "fast=1:3:1", "--set", "fast=2"], 1, "fast has a --range and is --set"),
        (["--metod", "grid"], 2, "there is no option '--metod'; did you mean '--method'?"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], code: int, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sma.py"
    file.write_text("class S: ...")
    asked = ["optimize", str(file), "--symbol", "sim:BTC/USDT", "--from", "1d", *words]
    try:
        got = main(asked)
    except SystemExit as ended:
        got = int(str(ended.code))
    assert got == code
    assert why in capsys.readouterr().err


def test_progress_is_said_in_words() -> None:
    assert progress_words(snapshot()) == "2 of 9 trials, best sharpe 1.25, 0:01:01 left"
    assert progress_words(snapshot(stage="history", best=None, remaining_s=None)) == "history"
    assert progress_words(snapshot(stage="", reason="waits", best=None, remaining_s=None)) == "waits"
    assert progress_words(snapshot(stage="", best=None, remaining_s=None)) == "starting"
    assert progress_words(snapshot(stage="", state=JobState.DONE, best=None, remaining_s=None)) == "done"
    assert progress_words(snapshot(total=None, remaining_s=None, reason="disk full")).startswith("disk full, 2 trials")


def test_the_report_shows_the_best_and_writes_all(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = OptimizeReport(2, str(tmp_path / "o.json"), str(tmp_path / "o.csv"))
    pages = [
        [trial(0, 0.5), trial(1, 2.5)],
        [trial(2, None, TrialState.FAILED, "boom [x]"), trial(3, 1.5), trial(4, None, TrialState.PRUNED)],
    ]
    with report.writing():
        for page in pages:
            report.add(snapshot(), page)
    report.show(snapshot())
    said = capsys.readouterr().out
    assert "study-7: the best of 5 trials by max:sharpe" in said
    assert said.index("2.5") < said.index("1.5")
    assert "1 failed, such as: boom [x]" in said
    assert "1 pruned" in said
    assert "beats these in every objective: 3, 4" in said
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert rows[0].startswith("trial,state,fast,")
    assert [row.split(",")[:3] for row in rows[1:]] == [
        ["0", "done", "0"],
        ["1", "done", "1"],
        ["2", "failed", "2"],
        ["3", "done", "3"],
        ["4", "pruned", "4"],
    ]
    assert [each["number"] for each in json.loads((tmp_path / "o.json").read_text())["trials"]] == [0, 1, 2, 3, 4]


def test_a_report_of_nothing_is_json_too(tmp_path: Path) -> None:
    report = OptimizeReport(2, str(tmp_path / "o.json"), None)
    with report.writing():
        pass
    assert json.loads((tmp_path / "o.json").read_text()) == {"trials": []}
    with pytest.raises(StorageError, match="cannot be written"), OptimizeReport(2, str(tmp_path), None).writing():
        pass


def test_files_of_a_search_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    kept, new = tmp_path / "o.json", tmp_path / "o.csv"
    kept.write_text("of an earlier search")
    report = OptimizeReport(2, str(kept), str(new))
    writing = report.writing()
    writing.__enter__()
    report.add(snapshot(), [trial(0, 0.5)])
    assert not writing.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert kept.read_text() == "of an earlier search"
    assert [file.name for file in tmp_path.iterdir()] == ["o.json"]


def test_a_search_that_found_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    report = OptimizeReport(2, None, None)
    with report.writing():
        report.add(snapshot(), [trial(0, None, TrialState.INFEASIBLE, "fast must be below slow"), trial(1, None)])
    report.show(snapshot(front=[]))
    assert not report.has_best
    assert capsys.readouterr().out.splitlines() == [
        "study-7: none of 2 trials has a sharpe.",
        "1 infeasible, such as: fast must be below slow",
    ]


# ---- going on


class Resumed(Exception):
    """It would have gone on."""


class Known:
    """Stands for the optimiser: it knows one study, and says so when it is to go on."""

    def __init__(self, spec: StudySpec) -> None:
        self._study = snapshot(spec=spec)

    async def load(self) -> None: ...

    def study(self, study_id: str) -> StudySnapshot:
        return self._study

    async def resume(self, study_id: str) -> None:
        raise Resumed


@pytest.mark.parametrize(
    ("words", "differs"),
    [
        ([], ""),
        (["--range", "fast=1:9", "--range", "kind=a,1"], ""),
        (["--range", "fast=1:9:2"], "--range"),
        (["--range", "fast=1:9:1", "--range", "kind=a"], "--range"),
        (["--where", "fast < 5", "--objective", "sharpe", "--trials", "7", "--search-seed", "3"], ""),
        (["--where", "fast < 6"], "--where"),
        (["--objective", "fees", "--trials", "8", "--prune"], "--objective, --trials, --prune"),
        (["--method", "random", "--floor", "0.5"], "--floor"),
        (["--method", "bayesian"], "--method"),
        (["--search-seed", "4"], "--search-seed"),
        (["--fee", "0.002", "--cash", "5000", "--set", "size=2", "--timeframe", "1m"], ""),
        (["--fee", "0.1", "--cash", "1", "--set", "size=3", "--timeframe", "1h"], "--cash, --fee, --timeframe, --set"),
        (["--no-short", "--volume-share", "none"], "--volume-share, --no-short"),
        (["--latency-ms", "5", "--seed", "1", "--slippage-ticks", "2"], "--slippage-ticks, --latency-ms, --seed"),
        (["--processes", "3", "--dask", "tcp://x:1", "--top", "2", "--from", "3d"], ""),  # where it runs is free
    ],
)
async def test_a_study_goes_on_as_it_began(words: list[str], differs: str, tmp_path: Path) -> None:
    file = tmp_path / "sma.py"
    file.write_text("class S: ...")
    base = BacktestSpec(
        str(file), (BTC,), "1m", 0, 10, cash=Decimal(5_000), fee=Decimal("0.002"), parameters={"size": 2}
    )
    ranges = (ParameterRange("fast", 1, 9, 1, whole=True), ParameterRange("kind", choices=("a", 1)))
    spec = StudySpec(base, ranges, ("fast < 5",), method=Method.RANDOM, trials=7, seed=3)
    asked = ["optimize", str(file), "--symbol", "sim:BTC/USDT", "--from", "1d", "--resume", "study-7", *words]
    args = build_parser()[0].parse_args(asked)
    going_on = resume(
        Known(spec),  # type: ignore[arg-type]
        args,
        read_asked(args),
        tuple(map(read_range, args.ranges)),
        tuple(map(Objective.parse, args.objective)),
    )
    if not differs:
        with pytest.raises(Resumed):
            await going_on
        return
    with pytest.raises(ConfigError) as told:
        await going_on
    assert f"study-7 goes on as it began, and that was with another {differs}: leave that out" in str(told.value)
