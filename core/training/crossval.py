"""Cross-validation: every published fold held out once for every seed, then one model on all of them to ship.

    python -m core crossval --data DIR --seeds 3

Members are ordinary run folders under ``members/``, each measured as soon as it is trained. A member that finished is
never trained again and one that was interrupted goes on from its last checkpoint, so the command can be killed anywhere
and simply repeated, also with more seeds or left-out classes than before.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import Field

from core.artifact import Facts, load_artifact, read_reference, save_artifact
from core.atlas import draw_maps
from core.audio import Waveform
from core.config import Frozen, Positive, TrainConfig
from core.dataset import Dataset
from core.errors import RunError
from core.evaluation import Calibration, answer_degraded, calibrate, pool, summarise_robustness
from core.hardware import hardware
from core.openset import excerpt_trials, far_trials, fit_rule, near_trials, score_open_set, summarise_open_set
from core.sources import of_run
from core.training.data import decode_clips
from core.training.loop import train
from core.training.runs import RunConfig, RunFolder, write_table
from core.training.tuning import pooled, started_from, starting_artifact
from core.unknown import UnknownRule

log = logging.getLogger(__name__)


class CrossvalConfig(Frozen):
    """What was asked. ``train.seed`` is replaced by each of ``seeds``.

    For each of ``left_out`` one more network is trained without these classes, for ``left_out_epochs``, to measure how
    it takes their sounds.
    """

    run_id: str
    dataset: str
    dataset_hash: str
    class_names: tuple[str, ...]
    folds: tuple[int, ...]
    seeds: tuple[int, ...]
    left_out: tuple[tuple[str, ...], ...] = ()
    left_out_epochs: Positive
    train: TrainConfig
    init: Path | None = Field(None, description="artifact or cross-validation whose weights every member starts with")
    started_from: str | None = Field(None, description="fingerprint of that artifact")
    code_version: str


@dataclass(frozen=True)
class Means:
    """What a cross-validation runs on; none of it changes what comes out.

    ``jobs`` members are trained at once, each in a process of its own with its share of the cores: on CPUs two
    processes of one thread do more than one of two. ``devices`` share the clips of each member.
    """

    jobs: int = 1
    devices: int = 1


def cross_validate(config: CrossvalConfig, dataset: Dataset, folder: RunFolder, *, means: Means = Means()) -> None:
    """Train what is missing, then write ``oof.parquet``, ``metrics.json`` and ``artifact/``, the model on all folds.

    Raises ``RunError`` when ``folder`` holds something else.
    """
    folder.begin(config, may_grow=("seeds", "left_out"))
    members = list(members_of(config))
    with folder.lock():
        _complete_members(members, dataset, folder, means)
        runs = {member.run_id: _member(folder, member) for member in members}
        if not all(_hears_for_the_first_time(runs[member.run_id]) for member in members):
            _finish_tuned(config, folder, members)
            return
        held_out = [member.run_id for member in members if member.fold is not None and not member.left_out]
        records = pd.concat([runs[name].records() for name in held_out], ignore_index=True)
        degraded = pd.concat([pd.read_parquet(runs[name].robustness) for name in held_out], ignore_index=True)
        scored = [pd.read_parquet(runs[member.run_id].unknown) for member in members if member.fold is not None]
        strangers = pd.concat(scored, ignore_index=True)
        calibration = calibrate(records, config.class_names)
        metrics = pool(records, config.class_names) | {"calibration": calibration.report}
        metrics |= {"robustness": summarise_robustness(degraded)} | _circumstances(config, folder, members)
        metrics["unknown"] = summarise_open_set(strangers, rng=np.random.default_rng(0))
        folder.write_oof(records)
        write_table(folder.robustness, degraded)
        write_table(folder.unknown, strangers)
        folder.write_metrics(metrics)
        trained_on_all = next(member for member in members if member.fold is None)
        _ship(folder, _member(folder, trained_on_all), calibration, fit_rule(strangers), metrics)
        draw_maps(folder.path, of_run(folder.path), read_reference(folder.artifact))
        folder.write_status("finished", len(members), len(members))


def _finish_tuned(config: CrossvalConfig, folder: RunFolder, members: Sequence[RunConfig]) -> None:
    """Finish where only clips that the starting model had not heard could be held out: too few to calibrate on.

    Temperature, conformal quantile and the rule for unknown sounds stay the starting model's.
    """
    runs = [_member(folder, member) for member in members if member.fold is not None and not member.left_out]
    found = [records for records in (run.records() for run in runs) if len(records)]
    metrics: dict[str, Any] = pool(pd.concat(found, ignore_index=True), config.class_names) if found else {"n": 0}
    metrics |= _circumstances(config, folder, members)
    metrics["start"] = pooled([run.metrics()["start"] for run in runs]) | {"fingerprint": config.started_from}
    folder.write_oof(pd.concat(found, ignore_index=True) if found else runs[0].records())
    folder.write_metrics(metrics)
    assert config.init is not None, "only a tuned cross-validation is not measurable"
    start = load_artifact(starting_artifact(config.init)).manifest
    trained_on_all = next(member for member in members if member.fold is None)
    carried = {name: getattr(start, name) for name in ("temperature", "conformal_quantile", "unknown")}
    _ship_with(folder, _member(folder, trained_on_all), metrics, carried)
    folder.write_status("finished", len(members), len(members))


def _complete_members(members: Sequence[RunConfig], dataset: Dataset, folder: RunFolder, means: Means) -> None:
    """Train and measure every member that is not done, ``means.jobs`` at a time."""
    missing = [member for member in members if not is_complete(member, folder)]
    progress = Progress([member.train.epochs for member in missing], len(members))
    folder.write_status("running", progress.done, len(members))
    if means.jobs > 1 and len(missing) > 1:
        context = multiprocessing.get_context("spawn")
        setup = (dataset, folder.path, max(1, (os.cpu_count() or 1) // means.jobs))
        with ProcessPoolExecutor(means.jobs, mp_context=context, initializer=_start_worker, initargs=setup) as pool:
            for finished in as_completed([pool.submit(_complete_in_worker, member, means) for member in missing]):
                _tell(finished.result(), folder, progress)
    elif missing:
        waves = decode_clips(dataset.clips, missing[0].train.audio)
        for member in missing:
            _tell(complete_member(member, dataset, folder, waves, means=means), folder, progress)


_worker: tuple[Dataset, RunFolder, list[Waveform]] | None = None  # of a process that trains members


def _start_worker(dataset: Dataset, path: Path, threads: int) -> None:
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    global _worker
    _worker = (dataset, RunFolder(path), [])


def _end_with_parent() -> None:
    """A worker whose parent was killed would train on, in the way of the command that is repeated."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _complete_in_worker(member: RunConfig, means: Means) -> RunConfig:
    assert _worker is not None, "the pool starts its workers"
    dataset, folder, waves = _worker
    if not waves:
        waves += decode_clips(dataset.clips, member.train.audio)
    return complete_member(member, dataset, folder, waves, means=means)


def _tell(member: RunConfig, folder: RunFolder, progress: Progress) -> None:
    progress.finish(member.train.epochs)
    folder.write_status("running", progress.done, progress.members, message=member.run_id)
    metrics = _member(folder, member).metrics()
    accuracy, minutes = metrics.get("accuracy", math.nan), metrics["minutes"]
    log.info("%s | %s | accuracy %.3f | %.1f min | %s", progress.place, member.run_id, accuracy, minutes, progress.left)


def _ship(
    folder: RunFolder, trained_on_all: RunFolder, calibration: Calibration, rule: UnknownRule, metrics: dict[str, Any]
) -> None:
    """The model on all folds, with what its own training could not measure: it never saw a clip for the first time."""
    fitted = {
        "temperature": calibration.temperature,
        "conformal_quantile": calibration.conformal_quantile,
        "unknown": rule,
    }
    _ship_with(folder, trained_on_all, metrics, fitted)


def _ship_with(folder: RunFolder, trained_on_all: RunFolder, metrics: dict[str, Any], fitted: dict[str, Any]) -> None:
    artifact = load_artifact(trained_on_all.artifact)
    facts = artifact.manifest.model_dump(include=set(Facts.model_fields)) | {"metrics": metrics} | fitted
    save_artifact(folder.artifact, artifact.net, Facts.model_validate(facts), artifact.reference)


def members_of(config: CrossvalConfig) -> Iterator[RunConfig]:
    """Every held-out fold for every seed, the model on all folds, then one network without each of ``left_out``.

    The last ones take turns at holding out a fold, and use the first seed.
    """
    for seed in config.seeds:
        for fold in config.folds:
            yield _member_config(config, f"fold-{fold}-seed-{seed}", fold, seed)
    yield _member_config(config, f"fold-all-seed-{config.seeds[0]}", None, config.seeds[0])
    for position, classes in enumerate(config.left_out):
        fold = config.folds[position % len(config.folds)]
        yield _member_config(config, f"without-{'+'.join(classes)}", fold, config.seeds[0], left_out=classes)


def _member_config(
    config: CrossvalConfig, run_id: str, fold: int | None, seed: int, left_out: tuple[str, ...] = ()
) -> RunConfig:
    epochs = config.left_out_epochs if left_out else config.train.epochs
    return RunConfig(
        run_id=run_id,
        dataset=config.dataset,
        dataset_hash=config.dataset_hash,
        class_names=tuple(name for name in config.class_names if name not in left_out),
        left_out=left_out,
        fold=fold,
        train=config.train.model_copy(update={"seed": seed, "epochs": epochs}),
        **started_from(config.init, run_id),
        code_version=config.code_version,
    )


def _member(folder: RunFolder, member: RunConfig) -> RunFolder:
    return RunFolder(folder.path / "members" / member.run_id)


class Progress:
    """How far a cross-validation is and how long the rest takes, in epochs: members differ in length."""

    def __init__(self, epochs: Sequence[int], members: int) -> None:
        self._all, self._trained, self._started = sum(epochs), 0, time.monotonic()
        self.members, self.done = members, members - len(epochs)

    def finish(self, epochs: int) -> None:
        """One more member is done; it had ``epochs``."""
        self._trained += epochs
        self.done += 1

    @property
    def place(self) -> str:
        """``3/29``."""
        return f"{self.done}/{self.members}"

    @property
    def left(self) -> str:
        """``about 40 min left``."""
        minutes = (time.monotonic() - self._started) / 60 * (self._all - self._trained) / max(self._trained, 1)
        return f"about {minutes:.0f} min left"


def is_complete(member: RunConfig, folder: RunFolder) -> bool:
    """Trained and measured; the weights may have been cleared away since, except those that are to be shipped."""
    run = _member(folder, member)
    if not run.finished():
        return False
    if member.fold is None:
        return run.artifact.exists()
    if not _hears_for_the_first_time(run):
        return True
    return run.unknown.exists() and (run.robustness.exists() or bool(member.left_out))


def _hears_for_the_first_time(run: RunFolder) -> bool:
    """Whether a trained member's held-out fold was new to it: not so where it started from a network that knew it."""
    start = run.metrics().get("start")
    return start is None or start["heard"]["n"] == 0


def complete_member(
    member: RunConfig,
    dataset: Dataset,
    folder: RunFolder,
    waves: Sequence[Waveform],
    *,
    means: Means = Means(),
    once_saved: Callable[[], None] | None = None,
) -> RunConfig:
    """Train and measure one member of the cross-validation in ``folder``. ``once_saved``: as ``train`` takes it."""
    run = _member(folder, member)
    log.info("%s", member.run_id)
    train(member, dataset, run, waves=waves, devices=means.devices, once_saved=once_saved)
    run.checkpoint.unlink(missing_ok=True)  # 15 MB each, and a finished member never resumes
    if member.fold is not None and _hears_for_the_first_time(run):
        if not member.left_out:
            _degrade(member, dataset, run, waves)
        _score_open_set(member, dataset, run, waves)
    return member


def _circumstances(config: CrossvalConfig, folder: RunFolder, members: Sequence[RunConfig]) -> dict[str, Any]:
    metrics = [_member(folder, member).metrics() for member in members]
    return {
        "protocol": _protocol(config),
        "hardware": " and ".join(sorted({str(told.get("hardware", hardware())) for told in metrics})),
        "minutes": round(sum(told["minutes"] for told in metrics), 1),
    }


def _degrade(member: RunConfig, dataset: Dataset, run: RunFolder, waves: Sequence[Waveform]) -> None:
    """Answer a member's held-out clips under every condition with its own network."""
    log.info("%s | held-out clips under degradation", member.run_id)
    chosen = [index for index, clip in enumerate(dataset.clips) if clip.fold == member.fold]
    clips, heard = [dataset.clips[i] for i in chosen], [waves[i] for i in chosen]
    net = load_artifact(run.artifact).net
    write_table(run.robustness, answer_degraded(net, clips, heard, member.train.audio, seed=member.train.seed))


def _score_open_set(member: RunConfig, dataset: Dataset, run: RunFolder, waves: Sequence[Waveform]) -> None:
    """Score a member's held-out clips, excerpts of them, and strangers: of left-out classes, or synthesized."""
    log.info("%s | unknown sounds", member.run_id)
    near = near_trials(dataset.clips, waves, member.left_out)
    far = far_trials(member.train.audio.sample_rate_hz, seed=member.fold or 0)
    records = run.records()
    excerpts = excerpt_trials(dataset.clips, waves, set(records["clip_id"]))
    trials = chain(near if member.left_out else far, excerpts)
    write_table(run.unknown, score_open_set(load_artifact(run.artifact), records, trials, left_out=member.left_out))


def _protocol(config: CrossvalConfig) -> str:
    last = "moving average" if config.train.ema_decay else "last epoch"
    split = f"{_counted(len(config.folds), 'published fold')}, {_counted(len(config.seeds), 'seed')}"
    left_out = (
        f"; {_counted(config.left_out_epochs, 'epoch')} for networks with classes left out" if config.left_out else ""
    )
    share = config.train.augment.outlier_p
    outliers = (
        f"; {100 * share:.0f} % of what a network learns from are synthesized sounds of no class" if share else ""
    )
    return f"{split}, {config.train.epochs} epochs, {last}; nothing selected on held-out clips{left_out}{outliers}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def left_out_named(wanted: Sequence[str], class_names: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """``each`` → every class alone; ``a+b`` → both at once. Raises ``RunError`` for what the dataset does not have."""
    trials: list[tuple[str, ...]] = []
    for text in wanted:
        trials += [(name,) for name in class_names] if text == "each" else [tuple(sorted(set(text.split("+"))))]
    for trial in trials:
        unknown = [name for name in trial if name not in class_names]
        if unknown or len(class_names) - len(trial) < 2:
            raise RunError(
                f"Expected --leave-out with classes of the dataset and two or more left, got {'+'.join(trial)!r}. "
                f"Its classes are {', '.join(class_names)}.",
                code="bad_setting",
            )
    return tuple(dict.fromkeys(trials))
