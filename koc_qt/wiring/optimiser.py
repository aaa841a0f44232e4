"""Puts an optimiser together: where studies are kept, who proposes combinations, which machine code evaluates them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from koc_qt.adapters.sweep_kernel_file import KernelFile
from koc_qt.config import Config
from koc_qt.domain.optimisation import Method, StudySpec
from koc_qt.engine.backtest_feed import RunServices
from koc_qt.engine.backtests import prepare
from koc_qt.engine.optimiser import Optimiser, Prepare
from koc_qt.engine.optimiser_samplers import ListedSampler
from koc_qt.engine.services import Services
from koc_qt.link.optimiser_messages import ENGINE_ROLE, StudyFact
from koc_qt.paths import Paths
from koc_qt.ports.studies import Crew, Sampler, StudyStore


def make_optimiser(
    services: RunServices, prepare: Prepare, paths: Paths, where: str, publish: Callable[[StudyFact], None], role: str
) -> Optimiser:
    """Make an optimiser whose studies are in the database at the URL `where`, or in the profile's own file.

    `role` is what this process is called where others see that it runs a study.
    """

    def open_store() -> StudyStore:
        from koc_qt.adapters.study_store import open_study_store  # with SQLAlchemy, a quarter of a second

        place: str | Path = where or paths.studies
        return open_study_store(place, role)

    return Optimiser(
        services,
        prepare,
        open_store,
        make_sampler,
        KernelFile(paths.kernels).code,
        publish,
        processes=cores(),
        make_crew=make_crew,
    )


def engine_optimiser(services: Services, paths: Paths, config: Config) -> Optimiser:
    """Make the engine's, whose studies are told on its bus; it watches for those of others once the start is over."""
    where = config.engine.studies
    making = partial(prepare, services=services)
    optimiser = make_optimiser(services, making, paths, where, services.bus.publish, ENGINE_ROLE)
    services.spawn(optimiser.keep_watch(lambda: bool(where) or paths.studies.exists()))
    return optimiser


def make_sampler(spec: StudySpec) -> Sampler:
    """Make what proposes the combinations of a study."""
    if spec.method is Method.BAYESIAN:
        from koc_qt.adapters.optuna_sampler import OptunaSampler

        return OptunaSampler(spec)
    return ListedSampler(spec)


def make_crew(address: str) -> Crew:
    """Make a crew of the Dask cluster whose scheduler is at an address."""
    from koc_qt.adapters.dask_crew import DaskCrew  # with distributed, a second

    return DaskCrew(address)


def cores() -> int:
    """Count the processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
