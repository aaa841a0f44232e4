"""The keeper of the engine: when it starts one, when it asks, and what it says meanwhile."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from koc_qt.domain.errors import KocError, LinkError
from koc_qt.link.client import LinkState
from koc_qt.link.connection import EngineAddress
from koc_qt.link.messages import EngineStopped
from koc_qt.link.rendezvous import EngineInfo, process_runs
from koc_qt.paths import Paths
from koc_qt.wiring import keeper as module
from koc_qt.wiring.engine_process import engine_that_runs
from koc_qt.wiring.keeper import STARTS, EngineKeeper
from tests.fakes.desk import FakeBench
from tests.fakes.link import engine_process


@dataclass
class Process:
    """Stands in for a started engine."""

    code: int | None = None
    returncode: int | None = None
    stdin: None = None

    def poll(self) -> int | None:
        return self.code


@dataclass
class World:
    """What the keeper finds: whether an engine runs, and those that it started."""

    runs: bool = False
    fails: str = ""
    words: str = ""
    started: list[Process] = field(default_factory=list)

    def spawn(self, paths: Paths) -> Process:
        if self.fails:
            raise KocError(self.fails)
        self.started.append(Process())
        return self.started[-1]

    def engine(self, paths: Paths) -> EngineInfo | None:
        return EngineInfo(1, "1", 2, "tcp://127.0.0.1:1", "", "k" * 40, 0) if self.runs else None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(module, "spawn_engine", world.spawn)
    monkeypatch.setattr(module, "engine_that_runs", world.engine)
    monkeypatch.setattr(module, "last_words", lambda paths: world.words)
    monkeypatch.setattr(module, "QUIET_S", 0.0)
    monkeypatch.setattr(module, "LOOK_S", 0.002)
    return world


@pytest.fixture
def running(world: World) -> World:
    """Name it before `keeper`: an engine runs already."""
    world.runs = True
    return world


@pytest.fixture
def failing(world: World) -> World:
    """Name it before `keeper`: no engine can be started."""
    world.fails = "no such program"
    return world


@pytest.fixture
def keeper(fake: FakeBench, world: World, tmp_path: Path, qtbot: QtBot) -> Iterator[EngineKeeper]:
    """Give a keeper at work, whose desk has no engine yet."""
    folders = [tmp_path / name for name in ("config", "data", "logs", "run", "keys")]
    keeper = EngineKeeper(Paths(*folders), fake.desk, parent=fake.window)
    fake.desk.take_state(LinkState.CONNECTING, "looking")
    task = asyncio.get_running_loop().create_task(keeper.run())
    yield keeper
    task.cancel()
    qtbot.waitUntil(task.done)


def connect(keeper: EngineKeeper, world: World) -> None:
    world.runs = True
    keeper.on_state(LinkState.CONNECTED, "connected")


def lose(keeper: EngineKeeper, world: World, *, runs: bool = False) -> None:
    world.runs = runs
    keeper.on_state(LinkState.LOST, "the connection to the engine was lost")


def text(keeper: EngineKeeper) -> str:
    condition = keeper.condition()
    return condition.text if condition is not None else ""


def test_none_runs_so_one_is_started(keeper: EngineKeeper, world: World, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    connect(keeper, world)
    assert text(keeper) == ""


def test_one_that_runs_is_taken(running: World, keeper: EngineKeeper, qtbot: QtBot) -> None:
    looked = []
    keeper.on_change(lambda: looked.append(1))
    qtbot.waitUntil(lambda: len(looked) > 3)
    assert not running.started


@pytest.mark.expected_warnings
def test_one_that_dies_is_started_again(keeper: EngineKeeper, world: World, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    connect(keeper, world)
    world.started[0].code = -9
    lose(keeper, world)
    qtbot.waitUntil(lambda: len(world.started) == 2)
    assert "being started again" in text(keeper)
    connect(keeper, world)
    assert text(keeper) == ""


@pytest.mark.expected_warnings("has ended 4 times")
def test_one_that_keeps_dying_is_left_to_the_person(keeper: EngineKeeper, world: World, qtbot: QtBot) -> None:
    for count in range(1, STARTS + 1):
        qtbot.waitUntil(lambda count=count: len(world.started) == count)  # type: ignore[misc]
        connect(keeper, world)
        world.started[-1].code = -9
        lose(keeper, world)
    qtbot.waitUntil(lambda: "is not started again by itself" in text(keeper))
    assert len(world.started) == STARTS
    condition = keeper.condition()
    assert condition is not None
    condition.remedies[0][1]()
    qtbot.waitUntil(lambda: len(world.started) == STARTS + 1)


@pytest.mark.expected_warnings("the disk is full")
def test_one_that_cannot_start_says_why(keeper: EngineKeeper, world: World, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    world.words = "the disk is full"
    world.started[0].code = 1
    qtbot.waitUntil(lambda: text(keeper) == "The engine did not start: the disk is full")
    assert len(world.started) == 1


@pytest.mark.expected_warnings("no such program")
def test_a_start_that_fails_at_once_says_why(failing: World, keeper: EngineKeeper, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: text(keeper) == "no such program")
    assert not failing.started


def test_one_that_was_stopped_stays_stopped(keeper: EngineKeeper, world: World, fake: FakeBench, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    connect(keeper, world)
    fake.desk.take(EngineStopped("a client asked for it"))
    world.started[0].code = 0
    lose(keeper, world)
    looked = []
    keeper.on_change(lambda: looked.append(1))
    qtbot.waitUntil(lambda: len(looked) > 3)
    assert len(world.started) == 1
    assert text(keeper).startswith("The engine has stopped: a client asked for it")
    keeper.start_engine()
    qtbot.waitUntil(lambda: len(world.started) == 2)


def test_one_that_hangs_is_not_doubled(keeper: EngineKeeper, world: World, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    world.started[0].code = 0  # another one's process: ours gave way
    connect(keeper, world)
    lose(keeper, world, runs=True)
    qtbot.waitUntil(lambda: "does not answer" in text(keeper))
    assert len(world.started) == 1


def test_one_that_was_started_here_and_hangs_is_not_said_to_have_ended(
    keeper: EngineKeeper, world: World, qtbot: QtBot
) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    assert keeper.may_run()
    connect(keeper, world)
    lose(keeper, world, runs=True)
    qtbot.waitUntil(lambda: "does not answer" in text(keeper))
    assert keeper.may_run()
    world.runs, world.started[0].code = False, -9
    qtbot.waitUntil(lambda: len(world.started) == 2)
    assert "being started again" in text(keeper)


def test_one_of_another_version_can_be_replaced(
    keeper: EngineKeeper, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.runs = True
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda *what: killed.append(what))
    keeper.on_state(LinkState.REFUSED, "it speaks protocol 9")
    condition = keeper.condition()
    assert condition is not None
    assert "protocol 9" in condition.text
    condition.remedies[0][1]()
    assert killed == [(1, 15)]


def test_one_on_another_machine_is_never_started(fake: FakeBench, world: World, tmp_path: Path) -> None:
    paths = Paths(*[tmp_path] * 5)
    keeper = EngineKeeper(paths, fake.desk, EngineAddress("tcp://192.0.2.7:5555", "k" * 40), parent=fake.window)
    assert keeper.locate().endpoint == "tcp://192.0.2.7:5555"
    keeper.on_state(LinkState.LOST, "nothing listens")
    assert "tcp://192.0.2.7:5555: nothing listens" in text(keeper)
    condition = keeper.condition()
    assert condition is not None
    assert condition.remedies == ()
    assert not world.started


def test_a_profile_without_engine_has_no_address(keeper: EngineKeeper) -> None:
    with pytest.raises(LinkError):
        keeper.locate()


def test_an_engine_that_appears_is_announced_once(keeper: EngineKeeper, world: World, qtbot: QtBot) -> None:
    announced: list[None] = []
    keeper.announced.connect(lambda: announced.append(None))
    qtbot.waitUntil(lambda: len(world.started) == 1)
    assert not announced
    world.runs = True
    qtbot.waitUntil(lambda: len(announced) == 1)
    looked: list[None] = []
    keeper.on_change(lambda: looked.append(None))
    qtbot.waitUntil(lambda: len(looked) > 3)
    assert len(announced) == 1


# ---- a damaged rendezvous -------------------------------------------------------------------------------------------


@pytest.fixture
def damaged(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Name it before `keeper`: what says where the engine is can be read by nobody. Gives the file."""
    monkeypatch.setattr(module, "engine_that_runs", engine_that_runs)
    file = tmp_path / "run" / "engine.json"
    file.parent.mkdir(mode=0o700, exist_ok=True)
    file.touch(0o600)
    file.write_bytes(b'{"pid": 1')
    return file


def test_a_damaged_rendezvous_that_no_engine_stands_behind_does_not_matter(
    damaged: Path, keeper: EngineKeeper, world: World, qtbot: QtBot
) -> None:
    qtbot.waitUntil(lambda: len(world.started) == 1)
    assert not damaged.exists()
    assert "damaged" not in text(keeper)


@pytest.fixture
def unreachable(tmp_path: Path, damaged: Path) -> Iterator[subprocess.Popen[str]]:
    """Name it before `keeper`: an engine that runs, with a damaged rendezvous."""
    damaged.unlink()
    with engine_process(tmp_path) as process:
        damaged.write_bytes(b"{")
        yield process


@pytest.mark.expected_warnings("and cannot be reached")
def test_an_engine_with_a_damaged_rendezvous_is_not_doubled_but_stopped_and_started_anew(
    unreachable: subprocess.Popen[str], keeper: EngineKeeper, world: World, damaged: Path, qtbot: QtBot
) -> None:
    qtbot.waitUntil(lambda: f"An engine runs (process {unreachable.pid}), and cannot be reached" in text(keeper))
    assert not world.started
    assert keeper.may_run()
    assert damaged.exists()
    condition = keeper.condition()
    assert condition is not None
    words, remedy = condition.remedies[0]
    assert words == "Stop it and start the engine anew"
    remedy()
    assert "is being stopped" in text(keeper)
    qtbot.waitUntil(lambda: len(world.started) == 1)
    assert not process_runs(unreachable.pid)
    assert not damaged.exists()


@pytest.mark.expected_warnings("and cannot be reached")
def test_one_out_of_reach_that_has_ended_meanwhile_is_not_looked_for(
    unreachable: subprocess.Popen[str],
    keeper: EngineKeeper,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: QtBot,
) -> None:
    qtbot.waitUntil(lambda: "cannot be reached" in text(keeper))
    condition = keeper.condition()
    assert condition is not None
    unreachable.kill()
    unreachable.wait()
    killed: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda *what: killed.append(what))
    condition.remedies[0][1]()
    qtbot.waitUntil(lambda: len(world.started) == 1)
    assert killed == []


@pytest.mark.expected_warnings("and cannot be reached", "cannot be stopped")
def test_one_out_of_reach_that_may_not_be_stopped_is_said(
    unreachable: subprocess.Popen[str],
    keeper: EngineKeeper,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    qtbot: QtBot,
) -> None:
    def refuse(_pid: int, _number: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    qtbot.waitUntil(lambda: "cannot be reached" in text(keeper))
    condition = keeper.condition()
    assert condition is not None
    with monkeypatch.context() as patched:
        patched.setattr("os.kill", refuse)
        condition.remedies[0][1]()
    assert "cannot be stopped: Operation not permitted" in text(keeper)
    assert not world.started
