"""Puts an optimiser together: where studies are kept, who proposes combinations, which machine code evaluates them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from koc_qt.adapters.sweep_kernel_file import KernelFile
from koc_qt.domain.optimisation import Method, StudySnapshot, StudySpec
from koc_qt.engine.backtest_feed import RunServices
from koc_qt.engine.optimiser import Optimiser, Rules
from koc_qt.engine.optimiser_samplers import ListedSampler
from koc_qt.paths import Paths
from koc_qt.ports.studies import Sampler, StudyStore


def make_optimiser(
    services: RunServices, rules: Rules, paths: Paths, where: str, publish: Callable[[StudySnapshot], None]
) -> Optimiser:
    """Make an optimiser whose studies are in the database at the URL `where`, or in the profile's own file."""

    def open_store() -> StudyStore:
        from koc_qt.adapters.study_store import open_study_store  # with SQLAlchemy, a quarter of a second

        place: str | Path = where or paths.studies
        return open_study_store(place)

    return Optimiser(
        services, rules, open_store, make_sampler, KernelFile(paths.kernels).code, publish, processes=cores()
    )


def make_sampler(spec: StudySpec) -> Sampler:
    """Make what proposes the combinations of a study."""
    if spec.method is Method.BAYESIAN:
        from koc_qt.adapters.optuna_sampler import OptunaSampler

        return OptunaSampler(spec)
    return ListedSampler(spec)


def cores() -> int:
    """Count the processor's cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
