"""The frozen program that Linux targets pack: made by `bundle`, or a folder that the person names with --bundle."""

from __future__ import annotations

from importlib import import_module

from building.stages import Build, Stage
from building.tools import Need


def bundle_needs(build: Build) -> list[Need]:
    """Give what this machine lacks to have one."""
    if build.given_bundle is None:
        needs: list[Need] = import_module("building.bundle").needs(build)
        return needs
    if (build.bundle / "koc").is_file():
        return []
    return [
        Need("bundle", f"a frozen program in {build.bundle}", "Name the folder that holds koc, or leave --bundle out.")
    ]


def bundle_stages(build: Build) -> list[Stage]:
    """Give the stages that make it."""
    if build.given_bundle is not None:
        return []
    stages: list[Stage] = import_module("building.bundle").stages(build)
    return stages
