"""A Python that has what the image's requirements bring, and nothing else: what a container on Modal can import.

It is a virtual environment whose packages are links to those of this one: the requirements and all that they in turn
require. A package that the code imports and ``requirements.txt`` forgets is missing there, as it would be on Modal.
"""

from __future__ import annotations

import importlib.metadata
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def image_python(folder: Path, requirements: Path) -> Path:
    """The interpreter of a new environment in ``folder``."""
    venv.create(folder, with_pip=False, symlinks=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    for distribution in required(requirements):
        for top in tops_of(distribution):
            link = packages / top.name
            if not link.exists():
                link.symlink_to(top)
    return folder / "bin" / "python"


def required(requirements: Path) -> Iterator[importlib.metadata.Distribution]:
    """What ``requirements`` names, of the versions it names, and what that requires, as installed here."""
    lines = (line.partition("#")[0].strip() for line in requirements.read_text(encoding="utf-8").splitlines())
    waiting = [Requirement(line) for line in lines if line]
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        distribution = importlib.metadata.distribution(name)
        assert wanted.specifier.contains(distribution.version.partition("+")[0], prereleases=True), wanted
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            if not extra:
                yield distribution
            needs = [Requirement(text) for text in distribution.requires or ()]
            waiting += [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]


def tops_of(distribution: importlib.metadata.Distribution) -> set[Path]:
    """The files and folders of ``site-packages`` that are the distribution's."""
    packages = Path(sysconfig.get_path("purelib"))
    parts = {file.parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    return {packages / part for part in parts if (packages / part).exists()}
