"""What a worker on Windows is said to be held by: only what was seen to hold, and never a better badge."""

from __future__ import annotations

import ctypes
import os
import sys

import pytest

from koc_qt.adapters.sandbox import windows, windows_job
from koc_qt.adapters.sandbox.policy import LockdownReport, SandboxSettings
from koc_qt.domain.state import Badge

SETTINGS = SandboxSettings(address_space_bytes=512 << 20)


class GivenJob:
    """Counts the jobs that are made."""

    made: list[tuple[int, windows_job.Limits]]

    def __init__(self, pid: int, wanted: windows_job.Limits) -> None:
        self.made.append((pid, wanted))


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> type[GivenJob]:
    """Give a system whose jobs hold all that they say."""
    monkeypatch.setattr(GivenJob, "made", [], raising=False)
    monkeypatch.setattr(windows_job, "Job", GivenJob)
    monkeypatch.setattr(windows_job, "is_held", lambda: True)
    monkeypatch.setattr(windows_job, "can_have", lambda size: size < SETTINGS.address_space_bytes)
    monkeypatch.setattr(windows, "_starts_a_program", lambda: False)
    monkeypatch.setattr(windows, "_kept", [])
    return GivenJob


def test_a_worker_is_bounded_and_the_badge_says_that_this_is_no_sandbox(system: type[GivenJob]) -> None:
    report = windows.lock_down(3, SETTINGS, 1)
    badge, reason, proofs = windows.self_test(report)
    assert badge is Badge.UNPROTECTED
    assert "no sandbox" in reason
    assert "read your files and use the network" in reason
    assert reason.endswith(
        "What holds: it ends with its host, it has 512 MiB of memory at most, it starts no other programs"
    )
    assert set(proofs) == {"parent death", "memory", "programs"}
    ((pid, wanted),) = system.made
    assert pid == os.getpid()
    assert wanted.process_memory == 512 << 20
    assert wanted.basic.active_processes == 1
    assert wanted.basic.flags == 0x100 | 0x8 | 0x400


def test_what_is_not_seen_to_hold_is_not_said(system: type[GivenJob], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_job, "is_held", lambda: False)
    monkeypatch.setattr(windows_job, "can_have", lambda size: True)
    monkeypatch.setattr(windows, "_starts_a_program", lambda: True)
    badge, reason, proofs = windows.self_test(windows.lock_down(3, SETTINGS, 1))
    assert badge is Badge.UNPROTECTED
    assert "What holds" not in reason
    assert proofs == {"memory": "more could be had than was allowed", "programs": "it could start one"}


def test_a_worker_runs_where_no_job_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(5, "Access is denied")

    monkeypatch.setattr(windows_job, "Job", refused)
    report = windows.lock_down(3, SETTINGS, 1)
    assert report == LockdownReport({}, {"sandbox": report.missing["sandbox"], "job": "Access is denied"})
    assert windows.self_test(report)[0] is Badge.UNPROTECTED
    assert windows_job.hold(1) is None


def test_a_program_that_is_not_there_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMROOT", "/nonexistent")
    assert windows._starts_a_program()


@pytest.mark.skipif(sys.maxsize < 1 << 32, reason="the sizes are those of 64 bits")
def test_limits_are_laid_out_as_windows_reads_them() -> None:
    assert ctypes.sizeof(windows_job.Limits) == 144
    assert windows_job.Limits.process_memory.offset == 112
    assert windows_job.limits(kill_on_close=True).basic.flags == 0x2400


@pytest.mark.skipif(sys.platform == "win32", reason="what others do")
def test_nothing_but_windows_has_jobs() -> None:
    with pytest.raises(OSError, match="only Windows"):
        windows_job.Job(os.getpid(), windows_job.limits())
    assert not windows_job.is_held()
    assert windows_job.can_have(1 << 60)
