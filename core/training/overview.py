"""What there is in a folder of runs: one line a run, whoever started it and however it went."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from core.artifact import read_manifest
from core.errors import ArtifactError
from core.jobs import Job, JobState, jobs_in
from core.training.runs import JOB_FILE, RunFolder, RunStatus


@dataclass(frozen=True)
class RunFacts:
    """One run. ``accuracy`` is of held-out clips, ``low`` and ``high`` its 95 % interval, ``n`` how many; None: not
    measured. ``calibrated``: its artifact carries a fitted temperature and a rule for unknown sounds.
    """

    name: str
    path: Path
    state: JobState
    message: str
    changed_at: datetime | None
    dataset: str = ""
    protocol: str = ""
    class_names: tuple[str, ...] = ()
    epochs: int = 0
    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    macro_f1: float | None = None
    fingerprint: str = ""
    calibrated: bool = False
    started_from: str = ""  # fingerprint of the model whose weights it began with
    start: dict[str, Any] | None = None  # before and after, see core.training.tuning


def runs_in(runs_dir: Path) -> list[RunFacts]:
    """Every run under ``runs_dir``, what moved last first. Folders that hold something else are passed over."""
    jobs = {job.id: job for job in jobs_in(runs_dir)}
    folders = {file.parent for name in ("config.json", JOB_FILE) for file in runs_dir.glob(f"*/{name}")}
    found = [run_facts(folder, jobs) for folder in folders]
    return sorted(found, key=lambda run: (run.changed_at or datetime.min.replace(tzinfo=UTC), run.name), reverse=True)


def run_facts(folder: Path, jobs: Mapping[str, Job] | None = None) -> RunFacts:
    """What ``folder`` says of its run; of a queued one, that is little."""
    job = (jobs or {}).get(folder.name)
    config, metrics = _json(folder / "config.json"), _json(folder / "metrics.json")
    status = RunFolder(folder).status_if_any()
    state, message = _state(folder, status, job)
    manifest = None
    with contextlib.suppress(ArtifactError):
        manifest = read_manifest(folder / "artifact")
    train = config.get("train", {})
    return RunFacts(
        name=folder.name,
        path=folder,
        state=state,
        message=message,
        changed_at=_changed(status, job),
        dataset=config.get("dataset", "") or (job.request.dataset.name if job else ""),
        protocol=_protocol(config, job),
        class_names=tuple(config.get("class_names", ())),
        epochs=int(train.get("epochs", job.request.epochs if job else 0)),
        accuracy=metrics.get("accuracy"),
        low=metrics.get("accuracy_low"),
        high=metrics.get("accuracy_high"),
        n=int(metrics.get("n", 0)),
        macro_f1=metrics.get("macro_f1"),
        fingerprint=manifest.fingerprint if manifest else "",
        calibrated=manifest is not None and manifest.unknown is not None and manifest.conformal_quantile is not None,
        started_from=str(config.get("started_from") or ""),
        start=metrics.get("start"),
    )


def classes_of(run: RunFacts, member: str) -> tuple[str, ...]:
    """What the network ``member`` of ``run`` tells apart: one that measures unknown sounds has classes left out."""
    return tuple(_json(run.path / "members" / member / "config.json").get("class_names", run.class_names))


def _state(folder: Path, status: RunStatus | None, job: Job | None) -> tuple[JobState, str]:
    if job is not None:
        return job.state, job.message
    if status is None:
        return "dead", "It ended before it said anything."
    if status.state == "running" and not _locked(folder):
        return "dead", f"Its process ended without a word after epoch {status.epoch} of {status.epochs}."
    return status.state, status.message if status.state == "failed" else ""


def _locked(folder: Path) -> bool:
    """Whether a process is writing to the run now."""
    try:
        with (folder / ".lock").open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _protocol(config: Mapping[str, Any], job: Job | None) -> str:
    if "folds" in config:
        seeds = len(config.get("seeds", ()))
        return f"cross-validation, {len(config['folds'])} folds, {seeds} seed{'s' * (seeds != 1)}"
    if "fold" in config:
        return "all clips" if config["fold"] is None else f"fold {config['fold']} held out"
    if job is None:
        return ""
    if job.request.protocol == "crossval":
        return f"cross-validation, {job.request.seeds} seed{'s' * (job.request.seeds != 1)}"
    return "all clips" if job.request.fold is None else f"fold {job.request.fold} held out"


def _changed(status: RunStatus | None, job: Job | None) -> datetime | None:
    moments = [status.heartbeat] if status else []
    moments += [moment for moment in (job.queued_at, job.started_at, job.ended_at) if moment] if job else []
    return max(moments, default=None)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
