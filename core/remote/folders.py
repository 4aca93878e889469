"""Datasets and models on their way to the volume, run folders on their way back."""

from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path, PurePosixPath

from core.artifact import read_manifest
from core.dataset import TABLE, load_dataset
from core.errors import RunError
from core.remote.cloud import CALLS, CANCELLED, DATASETS, RUNS, STARTS, Cloud, Patience, RemoteFile, bounded
from core.training.runs import JOB_LOG, write_atomically
from core.training.tuning import starting_artifact

LIVE = ("config.json", "status.json", "metrics.json", JOB_LOG, "curves.parquet")  # what a run in progress is read by
OF_THE_CLOUD = (CALLS, CANCELLED)


def upload_dataset(root: Path, cloud: Cloud, *, patience: Patience = Patience()) -> str:
    """Have the checked dataset at ``root`` on the volume, once; returns its key there, ``HASH/NAME``."""
    dataset = load_dataset(root)
    key = f"{dataset.content_hash[:12]}/{root.resolve().name}"
    target = f"{DATASETS}/{key}"
    clips: dict[str, Path] = {f"{target}/audio/{clip.filename}": clip.path for clip in dataset.clips}
    _upload(cloud, clips, {f"{target}/{TABLE.as_posix()}": root / TABLE}, patience)
    return key


def upload_start(init: Path, cloud: Cloud, *, patience: Patience = Patience()) -> str:
    """Have the model to start from on the volume, once; returns its key there.

    ``init`` is an artifact or a run folder. Of a cross-validation the networks of all folds go with it, so that each
    fold starts there from the one that never heard it (``core.training.tuning``).
    """
    artifact = starting_artifact(init)
    parts = {"artifact": artifact}
    parts |= {f"members/{of.parent.name}/artifact": of for of in sorted(artifact.parent.glob("members/*/artifact"))}
    told = [f"{name} {read_manifest(folder).fingerprint}" for name, folder in parts.items()]
    key = hashlib.sha256("\n".join(told).encode()).hexdigest()[:16]
    files: dict[str, Path] = {
        f"{STARTS}/{key}/{name}/{file.name}": file
        for name, folder in parts.items()
        for file in folder.iterdir()
        if file.is_file()
    }
    last = f"{STARTS}/{key}/artifact/artifact.json"
    _upload(cloud, files, {last: files.pop(last)}, patience)
    return key


def _upload(cloud: Cloud, files: dict[str, Path], last: dict[str, Path], patience: Patience) -> None:
    """``files``, then ``last``, which says that all is there."""

    table = PurePosixPath(next(iter(last)))

    async def upload() -> None:
        there = await cloud.files(str(table.parent)) or ()
        if table.name not in {PurePosixPath(file.path).name for file in there}:
            await cloud.put(files)
            await cloud.put(last)

    bounded(upload(), patience.upload_s, patience)


def pull_run(run_id: str, runs_dir: Path, cloud: Cloud, *, live: bool = False, patience: Patience = Patience()) -> Path:
    """Copy what changed of the run from the volume to ``runs_dir/RUN_ID``, without checkpoints.

    ``live``: only what tells how far it is. Raises ``BackendError``, and ``RunError`` for a run that does not exist.
    """
    target = runs_dir / run_id

    async def pull() -> bool:
        found = await cloud.files(f"{RUNS}/{run_id}")
        for entry in found or ():
            path = PurePosixPath(entry.path.lstrip("/")).relative_to(f"{RUNS}/{run_id}")
            file = target / path
            if not _wanted(path, live) or (path.name != "status.json" and _same(file, entry)):
                continue
            data = await cloud.read(entry.path)
            if data is None:
                continue  # removed meanwhile
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, partial(_write, data))
            os.utime(file, (entry.modified_s, entry.modified_s))
        return found is not None

    if not bounded(pull(), patience.pull_s, patience) and not live:
        raise RunError(f"Expected the run {run_id} on the Volume, found none.", code="no_run")
    return target


def _wanted(path: PurePosixPath, live: bool) -> bool:
    kept = path.name not in OF_THE_CLOUD and "checkpoints" not in path.parts and not path.name.startswith(".")
    told = path.name in LIVE or path.name.startswith("events.out.")
    return kept and ".." not in path.parts and (told or not live)


def _write(data: bytes, file: Path) -> None:
    file.write_bytes(data)


def _same(file: Path, entry: RemoteFile) -> bool:
    """Whether the copy has the size and the time of what it was copied from."""
    try:
        copied = file.stat()
    except FileNotFoundError:
        return False
    return (copied.st_size, int(copied.st_mtime)) == (entry.size, int(entry.modified_s))
