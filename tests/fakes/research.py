"""Checks of strategies and searches of parameters, as a fake engine has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from koc_qt.domain.errors import KocError
from koc_qt.domain.optimisation import StudySnapshot, Trial
from koc_qt.domain.state import JobState
from koc_qt.domain.trust import DriftReport, TrustSnapshot, Verdict
from koc_qt.domain.trust_report import TrustReport, overall
from koc_qt.link.messages import Fact
from koc_qt.link.optimiser_messages import (
    DeleteStudy,
    FetchTrials,
    ResumeStudy,
    StartStudy,
    StopStudy,
    StudyChanged,
    StudyCommand,
    StudyDeleted,
    TrialsPage,
)
from koc_qt.link.trust_messages import (
    CheckDrift,
    DriftMeasured,
    FetchTrust,
    StartTrust,
    StopTrust,
    TrustChanged,
    TrustCommand,
)

BEGAN_NS = 1_700_000_000_000_000_000


@dataclass
class FakeResearch:
    """Begins what is asked for; what comes of it a test says with `check`, `search`, `add_trials` and `measure`.

    `running` gives the strategies that run; `at_once` are reports that answer whoever asks for the drift.
    """

    publish: Callable[[Fact], None]
    running: Callable[[], list[str]] = list
    trust: dict[str, TrustSnapshot] = field(default_factory=dict)
    reports: dict[str, TrustReport] = field(default_factory=dict)
    studies: dict[str, StudySnapshot] = field(default_factory=dict)
    trials: dict[str, list[Trial]] = field(default_factory=dict)
    drift: dict[str, DriftReport] = field(default_factory=dict)
    at_once: dict[str, DriftReport] = field(default_factory=dict)

    def execute(self, command: TrustCommand | StudyCommand) -> Any:
        """Do what a client asks."""
        match command:
            case StartTrust(spec):
                key = f"trust-{len(self.trust) + 1}"
                self.trust[key] = TrustSnapshot(
                    key, spec, JobState.RUNNING, "", "lookahead", 0.0, 0, Verdict.NONE, {}, BEGAN_NS, BEGAN_NS
                )
                self.check(key)
                return key
            case StopTrust(key):
                self.check(key, state=JobState.STOPPED, reason="stopped by its owner")
            case FetchTrust(key):
                if key not in self.reports:
                    raise KocError(f"there are no checks {key!r}")
                return msgspec.to_builtins(self.reports[key], str_keys=True)
            case CheckDrift(key):
                wanted_ids = [key] if key else self.running()
                for each in wanted_ids:
                    if each in self.at_once:
                        self.measure(self.at_once[each])
                return wanted_ids
            case StartStudy(study_spec):
                key = f"study-{len(self.studies) + 1}"
                self.studies[key] = StudySnapshot(
                    key, study_spec, JobState.RUNNING, "", "history", None, {}, None, [], 2, None, BEGAN_NS, BEGAN_NS
                )
                self.trials[key] = []
                self.search(key)
                return key
            case StopStudy(key):
                self.search(key, state=JobState.STOPPED)
            case ResumeStudy(key):
                self.search(key, state=JobState.RUNNING)
            case DeleteStudy(key):
                del self.studies[key]
                self.publish(StudyDeleted(key))
            case FetchTrials(key, after, limit):
                wanted = [trial for trial in self.trials[key] if trial.number > after]
                return msgspec.to_builtins(TrialsPage(wanted[:limit], len(wanted) <= limit))
            case _:
                raise RuntimeError(f"the fake engine has no {type(command).__name__}")
        return None

    def check(self, trust_id: str, report: TrustReport | None = None, **changes: Any) -> None:
        """Change how far checks are; a report ends them."""
        if report is not None:
            self.reports[trust_id] = report
            changes = {
                "state": JobState.DONE,
                "stage": "",
                "progress": 1.0,
                "verdict": overall(report),
                "verdicts": report.verdicts,
            } | changes
        self.trust[trust_id] = msgspec.structs.replace(self.trust[trust_id], **changes)
        self.publish(TrustChanged(self.trust[trust_id]))

    def measure(self, report: DriftReport) -> None:
        """Have a drift measured."""
        self.drift[report.strategy_id] = report
        self.publish(DriftMeasured(report))

    def search(self, study_id: str, **changes: Any) -> None:
        """Change how far a study is."""
        self.studies[study_id] = msgspec.structs.replace(self.studies[study_id], **changes)
        self.publish(StudyChanged(self.studies[study_id]))

    def add_trials(self, study_id: str, trials: list[Trial], **changes: Any) -> None:
        """Have trials come in."""
        self.trials[study_id] += trials
        counts = dict(self.studies[study_id].counts)
        for trial in trials:
            counts[str(trial.state)] = counts.get(str(trial.state), 0) + 1
        self.search(study_id, counts=counts, stage="trials", **changes)
