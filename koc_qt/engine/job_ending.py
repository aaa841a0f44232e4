"""How jobs of the engine end: back-tests and checks, whatever they come upon."""

from __future__ import annotations

from typing import Protocol

from loguru import logger

from koc_qt.domain.errors import KocError
from koc_qt.domain.state import JobState


class Job(Protocol):
    """Something that is played to its end once."""

    @property
    def reason(self) -> str:
        """Why it ended as it did."""
        ...

    async def play(self) -> None:
        """Do all of it. Raises KocError where that cannot be."""
        ...

    def end(self, state: JobState, reason: str) -> None:
        """Show that it is over."""
        ...


async def play_to_end(job: Job, what: str) -> bool:
    """Play a job, end it, and tell the log; `what` names it. Gives whether it is done. Cancelling goes through."""
    try:
        await job.play()
    except KocError as error:
        job.end(JobState.FAILED, str(error))
        logger.info("{} failed: {}", what, job.reason)
        return False
    except Exception as error:
        logger.exception("{} failed in a way nobody foresaw", what)
        job.end(JobState.FAILED, f"internal error of the engine ({type(error).__name__}), its log says more")
        return False
    job.end(JobState.DONE, "")
    return True
