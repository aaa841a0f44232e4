"""The bill of materials of a bundle (CycloneDX 1.6): written by cyclonedx-py, then cut to what is in the bundle."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_VALIDATE = (
    "import sys; from pathlib import Path; from cyclonedx.schema import SchemaVersion; "
    "from cyclonedx.validation.json import JsonStrictValidator as V; "
    "found = V(SchemaVersion.V1_6).validate_str(Path(sys.argv[1]).read_text(encoding='utf-8')); "
    "sys.exit(str(found) if found else 0)"
)


def environment_command(python: Path, output: Path) -> list[str]:
    """Give the command that writes what is installed in an environment; its tool is installed there too.

    The tool itself does not look into PYTHONPATH, where packages of another system may be; the Python it asks does.
    """
    options = ["--output-reproducible", "--sv", "1.6", "--of", "JSON", "-o", str(output)]
    return [str(python), "-I", "-m", "cyclonedx_py", "environment", *options, str(python)]


def validate_command(python: Path, sbom: Path) -> list[str]:
    """Give the command that holds a bill against CycloneDX's schema."""
    return [str(python), "-I", "-c", _VALIDATE, str(sbom)]


def cut(
    everything: dict[str, Any], kept: Iterable[str], version: str, files: Iterable[Path], root: Path
) -> dict[str, Any]:
    """Give the bill of the packages in the bundle, by their keys, and of `files`, libraries of the build machine."""
    names = set(kept)
    by_name = {_key(each["name"]): each for each in reversed(everything.get("components", []))}
    components = [each for name, each in by_name.items() if name in names]
    for each in components:
        # where a package was downloaded from is a fact of the build machine
        each["externalReferences"] = [
            reference for reference in each.get("externalReferences", []) if reference.get("type") != "distribution"
        ]
        if not each["externalReferences"]:
            del each["externalReferences"]
    components += [_file(path, root) for path in files]
    components.sort(key=lambda each: (each["type"], each["bom-ref"]))
    there = {each["bom-ref"] for each in components}
    main = {"type": "application", "bom-ref": "koc", "name": "koc", "version": version}
    main["licenses"] = [{"license": {"id": "GPL-3.0-or-later"}}]  # type: ignore[assignment]
    dependencies = [
        {**each, **({"dependsOn": [ref for ref in each["dependsOn"] if ref in there]} if "dependsOn" in each else {})}
        for each in everything.get("dependencies", [])
        if each["ref"] in there
    ]
    dependencies.insert(0, {"ref": "koc", "dependsOn": sorted(there)})
    metadata = {**everything.get("metadata", {}), "component": main}
    return {**everything, "metadata": metadata, "components": components, "dependencies": dependencies}


def write(sbom: dict[str, Any], path: Path) -> None:
    """Write it, the same every time."""
    path.write_text(json.dumps(sbom, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n")


def _file(path: Path, root: Path) -> dict[str, Any]:
    name = path.relative_to(root).as_posix()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": [{"alg": "SHA-256", "content": digest}]}


def _key(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
