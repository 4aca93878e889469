"""The model that comes with Earshot, and the cross-validation it is judged by: how a run becomes both.

    python -m core ship RUN

Weights of the members stay behind, 5 MB each, and so do their tables where the run's own are made of them. What is
shipped is enough to go on from: ``restore`` makes a run folder of it again, to which ``crossval`` adds seeds and
left-out classes without training the others anew.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from core.artifact import load_artifact
from core.atlas import MAPS, draw_maps
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.errors import RunError
from core.sources import of_run
from core.training.curves import CONFUSIONS, CURVES, write_curves
from core.training.runs import RunConfig, RunFolder, write_table

FACTS = ("config.json", "status.json", "metrics.json")
MEASURED = ("oof.parquet", "robustness.parquet", "unknown.parquet")
DRAWN = (CURVES, CONFUSIONS, MAPS)


def ship(run: RunFolder, *, to_run: Path = SHIPPED_RUN, to_artifact: Path = SHIPPED_ARTIFACT) -> None:
    """Replace what is shipped by the finished cross-validation ``run``. Raises ``RunError`` or ``ArtifactError``."""
    members = run.members()
    if not run.finished():
        raise RunError(f"Expected a finished cross-validation in {run.path}. Repeat its command until it ends.")
    artifact = load_artifact(run.artifact)  # replays the probe
    write_curves(run.path)
    draw_maps(run.path, of_run(run.path), artifact.reference)
    with tempfile.TemporaryDirectory(dir=to_run.parent, prefix=".shipping.") as part:
        staged = Path(part)
        _copy(run.path, staged / "run", (*FACTS, *MEASURED, *DRAWN))
        for member in members:
            kept = FACTS if _holds_all(run) else (*FACTS, *MEASURED)
            _copy(member.path, staged / "run" / member.path.relative_to(run.path), kept)
        shutil.copytree(run.artifact, staged / "artifact")
        _replace(staged / "run", to_run)
        _replace(staged / "artifact", to_artifact)


def restore(folder: Path, *, from_run: Path = SHIPPED_RUN, from_artifact: Path = SHIPPED_ARTIFACT) -> None:
    """Make ``folder`` the shipped cross-validation, so that it can go on. Raises ``RunError`` if it holds something."""
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"Expected a new folder to go on in, {folder} holds something. Choose another --run-id.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".restoring.") as part:
        run = RunFolder(shutil.copytree(from_run, Path(part) / folder.name))
        if _holds_all(run):
            _give_back(run)
        for member in run.members():
            if member.config().fold is None:
                shutil.copytree(from_artifact, member.artifact)
        run.path.rename(folder)


def _holds_all(run: RunFolder) -> bool:
    """Whether the run's tables hold those of its members: not where it was tuned and could measure little."""
    return run.unknown.exists() and run.robustness.exists()


def _give_back(run: RunFolder) -> None:
    """Each member the rows it wrote. Records of networks with classes left out were never among the run's."""
    records, degraded, strangers = run.records(), pd.read_parquet(run.robustness), pd.read_parquet(run.unknown)
    for member in run.members():
        config = member.config()
        if config.fold is None:
            continue
        write_table(member.unknown, _of(strangers[strangers["left_out"] == "+".join(config.left_out)], config))
        if not config.left_out:
            member.write_oof(_of(records, config))
            write_table(member.robustness, _of(degraded, config))


def _of(table: pd.DataFrame, config: RunConfig) -> pd.DataFrame:
    return table[(table["fold"] == config.fold) & (table["seed"] == config.train.seed)].reset_index(drop=True)


def _copy(source: Path, target: Path, names: tuple[str, ...]) -> None:
    target.mkdir(parents=True)
    for path in _existing(source, names):
        shutil.copy2(path, target / path.name)


def _existing(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    yield from (folder / name for name in names if (folder / name).exists())


def _replace(staged: Path, target: Path) -> None:
    if target.exists():
        target.rename(staged.parent / f"replaced-{target.name}")
    staged.rename(target)
