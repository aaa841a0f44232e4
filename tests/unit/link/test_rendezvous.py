"""Finding an engine, and being the only one; with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from koc_qt.domain.errors import LinkError, ProfileLocked, StorageError
from koc_qt.link.client import connect
from koc_qt.link.messages import EngageKillSwitch, Shutdown, SubmitOrder
from koc_qt.link.rendezvous import (
    EngineInfo,
    NoEngineError,
    ProfileLock,
    process_runs,
    remove_engine_info,
    running_engine,
    write_engine_info,
)
from tests.conditions import PATIENCE, wait_until
from tests.fakes.link import engine_process, market_buy

INFO = EngineInfo(os.getpid(), "1", 1, "tcp://127.0.0.1:1", "tcp://127.0.0.1:2", "k" * 40, time.time_ns())


def test_written_found_and_removed(tmp_path: Path) -> None:
    with pytest.raises(NoEngineError, match="start one with `koc engine`"):
        running_engine(tmp_path)
    write_engine_info(tmp_path, INFO)
    assert running_engine(tmp_path) == INFO
    if os.name == "posix":
        assert (tmp_path / "engine.json").stat().st_mode & 0o777 == 0o600
    remove_engine_info(tmp_path)
    remove_engine_info(tmp_path)
    with pytest.raises(NoEngineError):
        running_engine(tmp_path)


def test_what_a_dead_engine_left_counts_for_nothing(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    wait_until(lambda: not process_runs(dead.pid), what="the process to end, before it is waited for")
    write_engine_info(tmp_path, msgspec.structs.replace(INFO, pid=dead.pid))
    with pytest.raises(NoEngineError, match=f"pid {dead.pid}"):
        running_engine(tmp_path)
    dead.wait()
    with pytest.raises(NoEngineError, match=f"pid {dead.pid}"):
        running_engine(tmp_path)
    # The pid lives, but its process is younger than the engine was.
    write_engine_info(tmp_path, msgspec.structs.replace(INFO, started_ns=INFO.started_ns - 10**15))
    with pytest.raises(NoEngineError, match="ended without saying so"):
        running_engine(tmp_path)


@pytest.mark.parametrize("text", [b"", b"{}", b"\xff", b'{"pid": "x"}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: bytes) -> None:
    write_engine_info(tmp_path, INFO)
    (tmp_path / "engine.json").write_bytes(text)
    with pytest.raises(LinkError, match=r"engine\.json is damaged"):
        running_engine(tmp_path)


def test_one_engine_a_profile(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    lock = tmp_path / "run" / "engine.lock"
    with engine_process(tmp_path) as process:
        with pytest.raises(ProfileLocked, match=rf"another engine \(pid {process.pid}\) already runs .*koc stop"):
            ProfileLock(lock).acquire()
        process.kill()
        process.wait()
    mine = ProfileLock(lock)
    with mine, pytest.raises(ProfileLocked, match=f"pid {os.getpid()}"):
        ProfileLock(lock).acquire()
    mine.release()
    with ProfileLock(lock):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot be locked"):
        ProfileLock(tmp_path / "file" / "engine.lock").acquire()


@pytest.mark.parametrize("options", [(), ("--qasync",)], ids=["asyncio", "qasync"])
def test_an_engine_in_its_own_process(tmp_path: Path, options: tuple[str, ...]) -> None:
    with engine_process(tmp_path, *options) as process:
        with connect(tmp_path / "run", tmp_path / "keys", name="koc test") as client:
            assert client.snapshot.engine.pid == process.pid
            ids = [client.request(SubmitOrder("paper", market_buy())) for _ in range(200)]
            assert len(set(ids)) == 200
            client.request(EngageKillSwitch("enough"))
            client.request(Shutdown())
        assert process.wait(10 * PATIENCE) == 0
    assert not (tmp_path / "run" / "engine.json").exists()
    with pytest.raises(NoEngineError):
        connect(tmp_path / "run", tmp_path / "keys")


def test_a_killed_engine_is_noticed_at_once(tmp_path: Path) -> None:
    with engine_process(tmp_path) as process, connect(tmp_path / "run", tmp_path / "keys") as client:
        process.send_signal(signal.SIGKILL)
        process.wait()
        began = time.monotonic()
        with pytest.raises(LinkError, match=r"lost before the answer|no connection to it|or is gone"):
            client.request(Shutdown(), timeout_s=10 * PATIENCE)
        assert time.monotonic() - began < 2 * PATIENCE


@pytest.mark.skipif(os.name != "posix", reason="no SIGSTOP on this platform")
def test_a_frozen_engine_is_noticed_within_seconds(tmp_path: Path) -> None:
    with engine_process(tmp_path) as process, connect(tmp_path / "run", tmp_path / "keys") as client:
        process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        with pytest.raises(LinkError, match="lost before the answer; it may have been carried out"):
            client.request(Shutdown(), timeout_s=30 * PATIENCE)
        assert time.monotonic() - began < 5 * PATIENCE
        with pytest.raises(LinkError, match="did not answer within"):
            connect(tmp_path / "run", tmp_path / "keys", timeout_s=0.3)
