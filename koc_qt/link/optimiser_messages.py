"""Commands about studies, which search a strategy's parameters, what they are answered with, and facts about them.

Every study that was begun is kept with all its trials until it is deleted, those of earlier engines and of the command
line too. StudySnapshot.owner says which process runs one: those of another are watched here, and stopped there.
"""

from __future__ import annotations

import msgspec

from koc_qt.domain.optimisation import StudySnapshot, StudySpec, Trial

ENGINE_ROLE = "the engine"
"""What an engine is called in StudySnapshot.owner."""


class StartStudy(msgspec.Struct, frozen=True, tag=True):
    """Search a strategy's parameters in sandboxed processes. Answered with the id of the study."""

    spec: StudySpec


class StopStudy(msgspec.Struct, frozen=True, tag=True):
    """Stop a study; its trials are kept, and it can be resumed. Refused for one that another process runs."""

    study_id: str


class ResumeStudy(msgspec.Struct, frozen=True, tag=True):
    """Go on with a study that was stopped, that failed, or whose process ended.

    Refused where another process runs it, which StudySnapshot.owner names, and where its StudyOrigin is another today:
    the answer says what differs. One whose process fell silent on another machine is watched for a while first.
    """

    study_id: str


class DeleteStudy(msgspec.Struct, frozen=True, tag=True):
    """Forget a study that is over, and its trials, for good."""

    study_id: str


class FetchTrials(msgspec.Struct, frozen=True, tag=True):
    """Answered with a TrialsPage of the trials whose numbers are above `after`, the lowest first.

    Of their statistics only those named are there, all where none is named.
    """

    study_id: str
    after: int = -1
    limit: int = 500
    statistics: tuple[str, ...] = ()


class TrialsPage(msgspec.Struct, frozen=True):
    """Some trials of a study; `is_last` says that none had a higher number when it was asked for."""

    trials: list[Trial]
    is_last: bool


class StudyChanged(msgspec.Struct, frozen=True, tag=True):
    """How far a study is, and what leads it."""

    study: StudySnapshot


class StudyDeleted(msgspec.Struct, frozen=True, tag=True):
    """A study is there no more."""

    study_id: str


StudyCommand = StartStudy | StopStudy | ResumeStudy | DeleteStudy | FetchTrials
StudyFact = StudyChanged | StudyDeleted
